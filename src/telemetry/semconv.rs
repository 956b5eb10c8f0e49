//! Spans as the semantic conventions of OpenTelemetry describe them, version 1.44: names, kinds, attributes, status.
//!
//! All that is pinned stands here. What an attribute says is a word of ours, a configured id, a number: never content, a
//! recipient, a message id (it is a phone number in base64) or a token. Spans of our own work inside a trace are made where
//! the work is; their attributes are listed here too ([`OWN_ATTRIBUTES`]).

use opentelemetry::KeyValue;
use opentelemetry::trace::{SpanRef, Status, TraceContextExt};
use tracing::field::Empty;
use tracing::{Span, debug_span, info_span};
use tracing_opentelemetry::OpenTelemetrySpanExt;

use super::log_level::is_unseen;
use super::propagation::{TraceContext, begin_trace, link};

/// Names the version of the conventions.
pub const SCHEMA_URL: &str = "https://opentelemetry.io/schemas/1.44.0";

/// Always `grpc`.
pub const RPC_SYSTEM_NAME: &str = "rpc.system.name";
/// `package.Service/Method`, or `_OTHER`.
pub const RPC_METHOD: &str = "rpc.method";
/// The gRPC status as a word.
pub const RPC_STATUS_CODE: &str = "rpc.response.status_code";
/// Why a span is an error: a status, or a word of ours. Absent when it is none.
pub const ERROR_TYPE: &str = "error.type";
/// The HTTP method, `_OTHER` if it is not a known one.
pub const HTTP_METHOD: &str = "http.request.method";
/// Which of our routes.
pub const HTTP_ROUTE: &str = "http.route";
/// The HTTP status, a number.
pub const HTTP_STATUS_CODE: &str = "http.response.status_code";
/// `http` or `https`, as our port is spoken to.
pub const URL_SCHEME: &str = "url.scheme";
/// The path of our route, as configured.
pub const URL_PATH: &str = "url.path";
/// The path called, ids replaced by their names.
pub const URL_TEMPLATE: &str = "url.template";
/// The whole URL called. The conventions let secrets be left out; here ids and the query are, as in the template.
pub const URL_FULL: &str = "url.full";
/// The host called.
pub const SERVER_ADDRESS: &str = "server.address";
/// Its port.
pub const SERVER_PORT: &str = "server.port";
/// Always `whatsapp_gateway`: the stream of events.
pub const MESSAGING_SYSTEM: &str = "messaging.system";
/// Always `create`: an event comes into being.
pub const MESSAGING_OPERATION_NAME: &str = "messaging.operation.name";
/// As the name.
pub const MESSAGING_OPERATION_TYPE: &str = "messaging.operation.type";
/// The type of the event.
pub const MESSAGING_DESTINATION: &str = "messaging.destination.name";

/// Attributes that no convention knows, of the spans that are made elsewhere too.
pub const OWN_ATTRIBUTES: [&str; 13] = [
    "caller",
    "client.id",
    "media.mime_type",
    "media.size_bytes",
    "message.kind",
    "message.status",
    "meta.code",
    "meta.fbtrace_id",
    "phone_number.id",
    "send.tag",
    "stream.id",
    "template.action",
    "waba.id",
];

/// The type of event whose span has a link.
const STATUS_EVENT: &str = "whatsapp.message.status";

/// What log lines need not repeat.
pub(super) fn is_for_export(field: &str) -> bool {
    field.starts_with("otel.")
        || field.starts_with("messaging.")
        || matches!(field, RPC_SYSTEM_NAME | URL_SCHEME | URL_PATH)
}

/// A call of our API, in the trace of its caller.
pub fn rpc_server(method: &'static str, caller: Option<&TraceContext>) -> Span {
    let span = info_span!(
        "rpc.server",
        otel.name = method,
        otel.kind = "server",
        { RPC_SYSTEM_NAME } = "grpc",
        { RPC_METHOD } = method,
        { RPC_STATUS_CODE } = Empty,
        trace_id = Empty,
    );
    begin_trace(&span, caller);
    span
}

/// One request of a stream that is a call of its own in all but name, in the trace that the request names.
pub fn rpc_stream_request(method: &'static str, caller: Option<&TraceContext>) -> Span {
    let span = info_span!(
        parent: None,
        "rpc.request",
        otel.name = format_args!("{method} request"),
        otel.kind = "consumer",
        { RPC_SYSTEM_NAME } = "grpc",
        { RPC_METHOD } = method,
        { RPC_STATUS_CODE } = Empty,
        trace_id = Empty,
    );
    begin_trace(&span, caller);
    span
}

/// How such a call ended, as a word. Only what is our fault is an error: a caller's bad request is not.
pub fn rpc_ended(span: &Span, status: &'static str) {
    span.record(RPC_STATUS_CODE, status);
    let is_error = matches!(
        status,
        "UNKNOWN" | "DEADLINE_EXCEEDED" | "UNIMPLEMENTED" | "INTERNAL" | "UNAVAILABLE" | "DATA_LOSS"
    );
    if is_error {
        if_exported(span, |span| fail(&span, status));
    }
}

/// A request to one of our HTTP ports. `method` is a known one or `_OTHER`; `path` that of the route.
pub fn http_server(method: &'static str, route: &'static str, path: &str) -> Span {
    let span = info_span!(
        "http.server",
        otel.kind = "server",
        { HTTP_ROUTE } = route,
        { HTTP_METHOD } = method,
        { HTTP_STATUS_CODE } = Empty,
    );
    if_exported(&span, |span| {
        let method = if method == "_OTHER" { "HTTP" } else { method };
        span.update_name(format!("{method} {path}"));
        span.set_attribute(KeyValue::new(URL_PATH, path.to_owned()));
        span.set_attribute(KeyValue::new(URL_SCHEME, "http"));
    });
    span
}

/// How it ended. What the other side did wrong is no error of ours.
pub fn http_server_ended(span: &Span, status: u16) {
    span.record(HTTP_STATUS_CODE, status);
    if status >= 500 {
        if_exported(span, |span| fail(&span, status.to_string()));
    }
}

/// A request to Meta. For traces; log lines within it say what they are about by themselves.
pub fn http_client(method: &str, template: &'static str) -> Span {
    if is_unseen() {
        return Span::none();
    }
    debug_span!(
        "cloud_api.request",
        otel.kind = "client",
        { URL_TEMPLATE } = template,
        { HTTP_METHOD } = method,
        { HTTP_STATUS_CODE } = Empty,
        meta.code = Empty,
        meta.fbtrace_id = Empty,
    )
}

/// Where a request went to and how it ended; without an answer, why.
#[derive(Debug, Clone, Copy)]
pub struct HttpClientEnd<'a> {
    /// The method.
    pub method: &'a str,
    /// Scheme, host and what stands before the template.
    pub base: &'a url::Url,
    /// The path, ids replaced by their names.
    pub template: &'static str,
    /// The status of the answer.
    pub status: Option<u16>,
    /// Why there was none, in a word.
    pub error: Option<&'static str>,
}

/// How a request to Meta ended. Every status from 400 on is an error, and so is the lack of one.
pub fn http_client_ended(span: &Span, end: HttpClientEnd<'_>) {
    let HttpClientEnd { method, base, template, status, error } = end;
    if let Some(status) = status {
        span.record(HTTP_STATUS_CODE, status);
    }
    if_exported(span, |span| {
        span.update_name(format!("{method} {template}"));
        let address = base.host_str().unwrap_or_default().to_owned();
        span.set_attribute(KeyValue::new(SERVER_ADDRESS, address));
        if let Some(port) = base.port_or_known_default() {
            span.set_attribute(KeyValue::new(SERVER_PORT, i64::from(port)));
        }
        let full = format!("{}{template}", base.as_str().trim_end_matches('/'));
        span.set_attribute(KeyValue::new(URL_FULL, full));
        match (status, error) {
            (Some(status), _) if status >= 400 => fail(&span, status.to_string()),
            (_, Some(error)) => fail(&span, error),
            (_, None) => {}
        }
    });
}

/// The event of a status comes into being: linked to the send that it goes back to, in the trace of its webhook if that
/// is exported, else in one of its own.
pub fn status_event(status: &str, phone_number_id: &str, origin: &TraceContext) -> Span {
    let is_in_trace = TraceContext::current().is_some_and(|webhook| webhook.is_sampled());
    let above = if is_in_trace { Span::current().id() } else { None };
    let span = info_span!(
        parent: above,
        "event.create",
        otel.name = format_args!("create {STATUS_EVENT}"),
        otel.kind = "producer",
        { MESSAGING_SYSTEM } = "whatsapp_gateway",
        { MESSAGING_OPERATION_NAME } = "create",
        { MESSAGING_OPERATION_TYPE } = "create",
        { MESSAGING_DESTINATION } = STATUS_EVENT,
        message.status = status,
        phone_number.id = phone_number_id,
    );
    link(&span, origin);
    span
}

fn fail(span: &SpanRef<'_>, error_type: impl Into<opentelemetry::Value>) {
    span.set_attribute(KeyValue::new(ERROR_TYPE, error_type));
    span.set_status(Status::error(""));
}

/// What only those see who look at traces costs nothing where there are none.
fn if_exported(span: &Span, note: impl FnOnce(SpanRef<'_>)) {
    let context = span.context();
    let span = context.span();
    if span.span_context().is_sampled() {
        note(span);
    }
}
