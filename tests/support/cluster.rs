//! Several gateways on one NATS prefix.

use std::collections::BTreeSet;

use super::serve::Builder;
use super::{Gateway, Serve};
use crate::eventually;

/// Gateways with one configuration, beside one simulator. The first one leads.
#[derive(Debug)]
pub struct Cluster {
    pub serve: Serve,
    others: Vec<Gateway>,
    gone: BTreeSet<usize>,
}

impl Cluster {
    /// So many of them, the first of which leads before the others start.
    pub async fn start(builder: Builder, count: usize) -> Self {
        let serve = builder.start().await;
        eventually!(leads(&serve.gateway).await);
        let mut others = Vec::new();
        for _ in 1..count {
            others.push(serve.join().await);
        }
        Self { serve, others, gone: BTreeSet::new() }
    }

    pub fn at(&self, index: usize) -> &Gateway {
        if index == 0 { &self.serve.gateway } else { &self.others[index - 1] }
    }

    /// One that is about to end.
    pub fn take(&mut self, index: usize) -> &mut Gateway {
        self.gone.insert(index);
        if index == 0 { &mut self.serve.gateway } else { &mut self.others[index - 1] }
    }

    /// Waits until one of those that live leads.
    pub async fn leader(&self) -> usize {
        let mut leader = None;
        eventually!({
            for index in (0..=self.others.len()).filter(|index| !self.gone.contains(index)) {
                if leads(self.at(index)).await {
                    leader = Some(index);
                }
            }
            leader.is_some()
        });
        leader.unwrap()
    }
}

async fn leads(gateway: &Gateway) -> bool {
    gateway.metric("whatsapp_gateway_leads").await == 1
}
