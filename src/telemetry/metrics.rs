//! The Prometheus recorder.

use std::sync::OnceLock;
use std::time::Duration;

use metrics::gauge;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tokio::runtime::Handle;
use tokio::time::{MissedTickBehavior, interval};

use super::{Error, names};

/// How often histograms are drained and the process is measured.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);

/// The recorder is one for the process, like the macros that write to it.
static INSTALLED: OnceLock<PrometheusHandle> = OnceLock::new();

/// The metrics of the process.
#[derive(Clone)]
pub struct Metrics {
    handle: PrometheusHandle,
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

impl Metrics {
    /// Starts recording; from the second call on, returns what the first one started. What was recorded before is
    /// lost.
    pub fn install() -> Result<Self, Error> {
        if let Some(handle) = INSTALLED.get() {
            return Ok(Self { handle: handle.clone() });
        }
        let handle = builder()?.install_recorder()?;
        names::describe();
        names::begin();
        gauge!(names::BUILD_INFO, names::VERSION => env!("CARGO_PKG_VERSION")).set(1.0);
        Ok(Self { handle: INSTALLED.get_or_init(|| handle).clone() })
    }

    /// All metrics in the Prometheus text format, for `/metrics`.
    pub fn render(&self) -> String {
        self.handle.render()
    }

    /// Keeps memory bounded between scrapes and measures the process; run it in the background. It does not end.
    pub async fn run_upkeep(self) {
        let mut ticks = interval(UPKEEP_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.handle.run_upkeep();
            measure_process();
        }
    }
}

/// The recorder's settings. Without buckets a histogram would be a summary, which cannot be added up over replicas.
fn builder() -> Result<PrometheusBuilder, Error> {
    let mut builder = PrometheusBuilder::new().set_buckets(&names::DURATION_BUCKETS)?;
    for (name, buckets) in names::HISTOGRAMS {
        builder = builder.set_buckets_for_metric(Matcher::Full(name.to_owned()), buckets)?;
    }
    Ok(builder)
}

#[expect(
    clippy::cast_precision_loss,
    reason = "gauges are floats; counts of tasks and bytes are far below 2^52"
)]
fn measure_process() {
    let runtime = Handle::current().metrics();
    gauge!(names::RUNTIME_TASKS).set(runtime.num_alive_tasks() as f64);
    gauge!(names::RUNTIME_QUEUE).set(runtime.global_queue_depth() as f64);
    if let Some(bytes) = resident_bytes() {
        gauge!(names::PROCESS_RESIDENT).set(bytes as f64);
    }
    // The directory is in memory: reading it does not block.
    if let Ok(files) = std::fs::read_dir("/proc/self/fd") {
        gauge!(names::PROCESS_OPEN_FILES).set(files.count() as f64);
    }
}

/// The memory this process occupies, where the system tells.
fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn histograms_have_their_buckets() {
        let recorder = builder().unwrap().build_recorder();
        metrics::with_local_recorder(&recorder, || {
            names::describe();
            metrics::histogram!(names::LOG_COMMIT_DURATION).record(0.000_1);
            metrics::histogram!(names::RPC_SERVER_CALL_DURATION, names::RPC_METHOD => "x").record(0.3);
        });
        let text = recorder.handle().render();
        assert!(text.contains("log_commit_seconds_bucket{le=\"0.00025\"} 1"), "{text}");
        assert!(
            text.contains("rpc_server_call_duration_seconds_bucket{rpc_method=\"x\",le=\"0.5\"} 1"),
            "{text}"
        );
        assert!(text.contains("# HELP rpc_server_call_duration_seconds Duration of calls"), "{text}");
    }

    #[test]
    fn the_process_is_measured() {
        assert!(resident_bytes().is_some_and(|bytes| bytes > 100_000));
    }
}
