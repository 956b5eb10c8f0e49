//! The rows of the table: what is started for each, and what is made of the reports.

#![allow(clippy::indexing_slicing, reason = "`interleaved` numbers as many as its caller names")]

mod events;
mod gateway;
mod idle;
mod media;
mod nats;
mod protect;
mod replay;
mod sends;
mod turns;
mod webhooks;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::Args;

use crate::load::Report;
use crate::process::Process;
use crate::report::Row;
use crate::{Result, machine, report};
use gateway::Gateway;

/// How long a run of calls takes that are compared with others, and how many of them a round has: what else the machine does meanwhile
/// comes and goes by seconds, and falls on all sides alike only if they take turns more often than that.
const SLICE_SECONDS: &str = "0.5";
const SLICES: usize = 3;

/// Where everything is written, below the target folder so that it is on a real disk. Emptied before and after.
const FOLDER: &str = "target/bench";

/// What to measure, and how long.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The gateway
    #[arg(long, default_value = "target/release/whatsapp-gateway")]
    gateway: PathBuf,
    /// Where to write the page; without it, only the table is printed
    #[arg(long)]
    page: Option<PathBuf>,
    /// Measure these rows only: send, protect, turn, webhook, nats, pace, fan-out, replay, media, idle
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Rounds of each row
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Events of the replay
    #[arg(long, default_value_t = 1_000_000)]
    stored: u64,
}

/// What every row needs.
pub(crate) struct Bench {
    binary: PathBuf,
    folder: PathBuf,
    /// A database of the gateway with one event, which floors copy.
    model: PathBuf,
    upstream: Process,
    rounds: usize,
    stored: u64,
}

type Measure = fn(&Bench, &mut Vec<Row>) -> Result<()>;

/// The sections in the order of the table.
const SECTIONS: [(&str, Measure); 10] = [
    ("send", sends::measure),
    ("protect", protect::measure),
    ("turn", turns::measure),
    ("webhook", webhooks::measure),
    ("nats", nats::measure),
    ("pace", events::pace),
    ("fan-out", events::fan_out),
    ("replay", replay::measure),
    ("media", media::measure),
    ("idle", idle::measure),
];

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let began = Instant::now();
    let folder = PathBuf::from(FOLDER);
    drop(fs::remove_dir_all(&folder));
    fs::create_dir_all(&folder)?;
    let before = machine::load();
    let measured = measure(arguments, &folder);
    drop(fs::remove_dir_all(&folder));
    let rows = measured?;
    let load =
        format!("load average {before} before, and the bench's own with it {} at the end", machine::load());
    let minutes = began.elapsed().as_secs_f64() / 60.0;
    println!("{minutes:.1} min, {load}");
    match &arguments.page {
        Some(page) => report::write(page, &rows, &load, minutes),
        None => Ok(()),
    }
}

fn measure(arguments: &Arguments, folder: &Path) -> Result<Vec<Row>> {
    let upstream = Process::own(&["floor", "upstream"])?.wait_ready()?;
    let mut bench = Bench {
        binary: fs::canonicalize(&arguments.gateway)?,
        folder: fs::canonicalize(folder)?,
        model: PathBuf::new(),
        upstream,
        rounds: arguments.rounds,
        stored: arguments.stored,
    };
    bench.model = gateway::model(&bench)?;
    let mut rows = Vec::new();
    for (name, measure) in SECTIONS {
        if arguments.only.is_empty() || arguments.only.iter().any(|only| only == name) {
            let before = rows.len();
            measure(&bench, &mut rows)?;
            rows.iter().skip(before).for_each(|row| println!("{}", row.line()));
        }
    }
    Ok(rows)
}

impl Bench {
    /// A floor, ready.
    fn floor(arguments: &[&str]) -> Result<Process> {
        Process::own(&[&["floor"], arguments].concat())?.wait_ready()
    }

    /// The floor of everything that is gRPC.
    fn grpc_floor(&self) -> Result<Process> {
        let claims = self.folder.join("claims").display().to_string();
        Self::floor(&["grpc", self.upstream.address("http")?, &self.model.display().to_string(), &claims])
    }
}

/// One run of a load generator, and what it cost the process that served it.
#[derive(Debug, Clone, Copy)]
struct Run {
    report: Report,
    /// Processor time of the serving process for one operation, in microseconds.
    processor: f64,
}

impl Run {
    fn per_second(&self) -> f64 {
        self.report.per_second()
    }
}

/// Puts a load on a process.
fn load(server: &Process, arguments: &[&str]) -> Result<Run> {
    let before = server.processor_seconds()?;
    let report: Report = Process::own(&[&["load"], arguments].concat())?.finish()?;
    let processor = (server.processor_seconds()? - before) * 1e6 / report.all;
    Ok(Run { report, processor })
}

/// Runs each in turn, round after round; the first of a round is another one each time.
fn interleaved<const N: usize>(
    rounds: usize,
    mut run: impl FnMut(usize, usize) -> Result<Run>,
) -> Result<[Vec<Run>; N]> {
    let mut runs = [const { Vec::new() }; N];
    for round in 0..rounds {
        for turn in 0..N {
            let which = (turn + round) % N;
            let done = run(which, round)?;
            if let Some(runs) = runs.get_mut(which) {
                runs.push(done);
            }
        }
    }
    Ok(runs)
}

/// The runs of several rounds, each of which starts its processes anew: where a process lies in memory alone makes it some percent
/// faster or slower for its life.
fn anew<const N: usize>(
    rounds: usize,
    run: impl FnMut(usize) -> Result<[Vec<Run>; N]>,
) -> Result<[Vec<Run>; N]> {
    let rounds = (0..rounds).map(run).collect::<Result<Vec<_>>>()?;
    Ok(std::array::from_fn(|which| rounds.iter().flat_map(|runs| &runs[which]).copied().collect()))
}

fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// The median of something over the rounds.
fn median_of(runs: &[Run], what: impl Fn(&Run) -> f64) -> f64 {
    median(runs.iter().map(what))
}

/// The median of the rounds' ratios.
fn ratio(ours: &[Run], floor: &[Run], what: impl Fn(&Run) -> f64) -> f64 {
    median(ours.iter().zip(floor).map(|(ours, floor)| what(ours) / what(floor)))
}

/// The median rate, with its unit.
fn rate(runs: &[Run]) -> String {
    format!("{}/s", whole(median_of(runs, Run::per_second)))
}

/// Both processor times, as a note.
fn processor_note(ours: &[Run], floor: &[Run]) -> String {
    let (ours, floor) = (median_of(ours, |run| run.processor), median_of(floor, |run| run.processor));
    format!("CPU {ours:.1} µs, floor {floor:.1} µs")
}

/// With a separator for thousands.
fn whole(number: f64) -> String {
    let digits = format!("{number:.0}");
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Waits until what was just done has settled.
fn settle() {
    std::thread::sleep(Duration::from_millis(1_500));
}
