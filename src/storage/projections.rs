//! What the log says of identities, windows and messages, kept under keys.
//!
//! Each is an idempotent projection: applying an event again changes nothing, and the position is written last. Values
//! are short and begin with a version digit, so that a later version can tell them apart.

mod message;
mod windows;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;

use crate::clock::unix_ms;
use crate::domain::conversation::{Alias, UserIdentity};
use crate::domain::window::{ConversationWindows, Reception};

use super::keyed_state::{Bucket, Entry, KeyedState, Put, StateError};

pub use message::MessageRecord;
pub use windows::Watch;

const IDENTITIES: Bucket = Bucket::named("identities").advancing();
/// Conversations of names of which no event has been applied yet, where several processes give them.
const CLAIMS: Bucket = Bucket::named("identity_claims");
const MESSAGES: Bucket = Bucket::named("messages").advancing();
const POSITIONS: Bucket = Bucket::named("positions");

/// How long the state of a message is remembered after its last status; Meta tries to deliver for 30 days.
const MESSAGE_KEPT: Duration = Duration::from_hours(35 * 24);

/// How long a claim stands. Its event is applied in a moment, or when there is a leader again.
const CLAIM_KEPT: Duration = Duration::from_hours(24);

/// Expiries are rounded up to these.
const EXPIRY_STEP_MS: u64 = 60 * 60 * 1000;

/// The projections over the keyed state.
#[derive(Debug, Clone)]
pub struct Projections {
    state: Arc<dyn KeyedState>,
}

/// Names a message: the business number and Meta's id.
pub type MessageName = (String, String);

/// Up to which event of a log everything was applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// The log.
    pub epoch: [u8; 8],
    /// The event.
    pub seq: u64,
}

/// One change of a projection.
#[derive(Debug)]
pub enum Change {
    /// A user's name got a conversation.
    Identity(Alias, String),
    /// A conversation's windows moved.
    Windows(String, ConversationWindows),
    /// The names of a conversation's user.
    Names(String, UserIdentity),
    /// Webhooks for a business number came.
    Reception(String, Reception),
    /// A message came further.
    Message(MessageName, MessageRecord),
}

impl Projections {
    /// Over this state.
    pub fn new(state: Arc<dyn KeyedState>) -> Self {
        Self { state }
    }

    /// The conversations known under these names, in their order.
    pub async fn conversations(&self, aliases: &[Alias]) -> Result<Vec<Option<String>>, StateError> {
        let keys: Vec<Bytes> = aliases.iter().map(name_key).collect();
        let entries = self.state.get_many(IDENTITIES, &keys).await?;
        Ok(entries.iter().map(|entry| entry.as_ref().and_then(text).map(str::to_owned)).collect())
    }

    /// Whether other processes give conversations too, so that each must be claimed.
    pub fn is_shared(&self) -> bool {
        self.state.claims().is_some()
    }

    /// As [`Projections::conversations`], with those that are claimed.
    pub async fn claimed(&self, aliases: &[Alias]) -> Result<Vec<Option<String>>, StateError> {
        let mut found = self.conversations(aliases).await?;
        if self.is_shared() {
            let keys: Vec<Bytes> = aliases.iter().map(name_key).collect();
            let claims = self.state.get_many(CLAIMS, &keys).await?;
            for (found, claim) in found.iter_mut().zip(&claims) {
                *found = found.take().or_else(|| claim.as_ref().and_then(text).map(str::to_owned));
            }
        }
        Ok(found)
    }

    /// Gives names their conversations, all or none, before any of their events is stored. False if one of them has been given
    /// one meanwhile, which can be read then. Always true where nobody else gives any.
    pub async fn claim(&self, names: &[(Alias, String)]) -> Result<bool, StateError> {
        let Some(claims) = self.state.claims() else { return Ok(true) };
        let entries = names.iter().map(|(name, key)| (name_key(name), format!("1{key}").into()));
        claims.claim(CLAIMS, entries.collect(), CLAIM_KEPT).await
    }

    /// What is known of messages, in their order.
    pub async fn messages(&self, ids: &[MessageName]) -> Result<Vec<Option<MessageRecord>>, StateError> {
        let keys: Vec<Bytes> = ids.iter().map(|id| message_key(id).into()).collect();
        let entries = self.state.get_many(MESSAGES, &keys).await?;
        Ok(entries.iter().map(|entry| message::decode(&entry.as_ref()?.value)).collect())
    }

    /// Up to which event of the log with this epoch everything was applied.
    pub async fn position(&self, epoch: [u8; 8]) -> Result<u64, StateError> {
        let entry = self.state.get(POSITIONS, &epoch).await?;
        Ok(entry.as_ref().and_then(text).and_then(|position| position.parse().ok()).unwrap_or(0))
    }

    /// Applies changes, and then moves the position if there is one. An identity that is there already stays: a conversation's
    /// key never changes.
    pub async fn apply(&self, changes: &[Change], position: Option<Position>) -> Result<(), StateError> {
        let mut puts: Vec<Put> = changes.iter().map(to_put).collect();
        puts.extend(position.map(|at| put(POSITIONS, &at.epoch, &at.seq.to_string(), None)));
        if puts.is_empty() { Ok(()) } else { self.state.put_all(puts).await }
    }
}

fn to_put(change: &Change) -> Put {
    match change {
        Change::Identity(alias, key) => put(IDENTITIES, alias.expose().as_bytes(), key, None),
        Change::Windows(conversation_key, windows) => windows::put_windows(conversation_key, windows),
        Change::Names(conversation_key, names) => windows::put_names(conversation_key, names),
        Change::Reception(number, reception) => windows::put_reception(number, *reception),
        Change::Message(name, record) => {
            let expires = record.last_time().map(|time| expiry(time + MESSAGE_KEPT));
            let (key, value) = (message_key(name).into(), message::encode(record).into());
            Put { bucket: MESSAGES, key, value, expire_at_ms: expires }
        }
    }
}

fn put(bucket: Bucket, key: &[u8], text: &str, expires: Option<SystemTime>) -> Put {
    let value = format!("1{text}");
    let expire_at_ms = expires.map(expiry);
    Put { bucket, key: Bytes::copy_from_slice(key), value: value.into(), expire_at_ms }
}

/// Rounded up: an expiry that stays the same from one put to the next spares the engine an index.
fn expiry(at: SystemTime) -> u64 {
    unix_ms(at).next_multiple_of(EXPIRY_STEP_MS)
}

/// The text behind version 1; values of a version that this one does not know count as absent.
fn text(entry: &Entry) -> Option<&str> {
    std::str::from_utf8(&entry.value).ok()?.strip_prefix('1')
}

fn name_key(name: &Alias) -> Bytes {
    Bytes::copy_from_slice(name.expose().as_bytes())
}

fn message_key((number, message_id): &MessageName) -> String {
    format!("{number}:{message_id}")
}

fn from_ms(text: &str) -> Option<SystemTime> {
    Some(SystemTime::UNIX_EPOCH + Duration::from_millis(text.parse().ok()?))
}
