//! What goes into the scheduler and what comes out.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::Moment;
use crate::domain::caller::Caller;
use crate::domain::failure::Verdict;

/// How pressing a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Class {
    /// Somebody waits for it, such as a one-time password; goes before everything else.
    Urgent,
    /// An ordinary message.
    Normal,
    /// Part of a campaign; keeps a tenth of what urgent messages leave.
    Bulk,
}

impl Class {
    /// Every class, the most pressing first.
    pub const ALL: [Self; 3] = [Self::Urgent, Self::Normal, Self::Bulk];
}

/// One of something for each class.
#[derive(Debug, Default)]
pub(super) struct PerClass<T> {
    urgent: T,
    normal: T,
    bulk: T,
}

impl<T> PerClass<T> {
    pub(super) fn of(&self, class: Class) -> &T {
        match class {
            Class::Urgent => &self.urgent,
            Class::Normal => &self.normal,
            Class::Bulk => &self.bulk,
        }
    }

    pub(super) fn of_mut(&mut self, class: Class) -> &mut T {
        match class {
            Class::Urgent => &mut self.urgent,
            Class::Normal => &mut self.normal,
            Class::Bulk => &mut self.bulk,
        }
    }
}

/// The recipient, by a name that is one for all their spellings: the conversation key. Personal data.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PairKey(Arc<str>);

impl PairKey {
    /// The recipient of this conversation.
    pub fn new(conversation_key: &str) -> Self {
        Self(conversation_key.into())
    }
}

impl fmt::Debug for PairKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PairKey(masked)")
    }
}

/// Names a ticket inside its lane. Later ones are greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TicketId(pub(super) u64);

#[cfg(test)]
impl TicketId {
    pub(crate) fn of(number: u64) -> Self {
        Self(number)
    }
}

/// A message that wants its turn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ticket {
    /// Who sends it.
    pub caller: Caller,
    /// How pressing it is.
    pub class: Class,
    /// To whom.
    pub pair: PairKey,
    /// The last moment at which a turn is of use; `None` waits as long as it takes.
    pub deadline: Option<Moment>,
}

/// What becomes of an offered ticket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Offer {
    /// It has its turn now. Answer with [`Lane::done`](super::Lane::done) or [`Lane::again`](super::Lane::again).
    Go(TicketId),
    /// It waits for its turn.
    Wait {
        /// Its name in [`Next`].
        id: TicketId,
        /// The earliest moment of its turn, by what waits ahead of it now.
        turn: Moment,
    },
    /// It would not have its turn in time, or there is no room. Nothing is kept.
    Refuse(Refusal),
}

/// Why a ticket does not get its turn in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refusal {
    /// What stands in the way.
    pub why: Why,
    /// When the same ticket, as patient as before, may have better luck, at least a millisecond: by so much its turn would
    /// have been too late, and by a slot more for each that was refused at about the same moment. `None` if that depends on
    /// other events.
    pub retry_after: Option<Duration>,
}

/// What stands in the way of a ticket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// The throughput of the business number.
    Throughput,
    /// The limit of messages to this recipient.
    Pair,
    /// The call budget of the account is used up.
    Suspended,
    /// The number cannot send at present.
    Parked(Verdict),
    /// Too many tickets wait ([`WAITING_MAX`](super::WAITING_MAX)).
    Full,
}

/// What a poll brings.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Next {
    /// Tickets that have their turn now, in this order.
    pub granted: Vec<TicketId>,
    /// Tickets that will not have their turn in time. They are forgotten.
    pub expired: Vec<(TicketId, Refusal)>,
    /// When to poll again; `None` if nothing happens before the next call.
    pub wake_at: Option<Moment>,
}

/// What became of a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Feedback {
    /// Meta took the message.
    Accepted,
    /// 130429: the rate goes down.
    Throttled {
        /// How long Meta wants to be left alone, if it said so.
        retry_after: Option<Duration>,
    },
    /// 131056: the recipient's pair sleeps.
    PairLimited {
        /// How long Meta wants the pair to be left alone, if it said so.
        retry_after: Option<Duration>,
    },
    /// Nothing reached Meta.
    NotSent,
    /// Meta refused it for another reason, or nobody knows.
    Other,
}
