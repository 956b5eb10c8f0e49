//! One stream as its writer sees it: where it ends, and how something is put behind that.
//!
//! Every write names the end that the writer knows. So of two writers one is told that it is behind, and a write whose
//! answer was lost can be repeated: at most one of the copies fits.

use std::time::Duration;

use uuid::Uuid;

use super::streams;
use super::wire::{Fault, Outgoing, Stored, Wire};
use crate::storage::event_log::Refusal;

/// Waits between two attempts at most.
const PAUSE_MAX: Duration = Duration::from_secs(1);

const WRONG_LAST: u64 = 10_071;
const WRONG_LAST_UNSAID: u64 = 10_164;
const STORE_FAILED: u64 = 10_077;
/// The account's, the server's and the cluster's room.
const NO_ROOM: [u64; 4] = [10_002, 10_023, 10_028, 10_047];
/// A batch that lost a part on the way, or too many of them: not stored, and worth repeating.
const PASSING: [u64; 4] = [10_167, 10_176, 10_210, 10_211];

/// What came of one attempt.
#[derive(Debug)]
pub(super) enum Attempt {
    /// Durable; the first message has this number.
    Stored(u64),
    /// The stream does not end where it should, or a message stands where none should. Nothing was written.
    Behind,
    /// There is no room. Nothing was written.
    Refused(Refusal),
    /// To be repeated as it is.
    Again(String),
    /// The server will never take it: the stream is not what it was.
    Rejected(String),
}

/// The end of a stream.
#[derive(Debug)]
pub(super) struct Journal {
    wire: Wire,
    stream: String,
    last: u64,
}

impl Journal {
    /// A stream whose newest message has this number.
    pub(super) fn new(wire: Wire, stream: String, last: u64) -> Self {
        Self { wire, stream, last }
    }

    pub(super) fn wire(&self) -> &Wire {
        &self.wire
    }

    /// Tries once to put the messages, at least one, behind the end.
    pub(super) async fn attempt(&mut self, messages: &[Outgoing]) -> Attempt {
        // Another one each time, so that the server takes no part of an earlier attempt for one of this.
        match self.wire.store(&Uuid::now_v7().to_string(), self.last, messages).await {
            Ok(last) => {
                self.last = last;
                Attempt::Stored(last.saturating_sub(messages.len() as u64 - 1))
            }
            Err(fault) => judged(fault),
        }
    }

    /// What was put behind the end by others, or by attempts of ours whose answers were lost, and where the stream ends.
    /// Whoever has taken that in says so by [`Journal::advance`].
    pub(super) async fn missed(&self) -> Result<(Vec<Stored>, u64), Fault> {
        // The newest messages may be gone already, and count all the same.
        let gone = || Fault::Away(format!("the stream {} is not there", self.stream));
        let end = streams::info(&self.wire, &self.stream).await?.ok_or_else(gone)?.state.last_seq;
        let mut missed = Vec::new();
        let mut last = self.last;
        while last < end
            && let Some(message) = self.wire.next(&self.stream, last + 1).await?
        {
            last = message.seq;
            missed.push(message);
        }
        Ok((missed, last.max(end)))
    }

    /// From now on writes go behind this end.
    pub(super) fn advance(&mut self, last: u64) {
        self.last = last;
    }
}

/// How long to wait before the attempt after so many.
pub(super) fn pause(attempts: u32) -> Duration {
    Duration::from_millis(10).saturating_mul(1 << attempts.min(10)).min(PAUSE_MAX)
}

fn judged(fault: Fault) -> Attempt {
    match fault {
        Fault::Away(reason) | Fault::Garbled(reason) => Attempt::Again(reason),
        Fault::Api { err_code: WRONG_LAST | WRONG_LAST_UNSAID, .. } => Attempt::Behind,
        Fault::Api { err_code: STORE_FAILED, description, .. } if description.contains("maximum bytes") => {
            Attempt::Refused(Refusal::SizeLimit)
        }
        Fault::Api { err_code, .. } if err_code == STORE_FAILED || NO_ROOM.contains(&err_code) => {
            Attempt::Refused(Refusal::DiskLow)
        }
        Fault::Api { code, err_code, description } => {
            if code >= 500 || PASSING.contains(&err_code) {
                Attempt::Again(description)
            } else {
                Attempt::Rejected(format!("{description} (NATS error {err_code})"))
            }
        }
    }
}
