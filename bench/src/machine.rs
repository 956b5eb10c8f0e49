//! What was measured, and where.

use std::fs;
use std::process::Command;

/// The head of the page.
pub(crate) fn describe() -> Vec<(&'static str, String)> {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let (processor, memory) = (read("/proc/cpuinfo"), read("/proc/meminfo"));
    let field = |text: &str, name: &str| {
        let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_default();
        line.split_once(':').map_or("unknown", |(_, value)| value.trim()).to_owned()
    };
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let kibibytes = field(&memory, "MemTotal").trim_end_matches(" kB").parse::<f64>().unwrap_or(0.0);
    vec![
        ("date", jiff::Zoned::now().strftime("%Y-%m-%d").to_string()),
        ("processor", format!("{}, {cores} cores", field(&processor, "model name"))),
        ("memory", format!("{:.0} GiB", kibibytes / 1024.0 / 1024.0)),
        ("kernel", read("/proc/sys/kernel/osrelease").trim().to_owned()),
        (
            "gateway",
            format!("{} at {}", env!("CARGO_PKG_VERSION"), printed("git", &["rev-parse", "--short", "HEAD"])),
        ),
        ("compiler", printed("rustc", &["--version"])),
        ("libraries", libraries()),
    ]
}

/// How many processes wanted a core in the last minute.
pub(crate) fn load() -> String {
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    load.split(' ').next().unwrap_or_default().to_owned()
}

fn printed(program: &str, arguments: &[&str]) -> String {
    let output =
        Command::new(program).args(arguments).output().map(|output| output.stdout).unwrap_or_default();
    String::from_utf8_lossy(&output).trim().to_owned()
}

/// The versions that decide, from the lock file, and SQLite's own.
fn libraries() -> String {
    let lock = fs::read_to_string("Cargo.lock").unwrap_or_default();
    let version = |name: &str| {
        let package =
            lock.split("[[package]]").find(|package| package.contains(&format!("name = \"{name}\"\n")))?;
        let version = package.lines().find_map(|line| line.strip_prefix("version = "))?;
        Some(format!("{name} {}", version.trim_matches('"')))
    };
    let names = ["tokio", "hyper", "h2", "tonic", "prost", "axum", "reqwest", "rusqlite", "mimalloc"];
    let mut versions: Vec<String> = names.into_iter().filter_map(version).collect();
    versions.push(format!("SQLite {}", rusqlite::version()));
    versions.join(", ")
}
