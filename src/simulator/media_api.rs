//! The Cloud API's calls about media: upload, read, download, delete.

use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use serde_json::{Value, json};

use super::graph::{Call, Reply};
use super::graph_error::GraphError;
use super::media::{Medium, UPLOAD_BYTES_MAX, UPLOADED_LIFETIME, URL_LIFETIME, kind_of};
use super::multipart::Part;
use super::world::World;
use super::{unix_seconds, wire};

/// `POST /{PNID}/media`.
pub(super) fn upload(world: &World, call: &Call, phone_number_id: &str) -> Result<Reply, GraphError> {
    let number = world
        .number(phone_number_id)
        .ok_or_else(|| GraphError::no_such_object(&call.method, phone_number_id))?;
    let form = call
        .form
        .as_ref()
        .ok_or_else(|| GraphError::because(100, "The request body is not a valid multipart form."))?;
    let part = |name: &str| form.iter().find(|part| part.name == name);
    let product = part("messaging_product")
        .ok_or_else(|| GraphError::parameter("The parameter messaging_product is required."))?;
    if product.text().as_deref() != Some("whatsapp") {
        return Err(GraphError::parameter("Param messaging_product must be one of {WHATSAPP}."));
    }
    let file = part("file").ok_or_else(|| GraphError::parameter("The parameter file is required."))?;
    if file.filename.is_none() {
        return Err(GraphError::parameter("Param file must be a file with a filename."));
    }
    let declared = part("type").and_then(Part::text);
    let mime_type =
        file.content_type.as_deref().or(declared.as_deref()).unwrap_or("application/octet-stream");
    let is_same = |declared: &str| declared == mime_type || declared == bare(mime_type);
    if kind_of(mime_type).is_none() || declared.as_deref().is_some_and(|declared| !is_same(declared)) {
        let message = format!(
            "Param file must be a file with one of the supported types. Received file of type \
             '{mime_type}'."
        );
        return Err(GraphError::parameter(message));
    }
    let bytes = file.content.len;
    if bytes == 0 || bytes > UPLOAD_BYTES_MAX {
        return Err(GraphError::because(131_053, format!("A file of {bytes} bytes cannot be uploaded.")));
    }
    let expires = lifetime(part("ttl_minutes").map(|part| part.text().unwrap_or_default()).as_deref())?;
    let id = world.ids.number().to_string();
    let expires = Some(world.now() + expires);
    let content = Arc::clone(&file.content);
    let medium = Medium::new(id.clone(), &number.phone_number_id, mime_type, content, expires);
    world.state().media.insert(medium);
    Ok(Reply::Json(json!({ "id": id })))
}

fn bare(mime_type: &str) -> &str {
    mime_type.split(';').next().unwrap_or(mime_type).trim()
}

/// The `ttl_minutes` of an upload, or the ordinary lifetime.
fn lifetime(ttl_minutes: Option<&str>) -> Result<Duration, GraphError> {
    let Some(text) = ttl_minutes else { return Ok(UPLOADED_LIFETIME) };
    text.parse::<u64>()
        .ok()
        .filter(|minutes| (60..=43_200).contains(minutes))
        .map(|minutes| Duration::from_secs(minutes * 60))
        .ok_or_else(|| GraphError::parameter("Param ttl_minutes must be between 60 and 43200."))
}

/// `GET /{MEDIA_ID}` and `DELETE /{MEDIA_ID}`; `None` if there is no such medium.
pub(super) fn node(world: &World, call: &Call, id: &str) -> Option<Result<Reply, GraphError>> {
    let mut state = world.state();
    let medium = state.media.get(id, world.now())?;
    if let Some(owner) = call.query("phone_number_id")
        && owner != medium.phone_number_id
    {
        return Some(Err(GraphError::no_such_object(&call.method, id)));
    }
    match call.method {
        http::Method::GET => {
            let body = json!({
                "messaging_product": "whatsapp",
                "url": url(world, &call.base_url, id),
                "mime_type": medium.mime_type,
                "sha256": medium.sha256_hex(),
                "file_size": medium.content.len,
                "id": id,
            });
            Some(Ok(Reply::Json(body)))
        }
        http::Method::DELETE => {
            state.media.remove(id);
            Some(Ok(Reply::Json(json!({ "success": true }))))
        }
        _ => None,
    }
}

/// A download URL that works for five minutes.
pub(super) fn url(world: &World, base_url: &str, id: &str) -> String {
    let expires = unix_seconds(world.now() + URL_LIFETIME);
    let hash = hash(world, id, expires);
    format!("{base_url}/whatsapp_business/attachments/?mid={id}&ext={expires}&hash={hash}")
}

fn hash(world: &World, id: &str, expires: u64) -> String {
    wire::sign(&world.account.app_secret, format!("{id} {expires}").as_bytes()).replace("sha256=", "")
}

/// The download itself. A wrong or expired URL is not found.
pub(super) fn download(world: &World, call: &Call) -> Result<Reply, GraphError> {
    let not_found_because =
        |text: &str| GraphError { http: http::StatusCode::NOT_FOUND, ..GraphError::parameter(text) };
    let not_found = || not_found_because("The media URL is invalid or has expired.");
    let (id, expires) = (call.query("mid"), call.query("ext").and_then(|ext| ext.parse().ok()));
    let (Some(id), Some(expires)) = (id, expires) else { return Err(not_found()) };
    let is_genuine = call.query("hash") == Some(hash(world, id, expires).as_str());
    let is_live = world.now() < UNIX_EPOCH + Duration::from_secs(expires);
    let state = world.state();
    match state.media.get(id, world.now()) {
        Some(medium) if is_genuine && is_live && call.method == http::Method::GET => {
            if medium.content.pieces.is_none() {
                return Err(not_found_because("The simulator kept only the checksum of this media."));
            }
            let content = Arc::clone(&medium.content);
            Ok(Reply::Bytes { content_type: medium.mime_type.clone(), content })
        }
        _ => Err(not_found()),
    }
}

/// A received medium as a webhook shows it; what the author of the message left out.
pub(super) fn in_webhook(world: &World, medium: &Medium) -> Value {
    json!({
        "id": medium.id,
        "mime_type": medium.mime_type,
        "sha256": medium.sha256_base64(),
        "url": url(world, &world.base_url(), &medium.id),
    })
}
