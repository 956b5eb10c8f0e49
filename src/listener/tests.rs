mod http2;

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::Full;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};
use tower::service_fn;

use super::*;
use crate::tls::tests::some_tls;

const SOON: Duration = Duration::from_secs(5);

fn http1() -> Protocol {
    Protocol::Http1(Http1Limits {
        header_timeout: Duration::from_millis(100),
        idle_timeout: Duration::from_secs(1),
        ..Http1Limits::default()
    })
}

fn http2() -> Protocol {
    Protocol::Http2(Http2Limits { handshake_timeout: Duration::from_millis(100), ..Http2Limits::default() })
}

/// A listener whose requests wait for `release` when their path is `/wait`, and kill their connection on `/kill`.
struct Server {
    address: SocketAddr,
    shutdown: Shutdown,
    release: Arc<Notify>,
    entered: Arc<Notify>,
    serving: JoinHandle<()>,
}

impl Server {
    fn start(protocol: Protocol, connections_max: usize) -> Self {
        Self::start_with(protocol, connections_max, None)
    }

    fn start_with(protocol: Protocol, connections_max: usize, tls: Option<Tls>) -> Self {
        let listener = Listener::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = listener.local_addr();
        let shutdown = Shutdown::with_exit(|_| {});
        let (release, entered) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let (wait, enter) = (Arc::clone(&release), Arc::clone(&entered));
        let service = service_fn(move |request: Request<Incoming>| {
            let (wait, enter) = (Arc::clone(&wait), Arc::clone(&enter));
            async move {
                let info = request.extensions().get::<ConnectionInfo>().unwrap().clone();
                enter.notify_one();
                match request.uri().path() {
                    "/wait" => wait.notified().await,
                    "/kill" => {
                        info.kill.kill();
                        std::future::pending::<()>().await;
                    }
                    _ => {}
                }
                Ok::<_, Infallible>(Response::new(Full::new(Bytes::from(info.peer.to_string()))))
            }
        });
        let options =
            Options { name: "test", protocol, tls, connections_max, connections_per_peer_max: None };
        let serving =
            shutdown.spawn("listener", listener.serve(service, options, Tokens::draining(&shutdown)));
        Self { address, shutdown, release, entered, serving }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    async fn ask(&self, path: &str) -> TcpStream {
        let mut stream = self.connect().await;
        let head = format!("GET {path} HTTP/1.1\r\nhost: test\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        stream
    }
}

/// Reads to the end of the connection; a reset counts as an end.
async fn read_to_close(stream: &mut TcpStream) -> Vec<u8> {
    let mut read = Vec::new();
    drop(timeout(SOON, stream.read_to_end(&mut read)).await.expect("the connection is closed"));
    read
}

async fn read_response(stream: &mut TcpStream) -> String {
    let mut buffer = vec![0; 4096];
    let read = timeout(SOON, stream.read(&mut buffer)).await.unwrap().unwrap();
    String::from_utf8(buffer[..read].to_vec()).unwrap()
}

#[tokio::test]
async fn requests_know_their_connection() {
    let server = Server::start(http1(), 10);
    let mut stream = server.ask("/").await;
    let response = read_response(&mut stream).await;
    assert!(response.starts_with("HTTP/1.1 200"), "{response}");
    assert!(response.ends_with(&stream.local_addr().unwrap().to_string()), "{response}");
}

#[tokio::test]
async fn half_a_head_is_cut_after_the_header_timeout_even_when_it_trickles() {
    let server = Server::start(http1(), 10);
    let mut stream = server.connect().await;
    let start = Instant::now();
    stream.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
    let (mut reading, mut writing) = stream.split();
    let mut read = Vec::new();
    let trickle = async {
        while writing.write_all(b"x: y\r\n").await.is_ok() {
            sleep(Duration::from_millis(20)).await;
        }
    };
    let closed = timeout(SOON, reading.read_to_end(&mut read));
    tokio::select! {
        closed = closed => drop(closed.expect("the connection is closed")),
        () = trickle => {}
    }
    assert!(start.elapsed() >= Duration::from_millis(100), "{:?}", start.elapsed());
    assert!(start.elapsed() < Duration::from_millis(900), "{:?}", start.elapsed());
    assert_eq!(read, b"");
}

#[tokio::test]
async fn an_idle_connection_outlives_the_header_timeout_but_not_the_idle_timeout() {
    let server = Server::start(http1(), 10);
    let mut stream = server.ask("/").await;
    read_response(&mut stream).await;
    let idle_since = Instant::now();
    sleep(Duration::from_millis(300)).await;
    stream.write_all(b"GET / HTTP/1.1\r\nhost: test\r\n\r\n").await.unwrap();
    assert!(read_response(&mut stream).await.starts_with("HTTP/1.1 200"));
    read_to_close(&mut stream).await;
    assert!(idle_since.elapsed() >= Duration::from_millis(1300), "{:?}", idle_since.elapsed());
}

#[tokio::test]
async fn a_request_may_take_longer_than_both_timeouts() {
    let server = Server::start(http1(), 10);
    let mut stream = server.ask("/wait").await;
    sleep(Duration::from_millis(1300)).await;
    server.release.notify_one();
    assert!(read_response(&mut stream).await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn a_connection_over_the_limit_is_closed_at_once() {
    let server = Server::start(http1(), 1);
    let mut first = server.ask("/").await;
    read_response(&mut first).await;
    let mut second = server.connect().await;
    assert_eq!(read_to_close(&mut second).await, b"");
    drop(first);
    let again = async {
        loop {
            let mut third = server.ask("/").await;
            let mut buffer = [0; 64];
            if matches!(third.read(&mut buffer).await, Ok(read) if read > 0) {
                break;
            }
        }
    };
    timeout(SOON, again).await.expect("a place is free again");
}

#[tokio::test]
async fn a_killed_connection_is_reset() {
    let server = Server::start(http1(), 10);
    let mut stream = server.ask("/kill").await;
    let mut read = Vec::new();
    let error = timeout(SOON, stream.read_to_end(&mut read)).await.unwrap().unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn a_drain_finishes_the_open_request_and_closes_the_idle_connection() {
    let server = Server::start(http1(), 10);
    let mut idle = server.ask("/").await;
    read_response(&mut idle).await;
    server.entered.notified().await;
    let mut open = server.ask("/wait").await;
    server.entered.notified().await;

    server.shutdown.leaving().cancel();
    let mut during_delay = server.ask("/").await;
    assert!(
        read_response(&mut during_delay).await.starts_with("HTTP/1.1 200"),
        "still serving during the delay"
    );

    server.shutdown.drain().cancel();
    read_to_close(&mut idle).await;
    assert!(!server.serving.is_finished());
    server.release.notify_one();
    let response = String::from_utf8(read_to_close(&mut open).await).unwrap();
    assert!(response.starts_with("HTTP/1.1 200") && response.contains("connection: close"), "{response}");
    timeout(SOON, server.serving).await.unwrap().unwrap();
    assert!(TcpStream::connect(server.address).await.is_err(), "nothing listens any more");
}

#[tokio::test]
async fn a_stop_cuts_the_open_request() {
    let server = Server::start(http1(), 10);
    let mut open = server.ask("/wait").await;
    server.entered.notified().await;
    server.shutdown.drain().cancel();
    server.shutdown.stop().cancel();
    assert_eq!(read_to_close(&mut open).await, b"");
    timeout(SOON, server.serving).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_failure_to_accept_is_waited_out() {
    let too_many_files = io::Error::from_raw_os_error(24);
    assert!(!concerns_one_connection(&too_many_files));
    assert!(concerns_one_connection(&io::ErrorKind::ConnectionAborted.into()));
}

#[tokio::test]
async fn a_head_that_is_too_large_is_refused() {
    let server = Server::start(http1(), 10);
    let mut stream = server.connect().await;
    let head = format!("GET / HTTP/1.1\r\nhost: test\r\nx: {}\r\n\r\n", "y".repeat(17 * 1024));
    stream.write_all(head.as_bytes()).await.unwrap();
    let response = read_response(&mut stream).await;
    assert!(response.starts_with("HTTP/1.1 431"), "{response}");
}

#[tokio::test]
async fn the_services_of_tonic_and_axum_fit() {
    let shutdown = Shutdown::with_exit(|_| {});
    let listener = || Listener::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let options = |protocol| Options {
        name: "test",
        protocol,
        tls: None,
        connections_max: 1,
        connections_per_peer_max: None,
    };
    let grpc = tonic::service::Routes::default();
    shutdown.spawn("grpc", listener().serve(grpc, options(http2()), Tokens::draining(&shutdown)));
    let web = axum::Router::<()>::new();
    shutdown.spawn("web", listener().serve(web, options(http1()), Tokens::draining(&shutdown)));
    shutdown.drain().cancel();
}

#[tokio::test]
async fn a_handshake_that_does_not_come_is_ended() {
    let server = Server::start_with(http2(), 10, Some(some_tls()));
    let mut stream = server.connect().await;
    let mut rest = Vec::new();
    timeout(SOON, stream.read_to_end(&mut rest)).await.expect("it was not closed").unwrap();
    assert_eq!(rest, b"");
    // A drain does not wait for one either.
    let _silent = server.connect().await;
    server.shutdown.drain().cancel();
    timeout(SOON, server.serving).await.expect("it did not end").unwrap();
}
