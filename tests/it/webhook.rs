//! The port that Meta calls: the handshake, signatures, sizes, hostile bodies, and slow senders.

use std::time::Duration;

use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::Sha256;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;
use whatsapp_gateway::contract::v1::event::Payload;
use whatsapp_gateway::contract::v1::{self, gateway_service_client::GatewayServiceClient};

use crate::eventually;
use crate::support::serve::SECOND_SECRET;
use crate::support::{Gateway, Serve, webhook};

const BODY_BYTES_MAX: usize = 3584 * 1024;

async fn get(gateway: &Gateway, query: &str) -> (u16, String) {
    let url = format!("http://{}/webhook{query}", gateway.address("webhook"));
    let response = gateway.http.get(url).send().await.unwrap();
    (response.status().as_u16(), response.text().await.unwrap())
}

#[tokio::test]
async fn the_handshake_echoes_a_plain_challenge_for_the_right_token() {
    let gateway = Gateway::dev().await;
    let query = |mode: &str, token: &str, challenge: &str| {
        format!("?hub.mode={mode}&hub.verify_token={token}&hub.challenge={challenge}")
    };
    let token = "dev-verify-token";
    for challenge in ["1158201444", "a.b_c-D", &"1".repeat(256)] {
        assert_eq!(get(&gateway, &query("subscribe", token, challenge)).await, (200, challenge.to_owned()));
    }
    let long = "1".repeat(257);
    let refused = [
        String::new(),
        "?hub.mode=subscribe".to_owned(),
        format!("?hub.mode=subscribe&hub.verify_token={token}"),
        query("subscribe", "wrong", "1"),
        query("subscribe", "", "1"),
        query("subscribe", &format!("{token}x"), "1"),
        query("unsubscribe", token, "1"),
        query("subscribe", token, ""),
        query("subscribe", token, "%3Cscript%3E"),
        query("subscribe", token, "a%0d%0ab"),
        query("subscribe", token, "%ff"),
        query("subscribe", token, &long),
        format!("{}&hub.challenge=2", query("subscribe", token, "1")),
    ];
    // Byte for byte the answer to a path that does not exist.
    let get_head = |target: &str| format!("GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    let nothing = answer_to_head(&gateway, &get_head("/nothing")).await;
    assert!(nothing.starts_with("HTTP/1.1 404"), "{nothing}");
    for query in refused {
        assert_eq!(get(&gateway, &query).await, (404, String::new()), "{query}");
        let answer = answer_to_head(&gateway, &get_head(&format!("/webhook{query}"))).await;
        assert_eq!(answer, nothing, "{query}");
    }
    assert!(!gateway.log().contains(token));
}

fn signed_by(secret: &str, body: &[u8]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
    mac.update(body);
    format!("sha256={}", hex::encode(mac.finalize().into_bytes()))
}

#[tokio::test]
async fn only_what_a_live_secret_signed_is_stored() {
    let Serve { gateway, .. } = &Serve::start().await;
    let body = webhook::text("wamid.1", "16505551234", "Hi").to_string().into_bytes();
    let right = webhook::signature(&body);
    let other = signed_by("another-secret", &body);
    let of_other_body = webhook::signature(b"{}");
    let hex = &right["sha256=".len()..];
    let sha1 = format!("sha1={hex}");
    for bad in [
        None,
        Some(""),
        Some("sha256="),
        Some(hex),
        Some(&*sha1),
        Some(&right[..right.len() - 1]),
        Some(&*format!("{right}0")),
        Some(&*format!("sha256={}", "zz".repeat(32))),
        Some(&*other),
        Some(&*of_other_body),
    ] {
        assert_eq!(gateway.post_webhook_signed(body.clone(), bad).await, 401, "{bad:?}");
    }
    assert!(gateway.events().await.is_empty());
    assert_eq!(gateway.post_webhook_signed(body, Some(&right)).await, 200);
    let body = webhook::text("wamid.2", "16505551234", "Hi").to_string().into_bytes();
    let next = signed_by(SECOND_SECRET, &body);
    assert_eq!(gateway.post_webhook_signed(body, Some(&next)).await, 200);
    assert_eq!(gateway.events().await.len(), 2);
}

/// Meta's JSON of exactly so many bytes.
fn sized(bytes: usize, id: &str) -> String {
    let empty = webhook::text(id, "16505551234", "").to_string();
    let filled = webhook::text(id, "16505551234", &"x".repeat(bytes - empty.len())).to_string();
    assert_eq!(filled.len(), bytes);
    filled
}

/// Everything stored, through a client that accepts what clients accept unless they are told otherwise.
async fn events_by_default_client(gateway: &Gateway) -> Vec<v1::Event> {
    let url = format!("http://{}", gateway.address("grpc"));
    let channel = tonic::transport::Endpoint::from_shared(url).unwrap().connect().await.unwrap();
    let request = v1::SubscribeEventsRequest {
        start: Some(v1::subscribe_events_request::Start::Position(v1::Position::Earliest.into())),
        stop_when_caught_up: true,
        ..Default::default()
    };
    let mut frames = GatewayServiceClient::new(channel).subscribe_events(request).await.unwrap().into_inner();
    let mut events = Vec::new();
    while let Some(frame) = frames.message().await.unwrap() {
        if let Some(v1::subscribe_events_response::Frame::Events(batch)) = frame.frame {
            events.extend(batch.events.into_iter().map(|received| received.event.unwrap()));
        }
    }
    events
}

#[tokio::test]
async fn the_largest_bodies_are_stored_and_larger_ones_refused() {
    let gateway = Gateway::dev().await;
    let too_large = sized(BODY_BYTES_MAX + 1, "wamid.large");
    // The answer may come before the body is taken, so the sender sees a 413 or a closed connection.
    let signature = webhook::signature(too_large.as_bytes());
    let url = format!("http://{}/webhook", gateway.address("webhook"));
    let request = gateway.http.post(url).header("x-hub-signature-256", signature).body(too_large);
    assert_eq!(request.send().await.unwrap().status(), 413);
    assert!(gateway.events().await.is_empty());

    let text = sized(BODY_BYTES_MAX, "wamid.1");
    assert_eq!(gateway.post_webhook(text.clone()).await, 200);
    let bytes = vec![0xff; BODY_BYTES_MAX];
    assert_eq!(gateway.post_webhook(bytes.clone()).await, 200);
    let list = format!("[{}]", "1,".repeat(BODY_BYTES_MAX / 2 - 2) + "11");
    assert_eq!(gateway.post_webhook(list.clone()).await, 200);

    let events = events_by_default_client(&gateway).await;
    assert_eq!(events.len(), 3);
    assert!(events[0].payload_omitted && events[0].raw_json.len() + 400 > BODY_BYTES_MAX);
    let Some(Payload::Unknown(unknown)) = &events[1].payload else { panic!("not unknown") };
    assert!(unknown.body == bytes);
    assert!(events[2].raw_json == list);
}

#[tokio::test]
async fn other_paths_and_methods_say_nothing() {
    let gateway = Gateway::dev().await;
    let body = webhook::text("wamid.1", "16505551234", "Hi").to_string();
    for path in ["/", "/webhook/", "/Webhook", "/webhook/x", "/metrics", "/readyz", "//webhook"] {
        let url = format!("http://{}{path}", gateway.address("webhook"));
        for request in [gateway.http.get(&url), gateway.http.post(&url).body(body.clone())] {
            let signature = webhook::signature(body.as_bytes());
            let response = request.header("x-hub-signature-256", signature).send().await.unwrap();
            assert_eq!(response.status(), 404, "{path}");
            assert_eq!(response.text().await.unwrap(), "", "{path}");
        }
    }
    for method in ["PUT", "DELETE", "PATCH", "OPTIONS", "HEAD"] {
        let url = format!("http://{}/webhook", gateway.address("webhook"));
        let response =
            gateway.http.request(method.parse().unwrap(), url).body(body.clone()).send().await.unwrap();
        assert_eq!(response.status(), 404, "{method}");
        assert_eq!(response.text().await.unwrap(), "");
    }
    assert!(gateway.events().await.is_empty());
}

fn wrong_types() -> Vec<String> {
    let message = |value: Value| {
        json!({"object": "x", "entry": [{"id": 1, "time": "x", "changes": [{"field": "messages", "value": value}]}]})
            .to_string()
    };
    let all =
        json!({"from": 1, "id": [], "timestamp": {}, "type": null, "text": 7, "context": "x", "errors": 1});
    let status = json!({"id": 1, "status": [], "timestamp": "-1", "errors": {"code": "x"}, "pricing": 1, "conversation": []});
    vec![
        json!({"object": 1, "entry": {}}).to_string(),
        json!({"entry": [1, "x", null, [], {}]}).to_string(),
        json!({"entry": [{"changes": [1]}]}).to_string(),
        json!({"entry": [{"changes": [{"field": 7, "value": []}]}]}).to_string(),
        message(json!([])),
        message(json!({"messages": {}, "statuses": 1, "errors": "x"})),
        message(json!({"messages": [1, null, "x"]})),
        message(json!({"metadata": 1, "contacts": {}, "messages": [all]})),
        message(json!({"statuses": [status]})),
        message(json!({"errors": [{"code": "131047"}, {"code": 1e300}, {}]})),
    ]
}

#[tokio::test]
async fn hostile_bodies_are_stored_whole() {
    let gateway = Gateway::dev().await;
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let deep_object = format!("{}1{}", r#"{"entry":"#.repeat(100_000), "}".repeat(100_000));
    // Each is one event of its own with all of its text.
    let whole = [
        "null",
        "[]",
        "{}",
        "1",
        "\"x\"",
        "true",
        "-0",
        " [ 1 ] ",
        r#"{"object":"x","object":"y"}"#,
        r#"{"entry":[],"entry":[{"changes":[{"field":"messages"}]}]}"#,
        r#"{"entry":[],"text":"\ud800"}"#,
        r#""\udc00\ud800""#,
        deep.as_str(),
        deep_object.as_str(),
    ];
    for body in whole {
        assert_eq!(gateway.post_webhook(body).await, 200, "{body:.60}");
        let event = gateway.events().await.pop().unwrap();
        assert!(matches!(event.payload, Some(Payload::Unknown(_))), "{body:.60}: {:?}", event.payload);
        assert_eq!((event.r#type.as_str(), event.raw_json == body), ("whatsapp.unknown", true), "{body:.60}");
    }
    let bytes: [&[u8]; 6] = [b"", b"\xff\xfe", b"{\"entry\":", b"not JSON", b"{\"a\":\"\xc3\"}", b"\0"];
    for body in bytes {
        assert_eq!(gateway.post_webhook(body).await, 200, "{body:?}");
        let event = gateway.events().await.pop().unwrap();
        let Some(Payload::Unknown(unknown)) = &event.payload else { panic!("{:?}", event.payload) };
        assert_eq!((unknown.body.as_slice(), event.raw_json.as_str()), (body, ""));
        assert!(!unknown.reason.is_empty());
    }
    let stored = gateway.events().await.len();
    assert_eq!(stored, whole.len() + bytes.len());
    // The rest is taken apart as far as it goes; every piece of it is somewhere.
    for (index, body) in wrong_types().into_iter().enumerate() {
        let before = gateway.events().await.len();
        assert_eq!(gateway.post_webhook(body.clone()).await, 200, "{body}");
        let events = gateway.events().await;
        assert!(events.len() > before, "{index}: {body}");
        let texts = events[before..].iter().flat_map(|event| [event.raw_json.as_str(), &event.change_json]);
        let kept: String = texts.collect();
        // The names of what is taken apart stand for it: raw_json is that very value or element.
        let words = body.split(|c: char| !c.is_ascii_alphanumeric());
        for word in words.filter(|word| !["", "value", "messages", "statuses", "errors"].contains(word)) {
            assert!(kept.contains(word), "{word} of {body} is lost: {kept}");
        }
    }
    assert_eq!(gateway.admin("/readyz").await.0, 200);
}

/// What a connection says until it is closed from the other side.
async fn until_closed(mut stream: TcpStream) -> String {
    let mut answer = Vec::new();
    // A reset is a close too.
    let read = timeout(Duration::from_secs(10), stream.read_to_end(&mut answer)).await;
    drop(read.expect("it was not cut"));
    String::from_utf8(answer).unwrap()
}

#[tokio::test]
async fn slow_senders_are_cut() {
    let gateway = Gateway::builder()
        .env("WHATSAPP_GATEWAY__WEBHOOK__HEADER_TIMEOUT", "1 s")
        .env("WHATSAPP_GATEWAY__WEBHOOK__BODY_TIMEOUT", "1 s")
        .env("WHATSAPP_GATEWAY__WEBHOOK__IDLE_TIMEOUT", "1 s")
        .start()
        .await;
    let body = webhook::text("wamid.1", "16505551234", "Hi").to_string();
    let signature = webhook::signature(body.as_bytes());
    let length = body.len();
    let head = format!(
        "POST /webhook HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\nX-Hub-Signature-256: {signature}\r\n\r\n"
    );
    let half = &body[..length / 2];
    let mut senders = JoinSet::new();
    for (sent, answer) in
        [(String::new(), ""), (head[..40].to_owned(), ""), (format!("{head}{half}"), "HTTP/1.1 408")]
    {
        let address = gateway.address("webhook").to_owned();
        senders.spawn(async move {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(sent.as_bytes()).await.unwrap();
            let said = until_closed(stream).await;
            assert!(said.starts_with(answer), "{said}");
            assert_eq!(said.is_empty(), answer.is_empty(), "{said}");
        });
    }
    // Meanwhile others are served.
    let other = webhook::text("wamid.2", "16505551234", "Hi").to_string();
    assert_eq!(gateway.post_webhook(other).await, 200);
    while let Some(joined) = senders.join_next().await {
        joined.unwrap();
    }
    assert_eq!(gateway.events().await.len(), 1, "half a body is nothing");
}

/// The head of a POST with a body of so many bytes; no body.
fn head(length: usize, signature: Option<&str>) -> String {
    let signature = signature.map(|value| format!("X-Hub-Signature-256: {value}\r\n")).unwrap_or_default();
    format!("POST /webhook HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n{signature}\r\n")
}

/// The answer to a head alone, its date left out.
async fn answer_to_head(gateway: &Gateway, head: &str) -> String {
    let mut stream = TcpStream::connect(gateway.address("webhook")).await.unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    let answer = until_closed(stream).await;
    answer.lines().filter(|line| !line.starts_with("date:")).collect::<Vec<_>>().join("\n")
}

#[tokio::test]
async fn what_cannot_be_accepted_is_answered_before_its_body() {
    let gateway = Gateway::dev().await;
    let right = webhook::signature(b"{}");
    for length in [BODY_BYTES_MAX + 1, usize::MAX / 2] {
        let answer = answer_to_head(&gateway, &head(length, Some(&right))).await;
        assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
    }
    let short = &right[..right.len() - 1];
    let unsigned = [None, Some(""), Some("sha256="), Some(short)];
    let wrong = format!("{}{{}}", head(2, Some(&webhook::signature(b"another"))));
    let heads = unsigned.map(|signature| head(1000, signature)).into_iter().chain([wrong]);
    let mut answers = Vec::new();
    for head in heads {
        answers.push(answer_to_head(&gateway, &head).await);
    }
    assert!(answers[0].starts_with("HTTP/1.1 401"), "{answers:?}");
    assert!(answers.iter().all(|answer| *answer == answers[0]), "one answer: {answers:?}");
    assert!(gateway.events().await.is_empty());
}

#[tokio::test]
async fn half_sent_bodies_do_not_fill_the_memory() {
    const MIB: usize = 1024 * 1024;
    let budget = ("WHATSAPP_GATEWAY__WEBHOOK__BODIES_BYTES_MAX", "16 MiB");
    let gateway = Gateway::builder().env(budget.0, budget.1).start().await;
    assert_eq!(gateway.post_webhook(webhook::text("wamid.1", "16505551234", "Hi").to_string()).await, 200);
    let before = gateway.resident_bytes();
    // As a stranger would: the form of a signature, and never the end of the body.
    let form = format!("sha256={}", "0".repeat(64));
    let mut senders = JoinSet::new();
    for _ in 0..200 {
        let (address, head) = (gateway.address("webhook").to_owned(), head(BODY_BYTES_MAX, Some(&form)));
        senders.spawn(async move {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(head.as_bytes()).await.unwrap();
            // Refused in the middle, the sender sees a closed connection.
            drop(stream.write_all(&vec![b'x'; BODY_BYTES_MAX / 2]).await);
            stream
        });
    }
    let strangers = senders.join_all().await;
    let none_busy = "webhooks_total{outcome=\"busy\"} 0\n";
    eventually!(!gateway.admin("/metrics").await.1.contains(none_busy));
    let grown = gateway.resident_bytes().saturating_sub(before);
    // 350 MiB were sent. Beside the budget there are read buffers, and what the allocator keeps for a while.
    assert!(grown < 128 * MIB, "{} MiB more", grown / MIB);
    drop(strangers);
    // What they held is free again, and one that is complete goes in whole.
    let large = sized(BODY_BYTES_MAX, "wamid.2");
    eventually!(gateway.post_webhook(large.clone()).await == 200);
    assert_eq!(gateway.events().await.len(), 2);
}

#[tokio::test]
async fn unsigned_posts_take_nothing_from_signed_ones() {
    let budget = ("WHATSAPP_GATEWAY__WEBHOOK__BODIES_BYTES_MAX", "4 MiB");
    let gateway = Gateway::builder().env(budget.0, budget.1).start().await;
    let mut strangers = Vec::new();
    for _ in 0..200 {
        let mut stream = TcpStream::connect(gateway.address("webhook")).await.unwrap();
        stream.write_all(head(BODY_BYTES_MAX, None).as_bytes()).await.unwrap();
        strangers.push(stream);
    }
    for index in 0..20 {
        let body = webhook::text(&format!("wamid.{index}"), "16505551234", "Hi").to_string();
        assert_eq!(gateway.post_webhook(body).await, 200);
    }
    drop(strangers);
    let lines = gateway.log().matches("a webhook was refused").count();
    assert_eq!(lines, 1, "a flood is one line:\n{}", gateway.log());
    assert!(gateway.admin("/metrics").await.1.contains("webhooks_total{outcome=\"busy\"} 0\n"));
}

#[tokio::test]
async fn a_redelivery_adds_nothing() {
    let gateway = Gateway::dev().await;
    let body = webhook::text("wamid.1", "16505551234", "Hi").to_string();
    let signature = webhook::signature(body.as_bytes());
    let url = format!("http://{}/webhook", gateway.address("webhook"));
    let mut posts = JoinSet::new();
    for _ in 0..50 {
        let post = gateway.http.post(&url).header("x-hub-signature-256", &signature).body(body.clone());
        posts.spawn(async move { post.send().await.unwrap().status().as_u16() });
    }
    while let Some(status) = posts.join_next().await {
        assert_eq!(status.unwrap(), 200);
    }
    assert_eq!(gateway.events().await.len(), 1);
    eventually!(gateway.admin("/metrics").await.1.contains(r#"outcome="duplicate"} 49"#));
}
