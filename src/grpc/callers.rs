//! Who calls.
//!
//! A bearer token whose hash the configuration knows names the caller, and so does a client certificate with a name that
//! it knows. Who presents both must be one caller, or one of the two is in the wrong hands; a certificate that nobody is
//! known by leaves the name to the token. Without either the caller is `local` where the gateway listens on loopback, and
//! `anonymous` where the configuration says that this is wanted. What is presented must be right even there.

use std::sync::Arc;

use http::{HeaderMap, header};

use crate::domain::caller::Caller;
use crate::tenants::{Snapshot, Tenants};
use crate::tls::PeerCertificate;

/// Names of a certificate that a refusal shows.
const NAMES_SHOWN: usize = 3;
/// Characters of such a name.
const NAME_CHARS_SHOWN: usize = 128;

/// Finds out who calls.
#[derive(Debug, Clone)]
pub struct Callers {
    tenants: Tenants,
    without_credentials: Option<Caller>,
}

/// Why nobody is known to call.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Error {
    /// Neither a token nor a certificate where one is needed.
    #[error("credentials are missing: send metadata `authorization: Bearer <token>`")]
    Missing,
    /// Not of the form of a bearer token.
    #[error("the authorization metadata is not of the form `Bearer <token>`")]
    Malformed,
    /// A token that nobody has.
    #[error("the token is not known to this gateway")]
    Unknown,
    /// A certificate that nobody has, and no token.
    #[error(
        "the client certificate is not known to this gateway: it has {0}; list one of its names in callers.identities"
    )]
    CertificateUnknown(String),
    /// A certificate with the names of two callers.
    #[error("the client certificate has the names of several callers; issue one for each")]
    CertificateAmbiguous,
    /// The token of one and the certificate of another.
    #[error(
        "the token is that of another caller than the client certificate; send the token of the same caller, or none"
    )]
    Contradictory,
}

impl Callers {
    /// Knows the callers of the configuration. `is_loopback` says where the gateway listens, `is_insecure` that callers
    /// without credentials are wanted elsewhere too.
    pub fn new(tenants: Tenants, is_loopback: bool, is_insecure: bool) -> Self {
        let without_credentials = match (is_loopback, is_insecure) {
            (true, _) => Some(Caller::local()),
            (false, true) => Some(Caller::anonymous()),
            (false, false) => None,
        };
        Self { tenants, without_credentials }
    }

    /// The caller behind a request, by its headers and by what the handshake of its connection has verified.
    pub(super) fn identify(
        &self,
        headers: &HeaderMap,
        certificate: Option<&PeerCertificate>,
    ) -> Result<Caller, Error> {
        let snapshot = self.tenants.load();
        let certified =
            certificate.map(|certificate| by_certificate(&snapshot, certificate)).transpose()?.flatten();
        let name = match headers.get(header::AUTHORIZATION) {
            Some(header) => {
                let header = header.to_str().ok().and_then(|header| header.split_once(' '));
                let (scheme, token) = header.ok_or(Error::Malformed)?;
                if !scheme.eq_ignore_ascii_case("bearer") || token.trim().is_empty() {
                    return Err(Error::Malformed);
                }
                let name = snapshot.caller_by_token(token.trim()).ok_or(Error::Unknown)?;
                if certified.is_some_and(|certified| certified != name) {
                    return Err(Error::Contradictory);
                }
                Some(name)
            }
            None => certified,
        };
        match (name, certificate) {
            (Some(name), _) => Ok(Caller::named(name)),
            (None, Some(certificate)) => Err(Error::CertificateUnknown(shown(certificate))),
            (None, None) => self.without_credentials.clone().ok_or(Error::Missing),
        }
    }
}

/// The caller of a certificate; `None` if nobody has any of its names.
fn by_certificate<'a>(
    snapshot: &'a Snapshot,
    certificate: &PeerCertificate,
) -> Result<Option<&'a Arc<str>>, Error> {
    let mut names = certificate.identities().iter().filter_map(|name| snapshot.caller_by_identity(name));
    let first = names.next();
    if names.any(|name| Some(name) != first) {
        return Err(Error::CertificateAmbiguous);
    }
    Ok(first)
}

/// The first names of a certificate, for whoever presented it.
fn shown(certificate: &PeerCertificate) -> String {
    let names = certificate.identities().iter().take(NAMES_SHOWN);
    let names: Vec<String> =
        names.map(|name| name.to_string().chars().take(NAME_CHARS_SHOWN).collect()).collect();
    if names.is_empty() { "neither a URI nor a DNS name".to_owned() } else { names.join(", ") }
}
