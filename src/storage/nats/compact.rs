//! Shared messages go when little of them is still needed.

use bytes::Bytes;

use super::Nats;
use super::plan::Sparse;
use super::queue::{BATCH_BYTES, Patience, Weight};
use super::records::decode_entries;
use super::state_writer::Op;
use crate::storage::keyed_state::StateError;

/// Messages that become one.
const TOGETHER: usize = 8;
/// How many times eight may be compacted in one go; the rest has its turn at the next sweep.
const ROUNDS_MAX: usize = 4_096;

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
                if weight.bytes >= BATCH_BYTES {
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
                weight.bytes +=
                    entries.iter().filter_map(|entry| entry.value.as_ref()).map(Bytes::len).sum::<usize>();
                messages.push(Sparse { message, write: mark.write, entries });
            }
            if !messages.is_empty() {
                self.state.submit(Op::Compact(messages), weight, Patience::Settle).await?;
            }
        }
        Ok(())
    }
}
