//! The only place where concrete parts meet: configuration → app (bound, nothing served) → run.
//!
//! Wires the rooms in one readable pass. Decisions belong in the rooms.

mod files;
mod options;
mod parts;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use tokio::sync::mpsc;
use tracing::{info, warn};

use crate::clock::SharedClock;
use crate::cloud_api;
use crate::config::{Config, Watcher};
use crate::flows::conversations::WebhookWatch;
use crate::flows::follow_message::{FollowMessage, MessageNews};
use crate::flows::identities::Identities;
use crate::flows::project_log;
use crate::flows::window::Windows;
use crate::grpc::{self, Callers};
use crate::jwt;
use crate::lifecycle::{Budgets, EXIT_STORAGE, Shutdown, Signal};
use crate::listener::{Listener, Tokens};
use crate::storage::event_log::Acceptance;
use crate::storage::keyed_state::StateError;
use crate::storage::leadership::Replica;
use crate::storage::projections::Projections;
use crate::storage::{self, Storage};
use crate::telemetry::{LogLevel, Metrics};
use crate::web::admin::{self, Readiness};
use crate::web::webhook;

use options::{admin_options, grpc_options, message_limits, watch_limits, webhook_config, webhook_options};
use parts::{Parts, flows};

/// Between two looks at the files of secrets and certificates.
const SECRETS_INTERVAL: Duration = Duration::from_secs(5);

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
    #[error("the sends that are not settled, or the subscriptions, cannot be read: {0}")]
    Left(#[from] StateError),
    /// The client could not be built.
    #[error(transparent)]
    CloudApi(#[from] cloud_api::BuildError),
    /// The gRPC port could not be set up.
    #[error(transparent)]
    Grpc(#[from] grpc::server::Error),
    /// The keys of JWT issuers cannot be fetched.
    #[error(transparent)]
    Jwt(#[from] jwt::BuildError),
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
    /// What operators see and change while it runs.
    operations: (Option<Metrics>, LogLevel),
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
        mut config: Config,
        operations: (Option<Metrics>, LogLevel),
        clock: SharedClock,
        shutdown: Shutdown,
    ) -> Result<Self, Error> {
        files::fit_connections(&mut config, files::raise_limit());
        let bind = |section, address| {
            Listener::bind(address).map_err(|cause| Error::Bind { section, address, cause })
        };
        let grpc = bind("grpc", config.grpc.listen)?;
        let webhook = bind("webhook", config.webhook.listen)?;
        let admin = bind("admin", config.admin.listen)?;
        let client = cloud_api::Client::new(&config.cloud_api, Arc::clone(&clock))?;
        let fatal = shutdown.clone();
        let on_fatal = Arc::new(move |reason| fatal.fatal(reason));
        let replica = Replica::of_this_process(String::new(), Bytes::new(), String::new());
        let storage = Storage::open(&config.storage, replica, Arc::clone(&clock), on_fatal)?;
        Ok(Self { grpc, webhook, admin, storage, client, config, operations, clock, shutdown })
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
        let Self { grpc, webhook, admin, storage, client, config, operations, clock, shutdown } = self;
        let readiness = Readiness::default();
        let (metrics, log_level) = operations;
        let admin_routes = admin::routes(readiness.clone(), metrics.clone(), log_level);
        shutdown.spawn_background(
            "admin",
            admin.serve(admin_routes, admin_options(), Tokens::until_stop(&shutdown)),
        );
        if let Some(metrics) = metrics {
            shutdown.spawn_background("upkeep", metrics.run_upkeep());
        }

        let projections = Projections::new(Arc::clone(&storage.state));
        let parts = Parts::new(client, &storage, &config, &clock, &shutdown);
        let number_watch = parts.number_watch.clone();
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
        let left_in_queue = unsettled.load().await?;
        project_log.catch_up().await?;
        let identities = Arc::new(Identities::new(projections.clone()));
        let receive_webhook = parts.receive_webhook(Arc::clone(&identities));
        let (calls, limits) = (unsettled.clone(), watch_limits(&config));
        let follow_message = FollowMessage::new(projections.clone(), calls, news, limits, shutdown.clone());
        let applied = project_log.watch_position();
        let conversations = parts.conversations(projections, webhook_watch.clone(), applied);
        let windows = Windows::new(conversations.clone(), parts.templates.clone());
        let queue = parts.queue(windows.clone(), unsettled.clone(), fallbacks.clone(), identities);
        queue.resume(left_in_queue);
        shutdown.spawn_background("queue", queue.clone().run());
        let send_message = parts.send_message(windows, unsettled, fallbacks);
        shutdown.spawn_background("sends", send_message.clone().run());
        let streams = parts.streams().await?;
        let flows = flows(parts, follow_message, conversations, (send_message, queue), streams);
        let is_loopback = grpc.local_addr().ip().is_loopback();
        let strangers = config.strangers(is_loopback);
        let callers = Callers::new(config.tenants(), config.issuers(), strangers, Arc::clone(&clock));
        for fetcher in begin(config.key_sources()).await? {
            shutdown.spawn_background("JWT keys", fetcher.run());
        }
        let service = grpc::server::GatewayService::new(flows);
        let (routes, health) = grpc::server::routes(service, callers, message_limits(&config)).await?;

        let webhook_routes = webhook::routes(webhook_config(&config), receive_webhook);
        let webhook_serving =
            webhook.serve(webhook_routes, webhook_options(&config), Tokens::draining(&shutdown));
        shutdown.spawn("webhook", webhook_serving);
        shutdown.spawn("grpc", grpc::server::serve(grpc, routes, grpc_options(&config), shutdown.clone()));
        shutdown.spawn_background("projections", project_log.run(shutdown.clone()));
        shutdown.spawn_background("number watch", number_watch.run());
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

/// Reads the keys of all JWT issuers once, so that the first calls find them. One that is away costs five seconds.
async fn begin(sources: Vec<jwt::Source>) -> Result<Vec<jwt::Fetcher>, jwt::BuildError> {
    let fetchers = sources.into_iter().map(jwt::Fetcher::new).collect::<Result<Vec<_>, _>>()?;
    Ok(join_all(fetchers.into_iter().map(jwt::Fetcher::begin)).await)
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
