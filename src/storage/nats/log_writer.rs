//! The writers of the events: each has one batch at a time, which is stored wherever the stream ends by then.
//!
//! What waits in the queue goes into one batch, which the servers store whole or not at all. Each event has a subject of
//! its own, made of its id, and may only be stored as the first of that subject: so the stream itself knows every event
//! that it still holds, for as long as it holds it, and tells where the first copy is. Batches of several replicas are put
//! into an order by the server; [`Tail`](super::tail::Tail) shows them in it.

use std::collections::{HashMap, HashSet};
use std::mem;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use super::Context;
use super::journal::{self, Attempt};
use super::news::Topic;
use super::queue::Job;
use super::records::{Mark, decode_event, encode_event, event_token};
use super::streams::Kind;
use super::wire::{Fault, Outgoing};
use super::writer::{Committed, Writer};
use crate::storage::event_log::{Acceptance, AppendError, Appended, EventId, Item, StoredEvent};
use crate::storage::metrics;

/// Batches that are on their way at a time. While the servers store one, they take in the next.
pub(super) const AT_ONCE: usize = 4;

/// Questions to the leader at a time.
const LOOKUPS: usize = 64;

type Appending = Job<Vec<Item>, Vec<Appended>>;

/// Where an event is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Found {
    seq: u64,
    /// Whether this commit has stored it.
    is_new: bool,
}

/// The ids that are on their way. The server refuses a batch with an event of an earlier one whole; so it waits here until that
/// one is stored, and its event is known.
#[derive(Debug, Default)]
pub(super) struct OnTheirWay {
    ids: Mutex<HashSet<EventId>>,
    arrived: Notify,
}

/// Ids that are on their way until this is dropped.
struct Trip<'a> {
    all: &'a OnTheirWay,
    ids: Vec<EventId>,
}

impl OnTheirWay {
    /// `None` if one of them is on its way already.
    fn set_out(&self, items: &[&Item]) -> Option<Trip<'_>> {
        let mut ids = self.ids.lock().unwrap_or_else(PoisonError::into_inner);
        if items.iter().any(|item| ids.contains(&item.id)) {
            return None;
        }
        ids.extend(items.iter().map(|item| item.id));
        Some(Trip { all: self, ids: items.iter().map(|item| item.id).collect() })
    }
}

impl Drop for Trip<'_> {
    fn drop(&mut self) {
        let mut ids = self.all.ids.lock().unwrap_or_else(PoisonError::into_inner);
        for id in &self.ids {
            ids.remove(id);
        }
        self.all.arrived.notify_waiters();
    }
}

/// A writer, one of several.
#[derive(Debug)]
pub(super) struct LogWriter {
    pub(super) context: Arc<Context>,
    pub(super) on_their_way: Arc<OnTheirWay>,
}

impl Writer for LogWriter {
    type Request = Vec<Item>;
    type Answer = Vec<Appended>;

    fn context(&self) -> &Arc<Context> {
        &self.context
    }

    async fn commit(&mut self, jobs: &[Appending]) -> Committed<Vec<Appended>> {
        let started = Instant::now();
        let committed = self.store(jobs).await;
        if let Ok(Ok(found)) = &committed {
            let batch_events = jobs.iter().map(|job| job.request.len()).sum::<usize>();
            let new_events = found.values().filter(|found| found.is_new).count();
            metrics::committed(metrics::Commit {
                took: started.elapsed(),
                sync: started.elapsed(),
                batch_events,
                new_events,
                duplicates: (batch_events - new_events) as u64,
                trimmed: 0,
            });
        }
        committed.map(|stored| stored.map(|found| answers(jobs, found)))
    }

    /// The tail has a reader of its own.
    async fn look(&mut self) -> Result<(), String> {
        Ok(())
    }

    fn measure(&self, backlog: usize) {
        metrics::queued(backlog);
    }
}

impl LogWriter {
    /// Where all ids of the jobs are, in the end.
    async fn store(
        &self,
        jobs: &[Appending],
    ) -> Result<Result<HashMap<EventId, Found>, AppendError>, String> {
        let Context { wire, clock, tail, .. } = &*self.context;
        let (mut found, mut fresh, _trip) = loop {
            let arrived = self.on_their_way.arrived.notified();
            let (found, fresh) = self.sorted(jobs);
            if let Some(trip) = self.on_their_way.set_out(&fresh) {
                break (found, fresh, trip);
            }
            arrived.await;
        };
        // One mark for all attempts: whatever has it is of this commit.
        let write = Uuid::now_v7().into_bytes();
        let mut attempts = 0;
        // Whether an attempt may have been stored without our knowing.
        let mut in_doubt = false;
        while !fresh.is_empty() {
            let append_ms = tail.append_ms(clock.now_ms());
            let mut is_resolved = false;
            match journal::attempt(wire, None, &self.encode(&fresh, write, append_ms)).await {
                Attempt::Stored(first) => {
                    let new = fresh.iter().zip(first..);
                    found.extend(new.map(|(item, seq)| (item.id, Found { seq, is_new: true })));
                    self.publish(&fresh, first, append_ms).await;
                    self.context.back();
                    break;
                }
                Attempt::Behind => match self.resolve(write, &fresh).await {
                    Ok(resolved) => {
                        self.context.back();
                        is_resolved = !resolved.is_empty();
                        found.extend(resolved);
                    }
                    Err(fault) => self.context.away(&fault.to_string()),
                },
                Attempt::Refused(refusal) => {
                    self.context.announce(Acceptance::Refusing(refusal));
                    let refused = AppendError::Refused(refusal);
                    return Ok(Err(if in_doubt { AppendError::Busy } else { refused }));
                }
                Attempt::Again(reason) => {
                    in_doubt = true;
                    self.context.away(&reason);
                }
                Attempt::Rejected(reason) => return Err(reason),
            }
            fresh.retain(|item| !found.contains_key(&item.id));
            if is_resolved {
                continue;
            }
            tokio::select! {
                () = sleep(journal::pause(attempts)) => attempts += 1,
                () = self.context.stop.cancelled() => return Ok(Err(AppendError::Busy)),
            }
        }
        Ok(Ok(found))
    }

    /// What is known already, and the items that are not, each once.
    fn sorted<'a>(&self, jobs: &'a [Appending]) -> (HashMap<EventId, Found>, Vec<&'a Item>) {
        let items = || jobs.iter().flat_map(|job| &job.request);
        let held_from = self.context.held_from.load(Ordering::Acquire);
        let known = self.context.tail.known(items().map(|item| &item.id), held_from);
        let mut met = HashSet::new();
        let fresh = items().filter(|item| !known.contains_key(&item.id) && met.insert(item.id)).collect();
        let found = known.into_iter().map(|(id, seq)| (id, Found { seq, is_new: false }));
        (found.collect(), fresh)
    }

    fn encode(&self, fresh: &[&Item], write: [u8; 16], append_ms: u64) -> Vec<Outgoing> {
        let messages = fresh.iter().zip(0..).map(|(item, part)| Outgoing {
            subject: self.context.names.subject(Kind::Events, &event_token(&item.id)),
            payload: encode_event(Mark { write, part }, append_ms, item),
            expected_of_subject: Some(0),
            kept_seconds: None,
        });
        messages.collect()
    }

    /// Makes what was stored readable, here and at the other replicas.
    async fn publish(&self, fresh: &[&Item], first: u64, append_ms: u64) {
        let Context { tail, news, .. } = &*self.context;
        let events = fresh.iter().zip(first..);
        tail.offer(events.map(|(item, seq)| Arc::new(StoredEvent::new(seq, append_ms, Item::clone(item)))));
        let last = first + (fresh.len() as u64).saturating_sub(1);
        // If others wrote before, it waits for what they did.
        tail.want(last);
        news.tell(Topic::Events, last).await;
    }

    /// Why the stream did not take the items: it holds some of them. Those that have our mark are of an attempt whose answer
    /// was lost. None may be found when another batch with them is just being stored.
    async fn resolve(&self, write: [u8; 16], fresh: &[&Item]) -> Result<Vec<(EventId, Found)>, Fault> {
        let Context { wire, names, tail, .. } = &*self.context;
        let lookups = fresh.iter().map(|item| {
            let subject = names.subject(Kind::Events, &event_token(&item.id));
            async move { wire.newest(&names.events, &subject).await }
        });
        let stored: Vec<_> =
            stream::iter(lookups.collect::<Vec<_>>()).buffer_unordered(LOOKUPS).try_collect().await?;
        let mut resolved = Vec::new();
        let mut events = Vec::new();
        for stored in stored.into_iter().flatten() {
            let seq = stored.seq;
            let (mark, event) = decode_event(seq, stored.payload)
                .ok_or_else(|| Fault::Garbled(format!("the message at {seq} is no event")))?;
            resolved.push((event.id, Found { seq, is_new: mark.write == write }));
            events.push(Arc::new(event));
        }
        events.sort_unstable_by_key(|event| event.seq);
        if let Some(last) = events.last().map(|event| event.seq) {
            tail.offer(events);
            tail.want(last);
        }
        Ok(resolved)
    }
}

/// Tells every call what became of its items. Of several copies the first is the new one.
fn answers(jobs: &[Appending], mut found: HashMap<EventId, Found>) -> Vec<Vec<Appended>> {
    let mut answer = |item: &Item| match found.get_mut(&item.id) {
        Some(Found { seq, is_new }) => {
            if mem::take(is_new) {
                Appended::New(*seq)
            } else {
                Appended::Duplicate(*seq)
            }
        }
        // Every id of the jobs is there.
        None => Appended::Duplicate(0),
    };
    jobs.iter().map(|job| job.request.iter().map(&mut answer).collect()).collect()
}
