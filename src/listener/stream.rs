//! The task of one HTTP/2 stream, which ends when its peer leaves an answer unread.
//!
//! A peer decides how much of an answer it lets us send, and may answer pings all the while: nothing else would ever end
//! a stream that it gives no room, and each holds its answer. Only the task of the stream notices: it is woken when
//! there is room, and hyper then asks for more of the body.

use std::cell::Cell;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::Response;
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Sleep, sleep};
use tokio_util::task::TaskTracker;

use crate::telemetry::names;

use super::activity::Activity;

thread_local! {
    /// What the body of the stream that is being polled on this thread has said last.
    static WAITS_FOR: Cell<Option<Side>> = const { Cell::new(None) };
}

/// Whom a stream waits for.
#[derive(Debug, Clone, Copy)]
enum Side {
    /// There is nothing to send yet.
    Us,
    /// There is something, and no room for it or for more.
    Peer,
}

/// Runs the tasks of a connection's streams where the listener can wait for them.
#[derive(Clone)]
pub(super) struct Streams {
    pub(super) tracker: TaskTracker,
    pub(super) activity: Arc<Activity>,
    pub(super) unread_timeout: Duration,
    pub(super) name: &'static str,
}

impl<F> hyper::rt::Executor<F> for Streams
where
    F: Future<Output: Send> + Send + 'static,
{
    fn execute(&self, stream: F) {
        let (open, limit, name) = (self.activity.begin_request(), self.unread_timeout, self.name);
        drop(self.tracker.spawn(async move {
            if until_unread(stream, limit).await.is_none() {
                metrics::counter!(names::STREAMS_CUT, names::LISTENER => name).increment(1);
                tracing::debug!(listener = name, "the answer on a stream is not read; the stream is reset");
            }
            drop(open);
        }));
    }
}

/// Runs a stream; dropping it resets it.
async fn until_unread<F: Future>(stream: F, limit: Duration) -> Option<F::Output> {
    let mut stream = pin!(stream);
    let mut unread: Option<Pin<Box<Sleep>>> = None;
    poll_fn(|cx| {
        WAITS_FOR.set(None);
        if let Poll::Ready(output) = stream.as_mut().poll(cx) {
            return Poll::Ready(Some(output));
        }
        match WAITS_FOR.get() {
            Some(Side::Us) => unread = None,
            // It has got further.
            Some(Side::Peer) => unread = Some(Box::pin(sleep(limit))),
            None => {}
        }
        unread.as_mut().map_or(Poll::Pending, |unread| unread.as_mut().poll(cx).map(|()| None))
    })
    .await
}

/// A response body that tells the task of its stream whom it waits for.
pub(super) struct ToldBody<B>(B);

/// Beside a response's head there is its body to send.
pub(super) fn told<B>(response: Response<B>) -> Response<ToldBody<B>> {
    WAITS_FOR.set(Some(Side::Peer));
    response.map(ToldBody)
}

impl<B: Body + Unpin> Body for ToldBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let polled = Pin::new(&mut self.0).poll_frame(context);
        WAITS_FOR.set(Some(if polled.is_pending() { Side::Us } else { Side::Peer }));
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.0.size_hint()
    }
}
