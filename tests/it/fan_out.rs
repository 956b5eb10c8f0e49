//! One event for a thousand streams, and streams that never read beside others that do.

use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};
use tonic::Code;
use tonic_types::StatusExt as _;
use whatsapp_gateway::contract::v1::gateway_service_client::GatewayServiceClient;
use whatsapp_gateway::contract::v1::{ClosingReason, Event, PayloadView, SubscribeEventsRequest};

use crate::eventually;
use crate::support::gateway::Client;
use crate::support::subscriber::after;
use crate::support::webhook::text;
use crate::support::{Gateway, Subscriber, rounds};

const USER: &str = "16505551234";
const STREAMS_PER_CONNECTION: usize = 100;
const STUCK: usize = 50;
/// Those of them that read again soon after they were closed.
const WAKING: usize = 10;
const HEALTHY: usize = 10;
/// Enough to fill what stands between the gateway and a subscriber that does not read.
const EVENTS: usize = 100;

async fn post(gateway: &Gateway, id: &str, body: &str) {
    assert_eq!(gateway.post_webhook(text(id, USER, body).to_string()).await, 200);
}

fn median_and_max(mut times: Vec<Duration>) -> (Duration, Duration) {
    times.sort();
    (times[times.len() / 2], times[times.len() - 1])
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_idle_streams_get_one_event() {
    let count = usize::try_from(rounds(1_000, 5_000)).unwrap();
    let gateway = Gateway::dev().await;
    post(&gateway, "wamid.before", "Hi").await;
    let before = gateway.resident_bytes();
    let mut opening = JoinSet::new();
    for _ in 0..count / STREAMS_PER_CONNECTION {
        let mut client = gateway.client().await;
        opening.spawn(async move {
            let mut streams = Vec::new();
            for _ in 0..STREAMS_PER_CONNECTION {
                let opened = Subscriber::open(&mut client, SubscribeEventsRequest::default()).await;
                streams.push(opened.unwrap());
            }
            streams
        });
    }
    let streams: Vec<_> = opening.join_all().await.into_iter().flatten().collect();
    assert_eq!(streams.len(), count);
    let idle = gateway.resident_bytes().saturating_sub(before);

    let mut reading = JoinSet::new();
    let posted = Instant::now();
    for mut stream in streams {
        reading.spawn(async move {
            let events = stream.take(1).await.unwrap();
            (posted.elapsed(), events, stream)
        });
    }
    post(&gateway, "wamid.one", "Hi").await;
    let mut times = Vec::new();
    for (time, events, _stream) in reading.join_all().await {
        assert_eq!(events.len(), 1);
        assert_eq!(events[0].subject, "wamid.one");
        times.push(time);
    }
    let (median, max) = median_and_max(times);
    let bytes_each = idle / count;
    eprintln!(
        "{count} idle streams: {bytes_each} bytes each; one event for all: median {median:?}, last {max:?}"
    );
    // Generous: debug builds are large and slow. A buffer of its own for each stream would show all the same.
    assert!(bytes_each < 100 * 1024, "{bytes_each} bytes for each of {count} streams");
    assert!(max < Duration::from_secs(10), "{max:?}");
}

/// A client that gives the gateway little room to write ahead.
async fn narrow_client(gateway: &Gateway) -> Client {
    let endpoint =
        gateway.endpoint().initial_stream_window_size(65_535).initial_connection_window_size(65_535);
    GatewayServiceClient::new(endpoint.connect().await.unwrap())
}

fn typed(request: SubscribeEventsRequest) -> SubscribeEventsRequest {
    SubscribeEventsRequest { payload_view: PayloadView::Typed.into(), ..request }
}

fn ids(events: &[Event]) -> Vec<&str> {
    events.iter().map(|event| event.subject.as_str()).collect()
}

/// Posts event after event and returns how long each took to all who read. The next is posted when all have the last.
async fn deliver(gateway: &Gateway, prefix: &str, healthy: &mut [Subscriber]) -> Vec<Duration> {
    let body = "x".repeat(32 * 1024);
    let mut times = Vec::new();
    for number in 0..EVENTS {
        let id = format!("{prefix}.{number}");
        let started = Instant::now();
        post(gateway, &id, &body).await;
        for stream in &mut *healthy {
            assert_eq!(ids(&stream.take(1).await.unwrap()), [id.as_str()]);
        }
        times.push(started.elapsed());
    }
    times
}

fn closed_as_slow(gateway: &Gateway) -> usize {
    gateway
        .log()
        .lines()
        .filter(|line| line.contains("stream closes") && line.contains("SlowConsumer"))
        .count()
}

fn cut(gateway: &Gateway) -> usize {
    gateway.log().matches("its connection is cut").count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_that_never_read_delay_nobody_and_lose_nothing() {
    let gateway = Gateway::builder().env("WHATSAPP_GATEWAY__EVENTS__SEND_TIMEOUT", "1 s").start().await;
    let mut healthy = Vec::new();
    for _ in 0..HEALTHY {
        let request = typed(SubscribeEventsRequest::default());
        healthy.push(Subscriber::open(&mut gateway.client().await, request).await.unwrap());
    }
    let alone = median_and_max(deliver(&gateway, "alone", &mut healthy).await);

    let mut stuck = Vec::new();
    for _ in 0..STUCK {
        let mut client = narrow_client(&gateway).await;
        stuck.push(Subscriber::open(&mut client, SubscribeEventsRequest::default()).await.unwrap());
    }
    let times = deliver(&gateway, "beside", &mut healthy).await;
    let beside = median_and_max(times.clone());
    eprintln!(
        "delivery alone: median {:?}, max {:?}; beside {STUCK} stuck streams: median {:?}, max {:?}",
        alone.0, alone.1, beside.0, beside.1
    );
    // Waiting for stuck streams would cost event after event a send timeout. One hiccup of a busy machine is none.
    assert!(beside.0 < alone.0 * 5 + Duration::from_millis(100), "{alone:?} {beside:?}");
    let late = times.iter().filter(|time| **time > alone.1 + Duration::from_millis(500)).count();
    assert!(late <= EVENTS / 20, "{late} late of {times:?}");

    // All of them are closed. Those who read again learn why, and from where to go on.
    eventually!(closed_as_slow(&gateway) == STUCK);
    let asleep = stuck.split_off(WAKING);
    let everything: Vec<_> = (0..EVENTS).map(|number| format!("beside.{number}")).collect();
    for stream in stuck {
        let rest = stream.rest().await;
        let closing = rest.closing.expect("a closing frame");
        assert_eq!(closing.reason(), ClosingReason::SlowConsumer);
        let status = rest.status.unwrap();
        assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
        let info = status.get_details_error_info().unwrap();
        assert_eq!(info.reason, "SLOW_CONSUMER");
        assert_eq!(info.metadata["resume_cursor"], closing.resume_cursor);
        assert!(rest.events.len() < EVENTS, "it was not stuck");
        check_rest(&gateway, &rest.events, &closing.resume_cursor, &everything).await;
    }
    // The others lose their connections, and go on from what they have.
    eventually!(cut(&gateway) == STUCK - WAKING);
    for stream in asleep {
        let start = stream.opened.start_cursor.clone();
        let rest = timeout(Duration::from_secs(10), stream.rest()).await.unwrap();
        let status = rest.status.expect("a cut connection is no success");
        assert!(matches!(status.code(), Code::Unknown | Code::Unavailable | Code::Internal), "{status:?}");
        let cursor = rest.events.last().map_or(start, |event| event.cursor.clone());
        check_rest(&gateway, &rest.events, &cursor, &everything).await;
    }
    assert_eq!(closed_as_slow(&gateway), STUCK, "and nobody else");
    // The healthy are there still.
    post(&gateway, "wamid.last", "Hi").await;
    for stream in &mut healthy {
        assert_eq!(ids(&stream.take(1).await.unwrap()), ["wamid.last"]);
    }
    assert_eq!(gateway.events().await.len(), 2 * EVENTS + 1);
}

/// What came before the end and what comes after the cursor is everything, once.
async fn check_rest(gateway: &Gateway, seen: &[Event], cursor: &str, everything: &[String]) {
    let request = typed(SubscribeEventsRequest { stop_when_caught_up: true, ..after(cursor) });
    let rest = Subscriber::open(&mut gateway.client().await, request).await.unwrap().rest().await;
    assert!(rest.status.is_none(), "{:?}", rest.status);
    let all = [ids(seen), ids(&rest.events)].concat();
    assert_eq!(all, everything);
}
