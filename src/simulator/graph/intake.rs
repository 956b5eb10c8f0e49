//! What comes in: a body is read where it belongs, the record sees it, and it becomes a call.

use axum::body::Body;
use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST, RANGE};
use http::{HeaderName, Method};
use http_body_util::BodyExt as _;
use serde_json::Value;

use super::{Call, DOWNLOAD_PATH, Flaw, Silence};
use crate::simulator::faults::{Subject, WebhookShape};
use crate::simulator::requests::Body as RecordedBody;
use crate::simulator::world::World;
use crate::simulator::{media, multipart, uploads};

/// Bytes of a body that is no file.
const SMALL_BYTES_MAX: usize = 4 * 1024 * 1024;

/// What came of a body.
pub(super) enum Received {
    Small(Bytes),
    Form(Option<Vec<multipart::Part>>),
    /// The bytes of a resumable upload; they went into its session.
    Raw(usize),
}

/// Why not all of a body came.
pub(super) enum Interrupted {
    TooLarge,
    Gone,
    Fault(Silence),
}

/// Reads the body: a file goes where it belongs as it comes, everything else is small.
pub(super) async fn receive(
    world: &World,
    parts: &http::request::Parts,
    mut body: Body,
    flaw: Flaw,
) -> Result<Received, Interrupted> {
    let mut form = boundary(parts).map(|boundary| Ok(multipart::Reader::new(&boundary, &world.room)));
    let path = version_and_path(parts.uri.path()).1;
    let is_raw = uploads::is_session(path) && parts.method == Method::POST;
    let mut session = uploads::Writing::open(world, path, &parts.headers).filter(|_| is_raw);
    let bytes_max =
        if form.is_some() || is_raw { media::UPLOAD_BYTES_MAX + 64 * 1024 } else { SMALL_BYTES_MAX };
    let is_download = path == DOWNLOAD_PATH.trim_start_matches('/');
    let (mut small, mut count) = (bytes::BytesMut::new(), 0_u64);
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|_| Interrupted::Gone)?.into_data() else { continue };
        count += data.len() as u64;
        if count > bytes_max as u64 {
            return Err(Interrupted::TooLarge);
        }
        match (&mut form, &mut session) {
            (Some(Ok(reader)), _) => {
                if let Err(wrong) = reader.push(&data) {
                    form = Some(Err(wrong));
                }
            }
            (None, Some(session)) => session.push(world, data),
            (None, None) if !is_raw => small.extend_from_slice(&data),
            (Some(Err(_)), _) | (None, None) => {}
        }
        if let Some((after, silence)) = flaw.after_bytes
            && count >= after
            && !is_download
        {
            return Err(Interrupted::Fault(silence));
        }
    }
    Ok(match form {
        Some(reader) => Received::Form(reader.and_then(multipart::Reader::finish).ok()),
        None if is_raw => Received::Raw(usize::try_from(count).unwrap_or(usize::MAX)),
        None => Received::Small(small.freeze()),
    })
}

fn content_type(parts: &http::request::Parts) -> &str {
    parts.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

pub(super) fn boundary(parts: &http::request::Parts) -> Option<String> {
    multipart::boundary(content_type(parts))
}

/// What the record shows of a body, how much of it that keeps, and the call.
pub(super) fn take_in(
    world: &World,
    parts: &http::request::Parts,
    received: Received,
    flaw: Flaw,
) -> (RecordedBody, usize, Call) {
    match received {
        Received::Small(body) => {
            let is_json =
                content_type(parts).split(';').next().unwrap_or_default().trim() == "application/json";
            let json = if is_json { serde_json::from_slice(&body).ok() } else { None };
            let kept_bytes = if json.is_some() { body.len() } else { 0 };
            let recorded = RecordedBody::whole(&body, json.as_ref());
            (recorded, kept_bytes, call(world, parts, json, None, flaw))
        }
        Received::Form(form) => {
            let recorded = form.as_deref().map_or(RecordedBody::None, RecordedBody::form);
            (recorded, 0, call(world, parts, None, form, flaw))
        }
        Received::Raw(bytes) => {
            let recorded = RecordedBody::Bytes { bytes, sha256: String::new() };
            (recorded, 0, call(world, parts, None, None, flaw))
        }
    }
}

fn call(
    world: &World,
    parts: &http::request::Parts,
    json: Option<Value>,
    form: Option<Vec<multipart::Part>>,
    flaw: Flaw,
) -> Call {
    let query = axum::extract::Query::<Vec<(String, String)>>::try_from_uri(&parts.uri);
    let header = |name: HeaderName| parts.headers.get(name).and_then(|value| value.to_str().ok());
    let (version, path) = version_and_path(parts.uri.path());
    let scheme = header(http::header::AUTHORIZATION).and_then(|value| value.split_once(' '));
    Call {
        method: parts.method.clone(),
        path: path.to_owned(),
        version,
        query: query.map(|query| query.0).unwrap_or_default(),
        json,
        form,
        base_url: header(HOST).map_or_else(|| world.base_url(), |host| format!("http://{host}")),
        shape: WebhookShape::default(),
        range: header(RANGE).map(str::to_owned),
        is_oauth: scheme.is_some_and(|(scheme, _)| scheme.eq_ignore_ascii_case("oauth")),
        flaw,
    }
}

/// `/v25.0/1/messages` is version 25 and `1/messages`. Version 0 stands for a path without one.
pub(super) fn version_and_path(path: &str) -> (u32, &str) {
    let path = path.trim_start_matches('/');
    let (first, rest) = path.split_once('/').unwrap_or((path, ""));
    let major = first.strip_prefix('v').and_then(|version| version.strip_suffix(".0"));
    match major.and_then(|major| major.parse().ok()) {
        Some(version) => (version, rest.trim_end_matches('/')),
        None => (0, path),
    }
}

pub(super) fn subject<'a>(json: Option<&'a Value>, parts: &'a http::request::Parts) -> Subject<'a> {
    let text = |key: &str| json.and_then(|body| body.get(key)).and_then(Value::as_str);
    Subject::Request {
        method: parts.method.as_str(),
        path: parts.uri.path(),
        to: text("to").or_else(|| text("recipient")),
        message_type: text("type"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_and_paths() {
        for (path, expected) in [
            ("/v25.0/1/messages", (25, "1/messages")),
            ("/v9.0/1/", (9, "1")),
            ("/v25.0", (25, "")),
            ("/1/messages", (0, "1/messages")),
            ("/v25/1", (0, "v25/1")),
        ] {
            assert_eq!(version_and_path(path), expected, "{path}");
        }
    }
}
