//! Which events a subscriber wants.

use super::event::EventAttributes;

/// Entries a list may hold.
pub const FILTER_ENTRIES_MAX: usize = 256;

/// A filter over event attributes: values are alternatives inside a list, and every list that has values must
/// match. An empty filter matches everything.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EventFilter {
    /// Business numbers.
    pub phone_number_ids: Vec<String>,
    /// WABAs.
    pub waba_ids: Vec<String>,
    /// Event types, exact or a dotted prefix that ends in `.*`.
    pub types: Vec<String>,
    /// Conversations.
    pub conversation_keys: Vec<String>,
}

impl EventFilter {
    /// Whether an event with these attributes is wanted.
    pub fn matches(&self, attributes: &EventAttributes) -> bool {
        allows(&self.phone_number_ids, &attributes.phone_number_id)
            && allows(&self.waba_ids, &attributes.waba_id)
            && allows(&self.conversation_keys, &attributes.conversation_key)
            && (self.types.is_empty() || self.types.iter().any(|t| type_matches(t, &attributes.event_type)))
    }
}

/// Whether `pattern` is a word, or dotted words that may end in `.*`; `*` alone means everything.
pub fn is_type_pattern(pattern: &str) -> bool {
    let words = pattern.strip_suffix(".*").unwrap_or(pattern);
    let is_word =
        |w: &str| !w.is_empty() && w.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
    pattern == "*" || words.split('.').all(is_word)
}

fn allows(list: &[String], value: &str) -> bool {
    list.is_empty() || list.iter().any(|entry| entry == value)
}

fn type_matches(pattern: &str, event_type: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(prefix) => event_type.starts_with(prefix),
        None => event_type == pattern,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attributes() -> EventAttributes {
        EventAttributes {
            event_type: "whatsapp.message.received".to_owned(),
            phone_number_id: "1".to_owned(),
            waba_id: "2".to_owned(),
            conversation_key: "1:16505551234".to_owned(),
        }
    }

    #[test]
    fn lists_are_alternatives_and_all_must_match() {
        let words = |list: &[&str]| list.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>();
        let cases: [(&[&str], &[&str], bool); 7] = [
            (&[], &[], true),
            (&["1"], &[], true),
            (&["9", "1"], &["whatsapp.message.*"], true),
            (&["9"], &["whatsapp.message.*"], false),
            (&[], &["whatsapp.message.status"], false),
            (&[], &["whatsapp.message"], false),
            (&[], &["*"], true),
        ];
        for (numbers, types, expected) in cases {
            let filter = EventFilter {
                phone_number_ids: words(numbers),
                types: words(types),
                ..EventFilter::default()
            };
            assert_eq!(filter.matches(&attributes()), expected, "{filter:?}");
        }
    }

    #[test]
    fn patterns_are_dotted_words() {
        for good in ["*", "whatsapp.*", "whatsapp.message.status", "whatsapp.account_update"] {
            assert!(is_type_pattern(good), "{good}");
        }
        for bad in ["", "whatsapp.", ".x", "what*", "a b", "whatsapp.*.x"] {
            assert!(!is_type_pattern(bad), "{bad}");
        }
    }
}
