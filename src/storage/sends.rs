//! What must not happen twice: requests under their ids, and those whose outcome is not settled.
//!
//! Two buckets. `requests` says what became of a request id; `pending` holds a row for each send, and each change of
//! templates, from its claim until its outcome is settled, so that a start finds the open ones without reading all
//! requests. The order of writes makes every crash harmless:
//!
//! * A claim writes both rows before Meta is called. A row alone proves that nothing was sent: one of `pending` is dropped at
//!   the start, one of `requests` may be claimed again.
//! * An outcome is written before the row of `pending` goes, or with it. In between the outcome stands already.
//! * Between claim and outcome a crash leaves both rows: the send is in doubt.
//!
//! A call that may be repeated without harm, such as an upload, has no row of `pending`: after a crash it may be claimed
//! again.
//!
//! A send that is queued begins as [`Outcome::Queued`], with its message in the row of `pending`; that it goes to Meta is
//! written before ([`Outcome::Sending`]). Its row of `pending` has a [`QueuedSend`] until what became of it was reported.

mod queued;
mod values;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use sha2::{Digest, Sha256};

use super::keyed_state::{Beside, Bucket, Entry, KeyedState, Precondition, Put, StateError};
use crate::clock::unix_ms;
use crate::domain::caller::Caller;
use crate::domain::failure::Failure;
use crate::domain::ids::PhoneNumberId;
use crate::domain::message::{PreparedMessage, Receipt, SendTag};

pub use queued::QueuedSend;

const REQUESTS: Bucket = Bucket::named("requests");
const PENDING: Bucket = Bucket::named("pending");

/// How much longer a row of `pending` is kept than its request: while the request stands, its absence proves something.
const PENDING_KEPT_MORE: Duration = Duration::from_mins(1);
/// Rows read at once.
const PAGE: usize = 512;

/// Names a request: a hash of who calls what under which id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RequestKey([u8; 32]);

impl RequestKey {
    /// The key of this caller's request to this RPC.
    pub fn of(caller: &Caller, rpc: &str, request_id: &str) -> Self {
        // None of the three can hold a zero.
        let text = [caller.name(), rpc, request_id].join("\0");
        Self(Sha256::digest(text).into())
    }
}

/// What stands under a request id.
#[derive(Debug, Clone, PartialEq)]
pub struct RequestRecord {
    /// Tells this request from another under the same id.
    pub fingerprint: [u8; 32],
    /// Names the attempt that the outcome is about.
    pub tag: SendTag,
    /// When it was claimed.
    pub created: SystemTime,
    /// The number that sends; `None` for what no number sends.
    pub phone_number_id: Option<PhoneNumberId>,
    /// Whether the fallback template goes out in place of the message.
    pub used_fallback: bool,
    /// Until when it may be sent, if it was queued.
    pub not_after: Option<SystemTime>,
    /// What became of it.
    pub outcome: Outcome,
    /// When the outcome was found.
    pub since: SystemTime,
}

/// What became of a request.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// Waits in the queue; nothing went out.
    Queued,
    /// Claimed: it is running, or was when the process ended.
    Sending,
    /// Meta accepted the message.
    Accepted(Receipt),
    /// Certainly nothing went out.
    Refused(Failure),
    /// Its time in the queue ran out; nothing went out.
    Expired(Failure),
    /// It may have gone out.
    Unknown(Failure),
    /// The response of a call that is no send.
    Answered(Bytes),
}

impl Outcome {
    /// It, if Meta accepted the message.
    pub fn accepted(self) -> Option<Self> {
        matches!(self, Self::Accepted(_)).then_some(self)
    }

    /// Whether nothing can change it any more.
    pub fn is_settled(&self) -> bool {
        match self {
            Self::Accepted(_) | Self::Refused(_) | Self::Expired(_) | Self::Answered(_) => true,
            Self::Queued | Self::Sending | Self::Unknown(_) => false,
        }
    }
}

/// A send, or a change of templates, that is not settled.
#[derive(Debug, Clone, PartialEq)]
pub struct PendingSend {
    /// Its request.
    pub request: RequestKey,
    /// When it was claimed.
    pub created: SystemTime,
    /// Until when it may be sent, if it was queued.
    pub not_after: Option<SystemTime>,
    /// What to send again, if it may be.
    pub resend: Option<Resend>,
    /// The queued message, until it was reported what became of it.
    pub queued: Option<Box<QueuedSend>>,
}

/// A message that may be sent again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resend {
    /// As it went out before.
    pub message: PreparedMessage,
    /// How often it was sent again, or was about to be.
    pub count: u32,
}

/// A record and the revision at which it was read.
#[derive(Debug, Clone, PartialEq)]
pub struct Stored {
    /// The record.
    pub record: RequestRecord,
    /// Its revision.
    pub revision: u64,
}

/// What came of a claim.
#[derive(Debug, Clone, PartialEq)]
pub enum Claimed {
    /// It is ours, at this revision.
    Won(u64),
    /// This stands there; nothing if it has just expired.
    Lost(Option<Box<Stored>>),
}

/// The two buckets.
#[derive(Debug, Clone)]
pub struct Sends {
    state: Arc<dyn KeyedState>,
    kept: Duration,
}

impl Sends {
    /// Over this state; requests are kept so long from their claim on, queued ones from the end of their time on.
    pub fn new(state: Arc<dyn KeyedState>, kept: Duration) -> Self {
        Self { state, kept }
    }

    /// From when on a request that was claimed then, and may be sent until `not_after`, counts as never made, and its send as
    /// given up.
    pub fn forgotten_at(&self, created: SystemTime, not_after: Option<SystemTime>) -> SystemTime {
        self.kept_until(created, not_after) + PENDING_KEPT_MORE
    }

    fn kept_until(&self, created: SystemTime, not_after: Option<SystemTime>) -> SystemTime {
        not_after.map_or(created, |not_after| not_after.max(created)) + self.kept
    }

    /// Claims a request, durably; with a send, what is pending of it too.
    pub async fn claim(
        &self,
        key: &RequestKey,
        record: &RequestRecord,
        pending: Option<&PendingSend>,
        precondition: Precondition,
    ) -> Result<Claimed, StateError> {
        let put = self.request_put(key, record);
        let claimed = match pending {
            Some(pending) => {
                let beside = Beside::Put(self.pending_put(&record.tag, pending));
                self.state.put_beside(put, precondition, beside).await
            }
            None => self.state.put(put, precondition).await,
        };
        let Err(error) = claimed else { return claimed.map(Claimed::Won) };
        if pending.is_some() {
            // A row that cannot be taken back proves all the same that nothing was sent.
            drop(self.forget(&record.tag).await);
        }
        match error {
            StateError::Conflict { current } => {
                Ok(Claimed::Lost(current.map(|entry| read(&entry).map(Box::new)).transpose()?))
            }
            StateError::Refused(_)
            | StateError::Busy
            | StateError::TooLarge { .. }
            | StateError::Failed
            | StateError::Unreadable(_) => Err(error),
        }
    }

    /// Writes an outcome over the record of this revision; returns the new revision.
    pub async fn settle(
        &self,
        key: &RequestKey,
        record: &RequestRecord,
        revision: u64,
    ) -> Result<u64, StateError> {
        self.state.put(self.request_put(key, record), Precondition::Revision(revision)).await
    }

    /// As [`Sends::settle`], and nothing is pending of the send any more.
    pub async fn settle_and_forget(
        &self,
        key: &RequestKey,
        record: &RequestRecord,
        revision: u64,
    ) -> Result<u64, StateError> {
        let beside = Beside::Delete(PENDING, pending_key(&record.tag));
        let put = self.request_put(key, record);
        self.state.put_beside(put, Precondition::Revision(revision), beside).await
    }

    /// Writes what is pending of a send.
    pub async fn note(&self, tag: &SendTag, pending: &PendingSend) -> Result<(), StateError> {
        self.state.put(self.pending_put(tag, pending), Precondition::None).await.map(|_| ())
    }

    /// Nothing is pending of a send any more.
    pub async fn forget(&self, tag: &SendTag) -> Result<(), StateError> {
        self.state.delete(PENDING, &pending_key(tag), Precondition::None).await.map(|_| ())
    }

    /// What stands under a request id.
    pub async fn request(&self, key: &RequestKey) -> Result<Option<Stored>, StateError> {
        self.state.get(REQUESTS, &key.0).await?.map(|entry| read(&entry)).transpose()
    }

    /// Gives every open send that an earlier process left to `take`, the oldest first, each with its request; and queued ones
    /// that are settled, but perhaps not reported. Drops the rows that a crash left behind.
    pub async fn open_sends(&self, mut take: impl FnMut(PendingSend, Stored)) -> Result<(), StateError> {
        let mut after: Option<Bytes> = None;
        loop {
            let page = self.state.scan(PENDING, after.as_deref(), PAGE).await?;
            let Some((last, _)) = page.last() else { return Ok(()) };
            after = Some(last.clone());
            for (key, pending, stored) in self.with_requests(page).await? {
                let is_settled = |stored: &Stored| stored.record.outcome.is_settled();
                match stored.filter(|stored| !is_settled(stored) || pending.queued.is_some()) {
                    Some(stored) => take(pending, stored),
                    None => drop(self.state.delete(PENDING, &key, Precondition::None).await?),
                }
            }
        }
    }

    /// Those of these sends that are open, each with its request.
    pub async fn open_among(&self, tags: &[SendTag]) -> Result<Vec<(PendingSend, Stored)>, StateError> {
        let keys: Vec<Bytes> = tags.iter().map(pending_key).collect();
        let entries = self.state.get_many(PENDING, &keys).await?;
        let rows = keys.into_iter().zip(entries).filter_map(|(key, entry)| Some((key, entry?)));
        let rows = self.with_requests(rows.collect()).await?;
        let open = |stored: &Stored| !stored.record.outcome.is_settled();
        let open = |(_, pending, stored): (_, _, Option<Stored>)| Some((pending, stored.filter(open)?));
        Ok(rows.into_iter().filter_map(open).collect())
    }

    /// What is pending of a send.
    pub async fn pending(&self, tag: &SendTag) -> Result<Option<PendingSend>, StateError> {
        let entry = self.state.get(PENDING, &pending_key(tag)).await?;
        entry.map(|entry| values::pending_of_bytes(&entry.value).ok_or_else(unreadable)).transpose()
    }

    /// Rows of `pending`, each with its request if that is still the one.
    async fn with_requests(
        &self,
        rows: Vec<(Bytes, Entry)>,
    ) -> Result<Vec<(Bytes, PendingSend, Option<Stored>)>, StateError> {
        let pending = rows.iter().map(|(_, entry)| values::pending_of_bytes(&entry.value));
        let pending: Vec<PendingSend> = pending.collect::<Option<_>>().ok_or_else(unreadable)?;
        let keys: Vec<Bytes> = pending.iter().map(|p| Bytes::copy_from_slice(&p.request.0)).collect();
        let requests = self.state.get_many(REQUESTS, &keys).await?;
        let rows = rows.into_iter().zip(pending).zip(requests);
        let joined = rows.map(|(((key, _), pending), request)| {
            let stored = request.map(|entry| read(&entry)).transpose()?;
            let stored = stored.filter(|stored| pending_key(&stored.record.tag) == key);
            Ok((key, pending, stored))
        });
        joined.collect()
    }

    fn request_put(&self, key: &RequestKey, record: &RequestRecord) -> Put {
        Put {
            bucket: REQUESTS,
            key: Bytes::copy_from_slice(&key.0),
            value: values::record_to_bytes(record),
            expire_at_ms: Some(unix_ms(self.kept_until(record.created, record.not_after))),
        }
    }

    fn pending_put(&self, tag: &SendTag, pending: &PendingSend) -> Put {
        Put {
            bucket: PENDING,
            key: pending_key(tag),
            value: values::pending_to_bytes(pending),
            expire_at_ms: Some(unix_ms(self.forgotten_at(pending.created, pending.not_after))),
        }
    }
}

fn read(entry: &Entry) -> Result<Stored, StateError> {
    let record = values::record_of_bytes(&entry.value).ok_or_else(unreadable)?;
    Ok(Stored { record, revision: entry.revision })
}

/// Nothing may be concluded from what a newer version wrote.
fn unreadable() -> StateError {
    StateError::Unreadable("a request was stored by a version that this one does not know".to_owned())
}

/// The bytes of a tag, whose order is that of time. The text is a tag as well, and as unique.
fn pending_key(tag: &SendTag) -> Bytes {
    let bytes = URL_SAFE_NO_PAD.decode(tag.as_str());
    bytes.map_or_else(|_| Bytes::copy_from_slice(tag.as_str().as_bytes()), Bytes::from)
}
