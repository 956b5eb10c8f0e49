//! What stands before every method: who calls is found out from the headers and from the certificate of
//! the connection, and whether they may call this method, before a
//! byte of the request is read.
//!
//! tonic reads and decodes a whole request before a handler sees it, so a handler is too late to keep strangers from
//! holding memory. Here they are refused at once, a request that does not come to its end is ended, and what tonic refuses by
//! itself gets the details that the contract promises. Every call leaves its line in the audit log here. Health and
//! reflection are open to everyone.

use std::convert::Infallible;
use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body::{Frame, SizeHint};
use tokio::time::{Instant, Sleep, sleep};
use tonic::body::Body;
use tonic::{Code, Status};
use tower::{BoxError, Service};

use crate::listener::ConnectionInfo;

use super::audit::{self, Line};
use super::callers::{Callers, Error, Identity};
use super::measure;
use super::peers::Peers;
use super::rights;
use super::slowdown::Slowdown;
use super::status;

/// Where the services of the contract are; paths begin with it.
pub(super) const OURS: &str = "/whatsapp.gateway.v1.";
/// How long a request may take to come, from the first wait for it to its end.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// An answer to come.
type Answer = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

/// How it is known who calls.
#[derive(Debug, Clone)]
pub(super) enum Door {
    /// By what the caller presents.
    Callers(Callers),
    /// By the word of another replica.
    Peers(Peers),
}

/// What stands at the door.
enum Met {
    Known(Identity),
    /// By another replica, and not here.
    Unknown(Identity, Status),
    Nobody(Error),
    /// No replica, at a door for replicas alone.
    Intruder,
}

impl Door {
    fn meet<B>(&self, request: &mut Request<B>, peer: Option<IpAddr>) -> Met {
        match self {
            Self::Callers(callers) => {
                let connection = request.extensions().get::<ConnectionInfo>();
                let certificate = connection.and_then(|connection| connection.certificate.as_deref());
                match callers.identify(request.headers(), certificate) {
                    Ok(who) => Met::Known(who.at(peer)),
                    Err(error) => Met::Nobody(error),
                }
            }
            Self::Peers(peers) => match peers.identify(request) {
                Some((who, None)) => Met::Known(who),
                Some((who, Some(refusal))) => Met::Unknown(who, refusal),
                None => Met::Intruder,
            },
        }
    }
}

/// A service behind the gate.
#[derive(Debug, Clone)]
pub struct Gate<S> {
    pub(super) inner: S,
    pub(super) door: Door,
    pub(super) slowdown: Slowdown,
    /// The limit of a request that `inner` keeps, for its text.
    pub(super) request_bytes_max: usize,
}

impl<S, B> Service<Request<B>> for Gate<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send + 'static,
    B: http_body::Body<Data = Bytes, Error: Into<BoxError>> + Send + Unpin + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Answer;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let started = Instant::now();
        let path = request.uri().path();
        let (is_ours, method) = (path.starts_with(OURS), measure::method(path));
        // An upload keeps time itself, and says why it ends. Between two sends of a stream there may be any time.
        let is_timed = !(is_ours && (path.ends_with("/UploadMedia") || path.ends_with("/SendMessages")));
        let mut line = None;
        if is_ours || matches!(self.door, Door::Peers(_)) {
            let connection = request.extensions().get::<ConnectionInfo>();
            let peer = connection.map(|connection| connection.peer.ip());
            let (who, unknown) = match self.door.meet(&mut request, peer) {
                Met::Known(who) => (Arc::new(who), None),
                Met::Unknown(who, refusal) => (Arc::new(who), Some(refusal)),
                Met::Nobody(error) => {
                    if request.extensions().get::<LookedAgain>().is_none()
                        && let Door::Callers(callers) = &self.door
                        && let Some(looked) = callers.look_again(&error)
                    {
                        return self.call_after(looked, request);
                    }
                    let (status, delay) = self.refusal(&error, method, peer);
                    return Box::pin(refuse(status, method, started, delay));
                }
                // Its connection is being cut.
                Met::Intruder => return Box::pin(std::future::pending()),
            };
            let line = line.insert(Line::new(who, method));
            let refusal = unknown.or_else(|| admit(&line.who, method).err());
            if let Some(status) = refusal {
                line.answered(Some(&status));
                return Box::pin(refuse(status, method, started, Duration::ZERO));
            }
            request.extensions_mut().insert(Arc::clone(&line.who));
        }
        let request =
            request.map(
                |inner| {
                    if is_timed { Body::new(TimedBody { inner, wait: None }) } else { Body::new(inner) }
                },
            );
        let response = self.inner.call(request);
        let request_bytes_max = self.request_bytes_max;
        Box::pin(async move {
            let mut response = response.await?;
            if let Some(foreign) = foreign(response.headers(), is_ours) {
                let status = status::adopted(&foreign, request_bytes_max);
                measure::record_duration(method, status.code(), started);
                replace(response.headers_mut(), &status);
            }
            if let Some(line) = &mut line {
                // A status in the head is an error; without one the call succeeded, or its stream is open.
                line.answered(Status::from_header_map(response.headers()).as_ref());
            }
            Ok(response)
        })
    }
}

/// Marks a request for which the keys of its JWT's issuer have been looked at again.
#[derive(Clone)]
struct LookedAgain;

impl<S> Gate<S> {
    /// What a stranger is told, and how long it should wait for that.
    fn refusal(&self, error: &Error, method: &'static str, peer: Option<IpAddr>) -> (Status, Duration) {
        audit::stranger(method, peer, error);
        let delay = peer.map_or(Duration::ZERO, |peer| self.slowdown.failed(peer));
        (status::unauthenticated(error), delay)
    }

    /// The same call once more, when keys have been looked at.
    fn call_after<B>(
        &mut self,
        looked: impl Future<Output = ()> + Send + 'static,
        mut request: Request<B>,
    ) -> <Self as Service<Request<B>>>::Future
    where
        Self: Service<Request<B>, Future = Answer> + Clone + Send + 'static,
        B: Send + 'static,
    {
        request.extensions_mut().insert(LookedAgain);
        // Routes are always ready, so the copy is too.
        let mut gate = self.clone();
        Box::pin(async move {
            looked.await;
            gate.call(request).await
        })
    }
}

/// Whether a method may be called. One that nobody has said anything about counts as one that does not exist.
fn admit(who: &Identity, method: &'static str) -> Result<(), Status> {
    if method == measure::OTHER {
        return Err(status::method_unknown());
    }
    rights::reach(who, method).map_err(Status::from)
}

async fn refuse(
    status: Status,
    method: &'static str,
    started: Instant,
    delay: Duration,
) -> Result<Response<Body>, Infallible> {
    if !delay.is_zero() {
        sleep(delay).await;
    }
    measure::record_duration(method, status.code(), started);
    Ok(status.into_http())
}

/// The status of an answer that no handler of ours made. Health and reflection refuse in their own way.
fn foreign(headers: &HeaderMap, is_ours: bool) -> Option<Status> {
    let status = Status::from_header_map(headers)?;
    let concerns_us = is_ours || status.code() == Code::Unimplemented;
    (concerns_us && status.code() != Code::Ok && status.details().is_empty()).then_some(status)
}

fn replace(headers: &mut HeaderMap, status: &Status) {
    for name in ["grpc-status", "grpc-message"] {
        headers.remove(name);
    }
    if status.add_header(headers).is_err() {
        // Not possible: texts are percent-encoded. The code alone is still an answer.
        headers.insert("grpc-status", http::HeaderValue::from(status.code() as i32));
    }
}

/// The body of a request that must come in time, however much of it comes; byte by byte it could come for ever.
struct TimedBody<B> {
    inner: B,
    wait: Option<Pin<Box<Sleep>>>,
}

impl<B> http_body::Body for TimedBody<B>
where
    B: http_body::Body<Data = Bytes, Error: Into<BoxError>> + Unpin,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.inner).poll_frame(cx) {
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        let wait = self.wait.get_or_insert_with(|| Box::pin(sleep(REQUEST_TIMEOUT)));
        match wait.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(Some(Err(status::request_incomplete().into()))),
            Poll::Pending => Poll::Pending,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
