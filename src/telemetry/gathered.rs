//! What each thread counts by itself until somebody looks.
//!
//! A counter that all threads add to is a piece of memory that they take from each other at every step, and so is the queue
//! of a histogram. So a thread's handle of a series is its own: it adds up, and hands over to the exporter's when the metrics
//! are asked for, every few seconds, and when it has [`VALUES_MAX`] values. What a thread leaves behind when it ends is still here: it cannot hand over
//! itself then, as the exporter's needs variables of the thread that are gone already.

use std::sync::atomic::{AtomicU64, Ordering, fence};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use metrics::{Counter, CounterFn, Histogram, HistogramFn};

/// Values of a histogram that a handle gathers.
const VALUES_MAX: usize = 128;

/// The handles that may have something to hand over.
#[derive(Default)]
pub(super) struct Gathered(Mutex<Vec<Arc<dyn HandOver>>>);

trait HandOver: Send + Sync {
    fn hand_over(&self);
}

impl Gathered {
    /// A thread's own handle of this counter.
    pub(super) fn counter(&self, shared: Counter) -> Counter {
        let own = Arc::new(OwnCounter { shared, count: AtomicU64::new(0) });
        self.add(Arc::clone(&own) as _);
        Counter::from_arc(own)
    }

    /// A thread's own handle of this histogram.
    pub(super) fn histogram(&self, shared: Histogram) -> Histogram {
        let own = Arc::new(OwnHistogram { shared, values: Mutex::default() });
        self.add(Arc::clone(&own) as _);
        Histogram::from_arc(own)
    }

    /// Takes all that the threads have, now and then: until then those stay that nobody uses any more.
    pub(super) fn hand_over(&self) {
        self.handles().retain(|handle| {
            // Before it hands over: what nobody has any more gets nothing more.
            let is_used = Arc::strong_count(handle) > 1;
            fence(Ordering::Acquire);
            handle.hand_over();
            is_used
        });
    }

    fn add(&self, handle: Arc<dyn HandOver>) {
        self.handles().push(handle);
    }

    fn handles(&self) -> MutexGuard<'_, Vec<Arc<dyn HandOver>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Counts for one thread, mostly; any may use it.
struct OwnCounter {
    shared: Counter,
    count: AtomicU64,
}

impl HandOver for OwnCounter {
    fn hand_over(&self) {
        let count = self.count.swap(0, Ordering::Relaxed);
        if count > 0 {
            self.shared.increment(count);
        }
    }
}

impl CounterFn for OwnCounter {
    fn increment(&self, value: u64) {
        self.count.fetch_add(value, Ordering::Relaxed);
    }

    fn absolute(&self, value: u64) {
        self.shared.absolute(value);
    }
}

/// Keeps values for one thread, mostly; any may use it.
struct OwnHistogram {
    shared: Histogram,
    values: Mutex<Vec<f64>>,
}

impl HandOver for OwnHistogram {
    fn hand_over(&self) {
        for value in self.values().drain(..) {
            self.shared.record(value);
        }
    }
}

impl OwnHistogram {
    fn values(&self) -> MutexGuard<'_, Vec<f64>> {
        self.values.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl HistogramFn for OwnHistogram {
    fn record(&self, value: f64) {
        let mut values = self.values();
        values.push(value);
        if values.len() >= VALUES_MAX {
            for value in values.drain(..) {
                self.shared.record(value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[derive(Default)]
    struct Recorded(Mutex<Vec<f64>>);

    impl HistogramFn for Recorded {
        fn record(&self, value: f64) {
            self.0.lock().unwrap().push(value);
        }
    }

    fn counter() -> (Arc<AtomicU64>, Counter) {
        let count = Arc::new(AtomicU64::new(0));
        (Arc::clone(&count), Counter::from_arc(count))
    }

    #[test]
    fn nothing_that_threads_count_is_lost() {
        let (gathered, (count, shared)) = (Gathered::default(), counter());
        let recorded = Arc::new(Recorded::default());
        thread::scope(|scope| {
            for thread in 0..4_u32 {
                let counter = gathered.counter(shared.clone());
                let histogram = gathered.histogram(Histogram::from_arc(Arc::clone(&recorded)));
                scope.spawn(move || {
                    for step in 0..1_000_u32 {
                        counter.increment(2);
                        histogram.record(f64::from(thread * 1_000 + step));
                    }
                });
            }
            for _ in 0..100 {
                gathered.hand_over();
            }
        });
        gathered.hand_over();
        assert_eq!(count.load(Ordering::Relaxed), 8_000);
        let mut values = recorded.0.lock().unwrap().clone();
        values.sort_by(f64::total_cmp);
        assert_eq!(values, (0..4_000).map(f64::from).collect::<Vec<_>>());
    }

    #[test]
    fn a_thread_that_ends_leaves_what_it_has() {
        /// Counts when its thread's variables go.
        struct Last(Histogram);
        impl Drop for Last {
            fn drop(&mut self) {
                self.0.record(1.0);
            }
        }
        thread_local!(static LAST: std::cell::RefCell<Option<Last>> = const { std::cell::RefCell::new(None) });
        let (gathered, recorded) = (Gathered::default(), Arc::new(Recorded::default()));
        let histogram = gathered.histogram(Histogram::from_arc(Arc::clone(&recorded)));
        thread::spawn(move || LAST.set(Some(Last(histogram)))).join().unwrap();
        assert!(recorded.0.lock().unwrap().is_empty(), "nothing is handed over at the end");
        gathered.hand_over();
        assert_eq!(*recorded.0.lock().unwrap(), [1.0]);
        assert!(gathered.handles().is_empty());
    }

    #[test]
    fn what_is_kept_shows_when_somebody_looks() {
        let (gathered, (count, shared)) = (Gathered::default(), counter());
        let counter = gathered.counter(shared);
        let recorded = Arc::new(Recorded::default());
        let histogram = gathered.histogram(Histogram::from_arc(Arc::clone(&recorded)));
        counter.increment(3);
        histogram.record(0.5);
        let seen = || (count.load(Ordering::Relaxed), recorded.0.lock().unwrap().len());
        assert_eq!(seen(), (0, 0));
        gathered.hand_over();
        assert_eq!(seen(), (3, 1));
        for _ in 0..VALUES_MAX {
            histogram.record(0.5);
        }
        assert_eq!(seen(), (3, 1 + VALUES_MAX), "so many are handed over by themselves");
        gathered.hand_over();
        assert_eq!(seen(), (3, 1 + VALUES_MAX), "and once");
    }

    #[test]
    fn handles_that_are_gone_take_no_room() {
        let (gathered, (count, shared)) = (Gathered::default(), counter());
        let kept = gathered.counter(shared.clone());
        for _ in 0..1_000 {
            gathered.counter(shared.clone()).increment(1);
        }
        kept.increment(1);
        gathered.hand_over();
        assert_eq!(count.load(Ordering::Relaxed), 1_001);
        assert_eq!(gathered.handles().len(), 1);
    }
}
