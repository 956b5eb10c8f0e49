//! What the messages of the streams hold: protobuf messages that never leave this module.

use std::{iter, mem};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use prost::Message;
use sha2::{Digest as _, Sha256};

use crate::storage::event_log::{Attributes, EventId, Item, StoredEvent};
use crate::storage::keyed_state::{Bucket, Put};
use crate::storage::leadership::PeerKey;

/// Which write a message came with, so that its writer knows it again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mark {
    /// The write.
    pub(super) write: [u8; 16],
    /// Which of its messages, from 0.
    pub(super) part: u32,
}

#[derive(Clone, PartialEq, Message)]
struct EventRecord {
    #[prost(bytes = "vec", tag = "1")]
    write: Vec<u8>,
    #[prost(uint32, tag = "2")]
    part: u32,
    #[prost(bytes = "vec", tag = "3")]
    id: Vec<u8>,
    #[prost(uint64, tag = "4")]
    append_ms: u64,
    #[prost(string, tag = "5")]
    event_type: String,
    #[prost(string, tag = "6")]
    phone_number_id: String,
    #[prost(string, tag = "7")]
    waba_id: String,
    #[prost(string, tag = "8")]
    conversation_key: String,
    #[prost(bytes = "bytes", tag = "9")]
    envelope: Bytes,
    #[prost(bytes = "bytes", tag = "10")]
    typed: Bytes,
    #[prost(bytes = "bytes", tag = "11")]
    raw: Bytes,
}

#[derive(Clone, PartialEq, Message)]
struct EntryRecord {
    #[prost(bytes = "vec", tag = "1")]
    write: Vec<u8>,
    #[prost(uint32, tag = "2")]
    part: u32,
    #[prost(string, tag = "3")]
    bucket: String,
    #[prost(bytes = "bytes", tag = "4")]
    key: Bytes,
    /// Absent in what stands for a deleted entry.
    #[prost(bytes = "bytes", optional, tag = "5")]
    value: Option<Bytes>,
    #[prost(uint64, optional, tag = "6")]
    expire_at_ms: Option<u64>,
    /// Entries that share the message; they have no write and no part of their own.
    #[prost(message, repeated, tag = "7")]
    others: Vec<EntryRecord>,
}

/// Who leads, as the state has it.
#[derive(Clone, PartialEq, Message)]
pub(super) struct TermRecord {
    /// Counts the leaders, from 1.
    #[prost(uint64, tag = "1")]
    pub(super) number: u64,
    /// The replica.
    #[prost(string, tag = "2")]
    pub(super) replica: String,
    /// The replica, for people.
    #[prost(string, tag = "3")]
    pub(super) name: String,
}

/// What the engine keeps in the state for itself.
#[derive(Debug, Clone, Default)]
pub(super) struct Meta {
    /// Up to where events were trimmed.
    pub(super) trimmed_through: u64,
    /// Who leads, or led last.
    pub(super) term: TermRecord,
    /// What replicas show each other.
    pub(super) peer_key: Option<[u8; PeerKey::BYTES]>,
}

impl Meta {
    /// Its bucket.
    pub(super) const BUCKET: Bucket = Bucket::named("engine");
    const TRIMMED_THROUGH: &[u8] = b"trimmed_through";
    const TERM: &[u8] = b"term";
    const PEER_KEY: &[u8] = b"peer_key";

    /// Takes in a write, if it is one of these.
    pub(super) fn note(&mut self, write: &EntryWrite) {
        let (true, Some(value)) = (write.bucket == Self::BUCKET.name(), &write.value) else { return };
        match &write.key[..] {
            Self::TRIMMED_THROUGH => {
                let through = value[..].try_into().map_or(0, u64::from_be_bytes);
                self.trimmed_through = self.trimmed_through.max(through);
            }
            Self::TERM => self.term = TermRecord::decode(value.clone()).unwrap_or_default(),
            Self::PEER_KEY => self.peer_key = value[..].try_into().ok(),
            _ => {}
        }
    }

    /// Says up to where events were trimmed.
    pub(super) fn put_trimmed_through(through: u64) -> Put {
        Self::put(Self::TRIMMED_THROUGH, Bytes::copy_from_slice(&through.to_be_bytes()))
    }

    /// Says who leads.
    pub(super) fn put_term(term: &TermRecord) -> Put {
        Self::put(Self::TERM, term.encode_to_vec().into())
    }

    /// Says what replicas show each other.
    pub(super) fn put_peer_key(key: &PeerKey) -> Put {
        Self::put(Self::PEER_KEY, Bytes::copy_from_slice(key.expose()))
    }

    fn put(key: &'static [u8], value: Bytes) -> Put {
        Put { bucket: Self::BUCKET, key: key.into(), value, expire_at_ms: None }
    }
}

/// An entry of the state, or the news that it is gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct EntryWrite {
    pub(super) bucket: String,
    pub(super) key: Bytes,
    /// `None` deletes.
    pub(super) value: Option<Bytes>,
    pub(super) expire_at_ms: Option<u64>,
    /// Whether its message has other entries too. Then that stays when the key is written again, until its entries have expired or it
    /// is compacted.
    pub(super) is_shared: bool,
}

impl EntryWrite {
    /// The bucket of what stands where a shared message was; no real one has this name.
    const EMPTIED: &str = "";

    /// Stands in the place of the shared message with that number, of which nothing is needed any more.
    pub(super) fn of_emptied(message: u64) -> Self {
        let key = Bytes::copy_from_slice(&message.to_be_bytes());
        Self { bucket: Self::EMPTIED.to_owned(), key, value: None, expire_at_ms: None, is_shared: false }
    }

    /// The number of the message in whose place it stands, if it does.
    pub(super) fn emptied(&self) -> Option<u64> {
        let number = (self.bucket == Self::EMPTIED).then_some(&self.key[..])?;
        number.try_into().ok().map(u64::from_be_bytes)
    }
}

/// The last part of an event's subject.
pub(super) fn event_token(id: &EventId) -> String {
    URL_SAFE_NO_PAD.encode(id)
}

/// The last parts of an entry's subject. Keys are personal data and of any bytes: the subject has their hash.
pub(super) fn entry_token(bucket: &str, key: &[u8]) -> String {
    let hash = Sha256::digest(key);
    format!("{bucket}.{}", URL_SAFE_NO_PAD.encode(hash.get(..20).unwrap_or_default()))
}

/// The last parts of the subject of entries that share a message of a write: one of its own, and of no bucket. A write may have a
/// message that lasts and one that does not.
pub(super) fn shared_token(is_lasting: bool, write: &[u8; 16]) -> String {
    let kind = if is_lasting { "LASTING" } else { "SHARED" };
    format!("{kind}.{}", URL_SAFE_NO_PAD.encode(write))
}

/// An event as a message.
pub(super) fn encode_event(mark: Mark, append_ms: u64, item: &Item) -> Bytes {
    let Attributes { event_type, phone_number_id, waba_id, conversation_key } = item.attributes.clone();
    let record = EventRecord {
        write: mark.write.to_vec(),
        part: mark.part,
        id: item.id.to_vec(),
        append_ms,
        event_type,
        phone_number_id,
        waba_id,
        conversation_key,
        envelope: item.envelope.clone(),
        typed: item.typed.clone(),
        raw: item.raw.clone(),
    };
    record.encode_to_vec().into()
}

/// The event of a message; `None` if it is none.
pub(super) fn decode_event(seq: u64, payload: Bytes) -> Option<(Mark, StoredEvent)> {
    let record = EventRecord::decode(payload).ok()?;
    let mark = Mark { write: record.write.try_into().ok()?, part: record.part };
    let EventRecord { event_type, phone_number_id, waba_id, conversation_key, .. } = record;
    let event = StoredEvent {
        seq,
        id: record.id.try_into().ok()?,
        append_ms: record.append_ms,
        attributes: Attributes { event_type, phone_number_id, waba_id, conversation_key },
        envelope: record.envelope,
        typed: record.typed,
        raw: record.raw,
    };
    Some((mark, event))
}

/// Writes of the state as one message.
pub(super) fn encode_entries(mark: Mark, entries: &[EntryWrite]) -> Bytes {
    let mut records = entries.iter().map(|entry| {
        let EntryWrite { bucket, key, value, expire_at_ms, .. } = entry.clone();
        EntryRecord { bucket, key, value, expire_at_ms, ..EntryRecord::default() }
    });
    let mut record = records.next().unwrap_or_default();
    (record.write, record.part, record.others) = (mark.write.to_vec(), mark.part, records.collect());
    record.encode_to_vec().into()
}

/// The writes of a message; `None` if it has none.
pub(super) fn decode_entries(payload: Bytes) -> Option<(Mark, Vec<EntryWrite>)> {
    let mut record = EntryRecord::decode(payload).ok()?;
    let mark = Mark { write: mem::take(&mut record.write).try_into().ok()?, part: record.part };
    let others = mem::take(&mut record.others);
    let is_shared = !others.is_empty();
    let entries = iter::once(record).chain(others).map(|record| {
        let EntryRecord { bucket, key, value, expire_at_ms, .. } = record;
        EntryWrite { bucket, key, value, expire_at_ms, is_shared }
    });
    Some((mark, entries.collect()))
}

/// A bucket's name as the records have it.
pub(super) fn bucket_name(bucket: Bucket) -> String {
    bucket.name().to_owned()
}
