//! The flight of a call, which must land.

use std::sync::{Arc, MutexGuard, PoisonError};

use super::Unsettled;
use super::slot::Slot;
use crate::domain::message::PreparedMessage;
use crate::storage::keyed_state::StateError;
use crate::storage::sends::{Outcome, Resend};

/// How a call ends that is cut off. Most are not, so it is made when it is needed.
pub(super) type Ending = fn() -> Outcome;

/// The right, and the duty, to say what became of a call. Lost with its task, the call ends all the same.
#[derive(Debug)]
pub(in crate::flows) struct Flight {
    unsettled: Unsettled,
    slot: Arc<Slot>,
    if_lost: Option<Ending>,
}

impl Flight {
    pub(super) fn new(unsettled: Unsettled, slot: Arc<Slot>, if_lost: Ending) -> Self {
        Self { unsettled, slot, if_lost: Some(if_lost) }
    }

    /// The claim is durable. From here on it ends so if it is lost, where that is another end than before.
    pub(super) async fn claimed(&mut self, revision: u64, if_lost: Option<Ending>) {
        *self.slot.written.lock().await = Some((revision, Outcome::Sending));
        self.if_lost = if_lost.or(self.if_lost.take());
    }

    /// Gives a queued send back to the queue, durably, after an attempt with which certainly nothing went out. False if a
    /// status proves otherwise: then it must land. After an error it may be tried again.
    pub(in crate::flows) async fn requeue(&mut self) -> Result<bool, StateError> {
        let inner = &self.unsettled.inner;
        let now = inner.clock.now();
        if !self.slot.withdraw(now) {
            return Ok(false);
        }
        inner.record(&self.slot).await?;
        if self.slot.is_proven() {
            return Ok(false);
        }
        self.if_lost = None;
        self.slot.land(Outcome::Queued, now);
        inner.remove(&self.slot);
        self.tell();
        Ok(true)
    }

    /// Takes a flight back that has not begun.
    pub(super) fn cancel(mut self) {
        self.if_lost = None;
        self.unsettled.inner.remove(&self.slot);
    }

    /// The call.
    pub(in crate::flows) fn slot(&self) -> Arc<Slot> {
        Arc::clone(&self.slot)
    }

    /// Ends the call: whoever waits has the outcome at once, the store a moment later.
    pub(in crate::flows) async fn land(mut self, outcome: Outcome) {
        self.if_lost = None;
        let inner = &self.unsettled.inner;
        // Before anybody can know the message id.
        if let (Outcome::Accepted(receipt), Some(number)) = (&outcome, &self.slot.phone_number_id) {
            let name = (number.as_str().to_owned(), receipt.message_id.as_str().to_owned());
            inner.recent().put(name, self.slot.tag.clone(), receipt.clone());
        }
        self.slot.land(outcome, inner.clock.now());
        self.tell();
        inner.record_in_time(&self.slot).await;
    }

    /// As [`Flight::land`], also if its caller leaves in the meantime.
    pub(in crate::flows) async fn land_for_good(self, outcome: Outcome) {
        let shutdown = self.unsettled.inner.shutdown.clone();
        let _landed = shutdown.keep(self.land(outcome)).await;
    }

    /// Whoever watches the request hears that it is another one now.
    pub(super) fn tell(&self) {
        if let Some(held) = &self.slot.held {
            self.unsettled.inner.news.tell(&[held.key]);
        }
    }

    /// What goes out again, if anything may.
    pub(in crate::flows) async fn message_to_resend(&self) -> Result<Option<PreparedMessage>, StateError> {
        let pending = self.unsettled.inner.store.pending(&self.slot.tag).await?;
        Ok(pending.and_then(|pending| pending.resend).map(|resend| resend.message))
    }

    /// Counts another attempt, durably; returns what to send, or nothing if a status came in the meantime.
    pub(in crate::flows) async fn count_resend(&self) -> Result<Option<PreparedMessage>, StateError> {
        let store = &self.unsettled.inner.store;
        let Some(mut pending) = store.pending(&self.slot.tag).await? else { return Ok(None) };
        let Some(resend) = pending.resend.as_mut() else { return Ok(None) };
        let Some(count) = *self.resends() else { return Ok(None) };
        resend.count = count + 1;
        let Resend { message, count } = resend.clone();
        store.note(&self.slot.tag, &pending).await?;
        *self.resends() = Some(count);
        Ok((!self.slot.is_proven()).then_some(message))
    }

    /// The attempt that was counted certainly did not go out.
    pub(in crate::flows) fn uncount_resend(&self) {
        if let Some(count) = &mut *self.resends() {
            *count = count.saturating_sub(1);
        }
    }

    fn resends(&self) -> MutexGuard<'_, Option<u32>> {
        self.slot.resends.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        let Some(outcome) = self.if_lost.take() else { return };
        let inner = Arc::clone(&self.unsettled.inner);
        self.slot.land(outcome(), inner.clock.now());
        self.tell();
        // Without a claim there is nothing to write.
        if self.slot.written.try_lock().is_ok_and(|written| written.is_none()) {
            return inner.remove(&self.slot);
        }
        let slot = Arc::clone(&self.slot);
        let shutdown = inner.shutdown.clone();
        drop(shutdown.spawn_request(async move { inner.record_in_time(&slot).await }));
    }
}
