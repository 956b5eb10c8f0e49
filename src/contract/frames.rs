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

/// `EventBatch.events`, `ReceivedEvent.event`, its `ack_id` and `delivery_attempt`, `Event.cursor`.
const EVENTS_TAG: u32 = 1;
const EVENT_TAG: u32 = 1;
const ACK_ID_TAG: u32 = 2;
const ATTEMPT_TAG: u32 = 3;
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

/// A parked event, over one that is encoded.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ParkedEvent {
    /// The event, encoded.
    #[prost(bytes = "bytes", tag = "1")]
    pub event: Bytes,
    /// When it was parked.
    #[prost(message, optional, tag = "2")]
    pub park_time: Option<prost_types::Timestamp>,
    /// How often it was delivered.
    #[prost(uint32, tag = "3")]
    pub attempts: u32,
    /// Why it was parked.
    #[prost(enumeration = "v1::ParkCause", tag = "4")]
    pub cause: i32,
    /// The worker's words.
    #[prost(string, tag = "5")]
    pub reason: String,
    /// Whether it is being delivered again.
    #[prost(bool, tag = "6")]
    pub is_replaying: bool,
}

/// A page of parked events.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ListParkedEventsResponse {
    /// In the order of the log.
    #[prost(message, repeated, tag = "1")]
    pub events: Vec<ParkedEvent>,
    /// For the next page; empty at the end.
    #[prost(string, tag = "2")]
    pub next_page_token: String,
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

/// How an event is delivered to a worker of a subscription.
#[derive(Debug, Clone, Copy)]
pub struct Delivery<'d> {
    /// Names the delivery.
    pub ack_id: &'d str,
    /// Counts the deliveries of the event, from 1.
    pub attempt: u32,
}

/// Puts events into an [`EncodedBatch`], one behind the other.
#[derive(Debug, Default)]
pub struct BatchEncoder {
    bytes: BytesMut,
}

impl BatchEncoder {
    /// Adds an event: pieces that are each a valid part of one, and its cursor, which is known only on reading.
    /// Protobuf allows the fields in any order.
    pub fn push(&mut self, segments: [&[u8]; 3], cursor: &str, delivery: Option<Delivery<'_>>) {
        let event_bytes = segments.iter().map(|segment| segment.len()).sum::<usize>()
            + field_bytes(CURSOR_TAG, cursor.len());
        let delivery_bytes = delivery.map_or(0, |Delivery { ack_id, attempt }| {
            field_bytes(ACK_ID_TAG, ack_id.len())
                + key_len(ATTEMPT_TAG)
                + encoded_len_varint(u64::from(attempt))
        });
        let received_bytes = field_bytes(EVENT_TAG, event_bytes) + delivery_bytes;
        self.bytes.reserve(field_bytes(EVENTS_TAG, received_bytes));
        self.key(EVENTS_TAG, received_bytes);
        self.key(EVENT_TAG, event_bytes);
        for segment in segments {
            self.bytes.put_slice(segment);
        }
        self.key(CURSOR_TAG, cursor.len());
        self.bytes.put_slice(cursor.as_bytes());
        if let Some(Delivery { ack_id, attempt }) = delivery {
            self.key(ACK_ID_TAG, ack_id.len());
            self.bytes.put_slice(ack_id.as_bytes());
            encode_key(ATTEMPT_TAG, WireType::Varint, &mut self.bytes);
            encode_varint(u64::from(attempt), &mut self.bytes);
        }
    }

    /// An event alone.
    pub fn event(segments: [&[u8]; 3], cursor: &str) -> Bytes {
        let mut encoder = Self::default();
        for segment in segments {
            encoder.bytes.put_slice(segment);
        }
        encoder.key(CURSOR_TAG, cursor.len());
        encoder.bytes.put_slice(cursor.as_bytes());
        encoder.take()
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
        encoder.push([&envelope, &[], &raw], "c1.x", None);
        encoder.push([&envelope, &[], &[]], "c1.y", Some(Delivery { ack_id: "a1.z", attempt: 300 }));
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
        let facts = |received: &v1::ReceivedEvent| (received.ack_id.clone(), received.delivery_attempt);
        assert_eq!(
            batch.events.iter().map(facts).collect::<Vec<_>>(),
            [(String::new(), 0), ("a1.z".to_owned(), 300)]
        );
    }

    #[test]
    fn parked_events_are_equal_on_the_wire() {
        let event = v1::Event { id: "ab".to_owned(), cursor: "c1.x".to_owned(), ..Default::default() };
        let head = |event| ParkedEvent { event, attempts: 3, reason: "why".to_owned(), ..Default::default() };
        let parked = vec![head(event.encode_to_vec().into())];
        let response = ListParkedEventsResponse { events: parked, next_page_token: "next".to_owned() };
        let decoded = v1::ListParkedEventsResponse::decode(response.encode_to_vec().as_slice()).unwrap();
        assert_eq!(decoded.events[0].event, Some(event));
        assert_eq!((decoded.events[0].attempts, decoded.events[0].reason.as_str()), (3, "why"));
        assert_eq!(decoded.next_page_token, "next");
    }
}
