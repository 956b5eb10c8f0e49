//! verify → normalize → name the conversation → durable append → accepted.
//!
//! The 200 that follows an `Ok` is a promise: every item of the body is durable. Anything else makes Meta send it again.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use metrics::{counter, gauge, histogram};
use tracing::{Span, debug, error, warn};

use crate::clock::SharedClock;
use crate::cloud_api::normalize::{TracedStatus, traced_status};
use crate::cloud_api::{normalize, signature};
use crate::domain::event::{Event, Payload};
use crate::domain::failure::Reason;
use crate::domain::message::SendTag;
use crate::lifecycle::Shutdown;
use crate::storage::event_log::{AppendError, Appended, EventLog, Item};
use crate::storage::events;
use crate::storage::keyed_state::StateError;
use crate::telemetry::{self, Seldom, TraceContext, names, semconv};

use super::identities::Identities;
use super::numbers::Numbers;
use super::send_traces::SendTraces;

/// Bytes of a body from which on reading it is work for a thread of its own.
const LARGE_BODY_BYTES: usize = 64 * 1024;

/// Takes webhooks in.
#[derive(Debug, Clone)]
pub struct ReceiveWebhook {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    log: Arc<dyn EventLog>,
    identities: Arc<Identities>,
    numbers: Numbers,
    traces: SendTraces,
    clock: SharedClock,
    shutdown: Shutdown,
    forgeries: Seldom,
}

/// What became of a webhook that was accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Accepted {
    /// Events that are new.
    pub new: usize,
    /// Events that were known already.
    pub duplicates: usize,
}

/// Why a webhook was not accepted.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The signature is missing, malformed or wrong. Nothing was stored, and sending it again is useless.
    #[error("the signature does not match")]
    BadSignature,
    /// It could not be made durable; sending it again is right.
    #[error("not stored: {0}")]
    NotStored(#[from] AppendError),
    /// The state could not be read; sending it again is right.
    #[error("not stored: {0}")]
    State(#[from] StateError),
    /// The work was cut off by the end of the process; sending it again is right.
    #[error("not stored: the gateway is shutting down")]
    Interrupted,
}

impl ReceiveWebhook {
    /// Takes webhooks into this log.
    pub fn new(
        log: Arc<dyn EventLog>,
        identities: Arc<Identities>,
        numbers: Numbers,
        traces: SendTraces,
        clock: SharedClock,
        shutdown: Shutdown,
    ) -> Self {
        Self {
            inner: Arc::new(Inner {
                log,
                identities,
                numbers,
                traces,
                clock,
                shutdown,
                forgeries: Seldom::default(),
            }),
        }
    }

    /// Whether the handshake presents the verify token of an app.
    pub fn is_verify_token(&self, candidate: &str) -> bool {
        self.inner.numbers.is_verify_token(candidate)
    }

    /// Whether a body with this signature is worth reading: a signature without the form of one fits no body.
    pub fn may_be_signed(&self, signature: Option<&[u8]>) -> bool {
        signature::has_form(signature)
    }

    /// Verifies and stores one body. Once verified, it is stored even if the sender hangs up. `place` is what the body
    /// takes of a budget; it is given back when nothing holds the body any more.
    pub async fn receive(
        &self,
        signature: Option<&[u8]>,
        body: Bytes,
        place: impl Send + 'static,
    ) -> Result<Accepted, Error> {
        if let Err(rejection) = self.inner.numbers.verify_signature(signature, &body) {
            if let Some(refused) = self.inner.forgeries.count() {
                let reason = rejection.as_str();
                warn!(reason, refused, "a webhook was refused: is the app secret right?");
            }
            return Err(Error::BadSignature);
        }
        let inner = Arc::clone(&self.inner);
        let work = async move {
            let stored = inner.store(body).await;
            drop(place);
            stored
        };
        self.inner.shutdown.keep(work).await.unwrap_or(Err(Error::Interrupted))
    }
}

/// What the metrics show of an item, if it is new.
struct Told {
    event_time: Option<SystemTime>,
    errors: Vec<Reason>,
    is_unknown: bool,
}

impl Told {
    fn by(event: &Event) -> Self {
        let errors = event.verdicts.iter().map(|verdict| verdict.reason).collect();
        let is_unknown = matches!(event.payload, Payload::Unknown { .. });
        Self { event_time: event.event_time, errors, is_unknown }
    }

    /// Counts it, durable since `now`.
    fn count(self, now: SystemTime) {
        if let Some(time) = self.event_time {
            // Meta's clock may be ahead of ours.
            histogram!(names::WEBHOOK_LAG).record(now.duration_since(time).unwrap_or_default());
        }
        for reason in self.errors {
            counter!(names::WEBHOOK_ERRORS, names::ERROR_CLASS => reason.as_str()).increment(1);
        }
        if self.is_unknown {
            counter!(names::WEBHOOK_UNKNOWN_ITEMS).increment(1);
        }
    }
}

/// Does work at once, or on a thread for it when it would hold up everybody else.
async fn aside<T: Send + 'static>(
    is_large: bool,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Error> {
    if !is_large {
        return Ok(work());
    }
    tokio::task::spawn_blocking(work).await.map_err(|_| Error::Interrupted)
}

impl Inner {
    async fn store(&self, body: Bytes) -> Result<Accepted, Error> {
        let (is_large, received) = (body.len() > LARGE_BODY_BYTES, self.clock.now());
        let mut events = aside(is_large, move || normalize::normalize(&body, received)).await?;
        self.identities.assign(&mut events).await?;
        let spans = self.status_spans(&events).await;
        let told: Vec<_> = events.iter().map(Told::by).collect();
        let traceparent = telemetry::current_traceparent(None).unwrap_or_default();
        let own = spans.iter().map(|span| TraceContext::of_span(span.as_ref()?).map(|of| of.traceparent()));
        let own: Vec<Option<String>> = own.collect();
        let encode = move || {
            let items = events.iter().enumerate().map(|(at, event)| {
                let own = own.get(at).and_then(Option::as_deref);
                events::item(event, own.unwrap_or(&traceparent))
            });
            items.collect()
        };
        let items: Vec<Item> = aside(is_large, encode).await?;
        let appended = self.log.append(items).await.inspect_err(|cause| match cause {
            AppendError::Failed => error!("the event log failed; the webhook is not acknowledged"),
            AppendError::Refused(_) | AppendError::Busy | AppendError::TooLarge { .. } => {
                warn!(error = %cause, "a webhook was not stored; Meta sends it again");
            }
        })?;
        let is_new = |appended: &Appended| matches!(appended, Appended::New(_));
        drop(spans);
        let now = self.clock.now();
        for (told, _) in told.into_iter().zip(&appended).filter(|(_, appended)| is_new(appended)) {
            told.count(now);
        }
        let new = appended.iter().filter(|appended| is_new(appended)).count();
        let since_1970 = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        gauge!(names::WEBHOOK_LAST_ACCEPTED).set(since_1970.as_secs_f64());
        debug!(events = appended.len(), new, "a webhook was stored");
        Ok(Accepted { new, duplicates: appended.len() - new })
    }

    /// A span for each status of a send whose trace is exported, beside the events; empty if there is none.
    async fn status_spans(&self, events: &[Event]) -> Vec<Option<Span>> {
        if TraceContext::current().is_none() {
            return Vec::new();
        }
        let status = |(at, event)| Some((at, event, traced_status(event)?));
        let statuses: Vec<(usize, &Event, TracedStatus)> =
            events.iter().enumerate().filter_map(status).collect();
        if statuses.is_empty() {
            return Vec::new();
        }
        let tags: Vec<SendTag> = statuses.iter().map(|(_, _, status)| status.tag.clone()).collect();
        let mut spans = vec![None; events.len()];
        for ((at, event, status), origin) in statuses.into_iter().zip(self.traces.of(&tags).await) {
            if let (Some(origin), Some(place)) = (origin, spans.get_mut(at)) {
                let number = &event.attributes.phone_number_id;
                *place = Some(semconv::status_event(&status.status, number, &origin));
            }
        }
        spans
    }
}
