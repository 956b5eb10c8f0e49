//! Peers that mean harm, and how others fare beside them.

use std::fmt::{self, Display, Formatter};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use h2::client::SendRequest;
use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::Instant;
use whatsapp_gateway::contract::v1;

use super::rpc::{send, text};
use super::{Gateway, Serve, gateway, webhook};

const KIB: usize = 1024;
/// Connections that are opened at a time: the kernel holds as many until they are accepted.
const OPENING: usize = 500;
/// What nobody who is served beside an attack may wait: far beyond any figure, and short of what a blocked one takes.
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// Longer than any limit of the gateway takes, on a busy machine too.
const PATIENCE: Duration = Duration::from_mins(2);

/// How others fared meanwhile.
#[derive(Debug)]
pub struct Others {
    waits: Vec<Duration>,
    /// The most memory that was seen meanwhile.
    resident_bytes: usize,
}

impl Display for Others {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let (median, max) = (self.waits[self.waits.len() / 2], self.waits[self.waits.len() - 1]);
        write!(f, "{} served, median {median:.1?}, longest {max:.1?}", self.waits.len())
    }
}

/// A gateway for attacks, with these settings; its simulator is in this process, so that its memory is its own.
pub async fn target(settings: &[(&str, &str)]) -> Serve {
    let unpaced = gateway::UNPACED.map(|(name, value)| (name.to_owned(), value));
    let settings = settings.iter().map(|(name, value)| (format!("WHATSAPP_GATEWAY__{name}"), *value));
    let builder = settings.chain(unpaced).fold(Serve::builder(), |all, (name, value)| all.env(&name, value));
    let serve = builder.start().await;
    serve.gateway.without_limits().await;
    // What is made once and stays.
    others(&serve.gateway, 5).await;
    serve
}

/// A webhook and a message, so many times, each on a connection of its own; each must be served.
pub async fn others(gateway: &Gateway, count: usize) -> Others {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    // By another address than the attacks'.
    let http = reqwest::Client::builder().local_address(IpAddr::from([127, 0, 0, 2]));
    let http = http.timeout(gateway::PATIENCE).pool_max_idle_per_host(0).no_proxy().build().unwrap();
    let sender = webhook::Sender { http, url: gateway.webhook_url() };
    let mut others = Others { waits: Vec::new(), resident_bytes: 0 };
    for _ in 0..count {
        let id = format!("wamid.other.{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let started = Instant::now();
        assert_eq!(sender.post(&webhook::text(&id, "16505551234", "Hi")).await, Some(200));
        others.waits.push(started.elapsed());
        let started = Instant::now();
        let phone_number_id = webhook::PHONE_NUMBER_ID.to_owned();
        let request = v1::SendMessageRequest { phone_number_id, ..send(text("Hi")) };
        gateway.send(request).await;
        others.waits.push(started.elapsed());
        others.resident_bytes = others.resident_bytes.max(gateway.resident_bytes());
    }
    others.waits.sort();
    let longest = others.waits[others.waits.len() - 1];
    assert!(longest < LONGEST_WAIT, "{others}");
    others
}

/// Serves others while `count` of something is held, prints what that took, and checks the bound for each.
pub async fn held(gateway: &Gateway, what: &str, count: usize, before: usize, bytes_max: usize) {
    let others = others(gateway, 20).await;
    let grown = others.resident_bytes.saturating_sub(before);
    let (mib, each) = (grown / KIB / KIB, grown / count);
    eprintln!("{what}: {count} held, {mib} MiB more, {each} bytes each; beside them {others}");
    // What the allocator keeps, and what others need, whatever is held.
    let bound = count * bytes_max + 32 * KIB * KIB;
    assert!(grown < bound, "{grown} bytes for {count}, which is more than {bound}");
}

/// Serves others while `attackers` do their worst again and again, prints what that did, and checks the memory. An attack
/// ends when the gateway has ended it.
pub async fn repeated<A, F>(gateway: &Gateway, what: &str, attackers: usize, attack: A)
where
    A: Fn(String) -> F + Clone + Send + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    const BYTES_MAX: usize = 64 * KIB * KIB;
    let (before, ended) = (gateway.resident_bytes(), Arc::new(AtomicUsize::new(0)));
    let mut attacks = JoinSet::new();
    for _ in 0..attackers {
        let (attack, ended) = (attack.clone(), Arc::clone(&ended));
        let address = gateway.address("grpc").to_owned();
        attacks.spawn(async move {
            loop {
                attack(address.clone()).await;
                ended.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    let others = others(gateway, usize::try_from(super::rounds(20, 60)).unwrap()).await;
    let deadline = Instant::now() + PATIENCE;
    while ended.load(Ordering::Relaxed) < attackers {
        assert!(Instant::now() < deadline, "{what}: only {ended:?} ended");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    attacks.shutdown().await;
    let grown = others.resident_bytes.saturating_sub(before);
    let ended = ended.load(Ordering::Relaxed);
    eprintln!(
        "{what}: {attackers} at a time, {ended} ended, {} MiB more; beside them {others}",
        grown / KIB / KIB
    );
    assert!(grown < BYTES_MAX, "{grown} bytes more");
}

/// Waits until a counter has come so far: longer than the limits that move it, and bounded.
pub async fn until(gateway: &Gateway, series: &str, count: u64) {
    let deadline = Instant::now() + PATIENCE;
    while gateway.metric(series).await < count {
        let (_, metrics) = gateway.admin("/metrics").await;
        assert!(Instant::now() < deadline, "{series} stays below {count}:\n{metrics}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Opens so many connections to a port and sends the same on each.
pub async fn open(address: &str, count: usize, first: &[u8]) -> Vec<TcpStream> {
    raise_file_limit();
    let mut streams = Vec::new();
    while streams.len() < count {
        let mut opening = JoinSet::new();
        for _ in 0..OPENING.min(count - streams.len()) {
            let (address, first) = (address.to_owned(), first.to_vec());
            opening.spawn(async move {
                let mut stream = TcpStream::connect(address).await.unwrap();
                stream.write_all(&first).await.unwrap();
                stream
            });
        }
        streams.extend(opening.join_all().await);
    }
    streams
}

/// As many files as the system allows: connections have two ends.
fn raise_file_limit() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).unwrap();
}

/// An HTTP/2 connection whose peer lets this many bytes of each answer come, and answers pings.
pub async fn http2(address: &str, window: u32, tasks: &mut JoinSet<()>) -> SendRequest<Bytes> {
    let stream = TcpStream::connect(address).await.unwrap();
    let mut builder = h2::client::Builder::new();
    builder.initial_window_size(window).initial_max_send_streams(usize::MAX).max_header_list_size(1 << 20);
    let (send, connection) = builder.handshake(stream).await.unwrap();
    tasks.spawn(async move { drop(connection.await) });
    send
}

/// The head of a call.
pub fn call(path: &str) -> http::request::Builder {
    http::Request::post(format!("http://gateway{path}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
}
