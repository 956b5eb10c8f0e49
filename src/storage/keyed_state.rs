//! The keyed state port: small values under keys, with compare-and-set and expiry.
//!
//! Claims need its preconditions, projections of the log its ordered bulk writes. It knows bytes only.

use std::fmt::{self, Debug, Formatter};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use super::event_log::{AppendError, Refusal};

/// Bytes that one value may have at most.
pub const VALUE_BYTES_MAX: usize = 1024 * 1024;

/// Bytes that one key may have at most.
pub const KEY_BYTES_MAX: usize = 512;

/// A named set of keys. Buckets are constants of the code, so that their number is bounded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bucket {
    name: &'static str,
    is_vital: bool,
    is_advancing: bool,
}

impl Bucket {
    /// The bucket of that name: 1 to 32 characters of `a-z`, `0-9` and `_`, which every engine can store.
    ///
    /// # Panics
    /// When the name is not of that form; in a `const`, that is a compile error.
    pub const fn named(name: &'static str) -> Self {
        let mut bytes = name.as_bytes();
        assert!(!bytes.is_empty() && bytes.len() <= 32, "a bucket name has 1 to 32 characters");
        while let [first, rest @ ..] = bytes {
            assert!(matches!(first, b'a'..=b'z' | b'0'..=b'9' | b'_'), "a bucket name is a-z, 0-9 and _");
            bytes = rest;
        }
        Self { name, is_vital: false, is_advancing: false }
    }

    /// The same, for what must be written also without room for more: by that, what is there comes to its end. Who writes
    /// into it keeps it small. An entry that is new ([`Precondition::Absent`]) needs room all the same.
    #[must_use]
    pub const fn vital(self) -> Self {
        Self { is_vital: true, ..self }
    }

    /// The same, for entries that are put by [`KeyedState::put_all`] alone, replaced by ones that expire as late or later, and not
    /// deleted before they expire. So an engine may leave about what was replaced, and lets what is put earlier expire no earlier.
    #[must_use]
    pub const fn advancing(self) -> Self {
        Self { is_advancing: true, ..self }
    }

    /// As [`Bucket::advancing`] says.
    pub(super) const fn is_advancing(self) -> bool {
        self.is_advancing
    }

    /// The name.
    pub const fn name(self) -> &'static str {
        self.name
    }
}

/// A value and its revision.
#[derive(Clone, PartialEq, Eq)]
pub struct Entry {
    /// What was put.
    pub value: Bytes,
    /// Changes with every write and never returns, not even after a delete.
    pub revision: u64,
}

impl Debug for Entry {
    /// Shows the size instead of the value, which may be personal data.
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entry")
            .field("value_bytes", &self.value.len())
            .field("revision", &self.revision)
            .finish()
    }
}

/// One value to write.
#[derive(Clone, PartialEq, Eq)]
pub struct Put {
    /// Where.
    pub bucket: Bucket,
    /// At most [`KEY_BYTES_MAX`].
    pub key: Bytes,
    /// At most [`VALUE_BYTES_MAX`].
    pub value: Bytes,
    /// Unix milliseconds from which on the entry is absent; `None` keeps it for ever.
    pub expire_at_ms: Option<u64>,
}

impl Put {
    /// Whether it is refused while there is no room.
    pub(super) fn grows(&self, precondition: Precondition) -> bool {
        !self.bucket.is_vital || precondition == Precondition::Absent
    }

    /// Refuses a key or a value that no engine takes.
    pub(super) fn check_size(&self) -> Result<(), StateError> {
        for (bytes, bytes_max) in [(self.key.len(), KEY_BYTES_MAX), (self.value.len(), VALUE_BYTES_MAX)] {
            if bytes > bytes_max {
                return Err(StateError::TooLarge { bytes, bytes_max });
            }
        }
        Ok(())
    }
}

impl Debug for Put {
    /// Shows sizes instead of key and value, which may be personal data.
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.debug_struct("Put")
            .field("bucket", &self.bucket.name())
            .field("key_bytes", &self.key.len())
            .field("value_bytes", &self.value.len())
            .field("expire_at_ms", &self.expire_at_ms)
            .finish()
    }
}

/// What must hold for a write to happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Precondition {
    /// Anything.
    None,
    /// No entry, or an expired one.
    Absent,
    /// An entry of exactly this revision.
    Revision(u64),
}

/// What is written together with an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Beside {
    /// Another entry, without a precondition.
    Put(Put),
    /// The entry under this key goes.
    Delete(Bucket, Bytes),
}

/// Why an operation on the state did not succeed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StateError {
    /// The precondition does not hold. Nothing was written.
    #[error("the entry is not what the write expects")]
    Conflict {
        /// The entry that stands there, so that the loser of a race need not read again.
        current: Option<Entry>,
    },
    /// Nothing was written; growing writes are refused, deletes and those to [`Bucket::vital`] are not, unless the disk is
    /// full to its end.
    #[error("not written: {0}")]
    Refused(Refusal),
    /// The queue was full or stayed blocked for too long. Nothing was written.
    #[error("not written: the store is overloaded")]
    Busy,
    /// A key, a value or the whole call is over its limit. Nothing was written; repeating is useless.
    #[error("not written: {bytes} bytes, the limit is {bytes_max}")]
    TooLarge {
        /// Bytes found.
        bytes: usize,
        /// Bytes allowed.
        bytes_max: usize,
    },
    /// The disk failed: whether it was written is unknown, every later write fails, the process must end.
    #[error("not written: the store failed and the process must restart")]
    Failed,
    /// Reading failed; the text is for the operator, not for callers.
    #[error("reading the store failed: {0}")]
    Unreadable(String),
}

impl From<AppendError> for StateError {
    fn from(error: AppendError) -> Self {
        match error {
            AppendError::Refused(refusal) => Self::Refused(refusal),
            AppendError::Busy => Self::Busy,
            AppendError::TooLarge { bytes, bytes_max } => Self::TooLarge { bytes, bytes_max },
            AppendError::Failed => Self::Failed,
        }
    }
}

/// Values under keys, with compare-and-set and expiry.
///
/// An expired entry is absent for every operation from its time on, whether or not it was swept. Writes are
/// durable when they return, and a read that starts afterwards sees them. Dropping the future of a write leaves
/// open whether it happened.
#[async_trait]
pub trait KeyedState: Send + Sync + Debug + 'static {
    /// The entry under `key`.
    async fn get(&self, bucket: Bucket, key: &[u8]) -> Result<Option<Entry>, StateError>;

    /// The entries under `keys`, in their order, read at one moment.
    async fn get_many(&self, bucket: Bucket, keys: &[Bytes]) -> Result<Vec<Option<Entry>>, StateError>;

    /// Writes one entry if `precondition` holds and returns its revision; else `Conflict`.
    async fn put(&self, put: Put, precondition: Precondition) -> Result<u64, StateError>;

    /// As [`KeyedState::put`], together with something else. An engine that cannot write both at one moment writes what is put
    /// beside it before and deletes after, so that an error or a crash leaves the former without the entry, or the latter
    /// undeleted, and never the other way round.
    async fn put_beside(
        &self,
        put: Put,
        precondition: Precondition,
        beside: Beside,
    ) -> Result<u64, StateError> {
        match beside {
            Beside::Put(other) => {
                self.put(other, Precondition::None).await?;
                self.put(put, precondition).await
            }
            Beside::Delete(bucket, key) => {
                let revision = self.put(put, precondition).await?;
                self.delete(bucket, &key, Precondition::None).await?;
                Ok(revision)
            }
        }
    }

    /// Writes all entries in order, without preconditions. After an error or a crash a prefix of them may be
    /// visible, never anything else: a projection puts its position last. For writes that may be repeated.
    async fn put_all(&self, puts: Vec<Put>) -> Result<(), StateError>;

    /// Deletes one entry if `precondition` holds and tells whether there was one; else `Conflict`. Works while
    /// growing writes are refused.
    async fn delete(
        &self,
        bucket: Bucket,
        key: &[u8],
        precondition: Precondition,
    ) -> Result<bool, StateError>;

    /// Entries in byte order of their keys, from the first key greater than `after_key`. May stop before `limit`
    /// entries (zero counts as one) to bound memory; only an empty page is the end.
    async fn scan(
        &self,
        bucket: Bucket,
        after_key: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<(Bytes, Entry)>, StateError>;

    /// What is needed where several processes write; `None` for a store of one process.
    fn claims(&self) -> Option<&dyn Claims> {
        None
    }

    /// Deletes what has expired and returns how many entries that were. Only frees space: readers are not affected.
    async fn sweep(&self) -> Result<u64, StateError>;
}

/// Entries that one call of [`Claims::claim`] may have.
pub const CLAIMS_MAX: usize = 256;

/// Agreement between processes that choose something for the same keys at the same moment. Keys that are claimed are written by
/// claims alone.
#[async_trait]
pub trait Claims: Send + Sync {
    /// Writes all these keys and values at one moment, for `kept`, if none of the keys is there; else nothing. Tells which. After
    /// a no the entry that stands there can be read. At most [`CLAIMS_MAX`]; without an answer in 3 s it is `Busy`, and may yet be
    /// written.
    async fn claim(
        &self,
        bucket: Bucket,
        entries: Vec<(Bytes, Bytes)>,
        kept: Duration,
    ) -> Result<bool, StateError>;
}
