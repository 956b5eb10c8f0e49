//! Judges the body of a send by Meta's rules: refused with Meta's error, or a draft of what was accepted.
//! Pure: it sees the body and the account's facts, and changes nothing.

use std::time::SystemTime;

use serde_json::{Map, Value};

use super::account::Number;
use super::graph_error::GraphError;
use super::media::MediaStore;
use super::node::Node;
use super::templates::Templates;
use super::{judge_content, judge_interactive, judge_template, phone};

/// What the judge may look up.
#[derive(Debug, Clone, Copy)]
pub(super) struct Facts<'a> {
    pub(super) number: &'a Number,
    pub(super) templates: &'a Templates,
    pub(super) media: &'a MediaStore,
    pub(super) now: SystemTime,
    /// The major version in the path; newer ones report some codes differently.
    pub(super) version: u32,
    /// Whether the Marketing Messages API was asked.
    pub(super) is_marketing: bool,
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
    pub(super) template_id: Option<u64>,
    /// Why Meta fails the message later although the request was fine.
    pub(super) late_failure: Option<(u32, String)>,
}

/// What a message's content says about its fate.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Content {
    pub(super) template_category: Option<String>,
    pub(super) template_id: Option<u64>,
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

/// Fields of the Marketing Messages API alone.
const MARKETING_FIELDS: &[&str] = &["product_policy", "message_activity_sharing"];

/// Judges a send.
pub(super) fn judge(body: &Value, facts: &Facts<'_>) -> Result<Draft, GraphError> {
    let body = body
        .as_object()
        .ok_or_else(|| GraphError::because(100, "The request body must be a JSON object."))?;
    require_product(body)?;
    let is_known = |key: &str| {
        KINDS.contains(&key)
            || OTHER_FIELDS.contains(&key)
            || facts.is_marketing && MARKETING_FIELDS.contains(&key)
    };
    if let Some(unknown) = body.keys().find(|key| !is_known(key)) {
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
    optional_str(body, "recipient_identity_key_hash")?;
    check_context(body)?;
    let content = body
        .get(kind)
        .ok_or_else(|| GraphError::because(131_008, format!("The parameter {kind} is required.")))?;
    if let Some(other) = KINDS.iter().find(|other| **other != kind && body.contains_key(**other)) {
        return Err(GraphError::parameter(format!("Param {other} does not belong to type \"{kind}\".")));
    }
    check_group(kind, &recipient)?;
    let direct_category = direct_send(body, kind, content, &recipient)?;
    let mut judged = match kind {
        "template" => judge_template::judge(content, &recipient, facts)?,
        "interactive" => judge_interactive::judge(content, direct_category.is_some(), facts)?,
        _ => judge_content::judge(kind, content, facts)?,
    };
    judged.template_category = judged.template_category.or(direct_category);
    if facts.is_marketing {
        check_marketing(body, &judged)?;
        judged.template_category = Some("MARKETING_LITE".to_owned());
    }
    Ok(Draft {
        recipient,
        input,
        kind: kind.to_owned(),
        callback_data,
        template_category: judged.template_category,
        template_id: judged.template_id,
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

/// Interactive messages do not go to groups, pins nowhere else.
fn check_group(kind: &str, recipient: &Recipient) -> Result<(), GraphError> {
    match (kind, recipient) {
        ("interactive", Recipient::Group(_)) => {
            Err(GraphError::parameter("Param type interactive is not supported for recipient_type group."))
        }
        ("pin", Recipient::Phone(_) | Recipient::User(_)) => {
            Err(GraphError::parameter("Param type pin is only supported for recipient_type group."))
        }
        _ => Ok(()),
    }
}

/// The category of a Direct Send, which needs neither window nor template.
fn direct_send(
    body: &Map<String, Value>,
    kind: &str,
    content: &Value,
    recipient: &Recipient,
) -> Result<Option<String>, GraphError> {
    let category = optional_str(body, "category")?;
    let ttl_max = match category {
        Some("utility") => 43_200,
        Some("authentication") => 900,
        None | Some("service") => {
            let stray = ["ttl_seconds", "direct_send_config"].into_iter().find(|key| body.contains_key(*key));
            return match stray {
                Some(key) => Err(GraphError::parameter(format!("Param {key} needs a category."))),
                None => Ok(None),
            };
        }
        Some(_) => {
            let words = "Param category must be one of {UTILITY, AUTHENTICATION, SERVICE}.";
            return Err(GraphError::parameter(words));
        }
    };
    let action = content.get("type").and_then(Value::as_str).unwrap_or_default();
    let fits = kind == "text" && content.get("preview_url").is_none_or(|preview| preview == false)
        || kind == "interactive" && ["button", "cta_url", "voice_call"].contains(&action);
    if !fits {
        return Err(GraphError::parameter("Param type is not supported for Direct Send."));
    }
    if let Some(ttl) = body.get("ttl_seconds")
        && Node::new("ttl_seconds", ttl).number(30, ttl_max).is_err()
    {
        return Err(GraphError::parameter(format!("Param ttl_seconds must be from 30 to {ttl_max}.")));
    }
    if let Some(config) = body.get("direct_send_config") {
        let name = Node::new("direct_send_config", config).required_text("template_name", 512)?;
        let is_name = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
        if category != Some("utility") || !name.bytes().all(is_name) {
            return Err(GraphError::parameter("Param direct_send_config is not valid."));
        }
    }
    if category == Some("authentication") && matches!(recipient, Recipient::User(_)) {
        return Err(GraphError::of(131_062));
    }
    Ok(category.map(str::to_ascii_uppercase))
}

/// The Marketing Messages API sends marketing templates and nothing else.
fn check_marketing(body: &Map<String, Value>, judged: &Content) -> Result<(), GraphError> {
    if judged.template_category.as_deref() != Some("MARKETING") {
        return Err(GraphError::of(134_100));
    }
    match optional_str(body, "product_policy")? {
        None | Some("CLOUD_API_FALLBACK" | "STRICT") => {}
        Some(_) => {
            let words = "Param product_policy must be one of {CLOUD_API_FALLBACK, STRICT}.";
            return Err(GraphError::parameter(words));
        }
    }
    match body.get("message_activity_sharing") {
        None | Some(Value::Bool(_)) => Ok(()),
        Some(_) => Err(GraphError::parameter("Param message_activity_sharing must be a boolean.")),
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
