//! One call: how it stands, who waits for it, and the flight that must land.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use super::{Error, Unsettled};
use crate::domain::message::{PreparedMessage, Receipt, SendTag};
use crate::storage::keyed_state::StateError;
use crate::storage::sends::{Outcome, PendingSend, RequestKey, Resend};

/// How often a send goes out again at most.
const RESENDS_MAX: u32 = 3;

/// One call.
#[derive(Debug)]
pub(in crate::flows) struct Slot {
    /// Names its attempt.
    pub(in crate::flows) tag: SendTag,
    /// The request that it belongs to, if it has an id.
    pub(super) held: Option<Held>,
    standing: watch::Sender<Standing>,
    /// Revision and outcome as the store has them; nothing before the claim.
    pub(super) written: tokio::sync::Mutex<Option<(u64, Outcome)>>,
    resend: Mutex<Option<Resend>>,
}

/// A claimed request.
#[derive(Debug, Clone)]
pub(super) struct Held {
    pub(super) key: RequestKey,
    pub(super) fingerprint: [u8; 32],
    pub(super) created: SystemTime,
    pub(super) used_fallback: bool,
}

/// How a call stands.
#[derive(Debug, Clone)]
pub(super) struct Standing {
    is_flying: bool,
    outcome: Outcome,
    /// What a status said while the call was flying.
    proof: Option<Receipt>,
    /// Since when.
    since: SystemTime,
}

impl Standing {
    pub(super) fn flying(since: SystemTime) -> Self {
        Self { is_flying: true, outcome: Outcome::Sending, proof: None, since }
    }

    pub(super) fn landed(outcome: Outcome, since: SystemTime) -> Self {
        Self { is_flying: false, outcome, proof: None, since }
    }

    fn is_unknown(&self) -> bool {
        matches!(self.outcome, Outcome::Unknown(_)) && !self.is_flying
    }

    /// What is known after an attempt ended so.
    fn after(&self, landed: Outcome) -> Outcome {
        match (landed, &self.proof, &self.outcome) {
            (landed @ (Outcome::Accepted(_) | Outcome::Answered(_)), _, _) => landed,
            (_, Some(proof), _) => Outcome::Accepted(proof.clone()),
            // The end of a later attempt says nothing of an earlier one.
            (_, None, earlier @ Outcome::Unknown(_)) => earlier.clone(),
            (landed, None, _) => landed,
        }
    }
}

impl Slot {
    pub(super) fn new(tag: SendTag, held: Option<Held>, standing: Standing, resend: Option<Resend>) -> Self {
        let (standing, written) = (watch::Sender::new(standing), tokio::sync::Mutex::new(None));
        Self { tag, held, standing, written, resend: Mutex::new(resend) }
    }

    /// Whether it sends the fallback template of its request.
    pub(in crate::flows) fn used_fallback(&self) -> bool {
        self.held.as_ref().is_some_and(|held| held.used_fallback)
    }

    pub(super) fn stored_as(self, revision: u64, outcome: Outcome) -> Self {
        Self { written: tokio::sync::Mutex::new(Some((revision, outcome))), ..self }
    }

    /// The outcome as far as it is known; nothing while the call is running.
    pub(super) fn outcome(&self) -> Option<Outcome> {
        let standing = self.standing.borrow();
        (!standing.is_flying).then(|| standing.outcome.clone())
    }

    /// What the store should say, and whether the call is running.
    pub(super) fn durable(&self) -> (Outcome, bool) {
        let standing = self.standing.borrow();
        let proven = standing.proof.as_ref().filter(|_| !standing.outcome.is_settled());
        let outcome = proven.map_or_else(|| standing.outcome.clone(), |p| Outcome::Accepted(p.clone()));
        (outcome, standing.is_flying)
    }

    pub(super) fn is_unknown(&self) -> bool {
        self.standing.borrow().is_unknown()
    }

    pub(super) fn may_resend(&self) -> bool {
        let resend = self.resend.lock().unwrap_or_else(PoisonError::into_inner);
        resend.as_ref().is_some_and(|resend| resend.count < RESENDS_MAX)
    }

    /// Waits until the call has ended.
    pub(in crate::flows) async fn landed(&self, deadline: Option<Instant>) -> Result<Outcome, Error> {
        let mut standing = self.standing.subscribe();
        let landed = standing.wait_for(|standing| !standing.is_flying);
        let landed = match deadline {
            Some(deadline) => timeout_at(deadline, landed).await.map_err(|_| Error::InProgress)?,
            None => landed.await,
        };
        // The sender is this slot itself.
        landed.map(|standing| standing.outcome.clone()).map_err(|_| Error::InProgress)
    }

    /// A status proves that Meta accepted the message; true if that was not known.
    pub(super) fn prove(&self, receipt: Receipt) -> bool {
        self.standing.send_if_modified(|standing| {
            if standing.proof.is_some() || matches!(standing.outcome, Outcome::Accepted(_)) {
                return false;
            }
            if !standing.is_flying {
                standing.outcome = Outcome::Accepted(receipt.clone());
            }
            standing.proof = Some(receipt);
            true
        })
    }

    /// Starts another attempt if nothing was heard for that long.
    pub(super) fn take_off_again(&self, now: SystemTime, silence: Duration) -> bool {
        self.standing.send_if_modified(|standing| {
            let is_due = standing.is_unknown() && now >= standing.since + silence;
            standing.is_flying |= is_due;
            is_due
        })
    }

    fn land(&self, outcome: Outcome, now: SystemTime) {
        self.standing.send_modify(|standing| {
            standing.outcome = standing.after(outcome);
            standing.is_flying = false;
            standing.since = now;
        });
    }

    fn is_proven(&self) -> bool {
        self.standing.borrow().proof.is_some()
    }
}

/// The right, and the duty, to say what became of a call. Lost with its task, the call ends all the same.
#[derive(Debug)]
pub(in crate::flows) struct Flight {
    unsettled: Unsettled,
    slot: Arc<Slot>,
    if_lost: Option<Outcome>,
}

impl Flight {
    pub(super) fn new(unsettled: Unsettled, slot: Arc<Slot>, if_lost: Outcome) -> Self {
        Self { unsettled, slot, if_lost: Some(if_lost) }
    }

    pub(super) async fn claimed(&self, revision: u64) {
        *self.slot.written.lock().await = Some((revision, Outcome::Sending));
    }

    /// The call.
    pub(in crate::flows) fn slot(&self) -> Arc<Slot> {
        Arc::clone(&self.slot)
    }

    /// Ends the call: whoever waits has the outcome at once, the store a moment later.
    pub(in crate::flows) async fn land(mut self, outcome: Outcome) {
        self.if_lost = None;
        let inner = &self.unsettled.inner;
        self.slot.land(outcome, inner.clock.now());
        inner.record_in_time(&self.slot).await;
    }

    /// What goes out again, if anything may.
    pub(in crate::flows) fn message_to_resend(&self) -> Option<PreparedMessage> {
        let resend = self.slot.resend.lock().unwrap_or_else(PoisonError::into_inner);
        resend.as_ref().map(|resend| resend.message.clone())
    }

    /// Counts another attempt, durably; returns what to send, or nothing if a status came in the meantime.
    pub(in crate::flows) async fn count_resend(&self) -> Result<Option<PreparedMessage>, StateError> {
        let resend = self.slot.resend.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let (Some(held), Some(mut resend)) = (&self.slot.held, resend) else { return Ok(None) };
        resend.count += 1;
        let message = resend.message.clone();
        let pending = PendingSend { request: held.key, created: held.created, resend: Some(resend) };
        self.unsettled.inner.store.note(&self.slot.tag, &pending).await?;
        *self.slot.resend.lock().unwrap_or_else(PoisonError::into_inner) = pending.resend;
        Ok((!self.slot.is_proven()).then_some(message))
    }

    /// The attempt that was counted certainly did not go out.
    pub(in crate::flows) fn uncount_resend(&self) {
        if let Some(resend) = &mut *self.slot.resend.lock().unwrap_or_else(PoisonError::into_inner) {
            resend.count = resend.count.saturating_sub(1);
        }
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        let Some(outcome) = self.if_lost.take() else { return };
        let inner = Arc::clone(&self.unsettled.inner);
        self.slot.land(outcome, inner.clock.now());
        // Without a claim there is nothing to write.
        if self.slot.written.try_lock().is_ok_and(|written| written.is_none()) {
            return inner.remove(&self.slot);
        }
        let slot = Arc::clone(&self.slot);
        let shutdown = inner.shutdown.clone();
        drop(shutdown.spawn_request(async move { inner.record_in_time(&slot).await }));
    }
}
