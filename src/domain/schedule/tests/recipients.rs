//! The limit of a pair, and the order of messages to one recipient.

use super::*;

/// When messages to one recipient go out, if all are offered at the beginning.
fn departures(rule: PairRule, count: usize, way: Duration, end: Duration) -> Vec<Moment> {
    let mut world = World::with(1_000, rule);
    world.way = way;
    for _ in 0..count {
        world.offer(ticket("a", Class::Normal, 1));
    }
    world.run_until(end);
    world.sent.iter().map(|(at, _)| *at).collect()
}

#[test]
fn a_burst_is_paid_back_as_a_whole() {
    let at = departures(PairRule::LITERAL, 100, ms(1), Duration::from_mins(10));
    assert_eq!(at.len(), 100);
    assert!(at[44] < SECOND);
    let second = Duration::from_secs(270);
    assert!((second..second + ms(10)).contains(&at[45]), "45 messages take 4.5 minutes: {:?}", at[45]);
    assert!(at[89] < second + SECOND && at[90] >= second * 2);
}

#[test]
fn or_one_by_one() {
    let at = departures(PairRule::STEADY, 60, ms(1), Duration::from_mins(10));
    assert_eq!(at.len(), 60);
    assert!(at[43] < SECOND && at[44] == SECOND + ms(2), "the 45th may have been a second longer on its way");
    assert!(
        at[45..].iter().zip(1..).all(|(later, n)| *later == at[44] + Duration::from_secs(6 * n)),
        "{at:?}"
    );
}

#[test]
fn one_message_every_six_seconds_goes_out_at_once() {
    let mut world = World::new(80);
    for n in 0..100 {
        world.run_until(Duration::from_secs(6 * n) + ms(200 * n));
        assert!(matches!(world.offer(ticket("a", Class::Normal, 1)), Offer::Go(_)), "{n}");
    }
    world.run_until(world.now + SECOND);
    world.assert_empty();
}

#[test]
fn a_burst_whose_beginning_was_lost_is_paid_back_from_its_first_arrival() {
    let mut world = World::new(80);
    let mut go = |at, class, lost: Option<TicketId>| {
        world.now = ms(at);
        if let Some(lost) = lost {
            assert!(world.lane.done(world.now, lost, Feedback::NotSent));
        }
        world.offer(ticket("a", class, 1))
    };
    let Offer::Go(first) = go(0, Class::Normal, None) else { panic!("waits") };
    let Offer::Go(second) = go(800, Class::Urgent, None) else { panic!("waits") };
    let Offer::Go(third) = go(1_700, Class::Normal, Some(first)) else { panic!("waits") };
    // The second is lost too; the third arrives at 2.65 s, so Meta counts six seconds from then.
    world.now = ms(1_750);
    assert!(world.lane.done(world.now, second, Feedback::NotSent));
    world.now = ms(2_700);
    assert!(world.lane.done(world.now, third, Feedback::Accepted));
    world.now = ms(5_500);
    let Offer::Wait { turn, .. } = world.offer(ticket("a", Class::Normal, 1)) else { panic!("goes") };
    assert!(turn >= ms(8_650), "{turn:?}");
}

#[test]
fn after_131056_the_pair_sleeps_longer_each_time() {
    let mut world = World::new(80);
    let mut slept = Vec::new();
    for other in 10..17 {
        let Offer::Go(id) = world.offer(ticket("a", Class::Normal, 1)) else { panic!("asleep") };
        assert!(world.lane.done(world.now, id, Feedback::PairLimited { retry_after: None }));
        let Offer::Wait { id, turn } = world.offer(ticket("a", Class::Normal, 1)) else { panic!("awake") };
        slept.push(turn.saturating_sub(world.now).as_secs());
        assert!(
            matches!(world.offer(ticket("a", Class::Normal, other)), Offer::Go(_)),
            "only that pair sleeps"
        );
        world.in_flight.clear();
        assert!(world.lane.cancel(id));
        world.now = turn;
    }
    // The second time two messages are owed, which takes longer than 4 s.
    assert_eq!(slept, [1, 11, 16, 64, 256, 1024, 1024]);
    let Offer::Go(id) = world.offer(ticket("a", Class::Normal, 1)) else { panic!("asleep") };
    world.lane.done(world.now, id, Feedback::Accepted);
    world.lane.pair_limited(world.now, &pair(3), None);
    let Offer::Wait { turn, .. } = world.offer(ticket("a", Class::Normal, 3)) else { panic!("awake") };
    assert_eq!(turn.saturating_sub(world.now), SECOND);
}

#[test]
fn a_pair_sleeps_as_long_as_meta_says() {
    let mut world = World::new(80);
    let Offer::Go(id) = world.offer(ticket("a", Class::Normal, 1)) else { panic!("it waits") };
    world.lane.done(world.now, id, Feedback::PairLimited { retry_after: Some(SECOND * 20) });
    let Offer::Wait { turn, .. } = world.lane.offer(world.now, ticket("a", Class::Normal, 1)) else {
        panic!("it does not wait")
    };
    assert_eq!(turn, SECOND * 20);
    assert!(matches!(world.lane.offer(world.now, ticket("a", Class::Normal, 2)), Offer::Go(_)));
}

#[test]
fn a_sleeping_pair_refuses_whom_it_would_keep_too_long() {
    let mut world = World::new(80);
    let patient = |world: &World, patience| Ticket {
        deadline: Some(world.now + patience),
        ..ticket("a", Class::Normal, 1)
    };
    let Offer::Go(first) = world.offer(patient(&world, SECOND)) else { panic!("refused") };
    let Offer::Wait { id: short, .. } = world.offer(patient(&world, ms(500))) else { panic!("refused") };
    let Offer::Wait { id: long, .. } = world.offer(patient(&world, SECOND * 10)) else { panic!("refused") };
    world.in_flight.clear();
    world.now = ms(100);
    world.lane.done(world.now, first, Feedback::PairLimited { retry_after: None });
    world.run_until(ms(100));
    let (at, refusal) = world.expired[&short];
    assert_eq!((at, refusal.why), (ms(100), Why::Pair), "at once, not at its deadline");
    let refused = world.offer(patient(&world, ms(200)));
    let Offer::Refuse(Refusal { why: Why::Pair, retry_after: Some(after) }) = refused else {
        panic!("{refused:?}")
    };
    world.now += after;
    let Offer::Wait { turn, .. } = world.offer(patient(&world, ms(200))) else { panic!("refused again") };
    assert!(turn <= world.now + ms(200));
    world.run_until(Duration::from_mins(1));
    assert!(world.sent_at(long).is_some());
}

#[test]
fn nobody_overtakes_inside_a_class_and_each_waits_for_the_answer_to_the_one_before() {
    let mut world = World::new(80);
    let Offer::Go(first) = world.offer(ticket("a", Class::Normal, 1)) else { panic!("waits") };
    let Offer::Wait { id: second, .. } = world.offer(ticket("b", Class::Normal, 1)) else { panic!("goes") };
    let Offer::Wait { id: third, .. } = world.offer(ticket("a", Class::Normal, 1)) else { panic!("goes") };
    // A higher class does not wait for a lower one.
    assert!(matches!(world.offer(ticket("b", Class::Urgent, 1)), Offer::Go(_)));
    world.now = ms(30);
    let again = world.lane.again(world.now, first, Feedback::NotSent, ms(300));
    assert_eq!(again, Some(Offer::Wait { id: first, turn: ms(300) }));
    world.in_flight.retain(|(_, id)| *id != first);
    world.run_until(SECOND);
    let order: Vec<_> = world.sent[2..].iter().map(|(at, id)| (*at, *id)).collect();
    assert_eq!(order, [(ms(300), first), (ms(400), second), (ms(500), third)]);
}

#[test]
fn who_stands_behind_the_message_of_another_caller_does_not_wait_for_its_backlog() {
    let mut world = World::new(80);
    world.offer_many(2_000, "shop", Class::Normal, None);
    let Offer::Wait { id: theirs, .. } = world.offer(ticket("shop", Class::Normal, 1)) else {
        panic!("goes")
    };
    let Offer::Wait { id: ours, .. } = world.offer(ticket("support", Class::Normal, 1)) else {
        panic!("goes")
    };
    world.run_until(SECOND);
    let (theirs, ours) = (world.sent_at(theirs).unwrap(), world.sent_at(ours).unwrap());
    assert!(theirs < ours && ours < ms(300), "{theirs:?} {ours:?}");
}

#[test]
fn messages_that_are_in_the_way_of_another_caller_are_turns_of_their_own_one() {
    let mut world = World::new(80);
    world.way = ms(1);
    world.offer_many(2_000, "shop", Class::Normal, None);
    for to in 0..100 {
        world.offer(ticket("shop", Class::Normal, to));
        world.offer(ticket("support", Class::Normal, to));
    }
    let is_waiting = |world: &World| world.sent_by("support") < 100;
    while is_waiting(&world) && world.now < SECOND * 5 {
        world.run_until(world.now + ms(10));
    }
    let (shop, support) = (world.sent_by("shop"), world.sent_by("support"));
    println!("shop {shop}, support {support}");
    // Without the debt, the shop would have the hundred that were in the way on top of its half.
    assert!(support == 100 && shop <= 110, "{shop} {support}");
}

#[test]
fn recovered_pairs_are_forgotten() {
    let mut world = World::new(1_000);
    world.offer_many(20_000, "a", Class::Bulk, None);
    world.run_until(Duration::from_secs(15));
    let remembered = world.lane.recipients() - world.lane.waiting();
    println!("{remembered} pairs remembered at 1000 per second");
    assert!(remembered <= 6_500, "a message is remembered for six seconds and its way");
    world.run_until(Duration::from_secs(40));
    world.assert_empty();
}
