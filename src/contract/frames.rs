//! Frames of the event stream over events that are encoded already.
//!
//! Equal on the wire to the generated `SubscribeEventsResponse`, but an event is the bytes that the log stores: it is
//! encoded once, when it is appended, however many streams read it, and fields that a newer gateway wrote survive.

use bytes::{Buf, BufMut, Bytes};
use prost::DecodeError;
use prost::encoding::{DecodeContext, WireType, skip_field, string};

use super::v1;

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
    Events(EventBatch),
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

/// Events in the order of the log.
#[derive(Clone, PartialEq, prost::Message)]
pub struct EventBatch {
    /// The events.
    #[prost(message, repeated, tag = "1")]
    pub events: Vec<ReceivedEvent>,
}

/// One delivery.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ReceivedEvent {
    /// The event.
    #[prost(message, optional, tag = "1")]
    pub event: Option<EncodedEvent>,
}

/// An encoded `Event`: segments that are each a valid piece of one, and the cursor, which is known only on reading.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct EncodedEvent {
    /// Encoded fields of an `Event`; protobuf allows them in any order.
    pub segments: Vec<Bytes>,
    /// The cursor after this event.
    pub cursor: String,
}

impl prost::Message for EncodedEvent {
    fn encode_raw(&self, buf: &mut impl BufMut) {
        for segment in &self.segments {
            buf.put_slice(segment);
        }
        string::encode(CURSOR_TAG, &self.cursor, buf);
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
        self.segments.iter().map(Bytes::len).sum::<usize>() + string::encoded_len(CURSOR_TAG, &self.cursor)
    }

    fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;

    #[test]
    fn frames_are_equal_on_the_wire() {
        let event = v1::Event { id: "ab".to_owned(), subject: "wamid.X".to_owned(), ..Default::default() };
        let raw = v1::Event { raw_json: "{}".to_owned(), ..Default::default() };
        let frame = SubscribeEventsResponse {
            frame: Some(Frame::Events(EventBatch {
                events: vec![ReceivedEvent {
                    event: Some(EncodedEvent {
                        segments: vec![event.encode_to_vec().into(), raw.encode_to_vec().into()],
                        cursor: "c1.x".to_owned(),
                    }),
                }],
            })),
        };
        let decoded = v1::SubscribeEventsResponse::decode(frame.encode_to_vec().as_slice()).unwrap();
        let Some(v1::subscribe_events_response::Frame::Events(batch)) = decoded.frame else {
            panic!("expected events");
        };
        let expected = v1::Event { cursor: "c1.x".to_owned(), raw_json: "{}".to_owned(), ..event };
        assert_eq!(batch.events[0].event, Some(expected));
    }
}
