//! The throughput of one number.
//!
//! A leaky bucket that counts in time (GCRA): each message moves `paid_at` on by one interval, and the next may go when
//! `paid_at` is at most `tolerance` away. A log of the last second would allow the same 84 in any second, but in one
//! clump after each pause, and two clumps that the network moves together are 168 in one second at Meta. A bucket keeps
//! messages apart all the time. It is also two numbers instead of a thousand moments.
//!
//! The interval is 2 % longer than the rate asks for, so that a message that is late for its second does not make the next
//! one too full: 80 per second gives 78 or 79. What that leaves below 105 % is the tolerance, which lets a driver
//! that wakes late catch up.

use std::time::Duration;

use super::Moment;

const SECOND: Duration = Duration::from_secs(1);

/// Nanoseconds of a second that is 2 % longer.
const LONG_SECOND_NANOS: u64 = 1_020_000_000;

/// More than the tolerance of any rate: 7 % of a second.
const TOLERANCE_MAX: Duration = Duration::from_millis(80);

/// So many messages may be held up in any case.
const ABOARD_MIN: usize = 2;

/// No throttling brings the rate below a twentieth, and each quiet second brings back as much.
const STEPS: u32 = 20;

#[derive(Debug)]
pub(super) struct Pacer {
    /// Messages per second that the number has, at least 1.
    rate: u32,
    /// Messages per second that are used of it; less after a 130429.
    allowed: u32,
    shrunk_at: Option<Moment>,
    /// When `allowed` next takes a step towards `rate`.
    grows_at: Moment,
    /// The moment at which everything sent and received so far is paid for.
    paid_at: Moment,
    /// As above, for what has left, by when it did.
    left_paid_at: Moment,
    last_send: Option<Moment>,
    paused_until: Moment,
}

impl Pacer {
    pub(super) fn new(rate: u32) -> Self {
        let rate = rate.max(1);
        Self {
            rate,
            allowed: rate,
            shrunk_at: None,
            grows_at: Moment::ZERO,
            paid_at: Moment::ZERO,
            left_paid_at: Moment::ZERO,
            last_send: None,
            paused_until: Moment::ZERO,
        }
    }

    /// Messages per second at present.
    pub(super) fn allowed(&self) -> u32 {
        self.allowed
    }

    /// The number got another rate. A rate that is being recovered goes on recovering.
    pub(super) fn set_rate(&mut self, now: Moment, rate: u32) {
        let rate = rate.max(1);
        let is_recovering = self.allowed < self.rate;
        self.allowed = if is_recovering { self.allowed.min(rate) } else { rate };
        self.rate = rate;
        self.grows_at = self.grows_at.max(now);
    }

    /// Recovers what the passed time allows: additive increase.
    pub(super) fn refresh(&mut self, now: Moment) {
        if self.allowed == self.rate || now < self.grows_at {
            return;
        }
        let steps =
            u32::try_from(now.saturating_sub(self.grows_at).as_secs()).unwrap_or(u32::MAX).saturating_add(1);
        let growth = self.rate.div_ceil(STEPS).saturating_mul(steps);
        self.allowed = self.allowed.saturating_add(growth).min(self.rate);
        self.grows_at = self.grows_at.saturating_add(SECOND.saturating_mul(steps));
    }

    /// Meta answered 130429: multiplicative decrease, once per second, because everything that was in flight tells of
    /// the same rate.
    pub(super) fn shrink(&mut self, now: Moment) {
        if self.shrunk_at.is_none_or(|at| now >= at + SECOND) {
            self.allowed = (self.allowed / 2).max(self.rate / STEPS).max(1);
            self.shrunk_at = Some(now);
        }
        self.grows_at = now.max(self.paused_until).saturating_add(SECOND);
    }

    /// Nothing goes out before `until`; an earlier pause is never shortened.
    pub(super) fn pause(&mut self, until: Moment) {
        self.paused_until = self.paused_until.max(until);
    }

    pub(super) fn paused_until(&self) -> Moment {
        self.paused_until
    }

    /// The time between two messages.
    pub(super) fn interval(&self) -> Duration {
        Duration::from_nanos(LONG_SECOND_NANOS.div_ceil(u64::from(self.allowed)))
    }

    /// How far messages may run ahead of what is paid for. With intervals of length i, a closed second holds at most
    /// `tolerance / i + 1 / i + 1` messages, rounded down; the result is 5 % above the rate.
    fn tolerance(&self) -> Duration {
        let interval = self.interval();
        let allowed = u64::from(self.allowed);
        let per_second = 1_000_000_000 / u64::try_from(interval.as_nanos()).unwrap_or(u64::MAX).max(1);
        let burst = (allowed + allowed / 20).saturating_sub(per_second);
        interval.saturating_mul(u32::try_from(burst).unwrap_or(u32::MAX).saturating_sub(1))
    }

    /// When the next message may go; possibly in the past.
    pub(super) fn opens_at(&self) -> Moment {
        self.paused_until.max(self.paid_at.saturating_sub(self.tolerance()).min(self.trickle()))
    }

    /// Even if received messages alone use up the rate, one per second goes out: a number that everybody writes to would
    /// otherwise never answer. Meta has the last word.
    fn trickle(&self) -> Moment {
        self.last_send.map_or(Moment::ZERO, |at| at.saturating_add(SECOND))
    }

    /// When the message that is `slot`th from now (1 is the next) may go.
    pub(super) fn turn(&self, now: Moment, slot: u32) -> Moment {
        let base = now.max(self.paused_until);
        let ahead = slot.saturating_sub(1);
        let paid_at = self.paid_at.max(base).saturating_add(self.interval().saturating_mul(ahead));
        let trickle = self.trickle().max(base).saturating_add(SECOND.saturating_mul(ahead));
        base.max(paid_at.saturating_sub(self.tolerance()).min(trickle))
    }

    /// A message goes out.
    pub(super) fn sent(&mut self, now: Moment) {
        self.charge(now, 1);
        self.last_send = Some(now);
    }

    /// How many messages may be held up between their turns and the moment when they leave: those of a quarter of a second.
    pub(super) fn aboard_max(&self) -> usize {
        usize::try_from(self.allowed / 4).unwrap_or(usize::MAX).max(ABOARD_MIN)
    }

    /// When a message that is ready now leaves, which is charged for. That is now, unless several come together, or were held up
    /// since they had their turns: what goes out stays inside the rate, whatever came between. Two messages less than with
    /// turns may run ahead, so that the way to Meta may move some together too.
    pub(super) fn leave(&mut self, now: Moment) -> Moment {
        let tolerance = self.tolerance().saturating_sub(self.interval().saturating_mul(2));
        let at = now.max(self.left_paid_at.saturating_sub(tolerance));
        self.left_paid_at = self.left_paid_at.max(at).saturating_add(self.interval());
        at
    }

    /// Messages came in; nobody can refuse them, and after a second they no longer count.
    pub(super) fn charge(&mut self, now: Moment, count: u32) {
        let paid_at = self.paid_at.max(now).saturating_add(self.interval().saturating_mul(count));
        let cap = now.saturating_add(SECOND).saturating_add(TOLERANCE_MAX);
        // Never back: after a lowered rate the old debt may be above the cap.
        self.paid_at = paid_at.min(cap).max(self.paid_at);
    }
}
