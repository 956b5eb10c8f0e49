//! Peers of the gRPC port that send more than anybody should: each is ended, again and again, and nobody else waits.

use std::time::Duration;

use bytes::Bytes;
use http::header::HeaderValue;
use tokio::io::{AsyncWriteExt, copy, sink};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::support::attack::{call, http2, others, repeated, target, until};

const SEND_MESSAGE: &str = "/whatsapp.gateway.v1.GatewayService/SendMessage";
/// Preface and empty SETTINGS.
const OPENING: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
const FLOODS: &str = r#"whatsapp_gateway_connections_cut_total{listener="grpc",reason="flood"}"#;
const ATTACKERS: usize = 4;
/// Far more than an attack may last.
const PATIENCE: Duration = Duration::from_mins(1);

/// A frame.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// The head of a call, without compression: POST, http, path, authority.
fn head() -> Vec<u8> {
    let length = u8::try_from(SEND_MESSAGE.len()).unwrap();
    [&[0x83, 0x86, 0x04, length], SEND_MESSAGE.as_bytes(), &[0x01, 1, b'x']].concat()
}

/// Sends what comes out of `next`, reading meanwhile, until the gateway closes the connection.
async fn flood(address: String, first: Vec<u8>, next: impl Fn(u32) -> Vec<u8>) {
    let Ok(mut stream) = TcpStream::connect(address).await else { return };
    let (mut reading, mut writing) = stream.split();
    let send = async {
        let mut frames = [OPENING, &first].concat();
        let mut round = 0;
        while writing.write_all(&frames).await.is_ok() {
            frames = (round..round + 1000).flat_map(&next).collect();
            round += 1000;
        }
    };
    let mut sink = sink();
    let read = async { drop(copy(&mut reading, &mut sink).await) };
    timeout(PATIENCE, async { tokio::join!(send, read) }).await.expect("it goes on");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rapid_resets_end_their_connection() {
    let serve = target(&[]).await;
    let attack = |address| {
        flood(address, Vec::new(), |round| {
            let stream = 2 * round + 1;
            [frame(1, 0x4, stream, &head()), frame(3, 0, stream, &[0, 0, 0, 8])].concat()
        })
    };
    repeated(&serve.gateway, "rapid resets", ATTACKERS, attack).await;
    until(&serve.gateway, FLOODS, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frames_that_are_no_request_end_their_connection() {
    let serve = target(&[]).await;
    let floods = [
        ("PING", frame(6, 0, 0, b"12345678")),
        ("SETTINGS", frame(4, 0, 0, &[])),
        ("PRIORITY", frame(2, 0, 1, &[0, 0, 0, 3, 1])),
    ];
    for (what, frame) in floods {
        let attack = move |address| {
            let frame = frame.clone();
            flood(address, Vec::new(), move |_| frame.clone())
        };
        repeated(&serve.gateway, what, ATTACKERS, attack).await;
    }
    until(&serve.gateway, FLOODS, 3).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn endless_headers_and_huge_frames_end_their_connection() {
    let serve = target(&[]).await;
    // A head that goes on in CONTINUATION frames, each with a header of its own, and never ends.
    let header = [&[0x00, 1, b'y', 127, 0x81, 0x07][..], &[b'x'; 256]].concat();
    let endless = move |address| {
        let (first, more) = (frame(1, 0, 1, &head()), frame(9, 0, 1, &header));
        flood(address, first, move |_| more.clone())
    };
    repeated(&serve.gateway, "CONTINUATION", ATTACKERS, endless).await;
    let huge = |address| {
        let first = [&frame(1, 0x4, 1, &head())[..], &[0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 1]].concat();
        flood(address, first, |_| vec![0; 16])
    };
    repeated(&serve.gateway, "frames of 16 MiB", ATTACKERS, huge).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn huge_metadata_is_refused() {
    let serve = target(&[]).await;
    // What one call may carry, a little more, and far more.
    for (bytes, status) in [(12 * 1024, Some(200)), (20 * 1024, Some(431)), (1000 * 1024, None)] {
        assert_eq!(ask_with(serve.gateway.address("grpc"), bytes).await, status, "{bytes}");
    }
    for (what, bytes) in [("metadata of 20 KiB", 20 * 1024), ("metadata of 1000 KiB", 1000 * 1024)] {
        let attack = move |address: String| async move {
            ask_with(&address, bytes).await;
        };
        repeated(&serve.gateway, what, ATTACKERS, attack).await;
    }
}

/// Makes a call with so many bytes of metadata; the HTTP status, or nothing if the connection was closed.
async fn ask_with(address: &str, bytes: usize) -> Option<u16> {
    let mut tasks = JoinSet::new();
    let mut connection = http2(address, 65_535, &mut tasks).await.ready().await.ok()?;
    let value = HeaderValue::from_bytes(&vec![b'x'; bytes]).unwrap();
    let request = call(SEND_MESSAGE).header("x-large", value).body(()).unwrap();
    let (answer, mut body) = connection.send_request(request, false).unwrap();
    drop(body.send_data(Bytes::from_static(&[0; 5]), true));
    let answer = timeout(PATIENCE, answer).await.expect("no answer and no end");
    answer.ok().map(|answer| answer.status().as_u16())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_without_a_credential_have_few_places() {
    const CHECK: &str = "/grpc.health.v1.Health/Watch";
    let serve = target(&[]).await;
    let mut tasks = JoinSet::new();
    let mut connection = http2(serve.gateway.address("grpc"), 65_535, &mut tasks).await;
    let (mut open, mut refused) = (Vec::new(), 0);
    for _ in 0..150 {
        connection = connection.ready().await.unwrap();
        let (answer, mut body) = connection.send_request(call(CHECK).body(()).unwrap(), false).unwrap();
        body.send_data(Bytes::from_static(&[0; 5]), true).unwrap();
        let answer = timeout(PATIENCE, answer).await.unwrap().unwrap();
        match answer.headers().get("grpc-status") {
            None => open.push(answer),
            Some(status) => {
                assert_eq!(status, "8", "RESOURCE_EXHAUSTED");
                refused += 1;
            }
        }
    }
    assert_eq!((open.len(), refused), (100, 50));
    // Others have theirs, and those who end one get another.
    others(&serve.gateway, 1).await;
    let mut other = http2(serve.gateway.address("grpc"), 65_535, &mut tasks).await.ready().await.unwrap();
    let (answer, _body) = other.send_request(call(CHECK).body(()).unwrap(), true).unwrap();
    assert!(answer.await.unwrap().headers().get("grpc-status").is_none_or(|status| status != "8"));
}
