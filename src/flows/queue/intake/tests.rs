//! Which times a queued message may have.

use super::*;
use crate::domain::ids::PhoneNumberId;
use crate::domain::message::{Endpoint, PhoneNumber, PreparedMessage, Recipient};
use crate::domain::schedule::Class;

fn queued(not_before: Option<SystemTime>, not_after: SystemTime) -> QueuedSend {
    let recipient = Recipient::PhoneNumber(PhoneNumber::parse("+16505551234").unwrap());
    let phone_number_id = PhoneNumberId::parse("1065").unwrap();
    QueuedSend {
        request_id: "a".to_owned(),
        caller: Caller::local(),
        class: Class::Normal,
        not_before,
        not_after,
        message: PreparedMessage {
            phone_number_id,
            recipient,
            endpoint: Endpoint::Messages,
            json: "{}".to_owned(),
        },
        kind: "text".to_owned(),
        window_policy: None,
        fallback: None,
        may_resend: false,
        trace: None,
        callback_data: String::new(),
    }
}

#[test]
fn times_lie_ahead_and_not_too_far() {
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_750_000_000);
    let hours = |hours: u64| now + Duration::from_hours(hours);
    let second = Duration::from_secs(1);
    let cases = [
        (None, hours(1), None),
        (Some(hours(1)), hours(2), None),
        (Some(hours(7 * 24)), hours(14 * 24), None),
        // A moment that has passed is as good as none.
        (Some(now - second), hours(7 * 24), None),
        (Some(hours(7 * 24) + second), hours(8 * 24), Some("not_before")),
        (None, now, Some("not_after")),
        (Some(hours(2)), hours(1), Some("not_after")),
        (Some(hours(2)), hours(2), Some("not_after")),
        (None, hours(7 * 24) + second, Some("not_after")),
        (Some(hours(1)), hours(7 * 24 + 1) + second, Some("not_after")),
    ];
    for (not_before, not_after, field) in cases {
        let found = bad_times(&queued(not_before, not_after), now);
        assert_eq!(found.as_ref().map(|v| v.field.as_str()), field, "{not_before:?} {not_after:?}");
    }
}

#[test]
fn a_large_message_is_not_queued() {
    let mut large = queued(None, SystemTime::UNIX_EPOCH);
    assert_eq!(too_large(&large), None);
    large.message.json = "x".repeat(MESSAGE_BYTES_MAX + 1);
    assert_eq!(too_large(&large).unwrap().field, "delivery_mode");
}
