//! One subscription of this process: its machine, and the log and the store beside it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sha2::{Digest, Sha256};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::clock::SharedClock;
use crate::domain::cursor::Cursor;
use crate::domain::filter::EventFilter;
use crate::domain::rights::Rights;
use crate::domain::subscription::{
    Candidate, Hole, Lease, Machine, Outcome, Place, Progress, Refused, WorkerId,
};
use crate::storage::event_log::{Acceptance, EventLog, ReadError, ReadLimit, Refusal, StoredEvent};
use crate::storage::events;
use crate::storage::keyed_state::StateError;
use crate::storage::subscriptions::{ParkedHead, Settings, SubscriptionId, SubscriptionStore};

use super::{Inner, count_outcome, lease_of, random};

/// What one read takes.
const PAGE: ReadLimit = ReadLimit { events: 256, bytes: 256 * 1024 };
/// As above, when everything that was left undone is read at once.
const LEFT: ReadLimit = ReadLimit { events: 4_096, bytes: 4 * 1024 * 1024 };
/// Bytes of events that are kept from reading them to handing them out, the first ones. Others are read again, by the page.
const KEPT_BYTES_MAX: usize = 1024 * 1024;

/// Why an outcome counts for nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AckRefusal {
    /// The delivery has ended.
    Expired,
    /// No delivery of ours.
    Unknown,
    /// Of another subscription.
    NotOwner,
    /// No further event can be parked: so many are, or there is no room for copies.
    ParkedFull,
}

#[derive(Debug)]
pub(super) struct Active {
    pub(super) log: Arc<dyn EventLog>,
    pub(super) store: SubscriptionStore,
    pub(super) clock: SharedClock,
    pub(super) id: SubscriptionId,
    pub(super) owner: String,
    pub(super) name: String,
    settings: Mutex<(Settings, u64)>,
    /// What its caller may see of what it wants; `None` while that cannot be told, or is nothing.
    filter: Mutex<Option<Arc<EventFilter>>>,
    pub(super) incarnation: [u8; 4],
    machine: Mutex<Machine>,
    /// Heads of the parked events; the store has them too.
    heads: Mutex<BTreeMap<u64, ParkedHead>>,
    kept: Mutex<Kept>,
    /// One looks for events at a time.
    pub(super) looking: tokio::sync::Mutex<()>,
    /// One writes at a time, and then all changes so far.
    pub(super) writing: tokio::sync::Mutex<Written>,
    /// Tells workers that something may have come for them.
    news: watch::Sender<()>,
    pub(super) deleted: CancellationToken,
}

#[derive(Debug, Default)]
pub(super) struct Kept {
    events: BTreeMap<u64, Arc<StoredEvent>>,
    bytes: usize,
}

#[derive(Debug)]
pub(super) struct Written {
    /// Of the stored progress.
    pub(super) revision: u64,
    /// The last change that it contains.
    pub(super) change: u64,
    pub(super) progress: Progress,
}

impl Active {
    /// A new one, which is durable when this returns.
    pub(super) async fn create(inner: &Inner, settings: Settings, through: u64) -> Result<Self, StateError> {
        let progress = Progress { through, ..Progress::default() };
        // In this order: settings without progress would be a subscription that nobody can go on with.
        let written = inner.store.put_progress(settings.id, &progress, None).await?;
        let revision = inner.store.put_settings(&settings, None).await?;
        Ok(Self::new(inner, (settings, revision), (progress, written)))
    }

    /// One that an earlier process has left.
    pub(super) async fn load(inner: &Inner, settings: Settings, revision: u64) -> Result<Self, StateError> {
        let (id, owner, name) = (settings.id, settings.owner.clone(), settings.name.clone());
        let of_this = |error| {
            let StateError::Unreadable(text) = error else { return error };
            StateError::Unreadable(format!("subscription {name:?} of caller {owner:?}: {text}"))
        };
        let lost =
            || StateError::Unreadable("its progress is missing; restore the store from a backup".into());
        let progress = inner.store.progress(id).await.and_then(|progress| progress.ok_or_else(lost));
        let (progress, written) = progress.map_err(of_this)?;
        let holes = progress.holes.clone();
        let active = Self::new(inner, (settings, revision), (progress, written));
        active.restore(holes).await.map_err(of_this)?;
        let heads = inner.store.heads(id).await.map_err(of_this)?;
        {
            let mut machine = active.machine();
            machine.set_parked(heads.len() as u64);
            heads.iter().filter(|head| head.is_replaying).for_each(|head| machine.replay(head.candidate));
        }
        *active.heads() = heads.into_iter().map(|head| (head.candidate.seq, head)).collect();
        Ok(active)
    }

    /// Takes up the events that an earlier process has left undone. There may be thousands, so they are read by the page.
    async fn restore(&self, holes: Vec<Hole>) -> Result<(), StateError> {
        let (mut page, mut through) = (Vec::new(), 0);
        for hole in holes {
            if hole.seq > through {
                page = match self.log.read(hole.seq.saturating_sub(1), LEFT).await {
                    Ok(page) => page,
                    Err(ReadError::Trimmed { .. }) => Vec::new(),
                    Err(error @ (ReadError::Closed | ReadError::Failed(_))) => {
                        return Err(StateError::Unreadable(error.to_string()));
                    }
                };
                through = page.last().map_or(hole.seq, |last| last.seq);
            }
            let found = page.binary_search_by_key(&hole.seq, |event| event.seq);
            let event = found.ok().and_then(|index| page.get(index));
            // What retention has removed stays a hole, so that it is told as missing.
            let unknown = Candidate { seq: hole.seq, key: hole.seq, bytes: 0, append_ms: 0 };
            self.machine().restore(event.map_or(unknown, |event| candidate(event)), hole);
        }
        Ok(())
    }

    fn new(inner: &Inner, settings: (Settings, u64), (progress, revision): (Progress, u64)) -> Self {
        let machine = Machine::new(settings.0.terms, progress.through, progress.missed);
        Self {
            log: Arc::clone(&inner.log),
            store: inner.store.clone(),
            clock: Arc::clone(&inner.clock),
            id: settings.0.id,
            owner: settings.0.owner.clone(),
            name: settings.0.name.clone(),
            settings: Mutex::new(settings),
            filter: Mutex::default(),
            incarnation: random(),
            machine: Mutex::new(machine),
            heads: Mutex::default(),
            kept: Mutex::default(),
            looking: tokio::sync::Mutex::default(),
            writing: tokio::sync::Mutex::new(Written { revision, change: 0, progress }),
            news: watch::Sender::default(),
            deleted: CancellationToken::new(),
        }
    }

    pub(super) fn settings(&self) -> Settings {
        self.locked_settings().0.clone()
    }

    /// What its caller may see of what it wants, from now on. What cannot be told lets nothing pass.
    pub(super) fn set_filter(&self, filter: Option<EventFilter>) {
        let mut known = self.filter.lock().unwrap_or_else(PoisonError::into_inner);
        let comes_back = known.is_none() && filter.is_some();
        *known = filter.map(Arc::new);
        drop(known);
        if comes_back {
            self.tell();
        }
    }

    /// As [`Active::set_filter`], by what the caller may do at this time.
    pub(super) fn set_rights(&self, rights: Option<&Rights>) {
        let filter = self.settings().filter;
        self.set_filter(rights.and_then(|rights| rights.narrow(filter).ok()));
    }

    pub(super) fn filter(&self) -> Option<Arc<EventFilter>> {
        self.filter.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Never held over an await, as all of these.
    pub(super) fn machine(&self) -> MutexGuard<'_, Machine> {
        self.machine.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn heads(&self) -> MutexGuard<'_, BTreeMap<u64, ParkedHead>> {
        self.heads.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn locked_settings(&self) -> MutexGuard<'_, (Settings, u64)> {
        self.settings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn watch(&self) -> watch::Receiver<()> {
        self.news.subscribe()
    }

    /// A worker's stream is closed.
    pub(super) fn detach(&self, worker: WorkerId) {
        let mut machine = self.machine();
        machine.detach(worker);
        if machine.workers() == 0 {
            *self.kept() = Kept::default();
        }
        drop(machine);
        self.tell();
    }

    /// Something may have come for workers.
    pub(super) fn tell(&self) {
        self.news.send_replace(());
    }

    /// Looks at the next page if the machine wants more; whether it looked at any.
    pub(super) async fn look(&self) -> Result<bool, ReadError> {
        let _one = self.looking.lock().await;
        let Some(filter) = self.filter() else { return Ok(false) };
        let after = {
            let machine = self.machine();
            if !machine.wants_more() {
                return Ok(false);
            }
            machine.scanned()
        };
        let page = self.log.read(after, PAGE).await?;
        let Some(last) = page.last() else { return Ok(false) };
        let wanted: Vec<_> = page.iter().filter(|e| filter.matches(&events::attributes(e))).collect();
        let candidates: Vec<_> = wanted.iter().map(|event| candidate(event)).collect();
        {
            let mut machine = self.machine();
            // Sought elsewhere meanwhile.
            if machine.scanned() != after {
                return Ok(true);
            }
            machine.offer(&candidates, last.seq);
        }
        if !wanted.is_empty() {
            if self.machine().workers() > 0 {
                self.kept().keep(wanted.into_iter());
            }
            self.tell();
        }
        Ok(true)
    }

    /// The caller may not see what was leased any more: it counts as done, and what is parked stays so.
    pub(super) fn decline(&self, lease: Lease) {
        let head = self.heads().get(&lease.place.seq).filter(|_| lease.place.is_parked).cloned();
        let mut machine = self.machine();
        match head {
            Some(head) => machine.park_again(lease.number, head.cause, head.reason),
            None => machine.pass(lease.number),
        }
    }

    /// An event that was leased; `None` if its copy among the parked ones is gone. `page` is what was read for those before it.
    pub(super) async fn event(
        &self,
        place: Place,
        page: &mut Vec<Arc<StoredEvent>>,
    ) -> Result<Option<Arc<StoredEvent>>, ReadError> {
        if place.is_parked {
            let body = self.store.body(self.id, place.seq).await;
            return body.map(|body| body.map(Arc::new)).map_err(|error| ReadError::Failed(error.to_string()));
        }
        if let Some(event) = self.kept().take(place.seq) {
            return Ok(Some(event));
        }
        if let Ok(index) = page.binary_search_by_key(&place.seq, |event| event.seq) {
            return Ok(page.get(index).cloned());
        }
        *page = self.log.read(place.seq - 1, PAGE).await?;
        // What is behind it is due next.
        let machine = self.machine();
        self.kept().keep(page.iter().filter(|event| machine.is_due(event.seq)));
        Ok(page.first().filter(|event| event.seq == place.seq).cloned())
    }

    /// The cursor on an event.
    pub(super) fn cursor_of(&self, event: &StoredEvent) -> Cursor {
        let id_prefix = Cursor::id_prefix(events::id(event));
        Cursor { engine: self.log.engine(), epoch: self.log.epoch(), seq: event.seq, id_prefix }
    }

    /// Ends what time has ended; returns the time. On a disk that is almost full nothing is parked: what is left is for those
    /// writes that cannot wait.
    pub(super) fn advance(&self) -> u64 {
        let has_room = *self.log.watch_acceptance().borrow() != Acceptance::Refusing(Refusal::DiskLow);
        let (mut machine, now_ms) = (self.machine(), self.clock.now_ms());
        machine.set_room(has_room);
        machine.advance(now_ms);
        now_ms
    }

    /// Hears outcomes; returns those that count for nothing.
    pub(super) fn settle(&self, outcomes: Vec<(String, Outcome)>) -> Vec<(String, AckRefusal)> {
        let now_ms = self.advance();
        let mut failures = Vec::new();
        for (text, outcome) in outcomes {
            let word = match &outcome {
                Outcome::Done => "done",
                Outcome::Retry(_) => "retry",
                Outcome::Park(_) => "park",
                Outcome::Extend(_) => "extend",
            };
            let settled = lease_of(&text, self.id, self.incarnation).and_then(|lease| {
                self.machine().settle(lease, outcome, now_ms).map_err(|refused| match refused {
                    Refused::Expired => AckRefusal::Expired,
                    Refused::Unknown => AckRefusal::Unknown,
                    Refused::ParkedFull => AckRefusal::ParkedFull,
                })
            });
            count_outcome(if settled.is_ok() { word } else { "refused" });
            failures.extend(settled.err().map(|refusal| (text, refusal)));
        }
        self.tell();
        failures
    }
}

impl Kept {
    fn keep<'a>(&mut self, events: impl Iterator<Item = &'a Arc<StoredEvent>>) {
        for event in events {
            if self.events.insert(event.seq, Arc::clone(event)).is_none() {
                self.bytes += event.size_bytes();
            }
        }
        // The last ones are needed last.
        while self.bytes > KEPT_BYTES_MAX
            && let Some((_, last)) = self.events.pop_last()
        {
            self.bytes -= last.size_bytes();
        }
    }

    fn take(&mut self, seq: u64) -> Option<Arc<StoredEvent>> {
        let event = self.events.remove(&seq)?;
        self.bytes -= event.size_bytes();
        Some(event)
    }
}

/// What the machine has to know of an event. Events of no conversation are in the line of their account.
pub(super) fn candidate(event: &StoredEvent) -> Candidate {
    let attributes = &event.attributes;
    let line = if attributes.conversation_key.is_empty() {
        &attributes.waba_id
    } else {
        &attributes.conversation_key
    };
    let digest: [u8; 32] = Sha256::digest(line.as_bytes()).into();
    let key = digest.first_chunk().copied().map_or(0, u64::from_be_bytes);
    Candidate { seq: event.seq, key, bytes: event.size_bytes() as u64, append_ms: event.append_ms }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::storage::event_log::{Attributes, Item};

    #[test]
    fn the_events_that_are_due_first_are_kept() {
        let event = |seq| {
            let (attributes, typed) = (Attributes::default(), Bytes::new());
            let envelope = Bytes::from(vec![0; KEPT_BYTES_MAX / 4]);
            let item = Item { id: [0; 16], attributes, envelope, typed, raw: Bytes::new() };
            Arc::new(StoredEvent::new(seq, 0, item))
        };
        let events: Vec<_> = (1..=8).map(event).collect();
        let mut kept = Kept::default();
        kept.keep(events[4..].iter());
        kept.keep(events[..3].iter());
        kept.keep(events[..3].iter());
        assert_eq!(kept.events.keys().copied().collect::<Vec<_>>(), [1, 2, 3, 5]);
        assert!((1..=8).filter_map(|seq| kept.take(seq)).map(|event| event.seq).eq([1, 2, 3, 5]));
        assert_eq!(kept.bytes, 0);
    }
}
