//! The bounded queue in front of the writer thread.
//!
//! A job is a closure over the open transaction. The writer takes whatever is there, runs the jobs in their order in
//! one transaction, and answers all of them after the commit.
//!
//! The race between a caller that gives up and a writer that takes its job is settled by one flag per job: whoever
//! sets it first has it. A job withdrawn in time is never run, so its caller knows that nothing was written. A job
//! that the writer has is out of the caller's hands: [`Patience::Settle`] waits for its answer (a claim must know),
//! [`Patience::Bounded`] leaves with `Busy` although it may yet commit, which is right for appends only: the webhook
//! is answered 503, Meta sends it again, and the copy is a duplicate. A caller that vanishes (a dropped future)
//! withdraws what the writer has not taken.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::timeout;

use super::transaction::Batch;
use crate::storage::event_log::{Acceptance, AppendError, Refusal};
use crate::storage::keyed_state::StateError;
use crate::storage::shared::Shared;

/// Events (or rows of state) that may wait.
const EVENTS_MAX: usize = 8_192;

/// Bytes that may wait, and that one call may have.
const BYTES_MAX: usize = 64 * 1024 * 1024;

/// Bytes are admitted in blocks, because a semaphore counts in 32 bits on small machines.
const BLOCK_BYTES: usize = 1024;

/// How long a caller waits for its commit.
const WAIT_MAX: Duration = Duration::from_secs(3);

/// Why a job was not done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Failure {
    Refused(Refusal),
    Busy,
    TooLarge { bytes: usize },
    Failed,
}

impl From<Failure> for AppendError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Refused(refusal) => Self::Refused(refusal),
            Failure::Busy => Self::Busy,
            Failure::TooLarge { bytes } => Self::TooLarge { bytes, bytes_max: BYTES_MAX },
            Failure::Failed => Self::Failed,
        }
    }
}

impl From<Failure> for StateError {
    fn from(failure: Failure) -> Self {
        AppendError::from(failure).into()
    }
}

/// What a job weighs.
#[derive(Debug, Clone, Copy)]
pub(super) struct Weight {
    /// Events or rows.
    pub(super) events: usize,
    /// Bytes of payload.
    pub(super) bytes: usize,
    /// Whether the job needs room: such jobs are refused when there is none.
    pub(super) grows: bool,
}

impl Weight {
    /// A job that frees room or changes next to nothing.
    pub(super) const SHRINKING: Self = Self { events: 1, bytes: 0, grows: false };
}

/// What a caller does when its wait is over and the writer has its job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Patience {
    /// Leaves with `Busy`.
    Bounded,
    /// Waits on until the commit is settled.
    Settle,
}

/// What the writer receives.
pub(super) enum Message {
    Job(Job),
    /// Finish what is queued, close the database, answer.
    Close(oneshot::Sender<Result<(), String>>),
}

/// A queued job with its place in the queue's budget, which it gives back when it is dropped.
pub(super) struct Job {
    pub(super) weight: Weight,
    task: Box<dyn Task>,
    admission: [OwnedSemaphorePermit; 2],
}

impl Job {
    /// Takes the job out of its caller's hands; false if the caller has left.
    pub(super) fn take(&self) -> bool {
        self.task.take()
    }

    /// Does the work inside the open transaction. An error spoils the whole transaction.
    pub(super) fn apply(&mut self, batch: &mut Batch<'_>) -> rusqlite::Result<()> {
        self.task.apply(batch)
    }

    /// Answers the caller, whose next job then finds the room that this one took.
    pub(super) fn settle(self, result: Result<(), Failure>) {
        drop(self.admission);
        self.task.settle(result);
    }
}

/// A job without its result type.
trait Task: Send {
    fn take(&self) -> bool;
    fn apply(&mut self, batch: &mut Batch<'_>) -> rusqlite::Result<()>;
    fn settle(self: Box<Self>, result: Result<(), Failure>);
}

struct TypedTask<T, F> {
    work: Option<F>,
    value: Option<T>,
    taken: Arc<AtomicBool>,
    reply: oneshot::Sender<Result<T, Failure>>,
}

impl<T, F> Task for TypedTask<T, F>
where
    T: Send,
    F: FnOnce(&mut Batch<'_>) -> rusqlite::Result<T> + Send,
{
    fn take(&self) -> bool {
        !self.reply.is_closed() && !self.taken.swap(true, Ordering::AcqRel)
    }

    fn apply(&mut self, batch: &mut Batch<'_>) -> rusqlite::Result<()> {
        if let Some(work) = self.work.take() {
            self.value = Some(work(batch)?);
        }
        Ok(())
    }

    fn settle(self: Box<Self>, result: Result<(), Failure>) {
        let Self { value, reply, .. } = *self;
        // The caller may have left meanwhile; then nobody wants the answer.
        drop(reply.send(result.and_then(|()| value.ok_or(Failure::Failed))));
    }
}

/// The callers' end of the queue.
#[derive(Debug)]
pub(super) struct Queue {
    sender: mpsc::Sender<Message>,
    shared: Arc<Shared>,
    events: Arc<Semaphore>,
    blocks: Arc<Semaphore>,
}

impl Queue {
    /// The queue and the writer's end of it.
    pub(super) fn new(shared: Arc<Shared>) -> (Self, mpsc::Receiver<Message>, Backlog) {
        let (sender, receiver) = mpsc::channel();
        let events = Arc::new(Semaphore::new(EVENTS_MAX));
        let blocks = Arc::new(Semaphore::new(BYTES_MAX / BLOCK_BYTES));
        let backlog = Backlog(Arc::clone(&events));
        (Self { sender, shared, events, blocks }, receiver, backlog)
    }

    /// Runs `work` in one of the writer's transactions and returns its value once that is durable.
    pub(super) async fn submit<T, F>(&self, weight: Weight, patience: Patience, work: F) -> Result<T, Failure>
    where
        T: Send + 'static,
        F: FnOnce(&mut Batch<'_>) -> rusqlite::Result<T> + Send + 'static,
    {
        self.check_acceptance(weight)?;
        let admission = self.admit(weight)?;
        let (reply, mut answer) = oneshot::channel();
        let taken = Arc::new(AtomicBool::new(false));
        let task = Box::new(TypedTask { work: Some(work), value: None, taken: Arc::clone(&taken), reply });
        let job = Job { weight, task, admission };
        self.sender.send(Message::Job(job)).map_err(|_| self.gone())?;
        let settled = match timeout(WAIT_MAX, &mut answer).await {
            Ok(settled) => settled,
            Err(_) if patience == Patience::Settle && taken.swap(true, Ordering::AcqRel) => answer.await,
            Err(_) => return Err(Failure::Busy),
        };
        settled.unwrap_or_else(|_| Err(self.gone()))
    }

    /// Closes the database behind the jobs that are queued.
    pub(super) async fn close(&self) -> Result<(), String> {
        let (reply, answer) = oneshot::channel();
        let gone = || match self.gone() {
            Failure::Refused(_) => Ok(()),
            Failure::Busy | Failure::TooLarge { .. } | Failure::Failed => Err(Refusal::Failed.to_string()),
        };
        if self.sender.send(Message::Close(reply)).is_err() {
            return gone();
        }
        answer.await.unwrap_or_else(|_| gone())
    }

    /// Spares the writer what it would refuse anyway.
    fn check_acceptance(&self, weight: Weight) -> Result<(), Failure> {
        match self.shared.acceptance() {
            Acceptance::Refusing(Refusal::Failed) => Err(Failure::Failed),
            Acceptance::Refusing(Refusal::Closed) => Err(Failure::Refused(Refusal::Closed)),
            Acceptance::Refusing(refusal) if weight.grows => Err(Failure::Refused(refusal)),
            Acceptance::Refusing(_) | Acceptance::Accepting => Ok(()),
        }
    }

    fn admit(&self, weight: Weight) -> Result<[OwnedSemaphorePermit; 2], Failure> {
        if weight.bytes > BYTES_MAX {
            return Err(Failure::TooLarge { bytes: weight.bytes });
        }
        // A call with more events than the queue holds needs all of it, instead of never getting in.
        let events = permits(weight.events.clamp(1, EVENTS_MAX));
        let blocks = permits(weight.bytes.div_ceil(BLOCK_BYTES));
        let events = Arc::clone(&self.events).try_acquire_many_owned(events).map_err(|_| Failure::Busy)?;
        let blocks = Arc::clone(&self.blocks).try_acquire_many_owned(blocks).map_err(|_| Failure::Busy)?;
        Ok([events, blocks])
    }

    /// Why the writer is not there any more.
    fn gone(&self) -> Failure {
        match self.shared.acceptance() {
            Acceptance::Refusing(Refusal::Closed) => Failure::Refused(Refusal::Closed),
            Acceptance::Refusing(_) | Acceptance::Accepting => Failure::Failed,
        }
    }
}

/// How much is waiting.
#[derive(Debug)]
pub(super) struct Backlog(Arc<Semaphore>);

impl Backlog {
    /// Events and rows in the queue or in the open transaction.
    pub(super) fn events(&self) -> usize {
        EVENTS_MAX.saturating_sub(self.0.available_permits())
    }
}

fn permits(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}
