//! What one JSON value says that another does not.

use serde_json::{Map, Value as Json};

/// Where `written` says something else than `original`. Numbers may be texts, discriminators are the same in either
/// case, what says nothing may be absent, and a list may stand for its only entry or the other way round.
pub(super) fn differences(path: &str, original: &Json, written: Option<&Json>, lost: &mut Vec<String>) {
    let Some(written) = written else {
        if !says_nothing(original) {
            lost.push(format!("{path} has no field in the request"));
        }
        return;
    };
    match (original, written) {
        (Json::Object(original), Json::Object(written)) => {
            for (name, value) in original {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                differences(&path, value, written.get(name), lost);
            }
        }
        (Json::Array(flat), Json::Array(rows)) if is_list_of_a_list(rows) && !is_list_of_a_list(flat) => {
            differences(path, original, rows.first(), lost);
        }
        (Json::Array(original), Json::Array(written)) if original.len() == written.len() => {
            for (index, (value, written)) in original.iter().zip(written).enumerate() {
                differences(&format!("{path}[{index}]"), value, Some(written), lost);
            }
        }
        (Json::Array(only), written) if only.len() == 1 && !written.is_array() => {
            for only in only {
                differences(path, only, Some(written), lost);
            }
        }
        (original, written) if original == written => {}
        (original, written) => {
            let is_discriminator = path.rsplit('.').next() == Some("type");
            let (a, b) = (scalar(original), scalar(written));
            let is_equal = a.is_some()
                && (a == b
                    || as_number(a.as_ref()) == as_number(b.as_ref()) && as_number(a.as_ref()).is_some());
            let is_alike = || {
                let lower = |text: &Option<String>| text.as_ref().map(|text| text.to_ascii_lowercase());
                is_discriminator && (lower(&a) == lower(&b) || a.as_deref() == Some("contact_request"))
            };
            if !is_equal && !is_alike() {
                lost.push(format!("{path} cannot be {original}"));
            }
        }
    }
}

fn is_list_of_a_list(values: &[Json]) -> bool {
    matches!(values, [Json::Array(_)])
}

fn scalar(value: &Json) -> Option<String> {
    match value {
        Json::String(text) => Some(text.clone()),
        Json::Number(number) => Some(number.to_string()),
        Json::Bool(truth) => Some(truth.to_string()),
        Json::Null | Json::Array(_) | Json::Object(_) => None,
    }
}

fn as_number(text: Option<&String>) -> Option<f64> {
    text.and_then(|text| text.parse().ok())
}

/// Whether leaving it out means the same: Meta takes an empty optional field for an absent one, or refuses it.
pub(super) fn says_nothing(value: &Json) -> bool {
    match value {
        Json::Null | Json::Bool(false) => true,
        Json::String(text) => text.is_empty(),
        Json::Array(values) => values.is_empty(),
        Json::Object(fields) => fields.values().all(says_nothing),
        Json::Bool(true) | Json::Number(_) => false,
    }
}

/// Without objects in which nothing is said, such as `"footer": {"text": ""}`.
pub(super) fn without_empty(value: &Json) -> Json {
    match value {
        Json::Object(fields) => {
            let is_bare = |value: &Json| value.as_object().is_some_and(Map::is_empty);
            let said = |value: &Json| !value.is_object() || is_bare(value) || !says_nothing(value);
            let fields = fields.iter().filter(|(_, value)| said(value));
            Json::Object(fields.map(|(name, value)| (name.clone(), without_empty(value))).collect())
        }
        Json::Array(values) => Json::Array(values.iter().map(without_empty).collect()),
        Json::Null | Json::Bool(_) | Json::Number(_) | Json::String(_) => value.clone(),
    }
}
