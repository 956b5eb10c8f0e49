//! What one commit of the state writes.
//!
//! An entry is a message under its key, so that the server keeps the newest of a key and forgets the others; or it shares a message
//! with others of its commit, which the server syncs once. Claims do, since webhooks wait for them, and so do entries that webhooks
//! move all the time ([`Bucket::advancing`](crate::storage::keyed_state::Bucket::advancing)). The server forgets a shared message by
//! age if its entries expire. When no more than a quarter of them are still the newest of their keys, those are written again and the
//! message goes ([`Op::Compact`](super::state_writer::Op::Compact)).

use std::collections::HashMap;

use bytes::Bytes;

use super::index::Slot;
use super::records::{EntryWrite, Mark, bucket_name, encode_entries, entry_token, shared_token};
use super::state_writer::Done;
use super::streams::{Kind, Names};
use super::wire::Outgoing;
use crate::storage::keyed_state::{Precondition, Put};

/// How long the server keeps what stands for a deleted entry: readers of the stream are past it long before.
const GRAVE_SECONDS: u64 = 60;

/// How long the server keeps a message after the last of its entries has expired: nobody looks for one by then, whatever the
/// clocks say.
const EXPIRED_SECONDS: u64 = 60 * 60;

/// The server counts in nanoseconds, and takes what is beyond its numbers for the past: longer than this no message is given.
const KEPT_SECONDS_MAX: u64 = 10 * 365 * 24 * 60 * 60;

/// A revision that is not known before the commit. No caller can name it.
const UNBORN: u64 = u64::MAX;

/// A shared message of which little is still needed.
#[derive(Debug)]
pub(super) struct Sparse {
    /// Its number.
    pub(super) message: u64,
    /// The write it came with.
    pub(super) write: [u8; 16],
    pub(super) entries: Vec<EntryWrite>,
}

/// What a commit writes, and what it answers if it is stored.
#[derive(Default)]
pub(super) struct Plan {
    /// Those that share a message and expire.
    expiring: Vec<EntryWrite>,
    /// Those that share the message behind it, and do not.
    lasting: Vec<EntryWrite>,
    /// Those with a message each, behind these: a position comes after what it stands for.
    writes: Vec<EntryWrite>,
    /// What stands in the place of shared messages, with their subjects' ends; at last.
    emptied: Vec<(String, EntryWrite)>,
    /// Revisions here are places in `writes`.
    pub(super) answers: Vec<Done>,
    /// What the writes before make of the index.
    pub(super) overlay: HashMap<(String, Bytes), Option<Slot>>,
}

impl Plan {
    /// Adds a write; returns its place.
    pub(super) fn put(&mut self, put: &Put) -> u64 {
        let write = self.note(put, false);
        self.writes.push(write);
        self.writes.len() as u64 - 1
    }

    /// Adds a write that shares a message.
    pub(super) fn share(&mut self, put: &Put) {
        let write = self.note(put, true);
        self.sharing(&write).push(write);
    }

    /// Adds the write of an entry where `held` is: it shares a message if it may, and never expires before that.
    pub(super) fn advance(&mut self, put: &Put, held: Option<Slot>) {
        if put.bucket.is_advancing() {
            let before = held.map_or(Some(0), |held| held.expire_at_ms);
            let expire_at_ms = before.zip(put.expire_at_ms).map(|(before, expires)| before.max(expires));
            self.share(&Put { expire_at_ms, ..put.clone() });
        } else {
            self.put(put);
        }
    }

    fn sharing(&mut self, write: &EntryWrite) -> &mut Vec<EntryWrite> {
        if is_lasting(write) { &mut self.lasting } else { &mut self.expiring }
    }

    /// Adds again what is still needed of a shared message, which goes.
    pub(super) fn compact(
        &mut self,
        sparse: &Sparse,
        held: impl Fn(&str, &Bytes) -> Option<Slot>,
        now_ms: u64,
    ) {
        // Of two of the same key the later one counts.
        for entry in sparse.entries.iter().rev() {
            let at = (entry.bucket.clone(), entry.key.clone());
            if self.overlay.contains_key(&at) {
                continue;
            }
            let held = held(&entry.bucket, &entry.key);
            let is_needed = match entry.value {
                Some(_) => held.is_some_and(|held| held.revision == sparse.message),
                // An older message may still have what went.
                None => held.is_none() && entry.expire_at_ms.is_some_and(|at| at > now_ms),
            };
            if is_needed {
                let slot = held.map(|held| Slot { revision: UNBORN, ..held });
                self.overlay.insert(at, slot);
                self.sharing(entry).push(entry.clone());
            }
        }
        let token = shared_token(sparse.entries.iter().any(is_lasting), &sparse.write);
        self.emptied.push((token, EntryWrite::of_emptied(sparse.message)));
    }

    /// Adds that what is held there goes.
    pub(super) fn remove(&mut self, (bucket, key): (String, Bytes), held: Slot) {
        self.overlay.insert((bucket.clone(), key.clone()), None);
        let Slot { expire_at_ms, is_shared, .. } = held;
        let writes = if is_shared { &mut self.expiring } else { &mut self.writes };
        writes.push(EntryWrite { bucket, key, value: None, expire_at_ms, is_shared });
    }

    /// Nothing is added any more.
    pub(super) fn close(&mut self) {
        // What shares with nobody stands under its key, as the last word about it.
        let (sharing, others) = match self.lasting.len() {
            0 => (&mut self.expiring, 0),
            _ => (&mut self.lasting, self.expiring.len()),
        };
        if let ([EntryWrite { value: Some(_), is_shared, .. }], 0) = (&mut sharing[..], others) {
            *is_shared = false;
            self.writes.append(sharing);
        }
    }

    /// How many messages come before those that have one entry each.
    pub(super) fn shared(&self) -> u64 {
        u64::from(!self.expiring.is_empty()) + u64::from(!self.lasting.is_empty())
    }

    pub(super) fn is_empty(&self) -> bool {
        let Self { writes, emptied, expiring, lasting, .. } = self;
        writes.is_empty() && emptied.is_empty() && expiring.is_empty() && lasting.is_empty()
    }

    /// The writes with the numbers of their messages, of which this is the first.
    pub(super) fn numbered(&self, first: u64) -> impl Iterator<Item = (u64, &EntryWrite)> + Clone {
        let expiring = self.expiring.iter().map(move |write| (first, write));
        let next = first + u64::from(!self.expiring.is_empty());
        let lasting = self.lasting.iter().map(move |write| (next, write));
        let alone = self.writes.iter().chain(self.emptied.iter().map(|(_, write)| write));
        expiring.chain(lasting).chain((first + self.shared()..).zip(alone))
    }

    /// The messages, with this mark.
    pub(super) fn messages(&self, names: &Names, write: [u8; 16], now_ms: u64) -> Vec<Outgoing> {
        let message = |token: String, entries: &[EntryWrite], part, kept_seconds| Outgoing {
            subject: names.subject(Kind::State, &token),
            payload: encode_entries(Mark { write, part }, entries),
            expected_of_subject: None,
            kept_seconds,
        };
        let past_its_end = |expires: u64| {
            let seconds = expires.saturating_sub(now_ms) / 1000 + EXPIRED_SECONDS;
            (seconds <= KEPT_SECONDS_MAX).then_some(seconds)
        };
        let mut messages: Vec<Outgoing> = Vec::with_capacity(2 + self.writes.len() + self.emptied.len());
        for sharing in [&self.expiring, &self.lasting] {
            let Some(first) = sharing.first() else { continue };
            let part = u32::try_from(messages.len()).unwrap_or(u32::MAX);
            // A grave lies as long as there may be anything in it.
            let expires = sharing.iter().filter_map(|entry| entry.expire_at_ms).max().unwrap_or(now_ms);
            let kept_seconds = if is_lasting(first) { None } else { past_its_end(expires) };
            messages.push(message(shared_token(is_lasting(first), &write), sharing, part, kept_seconds));
        }
        let own = self.writes.iter().map(|entry| (entry_token(&entry.bucket, &entry.key), entry));
        let emptied = self.emptied.iter().map(|(token, entry)| (token.clone(), entry));
        for (token, entry) in own.chain(emptied) {
            let part = u32::try_from(messages.len()).unwrap_or(u32::MAX);
            let kept_seconds = match (&entry.value, entry.expire_at_ms) {
                (None, _) => Some(GRAVE_SECONDS),
                (Some(_), expires) => expires.and_then(past_its_end),
            };
            messages.push(message(token, std::slice::from_ref(entry), part, kept_seconds));
        }
        messages
    }

    fn note(&mut self, put: &Put, is_shared: bool) -> EntryWrite {
        let Put { bucket, key, value, expire_at_ms } = put.clone();
        let bucket = bucket_name(bucket);
        let slot = Slot { revision: UNBORN, expire_at_ms, value_bytes: value.len(), is_shared };
        self.overlay.insert((bucket.clone(), key.clone()), Some(slot));
        EntryWrite { bucket, key, value: Some(value), expire_at_ms, is_shared }
    }
}

/// Whether it is never forgotten: a message has only such, or none.
fn is_lasting(write: &EntryWrite) -> bool {
    write.value.is_some() && write.expire_at_ms.is_none()
}

/// Whether a write may happen where this is.
pub(super) fn holds(precondition: Precondition, current: Option<Slot>) -> bool {
    match precondition {
        Precondition::None => true,
        Precondition::Absent => current.is_none(),
        Precondition::Revision(expected) => current.is_some_and(|slot| slot.revision == expected),
    }
}
