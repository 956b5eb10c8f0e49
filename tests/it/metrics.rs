//! Every metric: made to happen in a real gateway, and read from a live scrape.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;
use std::time::UNIX_EPOCH;

use serde_json::{Value, json};
use tonic::Request;
use whatsapp_gateway::clock::{Clock, SystemClock};
use whatsapp_gateway::contract::v1::{self, WindowPolicy, send_message_request::Content};
use whatsapp_gateway::telemetry::names::{Kind, LABELS, METRICS};

use crate::eventually;
use crate::rules;
use crate::support::certificates::Authority;
use crate::support::rpc::{OPEN, queued, text_to};
use crate::support::serve::{ALL_RIGHTS, caller};
use crate::support::webhook::{self, PHONE_NUMBER_ID};
use crate::support::{Gateway, Scrape, Serve, Subscriber, Worker, subscriber, worker};
use crate::tls::{Client, section};
use crate::types_table::with_section;

/// Wrote two days ago, and nothing since, as the gateway knows.
const SILENT: &str = "16505551234";
const EXPIRY: u64 = 1_900_000_000;

fn unix_now() -> f64 {
    SystemClock.now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64()
}

fn seconds_ago(seconds: f64) -> String {
    format!("{:.0}", unix_now() - seconds)
}

/// Meta decides, whatever is known of the window.
fn to_meta(number: &str) -> v1::SendMessageRequest {
    v1::SendMessageRequest { window_policy: WindowPolicy::Ignore.into(), ..text_to(number, "Hello") }
}

fn template() -> v1::Template {
    let language = Some(v1::TemplateLanguage { code: "en_US".to_owned(), policy: String::new() });
    v1::Template { name: "hello_world".to_owned(), language, components: Vec::new() }
}

fn with_fallback(request: v1::SendMessageRequest) -> v1::SendMessageRequest {
    v1::SendMessageRequest { fallback_template: Some(template()), ..request }
}

/// Sends of every kind of outcome.
async fn send(gateway: &Gateway) {
    let old = json!({"type": "text", "text": {"body": "Hi"}, "timestamp": seconds_ago(48.0 * 3600.0)});
    gateway.simulate("messages", &json!({"from": SILENT, "message": old})).await;
    eventually!(gateway.events().await.len() == 1);
    gateway.refused(text_to(SILENT, "Hello")).await;
    gateway.refused(v1::SendMessageRequest { validate_only: true, ..text_to(SILENT, "Hello") }).await;
    assert!(gateway.send(with_fallback(text_to(SILENT, "Hello"))).await.used_fallback);
    gateway.send(with_fallback(to_meta(SILENT))).await;
    gateway.send(to_meta(OPEN)).await;
    gateway
        .send(v1::SendMessageRequest { content: Some(Content::Template(template())), ..to_meta(OPEN) })
        .await;
    gateway.refused(to_meta("+15550131030")).await;
    gateway.send(to_meta("+15551131026")).await;
    let waits =
        v1::SendMessageRequest { window_policy: WindowPolicy::Ignore.into(), ..queued("order", OPEN, "Hi") };
    gateway.send(waits).await;
}

/// Webhooks of every kind of outcome; those of the statuses come by themselves.
async fn receive(gateway: &Gateway) {
    let strange = json!({"object": "whatsapp_business_account", "entry": []}).to_string();
    assert_eq!(gateway.post_webhook(strange).await, 200);
    assert_eq!(gateway.post_webhook_signed(b"{}".to_vec(), Some("sha256=00")).await, 401);
    let twice = webhook::text("wamid.METRICS", OPEN.trim_start_matches('+'), "Hi").to_string();
    assert_eq!(gateway.post_webhook(twice.clone()).await, 200);
    assert_eq!(gateway.post_webhook(twice).await, 200);
}

/// A subscriber that reads, and one that does not.
async fn subscribe(gateway: &Gateway) -> (Subscriber, Subscriber) {
    let latest =
        subscriber::start(v1::subscribe_events_request::Start::Position(v1::Position::Latest.into()));
    let mut reading = Subscriber::open(&mut gateway.client().await, latest).await.unwrap();
    let silent = v1::SubscribeEventsRequest { max_batch_events: 1, ..subscriber::from_earliest() };
    let silent = Subscriber::open(&mut gateway.client().await, silent).await.unwrap();
    let message = |index: u32| {
        json!({"from": "16505550000", "id": format!("wamid.LAG{index}"), "timestamp": seconds_ago(0.0),
            "type": "text", "text": {"body": "x".repeat(4000)}})
    };
    let messages: Vec<Value> = (0..500).map(message).collect();
    assert_eq!(gateway.post_webhook(webhook::messages(&messages).to_string()).await, 200);
    let mut taken = 0;
    while taken < 500 {
        taken += reading.events().await.unwrap().len();
    }
    (reading, silent)
}

/// What Meta says of the number: its quality, and then that the token is dead.
async fn judge(gateway: &Gateway) {
    gateway.simulate(&format!("numbers/{PHONE_NUMBER_ID}"), &json!({"quality": "RED"})).await;
    let red =
        format!("whatsapp_gateway_number_quality{{phone_number_id=\"{PHONE_NUMBER_ID}\",quality=\"red\"}}");
    eventually!(gateway.scrape().await.sum(&red) > 0.0);
    for (method, path) in [("POST", "/messages"), ("GET", PHONE_NUMBER_ID)] {
        let matcher = json!({"method": method, "path_suffix": path});
        let fault = json!({"match": matcher, "count": 1000, "fault": {"error": {"code": 190}}});
        gateway.simulate("faults", &fault).await;
    }
    gateway.refused(to_meta(OPEN)).await;
    gateway.refused(to_meta(OPEN)).await;
}

/// A subscription with a worker that does one event, parks one, and leaves the others.
async fn work(gateway: &Gateway) -> Worker {
    gateway.subscription(worker::settings("orders")).await;
    let request = v1::SubscribeEventsRequest { max_outstanding_events: 2, ..worker::work("orders") };
    let mut worker = Worker::with(gateway, request).await.unwrap();
    let received = worker.take(2).await;
    assert_eq!(worker.say(&received[0], worker::done()).await, None);
    assert_eq!(worker.say(&received[1], worker::park("no stock")).await, None);
    worker
}

/// What must be at least this in the end.
const HAPPENED: &[(&str, f64)] = &[
    (r#"rpc_server_call_duration_seconds_count{rpc_response_status_code="OK"}"#, 6.0),
    (r#"rpc_server_call_duration_seconds_count{rpc_response_status_code="FAILED_PRECONDITION"}"#, 4.0),
    (r#"http_server_request_duration_seconds_count{http_response_status_code="401"}"#, 1.0),
    (r#"http_client_request_duration_seconds_count{url_template="/{phone_number_id}/messages"}"#, 7.0),
    (r#"http_client_request_duration_seconds_count{url_template="/debug_token"}"#, 1.0),
    (r#"whatsapp_gateway_meta_errors_total{class="RECIPIENT_NOT_ALLOWED"}"#, 1.0),
    (r#"whatsapp_gateway_meta_errors_total{class="UPSTREAM_CREDENTIALS"}"#, 1.0),
    (r#"whatsapp_gateway_sends_total{type="text",outcome="accepted"}"#, 3.0),
    (r#"whatsapp_gateway_message_statuses_total{status="read"}"#, 3.0),
    (r#"whatsapp_gateway_message_statuses_total{status="failed"}"#, 2.0),
    (r#"whatsapp_gateway_webhook_errors_total{class="WINDOW_CLOSED"}"#, 1.0),
    (r#"whatsapp_gateway_fallbacks_total{outcome="instead"}"#, 1.0),
    (r#"whatsapp_gateway_fallbacks_total{outcome="accepted"}"#, 1.0),
    (r#"whatsapp_gateway_template_lookups_total{outcome="read"}"#, 1.0),
    (r#"whatsapp_gateway_queued_sends_total{outcome="accepted"}"#, 1.0),
    (r#"whatsapp_gateway_lane_refusals_total{reason="parked"}"#, 1.0),
    (r#"whatsapp_gateway_number_parked{reason="UPSTREAM_CREDENTIALS"}"#, 1.0),
    ("whatsapp_gateway_number_rate", 80.0),
    ("whatsapp_gateway_number_messaging_limit", f64::INFINITY),
    ("whatsapp_gateway_access_token_expiry_timestamp_seconds", f64::INFINITY),
    (r#"whatsapp_gateway_webhooks_total{outcome="bad_signature"}"#, 1.0),
    (r#"whatsapp_gateway_webhook_items_total{outcome="duplicate"}"#, 1.0),
    ("whatsapp_gateway_webhook_unknown_items_total", 1.0),
    ("whatsapp_gateway_webhook_lag_seconds_count", 500.0),
    ("whatsapp_gateway_webhook_lag_seconds_sum", 48.0 * 3600.0),
    ("whatsapp_gateway_log_appended_events_total", 500.0),
    ("whatsapp_gateway_log_sync_seconds_count", 1.0),
    ("whatsapp_gateway_log_tail_seq", 500.0),
    ("whatsapp_gateway_log_earliest_seq", 1.0),
    ("whatsapp_gateway_log_ring_earliest_seq", 1.0),
    ("whatsapp_gateway_log_ring_bytes", 500_000.0),
    ("whatsapp_gateway_log_size_bytes", 1.0),
    ("whatsapp_gateway_log_disk_free_bytes", 1.0),
    ("whatsapp_gateway_projections_seq", 500.0),
    ("whatsapp_gateway_event_streams", 2.0),
    ("whatsapp_gateway_event_stream_lag_events", 100.0),
    ("whatsapp_gateway_event_stream_oldest_age_seconds", 0.001),
    ("whatsapp_gateway_event_age_seconds_count", 1.0),
    ("whatsapp_gateway_events_delivered_total", 500.0),
    ("whatsapp_gateway_subscriptions", 1.0),
    (r#"whatsapp_gateway_subscription_backlog_events{caller="local"}"#, 100.0),
    (r#"whatsapp_gateway_subscription_oldest_age_seconds{caller="local"}"#, 0.001),
    (r#"whatsapp_gateway_subscription_parked_events{caller="local"}"#, 1.0),
    (r#"whatsapp_gateway_subscription_outcomes_total{outcome="done"}"#, 1.0),
    (r#"whatsapp_gateway_subscription_parkings_total{reason="worker"}"#, 1.0),
    (r#"whatsapp_gateway_auth_decisions_total{outcome="allowed"}"#, 10.0),
    (r#"whatsapp_gateway_connections{listener="grpc"}"#, 1.0),
    ("whatsapp_gateway_build_info", 1.0),
    ("whatsapp_gateway_runtime_workers", 1.0),
    ("process_cpu_seconds_total", 0.01),
    ("process_resident_memory_bytes", 1e6),
    ("process_open_fds", 10.0),
];

/// What must be exactly this.
const EXACTLY: &[(&str, f64)] = &[
    // Looking is no refusal.
    ("whatsapp_gateway_window_refusals_total", 1.0),
    ("whatsapp_gateway_panics_total", 0.0),
    (r#"whatsapp_gateway_number_quality{quality="red"}"#, 1.0),
    (r#"whatsapp_gateway_number_quality{quality="green"}"#, 0.0),
];

#[tokio::test]
async fn what_happens_is_measured() {
    let gateway = Gateway::builder()
        .env("WHATSAPP_GATEWAY__SENDING__WINDOW_KNOWN_AFTER", "0 s")
        .env("WHATSAPP_GATEWAY__TELEMETRY__OTLP_ENDPOINT", "http://127.0.0.1:9")
        .env("WHATSAPP_GATEWAY__TELEMETRY__SAMPLING_RATIO", "1")
        .start()
        .await;
    let started = gateway.scrape().await.sum("process_start_time_seconds");
    assert!((unix_now() - started).abs() < 60.0, "{started}");
    send(&gateway).await;
    receive(&gateway).await;
    let read = r#"whatsapp_gateway_message_statuses_total{status="read"}"#;
    eventually!(gateway.scrape().await.sum(read) >= 4.0);
    let subscribers = (subscribe(&gateway).await, work(&gateway).await);
    judge(&gateway).await;
    for (series, least) in HAPPENED {
        println!("waiting for {series} {least}");
        eventually!(gateway.scrape().await.sum(series) >= *least);
    }
    let scrape = gateway.scrape().await;
    for (series, exact) in EXACTLY {
        assert!((scrape.sum(series) - exact).abs() < 1e-9, "{series} is {}", scrape.sum(series));
    }
    assert!(scrape.sum("whatsapp_gateway_webhook_last_accepted_timestamp_seconds") > started);
    scrape.assert_declared();
    let text = gateway.admin("/metrics").await.1;
    let is_described =
        |name: &&str| text.contains(&format!("# HELP {name} ")) && text.contains(&format!("# TYPE {name} "));
    let undescribed: Vec<_> = scrape.names().into_iter().filter(|name| !is_described(name)).collect();
    assert_eq!(undescribed, [""; 0]);
    drop(subscribers);
    eventually!(gateway.scrape().await.sum("whatsapp_gateway_event_stream_lag_events") < 1.0);
    let rest = credentials().await;
    let shown: BTreeSet<_> = scrape.names().union(&rest.names()).copied().collect();
    let missing = METRICS.iter().map(|metric| metric.name).filter(|name| !shown.contains(name));
    // Only where there are others; `cluster` sees it.
    let missing: Vec<_> = missing.filter(|name| *name != "whatsapp_gateway_relayed_call_seconds").collect();
    assert_eq!(missing, [""; 0], "never seen");
    let samples = scrape.0.iter().chain(&rest.0).map(|sample| sample.name.as_str()).collect();
    rules::assert_has_what_rules_and_dashboards_name(&samples);
    exemplars(&gateway).await;
}

fn by<T>(token: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
    request
}

/// Callers, quotas, certificates and tokens.
async fn credentials() -> Scrape {
    let authority = Authority::new();
    let limits = format!("{ALL_RIGHTS}sends_per_second = 1\nstreams_max = 1\n");
    let expires = "2029-01-31T12:00:00Z";
    let hash = crate::support::serve::token_hash("rotating");
    let rotating = format!(
        "[[callers]]\nname = \"rotating\"\ntoken_sha256 = [\"{hash} expires={expires}\"]\n{ALL_RIGHTS}"
    );
    let callers = [caller("limited", "limited", &limits), rotating].concat();
    let grpc = section(&authority.issue_server("server"), None, "");
    let mut serve = Serve::builder().grpc(&grpc).more(&callers).start().await;
    serve.gateway.simulate("tokens", &json!({"expire_at": EXPIRY})).await;
    serve.restart().await;
    let gateway = &serve.gateway;
    let client = Client::new(&authority, None);
    let mut api =
        v1::gateway_service_client::GatewayServiceClient::new(client.connect(gateway).await.unwrap());
    let message =
        v1::SendMessageRequest { phone_number_id: PHONE_NUMBER_ID.to_owned(), ..text_to(OPEN, "Hi") };
    // Of two in the same second one is too many.
    let quota = r#"whatsapp_gateway_caller_quota_refusals_total{quota="sends_per_second"}"#;
    eventually!({
        drop(api.send_message(by("limited", message.clone())).await);
        gateway.scrape().await.sum(quota) > 0.0
    });
    let open = api.subscribe_events(by("limited", subscriber::from_earliest())).await.unwrap();
    assert!(api.subscribe_events(by("limited", subscriber::from_earliest())).await.is_err());
    assert!(api.who_am_i(by("nobody", v1::WhoAmIRequest {})).await.is_err());
    let secret = serve.folder.path().join("next-secret");
    std::fs::write(&secret, "another-secret").unwrap();
    let reload = |outcome: &str| {
        format!("whatsapp_gateway_config_reload_total{{part=\"secrets\",outcome=\"{outcome}\"}}")
    };
    eventually!(gateway.scrape().await.sum(&reload("applied")) > 0.0);
    std::fs::write(&secret, "").unwrap();
    eventually!(gateway.scrape().await.sum(&reload("rejected")) > 0.0);
    drop(open);
    let scrape = gateway.scrape().await;
    for (series, exact) in [
        (r#"whatsapp_gateway_caller_quota_refusals_total{quota="streams_max"}"#, 1.0),
        (r#"whatsapp_gateway_auth_decisions_total{outcome="unknown"}"#, 1.0),
        (r#"whatsapp_gateway_caller_token_expiry_timestamp_seconds{caller="limited"}"#, f64::INFINITY),
        (r#"whatsapp_gateway_caller_token_expiry_timestamp_seconds{caller="rotating"}"#, 1_864_555_200.0),
        (
            "whatsapp_gateway_access_token_expiry_timestamp_seconds{waba_id=\"102290129340398\"}",
            f64::from(u32::try_from(EXPIRY).unwrap()),
        ),
    ] {
        assert_eq!(scrape.sum(series).to_string(), exact.to_string(), "{series}");
    }
    let expiry = scrape.sum(r#"whatsapp_gateway_certificate_expiry_timestamp_seconds{listener="grpc"}"#);
    assert!(expiry > unix_now(), "{expiry}");
    scrape.assert_declared();
    scrape
}

/// The traces behind the buckets.
async fn exemplars(gateway: &Gateway) {
    let url = format!("http://{}/metrics", gateway.address("admin"));
    let request =
        gateway.http.get(url).header("accept", "application/openmetrics-text;version=1.0.0,text/plain;q=0.5");
    let answer = request.send().await.unwrap();
    let content_type = answer.headers()["content-type"].to_str().unwrap().to_owned();
    assert_eq!(content_type, "application/openmetrics-text; version=1.0.0; charset=utf-8");
    let text = answer.text().await.unwrap();
    assert!(text.ends_with("\n# EOF\n"), "{text}");
    let scrape = Scrape::parse(&text);
    for name in [
        "rpc_server_call_duration_seconds_bucket",
        "http_server_request_duration_seconds_bucket",
        "http_client_request_duration_seconds_bucket",
    ] {
        let traces: Vec<_> =
            scrape.0.iter().filter(|sample| sample.name == name).filter_map(|s| s.trace.as_ref()).collect();
        assert!(!traces.is_empty(), "{name} has no exemplars");
        assert!(traces.iter().all(|trace| trace.len() == 32), "{traces:?}");
        let in_log = |trace: &&&String| gateway.log().contains(trace.as_str());
        assert!(traces.iter().any(|trace| in_log(&trace)), "{name} names no trace that a line has");
    }
}

async fn put_log_level(gateway: &Gateway, level: &str) -> (u16, String) {
    let url = format!("http://{}/log-level", gateway.address("admin"));
    let answer = gateway.http.put(url).body(level.to_owned()).send().await.unwrap();
    (answer.status().as_u16(), answer.text().await.unwrap())
}

#[tokio::test]
async fn the_log_level_is_changed_at_the_admin_port() {
    let gateway = Gateway::dev().await;
    let line = "a webhook was stored";
    let is_logged = async |id: &str| {
        let before = gateway.log().matches(line).count();
        gateway.post_webhook(webhook::text(id, "16505551234", "Hi").to_string()).await;
        gateway.log().matches(line).count() > before
    };
    assert_eq!(gateway.admin("/log-level").await, (200, "info\n".to_owned()));
    assert!(!is_logged("wamid.1").await);
    let level = "info,whatsapp_gateway::flows=debug";
    assert_eq!(put_log_level(&gateway, &format!(" {level}\n")).await, (200, format!("{level}\n")));
    assert!(is_logged("wamid.2").await);
    for (wrong, says) in
        [("loud", "\"loud\" is no level"), ("a=loud", "give a level"), (&"x".repeat(5000), "")]
    {
        let (status, text) = put_log_level(&gateway, wrong).await;
        assert!([400, 413].contains(&status) && text.contains(says), "{status} {text}");
        assert_eq!(gateway.admin("/log-level").await.1, format!("{level}\n"));
    }
    assert_eq!(put_log_level(&gateway, "off").await.0, 200);
    assert!(!is_logged("wamid.3").await);
    assert!(gateway.log().contains("the log level is changed"), "{}", gateway.log());
}

/// The table of `docs/metrics.md`.
fn table() -> String {
    let mut out = String::from("| name | kind | labels | what |\n|---|---|---|---|\n");
    for metric in METRICS {
        let kind = match metric.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        let label = |label: &whatsapp_gateway::telemetry::names::Label| match label.words {
            [] => format!("`{}`", label.name),
            words => format!("`{}`: {}", label.name, words.join(", ")),
        };
        let labels: Vec<_> = metric.labels.iter().map(label).collect();
        writeln!(out, "| `{}` | {kind} | {} | {} |", metric.name, labels.join("; "), metric.help.trim())
            .unwrap();
    }
    out += "\n| label | what |\n|---|---|\n";
    for (name, what) in LABELS {
        writeln!(out, "| `{name}` | {} |", what.trim()).unwrap();
    }
    out
}

#[test]
fn the_document_has_the_table() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/metrics.md");
    let document = std::fs::read_to_string(&path).unwrap();
    let current = with_section(&document, "metrics", &table());
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, &current).unwrap();
    }
    assert!(
        document == current || std::env::var_os("UPDATE_DOCS").is_some(),
        "UPDATE_DOCS=1 cargo test --test it metrics"
    );
}
