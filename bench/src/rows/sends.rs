//! `SendMessage`, against a handler that only posts.

use super::{
    Bench, Gateway, Run, SLICE_SECONDS, SLICES, anew, interleaved, load, median_of, processor_note, rate,
    ratio,
};
use crate::Result;
use crate::report::{Row, Target};

/// A time of single calls.
type Column = fn(&Run) -> f64;

pub(super) fn measure(bench: &Bench, rows: &mut Vec<Row>) -> Result<()> {
    let runs = |at_once: &str, more: &[&str]| {
        anew::<2>(bench.rounds, |round| {
            let name = format!("send-{round}-{at_once}-{}", more.concat());
            let (gateway, floor) = (Gateway::start(bench, &name)?, bench.grpc_floor()?);
            let addresses = [gateway.grpc()?, floor.address("grpc")?];
            let servers = [&gateway.process, &floor];
            interleaved::<2>(SLICES, |which, _| {
                let (server, address) = (servers[which], addresses[which]);
                let send = ["send", address, "--at-once", at_once, "--seconds", SLICE_SECONDS];
                load(server, &[&send, more].concat())
            })
        })
    };
    let kinds: [(&str, f64, &[&str]); 2] = [
        ("SendMessage, 64 in flight", 0.90, &[]),
        ("SendMessage with a request_id, 64 in flight", 0.85, &["--request-ids"]),
    ];
    for (name, least, more) in kinds {
        let [ours, floor] = runs("64", more)?;
        rows.push(Row {
            name: name.to_owned(),
            ours: rate(&ours),
            floor: rate(&floor),
            figure: ratio(&ours, &floor, Run::per_second),
            unit: "",
            target: Target::AtLeast(least),
            note: processor_note(&ours, &floor),
        });
    }
    let [ours, floor] = runs("1", &[])?;
    let columns: [(&str, f64, Column); 2] =
        [("p50", 1.15, |run| run.report.p50), ("p90", 1.25, |run| run.report.p90)];
    for (name, most, what) in columns {
        rows.push(Row {
            name: format!("SendMessage, 1 in flight, {name}"),
            ours: format!("{:.0} µs", median_of(&ours, what)),
            floor: format!("{:.0} µs", median_of(&floor, what)),
            figure: ratio(&ours, &floor, what),
            unit: "",
            target: Target::AtMost(most),
            note: if name == "p50" { processor_note(&ours, &floor) } else { String::new() },
        });
    }
    Ok(())
}
