//! A domain event → the three segments of an encoded `Event` that the log stores.
//!
//! Each view that a subscriber may ask for is a concatenation of segments; the cursor is appended on reading. A typed
//! payload that does not fit its message is left untyped, never refused: the exact JSON stays beside it.

use std::time::SystemTime;

use bytes::Bytes;
use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint};
use serde_json::{Map, Value, json};

use super::schema::Schema;
use super::{from_json, v1};
use crate::domain::conversation::UserIdentity;
use crate::domain::event::{CALLS, Event, Fact, MESSAGE_RECEIVED, MESSAGE_STATUS, Moved, Payload, STANDBY};
use crate::domain::failure::Verdict;
use crate::domain::ids::{BusinessScopedUserId, PhoneNumberId, WaId};
use crate::domain::message::SendTag;

/// Bytes that an encoded event may have: gRPC clients accept messages of 4 MiB by default, and the frame around it
/// needs room.
pub const EVENT_BYTES_MAX: usize = 3_900_000;

const MESSAGE_FIELD: u32 = 20;
const STATUS_FIELD: u32 = 21;
const ERROR_FIELD: u32 = 22;
const UNKNOWN_FIELD: u32 = 59;

/// The pieces of an encoded event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segments {
    /// Everything but the payload, the JSON and the cursor.
    pub envelope: Bytes,
    /// The typed payload.
    pub typed: Bytes,
    /// The exact JSON.
    pub raw: Bytes,
}

/// Encodes an event once, for every stream that will ever read it.
pub fn encode(event: &Event, traceparent: &str) -> Segments {
    let raw = v1::Event {
        raw_json: event.raw_json.clone(),
        change_json: event.change_json.to_string(),
        ..v1::Event::default()
    };
    let raw: Bytes = raw.encode_to_vec().into();
    let mut typed = typed_payload(event);
    let origin = &event.origin;
    let mut envelope = v1::Event {
        id: event.id.to_string(),
        r#type: event.attributes.event_type.clone(),
        subject: event.subject.clone(),
        phone_number_id: event.attributes.phone_number_id.clone(),
        waba_id: event.attributes.waba_id.clone(),
        conversation_key: event.attributes.conversation_key.clone(),
        event_time: event.event_time.map(Into::into),
        receive_time: Some(event.receive_time.into()),
        traceparent: traceparent.to_owned(),
        origin: Some(v1::EventOrigin {
            webhook_id: origin.webhook_id.clone(),
            item_index: origin.item_index,
            item_count: origin.item_count,
            entry_index: origin.entry_index,
            change_index: origin.change_index,
            array: origin.array.to_owned(),
            array_index: origin.array_index,
        }),
        user: user_to_pb(&event.user),
        ..v1::Event::default()
    };
    if envelope.encoded_len() + raw.len() + typed.len() > EVENT_BYTES_MAX {
        typed = Bytes::new();
        envelope.payload_omitted = true;
    }
    Segments { envelope: envelope.encode_to_vec().into(), typed, raw }
}

/// What the projections follow. Names and time stand in the envelope, so that a payload which could not be typed, or was
/// left out, hides nobody.
pub fn fact(envelope: &[u8], typed: &[u8]) -> Fact {
    let Ok(event) = v1::Event::decode(envelope) else { return Fact::Other };
    let named = event.user.unwrap_or_default();
    let user = UserIdentity {
        wa_id: WaId::parse(&named.wa_id).ok(),
        user_id: BusinessScopedUserId::parse(&named.user_id).ok(),
    };
    let Ok(phone_number_id) = PhoneNumberId::parse(&event.phone_number_id) else { return Fact::Other };
    if user.is_empty() {
        return Fact::Other;
    }
    let conversation_key = event.conversation_key;
    let receive_time = event.receive_time.and_then(|t| SystemTime::try_from(t).ok());
    let time = limited(event.event_time, receive_time).or(receive_time);
    let payload = || v1::Event::decode(typed).ok().and_then(|event| event.payload);
    let moved = match (event.r#type.as_str(), time) {
        (MESSAGE_RECEIVED, Some(time)) => Some(Moved::Window(time)),
        (MESSAGE_STATUS, Some(time)) => payload().and_then(|payload| moved_message(payload, time)),
        (CALLS | STANDBY, _) => {
            payload().and_then(|payload| limited(opening_time(payload), receive_time).map(Moved::Window))
        }
        (_, _) => None,
    };
    Fact::Concerns { phone_number_id, conversation_key, user, moved: moved.unwrap_or(Moved::Nothing) }
}

fn moved_message(payload: v1::event::Payload, time: SystemTime) -> Option<Moved> {
    let v1::event::Payload::Status(v1::MessageStatus { id, status, .. }) = payload else { return None };
    Some(Moved::Message { id, status, time })
}

/// When the user of a value that is not split did what opens the window, as far as the value says: they called (reference
/// 7, rule 2), or wrote while another application owns the conversation. Messages of the business open nothing.
fn opening_time(payload: v1::event::Payload) -> Option<prost_types::Timestamp> {
    if let v1::event::Payload::Calls(value) = payload {
        let opens = |call: &v1::CallUpdate| call.direction == "USER_INITIATED" && call.event == "connect";
        value.calls.into_iter().rfind(opens)?.timestamp
    } else if let v1::event::Payload::Standby(value) = payload {
        value.standby?.messages.pop()?.timestamp
    } else {
        None
    }
}

/// A clock that runs ahead must not hold a window open.
fn limited(time: Option<prost_types::Timestamp>, limit: Option<SystemTime>) -> Option<SystemTime> {
    let time = time.and_then(|time| SystemTime::try_from(time).ok())?;
    Some(limit.map_or(time, |limit| time.min(limit)))
}

fn user_to_pb(user: &UserIdentity) -> Option<v1::EventUser> {
    let wa_id = user.wa_id.as_ref().map(|id| id.expose().to_owned()).unwrap_or_default();
    let user_id = user.user_id.as_ref().map(|id| id.expose().to_owned()).unwrap_or_default();
    (!user.is_empty()).then_some(v1::EventUser { wa_id, user_id })
}

fn typed_payload(event: &Event) -> Bytes {
    let (field, message) = match &event.payload {
        Payload::Message { .. } => (MESSAGE_FIELD, "ReceivedMessage"),
        Payload::Status { .. } => (STATUS_FIELD, "MessageStatus"),
        Payload::Error => (ERROR_FIELD, "WebhookError"),
        Payload::Field { name, .. } => match Schema::get().webhook_field(name) {
            Some((field, shape)) => (field.number, shape.name.as_str()),
            None => return unknown("the gateway passes this field on as JSON", Vec::new()),
        },
        Payload::Unknown { reason, body } => return unknown(reason, body.clone()),
    };
    let parsed = serde_json::from_str(&event.raw_json).map_err(|_| "it cannot be parsed as JSON".to_owned());
    let typed = parsed.and_then(|item| {
        let item = complete(item, event);
        from_json(message, &item).map_err(|mismatch| mismatch.to_string())
    });
    match typed {
        Ok(bytes) if bytes.is_empty() && matches!(event.payload, Payload::Field { .. }) => {
            unknown("no field of the value is known", Vec::new())
        }
        Ok(bytes) => as_field(field, &bytes),
        Err(reason) => unknown(&reason, Vec::new()),
    }
}

fn unknown(reason: &str, body: Vec<u8>) -> Bytes {
    as_field(UNKNOWN_FIELD, &v1::UnknownPayload { reason: reason.to_owned(), body }.encode_to_vec())
}

fn as_field(number: u32, bytes: &[u8]) -> Bytes {
    let mut field = Vec::with_capacity(bytes.len() + 8);
    encode_key(number, WireType::LengthDelimited, &mut field);
    encode_varint(bytes.len() as u64, &mut field);
    field.extend_from_slice(bytes);
    field.into()
}

/// Adds to Meta's item what our message says beyond it: the contact, our tag, the verdicts on errors.
fn complete(mut item: Value, event: &Event) -> Value {
    let Value::Object(fields) = &mut item else { return item };
    match &event.payload {
        Payload::Message { contact } => add_contact(fields, contact.as_deref()),
        Payload::Status { contact } => {
            add_contact(fields, contact.as_deref());
            split_callback_data(fields);
        }
        Payload::Field { verdicts, .. } => complete_value(fields, verdicts),
        Payload::Error => {
            if let Some(verdict) = event.verdicts.first() {
                fields.insert("verdict".to_owned(), verdict_json(*verdict));
            }
        }
        Payload::Unknown { .. } => {}
    }
    if let Some(Value::Array(errors)) = fields.get_mut("errors") {
        for (error, verdict) in errors.iter_mut().zip(&event.verdicts) {
            add_verdict(error, *verdict);
        }
    }
    item
}

/// The same for a whole value.
fn complete_value(value: &mut Map<String, Value>, verdicts: &[(i64, Verdict)]) {
    let standby = value.get_mut("standby").and_then(|standby| standby.get_mut("statuses"));
    for status in standby.and_then(Value::as_array_mut).into_iter().flatten() {
        if let Value::Object(status) = status {
            split_callback_data(status);
        }
    }
    if !verdicts.is_empty() {
        value.iter_mut().for_each(|(name, value)| add_verdicts(name, value, verdicts));
    }
}

/// Adds verdicts to the elements of every list `errors`.
fn add_verdicts(name: &str, value: &mut Value, verdicts: &[(i64, Verdict)]) {
    match value {
        Value::Object(fields) => {
            fields.iter_mut().for_each(|(name, value)| add_verdicts(name, value, verdicts));
        }
        Value::Array(values) if name == "errors" => {
            for error in values {
                let code = error.get("code").and_then(Value::as_i64);
                if let Some((_, verdict)) = verdicts.iter().find(|(known, _)| Some(*known) == code) {
                    add_verdict(error, *verdict);
                }
            }
        }
        Value::Array(values) => values.iter_mut().for_each(|value| add_verdicts("", value, verdicts)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn add_verdict(error: &mut Value, verdict: Verdict) {
    if let Value::Object(error) = error {
        error.insert("verdict".to_owned(), verdict_json(verdict));
    }
}

fn add_contact(fields: &mut Map<String, Value>, contact: Option<&str>) {
    if let Some(contact) = contact.and_then(|text| serde_json::from_str(text).ok()) {
        fields.insert("contact".to_owned(), contact);
    }
}

fn split_callback_data(fields: &mut Map<String, Value>) {
    if let Some(Value::String(opaque)) = fields.remove("biz_opaque_callback_data") {
        let (tag, data) = SendTag::unwrap_from(&opaque);
        fields.insert("callback_data".to_owned(), data.into());
        if let Some(tag) = tag {
            fields.insert("send_tag".to_owned(), tag.as_str().into());
        }
    }
}

fn verdict_json(verdict: Verdict) -> Value {
    json!({"reason": verdict.reason.as_str(), "actor": verdict.actor.as_str()})
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;
    use crate::domain::event::{EventAttributes, EventId, Origin};
    use crate::domain::failure::{Actor, Class, Reason, Retry};

    fn event(payload: Payload, raw_json: &str) -> Event {
        let event_type =
            if matches!(payload, Payload::Message { .. }) { MESSAGE_RECEIVED } else { MESSAGE_STATUS };
        Event {
            id: EventId([7; 16]),
            attributes: EventAttributes {
                event_type: event_type.to_owned(),
                phone_number_id: "106540352242922".to_owned(),
                waba_id: "102290129340398".to_owned(),
                conversation_key: "106540352242922:16505551234".to_owned(),
            },
            subject: "wamid.A".to_owned(),
            event_time: Some(UNIX_EPOCH + Duration::from_secs(1_750_030_073)),
            receive_time: UNIX_EPOCH + Duration::from_secs(1_750_030_074),
            origin: Origin::default(),
            payload,
            user: UserIdentity { wa_id: WaId::parse("16505551234").ok(), user_id: None },
            verdicts: Vec::new(),
            raw_json: raw_json.to_owned(),
            change_json: Arc::from("{}"),
        }
    }

    fn decode(segments: &Segments) -> v1::Event {
        let bytes = [segments.envelope.clone(), segments.typed.clone(), segments.raw.clone()].concat();
        v1::Event::decode(bytes.as_slice()).unwrap()
    }

    #[test]
    fn a_status_gives_back_the_callers_data_and_our_tag() {
        let raw = r#"{"id":"wamid.A","status":"sent","timestamp":"1750030073","recipient_id":"16505551234",
            "biz_opaque_callback_data":"g1.AZ3kq0p2cXKkzqv1b5c-_w.order=1"}"#;
        let segments = encode(&event(Payload::Status { contact: None }, raw), "");
        let decoded = decode(&segments);
        assert_eq!(decoded.raw_json, raw);
        let Some(v1::event::Payload::Status(status)) = decoded.payload else { panic!("expected a status") };
        assert_eq!(
            (status.callback_data.as_str(), status.send_tag.as_str()),
            ("order=1", "AZ3kq0p2cXKkzqv1b5c-_w")
        );
        let Fact::Concerns { moved: Moved::Message { id, status, .. }, .. } =
            fact(&segments.envelope, &segments.typed)
        else {
            panic!("expected a status")
        };
        assert_eq!((id.as_str(), status.as_str()), ("wamid.A", "sent"));
    }

    fn field(name: &str, raw: &serde_json::Value) -> Event {
        let refused = Verdict {
            class: Class::FailedPrecondition,
            reason: Reason::UpstreamRefused,
            actor: Actor::Meta,
            retry: Retry::AfterChange,
        };
        let payload = Payload::Field { name: name.to_owned(), verdicts: vec![(138_021, refused)] };
        let mut event = event(payload, &raw.to_string());
        event.attributes.event_type = format!("whatsapp.{name}");
        event
    }

    fn call(fields: &serde_json::Value) -> Event {
        let mut call = json!({"id": "wacid.A", "from": "16505551234", "timestamp": "1750030073",
            "direction": "USER_INITIATED", "event": "connect"});
        call.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        field("calls", &json!({"contacts": [{"user_id": "US.13"}], "calls": [call]}))
    }

    #[test]
    fn a_field_is_typed_by_its_name() {
        let raw = json!({"event": "APPROVED", "message_template_id": 12_345_678_901_234_567_u64});
        let decoded = decode(&encode(&field("message_template_status_update", &raw), ""));
        let Some(v1::event::Payload::MessageTemplateStatusUpdate(update)) = decoded.payload else {
            panic!("expected a template's status")
        };
        assert_eq!(update.message_template_id, "12345678901234567");
        // Arms that are no webhook fields are not reached by a field of their name.
        for other in ["hologram", "message", "status", "error", "unknown", "payload", ""] {
            let decoded = decode(&encode(&field(other, &json!({"id": "1"})), ""));
            let Some(v1::event::Payload::Unknown(unknown)) = decoded.payload else { panic!("{other}") };
            assert_eq!(unknown.reason, "the gateway passes this field on as JSON");
        }
        let strange = field("automatic_events", &json!({"event": "new", "details": {}}));
        let Some(v1::event::Payload::Unknown(unknown)) = decode(&encode(&strange, "")).payload else {
            panic!("expected unknown")
        };
        assert_eq!(unknown.reason, "no field of the value is known");
    }

    #[test]
    fn errors_anywhere_in_a_value_get_their_verdict() {
        let raw =
            json!({"errors": [{"code": 138_021}, {"code": 1}], "calls": [{"errors": [{"code": 138_021}]}]});
        let decoded = decode(&encode(&field("calls", &raw), ""));
        let Some(v1::event::Payload::Calls(calls)) = decoded.payload else { panic!("expected calls") };
        let reason = |error: &v1::WebhookError| error.verdict.as_ref().map(|verdict| verdict.reason.clone());
        assert_eq!(reason(&calls.errors[0]).as_deref(), Some("UPSTREAM_REFUSED"));
        assert_eq!(reason(&calls.errors[1]), None, "not judged");
        assert_eq!(reason(&calls.calls[0].errors[0]).as_deref(), Some("UPSTREAM_REFUSED"));
    }

    fn moved_by(event: &Event) -> Option<Moved> {
        let segments = encode(event, "");
        match fact(&segments.envelope, &segments.typed) {
            Fact::Concerns { moved, .. } => Some(moved),
            Fact::Other => None,
        }
    }

    #[test]
    fn a_users_call_opens_the_window() {
        let at = |seconds| Moved::Window(UNIX_EPOCH + Duration::from_secs(seconds));
        assert_eq!(moved_by(&call(&json!({}))), Some(at(1_750_030_073)));
        assert_eq!(moved_by(&call(&json!({"timestamp": "1750030000"}))), Some(at(1_750_030_000)));
        let ahead = moved_by(&call(&json!({"timestamp": "1950030073"})));
        assert_eq!(ahead, Some(at(1_750_030_074)), "not in the future");
        for other in [json!({"direction": "BUSINESS_INITIATED"}), json!({"event": "terminate"})] {
            assert_eq!(moved_by(&call(&other)), Some(Moved::Nothing), "{other}");
        }
        let of_many = Event { user: UserIdentity::default(), ..call(&json!({})) };
        assert_eq!(moved_by(&of_many), None);
        let echo = json!({"message_echoes": [{"from": "1555", "to": "16505551234", "timestamp": "1750030073",
            "type": "text", "text": {"body": "Hi"}}]});
        assert_eq!(moved_by(&field("smb_message_echoes", &echo)), Some(Moved::Nothing));
    }

    #[test]
    fn what_a_user_writes_on_standby_opens_the_window() {
        let raw = json!({"standby": {"messages": [{"from": "16505551234", "timestamp": "1750030073",
            "type": "text", "text": {"body": "Hi"}}], "statuses": [{"id": "wamid.A", "status": "sent",
            "biz_opaque_callback_data": "g1.AZ3kq0p2cXKkzqv1b5c-_w.order=1"}]}});
        let event = field("standby", &raw);
        let written = UNIX_EPOCH + Duration::from_secs(1_750_030_073);
        assert_eq!(moved_by(&event), Some(Moved::Window(written)));
        let payload = decode(&encode(&event, "")).payload;
        let Some(v1::event::Payload::Standby(value)) = payload else { panic!("standby") };
        let status = &value.standby.unwrap().statuses[0];
        assert_eq!(
            (status.callback_data.as_str(), status.send_tag.as_str()),
            ("order=1", "AZ3kq0p2cXKkzqv1b5c-_w")
        );
    }

    #[test]
    fn what_does_not_fit_stays_untyped() {
        let raw = r#"{"id":"wamid.A","type":"text","text":"no object"}"#;
        let decoded = decode(&encode(&event(Payload::Message { contact: None }, raw), ""));
        let Some(v1::event::Payload::Unknown(unknown)) = decoded.payload else { panic!("expected unknown") };
        assert_eq!(unknown.reason, "text is not an object");
        assert_eq!(decoded.raw_json, raw);
    }

    #[test]
    fn an_event_that_would_not_fit_leaves_its_payload_out() {
        let raw =
            format!(r#"{{"id":"wamid.A","type":"text","text":{{"body":"{}"}}}}"#, "x".repeat(2_500_000));
        let decoded = decode(&encode(&event(Payload::Message { contact: None }, &raw), ""));
        assert!(decoded.payload_omitted);
        assert!(decoded.payload.is_none());
        assert_eq!(decoded.raw_json, raw);
    }

    #[test]
    fn a_contact_comes_with_the_message() {
        let contact = r#"{"profile":{"name":"Sheena"},"wa_id":"16505551234","user_id":"US.13"}"#.to_owned();
        let raw =
            r#"{"from":"16505551234","id":"wamid.A","timestamp":"1","type":"text","text":{"body":"Hi"}}"#;
        let segments = encode(&event(Payload::Message { contact: Some(contact) }, raw), "");
        let Some(v1::event::Payload::Message(message)) = decode(&segments).payload else {
            panic!("a message")
        };
        assert_eq!(message.contact.unwrap().profile.unwrap().name, "Sheena");
    }

    #[test]
    fn a_message_that_cannot_be_typed_still_names_its_user() {
        let raw = r#"{"from":"16505551234","id":"wamid.A","timestamp":"noon","type":"text","text":[1]}"#;
        let segments = encode(&event(Payload::Message { contact: None }, raw), "");
        let Fact::Concerns { user, moved: Moved::Window(time), .. } =
            fact(&segments.envelope, &segments.typed)
        else {
            panic!("a user wrote")
        };
        assert_eq!(user.wa_id.unwrap().expose(), "16505551234");
        assert_eq!(time, UNIX_EPOCH + Duration::from_secs(1_750_030_073));
    }
}
