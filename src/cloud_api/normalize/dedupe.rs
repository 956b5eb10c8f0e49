//! What makes two events the same: the dedupe key and the hash of it that names an event.
//!
//! Keys are lists of texts, each with its length before it, so that no two lists run together to the same bytes.

use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

use crate::cloud_api::json::{self, Object};
use crate::cloud_api::webhook;
use crate::domain::event::EventId;

/// A dedupe key in the making.
#[derive(Debug, Clone)]
pub(super) struct Key(Sha256);

impl Key {
    /// A key of one kind of event; kinds never share keys.
    pub(super) fn of(kind: &str) -> Self {
        Self(Sha256::new()).with(kind)
    }

    /// Adds a part.
    pub(super) fn with(mut self, part: impl AsRef<[u8]>) -> Self {
        add(&mut self.0, part.as_ref());
        self
    }

    /// The first 16 bytes of the key's SHA-256.
    pub(super) fn id(self) -> EventId {
        let mut id = [0; 16];
        id.iter_mut().zip(self.0.finalize()).for_each(|(to, from)| *to = from);
        EventId(id)
    }
}

/// A hash of what JSON text says: the order of fields, white space and the spelling of strings do not count.
/// Numbers count as they are written; what is not JSON, or nested too deeply, counts byte by byte.
pub(super) fn canonical_hash(text: &str) -> [u8; 32] {
    let mut hash = Sha256::new();
    if json::is_deeper_than(text, webhook::NESTING_MAX) {
        add(&mut hash, text.as_bytes());
    } else {
        add_canonical(&mut hash, text.trim_ascii());
    }
    hash.finalize().into()
}

/// Goes as deep as the text is nested, which the caller has limited.
fn add_canonical(hash: &mut Sha256, text: &str) {
    let read = match text.as_bytes().first() {
        Some(b'{') => add_object(hash, text),
        Some(b'[') => add_list(hash, text),
        Some(b'"') => serde_json::from_str::<String>(text).ok().map(|string| {
            hash.update(b"s");
            add(hash, string.as_bytes());
        }),
        _ => None,
    };
    if read.is_none() {
        hash.update(b"t");
        add(hash, text.as_bytes());
    }
}

fn add_object(hash: &mut Sha256, text: &str) -> Option<()> {
    let object = Object::read(text)?;
    let mut fields: Vec<_> = object.fields().collect();
    fields.sort_by_key(|(name, _)| *name);
    hash.update(b"{");
    hash.update(length(fields.len()));
    for (name, value) in fields {
        add(hash, name.as_bytes());
        add_canonical(hash, value.get());
    }
    Some(())
}

fn add_list(hash: &mut Sha256, text: &str) -> Option<()> {
    let list: Vec<&RawValue> = serde_json::from_str(text).ok()?;
    hash.update(b"[");
    hash.update(length(list.len()));
    for element in list {
        add_canonical(hash, element.get());
    }
    Some(())
}

fn add(hash: &mut Sha256, part: &[u8]) {
    hash.update(length(part.len()));
    hash.update(part);
}

fn length(length: usize) -> [u8; 8] {
    u64::try_from(length).unwrap_or(u64::MAX).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_do_not_run_together() {
        assert_ne!(Key::of("a").with("bc").id(), Key::of("a").with("b").with("c").id());
        assert_ne!(Key::of("a").with("").id(), Key::of("a").id());
        assert_eq!(Key::of("a").with("b").id(), Key::of("a").with("b").id());
    }

    #[test]
    fn only_what_the_text_says_counts() {
        let same = [
            (r#"{"a":1,"b":[true,null]}"#, r#"{ "b" : [ true , null ], "a" : 1 }"#),
            (r#""\u00e9\/""#, r#""é/""#),
            (r#"{"a":{"x":1,"y":2}}"#, r#"{"a":{"y":2,"x":1}}"#),
        ];
        for (a, b) in same {
            assert_eq!(canonical_hash(a), canonical_hash(b), "{a}");
        }
        let different = [
            ("{}", "[]"),
            (r#"["a","b"]"#, r#"["ab"]"#),
            (r#""1""#, "1"),
            ("9007199254740993", "9007199254740992"),
            ("99999999999999999999999", "99999999999999999999998"),
            (r#"{"a":1,"a":2}"#, r#"{"a":2}"#),
            (r#"{"\ud800":1}"#, r#"{"\ud801":1}"#),
            ("[[1],2]", "[[1,2]]"),
            ("", "{}"),
        ];
        for (a, b) in different {
            assert_ne!(canonical_hash(a), canonical_hash(b), "{a}");
        }
    }
}
