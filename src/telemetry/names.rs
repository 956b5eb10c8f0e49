//! Every metric name, with its labels, and its description for `/metrics`.
//!
//! Names that OpenTelemetry standardizes follow its semantic conventions 1.44, written as Prometheus shows them. A
//! label value is bounded: a word of ours, a configured id, a status. Never a recipient, message id, or text that
//! a caller chose.

use metrics::{Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge};

/// Histogram, seconds: calls to our gRPC API. Labels: [`RPC_METHOD`], [`RPC_STATUS`].
pub const RPC_SERVER_CALL_DURATION: &str = "rpc_server_call_duration_seconds";
/// Histogram, seconds: requests to the webhook port. Labels: [`HTTP_METHOD`], [`HTTP_ROUTE`], [`HTTP_STATUS`].
pub const HTTP_SERVER_REQUEST_DURATION: &str = "http_server_request_duration_seconds";
/// Histogram, seconds: requests to the Cloud API. Labels: [`HTTP_METHOD`], [`SERVER_ADDRESS`], [`URL_TEMPLATE`], [`HTTP_STATUS_CLASS`].
pub const HTTP_CLIENT_REQUEST_DURATION: &str = "http_client_request_duration_seconds";

/// Gauge, always 1. Label: [`VERSION`].
pub const BUILD_INFO: &str = "whatsapp_gateway_build_info";
/// Gauge: open connections. Label: [`LISTENER`].
pub const CONNECTIONS: &str = "whatsapp_gateway_connections";
/// Counter: connections closed before their first byte. Labels: [`LISTENER`], [`REASON`] (`total`, `peer`).
pub const CONNECTIONS_REFUSED: &str = "whatsapp_gateway_connections_refused_total";
/// Counter: connections that we closed. Labels: [`LISTENER`], [`REASON`] (`head_timeout`, `idle`, `killed`, `age`, `stop`).
pub const CONNECTIONS_CUT: &str = "whatsapp_gateway_connections_cut_total";
/// Counter: connections that ended in their TLS handshake. Labels: [`LISTENER`], [`REASON`] (`not_tls`, `no_certificate`,
/// `certificate_expired`, `certificate_not_yet_valid`, `unknown_issuer`, `bad_certificate`, `refused_by_client`, `no_http2`,
/// `incompatible`, `timeout`, `closed`, `drain`, `other`).
pub const TLS_FAILURES: &str = "whatsapp_gateway_tls_handshake_failures_total";
/// Counter: failures to accept a connection, such as too many open files. Label: [`LISTENER`].
pub const ACCEPT_ERRORS: &str = "whatsapp_gateway_accept_errors_total";
/// Counter: attempts to read changed secrets or TLS files. Label: [`OUTCOME`] (`applied`, `rejected`).
pub const CONFIG_RELOAD: &str = "whatsapp_gateway_config_reload_total";
/// Counter: webhook POSTs. Label: [`OUTCOME`] (`accepted`, `bad_signature`, `too_large`, `busy`, `timeout`, `cut`, `not_stored`).
pub const WEBHOOKS: &str = "whatsapp_gateway_webhooks_total";
/// Counter: items of accepted webhooks. Label: [`OUTCOME`] (`new`, `duplicate`).
pub const WEBHOOK_ITEMS: &str = "whatsapp_gateway_webhook_items_total";
/// Counter: sends that were answered. Labels: [`MESSAGE_TYPE`], [`OUTCOME`] (`accepted`, `refused`, `not_sent`, `unknown`).
pub const SENDS: &str = "whatsapp_gateway_sends_total";
/// Gauge: sends and changes of templates under a request id of which nobody knows whether they were done.
pub const SENDS_UNKNOWN: &str = "whatsapp_gateway_sends_unknown";
/// Gauge: messages that wait for their turn to be sent. Label: [`PHONE_NUMBER`].
pub const LANE_WAITING: &str = "whatsapp_gateway_lane_waiting";
/// Gauge: queued sends that wait or are on their way. Label: [`PHONE_NUMBER`].
pub const QUEUE_DEPTH: &str = "whatsapp_gateway_queue_depth";
/// Gauge, seconds: how long the oldest of them has been there, `not_before` included. Label: [`PHONE_NUMBER`].
pub const QUEUE_AGE: &str = "whatsapp_gateway_queue_oldest_age_seconds";
/// Counter: queued sends that were reported. Label: [`OUTCOME`] (`accepted`, `refused`, `expired`, `unknown`).
pub const QUEUE_ENDED: &str = "whatsapp_gateway_queued_sends_total";
/// Gauge: open streams of `SendMessages`.
pub const SEND_STREAMS: &str = "whatsapp_gateway_send_streams";
/// Histogram, seconds: how long messages that had to wait waited for their turn to be sent.
pub const LANE_WAIT_DURATION: &str = "whatsapp_gateway_lane_wait_seconds";
/// Counter: messages refused because their template does not allow them. Label: [`REASON`] (`TEMPLATE_NOT_FOUND`,
/// `TEMPLATE_NOT_SENDABLE`, `TEMPLATE_PARAMETERS`).
pub const TEMPLATE_REFUSALS: &str = "whatsapp_gateway_template_refusals_total";
/// Counter: looks at the copy of a message's template. Label: [`OUTCOME`] (`cached`, `read`, and without a copy `late`,
/// `failed`, `busy`).
pub const TEMPLATE_LOOKUPS: &str = "whatsapp_gateway_template_lookups_total";
/// Gauge: messages per second that a number may send and receive at present. Label: [`PHONE_NUMBER`].
pub const NUMBER_RATE: &str = "whatsapp_gateway_number_rate";
/// Gauge: 1 while a number cannot send, 0 when it can again. Labels: [`PHONE_NUMBER`], [`REASON`] (as in errors).
pub const NUMBER_PARKED: &str = "whatsapp_gateway_number_parked";
/// Gauge: 1 while nothing is sent because the calls of the account are used up. Label: [`PHONE_NUMBER`].
pub const NUMBER_SUSPENDED: &str = "whatsapp_gateway_number_suspended";
/// Counter: errors that Meta answered with. Label: [`ERROR_CLASS`].
pub const META_ERRORS: &str = "whatsapp_gateway_meta_errors_total";
/// Counter: decisions about callers. Label: [`OUTCOME`] (`allowed`; `denied`: known and not allowed; why nobody is known:
/// `missing`, `malformed`, `unknown`, `expired`, `not_yet_valid`, `certificate_unknown`, `certificate_ambiguous`,
/// `contradictory`).
pub const AUTH_DECISIONS: &str = "whatsapp_gateway_auth_decisions_total";
/// Gauge: open event streams.
pub const EVENT_STREAMS: &str = "whatsapp_gateway_event_streams";
/// Histogram, seconds: from receiving a webhook to handing its event to a stream that is at the tail.
pub const EVENT_AGE: &str = "whatsapp_gateway_event_age_seconds";
/// Counter: events handed to streams.
pub const EVENTS_DELIVERED: &str = "whatsapp_gateway_events_delivered_total";
/// Counter: streams that ended. Label: [`REASON`] (`left`, `caught_up`, `draining`, `rotated`, `slow_consumer`, `expired`, `unreadable`).
pub const EVENT_STREAMS_CLOSED: &str = "whatsapp_gateway_event_streams_closed_total";
/// Gauge: open watches of messages.
pub const MESSAGE_WATCHES: &str = "whatsapp_gateway_message_watches";
/// Counter: watches that ended. Label: [`REASON`] (`reached`, `failed`, `left`, `draining`, `rotated`, `unreadable`).
pub const MESSAGE_WATCHES_CLOSED: &str = "whatsapp_gateway_message_watches_closed_total";
/// Histogram, seconds: one durable commit. Recorded and described by the storage room, as are all of
/// `whatsapp_gateway_log_*`; it is named here for its buckets.
pub const LOG_COMMIT_DURATION: &str = "whatsapp_gateway_log_commit_seconds";
/// Histogram: events and state writes in one durable commit. As above.
pub const LOG_BATCH_EVENTS: &str = "whatsapp_gateway_log_batch_events";
/// Gauge: tasks of the runtime that have not ended.
pub const RUNTIME_TASKS: &str = "whatsapp_gateway_runtime_tasks";
/// Gauge: tasks that wait for a thread of the runtime.
pub const RUNTIME_QUEUE: &str = "whatsapp_gateway_runtime_queue_depth";
/// Counter: spans that were not exported. Label: [`REASON`] (`queue_full`, `export_failed`).
pub const SPANS_DROPPED: &str = "whatsapp_gateway_spans_dropped_total";
/// Counter: panics, each of which is a defect of ours.
pub const PANICS: &str = "whatsapp_gateway_panics_total";
/// Gauge, bytes: memory of the process.
pub const PROCESS_RESIDENT: &str = "process_resident_memory_bytes";
/// Gauge: open files and sockets of the process.
pub const PROCESS_OPEN_FILES: &str = "process_open_fds";

/// Label: Meta's id of a configured business number.
pub const PHONE_NUMBER: &str = "phone_number_id";
/// Label: `package.Service/Method`; `_OTHER` for a method that does not exist.
pub const RPC_METHOD: &str = "rpc_method";
/// Label: the gRPC status as a word, such as `NOT_FOUND`.
pub const RPC_STATUS: &str = "rpc_response_status_code";
/// Label: the HTTP method.
pub const HTTP_METHOD: &str = "http_request_method";
/// Label: the route as configured, never the path as sent.
pub const HTTP_ROUTE: &str = "http_route";
/// Label: the HTTP status as a number.
pub const HTTP_STATUS: &str = "http_response_status_code";
/// Label: the HTTP status as its class, such as `2xx`; `none` without an answer.
pub const HTTP_STATUS_CLASS: &str = "http_response_status_class";
/// Label: the host called.
pub const SERVER_ADDRESS: &str = "server_address";
/// Label: the path called, ids replaced by their names.
pub const URL_TEMPLATE: &str = "url_template";
/// Label: which of our listeners: `grpc`, `webhook`, `admin`.
pub const LISTENER: &str = "listener";
/// Label: why something happened; the metric lists the words.
pub const REASON: &str = "reason";
/// Label: how something ended; the metric lists the words.
pub const OUTCOME: &str = "outcome";
/// Label: the type of message sent, such as `template`.
pub const MESSAGE_TYPE: &str = "type";
/// Label: the kind of failure that Meta's code stands for.
pub const ERROR_CLASS: &str = "class";
/// Label: the version of this program.
pub const VERSION: &str = "version";

/// Buckets of call durations, in seconds, as the semantic conventions advise.
pub const DURATION_BUCKETS: [f64; 14] =
    [0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0];
/// Buckets of commit durations, in seconds: an fsync takes from a tenth of a millisecond to a bad second.
pub const COMMIT_BUCKETS: [f64; 12] =
    [0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0];
/// Buckets of event ages, in seconds: what was missed while away may be hours old.
pub const AGE_BUCKETS: [f64; 12] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 60.0, 600.0, 3600.0];
/// Buckets of events and state writes per commit.
pub const BATCH_EVENTS_BUCKETS: [f64; 10] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0];

/// The histograms and their buckets; any other histogram gets [`DURATION_BUCKETS`].
pub(super) const HISTOGRAMS: [(&str, &[f64]); 4] = [
    (LOG_COMMIT_DURATION, &COMMIT_BUCKETS),
    (EVENT_AGE, &AGE_BUCKETS),
    (LANE_WAIT_DURATION, &AGE_BUCKETS),
    (LOG_BATCH_EVENTS, &BATCH_EVENTS_BUCKETS),
];

/// Gives every metric its help text. Called once, when the recorder is installed.
pub(super) fn describe() {
    describe_servers();
    describe_work();
    describe_process();
}

/// Shows what can happen before it has happened: an alert on a rate misses the first event of a series that it makes.
pub(super) fn begin() {
    let webhooks = ["accepted", "bad_signature", "too_large", "busy", "timeout", "cut", "not_stored"];
    for outcome in webhooks {
        counter!(WEBHOOKS, OUTCOME => outcome).absolute(0);
    }
    for outcome in ["new", "duplicate"] {
        counter!(WEBHOOK_ITEMS, OUTCOME => outcome).absolute(0);
    }
    // The other types appear when they are sent.
    for kind in ["text", "template"] {
        for outcome in ["accepted", "refused", "not_sent", "unknown"] {
            counter!(SENDS, MESSAGE_TYPE => kind, OUTCOME => outcome).absolute(0);
        }
    }
    for reason in ["TEMPLATE_NOT_FOUND", "TEMPLATE_NOT_SENDABLE", "TEMPLATE_PARAMETERS"] {
        counter!(TEMPLATE_REFUSALS, REASON => reason).absolute(0);
    }
    for outcome in ["cached", "read", "late", "failed", "busy"] {
        counter!(TEMPLATE_LOOKUPS, OUTCOME => outcome).absolute(0);
    }
    for outcome in ["accepted", "refused", "expired", "unknown"] {
        counter!(QUEUE_ENDED, OUTCOME => outcome).absolute(0);
    }
    for outcome in ["allowed", "denied", "missing", "malformed", "unknown", "expired", "not_yet_valid"] {
        counter!(AUTH_DECISIONS, OUTCOME => outcome).absolute(0);
    }
    for outcome in ["certificate_unknown", "certificate_ambiguous", "contradictory"] {
        counter!(AUTH_DECISIONS, OUTCOME => outcome).absolute(0);
    }
    for outcome in ["applied", "rejected"] {
        counter!(CONFIG_RELOAD, OUTCOME => outcome).absolute(0);
    }
    for reason in ["queue_full", "export_failed"] {
        counter!(SPANS_DROPPED, REASON => reason).absolute(0);
    }
    counter!(EVENTS_DELIVERED).absolute(0);
    counter!(PANICS).absolute(0);
    gauge!(EVENT_STREAMS).set(0.0);
    gauge!(MESSAGE_WATCHES).set(0.0);
    gauge!(SENDS_UNKNOWN).set(0.0);
    gauge!(SEND_STREAMS).set(0.0);
}

fn describe_servers() {
    describe_histogram!(RPC_SERVER_CALL_DURATION, Unit::Seconds, "Duration of calls to the gRPC API.");
    describe_histogram!(HTTP_SERVER_REQUEST_DURATION, Unit::Seconds, "Duration of HTTP requests received.");
    describe_histogram!(
        HTTP_CLIENT_REQUEST_DURATION,
        Unit::Seconds,
        "Duration of requests to the Cloud API."
    );
    describe_gauge!(BUILD_INFO, "The version that runs; always 1.");
    describe_gauge!(CONNECTIONS, Unit::Count, "Open connections.");
    describe_counter!(CONNECTIONS_REFUSED, "Connections refused because a connection limit was reached.");
    describe_counter!(CONNECTIONS_CUT, "Connections closed by the gateway.");
    describe_counter!(TLS_FAILURES, "Connections that ended in their TLS handshake.");
    describe_counter!(ACCEPT_ERRORS, "Failures to accept a connection.");
    describe_counter!(CONFIG_RELOAD, "Attempts to read changed secrets or TLS files.");
    describe_counter!(AUTH_DECISIONS, "Decisions about callers.");
}

fn describe_work() {
    describe_counter!(WEBHOOKS, "Webhook POSTs received.");
    describe_counter!(WEBHOOK_ITEMS, "Items of accepted webhooks.");
    describe_counter!(SENDS, "Sends answered.");
    describe_gauge!(SENDS_UNKNOWN, Unit::Count, "Sends and changes of templates whose outcome is unknown.");
    describe_counter!(TEMPLATE_REFUSALS, "Messages refused because of their template.");
    describe_counter!(TEMPLATE_LOOKUPS, "Looks at the copies of templates.");
    describe_gauge!(
        NUMBER_RATE,
        Unit::CountPerSecond,
        "Messages that a business number may send at present."
    );
    describe_gauge!(NUMBER_PARKED, "Whether a business number cannot send.");
    describe_gauge!(NUMBER_SUSPENDED, "Whether the calls of a business number's account are used up.");
    describe_gauge!(QUEUE_DEPTH, Unit::Count, "Queued sends that wait or are on their way.");
    describe_gauge!(QUEUE_AGE, Unit::Seconds, "How long the oldest queued send has been in the queue.");
    describe_counter!(QUEUE_ENDED, "Queued sends reported.");
    describe_gauge!(SEND_STREAMS, Unit::Count, "Open streams of SendMessages.");
    describe_counter!(META_ERRORS, "Errors answered by the Cloud API.");
    describe_gauge!(EVENT_STREAMS, Unit::Count, "Open event streams.");
    describe_gauge!(LANE_WAITING, Unit::Count, "Messages that wait for their turn.");
    describe_histogram!(LANE_WAIT_DURATION, Unit::Seconds, "How long messages waited for their turn.");
    describe_histogram!(EVENT_AGE, Unit::Seconds, "Age of events when handed to a stream.");
    describe_counter!(EVENTS_DELIVERED, "Events handed to streams.");
    describe_counter!(EVENT_STREAMS_CLOSED, "Event streams that ended.");
    describe_gauge!(MESSAGE_WATCHES, Unit::Count, "Open watches of messages.");
    describe_counter!(MESSAGE_WATCHES_CLOSED, "Watches of messages that ended.");
}

fn describe_process() {
    describe_gauge!(RUNTIME_TASKS, Unit::Count, "Tasks of the runtime that have not ended.");
    describe_gauge!(RUNTIME_QUEUE, Unit::Count, "Tasks that wait for a thread.");
    describe_counter!(SPANS_DROPPED, "Spans that were not exported.");
    describe_counter!(PANICS, "Panics.");
    describe_gauge!(PROCESS_RESIDENT, Unit::Bytes, "Resident memory.");
    describe_gauge!(PROCESS_OPEN_FILES, Unit::Count, "Open files and sockets.");
}
