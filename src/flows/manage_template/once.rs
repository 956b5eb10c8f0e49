//! Changes under a request id: each is made once.
//!
//! One whose outcome is unknown is never made again. Whoever repeats it makes the gateway look again, and either the
//! templates prove it, or it stays unknown.

use std::time::Duration;

use bytes::Bytes;
use tokio::sync::oneshot;
use tokio::time::Instant;
use tracing::{Instrument, info};

use super::{Error, ManageTemplate, Work, cut_off, settle, span};
use crate::domain::caller::Caller;
use crate::domain::failure::{Failure, Reason};
use crate::domain::ids::WabaId;
use crate::domain::template::{TemplateAction, TemplateOutcome};
use crate::flows::send_message::new_tag;
use crate::flows::unsettled::{self, Claim, Flight, IfLost, Known, Request, Slot, Taken};
use crate::storage::sends::{Outcome, RequestKey};

/// The RPC whose request ids these are.
const RPC: &str = "ManageTemplate";
/// A repetition looks once: Meta has had its time.
const LOOKS: [Duration; 1] = [Duration::ZERO];

/// What makes a change safe to repeat.
#[derive(Debug, Clone)]
pub struct Once {
    request: Request,
    deadline: Option<Instant>,
    encode: fn(TemplateOutcome) -> Bytes,
}

/// The answer as it is kept, in the words of the edge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// What [`Once`] was told to write.
    pub answer: Bytes,
    /// Whether an earlier call made the change.
    pub is_replayed: bool,
}

impl Once {
    /// By the id that the caller chose and the fingerprint of the request; `encode` writes what is kept. The caller waits
    /// until the deadline, or until the work ends.
    pub fn new(
        caller: &Caller,
        (id, fingerprint): (String, [u8; 32]),
        deadline: Option<Instant>,
        encode: fn(TemplateOutcome) -> Bytes,
    ) -> Self {
        let key = RequestKey::of(caller, RPC, &id);
        Self { request: Request { key, id, fingerprint, phone_number_id: None }, deadline, encode }
    }

    fn outcome(&self, done: Result<TemplateOutcome, Failure>) -> Outcome {
        match done {
            Ok(outcome) => Outcome::Answered((self.encode)(outcome)),
            Err(failure) if failure.verdict.reason == Reason::SendOutcomeUnknown => Outcome::Unknown(failure),
            Err(failure) => Outcome::Refused(failure),
        }
    }
}

/// How a change begins.
enum Begun {
    /// By this call.
    Ours(std::sync::Arc<Slot>),
    /// By another one.
    Taken(Taken),
}

impl ManageTemplate {
    /// As [`ManageTemplate::manage`] of a write, once.
    pub async fn manage_once(
        &self,
        caller: &Caller,
        waba_id: &WabaId,
        action: TemplateAction,
        once: Once,
    ) -> Result<Stored, Error> {
        let access_token = self.numbers.waba_access_token(waba_id)?;
        let proof = settle::proof(&action);
        let span = span(caller, waba_id, &action);
        let work = Work { client: self.client.clone(), access_token, waba_id: waba_id.clone(), action };
        let (told, begun) = oneshot::channel();
        let task = self.clone().begin(work, once.clone(), told).instrument(span);
        self.shutdown.spawn_request(task);
        let failed = |failure| {
            let request_id = once.request.id.clone();
            Error::Failed { failure: Box::new(failure), request_id }
        };
        let (taken, is_replayed) = match begun.await {
            Ok(Ok(Begun::Ours(slot))) => (Taken::Running(slot), false),
            Ok(Ok(Begun::Taken(taken))) => (taken, true),
            Ok(Err(error)) => return Err(error.into()),
            Err(_cut_off) => return Err(failed(cut_off(&proof))),
        };
        let outcome = match taken {
            Taken::Known(Known { outcome, .. }) => outcome,
            Taken::Running(slot) => slot.landed(once.deadline).await?,
        };
        match outcome {
            Outcome::Answered(answer) => Ok(Stored { answer, is_replayed }),
            Outcome::Refused(failure) => Err(failed(failure)),
            Outcome::Unknown(failure) if failure.message.ends_with(&proof) => Err(failed(failure)),
            // What a process that was killed left behind says nothing of templates.
            Outcome::Unknown(failure) => {
                let message = format!("the gateway was ended before the answer came; {proof}");
                Err(failed(Failure { message, ..failure }))
            }
            // No change is any of these.
            Outcome::Queued | Outcome::Sending | Outcome::Accepted(_) | Outcome::Expired(_) => {
                Err(failed(cut_off(&proof)))
            }
        }
    }

    /// Claims the change and makes it, or looks again at one in doubt. Runs to its end when the caller hangs up.
    async fn begin(self, work: Work, once: Once, told: oneshot::Sender<Result<Begun, unsettled::Error>>) {
        let claimed =
            self.unsettled.claim_call(&once.request, new_tag(), IfLost::InDoubt, |_, _| false).await;
        // A caller who has hung up in the meantime does not hear of it.
        let tell = |begun| drop(told.send(begun));
        match claimed {
            Ok(Claim::Mine(flight)) => {
                tell(Ok(Begun::Ours(flight.slot())));
                let done = work.run(self.catalog.clone()).await;
                flight.land(once.outcome(done)).await;
            }
            Ok(Claim::Taken(Taken::Known(Known {
                outcome: Outcome::Unknown(failure),
                tag,
                used_fallback,
            }))) => match self.unsettled.reopen(&once.request).await {
                Ok(Some(Claim::Mine(flight))) => {
                    tell(Ok(Begun::Taken(Taken::Running(flight.slot()))));
                    self.look_again(work, &once, flight, failure).await;
                }
                // Somebody else looks, or has looked since: what that finds is the answer to this one too.
                Ok(Some(Claim::Taken(taken))) => tell(Ok(Begun::Taken(taken))),
                Ok(None) => {
                    let outcome = Outcome::Unknown(failure);
                    tell(Ok(Begun::Taken(Taken::Known(Known { tag, used_fallback, outcome }))));
                }
                Err(error) => tell(Err(error)),
            },
            Ok(Claim::Taken(taken)) => tell(Ok(Begun::Taken(taken))),
            Err(error) => tell(Err(error)),
        }
    }

    async fn look_again(&self, work: Work, once: &Once, flight: Flight, failure: Failure) {
        let outcome = match work.settle(&LOOKS).await {
            Some(outcome) => {
                info!("done, as a later read shows");
                // Copies may be older than that.
                self.catalog.forget_after(&work.waba_id, &work.action);
                once.outcome(Ok(outcome))
            }
            None => Outcome::Unknown(failure),
        };
        flight.land(outcome).await;
    }
}
