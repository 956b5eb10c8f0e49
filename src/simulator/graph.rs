//! A call of the Cloud API from the socket to the answer: read, record, meet a fault, check the token, find
//! the node, answer. What the node does stands in the modules of the nodes.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _};
use http::header::{
    CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, HOST, LOCATION, RANGE, RETRY_AFTER, WWW_AUTHENTICATE,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};

use super::content::Content;
use super::faults::{Cut, ErrorFault, Fault, Subject, TakenFault, WebhookShape};
use super::graph_error::GraphError;
use super::requests::{Body as RecordedBody, Recorded};
use super::server::Connection;
use super::world::World;
use super::{media, media_api, messages, multipart, nodes, template_api, uploads};

/// The path of a media download, which has no version.
const DOWNLOAD_PATH: &str = "/whatsapp_business/attachments/";

/// Bytes of a body that is no file.
const SMALL_BYTES_MAX: usize = 4 * 1024 * 1024;

/// A call as the nodes see it.
#[derive(Debug, Default)]
pub(super) struct Call {
    pub(super) method: Method,
    /// The path without its version.
    pub(super) path: String,
    pub(super) version: u32,
    pub(super) query: Vec<(String, String)>,
    pub(super) json: Option<Value>,
    pub(super) form: Option<Vec<multipart::Part>>,
    /// Scheme and host as the caller wrote them, for URLs in answers.
    pub(super) base_url: String,
    /// What happens to the webhooks that follow.
    pub(super) shape: WebhookShape,
    /// `Range` of a download.
    pub(super) range: Option<String>,
    /// Whether the token came as `OAuth`.
    pub(super) is_oauth: bool,
    /// What goes wrong with a download.
    pub(super) flaw: Flaw,
}

/// What goes wrong while the bytes of a file pass.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Flaw {
    after_bytes: Option<(u64, Silence)>,
    is_corrupt: bool,
}

impl Flaw {
    fn of(fault: Option<&TakenFault>) -> Self {
        let Some(TakenFault { fault, .. }) = fault else { return Self::default() };
        let silence = if fault.stall { Silence::Stall } else { Silence::Cut };
        Self { after_bytes: fault.after_bytes.map(|bytes| (bytes, silence)), is_corrupt: fault.corrupt }
    }
}

impl Call {
    /// A parameter of the query.
    pub(super) fn query(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// What a node answers.
#[derive(Debug)]
pub(super) enum Reply {
    Json(Value),
    /// A medium.
    Bytes {
        content_type: String,
        content: Arc<Content>,
    },
    /// An answer that comes late.
    Late(Duration, Value),
    /// No answer, though the request was carried out: the connection is closed.
    Cut,
    /// No answer, though the request was carried out.
    Never,
}

/// How the connection ends instead of an answer.
#[derive(Debug, Clone, Copy)]
enum Silence {
    Cut,
    Stall,
}

/// What came of a body.
enum Received {
    Small(Bytes),
    Form(Option<Vec<multipart::Part>>),
    /// The bytes of a resumable upload; they went into its session.
    Raw(usize),
}

/// Why not all of a body came.
enum Interrupted {
    TooLarge,
    Gone,
    Fault(Silence),
}

/// Serves one call.
pub(super) async fn serve(world: &World, connection: &Connection, request: Request<Body>) -> Response {
    let (parts, body) = request.into_parts();
    // A file may be cut on its way, so its fault is taken before it is read.
    let is_transfer = boundary(&parts).is_some()
        || parts.uri.path() == DOWNLOAD_PATH
        || uploads::is_session(version_and_path(parts.uri.path()).1);
    let early = is_transfer.then(|| world.state().faults.take(subject(None, &parts))).flatten();
    let flaw = Flaw::of(early.as_ref());
    let received = match receive(world, &parts, body, flaw).await {
        Ok(received) => received,
        Err(interrupted) => return incomplete(world, connection, &parts, interrupted).await,
    };
    let (recorded, kept_bytes, call) = take_in(world, &parts, received, flaw);
    let (number, fault) = {
        let mut state = world.state();
        let number = state.requests.push(Recorded::new(world.now(), &parts, recorded), kept_bytes);
        let mut late = || state.faults.take(subject(call.json.as_ref(), &parts));
        (number, if is_transfer { early } else { late() })
    };
    let answer = answer(world, &parts, call, fault).await;
    let outcome = match &answer {
        Ok(response) => json!(response.status().as_u16()),
        Err(Silence::Cut) => json!("connection cut"),
        Err(Silence::Stall) => json!("never answered"),
    };
    world.state().requests.ended(number, outcome);
    match answer {
        Ok(response) => response,
        Err(silence) => silent(connection, silence).await,
    }
}

async fn silent(connection: &Connection, silence: Silence) -> Response {
    if matches!(silence, Silence::Cut) {
        connection.cut();
    }
    std::future::pending().await
}

/// The client went away, or sent too much, or was cut off; nothing of it counts.
async fn incomplete(
    world: &World,
    connection: &Connection,
    parts: &http::request::Parts,
    interrupted: Interrupted,
) -> Response {
    let reason = match interrupted {
        Interrupted::TooLarge => "too large",
        Interrupted::Gone => "the connection ended",
        Interrupted::Fault(Silence::Cut) => "connection cut",
        Interrupted::Fault(Silence::Stall) => "not read any more",
    };
    let recorded = Recorded::new(world.now(), parts, RecordedBody::Incomplete(reason));
    world.state().requests.push(recorded, 0);
    match interrupted {
        Interrupted::Fault(silence) => silent(connection, silence).await,
        Interrupted::TooLarge | Interrupted::Gone => StatusCode::PAYLOAD_TOO_LARGE.into_response(),
    }
}

/// Reads the body: a file goes where it belongs as it comes, everything else is small.
async fn receive(
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

fn boundary(parts: &http::request::Parts) -> Option<String> {
    multipart::boundary(content_type(parts))
}

/// What the record shows of a body, how much of it that keeps, and the call.
fn take_in(
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
fn version_and_path(path: &str) -> (u32, &str) {
    let path = path.trim_start_matches('/');
    let (first, rest) = path.split_once('/').unwrap_or((path, ""));
    let major = first.strip_prefix('v').and_then(|version| version.strip_suffix(".0"));
    match major.and_then(|major| major.parse().ok()) {
        Some(version) => (version, rest.trim_end_matches('/')),
        None => (0, path),
    }
}

fn subject<'a>(json: Option<&'a Value>, parts: &'a http::request::Parts) -> Subject<'a> {
    let text = |key: &str| json.and_then(|body| body.get(key)).and_then(Value::as_str);
    Subject::Request {
        method: parts.method.as_str(),
        path: parts.uri.path(),
        to: text("to").or_else(|| text("recipient")),
        message_type: text("type"),
    }
}

/// Carries a call out, unless a fault forbids it, and waits before the answer if a fault asks for it: a
/// client that gives up in between has sent its message all the same.
async fn answer(
    world: &World,
    parts: &http::request::Parts,
    mut call: Call,
    fault: Option<TakenFault>,
) -> Result<Response, Silence> {
    let Some(TakenFault { fault, shape }) = fault else { return carry_out(world, parts, &call).await };
    call.shape = shape;
    let answer = match fault.cut {
        // The bytes passed the place where it was to happen, or it happens in the answer.
        _ if fault.after_bytes.is_some() => carry_out(world, parts, &call).await,
        _ if fault.stall => Err(Silence::Stall),
        Some(Cut::BeforeAcceptance) => Err(Silence::Cut),
        Some(Cut::AfterAcceptance) => carry_out(world, parts, &call).await.and(Err(Silence::Cut)),
        None => match faulty_response(world, &call, &fault) {
            Some(response) => Ok(response),
            None => carry_out(world, parts, &call).await,
        },
    };
    if let Some(delay) = fault.delay_ms {
        tokio::time::sleep(Duration::from_millis(delay)).await;
    }
    answer
}

async fn carry_out(world: &World, parts: &http::request::Parts, call: &Call) -> Result<Response, Silence> {
    let reply = authorize(world, &parts.headers).and_then(|()| {
        let is_download = parts.uri.path() == DOWNLOAD_PATH;
        if is_download { media_api::download(world, call) } else { route(world, call) }
    });
    match reply {
        Ok(Reply::Json(body)) => Ok(respond(world, call, StatusCode::OK, &body)),
        Ok(Reply::Late(delay, body)) => {
            tokio::time::sleep(delay).await;
            Ok(respond(world, call, StatusCode::OK, &body))
        }
        Ok(Reply::Bytes { content_type, content }) => Ok(file(call, &content_type, &content)),
        Ok(Reply::Cut) => Err(Silence::Cut),
        Ok(Reply::Never) => Err(Silence::Stall),
        Err(error) => Ok(refuse(world, call, &error)),
    }
}

fn faulty_response(world: &World, call: &Call, fault: &Fault) -> Option<Response> {
    let retry_after = fault.retry_after.map(Duration::from_secs);
    if let Some(error) = &fault.error {
        return Some(refuse(world, call, &GraphError { retry_after, ..planned_error(error) }));
    }
    let http = fault.http.as_ref()?;
    let mut response = Response::new(Body::from(http.body.clone()));
    *response.status_mut() = StatusCode::from_u16(http.status).unwrap_or(StatusCode::BAD_GATEWAY);
    insert(response.headers_mut(), CONTENT_TYPE, &http.content_type);
    if let Some(location) = &http.location {
        insert(response.headers_mut(), LOCATION, location);
    }
    if let Some(retry_after) = retry_after {
        insert(response.headers_mut(), RETRY_AFTER, &retry_after.as_secs().to_string());
    }
    Some(response)
}

fn planned_error(planned: &ErrorFault) -> GraphError {
    let mut error = GraphError::of(planned.code);
    if let Some(status) = planned.http_status.and_then(|status| StatusCode::from_u16(status).ok()) {
        error.http = status;
    }
    error.subcode = planned.subcode;
    error.is_transient = planned.transient;
    if let Some(message) = &planned.message {
        error.message.clone_from(message);
    }
    if planned.details.is_some() {
        error.details.clone_from(&planned.details);
    }
    error
}

/// A medium, or the range of it that was asked for, with the flaw that a fault gives it.
fn file(call: &Call, content_type: &str, content: &Arc<Content>) -> Response {
    let range = call.range.as_deref().map(|range| uploads::range(range, content.len));
    let (start, end) = match range {
        Some(Some(range)) => range,
        Some(None) => return StatusCode::RANGE_NOT_SATISFIABLE.into_response(),
        None => (0, content.len),
    };
    let mut pieces = content.range(start, end);
    if call.flaw.is_corrupt
        && let Some(first) = pieces.first_mut()
    {
        let mut wrong = bytes::BytesMut::from(&**first);
        wrong.iter_mut().take(1).for_each(|byte| *byte ^= 1);
        *first = wrong.freeze();
    }
    let whole = futures_util::stream::iter(pieces.into_iter().map(Ok::<_, std::io::Error>));
    let body = match call.flaw.after_bytes {
        None => Body::from_stream(whole),
        Some((after, silence)) => {
            let mut left = usize::try_from(after).unwrap_or(usize::MAX);
            let before = whole.map_ok(move |mut piece| {
                piece.truncate(left);
                left -= piece.len();
                piece
            });
            // An error closes the connection under the client.
            let end = async move {
                match silence {
                    Silence::Stall => std::future::pending().await,
                    Silence::Cut => Err(std::io::Error::other("cut")),
                }
            };
            let before = before.try_take_while(|piece| std::future::ready(Ok(!piece.is_empty())));
            Body::from_stream(before.chain(futures_util::stream::once(end)))
        }
    };
    let mut response = Response::new(body);
    insert(response.headers_mut(), CONTENT_TYPE, content_type);
    insert(response.headers_mut(), CONTENT_LENGTH, &(end - start).to_string());
    if range.is_some() {
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
        let shown = format!("bytes {start}-{}/{}", end.saturating_sub(1), content.len);
        insert(response.headers_mut(), CONTENT_RANGE, &shown);
    }
    response
}

/// Meta takes the token as `Bearer`, and as `OAuth` for the second step of a resumable upload.
pub(super) fn authorize(world: &World, headers: &HeaderMap) -> Result<(), GraphError> {
    let header = headers.get(http::header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let token = header.and_then(|header| header.split_once(' ')).and_then(|(scheme, token)| {
        let is_known = scheme.eq_ignore_ascii_case("bearer") || scheme.eq_ignore_ascii_case("oauth");
        is_known.then(|| token.trim())
    });
    match token {
        Some(token) if token == world.account.access_token => Ok(()),
        Some(_) => Err(GraphError::bad_token("Invalid OAuth access token - Cannot parse access token")),
        None => Err(GraphError::bad_token("An access token is required to request this resource.")),
    }
}

/// Finds the node and the edge that a path names.
fn route(world: &World, call: &Call) -> Result<Reply, GraphError> {
    if call.version == 0 {
        return Err(GraphError::unknown_path(&format!("/{}", call.path)));
    }
    let (id, edge) = call.path.split_once('/').unwrap_or((&call.path, ""));
    if uploads::is_session(id) {
        return uploads::session(world, call, id);
    }
    count_call(world, id, edge)?;
    match (&call.method, edge) {
        (&Method::POST, "messages" | "marketing_messages") => messages::post(world, call, id),
        (&Method::POST, "media") => media_api::upload(world, call, id),
        (&Method::POST, "uploads") => uploads::open(world, call, id),
        (_, "message_templates") => template_api::of_waba(world, call, id),
        (&Method::GET, "phone_numbers") => nodes::phone_numbers(world, call, id),
        (_, "subscribed_apps") => nodes::subscribed_apps(world, call, id),
        (_, "") => nodes::node(world, call, id),
        (_, "messages" | "marketing_messages" | "media" | "phone_numbers") => {
            Err(GraphError::no_such_object(&call.method, id))
        }
        _ => Err(GraphError::unknown_path(&format!("/{edge}"))),
    }
}

/// Management calls are limited per WABA and hour; sends and media are not among them.
fn count_call(world: &World, id: &str, edge: &str) -> Result<(), GraphError> {
    if matches!(edge, "messages" | "marketing_messages" | "media") {
        return Ok(());
    }
    let Some(waba_id) = waba_of(world, id) else { return Ok(()) };
    let mut state = world.state();
    let per_hour = state.limits.calls_per_hour;
    if state.calls.take(waba_id, per_hour, world.now()) { Ok(()) } else { Err(GraphError::of(80_007)) }
}

fn waba_of<'a>(world: &'a World, id: &'a str) -> Option<&'a str> {
    match world.number(id) {
        Some(number) => Some(&number.waba_id),
        None => world.account.has_waba(id).then_some(id),
    }
}

fn refuse(world: &World, call: &Call, error: &GraphError) -> Response {
    let trace = world.ids.trace();
    let mut response = respond_traced(world, call, error.http, &error.body(&trace), &trace);
    if let Some(authenticate) = error.authenticate() {
        insert(response.headers_mut(), WWW_AUTHENTICATE, &authenticate);
    }
    if let Some(retry_after) = error.retry_after {
        insert(response.headers_mut(), RETRY_AFTER, &retry_after.as_secs().to_string());
    }
    response
}

fn respond(world: &World, call: &Call, status: StatusCode, body: &Value) -> Response {
    respond_traced(world, call, status, body, &world.ids.trace())
}

fn respond_traced(world: &World, call: &Call, status: StatusCode, body: &Value, trace: &str) -> Response {
    let mut response = Response::new(Body::from(body.to_string()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    insert(headers, CONTENT_TYPE, "application/json; charset=UTF-8");
    insert(headers, HeaderName::from_static("x-fb-trace-id"), trace);
    insert(headers, HeaderName::from_static("x-fb-request-id"), trace);
    insert(headers, HeaderName::from_static("facebook-api-version"), &format!("v{}.0", call.version));
    let id = call.path.split('/').next().unwrap_or_default();
    if let Some(waba_id) = waba_of(world, id) {
        let state = world.state();
        let percent = state.calls.percent(waba_id, state.limits.calls_per_hour, world.now());
        drop(state);
        let usage = json!({ "call_count": percent, "total_time": 0, "total_cputime": 0 });
        insert(headers, HeaderName::from_static("x-app-usage"), &usage.to_string());
        let minutes = if percent >= 100 { 60 } else { 0 };
        let usage = json!({ waba_id: [{
            "type": "whatsapp_business_management",
            "call_count": percent,
            "total_cputime": 0,
            "total_time": 0,
            "estimated_time_to_regain_access": minutes,
        }]});
        insert(headers, HeaderName::from_static("x-business-use-case-usage"), &usage.to_string());
    }
    response
}

/// Sets a header; a value that no header can hold is left out.
fn insert(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
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
