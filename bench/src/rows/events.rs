//! Events on their way to subscribers: one in time, many at once.

use super::webhooks::NUMBERS_PER_RUN;
use super::{Bench, Gateway, Run, interleaved, load, median, median_of, processor_note, ratio, whole};
use crate::Result;
use crate::report::{Row, Target};

/// What the way from the commit to the subscriber may take, in microseconds.
const DELIVERY: f64 = 1_000.0;

/// How long until an event is with its subscriber, at a thousand in a second, against the commit alone.
pub(super) fn pace(bench: &Bench, rows: &mut Vec<Row>) -> Result<()> {
    let gateway = Gateway::start(bench, "pace")?;
    let (folder, model) = (bench.folder.join("pace-rows"), bench.model.display().to_string());
    let floor = Bench::floor(&["rows", &folder.display().to_string(), &model])?;
    let [ours, floor] = interleaved::<2>(bench.rounds, |which, round| {
        let first = ((1 + round as u64) * NUMBERS_PER_RUN).to_string();
        let amount = ["--rate", "1000", "--seconds", "3", "--first", &first];
        if which == 0 {
            let ports = ["pace", gateway.webhook()?, "--subscribe", gateway.grpc()?];
            load(&gateway.process, &[&ports[..], &amount].concat())
        } else {
            load(&floor, &[&["pace", floor.address("webhook")?][..], &amount].concat())
        }
    })?;
    let p99 = |run: &Run| run.report.p99;
    let ratios = ours.iter().zip(&floor).map(|(ours, floor)| p99(ours) / (p99(floor) + DELIVERY));
    let halves = [&ours, &floor].map(|runs| median_of(runs, |run| run.report.p50) / 1e3);
    rows.push(Row {
        name: "webhook → subscriber, 1,000 events/s, p99 (floor: commit + 1 ms)".to_owned(),
        ours: format!("{:.2} ms", median_of(&ours, p99) / 1e3),
        floor: format!("{:.2} ms", (median_of(&floor, p99) + DELIVERY) / 1e3),
        figure: median(ratios),
        unit: "",
        target: Target::AtMost(2.0),
        note: format!(
            "p50 {:.2} ms, the bare commit {:.2} ms; {}",
            halves[0],
            halves[1],
            processor_note(&ours, &floor)
        ),
    });
    Ok(())
}

/// Streams of the fan-out, and the connections that they share.
const STREAMS: [&str; 4] = ["--streams", "1000", "--connections", "10"];

pub(super) fn fan_out(bench: &Bench, rows: &mut Vec<Row>) -> Result<()> {
    let (gateway, floor) = (Gateway::start(bench, "fan-out")?, bench.grpc_floor()?);
    let ports = [(gateway.webhook()?, gateway.grpc()?), (floor.address("webhook")?, floor.address("grpc")?)];
    let servers = [&gateway.process, &floor];
    let [ours, floor] = interleaved::<2>(bench.rounds, |which, round| {
        let (webhook, grpc) = ports[which];
        let first = ((1 + round as u64) * NUMBERS_PER_RUN).to_string();
        let amount = ["--events", "600", "--ahead", "8", "--first", &first];
        let arguments = [&["fan-out", webhook, "--subscribe", grpc][..], &STREAMS, &amount].concat();
        load(servers[which], &arguments)
    })?;
    let rate = |runs: &[Run]| format!("{}/s", whole(median_of(runs, Run::per_second)));
    rows.push(Row {
        name: "fan-out to 1,000 streams, deliveries".to_owned(),
        ours: rate(&ours),
        floor: rate(&floor),
        figure: ratio(&ours, &floor, Run::per_second),
        unit: "",
        target: Target::AtLeast(0.85),
        note: processor_note(&ours, &floor),
    });
    Ok(())
}
