//! Which keys there are, in memory: key, revision, expiry and size, but no values.
//!
//! The stream has the newest message of each key; its number is the revision. Some entries of one commit share a message. The
//! index is what one gets by reading the stream from its beginning, and follows each write once that is durable.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Bound;
use std::sync::{Mutex, PoisonError, RwLock};

use bytes::Bytes;

use super::records::EntryWrite;
use crate::storage::keyed_state::Bucket;

/// Where the value of a key is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Slot {
    pub(super) revision: u64,
    pub(super) expire_at_ms: Option<u64>,
    pub(super) value_bytes: usize,
    /// As [`EntryWrite::is_shared`].
    pub(super) is_shared: bool,
}

impl Slot {
    pub(super) fn is_live(&self, now_ms: u64) -> bool {
        self.expire_at_ms.is_none_or(|at| at > now_ms)
    }
}

type Keys = BTreeMap<Box<[u8]>, Slot>;

/// The keys of all buckets, and the messages that several share.
#[derive(Debug, Default)]
pub(super) struct Index {
    buckets: RwLock<HashMap<String, Keys>>,
    sharing: Mutex<Sharing>,
}

/// How many entries of each shared message are still the newest of their keys.
#[derive(Debug, Default)]
struct Sharing {
    messages: HashMap<u64, Counts>,
    /// Those that hold little else than what was replaced.
    sparse: BTreeSet<u64>,
}

#[derive(Debug, Default)]
struct Counts {
    newest: usize,
    all: usize,
}

/// A shared message is sparse when so many times its newest entries are not more than all.
const SPARSE: usize = 4;

impl Sharing {
    fn add(&mut self, message: u64) {
        let counts = self.messages.entry(message).or_default();
        counts.newest += 1;
        counts.all += 1;
    }

    /// One of its entries was replaced, or went.
    fn lose(&mut self, message: u64) {
        let Some(counts) = self.messages.get_mut(&message) else { return };
        counts.newest = counts.newest.saturating_sub(1);
        if counts.newest * SPARSE <= counts.all {
            self.sparse.insert(message);
        }
    }

    fn forget(&mut self, message: u64) {
        self.messages.remove(&message);
        self.sparse.remove(&message);
    }
}

impl Index {
    /// Takes in writes that are durable, with the numbers of their messages, in their order and all at one moment.
    pub(super) fn apply<'a>(&self, writes: impl IntoIterator<Item = (u64, &'a EntryWrite)>) {
        let mut buckets = self.buckets.write().unwrap_or_else(PoisonError::into_inner);
        let mut sharing = self.sharing.lock().unwrap_or_else(PoisonError::into_inner);
        for (revision, write) in writes {
            if let Some(message) = write.emptied() {
                sharing.forget(message);
                continue;
            }
            let EntryWrite { bucket, key, value, expire_at_ms, is_shared } = write;
            if !buckets.contains_key(bucket) {
                buckets.insert(bucket.clone(), Keys::new());
            }
            let Some(keys) = buckets.get_mut(bucket) else { continue };
            let before = match value {
                None => keys.remove(&key[..]),
                Some(value) => {
                    let (expire_at_ms, is_shared) = (*expire_at_ms, *is_shared);
                    let slot = Slot { revision, expire_at_ms, value_bytes: value.len(), is_shared };
                    if is_shared {
                        sharing.add(revision);
                    }
                    keys.insert(key.as_ref().into(), slot)
                }
            };
            if let Some(Slot { revision, is_shared: true, .. }) = before {
                sharing.lose(revision);
            }
        }
    }

    /// The numbers of up to `max` shared messages of which little is needed, the oldest first.
    pub(super) fn sparse(&self, max: usize) -> Vec<u64> {
        let sharing = self.sharing.lock().unwrap_or_else(PoisonError::into_inner);
        sharing.sparse.iter().take(max).copied().collect()
    }

    /// That shared message is not there any more.
    pub(super) fn forget(&self, message: u64) {
        self.sharing.lock().unwrap_or_else(PoisonError::into_inner).forget(message);
    }

    /// The slots of the keys, in their order and all of one moment, expired ones too.
    pub(super) fn slots<'a>(
        &self,
        bucket: Bucket,
        keys: impl IntoIterator<Item = &'a [u8]>,
    ) -> Vec<Option<Slot>> {
        let buckets = self.buckets.read().unwrap_or_else(PoisonError::into_inner);
        let held = buckets.get(bucket.name());
        keys.into_iter().map(|key| held.and_then(|held| held.get(key).copied())).collect()
    }

    /// The slot of a key, expired or not.
    pub(super) fn slot_of(&self, bucket: &str, key: &[u8]) -> Option<Slot> {
        let buckets = self.buckets.read().unwrap_or_else(PoisonError::into_inner);
        buckets.get(bucket)?.get(key).copied()
    }

    /// Live keys behind `after`, in their order, up to these limits, but at least one if there is one.
    pub(super) fn page(
        &self,
        bucket: Bucket,
        after: Option<&[u8]>,
        (keys_max, bytes_max): (usize, usize),
        now_ms: u64,
    ) -> Vec<Bytes> {
        let buckets = self.buckets.read().unwrap_or_else(PoisonError::into_inner);
        let Some(keys) = buckets.get(bucket.name()) else { return Vec::new() };
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        let live = keys.range::<[u8], _>((start, Bound::Unbounded)).filter(|(_, slot)| slot.is_live(now_ms));
        let mut bytes = 0;
        let page = live.take(keys_max.max(1)).enumerate().take_while(|(index, (_, slot))| {
            bytes += slot.value_bytes;
            *index == 0 || bytes <= bytes_max
        });
        page.map(|(_, (key, _))| Bytes::copy_from_slice(key)).collect()
    }

    /// Up to `max` entries that have expired.
    pub(super) fn expired(&self, now_ms: u64, max: usize) -> Vec<(String, Bytes, u64)> {
        let buckets = self.buckets.read().unwrap_or_else(PoisonError::into_inner);
        let all = buckets.iter().flat_map(|(bucket, keys)| keys.iter().map(move |entry| (bucket, entry)));
        let expired = all.filter(|(_, (_, slot))| !slot.is_live(now_ms)).take(max);
        expired
            .map(|(bucket, (key, slot))| (bucket.clone(), Bytes::copy_from_slice(key), slot.revision))
            .collect()
    }
}
