//! The way to one subscriber: a few frames in flight, and an end that is told.

use std::time::Duration;

use metrics::counter;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use tracing::{debug, info, warn};
use uuid::Uuid;

use crate::lifecycle::Shutdown;
use crate::telemetry::names;

use super::{End, EventStream, FRAME_BYTES_MAX, FRAMES_IN_FLIGHT, Frame, OnStuck, Place};

/// How long a closed stream may stay unread before its connection is cut.
const STUCK_TIMEOUT: Duration = Duration::from_secs(5);
/// As above, at the end of the process: calls that share the connection need time to finish.
const STUCK_TIMEOUT_DRAINING: Duration = Duration::from_secs(10);

/// Why the feeding stops.
pub(in crate::flows) enum Stop {
    End(End),
    /// The subscriber is gone.
    Gone,
}

/// Takes the frames of one stream.
pub(in crate::flows) struct Outlet {
    frames: mpsc::Sender<Frame>,
    end: oneshot::Sender<End>,
    taken: oneshot::Receiver<()>,
    on_stuck: OnStuck,
    /// How long one frame may wait for a subscriber that does not read.
    send_timeout: Duration,
    shutdown: Shutdown,
}

impl Outlet {
    /// A stream and what feeds it. `on_stuck` is called when the subscriber takes nothing even after the end.
    pub(super) fn open(
        place: Place,
        send_timeout: Duration,
        shutdown: Shutdown,
        on_stuck: OnStuck,
    ) -> (EventStream, Self) {
        let (frames_tx, frames) = mpsc::channel(FRAMES_IN_FLIGHT);
        let (end_tx, end) = oneshot::channel();
        let (taken_tx, taken) = oneshot::channel();
        let stream = EventStream { frames, end, _taken: taken_tx, _place: place };
        (stream, Self { frames: frames_tx, end: end_tx, taken, on_stuck, send_timeout, shutdown })
    }

    /// Whether a frame fits in now.
    pub(in crate::flows) fn has_room(&self) -> bool {
        self.frames.capacity() > 0
    }

    /// Waits until a frame fits in.
    pub(in crate::flows) async fn room(&self, resume_cursor: impl Fn() -> String) -> Result<(), Stop> {
        self.reserve(1, resume_cursor).await.map(drop)
    }

    /// Hands one frame over; a subscriber that does not take it in time is slow.
    pub(in crate::flows) async fn send(
        &self,
        frame: Frame,
        resume_cursor: impl Fn() -> String,
    ) -> Result<(), Stop> {
        let (events, bytes) = match &frame {
            Frame::Events(batch) => (batch.events, batch.encoded.len()),
            Frame::Opened { .. }
            | Frame::Heartbeat { .. }
            | Frame::CaughtUp { .. }
            | Frame::FellBehind { .. }
            | Frame::Gap { .. } => (0, 0),
        };
        // A large event goes in when as much has been taken: who does not read holds one of them, not eight.
        let places = bytes.div_ceil(FRAME_BYTES_MAX).clamp(1, FRAMES_IN_FLIGHT);
        let mut permits = self.reserve(places, resume_cursor).await?;
        permits.next().ok_or(Stop::Gone)?.send(frame);
        counter!(names::EVENTS_DELIVERED).increment(events);
        Ok(())
    }

    async fn reserve(
        &self,
        places: usize,
        resume_cursor: impl Fn() -> String,
    ) -> Result<mpsc::PermitIterator<'_, Frame>, Stop> {
        let permits = match self.frames.try_reserve_many(places) {
            Err(TrySendError::Full(())) => tokio::select! {
                biased;
                reserved = timeout(self.send_timeout, self.frames.reserve_many(places)) => match reserved {
                    Ok(permits) => permits.ok(),
                    Err(_) => return Err(Stop::End(End::SlowConsumer { resume_cursor: resume_cursor() })),
                },
                () = self.shutdown.drain().cancelled() => {
                    return Err(Stop::End(End::Draining { resume_cursor: resume_cursor() }));
                }
            },
            permits => permits.ok(),
        };
        permits.ok_or(Stop::Gone)
    }

    /// Waits until the subscriber is gone.
    pub(in crate::flows) async fn gone(&self) {
        self.frames.closed().await;
    }

    /// Tells why it ends, and sees to it that the subscriber notices.
    pub(in crate::flows) async fn close(self, stop: Stop) {
        let Stop::End(reason) = stop else {
            counter!(names::EVENT_STREAMS_CLOSED, names::REASON => "left").increment(1);
            debug!("the subscriber left");
            return;
        };
        counter!(names::EVENT_STREAMS_CLOSED, names::REASON => reason.word()).increment(1);
        info!(end = ?reason, "stream closes");
        let patience =
            if matches!(reason, End::Draining { .. }) { STUCK_TIMEOUT_DRAINING } else { STUCK_TIMEOUT };
        drop(self.end.send(reason));
        drop(self.frames);
        if timeout(patience, self.taken).await.is_err() {
            warn!("the subscriber does not read at all; its connection is cut");
            (self.on_stuck)();
        }
    }
}

/// Up to a fifth shorter or longer, so that streams opened together do not end together.
pub(in crate::flows) fn jittered(duration: Duration) -> Duration {
    let [.., random] = Uuid::now_v7().into_bytes();
    duration.mul_f64(0.8 + 0.4 * f64::from(random) / 255.0)
}
