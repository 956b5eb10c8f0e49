//! The shape of a webhook body: entries, changes and items, each with its exact text (reference 4.2 to 4.6).
//!
//! Reading never fails. What does not have the expected shape stays whole at the level where it differs, so
//! that it can be passed on: unknown fields and shapes must never be dropped (reference 4.2).

use std::borrow::Cow;

use serde_json::value::RawValue;

use super::json::{self, Object};

/// Levels of nesting at most. Meta's bodies have a dozen; the parsers of our subscribers give up at 100 or more.
pub(super) const NESTING_MAX: usize = 100;

/// The field whose values hold lists of items.
pub(super) const MESSAGES_FIELD: &str = "messages";

/// A webhook body.
#[derive(Debug)]
pub(super) enum Body<'a> {
    /// Not JSON in UTF-8, and why.
    Bytes(&'static str),
    /// JSON without any change that could be told apart, and why.
    Whole(&'a str, &'static str),
    /// At least one change.
    Split(Envelope<'a>),
}

/// The top level of a body.
#[derive(Debug)]
pub(super) struct Envelope<'a> {
    pub(super) fields: Object<'a>,
    pub(super) entries: Vec<Entry<'a>>,
}

/// One element of `entry`.
#[derive(Debug)]
pub(super) struct Entry<'a> {
    pub(super) raw: &'a RawValue,
    pub(super) fields: Object<'a>,
    /// Empty when the entry must stay whole.
    pub(super) changes: Vec<Change<'a>>,
}

/// One element of `changes`.
#[derive(Debug)]
pub(super) struct Change<'a> {
    pub(super) fields: Object<'a>,
    /// The field's name; empty when there is none.
    pub(super) field: Cow<'a, str>,
    /// The text of `value`; `None` when the change has none.
    pub(super) value: Option<&'a RawValue>,
    /// The fields of `value`, as far as it is an object.
    pub(super) value_fields: Object<'a>,
    /// The items of a `messages` value; empty when the value stays whole.
    pub(super) items: Vec<Item<'a>>,
}

/// What an item of a `messages` value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ItemKind {
    Message,
    Status,
    Error,
}

impl ItemKind {
    /// Every kind.
    pub(super) const ALL: [Self; 3] = [Self::Message, Self::Status, Self::Error];

    /// The array of the value that holds such items.
    pub(super) fn array(self) -> &'static str {
        match self {
            Self::Message => "messages",
            Self::Status => "statuses",
            Self::Error => "errors",
        }
    }
}

/// One message, status or error.
#[derive(Debug)]
pub(super) struct Item<'a> {
    pub(super) kind: ItemKind,
    /// Position in its array.
    pub(super) index: usize,
    pub(super) raw: &'a RawValue,
    pub(super) fields: Object<'a>,
}

/// Reads a body.
pub(super) fn read(body: &[u8]) -> Body<'_> {
    let Ok(text) = std::str::from_utf8(body) else {
        return Body::Bytes("the body is not UTF-8");
    };
    if json::is_deeper_than(text, NESTING_MAX) {
        // Checking the grammar of brackets needs no stack, so JSON is told from other text even here.
        return match serde_json::from_str::<&RawValue>(text) {
            Ok(_) => Body::Whole(text, "the body is nested too deeply"),
            Err(_) => Body::Bytes("the body is not JSON"),
        };
    }
    let Some(fields) = Object::read(text) else {
        return match serde_json::from_str::<&RawValue>(text) {
            Ok(_) => Body::Whole(text, "the body is not an object of the expected form"),
            Err(_) => Body::Bytes("the body is not JSON"),
        };
    };
    match entries(&fields) {
        Some(entries) if entries.iter().any(|entry| !entry.changes.is_empty()) => {
            Body::Split(Envelope { fields, entries })
        }
        Some(_) => Body::Whole(text, "the body holds no change"),
        None => Body::Whole(text, "the body has no list of entries"),
    }
}

/// A list that stands there twice cannot be put back by position, so it is not taken apart.
fn entries<'a>(fields: &Object<'a>) -> Option<Vec<Entry<'a>>> {
    let list = json::elements(fields.get("entry").filter(|_| !fields.repeats("entry"))?)?;
    let entry = |raw: &'a RawValue| {
        let fields = Object::read(raw.get()).unwrap_or_default();
        let changes = changes(&fields).unwrap_or_default();
        Entry { raw, fields, changes }
    };
    Some(list.into_iter().map(entry).collect())
}

fn changes<'a>(fields: &Object<'a>) -> Option<Vec<Change<'a>>> {
    let list = json::elements(fields.get("changes").filter(|_| !fields.repeats("changes"))?)?;
    list.into_iter().map(change).collect()
}

fn change(raw: &RawValue) -> Option<Change<'_>> {
    let fields = Object::read(raw.get()).filter(|fields| !fields.repeats("value"))?;
    let field = fields.text("field").unwrap_or_default();
    let value = fields.get("value");
    let value_fields = value.and_then(|value| Object::read(value.get())).unwrap_or_default();
    let is_split = field == MESSAGES_FIELD;
    let items = if is_split { items(&value_fields).unwrap_or_default() } else { Vec::new() };
    Some(Change { fields, field, value, value_fields, items })
}

/// The items in the order of their arrays in the value; `None` when one of the arrays is of another type, holds
/// something else than objects or stands there twice. `null` is as good as no array.
fn items<'a>(value: &Object<'a>) -> Option<Vec<Item<'a>>> {
    let mut items = Vec::new();
    for (name, raw) in value.fields() {
        let Some(kind) = ItemKind::ALL.into_iter().find(|kind| kind.array() == name) else { continue };
        if raw.get() == "null" {
            continue;
        }
        if value.repeats(name) {
            return None;
        }
        for (index, raw) in json::elements(raw)?.into_iter().enumerate() {
            if !json::is_object(raw) {
                return None;
            }
            items.push(Item { kind, index, raw, fields: Object::read(raw.get()).unwrap_or_default() });
        }
    }
    Some(items)
}
