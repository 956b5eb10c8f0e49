//! Everybody comes back at once: 14.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use tokio::sync::{Barrier, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tonic::Code;
use whatsapp_gateway::clock::{Clock as _, SystemClock, unix_ms};
use whatsapp_gateway::contract::v1::subscribe_events_response::Frame;
use whatsapp_gateway::contract::v1::{PayloadView, SubscribeEventsRequest};

use crate::support::checker::Places;
use crate::support::checker::posts::{Load, fill};
use crate::support::gateway::Client;
use crate::support::subscriber::after;
use crate::support::world::{Engine, World};
use crate::support::{Rng, Subscriber, rounds};

on_each_engine! {
    test_14_everybody_comes_back_at_once => super::everybody_comes_back_at_once;
}

/// In which everybody has to be at the end of the log again.
const CAUGHT_UP: Duration = Duration::from_mins(1);
const STREAMS_PER_CONNECTION: u64 = 10;

/// One stream of the herd: reads to its end, then waits up to two seconds as clients are told to, and is caught up when
/// it has come to the end as it was then.
async fn sheep(
    mut client: Client,
    cursor: String,
    places: Places,
    mut rng: Rng,
    started: watch::Receiver<Option<Instant>>,
    opened: Arc<Barrier>,
) -> (Duration, u64) {
    let request = |cursor: &str| SubscribeEventsRequest {
        payload_view: PayloadView::Typed.into(),
        max_batch_events: 256,
        ..after(cursor)
    };
    let stream = Subscriber::open(&mut client, SubscribeEventsRequest::default()).await.unwrap();
    opened.wait().await;
    let status = stream.rest().await.status.expect("it ends loudly");
    assert!(matches!(status.code(), Code::Unavailable), "{status:?}");
    let mut started = started;
    let restarted = started.wait_for(Option::is_some).await.unwrap().unwrap();
    sleep(Duration::from_millis(rng.between(0, 2_000))).await;
    let mut read = 0;
    loop {
        client = places.client(&mut rng).await;
        let mut stream = match Subscriber::try_open(&mut client, request(&cursor)).await {
            Ok(stream) => stream,
            Err(status) => {
                assert_eq!(status.code(), Code::Unavailable, "{status:?}");
                continue;
            }
        };
        loop {
            match stream.next_frame().await {
                Ok(Some(Frame::Events(batch))) => read += batch.events.len() as u64,
                Ok(Some(Frame::CaughtUp(_))) => return (restarted.elapsed(), read),
                Ok(Some(_)) => {}
                ended => panic!("it ends before it has caught up: {ended:?}"),
            }
        }
    }
}

/// How many connections wait to be accepted at this port.
fn waiting(port: u16) -> u64 {
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let wanted = format!("0100007F:{port:04X}");
    let listening = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let mut found = listening.filter(|words| words.get(1) == Some(&wanted.as_str()) && words[3] == "0A");
    found.next().map_or(0, |words| u64::from_str_radix(words[4].split_once(':').unwrap().1, 16).unwrap())
}

/// Notes how late an event came at most, since it was stored.
async fn watch_the_tail(mut client: Client, slowest_ms: Arc<AtomicU64>) {
    let mut live = Subscriber::open(&mut client, SubscribeEventsRequest::default()).await.unwrap();
    while let Ok(events) = live.events().await {
        let now = SystemClock.now_ms();
        for stored in events.into_iter().filter_map(|event| event.receive_time) {
            let stored = unix_ms(SystemTime::try_from(stored).unwrap());
            slowest_ms.fetch_max(now.saturating_sub(stored), Ordering::SeqCst);
        }
    }
}

async fn everybody_comes_back_at_once(engine: Engine) {
    let (streams, old) = (rounds(300, 5_000), rounds(2_000, 100_000));
    let mut rng = Rng::seeded(2_026_112_214);
    let Some(mut world) = World::one(engine).await else { return };
    fill(world.gateway(), 4, 50, old / 200).await;
    let cursors: Vec<_> = world.gateway().events().await.into_iter().map(|event| event.cursor).collect();
    let (begin, started) = watch::channel(None);
    let opened = Arc::new(Barrier::new(usize::try_from(streams).unwrap() + 1));
    let (mut herd, mut client) = (JoinSet::new(), world.gateway().client().await);
    for number in 0..streams {
        if number % STREAMS_PER_CONNECTION == 0 {
            client = world.gateway().client().await;
        }
        // Most are a little behind, some have everything before them.
        let behind = (0..8).map(|_| rng.between(0, cursors.len() as u64 - 1)).min().unwrap();
        let behind = usize::try_from(behind).unwrap();
        let cursor = cursors[cursors.len() - 1 - behind].clone();
        let (places, rng) = (world.places.clone(), Rng::new(rng.next()));
        herd.spawn(sheep(client.clone(), cursor, places, rng, started.clone(), Arc::clone(&opened)));
    }
    timeout(CAUGHT_UP, opened.wait()).await.expect("streams do not open");
    world.restart_in_order(0).await;
    begin.send_replace(Some(Instant::now()));

    // One who is at the tail meanwhile, and how late it is.
    let load = Load::start(&world.places, 1, 1, Some(20));
    let lag = Arc::new(AtomicU64::new(0));
    let mut watching = JoinSet::new();
    watching.spawn(watch_the_tail(world.gateway().client().await, Arc::clone(&lag)));
    let port: u16 = world.gateway().address("grpc").rsplit_once(':').unwrap().1.parse().unwrap();
    let (mut times, mut read, mut queued) = (Vec::new(), 0, 0);
    while !herd.is_empty() {
        tokio::select! {
            joined = herd.join_next() => {
                let (time, events) = joined.unwrap().unwrap();
                times.push(time);
                read += events;
            }
            () = sleep(Duration::from_millis(5)) => queued = queued.max(waiting(port)),
        }
    }
    times.sort();
    load.more(5).await;
    load.end("herd").await;
    watching.shutdown().await;
    let (median, last, lag) = (times[times.len() / 2], times[times.len() - 1], lag.load(Ordering::SeqCst));
    eprintln!(
        "{engine:?}: {streams} streams came back over {read} events: median {median:.1?}, last {last:.1?}; at the tail up to \
         {lag} ms late; up to {queued} connections waited to be accepted"
    );
    assert!(last < CAUGHT_UP, "{last:?}");
    assert!(queued < 1_024, "the queue of the listener is full");
    // Two seconds where the machine has time for it.
    assert!(lag < 5_000, "{lag} ms");
}
