//! One watch: what is known first, then every change.

use metrics::{counter, gauge};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, sleep_until};
use tracing::warn;

use super::{Error, FollowMessage, KnownMessage, Meant, MeantRequest, name};
use crate::domain::message_state::MessageState;
use crate::flows::news::Subscription;
use crate::flows::unsettled::Became;
use crate::storage::keyed_state::StateError;
use crate::storage::projections::MessageName;
use crate::storage::sends::{Outcome, RequestKey};
use crate::telemetry::names;

/// One watch. Nothing is queued for it: whoever reads late is told the latest, with all times.
#[derive(Debug)]
pub struct Watch {
    flow: FollowMessage,
    meant: Meant,
    until: MessageState,
    /// Until the send is accepted.
    of_request: Option<Subscription<RequestKey>>,
    /// As soon as the message is known.
    of_message: Option<Subscription<MessageName>>,
    /// The send, once it is accepted: from then on nothing changes but the message.
    accepted: Option<Became>,
    rotate_at: Instant,
    said: Option<KnownMessage>,
    /// Why it is over, in a word.
    end: Option<&'static str>,
    _place: OwnedSemaphorePermit,
}

impl Watch {
    pub(super) fn new(
        flow: FollowMessage,
        meant: Meant,
        until: MessageState,
        place: OwnedSemaphorePermit,
    ) -> Self {
        let rotate_at = Instant::now() + flow.limits.rotation;
        let (of_request, of_message) = match &meant {
            Meant::Message(number, message) => (None, Some(flow.news.subscribe(name(number, message)))),
            Meant::Request(request) => (Some(flow.unsettled.listen(request.key)), None),
        };
        let (accepted, said, end) = (None, None, None);
        Self { flow, meant, until, of_request, of_message, accepted, rotate_at, said, end, _place: place }
    }

    /// First what is known now, then every change; `None` after the last, and after an error.
    pub async fn next(&mut self) -> Option<Result<KnownMessage, Error>> {
        if self.end.is_some() {
            return None;
        }
        let next = self.change().await;
        match &next {
            Ok(known) => {
                use MessageState as S;
                let state = known.life.state().map(|(state, _)| state);
                self.end = match state {
                    Some(S::Failed | S::Refused | S::Expired) => Some("failed"),
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
                    () = news(&mut self.of_request) => {}
                    () = news(&mut self.of_message) => {}
                }
            }
            match self.read().await? {
                Some(known) if self.said.as_ref() != Some(&known) => return Ok(known),
                None if self.said.is_none() => return Ok(KnownMessage::nothing(&self.meant)),
                // A record whose time is over says nothing new.
                Some(_) | None => {}
            }
        }
    }

    async fn read(&mut self) -> Result<Option<KnownMessage>, Error> {
        match self.meant.clone() {
            Meant::Message(number, message) => Ok(self.flow.message(&number, &message).await?),
            Meant::Request(request) => self.read_request(&request).await,
        }
    }

    async fn read_request(&mut self, request: &MeantRequest) -> Result<Option<KnownMessage>, Error> {
        if self.accepted.is_none() {
            let Some(became) = self.flow.request(request).await? else { return Ok(None) };
            if !matches!(became.outcome, Outcome::Accepted(_)) {
                return Ok(Some(self.flow.since_request(&became).await?));
            }
            self.turn_to_message(became);
        }
        let known: Result<_, StateError> = match &self.accepted {
            Some(became) => self.flow.since_request(became).await.map(Some),
            None => Ok(None),
        };
        Ok(known?)
    }

    /// Before anything is read of the message, or what comes in between would be missed.
    fn turn_to_message(&mut self, became: Became) {
        if let (Some(number), Outcome::Accepted(receipt)) = (&became.phone_number_id, &became.outcome) {
            self.of_message = Some(self.flow.news.subscribe(name(number, &receipt.message_id)));
        }
        self.of_request = None;
        self.accepted = Some(became);
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        gauge!(names::MESSAGE_WATCHES).decrement(1.0);
        counter!(names::MESSAGE_WATCHES_CLOSED, names::REASON => self.end.unwrap_or("left")).increment(1);
    }
}

/// Waits for news; for ever where there are none to come.
async fn news<K: Clone + Eq + std::hash::Hash>(subscription: &mut Option<Subscription<K>>) {
    match subscription {
        Some(subscription) => subscription.wait().await,
        None => std::future::pending().await,
    }
}
