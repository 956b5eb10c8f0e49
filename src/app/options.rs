//! What each part takes of the configuration.

use std::time::Duration;

use crate::config::Config;
use crate::flows::deliver_events::Limits;
use crate::flows::follow_message;
use crate::flows::lanes::Pace;
use crate::grpc;
use crate::lifecycle::Shutdown;
use crate::listener::{Http1Limits, Http2Limits, Options, Protocol};
use crate::tls::Tls;
use crate::web::webhook;

/// Connections of the admin port, in all and of one address, so that whoever holds them does not keep probes out.
const ADMIN_CONNECTIONS_MAX: usize = 64;
const ADMIN_CONNECTIONS_PER_PEER_MAX: usize = 32;
/// Connections of other replicas, one of each and those that end.
const PEER_CONNECTIONS_MAX: usize = 1024;
const PEER_CONNECTIONS_PER_PEER_MAX: usize = 64;
/// Calls of one replica at once: all its callers share a connection.
const PEER_STREAMS_MAX: u32 = 100_000;
/// Callers who give up are many, and a connection that is cut for one of them is cut for all.
const PEER_RESETS_MAX: usize = 100_000;
/// A caller's headers and ours.
const PEER_HEADER_BYTES_MAX: u32 = 32 * 1024;
/// Uploads that are not read hold up nobody else: their streams have windows of their own.
const PEER_CONNECTION_WINDOW: u32 = 1 << 30;
/// By how much longer than the services wait for who does not read, so that they can say why they end.
const UNREAD_MARGIN: Duration = Duration::from_secs(30);

pub(super) fn pace(config: &Config) -> Pace {
    let sending = &config.sending;
    Pace { fixed_rate: sending.messages_per_second, by_recipient: sending.pace_recipients }
}

pub(super) fn stream_limits(config: &Config) -> Limits {
    let events = &config.events;
    Limits { streams_max: events.streams_max, send_timeout: events.send_timeout, rotation: events.rotation }
}

pub(super) fn send_streams(config: &Config, shutdown: &Shutdown) -> grpc::server::SendStreams {
    let (streams_max, request_bytes_max) = (config.sending.streams_max, config.grpc.message_bytes_max);
    grpc::server::SendStreams::new(streams_max, request_bytes_max, shutdown.clone())
}

pub(super) fn watch_limits(config: &Config) -> follow_message::Limits {
    let events = &config.events;
    follow_message::Limits { watches_max: events.streams_max, rotation: events.rotation }
}

pub(super) fn message_limits(config: &Config) -> grpc::server::MessageLimits {
    grpc::server::MessageLimits {
        request_bytes_max: config.grpc.message_bytes_max,
        is_reflecting: config.grpc.reflection,
    }
}

pub(super) fn webhook_config(config: &Config) -> webhook::Config {
    let webhook = &config.webhook;
    webhook::Config {
        path: webhook.path.clone(),
        body_bytes_max: webhook.body_bytes_max,
        bodies_bytes_max: webhook.bodies_bytes_max,
        body_timeout: webhook.body_timeout,
    }
}

pub(super) fn grpc_options(config: &Config) -> Options {
    let limits = Http2Limits {
        max_concurrent_streams: config.grpc.streams_per_connection_max,
        idle_timeout: config.grpc.idle_timeout,
        unread_timeout: unread_timeout(config),
        ..Http2Limits::default()
    };
    Options {
        name: "grpc",
        protocol: Protocol::Http2(limits),
        tls: config.tls(),
        connections_max: config.grpc.connections_max,
        connections_per_peer_max: config.grpc.connections_per_peer_max,
    }
}

/// The port for other replicas, under this certificate.
pub(super) fn peer_options(config: &Config, tls: Tls) -> Options {
    let limits = Http2Limits {
        max_concurrent_streams: PEER_STREAMS_MAX,
        unread_timeout: unread_timeout(config),
        max_header_list_size: PEER_HEADER_BYTES_MAX,
        max_pending_reset: PEER_RESETS_MAX,
        max_error_reset: PEER_RESETS_MAX,
        connection_window: PEER_CONNECTION_WINDOW,
        ..Http2Limits::default()
    };
    Options {
        name: "peers",
        protocol: Protocol::Http2(limits),
        tls: Some(tls),
        connections_max: PEER_CONNECTIONS_MAX,
        connections_per_peer_max: Some(PEER_CONNECTIONS_PER_PEER_MAX),
    }
}

fn unread_timeout(config: &Config) -> Duration {
    config.events.send_timeout.max(config.media.stall_timeout) + UNREAD_MARGIN
}

pub(super) fn webhook_options(config: &Config) -> Options {
    let webhook = &config.webhook;
    let limits = Http1Limits {
        header_timeout: webhook.header_timeout,
        idle_timeout: webhook.idle_timeout,
        ..Http1Limits::default()
    };
    Options {
        name: "webhook",
        protocol: Protocol::Http1(limits),
        tls: None,
        connections_max: webhook.connections_max,
        connections_per_peer_max: webhook.connections_per_peer_max,
    }
}

pub(super) fn admin_options() -> Options {
    Options {
        name: "admin",
        protocol: Protocol::Http1(Http1Limits::default()),
        tls: None,
        connections_max: ADMIN_CONNECTIONS_MAX,
        connections_per_peer_max: Some(ADMIN_CONNECTIONS_PER_PEER_MAX),
    }
}
