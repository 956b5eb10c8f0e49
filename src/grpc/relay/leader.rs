//! The way to the leader: one HTTP/2 connection over TLS, to exactly the certificate that its lease names.

use std::error::Error as _;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use http::{HeaderMap, HeaderValue, Request, Response, Uri, Version, header, uri};
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};
use tonic::Status;
use tonic::body::Body;
use tracing::{debug, info, warn};

use crate::flows::who_leads::{PeerKey, Replica};
use crate::lifecycle::Shutdown;
use crate::telemetry::Seldom;
use crate::tls;

use super::super::callers::Identity;
use super::super::{deadline, peers, status};
use super::Call;
use super::request::Reader;
use super::response::{Answer, Kind};

/// For TCP and TLS together.
const CONNECT_MAX: Duration = Duration::from_secs(1);
/// After a failure nobody tries for so long; all who wait share the next try.
const PAUSE: Duration = Duration::from_millis(40);
/// A leader that answers no ping for so long is gone, or cut off and about to be replaced.
const PING_INTERVAL: Duration = Duration::from_secs(2);
const PING_TIMEOUT: Duration = Duration::from_secs(2);
/// What may be on its way to one caller that does not read.
const STREAM_WINDOW: u32 = 256 * 1024;
/// So much that callers who do not read hold up nobody else: their streams have windows of their own.
const CONNECTION_WINDOW: u32 = 1 << 30;

/// Why the leader did not answer.
#[derive(Debug)]
pub(super) enum Missed {
    /// It certainly did nothing, and can be asked again, or the next one.
    NotTaken,
    /// It certainly did nothing, and too much of the request is gone to ask again.
    NotKept,
    /// It may have done it.
    Lost,
    /// The request broke off.
    Incomplete(Status),
}

/// The connection to whoever leads. Cheap to clone.
#[derive(Clone)]
pub(super) struct Leader(Arc<Inner>);

struct Inner {
    connection: ArcSwapOption<Connection>,
    /// Held while connecting; when the last try failed, and to whom.
    connecting: Mutex<Option<(Arc<Replica>, Instant)>>,
    key: HeaderValue,
    /// Of this process, for the audit log of the leader.
    name: String,
    failures: Seldom,
    shutdown: Shutdown,
}

impl fmt::Debug for Leader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Leader").field("name", &self.0.name).finish_non_exhaustive()
    }
}

struct Connection {
    replica: Arc<Replica>,
    sender: SendRequest<Reader>,
}

impl Leader {
    pub(super) fn new(key: &PeerKey, name: String, shutdown: Shutdown) -> Self {
        let (connection, connecting) = (ArcSwapOption::empty(), Mutex::default());
        let (key, failures) = (peers::key_header(key), Seldom::default());
        Self(Arc::new(Inner { connection, connecting, key, name, failures, shutdown }))
    }

    /// Asks the leader, and returns its answer as soon as that begins.
    pub(super) async fn ask(&self, replica: &Arc<Replica>, call: &Call) -> Result<Response<Body>, Missed> {
        let kind = Kind::of(call.method);
        let drain = || self.0.shutdown.drain().clone().cancelled_owned();
        let end = (kind == Kind::Sends).then(drain);
        let connection = self.connection(replica).await.ok_or(Missed::NotTaken)?;
        let reader = call.source.reader(end).ok_or(Missed::NotKept)?;
        let request = self.request(call, reader).ok_or(Missed::Lost)?;
        let who = call.head.extensions.get::<Arc<Identity>>();
        let is_with_leader = |is| who.map_or((), |who| who.note(|facts| facts.is_with_leader = is));
        is_with_leader(true);
        let mut sender = connection.sender.clone();
        let missed = match sender.try_send_request(request).await {
            Ok(answer) if did_nothing(answer.headers()) => Missed::NotTaken,
            Ok(answer) => {
                let lost = call.lost();
                let (mut head, body) = answer.into_parts();
                head.extensions.clear();
                return Ok(Response::from_parts(head, Body::new(Answer::new(body, kind, lost, drain()))));
            }
            Err(mut error) => {
                if let Some(failure) = call.source.failure() {
                    Missed::Incomplete(failure)
                } else if error.take_message().is_some() || is_refused(error.error()) {
                    self.forget(&connection);
                    Missed::NotTaken
                } else {
                    debug!(error = %error.error(), "the connection to the leader broke");
                    Missed::Lost
                }
            }
        };
        is_with_leader(false);
        Err(missed)
    }

    /// The call as the leader gets it: who calls, and how much time is left.
    fn request(&self, call: &Call, reader: Reader) -> Option<Request<Reader>> {
        let mut uri = uri::Parts::default();
        uri.scheme = Some(uri::Scheme::HTTPS);
        uri.authority = Some(uri::Authority::from_static("whatsapp-gateway"));
        uri.path_and_query = call.head.uri.path_and_query().cloned();
        let mut request = Request::new(reader);
        *request.uri_mut() = Uri::from_parts(uri).ok()?;
        *request.method_mut() = call.head.method.clone();
        *request.version_mut() = Version::HTTP_2;
        let mut headers = call.head.headers.clone();
        headers.remove(header::AUTHORIZATION);
        if let Some(left) = call.left() {
            headers.insert(deadline::HEADER, deadline::shown(left));
        }
        let who = call.head.extensions.get::<Arc<Identity>>()?;
        peers::pass(&mut headers, self.0.key.clone(), who, &self.0.name)?;
        *request.headers_mut() = headers;
        Some(request)
    }

    async fn connection(&self, replica: &Arc<Replica>) -> Option<Arc<Connection>> {
        let usable = || {
            let connection = self.0.connection.load_full()?;
            (connection.replica.id == replica.id && !connection.sender.is_closed()).then_some(connection)
        };
        if let Some(connection) = usable() {
            return Some(connection);
        }
        let mut failed = self.0.connecting.lock().await;
        if let Some(connection) = usable() {
            return Some(connection);
        }
        if failed.as_ref().is_some_and(|(other, at)| other.id == replica.id && at.elapsed() < PAUSE) {
            return None;
        }
        match timeout(CONNECT_MAX, self.connect(replica))
            .await
            .unwrap_or_else(|_| Err("it does not answer".into()))
        {
            Ok(sender) => {
                info!(leader = replica.name, address = replica.address, "calls go to the leader");
                let connection = Arc::new(Connection { replica: Arc::clone(replica), sender });
                self.0.connection.store(Some(Arc::clone(&connection)));
                *failed = None;
                Some(connection)
            }
            Err(error) => {
                if let Some(failures) = self.0.failures.count() {
                    warn!(leader = replica.name, address = replica.address, %error, failures, "the leader cannot be reached");
                }
                *failed = Some((Arc::clone(replica), Instant::now()));
                None
            }
        }
    }

    async fn connect(&self, replica: &Replica) -> Result<SendRequest<Reader>, tower::BoxError> {
        let tcp = TcpStream::connect(&replica.address).await?;
        tcp.set_nodelay(true)?;
        let stream = tls::pinned(&replica.certificate)?.connect(tls::pinned_name(), tcp).await?;
        let mut builder = Builder::new(TokioExecutor::new());
        builder
            .timer(TokioTimer::new())
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .keep_alive_interval(PING_INTERVAL)
            .keep_alive_timeout(PING_TIMEOUT);
        let (sender, connection) = builder.handshake(TokioIo::new(stream)).await?;
        self.0.shutdown.spawn_background("leader's connection", async move {
            if let Err(error) = connection.await {
                debug!(%error, "the connection to the leader ended");
            }
        });
        Ok(sender)
    }

    /// Calls that are on it go on; the next one gets another.
    fn forget(&self, connection: &Arc<Connection>) {
        self.0.connection.compare_and_swap(connection, None);
    }
}

/// Whether the answer of a leader that is none, or is about to end, leaves the call to the next one.
fn did_nothing(headers: &HeaderMap) -> bool {
    peers::is_not_leading(headers) || status::relay::is_draining(headers)
}

/// Whether the leader says that it did not even look at the call: it is about to end.
fn is_refused(error: &hyper::Error) -> bool {
    let error = error.source().and_then(<dyn std::error::Error>::downcast_ref::<h2::Error>);
    error.is_some_and(|error| {
        error.is_remote()
            && (error.is_go_away() || error.is_reset() && error.reason() == Some(h2::Reason::REFUSED_STREAM))
    })
}
