//! Bearer tokens: how ours look, how one is made, and what the configuration keeps of any.
//!
//! `wag_<id>_<secret>_<checksum>`. The id names the token in logs, the secret is 256 random bits, the checksum (CRC-32 of
//! all before it) lets a typing error be told from a token that is gone, and a scanner of source code recognise one.

use std::fmt;
use std::io;
use std::time::SystemTime;

use jiff::Timestamp;
use rustix::rand::{GetRandomFlags, getrandom};
use sha2::{Digest, Sha256};

/// What the tokens that we make begin with.
pub(crate) const PREFIX: &str = "wag_";
/// Random bytes of the id and of the secret.
const ID_BYTES: usize = 4;
const SECRET_BYTES: usize = 32;

/// A new token. It fails only where the kernel has no random numbers.
pub(crate) fn make() -> io::Result<String> {
    let (id, secret) = (random::<ID_BYTES>()?, random::<SECRET_BYTES>()?);
    let body = format!("{PREFIX}{}_{}", hex::encode(id), hex::encode(secret));
    let checksum = checksum(&body);
    Ok(format!("{body}_{checksum}"))
}

/// Random bytes of the kernel's.
pub(crate) fn random<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    let filled = getrandom(&mut bytes, GetRandomFlags::empty())?;
    if filled == N { Ok(bytes) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

/// What a presented text looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form<'a> {
    /// A whole token of ours.
    Made {
        /// Its id.
        id: &'a str,
    },
    /// It begins like a token of ours and is none: cut off, or mistyped.
    Damaged,
    /// Made by somebody else.
    Other,
}

/// Looks at a text without knowing any token.
pub(crate) fn form(text: &str) -> Form<'_> {
    if !text.starts_with(PREFIX) {
        return Form::Other;
    }
    let made = || {
        let (body, given) = text.rsplit_once('_')?;
        let (id, secret) = body.strip_prefix(PREFIX)?.split_once('_')?;
        let is_whole = !secret.contains('_') && given == checksum(body);
        is_whole.then_some(Form::Made { id })
    };
    made().unwrap_or(Form::Damaged)
}

fn checksum(body: &str) -> String {
    format!("{:08x}", crc32fast::hash(body.as_bytes()))
}

/// The SHA-256 of a bearer token. Fast on purpose: the token's entropy protects it, not the cost of a guess.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TokenHash([u8; 32]);

impl TokenHash {
    /// The hash of a token as a caller presents it.
    pub fn of(token: &str) -> Self {
        Self(Sha256::digest(token.as_bytes()).into())
    }

    /// Reads 64 hexadecimal digits.
    pub fn parse(text: &str) -> Option<Self> {
        let mut hash = [0; 32];
        hex::decode_to_slice(text.trim(), &mut hash).ok()?;
        Some(Self(hash))
    }
}

impl TokenHash {
    /// How logs name a token that somebody else has made.
    pub(crate) fn id(&self) -> String {
        let [a, b, ..] = self.0;
        format!("sha256:{a:02x}{b:02x}")
    }
}

impl fmt::Debug for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Enough to tell two apart, too little to test guesses of a weak token against.
        let [a, b, ..] = self.0;
        write!(f, "TokenHash({a:02x}{b:02x}…)")
    }
}

/// What is configured of a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Token {
    /// Its hash.
    pub hash: TokenHash,
    /// From when on it counts; `None` means always.
    pub not_before: Option<SystemTime>,
    /// From when on it no longer counts; `None` means never.
    pub expires: Option<SystemTime>,
}

impl Token {
    pub(crate) const FORM: &str = "must be the SHA-256 of a token, 64 hexadecimal digits, and may go on with \
                                   expires=2027-01-31T12:00:00Z and not_before=…: whatsapp-gateway create-token \
                                   makes both, or printf %s \"$TOKEN\" | sha256sum";

    /// Reads the hash and, after spaces, `expires=` and `not_before=` with times by RFC 3339.
    pub fn parse(line: &str) -> Option<Self> {
        let mut words = line.split_ascii_whitespace();
        let mut token = Self { hash: TokenHash::parse(words.next()?)?, not_before: None, expires: None };
        for word in words {
            let (key, time) = word.split_once('=')?;
            let bound = match key {
                "not_before" => &mut token.not_before,
                "expires" => &mut token.expires,
                _ => return None,
            };
            let time = SystemTime::from(time.parse::<Timestamp>().ok()?);
            if bound.replace(time).is_some() {
                return None;
            }
        }
        Some(token)
    }

    /// How logs name the token that was presented in this form, and whose hash this is.
    pub(crate) fn id(&self, form: Form<'_>) -> String {
        match form {
            Form::Made { id } => id.to_owned(),
            Form::Damaged | Form::Other => self.hash.id(),
        }
    }
}

/// The line of a configuration for this token; whole seconds.
pub(crate) fn line(token: &str, expires: Option<SystemTime>) -> String {
    let hash = hex::encode(TokenHash::of(token).0);
    match expires.and_then(|time| Timestamp::try_from(time).ok()) {
        Some(time) => format!("{hash} expires={}", time.strftime("%Y-%m-%dT%H:%M:%SZ")),
        None => hash,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_token_is_recognised_and_every_typing_error_too() {
        let (one, other) = (make().unwrap(), make().unwrap());
        assert_ne!(one, other);
        assert!(
            matches!(form(&one), Form::Made { id } if id.len() == 8 && one.starts_with(&format!("wag_{id}_")))
        );
        assert!(one.split('_').nth(2).is_some_and(|secret| secret.len() >= 32), "128 bits");
        for at in PREFIX.len()..one.len() {
            let mut typed = one.clone().into_bytes();
            typed[at] = if typed[at] == b'7' { b'8' } else { b'7' };
            assert_eq!(form(std::str::from_utf8(&typed).unwrap()), Form::Damaged, "character {at}");
            assert_eq!(form(&one[..at]), Form::Damaged, "cut at {at}");
        }
        assert_eq!(form("right-token"), Form::Other);
    }

    #[test]
    fn a_line_has_the_hash_and_its_times() {
        let expires = SystemTime::UNIX_EPOCH + Duration::from_hours(500_000);
        let read = Token::parse(&line("test", Some(expires))).unwrap();
        assert_eq!(read, Token { hash: TokenHash::of("test"), not_before: None, expires: Some(expires) });
        assert_eq!(Token::parse(&line("test", None)).unwrap().expires, None);
        assert_eq!(read.id(form("test")), "sha256:9f86");
        let hash = line("test", None);
        for bad in ["", "test", "expires=2027-01-31T12:00:00Z"] {
            assert_eq!(Token::parse(bad), None, "{bad}");
        }
        let time = "2027-01-31T12:00:00Z";
        assert!(Token::parse(&format!("{hash} not_before={time} expires={time}")).is_some());
        for bad in ["expires", "expires=soon", "expired=2027-01-31T12:00:00Z", "expires=2027-01-31"] {
            assert_eq!(Token::parse(&format!("{hash} {bad}")), None, "{bad}");
        }
        assert_eq!(Token::parse(&format!("{hash} expires={time} expires={time}")), None);
    }
}
