//! The lease of a prefix: one gateway at a time.
//!
//! Its message lives ten seconds on the server and is renewed every three. Who finds one waits whether it is renewed: then
//! another gateway lives, and this one must not start. The lease only decides who runs. That two never write over each
//! other is the journals' business, which name the end of the stream with every write.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rustix::process::getpid;
use rustix::system::uname;
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use super::streams::{Kind, LEASE_SECONDS, Names};
use super::wire::{Fault, Outgoing, Stored, Wire};
use super::{Context, OpenError};
use crate::clock::SharedClock;

const RENEWAL: Duration = Duration::from_secs(3);
const LOOK: Duration = Duration::from_millis(250);
/// A server that just started counts the age of what it found anew, and looks every now and then.
const PATIENCE: Duration = Duration::from_secs(LEASE_SECONDS + 5);

const WRONG_LAST: u64 = 10_071;
const WRONG_LAST_UNSAID: u64 = 10_164;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Holder {
    id: String,
    process: String,
}

/// The lease, held.
#[derive(Debug)]
pub(super) struct Lease {
    wire: Wire,
    names: Names,
    holder: Holder,
    seq: u64,
    renewed: Instant,
}

/// What became of a renewal.
enum Renewed {
    Yes,
    TakenBy(String),
}

impl Lease {
    /// Takes the lease, which takes its lifetime if its last holder was killed.
    pub(super) async fn take(wire: &Wire, names: &Names, clock: &SharedClock) -> Result<Self, OpenError> {
        let host = uname().nodename().to_string_lossy().into_owned();
        let process = format!("process {} on {host} since {}", getpid(), clock.now_ms() / 1000);
        let holder = Holder { id: Uuid::now_v7().to_string(), process };
        let mut lease =
            Self { wire: wire.clone(), names: names.clone(), holder, seq: 0, renewed: Instant::now() };
        let started = Instant::now();
        let mut seen: Option<u64> = None;
        loop {
            match lease.write().await {
                Ok(true) => return Ok(lease),
                Ok(false) => {}
                // Perhaps it was stored all the same, which shows below.
                Err(Fault::Away(_)) if started.elapsed() < PATIENCE => {}
                Err(fault) => return Err(fault.into()),
            }
            if let Some((other, seq)) = lease.current().await? {
                if other.id == lease.holder.id {
                    lease.seq = seq;
                    return Ok(lease);
                }
                let lives = seen.replace(seq).is_some_and(|before| before != seq);
                if lives || started.elapsed() > PATIENCE {
                    let prefix = names.prefix().to_owned();
                    return Err(OpenError::Held { prefix, holder: other.process });
                }
            }
            sleep(LOOK).await;
        }
    }

    /// Renews while the store is being opened.
    pub(super) async fn renew_if_due(&mut self) -> Result<(), OpenError> {
        if self.renewed.elapsed() < RENEWAL {
            return Ok(());
        }
        match self.renew().await? {
            Renewed::Yes => Ok(()),
            Renewed::TakenBy(holder) => {
                Err(OpenError::Held { prefix: self.names.prefix().to_owned(), holder })
            }
        }
    }

    /// Renews until told to stop, and then gives the lease free. An error is the end: somebody else has it.
    pub(super) async fn keep(mut self, context: &Arc<Context>) -> Result<(), String> {
        loop {
            tokio::select! {
                () = context.stop.cancelled() => {
                    // Else it runs out by itself.
                    drop(self.release().await);
                    return Ok(());
                }
                () = sleep(RENEWAL) => {}
            }
            match self.renew().await {
                Ok(Renewed::Yes) => {}
                Ok(Renewed::TakenBy(other)) => {
                    return Err(format!("the prefix {} was taken over by {other}", self.names.prefix()));
                }
                // Nobody else reaches NATS to take it, or the journals stop one of the two.
                Err(fault) => tracing::warn!(%fault, "the lease of the NATS prefix was not renewed"),
            }
        }
    }

    async fn renew(&mut self) -> Result<Renewed, Fault> {
        if self.write().await? {
            return Ok(Renewed::Yes);
        }
        match self.current().await? {
            Some((other, _)) if other.id != self.holder.id => return Ok(Renewed::TakenBy(other.process)),
            // The answer of an earlier renewal was lost.
            Some((_, seq)) => self.seq = seq,
            // It ran out while NATS was away, and nobody took it.
            None => self.seq = 0,
        }
        Ok(if self.write().await? { Renewed::Yes } else { Renewed::TakenBy("another gateway".to_owned()) })
    }

    /// Writes the lease if it is as this holder knows it.
    async fn write(&mut self) -> Result<bool, Fault> {
        let message = Outgoing {
            subject: self.subject(),
            payload: Bytes::from(serde_json::to_vec(&self.holder).unwrap_or_default()),
            expected_of_subject: Some(self.seq),
            kept_seconds: None,
        };
        match self.wire.store_one(&message).await {
            Ok(seq) => {
                (self.seq, self.renewed) = (seq, Instant::now());
                Ok(true)
            }
            Err(Fault::Api { err_code: WRONG_LAST | WRONG_LAST_UNSAID, .. }) => Ok(false),
            Err(fault) => Err(fault),
        }
    }

    async fn current(&self) -> Result<Option<(Holder, u64)>, Fault> {
        let newest = self.wire.newest(&self.names.lease, &self.subject()).await?;
        let Some(Stored { seq, payload }) = newest else { return Ok(None) };
        let holder = serde_json::from_slice(&payload).map_err(|error| Fault::Garbled(error.to_string()))?;
        Ok(Some((holder, seq)))
    }

    async fn release(&self) -> Result<(), Fault> {
        self.wire.purge(&self.names.lease, self.seq + 1).await
    }

    fn subject(&self) -> String {
        self.names.subject(Kind::Lease, "holder")
    }
}
