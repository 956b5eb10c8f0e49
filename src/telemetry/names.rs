//! Every metric: its name, what it says, its labels and their words; in one table.
//!
//! The help texts of `/metrics`, the counters that stand at 0 from the start and `docs/metrics.md` come from here. Names
//! that OpenTelemetry standardizes follow its semantic conventions 1.44, written as Prometheus shows them. A name ends
//! in its unit. A label value is bounded: a word of ours, a configured id, a status. Never a recipient, message id, or
//! text that a caller chose.

/// What a metric does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only grows, as long as the process lives.
    Counter,
    /// Moves both ways.
    Gauge,
    /// Counts values by size.
    Histogram,
}

/// A label of a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Label {
    /// Its name.
    pub name: &'static str,
    /// The values it has; empty where they come from the configuration, the contract or Meta's tables: [`LABELS`] says what
    /// they are.
    pub words: &'static [&'static str],
}

/// A metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Metric {
    /// Its name.
    pub name: &'static str,
    /// What it does.
    pub kind: Kind,
    /// What it says.
    pub help: &'static str,
    /// Its labels, in the order in which they are shown.
    pub labels: &'static [Label],
}

macro_rules! metrics {
    ($($(#[doc = $doc:literal])+ $kind:ident $name:ident = $text:literal [$($label:ident: $words:expr),*];)*) => {
        $($(#[doc = $doc])+ pub const $name: &str = $text;)*

        /// Every metric, in the order of the documents.
        pub const METRICS: &[Metric] = &[$(Metric {
            name: $text,
            kind: Kind::$kind,
            help: concat!($($doc),+),
            labels: &[$(Label { name: $label, words: $words }),*],
        },)*];
    };
}

/// The values are not words of ours.
const OPEN: &[&str] = &[];
/// Our ports.
const LISTENERS: &[&str] = &["grpc", "webhook", "admin", "peers"];
/// What Meta's errors mean: the reasons that the table of its codes can give.
pub const META_CLASSES: &[&str] = &[
    "SEND_OUTCOME_UNKNOWN",
    "UPSTREAM_UNAVAILABLE",
    "UPSTREAM_CREDENTIALS",
    "UPSTREAM_ACCOUNT",
    "UPSTREAM_FEATURE",
    "UPSTREAM_INVALID_PARAMETER",
    "UPSTREAM_NOT_FOUND",
    "UPSTREAM_CONFLICT",
    "UPSTREAM_REFUSED",
    "UPSTREAM_THROUGHPUT",
    "UPSTREAM_PAIR_RATE",
    "UPSTREAM_ACCOUNT_RATE",
    "UPSTREAM_QUALITY_LIMIT",
    "WINDOW_CLOSED",
    "TEMPLATE_NOT_FOUND",
    "TEMPLATE_NOT_SENDABLE",
    "TEMPLATE_PARAMETERS",
    "TEMPLATE_REJECTED",
    "MEDIA_REJECTED",
    "RECIPIENT_UNREACHABLE",
    "RECIPIENT_OPTED_OUT",
    "RECIPIENT_NOT_ALLOWED",
];

metrics! {
    /// Calls to the gRPC API; a stream, until it is open.
    Histogram RPC_SERVER_CALL_DURATION = "rpc_server_call_duration_seconds" [RPC_METHOD: OPEN, RPC_STATUS: OPEN];
    /// Requests to the webhook port; a POST, until it is durable and answered.
    Histogram HTTP_SERVER_REQUEST_DURATION = "http_server_request_duration_seconds"
        [HTTP_METHOD: &["GET", "POST", "_OTHER"], HTTP_ROUTE: &["webhook"], HTTP_STATUS: OPEN];
    /// Requests to the Cloud API.
    Histogram HTTP_CLIENT_REQUEST_DURATION = "http_client_request_duration_seconds"
        [SERVER_ADDRESS: OPEN, URL_TEMPLATE: OPEN, HTTP_METHOD: &["GET", "POST", "DELETE"],
         HTTP_STATUS_CLASS: &["2xx", "3xx", "4xx", "5xx", "other", "none"]];
    /// Errors that the Cloud API answered with, by what they mean.
    Counter META_ERRORS = "whatsapp_gateway_meta_errors_total" [ERROR_CLASS: META_CLASSES];

    /// Sends that were answered.
    Counter SENDS = "whatsapp_gateway_sends_total"
        [MESSAGE_TYPE: OPEN, OUTCOME: &["accepted", "refused", "not_sent", "unknown"]];
    /// Answers about messages: `OK`, also of those that were queued or only checked, or the reason of the error.
    Counter SEND_ANSWERS = "whatsapp_gateway_send_answers_total" [REASON: OPEN];
    /// What a send that came to Meta spent in the gateway itself: without the calls to Meta and without waiting for its turn.
    Histogram SEND_OVERHEAD = "whatsapp_gateway_send_overhead_seconds" [];
    /// Sends and changes of templates under a request id of which nobody knows whether they were done.
    Gauge SENDS_UNKNOWN = "whatsapp_gateway_sends_unknown" [];
    /// Open streams of `SendMessages`.
    Gauge SEND_STREAMS = "whatsapp_gateway_send_streams" [];
    /// Statuses of messages that Meta reported.
    Counter MESSAGE_STATUSES = "whatsapp_gateway_message_statuses_total"
        [STATUS: STATUSES];
    /// Errors that webhooks reported, most of them about messages that Meta had accepted, by what they mean.
    Counter WEBHOOK_ERRORS = "whatsapp_gateway_webhook_errors_total" [ERROR_CLASS: META_CLASSES];
    /// Messages refused because their customer service window is known to be closed.
    Counter WINDOW_REFUSALS = "whatsapp_gateway_window_refusals_total" [];
    /// Fallback templates: taken in place of a message (`instead`), or what became of one after Meta had found the window
    /// closed.
    Counter FALLBACKS = "whatsapp_gateway_fallbacks_total" [OUTCOME: &["instead", "accepted", "failed", "unknown"]];
    /// Messages refused because their template does not allow them.
    Counter TEMPLATE_REFUSALS = "whatsapp_gateway_template_refusals_total"
        [REASON: &["TEMPLATE_NOT_FOUND", "TEMPLATE_NOT_SENDABLE", "TEMPLATE_PARAMETERS"]];
    /// Looks at the copy of a message's template; `late`, `failed` and `busy` found none.
    Counter TEMPLATE_LOOKUPS = "whatsapp_gateway_template_lookups_total"
        [OUTCOME: &["cached", "read", "late", "failed", "busy"]];

    /// Queued sends that wait or are on their way.
    Gauge QUEUE_DEPTH = "whatsapp_gateway_queue_depth" [PHONE_NUMBER: OPEN];
    /// How long the oldest queued send has been in the queue, `not_before` included.
    Gauge QUEUE_AGE = "whatsapp_gateway_queue_oldest_age_seconds" [PHONE_NUMBER: OPEN];
    /// Queued sends that were reported.
    Counter QUEUE_ENDED = "whatsapp_gateway_queued_sends_total"
        [OUTCOME: &["accepted", "refused", "expired", "unknown"]];
    /// Messages that wait for their turn to be sent.
    Gauge LANE_WAITING = "whatsapp_gateway_lane_waiting" [PHONE_NUMBER: OPEN];
    /// How long messages that had to wait waited for their turn to be sent.
    Histogram LANE_WAIT_DURATION = "whatsapp_gateway_lane_wait_seconds" [];
    /// Messages refused without a call to Meta because they could not have their turn in time.
    Counter LANE_REFUSALS = "whatsapp_gateway_lane_refusals_total"
        [REASON: &["throughput", "pair", "suspended", "full", "parked"]];
    /// Calls refused because their caller has used up what the configuration allows.
    Counter QUOTA_REFUSALS = "whatsapp_gateway_caller_quota_refusals_total"
        [QUOTA: &["sends_per_second", "streams_max"]];

    /// Messages per second that a number may send and receive at present.
    Gauge NUMBER_RATE = "whatsapp_gateway_number_rate" [PHONE_NUMBER: OPEN];
    /// 1 while a number cannot send, 0 when it can again.
    Gauge NUMBER_PARKED = "whatsapp_gateway_number_parked" [PHONE_NUMBER: OPEN, REASON: OPEN];
    /// 1 while nothing is sent because the calls of the account are used up.
    Gauge NUMBER_SUSPENDED = "whatsapp_gateway_number_suspended" [PHONE_NUMBER: OPEN];
    /// 1 for the quality that Meta gives a number, 0 for the others.
    Gauge NUMBER_QUALITY = "whatsapp_gateway_number_quality" [PHONE_NUMBER: OPEN, QUALITY: QUALITIES];
    /// Users whom the portfolio of a number may write to first in 24 hours; +Inf without limit, absent while not known.
    Gauge MESSAGING_LIMIT = "whatsapp_gateway_number_messaging_limit" [PHONE_NUMBER: OPEN];
    /// When the access token of a WABA expires, by Meta's word; +Inf for never, absent while not known.
    Gauge ACCESS_TOKEN_EXPIRY = "whatsapp_gateway_access_token_expiry_timestamp_seconds" [WABA: OPEN];
    /// When the last of a caller's tokens expires; +Inf for never, absent for callers without tokens.
    Gauge CALLER_TOKEN_EXPIRY = "whatsapp_gateway_caller_token_expiry_timestamp_seconds" [CALLER: OPEN];
    /// When the first certificate of a port's chain expires; absent without TLS.
    Gauge CERTIFICATE_EXPIRY = "whatsapp_gateway_certificate_expiry_timestamp_seconds" [LISTENER: &["grpc"]];

    /// Webhook POSTs.
    Counter WEBHOOKS = "whatsapp_gateway_webhooks_total"
        [OUTCOME: &["accepted", "bad_signature", "too_large", "busy", "timeout", "cut", "not_stored"]];
    /// Items of accepted webhooks.
    Counter WEBHOOK_ITEMS = "whatsapp_gateway_webhook_items_total" [OUTCOME: &["new", "duplicate"]];
    /// New items that the gateway does not understand; they are stored as they came.
    Counter WEBHOOK_UNKNOWN_ITEMS = "whatsapp_gateway_webhook_unknown_items_total" [];
    /// From Meta's time of a new item, in whole seconds, to its being durable.
    Histogram WEBHOOK_LAG = "whatsapp_gateway_webhook_lag_seconds" [];
    /// When the last webhook was accepted; the start of the process until then.
    Gauge WEBHOOK_LAST_ACCEPTED = "whatsapp_gateway_webhook_last_accepted_timestamp_seconds" [];

    /// Events made durable.
    Counter LOG_APPENDED = "whatsapp_gateway_log_appended_events_total" [];
    /// Items that were known already and added nothing.
    Counter LOG_DUPLICATES = "whatsapp_gateway_log_duplicate_events_total" [];
    /// Events deleted by retention.
    Counter LOG_TRIMMED = "whatsapp_gateway_log_trimmed_events_total" [];
    /// One durable commit, from its first write to the end of its sync.
    Histogram LOG_COMMIT_DURATION = "whatsapp_gateway_log_commit_seconds" [];
    /// The end of a durable commit: its pages written and synced.
    Histogram LOG_SYNC_DURATION = "whatsapp_gateway_log_sync_seconds" [];
    /// Events and state writes in one durable commit.
    Histogram LOG_BATCH_EVENTS = "whatsapp_gateway_log_batch_events" [];
    /// Events and state writes that wait for the writer.
    Gauge LOG_QUEUE = "whatsapp_gateway_log_queue_events" [];
    /// Used pages and write-ahead log.
    Gauge LOG_SIZE = "whatsapp_gateway_log_size_bytes" [];
    /// Free space on the disk of the log.
    Gauge LOG_DISK_FREE = "whatsapp_gateway_log_disk_free_bytes" [];
    /// Used share of the size limit or the disk, whichever ends first.
    Gauge LOG_USED = "whatsapp_gateway_log_used_ratio" [];
    /// 1 while the log takes nothing, so that webhooks are answered with 503.
    Gauge LOG_REFUSING = "whatsapp_gateway_log_refusing" [];
    /// Position of the newest event.
    Gauge LOG_TAIL = "whatsapp_gateway_log_tail_seq" [];
    /// Position of the oldest event that is kept.
    Gauge LOG_EARLIEST = "whatsapp_gateway_log_earliest_seq" [];
    /// Position of the oldest event in memory; one more than the newest if there is none.
    Gauge LOG_RING_EARLIEST = "whatsapp_gateway_log_ring_earliest_seq" [];
    /// Memory of the newest events.
    Gauge LOG_RING_SIZE = "whatsapp_gateway_log_ring_bytes" [];
    /// Position up to which the state of messages, windows and users follows the log.
    Gauge PROJECTIONS = "whatsapp_gateway_projections_seq" [];
    /// Open event streams.
    Gauge EVENT_STREAMS = "whatsapp_gateway_event_streams" [];
    /// Events between the newest one and the open stream that is furthest behind; 0 without streams.
    Gauge EVENT_STREAM_LAG = "whatsapp_gateway_event_stream_lag_events" [];
    /// Age of the oldest event that the open stream furthest behind has not taken; 0 without streams.
    Gauge EVENT_STREAM_AGE = "whatsapp_gateway_event_stream_oldest_age_seconds" [];
    /// From an event's being durable to handing it to a stream that is at the tail.
    Histogram EVENT_AGE = "whatsapp_gateway_event_age_seconds" [];
    /// Events handed to streams.
    Counter EVENTS_DELIVERED = "whatsapp_gateway_events_delivered_total" [];
    /// Event streams that ended.
    Counter EVENT_STREAMS_CLOSED = "whatsapp_gateway_event_streams_closed_total"
        [REASON: &[
            "left", "caught_up", "draining", "rotated", "slow_consumer", "expired", "unreadable", "taken_over", "deleted",
            "not_leading"]];
    /// Named subscriptions.
    Gauge SUBSCRIPTIONS = "whatsapp_gateway_subscriptions" [];
    /// Events that the subscription of a caller that is furthest behind has not done; `GetSubscription` tells of each one.
    Gauge SUBSCRIPTION_BACKLOG = "whatsapp_gateway_subscription_backlog_events" [CALLER: OPEN];
    /// Age of the oldest event that a subscription of a caller has not done; 0 if all are done.
    Gauge SUBSCRIPTION_AGE = "whatsapp_gateway_subscription_oldest_age_seconds" [CALLER: OPEN];
    /// Events that the subscriptions of a caller have parked.
    Gauge SUBSCRIPTION_PARKED = "whatsapp_gateway_subscription_parked_events" [CALLER: OPEN];
    /// What workers said of events; `refused` counts for nothing.
    Counter SUBSCRIPTION_OUTCOMES = "whatsapp_gateway_subscription_outcomes_total"
        [OUTCOME: &["done", "retry", "park", "extend", "refused"]];
    /// Events handed to workers that had been handed out before.
    Counter SUBSCRIPTION_REDELIVERIES = "whatsapp_gateway_subscription_redeliveries_total" [];
    /// Events parked, because they were delivered as often as the subscription allows, or because a worker said so.
    Counter SUBSCRIPTION_PARKINGS = "whatsapp_gateway_subscription_parkings_total" [REASON: &["attempts", "worker"]];
    /// Events that retention removed before a subscription had done them.
    Counter SUBSCRIPTION_MISSED = "whatsapp_gateway_subscription_missed_events_total" [];
    /// Open watches of messages.
    Gauge MESSAGE_WATCHES = "whatsapp_gateway_message_watches" [];
    /// Watches of messages that ended.
    Counter MESSAGE_WATCHES_CLOSED = "whatsapp_gateway_message_watches_closed_total"
        [REASON: &["reached", "failed", "left", "draining", "rotated", "unreadable"]];

    /// Open connections.
    Gauge CONNECTIONS = "whatsapp_gateway_connections" [LISTENER: LISTENERS];
    /// Connections closed before their first byte, because there are too many in all or of one peer.
    Counter CONNECTIONS_REFUSED = "whatsapp_gateway_connections_refused_total"
        [LISTENER: LISTENERS, REASON: &["total", "peer"]];
    /// Connections that the gateway closed.
    Counter CONNECTIONS_CUT = "whatsapp_gateway_connections_cut_total"
        [LISTENER: LISTENERS, REASON: &["head_timeout", "idle", "unread", "keepalive", "flood", "killed", "stop"]];
    /// HTTP/2 streams that the gateway reset because their answer was not read.
    Counter STREAMS_CUT = "whatsapp_gateway_streams_cut_total"
        [LISTENER: &["grpc", "peers"]];
    /// Connections that ended in their TLS handshake.
    Counter TLS_FAILURES = "whatsapp_gateway_tls_handshake_failures_total"
        [LISTENER: &["grpc", "peers"], REASON: &[
            "not_tls", "no_certificate", "certificate_expired", "certificate_not_yet_valid", "unknown_issuer",
            "bad_certificate", "refused_by_client", "no_http2", "incompatible", "timeout", "closed", "drain", "other"]];
    /// Failures to accept a connection, such as too many open files.
    Counter ACCEPT_ERRORS = "whatsapp_gateway_accept_errors_total" [LISTENER: LISTENERS];
    /// Decisions about callers: allowed, known and not allowed (`denied`), or why nobody is known.
    Counter AUTH_DECISIONS = "whatsapp_gateway_auth_decisions_total"
        [OUTCOME: &[
            "allowed", "denied", "missing", "malformed", "unknown", "expired", "not_yet_valid", "certificate_unknown",
            "certificate_ambiguous", "contradictory", "issuer_unknown", "algorithm_refused", "keys_missing", "key_unknown",
            "signature_wrong", "audience_wrong", "subject_unknown"]];
    /// Readings of the keys of JWT issuers from their URLs.
    Counter JWKS_FETCHES = "whatsapp_gateway_jwks_fetches_total"
        [OUTCOME: &["applied", "unchanged", "rejected", "unreachable"]];
    /// Attempts to use changed files. While they cannot be used, there is one every 5 s.
    Counter CONFIG_RELOAD = "whatsapp_gateway_config_reload_total"
        [PART: &["secrets", "tls", "jwks"], OUTCOME: &["applied", "rejected"]];
    /// 1 while this gateway leads the others on its prefix, or is alone.
    Gauge LEADS = "whatsapp_gateway_leads" [];
    /// Counts the leaders of the prefix, from 1; 0 at a gateway that does not lead.
    Gauge LEADER_TERM = "whatsapp_gateway_leader_term" [];
    /// Changes of the leader, as this gateway saw them, from and to nobody included.
    Counter LEADER_CHANGES = "whatsapp_gateway_leader_changes_total" [];
    /// Calls that this gateway has passed on to the leader, until the answer began; `no_leader` were certainly not done, of
    /// `lost` nobody knows, `incomplete` did not arrive whole.
    Histogram RELAY_DURATION = "whatsapp_gateway_relayed_call_seconds"
        [OUTCOME: &["answered", "no_leader", "lost", "incomplete"]];
    /// Calls that wait for a leader.
    Gauge RELAY_WAITING = "whatsapp_gateway_calls_without_leader" [];
    /// 1 while the leader's settings are not those of this gateway, though they must be.
    Gauge SETTINGS_DIFFER = "whatsapp_gateway_leader_settings_differ" [];
    /// The version that runs; always 1.
    Gauge BUILD_INFO = "whatsapp_gateway_build_info" [VERSION: OPEN];
    /// Spans that were not exported.
    Counter SPANS_DROPPED = "whatsapp_gateway_spans_dropped_total" [REASON: &["queue_full", "export_failed"]];
    /// Panics, each of which is a defect of the gateway.
    Counter PANICS = "whatsapp_gateway_panics_total" [];
    /// Tasks of the runtime that have not ended.
    Gauge RUNTIME_TASKS = "whatsapp_gateway_runtime_tasks" [];
    /// Tasks that wait for a thread of the runtime.
    Gauge RUNTIME_QUEUE = "whatsapp_gateway_runtime_queue_depth" [];
    /// Threads of the runtime.
    Gauge RUNTIME_WORKERS = "whatsapp_gateway_runtime_workers" [];
    /// Time in which threads of the runtime were busy, of all together.
    Counter RUNTIME_BUSY = "whatsapp_gateway_runtime_busy_seconds_total" [];
    /// User and system CPU time of the process.
    Counter PROCESS_CPU = "process_cpu_seconds_total" [];
    /// Resident memory of the process.
    Gauge PROCESS_RESIDENT = "process_resident_memory_bytes" [];
    /// Virtual memory of the process.
    Gauge PROCESS_VIRTUAL = "process_virtual_memory_bytes" [];
    /// Open files and sockets of the process.
    Gauge PROCESS_OPEN_FILES = "process_open_fds" [];
    /// How many of them it may open.
    Gauge PROCESS_FILES_MAX = "process_max_fds" [];
    /// Threads of the process.
    Gauge PROCESS_THREADS = "process_threads" [];
    /// When the process started.
    Gauge PROCESS_START = "process_start_time_seconds" [];
}

macro_rules! labels {
    ($($(#[doc = $doc:literal])+ $name:ident = $text:literal;)*) => {
        $($(#[doc = $doc])+ pub const $name: &str = $text;)*

        /// Every label, and what its values are.
        pub const LABELS: &[(&str, &str)] = &[$(($text, concat!($($doc),+)),)*];
    };
}

labels! {
    /// Meta's id of a configured business number.
    PHONE_NUMBER = "phone_number_id";
    /// Meta's id of a configured WABA.
    WABA = "waba_id";
    /// The name of a configured caller, or `local` or `anonymous`.
    CALLER = "caller";
    /// `package.Service/Method`, for an action of `ManageTemplate` with the action behind it; `_OTHER` for what does not exist.
    RPC_METHOD = "rpc_method";
    /// The gRPC status as a word, such as `NOT_FOUND`.
    RPC_STATUS = "rpc_response_status_code";
    /// The HTTP method.
    HTTP_METHOD = "http_request_method";
    /// The route as configured, never the path as sent.
    HTTP_ROUTE = "http_route";
    /// The HTTP status as a number.
    HTTP_STATUS = "http_response_status_code";
    /// The HTTP status as its class; `none` without an answer.
    HTTP_STATUS_CLASS = "http_response_status_class";
    /// The host called.
    SERVER_ADDRESS = "server_address";
    /// The path called, ids replaced by their names.
    URL_TEMPLATE = "url_template";
    /// Which of our ports.
    LISTENER = "listener";
    /// Why something happened; of an answer and of a parked number, as in errors.
    REASON = "reason";
    /// How something ended.
    OUTCOME = "outcome";
    /// The type of message sent, such as `template`; `other` for one that only `raw` knows.
    MESSAGE_TYPE = "type";
    /// What became of a message, by Meta's word.
    STATUS = "status";
    /// The reason that errors of this kind are given to callers with.
    ERROR_CLASS = "class";
    /// Which right of the caller is used up.
    QUOTA = "quota";
    /// How users judge the messages of a number, by Meta's word.
    QUALITY = "quality";
    /// Which files.
    PART = "part";
    /// The version of this program.
    VERSION = "version";
}

/// The value of a gauge whose subject is gone. No scrape shows it.
pub const GONE: f64 = f64::NAN;

/// The words of Meta's that move a message (reference 4.4.2).
pub const STATUSES: &[&str] = &["sent", "delivered", "read", "played", "failed"];
/// The qualities of a number (reference 2.5); whatever else Meta says is `unknown`.
pub const QUALITIES: &[&str] = &["green", "yellow", "red", "unknown"];
