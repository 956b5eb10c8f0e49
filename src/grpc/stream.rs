//! An open event stream as the response of an RPC: frames, then the frame that says why it ends, then the status.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::{FutureExt, Stream};
use tonic::Status;
use uuid::Uuid;

use crate::contract::frames::{EncodedBatch, Frame as PbFrame, SubscribeEventsResponse};
use crate::contract::v1;
use crate::flows::deliver_events::{End, EventStream, Frame};

use super::quotas::Place;
use super::status;

/// Streams that close together come back spread over this time.
const RECONNECT_SPREAD: Duration = Duration::from_secs(2);

/// The response of `SubscribeEvents`.
#[derive(Debug)]
pub struct ResponseStream {
    events: EventStream,
    phase: Phase,
    /// Among the streams of its caller.
    _place: Option<Place>,
}

#[derive(Debug)]
enum Phase {
    Frames,
    /// The closing frame was sent; the status is next.
    Status(Box<Status>),
    Done,
}

impl ResponseStream {
    pub(super) fn new(events: EventStream, place: Option<Place>) -> Self {
        Self { events, phase: Phase::Frames, _place: place }
    }

    /// The frames are at their end: says how it ended.
    fn end(&mut self, end: Option<End>) -> Option<Result<SubscribeEventsResponse, Status>> {
        self.phase = Phase::Done;
        let Some(end) = end else { return Some(Err(status::stream_cut())) };
        let closing = closing(&end);
        let status = status::stream_end(end)?;
        match closing {
            Some(closing) => {
                self.phase = Phase::Status(Box::new(status));
                Some(Ok(SubscribeEventsResponse { frame: Some(PbFrame::Closing(closing)) }))
            }
            None => Some(Err(status)),
        }
    }
}

impl Stream for ResponseStream {
    type Item = Result<SubscribeEventsResponse, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        match std::mem::replace(&mut self.phase, Phase::Done) {
            Phase::Frames => {
                self.phase = Phase::Frames;
                if let Some(frame) = std::task::ready!(self.events.frames.poll_recv(cx)) {
                    return Poll::Ready(Some(Ok(to_pb(frame))));
                }
                let end = std::task::ready!(self.events.end.poll_unpin(cx)).ok();
                Poll::Ready(self.end(end))
            }
            Phase::Status(status) => Poll::Ready(Some(Err(*status))),
            Phase::Done => Poll::Ready(None),
        }
    }
}

pub(super) fn closing(end: &End) -> Option<v1::StreamClosing> {
    use v1::ClosingReason as R;
    let (reason, resume_cursor) = match end {
        End::CaughtUp | End::Expired { .. } => return None,
        End::Draining { resume_cursor } => (R::Draining, resume_cursor),
        // For a worker it is the same: the next gateway has its subscription.
        End::NotLeading => (R::Draining, &String::new()),
        End::Rotated { resume_cursor } => (R::Rotation, resume_cursor),
        End::SlowConsumer { resume_cursor } => (R::SlowConsumer, resume_cursor),
        End::Unreadable { resume_cursor } => (R::EventStoreUnavailable, resume_cursor),
        End::TakenOver => (R::TakenOver, &String::new()),
        End::Deleted => (R::SubscriptionDeleted, &String::new()),
    };
    let [.., random] = Uuid::now_v7().into_bytes();
    let reconnect_after = RECONNECT_SPREAD.mul_f64(f64::from(random) / 255.0);
    Some(v1::StreamClosing {
        reason: reason.into(),
        resume_cursor: resume_cursor.clone(),
        reconnect_after: duration(reconnect_after),
    })
}

fn to_pb(frame: Frame) -> SubscribeEventsResponse {
    let frame = match frame {
        Frame::Opened {
            engine,
            stream_id,
            start_cursor,
            earliest_cursor,
            heartbeat_interval,
            batch_events_max,
            group,
        } => {
            let bounded = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
            PbFrame::Opened(v1::StreamOpened {
                stream_id,
                start_cursor,
                earliest_cursor,
                engine: engine.to_owned(),
                heartbeat_interval: duration(heartbeat_interval),
                max_batch_events: u32::try_from(batch_events_max).unwrap_or(u32::MAX),
                max_outstanding_events: group.map_or(0, |group| bounded(group.outstanding_events_max)),
                max_outstanding_bytes: group.map_or(0, |group| bounded(group.outstanding_bytes_max)),
                ack_deadline: group.and_then(|group| duration(group.ack_deadline)),
            })
        }
        Frame::Events(batch) => PbFrame::Events(EncodedBatch(batch.encoded)),
        Frame::Heartbeat { cursor, server_time, backlog, outstanding } => PbFrame::Heartbeat(v1::Heartbeat {
            cursor,
            server_time: Some(server_time.into()),
            backlog_estimate: backlog,
            outstanding,
        }),
        Frame::CaughtUp { cursor } => PbFrame::CaughtUp(v1::CaughtUp { cursor }),
        Frame::FellBehind { cursor } => PbFrame::FellBehind(v1::FellBehind { cursor }),
        Frame::Gap { from_cursor, to_cursor, missing } => PbFrame::Gap(v1::Gap {
            from_cursor,
            to_cursor,
            reason: v1::GapReason::Expired.into(),
            missing_estimate: missing,
        }),
    };
    SubscribeEventsResponse { frame: Some(frame) }
}

pub(super) fn duration(duration: Duration) -> Option<prost_types::Duration> {
    prost_types::Duration::try_from(duration).ok()
}
