//! Callers by JWT (RFC 7519): whose tokens are believed, by which keys, and what a token says.
//!
//! A leaf: `config` reads the issuers and the files with their keys, [`Fetcher`] keeps the keys behind a URL current, and
//! `grpc` asks who a token names. It knows no callers.

mod fetch;
mod keys;

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::Algorithm;
use moka::sync::Cache;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::tenants::{Subject, TokenHash};

pub use fetch::{BuildError, Fetcher, Source};
pub use keys::{KeySet, Keys};

/// Verified tokens that are remembered, about 500 bytes each.
const VERIFIED_MAX: u64 = 10_000;
/// A longer token is none. Those of Kubernetes have about 1 KB.
const TOKEN_BYTES_MAX: usize = 8 * 1024;

/// Who makes tokens, and for whom they must be made.
#[derive(Debug)]
pub struct Issuer {
    /// Its name, as the claim `iss` has it.
    pub name: Arc<str>,
    /// Who we are: one of them must be in `aud`.
    pub audiences: Vec<String>,
    /// How far its clock may be from ours.
    pub leeway: Duration,
    /// Its keys.
    pub keys: Keys,
}

/// Whose tokens are believed. Clones share what is remembered.
#[derive(Clone)]
pub struct Issuers {
    all: Arc<[Issuer]>,
    verified: Cache<TokenHash, Arc<Known>>,
}

/// What a token said that was right.
struct Known {
    verified: Verified,
    times: Times,
    issuer: usize,
    /// Which keys were in use: with others nothing is known of the token.
    keys: [u8; 32],
}

/// Whom a right token names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// Issuer and `sub`.
    pub subject: Subject,
    /// `exp`.
    pub expires: SystemTime,
}

/// Why a token is not believed. The texts show nothing of it but its times.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// It cannot be read, or lacks a claim.
    #[error("the token looks like a JWT and is none that can be used: {0}; get one from its issuer")]
    Malformed(&'static str),
    /// Nobody believes its issuer.
    #[error(
        "the JWT is of an issuer that this gateway does not believe; use one of another issuer, or ask the operator to \
         list this one (jwt_issuers.issuer)"
    )]
    IssuerUnknown,
    /// It is signed by other means.
    #[error("the JWT must be signed with RS256, ES256 or EdDSA")]
    AlgorithmRefused,
    /// Nothing was ever read of where the keys should be.
    #[error(
        "the keys of the JWT's issuer could not be read yet; try again, or ask whoever runs the gateway, whose log says why"
    )]
    KeysMissing {
        /// The place of the issuer.
        issuer: usize,
    },
    /// No key has its `kid`.
    #[error("the JWT is signed with a key that its issuer does not have; get a new one from its issuer")]
    KeyUnknown {
        /// The place of the issuer.
        issuer: usize,
    },
    /// The signature is not that of the key.
    #[error("the signature of the JWT is wrong; send it whole as its issuer made it, or get a new one")]
    SignatureWrong,
    /// It is made for somebody else.
    #[error(
        "the JWT is for another audience; ask its issuer for one whose aud names this gateway (jwt_issuers.audiences)"
    )]
    AudienceWrong,
    /// It has ended.
    #[error("the JWT expired at {}; get a new one from its issuer", shown(*.at))]
    Expired {
        /// `exp`.
        at: SystemTime,
    },
    /// It has not begun.
    #[error("the JWT is not valid before {}; is a clock wrong?", shown(*.at))]
    NotYetValid {
        /// `nbf`.
        at: SystemTime,
    },
}

impl Error {
    /// A word for metrics, the audit log and callers.
    pub fn cause(&self) -> &'static str {
        match self {
            Self::Malformed(_) => "malformed",
            Self::IssuerUnknown => "issuer_unknown",
            Self::AlgorithmRefused => "algorithm_refused",
            Self::KeysMissing { .. } => "keys_missing",
            Self::KeyUnknown { .. } => "key_unknown",
            Self::SignatureWrong => "signature_wrong",
            Self::AudienceWrong => "audience_wrong",
            Self::Expired { .. } => "expired",
            Self::NotYetValid { .. } => "not_yet_valid",
        }
    }

    /// Whose keys should be looked at again.
    fn lacking(&self) -> Option<usize> {
        match self {
            Self::KeysMissing { issuer } | Self::KeyUnknown { issuer } => Some(*issuer),
            Self::Malformed(_)
            | Self::IssuerUnknown
            | Self::AlgorithmRefused
            | Self::SignatureWrong
            | Self::AudienceWrong
            | Self::Expired { .. }
            | Self::NotYetValid { .. } => None,
        }
    }
}

fn shown(time: SystemTime) -> jiff::Timestamp {
    jiff::Timestamp::try_from(time).unwrap_or_default()
}

/// Whether a text is a JWT by its looks: a header, which is a JSON object, and two more parts.
pub fn looks_like_one(text: &str) -> bool {
    text.starts_with("eyJ") && text.bytes().filter(|byte| *byte == b'.').count() == 2
}

impl Issuers {
    /// Believes these.
    pub fn new(all: Vec<Issuer>) -> Self {
        Self { all: all.into(), verified: Cache::new(VERIFIED_MAX) }
    }

    /// Whether there is any.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Whom a token names. `hash` is that of the whole token: what was verified before is found by it, so that a
    /// signature is checked once. Times count anew at each call, and so does everything once the keys have changed.
    pub fn verify(&self, token: &str, hash: TokenHash, now: SystemTime) -> Result<Verified, Error> {
        if let Some(known) = self.verified.get(&hash)
            && let Some(issuer) = self.all.get(known.issuer)
            && issuer.keys.load().is_some_and(|keys| keys.fingerprint() == known.keys)
        {
            known.times.check(issuer.leeway, now)?;
            return Ok(known.verified.clone());
        }
        if token.len() > TOKEN_BYTES_MAX {
            return Err(Error::Malformed("it is longer than 8 KiB"));
        }
        let mut parts = token.split('.');
        let (Some(header), Some(payload)) = (parts.next(), parts.next()) else {
            return Err(Error::Malformed("it has no payload"));
        };
        // Believed only as far as it says whose keys are to be tried.
        let Unverified { iss } = decoded(payload).ok_or(Error::Malformed("its claims lack iss"))?;
        let known = self.all.iter().enumerate().find(|(_, issuer)| *issuer.name == *iss);
        let (place, issuer) = known.ok_or(Error::IssuerUnknown)?;
        let header: Header = decoded(header).ok_or(Error::Malformed("its header cannot be read"))?;
        let keys = issuer.keys.load().ok_or(Error::KeysMissing { issuer: place })?;
        let (verified, times) = issuer.check(keys.verify(token, &header, place)?, now)?;
        let known = Known { verified: verified.clone(), times, issuer: place, keys: keys.fingerprint() };
        self.verified.insert(hash, Arc::new(known));
        Ok(verified)
    }

    /// Looks at the keys again for which a token was refused; `None` if that helps nothing, or was done just now. What it
    /// gives is done when they have been read, and after three seconds in any case.
    pub fn look_again(&self, error: &Error) -> Option<impl Future<Output = ()> + Send + 'static> {
        self.all.get(error.lacking()?)?.keys.look_again()
    }
}

impl fmt::Debug for Issuers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Issuers").field("all", &self.all).finish_non_exhaustive()
    }
}

impl Issuer {
    /// Holds the claims of a rightly signed token against the time and against who we are.
    fn check(&self, claims: Claims, now: SystemTime) -> Result<(Verified, Times), Error> {
        let times = Times {
            expires: moment(claims.exp).ok_or(Error::Malformed("exp is no time"))?,
            not_before: match claims.nbf {
                Some(nbf) => Some(moment(nbf).ok_or(Error::Malformed("nbf is no time"))?),
                None => None,
            },
        };
        times.check(self.leeway, now)?;
        let is_for_us = match &claims.aud {
            Audience::One(one) => self.audiences.contains(one),
            Audience::Many(many) => many.iter().any(|one| self.audiences.contains(one)),
        };
        if !is_for_us {
            return Err(Error::AudienceWrong);
        }
        let subject = Subject { issuer: Arc::clone(&self.name), name: claims.sub };
        Ok((Verified { subject, expires: times.expires }, times))
    }
}

/// When a token counts.
#[derive(Debug, Clone, Copy)]
struct Times {
    expires: SystemTime,
    not_before: Option<SystemTime>,
}

impl Times {
    fn check(&self, leeway: Duration, now: SystemTime) -> Result<(), Error> {
        if self.expires.checked_add(leeway).is_some_and(|end| end <= now) {
            return Err(Error::Expired { at: self.expires });
        }
        match self.not_before {
            Some(at) if now.checked_add(leeway).is_some_and(|now| now < at) => Err(Error::NotYetValid { at }),
            Some(_) | None => Ok(()),
        }
    }
}

/// A `NumericDate`: seconds since 1970, perhaps with a fraction.
fn moment(seconds: f64) -> Option<SystemTime> {
    UNIX_EPOCH.checked_add(Duration::try_from_secs_f64(seconds).ok()?)
}

/// The part of a header that counts.
#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    /// Extensions that must be understood; we understand none.
    crit: Option<serde::de::IgnoredAny>,
}

impl Header {
    /// Neither `none` nor a secret that both sides know can be had here.
    fn algorithm(&self) -> Option<Algorithm> {
        match self.alg.as_str() {
            "RS256" => Some(Algorithm::RS256),
            "ES256" => Some(Algorithm::ES256),
            "EdDSA" => Some(Algorithm::EdDSA),
            _ => None,
        }
    }
}

#[derive(Deserialize)]
struct Unverified {
    iss: String,
}

#[derive(Deserialize)]
struct Claims {
    sub: String,
    aud: Audience,
    exp: f64,
    nbf: Option<f64>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Many(Vec<String>),
}

fn decoded<T: DeserializeOwned>(part: &str) -> Option<T> {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).ok()?).ok()
}
