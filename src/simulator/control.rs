//! `/_simulator/...`: how a test tells the simulator what should happen, and sees what did.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Path, Query, State as Extract};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::StatusCode;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::content::Content;
use super::faults::PlannedFault;
use super::inbound::{self, InboundMessage};
use super::limits::Limiter;
use super::media::{Medium, UPLOADED_LIFETIME, kind_of};
use super::outbox::NewPost;
use super::requests::Filter;
use super::world::World;
use super::{help, numbers, template_api, wire};

type Shared = Extract<Arc<World>>;

/// The control endpoints.
pub(super) fn router(world: Arc<World>) -> Router {
    Router::new()
        .route("/_simulator", get(help))
        .route("/_simulator/messages", post(receive_message))
        .route("/_simulator/webhooks", post(send_webhook))
        .route("/_simulator/media", post(add_media))
        .route("/_simulator/templates", post(put_template))
        .route("/_simulator/templates/{id}", post(change_template))
        .route("/_simulator/numbers/{id}", post(change_number))
        .route("/_simulator/wabas/{id}", post(change_waba))
        .route("/_simulator/tokens", post(change_tokens))
        .route("/_simulator/requests", get(requests))
        .route("/_simulator/deliveries", get(deliveries))
        .route("/_simulator/faults", get(faults).post(plan_fault))
        .route("/_simulator/limits", get(limits).post(set_limits))
        .route("/_simulator/delays", get(delays).post(set_delays))
        .route("/_simulator/webhook_url", post(set_webhook_url))
        .route("/_simulator/reset", post(reset))
        .layer(axum::extract::DefaultBodyLimit::max(16 * 1024 * 1024))
        .with_state(world)
}

/// Why a control call was refused; always 400.
#[derive(Debug)]
struct Refusal(String);

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (StatusCode::BAD_REQUEST, Json(json!({ "error": self.0 }))).into_response()
    }
}

impl From<String> for Refusal {
    fn from(text: String) -> Self {
        Self(text)
    }
}

type Answer = Result<Json<Value>, Refusal>;

/// Reads a body; the refusal names the field that is wrong.
fn parse<T: DeserializeOwned>(body: &Bytes) -> Result<T, Refusal> {
    serde_json::from_slice(body).map_err(|error| Refusal(format!("the body cannot be used: {error}")))
}

async fn help(Extract(world): Shared) -> Json<Value> {
    Json(help::page(&world))
}

async fn receive_message(Extract(world): Shared, body: Bytes) -> Answer {
    let inbound: InboundMessage = parse(&body)?;
    Ok(Json(inbound::receive(&world, inbound)?))
}

/// What `POST /_simulator/webhooks` takes.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct AnyWebhook {
    /// Any JSON; sent with Meta's escapes and otherwise as written.
    body: Option<Box<RawValue>>,
    /// Any bytes; sent as they are.
    raw_base64: Option<String>,
    /// Whether to answer only after the first attempt; true if absent.
    #[serde(default = "yes")]
    wait: bool,
    /// Whether to try again until it is taken.
    #[serde(default)]
    retry: bool,
    #[serde(default)]
    signature: SignatureKind,
}

fn yes() -> bool {
    true
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
enum SignatureKind {
    #[default]
    Valid,
    Wrong,
    Missing,
}

async fn send_webhook(Extract(world): Shared, body: Bytes) -> Answer {
    let webhook: AnyWebhook = parse(&body)?;
    let body = match (webhook.body, webhook.raw_base64) {
        (Some(body), None) => Bytes::from(wire::escape(body.get())),
        (None, Some(raw)) => Bytes::from(
            STANDARD.decode(raw).map_err(|error| Refusal(format!("raw_base64 is not base64: {error}")))?,
        ),
        _ => return Err(Refusal("exactly one of body and raw_base64 is required".to_owned())),
    };
    if webhook.wait && world.webhook_url().is_none() {
        return Err(Refusal("no webhook URL is set, so there is nothing to wait for".to_owned()));
    }
    let signature = match webhook.signature {
        SignatureKind::Valid => Some(wire::sign(&world.account.app_secret, &body)),
        SignatureKind::Wrong => Some(wire::sign("not the app secret", &body)),
        SignatureKind::Missing => None,
    };
    // A queue of its own: it waits for nothing and holds nothing up.
    let queue = format!("control {}", world.ids.number());
    let new = NewPost { queue, body, signature, may_retry: webhook.retry };
    let (id, first_attempt) = world.outbox.push(new, world.now());
    if !webhook.wait {
        return Ok(Json(json!({ "delivery_id": id })));
    }
    let attempt = first_attempt.await.map_err(|_| Refusal("the webhook was dropped".to_owned()))?;
    Ok(Json(json!({ "delivery_id": id, "status": attempt.status, "error": attempt.error })))
}

/// What `POST /_simulator/media` takes.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct NewMedium {
    id: Option<String>,
    phone_number_id: Option<String>,
    mime_type: String,
    /// The content; or only its size.
    content_base64: Option<String>,
    bytes: Option<usize>,
    /// 0 for one that has expired already; 30 days if absent.
    expires_in_seconds: Option<u64>,
}

async fn add_media(Extract(world): Shared, body: Bytes) -> Answer {
    let new: NewMedium = parse(&body)?;
    if kind_of(&new.mime_type).is_none() {
        return Err(Refusal(format!("mime_type is not one that Meta takes: {}", new.mime_type)));
    }
    let content = match (new.content_base64, new.bytes) {
        (Some(content), None) => STANDARD
            .decode(content)
            .map(|content| Content::of(content.into()))
            .map_err(|error| Refusal(format!("content_base64 is not base64: {error}")))?,
        (None, Some(bytes)) if bytes <= super::media::UPLOAD_BYTES_MAX => Content::filled(bytes),
        (None, Some(_)) => return Err(Refusal("bytes is more than an upload may have".to_owned())),
        _ => return Err(Refusal("exactly one of content_base64 and bytes is required".to_owned())),
    };
    let number = match &new.phone_number_id {
        Some(id) => world.number(id),
        None => world.account.numbers.first(),
    };
    let number = number.ok_or_else(|| Refusal("phone_number_id is unknown".to_owned()))?;
    let id = new.id.unwrap_or_else(|| world.ids.number().to_string());
    let lifetime = new.expires_in_seconds.map_or(UPLOADED_LIFETIME, Duration::from_secs);
    let expires = Some(world.now() + lifetime);
    let medium = Medium::new(id, &number.phone_number_id, &new.mime_type, content, expires);
    let answer = json!({ "id": medium.id, "sha256": medium.sha256_hex(), "bytes": medium.content.len });
    world.state().media.insert(medium);
    Ok(Json(answer))
}

/// What `POST /_simulator/templates` takes: a creation, with the status it should have.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct PutTemplate {
    waba_id: Option<String>,
    #[serde(default = "approved")]
    status: String,
    template: Value,
}

fn approved() -> String {
    "APPROVED".to_owned()
}

async fn put_template(Extract(world): Shared, body: Bytes) -> Answer {
    let put: PutTemplate = parse(&body)?;
    let first = world.account.numbers.first().map(|number| number.waba_id.clone());
    let waba_id = put.waba_id.or(first).filter(|id| world.account.has_waba(id));
    let waba_id = waba_id.ok_or_else(|| Refusal("waba_id is unknown".to_owned()))?;
    Ok(Json(template_api::forced::put(&world, &waba_id, &put.status.to_ascii_uppercase(), &put.template)?))
}

async fn change_template(Extract(world): Shared, Path(id): Path<String>, body: Bytes) -> Answer {
    let id = id.parse().map_err(|_| Refusal(format!("{id} is no id of a template")))?;
    Ok(Json(template_api::forced::change(&world, id, &parse(&body)?)?))
}

async fn change_number(Extract(world): Shared, Path(id): Path<String>, body: Bytes) -> Answer {
    Ok(Json(numbers::change_number(&world, &id, &parse(&body)?)?))
}

async fn change_waba(Extract(world): Shared, Path(id): Path<String>, body: Bytes) -> Answer {
    Ok(Json(numbers::change_waba(&world, &id, &parse(&body)?)?))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Tokens {
    expire_at: u64,
}

async fn change_tokens(Extract(world): Shared, body: Bytes) -> Answer {
    let Tokens { expire_at } = parse(&body)?;
    world.state().standing.tokens_expire_at = expire_at;
    Ok(Json(json!({ "expire_at": expire_at })))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RequestsQuery {
    path: Option<String>,
    method: Option<String>,
    after: Option<u64>,
}

async fn requests(Extract(world): Shared, query: Query<RequestsQuery>) -> Json<Value> {
    let RequestsQuery { path, method, after } = query.0;
    Json(world.state().requests.to_json(&Filter { path, method, after }))
}

async fn deliveries(Extract(world): Shared) -> Json<Value> {
    Json(world.outbox.to_json())
}

async fn faults(Extract(world): Shared) -> Json<Value> {
    let state = world.state();
    let waiting = state.faults.waiting();
    Json(waiting.map(|(id, planned)| json!({ "id": id, "planned": planned })).collect())
}

/// Takes one fault or an array of them.
async fn plan_fault(Extract(world): Shared, body: Bytes) -> Answer {
    let is_array = body.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'[');
    let planned: Vec<PlannedFault> = if is_array { parse(&body)? } else { vec![parse(&body)?] };
    let mut state = world.state();
    let ids = planned.into_iter().map(|fault| state.faults.plan(fault)).collect::<Result<Vec<_>, _>>()?;
    Ok(Json(json!({ "ids": ids })))
}

/// Changes only the fields that the body names.
fn merged<T: Serialize + DeserializeOwned>(current: &T, body: &Bytes) -> Result<T, Refusal> {
    let changes: serde_json::Map<String, Value> = parse(body)?;
    let mut all = serde_json::to_value(current).map_err(|error| Refusal(error.to_string()))?;
    if let Some(fields) = all.as_object_mut() {
        fields.extend(changes);
    }
    serde_json::from_value(all).map_err(|error| Refusal(format!("the body cannot be used: {error}")))
}

async fn limits(Extract(world): Shared) -> Json<Value> {
    Json(json!(world.state().limits))
}

async fn set_limits(Extract(world): Shared, body: Bytes) -> Answer {
    let mut state = world.state();
    state.limits = merged(&state.limits, &body)?;
    // What was borrowed under the old limits says nothing under the new ones.
    state.throughput = Limiter::default();
    state.pairs = Limiter::default();
    Ok(Json(json!(state.limits)))
}

async fn delays(Extract(world): Shared) -> Json<Value> {
    Json(json!(world.state().delays))
}

async fn set_delays(Extract(world): Shared, body: Bytes) -> Answer {
    let mut state = world.state();
    state.delays = merged(&state.delays, &body)?;
    Ok(Json(json!(state.delays)))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct WebhookUrl {
    url: String,
}

async fn set_webhook_url(Extract(world): Shared, body: Bytes) -> Answer {
    let WebhookUrl { url } = parse(&body)?;
    world.set_webhook_url(url.clone());
    Ok(Json(json!({ "url": url })))
}

async fn reset(Extract(world): Shared) -> Json<Value> {
    world.reset();
    Json(json!({ "reset": true }))
}
