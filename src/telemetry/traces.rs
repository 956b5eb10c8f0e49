//! The export of traces.

use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry_otlp::{SpanExporter, WithExportConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::resource::{EnvResourceDetector, TelemetryResourceDetector};
use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider};
use tokio::sync::oneshot;
use tokio::time::timeout;
use tracing::warn;

use super::Error;

/// How long one export may take before its spans are lost.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long the last export may hold up the end of the process.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(3);

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

/// Exports to `endpoint` from a thread of its own. The queue is bounded; what does not fit is dropped.
pub(super) fn provider(endpoint: &str, ratio: f64) -> Result<SdkTracerProvider, Error> {
    let exporter =
        SpanExporter::builder().with_tonic().with_endpoint(endpoint).with_timeout(EXPORT_TIMEOUT).build()?;
    let sampler = Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(ratio)));
    Ok(SdkTracerProvider::builder()
        .with_resource(resource())
        .with_sampler(sampler)
        .with_batch_exporter(exporter)
        .build())
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
