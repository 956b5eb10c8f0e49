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

pub(super) async fn run(address: SocketAddr, amount: &Amount, request_ids: bool) -> Result<Report> {
    let mut clients = Vec::new();
    for _ in 0..amount.at_once.div_ceil(CALLS_PER_CONNECTION) {
        let endpoint = Endpoint::from_shared(format!("http://{address}"))?.tcp_nodelay(true);
        clients.push(GatewayServiceClient::new(endpoint.connect().await?));
    }
    let began = Instant::now() + WARM_UP;
    let end = began + Duration::from_secs_f64(amount.seconds);
    let mut callers = JoinSet::new();
    for (client, first) in clients.iter().cycle().cloned().zip(0..u64::from(amount.at_once)) {
        let messages = Messages { next: first, step: u64::from(amount.at_once), request_ids };
        callers.spawn(call(client, messages, began, end));
    }
    Report::of_shares(callers, began).await
}

/// Prints what the upstream says of them.
pub(super) async fn arrivals(address: SocketAddr) -> Result<()> {
    let answer = reqwest::Client::new().get(format!("http://{address}/arrivals")).send().await?;
    println!("{}", answer.error_for_status()?.text().await?);
    Ok(())
}

async fn call(
    mut client: GatewayServiceClient<tonic::transport::Channel>,
    mut messages: Messages,
    began: Instant,
    end: Instant,
) -> Result<Share> {
    let mut share = Share::default();
    for _ in 0..OPERATIONS_MAX {
        let started = Instant::now();
        if started >= end {
            break;
        }
        let sent = client.send_message(messages.next()).await?.into_inner();
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

/// What one caller sends: each to somebody else, as messages to the same user go out one after the other.
struct Messages {
    next: u64,
    step: u64,
    request_ids: bool,
}

impl Messages {
    fn next(&mut self) -> v1::SendMessageRequest {
        let number = self.next;
        self.next += self.step;
        let address = v1::recipient::Address::PhoneNumber(format!("+1650{:07}", number % 10_000_000));
        let body = "Your order 4711 is on its way and should be with you by Thursday.".to_owned();
        // One process is one run, and as long as a UUID.
        let request_id = format!("{:08x}-0000-0000-0000-{number:012x}", std::process::id());
        v1::SendMessageRequest {
            request_id: if self.request_ids { request_id } else { String::new() },
            recipient: Some(v1::Recipient { address: Some(address) }),
            content: Some(v1::send_message_request::Content::Text(v1::Text { body, ..Default::default() })),
            ..Default::default()
        }
    }
}
