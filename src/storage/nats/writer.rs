//! The loop of a writer: it commits what waits as one, answers everybody, and ends.

use std::sync::Arc;

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

/// Runs until the queue is closed, or something cannot go on.
pub(super) async fn run<W: Writer>(mut writer: W, mut intake: Intake<W::Request, W::Answer>) {
    let end = loop {
        let gone_on = match intake.next().await {
            Next::Commit(jobs) => {
                let served = serve(&mut writer, jobs).await;
                writer.measure(intake.backlog());
                served
            }
            Next::Look => writer.look().await,
            Next::End(closing) => break Ok(closing),
        };
        if let Err(reason) = gone_on {
            break Err(reason);
        }
    };
    match end {
        Ok(closing) => {
            writer.context().announce(Acceptance::Refusing(Refusal::Closed));
            intake.refuse(AppendError::Refused(Refusal::Closed));
            if let Some(closing) = closing {
                // Whoever asked may have left meanwhile.
                closing.send(()).ok();
            }
        }
        Err(reason) => {
            writer.context().fail(reason);
            intake.refuse(AppendError::Failed);
        }
    }
}

/// Commits the jobs and answers them.
async fn serve<W: Writer>(writer: &mut W, jobs: Vec<Job<W::Request, W::Answer>>) -> Result<(), String> {
    let (error, end) = match writer.commit(&jobs).await {
        Ok(Ok(answers)) => {
            jobs.into_iter().zip(answers).for_each(|(job, answer)| job.settle(Ok(answer)));
            return Ok(());
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
    end
}
