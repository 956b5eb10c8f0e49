//! A call of the Cloud API from the socket to the answer: read, record, meet a fault, check the token, find
//! the node, answer. What the node does stands in the modules of the nodes.

mod answer;
mod intake;
mod route;

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::response::{IntoResponse as _, Response};
use http::{Method, Request, StatusCode};
use serde_json::{Value, json};

use self::answer::{faulty_response, file, refuse, respond};
use self::intake::{Interrupted, boundary, receive, subject, take_in, version_and_path};
pub(super) use self::route::authorize;
use self::route::{is_app, route};
use super::content::Content;
use super::faults::{Cut, TakenFault, WebhookShape};
use super::requests::{Body as RecordedBody, Recorded};
use super::server::Connection;
use super::world::World;
use super::{media_api, multipart, nodes, uploads};

/// The path of a media download, which has no version.
const DOWNLOAD_PATH: &str = "/whatsapp_business/attachments/";

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
    if fault.carried_out && fault.after_bytes.is_none() {
        // Nobody hears what came of it.
        drop(carry_out(world, parts, &call).await);
    }
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
    let asks_for_token = call.method == Method::GET && call.path == "debug_token";
    if asks_for_token && is_app(world, &parts.headers) {
        return Ok(respond(world, call, StatusCode::OK, &nodes::debug_token(world, call)));
    }
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
