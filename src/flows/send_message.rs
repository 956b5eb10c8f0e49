//! validate → tag → Cloud API → receipt.
//!
//! From the tag on, the work runs to its end even if the caller hangs up: a message may go out at any moment after,
//! and somebody must be there to hear what became of it.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use metrics::counter;
use tracing::{Instrument, info, info_span, warn};
use uuid::Uuid;

use crate::cloud_api::messages::prepare;
use crate::cloud_api::{self, Client};
use crate::domain::caller::Caller;
use crate::domain::failure::{Failure, Reason};
use crate::domain::ids::PhoneNumberId;
use crate::domain::message::{OutboundMessage, Receipt, SendTag};
use crate::lifecycle::Shutdown;
use crate::storage::keyed_state::StateError;
use crate::telemetry::names;

use super::failed_call::failure;
use super::fallbacks::Fallbacks;
use super::numbers::{self, Numbers};
use super::window::Admitted;

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

/// What shows the outcome of a send whose answer is lost.
pub(super) const PROOF: &str = "the message may have gone out: a status event with the send tag proves it";

/// Sends messages.
#[derive(Debug, Clone)]
pub struct SendMessage {
    client: Client,
    numbers: Numbers,
    fallbacks: Fallbacks,
    shutdown: Shutdown,
}

/// A message that Meta accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sent {
    /// What Meta said.
    pub receipt: Receipt,
    /// What names the send in statuses.
    pub tag: SendTag,
    /// The number that sent it.
    pub phone_number_id: PhoneNumberId,
    /// Whether it was the template in place of the message.
    pub used_fallback: bool,
}

/// Why a message was not sent, or may not have been.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The number cannot send.
    #[error(transparent)]
    Number(#[from] numbers::Error),
    /// What must be durable before it is sent cannot be stored; nothing was sent.
    #[error("not sent: {0}")]
    NotStored(#[from] StateError),
    /// Meta refused it, could not be reached, or did not answer.
    #[error("{}", failure.message)]
    Failed {
        /// What happened.
        failure: Box<Failure>,
        /// What names the send, if it did go out.
        tag: SendTag,
    },
    /// The work ended without a result; the message may have gone out.
    #[error("the send was cut off")]
    Interrupted {
        /// What names the send, if it did go out.
        tag: SendTag,
    },
}

impl SendMessage {
    /// Sends through this client, for these numbers.
    pub fn new(client: Client, numbers: Numbers, fallbacks: Fallbacks, shutdown: Shutdown) -> Self {
        Self { client, numbers, fallbacks, shutdown }
    }

    /// The JSON of a message as it goes to Meta, without the tag that a send gets.
    pub fn preview(message: &OutboundMessage) -> String {
        cloud_api::messages::request_json(message, None)
    }

    /// Sends one message that the window admits, and waits for Meta's answer.
    pub async fn send(&self, caller: &Caller, admitted: Admitted) -> Result<Sent, Error> {
        let Admitted { message, used_fallback, fallback } = admitted;
        let access_token = self.numbers.access_token(&message.phone_number_id)?;
        let tag = new_tag();
        let phone_number_id = message.phone_number_id.clone();
        let span = info_span!(
            "send_message",
            caller = caller.name(),
            phone_number.id = %phone_number_id,
            message.kind = message.content.kind,
            send.tag = tag.as_str(),
        );
        if let Some(fallback) = &fallback {
            self.fallbacks.note(&tag, fallback).await?;
        }
        let (client, fallbacks) = (self.client.clone(), self.fallbacks.clone());
        let work = {
            let tag = tag.clone();
            async move {
                let result = client.send_message(&access_token, &prepare(&message, &tag)).await;
                record(&message.content.kind, &result);
                if result.as_ref().is_err_and(|cause| cause.verdict().reason != Reason::SendOutcomeUnknown) {
                    fallbacks.forget(&tag);
                }
                result
            }
        };
        match self.shutdown.spawn_request(work.instrument(span)).await {
            Ok(Ok(receipt)) => Ok(Sent { receipt, tag, phone_number_id, used_fallback }),
            Ok(Err(cause)) => Err(Error::Failed { failure: Box::new(failure(&cause, PROOF)), tag }),
            Err(_cut_off) => Err(Error::Interrupted { tag }),
        }
    }
}

/// Logs the outcome where it is known even when nobody waits for it any more.
pub(super) fn record(kind: &str, result: &Result<Receipt, cloud_api::Error>) {
    let outcome = match result {
        // Not with the message id: it is a phone number in base64.
        Ok(_) => {
            info!("accepted");
            "accepted"
        }
        Err(cause) => {
            let verdict = cause.verdict();
            warn!(error = %cause, reason = verdict.reason.as_str(), "not accepted");
            if cause.meta().is_some() {
                counter!(names::META_ERRORS, names::ERROR_CLASS => verdict.reason.as_str()).increment(1);
            }
            if verdict.reason == Reason::SendOutcomeUnknown {
                "unknown"
            } else if verdict.reason == Reason::UpstreamUnreachable {
                "not_sent"
            } else {
                "refused"
            }
        }
    };
    // What `raw` carries is named by the caller, so only known words may become a label.
    let kind = KINDS.iter().find(|known| **known == kind).copied().unwrap_or("other");
    counter!(names::SENDS, names::MESSAGE_TYPE => kind, names::OUTCOME => outcome).increment(1);
}

fn new_tag() -> SendTag {
    loop {
        // 16 bytes are 22 characters of base64; the loop is for the type's sake and never turns.
        if let Ok(tag) = SendTag::parse(&URL_SAFE_NO_PAD.encode(Uuid::now_v7())) {
            return tag;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_differ() {
        assert_ne!(new_tag(), new_tag());
    }
}
