//! Sends whose outcome nobody knows go out again after a silence, if their callers want that.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};
use tracing::{Instrument, info, info_span, warn};

use super::attempt::{attempt, feedback};
use super::{SendMessage, TIME_MAX};
use crate::domain::caller::Caller;
use crate::domain::failure::Failure;
use crate::domain::schedule::Class;
use crate::flows::lanes::Wish;
use crate::flows::unsettled::Flight;
use crate::storage::sends::Outcome;

/// Between two looks at what is due.
const INTERVAL: Duration = Duration::from_secs(1);
/// Sends that go out again at once: what an outage has gathered must not become a burst.
const AT_ONCE_MAX: usize = 20;

impl SendMessage {
    /// Looks after what is unsettled until the process ends.
    pub async fn run(self: Arc<Self>) {
        while self.shutdown.drain().run_until_cancelled(sleep(INTERVAL)).await.is_some() {
            self.unsettled.round().await;
            for flight in self.unsettled.silent_for(self.resend_after, AT_ONCE_MAX) {
                let (this, tag) = (Arc::clone(&self), flight.slot().tag.clone());
                let span = info_span!(parent: None, "resend_message", send.tag = tag.as_str());
                self.shutdown.spawn_alone(async move {
                    this.traces.link(&span, &tag).await;
                    this.resend(flight).instrument(span).await;
                });
            }
        }
    }

    /// One more attempt, when it has its turn. A flight that is dropped here leaves the send as unknown as it was.
    async fn resend(&self, flight: Flight) {
        let message = match flight.message_to_resend().await {
            Ok(Some(message)) => message,
            Ok(None) => return,
            Err(error) => return warn!(%error, "not sent again, since the message cannot be read"),
        };
        let wish = Wish::of(&message, Caller::gateway(), Class::Normal, Some(Instant::now() + TIME_MAX));
        let turn = tokio::select! {
            biased;
            turn = self.lanes.turn(wish) => turn,
            () = self.shutdown.drain().cancelled() => return,
        };
        let Ok(turn) = turn else { return };
        // Before it is counted: a number that is not configured uses up no attempt.
        let access_token = match self.numbers.access_token(&message.phone_number_id) {
            Ok(access_token) => access_token,
            Err(error) => return warn!(%error, "not sent again"),
        };
        let message = match flight.count_resend().await {
            Ok(Some(message)) => message,
            Ok(None) => return,
            Err(error) => return warn!(%error, "not sent again, since that cannot be stored"),
        };
        let outcome = attempt((&self.client, &access_token), &self.number_watch, &message, &turn).await;
        turn.done(feedback(&outcome));
        self.windows.hear(&message, &outcome);
        match &outcome {
            Outcome::Accepted(_) => info!("sent again and accepted"),
            Outcome::Refused(failure)
                if is_about_the_moment(failure)
                    || self.number_watch.refusal(&message.phone_number_id).is_some() =>
            {
                flight.uncount_resend();
            }
            Outcome::Refused(failure) => {
                warn!(reason = failure.verdict.reason.as_str(), "sent again and refused; still unknown");
            }
            Outcome::Queued
            | Outcome::Sending
            | Outcome::Expired(_)
            | Outcome::Unknown(_)
            | Outcome::Answered(_) => {
                warn!("sent again, and still unknown");
            }
        }
        flight.land(outcome).await;
    }
}

/// Whether a refusal says nothing of the message: then the attempt does not count.
fn is_about_the_moment(failure: &Failure) -> bool {
    failure.verdict.retry.delay().is_some()
}

#[cfg(test)]
mod tests {
    use super::super::no_turn::not_leading;
    use super::*;

    #[test]
    fn an_attempt_without_a_leader_does_not_count() {
        assert!(is_about_the_moment(&not_leading()));
    }
}
