//! Reads one table of the configuration, key by key, and reports what does not fit.
//!
//! serde stops at the first error; an operator wants all of them. Each method takes its key out of the table,
//! and what is left in the end is unknown. A value that does not fit is replaced by a stand-in, so that reading
//! goes on: the result is used only when nothing was reported.

use std::net::{Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use ::config::{Map, Value, ValueKind};

use super::problem::Collector;
use super::suggest::unknown_key;
use super::units::{self, DURATION_FORM, SIZE_FORM};

/// A table that is being read.
pub(super) struct Table<'a> {
    path: String,
    values: Map<String, Value>,
    known: Vec<&'static str>,
    problems: &'a Collector,
}

impl<'a> Table<'a> {
    pub(super) fn new(path: impl Into<String>, values: Map<String, Value>, problems: &'a Collector) -> Self {
        Self { path: path.into(), values, known: Vec::new(), problems }
    }

    /// The full path of a key of this table.
    pub(super) fn path(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    pub(super) fn problems(&self) -> &'a Collector {
        self.problems
    }

    /// Reports every key that nobody asked for. A table is always finished.
    pub(super) fn finish(self) {
        let mut unknown: Vec<_> = self.values.keys().collect();
        unknown.sort();
        for key in unknown {
            self.problems.report(self.path(key), unknown_key(key, &self.known));
        }
    }

    /// The table under `key`.
    pub(super) fn table(&mut self, key: &'static str) -> Table<'a> {
        let values = match self.take(key).map(|value| value.kind) {
            Some(ValueKind::Table(values)) => values,
            None => Map::new(),
            Some(_) => {
                self.report(key, format!("must be a table: write [{}]", self.path(key)));
                Map::new()
            }
        };
        Table::new(self.path(key), values, self.problems)
    }

    /// The tables of the array under `key`; none if it is absent.
    pub(super) fn tables(&mut self, key: &'static str) -> Vec<Table<'a>> {
        let form = format!("must be tables: write [[{key}]] in the file; the environment cannot set them");
        let values = match self.take(key).map(|value| value.kind) {
            Some(ValueKind::Array(values)) => values,
            None => return Vec::new(),
            Some(_) => {
                self.report(key, form);
                return Vec::new();
            }
        };
        let mut tables = Vec::new();
        for (index, value) in values.into_iter().enumerate() {
            let path = format!("{}[{index}]", self.path(key));
            if let ValueKind::Table(values) = value.kind {
                tables.push(Table::new(path, values, self.problems));
            } else {
                self.problems.report(path, form.clone());
            }
        }
        tables
    }

    /// A text, which may be empty; `None` if the key is absent.
    pub(super) fn optional_text(&mut self, key: &'static str) -> Option<String> {
        let kind = self.take(key)?.kind;
        if let ValueKind::String(text) = kind {
            return Some(text);
        }
        self.report(key, not_text(&kind));
        // Not absent: that would be a second message about the same key.
        Some(String::new())
    }

    /// A text that must be there and not be empty.
    pub(super) fn text(&mut self, key: &'static str) -> String {
        let before = self.problems.count();
        match self.optional_text(key) {
            Some(text) if !text.trim().is_empty() || self.problems.count() > before => text,
            Some(_) => {
                self.report(key, "must not be empty");
                String::new()
            }
            None => {
                self.report(key, "is missing");
                String::new()
            }
        }
    }

    /// A list of texts; from the environment, one text with commas. Empty if the key is absent.
    pub(super) fn texts(&mut self, key: &'static str) -> Vec<String> {
        let values = match self.take(key).map(|value| value.kind) {
            None => return Vec::new(),
            Some(ValueKind::Array(values)) => values,
            Some(ValueKind::String(text)) => {
                let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
                return parts.map(str::to_owned).collect();
            }
            Some(_) => {
                self.report(key, "must be a list of texts, such as [\"a\", \"b\"]");
                return Vec::new();
            }
        };
        let mut texts = Vec::new();
        for (index, value) in values.into_iter().enumerate() {
            if !matches!(value.kind, ValueKind::String(_)) {
                self.problems.report(format!("{}[{index}]", self.path(key)), not_text(&value.kind));
            }
            // Kept even if it is not text, so that the list does not look empty too.
            texts.extend(shown(&value.kind));
        }
        texts
    }

    /// An id of Meta's: digits, as text, because an integer would lose leading zeros.
    pub(super) fn id(&mut self, key: &'static str) -> String {
        let before = self.problems.count();
        let id = self.text(key);
        if self.problems.count() == before {
            check_id(self.problems, self.path(key), &id);
        }
        id
    }

    /// A path that must be there and not be empty.
    pub(super) fn file(&mut self, key: &'static str) -> PathBuf {
        PathBuf::from(self.text(key))
    }

    pub(super) fn boolean(&mut self, key: &'static str) -> bool {
        match self.take(key).map(|value| value.kind) {
            Some(ValueKind::Boolean(value)) => value,
            Some(ValueKind::String(text)) if text.eq_ignore_ascii_case("true") => true,
            Some(ValueKind::String(text)) if text.eq_ignore_ascii_case("false") => false,
            other => {
                self.mismatch(key, other.as_ref(), "must be true or false");
                false
            }
        }
    }

    /// A whole number within `range`.
    pub(super) fn integer(&mut self, key: &'static str, range: RangeInclusive<u64>) -> u64 {
        let kind = self.take(key).map(|value| value.kind);
        let number = kind.as_ref().and_then(shown).and_then(|text| text.trim().parse().ok());
        match number {
            Some(number) if range.contains(&number) => number,
            Some(_) | None => {
                let form = format!("must be a whole number from {} to {}", range.start(), range.end());
                self.mismatch(key, kind.as_ref(), &form);
                *range.start()
            }
        }
    }

    /// A whole number within `range`, for counts.
    pub(super) fn count(&mut self, key: &'static str, range: RangeInclusive<u32>) -> u32 {
        let number = self.integer(key, u64::from(*range.start())..=u64::from(*range.end()));
        u32::try_from(number).unwrap_or(u32::MAX)
    }

    /// A whole number within `range`; `None` if the key is absent.
    pub(super) fn optional_count(&mut self, key: &'static str, range: RangeInclusive<u32>) -> Option<u32> {
        self.known.push(key);
        self.values.contains_key(key).then(|| self.count(key, range))
    }

    /// A fraction from 0 to 1.
    pub(super) fn ratio(&mut self, key: &'static str) -> f64 {
        let kind = self.take(key).map(|value| value.kind);
        let number = kind.as_ref().and_then(shown).and_then(|text| text.trim().parse::<f64>().ok());
        match number {
            Some(number) if (0.0..=1.0).contains(&number) => number,
            Some(_) | None => {
                self.mismatch(key, kind.as_ref(), "must be a number from 0 to 1");
                0.0
            }
        }
    }

    /// A duration within `range`.
    pub(super) fn duration(&mut self, key: &'static str, range: RangeInclusive<Duration>) -> Duration {
        let kind = self.take(key).map(|value| value.kind);
        let parsed = match &kind {
            Some(ValueKind::String(text)) => units::parse_duration(text),
            Some(_) | None => None,
        };
        match parsed {
            Some(duration) if range.contains(&duration) => duration,
            Some(_) => {
                let (least, most) =
                    (units::format_duration(*range.start()), units::format_duration(*range.end()));
                self.mismatch(key, kind.as_ref(), &format!("must be from {least} to {most}"));
                *range.start()
            }
            None => {
                self.mismatch(key, kind.as_ref(), &format!("must be a duration: {DURATION_FORM}"));
                *range.start()
            }
        }
    }

    /// As [`Table::duration`]; `None` if the key is absent.
    pub(super) fn optional_duration(
        &mut self,
        key: &'static str,
        range: RangeInclusive<Duration>,
    ) -> Option<Duration> {
        self.known.push(key);
        self.values.contains_key(key).then(|| self.duration(key, range))
    }

    /// A size in bytes within `range`.
    pub(super) fn size(&mut self, key: &'static str, range: RangeInclusive<u64>) -> u64 {
        let kind = self.take(key).map(|value| value.kind);
        match kind.as_ref().and_then(shown).and_then(|text| units::parse_size(&text)) {
            Some(bytes) if range.contains(&bytes) => bytes,
            Some(_) => {
                let (least, most) = (units::format_size(*range.start()), units::format_size(*range.end()));
                self.mismatch(key, kind.as_ref(), &format!("must be from {least} to {most}"));
                *range.start()
            }
            None => {
                self.mismatch(key, kind.as_ref(), &format!("must be a size: {SIZE_FORM}"));
                *range.start()
            }
        }
    }

    /// An address to listen on.
    pub(super) fn address(&mut self, key: &'static str) -> SocketAddr {
        let form =
            "must be an IP address and a port, such as \"0.0.0.0:50051\", \"127.0.0.1:0\" or \"[::]:50051\"";
        self.parsed(key, form).unwrap_or_else(|| SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))
    }

    /// One of the listed words.
    pub(super) fn word<T: Copy>(&mut self, key: &'static str, words: &[(&'static str, T)], stand_in: T) -> T {
        let before = self.problems.count();
        let text = self.text(key);
        let Some((_, value)) = words.iter().find(|(word, _)| *word == text) else {
            if self.problems.count() == before {
                let words: Vec<_> = words.iter().map(|(word, _)| format!("\"{word}\"")).collect();
                self.problems.report_value(self.path(key), text, format!("must be {}", words.join(" or ")));
            }
            return stand_in;
        };
        *value
    }

    /// A text that parses as `T`.
    pub(super) fn parsed<T: FromStr>(&mut self, key: &'static str, form: &str) -> Option<T> {
        let before = self.problems.count();
        let text = self.text(key);
        let parsed = text.trim().parse().ok();
        if parsed.is_none() && self.problems.count() == before {
            self.problems.report_value(self.path(key), text, form);
        }
        parsed
    }

    fn take(&mut self, key: &'static str) -> Option<Value> {
        self.known.push(key);
        self.values.remove(key)
    }

    fn report(&self, key: &str, text: impl Into<String>) {
        self.problems.report(self.path(key), text);
    }

    fn mismatch(&self, key: &str, kind: Option<&ValueKind>, form: &str) {
        match kind.map(shown) {
            Some(Some(value)) => self.problems.report_value(self.path(key), value, form),
            Some(None) => self.report(key, form),
            None => self.report(key, format!("is missing; it {form}")),
        }
    }
}

/// Reports an id that is not made of digits.
pub(super) fn check_id(problems: &Collector, path: String, id: &str) {
    if id.is_empty() || id.len() > 32 || !id.bytes().all(|byte| byte.is_ascii_digit()) {
        problems.report_value(path, id, "must be an id as Meta shows it: 1 to 32 digits, in quotes");
    }
}

/// A scalar as it was written; `None` for tables, lists and nothing.
fn shown(kind: &ValueKind) -> Option<String> {
    match kind {
        ValueKind::String(text) => Some(text.clone()),
        ValueKind::Boolean(value) => Some(value.to_string()),
        ValueKind::I64(value) => Some(value.to_string()),
        ValueKind::I128(value) => Some(value.to_string()),
        ValueKind::U64(value) => Some(value.to_string()),
        ValueKind::U128(value) => Some(value.to_string()),
        ValueKind::Float(value) => Some(value.to_string()),
        ValueKind::Nil | ValueKind::Table(_) | ValueKind::Array(_) => None,
    }
}

/// The message for a value that should be text. A number is shown: it is an id without its quotes.
fn not_text(kind: &ValueKind) -> String {
    match shown(kind) {
        Some(value) => format!("must be text: write it in quotes, \"{value}\""),
        None => "must be text in quotes".to_owned(),
    }
}
