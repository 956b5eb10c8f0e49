//! Judges the content of every message type but templates: text and media by Meta's rules, the others by
//! their shape.

use serde_json::{Map, Value};

use super::graph_error::GraphError;
use super::judge::{Content, Facts, optional_str};
use super::media;

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
        "location" => required(kind, object, &["latitude", "longitude"]),
        "reaction" => required(kind, object, &["message_id", "emoji"]),
        "interactive" => required(kind, object, &["type", "action"]),
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
    } else if medium.content.len() > media::bytes_max(kind) {
        Some(format!("The media of {} bytes is too large for {kind}.", medium.content.len()))
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

fn contacts(content: &Value) -> Result<Content, GraphError> {
    let contacts = content
        .as_array()
        .filter(|contacts| !contacts.is_empty())
        .ok_or_else(|| GraphError::parameter("Param contacts must be a JSON array with an element."))?;
    let has_name = |contact: &Value| contact.pointer("/name/formatted_name").is_some_and(Value::is_string);
    if contacts.iter().all(has_name) {
        Ok(Content::default())
    } else {
        Err(GraphError::because(131_008, "The parameter contacts[..]['name']['formatted_name'] is required."))
    }
}

fn required(kind: &str, object: &Map<String, Value>, keys: &[&str]) -> Result<Content, GraphError> {
    match keys.iter().find(|key| !object.contains_key(**key)) {
        Some(key) => Err(GraphError::because(131_008, format!("The parameter {kind}['{key}'] is required."))),
        None => Ok(Content::default()),
    }
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
