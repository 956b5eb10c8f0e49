//! The configured accounts and callers with their secrets, as one value that is swapped whole.
//!
//! A leaf: `config` builds it and replaces it when a secret file changes; `flows` and `grpc` look things up in it. It
//! knows neither where the values come from nor what they are used for. `bearer` has the form of tokens.

pub(crate) mod bearer;

use std::collections::BTreeMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};
use subtle::{Choice, ConstantTimeEq};

use crate::domain::rights::Rights;
use crate::tls::Identity;

pub use bearer::{Token, TokenHash};

/// Who calls without credentials.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strangers {
    /// `local`, which may do everything unless it is configured.
    Local,
    /// `anonymous`, likewise.
    Anonymous,
    /// `anonymous` if it is configured, and else nobody: where others have credentials, nobody does without by accident.
    AnonymousIfConfigured,
    /// Nobody.
    Refused,
}

/// Whom a JWT names: `sub` means something only beside its issuer.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Subject {
    /// `iss`.
    pub issuer: Arc<str>,
    /// `sub`.
    pub name: String,
}

/// A Meta app.
#[derive(Debug)]
pub struct App {
    /// Meta's id of the app.
    pub id: Arc<str>,
    /// The live app secrets, one or two; a webhook signed with either is genuine.
    pub secrets: Vec<SecretString>,
    /// What Meta shows when it verifies the webhook's address.
    pub verify_token: SecretString,
}

/// A WhatsApp Business Account.
#[derive(Debug)]
pub struct Waba {
    /// Meta's id of the account.
    pub id: Arc<str>,
    /// The app whose token this is.
    pub app_id: Arc<str>,
    /// The token for calls to the Cloud API.
    pub access_token: SecretString,
    /// Meta's ids of the account's numbers, at least one, as configured.
    pub phone_number_ids: Vec<Arc<str>>,
}

/// A service that may call the gRPC API.
#[derive(Debug)]
pub struct Caller {
    /// Its name, for logs, audit and limits.
    pub name: Arc<str>,
    /// Its tokens, two at most; none while its file is empty.
    pub tokens: Vec<Token>,
    /// The names that its certificate may have, any one of them.
    pub identities: Vec<Identity>,
    /// The subjects of its JWTs, any one of them.
    pub subjects: Vec<Subject>,
    /// What it may do.
    pub rights: Arc<Rights>,
}

/// The current [`Snapshot`], shared by everyone who looks things up; clones are the same one.
#[derive(Debug, Clone)]
pub struct Tenants(Arc<ArcSwap<Snapshot>>);

impl Tenants {
    /// Starts with this snapshot.
    pub(crate) fn new(snapshot: Snapshot) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(snapshot)))
    }

    /// The snapshot of this moment. Take it once per request, so that one request sees one state.
    pub fn load(&self) -> Arc<Snapshot> {
        self.0.load_full()
    }

    /// Replaces the snapshot whole.
    pub(crate) fn store(&self, snapshot: Snapshot) {
        self.0.store(Arc::new(snapshot));
    }
}

/// All accounts, callers and secrets at one moment. It does not change; a reload makes another.
#[derive(Debug)]
pub struct Snapshot {
    pub(crate) apps: Vec<App>,
    pub(crate) callers: Vec<Caller>,
    wabas: Vec<Arc<Waba>>,
    /// Every configured number, by its id.
    numbers: BTreeMap<Arc<str>, Arc<Waba>>,
    /// The place of the caller in `callers`, and its token.
    caller_by_hash: BTreeMap<TokenHash, (usize, Token)>,
    caller_by_identity: BTreeMap<Identity, usize>,
    caller_by_subject: BTreeMap<Subject, usize>,
}

impl Snapshot {
    pub(crate) fn new(apps: Vec<App>, wabas: Vec<Waba>, callers: Vec<Caller>) -> Self {
        let wabas: Vec<_> = wabas.into_iter().map(Arc::new).collect();
        let number_of = |waba: &Arc<Waba>| {
            let waba = Arc::clone(waba);
            waba.phone_number_ids.clone().into_iter().map(move |number| (number, Arc::clone(&waba)))
        };
        let numbers = wabas.iter().flat_map(number_of).collect();
        let tokens_of = |(index, caller): (usize, &Caller)| {
            caller.tokens.clone().into_iter().map(move |token| (token.hash, (index, token)))
        };
        let identities_of = |(index, caller): (usize, &Caller)| {
            caller.identities.clone().into_iter().map(move |identity| (identity, index))
        };
        let subjects_of = |(index, caller): (usize, &Caller)| {
            caller.subjects.clone().into_iter().map(move |subject| (subject, index))
        };
        let caller_by_hash = callers.iter().enumerate().flat_map(tokens_of).collect();
        let caller_by_identity = callers.iter().enumerate().flat_map(identities_of).collect();
        let caller_by_subject = callers.iter().enumerate().flat_map(subjects_of).collect();
        Self { apps, callers, wabas, numbers, caller_by_hash, caller_by_identity, caller_by_subject }
    }

    /// The account of a number; `None` if the number is not configured.
    pub fn number(&self, phone_number_id: &str) -> Option<&Arc<Waba>> {
        self.numbers.get(phone_number_id)
    }

    /// The number and its account when exactly one number is configured.
    pub fn only_number(&self) -> Option<(&Arc<str>, &Arc<Waba>)> {
        self.numbers.first_key_value().filter(|_| self.numbers.len() == 1)
    }

    /// The ids of all configured numbers, in order, for messages.
    pub fn numbers(&self) -> impl Iterator<Item = &Arc<str>> {
        self.numbers.keys()
    }

    /// An account by its id; `None` if it is not configured.
    pub fn waba(&self, waba_id: &str) -> Option<&Arc<Waba>> {
        self.wabas.iter().find(|waba| &*waba.id == waba_id)
    }

    /// The account when exactly one is configured.
    pub fn only_waba(&self) -> Option<&Arc<Waba>> {
        self.wabas.first().filter(|_| self.wabas.len() == 1)
    }

    /// All accounts, as configured.
    pub fn wabas(&self) -> &[Arc<Waba>] {
        &self.wabas
    }

    /// All apps, as configured.
    pub fn apps(&self) -> &[App] {
        &self.apps
    }

    /// Every live app secret. A webhook does not say which app signed it.
    pub fn app_secrets(&self) -> impl Iterator<Item = &SecretString> {
        self.apps.iter().flat_map(|app| &app.secrets)
    }

    /// True if `candidate` is the verify token of any app. The time taken does not tell how nearly it was.
    pub fn verify_token_matches(&self, candidate: &str) -> bool {
        let candidate = Sha256::digest(candidate.as_bytes());
        let matches =
            |app: &App| Sha256::digest(app.verify_token.expose_secret().as_bytes()).ct_eq(&candidate);
        self.apps.iter().fold(Choice::from(0), |any, app| any | matches(app)).into()
    }

    /// The caller whose token has this hash, whether the token counts at this time or not. Of a hash timing
    /// tells nothing of it.
    pub fn caller_by_token(&self, hash: &TokenHash) -> Option<(&Caller, &Token)> {
        let (index, token) = self.caller_by_hash.get(hash)?;
        Some((self.callers.get(*index)?, token))
    }

    /// The caller of this name; `None` if it is not configured.
    pub fn caller(&self, name: &str) -> Option<&Caller> {
        self.callers.iter().find(|caller| &*caller.name == name)
    }

    /// The caller whose JWTs have this subject.
    pub fn caller_by_subject(&self, subject: &Subject) -> Option<&Caller> {
        self.callers.get(*self.caller_by_subject.get(subject)?)
    }

    /// The caller whose certificate has this name.
    pub fn caller_by_identity(&self, identity: &Identity) -> Option<&Caller> {
        self.callers.get(*self.caller_by_identity.get(identity)?)
    }
}
