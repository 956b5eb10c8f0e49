//! The templates that wait for a message to fail, under the tag of its send.
//!
//! A value is a version byte and a protobuf message that never leaves this module.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use prost::Message;

use crate::clock::unix_ms;
use crate::domain::ids::{BusinessScopedUserId, PhoneNumberId};
use crate::domain::message::{Endpoint, PhoneNumber, PreparedMessage, Recipient, SendTag};

use super::keyed_state::{Bucket, Entry, KeyedState, Precondition, Put, StateError};

const FALLBACKS: Bucket = Bucket::named("fallbacks");
/// How long a template waits for its message to fail, and how long one whose turn came may take. What Meta reports
/// later is no longer news to the user.
pub const FALLBACK_KEPT: Duration = Duration::from_hours(24);
const VERSION: u8 = 1;
const PAGE: usize = 1_000;

/// The notes over the keyed state.
#[derive(Debug, Clone)]
pub struct FallbackNotes {
    state: Arc<dyn KeyedState>,
}

/// A template that is to go out if its message fails.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FallbackNote {
    /// The template; it goes to a user, by the Cloud API's endpoint.
    pub message: PreparedMessage,
    /// When the message was sent that it would replace; the note is forgotten [`FALLBACK_KEPT`] later.
    pub created: SystemTime,
    /// How far it has come.
    pub progress: FallbackProgress,
}

/// A message that failed because of the window.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailedMessage {
    /// Meta's id.
    pub id: String,
    /// The conversation.
    pub conversation_key: String,
}

/// How far a fallback has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FallbackProgress {
    /// The message has not failed.
    Waiting,
    /// The message has failed; nothing went out for it.
    Due(FailedMessage),
    /// The same; the template is being sent and may have gone out.
    Sending(FailedMessage),
}

#[derive(Clone, PartialEq, Message)]
struct Stored {
    #[prost(string, tag = "1")]
    phone_number_id: String,
    /// Digits, or a user id.
    #[prost(string, tag = "2")]
    recipient: String,
    #[prost(string, tag = "3")]
    json: String,
    #[prost(uint64, tag = "4")]
    created_ms: u64,
    /// Absent while it waits.
    #[prost(string, optional, tag = "5")]
    failed_message_id: Option<String>,
    #[prost(string, tag = "6")]
    conversation_key: String,
    #[prost(bool, tag = "7")]
    is_sending: bool,
}

impl FallbackNotes {
    /// Over this state.
    pub fn new(state: Arc<dyn KeyedState>) -> Self {
        Self { state }
    }

    /// Writes a note. With a revision, only if the stored one has it; returns the new revision.
    pub async fn put(
        &self,
        tag: &SendTag,
        note: &FallbackNote,
        revision: Option<u64>,
    ) -> Result<u64, StateError> {
        let precondition = revision.map_or(Precondition::Absent, Precondition::Revision);
        let put = Put {
            bucket: FALLBACKS,
            key: Bytes::copy_from_slice(tag.as_str().as_bytes()),
            value: encode(note),
            expire_at_ms: Some(unix_ms(note.created + FALLBACK_KEPT)),
        };
        self.state.put(put, precondition).await
    }

    /// The note of a send and its revision.
    pub async fn get(&self, tag: &SendTag) -> Result<Option<(FallbackNote, u64)>, StateError> {
        let entry = self.state.get(FALLBACKS, tag.as_str().as_bytes()).await?;
        Ok(entry.as_ref().and_then(|entry| Some((decode(entry)?, entry.revision))))
    }

    /// Forgets a note.
    pub async fn delete(&self, tag: &SendTag) -> Result<(), StateError> {
        self.state.delete(FALLBACKS, tag.as_str().as_bytes(), Precondition::None).await.map(|_| ())
    }

    /// Every note, with its revision.
    pub async fn all(&self) -> Result<Vec<(SendTag, FallbackNote, u64)>, StateError> {
        let mut all = Vec::new();
        let mut after: Option<Bytes> = None;
        loop {
            let page = self.state.scan(FALLBACKS, after.as_deref(), PAGE).await?;
            let Some((last, _)) = page.last() else { return Ok(all) };
            after = Some(last.clone());
            all.extend(page.iter().filter_map(|(key, entry)| {
                let tag = SendTag::parse(std::str::from_utf8(key).ok()?).ok()?;
                Some((tag, decode(entry)?, entry.revision))
            }));
        }
    }
}

fn encode(note: &FallbackNote) -> Bytes {
    let (failed, is_sending) = match note.progress.clone() {
        FallbackProgress::Waiting => (None, false),
        FallbackProgress::Due(failed) => (Some(failed), false),
        FallbackProgress::Sending(failed) => (Some(failed), true),
    };
    let (failed_message_id, conversation_key) =
        failed.map(|failed| (failed.id, failed.conversation_key)).unzip();
    let stored = Stored {
        phone_number_id: note.message.phone_number_id.to_string(),
        recipient: match &note.message.recipient {
            Recipient::PhoneNumber(number) => number.digits().to_owned(),
            Recipient::User(user_id) => user_id.expose().to_owned(),
            Recipient::Group(group) => group.as_str().to_owned(),
        },
        json: note.message.json.clone(),
        created_ms: unix_ms(note.created),
        failed_message_id,
        conversation_key: conversation_key.unwrap_or_default(),
        is_sending,
    };
    let mut value = vec![VERSION];
    value.extend(stored.encode_to_vec());
    value.into()
}

/// `None` for what this version cannot read.
fn decode(entry: &Entry) -> Option<FallbackNote> {
    let (version, value) = entry.value.split_first()?;
    let stored = Stored::decode(value).ok().filter(|_| *version == VERSION)?;
    let by_number = PhoneNumber::parse(&stored.recipient).ok().map(Recipient::PhoneNumber);
    let by_id = || BusinessScopedUserId::parse(&stored.recipient).ok().map(Recipient::User);
    let conversation_key = stored.conversation_key.clone();
    let failed = stored.failed_message_id.clone().map(|id| FailedMessage { id, conversation_key });
    Some(FallbackNote {
        message: PreparedMessage {
            phone_number_id: PhoneNumberId::parse(&stored.phone_number_id).ok()?,
            recipient: by_number.or_else(by_id)?,
            endpoint: Endpoint::Messages,
            json: stored.json,
        },
        created: SystemTime::UNIX_EPOCH + Duration::from_millis(stored.created_ms),
        progress: match (failed, stored.is_sending) {
            (None, _) => FallbackProgress::Waiting,
            (Some(failed), false) => FallbackProgress::Due(failed),
            (Some(failed), true) => FallbackProgress::Sending(failed),
        },
    })
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;
    use crate::clock::ManualClock;
    use crate::storage::memory::Memory;

    fn note(recipient: Recipient, progress: FallbackProgress) -> FallbackNote {
        FallbackNote {
            message: PreparedMessage {
                phone_number_id: PhoneNumberId::parse("1065").unwrap(),
                recipient,
                endpoint: Endpoint::Messages,
                json: "{}".to_owned(),
            },
            created: UNIX_EPOCH + Duration::from_secs(1_750_000_000),
            progress,
        }
    }

    #[tokio::test]
    async fn a_note_is_read_as_it_was_written_and_forgotten_in_time() {
        let by_number = Recipient::PhoneNumber(PhoneNumber::parse("+16505551234").unwrap());
        let by_id = Recipient::User(BusinessScopedUserId::parse("US.13").unwrap());
        let failed = FailedMessage { id: String::new(), conversation_key: "1065:US.13".to_owned() };
        let notes = [
            note(by_number.clone(), FallbackProgress::Waiting),
            note(by_number, FallbackProgress::Due(failed.clone())),
            note(by_id, FallbackProgress::Sending(failed)),
        ];
        let clock = ManualClock::new(notes[0].created);
        let store = FallbackNotes::new(Memory::new(Arc::clone(&clock) as _));
        let tag = |index: usize| SendTag::parse(&format!("{index:022}")).unwrap();
        for (index, note) in notes.iter().enumerate() {
            let revision = store.put(&tag(index), note, None).await.unwrap();
            assert_eq!(store.get(&tag(index)).await.unwrap(), Some((note.clone(), revision)));
            let again = store.put(&tag(index), note, Some(revision + 1)).await;
            assert!(matches!(again, Err(StateError::Conflict { .. })), "{again:?}");
        }
        let all: Vec<_> = store.all().await.unwrap().into_iter().map(|(_, note, _)| note).collect();
        assert_eq!(all, notes);
        store.delete(&tag(0)).await.unwrap();
        assert_eq!(store.get(&tag(0)).await.unwrap(), None);
        clock.advance(FALLBACK_KEPT);
        assert_eq!(store.all().await.unwrap(), []);
    }
}
