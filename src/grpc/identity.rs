//! Who makes a call, and how it is known.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use crate::domain::caller::Caller;
use crate::domain::rights::Rights;

use super::audit::Facts;

/// How a caller is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Credential {
    /// It reaches a loopback address.
    Loopback,
    /// None is asked for.
    None,
    /// A client certificate, and no token.
    Certificate,
    /// A bearer token, with a certificate of the same caller or without.
    Token {
        /// How logs name it.
        id: String,
        /// When it ends; `None` means never.
        expires: Option<SystemTime>,
    },
    /// A JWT, likewise.
    Jwt {
        /// How logs name it.
        id: String,
        /// When it ends.
        expires: SystemTime,
    },
}

/// Who makes one call, and what becomes known of it for the audit log.
#[derive(Debug)]
pub(super) struct Identity {
    pub(super) caller: Caller,
    pub(super) credential: Credential,
    pub(super) rights: Arc<Rights>,
    /// From where; for the audit log.
    pub(super) peer: Option<IpAddr>,
    /// The replica that has passed the call on, if one has; for the audit log.
    pub(super) via: Option<String>,
    facts: Mutex<Facts>,
}

impl Identity {
    pub(super) fn new(caller: Caller, credential: Credential, rights: Arc<Rights>) -> Self {
        Self { caller, credential, rights, peer: None, via: None, facts: Mutex::default() }
    }

    /// The same caller, for a message of its own on the same stream.
    pub(super) fn again(&self) -> Self {
        let Self { caller, credential, rights, peer, via, facts: _ } = self;
        let again = Self::new(caller.clone(), credential.clone(), Arc::clone(rights)).at(*peer);
        Self { via: via.clone(), ..again }
    }

    /// The same caller, whose call another replica has passed on.
    pub(super) fn by(self, via: String) -> Self {
        Self { via: Some(via), ..self }
    }

    /// The same caller, with the address that it calls from.
    pub(super) fn at(self, peer: Option<IpAddr>) -> Self {
        Self { peer, ..self }
    }

    /// Notes what the audit log should have.
    pub(super) fn note(&self, fill: impl FnOnce(&mut Facts)) {
        fill(&mut self.facts.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// What was noted.
    pub(super) fn facts(&self) -> Facts {
        self.facts.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
