//! Calls that must not happen twice, while they run and while nothing proves what became of them.
//!
//! Each has a slot under the tag of its attempt. A slot of a request leaves only after the store says the outcome, so a
//! request that the store calls running, and that has no slot here, sent nothing and may be claimed again. A status
//! with the tag proves that a send was accepted, whether it comes before the answer, after it was lost, or after a restart.

mod slot;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use metrics::gauge;
use tracing::{error, info, warn};

use crate::clock::SharedClock;
use crate::domain::event::StatusReport;
use crate::domain::failure::{Actor, Class, Failure, Reason, Retry, Verdict};
use crate::domain::ids::MessageId;
use crate::domain::message::{MessageAcceptance, Receipt, SendTag};
use crate::lifecycle::Shutdown;
use crate::storage::keyed_state::{Precondition, StateError};
use crate::storage::sends::{
    Claimed, Outcome, PendingSend, RequestKey, RequestRecord, Resend, Sends, Stored,
};
use crate::telemetry::names;

pub(super) use slot::{Flight, Slot};
use slot::{Held, Standing};

/// What shows the outcome of a send whose answer is lost.
pub(super) const PROOF: &str = "the message may have gone out: a status event with the send tag proves it";

/// How often a claim is tried: it is only lost again when somebody else moved on in between.
const CLAIMS_MAX: usize = 8;

/// The calls that run or are in doubt. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Unsettled {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    store: Sends,
    slots: Mutex<HashMap<SendTag, Arc<Slot>>>,
    /// Those whose outcome the store does not have yet.
    behind: Mutex<Vec<Arc<Slot>>>,
    clock: SharedClock,
    shutdown: Shutdown,
}

/// A request under an id that its caller chose.
#[derive(Debug, Clone)]
pub struct Request {
    /// Names it.
    pub key: RequestKey,
    /// The id, as the caller wrote it.
    pub id: String,
    /// Tells it from another request under the same id.
    pub fingerprint: [u8; 32],
}

/// What stands under a request id.
#[derive(Debug)]
pub(super) enum Claim {
    /// The work is ours.
    Mine(Flight),
    /// It was taken up before.
    Taken(Taken),
}

/// A request that was taken up before.
#[derive(Debug)]
pub(super) enum Taken {
    /// Another call does it.
    Running(Arc<Slot>),
    /// It is done, or in doubt.
    Known(Known),
}

/// What is known of a request.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) tag: SendTag,
    pub(super) used_fallback: bool,
    pub(super) outcome: Outcome,
}

/// Why a request cannot be taken up. Nothing was done.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The id stands for another request.
    #[error(
        "stands for another request of the last hours already: take a new id for a new request, and send the \
             same request to repeat one"
    )]
    Reused,
    /// A call with this id is still running.
    #[error("a call with this request_id is still running; call again with the same id to get its result")]
    InProgress,
    /// The store does not take the claim.
    #[error("the claim of the request_id cannot be stored at this moment; nothing was done, call again")]
    Store(#[source] StateError),
}

impl Unsettled {
    /// Over this store.
    pub fn new(store: Sends, clock: SharedClock, shutdown: Shutdown) -> Self {
        let (slots, behind) = (Mutex::default(), Mutex::default());
        Self { inner: Arc::new(Inner { store, slots, behind, clock, shutdown }) }
    }

    /// Takes up what an earlier process left open. Before anything else, or statuses and claims would miss it.
    pub async fn load(&self) -> Result<(), StateError> {
        let open = self.inner.store.open_sends().await?;
        if !open.is_empty() {
            info!(sends = open.len(), "sends of an earlier process are in doubt until a status proves them");
        }
        let mut slots = self.inner.slots();
        for (PendingSend { request, created, resend }, stored) in open {
            let Stored { record, revision } = stored;
            let RequestRecord { fingerprint, used_fallback, .. } = record;
            let held = Held { key: request, fingerprint, created, used_fallback };
            let failure = match &record.outcome {
                Outcome::Unknown(failure) => failure.clone(),
                Outcome::Sending | Outcome::Accepted(_) | Outcome::Refused(_) | Outcome::Answered(_) => {
                    in_doubt()
                }
            };
            let standing = Standing::landed(Outcome::Unknown(failure), self.inner.clock.now());
            let slot = Slot::new(record.tag.clone(), Some(held), standing, resend);
            let slot = slot.stored_as(revision, record.outcome);
            slots.insert(record.tag, Arc::new(slot));
        }
        Ok(())
    }

    /// A call without a request id.
    pub(super) fn begin(&self, tag: SendTag) -> Flight {
        self.take_off(
            Slot::new(tag, None, Standing::flying(self.inner.clock.now()), None),
            in_doubt_outcome(),
        )
    }

    /// Claims a request for an attempt with this tag, or says what stands under its id. `resend` is what to send again, if
    /// it may be. Must run to its end: what it has claimed is in doubt otherwise.
    pub(super) async fn claim(
        &self,
        request: &Request,
        tag: SendTag,
        used_fallback: bool,
        resend: Option<Resend>,
    ) -> Result<Claim, Error> {
        let (key, fingerprint, created) = (request.key, request.fingerprint, self.inner.clock.now());
        let outcome = Outcome::Sending;
        let record = RequestRecord { fingerprint, tag: tag.clone(), created, used_fallback, outcome };
        let pending = PendingSend { request: key, created, resend: resend.clone() };
        let held = Held { key, fingerprint, created, used_fallback };
        let slot = Slot::new(tag, Some(held), Standing::flying(created), resend);
        // Before the claim can be seen, so that whoever sees it finds the slot.
        let flight = self.take_off(slot, in_doubt_outcome());
        let mut precondition = Precondition::Absent;
        for _ in 0..CLAIMS_MAX {
            let claimed = self.inner.store.claim(&key, &record, Some(&pending), precondition).await;
            precondition = match claimed.map_err(Error::Store)? {
                Claimed::Won(revision) => {
                    flight.claimed(revision).await;
                    return Ok(Claim::Mine(flight));
                }
                Claimed::Lost(None) => Precondition::Absent,
                Claimed::Lost(Some(stored)) if stored.record.fingerprint != fingerprint => {
                    return Err(Error::Reused);
                }
                Claimed::Lost(Some(stored)) => match self.standing_of(&stored) {
                    Some(taken) => return Ok(Claim::Taken(taken)),
                    None => Precondition::Revision(stored.revision),
                },
            };
        }
        Err(Error::InProgress)
    }

    /// What stands under the id of a request, without claiming it.
    pub(super) async fn find(&self, request: &Request) -> Result<Option<Taken>, Error> {
        match self.inner.store.request(&request.key).await.map_err(Error::Store)? {
            Some(stored) if stored.record.fingerprint != request.fingerprint => Err(Error::Reused),
            stored => Ok(stored.and_then(|stored| self.standing_of(&stored))),
        }
    }

    /// What is known of a request that somebody else claimed; nothing if it may be claimed again.
    fn standing_of(&self, stored: &Stored) -> Option<Taken> {
        let tag = stored.record.tag.clone();
        let outcome = match self.inner.slot(&tag) {
            Some(slot) => match slot.outcome() {
                None => return Some(Taken::Running(slot)),
                Some(outcome) => outcome,
            },
            None => stored.record.outcome.clone(),
        };
        match outcome {
            Outcome::Sending | Outcome::Refused(_) => None,
            known @ (Outcome::Accepted(_) | Outcome::Unknown(_) | Outcome::Answered(_)) => {
                let used_fallback = stored.record.used_fallback;
                Some(Taken::Known(Known { tag, used_fallback, outcome: known }))
            }
        }
    }

    fn take_off(&self, slot: Slot, if_lost: Outcome) -> Flight {
        let slot = Arc::new(slot);
        self.inner.slots().insert(slot.tag.clone(), Arc::clone(&slot));
        Flight::new(self.clone(), slot, if_lost)
    }

    /// Takes note of a status. What it proves is durable after [`Unsettled::record_behind`], not before.
    pub fn note(&self, report: &StatusReport) {
        let Some(slot) = report.send_tag.as_ref().and_then(|tag| self.inner.slot(tag)) else { return };
        let Ok(message_id) = MessageId::parse(&report.message_id) else { return };
        let acceptance = MessageAcceptance::Accepted;
        let receipt = Receipt { message_id, acceptance, recipient: None, accept_time: report.time };
        if slot.prove(receipt) {
            self.inner.behind().push(slot);
        }
    }

    /// Writes every outcome that the store does not have yet.
    pub async fn record_behind(&self) -> Result<(), StateError> {
        let mut behind = std::mem::take(&mut *self.inner.behind()).into_iter();
        while let Some(slot) = behind.next() {
            if let Err(error) = self.inner.record(&slot).await {
                self.inner.behind().extend(std::iter::once(slot).chain(behind));
                return Err(error);
            }
        }
        Ok(())
    }

    /// What has to be done now and then: writes what could not be written, and gives up what is too old to be asked for.
    pub async fn round(&self) {
        if let Err(error) = self.record_behind().await {
            warn!(%error, "outcomes of sends cannot be stored");
        }
        let now = self.inner.clock.now();
        let mut slots = self.inner.slots();
        slots.retain(|_, slot| {
            let is_old = slot.held.as_ref().is_some_and(|held| {
                slot.outcome().is_some() && now >= self.inner.store.forgotten_at(held.created)
            });
            !is_old
        });
        let unknown = slots.values().filter(|slot| slot.is_unknown()).count();
        #[expect(clippy::cast_precision_loss, reason = "a count for people")]
        gauge!(names::SENDS_UNKNOWN).set(unknown as f64);
    }

    /// Some of the sends that are to go out again, since nothing was heard of them for so long.
    pub(super) fn silent_for(&self, silence: Duration, count_max: usize) -> Vec<Flight> {
        let now = self.inner.clock.now();
        let slots: Vec<_> = self.inner.slots().values().filter(|slot| slot.may_resend()).cloned().collect();
        let due = slots.into_iter().filter(|slot| slot.take_off_again(now, silence));
        due.take(count_max).map(|slot| Flight::new(self.clone(), slot, in_doubt_outcome())).collect()
    }
}

impl Inner {
    fn slots(&self) -> MutexGuard<'_, HashMap<SendTag, Arc<Slot>>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn slot(&self, tag: &SendTag) -> Option<Arc<Slot>> {
        self.slots().get(tag).cloned()
    }

    fn behind(&self) -> MutexGuard<'_, Vec<Arc<Slot>>> {
        self.behind.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the store say what the slot says. A settled slot leaves.
    async fn record(&self, slot: &Arc<Slot>) -> Result<(), StateError> {
        let mut written = slot.written.lock().await;
        let (Some(held), Some((revision, stored))) = (&slot.held, written.as_mut()) else {
            self.remove(slot);
            return Ok(());
        };
        let (outcome, is_flying) = slot.durable();
        if *stored != outcome {
            let Held { key, fingerprint, created, used_fallback } = held;
            let record = RequestRecord {
                fingerprint: *fingerprint,
                tag: slot.tag.clone(),
                created: *created,
                used_fallback: *used_fallback,
                outcome: outcome.clone(),
            };
            match self.store.settle(key, &record, *revision).await {
                Ok(next) => (*revision, *stored) = (next, outcome.clone()),
                // Its time is over, or, as it had certainly sent nothing, somebody claimed it again.
                Err(StateError::Conflict { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        if is_flying || !outcome.is_settled() {
            return Ok(());
        }
        self.store.forget(&slot.tag).await?;
        self.remove(slot);
        Ok(())
    }

    fn remove(&self, slot: &Arc<Slot>) {
        self.slots().remove(&slot.tag);
    }

    /// As [`Inner::record`]; what cannot be written now is written later.
    async fn record_in_time(&self, slot: &Arc<Slot>) {
        if let Err(error) = self.record(slot).await {
            error!(%error, "the outcome of a send cannot be stored yet");
            self.behind().push(Arc::clone(slot));
        }
    }
}

/// What nobody can tell.
pub(super) fn unknown(message: impl Into<String>) -> Failure {
    let verdict = Verdict {
        class: Class::Unknown,
        reason: Reason::SendOutcomeUnknown,
        actor: Actor::Caller,
        retry: Retry::Ambiguous,
    };
    Failure { verdict, message: message.into(), meta: None, field: None }
}

fn in_doubt() -> Failure {
    unknown(format!("the gateway was ended before the answer came; {PROOF}"))
}

fn in_doubt_outcome() -> Outcome {
    Outcome::Unknown(in_doubt())
}
