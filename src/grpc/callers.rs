//! Who calls.
//!
//! A bearer token names the caller if the configuration knows its hash, or if it is a JWT of an issuer that is believed, with
//! a subject that the configuration knows; so does a client certificate with a name that it knows. Who presents both must be one caller, or one of the two is in the wrong hands; a certificate that nobody is
//! known by leaves the name to the token. Without either the caller is `local` where the gateway listens on loopback, and
//! `anonymous` where the configuration says that this is wanted; both may do everything unless they are configured, and
//! beside callers with credentials `anonymous` may do nothing unless it is. What is presented must be right even there.

use std::sync::Arc;

use http::{HeaderMap, header};
use jiff::Timestamp;

use crate::clock::SharedClock;
use crate::domain::caller::Caller;
use crate::domain::failure::Actor;
use crate::domain::rights::Rights;
use crate::jwt::{self, Issuers};
use crate::tenants::bearer::{self, Form};
use crate::tenants::{self, Snapshot, Strangers, Tenants, TokenHash};
use crate::tls::PeerCertificate;

pub(super) use super::identity::{Credential, Identity};

/// Names of a certificate that a refusal shows.
const NAMES_SHOWN: usize = 3;
/// Characters of such a name.
const NAME_CHARS_SHOWN: usize = 128;

/// Finds out who calls.
#[derive(Debug, Clone)]
pub struct Callers {
    tenants: Tenants,
    issuers: Issuers,
    strangers: Strangers,
    clock: SharedClock,
}

/// Why nobody is known to call.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Error {
    /// Neither a token nor a certificate where one is needed.
    #[error("credentials are missing: send metadata `authorization: Bearer <token>`")]
    Missing,
    /// Not of the form of a bearer token.
    #[error("the authorization metadata is not of the form `Bearer <token>`; send it so")]
    Malformed,
    /// Several, of which any one might count.
    #[error("there is more than one authorization entry in the metadata; send exactly one")]
    Repeated,
    /// A token of ours with a typing error.
    #[error(
        "the token is damaged: its checksum is wrong, so a part of it is missing or mistyped; copy it again"
    )]
    Damaged,
    /// A token that nobody has.
    #[error(
        "the token is not known to this gateway; use the caller's present one, or ask the operator for one (create-token)"
    )]
    Unknown,
    /// A token that has ended.
    #[error(
        "the token {id} of caller {caller} expired at {at}; use the next one, or ask the operator for it"
    )]
    Expired {
        /// The token.
        id: String,
        /// Whose it is.
        caller: String,
        /// When it ended.
        at: Timestamp,
    },
    /// A token whose time has not come.
    #[error("the token {id} of caller {caller} is not valid before {at}; use the one before it until then")]
    NotYetValid {
        /// The token.
        id: String,
        /// Whose it is.
        caller: String,
        /// When it begins.
        at: Timestamp,
    },
    /// A JWT that is not believed.
    #[error(transparent)]
    Jwt(#[from] jwt::Error),
    /// A right JWT whose subject is nobody.
    #[error(
        "the JWT is right, and its subject is no caller of this gateway; list it in callers.jwt_subjects (token {0})"
    )]
    SubjectUnknown(String),
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

impl Error {
    /// A word for metrics, the audit log and callers.
    pub(super) fn cause(&self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Malformed | Self::Repeated | Self::Damaged => "malformed",
            Self::Unknown => "unknown",
            Self::Expired { .. } => "expired",
            Self::NotYetValid { .. } => "not_yet_valid",
            Self::Jwt(error) => error.cause(),
            Self::SubjectUnknown(_) => "subject_unknown",
            Self::CertificateUnknown(_) => "certificate_unknown",
            Self::CertificateAmbiguous => "certificate_ambiguous",
            Self::Contradictory => "contradictory",
        }
    }

    /// The caller and the token, as far as they are known all the same; for the audit log.
    pub(super) fn whose(&self) -> (Option<&str>, Option<&str>) {
        match self {
            Self::Expired { id, caller, .. } | Self::NotYetValid { id, caller, .. } => {
                (Some(caller), Some(id))
            }
            Self::SubjectUnknown(id) => (None, Some(id)),
            Self::Missing
            | Self::Malformed
            | Self::Repeated
            | Self::Damaged
            | Self::Unknown
            | Self::Jwt(_)
            | Self::CertificateUnknown(_)
            | Self::CertificateAmbiguous
            | Self::Contradictory => (None, None),
        }
    }

    /// Who can do something about it.
    pub(super) fn actor(&self) -> Actor {
        // The others come from what was presented.
        if matches!(self, Self::Jwt(jwt::Error::KeysMissing { .. })) {
            Actor::Operator
        } else {
            Actor::Caller
        }
    }
}

impl Callers {
    /// Knows the callers of the configuration.
    pub fn new(tenants: Tenants, issuers: Issuers, strangers: Strangers, clock: SharedClock) -> Self {
        Self { tenants, issuers, strangers, clock }
    }

    /// The caller behind a request, by its headers and by what the handshake of its connection has verified.
    pub(super) fn identify(
        &self,
        headers: &HeaderMap,
        certificate: Option<&PeerCertificate>,
    ) -> Result<Identity, Error> {
        let snapshot = self.tenants.load();
        let certified =
            certificate.map(|certificate| by_certificate(&snapshot, certificate)).transpose()?.flatten();
        let mut presented = headers.get_all(header::AUTHORIZATION).iter();
        let Some(header) = presented.next() else {
            return match (certified, certificate) {
                (Some(caller), _) => Ok(known(caller, Credential::Certificate)),
                (None, Some(certificate)) => Err(Error::CertificateUnknown(shown(certificate))),
                (None, None) => self.without(&snapshot),
            };
        };
        if presented.next().is_some() {
            return Err(Error::Repeated);
        }
        let (scheme, token) = header.to_str().ok().and_then(|h| h.split_once(' ')).ok_or(Error::Malformed)?;
        if !scheme.eq_ignore_ascii_case("bearer") || token.trim().is_empty() {
            return Err(Error::Malformed);
        }
        let (caller, credential) = self.by_token(&snapshot, token.trim())?;
        if certified.is_some_and(|certified| certified.name != caller.name) {
            return Err(Error::Contradictory);
        }
        Ok(known(caller, credential))
    }

    /// The caller of a call without credentials.
    fn without(&self, snapshot: &Snapshot) -> Result<Identity, Error> {
        let (caller, credential) = match self.strangers {
            Strangers::Local => (Caller::local(), Credential::Loopback),
            Strangers::Anonymous | Strangers::AnonymousIfConfigured => {
                (Caller::anonymous(), Credential::None)
            }
            Strangers::Refused => return Err(Error::Missing),
        };
        let configured = snapshot.caller(caller.name()).map(|configured| Arc::clone(&configured.rights));
        let rights = match configured {
            Some(rights) => rights,
            None if self.strangers == Strangers::AnonymousIfConfigured => return Err(Error::Missing),
            None => Rights::everything(),
        };
        Ok(Identity::new(caller, credential, rights))
    }

    /// Looks at the keys again for which a token was refused, if that can help.
    pub(super) fn look_again(&self, error: &Error) -> Option<impl Future<Output = ()> + Send + 'static> {
        let Error::Jwt(error) = error else { return None };
        self.issuers.look_again(error)
    }

    /// Hash, lookup and form are done in each case, so that the time taken tells nothing of a token of ours.
    fn by_token<'a>(
        &self,
        snapshot: &'a Snapshot,
        text: &str,
    ) -> Result<(&'a tenants::Caller, Credential), Error> {
        let hash = TokenHash::of(text);
        let (found, form) = (snapshot.caller_by_token(&hash), bearer::form(text));
        let Some((caller, token)) = found else {
            if !self.issuers.is_empty() && jwt::looks_like_one(text) {
                return self.by_jwt(snapshot, text, hash);
            }
            return Err(if form == Form::Damaged { Error::Damaged } else { Error::Unknown });
        };
        let (id, now) = (token.id(form), self.clock.now());
        let shown = |time| Timestamp::try_from(time).unwrap_or_default();
        if let Some(at) = token.expires.filter(|at| *at <= now) {
            return Err(Error::Expired { id, caller: caller.name.to_string(), at: shown(at) });
        }
        if let Some(at) = token.not_before.filter(|at| *at > now) {
            return Err(Error::NotYetValid { id, caller: caller.name.to_string(), at: shown(at) });
        }
        Ok((caller, Credential::Token { id, expires: token.expires }))
    }

    fn by_jwt<'a>(
        &self,
        snapshot: &'a Snapshot,
        text: &str,
        hash: TokenHash,
    ) -> Result<(&'a tenants::Caller, Credential), Error> {
        let verified = self.issuers.verify(text, hash, self.clock.now())?;
        let caller = snapshot.caller_by_subject(&verified.subject);
        let caller = caller.ok_or_else(|| Error::SubjectUnknown(hash.id()))?;
        Ok((caller, Credential::Jwt { id: hash.id(), expires: verified.expires }))
    }
}

/// A configured caller.
fn known(caller: &tenants::Caller, credential: Credential) -> Identity {
    Identity::new(Caller::named(&caller.name), credential, Arc::clone(&caller.rights))
}

/// The caller of a certificate; `None` if nobody has any of its names.
fn by_certificate<'a>(
    snapshot: &'a Snapshot,
    certificate: &PeerCertificate,
) -> Result<Option<&'a tenants::Caller>, Error> {
    let mut callers = certificate.identities().iter().filter_map(|name| snapshot.caller_by_identity(name));
    let first = callers.next();
    if callers.any(|caller| Some(&caller.name) != first.map(|first| &first.name)) {
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

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use http::HeaderValue;

    use super::*;
    use crate::clock::SystemClock;

    #[test]
    fn of_two_tokens_neither_counts() {
        let tenants = Tenants::new(Snapshot::new(Vec::new(), Vec::new(), Vec::new()));
        let issuers = Issuers::new(Vec::new());
        let callers = Callers::new(tenants, issuers, Strangers::Local, Arc::new(SystemClock));
        let mut headers = HeaderMap::new();
        headers.append(header::AUTHORIZATION, HeaderValue::from_static("Bearer one"));
        assert_eq!(callers.identify(&headers, None).unwrap_err(), Error::Unknown);
        headers.append(header::AUTHORIZATION, HeaderValue::from_static("Bearer two"));
        let error = callers.identify(&headers, None).unwrap_err();
        assert_eq!((&error, error.cause()), (&Error::Repeated, "malformed"));
    }

    #[test]
    fn every_text_names_a_remedy() {
        let (id, caller, at) = ("1a2b".to_owned(), "orders".to_owned(), Timestamp::default());
        let time = SystemTime::UNIX_EPOCH;
        for error in [
            Error::Malformed,
            Error::Repeated,
            Error::Damaged,
            Error::Unknown,
            Error::Expired { id: id.clone(), caller: caller.clone(), at },
            Error::NotYetValid { id: id.clone(), caller, at },
            Error::SubjectUnknown(id),
            Error::CertificateUnknown("dns:a".to_owned()),
            Error::CertificateAmbiguous,
            Error::Contradictory,
            jwt::Error::Malformed("its claims lack iss").into(),
            jwt::Error::IssuerUnknown.into(),
            jwt::Error::KeysMissing { issuer: 0 }.into(),
            jwt::Error::KeyUnknown { issuer: 0 }.into(),
            jwt::Error::SignatureWrong.into(),
            jwt::Error::AudienceWrong.into(),
            jwt::Error::Expired { at: time }.into(),
            jwt::Error::NotYetValid { at: time }.into(),
        ] {
            assert!(error.to_string().contains("; "), "{error}");
        }
    }

    #[test]
    fn the_audit_log_learns_whose_token_is_over() {
        let (id, caller, at) = ("1a2b".to_owned(), "orders".to_owned(), Timestamp::default());
        let expired = Error::Expired { id: id.clone(), caller, at };
        assert_eq!(expired.whose(), (Some("orders"), Some("1a2b")));
        assert_eq!(Error::SubjectUnknown(id).whose(), (None, Some("1a2b")));
        assert_eq!(Error::Unknown.whose(), (None, None));
    }
}
