//! The keys behind a URL: read at the start, every five minutes, and when a token names a key that is not among them.
//!
//! What was read stays in use until something better is: a URL that is away or gives what cannot be used changes nothing.

use std::future::Future;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::header;
use metrics::counter;
use reqwest::{Certificate, Client, Url, redirect};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep_until, timeout};
use tracing::{info, warn};

use super::{KeySet, Keys};
use crate::telemetry::names;

/// Bytes of an answer at most; sets with whole certificate chains have some ten thousand.
const ANSWER_BYTES_MAX: usize = 256 * 1024;
/// From connecting to the end of the answer.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a call waits for new keys.
const WAIT_MAX: Duration = Duration::from_secs(3);

/// How often to read.
#[derive(Debug, Clone, Copy)]
struct Pace {
    /// While all is well.
    refresh: Duration,
    /// At least, however many tokens name unknown keys, and after a failure.
    pause: Duration,
    /// The longest pause after failures, each of which doubles it.
    pause_max: Duration,
}

const PACE: Pace = Pace {
    refresh: Duration::from_mins(5),
    pause: Duration::from_secs(5),
    pause_max: Duration::from_mins(1),
};

/// Where the keys of an issuer are.
#[derive(Debug, Clone)]
pub struct Source {
    /// Whose they are, for the log.
    pub issuer: Arc<str>,
    /// An `https` URL, or an `http` one of this machine.
    pub url: Url,
    /// Authorities of the server besides those of the system, as PEM; empty for none.
    pub ca_pem: String,
    /// A file with a bearer token for the server, read at each call.
    pub token_file: Option<PathBuf>,
    /// What is kept current.
    pub keys: Keys,
}

/// Why the keys cannot be fetched at all.
#[derive(Debug, thiserror::Error)]
#[error("the client for the keys of JWT issuers cannot be built: {0}")]
pub struct BuildError(String);

/// Keeps the keys behind a URL current.
#[derive(Debug)]
pub struct Fetcher {
    source: Source,
    calls: Arc<Calls>,
    http: Client,
    pace: Pace,
    /// The last problem, so that it is logged once.
    logged: Option<String>,
    failures: u32,
}

/// How those who want other keys reach the task that reads them.
#[derive(Debug)]
pub(super) struct Calls {
    wanted: Notify,
    done: watch::Sender<()>,
    /// When the next reading may begin.
    open_at: Mutex<Option<Instant>>,
}

impl Default for Calls {
    fn default() -> Self {
        Self { wanted: Notify::new(), done: watch::Sender::new(()), open_at: Mutex::default() }
    }
}

impl Calls {
    /// `None` if they were read just now, so that it takes a moment: whoever makes up key ids must not make us call the
    /// issuer all the time.
    pub(super) fn look_again(self: Arc<Self>) -> Option<impl Future<Output = ()> + Send + 'static> {
        let mut done = self.done.subscribe();
        self.wanted.notify_one();
        let open_at = *self.open_at.lock().unwrap_or_else(PoisonError::into_inner);
        if open_at.is_some_and(|open_at| Instant::now() < open_at) {
            return None;
        }
        // Longer than that, the caller should know.
        Some(async move { drop(timeout(WAIT_MAX, done.changed()).await) })
    }
}

/// What a reading led to: a word of the metric, and what to say.
enum Outcome {
    Applied,
    Unchanged,
    Failed(&'static str, String),
}

impl Fetcher {
    /// Connects to nothing yet.
    pub fn new(source: Source) -> Result<Self, BuildError> {
        let mut builder = Client::builder()
            .user_agent(concat!("whatsapp-gateway/", env!("CARGO_PKG_VERSION")))
            .redirect(redirect::Policy::none())
            .timeout(REQUEST_TIMEOUT)
            .pool_max_idle_per_host(0);
        if source.url.scheme() == "http" {
            // This machine is never behind the proxy of the environment.
            builder = builder.no_proxy();
        }
        if !source.ca_pem.is_empty() {
            let authorities = Certificate::from_pem_bundle(source.ca_pem.as_bytes())
                .map_err(|error| BuildError(causes(error)))?;
            builder = builder.tls_certs_merge(authorities);
        }
        let http = builder.build().map_err(|error| BuildError(causes(error)))?;
        let calls = source.keys.calls().cloned().unwrap_or_default();
        Ok(Self { source, calls, http, pace: PACE, logged: None, failures: 0 })
    }

    /// Reads the keys once; the next reading comes with [`Fetcher::run`].
    pub async fn begin(mut self) -> Self {
        self.read().await;
        self
    }

    /// Reads them again and again, until dropped.
    pub async fn run(mut self) {
        loop {
            let refreshed = Instant::now() + self.next_in();
            let open_at = *self.calls.open_at.lock().unwrap_or_else(PoisonError::into_inner);
            sleep_until(open_at.unwrap_or_else(Instant::now)).await;
            tokio::select! {
                () = sleep_until(refreshed) => {}
                () = self.calls.wanted.notified() => {}
            }
            self.read().await;
        }
    }

    fn next_in(&self) -> Duration {
        match self.failures {
            0 => self.pace.refresh,
            failures => (self.pace.pause * 2_u32.saturating_pow(failures - 1)).min(self.pace.pause_max),
        }
    }

    async fn read(&mut self) {
        let issuer = &*self.source.issuer;
        let (word, problem) = match self.fetch().await {
            Outcome::Applied => {
                info!(issuer, "changed keys of a JWT issuer are in use");
                ("applied", None)
            }
            Outcome::Unchanged => ("unchanged", None),
            Outcome::Failed(word, problem) => (word, Some(problem)),
        };
        counter!(names::JWKS_FETCHES, names::OUTCOME => word).increment(1);
        self.failures = if problem.is_some() { self.failures.saturating_add(1) } else { 0 };
        if let Some(problem) = &problem
            && self.logged.as_ref() != Some(problem)
        {
            warn!(issuer, problem, "the keys of a JWT issuer cannot be read; the old ones stay in use");
        }
        self.logged = problem;
        let open_at = Some(Instant::now() + self.pace.pause);
        *self.calls.open_at.lock().unwrap_or_else(PoisonError::into_inner) = open_at;
        self.calls.done.send_replace(());
    }

    async fn fetch(&self) -> Outcome {
        let answer = match self.get().await {
            Ok(answer) => answer,
            Err(problem) => return Outcome::Failed("unreachable", problem),
        };
        match KeySet::parse(&answer) {
            Ok(set) if self.source.keys.load().is_some_and(|old| old.fingerprint() == set.fingerprint()) => {
                Outcome::Unchanged
            }
            Ok(set) => {
                self.source.keys.store(set);
                Outcome::Applied
            }
            Err(problem) => Outcome::Failed("rejected", format!("the answer {problem}")),
        }
    }

    /// The body of the answer. The texts have neither the URL nor anything of the answer.
    async fn get(&self) -> Result<Vec<u8>, String> {
        let mut request = self.http.get(self.source.url.clone()).header(header::ACCEPT, "application/json");
        if let Some(file) = &self.source.token_file {
            let token = tokio::fs::read_to_string(file)
                .await
                .map_err(|error| format!("jwks_token_file {} cannot be read: {error}", file.display()))?;
            request = request.bearer_auth(token.trim());
        }
        let mut response = request.send().await.map_err(causes)?;
        if !response.status().is_success() {
            return Err(format!("the server answers {}", response.status()));
        }
        let mut body = Vec::new();
        while let Some(piece) = response.chunk().await.map_err(causes)? {
            if body.len() + piece.len() > ANSWER_BYTES_MAX {
                return Err("the answer is larger than 256 KiB".to_owned());
            }
            body.extend_from_slice(&piece);
        }
        Ok(body)
    }
}

fn causes(error: reqwest::Error) -> String {
    let error = error.without_url();
    let first: &dyn std::error::Error = &error;
    let chain = std::iter::successors(Some(first), |error| error.source());
    chain.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

#[cfg(test)]
mod tests;
