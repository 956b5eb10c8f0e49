//! Calls that must not happen twice, while they run and while nothing proves what became of them.
//!
//! Each has a slot under the tag of its attempt. A slot of a request leaves only after the store says the outcome, so a
//! request that the store calls running, and that has no slot here, did nothing and may be claimed again. A status
//! with the tag proves that a send was accepted, whether it comes before the answer, after it was lost, or after a restart.
//!
//! Slots in doubt are bounded: beyond `SLOTS_MAX` the store alone knows them, and a status looks there.

mod claim;
mod flight;
mod inquiry;
mod lateness;
mod parked;
mod queued;
mod recent;
mod record;
mod slot;

use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tracing::info;

use crate::clock::SharedClock;
use crate::domain::failure::{Actor, Class, Failure, Reason, Retry, Verdict};
use crate::domain::ids::PhoneNumberId;
use crate::domain::map::FastMap;
use crate::domain::message::{Receipt, SendTag};
use crate::lifecycle::Shutdown;
use crate::storage::keyed_state::StateError;
use crate::storage::sends::{Outcome, PendingSend, RequestKey, Sends, Stored};

use super::news::RequestNews;
use flight::Ending;
use lateness::Lateness;
use parked::Parked;
use recent::Recent;
use slot::{Held, Standing};

pub(super) use flight::Flight;
pub(super) use inquiry::Became;
pub use queued::Left;
pub(super) use queued::wish_of;
pub(super) use slot::Slot;

/// What shows the outcome of a send whose answer is lost.
pub(super) const PROOF: &str = "the message may have gone out: a status event with the send tag proves it";

/// Slots beyond which one in doubt is left to the store. About 2 KB each.
const SLOTS_MAX: usize = 20_000;
/// Sends in doubt that are to go out again: these keep their slots, so no more are taken. With 20 going out again each
/// second, they are work for 40 minutes.
const RESENDS_WAITING_MAX: usize = 50_000;

/// The calls that run or are in doubt. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Unsettled {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    store: Sends,
    slots: Mutex<FastMap<SendTag, Arc<Slot>>>,
    slots_max: usize,
    /// Those whose outcome the store does not have yet.
    behind: Mutex<Vec<Arc<Slot>>>,
    /// Held while they are written.
    writing: tokio::sync::Mutex<()>,
    parked: Mutex<Parked>,
    /// What statuses say of sends that have no slot.
    strays: Mutex<FastMap<SendTag, Receipt>>,
    lateness: Mutex<Lateness>,
    /// How many are to go out again, by the last round.
    resends: AtomicUsize,
    recent: Mutex<Recent>,
    news: RequestNews,
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
    /// The number that sends; `None` for a call that is no send.
    pub phone_number_id: Option<PhoneNumberId>,
}

/// What a call that was cut off leaves behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum IfLost {
    /// Perhaps what it was to do: it is in doubt, after a crash too.
    InDoubt,
    /// Nothing that matters: it may be claimed again.
    Nothing,
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
    /// Too many sends wait to go out again.
    #[error(
        "{RESENDS_WAITING_MAX} sends with ON_UNKNOWN_RESEND are in doubt and wait to go out again; nothing was done, call \
         again later or without it"
    )]
    TooManyInDoubt,
}

impl Unsettled {
    /// Over this store.
    pub fn new(store: Sends, clock: SharedClock, shutdown: Shutdown) -> Self {
        Self::with_slots(SLOTS_MAX, store, clock, shutdown)
    }

    fn with_slots(slots_max: usize, store: Sends, clock: SharedClock, shutdown: Shutdown) -> Self {
        let inner = Inner {
            store,
            slots: Mutex::default(),
            slots_max,
            behind: Mutex::default(),
            writing: tokio::sync::Mutex::default(),
            parked: Mutex::default(),
            strays: Mutex::default(),
            lateness: Mutex::default(),
            resends: AtomicUsize::default(),
            recent: Mutex::default(),
            news: RequestNews::default(),
            clock,
            shutdown,
        };
        Self { inner: Arc::new(inner) }
    }

    /// Takes up what an earlier process left open. Before anything else, or statuses and claims would miss it. Returns what it
    /// left in the queue.
    pub async fn load(&self) -> Result<Vec<Left>, StateError> {
        let (now, mut count, mut left) = (self.inner.clock.now(), 0_usize, Vec::new());
        let take = |pending: PendingSend, stored: Stored| {
            left.extend(Left::of(&pending, &stored.record));
            // What waits has no slot, and what is settled needs none.
            if stored.record.outcome == Outcome::Queued || stored.record.outcome.is_settled() {
                return;
            }
            count += 1;
            let is_unknown = matches!(stored.record.outcome, Outcome::Unknown(_));
            let PendingSend { request, resend, queued, .. } = pending;
            // What was to be sent again is kept with the queued message until that is reported.
            let owed = queued.as_ref().and_then(|queued| queued.resend(stored.record.used_fallback));
            let slot = Slot::of_stored(request, stored, now);
            let slot = slot.with_resends(resend.or(owed).map(|resend| resend.count));
            let slot = if queued.is_some() { slot.owing_report() } else { slot };
            let mut slots = self.inner.slots();
            let may_park = is_unknown && !slot.may_resend() && !slot.owes_report();
            if may_park && slots.len() >= self.inner.slots_max {
                let counted_at = slot.held.as_ref().map_or(now, Held::counted_at);
                self.inner.parked().add(counted_at);
            } else {
                slots.insert(slot.tag.clone(), Arc::new(slot));
            }
        };
        self.inner.store.open_sends(take).await?;
        if count > 0 {
            info!(count, "calls of an earlier process are in doubt until something proves them");
        }
        Ok(left)
    }

    /// A send of this number without a request id.
    pub(super) fn begin(&self, tag: SendTag, phone_number_id: PhoneNumberId) -> Flight {
        let standing = Standing::flying(self.inner.clock.now());
        self.take_off(Slot::new(tag, Some(phone_number_id), None, standing), in_doubt_outcome)
    }

    fn take_off(&self, slot: Slot, if_lost: Ending) -> Flight {
        let slot = Arc::new(slot);
        self.inner.slots().insert(slot.tag.clone(), Arc::clone(&slot));
        Flight::new(self.clone(), slot, if_lost)
    }

    /// Some of the sends that are to go out again, since nothing was heard of them for so long, and by as much longer as
    /// statuses are late at present.
    pub(super) fn silent_for(&self, silence: Duration, count_max: usize) -> Vec<Flight> {
        let now = self.inner.clock.now();
        let silence = silence + self.inner.lateness().at(now);
        let slots: Vec<_> = self.inner.slots().values().filter(|slot| slot.may_resend()).cloned().collect();
        let due = slots.into_iter().filter(|slot| slot.take_off_again(now, silence));
        due.take(count_max).map(|slot| Flight::new(self.clone(), slot, in_doubt_outcome)).collect()
    }
}

impl Inner {
    fn slots(&self) -> MutexGuard<'_, FastMap<SendTag, Arc<Slot>>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn slot(&self, tag: &SendTag) -> Option<Arc<Slot>> {
        self.slots().get(tag).cloned()
    }

    fn behind(&self) -> MutexGuard<'_, Vec<Arc<Slot>>> {
        self.behind.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lateness(&self) -> MutexGuard<'_, Lateness> {
        self.lateness.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn recent(&self) -> MutexGuard<'_, Recent> {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
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

/// A call that was cut off and left nothing that matters.
pub(super) fn undone_outcome() -> Outcome {
    let verdict = Verdict {
        class: Class::Aborted,
        reason: Reason::RequestIncomplete,
        actor: Actor::Caller,
        retry: Retry::AfterChange,
    };
    let message = "the call did not come to its end; nothing was done".to_owned();
    Outcome::Refused(Failure { verdict, message, meta: None, field: None })
}

#[cfg(test)]
mod tests;
