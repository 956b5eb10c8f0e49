//! Messages whose template does not allow them: refused before Meta is asked, by a copy that follows what happens to it.

use std::time::Duration;

use serde_json::{Value, json};
use tonic::Code;
use whatsapp_gateway::contract::{request_of, v1};

use crate::eventually;
use crate::support::rpc::{OPEN, Refusal, send, structure, text_to};
use crate::support::template::{delete, edit};
use crate::support::{Gateway, gateway};
use prost::Message as _;
use v1::manage_template_request::Action;
use v1::send_message_request::Content;

const NEWCOMER: &str = "16505550000";

/// A message of this template, as Meta has it.
fn message(name: &str, language: &str, components: &Value) -> v1::SendMessageRequest {
    let template = json!({"name": name, "language": {"code": language}, "components": components});
    let body = json!({"messaging_product": "whatsapp", "to": OPEN, "type": "template", "template": template});
    v1::SendMessageRequest::decode(request_of(&body).unwrap().encoded.as_slice()).unwrap()
}

/// The parameters of a body, in order.
fn body(texts: &[&str]) -> Value {
    let parameters: Value = texts.iter().map(|text| json!({"type": "text", "text": text})).collect();
    json!([{"type": "body", "parameters": parameters}])
}

fn shipped(texts: &[&str]) -> v1::SendMessageRequest {
    message("order_shipped", "en_US", &body(texts))
}

/// The same template in place of a text.
fn instead(template: v1::SendMessageRequest) -> v1::SendMessageRequest {
    let Some(Content::Template(template)) = template.content else { panic!("no template") };
    v1::SendMessageRequest {
        fallback_template: Some(template),
        ..text_to(NEWCOMER, "Your order has shipped")
    }
}

async fn put(gateway: &Gateway, status: &str, template: Value) {
    gateway.simulate("templates", &json!({"status": status, "template": template})).await;
}

/// A gateway whose WABA has a template with two variables; returns the template's id.
async fn with_order_shipped() -> (Gateway, String) {
    let gateway = Gateway::dev().await;
    let text = "Hi {{1}}, your order {{2}} has shipped.";
    let id = gateway.put_template("order_shipped", text, "APPROVED").await;
    (gateway, id)
}

/// How many times templates were read.
async fn reads(gateway: &Gateway) -> usize {
    let reads = gateway.simulator("requests?path=/message_templates&method=GET").await;
    reads.as_array().unwrap().len()
}

async fn metric(gateway: &Gateway, line: &str) -> u64 {
    let (_, metrics) = gateway.admin("/metrics").await;
    let value = metrics.lines().find_map(|found| found.strip_prefix(line)).expect(line);
    value.trim().parse().unwrap()
}

#[tokio::test]
async fn parameters_that_do_not_fit_never_reach_meta() {
    let (gateway, _) = with_order_shipped().await;
    let refusal = gateway.refused(shipped(&["Ann"])).await;
    assert_eq!(refusal.is(), (Code::InvalidArgument, "TEMPLATE_PARAMETERS"));
    assert_eq!(refusal.actor(), "caller");
    let rule = "the body of order_shipped (en_US) takes 2 parameters, 1 was given: add 1 more";
    assert_eq!(refusal.violations, [("template.components[0].body.parameters".to_owned(), rule.to_owned())]);
    assert!(!refusal.metadata.contains_key("meta_code"));
    for strays in [&[][..], &["a", "b", "c"]] {
        assert_eq!(gateway.refused(shipped(strays)).await.reason, "TEMPLATE_PARAMETERS");
    }
    let checked = v1::SendMessageRequest { validate_only: true, ..shipped(&["Ann"]) };
    assert_eq!(gateway.refused(checked).await.reason, "TEMPLATE_PARAMETERS");
    assert!(gateway.sent_bodies().await.is_empty());
    gateway.send(shipped(&["Ann", "4521"])).await;
    // One read served them all.
    assert_eq!(reads(&gateway).await, 1);
    let refused = r#"whatsapp_gateway_template_refusals_total{reason="TEMPLATE_PARAMETERS"}"#;
    assert_eq!(metric(&gateway, refused).await, 4);
    assert_eq!(metric(&gateway, r#"whatsapp_gateway_template_lookups_total{outcome="read"}"#).await, 1);
    assert_eq!(metric(&gateway, r#"whatsapp_gateway_template_lookups_total{outcome="cached"}"#).await, 4);
}

#[tokio::test]
async fn meta_s_own_json_is_checked_under_its_own_names() {
    let (gateway, _) = with_order_shipped().await;
    let components = body(&["Ann"]);
    let template = json!({"name": "order_shipped", "language": {"code": "en_US"}, "components": components});
    let raw = Content::Raw(structure(&json!({"type": "template", "template": template})));
    let refusal = gateway.refused(send(raw)).await;
    assert_eq!(refusal.fields(), ["raw.template.components[0].parameters"]);
}

#[tokio::test]
async fn a_language_that_is_not_there_is_told_with_those_that_are() {
    let (gateway, _) = with_order_shipped().await;
    let german = json!({"name": "order_shipped", "language": "de", "category": "UTILITY",
        "components": [{"type": "BODY", "text": "Hallo {{1}}!"}]});
    put(&gateway, "APPROVED", german).await;
    gateway.send(message("order_shipped", "de", &body(&["Ann"]))).await;
    gateway.send(shipped(&["Ann", "4521"])).await;
    assert_eq!(
        gateway.refused(message("order_shipped", "de", &body(&["Ann", "4521"]))).await.fields(),
        ["template.components[0].body.parameters"]
    );
    let refusal = gateway.refused(message("order_shipped", "fr", &body(&["Ann"]))).await;
    assert_eq!(refusal.is(), (Code::NotFound, "TEMPLATE_NOT_FOUND"));
    assert_eq!(refusal.fields(), ["template.language.code"]);
    assert!(refusal.message.contains("it does in: en_US, de"), "{}", refusal.message);
    let refusal = gateway.refused(message("no_such_template", "en_US", &json!([]))).await;
    assert_eq!(refusal.is(), (Code::NotFound, "TEMPLATE_NOT_FOUND"));
    assert_eq!(refusal.fields(), ["template.name"]);
    assert_eq!(gateway.sent_bodies().await.len(), 2);
    // As soon as somebody creates it, wherever, Meta says so.
    let create = crate::support::template::create("no_such_template", "Here I am.");
    let id = gateway.created(create).await;
    gateway.simulate(&format!("templates/{id}"), &json!({"status": "APPROVED"})).await;
    eventually!(try_to_send(&gateway, message("no_such_template", "en_US", &json!([]))).await.is_ok());
}

async fn try_to_send(gateway: &Gateway, request: v1::SendMessageRequest) -> Result<(), Refusal> {
    let sent = gateway.client().await.send_message(request).await;
    sent.map(|_| ()).map_err(|status| Refusal::of(&status))
}

#[tokio::test]
async fn a_template_that_meta_has_paused_is_refused_until_it_is_back() {
    let (gateway, id) = with_order_shipped().await;
    gateway.send(shipped(&["Ann", "4521"])).await;
    let change = format!("templates/{id}");
    gateway.simulate(&change, &json!({"status": "PAUSED"})).await;
    eventually!(try_to_send(&gateway, shipped(&["Ann", "4521"])).await.is_err());
    let sent = gateway.sent_bodies().await.len();
    let refusal = gateway.refused(shipped(&["Ann", "4521"])).await;
    assert_eq!(refusal.is(), (Code::FailedPrecondition, "TEMPLATE_NOT_SENDABLE"));
    assert_eq!((refusal.actor(), refusal.metadata["template_status"].as_str()), ("operator", "PAUSED"));
    assert!(!refusal.metadata.contains_key("meta_code"), "{refusal:?}");
    assert_eq!(refusal.fields(), ["template.name"]);
    gateway.simulate(&change, &json!({"status": "REJECTED"})).await;
    eventually!(gateway.refused(shipped(&["Ann", "4521"])).await.reason == "TEMPLATE_NOT_FOUND");
    assert_eq!(gateway.sent_bodies().await.len(), sent);
    gateway.simulate(&change, &json!({"status": "APPROVED"})).await;
    eventually!(try_to_send(&gateway, shipped(&["Ann", "4521"])).await.is_ok());
}

#[tokio::test]
async fn what_this_gateway_changes_is_known_at_once() {
    let (gateway, id) = with_order_shipped().await;
    // Webhooks say nothing here.
    let nowhere = json!({"url": "http://127.0.0.1:9/webhook"});
    gateway.simulate("webhook_url", &nowhere).await;
    gateway.send(shipped(&["Ann", "4521"])).await;
    gateway.manage(Action::Edit(edit(&id, "Your order has shipped."))).await.unwrap();
    gateway.simulate(&format!("templates/{id}"), &json!({"status": "APPROVED"})).await;
    assert_eq!(gateway.refused(shipped(&["Ann", "4521"])).await.reason, "TEMPLATE_PARAMETERS");
    gateway.send(message("order_shipped", "en_US", &json!([]))).await;
    gateway.manage(delete("order_shipped")).await.unwrap();
    assert_eq!(
        gateway.refused(message("order_shipped", "en_US", &json!([]))).await.reason,
        "TEMPLATE_NOT_FOUND"
    );
    assert_eq!(gateway.sent_bodies().await.len(), 2);
}

#[tokio::test]
async fn a_refusal_of_metas_drops_the_copy() {
    let (gateway, _) = with_order_shipped().await;
    gateway.send(shipped(&["Ann", "4521"])).await;
    gateway.fault("/messages", json!({"error": {"code": 132_012}})).await;
    let refusal = gateway.refused(shipped(&["Ann", "4521"])).await;
    assert_eq!(
        (refusal.reason.as_str(), refusal.metadata["meta_code"].as_str()),
        ("TEMPLATE_PARAMETERS", "132012")
    );
    gateway.send(shipped(&["Ann", "4521"])).await;
    assert_eq!(reads(&gateway).await, 2);
}

#[tokio::test]
async fn a_refusal_of_a_queued_message_drops_the_copy_too() {
    let (gateway, _) = with_order_shipped().await;
    gateway.send(shipped(&["Ann", "4521"])).await;
    gateway.fault("/messages", json!({"error": {"code": 132_012}})).await;
    let queued = v1::SendMessageRequest {
        request_id: "later".to_owned(),
        delivery_mode: v1::DeliveryMode::Queued.into(),
        ..shipped(&["Ann", "4521"])
    };
    gateway.send(queued).await;
    eventually!(gateway.send_reports().await.len() == 1);
    gateway.send(shipped(&["Ann", "4521"])).await;
    assert_eq!(reads(&gateway).await, 2);
}

#[tokio::test]
async fn what_cannot_be_known_is_left_to_meta() {
    let (gateway, _) = with_order_shipped().await;
    // The read fails, and for a while no other begins.
    gateway.faults("GET", "/message_templates", 1, &json!({"error": {"code": 80_008}})).await;
    for _ in 0..2 {
        let refusal = gateway.refused(shipped(&["Ann"])).await;
        assert_eq!(refusal.metadata["meta_code"], "132000");
    }
    gateway.send(shipped(&["Ann", "4521"])).await;
    assert_eq!(gateway.sent_bodies().await.len(), 3);
    assert_eq!(reads(&gateway).await, 1);

    // A description of tomorrow.
    let gateway = Gateway::dev().await;
    gateway.put_template("order_shipped", "Hi {{1}}!", "APPROVED").await;
    let components = json!([{"type": "BODY", "text": "Hi"}, {"type": "HOLOGRAM"}]);
    let template = json!({"id": "1", "name": "order_shipped", "language": "en_US", "status": "APPROVED",
        "components": components});
    let page = json!({"data": [template]}).to_string();
    let fault = json!({"http": {"status": 200, "body": page, "content_type": "application/json"}});
    gateway.faults("GET", "/message_templates", 1, &fault).await;
    gateway.send(shipped(&["Ann"])).await;
    assert_eq!(metric(&gateway, r#"whatsapp_gateway_template_lookups_total{outcome="read"}"#).await, 1);
}

#[tokio::test]
async fn a_read_that_hangs_delays_a_message_for_a_second_and_loses_none() {
    let (gateway, _) = with_order_shipped().await;
    gateway.faults("GET", "/message_templates", 1, &json!({"stall": true})).await;
    let begun = tokio::time::Instant::now();
    let sends = (0..20).map(|_| gateway.send(shipped(&["Ann", "4521"])));
    futures_util::future::join_all(sends).await;
    assert!(begun.elapsed() < gateway::PATIENCE / 2, "{:?}", begun.elapsed());
    gateway.send(shipped(&["Ann", "4521"])).await;
    assert_eq!((reads(&gateway).await, gateway.sent_bodies().await.len()), (1, 21));
    assert_eq!(metric(&gateway, r#"whatsapp_gateway_template_lookups_total{outcome="late"}"#).await, 21);
    // A caller in a hurry waits for less.
    let gateway = Gateway::dev().await;
    gateway.faults("GET", "/message_templates", 1, &json!({"stall": true})).await;
    let refusal =
        gateway.refused_within(message("none", "en_US", &json!([])), Duration::from_millis(1500)).await;
    assert_eq!(refusal.metadata["meta_code"], "132001");
}

#[tokio::test]
async fn what_was_sent_under_a_request_id_stays_sent() {
    let (gateway, id) = with_order_shipped().await;
    let request =
        || v1::SendMessageRequest { request_id: "order-4521".to_owned(), ..shipped(&["Ann", "4521"]) };
    let sent = gateway.send(request()).await;
    gateway.simulate(&format!("templates/{id}"), &json!({"status": "DISABLED"})).await;
    eventually!(try_to_send(&gateway, shipped(&["Ann", "4521"])).await.is_err());
    let again = gateway.send(request()).await;
    assert!(again.replayed);
    assert_eq!(again.message_id, sent.message_id);
    // A refusal takes no id: the request may be made good under it.
    let other =
        |texts: &[&str]| v1::SendMessageRequest { request_id: "order-4522".to_owned(), ..shipped(texts) };
    assert_eq!(gateway.refused(other(&["Ann"])).await.reason, "TEMPLATE_NOT_SENDABLE");
    gateway.simulate(&format!("templates/{id}"), &json!({"status": "APPROVED"})).await;
    eventually!(gateway.refused(other(&["Ann"])).await.reason == "TEMPLATE_PARAMETERS");
    assert!(!gateway.send(other(&["Ann", "4522"])).await.replayed);
}

#[tokio::test]
async fn a_fallback_must_fit_before_it_is_needed() {
    let (gateway, _) = with_order_shipped().await;
    let refusal = gateway.refused(instead(shipped(&["Ann"]))).await;
    assert_eq!(refusal.fields(), ["fallback_template.components[0].body.parameters"]);
    let refusal = gateway.refused(instead(message("no_such_template", "en_US", &json!([])))).await;
    assert_eq!(
        (refusal.reason.as_str(), refusal.fields()),
        ("TEMPLATE_NOT_FOUND", vec!["fallback_template.name"])
    );
    assert!(gateway.sent_bodies().await.is_empty());
    gateway.send(instead(shipped(&["Ann", "4521"]))).await;
}

/// Templates with named parameters, with cards, and with a place and a code.
async fn put_special_templates(gateway: &Gateway) {
    let card = json!({"components": [
        {"type": "HEADER", "format": "IMAGE"}, {"type": "BODY", "text": "Aloe"},
        {"type": "BUTTONS", "buttons": [{"type": "URL", "text": "Shop", "url": "https://example.com/{{1}}"}]},
    ]});
    for (name, format, components) in [
        ("table", "NAMED", json!([{"type": "BODY", "text": "Table for {{guests}} on {{day}}."}])),
        (
            "plants",
            "POSITIONAL",
            json!([{"type": "BODY", "text": "Plants"}, {"type": "CAROUSEL", "cards": [card, card]}]),
        ),
        (
            "offer",
            "POSITIONAL",
            json!([{"type": "HEADER", "format": "LOCATION"}, {"type": "BODY", "text": "Sale"},
            {"type": "BUTTONS", "buttons": [{"type": "COPY_CODE", "example": "25OFF"}]}]),
        ),
    ] {
        put(
            gateway,
            "APPROVED",
            json!({"name": name, "language": "en_US", "category": "MARKETING",
            "parameter_format": format, "components": components}),
        )
        .await;
    }
}

#[tokio::test]
async fn every_part_of_a_template_is_looked_at() {
    let gateway = Gateway::dev().await;
    put_special_templates(&gateway).await;
    let named = |names: &[&str]| {
        let parameter = |name: &&str| json!({"type": "text", "parameter_name": name, "text": "x"});
        json!([{"type": "body", "parameters": names.iter().map(parameter).collect::<Value>()}])
    };
    let card = |index: u32, kind: &str| {
        let medium = json!({"type": kind, kind: {"link": "https://example.com/a"}});
        json!({"card_index": index, "components": [{"type": "header", "parameters": [medium]},
            {"type": "button", "sub_type": "url", "index": "0", "parameters": [{"type": "text", "text": "a"}]}]})
    };
    let carousel = |cards: Value| json!([{"type": "carousel", "cards": cards}]);
    let place = json!({"latitude": "37.48", "longitude": "-122.1", "name": "n", "address": "a"});
    let location = json!({"type": "header", "parameters": [{"type": "location", "location": place}]});
    let code = |sub_type: &str, index: u32| {
        let parameter = json!({"type": "coupon_code", "coupon_code": "25OFF"});
        json!({"type": "button", "sub_type": sub_type, "index": index, "parameters": [parameter]})
    };
    for (name, components, field) in [
        ("table", named(&["guests", "days"]), "[0].body.parameters[1].parameter_name"),
        (
            "plants",
            carousel(json!([card(0, "image"), card(1, "image"), card(2, "image")])),
            "[0].carousel.cards",
        ),
        (
            "plants",
            carousel(json!([card(0, "video"), card(1, "video")])),
            "[0].carousel.cards[0].components[0].header.parameters[0].video",
        ),
        ("offer", json!([code("copy_code", 0)]), ""),
        ("offer", json!([location, code("copy_code", 1)]), "[1].button.index"),
        ("offer", json!([location, code("url", 0)]), "[1].button.sub_type"),
        ("offer", json!([location]), ""),
    ] {
        let refusal = gateway.refused(message(name, "en_US", &components)).await;
        assert_eq!(refusal.reason, "TEMPLATE_PARAMETERS", "{name} {components}");
        assert_eq!(refusal.fields()[0], format!("template.components{field}"), "{name} {components}");
    }
    assert!(gateway.sent_bodies().await.is_empty());
    for (name, components) in [
        ("table", named(&["day", "guests"])),
        ("plants", carousel(json!([card(0, "image"), card(1, "image")]))),
        ("offer", json!([location, code("copy_code", 0)])),
    ] {
        gateway.send(message(name, "en_US", &components)).await;
    }
}

#[tokio::test]
async fn it_can_be_switched_off() {
    let off = Gateway::builder().env("WHATSAPP_GATEWAY__SENDING__TEMPLATE_PREFLIGHT", "false");
    let gateway = off.start().await;
    let refusal = gateway.refused(message("no_such_template", "en_US", &json!([]))).await;
    assert_eq!(refusal.metadata["meta_code"], "132001");
    assert_eq!(reads(&gateway).await, 0);
}
