//! A user writes: from the control call to the webhook.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::account::Number;
use super::faults::{Subject, WebhookShape};
use super::ids::Direction;
use super::media::{Medium, RECEIVED_LIFETIME};
use super::statuses::{contact, conversation_queue, metadata};
use super::users::User;
use super::webhooks::Update;
use super::world::World;
use super::{media_api, phone, unix_seconds};

/// What `POST /_simulator/messages` takes: `text`, or a whole `message` as webhooks carry it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct InboundMessage {
    /// The user's number. Without it `user_id` is needed.
    from: Option<String>,
    /// The user's business-scoped id; derived from the number if absent.
    user_id: Option<String>,
    /// The profile name.
    name: Option<String>,
    /// Leaves the number out of the webhook.
    #[serde(default)]
    hide_phone_number: bool,
    /// The number that is written to; the first one if absent.
    phone_number_id: Option<String>,
    text: Option<String>,
    message: Option<Map<String, Value>>,
}

/// Receives a message: opens the window, counts it, reports it. Returns its wamid.
pub(super) fn receive(world: &World, inbound: InboundMessage) -> Result<Value, String> {
    let number = recipient(world, inbound.phone_number_id.as_deref())?;
    let (wa_id, user) = sender(world, &inbound, number)?;
    let mut message = content(inbound.text, inbound.message)?;
    let now = world.now();
    let address = wa_id.as_deref().unwrap_or(&user.user_id);
    let id = match message.get("id").and_then(Value::as_str) {
        Some(id) => id.to_owned(),
        None => world.ids.wamid(address, Direction::FromUser),
    };
    message.insert("id".to_owned(), json!(id));
    let time = timestamp(&message, now)?;
    message.entry("timestamp").or_insert_with(|| json!(unix_seconds(now).to_string()));
    if let Some(wa_id) = &user.wa_id {
        message.insert("from".to_owned(), json!(wa_id));
    }
    message.insert("from_user_id".to_owned(), json!(user.user_id));
    fill_media(world, number, &mut message);

    let mut state = world.state();
    state.users.learn(&user);
    state.users.open_window(&number.phone_number_id, &user.user_id, time);
    state.inbound_ids.insert(&id);
    let rate = state.throughput_of(&number.phone_number_id);
    state.throughput.charge(&number.phone_number_id, rate, now);
    let taken = state.faults.take(Subject::Inbound { from: address });
    drop(state);

    let value = json!({
        "messaging_product": "whatsapp",
        "metadata": metadata(number),
        "contacts": [contact(&user)],
        "messages": [message],
    });
    let update = Update {
        waba_id: number.waba_id.clone(),
        field: "messages",
        value,
        time: None,
        queue: conversation_queue(number, &user.user_id),
    };
    world.report(update, taken.map_or_else(WebhookShape::default, |taken| taken.shape));
    Ok(json!({ "message_id": id, "wa_id": user.wa_id, "user_id": user.user_id }))
}

fn recipient<'a>(world: &'a World, phone_number_id: Option<&str>) -> Result<&'a Number, String> {
    let number = match phone_number_id {
        Some(id) => world.number(id),
        None => world.account.numbers.first(),
    };
    number.ok_or_else(|| {
        let known: Vec<&str> =
            world.account.numbers.iter().map(|number| number.phone_number_id.as_str()).collect();
        format!("phone_number_id is not one of {}", known.join(", "))
    })
}

/// The sender's real `wa_id`, and the user as the webhook shows them.
fn sender(
    world: &World,
    inbound: &InboundMessage,
    number: &Number,
) -> Result<(Option<String>, User), String> {
    let wa_id = match &inbound.from {
        None => None,
        Some(from) => Some(
            phone::read(from, &number.display_phone_number)
                .ok_or_else(|| format!("from is not a phone number: {from}"))?,
        ),
    };
    if let Some(user_id) = inbound.user_id.as_ref().filter(|user_id| !phone::is_user_id(user_id)) {
        return Err(format!("user_id is not a business-scoped user id: {user_id}"));
    }
    let state = world.state();
    let mut user = match (&wa_id, &inbound.user_id) {
        (Some(wa_id), Some(user_id)) => User { user_id: user_id.clone(), ..state.users.with_wa_id(wa_id) },
        (Some(wa_id), None) => state.users.with_wa_id(wa_id),
        (None, Some(user_id)) => state.users.with_user_id(user_id),
        (None, None) => return Err("from or user_id is required".to_owned()),
    };
    drop(state);
    if inbound.name.is_some() {
        user.name.clone_from(&inbound.name);
    }
    if inbound.hide_phone_number {
        user.wa_id = None;
    }
    Ok((wa_id, user))
}

fn content(text: Option<String>, message: Option<Map<String, Value>>) -> Result<Map<String, Value>, String> {
    let message = match (text, message) {
        (Some(_), Some(_)) => return Err("text and message exclude each other".to_owned()),
        (None, None) => return Err("text or message is required".to_owned()),
        (None, Some(message)) => message,
        (Some(text), None) => {
            let mut message = Map::new();
            message.insert("type".to_owned(), json!("text"));
            message.insert("text".to_owned(), json!({ "body": text }));
            message
        }
    };
    if !message.get("type").is_some_and(Value::is_string) {
        return Err("message.type is required and must be a string".to_owned());
    }
    Ok(message)
}

/// When the user wrote: the message's own timestamp, or now.
fn timestamp(message: &Map<String, Value>, now: SystemTime) -> Result<SystemTime, String> {
    let Some(timestamp) = message.get("timestamp") else { return Ok(now) };
    timestamp
        .as_str()
        .and_then(|text| text.parse().ok())
        .and_then(|seconds| UNIX_EPOCH.checked_add(Duration::from_secs(seconds)))
        .ok_or_else(|| "message.timestamp must be a string of Unix seconds".to_owned())
}

/// Media messages get what their author left out. Without an id they show a copy of a ready medium, under an
/// id of its own; with the id of a known medium they get its type, checksum and URL.
fn fill_media(world: &World, number: &Number, message: &mut Map<String, Value>) {
    let kind = message.get("type").and_then(Value::as_str).unwrap_or_default().to_owned();
    if !["image", "video", "audio", "document", "sticker"].contains(&kind.as_str()) {
        return;
    }
    let Some(object) = message.entry(kind.clone()).or_insert_with(|| json!({})).as_object_mut() else {
        return;
    };
    let now = world.now();
    let known = object.get("id").and_then(Value::as_str).map(str::to_owned);
    let medium = match known {
        Some(id) => world.state().media.get(&id, now).cloned(),
        None => copy_of_ready(world, number, &kind),
    };
    let Some(medium) = medium else { return };
    if let Value::Object(filled) = media_api::in_webhook(world, &medium) {
        for (key, value) in filled {
            object.entry(key).or_insert(value);
        }
    }
}

/// A ready medium of this kind under an id of its own, which lives as long as that of a received one.
fn copy_of_ready(world: &World, number: &Number, kind: &str) -> Option<Medium> {
    let id = world.ids.number().to_string();
    let expires = Some(world.now() + RECEIVED_LIFETIME);
    let mut state = world.state();
    let ready = state.media.ready(&number.phone_number_id, kind)?;
    let content = std::sync::Arc::clone(&ready.content);
    let copy = Medium::new(id, &number.phone_number_id, &ready.mime_type, content, expires);
    state.media.insert(copy.clone());
    Some(copy)
}
