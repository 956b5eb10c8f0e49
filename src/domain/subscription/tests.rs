use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

mod deadline;
mod parked;

const ALL: Most = Most { events: usize::MAX, bytes: u64::MAX };

fn terms(mode: Mode) -> Terms {
    Terms {
        mode,
        ack_deadline: Duration::from_secs(30),
        retry_delay_min: Duration::from_secs(1),
        retry_delay_max: Duration::from_secs(10),
        attempts_max: 3,
    }
}

fn candidate(seq: u64, key: u64) -> Candidate {
    Candidate { seq, key, bytes: 100, append_ms: seq }
}

fn wish(client_id: &str) -> Wish {
    Wish { client_id: client_id.to_owned(), events_max: 100, bytes_max: 1 << 20 }
}

/// A machine with these events, each with its conversation.
fn machine(mode: Mode, keys: &[u64]) -> Machine {
    let mut machine = Machine::new(terms(mode), 0, 0);
    let candidates: Vec<_> = keys.iter().zip(1..).map(|(key, seq)| candidate(seq, *key)).collect();
    machine.offer(&candidates, keys.len() as u64);
    machine
}

/// Leases events and hands them over.
fn hand(m: &mut Machine, worker: WorkerId, now: u64, most: Most) -> Vec<Lease> {
    let leases = m.lease(worker, now, most);
    let numbers: Vec<u64> = leases.iter().map(|lease| lease.number).collect();
    m.handed_over(&numbers, now);
    leases
}

fn seqs(leases: &[Lease]) -> Vec<u64> {
    leases.iter().map(|lease| lease.place.seq).collect()
}

#[test]
fn one_event_of_a_conversation_at_a_time() {
    let mut m = machine(Mode::Ordered, &[1, 1, 2, 1]);
    let (a, b) = (m.attach(wish(""), 0), m.attach(wish(""), 0));
    let first = hand(&mut m, a, 0, ALL);
    assert_eq!(seqs(&first), [1], "two workers share what is ready");
    let second = hand(&mut m, b, 0, ALL);
    assert_eq!(seqs(&second), [3]);
    assert_eq!(hand(&mut m, b, 0, ALL), []);
    m.settle(first[0].number, Outcome::Retry(None), 0).unwrap();
    assert_eq!(m.next_wake_ms(), Some(1_000));
    assert_eq!(hand(&mut m, a, 999, ALL), [], "a retry keeps the conversation");
    assert_eq!(hand(&mut m, b, 1_000, ALL), [], "the other one has less in hand");
    let again = hand(&mut m, a, 1_000, ALL);
    assert_eq!((seqs(&again), again[0].attempt), (vec![1], 2));
    assert_eq!(m.progress().holes.len(), 3, "the blocked one before the last that was handed out too");
    m.settle(again[0].number, Outcome::Park("no stock".to_owned()), 1_000).unwrap();
    assert_eq!(seqs(&hand(&mut m, a, 1_000, ALL)), [2], "a parked one releases it");
    let parkings = m.unsaved(0).unwrap().parkings;
    assert_eq!((parkings.len(), parkings[0].attempts, parkings[0].cause), (1, 2, Cause::Worker));
}

#[test]
fn a_lease_ends_once() {
    let mut m = machine(Mode::Shared, &[1, 1]);
    let worker = m.attach(wish(""), 0);
    let leases = hand(&mut m, worker, 0, ALL);
    m.settle(leases[0].number, Outcome::Done, 1).unwrap();
    assert_eq!(m.settle(leases[0].number, Outcome::Done, 1), Ok(()), "a repetition is no error");
    assert_eq!(m.settle(leases[0].number, Outcome::Retry(None), 1), Err(Refused::Expired));
    assert_eq!(m.settle(99, Outcome::Done, 1), Err(Refused::Unknown));
    m.settle(leases[1].number, Outcome::Extend(Duration::from_mins(1)), 29_000).unwrap();
    m.advance(30_000);
    assert_eq!(m.leased(), 1);
    m.advance(89_000);
    assert_eq!(m.leased(), 0);
    assert_eq!(m.settle(leases[1].number, Outcome::Done, 89_000), Err(Refused::Expired));
    let again = hand(&mut m, worker, 89_000, ALL);
    assert_eq!((seqs(&again), again[0].attempt), (vec![2], 2));
    assert_eq!((m.floor(), m.progress().through), (1, 2));
}

#[test]
fn what_cannot_be_done_is_parked_and_may_come_again() {
    let mut m = machine(Mode::Ordered, &[1, 1]);
    let worker = m.attach(wish(""), 0);
    for now in [0, 30_000, 60_000] {
        assert_eq!(seqs(&hand(&mut m, worker, now, ALL)), [1]);
    }
    let lease = hand(&mut m, worker, 90_000, ALL);
    assert_eq!((seqs(&lease), m.parked()), (vec![2], 1));
    let unsaved = m.unsaved(0).unwrap();
    assert_eq!(unsaved.parkings[0].cause, Cause::AttemptsExhausted);
    m.saved(unsaved.change);
    m.settle(lease[0].number, Outcome::Done, 90_000).unwrap();
    assert_eq!(m.unsaved(unsaved.change).unwrap().parkings, []);
    m.replay(candidate(1, 1));
    let replayed = hand(&mut m, worker, 90_000, ALL);
    assert_eq!((replayed[0].place, replayed[0].attempt), (Place { seq: 1, is_parked: true }, 1));
    m.settle(replayed[0].number, Outcome::Done, 90_000).unwrap();
    let unsaved = m.unsaved(unsaved.change).unwrap();
    assert_eq!((unsaved.unparked, m.parked(), m.floor()), (vec![1], 0, 2));
}

#[test]
fn one_worker_has_all_and_what_comes_back_brings_the_later_ones() {
    let mut m = machine(Mode::Exclusive, &[1, 2, 3, 4]);
    let (active, other) = (m.attach(wish(""), 0), m.attach(wish(""), 0));
    assert_eq!(hand(&mut m, other, 0, ALL), []);
    let leases = hand(&mut m, active, 0, Most { events: 3, ..ALL });
    assert_eq!(seqs(&leases), [1, 2, 3]);
    m.settle(leases[0].number, Outcome::Done, 0).unwrap();
    m.settle(leases[1].number, Outcome::Retry(None), 0).unwrap();
    assert_eq!(m.settle(leases[2].number, Outcome::Done, 0), Err(Refused::Expired));
    assert_eq!(hand(&mut m, active, 500, ALL), [], "nothing overtakes it");
    let again = hand(&mut m, active, 1_000, ALL);
    assert_eq!(again.iter().map(|l| (l.place.seq, l.attempt)).collect::<Vec<_>>(), [(2, 2), (3, 1), (4, 1)]);
    m.detach(active);
    assert_eq!(seqs(&hand(&mut m, other, 1_000, ALL)), [2, 3, 4], "the next in line takes over at once");
}

#[test]
fn who_comes_again_takes_its_events_over() {
    let mut m = machine(Mode::Ordered, &[1, 2]);
    let first = m.attach(wish("worker-1"), 0);
    let leases = hand(&mut m, first, 0, ALL);
    m.detach(first);
    let other = m.attach(wish("worker-2"), 0);
    assert_eq!(hand(&mut m, other, 0, ALL), [], "what is in hand may still be done");
    let second = m.attach(wish("worker-1"), 0);
    assert!(!m.is_attached(first) && m.is_attached(second));
    assert_eq!(seqs(&hand(&mut m, second, 0, ALL)).len() + seqs(&hand(&mut m, other, 0, ALL)).len(), 2);
    assert_eq!(m.settle(leases[0].number, Outcome::Done, 0), Err(Refused::Expired));
}

#[test]
fn a_worker_gets_no_more_than_it_wants() {
    let mut m = machine(Mode::Shared, &[1; 10]);
    let few = m.attach(Wish { events_max: 2, ..wish("") }, 0);
    assert_eq!(hand(&mut m, few, 0, ALL).len(), 2);
    assert_eq!(hand(&mut m, few, 0, ALL), []);
    let small = m.attach(Wish { bytes_max: 250, ..wish("") }, 0);
    assert_eq!(hand(&mut m, small, 0, ALL).len(), 2);
    let tiny = m.attach(Wish { bytes_max: 1, ..wish("") }, 0);
    assert_eq!(hand(&mut m, tiny, 0, ALL).len(), 1, "one that is too large goes alone");
    assert_eq!(hand(&mut m, tiny, 0, ALL), []);
}

#[test]
fn all_have_equally_many_in_hand_but_for_those_who_take_nothing() {
    let keys: Vec<u64> = (0..20).collect();
    let mut m = machine(Mode::Ordered, &keys);
    let (a, b) = (m.attach(wish(""), 0), m.attach(wish(""), 0));
    assert_eq!((hand(&mut m, a, 0, ALL).len(), hand(&mut m, a, 0, ALL).len()), (10, 0));
    m.set_stalled(b, true);
    assert_eq!(hand(&mut m, a, 0, Most { events: 4, ..ALL }).len(), 4);
    m.set_stalled(b, false);
    assert_eq!((hand(&mut m, a, 0, ALL).len(), hand(&mut m, b, 0, ALL).len()), (0, 6));
}

#[test]
fn what_retention_removed_is_counted_and_a_seek_forgets() {
    let mut m = machine(Mode::Ordered, &[1, 2, 3]);
    let worker = m.attach(wish(""), 0);
    let leases = hand(&mut m, worker, 0, ALL);
    m.settle(leases[1].number, Outcome::Done, 0).unwrap();
    assert!(m.has_before(2) && !m.has_before(1));
    assert_eq!(m.skip(6), 4, "two that were not done, two that nobody has seen");
    assert_eq!((m.floor(), m.missed(), m.leased()), (5, 4, 0));
    m.seek(1);
    assert_eq!((m.progress(), m.undone()), (Progress { through: 1, holes: vec![], missed: 4 }, 0));
}

#[derive(Debug, Clone)]
enum Step {
    Append(u64),
    Lease(usize, usize),
    Settle(prop::sample::Index, u8),
    Sleep(u64),
    Reconnect(usize),
    Restart,
    Replay,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0_u64..5).prop_map(Step::Append),
        6 => (0_usize..3, 1_usize..4).prop_map(|(worker, events)| Step::Lease(worker, events)),
        8 => (any::<prop::sample::Index>(), 0_u8..10).prop_map(|(lease, how)| Step::Settle(lease, how)),
        3 => (0_u64..20_000).prop_map(Step::Sleep),
        1 => (0_usize..3).prop_map(Step::Reconnect),
        1 => Just(Step::Restart),
        1 => Just(Step::Replay),
    ]
}

/// A log, its workers, and what is stored: the oracle beside the machine.
struct World {
    mode: Mode,
    now: u64,
    log: Vec<Candidate>,
    machine: Machine,
    workers: Vec<WorkerId>,
    /// Every lease that was ever given out, of this machine.
    leases: Vec<Lease>,
    saved: u64,
    stored: Progress,
    parked: BTreeSet<u64>,
    done: BTreeSet<u64>,
    /// The conversations that are in somebody's hands, by lease.
    held: BTreeMap<u64, u64>,
}

impl World {
    fn new(mode: Mode) -> Self {
        let mut machine = Machine::new(terms(mode), 0, 0);
        let workers = (0..3).map(|name| machine.attach(wish(&name.to_string()), 0)).collect();
        let (log, leases, parked, done) = (Vec::new(), Vec::new(), BTreeSet::new(), BTreeSet::new());
        let (stored, held) = (Progress::default(), BTreeMap::new());
        Self { mode, now: 0, log, machine, workers, leases, saved: 0, stored, parked, done, held }
    }

    fn act(&mut self, step: &Step) {
        match step {
            Step::Append(key) => {
                self.log.push(candidate(self.log.len() as u64 + 1, *key));
                // Every fifth conversation is not wanted.
                let wanted: Vec<_> = self.log.last().filter(|c| c.key < 4).copied().into_iter().collect();
                self.machine.offer(&wanted, self.log.len() as u64);
            }
            Step::Lease(worker, events) => self.lease(*worker, *events),
            Step::Settle(index, how) => self.settle(*index, *how),
            Step::Sleep(by) => self.now += by,
            Step::Reconnect(worker) => {
                self.workers[*worker] = self.machine.attach(wish(&worker.to_string()), self.now);
            }
            Step::Restart => self.restart(),
            Step::Replay => {
                for seq in std::mem::take(&mut self.parked) {
                    self.machine.replay(self.log[usize::try_from(seq).unwrap() - 1]);
                    self.parked.insert(seq);
                }
            }
        }
        self.check();
    }

    fn lease(&mut self, worker: usize, events: usize) {
        let leases =
            hand(&mut self.machine, self.workers[worker], self.now, Most { events, bytes: u64::MAX });
        for lease in &leases {
            let seq = lease.place.seq;
            assert!(!self.done.contains(&seq), "{seq} was done");
            assert_eq!(lease.place.is_parked, self.parked.contains(&seq), "{seq}");
            if self.mode == Mode::Exclusive && !lease.place.is_parked {
                let held = |seq: u64| {
                    let mut all = self.leases.iter().chain(&leases);
                    all.any(|l| l.place.seq == seq && self.machine.is_leased(l.number))
                };
                let mut earlier = self.log.iter().filter(|c| c.seq < seq && c.key < 4);
                let overtaken = earlier.find(|c| !self.is_over(c.seq) && !held(c.seq));
                assert_eq!(overtaken, None, "{seq} overtook it");
            }
        }
        self.leases.extend(leases);
    }

    fn settle(&mut self, index: prop::sample::Index, how: u8) {
        if self.leases.is_empty() {
            return;
        }
        let lease = self.leases[index.index(self.leases.len())];
        let outcome = match how {
            0..7 => Outcome::Done,
            7 => Outcome::Retry(Some(Duration::from_secs(5))),
            8 => Outcome::Park(String::new()),
            _ => Outcome::Extend(Duration::from_secs(10)),
        };
        let is_done = outcome == Outcome::Done;
        let seq = lease.place.seq;
        if self.machine.settle(lease.number, outcome, self.now).is_ok() && is_done {
            if self.mode == Mode::Ordered && !lease.place.is_parked {
                let key = self.log[at(seq)].key;
                let earlier = self.log.iter().find(|c| c.seq < seq && c.key == key && !self.is_over(c.seq));
                assert_eq!(earlier, None, "{seq} was done before it");
            }
            self.done.insert(seq);
            self.parked.remove(&seq);
        }
        self.save();
    }

    fn save(&mut self) {
        let Some(unsaved) = self.machine.unsaved(self.saved) else { return };
        self.parked.extend(unsaved.parkings.iter().map(|parking| parking.place.seq));
        for seq in unsaved.unparked {
            assert!(!self.parked.contains(&seq));
        }
        self.stored = unsaved.progress;
        self.saved = unsaved.change;
        self.machine.saved(self.saved);
    }

    /// What was not stored is gone.
    fn restart(&mut self) {
        self.machine = Machine::new(terms(self.mode), self.stored.through, self.stored.missed);
        for hole in &self.stored.holes {
            self.machine.restore(self.log[at(hole.seq)], *hole);
        }
        self.machine.set_parked(self.parked.len() as u64);
        let wanted: Vec<_> = self.log.iter().filter(|c| c.key < 4).copied().collect();
        self.machine.offer(&wanted, self.log.len() as u64);
        self.workers = (0..3).map(|name| self.machine.attach(wish(&name.to_string()), self.now)).collect();
        self.leases.clear();
        self.saved = 0;
    }

    fn check(&mut self) {
        self.machine.advance(self.now);
        self.held.clear();
        for lease in &self.leases {
            // What is said twice of a lease that goes on changes nothing: so this asks whether it does.
            if self.machine.is_leased(lease.number) {
                let other = self.held.insert(self.log[at(lease.place.seq)].key, lease.number);
                assert!(self.mode != Mode::Ordered || other.is_none(), "two leases of one conversation");
            }
        }
        assert!(self.machine.floor() <= self.log.len() as u64);
        if let Some(undone) = self.log.iter().find(|c| c.key < 4 && !self.is_over(c.seq)) {
            assert!(self.machine.floor() < undone.seq, "the floor moved past {}", undone.seq);
        }
    }

    /// Whether it is done or parked, stored or not.
    fn is_over(&self, seq: u64) -> bool {
        let parkings = self.machine.unsaved(self.saved).map(|unsaved| unsaved.parkings).unwrap_or_default();
        self.done.contains(&seq)
            || self.parked.contains(&seq)
            || parkings.iter().any(|parking| parking.place.seq == seq)
    }

    /// Does all there is.
    fn finish(&mut self) {
        for _ in 0..10_000 {
            self.now += 40_000;
            for worker in 0..3 {
                self.lease(worker, 100);
            }
            for lease in std::mem::take(&mut self.leases) {
                if self.machine.settle(lease.number, Outcome::Done, self.now).is_ok() {
                    self.done.insert(lease.place.seq);
                    self.parked.remove(&lease.place.seq);
                }
            }
            self.save();
            if self.machine.undone() == 0 {
                break;
            }
        }
        let wanted: BTreeSet<u64> = self.log.iter().filter(|c| c.key < 4).map(|c| c.seq).collect();
        let over: BTreeSet<u64> = self.done.union(&self.parked).copied().collect();
        assert_eq!(over, wanted);
        assert_eq!((self.machine.floor(), self.machine.leased()), (self.log.len() as u64, 0));
        assert_eq!(self.machine.parked(), self.parked.len() as u64);
    }
}

fn at(seq: u64) -> usize {
    usize::try_from(seq).unwrap() - 1
}

proptest! {
    #[test]
    fn whatever_happens_the_promises_hold(
        mode in prop_oneof![Just(Mode::Ordered), Just(Mode::Shared), Just(Mode::Exclusive)],
        steps in vec(step(), 0..120),
    ) {
        let mut world = World::new(mode);
        for step in &steps {
            world.act(step);
        }
        world.finish();
    }
}
