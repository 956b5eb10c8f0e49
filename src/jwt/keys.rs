//! The keys of an issuer (JWK set, RFC 7517).

use std::fmt;
use std::future::Future;
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, JwkSet, KeyAlgorithm, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use sha2::{Digest, Sha256};

use super::fetch::Calls;
use super::{Claims, Error, Header};

/// Keys of one set that are looked at. A token without `kid` may be tried with each.
const KEYS_MAX: usize = 32;
/// 2048 bits: a shorter RSA key proves nothing.
const RSA_BYTES_MIN: usize = 256;

/// The keys of an issuer at each moment; clones are the same ones.
#[derive(Clone, Default)]
pub struct Keys {
    current: Arc<ArcSwapOption<KeySet>>,
    /// Of the task that reads them from a URL; `None` for a file.
    calls: Option<Arc<Calls>>,
}

impl Keys {
    /// Those of a file, which its owner replaces.
    pub fn of_file(set: KeySet) -> Self {
        let keys = Self::default();
        keys.store(set);
        keys
    }

    /// Those behind a URL: none, until a [`Fetcher`](super::Fetcher) has read them.
    pub fn of_url() -> Self {
        Self { current: Arc::default(), calls: Some(Arc::default()) }
    }

    /// Replaces them.
    pub(crate) fn store(&self, set: KeySet) {
        self.current.store(Some(Arc::new(set)));
    }

    /// Those of this moment; `None` before the first were read.
    pub(super) fn load(&self) -> Option<Arc<KeySet>> {
        self.current.load_full()
    }

    pub(super) fn calls(&self) -> Option<&Arc<Calls>> {
        self.calls.as_ref()
    }

    pub(super) fn look_again(&self) -> Option<impl Future<Output = ()> + Send + 'static> {
        Arc::clone(self.calls.as_ref()?).look_again()
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Keys({})", self.load().map_or(0, |set| set.keys.len()))
    }
}

/// A set as it was read once.
#[derive(Debug)]
pub struct KeySet {
    keys: Vec<Key>,
    fingerprint: [u8; 32],
}

#[derive(Debug)]
struct Key {
    id: Option<String>,
    algorithm: Algorithm,
    public: DecodingKey,
}

impl KeySet {
    /// Reads a set. Keys for other purposes than signing and of other kinds than ours are passed over, but one must be
    /// left. The error is about the text and shows nothing of it.
    pub fn parse(text: &[u8]) -> Result<Self, &'static str> {
        let set: JwkSet = serde_json::from_slice(text)
            .map_err(|_| "must be a JWK set: a JSON object with a list \"keys\"")?;
        let keys: Vec<_> = set.keys.iter().filter_map(Key::read).take(KEYS_MAX).collect();
        if keys.is_empty() {
            return Err("has no key for RS256 (2048 bits or more), ES256 or EdDSA (Ed25519)");
        }
        Ok(Self { keys, fingerprint: Sha256::digest(text).into() })
    }

    /// Equal for equal texts.
    pub fn fingerprint(&self) -> [u8; 32] {
        self.fingerprint
    }

    /// The claims of a token, if it is signed with one of these keys.
    pub(super) fn verify(&self, token: &str, header: &Header, issuer: usize) -> Result<Claims, Error> {
        let algorithm = header.algorithm().ok_or(Error::AlgorithmRefused)?;
        if header.crit.is_some() {
            return Err(Error::Malformed("its header has crit, of which nothing is understood here"));
        }
        let is_meant = |key: &&Key| header.kid.is_none() || header.kid == key.id;
        let mut meant = self.keys.iter().filter(is_meant).filter(|key| key.algorithm == algorithm).peekable();
        if meant.peek().is_none() {
            return Err(Error::KeyUnknown { issuer });
        }
        let validation = signature_only(algorithm);
        for Key { public, .. } in meant {
            match jsonwebtoken::decode::<Claims>(token, public, &validation) {
                Ok(token) => return Ok(token.claims),
                Err(error) if matches!(error.kind(), jsonwebtoken::errors::ErrorKind::InvalidSignature) => {}
                Err(_) => return Err(Error::Malformed("it needs iss, sub, aud and exp")),
            }
        }
        Err(Error::SignatureWrong)
    }
}

/// The claims are held against our clock, and told apart by what is wrong with them.
fn signature_only(algorithm: Algorithm) -> Validation {
    let mut validation = Validation::new(algorithm);
    validation.required_spec_claims.clear();
    (validation.validate_exp, validation.validate_nbf, validation.validate_aud) = (false, false, false);
    validation
}

impl Key {
    fn read(jwk: &Jwk) -> Option<Self> {
        let (algorithm, name) = match &jwk.algorithm {
            AlgorithmParameters::RSA(rsa) => {
                let modulus = URL_SAFE_NO_PAD.decode(&rsa.n).ok()?;
                let bytes = modulus.iter().skip_while(|byte| **byte == 0).count();
                (bytes >= RSA_BYTES_MIN).then_some((Algorithm::RS256, KeyAlgorithm::RS256))?
            }
            AlgorithmParameters::EllipticCurve(curve) if curve.curve == EllipticCurve::P256 => {
                (Algorithm::ES256, KeyAlgorithm::ES256)
            }
            AlgorithmParameters::OctetKeyPair(pair) if pair.curve == EllipticCurve::Ed25519 => {
                (Algorithm::EdDSA, KeyAlgorithm::EdDSA)
            }
            AlgorithmParameters::EllipticCurve(_)
            | AlgorithmParameters::OctetKeyPair(_)
            | AlgorithmParameters::OctetKey(_)
            | AlgorithmParameters::Other(_)
            | _ => return None,
        };
        let is_for_it = jwk.common.key_algorithm.is_none_or(|stated| stated == name);
        let is_for_signing =
            jwk.common.public_key_use.as_ref().is_none_or(|stated| *stated == PublicKeyUse::Signature);
        let public = DecodingKey::from_jwk(jwk).ok()?;
        (is_for_it && is_for_signing).then(|| Self { id: jwk.common.key_id.clone(), algorithm, public })
    }
}
