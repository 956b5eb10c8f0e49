//! The task behind the stream of one worker.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use metrics::counter;
use tokio::sync::watch;
use tokio::time::{Instant, Sleep, sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::clock::SharedClock;
use crate::domain::cursor::{Cursor, engine_name};
use crate::domain::filter::EventFilter;
use crate::domain::subscription::{AckId, Lease, Most, WorkerId};
use crate::lifecycle::Shutdown;
use crate::storage::event_log::{ReadError, StoredEvent};
use crate::storage::events::{self, BatchEncoder, Delivery};
use crate::storage::keyed_state::StateError;
use crate::storage::leadership::Leadership;
use crate::telemetry::names;

use super::super::deliver_events::{
    Batch, End, FRAME_BYTES_MAX, Frame, GroupTerms, OnExpired, Outlet, Stop, cursor_at, jittered,
};
use super::active::Active;
use super::{Inner, Work};

/// How long a stream waits for a leader whose renewals are late, and between two looks.
const WITHOUT_LEAD_MAX: Duration = Duration::from_secs(1);
const LOOK: Duration = Duration::from_millis(100);

/// Feeds one worker.
pub(super) struct Feed {
    active: Arc<Active>,
    work: Work,
    outlet: Outlet,
    news: watch::Receiver<u64>,
    rotation: Duration,
    leadership: Leadership,
    clock: SharedClock,
    shutdown: Shutdown,
}

/// Where a stream is.
struct State {
    worker: WorkerId,
    /// The tail when it was opened.
    opened_tail: u64,
    is_caught_up: bool,
    next_heartbeat: Instant,
    rotate_at: Instant,
}

/// What a stream that waits is woken by.
struct Waking<'w> {
    /// Of the tail, and of the subscription.
    news: (watch::Receiver<u64>, watch::Receiver<()>),
    drain: CancellationToken,
    alarm: Pin<&'w mut Sleep>,
}

/// Why nothing could be handed over.
enum Broken {
    /// Retention has removed what comes before.
    Trimmed(u64),
    /// Somebody else may lead already, and hand out the same.
    NotLeading,
    Stop(Stop),
}

impl From<ReadError> for Broken {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Trimmed { earliest } => Self::Trimmed(earliest),
            ReadError::Closed | ReadError::Failed(_) => Self::Stop(unreadable(&error)),
        }
    }
}

impl From<StateError> for Broken {
    fn from(error: StateError) -> Self {
        Self::Stop(unreadable(&error))
    }
}

impl From<Stop> for Broken {
    fn from(stop: Stop) -> Self {
        Self::Stop(stop)
    }
}

fn unreadable(error: &impl std::error::Error) -> Stop {
    warn!(%error, "the events of a subscription cannot be read");
    Stop::End(End::Unreadable { resume_cursor: nowhere() })
}

/// A subscription knows itself where to go on.
fn nowhere() -> String {
    String::new()
}

impl Feed {
    pub(super) fn new(inner: &Inner, active: Arc<Active>, work: Work, outlet: Outlet) -> Self {
        let (clock, shutdown) = (Arc::clone(&inner.clock), inner.shutdown.clone());
        let (news, rotation) = (inner.streams.news(), inner.streams.rotation());
        let leadership = inner.leadership.clone();
        Self { active, work, outlet, news, rotation, leadership, clock, shutdown }
    }

    pub(super) async fn run(self, stream_id: String) {
        let now = Instant::now();
        let mut state = State {
            worker: self.active.machine().attach(self.work.wish.clone(), self.clock.now_ms()),
            opened_tail: *self.active.log.watch_tail().borrow(),
            is_caught_up: false,
            next_heartbeat: now + self.work.heartbeat_interval,
            rotate_at: now + jittered(self.rotation),
        };
        info!("worker attached");
        // The worker that is replaced.
        self.active.tell();
        let stop = match self.open(stream_id, &mut state).await {
            Ok(()) => self.feed(&mut state).await,
            Err(stop) => stop,
        };
        self.active.detach(state.worker);
        self.outlet.close(stop).await;
    }

    async fn open(&self, stream_id: String, state: &mut State) -> Result<(), Stop> {
        let earliest = self.active.log.bounds().await.map(|bounds| bounds.earliest.saturating_sub(1));
        let earliest = earliest.map_err(|error| unreadable(&error))?;
        let opened = Frame::Opened {
            engine: engine_name(self.active.log.engine()),
            stream_id,
            start_cursor: self.floor().await?,
            earliest_cursor: self.cursor(earliest).await?,
            heartbeat_interval: self.work.heartbeat_interval,
            batch_events_max: self.work.batch_events_max,
            group: Some(GroupTerms {
                outstanding_events_max: self.work.wish.events_max,
                outstanding_bytes_max: self.work.wish.bytes_max,
                ack_deadline: self.active.settings().terms.ack_deadline,
            }),
        };
        self.send(state, opened).await
    }

    async fn feed(&self, state: &mut State) -> Stop {
        let alarm = pin!(sleep_until(state.next_heartbeat));
        let drain = self.shutdown.drain().child_token();
        let mut waking = Waking { news: (self.news.clone(), self.active.watch()), drain, alarm };
        loop {
            match self.step(state, &mut waking).await {
                Ok(()) => {}
                Err(Broken::Trimmed(earliest)) => {
                    if let Err(Broken::Stop(stop)) = self.pass_gap(state, earliest).await {
                        return stop;
                    }
                }
                Err(Broken::NotLeading) => {
                    if let Err(stop) = self.lead_again(&waking.drain).await {
                        return stop;
                    }
                }
                Err(Broken::Stop(stop)) => return stop,
            }
        }
    }

    async fn step(&self, state: &mut State, waking: &mut Waking<'_>) -> Result<(), Broken> {
        self.check(state, waking)?;
        self.leads()?;
        if Instant::now() >= state.next_heartbeat {
            self.heartbeat(state).await?;
        }
        // What comes from here on is news.
        waking.news.0.borrow_and_update();
        waking.news.1.borrow_and_update();
        self.room(state).await?;
        if let Some((batch, leases)) = self.next_batch(state).await? {
            state.is_caught_up = false;
            let sent = self.send(state, Frame::Events(batch)).await;
            let mut machine = self.active.machine();
            match &sent {
                Ok(()) => machine.handed_over(&leases, self.clock.now_ms()),
                Err(_) => leases.iter().rev().for_each(|number| machine.unlease(*number)),
            }
            return Ok(sent?);
        }
        if self.active.look().await? {
            return Ok(());
        }
        Ok(self.wait(state, waking).await?)
    }

    /// Whether the stream may go on.
    fn check(&self, state: &State, waking: &Waking<'_>) -> Result<(), Stop> {
        let end = if self.active.deleted.is_cancelled() {
            End::Deleted
        } else if !self.active.machine().is_attached(state.worker) {
            End::TakenOver
        } else if waking.drain.is_cancelled() {
            End::Draining { resume_cursor: nowhere() }
        } else if Instant::now() >= state.rotate_at {
            End::Rotated { resume_cursor: nowhere() }
        } else {
            return Ok(());
        };
        Err(Stop::End(end))
    }

    fn leads(&self) -> Result<(), Broken> {
        if self.leadership.holds() { Ok(()) } else { Err(Broken::NotLeading) }
    }

    /// Waits until this process leads for sure; in vain if the worker must look for who leads now.
    async fn lead_again(&self, drain: &CancellationToken) -> Result<(), Stop> {
        let until = Instant::now() + WITHOUT_LEAD_MAX;
        while !self.leadership.holds() && !drain.is_cancelled() && !self.active.deleted.is_cancelled() {
            if Instant::now() >= until {
                return Err(Stop::End(End::NotLeading));
            }
            tokio::select! {
                () = sleep(LOOK) => {}
                () = self.outlet.gone() => return Err(Stop::Gone),
            }
        }
        Ok(())
    }

    /// Waits until a frame fits in: a lease runs from the moment when it can go out. Others go on meanwhile.
    async fn room(&self, state: &State) -> Result<(), Stop> {
        if self.outlet.has_room() {
            return Ok(());
        }
        self.active.machine().set_stalled(state.worker, true);
        self.active.tell();
        let room = self.outlet.room(nowhere).await;
        self.active.machine().set_stalled(state.worker, false);
        room
    }

    /// Leases what there is for this worker, as one frame; and which leases are in it.
    async fn next_batch(&self, state: &State) -> Result<Option<(Batch, Vec<u64>)>, Broken> {
        // Nothing is passed over for a caller of whom it cannot be told what it may see.
        let Some(filter) = self.active.filter() else { return Ok(None) };
        let most = Most { events: self.work.batch_events_max, bytes: FRAME_BYTES_MAX as u64 };
        // There may have been no room for long.
        self.leads()?;
        let (leases, is_any_left) = {
            let mut machine = self.active.machine();
            (machine.lease(state.worker, self.clock.now_ms(), most), machine.is_any_ready())
        };
        if leases.is_empty() {
            return Ok(None);
        }
        if is_any_left {
            // The others may take more now.
            self.active.tell();
        }
        let mut batch = BatchEncoder::default();
        let mut added = Vec::with_capacity(leases.len());
        let (mut failed, mut page) = (None, Vec::new());
        for lease in &leases {
            match self.add(&mut batch, *lease, &filter, &mut page).await {
                Ok(cursor) => added.extend(cursor.map(|cursor| (lease.number, cursor))),
                Err(error) => {
                    failed = Some(Broken::from(error));
                    break;
                }
            }
        }
        failed = failed.or_else(|| self.leads().err());
        {
            let mut machine = self.active.machine();
            // A seek or a takeover may have ended them meanwhile.
            if failed.is_some() || added.iter().any(|(number, _)| !machine.is_leased(*number)) {
                // None of them was handed over.
                leases.iter().rev().for_each(|lease| machine.unlease(lease.number));
                return failed.map_or(Ok(None), Err);
            }
        }
        let Some((_, through)) = added.last().copied() else { return Ok(None) };
        let numbers: Vec<u64> = added.into_iter().map(|(number, _)| number).collect();
        Ok(Some((Batch { encoded: batch.take(), events: numbers.len() as u64, through }, numbers)))
    }

    /// Adds an event to a frame; not if the caller may not see it any more.
    async fn add(
        &self,
        batch: &mut BatchEncoder,
        lease: Lease,
        filter: &EventFilter,
        page: &mut Vec<Arc<StoredEvent>>,
    ) -> Result<Option<Cursor>, ReadError> {
        let Some(event) = self.active.event(lease.place, page).await? else {
            self.active.machine().pass(lease.number);
            return Ok(None);
        };
        if !filter.matches(&events::attributes(&event)) {
            self.active.decline(lease);
            return Ok(None);
        }
        if lease.attempt > 1 {
            counter!(names::SUBSCRIPTION_REDELIVERIES).increment(1);
        }
        let id =
            AckId { subscription: self.active.id, incarnation: self.active.incarnation, lease: lease.number };
        let (ack_id, cursor) = (id.encode(), self.active.cursor_of(&event));
        let delivery = Delivery { ack_id: &ack_id, attempt: lease.attempt };
        events::encode(batch, &event, self.work.view, &cursor.encode(), Some(delivery));
        Ok(Some(cursor))
    }

    /// Retention has removed what is not done.
    async fn pass_gap(&self, state: &mut State, earliest: u64) -> Result<(), Broken> {
        if !self.active.machine().has_before(earliest) {
            return Ok(());
        }
        let from_cursor = self.floor().await?;
        let floor = self.active.machine().floor();
        let to = match self.work.on_expired {
            OnExpired::Fail => {
                let missing = earliest.saturating_sub(floor + 1);
                let earliest_cursor = self.cursor(earliest.saturating_sub(1)).await?;
                return Err(Stop::End(End::Expired { earliest_cursor, missing }).into());
            }
            OnExpired::Earliest => earliest,
            OnExpired::Latest => *self.active.log.watch_tail().borrow() + 1,
        };
        let missing = self.active.skip(to).await?;
        let to_cursor = self.cursor(to.saturating_sub(1)).await?;
        Ok(self.send(state, Frame::Gap { from_cursor, to_cursor, missing }).await?)
    }

    /// Nothing to do: says so once, then waits until that may have changed.
    async fn wait(&self, state: &mut State, waking: &mut Waking<'_>) -> Result<(), Stop> {
        let (scanned, wants_more) = {
            let machine = self.active.machine();
            (machine.scanned(), machine.wants_more())
        };
        let is_at_tail = scanned >= *waking.news.0.borrow() && scanned >= state.opened_tail;
        if is_at_tail && !state.is_caught_up {
            state.is_caught_up = true;
            let cursor = self.floor().await?;
            self.send(state, Frame::CaughtUp { cursor }).await?;
        }
        // It may also have as much in hand as it takes.
        if self.work.stop_when_caught_up && (scanned >= state.opened_tail || !wants_more) {
            return Err(Stop::End(End::CaughtUp));
        }
        let wake_in = self.active.machine().next_wake_ms().map(|at| at.saturating_sub(self.clock.now_ms()));
        let soonest = state.next_heartbeat.min(state.rotate_at);
        let at = wake_in.map_or(soonest, |ms| soonest.min(Instant::now() + Duration::from_millis(ms)));
        waking.alarm.as_mut().reset(at);
        let (tail, own) = &mut waking.news;
        tokio::select! {
            changed = tail.changed() => changed.map_err(|_| Stop::End(End::Unreadable { resume_cursor: nowhere() })),
            _ = own.changed() => Ok(()),
            () = waking.alarm.as_mut() => Ok(()),
            () = waking.drain.cancelled() => Ok(()),
            () = self.active.deleted.cancelled() => Ok(()),
            () = self.outlet.gone() => Err(Stop::Gone),
        }
    }

    async fn heartbeat(&self, state: &mut State) -> Result<(), Stop> {
        let (cursor, server_time) = (self.floor().await?, self.clock.now());
        let tail = *self.active.log.watch_tail().borrow();
        let (backlog, outstanding) = {
            let machine = self.active.machine();
            let unseen = tail.saturating_sub(machine.scanned());
            (machine.undone() + unseen, machine.outstanding(state.worker))
        };
        self.send(state, Frame::Heartbeat { cursor, server_time, backlog, outstanding }).await
    }

    async fn send(&self, state: &mut State, frame: Frame) -> Result<(), Stop> {
        self.outlet.send(frame, nowhere).await?;
        state.next_heartbeat = Instant::now() + self.work.heartbeat_interval;
        Ok(())
    }

    async fn floor(&self) -> Result<String, Stop> {
        let floor = self.active.machine().floor();
        self.cursor(floor).await
    }

    async fn cursor(&self, seq: u64) -> Result<String, Stop> {
        let cursor = cursor_at(self.active.log.as_ref(), seq).await;
        cursor.map(|cursor| cursor.encode()).map_err(|error| unreadable(&error))
    }
}
