//! Meta's JSON → the bytes of our message, by name.
//!
//! Lenient where Meta is: a number may come as a text and the other way round, `null` and an empty text count as
//! absent, a list may stand where the wrapper of the list is meant, fields that we do not know are passed over (the
//! exact JSON stays beside the typed form). A value of a kind that cannot be meant is a [`Mismatch`]: the caller then
//! leaves the payload untyped.

mod scalar;

use std::borrow::Cow;

use prost::encoding::{WireType, encode_key, encode_varint};
use serde_json::{Map, Value};

use super::schema::{Discriminator, Field, Keyed, Kind, Layout, Leniency, Schema, Shape};

/// The arm for what no other arm is.
const UNKNOWN: &str = "unknown";

/// Levels of nesting at most. A `Struct` takes three levels of our message for each, and readers of protobuf give up at
/// 100; Meta's values have a dozen.
const NESTING_MAX: usize = 24;

/// A value that does not fit the field of its name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{path} is not {expected}")]
pub struct Mismatch {
    /// Path of the value.
    pub path: String,
    /// What was expected.
    pub expected: &'static str,
}

impl Mismatch {
    fn of(expected: &'static str) -> Self {
        Self { path: String::new(), expected }
    }

    fn within(mut self, parent: &str) -> Self {
        let separator = if self.path.is_empty() || self.path.starts_with('[') { "" } else { "." };
        self.path = format!("{parent}{separator}{}", self.path);
        self
    }
}

/// Encodes `json` as the message `message` of our contract.
pub fn from_json(message: &str, json: &Value) -> Result<Vec<u8>, Mismatch> {
    let schema = Schema::get();
    let shape = schema.named(message).ok_or_else(|| Mismatch::of("a message of the contract"))?;
    if is_deeper_than(json, NESTING_MAX) {
        return Err(Mismatch::of("a value of a depth that can be typed"));
    }
    let mut out = Vec::new();
    write_message(schema, shape, json, &mut out)?;
    Ok(out)
}

fn write_message(schema: &Schema, shape: &Shape, json: &Value, out: &mut Vec<u8>) -> Result<(), Mismatch> {
    let object = json.as_object().ok_or_else(|| Mismatch::of("an object"))?;
    for field in shape.fields.iter().filter(|f| f.oneof.is_none()) {
        if let Some((name, value)) = find(field, object) {
            write_field(schema, field, value, out).map_err(|e| e.within(name))?;
        } else if let Some(Layout::Keyed(keyed)) = field.layout {
            let Some(entries) = entries_of(keyed, object) else { continue };
            write_field(schema, field, &entries, out).map_err(|e| e.within(&field.name))?;
        } else if field.leniency == Some(Leniency::Flat) && has_fields_of(schema, field, object) {
            write_field(schema, field, json, out)?;
        }
    }
    for (index, oneof) in shape.oneofs.iter().enumerate() {
        write_oneof(schema, shape, index, oneof.discriminator, json, object, out)?;
    }
    Ok(())
}

/// The list for which an object stands; see [`Keyed`].
fn entries_of(Keyed { outer, inner, key }: Keyed, object: &Map<String, Value>) -> Option<Value> {
    let named = object.get(outer)?.get(inner)?.as_object()?;
    let entry = |(name, value): (&String, &Value)| {
        let mut entry = value.as_object().cloned()?;
        entry.insert(key.to_owned(), Value::from(name.as_str()));
        Some(Value::Object(entry))
    };
    Some(Value::Array(named.iter().filter_map(entry).collect()))
}

/// Whether an object has any field of the object that belongs into `field`.
fn has_fields_of(schema: &Schema, field: &Field, object: &Map<String, Value>) -> bool {
    let Kind::Message(index) = field.kind else { return false };
    schema.shape(index).is_some_and(|shape| shape.fields.iter().any(|f| find(f, object).is_some()))
}

/// Writes the arm that the object means; an object that names no known arm gets the arm `unknown`, if there is one. An
/// object without a type means the arm that stands there.
fn write_oneof(
    schema: &Schema,
    shape: &Shape,
    oneof: usize,
    discriminator: Discriminator,
    json: &Value,
    object: &Map<String, Value>,
    out: &mut Vec<u8>,
) -> Result<(), Mismatch> {
    let meant = object.get("type").and_then(Value::as_str).map(str::to_ascii_lowercase);
    let by_type = |word: &str| shape.arms(oneof).find(|f| f.name != UNKNOWN && f.is_called(word));
    let by_name = || shape.arms(oneof).find_map(|f| find(f, object).map(|(_, v)| (f, v)));
    let empty = Value::Object(Map::new());
    let sibling = |f: &'_ Field| {
        let body = find(f, object).map(|(_, v)| v);
        body.or_else(|| (f.leniency == Some(Leniency::BodyOptional)).then_some(&empty))
    };
    let arm = match (discriminator, meant.as_deref()) {
        (Discriminator::Name, _) | (Discriminator::Sibling, None) => by_name(),
        (Discriminator::Inline, None) => None,
        (Discriminator::Inline, Some(word)) => by_type(word)
            .and_then(|f| Some((f, if f.layout == Some(Layout::Nested) { sibling(f)? } else { json }))),
        (Discriminator::Sibling, Some(word)) => by_type(word).and_then(|f| Some((f, sibling(f)?))),
        (Discriminator::Action, _) => {
            let action = object.get("action").unwrap_or(&Value::Null);
            let arm = |f: &'_ Field| is_action(f, meant.as_deref(), action);
            shape.arms(oneof).find(|f| arm(f)).map(|f| match action.get("name") {
                None => (f, action),
                Some(_) => (f, action.get("parameters").unwrap_or(&empty)),
            })
        }
    };
    let (field, value) = match arm {
        Some(arm) => arm,
        None => match shape.arms(oneof).find(|f| f.name == UNKNOWN) {
            Some(unknown) => (unknown, &empty),
            None => return Ok(()),
        },
    };
    write_field(schema, field, value, out).map_err(|e| e.within(&field.name))
}

/// Whether the arm is the one that Meta's `type` and `action.name` mean.
fn is_action(arm: &Field, kind: Option<&str>, action: &Value) -> bool {
    let name = action.get("name").and_then(Value::as_str);
    action.is_object() && arm.actions.iter().any(|a| Some(a.kind) == kind && a.name == name)
}

/// The value under the field's own name or one of Meta's; `null` counts as absent.
fn find<'j>(field: &Field, object: &'j Map<String, Value>) -> Option<(&'j str, &'j Value)> {
    std::iter::once(field.name.as_str())
        .chain(field.meta_names.iter().copied())
        .find_map(|name| object.get_key_value(name))
        .filter(|(_, value)| !value.is_null())
        .map(|(name, value)| (name.as_str(), value))
}

fn write_field(schema: &Schema, field: &Field, value: &Value, out: &mut Vec<u8>) -> Result<(), Mismatch> {
    let is_one_or_list = field.leniency == Some(Leniency::OneOrList);
    if !field.is_repeated {
        let only = value.as_array().filter(|_| is_one_or_list).map(Vec::as_slice);
        let value = if let Some([only]) = only { only } else { value };
        return write_value(schema, field, value, out);
    }
    if is_one_or_list && !value.is_array() {
        return write_value(schema, field, value, out);
    }
    let values = value.as_array().ok_or_else(|| Mismatch::of("a list"))?;
    let values = match values.as_slice() {
        [Value::Array(only), ..] if field.layout == Some(Layout::ListInList) => only,
        _ => values,
    };
    for (index, value) in values.iter().enumerate() {
        write_value(schema, field, value, out).map_err(|e| e.within(&format!("[{index}]")))?;
    }
    Ok(())
}

fn write_value(schema: &Schema, field: &Field, value: &Value, out: &mut Vec<u8>) -> Result<(), Mismatch> {
    match field.kind {
        Kind::Int64 | Kind::Uint32 | Kind::Enum | Kind::Double | Kind::Timestamp
            if value.as_str() == Some("") => {}
        Kind::Bool => {
            let truth = scalar::read_bool(value)?;
            write_varint(field, u64::from(truth), out);
        }
        Kind::Int64 | Kind::Uint32 | Kind::Enum => {
            write_varint(field, scalar::read_integer(value)?.cast_unsigned(), out);
        }
        Kind::Double => {
            let number = scalar::read_double(value)?;
            encode_key(field.number, WireType::SixtyFourBit, out);
            out.extend_from_slice(&number.to_le_bytes());
        }
        Kind::String => {
            let text = scalar::read_text(value)?;
            if !text.is_empty() || field.keeps_empty || field.is_repeated {
                write_delimited(field, text.as_bytes(), out);
            }
        }
        Kind::Message(index) => {
            let shape = schema.shape(index).ok_or_else(|| Mismatch::of("a known message"))?;
            let mut inner = Vec::new();
            match shape.fields.first().filter(|_| shape.is_list) {
                Some(list) => write_field(schema, list, value, &mut inner)?,
                None => write_message(schema, shape, &object_of(field, shape, value), &mut inner)?,
            }
            write_delimited(field, &inner, out);
        }
        Kind::Timestamp => {
            let timestamp = scalar::read_timestamp(value)?;
            write_delimited(field, &prost::Message::encode_to_vec(&timestamp), out);
        }
        Kind::Struct => {
            let fields = value.as_object().ok_or_else(|| Mismatch::of("an object"))?;
            write_delimited(field, &prost::Message::encode_to_vec(&to_struct(fields)), out);
        }
        Kind::Bytes | Kind::Duration => return Err(Mismatch::of("a kind that Meta's JSON has")),
    }
    Ok(())
}

/// The object that is meant where Meta writes something shorter: the list alone for the wrapper of a list, a text for an
/// object of which only one field is known.
fn object_of<'j>(field: &Field, shape: &Shape, value: &'j Value) -> Cow<'j, Value> {
    let wrapped = match (value, shape.fields.as_slice(), field.as_text) {
        (Value::Array(_), [list], _) if list.is_repeated && list.name == field.name => list.name.as_str(),
        (Value::String(_), _, Some(name)) => name,
        _ => return Cow::Borrowed(value),
    };
    Cow::Owned(Value::Object(Map::from_iter([(wrapped.to_owned(), value.clone())])))
}

fn is_deeper_than(value: &Value, levels: usize) -> bool {
    let Some(below) = levels.checked_sub(1) else { return value.is_array() || value.is_object() };
    match value {
        Value::Array(values) => values.iter().any(|value| is_deeper_than(value, below)),
        Value::Object(fields) => fields.values().any(|value| is_deeper_than(value, below)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

fn write_varint(field: &Field, value: u64, out: &mut Vec<u8>) {
    if value != 0 || field.has_presence {
        encode_key(field.number, WireType::Varint, out);
        encode_varint(value, out);
    }
}

fn write_delimited(field: &Field, bytes: &[u8], out: &mut Vec<u8>) {
    encode_key(field.number, WireType::LengthDelimited, out);
    encode_varint(bytes.len() as u64, out);
    out.extend_from_slice(bytes);
}

pub(super) fn to_struct(fields: &Map<String, Value>) -> prost_types::Struct {
    let fields = fields.iter().map(|(name, value)| (name.clone(), to_struct_value(value)));
    prost_types::Struct { fields: fields.collect() }
}

fn to_struct_value(value: &Value) -> prost_types::Value {
    use prost_types::value::Kind;
    let kind = match value {
        Value::Null => Kind::NullValue(0),
        Value::Bool(truth) => Kind::BoolValue(*truth),
        Value::Number(number) => Kind::NumberValue(number.as_f64().unwrap_or_default()),
        Value::String(text) => Kind::StringValue(text.clone()),
        Value::Array(values) => {
            let values = values.iter().map(to_struct_value).collect();
            Kind::ListValue(prost_types::ListValue { values })
        }
        Value::Object(fields) => Kind::StructValue(to_struct(fields)),
    };
    prost_types::Value { kind: Some(kind) }
}

#[cfg(test)]
mod tests;
