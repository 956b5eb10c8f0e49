//! What became of a message: asked once, or watched until it is where the caller wants it.

mod watch;

use std::sync::Arc;
use std::time::Duration;

use metrics::gauge;
use tokio::sync::Semaphore;

use crate::cloud_api::error_code::async_verdict;
use crate::domain::caller::Caller;
use crate::domain::event::MessageError;
use crate::domain::failure::{Failure, Verdict};
use crate::domain::ids::{MessageId, PhoneNumberId};
use crate::domain::message::{MessageAcceptance, Receipt, SendTag};
use crate::domain::message_state::{MessageLife, MessageState};
use crate::domain::quoted::Quoted;
use crate::lifecycle::Shutdown;
use crate::storage::keyed_state::StateError;
use crate::storage::projections::{MessageName, Projections};
use crate::storage::sends::{Outcome, RequestKey};
use crate::telemetry::names;

use super::send_message;
use super::unsettled::{Became, Unsettled};

pub use super::news::MessageNews;
pub use watch::Watch;

/// The message that is meant.
#[derive(Debug, Clone)]
pub enum Meant {
    /// That of a number, by Meta's id.
    Message(PhoneNumberId, MessageId),
    /// That of a send under an id.
    Request(MeantRequest),
}

/// A send that is meant.
#[derive(Debug, Clone)]
pub struct MeantRequest {
    key: RequestKey,
    id: String,
    phone_number_id: Option<PhoneNumberId>,
}

impl MeantRequest {
    /// What this caller sent under this id; only by this number, if one is named.
    pub fn new(caller: &Caller, id: String, phone_number_id: Option<PhoneNumberId>) -> Self {
        Self { key: RequestKey::of(caller, send_message::RPC, &id), id, phone_number_id }
    }
}

/// What is known of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownMessage {
    /// The business number that sends it; `None` while nothing is known of a request.
    pub phone_number_id: Option<PhoneNumberId>,
    /// Meta's id; `None` while it is not known.
    pub message_id: Option<MessageId>,
    /// The send that it came of; `None` for messages that another application sent.
    pub send_tag: Option<SendTag>,
    /// Its conversation; empty while nothing is known.
    pub conversation_key: String,
    /// How far it has come.
    pub life: MessageLife,
    /// Why the send was refused.
    pub refusal: Option<Failure>,
}

/// Why a message did not arrive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhyNot<'a> {
    /// The send was refused.
    Refused(&'a Failure),
    /// Meta accepted it and failed it later.
    Failed(&'a MessageError, Verdict),
}

impl KnownMessage {
    fn nothing(meant: &Meant) -> Self {
        let (phone_number_id, message_id) = match meant {
            Meant::Message(number, message) => (Some(number.clone()), Some(message.clone())),
            Meant::Request(_) => (None, None),
        };
        let (conversation_key, life) = (String::new(), MessageLife::default());
        Self { phone_number_id, message_id, send_tag: None, conversation_key, life, refusal: None }
    }

    /// Why it did not arrive and what that means; `None` unless it is [`MessageState::Refused`] or
    /// [`MessageState::Failed`].
    pub fn why_not(&self) -> Option<WhyNot<'_>> {
        let state = self.life.state()?.0;
        let is_over = matches!(state, MessageState::Refused | MessageState::Expired);
        let refused = self.refusal.as_ref().filter(|_| is_over);
        let failed = self.life.error().filter(|_| state == MessageState::Failed);
        let failed = failed.map(|error| WhyNot::Failed(error, async_verdict(error.code)));
        refused.map(WhyNot::Refused).or(failed)
    }
}

/// Limits of all watches.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Watches open at once.
    pub watches_max: usize,
    /// How long a watch lives.
    pub rotation: Duration,
}

/// Why a message cannot be told of, or not any longer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nothing is known of it. Its id is not repeated: the recipient's number is in it.
    #[error(
        "nothing is known of this message of number {phone_number_id}: its first status may be on its way \
         (WatchMessage waits for it), the number did not send it, or its last status is more than 35 days old"
    )]
    NotFound {
        /// The number that was asked about.
        phone_number_id: PhoneNumberId,
    },
    /// Nothing was sent under the id.
    #[error(
        "nothing was sent under the request_id {} by this caller, or its time (sending.request_id_kept) is over",
        Quoted(request_id)
    )]
    RequestNotFound {
        /// The id that was asked about.
        request_id: String,
    },
    /// What was sent under the id was sent by another number.
    #[error(
        "what was sent under the request_id {} was not sent by number {phone_number_id}",
        Quoted(request_id)
    )]
    OtherNumber {
        /// The id that was asked about.
        request_id: String,
        /// The number that was asked about.
        phone_number_id: PhoneNumberId,
    },
    /// No place for another watch.
    #[error("{watches_max} watches are open already")]
    TooManyWatches {
        /// How many may be open.
        watches_max: usize,
    },
    /// The gateway is shutting down.
    #[error("the gateway is shutting down")]
    Draining,
    /// The watch has lived its time.
    #[error("the watch has lived its time; open it again")]
    Rotated,
    /// The state cannot be read.
    #[error(transparent)]
    Unreadable(#[from] StateError),
}

impl Error {
    /// A word for metrics.
    fn word(&self) -> &'static str {
        match self {
            Self::NotFound { .. } | Self::RequestNotFound { .. } | Self::OtherNumber { .. } => "not_found",
            Self::TooManyWatches { .. } => "too_many",
            Self::Draining => "draining",
            Self::Rotated => "rotated",
            Self::Unreadable(_) => "unreadable",
        }
    }
}

/// Tells what became of messages.
#[derive(Debug, Clone)]
pub struct FollowMessage {
    projections: Projections,
    unsettled: Unsettled,
    news: MessageNews,
    limits: Limits,
    places: Arc<Semaphore>,
    shutdown: Shutdown,
}

impl FollowMessage {
    /// Reads these projections, whose writer tells `news`, and these sends.
    pub fn new(
        projections: Projections,
        unsettled: Unsettled,
        news: MessageNews,
        limits: Limits,
        shutdown: Shutdown,
    ) -> Self {
        let places = Arc::new(Semaphore::new(limits.watches_max));
        Self { projections, unsettled, news, limits, places, shutdown }
    }

    /// What is known of a message now.
    pub async fn get(&self, meant: &Meant) -> Result<KnownMessage, Error> {
        match meant {
            Meant::Message(number, message) => self
                .message(number, message)
                .await?
                .ok_or_else(|| Error::NotFound { phone_number_id: number.clone() }),
            Meant::Request(request) => match self.request(request).await? {
                Some(became) => Ok(self.since_request(&became).await?),
                None => Err(Error::RequestNotFound { request_id: request.id.clone() }),
            },
        }
    }

    /// Watches a message until it is `until` or further, or until nothing more will come. One of which nothing is known
    /// yet is waited for.
    pub fn watch(&self, meant: Meant, until: MessageState) -> Result<Watch, Error> {
        if self.shutdown.drain().is_cancelled() {
            return Err(Error::Draining);
        }
        let place = Arc::clone(&self.places).try_acquire_owned();
        let place = place.map_err(|_| Error::TooManyWatches { watches_max: self.limits.watches_max })?;
        gauge!(names::MESSAGE_WATCHES).increment(1.0);
        Ok(Watch::new(self.clone(), meant, until, place))
    }

    /// By Meta's id: what its statuses say; before the first, what Meta said when it took the message.
    async fn message(
        &self,
        number: &PhoneNumberId,
        message: &MessageId,
    ) -> Result<Option<KnownMessage>, StateError> {
        let name = name(number, message);
        let nothing = KnownMessage::nothing(&Meant::Message(number.clone(), message.clone()));
        if let Some(record) = self.projections.messages(std::slice::from_ref(&name)).await?.pop().flatten() {
            let send_tag = record.send_tag;
            let (conversation_key, life) = (record.conversation_key, record.life);
            return Ok(Some(KnownMessage { send_tag, conversation_key, life, ..nothing }));
        }
        let accepted = self.unsettled.lately_accepted(&name);
        Ok(accepted.map(|(tag, receipt)| KnownMessage {
            send_tag: Some(tag),
            life: accepted_life(&receipt),
            ..nothing
        }))
    }

    /// What became of a request, if it is that of the number that is meant.
    async fn request(&self, request: &MeantRequest) -> Result<Option<Became>, Error> {
        let became = self.unsettled.what_became_of(&request.key).await?;
        let sent_by = became.as_ref().and_then(|became| became.phone_number_id.as_ref());
        match (&request.phone_number_id, sent_by) {
            (Some(meant), Some(sent_by)) if meant != sent_by => {
                Err(Error::OtherNumber { request_id: request.id.clone(), phone_number_id: meant.clone() })
            }
            _ => Ok(became),
        }
    }

    /// By request id: what the send says of itself, and once it has a message, all that is said of that.
    async fn since_request(&self, became: &Became) -> Result<KnownMessage, StateError> {
        let Became { tag, phone_number_id, created, is_queued, outcome, since } = became;
        let first = if *is_queued { MessageState::Queued } else { MessageState::Sending };
        let sending = MessageLife::at(first, *created, None);
        let known = KnownMessage {
            phone_number_id: phone_number_id.clone(),
            message_id: None,
            send_tag: Some(tag.clone()),
            conversation_key: String::new(),
            life: sending.clone(),
            refusal: None,
        };
        let at = |state| sending.clone().merge(MessageLife::at(state, *since, None));
        Ok(match outcome {
            Outcome::Queued => known,
            Outcome::Sending => KnownMessage { life: at(MessageState::Sending), ..known },
            Outcome::Refused(failure) => {
                KnownMessage { life: at(MessageState::Refused), refusal: Some(failure.clone()), ..known }
            }
            Outcome::Expired(failure) => {
                KnownMessage { life: at(MessageState::Expired), refusal: Some(failure.clone()), ..known }
            }
            Outcome::Unknown(_) | Outcome::Answered(_) => {
                KnownMessage { life: at(MessageState::Unknown), ..known }
            }
            Outcome::Accepted(receipt) => {
                let life = sending.merge(accepted_life(receipt));
                let message_id = Some(receipt.message_id.clone());
                let reported = match phone_number_id {
                    Some(number) => self.message(number, &receipt.message_id).await?,
                    None => None,
                };
                match reported {
                    Some(reported) => KnownMessage {
                        life: life.merge(reported.life),
                        send_tag: Some(tag.clone()),
                        ..reported
                    },
                    None => KnownMessage { message_id, life, ..known },
                }
            }
        })
    }
}

fn accepted_life(receipt: &Receipt) -> MessageLife {
    let state = match receipt.acceptance {
        MessageAcceptance::Accepted => MessageState::Accepted,
        MessageAcceptance::HeldForQualityAssessment | MessageAcceptance::Paused => MessageState::Held,
    };
    MessageLife::at(state, receipt.accept_time, None)
}

fn name(number: &PhoneNumberId, message: &MessageId) -> MessageName {
    (number.as_str().to_owned(), message.as_str().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_found_is_repeated_only_if_it_is_a_word() {
        let phone_number_id = PhoneNumberId::parse("106540352242922").unwrap();
        let of_request = |id: &str| Error::RequestNotFound { request_id: id.to_owned() }.to_string();
        assert!(of_request("order-42").contains("request_id \"order-42\" by"), "{}", of_request("order-42"));
        let private = "call +15558675309";
        let other = Error::OtherNumber { request_id: private.to_owned(), phone_number_id };
        for text in [of_request(private), other.to_string()] {
            assert!(text.contains("<a text of 17 bytes>") && !text.contains(private), "{text}");
        }
    }
}
