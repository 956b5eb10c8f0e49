//! Sends that are answered before they go out: durable → turn → Meta → record → event.
//!
//! In memory is only what a turn needs (`places`); the message is read when its turn comes, so that a long queue costs
//! little. A message goes to Meta after the store says so ([`crate::flows::unsettled`]), what became of it is durable
//! before it is an event, and it is forgotten after that: so a process that is killed at any moment leaves nothing out and
//! says nothing twice.

mod intake;
mod places;
mod turn;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use metrics::gauge;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};
use tracing::info;

use crate::clock::SharedClock;
use crate::cloud_api::Client;
use crate::domain::caller::Caller;
use crate::domain::failure::FieldViolation;
use crate::domain::ids::PhoneNumberId;
use crate::domain::message::{OutboundMessage, SendTag};
use crate::domain::window::IfClosed;
use crate::lifecycle::Shutdown;
use crate::storage::event_log::EventLog;
use crate::storage::sends::{Outcome, QueuedSend};
use crate::telemetry::names;

use super::fallbacks::Fallbacks;
use super::identities::Identities;
use super::lanes::{Lanes, Offered, Wish};
use super::number_watch::NumberWatch;
use super::numbers::Numbers;
use super::send_message::{self, Sent, Terms, new_tag, result};
use super::send_traces::SendTraces;
use super::unsettled::{self, Known, Left, Request, Taken, Unsettled};
use super::window::Windows;
use intake::{objection_to, prepared};
use places::{Depth, Due, Places, Start};

/// Until a full lane, or a store that cannot be read, is tried again.
const RETRY_DELAY: Duration = Duration::from_secs(1);
/// Between two looks at the depths.
const MEASURE_INTERVAL: Duration = Duration::from_secs(5);

/// The queue. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Queue {
    inner: Arc<Inner>,
}

/// What the queue works with.
#[derive(Debug)]
pub struct Parts {
    /// Calls Meta.
    pub client: Client,
    /// Which numbers there are.
    pub numbers: Numbers,
    /// Whether a number can send.
    pub number_watch: NumberWatch,
    /// Whose turn it is.
    pub lanes: Lanes,
    /// May it go out now?
    pub windows: Windows,
    /// What must not happen twice.
    pub unsettled: Unsettled,
    /// What goes out instead, later.
    pub fallbacks: Fallbacks,
    /// What statuses link to.
    pub traces: SendTraces,
    /// Gives events their conversation.
    pub identities: Arc<Identities>,
    /// Where reports go.
    pub log: Arc<dyn EventLog>,
    /// The time.
    pub clock: SharedClock,
    /// The end.
    pub shutdown: Shutdown,
    /// Messages of one number that may wait.
    pub queue_max: usize,
}

#[derive(Debug)]
struct Inner {
    parts: Parts,
    places: Mutex<Places>,
    /// Something is due earlier than the timer thinks.
    sooner: Notify,
}

/// What a call is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Enqueued {
    /// It waits, or is on its way.
    Waits {
        /// What names the send in statuses.
        tag: SendTag,
        /// The number that sends it.
        phone_number_id: PhoneNumberId,
        /// Whether an earlier call with the same request id queued it.
        is_replayed: bool,
    },
    /// It was sent, after an earlier call.
    Sent(Sent),
}

/// Why a message is not queued.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It cannot be sent, or an earlier call with the same request id was not.
    #[error(transparent)]
    Send(#[from] send_message::Error),
    /// A field does not allow it.
    #[error("{} {}", .0.field, .0.description)]
    Invalid(FieldViolation),
    /// Too many wait already.
    #[error(
        "{queue_max} messages of this business number are queued already (sending.queue_max); nothing was queued, try again \
         later"
    )]
    Full {
        /// How many may wait.
        queue_max: usize,
    },
}

impl Queue {
    /// A queue of nothing yet.
    pub fn new(parts: Parts) -> Self {
        let (places, sooner) = (Mutex::default(), Notify::new());
        Self { inner: Arc::new(Inner { parts, places, sooner }) }
    }

    /// Queues a message, durably; or says what became of it, if it was queued before.
    pub async fn enqueue(
        &self,
        caller: &Caller,
        message: OutboundMessage,
        if_closed: IfClosed,
        terms: Terms,
    ) -> Result<Enqueued, Error> {
        let number = message.phone_number_id.clone();
        let (created, tag, deadline) = (self.now(), new_tag(), terms.deadline);
        let (request, queued) = prepared(caller, &message, &if_closed, terms, &tag, created)?;
        let times = (created, deadline);
        let mut objection = self.objection(&message, &if_closed, &queued, times).await;
        if objection.is_none() {
            let (times, queue_max) = ((created, queued.not_after), self.parts().queue_max);
            let has_place = self.places().reserve(&tag, &number, times, queue_max);
            objection = (!has_place).then_some(Error::Full { queue_max });
        }
        let taken = if let Some(objection) = objection {
            // What was queued before stays queued.
            let found = self.parts().unsettled.find(&request).await.map_err(send_message::Error::from)?;
            Some(found.filter(|taken| !self.is_lost(taken)).ok_or(objection)?)
        } else {
            let work = self.clone().claim(request.clone(), tag.clone(), created, queued);
            let claimed = self.parts().shutdown.keep(work).await;
            let claimed = claimed.ok_or_else(|| send_message::Error::Interrupted { tag: tag.clone() })?;
            claimed.map_err(send_message::Error::from)?
        };
        match taken {
            None => Ok(Enqueued::Waits { tag, phone_number_id: number, is_replayed: false }),
            Some(taken) => repeated(taken, number, request.id),
        }
    }

    /// Takes up what an earlier process has left, in its old order. Before anything else is queued.
    pub fn resume(&self, mut left: Vec<Left>) {
        if !left.is_empty() {
            info!(sends = left.len(), "queued sends of an earlier process go on");
        }
        // Those of one moment are in the order in which they were queued.
        left.sort_by_key(|left| left.not_before.map_or(left.created, |at| at.max(left.created)));
        for Left { tag, wish, created, not_before, not_after, is_over } in left {
            self.places().reserve(&tag, &wish.number, (created, not_after), usize::MAX);
            if is_over {
                self.parts().shutdown.spawn_request(self.clone().report_left(tag));
            } else {
                self.start(&tag, wish, not_before);
            }
        }
    }

    /// Keeps time until the drain. What waits then is for the next process.
    pub async fn run(self) {
        for number in self.parts().numbers.of_wabas(|_| true) {
            show(&number, 0, Duration::ZERO);
        }
        let mut measured_at: Option<Instant> = None;
        while !self.parts().shutdown.drain().is_cancelled() {
            let now = self.now();
            let due = self.places().due(now);
            for due in due {
                self.attend(due);
            }
            if measured_at.is_none_or(|at| at.elapsed() >= MEASURE_INTERVAL) {
                self.measure();
                measured_at = Some(Instant::now());
            }
            let next = self.places().next().and_then(|at| at.duration_since(self.now()).ok());
            // Waiting ends with the interval also because the clock may be set.
            let wait = next.unwrap_or(MEASURE_INTERVAL).min(MEASURE_INTERVAL);
            let is_due = self.places().next().is_some_and(|at| at <= self.now());
            tokio::select! {
                () = sleep(if is_due { Duration::ZERO } else { wait }) => {}
                () = self.inner.sooner.notified() => {}
                () = self.parts().shutdown.drain().cancelled() => {}
            }
        }
    }

    fn parts(&self) -> &Parts {
        &self.inner.parts
    }

    fn places(&self) -> MutexGuard<'_, Places> {
        self.inner.places.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> SystemTime {
        self.parts().clock.now()
    }

    /// Why a message that is not queued yet should not be.
    async fn objection(
        &self,
        message: &OutboundMessage,
        if_closed: &IfClosed,
        queued: &QueuedSend,
        (now, deadline): (SystemTime, Option<Instant>),
    ) -> Option<Error> {
        if let Err(error) = self.parts().numbers.access_token(&message.phone_number_id) {
            return Some(send_message::Error::from(error).into());
        }
        if let Some(violation) = objection_to(queued, now) {
            return Some(Error::Invalid(violation));
        }
        // Until a later moment the user may write.
        let may_be_now = queued.not_before.is_none_or(|at| at <= now);
        let foreseen = self.parts().windows.foresee(message, if_closed, may_be_now, deadline).await;
        foreseen.err().map(|refusal| send_message::Error::from(refusal.counted()).into())
    }

    /// Makes it durable and lets it wait. Must run to its end.
    async fn claim(
        self,
        request: Request,
        tag: SendTag,
        created: SystemTime,
        queued: QueuedSend,
    ) -> Result<Option<Taken>, unsettled::Error> {
        let (wish, not_before) = (unsettled::wish_of(&queued), queued.not_before);
        let is_lost = |tag: &SendTag| !self.places().has(tag);
        let claimed = self.parts().unsettled.enqueue(&request, tag.clone(), created, queued, is_lost).await;
        match &claimed {
            Ok(None) => self.start(&tag, wish, not_before),
            Ok(Some(_)) | Err(_) => self.places().remove(&tag),
        }
        claimed
    }

    /// Whether the store calls it queued, but nobody will send it: its claim was not whole.
    fn is_lost(&self, taken: &Taken) -> bool {
        match taken {
            Taken::Known(Known { outcome: Outcome::Queued, tag, .. }) => !self.places().has(tag),
            Taken::Known(_) | Taken::Running(_) => false,
        }
    }

    /// Lets it wait for its time, or for its turn.
    fn start(&self, tag: &SendTag, wish: Wish, not_before: Option<SystemTime>) {
        match not_before.filter(|at| *at > self.now()) {
            Some(at) => self.later(tag, Some(wish), at),
            None => self.line_up(tag, wish),
        }
    }

    fn later(&self, tag: &SendTag, wish: Option<Wish>, at: SystemTime) {
        let is_sooner = self.places().later(tag, wish, at);
        if is_sooner {
            self.inner.sooner.notify_one();
        }
    }

    fn line_up(&self, tag: &SendTag, wish: Wish) {
        // Never under the lock of the places: the lane may tell others of their turns right here.
        let offered = self.parts().lanes.line_up(wish.clone(), self.waiter(tag));
        if let Offered::Refused(_) = &offered {
            return self.later(tag, Some(wish), self.now() + RETRY_DELAY);
        }
        self.offered(tag, offered);
    }

    fn offered(&self, tag: &SendTag, offered: Offered) {
        match offered {
            Offered::Turn(turn) => self.take_off(tag.clone(), turn),
            Offered::Waiting(id) => {
                let is_sooner = self.places().in_line(tag, id);
                if is_sooner {
                    self.inner.sooner.notify_one();
                }
            }
            Offered::Refused(_) => self.later(tag, None, self.now() + RETRY_DELAY),
        }
    }

    fn attend(&self, due: Due) {
        match due {
            Due::LineUp(tag, Some(wish)) => self.line_up(&tag, *wish),
            Due::LineUp(tag, None) => {
                self.parts().shutdown.spawn_request(self.clone().read_again(tag));
            }
            Due::Leave(tag, number, id) => {
                // If it does not wait any more, its turn has come, and is too late.
                if self.parts().lanes.leave(&number, id) {
                    self.parts().shutdown.spawn_request(self.clone().expire(tag));
                }
            }
            Due::Expire(tag) => drop(self.parts().shutdown.spawn_request(self.clone().expire(tag))),
        }
    }

    fn measure(&self) {
        let depths = self.places().depths(self.now());
        for Depth { number, places, oldest } in depths {
            show(&number, places, oldest);
        }
    }
}

fn show(number: &PhoneNumberId, places: usize, oldest: Duration) {
    let number = number.to_string();
    #[expect(clippy::cast_precision_loss, reason = "a count for people")]
    gauge!(names::QUEUE_DEPTH, names::PHONE_NUMBER => number.clone()).set(places as f64);
    gauge!(names::QUEUE_AGE, names::PHONE_NUMBER => number).set(oldest.as_secs_f64());
}

/// What a repeated call is told.
fn repeated(taken: Taken, phone_number_id: PhoneNumberId, request_id: String) -> Result<Enqueued, Error> {
    let waits = |tag, phone_number_id| Enqueued::Waits { tag, phone_number_id, is_replayed: true };
    match taken {
        Taken::Running(slot) => Ok(waits(slot.tag.clone(), phone_number_id)),
        Taken::Known(Known { outcome: Outcome::Queued, tag, .. }) => Ok(waits(tag, phone_number_id)),
        Taken::Known(known) => {
            Ok(result(known, phone_number_id, Some(request_id), true).map(Enqueued::Sent)?)
        }
    }
}
