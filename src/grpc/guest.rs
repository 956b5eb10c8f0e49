//! Services of libraries (health, reflection): whose streams end with the drain, and of which a stranger opens a few.
//!
//! They answer a `Watch`, or a reflection call that stays open, for as long as the client likes, and so would keep the
//! drain waiting to its deadline. The streams of our own service end by themselves, with a cursor.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body::Frame;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::Status;
use tonic::body::Body;
use tonic::server::NamedService;
use tower::Service;

use crate::listener::ConnectionInfo;

use super::status;

/// A service whose open calls end when `ended` is cancelled.
#[derive(Debug, Clone)]
pub(super) struct Guest<S> {
    pub(super) service: S,
    pub(super) ended: CancellationToken,
    /// Places of all connections together, beside those that each connection has.
    pub(super) places: Arc<Semaphore>,
}

/// What an open call holds.
type Places = (OwnedSemaphorePermit, Option<OwnedSemaphorePermit>);

impl<S> Guest<S> {
    /// Places for one more call; `None` if there are none.
    fn admit(&self, connection: Option<&ConnectionInfo>) -> Option<Places> {
        let take = |places: &Arc<Semaphore>| Arc::clone(places).try_acquire_owned().ok();
        let own = match connection {
            Some(connection) => Some(take(&connection.guests)?),
            None => None,
        };
        Some((take(&self.places)?, own))
    }
}

impl<S: NamedService> NamedService for Guest<S> {
    const NAME: &'static str = S::NAME;
}

impl<S> Service<Request<Body>> for Guest<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.service.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let Some(places) = self.admit(request.extensions().get()) else {
            return Box::pin(std::future::ready(Ok(status::too_many_guests().into_http())));
        };
        let ended = self.ended.clone();
        let ending = move |inner, has_status, places| {
            let ended = Some(Box::pin(ended.clone().cancelled_owned()));
            Body::new(EndingBody { inner, ended, has_status, _places: places })
        };
        // The request too: a service that waits for more of it holds the HTTP/2 stream, answered or not.
        let request = request.map(|body| ending(body, false, None));
        let response = self.service.call(request);
        Box::pin(async move { Ok(response.await?.map(|body| ending(body, true, Some(places)))) })
    }
}

/// What is ready goes through; what is waited for does not come any more.
struct EndingBody {
    inner: Body,
    /// `None` once it has ended early.
    ended: Option<Pin<Box<WaitForCancellationFutureOwned>>>,
    /// Whether a status says why: in a response.
    has_status: bool,
    _places: Option<Places>,
}

impl http_body::Body for EndingBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let Some(ended) = self.ended.as_mut().map(|ended| ended.as_mut().poll(cx)) else {
            return Poll::Ready(None);
        };
        match (Pin::new(&mut self.inner).poll_frame(cx), ended) {
            (Poll::Pending, Poll::Ready(())) => {
                self.ended = None;
                if !self.has_status {
                    return Poll::Ready(None);
                }
                let mut trailers = HeaderMap::new();
                status::stream_cut().add_header(&mut trailers)?;
                Poll::Ready(Some(Ok(Frame::trailers(trailers))))
            }
            (frame, _) => frame,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.ended.is_none() || self.inner.is_end_stream()
    }
}
