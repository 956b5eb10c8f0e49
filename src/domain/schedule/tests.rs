//! The lane in a small world: a clock that a test moves, callers, and Meta's rules as the reference states them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use super::*;
use crate::domain::caller::Caller;

mod classes;
mod limits;
mod promises;
mod random;
mod recipients;

const SECOND: Duration = Duration::from_secs(1);

fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

fn pair(number: u64) -> PairKey {
    PairKey::new(&format!("1065:{number}"))
}

fn ticket(caller: &str, class: Class, to: u64) -> Ticket {
    Ticket { caller: Caller::named(caller), class, pair: pair(to), deadline: None }
}

/// The lane and what happened to it.
struct World {
    lane: Lane,
    now: Moment,
    /// How late the driver is when it wakes.
    lateness: Duration,
    /// How long a message is on its way to Meta; the answer takes as long again.
    way: Duration,
    tickets: BTreeMap<TicketId, Ticket>,
    sent: Vec<(Moment, TicketId)>,
    expired: HashMap<TicketId, (Moment, Refusal)>,
    /// Messages that went out (true) and came in, in their order.
    moved: Vec<(Moment, bool)>,
    in_flight: BTreeSet<(Moment, TicketId)>,
    next_recipient: u64,
}

impl World {
    fn new(rate: u32) -> Self {
        Self::with(rate, PairRule::LITERAL)
    }

    fn with(rate: u32, rule: PairRule) -> Self {
        Self {
            lane: Lane::new(rate, rule),
            now: Moment::ZERO,
            lateness: Duration::ZERO,
            way: ms(50),
            tickets: BTreeMap::new(),
            sent: Vec::new(),
            expired: HashMap::new(),
            moved: Vec::new(),
            in_flight: BTreeSet::new(),
            next_recipient: 1_000_000,
        }
    }

    fn offer(&mut self, ticket: Ticket) -> Offer {
        let offer = self.lane.offer(self.now, ticket.clone());
        match &offer {
            Offer::Go(id) => {
                self.tickets.insert(*id, ticket);
                self.depart(*id);
            }
            Offer::Wait { id, turn } => {
                assert!(*turn >= self.now);
                self.tickets.insert(*id, ticket);
            }
            Offer::Refuse(_) => assert!(ticket.deadline.is_some(), "{offer:?}"),
        }
        offer
    }

    /// Offers to somebody who has not been written to before.
    fn offer_new(&mut self, caller: &str, class: Class, patience: Option<Duration>) -> Offer {
        self.next_recipient += 1;
        let deadline = patience.map(|patience| self.now + patience);
        self.offer(Ticket { deadline, ..ticket(caller, class, self.next_recipient) })
    }

    fn offer_many(&mut self, count: u32, caller: &str, class: Class, patience: Option<Duration>) {
        for _ in 0..count {
            self.offer_new(caller, class, patience);
        }
    }

    fn depart(&mut self, id: TicketId) {
        self.lane.depart(self.now, id);
        self.sent.push((self.now, id));
        self.moved.push((self.now, true));
        self.in_flight.insert((self.now + self.way * 2, id));
    }

    fn poll(&mut self) -> Option<Moment> {
        let next = self.lane.poll(self.now);
        for id in next.granted {
            self.depart(id);
        }
        for (id, refusal) in next.expired {
            assert!(self.tickets[&id].deadline.is_some());
            assert_eq!(self.expired.insert(id, (self.now, refusal)), None);
        }
        next.wake_at
    }

    /// Lets time pass; every message is accepted.
    fn run_until(&mut self, end: Moment) {
        self.run(end, |lane, now, id| assert!(lane.done(now, id, Feedback::Accepted)));
    }

    fn run(&mut self, end: Moment, mut answer: impl FnMut(&mut Lane, Moment, TicketId)) {
        for _ in 0..10_000_000 {
            let wake_at = self.poll().map(|at| at + self.lateness);
            let answered = self.in_flight.first().map(|(at, _)| *at);
            let next = wake_at.into_iter().chain(answered).min().filter(|at| *at <= end);
            let Some(next) = next else {
                self.now = self.now.max(end);
                return;
            };
            self.now = self.now.max(next);
            while let Some((_, id)) = self.in_flight.first().copied().filter(|(at, _)| *at <= self.now) {
                self.in_flight.pop_first();
                answer(&mut self.lane, self.now, id);
            }
        }
        panic!("the world does not come to rest");
    }

    fn receive(&mut self, count: u32) {
        self.lane.received(self.now, count);
        self.moved.extend((0..count).map(|_| (self.now, false)));
    }

    fn sent_at(&self, id: TicketId) -> Option<Moment> {
        self.sent.iter().find(|(_, sent)| *sent == id).map(|(at, _)| *at)
    }

    /// How many messages each full second saw.
    fn full_seconds(&self) -> Vec<usize> {
        let mut seconds = vec![0; usize::try_from(self.now.as_secs()).unwrap()];
        for (at, _) in &self.sent {
            if let Some(second) = seconds.get_mut(usize::try_from(at.as_secs()).unwrap()) {
                *second += 1;
            }
        }
        seconds
    }

    /// The most messages, sent and received, in any second that a sent one ends. Where the received ones alone are as
    /// many as `allowed`, the one that goes out all the same does not count.
    fn fullest_second(&self, allowed: usize) -> usize {
        let fullest =
            self.moved.iter().enumerate().filter(|(_, (_, is_sent))| *is_sent).map(|(at, (end, _))| {
                let inside = |(moment, _): &&(Moment, bool)| *moment + SECOND > *end;
                let second: Vec<_> = self.moved[..=at].iter().rev().take_while(inside).collect();
                let sent = second.iter().filter(|(_, is_sent)| *is_sent).count();
                if sent == 1 && second.len() > allowed { 1 } else { second.len() }
            });
        fullest.max().unwrap_or(0)
    }

    fn sent_by(&self, caller: &str) -> usize {
        self.sent.iter().filter(|(_, id)| self.tickets[id].caller.name() == caller).count()
    }

    /// Nothing is left behind once everything is answered and every debt is paid.
    fn assert_empty(&mut self) {
        self.now += Duration::from_hours(24);
        self.poll();
        let Lane { tickets, deadlines, expired, turns, recipients, .. } = &self.lane;
        assert_eq!((self.lane.waiting(), self.lane.in_flight(), self.lane.recipients()), (0, 0, 0));
        assert!(tickets.is_empty() && deadlines.is_empty() && expired.is_empty());
        assert!(turns.is_empty() && recipients.is_empty(), "{turns:?} {recipients:?}");
        assert_eq!(self.lane.wake_at(), None);
    }
}

/// The pair rule as Meta would enforce it, both ways of reading it (reference 6.1). Sees when messages arrive.
#[derive(Default)]
struct PairsAtMeta {
    arrivals: Vec<(Moment, PairKey)>,
}

impl PairsAtMeta {
    fn arrive(&mut self, at: Moment, pair: &PairKey) {
        self.arrivals.push((at, pair.clone()));
    }

    /// How many messages get 131056, if bursts are paid back as a whole: a burst of n counts from its first message; it may
    /// grow to 45 within 6 s; else nothing may come before n times 6 s.
    fn refused_whole(&mut self) -> usize {
        self.arrivals.sort();
        let mut bursts: HashMap<PairKey, (Moment, u32)> = HashMap::new();
        let refuses = |(at, pair): &&(Moment, PairKey)| {
            let (began, count) = bursts.entry(pair.clone()).or_insert((*at, 0));
            if *at >= *began + Duration::from_secs(6) * *count {
                (*began, *count) = (*at, 1);
                return false;
            }
            *count += 1;
            *count > 45 || *at >= *began + Duration::from_secs(6)
        };
        self.arrivals.iter().filter(refuses).count()
    }

    /// The same if 45 may be borrowed at any time and 6 s pay one back.
    fn refused_steady(&mut self) -> usize {
        self.arrivals.sort();
        let mut paid: HashMap<PairKey, Moment> = HashMap::new();
        let refuses = |(at, pair): &&(Moment, PairKey)| {
            let paid_at = paid.entry(pair.clone()).or_insert(*at);
            let borrowed = paid_at.saturating_sub(*at);
            *paid_at = (*paid_at).max(*at) + Duration::from_secs(6);
            borrowed > Duration::from_secs(6 * 44)
        };
        self.arrivals.iter().filter(refuses).count()
    }
}

#[test]
fn the_model_of_meta_finds_what_breaks_its_rule() {
    let trips = |seconds: &[u64]| {
        let mut meta = PairsAtMeta::default();
        for at in seconds {
            meta.arrive(Duration::from_secs(*at), &pair(1));
        }
        (meta.refused_whole(), meta.refused_steady())
    };
    assert_eq!(trips(&[0, 6, 12, 18]), (0, 0));
    assert_eq!(trips(&[0, 5, 12]), (0, 0));
    assert_eq!(trips(&[0, 5, 11]), (1, 0));
    assert_eq!(trips(&[0; 45]), (0, 0));
    assert_eq!(trips(&[0; 46]), (1, 1));
    assert_eq!(trips(&[&[0; 45][..], &[6]].concat()), (1, 0));
    assert_eq!(trips(&[&[0; 45][..], &[6, 7]].concat()), (2, 1));
    assert_eq!(trips(&[&[0; 45][..], &[270; 45]].concat()), (0, 0));
}
