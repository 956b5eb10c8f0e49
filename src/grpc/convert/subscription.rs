//! Subscriptions, and what workers say of events.

use std::ops::RangeInclusive;
use std::time::Duration;

use prost_types::Duration as PbDuration;

use super::{Violations, filter};
use crate::contract::v1;
use crate::domain::subscription::{Mode, Outcome, Terms, Wish};
use crate::flows::subscriptions::Change;

const ACK_DEADLINES: RangeInclusive<u64> = 1..=600;
const ACK_DEADLINE_DEFAULT: Duration = Duration::from_secs(30);
const RETRY_DELAYS_MIN: RangeInclusive<u64> = 0..=600;
const RETRY_DELAY_MIN_DEFAULT: Duration = Duration::from_secs(1);
const RETRY_DELAYS_MAX: RangeInclusive<u64> = 0..=3600;
const RETRY_DELAY_MAX_DEFAULT: Duration = Duration::from_mins(10);
const ATTEMPTS_DEFAULT: u32 = 10;
const DELAYS: RangeInclusive<u64> = 0..=86_400;
const OUTSTANDING_EVENTS_DEFAULT: u64 = 100;
const OUTSTANDING_BYTES_DEFAULT: u64 = 1024 * 1024;

/// Reads the settings of a new subscription.
pub(in crate::grpc) fn subscription_terms(settings: &v1::Subscription, found: &mut Violations) -> Terms {
    let change = subscription_change(settings, found);
    let retry_delay_min = change.retry_delay_min.unwrap_or(RETRY_DELAY_MIN_DEFAULT);
    let retry_delay_max = change.retry_delay_max.unwrap_or(RETRY_DELAY_MAX_DEFAULT).max(retry_delay_min);
    Terms {
        mode: change.mode.unwrap_or(Mode::Ordered),
        ack_deadline: change.ack_deadline.unwrap_or(ACK_DEADLINE_DEFAULT),
        retry_delay_min,
        retry_delay_max,
        attempts_max: change.attempts_max.unwrap_or(ATTEMPTS_DEFAULT),
    }
}

/// Reads what is to change of a subscription.
pub(in crate::grpc) fn subscription_change(settings: &v1::Subscription, found: &mut Violations) -> Change {
    let mut at = |name: &str, asked: Option<PbDuration>, seconds| {
        duration(&format!("subscription.{name}"), asked, seconds, found)
    };
    let ack_deadline = at("ack_deadline", settings.ack_deadline, ACK_DEADLINES);
    let retry_delay_min = at("retry_delay_min", settings.retry_delay_min, RETRY_DELAYS_MIN);
    let retry_delay_max = at("retry_delay_max", settings.retry_delay_max, RETRY_DELAYS_MAX);
    if let (Some(min), Some(max)) = (retry_delay_min, retry_delay_max)
        && max < min
    {
        found.add("subscription.retry_delay_max", "must not be shorter than retry_delay_min");
    }
    let mut in_filter = Violations::default();
    let filter = settings.filter.clone().map(|asked| filter(Some(asked), &mut in_filter));
    for violation in in_filter.into_inner() {
        found.add(&format!("subscription.{}", violation.field), violation.description);
    }
    Change {
        name: settings.name.clone(),
        filter,
        mode: match settings.mode() {
            v1::SubscriptionMode::Unspecified => None,
            v1::SubscriptionMode::Ordered => Some(Mode::Ordered),
            v1::SubscriptionMode::Shared => Some(Mode::Shared),
            v1::SubscriptionMode::Exclusive => Some(Mode::Exclusive),
        },
        ack_deadline,
        retry_delay_min,
        retry_delay_max,
        attempts_max: Some(settings.max_attempts).filter(|attempts| *attempts > 0),
        etag: settings.etag.clone(),
    }
}

/// Checks what only a stream of its own, or only a worker's, may have.
pub(in crate::grpc) fn check_group(request: &v1::SubscribeEventsRequest, found: &mut Violations) {
    if request.subscription.is_empty() {
        let only = [
            ("max_outstanding_events", request.max_outstanding_events),
            ("max_outstanding_bytes", request.max_outstanding_bytes),
        ];
        for (field, _) in only.into_iter().filter(|(_, asked)| *asked > 0) {
            found.add(field, "must be absent without subscription: nothing is acknowledged on such a stream");
        }
        return;
    }
    if let Some(start) = &request.start {
        use v1::subscribe_events_request::Start as Pb;
        let field = match start {
            Pb::AfterCursor(_) => "after_cursor",
            Pb::Position(_) => "position",
            Pb::StartTime(_) => "start_time",
        };
        let remedy =
            "must be absent with subscription, which knows where to go on; SeekSubscription moves it";
        found.add(field, remedy);
    }
    if request.filter.is_some() {
        let remedy =
            "must be absent with subscription, which has its own; create another one for another filter";
        found.add("filter", remedy);
    }
}

/// Reads what a worker takes.
pub(in crate::grpc) fn wish(request: &v1::SubscribeEventsRequest) -> Wish {
    let or = |asked: u32, default: u64| if asked == 0 { default } else { u64::from(asked) };
    Wish {
        client_id: request.client_id.clone(),
        events_max: or(request.max_outstanding_events, OUTSTANDING_EVENTS_DEFAULT),
        bytes_max: or(request.max_outstanding_bytes, OUTSTANDING_BYTES_DEFAULT),
    }
}

/// Reads what became of events.
pub(in crate::grpc) fn outcomes(
    request: v1::AcknowledgeEventsRequest,
    found: &mut Violations,
) -> Vec<(String, Outcome)> {
    use v1::ack_outcome::Outcome as Pb;
    let mut read = |(index, outcome): (usize, v1::AckOutcome)| {
        let at = |name: &str| format!("outcomes[{index}].{name}");
        let said = match outcome.outcome? {
            Pb::Done(_) => Outcome::Done,
            Pb::Retry(retry) => Outcome::Retry(duration(&at("retry.delay"), retry.delay, DELAYS, found)),
            Pb::Park(park) => Outcome::Park(park.reason),
            // Required, so that its absence is a violation already.
            Pb::Extend(extend) => {
                Outcome::Extend(duration(&at("extend.by"), extend.by, ACK_DEADLINES, found)?)
            }
        };
        Some((outcome.ack_id, said))
    };
    request.outcomes.into_iter().enumerate().filter_map(&mut read).collect()
}

/// Reads a duration of so many seconds; `None` if it is absent, or a violation was added.
fn duration(
    field: &str,
    asked: Option<PbDuration>,
    seconds: RangeInclusive<u64>,
    found: &mut Violations,
) -> Option<Duration> {
    let read = Duration::try_from(asked?).ok();
    let (min, max) = (Duration::from_secs(*seconds.start()), Duration::from_secs(*seconds.end()));
    let read = read.filter(|duration| (min..=max).contains(duration));
    if read.is_none() {
        found.add(field, format!("must be {} to {} seconds", seconds.start(), seconds.end()));
    }
    read
}
