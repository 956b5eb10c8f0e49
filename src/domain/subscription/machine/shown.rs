//! What a machine shows: what must be stored of it, and how far it has come.

use super::super::{Hole, Place, Progress, Unsaved, WorkerId};
use super::{Entry, Machine, State};

impl Machine {
    /// What must be stored so that nothing that was answered is forgotten; `None` if nothing has changed since `saved`.
    pub fn unsaved(&self, saved: u64) -> Option<Unsaved> {
        (self.change > saved).then(|| Unsaved {
            change: self.change,
            parkings: self.parkings.iter().map(|(_, parking)| parking.clone()).collect(),
            progress: self.progress(),
            unparked: self.unparked.iter().map(|(_, seq)| *seq).collect(),
        })
    }

    /// What [`Machine::unsaved`] gave is stored, up to this change.
    pub fn saved(&mut self, change: u64) {
        self.parkings.retain(|(of, _)| *of > change);
        self.unparked.retain(|(of, _)| *of > change);
    }

    /// Counts what must be stored.
    pub fn change(&self) -> u64 {
        self.change
    }

    /// How far it has come.
    pub fn progress(&self) -> Progress {
        let of_log = |(place, entry): (&Place, &Entry)| {
            let hole = Hole { seq: place.seq, attempts: entry.attempts, due_ms: entry.due_ms };
            (!place.is_parked).then_some(hole)
        };
        let next = Place { seq: self.touched + 1, is_parked: false };
        let untouched = self.entries.range(next..).find_map(of_log);
        Progress {
            through: untouched.map_or(self.scanned, |hole| hole.seq - 1),
            holes: self.entries.range(..next).filter_map(of_log).collect(),
            missed: self.missed,
        }
    }

    /// Every event up to here is done or parked.
    pub fn floor(&self) -> u64 {
        let first = self.entries.keys().find(|place| !place.is_parked);
        first.map_or(self.scanned, |place| place.seq - 1)
    }

    /// Everything up to here was looked at.
    pub fn scanned(&self) -> u64 {
        self.scanned
    }

    /// Events that were looked at and are not done; replays too.
    pub fn undone(&self) -> u64 {
        self.entries.len() as u64
    }

    /// When the oldest of them was stored.
    pub fn oldest_append_ms(&self) -> Option<u64> {
        self.entries.values().next().map(|entry| entry.candidate.append_ms)
    }

    /// Events that are parked, those that are delivered again too.
    pub fn parked(&self) -> u64 {
        self.parked
    }

    /// Events that retention removed before anybody had done them.
    pub fn missed(&self) -> u64 {
        self.missed
    }

    /// Open streams.
    pub fn workers(&self) -> usize {
        self.workers.attached()
    }

    /// Events in the hands of a worker, and of all.
    pub fn outstanding(&self, worker: WorkerId) -> u64 {
        self.workers.outstanding(worker)
    }

    /// Leases that have not ended.
    pub fn leased(&self) -> usize {
        self.leases.len()
    }

    /// Whether events wait for a worker.
    pub fn is_any_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Whether this one has not ended.
    pub fn is_leased(&self, number: u64) -> bool {
        self.leases.contains_key(&number)
    }

    /// Whether an event of the log is still to be handed out.
    pub fn is_due(&self, seq: u64) -> bool {
        let entry = self.entries.get(&Place { seq, is_parked: false });
        entry.is_some_and(|entry| !matches!(entry.state, State::Leased { .. }))
    }

    /// When time alone changes something; `None` while it does not.
    pub fn next_wake_ms(&self) -> Option<u64> {
        self.alarms.first().map(|(at, _)| *at)
    }
}
