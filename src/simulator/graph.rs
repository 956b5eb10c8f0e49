//! A call of the Cloud API from the socket to the answer: read, record, meet a fault, check the token, find
//! the node, answer. What the node does stands in the modules of the nodes.

use std::time::Duration;

use axum::body::Body;
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use serde_json::{Value, json};

use super::faults::{Cut, ErrorFault, Fault, Subject, TakenFault, WebhookShape};
use super::graph_error::GraphError;
use super::requests::{Body as RecordedBody, Recorded};
use super::server::Connection;
use super::world::World;
use super::{media, media_api, messages, multipart, nodes, template_api};

/// The path of a media download, which has no version.
const DOWNLOAD_PATH: &str = "/whatsapp_business/attachments/";

/// A call as the nodes see it.
#[derive(Debug)]
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
        content: Bytes,
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

/// Serves one call.
pub(super) async fn serve(world: &World, connection: &Connection, request: Request<Body>) -> Response {
    let (parts, body) = request.into_parts();
    // Room for the largest medium and the form around it.
    let limited = Limited::new(body, media::UPLOAD_BYTES_MAX + 64 * 1024);
    let collected = limited.collect().await.map(http_body_util::Collected::to_bytes);
    let body = match collected {
        Ok(body) => body,
        Err(error) => return incomplete(world, &parts, error.is::<LengthLimitError>()),
    };
    let call = call(world, &parts, &body);
    let recorded = RecordedBody::whole(&body, call.json.as_ref(), call.form.as_deref());
    let recorded = Recorded::new(world.now(), &parts, recorded);
    let kept_bytes = if call.json.is_some() { body.len() } else { 0 };
    drop(body);
    let (number, fault) = {
        let mut state = world.state();
        let number = state.requests.push(recorded, kept_bytes);
        (number, state.faults.take(subject(&call, &parts)))
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
        Err(silence) => {
            if matches!(silence, Silence::Cut) {
                connection.cut();
            }
            std::future::pending().await
        }
    }
}

/// The client went away, or sent too much; nothing of it counts.
fn incomplete(world: &World, parts: &http::request::Parts, is_too_large: bool) -> Response {
    let reason = if is_too_large { "too large" } else { "the connection ended" };
    let body = RecordedBody::Incomplete(reason);
    let recorded = Recorded::new(world.now(), parts, body);
    world.state().requests.push(recorded, 0);
    StatusCode::PAYLOAD_TOO_LARGE.into_response()
}

fn call(world: &World, parts: &http::request::Parts, body: &Bytes) -> Call {
    let content_type =
        parts.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let form = multipart::boundary(content_type).and_then(|boundary| multipart::parse(body, &boundary).ok());
    let is_json = content_type.split(';').next().unwrap_or_default().trim() == "application/json";
    let json = if is_json { serde_json::from_slice(body).ok() } else { None };
    let query = axum::extract::Query::<Vec<(String, String)>>::try_from_uri(&parts.uri);
    let host = parts.headers.get(HOST).and_then(|host| host.to_str().ok());
    let (version, path) = version_and_path(parts.uri.path());
    Call {
        method: parts.method.clone(),
        path: path.to_owned(),
        version,
        query: query.map(|query| query.0).unwrap_or_default(),
        json,
        form,
        base_url: host.map_or_else(|| world.base_url(), |host| format!("http://{host}")),
        shape: WebhookShape::default(),
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

fn subject<'a>(call: &'a Call, parts: &'a http::request::Parts) -> Subject<'a> {
    let text = |key: &str| call.json.as_ref().and_then(|body| body.get(key)).and_then(Value::as_str);
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
        Ok(Reply::Bytes { content_type, content }) => {
            Ok(([(CONTENT_TYPE, content_type)], content).into_response())
        }
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

/// Meta takes the token as `Bearer`, and as `OAuth` for the second step of a resumable upload.
fn authorize(world: &World, headers: &HeaderMap) -> Result<(), GraphError> {
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
    count_call(world, id, edge)?;
    match (&call.method, edge) {
        (&Method::POST, "messages" | "marketing_messages") => messages::post(world, call, id),
        (&Method::POST, "media") => media_api::upload(world, call, id),
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
