//! The Prometheus recorder.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use metrics::{counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tokio::time::{MissedTickBehavior, interval};

use super::buckets::{DURATION_BUCKETS, HISTOGRAMS};
use super::exemplars::{Exemplars, Exemplifying, open_metrics};
use super::gathered::Gathered;
use super::names::{Kind, METRICS, Metric};
use super::{Config, Error, names, process};
use crate::clock::SharedClock;

/// The reasons that alerts ask for. The other answers appear when they are given.
const ANSWERS_BEGUN: [&str; 8] = [
    "OK",
    "INTERNAL",
    "EVENT_STORE_UNAVAILABLE",
    "NO_LEADER",
    "LOCAL_RATE_LIMIT",
    "UPSTREAM_THROUGHPUT",
    "UPSTREAM_PAIR_RATE",
    "UPSTREAM_ACCOUNT_RATE",
];

/// How often histograms are drained.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);

/// The recorder is one for the process, like the macros that write to it.
static INSTALLED: OnceLock<Metrics> = OnceLock::new();

/// The metrics of the process.
#[derive(Clone)]
pub struct Metrics {
    handle: PrometheusHandle,
    exemplars: Arc<Exemplars>,
    gathered: Arc<Gathered>,
    /// Seconds since 1970.
    started: f64,
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

impl Metrics {
    /// As [`Metrics::install`], if the configuration wants any.
    pub fn start(config: &Config, clock: SharedClock) -> Result<Option<Self>, Error> {
        config.metrics.then(|| Self::install(clock)).transpose()
    }

    /// Starts recording; from the second call on, returns what the first one started. What was recorded before is
    /// lost. Call it at the start of the process.
    pub fn install(clock: SharedClock) -> Result<Self, Error> {
        if let Some(installed) = INSTALLED.get() {
            return Ok(installed.clone());
        }
        #[expect(clippy::cast_precision_loss, reason = "milliseconds since 1970 are far below 2^52")]
        let started = clock.now_ms() as f64 / 1000.0;
        let recorder = builder()?.build_recorder();
        let handle = recorder.handle();
        let recorder = Exemplifying::new(recorder, clock);
        let (exemplars, gathered) = (recorder.exemplars(), recorder.gathered());
        let metrics = Self { handle, exemplars, gathered, started };
        metrics::set_global_recorder(recorder).map_err(|_| Error::Recording)?;
        describe();
        begin();
        gauge!(names::BUILD_INFO, names::VERSION => env!("CARGO_PKG_VERSION")).set(1.0);
        gauge!(names::WEBHOOK_LAST_ACCEPTED).set(started);
        Ok(INSTALLED.get_or_init(|| metrics).clone())
    }

    /// All metrics in the Prometheus text format, for `/metrics`. Call it inside the runtime.
    pub fn render(&self) -> String {
        self.gathered.hand_over();
        let mut text = without_gone(self.handle.render());
        process::render(&mut text, self.started);
        text
    }

    /// The same as OpenMetrics 1.0, with the traces behind the buckets of histograms.
    pub fn render_open_metrics(&self) -> String {
        open_metrics(&self.render(), &self.exemplars)
    }

    /// Keeps memory bounded between scrapes; run it in the background. It does not end.
    pub async fn run_upkeep(self) {
        let mut ticks = interval(UPKEEP_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.gathered.hand_over();
            self.handle.run_upkeep();
        }
    }
}

/// The text without the samples of what is gone: the exporter keeps every series that it has ever had.
pub(crate) fn without_gone(text: String) -> String {
    let is_gone = |line: &&str| line.ends_with(" NaN");
    if text.lines().any(|line| is_gone(&line)) {
        text.lines().filter(|line| !is_gone(line)).flat_map(|line| [line, "\n"]).collect()
    } else {
        text
    }
}

/// Gives every metric its help text. Called once, when the recorder is installed.
fn describe() {
    for Metric { name, kind, help, .. } in METRICS {
        let help = help.trim_start();
        match kind {
            Kind::Counter => describe_counter!(*name, help),
            Kind::Gauge => describe_gauge!(*name, help),
            Kind::Histogram => describe_histogram!(*name, help),
        }
    }
}

/// Shows what can happen before it has happened: an alert on a rate misses the first event of a series that it makes.
fn begin() {
    for metric in METRICS.iter().filter(|metric| !process::is_ours(metric)) {
        match metric.kind {
            Kind::Counter => begin_counter(metric, &mut Vec::new()),
            Kind::Histogram if metric.labels.is_empty() => drop(histogram!(metric.name)),
            Kind::Histogram | Kind::Gauge => {}
        }
    }
    // The other types appear when they are sent.
    for kind in ["text", "template"] {
        for outcome in ["accepted", "refused", "not_sent", "unknown"] {
            counter!(names::SENDS, names::MESSAGE_TYPE => kind, names::OUTCOME => outcome).absolute(0);
        }
    }
    for reason in ANSWERS_BEGUN {
        counter!(names::SEND_ANSWERS, names::REASON => reason).absolute(0);
    }
    for name in [
        names::EVENT_STREAMS,
        names::EVENT_STREAM_LAG,
        names::EVENT_STREAM_AGE,
        names::MESSAGE_WATCHES,
        names::SENDS_UNKNOWN,
        names::SEND_STREAMS,
    ] {
        gauge!(name).set(0.0);
    }
}

/// Every combination of the words of a counter's labels; none if one is open.
fn begin_counter(metric: &Metric, labels: &mut Vec<metrics::Label>) {
    let Some(label) = metric.labels.get(labels.len()) else {
        return counter!(metric.name, labels.clone()).absolute(0);
    };
    for word in label.words {
        labels.push(metrics::Label::from_static_parts(label.name, word));
        begin_counter(metric, labels);
        labels.pop();
    }
}

/// The recorder's settings. Without buckets a histogram would be a summary, which cannot be added up over replicas.
fn builder() -> Result<PrometheusBuilder, Error> {
    let mut builder = PrometheusBuilder::new().set_buckets(&DURATION_BUCKETS)?;
    for (name, buckets) in HISTOGRAMS {
        builder = builder.set_buckets_for_metric(Matcher::Full(name.to_owned()), buckets)?;
    }
    Ok(builder)
}

#[cfg(test)]
mod tests;
