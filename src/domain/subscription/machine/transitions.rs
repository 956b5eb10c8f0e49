//! How events move from state to state.

use super::super::lines;
use super::super::{Candidate, Cause, Mode, Parking, Place, WorkerId};
use super::{ENDS_REMEMBERED, Ended, Entry, Machine, PARKED_MAX, State};

impl Machine {
    pub(super) fn insert(&mut self, place: Place, candidate: Candidate, attempts: u32, due_ms: u64) {
        if self.entries.contains_key(&place) {
            return;
        }
        self.replays += usize::from(place.is_parked);
        self.entries.insert(place, Entry { candidate, attempts, due_ms, state: State::Blocked });
        if self.terms.mode == Mode::Ordered {
            let is_held = |place: &Place| {
                self.entries.get(place).is_some_and(|entry| matches!(entry.state, State::Leased { .. }))
            };
            let lines::Change { stop, go } = self.lines.join(candidate.key, place, is_held);
            if let Some(overtaken) = stop {
                self.quiet(overtaken);
            }
            if let Some(next) = go {
                self.unblock(next);
            }
        } else {
            self.unblock(place);
        }
    }

    /// Its turn has come in its conversation.
    pub(super) fn unblock(&mut self, place: Place) {
        let Some(entry) = self.entries.get_mut(&place) else { return };
        if entry.due_ms == 0 {
            entry.state = State::Ready;
            self.ready.insert(place);
        } else {
            entry.state = State::Waiting;
            self.waiting.insert(place);
            self.alarms.insert((entry.due_ms, place));
        }
    }

    pub(super) fn set_ready(&mut self, place: Place) {
        self.quiet(place);
        if let Some(entry) = self.entries.get_mut(&place) {
            entry.due_ms = 0;
        }
        self.unblock(place);
    }

    /// Blocked, whatever it was.
    pub(super) fn quiet(&mut self, place: Place) {
        let Some(entry) = self.entries.get_mut(&place) else { return };
        match std::mem::replace(&mut entry.state, State::Blocked) {
            State::Blocked => {}
            State::Ready => drop(self.ready.remove(&place)),
            State::Waiting => {
                self.waiting.remove(&place);
                self.alarms.remove(&(entry.due_ms, place));
            }
            State::Leased { number, worker, deadline_ms } => {
                self.alarms.remove(&(deadline_ms, place));
                self.leases.remove(&number);
                self.workers.give_back(worker, entry.candidate.bytes);
            }
        }
    }

    pub(super) fn next_ready(&self) -> Option<Place> {
        let first = *self.ready.first()?;
        let waits_before = || self.waiting.first().is_some_and(|waiting| *waiting < first);
        (self.terms.mode != Mode::Exclusive || !waits_before()).then_some(first)
    }

    pub(super) fn extend(&mut self, place: Place, until_ms: u64) {
        if let Some(Entry { state: State::Leased { deadline_ms, .. }, .. }) = self.entries.get_mut(&place) {
            self.alarms.remove(&(*deadline_ms, place));
            *deadline_ms = until_ms;
            self.alarms.insert((until_ms, place));
        }
    }

    /// A delivery that led to nothing.
    pub(super) fn give_back(&mut self, place: Place, due_ms: u64) {
        self.quiet(place);
        self.change += 1;
        let can_park = self.can_park(place);
        let Some(entry) = self.entries.get_mut(&place) else { return };
        if entry.attempts >= self.terms.attempts_max && can_park {
            self.park(place, Cause::AttemptsExhausted, String::new());
        } else {
            entry.due_ms = due_ms;
            self.unblock(place);
            if self.terms.mode == Mode::Exclusive {
                self.revoke_after(place);
            }
        }
    }

    /// A delivery that does not count.
    pub(super) fn revoke(&mut self, place: Place) {
        self.quiet(place);
        if let Some(entry) = self.entries.get_mut(&place) {
            entry.attempts = entry.attempts.saturating_sub(1);
        }
        self.unblock(place);
    }

    pub(super) fn revoke_after(&mut self, place: Place) {
        let later: Vec<Place> = self.leases.values().copied().filter(|leased| *leased > place).collect();
        for leased in later {
            self.revoke(leased);
        }
    }

    pub(super) fn take_all_back(&mut self, worker: WorkerId) {
        let is_its = |entry: &Entry| matches!(entry.state, State::Leased { worker: of, .. } if of == worker);
        let its: Vec<Place> =
            self.leases.values().copied().filter(|p| self.entries.get(p).is_some_and(is_its)).collect();
        let first = its.iter().copied().min();
        for place in its {
            // In order, what comes after the first comes back with it.
            if self.terms.mode != Mode::Exclusive || Some(place) == first {
                self.give_back(place, 0);
            }
        }
        // Also if the first is parked now.
        if let Some(first) = first.filter(|_| self.terms.mode == Mode::Exclusive) {
            self.revoke_after(first);
        }
    }

    pub(super) fn can_park(&self, place: Place) -> bool {
        place.is_parked || self.has_room && self.parked < PARKED_MAX
    }

    pub(super) fn park(&mut self, place: Place, cause: Cause, reason: String) {
        let attempts = self.entries.get(&place).map_or(0, |entry| entry.attempts);
        self.parked += u64::from(!place.is_parked);
        self.remove(place);
        self.change += 1;
        self.parkings.push((self.change, Parking { place, attempts, cause, reason }));
    }

    pub(super) fn finish(&mut self, place: Place) {
        self.remove(place);
        self.change += 1;
        if place.is_parked {
            self.parked = self.parked.saturating_sub(1);
            self.unparked.push((self.change, place.seq));
        }
    }

    pub(super) fn remove(&mut self, place: Place) {
        self.quiet(place);
        let Some(entry) = self.entries.remove(&place) else { return };
        self.replays -= usize::from(place.is_parked);
        if self.terms.mode == Mode::Ordered
            && let Some(next) = self.lines.leave(entry.candidate.key, place)
        {
            self.unblock(next);
        }
    }

    pub(super) fn remove_below(&mut self, seq: u64) -> u64 {
        let of_log = |place: &&Place| !place.is_parked && place.seq < seq;
        let gone: Vec<Place> = self.entries.keys().filter(of_log).copied().collect();
        let count = gone.len() as u64;
        for place in gone {
            self.remove(place);
        }
        count
    }

    pub(super) fn remember(&mut self, number: u64, ended: Ended) {
        self.ended.insert(number, ended);
        self.ended_order.push_back(number);
        if self.ended_order.len() > ENDS_REMEMBERED
            && let Some(oldest) = self.ended_order.pop_front()
        {
            self.ended.remove(&oldest);
        }
    }
}
