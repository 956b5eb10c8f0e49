//! Sending messages and marking them read: `POST /{phone number id}/messages`, and `marketing_messages` for the
//! Marketing Messages API (reference 2.1).

use bytes::Bytes;
use http::Method;
use secrecy::SecretString;
use serde::Deserialize;
use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::json;

use super::body::Departure;
use super::client::{Call, Client};
use super::error::Error;
use super::error_code::Operation;
use super::value_json::Json;
use crate::domain::ids::{BusinessScopedUserId, GroupId, MessageId, PhoneNumberId};
use crate::domain::message::{
    Endpoint, MessageAcceptance, OutboundMessage, PhoneNumber, PreparedMessage, Receipt, Recipient, SendTag,
};

/// The last part of an endpoint's path, and the path as traces name it.
const MESSAGES: (&str, &str) = ("messages", "/{phone_number_id}/messages");
const MARKETING_MESSAGES: (&str, &str) = ("marketing_messages", "/{phone_number_id}/marketing_messages");

/// The template that a message in Meta's JSON sends, by its name; `None` if it sends none.
pub fn template_name(json: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct Body {
        template: Template,
    }
    #[derive(Deserialize)]
    struct Template {
        name: String,
    }
    serde_json::from_str(json).ok().map(|Body { template: Template { name } }| name)
}

impl Client {
    /// Sends a message, once; no byte of it leaves before its departure. An answer that cannot be understood leaves the outcome
    /// unknown.
    pub async fn send_message(
        &self,
        access_token: &SecretString,
        message: &PreparedMessage,
        departure: Departure,
    ) -> Result<Receipt, Error> {
        let body = message.json.clone().into_bytes();
        let (edge, template) = match message.endpoint {
            Endpoint::Messages => MESSAGES,
            Endpoint::MarketingMessages => MARKETING_MESSAGES,
        };
        let path = [message.phone_number_id.as_str(), edge];
        let call = post(Operation::Send, template, &path, body);
        let answer = self.call_departing(access_token, call, departure).await?;
        let (message_id, acceptance, recipient) = read_receipt(&answer, &message.recipient)
            .ok_or_else(|| Error::lost(Operation::Send, "the answer names no message".to_owned()))?;
        Ok(Receipt { message_id, acceptance, recipient, accept_time: self.clock.now() })
    }

    /// Marks a received message and those before it as read; `is_typing` also shows the typing indicator, for
    /// 25 seconds or until the answer.
    pub async fn mark_read(
        &self,
        access_token: &SecretString,
        number: &PhoneNumberId,
        message_id: &MessageId,
        is_typing: bool,
    ) -> Result<(), Error> {
        let mut body =
            json!({"messaging_product": "whatsapp", "status": "read", "message_id": message_id.as_str()});
        if let (true, Some(fields)) = (is_typing, body.as_object_mut()) {
            fields.insert("typing_indicator".to_owned(), json!({"type": "text"}));
        }
        let body = body.to_string().into_bytes();
        let (edge, template) = MESSAGES;
        let path = [number.as_str(), edge];
        let answer = self.call(access_token, post(Operation::Write, template, &path, body)).await?;
        let answer: serde_json::Value = serde_json::from_slice(&answer).unwrap_or_default();
        match answer.get("success") {
            Some(success) if success == &json!(true) || success == "true" => Ok(()),
            Some(_) | None => {
                Err(Error::lost(Operation::Write, "the answer does not say that it was done".to_owned()))
            }
        }
    }
}

fn post<'a>(operation: Operation, template: &'static str, path: &'a [&'a str], body: Vec<u8>) -> Call<'a> {
    let body = Some(Bytes::from(body));
    Call { operation, method: Method::POST, template, path, query: &[], body }
}

/// The message as it goes to Meta under this tag.
pub fn prepare(message: &OutboundMessage, tag: &SendTag) -> PreparedMessage {
    PreparedMessage {
        phone_number_id: message.phone_number_id.clone(),
        recipient: message.recipient.clone(),
        endpoint: message.endpoint,
        json: request_json(message, Some(tag)),
    }
}

/// The JSON that goes to Meta. Whole numbers go as integers; beyond 2^53 a fraction's type cannot tell them
/// apart, so they go as they are.
pub fn request_json(message: &OutboundMessage, tag: Option<&SendTag>) -> String {
    serde_json::to_string(&Request { message, tag }).unwrap_or_default()
}

struct Request<'a> {
    message: &'a OutboundMessage,
    tag: Option<&'a SendTag>,
}

impl Serialize for Request<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self { message, tag } = self;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("messaging_product", "whatsapp")?;
        match &message.recipient {
            Recipient::PhoneNumber(number) => {
                map.serialize_entry("recipient_type", "individual")?;
                map.serialize_entry("to", &number.international())?;
            }
            Recipient::User(user_id) => {
                map.serialize_entry("recipient_type", "individual")?;
                map.serialize_entry("recipient", user_id.expose())?;
            }
            Recipient::Group(group_id) => {
                map.serialize_entry("recipient_type", "group")?;
                map.serialize_entry("to", group_id.as_str())?;
            }
        }
        if let Some(quoted) = &message.reply_to {
            map.serialize_entry("context", &json!({"message_id": quoted.as_str()}))?;
        }
        let data = &message.callback_data;
        let data = tag.map_or_else(|| data.clone(), |tag| tag.wrap(data));
        if !data.is_empty() {
            map.serialize_entry("biz_opaque_callback_data", &data)?;
        }
        map.serialize_entry("type", &message.content.kind)?;
        map.serialize_entry(&message.content.kind, &Json(&message.content.body))?;
        for (name, value) in &message.content.extra {
            map.serialize_entry(name, &Json(value))?;
        }
        map.end()
    }
}

/// What a 200 says: 200 means accepted, not delivered (reference 2.1). Without a message id it says nothing.
fn read_receipt(
    body: &[u8],
    sent_to: &Recipient,
) -> Option<(MessageId, MessageAcceptance, Option<Recipient>)> {
    let answer: serde_json::Value = serde_json::from_slice(body).ok()?;
    let message = answer.get("messages")?.get(0)?;
    let message_id = MessageId::parse(message.get("id")?.as_str()?).ok()?;
    let acceptance = match message.get("message_status").and_then(serde_json::Value::as_str) {
        Some("held_for_quality_assessment") => MessageAcceptance::HeldForQualityAssessment,
        Some("paused") => MessageAcceptance::Paused,
        // Absent on some pages of Meta's, and new words may come: the id is the proof.
        Some(_) | None => MessageAcceptance::Accepted,
    };
    let contact = answer.get("contacts").and_then(|contacts| contacts.get(0));
    let recipient = contact.and_then(|contact| resolved(contact, sent_to));
    Some((message_id, acceptance, recipient))
}

/// The recipient as Meta resolved it: `wa_id` for a number (or the group again), `user_id` for a user.
fn resolved(contact: &serde_json::Value, sent_to: &Recipient) -> Option<Recipient> {
    let text = |name: &str| contact.get(name).and_then(serde_json::Value::as_str);
    let number = || Some(Recipient::PhoneNumber(PhoneNumber::parse(text("wa_id")?).ok()?));
    let user = || Some(Recipient::User(BusinessScopedUserId::parse(text("user_id")?).ok()?));
    match sent_to {
        Recipient::PhoneNumber(_) => number().or_else(user),
        Recipient::User(_) => user().or_else(number),
        Recipient::Group(_) => {
            Some(Recipient::Group(GroupId::parse(text("wa_id").or_else(|| text("input"))?).ok()?))
        }
    }
}

#[cfg(test)]
mod tests;
