//! Settings and status of a subscription: told, changed, deleted.

use std::time::{Duration, UNIX_EPOCH};

use crate::storage::event_log::ReadError;
use crate::storage::keyed_state::StateError;

use super::super::deliver_events::{OnExpired, StartError, cursor_at};
use super::active::Active;
use super::{Change, Error, Status};

/// Pages that are looked at for one question about a subscription without workers.
const PAGES_PER_LOOK: usize = 64;

impl Active {
    /// Whether a stream may begin: whether retention has left what is not done.
    pub(super) async fn check_start(&self, on_expired: OnExpired) -> Result<(), StartError> {
        let earliest = self.log.bounds().await?.earliest;
        if on_expired != OnExpired::Fail || !self.machine().has_before(earliest) {
            return Ok(());
        }
        let missing = earliest.saturating_sub(self.machine().floor() + 1);
        let earliest_cursor = cursor_at(self.log.as_ref(), earliest.saturating_sub(1)).await?.encode();
        Err(StartError::Expired { earliest_cursor, missing })
    }

    /// Changes what may change.
    pub(super) async fn change(&self, change: &Change) -> Result<(), Error> {
        // Nothing else is written meanwhile, so that what is compared is what is replaced.
        let _one = self.writing.lock().await;
        let (mut settings, revision) = self.locked_settings().clone();
        if !change.etag.is_empty() && change.etag != etag(revision) {
            return Err(Error::Changed { etag: etag(revision) });
        }
        if change.filter.as_ref().is_some_and(|filter| *filter != settings.filter) {
            return Err(Error::Immutable { field: "filter" });
        }
        if change.mode.is_some_and(|mode| mode != settings.terms.mode) {
            return Err(Error::Immutable { field: "mode" });
        }
        let terms = &mut settings.terms;
        terms.ack_deadline = change.ack_deadline.unwrap_or(terms.ack_deadline);
        terms.retry_delay_min = change.retry_delay_min.unwrap_or(terms.retry_delay_min);
        terms.retry_delay_max = change.retry_delay_max.unwrap_or(terms.retry_delay_max);
        terms.retry_delay_max = terms.retry_delay_max.max(terms.retry_delay_min);
        terms.attempts_max = change.attempts_max.unwrap_or(terms.attempts_max);
        let terms = *terms;
        let revision = self.store.put_settings(&settings, Some(revision)).await?;
        *self.locked_settings() = (settings, revision);
        self.machine().set_terms(terms);
        Ok(())
    }

    pub(super) async fn delete(&self) -> Result<(), StateError> {
        let _one = self.writing.lock().await;
        self.store.delete(&self.settings()).await?;
        self.deleted.cancel();
        Ok(())
    }

    /// Looks at further events of a subscription without workers, until one is known that is not done.
    pub(super) async fn look_ahead(&self) {
        for _ in 0..PAGES_PER_LOOK {
            if self.machine().workers() > 0 || !matches!(self.look().await, Ok(true)) {
                return;
            }
        }
    }

    pub(super) async fn status(&self) -> Result<Status, ReadError> {
        self.look_ahead().await;
        let (settings, revision) = self.locked_settings().clone();
        let tail = *self.log.watch_tail().borrow();
        let floor = self.machine().floor();
        let floor_cursor = cursor_at(self.log.as_ref(), floor).await?.encode();
        let machine = self.machine();
        let oldest = machine.oldest_append_ms().filter(|ms| *ms > 0);
        Ok(Status {
            settings,
            etag: etag(revision),
            floor_cursor,
            backlog: machine.undone() + tail.saturating_sub(machine.scanned()),
            oldest_unacked: oldest.map(|ms| UNIX_EPOCH + Duration::from_millis(ms)),
            outstanding: machine.leased() as u64,
            parked: machine.parked(),
            missed: machine.missed(),
            workers: machine.workers(),
        })
    }
}

fn etag(revision: u64) -> String {
    revision.to_string()
}
