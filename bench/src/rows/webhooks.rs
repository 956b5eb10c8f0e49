//! Webhooks to the 200, against the same rows and against the disk.

use super::{Bench, Gateway, Run, interleaved, load, median_of, processor_note, ratio, whole};
use crate::Result;
use crate::report::{Row, Target};

/// Messages of one run have numbers of their own.
pub(super) const NUMBERS_PER_RUN: u64 = 1_000_000_000_000;

pub(super) fn measure(bench: &Bench, rows: &mut Vec<Row>) -> Result<()> {
    let gateway = Gateway::start(bench, "webhooks")?;
    let folder = |name: &str| bench.folder.join(name).display().to_string();
    let model = bench.model.display().to_string();
    let sqlite = Bench::floor(&["rows", &folder("rows"), &model])?;
    let file = Bench::floor(&["segment", &folder("segment"), &model])?;
    let addresses = [gateway.webhook()?, sqlite.address("webhook")?, file.address("webhook")?];
    let servers = [&gateway.process, &sqlite, &file];
    for (posters, base) in [("64", 1), ("256", 1 + bench.rounds as u64)] {
        let [ours, sqlite, file] = interleaved::<3>(bench.rounds, |which, round| {
            let (server, address) = (servers[which], addresses[which]);
            let first = ((base + round as u64) * NUMBERS_PER_RUN).to_string();
            load(server, &["post", address, "--at-once", posters, "--seconds", "1.5", "--first", &first])
        })?;
        let shown = |runs: &[Run]| {
            let p99 = median_of(runs, |run| run.report.p99) / 1e3;
            format!("{}/s, p99 {p99:.1} ms", whole(median_of(runs, Run::per_second)))
        };
        rows.push(Row {
            name: format!("webhook → 200, {posters} posters, against SQLite"),
            ours: shown(&ours),
            floor: shown(&sqlite),
            figure: ratio(&ours, &sqlite, Run::per_second),
            unit: "",
            target: Target::AtLeast(0.85),
            note: processor_note(&ours, &sqlite),
        });
        rows.push(Row {
            name: format!("webhook → 200, {posters} posters, against a plain file"),
            ours: shown(&ours),
            floor: shown(&file),
            figure: ratio(&ours, &file, Run::per_second),
            unit: "",
            target: Target::AtLeast(0.6),
            note: processor_note(&ours, &file),
        });
    }
    Ok(())
}
