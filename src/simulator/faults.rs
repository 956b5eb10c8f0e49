//! Faults that a test asks for: what goes wrong with the next matching request, or with the webhooks that
//! follow it. Pure state; whoever takes a fault carries it out.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

/// Faults waiting at once.
const FAULTS_MAX: usize = 10_000;

/// What `POST /_simulator/faults` takes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PlannedFault {
    #[serde(default, rename = "match")]
    pub(super) matcher: Matcher,
    /// How many matches it meets; 1 if absent.
    #[serde(default = "one")]
    pub(super) count: u32,
    pub(super) fault: Fault,
}

fn one() -> u32 {
    1
}

/// Which requests, or which inbound messages, a fault meets. What is absent matches everything.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Matcher {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) method: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) path_suffix: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) path_prefix: Option<String>,
    /// The recipient of a send: a number in any spelling, a user id or a group.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) to: Option<String>,
    /// The `type` of a send.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) message_type: Option<String>,
    /// The sender of an inbound message, for webhook faults.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) from: Option<String>,
}

/// What goes wrong. Of `error`, `http`, `stall` and `cut` at most one; all else combines.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a field of the JSON that a test writes")]
pub(super) struct Fault {
    /// Answered with an error of Meta instead of being carried out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) error: Option<ErrorFault>,
    /// Answered with any status and body instead of being carried out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) http: Option<HttpFault>,
    /// With `error`, `http` or `stall`: what was asked happens all the same.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(super) carried_out: bool,
    /// The answer comes so much later; what was asked happens at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) delay_ms: Option<u64>,
    /// Read, not carried out, never answered.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(super) stall: bool,
    /// The connection is closed instead of an answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) cut: Option<Cut>,
    /// With `stall` or `cut` of an upload or a download: once so many bytes of the file, or of the form around it, have
    /// passed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) after_bytes: Option<u64>,
    /// One byte of the download is wrong.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(super) corrupt: bool,
    /// Seconds for the `retry-after` header of `error` or `http`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) retry_after: Option<u64>,
    /// The webhooks that follow go out so many times more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) duplicate_webhooks: Option<u32>,
    /// The statuses that follow go out in reverse.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(super) reorder_webhooks: bool,
    /// The webhooks that follow, of all matches together, go out so many in one POST.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) batch_webhooks: Option<u32>,
}

/// An error of Meta; what is absent comes from the table of codes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ErrorFault {
    pub(super) code: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) http_status: Option<u16>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) subcode: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) transient: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) message: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) details: Option<String>,
    /// What template management says to people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) user_title: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) user_msg: Option<String>,
}

/// An answer that is not Meta's JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct HttpFault {
    pub(super) status: u16,
    #[serde(default)]
    pub(super) body: String,
    #[serde(default = "html")]
    pub(super) content_type: String,
    /// Where a redirect leads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) location: Option<String>,
}

fn html() -> String {
    "text/html; charset=utf-8".to_owned()
}

/// When the connection is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Cut {
    /// The request is read and forgotten.
    BeforeAcceptance,
    /// The request is carried out: a message is accepted and its statuses follow.
    AfterAcceptance,
}

/// What happens to the webhooks of one message.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct WebhookShape {
    pub(super) duplicates: u32,
    pub(super) is_reversed: bool,
    /// The fault whose webhooks are gathered, and how many fit in one POST.
    pub(super) batch: Option<(u64, u32)>,
}

/// What a fault is compared with.
#[derive(Debug, Clone, Copy)]
pub(super) enum Subject<'a> {
    Request { method: &'a str, path: &'a str, to: Option<&'a str>, message_type: Option<&'a str> },
    Inbound { from: &'a str },
}

/// A fault that met its match.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct TakenFault {
    pub(super) fault: Fault,
    pub(super) shape: WebhookShape,
}

/// Faults in the order they were asked for.
#[derive(Debug, Default)]
pub(super) struct Faults {
    waiting: VecDeque<(u64, PlannedFault)>,
    next: u64,
}

impl Faults {
    /// Adds a fault; says why if it makes no sense.
    pub(super) fn plan(&mut self, planned: PlannedFault) -> Result<u64, String> {
        planned.fault.check()?;
        if planned.count == 0 {
            return Err("count must be at least 1".to_owned());
        }
        if self.waiting.len() >= FAULTS_MAX {
            return Err(format!("{FAULTS_MAX} faults are waiting already"));
        }
        self.next += 1;
        self.waiting.push_back((self.next, planned));
        Ok(self.next)
    }

    /// Takes the first fault that matches. Inbound messages meet webhook faults only.
    pub(super) fn take(&mut self, subject: Subject<'_>) -> Option<TakenFault> {
        let position = self.waiting.iter().position(|(_, planned)| {
            planned.matcher.matches(subject)
                && (matches!(subject, Subject::Request { .. }) || planned.fault.is_of_webhooks_only())
        })?;
        let (id, planned) = self.waiting.get_mut(position)?;
        let shape = WebhookShape {
            duplicates: planned.fault.duplicate_webhooks.unwrap_or(0),
            is_reversed: planned.fault.reorder_webhooks,
            batch: planned.fault.batch_webhooks.map(|size| (*id, size)),
        };
        let taken = TakenFault { fault: planned.fault.clone(), shape };
        planned.count -= 1;
        if planned.count == 0 {
            self.waiting.remove(position);
        }
        Some(taken)
    }

    /// What still waits, first the oldest.
    pub(super) fn waiting(&self) -> impl Iterator<Item = &(u64, PlannedFault)> {
        self.waiting.iter()
    }
}

impl Fault {
    fn check(&self) -> Result<(), String> {
        if *self == Self::default() {
            return Err("fault must name what goes wrong".to_owned());
        }
        let ends = [self.error.is_some(), self.http.is_some(), self.stall, self.cut.is_some()];
        if ends.into_iter().filter(|is_set| *is_set).count() > 1 {
            return Err("only one of error, http, stall and cut is possible".to_owned());
        }
        if self.after_bytes.is_some() && !self.stall && self.cut.is_none() {
            return Err("after_bytes needs stall or cut".to_owned());
        }
        if self.carried_out && self.error.is_none() && self.http.is_none() && !self.stall {
            return Err("carried_out needs error, http or stall".to_owned());
        }
        let status = self.error.as_ref().and_then(|error| error.http_status);
        for status in status.into_iter().chain(self.http.as_ref().map(|http| http.status)) {
            if !(200..1000).contains(&status) {
                return Err(format!("{status} is not an HTTP status"));
            }
        }
        if self.duplicate_webhooks.is_some_and(|count| count > 1_000) {
            return Err("duplicate_webhooks is at most 1000".to_owned());
        }
        if self.batch_webhooks.is_some_and(|size| !(1..=1_000).contains(&size)) {
            return Err("batch_webhooks is 1 to 1000".to_owned());
        }
        Ok(())
    }

    fn is_of_webhooks_only(&self) -> bool {
        let webhooks = Self {
            duplicate_webhooks: self.duplicate_webhooks,
            reorder_webhooks: self.reorder_webhooks,
            batch_webhooks: self.batch_webhooks,
            ..Self::default()
        };
        *self == webhooks
    }
}

impl Matcher {
    fn matches(&self, subject: Subject<'_>) -> bool {
        match subject {
            Subject::Request { method, path, to, message_type } => {
                self.from.is_none()
                    && self.method.as_ref().is_none_or(|wanted| wanted.eq_ignore_ascii_case(method))
                    && self.path_suffix.as_ref().is_none_or(|suffix| path.ends_with(suffix.as_str()))
                    && self.path_prefix.as_ref().is_none_or(|prefix| path.starts_with(prefix.as_str()))
                    && self.to.as_ref().is_none_or(|wanted| to.is_some_and(|to| is_same_address(wanted, to)))
                    && self.message_type.as_ref().is_none_or(|wanted| message_type == Some(wanted))
            }
            Subject::Inbound { from } => {
                let Self {
                    method: None,
                    path_suffix: None,
                    path_prefix: None,
                    to: None,
                    message_type: None,
                    ..
                } = self
                else {
                    return false;
                };
                self.from.as_ref().is_none_or(|wanted| is_same_address(wanted, from))
            }
        }
    }
}

/// Numbers are compared by their digits, all else as it stands.
fn is_same_address(left: &str, right: &str) -> bool {
    let digits = |text: &str| -> Option<String> {
        let is_number = text.chars().all(|character| "0123456789+-() ".contains(character));
        is_number.then(|| text.chars().filter(char::is_ascii_digit).collect())
    };
    match (digits(left), digits(right)) {
        (Some(left), Some(right)) => left == right,
        _ => left == right,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn planned(value: serde_json::Value) -> PlannedFault {
        serde_json::from_value(value).unwrap()
    }

    fn send_to(to: &str) -> Subject<'_> {
        let path = "/v25.0/1/messages";
        Subject::Request { method: "POST", path, to: Some(to), message_type: Some("text") }
    }

    #[test]
    fn the_first_match_is_taken_as_often_as_it_counts() {
        let mut faults = Faults::default();
        let matcher = json!({ "method": "post", "path_suffix": "/messages", "to": "+1 650 555-1234" });
        faults.plan(planned(json!({ "match": matcher, "count": 2, "fault": { "stall": true } }))).unwrap();
        faults.plan(planned(json!({ "fault": { "delay_ms": 5 } }))).unwrap();
        assert_eq!(faults.take(send_to("16505550000")).unwrap().fault.delay_ms, Some(5));
        assert!(faults.take(send_to("16505551234")).unwrap().fault.stall);
        assert!(faults.take(send_to("+16505551234")).unwrap().fault.stall);
        assert_eq!(faults.take(send_to("16505551234")), None);
    }

    #[test]
    fn inbound_messages_meet_webhook_faults_only() {
        let mut faults = Faults::default();
        faults.plan(planned(json!({ "fault": { "cut": "after_acceptance" } }))).unwrap();
        faults.plan(planned(json!({ "fault": { "duplicate_webhooks": 2 } }))).unwrap();
        let taken = faults.take(Subject::Inbound { from: "16505551234" }).unwrap();
        assert_eq!(taken.shape.duplicates, 2);
        assert_eq!(faults.waiting().count(), 1);
    }

    #[test]
    fn senseless_faults_are_refused() {
        for fault in [
            json!({}),
            json!({ "stall": true, "cut": "before_acceptance" }),
            json!({ "http": { "status": 99 } }),
            json!({ "batch_webhooks": 0 }),
            json!({ "cut": "before_acceptance", "carried_out": true }),
        ] {
            let planned = planned(json!({ "fault": fault }));
            assert!(Faults::default().plan(planned).is_err(), "{fault}");
        }
        let unknown = json!({ "fault": { "stahl": true } });
        let error = serde_json::from_value::<PlannedFault>(unknown).unwrap_err();
        assert!(error.to_string().contains("stahl"));
    }
}
