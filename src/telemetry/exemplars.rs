//! Which trace stands behind a bucket of a histogram.
//!
//! The exporter knows no exemplars. So its recorder stands behind this one, which adds one thing: a histogram that is
//! recorded inside [`exemplified`] remembers the last sampled trace of each bucket, and [`open_metrics`] writes it beside
//! the exporter's lines. What is not sampled costs a look at a thread's own variable.

use std::cell::Cell;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use metrics::{Counter, Gauge, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder, SharedString, Unit};
use metrics_exporter_prometheus::PrometheusRecorder;
use opentelemetry::trace::TraceId;
use tracing::Span;

use super::SpanIds;
use super::buckets::buckets;
use super::gathered::Gathered;
use super::handles::Handles;
use crate::clock::SharedClock;

thread_local! {
    /// The sampled trace of the histogram that is being recorded.
    static TRACE: Cell<Option<TraceId>> = const { Cell::new(None) };
    static COUNTERS: Handles<Counter> = const { Handles::new() };
    static GAUGES: Handles<Gauge> = const { Handles::new() };
    static HISTOGRAMS: Handles<Histogram> = const { Handles::new() };
}

/// Records a histogram with the trace of this span, if it is exported; returns its ids in that case.
pub fn exemplified(span: &Span, record: impl FnOnce()) -> Option<SpanIds> {
    let ids = SpanIds::of(span);
    let trace = ids.map(|ids| ids.trace_id);
    if trace.is_some() {
        TRACE.set(trace);
    }
    record();
    if trace.is_some() {
        TRACE.set(None);
    }
    ids
}

/// A value that was recorded, and where it came from.
#[derive(Debug, Clone, Copy)]
struct Exemplar {
    trace: TraceId,
    value: f64,
    /// Seconds since 1970.
    time: f64,
}

/// The last exemplar of each bucket, of each series: as many as the buckets that `/metrics` shows.
#[derive(Debug, Default)]
pub(super) struct Exemplars(Mutex<HashMap<Key, Vec<Option<Exemplar>>>>);

impl Exemplars {
    fn kept(&self) -> MutexGuard<'_, HashMap<Key, Vec<Option<Exemplar>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn keep(&self, key: &Key, exemplar: Exemplar) {
        let buckets = buckets(key.name());
        let bucket = buckets.partition_point(|bound| *bound < exemplar.value);
        let mut kept = self.kept();
        let slots = kept.entry(key.clone()).or_insert_with(|| vec![None; buckets.len() + 1]);
        if let Some(slot) = slots.get_mut(bucket) {
            *slot = Some(exemplar);
        }
    }

    /// The exemplars by the sample that they belong to, as the exporter writes it.
    fn by_sample(&self) -> HashMap<String, Exemplar> {
        let mut by_sample = HashMap::new();
        for (key, slots) in &*self.kept() {
            let mut labels = String::new();
            for label in key.labels() {
                labels.extend([label.key(), "=\"", label.value(), "\","]);
            }
            let bounds = buckets(key.name()).iter().map(ToString::to_string);
            for (bound, slot) in bounds.chain(["+Inf".to_owned()]).zip(slots) {
                if let Some(exemplar) = slot {
                    by_sample.insert(format!("{}_bucket{{{labels}le=\"{bound}\"}}", key.name()), *exemplar);
                }
            }
        }
        by_sample
    }
}

/// The exporter's recorder, with exemplars. A thread that is ending remembers nothing.
pub(super) struct Exemplifying {
    recorder: PrometheusRecorder,
    exemplars: Arc<Exemplars>,
    gathered: Arc<Gathered>,
    clock: SharedClock,
    /// Tells recorders apart, of which a process has several in tests.
    number: u64,
}

impl Exemplifying {
    pub(super) fn new(recorder: PrometheusRecorder, clock: SharedClock) -> Self {
        static MADE: AtomicU64 = AtomicU64::new(0);
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        Self { recorder, exemplars: Arc::default(), gathered: Arc::default(), clock, number }
    }

    pub(super) fn exemplars(&self) -> Arc<Exemplars> {
        Arc::clone(&self.exemplars)
    }

    pub(super) fn gathered(&self) -> Arc<Gathered> {
        Arc::clone(&self.gathered)
    }
}

impl Recorder for Exemplifying {
    fn describe_counter(&self, name: KeyName, unit: Option<Unit>, description: SharedString) {
        self.recorder.describe_counter(name, unit, description);
    }

    fn describe_gauge(&self, name: KeyName, unit: Option<Unit>, description: SharedString) {
        self.recorder.describe_gauge(name, unit, description);
    }

    fn describe_histogram(&self, name: KeyName, unit: Option<Unit>, description: SharedString) {
        self.recorder.describe_histogram(name, unit, description);
    }

    fn register_counter(&self, key: &Key, metadata: &Metadata<'_>) -> Counter {
        let find = || self.gathered.counter(self.recorder.register_counter(key, metadata));
        COUNTERS.try_with(|known| known.of(self.number, key, find)).unwrap_or_else(|_| find())
    }

    fn register_gauge(&self, key: &Key, metadata: &Metadata<'_>) -> Gauge {
        let find = || self.recorder.register_gauge(key, metadata);
        GAUGES.try_with(|known| known.of(self.number, key, find)).unwrap_or_else(|_| find())
    }

    fn register_histogram(&self, key: &Key, metadata: &Metadata<'_>) -> Histogram {
        let find = || self.gathered.histogram(self.recorder.register_histogram(key, metadata));
        let plain = HISTOGRAMS.try_with(|known| known.of(self.number, key, find)).unwrap_or_else(|_| find());
        let Some(trace) = TRACE.get() else { return plain };
        let (key, exemplars, time) = (key.clone(), Arc::clone(&self.exemplars), self.clock.now_ms());
        Histogram::from_arc(Arc::new(Exemplified { plain, key, exemplars, trace, time_ms: time }))
    }
}

/// A histogram that is recorded once, with a trace.
struct Exemplified {
    plain: Histogram,
    key: Key,
    exemplars: Arc<Exemplars>,
    trace: TraceId,
    time_ms: u64,
}

impl HistogramFn for Exemplified {
    fn record(&self, value: f64) {
        self.plain.record(value);
        #[expect(clippy::cast_precision_loss, reason = "milliseconds since 1970 are far below 2^52")]
        let time = self.time_ms as f64 / 1000.0;
        self.exemplars.keep(&self.key, Exemplar { trace: self.trace, value, time });
    }
}

/// Writes the Prometheus text format as OpenMetrics 1.0, with exemplars: families of counters lose their `_total`,
/// bounds of buckets are written as floats, there are no empty lines, and an end.
pub(super) fn open_metrics(text: &str, exemplars: &Exemplars) -> String {
    let exemplars = exemplars.by_sample();
    let mut out = String::with_capacity(text.len() + text.len() / 8);
    for line in text.lines().filter(|line| !line.is_empty()) {
        if let Some((kind, rest)) =
            ["# HELP ", "# TYPE "].iter().find_map(|k| Some((k, line.strip_prefix(k)?)))
        {
            let (name, rest) = rest.split_once(' ').unwrap_or((rest, ""));
            // Only counters end so.
            let name = name.strip_suffix("_total").unwrap_or(name);
            out.extend([kind, name, " ", rest, "\n"]);
            continue;
        }
        let Some((sample, value)) = line.rsplit_once(' ') else { continue };
        out.extend([with_float_bound(sample).as_str(), " ", value]);
        if let Some(Exemplar { trace, value, time }) = exemplars.get(sample) {
            let (trace, value, time) = (trace.to_string(), value.to_string(), time.to_string());
            out.extend([" # {trace_id=\"", &trace, "\"} ", &value, " ", &time]);
        }
        out.push('\n');
    }
    out.push_str("# EOF\n");
    out
}

fn with_float_bound(sample: &str) -> String {
    match sample.strip_suffix("\"}").and_then(|head| head.rsplit_once("le=\"")) {
        Some((_, bound)) if bound.bytes().all(|byte| byte.is_ascii_digit()) => {
            sample.replace(&format!("le=\"{bound}\"}}"), &format!("le=\"{bound}.0\"}}"))
        }
        _ => sample.to_owned(),
    }
}
