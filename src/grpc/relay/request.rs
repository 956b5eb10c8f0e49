//! The body of a request that may have to be sent again: to the next leader, if the last one certainly did not take it.

use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::FutureExt;
use http_body::{Body as _, Frame};
use http_body_util::BodyExt;
use tokio_util::sync::WaitForCancellationFutureOwned;
use tonic::Status;
use tonic::body::Body;

/// Bytes that are kept of a request. What is larger is passed on piece by piece, and once.
const KEPT_MAX: usize = 256 * 1024;
/// Before each message of gRPC: whether it is compressed, and its length.
const PREFIX: usize = 5;

/// The body, and what was read of it. Cheap to clone.
#[derive(Clone)]
pub(super) struct Source(Arc<Mutex<State>>);

struct State {
    body: Body,
    /// What was read, in order; `None` once it was too much.
    kept: Option<Vec<Bytes>>,
    kept_bytes: usize,
    /// Names the reader that counts.
    reader: u64,
    is_over: bool,
    /// Why the body broke off.
    failure: Option<Status>,
}

/// Reads the body from its beginning.
pub(super) struct Reader {
    source: Source,
    id: u64,
    /// How many of the kept pieces were read.
    at: usize,
    /// When it becomes ready, the body ends. Taken then.
    end: Option<Pin<Box<WaitForCancellationFutureOwned>>>,
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader").field("id", &self.id).field("at", &self.at).finish_non_exhaustive()
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Source(…)")
    }
}

impl Source {
    pub(super) fn new(body: Body) -> Self {
        let kept = Some(Vec::new());
        let state = State { body, kept, kept_bytes: 0, reader: 0, is_over: false, failure: None };
        Self(Arc::new(Mutex::new(state)))
    }

    /// Reads from the beginning; readers before this one read nothing more. `None` if the beginning is not kept any more. The
    /// body ends early when `end` is ready.
    pub(super) fn reader(&self, end: Option<WaitForCancellationFutureOwned>) -> Option<Reader> {
        let mut state = self.state();
        state.kept.as_ref()?;
        state.reader += 1;
        Some(Reader { source: self.clone(), id: state.reader, at: 0, end: end.map(Box::pin) })
    }

    /// Why the body broke off, if it did.
    pub(super) fn failure(&self) -> Option<Status> {
        self.state().failure.clone()
    }

    /// The first message, if all of it comes and can be kept, is not compressed and not larger than `bytes_max`.
    pub(super) async fn first_message(&self, bytes_max: usize) -> Option<Bytes> {
        let mut reader = self.reader(None)?;
        let mut read = Vec::new();
        loop {
            if let Some((flag, length, message)) = split(&read) {
                if flag != 0 || length > bytes_max.min(KEPT_MAX) {
                    return None;
                }
                if let Some(message) = message.get(..length) {
                    return Some(Bytes::copy_from_slice(message));
                }
            }
            let frame = reader.frame().await?.ok()?;
            read.extend_from_slice(&frame.into_data().ok()?);
        }
    }

    /// The first message, if all of it was read and is kept, and is not compressed. Who reads goes on.
    pub(super) fn kept_message(&self) -> Option<Bytes> {
        let read = self.state().kept.as_ref()?.concat();
        let (flag, length, message) = split(&read)?;
        (flag == 0).then(|| message.get(..length).map(Bytes::copy_from_slice))?
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The flag, the length and the beginning of the first message.
fn split(read: &[u8]) -> Option<(u8, usize, &[u8])> {
    let (&[flag, a, b, c, d], message) = read.split_first_chunk::<PREFIX>()?;
    Some((flag, usize::try_from(u32::from_be_bytes([a, b, c, d])).ok()?, message))
}

impl State {
    fn poll(&mut self, at: &mut usize, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if let Some(piece) = self.kept.as_ref().and_then(|kept| kept.get(*at)) {
            *at += 1;
            return Poll::Ready(Some(Ok(Frame::data(piece.clone()))));
        }
        if let Some(failure) = &self.failure {
            return Poll::Ready(Some(Err(failure.clone())));
        }
        if self.is_over {
            return Poll::Ready(None);
        }
        let frame = loop {
            let frame = std::task::ready!(Pin::new(&mut self.body).poll_frame(cx));
            let data = frame.as_ref().and_then(|frame| frame.as_ref().ok()?.data_ref());
            // The end of a body often comes as an empty frame. Passed on it would be one in the middle, of which the leader takes a
            // hundred on a connection.
            if !data.is_some_and(Bytes::is_empty) {
                break frame;
            }
        };
        match &frame {
            Some(Ok(frame)) => {
                if let (Some(data), Some(kept)) = (frame.data_ref(), &mut self.kept) {
                    self.kept_bytes += data.len();
                    kept.push(data.clone());
                    *at += 1;
                }
                if self.kept_bytes > KEPT_MAX {
                    self.kept = None;
                }
            }
            Some(Err(failure)) => self.failure = Some(failure.clone()),
            None => self.is_over = true,
        }
        Poll::Ready(frame)
    }
}

impl http_body::Body for Reader {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if self.end.as_mut().is_some_and(|end| end.poll_unpin(cx).is_ready()) {
            self.end = None;
            self.source.state().is_over = true;
        }
        let Self { source, id, at, .. } = &mut *self;
        let mut state = source.state();
        if state.reader != *id {
            // Another leader has the request.
            return Poll::Ready(Some(Err(Status::cancelled(""))));
        }
        state.poll(at, cx)
    }

    fn is_end_stream(&self) -> bool {
        let state = self.source.state();
        let is_read = state.kept.as_ref().is_none_or(|kept| self.at >= kept.len());
        let is_whole = state.failure.is_none() && (state.is_over || state.body.is_end_stream());
        state.reader == self.id && is_read && is_whole
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::{Full, StreamBody};
    use tokio_util::sync::CancellationToken;

    use super::*;

    async fn all(mut reader: Reader) -> Vec<u8> {
        let mut read = Vec::new();
        while let Some(frame) = reader.frame().await {
            read.extend_from_slice(&frame.unwrap().into_data().unwrap());
        }
        read
    }

    fn pieces(pieces: Vec<Vec<u8>>) -> Source {
        let frames = pieces.into_iter().map(|piece| Ok::<_, Status>(Frame::data(Bytes::from(piece))));
        Source::new(Body::new(StreamBody::new(futures_util::stream::iter(frames))))
    }

    #[tokio::test]
    async fn what_was_read_is_read_again() {
        let source = pieces(vec![vec![0, 0, 0], vec![], vec![0, 3, 7], vec![8, 9], vec![]]);
        assert_eq!(source.kept_message(), None, "nothing was read");
        assert_eq!(source.first_message(100).await.unwrap(), &[7, 8, 9][..]);
        assert_eq!(source.kept_message().unwrap(), &[7, 8, 9][..]);
        let mut first = source.reader(None).unwrap();
        assert_eq!(first.frame().await.unwrap().unwrap().into_data().unwrap(), &[0, 0, 0][..]);
        let second = source.reader(None).unwrap();
        assert!(first.frame().await.unwrap().is_err(), "another one reads");
        assert_eq!(all(second).await, [0, 0, 0, 0, 3, 7, 8, 9]);
        assert_eq!(all(source.reader(None).unwrap()).await.len(), 8);
    }

    #[tokio::test]
    async fn a_large_body_is_read_once() {
        let source = pieces(vec![vec![1; KEPT_MAX], vec![2; 1], vec![3; 5]]);
        assert_eq!(all(source.reader(None).unwrap()).await.len(), KEPT_MAX + 6);
        assert!(source.reader(None).is_none());
    }

    #[tokio::test]
    async fn what_is_no_message_is_told_from_one() {
        for (piece, bytes_max) in
            [(vec![], 9), (vec![0; 4], 9), (vec![1, 0, 0, 0, 0], 9), (vec![0, 0, 0, 0, 2, 1, 1], 1)]
        {
            let source = Source::new(Body::new(Full::new(Bytes::from(piece.clone()))));
            assert_eq!(source.first_message(bytes_max).await, None, "{piece:?}");
        }
        let empty = Source::new(Body::new(Full::new(Bytes::from_static(&[0; 5]))));
        assert_eq!(empty.first_message(0).await, Some(Bytes::new()));
    }

    #[tokio::test]
    async fn a_body_can_be_ended() {
        let never = StreamBody::new(futures_util::stream::pending::<Result<Frame<Bytes>, Status>>());
        let (source, end) = (Source::new(Body::new(never)), CancellationToken::new());
        let reader = source.reader(Some(end.clone().cancelled_owned())).unwrap();
        end.cancel();
        assert_eq!(all(reader).await, [0; 0]);
    }
}
