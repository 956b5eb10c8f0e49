//! What a ticket is told when it is offered, and whether that comes true.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

const CALLERS: [&str; 4] = ["a", "b", "c", "d"];

fn class() -> impl Strategy<Value = Class> {
    prop_oneof![Just(Class::Urgent), Just(Class::Normal), Just(Class::Bulk)]
}

/// A lane in which messages to different people wait, after some have gone out.
fn backlog(rate: u32, waiting: &[(usize, Class)], age: Duration) -> World {
    let mut world = World::new(rate);
    for (caller, class) in waiting {
        world.offer_new(CALLERS[*caller], *class, None);
    }
    world.run_until(age);
    world
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_estimate_is_the_turn_and_decides_who_is_refused(
        rate in prop_oneof![Just(20_u32), Just(80), Just(1000)],
        waiting in vec((0_usize..4, class()), 0..200),
        age in 0_u64..3_000,
        caller in 0_usize..4,
        class in class(),
    ) {
        let offer = |patience| {
            let mut world = backlog(rate, &waiting, ms(age));
            let offer = world.offer_new(CALLERS[caller], class, patience);
            (world, offer)
        };
        let (mut world, told) = offer(None);
        let offered = world.now;
        world.run_until(offered + Duration::from_mins(1));
        let (id, turn) = match told {
            Offer::Go(id) => (id, offered),
            Offer::Wait { id, turn } => (id, turn),
            Offer::Refuse(refusal) => panic!("{refusal:?}"),
        };
        prop_assert_eq!(world.sent_at(id), Some(turn));
        // As patient as it takes: it goes out, at that moment.
        let patience = turn.saturating_sub(offered);
        let (mut world, told) = offer(Some(patience));
        prop_assert!(!matches!(told, Offer::Refuse(_)));
        world.run_until(offered + Duration::from_mins(1));
        prop_assert_eq!(world.sent_at(id), Some(turn));
        // The least bit less patient: it is refused at once.
        if let Some(patience) = patience.checked_sub(Duration::from_nanos(1)) {
            let (mut world, told) = offer(Some(patience));
            let is_refused = matches!(told, Offer::Refuse(Refusal { why: Why::Throughput, retry_after: Some(_) }));
            prop_assert!(is_refused);
            world.run_until(offered + Duration::from_mins(1));
            world.assert_empty();
        }
    }

    /// With others in line it may take longer: they have their turns meanwhile, and then the next ones.
    #[test]
    fn who_was_refused_is_in_time_after_the_stated_time(
        rate in prop_oneof![Just(20_u32), Just(80), Just(1000)],
        count in 1_usize..200,
        age in 0_u64..1_000,
        short in 1_u64..5_000,
    ) {
        let mut world = backlog(rate, &vec![(0, Class::Normal); count], ms(age));
        let turn = world.lane.estimate(TicketId(u64::MAX), &ticket("a", Class::Normal, 1), Moment::ZERO).turn;
        if let Some(patience) = turn.saturating_sub(world.now).checked_sub(ms(short)) {
            let told = world.offer_new("a", Class::Normal, Some(patience));
            let Offer::Refuse(Refusal { retry_after, .. }) = told else { panic!("{told:?}") };
            prop_assert_eq!(retry_after, Some(ms(short)));
            world.run_until(world.now + ms(short));
            let told = world.offer_new("a", Class::Normal, Some(patience));
            prop_assert!(!matches!(told, Offer::Refuse(_)), "{:?}", told);
        }
    }
}

#[test]
fn when_the_rate_shrinks_the_hopeless_are_told_at_once_and_the_others_go_out() {
    let mut world = World::new(80);
    let offers: Vec<_> =
        (0..400).map(|n| world.offer_new(CALLERS[n % 4], Class::Normal, Some(SECOND * 5))).collect();
    let waits = offers.iter().filter(|offer| matches!(offer, Offer::Wait { .. })).count();
    assert!((380..400).contains(&waits), "{waits} can go out in 5 s");
    world.run_until(SECOND);
    world.lane.throttled(world.now, None);
    world.run_until(world.now);
    let told = world.expired.len();
    assert!(world.expired.values().all(|(at, refusal)| *at == SECOND && refusal.why == Why::Throughput));
    // 40 per second for four seconds is half of what was promised.
    assert!((130..180).contains(&told), "{told}");
    world.run_until(SECOND * 10);
    assert_eq!(world.expired.len(), told, "nobody else is disappointed");
    assert_eq!(world.sent.len() + told, 400 - (400 - world.tickets.len()));
    world.assert_empty();
}

#[test]
fn who_gets_in_line_later_may_cost_others_their_turn_and_they_hear_of_it_early() {
    let mut world = World::new(20);
    world.offer_many(80, "a", Class::Normal, Some(SECOND * 4));
    world.run_until(SECOND);
    for caller in ["b", "c", "d"] {
        world.offer_many(100, caller, Class::Normal, None);
    }
    world.run_until(SECOND * 10);
    let early = world.expired.values().filter(|(at, _)| *at < SECOND * 3).count();
    println!("{} disappointed, {early} of them early", world.expired.len());
    assert!(early >= 40, "{early}");
    for (id, (at, refusal)) in &world.expired {
        assert!(*at <= world.tickets[id].deadline.unwrap() && refusal.why == Why::Throughput);
        assert!(world.sent_at(*id).is_none());
    }
}

#[test]
fn a_deadline_that_has_passed_is_refused() {
    let mut world = World::new(80);
    world.now = SECOND;
    let late = Ticket { deadline: Some(ms(999)), ..ticket("a", Class::Urgent, 1) };
    assert!(matches!(world.offer(late), Offer::Refuse(_)));
    let in_time = Ticket { deadline: Some(SECOND), ..ticket("a", Class::Urgent, 1) };
    assert!(matches!(world.offer(in_time), Offer::Go(_)));
}

#[test]
fn an_offer_never_takes_the_turn_of_one_that_waits() {
    let mut world = World::new(20);
    world.lane.suspend(world.now, SECOND);
    let Offer::Wait { id: first, .. } = world.offer(ticket("a", Class::Normal, 1)) else { panic!("goes") };
    // The lane is open again, and nobody has polled yet.
    world.now = SECOND;
    let Offer::Wait { .. } = world.offer(ticket("a", Class::Normal, 1)) else { panic!("goes") };
    assert_eq!(world.lane.wake_at(), Some(SECOND));
    world.poll();
    assert_eq!(world.sent, [(SECOND, first)]);
}

#[test]
fn a_parked_lane_keeps_only_those_who_wait_as_long_as_it_takes() {
    use crate::domain::failure::{Actor, Class as FailureClass, Reason, Retry, Verdict};
    let verdict = Verdict {
        class: FailureClass::FailedPrecondition,
        reason: Reason::UpstreamCredentials,
        actor: Actor::Operator,
        retry: Retry::AfterChange,
    };
    let mut world = World::new(20);
    world.offer_many(10, "a", Class::Normal, Some(SECOND));
    world.offer_many(10, "a", Class::Bulk, None);
    let gone = world.sent.len();
    world.lane.park(world.now, verdict);
    world.run_until(SECOND * 30);
    assert_eq!((world.sent.len(), world.expired.len(), world.lane.waiting()), (gone, 10 - gone, 10));
    let refusal = Refusal { why: Why::Parked(verdict), retry_after: None };
    assert!(world.expired.values().all(|expired| *expired == (Moment::ZERO, refusal)));
    assert_eq!(world.offer_new("a", Class::Urgent, Some(SECOND)), Offer::Refuse(refusal));
    assert_eq!((world.lane.parked(), world.lane.wake_at()), (Some(verdict), None));
    world.lane.resume(world.now);
    world.run_until(SECOND * 60);
    assert_eq!(world.sent.len(), gone + 10);
    world.assert_empty();
}

#[test]
fn a_parked_lane_lets_one_pass_when_asked() {
    use crate::domain::failure::{Actor, Class as FailureClass, Reason, Retry, Verdict};
    let verdict = Verdict {
        class: FailureClass::FailedPrecondition,
        reason: Reason::UpstreamAccount,
        actor: Actor::Operator,
        retry: Retry::AfterChange,
    };
    let mut world = World::new(20);
    world.lane.let_one_pass(world.now);
    world.lane.park(world.now, verdict);
    world.offer_many(3, "a", Class::Normal, None);
    world.run_until(SECOND);
    assert_eq!(world.sent.len(), 0, "a lane that is not parked lets nobody pass later");
    world.lane.let_one_pass(world.now);
    world.run_until(SECOND * 2);
    assert_eq!((world.sent.len(), world.lane.waiting()), (1, 2));
    let refusal = Refusal { why: Why::Parked(verdict), retry_after: None };
    assert_eq!(world.offer_new("a", Class::Normal, Some(SECOND)), Offer::Refuse(refusal));
    // With nobody waiting, the next that comes passes, whatever its deadline; and no other.
    let mut world = World::new(20);
    world.lane.park(world.now, verdict);
    world.lane.let_one_pass(world.now);
    assert_eq!(world.lane.wake_at(), None);
    assert!(matches!(world.offer_new("a", Class::Normal, Some(SECOND)), Offer::Go(_)));
    assert_eq!(world.offer_new("a", Class::Normal, Some(SECOND)), Offer::Refuse(refusal));
    world.run_until(SECOND);
    assert_eq!(world.lane.parked(), Some(verdict));
}

#[test]
fn a_lane_is_full_at_some_point() {
    let mut lane = Lane::new(80, PairRule::LITERAL);
    lane.suspend(Moment::ZERO, SECOND);
    for to in 0..WAITING_MAX as u64 {
        assert!(matches!(lane.offer(Moment::ZERO, ticket("a", Class::Bulk, to)), Offer::Wait { .. }));
    }
    let refused = lane.offer(Moment::ZERO, ticket("b", Class::Urgent, 1));
    assert!(matches!(refused, Offer::Refuse(Refusal { why: Why::Full, .. })), "{refused:?}");
}

#[test]
fn who_is_refused_together_does_not_come_back_together() {
    for rate in [20, 80] {
        let mut world = World::new(rate);
        world.lane.suspend(world.now, SECOND * 60);
        let mut refused = || {
            let told = world.offer_new("a", Class::Normal, Some(SECOND));
            let Offer::Refuse(Refusal { retry_after: Some(after), .. }) = told else { panic!("{told:?}") };
            after
        };
        let told: Vec<_> = (0..1000).map(|_| refused()).collect();
        assert!((58..60).contains(&told[0].as_secs()), "the first as early as it can: {:?}", told[0]);
        let mut by_second = std::collections::BTreeMap::new();
        for after in &told {
            *by_second.entry(after.saturating_sub(told[0]).as_secs()).or_insert(0_u32) += 1;
        }
        assert!(by_second.values().all(|count| *count <= rate + 1), "{by_second:?}");
        // A second later the crowd has gone.
        world.run_until(world.now + SECOND);
        let told_later = world.offer_new("a", Class::Normal, Some(SECOND));
        let Offer::Refuse(Refusal { retry_after: Some(later), .. }) = told_later else {
            panic!("{told_later:?}")
        };
        assert!(later < told[0], "{later:?}");
    }
}
