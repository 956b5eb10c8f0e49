//! When callers' tokens and the port's certificate expire, for the metrics.

use std::time::{SystemTime, UNIX_EPOCH};

use metrics::gauge;

use crate::telemetry::names;
use crate::tenants::Snapshot;
use crate::tls::Tls;

/// Shows both.
pub(super) fn show(snapshot: &Snapshot, tls: Option<&Tls>) {
    for caller in &snapshot.callers {
        // A token that never expires comes after all others.
        let latest =
            caller.tokens.iter().map(|token| token.expires.map_or(f64::INFINITY, seconds)).reduce(f64::max);
        if let Some(latest) = latest {
            gauge!(names::CALLER_TOKEN_EXPIRY, names::CALLER => caller.name.to_string()).set(latest);
        }
    }
    if let Some(expires) = tls.and_then(Tls::expires) {
        gauge!(names::CERTIFICATE_EXPIRY, names::LISTENER => "grpc").set(seconds(expires));
    }
}

fn seconds(time: SystemTime) -> f64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}
