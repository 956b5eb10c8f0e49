//! Shared messages go when little of them is still needed.

use bytes::Bytes;

use super::Nats;
use super::plan::Sparse;
use super::queue::{BATCH_BYTES, Patience, Weight};
use super::records::{EntryWrite, decode_entries};
use super::state_writer::Op;
use crate::storage::keyed_state::StateError;

/// Messages that become one.
const TOGETHER: usize = 8;
/// Bytes of the entries that are read for one.
const BYTES_MAX: usize = BATCH_BYTES / 4;
/// What an entry takes beside its key and its value, about.
const ENTRY_BYTES: usize = 32;
/// How often in a sweep; the rest has its turn at the next one.
const ROUNDS_MAX: usize = 512;

impl Nats {
    /// Writes what is needed of sparse messages again, and lets them go.
    pub(super) async fn compact(&self) -> Result<(), StateError> {
        let (wire, names) = (&self.context.wire, &self.context.names);
        for _ in 0..ROUNDS_MAX {
            let sparse = self.index.sparse(TOGETHER);
            if sparse.is_empty() {
                break;
            }
            let mut messages = Vec::with_capacity(sparse.len());
            let mut weight = Weight { records: 0, bytes: 0 };
            for message in sparse {
                if weight.bytes >= BYTES_MAX {
                    break;
                }
                let stored = wire.exact(&names.state, message).await;
                let stored = stored.map_err(|fault| StateError::Unreadable(fault.to_string()))?;
                // Without a message, or with something else in its place, there is nothing to do.
                let Some((mark, entries)) = stored.and_then(|stored| decode_entries(stored.payload)) else {
                    self.index.forget(message);
                    continue;
                };
                weight.records += 1;
                weight.bytes += entries.iter().map(bytes).sum::<usize>();
                messages.push(Sparse { message, write: mark.write, entries });
            }
            if !messages.is_empty() {
                self.state.submit(Op::Compact(messages), weight, Patience::Settle).await?;
            }
        }
        Ok(())
    }
}

fn bytes(entry: &EntryWrite) -> usize {
    entry.key.len() + entry.value.as_ref().map_or(0, Bytes::len) + ENTRY_BYTES
}
