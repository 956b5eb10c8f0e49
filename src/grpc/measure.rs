//! Every call measured: its name, its span, its duration and how it ended.

use futures_util::FutureExt;
use metrics::{counter, histogram};
use tokio::time::Instant;
use tonic::{Code, Request, Status};
use tracing::Instrument;

use crate::telemetry::{TraceContext, exemplified, in_trace, names, semconv};

use super::{rights, status};

pub(super) const SEND_MESSAGE: &str = "whatsapp.gateway.v1.GatewayService/SendMessage";
pub(super) const SEND_MESSAGES: &str = "whatsapp.gateway.v1.GatewayService/SendMessages";
pub(super) const GET_CONVERSATION: &str = "whatsapp.gateway.v1.GatewayService/GetConversation";
pub(super) const MARK_MESSAGE_READ: &str = "whatsapp.gateway.v1.GatewayService/MarkMessageRead";
pub(super) const MANAGE_TEMPLATE: &str = "whatsapp.gateway.v1.GatewayService/ManageTemplate";
pub(super) const GET_MESSAGE: &str = "whatsapp.gateway.v1.GatewayService/GetMessage";
pub(super) const WATCH_MESSAGE: &str = "whatsapp.gateway.v1.GatewayService/WatchMessage";
pub(super) const UPLOAD_MEDIA: &str = "whatsapp.gateway.v1.GatewayService/UploadMedia";
pub(super) const DOWNLOAD_MEDIA: &str = "whatsapp.gateway.v1.GatewayService/DownloadMedia";
pub(super) const GET_MEDIA: &str = "whatsapp.gateway.v1.GatewayService/GetMedia";
pub(super) const DELETE_MEDIA: &str = "whatsapp.gateway.v1.GatewayService/DeleteMedia";
pub(super) const SUBSCRIBE_EVENTS: &str = "whatsapp.gateway.v1.GatewayService/SubscribeEvents";
pub(super) const ACKNOWLEDGE_EVENTS: &str = "whatsapp.gateway.v1.GatewayService/AcknowledgeEvents";
pub(super) const CREATE_SUBSCRIPTION: &str = "whatsapp.gateway.v1.SubscriptionService/CreateSubscription";
pub(super) const GET_SUBSCRIPTION: &str = "whatsapp.gateway.v1.SubscriptionService/GetSubscription";
pub(super) const LIST_SUBSCRIPTIONS: &str = "whatsapp.gateway.v1.SubscriptionService/ListSubscriptions";
pub(super) const UPDATE_SUBSCRIPTION: &str = "whatsapp.gateway.v1.SubscriptionService/UpdateSubscription";
pub(super) const DELETE_SUBSCRIPTION: &str = "whatsapp.gateway.v1.SubscriptionService/DeleteSubscription";
pub(super) const SEEK_SUBSCRIPTION: &str = "whatsapp.gateway.v1.SubscriptionService/SeekSubscription";
pub(super) const LIST_PARKED_EVENTS: &str = "whatsapp.gateway.v1.SubscriptionService/ListParkedEvents";
pub(super) const REPLAY_PARKED_EVENTS: &str = "whatsapp.gateway.v1.SubscriptionService/ReplayParkedEvents";
pub(super) const DROP_PARKED_EVENTS: &str = "whatsapp.gateway.v1.SubscriptionService/DropParkedEvents";
pub(super) const WHO_AM_I: &str = "whatsapp.gateway.v1.GatewayService/WhoAmI";
/// What a path is called that is no method of ours.
pub(super) const OTHER: &str = "_OTHER";

/// The name of a method, and of its action, as rights and the audit log write it.
pub(super) fn short(method: &'static str) -> &'static str {
    method.split_once('/').map_or(method, |(_, name)| name)
}

/// The method of a path, as metrics and traces write it.
pub(super) fn method(path: &str) -> &'static str {
    let known = [
        SEND_MESSAGE,
        SEND_MESSAGES,
        GET_CONVERSATION,
        MARK_MESSAGE_READ,
        GET_MESSAGE,
        WATCH_MESSAGE,
        MANAGE_TEMPLATE,
        UPLOAD_MEDIA,
        DOWNLOAD_MEDIA,
        GET_MEDIA,
        DELETE_MEDIA,
        SUBSCRIBE_EVENTS,
        ACKNOWLEDGE_EVENTS,
        CREATE_SUBSCRIPTION,
        GET_SUBSCRIPTION,
        LIST_SUBSCRIPTIONS,
        UPDATE_SUBSCRIPTION,
        DELETE_SUBSCRIPTION,
        SEEK_SUBSCRIPTION,
        LIST_PARKED_EVENTS,
        REPLAY_PARKED_EVENTS,
        DROP_PARKED_EVENTS,
        WHO_AM_I,
    ];
    let name = path.trim_start_matches('/');
    known.into_iter().find(|method| *method == name).unwrap_or(OTHER)
}

/// Runs one call in its span, and measures it. No `async fn`, which would hold the call twice: it is large.
pub(super) fn measured<T, R>(
    method: &'static str,
    request: &Request<T>,
    call: impl Future<Output = Result<R, Status>>,
) -> impl Future<Output = Result<R, Status>> {
    let caller = TraceContext::extract(request.metadata().as_ref());
    in_trace(caller.as_ref(), || {
        let span = semconv::rpc_server(method, caller.as_ref());
        let started = Instant::now();
        call.instrument(span.clone()).map(move |result| {
            let code = result.as_ref().err().map_or(Code::Ok, Status::code);
            semconv::rpc_ended(&span, word(code));
            let trace = exemplified(&span, || record_duration(method, code, started));
            // Of what is not exported there is nothing to note.
            if trace.is_some()
                && let Ok(who) = rights::who(request)
            {
                who.note(|facts| facts.trace = trace);
            }
            result
        })
    })
}

/// Records how long a call took. The gate measures those that never reach a handler.
pub(super) fn record_duration(method: &'static str, code: Code, started: Instant) {
    histogram!(
        names::RPC_SERVER_CALL_DURATION,
        names::RPC_METHOD => method,
        names::RPC_STATUS => word(code),
    )
    .record(started.elapsed());
}

/// Counts how a caller was answered about a message.
pub(super) fn answered<T>(answer: &Result<T, Status>) {
    let reason = answer.as_ref().err().map_or("OK", |status| status::reason(status).as_str());
    counter!(names::SEND_ANSWERS, names::REASON => reason).increment(1);
}

/// The word of a status code, as metrics and traces write it.
pub(super) fn word(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}
