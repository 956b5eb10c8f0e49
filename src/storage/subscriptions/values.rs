//! The stored forms. None of them leaves this room.

use std::time::Duration;

use bytes::Bytes;
use prost::Message;

use crate::domain::filter::EventFilter;
use crate::domain::subscription::{Candidate, Cause, Hole, Mode, Progress, Terms};
use crate::storage::event_log::{Attributes, Item, StoredEvent};

use super::{ParkedHead, Settings};

const VERSION: u8 = 1;
/// Between owner and name in a key; neither has it.
const SEPARATOR: u8 = 0;

#[derive(Clone, PartialEq, Message)]
struct StoredSettings {
    #[prost(bytes = "vec", tag = "1")]
    id: Vec<u8>,
    #[prost(string, repeated, tag = "2")]
    phone_number_ids: Vec<String>,
    #[prost(string, repeated, tag = "3")]
    waba_ids: Vec<String>,
    #[prost(string, repeated, tag = "4")]
    types: Vec<String>,
    #[prost(string, repeated, tag = "5")]
    conversation_keys: Vec<String>,
    /// 1 ordered, 2 shared, 3 exclusive.
    #[prost(uint32, tag = "6")]
    mode: u32,
    #[prost(uint64, tag = "7")]
    ack_deadline_ms: u64,
    #[prost(uint64, tag = "8")]
    retry_delay_min_ms: u64,
    #[prost(uint64, tag = "9")]
    retry_delay_max_ms: u64,
    #[prost(uint32, tag = "10")]
    attempts_max: u32,
    #[prost(uint64, tag = "11")]
    create_ms: u64,
}

#[derive(Clone, PartialEq, Message)]
struct StoredProgress {
    #[prost(uint64, tag = "1")]
    through: u64,
    #[prost(uint64, tag = "2")]
    missed: u64,
    /// The first hole.
    #[prost(uint64, tag = "3")]
    first: u64,
    /// Of each hole, how far it is behind the one before.
    #[prost(uint64, repeated, tag = "4")]
    steps: Vec<u64>,
    #[prost(uint32, repeated, tag = "5")]
    attempts: Vec<u32>,
    #[prost(uint64, repeated, tag = "6")]
    due_ms: Vec<u64>,
}

#[derive(Clone, PartialEq, Message)]
struct StoredHead {
    #[prost(uint64, tag = "1")]
    seq: u64,
    #[prost(fixed64, tag = "2")]
    key: u64,
    #[prost(uint64, tag = "3")]
    bytes: u64,
    #[prost(uint64, tag = "4")]
    append_ms: u64,
    #[prost(bytes = "vec", tag = "5")]
    event_id: Vec<u8>,
    #[prost(uint32, tag = "6")]
    attempts: u32,
    #[prost(bool, tag = "7")]
    is_by_worker: bool,
    #[prost(string, tag = "8")]
    reason: String,
    #[prost(uint64, tag = "9")]
    park_ms: u64,
    #[prost(bool, tag = "10")]
    is_replaying: bool,
}

#[derive(Clone, PartialEq, Message)]
struct StoredBody {
    #[prost(bytes = "vec", tag = "1")]
    id: Vec<u8>,
    #[prost(uint64, tag = "2")]
    append_ms: u64,
    #[prost(string, tag = "3")]
    event_type: String,
    #[prost(string, tag = "4")]
    phone_number_id: String,
    #[prost(string, tag = "5")]
    waba_id: String,
    #[prost(string, tag = "6")]
    conversation_key: String,
    #[prost(bytes = "bytes", tag = "7")]
    envelope: Bytes,
    #[prost(bytes = "bytes", tag = "8")]
    typed: Bytes,
    #[prost(bytes = "bytes", tag = "9")]
    raw: Bytes,
}

pub(super) fn settings_entry(settings: &Settings) -> (Vec<u8>, Vec<u8>) {
    let Settings { owner, name, id, filter, terms, create_ms } = settings.clone();
    let EventFilter { phone_number_ids, waba_ids, types, conversation_keys, scope: _ } = filter;
    let key = [owner.as_bytes(), &[SEPARATOR], name.as_bytes()].concat();
    let mode = match terms.mode {
        Mode::Ordered => 1,
        Mode::Shared => 2,
        Mode::Exclusive => 3,
    };
    let stored = StoredSettings {
        id: id.to_vec(),
        phone_number_ids,
        waba_ids,
        types,
        conversation_keys,
        mode,
        ack_deadline_ms: ms(terms.ack_deadline),
        retry_delay_min_ms: ms(terms.retry_delay_min),
        retry_delay_max_ms: ms(terms.retry_delay_max),
        attempts_max: terms.attempts_max,
        create_ms,
    };
    (key, value(&stored))
}

/// For people, also of a key that is damaged.
pub(super) fn settings_name(key: &[u8]) -> String {
    let text = String::from_utf8_lossy(key);
    let (owner, name) = text.split_once(char::from(SEPARATOR)).unwrap_or((&text, ""));
    format!("subscription {name:?} of caller {owner:?}: its settings")
}

pub(super) fn settings(key: &[u8], value: &[u8]) -> Option<Settings> {
    let stored: StoredSettings = read(value)?;
    let mut parts = key.splitn(2, |byte| *byte == SEPARATOR);
    let mut part = || Some(std::str::from_utf8(parts.next()?).ok()?.to_owned());
    let StoredSettings { phone_number_ids, waba_ids, types, conversation_keys, .. } = stored;
    Some(Settings {
        owner: part()?,
        name: part()?,
        id: stored.id.try_into().ok()?,
        filter: EventFilter { phone_number_ids, waba_ids, types, conversation_keys, scope: None },
        terms: Terms {
            mode: match stored.mode {
                1 => Mode::Ordered,
                2 => Mode::Shared,
                3 => Mode::Exclusive,
                _ => return None,
            },
            ack_deadline: Duration::from_millis(stored.ack_deadline_ms),
            retry_delay_min: Duration::from_millis(stored.retry_delay_min_ms),
            retry_delay_max: Duration::from_millis(stored.retry_delay_max_ms),
            attempts_max: stored.attempts_max,
        },
        create_ms: stored.create_ms,
    })
}

pub(super) fn progress_value(progress: &Progress) -> Vec<u8> {
    let holes = &progress.holes;
    let mut before = holes.first().map_or(0, |hole| hole.seq);
    let first = before;
    let steps = holes.iter().map(|hole| hole.seq - std::mem::replace(&mut before, hole.seq)).collect();
    value(&StoredProgress {
        through: progress.through,
        missed: progress.missed,
        first,
        steps,
        attempts: holes.iter().map(|hole| hole.attempts).collect(),
        due_ms: holes.iter().map(|hole| hole.due_ms).collect(),
    })
}

pub(super) fn progress(value: &[u8]) -> Option<Progress> {
    let stored: StoredProgress = read(value)?;
    let mut seq = stored.first;
    let numbers = stored.attempts.iter().zip(&stored.due_ms);
    let holes = stored.steps.iter().zip(numbers).map(|(step, (attempts, due_ms))| {
        seq += step;
        Hole { seq, attempts: *attempts, due_ms: *due_ms }
    });
    Some(Progress { through: stored.through, holes: holes.collect(), missed: stored.missed })
}

pub(super) fn head_value(head: &ParkedHead) -> Vec<u8> {
    let Candidate { seq, key, bytes, append_ms } = head.candidate;
    value(&StoredHead {
        seq,
        key,
        bytes,
        append_ms,
        event_id: head.event_id.to_vec(),
        attempts: head.attempts,
        is_by_worker: head.cause == Cause::Worker,
        reason: head.reason.clone(),
        park_ms: head.park_ms,
        is_replaying: head.is_replaying,
    })
}

pub(super) fn head(value: &[u8]) -> Option<ParkedHead> {
    let stored: StoredHead = read(value)?;
    let StoredHead { seq, key, bytes, append_ms, attempts, park_ms, is_replaying, .. } = stored;
    Some(ParkedHead {
        candidate: Candidate { seq, key, bytes, append_ms },
        event_id: stored.event_id.try_into().ok()?,
        attempts,
        cause: if stored.is_by_worker { Cause::Worker } else { Cause::AttemptsExhausted },
        reason: stored.reason,
        park_ms,
        is_replaying,
    })
}

pub(super) fn body_value(event: &StoredEvent) -> Vec<u8> {
    let StoredEvent { seq: _, id, append_ms, attributes, envelope, typed, raw } = event.clone();
    let Attributes { event_type, phone_number_id, waba_id, conversation_key } = attributes;
    let id = id.to_vec();
    value(&StoredBody {
        id,
        append_ms,
        event_type,
        phone_number_id,
        waba_id,
        conversation_key,
        envelope,
        typed,
        raw,
    })
}

pub(super) fn body(seq: u64, value: &[u8]) -> Option<StoredEvent> {
    let stored: StoredBody = read(value)?;
    let StoredBody { event_type, phone_number_id, waba_id, conversation_key, .. } = stored;
    let attributes = Attributes { event_type, phone_number_id, waba_id, conversation_key };
    let (envelope, typed, raw) = (stored.envelope, stored.typed, stored.raw);
    let item = Item { id: stored.id.try_into().ok()?, attributes, envelope, typed, raw };
    Some(StoredEvent::new(seq, stored.append_ms, item))
}

fn value(stored: &impl Message) -> Vec<u8> {
    let mut value = vec![VERSION];
    value.extend(stored.encode_to_vec());
    value
}

/// `None` for what this version cannot read.
fn read<M: Message + Default>(value: &[u8]) -> Option<M> {
    let (version, value) = value.split_first()?;
    M::decode(value).ok().filter(|_| *version == VERSION)
}

fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::contract;

    #[test]
    fn everything_is_read_as_it_was_written() {
        let settings = Settings {
            owner: "orders".to_owned(),
            name: "main".to_owned(),
            id: [7; 8],
            filter: EventFilter { types: vec!["whatsapp.*".to_owned()], ..EventFilter::default() },
            terms: Terms {
                mode: Mode::Exclusive,
                ack_deadline: Duration::from_secs(30),
                retry_delay_min: Duration::ZERO,
                retry_delay_max: Duration::from_millis(1),
                attempts_max: 10,
            },
            create_ms: 5,
        };
        let (key, value) = settings_entry(&settings);
        assert_eq!(super::settings(&key, &value), Some(settings));
        let hole = |seq| Hole { seq, attempts: 2, due_ms: seq * 1000 };
        for holes in [vec![], vec![hole(3)], vec![hole(3), hole(4), hole(900)]] {
            let progress = Progress { through: 1000, holes, missed: 4 };
            assert_eq!(super::progress(&progress_value(&progress)), Some(progress));
        }
        let event = StoredEvent::new(9, 77, contract::item(1));
        assert_eq!(body(9, &body_value(&event)), Some(event));
        let head = ParkedHead {
            candidate: Candidate { seq: 9, key: u64::MAX, bytes: 3, append_ms: 77 },
            event_id: [1; 16],
            attempts: 10,
            cause: Cause::Worker,
            reason: "no stock".to_owned(),
            park_ms: 78,
            is_replaying: true,
        };
        assert_eq!(super::head(&head_value(&head)), Some(head));
        assert_eq!(super::head(&[2]), None);
    }
}
