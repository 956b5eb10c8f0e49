//! What must survive the process: progress and parked events.

use std::pin::pin;
use std::sync::Arc;

use futures_util::stream::{self, StreamExt as _};
use metrics::counter;
use tracing::warn;

use crate::domain::subscription::{Cause, Parking, Progress, Unsaved};
use crate::storage::event_log::{ReadError, StoredEvent};
use crate::storage::keyed_state::StateError;
use crate::storage::subscriptions::{PARKED_AT_ONCE, PARKED_BYTES_AT_ONCE, ParkedHead};
use crate::telemetry::names;

use super::active::{Active, Kept, Written, candidate};

/// Events that are read at a time to be parked.
const READS: usize = 8;

/// Parkings that are stored by one write.
#[derive(Default)]
struct Batch {
    parkings: usize,
    copies: Vec<(ParkedHead, Arc<StoredEvent>)>,
    bytes: usize,
    /// Of events that were parked before.
    heads: Vec<ParkedHead>,
    /// Events that retention removed.
    missed: u64,
}

/// What is to be stored of a parking.
enum Loaded {
    Copy(ParkedHead, Arc<StoredEvent>),
    Head(ParkedHead),
    Missed,
    /// It was dropped.
    Nothing,
}

impl Batch {
    fn add(&mut self, loaded: Loaded) {
        self.parkings += 1;
        match loaded {
            Loaded::Copy(head, event) => {
                self.bytes += event.size_bytes();
                self.copies.push((head, event));
            }
            Loaded::Head(head) => self.heads.push(head),
            Loaded::Missed => self.missed += 1,
            Loaded::Nothing => {}
        }
    }

    fn is_full(&self) -> bool {
        self.parkings >= PARKED_AT_ONCE || self.bytes >= PARKED_BYTES_AT_ONCE
    }
}

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
        self.park(parkings).await?;
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

    /// Parks events, as many at a time as one write takes. What is stored is not stored again if a later write fails.
    async fn park(&self, parkings: Vec<Parking>) -> Result<(), StateError> {
        let mut loading =
            pin!(stream::iter(parkings).map(|parking| self.load_parking(parking)).buffered(READS));
        let mut batch = Batch::default();
        while let Some(loaded) = loading.next().await {
            batch.add(loaded?);
            if batch.is_full() {
                self.store_parked(std::mem::take(&mut batch)).await?;
            }
        }
        self.store_parked(batch).await
    }

    async fn load_parking(&self, parking: Parking) -> Result<Loaded, StateError> {
        let Parking { place, attempts, cause, reason } = parking;
        let (before, park_ms) = (self.heads().get(&place.seq).cloned(), self.clock.now_ms());
        if place.is_parked {
            let head =
                |before| ParkedHead { attempts, cause, reason, park_ms, is_replaying: false, ..before };
            return Ok(before.map_or(Loaded::Nothing, |before| Loaded::Head(head(before))));
        }
        let event = match self.event(place, &mut Vec::new()).await {
            Ok(event) => event,
            Err(ReadError::Trimmed { .. }) => None,
            Err(error @ (ReadError::Closed | ReadError::Failed(_))) => {
                return Err(StateError::Unreadable(error.to_string()));
            }
        };
        let Some(event) = event else { return Ok(Loaded::Missed) };
        let (candidate, event_id) = (candidate(&event), event.id);
        let is_replaying = before.is_some_and(|before| before.is_replaying);
        let head = ParkedHead { candidate, event_id, attempts, cause, reason, park_ms, is_replaying };
        Ok(Loaded::Copy(head, event))
    }

    async fn store_parked(&self, batch: Batch) -> Result<(), StateError> {
        let Batch { parkings, copies, heads, missed, .. } = batch;
        self.store.park(self.id, &copies).await?;
        self.store.put_heads(self.id, &heads).await?;
        let (mut machine, mut known) = (self.machine(), self.heads());
        machine.stored_parkings(parkings);
        let copied = copies.into_iter().map(|(head, _)| (head, true));
        for (head, is_copy) in copied.chain(heads.into_iter().map(|head| (head, false))) {
            let word = if head.cause == Cause::Worker { "worker" } else { "attempts" };
            counter!(names::SUBSCRIPTION_PARKINGS, names::REASON => word).increment(1);
            // It may have been parked already, before a seek or a crash.
            if known.insert(head.candidate.seq, head).is_some() && is_copy {
                machine.was_parked();
            }
        }
        if missed > 0 {
            (0..missed).for_each(|_| machine.lose_parked());
            counter!(names::SUBSCRIPTION_MISSED).increment(missed);
            warn!(missed, "retention removed events before they could be parked");
        }
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
            *self.kept() = Kept::default();
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
