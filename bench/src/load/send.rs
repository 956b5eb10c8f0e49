//! Callers of `SendMessage`.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;
use tonic::transport::Endpoint;
use whatsapp_gateway::contract::v1;
use whatsapp_gateway::contract::v1::gateway_service_client::GatewayServiceClient;

use super::{Amount, OPERATIONS_MAX, Report, Share, WARM_UP};
use crate::Result;

/// Calls that share a connection.
const CALLS_PER_CONNECTION: u32 = 16;

pub(super) async fn run(address: SocketAddr, amount: &Amount) -> Result<Report> {
    let mut clients = Vec::new();
    for _ in 0..amount.at_once.div_ceil(CALLS_PER_CONNECTION) {
        let endpoint = Endpoint::from_shared(format!("http://{address}"))?.tcp_nodelay(true);
        clients.push(GatewayServiceClient::new(endpoint.connect().await?));
    }
    let began = Instant::now() + WARM_UP;
    let end = began + Duration::from_secs_f64(amount.seconds);
    let mut callers = JoinSet::new();
    for client in clients.iter().cycle().take(amount.at_once as usize).cloned() {
        callers.spawn(call(client, began, end));
    }
    Report::of_shares(callers, began).await
}

async fn call(
    mut client: GatewayServiceClient<tonic::transport::Channel>,
    began: Instant,
    end: Instant,
) -> Result<Share> {
    let mut share = Share::default();
    for _ in 0..OPERATIONS_MAX {
        let started = Instant::now();
        if started >= end {
            break;
        }
        let sent = client.send_message(message()).await?.into_inner();
        if sent.message_id.is_empty() {
            return Err("a message was not sent".into());
        }
        if started >= began {
            share.times.push(started.elapsed());
        } else {
            share.uncounted += 1;
        }
    }
    Ok(share)
}

fn message() -> v1::SendMessageRequest {
    let address = v1::recipient::Address::PhoneNumber("+16505551234".to_owned());
    let body = "Your order 4711 is on its way and should be with you by Thursday.".to_owned();
    v1::SendMessageRequest {
        recipient: Some(v1::Recipient { address: Some(address) }),
        content: Some(v1::send_message_request::Content::Text(v1::Text { body, ..Default::default() })),
        ..Default::default()
    }
}
