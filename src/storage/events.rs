//! The typed view of the log: domain events in, stored events and facts out.
//!
//! Owns the encoding: an event is encoded when it is appended and never decoded again on its way to a subscriber.

use bytes::Bytes;

use crate::contract::encode;
pub use crate::contract::frames::{BatchEncoder, Delivery};
use crate::domain::event::{Event, EventAttributes, EventId, Fact};
use crate::domain::filter::Subject;

use super::event_log::{Attributes, Item, StoredEvent};

/// Encodes an event for the log. `traceparent` may be empty.
pub fn item(event: &Event, traceparent: &str) -> Item {
    let encode::Segments { envelope, typed, raw } = encode::encode(event, traceparent);
    let EventAttributes { event_type, phone_number_id, waba_id, conversation_key } = event.attributes.clone();
    let attributes = Attributes { event_type, phone_number_id, waba_id, conversation_key };
    Item { id: event.id.0, attributes, envelope, typed, raw }
}

/// What subscribers filter by.
pub fn attributes(event: &StoredEvent) -> Subject<'_> {
    let Attributes { event_type, phone_number_id, waba_id, conversation_key } = &event.attributes;
    Subject { event_type, phone_number_id, waba_id, conversation_key }
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

/// Bytes of the pieces that make up a view.
pub fn view_bytes(event: &StoredEvent, view: View) -> usize {
    segments(event, view).iter().map(|segment| segment.len()).sum()
}

/// Adds an event to a batch, with the cursor that resumes after it.
pub fn encode(
    batch: &mut BatchEncoder,
    event: &StoredEvent,
    view: View,
    cursor: &str,
    delivery: Option<Delivery<'_>>,
) {
    batch.push(segments(event, view), cursor, delivery);
}

/// An event by itself, with the cursor that resumes after it.
pub fn encoded(event: &StoredEvent, cursor: &str) -> Bytes {
    BatchEncoder::event(segments(event, View::Full), cursor)
}

/// The encoded pieces that make up a view.
fn segments(event: &StoredEvent, view: View) -> [&[u8]; 3] {
    let (envelope, typed, raw): (&[u8], &[u8], &[u8]) = (&event.envelope, &event.typed, &event.raw);
    match view {
        View::Full => [envelope, typed, raw],
        View::Typed => [envelope, typed, &[]],
        View::Raw => [envelope, &[], raw],
    }
}
