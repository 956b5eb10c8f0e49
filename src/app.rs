//! The only place where concrete parts meet: configuration → app (bound, nothing served) → run.
//!
//! Wires the rooms in one readable pass. Decisions belong in the rooms.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tracing::{info, warn};

use crate::clock::SharedClock;
use crate::cloud_api;
use crate::config::{Config, Watcher};
use crate::flows::conversations::{Conversations, Progress, WebhookWatch};
use crate::flows::deliver_events::{DeliverEvents, Limits};
use crate::flows::download_media::DownloadMedia;
use crate::flows::fallbacks::Fallbacks;
use crate::flows::follow_message::{self, FollowMessage, MessageNews};
use crate::flows::identities::Identities;
use crate::flows::manage_template::ManageTemplate;
use crate::flows::mark_read::MarkRead;
use crate::flows::numbers::Numbers;
use crate::flows::project_log::{self, ProjectLog};
use crate::flows::receive_webhook::ReceiveWebhook;
use crate::flows::retain_log::RetainLog;
use crate::flows::send_message::SendMessage;
use crate::flows::unsettled::Unsettled;
use crate::flows::upload_media::{Transfers, UploadMedia};
use crate::flows::window::Windows;
use crate::grpc::{self, Callers};
use crate::lifecycle::{Budgets, EXIT_STORAGE, Shutdown, Signal};
use crate::listener::{Http1Limits, Http2Limits, Listener, Options, Protocol, Tokens};
use crate::storage::event_log::Acceptance;
use crate::storage::fallbacks::FallbackNotes;
use crate::storage::keyed_state::StateError;
use crate::storage::projections::Projections;
use crate::storage::sends::Sends;
use crate::storage::{self, Storage};
use crate::telemetry::Metrics;
use crate::web::admin::{self, Readiness};
use crate::web::webhook;

/// Between two looks at the secret files.
const SECRETS_INTERVAL: Duration = Duration::from_secs(5);
/// Connections of the admin port.
const ADMIN_CONNECTIONS_MAX: usize = 64;

/// Why the gateway could not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A port could not be bound.
    #[error(
        "{section}.listen (dev: --{section}-listen): cannot listen on {address}: {cause}; choose another port, 0 takes a \
         free one"
    )]
    Bind {
        /// The section of the configuration that says where.
        section: &'static str,
        /// Which.
        address: SocketAddr,
        /// Why.
        cause: io::Error,
    },
    /// The event store could not be opened.
    #[error(transparent)]
    Storage(#[from] storage::OpenError),
    /// The projections could not be brought up to date.
    #[error("the projections of the event log cannot be brought up to date: {0}")]
    Projections(#[from] project_log::Error),
    /// What an earlier process left open could not be read.
    #[error("the sends that are not settled cannot be read: {0}")]
    Sends(#[from] StateError),
    /// The client could not be built.
    #[error(transparent)]
    CloudApi(#[from] cloud_api::BuildError),
    /// The gRPC port could not be set up.
    #[error(transparent)]
    Grpc(#[from] grpc::server::Error),
}

/// A gateway whose ports are bound and whose store is open. Nothing is served yet.
#[derive(Debug)]
pub struct App {
    grpc: Listener,
    webhook: Listener,
    admin: Listener,
    storage: Storage,
    client: cloud_api::Client,
    config: Config,
    metrics: Metrics,
    clock: SharedClock,
    shutdown: Shutdown,
}

/// Where the ports are.
#[derive(Debug, Clone, Copy)]
pub struct Addresses {
    /// gRPC.
    pub grpc: SocketAddr,
    /// The webhook.
    pub webhook: SocketAddr,
    /// Probes and metrics.
    pub admin: SocketAddr,
}

impl App {
    /// Binds every port and opens the store.
    pub fn new(
        config: Config,
        metrics: Metrics,
        clock: SharedClock,
        shutdown: Shutdown,
    ) -> Result<Self, Error> {
        let bind = |section, address| {
            Listener::bind(address).map_err(|cause| Error::Bind { section, address, cause })
        };
        let grpc = bind("grpc", config.grpc.listen)?;
        let webhook = bind("webhook", config.webhook.listen)?;
        let admin = bind("admin", config.admin.listen)?;
        let client = cloud_api::Client::new(&config.cloud_api, Arc::clone(&clock))?;
        let fatal = shutdown.clone();
        let on_fatal = Arc::new(move |reason| fatal.fatal(reason));
        let storage = Storage::open(&config.storage, Arc::clone(&clock), on_fatal)?;
        Ok(Self { grpc, webhook, admin, storage, client, config, metrics, clock, shutdown })
    }

    /// Where the ports are, with the numbers that were chosen for port 0.
    pub fn addresses(&self) -> Addresses {
        Addresses {
            grpc: self.grpc.local_addr(),
            webhook: self.webhook.local_addr(),
            admin: self.admin.local_addr(),
        }
    }

    /// Serves until a signal or a failure ends the process; returns the exit code. `on_ready` is called once everything
    /// is served.
    pub async fn run(self, signals: mpsc::Receiver<Signal>, on_ready: impl FnOnce()) -> Result<u8, Error> {
        let Self { grpc, webhook, admin, storage, client, config, metrics, clock, shutdown } = self;
        let readiness = Readiness::default();
        let admin_routes = admin::routes(readiness.clone(), metrics.clone());
        shutdown.spawn_background(
            "admin",
            admin.serve(admin_routes, admin_options(), Tokens::until_stop(&shutdown)),
        );
        shutdown.spawn_background("upkeep", metrics.run_upkeep());

        let projections = Projections::new(Arc::clone(&storage.state));
        let parts = Parts {
            client,
            numbers: Numbers::new(config.tenants()),
            storage: &storage,
            config: &config,
            clock: &clock,
            shutdown: &shutdown,
        };
        let (fallbacks, news) = (parts.fallbacks(), MessageNews::default());
        let unsettled = parts.unsettled();
        let hearers = (unsettled.clone(), fallbacks.clone());
        let mut project_log = parts.project_log(projections.clone(), news.clone(), hearers);
        let webhook_watch = WebhookWatch::new(projections.clone(), Arc::clone(&clock));
        let retention = parts.retention();
        // Age goes first, so that a full store can take what the projections have to write.
        retention.round().await;
        // Before the log is caught up with, whose statuses may settle them.
        fallbacks.resume().await?;
        unsettled.load().await?;
        project_log.catch_up().await?;
        let receive_webhook = parts.receive_webhook(projections.clone());
        let follow_message =
            FollowMessage::new(projections.clone(), news, watch_limits(&config), shutdown.clone());
        let applied = project_log.watch_position();
        let conversations = parts.conversations(projections, webhook_watch.clone(), applied);
        let windows = Windows::new(conversations.clone());
        let send_message = parts.send_message(windows, unsettled, fallbacks);
        shutdown.spawn_background("sends", send_message.clone().run());
        let flows = flows(parts, follow_message, conversations, send_message);
        let callers =
            Callers::new(config.tenants(), grpc.local_addr().ip().is_loopback(), config.grpc.insecure);
        let service = grpc::server::GatewayService::new(flows);
        let (routes, health) = grpc::server::routes(service, callers, message_limits(&config)).await?;

        let webhook_routes = webhook::routes(webhook_config(&config), receive_webhook);
        let webhook_serving =
            webhook.serve(webhook_routes, webhook_options(&config), Tokens::draining(&shutdown));
        shutdown.spawn("webhook", webhook_serving);
        shutdown.spawn("grpc", grpc::server::serve(grpc, routes, grpc_options(&config), shutdown.clone()));
        shutdown.spawn_background("projections", project_log.run(shutdown.clone()));
        shutdown.spawn_background("webhook watch", webhook_watch.run());
        shutdown.spawn_background("retention", retention.run(shutdown.clone()));
        shutdown.spawn_background("secrets", Watcher::run(config.watcher(), SECRETS_INTERVAL));
        let is_accepting = *storage.log.watch_acceptance().borrow() == Acceptance::Accepting;
        say_ready(&health, &readiness, is_accepting).await;
        shutdown.spawn_background("health", report(health, readiness, storage.clone(), shutdown.clone()));
        info!("serving");
        on_ready();

        let exit_code = shutdown.run(signals, config.shutdown).await;
        // After a failed sync nothing may touch the store: closing it would write.
        if exit_code != EXIT_STORAGE
            && let Err(error) = storage.close().await
        {
            warn!(%error, "the event store did not close cleanly");
        }
        Ok(exit_code)
    }

    /// The budgets of the end, for whoever waits for it from outside.
    pub fn budgets(&self) -> Budgets {
        self.config.shutdown
    }
}

/// What the flows are made of.
struct Parts<'a> {
    client: cloud_api::Client,
    numbers: Numbers,
    storage: &'a Storage,
    config: &'a Config,
    clock: &'a SharedClock,
    shutdown: &'a Shutdown,
}

impl Parts<'_> {
    fn retention(&self) -> RetainLog {
        RetainLog {
            log: Arc::clone(&self.storage.log),
            state: Arc::clone(&self.storage.state),
            retention: self.config.storage.retention(),
            clock: Arc::clone(self.clock),
        }
    }

    fn receive_webhook(&self, projections: Projections) -> ReceiveWebhook {
        let (log, numbers) = (Arc::clone(&self.storage.log), self.numbers.clone());
        let identities = Identities::new(projections);
        ReceiveWebhook::new(log, identities, numbers, Arc::clone(self.clock), self.shutdown.clone())
    }

    fn project_log(
        &self,
        projections: Projections,
        news: MessageNews,
        (unsettled, fallbacks): (Unsettled, Fallbacks),
    ) -> ProjectLog {
        ProjectLog::new(Arc::clone(&self.storage.log), projections, news, unsettled, fallbacks)
    }

    fn unsettled(&self) -> Unsettled {
        let sends = Sends::new(Arc::clone(&self.storage.state), self.config.sending.request_id_kept);
        Unsettled::new(sends, Arc::clone(self.clock), self.shutdown.clone())
    }

    fn send_message(&self, windows: Windows, unsettled: Unsettled, fallbacks: Fallbacks) -> SendMessage {
        let resend_after = self.config.sending.resend_after;
        let (client, numbers) = (self.client.clone(), self.numbers.clone());
        SendMessage::new(client, numbers, windows, unsettled, fallbacks, resend_after, self.shutdown.clone())
    }

    fn fallbacks(&self) -> Fallbacks {
        Fallbacks::new(
            FallbackNotes::new(Arc::clone(&self.storage.state)),
            Arc::clone(&self.storage.log),
            self.client.clone(),
            self.numbers.clone(),
            Arc::clone(self.clock),
            self.shutdown.clone(),
        )
    }

    fn conversations(
        &self,
        projections: Projections,
        webhook_watch: WebhookWatch,
        applied: watch::Receiver<u64>,
    ) -> Conversations {
        let progress = Progress { tail: self.storage.log.watch_tail(), applied };
        let known_after = self.config.sending.window_known_after;
        Conversations::new(projections, webhook_watch, progress, Arc::clone(self.clock), known_after)
    }
}

/// What the calls of the gRPC port need.
fn flows(
    parts: Parts<'_>,
    follow_message: FollowMessage,
    conversations: Conversations,
    send_message: SendMessage,
) -> grpc::server::Flows {
    let Parts { client, numbers, storage, config, clock, shutdown } = parts;
    let transfers = Transfers::new(config.media.stall_timeout, config.media.transfers_max);
    let upload_media =
        UploadMedia::new(client.clone(), numbers.clone(), transfers.clone(), Arc::clone(clock));
    grpc::server::Flows {
        send_message,
        follow_message,
        windows: Windows::new(conversations.clone()),
        conversations,
        mark_read: MarkRead::new(client.clone(), numbers.clone()),
        manage_template: ManageTemplate::new(client.clone(), numbers.clone(), shutdown.clone()),
        upload_media,
        download_media: DownloadMedia::new(client, numbers.clone(), transfers, shutdown.clone()),
        deliver_events: DeliverEvents::new(
            Arc::clone(&storage.log),
            stream_limits(config),
            Arc::clone(clock),
            shutdown.clone(),
        ),
        numbers,
    }
}

/// Keeps health and probes honest: while the store refuses, and at the end.
async fn report(health: grpc::server::Health, readiness: Readiness, storage: Storage, shutdown: Shutdown) {
    let mut acceptance = storage.log.watch_acceptance();
    loop {
        let is_accepting = *acceptance.borrow_and_update() == Acceptance::Accepting;
        say_ready(&health, &readiness, is_accepting).await;
        tokio::select! {
            () = shutdown.leaving().cancelled() => break,
            changed = acceptance.changed() => if changed.is_err() { break },
        }
    }
    readiness.set_leaving();
    health.set_leaving().await;
    shutdown.drain().cancelled().await;
    health.end_streams();
}

async fn say_ready(health: &grpc::server::Health, readiness: &Readiness, is_accepting: bool) {
    readiness.set_accepting(is_accepting);
    readiness.set_ready();
    health.set_serving(is_accepting).await;
}

fn stream_limits(config: &Config) -> Limits {
    let events = &config.events;
    Limits { streams_max: events.streams_max, send_timeout: events.send_timeout, rotation: events.rotation }
}

fn watch_limits(config: &Config) -> follow_message::Limits {
    let events = &config.events;
    follow_message::Limits { watches_max: events.streams_max, rotation: events.rotation }
}

fn message_limits(config: &Config) -> grpc::server::MessageLimits {
    grpc::server::MessageLimits {
        request_bytes_max: config.grpc.message_bytes_max,
        is_reflecting: config.grpc.reflection,
    }
}

fn webhook_config(config: &Config) -> webhook::Config {
    let webhook = &config.webhook;
    webhook::Config {
        path: webhook.path.clone(),
        body_bytes_max: webhook.body_bytes_max,
        bodies_bytes_max: webhook.bodies_bytes_max,
        body_timeout: webhook.body_timeout,
    }
}

fn grpc_options(config: &Config) -> Options {
    let limits = Http2Limits {
        max_concurrent_streams: config.grpc.streams_per_connection_max,
        ..Http2Limits::default()
    };
    Options {
        name: "grpc",
        protocol: Protocol::Http2(limits),
        connections_max: config.grpc.connections_max,
        connections_per_peer_max: None,
    }
}

fn webhook_options(config: &Config) -> Options {
    let webhook = &config.webhook;
    let limits = Http1Limits {
        header_timeout: webhook.header_timeout,
        idle_timeout: webhook.idle_timeout,
        ..Http1Limits::default()
    };
    Options {
        name: "webhook",
        protocol: Protocol::Http1(limits),
        connections_max: webhook.connections_max,
        connections_per_peer_max: webhook.connections_per_peer_max,
    }
}

fn admin_options() -> Options {
    Options {
        name: "admin",
        protocol: Protocol::Http1(Http1Limits::default()),
        connections_max: ADMIN_CONNECTIONS_MAX,
        connections_per_peer_max: None,
    }
}
