//! How many files the process may open, and how many connections that allows.
//!
//! A connection is a file. Without a free one nothing works any more, neither the store nor the way to Meta, so strangers
//! must not get at the last ones.

use rustix::process::{Resource, getrlimit, setrlimit};
use tracing::warn;

use crate::config::Config;

/// For everything but the connections of gRPC and webhook: store, admin port, Meta, transfers.
const RESERVED: usize = 512;

/// Raises the limit as far as the system allows; returns it. Many systems start processes with 1024, for the sake of
/// programs that use `select`.
pub(super) fn raise_limit() -> usize {
    let mut limit = getrlimit(Resource::Nofile);
    let started_with = limit.current;
    limit.current = limit.maximum;
    if setrlimit(Resource::Nofile, limit).is_err() {
        limit.current = started_with;
    }
    limit.current.map_or(usize::MAX, |files| usize::try_from(files).unwrap_or(usize::MAX))
}

/// Lowers the limits of connections to what so many files allow, in proportion.
pub(super) fn fit_connections(config: &mut Config, files: usize) {
    let (grpc, webhook) = (config.grpc.connections_max, config.webhook.connections_max);
    let (wanted, room) = (grpc + webhook, files - RESERVED.min(files / 2));
    if wanted <= room {
        return;
    }
    let share = |connections: usize| (connections.saturating_mul(room) / wanted).max(1);
    config.grpc.connections_max = share(grpc);
    config.webhook.connections_max = share(webhook);
    warn!(
        files,
        grpc = share(grpc),
        webhook = share(webhook),
        "the limit of open files (ulimit -Hn) is too small for grpc.connections_max and webhook.connections_max; both \
         are lowered"
    );
}
