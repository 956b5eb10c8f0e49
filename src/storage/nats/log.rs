//! The event log port on JetStream.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::watch;
use tokio::time::timeout;

use super::queue::{BATCH_RECORDS, Patience, Weight};
use super::records::{Meta, decode_event};
use super::wire::{Fault, OVERHEAD_BYTES, Stored};
use super::{Context, Nats, log_writer, streams};
use crate::domain::cursor::ENGINE_NATS;
use crate::storage::event_log::{
    Acceptance, AppendError, Appended, Bounds, EventLog, Item, ReadError, ReadLimit, Refusal, StoredEvent,
};
use crate::storage::keyed_state::{KeyedState as _, Precondition, StateError};
use crate::storage::metrics;

/// Events that one read returns at most.
const READ_EVENTS_MAX: usize = 4_096;
/// Bytes that one read returns at most, but for a single larger event.
const READ_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Events that a replica may not have seen yet when it appends.
const DISORDER_MAX: u64 = (log_writer::AT_ONCE * BATCH_RECORDS) as u64;
/// How long it may take to learn where the events end, and to read up to there.
const CATCH_UP_MAX: Duration = Duration::from_secs(2);
/// How long an id is remembered at least, whatever the retention: Meta repeats a webhook for 7 days.
const DEDUPE_AGE_MIN_MS: u64 = 8 * 24 * 3600 * 1000;

#[async_trait]
impl EventLog for Nats {
    async fn append(&self, mut items: Vec<Item>) -> Result<Vec<Appended>, AppendError> {
        let (bytes_max, bytes) = (self.payload_max(), items.iter().map(Item::size_bytes).max());
        if let Some(bytes) = bytes.filter(|bytes| *bytes > bytes_max) {
            return Err(AppendError::TooLarge { bytes, bytes_max });
        }
        let mut appended = Vec::with_capacity(items.len());
        // The server takes a limited batch: a larger call is several, and after an error the first may be durable.
        while !items.is_empty() {
            let rest = items.split_off(items.len().min(BATCH_RECORDS));
            let weight = Weight { records: items.len(), bytes: items.iter().map(Item::size_bytes).sum() };
            match self.log.submit(items, weight, Patience::Bounded).await {
                Ok(part) => appended.extend(part),
                Err(AppendError::Refused(_)) if !appended.is_empty() => return Err(AppendError::Busy),
                Err(error) => return Err(error),
            }
            items = rest;
        }
        Ok(appended)
    }

    async fn read(&self, after: u64, limit: ReadLimit) -> Result<Vec<Arc<StoredEvent>>, ReadError> {
        self.check_open()?;
        let events = limit.events.clamp(1, READ_EVENTS_MAX);
        let limit = ReadLimit { events, bytes: limit.bytes.min(READ_BYTES_MAX) };
        if let Some(page) = self.context.shared.read(after, limit)? {
            return Ok(page);
        }
        let _permit = self.reads.acquire().await.map_err(|_| ReadError::Closed)?;
        let (wire, stream) = (&self.context.wire, &self.context.names.events);
        // The server counts subjects and headers too.
        let bytes = limit.bytes + events * OVERHEAD_BYTES;
        let mut stored = wire.page(stream, after + 1, events, bytes).await?;
        if stored.first().is_none_or(|first| first.seq != after + 1) {
            // The nearest server may be behind; the leader is not.
            stored = Vec::from_iter(wire.exact(stream, after + 1).await?);
        }
        if stored.is_empty() {
            return Err(self.missing(after + 1).await);
        }
        self.events(stored, after, limit)
    }

    async fn seek_time(&self, unix_ms: u64) -> Result<u64, ReadError> {
        self.check_open()?;
        // Read before the search: an event appended in between is then behind the answer, not skipped by it.
        let Bounds { earliest, tail } = self.context.shared.bounds();
        let floor = earliest.saturating_sub(1);
        let found = self.seek(unix_ms, (floor, tail)).await?;
        self.before_disorder(unix_ms, (floor, found)).await
    }

    fn watch_tail(&self) -> watch::Receiver<u64> {
        self.context.shared.watch_tail()
    }

    async fn bounds(&self) -> Result<Bounds, ReadError> {
        Ok(self.context.shared.bounds())
    }

    async fn catch_up(&self) -> Result<(), ReadError> {
        self.check_open()?;
        let Context { wire, names, tail, shared, .. } = &*self.context;
        let before = shared.bounds().tail;
        let caught_up = async {
            let end = match streams::info(wire, &names.events).await? {
                Some(info) if info.epoch() == Some(shared.epoch()) => info.state.last_seq,
                _ => return Err(ReadError::Failed(format!("the stream {} is not there", names.events))),
            };
            // A leader that does not know that it is none any more, or events that are gone: the watchdog says so.
            if end < before {
                return Err(ReadError::Failed(format!("the stream {} does not end at {end}", names.events)));
            }
            tail.want(end);
            // The sender is held by `shared`.
            drop(shared.watch_tail().wait_for(|tail| *tail >= end).await);
            Ok(())
        };
        let late = || Err(ReadError::Failed("NATS did not say in time where the events end".to_owned()));
        timeout(CATCH_UP_MAX, caught_up).await.unwrap_or_else(|_| late())
    }

    async fn trim(&self, appended_before_ms: u64) -> Result<u64, AppendError> {
        let _only = self.trimming.lock().await;
        let shared = &self.context.shared;
        let before = shared.bounds().earliest;
        let through = self.seek_time(appended_before_ms).await.map_err(|error| unsought(&error))?;
        let trimmed = (through + 1).saturating_sub(before);
        if trimmed > 0 {
            self.put(Meta::put_trimmed_through(through), Precondition::None)
                .await
                .map_err(|error| unmarked(&error))?;
            shared.trimmed_through(through);
            shared.measure();
            metrics::trimmed(trimmed);
        }
        // The events are not served any more, but stay as long as their ids have to be known.
        let ids_before_ms =
            appended_before_ms.min(self.context.clock.now_ms().saturating_sub(DEDUPE_AGE_MIN_MS));
        let held_from = self.context.held_from.load(Ordering::Acquire);
        let old = self.seek(ids_before_ms, (held_from.saturating_sub(1), through)).await;
        let keep_from = old.map_err(|error| unsought(&error))? + 1;
        if keep_from > held_from {
            let purged = self.context.wire.purge(&self.context.names.events, keep_from).await;
            purged.map_err(|fault| unsought(&fault.into()))?;
            self.context.held_from.fetch_max(keep_from, Ordering::AcqRel);
        }
        Ok(trimmed)
    }

    fn engine(&self) -> u8 {
        ENGINE_NATS
    }

    fn epoch(&self) -> [u8; 8] {
        self.context.shared.epoch()
    }

    fn watch_acceptance(&self) -> watch::Receiver<Acceptance> {
        self.context.shared.watch_acceptance()
    }
}

impl Nats {
    fn check_open(&self) -> Result<(), ReadError> {
        match self.context.shared.acceptance() {
            Acceptance::Refusing(Refusal::Closed) => Err(ReadError::Closed),
            Acceptance::Refusing(_) | Acceptance::Accepting => Ok(()),
        }
    }

    /// The events of messages that follow `after`, up to the limits.
    fn events(
        &self,
        stored: Vec<Stored>,
        after: u64,
        limit: ReadLimit,
    ) -> Result<Vec<Arc<StoredEvent>>, ReadError> {
        let tail = self.context.shared.bounds().tail;
        let mut page = Vec::with_capacity(stored.len());
        let mut bytes = 0;
        for (Stored { seq, payload }, expected) in stored.into_iter().zip(after + 1..) {
            // What is not announced yet is not read yet, so that the tail never falls behind.
            if seq != expected || seq > tail {
                break;
            }
            let (_, event) = decode_event(seq, payload).ok_or_else(|| damaged(seq))?;
            bytes += event.size_bytes();
            if bytes > limit.bytes && !page.is_empty() {
                break;
            }
            page.push(Arc::new(event));
        }
        Ok(page)
    }

    /// Why there is no event at `seq`: a trim was faster than the reader, or somebody has deleted it.
    async fn missing(&self, seq: u64) -> ReadError {
        let shared = &self.context.shared;
        match streams::info(&self.context.wire, &self.context.names.events).await {
            Ok(Some(info)) if info.state.first_seq > seq => {
                shared.trimmed_through(info.state.first_seq - 1);
                ReadError::Trimmed { earliest: info.state.first_seq }
            }
            Ok(_) if shared.bounds().earliest > seq => {
                ReadError::Trimmed { earliest: shared.bounds().earliest }
            }
            Ok(_) => damaged(seq),
            Err(fault) => fault.into(),
        }
    }

    /// When the event at `seq` was appended; `None` if it is not there any more.
    async fn append_ms(&self, seq: u64) -> Result<Option<u64>, ReadError> {
        let (wire, stream) = (&self.context.wire, &self.context.names.events);
        let stored = match wire.nearest(stream, seq).await? {
            Some(stored) => Some(stored),
            None => wire.exact(stream, seq).await?,
        };
        let Some(stored) = stored else { return Ok(None) };
        let (_, event) = decode_event(seq, stored.payload).ok_or_else(|| damaged(seq))?;
        Ok(Some(event.append_ms))
    }

    /// As [`EventLog::seek_time`] but for disorder, between two positions: what is up to the first is older, what is behind the
    /// second is not.
    async fn seek(&self, unix_ms: u64, (mut low, mut high): (u64, u64)) -> Result<u64, ReadError> {
        // Usually nothing is that old.
        if low < high && self.append_ms(low + 1).await?.is_some_and(|append_ms| append_ms >= unix_ms) {
            return Ok(low);
        }
        while low < high {
            let middle = low + (high - low).div_ceil(2);
            match self.append_ms(middle).await? {
                Some(append_ms) if append_ms >= unix_ms => high = middle - 1,
                // One that was purged meanwhile is older than all others.
                Some(_) | None => low = middle,
            }
        }
        Ok(low)
    }

    /// Replicas that append at the same moment do so by their own clocks, so times may go back a little where batches of two meet:
    /// looks whether what stands close before `found` is older too, and returns a position, not before `floor`, of which that is so.
    async fn before_disorder(&self, unix_ms: u64, (floor, mut found): (u64, u64)) -> Result<u64, ReadError> {
        loop {
            let mut at = found.saturating_sub(DISORDER_MAX).max(floor);
            let mut younger = None;
            while at < found && younger.is_none() {
                let events = usize::try_from(found - at).unwrap_or(READ_EVENTS_MAX);
                match self.read(at, ReadLimit { events, bytes: READ_BYTES_MAX }).await {
                    Ok(page) => {
                        younger = page.iter().find(|event| event.append_ms >= unix_ms).map(|event| event.seq);
                        at = page.last().map_or(found, |event| event.seq);
                    }
                    // What was trimmed meanwhile is older.
                    Err(ReadError::Trimmed { earliest }) if earliest > at + 1 => at = earliest - 1,
                    Err(error) => return Err(error),
                }
            }
            match younger {
                Some(seq) => found = seq - 1,
                None => return Ok(found),
            }
        }
    }
}

/// The message is not what was written. Never served, never skipped.
fn damaged(seq: u64) -> ReadError {
    ReadError::Failed(format!("the event at {seq} is missing or damaged on the NATS server"))
}

fn unsought(error: &ReadError) -> AppendError {
    match error {
        ReadError::Closed => AppendError::Refused(Refusal::Closed),
        ReadError::Trimmed { .. } | ReadError::Failed(_) => AppendError::Refused(Refusal::Away),
    }
}

fn unmarked(error: &StateError) -> AppendError {
    match error {
        StateError::Refused(refusal) => AppendError::Refused(*refusal),
        StateError::Failed => AppendError::Failed,
        StateError::TooLarge { bytes, bytes_max } => {
            AppendError::TooLarge { bytes: *bytes, bytes_max: *bytes_max }
        }
        StateError::Busy | StateError::Conflict { .. } | StateError::Unreadable(_) => AppendError::Busy,
    }
}

impl From<Fault> for ReadError {
    fn from(fault: Fault) -> Self {
        Self::Failed(fault.to_string())
    }
}
