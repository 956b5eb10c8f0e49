//! The task behind one stream: reads, filters, batches, keeps time, and ends loudly.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use metrics::histogram;
use tokio::sync::watch;
use tokio::time::{Instant, Sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::clock::SharedClock;
use crate::domain::cursor::{Cursor, engine_name};
use crate::lifecycle::Shutdown;
use crate::storage::event_log::{EventLog, ReadError, ReadLimit};
use crate::telemetry::names;

use super::batches::{self, Cut, Cuts};
use super::outlet::{Outlet, Stop, jittered};
use super::start::Started;
use super::{End, Frame, OnExpired, Subscription};

/// What one read takes; a stream that catches up holds this much until its subscriber has taken it.
const PAGE: ReadLimit = ReadLimit { events: 256, bytes: 256 * 1024 };
/// Events behind the tail from which on a live stream is told that it fell behind.
const FELL_BEHIND_EVENTS: u64 = 10_000;

/// What feeds one stream.
pub(super) struct Feed {
    pub(super) log: Arc<dyn EventLog>,
    /// The tail.
    pub(super) news: watch::Receiver<u64>,
    pub(super) cuts: Arc<Cuts>,
    pub(super) subscription: Subscription,
    pub(super) rotation: Duration,
    pub(super) clock: SharedClock,
    pub(super) shutdown: Shutdown,
    pub(super) outlet: Outlet,
    /// Where it is, for the metrics.
    pub(super) reached: Arc<AtomicU64>,
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

/// What a stream that waits is woken by, besides news. It is set up once: a stream waits after every event.
struct Waking<'w> {
    news: watch::Receiver<u64>,
    /// A token of its own, so that its lock is too.
    drain: CancellationToken,
    /// Never later than the next heartbeat and the end of the stream's life.
    alarm: Pin<&'w mut Sleep>,
}

impl Feed {
    pub(super) async fn run(self, stream_id: String, started: Started) {
        let now = Instant::now();
        let mut state = State {
            position: started.position,
            opened_tail: started.tail,
            is_live: false,
            next_heartbeat: now + self.subscription.heartbeat_interval,
            rotate_at: now + jittered(self.rotation),
        };
        info!("stream opened");
        let stop = match self.open(stream_id, &started, &mut state).await {
            Ok(()) => self.feed(&mut state).await,
            Err(stop) => stop,
        };
        self.outlet.close(stop).await;
    }

    async fn open(&self, stream_id: String, started: &Started, state: &mut State) -> Result<(), Stop> {
        let opened = Frame::Opened {
            engine: engine_name(self.log.engine()),
            stream_id,
            start_cursor: started.position.encode(),
            earliest_cursor: started.earliest.encode(),
            heartbeat_interval: self.subscription.heartbeat_interval,
            batch_events_max: self.subscription.batch_events_max,
            group: None,
        };
        self.send(state, opened).await?;
        if let Some((from, missing)) = &started.gap {
            let to_cursor = started.position.encode();
            self.send(state, Frame::Gap { from_cursor: from.encode(), to_cursor, missing: *missing }).await?;
        }
        Ok(())
    }

    async fn feed(&self, state: &mut State) -> Stop {
        let alarm = pin!(sleep_until(state.next_heartbeat.min(state.rotate_at)));
        let (news, drain) = (self.news.clone(), self.shutdown.drain().child_token());
        let mut waking = Waking { news, drain, alarm };
        loop {
            if let Err(stop) = Self::check(state, &waking) {
                return stop;
            }
            // News come late under load, and what was there at the start is no news.
            let newest = state.opened_tail.max(*waking.news.borrow_and_update());
            let step = if state.position.seq < newest {
                self.advance(state, newest).await
            } else {
                self.wait(state, &mut waking).await
            };
            if let Err(stop) = step {
                return stop;
            }
        }
    }

    /// Whether the stream may go on.
    fn check(state: &State, waking: &Waking<'_>) -> Result<(), Stop> {
        let resume_cursor = || state.position.encode();
        if waking.drain.is_cancelled() {
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
        let after = state.position.seq;
        let shared = if state.is_live { self.cuts.get(&self.subscription, after, newest) } else { None };
        let cut = match shared {
            Some(cut) => cut,
            None => match self.log.read(after, PAGE).await {
                Ok(page) => {
                    let cut = Arc::new(batches::cut(&page, &self.subscription, state.position));
                    if state.is_live {
                        self.cuts.keep(&self.subscription, after, newest, &cut);
                    }
                    cut
                }
                Err(ReadError::Trimmed { earliest }) => return self.pass_gap(state, earliest, newest).await,
                Err(error @ (ReadError::Closed | ReadError::Failed(_))) => {
                    warn!(%error, "the log cannot be read");
                    let resume_cursor = state.position.encode();
                    return Err(Stop::End(End::Unreadable { resume_cursor }));
                }
            },
        };
        self.send_all(state, &cut).await?;
        if Instant::now() >= state.next_heartbeat {
            self.heartbeat(state, newest).await?;
        }
        Ok(())
    }

    /// Sends the batches of a page. The position follows what was handed over.
    async fn send_all(&self, state: &mut State, cut: &Cut) -> Result<(), Stop> {
        for batch in &cut.batches {
            self.send(state, Frame::Events(batch.clone())).await?;
            self.move_to(state, batch.through);
        }
        self.move_to(state, cut.through);
        // What is read after a reconnect says nothing about how fast events travel.
        if state.is_live {
            let age = self.clock.now_ms().saturating_sub(cut.append_ms);
            histogram!(names::EVENT_AGE).record(Duration::from_millis(age));
        }
        Ok(())
    }

    fn move_to(&self, state: &mut State, position: Cursor) {
        state.position = position;
        self.reached.store(position.seq, Ordering::Relaxed);
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
        self.move_to(state, to);
        let gap = Frame::Gap { from_cursor: from.encode(), to_cursor: to.encode(), missing };
        self.send(state, gap).await
    }

    /// At the tail: says so once, then waits for news, the next heartbeat, or the end.
    async fn wait(&self, state: &mut State, waking: &mut Waking<'_>) -> Result<(), Stop> {
        if !state.is_live {
            state.is_live = true;
            self.send(state, Frame::CaughtUp { cursor: state.position.encode() }).await?;
        }
        if self.subscription.stop_when_caught_up && state.position.seq >= state.opened_tail {
            return Err(Stop::End(End::CaughtUp));
        }
        tokio::select! {
            changed = waking.news.changed() => {
                if changed.is_err() {
                    return Err(Stop::End(End::Unreadable { resume_cursor: state.position.encode() }));
                }
                Ok(())
            }
            () = waking.alarm.as_mut() => {
                // It may have been set for a heartbeat that an event made needless.
                if Instant::now() >= state.next_heartbeat {
                    self.heartbeat(state, state.position.seq).await?;
                }
                waking.alarm.as_mut().reset(state.next_heartbeat.min(state.rotate_at));
                Ok(())
            }
            () = waking.drain.cancelled() => Ok(()),
            () = self.outlet.gone() => Err(Stop::Gone),
        }
    }

    async fn heartbeat(&self, state: &mut State, newest: u64) -> Result<(), Stop> {
        let backlog = newest.saturating_sub(state.position.seq);
        let server_time = self.clock.now();
        self.send(
            state,
            Frame::Heartbeat { cursor: state.position.encode(), server_time, backlog, outstanding: 0 },
        )
        .await
    }

    async fn send(&self, state: &mut State, frame: Frame) -> Result<(), Stop> {
        self.outlet.send(frame, || state.position.encode()).await?;
        state.next_heartbeat = Instant::now() + self.subscription.heartbeat_interval;
        Ok(())
    }
}
