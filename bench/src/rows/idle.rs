//! What the gateway takes when it does nothing: time to start, memory, a place on the disk.

use super::gateway::{binary_bytes, time_start};
use super::{Bench, Gateway, median, settle};
use crate::Result;
use crate::process::{Memory, Process};
use crate::report::{Row, Target};

const STREAMS: f64 = 1_000.0;

pub(super) fn measure(bench: &Bench, rows: &mut Vec<Row>) -> Result<()> {
    rows.push(start(bench)?);
    rows.push(memory(bench)?);
    for (connections, target) in [("10", Target::AtMost(16.0)), ("1000", Target::None)] {
        rows.push(streams(bench, connections, target)?);
    }
    let bytes = binary_bytes(&bench.binary)?;
    rows.push(figure("size of the binary", bytes / 1e6, "MB", Target::AtMost(30.0), String::new()));
    Ok(())
}

fn figure(name: &str, value: f64, unit: &'static str, target: Target, note: String) -> Row {
    let (name, ours) = (name.to_owned(), format!("{value:.1} {unit}"));
    Row { name, ours, floor: "–".to_owned(), figure: value, unit, target, note }
}

fn start(bench: &Bench) -> Result<Row> {
    let (mut new, mut again) = (Vec::new(), Vec::new());
    for round in 0..2 * bench.rounds {
        let folder = format!("start-{round}");
        new.push(time_start(bench, &folder)?.as_secs_f64() * 1e3);
        again.push(time_start(bench, &folder)?.as_secs_f64() * 1e3);
    }
    let note = format!("on the same folder again {:.1} ms", median(again));
    Ok(figure("start to ready, on an empty folder", median(new), "ms", Target::AtMost(50.0), note))
}

fn memory(bench: &Bench) -> Result<Row> {
    let gateway = Gateway::start(bench, "idle")?;
    settle();
    let Memory { resident, anonymous, proportional, .. } = gateway.process.memory()?;
    let mib = |kib: f64| kib / 1024.0;
    let note = format!(
        "of which {:.1} MiB were written by the process (RssAnon), the rest are pages of the binary; PSS {:.1} MiB",
        mib(anonymous),
        mib(proportional)
    );
    Ok(figure("idle memory", mib(resident), "MiB", Target::AtMost(25.0), note))
}

/// A thousand streams that wait, on a gateway that has served some before.
fn streams(bench: &Bench, connections: &str, target: Target) -> Result<Row> {
    let (gateway, floor) = (Gateway::start(bench, &format!("streams-{connections}"))?, bench.grpc_floor()?);
    let ours = per_stream(&gateway.process, connections)?;
    let floor = per_stream(&floor, connections)?;
    let name = format!("memory per idle stream, 1,000 on {connections} connections");
    let row = figure(&name, ours, "KiB", target, String::new());
    Ok(Row { floor: format!("{floor:.1} KiB"), ..row })
}

fn per_stream(server: &Process, connections: &str) -> Result<f64> {
    let open = |streams: &str, connections: &str| -> Result<Process> {
        let grpc = server.address("grpc")?;
        let shape = ["--subscribe", grpc, "--streams", streams, "--connections", connections];
        Process::own(&[&["load", "idle"][..], &shape].concat())?.wait_ready()
    };
    drop(open("10", "10")?);
    settle();
    let before = server.memory()?.resident;
    let _streams = open("1000", connections)?;
    settle();
    Ok((server.memory()?.resident - before) / STREAMS)
}
