//! Who will not have their turn in time: at the offer, and later.

use std::collections::HashSet;
use std::time::Duration;

use super::Moment;
use super::lane::Lane;
use super::ticket::{PairKey, Refusal, Ticket, TicketId, Why};

/// How often the lane looks through everything that is ready, while more and more gets in line.
const REVIEW_INTERVAL: Duration = Duration::from_secs(1);

/// Nobody needs to try again sooner.
const RETRY_AFTER_MIN: Duration = Duration::from_millis(1);

/// After so long without a refusal the next is the first again.
const CROWD_END: Duration = Duration::from_secs(1);
/// Over at least so much time the returns of those are spread who are refused together.
const SPREAD_MIN: Duration = Duration::from_secs(1);

/// Those who are refused at about one moment: told the same, all of them would come back together.
#[derive(Debug, Default)]
pub(super) struct Crowd {
    count: u32,
    last: Moment,
}

impl Crowd {
    /// How much later than it could the next one should come back: a slot after the one before it, over as much time as is
    /// missing; then the slots are taken again from the first.
    fn delay(&mut self, now: Moment, missing: Duration, slot: Duration) -> Duration {
        if now.saturating_sub(self.last) >= CROWD_END {
            self.count = 0;
        }
        self.last = now;
        let slots = missing.max(SPREAD_MIN).as_nanos() / slot.as_nanos().max(1);
        let place = self.count % u32::try_from(slots).unwrap_or(u32::MAX).max(1);
        self.count = self.count.wrapping_add(1);
        slot.saturating_mul(place)
    }
}

/// The earliest turn of a ticket, by what is ahead of it now.
#[derive(Debug, Clone, Copy)]
pub(super) struct Estimate {
    pub(super) turn: Moment,
    /// What it waits for.
    why: Why,
}

impl Lane {
    /// When `ticket` gets its turn if nothing changes: nobody comes or goes away, and Meta answers as fast as before.
    /// Exact for a recipient with no other messages. Behind other messages to the same recipient it is a lower bound.
    pub(super) fn estimate(&self, id: TicketId, ticket: &Ticket, not_before: Moment) -> Estimate {
        let (now, rule) = (self.now, &self.recipients.rule);
        let (mut mine, mut opens_at, mut pair_turn) = (1, now, now);
        if let Some(pair) = self.recipients.get(&ticket.pair) {
            let line = pair.line(ticket.class);
            let before = line.before(id);
            mine = before + usize::from(!line.has_place(&ticket.caller));
            let count = |count| u32::try_from(count).unwrap_or(u32::MAX);
            let answers = self.answer_time.saturating_mul(count(before + usize::from(line.is_in_flight())));
            opens_at = pair.pace.opens_at(rule, now);
            pair_turn = pair.pace.turn(rule, now, count(before)).saturating_add(answers);
        }
        opens_at = opens_at.max(not_before);
        pair_turn = pair_turn.max(not_before);
        // What is ready now says nothing about a later moment.
        let slot = if opens_at > now {
            1
        } else {
            mine += self.turns.standing(ticket.class, &ticket.caller);
            self.turns.slot(ticket.class, &ticket.caller, mine)
        };
        let lane_turn = self.pacer.turn(now, u32::try_from(slot).unwrap_or(u32::MAX));
        let why = if pair_turn > lane_turn {
            Why::Pair
        } else if self.suspended_until > now {
            Why::Suspended
        } else {
            Why::Throughput
        };
        Estimate { turn: pair_turn.max(lane_turn), why }
    }

    /// Why a ticket should not wait, if it should not.
    pub(super) fn objection(&mut self, ticket: &Ticket, estimate: Estimate) -> Option<Refusal> {
        let deadline = ticket.deadline?;
        match self.parked.filter(|_| self.is_shut()) {
            Some(verdict) => Some(Refusal { why: Why::Parked(verdict), retry_after: None }),
            None => (deadline < estimate.turn).then(|| self.refusal(estimate, deadline)),
        }
    }

    /// Who is as patient again will be in time when as much time has gone as was missing. What all wait for comes slot by
    /// slot, and so should they.
    fn refusal(&mut self, estimate: Estimate, deadline: Moment) -> Refusal {
        let missing = estimate.turn.saturating_sub(deadline.max(self.now)).max(RETRY_AFTER_MIN);
        let delay = match estimate.why {
            Why::Throughput | Why::Suspended => self.crowd.delay(self.now, missing, self.pacer.interval()),
            Why::Pair | Why::Parked(_) | Why::Full => Duration::ZERO,
        };
        Refusal { why: estimate.why, retry_after: Some(missing.saturating_add(delay)) }
    }

    /// Something got worse for those who wait, a little.
    pub(super) fn review_soon(&mut self) {
        if !self.deadlines.is_empty() {
            self.review_at.get_or_insert(self.reviewed_at.saturating_add(REVIEW_INTERVAL));
        }
    }

    /// Expires what cannot go out in time any more.
    pub(super) fn expire_hopeless(&mut self) {
        let opens_at = self.now.max(self.pacer.paused_until());
        while let Some((_, id)) = self.deadlines.first().copied().filter(|(deadline, _)| *deadline < opens_at)
        {
            self.expire(id);
        }
        if self.review_at.is_some_and(|at| at <= self.now) {
            self.review_at = None;
            self.reviewed_at = self.now;
            for id in self.late_for_their_slots() {
                self.expire(id);
            }
        }
    }

    /// Expires those for whom this was the last moment.
    pub(super) fn expire_due(&mut self) {
        while let Some((_, id)) =
            self.deadlines.first().copied().filter(|(deadline, _)| *deadline <= self.now)
        {
            self.expire(id);
        }
    }

    /// Expires those who wait for a recipient that sleeps for too long.
    pub(super) fn expire_asleep(&mut self, pair: &PairKey) {
        let Some(found) = self.recipients.get(pair) else { return };
        let opens_at = found.pace.opens_at(&self.recipients.rule, self.now);
        let is_late = |id: &TicketId| {
            let deadline = self.tickets.get(id).and_then(|entry| entry.ticket.deadline);
            deadline.is_some_and(|deadline| deadline < opens_at)
        };
        for id in found.tickets().filter(is_late).collect::<Vec<_>>() {
            self.expire(id);
        }
    }

    /// Expires everybody who does not wait as long as it takes.
    pub(super) fn expire_parked(&mut self) {
        while let Some((_, id)) = self.deadlines.first().copied() {
            self.expire(id);
        }
    }

    /// Plays the coming turns forward and finds the tickets whose slot is too late.
    fn late_for_their_slots(&self) -> Vec<TicketId> {
        if self.deadlines.is_empty() {
            return Vec::new();
        }
        let (mut slot, mut seen, mut late) = (1, HashSet::new(), Vec::new());
        self.turns.play(|class, key| {
            let id = self.recipients.get(key).and_then(|pair| pair.line(class).first());
            let Some(entry) = id.and_then(|id| self.tickets.get(&id)) else { return false };
            // With several callers in line, a recipient comes up more than once.
            let Some(id) = id.filter(|id| seen.insert(*id)) else { return false };
            let turn = self.pacer.turn(self.now, slot);
            let is_late = entry.ticket.deadline.is_some_and(|deadline| deadline < turn);
            if is_late {
                late.push(id);
            } else {
                slot = slot.saturating_add(1);
            }
            !is_late
        });
        late
    }

    fn expire(&mut self, id: TicketId) {
        let Some(ticket) = self.withdraw(id) else { return };
        let next = TicketId(u64::MAX);
        let estimate = self.estimate(next, &ticket, Moment::ZERO);
        let refusal = match self.parked {
            Some(verdict) => Refusal { why: Why::Parked(verdict), retry_after: None },
            None => self.refusal(estimate, ticket.deadline.unwrap_or(self.now)),
        };
        self.expired.push((id, refusal));
    }
}
