//! The tail of the log as streams hear of it: at once, and then not again before those that were woken have had time.
//!
//! Every wake of every stream costs its connection a write. Under load the events of a moment travel together, which
//! costs little more than one of them; a single stream, or a single event, never waits.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::sleep;

/// What waking one stream is allowed to take.
const TIME_PER_STREAM: Duration = Duration::from_micros(4);
/// However many streams there are.
const PAUSE_MAX: Duration = Duration::from_millis(20);
/// Shorter pauses are none: timers count in milliseconds.
const PAUSE_MIN: Duration = Duration::from_millis(1);

/// Passes the tail on until the log is closed.
pub(super) async fn pass_on(
    mut tail: watch::Receiver<u64>,
    news: watch::Sender<u64>,
    streams: Arc<AtomicUsize>,
) {
    while tail.changed().await.is_ok() {
        news.send_replace(*tail.borrow_and_update());
        let streams = u32::try_from(streams.load(Ordering::Relaxed)).unwrap_or(u32::MAX);
        let pause = TIME_PER_STREAM.saturating_mul(streams).min(PAUSE_MAX);
        if pause >= PAUSE_MIN {
            sleep(pause).await;
        }
    }
}
