//! Pages of the log, cut into the batches of frames.
//!
//! A batch is encoded when it is cut. Streams that read the same events in the same way share what the first of them
//! cut: with a thousand streams at the tail, the others only hand it on.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

use crate::domain::cursor::Cursor;
use crate::storage::event_log::StoredEvent;
use crate::storage::events::{self, BatchEncoder, View};

use super::{FRAME_BYTES_MAX, Subscription};

/// Cuts that are kept for others. Streams at the tail ask for the same within a moment.
const CUTS_KEPT: usize = 8;

/// Events of one frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// The events as the frame carries them, each with its cursor.
    pub encoded: Bytes,
    /// How many they are.
    pub events: u64,
    /// The cursor of the last.
    pub through: Cursor,
}

/// A page, cut.
#[derive(Debug)]
pub(super) struct Cut {
    pub(super) batches: Vec<Batch>,
    /// The end of the page, whether or not its last events are wanted.
    pub(super) through: Cursor,
    /// When the oldest event of the page was appended.
    pub(super) append_ms: u64,
}

/// Cuts the events that `subscription` wants. `from` is the position before the page, which is not empty.
pub(super) fn cut(page: &[Arc<StoredEvent>], subscription: &Subscription, from: Cursor) -> Cut {
    let append_ms = page.first().map_or(0, |event| event.append_ms);
    let mut cut = Cut { batches: Vec::new(), through: from, append_ms };
    let (mut encoder, mut count, mut cursor) = (BatchEncoder::default(), 0, String::new());
    let mut last = from;
    let flush = |encoder: &mut BatchEncoder, count: &mut usize, through: Cursor, cut: &mut Cut| {
        let events = std::mem::take(count) as u64;
        if events > 0 {
            cut.batches.push(Batch { encoded: encoder.take(), events, through });
        }
    };
    for event in page {
        cut.through =
            Cursor { seq: event.seq, id_prefix: Cursor::id_prefix(events::id(event)), ..cut.through };
        if !subscription.filter.matches(&events::attributes(event)) {
            continue;
        }
        let is_full = count >= subscription.batch_events_max
            || encoder.len() + events::view_bytes(event, subscription.view) > FRAME_BYTES_MAX;
        if is_full {
            flush(&mut encoder, &mut count, last, &mut cut);
        }
        cut.through.encode_to(&mut cursor);
        events::encode(&mut encoder, event, subscription.view, &cursor, None);
        count += 1;
        last = cut.through;
    }
    flush(&mut encoder, &mut count, last, &mut cut);
    cut
}

/// What decides a cut, besides a filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Key {
    after: u64,
    /// The tail as the stream saw it; what came after it may or may not be in.
    newest: u64,
    view: View,
    batch_events_max: usize,
}

/// The newest cuts, for streams without a filter.
#[derive(Debug, Default)]
pub(super) struct Cuts {
    kept: Mutex<VecDeque<(Key, Arc<Cut>)>>,
}

impl Cuts {
    /// What another stream cut for the same.
    pub(super) fn get(&self, subscription: &Subscription, after: u64, newest: u64) -> Option<Arc<Cut>> {
        let key = key(subscription, after, newest)?;
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.iter().find(|(known, _)| *known == key).map(|(_, cut)| Arc::clone(cut))
    }

    /// Keeps a cut for the others.
    pub(super) fn keep(&self, subscription: &Subscription, after: u64, newest: u64, cut: &Arc<Cut>) {
        let Some(key) = key(subscription, after, newest) else { return };
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.push_front((key, Arc::clone(cut)));
        kept.truncate(CUTS_KEPT);
    }
}

fn key(subscription: &Subscription, after: u64, newest: u64) -> Option<Key> {
    let Subscription { view, batch_events_max, .. } = *subscription;
    subscription.filter.is_empty().then_some(Key { after, newest, view, batch_events_max })
}
