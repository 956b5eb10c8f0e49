//! The writer of the events: one batch at a time, each behind the one before.
//!
//! What waits in the queue goes into one batch, which the servers store whole or not at all. Each event has a subject of
//! its own, made of its id, and may only be stored as the first of that subject: so the stream itself knows every event
//! that it still holds, for as long as it holds it, and tells where the first copy is.

use std::collections::{HashMap, VecDeque};
use std::mem;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use super::Context;
use super::journal::{Attempt, Journal, pause};
use super::queue::{Intake, Job, Next};
use super::records::{Mark, decode_event, encode_event, event_token};
use super::streams::Kind;
use super::wire::{Fault, Outgoing, Stored};
use crate::storage::event_log::{
    Acceptance, AppendError, Appended, Bounds, EventId, Item, Refusal, StoredEvent,
};
use crate::storage::metrics;

/// Ids that are known without asking.
const KNOWN_MAX: usize = 65_536;
/// Questions to the leader at a time.
const LOOKUPS: usize = 64;

type Appending = Job<Vec<Item>, Vec<Appended>>;

/// The state of the writer.
#[derive(Debug)]
pub(super) struct LogWriter {
    pub(super) context: Arc<Context>,
    pub(super) journal: Journal,
    /// When the newest event was appended.
    pub(super) append_ms: u64,
    pub(super) known: Known,
}

/// Positions of the ids that were met last.
#[derive(Debug, Default)]
pub(super) struct Known {
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

/// What of a commit is new: ids of calls that were repeated are there once.
struct Fresh<'a> {
    items: Vec<&'a Item>,
    places: HashMap<EventId, usize>,
}

impl LogWriter {
    /// Runs until the queue is closed, or something cannot go on.
    pub(super) async fn run(mut self, mut intake: Intake<Vec<Item>, Vec<Appended>>) {
        let end = loop {
            match intake.next().await {
                Next::Commit(jobs) => {
                    if let Err(error) = self.serve(jobs).await {
                        break Err(error);
                    }
                    metrics::queued(intake.backlog());
                }
                // When it cannot be done now, the next look comes soon.
                Next::Look => drop(self.catch_up().await),
                Next::End(closing) => break Ok(closing),
            }
        };
        match end {
            Ok(closing) => {
                self.context.announce(Acceptance::Refusing(Refusal::Closed));
                intake.refuse(AppendError::Refused(Refusal::Closed));
                if let Some(closing) = closing {
                    // Whoever asked may have left meanwhile.
                    closing.send(()).ok();
                }
            }
            Err(reason) => {
                self.context.fail(reason);
                intake.refuse(AppendError::Failed);
            }
        }
    }

    /// Commits the jobs and answers them. An error is the end.
    async fn serve(&mut self, jobs: Vec<Appending>) -> Result<(), String> {
        let started = Instant::now();
        let committed = self.commit(&jobs).await;
        match committed {
            Ok(Ok((seqs, new_events))) => {
                let batch_events = jobs.iter().map(|job| job.request.len()).sum::<usize>();
                metrics::committed(metrics::Commit {
                    took: started.elapsed(),
                    sync: started.elapsed(),
                    batch_events,
                    new_events,
                    duplicates: (batch_events - new_events) as u64,
                    trimmed: 0,
                });
                answer(jobs, seqs);
                Ok(())
            }
            Ok(Err(error)) => {
                for job in jobs {
                    job.settle(Err(error));
                }
                Ok(())
            }
            Err(reason) => {
                self.context.announce(Acceptance::Refusing(Refusal::Failed));
                for job in jobs {
                    job.settle(Err(AppendError::Failed));
                }
                Err(reason)
            }
        }
    }

    /// Positions of all ids of the jobs, those new to the log with true, and how many these are.
    async fn commit(
        &mut self,
        jobs: &[Appending],
    ) -> Result<Result<(HashMap<EventId, (u64, bool)>, usize), AppendError>, String> {
        let mut seqs: HashMap<EventId, (u64, bool)> = HashMap::new();
        let mut attempts = 0;
        // Whether an attempt may have been stored without our knowing.
        let mut in_doubt = false;
        loop {
            let fresh = self.fresh(jobs, &mut seqs);
            if fresh.items.is_empty() {
                return Ok(Ok((seqs, 0)));
            }
            let write = Uuid::now_v7().into_bytes();
            let append_ms = self.append_ms.max(self.context.clock.now_ms());
            let messages = self.encode(&fresh, write, append_ms);
            let first = loop {
                match self.journal.attempt(&messages).await {
                    Attempt::Stored(first) => {
                        self.publish(&fresh, first, append_ms);
                        break Some(first);
                    }
                    Attempt::Behind => match self.resolve(write, &fresh).await {
                        Ok(ours) => break ours,
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
                tokio::select! {
                    () = sleep(pause(attempts)) => attempts += 1,
                    () = self.context.stop.cancelled() => return Ok(Err(AppendError::Busy)),
                }
            };
            self.context.back();
            if let Some(first) = first {
                let new = fresh.items.len();
                seqs.extend(fresh.places.iter().map(|(id, place)| (*id, (first + *place as u64, true))));
                return Ok(Ok((seqs, new)));
            }
            // Somebody else writes: at once again, but not without end.
            attempts += 1;
            if attempts > 1 {
                sleep(pause(attempts)).await;
            }
        }
    }

    /// The items that are not known, each once. Positions of the others go into `seqs`.
    fn fresh<'a>(&self, jobs: &'a [Appending], seqs: &mut HashMap<EventId, (u64, bool)>) -> Fresh<'a> {
        let mut fresh = Fresh { items: Vec::new(), places: HashMap::new() };
        let held_from = self.context.held_from.load(Ordering::Acquire);
        for item in jobs.iter().flat_map(|job| &job.request) {
            if let Some(seq) = self.known.seqs.get(&item.id).filter(|seq| **seq >= held_from) {
                seqs.insert(item.id, (*seq, false));
            } else if !fresh.places.contains_key(&item.id) {
                fresh.places.insert(item.id, fresh.items.len());
                fresh.items.push(item);
            }
        }
        fresh
    }

    fn encode(&self, fresh: &Fresh<'_>, write: [u8; 16], append_ms: u64) -> Vec<Outgoing> {
        let messages = fresh.items.iter().zip(0..).map(|(item, part)| Outgoing {
            subject: self.context.names.subject(Kind::Events, &event_token(&item.id)),
            payload: encode_event(Mark { write, part }, append_ms, item),
            expected_of_subject: Some(0),
            kept_seconds: None,
        });
        messages.collect()
    }

    /// Makes what was stored readable.
    fn publish(&mut self, fresh: &Fresh<'_>, first: u64, append_ms: u64) {
        let events = (first..).zip(&fresh.items);
        let events = events.map(|(seq, item)| StoredEvent::new(seq, append_ms, (*item).clone()));
        let events: Vec<_> = events.map(Arc::new).collect();
        self.take(&events);
    }

    /// Makes events readable that directly follow what is.
    fn take(&mut self, events: &[Arc<StoredEvent>]) {
        for event in events {
            self.append_ms = self.append_ms.max(event.append_ms);
            self.known.insert(event.id, event.seq);
        }
        self.context.shared.publish(events);
        self.context.shared.measure();
    }

    /// Why the stream did not take a write: it was there already (then where), others wrote, or it holds some of the ids,
    /// which are known from then on.
    async fn resolve(&mut self, write: [u8; 16], fresh: &Fresh<'_>) -> Result<Option<u64>, Fault> {
        let marks = self.catch_up().await?;
        let ours = marks.iter().find(|(_, mark)| mark.write == write);
        if let Some((seq, mark)) = ours {
            return Ok(Some(seq - u64::from(mark.part)));
        }
        if !marks.is_empty() {
            return Ok(None);
        }
        let (wire, names) = (self.journal.wire().clone(), &self.context.names);
        let lookups = fresh.items.iter().map(|item| {
            let subject = names.subject(Kind::Events, &event_token(&item.id));
            let (wire, stream) = (&wire, &names.events);
            async move { Ok((item.id, wire.newest(stream, &subject).await?)) }
        });
        let found: Vec<(EventId, Option<Stored>)> =
            stream::iter(lookups.collect::<Vec<_>>()).buffer_unordered(LOOKUPS).try_collect().await?;
        for (id, stored) in found {
            if let Some(stored) = stored {
                self.known.insert(id, stored.seq);
            }
        }
        Ok(None)
    }

    /// Takes in what was written without our knowing.
    async fn catch_up(&mut self) -> Result<Vec<(u64, Mark)>, Fault> {
        let (missed, last) = self.journal.missed().await?;
        let mut marks = Vec::with_capacity(missed.len());
        let mut events = Vec::with_capacity(missed.len());
        let tail = self.context.shared.bounds().tail;
        for (Stored { seq, payload }, expected) in missed.into_iter().zip(tail + 1..) {
            if seq != expected {
                return Err(Fault::Garbled(format!("the event at {expected} is missing")));
            }
            let decoded = decode_event(seq, payload);
            let (mark, event) =
                decoded.ok_or_else(|| Fault::Garbled(format!("the message at {seq} is no event")))?;
            marks.push((seq, mark));
            events.push(Arc::new(event));
        }
        if tail + events.len() as u64 != last {
            return Err(Fault::Garbled(format!("events before {last} are missing")));
        }
        self.take(&events);
        self.journal.advance(last);
        Ok(marks)
    }
}

/// Tells every call what became of its items. Of several copies the first is the new one.
fn answer(jobs: Vec<Appending>, mut seqs: HashMap<EventId, (u64, bool)>) {
    for job in jobs {
        let appended = job.request.iter().map(|item| match seqs.get_mut(&item.id) {
            Some((seq, is_new)) => {
                if mem::take(is_new) {
                    Appended::New(*seq)
                } else {
                    Appended::Duplicate(*seq)
                }
            }
            // Every id of the jobs is there.
            None => Appended::Duplicate(0),
        });
        let appended = appended.collect();
        job.settle(Ok(appended));
    }
}

/// As the engine was opened.
pub(super) fn bounds(first_seq: u64, last_seq: u64, trimmed_through: u64) -> Bounds {
    Bounds { earliest: first_seq.max(trimmed_through + 1).min(last_seq + 1), tail: last_seq }
}
