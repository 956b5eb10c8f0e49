//! When callers' tokens and the port's certificate expire, for the metrics.

use std::time::{SystemTime, UNIX_EPOCH};

use metrics::gauge;

use crate::telemetry::names;
use crate::tenants::{Caller, Snapshot};
use crate::tls::Tls;

/// Shows both. A caller of the snapshot before that has no token any more loses its series.
pub(super) fn show(before: &Snapshot, snapshot: &Snapshot, tls: Option<&Tls>) {
    let series =
        |caller: &Caller| gauge!(names::CALLER_TOKEN_EXPIRY, names::CALLER => caller.name.to_string());
    for caller in before.callers.iter().filter(|caller| latest(caller).is_some()) {
        if snapshot.caller(&caller.name).and_then(latest).is_none() {
            series(caller).set(names::GONE);
        }
    }
    for caller in &snapshot.callers {
        if let Some(latest) = latest(caller) {
            series(caller).set(latest);
        }
    }
    if let Some(expires) = tls.and_then(Tls::expires) {
        gauge!(names::CERTIFICATE_EXPIRY, names::LISTENER => "grpc").set(seconds(expires));
    }
}

/// When the last of its tokens expires; one that never does comes after all others.
fn latest(caller: &Caller) -> Option<f64> {
    caller.tokens.iter().map(|token| token.expires.map_or(f64::INFINITY, seconds)).reduce(f64::max)
}

fn seconds(time: SystemTime) -> f64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use metrics_exporter_prometheus::PrometheusBuilder;

    use super::*;
    use crate::domain::rights::Rights;
    use crate::telemetry::without_gone;
    use crate::tenants::{Token, TokenHash};

    fn snapshot(names: &[&str]) -> Snapshot {
        let caller = |name: &&str| Caller {
            name: (*name).into(),
            tokens: vec![Token { hash: TokenHash::of(name), not_before: None, expires: None }],
            identities: Vec::new(),
            subjects: Vec::new(),
            rights: Arc::new(Rights::all()),
        };
        Snapshot::new(Vec::new(), Vec::new(), names.iter().map(caller).collect())
    }

    #[test]
    fn a_caller_that_is_removed_has_no_series_any_more() {
        let recorder = PrometheusBuilder::new().build_recorder();
        let (both, one) = (snapshot(&["stays", "goes"]), snapshot(&["stays"]));
        let shown = |before: &Snapshot, now: &Snapshot| {
            metrics::with_local_recorder(&recorder, || show(before, now, None));
            let text = without_gone(recorder.handle().render());
            ["stays", "goes"].map(|name| text.contains(&format!("caller=\"{name}\"")))
        };
        assert_eq!(shown(&both, &both), [true, true]);
        assert_eq!(shown(&both, &one), [true, false]);
        assert_eq!(shown(&one, &both), [true, true]);
    }
}
