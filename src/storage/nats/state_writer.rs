//! The writer of the keyed state: it checks preconditions against the index, and commits behind the end of the stream.
//!
//! If the stream went on without us, the index takes that in first, and everything is checked anew. So a precondition
//! that was found to hold still holds when the write is stored.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use tokio::time::sleep;
use uuid::Uuid;

use super::Context;
use super::index::{Index, Slot};
use super::journal::{Attempt, Journal, pause};
use super::queue::{Intake, Job, Next};
use super::records::{EntryWrite, Mark, bucket_name, decode_entry, encode_entry, entry_token};
use super::streams::Kind;
use super::wire::{Fault, Outgoing};
use crate::storage::event_log::{Acceptance, AppendError, Refusal};
use crate::storage::keyed_state::{Beside, Bucket, Precondition, Put};

/// How long the server keeps what stands for a deleted entry: readers of the stream are past it long before.
const GRAVE_SECONDS: u64 = 60;

/// A revision that is not known before the commit. No caller can name it.
const UNBORN: u64 = u64::MAX;

/// What to write.
#[derive(Debug)]
pub(super) enum Op {
    /// One entry, and perhaps something beside it.
    Put(Put, Precondition, Option<Beside>),
    /// Entries in order.
    PutAll(Vec<Put>),
    /// One entry goes.
    Delete(Bucket, Bytes, Precondition),
    /// Entries that have expired go, if they still have these revisions.
    Sweep(Vec<(String, Bytes, u64)>),
}

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Done {
    /// Written; for a put, with this revision.
    Written(u64),
    /// Whether there was an entry.
    Deleted(bool),
    /// So many entries went.
    Swept(u64),
    /// The precondition does not hold.
    Conflict,
}

/// The state of the writer.
#[derive(Debug)]
pub(super) struct StateWriter {
    pub(super) context: Arc<Context>,
    pub(super) journal: Journal,
    pub(super) index: Arc<Index>,
}

/// What a commit writes, and what it answers if it is stored.
#[derive(Default)]
struct Plan {
    writes: Vec<EntryWrite>,
    /// Revisions here are places in `writes`.
    answers: Vec<Done>,
    /// What the writes before make of the index.
    overlay: HashMap<(String, Bytes), Option<Slot>>,
}

impl StateWriter {
    /// Runs until the queue is closed, or something cannot go on.
    pub(super) async fn run(mut self, mut intake: Intake<Op, Done>) {
        let end = loop {
            match intake.next().await {
                Next::Commit(jobs) => {
                    if let Err(reason) = self.serve(jobs).await {
                        break Err(reason);
                    }
                }
                // When it cannot be done now, the next look comes soon.
                Next::Look => drop(self.catch_up().await),
                Next::End(closing) => break Ok(closing),
            }
        };
        match end {
            Ok(closing) => {
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

    async fn serve(&mut self, jobs: Vec<Job<Op, Done>>) -> Result<(), String> {
        let committed = self.commit(&jobs).await;
        match committed {
            Ok(Ok(answers)) => {
                jobs.into_iter().zip(answers).for_each(|(job, answer)| job.settle(Ok(answer)));
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

    async fn commit(&mut self, jobs: &[Job<Op, Done>]) -> Result<Result<Vec<Done>, AppendError>, String> {
        let mut attempts = 0;
        // Whether an attempt of the present plan may have been stored.
        let mut in_doubt = false;
        loop {
            let plan = self.plan(jobs);
            if plan.writes.is_empty() {
                return Ok(Ok(plan.answers));
            }
            let write = Uuid::now_v7().into_bytes();
            let messages = self.encode(&plan, write);
            let first = loop {
                match self.journal.attempt(&messages).await {
                    Attempt::Stored(first) => {
                        self.index.apply(&plan.writes, first);
                        break Some(first);
                    }
                    Attempt::Behind => match self.catch_up().await {
                        Ok(marks) => {
                            in_doubt = false;
                            let ours = marks.iter().find(|(_, mark)| mark.write == write);
                            break ours.map(|(seq, mark)| seq - u64::from(mark.part));
                        }
                        Err(fault) => self.context.away(&fault.to_string()),
                    },
                    Attempt::Refused(refusal) if !in_doubt => {
                        self.context.announce(Acceptance::Refusing(refusal));
                        return Ok(Err(AppendError::Refused(refusal)));
                    }
                    Attempt::Refused(_) => {}
                    Attempt::Again(reason) => {
                        in_doubt = true;
                        self.context.away(&reason);
                    }
                    Attempt::Rejected(reason) => return Err(reason),
                }
                tokio::select! {
                    () = sleep(pause(attempts)) => attempts += 1,
                    // Whether it was written is not known: the callers must not go on as if it were not.
                    () = self.context.stop.cancelled() => return Ok(Err(AppendError::Failed)),
                }
            };
            self.context.back();
            if let Some(first) = first {
                let answers = plan.answers.into_iter().map(|answer| match answer {
                    Done::Written(place) => Done::Written(first + place),
                    Done::Deleted(_) | Done::Swept(_) | Done::Conflict => answer,
                });
                return Ok(Ok(answers.collect()));
            }
            // Somebody else writes: at once again, but not without end.
            attempts += 1;
            if attempts > 1 {
                sleep(pause(attempts)).await;
            }
        }
    }

    fn plan(&self, jobs: &[Job<Op, Done>]) -> Plan {
        let mut plan = Plan::default();
        let now_ms = self.context.clock.now_ms();
        for job in jobs {
            let answer = match &job.request {
                Op::Put(put, precondition, beside) => {
                    let current = self.current(&plan, put.bucket, &put.key, now_ms);
                    if holds(*precondition, current) {
                        let place = plan.put(put);
                        match beside {
                            Some(Beside::Put(other)) => drop(plan.put(other)),
                            Some(Beside::Delete(bucket, key)) => self.delete(&mut plan, *bucket, key),
                            None => {}
                        }
                        Done::Written(place)
                    } else {
                        Done::Conflict
                    }
                }
                Op::PutAll(puts) => {
                    let places = puts.iter().map(|put| plan.put(put));
                    Done::Written(places.last().unwrap_or_default())
                }
                Op::Delete(bucket, key, precondition) => {
                    let current = self.current(&plan, *bucket, key, now_ms);
                    if holds(*precondition, current) {
                        self.delete(&mut plan, *bucket, key);
                        Done::Deleted(current.is_some())
                    } else {
                        Done::Conflict
                    }
                }
                Op::Sweep(expired) => self.sweep(&mut plan, expired),
            };
            plan.answers.push(answer);
        }
        plan
    }

    fn sweep(&self, plan: &mut Plan, expired: &[(String, Bytes, u64)]) -> Done {
        let mut swept = 0;
        for (bucket, key, revision) in expired {
            let at = (bucket.clone(), key.clone());
            let held = self.index.revision_of(bucket, key);
            if !plan.overlay.contains_key(&at) && held == Some(*revision) {
                plan.remove(at);
                swept += 1;
            }
        }
        Done::Swept(swept)
    }

    /// Removes what is there, expired or not. Nothing is written for nothing.
    fn delete(&self, plan: &mut Plan, bucket: Bucket, key: &Bytes) {
        let at = (bucket_name(bucket), key.clone());
        let held = match plan.overlay.get(&at) {
            Some(held) => held.is_some(),
            None => self.index.revision_of(&at.0, key).is_some(),
        };
        if held {
            plan.remove(at);
        }
    }

    fn current(&self, plan: &Plan, bucket: Bucket, key: &Bytes, now_ms: u64) -> Option<Slot> {
        let at = (bucket_name(bucket), key.clone());
        let slot = match plan.overlay.get(&at) {
            Some(slot) => *slot,
            None => self.index.slots(bucket, [&key[..]]).pop().flatten(),
        };
        slot.filter(|slot| slot.is_live(now_ms))
    }

    fn encode(&self, plan: &Plan, write: [u8; 16]) -> Vec<Outgoing> {
        let messages = plan.writes.iter().zip(0..).map(|(entry, part)| Outgoing {
            subject: self.context.names.subject(Kind::State, &entry_token(&entry.bucket, &entry.key)),
            payload: encode_entry(Mark { write, part }, entry),
            expected_of_subject: None,
            kept_seconds: entry.value.is_none().then_some(GRAVE_SECONDS),
        });
        messages.collect()
    }

    /// Takes in what was written without our knowing.
    async fn catch_up(&mut self) -> Result<Vec<(u64, Mark)>, Fault> {
        let (missed, last) = self.journal.missed().await?;
        let mut marks = Vec::with_capacity(missed.len());
        for message in missed {
            let decoded = decode_entry(message.payload);
            let (mark, entry) = decoded
                .ok_or_else(|| Fault::Garbled(format!("the message at {} is no entry", message.seq)))?;
            self.index.apply(&[entry], message.seq);
            marks.push((message.seq, mark));
        }
        self.journal.advance(last);
        Ok(marks)
    }
}

impl Plan {
    /// Adds a write; returns its place.
    fn put(&mut self, put: &Put) -> u64 {
        let Put { bucket, key, value, expire_at_ms } = put.clone();
        let bucket = bucket_name(bucket);
        let slot = Slot { revision: UNBORN, expire_at_ms, value_bytes: value.len() };
        self.overlay.insert((bucket.clone(), key.clone()), Some(slot));
        self.writes.push(EntryWrite { bucket, key, value: Some(value), expire_at_ms });
        self.writes.len() as u64 - 1
    }

    fn remove(&mut self, (bucket, key): (String, Bytes)) {
        self.overlay.insert((bucket.clone(), key.clone()), None);
        self.writes.push(EntryWrite { bucket, key, value: None, expire_at_ms: None });
    }
}

fn holds(precondition: Precondition, current: Option<Slot>) -> bool {
    match precondition {
        Precondition::None => true,
        Precondition::Absent => current.is_none(),
        Precondition::Revision(expected) => current.is_some_and(|slot| slot.revision == expected),
    }
}
