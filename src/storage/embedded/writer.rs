//! The writer thread: it owns the only connection that writes, and commits in groups.
//!
//! Whatever waits in the queue goes into one transaction and is answered after its one sync; nobody lingers for more,
//! so batches form by themselves under load. The same thread makes the checkpoints, because SQLite swallows errors of
//! automatic ones, and watches the room that is left, also when nothing arrives.
//!
//! After a failed sync the kernel may drop the data and report success the next time. So any error but "disk full" and
//! "locked by another program" is the end: everybody is told `Failed`, the connection is leaked (closing it would
//! write), and `on_fatal` ends the process. What was answered with `Ok` is on disk; the rest comes again.

use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};

use rusqlite::ffi::SQLITE_IOERR_SHMSIZE;
use rusqlite::{Connection, ErrorCode, TransactionBehavior};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::Dependencies;
use super::checkpoint::Checkpointer;
use super::lock::Lock;
use super::queue::{Backlog, Failure, Job, Message};
use super::transaction::{Batch, Committed, Position};
use super::watchman::Watchman;
use crate::storage::event_log::{Acceptance, Refusal};
use crate::storage::metrics;
use crate::storage::shared::Shared;

/// Events in one transaction; one more job than fits may be added.
const BATCH_EVENTS: usize = 512;

/// Bytes in one transaction; one more job than fits may be added.
const BATCH_BYTES: usize = 1024 * 1024;

/// Someone who waits for the database to be closed.
type Closing = oneshot::Sender<Result<(), String>>;

/// The state of the writer thread.
#[derive(Debug)]
pub(super) struct Writer {
    pub(super) connection: Connection,
    pub(super) position: Position,
    pub(super) checkpointer: Checkpointer,
    pub(super) watchman: Watchman,
    pub(super) backlog: Backlog,
    pub(super) shared: Arc<Shared>,
    pub(super) dependencies: Dependencies,
    pub(super) lock: Lock,
}

/// Why a transaction was not committed.
#[derive(Debug)]
enum Trouble {
    /// Rolled back; the engine goes on.
    Passing(Failure),
    /// What is on disk is not known any more.
    Fatal(String),
}

/// Runs until the queue is closed, the writer is told to close, or the disk fails.
pub(super) fn run(mut writer: Writer, messages: &Receiver<Message>) {
    let served = catch_unwind(AssertUnwindSafe(|| writer.serve(messages)));
    let served = served.unwrap_or_else(|_| Err("the writer thread panicked".to_owned()));
    let closing = match served {
        Ok(closing) => closing,
        Err(reason) => return writer.fail(reason, messages),
    };
    // First no new jobs, then an answer for those that slipped in.
    writer.announce(Acceptance::Refusing(Refusal::Closed));
    let slipped_in = refuse(messages.try_iter(), Failure::Refused(Refusal::Closed));
    let closed = writer.close();
    for closing in closing.into_iter().chain(slipped_in) {
        // Whoever asked may have left meanwhile.
        drop(closing.send(closed.as_ref().map_err(|(reason, _)| reason.clone()).copied()));
    }
    if let Err((reason, writer)) = closed {
        writer.fail(reason, messages);
    }
}

impl Writer {
    fn serve(&mut self, messages: &Receiver<Message>) -> Result<Option<Closing>, String> {
        self.watch_room()?;
        loop {
            let closing = match messages.recv_timeout(self.watchman.interval()) {
                Ok(Message::Job(first)) => {
                    let (jobs, closing) = gather(first, messages);
                    self.serve_jobs(jobs)?;
                    metrics::queued(self.backlog.events());
                    closing
                }
                Ok(Message::Close(closing)) => Some(closing),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => return Ok(None),
            };
            if closing.is_some() {
                return Ok(closing);
            }
            self.watch_room()?;
        }
    }

    /// Commits the jobs together and answers them.
    fn serve_jobs(&mut self, mut jobs: Vec<Job>) -> Result<(), String> {
        if let Acceptance::Refusing(refusal) = self.shared.acceptance() {
            let refused = jobs.extract_if(.., |job| job.weight.grows).collect();
            settle(refused, Err(Failure::Refused(refusal)));
        }
        if jobs.is_empty() {
            return Ok(());
        }
        match self.commit(&mut jobs) {
            Ok(committed) => {
                self.publish(&committed);
                settle(jobs, Ok(()));
                self.checkpointer.run_if_due(&self.connection).map_err(|error| error.to_string())
            }
            Err(Trouble::Passing(failure)) => {
                if let Failure::Refused(refusal) = failure {
                    self.announce(Acceptance::Refusing(refusal));
                }
                settle(jobs, Err(failure));
                Ok(())
            }
            Err(Trouble::Fatal(reason)) => {
                // Before the answers, so that nobody who has one still finds the engine accepting.
                self.announce(Acceptance::Refusing(Refusal::Failed));
                settle(jobs, Err(Failure::Failed));
                Err(reason)
            }
        }
    }

    /// One transaction. Its counters count only once it is durable.
    fn commit(&mut self, jobs: &mut [Job]) -> Result<Committed, Trouble> {
        let started = Instant::now();
        let now_ms = self.dependencies.clock.now_ms();
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let mut batch = Batch::new(transaction, self.position, now_ms);
        for job in jobs.iter_mut() {
            job.apply(&mut batch)?;
        }
        let syncing = Instant::now();
        let committed = batch.commit()?;
        metrics::committed(metrics::Commit {
            took: started.elapsed(),
            sync: syncing.elapsed(),
            batch_events: jobs.iter().map(|job| job.weight.events).sum(),
            new_events: committed.events.len(),
            duplicates: committed.duplicates,
            trimmed: committed.position.trimmed_through - self.position.trimmed_through,
        });
        self.watchman.count(jobs.iter().map(|job| job.weight.bytes).sum());
        Ok(committed)
    }

    fn publish(&mut self, committed: &Committed) {
        self.shared.publish(&committed.events);
        if committed.position.trimmed_through != self.position.trimmed_through {
            self.shared.trimmed_through(committed.position.trimmed_through);
        }
        self.position = committed.position;
        self.shared.measure();
    }

    /// Refuses or accepts by the room that is left, if it is time to look.
    fn watch_room(&mut self) -> Result<(), String> {
        let now = self.shared.acceptance();
        let judged = self.watchman.look(&self.connection, &mut self.checkpointer, now);
        if let Some(acceptance) = judged.map_err(|error| error.to_string())? {
            self.announce(acceptance);
        }
        Ok(())
    }

    fn announce(&self, acceptance: Acceptance) {
        if !self.shared.accept(acceptance) {
            return;
        }
        match acceptance {
            Acceptance::Accepting => tracing::info!("the event store accepts writes again"),
            Acceptance::Refusing(Refusal::Closed) => {}
            Acceptance::Refusing(refusal) => tracing::error!(%refusal, "the event store refuses writes"),
        }
        metrics::refusing(matches!(
            acceptance,
            Acceptance::Refusing(Refusal::SizeLimit | Refusal::DiskLow | Refusal::Failed)
        ));
    }

    /// Leaves the database in one file. The writer comes back when that failed.
    fn close(mut self) -> Result<(), (String, Box<Self>)> {
        if let Err(error) = self.checkpointer.truncate(&self.connection) {
            return Err((error.to_string(), Box::new(self)));
        }
        let Self { connection, lock, .. } = self;
        if let Err((connection, error)) = connection.close() {
            // Everything is durable and checkpointed; only the handle is left over.
            tracing::warn!(%error, "the database was not closed");
            mem::forget(connection);
        }
        drop(lock);
        Ok(())
    }

    /// The end: never touches the database again, and answers until nobody asks any more.
    fn fail(self, reason: String, messages: &Receiver<Message>) {
        self.announce(Acceptance::Refusing(Refusal::Failed));
        tracing::error!(reason, "a write could not be made durable; the process must end");
        let Self { connection, lock, dependencies, .. } = self;
        mem::forget(connection);
        mem::forget(lock);
        (dependencies.on_fatal)(reason);
        for message in messages {
            for closing in refuse([message], Failure::Failed) {
                drop(closing.send(Err(Refusal::Failed.to_string())));
            }
        }
    }
}

/// What is there, up to the limits of a batch, without what callers have given up.
fn gather(first: Job, messages: &Receiver<Message>) -> (Vec<Job>, Option<Closing>) {
    let (mut events, mut bytes) = (first.weight.events, first.weight.bytes);
    let mut jobs = vec![first];
    let mut closing = None;
    while events < BATCH_EVENTS && bytes < BATCH_BYTES {
        match messages.try_recv() {
            Ok(Message::Job(job)) => {
                events += job.weight.events;
                bytes += job.weight.bytes;
                jobs.push(job);
            }
            Ok(Message::Close(requested)) => {
                closing = Some(requested);
                break;
            }
            Err(_) => break,
        }
    }
    jobs.retain(Job::take);
    (jobs, closing)
}

fn settle(jobs: Vec<Job>, result: Result<(), Failure>) {
    for job in jobs {
        job.settle(result);
    }
}

/// Fails the jobs, and returns those who wait for the database to be closed.
fn refuse(messages: impl IntoIterator<Item = Message>, failure: Failure) -> Vec<Closing> {
    let mut closings = Vec::new();
    for message in messages {
        match message {
            Message::Job(job) => job.settle(Err(failure)),
            Message::Close(closing) => closings.push(closing),
        }
    }
    closings
}

impl From<rusqlite::Error> for Trouble {
    fn from(error: rusqlite::Error) -> Self {
        // The index of the write-ahead log could not grow: a full disk in another coat. It holds nothing durable.
        let index_is_full = error.sqlite_error().is_some_and(|e| e.extended_code == SQLITE_IOERR_SHMSIZE);
        if index_is_full {
            return Self::Passing(Failure::Refused(Refusal::DiskLow));
        }
        match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => Self::Passing(Failure::Refused(Refusal::DiskLow)),
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Self::Passing(Failure::Busy),
            Some(_) | None => Self::Fatal(error.to_string()),
        }
    }
}
