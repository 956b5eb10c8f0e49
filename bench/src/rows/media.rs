//! A file of 100 MB, up and down.

use super::{Bench, Gateway, Run, interleaved, load, median, median_of, ratio};
use crate::Result;
use crate::process::Process;
use crate::report::{Row, Target};

pub(super) fn measure(bench: &Bench, rows: &mut Vec<Row>) -> Result<()> {
    for direction in ["upload", "download"] {
        // Processes of their own, so that the peak is that of this direction.
        let (gateway, floor) = (Gateway::start(bench, direction)?, bench.grpc_floor()?);
        let addresses = [gateway.grpc()?, floor.address("grpc")?];
        let servers = [&gateway.process, &floor];
        // How far the peak was above what was there before, in MiB.
        let mut grown = [Vec::new(), Vec::new()];
        let [ours, floor] = interleaved::<2>(bench.rounds * 2, |which, _| {
            let (run, more) = watched(servers[which], &[direction, addresses[which]])?;
            grown[which].push(more);
            Ok(run)
        })?;
        let rate = |runs: &[Run]| format!("{:.0} MB/s", median_of(runs, Run::per_second) / 1e6);
        // Processor time of one operation is that of a byte here.
        let per_file = |runs: &[Run]| median_of(runs, |run| run.processor * run.report.operations / 1e3);
        rows.push(Row {
            name: format!("{direction} of 100 MB"),
            ours: rate(&ours),
            floor: rate(&floor),
            figure: ratio(&ours, &floor, Run::per_second),
            unit: "",
            target: Target::AtLeast(0.90),
            note: format!("CPU {:.0} ms for the file, floor {:.0} ms", per_file(&ours), per_file(&floor)),
        });
        // The allocator keeps what it has, so the first round shows the most.
        let medians = grown.each_ref().map(|grown| median(grown.iter().copied()));
        let [ours, floor] = grown.map(|grown| grown.into_iter().fold(0.0, f64::max));
        rows.push(Row {
            name: format!("{direction} of 100 MB, growth of the peak memory"),
            ours: format!("{ours:.1} MiB"),
            floor: format!("{floor:.1} MiB"),
            figure: ours,
            unit: "MiB",
            target: Target::AtMost(8.0),
            note: format!(
                "the most of all rounds; the median is {:.1} MiB, floor {:.1} MiB",
                medians[0], medians[1]
            ),
        });
    }
    Ok(())
}

/// A run, and how many MiB more than before the server had at most.
fn watched(server: &Process, arguments: &[&str]) -> Result<(Run, f64)> {
    server.forget_peak()?;
    let before = server.memory()?.resident;
    let run = load(server, arguments)?;
    Ok((run, (server.memory()?.peak - before) / 1024.0))
}
