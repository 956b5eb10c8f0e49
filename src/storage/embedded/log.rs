//! The event log port on SQLite.

use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::watch;

use super::queue::{Patience, Weight};
use super::{DEDUPE_AGE_MIN, Embedded, events};
use crate::storage::event_log::{
    Acceptance, AppendError, Appended, Bounds, EventLog, Item, ReadError, ReadLimit, StoredEvent,
};

/// Events that one read returns at most.
const READ_EVENTS_MAX: usize = 4_096;

/// Bytes that one read returns at most, but for a single larger event.
const READ_BYTES_MAX: usize = 8 * 1024 * 1024;

#[async_trait]
impl EventLog for Embedded {
    async fn append(&self, items: Vec<Item>) -> Result<Vec<Appended>, AppendError> {
        if items.is_empty() {
            return Ok(Vec::new());
        }
        let bytes = items.iter().map(Item::size_bytes).sum();
        let weight = Weight { events: items.len(), bytes, grows: true };
        let appended = self.queue.submit(weight, Patience::Bounded, |batch| events::append(batch, items));
        Ok(appended.await?)
    }

    async fn read(&self, after: u64, limit: ReadLimit) -> Result<Vec<Arc<StoredEvent>>, ReadError> {
        let events = limit.events.clamp(1, READ_EVENTS_MAX);
        let limit = ReadLimit { events, bytes: limit.bytes.min(READ_BYTES_MAX) };
        if let Some(page) = self.shared.read(after, limit)? {
            return Ok(page);
        }
        self.readers.run(move |connection| events::page(connection, after, limit)).await
    }

    async fn seek_time(&self, unix_ms: u64) -> Result<u64, ReadError> {
        // Read before the search: an event appended in between is then behind the answer, not skipped by it.
        let tail = self.shared.bounds().tail;
        let found = self.readers.run(move |connection| events::seek_time(connection, unix_ms)).await?;
        Ok(found.unwrap_or(tail))
    }

    fn watch_tail(&self) -> watch::Receiver<u64> {
        self.shared.watch_tail()
    }

    async fn bounds(&self) -> Result<Bounds, ReadError> {
        Ok(self.shared.bounds())
    }

    async fn trim(&self, appended_before_ms: u64) -> Result<u64, AppendError> {
        let dedupe_age_ms = u64::try_from(DEDUPE_AGE_MIN.as_millis()).unwrap_or(u64::MAX);
        let ids_before_ms = appended_before_ms.min(self.clock.now_ms().saturating_sub(dedupe_age_ms));
        let mut trimmed = 0;
        loop {
            // One chunk per trip through the queue, so that appends get their turn.
            let chunk = self.queue.submit(Weight::SHRINKING, Patience::Settle, move |batch| {
                events::trim(batch, appended_before_ms, ids_before_ms)
            });
            let chunk = chunk.await?;
            trimmed += chunk.events;
            if !chunk.goes_on {
                return Ok(trimmed);
            }
        }
    }

    fn epoch(&self) -> [u8; 8] {
        self.shared.epoch()
    }

    fn watch_acceptance(&self) -> watch::Receiver<Acceptance> {
        self.shared.watch_acceptance()
    }
}
