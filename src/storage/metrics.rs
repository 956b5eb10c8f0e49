//! Names and recording of the event log's metrics. None has labels.

use std::time::Duration;

use metrics::{counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};

const APPENDED_EVENTS: &str = "whatsapp_gateway_log_appended_events_total";
const DUPLICATE_EVENTS: &str = "whatsapp_gateway_log_duplicate_events_total";
const TRIMMED_EVENTS: &str = "whatsapp_gateway_log_trimmed_events_total";
const COMMIT_SECONDS: &str = "whatsapp_gateway_log_commit_seconds";
const BATCH_EVENTS: &str = "whatsapp_gateway_log_batch_events";
const QUEUE_EVENTS: &str = "whatsapp_gateway_log_queue_events";
const SIZE_BYTES: &str = "whatsapp_gateway_log_size_bytes";
const DISK_FREE_BYTES: &str = "whatsapp_gateway_log_disk_free_bytes";
const USED_RATIO: &str = "whatsapp_gateway_log_used_ratio";
const REFUSING: &str = "whatsapp_gateway_log_refusing";
const TAIL_SEQ: &str = "whatsapp_gateway_log_tail_seq";

/// Tells the recorder what the names mean.
pub(super) fn describe() {
    describe_counter!(APPENDED_EVENTS, "Events made durable");
    describe_counter!(DUPLICATE_EVENTS, "Items that were known already and added nothing");
    describe_counter!(TRIMMED_EVENTS, "Events deleted by retention");
    describe_histogram!(COMMIT_SECONDS, "Time of one group commit, including the sync");
    describe_histogram!(BATCH_EVENTS, "Events and state writes in one group commit");
    describe_gauge!(QUEUE_EVENTS, "Events and state writes waiting for the writer");
    describe_gauge!(SIZE_BYTES, "Used pages and write-ahead log");
    describe_gauge!(DISK_FREE_BYTES, "Bytes free on the disk of the store");
    describe_gauge!(USED_RATIO, "Used share of the size limit or the disk, whichever ends first");
    describe_gauge!(REFUSING, "1 while appends are refused");
    describe_gauge!(TAIL_SEQ, "Newest position of the log");
}

/// Shows the log as it was opened, before anything happens to it.
#[expect(clippy::cast_precision_loss, reason = "metrics are floating point; no count comes near 2^53")]
pub(super) fn opened(tail: u64) {
    for name in [APPENDED_EVENTS, DUPLICATE_EVENTS, TRIMMED_EVENTS] {
        counter!(name).absolute(0);
    }
    gauge!(TAIL_SEQ).set(tail as f64);
    queued(0);
    refusing(false);
}

/// One group commit.
#[derive(Debug, Clone, Copy)]
pub(super) struct Commit {
    pub(super) took: Duration,
    pub(super) batch_events: usize,
    pub(super) new_events: usize,
    pub(super) duplicates: u64,
    pub(super) trimmed: u64,
    pub(super) tail: u64,
}

/// Records a commit.
#[expect(clippy::cast_precision_loss, reason = "metrics are floating point; no count comes near 2^53")]
pub(super) fn committed(commit: Commit) {
    let Commit { took, batch_events, new_events, duplicates, trimmed, tail } = commit;
    histogram!(COMMIT_SECONDS).record(took.as_secs_f64());
    histogram!(BATCH_EVENTS).record(batch_events as f64);
    counter!(APPENDED_EVENTS).increment(new_events as u64);
    counter!(DUPLICATE_EVENTS).increment(duplicates);
    counter!(TRIMMED_EVENTS).increment(trimmed);
    gauge!(TAIL_SEQ).set(tail as f64);
}

/// Records the length of the queue.
#[expect(clippy::cast_precision_loss, reason = "metrics are floating point; no count comes near 2^53")]
pub(super) fn queued(events: usize) {
    gauge!(QUEUE_EVENTS).set(events as f64);
}

/// Records the room that is left.
#[expect(clippy::cast_precision_loss, reason = "metrics are floating point; no size comes near 2^53")]
pub(super) fn room(used: u64, disk_free: u64, used_percent: u64) {
    gauge!(SIZE_BYTES).set(used as f64);
    gauge!(DISK_FREE_BYTES).set(disk_free as f64);
    gauge!(USED_RATIO).set(used_percent as f64 / 100.0);
}

/// Records whether appends are refused.
pub(super) fn refusing(is_refusing: bool) {
    gauge!(REFUSING).set(f64::from(u8::from(is_refusing)));
}
