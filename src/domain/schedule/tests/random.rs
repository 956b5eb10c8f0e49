//! Any schedule: whatever happens, the promises hold.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::domain::failure::{Actor, Class as FailureClass, Reason, Retry, Verdict};

#[derive(Debug, Clone)]
enum Event {
    Offer { caller: usize, class: usize, to: u64, patience: Option<u64> },
    Cancel(prop::sample::Index),
    Receive(u32),
    Throttle(Option<u64>),
    LimitPair(u64),
    Suspend(u64),
    Park,
    LetOnePass,
    Resume,
}

fn event() -> impl Strategy<Value = Event> {
    let patience = prop::option::of(prop_oneof![0_u64..300, 0_u64..20_000]);
    let offer = (0_usize..4, 0_usize..3, prop_oneof![0_u64..3, 0_u64..200], patience);
    prop_oneof![
        30 => offer.prop_map(|(caller, class, to, patience)| Event::Offer { caller, class, to, patience }),
        3 => any::<prop::sample::Index>().prop_map(Event::Cancel),
        2 => (0_u32..60).prop_map(Event::Receive),
        1 => prop::option::of(0_u64..3_000).prop_map(Event::Throttle),
        1 => (0_u64..3).prop_map(Event::LimitPair),
        1 => (0_u64..2_000).prop_map(Event::Suspend),
        1 => Just(Event::Park),
        2 => Just(Event::LetOnePass),
        3 => Just(Event::Resume),
    ]
}

/// How a turn ends: how long its way is and its answer takes, and what the answer is.
#[derive(Debug, Clone, Copy)]
struct Fate {
    way: u64,
    answer: u64,
    outcome: u8,
}

fn fate() -> impl Strategy<Value = Fate> {
    (0_u64..1_000, 0_u64..500, 0_u8..40).prop_map(|(way, answer, outcome)| Fate { way, answer, outcome })
}

/// The world with a Meta that answers as fate wills.
struct Play {
    world: World,
    meta: PairsAtMeta,
    fates: Vec<Fate>,
    met: usize,
    /// Tickets that wait, as far as their callers know.
    waiting: BTreeSet<TicketId>,
    /// How many of them have expired so far.
    expired: usize,
    flying: BTreeMap<(Moment, TicketId), (Moment, Fate)>,
    /// Whether one may go out although the lane is parked.
    may_pass: bool,
}

const VERDICT: Verdict = Verdict {
    class: FailureClass::FailedPrecondition,
    reason: Reason::UpstreamAccount,
    actor: Actor::Operator,
    retry: Retry::AfterChange,
};

impl Play {
    fn new(rate: u32, rule: PairRule, fates: Vec<Fate>) -> Self {
        Self {
            world: World::with(rate, rule),
            meta: PairsAtMeta::default(),
            fates,
            met: 0,
            waiting: BTreeSet::new(),
            expired: 0,
            flying: BTreeMap::new(),
            may_pass: false,
        }
    }

    fn happen(&mut self, event: &Event) {
        let now = self.world.now;
        let lane = &mut self.world.lane;
        match *event {
            Event::Offer { caller, class, to, patience } => {
                let deadline = patience.map(|patience| now + ms(patience));
                let caller = ["a", "b", "c", "d"][caller];
                let ticket = Ticket { deadline, ..ticket(caller, Class::ALL[class], to) };
                if let Offer::Wait { id, .. } = self.world.offer(ticket) {
                    self.waiting.insert(id);
                }
                self.fly();
            }
            Event::Cancel(ref index) => {
                let waiting: Vec<_> = self.waiting.iter().copied().collect();
                if !waiting.is_empty() {
                    let id = *index.get(&waiting);
                    assert_eq!(lane.cancel(id), self.waiting.remove(&id));
                    assert!(!lane.cancel(id));
                }
            }
            Event::Receive(count) => self.world.receive(count),
            Event::Throttle(after) => lane.throttled(now, after.map(ms)),
            Event::LimitPair(to) => lane.pair_limited(now, &pair(to), None),
            Event::Suspend(time) => lane.suspend(now, now + ms(time)),
            Event::Park => {
                lane.park(now, VERDICT);
                self.may_pass = false;
            }
            Event::LetOnePass => {
                lane.let_one_pass(now);
                self.may_pass = lane.parked().is_some();
            }
            Event::Resume => lane.resume(now),
        }
    }

    /// What was granted goes on its way.
    fn fly(&mut self) {
        for (_, id) in std::mem::take(&mut self.world.in_flight) {
            let fate = self.fates[self.met % self.fates.len()];
            self.met += 1;
            self.waiting.remove(&id);
            let ticket = &self.world.tickets[&id];
            assert!(ticket.deadline.is_none_or(|deadline| self.world.now <= deadline));
            assert!(self.world.lane.parked().is_none() || std::mem::take(&mut self.may_pass));
            self.flying.insert((self.world.now + ms(fate.way + fate.answer), id), (self.world.now, fate));
        }
    }

    fn land(&mut self, id: TicketId, sent_at: Moment, fate: Fate) {
        let (now, lane) = (self.world.now, &mut self.world.lane);
        let feedback = match fate.outcome {
            0 | 1 => Feedback::NotSent,
            2 => Feedback::Throttled { retry_after: None },
            3 => Feedback::PairLimited { retry_after: None },
            4 | 5 => Feedback::Other,
            _ => Feedback::Accepted,
        };
        if feedback != Feedback::NotSent {
            self.meta.arrive(sent_at + ms(fate.way), &self.world.tickets[&id].pair);
        }
        // Nobody tries for ever.
        if matches!(fate.outcome, 0 | 2 | 3) && self.met < 1_000 {
            match lane.again(now, id, feedback, now + ms(fate.answer)).expect("it was in flight") {
                Offer::Go(id) => self.world.depart(id),
                Offer::Wait { id, .. } => _ = self.waiting.insert(id),
                Offer::Refuse(_) => {}
            }
            self.fly();
        } else {
            assert!(lane.done(now, id, feedback));
            assert!(!lane.done(now, id, feedback));
        }
    }

    fn run_until(&mut self, end: Moment) {
        for _ in 0..1_000_000 {
            let wake_at = self.world.poll();
            if self.world.expired.len() > self.expired {
                self.expired = self.world.expired.len();
                self.waiting.retain(|id| !self.world.expired.contains_key(id));
            }
            self.fly();
            assert_eq!(self.world.lane.waiting(), self.waiting.len());
            assert_eq!(self.world.lane.in_flight(), self.flying.len());
            assert!(wake_at.is_none_or(|at| at > self.world.now), "the driver would spin");
            let landing = self.flying.first_key_value().map(|((at, _), _)| *at);
            let next = wake_at.into_iter().chain(landing).min().filter(|at| *at <= end);
            let Some(next) = next else {
                self.world.now = self.world.now.max(end);
                return;
            };
            self.world.now = self.world.now.max(next);
            while let Some(entry) = self.flying.first_entry().filter(|entry| entry.key().0 <= next) {
                let ((_, id), (sent_at, fate)) = entry.remove_entry();
                self.land(id, sent_at, fate);
            }
        }
        panic!("the world does not come to rest");
    }

    /// First departures to one recipient in one class are in the order of their offers.
    fn assert_order(&self) {
        let mut last: HashMap<(PairKey, Class), TicketId> = HashMap::new();
        let mut seen = BTreeSet::new();
        for (_, id) in self.world.sent.iter().filter(|(_, id)| seen.insert(*id)) {
            let ticket = &self.world.tickets[id];
            let before = last.insert((ticket.pair.clone(), ticket.class), *id);
            assert!(before.is_none_or(|before| before < *id), "{before:?} {id:?}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_promise_holds(
        rate in prop_oneof![Just(20_u32), Just(80)],
        repayment in prop_oneof![Just(Repayment::Whole), Just(Repayment::Steady)],
        events in vec((prop_oneof![Just(0_u64), 0_u64..50, 0_u64..3_000], event()), 1..400),
        fates in vec(fate(), 1..50),
    ) {
        let mut play = Play::new(rate, PairRule { repayment, ..PairRule::LITERAL }, fates);
        for (gap, event) in events {
            play.run_until(play.world.now + ms(gap));
            play.happen(&event);
        }
        play.world.lane.resume(play.world.now);
        play.run_until(play.world.now + Duration::from_hours(24 * 30));
        let limit = usize::try_from(rate * 105 / 100).unwrap();
        prop_assert!(play.world.fullest_second(limit) <= limit);
        if repayment == Repayment::Whole {
            prop_assert_eq!(play.meta.refused_whole(), 0);
        }
        prop_assert_eq!(play.meta.refused_steady(), 0);
        play.assert_order();
        prop_assert!(play.waiting.is_empty(), "whoever waits as long as it takes has their turn");
        play.world.assert_empty();
    }
}
