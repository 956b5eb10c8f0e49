//! A body for Meta's `messages` endpoint → the `SendMessage` request that produces it, for people who migrate.
//!
//! Generic: the content is typed by name, written again as Meta's JSON and compared with the original. What does not
//! come back equal cannot be typed, and the content goes to `raw` as it is.

use serde_json::{Map, Value as Json, json};

use super::from_json::from_json;
use super::schema::{Kind, Schema};
use super::to_value::{content_of, proto_form};
use crate::domain::value::Value;

/// Fields of Meta's body that have a field of the request: Meta's name and ours.
const FIELDS: [(&str, &str); 5] = [
    ("biz_opaque_callback_data", "callback_data"),
    ("recipient_identity_key_hash", "recipient_identity_key_hash"),
    ("category", "category"),
    ("direct_send_config", "direct_send_config"),
    ("ttl_seconds", "ttl_seconds"),
];
/// Fields of the Marketing Messages API, which stand in `marketing`.
const MARKETING: [&str; 2] = ["product_policy", "message_activity_sharing"];
/// Fields that are read by themselves or say nothing.
const ENVELOPE: [&str; 6] = ["messaging_product", "recipient_type", "to", "recipient", "context", "type"];

/// A request, and what is to be said about it.
#[derive(Debug, Clone, PartialEq)]
pub struct Converted {
    /// The request as proto JSON with the names of the protos.
    pub json: Json,
    /// The request, encoded.
    pub encoded: Vec<u8>,
    /// Why the content went to `raw`: what cannot be typed. Empty when everything is typed.
    pub untyped: Vec<String>,
    /// What was assumed.
    pub notes: Vec<String>,
}

/// Why a body is not one that sends a message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoSend {
    /// It is no object.
    #[error("a request body is a JSON object, such as {{\"to\": \"+16505551234\", \"type\": \"text\", …}}")]
    NotAnObject,
    /// It marks a message as read.
    #[error("this marks a message as read, which is MarkMessageRead with message_id {0:?}")]
    MarksRead(String),
    /// It creates a template.
    #[error("this describes a template, which is ManageTemplate and no message")]
    DescribesTemplate,
    /// Nobody is addressed.
    #[error("nobody is addressed: \"to\" or \"recipient\" is required, a text")]
    NoRecipient,
    /// It has no content.
    #[error("there is no content: \"type\" must name an object beside it, such as \"text\"")]
    NoContent,
    /// A field that has a place in the request does not fit there.
    #[error("{0}")]
    DoesNotFit(String),
}

/// Converts a body.
pub fn request_of(body: &Json) -> Result<Converted, NoSend> {
    let body = body.as_object().ok_or(NoSend::NotAnObject)?;
    if body.contains_key("status") {
        let id = body.get("message_id").and_then(Json::as_str).unwrap_or_default();
        return Err(NoSend::MarksRead(id.to_owned()));
    }
    if body.contains_key("components") && body.contains_key("name") {
        return Err(NoSend::DescribesTemplate);
    }
    let mut notes = Vec::new();
    let mut request = Map::new();
    request.insert("recipient".to_owned(), recipient(body)?);
    if let Some(id) = body.get("context").and_then(|context| context.get("message_id")) {
        request.insert("reply_to_message_id".to_owned(), id.clone());
    }
    for (name, ours) in FIELDS {
        if let Some(value) = body.get(name) {
            request.insert(ours.to_owned(), value.clone());
        }
    }
    let marketing: Map<_, _> =
        MARKETING.iter().filter_map(|name| Some(((*name).to_owned(), body.get(*name)?.clone()))).collect();
    if !marketing.is_empty() {
        request.insert("marketing".to_owned(), Json::Object(marketing));
    }
    let kind = kind(body, &mut notes)?;
    let content = body.get(&kind).ok_or(NoSend::NoContent)?;
    let mut untyped = beside(body, &kind);
    untyped.extend(cannot_type(&kind, content));
    if untyped.is_empty() {
        request.insert(kind, without_empty(content));
    } else {
        let beside = body.iter().filter(|(name, _)| is_beside(name, &kind));
        let mut raw: Map<_, _> = beside.map(|(name, value)| (name.clone(), value.clone())).collect();
        raw.insert("type".to_owned(), Json::from(kind.clone()));
        raw.insert(kind, content.clone());
        request.insert("raw".to_owned(), Json::Object(raw));
    }
    let encoded = from_json("SendMessageRequest", &Json::Object(request))
        .map_err(|mismatch| NoSend::DoesNotFit(mismatch.to_string()))?;
    let json = proto_form("SendMessageRequest", &encoded).map_or(Json::Null, |value| to_json(&value));
    Ok(Converted { json, encoded, untyped, notes })
}

/// `to` wins over `recipient` (reference 1.4).
fn recipient(body: &Map<String, Json>) -> Result<Json, NoSend> {
    let text = |name: &str| match body.get(name) {
        Some(Json::String(text)) if !text.is_empty() => Some(text.clone()),
        Some(Json::Number(number)) => Some(number.to_string()),
        _ => None,
    };
    let is_group = body.get("recipient_type").and_then(Json::as_str) == Some("group");
    let address = match (text("to"), text("recipient")) {
        (Some(to), _) if is_group => json!({ "group_id": to }),
        (Some(to), _) => json!({ "phone_number": to }),
        (None, Some(user_id)) => json!({ "user_id": user_id }),
        (None, None) => return Err(NoSend::NoRecipient),
    };
    Ok(address)
}

/// Meta's `type`. A body without it means `text`; one that names a single other content means that.
fn kind(body: &Map<String, Json>, notes: &mut Vec<String>) -> Result<String, NoSend> {
    match body.get("type") {
        Some(Json::String(kind)) if !ENVELOPE.contains(&kind.as_str()) => {
            return Ok(kind.to_ascii_lowercase());
        }
        None | Some(Json::Null) => {}
        Some(_) => return Err(NoSend::NoContent),
    }
    let kind = arms().find(|arm| body.contains_key(arm.as_str())).ok_or(NoSend::NoContent)?;
    notes.push(format!("\"type\" is absent; taken as {kind:?}"));
    Ok(kind.clone())
}

fn arms() -> impl Iterator<Item = &'static String> {
    let shape = Schema::get().named("SendMessageRequest");
    let content = shape.and_then(|shape| shape.oneofs.iter().position(|o| o.name == "content"));
    let arms = shape.zip(content).into_iter().flat_map(|(shape, content)| shape.arms(content));
    arms.filter(|arm| arm.kind != Kind::Struct).map(|arm| &arm.name)
}

fn is_beside(name: &str, kind: &str) -> bool {
    name != kind
        && !ENVELOPE.contains(&name)
        && !MARKETING.contains(&name)
        && !FIELDS.iter().any(|(metas, _)| *metas == name)
}

/// What stands beside the content and has no field.
fn beside(body: &Map<String, Json>, kind: &str) -> Vec<String> {
    let names = body.keys().filter(|name| is_beside(name, kind));
    names.map(|name| format!("{name} has no field in the request")).collect()
}

/// Why the content cannot be typed; empty if it can.
fn cannot_type(kind: &str, content: &Json) -> Vec<String> {
    if !arms().any(|arm| arm == kind) {
        return vec![format!("{kind:?} has no field in the request")];
    }
    let request = json!({ kind: without_empty(content) });
    let encoded = match from_json("SendMessageRequest", &request) {
        Ok(encoded) => encoded,
        Err(mismatch) => return vec![mismatch.to_string()],
    };
    let mut lost = Vec::new();
    match content_of(&encoded) {
        Some((_, written)) => differences(kind, content, Some(&to_json(&written)), &mut lost),
        None => lost.push(format!("{kind} is empty")),
    }
    lost
}

/// Where `written` says something else than `original`. Numbers may be texts, discriminators are the same in either
/// case, and what says nothing may be absent.
fn differences(path: &str, original: &Json, written: Option<&Json>, lost: &mut Vec<String>) {
    let Some(written) = written else {
        if !says_nothing(original) {
            lost.push(format!("{path} has no field in the request"));
        }
        return;
    };
    match (original, written) {
        (Json::Object(original), Json::Object(written)) => {
            for (name, value) in original {
                differences(&format!("{path}.{name}"), value, written.get(name), lost);
            }
        }
        (Json::Array(original), Json::Array(written)) if original.len() == written.len() => {
            for (index, (value, written)) in original.iter().zip(written).enumerate() {
                differences(&format!("{path}[{index}]"), value, Some(written), lost);
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
fn says_nothing(value: &Json) -> bool {
    match value {
        Json::Null | Json::Bool(false) => true,
        Json::String(text) => text.is_empty(),
        Json::Array(values) => values.is_empty(),
        Json::Object(fields) => fields.values().all(says_nothing),
        Json::Bool(true) | Json::Number(_) => false,
    }
}

/// Without objects in which nothing is said, such as `"footer": {"text": ""}`.
fn without_empty(value: &Json) -> Json {
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

fn to_json(value: &Value) -> Json {
    match value {
        Value::Null => Json::Null,
        Value::Bool(truth) => Json::Bool(*truth),
        Value::Integer(number) => Json::from(*number),
        Value::Number(number) => Json::from(*number),
        Value::String(text) => Json::from(text.as_str()),
        Value::List(values) => Json::Array(values.iter().map(to_json).collect()),
        Value::Map(fields) => {
            Json::Object(fields.iter().map(|(name, value)| (name.clone(), to_json(value))).collect())
        }
    }
}

#[cfg(test)]
#[path = "request_of/tests.rs"]
mod tests;
