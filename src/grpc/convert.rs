//! Requests → domain values. Every bad field of a request is found before anything is done.
//!
//! Static rules stand in the protos; here are those that need a parser, and those between fields: a file for each kind
//! of content that has many.

mod content;
mod delivery;
mod interactive;
mod manage_template;
mod media;
mod order;
#[cfg(test)]
#[path = "convert/tests.rs"]
mod rules_tests;
mod subscription;
mod template;
mod template_definition;
mod window;

use std::ops::RangeInclusive;
use std::time::{Duration, SystemTime};

use crate::contract::{self, rules, v1};
use crate::domain::failure::FieldViolation;
use crate::domain::filter::{EventFilter, is_type_pattern};
use crate::domain::ids::{BusinessScopedUserId, GroupId, InvalidId, MessageId, PhoneNumberId, WabaId};
use crate::domain::message::{Content, Endpoint, PhoneNumber, Recipient};
use crate::domain::quoted::Quoted;
use crate::domain::value::Value;
use prost::Message as _;

pub(super) use delivery::{Asked, terms};
pub(super) use manage_template::template_action;
pub(super) use subscription::{check_group, outcomes, subscription_change, subscription_terms, wish};
pub(super) use window::{instead_of, window_policy};

/// Fields of Meta's body that have a field in our request, and which.
const NOT_IN_RAW: [(&str, &str); 6] = [
    ("to", "recipient"),
    ("recipient", "recipient"),
    ("recipient_type", "recipient"),
    ("recipient_identity_key_hash", "recipient_identity_key_hash"),
    ("context", "reply_to_message_id"),
    ("biz_opaque_callback_data", "callback_data"),
];

/// The heartbeat of a stream that asks for none.
const HEARTBEAT_DEFAULT: Duration = Duration::from_secs(15);
const HEARTBEAT_MIN: Duration = Duration::from_secs(5);
const HEARTBEAT_MAX: Duration = Duration::from_mins(1);
/// Events in a frame of a stream that does not say.
const BATCH_EVENTS_DEFAULT: usize = 32;
/// The seconds of a `google.protobuf.Timestamp`: the years 1 to 9999.
const TIMESTAMP_SECONDS: RangeInclusive<i64> = -62_135_596_800..=253_402_300_799;
const NANOS_MAX: i32 = 999_999_999;

/// Bad fields that a request is told of at most. An answer holds fewer, and each is compared with those before it.
const VIOLATIONS_MAX: usize = 200;

/// Bad fields, collected.
#[derive(Debug, Default)]
pub(super) struct Violations(Vec<FieldViolation>);

impl Violations {
    /// What the static rules find.
    pub(super) fn of(message: &str, encoded: &[u8]) -> Self {
        Self(rules::violations(message, encoded))
    }

    /// As [`Violations::of`], for a message that is not encoded yet.
    pub(super) fn of_message(name: &str, message: &impl prost::Message) -> Self {
        Self::of(name, &message.encode_to_vec())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn add(&mut self, field: &str, description: impl Into<String>) {
        // A field that a static rule found already needs no second sentence.
        if self.0.len() < VIOLATIONS_MAX && !self.0.iter().any(|v| v.field == field) {
            self.0.push(FieldViolation { field: field.to_owned(), description: description.into() });
        }
    }

    /// As [`Violations::add`], with a better sentence than the static rule's.
    fn replace(&mut self, field: &str, description: impl Into<String>) {
        self.0.retain(|v| v.field != field);
        self.add(field, description);
    }

    /// What belongs to this field is looked at elsewhere.
    pub(super) fn forget(&mut self, field: &str) {
        self.0.retain(|v| v.field != field);
    }

    /// The value of a parser, or a violation of the field.
    fn take<T>(&mut self, field: &str, parsed: Result<T, InvalidId>) -> Option<T> {
        parsed.map_err(|error| self.add(field, error.0)).ok()
    }

    pub(super) fn into_inner(self) -> Vec<FieldViolation> {
        self.0
    }
}

/// What a message request says, as far as it could be read.
#[derive(Debug)]
pub(super) struct Outbound {
    pub(super) recipient: Recipient,
    pub(super) reply_to: Option<MessageId>,
    pub(super) content: Content,
    pub(super) endpoint: Endpoint,
    /// The template to send when the window is closed.
    pub(super) fallback: Option<Content>,
}

/// Reads a message; `None` means that at least one violation was added.
pub(super) fn outbound(request: &v1::SendMessageRequest, found: &mut Violations) -> Option<Outbound> {
    let encoded = request.encode_to_vec();
    *found = Violations::of("SendMessageRequest", &encoded);
    let recipient = request.recipient.as_ref().and_then(|r| recipient(r, found));
    let reply_to = match request.reply_to_message_id.as_str() {
        "" => None,
        id => found.take("reply_to_message_id", MessageId::parse(id)),
    };
    let content = match &request.content {
        Some(v1::send_message_request::Content::Raw(raw)) => raw_content(raw, found),
        Some(_) => {
            let content = contract::content_of(&encoded);
            content.map(|(kind, body)| Content { kind, body, extra: Vec::new(), is_raw: false })
        }
        None => None,
    };
    content::check(request, found);
    window::check(request, found);
    delivery::check(request, found);
    if request.on_unknown() == v1::OnUnknown::Resend && request.request_id.is_empty() {
        found.add(
            "on_unknown",
            "ON_UNKNOWN_RESEND needs a request_id, so that the message is kept until it is settled",
        );
    }
    if !found.0.is_empty() {
        return None;
    }
    let mut content = content?;
    content.extra.extend(beside(request));
    let endpoint = request.marketing.as_ref().map_or(Endpoint::Messages, |_| Endpoint::MarketingMessages);
    let fallback = window::fallback(request);
    Some(Outbound { recipient: recipient?, reply_to, content, endpoint, fallback })
}

/// The fields that Meta has beside the content.
fn beside(request: &v1::SendMessageRequest) -> Vec<(String, Value)> {
    let text = |name: &str, text: &str| (!text.is_empty()).then(|| (name.to_owned(), Value::from(text)));
    let template_name = request.direct_send_config.as_ref().map(|config| {
        let name = ("template_name".to_owned(), Value::from(config.template_name.as_str()));
        ("direct_send_config".to_owned(), Value::Map(vec![name]))
    });
    let ttl = request.ttl_seconds.map(|s| ("ttl_seconds".to_owned(), Value::Integer(i64::from(s))));
    let policy = request.marketing.as_ref().and_then(|m| text("product_policy", &m.product_policy));
    let sharing = request.marketing.as_ref().and_then(|m| m.message_activity_sharing);
    let sharing = sharing.map(|is_on| ("message_activity_sharing".to_owned(), Value::Bool(is_on)));
    let key_hash = text("recipient_identity_key_hash", &request.recipient_identity_key_hash);
    let category = text("category", &request.category);
    [key_hash, category, template_name, ttl, policy, sharing].into_iter().flatten().collect()
}

/// Reads the other side of a conversation.
pub(super) fn recipient(recipient: &v1::Recipient, found: &mut Violations) -> Option<Recipient> {
    use v1::recipient::Address;
    match recipient.address.as_ref()? {
        Address::PhoneNumber(number) => {
            found.take("recipient.phone_number", PhoneNumber::parse(number)).map(Recipient::PhoneNumber)
        }
        Address::UserId(id) => {
            found.take("recipient.user_id", BusinessScopedUserId::parse(id)).map(Recipient::User)
        }
        Address::GroupId(id) => found.take("recipient.group_id", GroupId::parse(id)).map(Recipient::Group),
    }
}

fn raw_content(raw: &prost_types::Struct, found: &mut Violations) -> Option<Content> {
    for (name, field) in NOT_IN_RAW {
        if raw.fields.contains_key(name) {
            found.add(&format!("raw.{name}"), format!("must not stand in raw: use the field {field}"));
        }
    }
    let Value::Map(fields) = contract::from_struct(raw) else { return None };
    let kind = fields.iter().find(|(name, _)| name == "type").and_then(|(_, value)| value.as_str());
    let Some(kind) = kind.map(str::to_owned).filter(|kind| !kind.is_empty()) else {
        found.add("raw.type", "is required: Meta's word for the content, such as \"location\"");
        return None;
    };
    let (body, extra): (Vec<_>, Vec<_>) = fields
        .into_iter()
        .filter(|(name, _)| name != "type" && name != "messaging_product")
        .partition(|(name, _)| *name == kind);
    let Some((_, body)) = body.into_iter().next() else {
        // The word is not repeated: it is the caller's text.
        found.add("raw", "must hold the content under the name that raw.type says, such as \"location\"");
        return None;
    };
    Some(Content { kind, body, extra, is_raw: true })
}

/// Reads a filter.
pub(super) fn filter(filter: Option<v1::EventFilter>, found: &mut Violations) -> EventFilter {
    let v1::EventFilter { phone_number_ids, waba_ids, types, conversation_keys } = filter.unwrap_or_default();
    for (position, id) in phone_number_ids.iter().enumerate() {
        found.take(&format!("filter.phone_number_ids[{position}]"), PhoneNumberId::parse(id));
    }
    for (position, id) in waba_ids.iter().enumerate() {
        found.take(&format!("filter.waba_ids[{position}]"), WabaId::parse(id));
    }
    for (position, pattern) in types.iter().enumerate().filter(|(_, pattern)| !is_type_pattern(pattern)) {
        let rule = format!(
            "{} is no event type: write whatsapp.message.status, or whatsapp.message.*",
            Quoted(pattern)
        );
        found.add(&format!("filter.types[{position}]"), rule);
    }
    EventFilter { phone_number_ids, waba_ids, types, conversation_keys, scope: None }
}

/// Reads a heartbeat interval, clamped.
pub(super) fn heartbeat_interval(asked: Option<prost_types::Duration>) -> Duration {
    let asked = asked.and_then(|d| Duration::try_from(d).ok()).filter(|d| !d.is_zero());
    asked.unwrap_or(HEARTBEAT_DEFAULT).clamp(HEARTBEAT_MIN, HEARTBEAT_MAX)
}

/// Reads how many events a frame may have.
pub(super) fn batch_events_max(asked: u32) -> usize {
    if asked == 0 { BATCH_EVENTS_DEFAULT } else { usize::try_from(asked).unwrap_or(usize::MAX) }
}

/// Reads a point in time; `None` means that a violation was added.
pub(super) fn time(
    field: &str,
    timestamp: prost_types::Timestamp,
    found: &mut Violations,
) -> Option<SystemTime> {
    // Other numbers would be read too, as some other time.
    let is_valid =
        TIMESTAMP_SECONDS.contains(&timestamp.seconds) && (0..=NANOS_MAX).contains(&timestamp.nanos);
    let time = is_valid.then(|| SystemTime::try_from(timestamp).ok()).flatten();
    if time.is_none() {
        found.add(field, "is no valid timestamp: the years 1 to 9999, nanos 0 to 999999999");
    }
    time
}

/// A recipient as the contract writes it.
pub(super) fn recipient_to_pb(recipient: &Recipient) -> v1::Recipient {
    use v1::recipient::Address;
    let address = match recipient {
        Recipient::PhoneNumber(number) => Address::PhoneNumber(number.international()),
        Recipient::User(id) => Address::UserId(id.expose().to_owned()),
        Recipient::Group(id) => Address::GroupId(id.as_str().to_owned()),
    };
    v1::Recipient { address: Some(address) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::v1::send_message_request::Content as C;

    fn request(content: C) -> v1::SendMessageRequest {
        let address = v1::recipient::Address::PhoneNumber("+1 650 555 1234".to_owned());
        v1::SendMessageRequest {
            recipient: Some(v1::Recipient { address: Some(address) }),
            content: Some(content),
            ..Default::default()
        }
    }

    fn violations(request: &v1::SendMessageRequest) -> Vec<String> {
        let mut found = Violations::default();
        let read = outbound(request, &mut found);
        assert_eq!(read.is_none(), !found.0.is_empty());
        found.0.into_iter().map(|v| format!("{} {}", v.field, v.description)).collect()
    }

    fn raw(json: &serde_json::Value) -> C {
        let fields = json.as_object().unwrap().iter().map(|(name, value)| (name.clone(), to_pb(value)));
        C::Raw(prost_types::Struct { fields: fields.collect() })
    }

    fn to_pb(value: &serde_json::Value) -> prost_types::Value {
        use prost_types::value::Kind;
        let kind = if let Some(text) = value.as_str() {
            Kind::StringValue(text.to_owned())
        } else {
            let fields = value.as_object().unwrap().iter().map(|(n, v)| (n.clone(), to_pb(v))).collect();
            Kind::StructValue(prost_types::Struct { fields })
        };
        prost_types::Value { kind: Some(kind) }
    }

    #[test]
    fn raw_says_which_field_to_use() {
        let body = serde_json::json!({"to": "1", "context": {}, "recipient_type": "individual", "text": {}});
        assert_eq!(
            violations(&request(raw(&body))),
            [
                "raw.to must not stand in raw: use the field recipient",
                "raw.recipient_type must not stand in raw: use the field recipient",
                "raw.context must not stand in raw: use the field reply_to_message_id",
                "raw.type is required: Meta's word for the content, such as \"location\"",
            ]
        );
        let body = serde_json::json!({"type": "call +15558675309", "text": {}});
        assert_eq!(
            violations(&request(raw(&body))),
            ["raw must hold the content under the name that raw.type says, such as \"location\""]
        );
    }

    #[test]
    fn raw_keeps_what_stands_beside_the_content() {
        let body = serde_json::json!({
            "messaging_product": "whatsapp", "type": "location", "location": {"name": "x"}, "category": "utility",
        });
        let read = outbound(&request(raw(&body)), &mut Violations::default()).unwrap();
        assert_eq!(read.content.kind, "location");
        assert_eq!(read.content.extra, [("category".to_owned(), Value::from("utility"))]);
        assert!(!read.content.is_free_form());
    }

    #[test]
    fn ids_of_a_filter_are_digits() {
        let asked = |numbers: &[&str], wabas: &[&str]| {
            let words = |list: &[&str]| list.iter().map(|word| (*word).to_owned()).collect();
            let mut found = Violations::default();
            let (phone_number_ids, waba_ids) = (words(numbers), words(wabas));
            filter(Some(v1::EventFilter { phone_number_ids, waba_ids, ..Default::default() }), &mut found);
            found.0.into_iter().map(|v| v.field).collect::<Vec<_>>()
        };
        assert_eq!(asked(&["1", "2"], &["3"]), Vec::<String>::new());
        assert_eq!(asked(&["1", "+2"], &[""]), ["filter.phone_number_ids[1]", "filter.waba_ids[0]"]);
    }

    #[test]
    fn links_are_checked_for_form() {
        let image = |link: &str| {
            let source = Some(v1::image::Source::Link(link.to_owned()));
            request(C::Image(v1::Image { source, caption: String::new() }))
        };
        assert!(violations(&image("https://example.com/a.jpg")).is_empty());
        for bad in [
            "http://example.com/a.jpg",
            "https://localhost/a",
            "https://10.0.0.1/a",
            "https://db.internal/",
            "x",
        ] {
            assert_eq!(violations(&image(bad)).len(), 1, "{bad}");
        }
    }

    #[test]
    fn bad_recipients_say_the_remedy() {
        let mut bad = request(C::Text(v1::Text { body: "Hi".to_owned(), preview_url: false }));
        let address = v1::recipient::Address::PhoneNumber("0170 1234567".to_owned());
        bad.recipient = Some(v1::Recipient { address: Some(address) });
        let found = violations(&bad);
        assert!(found[0].starts_with("recipient.phone_number the number starts with 0"), "{found:?}");
    }
}
