//! A request body that tells whether anybody has asked for it.
//!
//! As long as the HTTP library has not polled the body, no byte of it can have left, so the request cannot have
//! taken effect: Meta acts on complete bodies only. That is how "not sent" and "outcome unknown" are told apart.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

/// Bytes that go out in one piece, with their exact size.
#[derive(Debug)]
pub(super) struct WatchedBody {
    bytes: Bytes,
    polled: Arc<AtomicBool>,
}

/// What is known of a [`WatchedBody`] after it was given away.
#[derive(Debug, Clone)]
pub(super) struct Watch(Arc<AtomicBool>);

impl Watch {
    /// Whether the body may have left, in whole or in part.
    pub(super) fn may_have_left(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

impl WatchedBody {
    /// The body and its watch. An empty body is never asked for, so it counts as left from the start.
    pub(super) fn new(bytes: Bytes) -> (Self, Watch) {
        let polled = Arc::new(AtomicBool::new(bytes.is_empty()));
        (Self { bytes, polled: Arc::clone(&polled) }, Watch(polled))
    }
}

impl Body for WatchedBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.polled.store(true, Ordering::Release);
        let bytes = std::mem::take(&mut self.bytes);
        Poll::Ready((!bytes.is_empty()).then(|| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.bytes.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.bytes.len() as u64)
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    #[tokio::test]
    async fn it_remembers_the_first_poll() {
        let (body, watch) = WatchedBody::new(Bytes::from_static(b"{}"));
        assert_eq!(body.size_hint().exact(), Some(2));
        assert!(!body.is_end_stream() && !watch.may_have_left());
        assert_eq!(body.collect().await.unwrap().to_bytes(), "{}");
        assert!(watch.may_have_left());
        assert!(WatchedBody::new(Bytes::new()).1.may_have_left());
    }
}
