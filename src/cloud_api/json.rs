//! JSON read without losing anything: fields in order, repeated ones included, values as their exact text.
//!
//! `serde_json::Value` would sort the fields, keep one of two equal keys and round large numbers. Reading is
//! lenient: a value of a wrong type reads as absent, and the text stays.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

/// The fields of an object, in order.
#[derive(Debug, Default)]
pub(super) struct Object<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'a> Object<'a> {
    /// Reads an object; `None` for everything else, and for one whose keys are no text (they may hold half of a
    /// surrogate pair).
    pub(super) fn read(text: &'a str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }

    /// The fields in order.
    pub(super) fn fields(&self) -> impl Iterator<Item = (&str, &'a RawValue)> {
        self.0.iter().map(|(name, value)| (name.as_ref(), *value))
    }

    /// The field `name`; the last of several, as most parsers have it.
    pub(super) fn get(&self, name: &str) -> Option<&'a RawValue> {
        self.0.iter().rev().find(|(key, _)| key == name).map(|(_, value)| *value)
    }

    /// The field `name` as an object.
    pub(super) fn object(&self, name: &str) -> Option<Object<'a>> {
        Object::read(self.get(name)?.get())
    }

    /// The field `name` as text; see [`text`].
    pub(super) fn text(&self, name: &str) -> Option<Cow<'a, str>> {
        text(self.get(name)?)
    }

    /// Whether the field `name` stands there more than once.
    pub(super) fn repeats(&self, name: &str) -> bool {
        self.0.iter().filter(|(key, _)| key == name).count() > 1
    }

    /// The object's text with some fields replaced by other text, or left out where that is `None`.
    pub(super) fn render(&self, changes: &[(&str, Option<&str>)]) -> String {
        let mut out = String::from("{");
        for (name, value) in self.fields() {
            let change = changes.iter().find(|(changed, _)| *changed == name);
            let Some(value) = change.map_or(Some(value.get()), |(_, text)| *text) else { continue };
            if out.len() > 1 {
                out.push(',');
            }
            out.push_str(&serde_json::Value::from(name).to_string());
            out.push(':');
            out.push_str(value);
        }
        out.push('}');
        out
    }
}

/// The elements of an array; `None` for everything else.
pub(super) fn elements(value: &RawValue) -> Option<Vec<&RawValue>> {
    serde_json::from_str(value.get()).ok()
}

/// A string, or a number as it is written, because Meta writes ids and times as either (reference 1.3); `None`
/// for everything else, the empty string and a string that is no Unicode text.
pub(super) fn text(value: &RawValue) -> Option<Cow<'_, str>> {
    let raw = value.get();
    let text = match raw.as_bytes() {
        [b'"', inner @ .., b'"'] if !inner.contains(&b'\\') => Cow::Borrowed(raw.get(1..raw.len() - 1)?),
        [b'"', ..] => Cow::Owned(serde_json::from_str::<String>(raw).ok()?),
        [b'-' | b'0'..=b'9', ..] => Cow::Borrowed(raw),
        _ => return None,
    };
    (!text.is_empty()).then_some(text)
}

/// Whether the value is an object, readable or not.
pub(super) fn is_object(value: &RawValue) -> bool {
    value.get().starts_with('{')
}

/// Whether arrays and objects stand in one another more than `levels` deep. Counts brackets outside of
/// strings, so that no parser needs to go there first.
pub(super) fn is_deeper_than(text: &str, levels: usize) -> bool {
    let (mut depth, mut is_in_string, mut is_escaped) = (0_usize, false, false);
    for byte in text.bytes() {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' if is_in_string => is_escaped = true,
            b'"' => is_in_string = !is_in_string,
            b'[' | b'{' if !is_in_string => depth += 1,
            b']' | b'}' if !is_in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > levels {
            return true;
        }
    }
    false
}

impl<'de: 'a, 'a> Deserialize<'de> for Object<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Fields)
    }
}

struct Fields;

impl<'de> Visitor<'de> for Fields {
    type Value = Object<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut fields = Vec::new();
        while let Some((Key(name), value)) = map.next_entry()? {
            fields.push((name, value));
        }
        Ok(Object(fields))
    }
}

#[derive(Deserialize)]
struct Key<'a>(#[serde(borrow)] Cow<'a, str>);

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(text: &str) -> &RawValue {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn nothing_gets_lost() {
        let text = r#"{ "b" : 1e999, "a":"\ud800","b":[ 1, 2 ] , "k\u00e9\"":{"x" :1} }"#;
        let object = Object::read(text).unwrap();
        let fields: Vec<_> = object.fields().map(|(name, value)| (name, value.get())).collect();
        let expected = [("b", "1e999"), ("a", r#""\ud800""#), ("b", "[ 1, 2 ]"), ("ké\"", r#"{"x" :1}"#)];
        assert_eq!(fields, expected);
        assert!(object.repeats("b") && !object.repeats("a"));
        assert_eq!(object.get("b").unwrap().get(), "[ 1, 2 ]");
        let rendered = object.render(&[("a", None), ("b", Some("0"))]);
        assert_eq!(rendered, r#"{"b":0,"b":0,"ké\"":{"x" :1}}"#);
    }

    #[test]
    fn what_is_no_readable_object_is_none() {
        for bad in ["[]", "1", "null", "", "{", r#"{"\ud800":1}"#, r#"{"a":1} x"#, "{'a':1}"] {
            assert!(Object::read(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn text_is_a_string_or_a_number() {
        let cases = [
            (r#""a""#, Some("a")),
            (r#""\u00e9\/""#, Some("é/")),
            ("12345678901234567890", Some("12345678901234567890")),
            ("-1", Some("-1")),
            (r#""""#, None),
            (r#""\ud800""#, None),
            ("null", None),
            ("true", None),
            ("{}", None),
        ];
        for (json, expected) in cases {
            assert_eq!(text(raw(json)).as_deref(), expected, "{json}");
        }
    }

    #[test]
    fn depth_counts_brackets_outside_of_strings() {
        assert!(!is_deeper_than(r#"{"a":["[[[[\"[[["]}"#, 2));
        assert!(is_deeper_than("[[[1]]]", 2));
        assert!(!is_deeper_than("[[],[],[[]]]", 3));
        assert!(is_deeper_than(&"[".repeat(100_000), 100));
    }
}
