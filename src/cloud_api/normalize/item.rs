//! The events of one change: who, when, about what, and by which dedupe key.

mod value;

use std::borrow::Cow;
use std::collections::HashMap;
use std::time::SystemTime;

use serde_json::value::RawValue;

use super::dedupe::{Key, canonical_hash};
use super::{Budget, Post, UNKNOWN_TYPE, bounded, time_of, unknown};
use crate::cloud_api::error_code::async_verdict;
use crate::cloud_api::json::{self, Object};
use crate::cloud_api::webhook::{Change, Entry, Item, ItemKind, MESSAGES_FIELD};
use crate::domain::conversation::{UserIdentity, fold_digits, group_key};
use crate::domain::event::{Event, EventAttributes, MESSAGE_RECEIVED, MESSAGE_STATUS, Origin, Payload};
use crate::domain::failure::Verdict;
use crate::domain::ids::{BusinessScopedUserId, PhoneNumberId, WaId};

/// The field of a template's status, under which one of Meta's samples prints a change of its quality (reference 4.2).
const TEMPLATE_STATUS: &str = "message_template_status_update";
const TEMPLATE_QUALITY: &str = "message_template_quality_update";

/// Objects of a value that name the business number, the usual one first (reference 4.3, 4.8, 4.14).
const NUMBERS: [&str; 3] = ["metadata", "recipient", "phone_number_settings"];

/// Fields of a value that name what it is about (reference 4.7, 4.10, 4.14).
const SUBJECTS: [&str; 3] = ["message_template_id", "flow_id", "solution_id"];

/// Bytes of a subject; a longer id is left out.
const SUBJECT_BYTES_MAX: usize = 512;

/// A group participant's names, where a status calls them so; the first two are spellings of one name
/// (reference 4.5), the third stands for a user whose number is hidden.
const PARTICIPANTS: [&str; 3] =
    ["recipient_participant_id", "participant_recipient_id", "recipient_participant_user_id"];

/// What the items of one change have in common.
pub(super) struct ChangeContext<'a> {
    change: &'a Change<'a>,
    origin: Origin,
    /// Entry id, field and phone number id, bounded, since every item repeats them.
    waba_id: String,
    field: String,
    number: String,
    entry_time: Option<SystemTime>,
    entry_time_text: String,
    /// Of the whole value, when an item is known by what it says.
    value_hash: Option<[u8; 32]>,
    contacts: Contacts<'a>,
}

impl<'a> ChangeContext<'a> {
    pub(super) fn new(entry: &'a Entry<'a>, change: &'a Change<'a>, origin: Origin) -> Self {
        let number =
            NUMBERS.iter().find_map(|name| change.value_fields.object(name)?.text("phone_number_id"));
        let bounded_text = |fields: &Object<'_>, name| bounded(fields.text(name).unwrap_or_default());
        let users = change.items.iter().filter(|item| item.kind != ItemKind::Error).count();
        Self {
            change,
            origin,
            waba_id: bounded_text(&entry.fields, "id"),
            field: bounded(change.field.clone()),
            number: bounded(number.unwrap_or_default()),
            entry_time: time_of(&entry.fields, "time"),
            entry_time_text: bounded_text(&entry.fields, "time"),
            value_hash: change
                .items
                .iter()
                .any(is_known_by_content)
                .then(|| canonical_hash(change.value.map_or("", RawValue::get))),
            contacts: Contacts::read(&change.value_fields, users <= 1),
        }
    }

    /// The events in order, each without what it shares with its neighbors.
    pub(super) fn events(
        &'a self,
        post: &'a Post,
        copies: &'a mut Budget,
    ) -> impl Iterator<Item = Event> + 'a {
        let whole = self.change.items.is_empty().then(|| self.whole(post));
        whole.into_iter().chain(self.change.items.iter().map(move |item| self.item(post, item, copies)))
    }

    /// A change that is not split.
    fn whole(&self, post: &Post) -> Event {
        let text = self.change.value.map_or("", RawValue::get);
        let value = &self.change.value_fields;
        let element = value::Element::only(value);
        let subject = SUBJECTS.iter().find_map(|name| value.text(name));
        let subject = subject.or_else(|| element.as_ref()?.fields.text("id")).unwrap_or_default();
        let time = time_of(value, "timestamp").or_else(|| time_of(&element.as_ref()?.fields, "timestamp"));
        let group = element.as_ref().and_then(|element| element.fields.text("group_id"));
        let user =
            if group.is_some() { UserIdentity::default() } else { self.user_of_value(element.as_ref()) };
        let event = post.event(self.content_key("change", text).id(), text.to_owned());
        Event {
            attributes: EventAttributes {
                event_type: event_type(&self.change.field),
                conversation_key: self.conversation_key(group, &user),
                ..self.attributes()
            },
            subject: subject_of(subject),
            event_time: time.or(self.entry_time),
            origin: self.origin.clone(),
            payload: self.payload(text),
            user,
            ..event
        }
    }

    fn item(&self, post: &Post, item: &Item<'_>, copies: &mut Budget) -> Event {
        let text = item.raw.get();
        let names = names(item);
        let contact = self.contacts.find(&names);
        let user = contact.map_or_else(|| names.clone(), |contact| names.clone().or(contact.names.0.clone()));
        let contact = contact.map(|contact| contact.raw.get());
        let contact = contact.filter(|text| copies.take(text.len()).is_some()).map(str::to_owned);
        let (word, payload) = match item.kind {
            ItemKind::Message => (MESSAGE_RECEIVED, Payload::Message { contact }),
            ItemKind::Status => (MESSAGE_STATUS, Payload::Status { contact }),
            ItemKind::Error => ("whatsapp.error", Payload::Error),
        };
        let id = item.fields.text("id").filter(|_| item.kind != ItemKind::Error).unwrap_or_default();
        let event = post.event(self.item_key(item).id(), text.to_owned());
        let group = group_of_item(item);
        Event {
            attributes: EventAttributes {
                event_type: word.to_owned(),
                conversation_key: self.conversation_key(group.clone(), &user.0),
                ..self.attributes()
            },
            subject: subject_of(id),
            event_time: time_of(&item.fields, "timestamp").or(self.entry_time),
            origin: Origin {
                array: item.kind.array(),
                array_index: super::to_u32(item.index),
                ..self.origin.clone()
            },
            payload,
            verdicts: verdicts(item),
            user: if group.is_some() { UserIdentity::default() } else { user.0 },
            ..event
        }
    }

    fn attributes(&self) -> EventAttributes {
        EventAttributes {
            event_type: UNKNOWN_TYPE.to_owned(),
            phone_number_id: self.number.clone(),
            waba_id: self.waba_id.clone(),
            conversation_key: String::new(),
        }
    }

    /// The group's key; empty for a user, whose key is found later; else the WABA.
    fn conversation_key(&self, group: Option<Cow<'_, str>>, user: &UserIdentity) -> String {
        match (PhoneNumberId::parse(&self.number), group) {
            (Ok(number), Some(group)) => group_key(&number, &super::bounded(group)),
            (Ok(_), None) if !user.is_empty() => String::new(),
            (Ok(_) | Err(_), _) => self.waba_id.clone(),
        }
    }

    /// The one user of a value, by what names them and by their contact.
    fn user_of_value(&self, element: Option<&value::Element<'_>>) -> UserIdentity {
        let names = element.map(value::Element::user).unwrap_or_default();
        match self.contacts.only() {
            Some(contact) => Names(names).or(contact.names.0.clone()).0,
            None => names,
        }
    }

    /// What a value that is not split says.
    fn payload(&self, text: &str) -> Payload {
        if self.field == MESSAGES_FIELD {
            return unknown("the value holds no items of the expected form");
        }
        let is_quality =
            self.field == TEMPLATE_STATUS && self.change.value_fields.get("new_quality_score").is_some();
        let name = if is_quality { TEMPLATE_QUALITY } else { &self.field };
        Payload::Field { name: name.to_owned(), verdicts: value::verdicts(text) }
    }

    /// The dedupe key of an item (reference 4.1, "Duplicates"; a status also by its time and type, because
    /// payments repeat a status). An item without an id is known by what it and the value around it say: the same
    /// error beside another message is another error.
    fn item_key(&self, item: &Item<'_>) -> Key {
        let array = item.kind.array();
        let text = |name| item.fields.text(name).unwrap_or_default();
        if is_known_by_content(item) {
            return self.content_key(array, item.raw.get()).with(self.value_hash.unwrap_or_default());
        }
        let id = text("id");
        let key = Key::of(array).with(&self.field).with(&self.number).with(id.as_bytes());
        if item.kind == ItemKind::Message {
            return key;
        }
        let participant = PARTICIPANTS.iter().find_map(|name| item.fields.text(name)).unwrap_or_default();
        let parts = [text("status"), text("timestamp"), text("type"), participant];
        parts.iter().fold(key, |key, part| key.with(part.as_bytes()))
    }

    /// A key by content. Values without a time that say the same of the same number are one event, whenever
    /// they come: nothing in them tells a repetition from a redelivery.
    fn content_key(&self, kind: &str, text: &str) -> Key {
        let key = Key::of(kind).with(&self.waba_id).with(&self.field).with(&self.entry_time_text);
        key.with(&self.number).with(canonical_hash(text))
    }
}

fn is_known_by_content(item: &Item<'_>) -> bool {
    item.kind == ItemKind::Error || item.fields.text("id").is_none_or(|id| id.is_empty())
}

/// The verdicts on the errors of an item, in their order; on an error item itself, one (reference 1.6). An error
/// without a code is judged like one that the reference does not list.
fn verdicts(item: &Item<'_>) -> Vec<Verdict> {
    let verdict = |error: &Object<'_>| {
        async_verdict(error.text("code").and_then(|code| code.parse().ok()).unwrap_or(i64::MIN))
    };
    if item.kind == ItemKind::Error {
        return vec![verdict(&item.fields)];
    }
    let errors = item.fields.get("errors").and_then(json::elements).unwrap_or_default();
    errors.into_iter().map(|error| verdict(&Object::read(error.get()).unwrap_or_default())).collect()
}

/// The names under which an item mentions a user, as text and as far as they are valid.
#[derive(Clone, Default)]
struct Names(UserIdentity);

impl Names {
    fn read(fields: &Object<'_>, digits: &[&str], user_id: &str) -> Self {
        let digits = digits.iter().find_map(|name| fields.text(name));
        Self(UserIdentity {
            wa_id: digits.and_then(|text| WaId::parse(&text).ok()),
            user_id: fields.text(user_id).and_then(|text| BusinessScopedUserId::parse(&text).ok()),
        })
    }

    /// Completed by what `other` knows.
    fn or(self, other: UserIdentity) -> Self {
        let wa_id = self.0.wa_id.or(other.wa_id);
        Self(UserIdentity { wa_id, user_id: self.0.user_id.or(other.user_id) })
    }
}

/// The sender of a message, the recipient of a status; in a group the participant (reference 4.4, 4.5).
fn names(item: &Item<'_>) -> Names {
    match item.kind {
        ItemKind::Message => Names::read(&item.fields, &["from"], "from_user_id"),
        ItemKind::Status if is_group_status(item) => {
            let [digits, other_spelling, user_id] = PARTICIPANTS;
            Names::read(&item.fields, &[digits, other_spelling], user_id)
        }
        ItemKind::Status => Names::read(&item.fields, &["recipient_id"], "recipient_user_id"),
        ItemKind::Error => Names::default(),
    }
}

/// Ids as Meta makes them are short; what is longer stands in the JSON alone.
fn subject_of(id: Cow<'_, str>) -> String {
    if id.len() <= SUBJECT_BYTES_MAX { id.into_owned() } else { String::new() }
}

fn is_group_status(item: &Item<'_>) -> bool {
    item.fields.text("recipient_type").as_deref() == Some("group")
}

fn group_of_item<'a>(item: &Item<'a>) -> Option<Cow<'a, str>> {
    match item.kind {
        ItemKind::Message => item.fields.text("group_id"),
        ItemKind::Status if is_group_status(item) => item.fields.text("recipient_id"),
        ItemKind::Status | ItemKind::Error => None,
    }
}

/// `whatsapp.<field>`, when the field is a plain word of at most 64 characters.
fn event_type(field: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    if (1..=64).contains(&field.len()) && field.bytes().all(is_plain) {
        format!("whatsapp.{field}")
    } else {
        UNKNOWN_TYPE.to_owned()
    }
}

/// One element of `contacts`.
struct Contact<'a> {
    raw: &'a RawValue,
    names: Names,
}

/// The contacts of a value, found by name and not by position (reference 4.3).
#[derive(Default)]
struct Contacts<'a> {
    list: Vec<Contact<'a>>,
    by_name: HashMap<String, usize>,
    /// Whether the value has one item at most, so that a single contact must be its user's.
    has_one_item: bool,
}

impl<'a> Contacts<'a> {
    fn read(value: &Object<'a>, has_one_item: bool) -> Self {
        let elements = value.get("contacts").and_then(json::elements).unwrap_or_default();
        let mut contacts = Self { has_one_item, ..Self::default() };
        for raw in elements {
            let Some(fields) = Object::read(raw.get()) else { continue };
            let names = Names::read(&fields, &["wa_id"], "user_id");
            for name in keys(&names) {
                contacts.by_name.entry(name).or_insert(contacts.list.len());
            }
            contacts.list.push(Contact { raw, names });
        }
        contacts
    }

    fn find(&self, names: &Names) -> Option<&Contact<'a>> {
        let found = keys(names).find_map(|name| self.list.get(*self.by_name.get(&name)?));
        found.or_else(|| self.only().filter(|_| self.has_one_item))
    }

    fn only(&self) -> Option<&Contact<'a>> {
        if let [contact] = self.list.as_slice() { Some(contact) } else { None }
    }
}

/// The names to find a contact by: the stable one, then the digits in their folded spelling, because `wa_id`
/// and `from` may differ by a mobile prefix (reference 4.3).
fn keys(names: &Names) -> impl Iterator<Item = String> {
    let user_id = names.0.user_id.as_ref().map(|id| id.expose().to_owned());
    user_id.into_iter().chain(names.0.wa_id.as_ref().map(|id| fold_digits(id.expose())))
}
