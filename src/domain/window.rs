//! The customer service window and the free entry point (reference 7, rules 2 to 5).
//!
//! Both are computed from the log. An open window is known by the message that opened it; a closed one only where the
//! log is complete, since a message that was never heard of would open it too.

use std::time::{Duration, SystemTime};

use super::message::OutboundMessage;

/// How long the window stays open after a user's message or call (rule 2).
pub const WINDOW_DURATION: Duration = Duration::from_hours(24);

/// How long the free entry point stays open after the answer, and within which time the answer must come (rule 5).
pub const FREE_ENTRY_DURATION: Duration = Duration::from_hours(72);
const ANSWER_WITHIN: Duration = Duration::from_hours(24);

/// How far our clock may be ahead of Meta's before a window that Meta still holds open counts as closed.
const CLOCK_TOLERANCE: Duration = Duration::from_mins(1);

/// Something that moves the windows of a conversation, by Meta's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// The user wrote or called.
    Inbound {
        /// When.
        time: SystemTime,
        /// Whether they came from an advertisement or a post.
        is_referral: bool,
    },
    /// A message of the business left.
    Answered(SystemTime),
    /// Meta named the end of the free entry point.
    FreeEntryUntil(SystemTime),
}

/// What is remembered of a conversation's windows. Moments may be repeated; nothing moves backwards.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ConversationWindows {
    /// When the user last wrote or called.
    pub last_inbound: Option<SystemTime>,
    /// When the user last came from an advertisement or a post.
    pub last_referral: Option<SystemTime>,
    /// When the last free entry point ends.
    pub free_entry_until: Option<SystemTime>,
}

/// How completely the messages to a business number are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reception {
    /// When its first webhook about messages was stored.
    pub since: SystemTime,
    /// When somebody last wrote whose phone number Meta hides, so that the conversation cannot be found by it.
    pub last_hidden: Option<SystemTime>,
}

impl Reception {
    /// What both say together.
    #[must_use]
    pub fn merge(self, other: Self) -> Self {
        let last_hidden = self.last_hidden.max(other.last_hidden);
        Self { since: self.since.min(other.since), last_hidden }
    }
}

/// What is known of a customer service window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Known {
    /// It is open.
    Open {
        /// Until when.
        until: SystemTime,
    },
    /// It is closed.
    Closed {
        /// Since when; `None` when no message of the user is remembered.
        since: Option<SystemTime>,
    },
    /// No message is known that keeps it open, but one may have been missed. Meta knows.
    Unknown,
}

/// What a caller wants done when the window is closed.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct IfClosed {
    /// Whether the gateway decides.
    pub policy: WindowPolicy,
    /// The template to send instead, as a whole message.
    pub fallback: Option<Box<OutboundMessage>>,
}

/// Who decides about a message that needs an open window.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum WindowPolicy {
    /// The gateway where it knows, else Meta.
    #[default]
    Enforce,
    /// Meta.
    Ignore,
}

impl ConversationWindows {
    /// After another moment.
    #[must_use]
    pub fn after(mut self, moment: Moment) -> Self {
        match moment {
            Moment::Inbound { time, is_referral } => {
                self.last_inbound = self.last_inbound.max(Some(time));
                self.last_referral = self.last_referral.max(is_referral.then_some(time));
            }
            Moment::Answered(time) => {
                if self.last_referral.is_some_and(|referral| self.is_opened_by(time, referral)) {
                    self.free_entry_until = self.free_entry_until.max(Some(time + FREE_ENTRY_DURATION));
                }
            }
            Moment::FreeEntryUntil(end) => self.free_entry_until = self.free_entry_until.max(Some(end)),
        }
        self
    }

    /// Whether an answer is the first one to the referral, and in time. What an answer to it has opened ends no earlier
    /// than 72 hours after the referral.
    fn is_opened_by(self, answer: SystemTime, referral: SystemTime) -> bool {
        let is_open = self.free_entry_until.is_some_and(|end| end >= referral + FREE_ENTRY_DURATION);
        !is_open && (referral..=referral + ANSWER_WITHIN).contains(&answer)
    }

    /// When the customer service window closes, or closed.
    pub fn closes_at(self) -> Option<SystemTime> {
        self.last_inbound.map(|time| time + WINDOW_DURATION)
    }

    /// When the free entry point ends that is open at `now`. It makes messages free of charge and keeps no customer
    /// service window open (rule 5).
    pub fn free_entry_at(self, now: SystemTime) -> Option<SystemTime> {
        self.free_entry_until.filter(|end| now < *end)
    }

    /// What is known at `now`, if every message of the user since `complete_since` is in the log. One from before may
    /// keep the window open for a day more.
    pub fn known(self, complete_since: Option<SystemTime>, now: SystemTime) -> Known {
        let closes_at = self.closes_at();
        if let Some(until) = closes_at.filter(|until| now < *until) {
            return Known::Open { until };
        }
        let is_heard = complete_since.is_some_and(|since| since + WINDOW_DURATION <= now);
        let is_past = closes_at.is_none_or(|until| until + CLOCK_TOLERANCE <= now);
        if is_heard && is_past { Known::Closed { since: closes_at } } else { Known::Unknown }
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    const START: SystemTime = UNIX_EPOCH;

    fn hour(hour: u64) -> SystemTime {
        START + Duration::from_hours(1_000 + hour)
    }

    fn inbound(at: u64) -> Moment {
        Moment::Inbound { time: hour(at), is_referral: false }
    }

    fn referral(at: u64) -> Moment {
        Moment::Inbound { time: hour(at), is_referral: true }
    }

    fn after(moments: &[Moment]) -> ConversationWindows {
        moments.iter().fold(ConversationWindows::default(), |windows, moment| windows.after(*moment))
    }

    #[test]
    fn it_closes_a_day_after_the_last_message() {
        let windows = after(&[inbound(100), inbound(90)]);
        let (until, complete) = (hour(124), Some(hour(0)));
        let second = Duration::from_secs(1);
        assert_eq!(windows.known(complete, until - second), Known::Open { until });
        assert_eq!(windows.known(complete, until + CLOCK_TOLERANCE - second), Known::Unknown);
        assert_eq!(windows.known(complete, until + CLOCK_TOLERANCE), Known::Closed { since: Some(until) });
        assert_eq!(windows.after(inbound(101)).known(complete, until), Known::Open { until: hour(125) });
    }

    #[test]
    fn only_a_complete_log_knows_that_it_is_closed() {
        let (never, old) = (ConversationWindows::default(), after(&[inbound(10)]));
        let closed_never = Known::Closed { since: None };
        let closed_old = Known::Closed { since: Some(hour(34)) };
        for (complete_since, if_never, if_old) in [
            (None, Known::Unknown, Known::Unknown),
            (Some(hour(90)), Known::Unknown, Known::Unknown),
            (Some(hour(75)), closed_never, closed_old),
        ] {
            assert_eq!(never.known(complete_since, hour(100)), if_never, "{complete_since:?}");
            assert_eq!(old.known(complete_since, hour(100)), if_old, "{complete_since:?}");
        }
        // Open is known without it.
        assert_eq!(after(&[inbound(99)]).known(None, hour(100)), Known::Open { until: hour(123) });
    }

    #[test]
    fn the_first_answer_within_a_day_opens_the_free_entry_point() {
        use Moment::{Answered, FreeEntryUntil};
        let at = |h| Answered(hour(h));
        let cases: [(&[Moment], Option<u64>); 9] = [
            (&[referral(10), at(12), at(20)], Some(84)),
            (&[referral(10), at(34)], Some(106)),
            (&[referral(10), at(35)], None),
            (&[inbound(10), at(12)], None),
            (&[at(8), referral(10)], None),
            (&[referral(10), at(9)], None),
            // Another referral while it is open opens it anew; repetitions change nothing.
            (&[referral(10), at(12), referral(40), at(41), referral(10), at(12), at(50)], Some(113)),
            // Meta's word counts, also without a referral in the log.
            (&[FreeEntryUntil(hour(70)), FreeEntryUntil(hour(60))], Some(70)),
            (&[referral(10), at(10), FreeEntryUntil(hour(83))], Some(83)),
        ];
        for (moments, end) in cases {
            assert_eq!(after(moments).free_entry_until, end.map(hour), "{moments:?}");
        }
    }

    #[test]
    fn the_free_entry_point_keeps_no_window_open() {
        let windows = after(&[referral(10), Moment::Answered(hour(11))]);
        let later = hour(40);
        assert_eq!(windows.known(Some(hour(0)), later), Known::Closed { since: Some(hour(34)) });
        assert_eq!(windows.free_entry_at(later), Some(hour(83)));
        assert_eq!(windows.free_entry_at(hour(83)), None);
    }
}
