//! A domain event → the three segments of an encoded `Event` that the log stores.
//!
//! Each view that a subscriber may ask for is a concatenation of segments; the cursor is appended on reading. A typed
//! payload that does not fit its message is left untyped, never refused: the exact JSON stays beside it.

mod notice;
mod own;

use std::time::SystemTime;

use bytes::Bytes;
use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint};
use serde_json::{Map, Value, json};

use super::schema::Schema;
use super::{from_json, v1};
use crate::domain::conversation::UserIdentity;
use crate::domain::event::{
    CALLS, Event, Fact, MESSAGE_RECEIVED, MESSAGE_STATUS, MessageError, Moved, Payload, STANDBY,
    StatusReport, TEMPLATES,
};
use crate::domain::failure::Verdict;
use crate::domain::ids::{BusinessScopedUserId, PhoneNumberId, WaId};
use crate::domain::message::SendTag;
use crate::domain::window::{FREE_ENTRY_DURATION, Moment};

/// Bytes that an encoded event may have: gRPC clients accept messages of 4 MiB by default, and the frame around it
/// needs room.
pub const EVENT_BYTES_MAX: usize = 3_900_000;

const MESSAGE_FIELD: u32 = 20;
const STATUS_FIELD: u32 = 21;
const ERROR_FIELD: u32 = 22;
const UNKNOWN_FIELD: u32 = 59;
const FALLBACK_FIELD: u32 = 60;
const SEND_FIELD: u32 = 61;
const NUMBER_FIELD: u32 = 62;

/// The type of a payment's status.
const PAYMENT: &str = "payment";

/// What opened a conversation with a free entry point (reference 4.5).
const FREE_ENTRY: &str = "referral_conversion";

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
        origin: (!is_own(&event.payload)).then(|| v1::EventOrigin {
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
    if let Some(notice) = notice::notice(&event, typed) {
        return Fact::Account(Box::new(notice));
    }
    let named = event.user.unwrap_or_default();
    let user = UserIdentity {
        wa_id: WaId::parse(&named.wa_id).ok(),
        user_id: BusinessScopedUserId::parse(&named.user_id).ok(),
    };
    if TEMPLATES.iter().any(|of_templates| event.r#type.starts_with(of_templates)) {
        let payload = v1::Event::decode(typed).ok().and_then(|event| event.payload);
        return Fact::Template { waba_id: event.waba_id, name: template_name(payload) };
    }
    let Ok(phone_number_id) = PhoneNumberId::parse(&event.phone_number_id) else { return Fact::Other };
    if user.is_empty() && event.r#type != MESSAGE_STATUS {
        return Fact::Other;
    }
    let conversation_key = event.conversation_key;
    let receive_time = event.receive_time.and_then(|t| SystemTime::try_from(t).ok());
    let time = limited(event.event_time, receive_time).or(receive_time);
    let payload = || v1::Event::decode(typed).ok().and_then(|event| event.payload);
    let moved = match (event.r#type.as_str(), time) {
        (MESSAGE_RECEIVED, Some(time)) => inbound(payload(), time).map(Moved::Window),
        (MESSAGE_STATUS, Some(time)) => payload().and_then(|payload| moved_message(payload, time)),
        (CALLS | STANDBY, _) => {
            let time = payload().and_then(|payload| limited(opening_time(payload), receive_time));
            time.map(|time| Moved::Window(Moment::Inbound { time, is_referral: false }))
        }
        (_, _) => None,
    };
    Fact::Concerns { phone_number_id, conversation_key, user, moved: moved.unwrap_or(Moved::Nothing) }
}

/// The template that something happened to (reference 4.7); empty if it could not be typed.
fn template_name(payload: Option<v1::event::Payload>) -> String {
    use v1::event::Payload as P;
    match payload {
        Some(P::MessageTemplateStatusUpdate(value)) => value.message_template_name,
        Some(P::MessageTemplateQualityUpdate(value)) => value.message_template_name,
        Some(P::MessageTemplateComponentsUpdate(value)) => value.message_template_name,
        Some(P::TemplateCategoryUpdate(value)) => value.message_template_name,
        Some(P::TemplateCorrectCategoryDetection(value)) => value.message_template_name,
        Some(_) | None => String::new(),
    }
}

/// A message of the user's; `None` for one that Meta wrote about them. What could not be typed is the user's.
fn inbound(payload: Option<v1::event::Payload>, time: SystemTime) -> Option<Moment> {
    let message = match payload {
        Some(v1::event::Payload::Message(message)) => message,
        Some(_) | None => v1::ReceivedMessage::default(),
    };
    let is_system = matches!(message.content, Some(v1::received_message::Content::System(_)));
    (!is_system).then_some(Moment::Inbound { time, is_referral: message.referral.is_some() })
}

/// The end of the free entry point of a status of that time, if the conversation is one.
fn free_entry(conversation: v1::PricingConversation, time: SystemTime) -> Option<SystemTime> {
    let is_free_entry = conversation.origin.is_some_and(|origin| origin.r#type == FREE_ENTRY);
    limited(conversation.expiration_timestamp.filter(|_| is_free_entry), Some(time + FREE_ENTRY_DURATION))
}

fn moved_message(payload: v1::event::Payload, time: SystemTime) -> Option<Moved> {
    let v1::event::Payload::Status(status) = payload else { return None };
    // The status of a payment says nothing of the message that asks for it.
    (status.r#type != PAYMENT).then(|| {
        Moved::Message(Box::new(StatusReport {
            message_id: status.id,
            status: status.status,
            time,
            send_tag: SendTag::parse(&status.send_tag).ok(),
            error: status.errors.into_iter().next().map(message_error),
            free_entry_until: status.conversation.and_then(|conversation| free_entry(conversation, time)),
        }))
    })
}

fn message_error(error: v1::WebhookError) -> MessageError {
    let v1::WebhookError { code, title, message, error_data, .. } = error;
    let details = error_data.map(|data| data.details).filter(|details| !details.is_empty());
    let details = details.or_else(|| Some(message).filter(|message| *message != title)).unwrap_or_default();
    MessageError { code, title, details }
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
        Payload::Fallback(report) => {
            return as_field(FALLBACK_FIELD, &own::fallback(report).encode_to_vec());
        }
        Payload::Send(report) => return as_field(SEND_FIELD, &own::send(report).encode_to_vec()),
        Payload::Number(report) => return as_field(NUMBER_FIELD, &own::number(report).encode_to_vec()),
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

/// Whether the gateway itself did it.
fn is_own(payload: &Payload) -> bool {
    matches!(payload, Payload::Fallback(_) | Payload::Send(_) | Payload::Number(_))
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
        Payload::Fallback(_) | Payload::Send(_) | Payload::Number(_) | Payload::Unknown { .. } => {}
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
mod tests;
