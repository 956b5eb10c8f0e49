//! The bounded queue in front of a writer.
//!
//! As in front of the disk: the writer takes whatever is there and answers after its commit. Whoever sets the flag of a
//! job first has it. A job withdrawn in time never happens, so its caller knows that nothing was written. For a job that
//! the writer has, [`Patience::Settle`] waits for the answer, and [`Patience::Bounded`] leaves although it may yet happen.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::time::timeout;

use crate::storage::event_log::{Acceptance, AppendError, Refusal};
use crate::storage::shared::Shared;

/// Events or entries that may wait.
const RECORDS_MAX: usize = 8_192;
/// Bytes that may wait, and that one call may have.
pub(super) const BYTES_MAX: usize = 64 * 1024 * 1024;
/// Bytes are admitted in blocks, because a semaphore counts in 32 bits on small machines.
const BLOCK_BYTES: usize = 1024;
/// How long a caller waits for its turn.
const WAIT_MAX: Duration = Duration::from_secs(3);
/// Records of one commit. The server takes 1,000 messages in one batch.
pub(super) const BATCH_RECORDS: usize = 512;
/// Bytes of one commit; a larger call has one of its own.
pub(super) const BATCH_BYTES: usize = 1024 * 1024;

/// What a job weighs.
#[derive(Debug, Clone, Copy)]
pub(super) struct Weight {
    pub(super) records: usize,
    pub(super) bytes: usize,
}

/// What a caller does when its wait is over and the writer has its job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Patience {
    /// Leaves with `Busy`.
    Bounded,
    /// Waits on until it is settled.
    Settle,
}

/// A request and whoever waits for its answer.
#[derive(Debug)]
pub(super) struct Job<Q, A> {
    pub(super) request: Q,
    weight: Weight,
    taken: Arc<AtomicBool>,
    reply: oneshot::Sender<Result<A, AppendError>>,
    _admission: [OwnedSemaphorePermit; 2],
}

#[derive(Debug)]
enum Message<Q, A> {
    Job(Job<Q, A>),
    Look,
    Close(oneshot::Sender<()>),
}

/// What a writer has to do next.
#[derive(Debug)]
pub(super) enum Next<Q, A> {
    /// These together.
    Commit(Vec<Job<Q, A>>),
    /// Look whether the stream went on without us.
    Look,
    /// End; whoever waits for that.
    End(Option<oneshot::Sender<()>>),
}

/// The callers' end of the queue.
#[derive(Debug)]
pub(super) struct Queue<Q, A> {
    sender: mpsc::UnboundedSender<Message<Q, A>>,
    /// Whether a look is queued already.
    look_queued: Arc<AtomicBool>,
    shared: Arc<Shared>,
    /// Refusals for want of room count.
    grows: bool,
    records: Arc<Semaphore>,
    blocks: Arc<Semaphore>,
}

/// The writer's end.
#[derive(Debug)]
pub(super) struct Intake<Q, A> {
    receiver: mpsc::UnboundedReceiver<Message<Q, A>>,
    /// Did not fit into the last commit.
    carried: Option<Message<Q, A>>,
    look_queued: Arc<AtomicBool>,
    records: Arc<Semaphore>,
}

/// A queue and the writer's end of it.
pub(super) fn queue<Q, A>(shared: Arc<Shared>, grows: bool) -> (Queue<Q, A>, Intake<Q, A>) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let records = Arc::new(Semaphore::new(RECORDS_MAX));
    let blocks = Arc::new(Semaphore::new(BYTES_MAX / BLOCK_BYTES));
    let look_queued = Arc::new(AtomicBool::new(false));
    let looks = Arc::clone(&look_queued);
    let intake = Intake { receiver, carried: None, look_queued: looks, records: Arc::clone(&records) };
    (Queue { sender, look_queued, shared, grows, records, blocks }, intake)
}

impl<Q, A> Queue<Q, A> {
    /// Has the writer do it, and returns what came of it once that is durable.
    pub(super) async fn submit(
        &self,
        request: Q,
        weight: Weight,
        patience: Patience,
    ) -> Result<A, AppendError> {
        self.check_acceptance()?;
        let admission = self.admit(weight)?;
        let (reply, mut answer) = oneshot::channel();
        let taken = Arc::new(AtomicBool::new(false));
        let job = Job { request, weight, taken: Arc::clone(&taken), reply, _admission: admission };
        self.sender.send(Message::Job(job)).map_err(|_| self.gone())?;
        let settled = match timeout(WAIT_MAX, &mut answer).await {
            Ok(settled) => settled,
            Err(_) if patience == Patience::Settle && taken.swap(true, Ordering::AcqRel) => answer.await,
            Err(_) => return Err(AppendError::Busy),
        };
        settled.unwrap_or_else(|_| Err(self.gone()))
    }

    /// Has the writer look at the stream.
    pub(super) fn look(&self) {
        if !self.look_queued.swap(true, Ordering::AcqRel) {
            // A writer that has ended looks at nothing any more.
            drop(self.sender.send(Message::Look));
        }
    }

    /// Ends the writer behind the jobs that are queued.
    pub(super) async fn close(&self) {
        let (reply, answer) = oneshot::channel();
        if self.sender.send(Message::Close(reply)).is_ok() {
            // A writer that ended otherwise drops the sender.
            drop(answer.await);
        }
    }

    fn check_acceptance(&self) -> Result<(), AppendError> {
        match self.shared.acceptance() {
            Acceptance::Accepting => Ok(()),
            Acceptance::Refusing(Refusal::Failed) => Err(AppendError::Failed),
            Acceptance::Refusing(Refusal::SizeLimit | Refusal::DiskLow) if !self.grows => Ok(()),
            Acceptance::Refusing(refusal) => Err(AppendError::Refused(refusal)),
        }
    }

    fn admit(&self, weight: Weight) -> Result<[OwnedSemaphorePermit; 2], AppendError> {
        if weight.bytes > BYTES_MAX {
            return Err(AppendError::TooLarge { bytes: weight.bytes, bytes_max: BYTES_MAX });
        }
        let take = |semaphore: &Arc<Semaphore>, count: usize| {
            let count = u32::try_from(count).unwrap_or(u32::MAX);
            Arc::clone(semaphore).try_acquire_many_owned(count).map_err(|_| AppendError::Busy)
        };
        let records = take(&self.records, weight.records.clamp(1, RECORDS_MAX))?;
        Ok([records, take(&self.blocks, weight.bytes.div_ceil(BLOCK_BYTES))?])
    }

    /// Why the writer is not there any more.
    fn gone(&self) -> AppendError {
        match self.shared.acceptance() {
            Acceptance::Refusing(Refusal::Closed) => AppendError::Refused(Refusal::Closed),
            Acceptance::Refusing(_) | Acceptance::Accepting => AppendError::Failed,
        }
    }
}

impl<Q, A> Intake<Q, A> {
    /// Waits for something to do, and takes what is there up to the limits of a commit.
    pub(super) async fn next(&mut self) -> Next<Q, A> {
        loop {
            let first = match self.carried.take() {
                Some(message) => Some(message),
                None => self.receiver.recv().await,
            };
            match first {
                None => return Next::End(None),
                Some(Message::Close(closing)) => return Next::End(Some(closing)),
                Some(Message::Look) => {
                    // What is called out from now on is a new look.
                    self.look_queued.store(false, Ordering::Release);
                    return Next::Look;
                }
                Some(Message::Job(first)) => {
                    let jobs = self.gather(first);
                    if !jobs.is_empty() {
                        return Next::Commit(jobs);
                    }
                }
            }
        }
    }

    /// Events or entries that wait or are being written.
    pub(super) fn backlog(&self) -> usize {
        RECORDS_MAX.saturating_sub(self.records.available_permits())
    }

    /// What is left when the writer has ended.
    pub(super) fn refuse(mut self, error: AppendError) {
        self.receiver.close();
        while let Some(message) = self.carried.take().or_else(|| self.receiver.try_recv().ok()) {
            if let Message::Job(job) = message {
                job.settle(Err(error));
            }
        }
    }

    fn gather(&mut self, first: Job<Q, A>) -> Vec<Job<Q, A>> {
        let Weight { mut records, mut bytes } = first.weight;
        let mut jobs = vec![first];
        while let Ok(message) = self.receiver.try_recv() {
            match message {
                Message::Job(job)
                    if records + job.weight.records <= BATCH_RECORDS
                        && bytes + job.weight.bytes <= BATCH_BYTES =>
                {
                    records += job.weight.records;
                    bytes += job.weight.bytes;
                    jobs.push(job);
                }
                other @ (Message::Job(_) | Message::Look | Message::Close(_)) => {
                    self.carried = Some(other);
                    break;
                }
            }
        }
        jobs.retain(|job| !job.taken.swap(true, Ordering::AcqRel) && !job.reply.is_closed());
        jobs
    }
}

impl<Q, A> Job<Q, A> {
    /// Answers.
    pub(super) fn settle(self, answer: Result<A, AppendError>) {
        // The caller may have left meanwhile; then nobody wants the answer.
        drop(self.reply.send(answer));
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;
    use crate::storage::event_log::Bounds;
    use crate::storage::ring::Ring;

    /// A queue of a writer that does nothing until it is asked to.
    fn still() -> (Queue<u8, u8>, Intake<u8, u8>) {
        let shared = Shared::new([0; 8], Bounds { earliest: 1, tail: 0 }, Arc::new(Ring::default()));
        queue(Arc::new(shared), false)
    }

    const ONE: Weight = Weight { records: 1, bytes: 1 };

    #[tokio::test(start_paused = true)]
    async fn a_claim_is_given_up_after_three_seconds() {
        let (queue, mut intake) = still();
        let began = Instant::now();
        assert_eq!(queue.submit(1, ONE, Patience::Bounded).await, Err(AppendError::Busy));
        assert_eq!(began.elapsed(), WAIT_MAX);
        // Also when the writer has it, and NATS is away.
        let claiming = queue.submit(2, ONE, Patience::Bounded);
        tokio::pin!(claiming);
        assert!(timeout(Duration::ZERO, &mut claiming).await.is_err());
        let Next::Commit(taken) = intake.next().await else { panic!("it waits there") };
        assert_eq!(taken.iter().map(|job| job.request).collect::<Vec<_>>(), [2], "the first was given up");
        assert_eq!(claiming.await, Err(AppendError::Busy));
        assert_eq!(began.elapsed(), 2 * WAIT_MAX);
        // A send must know.
        let settling = queue.submit(3, ONE, Patience::Settle);
        tokio::pin!(settling);
        assert!(timeout(Duration::ZERO, &mut settling).await.is_err());
        let Next::Commit(mut taken) = intake.next().await else { panic!("it waits there") };
        assert!(timeout(10 * WAIT_MAX, &mut settling).await.is_err());
        taken.remove(0).settle(Ok(4));
        assert_eq!(settling.await, Ok(4));
    }
}
