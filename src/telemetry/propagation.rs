//! The trace context that comes with a request and goes on with an event (W3C Trace Context).
//!
//! It travels whether or not traces are exported: the gateway then hands on what the caller sent.

use http::HeaderMap;
use opentelemetry::Context;
use opentelemetry::trace::{SpanContext, SpanId, TraceContextExt, TraceFlags, TraceId, TraceState};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;

use super::traces::is_passed_over;

const TRACEPARENT: &str = "traceparent";
const TRACESTATE: &str = "tracestate";
/// The specification asks for at least 512 to be passed on, and allows more to be dropped.
const TRACESTATE_BYTES_MAX: usize = 512;

/// Where in a trace a request stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceContext {
    trace_id: TraceId,
    span_id: SpanId,
    flags: TraceFlags,
    state: TraceState,
}

impl TraceContext {
    /// The context in the headers of a request; `None` if there is none, or none that is valid.
    pub fn extract(headers: &HeaderMap) -> Option<Self> {
        let mut traceparents = headers.get_all(TRACEPARENT).iter();
        let only = traceparents.next().filter(|_| traceparents.next().is_none())?;
        let context = Self::parse(only.to_str().ok()?)?;
        let state = headers.get(TRACESTATE).and_then(|state| state.to_str().ok());
        let state =
            state.filter(|state| state.len() <= TRACESTATE_BYTES_MAX).and_then(|state| state.parse().ok());
        Some(Self { state: state.unwrap_or_default(), ..context })
    }

    /// Reads a `traceparent`: version, trace id, span id and flags in hexadecimal.
    pub fn parse(traceparent: &str) -> Option<Self> {
        let mut parts = traceparent.trim().split('-');
        let (version, trace_id, span_id, flags) =
            (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let is_hex = |part: &str, length| {
            part.len() == length && part.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
        };
        let lengths = is_hex(version, 2) && is_hex(trace_id, 32) && is_hex(span_id, 16) && is_hex(flags, 2);
        // Later versions may add parts; version ff is forbidden.
        if !lengths || version == "ff" || (version == "00" && parts.next().is_some()) {
            return None;
        }
        let trace_id = TraceId::from_hex(trace_id).ok().filter(|id| *id != TraceId::INVALID)?;
        let span_id = SpanId::from_hex(span_id).ok().filter(|id| *id != SpanId::INVALID)?;
        // Of the flags, only the first is defined for everyone.
        let flags = TraceFlags::new(u8::from_str_radix(flags, 16).ok()?) & TraceFlags::SAMPLED;
        Some(Self { trace_id, span_id, flags, state: TraceState::default() })
    }

    /// Where this place in the program stands; `None` outside of spans, and in a call whose trace is not exported.
    pub fn current() -> Option<Self> {
        Context::map_current(|context| Self::of(context.span().span_context()))
    }

    fn of(of: &SpanContext) -> Option<Self> {
        let (trace_id, span_id, flags) = (of.trace_id(), of.span_id(), of.trace_flags());
        of.is_valid().then(|| Self { trace_id, span_id, flags, state: of.trace_state().clone() })
    }

    /// Whether whoever began the trace wants it exported.
    pub fn is_sampled(&self) -> bool {
        self.flags.is_sampled()
    }

    /// Names the trace.
    pub(super) fn trace(&self) -> TraceId {
        self.trace_id
    }

    /// Where a span stands that need not be entered; `None` if traces are not exported. It cannot join another trace after.
    pub fn of_span(span: &Span) -> Option<Self> {
        Self::of(span.context().span().span_context())
    }

    /// As the value of a `traceparent` header.
    pub fn traceparent(&self) -> String {
        format!("00-{}-{}-{:02x}", self.trace_id, self.span_id, self.flags.to_u8())
    }

    /// The trace as 32 hexadecimal digits, for logs.
    pub fn trace_id(&self) -> String {
        self.trace_id.to_string()
    }

    /// The span as 16 hexadecimal digits, for logs.
    pub fn span_id(&self) -> String {
        self.span_id.to_string()
    }

    pub(super) fn span_context(&self) -> SpanContext {
        SpanContext::new(self.trace_id, self.span_id, self.flags, true, self.state.clone())
    }
}

/// A span that is exported. Both write themselves as hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpanIds {
    /// Names its trace.
    pub trace_id: TraceId,
    /// Names it.
    pub span_id: SpanId,
}

impl SpanIds {
    fn sampled(of: &SpanContext) -> Option<Self> {
        (of.is_valid() && of.is_sampled()).then(|| Self { trace_id: of.trace_id(), span_id: of.span_id() })
    }

    /// The current span, if it is exported; for exemplars. Costs a look at the thread, no lock.
    pub fn current() -> Option<Self> {
        Context::map_current(|context| Self::sampled(context.span().span_context()))
    }

    /// A span that need not be entered, if it is exported.
    pub fn of(span: &Span) -> Option<Self> {
        Self::sampled(span.context().span().span_context())
    }
}

/// Makes `span`, the first of a request, part of the caller's trace. If that is not exported, records it
/// in the field `trace_id`, which the span must declare empty. Call it before the span is entered.
pub fn begin_trace(span: &Span, caller: Option<&TraceContext>) {
    let Some(caller) = caller else { return };
    let parent = Context::new().with_remote_span_context(caller.span_context());
    if is_passed_over() || span.set_parent(parent).is_err() {
        span.record("trace_id", caller.trace_id());
    }
}

/// Notes in `span` that it goes back to what stands at `origin`, which is in another trace. Call it before the span is
/// entered: who goes back to what is exported is exported too.
pub fn link(span: &Span, origin: &TraceContext) {
    span.add_link(origin.span_context());
}

/// What to hand on as `traceparent` from here: the current span if it may be exported, else what the caller sent.
pub fn current_traceparent(caller: Option<&TraceContext>) -> Option<String> {
    TraceContext::current().as_ref().or(caller).map(TraceContext::traceparent)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    #[test]
    fn a_valid_context_is_read_and_written_back() {
        let context =
            TraceContext::extract(&headers(&[("traceparent", PARENT), ("tracestate", "a=1,b=2")])).unwrap();
        assert_eq!(context.traceparent(), PARENT);
        assert_eq!(context.trace_id(), "4bf92f3577b34da6a3ce929d0e0e4736");
        assert_eq!(context.state.header(), "a=1,b=2");
        assert_eq!(current_traceparent(Some(&context)).as_deref(), Some(PARENT));
        assert_eq!(current_traceparent(None), None);
    }

    #[test]
    fn anything_else_is_no_context() {
        let ids = "4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7";
        for traceparent in [
            String::new(),
            format!("ff-{ids}-01"),
            format!("00-{ids}"),
            format!("00-{ids}-01-more"),
            format!("00-{}-01", ids.to_uppercase()),
            format!("00-{}-00f067aa0ba902b7-01", "0".repeat(32)),
            format!("00-4bf92f3577b34da6a3ce929d0e0e4736-{}-01", "0".repeat(16)),
            format!("00-{ids}-é1"),
        ] {
            assert_eq!(TraceContext::parse(&traceparent), None, "{traceparent}");
        }
        assert!(TraceContext::parse(&format!("01-{ids}-01-more")).is_some(), "later versions may add parts");
        assert_eq!(TraceContext::extract(&HeaderMap::new()), None);
        let mut twice = headers(&[("traceparent", PARENT)]);
        twice.append("traceparent", PARENT.parse().unwrap());
        assert_eq!(TraceContext::extract(&twice), None);
    }

    #[test]
    fn a_state_that_does_not_fit_is_dropped() {
        let long = format!("a={}", "x".repeat(600));
        for state in [long.as_str(), "not a state"] {
            let context =
                TraceContext::extract(&headers(&[("traceparent", PARENT), ("tracestate", state)])).unwrap();
            assert_eq!(context.state, TraceState::default());
        }
    }
}
