//! How the process ends: signals, phases and the tasks that must finish.
//!
//! A [`Shutdown`] is cheap to clone and passed to whatever runs. It knows three moments, always in this order:
//! **leaving** (asked to end: not ready any more, but serving as before), **drain** (nothing new; finish what is
//! open) and **stop** (cut what remains). Every task is spawned here, or the end could not wait for it. This
//! module knows nothing of what the tasks do.

mod kept;
mod signals;

use std::fmt;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures_util::FutureExt;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{Instrument, error, info, info_span, warn};

pub use kept::Kept;
pub use signals::{Signal, signals};

/// Exit code of a process that a signal ended in order.
pub const EXIT_OK: u8 = 0;
/// Exit code of a process that ended because a task of it failed.
pub const EXIT_FAILED: u8 = 1;
/// Exit code of a process whose storage failed (`EX_IOERR`).
pub const EXIT_STORAGE: u8 = 74;

/// How long a fatal failure waits before it ends the process, so that open answers reach the network.
const FATAL_FLUSH: Duration = Duration::from_millis(500);

/// How long tasks that were cut may take to notice.
const STOP_GRACE: Duration = Duration::from_secs(1);

/// The longest time each phase of the end may take. The end of the process takes at most their sum and a second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budgets {
    /// From the signal to the drain: load balancers need it to notice that this process is not ready. It is
    /// waited out in full.
    pub delay: Duration,
    /// From the drain to the stop. It ends early when nothing is open any more.
    pub drain: Duration,
}

type Exit = dyn Fn(u8) + Send + Sync;

struct Inner {
    leaving: CancellationToken,
    drain: CancellationToken,
    stop: CancellationToken,
    /// What the drain waits for.
    tasks: TaskTracker,
    /// What serves the others to the end, and ends with the stop.
    background: TaskTracker,
    failed: OnceLock<String>,
    fatal: OnceLock<String>,
    exit: Box<Exit>,
}

/// The shared handle on the end of the process; clones are the same one.
#[derive(Clone)]
pub struct Shutdown {
    inner: Arc<Inner>,
}

impl Default for Shutdown {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Shutdown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shutdown")
            .field("leaving", &self.is_leaving())
            .field("drain", &self.inner.drain.is_cancelled())
            .field("stop", &self.inner.stop.is_cancelled())
            .field("tasks", &self.inner.tasks.len())
            .finish_non_exhaustive()
    }
}

impl Shutdown {
    /// A process that runs, and that [`Shutdown::fatal`] really ends.
    pub fn new() -> Self {
        Self::with_exit(|code| std::process::exit(i32::from(code)))
    }

    /// As [`Shutdown::new`], but [`Shutdown::fatal`] calls `exit` instead of ending the process.
    pub fn with_exit(exit: impl Fn(u8) + Send + Sync + 'static) -> Self {
        Self {
            inner: Arc::new(Inner {
                leaving: CancellationToken::new(),
                drain: CancellationToken::new(),
                stop: CancellationToken::new(),
                tasks: TaskTracker::new(),
                background: TaskTracker::new(),
                failed: OnceLock::new(),
                fatal: OnceLock::new(),
                exit: Box::new(exit),
            }),
        }
    }

    /// Cancelled when the process was asked to end: report not ready, but serve as before.
    pub fn leaving(&self) -> &CancellationToken {
        &self.inner.leaving
    }

    /// Cancelled when the drain starts: take nothing new, end streams, finish what is open.
    pub fn drain(&self) -> &CancellationToken {
        &self.inner.drain
    }

    /// Cancelled when the drain is over, because nothing is open or because time is up: end now.
    pub fn stop(&self) -> &CancellationToken {
        &self.inner.stop
    }

    /// True from the moment the process was asked to end.
    pub fn is_leaving(&self) -> bool {
        self.inner.leaving.is_cancelled()
    }

    /// Spawns a part of the process that the drain waits for; it must watch [`Shutdown::drain`] or end by itself.
    /// A panic in it ends the process in order, with a failure.
    pub fn spawn<F>(&self, name: &'static str, future: F) -> JoinHandle<F::Output>
    where
        F: Future<Output: Send> + Send + 'static,
    {
        self.inner.tasks.spawn(self.guarded(name, future))
    }

    /// Spawns a part that serves the others until the end (metrics, admin port, timers): the drain does not wait
    /// for it, and it is dropped at the stop. The result is `None` if it was. A panic counts as for `spawn`.
    pub fn spawn_background<F>(&self, name: &'static str, future: F) -> JoinHandle<Option<F::Output>>
    where
        F: Future<Output: Send> + Send + 'static,
    {
        let stop = self.inner.stop.clone();
        let until_stop = async move { stop.run_until_cancelled(future).await };
        self.inner.background.spawn(self.guarded(name, until_stop))
    }

    /// Spawns the work of one request, which the drain waits for and which goes on when its caller hangs up. It
    /// keeps the current span. A panic fails this request only: otherwise one request could end the process.
    pub fn spawn_request<F>(&self, future: F) -> JoinHandle<F::Output>
    where
        F: Future<Output: Send> + Send + 'static,
    {
        // On the heap before it is wrapped: it is large, and the runtime moves what it is given several times.
        self.inner.tasks.spawn(Box::pin(future).in_current_span())
    }

    /// As [`Shutdown::spawn_request`], for what only happens to begin inside the span of somebody else's work.
    pub fn spawn_alone<F>(&self, future: F) -> JoinHandle<F::Output>
    where
        F: Future<Output: Send> + Send + 'static,
    {
        self.inner.tasks.spawn(future)
    }

    /// Runs the work of one request inside the request, as [`Shutdown::spawn_request`] would beside it: it goes on when
    /// the caller hangs up, and the drain waits for it. `None` after a panic, which fails this request only.
    pub fn keep<F>(&self, future: F) -> Kept<F::Output>
    where
        F: Future<Output: Send> + Send + 'static,
    {
        Kept::new(future, &self.inner.tasks)
    }

    /// Starts the end of the process in order. Calling it again changes nothing.
    pub fn start(&self) {
        self.inner.leaving.cancel();
    }

    /// Reports that a part failed for good: the process ends in order, with a failure.
    pub fn fail(&self, reason: impl Into<String>) {
        let reason = reason.into();
        error!(reason, "a part of the process failed; draining");
        // Only the first reason is kept; later ones are usually its consequences.
        drop(self.inner.failed.set(reason));
        self.start();
    }

    /// Ends the process with [`EXIT_STORAGE`] within about a second, without waiting for the drain, because
    /// nothing it could still promise would hold. Open answers get half a second to reach the network.
    pub fn fatal(&self, reason: impl Into<String>) {
        let reason = reason.into();
        error!(reason, "fatal failure; the process ends now");
        if self.inner.fatal.set(reason).is_err() {
            return;
        }
        // No drain: the ports stay open, so that whoever comes in the meantime is told 503 instead of nothing.
        self.inner.leaving.cancel();
        // A thread and not a task: the runtime itself may be stuck behind the failure.
        let later = Arc::clone(&self.inner);
        let end = move || {
            std::thread::sleep(FATAL_FLUSH);
            (later.exit)(EXIT_STORAGE);
        };
        if std::thread::Builder::new().name("fatal".to_owned()).spawn(end).is_err() {
            (self.inner.exit)(EXIT_STORAGE);
        }
    }

    /// Waits for the end and walks through its phases: the first signal or a failure starts it, the second
    /// signal or the deadline cuts it. Returns the exit code when every task has ended or was given up.
    pub async fn run(&self, mut signals: mpsc::Receiver<Signal>, budgets: Budgets) -> u8 {
        tokio::select! {
            signal = next_signal(&mut signals) => info!(%signal, delay = ?budgets.delay, "asked to end; not ready any more"),
            () = self.inner.leaving.cancelled() => {}
        }
        self.inner.leaving.cancel();
        if self.inner.fatal.get().is_some() {
            // Another thread ends the process; nothing here may touch the storage again.
            return std::future::pending().await;
        }
        let is_cut = tokio::select! {
            signal = next_signal(&mut signals) => { warn!(%signal, "asked again; cutting"); true }
            () = sleep(budgets.delay) => false,
            () = self.inner.drain.cancelled() => false,
        };
        self.inner.drain.cancel();
        if !is_cut {
            self.wait_for_tasks(&mut signals, budgets.drain).await;
        }
        self.cut().await;
        self.exit_code()
    }

    /// The exit code that the events so far ask for.
    pub fn exit_code(&self) -> u8 {
        if self.inner.fatal.get().is_some() {
            EXIT_STORAGE
        } else if self.inner.failed.get().is_some() {
            EXIT_FAILED
        } else {
            EXIT_OK
        }
    }

    async fn wait_for_tasks(&self, signals: &mut mpsc::Receiver<Signal>, budget: Duration) {
        self.inner.tasks.close();
        info!(tasks = self.inner.tasks.len(), ?budget, "draining");
        tokio::select! {
            signal = next_signal(signals) => warn!(%signal, "asked again; cutting"),
            () = sleep(budget) => warn!(tasks = self.inner.tasks.len(), ?budget, "the drain ran out of time; cutting"),
            () = self.inner.tasks.wait() => info!("drained"),
        }
    }

    async fn cut(&self) {
        self.inner.stop.cancel();
        self.inner.tasks.close();
        self.inner.background.close();
        let all = async {
            self.inner.tasks.wait().await;
            self.inner.background.wait().await;
        };
        if timeout(STOP_GRACE, all).await.is_err() {
            let (tasks, background) = (self.inner.tasks.len(), self.inner.background.len());
            warn!(tasks, background, "tasks did not end and were given up");
        }
    }

    fn guarded<F: Future>(&self, name: &'static str, future: F) -> impl Future<Output = F::Output> + use<F> {
        let shutdown = self.clone();
        async move {
            match AssertUnwindSafe(future).catch_unwind().await {
                Ok(output) => output,
                Err(panic) => {
                    // Where and why is logged by the panic hook; the message may hold content.
                    shutdown.fail(format!("task `{name}` panicked"));
                    std::panic::resume_unwind(panic)
                }
            }
        }
        .instrument(info_span!("task", task.name = name))
    }
}

/// What this gives, before anything is served; `None` if the process is asked to end first.
pub async fn unless_asked<T>(
    signals: &mut mpsc::Receiver<Signal>,
    work: impl Future<Output = T>,
) -> Option<T> {
    tokio::select! {
        done = work => Some(done),
        signal = next_signal(signals) => {
            info!(%signal, "asked to end before anything was served");
            None
        }
    }
}

/// The next signal; never, once nobody can send one.
async fn next_signal(signals: &mut mpsc::Receiver<Signal>) -> Signal {
    match signals.recv().await {
        Some(signal) => signal,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;
