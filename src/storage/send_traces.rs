//! The trace contexts of sends whose traces are exported, by send tag.
//!
//! A value is the digit 1 and a W3C `traceparent`; the `tracestate` of a caller is not kept.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;

use super::keyed_state::{Bucket, KeyedState, Put, StateError};
use crate::clock::unix_ms;
use crate::domain::message::SendTag;
use crate::telemetry::TraceContext;

const SEND_TRACES: Bucket = Bucket::named("send_traces");

/// How long a context is kept: as long as Meta repeats a webhook (reference 3.2), longer than most traces are.
const KEPT: Duration = Duration::from_hours(7 * 24);
/// Expiries are rounded up to these: one that many share spares the engine an index.
const EXPIRY_STEP_MS: u64 = 60 * 60 * 1000;
/// Contexts in one commit.
const TOGETHER_MAX: usize = 500;

/// The contexts over the keyed state.
#[derive(Debug, Clone)]
pub struct SendTraces {
    state: Arc<dyn KeyedState>,
}

impl SendTraces {
    /// Over this state.
    pub fn new(state: Arc<dyn KeyedState>) -> Self {
        Self { state }
    }

    /// Keeps the contexts of these sends; after an error as many as it can.
    pub async fn put(&self, traces: &[(SendTag, TraceContext)], now: SystemTime) -> Result<(), StateError> {
        let expire_at_ms = Some(unix_ms(now + KEPT).next_multiple_of(EXPIRY_STEP_MS));
        let put = |(tag, trace): &(SendTag, TraceContext)| {
            let value = format!("1{}", trace.traceparent()).into();
            Put { bucket: SEND_TRACES, key: key(tag), value, expire_at_ms }
        };
        let mut stored = Ok(());
        for traces in traces.chunks(TOGETHER_MAX) {
            // What one commit could not do the next may.
            stored = stored.and(self.state.put_all(traces.iter().map(put).collect()).await);
        }
        stored
    }

    /// The contexts of these sends, in their order.
    pub async fn get(&self, tags: &[SendTag]) -> Result<Vec<Option<TraceContext>>, StateError> {
        let keys: Vec<Bytes> = tags.iter().map(key).collect();
        let entries = self.state.get_many(SEND_TRACES, &keys).await?;
        let read = |value: &[u8]| TraceContext::parse(std::str::from_utf8(value).ok()?.strip_prefix('1')?);
        Ok(entries.iter().map(|entry| read(&entry.as_ref()?.value)).collect())
    }
}

fn key(tag: &SendTag) -> Bytes {
    Bytes::copy_from_slice(tag.as_str().as_bytes())
}
