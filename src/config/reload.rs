//! The replacement of the tenants' snapshot when a secret file changes.

use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};
use tracing::{info, warn};

use super::accounts::Accounts;
use super::problem::{Collector, Problems};
use super::secrets::{self, Fingerprint};
use crate::telemetry::names;
use crate::tenants::Tenants;

/// What a look at the secret files led to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reload {
    /// The files are as they were.
    Unchanged,
    /// They changed, and the new secrets are in use.
    Applied,
    /// They cannot be used; the old secrets stay in use.
    Rejected(Problems),
}

/// Reads the secret files again and again, by content: Kubernetes swaps a symbolic link, which changes neither the
/// path nor, for a watcher of the file, anything at all.
#[derive(Debug)]
pub struct Watcher {
    accounts: Accounts,
    tenants: Tenants,
    fingerprint: Fingerprint,
    /// The problems that were logged last, so that they are logged once.
    logged: Option<Problems>,
}

impl Watcher {
    pub(super) fn new(accounts: Accounts, tenants: Tenants, fingerprint: Fingerprint) -> Self {
        Self { accounts, tenants, fingerprint, logged: None }
    }

    /// Looks every `period`, until dropped.
    pub async fn run(mut self, period: Duration) {
        let mut ticks = interval(period);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let look = move || {
                self.reload_once();
                self
            };
            // File systems may hang; a thread of their own may hang with them.
            self = match tokio::task::spawn_blocking(look).await {
                Ok(watcher) => watcher,
                Err(failure) if failure.is_panic() => std::panic::resume_unwind(failure.into_panic()),
                Err(_) => return,
            };
        }
    }

    /// Looks once. Either every secret is replaced or none.
    pub fn reload_once(&mut self) -> Reload {
        let problems = Collector::default();
        let (snapshot, fingerprint) = secrets::resolve(&self.accounts, &problems);
        match problems.finish(snapshot) {
            Err(problems) => {
                count("rejected");
                if self.logged.as_ref() != Some(&problems) {
                    warn!(%problems, "changed secrets cannot be used; the old ones stay in use");
                    self.logged = Some(problems.clone());
                }
                Reload::Rejected(problems)
            }
            Ok(_) if fingerprint == self.fingerprint => {
                self.logged = None;
                Reload::Unchanged
            }
            Ok(snapshot) => {
                count("applied");
                info!("changed secrets are in use");
                self.tenants.store(snapshot);
                self.fingerprint = fingerprint;
                self.logged = None;
                Reload::Applied
            }
        }
    }
}

fn count(outcome: &'static str) {
    metrics::counter!(names::CONFIG_RELOAD, names::OUTCOME => outcome).increment(1);
}
