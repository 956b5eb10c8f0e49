//! A turn: what the lane of a number has given to one message.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep_until;

use super::{NumberLane, Offered, Waiter};
use crate::cloud_api::Departure;
use crate::domain::schedule::{Feedback, Lane, Moment, Offer, Refusal, TicketId, Why};

/// The right to send one message now, and the duty to say what came of it.
#[derive(Debug)]
pub(in crate::flows) struct Turn {
    lane: Arc<NumberLane>,
    id: TicketId,
    granted_at: Moment,
    is_over: bool,
}

impl Turn {
    pub(super) fn new(lane: Arc<NumberLane>, id: TicketId, granted_at: Moment) -> Self {
        Self { lane, id, granted_at, is_over: false }
    }

    /// How long it has been there.
    pub(in crate::flows) fn age(&self) -> Duration {
        self.lane.began.elapsed().saturating_sub(self.granted_at)
    }

    /// Nothing holds the message up any more but the way to Meta. What its first byte waits for there: nothing, unless others
    /// were held up with it since they had their turns.
    pub(in crate::flows) fn departure(&self) -> Departure {
        let (lane, id) = (Arc::clone(&self.lane), self.id);
        lane.with(|lane, now| lane.depart(now, id));
        Box::pin(async move {
            if let Some(at) = lane.with(|lane, now| Some(lane.leave(now)).filter(|at| *at > now)) {
                sleep_until(lane.began + at).await;
            }
        })
    }

    /// What came of it.
    pub(in crate::flows) fn done(mut self, feedback: Feedback) {
        self.is_over = true;
        self.lane.with(|lane, now| lane.done(now, self.id, feedback));
    }

    /// As [`Turn::done`] for a message that certainly did not go out; waits for another turn, after this pause at least.
    pub(in crate::flows) async fn again(
        mut self,
        feedback: Feedback,
        pause: Duration,
    ) -> Result<Self, Refusal> {
        self.is_over = true;
        let (lane, id) = (Arc::clone(&self.lane), self.id);
        lane.wait(|lane, now| offer_again(lane, now, id, feedback, pause)).await
    }

    /// As [`Turn::again`], but does not wait: the waiter hears of it, as with `Lanes::line_up`.
    pub(in crate::flows) fn line_up_again(
        mut self,
        feedback: Feedback,
        pause: Duration,
        waiter: Waiter,
    ) -> Offered {
        self.is_over = true;
        let (lane, id) = (Arc::clone(&self.lane), self.id);
        lane.offer(|lane, now| offer_again(lane, now, id, feedback, pause), || waiter)
    }
}

fn offer_again(lane: &mut Lane, now: Moment, id: TicketId, feedback: Feedback, pause: Duration) -> Offer {
    // In flight it is, as long as the turn lives.
    let lost = Offer::Refuse(Refusal { why: Why::Full, retry_after: None });
    lane.again(now, id, feedback, now.saturating_add(pause)).unwrap_or(lost)
}

impl Drop for Turn {
    fn drop(&mut self) {
        if !self.is_over {
            self.lane.with(|lane, now| lane.done(now, self.id, Feedback::Other));
        }
    }
}
