//! Reading the template of a message: its components and their parameters, by Meta's names.

use crate::domain::value::Value;

/// Components of a message that are understood (reference 3.12). A message with any other is Meta's to judge.
const COMPONENTS: [&str; 7] = [
    "header",
    "body",
    "button",
    "carousel",
    "limited_time_offer",
    "order_status",
    "tap_target_configuration",
];
/// Parameters that fill a variable of a text.
const TEXTS: [&str; 4] = ["text", "currency", "date_time", "group_id"];
/// Parameters that fill something else.
const NO_TEXTS: [&str; 10] = [
    "image",
    "video",
    "document",
    "location",
    "product",
    "payload",
    "coupon_code",
    "action",
    "ttl_minutes",
    "limited_time_offer",
];

/// A component of the message.
#[derive(Clone, Copy)]
pub(super) struct Given<'a> {
    pub(super) component: &'a Value,
    pub(super) position: usize,
}

pub(super) fn list(value: Option<&Value>) -> &[Value] {
    if let Some(Value::List(list)) = value { list } else { &[] }
}

/// Meta's word for what something is; Meta takes it in any case (reference 3.11).
pub(super) fn type_of(value: &Value) -> String {
    value.get("type").and_then(Value::as_str).unwrap_or_default().to_ascii_lowercase()
}

pub(super) fn is_understood(component: &Value) -> bool {
    COMPONENTS.contains(&type_of(component).as_str())
}

pub(super) fn is_text(parameter: &Value) -> bool {
    TEXTS.contains(&type_of(parameter).as_str())
}

pub(super) fn is_no_text(parameter: &Value) -> bool {
    NO_TEXTS.contains(&type_of(parameter).as_str())
}

pub(super) fn all<'a>(components: &'a [Value], kind: &str) -> impl Iterator<Item = Given<'a>> {
    let given = components.iter().enumerate().map(|(position, component)| Given { component, position });
    given.filter(move |given| type_of(given.component) == kind)
}

pub(super) fn first<'a>(components: &'a [Value], kind: &str) -> Option<Given<'a>> {
    all(components, kind).next()
}

pub(super) fn parameters(given: Given<'_>) -> &[Value] {
    list(given.component.get("parameters"))
}

/// A position: a number, or digits (reference 3.11).
pub(super) fn index(value: Option<&Value>) -> Option<usize> {
    match value? {
        Value::Integer(number) => usize::try_from(*number).ok(),
        Value::String(digits) => digits.parse().ok(),
        // Every number in `raw` is one of these.
        Value::Number(number) => {
            (0_u8..100).find(|n| f64::from(*n).total_cmp(number).is_eq()).map(usize::from)
        }
        Value::Null | Value::Bool(_) | Value::List(_) | Value::Map(_) => None,
    }
}
