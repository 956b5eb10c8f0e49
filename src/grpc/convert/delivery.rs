//! How, when and under which id a message is to be sent.

use std::time::SystemTime;

use prost_types::Timestamp;
use tokio::time::Instant;

use super::{Violations, time};
use crate::contract::{self, v1};
use crate::domain::message::OnUnknown;
use crate::domain::schedule::Class as Priority;
use crate::flows::send_message::{QueueTimes, Terms};

/// How a request came.
#[derive(Debug, Clone, Copy)]
pub(in crate::grpc) struct Asked {
    /// Until when its caller waits.
    pub(in crate::grpc) deadline: Option<Instant>,
    /// The priority of one that names none.
    pub(in crate::grpc) usual: Priority,
}

/// Checks what queued messages need, and what only they may have.
pub(super) fn check(request: &v1::SendMessageRequest, found: &mut Violations) {
    let times = [("not_before", request.not_before), ("not_after", request.not_after)];
    let times = times.into_iter().filter_map(|(name, given)| Some((name, given?)));
    if request.delivery_mode() == v1::DeliveryMode::Queued {
        if request.request_id.is_empty() {
            let remedy = "is required with DELIVERY_MODE_QUEUED: by it you ask what became of the message";
            found.add("request_id", remedy);
        }
        for (name, given) in times {
            time(name, given, found);
        }
    } else {
        for (name, _) in times {
            found.add(name, "must be absent unless delivery_mode is DELIVERY_MODE_QUEUED");
        }
    }
}

/// How a message is to be sent.
pub(in crate::grpc) fn terms(request: &v1::SendMessageRequest, asked: Asked) -> Terms {
    let request_id = (!request.request_id.is_empty())
        .then(|| (request.request_id.clone(), contract::fingerprint::of_send(request)));
    let on_unknown = match request.on_unknown() {
        v1::OnUnknown::Resend => OnUnknown::Resend,
        v1::OnUnknown::Unspecified | v1::OnUnknown::Report => OnUnknown::Report,
    };
    // Valid, or there is a violation.
    let time = |given: Option<Timestamp>| given.and_then(|given| SystemTime::try_from(given).ok());
    let queue = (request.delivery_mode() == v1::DeliveryMode::Queued)
        .then(|| QueueTimes { not_before: time(request.not_before), not_after: time(request.not_after) });
    let priority = match request.priority() {
        v1::Priority::Unspecified => asked.usual,
        v1::Priority::Urgent => Priority::Urgent,
        v1::Priority::Normal => Priority::Normal,
        v1::Priority::Bulk => Priority::Bulk,
    };
    Terms { request_id, on_unknown, priority, deadline: asked.deadline, queue }
}
