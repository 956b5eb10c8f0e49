//! The machine of one subscription.

mod shown;
mod transitions;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::time::Duration;

use super::lines::Lines;
use super::workers::{Wish, WorkerId, Workers};
use super::{Candidate, Cause, Hole, Mode, Parking, Place, Terms};

/// Events that are looked at and not done, at most. Nothing newer is handed out before one of them is done or parked.
pub const WINDOW_EVENTS: usize = 10_000;
/// Events that may be parked. Beyond, an event is tried again and again instead.
pub const PARKED_MAX: u64 = 10_000;
/// Events that wait for a worker, from which on nothing further is looked at.
const READY_AHEAD: usize = 256;
/// How long it may take to read an event that was leased, and to hand it over.
const HAND_OVER_MAX: Duration = Duration::from_mins(1);
/// Ends of leases that are remembered, so that what is said twice counts once.
const ENDS_REMEMBERED: usize = 20_000;

/// What a worker says of a lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It is done.
    Done,
    /// It shall be delivered again; `None` means after the subscription's own delay.
    Retry(Option<Duration>),
    /// Nobody can do it now.
    Park(String),
    /// It takes this much longer, from now on.
    Extend(Duration),
}

/// Why what a worker says counts for nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// The lease has ended: the event was, or will be, delivered again, unless somebody else has done it.
    Expired,
    /// No such lease was ever given out.
    Unknown,
    /// No further event can be parked: so many are, or there is no room for copies. The lease goes on.
    ParkedFull,
}

/// An event in the hands of a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lease {
    /// Names it among those of this machine.
    pub number: u64,
    /// The event.
    pub place: Place,
    /// How often it was delivered, this time included.
    pub attempt: u32,
}

/// How much to hand out at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Most {
    /// Events.
    pub events: usize,
    /// Their bytes; one larger event goes alone.
    pub bytes: u64,
}

#[derive(Debug)]
struct Entry {
    candidate: Candidate,
    attempts: u32,
    due_ms: u64,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// An earlier event of its conversation is not done.
    Blocked,
    Ready,
    /// Until it is due.
    Waiting,
    Leased {
        number: u64,
        worker: WorkerId,
        deadline_ms: u64,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ended {
    Done,
    Retry,
    Park,
}

/// One subscription; see [the module](super).
#[derive(Debug)]
pub struct Machine {
    terms: Terms,
    entries: BTreeMap<Place, Entry>,
    /// Of each conversation, in [`Mode::Ordered`] only.
    lines: Lines,
    ready: BTreeSet<Place>,
    waiting: BTreeSet<Place>,
    /// When waiting ends, and when leases do.
    alarms: BTreeSet<(u64, Place)>,
    leases: HashMap<u64, Place>,
    last_lease: u64,
    workers: Workers,
    ended: HashMap<u64, Ended>,
    ended_order: VecDeque<u64>,
    /// Everything up to here was looked at.
    scanned: u64,
    /// The last event that was handed out.
    touched: u64,
    missed: u64,
    /// Entries whose copy among the parked events is delivered.
    replays: usize,
    parked: u64,
    /// Whether what is parked can be copied.
    has_room: bool,
    /// Counts what must be stored.
    change: u64,
    parkings: Vec<(u64, Parking)>,
    unparked: Vec<(u64, u64)>,
}

impl Machine {
    /// A subscription that has come so far. Its holes are offered by [`Machine::restore`].
    pub fn new(terms: Terms, through: u64, missed: u64) -> Self {
        Self {
            terms,
            entries: BTreeMap::new(),
            lines: Lines::default(),
            ready: BTreeSet::new(),
            waiting: BTreeSet::new(),
            alarms: BTreeSet::new(),
            leases: HashMap::new(),
            last_lease: 0,
            workers: Workers::default(),
            ended: HashMap::new(),
            ended_order: VecDeque::new(),
            scanned: through,
            touched: through,
            missed,
            replays: 0,
            parked: 0,
            has_room: true,
            change: 0,
            parkings: Vec::new(),
            unparked: Vec::new(),
        }
    }

    /// An event that an earlier machine has left undone.
    pub fn restore(&mut self, candidate: Candidate, hole: Hole) {
        self.insert(Place { seq: hole.seq, is_parked: false }, candidate, hole.attempts, hole.due_ms);
    }

    /// These events follow, and nothing else is wanted up to `through`.
    pub fn offer(&mut self, candidates: &[Candidate], through: u64) {
        let scanned = self.scanned;
        for candidate in candidates.iter().filter(|candidate| candidate.seq > scanned) {
            self.insert(Place { seq: candidate.seq, is_parked: false }, *candidate, 0, 0);
        }
        self.scanned = self.scanned.max(through);
    }

    /// Whether further events should be looked at: as many as workers can take, and without workers the next one.
    pub fn wants_more(&self) -> bool {
        let ahead = if self.workers.attached() == 0 { 1 } else { READY_AHEAD };
        let kept = self.entries.len() - self.replays;
        self.ready.len() < ahead && kept < if ahead == 1 { 1 } else { WINDOW_EVENTS }
    }

    /// Other terms, from the next delivery on. The mode never changes.
    pub fn set_terms(&mut self, terms: Terms) {
        self.terms = terms;
    }

    /// A worker comes. One of the same name goes, and all that it has in hand comes back.
    pub fn attach(&mut self, wish: Wish, now_ms: u64) -> WorkerId {
        self.advance(now_ms);
        for earlier in self.workers.named(&wish.client_id) {
            self.workers.detach(earlier);
            self.take_all_back(earlier);
        }
        self.workers.attach(wish)
    }

    /// A worker's stream is closed. What it has in hand it may still finish, unless others must wait for the order.
    pub fn detach(&mut self, worker: WorkerId) {
        if self.workers.detach(worker) && self.terms.mode == Mode::Exclusive {
            self.take_all_back(worker);
        }
    }

    /// Whether a worker's stream takes nothing at the moment: then its share goes to the others.
    pub fn set_stalled(&mut self, worker: WorkerId, is_stalled: bool) {
        self.workers.set_stalled(worker, is_stalled);
    }

    /// Whether its stream still counts: no other one has taken over.
    pub fn is_attached(&self, worker: WorkerId) -> bool {
        self.workers.is_attached(worker)
    }

    /// Leases events to a worker, to be handed over at once: see [`Machine::handed_over`] and [`Machine::unlease`].
    pub fn lease(&mut self, worker: WorkerId, now_ms: u64, most: Most) -> Vec<Lease> {
        self.advance(now_ms);
        let next = self.ready.first().and_then(|place| self.entries.get(place));
        let ready = (self.ready.len(), next.map_or(0, |entry| entry.candidate.bytes));
        let share = self.workers.share(worker, ready, self.terms.mode).min(most.events);
        let (mut leases, mut bytes) = (Vec::new(), 0);
        while leases.len() < share {
            let Some(place) = self.next_ready() else { break };
            let Some(entry) = self.entries.get_mut(&place) else { break };
            let size = entry.candidate.bytes;
            let is_over = !leases.is_empty() && bytes + size > most.bytes;
            if is_over || !self.workers.has_room_for(worker, size) {
                break;
            }
            bytes += size;
            self.last_lease += 1;
            let within = self.terms.ack_deadline + HAND_OVER_MAX;
            let (number, deadline_ms) = (self.last_lease, later(now_ms, within));
            entry.attempts = entry.attempts.saturating_add(1);
            entry.state = State::Leased { number, worker, deadline_ms };
            leases.push(Lease { number, place, attempt: entry.attempts });
            self.ready.remove(&place);
            self.alarms.insert((deadline_ms, place));
            self.leases.insert(number, place);
            self.workers.take(worker, size);
            if !place.is_parked {
                self.touched = self.touched.max(place.seq);
            }
        }
        leases
    }

    /// The events have gone to their worker: from now on the time runs that it has for them, which is a millisecond longer for
    /// each KiB, since a large event is long on its way.
    pub fn handed_over(&mut self, numbers: &[u64], now_ms: u64) {
        for number in numbers {
            let Some(place) = self.leases.get(number).copied() else { continue };
            let bytes = self.entries.get(&place).map_or(0, |entry| entry.candidate.bytes);
            let within = self.terms.ack_deadline + Duration::from_millis(bytes / 1024);
            self.extend(place, later(now_ms, within));
        }
    }

    /// The event was never handed over: as if it had not been leased.
    pub fn unlease(&mut self, number: u64) {
        if let Some(place) = self.leases.get(&number).copied() {
            self.revoke(place);
        }
    }

    /// A worker says what became of a lease. What is said twice counts once.
    pub fn settle(&mut self, number: u64, outcome: Outcome, now_ms: u64) -> Result<(), Refused> {
        self.advance(now_ms);
        let Some(place) = self.leases.get(&number).copied() else {
            return self.settle_again(number, &outcome);
        };
        match outcome {
            Outcome::Done => {
                self.remember(number, Ended::Done);
                self.finish(place);
            }
            Outcome::Retry(delay) => {
                self.remember(number, Ended::Retry);
                let attempts = self.entries.get(&place).map_or(0, |entry| entry.attempts);
                let delay = delay.unwrap_or_else(|| self.terms.retry_delay(attempts));
                self.give_back(place, later(now_ms, delay));
            }
            Outcome::Park(_) if !self.can_park(place) => {
                return Err(Refused::ParkedFull);
            }
            Outcome::Park(reason) => {
                self.remember(number, Ended::Park);
                self.park(place, Cause::Worker, reason);
            }
            Outcome::Extend(by) => self.extend(place, later(now_ms, by)),
        }
        Ok(())
    }

    fn settle_again(&self, number: u64, outcome: &Outcome) -> Result<(), Refused> {
        if number == 0 || number > self.last_lease {
            return Err(Refused::Unknown);
        }
        let same = match outcome {
            Outcome::Done => Ended::Done,
            Outcome::Retry(_) => Ended::Retry,
            Outcome::Park(_) => Ended::Park,
            Outcome::Extend(_) => return Err(Refused::Expired),
        };
        if self.ended.get(&number) == Some(&same) { Ok(()) } else { Err(Refused::Expired) }
    }

    /// Everything is forgotten that is not parked, and the next event is the one after `through`. Leases end.
    pub fn seek(&mut self, through: u64) {
        self.remove_below(u64::MAX);
        (self.scanned, self.touched) = (through, through);
        self.change += 1;
    }

    /// Retention has removed everything before `earliest`; returns how many events nobody has done, before the filter.
    pub fn skip(&mut self, earliest: u64) -> u64 {
        let passed = earliest.saturating_sub(1);
        let missing = self.remove_below(earliest) + passed.saturating_sub(self.scanned);
        self.scanned = self.scanned.max(passed);
        self.touched = self.touched.max(passed);
        self.missed += missing;
        self.change += 1;
        missing
    }

    /// The first event before `earliest` that is not done, or not looked at.
    pub fn has_before(&self, earliest: u64) -> bool {
        self.floor() + 1 < earliest
    }

    /// So many events are parked, as the store says.
    pub fn set_parked(&mut self, count: u64) {
        self.parked = count;
    }

    /// Whether there is room for copies of parked events. Without it nothing is parked, as at [`PARKED_MAX`].
    pub fn set_room(&mut self, has_room: bool) {
        self.has_room = has_room;
    }

    /// The first `count` parkings that were shown as not stored are stored, and never shown again.
    pub fn stored_parkings(&mut self, count: usize) {
        self.parkings.drain(..count.min(self.parkings.len()));
    }

    /// A parked event is delivered again.
    pub fn replay(&mut self, candidate: Candidate) {
        self.insert(Place { seq: candidate.seq, is_parked: true }, candidate, 0, 0);
    }

    /// A parked event is dropped, also while it is delivered again.
    pub fn drop_parked(&mut self, seq: u64) {
        // One that was done just now does not count any more.
        if !self.unparked.iter().any(|(_, done)| *done == seq) {
            self.parked = self.parked.saturating_sub(1);
        }
        self.remove(Place { seq, is_parked: true });
    }

    /// An event that was parked now had been parked before: it counts once.
    pub fn was_parked(&mut self) {
        self.parked = self.parked.saturating_sub(1);
    }

    /// An event that was to be parked is not there any more.
    pub fn lose_parked(&mut self) {
        self.parked = self.parked.saturating_sub(1);
        self.missed += 1;
        self.change += 1;
    }

    /// The event is not wanted any more: it counts as done.
    pub fn pass(&mut self, number: u64) {
        if let Some(place) = self.leases.get(&number).copied() {
            self.finish(place);
        }
    }

    /// A parked event that was to be delivered again is not, and stays parked.
    pub fn park_again(&mut self, number: u64, cause: Cause, reason: String) {
        if let Some(place) = self.leases.get(&number).copied() {
            self.park(place, cause, reason);
        }
    }

    /// Ends what time has ended.
    pub fn advance(&mut self, now_ms: u64) {
        while let Some((_, place)) = self.alarms.first().copied().filter(|(at, _)| *at <= now_ms) {
            match self.entries.get(&place).map(|entry| entry.state) {
                Some(State::Leased { .. }) => self.give_back(place, 0),
                Some(State::Waiting) => self.set_ready(place),
                // No alarm stays without one of these.
                Some(State::Blocked | State::Ready) | None => drop(self.alarms.pop_first()),
            }
        }
    }
}

fn later(now_ms: u64, by: Duration) -> u64 {
    now_ms.saturating_add(u64::try_from(by.as_millis()).unwrap_or(u64::MAX))
}
