//! The load: each kind does its work once, within bounds, and reports what it took.

mod file;
mod history;
mod post;
mod send;
mod streams;

use std::future::Future;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::{Args, Subcommand};
use serde::{Deserialize, Serialize};
use tokio::runtime::Builder;
use tokio::task::JoinSet;

use crate::Result;

/// Bytes of the file that goes up and down: the largest that Meta takes.
pub(crate) const FILE_BYTES: usize = 100_000_000;
/// What comes first in a run is not counted: connections are made, caches fill.
const WARM_UP: Duration = Duration::from_millis(200);
/// No loop goes on longer, whatever the time.
const OPERATIONS_MAX: u64 = 10_000_000;

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Kind {
    /// Call `SendMessage`
    Send {
        /// The gRPC port.
        address: SocketAddr,
        #[command(flatten)]
        amount: Amount,
        #[command(flatten)]
        calls: Calls,
    },
    /// Ask the upstream when messages arrived since the last time
    Arrivals {
        /// The upstream.
        address: SocketAddr,
    },
    /// Post webhooks, each poster as fast as it is answered
    Post {
        /// The webhook port.
        address: SocketAddr,
        #[command(flatten)]
        amount: Amount,
        /// The number of the first message.
        #[arg(long)]
        first: u64,
    },
    /// Post webhooks at a fixed rate, and wait for them on a stream
    Pace {
        /// The webhook port.
        address: SocketAddr,
        /// The gRPC port, to measure until the event is there instead of until the 200.
        #[arg(long)]
        subscribe: Option<SocketAddr>,
        /// Webhooks in a second.
        #[arg(long)]
        rate: u32,
        /// For how long.
        #[arg(long)]
        seconds: u32,
        /// The number of the first message.
        #[arg(long)]
        first: u64,
    },
    /// Post webhooks for many streams, as fast as all of them take the events
    FanOut {
        /// The webhook port.
        address: SocketAddr,
        #[command(flatten)]
        streams: Streams,
        /// Webhooks to post.
        #[arg(long)]
        events: u64,
        /// How many of them may be ahead of the slowest stream.
        #[arg(long)]
        ahead: u64,
        /// The number of the first message.
        #[arg(long)]
        first: u64,
    },
    /// Open streams and keep them until the end
    Idle {
        #[command(flatten)]
        streams: Streams,
    },
    /// Stream everything that is stored
    Replay {
        /// The gRPC port.
        address: SocketAddr,
        /// How many events that must be.
        #[arg(long)]
        events: u64,
    },
    /// Read all rows of a database
    Rows {
        /// The database.
        database: PathBuf,
    },
    /// Store events, without a gateway
    Fill {
        /// The data folder.
        folder: PathBuf,
        /// How many.
        #[arg(long)]
        events: u64,
    },
    /// Upload a file
    Upload {
        /// The gRPC port.
        address: SocketAddr,
    },
    /// Download a file
    Download {
        /// The gRPC port.
        address: SocketAddr,
    },
}

/// How much load.
#[derive(Debug, Args)]
pub(crate) struct Amount {
    /// Operations at the same time.
    #[arg(long)]
    at_once: u32,
    /// For how long.
    #[arg(long)]
    seconds: f64,
}

/// How calls are made.
#[derive(Debug, Args)]
pub(crate) struct Calls {
    /// Whether each has a `request_id`.
    #[arg(long)]
    request_ids: bool,
    /// Speaks TLS to whoever has this certificate; without it, plain text.
    #[arg(long)]
    certificate: Option<PathBuf>,
    /// The bearer token of each.
    #[arg(long)]
    token: Option<String>,
}

/// How many streams, and where.
#[derive(Debug, Args)]
pub(crate) struct Streams {
    /// The gRPC port.
    #[arg(long)]
    subscribe: SocketAddr,
    /// Streams in all.
    #[arg(long = "streams")]
    count: u32,
    /// Connections that they share.
    #[arg(long)]
    connections: u32,
}

/// What one of several that work at the same time did.
#[derive(Debug, Default)]
struct Share {
    times: Vec<Duration>,
    /// Operations before the measurement began.
    uncounted: u64,
}

/// What came of it.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub(crate) struct Report {
    /// Messages, webhooks, events or bytes.
    pub(crate) operations: f64,
    pub(crate) seconds: f64,
    /// As `operations`, with those before the measurement began.
    pub(crate) all: f64,
    /// Of single operations, in microseconds; zero where nothing is said about single ones.
    pub(crate) p50: f64,
    pub(crate) p90: f64,
    pub(crate) p99: f64,
}

impl Report {
    /// So many in that time.
    fn of_all(operations: u64, took: Duration) -> Self {
        let operations = operations as f64;
        Self { operations, all: operations, seconds: took.as_secs_f64(), ..Self::default() }
    }

    /// With the times of single operations, of which `uncounted` more came before.
    fn of_each(mut times: Vec<Duration>, uncounted: u64, took: Duration) -> Result<Self> {
        times.sort_unstable();
        let at = |share: usize| {
            let time = times.get(times.len() * share / 100).ok_or("nothing was done in the time")?;
            Result::Ok(time.as_secs_f64() * 1e6)
        };
        let (p50, p90, p99) = (at(50)?, at(90)?, at(99)?);
        let counted = Self::of_all(times.len() as u64, took);
        Ok(Self { p50, p90, p99, all: counted.all + uncounted as f64, ..counted })
    }

    /// Everything that several did at the same time.
    async fn of_shares(mut working: JoinSet<Result<Share>>, began: Instant) -> Result<Self> {
        let mut all = Share::default();
        while let Some(share) = working.join_next().await {
            let Share { times, uncounted } = share??;
            all.times.extend(times);
            all.uncounted += uncounted;
        }
        Self::of_each(all.times, all.uncounted, began.elapsed())
    }

    pub(crate) fn per_second(&self) -> f64 {
        self.operations / self.seconds
    }
}

pub(crate) fn run(kind: Kind) -> Result<()> {
    let report = match kind {
        Kind::Arrivals { address } => return on_one_thread(send::arrivals(address)),
        Kind::Send { address, amount, calls } => on_one_thread(send::run(address, &amount, &calls)),
        Kind::Post { address, amount, first } => on_one_thread(post::run(address, &amount, first)),
        Kind::Pace { address, subscribe, rate, seconds, first } => {
            on_one_thread(post::pace(address, subscribe, rate, seconds, first))
        }
        Kind::FanOut { address, streams, events, ahead, first } => {
            on_one_thread(streams::fan_out(address, &streams, events, ahead, first))
        }
        Kind::Idle { streams } => on_one_thread(streams::idle(&streams)),
        Kind::Replay { address, events } => on_one_thread(streams::replay(address, events)),
        Kind::Rows { database } => history::read(&database),
        Kind::Fill { folder, events } => on_one_thread(history::fill(folder, events)),
        Kind::Upload { address } => on_one_thread(file::upload(address)),
        Kind::Download { address } => on_one_thread(file::download(address)),
    };
    println!("{}", serde_json::to_string(&report?)?);
    Ok(())
}

/// One thread, so that the load takes no more than one of the cores.
fn on_one_thread<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    Builder::new_current_thread().enable_all().build()?.block_on(work)
}
