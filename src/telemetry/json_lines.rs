//! Log lines as JSON objects, made of pieces: the fields of a span are written once, when they become known, and every
//! line of the span copies them.
//!
//! The form is that of `tracing-subscriber`: the fields of the event, its target, and every span
//! from the outermost in; and the ids of the current span, if traces are exported.
//! Its own writer parses the fields of every span again for every line and every late field, which was a fifth of the
//! work of a send.

use std::fmt::{self, Debug, Write};

use opentelemetry::Context;
use opentelemetry::trace::TraceContextExt;
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber, span};
use tracing_subscriber::field::RecordFields;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, FormattedFields};
use tracing_subscriber::registry::{LookupSpan, Scope};

use super::semconv::is_for_export;

/// Writes lines, and the fields of spans as `"name":value` with commas between them.
#[derive(Debug, Clone, Copy)]
pub(super) struct JsonLines;

impl<S, N> FormatEvent<S, N> for JsonLines
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
        line.write_str("{\"timestamp\":\"")?;
        SystemTime.format_time(&mut line)?;
        line.write_str("\",\"level\":\"")?;
        line.write_str(event.metadata().level().as_str())?;
        line.write_str("\",")?;
        let mut fields = Fields::of(&mut line);
        event.record(&mut fields);
        let has_fields = !fields.is_first;
        fields.done?;
        if has_fields {
            line.write_char(',')?;
        }
        line.write_str("\"target\":")?;
        quote(&mut line, event.metadata().target())?;
        Context::map_current(|context| {
            let current = context.span();
            let current = current.span_context();
            if !current.is_valid() {
                return Ok(());
            }
            write!(line, ",\"trace_id\":\"{}\",\"span_id\":\"{}\"", current.trace_id(), current.span_id())
        })?;
        let scope = ctx.event_scope().into_iter().flat_map(Scope::from_root);
        for (index, span) in scope.enumerate() {
            line.write_str(if index == 0 { ",\"spans\":[{" } else { ",{" })?;
            if let Some(fields) =
                span.extensions().get::<FormattedFields<N>>().filter(|f| !f.fields.is_empty())
            {
                line.write_str(&fields.fields)?;
                line.write_char(',')?;
            }
            line.write_str("\"name\":")?;
            quote(&mut line, span.name())?;
            line.write_char('}')?;
        }
        if ctx.event_scope().is_some() {
            line.write_char(']')?;
        }
        line.write_str("}\n")
    }
}

impl<'w> FormatFields<'w> for JsonLines {
    fn format_fields<R: RecordFields>(&self, mut writer: Writer<'w>, fields: R) -> fmt::Result {
        let mut visitor = Fields::of(&mut writer);
        fields.record(&mut visitor);
        visitor.done
    }

    /// A field is recorded late once at most, so none comes twice.
    fn add_fields(&self, known: &'w mut FormattedFields<Self>, fields: &span::Record<'_>) -> fmt::Result {
        let is_first = known.fields.is_empty();
        let mut visitor = Fields { to: &mut known.fields, is_first, done: Ok(()) };
        fields.record(&mut visitor);
        visitor.done
    }
}

/// Writes fields one after the other.
struct Fields<'a> {
    to: &'a mut dyn Write,
    is_first: bool,
    done: fmt::Result,
}

impl<'a> Fields<'a> {
    fn of(to: &'a mut dyn Write) -> Self {
        Self { to, is_first: true, done: Ok(()) }
    }

    fn field(&mut self, field: &Field, value: impl FnOnce(&mut dyn Write) -> fmt::Result) {
        if self.done.is_err() || is_for_export(field.name()) {
            return;
        }
        self.done = self.name(field).and_then(|()| value(self.to));
    }

    fn name(&mut self, field: &Field) -> fmt::Result {
        self.to.write_str(if std::mem::take(&mut self.is_first) { "\"" } else { ",\"" })?;
        // The names are ours, and those of libraries are Rust's: nothing in them needs an escape.
        let name = field.name();
        self.to.write_str(name.strip_prefix("r#").unwrap_or(name))?;
        self.to.write_str("\":")
    }
}

impl Visit for Fields<'_> {
    fn record_f64(&mut self, field: &Field, value: f64) {
        // JSON has no infinities.
        let is_number = value.is_finite();
        self.field(field, |to| if is_number { write!(to, "{value:?}") } else { to.write_str("null") });
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.field(field, |to| write!(to, "{value}"));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.field(field, |to| write!(to, "{value}"));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.field(field, |to| write!(to, "{value}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.field(field, |to| quote(to, value));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.field(field, |to| {
            to.write_char('"')?;
            write!(Escaped(to), "{value:?}")?;
            to.write_char('"')
        });
    }
}

fn quote(to: &mut dyn Write, text: &str) -> fmt::Result {
    to.write_char('"')?;
    Escaped(to).write_str(text)?;
    to.write_char('"')
}

/// Escapes what may not stand in a JSON string.
struct Escaped<'a>(&'a mut dyn Write);

impl Write for Escaped<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut rest = text;
        // All that is escaped is ASCII, so a byte that asks for it is a character.
        while let Some(at) = rest.bytes().position(|byte| byte < b' ' || byte == b'"' || byte == b'\\') {
            let (plain, special) = rest.split_at(at);
            self.0.write_str(plain)?;
            let mut characters = special.chars();
            match characters.next() {
                Some('\n') => self.0.write_str("\\n")?,
                Some(quoted @ ('"' | '\\')) => write!(self.0, "\\{quoted}")?,
                Some(control) => write!(self.0, "\\u{:04x}", u32::from(control))?,
                None => {}
            }
            rest = characters.as_str();
        }
        self.0.write_str(rest)
    }
}
