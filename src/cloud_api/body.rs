//! Request bodies of our own: one that tells whether anybody has asked for it, and one that is fed piece by piece.
//!
//! As long as the HTTP library has not polled the body, no byte of it can have left, so the request cannot have
//! taken effect: Meta acts on complete bodies only. That is how "not sent" and "outcome unknown" are told apart.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::sync::mpsc;

/// Pieces of a file on their way from its source to the socket. More would only hold more memory: the socket's own
/// buffers keep it busy.
const PIECES_WAITING_MAX: usize = 2;

/// What a body waits for when everything else is ready: the connection is there and the head is written.
pub type Departure = Pin<Box<dyn Future<Output = ()> + Send + Sync>>;

/// Bytes that go out in one piece, with their exact size.
pub(super) struct WatchedBody {
    bytes: Bytes,
    polled: Arc<AtomicBool>,
    departure: Option<Departure>,
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
    pub(super) fn new(bytes: Bytes, departure: Option<Departure>) -> (Self, Watch) {
        let polled = Arc::new(AtomicBool::new(bytes.is_empty()));
        (Self { bytes, polled: Arc::clone(&polled), departure }, Watch(polled))
    }
}

impl Body for WatchedBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if let Some(departure) = &mut self.departure {
            ready!(departure.as_mut().poll(cx));
            self.departure = None;
        }
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

/// The end into which a file is poured. Dropping it before [`Feed::finish`] breaks the request off, so that the other
/// side never sees a whole one.
#[derive(Debug)]
pub struct Feed {
    pieces: mpsc::Sender<Bytes>,
    is_whole: Arc<AtomicBool>,
}

/// The request is over; it takes no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Closed;

impl Feed {
    /// Waits for room, then passes a piece on.
    pub async fn send(&self, piece: Bytes) -> Result<(), Closed> {
        self.pieces.send(piece).await.map_err(|_| Closed)
    }

    /// All pieces were sent: what closes the body may follow.
    pub fn finish(self) {
        self.is_whole.store(true, Ordering::Release);
    }
}

/// A body of known size whose middle is fed while it goes out.
#[derive(Debug)]
pub(super) struct FedBody {
    head: Bytes,
    pieces: mpsc::Receiver<Bytes>,
    is_whole: Arc<AtomicBool>,
    tail: Bytes,
    left: u64,
}

/// The source ended before its file was whole.
#[derive(Debug, thiserror::Error)]
#[error("the file was broken off")]
pub(super) struct BrokenOff;

impl FedBody {
    /// A body of `head`, a file of `file_bytes`, and `tail`.
    pub(super) fn new(head: Bytes, file_bytes: u64, tail: Bytes) -> (Feed, Self) {
        let (sender, pieces) = mpsc::channel(PIECES_WAITING_MAX);
        let is_whole = Arc::new(AtomicBool::new(false));
        let left = head.len() as u64 + file_bytes + tail.len() as u64;
        let feed = Feed { pieces: sender, is_whole: Arc::clone(&is_whole) };
        (feed, Self { head, pieces, is_whole, tail, left })
    }

    fn frame(&mut self, bytes: Bytes) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        // More than was announced would be cut off silently by whoever writes the request.
        let Some(left) = self.left.checked_sub(bytes.len() as u64) else {
            return Poll::Ready(Some(Err(BrokenOff)));
        };
        self.left = left;
        Poll::Ready(Some(Ok(Frame::data(bytes))))
    }
}

impl Body for FedBody {
    type Data = Bytes;
    type Error = BrokenOff;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        if !self.head.is_empty() {
            let head = std::mem::take(&mut self.head);
            return self.frame(head);
        }
        if let Some(piece) = ready!(self.pieces.poll_recv(cx)) {
            return self.frame(piece);
        }
        let tail = std::mem::take(&mut self.tail);
        match self.is_whole.load(Ordering::Acquire) && self.left == tail.len() as u64 {
            true if tail.is_empty() => Poll::Ready(None),
            true => self.frame(tail),
            false => Poll::Ready(Some(Err(BrokenOff))),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use http_body_util::BodyExt;

    use super::*;

    #[tokio::test]
    async fn a_fed_body_ends_only_when_it_is_whole() {
        for (pieces, finishes, whole) in [
            (&["ab", "c"][..], true, true),
            (&["ab", "c"], false, false),
            (&["ab"], true, false),
            (&["ab", "cd"], true, false),
            (&["abcdefghi"], true, false),
        ] {
            let (feed, body) = FedBody::new(Bytes::from_static(b"<"), 3, Bytes::from_static(b">"));
            assert_eq!(body.size_hint().exact(), Some(5));
            let pour = async {
                for piece in pieces {
                    feed.send(Bytes::from_static(piece.as_bytes())).await.unwrap();
                }
                if finishes {
                    feed.finish();
                } else {
                    drop(feed);
                }
            };
            let ((), collected) = tokio::join!(pour, body.collect());
            let collected = collected.map(http_body_util::Collected::to_bytes);
            assert_eq!(collected.is_ok(), whole, "{pieces:?} {finishes}: {collected:?}");
            if whole {
                assert_eq!(collected.unwrap(), "<abc>");
            }
        }
    }

    #[tokio::test]
    async fn it_remembers_the_first_poll() {
        let (body, watch) = WatchedBody::new(Bytes::from_static(b"{}"), None);
        assert_eq!(body.size_hint().exact(), Some(2));
        assert!(!body.is_end_stream() && !watch.may_have_left());
        assert_eq!(body.collect().await.unwrap().to_bytes(), "{}");
        assert!(watch.may_have_left());
        assert!(WatchedBody::new(Bytes::new(), None).1.may_have_left());
    }

    #[tokio::test]
    async fn it_has_not_left_while_it_waits_for_its_departure() {
        let (leave, left) = tokio::sync::oneshot::channel::<()>();
        let departure = Box::pin(async { left.await.unwrap() });
        let (mut body, watch) = WatchedBody::new(Bytes::from_static(b"{}"), Some(departure));
        assert!(body.frame().now_or_never().is_none());
        assert!(!watch.may_have_left());
        leave.send(()).unwrap();
        assert_eq!(body.collect().await.unwrap().to_bytes(), "{}");
        assert!(watch.may_have_left());
    }
}
