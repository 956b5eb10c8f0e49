//! Gateways on any engine: one on a disk, or some that share NATS servers.

use std::path::PathBuf;

use super::checker::{Place, Places};
use super::gateway;
use super::nats_server::NatsServer;
use super::serve::Builder;
use super::{Gateway, Serve};

/// What events and state are kept in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    Embedded,
    /// One nats-server.
    Nats,
    /// Three, each of which holds everything.
    Cluster,
}

impl Engine {
    fn servers(self) -> Option<Vec<NatsServer>> {
        match self {
            Self::Embedded => Some(Vec::new()),
            Self::Nats => Some(vec![NatsServer::start()?]),
            Self::Cluster => NatsServer::cluster(),
        }
    }
}

/// Gateways that have one log, and where they are.
#[derive(Debug)]
pub struct World {
    serve: Serve,
    others: Vec<Gateway>,
    pub servers: Vec<NatsServer>,
    pub places: Places,
}

impl World {
    /// One gateway; `None` where the engine needs a nats-server and there is none.
    pub async fn one(engine: Engine) -> Option<Self> {
        Self::of(engine, 1, &[]).await
    }

    /// So many, with these settings, such as `("EVENTS__SEND_TIMEOUT", "1 s")`.
    pub async fn of(engine: Engine, gateways: usize, settings: &[(&str, &str)]) -> Option<Self> {
        Some(Self::on(engine.servers()?, gateways, settings, "").await)
    }

    /// One gateway with these callers.
    pub async fn with_callers(engine: Engine, callers: &str) -> Option<Self> {
        Some(Self::on(engine.servers()?, 1, &[], callers).await)
    }

    /// So many that share these servers.
    pub async fn over(servers: Vec<NatsServer>, gateways: usize) -> Self {
        Self::on(servers, gateways, &[], "").await
    }

    async fn on(servers: Vec<NatsServer>, gateways: usize, settings: &[(&str, &str)], callers: &str) -> Self {
        let urls: Vec<_> = servers.iter().map(NatsServer::url).collect();
        let builder = settings.iter().fold(engine(&urls).more(callers), |builder, (key, value)| {
            builder.env(&format!("WHATSAPP_GATEWAY__{key}"), value)
        });
        let serve = builder.start().await;
        let mut world = Self { serve, others: Vec::new(), servers, places: Places::default() };
        world.here(0);
        for index in 1..gateways {
            world.others.push(world.serve.join().await);
            world.here(index);
        }
        world
    }

    /// One more, which reaches the first server there.
    pub async fn join_through(&mut self, url: &str) -> Serve {
        let cloud = format!("http://{}", self.gateway().address("simulator"));
        engine(&[url.to_owned()]).graph_url(cloud).start().await
    }

    /// The first gateway.
    pub fn gateway(&self) -> &Gateway {
        &self.serve.gateway
    }

    pub fn count(&self) -> usize {
        1 + self.others.len()
    }

    pub fn at(&self, index: usize) -> &Gateway {
        if index == 0 { &self.serve.gateway } else { &self.others[index - 1] }
    }

    pub fn at_mut(&mut self, index: usize) -> &mut Gateway {
        if index == 0 { &mut self.serve.gateway } else { &mut self.others[index - 1] }
    }

    /// The one that leads, if one of those that live says so.
    pub async fn leader(&self) -> Option<usize> {
        for index in 0..self.count() {
            if self.at(index).metric("whatsapp_gateway_leads").await == 1 {
                return Some(index);
            }
        }
        None
    }

    /// kill -9, and the next process over the same data.
    pub async fn restart(&mut self, index: usize) {
        self.at_mut(index).kill().await;
        self.start_again(index).await;
    }

    /// The next process, where the last has ended.
    pub async fn start_again(&mut self, index: usize) {
        if index == 0 {
            self.serve.start_again().await;
        } else {
            self.others[index - 1] = self.serve.join().await;
        }
        self.here(index);
    }

    /// SIGTERM, and the next process.
    pub async fn restart_in_order(&mut self, index: usize) {
        assert_eq!(self.at_mut(index).terminate().await, Some(0));
        self.start_again(index).await;
    }

    /// The folder of an embedded gateway's data.
    pub fn data_dir(&self) -> PathBuf {
        self.serve.folder.path().join("data")
    }

    fn here(&self, index: usize) {
        let gateway = self.at(index);
        let place = Place { grpc: gateway.address("grpc").to_owned(), webhook_url: gateway.webhook_url() };
        self.places.set(index, place);
    }
}

fn engine(urls: &[String]) -> Builder {
    let unpaced =
        gateway::UNPACED.into_iter().fold(Serve::builder(), |all, (name, value)| all.env(name, value));
    if urls.is_empty() {
        return unpaced;
    }
    let replicas = if urls.len() == 3 { "3" } else { "1" };
    unpaced.on_nats(&urls.join(","), replicas).env("WHATSAPP_GATEWAY__STORAGE__SIZE_MAX", "512 MiB")
}
