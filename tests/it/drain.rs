//! The end: new work is turned away, open work finishes, streams say from where to go on.

use std::time::Duration;

use tokio::time::Instant;
use tokio_stream::StreamExt as _;
use tonic::{Code, Streaming};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_types::StatusExt as _;

use crate::support::Gateway;

async fn watch_health(gateway: &Gateway) -> Streaming<HealthCheckResponse> {
    let mut client = HealthClient::new(gateway.endpoint().connect().await.unwrap());
    let request = HealthCheckRequest { service: String::new() };
    let mut statuses = client.watch(request).await.unwrap().into_inner();
    assert_eq!(statuses.message().await.unwrap().unwrap().status(), ServingStatus::Serving);
    statuses
}

/// Clients that balance by health watch it for ever, and graphical ones keep a reflection call open.
#[tokio::test]
async fn streams_of_health_and_reflection_do_not_hold_the_end_up() {
    let mut gateway = Gateway::dev().await;
    let mut health = watch_health(&gateway).await;
    let mut reflection = ServerReflectionClient::new(gateway.endpoint().connect().await.unwrap());
    let question = MessageRequest::ListServices(String::new());
    let request = ServerReflectionRequest { message_request: Some(question), ..Default::default() };
    let requests = tokio_stream::once(request).chain(tokio_stream::pending());
    let mut answers = reflection.server_reflection_info(requests).await.unwrap().into_inner();
    assert!(answers.message().await.unwrap().is_some());

    let started = Instant::now();
    assert_eq!(gateway.terminate().await, Some(0), "{}", gateway.log());
    assert!(started.elapsed() < Duration::from_secs(5), "it took {:?}", started.elapsed());
    assert_eq!(health.message().await.unwrap().unwrap().status(), ServingStatus::NotServing);
    // Reflection may notice by itself that nothing more is asked.
    for end in
        [health.message().await.map(drop).unwrap_err()].into_iter().chain(answers.message().await.err())
    {
        assert_eq!(end.code(), Code::Unavailable, "{end:?}");
        assert_eq!(end.get_details_error_info().unwrap().reason, "SERVER_DRAINING");
    }
}
