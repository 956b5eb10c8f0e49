//! How each flow is built from what they share.

use std::sync::Arc;

use crate::clock::SharedClock;
use crate::cloud_api;
use crate::config::Config;
use crate::flows::conversations::{Conversations, WebhookWatch};
use crate::flows::deliver_events::DeliverEvents;
use crate::flows::download_media::DownloadMedia;
use crate::flows::fallbacks::Fallbacks;
use crate::flows::follow_message::{FollowMessage, MessageNews};
use crate::flows::identities::Identities;
use crate::flows::lanes::Lanes;
use crate::flows::manage_template::ManageTemplate;
use crate::flows::mark_read::MarkRead;
use crate::flows::number_watch::NumberWatch;
use crate::flows::numbers::Numbers;
use crate::flows::project_log::{Progress, ProjectLog};
use crate::flows::queue::{self, Queue};
use crate::flows::receive_webhook::ReceiveWebhook;
use crate::flows::retain_log::RetainLog;
use crate::flows::send_message::SendMessage;
use crate::flows::send_traces::SendTraces;
use crate::flows::subscriptions::Subscriptions;
use crate::flows::template_catalog::TemplateCatalog;
use crate::flows::unsettled::Unsettled;
use crate::flows::upload_media::{Transfers, UploadMedia};
use crate::flows::window::Windows;
use crate::grpc;
use crate::lifecycle::Shutdown;
use crate::storage::Storage;
use crate::storage::fallbacks::FallbackNotes;
use crate::storage::keyed_state::StateError;
use crate::storage::projections::Projections;
use crate::storage::send_traces;
use crate::storage::sends::Sends;

use super::options::{pace, send_streams, stream_limits};

/// What the flows are made of.
#[derive(Clone)]
pub(super) struct Parts {
    pub(super) client: cloud_api::Client,
    pub(super) numbers: Numbers,
    pub(super) lanes: Lanes,
    pub(super) templates: TemplateCatalog,
    pub(super) number_watch: NumberWatch,
    pub(super) traces: SendTraces,
    pub(super) storage: Storage,
    pub(super) config: Arc<Config>,
    pub(super) clock: SharedClock,
    pub(super) shutdown: Shutdown,
}

impl Parts {
    pub(super) fn new(
        client: cloud_api::Client,
        storage: &Storage,
        config: &Arc<Config>,
        clock: &SharedClock,
        shutdown: &Shutdown,
    ) -> Self {
        let numbers = Numbers::new(config.tenants());
        let lanes = Lanes::new(pace(config), shutdown.clone());
        let number_watch = NumberWatch::new(
            client.clone(),
            numbers.clone(),
            (lanes.clone(), storage.leadership.clone()),
            Arc::clone(&storage.log),
            config.sending.probe_interval,
            Arc::clone(clock),
            shutdown.clone(),
        );
        let is_on = config.sending.template_preflight;
        let templates = TemplateCatalog::new(client.clone(), numbers.clone(), shutdown.clone(), is_on);
        let traces = send_traces::SendTraces::new(Arc::clone(&storage.state));
        let traces = SendTraces::new(traces, Arc::clone(clock), shutdown.clone());
        let (storage, config) = (storage.clone(), Arc::clone(config));
        let (clock, shutdown) = (Arc::clone(clock), shutdown.clone());
        Self { client, numbers, lanes, templates, number_watch, traces, storage, config, clock, shutdown }
    }

    pub(super) fn retention(&self) -> RetainLog {
        RetainLog {
            log: Arc::clone(&self.storage.log),
            state: Arc::clone(&self.storage.state),
            retention: self.config.storage.retention(),
            clock: Arc::clone(&self.clock),
        }
    }

    pub(super) fn receive_webhook(&self, identities: Arc<Identities>) -> ReceiveWebhook {
        let (log, numbers) = (Arc::clone(&self.storage.log), self.numbers.clone());
        let (traces, clock) = (self.traces.clone(), Arc::clone(&self.clock));
        ReceiveWebhook::new(log, identities, numbers, traces, clock, self.shutdown.clone())
    }

    pub(super) fn project_log(
        &self,
        projections: Projections,
        news: MessageNews,
        (unsettled, fallbacks): (Unsettled, Fallbacks),
    ) -> ProjectLog {
        let (log, templates) = (Arc::clone(&self.storage.log), self.templates.clone());
        let number_watch = self.number_watch.clone();
        ProjectLog::new(log, projections, news, unsettled, fallbacks, templates, number_watch)
    }

    pub(super) fn unsettled(&self) -> Unsettled {
        let sends = Sends::new(Arc::clone(&self.storage.state), self.config.sending.request_id_kept);
        Unsettled::new(sends, Arc::clone(&self.clock), self.shutdown.clone())
    }

    pub(super) fn send_message(
        &self,
        windows: Windows,
        unsettled: Unsettled,
        fallbacks: Fallbacks,
    ) -> SendMessage {
        SendMessage {
            client: self.client.clone(),
            numbers: self.numbers.clone(),
            lanes: self.lanes.clone(),
            number_watch: self.number_watch.clone(),
            windows,
            unsettled,
            fallbacks,
            traces: self.traces.clone(),
            resend_after: self.config.sending.resend_after,
            shutdown: self.shutdown.clone(),
        }
    }

    pub(super) fn queue(
        &self,
        windows: Windows,
        unsettled: Unsettled,
        fallbacks: Fallbacks,
        identities: Arc<Identities>,
    ) -> Queue {
        Queue::new(queue::Parts {
            client: self.client.clone(),
            number_watch: self.number_watch.clone(),
            numbers: self.numbers.clone(),
            lanes: self.lanes.clone(),
            windows,
            unsettled,
            fallbacks,
            traces: self.traces.clone(),
            identities,
            log: Arc::clone(&self.storage.log),
            clock: Arc::clone(&self.clock),
            shutdown: self.shutdown.clone(),
            queue_max: self.config.sending.queue_max,
        })
    }

    pub(super) fn fallbacks(&self) -> Fallbacks {
        Fallbacks::new(
            FallbackNotes::new(Arc::clone(&self.storage.state)),
            Arc::clone(&self.storage.log),
            (self.client.clone(), self.traces.clone()),
            self.numbers.clone(),
            self.number_watch.clone(),
            Arc::clone(&self.clock),
            self.shutdown.clone(),
        )
    }

    /// What every replica does.
    pub(super) fn everywhere(&self) -> grpc::server::Everywhere {
        let (log, limits) = (Arc::clone(&self.storage.log), stream_limits(&self.config));
        grpc::server::Everywhere {
            numbers: self.numbers.clone(),
            deliver_events: DeliverEvents::new(log, limits, Arc::clone(&self.clock), self.shutdown.clone()),
            send_streams: send_streams(&self.config, &self.shutdown),
        }
    }

    /// The subscriptions, which go on from where an earlier leader has left them.
    pub(super) async fn subscriptions(&self, streams: DeliverEvents) -> Result<Subscriptions, StateError> {
        let stores = (Arc::clone(&self.storage.log), Arc::clone(&self.storage.state));
        let leadership = self.storage.leadership.clone();
        let (tenants, clock) = (self.config.tenants(), Arc::clone(&self.clock));
        let subscriptions =
            Subscriptions::new(stores, leadership, streams, tenants, clock, self.shutdown.clone());
        subscriptions.resume().await?;
        self.shutdown.spawn_background("subscriptions", subscriptions.clone().run());
        Ok(subscriptions)
    }

    pub(super) fn conversations(
        &self,
        projections: Projections,
        webhook_watch: WebhookWatch,
        progress: Progress,
    ) -> Conversations {
        let known_after = self.config.sending.window_known_after;
        Conversations::new(projections, webhook_watch, progress, Arc::clone(&self.clock), known_after)
    }
}

/// What the calls need that only the leader answers.
pub(super) fn flows(
    parts: Parts,
    follow_message: FollowMessage,
    conversations: Conversations,
    (send_message, queue): (Arc<SendMessage>, Queue),
    subscriptions: Subscriptions,
) -> grpc::server::Flows {
    let Parts { client, numbers, templates, config, clock, shutdown, .. } = parts;
    let transfers = Transfers::new(config.media.stall_timeout, config.media.transfers_max);
    let unsettled = send_message.unsettled.clone();
    let upload_media =
        UploadMedia::new(client.clone(), numbers.clone(), transfers.clone(), unsettled.clone(), clock);
    grpc::server::Flows {
        send_message,
        queue,
        follow_message,
        windows: Windows::new(conversations.clone(), templates.clone()),
        conversations,
        mark_read: MarkRead::new(client.clone(), numbers.clone()),
        manage_template: ManageTemplate {
            client: client.clone(),
            numbers: numbers.clone(),
            catalog: templates,
            unsettled,
            shutdown: shutdown.clone(),
        },
        upload_media,
        download_media: DownloadMedia::new(client, numbers, transfers, shutdown),
        subscriptions,
    }
}
