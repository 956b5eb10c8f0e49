//! The whole gateway over a real NATS server: killed, with NATS away, by TLS.

use std::collections::BTreeMap;
use std::time::Duration;

use tonic::Code;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use whatsapp_gateway::contract::v1;

use crate::eventually;
use crate::support::certificates::Authority;
use crate::support::nats_server::NatsServer;
use crate::support::rpc::{OPEN, text_to};
use crate::support::serve::Builder;
use crate::support::subscriber::{after, from_earliest, position};
use crate::support::webhook::text;
use crate::support::{Gateway, Serve, Subscriber};

fn on_nats(url: &str) -> Builder {
    Serve::builder().on_nats(url, "1")
}

fn request(id: &str) -> v1::SendMessageRequest {
    v1::SendMessageRequest {
        request_id: id.to_owned(),
        phone_number_id: crate::support::webhook::PHONE_NUMBER_ID.to_owned(),
        ..text_to(OPEN, "Hello")
    }
}

async fn receive(gateway: &Gateway, message: &str) -> u16 {
    gateway.post_webhook(text(message, "16505551234", "Hi").to_string()).await
}

/// The health of everything.
async fn overall(gateway: &Gateway) -> ServingStatus {
    let mut client = HealthClient::new(gateway.endpoint().connect().await.unwrap());
    client.check(HealthCheckRequest::default()).await.unwrap().into_inner().status()
}

/// Positions of the received messages, by their ids.
async fn received(gateway: &Gateway) -> BTreeMap<String, Vec<u64>> {
    let mut found: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for event in gateway.events().await {
        if event.r#type == "whatsapp.message.received" {
            found.entry(event.subject).or_default().push(position(&event.cursor));
        }
    }
    found
}

#[tokio::test]
async fn what_was_acknowledged_survives_the_gateway() {
    let Some(server) = NatsServer::start() else { return };
    survive(on_nats(&server.url())).await;
}

#[tokio::test]
async fn what_three_servers_acknowledged_survives_the_gateway() {
    let Some(servers) = NatsServer::cluster() else { return };
    let urls: Vec<_> = servers.iter().map(NatsServer::url).collect();
    survive(Serve::builder().on_nats(&urls.join(","), "3")).await;
}

/// kill -9 between what was acknowledged and whoever wants it.
async fn survive(builder: Builder) {
    let mut serve = builder.start().await;
    for message in ["wamid.1", "wamid.2", "wamid.1"] {
        assert_eq!(receive(&serve.gateway, message).await, 200);
    }
    let sent = serve.gateway.send(request("order-1")).await;
    let mut client = serve.gateway.client().await;
    let first =
        Subscriber::open(&mut client, from_earliest()).await.unwrap().take(1).await.unwrap().remove(0);
    assert_eq!(first.subject, "wamid.1");
    let before = received(&serve.gateway).await;
    assert_eq!(before.values().map(Vec::len).collect::<Vec<_>>(), [1, 1]);

    serve.restart().await;
    let mut client = serve.gateway.client().await;
    let second = Subscriber::open(&mut client, after(&first.cursor)).await.unwrap().take(1).await.unwrap();
    assert_eq!(second[0].subject, "wamid.2");
    assert_eq!(receive(&serve.gateway, "wamid.2").await, 200);
    assert_eq!(received(&serve.gateway).await, before);
    let again = serve.gateway.send(request("order-1")).await;
    assert_eq!((again.message_id, again.replayed), (sent.message_id, true));
    assert_eq!(serve.gateway.sent_bodies().await.len(), 1);
    // In order the lease is given back at once.
    assert_eq!(serve.restart_in_order().await, Some(0));
    assert_eq!(received(&serve.gateway).await, before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nats_away_is_said_and_waited_for() {
    let Some(mut server) = NatsServer::start() else { return };
    let serve = on_nats(&server.url()).start().await;
    let gateway = &serve.gateway;
    assert_eq!(receive(gateway, "wamid.1").await, 200);
    let mut client = gateway.client().await;
    let mut stream = Subscriber::open(&mut client, from_earliest()).await.unwrap();
    assert_eq!(stream.take(1).await.unwrap()[0].subject, "wamid.1");
    server.kill();
    assert_eq!(receive(gateway, "wamid.2").await, 503);
    // Soon it cannot know whether it still leads, and takes no calls: at once, or after the time that calls wait for a leader.
    let refusal = gateway.refused_within(request("order-1"), Duration::from_secs(5)).await;
    assert_eq!(refusal.code, Code::Unavailable);
    assert!(["EVENT_STORE_UNAVAILABLE", "NO_LEADER"].contains(&refusal.reason.as_str()), "{refusal:?}");
    eventually!(gateway.admin("/readyz/ingress").await.0 == 503);
    eventually!(gateway.admin("/readyz").await == (503, "store away\ningress: refusing\n".to_owned()));
    eventually!(overall(gateway).await == ServingStatus::NotServing);
    tokio::task::block_in_place(|| server.restart());
    eventually!(receive(gateway, "wamid.2").await == 200);
    eventually!(gateway.admin("/readyz").await.0 == 200);
    eventually!(overall(gateway).await == ServingStatus::Serving);
    assert_eq!(stream.take(1).await.unwrap()[0].subject, "wamid.2");
    assert!(!gateway.send(request("order-1")).await.replayed);
    assert_eq!(received(gateway).await.values().map(Vec::len).collect::<Vec<_>>(), [1, 1]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_that_starts_before_nats_waits_for_it() {
    let Some(mut server) = NatsServer::start() else { return };
    server.kill();
    let admin = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let builder = on_nats(&server.url()).env("WHATSAPP_GATEWAY__ADMIN__LISTEN", &admin);
    let mut starting = tokio::task::JoinSet::new();
    starting.spawn(builder.start());
    let http = reqwest::Client::builder().timeout(Duration::from_secs(5)).no_proxy().build().unwrap();
    let ask = async |path: &str| {
        let answer = http.get(format!("http://{admin}{path}")).send().await.ok()?;
        Some((answer.status().as_u16(), answer.text().await.ok()?))
    };
    // Alive, so that nobody restarts it, and not ready.
    eventually!(ask("/livez").await == Some((200, "live\n".to_owned())));
    let alive = tokio::time::Instant::now();
    while alive.elapsed() < Duration::from_secs(3) {
        assert_eq!(ask("/readyz").await, Some((503, "starting\ningress: refusing\n".to_owned())));
        assert!(starting.try_join_next().is_none());
    }
    tokio::task::block_in_place(|| server.restart());
    let serve = starting.join_next().await.unwrap().unwrap();
    assert_eq!(receive(&serve.gateway, "wamid.1").await, 200);
    let log = serve.gateway.log();
    assert!(log.contains("waiting for NATS") && log.contains("NATS cannot be reached at"), "{log}");
    assert!(!log.contains("async_nats"), "{log}");
}

#[tokio::test]
async fn the_way_to_nats_is_encrypted_and_both_sides_known() {
    let authority = Authority::new();
    let (own, other) = (authority.issue_server("nats"), authority.issue("gateway", "DNS:gateway"));
    let ca = authority.cert();
    let lines = format!(
        "max_payload: 8MB\ntls {{ cert_file: {:?}, key_file: {:?}, ca_file: {ca:?}, verify: true }}",
        own.cert, own.key
    );
    let Some(server) = NatsServer::with(&lines, "sync_interval: always") else { return };
    let file = |builder: Builder, key: &str, path: &std::path::Path| {
        builder.env(&format!("WHATSAPP_GATEWAY__STORAGE__NATS__{key}"), path.to_str().unwrap())
    };
    let trusting = || file(on_nats(&server.url()), "CA_FILE", &ca);
    let (code, log) = trusting().run_to_end().await;
    assert!(code == Some(1) && log.contains("NATS cannot be reached"), "{code:?}: {log}");
    let known = file(file(trusting(), "CERT_FILE", &other.cert), "KEY_FILE", &other.key);
    assert_eq!(receive(&known.start().await.gateway, "wamid.1").await, 200);
}
