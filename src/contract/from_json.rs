//! Meta's JSON → the bytes of our message, by name.
//!
//! Lenient where Meta is: a number may come as a text and the other way round, `null` and an empty text count as
//! absent, fields that we do not know are passed over (the exact JSON stays beside the typed form). A value of a
//! kind that cannot be meant is a [`Mismatch`]: the caller then leaves the payload untyped.

use prost::encoding::{WireType, encode_key, encode_varint};
use serde_json::{Map, Value};

use super::schema::{Discriminator, Field, Kind, Schema, Shape};

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
    let mut out = Vec::new();
    write_message(schema, shape, json, &mut out)?;
    Ok(out)
}

fn write_message(schema: &Schema, shape: &Shape, json: &Value, out: &mut Vec<u8>) -> Result<(), Mismatch> {
    let object = json.as_object().ok_or_else(|| Mismatch::of("an object"))?;
    for field in shape.fields.iter().filter(|f| f.oneof.is_none()) {
        if let Some((name, value)) = find(field, object) {
            write_field(schema, field, value, out).map_err(|e| e.within(name))?;
        }
    }
    for (index, oneof) in shape.oneofs.iter().enumerate() {
        write_oneof(schema, shape, index, oneof.discriminator, json, object, out)?;
    }
    Ok(())
}

/// Writes the arm that the object means; an object that names no known arm gets the arm `unknown`, if there is one.
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
    let by_type = || shape.arms(oneof).find(|f| Some(&f.name) == meant.as_ref());
    let empty = Value::Object(Map::new());
    let arm = match discriminator {
        Discriminator::Name => shape.arms(oneof).find_map(|f| find(f, object).map(|(_, v)| (f, v))),
        Discriminator::Inline => by_type().map(|f| (f, json)),
        Discriminator::Sibling => by_type().and_then(|f| {
            let body = find(f, object).map(|(_, v)| (f, v));
            body.or_else(|| f.is_body_optional.then_some((f, &empty)))
        }),
    };
    let (field, value) = match arm {
        Some(arm) => arm,
        None => match shape.arms(oneof).find(|f| f.name == "unknown") {
            Some(unknown) => (unknown, &empty),
            None => return Ok(()),
        },
    };
    write_field(schema, field, value, out).map_err(|e| e.within(&field.name))
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
    if !field.is_repeated {
        return write_value(schema, field, value, out);
    }
    let values = value.as_array().ok_or_else(|| Mismatch::of("a list"))?;
    for (index, value) in values.iter().enumerate() {
        write_value(schema, field, value, out).map_err(|e| e.within(&format!("[{index}]")))?;
    }
    Ok(())
}

fn write_value(schema: &Schema, field: &Field, value: &Value, out: &mut Vec<u8>) -> Result<(), Mismatch> {
    match field.kind {
        Kind::Bool => {
            let truth = read_bool(value)?;
            write_varint(field, u64::from(truth), out);
        }
        Kind::Int64 | Kind::Uint32 | Kind::Enum => {
            write_varint(field, read_integer(value)?.cast_unsigned(), out);
        }
        Kind::Double => {
            let number = read_double(value)?;
            encode_key(field.number, WireType::SixtyFourBit, out);
            out.extend_from_slice(&number.to_le_bytes());
        }
        Kind::String => {
            let text = read_text(value)?;
            if !text.is_empty() {
                write_delimited(field, text.as_bytes(), out);
            }
        }
        Kind::Message(index) => {
            let shape = schema.shape(index).ok_or_else(|| Mismatch::of("a known message"))?;
            let mut inner = Vec::new();
            write_message(schema, shape, value, &mut inner)?;
            write_delimited(field, &inner, out);
        }
        Kind::Timestamp => {
            let timestamp = prost_types::Timestamp { seconds: read_integer(value)?, nanos: 0 };
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

fn read_bool(value: &Value) -> Result<bool, Mismatch> {
    let by_text = |text: &str| match text {
        "true" | "1" => Some(true),
        "false" | "0" | "" => Some(false),
        _ => None,
    };
    let truth = value.as_bool().or_else(|| value.as_str().and_then(by_text));
    truth.or_else(|| value.as_i64().map(|n| n != 0)).ok_or_else(|| Mismatch::of("a truth value"))
}

fn read_integer(value: &Value) -> Result<i64, Mismatch> {
    #[expect(clippy::cast_possible_truncation, reason = "a fraction of Meta's integer says nothing")]
    let by_double = || value.as_f64().filter(|n| n.abs() < 9.0e15).map(|n| n as i64);
    let unsigned = || value.as_u64().map(u64::cast_signed);
    let integer = value.as_i64().or_else(unsigned).or_else(by_double);
    let by_text = || value.as_str().and_then(|text| text.trim().parse().ok());
    integer.or_else(by_text).ok_or_else(|| Mismatch::of("a whole number"))
}

fn read_double(value: &Value) -> Result<f64, Mismatch> {
    let by_text = || value.as_str().and_then(|text| text.trim().parse().ok());
    value.as_f64().or_else(by_text).ok_or_else(|| Mismatch::of("a number"))
}

fn read_text(value: &Value) -> Result<std::borrow::Cow<'_, str>, Mismatch> {
    match value {
        Value::String(text) => Ok(text.as_str().into()),
        Value::Number(number) => Ok(number.to_string().into()),
        Value::Bool(truth) => Ok(truth.to_string().into()),
        Value::Null | Value::Array(_) | Value::Object(_) => Err(Mismatch::of("a text")),
    }
}

fn to_struct(fields: &Map<String, Value>) -> prost_types::Struct {
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
mod tests {
    use prost::Message;
    use serde_json::json;

    use super::*;
    use crate::contract::v1::{ReceivedMessage, received_interactive, received_message::Content};

    fn message(json: &Value) -> ReceivedMessage {
        ReceivedMessage::decode(from_json("ReceivedMessage", json).unwrap().as_slice()).unwrap()
    }

    #[test]
    fn a_sibling_object_becomes_the_arm() {
        let read = message(&json!({
            "from": "16505551234", "id": "wamid.A", "timestamp": "1749416383", "type": "text",
            "text": {"body": "Does it come in another color?"}, "context": {"from": "1555", "id": "wamid.B"},
        }));
        assert_eq!(read.sender, "16505551234");
        assert_eq!(read.timestamp.unwrap().seconds, 1_749_416_383);
        assert_eq!(read.context.unwrap().sender, "1555");
        let Some(Content::Text(text)) = read.content else { panic!("expected text") };
        assert_eq!(text.body, "Does it come in another color?");
    }

    #[test]
    fn an_unknown_kind_and_a_missing_object_are_unknown() {
        for json in [json!({"type": "hologram", "hologram": {}}), json!({"type": "interactive"}), json!({})] {
            assert!(matches!(message(&json).content, Some(Content::Unknown(_))), "{json}");
        }
        let unsupported = message(&json!({"type": "unsupported", "errors": [{"code": 131_051}]}));
        assert!(matches!(unsupported.content, Some(Content::Unsupported(_))));
        assert_eq!(unsupported.errors[0].code, 131_051);
    }

    #[test]
    fn only_the_arm_that_the_type_names_is_read() {
        let read =
            message(&json!({"type": "image", "text": {"body": "x"}, "image": {"id": 5, "caption": null}}));
        let Some(Content::Image(image)) = read.content else { panic!("expected an image") };
        assert_eq!((image.id.as_str(), image.caption.as_str()), ("5", ""));
    }

    #[test]
    fn interactive_replies_nest() {
        let read = message(&json!({"type": "interactive", "interactive": {"type": "list_reply",
            "list_reply": {"id": "a", "title": "b"}}}));
        let Some(Content::Interactive(interactive)) = read.content else { panic!("expected interactive") };
        assert!(matches!(interactive.reply, Some(received_interactive::Reply::ListReply(_))));
    }

    #[test]
    fn a_removed_reaction_has_no_emoji() {
        for reaction in [json!({"message_id": "wamid.B"}), json!({"message_id": "wamid.B", "emoji": ""})] {
            let read = message(&json!({"type": "reaction", "reaction": reaction}));
            let Some(Content::Reaction(reaction)) = read.content else { panic!("expected a reaction") };
            assert_eq!(reaction.emoji, None);
        }
    }

    #[test]
    fn a_wrong_type_names_its_path() {
        let cases = [
            (json!({"type": "text", "text": "hi"}), "text is not an object"),
            (json!({"type": "text", "text": {"body": ["x"]}}), "text.body is not a text"),
            (json!({"errors": [{"code": "abc"}]}), "errors[0].code is not a whole number"),
            (json!([]), " is not an object"),
        ];
        for (json, expected) in cases {
            assert_eq!(from_json("ReceivedMessage", &json).unwrap_err().to_string(), expected);
        }
    }
}
