//! The machine of one business number.

use std::collections::BTreeSet;
use std::time::Duration;

use super::Moment;
use super::deadlines::Crowd;
use super::pace::PairRule;
use super::pacer::Pacer;
use super::recipients::Recipients;
use super::ticket::{Feedback, Next, Offer, PairKey, Refusal, Ticket, TicketId, Why};
use super::turns::Turns;
use crate::domain::failure::Verdict;
use crate::domain::map::FastMap;

/// How many tickets may wait in one lane. Feeders of durable work should stay far below; a queue of theirs costs less.
pub const WAITING_MAX: usize = 100_000;

/// A longer `Retry-After` is somebody's mistake; Meta does not document the header (reference 1.7).
const RETRY_AFTER_MAX: Duration = Duration::from_hours(1);

/// An answer that took longer says nothing about the next.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(1);

/// Hands out turns to send for one business number. See the [module](super) for what it promises.
///
/// Poll after every other call, and at [`Lane::wake_at`]. A call costs O(log n) of what waits, and O(callers). Once a second at
/// most, while tickets with deadlines wait, a poll looks at everything that is ready.
#[derive(Debug)]
pub struct Lane {
    pub(super) now: Moment,
    pub(super) pacer: Pacer,
    pub(super) recipients: Recipients,
    pub(super) turns: Turns,
    /// Everything that waits or is in flight.
    pub(super) tickets: FastMap<TicketId, Entry>,
    pub(super) waiting: usize,
    /// How many had their turn and have not departed.
    aboard: usize,
    pub(super) deadlines: BTreeSet<(Moment, TicketId)>,
    /// What the next poll reports.
    pub(super) expired: Vec<(TicketId, Refusal)>,
    pub(super) parked: Option<Verdict>,
    /// Whether one message may go out although the lane is parked.
    pub(super) lets_one_pass: bool,
    pub(super) suspended_until: Moment,
    /// How long Meta takes to answer, smoothed.
    pub(super) answer_time: Duration,
    pub(super) reviewed_at: Moment,
    /// When to look whether tickets have become hopeless, if something got worse.
    pub(super) review_at: Option<Moment>,
    pub(super) crowd: Crowd,
    next_id: u64,
}

#[derive(Debug)]
pub(super) struct Entry {
    pub(super) ticket: Ticket,
    /// When it had its turn; `None` while it waits.
    granted_at: Option<Moment>,
    has_departed: bool,
}

impl Lane {
    /// A lane of a number that may send and receive `rate` messages per second (reference 6.1: 20, 80 or 1000).
    pub fn new(rate: u32, rule: PairRule) -> Self {
        Self {
            now: Moment::ZERO,
            pacer: Pacer::new(rate),
            recipients: Recipients::new(rule),
            turns: Turns::default(),
            tickets: FastMap::default(),
            waiting: 0,
            aboard: 0,
            deadlines: BTreeSet::new(),
            expired: Vec::new(),
            parked: None,
            lets_one_pass: false,
            suspended_until: Moment::ZERO,
            answer_time: Duration::ZERO,
            reviewed_at: Moment::ZERO,
            review_at: None,
            crowd: Crowd::default(),
            next_id: 0,
        }
    }

    /// Asks for a turn. Without others waiting it comes at once.
    pub fn offer(&mut self, now: Moment, ticket: Ticket) -> Offer {
        self.advance(now);
        if self.waiting >= WAITING_MAX {
            let retry_after = Some(Duration::from_secs(1));
            return Offer::Refuse(Refusal { why: Why::Full, retry_after });
        }
        let id = TicketId(self.next_id);
        self.next_id += 1;
        self.admit(id, ticket, Moment::ZERO)
    }

    /// Grants what may go out, and expires what will not. Never more at once than 7 % of a second's messages.
    pub fn poll(&mut self, now: Moment) -> Next {
        self.advance(now);
        self.expire_hopeless();
        let granted = std::iter::from_fn(|| self.grant()).collect();
        self.expire_due();
        Next { granted, expired: std::mem::take(&mut self.expired), wake_at: self.wake_at() }
    }

    /// When to poll, if nothing else happens before; a moment that has passed means now.
    pub fn wake_at(&self) -> Option<Moment> {
        if !self.expired.is_empty() {
            return Some(self.now);
        }
        if self.is_shut() {
            return None;
        }
        let ready = (self.turns.ready() > 0).then_some(Moment::ZERO);
        let opens = ready.into_iter().chain(self.recipients.opens_at()).min();
        let turn = opens.filter(|_| !self.is_held_up()).map(|at| at.max(self.pacer.opens_at()));
        let deadline = self.deadlines.first().map(|(deadline, _)| *deadline);
        turn.into_iter().chain(deadline).min()
    }

    /// Nothing holds up a message any more that has its turn. Until they are told so, or of an answer, some turns may be out, and
    /// then no further one is given: what a slow write holds up must not grow.
    pub fn depart(&mut self, now: Moment, id: TicketId) {
        self.advance(now);
        if let Some(entry) = self.tickets.get_mut(&id).filter(|entry| entry.granted_at.is_some())
            && !std::mem::replace(&mut entry.has_departed, true)
        {
            self.aboard -= 1;
        }
    }

    /// When a message leaves that is ready to now; each is asked for once. So what was held up together does not leave together.
    pub fn leave(&mut self, now: Moment) -> Moment {
        self.advance(now);
        self.pacer.leave(self.now)
    }

    /// Takes back a ticket that waits; false if it does not. One in flight is answered with [`Lane::done`].
    pub fn cancel(&mut self, id: TicketId) -> bool {
        self.withdraw(id).is_some()
    }

    /// What became of a turn; every granted ticket needs it, or its recipient's next message waits for ever. False if the
    /// ticket is not in flight.
    pub fn done(&mut self, now: Moment, id: TicketId, feedback: Feedback) -> bool {
        self.advance(now);
        self.land(id, feedback, None).is_some()
    }

    /// As [`Lane::done`], for a message that did certainly not go out and shall be tried again, not before `not_before`. It
    /// keeps its place before other messages of its class to the recipient. `None` if the ticket is not in flight.
    pub fn again(
        &mut self,
        now: Moment,
        id: TicketId,
        feedback: Feedback,
        not_before: Moment,
    ) -> Option<Offer> {
        self.advance(now);
        let ticket = self.land(id, feedback, Some(not_before))?;
        Some(self.admit(id, ticket, not_before))
    }

    /// `count` messages came in; they use up throughput (reference 6.1).
    pub fn received(&mut self, now: Moment, count: u32) {
        self.advance(now);
        self.pacer.charge(now, count);
        self.review_soon();
    }

    /// The number's throughput is now `rate` messages per second.
    pub fn set_rate(&mut self, now: Moment, rate: u32) {
        self.advance(now);
        self.pacer.set_rate(now, rate);
        self.review_at = Some(now);
    }

    /// Meta reported 130429, also in a status (reference 5.4): the rate is halved, once per second, and comes back by a
    /// twentieth of the full rate per second. Nothing goes out for `retry_after` (at most an hour).
    pub fn throttled(&mut self, now: Moment, retry_after: Option<Duration>) {
        self.advance(now);
        if let Some(pause) = retry_after {
            self.pacer.pause(now.saturating_add(pause.min(RETRY_AFTER_MAX)));
        }
        self.pacer.shrink(now);
        self.review_at = Some(now);
    }

    /// Meta reported 131056, also in a status (reference 5.4): the pair sleeps 4^X s, X growing from 0 to 5 until a message
    /// is accepted, and at least `retry_after` (at most an hour).
    pub fn pair_limited(&mut self, now: Moment, pair: &PairKey, retry_after: Option<Duration>) {
        self.advance(now);
        let least = retry_after.unwrap_or_default().min(RETRY_AFTER_MAX);
        self.recipients.pace(pair).limited(now, least);
        self.recipients.settle(pair, now, &mut self.turns);
        self.expire_asleep(pair);
    }

    /// The call budget of the account is used up until then (reference 1.7, usage headers). Extends an earlier suspension
    /// and never shortens it.
    pub fn suspend(&mut self, now: Moment, until: Moment) {
        self.advance(now);
        self.pacer.pause(until);
        self.suspended_until = self.suspended_until.max(until);
    }

    /// The number cannot send: tickets with a deadline are refused, the others wait.
    pub fn park(&mut self, now: Moment, verdict: Verdict) {
        self.advance(now);
        (self.parked, self.lets_one_pass) = (Some(verdict), false);
        self.expire_parked();
    }

    /// Lets one message of a parked lane go out, to see whether the number can send again: one that waits, else the next
    /// that comes.
    pub fn let_one_pass(&mut self, now: Moment) {
        self.advance(now);
        self.lets_one_pass = self.parked.is_some();
    }

    /// The number can send again.
    pub fn resume(&mut self, now: Moment) {
        self.advance(now);
        (self.parked, self.lets_one_pass) = (None, false);
    }

    /// Why the lane is parked, if it is.
    pub fn parked(&self) -> Option<Verdict> {
        self.parked
    }

    /// Whether nothing goes out because [`Lane::suspend`] says so.
    pub fn is_suspended(&self, now: Moment) -> bool {
        now < self.suspended_until
    }

    /// Messages per second that the lane allows at present.
    pub fn rate(&self) -> u32 {
        self.pacer.allowed()
    }

    /// How many tickets wait.
    pub fn waiting(&self) -> usize {
        self.waiting
    }

    /// How many tickets had their turn and are not done.
    pub fn in_flight(&self) -> usize {
        self.tickets.len() - self.waiting
    }

    /// How many recipients are remembered: those of tickets, and those that still owe something.
    pub fn recipients(&self) -> usize {
        self.recipients.len()
    }

    /// Whether the lane is parked, without exception.
    pub(super) fn is_shut(&self) -> bool {
        self.parked.is_some() && !self.lets_one_pass
    }

    /// Whether so many turns were not used yet that no further one is given.
    fn is_held_up(&self) -> bool {
        self.aboard >= self.pacer.aboard_max()
    }

    fn advance(&mut self, now: Moment) {
        self.now = self.now.max(now);
        self.pacer.refresh(self.now);
        self.recipients.advance(self.now, &mut self.turns);
    }

    fn admit(&mut self, id: TicketId, ticket: Ticket, not_before: Moment) -> Offer {
        let estimate = self.estimate(id, &ticket, not_before);
        if let Some(refusal) = self.objection(&ticket, estimate) {
            self.recipients.settle(&ticket.pair, self.now, &mut self.turns);
            return Offer::Refuse(refusal);
        }
        self.recipients.insert(&ticket.pair, ticket.class, &ticket.caller, id);
        self.recipients.settle(&ticket.pair, self.now, &mut self.turns);
        self.deadlines.extend(ticket.deadline.map(|deadline| (deadline, id)));
        let is_first = self.recipients.is_open(&ticket.pair, ticket.class, self.now)
            && self.recipients.get(&ticket.pair).and_then(|pair| pair.line(ticket.class).first()) == Some(id);
        self.tickets.insert(id, Entry { ticket, granted_at: None, has_departed: false });
        self.waiting += 1;
        // If nobody else is ready, then the next turn is the one of this message.
        if is_first && self.turns.ready() == 1 && self.grant() == Some(id) {
            return Offer::Go(id);
        }
        self.review_soon();
        Offer::Wait { id, turn: estimate.turn }
    }

    /// Gives the next turn, if the number allows it.
    fn grant(&mut self) -> Option<TicketId> {
        if self.is_shut() || self.is_held_up() || self.now < self.pacer.opens_at() {
            return None;
        }
        loop {
            let turn = self.turns.next()?;
            if !self.recipients.is_open(&turn.pair, turn.class, self.now) {
                self.recipients.settle(&turn.pair, self.now, &mut self.turns);
                continue;
            }
            let id = self.recipients.get(&turn.pair)?.line(turn.class).first()?;
            let entry = self.tickets.get_mut(&id)?;
            entry.granted_at = Some(self.now);
            self.waiting -= 1;
            self.aboard += 1;
            if let Some(deadline) = entry.ticket.deadline {
                self.deadlines.remove(&(deadline, id));
            }
            self.pacer.sent(self.now);
            self.turns.take(&turn, &entry.ticket.caller);
            self.recipients.remove(&turn.pair, turn.class, &entry.ticket.caller, id);
            self.recipients.depart(&turn.pair, turn.class, self.now, id);
            self.recipients.settle(&turn.pair, self.now, &mut self.turns);
            if std::mem::take(&mut self.lets_one_pass) {
                self.expire_parked();
            }
            return Some(id);
        }
    }

    /// Forgets a ticket that waits.
    pub(super) fn withdraw(&mut self, id: TicketId) -> Option<Ticket> {
        self.tickets.get(&id).filter(|entry| entry.granted_at.is_none())?;
        let ticket = self.tickets.remove(&id)?.ticket;
        self.waiting -= 1;
        if let Some(deadline) = ticket.deadline {
            self.deadlines.remove(&(deadline, id));
        }
        self.recipients.remove(&ticket.pair, ticket.class, &ticket.caller, id);
        self.recipients.settle(&ticket.pair, self.now, &mut self.turns);
        Some(ticket)
    }

    /// A ticket in flight has come to its end, or goes again not before `again_at`.
    fn land(&mut self, id: TicketId, feedback: Feedback, again_at: Option<Moment>) -> Option<Ticket> {
        let granted_at = self.tickets.get(&id)?.granted_at?;
        let Entry { ticket, has_departed, .. } = self.tickets.remove(&id)?;
        self.aboard -= usize::from(!has_departed);
        let now = self.now;
        let rule = self.recipients.rule;
        let pace = self.recipients.pace(&ticket.pair);
        if feedback == Feedback::NotSent {
            pace.not_sent(&rule, now, id, granted_at);
        } else {
            pace.answered(now, id);
            let took = now.saturating_sub(granted_at).min(ANSWER_TIME_MAX);
            self.answer_time = (self.answer_time * 7 + took) / 8;
        }
        if feedback == Feedback::Accepted {
            self.recipients.pace(&ticket.pair).accepted();
        }
        self.recipients.land(&ticket.pair, ticket.class, id, again_at);
        match feedback {
            Feedback::Throttled { retry_after } => self.throttled(now, retry_after),
            Feedback::PairLimited { retry_after } => self.pair_limited(now, &ticket.pair, retry_after),
            Feedback::Accepted | Feedback::NotSent | Feedback::Other => {}
        }
        if again_at.is_none() {
            self.recipients.settle(&ticket.pair, now, &mut self.turns);
        }
        Some(ticket)
    }
}
