//! The gRPC port: the service, health, reflection, and what they are served with.

use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

use crate::contract::DESCRIPTORS;
use crate::contract::server::gateway_service_server::{GatewayServiceServer, SERVICE_NAME};
use crate::contract::server::subscription_service_server::{
    SERVICE_NAME as SUBSCRIPTIONS, SubscriptionServiceServer,
};
use crate::flows::who_leads::WhoLeads;
use crate::lifecycle::Shutdown;
use crate::listener::{Listener, Options, Tokens};
use crate::tenants::Tenants;

use super::callers::Callers;
use super::gate::{Door, Gate};
use super::guest::Guest;
use super::peers::Peers;
use super::relay::Relay;
use super::service::Service;
use super::slowdown::Slowdown;

pub use super::send_messages::SendStreams;
pub use super::service::{Everywhere, Flows, Service as GatewayService};

/// A port: methods behind their gate, and the way to the leader between the two.
pub type Port = Gate<Relay<Routes>>;

/// Health of the webhook port, as a name of its own: a full disk stops the intake and nothing else.
const INGRESS: &str = "whatsapp.gateway.ingress";

/// Open calls of reflection in all. Strangers may make them, and an answer is many times the question.
const REFLECTIONS_MAX: usize = 64;

/// Limits of messages.
#[derive(Debug, Clone, Copy)]
pub struct MessageLimits {
    /// Bytes of a request.
    pub request_bytes_max: usize,
    /// Whether reflection is served.
    pub is_reflecting: bool,
}

/// Why the port could not be set up.
#[derive(Debug, thiserror::Error)]
#[error("the descriptors of the protos cannot be served: {0}")]
pub struct Error(#[from] tonic_reflection::server::Error);

/// Who calls, and who leads.
#[derive(Debug)]
pub struct Around {
    /// The callers of the configuration.
    pub callers: Callers,
    /// The same, by their names.
    pub tenants: Tenants,
    /// Who answers what only the leader answers.
    pub who_leads: WhoLeads,
    /// This replica, for the audit log of the leader.
    pub name: String,
}

/// What the port of callers serves, and that of other replicas. Health says `NOT_SERVING` until told otherwise.
pub async fn routes(
    service: Service,
    around: Around,
    limits: MessageLimits,
    shutdown: &Shutdown,
) -> Result<([Port; 2], Health), Error> {
    let (reporter, health_service) = tonic_health::server::health_reporter();
    let health = Health { reporter, ended: CancellationToken::new() };
    health.set_all(ServingStatus::NotServing).await;
    let bytes_max = limits.request_bytes_max;
    let gateway = GatewayServiceServer::new(service.clone()).max_decoding_message_size(bytes_max);
    let subscriptions = SubscriptionServiceServer::new(service).max_decoding_message_size(bytes_max);
    let mut routes = Routes::new(gateway).add_service(subscriptions).add_service(Guest {
        service: health_service,
        ended: health.ended.clone(),
        // Those of the connection are enough: a health check must not fail because of others.
        places: Arc::new(Semaphore::new(Semaphore::MAX_PERMITS)),
    });
    if limits.is_reflecting {
        let reflection = || {
            let services = tonic_reflection::server::Builder::configure()
                .include_reflection_service(false)
                .register_encoded_file_descriptor_set(DESCRIPTORS)
                .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
                .register_encoded_file_descriptor_set(tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET)
                .register_encoded_file_descriptor_set(tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET);
            // The details of errors are in no service's files; without these, clients show them as bytes.
            services.register_encoded_file_descriptor_set(tonic_types::pb::FILE_DESCRIPTOR_SET)
        };
        // Older grpcurl and several graphical clients still ask v1alpha first.
        let (places, ended) = (Arc::new(Semaphore::new(REFLECTIONS_MAX)), health.ended.clone());
        let v1 =
            Guest { service: reflection().build_v1()?, ended: ended.clone(), places: Arc::clone(&places) };
        let v1alpha = Guest { service: reflection().build_v1alpha()?, ended, places };
        routes = routes.add_service(v1).add_service(v1alpha);
    }
    let Around { callers, tenants, who_leads, name } = around;
    let (routes, slowdown) = (routes.prepare(), Slowdown::new());
    let of_peers = Relay::of_peers(routes.clone(), who_leads.clone(), bytes_max);
    let peers = Door::Peers(Peers { who_leads: who_leads.clone(), tenants });
    let to_leader = Relay::to_leader(routes, who_leads, name, bytes_max, shutdown.clone());
    let port = |inner, door| Gate { inner, door, slowdown: slowdown.clone(), request_bytes_max: bytes_max };
    Ok(([port(to_leader, Door::Callers(callers)), port(of_peers, peers)], health))
}

/// Serves until the drain.
pub async fn serve(listener: Listener, routes: Port, options: Options, shutdown: Shutdown) {
    listener.serve(routes, options, Tokens::draining(&shutdown)).await;
}

/// What `grpc.health.v1` says, and for how long.
#[derive(Debug, Clone)]
pub struct Health {
    reporter: HealthReporter,
    ended: CancellationToken,
}

impl Health {
    /// `is_serving` says whether calls are served, `is_accepting` whether webhooks can be stored.
    pub async fn set_serving(&self, is_serving: bool, is_accepting: bool) {
        let status = |is| if is { ServingStatus::Serving } else { ServingStatus::NotServing };
        for name in ["", SERVICE_NAME, SUBSCRIPTIONS] {
            self.reporter.set_service_status(name, status(is_serving)).await;
        }
        self.reporter.set_service_status(INGRESS, status(is_accepting)).await;
    }

    /// About to end.
    pub async fn set_leaving(&self) {
        self.set_all(ServingStatus::NotServing).await;
    }

    /// Ends whoever watches, once they know; reflection too. The drain would wait for them.
    pub fn end_streams(&self) {
        self.ended.cancel();
    }

    /// The overall name too, which otherwise counts as serving from the start.
    async fn set_all(&self, status: ServingStatus) {
        for name in ["", SERVICE_NAME, SUBSCRIPTIONS, INGRESS] {
            self.reporter.set_service_status(name, status).await;
        }
    }
}
