//! `POST /{PNID}/messages`: sends, marks as read, typing; and `marketing_messages`, which only sends. Accepts or refuses, and plans what follows.

use serde_json::{Map, Value, json};

use super::account::Number;
use super::faults::WebhookShape;
use super::graph::{Call, Reply};
use super::graph_error::GraphError;
use super::ids::Direction;
use super::judge::{self, Draft, Facts, Recipient, judge};
use super::limits::Rate;
use super::magic::{self, Behavior};
use super::schedule::Task;
use super::statuses::{self, Accepted, Pricing, StatusUpdate, Step};
use super::users::User;
use super::world::{State, World};

/// Handles the endpoint.
pub(super) fn post(world: &World, call: &Call, phone_number_id: &str) -> Result<Reply, GraphError> {
    let number = world
        .number(phone_number_id)
        .ok_or_else(|| GraphError::no_such_object(&call.method, phone_number_id))?;
    let body =
        call.json.as_ref().ok_or_else(|| GraphError::because(100, "The request body is not valid JSON."))?;
    match body.as_object() {
        Some(fields) if fields.contains_key("status") && !call.path.ends_with("/marketing_messages") => {
            mark_read(world, fields)
        }
        _ => send(world, call, number, body),
    }
}

fn mark_read(world: &World, body: &Map<String, Value>) -> Result<Reply, GraphError> {
    judge::require_product(body)?;
    if judge::optional_str(body, "status")? != Some("read") {
        return Err(GraphError::parameter("Param status must be one of {READ}."));
    }
    let id = judge::optional_str(body, "message_id")?
        .ok_or_else(|| GraphError::because(131_008, "The parameter message_id is required."))?;
    if !world.state().inbound_ids.contains(id) {
        return Err(GraphError::because(131_009, "Param message_id is not the id of a received message."));
    }
    if let Some(typing) = body.get("typing_indicator")
        && typing.get("type").is_none_or(|kind| kind != "text")
    {
        return Err(GraphError::parameter("Param typing_indicator['type'] must be one of {TEXT}."));
    }
    let known = ["messaging_product", "status", "message_id", "typing_indicator"];
    if let Some(unknown) = body.keys().find(|key| !known.contains(&key.as_str())) {
        return Err(GraphError::parameter(format!("Unexpected key \"{unknown}\" on the request.")));
    }
    Ok(Reply::Json(json!({ "success": true })))
}

fn send(world: &World, call: &Call, number: &Number, body: &Value) -> Result<Reply, GraphError> {
    let now = world.now();
    let mut state = world.state();
    let facts = Facts {
        number,
        templates: &state.templates,
        media: &state.media,
        now,
        version: call.version,
        is_marketing: call.path.ends_with("/marketing_messages"),
    };
    if state.standing.is_disabled(&number.waba_id) {
        return Err(GraphError::of(131_031));
    }
    let draft = judge(body, &facts)?;
    let user = state.users.of(&draft.recipient);
    take_turn(&mut state, number, &draft, now)?;
    let behavior = match &draft.recipient {
        Recipient::Phone(wa_id) => magic::behavior(wa_id),
        Recipient::User(_) | Recipient::Group(_) => None,
    };
    match behavior {
        Some(Behavior::Refused(code)) => return Err(GraphError::of(code)),
        Some(Behavior::ServerErrorNotAccepted) => return Err(GraphError::of(131_000)),
        Some(Behavior::CutBeforeAcceptance) => return Ok(Reply::Cut),
        _ => {}
    }
    let delays = state.delays.clone();
    let is_open = match &user {
        Some(user) => {
            behavior.is_some() || state.users.is_window_open(&number.phone_number_id, &user.user_id, now)
        }
        None => true,
    };
    if let Some(template_id) = draft.template_id {
        state.templates.sent(template_id, now);
    }
    drop(state);

    let address = user.as_ref().and_then(|user| user.wa_id.as_deref()).unwrap_or(&draft.input);
    let message_id = world.ids.wamid(address, Direction::ToUser);
    let failure = failure(&draft, behavior, is_open);
    let shape = shape(call.shape, behavior);
    let steps = statuses::plan(failure, &draft.kind, behavior, shape.is_reversed, &delays);
    let answer = accepted_body(&draft, user.as_ref(), &message_id, behavior);
    let accepted = Accepted {
        message_id,
        number: number.clone(),
        pricing: pricing(&draft, is_open),
        recipient: draft.recipient,
        user,
        callback_data: draft.callback_data,
    };
    let has_delivered = steps.iter().any(|(_, step)| *step == Step::Delivered);
    for (delay, step) in steps {
        // The price comes with `sent` and with one of `delivered` and `read`.
        let has_pricing = match step {
            Step::Sent | Step::Delivered => true,
            Step::Read => !has_delivered,
            Step::Failed { .. } => false,
        };
        let update = StatusUpdate { accepted: accepted.clone(), step, has_pricing, shape };
        world.schedule.add(delay, Task::Status(Box::new(update)));
    }
    match behavior {
        Some(Behavior::ServerErrorAccepted) => Err(GraphError::of(131_000)),
        Some(Behavior::SlowAnswer) => Ok(Reply::Late(delays.slow_answer, answer)),
        Some(Behavior::CutAfterAcceptance) => Ok(Reply::Cut),
        Some(Behavior::NeverAnswers) => Ok(Reply::Never),
        _ => Ok(Reply::Json(answer)),
    }
}

/// The number's throughput and the pair's.
fn take_turn(
    state: &mut State,
    number: &Number,
    draft: &Draft,
    now: std::time::SystemTime,
) -> Result<(), GraphError> {
    let throughput = state.throughput_of(&number.phone_number_id);
    if !state.throughput.take(&number.phone_number_id, throughput, now) {
        return Err(GraphError::of(130_429));
    }
    let (Recipient::Phone(address) | Recipient::User(address)) = &draft.recipient else { return Ok(()) };
    let interval = std::time::Duration::from_millis(u64::from(state.limits.pair_interval_ms));
    let pair = Rate { interval, burst: state.limits.pair_burst };
    let key = format!("{} {address}", number.phone_number_id);
    if state.pairs.take(&key, pair, now) { Ok(()) } else { Err(GraphError::of(131_056)) }
}

/// Why the message will fail, if it will: magic first, then the window, then the content.
fn failure(draft: &Draft, behavior: Option<Behavior>, is_open: bool) -> Option<(u32, Option<String>)> {
    if let Some(Behavior::Fails(code)) = behavior {
        return Some((code, None));
    }
    if draft.template_category.is_none() && !is_open {
        return Some((131_047, None));
    }
    draft.late_failure.clone().map(|(code, details)| (code, Some(details)))
}

fn shape(shape: WebhookShape, behavior: Option<Behavior>) -> WebhookShape {
    match behavior {
        Some(Behavior::Doubled) => WebhookShape { duplicates: shape.duplicates + 1, ..shape },
        Some(Behavior::Reversed) => WebhookShape { is_reversed: true, ..shape },
        _ => shape,
    }
}

/// Free-form messages and, inside a window, utility templates cost nothing.
fn pricing(draft: &Draft, is_open: bool) -> Pricing {
    match &draft.template_category {
        None => Pricing { category: "service".to_owned(), is_free: true },
        Some(category) => {
            Pricing { category: category.to_ascii_lowercase(), is_free: category == "UTILITY" && is_open }
        }
    }
}

fn accepted_body(draft: &Draft, user: Option<&User>, message_id: &str, behavior: Option<Behavior>) -> Value {
    let status = if behavior == Some(Behavior::Held) { "held_for_quality_assessment" } else { "accepted" };
    let mut message = json!({ "id": message_id, "message_status": status });
    let contact = match &draft.recipient {
        Recipient::Phone(wa_id) => json!({ "input": draft.input, "wa_id": wa_id }),
        Recipient::User(_) => {
            json!({ "input": draft.input, "user_id": user.map(|user| user.user_id.as_str()) })
        }
        Recipient::Group(group) => {
            if let Some(fields) = message.as_object_mut() {
                fields.insert("group_id".to_owned(), json!(group));
            }
            json!({ "input": draft.input, "wa_id": group })
        }
    };
    json!({ "messaging_product": "whatsapp", "contacts": [contact], "messages": [message] })
}
