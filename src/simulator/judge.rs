//! Judges the body of a send by Meta's rules: refused with Meta's error, or a draft of what was accepted.
//! Pure: it sees the body and the account's facts, and changes nothing.

use std::time::SystemTime;

use serde_json::{Map, Value};

use super::account::Number;
use super::graph_error::GraphError;
use super::media::MediaStore;
use super::templates::Templates;
use super::{judge_content, judge_template, phone};

/// What the judge may look up.
#[derive(Debug, Clone, Copy)]
pub(super) struct Facts<'a> {
    pub(super) number: &'a Number,
    pub(super) templates: &'a Templates,
    pub(super) media: &'a MediaStore,
    pub(super) now: SystemTime,
    /// The major version in the path; newer ones report some codes differently.
    pub(super) version: u32,
}

/// Whom a message goes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Recipient {
    /// By phone number; holds the `wa_id`.
    Phone(String),
    /// By business-scoped user id.
    User(String),
    /// A group.
    Group(String),
}

/// A send that passed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Draft {
    pub(super) recipient: Recipient,
    /// The address as the caller wrote it.
    pub(super) input: String,
    pub(super) kind: String,
    pub(super) callback_data: Option<String>,
    /// The template's category; `None` for a free-form message, which needs an open window.
    pub(super) template_category: Option<String>,
    /// Why Meta fails the message later although the request was fine.
    pub(super) late_failure: Option<(u32, String)>,
}

/// What a message's content says about its fate.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Content {
    pub(super) template_category: Option<String>,
    pub(super) late_failure: Option<(u32, String)>,
}

const KINDS: &[&str] = &[
    "audio",
    "contacts",
    "document",
    "image",
    "interactive",
    "location",
    "pin",
    "reaction",
    "sticker",
    "template",
    "text",
    "video",
];

const OTHER_FIELDS: &[&str] = &[
    "messaging_product",
    "recipient_type",
    "to",
    "recipient",
    "type",
    "context",
    "biz_opaque_callback_data",
    "recipient_identity_key_hash",
    "category",
    "direct_send_config",
    "ttl_seconds",
];

/// Judges a send.
pub(super) fn judge(body: &Value, facts: &Facts<'_>) -> Result<Draft, GraphError> {
    let body = body
        .as_object()
        .ok_or_else(|| GraphError::because(100, "The request body must be a JSON object."))?;
    require_product(body)?;
    if let Some(unknown) =
        body.keys().find(|key| !KINDS.contains(&key.as_str()) && !OTHER_FIELDS.contains(&key.as_str()))
    {
        return Err(GraphError::parameter(format!("Unexpected key \"{unknown}\" on the request.")));
    }
    let kind = match optional_str(body, "type")? {
        Some(kind) if KINDS.contains(&kind) => kind,
        Some(kind) => {
            let known = KINDS.join(", ").to_ascii_uppercase();
            return Err(GraphError::parameter(format!(
                "Param type must be one of {{{known}}} - got \"{kind}\"."
            )));
        }
        None => "text",
    };
    let (recipient, input) = recipient(body, facts)?;
    let callback_data = callback_data(body)?;
    check_context(body)?;
    let content = body
        .get(kind)
        .ok_or_else(|| GraphError::because(131_008, format!("The parameter {kind} is required.")))?;
    if let Some(other) = KINDS.iter().find(|other| **other != kind && body.contains_key(**other)) {
        return Err(GraphError::parameter(format!("Param {other} does not belong to type \"{kind}\".")));
    }
    let judged = match kind {
        "template" => judge_template::judge(content, &recipient, facts)?,
        _ => judge_content::judge(kind, content, facts)?,
    };
    Ok(Draft {
        recipient,
        input,
        kind: kind.to_owned(),
        callback_data,
        template_category: judged.template_category,
        late_failure: judged.late_failure,
    })
}

/// Every body of this endpoint names the product.
pub(super) fn require_product(body: &Map<String, Value>) -> Result<(), GraphError> {
    match body.get("messaging_product") {
        None => Err(GraphError::parameter("The parameter messaging_product is required.")),
        Some(product) if product == "whatsapp" => Ok(()),
        Some(_) => Err(GraphError::parameter("Param messaging_product must be one of {WHATSAPP}.")),
    }
}

/// A field that must be a string if it is there.
pub(super) fn optional_str<'a>(
    object: &'a Map<String, Value>,
    key: &str,
) -> Result<Option<&'a str>, GraphError> {
    match object.get(key) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(GraphError::parameter(format!("Param {key} must be a string."))),
    }
}

fn recipient(body: &Map<String, Value>, facts: &Facts<'_>) -> Result<(Recipient, String), GraphError> {
    let group = match optional_str(body, "recipient_type")? {
        None | Some("individual") => false,
        Some("group") => true,
        Some(_) => {
            return Err(GraphError::parameter("Param recipient_type must be one of {INDIVIDUAL, GROUP}."));
        }
    };
    if let Some(to) = optional_str(body, "to")? {
        if to.is_empty() {
            return Err(GraphError::parameter("The parameter to is required."));
        }
        if group {
            return Ok((Recipient::Group(to.to_owned()), to.to_owned()));
        }
        let digits = phone::read(to, &facts.number.display_phone_number)
            .ok_or_else(|| GraphError::because(131_009, "Param to is not a valid phone number."))?;
        if digits == facts.number.display_phone_number {
            return Err(GraphError::of(131_021));
        }
        return Ok((Recipient::Phone(phone::wa_id(&digits)), to.to_owned()));
    }
    match optional_str(body, "recipient")? {
        Some(user_id) if phone::is_user_id(user_id) => {
            Ok((Recipient::User(user_id.to_owned()), user_id.to_owned()))
        }
        Some(_) => {
            Err(GraphError::because(131_009, "Param recipient is not a valid business-scoped user id."))
        }
        None => Err(GraphError::parameter("The parameter to is required.")),
    }
}

fn callback_data(body: &Map<String, Value>) -> Result<Option<String>, GraphError> {
    let data = optional_str(body, "biz_opaque_callback_data")?;
    if data.is_some_and(|data| data.chars().count() > 512) {
        return Err(GraphError::parameter(
            "Param biz_opaque_callback_data must be at most 512 characters long.",
        ));
    }
    Ok(data.map(str::to_owned))
}

fn check_context(body: &Map<String, Value>) -> Result<(), GraphError> {
    let Some(context) = body.get("context") else { return Ok(()) };
    let id = context
        .get("message_id")
        .ok_or_else(|| GraphError::because(131_008, "The parameter context['message_id'] is required."))?;
    match id.as_str() {
        Some(id) if !id.is_empty() => Ok(()),
        _ => Err(GraphError::because(131_009, "Param context['message_id'] is not a message id.")),
    }
}

#[cfg(test)]
#[path = "judge_tests.rs"]
mod tests;
