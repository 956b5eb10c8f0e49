//! Our own accept loop: TCP or TLS in, HTTP/1.1 or HTTP/2 out to a tower service.
//!
//! The ready-made servers have no timeout for a request head, no limit on connections, and no way to close one
//! connection on purpose; the public webhook port needs the first two and slow subscribers the third. This module
//! knows nothing of routes, gRPC or webhooks.

mod activity;
mod admission;
mod connection;
mod frames;
mod stream;
mod transport;

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::{BoxError, Service};
use tracing::{debug, warn};

use crate::lifecycle::Shutdown;
use crate::telemetry::{Seldom, names};
use crate::tls::Tls;

use admission::Admission;
pub use connection::{ConnectionInfo, KillSwitch};

/// Connections that the kernel may hold before we accept them.
const BACKLOG: u32 = 1024;
/// The first and the longest pause after a failure to accept, such as too many open files.
const BACKOFF_MIN: Duration = Duration::from_millis(50);
const BACKOFF_MAX: Duration = Duration::from_secs(1);

/// How to treat the connections of one port.
#[derive(Debug, Clone)]
pub struct Options {
    /// A word for logs and metrics: `grpc`, `webhook`, `admin`.
    pub name: &'static str,
    /// What is spoken, and its limits.
    pub protocol: Protocol,
    /// TLS; `None` for plain text.
    pub tls: Option<Tls>,
    /// Open connections; one more is accepted and closed at once.
    pub connections_max: usize,
    /// Open connections of one IPv4 address or IPv6 /64; `None` where a proxy stands before us.
    pub connections_per_peer_max: Option<usize>,
}

/// What a port speaks. There is no negotiation: each port has one protocol.
#[derive(Debug, Clone)]
pub enum Protocol {
    /// HTTP/1.1 only.
    Http1(Http1Limits),
    /// HTTP/2 with prior knowledge only, as gRPC uses it.
    Http2(Http2Limits),
}

impl Protocol {
    /// How long a TLS handshake may take.
    fn handshake_timeout(&self) -> Duration {
        match self {
            Self::Http1(limits) => limits.header_timeout,
            Self::Http2(limits) => limits.handshake_timeout,
        }
    }
}

/// Limits of an HTTP/1.1 connection. The time for a request body is the service's business.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Http1Limits {
    /// From the first byte of a request head to its end.
    pub header_timeout: Duration,
    /// From a connect, or the end of a response, to the first byte of the next request.
    pub idle_timeout: Duration,
    /// Request line and headers, in bytes; more is answered 431.
    pub header_bytes_max: usize,
    /// Header fields; more is answered 431.
    pub header_count_max: usize,
    /// How long a peer may take nothing of an answer.
    pub unread_timeout: Duration,
}

impl Default for Http1Limits {
    fn default() -> Self {
        Self {
            header_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_mins(1),
            header_bytes_max: 16 * 1024,
            header_count_max: 100,
            unread_timeout: Duration::from_secs(30),
        }
    }
}

/// Limits of an HTTP/2 connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Http2Limits {
    /// From the connect to the end of the client's preface; with TLS as long for its handshake, and then again.
    pub handshake_timeout: Duration,
    /// Open streams; more wait in the client without an error, so this is generous.
    pub max_concurrent_streams: u32,
    /// Silence after which a ping is sent, so that peers lost behind a NAT are noticed.
    pub keepalive_interval: Duration,
    /// Silence after that ping which closes the connection.
    pub keepalive_timeout: Duration,
    /// Headers of one request, in bytes as HTTP/2 counts them.
    pub max_header_list_size: u32,
    /// Streams reset before they were accepted; more close the connection ("rapid reset").
    pub max_pending_reset: usize,
    /// Streams that we reset because the peer broke the rules of HTTP/2, one too many open ones among them; more close
    /// the connection.
    pub max_error_reset: usize,
    /// How long a connection may be without an open stream until it is told to go (GOAWAY).
    pub idle_timeout: Duration,
    /// How long a peer may take nothing of the answer on a stream, then the stream is reset; or nothing at all, then the
    /// connection is. Longer than the services' own limits, whose ends say more.
    pub unread_timeout: Duration,
    /// Flow control window of a stream, in bytes.
    pub stream_window: u32,
    /// Flow control window of the connection, in bytes.
    pub connection_window: u32,
}

impl Default for Http2Limits {
    fn default() -> Self {
        Self {
            handshake_timeout: Duration::from_secs(10),
            max_concurrent_streams: 2000,
            keepalive_interval: Duration::from_secs(20),
            keepalive_timeout: Duration::from_secs(20),
            max_header_list_size: 16 * 1024,
            max_pending_reset: 20,
            max_error_reset: 100,
            idle_timeout: Duration::from_mins(5),
            unread_timeout: Duration::from_mins(1),
            stream_window: 256 * 1024,
            connection_window: 1024 * 1024,
        }
    }
}

/// When to finish and when to cut.
#[derive(Debug, Clone)]
pub struct Tokens {
    /// Stop accepting; let every connection end what is open on it (GOAWAY, `Connection: close`).
    pub drain: CancellationToken,
    /// Close every connection.
    pub stop: CancellationToken,
}

impl Tokens {
    /// For a port whose requests the drain waits for.
    pub fn draining(shutdown: &Shutdown) -> Self {
        Self { drain: shutdown.drain().clone(), stop: shutdown.stop().clone() }
    }

    /// For a port that serves to the very end (metrics and probes); its task is a background task.
    pub fn until_stop(shutdown: &Shutdown) -> Self {
        Self { drain: shutdown.stop().clone(), stop: shutdown.stop().clone() }
    }
}

/// A bound port. Connections queue in the kernel until [`Listener::serve`] runs.
#[derive(Debug)]
pub struct Listener {
    socket: TcpListener,
    local: SocketAddr,
}

impl Listener {
    /// Binds `address`; port 0 takes a free one.
    pub fn bind(address: SocketAddr) -> io::Result<Self> {
        let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        let socket = socket.listen(BACKLOG)?;
        let local = socket.local_addr()?;
        Ok(Self { socket, local })
    }

    /// The bound address, with the port that was chosen.
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// Accepts and serves until the drain, then returns when its last connection has ended. Each request carries
    /// a [`ConnectionInfo`] among its extensions. Failures to accept are waited out, never returned.
    pub async fn serve<S, B>(self, service: S, options: Options, tokens: Tokens)
    where
        S: Service<Request<Incoming>, Response = Response<B>> + Clone + Send + 'static,
        S::Error: Into<BoxError>,
        S::Future: Send + 'static,
        B: Body<Data: Send, Error: Into<BoxError>> + Send + Unpin + 'static,
    {
        let admission =
            Admission::new(options.name, options.connections_max, options.connections_per_peer_max);
        let connections = TaskTracker::new();
        let refusals = Seldom::default();
        let mut backoff = BACKOFF_MIN;
        loop {
            let accepted = tokio::select! {
                biased;
                () = tokens.drain.cancelled() => break,
                () = tokens.stop.cancelled() => break,
                accepted = self.socket.accept() => accepted,
            };
            let (stream, peer) = match accepted {
                Ok(accepted) => accepted,
                Err(error) if concerns_one_connection(&error) => continue,
                Err(error) => {
                    wait_out(&error, &options, backoff, &tokens).await;
                    backoff = (backoff * 2).min(BACKOFF_MAX);
                    continue;
                }
            };
            backoff = BACKOFF_MIN;
            let permit = match admission.admit(peer.ip()) {
                Ok(permit) => permit,
                Err(refusal) => {
                    record(&refusals, &options, refusal.word());
                    continue;
                }
            };
            let Ok(info) = prepare(&stream, peer) else { continue };
            let serving = connection::Serving {
                info,
                tokens: tokens.clone(),
                tracker: connections.clone(),
                name: options.name,
                // That of this moment: the next connection may get a newer certificate.
                acceptor: options.tls.as_ref().map(Tls::acceptor),
            };
            let future = connection::serve(stream, service.clone(), options.protocol.clone(), serving);
            connections.spawn(async move {
                future.await;
                drop(permit);
            });
        }
        drop(self.socket);
        connections.close();
        debug!(listener = options.name, connections = admission.open(), "stopped accepting");
        connections.wait().await;
    }
}

fn prepare(stream: &TcpStream, peer: SocketAddr) -> io::Result<ConnectionInfo> {
    // Answers are small and written whole: waiting to fill a packet only delays them.
    stream.set_nodelay(true)?;
    Ok(ConnectionInfo::new(peer, stream.local_addr()?))
}

/// True for failures of the connection that was about to be accepted: the next one may well succeed.
fn concerns_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    [ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted].contains(&error.kind())
}

/// Pauses after a failure that the next attempt would meet again at once.
async fn wait_out(error: &io::Error, options: &Options, pause: Duration, tokens: &Tokens) {
    metrics::counter!(names::ACCEPT_ERRORS, names::LISTENER => options.name).increment(1);
    warn!(listener = options.name, %error, ?pause, "cannot accept connections");
    tokio::select! {
        () = sleep(pause) => {}
        () = tokens.drain.cancelled() => {}
    }
}

/// Counts a refused connection, and says so now and then.
fn record(refusals: &Seldom, options: &Options, reason: &'static str) {
    metrics::counter!(names::CONNECTIONS_REFUSED, names::LISTENER => options.name, names::REASON => reason)
        .increment(1);
    if let Some(refused) = refusals.count() {
        let limits = (options.connections_max, options.connections_per_peer_max);
        warn!(listener = options.name, reason, refused, ?limits, "connection limit reached");
    }
}

#[cfg(test)]
mod tests;
