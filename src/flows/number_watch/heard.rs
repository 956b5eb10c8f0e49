//! What answers and webhooks say of a number.

use std::time::{Duration, SystemTime};

use secrecy::{ExposeSecret, SecretString};
use tracing::{info, warn};

use crate::cloud_api::error_code::async_verdict;
use crate::domain::conversation::{Alias, UserIdentity};
use crate::domain::event::{Fact, Moved, StatusReport};
use crate::domain::failure::{Failure, Reason};
use crate::domain::ids::PhoneNumberId;
use crate::domain::number_health::{Cause, Complaint, News, Notice, RATE_HIGH, Source};
use crate::domain::schedule::{Moment, PairKey};
use crate::storage::sends::Outcome;
use crate::tenants::TokenHash;

use super::told::words_of;
use super::{Inner, NumberWatch};

/// The calls of an account are counted by the hour (reference 6.1), so that no pause is longer.
const SUSPENSION_MAX: Duration = Duration::from_hours(1);
/// How old what a status says of the pace may be. After a restart the old ones are read again.
const PACE_AGE_MAX: Duration = Duration::from_secs(30);
/// How long ago a message may have come in that uses up throughput: what a new leader reads of the log is over.
const RECEIVED_AGE_MAX: Duration = Duration::from_secs(2);
/// How old a webhook about an account may be. One that is not true any more costs a pause.
const NOTICE_AGE_MAX: Duration = Duration::from_hours(24);

/// The code for a locked account, whose verdict fits what webhooks say of accounts (reference 5.3).
const ACCOUNT_LOCKED: i64 = 131_031;
/// The codes of the pace (reference 5.4).
const THROUGHPUT: i64 = 130_429;
const PAIR: i64 = 131_056;
/// The call limit of the app, which all its accounts share (reference 5.4).
const APP_CALLS: i64 = 4;

impl NumberWatch {
    /// What came of one try to send with this token.
    pub(in crate::flows) fn heard(
        &self,
        number: &PhoneNumberId,
        access_token: &SecretString,
        outcome: &Outcome,
    ) {
        match outcome {
            Outcome::Accepted(_) => self.inner.clear(number, |health| health.worked(Source::Answer)),
            Outcome::Refused(failure) => self.inner.heard_refusal(number, access_token, failure),
            Outcome::Queued
            | Outcome::Sending
            | Outcome::Expired(_)
            | Outcome::Unknown(_)
            | Outcome::Answered(_) => {}
        }
    }

    /// A message that was stored at this time uses up throughput (reference 6.1), whoever has taken it in.
    pub(in crate::flows) fn received(&self, number: &PhoneNumberId, stored: SystemTime) {
        if self.inner.is_fresh(stored, RECEIVED_AGE_MAX) {
            self.inner.lanes.received(number, 1);
        }
    }

    /// What a stored event says.
    pub(in crate::flows) fn hear(&self, fact: &Fact) {
        match fact {
            Fact::Concerns { phone_number_id, user, moved: Moved::Message(report), .. } => {
                self.inner.hear_status(phone_number_id, user, report);
            }
            Fact::Account(notice) => self.inner.hear_notice(notice),
            Fact::Concerns { .. } | Fact::Template { .. } | Fact::Other => {}
        }
    }
}

impl Inner {
    fn heard_refusal(&self, number: &PhoneNumberId, access_token: &SecretString, failure: &Failure) {
        let Some(code) = failure.meta.as_ref().and_then(|meta| meta.code) else { return };
        if failure.verdict.reason == Reason::UpstreamAccountRate {
            return self.suspend(number, code, failure.verdict.retry.delay());
        }
        // A subcode may have said something else.
        let is_of_number = matches!(
            failure.verdict.reason,
            Reason::UpstreamCredentials | Reason::UpstreamAccount | Reason::UpstreamQualityLimit
        );
        let Some(cause) = Cause::of_code(code).filter(|_| is_of_number) else { return };
        // The token was changed while the message was on its way.
        let is_old = || self.numbers.token_hash(number) != Some(TokenHash::of(access_token.expose_secret()));
        if cause.is_of_token() && is_old() {
            return;
        }
        let verdict = failure.verdict;
        let complaint = Complaint { cause, code: Some(code), words: words_of(code), verdict, until: None };
        self.complain(number, Source::Answer, &complaint);
    }

    /// The calls of the account are used up, or of the whole app.
    fn suspend(&self, number: &PhoneNumberId, code: i64, pause: Option<Duration>) {
        let (Some(pause), Some(waba)) = (pause, self.numbers.waba(number)) else { return };
        let pause = pause.min(SUSPENSION_MAX);
        warn!(waba.id = %waba.id, meta.code = code, ?pause, "the calls of the account are used up; nothing is sent");
        let is_meant = |other: &crate::tenants::Waba| {
            if code == APP_CALLS { other.app_id == waba.app_id } else { other.id == waba.id }
        };
        for number in self.numbers.of_wabas(is_meant) {
            self.lanes.suspend(&number, pause);
        }
    }

    fn hear_status(&self, number: &PhoneNumberId, user: &UserIdentity, report: &StatusReport) {
        if !self.is_fresh(report.time, PACE_AGE_MAX) || self.numbers.waba(number).is_none() {
            return;
        }
        let Some(error) = &report.error else {
            if report.status == "sent" {
                self.clear(number, |health| health.worked(Source::Status));
            }
            return;
        };
        if error.code == PAIR {
            for name in Alias::of(number, user) {
                self.lanes.pair_limited(number, &PairKey::new(name.expose()));
            }
        } else {
            self.hear_code(number, error.code);
        }
    }

    /// What a code in a webhook says of a number.
    fn hear_code(&self, number: &PhoneNumberId, code: i64) {
        if code == THROUGHPUT {
            self.lanes.throttled(number);
        } else if let Some(cause) = Cause::of_code(code) {
            let (words, verdict) = (words_of(code), async_verdict(code));
            let complaint = Complaint { cause, code: Some(code), words, verdict, until: None };
            self.complain(number, Source::Status, &complaint);
        }
    }

    fn hear_notice(&self, notice: &Notice) {
        if !self.is_fresh(notice.time, NOTICE_AGE_MAX) {
            return;
        }
        let numbers = self.meant_by(notice);
        match &notice.news {
            News::ThroughputUpgrade => match numbers.as_slice() {
                [number] => {
                    info!(phone_number.id = %number, "Meta has raised the throughput");
                    self.lanes.set_rate(number, RATE_HIGH);
                }
                numbers => self.read_soon(numbers),
            },
            News::Blocked(words, until) => {
                let now = self.clock.now();
                let left = until.map(|until| until.duration_since(now).unwrap_or_default());
                if left == Some(Duration::ZERO) {
                    return;
                }
                let complaint = Complaint {
                    cause: Cause::Account,
                    code: None,
                    words: words.clone(),
                    verdict: async_verdict(ACCOUNT_LOCKED),
                    until: left.map(|left| self.now().saturating_add(left)),
                };
                for number in &numbers {
                    self.complain(number, Source::Word, &complaint);
                }
            }
            News::Reinstated => self.end(&numbers, Cause::Account),
            News::Recovered => {
                self.end(&numbers, Cause::Quality);
                self.read_soon(&numbers);
            }
            News::Warned(words) => {
                for number in &numbers {
                    warn!(phone_number.id = %number, "Meta warns: {words}");
                }
                // The metrics show the quality.
                self.read_soon(&numbers);
            }
            News::Error(code) => {
                if self.is_fresh(notice.time, PACE_AGE_MAX) {
                    for number in &numbers {
                        self.hear_code(number, *code);
                    }
                }
            }
        }
    }

    fn end(&self, numbers: &[PhoneNumberId], cause: Cause) {
        for number in numbers {
            self.clear(number, |health| health.end_if(|parked| parked.complaint.cause == cause));
        }
    }

    /// The configured numbers that a webhook is about: the one that it names by id, else the one of the account that it
    /// names by its digits, else all of the account.
    fn meant_by(&self, notice: &Notice) -> Vec<PhoneNumberId> {
        if !notice.phone_number_id.is_empty() {
            let number = PhoneNumberId::parse(&notice.phone_number_id).ok();
            return number.into_iter().filter(|number| self.numbers.waba(number).is_some()).collect();
        }
        let of_waba = self.numbers.of_wabas(|waba| *waba.id == *notice.waba_id);
        let state = self.state();
        let has_digits = |number: &PhoneNumberId| {
            let watched = state.numbers.get(number);
            watched.is_some_and(|watched| !notice.digits.is_empty() && watched.digits == notice.digits)
        };
        match of_waba.iter().find(|number| has_digits(number)) {
            Some(number) => vec![number.clone()],
            None => of_waba,
        }
    }

    /// Reads these numbers as soon as possible.
    fn read_soon(&self, numbers: &[PhoneNumberId]) {
        let mut state = self.state();
        for number in numbers {
            state.watched(number, self.first_pause).read_at = Moment::ZERO;
        }
        self.sooner.notify_one();
    }

    fn is_fresh(&self, time: SystemTime, age_max: Duration) -> bool {
        self.clock.now().duration_since(time).is_ok_and(|age| age <= age_max)
            // By a clock that is ahead of ours.
            || time >= self.clock.now()
    }
}
