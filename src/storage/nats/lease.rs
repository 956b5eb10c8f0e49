//! Who leads on a prefix.
//!
//! The lease is one message that its holder writes anew every second. Who has seen it unchanged for three seconds, by a clock of
//! his own and without a break, replaces it; nobody can do either while NATS is away. Only who holds it leads, and only after
//! the state says so in its own order: that fences off a leader that does not know yet that it is none any more.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::Context;
use super::journal;
use super::news::Topic;
use super::queue::{Patience, Queue, Weight};
use super::state_writer::{Done, Op};
use super::streams::{self, Kind};
use super::wire::{Fault, Outgoing, Stored};
use crate::storage::event_log::AppendError;
use crate::storage::leadership::{HOLD, Replica};
use crate::telemetry::Seldom;

/// How long one request about the lease may take.
const REQUEST_MAX: Duration = Duration::from_millis(800);
/// Until the next attempt after one that failed.
const PAUSE: Duration = Duration::from_millis(250);
/// Between two looks that count as one observation.
const BREAK_MAX: Duration = Duration::from_secs(1);

/// How often, and how long.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    /// Between two looks of a follower.
    pub(super) look: Duration,
    /// Between two renewals of the leader.
    pub(super) renewal: Duration,
    /// After how long without a change the lease is free.
    pub(super) patience: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        let (look, patience) = (Duration::from_millis(250), Duration::from_secs(3));
        Self { look, renewal: Duration::from_secs(1), patience }
    }
}

/// A replica, in the lease.
#[derive(Serialize, Deserialize)]
struct Holder {
    id: String,
    name: String,
    address: String,
    /// DER in base64.
    certificate: String,
    settings: String,
}

impl Holder {
    fn of(replica: &Replica) -> Self {
        let Replica { id, name, address, certificate, settings } = replica.clone();
        Self { id, name, address, certificate: STANDARD.encode(certificate), settings }
    }

    fn replica(self) -> Option<Replica> {
        let Self { id, name, address, certificate, settings } = self;
        let certificate = STANDARD.decode(certificate).ok()?.into();
        Some(Replica { id, name, address, certificate, settings })
    }
}

/// The lease as it was found.
struct Held {
    seq: u64,
    /// `None` if this build cannot read who that is.
    by: Option<Arc<Replica>>,
}

/// The lease, held by this process.
struct Lease {
    seq: u64,
    /// Before it was written last.
    asked: Instant,
    /// When it is to be written again.
    due: Instant,
}

/// Takes the lease and keeps it.
#[derive(Debug)]
pub(super) struct Keeper {
    pub(super) context: Arc<Context>,
    pub(super) state: Arc<Queue<Op, Done>>,
    pub(super) replica: Arc<Replica>,
    pub(super) pace: Pace,
    /// Renewals that failed, for the log.
    pub(super) failures: Seldom,
}

impl Keeper {
    /// Follows until the lease is free, then leads until told to stop. An error is the end: somebody else has the lease.
    pub(super) async fn run(self) -> Result<(), String> {
        let stop = self.context.stop.clone();
        let lease = tokio::select! {
            () = stop.cancelled() => return Ok(()),
            lease = self.follow() => lease,
        };
        self.lead(lease).await
    }

    async fn follow(&self) -> Lease {
        // What was seen, and since when.
        let mut seen: Option<(u64, Instant)> = None;
        let mut looked: Option<Instant> = None;
        loop {
            let found = self.look().await;
            let now = Instant::now();
            if looked.is_none_or(|looked| now.duration_since(looked) > BREAK_MAX) {
                seen = None;
            }
            looked = found.is_ok().then_some(now);
            let free = match found {
                Err(_) => None,
                Ok(None) => Some(0),
                // The answer to an attempt was lost.
                Ok(Some(Held { seq, by: Some(by) })) if by.id == self.replica.id => {
                    return Lease { seq, asked: now.checked_sub(HOLD).unwrap_or(now), due: now };
                }
                Ok(Some(Held { seq, by })) => {
                    let since = seen.filter(|(before, _)| *before == seq).map_or(now, |(_, since)| since);
                    seen = Some((seq, since));
                    let is_free = now.duration_since(since) >= self.pace.patience;
                    self.context.appointment.follow(by.filter(|_| !is_free));
                    is_free.then_some(seq)
                }
            };
            if let Some(seq) = free {
                self.context.appointment.follow(None);
                let asked = Instant::now();
                if let Ok(Some(seq)) = self.write(seq).await {
                    return Lease { seq, asked, due: asked + self.pace.renewal };
                }
            }
            tokio::select! {
                () = sleep(self.pace.look) => {}
                () = self.context.news.lease_freed() => {}
            }
        }
    }

    async fn lead(&self, mut lease: Lease) -> Result<(), String> {
        let Context { appointment, stop, news, wire, names, closing, failed, .. } = &*self.context;
        let beginning = self.begin();
        tokio::pin!(beginning);
        let mut term = None;
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                begun = &mut beginning, if term.is_none() => {
                    let begun = begun?;
                    tracing::info!(term = begun, "this replica leads");
                    appointment.lead(begun, lease.asked);
                    term = Some(begun);
                }
                () = sleep_until(lease.due) => {
                    self.renew(&mut lease).await?;
                    if term.is_some() {
                        appointment.renew(lease.asked);
                    }
                }
            }
        }
        appointment.resign();
        // Of who ends in another way nobody knows whether it does so: the others wait.
        if closing.load(Ordering::Acquire)
            && !failed.load(Ordering::Acquire)
            && wire.purge(&names.lease, lease.seq + 1).await.is_ok()
        {
            news.tell(Topic::Lease, lease.seq).await;
            wire.flush().await;
        }
        Ok(())
    }

    /// Has the state say who leads, and sees to it that everything which was written before is here.
    async fn begin(&self) -> Result<u64, String> {
        let Context { term, wire, names, shared, tail, .. } = &*self.context;
        let term = loop {
            let (replica, name) = (self.replica.id.clone(), self.replica.name.clone());
            let op = Op::Lead { after: term.load(Ordering::Acquire), replica, name };
            let weight = Weight { records: 1, bytes: 0 };
            match self.state.submit(op, weight, Patience::Settle).await {
                Ok(Done::Led(term)) => break term,
                // There was a term of which this replica had not heard. It is over if the lease is still ours.
                Ok(_) => self.check().await?,
                Err(AppendError::Failed) => return Err("the state cannot be written".to_owned()),
                Err(_) => sleep(PAUSE).await,
            }
        };
        let end = loop {
            match streams::info(wire, &names.events).await {
                Ok(Some(info)) => break info.state.last_seq,
                Ok(None) | Err(_) => sleep(PAUSE).await,
            }
        };
        tail.want(end);
        // The sender is held by `shared`.
        drop(shared.watch_tail().wait_for(|tail| *tail >= end).await);
        Ok(term)
    }

    /// Whether the lease is somebody else's.
    async fn check(&self) -> Result<(), String> {
        match self.look().await {
            Ok(Some(Held { by: Some(by), .. })) if by.id == self.replica.id => Ok(()),
            Ok(Some(Held { by, .. })) => Err(self.lost(by.as_deref())),
            Ok(None) | Err(_) => Ok(()),
        }
    }

    async fn renew(&self, lease: &mut Lease) -> Result<(), String> {
        let asked = Instant::now();
        lease.due = asked + PAUSE;
        match self.write(lease.seq).await {
            Ok(Some(seq)) => *lease = Lease { seq, asked, due: asked + self.pace.renewal },
            // The answer to an earlier attempt was lost, somebody has removed the lease, or has taken it.
            Ok(None) => match self.look().await {
                Ok(Some(Held { by: Some(by), seq })) if by.id == self.replica.id => lease.seq = seq,
                Ok(Some(Held { by, .. })) => return Err(self.lost(by.as_deref())),
                Ok(None) => lease.seq = 0,
                Err(_) => {}
            },
            // Nobody else reaches NATS to take it, or somebody takes it, which shows.
            Err(fault) => {
                if let Some(failures) = self.failures.count() {
                    tracing::warn!(%fault, failures, "the lease of the NATS prefix was not renewed");
                }
            }
        }
        Ok(())
    }

    fn lost(&self, to: Option<&Replica>) -> String {
        let to = to.map_or("another replica", |replica| &replica.name);
        format!("the prefix {} was taken over by {to}", self.context.names.prefix())
    }

    /// Writes the lease if it is message `expected`, or none for 0; returns its new number if it was.
    async fn write(&self, expected: u64) -> Result<Option<u64>, Fault> {
        let holder = serde_json::to_vec(&Holder::of(&self.replica));
        let message = Outgoing {
            subject: self.subject(),
            payload: Bytes::from(holder.map_err(|error| Fault::Garbled(error.to_string()))?),
            expected_of_subject: Some(expected),
            kept_seconds: None,
        };
        match in_time(self.context.wire.store_one(&message)).await {
            Ok(seq) => Ok(Some(seq)),
            Err(fault) if journal::is_behind(&fault) => Ok(None),
            Err(fault) => Err(fault),
        }
    }

    async fn look(&self) -> Result<Option<Held>, Fault> {
        let Context { wire, names, .. } = &*self.context;
        let newest = in_time(wire.newest(&names.lease, &self.subject())).await?;
        Ok(newest.map(|Stored { seq, payload }| {
            let by = serde_json::from_slice::<Holder>(&payload).ok().and_then(Holder::replica);
            Held { seq, by: by.map(Arc::new) }
        }))
    }

    fn subject(&self) -> String {
        self.context.names.subject(Kind::Lease, "holder")
    }
}

async fn in_time<T>(request: impl Future<Output = Result<T, Fault>>) -> Result<T, Fault> {
    timeout(REQUEST_MAX, request).await.unwrap_or_else(|_| Err(Fault::Away("no answer in time".to_owned())))
}
