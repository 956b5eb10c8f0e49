//! What one commit of the state writes.
//!
//! Each entry is a message under its key, so that the server keeps the newest of a key and forgets the others. Claims come many
//! at a time, webhooks wait for them, and they are over after a while: those of one commit share a message, which the server
//! syncs once, and which it forgets by age.

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

/// How long the server keeps a shared message after the last of its entries has expired: nobody looks for one by then,
/// whatever the clocks say.
const SHARED_SECONDS: u64 = 60 * 60;

/// A revision that is not known before the commit. No caller can name it.
const UNBORN: u64 = u64::MAX;

/// What a commit writes, and what it answers if it is stored.
#[derive(Default)]
pub(super) struct Plan {
    /// Those with a message each.
    writes: Vec<EntryWrite>,
    /// Those that share the message behind these.
    shared: Vec<EntryWrite>,
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

    /// Adds the write of a claim.
    pub(super) fn claim(&mut self, put: &Put) {
        let write = self.note(put, true);
        self.shared.push(write);
    }

    /// Adds that what is held there goes.
    pub(super) fn remove(&mut self, (bucket, key): (String, Bytes), held: Slot) {
        self.overlay.insert((bucket.clone(), key.clone()), None);
        let Slot { expire_at_ms, is_shared, .. } = held;
        let writes = if is_shared { &mut self.shared } else { &mut self.writes };
        writes.push(EntryWrite { bucket, key, value: None, expire_at_ms, is_shared });
    }

    /// Nothing is added any more.
    pub(super) fn close(&mut self) {
        // What shares with nobody stands under its key.
        if let [EntryWrite { value: Some(_), is_shared, .. }] = &mut self.shared[..] {
            *is_shared = false;
            self.writes.append(&mut self.shared);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.writes.is_empty() && self.shared.is_empty()
    }

    /// The writes with the numbers of their messages, of which this is the first.
    pub(super) fn numbered(&self, first: u64) -> impl Iterator<Item = (u64, &EntryWrite)> + Clone {
        let behind = first + self.writes.len() as u64;
        (first..).zip(&self.writes).chain(self.shared.iter().map(move |write| (behind, write)))
    }

    /// The messages, with this mark.
    pub(super) fn messages(&self, names: &Names, write: [u8; 16], now_ms: u64) -> Vec<Outgoing> {
        let message = |token: String, entries: &[EntryWrite], part, kept_seconds| Outgoing {
            subject: names.subject(Kind::State, &token),
            payload: encode_entries(Mark { write, part }, entries),
            expected_of_subject: None,
            kept_seconds,
        };
        let mut messages: Vec<Outgoing> = Vec::with_capacity(self.writes.len() + 1);
        for (entry, part) in self.writes.iter().zip(0..) {
            let token = entry_token(&entry.bucket, &entry.key);
            let kept_seconds = entry.value.is_none().then_some(GRAVE_SECONDS);
            messages.push(message(token, std::slice::from_ref(entry), part, kept_seconds));
        }
        if !self.shared.is_empty() {
            let part = u32::try_from(messages.len()).unwrap_or(u32::MAX);
            // A grave lies as long as there may be anything in it.
            let expires = self.shared.iter().filter_map(|entry| entry.expire_at_ms).max().unwrap_or(now_ms);
            let kept_seconds = expires.saturating_sub(now_ms) / 1000 + SHARED_SECONDS;
            messages.push(message(shared_token(&write), &self.shared, part, Some(kept_seconds)));
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

/// Whether a write may happen where this is.
pub(super) fn holds(precondition: Precondition, current: Option<Slot>) -> bool {
    match precondition {
        Precondition::None => true,
        Precondition::Absent => current.is_none(),
        Precondition::Revision(expected) => current.is_some_and(|slot| slot.revision == expected),
    }
}
