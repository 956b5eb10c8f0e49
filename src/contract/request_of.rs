//! A body of the Cloud API → the request of ours that produces it, for people who migrate.
//!
//! Generic: the content is typed by name, written again as Meta's JSON and compared with the original. What does not
//! come back equal cannot be typed: the content of a message goes to `raw` as it is, a template has no request.

mod differences;
mod template;

use differences::{differences, without_empty};
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
    /// Which request: `SendMessageRequest` or `ManageTemplateRequest`.
    pub message: &'static str,
    /// The request as proto JSON with the names of the protos.
    pub json: Json,
    /// The request, encoded.
    pub encoded: Vec<u8>,
    /// Why the content went to `raw`: what cannot be typed. Empty when everything is typed.
    pub untyped: Vec<String>,
    /// What was assumed.
    pub notes: Vec<String>,
}

/// Why no request says what a body says.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoRequest {
    /// It is no object.
    #[error("a request body is a JSON object, such as {{\"to\": \"+16505551234\", \"type\": \"text\", …}}")]
    NotAnObject,
    /// It marks a message as read.
    #[error("this marks a message as read, which is MarkMessageRead with message_id {0:?}")]
    MarksRead(String),
    /// It describes a template, and part of it cannot be typed.
    #[error("this template cannot be typed: {}", .0.join("; "))]
    UntypedTemplate(Vec<String>),
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
pub fn request_of(body: &Json) -> Result<Converted, NoRequest> {
    let body = body.as_object().ok_or(NoRequest::NotAnObject)?;
    if body.contains_key("status") {
        let id = body.get("message_id").and_then(Json::as_str).unwrap_or_default();
        return Err(NoRequest::MarksRead(id.to_owned()));
    }
    if let Some(action) = template::action_of(body) {
        return template::request_of(action, body);
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
    let content = body.get(&kind).ok_or(NoRequest::NoContent)?;
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
    converted("SendMessageRequest", request, untyped, notes)
}

fn converted(
    message: &'static str,
    request: Map<String, Json>,
    untyped: Vec<String>,
    notes: Vec<String>,
) -> Result<Converted, NoRequest> {
    let encoded = from_json(message, &Json::Object(request))
        .map_err(|mismatch| NoRequest::DoesNotFit(mismatch.to_string()))?;
    let json = proto_form(message, &encoded).map_or(Json::Null, |value| to_json(&value));
    Ok(Converted { message, json, encoded, untyped, notes })
}

/// `to` wins over `recipient` (reference 1.4).
fn recipient(body: &Map<String, Json>) -> Result<Json, NoRequest> {
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
        (None, None) => return Err(NoRequest::NoRecipient),
    };
    Ok(address)
}

/// Meta's `type`. A body without it means `text`; one that names a single other content means that.
fn kind(body: &Map<String, Json>, notes: &mut Vec<String>) -> Result<String, NoRequest> {
    match body.get("type") {
        Some(Json::String(kind)) if !ENVELOPE.contains(&kind.as_str()) => {
            return Ok(kind.to_ascii_lowercase());
        }
        None | Some(Json::Null) => {}
        Some(_) => return Err(NoRequest::NoContent),
    }
    let kind = arms().find(|arm| body.contains_key(arm.as_str())).ok_or(NoRequest::NoContent)?;
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
