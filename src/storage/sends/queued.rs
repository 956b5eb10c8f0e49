//! A message that waits for its turn, as it is kept.

use std::time::{Duration, SystemTime};

use prost::Message;

use super::Resend;
use super::values::{PreparedValue, prepared_of_value, prepared_to_value};
use crate::clock::unix_ms;
use crate::domain::caller::Caller;
use crate::domain::message::PreparedMessage;
use crate::domain::schedule::Class;
use crate::domain::window::WindowPolicy;
use crate::telemetry::TraceContext;

/// A queued message, with all that a later process needs to send it and to report on it.
#[derive(Debug, Clone, PartialEq)]
pub struct QueuedSend {
    /// The id under which it was queued, as the caller wrote it.
    pub request_id: String,
    /// Who queued it.
    pub caller: Caller,
    /// How pressing it is.
    pub class: Class,
    /// From when on it may be sent.
    pub not_before: Option<SystemTime>,
    /// Until when it may be sent.
    pub not_after: SystemTime,
    /// The message.
    pub message: PreparedMessage,
    /// Its type, for metrics.
    pub kind: String,
    /// What to do when the window is closed; `None` if it needs none.
    pub window_policy: Option<WindowPolicy>,
    /// The template that goes out when the window is closed.
    pub fallback: Option<PreparedMessage>,
    /// Whether it may be sent again when nobody knows its outcome.
    pub may_resend: bool,
    /// The caller's text, for the report.
    pub callback_data: String,
    /// The trace of the call that queued it, if there was one.
    pub trace: Option<TraceContext>,
}

impl QueuedSend {
    /// What to send again when nobody knows the outcome, if it may be.
    pub fn resend(&self, used_fallback: bool) -> Option<Resend> {
        let fallback = self.fallback.as_ref().filter(|_| used_fallback);
        let message = fallback.unwrap_or(&self.message).clone();
        self.may_resend.then_some(Resend { message, count: 0 })
    }
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct QueuedValue {
    #[prost(string, tag = "1")]
    request_id: String,
    #[prost(string, tag = "2")]
    caller: String,
    #[prost(uint32, tag = "3")]
    class: u32,
    #[prost(uint64, optional, tag = "4")]
    not_before_ms: Option<u64>,
    #[prost(uint64, tag = "5")]
    not_after_ms: u64,
    #[prost(message, required, tag = "6")]
    message: PreparedValue,
    #[prost(string, tag = "7")]
    kind: String,
    /// Absent for what needs no window.
    #[prost(uint32, optional, tag = "8")]
    window_policy: Option<u32>,
    #[prost(message, optional, tag = "9")]
    fallback: Option<PreparedValue>,
    #[prost(bool, tag = "10")]
    may_resend: bool,
    #[prost(string, tag = "11")]
    callback_data: String,
    /// Empty without one.
    #[prost(string, tag = "12")]
    traceparent: String,
}

const CLASSES: [(Class, u32); 3] = [(Class::Urgent, 1), (Class::Normal, 2), (Class::Bulk, 3)];
const POLICIES: [(WindowPolicy, u32); 2] = [(WindowPolicy::Enforce, 1), (WindowPolicy::Ignore, 2)];

pub(super) fn to_value(queued: &QueuedSend) -> QueuedValue {
    let policy = |policy| POLICIES.iter().find(|(known, _)| *known == policy).map(|(_, number)| *number);
    QueuedValue {
        request_id: queued.request_id.clone(),
        caller: queued.caller.name().to_owned(),
        class: CLASSES.iter().find(|(class, _)| *class == queued.class).map_or(0, |(_, number)| *number),
        not_before_ms: queued.not_before.map(unix_ms),
        not_after_ms: unix_ms(queued.not_after),
        message: prepared_to_value(&queued.message),
        kind: queued.kind.clone(),
        window_policy: queued.window_policy.and_then(policy),
        fallback: queued.fallback.as_ref().map(prepared_to_value),
        may_resend: queued.may_resend,
        callback_data: queued.callback_data.clone(),
        traceparent: queued.trace.as_ref().map(TraceContext::traceparent).unwrap_or_default(),
    }
}

/// `None` for what another version wrote.
pub(super) fn of_value(value: QueuedValue) -> Option<QueuedSend> {
    let policy = |number| POLICIES.iter().find(|(_, known)| *known == number).map(|(policy, _)| *policy);
    let window_policy = match value.window_policy {
        Some(number) => Some(policy(number)?),
        None => None,
    };
    let fallback = match value.fallback {
        Some(fallback) => Some(prepared_of_value(fallback)?),
        None => None,
    };
    Some(QueuedSend {
        request_id: value.request_id,
        caller: Caller::named(&value.caller),
        class: CLASSES.iter().find(|(_, number)| *number == value.class)?.0,
        not_before: value.not_before_ms.map(of_ms),
        not_after: of_ms(value.not_after_ms),
        message: prepared_of_value(value.message)?,
        kind: value.kind,
        window_policy,
        fallback,
        may_resend: value.may_resend,
        callback_data: value.callback_data,
        trace: TraceContext::parse(&value.traceparent),
    })
}

pub(super) fn of_ms(unix_ms: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_millis(unix_ms)
}
