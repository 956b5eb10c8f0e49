//! What a connection is doing, so that one that does nothing can be closed.
//!
//! hyper's own header timeout also runs between requests: it cannot give a head ten seconds and an idle
//! connection a minute. So the bytes read and the requests served are watched here.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use super::connection::KillSwitch;
use super::transport::Transport;
use super::{Http1Limits, Http2Limits, Protocol};

/// Length of the fixed text that opens every HTTP/2 connection.
const HTTP2_PREFACE_BYTES: usize = 24;

/// Watches one connection.
#[derive(Debug)]
pub(super) struct Activity {
    head_timeout: Duration,
    idle_timeout: Duration,
    state: Mutex<State>,
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
    /// HTTP/2: open; pings watch it from now on.
    Open,
}

/// Why a connection must be closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Overdue {
    Head,
    Idle,
}

impl Activity {
    pub(super) fn new(protocol: &Protocol) -> Self {
        let since = Instant::now();
        match protocol {
            Protocol::Http1(Http1Limits { header_timeout, idle_timeout, .. }) => Self {
                head_timeout: *header_timeout,
                idle_timeout: *idle_timeout,
                state: Mutex::new(State::Idle { since }),
            },
            Protocol::Http2(Http2Limits { handshake_timeout, .. }) => Self {
                head_timeout: *handshake_timeout,
                idle_timeout: *handshake_timeout,
                state: Mutex::new(State::Preface { since, bytes_left: HTTP2_PREFACE_BYTES }),
            },
        }
    }

    /// How often to ask [`Activity::overdue`]: a quarter of the shortest limit, so that it is passed by at most that.
    pub(super) fn check_interval(&self) -> Duration {
        (self.head_timeout.min(self.idle_timeout) / 4).max(Duration::from_millis(5))
    }

    /// The limit that has been passed, if any.
    pub(super) fn overdue(&self) -> Option<Overdue> {
        match self.state() {
            State::Idle { since } => (since.elapsed() >= self.idle_timeout).then_some(Overdue::Idle),
            State::Head { since } | State::Preface { since, .. } => {
                (since.elapsed() >= self.head_timeout).then_some(Overdue::Head)
            }
            State::Busy | State::Open => None,
        }
    }

    /// Notes that a request is being served until the guard is dropped. HTTP/1.1 serves one at a time.
    pub(super) fn begin_request(self: &Arc<Self>) -> RequestGuard {
        self.set(State::Busy);
        RequestGuard(Arc::clone(self))
    }

    fn read(&self, bytes: usize) {
        match self.state() {
            State::Idle { .. } => self.set(State::Head { since: Instant::now() }),
            State::Preface { bytes_left, .. } if bytes_left <= bytes => self.set(State::Open),
            State::Preface { since, bytes_left } => {
                self.set(State::Preface { since, bytes_left: bytes_left - bytes });
            }
            State::Head { .. } | State::Busy | State::Open => {}
        }
    }

    fn state(&self) -> State {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, state: State) {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) = state;
    }
}

/// A request that is being served.
#[derive(Debug)]
pub(super) struct RequestGuard(Arc<Activity>);

impl Drop for RequestGuard {
    fn drop(&mut self) {
        self.0.set(State::Idle { since: Instant::now() });
    }
}

/// A connection that reports what is read from it, and that is reset when it was killed.
#[derive(Debug)]
pub(super) struct WatchedStream {
    stream: Transport,
    activity: Arc<Activity>,
    kill: KillSwitch,
}

impl WatchedStream {
    pub(super) fn new(stream: Transport, activity: Arc<Activity>, kill: KillSwitch) -> Self {
        Self { stream, activity, kill }
    }
}

impl Drop for WatchedStream {
    fn drop(&mut self) {
        // Without this the kernel would go on for minutes trying to hand over what the peer does not read.
        if self.kill.is_killed() && self.stream.tcp().set_zero_linger().is_err() {
            tracing::debug!("the killed connection was closed already");
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
        let polled = Pin::new(&mut self.stream).poll_read(context, buffer);
        let bytes = buffer.filled().len() - before;
        if bytes > 0 {
            self.activity.read(bytes);
        }
        polled
    }
}

impl AsyncWrite for WatchedStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
