//! The export of traces.

mod bounded;
mod otlp;
mod sampling;

use std::path::PathBuf;
use std::time::Duration;

use opentelemetry::trace::TracerProvider as _;
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::resource::{EnvResourceDetector, TelemetryResourceDetector};
use opentelemetry_sdk::trace::{SdkTracer, SdkTracerProvider};
use tokio::sync::oneshot;
use tokio::time::timeout;
use tracing::warn;

use super::{Error, semconv};
use bounded::bounded;
use sampling::Sampling;

pub(super) use sampling::is_passed_over;
pub use sampling::{as_decided, in_trace};

/// How long the last export may hold up the end of the process.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(3);

/// Where traces go, and which.
#[derive(Debug, Clone, PartialEq)]
pub struct Traces {
    /// The collector's address: scheme, host, port, and for [`Protocol::Http`] perhaps a path, to which `/v1/traces` is
    /// added; `None` exports none.
    pub endpoint: Option<String>,
    /// How it is spoken to.
    pub protocol: Protocol,
    /// A file with a header per line, `name: value`, for each export. Read again for each.
    pub headers_file: Option<PathBuf>,
    /// The authorities of an `https` collector, PEM; without it those of the system.
    pub ca_file: Option<PathBuf>,
    /// The share of traces exported where nobody else decides, 0 to 1.
    pub sampling_ratio: f64,
    /// Whether a trace that a caller began is exported if and only if the caller exports it.
    pub follows_caller: bool,
}

/// The two forms of OTLP, both in protobuf.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// OTLP/gRPC.
    Grpc,
    /// OTLP/HTTP.
    Http,
}

/// Ends telemetry.
#[must_use = "what was not flushed is lost"]
#[derive(Debug)]
pub struct Guard {
    provider: Option<SdkTracerProvider>,
}

impl Guard {
    pub(super) fn new(provider: Option<SdkTracerProvider>) -> Self {
        Self { provider }
    }

    /// Exports what is left, within about three seconds. Logs are written at once and need no flush.
    pub async fn flush(self) {
        let Some(provider) = self.provider else { return };
        // It blocks, while the runtime works for it; and the runtime would wait for a blocking thread of its own.
        let (done, flushed) = oneshot::channel();
        let flush = move || drop(done.send(provider.shutdown_with_timeout(FLUSH_TIMEOUT)));
        if let Err(error) = std::thread::Builder::new().name("flush".to_owned()).spawn(flush) {
            warn!(%error, "the last traces were not exported");
            return;
        }
        match timeout(FLUSH_TIMEOUT + Duration::from_millis(500), flushed).await {
            Ok(Ok(Ok(()))) => {}
            Ok(Ok(Err(error))) => warn!(%error, "the last traces were not exported"),
            Ok(Err(_)) | Err(_) => warn!("the last traces were not exported in time"),
        }
    }
}

/// Exports from a thread of its own. The queue is bounded; what does not fit is dropped and counted.
pub(super) fn provider(traces: &Traces) -> Result<Option<SdkTracerProvider>, Error> {
    let Some(endpoint) = &traces.endpoint else { return Ok(None) };
    let sampling = Sampling::new(traces.sampling_ratio, traces.follows_caller);
    sampling.decide_on_calls();
    let provider = SdkTracerProvider::builder()
        .with_resource(resource())
        .with_sampler(sampling)
        .with_span_processor(bounded(otlp::exporter(endpoint, traces)?));
    Ok(Some(provider.build()))
}

/// What makes spans, under the version of the conventions that they follow.
pub(super) fn tracer(provider: &SdkTracerProvider) -> SdkTracer {
    let scope = InstrumentationScope::builder(env!("CARGO_PKG_NAME"))
        .with_version(env!("CARGO_PKG_VERSION"))
        .with_schema_url(semconv::SCHEMA_URL);
    provider.tracer_with_scope(scope.build())
}

/// What we are, overridden by `OTEL_RESOURCE_ATTRIBUTES`, in which the chart names the pod.
fn resource() -> Resource {
    Resource::builder_empty()
        .with_service_name(env!("CARGO_PKG_NAME"))
        .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
        .with_detector(Box::new(TelemetryResourceDetector))
        .with_detector(Box::new(EnvResourceDetector::new()))
        .build()
}
