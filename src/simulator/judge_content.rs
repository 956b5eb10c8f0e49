//! Judges the content of every message type but templates and interactive messages.

use serde_json::{Map, Value};

use super::graph_error::GraphError;
use super::judge::{Content, Facts, optional_str};
use super::media;
use super::node::Node;

/// Judges the object that the message type names.
pub(super) fn judge(kind: &str, content: &Value, facts: &Facts<'_>) -> Result<Content, GraphError> {
    if kind == "contacts" {
        return contacts(content);
    }
    let object = content
        .as_object()
        .ok_or_else(|| GraphError::parameter(format!("Param {kind} must be a JSON object.")))?;
    match kind {
        "text" => text(object),
        "image" | "video" => medium(kind, object, &["caption"], facts),
        "audio" => medium(kind, object, &["voice"], facts),
        "document" => medium(kind, object, &["caption", "filename"], facts),
        "sticker" => medium(kind, object, &[], facts),
        "location" => location(content),
        "reaction" => reaction(content),
        "pin" => pin(content),
        _ => Ok(Content::default()),
    }
}

/// Judges a reference to a medium, in a message or in a template's header.
pub(super) fn medium(
    kind: &str,
    object: &Map<String, Value>,
    options: &[&str],
    facts: &Facts<'_>,
) -> Result<Content, GraphError> {
    known_keys(kind, object, &[&["id", "link"], options].concat())?;
    length(kind, object, "caption", 1024)?;
    match (optional_str(object, "id")?, optional_str(object, "link")?) {
        (None, None) => {
            let details = format!("The parameter {kind}['id'] or {kind}['link'] is required.");
            Err(GraphError::because(131_008, details))
        }
        (Some(_), Some(_)) => {
            let details = format!("Use either {kind}['id'] or {kind}['link'], not both.");
            Err(GraphError::because(131_009, details))
        }
        (Some(id), None) => uploaded(kind, id, object, facts),
        (None, Some(link)) => linked(kind, link),
    }
}

/// The id must be known at once; whether the file fits the message shows later.
fn uploaded(
    kind: &str,
    id: &str,
    object: &Map<String, Value>,
    facts: &Facts<'_>,
) -> Result<Content, GraphError> {
    let medium = facts
        .media
        .get(id, facts.now)
        .filter(|medium| medium.phone_number_id == facts.number.phone_number_id)
        .ok_or_else(|| {
            GraphError::parameter(format!(
                "Param {kind}['id'] is not a valid whatsapp business account media attachment ID"
            ))
        })?;
    let fits = media::kind_of(&medium.mime_type) == Some(kind) || kind == "document";
    let voice_fits =
        object.get("voice") != Some(&Value::Bool(true)) || medium.mime_type.starts_with("audio/ogg");
    let late_failure = if !fits || !voice_fits {
        Some(format!("The media of type {} cannot be sent as {kind}.", medium.mime_type))
    } else if medium.content.len > media::bytes_max(kind) {
        Some(format!("The media of {} bytes is too large for {kind}.", medium.content.len))
    } else {
        None
    };
    Ok(Content { late_failure: late_failure.map(|details| (131_053, details)), ..Content::default() })
}

/// Links are never fetched here. One whose host ends in `.invalid`, a name that never resolves, fails later.
fn linked(kind: &str, link: &str) -> Result<Content, GraphError> {
    let uri = link.parse::<http::Uri>().ok();
    let host = uri
        .as_ref()
        .filter(|uri| matches!(uri.scheme_str(), Some("http" | "https")))
        .and_then(http::Uri::host)
        .ok_or_else(|| GraphError::parameter(format!("Param {kind}['link'] is not a valid URI.")))?;
    let unreachable = host == "invalid" || host.to_ascii_lowercase().ends_with(".invalid");
    let details = || (131_053, "Downloading the media from the link failed.".to_owned());
    Ok(Content { late_failure: unreachable.then(details), ..Content::default() })
}

fn text(object: &Map<String, Value>) -> Result<Content, GraphError> {
    known_keys("text", object, &["body", "preview_url"])?;
    let body = optional_str(object, "body")?.unwrap_or_default();
    if body.is_empty() {
        return Err(GraphError::because(131_008, "The parameter text['body'] is required."));
    }
    length("text", object, "body", 4096)?;
    match object.get("preview_url") {
        None | Some(Value::Bool(_)) => Ok(Content::default()),
        Some(_) => Err(GraphError::parameter("Param text['preview_url'] must be a boolean.")),
    }
}

fn location(content: &Value) -> Result<Content, GraphError> {
    let location = Node::new("location", content);
    location.known(&["latitude", "longitude", "name", "address"])?;
    for (key, max) in [("latitude", 90.0), ("longitude", 180.0)] {
        let degrees = location.required(key)?;
        let by_text = || degrees.value.as_str().and_then(|text| text.parse().ok());
        if !degrees.value.as_f64().or_else(by_text).is_some_and(|number: f64| number.abs() <= max) {
            return Err(degrees.invalid(&format!("must be a number from -{max} to {max}")));
        }
    }
    Ok(Content::default())
}

fn reaction(content: &Value) -> Result<Content, GraphError> {
    let reaction = Node::new("reaction", content);
    reaction.known(&["message_id", "emoji"])?;
    reaction.required_text("message_id", 512)?;
    let emoji = reaction.required("emoji")?;
    let is_emoji = |text: &str| !text.chars().any(|c| c.is_ascii_alphabetic() || c.is_whitespace());
    if emoji.value.as_str().is_some_and(is_emoji) {
        Ok(Content::default())
    } else {
        Err(emoji.invalid("must be an emoji, or empty to remove the reaction"))
    }
}

fn pin(content: &Value) -> Result<Content, GraphError> {
    let pin = Node::new("pin", content);
    pin.known(&["type", "message_id", "expiration_days"])?;
    pin.required_text("message_id", 512)?;
    match (pin.required("type")?.word(&["pin", "unpin"])?, pin.get("expiration_days")) {
        ("unpin", Some(days)) => Err(days.invalid("is only for pin")),
        (_, Some(days)) => days.number(1, 30).map(|_| Content::default()),
        (_, None) => Ok(Content::default()),
    }
}

fn contacts(content: &Value) -> Result<Content, GraphError> {
    let contacts = Node::new("contacts", content);
    if content.as_array().is_none_or(Vec::is_empty) {
        return Err(GraphError::parameter("Param contacts must be a JSON array with an element."));
    }
    for contact in contacts.list(1, 257)? {
        contact.known(&["addresses", "birthday", "emails", "name", "org", "phones", "urls"])?;
        let name = contact.required("name")?;
        name.required_text("formatted_name", usize::MAX)?;
        let others = ["first_name", "last_name", "middle_name", "suffix", "prefix"];
        if !others.iter().any(|key| name.get(key).is_some()) {
            return Err(GraphError::because(
                131_009,
                "contacts: formatted_name and at least one other name field are required.",
            ));
        }
    }
    Ok(Content::default())
}

fn known_keys(kind: &str, object: &Map<String, Value>, known: &[&str]) -> Result<(), GraphError> {
    match object.keys().find(|key| !known.contains(&key.as_str())) {
        Some(key) => Err(GraphError::parameter(format!("Unexpected key \"{key}\" on param \"{kind}\"."))),
        None => Ok(()),
    }
}

fn length(kind: &str, object: &Map<String, Value>, key: &str, max: usize) -> Result<(), GraphError> {
    if optional_str(object, key)?.is_some_and(|text| text.chars().count() > max) {
        return Err(GraphError::parameter(format!(
            "Param {kind}['{key}'] must be at most {max} characters long."
        )));
    }
    Ok(())
}
