//! How something is put into a stream, and how a stream is read on.
//!
//! Every write says what must be so for it to be right: where the stream ends, or that a message is the first of its subject. So
//! a write whose answer was lost can be repeated: at most one of the copies fits.

use std::time::Duration;

use tokio::time::sleep;
use uuid::Uuid;

use super::queue::BATCH_BYTES;
use super::wire::{Fault, Outgoing, Stored, Wire};
use crate::storage::event_log::Refusal;

/// Waits between two attempts at most.
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// Messages of a page.
const PAGE_MESSAGES: usize = 1_000;
/// Messages of one that the leader is asked for, one by one.
const LEADER_MESSAGES: usize = 64;
/// How often the nearest server is asked again for what is somewhere, with twice the pause each time, until the leader is.
const ASKED_AGAIN: u32 = 5;

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
    /// Durable; the first message has this number, and the others follow it.
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

/// Tries once to store the messages, at least one; behind the message `last`, if that is said.
pub(super) async fn attempt(wire: &Wire, last: Option<u64>, messages: &[Outgoing]) -> Attempt {
    // Another one each time, so that the server takes no part of an earlier attempt for one of this.
    match wire.store(&Uuid::now_v7().to_string(), last, messages).await {
        Ok(last) => Attempt::Stored(last.saturating_sub(messages.len() as u64 - 1)),
        Err(fault) if is_behind(&fault) => Attempt::Behind,
        Err(fault) => judged(fault),
    }
}

/// Whether the server has something where a write expects nothing, or something else.
pub(super) fn is_behind(fault: &Fault) -> bool {
    matches!(fault, Fault::Api { err_code: WRONG_LAST | WRONG_LAST_UNSAID, .. })
}

/// What follows in a stream.
#[derive(Debug)]
pub(super) struct Page {
    pub(super) messages: Vec<Stored>,
    /// Whether there may be more already.
    pub(super) is_full: bool,
}

/// Reads on from message `from`, from whichever server is nearest. If that one is behind and does not have `wanted` soon, the
/// leader is asked.
pub(super) async fn page(wire: &Wire, stream: &str, from: u64, wanted: u64) -> Result<Page, Fault> {
    for asked in 0..=ASKED_AGAIN {
        let messages = wire.page(stream, from, PAGE_MESSAGES, BATCH_BYTES).await?;
        if let Some(last) = messages.last() {
            let bytes = messages.iter().map(|message| message.payload.len()).sum::<usize>();
            let is_full = messages.len() == PAGE_MESSAGES || 2 * bytes > BATCH_BYTES || last.seq < wanted;
            return Ok(Page { messages, is_full });
        }
        if wanted < from {
            return Ok(Page { messages, is_full: false });
        }
        sleep(Duration::from_millis(1 << asked)).await;
    }
    let mut messages: Vec<Stored> = Vec::new();
    while messages.len() < LEADER_MESSAGES {
        let next = messages.last().map_or(from, |message| message.seq + 1);
        let Some(message) = wire.next(stream, next).await? else { break };
        messages.push(message);
    }
    let is_full = !messages.is_empty();
    Ok(Page { messages, is_full })
}

/// How long to wait before the attempt after so many, while the server does not take it.
pub(super) fn pause(attempts: u32) -> Duration {
    jittered(Duration::from_millis(10).saturating_mul(1 << attempts.min(10)).min(PAUSE_MAX))
}

/// How long to wait before the next attempt after others were faster: they have to hear that this one wants its turn, and wait for
/// it a while.
pub(super) fn pause_overtaken() -> Duration {
    jittered(Duration::from_millis(2))
}

/// Between half and one and a half of it, so that writers which meet do not meet again.
fn jittered(duration: Duration) -> Duration {
    let [.., random] = Uuid::new_v4().into_bytes();
    duration.mul_f64(0.5 + f64::from(random) / 255.0)
}

fn judged(fault: Fault) -> Attempt {
    match fault {
        Fault::Away(reason) | Fault::Garbled(reason) => Attempt::Again(reason),
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
