//! What a stored event says of an account or a number as a whole (reference 4.6, 4.8).

use std::time::SystemTime;

use prost::Message;

use super::limited;
use crate::contract::v1;
use crate::contract::v1::event::Payload;
use crate::domain::number_health::{News, Notice};

/// The types that may say something.
const TYPES: [&str; 4] = [
    "whatsapp.account_update",
    "whatsapp.account_alerts",
    "whatsapp.phone_number_quality_update",
    "whatsapp.error",
];

/// A restriction of messages that the business begins, and one of answers. Both together leave nothing.
const RESTRICTIONS: [&str; 2] =
    ["RESTRICTED_BIZ_INITIATED_MESSAGING", "RESTRICTED_CUSTOMER_INITIATED_MESSAGING"];

/// What the event says, if it is about an account or a number.
pub(super) fn notice(event: &v1::Event, typed: &[u8]) -> Option<Notice> {
    if !TYPES.contains(&event.r#type.as_str()) {
        return None;
    }
    let payload = v1::Event::decode(typed).ok()?.payload?;
    let mut digits = String::new();
    let news = if let Payload::AccountUpdate(update) = payload {
        account_news(update)?
    } else if let Payload::AccountAlerts(alert) = payload {
        alert_news(alert)?
    } else if let Payload::PhoneNumberQualityUpdate(update) = payload {
        digits = update.display_phone_number.chars().filter(char::is_ascii_digit).collect();
        quality_news(&update.event)?
    } else if let Payload::Error(error) = payload {
        News::Error(error.code)
    } else {
        return None;
    };
    let received = event.receive_time.and_then(|time| SystemTime::try_from(time).ok());
    Some(Notice {
        waba_id: event.waba_id.clone(),
        phone_number_id: event.phone_number_id.clone(),
        digits,
        time: limited(event.event_time, received).or(received)?,
        news,
    })
}

fn account_news(update: v1::AccountUpdate) -> Option<News> {
    let ban = update.ban_info.unwrap_or_default().waba_ban_state;
    let violation = update.violation_info.unwrap_or_default().violation_type;
    Some(match (update.event.as_str(), ban.as_str()) {
        ("DISABLED_UPDATE", "DISABLE") => News::Blocked("Meta has disabled the account".to_owned(), None),
        ("DISABLED_UPDATE", "REINSTATE") | ("ACCOUNT_RECONNECTED", _) => News::Reinstated,
        ("DISABLED_UPDATE", _) => News::Warned(format!("the account will be disabled ({ban})")),
        ("ACCOUNT_DELETED", _) => News::Blocked("the account was deleted at Meta".to_owned(), None),
        ("ACCOUNT_OFFBOARDED", _) => News::Blocked("the account has left the Cloud API".to_owned(), None),
        ("ACCOUNT_VIOLATION", _) => News::Warned(format!("the account violates a policy ({violation})")),
        ("ACCOUNT_RESTRICTION", _) => restriction(&update.restriction_info)?,
        (_, _) => return None,
    })
}

/// Half a restriction stops some messages only, and Meta refuses those by itself.
fn restriction(restrictions: &[v1::AccountRestrictionInfo]) -> Option<News> {
    let of_kind = |kind: &&str| restrictions.iter().find(|restriction| restriction.restriction_type == *kind);
    let found: Vec<_> = RESTRICTIONS.iter().filter_map(of_kind).collect();
    let until = found.iter().map(|restriction| restriction.expiration.map(SystemTime::try_from));
    let until: Vec<_> = until.filter_map(|until| until?.ok()).collect();
    match found.as_slice() {
        [] => None,
        [only] => Some(News::Warned(format!("the account is restricted ({})", only.restriction_type))),
        _ => {
            let words = "Meta has restricted all messages of the account".to_owned();
            Some(News::Blocked(words, until.into_iter().min()))
        }
    }
}

fn alert_news(alert: v1::AccountAlerts) -> Option<News> {
    let info = alert.alert_info.unwrap_or_default();
    (info.alert_severity == "CRITICAL").then(|| News::Warned(format!("{} (critical)", info.alert_type)))
}

/// A flag is a warning: the number still sends, until its quality has stayed low.
fn quality_news(event: &str) -> Option<News> {
    match event {
        "THROUGHPUT_UPGRADE" => Some(News::ThroughputUpgrade),
        "UNFLAGGED" | "UPGRADE" => Some(News::Recovered),
        "FLAGGED" | "DOWNGRADE" => Some(News::Warned(format!("the quality of a number is low ({event})"))),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use serde_json::{Value, json};

    use super::*;
    use crate::contract::from_json;

    /// What an event of this webhook field says.
    fn news(field: &str, payload: Payload) -> Option<News> {
        let event = v1::Event {
            r#type: format!("whatsapp.{field}"),
            waba_id: "1022".to_owned(),
            event_time: Some((UNIX_EPOCH + Duration::from_secs(100)).into()),
            receive_time: Some((UNIX_EPOCH + Duration::from_secs(90)).into()),
            ..v1::Event::default()
        };
        let typed = v1::Event { payload: Some(payload), ..v1::Event::default() }.encode_to_vec();
        let notice = notice(&event, &typed)?;
        assert_eq!(notice.waba_id, "1022");
        assert_eq!(notice.time, UNIX_EPOCH + Duration::from_secs(90), "no clock runs ahead");
        Some(notice.news)
    }

    fn of_account(value: &Value) -> Option<News> {
        let bytes = from_json("AccountUpdate", value).unwrap();
        news("account_update", Payload::AccountUpdate(v1::AccountUpdate::decode(bytes.as_slice()).unwrap()))
    }

    #[test]
    fn only_what_stops_all_messages_blocks_an_account() {
        let ban = |state: &str| {
            of_account(&json!({"event": "DISABLED_UPDATE", "ban_info": {"waba_ban_state": state}}))
        };
        assert!(matches!(ban("DISABLE"), Some(News::Blocked(_, None))));
        assert_eq!(ban("REINSTATE"), Some(News::Reinstated));
        assert!(matches!(ban("SCHEDULE_FOR_DISABLE"), Some(News::Warned(_))));
        let business =
            json!({"restriction_type": "RESTRICTED_BIZ_INITIATED_MESSAGING", "expiration": 1_641_330_498});
        let answers = json!({"restriction_type": "RESTRICTED_CUSTOMER_INITIATED_MESSAGING", "expiration": 1_641_330_400});
        let calls =
            json!({"restriction_type": "RESTRICTED_BUSINESS_INITIATED_CALLING", "expiration": 1_641_330_498});
        let restricted =
            |info: &[&Value]| of_account(&json!({"event": "ACCOUNT_RESTRICTION", "restriction_info": info}));
        assert!(matches!(restricted(&[&business]), Some(News::Warned(_))));
        assert_eq!(restricted(&[&calls]), None);
        let until = Some(UNIX_EPOCH + Duration::from_secs(1_641_330_400));
        assert!(matches!(restricted(&[&business, &answers]), Some(News::Blocked(_, end)) if end == until));
        assert!(matches!(of_account(&json!({"event": "ACCOUNT_DELETED"})), Some(News::Blocked(_, None))));
        assert_eq!(of_account(&json!({"event": "ACCOUNT_RECONNECTED"})), Some(News::Reinstated));
        assert_eq!(of_account(&json!({"event": "PARTNER_ADDED"})), None);
    }

    #[test]
    fn the_quality_of_a_number_is_heard() {
        let of = |event: &str| {
            let update = v1::PhoneNumberQualityUpdate { event: event.to_owned(), ..Default::default() };
            news("phone_number_quality_update", Payload::PhoneNumberQualityUpdate(update))
        };
        assert_eq!(of("THROUGHPUT_UPGRADE"), Some(News::ThroughputUpgrade));
        assert_eq!(of("UNFLAGGED"), Some(News::Recovered));
        assert!(matches!(of("FLAGGED"), Some(News::Warned(_))));
        assert_eq!(of("ONBOARDING"), None);
        let error = v1::WebhookError { code: 130_429, ..Default::default() };
        assert_eq!(news("error", Payload::Error(error.clone())), Some(News::Error(130_429)));
        assert_eq!(news("message.status", Payload::Error(error)), None);
    }
}
