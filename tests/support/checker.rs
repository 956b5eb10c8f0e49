//! The checker: load whose every step is written down, and what must hold of it afterwards, whatever happened meanwhile.
//!
//! [`posts`] writes webhooks as Meta does, [`tail`] follows the log, [`group`] works on a named subscription. All of them
//! know the gateways only as [`Places`] that come and go, and go on at another one. A test lets something happen beside
//! them and then asks [`verdicts`], whose own tests show that each of them can fail.

pub mod group;
pub mod posts;
pub mod tail;
pub mod verdicts;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::sleep;
use tonic::transport::Endpoint;
use whatsapp_gateway::contract::v1::gateway_service_client::GatewayServiceClient;

use super::Rng;
use super::gateway::Client;

/// Between two tries at whatever is not there at present.
const PAUSE: Duration = Duration::from_millis(20);
/// How long whoever follows or works waits for the next frame, before it asks elsewhere: longer than a heartbeat.
const SILENCE: Duration = Duration::from_secs(20);

/// Where one gateway is.
#[derive(Debug, Clone)]
pub struct Place {
    pub grpc: String,
    pub webhook_url: String,
}

/// Where the gateways are at present; cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Places(Arc<Mutex<Vec<Place>>>);

impl Places {
    /// This gateway is here from now on.
    pub fn set(&self, index: usize, place: Place) {
        let mut places = self.0.lock().unwrap();
        if index == places.len() {
            places.push(place);
        } else {
            places[index] = place;
        }
    }

    /// One of them.
    pub fn any(&self, rng: &mut Rng) -> Place {
        let places = self.0.lock().unwrap();
        let index = usize::try_from(rng.next() % places.len() as u64).unwrap();
        places[index].clone()
    }

    /// A client of one of them that can be connected to, on a connection of its own.
    pub async fn client(&self, rng: &mut Rng) -> Client {
        loop {
            let endpoint = Endpoint::from_shared(format!("http://{}", self.any(rng).grpc)).unwrap();
            if let Ok(channel) = endpoint.connect_timeout(Duration::from_secs(2)).connect().await {
                return GatewayServiceClient::new(channel).max_decoding_message_size(8 << 20);
            }
            sleep(PAUSE).await;
        }
    }
}
