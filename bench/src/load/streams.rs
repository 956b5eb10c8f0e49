//! Subscribers.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use serde_json::json;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Streaming};
use tonic_prost::ProstCodec;
use whatsapp_gateway::contract::v1;
use whatsapp_gateway::contract::v1::gateway_service_client::GatewayServiceClient;
use whatsapp_gateway::contract::v1::subscribe_events_response::Frame as Typed;

use super::post::Poster;
use super::{Report, Streams};
use crate::Result;
use crate::webhook;

const METHOD: &str = "/whatsapp.gateway.v1.GatewayService/SubscribeEvents";
/// Events in one frame at most.
const BATCH_EVENTS: u32 = 256;
/// How long idle streams are kept if nobody ends this process.
const IDLE: Duration = Duration::from_mins(5);

/// The frame of the stream as far as it is looked at: events are counted, not decoded.
#[derive(Clone, PartialEq, prost::Message)]
struct Frame {
    #[prost(message, optional, tag = "2")]
    events: Option<Batch>,
    #[prost(bytes = "bytes", optional, tag = "4")]
    caught_up: Option<Bytes>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Batch {
    #[prost(bytes = "bytes", repeated, tag = "1")]
    events: Vec<Bytes>,
}

async fn connect(address: SocketAddr) -> Result<Channel> {
    Ok(Endpoint::from_shared(format!("http://{address}"))?.tcp_nodelay(true).connect().await?)
}

async fn open(channel: Channel, request: v1::SubscribeEventsRequest) -> Result<Streaming<Frame>> {
    let mut client = tonic::client::Grpc::new(channel);
    client.ready().await?;
    let path = http::uri::PathAndQuery::from_static(METHOD);
    let codec = ProstCodec::<v1::SubscribeEventsRequest, Frame>::default();
    Ok(client.server_streaming(Request::new(request), path, codec).await?.into_inner())
}

/// Opens the streams and waits until all are live.
async fn open_all(streams: &Streams) -> Result<Vec<Streaming<Frame>>> {
    let mut opened = Vec::new();
    for connection in 0..streams.connections {
        let channel = connect(streams.subscribe).await?;
        let share =
            streams.count / streams.connections + u32::from(connection < streams.count % streams.connections);
        for _ in 0..share {
            let request = v1::SubscribeEventsRequest { max_batch_events: BATCH_EVENTS, ..Default::default() };
            let mut stream = open(channel.clone(), request).await?;
            while stream.message().await?.ok_or("a stream ended")?.caught_up.is_none() {}
            opened.push(stream);
        }
    }
    Ok(opened)
}

pub(super) async fn idle(streams: &Streams) -> Result<Report> {
    let opened = open_all(streams).await?;
    println!("{}", json!({"open": opened.len()}));
    tokio::time::sleep(IDLE).await;
    Err("idle streams were not ended".into())
}

/// Counts what all streams got.
#[derive(Default)]
struct Delivered {
    count: AtomicU64,
    moved: Notify,
}

pub(super) async fn fan_out(
    address: SocketAddr,
    streams: &Streams,
    events: u64,
    ahead: u64,
    first: u64,
) -> Result<Report> {
    let delivered = Arc::new(Delivered::default());
    let mut reading = JoinSet::new();
    for stream in open_all(streams).await? {
        reading.spawn(count(stream, events, Arc::clone(&delivered)));
    }
    let began = Instant::now();
    let next = Arc::new(AtomicU64::new(0));
    // As many posters as events may be ahead, so that the time of a commit is not what is measured.
    for _ in 0..ahead {
        let (mut poster, next) = (Poster::connect(address).await?, Arc::clone(&next));
        let (delivered, streams) = (Arc::clone(&delivered), u64::from(streams.count));
        reading.spawn(async move {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= events {
                    return Ok(());
                }
                delivered.wait_for((number + 1).saturating_sub(ahead) * streams).await;
                poster.post(first + number).await?;
            }
        });
    }
    while let Some(done) = reading.join_next().await {
        done??;
    }
    Ok(Report::of_all(events * u64::from(streams.count), began.elapsed()))
}

impl Delivered {
    /// Waits until all streams together got so many.
    async fn wait_for(&self, count: u64) {
        loop {
            let mut moved = pin!(self.moved.notified());
            // From here on nothing is missed.
            moved.as_mut().enable();
            if self.count.load(Ordering::Relaxed) >= count {
                return;
            }
            moved.await;
        }
    }
}

async fn count(mut stream: Streaming<Frame>, events: u64, delivered: Arc<Delivered>) -> Result<()> {
    let mut got = 0;
    while got < events {
        let frame = stream.message().await?.ok_or("a stream ended")?;
        let more = frame.events.map_or(0, |batch| batch.events.len() as u64);
        got += more;
        delivered.count.fetch_add(more, Ordering::Relaxed);
        delivered.moved.notify_waiters();
    }
    if got == events { Ok(()) } else { Err("a stream got too much".into()) }
}

pub(super) async fn replay(address: SocketAddr, events: u64) -> Result<Report> {
    let start = v1::subscribe_events_request::Start::Position(v1::Position::Earliest.into());
    let request = v1::SubscribeEventsRequest {
        start: Some(start),
        stop_when_caught_up: true,
        max_batch_events: BATCH_EVENTS,
        ..Default::default()
    };
    let channel = connect(address).await?;
    let began = Instant::now();
    let mut stream = open(channel, request).await?;
    let mut got = 0;
    while let Some(frame) = stream.message().await? {
        got += frame.events.map_or(0, |batch| batch.events.len() as u64);
    }
    if got != events {
        return Err(format!("{got} events came instead of {events}").into());
    }
    Ok(Report::of_all(got, began.elapsed()))
}

/// A subscriber that reads which messages come.
pub(super) struct Numbers {
    stream: Streaming<v1::SubscribeEventsResponse>,
}

impl Numbers {
    pub(super) async fn open(address: SocketAddr) -> Result<Self> {
        let mut client = GatewayServiceClient::new(connect(address).await?);
        let stream = client.subscribe_events(v1::SubscribeEventsRequest::default()).await?.into_inner();
        let mut numbers = Self { stream };
        while !matches!(numbers.frame().await?, Typed::CaughtUp(_)) {}
        Ok(numbers)
    }

    /// Those of the next frame.
    pub(super) async fn next(&mut self) -> Result<Vec<u64>> {
        let Typed::Events(batch) = self.frame().await? else { return Ok(Vec::new()) };
        let subjects =
            batch.events.into_iter().filter_map(|received| received.event).map(|event| event.subject);
        subjects.map(|id| webhook::number_of(&id).ok_or_else(|| "an event has another id".into())).collect()
    }

    async fn frame(&mut self) -> Result<Typed> {
        let frame = self.stream.message().await?.and_then(|response| response.frame);
        frame.ok_or_else(|| "the stream ended".into())
    }
}
