//! `X-Hub-Signature-256`: proof that a webhook comes from Meta (reference 4.1, Signature).
//!
//! HMAC-SHA256 over the bytes as they came; JSON written again would have another hash. Several app secrets
//! may be live at a time: several apps, or one during a rotation.

use hmac::{Hmac, KeyInit, Mac};
use secrecy::{ExposeSecret, SecretString};
use sha2::Sha256;

const DIGEST_LENGTH: usize = 32;

/// Why a webhook is not accepted. For the metric alone: the answer is the same for all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// No header.
    #[error("the signature is missing")]
    Missing,
    /// A header that is not `sha256=` and 64 hexadecimal digits.
    #[error("the signature is malformed")]
    Malformed,
    /// A signature by no secret of ours, or over another body.
    #[error("the signature is wrong")]
    Wrong,
}

impl Rejection {
    /// The label of the metric.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Malformed => "malformed",
            Self::Wrong => "wrong",
        }
    }
}

/// Whether the value of `X-Hub-Signature-256` has the form of a signature; whose it is, only the body tells.
pub fn has_form(header: Option<&[u8]>) -> bool {
    header.and_then(parse).is_some()
}

/// The live app secrets, each prepared once: cloning a keyed state is cheaper than keying a new one.
#[derive(Clone, Default)]
pub struct SignatureKeys(Vec<Hmac<Sha256>>);

impl SignatureKeys {
    /// Prepares the secrets. An empty secret is left out, because anybody can sign with it.
    pub fn new<'a>(secrets: impl IntoIterator<Item = &'a SecretString>) -> Self {
        let bytes = secrets.into_iter().map(|secret| secret.expose_secret().as_bytes());
        let keys = bytes.filter(|secret| !secret.is_empty()).map(Hmac::<Sha256>::new_from_slice);
        Self(keys.filter_map(Result::ok).collect())
    }

    /// Checks the value of `X-Hub-Signature-256` against `body`. Takes the same time whichever secret fits
    /// and however much of a wrong signature is right.
    pub fn verify(&self, header: Option<&[u8]>, body: &[u8]) -> Result<(), Rejection> {
        let signature = parse(header.ok_or(Rejection::Missing)?).ok_or(Rejection::Malformed)?;
        let matches = |key: &Hmac<Sha256>| key.clone().chain_update(body).verify_slice(&signature).is_ok();
        let is_signed = self.0.iter().fold(false, |found, key| matches(key) | found);
        if is_signed { Ok(()) } else { Err(Rejection::Wrong) }
    }
}

impl std::fmt::Debug for SignatureKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SignatureKeys({} masked)", self.0.len())
    }
}

/// Meta writes lower-case digits; a proxy that changes their case does no harm.
fn parse(header: &[u8]) -> Option<[u8; DIGEST_LENGTH]> {
    let mut signature = [0; DIGEST_LENGTH];
    hex::decode_to_slice(header.strip_prefix(b"sha256=")?, &mut signature).ok()?;
    Some(signature)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sign(secret: &str, body: &[u8]) -> String {
        let mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap().chain_update(body);
        format!("sha256={}", hex::encode(mac.finalize().into_bytes()))
    }

    fn keys(secrets: &[&str]) -> SignatureKeys {
        let secrets: Vec<SecretString> = secrets.iter().map(|text| SecretString::from(*text)).collect();
        SignatureKeys::new(&secrets)
    }

    #[test]
    fn a_known_vector_verifies() {
        // RFC 4231, test case 2.
        let header = b"sha256=5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
        assert_eq!(keys(&["Jefe"]).verify(Some(header), b"what do ya want for nothing?"), Ok(()));
    }

    #[test]
    fn any_live_secret_will_do() {
        let body = br#"{"object":"whatsapp_business_account","entry":[]}"#;
        for secret in ["old", "new"] {
            assert_eq!(keys(&["old", "new"]).verify(Some(sign(secret, body).as_bytes()), body), Ok(()));
        }
        let upper = sign("new", body).to_uppercase().replace("SHA256", "sha256");
        assert_eq!(keys(&["old", "new"]).verify(Some(upper.as_bytes()), body), Ok(()));
    }

    #[test]
    fn everything_else_is_refused() {
        let body = b"{}";
        let good = sign("secret", body);
        let digits = good.strip_prefix("sha256=").unwrap();
        let cases: Vec<(Option<String>, Rejection)> = vec![
            (None, Rejection::Missing),
            (Some(String::new()), Rejection::Malformed),
            (Some(digits.to_owned()), Rejection::Malformed),
            (Some(format!("sha1={digits}")), Rejection::Malformed),
            (Some(format!("SHA256={digits}")), Rejection::Malformed),
            (Some(format!("sha256={}", &digits[..62])), Rejection::Malformed),
            (Some(format!("{good}00")), Rejection::Malformed),
            (Some(format!(" {good}")), Rejection::Malformed),
            (Some(format!("{good} ")), Rejection::Malformed),
            (Some(format!("sha256={}zz", &digits[..62])), Rejection::Malformed),
            (Some(sign("another", body)), Rejection::Wrong),
            (Some(sign("secret", b"{ }")), Rejection::Wrong),
            (Some(sign("", body)), Rejection::Wrong),
        ];
        for (header, rejection) in cases {
            let answer = keys(&["secret", ""]).verify(header.as_deref().map(str::as_bytes), body);
            assert_eq!(answer, Err(rejection), "{header:?}");
        }
        assert_eq!(keys(&[]).verify(Some(good.as_bytes()), body), Err(Rejection::Wrong));
    }

    #[test]
    fn secrets_are_not_printed() {
        assert_eq!(format!("{:?}", keys(&["secret"])), "SignatureKeys(1 masked)");
    }
}
