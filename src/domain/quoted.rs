//! What a caller wrote, as error texts repeat it.

use std::fmt;

/// A longer text is no word.
const WORD_BYTES_MAX: usize = 64;
/// So many digits in a row may be somebody's phone number.
const NUMBER_DIGITS_MIN: usize = 7;

/// A text in quotes if it is a word, such as `en_US`, and else only its length: callers put error texts into their logs, and
/// what stands in the wrong field may be a message or a phone number.
#[derive(Clone, Copy)]
pub struct Quoted<'a>(pub &'a str);

impl Quoted<'_> {
    /// Whether the text is shown.
    pub fn is_word(self) -> bool {
        let Self(text) = self;
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.*/+;=".contains(&byte);
        text.len() <= WORD_BYTES_MAX && text.bytes().all(is_plain) && !may_hold_number(text)
    }
}

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(text) = self;
        if self.is_word() { write!(f, "{text:?}") } else { write!(f, "<a text of {} bytes>", text.len()) }
    }
}

impl fmt::Debug for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// An id of Meta's as it is, and anything else that stands in its place as [`Quoted`].
pub fn id_shown(id: &str) -> String {
    let is_id = id.len() <= 32 && id.bytes().all(|byte| byte.is_ascii_digit());
    if is_id { id.to_owned() } else { Quoted(id).to_string() }
}

/// Whether there are as many digits in a row as a phone number has.
pub fn may_hold_number(text: &str) -> bool {
    text.split(|c: char| !c.is_ascii_digit()).any(|digits| digits.len() >= NUMBER_DIGITS_MIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_shown_and_what_is_none_is_not() {
        assert_eq!(id_shown("106540352242922"), "106540352242922");
        assert_eq!(id_shown("+16505559911 text"), "<a text of 17 bytes>");
    }

    #[test]
    fn words_are_shown_and_nothing_else() {
        for word in ["", "en_US", "whatsapp.message.*", "video/quicktime", "order_2026"] {
            assert_eq!(Quoted(word).to_string(), format!("{word:?}"));
        }
        for (text, shown) in [
            ("two words", "<a text of 9 bytes>"),
            ("+15558675309", "<a text of 12 bytes>"),
            ("order_15558675309", "<a text of 17 bytes>"),
            ("naïve", "<a text of 6 bytes>"),
        ] {
            assert_eq!(Quoted(text).to_string(), shown);
        }
        assert_eq!(Quoted(&"a".repeat(65)).to_string(), "<a text of 65 bytes>");
    }
}
