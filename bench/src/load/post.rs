//! Posters of webhooks: HTTP/1.1 by hand, so that the load is cheap.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::{Amount, OPERATIONS_MAX, Report, Share, WARM_UP, streams};
use crate::Result;
use crate::webhook::{self, Signer};

/// Numbers of messages that one poster may use.
const NUMBERS_PER_POSTER: u64 = OPERATIONS_MAX;
/// Connections that share a fixed rate.
const PACED_CONNECTIONS: u64 = 32;
/// How long the last events of a fixed rate may take.
const LAST_EVENTS: Duration = Duration::from_secs(20);

/// A connection that stays open.
pub(super) struct Poster {
    stream: TcpStream,
    signer: Signer,
    host: SocketAddr,
    buffer: Vec<u8>,
}

impl Poster {
    pub(super) async fn connect(host: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(host).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, signer: Signer::new()?, host, buffer: vec![0; 4096] })
    }

    /// Posts one message and waits for the 200.
    pub(super) async fn post(&mut self, number: u64) -> Result<()> {
        let body = webhook::message(number);
        let (host, length, signature) = (self.host, body.len(), self.signer.sign(body.as_bytes()));
        let request = format!(
            "POST /webhook HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\
             x-hub-signature-256: {signature}\r\n\r\n{body}"
        );
        self.stream.write_all(request.as_bytes()).await?;
        let mut filled = 0;
        loop {
            let free = self.buffer.get_mut(filled..).ok_or("the answer is too long")?;
            let read = self.stream.read(free).await?;
            filled += read;
            let seen = self.buffer.get(..filled).unwrap_or_default();
            if seen.ends_with(b"\r\n\r\n") && seen.starts_with(b"HTTP/1.1 200") {
                return Ok(());
            }
            if read == 0 || seen.ends_with(b"\r\n\r\n") {
                return Err(format!("not accepted: {}", String::from_utf8_lossy(seen)).into());
            }
        }
    }
}

pub(super) async fn run(address: SocketAddr, amount: &Amount, first: u64) -> Result<Report> {
    let mut posters = Vec::new();
    for _ in 0..amount.at_once {
        posters.push(Poster::connect(address).await?);
    }
    let began = Instant::now() + WARM_UP;
    let end = began + Duration::from_secs_f64(amount.seconds);
    let mut posting = JoinSet::new();
    for (poster, index) in posters.into_iter().zip(0..) {
        // Each in its own part of the numbers, and not all with the same user.
        posting.spawn(post_until(poster, began, end, first + index * (NUMBERS_PER_POSTER + 39)));
    }
    Report::of_shares(posting, began).await
}

async fn post_until(mut poster: Poster, began: Instant, end: Instant, first: u64) -> Result<Share> {
    let mut share = Share::default();
    for number in first..first + NUMBERS_PER_POSTER {
        let started = Instant::now();
        if started >= end {
            break;
        }
        poster.post(number).await?;
        if started >= began {
            share.times.push(started.elapsed());
        } else {
            share.uncounted += 1;
        }
    }
    Ok(share)
}

/// When each message was posted, or how long it took from then on.
type Clock = Arc<Mutex<HashMap<u64, Instant>>>;

pub(super) async fn pace(
    address: SocketAddr,
    subscribe: Option<SocketAddr>,
    rate: u32,
    seconds: u32,
    first: u64,
) -> Result<Report> {
    let events = u64::from(rate) * u64::from(seconds);
    let clock = Clock::default();
    let mut arriving = JoinSet::new();
    if let Some(subscribe) = subscribe {
        let stream = streams::Numbers::open(subscribe).await?;
        arriving.spawn(arrivals(stream, Arc::clone(&clock), events));
    }
    let mut posting = JoinSet::new();
    let mut senders = Vec::new();
    for _ in 0..PACED_CONNECTIONS {
        let (sender, mut numbers) = tokio::sync::mpsc::unbounded_channel();
        let (mut poster, clock) = (Poster::connect(address).await?, Arc::clone(&clock));
        posting.spawn(async move {
            let mut times = Vec::new();
            while let Some((number, due)) = numbers.recv().await {
                clock.lock().unwrap_or_else(PoisonError::into_inner).insert(number, due);
                poster.post(number).await?;
                times.push(due.elapsed());
            }
            Result::Ok(times)
        });
        senders.push(sender);
    }
    let began = Instant::now();
    let mut ticks = interval(Duration::from_secs(1) / rate);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    for (number, sender) in (first..first + events).zip(senders.iter().cycle()) {
        ticks.tick().await;
        sender.send((number, Instant::now()))?;
    }
    drop(senders);
    let mut times = Vec::new();
    while let Some(posted) = posting.join_next().await {
        times.extend(posted??);
    }
    if subscribe.is_some() {
        let arrived =
            timeout(LAST_EVENTS, arriving.join_next()).await.map_err(|_| "events did not arrive")?;
        times = arrived.ok_or("nobody waits for events")???;
    }
    Report::of_each(times, 0, began.elapsed())
}

async fn arrivals(mut stream: streams::Numbers, clock: Clock, events: u64) -> Result<Vec<Duration>> {
    let mut times = Vec::new();
    while (times.len() as u64) < events {
        for number in stream.next().await? {
            let posted = clock.lock().unwrap_or_else(PoisonError::into_inner).remove(&number);
            times.push(posted.ok_or("an event came twice, or unasked")?.elapsed());
        }
    }
    Ok(times)
}
