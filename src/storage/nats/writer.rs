//! The loop of a stream's writers: each commits what waits as one and answers everybody, until they end.

use std::sync::Arc;

use futures_util::stream::{FuturesUnordered, StreamExt as _, TryStreamExt as _};

use super::Context;
use super::queue::{Intake, Job, Next};
use crate::storage::event_log::{Acceptance, AppendError, Refusal};

/// What came of a commit: an answer for each job, or why nothing is promised to any of them; the outer error is the end of
/// the process.
pub(super) type Committed<A> = Result<Result<Vec<A>, AppendError>, String>;

/// What a writer does.
pub(super) trait Writer: Send {
    /// What callers ask for.
    type Request: Send + Sync;
    /// What they are told.
    type Answer: Send;

    fn context(&self) -> &Arc<Context>;

    /// Writes all of it, or says why not.
    fn commit(
        &mut self,
        jobs: &[Job<Self::Request, Self::Answer>],
    ) -> impl Future<Output = Committed<Self::Answer>> + Send;

    /// Takes in what others wrote. An error is the end of the process; what cannot be read now is read at the next look.
    fn look(&mut self) -> impl Future<Output = Result<(), String>> + Send;

    /// So many records wait or are being written.
    fn measure(&self, backlog: usize);
}

/// Runs until the queue is closed, or something cannot go on. Each of the writers has one commit at a time.
pub(super) async fn run<W: Writer>(writers: Vec<W>, mut intake: Intake<W::Request, W::Answer>) {
    let Some(context) = writers.first().map(|writer| Arc::clone(writer.context())) else { return };
    let (mut idle, mut busy) = (writers, FuturesUnordered::new());
    let closing = loop {
        let gone_on = tokio::select! {
            Some((writer, served)) = busy.next() => {
                idle.push(writer);
                served
            }
            next = intake.next(), if !idle.is_empty() => match (next, idle.pop()) {
                (Next::Commit(jobs), Some(writer)) => {
                    busy.push(serve(writer, jobs));
                    Ok(())
                }
                (Next::Look, Some(mut writer)) => {
                    let looked = writer.look().await;
                    idle.push(writer);
                    looked
                }
                (Next::End(closing), _) => break Ok(closing),
                (Next::Commit(_) | Next::Look, None) => Ok(()),
            }
        };
        if let Some(writer) = idle.last() {
            writer.measure(intake.backlog());
        }
        if let Err(reason) = gone_on {
            break Err(reason);
        }
    };
    let end = match closing {
        Ok(closing) => busy.map(|(_, served)| served).try_collect::<()>().await.map(|()| closing),
        Err(reason) => Err(reason),
    };
    match end {
        Ok(closing) => {
            context.announce(Acceptance::Refusing(Refusal::Closed));
            intake.refuse(AppendError::Refused(Refusal::Closed));
            if let Some(closing) = closing {
                // Whoever asked may have left meanwhile.
                closing.send(()).ok();
            }
        }
        Err(reason) => {
            context.fail(reason);
            intake.refuse(AppendError::Failed);
        }
    }
}

/// Commits the jobs, answers them, and gives the writer back.
async fn serve<W: Writer>(mut writer: W, jobs: Vec<Job<W::Request, W::Answer>>) -> (W, Result<(), String>) {
    let (error, end) = match writer.commit(&jobs).await {
        Ok(Ok(answers)) => {
            jobs.into_iter().zip(answers).for_each(|(job, answer)| job.settle(Ok(answer)));
            return (writer, Ok(()));
        }
        Ok(Err(error)) => (error, Ok(())),
        Err(reason) => {
            writer.context().announce(Acceptance::Refusing(Refusal::Failed));
            (AppendError::Failed, Err(reason))
        }
    };
    for job in jobs {
        job.settle(Err(error));
    }
    (writer, end)
}
