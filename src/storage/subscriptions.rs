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

    /// Every subscription, with the revision of its settings.
    pub async fn all(&self) -> Result<Vec<(Settings, u64)>, StateError> {
        let read =
            |(key, entry): (Bytes, Entry)| Some((values::settings(&key, &entry.value)?, entry.revision));
        Ok(self.under(SETTINGS, b"").await?.into_iter().filter_map(read).collect())
    }

    /// Writes settings: of a new subscription, or over those of this revision. Returns the new revision.
    pub async fn put_settings(&self, settings: &Settings, revision: Option<u64>) -> Result<u64, StateError> {
        let (key, value) = values::settings_entry(settings);
        self.state.put(put(SETTINGS, key, value), expected(revision)).await
    }

    /// How far a subscription has come, and the revision of that.
    pub async fn progress(&self, id: SubscriptionId) -> Result<Option<(Progress, u64)>, StateError> {
        let entry = self.state.get(PROGRESS, &id).await?;
        Ok(entry.and_then(|entry| Some((values::progress(&entry.value)?, entry.revision))))
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

    /// Parks events: each is readable when its head is there, and durable when this returns.
    pub async fn park(
        &self,
        id: SubscriptionId,
        parked: &[(ParkedHead, Arc<StoredEvent>)],
    ) -> Result<(), StateError> {
        // One by one: each may be as large as an event can be.
        for (head, event) in parked {
            let body = values::body_value(event);
            let pieces = body.chunks(VALUE_BYTES_MAX).zip(0_u8..).map(|(piece, index)| {
                let mut key = parked_key(id, head.candidate.seq);
                key.push(index);
                put(PARKED_BODIES, key, piece.to_vec())
            });
            let mut puts: Vec<Put> = pieces.collect();
            puts.push(head_put(id, head));
            self.state.put_all(puts).await?;
        }
        Ok(())
    }

    /// Changes heads of events that are parked already.
    pub async fn put_heads(&self, id: SubscriptionId, heads: &[ParkedHead]) -> Result<(), StateError> {
        self.state.put_all(heads.iter().map(|head| head_put(id, head)).collect()).await
    }

    /// The heads of all parked events, in the order of the log.
    pub async fn heads(&self, id: SubscriptionId) -> Result<Vec<ParkedHead>, StateError> {
        let entries = self.under(PARKED, &id).await?;
        Ok(entries.iter().filter_map(|(_, entry)| values::head(&entry.value)).collect())
    }

    /// A parked event; `None` if it is not there.
    pub async fn body(&self, id: SubscriptionId, seq: u64) -> Result<Option<StoredEvent>, StateError> {
        let pieces = self.under(PARKED_BODIES, &parked_key(id, seq)).await?;
        let body: Vec<u8> = pieces.into_iter().flat_map(|(_, entry)| entry.value).collect();
        Ok(values::body(seq, &body))
    }

    /// Deletes parked events, heads first.
    pub async fn unpark(&self, id: SubscriptionId, seqs: &[u64]) -> Result<(), StateError> {
        // Many at once share a commit.
        for some in seqs.chunks(DELETES_AT_ONCE) {
            try_join_all(some.iter().map(|seq| self.unpark_one(parked_key(id, *seq)))).await?;
        }
        Ok(())
    }

    async fn unpark_one(&self, key: Vec<u8>) -> Result<(), StateError> {
        self.state.delete(PARKED, &key, Precondition::None).await?;
        self.delete_under(PARKED_BODIES, &key).await
    }

    /// Deletes a subscription; when this was begun and did not end, what remains is found by nobody.
    pub async fn delete(&self, settings: &Settings) -> Result<(), StateError> {
        let (key, _) = values::settings_entry(settings);
        self.state.delete(SETTINGS, &key, Precondition::None).await?;
        self.state.delete(PROGRESS, &settings.id, Precondition::None).await?;
        self.delete_under(PARKED, &settings.id).await?;
        self.delete_under(PARKED_BODIES, &settings.id).await
    }

    async fn delete_under(&self, bucket: Bucket, prefix: &[u8]) -> Result<(), StateError> {
        let found = self.under(bucket, prefix).await?;
        for some in found.chunks(DELETES_AT_ONCE) {
            let deletes = some.iter().map(|(key, _)| self.state.delete(bucket, key, Precondition::None));
            try_join_all(deletes).await?;
        }
        Ok(())
    }

    /// The entries whose keys begin so.
    async fn under(&self, bucket: Bucket, prefix: &[u8]) -> Result<Vec<(Bytes, Entry)>, StateError> {
        let mut found: Vec<(Bytes, Entry)> = Vec::new();
        // No key is its prefix alone.
        let mut after = (!prefix.is_empty()).then(|| Bytes::copy_from_slice(prefix));
        loop {
            let page = self.state.scan(bucket, after.as_deref(), PAGE).await?;
            let Some((last, _)) = page.last() else { return Ok(found) };
            let is_over = !last.starts_with(prefix);
            after = Some(last.clone());
            found.extend(page.into_iter().take_while(|(key, _)| key.starts_with(prefix)));
            if is_over {
                return Ok(found);
            }
        }
    }
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

fn expected(revision: Option<u64>) -> Precondition {
    revision.map_or(Precondition::Absent, Precondition::Revision)
}
