//! One connection, from the accept to the close.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};

use http::{Request, Response};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::{MissedTickBehavior, interval};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::util::{MapResponse, Oneshot};
use tower::{BoxError, Service, ServiceExt};
use tracing::debug;

use crate::telemetry::names;
use crate::tls::PeerCertificate;

use super::activity::{Activity, Overdue, RequestGuard, WatchedStream};
use super::frames::FrameBudget;
use super::stream::{Streams, ToldBody, told};
use super::transport::{Transport, handshake};
use super::{Http1Limits, Http2Limits, Protocol, Tokens};

/// The least that hyper reads ahead on HTTP/1.1: small enough to hold thousands, large enough for bodies.
const HTTP1_BUFFER_BYTES: usize = 64 * 1024;

/// Open requests of one connection that need no credential.
const GUESTS_MAX: usize = 100;

/// The connection a request came on; found among the request's extensions.
#[derive(Debug, Clone)]
pub struct ConnectionInfo {
    /// The other end; a proxy's address when one stands between.
    pub peer: SocketAddr,
    /// Our end.
    pub local: SocketAddr,
    /// Closes this connection.
    pub kill: KillSwitch,
    /// What the client has certified; `None` without TLS and without a certificate.
    pub certificate: Option<Arc<PeerCertificate>>,
    /// Places for requests that need no credential, for services that have such.
    pub guests: Arc<Semaphore>,
}

impl ConnectionInfo {
    pub(super) fn new(peer: SocketAddr, local: SocketAddr) -> Self {
        let guests = Arc::new(Semaphore::new(GUESTS_MAX));
        Self { peer, local, kill: KillSwitch::default(), certificate: None, guests }
    }
}

/// Closes one TCP connection at once, with every stream on it: for peers that never read what they asked for.
#[derive(Debug, Clone, Default)]
pub struct KillSwitch(Arc<CancellationToken>);

impl KillSwitch {
    /// Resets the connection; what was not read by the peer is lost. Calling it again changes nothing.
    pub fn kill(&self) {
        self.0.cancel();
    }

    /// True once [`KillSwitch::kill`] was called.
    pub fn is_killed(&self) -> bool {
        self.0.is_cancelled()
    }
}

/// What a connection needs besides its stream and service.
pub(super) struct Serving {
    pub(super) info: ConnectionInfo,
    pub(super) tokens: Tokens,
    /// Holds the tasks of HTTP/2 streams, so that the listener waits for them too.
    pub(super) tracker: TaskTracker,
    pub(super) name: &'static str,
    /// Where the port has TLS.
    pub(super) acceptor: Option<TlsAcceptor>,
}

/// Serves `stream` until one side ends it.
pub(super) async fn serve<S, B>(stream: TcpStream, service: S, protocol: Protocol, serving: Serving)
where
    S: Service<Request<Incoming>, Response = Response<B>> + Clone + Send + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send + 'static,
    B: Body<Data: Send, Error: Into<BoxError>> + Send + Unpin + 'static,
{
    let Serving { mut info, tokens, tracker, name, acceptor } = serving;
    let peer = info.peer;
    let stream = match acceptor {
        None => Transport::Plain(stream),
        Some(acceptor) => match handshake(stream, acceptor, protocol.handshake_timeout(), &tokens).await {
            Ok((stream, certificate)) => {
                info.certificate = certificate.map(Arc::new);
                stream
            }
            Err(reason) => {
                metrics::counter!(names::TLS_FAILURES, names::LISTENER => name, names::REASON => reason)
                    .increment(1);
                // As with connections that fail: whoever can reach the port could fill the log.
                debug!(listener = name, %peer, reason, "no TLS connection");
                return;
            }
        },
    };
    let activity = Arc::new(Activity::new(&protocol));
    let frames = matches!(protocol, Protocol::Http2(_)).then(FrameBudget::new);
    let io = TokioIo::new(WatchedStream::new(stream, Arc::clone(&activity), info.kill.clone(), frames));
    let watch = Watch::new(Arc::clone(&activity), info.kill.clone(), &tokens);
    let end = match protocol {
        Protocol::Http1(limits) => {
            let activity = Arc::clone(&activity);
            let service = Http1Service { inner: service, info, activity };
            let connection = http1_builder(&limits).serve_connection(io, service);
            watch.drive(connection, http1::Connection::graceful_shutdown).await
        }
        Protocol::Http2(limits) => {
            let service = Http2Service { inner: service, info };
            let unread_timeout = limits.unread_timeout;
            let streams = Streams { tracker, activity: Arc::clone(&activity), unread_timeout, name };
            let connection = http2_builder(&limits, streams).serve_connection(io, service);
            watch.drive(connection, http2::Connection::graceful_shutdown).await
        }
    };
    let reason = match &end {
        End::Closed(Ok(())) => return debug!(listener = name, %peer, "connection closed"),
        End::Closed(Err(error)) => {
            // The peer's doing: a reset, a malformed request. Worth a line only when someone looks.
            debug!(listener = name, %peer, %error, "connection failed");
            cause(error, &activity)
        }
        End::Cut(reason) => Some(*reason),
    };
    if let Some(reason) = reason {
        metrics::counter!(names::CONNECTIONS_CUT, names::LISTENER => name, names::REASON => reason)
            .increment(1);
        debug!(listener = name, %peer, reason, "connection cut");
    }
}

/// Why the library or its stream closed the connection, unless the peer did.
fn cause(error: &hyper::Error, activity: &Activity) -> Option<&'static str> {
    let http2 = std::error::Error::source(error).and_then(<dyn std::error::Error>::downcast_ref::<h2::Error>);
    let is_calming = http2
        .is_some_and(|error| error.is_library() && error.reason() == Some(h2::Reason::ENHANCE_YOUR_CALM));
    match () {
        () if is_calming || activity.is_flooding() => Some("flood"),
        () if error.is_timeout() => Some("keepalive"),
        () => None,
    }
}

fn http1_builder(limits: &Http1Limits) -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        // `Activity` does this, because hyper's timeout would close idle connections too.
        .header_read_timeout(None)
        .max_header_size(limits.header_bytes_max)
        .max_headers(limits.header_count_max)
        .max_buf_size(limits.header_bytes_max.max(HTTP1_BUFFER_BYTES));
    builder
}

fn http2_builder(limits: &Http2Limits, streams: Streams) -> http2::Builder<Streams> {
    let mut builder = http2::Builder::new(streams);
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits.max_concurrent_streams)
        .keep_alive_interval(limits.keepalive_interval)
        .keep_alive_timeout(limits.keepalive_timeout)
        .max_header_list_size(limits.max_header_list_size)
        .max_pending_accept_reset_streams(limits.max_pending_reset)
        .max_local_error_reset_streams(limits.max_error_reset)
        .initial_stream_window_size(limits.stream_window)
        .initial_connection_window_size(limits.connection_window);
    builder
}

enum End {
    Closed(hyper::Result<()>),
    Cut(&'static str),
}

/// Everything that may end a connection besides the connection itself.
struct Watch {
    activity: Arc<Activity>,
    kill: KillSwitch,
    // Children of the process's tokens: a connection is polled often, and the lock inside is then its own.
    drain: CancellationToken,
    stop: CancellationToken,
}

impl Watch {
    fn new(activity: Arc<Activity>, kill: KillSwitch, tokens: &Tokens) -> Self {
        let (drain, stop) = (tokens.drain.child_token(), tokens.stop.child_token());
        Self { activity, kill, drain, stop }
    }

    /// Runs the connection; `finish` asks it to end when what is open on it has ended.
    async fn drive<C>(self, connection: C, finish: impl Fn(Pin<&mut C>)) -> End
    where
        C: Future<Output = hyper::Result<()>>,
    {
        let mut connection = pin!(connection);
        let mut check = interval(self.activity.check_interval());
        check.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut is_finishing, mut is_idle) = (false, false);
        loop {
            tokio::select! {
                biased;
                result = connection.as_mut() => {
                    return if is_idle { End::Cut("idle") } else { End::Closed(result) };
                }
                () = self.kill.0.cancelled() => return End::Cut("killed"),
                () = self.stop.cancelled() => return End::Cut("stop"),
                () = self.drain.cancelled(), if !is_finishing => {
                    is_finishing = true;
                    finish(connection.as_mut());
                }
                _ = check.tick() => match self.activity.overdue() {
                    Some(Overdue::Head) => return End::Cut("head_timeout"),
                    Some(Overdue::Unread) => return End::Cut("unread"),
                    // HTTP/2 clients are told first (GOAWAY): a call may be on its way. Until the next check it is over.
                    Some(Overdue::Idle) if !is_finishing => {
                        (is_finishing, is_idle) = (true, true);
                        finish(connection.as_mut());
                    }
                    Some(Overdue::Idle) => return End::Cut("idle"),
                    None => {}
                }
            }
        }
    }
}

/// Adds the connection to each request.
struct Http2Service<S> {
    inner: S,
    info: ConnectionInfo,
}

impl<S, B> hyper::service::Service<Request<Incoming>> for Http2Service<S>
where
    S: Service<Request<Incoming>, Response = Response<B>> + Clone,
{
    type Response = Response<ToldBody<B>>;
    type Error = S::Error;
    type Future = Oneshot<MapResponse<S, fn(Response<B>) -> Self::Response>, Request<Incoming>>;

    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        request.extensions_mut().insert(self.info.clone());
        self.inner.clone().map_response(told as fn(_) -> _).oneshot(request)
    }
}

/// Adds the connection to each request, and notes when it is served.
struct Http1Service<S> {
    inner: S,
    info: ConnectionInfo,
    activity: Arc<Activity>,
}

impl<S, B> hyper::service::Service<Request<Incoming>> for Http1Service<S>
where
    S: Service<Request<Incoming>, Response = Response<B>> + Clone + Send + 'static,
    S::Future: Send,
{
    type Response = Response<GuardedBody<B>>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        request.extensions_mut().insert(self.info.clone());
        let guard = self.activity.begin_request();
        let response = self.inner.clone().oneshot(request);
        Box::pin(async move { Ok(response.await?.map(|inner| GuardedBody { inner, _guard: guard })) })
    }
}

/// A response body; its request counts as served while it lives.
struct GuardedBody<B> {
    inner: B,
    _guard: RequestGuard,
}

impl<B: Body + Unpin> Body for GuardedBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        Pin::new(&mut self.inner).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
