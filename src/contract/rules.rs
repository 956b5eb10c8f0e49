//! The static rules of requests, as the `buf.validate` annotations of the protos state them.
//!
//! Clients can enforce the same annotations with their own library; here the build script turns them into a table, and
//! this module walks an encoded request along it. Every violation is found, each with the path of its field and a
//! sentence that says the rule. Rules between fields, and those that need a parser, belong to `grpc`.

use std::collections::HashMap;
use std::sync::LazyLock;

use regex::Regex;

use super::schema::{Field, Kind, Schema, Shape};
use super::wire::{WireValue, next_field};
use crate::domain::failure::FieldViolation;

/// (message, field or `oneof <name>`, rule, value).
const TABLE: &[(&str, &str, &str, &str)] = include!(concat!(env!("OUT_DIR"), "/rules.rs"));

/// Violations that are looked for; more help nobody and cost memory.
const VIOLATIONS_MAX: usize = 200;

/// What the patterns of the annotations mean, in words.
const PATTERN_WORDS: [(&str, &str); 21] = [
    ("^[0-9]{0,32}$", "must be an id of decimal digits"),
    ("^[0-9]{1,32}$", "must be an id of decimal digits"),
    ("^[!-~]{0,512}$", "must be a message id as Meta gave it: printable ASCII without spaces, at most 512"),
    ("^[!-~]{1,512}$", "must be a message id as Meta gave it: printable ASCII without spaces, at most 512"),
    ("^[!-~]{0,128}$", "must be printable ASCII without spaces, at most 128, such as a UUID"),
    ("^[!-~]{1,128}$", "must be a request id: printable ASCII without spaces, at most 128"),
    ("^[!-~]{1,440}$", "must be a message id as Meta gave it: printable ASCII without spaces, at most 440"),
    ("^[!-~]{1,256}$", "must be a group id as Meta gave it: printable ASCII without spaces, at most 256"),
    ("^[A-Z]{2}\\.(ENT\\.)?[A-Za-z0-9]{1,128}$", "must be a user id such as US.13491208655302741918"),
    ("^[a-z0-9_]+$", "must be lower-case letters, digits and underscores only"),
    ("^[0-9]{1,20}$", "must be seconds since 1970 as a text of digits"),
    ("^https?://.+", "must be a URL that begins with http:// or https://"),
    ("^([0-9]{4}-[0-9]{2}-[0-9]{2})?$", "must be a date such as 1999-01-23"),
    (
        "^[a-z0-9][a-z0-9_.-]{0,62}$",
        "must be the name of a subscription: 1 to 63 lower-case letters, digits and any of _.-, not one of these first",
    ),
    (
        "^([a-z0-9][a-z0-9_.-]{0,62})?$",
        "must be the name of a subscription: 1 to 63 lower-case letters, digits and any of _.-, not one of these first",
    ),
    ("^[A-Za-z0-9_.:-]{0,64}$", "must be at most 64 letters, digits and any of _.:-"),
    (
        "^[A-Za-z0-9][A-Za-z0-9.+-]*/[A-Za-z0-9][A-Za-z0-9.+-]*([ ]*;[ -~]*)?$",
        "must be a MIME type such as image/jpeg, perhaps with parameters",
    ),
    (
        "^[A-Za-z][A-Za-z0-9_]*(\\.[A-Za-z][A-Za-z0-9_]*)+$",
        "must be the name of an Android package with at least two parts, such as com.example.app",
    ),
    ("^[A-Za-z0-9+/=]{11}$", "must have exactly 11 letters, digits and any of +/="),
    ("^[^\\x00-\\x1f\\x7f]*$", "must not have control characters"),
    ("^([0-9A-Fa-f]{64})?$", "must be 64 hexadecimal digits"),
];

/// Every rule that the encoded message `message` breaks.
pub fn violations(message: &str, encoded: &[u8]) -> Vec<FieldViolation> {
    let schema = Schema::get();
    let mut found = Vec::new();
    if let Some(shape) = schema.named(message) {
        check_message(schema, shape, encoded, &Path::Request, &mut found);
    }
    found
}

#[derive(Debug)]
enum Rule {
    Required,
    MinLen(usize),
    MaxLen(usize),
    Len(usize),
    Pattern(Pattern),
    In(Vec<String>),
    UnsignedMin(u64),
    UnsignedMax(u64),
    BytesMax(usize),
    SignedMin(i64),
    SignedMax(i64),
    DoubleMin(f64),
    DoubleMax(f64),
    ItemsMin(usize),
    ItemsMax(usize),
    /// Of every entry.
    Each(Box<Rule>),
    EnumIn(Vec<i64>),
}

#[derive(Debug)]
struct Pattern {
    regex: Regex,
    /// Most texts are empty.
    takes_empty: bool,
    /// What a text must be.
    words: String,
}

/// The rules of a message, in the order of its fields and oneofs.
#[derive(Debug, Default)]
struct ShapeRules {
    fields: Vec<Vec<Rule>>,
    /// Whether an arm must be set.
    oneofs: Vec<bool>,
}

fn rules_of(shape: &Shape) -> &'static ShapeRules {
    static NONE: ShapeRules = ShapeRules { fields: Vec::new(), oneofs: Vec::new() };
    static RULES: LazyLock<HashMap<&str, ShapeRules>> = LazyLock::new(|| {
        let mut rules: HashMap<&str, ShapeRules> = HashMap::new();
        for (message, name, rule, value) in TABLE {
            let shape = Schema::get().named(message);
            let (Some(shape), Some(rule)) = (shape, parse(rule, value)) else { continue };
            let of_shape = rules.entry(message).or_insert_with(|| ShapeRules {
                fields: shape.fields.iter().map(|_| Vec::new()).collect(),
                oneofs: vec![false; shape.oneofs.len()],
            });
            let oneof = name.strip_prefix("oneof ");
            let oneof = shape.oneofs.iter().position(|known| oneof == Some(known.name.as_str()));
            if let Some(is_required) = oneof.and_then(|index| of_shape.oneofs.get_mut(index)) {
                *is_required = true;
            }
            let field = shape.fields.iter().position(|field| field.name == *name);
            if let Some(of_field) = field.and_then(|index| of_shape.fields.get_mut(index)) {
                of_field.push(rule);
            }
        }
        rules
    });
    RULES.get(shape.name.as_str()).unwrap_or(&NONE)
}

/// Where a field is; written out only when something is wrong with it.
#[derive(Debug, Clone, Copy)]
enum Path<'p> {
    Request,
    Field(&'p Path<'p>, &'p str),
    Entry(&'p Path<'p>, usize),
}

impl std::fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Request => Ok(()),
            Self::Field(Path::Request, name) => f.write_str(name),
            Self::Field(message, name) => write!(f, "{message}.{name}"),
            Self::Entry(list, index) => write!(f, "{list}[{index}]"),
        }
    }
}

fn parse(rule: &str, value: &str) -> Option<Rule> {
    if let Some(rule) = rule.strip_prefix("repeated.items.") {
        return parse(rule, value).map(|rule| Rule::Each(Box::new(rule)));
    }
    Some(match rule {
        "required" => Rule::Required,
        "string.min_len" => Rule::MinLen(value.parse().ok()?),
        "string.max_len" => Rule::MaxLen(value.parse().ok()?),
        "string.len" => Rule::Len(value.parse().ok()?),
        "string.pattern" => Rule::Pattern(Pattern::parse(value)?),
        "string.in" => Rule::In(value.split('|').map(str::to_owned).collect()),
        "uint32.gte" | "uint64.gte" => Rule::UnsignedMin(value.parse().ok()?),
        "uint32.lte" => Rule::UnsignedMax(value.parse().ok()?),
        "int32.gte" | "int64.gte" => Rule::SignedMin(value.parse().ok()?),
        "int32.lte" | "int64.lte" => Rule::SignedMax(value.parse().ok()?),
        "double.gte" => Rule::DoubleMin(value.parse().ok()?),
        "double.lte" => Rule::DoubleMax(value.parse().ok()?),
        "repeated.min_items" => Rule::ItemsMin(value.parse().ok()?),
        "bytes.max_len" => Rule::BytesMax(value.parse().ok()?),
        "repeated.max_items" => Rule::ItemsMax(value.parse().ok()?),
        "enum.in" => Rule::EnumIn(value.split('|').filter_map(|n| n.parse().ok()).collect()),
        _ => return None,
    })
}

impl Pattern {
    fn parse(text: &str) -> Option<Self> {
        let regex = Regex::new(text).ok()?;
        Some(Self { takes_empty: regex.is_match(""), regex, words: pattern_words(text) })
    }
}

fn pattern_words(pattern: &str) -> String {
    let words = PATTERN_WORDS.iter().find(|(known, _)| *known == pattern);
    words.map_or_else(|| format!("must match {pattern}"), |(_, words)| (*words).to_owned())
}

fn check_message(
    schema: &Schema,
    shape: &Shape,
    mut bytes: &[u8],
    path: &Path<'_>,
    found: &mut Vec<FieldViolation>,
) {
    if found.len() >= VIOLATIONS_MAX {
        return;
    }
    let mut values: Vec<(u32, WireValue<'_>)> = Vec::new();
    while let Some(Ok(value)) = next_field(&mut bytes) {
        values.push(value);
    }
    // By number, and of one number in the order of the wire.
    values.sort_by_key(|(number, _)| *number);
    let rules = rules_of(shape);
    for (index, field) in shape.fields.iter().enumerate() {
        let start = values.partition_point(|(number, _)| *number < field.number);
        let rest = values.get(start..).unwrap_or_default();
        let present = rest.split(|(number, _)| *number != field.number).next().unwrap_or_default();
        let rules = rules.fields.get(index).map_or(&[][..], Vec::as_slice);
        check_field(schema, field, rules, present, &Path::Field(path, &field.name), found);
    }
    for (index, oneof) in shape.oneofs.iter().enumerate() {
        let is_required = rules.oneofs.get(index) == Some(&true);
        let is_set = |arm: &Field| values.binary_search_by_key(&arm.number, |(number, _)| *number).is_ok();
        if is_required && !shape.arms(index).any(is_set) {
            let arms = shape.arms(index).map(|arm| arm.name.as_str()).collect::<Vec<_>>().join(", ");
            let field = if let Path::Request = path { oneof.name.clone() } else { path.to_string() };
            found.push(violation(field, format!("exactly one of {arms} is required")));
        }
    }
}

fn check_field(
    schema: &Schema,
    field: &Field,
    rules: &[Rule],
    present: &[(u32, WireValue<'_>)],
    path: &Path<'_>,
    found: &mut Vec<FieldViolation>,
) {
    let is_absent = field.has_presence && present.is_empty();
    for rule in rules {
        if let Rule::Each(rule) = rule {
            for (position, (_, value)) in present.iter().enumerate() {
                let broken = check_value(rule, Some(value));
                let entry = Path::Entry(path, position);
                found.extend(broken.map(|words| violation(entry.to_string(), words)));
            }
            continue;
        }
        let broken = if is_absent {
            matches!(rule, Rule::Required).then(|| "is required".to_owned())
        } else if let Rule::ItemsMin(min) = rule {
            let entries = if *min == 1 { "entry" } else { "entries" };
            (present.len() < *min).then(|| format!("must have at least {min} {entries}"))
        } else if let Rule::ItemsMax(max) = rule {
            (present.len() > *max).then(|| format!("must have at most {max} entries, has {}", present.len()))
        } else if field.is_repeated {
            None
        } else {
            check_value(rule, present.last().map(|(_, value)| value))
        };
        // Two rules may say the same of an empty text.
        let broken = broken.map(|description| violation(path.to_string(), description));
        if let Some(broken) = broken.filter(|broken| found.last() != Some(broken)) {
            found.push(broken);
        }
    }
    if let Kind::Message(index) = field.kind {
        for (position, (_, value)) in present.iter().enumerate() {
            if let (WireValue::Bytes(inner), Some(shape)) = (value, schema.shape(index)) {
                let path = if field.is_repeated { Path::Entry(path, position) } else { *path };
                check_message(schema, shape, inner, &path, found);
            }
        }
    }
}

/// Checks one value; an absent one has the default of its type.
fn check_value(rule: &Rule, value: Option<&WireValue<'_>>) -> Option<String> {
    let bytes: &[u8] = if let Some(WireValue::Bytes(bytes)) = value { bytes } else { &[] };
    let text = std::str::from_utf8(bytes).unwrap_or_default();
    let number = if let Some(WireValue::Varint(varint)) = value { *varint } else { 0 };
    let double = if let Some(WireValue::Double(double)) = value { *double } else { 0.0 };
    let chars = || text.chars().count();
    match rule {
        Rule::MinLen(1) if text.is_empty() => Some("must not be empty".to_owned()),
        Rule::MinLen(min) if chars() < *min => Some(format!("must have at least {min} characters")),
        Rule::MaxLen(max) if chars() > *max => {
            Some(format!("must have at most {max} characters, has {}", chars()))
        }
        Rule::Len(len) if chars() != *len => Some(format!("must have {len} characters")),
        // An empty text is the business of min_len; saying it twice helps nobody.
        Rule::Pattern(pattern) if text.is_empty() && !pattern.takes_empty => {
            Some("must not be empty".to_owned())
        }
        Rule::Pattern(pattern) if !text.is_empty() && !pattern.regex.is_match(text) => {
            Some(pattern.words.clone())
        }
        Rule::In(words) if !words.iter().any(|word| word == text) => {
            let words = words.iter().filter(|word| !word.is_empty()).cloned().collect::<Vec<_>>();
            Some(format!("must be {}", words.join(" or ")))
        }
        Rule::UnsignedMin(min) if number < *min => Some(format!("must be at least {min}")),
        Rule::BytesMax(max) if bytes.len() > *max => Some(format!("must have at most {max} bytes")),
        Rule::UnsignedMax(max) if number > *max => Some(format!("must be at most {max}")),
        // Not a number is no more than any minimum.
        Rule::DoubleMin(min) if double < *min || double.is_nan() => Some(format!("must be at least {min}")),
        Rule::DoubleMax(max) if double > *max => Some(format!("must be at most {max}")),
        Rule::SignedMin(min) if number.cast_signed() < *min => Some(format!("must be at least {min}")),
        Rule::SignedMax(max) if number.cast_signed() > *max => Some(format!("must be at most {max}")),
        Rule::EnumIn(numbers) if !numbers.contains(&number.cast_signed()) => {
            Some(format!("{} is no value of this enumeration", number.cast_signed()))
        }
        Rule::Required
        | Rule::MinLen(_)
        | Rule::MaxLen(_)
        | Rule::Len(_)
        | Rule::Pattern(_)
        | Rule::In(_)
        | Rule::UnsignedMin(_)
        | Rule::BytesMax(_)
        | Rule::UnsignedMax(_)
        | Rule::SignedMin(_)
        | Rule::SignedMax(_)
        | Rule::DoubleMin(_)
        | Rule::DoubleMax(_)
        | Rule::ItemsMin(_)
        | Rule::ItemsMax(_)
        | Rule::Each(_)
        | Rule::EnumIn(_) => None,
    }
}

fn violation(field: String, description: String) -> FieldViolation {
    FieldViolation { field, description }
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;
    use crate::contract::v1::{self, send_message_request::Content};

    /// A rule that the walker does not know would never be enforced.
    #[test]
    fn every_annotation_is_understood() {
        for (message, field, rule, value) in TABLE {
            assert!(parse(rule, value).is_some(), "{message}.{field}: {rule} = {value}");
            if *rule == "string.pattern" {
                assert!(PATTERN_WORDS.iter().any(|(known, _)| known == value), "{value} has no words");
            }
        }
    }

    #[test]
    fn every_bad_field_is_listed_with_its_path() {
        let parameter = v1::TemplateParameter::default();
        let body = v1::TemplateParameters { parameters: vec![parameter] };
        let component =
            v1::TemplateComponent { component: Some(v1::template_component::Component::Body(body)) };
        let template =
            v1::Template { name: "Bad Name".to_owned(), language: None, components: vec![component] };
        let request = v1::SendMessageRequest {
            phone_number_id: "12x".to_owned(),
            content: Some(Content::Template(template)),
            callback_data: "ä".repeat(481),
            ..Default::default()
        };
        let found: Vec<_> = violations("SendMessageRequest", &request.encode_to_vec())
            .into_iter()
            .map(|v| format!("{} {}", v.field, v.description))
            .collect();
        let parameters = "text, currency, date_time, image, video, document, location, payload, coupon_code, \
             product, action, ttl_minutes, group_id, order_status, limited_time_offer, tap_target_configuration";
        assert_eq!(
            found,
            [
                "phone_number_id must be an id of decimal digits".to_owned(),
                "recipient is required".to_owned(),
                "callback_data must have at most 480 characters, has 481".to_owned(),
                "template.name must be lower-case letters, digits and underscores only".to_owned(),
                "template.language is required".to_owned(),
                format!("template.components[0].body.parameters[0] exactly one of {parameters} is required"),
            ]
        );
    }

    #[test]
    fn every_bad_entry_of_a_list_of_texts_is_listed() {
        let template_ids = ["1", "x", "", "2"].map(str::to_owned).to_vec();
        let archive = v1::ArchiveTemplatesAction { template_ids };
        let action = v1::manage_template_request::Action::Archive(archive);
        let request = v1::ManageTemplateRequest { action: Some(action), ..Default::default() };
        let found = violations("ManageTemplateRequest", &request.encode_to_vec());
        let fields: Vec<_> = found.into_iter().map(|v| v.field).collect();
        assert_eq!(fields, ["archive.template_ids[1]", "archive.template_ids[2]"]);
    }

    #[test]
    fn an_empty_request_says_what_is_missing() {
        let found: Vec<_> = violations("SendMessageRequest", &[]).into_iter().map(|v| v.field).collect();
        assert_eq!(found, ["recipient", "content"]);
        assert!(violations("SubscribeEventsRequest", &[]).is_empty());
    }
}
