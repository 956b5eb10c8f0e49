//! The event log port: an append-only, ordered, durable log of opaque events.
//!
//! Two engines stand behind it (embedded SQLite and NATS JetStream) and one contract suite holds both to the
//! words below. It knows bytes and attributes only: what an event means is decided above.

use std::fmt::{self, Debug, Formatter};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::watch;

use crate::domain::cursor::ENGINE_EMBEDDED;

/// Identity of an event: a hash of its dedupe key. Equal ids are the same event, whenever they arrive.
pub type EventId = [u8; 16];

/// What subscribers filter and route by. Stored beside the segments so that no segment is ever decoded for it.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Attributes {
    /// Dotted event type, such as `whatsapp.message.received`.
    pub event_type: String,
    /// Meta's id of the business number; empty for events of an account.
    pub phone_number_id: String,
    /// The WhatsApp Business Account; empty when the webhook did not say.
    pub waba_id: String,
    /// Ordering key. Personal data: it may hold a phone number.
    pub conversation_key: String,
}

impl Attributes {
    /// Bytes of text held.
    fn size_bytes(&self) -> usize {
        self.event_type.len() + self.phone_number_id.len() + self.waba_id.len() + self.conversation_key.len()
    }
}

impl Debug for Attributes {
    /// Leaves out the conversation key, which is personal data.
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.debug_struct("Attributes")
            .field("event_type", &self.event_type)
            .field("phone_number_id", &self.phone_number_id)
            .field("waba_id", &self.waba_id)
            .finish_non_exhaustive()
    }
}

/// One event to append. Its three segments are kept apart so that every view a subscriber may ask for is a
/// concatenation.
#[derive(Clone, PartialEq, Eq)]
pub struct Item {
    /// Hash of the dedupe key.
    pub id: EventId,
    /// What subscribers filter by.
    pub attributes: Attributes,
    /// Encoded fields that every view has.
    pub envelope: Bytes,
    /// Encoded typed payload.
    pub typed: Bytes,
    /// Encoded raw JSON fields.
    pub raw: Bytes,
}

impl Item {
    /// Bytes this item holds in memory, without the fixed cost of its fields.
    pub fn size_bytes(&self) -> usize {
        self.attributes.size_bytes() + self.envelope.len() + self.typed.len() + self.raw.len()
    }
}

impl Debug for Item {
    /// Shows sizes instead of content, which must not reach logs.
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.debug_struct("Item")
            .field("attributes", &self.attributes)
            .field("size_bytes", &self.size_bytes())
            .finish_non_exhaustive()
    }
}

/// One event as the log holds it. The segments are byte for byte those of the [`Item`].
#[derive(Clone, PartialEq, Eq)]
pub struct StoredEvent {
    /// Position in the log: from 1, strictly increasing, never used twice.
    pub seq: u64,
    /// Hash of the dedupe key.
    pub id: EventId,
    /// When the engine made it durable: Unix milliseconds. Never smaller than that of an earlier event, unless another replica
    /// appended that one at the same moment by another clock.
    pub append_ms: u64,
    /// What subscribers filter by.
    pub attributes: Attributes,
    /// Encoded fields that every view has.
    pub envelope: Bytes,
    /// Encoded typed payload.
    pub typed: Bytes,
    /// Encoded raw JSON fields.
    pub raw: Bytes,
}

impl StoredEvent {
    /// `item` at its place in the log.
    pub fn new(seq: u64, append_ms: u64, item: Item) -> Self {
        let Item { id, attributes, envelope, typed, raw } = item;
        Self { seq, id, append_ms, attributes, envelope, typed, raw }
    }

    /// Bytes this event holds in memory, without the fixed cost of its fields.
    pub fn size_bytes(&self) -> usize {
        self.attributes.size_bytes() + self.envelope.len() + self.typed.len() + self.raw.len()
    }
}

impl Debug for StoredEvent {
    /// Shows sizes instead of content, which must not reach logs.
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoredEvent")
            .field("seq", &self.seq)
            .field("append_ms", &self.append_ms)
            .field("attributes", &self.attributes)
            .field("size_bytes", &self.size_bytes())
            .finish_non_exhaustive()
    }
}

/// What became of one item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Appended {
    /// Stored at this position.
    New(u64),
    /// Already known; its first copy has (or, when trimmed, had) this position.
    Duplicate(u64),
}

impl Appended {
    /// The position of the event, new or not.
    pub fn seq(self) -> u64 {
        match self {
            Self::New(seq) | Self::Duplicate(seq) => seq,
        }
    }
}

/// How much one read may return. Engines cap both at their own page size; zero counts as one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadLimit {
    /// Events at most.
    pub events: usize,
    /// Bytes of segments and attributes at most; the first event is returned whatever its size.
    pub bytes: usize,
}

impl Default for ReadLimit {
    fn default() -> Self {
        Self { events: 256, bytes: 1024 * 1024 }
    }
}

/// The kept part of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// First kept position; `tail + 1` when nothing is kept.
    pub earliest: u64,
    /// Newest position ever given out; 0 before the first event.
    pub tail: u64,
}

/// Why the engine takes no appends and no growing state writes at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The configured size of the store is reached; `trim`, or a larger limit, helps.
    #[error("the store has reached its size limit")]
    SizeLimit,
    /// The disk is nearly or completely full.
    #[error("the disk of the store is nearly full")]
    DiskLow,
    /// The servers of the store cannot be reached, or have no majority.
    #[error("the store cannot be reached")]
    Away,
    /// A write could not be made durable. Permanent: the process must end and start again.
    #[error("the store failed and the process must restart")]
    Failed,
    /// The store was closed.
    #[error("the store is closed")]
    Closed,
}

/// Whether the engine takes appends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Acceptance {
    /// Appends are taken.
    Accepting,
    /// Appends fail with this refusal until the cause is gone.
    Refusing(Refusal),
}

/// Why a write to the log did not succeed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// Nothing was written; may be tried again once [`EventLog::watch_acceptance`] says so.
    #[error("not appended: {0}")]
    Refused(Refusal),
    /// The queue was full, or the answer took too long. Nothing is promised: the items may yet become durable, so
    /// the caller reports failure and whoever repeats them meets `Duplicate`.
    #[error("not appended: the store is overloaded")]
    Busy,
    /// The call is larger than the engine can ever take; repeating it is useless. Nothing was written.
    #[error("not appended: {bytes} bytes in one call, the limit is {bytes_max}")]
    TooLarge {
        /// Bytes in the call.
        bytes: usize,
        /// Bytes that one call may have.
        bytes_max: usize,
    },
    /// The disk failed. Nothing is promised, every later write fails too, and the process must end.
    #[error("not appended: the store failed and the process must restart")]
    Failed,
}

/// Why a read did not succeed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// Retention has removed the next event. Never skipped silently.
    #[error("events before {earliest} were trimmed")]
    Trimmed {
        /// First position that can still be read.
        earliest: u64,
    },
    /// The store was closed.
    #[error("the store is closed")]
    Closed,
    /// The engine could not read; the text is for the operator, not for callers.
    #[error("reading the store failed: {0}")]
    Failed(String),
}

/// An append-only, ordered, durable log of events.
#[async_trait]
pub trait EventLog: Send + Sync + Debug + 'static {
    /// Appends the items in their order, all or none, and says per item what became of it.
    ///
    /// Durable when it returns `Ok`. An id seen before, in an earlier call (for at least 8 days, even if the event was
    /// trimmed) or earlier in this one, is a `Duplicate` and adds nothing. No items: `Ok` of nothing.
    /// Dropping the future leaves open whether the items were written.
    async fn append(&self, items: Vec<Item>) -> Result<Vec<Appended>, AppendError>;

    /// The events that follow position `after`, oldest first and without a gap; at least one if there is one.
    ///
    /// Empty only when `after` is at (or beyond) the tail. Fails with `Trimmed` when `after + 1` is no longer kept.
    async fn read(&self, after: u64, limit: ReadLimit) -> Result<Vec<Arc<StoredEvent>>, ReadError>;

    /// The position behind which the first kept event stands that was appended at or after `unix_ms`. Where the times of events
    /// never go back, as with one process, everything behind it is as young.
    async fn seek_time(&self, unix_ms: u64) -> Result<u64, ReadError>;

    /// The newest position, updated after its event can be read. The value is never ahead of `read`.
    fn watch_tail(&self) -> watch::Receiver<u64>;

    /// First kept and newest position.
    async fn bounds(&self) -> Result<Bounds, ReadError>;

    /// Makes readable here what was appended before the call, by whichever process: afterwards [`EventLog::bounds`] tells the
    /// true end. `Failed` if that end cannot be learnt within two seconds. Nothing to do where one process alone appends.
    async fn catch_up(&self) -> Result<(), ReadError> {
        Ok(())
    }

    /// Deletes the events appended before `appended_before_ms`, oldest first, and returns how many. Works while
    /// appends are refused. On an error, part of them may be gone; calling again goes on.
    async fn trim(&self, appended_before_ms: u64) -> Result<u64, AppendError>;

    /// Which engine it is, as cursors say it: one of those in `domain::cursor`.
    fn engine(&self) -> u8 {
        ENGINE_EMBEDDED
    }

    /// Identity of this log: random at creation, then constant. A position means nothing under another epoch.
    fn epoch(&self) -> [u8; 8];

    /// Whether appends are taken, and why not.
    fn watch_acceptance(&self) -> watch::Receiver<Acceptance>;
}
