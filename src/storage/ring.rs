//! The live ring: the newest events in memory, so that subscribers near the tail never touch a disk.
//!
//! Engines push what is durable before they announce the new tail. Readers hold shared pointers: an event that
//! leaves the ring lives on as long as a stream still sends it.

use std::collections::VecDeque;
use std::sync::{Arc, PoisonError, RwLock};

use super::event_log::{ReadLimit, StoredEvent};

/// Events kept at most.
const EVENTS_MAX: usize = 65_536;

/// Bytes of events kept at most; one larger event is kept alone.
const BYTES_MAX: usize = 64 * 1024 * 1024;

/// The newest events, oldest first, without gaps.
#[derive(Debug)]
pub(super) struct Ring {
    kept: RwLock<Kept>,
    events_max: usize,
    bytes_max: usize,
}

#[derive(Debug, Default)]
struct Kept {
    events: VecDeque<Arc<StoredEvent>>,
    bytes: usize,
}

impl Default for Ring {
    fn default() -> Self {
        Self::new(EVENTS_MAX, BYTES_MAX)
    }
}

impl Ring {
    /// An empty ring of that capacity.
    pub(super) fn new(events_max: usize, bytes_max: usize) -> Self {
        Self { kept: RwLock::default(), events_max, bytes_max }
    }

    /// Adds events that directly follow the newest kept one, and lets the oldest go when over capacity.
    pub(super) fn push(&self, events: &[Arc<StoredEvent>]) {
        let mut kept = self.kept.write().unwrap_or_else(PoisonError::into_inner);
        for event in events {
            kept.bytes += footprint(event);
            kept.events.push_back(Arc::clone(event));
        }
        while kept.events.len() > self.events_max || (kept.bytes > self.bytes_max && kept.events.len() > 1) {
            kept.pop();
        }
    }

    /// Lets go of everything up to `seq`, which the engine has trimmed.
    pub(super) fn drop_through(&self, seq: u64) {
        let mut kept = self.kept.write().unwrap_or_else(PoisonError::into_inner);
        while kept.events.front().is_some_and(|event| event.seq <= seq) {
            kept.pop();
        }
    }

    /// The position of the oldest kept event, and the bytes of all.
    pub(super) fn extent(&self) -> (Option<u64>, usize) {
        let kept = self.kept.read().unwrap_or_else(PoisonError::into_inner);
        (kept.events.front().map(|event| event.seq), kept.bytes)
    }

    /// The events after position `after`, or `None` when the first of them is not kept here.
    pub(super) fn read(&self, after: u64, limit: ReadLimit) -> Option<Vec<Arc<StoredEvent>>> {
        let kept = self.kept.read().unwrap_or_else(PoisonError::into_inner);
        if kept.events.front()?.seq > after.saturating_add(1) {
            return None;
        }
        let start = kept.events.partition_point(|event| event.seq <= after);
        let mut bytes = 0;
        let page =
            kept.events.range(start..).take(limit.events.max(1)).enumerate().take_while(|(index, event)| {
                bytes += event.size_bytes();
                *index == 0 || bytes <= limit.bytes
            });
        Some(page.map(|(_, event)| Arc::clone(event)).collect())
    }
}

impl Kept {
    fn pop(&mut self) {
        if let Some(event) = self.events.pop_front() {
            self.bytes -= footprint(&event);
        }
    }
}

fn footprint(event: &StoredEvent) -> usize {
    size_of::<StoredEvent>() + event.size_bytes()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::storage::event_log::{Attributes, Item};

    fn event(seq: u64, bytes: usize) -> Arc<StoredEvent> {
        let item = Item {
            id: [0; 16],
            attributes: Attributes::default(),
            envelope: Bytes::from(vec![0; bytes]),
            typed: Bytes::new(),
            raw: Bytes::new(),
        };
        Arc::new(StoredEvent::new(seq, 0, item))
    }

    fn seqs(ring: &Ring, after: u64, events: usize, bytes: usize) -> Option<Vec<u64>> {
        Some(ring.read(after, ReadLimit { events, bytes })?.iter().map(|event| event.seq).collect())
    }

    #[test]
    fn serves_only_what_it_holds_without_a_gap() {
        let ring = Ring::new(3, usize::MAX);
        assert_eq!(seqs(&ring, 0, 10, 1000), None);
        ring.push(&[event(5, 10), event(6, 10)]);
        ring.push(&[event(7, 10), event(8, 10)]);
        assert_eq!(seqs(&ring, 4, 10, 1000), None);
        assert_eq!(seqs(&ring, 5, 10, 1000), Some(vec![6, 7, 8]));
        assert_eq!(seqs(&ring, 7, 10, 1000), Some(vec![8]));
        assert_eq!(seqs(&ring, 8, 10, 1000), Some(vec![]));
        assert_eq!(seqs(&ring, u64::MAX, 10, 1000), Some(vec![]));
    }

    #[test]
    fn keeps_to_the_limits_of_a_read() {
        let ring = Ring::new(100, usize::MAX);
        ring.push(&[event(1, 10), event(2, 10), event(3, 10)]);
        assert_eq!(seqs(&ring, 0, 2, 1000), Some(vec![1, 2]));
        assert_eq!(seqs(&ring, 0, 10, 20), Some(vec![1, 2]));
        assert_eq!(seqs(&ring, 0, 0, 0), Some(vec![1]));
    }

    #[test]
    fn lets_the_oldest_go() {
        let one = footprint(&event(1, 10));
        let ring = Ring::new(100, 2 * one);
        ring.push(&[event(1, 10), event(2, 10), event(3, 10)]);
        assert_eq!(seqs(&ring, 0, 10, 1000), None);
        assert_eq!(seqs(&ring, 1, 10, 1000), Some(vec![2, 3]));
        ring.push(&[event(4, 10 * one)]);
        assert_eq!(seqs(&ring, 3, 10, 1000), Some(vec![4]));
        assert_eq!(ring.extent(), (Some(4), footprint(&event(4, 10 * one))));
        ring.drop_through(4);
        assert_eq!(seqs(&ring, 3, 10, 1000), None);
        assert_eq!(ring.extent(), (None, 0));
    }
}
