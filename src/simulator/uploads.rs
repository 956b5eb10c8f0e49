//! Resumable uploads: a session is opened, filled in one or several calls, and becomes a handle.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderMap, Method};
use serde_json::json;

use super::content::Incoming;
use super::graph::{Call, Reply, authorize};
use super::graph_error::GraphError;
use super::media::UPLOAD_BYTES_MAX;
use super::wire;
use super::world::World;

/// Sessions at once; beyond it the oldest are forgotten.
const SESSIONS_MAX: usize = 1_000;
const TYPES: [&str; 5] = ["application/pdf", "image/jpeg", "image/jpg", "image/png", "video/mp4"];

/// How long a handle can be used. Meta does not say; its sessions live about as long.
const HANDLE_LIFETIME: Duration = Duration::from_hours(1);
/// The beginning of the third part of every handle that is given here.
const OWN_MARK: &str = "ARsim";

/// Sessions that are open, and what became of those that were filled.
#[derive(Debug, Default)]
pub(super) struct Uploads {
    sessions: BTreeMap<String, Session>,
    order: VecDeque<String>,
    pub(super) handles: Handles,
}

/// The handles that were given, the oldest forgotten first.
#[derive(Debug, Default)]
pub(super) struct Handles(VecDeque<Handle>);

#[derive(Debug)]
struct Handle {
    text: String,
    mime_type: String,
    expires: SystemTime,
}

impl Handles {
    /// A new handle of a file with this checksum.
    fn give(&mut self, mime_type: &str, digest: &str, now: SystemTime) -> String {
        let (kind, expires) = (STANDARD.encode(mime_type), now + HANDLE_LIFETIME);
        let text = format!("4::{kind}:{OWN_MARK}{digest}:e:{}", super::unix_seconds(expires));
        self.0.push_back(Handle { text: text.clone(), mime_type: mime_type.to_owned(), expires });
        if self.0.len() > SESSIONS_MAX {
            self.0.pop_front();
        }
        text
    }

    /// Whether this can be the sample of a header of this format; says why not. A handle with our mark must
    /// be known, of the right type, and young. One of Meta, as documentation shows them, passes by its form.
    pub(super) fn check(&self, text: &str, format: &str, now: SystemTime) -> Result<(), String> {
        let is_own = text.contains(OWN_MARK);
        if !text.starts_with("4::") || text.len() < 4 {
            return Err("is no handle of a resumable upload; media ids and links are none".to_owned());
        }
        let known = self.0.iter().rev().find(|handle| handle.text == text);
        let Some(handle) = known else {
            return if is_own { Err("is an unknown handle".to_owned()) } else { Ok(()) };
        };
        if now >= handle.expires {
            return Err("is an expired handle".to_owned());
        }
        let fits = match format {
            "IMAGE" => handle.mime_type.starts_with("image/"),
            "VIDEO" | "GIF" => handle.mime_type == "video/mp4",
            _ => handle.mime_type == "application/pdf",
        };
        let mismatch = || format!("is the handle of a file of type {}, not of a {format}", handle.mime_type);
        if fits { Ok(()) } else { Err(mismatch()) }
    }
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
    let mime_type = session.mime_type.clone();
    let handle = state.uploads.handles.give(&mime_type, &digest.unwrap_or_default(), world.now());
    Ok(Reply::Json(json!({ "h": handle })))
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
    fn handles() {
        let now = SystemTime::UNIX_EPOCH;
        let mut handles = Handles::default();
        let image = handles.give("image/png", "00ff", now);
        for (handle, format, expected) in [
            (image.as_str(), "IMAGE", None),
            (&image, "VIDEO", Some("type image/png")),
            (&image[..image.len() - 1], "IMAGE", Some("unknown")),
            ("4::aW1hZ2UvanBn:ARYyt:e:1", "IMAGE", None),
            ("4::", "IMAGE", Some("no handle")),
            ("1234", "IMAGE", Some("no handle")),
            ("https://example.com/a.png", "IMAGE", Some("no handle")),
        ] {
            let judged = handles.check(handle, format, now).err();
            assert_eq!(judged.is_some(), expected.is_some(), "{handle}: {judged:?}");
            assert!(judged.unwrap_or_default().contains(expected.unwrap_or_default()), "{handle}");
        }
        assert!(handles.check(&image, "IMAGE", now + HANDLE_LIFETIME).unwrap_err().contains("expired"));
    }

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
