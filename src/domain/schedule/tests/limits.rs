//! The throughput of the number, and what lowers it.

use std::collections::VecDeque;

use super::*;

/// Callers that offer so many messages per second each, evenly, for so long.
fn load(world: &mut World, callers: &[(&str, Class, u64)], seconds: u64) {
    let mut offers = Vec::new();
    for (caller, class, per_second) in callers {
        let count = per_second * seconds;
        offers
            .extend((0..count).map(|n| (Duration::from_micros(n * 1_000_000 / per_second), *caller, *class)));
    }
    offers.sort_by_key(|(at, ..)| *at);
    for (at, caller, class) in offers {
        world.run_until(at);
        world.offer_new(caller, class, None);
    }
    world.run_until(Duration::from_secs(seconds));
}

const SKEWED: [(&str, Class, u64); 4] = [
    ("shop", Class::Normal, 500),
    ("support", Class::Normal, 30),
    ("alerts", Class::Normal, 10),
    ("surveys", Class::Normal, 5),
];

#[test]
fn four_skewed_callers_fill_every_second_and_get_their_shares() {
    let mut world = World::new(80);
    load(&mut world, &SKEWED, 20);
    let seconds = world.full_seconds();
    println!("per full second {seconds:?}, fullest sliding second {}", world.fullest_second(84));
    assert!(seconds[1..].iter().all(|count| (76..=80).contains(count)), "{seconds:?}");
    assert!(world.fullest_second(84) <= 84);
    // Fair to the least: small demands are met, and the two largest share what remains.
    for (caller, offered, least) in
        [("surveys", 100, 99), ("alerts", 200, 198), ("support", 600, 597), ("shop", 10_000, 660)]
    {
        let sent = world.sent_by(caller);
        println!("{caller}: {sent} of {offered}");
        assert!(sent >= least, "{caller}: {sent}");
    }
}

#[test]
fn callers_who_all_want_more_get_the_same() {
    let mut world = World::new(80);
    let callers = [("a", 400), ("b", 100), ("c", 40), ("d", 25)];
    load(&mut world, &callers.map(|(caller, rate)| (caller, Class::Bulk, rate)), 10);
    let sent = callers.map(|(caller, _)| world.sent_by(caller));
    println!("{sent:?}");
    // The first one was alone for a moment.
    let fair = world.sent.len() / 4;
    assert!(sent.iter().all(|sent| sent + 3 >= fair), "{sent:?}");
}

#[test]
fn a_late_driver_catches_up_and_never_overdoes_it() {
    for (rate, lateness, most) in
        [(20, 40, 21), (80, 0, 84), (80, 1, 84), (80, 60, 84), (1000, 1, 1050), (1000, 60, 1050)]
    {
        let mut world = World::new(rate);
        world.lateness = ms(lateness);
        world.offer_many(rate * 6, "a", Class::Normal, None);
        world.run_until(Duration::from_secs(5));
        let (seconds, fullest) = (world.full_seconds(), world.fullest_second(most));
        println!("{rate}/s, {lateness} ms late: {seconds:?}, fullest {fullest}");
        let rate = usize::try_from(rate).unwrap();
        assert!(seconds[1..].iter().all(|count| (rate * 95 / 100..=rate).contains(count)), "{seconds:?}");
        assert!(fullest <= most, "{fullest}");
    }
}

#[test]
fn a_burst_after_silence_stays_inside_the_second() {
    let mut world = World::new(80);
    for start in [0, 10, 20] {
        world.run_until(Duration::from_secs(start));
        world.offer_many(300, "a", Class::Normal, None);
    }
    world.run_until(Duration::from_secs(30));
    assert_eq!(world.sent.len(), 900);
    assert!((79..=84).contains(&world.fullest_second(84)), "{}", world.fullest_second(84));
}

#[test]
fn received_messages_use_up_throughput() {
    let mut world = World::new(80);
    world.offer_many(2_000, "a", Class::Normal, None);
    for step in 0..100 {
        world.run_until(ms(step * 100));
        world.receive(3);
    }
    world.run_until(Duration::from_secs(10));
    let seconds = world.full_seconds();
    println!("with 30 received per second: {seconds:?}");
    assert!(seconds[1..].iter().all(|sent| (46..=50).contains(sent)), "{seconds:?}");
    assert!(world.fullest_second(84) <= 84);
}

#[test]
fn too_many_received_messages_leave_one_per_second_and_are_soon_forgotten() {
    let mut world = World::new(80);
    world.receive(84);
    world.offer_many(100, "a", Class::Normal, None);
    for step in 0..50 {
        world.run_until(ms(step * 100));
        world.receive(50);
    }
    let flooded = world.sent.len();
    assert!((5..=6).contains(&flooded), "{flooded}");
    world.run_until(ms(5_890));
    assert!(world.sent.len() <= flooded + 1);
    world.run_until(Duration::from_secs(8));
    assert_eq!(world.sent.len(), 100);
}

#[test]
fn throttling_halves_the_rate_once_a_second_and_it_comes_back() {
    let mut lane = Lane::new(80, PairRule::LITERAL);
    let second = Duration::from_secs;
    for n in 0..10 {
        lane.throttled(second(10) + ms(n * 50), None);
    }
    assert_eq!(lane.rate(), 40, "what was in flight tells of the same rate");
    lane.throttled(second(11), None);
    assert_eq!(lane.rate(), 20);
    for (at, rate) in [(11, 20), (12, 24), (13, 28), (25, 76), (26, 80), (90, 80)] {
        lane.poll(second(at));
        assert_eq!(lane.rate(), rate, "at {at} s");
    }
    for n in 0..20 {
        lane.throttled(second(100) + second(1) * n, None);
        assert!(lane.rate() >= 4, "never nothing");
    }
    assert!(lane.rate() <= 8);
}

#[test]
fn throttled_answers_slow_the_lane_down() {
    let mut world = World::new(80);
    world.offer_many(1_000, "a", Class::Normal, None);
    world.run_until(SECOND);
    let in_first = world.sent.len();
    let throttled = Feedback::Throttled { retry_after: Some(Duration::from_secs(3)) };
    world.run(SECOND + ms(100), |lane, now, id| assert!(lane.done(now, id, throttled)));
    let paused = world.sent.len();
    assert!(paused <= in_first + 2, "the first answer stops the lane");
    world.run_until(ms(3_900));
    assert_eq!(world.sent.len(), paused, "Retry-After is kept");
    world.run_until(ms(5_100));
    assert!((38..=46).contains(&(world.sent.len() - paused)), "{}", world.sent.len() - paused);
}

#[test]
fn another_rate_holds_from_now_on() {
    let mut world = World::new(20);
    world.offer_many(6_000, "a", Class::Normal, None);
    world.run_until(Duration::from_secs(4));
    world.lane.set_rate(world.now, 1_000);
    world.run_until(Duration::from_secs(8));
    world.lane.set_rate(world.now, 80);
    world.run_until(Duration::from_secs(12));
    let seconds = world.full_seconds();
    println!("20, then 1000, then 80: {seconds:?}");
    for (rate, seconds) in [(20, &seconds[1..4]), (1_000, &seconds[5..8]), (80, &seconds[9..12])] {
        assert!(seconds.iter().all(|count| (rate * 95 / 100..=rate).contains(count)), "{rate}: {seconds:?}");
    }
}

#[test]
fn a_suspended_lane_waits() {
    let mut world = World::new(80);
    let until = Duration::from_mins(5);
    world.lane.suspend(world.now, until);
    world.lane.suspend(world.now, SECOND);
    assert!(matches!(world.offer_new("a", Class::Normal, None), Offer::Wait { turn, .. } if turn == until));
    let refused = world.offer_new("b", Class::Normal, Some(Duration::from_mins(4)));
    let Offer::Refuse(Refusal { why: Why::Suspended, retry_after: Some(retry_after) }) = refused else {
        panic!("{refused:?}")
    };
    assert!((60..61).contains(&retry_after.as_secs()), "{retry_after:?}");
    assert!(matches!(world.offer_new("a", Class::Normal, Some(until * 2)), Offer::Wait { .. }));
    world.run_until(ms(299_999));
    assert_eq!(world.sent, []);
    world.run_until(until + SECOND);
    assert_eq!(world.sent.len(), 2);
    world.assert_empty();
}

#[test]
fn what_was_held_up_leaves_as_slowly_as_it_had_its_turns() {
    let mut lane = Lane::new(80, PairRule::NONE);
    let mut granted = VecDeque::new();
    let mut left = Vec::new();
    for to in 0..1_000 {
        if let Offer::Go(id) = lane.offer(Moment::ZERO, ticket("a", Class::Normal, to)) {
            granted.push_back(id);
        }
    }
    // The store is away now and then, for up to a second; whoever had a turn waits for it.
    for now in (0..12_000).map(ms) {
        granted.extend(lane.poll(now).granted);
        let is_away = now.as_millis() / 500 % 4 >= 2;
        while let Some(id) = granted.pop_front_if(|_| !is_away) {
            lane.depart(now, id);
            left.push(lane.leave(now));
        }
        assert!(granted.len() <= 20, "{} would all leave later than they should", granted.len());
    }
    assert!(left.windows(2).all(|pair| pair[0] <= pair[1]));
    let fullest = (0..left.len())
        .map(|first| left[first..].iter().take_while(|at| **at <= left[first] + SECOND).count());
    let fullest = fullest.max().unwrap();
    println!("{} left, at most {fullest} in a second", left.len());
    assert!(fullest <= 82, "{fullest}");
    // Half of the time nothing left.
    assert!(left.len() >= 6 * 76, "{}", left.len());
}
