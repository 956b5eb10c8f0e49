//! How far the open streams are behind the log, for the metrics.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use metrics::gauge;
use tokio::sync::watch;
use tokio::time::sleep;

use crate::clock::SharedClock;
use crate::storage::event_log::{EventLog, ReadError, ReadLimit};
use crate::telemetry::names;

/// Between two looks.
const INTERVAL: Duration = Duration::from_secs(1);
const ONE: ReadLimit = ReadLimit { events: 1, bytes: 1 };

/// Up to where each open stream has handed events over. Clones are the same ones.
#[derive(Debug, Clone, Default)]
pub(super) struct Positions(Arc<Mutex<Vec<Weak<AtomicU64>>>>);

impl Positions {
    /// A further stream, as long as somebody keeps this.
    pub(super) fn join(&self, seq: u64) -> Arc<AtomicU64> {
        let position = Arc::new(AtomicU64::new(seq));
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.push(Arc::downgrade(&position));
        position
    }

    /// The position of the stream that is furthest behind.
    fn last(&self) -> Option<u64> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|position| position.strong_count() > 0);
        all.iter().filter_map(Weak::upgrade).map(|position| position.load(Ordering::Relaxed)).min()
    }
}

/// Shows it again and again, until the log is gone. Streams that are behind cost a read of one event.
pub(super) async fn show(
    positions: Positions,
    log: Arc<dyn EventLog>,
    tail: watch::Receiver<u64>,
    clock: SharedClock,
) {
    loop {
        let newest = *tail.borrow();
        let last = positions.last().unwrap_or(newest);
        let age = match oldest_after(log.as_ref(), last, newest).await {
            Ok(append_ms) => append_ms.map_or(0, |appended| clock.now_ms().saturating_sub(appended)),
            Err(ReadError::Closed) => return,
            Err(ReadError::Trimmed { .. } | ReadError::Failed(_)) => 0,
        };
        #[expect(clippy::cast_precision_loss, reason = "no count of events comes near 2^52")]
        gauge!(names::EVENT_STREAM_LAG).set(newest.saturating_sub(last) as f64);
        gauge!(names::EVENT_STREAM_AGE).set(Duration::from_millis(age).as_secs_f64());
        sleep(INTERVAL).await;
    }
}

/// When the first event after a position was appended; of those that retention has left.
async fn oldest_after(log: &dyn EventLog, seq: u64, newest: u64) -> Result<Option<u64>, ReadError> {
    if seq >= newest {
        return Ok(None);
    }
    let page = match log.read(seq, ONE).await {
        Err(ReadError::Trimmed { earliest }) => log.read(earliest.saturating_sub(1), ONE).await?,
        page => page?,
    };
    Ok(page.first().map(|event| event.append_ms))
}
