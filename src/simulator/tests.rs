//! The simulator through a real socket: a client sends, a sink takes the webhooks and checks each signature.

mod templates;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU16, AtomicU64, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use http::{HeaderMap, StatusCode};
use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::*;

const PATIENCE: Duration = Duration::from_secs(20);
const SEND: &str = "/v25.0/106540352242922/messages";
const WABA: &str = "/v25.0/102290129340398";

/// What receives webhooks.
#[derive(Default)]
struct Sink {
    received: Mutex<VecDeque<Value>>,
    arrived: Notify,
    /// So many webhooks are refused with 503 first.
    refusals: AtomicU16,
}

async fn take(State(sink): State<Arc<Sink>>, headers: HeaderMap, body: bytes::Bytes) -> StatusCode {
    let expected = wire::sign("dev-app-secret", &body);
    if headers.get("x-hub-signature-256").is_none_or(|given| given != expected.as_str()) {
        return StatusCode::UNAUTHORIZED;
    }
    let refused = |left: u16| left.checked_sub(1);
    if sink.refusals.fetch_update(Ordering::SeqCst, Ordering::SeqCst, refused).is_ok() {
        return StatusCode::SERVICE_UNAVAILABLE;
    }
    assert!(body.is_ascii(), "Meta escapes everything else");
    lock(&sink.received).push_back(serde_json::from_slice(&body).unwrap());
    sink.arrived.notify_one();
    StatusCode::OK
}

struct Running {
    base: String,
    http: reqwest::Client,
    sink: Arc<Sink>,
    /// Seconds since the epoch; stands still unless a test moves it.
    time: Arc<AtomicU64>,
    tasks: Vec<JoinHandle<()>>,
    stop: CancellationToken,
    _stop_at_end: DropGuard,
}

async fn start() -> Running {
    start_with(|_| {}).await
}

#[expect(clippy::disallowed_methods, reason = "a test waits for its tasks itself")]
async fn start_with(change: impl FnOnce(&mut Config)) -> Running {
    let time = Arc::new(AtomicU64::new(1_750_000_000));
    let seconds = Arc::clone(&time);
    let clock: Clock = Arc::new(move || UNIX_EPOCH + Duration::from_secs(seconds.load(Ordering::SeqCst)));
    let sink = Arc::new(Sink::default());
    let router = Router::new().fallback(take).with_state(Arc::clone(&sink));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let webhook_url = format!("http://{}/webhook", listener.local_addr().unwrap());
    let stop = CancellationToken::new();
    let stopped = stop.clone().cancelled_owned();
    let receiver = async move {
        axum::serve(listener, router).with_graceful_shutdown(stopped).await.unwrap();
    };

    let mut config = Config::new("127.0.0.1:0".parse().unwrap(), clock);
    config.seed = Some(7);
    config.delays.retry_first = Duration::from_millis(1);
    change(&mut config);
    let simulator = Simulator::bind(config).await.unwrap();
    let base = format!("http://{}", simulator.local_addr());
    simulator.set_webhook_url(webhook_url);
    let tasks = vec![tokio::spawn(receiver), tokio::spawn(simulator.run(stop.clone()))];
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    Running { base, http, sink, time, tasks, stop: stop.clone(), _stop_at_end: stop.drop_guard() }
}

impl Running {
    async fn call(&self, method: http::Method, path: &str, body: Option<Value>) -> (u16, Value) {
        let response = self.try_call(method, path, body).await.unwrap();
        let status = response.status().as_u16();
        (status, serde_json::from_slice(&response.bytes().await.unwrap()).unwrap_or(Value::Null))
    }

    async fn try_call(
        &self,
        method: http::Method,
        path: &str,
        body: Option<Value>,
    ) -> reqwest::Result<reqwest::Response> {
        let url = if path.starts_with("http") { path.to_owned() } else { format!("{}{path}", self.base) };
        let mut request = self.http.request(method, url).bearer_auth("dev-access-token").timeout(PATIENCE);
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(body.to_string());
        }
        request.send().await
    }

    async fn get(&self, path: &str) -> Value {
        let (status, body) = self.call(http::Method::GET, path, None).await;
        assert_eq!(status, 200, "{path}: {body}");
        body
    }

    async fn post(&self, path: &str, body: Value) -> (u16, Value) {
        self.call(http::Method::POST, path, Some(body)).await
    }

    async fn control(&self, name: &str, body: Value) -> Value {
        let (status, answer) = self.post(&format!("/_simulator/{name}"), body).await;
        assert_eq!(status, 200, "{name}: {answer}");
        answer
    }

    /// The next webhook.
    async fn webhook(&self) -> Value {
        let next = async {
            loop {
                let arrived = self.sink.arrived.notified();
                if let Some(body) = lock(&self.sink.received).pop_front() {
                    return body;
                }
                arrived.await;
            }
        };
        tokio::time::timeout(PATIENCE, next).await.expect("no webhook came")
    }

    /// The `value` of the only change of the next webhook.
    async fn value(&self) -> Value {
        let mut body = self.webhook().await;
        body["entry"][0]["changes"][0]["value"].take()
    }

    /// The next webhooks' statuses as (message id, status).
    async fn statuses(&self, count: usize) -> Vec<(String, String)> {
        let mut statuses = Vec::new();
        for _ in 0..count {
            let value = self.value().await;
            let text = |key: &str| value["statuses"][0][key].as_str().unwrap().to_owned();
            statuses.push((text("id"), text("status")));
        }
        statuses
    }

    async fn end(mut self) {
        self.stop.cancel();
        for task in self.tasks.drain(..) {
            tokio::time::timeout(PATIENCE, task).await.expect("a task did not end").unwrap();
        }
    }
}

fn text(to: &str) -> Value {
    json!({
        "messaging_product": "whatsapp", "to": to, "type": "text", "text": { "body": "Grüße" },
        "biz_opaque_callback_data": "order=1",
    })
}

fn id_of(answer: &Value) -> String {
    answer["messages"][0]["id"].as_str().unwrap_or_else(|| panic!("not accepted: {answer}")).to_owned()
}

fn lives(id: &str, statuses: &[&str]) -> Vec<(String, String)> {
    statuses.iter().map(|status| (id.to_owned(), (*status).to_owned())).collect()
}

#[tokio::test]
async fn a_window_opens_when_the_user_writes() {
    let running = start().await;
    let (status, answer) = running.post(SEND, text("+1 650 555 1234")).await;
    assert_eq!(status, 200);
    assert_eq!(answer["contacts"], json!([{ "input": "+1 650 555 1234", "wa_id": "16505551234" }]));
    let value = running.value().await;
    assert_eq!(value["statuses"][0]["id"], id_of(&answer));
    assert_eq!(value["statuses"][0]["errors"][0]["code"], 131_047);
    assert_eq!(value["statuses"][0]["biz_opaque_callback_data"], "order=1");

    let inbound = json!({ "from": "16505551234", "name": "Jörg", "text": "Hi" });
    let received = running.control("messages", inbound).await;
    let value = running.value().await;
    assert_eq!(value["messages"][0]["id"], received["message_id"]);
    assert_eq!(value["messages"][0]["text"]["body"], "Hi");
    assert_eq!(value["contacts"][0]["profile"]["name"], "Jörg");

    let (_, answer) = running.post(SEND, text("+16505551234")).await;
    let sent = running.value().await;
    assert_eq!(sent["statuses"][0]["status"], "sent");
    assert_eq!(sent["statuses"][0]["recipient_id"], "16505551234");
    assert_eq!(sent["statuses"][0]["recipient_user_id"], received["user_id"]);
    assert_eq!(sent["statuses"][0]["pricing"]["category"], "service");
    assert_eq!(running.statuses(2).await, lives(&id_of(&answer), &["delivered", "read"]));

    running.time.fetch_add(24 * 3600, Ordering::SeqCst);
    running.post(SEND, text("+16505551234")).await;
    assert_eq!(running.value().await["statuses"][0]["errors"][0]["code"], 131_047);

    let read =
        json!({ "messaging_product": "whatsapp", "status": "read", "message_id": received["message_id"] });
    assert_eq!(running.post(SEND, read).await, (200, json!({ "success": true })));
    let read = json!({ "messaging_product": "whatsapp", "status": "read", "message_id": "wamid.unknown" });
    assert_eq!(running.post(SEND, read).await.1["error"]["code"], 131_009);
    running.end().await;
}

#[tokio::test]
async fn templates_pass_any_time_and_a_hidden_number_can_be_answered() {
    let running = start().await;
    let template = json!({ "name": "hello_world", "language": { "code": "en_US" } });
    let mut body = json!({
        "messaging_product": "whatsapp", "to": "+16505551234", "type": "template", "template": template,
    });
    let (_, answer) = running.post(SEND, body.clone()).await;
    assert_eq!(running.statuses(3).await, lives(&id_of(&answer), &["sent", "delivered", "read"]));

    let inbound =
        json!({ "user_id": "US.7", "message": { "type": "image", "image": { "caption": "Look" } } });
    running.control("messages", inbound).await;
    let value = running.value().await;
    assert_eq!(value["contacts"], json!([{ "user_id": "US.7" }]));
    let message = &value["messages"][0];
    assert_eq!((message.get("from"), &message["from_user_id"]), (None, &json!("US.7")));
    let media = running.get(&format!("/v25.0/{}", message["image"]["id"].as_str().unwrap())).await;
    assert_eq!(media["mime_type"], "image/png");
    let url = message["image"]["url"].as_str().unwrap();
    let content = running.try_call(http::Method::GET, url, None).await.unwrap().bytes().await.unwrap();
    assert_eq!(media["file_size"], content.len());

    body = text("");
    body.as_object_mut().unwrap().remove("to");
    body["recipient"] = json!("US.7");
    let (_, answer) = running.post(SEND, body).await;
    assert_eq!(answer["contacts"], json!([{ "input": "US.7", "user_id": "US.7" }]));
    assert_eq!(running.statuses(3).await, lives(&id_of(&answer), &["sent", "delivered", "read"]));
    running.end().await;
}

#[tokio::test]
async fn wrong_tokens_ids_and_paths() {
    let running = start().await;
    let response =
        running.http.get(format!("{}{WABA}", running.base)).bearer_auth("wrong").send().await.unwrap();
    assert_eq!(response.status(), 401);
    assert!(response.headers()["www-authenticate"].to_str().unwrap().contains("invalid_token"));
    let body: Value = serde_json::from_slice(&response.bytes().await.unwrap()).unwrap();
    assert_eq!((&body["error"]["code"], &body["error"]["type"]), (&json!(190), &json!("OAuthException")));
    assert!(body["error"]["fbtrace_id"].is_string());

    let (status, body) = running.post("/v25.0/42/messages", text("+16505551234")).await;
    assert_eq!((status, &body["error"]["error_subcode"]), (400, &json!(33)));
    assert_eq!(running.post("/106540352242922/messages", json!({})).await.1["error"]["code"], 2500);
    let (status, body) = running.post("/_simulator/faults", json!({ "falt": {} })).await;
    assert_eq!(status, 400);
    assert!(body["error"].as_str().unwrap().contains("falt"));
    running.end().await;
}

#[tokio::test]
async fn limits_hold_and_can_be_raised() {
    let running = start().await;
    running.control("limits", json!({ "messages_per_second": 3, "pair_burst": 2 })).await;
    let to = "+15550000013";
    let mut codes = Vec::new();
    for to in [to, to, to, "+16505550001"] {
        codes.push(running.post(SEND, text(to)).await.1["error"]["code"].clone());
    }
    assert_eq!(codes, [Value::Null, Value::Null, json!(131_056), json!(130_429)]);
    running.control("limits", json!({ "messages_per_second": 1_000_000, "pair_burst": 1_000_000 })).await;
    for _ in 0..100 {
        assert_eq!(running.post(SEND, text(to)).await.0, 200);
    }
    running.end().await;
}

#[tokio::test]
async fn webhooks_are_retried_in_order() {
    let running = start().await;
    running.sink.refusals.store(5, Ordering::SeqCst);
    let (_, answer) = running.post(SEND, text("+15550000013")).await;
    assert_eq!(running.statuses(3).await, lives(&id_of(&answer), &["sent", "delivered", "read"]));
    let deliveries = running.get("/_simulator/deliveries").await;
    let attempts: u64 = deliveries["deliveries"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["attempts"].as_u64().unwrap())
        .sum();
    assert!(attempts >= 7, "{deliveries}");
    running.end().await;
}

#[tokio::test]
async fn magic_recipients() {
    let running = start().await;
    for (to, status, code) in [
        ("+15550131030", 400, Some(131_030)),
        ("+15550132001", 404, Some(132_001)),
        ("+15550000005", 500, Some(131_000)),
        ("+15550000006", 500, Some(131_000)),
        ("+15550131026", 200, None),
        ("+15551130429", 200, None),
    ] {
        let (got, body) = running.post(SEND, text(to)).await;
        assert_eq!((got, body["error"]["code"].as_u64()), (status, code), "{to}");
        let follows: &[&str] = match to {
            "+15550000006" => &["sent", "delivered", "read"],
            "+15550131026" | "+15551130429" => &["failed"],
            _ => &[],
        };
        for status in follows {
            assert_eq!(running.value().await["statuses"][0]["status"], *status, "{to}");
        }
    }
    for (to, expected) in [
        ("+15550000001", &["sent"][..]),
        ("+15550000002", &["sent", "delivered"]),
        ("+15550000003", &["read", "delivered", "sent"]),
        ("+15550000008", &["sent", "sent", "delivered", "delivered", "read", "read"]),
        ("+15550000009", &["sent", "read"]),
    ] {
        let (_, answer) = running.post(SEND, text(to)).await;
        assert_eq!(running.statuses(expected.len()).await, lives(&id_of(&answer), expected), "{to}");
    }
    let (_, answer) = running.post(SEND, text("+15550000007")).await;
    assert_eq!(answer["messages"][0]["message_status"], "held_for_quality_assessment");
    running.end().await;
}

#[tokio::test]
async fn faults_of_requests() {
    let running = start().await;
    let to = "+15550000013";
    let plan = |fault: Value| json!({ "match": { "path_suffix": "/messages", "to": to }, "fault": fault });
    let error = json!({ "error": { "code": 4, "http_status": 429, "transient": true }, "retry_after": 9 });
    running.control("faults", plan(error)).await;
    let response = running.try_call(http::Method::POST, SEND, Some(text(to))).await.unwrap();
    assert_eq!(
        (response.status().as_u16(), &response.headers()["retry-after"]),
        (429, &"9".parse().unwrap())
    );

    running.control("faults", plan(json!({ "http": { "status": 502, "body": "<html>" } }))).await;
    let response = running.try_call(http::Method::POST, SEND, Some(text(to))).await.unwrap();
    assert_eq!(response.status(), 502);
    assert_eq!(response.text().await.unwrap(), "<html>");

    running.control("faults", plan(json!({ "cut": "before_acceptance" }))).await;
    running.try_call(http::Method::POST, SEND, Some(text(to))).await.unwrap_err();
    running.control("faults", plan(json!({ "cut": "after_acceptance" }))).await;
    running.try_call(http::Method::POST, SEND, Some(text(to))).await.unwrap_err();
    let value = running.value().await;
    assert_eq!(value["statuses"][0]["status"], "sent", "only the second was accepted");
    running.statuses(2).await;

    running.control("faults", plan(json!({ "stall": true }))).await;
    let stalled = running.try_call(http::Method::POST, SEND, Some(text(to)));
    tokio::time::timeout(Duration::from_millis(200), stalled).await.unwrap_err();

    let requests = running.get("/_simulator/requests?path=/messages").await;
    let outcomes: Vec<&Value> = requests.as_array().unwrap().iter().map(|one| &one["outcome"]).collect();
    assert_eq!(
        outcomes,
        [
            &json!(429),
            &json!(502),
            &json!("connection cut"),
            &json!("connection cut"),
            &json!("never answered")
        ]
    );
    assert_eq!(requests[0]["body"], text(to));
    assert!(!requests.to_string().contains("dev-access-token"));
    assert_eq!(running.get("/_simulator/faults").await, json!([]));
    running.end().await;
}

#[tokio::test]
async fn faults_of_webhooks() {
    let running = start().await;
    let to = "+15550000013";
    running
        .control("faults", json!({ "fault": { "duplicate_webhooks": 1, "reorder_webhooks": true } }))
        .await;
    let (_, answer) = running.post(SEND, text(to)).await;
    let expected = lives(&id_of(&answer), &["read", "read", "delivered", "delivered", "sent", "sent"]);
    assert_eq!(running.statuses(6).await, expected);

    running.control("faults", json!({ "count": 2, "fault": { "batch_webhooks": 6 } })).await;
    running.post(SEND, text(to)).await;
    running.post(SEND, text(to)).await;
    assert_eq!(running.value().await["statuses"].as_array().unwrap().len(), 6);

    let from = json!({ "match": { "from": "+16505551234" }, "fault": { "duplicate_webhooks": 1 } });
    running.control("faults", from).await;
    running.control("messages", json!({ "from": "16505551234", "text": "Hi" })).await;
    assert_eq!(running.webhook().await, running.webhook().await);
    running.end().await;
}

#[tokio::test]
async fn any_webhook_is_signed_and_delivered() {
    let running = start().await;
    let body = json!({ "object": "x", "text": "ä/", "big": 12_345_678_901_234_567_u64 });
    let answer = running.control("webhooks", json!({ "body": body })).await;
    assert_eq!(answer["status"], 200);
    assert_eq!(running.webhook().await, body);
    let wrong = running.control("webhooks", json!({ "raw_base64": "eyJ9", "signature": "wrong" })).await;
    assert_eq!(wrong["status"], 401);
    running.end().await;
}

#[tokio::test]
async fn media_are_uploaded_read_sent_and_deleted() {
    let running = start().await;
    let form = "--b\r\nContent-Disposition: form-data; name=\"messaging_product\"\r\n\r\nwhatsapp\r\n\
                --b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.png\"\r\n\
                Content-Type: image/png\r\n\r\npixels\r\n--b--\r\n";
    let upload = running
        .http
        .post(format!("{}/v25.0/106540352242922/media", running.base))
        .bearer_auth("dev-access-token")
        .header("content-type", "multipart/form-data; boundary=b")
        .body(form);
    let response = upload.send().await.unwrap();
    assert_eq!(response.status(), 200);
    let uploaded: Value = serde_json::from_slice(&response.bytes().await.unwrap()).unwrap();
    let path = format!("/v25.0/{}", uploaded["id"].as_str().unwrap());
    let media = running.get(&path).await;
    let requests = running.get("/_simulator/requests?path=/media").await;
    assert_eq!(requests[0]["parts"][1]["sha256"], media["sha256"]);
    assert_eq!(requests[0]["parts"][1]["bytes"], 6);

    let url = media["url"].as_str().unwrap();
    let response = running.try_call(http::Method::GET, url, None).await.unwrap();
    assert_eq!(response.bytes().await.unwrap(), "pixels");
    assert_eq!(running.http.get(url).send().await.unwrap().status(), 401);
    running.time.fetch_add(300, Ordering::SeqCst);
    assert_eq!(running.call(http::Method::GET, url, None).await.0, 404);

    let image = |id: &Value| json!({ "messaging_product": "whatsapp", "to": "+15550000013", "type": "image", "image": { "id": id } });
    assert_eq!(running.post(SEND, image(&uploaded["id"])).await.0, 200);
    assert_eq!(running.call(http::Method::DELETE, &path, None).await, (200, json!({ "success": true })));
    assert_eq!(running.post(SEND, image(&uploaded["id"])).await.1["error"]["code"], 100);
    running.end().await;
}

#[tokio::test]
async fn reads_subscriptions_and_reset() {
    let running = start().await;
    let number = running.get("/v25.0/106540352242922?fields=status,throughput{level}").await;
    assert_eq!(
        number,
        json!({ "id": "106540352242922", "status": "CONNECTED", "throughput": { "level": "STANDARD" } })
    );
    let numbers = running.get(&format!("{WABA}/phone_numbers")).await;
    assert_eq!(numbers["data"][0]["display_phone_number"], "+15550783881");
    let subscribed = format!("{WABA}/subscribed_apps");
    assert_eq!(running.get(&subscribed).await["data"].as_array().unwrap().len(), 1);
    running.call(http::Method::DELETE, &subscribed, None).await;
    assert_eq!(running.get(&subscribed).await["data"], json!([]));
    running.control("limits", json!({ "pair_burst": 1 })).await;
    running.control("reset", json!({})).await;
    assert_eq!(running.get(&subscribed).await["data"].as_array().unwrap().len(), 1);
    assert_eq!(running.get("/_simulator/limits").await["pair_burst"], 45);
    assert_eq!(running.get("/_simulator/requests?method=DELETE").await, json!([]));
    assert!(running.get("/_simulator").await["magic_recipients"].as_array().unwrap().len() > 10);
    running.end().await;
}
