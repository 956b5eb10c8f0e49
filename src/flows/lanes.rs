//! Whose turn it is to send, on the real clock: one [`Lane`] per business number.
//!
//! The machine decides; this drives it. Whoever asks for a turn while nobody waits has it at once, under one short lock.
//! For all others a task per number sleeps until the machine wants to be looked at.

mod turn;

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use metrics::{Gauge, gauge, histogram};
use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, sleep_until};

use crate::domain::caller::Caller;
use crate::domain::conversation::{Alias, group_key};
use crate::domain::failure::Verdict;
use crate::domain::ids::PhoneNumberId;
use crate::domain::map::FastMap;
use crate::domain::message::{PreparedMessage, Recipient};
use crate::domain::number_health::RATE_STANDARD;
use crate::domain::schedule::{
    Class, Lane, Moment, Offer, PairKey, PairRule, Refusal, Ticket, TicketId, Why,
};
use crate::lifecycle::Shutdown;
use crate::telemetry::names;

use super::conversations::named;
pub(super) use turn::Turn;

/// How fast the lanes are.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// Messages per second of every number; without it [`RATE_STANDARD`], until Meta says otherwise.
    pub fixed_rate: Option<u32>,
    /// Whether messages to one recipient are paced too.
    pub by_recipient: bool,
}

/// The lanes of all numbers. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Lanes {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    pace: Pace,
    began: Instant,
    lanes: Mutex<FastMap<PhoneNumberId, Arc<NumberLane>>>,
    shutdown: Shutdown,
}

/// What wants a turn.
#[derive(Debug, Clone)]
pub struct Wish {
    /// The business number that sends.
    pub number: PhoneNumberId,
    /// Who sends.
    pub caller: Caller,
    /// How pressing it is.
    pub class: Class,
    /// To whom.
    pub pair: PairKey,
    /// Until when a turn is of use; without it, it waits as long as it takes.
    pub deadline: Option<Instant>,
}

impl Wish {
    /// A turn for this message. Its recipient is known by the name under which it is written to.
    pub(super) fn of(
        message: &PreparedMessage,
        caller: Caller,
        class: Class,
        deadline: Option<Instant>,
    ) -> Self {
        let number = message.phone_number_id.clone();
        let pair = match &message.recipient {
            Recipient::Group(group) => PairKey::new(&group_key(&number, group.as_str())),
            user @ (Recipient::PhoneNumber(_) | Recipient::User(_)) => {
                Alias::of(&number, &named(user)).first().map_or_else(
                    // Every recipient that is no group has a name.
                    || PairKey::new(""),
                    |name| PairKey::new(name.expose()),
                )
            }
        };
        Self { number, caller, class, pair, deadline }
    }
}

/// Hears what became of a ticket that waits.
pub(super) type Waiter = Box<dyn FnOnce(Result<Turn, Refusal>) + Send>;

impl Lanes {
    /// Lanes of this pace.
    pub fn new(pace: Pace, shutdown: Shutdown) -> Self {
        let (began, lanes) = (Instant::now(), Mutex::default());
        Self { inner: Arc::new(Inner { pace, began, lanes, shutdown }) }
    }

    /// Waits for a turn, as long as it can come before the deadline of the wish. Who stops waiting gives it back.
    pub(super) async fn turn(&self, wish: Wish) -> Result<Turn, Refusal> {
        let lane = self.lane(&wish.number);
        let ticket = self.ticket(wish);
        lane.wait(|lane, now| lane.offer(now, ticket)).await
    }

    /// So many messages came in; they use up throughput (reference 6.1).
    pub(super) fn received(&self, number: &PhoneNumberId, count: u32) {
        // Nothing was ever sent without a lane, so nothing is in the way.
        if let Some(lane) = self.lanes().get(number).cloned() {
            lane.with(|lane, now| lane.received(now, count));
        }
    }
}

impl Lanes {
    /// Gets in line without waiting. If there is one, the waiter hears of the turn, perhaps before this returns.
    pub(super) fn line_up(&self, wish: Wish, waiter: Waiter) -> Offered {
        let lane = self.lane(&wish.number);
        let ticket = self.ticket(wish);
        lane.offer(|lane, now| lane.offer(now, ticket), || waiter)
    }

    /// Leaves the line; false if the waiter was or is being told.
    pub(super) fn leave(&self, number: &PhoneNumberId, id: TicketId) -> bool {
        self.lane(number).leave(id)
    }
}

impl Lanes {
    /// The rate of a number, as Meta says it.
    pub(super) fn set_rate(&self, number: &PhoneNumberId, rate: u32) {
        if self.inner.pace.fixed_rate.is_none() {
            self.lane(number).with(|lane, now| lane.set_rate(now, rate));
        }
    }

    /// A status says that a message failed with 130429 (reference 5.4).
    pub(super) fn throttled(&self, number: &PhoneNumberId) {
        self.lane(number).with(|lane, now| lane.throttled(now, None));
    }

    /// A status says that a message failed with 131056 (reference 5.4).
    pub(super) fn pair_limited(&self, number: &PhoneNumberId, pair: &PairKey) {
        self.lane(number).with(|lane, now| lane.pair_limited(now, pair, None));
    }

    /// The calls of the number's account are used up for so long (reference 1.7).
    pub(super) fn suspend(&self, number: &PhoneNumberId, pause: Duration) {
        self.lane(number).with(|lane, now| lane.suspend(now, now.saturating_add(pause)));
    }

    /// The number cannot send: who has a deadline is refused, the others wait.
    pub(super) fn park(&self, number: &PhoneNumberId, verdict: Verdict) {
        self.lane(number).with(|lane, now| lane.park(now, verdict));
    }

    /// The number can send again.
    pub(super) fn resume(&self, number: &PhoneNumberId) {
        self.lane(number).with(Lane::resume);
    }

    /// One message of a parked number may go out: one that waits, else the next that comes.
    pub(super) fn let_one_pass(&self, number: &PhoneNumberId) {
        self.lane(number).with(Lane::let_one_pass);
    }

    /// Messages per second that the number may send at present, and whether it may send none for a while.
    pub(super) fn pace(&self, number: &PhoneNumberId) -> (u32, bool) {
        self.lane(number).with(|lane, now| (lane.rate(), lane.is_suspended(now)))
    }

    fn lanes(&self) -> MutexGuard<'_, FastMap<PhoneNumberId, Arc<NumberLane>>> {
        self.inner.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ticket(&self, wish: Wish) -> Ticket {
        let Wish { caller, class, pair, deadline, .. } = wish;
        let deadline = deadline.map(|deadline| deadline.saturating_duration_since(self.inner.began));
        Ticket { caller, class, pair, deadline }
    }

    fn lane(&self, number: &PhoneNumberId) -> Arc<NumberLane> {
        let (inner, mut lanes) = (&self.inner, self.lanes());
        if let Some(lane) = lanes.get(number) {
            return Arc::clone(lane);
        }
        let rate = inner.pace.fixed_rate.unwrap_or(RATE_STANDARD);
        let rule = if inner.pace.by_recipient { PairRule::STEADY } else { PairRule::NONE };
        let waiting = gauge!(names::LANE_WAITING, names::PHONE_NUMBER => number.to_string());
        waiting.set(0.0);
        let lane = Arc::new(NumberLane {
            began: inner.began,
            state: Mutex::new(State {
                lane: Lane::new(rate, rule),
                waiters: FastMap::default(),
                sleeps_until: None,
                waiting_shown: 0,
            }),
            sooner: Notify::new(),
            waiting,
        });
        lanes.insert(number.clone(), Arc::clone(&lane));
        inner.shutdown.spawn_background("lane", Arc::clone(&lane).drive());
        lane
    }
}

/// The lane of one number, and who waits in it.
pub(super) struct NumberLane {
    began: Instant,
    state: Mutex<State>,
    /// The machine wants to be looked at earlier than the driver thinks.
    sooner: Notify,
    waiting: Gauge,
}

struct State {
    lane: Lane,
    waiters: FastMap<TicketId, Waiter>,
    /// Until when the driver sleeps; for ever without a moment.
    sleeps_until: Option<Moment>,
    /// What the gauge says.
    waiting_shown: usize,
}

impl fmt::Debug for NumberLane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NumberLane").finish_non_exhaustive()
    }
}

/// What became of an offer.
#[derive(Debug)]
pub(super) enum Offered {
    /// It has its turn.
    Turn(Turn),
    /// It waits under this name, and its waiter will be told.
    Waiting(TicketId),
    /// It would not have its turn in time.
    Refused(Refusal),
}

impl NumberLane {
    /// Sleeps until there is something to do, for ever.
    async fn drive(self: Arc<Self>) {
        loop {
            let until = {
                let mut state = self.state();
                state.sleeps_until = state.lane.wake_at();
                state.sleeps_until
            };
            match until {
                Some(until) => tokio::select! {
                    () = sleep_until(self.began + until) => {}
                    () = self.sooner.notified() => {}
                },
                None => self.sooner.notified().await,
            }
            self.with(|_, _| ());
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does something to the machine, and hands out what follows of it.
    fn with<T>(self: &Arc<Self>, act: impl FnOnce(&mut Lane, Moment) -> T) -> T {
        self.with_state(|state, now| act(&mut state.lane, now))
    }

    fn with_state<T>(self: &Arc<Self>, act: impl FnOnce(&mut State, Moment) -> T) -> T {
        let now = self.began.elapsed();
        let mut told: Vec<(Waiter, Result<TicketId, Refusal>)> = Vec::new();
        let result = {
            let mut state = self.state();
            let result = act(&mut state, now);
            let next = state.lane.poll(now);
            let granted = next.granted.into_iter().map(|id| (id, Ok(id)));
            let expired = next.expired.into_iter().map(|(id, refusal)| (id, Err(refusal)));
            for (id, outcome) in granted.chain(expired) {
                told.extend(state.waiters.remove(&id).map(|waiter| (waiter, outcome)));
            }
            let waiting = state.lane.waiting();
            if waiting != std::mem::replace(&mut state.waiting_shown, waiting) {
                #[expect(clippy::cast_precision_loss, reason = "a count for people")]
                self.waiting.set(waiting as f64);
            }
            if next.wake_at.is_some_and(|at| state.sleeps_until.is_none_or(|until| at < until)) {
                state.sleeps_until = next.wake_at;
                self.sooner.notify_one();
            }
            result
        };
        // Not under the lock: who hears of a turn may give it back at once.
        for (waiter, outcome) in told {
            waiter(outcome.map(|id| Turn::new(Arc::clone(self), id, now)));
        }
        result
    }

    /// Offers a ticket, and keeps its waiter if it has to wait.
    fn offer(
        self: &Arc<Self>,
        offer: impl FnOnce(&mut Lane, Moment) -> Offer,
        waiter: impl FnOnce() -> Waiter,
    ) -> Offered {
        let (offer, now) = self.with_state(|state, now| {
            let offer = offer(&mut state.lane, now);
            if let Offer::Wait { id, .. } = &offer {
                state.waiters.insert(*id, waiter());
            }
            (offer, now)
        });
        match offer {
            Offer::Go(id) => Offered::Turn(Turn::new(Arc::clone(self), id, now)),
            Offer::Wait { id, .. } => Offered::Waiting(id),
            Offer::Refuse(refusal) => Offered::Refused(refusal),
        }
    }

    /// Offers a ticket and waits for its turn.
    async fn wait(self: &Arc<Self>, offer: impl FnOnce(&mut Lane, Moment) -> Offer) -> Result<Turn, Refusal> {
        let (told, hears) = oneshot::channel();
        // Nobody hears it only if they have left, and then the turn comes back by itself.
        let offered = self.offer(offer, || Box::new(move |turn| drop(told.send(turn))));
        let id = match offered {
            Offered::Turn(turn) => return Ok(turn),
            Offered::Refused(refusal) => return Err(refusal),
            Offered::Waiting(id) => id,
        };
        let began = Instant::now();
        let place = Place { lane: Arc::clone(self), id };
        let turn = hears.await;
        drop(place);
        histogram!(names::LANE_WAIT_DURATION).record(began.elapsed().as_secs_f64());
        // The waiter is told before it is dropped.
        turn.unwrap_or(Err(Refusal { why: Why::Full, retry_after: None }))
    }

    fn leave(self: &Arc<Self>, id: TicketId) -> bool {
        self.with_state(|state, _| state.waiters.remove(&id).is_some() && state.lane.cancel(id))
    }
}

/// A place in the line; who leaves gives it up.
struct Place {
    lane: Arc<NumberLane>,
    id: TicketId,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.lane.leave(self.id);
    }
}

#[cfg(test)]
mod tests;
