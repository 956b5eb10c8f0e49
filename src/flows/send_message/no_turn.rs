//! Why a message did not get its turn, in words for its caller. Nothing was sent.

use metrics::counter;

use crate::domain::failure::{Actor, Class, Failure, Reason, Retry, Verdict};
use crate::domain::schedule::{Refusal, Why};
use crate::telemetry::names;

use super::STORE_RETRY_DELAY;

/// The lane says no; `parked` says more if that is because the number cannot send.
pub(super) fn refused(refusal: &Refusal, parked: impl FnOnce() -> Option<Failure>) -> Failure {
    let word = match refusal.why {
        Why::Throughput => "throughput",
        Why::Pair => "pair",
        Why::Suspended => "suspended",
        Why::Full => "full",
        Why::Parked(_) => "parked",
    };
    counter!(names::LANE_REFUSALS, names::REASON => word).increment(1);
    if let Why::Parked(_) = refusal.why
        && let Some(failure) = parked()
    {
        return failure;
    }
    let retry = refusal.retry_after.map_or(Retry::AfterChange, Retry::Wait);
    let local = Verdict {
        class: Class::ResourceExhausted,
        reason: Reason::LocalRateLimit,
        actor: Actor::Caller,
        retry,
    };
    let (verdict, message) = match refusal.why {
        Why::Throughput => (
            local,
            "its turn would come after the deadline: the business number sends as fast as Meta lets it; set a later \
             deadline, or send less at a time",
        ),
        Why::Pair => (
            local,
            "its turn would come after the deadline: Meta takes one message in 6 seconds to the same recipient, 45 in \
             advance; set a later deadline, or say more in one message",
        ),
        Why::Suspended => (
            Verdict { reason: Reason::UpstreamAccountRate, ..local },
            "its turn would come after the deadline: Meta has said that the calls of the account are used up for a while",
        ),
        Why::Full => (local, "too many messages of this business number wait already"),
        Why::Parked(verdict) => (verdict, "the business number cannot send at present"),
    };
    Failure { verdict, message: format!("{message}; nothing was sent"), meta: None, field: None }
}

/// Somebody else may lead already, and send it too.
pub(in crate::flows) fn not_leading() -> Failure {
    let verdict = Verdict {
        class: Class::Unavailable,
        reason: Reason::NoLeader,
        actor: Actor::Operator,
        retry: Retry::Backoff(STORE_RETRY_DELAY),
    };
    let message = "this gateway may not lead any more; nothing was sent, try again".to_owned();
    Failure { verdict, message, meta: None, field: None }
}

/// The process ends before the turn comes.
pub(super) fn draining() -> Failure {
    let verdict = Verdict {
        class: Class::Unavailable,
        reason: Reason::ServerDraining,
        actor: Actor::Operator,
        retry: Retry::Backoff(STORE_RETRY_DELAY),
    };
    let message = "the gateway is shutting down before the message had its turn; nothing was sent".to_owned();
    Failure { verdict, message, meta: None, field: None }
}
