//! The port for probes and metrics: never exposed to the outside.
//!
//! `/livez` says that the process answers. `/readyz` says that calls are served, from start to drain. A store that
//! refuses writes does not take sends and subscribers away: it shows in `/readyz/ingress`, which is about the webhook.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use crate::telemetry::Metrics;

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

impl Readiness {
    /// Everything is up.
    pub fn set_ready(&self) {
        self.0.phase.store(READY, Ordering::Relaxed);
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
    metrics: Metrics,
}

/// What the port serves.
pub fn routes(readiness: Readiness, metrics: Metrics) -> Router {
    Router::new()
        .route("/livez", get(|| async { "live\n" }))
        .route("/readyz", get(readyz))
        .route("/readyz/ingress", get(ingress))
        .route("/metrics", get(render))
        .fallback(|| async { StatusCode::NOT_FOUND })
        .with_state(Port { readiness, metrics })
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

async fn render(State(port): State<Port>) -> Response {
    let headers = [(header::CONTENT_TYPE, "text/plain; version=0.0.4")];
    (headers, port.metrics.render()).into_response()
}
