//! The webhook port: the handshake and the deliveries, on one path; everything else is 404 without a body.
//!
//! Missing, malformed and wrong signatures are one answer. The body is read whole, with a limit and a deadline, before
//! anything looks at it.

use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Query, Request, State};
use axum::http::{Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use metrics::{counter, histogram};
use serde::Deserialize;
use tokio::time::{Instant, timeout};
use tracing::field::Empty;
use tracing::{Instrument, info, info_span, warn};

use crate::flows::receive_webhook::{Error, ReceiveWebhook};
use crate::telemetry::{self, names};

const SIGNATURE_HEADER: &str = "x-hub-signature-256";
/// Characters of a challenge at most; Meta sends digits (reference 4.1).
const CHALLENGE_CHARS_MAX: usize = 256;

/// How the port reads bodies.
#[derive(Debug, Clone)]
pub struct Config {
    /// The one path that is served.
    pub path: String,
    /// Bytes of a body.
    pub body_bytes_max: usize,
    /// How long a body may take.
    pub body_timeout: Duration,
}

#[derive(Debug, Clone)]
struct Port {
    config: Config,
    flow: ReceiveWebhook,
}

/// What the port serves.
pub fn routes(config: Config, flow: ReceiveWebhook) -> Router {
    Router::new().fallback(serve).with_state(Port { config, flow })
}

async fn serve(State(port): State<Port>, request: Request) -> Response {
    if request.uri().path() != port.config.path {
        return StatusCode::NOT_FOUND.into_response();
    }
    let method = request.method().clone();
    let method_word = if method == Method::GET {
        "GET"
    } else if method == Method::POST {
        "POST"
    } else {
        "_OTHER"
    };
    let span = info_span!(
        "http.server",
        otel.kind = "server",
        http.route = "webhook",
        http.request.method = %method,
        http.response.status_code = Empty,
        trace_id = Empty,
    );
    telemetry::begin_trace(&span, None);
    let started = Instant::now();
    let work = async {
        match method {
            Method::GET => handshake(&port, &request),
            Method::POST => deliver(&port, request).await,
            _ => (StatusCode::METHOD_NOT_ALLOWED, [(header::ALLOW, "GET, POST")]).into_response(),
        }
    };
    let response = work.instrument(span.clone()).await;
    span.record("http.response.status_code", response.status().as_u16());
    histogram!(
        names::HTTP_SERVER_REQUEST_DURATION,
        names::HTTP_METHOD => method_word,
        names::HTTP_ROUTE => "webhook",
        names::HTTP_STATUS => response.status().as_str().to_owned(),
    )
    .record(started.elapsed());
    response
}

/// What Meta asks when the address is configured.
#[derive(Deserialize)]
struct Handshake {
    #[serde(rename = "hub.mode")]
    mode: String,
    #[serde(rename = "hub.verify_token")]
    verify_token: String,
    #[serde(rename = "hub.challenge")]
    challenge: String,
}

/// Answers a right token with its challenge as plain text; everything else is the same 403.
fn handshake(port: &Port, request: &Request) -> Response {
    let Ok(Query(asked)) = Query::<Handshake>::try_from_uri(request.uri()) else {
        return StatusCode::FORBIDDEN.into_response();
    };
    let is_plain = (1..=CHALLENGE_CHARS_MAX).contains(&asked.challenge.len())
        && asked.challenge.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
    let is_verified = port.flow.is_verify_token(&asked.verify_token);
    if asked.mode != "subscribe" || !is_plain || !is_verified {
        warn!("a webhook handshake was refused: is the verify token right?");
        return StatusCode::FORBIDDEN.into_response();
    }
    info!("the webhook address was verified");
    let headers = [(header::CONTENT_TYPE, "text/plain"), (header::X_CONTENT_TYPE_OPTIONS, "nosniff")];
    (headers, asked.challenge).into_response()
}

async fn deliver(port: &Port, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = match read_body(port, body).await {
        Ok(body) => body,
        Err((word, status)) => return outcome(word, status),
    };
    let signature = parts.headers.get(SIGNATURE_HEADER).map(header::HeaderValue::as_bytes);
    match port.flow.receive(signature, body).await {
        Ok(accepted) => {
            counter!(names::WEBHOOK_ITEMS, names::OUTCOME => "new").increment(accepted.new as u64);
            counter!(names::WEBHOOK_ITEMS, names::OUTCOME => "duplicate")
                .increment(accepted.duplicates as u64);
            outcome("accepted", StatusCode::OK)
        }
        Err(Error::BadSignature) => outcome("bad_signature", StatusCode::UNAUTHORIZED),
        Err(Error::NotStored(_) | Error::State(_) | Error::Interrupted) => {
            outcome("not_stored", StatusCode::SERVICE_UNAVAILABLE)
        }
    }
}

async fn read_body(port: &Port, body: Body) -> Result<Bytes, (&'static str, StatusCode)> {
    let limited = Limited::new(body, port.config.body_bytes_max);
    match timeout(port.config.body_timeout, limited.collect()).await {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            warn!(limit = port.config.body_bytes_max, "a webhook is too large; nothing was stored");
            Err(("too_large", StatusCode::PAYLOAD_TOO_LARGE))
        }
        Ok(Err(_)) => Err(("cut", StatusCode::BAD_REQUEST)),
        Err(_elapsed) => Err(("timeout", StatusCode::REQUEST_TIMEOUT)),
    }
}

fn outcome(word: &'static str, status: StatusCode) -> Response {
    counter!(names::WEBHOOKS, names::OUTCOME => word).increment(1);
    status.into_response()
}
