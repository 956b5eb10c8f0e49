//! Frames of the event stream over events that are encoded already.
//!
//! Equal on the wire to the generated `SubscribeEventsResponse`, but an event is the bytes that the log stores: it is
//! encoded once, when it is appended, however many streams read it, and fields that a newer gateway wrote survive.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use prost::DecodeError;
use prost::encoding::{
    DecodeContext, WireType, encode_key, encode_varint, encoded_len_varint, key_len, skip_field,
};

use super::v1;

/// `EventBatch.events`, `ReceivedEvent.event`, `Event.cursor`.
const EVENTS_TAG: u32 = 1;
const EVENT_TAG: u32 = 1;
const CURSOR_TAG: u32 = 2;

/// One frame.
#[derive(Clone, PartialEq, prost::Message)]
pub struct SubscribeEventsResponse {
    /// What it is.
    #[prost(oneof = "Frame", tags = "1, 2, 3, 4, 5, 6, 7")]
    pub frame: Option<Frame>,
}

/// The kinds of frames.
#[derive(Clone, PartialEq, prost::Oneof)]
pub enum Frame {
    /// Always the first.
    #[prost(message, tag = "1")]
    Opened(v1::StreamOpened),
    /// Events in the order of the log.
    #[prost(message, tag = "2")]
    Events(EncodedBatch),
    /// All is well.
    #[prost(message, tag = "3")]
    Heartbeat(v1::Heartbeat),
    /// Everything stored was sent.
    #[prost(message, tag = "4")]
    CaughtUp(v1::CaughtUp),
    /// The stream reads stored events again.
    #[prost(message, tag = "5")]
    FellBehind(v1::FellBehind),
    /// Events are missing.
    #[prost(message, tag = "6")]
    Gap(v1::Gap),
    /// The last.
    #[prost(message, tag = "7")]
    Closing(v1::StreamClosing),
}

/// An `EventBatch`, encoded.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct EncodedBatch(pub Bytes);

impl prost::Message for EncodedBatch {
    fn encode_raw(&self, buf: &mut impl BufMut) {
        buf.put_slice(&self.0);
    }

    fn merge_field(
        &mut self,
        tag: u32,
        wire_type: WireType,
        buf: &mut impl Buf,
        ctx: DecodeContext,
    ) -> Result<(), DecodeError> {
        // Nothing decodes these frames but the derive's bounds: clients use the generated messages.
        skip_field(wire_type, tag, buf, ctx)
    }

    fn encoded_len(&self) -> usize {
        self.0.len()
    }

    fn clear(&mut self) {
        *self = Self::default();
    }
}

/// Puts events into an [`EncodedBatch`], one behind the other.
#[derive(Debug, Default)]
pub struct BatchEncoder {
    bytes: BytesMut,
}

impl BatchEncoder {
    /// Adds an event: pieces that are each a valid part of one, and its cursor, which is known only on reading.
    /// Protobuf allows the fields in any order.
    pub fn push(&mut self, segments: [&[u8]; 3], cursor: &str) {
        let event_bytes = segments.iter().map(|segment| segment.len()).sum::<usize>()
            + field_bytes(CURSOR_TAG, cursor.len());
        let received_bytes = field_bytes(EVENT_TAG, event_bytes);
        self.bytes.reserve(field_bytes(EVENTS_TAG, received_bytes));
        self.key(EVENTS_TAG, received_bytes);
        self.key(EVENT_TAG, event_bytes);
        for segment in segments {
            self.bytes.put_slice(segment);
        }
        self.key(CURSOR_TAG, cursor.len());
        self.bytes.put_slice(cursor.as_bytes());
    }

    /// Bytes of what was added.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether nothing was added.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// What was added; the encoder is empty then.
    pub fn take(&mut self) -> Bytes {
        self.bytes.split().freeze()
    }

    fn key(&mut self, tag: u32, length: usize) {
        encode_key(tag, WireType::LengthDelimited, &mut self.bytes);
        encode_varint(length as u64, &mut self.bytes);
    }
}

/// Bytes of a field whose value has so many.
fn field_bytes(tag: u32, length: usize) -> usize {
    key_len(tag) + encoded_len_varint(length as u64) + length
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;

    #[test]
    fn frames_are_equal_on_the_wire() {
        let event = v1::Event { id: "ab".to_owned(), subject: "wamid.X".to_owned(), ..Default::default() };
        let raw = v1::Event { raw_json: "{}".to_owned(), ..Default::default() };
        let mut encoder = BatchEncoder::default();
        let (envelope, raw) = (event.encode_to_vec(), raw.encode_to_vec());
        encoder.push([&envelope, &[], &raw], "c1.x");
        encoder.push([&envelope, &[], &[]], "c1.y");
        let batch = EncodedBatch(encoder.take());
        assert!(encoder.is_empty());
        let frame = SubscribeEventsResponse { frame: Some(Frame::Events(batch)) };
        let decoded = v1::SubscribeEventsResponse::decode(frame.encode_to_vec().as_slice()).unwrap();
        let Some(v1::subscribe_events_response::Frame::Events(batch)) = decoded.frame else {
            panic!("expected events");
        };
        let expected = v1::Event { cursor: "c1.x".to_owned(), raw_json: "{}".to_owned(), ..event };
        assert_eq!(batch.events[0].event, Some(expected.clone()));
        let second = v1::Event { cursor: "c1.y".to_owned(), raw_json: String::new(), ..expected };
        assert_eq!(batch.events[1].event, Some(second));
        assert_eq!(batch.events.len(), 2);
    }
}
