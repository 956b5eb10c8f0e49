//! The NATS engine: event log and keyed state in JetStream, for several gateways on one prefix, one of which leads.
//!
//! Three streams: the events, the newest value of each key, and the lease. Two writers, each of which commits what waits as
//! one atomic batch; an in-memory index says which keys there are; the newest events are served from memory. What other
//! replicas write is read on as they call it out. All of it runs on one thread. Nothing outside this folder knows JetStream.

mod compact;
mod config;

mod log;
mod state;

mod log_writer;
mod plan;
mod queue;
mod state_writer;
mod writer;

mod opening;

mod index;
mod journal;
mod lease;
mod news;
mod tail;
mod watchdog;

mod records;
mod streams;
mod wire;

use std::fmt::{self, Debug, Formatter};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use tokio::runtime::Builder;
use tokio::sync::{Mutex, Semaphore};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::{CancellationToken, DropGuard};

pub use config::{Config, Credentials, Tls};

use crate::clock::SharedClock;
use crate::storage::event_log::{Acceptance, Appended, Item, Refusal};
use crate::storage::leadership::{Appointment, Leadership, Replica, Role};
use crate::storage::ring::Ring;
use crate::storage::shared::Shared;
use crate::storage::{OnFatal, metrics};
use crate::telemetry::Seldom;

use index::Index;
use lease::{Keeper, Pace};
use log_writer::LogWriter;
use news::News;
use opening::Opened;
use queue::{Intake, Queue, queue};
use state_writer::{Done, Op, StateWriter};
use streams::Names;
use tail::{Follower, Tail};
use watchdog::Watchdog;
use wire::{Fault, Wire};

/// Reads from the server at the same time.
const READS_MAX: usize = 32;
/// How long the start waits for servers that are not there: they may be starting too.
const UNREACHED_MAX: Duration = Duration::from_mins(2);
/// How long the end waits for what is queued while NATS is away.
const CLOSE_MAX: Duration = Duration::from_secs(5);

/// Why the store could not be opened. Each text says what to do.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// No connection.
    #[error(
        "NATS cannot be reached at {urls}: {cause}; check storage.nats.urls, the credentials and the TLS files"
    )]
    Unreachable {
        /// Where.
        urls: String,
        /// Why.
        cause: String,
    },
    /// No server was there for as long as the start waits.
    #[error(
        "NATS cannot be reached at {urls}: {cause}; start the servers, or check storage.nats.urls and what lies between"
    )]
    Absent {
        /// Where.
        urls: String,
        /// Why.
        cause: String,
    },
    /// A server, or a stream, with which acknowledged data could be lost.
    #[error("{0}")]
    Unfit(String),
    /// A request failed on the way.
    #[error("the streams of NATS cannot be opened: {0}; check the servers, and the permissions of the user")]
    Fault(String),
    /// The thread of the engine could not be started.
    #[error("the thread of the NATS engine cannot be started: {0}; raise the limit on threads")]
    NoThread(std::io::Error),
}

impl From<Fault> for OpenError {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault.to_string())
    }
}

/// What all parts of the engine share.
struct Context {
    wire: Wire,
    names: Names,
    shared: Arc<Shared>,
    clock: SharedClock,
    on_fatal: OnFatal,
    failed: AtomicBool,
    /// The engine ends in order, which gives the lease free.
    closing: AtomicBool,
    /// The first event that the server still holds, trimmed or not: older ids are forgotten.
    held_from: AtomicU64,
    /// The newest term that this replica has heard of.
    term: AtomicU64,
    tail: Tail,
    news: News,
    leadership: Leadership,
    appointment: Appointment,
    /// Ends everything.
    stop: CancellationToken,
}

impl Debug for Context {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context").field("names", &self.names).finish_non_exhaustive()
    }
}

impl Context {
    /// Says whether appends are taken. What failed or was closed stays so.
    fn announce(&self, acceptance: Acceptance) {
        if let Acceptance::Refusing(Refusal::Failed | Refusal::Closed) = self.shared.acceptance() {
            return;
        }
        if !self.shared.accept(acceptance) {
            return;
        }
        match acceptance {
            Acceptance::Accepting => tracing::info!("the event store accepts writes again"),
            Acceptance::Refusing(Refusal::Closed) => {}
            Acceptance::Refusing(refusal) => tracing::error!(%refusal, "the event store refuses writes"),
        }
        metrics::refusing(!matches!(
            acceptance,
            Acceptance::Accepting | Acceptance::Refusing(Refusal::Closed)
        ));
    }

    /// NATS does not answer.
    fn away(&self, reason: &str) {
        if self.shared.acceptance() == Acceptance::Accepting {
            tracing::warn!(reason, "NATS does not answer");
        }
        self.announce(Acceptance::Refusing(Refusal::Away));
    }

    /// NATS answers.
    fn back(&self) {
        if self.shared.acceptance() == Acceptance::Refusing(Refusal::Away) {
            self.announce(Acceptance::Accepting);
        }
    }

    /// Whether this replica has become the leader.
    fn leads(&self) -> bool {
        matches!(*self.leadership.watch().borrow(), Role::Leader { .. })
    }

    /// The end of the process.
    fn fail(&self, reason: String) {
        self.appointment.resign();
        self.announce(Acceptance::Refusing(Refusal::Failed));
        if !self.failed.swap(true, Ordering::AcqRel) {
            tracing::error!(reason, "the NATS engine cannot go on; the process must end");
            (self.on_fatal)(reason);
        }
    }
}

/// What the engine takes from outside.
#[derive(Clone)]
struct Dependencies {
    clock: SharedClock,
    on_fatal: OnFatal,
    /// Takes the newest events.
    ring: Arc<Ring>,
    /// This process.
    replica: Arc<Replica>,
    /// Of the lease.
    pace: Pace,
    /// How long servers that are not there are waited for.
    unreached_max: Duration,
}

/// The open engine. Dropping it ends it in the background; [`Nats::close`] waits for that.
#[derive(Debug)]
pub(super) struct Nats {
    log: Arc<Queue<Vec<Item>, Vec<Appended>>>,
    state: Arc<Queue<Op, Done>>,
    index: Arc<Index>,
    reads: Semaphore,
    trimming: Mutex<()>,
    context: Arc<Context>,
    ended: CancellationToken,
    _stop: DropGuard,
}

/// What runs on the thread of the engine.
struct Running {
    log: (Vec<LogWriter>, Intake<Vec<Item>, Vec<Appended>>),
    state: (StateWriter, Intake<Op, Done>),
    watchdog: Watchdog,
    follower: Follower,
    keeper: Keeper,
    ended: DropGuard,
}

impl Nats {
    /// Connects, creates or checks the streams, and reads what has to be in memory. Blocks, for two minutes if no server is
    /// there. Does not wait for the lease.
    ///
    /// `on_fatal` is called once, from the thread of the engine, when it cannot go on: it must end the process.
    pub(super) fn open(
        config: &Config,
        replica: Replica,
        clock: SharedClock,
        on_fatal: OnFatal,
    ) -> Result<Self, OpenError> {
        let (ring, replica) = (Arc::default(), Arc::new(replica));
        let (pace, unreached_max) = (Pace::default(), UNREACHED_MAX);
        Self::open_with(config, Dependencies { clock, on_fatal, ring, replica, pace, unreached_max })
    }

    fn open_with(config: &Config, dependencies: Dependencies) -> Result<Self, OpenError> {
        let runtime = Builder::new_current_thread().enable_all().build().map_err(OpenError::NoThread)?;
        let (reply, opened) = mpsc::channel();
        let config = config.clone();
        let engine = move || {
            runtime.block_on(async {
                match connect(config, dependencies).await {
                    Ok((engine, running)) => {
                        let context = Arc::clone(&engine.context);
                        drop(reply.send(Ok(engine)));
                        running.run(context).await;
                    }
                    Err(error) => drop(reply.send(Err(error))),
                }
            });
        };
        thread::Builder::new().name("storage-nats".to_owned()).spawn(engine).map_err(OpenError::NoThread)?;
        opened.recv().unwrap_or_else(|_| Err(OpenError::Fault("the engine panicked".to_owned())))
    }

    /// Finishes what is queued and gives the lease free. Everything fails with `Closed` afterwards.
    pub(super) async fn close(&self) -> Result<(), String> {
        let finished = timeout(CLOSE_MAX, async {
            self.log.close().await;
            self.state.close().await;
        });
        let finished = finished.await;
        self.context.announce(Acceptance::Refusing(Refusal::Closed));
        self.context.closing.store(true, Ordering::Release);
        self.context.stop.cancel();
        self.ended.cancelled().await;
        finished.map_err(|_| "NATS was away; what was not acknowledged may be missing".to_owned())
    }

    /// Which of the replicas leads.
    pub(super) fn leadership(&self) -> Leadership {
        self.context.leadership.clone()
    }

    /// Bytes that one event may have.
    fn payload_max(&self) -> usize {
        self.context.wire.payload_max()
    }
}

impl Running {
    async fn run(self, context: Arc<Context>) {
        let Self { log, state, watchdog, follower, keeper, ended } = self;
        let mut parts: JoinSet<Result<(), String>> = JoinSet::new();
        parts.spawn(async move {
            writer::run(log.0, log.1).await;
            Ok(())
        });
        parts.spawn(async move {
            writer::run(vec![state.0], state.1).await;
            Ok(())
        });
        parts.spawn(news::listen(Arc::clone(&context), Arc::clone(&keeper.state)));
        parts.spawn(watchdog.run());
        parts.spawn(follower.run());
        parts.spawn(keeper.run());
        while let Some(part) = parts.join_next().await {
            match part {
                Ok(Ok(())) => {}
                Ok(Err(reason)) => context.fail(reason),
                Err(panicked) => context.fail(panicked.to_string()),
            }
        }
        drop(ended);
    }
}

async fn connect(config: Config, dependencies: Dependencies) -> Result<(Nats, Running), OpenError> {
    let opened = opening::open_streams(&config, dependencies.unreached_max).await?;
    let Opened { wire, names, epoch, bounds, events, index, state_last, meta, peer_key, append_ms } = opened;
    let Dependencies { clock, on_fatal, ring, replica, pace, unreached_max: _ } = dependencies;
    metrics::opened(bounds);
    let shared = Arc::new(Shared::new(epoch, bounds, ring));
    let (log, log_intake) = queue(Arc::clone(&shared), true);
    let (state, state_intake) = queue(Arc::clone(&shared), false);
    let (log, state, index) = (Arc::new(log), Arc::new(state), Arc::new(index));
    let (stop, ended) = (CancellationToken::new(), CancellationToken::new());
    let (leadership, appointment) = Leadership::pair(peer_key);
    let context = Arc::new(Context {
        tail: Tail::new(Arc::clone(&shared), append_ms),
        news: News::new(wire.clone(), names.clone()),
        wire,
        names,
        shared,
        clock,
        on_fatal,
        failed: AtomicBool::new(false),
        closing: AtomicBool::new(false),
        held_from: AtomicU64::new(events.first_seq),
        term: AtomicU64::new(meta.term.number),
        leadership,
        appointment,
        stop: stop.clone(),
    });
    let of = || Arc::clone(&context);
    let on_their_way = Arc::default();
    let log_writer = |_| LogWriter { context: of(), on_their_way: Arc::clone(&on_their_way) };
    let log_writers = (0..log_writer::AT_ONCE).map(log_writer).collect();
    let state_writer =
        StateWriter { context: of(), index: Arc::clone(&index), last: state_last, meta, term: None };
    let running = Running {
        log: (log_writers, log_intake),
        state: (state_writer, state_intake),
        watchdog: Watchdog { context: of(), config },
        follower: Follower { context: of() },
        keeper: Keeper {
            context: of(),
            state: Arc::clone(&state),
            replica,
            pace,
            failures: Seldom::default(),
        },
        ended: ended.clone().drop_guard(),
    };
    let (reads, trimming) = (Semaphore::new(READS_MAX), Mutex::new(()));
    let engine = Nats { log, state, index, reads, trimming, context, ended, _stop: stop.drop_guard() };
    Ok((engine, running))
}

#[cfg(test)]
mod tests;
