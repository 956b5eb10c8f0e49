//! How what is known of a message is stored.

use std::time::{Duration, SystemTime};

use prost::Message;

use crate::clock::unix_ms;
use crate::domain::event::MessageError;
use crate::domain::message::SendTag;
use crate::domain::message_state::{MessageLife, MessageState};

/// Bytes of each text of an error. A text of Meta's has no limit, a stored value has.
const ERROR_TEXT_BYTES_MAX: usize = 1024;

/// What is known of a message that the business sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MessageRecord {
    /// The states that its statuses report, by Meta's clock.
    pub life: MessageLife,
    /// Its conversation.
    pub conversation_key: String,
    /// The send that it came of; `None` for messages that another application sent.
    pub send_tag: Option<SendTag>,
}

impl MessageRecord {
    /// Everything that either knows.
    #[must_use]
    pub fn merge(self, other: Self) -> Self {
        Self {
            life: self.life.merge(other.life),
            conversation_key: self.conversation_key,
            send_tag: self.send_tag.or(other.send_tag),
        }
    }

    /// When the last of its states was reached.
    pub(super) fn last_time(&self) -> Option<SystemTime> {
        self.life.reached().map(|(_, time)| time).max()
    }
}

/// The stored form, behind the version digit 2. Times are Unix milliseconds.
#[derive(Clone, PartialEq, Message)]
struct Stored {
    #[prost(uint64, optional, tag = "1")]
    sent: Option<u64>,
    #[prost(uint64, optional, tag = "2")]
    delivered: Option<u64>,
    #[prost(uint64, optional, tag = "3")]
    read: Option<u64>,
    #[prost(uint64, optional, tag = "4")]
    played: Option<u64>,
    #[prost(uint64, optional, tag = "5")]
    failed: Option<u64>,
    #[prost(string, tag = "6")]
    conversation_key: String,
    #[prost(string, tag = "7")]
    send_tag: String,
    #[prost(message, optional, tag = "8")]
    error: Option<StoredError>,
}

#[derive(Clone, PartialEq, Message)]
struct StoredError {
    #[prost(int64, tag = "1")]
    code: i64,
    #[prost(string, tag = "2")]
    title: String,
    #[prost(string, tag = "3")]
    details: String,
}

const VERSION: u8 = b'2';

pub(super) fn encode(record: &MessageRecord) -> Vec<u8> {
    let time = |wanted| record.life.reached().find(|(state, _)| *state == wanted).map(|(_, t)| unix_ms(t));
    let error = record.life.error().map(|error| StoredError {
        code: error.code,
        title: bounded(&error.title),
        details: bounded(&error.details),
    });
    let stored = Stored {
        sent: time(MessageState::Sent),
        delivered: time(MessageState::Delivered),
        read: time(MessageState::Read),
        played: time(MessageState::Played),
        failed: time(MessageState::Failed),
        conversation_key: record.conversation_key.clone(),
        send_tag: record.send_tag.as_ref().map(|tag| tag.as_str().to_owned()).unwrap_or_default(),
        error,
    };
    let mut value = vec![VERSION];
    value.extend(stored.encode_to_vec());
    value
}

/// Reads this version and the one before; values of a later one count as absent.
pub(super) fn decode(value: &[u8]) -> Option<MessageRecord> {
    match value.split_first()? {
        (&VERSION, rest) => Some(from_stored(Stored::decode(rest).ok()?)),
        (b'1', rest) => from_text(std::str::from_utf8(rest).ok()?),
        _ => None,
    }
}

fn from_stored(stored: Stored) -> MessageRecord {
    let error =
        stored.error.map(|StoredError { code, title, details }| MessageError { code, title, details });
    let reached = [
        (MessageState::Sent, stored.sent),
        (MessageState::Delivered, stored.delivered),
        (MessageState::Read, stored.read),
        (MessageState::Played, stored.played),
        (MessageState::Failed, stored.failed),
    ];
    let lives =
        reached.into_iter().filter_map(|(state, ms)| Some(MessageLife::at(state, at(ms?), error.clone())));
    MessageRecord {
        life: lives.fold(MessageLife::default(), MessageLife::merge),
        conversation_key: stored.conversation_key,
        send_tag: SendTag::parse(&stored.send_tag).ok(),
    }
}

/// Version 1: the furthest state, its time and the conversation, with spaces between.
fn from_text(text: &str) -> Option<MessageRecord> {
    let (state, rest) = text.split_once(' ')?;
    let (time, conversation_key) = rest.split_once(' ')?;
    Some(MessageRecord {
        life: MessageLife::at(MessageState::from_status(state)?, at(time.parse().ok()?), None),
        conversation_key: conversation_key.to_owned(),
        send_tag: None,
    })
}

fn at(unix_ms: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_millis(unix_ms)
}

fn bounded(text: &str) -> String {
    text[..text.floor_char_boundary(ERROR_TEXT_BYTES_MAX)].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(error: Option<&MessageError>) -> MessageRecord {
        let life = |(seconds, state): (u64, _)| MessageLife::at(state, at(seconds * 1000), error.cloned());
        let states = [MessageState::Sent, MessageState::Failed, MessageState::Delivered, MessageState::Read];
        MessageRecord {
            life: (1_750_030_073..).zip(states).map(life).fold(MessageLife::default(), MessageLife::merge),
            conversation_key: "106540352242922:16505551234".to_owned(),
            send_tag: SendTag::parse("AZ3kq0p2cXKkzqv1b5c-_w").ok(),
        }
    }

    #[test]
    fn a_record_comes_back_as_it_was_stored() {
        let error =
            MessageError { code: 131_047, title: "Re-engagement".to_owned(), details: "24 h".to_owned() };
        for record in [record(None), record(Some(&error))] {
            let value = encode(&record);
            assert_eq!(decode(&value), Some(record));
            assert!(value.len() < 160, "{} bytes", value.len());
        }
    }

    #[test]
    fn values_of_version_1_are_read_and_later_ones_are_not() {
        let old = decode(b"1delivered 1750030074000 106540352242922:16505551234").unwrap();
        assert_eq!(old.life, MessageLife::at(MessageState::Delivered, at(1_750_030_074_000), None));
        assert_eq!((old.conversation_key.as_str(), old.send_tag), ("106540352242922:16505551234", None));
        for foreign in ["", "1", "1paid 1 k", "1sent noon k", "2\u{ff}", "3sent 1 k"] {
            assert_eq!(decode(foreign.as_bytes()), None, "{foreign:?}");
        }
    }

    #[test]
    fn an_endless_error_does_not_become_an_endless_value() {
        let text = "é".repeat(1_000_000);
        let error = MessageError { code: 1, title: text.clone(), details: format!("x{text}") };
        let stored = decode(&encode(&record(Some(&error)))).unwrap();
        let error = stored.life.error().unwrap();
        assert_eq!((error.title.len(), error.details.len()), (1024, 1023));
    }
}
