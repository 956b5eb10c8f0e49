//! What the simulator does later on its own: statuses, reviews, batches that are not full. One task waits for
//! the earliest; entries of the same moment keep their order.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::faults::WebhookShape;
use super::lock;
use super::statuses::StatusUpdate;
use super::world::World;

/// Something to do when its time has come.
#[derive(Debug)]
pub(super) enum Task {
    /// Send a status of an accepted message.
    Status(Box<StatusUpdate>),
    /// End the review of the template with this id.
    Review(u64, WebhookShape),
    /// Pause the template with this id.
    Pause(u64, WebhookShape),
    /// Forget the template with this id, which was deleted.
    Deleted(u64, WebhookShape),
    /// Send what the batch of this fault holds.
    Flush(u64),
}

/// The tasks by time.
#[derive(Debug, Default)]
pub(super) struct Schedule {
    tasks: Mutex<Tasks>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Tasks {
    by_time: BTreeMap<(Instant, u64), Task>,
    added: u64,
}

impl Schedule {
    pub(super) fn add(&self, delay: Duration, task: Task) {
        let mut tasks = lock(&self.tasks);
        tasks.added += 1;
        let key = (Instant::now() + delay, tasks.added);
        let is_earliest = tasks.by_time.first_key_value().is_none_or(|(first, _)| key < *first);
        tasks.by_time.insert(key, task);
        drop(tasks);
        if is_earliest {
            self.changed.notify_one();
        }
    }

    pub(super) fn clear(&self) {
        lock(&self.tasks).by_time.clear();
    }

    /// Takes what is due, or says when the next is.
    fn take_due(&self) -> Result<Task, Option<Instant>> {
        let mut tasks = lock(&self.tasks);
        match tasks.by_time.first_entry() {
            Some(entry) if entry.key().0 <= Instant::now() => Ok(entry.remove()),
            Some(entry) => Err(Some(entry.key().0)),
            None => Err(None),
        }
    }
}

/// Carries out tasks until told to stop.
pub(super) async fn run(world: &World, stop: &CancellationToken) {
    loop {
        let next = match world.schedule.take_due() {
            Ok(task) => {
                world.perform(task);
                continue;
            }
            Err(next) => next,
        };
        let due = async {
            match next {
                Some(next) => tokio::time::sleep_until(next).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = due => {}
            () = world.schedule.changed.notified() => {}
            () = stop.cancelled() => return,
        }
    }
}
