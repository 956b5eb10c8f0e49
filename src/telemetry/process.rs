//! What the system and the runtime tell of the process, read when somebody asks.

use std::fs;

use rustix::param::clock_ticks_per_second;
use rustix::process::{Resource, getrlimit};
use tokio::runtime::Handle;

use super::names::{self, Kind, METRICS, Metric};

/// What is measured here and not counted where it happens.
const OURS: [&str; 11] = [
    names::RUNTIME_TASKS,
    names::RUNTIME_QUEUE,
    names::RUNTIME_WORKERS,
    names::RUNTIME_BUSY,
    names::PROCESS_CPU,
    names::PROCESS_RESIDENT,
    names::PROCESS_VIRTUAL,
    names::PROCESS_OPEN_FILES,
    names::PROCESS_FILES_MAX,
    names::PROCESS_THREADS,
    names::PROCESS_START,
];

/// Whether [`render`] shows it.
pub(super) fn is_ours(metric: &Metric) -> bool {
    OURS.contains(&metric.name)
}

/// Adds the families to `text`, in the Prometheus text format. What the system does not tell is left out. Call it inside
/// the runtime.
pub(super) fn render(text: &mut String, started: f64) {
    let runtime = Handle::current().metrics();
    let workers = runtime.num_workers();
    let busy = (0..workers).map(|worker| runtime.worker_total_busy_duration(worker).as_secs_f64()).sum();
    let mut show = |name: &str, value: Option<f64>| {
        let Some(Metric { kind, help, .. }) = METRICS.iter().find(|metric| metric.name == name) else {
            return;
        };
        let kind = if *kind == Kind::Counter { "counter" } else { "gauge" };
        if let Some(value) = value {
            let help = help.trim_start();
            let value = value.to_string();
            text.extend(["# HELP ", name, " ", help, "\n# TYPE ", name, " ", kind, "\n"]);
            text.extend([name, " ", &value, "\n\n"]);
        }
    };
    show(names::RUNTIME_TASKS, Some(float(runtime.num_alive_tasks())));
    show(names::RUNTIME_QUEUE, Some(float(runtime.global_queue_depth())));
    show(names::RUNTIME_WORKERS, Some(float(workers)));
    show(names::RUNTIME_BUSY, Some(busy));
    let stat = Stat::read();
    let of_stat = |field: fn(&Stat) -> f64| stat.as_ref().map(field);
    show(names::PROCESS_CPU, of_stat(|stat| stat.cpu_seconds));
    show(names::PROCESS_RESIDENT, of_stat(|stat| stat.resident_bytes));
    show(names::PROCESS_VIRTUAL, of_stat(|stat| stat.virtual_bytes));
    show(names::PROCESS_THREADS, of_stat(|stat| stat.threads));
    // The directory is in memory: reading it does not block.
    show(names::PROCESS_OPEN_FILES, fs::read_dir("/proc/self/fd").ok().map(|files| float(files.count())));
    let files_max = getrlimit(Resource::Nofile).current;
    show(names::PROCESS_FILES_MAX, files_max.map(|max| float(usize::try_from(max).unwrap_or(usize::MAX))));
    show(names::PROCESS_START, Some(started));
}

/// What `/proc/self/stat` says; see proc(5).
#[derive(Debug)]
struct Stat {
    cpu_seconds: f64,
    threads: f64,
    virtual_bytes: f64,
    resident_bytes: f64,
}

impl Stat {
    fn read() -> Option<Self> {
        Self::parse(&fs::read_to_string("/proc/self/stat").ok()?)
    }

    /// The name of the program stands in brackets and may hold anything; what follows are numbers, from the third field on.
    fn parse(text: &str) -> Option<Self> {
        let (_, fields) = text.rsplit_once(") ")?;
        let fields: Vec<&str> = fields.split(' ').collect();
        let field = |number: usize| fields.get(number - 3)?.parse::<f64>().ok();
        #[expect(clippy::cast_precision_loss, reason = "ticks in a second are few, and a page is small")]
        let (ticks, page) = (clock_ticks_per_second() as f64, rustix::param::page_size() as f64);
        Some(Self {
            cpu_seconds: (field(14)? + field(15)?) / ticks,
            threads: field(20)?,
            virtual_bytes: field(23)?,
            resident_bytes: field(24)? * page,
        })
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts of tasks and files are far below 2^52")]
fn float(count: usize) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fields_are_found_behind_any_name() {
        let text = "7 (a) b (c) S 1 7 7 0 -1 4194560 99 0 0 0 250 50 0 0 20 0 12 0 800 4096000 10 184 0 0";
        let stat = Stat::parse(text).unwrap();
        let shown = format!("{} {} {}", stat.cpu_seconds, stat.threads, stat.virtual_bytes);
        assert_eq!(shown, "3 12 4096000");
        assert_eq!(stat.resident_bytes.to_string(), (10 * rustix::param::page_size()).to_string());
        assert!(Stat::parse("7 (short) S 1").is_none());
    }

    #[tokio::test]
    async fn all_of_it_is_shown() {
        let mut text = String::new();
        render(&mut text, 1.5);
        for name in OURS {
            let line = text
                .lines()
                .find(|line| line.starts_with(&format!("{name} ")))
                .unwrap_or_else(|| panic!("{name}"));
            let value: f64 = line.rsplit(' ').next().unwrap().parse().unwrap();
            let may_be_none =
                [names::RUNTIME_TASKS, names::RUNTIME_QUEUE, names::RUNTIME_BUSY, names::PROCESS_CPU];
            assert!(value > 0.0 || may_be_none.contains(&name), "{line}");
        }
    }
}
