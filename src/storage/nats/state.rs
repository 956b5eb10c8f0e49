//! The keyed state port on JetStream.

use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, UNIX_EPOCH};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use tokio::time::{Instant, sleep};

use super::Nats;
use super::index::Slot;
use super::queue::{BATCH_BYTES, BATCH_RECORDS, Patience, Weight};
use super::records::{EntryWrite, decode_entries};
use super::state_writer::{Done, Op};
use super::wire::Fault;
use crate::clock::unix_ms;
use crate::storage::event_log::{Acceptance, Refusal};
use crate::storage::keyed_state::{Beside, Bucket, Claims, Entry, KeyedState, Precondition, Put, StateError};

/// Keys and bytes of one page of a scan.
const PAGE: (usize, usize) = (512, 8 * 1024 * 1024);
/// Entries of one part of [`KeyedState::put_all`], and those of them that have a message each: others, who wait to be served, have
/// their turn in between.
const PART_RECORDS: usize = 128;
const PART_MESSAGES: usize = 32;
/// Values asked for at a time.
const READS: usize = 64;
/// How long a value is looked for that the index names: a moment after a write the nearest server may not have it.
const READ_MAX: Duration = Duration::from_secs(3);

#[async_trait]
impl KeyedState for Nats {
    async fn get(&self, bucket: Bucket, key: &[u8]) -> Result<Option<Entry>, StateError> {
        let entries = self.entries(bucket, &[Bytes::copy_from_slice(key)]).await?;
        Ok(entries.into_iter().next().flatten())
    }

    async fn get_many(&self, bucket: Bucket, keys: &[Bytes]) -> Result<Vec<Option<Entry>>, StateError> {
        self.entries(bucket, keys).await
    }

    async fn put(&self, put: Put, precondition: Precondition) -> Result<u64, StateError> {
        self.write_one(put, precondition, None).await
    }

    async fn put_beside(
        &self,
        put: Put,
        precondition: Precondition,
        beside: Beside,
    ) -> Result<u64, StateError> {
        self.write_one(put, precondition, Some(beside)).await
    }

    async fn put_all(&self, puts: Vec<Put>) -> Result<(), StateError> {
        puts.iter().try_for_each(Put::check_size)?;
        let mut rest = puts.into_iter().peekable();
        while rest.peek().is_some() {
            let (mut bytes, mut messages) = (0, 0);
            let mut chunk = Vec::new();
            while chunk.len() < PART_RECORDS
                && messages < PART_MESSAGES
                && let Some(put) = rest.next_if(|put| chunk.is_empty() || bytes + size(put) <= BATCH_BYTES)
            {
                bytes += size(&put);
                messages += usize::from(!put.bucket.is_advancing());
                chunk.push(put);
            }
            let weight = Weight { records: chunk.len(), bytes };
            self.state.submit(Op::PutAll(chunk), weight, Patience::Settle).await?;
        }
        Ok(())
    }

    async fn delete(
        &self,
        bucket: Bucket,
        key: &[u8],
        precondition: Precondition,
    ) -> Result<bool, StateError> {
        let bytes = Bytes::copy_from_slice(key);
        let weight = Weight { records: 1, bytes: 0 };
        let op = Op::Delete(bucket, bytes, precondition);
        match self.state.submit(op, weight, Patience::Settle).await? {
            Done::Deleted(was_there) => Ok(was_there),
            Done::Written(_) | Done::Swept(_) | Done::Led(_) => Ok(true),
            Done::Conflict => Err(StateError::Conflict { current: self.get(bucket, key).await? }),
        }
    }

    async fn scan(
        &self,
        bucket: Bucket,
        after_key: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<(Bytes, Entry)>, StateError> {
        let limits = (limit.clamp(1, PAGE.0), PAGE.1);
        let mut after = after_key.map(Bytes::copy_from_slice);
        loop {
            let now_ms = self.context.clock.now_ms();
            let keys = self.index.page(bucket, after.as_deref(), limits, now_ms);
            let Some(last) = keys.last() else { return Ok(Vec::new()) };
            after = Some(last.clone());
            let entries = self.entries(bucket, &keys).await?;
            let page: Vec<_> =
                keys.into_iter().zip(entries).filter_map(|(key, entry)| Some((key, entry?))).collect();
            // All of a page may be deleted meanwhile; only an empty page is the end.
            if !page.is_empty() {
                return Ok(page);
            }
        }
    }

    fn claims(&self) -> Option<&dyn Claims> {
        Some(self)
    }

    async fn sweep(&self) -> Result<u64, StateError> {
        let mut swept = 0;
        loop {
            let expired = self.index.expired(self.context.clock.now_ms(), BATCH_RECORDS);
            let found = expired.len();
            let weight = Weight { records: found, bytes: 0 };
            if found > 0
                && let Done::Swept(count) =
                    self.state.submit(Op::Sweep(expired), weight, Patience::Settle).await?
            {
                swept += count;
            }
            if found < BATCH_RECORDS {
                break;
            }
        }
        self.compact().await?;
        Ok(swept)
    }
}

#[async_trait]
impl Claims for Nats {
    async fn claim(
        &self,
        bucket: Bucket,
        entries: Vec<(Bytes, Bytes)>,
        kept: Duration,
    ) -> Result<bool, StateError> {
        let expires = self.context.clock.now_ms().saturating_add(unix_ms(UNIX_EPOCH + kept));
        let puts = entries.into_iter();
        let puts = puts.map(|(key, value)| Put { bucket, key, value, expire_at_ms: Some(expires) });
        let puts: Vec<Put> = puts.collect();
        puts.iter().try_for_each(Put::check_size)?;
        let weight = Weight { records: puts.len(), bytes: puts.iter().map(size).sum() };
        if weight.records > BATCH_RECORDS || weight.bytes > BATCH_BYTES {
            return Err(StateError::TooLarge { bytes: weight.bytes, bytes_max: BATCH_BYTES });
        }
        // One that is given up and stored all the same does no harm: whoever comes next finds it.
        let claimed = self.state.submit(Op::Claim(puts), weight, Patience::Bounded).await?;
        Ok(matches!(claimed, Done::Written(_)))
    }
}

impl Nats {
    async fn write_one(
        &self,
        put: Put,
        precondition: Precondition,
        beside: Option<Beside>,
    ) -> Result<u64, StateError> {
        put.check_size()?;
        let mut weight = Weight { records: 1, bytes: size(&put) };
        if let Some(beside) = &beside {
            weight.records += 1;
            if let Beside::Put(other) = beside {
                other.check_size()?;
                weight.bytes += size(other);
            }
        }
        let (bucket, key) = (put.bucket, put.key.clone());
        match self.state.submit(Op::Put(put, precondition, beside), weight, Patience::Settle).await? {
            Done::Written(revision) => Ok(revision),
            Done::Conflict | Done::Deleted(_) | Done::Swept(_) | Done::Led(_) => {
                Err(StateError::Conflict { current: self.get(bucket, &key).await? })
            }
        }
    }

    /// The live entries of the keys, as of one moment: if one is replaced while they are fetched, all are fetched again.
    async fn entries(&self, bucket: Bucket, keys: &[Bytes]) -> Result<Vec<Option<Entry>>, StateError> {
        if self.context.shared.acceptance() == Acceptance::Refusing(Refusal::Closed) {
            return Err(StateError::Refused(Refusal::Closed));
        }
        let started = Instant::now();
        for attempt in 0.. {
            let now_ms = self.context.clock.now_ms();
            let slots = self.index.slots(bucket, keys.iter().map(|key| &key[..]));
            let slots = slots.into_iter().map(|slot| slot.filter(|slot| slot.is_live(now_ms)));
            let slots: Vec<Option<Slot>> = slots.collect();
            // Many may share a message.
            let revisions: BTreeSet<u64> = slots.iter().flatten().map(|slot| slot.revision).collect();
            // The nearest server first, then the leader.
            let asked: Vec<_> =
                revisions.into_iter().map(|revision| self.fetch(revision, attempt > 0)).collect();
            let fetched: Result<Messages, Fault> = stream::iter(asked).buffered(READS).try_collect().await;
            let messages = fetched.map_err(|fault| StateError::Unreadable(fault.to_string()))?;
            let asked = slots.iter().zip(keys);
            let entries: Result<Vec<_>, Missing> = asked
                .map(|(slot, key)| slot.map(|slot| entry(&messages, slot, bucket, key)).transpose())
                .collect();
            match entries {
                Ok(entries) => return Ok(entries),
                Err(Missing::Message) => {}
                Err(Missing::Entry(revision)) => {
                    return Err(StateError::Unreadable(format!("the entry at {revision} is damaged")));
                }
            }
            if started.elapsed() > READ_MAX {
                break;
            }
            if attempt > 0 {
                // Another replica may have replaced it.
                self.state.look();
                sleep(Duration::from_millis(2)).await;
            }
        }
        Err(StateError::Unreadable("an entry is not on the NATS server where it was written".to_owned()))
    }

    /// What that message holds; `None` if it is not there: not yet, or not any more.
    async fn fetch(&self, revision: u64, from_leader: bool) -> Result<(u64, Option<Vec<EntryWrite>>), Fault> {
        let (wire, stream) = (&self.context.wire, &self.context.names.state);
        let stored = if from_leader {
            wire.exact(stream, revision).await?
        } else {
            wire.nearest(stream, revision).await?
        };
        let entries = stored.map(|stored| decode_entries(stored.payload).map(|(_, entries)| entries));
        Ok((revision, entries.map(Option::unwrap_or_default)))
    }
}

/// What messages hold, by their numbers; `None` of one that is not there.
type Messages = HashMap<u64, Option<Vec<EntryWrite>>>;

/// Why an entry was not found.
enum Missing {
    /// Its message is not there.
    Message,
    /// Its message does not hold it.
    Entry(u64),
}

/// The entry of a key in the messages that were fetched.
fn entry(
    messages: &Messages,
    Slot { revision, is_shared, .. }: Slot,
    bucket: Bucket,
    key: &Bytes,
) -> Result<Entry, Missing> {
    let entries = messages.get(&revision).and_then(Option::as_ref).ok_or(Missing::Message)?;
    let found = entries.iter().rfind(|entry| entry.key == key && entry.bucket == bucket.name());
    let value = found.and_then(|entry| entry.value.as_ref()).ok_or(Missing::Entry(revision))?;
    // A part of a message holds the whole of it in memory.
    let value = if is_shared { Bytes::copy_from_slice(value) } else { value.clone() };
    Ok(Entry { value, revision })
}

fn size(put: &Put) -> usize {
    put.key.len() + put.value.len()
}
