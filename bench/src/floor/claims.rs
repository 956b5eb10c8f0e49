//! What a send under a request id makes durable: the rows of its claim, its outcome, and the end of what was pending, in
//! group commits into the gateway's table, with the gateway's settings.

use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use bytes::Bytes;
use rusqlite::{Connection, Transaction, TransactionBehavior, params};
use tokio::sync::oneshot;
use tonic::Status;

use super::append::{gather, open, table};
use super::publish::{Message, Publisher};
use crate::Result;

/// Bytes of a claim, of what is pending of it, and of an outcome, about as in the gateway.
const CLAIM: [u8; 80] = [1; 80];
const PENDING: [u8; 60] = [2; 60];
const OUTCOME: [u8; 220] = [3; 220];
/// A day, as an expiry.
const KEPT_MS: i64 = 24 * 60 * 60 * 1000;

/// One durable step.
#[derive(Debug)]
pub(super) enum Write {
    Claim(Bytes),
    /// Nothing is pending any more.
    Settle(Bytes),
}

pub(super) struct Job {
    write: Write,
    done: oneshot::Sender<()>,
}

/// Where claims become durable. Cheap to clone.
#[derive(Clone)]
pub(super) enum Claims {
    /// A database.
    Rows(Sender<Job>),
    /// NATS.
    Published(Publisher),
}

impl Claims {
    /// A new database in this folder, with the table of this one.
    pub(super) fn open(folder: &Path, like: &Path) -> Result<Self> {
        let tables = table(like, "state")?;
        let connection = open(folder, "claims.db", &tables)?;
        let (jobs, queue) = channel();
        thread::spawn(move || run(connection, &queue));
        Ok(Self::Rows(jobs))
    }

    /// Durable when it returns.
    pub(super) async fn write(&self, write: Write) -> std::result::Result<(), Status> {
        let failed = || Status::unavailable("the claims cannot be written");
        match self {
            Self::Rows(jobs) => {
                let (done, is_done) = oneshot::channel();
                jobs.send(Job { write, done }).map_err(|_| failed())?;
                is_done.await.map_err(|_| failed())
            }
            Self::Published(publisher) => {
                publisher.publish(write.messages()).await.then_some(()).ok_or_else(failed)
            }
        }
    }
}

impl Write {
    /// The same in NATS, where what is no longer pending has a message that says so.
    fn messages(&self) -> Vec<Message> {
        let (id, request, pending): (_, &'static [u8], &'static [u8]) = match self {
            Self::Claim(id) => (id, &CLAIM, &PENDING),
            Self::Settle(id) => (id, &OUTCOME, &[]),
        };
        let message = |bucket: &str, payload| Message {
            token: format!("{bucket}.{}", hex::encode(id)),
            payload: Bytes::from_static(payload),
            is_first: false,
        };
        vec![message("requests", request), message("pending", pending)]
    }
}

/// Ends, and with it the process's answers, at the first failure.
fn run(mut connection: Connection, queue: &Receiver<Job>) {
    let mut revision = 0;
    loop {
        let group = gather(queue);
        if group.is_empty() {
            return;
        }
        if let Err(error) = commit(&mut connection, &group, &mut revision) {
            eprintln!("gateway-bench: the claims were not written: {error}");
            return;
        }
        for job in group {
            // Whoever called may have left.
            let _left = job.done.send(());
        }
    }
}

fn commit(connection: &mut Connection, group: &[Job], revision: &mut i64) -> rusqlite::Result<()> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    for job in group {
        *revision += 1;
        match &job.write {
            Write::Claim(id) => {
                insert(&transaction, "pending", id, &PENDING, *revision)?;
                *revision += 1;
                insert(&transaction, "requests", id, &CLAIM, *revision)?;
            }
            Write::Settle(id) => {
                let mut update = transaction.prepare_cached(
                    "UPDATE state SET value = ?2, revision = ?3 WHERE bucket = 'requests' AND key = ?1",
                )?;
                update.execute(params![&id[..], &OUTCOME[..], *revision])?;
                let mut delete =
                    transaction.prepare_cached("DELETE FROM state WHERE bucket = 'pending' AND key = ?1")?;
                delete.execute(params![&id[..]])?;
            }
        }
    }
    transaction.commit()
}

fn insert(
    transaction: &Transaction<'_>,
    bucket: &str,
    key: &[u8],
    value: &[u8],
    revision: i64,
) -> rusqlite::Result<()> {
    let mut insert = transaction.prepare_cached(
        "INSERT INTO state (bucket, key, value, revision, expire_ms) VALUES (?1, ?2, ?3, ?4, ?5) \
         ON CONFLICT DO NOTHING",
    )?;
    insert.execute(params![bucket, key, value, revision, KEPT_MS + revision]).map(|_| ())
}
