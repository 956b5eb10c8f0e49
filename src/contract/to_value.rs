//! The bytes of our message → a neutral tree with Meta's names.
//!
//! The other direction of `from_json`: which arm of a oneof is set becomes Meta's discriminator. Fields that are absent
//! on the wire stay absent, so nothing is sent that the caller did not say. The same walk with our own names gives
//! proto JSON.

use super::schema::{Action, Discriminator, Field, Keyed, Kind, Layout, Schema, Shape};
use super::wire::{Malformed, WireValue, next_field};
use crate::domain::value::Value;

type Fields = Vec<(String, Value)>;

/// Whose form the tree has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// Meta's JSON, with its discriminators.
    Meta,
    /// Proto JSON, where the arm of a oneof is told by its name.
    Proto,
}

/// The arm of the oneof `content` of an encoded `SendMessageRequest`: its name, which is Meta's `type`, and its body.
/// `None` when no arm is set, or the arm is `raw`, which is no content of its own.
pub fn content_of(encoded: &[u8]) -> Option<(String, Value)> {
    let schema = Schema::get();
    let shape = schema.named("SendMessageRequest")?;
    let content = shape.oneofs.iter().position(|o| o.name == "content")?;
    // The other fields are the gateway's own, and have kinds that no content has.
    let (mut arm, mut bytes) = (None, encoded);
    while let Some(next) = next_field(&mut bytes) {
        let (number, value) = next.ok()?;
        if let Some(field) = shape.field(number).filter(|field| field.oneof == Some(content)) {
            let is_raw = field.kind == Kind::Struct;
            arm =
                if is_raw { None } else { Some((field, read_value(schema, Form::Meta, field, value).ok()?)) };
        }
    }
    arm.map(|(field, body)| (field.name.clone(), body))
}

/// An encoded message of ours as Meta's JSON. `None` for a message that is not ours.
pub fn meta_form(message: &str, encoded: &[u8]) -> Option<Value> {
    let schema = Schema::get();
    read_fields(schema, Form::Meta, schema.named(message)?, encoded).ok().map(Value::Map)
}

/// An encoded message of ours as proto JSON with the names of the protos. `None` for a message that is not ours.
pub fn proto_form(message: &str, encoded: &[u8]) -> Option<Value> {
    let schema = Schema::get();
    read_fields(schema, Form::Proto, schema.named(message)?, encoded).ok().map(Value::Map)
}

fn read_fields(schema: &Schema, form: Form, shape: &Shape, mut bytes: &[u8]) -> Result<Fields, Malformed> {
    let mut fields: Vec<(&Field, Value)> = Vec::new();
    while let Some(next) = next_field(&mut bytes) {
        let (number, value) = next?;
        if let Some(field) = shape.field(number) {
            merge(&mut fields, field, read_value(schema, form, field, value)?);
        }
    }
    let fields = fields.into_iter();
    Ok(match form {
        Form::Meta => fields.flat_map(|(field, value)| with_discriminator(shape, field, value)).collect(),
        Form::Proto => fields.map(|(field, value)| (field.name.clone(), value)).collect(),
    })
}

/// A repeated field collects, a later value replaces an earlier one, and in a oneof the last arm wins.
fn merge<'s>(fields: &mut Vec<(&'s Field, Value)>, field: &'s Field, value: Value) {
    if field.oneof.is_some() {
        fields.retain(|(other, _)| other.oneof != field.oneof);
    }
    let known = fields.iter_mut().find(|(other, _)| other.number == field.number);
    match (known, field.is_repeated) {
        (Some((_, Value::List(values))), true) => values.push(value),
        (Some((_, old)), _) => *old = value,
        (None, true) => fields.push((field, Value::List(vec![value]))),
        (None, false) => fields.push((field, value)),
    }
}

fn with_discriminator(shape: &Shape, field: &Field, value: Value) -> Fields {
    let oneof = field.oneof.and_then(|index| shape.oneofs.get(index));
    let kind = || {
        let is_upper_case = oneof.is_some_and(|o| o.is_upper_case);
        let word = if is_upper_case { field.name.to_ascii_uppercase() } else { field.name.clone() };
        ("type".to_owned(), Value::String(word))
    };
    match oneof.map_or(Discriminator::Name, |o| o.discriminator) {
        Discriminator::Name => match (field.layout, value) {
            (Some(Layout::Keyed(keyed)), Value::List(entries)) => vec![with_keys(keyed, entries)],
            (Some(Layout::ListInList), list) => vec![(field.name.clone(), Value::List(vec![list]))],
            (_, value) => vec![(field.name.clone(), value)],
        },
        Discriminator::Inline if field.layout != Some(Layout::Nested) => {
            let inner = if let Value::Map(fields) = value { fields } else { Vec::new() };
            std::iter::once(kind()).chain(inner).collect()
        }
        Discriminator::Sibling | Discriminator::Inline => vec![kind(), (field.name.clone(), value)],
        Discriminator::Action => with_action(field.actions.first().copied(), value),
    }
}

/// The object that stands for a list; see [`Keyed`].
fn with_keys(Keyed { outer, inner, key }: Keyed, entries: Vec<Value>) -> (String, Value) {
    let named = entries.into_iter().filter_map(|entry| {
        let name = entry.get(key)?.as_str()?.to_owned();
        let Value::Map(fields) = entry else { return None };
        Some((name, Value::Map(fields.into_iter().filter(|(field, _)| field != key).collect())))
    });
    (outer.to_owned(), Value::Map(vec![(inner.to_owned(), Value::Map(named.collect()))]))
}

/// `type` and `action`; `parameters` only if there are any.
fn with_action(action: Option<Action>, value: Value) -> Fields {
    let Some(Action { kind, name }) = action else { return Vec::new() };
    let has_parameters = value.as_map().is_some_and(|fields| !fields.is_empty());
    let action = match name {
        None => value,
        Some(name) => {
            let parameters = has_parameters.then(|| ("parameters".to_owned(), value));
            let name = ("name".to_owned(), Value::from(name));
            Value::Map(std::iter::once(name).chain(parameters).collect())
        }
    };
    vec![("type".to_owned(), Value::from(kind)), ("action".to_owned(), action)]
}

fn read_value(schema: &Schema, form: Form, field: &Field, value: WireValue<'_>) -> Result<Value, Malformed> {
    Ok(match (field.kind, value) {
        (Kind::Bool, WireValue::Varint(varint)) => Value::Bool(varint != 0),
        (Kind::Int64 | Kind::Uint32 | Kind::Enum, WireValue::Varint(varint)) => {
            Value::Integer(varint.cast_signed())
        }
        (Kind::Double, WireValue::Double(number)) => Value::Number(number),
        (Kind::String, WireValue::Bytes(text)) => Value::String(String::from_utf8_lossy(text).into_owned()),
        (Kind::Struct, WireValue::Bytes(inner)) => {
            from_struct(&prost::Message::decode(inner).map_err(|_| Malformed)?)
        }
        (Kind::Message(index), WireValue::Bytes(inner)) => {
            let Some(shape) = schema.shape(index) else { return Err(Malformed) };
            let fields = read_fields(schema, form, shape, inner)?;
            if shape.is_list && form == Form::Meta {
                fields.into_iter().next().map_or(Value::List(Vec::new()), |(_, list)| list)
            } else {
                Value::Map(fields)
            }
        }
        _ => return Err(Malformed),
    })
}

/// A `Struct` as a tree. Its numbers are doubles; whole ones below 2^53 become integers.
pub(crate) fn from_struct(fields: &prost_types::Struct) -> Value {
    Value::Map(fields.fields.iter().map(|(name, value)| (name.clone(), from_struct_value(value))).collect())
}

fn from_struct_value(value: &prost_types::Value) -> Value {
    use prost_types::value::Kind;
    match &value.kind {
        None | Some(Kind::NullValue(_)) => Value::Null,
        Some(Kind::BoolValue(truth)) => Value::Bool(*truth),
        Some(Kind::NumberValue(number)) => from_double(*number),
        Some(Kind::StringValue(text)) => Value::String(text.clone()),
        Some(Kind::ListValue(list)) => Value::List(list.values.iter().map(from_struct_value).collect()),
        Some(Kind::StructValue(fields)) => from_struct(fields),
    }
}

fn from_double(number: f64) -> Value {
    const EXACT_MAX: f64 = 9_007_199_254_740_992.0;
    if number.fract() == 0.0 && number.abs() <= EXACT_MAX {
        #[expect(clippy::cast_possible_truncation, reason = "whole and below 2^53")]
        let whole = number as i64;
        return Value::Integer(whole);
    }
    Value::Number(number)
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;
    use crate::contract::v1::{self, send_message_request::Content, template_parameter::Parameter};

    fn content(content: Content) -> (String, Value) {
        let request = v1::SendMessageRequest { content: Some(content), ..Default::default() };
        content_of(&request.encode_to_vec()).unwrap()
    }

    fn map(fields: &[(&str, Value)]) -> Value {
        Value::Map(fields.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect())
    }

    #[test]
    fn absent_fields_stay_absent() {
        let text = v1::Text { body: "Hi".to_owned(), preview_url: false };
        assert_eq!(content(Content::Text(text)), ("text".to_owned(), map(&[("body", "Hi".into())])));
        let image =
            v1::Image { caption: "c".to_owned(), source: Some(v1::image::Source::Id("5".to_owned())) };
        let expected = map(&[("id", "5".into()), ("caption", "c".into())]);
        let (kind, body) = content(Content::Image(image));
        assert_eq!(
            (kind.as_str(), body.get("id"), body.get("caption")),
            ("image", expected.get("id"), expected.get("caption"))
        );
    }

    #[test]
    fn templates_get_their_discriminators() {
        let parameter = v1::TemplateParameter {
            parameter_name: String::new(),
            parameter: Some(Parameter::Text("4521".to_owned())),
        };
        let button =
            v1::TemplateButton { sub_type: "url".to_owned(), index: Some(0), parameters: vec![parameter] };
        let component =
            v1::TemplateComponent { component: Some(v1::template_component::Component::Button(button)) };
        let language = v1::TemplateLanguage { code: "en_US".to_owned(), policy: String::new() };
        let template =
            v1::Template { name: "t".to_owned(), language: Some(language), components: vec![component] };
        let text = map(&[("type", "text".into()), ("text", "4521".into())]);
        let button = map(&[
            ("type", "button".into()),
            ("sub_type", "url".into()),
            ("index", Value::Integer(0)),
            ("parameters", Value::List(vec![text])),
        ]);
        let expected = map(&[
            ("name", "t".into()),
            ("language", map(&[("code", "en_US".into())])),
            ("components", Value::List(vec![button])),
        ]);
        assert_eq!(content(Content::Template(template)), ("template".to_owned(), expected));
    }

    #[test]
    fn whole_numbers_are_integers() {
        let cases = [(5.0, Value::Integer(5)), (-0.0, Value::Integer(0)), (1.5, Value::Number(1.5))];
        for (number, expected) in cases {
            assert_eq!(from_double(number), expected);
        }
    }
}
