//! Reads of numbers and WABAs, and the subscription of the app to a WABA.

use http::Method;
use serde_json::{Value, json};

use super::account::Number;
use super::graph::{Call, Reply};
use super::graph_error::GraphError;
use super::world::World;
use super::{media_api, paging, template_api};

const NUMBER_FIELDS: &[&str] = &[
    "verified_name",
    "code_verification_status",
    "display_phone_number",
    "quality_rating",
    "platform_type",
    "throughput",
    "webhook_configuration",
];
const WABA_FIELDS: &[&str] = &["name", "timezone_id", "message_template_namespace"];

/// `/{ID}`: whatever has this id.
pub(super) fn node(world: &World, call: &Call, id: &str) -> Result<Reply, GraphError> {
    let is_read = call.method == Method::GET;
    if let Some(number) = world.number(id).filter(|_| is_read) {
        return read_number(world, call, number).map(Reply::Json);
    }
    if world.account.has_waba(id) && is_read {
        return paging::select(call, &waba(world, id), WABA_FIELDS, "WhatsAppBusinessAccount")
            .map(Reply::Json);
    }
    template_api::node(world, call, id, "")
        .or_else(|| media_api::node(world, call, id))
        .unwrap_or_else(|| Err(GraphError::no_such_object(&call.method, id)))
}

/// `GET /debug_token`, which the app alone may ask.
pub(super) fn debug_token(world: &World, call: &Call) -> Value {
    let is_valid = call.query("input_token").is_some_and(|token| world.account.has_token(token));
    let error = json!({ "code": 190, "message": "Invalid OAuth access token." });
    json!({ "data": {
        "app_id": world.account.app_id,
        "type": "SYSTEM_USER",
        "application": "Simulated app",
        "data_access_expires_at": 0,
        "expires_at": world.state().standing.tokens_expire_at,
        "is_valid": is_valid,
        "error": if is_valid { Value::Null } else { error },
        "scopes": ["whatsapp_business_management", "whatsapp_business_messaging"],
    }})
}

/// `GET /{WABA}/phone_numbers`.
pub(super) fn phone_numbers(world: &World, call: &Call, waba_id: &str) -> Result<Reply, GraphError> {
    if !world.account.has_waba(waba_id) {
        return Err(GraphError::no_such_object(&call.method, waba_id));
    }
    let numbers = world
        .account
        .numbers_of(waba_id)
        .map(|number| Ok((number.phone_number_id.clone(), read_number(world, call, number)?)))
        .collect::<Result<Vec<_>, GraphError>>()?;
    paging::page(call, &numbers).map(Reply::Json)
}

/// `/{WABA}/subscribed_apps`.
pub(super) fn subscribed_apps(world: &World, call: &Call, waba_id: &str) -> Result<Reply, GraphError> {
    if !world.account.has_waba(waba_id) {
        return Err(GraphError::no_such_object(&call.method, waba_id));
    }
    let mut state = world.state();
    match call.method {
        Method::GET => {
            let apps: Vec<Value> =
                state.subscriptions.get(waba_id).into_iter().map(|url| app(world, url.as_deref())).collect();
            Ok(Reply::Json(json!({ "data": apps })))
        }
        Method::POST => {
            let url = call.json.as_ref().and_then(|body| body.get("override_callback_uri"));
            let url = url.and_then(Value::as_str).map(str::to_owned);
            if url.as_ref().is_some_and(|url| url.chars().count() > 200) {
                return Err(GraphError::parameter(
                    "Param override_callback_uri must be at most 200 characters long.",
                ));
            }
            state.subscriptions.insert(waba_id.to_owned(), url);
            Ok(Reply::Json(json!({ "success": true })))
        }
        Method::DELETE => {
            state.subscriptions.remove(waba_id);
            Ok(Reply::Json(json!({ "success": true })))
        }
        _ => Err(GraphError::no_such_object(&call.method, waba_id)),
    }
}

fn app(world: &World, override_url: Option<&str>) -> Value {
    let id = &world.account.app_id;
    let mut app = json!({ "whatsapp_business_api_data": {
        "id": id,
        "link": format!("https://www.facebook.com/games/?app_id={id}"),
        "name": "Simulated app",
    }});
    if let (Some(url), Some(fields)) = (override_url, app.as_object_mut()) {
        fields.insert("override_callback_uri".to_owned(), json!(url));
    }
    app
}

fn read_number(world: &World, call: &Call, number: &Number) -> Result<Value, GraphError> {
    let webhook = world.webhook_url().map(|url| json!({ "application": url }));
    let (level, is_on_app, quality) = {
        let (state, id) = (world.state(), &number.phone_number_id);
        (state.level_of(id), state.standing.is_on_app(id), state.standing.quality(id))
    };
    let node = json!({
        "id": number.phone_number_id,
        "display_phone_number": format!("+{}", number.display_phone_number),
        "verified_name": "Simulated business",
        "status": "CONNECTED",
        "quality_rating": quality,
        "quality_score": { "score": quality },
        "code_verification_status": "VERIFIED",
        "name_status": "APPROVED",
        "new_name_status": "NONE",
        "whatsapp_business_manager_messaging_limit": "TIER_UNLIMITED",
        "messaging_limit_tier": "TIER_UNLIMITED",
        "throughput": { "level": level },
        "account_mode": "LIVE",
        "platform_type": "CLOUD_API",
        "is_official_business_account": false,
        "is_pin_enabled": false,
        "is_on_biz_app": is_on_app,
        "is_preverified_number": false,
        "webhook_configuration": webhook,
        "search_visibility": "VISIBLE",
        "health_status": health(world, number),
        "certificate": null,
        "last_onboarded_time": null,
    });
    let mut selected = paging::select(call, &node, NUMBER_FIELDS, "WhatsAppBusinessPhoneNumber")?;
    if let Some(fields) = selected.as_object_mut() {
        fields.retain(|_, value| !value.is_null());
    }
    Ok(selected)
}

fn health(world: &World, number: &Number) -> Value {
    let entity =
        |kind: &str, id: &str, word: &str| json!({ "entity_type": kind, "id": id, "can_send_message": word });
    let is_disabled = world.state().standing.is_disabled(&number.waba_id);
    let can_send = if is_disabled { "BLOCKED" } else { "AVAILABLE" };
    json!({
        "can_send_message": can_send,
        "entities": [
            entity("PHONE_NUMBER", &number.phone_number_id, "AVAILABLE"),
            entity("WABA", &number.waba_id, can_send),
            entity("APP", &world.account.app_id, "AVAILABLE"),
        ],
    })
}

fn waba(world: &World, id: &str) -> Value {
    let subscribed: Vec<Value> =
        world.state().subscriptions.get(id).into_iter().map(|url| app(world, url.as_deref())).collect();
    let health = world.account.numbers_of(id).next().map(|number| health(world, number));
    json!({
        "id": id,
        "name": "Simulated WhatsApp Business Account",
        "status": "ACTIVE",
        "timezone_id": "1",
        "currency": "USD",
        "country": "US",
        "message_template_namespace": format!("simulated_{id}"),
        "account_review_status": "APPROVED",
        "business_verification_status": "verified",
        "ownership_type": "SELF",
        "primary_business_location": "US",
        "is_enabled_for_insights": true,
        "health_status": health,
        "owner_business_info": { "id": "506914307656634", "name": "Simulated portfolio" },
        "on_behalf_of_business_info": null,
        "marketing_messages_lite_api_status": "INELIGIBLE",
        "marketing_messages_onboarding_status": "INELIGIBLE",
        "disable_marketing_messages_on_cloud_api": false,
        "degrees_of_freedom_spec": null,
        "subscribed_apps": { "data": subscribed },
        "whatsapp_business_manager_messaging_limit": "TIER_UNLIMITED",
    })
}
