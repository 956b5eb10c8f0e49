//! The queue of spans that wait to be exported: bounded, and what it loses is counted.
//!
//! The batches and their thread are the SDK's; it drops in silence, so we stop before it must.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use metrics::counter;
use opentelemetry::Context;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, Span, SpanData, SpanExporter, SpanProcessor,
};
use tracing::warn;

use crate::telemetry::{Seldom, names};

/// Spans that wait, about 1 KB each.
const QUEUE_MAX: usize = 4096;
/// Spans of one export.
const BATCH_MAX: usize = 512;
/// After which a batch goes out that is not full.
const BATCH_DELAY: Duration = Duration::from_secs(2);

/// A queue before this exporter.
pub(super) fn bounded<E: SpanExporter + 'static>(exporter: E) -> impl SpanProcessor {
    let queued = Arc::new(AtomicUsize::new(0));
    let config = BatchConfigBuilder::default()
        .with_max_queue_size(QUEUE_MAX)
        .with_max_export_batch_size(BATCH_MAX)
        .with_scheduled_delay(BATCH_DELAY);
    let exporter = Leaving { exporter, queued: Arc::clone(&queued), lines: Seldom::default() };
    let batches = BatchSpanProcessor::builder(exporter).with_batch_config(config.build()).build();
    Arriving { batches, queued, lines: Seldom::default() }
}

/// Where spans come in.
#[derive(Debug)]
struct Arriving {
    batches: BatchSpanProcessor,
    queued: Arc<AtomicUsize>,
    lines: Seldom,
}

impl SpanProcessor for Arriving {
    fn on_start(&self, _span: &mut Span, _context: &Context) {}

    fn on_end(&self, span: SpanData) {
        if self.queued.fetch_add(1, Ordering::Relaxed) < QUEUE_MAX {
            return self.batches.on_end(span);
        }
        self.queued.fetch_sub(1, Ordering::Relaxed);
        count_dropped(1, "queue_full");
        if let Some(spans) = self.lines.count() {
            warn!(spans, "spans were dropped: the collector takes fewer than there are");
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.batches.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.batches.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.batches.set_resource(resource);
    }
}

/// Where they go out.
#[derive(Debug)]
struct Leaving<E> {
    exporter: E,
    queued: Arc<AtomicUsize>,
    lines: Seldom,
}

impl<E: SpanExporter> SpanExporter for Leaving<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = batch.len();
        self.queued.fetch_sub(spans, Ordering::Relaxed);
        let exported = self.exporter.export(batch).await;
        if let Err(error) = &exported {
            count_dropped(spans, "export_failed");
            if let Some(exports) = self.lines.count() {
                warn!(%error, exports, "exports of spans failed; they are dropped");
            }
        }
        exported
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}

fn count_dropped(spans: usize, reason: &'static str) {
    counter!(names::SPANS_DROPPED, names::REASON => reason)
        .increment(u64::try_from(spans).unwrap_or(u64::MAX));
}
