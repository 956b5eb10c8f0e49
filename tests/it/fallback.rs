//! The template that goes out when Meta fails the message because of the window: once, whatever happens in between.

use serde_json::{Value, json};
use whatsapp_gateway::contract::v1::{self, FallbackOutcome};

use crate::eventually;
use crate::support::rpc::text_to;
use crate::support::{Gateway, Serve};

const USER: &str = "16505550000";
const NOWHERE: &str = "http://127.0.0.1:9/webhook";

fn with_fallback(name: &str) -> v1::SendMessageRequest {
    let language = Some(v1::TemplateLanguage { code: "en_US".to_owned(), policy: String::new() });
    let template = v1::Template { name: name.to_owned(), language, components: Vec::new() };
    v1::SendMessageRequest {
        fallback_template: Some(template),
        callback_data: "order=4521".to_owned(),
        ..text_to(USER, "Your order has shipped")
    }
}

/// What became of fallbacks, with the event around it.
async fn reports(gateway: &Gateway) -> Vec<(v1::Event, v1::FallbackReport)> {
    let events = gateway.events().await.into_iter();
    let report = |event: v1::Event| match event.payload.clone() {
        Some(v1::event::Payload::Fallback(report)) => Some((event, report)),
        _ => None,
    };
    events.filter_map(report).collect()
}

/// The types of the messages that the simulator was asked to send, in order.
async fn sent_types(gateway: &Gateway) -> Vec<String> {
    let bodies = gateway.sent_bodies().await;
    bodies.iter().map(|body| body["type"].as_str().unwrap().to_owned()).collect()
}

async fn fault_on_templates(gateway: &Gateway, fault: Value) {
    let planned = json!({"match": {"path_suffix": "/messages", "message_type": "template"}, "fault": fault});
    gateway.simulate("faults", &planned).await;
}

/// Starts a gateway again over the same folder and the same simulator.
async fn restarted(serve: &Serve) -> Gateway {
    let config = serve.folder.path().join("config.toml");
    let builder = Gateway::builder().arguments(&["serve", "--config", config.to_str().unwrap()]);
    let mut gateway = builder.start().await;
    gateway.ready["simulator"] = serve.gateway.ready["simulator"].clone();
    hear(&gateway).await;
    gateway
}

/// Lets the simulator's webhooks come to this gateway.
async fn hear(gateway: &Gateway) {
    let url = gateway.webhook_url();
    gateway.simulate("webhook_url", &json!({ "url": url })).await;
}

#[tokio::test]
async fn it_goes_out_by_itself_when_meta_fails_the_message() {
    let gateway = Gateway::dev().await;
    let sent = gateway.send(with_fallback("hello_world")).await;
    assert!(!sent.used_fallback);
    eventually!(!reports(&gateway).await.is_empty());
    let (event, report) = reports(&gateway).await.remove(0);
    assert_eq!(event.r#type, "whatsapp.gateway.fallback");
    assert_eq!((event.subject.as_str(), event.raw_json.as_str()), (sent.message_id.as_str(), ""));
    assert_eq!(event.origin, None);
    assert_eq!((event.phone_number_id, event.waba_id.as_str()), (sent.phone_number_id, "102290129340398"));
    assert_eq!(report.outcome(), FallbackOutcome::Accepted);
    assert_eq!((&report.send_tag, &report.failed_message_id), (&sent.send_tag, &sent.message_id));
    assert_eq!(sent_types(&gateway).await, ["text", "template"]);
    let body = gateway.sent_bodies().await.remove(1);
    assert_eq!(body["biz_opaque_callback_data"], format!("g1.{}.order=4521", sent.send_tag));

    // Its statuses carry the same tag; all events are of one conversation.
    let read = |status: &v1::MessageStatus| status.id == report.message_id && status.status == "read";
    eventually!(gateway.statuses().await.iter().any(read));
    let statuses = gateway.statuses().await;
    assert!(statuses.iter().all(|status| status.send_tag == sent.send_tag));
    let failed = gateway.events().await.into_iter().find(|event| event.subject == sent.message_id).unwrap();
    assert_eq!(failed.conversation_key, event.conversation_key);
}

#[tokio::test]
async fn it_stays_where_it_is_when_the_message_arrives_or_fails_for_another_reason() {
    let gateway = Gateway::dev().await;
    gateway.simulate("messages", &json!({"from": USER, "text": "Hi"})).await;
    gateway.send(with_fallback("hello_world")).await;
    let other = v1::SendMessageRequest {
        recipient: text_to("+15551131026", "").recipient,
        ..with_fallback("hello_world")
    };
    gateway.send(other).await;
    gateway.fault("/messages", json!({"error": {"code": 131_030}})).await;
    assert_eq!(gateway.refused(with_fallback("hello_world")).await.reason, "RECIPIENT_NOT_ALLOWED");
    let ended = |status: &v1::MessageStatus| status.status == "read" || status.status == "failed";
    eventually!(gateway.statuses().await.iter().filter(|status| ended(status)).count() == 2);
    assert!(reports(&gateway).await.is_empty());
    assert_eq!(sent_types(&gateway).await, ["text"; 3]);
}

#[tokio::test]
async fn a_template_that_meta_refuses_is_reported_with_the_reason() {
    let gateway = Gateway::dev().await;
    fault_on_templates(&gateway, json!({"error": {"code": 132_001}})).await;
    let sent = gateway.send(with_fallback("hello_world")).await;
    eventually!(!reports(&gateway).await.is_empty());
    let (_, report) = reports(&gateway).await.remove(0);
    assert_eq!((report.outcome(), report.reason.as_str()), (FallbackOutcome::Failed, "TEMPLATE_NOT_FOUND"));
    assert_eq!((report.send_tag, report.message_id.as_str()), (sent.send_tag, ""));
    assert!(!report.description.is_empty());
}

#[tokio::test]
async fn what_was_certainly_not_sent_is_tried_again() {
    let gateway = Gateway::dev().await;
    fault_on_templates(&gateway, json!({"error": {"code": 130_429}})).await;
    gateway.send(with_fallback("hello_world")).await;
    eventually!(!reports(&gateway).await.is_empty());
    assert_eq!(reports(&gateway).await[0].1.outcome(), FallbackOutcome::Accepted);
    assert_eq!(sent_types(&gateway).await, ["text", "template", "template"]);
}

#[tokio::test]
async fn a_lost_answer_is_reported_and_not_followed_by_another_template() {
    let gateway = Gateway::dev().await;
    fault_on_templates(&gateway, json!({"cut": "after_acceptance"})).await;
    let sent = gateway.send(with_fallback("hello_world")).await;
    eventually!(!reports(&gateway).await.is_empty());
    let (_, report) = reports(&gateway).await.remove(0);
    assert_eq!(report.outcome(), FallbackOutcome::Unknown);
    // A status proves it all the same.
    let proof = |status: &v1::MessageStatus| status.id != sent.message_id && status.send_tag == sent.send_tag;
    eventually!(gateway.statuses().await.iter().any(proof));
    assert_eq!(sent_types(&gateway).await, ["text", "template"]);
}

#[tokio::test]
async fn a_kill_between_the_acceptance_and_the_status_loses_and_doubles_nothing() {
    let mut serve = Serve::start().await;
    serve.gateway.simulate("webhook_url", &json!({ "url": NOWHERE })).await;
    let request = v1::SendMessageRequest {
        phone_number_id: "106540352242922".to_owned(),
        ..with_fallback("hello_world")
    };
    let sent = serve.gateway.send(request).await;
    serve.gateway.kill().await;
    let mut gateway = restarted(&serve).await;
    eventually!(!reports(&gateway).await.is_empty());
    assert_eq!(sent_types(&gateway).await, ["text", "template"]);

    // The status again, to this process and to another one: nothing happens.
    let deliveries = gateway.simulator("deliveries").await;
    let failed = deliveries["deliveries"].as_array().unwrap_or_else(|| panic!("{deliveries}"));
    let failed =
        failed.iter().map(|delivery| &delivery["body"]).find(|body| body.to_string().contains("131047"));
    let repeat = json!({"body": failed.expect("the status"), "wait": true});
    for _ in 0..2 {
        assert_eq!(gateway.simulate("webhooks", &repeat).await["status"], 200);
        gateway.kill().await;
        gateway = restarted(&serve).await;
    }
    let read = |status: &v1::MessageStatus| status.id != sent.message_id && status.status == "read";
    eventually!(gateway.statuses().await.iter().any(read));
    assert_eq!(sent_types(&gateway).await, ["text", "template"]);
    let all = reports(&gateway).await;
    assert_eq!(all.len(), 1);
    assert_eq!(all[0].1.outcome(), FallbackOutcome::Accepted);
}

#[tokio::test]
async fn a_kill_while_the_template_is_sent_is_reported_and_not_repeated() {
    let mut serve = Serve::start().await;
    // It is accepted, and the answer does not come in this test's time.
    fault_on_templates(&serve.gateway, json!({"delay_ms": 120_000})).await;
    let request = v1::SendMessageRequest {
        phone_number_id: "106540352242922".to_owned(),
        ..with_fallback("hello_world")
    };
    serve.gateway.send(request).await;
    eventually!(sent_types(&serve.gateway).await.len() == 2);
    serve.gateway.kill().await;
    let gateway = restarted(&serve).await;
    eventually!(!reports(&gateway).await.is_empty());
    assert_eq!(reports(&gateway).await[0].1.outcome(), FallbackOutcome::Unknown);
    assert_eq!(sent_types(&gateway).await, ["text", "template"]);
}
