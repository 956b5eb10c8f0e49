//! What only the leader does: taken up at the start by who leads from the beginning, else in the running process.

use std::sync::Arc;
use std::time::Duration;

use metrics::{counter, gauge};
use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use tokio::try_join;
use tracing::{error, info, warn};

use crate::flows::conversations::WebhookWatch;
use crate::flows::follow_message::{FollowMessage, MessageNews};
use crate::flows::identities::Identities;
use crate::flows::who_leads::{Role, WhoLeads};
use crate::flows::window::Windows;
use crate::grpc::server::GatewayService;
use crate::storage::projections::Projections;
use crate::telemetry::names;

use super::Error;
use super::options::watch_limits;
use super::parts::{Parts, flows};

/// How long the store may not answer while the lead is taken up: a server of NATS often ends together with the last leader.
const PATIENCE: Duration = Duration::from_secs(30);
/// Between two tries.
const PAUSE: Duration = Duration::from_millis(500);

/// A process that can lead.
pub(super) struct Lead {
    pub(super) parts: Parts,
    pub(super) projections: Projections,
    pub(super) identities: Arc<Identities>,
    pub(super) service: GatewayService,
    pub(super) who_leads: WhoLeads,
}

impl Lead {
    /// Whether this process leads already.
    pub(super) fn is_due(&self) -> bool {
        matches!(*self.who_leads.watch().borrow(), Role::Leader { .. })
    }

    /// Takes the lead up when this process is elected. What fails then ends the process, so that another one leads.
    pub(super) async fn when_elected(mut self) {
        let shutdown = self.parts.shutdown.clone();
        let Some(term) = shutdown.drain().run_until_cancelled(self.who_leads.elected()).await else { return };
        info!(term, "this gateway leads; taking up what the last leader left");
        match self.take_up(Patience::until(Instant::now() + PATIENCE)).await {
            Ok(()) => info!(term, "leading"),
            Err(error) => shutdown.fail(format!("the lead could not be taken up: {error}")),
        }
    }

    /// Takes up what the last leader, or the last process, has left, and begins. Each step may be repeated until it succeeds.
    pub(super) async fn take_up(self, patience: Patience) -> Result<(), Error> {
        let Self { parts, projections, identities, service, who_leads } = self;
        let shutdown = parts.shutdown.clone();
        let number_watch = parts.number_watch.clone();
        let (fallbacks, news) = (parts.fallbacks(), MessageNews::default());
        let (unsettled, left_in_queue) = loop {
            let unsettled = parts.unsettled();
            match unsettled.load().await {
                Ok(left) => break (unsettled, left),
                Err(error) => patience.with(error.into()).await?,
            }
        };
        let hearers = (unsettled.clone(), fallbacks.clone());
        let mut project_log = parts.project_log(projections.clone(), news.clone(), hearers);
        let webhook_watch = WebhookWatch::new(projections.clone(), Arc::clone(&parts.clock));
        let retention = parts.retention();
        // Age goes first, so that a full store can take what the projections have to write.
        retention.round().await;
        // Before the log is caught up with, whose statuses may settle them.
        while let Err(error) = fallbacks.resume().await {
            patience.with(error.into()).await?;
        }
        let caught_up = async {
            while let Err(error) = project_log.catch_up().await {
                patience.with(error.into()).await?;
            }
            Ok::<_, Error>(())
        };
        let resumed = async {
            loop {
                match parts.subscriptions(service.streams()).await {
                    Ok(subscriptions) => break Ok::<_, Error>(subscriptions),
                    Err(error) => patience.with(error.into()).await?,
                }
            }
        };
        // Both read much, and neither needs the other.
        let ((), subscriptions) = try_join!(Box::pin(caught_up), Box::pin(resumed))?;
        let (calls, limits) = (unsettled.clone(), watch_limits(&parts.config));
        let follow_message = FollowMessage::new(projections.clone(), calls, news, limits, shutdown.clone());
        let progress = project_log.progress();
        let conversations = parts.conversations(projections, webhook_watch.clone(), progress);
        let windows = Windows::new(conversations.clone(), parts.templates.clone());
        let queue = parts.queue(windows.clone(), unsettled.clone(), fallbacks.clone(), identities);
        queue.resume(left_in_queue);
        shutdown.spawn_background("queue", queue.clone().run());
        let send_message = Arc::new(parts.send_message(windows, unsettled, fallbacks));
        shutdown.spawn_background("sends", Arc::clone(&send_message).run());
        service.lead(flows(parts, follow_message, conversations, (send_message, queue), subscriptions));
        who_leads.set_ready();
        shutdown.spawn_background("projections", project_log.run(shutdown.clone()));
        shutdown.spawn_background("number watch", number_watch.run());
        shutdown.spawn_background("webhook watch", webhook_watch.run());
        shutdown.spawn_background("retention", retention.run(shutdown.clone()));
        Ok(())
    }
}

/// How long an error is taken for one that passes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    until: Option<Instant>,
}

impl Patience {
    /// Every error is the end.
    pub(super) const NONE: Self = Self { until: None };

    fn until(until: Instant) -> Self {
        Self { until: Some(until) }
    }

    /// Waits a moment after this error, or returns it.
    async fn with(self, error: Error) -> Result<(), Error> {
        if self.until.is_none_or(|until| Instant::now() > until) {
            return Err(error);
        }
        warn!(%error, "the lead cannot be taken up yet");
        sleep(PAUSE).await;
        Ok(())
    }
}

/// Shows who leads, and says when the leader's settings are not these.
pub(super) async fn show(mut role: watch::Receiver<Role>, settings: String) {
    gauge!(names::RELAY_WAITING).increment(0.0);
    loop {
        let (leads, term, differing) = match &*role.borrow_and_update() {
            Role::Leader { term } => (1.0, *term, Vec::new()),
            Role::Follower { leader: None } => (0.0, 0, Vec::new()),
            Role::Follower { leader: Some(leader) } => {
                let differing = differing(&settings, &leader.settings);
                if !differing.is_empty() {
                    let sections = differing.join(", ");
                    error!(
                        leader = leader.name,
                        sections, "the leader has other settings; all gateways of a prefix need the same"
                    );
                }
                (0.0, 0, differing)
            }
        };
        gauge!(names::LEADS).set(leads);
        #[expect(clippy::cast_precision_loss, reason = "no term comes near 2^52")]
        gauge!(names::LEADER_TERM).set(term as f64);
        gauge!(names::SETTINGS_DIFFER).set(if differing.is_empty() { 0.0 } else { 1.0 });
        if role.changed().await.is_err() {
            return;
        }
        counter!(names::LEADER_CHANGES).increment(1);
    }
}

/// The sections that differ, of two lists of `section=hash`.
fn differing(own: &str, leaders: &str) -> Vec<String> {
    let has = |list: &str, entry: &str| list.split(' ').any(|other| other == entry);
    let other = |list: &str, in_list: &str| -> Vec<String> {
        let missing = list.split(' ').filter(|entry| !entry.is_empty() && !has(in_list, entry));
        missing.filter_map(|entry| Some(entry.split_once('=')?.0.to_owned())).collect()
    };
    let mut sections = [other(own, leaders), other(leaders, own)].concat();
    sections.sort();
    sections.dedup();
    sections
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::keyed_state::StateError;

    #[tokio::test(start_paused = true)]
    async fn a_store_that_does_not_answer_is_tried_again_for_a_while() {
        let began = Instant::now();
        let patience = Patience::until(began + PATIENCE);
        let error = || Error::Left(StateError::Busy);
        let mut tries = 0_u32;
        while patience.with(error()).await.is_ok() {
            tries += 1;
        }
        let (took, most) = (began.elapsed(), PATIENCE + 2 * PAUSE);
        assert!(took >= PATIENCE && took <= most && PAUSE * tries >= PATIENCE, "{took:?}, {tries} tries");
        // At the start somebody looks.
        assert!(matches!(Patience::NONE.with(error()).await, Err(Error::Left(StateError::Busy))));
        assert_eq!(began.elapsed(), took);
    }

    #[test]
    fn the_sections_that_differ_are_named() {
        assert!(differing("a=1 b=2", "a=1 b=2").is_empty());
        assert_eq!(differing("a=1 b=2", "a=1 b=3"), ["b"]);
        assert_eq!(differing("a=1", "b=2"), ["a", "b"]);
    }
}
