//! What callers, operators and subscribers are told of a parked number.

use std::time::Duration;

use metrics::gauge;
use tracing::{info, warn};

use super::Inner;
use crate::cloud_api::error_code::describe;
use crate::domain::event::{Event, EventAttributes, NUMBER, NumberReport, Payload};
use crate::domain::failure::{Failure, MetaError, Retry, Verdict};
use crate::domain::ids::PhoneNumberId;
use crate::domain::number_health::{Complaint, Parked};
use crate::domain::schedule::Moment;
use crate::flows::gateway_event::{About, gateway_event};
use crate::telemetry::names;

/// By so much a look may be late, since the watch goes round once a second: who asks again sooner is refused again.
const LOOK_LATE_MAX: Duration = Duration::from_secs(1);

/// What Meta's code says, in our words: Meta's may tell of content.
pub(super) fn words_of(code: i64) -> String {
    match describe(code) {
        Some(meaning) => format!("Meta refused with code {code}, {meaning}"),
        None => format!("Meta refused with code {code}"),
    }
}

/// What a message is told that has to go now or not at all.
pub(super) fn refusal(parked: &Parked, now: Moment) -> Failure {
    let Complaint { cause, code, words, verdict, .. } = &parked.complaint;
    let since = now.saturating_sub(parked.since).as_secs();
    let wait = parked.look_at.saturating_sub(now) + LOOK_LATE_MAX;
    let message = format!(
        "the business number has been unable to send for {since} s: {words}; {}; the gateway tries again in {} s; nothing was \
         sent",
        cause.ends_with(),
        wait.as_secs(),
    );
    let meta = code.map(|code| MetaError { code: Some(code), ..MetaError::default() });
    Failure { verdict: Verdict { retry: Retry::Wait(wait), ..*verdict }, message, meta, field: None }
}

/// The number is parked.
pub(super) fn parked(number: &PhoneNumberId, complaint: &Complaint) {
    let Complaint { cause, code, words, verdict, .. } = complaint;
    warn!(
        phone_number.id = %number,
        reason = verdict.reason.as_str(),
        actor = verdict.actor.as_str(),
        meta.code = code,
        "a business number cannot send: {words}; {}",
        cause.ends_with(),
    );
}

/// The number can send again.
pub(super) fn resumed(number: &PhoneNumberId, complaint: &Complaint) {
    let reason = complaint.verdict.reason.as_str();
    info!(phone_number.id = %number, reason, meta.code = complaint.code, "a business number can send again");
}

/// Shows why a number is parked in place of what was shown before.
pub(super) fn show(number: &PhoneNumberId, before: Option<&'static str>, now: Option<&'static str>) {
    let gauge = |reason: &'static str| gauge!(names::NUMBER_PARKED, names::PHONE_NUMBER => number.to_string(), names::REASON => reason);
    if before != now {
        before.map(gauge).inspect(|gauge| gauge.set(0.0));
        now.map(gauge).inspect(|gauge| gauge.set(1.0));
    }
}

impl Inner {
    /// What subscribers are told.
    pub(super) fn event(&self, number: &PhoneNumberId, is_parked: bool, complaint: &Complaint) -> Event {
        let (now, waba_id) = (self.clock.now(), self.numbers.waba_of(number));
        let Complaint { cause, code, words, verdict, .. } = complaint;
        let description = if is_parked {
            format!("{words}; {}", cause.ends_with())
        } else {
            "the business number can send again".to_owned()
        };
        let report = NumberReport {
            is_parked,
            reason: verdict.reason,
            actor: verdict.actor,
            code: *code,
            description,
        };
        let attributes = EventAttributes {
            event_type: NUMBER.to_owned(),
            phone_number_id: number.to_string(),
            waba_id: waba_id.clone(),
            conversation_key: waba_id,
        };
        let key = format!("{number}\0{is_parked}\0{}", self.clock.now_ms());
        gateway_event(
            &key,
            now,
            About { attributes, subject: String::new(), payload: Payload::Number(report) },
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::number_health::{Cause, NumberHealth, Source};

    #[test]
    fn who_asks_again_when_told_comes_after_the_look() {
        let (pause, now) = (Duration::from_secs(30), Duration::from_secs(100));
        let mut health = NumberHealth::new(pause);
        let verdict = crate::cloud_api::error_code::async_verdict(131_031);
        let complaint = Complaint {
            cause: Cause::Account,
            code: Some(131_031),
            words: words_of(131_031),
            verdict,
            until: None,
        };
        health.refused(now, Source::Answer, complaint);
        let seconds = |s| now + Duration::from_secs(s);
        for (asked_at, wait) in [(seconds(0), 31), (seconds(12), 19), (seconds(30), 1), (seconds(31), 1)] {
            let refusal = refusal(health.parked().unwrap(), asked_at);
            assert_eq!(refusal.verdict.retry, Retry::Wait(Duration::from_secs(wait)));
            assert!(refusal.message.contains(&format!("tries again in {wait} s")), "{}", refusal.message);
        }
    }
}
