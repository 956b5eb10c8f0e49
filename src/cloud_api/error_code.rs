//! What Meta's error codes mean: one table (`error_code/table.rs`) and the rules that stand above it.
//!
//! The reference recommends a gRPC code per row (5.2 to 5.10). Three rules outrank it:
//!
//! 1. On a send or another write, everything ambiguous is `Unknown`: clients repeat on `Unavailable` by themselves,
//!    and Meta has no idempotency key (2.1). Ambiguous are the codes that the reference calls so, and every HTTP 5xx and
//!    every code that it does not list where Meta says "transient". A listed code that is not ambiguous wins
//!    over an HTTP 5xx, because then Meta itself names the cause and has rejected the message for it: 3, 131045
//!    and 133000 come with HTTP 500 and are plain refusals.
//! 2. Our own credentials or account failing is `FailedPrecondition` for the operator. `PermissionDenied` never
//!    comes from here: the caller's permissions are fine.
//! 3. `Unavailable` means: certainly not done. Reads change nothing, so an ambiguous failure of one is that.

mod table;

use std::time::Duration;

use crate::domain::failure::{Actor, Class, MetaError, Reason, Retry, Verdict};
use table::{Policy, Row};

/// What a failed call was about to do; decides what an ambiguous answer means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// Sends a message. Doing it twice reaches a person twice.
    Send,
    /// Changes nothing.
    Read,
    /// Changes something else.
    Write,
}

/// The verdict on an error that Meta answered a call with. `is_transient` is Meta's word of that name, which
/// counts only where the code is not known (reference 5.1).
pub fn verdict(error: &MetaError, is_transient: bool, operation: Operation) -> Verdict {
    match known(error) {
        Some(row) if row.policy == Policy::Ambiguous => ambiguous(operation),
        Some(row) => {
            let verdict = refusal(row);
            // Meta names an outage and answers 5xx: that proves nothing about this call.
            let is_outage = verdict.class == Class::Unavailable && error.http_status >= 500;
            if is_outage && operation != Operation::Read { ambiguous(operation) } else { verdict }
        }
        None => unlisted(error.http_status, is_transient, operation),
    }
}

/// The verdict on an error that came in a webhook, such as in a `failed` status. There the failure is a fact,
/// so an ambiguous code only says that a new message may fare better (reference 5.11, rule 7).
pub fn async_verdict(code: i64) -> Verdict {
    match table::find(code) {
        Some(row) if row.policy == Policy::Ambiguous => OUTAGE,
        Some(row) => refusal(row),
        None => Verdict {
            class: Class::FailedPrecondition,
            reason: Reason::UpstreamRefused,
            actor: Actor::Meta,
            retry: Retry::AfterChange,
        },
    }
}

/// A few words on what the code means; `None` for a code that the reference does not list.
pub fn describe(code: i64) -> Option<&'static str> {
    table::find(code).map(|row| row.meaning)
}

/// The request left and nothing proves what became of it.
pub(super) fn ambiguous(operation: Operation) -> Verdict {
    match operation {
        Operation::Read => OUTAGE,
        Operation::Send | Operation::Write => Verdict {
            class: Class::Unknown,
            reason: Reason::SendOutcomeUnknown,
            actor: Actor::Caller,
            retry: Retry::Ambiguous,
        },
    }
}

/// Meta is out of order and has done nothing.
const OUTAGE: Verdict = Verdict {
    class: Class::Unavailable,
    reason: Reason::UpstreamUnavailable,
    actor: Actor::Meta,
    retry: Retry::Backoff(Duration::from_secs(1)),
};

/// Codes so general that a known subcode says more (reference 5.1, last rule).
const GENERIC_CODES: [i64; 4] = [1, 3, 10, 100];

/// The code counts first, then the subcode, except under a generic code.
fn known(error: &MetaError) -> Option<&'static Row> {
    let by_code = error.code.and_then(table::find);
    let by_subcode = error.subcode.filter(|subcode| is_specific(*subcode)).and_then(table::find);
    let is_generic = error.code.is_none_or(|code| GENERIC_CODES.contains(&code));
    if is_generic { by_subcode.or(by_code) } else { by_code.or(by_subcode) }
}

/// Small subcodes belong to other namespaces of Graph; only 33, which means the same as the code, is known.
fn is_specific(subcode: i64) -> bool {
    subcode == 33 || subcode >= 100_000
}

fn refusal(row: &Row) -> Verdict {
    let seconds = Duration::from_secs;
    let retry = match row.policy {
        Policy::Fix | Policy::WaitForEvent => Retry::AfterChange,
        Policy::Never | Policy::Inbound => Retry::Never,
        Policy::Backoff(first) => Retry::Backoff(seconds(first)),
        Policy::Wait(least) => Retry::Wait(seconds(least)),
        // 4^X seconds, X = 0, 1, 2 … (reference 5.1).
        Policy::Pair => Retry::Backoff(seconds(1)),
        Policy::Ambiguous => Retry::Ambiguous,
    };
    Verdict { class: row.class, reason: row.reason, actor: row.actor, retry }
}

/// Reference 5.1, "Unknown code", under the three rules.
fn unlisted(http_status: u16, is_transient: bool, operation: Operation) -> Verdict {
    let minute = Duration::from_mins(1);
    let (class, reason, actor, retry) = match http_status {
        _ if is_transient => return ambiguous(operation),
        401 | 403 => {
            (Class::FailedPrecondition, Reason::UpstreamCredentials, Actor::Operator, Retry::AfterChange)
        }
        404 => (Class::NotFound, Reason::UpstreamNotFound, Actor::Caller, Retry::AfterChange),
        409 => (Class::Aborted, Reason::UpstreamConflict, Actor::Caller, Retry::Backoff(minute)),
        429 => (Class::ResourceExhausted, Reason::UpstreamAccountRate, Actor::Caller, Retry::Backoff(minute)),
        // A request that timed out at the edge may have gone on.
        408 => return ambiguous(operation),
        400..=499 => (Class::InvalidArgument, Reason::UpstreamRefused, Actor::Caller, Retry::AfterChange),
        _ => return ambiguous(operation),
    };
    Verdict { class, reason, actor, retry }
}

#[cfg(test)]
mod tests;
