//! What must survive the process: progress and parked events.

use metrics::counter;
use tracing::warn;

use crate::domain::subscription::{Cause, Parking, Progress, Unsaved};
use crate::storage::event_log::ReadError;
use crate::storage::keyed_state::StateError;
use crate::storage::subscriptions::ParkedHead;
use crate::telemetry::names;

use super::active::{Active, Kept, Written, candidate};

impl Active {
    /// Stores all changes so far. Others that wait for the same find it done.
    pub(super) async fn persist(&self) -> Result<(), StateError> {
        self.persist_by(&mut *self.writing.lock().await).await
    }

    /// As [`Active::persist`], for who writes more.
    pub(super) async fn persist_by(&self, written: &mut Written) -> Result<(), StateError> {
        let unsaved = self.machine().unsaved(written.change);
        match unsaved {
            Some(unsaved) if !self.deleted.is_cancelled() => self.write(written, unsaved).await,
            _ => Ok(()),
        }
    }

    /// As [`Active::persist`], and how far it has come past what nobody wants.
    pub(super) async fn persist_position(&self) -> Result<(), StateError> {
        let mut written = self.writing.lock().await;
        // Of one moment: progress past what is to be parked may only be stored after that.
        let (unsaved, progress) = {
            let machine = self.machine();
            (machine.unsaved(written.change), machine.progress())
        };
        match unsaved {
            _ if self.deleted.is_cancelled() => Ok(()),
            Some(unsaved) => self.write(&mut written, unsaved).await,
            None if progress == written.progress => Ok(()),
            None => self.write_progress(&mut written, progress).await,
        }
    }

    async fn write(&self, written: &mut Written, unsaved: Unsaved) -> Result<(), StateError> {
        let Unsaved { change, parkings, progress, unparked } = unsaved;
        for parking in parkings {
            self.park(parking).await?;
        }
        self.write_progress(written, progress).await?;
        self.store.unpark(self.id, &unparked).await?;
        {
            let mut heads = self.heads();
            for seq in &unparked {
                heads.remove(seq);
            }
        }
        written.change = change;
        self.machine().saved(change);
        Ok(())
    }

    async fn write_progress(&self, written: &mut Written, progress: Progress) -> Result<(), StateError> {
        let stored = self.store.put_progress(self.id, &progress, Some(written.revision)).await;
        if matches!(stored, Err(StateError::Conflict { .. }))
            && let Some((known, revision)) = self.store.progress(self.id).await?
        {
            // The answer to an earlier write was lost: the next one follows it.
            written.revision = revision;
            written.progress = known;
        }
        written.revision = stored?;
        written.progress = progress;
        Ok(())
    }

    async fn park(&self, parking: Parking) -> Result<(), StateError> {
        let Parking { place, attempts, cause, reason } = parking;
        let (id, park_ms) = (self.id, self.clock.now_ms());
        let word = if cause == Cause::Worker { "worker" } else { "attempts" };
        if place.is_parked {
            let head = self.heads().get(&place.seq).cloned();
            let Some(head) = head else { return Ok(()) };
            let head = ParkedHead { attempts, cause, reason, park_ms, is_replaying: false, ..head };
            self.store.put_heads(id, std::slice::from_ref(&head)).await?;
            self.heads().insert(place.seq, head);
        } else {
            let event = match self.event(place).await {
                Ok(event) => event,
                Err(ReadError::Trimmed { .. }) => None,
                Err(error @ (ReadError::Closed | ReadError::Failed(_))) => {
                    return Err(StateError::Unreadable(error.to_string()));
                }
            };
            let Some(event) = event else {
                self.machine().lose_parked();
                counter!(names::SUBSCRIPTION_MISSED).increment(1);
                warn!("retention removed an event before it could be parked");
                return Ok(());
            };
            let (candidate, event_id) = (candidate(&event), event.id);
            // It may be parked already, after a seek or a crash.
            let before = self.heads().get(&place.seq).cloned();
            let is_replaying = before.as_ref().is_some_and(|before| before.is_replaying);
            let head = ParkedHead { candidate, event_id, attempts, cause, reason, park_ms, is_replaying };
            self.store.park(id, &[(head.clone(), event)]).await?;
            self.heads().insert(place.seq, head);
            if before.is_some() {
                self.machine().was_parked();
            }
        }
        counter!(names::SUBSCRIPTION_PARKINGS, names::REASON => word).increment(1);
        Ok(())
    }

    /// Goes on after this position.
    pub(super) async fn seek(&self, through: u64) -> Result<(), StateError> {
        {
            let _one = self.looking.lock().await;
            self.machine().seek(through);
            *self.kept() = Kept::default();
        }
        self.tell();
        self.persist().await
    }

    /// Leaves out what retention has removed; how many events those were.
    pub(super) async fn skip(&self, earliest: u64) -> Result<u64, StateError> {
        let missing = {
            let _one = self.looking.lock().await;
            let mut machine = self.machine();
            if machine.has_before(earliest) { machine.skip(earliest) } else { 0 }
        };
        if missing > 0 {
            counter!(names::SUBSCRIPTION_MISSED).increment(missing);
            warn!(missing, "retention removed events that a subscription had not done");
        }
        self.tell();
        self.persist().await.map(|()| missing)
    }
}
