//! log → subscribers: starts, filters, views, frames, and the end of every stream.
//!
//! Each stream is a position of its own and reads the log when the tail moves; nothing is queued for it but a few frames
//! in flight. A stream that does not read is closed with a cursor, and slows nobody else.

mod batches;
mod feed;
mod lag;
mod news;
mod outlet;
mod start;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use metrics::gauge;
use tokio::sync::{mpsc, oneshot, watch};
use tracing::{Instrument, info_span};
use uuid::Uuid;

use crate::clock::SharedClock;
use crate::domain::caller::Caller;
use crate::domain::cursor::Cursor;
use crate::domain::filter::EventFilter;
use crate::lifecycle::Shutdown;
use crate::storage::event_log::{EventLog, ReadError};
pub use crate::storage::events::View;
use crate::telemetry::names;

use batches::Cuts;

pub use batches::Batch;
pub(in crate::flows) use outlet::{Outlet, Stop, jittered};
pub use start::StartError;
pub(in crate::flows) use start::resolve;

/// Frames in flight to one stream.
const FRAMES_IN_FLIGHT: usize = 8;
/// Bytes of events in one frame; a larger event goes alone.
pub(in crate::flows) const FRAME_BYTES_MAX: usize = 64 * 1024;

/// Cuts the connection of a subscriber.
pub type OnStuck = Box<dyn FnOnce() + Send + Sync>;

/// Where a stream starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Start {
    /// With what comes from now on.
    Latest,
    /// With the first event that is kept.
    Earliest,
    /// After this position.
    After(Cursor),
    /// With the first event that was appended at or after this time.
    Time(SystemTime),
}

/// What to do when retention has passed the position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnExpired {
    /// End with an error.
    Fail,
    /// Say what is missing and go on with the first event that is kept.
    Earliest,
    /// Say what is missing and go on with what comes from now on.
    Latest,
}

/// What a subscriber asks for.
#[derive(Debug, Clone)]
pub struct Subscription {
    /// Where to start.
    pub start: Start,
    /// Which events.
    pub filter: EventFilter,
    /// What they carry.
    pub view: View,
    /// Silence after which a heartbeat is sent.
    pub heartbeat_interval: Duration,
    /// What to do when retention has passed the position.
    pub on_expired: OnExpired,
    /// Events in a frame.
    pub batch_events_max: usize,
    /// Whether to end when everything up to now was sent.
    pub stop_when_caught_up: bool,
    /// The subscriber's name for itself; for logs.
    pub client_id: String,
}

/// Limits of all streams.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Streams open at once.
    pub streams_max: usize,
    /// How long one frame may wait for a subscriber that does not read.
    pub send_timeout: Duration,
    /// How long a stream lives; each one's life is up to a fifth shorter or longer.
    pub rotation: Duration,
}

/// What a stream carries.
#[derive(Debug, Clone, PartialEq)]
pub enum Frame {
    /// The first frame.
    Opened {
        /// The engine of the log.
        engine: &'static str,
        /// Names the stream.
        stream_id: String,
        /// Where it starts.
        start_cursor: String,
        /// Before the first event that is kept.
        earliest_cursor: String,
        /// Silence after which a heartbeat is sent.
        heartbeat_interval: Duration,
        /// Events in a frame.
        batch_events_max: usize,
        /// What a worker of a subscription has to know.
        group: Option<GroupTerms>,
    },
    /// Events in the order of the log.
    Events(Batch),
    /// All is well.
    Heartbeat {
        /// Everything up to here was sent.
        cursor: String,
        /// The time of day.
        server_time: SystemTime,
        /// Stored events not looked at yet.
        backlog: u64,
        /// Events in the hands of this worker.
        outstanding: u64,
    },
    /// Everything stored was sent.
    CaughtUp {
        /// Up to here.
        cursor: String,
    },
    /// The stream reads stored events again.
    FellBehind {
        /// Up to here everything was sent.
        cursor: String,
    },
    /// Retention removed events.
    Gap {
        /// Where the stream was.
        from_cursor: String,
        /// Where it goes on.
        to_cursor: String,
        /// How many are missing.
        missing: u64,
    },
}

/// What holds for a worker of a subscription.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GroupTerms {
    /// Events it has in hand at most.
    pub outstanding_events_max: u64,
    /// Their bytes.
    pub outstanding_bytes_max: u64,
    /// How long it has for one.
    pub ack_deadline: Duration,
}

/// How a stream ended, and from where to go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// Everything that was asked for was sent.
    CaughtUp,
    /// The gateway is shutting down.
    Draining {
        /// From where to go on.
        resume_cursor: String,
    },
    /// The stream has lived its time.
    Rotated {
        /// From where to go on.
        resume_cursor: String,
    },
    /// The subscriber did not read.
    SlowConsumer {
        /// From where to go on.
        resume_cursor: String,
    },
    /// Retention removed events that were not sent yet.
    Expired {
        /// From where the stream can go on.
        earliest_cursor: String,
        /// How many are missing.
        missing: u64,
    },
    /// The log cannot be read.
    Unreadable {
        /// From where to go on.
        resume_cursor: String,
    },
    /// Another stream of the same worker was opened.
    TakenOver,
    /// The subscription was deleted.
    Deleted,
    /// This process may not lead any more; another one hands out what the subscription has.
    NotLeading,
}

impl End {
    /// A word for metrics.
    fn word(&self) -> &'static str {
        match self {
            Self::CaughtUp => "caught_up",
            Self::Draining { .. } => "draining",
            Self::Rotated { .. } => "rotated",
            Self::SlowConsumer { .. } => "slow_consumer",
            Self::Expired { .. } => "expired",
            Self::Unreadable { .. } => "unreadable",
            Self::TakenOver => "taken_over",
            Self::Deleted => "deleted",
            Self::NotLeading => "not_leading",
        }
    }
}

/// An open stream: frames until there are no more, then how it ended.
#[derive(Debug)]
pub struct EventStream {
    /// The frames.
    pub frames: mpsc::Receiver<Frame>,
    /// How it ended; ready when the frames are at their end. A stream that is cut says nothing.
    pub end: oneshot::Receiver<End>,
    /// Tells the feeding task that the subscriber has taken everything, or is gone.
    _taken: oneshot::Sender<()>,
    /// Gives the place among the open streams back.
    _place: Place,
}

/// Opens streams.
#[derive(Debug, Clone)]
pub struct DeliverEvents {
    log: Arc<dyn EventLog>,
    limits: Limits,
    clock: SharedClock,
    shutdown: Shutdown,
    open: Arc<AtomicUsize>,
    /// The tail, as streams hear of it.
    news: watch::Receiver<u64>,
    cuts: Arc<Cuts>,
    positions: lag::Positions,
}

impl DeliverEvents {
    /// Streams this log. It must be called inside the runtime.
    pub fn new(log: Arc<dyn EventLog>, limits: Limits, clock: SharedClock, shutdown: Shutdown) -> Self {
        let open = Arc::new(AtomicUsize::new(0));
        let tail = log.watch_tail();
        let (heard, news) = watch::channel(*tail.borrow());
        let positions = lag::Positions::default();
        let lag = lag::show(positions.clone(), Arc::clone(&log), tail.clone(), Arc::clone(&clock));
        drop(shutdown.spawn_background("stream lag", lag));
        drop(shutdown.spawn_background("news", news::pass_on(tail, heard, Arc::clone(&open))));
        Self { log, limits, clock, shutdown, open, news, cuts: Arc::default(), positions }
    }

    /// Opens a stream. `on_stuck` is called when the subscriber takes nothing even after its stream was closed: it
    /// should cut the connection.
    pub async fn open(
        &self,
        caller: &Caller,
        subscription: Subscription,
        on_stuck: OnStuck,
    ) -> Result<EventStream, StartError> {
        let place = self.place()?;
        let Subscription { start, on_expired, .. } = &subscription;
        let start = start::resolve(self.log.as_ref(), start, *on_expired).await?;
        let stream_id = Uuid::now_v7().simple().to_string();
        let span = info_span!(
            "event_stream",
            stream.id = stream_id,
            caller = caller.name(),
            client.id = subscription.client_id
        );
        let (stream, outlet) = self.outlet(place, on_stuck);
        let feed = feed::Feed {
            log: Arc::clone(&self.log),
            news: self.news.clone(),
            cuts: Arc::clone(&self.cuts),
            subscription,
            rotation: self.limits.rotation,
            clock: Arc::clone(&self.clock),
            shutdown: self.shutdown.clone(),
            outlet,
            reached: self.positions.join(start.position.seq),
        };
        drop(self.shutdown.spawn_request(feed.run(stream_id, start).instrument(span)));
        Ok(stream)
    }

    /// A place for a further stream.
    pub(in crate::flows) fn place(&self) -> Result<Place, StartError> {
        if self.shutdown.drain().is_cancelled() {
            return Err(StartError::Draining);
        }
        Place::take(&self.open, self.limits.streams_max)
    }

    /// A stream, and what feeds it.
    pub(in crate::flows) fn outlet(&self, place: Place, on_stuck: OnStuck) -> (EventStream, Outlet) {
        Outlet::open(place, self.limits.send_timeout, self.shutdown.clone(), on_stuck)
    }

    /// The tail, as streams hear of it.
    pub(in crate::flows) fn news(&self) -> watch::Receiver<u64> {
        self.news.clone()
    }

    /// How long a stream lives.
    pub(in crate::flows) fn rotation(&self) -> Duration {
        self.limits.rotation
    }
}

/// A place among the open streams.
#[derive(Debug)]
pub(in crate::flows) struct Place(Arc<AtomicUsize>);

impl Place {
    fn take(open: &Arc<AtomicUsize>, streams_max: usize) -> Result<Self, StartError> {
        let claim = |count: usize| (count < streams_max).then_some(count + 1);
        match open.fetch_update(Ordering::Relaxed, Ordering::Relaxed, claim) {
            Ok(_) => {
                gauge!(names::EVENT_STREAMS).increment(1.0);
                Ok(Self(Arc::clone(open)))
            }
            Err(_) => Err(StartError::TooManyStreams { streams_max }),
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
        gauge!(names::EVENT_STREAMS).decrement(1.0);
    }
}

/// The cursor that resumes after `seq`. It names the event there if that is kept.
pub(in crate::flows) async fn cursor_at(log: &dyn EventLog, seq: u64) -> Result<Cursor, ReadError> {
    let id_prefix = id_prefix_at(log, seq).await?;
    Ok(Cursor { engine: log.engine(), epoch: log.epoch(), seq, id_prefix })
}

/// The id prefix of the event at `seq`, which a cursor on it carries; zeros when it is not kept.
async fn id_prefix_at(log: &dyn EventLog, seq: u64) -> Result<[u8; 4], ReadError> {
    let limit = crate::storage::event_log::ReadLimit { events: 1, bytes: 1 };
    let Some(before) = seq.checked_sub(1) else { return Ok([0; 4]) };
    match log.read(before, limit).await {
        Ok(page) => {
            Ok(page.first().map_or([0; 4], |event| Cursor::id_prefix(crate::storage::events::id(event))))
        }
        Err(ReadError::Trimmed { .. }) => Ok([0; 4]),
        Err(error @ (ReadError::Closed | ReadError::Failed(_))) => Err(error),
    }
}
