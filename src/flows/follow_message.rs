//! What became of a message: asked once, or watched until it is where the caller wants it.

use std::sync::Arc;
use std::time::Duration;

use metrics::{counter, gauge};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep_until};
use tracing::warn;

use crate::cloud_api::error_code::async_verdict;
use crate::domain::event::MessageError;
use crate::domain::failure::Verdict;
use crate::domain::ids::{MessageId, PhoneNumberId};
use crate::domain::message::SendTag;
use crate::domain::message_state::{MessageLife, MessageState};
use crate::lifecycle::Shutdown;
use crate::storage::keyed_state::StateError;
use crate::storage::projections::{MessageName, Projections};
use crate::telemetry::names;

use super::news::Subscription;

pub use super::news::MessageNews;

/// What is known of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownMessage {
    /// The business number that sent it.
    pub phone_number_id: PhoneNumberId,
    /// Meta's id.
    pub message_id: MessageId,
    /// The send that it came of; `None` for messages that another application sent.
    pub send_tag: Option<SendTag>,
    /// Its conversation; empty while nothing is known.
    pub conversation_key: String,
    /// How far it has come.
    pub life: MessageLife,
}

impl KnownMessage {
    /// Why it failed and what that means; `None` unless it is [`MessageState::Failed`].
    pub fn failure(&self) -> Option<(&MessageError, Verdict)> {
        let (state, _) = self.life.state()?;
        let error = self.life.error().filter(|_| state == MessageState::Failed)?;
        Some((error, async_verdict(error.code)))
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
    /// Nothing is known of it.
    #[error(
        "nothing is known of message {message_id} of number {phone_number_id}: its first status may be on its way \
         (WatchMessage waits for it), the number did not send it, or its last status is more than 35 days old"
    )]
    NotFound {
        /// The number that was asked about.
        phone_number_id: PhoneNumberId,
        /// The message that was asked about.
        message_id: String,
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
            Self::NotFound { .. } => "not_found",
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
    news: MessageNews,
    limits: Limits,
    places: Arc<Semaphore>,
    shutdown: Shutdown,
}

impl FollowMessage {
    /// Reads these projections, whose writer tells `news`.
    pub fn new(projections: Projections, news: MessageNews, limits: Limits, shutdown: Shutdown) -> Self {
        let places = Arc::new(Semaphore::new(limits.watches_max));
        Self { projections, news, limits, places, shutdown }
    }

    /// What is known of a message now.
    pub async fn get(&self, number: &PhoneNumberId, message: &MessageId) -> Result<KnownMessage, Error> {
        self.read(number, message).await?.ok_or_else(|| Error::NotFound {
            phone_number_id: number.clone(),
            message_id: message.as_str().to_owned(),
        })
    }

    /// Watches a message until it is `until` or further, or until nothing more will come. One of which nothing is known
    /// yet is waited for.
    pub fn watch(
        &self,
        number: PhoneNumberId,
        message: MessageId,
        until: MessageState,
    ) -> Result<Watch, Error> {
        if self.shutdown.drain().is_cancelled() {
            return Err(Error::Draining);
        }
        let place = Arc::clone(&self.places).try_acquire_owned();
        let place = place.map_err(|_| Error::TooManyWatches { watches_max: self.limits.watches_max })?;
        gauge!(names::MESSAGE_WATCHES).increment(1.0);
        let news = self.news.subscribe(name(&number, &message));
        let rotate_at = Instant::now() + self.limits.rotation;
        let flow = self.clone();
        Ok(Watch { flow, number, message, until, news, rotate_at, said: None, end: None, _place: place })
    }

    async fn read(
        &self,
        number: &PhoneNumberId,
        message: &MessageId,
    ) -> Result<Option<KnownMessage>, StateError> {
        let record = self.projections.messages(&[name(number, message)]).await?.pop().flatten();
        Ok(record.map(|record| KnownMessage {
            phone_number_id: number.clone(),
            message_id: message.clone(),
            send_tag: record.send_tag,
            conversation_key: record.conversation_key,
            life: record.life,
        }))
    }
}

fn name(number: &PhoneNumberId, message: &MessageId) -> MessageName {
    (number.as_str().to_owned(), message.as_str().to_owned())
}

/// One watch. Nothing is queued for it: whoever reads late is told the latest, with all times.
#[derive(Debug)]
pub struct Watch {
    flow: FollowMessage,
    number: PhoneNumberId,
    message: MessageId,
    until: MessageState,
    news: Subscription<MessageName>,
    rotate_at: Instant,
    said: Option<KnownMessage>,
    /// Why it is over, in a word.
    end: Option<&'static str>,
    _place: OwnedSemaphorePermit,
}

impl Watch {
    /// First what is known now, then every change; `None` after the last, and after an error.
    pub async fn next(&mut self) -> Option<Result<KnownMessage, Error>> {
        if self.end.is_some() {
            return None;
        }
        let next = self.change().await;
        match &next {
            Ok(known) => {
                let state = known.life.state().map(|(state, _)| state);
                self.end = match state {
                    Some(MessageState::Failed) => Some("failed"),
                    Some(state) if state.ends_wait_for(self.until) => Some("reached"),
                    Some(_) | None => None,
                };
                self.said = Some(known.clone());
            }
            Err(error) => {
                if let Error::Unreadable(cause) = error {
                    warn!(%cause, "a watch ends because the state cannot be read");
                }
                self.end = Some(error.word());
            }
        }
        Some(next)
    }

    async fn change(&mut self) -> Result<KnownMessage, Error> {
        loop {
            if self.said.is_some() {
                tokio::select! {
                    biased;
                    () = self.flow.shutdown.drain().cancelled() => return Err(Error::Draining),
                    () = sleep_until(self.rotate_at) => return Err(Error::Rotated),
                    () = self.news.wait() => {}
                }
            }
            match self.flow.read(&self.number, &self.message).await? {
                Some(known) if self.said.as_ref() != Some(&known) => return Ok(known),
                None if self.said.is_none() => return Ok(self.nothing()),
                // A record whose time is over says nothing new.
                Some(_) | None => {}
            }
        }
    }

    fn nothing(&self) -> KnownMessage {
        KnownMessage {
            phone_number_id: self.number.clone(),
            message_id: self.message.clone(),
            send_tag: None,
            conversation_key: String::new(),
            life: MessageLife::default(),
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        gauge!(names::MESSAGE_WATCHES).decrement(1.0);
        counter!(names::MESSAGE_WATCHES_CLOSED, names::REASON => self.end.unwrap_or("left")).increment(1);
    }
}
