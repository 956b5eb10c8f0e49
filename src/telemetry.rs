//! Logs, traces and metrics: what the process tells about itself.
//!
//! Secrets, message content and the addresses of people belong in none of them; nothing here can check that, so
//! whoever logs names the fields one by one. Telemetry never holds up the work: a slow or dead collector loses
//! spans.

mod buckets;
mod exemplars;
mod gathered;
mod handles;
mod json_lines;
mod log_level;
mod metrics;
pub mod names;
mod process;
mod propagation;
mod seldom;
pub mod semconv;
mod text_lines;
mod traces;

use std::any::Any;
use std::io;
use std::path::PathBuf;

use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing::subscriber::{Interest, SetGlobalDefaultError};
use tracing::{Level, Metadata, Subscriber, error};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::format;
use tracing_subscriber::layer::{Context, Filter, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::{Layer, Registry};

use json_lines::JsonLines;
use text_lines::TextLines;

pub use self::metrics::Metrics;
#[cfg(test)]
pub(crate) use self::metrics::without_gone;
pub use exemplars::exemplified;
pub use log_level::{LogLevel, check_log_level, is_unseen};
pub use propagation::{SpanIds, TraceContext, begin_trace, current_traceparent, link};
pub use seldom::Seldom;
pub use traces::{Guard, Protocol, Traces, as_decided, in_trace};

/// How to tell it.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// How a log line looks.
    pub log_format: LogFormat,
    /// Which lines are written, as `tracing_subscriber::EnvFilter` reads it.
    pub log_level: String,
    /// Whether metrics are recorded.
    pub metrics: bool,
    /// Where traces go, and which.
    pub traces: Traces,
}

/// How a log line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object per line.
    Json,
    /// For people.
    Text,
}

/// Why telemetry could not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The log level does not parse.
    #[error("the log level cannot be understood: {0}")]
    LogLevel(String),
    /// The exporter cannot be built from its endpoint.
    #[error("traces cannot be exported to telemetry.otlp_endpoint: {0}")]
    Exporter(#[from] opentelemetry_otlp::ExporterBuildError),
    /// The client of the exporter cannot be built.
    #[error("traces cannot be exported: {0}")]
    Client(#[source] reqwest::Error),
    /// A file that the export needs cannot be used.
    #[error("telemetry.{key}: {} cannot be used: {cause}", file.display())]
    File {
        /// The setting that names it.
        key: &'static str,
        /// It.
        file: PathBuf,
        /// Why, without its text.
        cause: String,
    },
    /// Another subscriber was there first.
    #[error("logging was started before")]
    Subscriber(#[from] SetGlobalDefaultError),
    /// The recorder cannot be built.
    #[error("metrics cannot be recorded")]
    Recorder(#[from] metrics_exporter_prometheus::BuildError),
    /// Another recorder was there first.
    #[error("metrics were started before")]
    Recording,
}

/// Starts logs and, if configured, traces, for the whole process; once. It must run inside the runtime. Keep the
/// guard, and flush it last.
pub fn init(config: &Config) -> Result<(Guard, LogLevel), Error> {
    let provider = traces::provider(&config.traces)?;
    let exporting = provider.as_ref().map(export_layer);
    let (log_level, filter) = LogLevel::new(&config.log_level)?;
    let logs = log_layer(config.log_format, io::stderr).with_filter(filter);
    tracing::subscriber::set_global_default(Registry::default().with(exporting).with(logs))?;
    log_panics();
    Ok((Guard::new(provider), log_level))
}

fn export_layer<S>(provider: &SdkTracerProvider) -> impl Layer<S> + use<S>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    let layer = tracing_opentelemetry::layer().with_tracer(traces::tracer(provider));
    // Locations, threads, targets and idle times of every span would be most of what is exported.
    let layer = layer.with_location(false).with_threads(false).with_target(false);
    let layer = layer.with_tracked_inactivity(false);
    layer.with_filter(Exported)
}

fn log_layer<S, W>(format: LogFormat, writer: W) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    W: for<'a> tracing_subscriber::fmt::MakeWriter<'a> + Send + Sync + 'static,
{
    let layer = tracing_subscriber::fmt::layer().with_writer(writer);
    match format {
        LogFormat::Json => layer.event_format(JsonLines).fmt_fields(JsonLines).boxed(),
        LogFormat::Text => layer.event_format(TextLines(format::format().compact())).boxed(),
    }
}

/// Spans of ours from `debug` up. Those of libraries would include the exporter's own, without end; a background task has one
/// as long as the process lives, and what it does is no single trace.
fn is_exported(metadata: &Metadata<'_>) -> bool {
    metadata.is_span()
        && metadata.name() != "task"
        && *metadata.level() <= Level::DEBUG
        && metadata.target().starts_with("whatsapp_gateway")
}

/// Shows the export layer spans only, and none of a call whose trace is not exported.
struct Exported;

impl<S> Filter<S> for Exported {
    fn enabled(&self, metadata: &Metadata<'_>, _: &Context<'_, S>) -> bool {
        is_exported(metadata) && !traces::is_passed_over()
    }

    fn callsite_enabled(&self, metadata: &'static Metadata<'static>) -> Interest {
        if is_exported(metadata) { Interest::sometimes() } else { Interest::never() }
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(LevelFilter::DEBUG)
    }
}

/// Logs where a panic happened.
fn log_panics() {
    std::panic::set_hook(Box::new(|panic| {
        ::metrics::counter!(names::PANICS).increment(1);
        let location = panic.location().map(ToString::to_string).unwrap_or_default();
        let message = fixed_message(panic.payload());
        error!(location, message, "panicked");
    }));
}

/// The message of a panic, if it stands in the source as it is. One that was put together may hold anything: that of a
/// failed slice, for one, holds the text that was sliced, which may be a message or a token.
fn fixed_message(payload: &(dyn Any + Send)) -> Option<&'static str> {
    payload.downcast_ref::<&'static str>().copied()
}

#[cfg(test)]
mod tests;
