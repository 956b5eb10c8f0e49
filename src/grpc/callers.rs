//! Who calls.
//!
//! A bearer token whose hash the configuration knows names the caller. Without a token the caller is `local` where the
//! gateway listens on loopback, and `anonymous` where the configuration says that this is wanted. A token that is
//! presented must be right even there.

use http::{HeaderMap, header};

use crate::domain::caller::Caller;
use crate::tenants::Tenants;

/// Finds out who calls.
#[derive(Debug, Clone)]
pub struct Callers {
    tenants: Tenants,
    without_token: Option<Caller>,
}

/// Why nobody is known to call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Error {
    /// No token where one is needed.
    #[error("credentials are missing: send metadata `authorization: Bearer <token>`")]
    Missing,
    /// Not of the form of a bearer token.
    #[error("the authorization metadata is not of the form `Bearer <token>`")]
    Malformed,
    /// A token that nobody has.
    #[error("the token is not known to this gateway")]
    Unknown,
}

impl Callers {
    /// Knows the callers of the configuration. `is_loopback` says where the gateway listens, `is_insecure` that callers
    /// without credentials are wanted elsewhere too.
    pub fn new(tenants: Tenants, is_loopback: bool, is_insecure: bool) -> Self {
        let without_token = match (is_loopback, is_insecure) {
            (true, _) => Some(Caller::local()),
            (false, true) => Some(Caller::anonymous()),
            (false, false) => None,
        };
        Self { tenants, without_token }
    }

    /// The caller behind a request.
    pub(super) fn identify(&self, headers: &HeaderMap) -> Result<Caller, Error> {
        let Some(header) = headers.get(header::AUTHORIZATION) else {
            return self.without_token.clone().ok_or(Error::Missing);
        };
        let (scheme, token) = header.to_str().ok().and_then(|h| h.split_once(' ')).ok_or(Error::Malformed)?;
        if !scheme.eq_ignore_ascii_case("bearer") || token.trim().is_empty() {
            return Err(Error::Malformed);
        }
        let caller = self.tenants.load().caller_by_token(token.trim()).map(|name| Caller::named(name));
        caller.ok_or(Error::Unknown)
    }
}
