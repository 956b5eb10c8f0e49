//! Into which sizes histograms sort their values.

use super::names::{
    EVENT_AGE, LANE_WAIT_DURATION, LOG_BATCH_EVENTS, LOG_COMMIT_DURATION, LOG_SYNC_DURATION, SEND_OVERHEAD,
    WEBHOOK_LAG,
};

/// Buckets of call durations, in seconds, as the semantic conventions advise.
pub(super) const DURATION_BUCKETS: [f64; 14] =
    [0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0];
/// Buckets of commit durations, in seconds: an fsync takes from a tenth of a millisecond to a bad second.
const COMMIT_BUCKETS: [f64; 12] =
    [0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0];
/// Buckets of what a send spends in the gateway, in seconds: mostly a commit. The objective is 0.1.
const OVERHEAD_BUCKETS: [f64; 12] =
    [0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5];
/// Buckets of event ages, in seconds: what was missed while away may be hours old.
const AGE_BUCKETS: [f64; 12] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 60.0, 600.0, 3600.0];
/// Buckets of the lag of webhooks, in seconds: Meta's times are whole seconds, and it repeats for a week.
const LAG_BUCKETS: [f64; 12] =
    [1.0, 2.0, 3.0, 5.0, 10.0, 30.0, 60.0, 300.0, 3600.0, 21_600.0, 86_400.0, 604_800.0];
/// Buckets of events and state writes per commit.
const BATCH_EVENTS_BUCKETS: [f64; 10] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0];

/// The histograms and their buckets; any other histogram gets [`DURATION_BUCKETS`].
pub(super) const HISTOGRAMS: [(&str, &[f64]); 7] = [
    (SEND_OVERHEAD, &OVERHEAD_BUCKETS),
    (LOG_COMMIT_DURATION, &COMMIT_BUCKETS),
    (LOG_SYNC_DURATION, &COMMIT_BUCKETS),
    (EVENT_AGE, &AGE_BUCKETS),
    (LANE_WAIT_DURATION, &AGE_BUCKETS),
    (WEBHOOK_LAG, &LAG_BUCKETS),
    (LOG_BATCH_EVENTS, &BATCH_EVENTS_BUCKETS),
];

/// The buckets of a histogram.
pub(super) fn buckets(name: &str) -> &'static [f64] {
    let own = HISTOGRAMS.iter().find(|(other, _)| *other == name);
    own.map_or(&DURATION_BUCKETS, |(_, buckets)| buckets)
}
