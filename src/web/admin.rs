//! The port for probes, metrics and the log level: never exposed to the outside.
//!
//! `/livez` says that the process answers. `/readyz` says that calls are served, from start to drain, but not while the servers of
//! the store are away. A store that refuses writes only does not take sends and subscribers away: it shows in
//! `/readyz/ingress`, which is about the webhook.
//!
//! Everyone who reaches the port may read; the log level is changed from the machine itself alone, since less of it
//! hides the audit log and more of it may fill a disk. In Kubernetes that is `kubectl port-forward`. Not from a page in a
//! browser of that machine: browsers send `Origin` with every PUT, also where a name of the page's was made to mean this
//! machine (DNS rebinding), so that `Host` need not be looked at.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Extension, Router};

use crate::listener::ConnectionInfo;
use crate::telemetry::{LogLevel, Metrics};

/// What `/metrics` answers who asks for it before the Prometheus text format.
const OPEN_METRICS: &str = "application/openmetrics-text";
/// Bytes of a log level.
const LOG_LEVEL_BYTES_MAX: usize = 4096;

/// Where the process is in its life, for probes.
#[derive(Debug, Clone, Default)]
pub struct Readiness(Arc<Flags>);

#[derive(Debug, Default)]
struct Flags {
    phase: AtomicU8,
    ingress: AtomicU8,
}

const STARTING: u8 = 0;
const READY: u8 = 1;
const LEAVING: u8 = 2;
const AWAY: u8 = 3;

impl Readiness {
    /// Everything is up.
    pub fn set_ready(&self) {
        self.0.phase.store(READY, Ordering::Relaxed);
    }

    /// The servers of the store do not answer.
    pub fn set_away(&self) {
        self.0.phase.store(AWAY, Ordering::Relaxed);
    }

    /// About to end.
    pub fn set_leaving(&self) {
        self.0.phase.store(LEAVING, Ordering::Relaxed);
    }

    /// Whether webhooks can be stored.
    pub fn set_accepting(&self, is_accepting: bool) {
        self.0.ingress.store(u8::from(is_accepting), Ordering::Relaxed);
    }

    fn phase(&self) -> (StatusCode, &'static str) {
        match self.0.phase.load(Ordering::Relaxed) {
            READY => (StatusCode::OK, "ready"),
            LEAVING => (StatusCode::SERVICE_UNAVAILABLE, "draining"),
            AWAY => (StatusCode::SERVICE_UNAVAILABLE, "store away"),
            STARTING.. => (StatusCode::SERVICE_UNAVAILABLE, "starting"),
        }
    }

    fn is_accepting(&self) -> bool {
        self.0.ingress.load(Ordering::Relaxed) == 1
    }
}

#[derive(Clone)]
struct Port {
    readiness: Readiness,
    metrics: Option<Metrics>,
    log_level: LogLevel,
}

/// What the port serves; without `metrics` it says that there are none.
pub fn routes(readiness: Readiness, metrics: Option<Metrics>, log_level: LogLevel) -> Router {
    Router::new()
        .route("/livez", get(|| async { "live\n" }))
        .route("/readyz", get(readyz))
        .route("/readyz/ingress", get(ingress))
        .route("/metrics", get(render))
        .route("/log-level", get(log_level_of).put(set_log_level))
        .layer(DefaultBodyLimit::max(LOG_LEVEL_BYTES_MAX))
        .fallback(|| async { StatusCode::NOT_FOUND })
        .with_state(Port { readiness, metrics, log_level })
}

async fn readyz(State(port): State<Port>) -> Response {
    let (status, word) = port.readiness.phase();
    let ingress = if port.readiness.is_accepting() { "accepting" } else { "refusing" };
    (status, format!("{word}\ningress: {ingress}\n")).into_response()
}

async fn ingress(State(port): State<Port>) -> Response {
    match port.readiness.phase() {
        (StatusCode::OK, _) if port.readiness.is_accepting() => {
            (StatusCode::OK, "accepting\n").into_response()
        }
        (StatusCode::OK, _) => (StatusCode::SERVICE_UNAVAILABLE, "refusing\n").into_response(),
        (status, word) => (status, format!("{word}\n")).into_response(),
    }
}

async fn render(State(port): State<Port>, headers: HeaderMap) -> Response {
    let Some(metrics) = port.metrics else {
        return (StatusCode::NOT_FOUND, "telemetry.metrics is false\n").into_response();
    };
    let accept = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let (content_type, text) = if wants_open_metrics(accept) {
        ("application/openmetrics-text; version=1.0.0; charset=utf-8", metrics.render_open_metrics())
    } else {
        ("text/plain; version=0.0.4", metrics.render())
    };
    ([(header::CONTENT_TYPE, content_type)], text).into_response()
}

/// Whether OpenMetrics is named, and the text format, or everything, not before it: by quality, then by order.
fn wants_open_metrics<'a>(accept: impl Iterator<Item = &'a str>) -> bool {
    let mut best = (0.0, false);
    for range in accept.flat_map(|value| value.split(',')) {
        let mut parts = range.split(';').map(str::trim);
        let is_open = match parts.next().map(str::to_ascii_lowercase).as_deref() {
            Some(OPEN_METRICS) => true,
            Some("text/plain" | "text/*" | "*/*") => false,
            _ => continue,
        };
        let quality = parts.find_map(|part| part.strip_prefix("q="));
        let quality = quality.map_or(1.0, |q| q.trim().parse().unwrap_or(0.0));
        if quality > best.0 {
            best = (quality, is_open);
        }
    }
    best.1
}

async fn log_level_of(State(port): State<Port>) -> String {
    format!("{}\n", port.log_level.text())
}

async fn set_log_level(
    State(port): State<Port>,
    Extension(connection): Extension<ConnectionInfo>,
    headers: HeaderMap,
    text: String,
) -> Response {
    if let Err(text) = may_change(connection.peer.ip(), &headers) {
        return (StatusCode::FORBIDDEN, text).into_response();
    }
    match port.log_level.set(text.trim()) {
        Ok(()) => log_level_of(State(port)).await.into_response(),
        Err(error) => (StatusCode::BAD_REQUEST, format!("{error}\n")).into_response(),
    }
}

/// Whether a request may change something; else why not.
fn may_change(peer: IpAddr, headers: &HeaderMap) -> Result<(), &'static str> {
    let peer = peer.to_canonical();
    // Not all of 127.0.0.0/8: proxies of service meshes connect from there.
    if peer != Ipv4Addr::LOCALHOST && peer != Ipv6Addr::LOCALHOST {
        return Err(
            "the log level is changed from the machine itself alone; with Kubernetes, kubectl port-forward\n",
        );
    }
    if headers.contains_key(header::ORIGIN) {
        return Err(
            "the log level is not changed by a page in a browser: send the request without Origin, by curl\n",
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn the_log_level_is_changed_from_the_machine_itself_and_not_by_a_page() {
        let plain = HeaderMap::new();
        for (peer, is_let) in
            [("127.0.0.1", true), ("::1", true), ("::ffff:127.0.0.1", true), ("127.0.0.6", false)]
        {
            assert_eq!(may_change(peer.parse().unwrap(), &plain).is_ok(), is_let, "{peer}");
        }
        for origin in ["null", "http://127.0.0.1:9090", "https://page.example"] {
            let page = HeaderMap::from_iter([(header::ORIGIN, HeaderValue::from_static(origin))]);
            let refusal = may_change(Ipv4Addr::LOCALHOST.into(), &page).unwrap_err();
            assert!(refusal.contains("without Origin"), "{refusal}");
        }
    }

    #[test]
    fn open_metrics_is_for_whoever_wants_it_most() {
        let prometheus_2 = "application/openmetrics-text;version=1.0.0;q=0.5,application/openmetrics-text;version=0.0.1;\
                            q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
        let prometheus_3 = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,text/plain;\
                            version=1.0.0;escaping=allow-utf-8;q=0.4,*/*;q=0.1";
        for accept in
            [prometheus_2, prometheus_3, OPEN_METRICS, "Application/OpenMetrics-Text; q=0.9, */*;q=0.8"]
        {
            assert!(wants_open_metrics([accept].into_iter()), "{accept}");
        }
        let text_first = "text/plain;version=0.0.4;q=0.5,application/openmetrics-text;q=0.4";
        for accept in ["", "*/*", "text/html", text_first, "application/openmetrics-text;q=0"] {
            assert!(!wants_open_metrics([accept].into_iter()), "{accept}");
        }
        assert!(wants_open_metrics(["text/plain;q=0.1", OPEN_METRICS].into_iter()));
        assert!(!wants_open_metrics([].into_iter()));
    }
}
