//! What the writer tells and everybody else reads: tail, first kept position, acceptance, live ring.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::watch;

use crate::storage::event_log::{Acceptance, Bounds, ReadError, ReadLimit, StoredEvent};
use crate::storage::metrics;
use crate::storage::ring::Ring;

/// The published state of the engine. Only the writer changes it.
#[derive(Debug)]
pub(super) struct Shared {
    epoch: [u8; 8],
    tail: watch::Sender<u64>,
    earliest: AtomicU64,
    acceptance: watch::Sender<Acceptance>,
    ring: Arc<Ring>,
}

impl Shared {
    /// As found on disk.
    pub(super) fn new(epoch: [u8; 8], bounds: Bounds, ring: Arc<Ring>) -> Self {
        Self {
            epoch,
            tail: watch::Sender::new(bounds.tail),
            earliest: AtomicU64::new(bounds.earliest),
            acceptance: watch::Sender::new(Acceptance::Accepting),
            ring,
        }
    }

    pub(super) fn epoch(&self) -> [u8; 8] {
        self.epoch
    }

    pub(super) fn bounds(&self) -> Bounds {
        Bounds { earliest: self.earliest.load(Ordering::Acquire), tail: *self.tail.borrow() }
    }

    pub(super) fn watch_tail(&self) -> watch::Receiver<u64> {
        self.tail.subscribe()
    }

    pub(super) fn acceptance(&self) -> Acceptance {
        *self.acceptance.borrow()
    }

    pub(super) fn watch_acceptance(&self) -> watch::Receiver<Acceptance> {
        self.acceptance.subscribe()
    }

    /// Announces whether writes are taken; true if that is news.
    pub(super) fn accept(&self, acceptance: Acceptance) -> bool {
        self.acceptance.send_if_modified(|current| std::mem::replace(current, acceptance) != acceptance)
    }

    /// Makes committed events readable, then announces them: the tail is never ahead of what can be read.
    pub(super) fn publish(&self, events: &[Arc<StoredEvent>]) {
        if let Some(newest) = events.last() {
            self.ring.push(events);
            self.tail.send_replace(newest.seq);
        }
    }

    /// Announces that everything up to `seq` is gone.
    pub(super) fn trimmed_through(&self, seq: u64) {
        self.earliest.fetch_max(seq.saturating_add(1), Ordering::AcqRel);
        self.ring.drop_through(seq);
    }

    /// Announces that everything up to `seq` is gone although it was never read, and that the log goes on behind it.
    pub(super) fn skip_through(&self, seq: u64) {
        self.trimmed_through(seq);
        self.tail.send_if_modified(|tail| std::mem::replace(tail, seq.max(*tail)) < seq);
    }

    /// Records where log and ring begin and end.
    pub(super) fn measure(&self) {
        let (earliest, bytes) = self.ring.extent();
        metrics::positions(self.bounds(), earliest, bytes);
    }

    /// The events after `after`, if that can be said without the disk.
    pub(super) fn read(
        &self,
        after: u64,
        limit: ReadLimit,
    ) -> Result<Option<Vec<Arc<StoredEvent>>>, ReadError> {
        let Bounds { earliest, tail } = self.bounds();
        if after.saturating_add(1) < earliest {
            return Err(ReadError::Trimmed { earliest });
        }
        if after >= tail {
            return Ok(Some(Vec::new()));
        }
        Ok(self.ring.read(after, limit))
    }
}
