//! When a business number cannot send, why, and what ends it.
//!
//! [`Cause::of_code`] is the table: which codes of Meta's concern the number as a whole. [`NumberHealth`] is a pure
//! machine over what Meta says of one number: it decides when the number is parked, when to look whether it can send
//! again, and when it can. A refusal that concerns one message or one recipient never parks anything.

use std::time::{Duration, SystemTime};

use super::failure::Verdict;
use super::schedule::Moment;

/// No pause between two looks is longer than so many times the first: 30 s become 10 min.
const GROWTH_MAX: u32 = 20;

/// Why a number cannot send.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Cause {
    /// Meta does not know the access token. Every number that uses it is parked.
    Token,
    /// The token may not send from this number (reference 5.11, rule 5).
    Permission,
    /// The account is locked, restricted or disabled.
    Account,
    /// The number is not registered.
    Registration,
    /// Meta holds messages back because of quality.
    Quality,
}

/// How it shows that a number can send again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proof {
    /// Reading the number proves it, and nothing else has to be tried.
    Reading,
    /// Reading the number may prove it; where it does not, one real message is let through.
    ReadingOrMessage,
    /// Only a real message proves it.
    Message,
}

impl Cause {
    /// The cause that a code of Meta's stands for; `None` for codes that say nothing of the number as a whole. Not here:
    /// 3 and 131055 (one feature or endpoint), 130497 (one country), 131037 (Meta calls such numbers limited, not blocked,
    /// 2.5), 131042 and 131044 (what is free still goes), 131057 and 2494100 (over in a minute, stated by their verdict).
    pub fn of_code(code: i64) -> Option<Self> {
        match code {
            0 | 102 | 104 | 190 => Some(Self::Token),
            10 | 200..=299 | 131_005 => Some(Self::Permission),
            368 | 131_031 => Some(Self::Account),
            131_045 | 133_006 | 133_010 => Some(Self::Registration),
            131_048 | 131_064 => Some(Self::Quality),
            _ => None,
        }
    }

    /// How many refusals in a row, with no success in between, park the number. What may hit only some of the messages,
    /// such as one endpoint or those that open a conversation, must have hit several.
    fn refusals(self) -> u32 {
        match self {
            Self::Token | Self::Account | Self::Registration => 1,
            Self::Permission | Self::Quality => 3,
        }
    }

    /// How it shows that it is over. A read needs the token and another permission than a send (reference 1.2), and shows
    /// quality only from afar.
    pub fn proof(self) -> Proof {
        match self {
            Self::Token => Proof::Reading,
            Self::Account | Self::Registration => Proof::ReadingOrMessage,
            Self::Permission | Self::Quality => Proof::Message,
        }
    }

    /// Whether a new token may end it.
    pub fn is_of_token(self) -> bool {
        matches!(self, Self::Token | Self::Permission)
    }

    /// Whether this state of the number shows that it is over.
    pub fn is_over(self, status: &NumberStatus) -> bool {
        match self {
            Self::Token => true,
            Self::Account => status.can_send.as_deref().is_some_and(|word| word != "BLOCKED"),
            Self::Registration => status.status.as_deref() == Some("CONNECTED"),
            Self::Permission | Self::Quality => false,
        }
    }

    /// What ends it, for people.
    pub fn ends_with(self) -> &'static str {
        match self {
            Self::Token => "it ends with a new token in the token's file, or when Meta takes this one again",
            Self::Permission => {
                "it ends with a new token in the token's file, or when Meta lets the token send from this number"
            }
            Self::Account => "it ends when Meta reinstates the account",
            Self::Registration => "it ends when the number is registered",
            Self::Quality => "it ends when Meta takes messages of the number again",
        }
    }
}

/// A number as Meta describes it (reference 2.5). What the answer does not say is `None`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NumberStatus {
    /// `display_phone_number`, its digits only.
    pub digits: String,
    /// `throughput.level`: `STANDARD`, `HIGH`, `NOT_APPLICABLE`.
    pub throughput: Option<String>,
    /// `is_on_biz_app`: whether the number is also used in the phone app.
    pub is_on_app: bool,
    /// `status`, such as `CONNECTED`.
    pub status: Option<String>,
    /// `health_status.can_send_message`: `AVAILABLE`, `LIMITED`, `BLOCKED`.
    pub can_send: Option<String>,
    /// `quality_rating`: `GREEN`, `YELLOW`, `RED`, `UNKNOWN`, `NA`.
    pub quality: Option<String>,
    /// `whatsapp_business_manager_messaging_limit`: `TIER_250`, `TIER_2K` and so on, `TIER_UNLIMITED`, `TIER_NOT_SET`.
    pub messaging_limit: Option<String>,
}

/// Messages per second of a number that is also used in the phone app (reference 6.1).
pub const RATE_ON_APP: u32 = 20;
/// Messages per second that every number has unless Meta says otherwise.
pub const RATE_STANDARD: u32 = 80;
/// Messages per second of a number after its upgrade.
pub const RATE_HIGH: u32 = 1000;

impl NumberStatus {
    /// Messages per second that the number may send and receive; `None` if the answer does not say.
    pub fn rate(&self) -> Option<u32> {
        match self.throughput.as_deref() {
            _ if self.is_on_app => Some(RATE_ON_APP),
            Some("HIGH") => Some(RATE_HIGH),
            Some("STANDARD") => Some(RATE_STANDARD),
            Some(_) | None => None,
        }
    }

    /// Users whom the number's portfolio may write to first in 24 hours, infinitely many without limit; `None` if the answer
    /// does not say.
    pub fn users_per_day(&self) -> Option<f64> {
        let tier = self.messaging_limit.as_deref()?.strip_prefix("TIER_")?;
        if tier == "UNLIMITED" {
            return Some(f64::INFINITY);
        }
        let (digits, unit) = tier.strip_suffix('K').map_or((tier, 1), |thousands| (thousands, 1000));
        digits.parse::<u32>().ok().map(|count| f64::from(count) * f64::from(unit))
    }
}

/// What a webhook says of an account or a number as a whole (reference 4.6, 4.8).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// The account; may be empty.
    pub waba_id: String,
    /// The number; empty if the webhook names none.
    pub phone_number_id: String,
    /// The number as people write it, in digits; empty if the webhook names none.
    pub digits: String,
    /// When, by Meta's clock; not later than it was received.
    pub time: SystemTime,
    /// What happened.
    pub news: News,
}

/// What happened to an account or a number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    /// The number has a thousand messages per second.
    ThroughputUpgrade,
    /// The account cannot send, in Meta's words; until then, if they say so.
    Blocked(String, Option<SystemTime>),
    /// The account can send again.
    Reinstated,
    /// The quality of the number is in order again.
    Recovered,
    /// Something happened that does not stop messages by itself, in Meta's words.
    Warned(String),
    /// An error that belongs to no message.
    Error(i64),
}

/// From where something is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// The answer to a send.
    Answer,
    /// The status of a message, which comes later.
    Status,
    /// The answer to a read, or a webhook about the account: said of the number and not of one message.
    Word,
}

/// What is wrong with a number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Complaint {
    /// Why it cannot send.
    pub cause: Cause,
    /// Meta's code, if one says it.
    pub code: Option<i64>,
    /// What happened, for people: the end of a sentence that begins with "since".
    pub words: String,
    /// What a message that is refused for it is told.
    pub verdict: Verdict,
    /// When it ends by itself, if Meta said so.
    pub until: Option<Moment>,
}

/// A number that cannot send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parked {
    /// What is wrong.
    pub complaint: Complaint,
    /// Since when.
    pub since: Moment,
    /// When to look next whether it is over.
    pub look_at: Moment,
    /// Whether a message was let through and nothing is known of it yet.
    is_trying: bool,
}

/// What changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// The number is parked, or told to be for another cause than before.
    Parked,
    /// The number can send again; this was the matter.
    Resumed(Parked),
}

/// What is known of the health of one number.
#[derive(Debug)]
pub struct NumberHealth {
    /// The first pause before a look.
    first_pause: Duration,
    /// What is wrong, one of each cause. The last is what is told, looked at and tried; when it is lifted, the one before it
    /// still holds.
    parked: Vec<Parked>,
    /// Refusals in a row for one cause: in answers, and in statuses.
    refusals: [Option<(Cause, u32)>; 2],
    /// Refusals that counted since the number last worked. Each doubles the pause before the next look, also when the
    /// number was taken for healthy in between.
    strikes: u32,
    /// Where they came from: the proof that all is well again can only come from there.
    source: Source,
}

impl NumberHealth {
    /// A healthy number. After it is parked it is looked at after this pause, which doubles up to twenty times as much.
    pub fn new(first_pause: Duration) -> Self {
        Self { first_pause, parked: Vec::new(), refusals: [None, None], strikes: 0, source: Source::Answer }
    }

    /// Why the number is parked, if it is.
    pub fn parked(&self) -> Option<&Parked> {
        self.parked.last()
    }

    /// Meta refused something for a cause that concerns the whole number, or says that it cannot send. What it says of the
    /// number stands beside what is wrong already; the refusal of a message that was let through takes its place.
    pub fn refused(&mut self, now: Moment, source: Source, complaint: Complaint) -> Option<Change> {
        let cause = complaint.cause;
        let count = self.count(source, cause);
        let known = self.parked.last().map(|parked| (parked.complaint.cause, parked.since));
        if let Some(parked) = self.parked.last_mut() {
            match source {
                // What was on its way when the number was parked tells nothing new.
                Source::Answer if !std::mem::take(&mut parked.is_trying) => return None,
                Source::Status => return None,
                Source::Answer => drop(self.parked.pop()),
                Source::Word => parked.is_trying = false,
            }
        } else if count < cause.refusals() && self.strikes == 0 {
            // A number that was parked a moment ago has used up its credit.
            return None;
        }
        let look_at = now.saturating_add(self.pause(cause, self.strikes));
        self.strikes = self.strikes.saturating_add(1);
        self.source = source;
        let since = known.map_or(now, |(_, since)| since);
        self.parked.retain(|other| other.complaint.cause != cause);
        self.parked.push(Parked { complaint, since, look_at, is_trying: false });
        (known.map(|(cause, _)| cause) != Some(cause)).then_some(Change::Parked)
    }

    /// A message went through: it was accepted, or has the status `sent`.
    pub fn worked(&mut self, source: Source) -> Option<Change> {
        if let Some(refusals) = self.refusals_of(source) {
            *refusals = None;
        }
        let proves = self.source != Source::Status || source == Source::Status;
        match self.parked.last() {
            // Others were on their way when the number was parked.
            Some(parked) if !parked.is_trying || source != Source::Answer => None,
            Some(_) | None => {
                if proves {
                    self.strikes = 0;
                }
                self.lift(|_| true)
            }
        }
    }

    /// The number seems to be able to send again as far as these go. If the next message says otherwise, it is parked for
    /// longer.
    pub fn resume_if(&mut self, is_over: impl Fn(Cause) -> bool) -> Option<Change> {
        self.lift(|parked| is_over(parked.complaint.cause))
    }

    /// What held the number up is gone, if it was one of these: nothing of it counts any more.
    pub fn end_if(&mut self, is_gone: impl Fn(&Parked) -> bool) -> Option<Change> {
        if self.parked.iter().any(&is_gone) {
            self.strikes = 0;
        }
        self.lift(is_gone)
    }

    fn lift(&mut self, is_gone: impl Fn(&Parked) -> bool) -> Option<Change> {
        let told = self.parked.last()?.clone();
        self.parked.retain(|parked| !is_gone(parked));
        if let Some(left) = self.parked.last() {
            return (left.complaint.cause != told.complaint.cause).then_some(Change::Parked);
        }
        self.refusals = [None, None];
        Some(Change::Resumed(told))
    }

    /// Whether it is time to look whether it is over, and what the matter was. The next time is after another pause.
    pub fn look(&mut self, now: Moment) -> Option<Cause> {
        let cause = self.parked.last().filter(|parked| parked.look_at <= now)?.complaint.cause;
        let pause = self.pause(cause, self.strikes.saturating_sub(1)).max(self.first_pause);
        self.parked.last_mut()?.look_at = now.saturating_add(pause);
        Some(cause)
    }

    /// A message is let through.
    pub fn try_one(&mut self) {
        if let Some(parked) = self.parked.last_mut() {
            parked.is_trying = true;
        }
    }

    /// How long to wait before the look that follows so many strikes. The token is read with at once: a refusal by mistake
    /// is found out before anybody notices.
    fn pause(&self, cause: Cause, strikes: u32) -> Duration {
        let doublings = match (cause, strikes) {
            (Cause::Token, 0) => return Duration::ZERO,
            (Cause::Token, strikes) => strikes - 1,
            (_, strikes) => strikes,
        };
        self.first_pause.saturating_mul(2_u32.saturating_pow(doublings).min(GROWTH_MAX))
    }

    fn refusals_of(&mut self, source: Source) -> Option<&mut Option<(Cause, u32)>> {
        let [answers, statuses] = &mut self.refusals;
        match source {
            Source::Answer => Some(answers),
            Source::Status => Some(statuses),
            Source::Word => None,
        }
    }

    /// Counts a refusal: how many there are now in a row for this cause. A word counts for all.
    fn count(&mut self, source: Source, cause: Cause) -> u32 {
        let Some(refusals) = self.refusals_of(source) else { return u32::MAX };
        let before = refusals.filter(|(known, _)| *known == cause).map_or(0, |(_, count)| count);
        let count = before.saturating_add(1);
        *refusals = Some((cause, count));
        count
    }
}

#[cfg(test)]
mod tests;
