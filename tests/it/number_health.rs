//! What Meta says of a business number: how fast it may send, and whether it can at all.

use std::time::Duration;

use serde_json::{Value, json};
use tonic::Code;
use whatsapp_gateway::clock::{Clock, SystemClock};
use whatsapp_gateway::contract::v1;

use crate::eventually;
use crate::support::Gateway;
use crate::support::rpc::{Refusal, send, text, text_to};
use crate::support::serve::{SECOND_NUMBER, Serve};
use crate::support::webhook::{PHONE_NUMBER_ID, WABA_ID};

const PROBE_INTERVAL: &str = "WHATSAPP_GATEWAY__SENDING__PROBE_INTERVAL";
const LOCKED: (Code, &str) = (Code::FailedPrecondition, "UPSTREAM_ACCOUNT");

impl Gateway {
    /// A gauge of a number, whatever its other labels; the greatest if there are several.
    async fn gauge(&self, name: &str, number: &str) -> Option<f64> {
        let (_, metrics) = self.admin("/metrics").await;
        let label = format!("phone_number_id=\"{number}\"");
        let lines =
            metrics.lines().filter(|line| line.starts_with(&format!("{name}{{")) && line.contains(&label));
        lines.map(|line| line.rsplit(' ').next().unwrap().parse().unwrap()).reduce(f64::max)
    }

    async fn rate(&self, number: &str) -> Option<f64> {
        self.gauge("whatsapp_gateway_number_rate", number).await
    }

    async fn is_parked(&self, number: &str) -> bool {
        self.gauge("whatsapp_gateway_number_parked", number).await == Some(1.0)
    }

    /// A message from this number.
    async fn attempt_from(&self, number: &str) -> Result<v1::SendMessageResponse, Refusal> {
        let request = v1::SendMessageRequest { phone_number_id: number.to_owned(), ..send(text("Hello")) };
        let answer = self.client().await.send_message(request).await;
        answer.map(tonic::Response::into_inner).map_err(|status| Refusal::of(&status))
    }

    async fn can_send_from(&self, number: &str) -> bool {
        self.attempt_from(number).await.is_ok()
    }

    async fn errors(&self, count: u32, method: &str, path_suffix: &str, code: u32) {
        let matcher = json!({"method": method, "path_suffix": path_suffix});
        let planned = json!({"match": matcher, "count": count, "fault": {"error": {"code": code}}});
        self.simulate("faults", &planned).await;
    }

    async fn ban(&self, ban: &str, is_silent: bool) {
        self.simulate(&format!("wabas/{WABA_ID}"), &json!({"ban": ban, "silently": is_silent})).await;
    }

    /// What subscribers hear of a number: parked or not, why, and Meta's code.
    async fn reports(&self, number: &str) -> Vec<(bool, String, Option<i64>)> {
        let events = self.events().await.into_iter().filter(|event| event.phone_number_id == number);
        events
            .filter_map(|event| match event.payload {
                Some(v1::event::Payload::Number(report)) => {
                    assert_eq!(event.r#type, "whatsapp.gateway.number");
                    assert_eq!((report.actor.as_str(), event.origin.is_none()), ("operator", true));
                    let is_parked = report.state() == v1::NumberState::Parked;
                    Some((is_parked, report.reason, report.meta_code))
                }
                _ => None,
            })
            .collect()
    }
}

/// What every refusal says that never reached Meta.
fn assert_parked(refusal: &Refusal, reason: &str, code: Option<i64>) {
    assert_eq!(refusal.is(), (Code::FailedPrecondition, reason), "{refusal:?}");
    assert_eq!(refusal.actor(), "operator");
    assert_eq!(refusal.metadata.get("meta_code").cloned(), code.map(|code| code.to_string()));
    assert!(refusal.message.contains("unable to send for"), "{}", refusal.message);
    assert!(refusal.message.contains("it ends "), "{}", refusal.message);
    assert!(refusal.message.ends_with("nothing was sent"), "{}", refusal.message);
    assert!(refusal.retry.is_some(), "somebody looks again");
}

#[tokio::test]
async fn the_rate_of_a_number_is_what_meta_says() {
    let mut serve = Serve::start().await;
    let gateway = &serve.gateway;
    eventually!(gateway.rate(PHONE_NUMBER_ID).await == Some(80.0));
    eventually!(gateway.rate(SECOND_NUMBER).await == Some(80.0));
    gateway.simulate(&format!("numbers/{SECOND_NUMBER}"), &json!({"throughput": "HIGH"})).await;
    eventually!(gateway.rate(SECOND_NUMBER).await == Some(1000.0));
    assert_eq!(gateway.rate(PHONE_NUMBER_ID).await, Some(80.0));
    // Nobody says it when a number comes into the phone app, but the number shows it.
    gateway.simulate(&format!("numbers/{PHONE_NUMBER_ID}"), &json!({"is_on_biz_app": true})).await;
    serve.restart().await;
    eventually!(serve.gateway.rate(PHONE_NUMBER_ID).await == Some(20.0));
    eventually!(serve.gateway.rate(SECOND_NUMBER).await == Some(1000.0));
}

#[tokio::test]
async fn a_configured_rate_stands_above_what_meta_says() {
    let gateway =
        Gateway::builder().env("WHATSAPP_GATEWAY__SENDING__MESSAGES_PER_SECOND", "50").start().await;
    gateway.simulate(&format!("numbers/{PHONE_NUMBER_ID}"), &json!({"throughput": "HIGH"})).await;
    let upgrade = "whatsapp.phone_number_quality_update";
    eventually!(gateway.events().await.iter().any(|event| event.r#type == upgrade));
    // What a status says of the pace is heard after it, and halves what is allowed.
    gateway.send(text_to("+15551130429", "Hello")).await;
    eventually!(gateway.rate(PHONE_NUMBER_ID).await.is_some_and(|rate| rate < 50.0));
}

#[tokio::test]
async fn a_dead_token_stops_all_its_numbers_until_there_is_another() {
    let serve = Serve::start().await;
    let gateway = &serve.gateway;
    let token_file = serve.folder.path().join("access-token");
    assert!(gateway.can_send_from(PHONE_NUMBER_ID).await);
    std::fs::write(&token_file, "a-token-that-was-revoked").unwrap();
    eventually!(!gateway.can_send_from(PHONE_NUMBER_ID).await);
    let asked = gateway.sent_bodies().await.len();
    for number in [PHONE_NUMBER_ID, SECOND_NUMBER] {
        let refusal = gateway.attempt_from(number).await.unwrap_err();
        assert_parked(&refusal, "UPSTREAM_CREDENTIALS", Some(190));
        assert!(gateway.is_parked(number).await);
    }
    assert_eq!(gateway.sent_bodies().await.len(), asked, "Meta is left alone");
    std::fs::write(&token_file, "dev-access-token").unwrap();
    for number in [PHONE_NUMBER_ID, SECOND_NUMBER] {
        eventually!(gateway.can_send_from(number).await);
        eventually!(!gateway.is_parked(number).await);
        let reason = || "UPSTREAM_CREDENTIALS".to_owned();
        let told = vec![(true, reason(), Some(190)), (false, reason(), Some(190))];
        eventually!(gateway.reports(number).await == told);
    }
    let log = gateway.log();
    assert!(
        log.contains("a business number cannot send") && log.contains("a business number can send again")
    );
}

#[tokio::test]
async fn a_token_that_is_refused_by_mistake_costs_a_moment() {
    let gateway = Gateway::builder().env(PROBE_INTERVAL, "1 h").start().await;
    gateway.errors(1, "POST", "/messages", 190).await;
    assert_eq!(gateway.refused(send(text("Hello"))).await.metadata["meta_code"], "190");
    eventually!(gateway.can_send_from(PHONE_NUMBER_ID).await);
    // The same again, and reading is no help either: then it stays parked.
    gateway.errors(1_000, "GET", PHONE_NUMBER_ID, 190).await;
    gateway.errors(1, "POST", "/messages", 190).await;
    assert!(!gateway.can_send_from(PHONE_NUMBER_ID).await);
    let asked = gateway.sent_bodies().await.len();
    assert_parked(&gateway.refused(send(text("Hello"))).await, "UPSTREAM_CREDENTIALS", Some(190));
    assert_eq!(gateway.sent_bodies().await.len(), asked);
}

#[tokio::test]
async fn a_locked_account_is_let_go_by_a_webhook() {
    let gateway = Gateway::builder().env(PROBE_INTERVAL, "1 h").start().await;
    gateway.ban("DISABLE", true).await;
    let refusal = gateway.refused(send(text("Hello"))).await;
    assert_eq!((refusal.is(), refusal.retry), (LOCKED, None), "Meta said it");
    assert_parked(&gateway.refused(send(text("Hello"))).await, "UPSTREAM_ACCOUNT", Some(131_031));
    assert_eq!(gateway.sent_bodies().await.len(), 1);
    gateway.ban("REINSTATE", false).await;
    eventually!(gateway.can_send_from(PHONE_NUMBER_ID).await);
    let asked = gateway.sent_bodies().await.len();
    // This time Meta says it before anybody has tried.
    gateway.ban("DISABLE", false).await;
    eventually!(gateway.is_parked(PHONE_NUMBER_ID).await);
    assert_parked(&gateway.refused(send(text("Hello"))).await, "UPSTREAM_ACCOUNT", None);
    assert_eq!(gateway.sent_bodies().await.len(), asked);
    let account = || "UPSTREAM_ACCOUNT".to_owned();
    let told =
        vec![(true, account(), Some(131_031)), (false, account(), Some(131_031)), (true, account(), None)];
    eventually!(gateway.reports(PHONE_NUMBER_ID).await == told);
}

#[tokio::test]
async fn what_has_time_waits_until_the_number_can_send() {
    let gateway = Gateway::builder().env(PROBE_INTERVAL, "1 h").start().await;
    gateway.simulate("delays", &json!({"failed_ms": 500})).await;
    let language = Some(v1::TemplateLanguage { code: "en_US".to_owned(), policy: String::new() });
    let fallback_template =
        Some(v1::Template { name: "hello_world".to_owned(), language, components: Vec::new() });
    gateway.send(v1::SendMessageRequest { fallback_template, ..text_to("+16505550000", "Hello") }).await;
    gateway.ban("DISABLE", true).await;
    // The message fails because of the window, and Meta refuses the template in its place.
    eventually!(gateway.is_parked(PHONE_NUMBER_ID).await);
    gateway.ban("REINSTATE", false).await;
    let sent = async || {
        let events = gateway.events().await.into_iter();
        let mut outcomes = events.filter_map(|event| match event.payload {
            Some(v1::event::Payload::Fallback(report)) => Some(report.outcome()),
            _ => None,
        });
        outcomes.next()
    };
    eventually!(sent().await == Some(v1::FallbackOutcome::Accepted));
    assert_eq!(gateway.sent_bodies().await.len(), 3, "the message, and the template twice");
}

#[tokio::test]
async fn a_locked_account_is_found_well_by_reading_or_by_a_message() {
    let gateway = Gateway::builder().env(PROBE_INTERVAL, "200 ms").start().await;
    gateway.ban("DISABLE", true).await;
    assert_eq!(gateway.refused(send(text("Hello"))).await.is(), LOCKED);
    gateway.ban("REINSTATE", true).await;
    let asked = gateway.sent_bodies().await.len();
    eventually!(!gateway.is_parked(PHONE_NUMBER_ID).await);
    assert_eq!(gateway.sent_bodies().await.len(), asked, "reading was enough");
    // Now it cannot be read, and one message after another tries.
    gateway.errors(1_000, "GET", PHONE_NUMBER_ID, 2).await;
    gateway.errors(2, "POST", "/messages", 131_031).await;
    assert_eq!(gateway.refused(send(text("Hello"))).await.is(), LOCKED);
    let asked = gateway.sent_bodies().await.len();
    eventually!(gateway.can_send_from(PHONE_NUMBER_ID).await);
    assert_eq!(gateway.sent_bodies().await.len(), asked + 2, "one that failed and one that passed");
}

#[tokio::test]
async fn quality_parks_a_number_when_nothing_passes_any_more() {
    let gateway = Gateway::builder().env(PROBE_INTERVAL, "300 ms").start().await;
    for _ in 0..4 {
        gateway.errors(2, "POST", "/messages", 131_048).await;
        for _ in 0..2 {
            assert_eq!(gateway.refused(send(text("Hello"))).await.is().1, "UPSTREAM_QUALITY_LIMIT");
        }
        assert!(gateway.can_send_from(PHONE_NUMBER_ID).await, "two in a row may be chance");
    }
    gateway.errors(3, "POST", "/messages", 131_048).await;
    for _ in 0..3 {
        gateway.refused(send(text("Hello"))).await;
    }
    let asked = gateway.sent_bodies().await.len();
    let refusal = gateway.refused(send(text("Hello"))).await;
    assert_eq!(refusal.is(), (Code::ResourceExhausted, "UPSTREAM_QUALITY_LIMIT"));
    assert!(refusal.message.contains("unable to send for"), "{}", refusal.message);
    assert_eq!(gateway.sent_bodies().await.len(), asked);
    eventually!(gateway.can_send_from(PHONE_NUMBER_ID).await);
    assert!(gateway.can_send_from(PHONE_NUMBER_ID).await, "the one that passed has freed the others");
}

#[tokio::test]
async fn what_failed_later_counts_only_while_it_is_news() {
    let gateway = Gateway::builder().env(PROBE_INTERVAL, "1 h").start().await;
    let now = SystemClock.now_ms() / 1000;
    for (age, is_news) in [(3_600, false), (0, true)] {
        let statuses: Vec<Value> = (0..3)
            .map(|n| {
                json!({"id": format!("wamid.{age}.{n}"), "status": "failed", "timestamp": (now - age).to_string(),
                       "recipient_id": "16505551234", "errors": [{"code": 131_048, "title": "Spam rate limit hit"}]})
            })
            .collect();
        let value = json!({
            "messaging_product": "whatsapp",
            "metadata": {"display_phone_number": "15550783881", "phone_number_id": PHONE_NUMBER_ID},
            "statuses": statuses,
        });
        let change = json!([{"field": "messages", "value": value}]);
        let body =
            json!({"object": "whatsapp_business_account", "entry": [{"id": WABA_ID, "changes": change}]});
        assert_eq!(gateway.post_webhook(body.to_string()).await, 200);
        // The last of them is known, so all of them were heard.
        let asked = || v1::GetMessageRequest {
            key: Some(v1::get_message_request::Key::MessageId(format!("wamid.{age}.2"))),
            ..Default::default()
        };
        let mut client = gateway.client().await;
        eventually!(client.get_message(asked()).await.is_ok());
        assert_eq!(gateway.can_send_from(PHONE_NUMBER_ID).await, !is_news);
    }
    let refusal = gateway.refused(send(text("Hello"))).await;
    assert_eq!(refusal.is(), (Code::ResourceExhausted, "UPSTREAM_QUALITY_LIMIT"));
}

#[tokio::test]
async fn used_up_calls_hold_up_the_account_or_the_whole_app() {
    for (code, stops_both) in [(80_007, false), (4, true)] {
        let serve = Serve::start().await;
        let gateway = &serve.gateway;
        gateway.fault("/messages", json!({"error": {"code": code}, "retry_after": 600})).await;
        // Meta says it to the first, and the gateway to the second.
        for _ in 0..2 {
            let phone_number_id = PHONE_NUMBER_ID.to_owned();
            let request = v1::SendMessageRequest { phone_number_id, ..send(text("Hello")) };
            let refusal = gateway.refused_within(request, Duration::from_secs(2)).await;
            assert_eq!(refusal.is(), (Code::ResourceExhausted, "UPSTREAM_ACCOUNT_RATE"));
            assert!(refusal.retry.is_some_and(|retry| retry.as_secs() > 590), "{refusal:?}");
            assert_eq!(gateway.sent_bodies().await.len(), 1);
        }
        let suspended = async |number| gateway.gauge("whatsapp_gateway_number_suspended", number).await;
        eventually!(suspended(PHONE_NUMBER_ID).await == Some(1.0));
        eventually!(suspended(SECOND_NUMBER).await == Some(f64::from(u8::from(stops_both))));
        if !stops_both {
            assert!(gateway.can_send_from(SECOND_NUMBER).await);
        }
    }
}
