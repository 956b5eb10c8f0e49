//! The newest events in the order of the stream, whoever wrote them and from wherever they are known.
//!
//! A writer hands over what it has stored, and the [`Follower`] what it reads. Nothing is published before all that stands before
//! it in the stream, so a reader never sees an event before an earlier one.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep};

use super::Context;
use super::journal::{self, Page};
use super::news::LOOK;
use super::records::decode_event;
use super::streams;
use super::wire::{Fault, Stored};
use crate::storage::event_log::{EventId, StoredEvent};
use crate::storage::shared::Shared;

/// Ids that are known without asking.
const KNOWN_MAX: usize = 65_536;
/// Events and bytes of them that wait for earlier ones; the others are read again.
const AHEAD_MAX: (usize, usize) = (4_096, 16 * 1024 * 1024);
/// How long an event must be missing until that is believed.
const DOUBT: Duration = Duration::from_secs(10);

/// What is known of the end of the log.
#[derive(Debug)]
pub(super) struct Tail {
    shared: Arc<Shared>,
    inner: Mutex<Inner>,
    /// The newest event that somebody has spoken of.
    wanted: AtomicU64,
    woken: Notify,
}

#[derive(Debug, Default)]
struct Inner {
    /// Stored, and waiting for what stands before.
    ahead: BTreeMap<u64, Arc<StoredEvent>>,
    ahead_bytes: usize,
    known: Known,
    /// The newest time of all that was seen.
    append_ms: u64,
}

/// Positions of the ids that were met last.
#[derive(Debug, Default)]
struct Known {
    seqs: HashMap<EventId, u64>,
    order: VecDeque<EventId>,
}

impl Known {
    fn insert(&mut self, id: EventId, seq: u64) {
        if self.seqs.insert(id, seq).is_none() {
            self.order.push_back(id);
        }
        while self.order.len() > KNOWN_MAX {
            if let Some(id) = self.order.pop_front() {
                self.seqs.remove(&id);
            }
        }
    }
}

impl Inner {
    fn keep(&mut self, event: Arc<StoredEvent>) {
        let bytes = event.size_bytes();
        if self.ahead.len() < AHEAD_MAX.0 && self.ahead_bytes + bytes <= AHEAD_MAX.1 {
            self.ahead_bytes += bytes;
            if let Some(before) = self.ahead.insert(event.seq, event) {
                self.ahead_bytes -= before.size_bytes();
            }
        }
    }

    fn take_ahead(&mut self, seq: u64) -> Option<Arc<StoredEvent>> {
        let event = self.ahead.remove(&seq)?;
        self.ahead_bytes -= event.size_bytes();
        Some(event)
    }
}

impl Tail {
    /// Where the log ends as it was opened; `append_ms` is the time of its newest event.
    pub(super) fn new(shared: Arc<Shared>, append_ms: u64) -> Self {
        let wanted = AtomicU64::new(shared.bounds().tail);
        let inner = Mutex::new(Inner { append_ms, ..Inner::default() });
        Self { shared, inner, wanted, woken: Notify::new() }
    }

    /// Takes events of the stream, in their order, and publishes what now follows without a gap.
    pub(super) fn offer(&self, events: impl IntoIterator<Item = Arc<StoredEvent>>) {
        let mut inner = self.inner();
        let before = self.shared.bounds().tail;
        let (mut tail, mut run) = (before, Vec::new());
        for event in events {
            inner.append_ms = inner.append_ms.max(event.append_ms);
            inner.known.insert(event.id, event.seq);
            if event.seq <= tail {
                continue;
            }
            if event.seq > tail + 1 {
                inner.keep(event);
                continue;
            }
            let mut next = Some(event);
            while let Some(event) = next {
                tail = event.seq;
                run.push(event);
                next = inner.take_ahead(tail + 1);
            }
        }
        if tail > before {
            self.shared.publish(&run);
            self.shared.measure();
        }
    }

    /// Nothing up to `seq` is there any more.
    fn skip_through(&self, seq: u64) {
        let mut inner = self.inner();
        inner.ahead = inner.ahead.split_off(&(seq + 1));
        inner.ahead_bytes = inner.ahead.values().map(|event| event.size_bytes()).sum();
        self.shared.skip_through(seq);
    }

    /// There are events up to `seq`: has them read, if they are not here.
    pub(super) fn want(&self, seq: u64) {
        self.wanted.fetch_max(seq, Ordering::AcqRel);
        if seq > self.shared.bounds().tail {
            self.woken.notify_one();
        }
    }

    /// Where these ids are that were met lately and are not older than `held_from`.
    pub(super) fn known<'a>(
        &self,
        ids: impl IntoIterator<Item = &'a EventId>,
        held_from: u64,
    ) -> HashMap<EventId, u64> {
        let inner = self.inner();
        let known = ids.into_iter().filter_map(|id| Some((*id, *inner.known.seqs.get(id)?)));
        known.filter(|(_, seq)| *seq >= held_from).collect()
    }

    /// The time of an event that is appended now: not before any that was seen.
    pub(super) fn append_ms(&self, now_ms: u64) -> u64 {
        self.inner().append_ms.max(now_ms)
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads what others append.
#[derive(Debug)]
pub(super) struct Follower {
    pub(super) context: Arc<Context>,
}

impl Follower {
    /// Reads until told to stop. An error is the end: events are missing.
    pub(super) async fn run(self) -> Result<(), String> {
        let mut missing_since: Option<Instant> = None;
        loop {
            tokio::select! {
                () = self.context.stop.cancelled() => return Ok(()),
                () = self.context.tail.woken.notified() => {}
                () = sleep(LOOK) => {}
            }
            match self.read_on().await {
                Ok(None) => missing_since = None,
                Ok(Some(seq)) if missing_since.is_some_and(|since| since.elapsed() > DOUBT) => {
                    return Err(format!(
                        "the event {seq} is missing or damaged in the stream {}; restore it from a backup",
                        self.context.names.events
                    ));
                }
                Ok(Some(_)) => drop(missing_since.get_or_insert_with(Instant::now)),
                // Whoever writes, and the watchdog, say that loudly enough.
                Err(fault) => tracing::debug!(%fault, "the events were not read on"),
            }
        }
    }

    /// Reads all that is there; returns the first event that is not, if later ones are.
    async fn read_on(&self) -> Result<Option<u64>, Fault> {
        let Context { wire, names, tail, shared, .. } = &*self.context;
        loop {
            let (from, wanted) = (shared.bounds().tail + 1, tail.wanted.load(Ordering::Acquire));
            let Page { messages, is_full } = journal::page(wire, &names.events, from, wanted).await?;
            let Some(first) = messages.first().map(|message| message.seq) else {
                // It was never there, or is gone already.
                tail.wanted.compare_exchange(wanted, 0, Ordering::AcqRel, Ordering::Acquire).ok();
                return Ok(None);
            };
            if first > from && !self.skip_to(first).await? {
                return Ok(Some(from));
            }
            let mut events = Vec::with_capacity(messages.len());
            let mut damaged = None;
            for Stored { seq, payload } in messages {
                match decode_event(seq, payload) {
                    Some((_, event)) => events.push(Arc::new(event)),
                    None => damaged = damaged.or(Some(seq)),
                }
            }
            tail.offer(events);
            if damaged.is_some() || !is_full {
                return Ok(damaged);
            }
        }
    }

    /// The stream begins at `first` now, if what was before was trimmed.
    async fn skip_to(&self, first: u64) -> Result<bool, Fault> {
        let Context { wire, names, tail, .. } = &*self.context;
        let info = streams::info(wire, &names.events).await?;
        let is_trimmed = info.is_some_and(|info| info.state.first_seq >= first);
        if is_trimmed {
            tail.skip_through(first - 1);
        }
        Ok(is_trimmed)
    }
}
