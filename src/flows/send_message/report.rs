//! What is said of every send, whoever waits for it: a line in the log and a count.

use metrics::counter;
use tracing::{debug, info, warn};

use crate::domain::failure::Reason;
use crate::domain::message::SendTag;
use crate::storage::sends::Outcome;
use crate::telemetry::{SpanIds, names};

/// Kinds of content, for metrics.
const KINDS: [&str; 12] = [
    "text",
    "image",
    "video",
    "audio",
    "document",
    "sticker",
    "template",
    "location",
    "contacts",
    "reaction",
    "interactive",
    "pin",
];

/// Logs the outcome where it is known even when nobody waits for it any more.
pub(in crate::flows) fn report(kind: &'static str, tag: &SendTag, outcome: &Outcome) {
    let tag = tag.as_str();
    let word = match outcome {
        // Not with the message id: it is a phone number in base64.
        Outcome::Accepted(_) | Outcome::Answered(_) => {
            // The audit log has a line for each call; whoever looks at a trace finds this one.
            if SpanIds::current().is_some() {
                info!(send.tag = tag, "accepted");
            } else {
                debug!(send.tag = tag, "accepted");
            }
            "accepted"
        }
        Outcome::Unknown(failure) => {
            warn!(
                send.tag = tag,
                reason = failure.verdict.reason.as_str(),
                "nobody knows whether it went out"
            );
            "unknown"
        }
        Outcome::Refused(failure) => {
            let reason = failure.verdict.reason;
            warn!(send.tag = tag, reason = reason.as_str(), "not accepted");
            if reason == Reason::UpstreamUnreachable { "not_sent" } else { "refused" }
        }
        Outcome::Expired(_) => {
            warn!(send.tag = tag, "its time ran out");
            "not_sent"
        }
        Outcome::Queued | Outcome::Sending => return,
    };
    counter!(names::SENDS, names::MESSAGE_TYPE => kind, names::OUTCOME => word).increment(1);
}

/// What `raw` carries is named by the caller, so only known words may become a label.
pub(in crate::flows) fn kind_label(kind: &str) -> &'static str {
    KINDS.iter().find(|known| **known == kind).copied().unwrap_or("other")
}
