//! The webhook port: the handshake and the deliveries, on one path; everything else is 404 without a body.
//!
//! A handshake that is not right is answered like a path that does not exist, so that nobody finds out by it what is here.
//!
//! Missing, malformed and wrong signatures are one answer; the first two get it before a byte of the body is read. What
//! remains is read whole, with a limit and a deadline, before anything looks at it. All bodies together have a budget,
//! because strangers can begin any number of them.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, HttpBody};
use axum::extract::{Query, Request, State};
use axum::http::{Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use metrics::{counter, histogram};
use serde::Deserialize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout};
use tracing::{Instrument, info, warn};

use crate::flows::receive_webhook::{Error, ReceiveWebhook};
use crate::telemetry::{Seldom, exemplified, names, semconv};

const SIGNATURE_HEADER: &str = "x-hub-signature-256";
/// Characters of a challenge at most; Meta sends digits (reference 4.1).
const CHALLENGE_CHARS_MAX: usize = 256;
/// The budget of bodies is counted in these: a semaphore does not count to the bytes of large machines.
const UNIT_BYTES: usize = 1024;
/// Of each body, what is not counted: strangers can fill the budget, and an ordinary webhook must get in all the same.
const FREE_BYTES: usize = 16 * 1024;

/// How the port reads bodies.
#[derive(Debug, Clone)]
pub struct Config {
    /// The one path that is served.
    pub path: String,
    /// Bytes of a body.
    pub body_bytes_max: usize,
    /// Bytes of all bodies that are being read or stored, without the first 16 KiB of each.
    pub bodies_bytes_max: usize,
    /// How long a body may take.
    pub body_timeout: Duration,
}

#[derive(Debug, Clone)]
struct Port {
    config: Config,
    flow: ReceiveWebhook,
    budget: Arc<Semaphore>,
    lines: Lines,
}

/// Lines about what strangers can do.
#[derive(Debug, Clone, Default)]
struct Lines {
    handshake: Seldom,
    too_large: Seldom,
    unsigned: Seldom,
    busy: Seldom,
}

/// What the port serves.
pub fn routes(config: Config, flow: ReceiveWebhook) -> Router {
    let budget = Arc::new(Semaphore::new(config.bodies_bytes_max / UNIT_BYTES));
    Router::new().fallback(serve).with_state(Port { config, flow, budget, lines: Lines::default() })
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
    let span = semconv::http_server(method_word, "webhook", &port.config.path);
    let started = Instant::now();
    let work = async {
        match method {
            Method::GET => handshake(&port, &request),
            Method::POST => deliver(&port, request).await,
            _ => StatusCode::NOT_FOUND.into_response(),
        }
    };
    let response = work.instrument(span.clone()).await;
    semconv::http_server_ended(&span, response.status().as_u16());
    exemplified(&span, || {
        histogram!(
            names::HTTP_SERVER_REQUEST_DURATION,
            names::HTTP_METHOD => method_word,
            names::HTTP_ROUTE => "webhook",
            names::HTTP_STATUS => response.status().as_str().to_owned(),
        )
        .record(started.elapsed());
    });
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

/// Answers a right token with its challenge as plain text; everything else like a path that does not exist.
fn handshake(port: &Port, request: &Request) -> Response {
    let asked = Query::<Handshake>::try_from_uri(request.uri()).map(|Query(asked)| asked);
    // Looked up without one too, so that it takes the same time.
    let is_verified = port.flow.is_verify_token(asked.as_ref().map_or("", |asked| &asked.verify_token));
    match asked {
        Ok(Handshake { mode, challenge, .. })
            if is_verified && mode == "subscribe" && is_plain(&challenge) =>
        {
            info!("the webhook address was verified");
            let headers = [(header::CONTENT_TYPE, "text/plain"), (header::X_CONTENT_TYPE_OPTIONS, "nosniff")];
            (headers, challenge).into_response()
        }
        _ => {
            if let Some(refused) = port.lines.handshake.count() {
                warn!(refused, "a webhook handshake was refused: is the verify token right?");
            }
            StatusCode::NOT_FOUND.into_response()
        }
    }
}

/// Whether a challenge can be echoed to whatever shows it.
fn is_plain(challenge: &str) -> bool {
    (1..=CHALLENGE_CHARS_MAX).contains(&challenge.len())
        && challenge.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
}

async fn deliver(port: &Port, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let signature = parts.headers.get(SIGNATURE_HEADER).map(header::HeaderValue::as_bytes);
    // The size of a declared length; without one, what comes is counted.
    if body.size_hint().lower() > port.config.body_bytes_max as u64 {
        return closing(port.refuse(Refusal::TooLarge));
    }
    if !port.flow.may_be_signed(signature) {
        return closing(port.refuse(Refusal::Unsigned));
    }
    let (body, place) = match timeout(port.config.body_timeout, port.read(body)).await {
        Ok(Ok(read)) => read,
        Ok(Err(refusal)) => return closing(port.refuse(refusal)),
        Err(_elapsed) => return closing(port.refuse(Refusal::Timeout)),
    };
    match port.flow.receive(signature, body, place).await {
        Ok(accepted) => {
            counter!(names::WEBHOOK_ITEMS, names::OUTCOME => "new").increment(accepted.new as u64);
            counter!(names::WEBHOOK_ITEMS, names::OUTCOME => "duplicate")
                .increment(accepted.duplicates as u64);
            outcome("accepted", StatusCode::OK)
        }
        Err(Error::BadSignature) => closing(outcome("bad_signature", StatusCode::UNAUTHORIZED)),
        Err(Error::NotStored(_) | Error::State(_) | Error::Interrupted) => {
            outcome("not_stored", StatusCode::SERVICE_UNAVAILABLE)
        }
    }
}

/// Why a body was not read to its end.
#[derive(Debug, Clone, Copy)]
enum Refusal {
    /// Larger than any webhook.
    TooLarge,
    /// Without a signature that could fit a body.
    Unsigned,
    /// All large bodies together fill the budget.
    Busy,
    /// The sender went away.
    Cut,
    /// The sender takes too long.
    Timeout,
}

impl Port {
    /// The whole body and its place in the budget. The place grows with what has come, so that a sender has to send
    /// what it takes from the others.
    async fn read(&self, mut body: Body) -> Result<(Bytes, Option<OwnedSemaphorePermit>), Refusal> {
        let mut read = BytesMut::new();
        let mut place: Option<OwnedSemaphorePermit> = None;
        while let Some(frame) = body.frame().await {
            let Ok(data) = frame.map_err(|_| Refusal::Cut)?.into_data() else { continue };
            if read.len() + data.len() > self.config.body_bytes_max {
                return Err(Refusal::TooLarge);
            }
            read.extend_from_slice(&data);
            let held = place.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
            let counted = read.len().saturating_sub(FREE_BYTES).div_ceil(UNIT_BYTES);
            if let missing @ 1.. = counted - held {
                let more = u32::try_from(missing).map_err(|_| Refusal::TooLarge)?;
                let more =
                    Arc::clone(&self.budget).try_acquire_many_owned(more).map_err(|_| Refusal::Busy)?;
                match &mut place {
                    Some(place) => place.merge(more),
                    None => place = Some(more),
                }
            }
        }
        Ok((read.freeze(), place))
    }

    fn refuse(&self, refusal: Refusal) -> Response {
        match refusal {
            Refusal::TooLarge => {
                if let Some(refused) = self.lines.too_large.count() {
                    let limit = self.config.body_bytes_max;
                    warn!(limit, refused, "a webhook is too large; nothing was stored");
                }
                outcome("too_large", StatusCode::PAYLOAD_TOO_LARGE)
            }
            Refusal::Unsigned => {
                if let Some(refused) = self.lines.unsigned.count() {
                    warn!(refused, "a webhook was refused: it has no signature, so it is not from Meta");
                }
                outcome("bad_signature", StatusCode::UNAUTHORIZED)
            }
            Refusal::Busy => {
                if let Some(refused) = self.lines.busy.count() {
                    let limit = self.config.bodies_bytes_max;
                    warn!(limit, refused, "webhook.bodies_bytes_max is used up; Meta sends again");
                }
                outcome("busy", StatusCode::SERVICE_UNAVAILABLE)
            }
            Refusal::Cut => outcome("cut", StatusCode::BAD_REQUEST),
            Refusal::Timeout => outcome("timeout", StatusCode::REQUEST_TIMEOUT),
        }
    }
}

/// An answer that ends its connection: of a stranger, or one whose body was not read.
fn closing(mut response: Response) -> Response {
    response.headers_mut().insert(header::CONNECTION, header::HeaderValue::from_static("close"));
    response
}

fn outcome(word: &'static str, status: StatusCode) -> Response {
    counter!(names::WEBHOOKS, names::OUTCOME => word).increment(1);
    status.into_response()
}
