//! Spans that leave the process: a collector of the test's own receives them by OTLP.

use std::collections::HashSet;
use std::time::Duration;

use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use serde_json::json;
use tokio::time::Instant;
use tonic::Request;
use whatsapp_gateway::clock::{Clock as _, SystemClock};
use whatsapp_gateway::contract::v1;
use whatsapp_gateway::telemetry::semconv;

use crate::eventually;
use crate::support::certificates::Authority;
use crate::support::collector::{Collector, PROTOCOLS, attribute};
use crate::support::rpc::{OPEN, queued, text_to};
use crate::support::{Gateway, Serve, webhook};

const TRACE_ID: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const OTHER_TRACE_ID: &str = "0af7651916cd43dd8448eb211c80319c";
const CALLER_SPAN: &str = "00f067aa0ba902b7";
const SEND_MESSAGE: &str = "whatsapp.gateway.v1.GatewayService/SendMessage";
const POST: &str = "POST /{phone_number_id}/messages";
const STATUS: &str = "create whatsapp.message.status";

fn traceparent(trace_id: &str, is_sampled: bool) -> String {
    format!("00-{trace_id}-{CALLER_SPAN}-0{}", u8::from(is_sampled))
}

fn traced<T>(message: T, is_sampled: bool) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("traceparent", traceparent(TRACE_ID, is_sampled).parse().unwrap());
    request
}

fn only(collector: &Collector, name: &str) -> Span {
    let named = collector.named(name);
    assert_eq!(named.len(), 1, "{name}: {named:?}");
    named.into_iter().next().unwrap()
}

/// Trace and span, as an event's `traceparent` has them.
fn ids(span: &Span) -> (String, String) {
    (hex::encode(&span.trace_id), hex::encode(&span.span_id))
}

fn linked(span: &Span) -> Vec<(String, String)> {
    span.links.iter().map(|link| (hex::encode(&link.trace_id), hex::encode(&link.span_id))).collect()
}

fn attributes(span: &Span) -> Vec<(String, String)> {
    let mut all: Vec<_> =
        span.attributes.iter().map(|pair| (pair.key.clone(), attribute(span, &pair.key).unwrap())).collect();
    all.sort();
    all
}

async fn statuses(gateway: &Gateway, count: usize) -> Vec<v1::Event> {
    let mut found: Vec<v1::Event>;
    eventually!({
        found = gateway.events().await;
        found.retain(|event| event.r#type == "whatsapp.message.status");
        found.len() >= count
    });
    found
}

fn assert_pinned(collector: &Collector) {
    use semconv as s;
    let conventional = [
        s::RPC_SYSTEM_NAME,
        s::RPC_METHOD,
        s::RPC_STATUS_CODE,
        s::ERROR_TYPE,
        s::HTTP_METHOD,
        s::HTTP_ROUTE,
        s::HTTP_STATUS_CODE,
        s::URL_SCHEME,
        s::URL_PATH,
        s::URL_TEMPLATE,
        s::URL_FULL,
        s::SERVER_ADDRESS,
        s::SERVER_PORT,
        s::MESSAGING_SYSTEM,
        s::MESSAGING_OPERATION_NAME,
        s::MESSAGING_OPERATION_TYPE,
        s::MESSAGING_DESTINATION,
    ];
    let pinned: HashSet<&str> = conventional.into_iter().chain(s::OWN_ATTRIBUTES).collect();
    for span in collector.spans() {
        for pair in &span.attributes {
            assert!(pinned.contains(pair.key.as_str()), "{} of {}", pair.key, span.name);
        }
    }
    assert!(collector.schemas().iter().all(|schema| schema == s::SCHEMA_URL), "{:?}", collector.schemas());
}

async fn one_trace(protocol: &'static str) {
    let collector = Collector::start(protocol).await;
    let mut gateway = collector.gateway().start().await;
    let message = v1::SendMessageRequest {
        callback_data: "canary-data".to_owned(),
        ..text_to("+16505551234", "canary-text")
    };
    gateway.simulate("messages", &json!({"from": "16505551234", "text": "Hi"})).await;
    eventually!(!gateway.events().await.is_empty());
    let response = gateway.client().await.send_message(traced(message, true)).await.unwrap().into_inner();
    let events = statuses(&gateway, 3).await;
    assert_eq!(gateway.terminate().await, Some(0));

    // Ending the process flushed what was not exported yet.
    let (server, post) = (only(&collector, SEND_MESSAGE), only(&collector, POST));
    let send = only(&collector, "send_message");
    let kind = |span: &Span| SpanKind::try_from(span.kind).unwrap();
    assert_eq!(
        (hex::encode(&server.trace_id), hex::encode(&server.parent_span_id)),
        (TRACE_ID.into(), CALLER_SPAN.into())
    );
    assert_eq!((&send.trace_id, &send.parent_span_id), (&server.trace_id, &server.span_id));
    assert_eq!((&post.trace_id, &post.parent_span_id), (&server.trace_id, &send.span_id));
    assert_eq!(
        (kind(&server), kind(&send), kind(&post)),
        (SpanKind::Server, SpanKind::Internal, SpanKind::Client)
    );
    let expected =
        [("rpc.method", SEND_MESSAGE), ("rpc.response.status_code", "OK"), ("rpc.system.name", "grpc")];
    assert_eq!(attributes(&server), expected.map(|(key, value)| (key.to_owned(), value.to_owned())));
    let address = gateway.address("simulator");
    let (host, number) = address.rsplit_once(':').unwrap();
    let url = format!("http://{address}/v25.0/{{phone_number_id}}/messages");
    let expected = [
        ("http.request.method", "POST"),
        ("http.response.status_code", "200"),
        ("server.address", host),
        ("server.port", number),
        ("url.full", &url),
        ("url.template", "/{phone_number_id}/messages"),
    ];
    assert_eq!(attributes(&post), expected.map(|(key, value)| (key.to_owned(), value.to_owned())));
    assert!(server.status.is_none_or(|status| status.code == 0), "no error");

    // Each status is an event with a span, in a trace of its own, since nobody exports its webhook.
    let created = collector.named(STATUS);
    assert_eq!(created.len(), events.len(), "{created:?}");
    for span in &created {
        assert_eq!((kind(span), linked(span)), (SpanKind::Producer, vec![ids(&send)]));
        assert_ne!(span.trace_id, send.trace_id);
        assert!(span.parent_span_id.is_empty());
        let (trace, id) = ids(span);
        let traceparent = format!("00-{trace}-{id}-01");
        let event = events.iter().find(|event| event.traceparent == traceparent);
        let Some(v1::event::Payload::Status(status)) = event.and_then(|event| event.payload.clone()) else {
            panic!("no event has {traceparent}: {events:?}");
        };
        assert_eq!(status.send_tag, response.send_tag);
        assert_eq!(attribute(span, "message.status"), Some(status.status));
    }
    assert!(collector.named("http.server").is_empty());
    assert_pinned(&collector);
    let log = gateway.log();
    let audited = log.lines().find(|line| line.contains("audit") && line.contains("SendMessage")).unwrap();
    assert!(audited.contains(TRACE_ID), "{audited}");
    let printed = format!("{:?}", collector.spans());
    for secret in ["canary", "16505551234", &response.message_id, "dev-access-token", "dev-app-secret"] {
        assert!(!printed.contains(secret), "{secret} is in a trace");
    }
}

#[tokio::test]
async fn one_trace_holds_caller_send_and_post_and_its_statuses_link_to_it_by_grpc() {
    one_trace(PROTOCOLS[0]).await;
}

#[tokio::test]
async fn one_trace_holds_caller_send_and_post_and_its_statuses_link_to_it_by_http() {
    one_trace(PROTOCOLS[1]).await;
}

#[tokio::test]
async fn a_send_that_is_not_exported_leaves_nothing() {
    let collector = Collector::start("grpc").await;
    let mut gateway = collector.gateway().start().await;
    let mut tags = Vec::new();
    for _ in 0..8 {
        let request = traced(text_to(OPEN, "Hi"), false);
        tags.push(gateway.client().await.send_message(request).await.unwrap().into_inner().send_tag);
    }
    // The mark that lets a status be looked up.
    assert!(tags.iter().all(|tag| !tag.ends_with(['Q', 'w'])), "{tags:?}");
    statuses(&gateway, 8).await;
    assert_eq!(gateway.terminate().await, Some(0));
    assert!(collector.spans().is_empty(), "{:?}", collector.spans());
}

#[tokio::test]
async fn a_status_links_to_a_send_of_an_earlier_process() {
    let collector = Collector::start("grpc").await;
    let serve =
        collector.environment().iter().fold(Serve::builder(), |serve, (key, value)| serve.env(key, value));
    let mut serve = serve.start().await;
    let number = webhook::PHONE_NUMBER_ID.to_owned();
    let message = v1::SendMessageRequest { phone_number_id: number.clone(), ..text_to(OPEN, "Hi") };
    let response =
        serve.gateway.client().await.send_message(traced(message, true)).await.unwrap().into_inner();
    let not_before = SystemClock.now() + Duration::from_secs(3);
    let later =
        v1::SendMessageRequest { not_before: Some(not_before.into()), ..queued("later", OPEN, "later") };
    serve.gateway.client().await.send_message(traced(later, true)).await.unwrap();
    assert_eq!(serve.restart_in_order().await, Some(0));
    let send = only(&collector, "send_message");
    let before = collector.named(STATUS).len();

    let status = json!({
        "object": "whatsapp_business_account",
        "entry": [{"id": webhook::WABA_ID, "changes": [{"field": "messages", "value": {
            "messaging_product": "whatsapp",
            "metadata": {"display_phone_number": "15550783881", "phone_number_id": number},
            "statuses": [{
                "id": response.message_id, "status": "played", "timestamp": "1949416383",
                "recipient_id": "15550000013",
                "biz_opaque_callback_data": format!("g1.{}.", response.send_tag),
            }],
        }}]}],
    });
    assert_eq!(serve.gateway.post_webhook(status.to_string()).await, 200);
    eventually!(collector.named(STATUS).len() > before);
    let played = collector
        .named(STATUS)
        .into_iter()
        .find(|span| attribute(span, "message.status").as_deref() == Some("played"));
    assert_eq!(linked(&played.unwrap()), [ids(&send)]);

    // What was queued goes on in the trace of its caller.
    eventually!(collector.named(POST).len() == 2);
    eventually!(collector.named("send_queued_message").len() == 1);
    let servers = collector.named(SEND_MESSAGE);
    let queued = only(&collector, "send_queued_message");
    assert_eq!(hex::encode(&queued.trace_id), TRACE_ID);
    assert!(servers.iter().any(|server| server.span_id == queued.parent_span_id));
    assert!(collector.named(POST).iter().any(|post| post.parent_span_id == queued.span_id));
    eventually!(collector.named(STATUS).iter().any(|status| linked(status) == [ids(&queued)]));
    let reports = serve.gateway.send_reports().await;
    let (trace, id) = ids(&queued);
    assert_eq!(reports[0].0.traceparent, format!("00-{trace}-{id}-01"));
}

#[tokio::test]
async fn each_message_of_a_stream_may_have_its_trace() {
    let collector = Collector::start("grpc").await;
    let mut gateway = collector.gateway().start().await;
    let asked = |traceparent: String| v1::SendMessagesRequest {
        key: traceparent.clone(),
        message: Some(text_to(OPEN, "Hi")),
        traceparent,
    };
    let requests = [
        asked(traceparent(TRACE_ID, true)),
        asked(traceparent(OTHER_TRACE_ID, true)),
        asked(traceparent(OTHER_TRACE_ID, false)),
        asked("not a context".to_owned()),
    ];
    let requests = futures_util::stream::iter(Vec::from(requests));
    let mut answers = gateway.client().await.send_messages(requests).await.unwrap().into_inner();
    let mut count = 0;
    while let Some(answer) = answers.message().await.unwrap() {
        assert!(matches!(answer.result, Some(v1::send_messages_response::Result::Response(_))), "{answer:?}");
        count += 1;
    }
    assert_eq!((count, gateway.terminate().await), (4, Some(0)));
    let requests = collector.named("whatsapp.gateway.v1.GatewayService/SendMessages request");
    let mut traces: Vec<_> = requests.iter().map(|span| hex::encode(&span.trace_id)).collect();
    traces.sort();
    assert_eq!(traces, [OTHER_TRACE_ID, TRACE_ID]);
    for request in &requests {
        assert_eq!(hex::encode(&request.parent_span_id), CALLER_SPAN);
        assert_eq!(attribute(request, "rpc.response.status_code").as_deref(), Some("OK"));
        assert!(collector.named(POST).iter().any(|post| post.trace_id == request.trace_id));
    }
    assert_pinned(&collector);
}

#[tokio::test]
async fn the_collector_may_want_tls_and_a_token() {
    let authority = Authority::new();
    let issued = authority.issue_server("collector");
    for protocol in PROTOCOLS {
        let collector = Collector::secure(protocol, &issued).await;
        let folder = tempfile::tempdir().unwrap();
        let headers = folder.path().join("headers");
        std::fs::write(&headers, "authorization: Bearer canary-one\n").unwrap();
        let mut gateway = collector
            .gateway()
            .env("WHATSAPP_GATEWAY__TELEMETRY__OTLP_CA_FILE", authority.cert().to_str().unwrap())
            .env("WHATSAPP_GATEWAY__TELEMETRY__OTLP_HEADERS_FILE", headers.to_str().unwrap())
            .env("WHATSAPP_GATEWAY__TELEMETRY__LOG_LEVEL", "trace")
            .start()
            .await;
        gateway.client().await.who_am_i(traced(v1::WhoAmIRequest {}, true)).await.unwrap();
        eventually!(collector.spans().len() == 1);
        std::fs::write(&headers, "authorization: Bearer canary-two\n").unwrap();
        gateway.client().await.who_am_i(traced(v1::WhoAmIRequest {}, true)).await.unwrap();
        assert_eq!(gateway.terminate().await, Some(0));
        assert_eq!(collector.tokens(), ["Bearer canary-one", "Bearer canary-two"], "{protocol}");
        assert!(!gateway.log().contains("canary"), "{protocol}: a token is in the log");
    }
}

/// What the metric counts.
async fn dropped(gateway: &Gateway, reason: &str) -> u64 {
    let (_, metrics) = gateway.admin("/metrics").await;
    let line = format!("whatsapp_gateway_spans_dropped_total{{reason={reason:?}}} ");
    metrics.lines().find_map(|metric| metric.strip_prefix(&line)).unwrap().parse().unwrap()
}

async fn nothing_waits(protocol: &'static str, endpoint: &str, is_away: bool) {
    let mut gateway = Gateway::builder()
        .env("WHATSAPP_GATEWAY__TELEMETRY__OTLP_ENDPOINT", endpoint)
        .env("WHATSAPP_GATEWAY__TELEMETRY__OTLP_PROTOCOL", protocol)
        .start()
        .await;
    let mut client = gateway.client().await;
    for _ in 0..30 {
        let started = Instant::now();
        client.send_message(traced(text_to(OPEN, "Hi"), true)).await.unwrap();
        // What waits for an export waits until that is given up, after 5 s.
        assert!(started.elapsed() < Duration::from_secs(4), "{protocol} {endpoint}: {:?}", started.elapsed());
    }
    if is_away {
        eventually!(dropped(&gateway, "export_failed").await > 0);
    }
    let started = Instant::now();
    assert_eq!(gateway.terminate().await, Some(0));
    assert!(started.elapsed() < Duration::from_secs(10), "{protocol} {endpoint}: {:?}", started.elapsed());
    let log = gateway.log();
    let warned = log.lines().filter(|line| line.contains("exports of spans failed")).count();
    assert!(warned <= 2 && (warned > 0 || !is_away), "{protocol} {endpoint}: {log}");
}

#[tokio::test]
async fn nothing_waits_for_a_collector_that_is_away_or_slow() {
    // One accepts and never answers, the other is not there.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let slow = format!("http://{}", silent.local_addr().unwrap());
    let cases = PROTOCOLS.into_iter().flat_map(|protocol| {
        let away = "http://127.0.0.1:9";
        vec![nothing_waits(protocol, &slow, false), nothing_waits(protocol, away, true)]
    });
    futures_util::future::join_all(cases).await;
}

#[tokio::test]
async fn a_fallback_goes_back_to_its_send() {
    let collector = Collector::start("http").await;
    let mut gateway = collector.gateway().start().await;
    let language = Some(v1::TemplateLanguage { code: "en_US".to_owned(), policy: String::new() });
    let template = v1::Template { name: "hello_world".to_owned(), language, components: Vec::new() };
    let message =
        v1::SendMessageRequest { fallback_template: Some(template), ..text_to("16505550000", "Shipped") };
    gateway.client().await.send_message(traced(message, true)).await.unwrap();
    let is_report = |event: &v1::Event| event.r#type == "whatsapp.gateway.fallback";
    eventually!(gateway.events().await.iter().any(is_report));
    let report = gateway.events().await.into_iter().find(is_report).unwrap();
    assert_eq!(gateway.terminate().await, Some(0));
    let (send, fallback) = (only(&collector, "send_message"), only(&collector, "send_fallback"));
    assert_eq!(linked(&fallback), [ids(&send)]);
    assert!(collector.named(POST).iter().any(|post| post.parent_span_id == fallback.span_id));
    let (trace, id) = ids(&fallback);
    assert_eq!(report.traceparent, format!("00-{trace}-{id}-01"));
    assert_pinned(&collector);
}

#[tokio::test]
async fn only_what_is_our_fault_is_an_error() {
    let collector = Collector::start("http").await;
    let mut gateway =
        collector.gateway().env("WHATSAPP_GATEWAY__TELEMETRY__SAMPLING_RATIO", "1").start().await;
    let mut client = gateway.client().await;
    client.send_message(text_to(OPEN, "")).await.unwrap_err();
    gateway.fault("/messages", json!({"error": {"code": 190}})).await;
    client.send_message(text_to(OPEN, "Hi")).await.unwrap_err();
    let body = webhook::text("wamid.1", "16505551234", "canary-text").to_string();
    assert_eq!(gateway.post_webhook(body.clone()).await, 200);
    assert_eq!(gateway.post_webhook_signed(body.into_bytes(), Some("sha256=00")).await, 401);
    assert_eq!(gateway.terminate().await, Some(0));

    let is_error = |span: &Span| span.status.as_ref().is_some_and(|status| status.code == 2);
    let said = |span: &Span, key: &str| (attribute(span, key), attribute(span, semconv::ERROR_TYPE));
    let sends = collector.named(SEND_MESSAGE);
    let codes: Vec<_> = sends.iter().map(|span| said(span, semconv::RPC_STATUS_CODE)).collect();
    let code = |code: &str| (Some(code.to_owned()), None);
    assert_eq!(codes, [code("INVALID_ARGUMENT"), code("FAILED_PRECONDITION")]);
    assert!(!sends.iter().any(is_error));
    let post = only(&collector, POST);
    assert!(is_error(&post));
    assert_eq!(said(&post, semconv::HTTP_STATUS_CODE), (Some("401".to_owned()), Some("401".to_owned())));
    assert_eq!(attribute(&post, "meta.code").as_deref(), Some("190"));
    let webhooks = collector.named("POST /webhook");
    let mut codes: Vec<_> = webhooks.iter().map(|span| said(span, semconv::HTTP_STATUS_CODE)).collect();
    codes.sort();
    assert_eq!(codes, [code("200"), code("401")]);
    assert!(!webhooks.iter().any(is_error));
    assert!(webhooks.iter().all(|span| attribute(span, semconv::URL_PATH).as_deref() == Some("/webhook")));
    assert_pinned(&collector);
    assert!(!format!("{:?}", collector.spans()).contains("canary"));
}

#[tokio::test]
async fn meta_gets_a_traceparent_only_if_that_is_wanted() {
    for is_wanted in [false, true] {
        let collector = Collector::start("http").await;
        let builder = collector.gateway();
        let builder = builder.env("WHATSAPP_GATEWAY__CLOUD_API__SEND_TRACEPARENT", &is_wanted.to_string());
        let mut gateway = builder.start().await;
        gateway.client().await.send_message(traced(text_to(OPEN, "Hi"), true)).await.unwrap();
        let requests = gateway.simulator("requests?path=/messages&method=POST").await;
        let got = requests[0]["headers"].get("traceparent").map(|header| header.as_str().unwrap().to_owned());
        assert_eq!(gateway.terminate().await, Some(0));
        let (trace, id) = ids(&only(&collector, POST));
        assert_eq!(got, is_wanted.then(|| format!("00-{trace}-{id}-01")));
        let body = requests[0].to_string();
        assert_eq!(body.contains(&trace), is_wanted, "{body}");
    }
}

#[tokio::test]
async fn log_lines_name_the_trace() {
    for format in ["json", "text"] {
        let collector = Collector::start("grpc").await;
        let builder = collector.gateway().env("WHATSAPP_GATEWAY__TELEMETRY__LOG_FORMAT", format);
        let mut gateway = builder.start().await;
        gateway.client().await.send_message(traced(text_to(OPEN, "Hi"), true)).await.unwrap();
        assert_eq!(gateway.terminate().await, Some(0));
        let (trace, id) = ids(&only(&collector, "send_message"));
        let expected = match format {
            "json" => format!("\"trace_id\":\"{trace}\",\"span_id\":\"{id}\""),
            _ => format!("trace_id={trace} span_id={id}"),
        };
        let log = gateway.log();
        let line = log.lines().find(|line| line.contains("accepted") && line.contains(&expected));
        assert!(line.is_some(), "{expected}: {log}");
    }
}
