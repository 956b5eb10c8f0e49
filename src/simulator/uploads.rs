//! Resumable uploads: a session is opened, filled in one or several calls, and becomes a handle.

use std::collections::{BTreeMap, VecDeque};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderMap, Method};
use serde_json::json;

use super::content::Incoming;
use super::graph::{Call, Reply, authorize};
use super::graph_error::GraphError;
use super::media::{UPLOAD_BYTES_MAX, URL_LIFETIME};
use super::wire;
use super::world::World;

/// Sessions at once; beyond it the oldest are forgotten.
const SESSIONS_MAX: usize = 1_000;
const TYPES: [&str; 5] = ["application/pdf", "image/jpeg", "image/jpg", "image/png", "video/mp4"];

/// Sessions that are open.
#[derive(Debug, Default)]
pub(super) struct Uploads {
    sessions: BTreeMap<String, Session>,
    order: VecDeque<String>,
}

#[derive(Debug)]
struct Session {
    mime_type: String,
    length: usize,
    received: Option<Incoming>,
}

/// A call that fills a session.
#[derive(Debug)]
pub(super) struct Writing {
    id: String,
}

impl Writing {
    /// Only at the place where the session stands, and only with the token.
    pub(super) fn open(world: &World, id: &str, headers: &HeaderMap) -> Option<Self> {
        authorize(world, headers).ok()?;
        let offset: usize = headers.get("file_offset")?.to_str().ok()?.parse().ok()?;
        let state = world.state();
        let received = state.uploads.sessions.get(id)?.received.as_ref()?;
        (received.len() == offset).then(|| Self { id: id.to_owned() })
    }

    pub(super) fn push(&mut self, world: &World, piece: Bytes) {
        let mut state = world.state();
        let session = state.uploads.sessions.get_mut(&self.id);
        if let Some(received) = session.and_then(|session| session.received.as_mut()) {
            received.push(piece);
        }
    }
}

/// Whether a path names a session.
pub(super) fn is_session(path: &str) -> bool {
    path.starts_with("upload:")
}

/// `POST /{APP}/uploads`.
pub(super) fn open(world: &World, call: &Call, app_id: &str) -> Result<Reply, GraphError> {
    if app_id != world.account.app_id {
        return Err(GraphError::no_such_object(&call.method, app_id));
    }
    let required = |name: &str| {
        let missing = || GraphError::parameter(format!("The parameter {name} is required."));
        call.query(name).filter(|text| !text.is_empty()).ok_or_else(missing)
    };
    required("file_name")?;
    let length =
        required("file_length")?.parse().ok().filter(|length| (1..=UPLOAD_BYTES_MAX).contains(length));
    let length = length.ok_or_else(|| GraphError::parameter("Param file_length is out of range."))?;
    let mime_type = required("file_type")?.to_owned();
    if !TYPES.contains(&mime_type.as_str()) {
        return Err(GraphError::parameter("Param file_type must be one of the supported types."));
    }
    let id =
        format!("upload:{}", STANDARD.encode(format!("attachment:{}", world.ids.number())).replace('=', ""));
    let session = Session { mime_type, length, received: Some(Incoming::new(&world.room)) };
    let signed = format!("{id}?sig={}", signature(world, &id));
    let mut state = world.state();
    state.uploads.order.push_back(id.clone());
    state.uploads.sessions.insert(id, session);
    if state.uploads.order.len() > SESSIONS_MAX
        && let Some(oldest) = state.uploads.order.pop_front()
    {
        state.uploads.sessions.remove(&oldest);
    }
    Ok(Reply::Json(json!({ "id": signed })))
}

/// `GET` and `POST /upload:…`; the bytes of a `POST` are in the session already.
pub(super) fn session(world: &World, call: &Call, id: &str) -> Result<Reply, GraphError> {
    if !call.is_oauth {
        return Err(GraphError::bad_token("Resumable uploads take the token as OAuth."));
    }
    let mut state = world.state();
    let unknown = || GraphError::no_such_object(&call.method, id);
    let session = state.uploads.sessions.get_mut(id).ok_or_else(unknown)?;
    if call.query("sig") != Some(signature(world, id).as_str()) {
        return Err(unknown());
    }
    let received = session.received.as_ref().map_or(session.length, Incoming::len);
    if call.method == Method::GET {
        let signed = format!("{id}?sig={}", signature(world, id));
        return Ok(Reply::Json(json!({ "id": signed, "file_offset": received })));
    }
    if received != session.length {
        let message = format!("{received} of {} bytes are here.", session.length);
        return Err(GraphError::because(100, message));
    }
    let digest = session.received.take().map(|received| hex::encode(received.finish().digest));
    let kind = STANDARD.encode(&session.mime_type);
    let expires = super::unix_seconds(world.now() + URL_LIFETIME);
    Ok(Reply::Json(json!({ "h": format!("4::{kind}:AR{}:e:{expires}", digest.unwrap_or_default()) })))
}

fn signature(world: &World, id: &str) -> String {
    wire::sign(&world.account.app_secret, id.as_bytes()).replace("sha256=", "ARZ")
}

/// `bytes=5-9` and `bytes=5-` of so many bytes, as a start and the end behind it.
pub(super) fn range(header: &str, len: usize) -> Option<(usize, usize)> {
    let (first, last) = header.trim().strip_prefix("bytes=")?.split_once('-')?;
    let first: usize = first.parse().ok()?;
    let end = if last.is_empty() { len } else { last.parse::<usize>().ok()?.saturating_add(1).min(len) };
    (first < end).then_some((first, end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges() {
        for (header, expected) in [
            ("bytes=0-4", Some((0, 5))),
            ("bytes=5-", Some((5, 10))),
            ("bytes=5-99", Some((5, 10))),
            ("bytes=10-", None),
            ("bytes=5-4", None),
            ("items=0-1", None),
        ] {
            assert_eq!(range(header, 10), expected, "{header}");
        }
    }
}
