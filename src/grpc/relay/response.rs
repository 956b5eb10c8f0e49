//! The answer of the leader on its way to the caller.
//!
//! Nothing in it is decoded. Only where one message ends is followed, so that the end of this process can be told between two.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use futures_util::FutureExt;
use http::HeaderMap;
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;
use prost::Message;
use tokio_util::sync::WaitForCancellationFutureOwned;
use tonic::{Code, Status};

use crate::contract::frames::{Frame as PbFrame, SubscribeEventsResponse};
use crate::flows::deliver_events::End;

use super::super::{measure, status, stream};

/// Before each message: whether it is compressed, and its length.
const PREFIX: usize = 5;

/// What happens to a call when this process is about to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// It comes to its end.
    Finishing,
    /// The stream of a worker is closed, and told so.
    Worker,
    /// A watch is closed.
    Watch,
    /// Nothing more is read; what was read is answered.
    Sends,
}

impl Kind {
    pub(super) fn of(method: &'static str) -> Self {
        match method {
            measure::SUBSCRIBE_EVENTS => Self::Worker,
            measure::WATCH_MESSAGE => Self::Watch,
            measure::SEND_MESSAGES => Self::Sends,
            _ => Self::Finishing,
        }
    }
}

/// The body.
pub(super) struct Answer {
    leaders: Incoming,
    kind: Kind,
    /// What the caller is told when the connection to the leader breaks.
    lost: Status,
    /// `None` once this process drains.
    drain: Option<Pin<Box<WaitForCancellationFutureOwned>>>,
    messages: Messages,
    /// The last frame, if it is ours.
    last: Option<HeaderMap>,
    is_over: bool,
}

impl Answer {
    pub(super) fn new(
        leaders: Incoming,
        kind: Kind,
        lost: Status,
        drain: WaitForCancellationFutureOwned,
    ) -> Self {
        let (drain, messages) = (Some(Box::pin(drain)), Messages::default());
        Self { leaders, kind, lost, drain, messages, last: None, is_over: false }
    }

    fn is_draining(&mut self, cx: &mut Context<'_>) -> bool {
        if self.drain.as_mut().is_some_and(|drain| drain.poll_unpin(cx).is_ready()) {
            self.drain = None;
        }
        self.drain.is_none()
    }

    /// The end, by this status.
    fn end(&mut self, status: &Status) -> Frame<Bytes> {
        self.is_over = true;
        Frame::trailers(trailers(status))
    }
}

fn trailers(status: &Status) -> HeaderMap {
    let mut trailers = HeaderMap::new();
    if status.add_header(&mut trailers).is_err() {
        // Not possible: texts are percent-encoded. The code alone is still an answer.
        trailers.insert("grpc-status", http::HeaderValue::from(status.code() as i32));
    }
    trailers
}

/// The frame that says that a worker's stream ends, as one message.
fn closing() -> Bytes {
    let frame = stream::closing(&End::Draining { resume_cursor: String::new() }).map(PbFrame::Closing);
    let message = SubscribeEventsResponse { frame }.encode_to_vec();
    let mut bytes = BytesMut::with_capacity(PREFIX + message.len());
    bytes.put_u8(0);
    bytes.put_u32(u32::try_from(message.len()).unwrap_or_default());
    bytes.put_slice(&message);
    bytes.freeze()
}

impl http_body::Body for Answer {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if let Some(last) = self.last.take() {
            return Poll::Ready(Some(Ok(Frame::trailers(last))));
        }
        if self.is_over {
            return Poll::Ready(None);
        }
        let is_draining = self.is_draining(cx);
        if is_draining && matches!(self.kind, Kind::Worker | Kind::Watch) && self.messages.is_between() {
            let end = self.end(&status::stream_cut());
            if self.kind == Kind::Watch {
                return Poll::Ready(Some(Ok(end)));
            }
            self.last = end.into_trailers().ok();
            return Poll::Ready(Some(Ok(Frame::data(closing()))));
        }
        let frame = match std::task::ready!(Pin::new(&mut self.leaders).poll_frame(cx)) {
            None => None,
            Some(Err(_)) => {
                let lost = self.lost.clone();
                Some(self.end(&lost))
            }
            Some(Ok(frame)) => match frame.into_trailers() {
                Ok(trailers) => {
                    let is_ok =
                        Status::from_header_map(&trailers).is_none_or(|status| status.code() == Code::Ok);
                    // The stream ended because we read no more of it.
                    let is_ours = is_draining && is_ok && self.kind == Kind::Sends;
                    Some(if is_ours {
                        self.end(&status::queue::sends_draining())
                    } else {
                        Frame::trailers(trailers)
                    })
                }
                Err(frame) => {
                    if let Some(data) = frame.data_ref() {
                        self.messages.pass(data);
                    }
                    Some(frame)
                }
            },
        };
        Poll::Ready(frame.map(Ok))
    }

    fn is_end_stream(&self) -> bool {
        self.last.is_none() && (self.is_over || self.leaders.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}

/// Where in the messages of a stream the bytes so far end.
#[derive(Debug, Default)]
struct Messages {
    /// What is known of the prefix of the next message.
    prefix: Vec<u8>,
    /// Bytes of the present message that are still to come.
    rest: usize,
}

impl Messages {
    fn is_between(&self) -> bool {
        self.prefix.is_empty() && self.rest == 0
    }

    fn pass(&mut self, mut data: &[u8]) {
        while !data.is_empty() {
            let passed = self.rest.min(data.len());
            data.advance(passed);
            self.rest -= passed;
            if self.rest > 0 {
                return;
            }
            let missing = (PREFIX - self.prefix.len()).min(data.len());
            let (prefix, behind) = data.split_at(missing);
            self.prefix.extend_from_slice(prefix);
            data = behind;
            if let [_, length @ ..] = self.prefix.as_slice()
                && let Ok(length) = <[u8; 4]>::try_from(length)
            {
                self.rest = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
                self.prefix.clear();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_message_is_known_however_it_is_cut() {
        let stream = [0, 0, 0, 0, 2, 9, 9, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1, 7];
        let ends: Vec<usize> = vec![0, 7, 12, 18];
        for cut in 1..=stream.len() {
            let mut messages = Messages::default();
            let mut at = 0;
            for piece in stream.chunks(cut) {
                assert_eq!(messages.is_between(), ends.contains(&at), "{at} by {cut}");
                messages.pass(piece);
                at += piece.len();
            }
            assert!(messages.is_between(), "by {cut}");
        }
    }

    #[test]
    fn the_closing_frame_is_one_message() {
        let bytes = closing();
        let mut messages = Messages::default();
        messages.pass(&bytes);
        assert!(messages.is_between());
        let decoded = crate::contract::v1::SubscribeEventsResponse::decode(&bytes[PREFIX..]).unwrap();
        let Some(crate::contract::v1::subscribe_events_response::Frame::Closing(closing)) = decoded.frame
        else {
            panic!("{decoded:?}");
        };
        assert_eq!(closing.reason(), crate::contract::v1::ClosingReason::Draining);
    }
}
