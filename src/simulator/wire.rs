//! A webhook's bytes as Meta writes them: the escapes and the signature over them.

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

/// Rewrites JSON text with Meta's escapes: non-ASCII as lower-case `\uXXXX` and `/` as `\/`.
/// What is escaped already stays as it is. In valid JSON both occur inside strings only.
pub(super) fn escape(json: &str) -> String {
    let mut escaped = String::with_capacity(json.len() + json.len() / 8);
    let mut after_backslash = false;
    for character in json.chars() {
        if character == '/' && !after_backslash {
            escaped.push_str("\\/");
        } else if character.is_ascii() {
            escaped.push(character);
        } else {
            let mut units = [0_u16; 2];
            for unit in character.encode_utf16(&mut units) {
                escaped.push_str("\\u");
                escaped.push_str(&hex::encode(unit.to_be_bytes()));
            }
        }
        after_backslash = character == '\\' && !after_backslash;
    }
    escaped
}

/// The value of `X-Hub-Signature-256` for these exact bytes.
pub(super) fn sign(app_secret: &str, body: &[u8]) -> String {
    // HMAC takes a key of any length, so that the error cannot happen; an empty code would fail verification.
    let code = Hmac::<Sha256>::new_from_slice(app_secret.as_bytes()).map(|mut mac| {
        mac.update(body);
        hex::encode(mac.finalize().into_bytes())
    });
    format!("sha256={}", code.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes() {
        for (json, expected) in [
            (r#"{"a":"x"}"#, r#"{"a":"x"}"#),
            (r#"{"a":"ä"}"#, r#"{"a":"\u00e4"}"#),
            (r#"{"a":"👍"}"#, r#"{"a":"\ud83d\udc4d"}"#),
            (r#"{"a":"https://x/y"}"#, r#"{"a":"https:\/\/x\/y"}"#),
            (r#"{"a":"\/"}"#, r#"{"a":"\/"}"#),
            (r#"{"a":"\\/"}"#, r#"{"a":"\\\/"}"#),
            (r#"{"a":"\"/\n"}"#, r#"{"a":"\"\/\n"}"#),
        ] {
            assert_eq!(escape(json), expected);
        }
    }

    #[test]
    fn escaping_changes_nothing_that_a_parser_sees() {
        let json = r#"{"text":"Grüße / 日本 \\/ \/ 👍","n":1.50}"#;
        let parse = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
        assert_eq!(parse(&escape(json)), parse(json));
    }

    #[test]
    fn signature_of_a_known_vector() {
        // RFC 4231, test case 2.
        assert_eq!(
            sign("Jefe", b"what do ya want for nothing?"),
            "sha256=5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
        );
    }
}
