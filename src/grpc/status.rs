//! The only place that builds a status: every error of a flow → code, one reason, details.
//!
//! Three rules stand above the rest (see `ARCHITECTURE.md`): `UNAVAILABLE` means certainly not done; what may have gone
//! out is `UNKNOWN`; Meta refusing our own credentials is never the caller's `UNAUTHENTICATED`.

pub(super) mod queue;
pub(super) mod relay;
mod requests;
mod subscriptions;

use std::collections::HashMap;
use std::time::Duration;

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use crate::domain::failure::{Actor, Class, Failure, FieldViolation, MetaError, Reason};
use crate::domain::media::Refusal;
use crate::domain::rights::Forbidden;
use crate::flows::deliver_events::{End, StartError};
use crate::flows::{
    conversations, download_media, failed_call, follow_message, numbers, upload_media, window,
};

use super::{callers, quotas};

pub(super) use relay::no_leader;

/// The domain of every `ErrorInfo`.
const DOMAIN: &str = "whatsapp-gateway";
/// Where the window rule is explained.
const WINDOW_HELP: &str = "Outside the window only templates may be sent";
const WINDOW_HELP_URL: &str =
    "https://developers.facebook.com/docs/whatsapp/cloud-api/guides/send-message-templates";
/// What a client that may try again should wait when nothing else is known.
const RETRY_DELAY: Duration = Duration::from_secs(1);
/// Bytes of a message, and of all listed violations. A status travels in headers, the message twice; clients accept 8 KiB
/// of them, and some cut the whole connection when there are more.
const MESSAGE_BYTES_MAX: usize = 1024;
const VIOLATIONS_BYTES_MAX: usize = 2048;
/// Bytes of the path, and of the rule, of one violation: both may quote what the caller wrote.
const VIOLATION_TEXT_BYTES_MAX: usize = 256;

/// A status in the making.
struct Draft {
    code: Code,
    reason: Reason,
    message: String,
    metadata: HashMap<String, String>,
    details: ErrorDetails,
}

impl Draft {
    fn new(code: Code, reason: Reason, message: impl Into<String>) -> Self {
        let (metadata, details) = (HashMap::new(), ErrorDetails::new());
        Self { code, reason, message: bounded(message.into(), MESSAGE_BYTES_MAX), metadata, details }
    }

    fn actor(self, actor: Actor) -> Self {
        self.with("actor", actor.as_str())
    }

    fn with(mut self, key: &str, value: impl Into<String>) -> Self {
        self.metadata.insert(key.to_owned(), value.into());
        self
    }

    /// From where to go on; subscriptions know themselves.
    fn resuming(self, cursor: String) -> Self {
        if cursor.is_empty() { self } else { self.with("resume_cursor", cursor) }
    }

    fn retry_after(mut self, delay: Option<Duration>) -> Self {
        if delay.is_some() {
            self.details.set_retry_info(delay);
        }
        self
    }

    fn build(mut self) -> Status {
        self.details.set_error_info(self.reason.as_str(), DOMAIN, self.metadata);
        Status::with_error_details(self.code, self.message, self.details)
    }
}

/// The reason of a status that was built here; what has none is a defect.
pub(super) fn reason(status: &Status) -> Reason {
    let info = status.get_details_error_info();
    info.and_then(|info| Reason::named(&info.reason)).unwrap_or(Reason::Internal)
}

/// The list of rights that a status says to have refused; `None` if it is about something else.
pub(super) fn right(status: &Status) -> Option<String> {
    status.get_details_error_info()?.metadata.remove("right")
}

/// One or more fields break a rule.
pub(super) fn invalid(violations: Vec<FieldViolation>) -> Status {
    violated(Reason::ValidationFailed, violations).actor(Actor::Caller).build()
}

/// Lists as many violations as fit, and says how many more there are.
fn violated(reason: Reason, violations: Vec<FieldViolation>) -> Draft {
    let (count, mut bytes, mut listed) = (violations.len(), 0, Vec::new());
    for FieldViolation { field, description } in violations {
        let field = bounded(field, VIOLATION_TEXT_BYTES_MAX);
        let description = bounded(description, VIOLATION_TEXT_BYTES_MAX);
        bytes += field.len() + description.len();
        if bytes > VIOLATIONS_BYTES_MAX {
            break;
        }
        listed.push((field, description));
    }
    let rules: Vec<String> = listed.iter().map(|(field, rule)| format!("{field} {rule}")).collect();
    let mut draft = Draft::new(Code::InvalidArgument, reason, rules.join("; "));
    if let more @ 1.. = count - listed.len() {
        draft.message = format!("{}; and {more} more violations", draft.message);
    }
    for (field, description) in listed {
        draft.details.add_bad_request_violation(field, description);
    }
    draft
}

/// The text, cut where it is longer than `bytes_max`.
fn bounded(mut text: String, bytes_max: usize) -> String {
    if text.len() > bytes_max {
        text.truncate(text.floor_char_boundary(bytes_max));
        text.push('…');
    }
    text
}

/// Nobody is known to call.
pub(super) fn unauthenticated(error: &callers::Error) -> Status {
    Draft::new(Code::Unauthenticated, Reason::CallerUnauthenticated, error.to_string())
        .with("cause", error.cause())
        .actor(error.actor())
        .build()
}

/// No such method.
pub(super) fn method_unknown() -> Status {
    let message = "this gateway has no such method; is it older than the client?";
    Draft::new(Code::Unimplemented, Reason::MethodUnknown, message).actor(Actor::Caller).build()
}

impl From<Forbidden> for Status {
    fn from(forbidden: Forbidden) -> Self {
        Draft::new(Code::PermissionDenied, Reason::CallerNotAllowed, forbidden.to_string())
            .with("right", forbidden.list)
            .actor(Actor::Operator)
            .build()
    }
}

impl From<quotas::Exceeded> for Status {
    fn from(exceeded: quotas::Exceeded) -> Self {
        use quotas::Exceeded as E;
        let message = exceeded.to_string();
        let (subject, retry_after) = match exceeded {
            E::Sends { retry_after, .. } => ("sends", retry_after),
            E::Streams { .. } => ("streams", RETRY_DELAY),
        };
        let mut draft = Draft::new(Code::ResourceExhausted, Reason::CallerQuota, message.clone());
        draft.details.add_quota_failure_violation(subject, message);
        draft.retry_after(Some(retry_after)).actor(Actor::Caller).build()
    }
}

/// The request stopped coming.
pub(super) fn request_incomplete() -> Status {
    let message = "the request did not arrive whole; nothing was done";
    Draft::new(Code::Unavailable, Reason::RequestIncomplete, message).actor(Actor::Caller).build()
}

/// Health and reflection are open to everyone, and so have places for each connection.
pub(super) fn too_many_guests() -> Status {
    let message = "too many open calls of health or reflection; close some, or the connection";
    let mut draft = Draft::new(Code::ResourceExhausted, Reason::StreamQuota, message);
    draft.details.add_quota_failure_violation("streams", message);
    draft.retry_after(Some(RETRY_DELAY)).actor(Actor::Caller).build()
}

/// What tonic refused before a handler saw it, in the words of the contract. All of it is about the request.
pub(super) fn adopted(foreign: &Status, request_bytes_max: usize) -> Status {
    let unreadable = |code, rule: String| {
        let mut draft = Draft::new(code, Reason::ValidationFailed, rule.as_str());
        // Without a path: it is about the request as a whole.
        draft.details.add_bad_request_violation("", bounded(rule, VIOLATION_TEXT_BYTES_MAX));
        draft.actor(Actor::Caller).build()
    };
    match foreign.code() {
        Code::OutOfRange => {
            let limit = format!("the request must not be larger than {request_bytes_max} bytes");
            unreadable(Code::InvalidArgument, format!("{limit} (grpc.message_bytes_max)"))
        }
        Code::Internal => {
            unreadable(Code::InvalidArgument, format!("the request cannot be read: {}", foreign.message()))
        }
        Code::Unimplemented if foreign.message().is_empty() => method_unknown(),
        // A compression: the protocol wants this code. tonic's words repeat the header.
        Code::Unimplemented => {
            let rule = "the compression that grpc-encoding names is not supported; send without";
            unreadable(Code::Unimplemented, rule.to_owned())
        }
        Code::Ok
        | Code::Cancelled
        | Code::Unknown
        | Code::InvalidArgument
        | Code::DeadlineExceeded
        | Code::NotFound
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::ResourceExhausted
        | Code::FailedPrecondition
        | Code::Aborted
        | Code::Unavailable
        | Code::DataLoss
        | Code::Unauthenticated => request_incomplete(),
    }
}

/// The text is no cursor.
pub(super) fn malformed_cursor(description: &str) -> Status {
    let mut draft = Draft::new(Code::InvalidArgument, Reason::CursorMalformed, description);
    draft.details.add_bad_request_violation("after_cursor", description);
    draft.actor(Actor::Caller).build()
}

impl From<numbers::Error> for Status {
    fn from(error: numbers::Error) -> Self {
        let message = error.to_string();
        match error {
            numbers::Error::Ambiguous { field, .. } => {
                invalid(vec![FieldViolation { field: field.to_owned(), description: message }])
            }
            numbers::Error::Forbidden(forbidden) => forbidden.into(),
            numbers::Error::NumberNotConfigured(_) => {
                Draft::new(Code::NotFound, Reason::PhoneNumberNotConfigured, message)
                    .actor(Actor::Caller)
                    .build()
            }
            numbers::Error::WabaNotConfigured(_) => {
                Draft::new(Code::NotFound, Reason::WabaNotConfigured, message).actor(Actor::Caller).build()
            }
        }
    }
}

impl From<window::Closed> for Status {
    fn from(closed: window::Closed) -> Self {
        let (message, reason) = (closed.to_string(), Reason::WindowClosed);
        let mut draft = Draft::new(Code::FailedPrecondition, reason, message.clone());
        let subject = "customer service window";
        draft.details.add_precondition_failure_violation(reason.as_str(), subject, message);
        draft.details.add_help_link(WINDOW_HELP, WINDOW_HELP_URL);
        if let Some(since) = closed.since {
            draft = draft.with("closed_at", prost_types::Timestamp::from(since).to_string());
        }
        draft.actor(Actor::Caller).build()
    }
}

impl From<conversations::Error> for Status {
    fn from(error: conversations::Error) -> Self {
        let message = error.to_string();
        match error {
            conversations::Error::NotFound => {
                Draft::new(Code::NotFound, Reason::ConversationNotFound, message).actor(Actor::Caller)
            }
            conversations::Error::State(_) => store_unavailable(None),
        }
        .build()
    }
}

impl From<failed_call::Error> for Status {
    fn from(error: failed_call::Error) -> Self {
        match error {
            failed_call::Error::Number(error) => error.into(),
            failed_call::Error::Failed(failure) => failed(*failure).build(),
        }
    }
}

impl From<upload_media::Error> for Status {
    fn from(error: upload_media::Error) -> Self {
        use upload_media::Error as E;
        let message = error.to_string();
        match error {
            E::Refused(Refusal::TypeUnsupported { .. }) => {
                header_field(Reason::MediaTypeUnsupported, "header.mime_type", message)
            }
            E::Refused(Refusal::TooLarge { bytes_max, .. }) => {
                header_field(Reason::MediaTooLarge, "header.size_bytes", message)
                    .with("size_bytes_max", bytes_max.to_string())
            }
            E::SizeMismatch { .. } => header_field(Reason::MediaSizeMismatch, "header.size_bytes", message),
            E::ChecksumMismatch { .. } => {
                header_field(Reason::MediaChecksumMismatch, "header.sha256", message)
            }
            E::Invalid(violation) => return invalid(vec![violation]),
            E::Stalled(_) => aborted(Reason::MediaStreamStalled, message),
            E::Broken(_) => aborted(Reason::MediaStreamBroken, message),
            E::TooManyTransfers => too_many_transfers(message),
            E::Request(error) => return requests::of_request(&error, "header.request_id"),
            E::Call(error) => return error.into(),
        }
        .build()
    }
}

impl From<download_media::Error> for Status {
    fn from(error: download_media::Error) -> Self {
        use download_media::Error as E;
        let message = error.to_string();
        match error {
            E::TooManyTransfers => too_many_transfers(message),
            E::RangeInvalid { size_bytes, .. } => {
                Draft::new(Code::OutOfRange, Reason::MediaRangeInvalid, message)
                    .with("size_bytes", size_bytes.to_string())
                    .actor(Actor::Caller)
            }
            E::Stalled(_) => aborted(Reason::MediaStreamStalled, message),
            E::Damaged { .. } => {
                Draft::new(Code::DataLoss, Reason::MediaChecksumMismatch, message).actor(Actor::Meta)
            }
            E::Call(error) => return error.into(),
        }
        .build()
    }
}

impl From<follow_message::Error> for Status {
    fn from(error: follow_message::Error) -> Self {
        use follow_message::Error as E;
        let message = error.to_string();
        match error {
            E::NotFound { .. } | E::RequestNotFound { .. } | E::OtherNumber { .. } => {
                Draft::new(Code::NotFound, Reason::MessageNotFound, message).actor(Actor::Caller)
            }
            E::TooManyWatches { .. } => {
                let mut draft = Draft::new(Code::ResourceExhausted, Reason::StreamQuota, message.clone());
                draft.details.add_quota_failure_violation("watches", message);
                draft.retry_after(Some(RETRY_DELAY)).actor(Actor::Caller)
            }
            E::Draining => draining(None),
            E::Rotated => Draft::new(Code::Unavailable, Reason::StreamRotated, message)
                .retry_after(Some(Duration::ZERO)),
            E::Unreadable(_) => store_unavailable(None),
        }
        .build()
    }
}

/// A field of an upload's header that does not fit what Meta takes or what came.
fn header_field(reason: Reason, field: &str, message: String) -> Draft {
    let mut draft = Draft::new(Code::InvalidArgument, reason, message.clone());
    draft.details.add_bad_request_violation(field, message);
    draft.actor(Actor::Caller)
}

fn aborted(reason: Reason, message: String) -> Draft {
    Draft::new(Code::Aborted, reason, message).actor(Actor::Caller)
}

fn too_many_transfers(message: String) -> Draft {
    let mut draft = Draft::new(Code::ResourceExhausted, Reason::StreamQuota, message.clone());
    draft.details.add_quota_failure_violation("transfers", message);
    draft.retry_after(Some(RETRY_DELAY)).actor(Actor::Caller)
}

impl From<StartError> for Status {
    fn from(error: StartError) -> Self {
        let message = error.to_string();
        match error {
            StartError::EpochMismatch { earliest_cursor, latest_cursor } => {
                Draft::new(Code::FailedPrecondition, Reason::CursorEpochMismatch, message)
                    .with("earliest_cursor", earliest_cursor)
                    .with("latest_cursor", latest_cursor)
                    .actor(Actor::Caller)
            }
            StartError::AheadOfLog { earliest_cursor, latest_cursor } => {
                Draft::new(Code::FailedPrecondition, Reason::CursorAheadOfLog, message)
                    .with("earliest_cursor", earliest_cursor)
                    .with("latest_cursor", latest_cursor)
                    .actor(Actor::Caller)
            }
            StartError::Expired { earliest_cursor, missing } => expired(earliest_cursor, missing),
            StartError::TooManyStreams { streams_max } => {
                let mut draft = Draft::new(Code::ResourceExhausted, Reason::StreamQuota, message);
                draft
                    .details
                    .add_quota_failure_violation("streams", format!("at most {streams_max} open streams"));
                draft.retry_after(Some(RETRY_DELAY)).actor(Actor::Caller)
            }
            StartError::Draining => draining(None),
            StartError::Unreadable(_) => store_unavailable(None),
        }
        .build()
    }
}

/// The status of a stream's end; `None` for an end that was asked for.
pub(super) fn stream_end(end: End) -> Option<Status> {
    let draft = match end {
        End::CaughtUp => return None,
        End::Draining { resume_cursor } => draining(Some(resume_cursor)),
        End::Rotated { resume_cursor } => Draft::new(
            Code::Unavailable,
            Reason::StreamRotated,
            "the stream has lived its time; open it again",
        )
        .resuming(resume_cursor)
        .retry_after(Some(Duration::ZERO)),
        End::SlowConsumer { resume_cursor } => {
            let message = "the subscriber did not read in time; resume with resume_cursor and read faster, or use \
                           one connection per subscription";
            Draft::new(Code::ResourceExhausted, Reason::SlowConsumer, message)
                .resuming(resume_cursor)
                .retry_after(Some(RETRY_DELAY))
                .actor(Actor::Caller)
        }
        End::Expired { earliest_cursor, missing } => expired(earliest_cursor, missing),
        End::Unreadable { resume_cursor } => store_unavailable(Some(resume_cursor)),
        End::TakenOver => subscriptions::taken_over(),
        End::Deleted => subscriptions::deleted(),
        End::NotLeading => relay::not_leading(),
    };
    Some(draft.build())
}

/// A stream that ended without a word: the task behind it was cut off.
pub(super) fn stream_cut() -> Status {
    draining(None).build()
}

/// A defect; the cause is in the log.
pub(super) fn internal() -> Status {
    let message = "the gateway failed; its log has the cause";
    Draft::new(Code::Internal, Reason::Internal, message).actor(Actor::Operator).build()
}

fn draining(resume_cursor: Option<String>) -> Draft {
    let message = "the gateway is shutting down; try again, the next one answers";
    let draft = Draft::new(Code::Unavailable, Reason::ServerDraining, message).retry_after(Some(RETRY_DELAY));
    draft.resuming(resume_cursor.unwrap_or_default())
}

fn store_unavailable(resume_cursor: Option<String>) -> Draft {
    let message = "the event log cannot be read at this moment";
    let draft = Draft::new(Code::Unavailable, Reason::EventStoreUnavailable, message);
    let draft = draft.retry_after(Some(RETRY_DELAY)).actor(Actor::Operator);
    draft.resuming(resume_cursor.unwrap_or_default())
}

fn expired(earliest_cursor: String, missing: u64) -> Draft {
    let message = format!("{missing} events after the cursor were removed by retention");
    Draft::new(Code::OutOfRange, Reason::CursorExpired, message)
        .with("earliest_cursor", earliest_cursor)
        .with("missing_estimate", missing.to_string())
        .actor(Actor::Caller)
}

fn failed(failure: Failure) -> Draft {
    let Failure { verdict, message, meta, field } = failure;
    let mut draft = Draft::new(code(verdict.class), verdict.reason, message)
        .actor(verdict.actor)
        .retry_after(verdict.retry.delay());
    if let Some(MetaError { code, subcode, fbtrace_id, .. }) = meta {
        let number = |n: Option<i64>| n.map(|n| n.to_string());
        let known = [
            ("meta_code", number(code)),
            ("meta_subcode", number(subcode)),
            ("fbtrace_id", Some(fbtrace_id)),
        ];
        for (key, value) in known {
            if let Some(value) = value.filter(|value| !value.is_empty()) {
                draft = draft.with(key, value);
            }
        }
    }
    if let Some(field) = field.filter(|_| draft.code == Code::InvalidArgument) {
        draft
            .details
            .add_bad_request_violation(field, bounded(draft.message.clone(), VIOLATION_TEXT_BYTES_MAX));
    }
    explain(draft)
}

/// Details that belong to a reason.
fn explain(mut draft: Draft) -> Draft {
    let (message, reason) = (draft.message.clone(), draft.reason.as_str());
    if draft.code == Code::FailedPrecondition {
        draft.details.add_precondition_failure_violation(reason, "Cloud API", message);
    } else if draft.code == Code::ResourceExhausted {
        draft.details.add_quota_failure_violation(reason, message);
    }
    if draft.reason == Reason::WindowClosed {
        draft.details.add_help_link(WINDOW_HELP, WINDOW_HELP_URL);
    }
    draft
}

fn code(class: Class) -> Code {
    match class {
        Class::InvalidArgument => Code::InvalidArgument,
        Class::NotFound => Code::NotFound,
        Class::AlreadyExists => Code::AlreadyExists,
        Class::FailedPrecondition => Code::FailedPrecondition,
        Class::PermissionDenied => Code::PermissionDenied,
        Class::ResourceExhausted => Code::ResourceExhausted,
        Class::Aborted => Code::Aborted,
        Class::OutOfRange => Code::OutOfRange,
        Class::Unimplemented => Code::Unimplemented,
        Class::Unavailable => Code::Unavailable,
        Class::Unknown => Code::Unknown,
        Class::DataLoss => Code::DataLoss,
        Class::Internal => Code::Internal,
    }
}

#[cfg(test)]
mod tests;
