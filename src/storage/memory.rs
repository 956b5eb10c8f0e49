//! Both ports in memory, for the tests of other rooms. Same contract, but nothing survives the process.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::watch;

use super::event_log::{
    Acceptance, AppendError, Appended, Bounds, EventId, EventLog, Item, ReadError, ReadLimit, Refusal,
    StoredEvent,
};
use super::keyed_state::{Bucket, Entry, KeyedState, Precondition, Put, StateError};
use crate::clock::SharedClock;

/// How long an id is remembered at least, in milliseconds.
const DEDUPE_AGE_MIN_MS: u64 = 8 * 24 * 3600 * 1000;

/// Bytes that one append may have.
const APPEND_BYTES_MAX: usize = 64 * 1024 * 1024;

/// An event log and a keyed state that forget everything when dropped.
#[derive(Debug)]
pub struct Memory {
    clock: SharedClock,
    kept: Mutex<Kept>,
    tail: watch::Sender<u64>,
    acceptance: watch::Sender<Acceptance>,
}

#[derive(Debug, Default)]
struct Kept {
    events: VecDeque<Arc<StoredEvent>>,
    seen: HashMap<EventId, Seen>,
    tail: u64,
    append_ms: u64,
    /// Where the log seems to end, if not at the tail.
    seeming_tail: Option<u64>,
    entries: BTreeMap<(&'static str, Vec<u8>), Held>,
    revision: u64,
}

#[derive(Debug, Clone, Copy)]
struct Seen {
    seq: u64,
    append_ms: u64,
}

#[derive(Debug)]
struct Held {
    entry: Entry,
    expire_at_ms: Option<u64>,
}

impl Memory {
    /// An empty store.
    pub fn new(clock: SharedClock) -> Arc<Self> {
        let (tail, acceptance) = (watch::Sender::new(0), watch::Sender::new(Acceptance::Accepting));
        Arc::new(Self { clock, kept: Mutex::default(), tail, acceptance })
    }

    /// From now on fails writes as an engine in trouble does.
    pub fn refuse(&self, refusal: Refusal) {
        self.acceptance.send_replace(Acceptance::Refusing(refusal));
    }

    /// From now on takes writes again.
    pub fn accept(&self) {
        self.acceptance.send_replace(Acceptance::Accepting);
    }

    /// From now on shows no further events until it is asked to catch up, as a replica that hears of others late.
    pub fn lag(&self) {
        let mut kept = self.kept();
        kept.seeming_tail = Some(kept.tail);
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn show_tail(&self, kept: &Kept) {
        let newest = kept.seeming_tail.unwrap_or(kept.tail);
        self.tail.send_if_modified(|tail| std::mem::replace(tail, newest) != newest);
    }

    fn check_acceptance(&self, grows: bool) -> Result<(), AppendError> {
        match *self.acceptance.borrow() {
            Acceptance::Refusing(Refusal::Failed) => Err(AppendError::Failed),
            Acceptance::Refusing(refusal) if grows || refusal == Refusal::Closed => {
                Err(AppendError::Refused(refusal))
            }
            Acceptance::Refusing(_) | Acceptance::Accepting => Ok(()),
        }
    }
}

#[async_trait]
impl EventLog for Memory {
    async fn append(&self, items: Vec<Item>) -> Result<Vec<Appended>, AppendError> {
        if items.is_empty() {
            return Ok(Vec::new());
        }
        self.check_acceptance(true)?;
        let bytes = items.iter().map(Item::size_bytes).sum();
        if bytes > APPEND_BYTES_MAX {
            return Err(AppendError::TooLarge { bytes, bytes_max: APPEND_BYTES_MAX });
        }
        let mut kept = self.kept();
        kept.append_ms = kept.append_ms.max(self.clock.now_ms());
        let appended = items.into_iter().map(|item| kept.append(item)).collect();
        // Under the lock, so that the announced tail never falls.
        self.show_tail(&kept);
        Ok(appended)
    }

    async fn read(&self, after: u64, limit: ReadLimit) -> Result<Vec<Arc<StoredEvent>>, ReadError> {
        let kept = self.kept();
        let earliest = kept.earliest();
        if after.saturating_add(1) < earliest {
            return Err(ReadError::Trimmed { earliest });
        }
        let start = kept.events.partition_point(|event| event.seq <= after);
        let end = kept.seeming_tail.map_or(kept.events.len(), |tail| {
            kept.events.partition_point(|event| event.seq <= tail).max(start)
        });
        let mut bytes = 0;
        let page = kept.events.range(start..end).take(limit.events.max(1)).enumerate().take_while(
            |(index, event)| {
                bytes += event.size_bytes();
                *index == 0 || bytes <= limit.bytes
            },
        );
        Ok(page.map(|(_, event)| Arc::clone(event)).collect())
    }

    async fn seek_time(&self, unix_ms: u64) -> Result<u64, ReadError> {
        let kept = self.kept();
        let index = kept.events.partition_point(|event| event.append_ms < unix_ms);
        Ok(kept.events.get(index).map_or(kept.tail, |event| event.seq - 1))
    }

    fn watch_tail(&self) -> watch::Receiver<u64> {
        self.tail.subscribe()
    }

    async fn bounds(&self) -> Result<Bounds, ReadError> {
        let kept = self.kept();
        Ok(Bounds { earliest: kept.earliest(), tail: kept.seeming_tail.unwrap_or(kept.tail) })
    }

    async fn catch_up(&self) -> Result<(), ReadError> {
        if *self.acceptance.borrow() == Acceptance::Refusing(Refusal::Away) {
            return Err(ReadError::Failed(Refusal::Away.to_string()));
        }
        let mut kept = self.kept();
        kept.seeming_tail = None;
        self.show_tail(&kept);
        Ok(())
    }

    async fn trim(&self, appended_before_ms: u64) -> Result<u64, AppendError> {
        self.check_acceptance(false)?;
        let mut kept = self.kept();
        let count = kept.events.partition_point(|event| event.append_ms < appended_before_ms);
        kept.events.drain(..count);
        let ids_before_ms = appended_before_ms.min(self.clock.now_ms().saturating_sub(DEDUPE_AGE_MIN_MS));
        kept.seen.retain(|_, seen| seen.append_ms >= ids_before_ms);
        Ok(count as u64)
    }

    fn epoch(&self) -> [u8; 8] {
        *b"inmemory"
    }

    fn watch_acceptance(&self) -> watch::Receiver<Acceptance> {
        self.acceptance.subscribe()
    }
}

#[async_trait]
impl KeyedState for Memory {
    async fn get(&self, bucket: Bucket, key: &[u8]) -> Result<Option<Entry>, StateError> {
        Ok(self.kept().get(bucket, key, self.clock.now_ms()))
    }

    async fn get_many(&self, bucket: Bucket, keys: &[Bytes]) -> Result<Vec<Option<Entry>>, StateError> {
        let (kept, now_ms) = (self.kept(), self.clock.now_ms());
        Ok(keys.iter().map(|key| kept.get(bucket, key, now_ms)).collect())
    }

    async fn put(&self, put: Put, precondition: Precondition) -> Result<u64, StateError> {
        put.check_size()?;
        self.check_acceptance(put.grows(precondition))?;
        let mut kept = self.kept();
        kept.check(put.bucket, &put.key, precondition, self.clock.now_ms())?;
        Ok(kept.put(put))
    }

    async fn put_all(&self, puts: Vec<Put>) -> Result<(), StateError> {
        if puts.is_empty() {
            return Ok(());
        }
        puts.iter().try_for_each(Put::check_size)?;
        self.check_acceptance(puts.iter().any(|put| put.grows(Precondition::None)))?;
        let mut kept = self.kept();
        for put in puts {
            kept.put(put);
        }
        Ok(())
    }

    async fn delete(
        &self,
        bucket: Bucket,
        key: &[u8],
        precondition: Precondition,
    ) -> Result<bool, StateError> {
        self.check_acceptance(false)?;
        let mut kept = self.kept();
        let current = kept.check(bucket, key, precondition, self.clock.now_ms())?;
        kept.entries.remove(&(bucket.name(), key.to_vec()));
        Ok(current.is_some())
    }

    async fn scan(
        &self,
        bucket: Bucket,
        after_key: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<(Bytes, Entry)>, StateError> {
        let (kept, now_ms) = (self.kept(), self.clock.now_ms());
        let entries = kept.entries.iter().filter(|((of, key), held)| {
            *of == bucket.name()
                && after_key.is_none_or(|after| key.as_slice() > after)
                && held.is_live(now_ms)
        });
        let page = entries.take(limit.max(1));
        Ok(page.map(|((_, key), held)| (Bytes::copy_from_slice(key), held.entry.clone())).collect())
    }

    async fn sweep(&self) -> Result<u64, StateError> {
        self.check_acceptance(false)?;
        let (mut kept, now_ms) = (self.kept(), self.clock.now_ms());
        let before = kept.entries.len();
        kept.entries.retain(|_, held| held.is_live(now_ms));
        Ok((before - kept.entries.len()) as u64)
    }
}

impl Kept {
    fn earliest(&self) -> u64 {
        self.events.front().map_or(self.tail + 1, |event| event.seq)
    }

    fn append(&mut self, item: Item) -> Appended {
        if let Some(seen) = self.seen.get(&item.id) {
            return Appended::Duplicate(seen.seq);
        }
        self.tail += 1;
        self.seen.insert(item.id, Seen { seq: self.tail, append_ms: self.append_ms });
        self.events.push_back(Arc::new(StoredEvent::new(self.tail, self.append_ms, item)));
        Appended::New(self.tail)
    }

    fn get(&self, bucket: Bucket, key: &[u8], now_ms: u64) -> Option<Entry> {
        let held = self.entries.get(&(bucket.name(), key.to_vec()))?;
        held.is_live(now_ms).then(|| held.entry.clone())
    }

    fn check(
        &self,
        bucket: Bucket,
        key: &[u8],
        precondition: Precondition,
        now_ms: u64,
    ) -> Result<Option<Entry>, StateError> {
        let current = self.get(bucket, key, now_ms);
        let holds = match precondition {
            Precondition::None => true,
            Precondition::Absent => current.is_none(),
            Precondition::Revision(expected) => {
                current.as_ref().is_some_and(|entry| entry.revision == expected)
            }
        };
        if holds { Ok(current) } else { Err(StateError::Conflict { current }) }
    }

    fn put(&mut self, put: Put) -> u64 {
        self.revision += 1;
        let Put { bucket, key, value, expire_at_ms } = put;
        let entry = Entry { value, revision: self.revision };
        self.entries.insert((bucket.name(), key.to_vec()), Held { entry, expire_at_ms });
        self.revision
    }
}

impl Held {
    fn is_live(&self, now_ms: u64) -> bool {
        self.expire_at_ms.is_none_or(|at| at > now_ms)
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;
    use crate::clock::ManualClock;
    use crate::storage::contract::{self, Subject};

    fn open() -> Subject {
        let clock = ManualClock::new(UNIX_EPOCH + contract::START);
        let memory = Memory::new(clock.clone());
        Subject { log: memory.clone(), state: memory, clock, keep: Box::new(()) }
    }

    contract::event_log_contract!(open());
    contract::keyed_state_contract!(open());
    contract::sends_contract!(open());
    contract::subscriptions_contract!(open());

    #[tokio::test]
    async fn refuses_on_demand() {
        let memory = Memory::new(ManualClock::new(UNIX_EPOCH));
        memory.refuse(Refusal::DiskLow);
        let refused = memory.append(vec![contract::item(1)]).await;
        assert_eq!(refused, Err(AppendError::Refused(Refusal::DiskLow)));
        memory.accept();
        assert_eq!(memory.append(vec![contract::item(1)]).await, Ok(vec![Appended::New(1)]));
    }
}
