//! What may be queued, and as what it is kept.

use std::time::{Duration, SystemTime};

use super::Error;
use crate::cloud_api::messages::prepare;
use crate::domain::caller::Caller;
use crate::domain::failure::FieldViolation;
use crate::domain::message::{OnUnknown, OutboundMessage, SendTag};
use crate::domain::window::IfClosed;
use crate::flows::send_message::{QueueTimes, RPC, Terms};
use crate::flows::unsettled::Request;
use crate::flows::window;
use crate::storage::sends::{QueuedSend, RequestKey};
use crate::telemetry::TraceContext;

/// How far ahead a message may be queued, and how long it may have to go out.
const AHEAD_MAX: Duration = Duration::from_hours(7 * 24);
/// How long a message may wait that does not say.
const TIME_DEFAULT: Duration = Duration::from_hours(24);
/// Bytes of a message that may be queued, in Meta's JSON.
const MESSAGE_BYTES_MAX: usize = 512 * 1024;

/// The message as it is kept.
pub(super) fn prepared(
    caller: &Caller,
    message: &OutboundMessage,
    if_closed: &IfClosed,
    terms: Terms,
    tag: &SendTag,
    now: SystemTime,
) -> Result<(Request, QueuedSend), Error> {
    let Terms { request_id, on_unknown, priority, queue, .. } = terms;
    let QueueTimes { not_before, not_after } = queue.unwrap_or_default();
    let (id, fingerprint) = request_id.ok_or_else(|| invalid("request_id", "is required to queue"))?;
    let (key, phone_number_id) = (RequestKey::of(caller, RPC, &id), Some(message.phone_number_id.clone()));
    let request = Request { key, id: id.clone(), fingerprint, phone_number_id };
    let queued = QueuedSend {
        request_id: id,
        caller: caller.clone(),
        class: priority,
        not_before,
        not_after: not_after.unwrap_or_else(|| not_before.unwrap_or(now).max(now) + TIME_DEFAULT),
        message: prepare(message, tag),
        kind: message.content.kind.clone(),
        window_policy: window::policy_of(message, if_closed.policy),
        fallback: if_closed.fallback.as_ref().map(|fallback| prepare(fallback, tag)),
        may_resend: on_unknown == OnUnknown::Resend,
        callback_data: message.callback_data.clone(),
        trace: TraceContext::current(),
    };
    Ok((request, queued))
}

/// What no message that is new may say. A repetition may, since time has passed.
pub(super) fn objection_to(queued: &QueuedSend, now: SystemTime) -> Option<FieldViolation> {
    bad_times(queued, now).or_else(|| too_large(queued))
}

fn invalid(field: &str, description: &str) -> Error {
    Error::Invalid(violation(field, description))
}

fn violation(field: &str, description: &str) -> FieldViolation {
    FieldViolation { field: field.to_owned(), description: description.to_owned() }
}

fn bad_times(queued: &QueuedSend, now: SystemTime) -> Option<FieldViolation> {
    let QueuedSend { not_before, not_after, .. } = *queued;
    let from = not_before.map_or(now, |at| at.max(now));
    if from > now + AHEAD_MAX {
        Some(violation("not_before", "must be at most 7 days ahead"))
    } else if not_after <= now {
        Some(violation("not_after", "must lie ahead"))
    } else if not_after <= from {
        Some(violation("not_after", "must be later than not_before"))
    } else if not_after > from + AHEAD_MAX {
        Some(violation("not_after", "must be at most 7 days after not_before, or after now"))
    } else {
        None
    }
}

fn too_large(queued: &QueuedSend) -> Option<FieldViolation> {
    (queued.message.json.len() > MESSAGE_BYTES_MAX).then(|| {
        violation("delivery_mode", "must not be DELIVERY_MODE_QUEUED for a message of more than 512 KiB")
    })
}

#[cfg(test)]
mod tests;
