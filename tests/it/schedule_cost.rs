//! What a turn of the send scheduler costs. Asserts no time; for the numbers:
//! `cargo test --release --test it schedule_cost -- --nocapture`.

use std::time::Duration;

use whatsapp_gateway::domain::caller::Caller;
use whatsapp_gateway::domain::schedule::{Class, Feedback, Lane, Moment, Offer, PairKey, PairRule, Ticket};

/// Four callers, three classes, a few messages to each recipient, every tenth with a deadline.
fn ticket(n: u64) -> Ticket {
    let class = [Class::Urgent, Class::Normal, Class::Bulk][usize::try_from(n % 3).unwrap()];
    let caller = Caller::named(["a", "b", "c", "d"][usize::try_from(n % 4).unwrap()]);
    let deadline = n.is_multiple_of(10).then_some(Duration::from_hours(1));
    Ticket { caller, class, pair: PairKey::new(&format!("1065:{}", n / 3 % 300_000)), deadline }
}

fn measure(rounds: u64, backlog: u64) {
    // So fast that the machine is what limits it, behind a backlog that stays.
    let mut lane = Lane::new(1_000_000, PairRule::LITERAL);
    lane.suspend(Moment::ZERO, Duration::from_millis(1));
    for n in 0..backlog {
        lane.offer(Moment::ZERO, ticket(n));
    }
    let (mut now, mut turns) = (Duration::from_millis(1), 0);
    let began = tokio::time::Instant::now();
    for n in 0..rounds {
        now += Duration::from_nanos(1_020);
        let went = match lane.offer(now, ticket(backlog + n)) {
            Offer::Go(id) => Some(id),
            Offer::Wait { .. } => None,
            Offer::Refuse(refusal) => panic!("{refusal:?}"),
        };
        for id in lane.poll(now).granted.into_iter().chain(went) {
            assert!(lane.done(now, id, Feedback::Accepted));
            turns += 1;
        }
    }
    let each = began.elapsed() / u32::try_from(rounds).unwrap();
    println!("behind {backlog:>6} waiting: {each:>10.2?} for an offer, a poll and an answer; {turns} turns");
    assert!(turns >= rounds * 9 / 10);
}

#[test]
fn turns_cost_little_behind_any_backlog() {
    let rounds = if cfg!(debug_assertions) { 10_000 } else { 1_000_000 };
    for backlog in [0, 1_000, 10_000, 90_000] {
        measure(rounds, backlog);
    }
}
