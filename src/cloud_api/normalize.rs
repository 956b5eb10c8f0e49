//! A webhook body becomes events. Pure: the same body gives the same events.
//!
//! Every entry, change, message, status and error becomes an event, in order, with its exact text in `raw_json`;
//! what the gateway does not know becomes `Unknown`. The events of a body together rebuild its JSON:
//!
//! | of the body | `raw_json` | `change_json` |
//! | --- | --- | --- |
//! | one message, status or error | the element | the body with one entry, one change and a `value` without the split arrays |
//! | a change of another field, or of an odd shape | the `value`; empty when there is none | the same, without `value` |
//! | an entry without readable changes | the entry | the body with an empty `entry` list |
//! | a body without readable changes | the whole body | empty |
//! | a body that is not JSON in UTF-8 | empty; its bytes are in the payload | empty |
//!
//! Two limits keep a body from growing on its way. Events share their `change_json`, but each is stored on its
//! own; when the copies of a POST would pass [`COPIED_BYTES_MAX`], the first event of a change carries it and the
//! others carry an empty text. The same holds for the contact of a payload, which stands in `change_json` anyway.
//! A body whose envelope alone would be repeated beyond that, or that holds more than [`EVENTS_MAX`] items, is
//! one event (Meta sends at most 1000 updates a POST, reference 4.1).
//!
//! An item that stands in one POST twice, word for word, is one event: delivering a message once outranks
//! rebuilding a list with a repetition. Items that share a key and differ are both kept.

mod dedupe;
mod item;
#[cfg(any(test, feature = "test-util"))]
mod rebuild;
mod traced;

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use sha2::{Digest, Sha256};

use super::json::Object;
use super::webhook::{self, Body, Change, Entry, Envelope};
use crate::domain::conversation::UserIdentity;
use crate::domain::event::{Event, EventAttributes, EventId, Origin, Payload};
use dedupe::{Key, canonical_hash};
use item::ChangeContext;

pub use traced::{TracedStatus, traced_status};

#[cfg(any(test, feature = "test-util"))]
pub use rebuild::rebuild;

/// Events of one POST at most.
pub const EVENTS_MAX: usize = 4_000;

/// Bytes that one POST may repeat, of changes and of contacts each.
pub const COPIED_BYTES_MAX: usize = 1024 * 1024;

const TEXT_BYTES_MAX: usize = 128;
const UNKNOWN_TYPE: &str = "whatsapp.unknown";

/// The events of a body, at least one. `attributes.conversation_key` is filled for events of accounts (the WABA
/// id) and of groups; where it is empty, `user` names whose conversation it is, and whoever holds the map of
/// users fills it in.
pub fn normalize(body: &[u8], receive_time: SystemTime) -> Vec<Event> {
    let post = Post { receive_time, webhook_id: hex_prefix(&Sha256::digest(body)) };
    let split = match webhook::read(body) {
        Body::Bytes(reason) => Err(post.bytes(body, reason)),
        Body::Whole(text, reason) => Err(post.whole(text, reason)),
        Body::Split(envelope) => {
            let text = || String::from_utf8_lossy(body);
            post.split(&envelope, body.len()).map_err(|reason| post.whole(&text(), reason))
        }
    };
    let mut events = split.unwrap_or_else(|event| vec![event]);
    let count = to_u32(events.len());
    for (index, event) in events.iter_mut().enumerate() {
        event.origin.item_index = to_u32(index);
        event.origin.item_count = count;
    }
    events
}

/// What the events of one POST have in common.
struct Post {
    receive_time: SystemTime,
    webhook_id: String,
}

impl Post {
    fn bytes(&self, body: &[u8], reason: &str) -> Event {
        let id = Key::of("bytes").with(body).id();
        let payload = Payload::Unknown { reason: reason.to_owned(), body: body.to_vec() };
        Event { payload, ..self.event(id, String::new()) }
    }

    fn whole(&self, text: &str, reason: &str) -> Event {
        let id = Key::of("body").with(canonical_hash(text)).id();
        Event { payload: unknown(reason), ..self.event(id, text.to_owned()) }
    }

    /// One event per change or item; the reason why the body must stay whole when that breaks a limit.
    fn split(&self, envelope: &Envelope<'_>, body_bytes: usize) -> Result<Vec<Event>, &'static str> {
        let changes = || envelope.entries.iter().flat_map(|entry| &entry.changes);
        let items: usize = changes().map(|change| change.items.len().max(1)).sum();
        if items + envelope.entries.len() > EVENTS_MAX {
            return Err("the body holds more items than one webhook can have");
        }
        let (mut copies, mut contact_copies) = (Budget(COPIED_BYTES_MAX), Budget(COPIED_BYTES_MAX));
        let mut frames = Budget(body_bytes.saturating_add(COPIED_BYTES_MAX));
        let mut events = Unique::default();
        for (entry_index, entry) in envelope.entries.iter().enumerate() {
            if entry.changes.is_empty() {
                let frame = envelope.fields.render(&[("entry", Some("[]"))]);
                frames.take(frame.len()).ok_or(FRAMES_TOO_BIG)?;
                events.add(self.entry(entry, to_u32(entry_index), frame));
            }
            for (change_index, change) in entry.changes.iter().enumerate() {
                let frame: Arc<str> = frame(envelope, entry, change).into();
                frames.take(frame.len()).ok_or(FRAMES_TOO_BIG)?;
                let origin = Origin {
                    webhook_id: self.webhook_id.clone(),
                    entry_index: Some(to_u32(entry_index)),
                    change_index: Some(to_u32(change_index)),
                    ..Origin::default()
                };
                let context = ChangeContext::new(entry, change, origin);
                let is_shared = copies.take(frame.len() * change.items.len().saturating_sub(1)).is_some();
                for (position, mut event) in context.events(self, &mut contact_copies).enumerate() {
                    if is_shared || position == 0 {
                        event.change_json = Arc::clone(&frame);
                    }
                    events.add(event);
                }
            }
        }
        Ok(events.list)
    }

    fn entry(&self, entry: &Entry<'_>, index: u32, frame: String) -> Event {
        let text = entry.raw.get();
        let waba_id = bounded(entry.fields.text("id").unwrap_or_default());
        let id = Key::of("entry").with(&waba_id).with(canonical_hash(text)).id();
        let attributes = EventAttributes {
            event_type: UNKNOWN_TYPE.to_owned(),
            conversation_key: waba_id.clone(),
            waba_id,
            ..EventAttributes::default()
        };
        let event = self.event(id, text.to_owned());
        Event {
            attributes,
            event_time: entry.fields.text("time").and_then(|seconds| unix_time(&seconds)),
            origin: Origin { entry_index: Some(index), ..event.origin },
            payload: unknown("the entry holds no readable change"),
            change_json: frame.into(),
            ..event
        }
    }

    /// An event about which only its identity and its text are known.
    fn event(&self, id: EventId, raw_json: String) -> Event {
        let attributes =
            EventAttributes { event_type: UNKNOWN_TYPE.to_owned(), ..EventAttributes::default() };
        Event {
            id,
            attributes,
            subject: String::new(),
            event_time: None,
            receive_time: self.receive_time,
            origin: Origin { webhook_id: self.webhook_id.clone(), ..Origin::default() },
            payload: unknown(""),
            user: UserIdentity::default(),
            verdicts: Vec::new(),
            raw_json,
            change_json: Arc::from(""),
        }
    }
}

const FRAMES_TOO_BIG: &str = "the envelope of the body is too big to be repeated for each change";

/// The body around the items of one change, or around its value.
fn frame(envelope: &Envelope<'_>, entry: &Entry<'_>, change: &Change<'_>) -> String {
    let value = (!change.items.is_empty()).then(|| value_frame(change));
    let change = change.fields.render(&[("value", value.as_deref())]);
    let entry = entry.fields.render(&[("changes", Some(&format!("[{change}]")))]);
    envelope.fields.render(&[("entry", Some(&format!("[{entry}]")))])
}

/// The value without the arrays that were split; empty ones stay.
fn value_frame(change: &Change<'_>) -> String {
    let mut arrays: Vec<(&str, Option<&str>)> =
        change.items.iter().map(|item| (item.kind.array(), None)).collect();
    arrays.dedup();
    change.value_fields.render(&arrays)
}

/// Events without repetition.
#[derive(Default)]
struct Unique {
    list: Vec<Event>,
    first: HashMap<EventId, First>,
}

/// Where an event stands, and the hash of its content once a twin asked for it.
struct First {
    index: usize,
    content: Option<[u8; 32]>,
}

impl Unique {
    /// Adds an event, unless it stands there already. One that shares the key of another and says something
    /// else gets a key that its content extends, so that nothing is dropped; the extended key depends on the
    /// items alone and so comes out the same on a redelivery.
    fn add(&mut self, mut event: Event) {
        if let Some(first) = self.first.get_mut(&event.id) {
            let content = canonical_hash(&event.raw_json);
            let known = self.list.get(first.index).map_or("", |twin| twin.raw_json.as_str());
            // Hashed once: thousands of small twins of a large item must not cost thousands of large hashes.
            if content == *first.content.get_or_insert_with(|| canonical_hash(known)) {
                return;
            }
            event.id = Key::of("twin").with(event.id.0).with(content).id();
            if self.first.contains_key(&event.id) {
                return;
            }
        }
        self.first.insert(event.id, First { index: self.list.len(), content: None });
        self.list.push(event);
    }
}

/// Bytes that may still be used.
struct Budget(usize);

impl Budget {
    fn take(&mut self, bytes: usize) -> Option<()> {
        self.0 = self.0.checked_sub(bytes)?;
        Some(())
    }
}

fn unknown(reason: &str) -> Payload {
    Payload::Unknown { reason: reason.to_owned(), body: Vec::new() }
}

/// A text that every event of a body repeats, so it must not be long; a long one is known by its hash.
fn bounded(text: Cow<'_, str>) -> String {
    if text.len() <= TEXT_BYTES_MAX {
        text.into_owned()
    } else {
        hex_prefix(&Sha256::digest(text.as_bytes()))
    }
}

/// Seconds since the Unix epoch, or milliseconds where seconds would be the year 5138 or later; up to the year 9999.
fn unix_time(number: &str) -> Option<SystemTime> {
    let number: u64 = number.parse().ok().filter(|number| *number < 253_402_300_800_000)?;
    let time =
        if number < 100_000_000_000 { Duration::from_secs(number) } else { Duration::from_millis(number) };
    UNIX_EPOCH.checked_add(time)
}

/// The first 32 hexadecimal digits.
fn hex_prefix(digest: &[u8]) -> String {
    hex::encode(digest.get(..16).unwrap_or(digest))
}

fn to_u32(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

/// The time of an item, else of its entry (reference 1.3).
fn time_of(fields: &Object<'_>, name: &str) -> Option<SystemTime> {
    unix_time(&fields.text(name)?)
}

#[cfg(test)]
mod tests;
