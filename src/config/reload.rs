//! The replacement of secrets and certificates when their files change.

use std::path::PathBuf;
use std::time::Duration;

use tokio::time::sleep;
use tracing::{info, warn};

use super::accounts::Accounts;
use super::expiry;
use super::jwt::{self, IssuerEntry, Place};
use super::problem::{Collector, Problems};
use super::secrets::{self, Fingerprint};
use super::tls::TlsFiles;
use crate::jwt::Keys;
use crate::telemetry::names;
use crate::tenants::Tenants;
use crate::tls::Tls;

/// Between two looks at files that have changed: they count when both find the same.
const SETTLING: Duration = Duration::from_secs(1);

/// What a look at the files led to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reload {
    /// The files are as they were.
    Unchanged,
    /// They changed, and what they hold is in use.
    Applied,
    /// They changed since the last look, so somebody may still be writing; what they held before stays in use.
    Settling,
    /// They cannot be used; what they held before stays in use.
    Rejected(Problems),
}

/// Reads the files again and again, by content: Kubernetes swaps a symbolic link, which changes neither the path nor,
/// for a watcher of the file, anything at all.
///
/// The secrets are one set, the TLS files another, and so is each file with the keys of a JWT issuer: a token that cannot be read must not keep a new certificate out.
#[derive(Debug)]
pub struct Watcher {
    pub(super) accounts: Accounts,
    pub(super) tenants: Tenants,
    pub(super) secrets: Seen,
    pub(super) tls: Option<(TlsFiles, Tls, Seen)>,
    pub(super) keys: Vec<KeyFile>,
}

/// A file with the keys of a JWT issuer.
#[derive(Debug)]
pub(super) struct KeyFile {
    prefix: String,
    path: PathBuf,
    keys: Keys,
    seen: Seen,
}

/// Those that are there.
pub(super) fn key_files(issuers: &[IssuerEntry]) -> Vec<KeyFile> {
    let file = |entry: &IssuerEntry| match &entry.place {
        Place::File(path) => Some(KeyFile {
            prefix: entry.prefix.clone(),
            path: path.clone(),
            keys: entry.keys.clone(),
            seen: Seen::new(("keys of a JWT issuer", "jwks"), entry.fingerprint),
        }),
        Place::Url { .. } => None,
    };
    issuers.iter().filter_map(file).collect()
}

/// What a set of files was at the last look.
#[derive(Debug)]
pub(super) struct Seen {
    /// As people say, and as metrics do.
    noun: &'static str,
    part: &'static str,
    fingerprint: Fingerprint,
    /// What they held at the last look, if that is not in use.
    settling: Option<Fingerprint>,
    /// The problems that were logged last, so that they are logged once.
    logged: Option<Problems>,
}

impl Watcher {
    /// Looks every `period`, until dropped, and soon again at what changes.
    pub async fn run(mut self, period: Duration) {
        loop {
            let look = move || {
                let before = self.tenants.load();
                let mut seen = vec![self.reload_once(), self.reload_tls_once()];
                seen.append(&mut self.reload_keys_once());
                expiry::show(&before, &self.tenants.load(), self.tls.as_ref().map(|(_, tls, _)| tls));
                (self, seen.contains(&Reload::Settling))
            };
            // File systems may hang; a thread of their own may hang with them.
            let is_settling;
            (self, is_settling) = match tokio::task::spawn_blocking(look).await {
                Ok(looked) => looked,
                Err(failure) if failure.is_panic() => std::panic::resume_unwind(failure.into_panic()),
                Err(_) => return,
            };
            sleep(if is_settling { SETTLING.min(period) } else { period }).await;
        }
    }

    /// Looks at the secrets and callers once. Either all of them are replaced or none.
    pub fn reload_once(&mut self) -> Reload {
        let Self { accounts, tenants, secrets, .. } = self;
        secrets.look(
            |problems| {
                let (snapshot, fingerprint) = secrets::resolve(accounts, problems);
                (Some(snapshot), fingerprint)
            },
            |snapshot| tenants.store(snapshot),
        )
    }

    /// Looks at the TLS files once. Certificate, key and authorities are replaced together or not at all.
    pub fn reload_tls_once(&mut self) -> Reload {
        let Some((files, tls, seen)) = &mut self.tls else { return Reload::Unchanged };
        seen.look(|problems| files.resolve(problems), |config| tls.store(config))
    }

    /// Looks at the files with keys once, each for itself.
    pub fn reload_keys_once(&mut self) -> Vec<Reload> {
        let look = |file: &mut KeyFile| {
            let KeyFile { prefix, path, keys, seen } = file;
            seen.look(|problems| jwt::resolve(prefix, path, problems), |set| keys.store(set))
        };
        self.keys.iter_mut().map(look).collect()
    }
}

impl Seen {
    pub(super) fn new((noun, part): (&'static str, &'static str), fingerprint: Fingerprint) -> Self {
        Self { noun, part, fingerprint, settling: None, logged: None }
    }

    /// `read` gives nothing only if it reports why.
    fn look<T>(
        &mut self,
        read: impl FnOnce(&Collector) -> (Option<T>, Fingerprint),
        apply: impl FnOnce(T),
    ) -> Reload {
        let problems = Collector::default();
        let (value, fingerprint) = read(&problems);
        // Half a file may well be a file: a secret that is cut off, a list without its end.
        if fingerprint != self.fingerprint && self.settling != Some(fingerprint) {
            self.settling = Some(fingerprint);
            return Reload::Settling;
        }
        match problems.finish(value) {
            Err(problems) => {
                self.count("rejected");
                if self.logged.as_ref() != Some(&problems) {
                    warn!(%problems, "changed {} cannot be used; the old ones stay in use", self.noun);
                    self.logged = Some(problems.clone());
                }
                Reload::Rejected(problems)
            }
            Ok(_) if fingerprint == self.fingerprint => {
                self.logged = None;
                Reload::Unchanged
            }
            Ok(value) => {
                self.count("applied");
                info!("changed {} are in use", self.noun);
                if let Some(value) = value {
                    apply(value);
                }
                self.fingerprint = fingerprint;
                self.logged = None;
                Reload::Applied
            }
        }
    }
}

impl Seen {
    fn count(&self, outcome: &'static str) {
        metrics::counter!(names::CONFIG_RELOAD, names::PART => self.part, names::OUTCOME => outcome)
            .increment(1);
    }
}
