//! The gateway as people try it: the real grpcurl, which knows nothing but what reflection tells.

use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::process::Command;
use tokio::time::timeout;

use crate::eventually;
use crate::support::Gateway;

const SERVICE: &str = "whatsapp.gateway.v1.GatewayService";

/// Where `make tools` puts it. Where it is absent the test says so and is skipped, except in CI.
fn grpcurl() -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(".tools/bin/grpcurl");
    if path.is_file() {
        return Some(path);
    }
    assert!(std::env::var("CI").as_deref() != Ok("true"), "CI needs {}", path.display());
    eprintln!("skipped: {} is absent, run `make tools`", path.display());
    None
}

struct Grpcurl {
    path: PathBuf,
    gateway: Gateway,
}

impl Grpcurl {
    async fn start() -> Option<Self> {
        Some(Self { path: grpcurl()?, gateway: Gateway::dev().await })
    }

    /// Runs it with these flags before the address, and these words behind it.
    async fn run(&self, flags: &[&str], words: &[&str]) -> Output {
        let mut command = Command::new(&self.path);
        command
            .arg("-plaintext")
            .args(flags)
            .arg(self.gateway.address("grpc"))
            .args(words)
            .kill_on_drop(true);
        timeout(Duration::from_secs(30), command.output()).await.expect("it did not end").unwrap()
    }

    /// As [`Self::run`], for what must succeed; returns its output.
    async fn text(&self, flags: &[&str], words: &[&str]) -> String {
        let output = self.run(flags, words).await;
        assert!(output.status.success(), "{flags:?} {words:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    async fn call(&self, method: &str, request: &Value) -> String {
        self.text(&["-d", &request.to_string()], &[&format!("{SERVICE}/{method}")]).await
    }
}

fn messages(text: &str) -> Vec<Value> {
    serde_json::Deserializer::from_str(text).into_iter().collect::<Result<_, _>>().unwrap()
}

/// Each line without the white space around it, joined by spaces.
fn in_one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[tokio::test]
async fn reflection_lists_and_describes_in_both_versions() {
    let Some(grpcurl) = Grpcurl::start().await else { return };
    let list = grpcurl.text(&[], &["list"]).await;
    for service in [SERVICE, "grpc.health.v1.Health"] {
        assert!(list.lines().any(|line| line == service), "{list}");
    }
    let methods = grpcurl.text(&[], &["list", SERVICE]).await;
    for method in ["SendMessage", "MarkMessageRead", "ManageTemplate", "SubscribeEvents"] {
        assert!(methods.lines().any(|line| line == format!("{SERVICE}.{method}")), "{methods}");
    }
    let described = in_one_line(&grpcurl.text(&[], &["describe", &format!("{SERVICE}.SendMessage")]).await);
    assert!(described.contains("sends one message and answers when Meta has accepted it"), "{described}");
    let described = grpcurl.text(&[], &["describe", "whatsapp.gateway.v1.SendMessageRequest"]).await;
    for word in ["callback_data comes back on every status", "oneof content", "string phone_number_id = 2"] {
        assert!(described.contains(word), "{word} is missing in\n{described}");
    }
    let template = grpcurl.text(&["-msg-template"], &["describe", "whatsapp.gateway.v1.Recipient"]).await;
    assert!(template.contains("Message template"), "{template}");
    // Every version by name, as old tools ask for it.
    for version in ["v1", "v1alpha"] {
        let service = format!("grpc.reflection.{version}.ServerReflection");
        let request = json!({"list_services": ""});
        let method = format!("{service}/ServerReflectionInfo");
        let answer = grpcurl.text(&["-d", &request.to_string()], &[&method]).await;
        assert!(answer.contains(SERVICE), "{version}: {answer}");
    }
}

#[tokio::test]
async fn a_conversation_by_hand() {
    let Some(grpcurl) = Grpcurl::start().await else { return };
    let gateway = &grpcurl.gateway;
    gateway.simulate("messages", &json!({"from": "16505551234", "text": "Is the shop open?"})).await;
    eventually!(gateway.events().await.len() == 1);
    let request = json!({
        "recipient": {"phone_number": "+16505551234"}, "text": {"body": "Yes, until six."}, "callback_data": "order=1",
    });
    let sent = messages(&grpcurl.call("SendMessage", &request).await).remove(0);
    assert_eq!(sent["state"], "SEND_STATE_ACCEPTED");
    assert!(sent["messageId"].as_str().unwrap().starts_with("wamid."), "{sent}");
    eventually!(gateway.events().await.len() == 4);

    let request =
        json!({"position": "POSITION_EARLIEST", "stop_when_caught_up": true, "max_batch_events": 2});
    let frames = messages(&grpcurl.call("SubscribeEvents", &request).await);
    assert!(frames[0].get("opened").is_some(), "{frames:?}");
    assert!(frames.last().unwrap().get("caughtUp").is_some(), "{frames:?}");
    let events: Vec<&Value> =
        frames.iter().filter_map(|frame| frame["events"]["events"].as_array()).flatten().collect();
    assert_eq!(events[0]["event"]["message"]["text"]["body"], "Is the shop open?");
    assert!(
        events[0]["event"]["rawJson"].as_str().unwrap().contains("Is the shop open?"),
        "raw JSON is legible"
    );
    let statuses: Vec<_> =
        events[1..].iter().map(|event| event["event"]["status"]["status"].clone()).collect();
    assert_eq!(statuses, ["sent", "delivered", "read"]);
    assert_eq!(events[3]["event"]["status"]["callbackData"], "order=1");

    let listed = messages(&grpcurl.call("ManageTemplate", &json!({"list": {"name": "hello_world"}})).await);
    assert_eq!(listed[0]["list"]["templates"][0]["name"], "hello_world");
    let id = events[0]["event"]["message"]["id"].as_str().unwrap();
    let marked = grpcurl.call("MarkMessageRead", &json!({"message_id": id, "typing_indicator": true})).await;
    assert_eq!(messages(&marked), [json!({})]);
}

#[tokio::test]
async fn a_refusal_shows_its_details() {
    let Some(grpcurl) = Grpcurl::start().await else { return };
    let method = format!("{SERVICE}/SendMessage");
    let refused = async |request: Value| {
        let output = grpcurl.run(&["-d", &request.to_string()], &[&method]).await;
        assert!(!output.status.success());
        String::from_utf8(output.stderr).unwrap()
    };
    let bad = refused(json!({"recipient": {"phone_number": "0170"}, "text": {"body": ""}})).await;
    for word in ["InvalidArgument", "VALIDATION_FAILED", "BadRequest", "text.body", "recipient.phone_number"]
    {
        assert!(bad.contains(word), "{word} is missing in\n{bad}");
    }
    let meta =
        refused(json!({"recipient": {"phone_number": "+15550131030"}, "text": {"body": "Hello"}})).await;
    for word in ["FailedPrecondition", "RECIPIENT_NOT_ALLOWED", "131030", "whatsapp-gateway", "operator"] {
        assert!(meta.contains(word), "{word} is missing in\n{meta}");
    }
    let typo = refused(json!({"recipient": {"phone": "+1"}})).await;
    assert!(typo.contains("phone"), "{typo}");
    let unknown_number = refused(json!({
        "phone_number_id": "1", "recipient": {"phone_number": "+16505551234"}, "text": {"body": "Hello"},
    }));
    assert!(unknown_number.await.contains("PHONE_NUMBER_NOT_CONFIGURED"));
}
