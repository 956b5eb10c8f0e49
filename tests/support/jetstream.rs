//! What a test asks or does of the streams behind the gateway's back.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{Instant, sleep, timeout};

use super::nats_server::NatsServer;

/// The stream of the events, by the default prefix.
pub const EVENTS: &str = "whatsapp_gateway_events";

/// A call of JetStream's API at one of these servers.
pub async fn ask(servers: &[NatsServer], call: &str, body: &Value) -> Option<Value> {
    for server in servers.iter().filter(|server| server.is_running()) {
        let Ok(Ok(client)) = timeout(Duration::from_secs(1), async_nats::connect(server.url())).await else {
            continue;
        };
        let request = client.request(format!("$JS.API.{call}"), body.to_string().into());
        if let Ok(Ok(answer)) = timeout(Duration::from_secs(2), request).await {
            return Some(serde_json::from_slice(&answer.payload).unwrap());
        }
    }
    None
}

/// The server that leads the stream of the events.
pub async fn leader(servers: &[NatsServer]) -> usize {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let info = ask(servers, &format!("STREAM.INFO.{EVENTS}"), &Value::Null).await.unwrap_or_default();
        let name = info["cluster"]["leader"].as_str().unwrap_or_default();
        if let Some(index) = servers.iter().position(|server| server.name() == name) {
            return index;
        }
        assert!(Instant::now() < deadline, "no server leads: {info}");
        sleep(Duration::from_millis(50)).await;
    }
}

/// What stands in the way of every server's having every stream to its end.
async fn behind(servers: &[NatsServer]) -> Option<Value> {
    for kind in ["events", "state", "lease"] {
        let call = format!("STREAM.INFO.whatsapp_gateway_{kind}");
        let info = ask(servers, &call, &Value::Null).await.unwrap_or_default();
        let replicas = info["cluster"]["replicas"].as_array().cloned().unwrap_or_default();
        let is_current = |replica: &Value| replica["current"] == true && replica["offline"] != true;
        if info["cluster"]["leader"].is_null() || replicas.len() != 2 || !replicas.iter().all(is_current) {
            return Some(info);
        }
    }
    None
}

/// Whether every server has every stream to its end.
pub async fn is_current(servers: &[NatsServer]) -> bool {
    behind(servers).await.is_none()
}

/// Waits until they have.
pub async fn until_current(servers: &[NatsServer]) {
    let deadline = Instant::now() + Duration::from_mins(1);
    while let Some(behind) = behind(servers).await {
        assert!(Instant::now() < deadline, "a server stays behind: {behind}");
        sleep(Duration::from_millis(50)).await;
    }
}

/// Removes the events up to this position.
pub async fn purge(servers: &[NatsServer], through: u64) {
    let answer = ask(servers, &format!("STREAM.PURGE.{EVENTS}"), &json!({"seq": through + 1})).await;
    assert_eq!(answer.unwrap()["success"], true);
}
