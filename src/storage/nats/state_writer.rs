//! The writer of the keyed state: it checks preconditions against the index, and commits behind the end of the stream.
//!
//! If the stream went on without us, the index takes that in first, and everything is checked anew. So a precondition
//! that was found to hold still holds when the write is stored, and a leader that was overtaken without knowing it meets the
//! term of the next one before it can write anything.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{sleep, timeout};
use uuid::Uuid;

use super::Context;
use super::index::{Index, Slot};
use super::journal::{self, Attempt, Page};
use super::news::Topic;
use super::plan::{Plan, Sparse, holds};
use super::queue::Job;
use super::records::{EntryWrite, Mark, Meta, TermRecord, bucket_name, decode_entries};
use super::streams;
use super::wire::Fault;
use super::writer::{Committed, Writer};
use crate::storage::event_log::{Acceptance, AppendError};
use crate::storage::keyed_state::{Beside, Bucket, Precondition, Put};

/// How long a writer waits for one that has asked for its turn.
const TURN: Duration = Duration::from_millis(50);

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
    /// Entries in order, if none of them is there.
    Claim(Vec<Put>),
    /// Shared messages go, and what is still needed of them is written again.
    Compact(Vec<Sparse>),
    /// This replica leads, if the term before is the newest.
    Lead {
        /// The term before.
        after: u64,
        /// The id of the replica.
        replica: String,
        /// Its name.
        name: String,
    },
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
    /// This replica leads in that term.
    Led(u64),
    /// The precondition does not hold.
    Conflict,
}

/// The writer, and the only one that changes the index.
#[derive(Debug)]
pub(super) struct StateWriter {
    pub(super) context: Arc<Context>,
    pub(super) index: Arc<Index>,
    /// The newest message that is in the index.
    pub(super) last: u64,
    pub(super) meta: Meta,
    /// The term in which this replica leads.
    pub(super) term: Option<u64>,
}

/// Why what others wrote was not taken in.
enum Setback {
    Fault(Fault),
    /// Somebody else leads.
    Overtaken(String),
}

impl From<Fault> for Setback {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl Writer for StateWriter {
    type Request = Op;
    type Answer = Done;

    fn context(&self) -> &Arc<Context> {
        &self.context
    }

    async fn commit(&mut self, jobs: &[Job<Op, Done>]) -> Committed<Done> {
        self.give_way().await?;
        let mut was_overtaken = false;
        loop {
            let mut plan = self.plan(jobs);
            if plan.is_empty() {
                return Ok(Ok(plan.answers));
            }
            match self.store(&plan).await? {
                Ok(Some(first)) => {
                    let alone = first + plan.shared();
                    self.settle(&mut plan.answers, alone);
                    return Ok(Ok(plan.answers));
                }
                Ok(None) => {}
                Err(error) => return Ok(Err(error)),
            }
            // Once is chance.
            if was_overtaken {
                self.context.news.tell(Topic::Turn, self.last).await;
                sleep(journal::pause_overtaken()).await;
            }
            was_overtaken = true;
        }
    }

    async fn look(&mut self) -> Result<(), String> {
        let wanted = *self.context.news.state().borrow();
        match self.read_on(wanted, &mut Vec::new()).await {
            Ok(()) => Ok(()),
            Err(Setback::Fault(fault)) => {
                tracing::debug!(%fault, "the state was not read on");
                Ok(())
            }
            Err(Setback::Overtaken(reason)) => Err(reason),
        }
    }

    fn measure(&self, _backlog: usize) {}
}

impl StateWriter {
    /// Lets somebody else write who is overtaken again and again, if there is one.
    async fn give_way(&mut self) -> Result<(), String> {
        let Context { news, .. } = &*self.context;
        if !news.take_turn_asked() {
            return Ok(());
        }
        let (mut state, last) = (news.state(), self.last);
        drop(timeout(TURN, state.wait_for(|seq| *seq > last)).await);
        self.look().await
    }

    /// Stores the plan as it is, and returns the number of its first message; `None` if others were faster, whose writes are in
    /// the index then.
    async fn store(&mut self, plan: &Plan) -> Result<Result<Option<u64>, AppendError>, String> {
        let write = Uuid::now_v7().into_bytes();
        let messages = plan.messages(&self.context.names, write, self.context.clock.now_ms());
        let mut attempts = 0;
        // Whether an attempt may have been stored without our knowing.
        let mut in_doubt = false;
        loop {
            match journal::attempt(&self.context.wire, Some(self.last), &messages).await {
                Attempt::Stored(first) => {
                    self.context.back();
                    self.take_in(plan.numbered(first));
                    self.context.news.tell(Topic::State, self.last).await;
                    return Ok(Ok(Some(first)));
                }
                Attempt::Behind => return self.overtaken(write).await,
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
                () = sleep(journal::pause(attempts)) => attempts += 1,
                // Whether it was written is not known: the callers must not go on as if it were not.
                () = self.context.stop.cancelled() => return Ok(Err(AppendError::Failed)),
            }
        }
    }

    /// Takes in what others wrote, however often that must be tried: a plan that was made before is not for what is there then. Returns
    /// the number of the first message of that write, if it is among them all the same.
    async fn overtaken(&mut self, write: [u8; 16]) -> Result<Result<Option<u64>, AppendError>, String> {
        let mut marks = Vec::new();
        for attempts in 0.. {
            match self.catch_up(&mut marks).await {
                Ok(()) => {
                    self.context.back();
                    break;
                }
                Err(Setback::Fault(fault)) => self.context.away(&fault.to_string()),
                Err(Setback::Overtaken(reason)) => return Err(reason),
            }
            tokio::select! {
                () = sleep(journal::pause(attempts)) => {}
                () = self.context.stop.cancelled() => return Ok(Err(AppendError::Failed)),
            }
        }
        let ours = marks.iter().find(|(_, mark)| mark.write == write);
        Ok(Ok(ours.map(|(seq, mark)| seq - u64::from(mark.part))))
    }

    /// Gives the answers of a plan the revisions that it got, and takes the lead if that was in it.
    fn settle(&mut self, answers: &mut [Done], first: u64) {
        for answer in answers {
            match answer {
                Done::Written(place) => *place += first,
                Done::Led(term) => self.term = Some(*term),
                Done::Deleted(_) | Done::Swept(_) | Done::Conflict => {}
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
                    for put in puts {
                        plan.advance(put, self.held(&plan, put.bucket.name(), &put.key));
                    }
                    Done::Written(0)
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
                Op::Claim(puts) => {
                    let is_free = |put: &Put| self.current(&plan, put.bucket, &put.key, now_ms).is_none();
                    if puts.iter().all(is_free) {
                        for put in puts {
                            plan.share(put);
                        }
                        Done::Written(0)
                    } else {
                        Done::Conflict
                    }
                }
                Op::Compact(messages) => {
                    for sparse in messages {
                        plan.compact(sparse, |bucket, key| self.index.slot_of(bucket, key), now_ms);
                    }
                    Done::Swept(messages.len() as u64)
                }
                Op::Lead { after, .. } if *after != self.meta.term.number => Done::Conflict,
                Op::Lead { after, replica, name } => {
                    let (number, replica, name) = (after + 1, replica.clone(), name.clone());
                    plan.put(&Meta::put_term(&TermRecord { number, replica, name }));
                    Done::Led(number)
                }
            };
            plan.answers.push(answer);
        }
        plan.close();
        plan
    }

    fn sweep(&self, plan: &mut Plan, expired: &[(String, Bytes, u64)]) -> Done {
        let mut swept = 0;
        for (bucket, key, revision) in expired {
            let at = (bucket.clone(), key.clone());
            let held = self.index.slot_of(bucket, key).filter(|held| held.revision == *revision);
            if let (Some(held), false) = (held, plan.overlay.contains_key(&at)) {
                plan.remove(at, held);
                swept += 1;
            }
        }
        Done::Swept(swept)
    }

    /// Removes what is there, expired or not. Nothing is written for nothing.
    fn delete(&self, plan: &mut Plan, bucket: Bucket, key: &Bytes) {
        if let Some(held) = self.held(plan, bucket.name(), key) {
            plan.remove((bucket_name(bucket), key.clone()), held);
        }
    }

    fn current(&self, plan: &Plan, bucket: Bucket, key: &Bytes, now_ms: u64) -> Option<Slot> {
        self.held(plan, bucket.name(), key).filter(|slot| slot.is_live(now_ms))
    }

    /// What is there after the plan, expired or not.
    fn held(&self, plan: &Plan, bucket: &str, key: &Bytes) -> Option<Slot> {
        match plan.overlay.get(&(bucket.to_owned(), key.clone())) {
            Some(held) => *held,
            None => self.index.slot_of(bucket, key),
        }
    }

    /// Takes in all that was written without our knowing, and adds its marks, also when it fails midway.
    async fn catch_up(&mut self, marks: &mut Vec<(u64, Mark)>) -> Result<(), Setback> {
        let Context { wire, names, .. } = &*self.context;
        // The newest messages may be gone already, and count all the same.
        let gone = || Fault::Away(format!("the stream {} is not there", names.state));
        let end = streams::info(wire, &names.state).await?.ok_or_else(gone)?.state.last_seq;
        self.read_on(end, marks).await?;
        self.last = self.last.max(end);
        Ok(())
    }

    /// Takes in what is there, surely up to message `wanted`.
    async fn read_on(&mut self, wanted: u64, marks: &mut Vec<(u64, Mark)>) -> Result<(), Setback> {
        loop {
            let Context { wire, names, .. } = &*self.context;
            let Page { messages, is_full } = journal::page(wire, &names.state, self.last + 1, wanted).await?;
            let mut writes = Vec::with_capacity(messages.len());
            for message in messages {
                let garbled = || Fault::Garbled(format!("the message at {} is no entry", message.seq));
                let (mark, entries) = decode_entries(message.payload).ok_or_else(garbled)?;
                marks.push((message.seq, mark));
                writes.extend(entries.into_iter().map(|entry| (message.seq, entry)));
            }
            self.take_in(writes.iter().map(|(seq, entry)| (*seq, entry)));
            let TermRecord { number, name, .. } = &self.meta.term;
            if self.term.is_some_and(|term| term < *number) {
                let prefix = self.context.names.prefix();
                return Err(Setback::Overtaken(format!("the prefix {prefix} was taken over by {name}")));
            }
            if !is_full {
                return Ok(());
            }
        }
    }

    /// What was stored is in the index from now on.
    fn take_in<'a>(&mut self, writes: impl Iterator<Item = (u64, &'a EntryWrite)> + Clone) {
        for (seq, write) in writes.clone() {
            self.meta.note(write);
            self.last = self.last.max(seq);
        }
        self.index.apply(writes);
        self.context.shared.trimmed_through(self.meta.trimmed_through);
        self.context.term.store(self.meta.term.number, Ordering::Release);
    }
}
