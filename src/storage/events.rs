//! The typed view of the log: domain events in, stored events and facts out.
//!
//! Owns the encoding: an event is encoded when it is appended and never decoded again on its way to a subscriber.

use bytes::Bytes;

use crate::contract::encode;
use crate::domain::event::{Event, EventAttributes, EventId, Fact};

use super::event_log::{Attributes, Item, StoredEvent};

/// Encodes an event for the log. `traceparent` may be empty.
pub fn item(event: &Event, traceparent: &str) -> Item {
    let encode::Segments { envelope, typed, raw } = encode::encode(event, traceparent);
    let EventAttributes { event_type, phone_number_id, waba_id, conversation_key } = event.attributes.clone();
    let attributes = Attributes { event_type, phone_number_id, waba_id, conversation_key };
    Item { id: event.id.0, attributes, envelope, typed, raw }
}

/// What subscribers filter by.
pub fn attributes(event: &StoredEvent) -> EventAttributes {
    let Attributes { event_type, phone_number_id, waba_id, conversation_key } = event.attributes.clone();
    EventAttributes { event_type, phone_number_id, waba_id, conversation_key }
}

/// Its identity.
pub fn id(event: &StoredEvent) -> EventId {
    EventId(event.id)
}

/// What the projections follow.
pub fn fact(event: &StoredEvent) -> Fact {
    encode::fact(&event.envelope, &event.typed)
}

/// What a subscriber sees of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum View {
    /// The typed payload and the exact JSON.
    Full,
    /// The typed payload.
    Typed,
    /// The exact JSON.
    Raw,
}

/// The encoded pieces that make up a view.
pub fn segments(event: &StoredEvent, view: View) -> Vec<Bytes> {
    let envelope = event.envelope.clone();
    match view {
        View::Full => vec![envelope, event.typed.clone(), event.raw.clone()],
        View::Typed => vec![envelope, event.typed.clone()],
        View::Raw => vec![envelope, event.raw.clone()],
    }
}
