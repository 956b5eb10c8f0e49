//! The only place where concrete parts meet: configuration → app (bound, nothing served) → run.
//!
//! Wires the rooms in one readable pass. Decisions belong in the rooms.

mod files;
mod lead;
mod options;
mod parts;
mod peers;
mod standing;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::{mpsc, oneshot};
use tracing::{info, warn};

use crate::clock::SharedClock;
use crate::cloud_api;
use crate::config::{Config, Watcher};
use crate::flows::identities::Identities;
use crate::flows::project_log;
use crate::flows::who_leads::WhoLeads;
use crate::grpc::server::Around;
use crate::grpc::{self, Callers};
use crate::jwt;
use crate::lifecycle::{Budgets, EXIT_OK, EXIT_STORAGE, Shutdown, Signal, unless_asked};
use crate::listener::{Listener, Tokens};
use crate::storage::keyed_state::StateError;
use crate::storage::leadership::Replica;
use crate::storage::projections::Projections;
use crate::storage::{self, Storage};
use crate::telemetry::{LogLevel, Metrics};
use crate::web::admin::{self, Readiness};
use crate::web::webhook;

use lead::{Lead, Patience};
use options::{admin_options, grpc_options, message_limits, peer_options, webhook_config, webhook_options};
use parts::Parts;
use peers::PeerPort;
use standing::Standing;

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
    /// The certificate for other replicas could not be made.
    #[error("the certificate of the peer port cannot be made: {0}")]
    Certificate(String),
    /// The event store could not be opened.
    #[error(transparent)]
    Storage(#[from] storage::OpenError),
    /// The event store could not even be tried to open.
    #[error("the event store cannot be opened: {0}")]
    Opening(String),
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

/// A gateway whose ports are bound. Nothing is served yet, and the store is not open.
#[derive(Debug)]
pub struct App {
    grpc: Listener,
    webhook: Listener,
    admin: Listener,
    peers: Option<PeerPort>,
    replica: Replica,
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
    /// Other replicas, where there can be some.
    pub peers: Option<SocketAddr>,
}

impl App {
    /// Binds every port.
    pub fn new(
        mut config: Config,
        operations: (Option<Metrics>, LogLevel),
        clock: SharedClock,
        shutdown: Shutdown,
    ) -> Result<Self, Error> {
        files::fit_connections(&mut config, files::raise_limit());
        let grpc = bind("grpc", config.grpc.listen)?;
        let webhook = bind("webhook", config.webhook.listen)?;
        let admin = bind("admin", config.admin.listen)?;
        let (peers, replica) = peers::bind(&config)?;
        let client = cloud_api::Client::new(&config.cloud_api, Arc::clone(&clock))?;
        Ok(Self { grpc, webhook, admin, peers, replica, client, config, operations, clock, shutdown })
    }

    /// Where the ports are, with the numbers that were chosen for port 0.
    pub fn addresses(&self) -> Addresses {
        Addresses {
            grpc: self.grpc.local_addr(),
            webhook: self.webhook.local_addr(),
            admin: self.admin.local_addr(),
            peers: self.peers.as_ref().map(|peers| peers.listener.local_addr()),
        }
    }

    /// Opens the store and serves until a signal or a failure ends the process; returns the exit code. `on_ready` is called once
    /// everything is served; until then only the admin port is.
    pub async fn run(
        self,
        mut signals: mpsc::Receiver<Signal>,
        on_ready: impl FnOnce(),
    ) -> Result<u8, Error> {
        let Self { grpc, webhook, admin, peers, replica, client, config, operations, clock, shutdown } = self;
        let config = Arc::new(config);
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

        let name = replica.name.clone();
        let opened = open(config.storage.clone(), replica, &clock, &shutdown);
        let Some(opened) = unless_asked(&mut signals, opened).await else { return Ok(EXIT_OK) };
        let storage = opened?;
        let parts = Parts::new(client, &storage, &config, &clock, &shutdown);
        let projections = Projections::new(Arc::clone(&storage.state));
        let identities = Arc::new(Identities::new(projections.clone()));
        let receive_webhook = parts.receive_webhook(Arc::clone(&identities));
        let service = grpc::server::GatewayService::new(parts.everywhere());
        let who_leads = WhoLeads::new(storage.leadership.clone());
        let lead =
            Lead { parts, projections, identities, service: service.clone(), who_leads: who_leads.clone() };
        shutdown.spawn_background("leadership", lead::show(who_leads.watch(), config.settings()));
        // Who leads from the beginning serves when it can answer everything.
        if lead.is_due() {
            lead.take_up(Patience::NONE).await?;
        } else {
            shutdown.spawn_background("leader", lead.when_elected());
        }

        let strangers = config.strangers(grpc.local_addr().ip().is_loopback());
        let callers = Callers::new(config.tenants(), config.issuers(), strangers, clock);
        for fetcher in begin(config.key_sources()).await? {
            shutdown.spawn_background("JWT keys", fetcher.run());
        }
        let around = Around { callers, tenants: config.tenants(), who_leads, name };
        let routes = grpc::server::routes(service, around, message_limits(&config), &shutdown).await?;
        let ([routes, peer_routes], health) = routes;

        let webhook_routes = webhook::routes(webhook_config(&config), receive_webhook);
        let webhook_serving =
            webhook.serve(webhook_routes, webhook_options(&config), Tokens::draining(&shutdown));
        shutdown.spawn("webhook", webhook_serving);
        shutdown.spawn("grpc", grpc::server::serve(grpc, routes, grpc_options(&config), shutdown.clone()));
        if let Some(PeerPort { listener, tls }) = peers {
            let options = peer_options(&config, tls);
            shutdown.spawn("peers", grpc::server::serve(listener, peer_routes, options, shutdown.clone()));
        }
        shutdown.spawn_background("secrets", Watcher::run(config.watcher(), SECRETS_INTERVAL));
        let standing = Standing::new(storage.log.watch_acceptance());
        say(&health, &readiness, &standing).await;
        shutdown.spawn_background("health", report(health, readiness, standing, shutdown.clone()));
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

/// Opens the store on a thread of its own, since it may wait for servers, or read for long: probes are answered meanwhile.
async fn open(
    config: storage::Config,
    replica: Replica,
    clock: &SharedClock,
    shutdown: &Shutdown,
) -> Result<Storage, Error> {
    let (clock, fatal, (reply, opened)) = (Arc::clone(clock), shutdown.clone(), oneshot::channel());
    let on_fatal = Arc::new(move |reason| fatal.fatal(reason));
    // Who is asked to end meanwhile does not wait for it.
    let opening = move || drop(reply.send(Storage::open(&config, replica, clock, on_fatal)));
    let spawned = thread::Builder::new().name("storage-open".to_owned()).spawn(opening);
    spawned.map_err(|error| Error::Opening(format!("{error}; raise the limit on threads")))?;
    Ok(opened.await.map_err(|_| Error::Opening("it panicked".to_owned()))??)
}

/// Binds a port.
fn bind(section: &'static str, address: SocketAddr) -> Result<Listener, Error> {
    Listener::bind(address).map_err(|cause| Error::Bind { section, address, cause })
}

/// Reads the keys of all JWT issuers once, so that the first calls find them. One that is away costs five seconds.
async fn begin(sources: Vec<jwt::Source>) -> Result<Vec<jwt::Fetcher>, jwt::BuildError> {
    let fetchers = sources.into_iter().map(jwt::Fetcher::new).collect::<Result<Vec<_>, _>>()?;
    Ok(join_all(fetchers.into_iter().map(jwt::Fetcher::begin)).await)
}

/// Keeps health and probes honest: while the store refuses or is away, and at the end.
async fn report(
    health: grpc::server::Health,
    readiness: Readiness,
    mut standing: Standing,
    shutdown: Shutdown,
) {
    loop {
        say(&health, &readiness, &standing).await;
        tokio::select! {
            () = shutdown.leaving().cancelled() => break,
            changed = standing.changed() => if changed.is_err() { break },
        }
    }
    readiness.set_leaving();
    health.set_leaving().await;
    shutdown.drain().cancelled().await;
    health.end_streams();
}

async fn say(health: &grpc::server::Health, readiness: &Readiness, standing: &Standing) {
    readiness.set_accepting(standing.is_accepting());
    if standing.is_serving() {
        readiness.set_ready();
    } else {
        readiness.set_away();
    }
    health.set_serving(standing.is_serving(), standing.is_accepting()).await;
}
