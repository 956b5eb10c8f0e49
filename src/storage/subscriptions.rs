//! Named subscriptions under keys: settings, progress, parked events.
//!
//! Settings stand under owner and name; all else under the id of the subscription, which no later one of the same name
//! has. A value is a version byte and a protobuf message of `values`. A parked event is a copy: a short head, and a body
//! in pieces that fit a value, which outlives the log's retention.

mod values;

use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::try_join_all;

use crate::domain::filter::EventFilter;
use crate::domain::subscription::{Candidate, Cause, Progress, Terms};

use super::event_log::StoredEvent;
use super::keyed_state::{Bucket, Entry, KeyedState, Precondition, Put, StateError, VALUE_BYTES_MAX};

const SETTINGS: Bucket = Bucket::named("subscriptions");
// Without room for events, what becomes of those that are there has to be stored all the same.
const PROGRESS: Bucket = Bucket::named("subscription_progress").vital();
const PARKED: Bucket = Bucket::named("parked_events").vital();
const PARKED_BODIES: Bucket = Bucket::named("parked_bodies").vital();
const PAGE: usize = 1_000;
const DELETES_AT_ONCE: usize = 256;
/// Events that are parked at once, and from how many bytes on no further one. One may be as large as an event can be.
pub const PARKED_AT_ONCE: usize = 256;
/// See [`PARKED_AT_ONCE`].
pub const PARKED_BYTES_AT_ONCE: usize = 1024 * 1024;

/// Identity of a subscription: random, so that another one of the same name has another.
pub type SubscriptionId = [u8; 8];

/// A subscription as it was created or changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The caller whose it is.
    pub owner: String,
    /// Its name among those of the caller.
    pub name: String,
    /// Its identity.
    pub id: SubscriptionId,
    /// Which events; without a scope.
    pub filter: EventFilter,
    /// How they are delivered.
    pub terms: Terms,
    /// When it was created: Unix milliseconds.
    pub create_ms: u64,
}

/// What is known of a parked event without its body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParkedHead {
    /// Where it stands in the log.
    pub candidate: Candidate,
    /// Its identity.
    pub event_id: [u8; 16],
    /// How often it was delivered.
    pub attempts: u32,
    /// Why it is here.
    pub cause: Cause,
    /// The worker's words.
    pub reason: String,
    /// Since when: Unix milliseconds.
    pub park_ms: u64,
    /// Whether it is being delivered again.
    pub is_replaying: bool,
}

/// Subscriptions over the keyed state.
#[derive(Debug, Clone)]
pub struct SubscriptionStore {
    state: Arc<dyn KeyedState>,
}

impl SubscriptionStore {
    /// Over this state.
    pub fn new(state: Arc<dyn KeyedState>) -> Self {
        Self { state }
    }

    /// Every subscription, with the revision of its settings. `Unreadable` names one that this version cannot read, as all
    /// methods do: what is passed over would be lost.
    pub async fn all(&self) -> Result<Vec<(Settings, u64)>, StateError> {
        let read = |(key, entry): (Bytes, Entry)| {
            let settings = values::settings(&key, &entry.value);
            let settings = settings.ok_or_else(|| unreadable(&values::settings_name(&key)))?;
            Ok((settings, entry.revision))
        };
        self.under(SETTINGS, b"").await?.into_iter().map(read).collect()
    }

    /// Writes settings: of a new subscription, or over those of this revision. Returns the new revision.
    pub async fn put_settings(&self, settings: &Settings, revision: Option<u64>) -> Result<u64, StateError> {
        let (key, value) = values::settings_entry(settings);
        self.state.put(put(SETTINGS, key, value), expected(revision)).await
    }

    /// How far a subscription has come, and the revision of that.
    pub async fn progress(&self, id: SubscriptionId) -> Result<Option<(Progress, u64)>, StateError> {
        let Some(entry) = self.state.get(PROGRESS, &id).await? else { return Ok(None) };
        let progress = values::progress(&entry.value).ok_or_else(|| unreadable("its progress"))?;
        Ok(Some((progress, entry.revision)))
    }

    /// Writes how far it has come: for the first time, or over the progress of this revision, so that of two processes
    /// that both believe to own the subscription only one goes on. Returns the new revision.
    pub async fn put_progress(
        &self,
        id: SubscriptionId,
        progress: &Progress,
        revision: Option<u64>,
    ) -> Result<u64, StateError> {
        let value = values::progress_value(progress);
        self.state.put(put(PROGRESS, id.to_vec(), value), expected(revision)).await
    }

    /// Parks events, all in one write: each is readable when its head is there, and durable when this returns.
    pub async fn park(
        &self,
        id: SubscriptionId,
        parked: &[(ParkedHead, Arc<StoredEvent>)],
    ) -> Result<(), StateError> {
        let mut puts = Vec::with_capacity(2 * parked.len());
        for (head, event) in parked {
            let body = values::body_value(event);
            let pieces = body.chunks(VALUE_BYTES_MAX).zip(0_u8..);
            puts.extend(pieces.map(|(piece, index)| {
                put(PARKED_BODIES, piece_key(id, head.candidate.seq, index), piece.to_vec())
            }));
            puts.push(head_put(id, head));
        }
        self.state.put_all(puts).await
    }

    /// Changes heads of events that are parked already.
    pub async fn put_heads(&self, id: SubscriptionId, heads: &[ParkedHead]) -> Result<(), StateError> {
        self.state.put_all(heads.iter().map(|head| head_put(id, head)).collect()).await
    }

    /// The heads of all parked events, in the order of the log.
    pub async fn heads(&self, id: SubscriptionId) -> Result<Vec<ParkedHead>, StateError> {
        let read = |(key, entry): (Bytes, Entry)| {
            let head = values::head(&entry.value);
            head.ok_or_else(|| unreadable(&format!("its parked event at {}", seq_of(&key))))
        };
        self.under(PARKED, &id).await?.into_iter().map(read).collect()
    }

    /// A parked event; `None` if it is not there.
    pub async fn body(&self, id: SubscriptionId, seq: u64) -> Result<Option<StoredEvent>, StateError> {
        let mut body = Vec::new();
        for index in 0..=u8::MAX {
            let Some(piece) = self.state.get(PARKED_BODIES, &piece_key(id, seq, index)).await? else { break };
            body.extend_from_slice(&piece.value);
            if piece.value.len() < VALUE_BYTES_MAX {
                break;
            }
        }
        Ok(values::body(seq, &body))
    }

    /// Deletes parked events, heads first.
    pub async fn unpark(&self, id: SubscriptionId, seqs: &[u64]) -> Result<(), StateError> {
        // Many at once share a commit.
        for some in seqs.chunks(DELETES_AT_ONCE) {
            try_join_all(some.iter().map(|seq| self.unpark_one(id, *seq))).await?;
        }
        Ok(())
    }

    async fn unpark_one(&self, id: SubscriptionId, seq: u64) -> Result<(), StateError> {
        self.state.delete(PARKED, &parked_key(id, seq), Precondition::None).await?;
        for index in 0..=u8::MAX {
            // Reading which pieces there are would read the event.
            if !self.state.delete(PARKED_BODIES, &piece_key(id, seq, index), Precondition::None).await? {
                break;
            }
        }
        Ok(())
    }

    /// Deletes a subscription, itself last: when this does not end, it is still there, without some of its parked events.
    pub async fn delete(&self, settings: &Settings) -> Result<(), StateError> {
        let id = settings.id;
        loop {
            let heads = self.page(PARKED, &id, None, DELETES_AT_ONCE).await?;
            if heads.is_empty() {
                break;
            }
            let seqs: Vec<u64> = heads.iter().map(|(key, _)| seq_of(key)).collect();
            self.unpark(id, &seqs).await?;
        }
        loop {
            // What a parking, or an unparking, has left that did not end.
            let left = self.page(PARKED_BODIES, &id, None, DELETES_AT_ONCE).await?;
            if left.is_empty() {
                break;
            }
            let deletes =
                left.iter().map(|(key, _)| self.state.delete(PARKED_BODIES, key, Precondition::None));
            try_join_all(deletes).await?;
        }
        let (key, _) = values::settings_entry(settings);
        self.state.delete(SETTINGS, &key, Precondition::None).await?;
        self.state.delete(PROGRESS, &id, Precondition::None).await.map(drop)
    }

    /// The entries whose keys begin so.
    async fn under(&self, bucket: Bucket, prefix: &[u8]) -> Result<Vec<(Bytes, Entry)>, StateError> {
        let mut found: Vec<(Bytes, Entry)> = Vec::new();
        loop {
            let after = found.last().map(|(key, _)| key.clone());
            let page = self.page(bucket, prefix, after.as_deref(), PAGE).await?;
            if page.is_empty() {
                return Ok(found);
            }
            found.extend(page);
        }
    }

    /// The first of them behind this key.
    async fn page(
        &self,
        bucket: Bucket,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<(Bytes, Entry)>, StateError> {
        // No key is its prefix alone.
        let after = after.or((!prefix.is_empty()).then_some(prefix));
        let mut page = self.state.scan(bucket, after, limit).await?;
        page.retain(|(key, _)| key.starts_with(prefix));
        Ok(page)
    }
}

/// Nothing is done without it: whoever goes on as if it were not there loses it.
fn unreadable(what: &str) -> StateError {
    StateError::Unreadable(format!(
        "{what} cannot be read: written by a newer version, or damaged; start the version that wrote it, or restore the \
         store from a backup"
    ))
}

fn put(bucket: Bucket, key: Vec<u8>, value: Vec<u8>) -> Put {
    Put { bucket, key: key.into(), value: value.into(), expire_at_ms: None }
}

fn head_put(id: SubscriptionId, head: &ParkedHead) -> Put {
    put(PARKED, parked_key(id, head.candidate.seq), values::head_value(head))
}

fn parked_key(id: SubscriptionId, seq: u64) -> Vec<u8> {
    [id, seq.to_be_bytes()].concat()
}

fn piece_key(id: SubscriptionId, seq: u64, index: u8) -> Vec<u8> {
    let mut key = parked_key(id, seq);
    key.push(index);
    key
}

/// Of the key of a head.
fn seq_of(key: &[u8]) -> u64 {
    key.last_chunk().copied().map_or(0, u64::from_be_bytes)
}

fn expected(revision: Option<u64>) -> Precondition {
    revision.map_or(Precondition::Absent, Precondition::Revision)
}
