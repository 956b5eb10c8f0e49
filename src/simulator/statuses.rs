//! The statuses that follow an accepted message: which, when, and what each says.

use std::time::{Duration, SystemTime};

use serde_json::{Map, Value, json};

use super::account::{Delays, Number};
use super::faults::WebhookShape;
use super::graph_error;
use super::judge::Recipient;
use super::magic::Behavior;
use super::unix_seconds;
use super::users::User;

/// A step in the life of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    Sent,
    Delivered,
    Read,
    Failed { code: u32, details: Option<String> },
}

/// How the message is priced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pricing {
    /// Lower case: `service`, `utility`, `marketing`, `authentication`.
    pub(super) category: String,
    pub(super) is_free: bool,
}

/// An accepted message, as its statuses describe it.
#[derive(Debug, Clone)]
pub(super) struct Accepted {
    pub(super) message_id: String,
    pub(super) number: Number,
    pub(super) recipient: Recipient,
    pub(super) user: Option<User>,
    pub(super) callback_data: Option<String>,
    pub(super) pricing: Pricing,
}

/// One status to send.
#[derive(Debug)]
pub(super) struct StatusUpdate {
    pub(super) accepted: Accepted,
    pub(super) step: Step,
    /// Whether this status tells the price.
    pub(super) has_pricing: bool,
    pub(super) shape: WebhookShape,
}

/// What follows, with the delay of each step since acceptance.
pub(super) fn plan(
    failure: Option<(u32, Option<String>)>,
    kind: &str,
    behavior: Option<Behavior>,
    is_reversed: bool,
    delays: &Delays,
) -> Vec<(Duration, Step)> {
    if let Some((code, details)) = failure {
        return vec![(delays.failed, Step::Failed { code, details })];
    }
    let steps = match behavior {
        Some(Behavior::NeverDelivered) => vec![Step::Sent],
        // A reaction is only ever sent.
        _ if kind == "reaction" => vec![Step::Sent],
        Some(Behavior::NeverRead) => vec![Step::Sent, Step::Delivered],
        Some(Behavior::ReadAtOnce) => vec![Step::Sent, Step::Read],
        _ => vec![Step::Sent, Step::Delivered, Step::Read],
    };
    let mut times: Vec<Duration> = steps
        .iter()
        .map(|step| match step {
            Step::Sent => delays.sent,
            Step::Delivered => delays.delivered,
            Step::Read => delays.read,
            Step::Failed { .. } => delays.failed,
        })
        .collect();
    if is_reversed {
        times.reverse();
        // The earliest time goes to the last step.
        let mut reversed: Vec<(Duration, Step)> = times.into_iter().zip(steps).collect();
        reversed.sort_by_key(|(time, _)| *time);
        return reversed;
    }
    times.into_iter().zip(steps).collect()
}

impl StatusUpdate {
    /// The queue whose order this status keeps: that of the conversation.
    pub(super) fn queue(&self) -> String {
        let party = match (&self.accepted.recipient, &self.accepted.user) {
            (Recipient::Group(group), _) => group,
            (Recipient::Phone(address) | Recipient::User(address), None) => address,
            (_, Some(user)) => &user.user_id,
        };
        conversation_queue(&self.accepted.number, party)
    }

    /// The `value` of the webhook.
    pub(super) fn value(&self, now: SystemTime) -> Value {
        let mut value = json!({
            "messaging_product": "whatsapp",
            "metadata": metadata(&self.accepted.number),
            "statuses": [self.status(now)],
        });
        let is_failure = matches!(self.step, Step::Failed { .. });
        // A failure names no contacts.
        if let (Some(fields), Some(user), false) = (value.as_object_mut(), &self.accepted.user, is_failure) {
            fields.insert("contacts".to_owned(), json!([contact(user)]));
        }
        value
    }

    fn status(&self, now: SystemTime) -> Value {
        let accepted = &self.accepted;
        let mut status = Map::new();
        let mut set = |key: &str, value: Value| status.insert(key.to_owned(), value);
        set("id", json!(accepted.message_id));
        set("timestamp", json!(unix_seconds(now).to_string()));
        let mut is_failure = false;
        match &self.step {
            Step::Sent => set("status", json!("sent")),
            Step::Delivered => set("status", json!("delivered")),
            Step::Read => set("status", json!("read")),
            Step::Failed { code, details } => {
                is_failure = true;
                set("errors", json!([graph_error::in_webhook(*code, details.as_deref())]));
                set("status", json!("failed"))
            }
        };
        match (&accepted.recipient, &accepted.user) {
            (Recipient::Group(group), _) => {
                set("recipient_id", json!(group));
                set("recipient_type", json!("group"));
            }
            (recipient, Some(user)) => {
                if let Some(wa_id) = &user.wa_id {
                    set("recipient_id", json!(wa_id));
                }
                // A failed message to a phone number does not show the user's id.
                if !is_failure || matches!(recipient, Recipient::User(_)) {
                    set("recipient_user_id", json!(user.user_id));
                }
            }
            (_, None) => {}
        }
        if let Some(data) = &accepted.callback_data {
            set("biz_opaque_callback_data", json!(data));
        }
        if self.has_pricing {
            let Pricing { category, is_free } = &accepted.pricing;
            let kind = if *is_free { "free_customer_service" } else { "regular" };
            set(
                "pricing",
                json!({ "billable": !is_free, "pricing_model": "PMP", "type": kind, "category": category }),
            );
        }
        Value::Object(status)
    }
}

/// The queue of what is said between a number and a user or group.
pub(super) fn conversation_queue(number: &Number, party: &str) -> String {
    format!("{} with {party}", number.phone_number_id)
}

/// Which business number a webhook is about.
pub(super) fn metadata(number: &Number) -> Value {
    json!({
        "display_phone_number": number.display_phone_number,
        "phone_number_id": number.phone_number_id,
    })
}

/// A user in a webhook's `contacts`. A hidden number is absent, never empty.
pub(super) fn contact(user: &User) -> Value {
    let mut contact = Map::new();
    if let Some(name) = &user.name {
        contact.insert("profile".to_owned(), json!({ "name": name }));
    }
    if let Some(wa_id) = &user.wa_id {
        contact.insert("wa_id".to_owned(), json!(wa_id));
    }
    contact.insert("user_id".to_owned(), json!(user.user_id));
    Value::Object(contact)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn steps(behavior: Option<Behavior>, is_reversed: bool) -> Vec<&'static str> {
        plan(None, "text", behavior, is_reversed, &Delays::default())
            .into_iter()
            .map(|(_, step)| match step {
                Step::Sent => "sent",
                Step::Delivered => "delivered",
                Step::Read => "read",
                Step::Failed { .. } => "failed",
            })
            .collect()
    }

    #[test]
    fn plans() {
        assert_eq!(steps(None, false), ["sent", "delivered", "read"]);
        assert_eq!(steps(None, true), ["read", "delivered", "sent"]);
        assert_eq!(steps(Some(Behavior::NeverDelivered), false), ["sent"]);
        assert_eq!(steps(Some(Behavior::NeverRead), false), ["sent", "delivered"]);
        assert_eq!(steps(Some(Behavior::ReadAtOnce), false), ["sent", "read"]);
        let failed = plan(Some((131_047, None)), "text", None, false, &Delays::default());
        assert_eq!(failed.len(), 1);
    }

    #[test]
    fn a_hidden_number_is_absent_and_a_failure_by_number_shows_no_user_id() {
        let number = crate::simulator::account::Account::default().numbers.remove(0);
        let pricing = Pricing { category: "service".to_owned(), is_free: true };
        let accepted = |recipient, wa_id: Option<&str>| Accepted {
            message_id: "wamid.A".to_owned(),
            number: number.clone(),
            recipient,
            user: Some(User { wa_id: wa_id.map(str::to_owned), user_id: "US.1".to_owned(), name: None }),
            callback_data: Some("order=1".to_owned()),
            pricing: pricing.clone(),
        };
        let update = |accepted, step| StatusUpdate {
            accepted,
            step,
            has_pricing: true,
            shape: WebhookShape::default(),
        };
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(7);

        let sent = update(accepted(Recipient::User("US.1".to_owned()), None), Step::Sent).value(now);
        assert_eq!(
            sent["statuses"][0],
            json!({
                "id": "wamid.A", "status": "sent", "timestamp": "7", "recipient_user_id": "US.1",
                "biz_opaque_callback_data": "order=1",
                "pricing": {
                    "billable": false, "pricing_model": "PMP", "type": "free_customer_service",
                    "category": "service",
                },
            })
        );
        assert_eq!(sent["contacts"], json!([{ "user_id": "US.1" }]));

        let by_number = accepted(Recipient::Phone("16505551234".to_owned()), Some("16505551234"));
        let failed = update(by_number, Step::Failed { code: 131_026, details: None }).value(now);
        assert_eq!(failed["statuses"][0]["recipient_id"], "16505551234");
        assert_eq!(failed["statuses"][0].get("recipient_user_id"), None);
        assert_eq!(failed["statuses"][0]["errors"][0]["code"], 131_026);
        assert_eq!(failed.get("contacts"), None);
    }
}
