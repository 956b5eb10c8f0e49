//! What to say about a key that nobody knows.

/// Names that people give to a secret itself.
const SECRET_WORDS: [&str; 4] = ["token", "secret", "password", "key"];

/// The message for an unknown key. Its value is not shown: it may be a secret in the wrong place.
pub(super) fn unknown_key(key: &str, known: &[&str]) -> String {
    let nearest = known.iter().min_by_key(|name| distance(key, name));
    let is_near = |name: &&&str| name.starts_with(key) || key.starts_with(**name) || distance(key, name) <= 2;
    let mut text = match nearest.filter(is_near).or_else(|| known.iter().find(is_near)) {
        Some(name) => format!("is unknown; did you mean \"{name}\"?"),
        None if known.is_empty() => "is unknown; remove it".to_owned(),
        None => format!("is unknown; remove it, or use one of {}", known.join(", ")),
    };
    if SECRET_WORDS.iter().any(|word| key.contains(word)) {
        text.push_str(" (secrets are read from files; do not write one here)");
    }
    text
}

/// The number of characters to insert, delete or replace to turn `a` into `b`.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, left) in a.chars().enumerate() {
        let mut next = Vec::with_capacity(row.len());
        let mut before = i + 1;
        next.push(before);
        for (pair, right) in row.windows(2).zip(&b) {
            let [diagonal, above] = *pair else { continue };
            before = (diagonal + usize::from(left != *right)).min(above + 1).min(before + 1);
            next.push(before);
        }
        row = next;
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances() {
        assert_eq!(distance("listen", "listen"), 0);
        assert_eq!(distance("lisen", "listen"), 1);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("kitten", "sitting"), 3);
    }

    #[test]
    pub(super) fn unknown_keys_get_a_hint() {
        assert_eq!(unknown_key("lisen", &["listen"]), "is unknown; did you mean \"listen\"?");
        let hint = unknown_key("access_token", &["id", "access_token_file"]);
        assert!(hint.starts_with("is unknown; did you mean \"access_token_file\"?"), "{hint}");
        assert!(hint.contains("secrets are read from files"), "{hint}");
        assert_eq!(unknown_key("zebra", &["a", "b"]), "is unknown; remove it, or use one of a, b");
    }
}
