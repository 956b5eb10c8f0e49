//! Health, probes and metrics; and that nothing private shows in any of them, nor in logs and errors.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::json;
use tokio::time::timeout;
use tonic::Code;
use tonic::transport::{Channel, Endpoint};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use whatsapp_gateway::contract::v1;

use crate::eventually;
use crate::support::rpc::{text_to, user};
use crate::support::{Gateway, webhook};

const SERVICES: [&str; 4] = [
    "",
    "whatsapp.gateway.v1.GatewayService",
    "whatsapp.gateway.v1.SubscriptionService",
    "whatsapp.gateway.ingress",
];

async fn health(gateway: &Gateway) -> HealthClient<Channel> {
    let endpoint = Endpoint::from_shared(format!("http://{}", gateway.address("grpc"))).unwrap();
    HealthClient::new(endpoint.connect().await.unwrap())
}

fn about(service: &str) -> HealthCheckRequest {
    HealthCheckRequest { service: service.to_owned() }
}

#[tokio::test]
async fn health_is_told_by_name_and_to_the_end() {
    let mut gateway = Gateway::builder().start().await;
    let mut client = health(&gateway).await;
    let mut watches = Vec::new();
    for service in SERVICES {
        let checked = client.check(about(service)).await.unwrap().into_inner();
        assert_eq!(checked.status(), ServingStatus::Serving, "{service}");
        let mut watch = client.watch(about(service)).await.unwrap().into_inner();
        assert_eq!(watch.message().await.unwrap().unwrap().status(), ServingStatus::Serving, "{service}");
        watches.push(watch);
    }
    let unknown = client.check(about("nothing.of.the.Kind")).await.unwrap_err();
    assert_eq!(unknown.code(), Code::NotFound);
    // Whoever watches learns of the end before the connection closes.
    gateway.signal_term();
    for watch in &mut watches {
        let last = timeout(Duration::from_secs(10), watch.message()).await.unwrap().unwrap().unwrap();
        assert_eq!(last.status(), ServingStatus::NotServing);
    }
    drop((watches, client));
    assert_eq!(gateway.wait().await, Some(0));
}

#[tokio::test]
async fn probes_and_metrics_answer() {
    let gateway = Gateway::dev().await;
    assert_eq!(gateway.admin("/livez").await, (200, "live\n".to_owned()));
    assert_eq!(gateway.admin("/readyz").await, (200, "ready\ningress: accepting\n".to_owned()));
    assert_eq!(gateway.admin("/readyz/ingress").await, (200, "accepting\n".to_owned()));
    assert_eq!(gateway.admin("/nothing").await.0, 404);
    let (_, before) = gateway.admin("/metrics").await;
    for begun in [
        r#"whatsapp_gateway_webhooks_total{outcome="bad_signature"} 0"#,
        r#"whatsapp_gateway_webhook_items_total{outcome="new"} 0"#,
        r#"whatsapp_gateway_sends_total{type="template",outcome="unknown"} 0"#,
        r#"whatsapp_gateway_auth_decisions_total{outcome="missing"} 0"#,
        "whatsapp_gateway_event_streams 0",
        "whatsapp_gateway_log_refusing 0",
        "whatsapp_gateway_log_tail_seq 0",
    ] {
        assert!(before.contains(begun), "{begun} is missing in\n{before}");
    }
    gateway.send(text_to(crate::support::rpc::OPEN, "Hello")).await;
    gateway.refused(v1::SendMessageRequest::default()).await;
    eventually!(gateway.events().await.len() == 3);
    let (status, metrics) = gateway.admin("/metrics").await;
    assert_eq!(status, 200);
    for expected in [
        "rpc_server_call_duration_seconds",
        "http_server_request_duration_seconds",
        "http_client_request_duration_seconds",
        "whatsapp_gateway_webhooks_total",
        "whatsapp_gateway_webhook_items_total",
        "whatsapp_gateway_auth_decisions_total",
        "whatsapp_gateway_connections",
        "whatsapp_gateway_log_commit_seconds",
        r#"rpc_method="whatsapp.gateway.v1.GatewayService/SendMessage""#,
        r#"rpc_response_status_code="INVALID_ARGUMENT""#,
        r#"url_template="/{phone_number_id}/messages""#,
    ] {
        assert!(metrics.contains(expected), "{expected} is missing in\n{metrics}");
    }
    assert_parses(&metrics);
}

#[tokio::test]
async fn metrics_can_be_left_out() {
    let gateway = Gateway::builder().env("WHATSAPP_GATEWAY__TELEMETRY__METRICS", "false").start().await;
    gateway.send(text_to(crate::support::rpc::OPEN, "Hello")).await;
    assert_eq!(gateway.admin("/metrics").await, (404, "telemetry.metrics is false\n".to_owned()));
    assert_eq!(gateway.admin("/readyz").await.0, 200);
}

/// The text format: each sample belongs to a family that was declared once, and ends in a number.
fn assert_parses(metrics: &str) {
    let mut declared = BTreeSet::new();
    let mut family = "";
    for line in metrics.lines().filter(|line| !line.is_empty()) {
        if let Some(declaration) = line.strip_prefix("# TYPE ") {
            let (name, kind) = declaration.split_once(' ').unwrap();
            assert!(["counter", "gauge", "histogram", "summary"].contains(&kind), "{line}");
            assert!(declared.insert(name), "declared twice: {line}");
            family = name;
        } else if !line.starts_with("# HELP ") {
            let (sample, value) = line.rsplit_once(' ').unwrap();
            assert!(value.parse::<f64>().is_ok(), "{line}");
            assert!(!family.is_empty() && sample.starts_with(family), "{line} under {family}");
            let name = sample.split('{').next().unwrap();
            assert!(
                name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_'),
                "{line}"
            );
        }
    }
    assert!(declared.len() > 10, "{declared:?}");
}

const NUMBER: &str = "4915799887766";
const USER: &str = "DE.CanaryUser778899";
/// What must show nowhere: texts, people, secrets.
const CANARIES: [&str; 15] = [
    NUMBER,
    USER,
    "canary-inbound",
    "canary-outbound",
    "canary-caption",
    "canary-parameter",
    "canary-callback",
    "canary-name",
    "canary-token",
    "canary-garbage",
    "canary-verify",
    "dev-access-token",
    "dev-app-secret",
    "dev-verify-token",
    "16505559876",
];

/// A conversation in which everything private that there is appears; returns the texts of its errors.
async fn converse(gateway: &Gateway) -> Vec<String> {
    let mut errors = Vec::new();
    let inbound = json!({"from": NUMBER, "user_id": USER, "name": "canary-name", "text": "canary-inbound"});
    let id = gateway.simulate("messages", &inbound).await["message_id"].as_str().unwrap().to_owned();
    eventually!(gateway.events().await.len() == 1);
    let image = v1::Image {
        source: Some(v1::image::Source::Link("https://example.com/canary-caption".to_owned())),
        caption: "canary-caption".to_owned(),
    };
    let to = format!("+{NUMBER}");
    let text = v1::SendMessageRequest {
        callback_data: "canary-callback".to_owned(),
        ..text_to(&to, "canary-outbound")
    };
    let image = v1::SendMessageRequest {
        content: Some(v1::send_message_request::Content::Image(image)),
        ..text.clone()
    };
    gateway.send(text.clone()).await;
    gateway.send(image).await;
    gateway.send(v1::SendMessageRequest { recipient: Some(user(USER)), ..text.clone() }).await;
    let request = v1::MarkMessageReadRequest { message_id: id, ..Default::default() };
    gateway.client().await.mark_message_read(request).await.unwrap();
    for fault in [
        json!({"error": {"code": 131_030}}),
        json!({"error": {"code": 131_000, "message": "to canary-outbound"}}),
        json!({"cut": "before_acceptance"}),
        json!({"http": {"status": 502, "body": "canary-garbage"}}),
        json!({"http": {"status": 200, "body": "canary-garbage"}}),
    ] {
        gateway.fault("/messages", fault).await;
        errors.push(format!("{:?}", gateway.refused(text.clone()).await));
    }
    // Bad in every way that quotes something.
    let bad = v1::SendMessageRequest {
        reply_to_message_id: "canary outbound".to_owned(),
        ..text_to("+01650555 canary-x", "")
    };
    errors.push(format!("{:?}", gateway.refused(bad).await));
    let mut strange = tonic::Request::new(text);
    strange.metadata_mut().insert("authorization", "Bearer canary-token".parse().unwrap());
    errors.push(format!("{:?}", gateway.client().await.send_message(strange).await.unwrap_err()));
    hostile_webhooks(gateway).await;
    // A stream that is watched and left, with a name of its own.
    eventually!(gateway.events().await.len() == 12);
    errors
}

async fn hostile_webhooks(gateway: &Gateway) {
    let body = webhook::text("wamid.1", "16505559876", "canary-inbound").to_string();
    assert_eq!(
        gateway.post_webhook_signed(body.clone().into_bytes(), Some("sha256=canary-token")).await,
        401
    );
    assert_eq!(gateway.post_webhook(body.clone()).await, 200);
    assert_eq!(gateway.post_webhook(format!("{body}canary-garbage")).await, 200);
    let url = gateway.webhook_url();
    let query = "hub.mode=subscribe&hub.challenge=1&hub.verify_token=";
    for token in ["dev-verify-token", "canary-verify"] {
        gateway.http.get(format!("{url}?{query}{token}")).send().await.unwrap();
    }
}

#[tokio::test]
async fn nothing_private_reaches_logs_metrics_or_errors() {
    for format in ["text", "json"] {
        let gateway = Gateway::builder()
            .env("WHATSAPP_GATEWAY__TELEMETRY__LOG_LEVEL", "debug")
            .env("WHATSAPP_GATEWAY__TELEMETRY__LOG_FORMAT", format)
            .start()
            .await;
        let errors = converse(&gateway).await;
        let (log, metrics) = (gateway.log(), gateway.admin("/metrics").await.1);
        // The log would show them: it has lines about these very things.
        for expected in ["stream opened", "accepted", "a webhook was refused", "send.tag"] {
            assert!(log.contains(expected), "{expected} is missing in\n{log}");
        }
        for canary in CANARIES {
            for (place, text) in [("log", &log), ("metrics", &metrics), ("errors", &errors.join("\n"))] {
                let line = text.lines().find(|line| line.contains(canary));
                assert_eq!(line, None, "{canary} is in the {place}");
            }
        }
    }
}
