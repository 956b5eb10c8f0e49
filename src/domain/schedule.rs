//! When a message may go out: the limits of one business number, shared fairly among those who want to send.
//!
//! A [`Lane`] is a pure machine. It never asks the time: every call brings a [`Moment`], and [`Next::wake_at`] says when
//! to call again. It never acts: it hands out turns, and hears what became of them.
//!
//! ```text
//! offer ─▶ Refuse            it could not have its turn inside its deadline
//!       ─▶ Go ───────────────┐
//!       ─▶ Wait ─▶ poll ─────┴─▶ in flight (depart, leave) ─▶ done
//!                  │ expired              └─▶ again ─▶ as offer, in its old place
//!                  └─▶ cancel
//! ```
//!
//! What it promises:
//!
//! - **Throughput**: sent and received messages together never exceed the number's rate by more than 5 % in any sliding
//!   second, as long as the received ones alone do not (reference 6.1); 130429 lowers the rate for a while.
//! - **Departures**: what leaves keeps to that too, whatever holds messages up after their turns ([`Lane::leave`]).
//! - **Pair limit**: no recipient gets more than Meta allows (reference 6.1, [`PairRule`]); after a 131056 the pair sleeps.
//! - **Classes**: [`Class::Urgent`] goes before everything. [`Class::Bulk`] keeps a tenth of what urgent leaves.
//! - **Fairness**: inside a class callers take turns, so whoever has demand gets at least an equal part of the slots.
//! - **Order**: messages of one class to one recipient go out as they were offered, whoever offered them, each after the
//!   answer to the one before. A higher class may overtake a lower one: a one-time password does not wait for the
//!   campaign that its recipient is part of.
//! - **Deadlines**: what cannot have its turn in time is refused when it is offered, or as soon as that becomes known.

mod deadlines;
mod lane;
mod pace;
mod pacer;
mod recipients;
mod ticket;
mod turns;

use std::time::Duration;

pub use lane::{Lane, WAITING_MAX};
pub use pace::{PairRule, Repayment};
pub use ticket::{Class, Feedback, Next, Offer, PairKey, Refusal, Ticket, TicketId, Why};

/// A point in time: how long after some start, the same for all calls of a lane. The clock behind it should be
/// monotonic; a moment before an earlier one counts as that one.
pub type Moment = Duration;

#[cfg(test)]
mod tests;
