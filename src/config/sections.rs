//! The sections of the configuration that hold no secrets: their values, limits and rules.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::nats;
use super::reader::Table;
use super::tls::TlsFiles;
use crate::cloud_api;
use crate::lifecycle;
use crate::storage;
use crate::telemetry::{self, Protocol, Traces};

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;

/// The gRPC API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grpc {
    /// Where to listen.
    pub listen: SocketAddr,
    /// True if everyone may call although the address is not a loopback one.
    pub insecure: bool,
    /// Open connections.
    pub connections_max: usize,
    /// Open connections of one peer; `None` sets no limit.
    pub connections_per_peer_max: Option<usize>,
    /// How long a connection may be without an open call or stream.
    pub idle_timeout: Duration,
    /// Open streams of one connection.
    pub streams_per_connection_max: u32,
    /// The largest message accepted, in bytes.
    pub message_bytes_max: usize,
    /// Whether reflection is served.
    pub reflection: bool,
    /// A file with callers beside those of the configuration, read again when it changes.
    pub callers_file: Option<PathBuf>,
    /// The files of its TLS; `None` for plain text.
    pub tls: Option<TlsFiles>,
}

impl Grpc {
    pub(super) fn read(mut table: Table<'_>) -> Self {
        let read = Self {
            listen: table.address("listen"),
            insecure: table.boolean("insecure"),
            connections_max: usize_of(table.integer("connections_max", 1..=1_000_000)),
            connections_per_peer_max: per_peer(&mut table),
            idle_timeout: table.duration("idle_timeout", seconds(1)..=seconds(86_400)),
            streams_per_connection_max: table.count("streams_per_connection_max", 1..=100_000),
            message_bytes_max: usize_of(table.size("message_bytes_max", 64 * KIB..=64 * MIB)),
            reflection: table.boolean("reflection"),
            callers_file: table
                .optional_text("callers_file")
                .filter(|path| !path.trim().is_empty())
                .map(PathBuf::from),
            tls: TlsFiles::read(table.table("tls")),
        };
        table.finish();
        read
    }
}

/// The port that Meta calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Webhook {
    /// Where to listen.
    pub listen: SocketAddr,
    /// The one path served; starts with a slash.
    pub path: String,
    /// The largest body accepted, in bytes.
    pub body_bytes_max: usize,
    /// All bodies together that are being read or stored, without the first 16 KiB of each, in bytes.
    pub bodies_bytes_max: usize,
    /// From the end of a head to the end of its body.
    pub body_timeout: Duration,
    /// From the first byte of a head to its end.
    pub header_timeout: Duration,
    /// From a connect or an answer to the next request.
    pub idle_timeout: Duration,
    /// Open connections.
    pub connections_max: usize,
    /// Open connections of one peer; `None` sets no limit.
    pub connections_per_peer_max: Option<usize>,
}

impl Webhook {
    pub(super) fn read(mut table: Table<'_>) -> Self {
        let path = table.text("path");
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/-._~".contains(&byte);
        if !(path.is_empty() || path.starts_with('/') && path.bytes().all(is_plain)) {
            let form = "must start with '/' and hold only letters, digits, '/', '-', '.', '_' and '~'";
            table.problems().report_value(table.path("path"), path.as_str(), form);
        }
        let read = Self {
            listen: table.address("listen"),
            path,
            body_bytes_max: usize_of(table.size("body_bytes_max", 64 * KIB..=3584 * KIB)),
            bodies_bytes_max: usize_of(table.size("bodies_bytes_max", 4 * MIB..=16 * 1024 * MIB)),
            body_timeout: table.duration("body_timeout", seconds(1)..=seconds(120)),
            header_timeout: table.duration("header_timeout", seconds(1)..=seconds(60)),
            idle_timeout: table.duration("idle_timeout", seconds(1)..=seconds(600)),
            connections_max: usize_of(table.integer("connections_max", 1..=1_000_000)),
            connections_per_peer_max: per_peer(&mut table),
        };
        table.finish();
        read
    }
}

/// Open connections of one peer; 0 sets no limit.
fn per_peer(table: &mut Table<'_>) -> Option<usize> {
    Some(usize_of(table.integer("connections_per_peer_max", 0..=1_000_000))).filter(|max| *max > 0)
}

/// Metrics and probes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admin {
    /// Where to listen.
    pub listen: SocketAddr,
}

impl Admin {
    pub(super) fn read(mut table: Table<'_>) -> Self {
        let read = Self { listen: table.address("listen") };
        table.finish();
        read
    }
}

pub(super) fn read_cloud_api(mut table: Table<'_>, transfer_timeout: Duration) -> cloud_api::Config {
    let read = cloud_api::Config {
        graph_url: base_url(&mut table, "graph_url"),
        api_url: base_url(&mut table, "api_url"),
        version: version(&mut table),
        media_hosts: media_hosts(&mut table),
        connect_timeout: table.duration("connect_timeout", Duration::from_millis(100)..=seconds(60)),
        request_timeout: table.duration("request_timeout", seconds(1)..=seconds(300)),
        transfer_timeout,
        idle_connections_max: usize_of(table.integer("connections_idle_max", 0..=10_000)),
        sends_traceparent: table.boolean("send_traceparent"),
    };
    table.finish();
    read
}

pub(super) fn read_storage(mut table: Table<'_>) -> storage::Config {
    let is_nats = table.word("backend", &[("embedded", false), ("nats", true)], false);
    let retention = table.duration("retention", seconds(3600)..=seconds(3650 * 86_400));
    let size_max = table.size("size_max", 64 * MIB..=1 << 50);
    let data_dir = table.file("data_dir");
    let free_min = table.size("free_min", 64 * MIB..=1 << 50);
    let nats = nats::read(table.table("nats"), is_nats, (retention, size_max));
    table.finish();
    if is_nats {
        return storage::Config::Nats(nats);
    }
    storage::Config::Embedded(storage::EmbeddedConfig { data_dir, retention, size_max, free_min })
}

/// The streams of events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Events {
    /// How long a stream may take nothing although there is something.
    pub send_timeout: Duration,
    /// Open streams.
    pub streams_max: usize,
    /// Age at which a stream is told to connect again, before its ±20 %.
    pub rotation: Duration,
}

impl Events {
    pub(super) fn read(mut table: Table<'_>) -> Self {
        let read = Self {
            send_timeout: table.duration("send_timeout", seconds(1)..=seconds(600)),
            streams_max: usize_of(table.integer("streams_max", 1..=100_000)),
            rotation: table.duration("rotation", seconds(1)..=seconds(86_400)),
        };
        table.finish();
        read
    }
}

/// Sending messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sending {
    /// How long a request id is kept.
    pub request_id_kept: Duration,
    /// How long nothing is heard of a message until it is sent again.
    pub resend_after: Duration,
    /// Messages per second of every number; `None` asks Meta.
    pub messages_per_second: Option<u32>,
    /// From the moment a number cannot send to the first try whether it can again.
    pub probe_interval: Duration,
    /// Whether messages to one recipient are paced.
    pub pace_recipients: bool,
    /// How long webhooks of a number must have come before a window counts as closed.
    pub window_known_after: Duration,
    /// Whether templates are checked before a message goes to Meta.
    pub template_preflight: bool,
    /// Queued messages of one number.
    pub queue_max: usize,
    /// Open streams of `SendMessages`.
    pub streams_max: usize,
}

impl Sending {
    pub(super) fn read(mut table: Table<'_>) -> Self {
        let read = Self {
            request_id_kept: table.duration("request_id_kept", seconds(3600)..=seconds(7 * 86_400)),
            resend_after: table.duration("resend_after", seconds(1)..=seconds(3600)),
            messages_per_second: match table.count("messages_per_second", 0..=1_000_000) {
                0 => None,
                rate => Some(rate),
            },
            probe_interval: table.duration("probe_interval", Duration::from_millis(100)..=seconds(3600)),
            pace_recipients: table.boolean("pace_recipients"),
            window_known_after: table.duration("window_known_after", seconds(0)..=seconds(7 * 86_400)),
            template_preflight: table.boolean("template_preflight"),
            queue_max: usize_of(table.integer("queue_max", 1..=80_000)),
            streams_max: usize_of(table.integer("streams_max", 1..=10_000)),
        };
        table.finish();
        read
    }
}

/// Uploads and downloads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Media {
    /// Silence after which a transfer is given up.
    pub stall_timeout: Duration,
    /// Time for a whole transfer.
    pub transfer_timeout: Duration,
    /// Open transfers.
    pub transfers_max: usize,
}

impl Media {
    pub(super) fn read(mut table: Table<'_>) -> Self {
        let read = Self {
            stall_timeout: table.duration("stall_timeout", seconds(1)..=seconds(600)),
            transfer_timeout: table.duration("transfer_timeout", seconds(60)..=seconds(86_400)),
            transfers_max: usize_of(table.integer("transfers_max", 1..=10_000)),
        };
        table.finish();
        read
    }
}

pub(super) fn read_shutdown(mut table: Table<'_>) -> lifecycle::Budgets {
    let read = lifecycle::Budgets {
        delay: table.duration("delay", Duration::ZERO..=seconds(300)),
        drain: table.duration("drain", seconds(1)..=seconds(3600)),
    };
    table.finish();
    read
}

pub(super) fn read_telemetry(mut table: Table<'_>) -> telemetry::Config {
    let formats = [("json", telemetry::LogFormat::Json), ("text", telemetry::LogFormat::Text)];
    let log_level = table.text("log_level");
    if let Err(error) = telemetry::check_log_level(&log_level) {
        let text = format!("must be a level, or levels per target such as \"info,hyper=warn\" ({error})");
        table.problems().report_value(table.path("log_level"), log_level.as_str(), text);
    }
    let read = telemetry::Config {
        log_format: table.word("log_format", &formats, telemetry::LogFormat::Json),
        log_level,
        metrics: table.boolean("metrics"),
        traces: read_traces(&mut table),
    };
    table.finish();
    read
}

fn read_traces(table: &mut Table<'_>) -> Traces {
    let protocols = [("grpc", Protocol::Grpc), ("http", Protocol::Http)];
    let protocol = table.word("otlp_protocol", &protocols, Protocol::Grpc);
    let mut given =
        |key| -> Option<String> { table.optional_text(key).filter(|text| !text.trim().is_empty()) };
    let (endpoint, headers_file) = (given("otlp_endpoint"), given("otlp_headers_file").map(PathBuf::from));
    let ca_file = given("otlp_ca_file").map(PathBuf::from);
    let form = match protocol {
        Protocol::Grpc => BASE_URL_FORM,
        Protocol::Http => {
            "must be http:// or https://, a host, and perhaps a port and a path, and nothing else"
        }
    };
    let may_have_path = protocol == Protocol::Http;
    let endpoint = endpoint.and_then(|text| check_url(table, "otlp_endpoint", &text, form, may_have_path));
    if ca_file.is_some() && endpoint.as_ref().is_some_and(|endpoint| endpoint.starts_with("http:")) {
        let text = "is for an https:// collector, and otlp_endpoint says http://";
        table.problems().report(table.path("otlp_ca_file"), text);
    }
    Traces {
        endpoint,
        protocol,
        headers_file,
        ca_file,
        sampling_ratio: table.ratio("sampling_ratio"),
        follows_caller: table.boolean("sampling_follows_caller"),
    }
}

const BASE_URL_FORM: &str = "must be http:// or https://, a host and perhaps a port, and nothing else";

fn base_url(table: &mut Table<'_>, key: &'static str) -> String {
    let text = table.text(key);
    if text.is_empty() {
        return text;
    }
    check_url(table, key, &text, BASE_URL_FORM, false).unwrap_or_default()
}

/// A URL of scheme, host and port, and of a path if it may have one, without a trailing slash.
fn check_url(table: &Table<'_>, key: &str, text: &str, form: &str, may_have_path: bool) -> Option<String> {
    let url: Option<http::Uri> = text.trim().parse().ok();
    let is_base = |url: &http::Uri| {
        matches!(url.scheme_str(), Some("http" | "https"))
            && url.authority().is_some_and(|authority| !authority.as_str().contains('@'))
            && (may_have_path || matches!(url.path(), "" | "/"))
            && url.query().is_none()
    };
    if url.as_ref().is_some_and(is_base) {
        return Some(text.trim().trim_end_matches('/').to_owned());
    }
    if text.contains('@') {
        // What stands before the @ is a password.
        table.problems().report(table.path(key), form);
    } else {
        table.problems().report_value(table.path(key), text, form);
    }
    None
}

fn version(table: &mut Table<'_>) -> String {
    let version = table.text("version");
    let digits =
        |text: &str| !text.is_empty() && text.len() <= 3 && text.bytes().all(|byte| byte.is_ascii_digit());
    let numbers = version.strip_prefix('v').and_then(|numbers| numbers.split_once('.'));
    if !version.is_empty() && !numbers.is_some_and(|(major, minor)| digits(major) && digits(minor)) {
        let form = "must be a Graph API version as Meta writes it, such as \"v25.0\"";
        table.problems().report_value(table.path("version"), version.as_str(), form);
    }
    version
}

fn media_hosts(table: &mut Table<'_>) -> Vec<String> {
    let hosts: Vec<_> = table.texts("media_hosts").iter().map(|host| host.to_ascii_lowercase()).collect();
    for (index, host) in hosts.iter().enumerate() {
        let authority: Option<http::uri::Authority> = host.strip_prefix('.').unwrap_or(host).parse().ok();
        if authority.is_none() || host.contains(['@', '*']) {
            let form = "must be a host, perhaps with a port: \"lookaside.fbsbx.com\", \".fbsbx.com\" for all below it, \
                 \"127.0.0.1:8081\"";
            table.problems().report_value(format!("{}[{index}]", table.path("media_hosts")), host, form);
        }
    }
    hosts
}

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Every integer read here is far below the limit; on a 32-bit machine the largest are not useful anyway.
fn usize_of(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}
