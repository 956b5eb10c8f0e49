//! What is refused before a handler sees it: strangers, requests that stop coming, and what is no request.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use http::{Request, Response};
use http_body::Frame;
use http_body_util::StreamBody;
use tokio::time::{Instant, interval, timeout};
use tonic::body::Body;
use tonic::transport::Channel;
use tonic::{Code, Status};
use tower::{Service, ServiceExt};
use whatsapp_gateway::contract::v1;

use crate::support::rpc::{send, text};
use crate::support::serve::{ALL_RIGHTS, caller};
use crate::support::{Gateway, Refusal, Serve, webhook};

const SEND_MESSAGE: &str = "/whatsapp.gateway.v1.GatewayService/SendMessage";
const SUBSCRIBE_EVENTS: &str = "/whatsapp.gateway.v1.GatewayService/SubscribeEvents";
const TOKEN: &str = "right-token";

/// An address that needs a token.
async fn open_address() -> Serve {
    let callers = caller("orders", TOKEN, ALL_RIGHTS);
    Serve::builder().open_address().more(&callers).start().await
}

/// Sends these bytes to a path as the body of a call, on a connection of its own.
pub(crate) async fn call_raw(
    gateway: &Gateway,
    path: &str,
    token: Option<&str>,
    body: impl Stream<Item = Bytes> + Send + 'static,
) -> Response<Body> {
    call_on(gateway.endpoint().connect().await.unwrap(), path, token, body).await.unwrap()
}

/// The same on this connection.
pub(crate) async fn call_on(
    mut channel: Channel,
    path: &str,
    token: Option<&str>,
    body: impl Stream<Item = Bytes> + Send + 'static,
) -> Result<Response<Body>, tonic::transport::Error> {
    let body = StreamBody::new(body.map(|data| Ok::<_, Infallible>(Frame::data(data))));
    let mut request = Request::post(path).header("content-type", "application/grpc").header("te", "trailers");
    if let Some(token) = token {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    let request = request.body(Body::new(body)).unwrap();
    let answer = async { channel.ready().await?.call(request).await };
    timeout(Duration::from_secs(20), answer).await.expect("no answer in time")
}

fn refusal(response: &Response<Body>) -> Refusal {
    Refusal::of(&Status::from_header_map(response.headers()).expect("no status in the head"))
}

/// A message that begins, with its length, and never ends.
fn half_a_message() -> impl Stream<Item = Bytes> {
    stream::once(async { Bytes::from_static(b"\0\0\0\x10\0half") }).chain(stream::pending())
}

#[tokio::test]
async fn strangers_are_refused_before_their_request_is_read() {
    let serve = &open_address().await;
    let sent = Arc::new(AtomicUsize::new(0));
    for token in [None, Some("wrong-token")] {
        let counter = Arc::clone(&sent);
        let head = stream::once(async { Bytes::from_static(&[0, 0, 0x3f, 0, 0]) });
        let endless = head.chain(stream::repeat_with(move || {
            counter.fetch_add(16 * 1024, Ordering::Relaxed);
            Bytes::from_static(&[0; 16 * 1024])
        }));
        let started = Instant::now();
        let response = call_raw(&serve.gateway, SEND_MESSAGE, token, endless).await;
        assert_eq!(refusal(&response).is(), (Code::Unauthenticated, "CALLER_UNAUTHENTICATED"));
        let response = call_raw(&serve.gateway, SUBSCRIBE_EVENTS, token, half_a_message()).await;
        assert_eq!(refusal(&response).is(), (Code::Unauthenticated, "CALLER_UNAUTHENTICATED"));
        assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    }
    assert!(sent.load(Ordering::Relaxed) < 4 * 1024 * 1024, "{sent:?} bytes were taken");
    let (_, metrics) = serve.gateway.admin("/metrics").await;
    for cause in ["missing", "unknown"] {
        let counted = format!("auth_decisions_total{{outcome=\"{cause}\"}} 2");
        assert!(metrics.contains(&counted), "{metrics}");
    }
}

/// One that goes on, byte by byte, for much longer than anybody waits.
fn a_trickling_message() -> impl Stream<Item = Bytes> {
    let head = stream::once(async { Bytes::from_static(b"\0\0\0\x10\0") });
    head.chain(stream::unfold(interval(Duration::from_millis(200)), |mut pace| async move {
        pace.tick().await;
        Some((Bytes::from_static(b"x"), pace))
    }))
}

#[tokio::test]
async fn a_request_that_does_not_come_to_its_end_is_ended() {
    const HEALTH: &str = "/grpc.health.v1.Health/Check";
    let serve = &open_address().await;
    let started = Instant::now();
    let call = |path, body| call_raw(&serve.gateway, path, Some(TOKEN), body);
    let calls = [
        call(SEND_MESSAGE, half_a_message().boxed()),
        call(SUBSCRIBE_EVENTS, half_a_message().boxed()),
        call(SEND_MESSAGE, a_trickling_message().boxed()),
    ];
    // Strangers too, where no credential is asked for.
    let check = call_raw(&serve.gateway, HEALTH, None, a_trickling_message().boxed());
    let (calls, check) = tokio::join!(futures_util::future::join_all(calls), check);
    for response in calls {
        assert_eq!(refusal(&response).is(), (Code::Unavailable, "REQUEST_INCOMPLETE"));
    }
    assert_eq!(Status::from_header_map(check.headers()).unwrap().code(), Code::Unavailable);
    assert!(started.elapsed() < Duration::from_secs(15), "{:?}", started.elapsed());
}

#[tokio::test]
async fn what_the_library_refuses_says_why() {
    let gateway = &Gateway::dev().await;
    let phone_number_id = webhook::PHONE_NUMBER_ID.to_owned();
    let large = send(text(&"x".repeat(5 * 1024 * 1024)));
    let status =
        gateway.client().await.send_message(v1::SendMessageRequest { phone_number_id, ..large }).await;
    let refused = Refusal::of(&status.unwrap_err());
    assert_eq!(refused.is(), (Code::InvalidArgument, "VALIDATION_FAILED"));
    assert!(refused.message.contains("4194304 bytes (grpc.message_bytes_max)"), "{}", refused.message);

    let whole = |bytes: &'static [u8]| stream::once(async move { Bytes::from_static(bytes) });
    let no_protobuf: [&[u8]; 4] = [b"\0\0\0\0\x02\xff\xff", b"\0\0\0\0\x09half", b"", b"\x07\0\0\0\0"];
    for body in no_protobuf {
        for path in [SEND_MESSAGE, SUBSCRIBE_EVENTS] {
            let refused = refusal(&call_raw(gateway, path, None, whole(body)).await);
            assert_eq!(refused.is(), (Code::InvalidArgument, "VALIDATION_FAILED"), "{body:?}");
            assert_eq!(refused.actor(), "caller");
        }
    }
    for path in ["/whatsapp.gateway.v1.GatewayService/Fly", "/other.v1.Service/Call", "/"] {
        let refused = refusal(&call_raw(gateway, path, None, whole(b"\0\0\0\0\0")).await);
        assert_eq!(refused.is(), (Code::Unimplemented, "METHOD_UNKNOWN"), "{path}");
    }
    let (_, metrics) = gateway.admin("/metrics").await;
    let counted = r#"{rpc_method="_OTHER",rpc_response_status_code="UNIMPLEMENTED""#;
    assert!(metrics.contains(counted), "{metrics}");
}
