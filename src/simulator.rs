//! A pretend WhatsApp Cloud API over HTTP, for tests and for `dev`.
//!
//! It is written from Meta's documentation alone and names nothing else of this crate, so that it catches
//! the mistakes of our client instead of sharing them. It judges sends by Meta's rules, keeps customer
//! service windows and rate limits, sends signed webhooks with retries, manages templates, stores media, and
//! records every request. `GET /_simulator` lists how to steer it.
//!
//! What is not simulated: links are not fetched (one whose host ends in `.invalid` fails with 131053),
//! marketing to the United States is delivered, and `override_callback_uri` is stored but not used.
//!
//! # Templates
//!
//! Creations and edits are judged before the review, with Meta's subcodes where they are known. The sample of a
//! media header is a handle of a resumable upload. One that was given here must be known, of the right type and
//! younger than an hour; any other text of the form `4::…` is taken for a handle of Meta's own and passes, so
//! that documented bodies can be sent. What `POST /_simulator/templates` sets is not judged beyond name,
//! language and category, so that a test can have any template.
//!
//! The review follows the name: `reject` in it means rejected, `pending` never reviewed, `pause` approved and
//! paused soon after, `recategorize` that a utility template becomes marketing; all else is approved. Library
//! and authentication templates are approved at once. A pause lasts until `unpause`. Archived templates are
//! deleted after 28 days, and silent ones archived after 12 months, when templates are next asked for. The
//! calls without version that archive templates are served here too, though Meta has another host for them.
//!
//! Where Meta states no number the simulator has its own: a variable needs one word beside it (2388293).
//!
//! # Magic recipients
//!
//! They behave as listed whatever is sent to them, and their window counts as open.
//!
//! | number | what happens |
//! |---|---|
//! | `15550` and a code `13xxxx` | fails with the code: in the answer if Meta reports it there, else in a status. `15550131026` is accepted and then fails with 131026 |
//! | `15551` and a code `13xxxx` | accepted, then fails with the code in a status |
//! | `15550000001` | sent only, never delivered |
//! | `15550000002` | sent and delivered, never read |
//! | `15550000003` | statuses arrive in the order read, delivered, sent |
//! | `15550000004` | accepted, but the answer takes slow_answer_ms (3 s) |
//! | `15550000005` | HTTP 500 with code 131000, not accepted |
//! | `15550000006` | HTTP 500 with code 131000, but accepted: statuses follow |
//! | `15550000007` | message_status held_for_quality_assessment, then sent, delivered, read |
//! | `15550000008` | every status arrives twice |
//! | `15550000009` | sent, then read; delivered is skipped |
//! | `15550000010` | connection closed after acceptance: statuses follow |
//! | `15550000011` | connection closed before acceptance |
//! | `15550000012` | accepted, but no answer ever comes: statuses follow |
//! | `15550000013` | free-form messages pass without an inbound message |

mod account;
mod content;
mod control;
mod delivery;
mod faults;
mod graph;
mod graph_error;
mod help;
mod ids;
mod inbound;
mod judge;
mod judge_content;
mod judge_interactive;
mod judge_order;
mod judge_template;
mod limits;
mod magic;
mod media;
mod media_api;
mod messages;
mod multipart;
mod node;
mod nodes;
mod numbers;
mod outbox;
mod paging;
mod phone;
mod requests;
mod ring;
mod schedule;
mod server;
mod statuses;
mod template_api;
mod templates;
mod uploads;
mod users;
mod webhooks;
mod wire;
mod world;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use account::{Account, Delays, Limits, Number};
use world::World;

/// Where the simulator takes the time from.
pub type Clock = Arc<dyn Fn() -> SystemTime + Send + Sync>;

/// What a simulator needs to know.
#[derive(Clone)]
pub struct Config {
    /// Where it listens. Port 0 takes a free one.
    pub listen: SocketAddr,
    /// Makes the ids of two runs equal. Without it they hold the start time.
    pub seed: Option<u64>,
    /// Whose account it is.
    pub account: Account,
    /// Where webhooks go. Until it is set they wait.
    pub webhook_url: Option<String>,
    /// The time of windows, limits and timestamps.
    pub clock: Clock,
    /// When statuses, reviews and retries come.
    pub delays: Delays,
    /// The limits that are enforced.
    pub limits: Limits,
}

impl Config {
    /// The account of `dev` with Meta's limits and short delays.
    pub fn new(listen: SocketAddr, clock: Clock) -> Self {
        Self {
            listen,
            seed: None,
            account: Account::default(),
            webhook_url: None,
            clock,
            delays: Delays::default(),
            limits: Limits::default(),
        }
    }
}

impl std::fmt::Debug for Config {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Config")
            .field("listen", &self.listen)
            .field("seed", &self.seed)
            .field("webhook_url", &self.webhook_url)
            .finish_non_exhaustive()
    }
}

/// Why a simulator did not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address is taken or not ours.
    #[error("cannot listen on {address}: {source}; choose another port, 0 takes a free one")]
    Bind {
        /// The address that was asked for.
        address: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// The client for webhooks could not be made.
    #[error("cannot make the client for webhooks")]
    Client(#[source] reqwest::Error),
    /// Every call names a number, so there must be one.
    #[error("the account has no phone number")]
    NoNumber,
}

/// A simulator that listens. It answers once it runs.
#[derive(Debug)]
pub struct Simulator {
    world: Arc<World>,
    listener: TcpListener,
    client: reqwest::Client,
}

impl Simulator {
    /// Listens on the configured address.
    pub async fn bind(config: Config) -> Result<Self, Error> {
        if config.account.numbers.is_empty() {
            return Err(Error::NoNumber);
        }
        let failed = |source| Error::Bind { address: config.listen, source };
        let listener = TcpListener::bind(config.listen).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let client = delivery::client()?;
        Ok(Self { world: Arc::new(World::new(config, address)), listener, client })
    }

    /// Where it listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.world.address
    }

    /// Sets where webhooks go. What waited for it goes out now.
    pub fn set_webhook_url(&self, url: String) {
        self.world.set_webhook_url(url);
    }

    /// Serves until `stop`, and returns when every task of it has ended.
    pub async fn run(self, stop: CancellationToken) {
        let Self { world, listener, client } = self;
        let tracker = TaskTracker::new();
        let control = control::router(Arc::clone(&world));
        tokio::join!(
            server::run(Arc::clone(&world), listener, control, &tracker, &stop),
            schedule::run(&world, &stop),
            delivery::run(&world, &client, &tracker, &stop),
        );
        tracker.close();
        tracker.wait().await;
    }
}

/// Locks without caring for a panic elsewhere: each change under these locks is whole by itself.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn unix_seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

fn rfc3339(time: SystemTime) -> String {
    jiff::Timestamp::try_from(time).map(|time| time.to_string()).unwrap_or_default()
}

#[cfg(test)]
mod tests;
