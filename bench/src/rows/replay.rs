//! A subscriber that starts with the first stored event, against reading the same rows.

use super::{Bench, Gateway, Run, interleaved, load, median_of, processor_note, ratio, whole};
use crate::Result;
use crate::load::Report;
use crate::process::Process;
use crate::report::{Row, Target};

pub(super) fn measure(bench: &Bench, rows: &mut Vec<Row>) -> Result<()> {
    let data = bench.folder.join("replay");
    let (folder, events) = (data.display().to_string(), bench.stored.to_string());
    let filled: Report = Process::own(&["load", "fill", &folder, "--events", &events])?.finish()?;
    // The projections catch up at the first start.
    let gateway = Gateway::start(bench, "replay")?;
    let database = data.join("gateway.db").display().to_string();
    let [ours, floor] = interleaved::<2>(bench.rounds.min(3), |which, _| {
        if which == 0 {
            load(&gateway.process, &["replay", gateway.grpc()?, "--events", &events])
        } else {
            load(&gateway.process, &["rows", &database])
        }
    })?;
    let rate = |runs: &[Run]| format!("{}/s", whole(median_of(runs, Run::per_second)));
    rows.push(Row {
        name: format!("replay of {} stored events", whole(filled.operations)),
        ours: rate(&ours),
        floor: rate(&floor),
        figure: ratio(&ours, &floor, Run::per_second),
        unit: "",
        target: Target::AtLeast(0.60),
        note: format!(
            "{}; the log was written at {}/s",
            processor_note(&ours, &floor).split(',').next().unwrap_or_default(),
            whole(filled.per_second())
        ),
    });
    Ok(())
}
