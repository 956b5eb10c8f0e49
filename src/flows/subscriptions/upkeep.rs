//! What happens to subscriptions while nobody asks: deadlines, progress past what nobody wants, and the metrics.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use metrics::gauge;
use tokio::join;
use tokio::time::{Instant, sleep};
use tracing::warn;

use crate::domain::caller::Caller;
use crate::domain::rights::Rights;
use crate::telemetry::names;

use super::Subscriptions;
use super::active::Active;

/// Between two rounds.
const INTERVAL: Duration = Duration::from_secs(2);
/// Between two looks whether this process still leads.
const LEAD_INTERVAL: Duration = Duration::from_millis(500);
/// Between two writes of progress that moved only past what nobody wants. After a crash that much is looked at again.
const POSITION_INTERVAL: Duration = Duration::from_secs(30);

/// Of all subscriptions of a caller.
#[derive(Debug, Default, Clone, Copy)]
struct Sums {
    /// The largest.
    backlog: u64,
    /// The oldest.
    oldest: Option<SystemTime>,
    parked: u64,
}

impl Subscriptions {
    /// Round after round until the process stops.
    pub async fn run(self) {
        // A round may wait for the store for long.
        join!(self.rounds(), self.watch_lead());
    }

    /// Wakes the streams while this process does not lead for sure: nothing else tells those that wait.
    async fn watch_lead(&self) {
        loop {
            if !self.inner.leadership.holds() {
                self.active().values().for_each(|active| active.tell());
            }
            sleep(LEAD_INTERVAL).await;
        }
    }

    async fn rounds(&self) {
        let (mut sums, mut position_at) = (BTreeMap::new(), Instant::now() + POSITION_INTERVAL);
        loop {
            let with_position = Instant::now() >= position_at;
            if with_position {
                position_at = Instant::now() + POSITION_INTERVAL;
            }
            self.round(&mut sums, with_position).await;
            self.show(&sums);
            sleep(INTERVAL).await;
        }
    }

    async fn round(&self, sums: &mut BTreeMap<String, Sums>, with_position: bool) {
        let all: Vec<Arc<Active>> = self.active().values().cloned().collect();
        gauge!(names::SUBSCRIPTIONS).set(u32::try_from(all.len()).unwrap_or(u32::MAX));
        // A caller whose last subscription is gone shows 0.
        for sums in sums.values_mut() {
            *sums = Sums::default();
        }
        for active in all {
            active.set_rights(self.rights(&active.owner).as_deref());
            let has_ended = {
                let before = active.machine().change();
                active.advance();
                active.machine().change() > before
            };
            if has_ended {
                active.tell();
            }
            let saved = if with_position { active.persist_position().await } else { active.persist().await };
            if let Err(error) = saved {
                warn!(%error, "the progress of a subscription could not be stored");
            }
            let Ok(status) = active.status().await else { continue };
            let sums = sums.entry(active.owner.clone()).or_default();
            sums.backlog = sums.backlog.max(status.backlog);
            sums.oldest = [sums.oldest, status.oldest_unacked].into_iter().flatten().min();
            sums.parked += status.parked;
        }
    }

    fn show(&self, sums: &BTreeMap<String, Sums>) {
        let now = self.inner.clock.now();
        for (owner, Sums { backlog, oldest, parked }) in sums {
            let age = oldest.and_then(|oldest| now.duration_since(oldest).ok()).unwrap_or_default();
            #[expect(clippy::cast_precision_loss, reason = "no count of events comes near 2^52")]
            let (backlog, parked) = (*backlog as f64, *parked as f64);
            gauge!(names::SUBSCRIPTION_BACKLOG, names::CALLER => owner.clone()).set(backlog);
            gauge!(names::SUBSCRIPTION_AGE, names::CALLER => owner.clone()).set(age.as_secs_f64());
            gauge!(names::SUBSCRIPTION_PARKED, names::CALLER => owner.clone()).set(parked);
        }
    }

    /// What a caller may do at this time; `None` if the configuration does not know it any more. Then nothing is passed, so
    /// that nothing is missing when it comes back.
    pub(super) fn rights(&self, owner: &str) -> Option<Arc<Rights>> {
        if let Some(caller) = self.inner.tenants.load().caller(owner) {
            return Some(Arc::clone(&caller.rights));
        }
        let needs_no_entry = [Caller::local(), Caller::anonymous()].iter().any(|c| c.name() == owner);
        needs_no_entry.then(Rights::everything)
    }
}
