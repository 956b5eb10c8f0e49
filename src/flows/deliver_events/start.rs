//! Where a stream starts: cursor, position or time → a place in the log, or the reason why not.
//!
//! Never moves a position silently: what cannot be served exactly is an error, or a gap that the subscriber asked for.

use crate::clock::unix_ms;
use crate::domain::cursor::Cursor;
use crate::storage::event_log::{Bounds, EventLog, ReadError};

use super::{OnExpired, Start, cursor_at};

/// A resolved start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::flows) struct Started {
    /// Everything up to this position is passed.
    pub(in crate::flows) position: Cursor,
    /// Before the first event that is kept.
    pub(in crate::flows) earliest: Cursor,
    /// The tail when the stream was opened.
    pub(in crate::flows) tail: u64,
    /// Where the subscriber was, when that is not kept any more, and how many events are missing.
    pub(in crate::flows) gap: Option<(Cursor, u64)>,
}

/// Why a stream cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The cursor is of another log, or of another history of this one.
    #[error("the cursor belongs to another log, or to a history that this log no longer has")]
    EpochMismatch {
        /// Before the first event that is kept.
        earliest_cursor: String,
        /// At the newest event.
        latest_cursor: String,
    },
    /// The cursor names an event that this log does not have.
    #[error("the cursor is ahead of this log; was it restored from a backup?")]
    AheadOfLog {
        /// Before the first event that is kept.
        earliest_cursor: String,
        /// At the newest event.
        latest_cursor: String,
    },
    /// Retention removed events after the cursor.
    #[error("{missing} events after the cursor were removed by retention")]
    Expired {
        /// Before the first event that is kept.
        earliest_cursor: String,
        /// How many are missing.
        missing: u64,
    },
    /// No place for another stream.
    #[error("{streams_max} streams are open already")]
    TooManyStreams {
        /// How many may be open.
        streams_max: usize,
    },
    /// The gateway is shutting down.
    #[error("the gateway is shutting down")]
    Draining,
    /// The log cannot be read.
    #[error(transparent)]
    Unreadable(#[from] ReadError),
}

pub(in crate::flows) async fn resolve(
    log: &dyn EventLog,
    start: &Start,
    on_expired: OnExpired,
) -> Result<Started, StartError> {
    let mut bounds = log.bounds().await?;
    let is_of_log = |cursor: &Cursor| cursor.engine == log.engine() && cursor.epoch == log.epoch();
    if let Start::After(cursor) = start
        && is_of_log(cursor)
        && cursor.seq > bounds.tail
    {
        // Another replica may have delivered what this one has not heard of yet.
        log.catch_up().await?;
        bounds = log.bounds().await?;
    }
    let Bounds { earliest, tail } = bounds;
    let at = async |seq: u64| cursor_at(log, seq).await;
    let first = at(earliest.saturating_sub(1)).await?;
    let started = |position| Started { position, earliest: first, tail, gap: None };
    match start {
        Start::Latest => Ok(started(at(tail).await?)),
        Start::Earliest => Ok(started(first)),
        Start::Time(time) => {
            let seq = log.seek_time(unix_ms(*time)).await?;
            Ok(started(at(seq.max(first.seq)).await?))
        }
        Start::After(cursor) => {
            let latest = at(tail).await?;
            let (earliest_cursor, latest_cursor) = (first.encode(), latest.encode());
            if !is_of_log(cursor) {
                return Err(StartError::EpochMismatch { earliest_cursor, latest_cursor });
            }
            if cursor.seq > tail {
                return Err(StartError::AheadOfLog { earliest_cursor, latest_cursor });
            }
            if cursor.seq < first.seq {
                let missing = first.seq - cursor.seq;
                let position = match on_expired {
                    OnExpired::Fail => return Err(StartError::Expired { earliest_cursor, missing }),
                    OnExpired::Earliest => first,
                    OnExpired::Latest => latest,
                };
                let missing = position.seq - cursor.seq;
                return Ok(Started { gap: Some((*cursor, missing)), ..started(position) });
            }
            let is_kept = cursor.seq > first.seq;
            if is_kept && at(cursor.seq).await?.id_prefix != cursor.id_prefix {
                return Err(StartError::EpochMismatch { earliest_cursor, latest_cursor });
            }
            Ok(started(*cursor))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::clock::SystemClock;
    use crate::domain::event::EventId;
    use crate::storage::contract::item;
    use crate::storage::event_log::Refusal;
    use crate::storage::memory::Memory;

    async fn resume(log: &Memory, cursor: Cursor) -> Result<Started, StartError> {
        resolve(log, &Start::After(cursor), OnExpired::Fail).await
    }

    #[tokio::test]
    async fn a_replica_that_is_behind_asks_before_it_calls_a_cursor_bad() {
        let log = Memory::new(Arc::new(SystemClock));
        log.append(vec![item(1)]).await.unwrap();
        log.append(vec![item(2)]).await.unwrap();
        let cursor = cursor_at(&*log, 2).await.unwrap();
        log.lag();
        log.append(vec![item(3)]).await.unwrap();
        // What it has, it serves without asking.
        assert_eq!(resume(&log, cursor).await.unwrap().tail, 2);
        let newest = Cursor { seq: 3, id_prefix: Cursor::id_prefix(EventId(item(3).id)), ..cursor };
        log.refuse(Refusal::Away);
        assert!(matches!(resume(&log, newest).await, Err(StartError::Unreadable(_))));
        log.accept();
        let started = resume(&log, newest).await.unwrap();
        assert_eq!((started.position, started.tail), (newest, 3));
        let beyond = Cursor { seq: 4, ..newest };
        let Err(StartError::AheadOfLog { latest_cursor, .. }) = resume(&log, beyond).await else {
            panic!("the log ends before it");
        };
        assert_eq!(latest_cursor, newest.encode());
    }
}
