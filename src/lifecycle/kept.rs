//! Work that a request waits for, and that outlives the request.

use std::any::Any;
use std::fmt;
use std::future::{Future, poll_fn};
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_util::FutureExt;
use tokio::runtime::Handle;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

type Caught<T> = Result<T, Box<dyn Any + Send>>;

/// Runs where it is awaited, which costs no task. Dropped before its end, it goes on as one.
pub struct Kept<T: Send + 'static> {
    work: Option<Pin<Box<dyn Future<Output = Caught<T>> + Send>>>,
    tasks: TaskTracker,
    /// The drain waits for the work, wherever it runs.
    _open: TaskTrackerToken,
}

impl<T: Send + 'static> fmt::Debug for Kept<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kept").field("is_done", &self.work.is_none()).finish_non_exhaustive()
    }
}

impl<T: Send + 'static> Kept<T> {
    pub(super) fn new(future: impl Future<Output = T> + Send + 'static, tasks: &TaskTracker) -> Self {
        let work = AssertUnwindSafe(future).catch_unwind();
        Self { work: Some(Box::pin(work)), tasks: tasks.clone(), _open: tasks.token() }
    }

    /// Runs until `heard` is ready, and does the rest without anybody who waits.
    pub fn until<H>(mut self, mut heard: impl Future<Output = H> + Unpin) -> impl Future<Output = H> {
        poll_fn(move |cx| {
            // The work may be over long before somebody hears of it.
            let _over = Pin::new(&mut self).poll(cx).is_ready();
            Pin::new(&mut heard).poll(cx)
        })
    }
}

impl<T: Send + 'static> Future for Kept<T> {
    type Output = Option<T>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<T>> {
        let Some(work) = &mut self.work else { return Poll::Ready(None) };
        let done = std::task::ready!(work.as_mut().poll(cx));
        self.work = None;
        Poll::Ready(done.ok())
    }
}

impl<T: Send + 'static> Drop for Kept<T> {
    fn drop(&mut self) {
        // Without a runtime the process is at its end.
        if let (Some(work), Ok(runtime)) = (self.work.take(), Handle::try_current()) {
            drop(self.tasks.spawn_on(work, &runtime));
        }
    }
}
