//! What a connection is doing, so that one that does nothing can be closed.
//!
//! hyper's own header timeout also runs between requests: it cannot give a head ten seconds and an idle
//! connection a minute. Nor does it notice a peer that never reads its answers. So what is read, written and served is
//! watched here.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use super::connection::KillSwitch;
use super::frames::{Flood, FrameBudget};
use super::transport::Transport;
use super::{Http1Limits, Http2Limits, Protocol};

/// Length of the fixed text that opens every HTTP/2 connection.
const HTTP2_PREFACE_BYTES: usize = 24;

/// Watches one connection.
#[derive(Debug)]
pub(super) struct Activity {
    head_timeout: Duration,
    idle_timeout: Duration,
    unread_timeout: Duration,
    seen: Mutex<Seen>,
}

#[derive(Debug, Clone, Copy)]
struct Seen {
    state: State,
    /// Since when the peer has taken nothing of what is to be written.
    blocked_since: Option<Instant>,
    is_flooding: bool,
}

#[derive(Debug, Clone, Copy)]
enum State {
    /// HTTP/1.1: no request, and no byte of one.
    Idle { since: Instant },
    /// HTTP/1.1: a request head has begun.
    Head { since: Instant },
    /// HTTP/1.1: a request is being served; its deadlines are the service's.
    Busy,
    /// HTTP/2: the preface is not complete.
    Preface { since: Instant, bytes_left: usize },
    /// HTTP/2: so many streams are open, without one since then. Pings tell whether the peer is there.
    Open { streams: usize, since: Instant },
}

/// Why a connection must be closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Overdue {
    Head,
    Idle,
    Unread,
}

impl Activity {
    pub(super) fn new(protocol: &Protocol) -> Self {
        let since = Instant::now();
        let (head_timeout, idle_timeout, unread_timeout, state) = match protocol {
            Protocol::Http1(Http1Limits { header_timeout, idle_timeout, unread_timeout, .. }) => {
                (*header_timeout, *idle_timeout, *unread_timeout, State::Idle { since })
            }
            Protocol::Http2(Http2Limits { handshake_timeout, idle_timeout, unread_timeout, .. }) => {
                let state = State::Preface { since, bytes_left: HTTP2_PREFACE_BYTES };
                (*handshake_timeout, *idle_timeout, *unread_timeout, state)
            }
        };
        let seen = Mutex::new(Seen { state, blocked_since: None, is_flooding: false });
        Self { head_timeout, idle_timeout, unread_timeout, seen }
    }

    /// How often to ask [`Activity::overdue`]: a quarter of the shortest limit, so that it is passed by at most that.
    pub(super) fn check_interval(&self) -> Duration {
        let shortest = self.head_timeout.min(self.idle_timeout).min(self.unread_timeout);
        (shortest / 4).max(Duration::from_millis(5))
    }

    /// The limit that has been passed, if any.
    pub(super) fn overdue(&self) -> Option<Overdue> {
        let seen = *self.seen();
        if seen.blocked_since.is_some_and(|since| since.elapsed() >= self.unread_timeout) {
            return Some(Overdue::Unread);
        }
        match seen.state {
            State::Idle { since } | State::Open { streams: 0, since } => {
                (since.elapsed() >= self.idle_timeout).then_some(Overdue::Idle)
            }
            State::Head { since } | State::Preface { since, .. } => {
                (since.elapsed() >= self.head_timeout).then_some(Overdue::Head)
            }
            State::Busy | State::Open { .. } => None,
        }
    }

    /// Whether the peer was cut off because of what it sends.
    pub(super) fn is_flooding(&self) -> bool {
        self.seen().is_flooding
    }

    /// Notes that a request is being served until the guard is dropped. HTTP/1.1 serves one at a time.
    pub(super) fn begin_request(self: &Arc<Self>) -> RequestGuard {
        let state = &mut self.seen().state;
        *state = match *state {
            State::Open { streams, since } => State::Open { streams: streams + 1, since },
            State::Idle { .. } | State::Head { .. } | State::Busy | State::Preface { .. } => State::Busy,
        };
        RequestGuard(Arc::clone(self))
    }

    fn end_request(&self) {
        let (state, since) = (&mut self.seen().state, Instant::now());
        *state = match *state {
            State::Open { streams, .. } => State::Open { streams: streams.saturating_sub(1), since },
            State::Idle { .. } | State::Head { .. } | State::Busy | State::Preface { .. } => {
                State::Idle { since }
            }
        };
    }

    fn read(&self, bytes: usize) {
        let state = &mut self.seen().state;
        match *state {
            State::Idle { .. } => *state = State::Head { since: Instant::now() },
            State::Preface { bytes_left, .. } if bytes_left <= bytes => {
                *state = State::Open { streams: 0, since: Instant::now() };
            }
            State::Preface { since, bytes_left } => {
                *state = State::Preface { since, bytes_left: bytes_left - bytes };
            }
            State::Head { .. } | State::Busy | State::Open { .. } => {}
        }
    }

    /// Notes whether the peer takes what is written.
    fn written(&self, is_taken: bool) {
        let blocked_since = &mut self.seen().blocked_since;
        *blocked_since = if is_taken { None } else { blocked_since.or_else(|| Some(Instant::now())) };
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request that is being served.
#[derive(Debug)]
pub(super) struct RequestGuard(Arc<Activity>);

impl Drop for RequestGuard {
    fn drop(&mut self) {
        self.0.end_request();
    }
}

/// A connection that reports what goes over it, and that is reset when it was killed or is not read.
#[derive(Debug)]
pub(super) struct WatchedStream {
    stream: Transport,
    activity: Arc<Activity>,
    kill: KillSwitch,
    /// HTTP/2: what the peer may send beside requests.
    frames: Option<FrameBudget>,
    /// Whether the peer takes nothing at present; known here too, so that a write that is taken costs no lock.
    is_blocked: bool,
}

impl WatchedStream {
    pub(super) fn new(
        stream: Transport,
        activity: Arc<Activity>,
        kill: KillSwitch,
        frames: Option<FrameBudget>,
    ) -> Self {
        Self { stream, activity, kill, frames, is_blocked: false }
    }

    fn written<T>(&mut self, polled: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if self.is_blocked != polled.is_pending() {
            self.is_blocked = polled.is_pending();
            self.activity.written(!self.is_blocked);
        }
        polled
    }
}

impl Drop for WatchedStream {
    fn drop(&mut self) {
        // Without this the kernel would go on for minutes trying to hand over what the peer does not read.
        let is_reset = self.kill.is_killed() || self.is_blocked;
        if is_reset && self.stream.tcp().set_zero_linger().is_err() {
            tracing::debug!("the connection was closed already");
        }
    }
}

impl AsyncRead for WatchedStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
        let Some(read @ [_, ..]) = buffer.filled().get(before..) else { return Poll::Ready(Ok(())) };
        self.activity.read(read.len());
        if let Some(Err(Flood)) = self.frames.as_mut().map(|frames| frames.spend(read)) {
            self.activity.seen().is_flooding = true;
            return Poll::Ready(Err(io::Error::other(Flood)));
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for WatchedStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.written(polled)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write_vectored(context, bytes);
        self.written(polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        // TLS keeps what the connection below does not take.
        let polled = Pin::new(&mut self.stream).poll_flush(context);
        self.written(polled)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_shutdown(context);
        self.written(polled)
    }
}
