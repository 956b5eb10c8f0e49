//! What is recorded of the event log.

use std::time::Duration;

use metrics::{counter, gauge, histogram};

use super::event_log::Bounds;
use crate::telemetry::names;

/// Shows the log as it was opened, before anything happens to it.
pub(super) fn opened(bounds: Bounds) {
    for name in [names::LOG_APPENDED, names::LOG_DUPLICATES, names::LOG_TRIMMED] {
        counter!(name).absolute(0);
    }
    positions(bounds, None, 0);
    queued(0);
    refusing(false);
}

/// One group commit.
#[derive(Debug, Clone, Copy)]
pub(super) struct Commit {
    pub(super) took: Duration,
    /// The part of it after the last write.
    pub(super) sync: Duration,
    pub(super) batch_events: usize,
    pub(super) new_events: usize,
    pub(super) duplicates: u64,
    pub(super) trimmed: u64,
}

/// Records a commit.
#[expect(clippy::cast_precision_loss, reason = "metrics are floating point; no count comes near 2^53")]
pub(super) fn committed(commit: Commit) {
    let Commit { took, sync, batch_events, new_events, duplicates, trimmed } = commit;
    histogram!(names::LOG_COMMIT_DURATION).record(took);
    histogram!(names::LOG_SYNC_DURATION).record(sync);
    histogram!(names::LOG_BATCH_EVENTS).record(batch_events as f64);
    counter!(names::LOG_APPENDED).increment(new_events as u64);
    counter!(names::LOG_DUPLICATES).increment(duplicates);
    counter!(names::LOG_TRIMMED).increment(trimmed);
}

/// Records events that are not served any more.
pub(super) fn trimmed(events: u64) {
    counter!(names::LOG_TRIMMED).increment(events);
}

/// Records what can be read, and the first event and the bytes that are in memory.
#[expect(clippy::cast_precision_loss, reason = "metrics are floating point; no position comes near 2^53")]
pub(super) fn positions(bounds: Bounds, ring_earliest: Option<u64>, ring_bytes: usize) {
    gauge!(names::LOG_TAIL).set(bounds.tail as f64);
    gauge!(names::LOG_EARLIEST).set(bounds.earliest as f64);
    gauge!(names::LOG_RING_EARLIEST).set(ring_earliest.unwrap_or(bounds.tail + 1) as f64);
    gauge!(names::LOG_RING_SIZE).set(ring_bytes as f64);
}

/// Records the length of the queue.
#[expect(clippy::cast_precision_loss, reason = "metrics are floating point; no count comes near 2^53")]
pub(super) fn queued(events: usize) {
    gauge!(names::LOG_QUEUE).set(events as f64);
}

/// Records the room that is left.
#[expect(clippy::cast_precision_loss, reason = "metrics are floating point; no size comes near 2^53")]
pub(super) fn room(used: u64, disk_free: u64, used_percent: u64) {
    gauge!(names::LOG_SIZE).set(used as f64);
    gauge!(names::LOG_DISK_FREE).set(disk_free as f64);
    gauge!(names::LOG_USED).set(used_percent as f64 / 100.0);
}

/// Records whether appends are refused.
pub(super) fn refusing(is_refusing: bool) {
    gauge!(names::LOG_REFUSING).set(f64::from(u8::from(is_refusing)));
}
