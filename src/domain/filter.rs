//! Which events a subscriber wants, and which it may see.

use super::rights;

/// Entries a list may hold.
pub const FILTER_ENTRIES_MAX: usize = 256;

/// What a filter looks at.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    /// Dotted event type.
    pub event_type: &'a str,
    /// The business number.
    pub phone_number_id: &'a str,
    /// The WABA.
    pub waba_id: &'a str,
    /// The conversation.
    pub conversation_key: &'a str,
}

/// A filter over event attributes: values are alternatives inside a list, and every list that has values must
/// match. An empty filter matches everything.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct EventFilter {
    /// Business numbers.
    pub phone_number_ids: Vec<String>,
    /// WABAs.
    pub waba_ids: Vec<String>,
    /// Event types, exact or a dotted prefix that ends in `.*`.
    pub types: Vec<String>,
    /// Conversations.
    pub conversation_keys: Vec<String>,
    /// What may be seen at all; `None` sets no bounds.
    pub scope: Option<EventScope>,
}

shown!(EventFilter { phone_number_ids, waba_ids, types, scope });

/// The events that a caller may see. In each list `*` means all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventScope {
    /// Business numbers, whose events may be seen.
    pub phone_number_ids: Vec<String>,
    /// WABAs, whose events of no number may be seen.
    pub waba_ids: Vec<String>,
    /// Event types, as in filters.
    pub types: Vec<String>,
}

impl EventScope {
    /// Whether an event with these attributes may be seen. One that is of neither a number nor a WABA needs the right to
    /// all of both.
    fn sees(&self, event: &Subject<'_>) -> bool {
        let (number, waba) = (event.phone_number_id, event.waba_id);
        let is_own = match (number, waba) {
            ("", "") => rights::lists(&self.phone_number_ids, "") && rights::lists(&self.waba_ids, ""),
            ("", waba) => rights::lists(&self.waba_ids, waba),
            (number, _) => rights::lists(&self.phone_number_ids, number),
        };
        is_own && self.types.iter().any(|granted| type_matches(granted, event.event_type))
    }
}

impl EventFilter {
    /// Whether an event with these attributes is wanted.
    pub fn matches(&self, event: &Subject<'_>) -> bool {
        allows(&self.phone_number_ids, event.phone_number_id)
            && allows(&self.waba_ids, event.waba_id)
            && allows(&self.conversation_keys, event.conversation_key)
            && (self.types.is_empty() || self.types.iter().any(|t| type_matches(t, event.event_type)))
            && self.scope.as_ref().is_none_or(|scope| scope.sees(event))
    }

    /// Whether it matches everything.
    pub fn is_empty(&self) -> bool {
        let Self { phone_number_ids, waba_ids, types, conversation_keys, scope } = self;
        scope.is_none()
            && [phone_number_ids, waba_ids, types, conversation_keys].iter().all(|list| list.is_empty())
    }
}

/// Whether `pattern` is a word, or dotted words that may end in `.*`; `*` alone means everything.
pub fn is_type_pattern(pattern: &str) -> bool {
    let words = pattern.strip_suffix(".*").unwrap_or(pattern);
    let is_word =
        |w: &str| !w.is_empty() && w.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
    pattern == "*" || words.split('.').all(is_word)
}

/// Whether there may be an event type that both patterns match.
pub(super) fn types_overlap(a: &str, b: &str) -> bool {
    let (stem_a, stem_b) = (a.trim_end_matches('*'), b.trim_end_matches('*'));
    type_matches(a, stem_b) || type_matches(b, stem_a)
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

    const EVENT: Subject<'_> = Subject {
        event_type: "whatsapp.message.received",
        phone_number_id: "1",
        waba_id: "2",
        conversation_key: "1:16505551234",
    };

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
            assert_eq!(filter.matches(&EVENT), expected, "{filter:?}");
            assert_eq!(filter.is_empty(), numbers.is_empty() && types.is_empty());
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
