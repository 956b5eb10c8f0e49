//! Events of what the gateway did by itself.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use sha2::{Digest, Sha256};
use tokio::time::sleep;
use tracing::warn;

use crate::domain::conversation::UserIdentity;
use crate::domain::event::{Event, EventAttributes, EventId, Origin, Payload};
use crate::lifecycle::Shutdown;
use crate::storage::event_log::{AppendError, EventLog};
use crate::storage::events;

/// Between two tries of what the store does not take; doubles up to the second.
const RETRY_DELAY_MIN: Duration = Duration::from_secs(1);
const RETRY_DELAY_MAX: Duration = Duration::from_mins(1);

/// What an event of the gateway's own is about.
#[derive(Debug)]
pub(super) struct About {
    pub(super) attributes: EventAttributes,
    pub(super) subject: String,
    pub(super) payload: Payload,
}

/// An event of the gateway's own. Its id comes from its type and this key, so that a repetition adds nothing.
pub(super) fn gateway_event(key: &str, now: SystemTime, about: About) -> Event {
    let About { attributes, subject, payload } = about;
    let mut id = [0; 16];
    let hash = Sha256::digest(format!("{}\0{key}", attributes.event_type));
    id.iter_mut().zip(hash).for_each(|(to, from)| *to = from);
    Event {
        id: EventId(id),
        attributes,
        subject,
        event_time: Some(now),
        receive_time: now,
        origin: Origin::default(),
        payload,
        user: UserIdentity::default(),
        verdicts: Vec::new(),
        raw_json: String::new(),
        change_json: Arc::from(""),
    }
}

/// Appends an event, with this trace context or an empty one, as soon as the log takes it. False if the process ends before, or the log never will.
pub(super) async fn append(
    log: &dyn EventLog,
    event: &Event,
    traceparent: &str,
    shutdown: &Shutdown,
) -> bool {
    let mut delay = RETRY_DELAY_MIN;
    while let Err(error) = log.append(vec![events::item(event, traceparent)]).await {
        warn!(%error, "what the gateway did is not stored yet");
        if matches!(error, AppendError::Failed | AppendError::TooLarge { .. }) {
            return false;
        }
        if shutdown.drain().run_until_cancelled(sleep(delay)).await.is_none() {
            return false;
        }
        delay = (delay * 2).min(RETRY_DELAY_MAX);
    }
    true
}
