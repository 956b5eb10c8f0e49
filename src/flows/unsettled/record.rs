//! What the store is to say of calls, and when a slot may go.

use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::SystemTime;

use metrics::gauge;
use tracing::{error, warn};

use super::parked::Parked;
use super::slot::{Held, Slot};
use super::{Inner, Unsettled};
use crate::domain::event::StatusReport;
use crate::domain::ids::MessageId;
use crate::domain::map::FastMap;
use crate::domain::message::{MessageAcceptance, Receipt, SendTag};
use crate::storage::keyed_state::StateError;
use crate::telemetry::names;

impl Unsettled {
    /// Takes note of a status that was received then. What it proves is durable after [`Unsettled::record_behind`], not before.
    pub fn note(&self, report: &StatusReport, received: SystemTime) {
        self.inner.lateness().note(report.time, received, self.inner.clock.now());
        let Some(tag) = &report.send_tag else { return };
        let Ok(message_id) = MessageId::parse(&report.message_id) else { return };
        let acceptance = MessageAcceptance::Accepted;
        let receipt = Receipt { message_id, acceptance, recipient: None, accept_time: report.time };
        match self.inner.slot(tag) {
            Some(slot) => self.inner.prove(slot, receipt),
            None if self.inner.parked().is_empty() => {}
            None => drop(self.inner.strays().entry(tag.clone()).or_insert(receipt)),
        }
    }

    /// Writes every outcome that the store does not have yet.
    pub async fn record_behind(&self) -> Result<(), StateError> {
        // One at a time: what another one has taken to write is not written yet.
        let _writing = self.inner.writing.lock().await;
        self.inner.prove_strays().await?;
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
            warn!(%error, "outcomes of calls cannot be stored");
        }
        let now = self.inner.clock.now();
        let is_forgotten = |created, not_after| now >= self.inner.store.forgotten_at(created, not_after);
        let (mut unknown, mut resends) = (0_u64, 0);
        self.inner.slots().retain(|_, slot| {
            let is_unknown = slot.is_unknown();
            unknown += u64::from(is_unknown);
            resends += usize::from(is_unknown && slot.may_resend());
            let is_old = slot.held.as_ref().is_some_and(|held| is_forgotten(held.created, held.not_after));
            !(is_old && slot.outcome().is_some())
        });
        self.inner.resends.store(resends, Ordering::Relaxed);
        // Queued ones are counted by the end of their time.
        self.inner.parked().forget(|until| is_forgotten(until, None));
        unknown += self.inner.parked().count();
        #[expect(clippy::cast_precision_loss, reason = "a count for people")]
        gauge!(names::SENDS_UNKNOWN).set(unknown as f64);
    }
}

impl Inner {
    fn prove(&self, slot: Arc<Slot>, receipt: Receipt) {
        slot.prove(receipt);
        if let Some(Held { key, .. }) = &slot.held {
            self.news.tell(&[*key]);
            // Also if it was accepted before: then its record may still be under way.
            self.behind().push(slot);
        }
    }

    /// Finds the sends without a slot that statuses have proven.
    async fn prove_strays(&self) -> Result<(), StateError> {
        let mut strays: FastMap<SendTag, Receipt> = std::mem::take(&mut *self.strays());
        if strays.is_empty() {
            return Ok(());
        }
        let tags: Vec<SendTag> = strays.keys().cloned().collect();
        let open = match self.store.open_among(&tags).await {
            Ok(open) => open,
            Err(error) => {
                self.strays().extend(strays);
                return Err(error);
            }
        };
        for (pending, stored) in open {
            let Some(receipt) = strays.remove(&stored.record.tag) else { continue };
            let slot = self.slot(&stored.record.tag);
            let slot = slot.unwrap_or_else(|| Arc::new(Slot::parked(pending.request, stored)));
            self.prove(slot, receipt);
        }
        Ok(())
    }

    /// Makes the store say what the slot says. A settled slot leaves, and one in doubt if there are too many.
    pub(super) async fn record(&self, slot: &Arc<Slot>) -> Result<(), StateError> {
        let mut written = slot.written.lock().await;
        let (Some(held), Some((revision, stored))) = (&slot.held, written.as_mut()) else {
            self.remove(slot);
            return Ok(());
        };
        let (outcome, is_flying) = slot.durable();
        let mut is_pending = held.is_pending;
        if *stored != outcome {
            let record = slot.record(held, outcome.clone());
            let is_last = is_pending && outcome.is_settled() && !is_flying && !slot.owes_report();
            let settled = if is_last {
                self.store.settle_and_forget(&held.key, &record, *revision).await
            } else {
                self.store.settle(&held.key, &record, *revision).await
            };
            match settled {
                Ok(next) => {
                    (*revision, *stored) = (next, outcome.clone());
                    is_pending &= !is_last;
                }
                // Its time is over, or, as it had certainly sent nothing, somebody claimed it again.
                Err(StateError::Conflict { .. }) => {}
                // The slot knows it as long as the process lives.
                Err(error @ StateError::TooLarge { .. }) => {
                    error!(%error, "an outcome cannot be stored");
                    return Ok(());
                }
                Err(error) => return Err(error),
            }
        }
        if is_flying || slot.owes_report() {
            return Ok(());
        }
        if !outcome.is_settled() {
            if *stored == outcome && !slot.may_resend() && self.slots().len() > self.slots_max {
                self.park(slot, held);
            }
            return Ok(());
        }
        if is_pending {
            self.store.forget(&slot.tag).await?;
        }
        self.remove(slot);
        if slot.is_parked.swap(false, Ordering::Relaxed) {
            self.parked().remove(held.counted_at());
        }
        Ok(())
    }

    /// Leaves a send in doubt to the store.
    fn park(&self, slot: &Slot, held: &Held) {
        // First, so that a status that does not find the slot any more looks into the store.
        if !slot.is_parked.swap(true, Ordering::Relaxed) {
            self.parked().add(held.counted_at());
        }
        self.remove(slot);
    }

    pub(super) fn remove(&self, slot: &Slot) {
        self.slots().remove(&slot.tag);
    }

    /// As [`Inner::record`]; what cannot be written now is written later.
    pub(super) async fn record_in_time(&self, slot: &Arc<Slot>) {
        if let Err(error) = self.record(slot).await {
            error!(%error, "the outcome of a call cannot be stored yet");
            self.behind().push(Arc::clone(slot));
        }
    }

    pub(super) fn parked(&self) -> MutexGuard<'_, Parked> {
        self.parked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn strays(&self) -> MutexGuard<'_, FastMap<SendTag, Receipt>> {
        self.strays.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
