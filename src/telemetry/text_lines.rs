//! Log lines for people, with the trace at their end.

use std::fmt;

use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::format::{Compact, Format, Writer};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use super::propagation::TraceContext;

/// The compact form of `tracing-subscriber`, and the ids of the current span.
#[derive(Debug)]
pub(super) struct TextLines(pub(super) Format<Compact>);

impl<S, N> FormatEvent<S, N> for TextLines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        ctx: &FmtContext<'_, S, N>,
        mut line: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let Some(current) = TraceContext::current() else { return self.0.format_event(ctx, line, event) };
        let mut text = String::new();
        self.0.format_event(ctx, Writer::new(&mut text), event)?;
        let text = text.trim_end_matches('\n');
        writeln!(line, "{text} trace_id={} span_id={}", current.trace_id(), current.span_id())
    }
}
