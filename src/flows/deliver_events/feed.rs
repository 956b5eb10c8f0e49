//! The task behind one stream: reads, filters, batches, keeps time, and ends loudly.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use metrics::{counter, histogram};
use tokio::sync::mpsc::error::SendTimeoutError;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep_until, timeout};
use tracing::{debug, info, warn};
use uuid::Uuid;

use crate::clock::SharedClock;
use crate::domain::cursor::Cursor;
use crate::lifecycle::Shutdown;
use crate::storage::event_log::{EventLog, ReadError, ReadLimit, StoredEvent};
use crate::storage::events;
use crate::telemetry::names;

use super::start::Started;
use super::{Delivered, End, FRAME_BYTES_MAX, Frame, Limits, OnExpired, Subscription};

/// What one read takes; a stream that catches up holds this much until its subscriber has taken it.
const PAGE: ReadLimit = ReadLimit { events: 256, bytes: 256 * 1024 };
/// Events behind the tail from which on a live stream is told that it fell behind.
const FELL_BEHIND_EVENTS: u64 = 10_000;
/// How long a closed stream may stay unread before its connection is cut.
const STUCK_TIMEOUT: Duration = Duration::from_secs(5);
/// As above, at the end of the process: calls that share the connection need time to finish.
const STUCK_TIMEOUT_DRAINING: Duration = Duration::from_secs(10);

/// What feeds one stream.
pub(super) struct Feed {
    pub(super) log: Arc<dyn EventLog>,
    pub(super) subscription: Subscription,
    pub(super) limits: Limits,
    pub(super) clock: SharedClock,
    pub(super) shutdown: Shutdown,
    pub(super) frames: mpsc::Sender<Frame>,
}

/// Where a stream is.
struct State {
    position: Cursor,
    /// The tail when the stream was opened.
    opened_tail: u64,
    is_live: bool,
    next_heartbeat: Instant,
    rotate_at: Instant,
}

/// Why the feeding stops.
enum Stop {
    End(End),
    /// The subscriber is gone.
    Gone,
}

impl Feed {
    pub(super) async fn run(
        self,
        stream_id: String,
        started: Started,
        end: oneshot::Sender<End>,
        taken: oneshot::Receiver<()>,
        on_stuck: Box<dyn FnOnce() + Send>,
    ) {
        let now = Instant::now();
        let mut state = State {
            position: started.position,
            opened_tail: started.tail,
            is_live: false,
            next_heartbeat: now + self.subscription.heartbeat_interval,
            rotate_at: now + jittered(self.limits.rotation),
        };
        info!("stream opened");
        let stop = match self.open(stream_id, &started, &mut state).await {
            Ok(()) => self.feed(&mut state).await,
            Err(stop) => stop,
        };
        let Stop::End(reason) = stop else {
            counter!(names::EVENT_STREAMS_CLOSED, names::REASON => "left").increment(1);
            debug!("the subscriber left");
            return;
        };
        counter!(names::EVENT_STREAMS_CLOSED, names::REASON => reason.word()).increment(1);
        info!(end = ?reason, "stream closes");
        let patience =
            if matches!(reason, End::Draining { .. }) { STUCK_TIMEOUT_DRAINING } else { STUCK_TIMEOUT };
        drop(end.send(reason));
        drop(self.frames);
        if timeout(patience, taken).await.is_err() {
            warn!("the subscriber does not read at all; its connection is cut");
            on_stuck();
        }
    }

    async fn open(&self, stream_id: String, started: &Started, state: &mut State) -> Result<(), Stop> {
        let opened = Frame::Opened {
            stream_id,
            start_cursor: started.position.encode(),
            earliest_cursor: started.earliest.encode(),
            heartbeat_interval: self.subscription.heartbeat_interval,
            batch_events_max: self.subscription.batch_events_max,
        };
        self.send(state, opened).await?;
        if let Some((from, missing)) = &started.gap {
            let to_cursor = started.position.encode();
            self.send(state, Frame::Gap { from_cursor: from.encode(), to_cursor, missing: *missing }).await?;
        }
        Ok(())
    }

    async fn feed(&self, state: &mut State) -> Stop {
        let mut tail = self.log.watch_tail();
        loop {
            if let Err(stop) = self.check(state) {
                return stop;
            }
            let newest = *tail.borrow_and_update();
            let step = if state.position.seq < newest {
                self.advance(state, newest).await
            } else {
                self.wait(state, &mut tail).await
            };
            if let Err(stop) = step {
                return stop;
            }
        }
    }

    /// Whether the stream may go on.
    fn check(&self, state: &State) -> Result<(), Stop> {
        let resume_cursor = || state.position.encode();
        if self.shutdown.drain().is_cancelled() {
            return Err(Stop::End(End::Draining { resume_cursor: resume_cursor() }));
        }
        if Instant::now() >= state.rotate_at {
            return Err(Stop::End(End::Rotated { resume_cursor: resume_cursor() }));
        }
        Ok(())
    }

    /// Reads the next page and sends what matches.
    async fn advance(&self, state: &mut State, newest: u64) -> Result<(), Stop> {
        if state.is_live && newest - state.position.seq > FELL_BEHIND_EVENTS {
            state.is_live = false;
            self.send(state, Frame::FellBehind { cursor: state.position.encode() }).await?;
        }
        let page = match self.log.read(state.position.seq, PAGE).await {
            Ok(page) => page,
            Err(ReadError::Trimmed { earliest }) => return self.pass_gap(state, earliest, newest).await,
            Err(error @ (ReadError::Closed | ReadError::Failed(_))) => {
                warn!(%error, "the log cannot be read");
                let resume_cursor = state.position.encode();
                return Err(Stop::End(End::Unreadable { resume_cursor }));
            }
        };
        self.send_page(state, &page).await?;
        if Instant::now() >= state.next_heartbeat {
            self.heartbeat(state, newest).await?;
        }
        Ok(())
    }

    /// Sends the events of a page that match, in frames of bounded size. The position follows what was handed over.
    async fn send_page(&self, state: &mut State, page: &[Arc<StoredEvent>]) -> Result<(), Stop> {
        let mut batch = Vec::new();
        let mut batch_bytes = 0;
        let mut passed = state.position;
        for event in page {
            let here = Cursor { seq: event.seq, id_prefix: Cursor::id_prefix(events::id(event)), ..passed };
            if self.subscription.filter.matches(&events::attributes(event)) {
                let segments = events::segments(event, self.subscription.view);
                let bytes: usize = segments.iter().map(Bytes::len).sum();
                let is_full = batch.len() >= self.subscription.batch_events_max
                    || batch_bytes + bytes > FRAME_BYTES_MAX;
                if is_full && !batch.is_empty() {
                    self.send(state, Frame::Events(std::mem::take(&mut batch))).await?;
                    state.position = passed;
                    batch_bytes = 0;
                }
                batch_bytes += bytes;
                batch.push(Delivered { segments, cursor: here.encode() });
            }
            passed = here;
        }
        if !batch.is_empty() {
            self.send(state, Frame::Events(batch)).await?;
        }
        state.position = passed;
        // What is read after a reconnect says nothing about how fast events travel.
        if let Some(oldest) = page.first().filter(|_| state.is_live) {
            let age = self.clock.now_ms().saturating_sub(oldest.append_ms);
            histogram!(names::EVENT_AGE).record(Duration::from_millis(age));
        }
        Ok(())
    }

    /// Retention overtook the stream.
    async fn pass_gap(&self, state: &mut State, earliest: u64, newest: u64) -> Result<(), Stop> {
        let from = state.position;
        let to_seq = match self.subscription.on_expired {
            OnExpired::Fail | OnExpired::Earliest => earliest.saturating_sub(1),
            OnExpired::Latest => newest,
        };
        let missing = to_seq.saturating_sub(from.seq);
        let id_prefix = super::id_prefix_at(self.log.as_ref(), to_seq).await.unwrap_or_default();
        let to = Cursor { seq: to_seq, id_prefix, ..from };
        if self.subscription.on_expired == OnExpired::Fail {
            return Err(Stop::End(End::Expired { earliest_cursor: to.encode(), missing }));
        }
        state.position = to;
        let gap = Frame::Gap { from_cursor: from.encode(), to_cursor: to.encode(), missing };
        self.send(state, gap).await
    }

    /// At the tail: says so once, then waits for news, the next heartbeat, or the end.
    async fn wait(&self, state: &mut State, tail: &mut watch::Receiver<u64>) -> Result<(), Stop> {
        if !state.is_live {
            state.is_live = true;
            self.send(state, Frame::CaughtUp { cursor: state.position.encode() }).await?;
        }
        if self.subscription.stop_when_caught_up && state.position.seq >= state.opened_tail {
            return Err(Stop::End(End::CaughtUp));
        }
        tokio::select! {
            changed = tail.changed() => {
                if changed.is_err() {
                    return Err(Stop::End(End::Unreadable { resume_cursor: state.position.encode() }));
                }
                Ok(())
            }
            () = sleep_until(state.next_heartbeat) => self.heartbeat(state, state.position.seq).await,
            () = sleep_until(state.rotate_at) => Ok(()),
            () = self.shutdown.drain().cancelled() => Ok(()),
            () = self.frames.closed() => Err(Stop::Gone),
        }
    }

    async fn heartbeat(&self, state: &mut State, newest: u64) -> Result<(), Stop> {
        let backlog = newest.saturating_sub(state.position.seq);
        let server_time = self.clock.now();
        self.send(state, Frame::Heartbeat { cursor: state.position.encode(), server_time, backlog }).await
    }

    /// Hands one frame over; a subscriber that does not take it in time is slow.
    async fn send(&self, state: &mut State, frame: Frame) -> Result<(), Stop> {
        let resume_cursor = || state.position.encode();
        let events = if let Frame::Events(events) = &frame { events.len() as u64 } else { 0 };
        let sent = tokio::select! {
            biased;
            sent = self.frames.send_timeout(frame, self.limits.send_timeout) => sent,
            () = self.shutdown.drain().cancelled() => {
                return Err(Stop::End(End::Draining { resume_cursor: resume_cursor() }));
            }
        };
        match sent {
            Ok(()) => {
                counter!(names::EVENTS_DELIVERED).increment(events);
                state.next_heartbeat = Instant::now() + self.subscription.heartbeat_interval;
                Ok(())
            }
            Err(SendTimeoutError::Closed(_)) => Err(Stop::Gone),
            Err(SendTimeoutError::Timeout(_)) => {
                Err(Stop::End(End::SlowConsumer { resume_cursor: resume_cursor() }))
            }
        }
    }
}

/// Up to a fifth shorter or longer, so that streams opened together do not end together.
fn jittered(duration: Duration) -> Duration {
    let [.., random] = Uuid::now_v7().into_bytes();
    duration.mul_f64(0.8 + 0.4 * f64::from(random) / 255.0)
}
