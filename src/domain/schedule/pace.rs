//! The pace of one pair: a business number and a recipient.

use std::time::Duration;

use super::{Moment, TicketId};

/// How long a message may be on its way to Meta. The pace leaves so much between what it allows and what Meta does.
const WAY: Duration = Duration::from_secs(1);

/// After so many 131056 in a row the sleep grows no longer: 4^5 s are 17 minutes, and Meta's own debt ends after 4.5.
const STRIKES_MAX: u32 = 5;

/// What Meta allows one pair (reference 6.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PairRule {
    /// The time that one message takes. Zero: no limit.
    pub interval: Duration,
    /// How many messages may go out within one interval, by borrowing.
    pub burst: u32,
    /// How what was borrowed is paid back.
    pub repayment: Repayment,
}

/// How a pair pays back a burst. The reference can be read in two ways; what keeps the first keeps the second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repayment {
    /// After a burst of n nothing goes out until n intervals have passed since its beginning. Then all of it is free again.
    Whole,
    /// Each interval frees one message, also while more is owed.
    Steady,
}

impl PairRule {
    /// Meta's numbers, read by the letter: one message per 6 s, 45 at once, and "after a burst of n wait as long as n
    /// messages would normally take" (reference 6.1).
    pub const LITERAL: Self =
        Self { interval: Duration::from_secs(6), burst: 45, repayment: Repayment::Whole };

    /// As [`PairRule::LITERAL`], but every 6 s one message is free again: what the gateway keeps.
    pub const STEADY: Self = Self { repayment: Repayment::Steady, ..Self::LITERAL };

    /// No limit.
    pub const NONE: Self = Self { interval: Duration::ZERO, ..Self::STEADY };

    /// How long after its beginning a burst takes further messages.
    fn joinable(&self) -> Duration {
        self.interval.saturating_sub(WAY)
    }

    fn cost(&self, messages: u32) -> Duration {
        self.interval.saturating_mul(messages)
    }
}

/// How far one pair is in debt.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// The message that began the debt, until its answer is there.
    first: Option<TicketId>,
    began: Moment,
    count: u32,
    /// The moment at which everything is paid back.
    paid_at: Moment,
    /// 131056 in a row.
    strikes: u32,
    asleep_until: Moment,
}

impl Pace {
    /// When the next message may go; `now` or later.
    pub(super) fn opens_at(&self, rule: &PairRule, now: Moment) -> Moment {
        let now = now.max(self.asleep_until);
        if now >= self.paid_at || rule.interval.is_zero() {
            return now;
        }
        match rule.repayment {
            Repayment::Whole if self.count < rule.burst && now < self.began + rule.joinable() => now,
            Repayment::Whole => self.paid_at,
            Repayment::Steady => {
                let borrowable = rule.cost(rule.burst.saturating_sub(1)).saturating_sub(WAY);
                now.max(self.paid_at.saturating_sub(borrowable))
            }
        }
    }

    /// When the message behind `ahead` others may go, if each of them goes as soon as it may.
    pub(super) fn turn(&self, rule: &PairRule, now: Moment, ahead: u32) -> Moment {
        let opens_at = self.opens_at(rule, now);
        let is_joining = opens_at < self.paid_at;
        match rule.repayment {
            Repayment::Whole => {
                let count = if is_joining { self.count } else { 0 };
                let before = count.saturating_add(ahead);
                match before / rule.burst.max(1) {
                    0 => opens_at,
                    bursts => {
                        let began =
                            if is_joining { self.paid_at.saturating_sub(rule.cost(count)) } else { opens_at };
                        began.saturating_add(rule.cost(rule.burst.max(1)).saturating_mul(bursts))
                    }
                }
            }
            Repayment::Steady => {
                let borrowable = rule.cost(rule.burst.saturating_sub(1)).saturating_sub(WAY);
                let paid_at = self.paid_at.max(opens_at).saturating_add(rule.cost(ahead));
                opens_at.max(paid_at.saturating_sub(borrowable))
            }
        }
    }

    /// A message goes out.
    pub(super) fn sent(&mut self, rule: &PairRule, now: Moment, id: TicketId) {
        if now >= self.paid_at {
            (self.first, self.began, self.count, self.paid_at) = (Some(id), now, 0, now);
        }
        self.count = self.count.saturating_add(1);
        self.paid_at = self.paid_at.saturating_add(rule.interval);
    }

    /// The answer to a message is there. Meta counts from when it got the first, which may be as late as its answer.
    pub(super) fn answered(&mut self, now: Moment, id: TicketId) {
        if self.first == Some(id) {
            self.first = None;
            self.paid_at = self.paid_at.saturating_add(now.saturating_sub(self.began));
        }
    }

    /// A message that went out at `sent_at` did not reach Meta, so it is not owed.
    pub(super) fn not_sent(&mut self, rule: &PairRule, now: Moment, id: TicketId, sent_at: Moment) {
        if sent_at < self.began || self.count == 0 {
            return;
        }
        self.count -= 1;
        if self.count == 0 {
            (self.first, self.paid_at) = (None, Moment::ZERO);
            return;
        }
        // Without the first, any other that went out in this burst may have begun the debt. All of them arrive within an
        // interval, so what the first one owed is enough to cover that.
        if self.first == Some(id) {
            self.answered(now, id);
        } else {
            self.paid_at = self.paid_at.saturating_sub(rule.interval);
        }
    }

    /// Meta answered 131056: sleep 4^X s (reference 5.1), and as long as it said. What comes while asleep tells of the same
    /// debt.
    pub(super) fn limited(&mut self, now: Moment, least: Duration) {
        if now >= self.asleep_until {
            self.asleep_until = now.saturating_add(self.sleep());
            self.strikes = (self.strikes + 1).min(STRIKES_MAX);
        }
        self.asleep_until = self.asleep_until.max(now.saturating_add(least));
    }

    fn sleep(&self) -> Duration {
        Duration::from_secs(4_u64.saturating_pow(self.strikes))
    }

    /// Meta took a message.
    pub(super) fn accepted(&mut self) {
        self.strikes = 0;
    }

    /// When nothing is owed any more and the strikes are stale.
    pub(super) fn forgotten_at(&self) -> Moment {
        let stale_after = if self.strikes == 0 { Duration::ZERO } else { self.sleep() };
        self.paid_at.max(self.asleep_until).saturating_add(stale_after)
    }
}
