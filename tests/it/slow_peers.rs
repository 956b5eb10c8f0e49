//! Peers that hold what they have: half heads, half bodies, silence, and answers that nobody reads. Each takes little, is
//! ended in time, and keeps nobody else waiting.

use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinSet;
use tokio::time::timeout;
use whatsapp_gateway::contract::v1::gateway_service_client::GatewayServiceClient;

use crate::eventually;
use crate::support::attack::{call, held, http2, open, others, target, until};
use crate::support::rpc::{OPEN, text_to};
use crate::support::subscriber::from_earliest;
use crate::support::{Gateway, Subscriber, rounds, webhook};

const KIB: usize = 1024;
const WHO_AM_I: &str = "/whatsapp.gateway.v1.GatewayService/WhoAmI";

fn count(usual: u64, soak: u64) -> usize {
    usize::try_from(rounds(usual, soak)).unwrap()
}

fn connections(listener: &str) -> String {
    format!("whatsapp_gateway_connections{{listener=\"{listener}\"}}")
}

fn cut(listener: &str, reason: &str) -> String {
    format!("whatsapp_gateway_connections_cut_total{{listener=\"{listener}\",reason=\"{reason}\"}}")
}

/// The head of a signed POST of so many bytes, by a signature that has the form of one.
fn head(length: usize) -> String {
    let signature = "0".repeat(64);
    format!(
        "POST /w HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\nX-Hub-Signature-256: sha256={signature}\r\n\r\n"
    )
}

/// A head of the gateway's own path.
fn own_head(gateway: &Gateway, length: usize) -> String {
    let url = gateway.webhook_url();
    let (_, path) = url.trim_start_matches("http://").split_once('/').unwrap();
    head(length).replacen("/w", &format!("/{path}"), 1)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thousands_of_half_heads_delay_nobody() {
    let count = count(1_000, 10_000);
    let settings = [
        ("WEBHOOK__CONNECTIONS_MAX", "12000"),
        ("WEBHOOK__HEADER_TIMEOUT", "1 min"),
        ("WEBHOOK__IDLE_TIMEOUT", "10 min"),
    ];
    let serve = target(&settings).await;
    let before = serve.gateway.resident_bytes();
    let head = &head(1000)[..40];
    let strangers = open(serve.gateway.address("webhook"), count, head.as_bytes()).await;
    until(&serve.gateway, &connections("webhook"), count as u64).await;
    held(&serve.gateway, "half heads", count, before, 48 * KIB).await;
    drop(strangers);
    eventually!(serve.gateway.metric(&connections("webhook")).await < 10);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thousands_of_grpc_connections_delay_nobody() {
    let count = count(1_000, 10_000);
    let serve = target(&[("GRPC__CONNECTIONS_MAX", "12000")]).await;
    let before = serve.gateway.resident_bytes();
    let opening = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    let strangers = open(serve.gateway.address("grpc"), count, opening).await;
    until(&serve.gateway, &connections("grpc"), count as u64).await;
    held(&serve.gateway, "gRPC connections", count, before, 64 * KIB).await;
    drop(strangers);
    eventually!(serve.gateway.metric(&connections("grpc")).await < 10);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_address_cannot_take_every_place() {
    const PLACES: usize = 50;
    let settings = [
        ("WEBHOOK__CONNECTIONS_PER_PEER_MAX", "50"),
        ("WEBHOOK__HEADER_TIMEOUT", "1 min"),
        ("GRPC__CONNECTIONS_PER_PEER_MAX", "50"),
    ];
    let serve = target(&settings).await;
    // The webhooks of others come from another address.
    for listener in ["webhook", "grpc"] {
        let strangers = open(serve.gateway.address(listener), 4 * PLACES, b"P").await;
        let refused = "whatsapp_gateway_connections_refused_total";
        let refused = format!("{refused}{{listener=\"{listener}\",reason=\"peer\"}}");
        until(&serve.gateway, &refused, 3 * PLACES as u64).await;
        eventually!(serve.gateway.metric(&connections(listener)).await <= PLACES as u64);
        if listener == "webhook" {
            others(&serve.gateway, 10).await;
        }
        drop(strangers);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn half_bodies_take_their_budget_and_not_that_of_others() {
    let count = count(200, 2_000);
    let settings = [("WEBHOOK__BODIES_BYTES_MAX", "4 MiB"), ("WEBHOOK__BODY_TIMEOUT", "3 s")];
    let serve = target(&settings).await;
    let before = serve.gateway.resident_bytes();
    let first = own_head(&serve.gateway, 200_000) + &"x".repeat(100_000);
    let strangers = open(serve.gateway.address("webhook"), count, first.as_bytes()).await;
    let webhooks = |outcome: &str| format!("whatsapp_gateway_webhooks_total{{outcome=\"{outcome}\"}}");
    until(&serve.gateway, &webhooks("busy"), 1).await;
    // Beside the budget, what each may have free, and its connection.
    held(&serve.gateway, "half bodies", count, before, 96 * KIB).await;
    // Each gets an answer in time: that there is no room, or that it took too long.
    let ended = strangers.into_iter().map(async |mut stream| {
        let mut answer = Vec::new();
        // A reset is an end too: not all of the body was taken.
        drop(timeout(Duration::from_mins(1), stream.read_to_end(&mut answer)).await.expect("it stays open"));
        usize::from(answer.starts_with(b"HTTP/1.1 408"))
    });
    let timeouts: usize = join_all(ended).await.into_iter().sum();
    assert_eq!(serve.gateway.metric(&webhooks("timeout")).await, timeouts as u64);
    assert!(timeouts > 0 && timeouts < count, "{timeouts} of {count} had room");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn webhook_clients_that_never_read_are_not_read_any_more() {
    let count = count(20, 200);
    let serve = target(&[]).await;
    let before = serve.gateway.resident_bytes();
    let asking =
        open(serve.gateway.address("webhook"), count, b"").await.into_iter().map(async |mut stream| {
            let requests = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n".repeat(1000);
            // Until nothing is taken any more: then the buffers of the system are full in both directions.
            while timeout(Duration::from_millis(500), stream.write_all(&requests))
                .await
                .is_ok_and(|sent| sent.is_ok())
            {}
            stream
        });
    let strangers = join_all(asking).await;
    held(&serve.gateway, "clients that never read", count, before, 512 * KIB).await;
    if rounds(0, 1) == 1 {
        until(&serve.gateway, &cut("webhook", "unread"), count as u64).await;
    }
    drop(strangers);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn event_streams_that_never_read_take_little_and_are_cut() {
    let count = count(50, 1_000);
    let serve = target(&[("EVENTS__SEND_TIMEOUT", "5 s")]).await;
    for number in 0..40 {
        let message = json!({"from": "16505551234", "id": format!("wamid.{number}"), "timestamp": "1749416383",
            "type": "text", "text": {"body": "x".repeat(60_000)}});
        assert_eq!(serve.gateway.post_webhook(webhook::messages(&[message]).to_string()).await, 200);
    }
    let before = serve.gateway.resident_bytes();
    let mut strangers = Vec::new();
    for _ in 0..count {
        let endpoint = serve.gateway.endpoint().initial_stream_window_size(65_535);
        let channel = endpoint.initial_connection_window_size(65_535).connect().await.unwrap();
        let mut client = GatewayServiceClient::new(channel);
        strangers.push(Subscriber::open(&mut client, from_earliest()).await.unwrap());
    }
    // A page that is read ahead, its batches, and what HTTP/2 holds of them.
    held(&serve.gateway, "event streams that never read", count, before, 1536 * KIB).await;
    until(&serve.gateway, &cut("grpc", "killed"), count as u64).await;
    drop(strangers);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_that_get_no_room_are_held_for_a_while() {
    const STREAMS: usize = 1_000;
    let connections = count(2, 20);
    let settings = [("EVENTS__SEND_TIMEOUT", "1 s"), ("MEDIA__STALL_TIMEOUT", "1 s")];
    let serve = target(&settings).await;
    let before = serve.gateway.resident_bytes();
    let (mut tasks, mut strangers) = (JoinSet::new(), Vec::new());
    for _ in 0..connections {
        let mut connection = http2(serve.gateway.address("grpc"), 0, &mut tasks).await;
        let mut asked = Vec::new();
        for _ in 0..STREAMS {
            connection = connection.ready().await.unwrap();
            let (answer, mut body) =
                connection.send_request(call(WHO_AM_I).body(()).unwrap(), false).unwrap();
            body.send_data(Bytes::from_static(&[0; 5]), true).unwrap();
            asked.push(async { (timeout(Duration::from_mins(1), answer).await.unwrap().unwrap(), body) });
        }
        strangers.extend(join_all(asked).await);
    }
    let is_open = |answer: &http::Response<_>| !answer.headers().contains_key("grpc-status");
    assert!(strangers.iter().all(|(answer, _)| is_open(answer)));
    held(&serve.gateway, "answers without room", strangers.len(), before, 32 * KIB).await;
    if rounds(0, 1) == 1 {
        let cut = "whatsapp_gateway_streams_cut_total{listener=\"grpc\"}";
        until(&serve.gateway, cut, strangers.len() as u64).await;
    }
    drop(strangers);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn grpc_connections_that_only_answer_pings_are_told_to_go() {
    let count = count(50, 1_000);
    let serve = target(&[("GRPC__IDLE_TIMEOUT", "1 s")]).await;
    let mut tasks = JoinSet::new();
    let mut idle = Vec::new();
    for _ in 0..count {
        idle.push(http2(serve.gateway.address("grpc"), 65_535, &mut tasks).await);
    }
    until(&serve.gateway, &cut("grpc", "idle"), count as u64).await;
    // A client that is told so opens another connection when it calls again.
    let mut client = serve.gateway.client().await;
    client.who_am_i(whatsapp_gateway::contract::v1::WhoAmIRequest {}).await.unwrap();
    until(&serve.gateway, &cut("grpc", "idle"), count as u64 + 1).await;
    client.who_am_i(whatsapp_gateway::contract::v1::WhoAmIRequest {}).await.unwrap();
}

#[tokio::test]
async fn the_limit_of_files_is_raised_and_connections_fit_into_it() {
    // A process that was started with few files, as by many systems, takes as many as it may.
    let sh = |limits: &str| ["sh".to_owned(), "-c".to_owned(), format!("{limits}; exec \"$0\" \"$@\"")];
    let raised = sh("ulimit -Sn 64");
    let gateway = Gateway::builder().under(&raised.each_ref().map(String::as_str)).start().await;
    let strangers = open(gateway.address("webhook"), 200, b"P").await;
    until(&gateway, &connections("webhook"), 200).await;
    drop(strangers);

    // Where it may have few, connections do not take the last ones.
    let fixed = sh("ulimit -n 300");
    let serve = Gateway::builder().under(&fixed.each_ref().map(String::as_str)).start().await;
    assert!(serve.log().contains("both are lowered"), "{}", serve.log());
    let strangers = open(serve.address("webhook"), 400, b"P").await;
    let refused = r#"whatsapp_gateway_connections_refused_total{listener="webhook",reason="total"}"#;
    until(&serve, refused, 300).await;
    serve.send(text_to(OPEN, "Hi")).await;
    assert_eq!(serve.metric(r#"whatsapp_gateway_accept_errors_total{listener="webhook"}"#).await, 0);
    drop(strangers);
}
