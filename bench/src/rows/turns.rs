//! The scheduler: what a turn costs, and how a number is paced.

use std::time::{Duration, Instant};

use serde::Deserialize;
use whatsapp_gateway::domain::caller::Caller;
use whatsapp_gateway::domain::schedule::{Class, Feedback, Lane, Moment, Offer, PairKey, PairRule, Ticket};

use super::{Bench, Gateway, load, median};
use crate::Result;
use crate::process::Process;
use crate::report::{Row, Target};

/// Turns that are measured at once.
const TURNS: u32 = 200_000;
/// What a number may send (reference 6.1), and how full a second of it may be.
const RATE: f64 = 80.0;
const FULLEST_SECOND_MAX: f64 = 84.0;

pub(super) fn measure(bench: &Bench, rows: &mut Vec<Row>) -> Result<()> {
    for backlog in [0, 10_000] {
        let costs = (0..bench.rounds).map(|_| cost(backlog)).collect::<Result<Vec<_>>>()?;
        let micros = median(costs);
        rows.push(Row {
            name: format!("a turn of the scheduler, {backlog} messages waiting"),
            ours: format!("{micros:.2} µs"),
            floor: "–".to_owned(),
            figure: micros,
            unit: "µs",
            target: Target::None,
            note: "one offer, one poll and one answer, on one core".to_owned(),
        });
    }
    paced(bench, rows)
}

/// Microseconds for one message, while so many wait for their recipients.
fn cost(backlog: u32) -> Result<f64> {
    let mut lane = Lane::new(1_000_000, PairRule::STEADY);
    let ticket = |number: u32| {
        let class = if number.is_multiple_of(3) { Class::Normal } else { Class::Bulk };
        let caller = Caller::named(if number.is_multiple_of(2) { "a" } else { "b" });
        Ticket { caller, class, pair: PairKey::new(&format!("1065:{number}")), deadline: None }
    };
    lane.suspend(Moment::ZERO, Duration::from_millis(1));
    for number in 0..backlog {
        lane.offer(Moment::ZERO, ticket(number));
    }
    let (mut now, mut turns) = (Duration::from_millis(1), 0);
    let began = Instant::now();
    for number in 0..TURNS {
        now += Duration::from_nanos(1_020);
        let went = match lane.offer(now, ticket(backlog + number)) {
            Offer::Go(id) => Some(id),
            Offer::Wait { .. } => None,
            Offer::Refuse(refusal) => return Err(format!("refused: {refusal:?}").into()),
        };
        for id in lane.poll(now).granted.into_iter().chain(went) {
            lane.done(now, id, Feedback::Accepted);
            turns += 1;
        }
    }
    let took = began.elapsed();
    if turns < TURNS * 9 / 10 {
        return Err(format!("{turns} turns of {TURNS}").into());
    }
    Ok(took.as_secs_f64() * 1e6 / f64::from(TURNS))
}

/// What the upstream saw since it was last asked.
#[derive(Debug, Deserialize)]
struct Arrivals {
    count: f64,
    seconds: f64,
    /// The most in any sliding second.
    fullest: f64,
}

/// More is wanted of a number than it may send.
fn paced(bench: &Bench, rows: &mut Vec<Row>) -> Result<()> {
    let gateway = Gateway::paced(bench, "paced", 0)?;
    let upstream = bench.upstream.address("http")?;
    let arrivals = || -> Result<Arrivals> { Process::own(&["load", "arrivals", upstream])?.finish() };
    arrivals()?;
    load(&gateway.process, &["send", gateway.grpc()?, "--at-once", "64", "--seconds", "10"])?;
    let Arrivals { count, seconds, fullest } = arrivals()?;
    let per_second = (count - 1.0) / seconds;
    let note = format!("{count} messages in {seconds:.1} s, as they arrived at Meta; received ones: none");
    rows.push(Row {
        name: "a number of 80 per second, 64 callers in line".to_owned(),
        ours: format!("{per_second:.1}/s"),
        floor: format!("{RATE}/s"),
        figure: per_second / RATE,
        unit: "",
        target: Target::AtLeast(0.95),
        note,
    });
    rows.push(Row {
        name: "the same, its fullest sliding second".to_owned(),
        ours: format!("{fullest}"),
        floor: format!("{RATE}"),
        figure: fullest,
        unit: "messages",
        target: Target::AtMost(FULLEST_SECOND_MAX),
        note: String::new(),
    });
    Ok(())
}
