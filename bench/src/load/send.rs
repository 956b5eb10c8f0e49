//! Callers of `SendMessage`.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};
use tonic::Request;
use tonic::metadata::AsciiMetadataValue;
use tonic::transport::{Channel, Endpoint};
use tower::service_fn;
use whatsapp_gateway::contract::v1;
use whatsapp_gateway::contract::v1::gateway_service_client::GatewayServiceClient;

use super::{Amount, Calls, OPERATIONS_MAX, Report, Share, WARM_UP};
use crate::Result;

/// Calls that share a connection.
const CALLS_PER_CONNECTION: u32 = 16;

pub(super) async fn run(address: SocketAddr, amount: &Amount, calls: &Calls) -> Result<Report> {
    let Calls { request_ids, certificate, token } = calls;
    let tls = certificate.as_deref().map(believing).transpose()?;
    let token = token.as_deref().map(|token| format!("Bearer {token}").parse()).transpose()?;
    let mut clients = Vec::new();
    for _ in 0..amount.at_once.div_ceil(CALLS_PER_CONNECTION) {
        clients.push(GatewayServiceClient::new(connect(address, tls.clone()).await?));
    }
    let began = Instant::now() + WARM_UP;
    let end = began + Duration::from_secs_f64(amount.seconds);
    let mut callers = JoinSet::new();
    for (client, first) in clients.iter().cycle().cloned().zip(0..u64::from(amount.at_once)) {
        let messages = Messages { next: first, step: u64::from(amount.at_once), request_ids: *request_ids };
        callers.spawn(call(client, messages, token.clone(), (began, end)));
    }
    Report::of_shares(callers, began).await
}

/// TLS to whoever has this certificate.
fn believing(certificate: &Path) -> Result<TlsConnector> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(certificate)?)?;
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
    let config = config.with_safe_default_protocol_versions()?.with_root_certificates(roots);
    let mut config = config.with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(Arc::new(config).into())
}

async fn connect(address: SocketAddr, tls: Option<TlsConnector>) -> Result<Channel> {
    let endpoint = Endpoint::from_shared(format!("http://{address}"))?.tcp_nodelay(true);
    let Some(tls) = tls else { return Ok(endpoint.connect().await?) };
    let handshake = move |_: http::Uri| {
        let tls = tls.clone();
        async move {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            let name = ServerName::IpAddress(address.ip().into());
            io::Result::Ok(TokioIo::new(tls.connect(name, stream).await?))
        }
    };
    Ok(endpoint.connect_with_connector(service_fn(handshake)).await?)
}

/// Prints what the upstream says of them.
pub(super) async fn arrivals(address: SocketAddr) -> Result<()> {
    let answer = reqwest::Client::new().get(format!("http://{address}/arrivals")).send().await?;
    println!("{}", answer.error_for_status()?.text().await?);
    Ok(())
}

async fn call(
    mut client: GatewayServiceClient<Channel>,
    mut messages: Messages,
    token: Option<AsciiMetadataValue>,
    (began, end): (Instant, Instant),
) -> Result<Share> {
    let mut share = Share::default();
    for _ in 0..OPERATIONS_MAX {
        let started = Instant::now();
        if started >= end {
            break;
        }
        let mut request = Request::new(messages.next());
        if let Some(token) = &token {
            request.metadata_mut().insert("authorization", token.clone());
        }
        let sent = client.send_message(request).await?.into_inner();
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
        // Like the random UUIDs that clients take, so that each falls elsewhere in a table. One process is one run.
        let (high, low) = (scattered(number), scattered(number ^ (u64::from(std::process::id()) << 32)));
        let request_id = format!("{:08x}-{:04x}-4000-8000-{:012x}", high >> 32, high & 0xffff, low >> 16);
        v1::SendMessageRequest {
            request_id: if self.request_ids { request_id } else { String::new() },
            recipient: Some(v1::Recipient { address: Some(address) }),
            content: Some(v1::send_message_request::Content::Text(v1::Text { body, ..Default::default() })),
            ..Default::default()
        }
    }
}

/// Another number for each, without an order (the last steps of `splitmix64`).
fn scattered(number: u64) -> u64 {
    let mixed = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}
