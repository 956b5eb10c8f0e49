//! Streams that are cut, rotated, drained, frozen and not read: 13, 15, 19, 20.

use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tonic::transport::Endpoint;
use whatsapp_gateway::contract::v1::gateway_service_client::GatewayServiceClient;
use whatsapp_gateway::contract::v1::{ClosingReason, SubscribeEventsRequest};

use crate::eventually;
use crate::support::checker::posts::{Load, Poster};
use crate::support::checker::tail::{Followed, Storing, follow};
use crate::support::checker::verdicts::{assert_none, of_follower, of_log};
use crate::support::checker::{Place, Places};
use crate::support::gateway::Client;
use crate::support::proxy::Proxy;
use crate::support::subscriber::after;
use crate::support::world::{Engine, World};
use crate::support::{Gateway, Rng, Subscriber, is_short, rounds, webhook};

on_each_engine! {
    test_13_who_does_not_read_delays_nobody => super::who_does_not_read_delays_nobody;
    test_15_a_stream_cut_at_any_byte_goes_on_exactly => super::a_stream_cut_at_any_byte_goes_on_exactly;
    test_19_rotation_and_drain_miss_nothing => super::rotation_and_drain_miss_nothing;
    test_20_a_peer_that_is_gone_is_let_go => super::a_peer_that_is_gone_is_let_go;
}

const FOLLOWERS: u64 = 100;

/// Lets followers come to the end of the log, and holds log and followers against each other.
pub(super) async fn check(
    what: &str,
    gateway: &Gateway,
    posters: &[Poster],
    goal: watch::Sender<Option<u64>>,
    followers: JoinSet<Followed>,
) -> Vec<Followed> {
    let log = gateway.log_of_messages().await;
    assert_none(what, &of_log(posters, &log));
    goal.send_replace(log.last().map(|last| last.position));
    let followers = tokio::time::timeout(Duration::from_mins(rounds(1, 5)), followers.join_all()).await;
    let followers = followers.expect("a follower does not come to the end");
    for followed in &followers {
        assert_none(what, &of_follower(&followed.segments, &log));
    }
    followers
}

async fn a_stream_cut_at_any_byte_goes_on_exactly(engine: Engine) {
    let mut rng = Rng::seeded(2_026_112_215);
    let Some(world) = World::one(engine).await else { return };
    let proxy = Proxy::to(world.gateway().address("grpc")).await;
    proxy.cut_after(Rng::new(rng.next()), 50, 60_000);
    let through = Places::default();
    through.set(0, Place { grpc: proxy.address.to_string(), webhook_url: String::new() });
    let (goal, at) = watch::channel(None);
    let load = Load::start(&world.places, 4, 5, Some(60));
    let mut followers = JoinSet::new();
    for _ in 0..4 {
        followers.spawn(follow(through.clone(), rng.next(), Storing(20), at.clone()));
    }
    let cuts = rounds(100, 1_000);
    let deadline = Instant::now() + Duration::from_secs(2 * cuts);
    while proxy.cuts() < cuts {
        assert!(Instant::now() < deadline, "only {} cuts", proxy.cuts());
        load.more(1).await;
    }
    let posters = load.end("cut at random bytes").await;
    proxy.spare();
    let followers = check("15", world.gateway(), &posters, goal, followers).await;
    let read: usize = followers.iter().flat_map(|f| &f.segments).map(|segment| segment.read.len()).sum();
    eprintln!("{engine:?}: {} cuts, {read} events read by {} followers", proxy.cuts(), followers.len());
}

async fn rotation_and_drain_miss_nothing(engine: Engine) {
    // The engine makes no difference here, so the short form tries one.
    if is_short() && engine == Engine::Nats {
        return;
    }
    let rotations = rounds(1, 20);
    let Some(mut world) = World::of(engine, 1, &[("EVENTS__ROTATION", "3 s")]).await else { return };
    let (goal, at) = watch::channel(None);
    let load = Load::start(&world.places, 4, 2, Some(40));
    let mut followers = JoinSet::new();
    for seed in 0..FOLLOWERS {
        followers.spawn(follow(world.places.clone(), seed, Storing(1), at.clone()));
    }
    let rotated = "whatsapp_gateway_event_streams_closed_total{reason=\"rotated\"}";
    let deadline = Instant::now() + Duration::from_secs(10 * rotations);
    while world.gateway().metric(rotated).await < rotations * FOLLOWERS {
        assert!(Instant::now() < deadline, "streams are not rotated");
        load.more(4).await;
    }
    // In the middle of it all.
    world.restart_in_order(0).await;
    load.more(40).await;
    let posters = load.end("rotation and drain").await;
    let followers = check("19", world.gateway(), &posters, goal, followers).await;

    let of = |followed: &Followed, reason: ClosingReason| {
        followed.closings.iter().filter(|closing| closing.reason() == reason).count() as u64
    };
    let ends = |followed: &Followed, end: &str| followed.ends.get(end).copied().unwrap_or_default();
    let mut waits: Vec<Duration> = Vec::new();
    let mut rotated_once = 0;
    for followed in &followers {
        // What is told to go is UNAVAILABLE, and nobody goes who was not told; but for connections that come when the port
        // is closed already.
        let (told, drained) = (of(followed, ClosingReason::Rotation), of(followed, ClosingReason::Draining));
        assert_eq!(ends(followed, "Unavailable STREAM_ROTATED"), told, "{:?}", followed.ends);
        assert_eq!(ends(followed, "Unavailable SERVER_DRAINING"), drained, "{:?}", followed.ends);
        let others =
            followed.ends.keys().filter(|end| !end.contains("STREAM_ROTATED") && !end.contains("DRAINING"));
        assert!(others.into_iter().all(|end| end.ends_with("without a reason")), "{:?}", followed.ends);
        rotated_once += u64::from(told > 0);
        let drained = followed.closings.iter().filter(|closing| closing.reason() == ClosingReason::Draining);
        waits.extend(drained.map(|closing| Duration::try_from(closing.reconnect_after.unwrap()).unwrap()));
    }
    assert_eq!(rotated_once, FOLLOWERS);
    assert!(waits.len() as u64 >= FOLLOWERS * 9 / 10, "{} streams were told of the drain", waits.len());
    waits.sort();
    let spread = waits.last().unwrap().saturating_sub(waits[0]);
    eprintln!("{engine:?}: {FOLLOWERS} streams, told to come back within {spread:?} of each other");
    assert!(spread >= Duration::from_millis(1_600), "80 % of two seconds: {spread:?}");
}

/// A client that has little room, so that a few large events are enough to fill it.
async fn narrow(address: &str) -> Client {
    let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap();
    let endpoint = endpoint.initial_stream_window_size(65_535).initial_connection_window_size(65_535);
    GatewayServiceClient::new(endpoint.connect().await.unwrap())
}

async fn post(gateway: &Gateway, id: &str, bytes: usize) {
    assert_eq!(
        gateway.post_webhook(webhook::text(id, "16505551234", &"x".repeat(bytes)).to_string()).await,
        200
    );
}

fn streams(gateway: &Gateway) -> impl Future<Output = u64> {
    gateway.metric("whatsapp_gateway_event_streams")
}

/// With events it is the time of a slow consumer; in silence, in the long form, the pings that are not answered.
async fn a_peer_that_is_gone_is_let_go(engine: Engine) {
    // The engine makes no difference here, so the short form tries one.
    if is_short() && engine == Engine::Nats {
        return;
    }
    let Some(world) = World::of(engine, 1, &[("EVENTS__SEND_TIMEOUT", "1 s")]).await else { return };
    let gateway = world.gateway();
    let proxy = Proxy::to(gateway.address("grpc")).await;
    let mut there =
        Subscriber::open(&mut gateway.client().await, SubscribeEventsRequest::default()).await.unwrap();
    let silences: &[bool] = if is_short() { &[false] } else { &[false, true] };
    for silence in silences {
        let mut client = narrow(&proxy.address.to_string()).await;
        let gone = Subscriber::open(&mut client, SubscribeEventsRequest::default()).await.unwrap();
        eventually!(streams(gateway).await == 2);
        proxy.freeze();
        let started = Instant::now();
        for number in 0..if *silence { 0 } else { 20 } {
            post(gateway, &format!("wamid.{number}"), 60_000).await;
            assert_eq!(there.take(1).await.unwrap().len(), 1, "who is there is served");
        }
        let limit = Duration::from_secs(if *silence { 45 } else { 10 });
        while streams(gateway).await == 2 {
            assert!(started.elapsed() < limit, "it is held still");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        eprintln!("{engine:?}: let go after {:.1?}, in silence: {silence}", started.elapsed());
        proxy.cut();
        proxy.thaw();
        drop(gone);
    }
    post(gateway, "wamid.last", 10).await;
    assert_eq!(there.take(1).await.unwrap()[0].subject, "wamid.last");
}

/// One that reads beside one that does not, on the same connection: it is held up until the end of the other one, which may be
/// that of the connection. What it has read by then, and where to go on if it was cut off.
async fn sibling(mut stream: Subscriber) -> (Vec<String>, Option<String>) {
    let (mut read, mut cursor) = (Vec::new(), stream.opened.start_cursor.clone());
    while let Ok(events) = stream.events().await {
        cursor = events.last().map_or(cursor, |event| event.cursor.clone());
        read.extend(events.into_iter().map(|event| event.subject));
        if read.last().is_some_and(|last| last == "wamid.last") {
            return (read, None);
        }
    }
    (read, Some(cursor))
}

async fn live(client: &mut Client) -> Subscriber {
    Subscriber::open(client, SubscribeEventsRequest::default()).await.unwrap()
}

/// Streams that never read, some of them beside one that reads on the same connection.
async fn who_does_not_read_delays_nobody(engine: Engine) {
    const EVENTS: u64 = 40;
    // The engine makes no difference here, so the short form tries one.
    if is_short() && engine == Engine::Nats {
        return;
    }
    let (healthy, stuck, shared) = (rounds(20, 1_750), rounds(20, 200), rounds(5, 50));
    let Some(world) = World::of(engine, 1, &[("EVENTS__SEND_TIMEOUT", "2 s")]).await else { return };
    let gateway = world.gateway();
    let (mut reading, mut client) = (Vec::new(), gateway.client().await);
    for number in 0..healthy {
        if number % 50 == 0 {
            client = gateway.client().await;
        }
        reading.push(live(&mut client).await);
    }
    let alone = deliver(gateway, &mut reading, "alone", EVENTS).await;
    let before = gateway.resident_bytes();
    let (mut silent, mut siblings) = (Vec::new(), JoinSet::new());
    for number in 0..stuck + shared {
        let mut client = narrow(gateway.address("grpc")).await;
        silent.push(live(&mut client).await);
        if number < shared {
            siblings.spawn(sibling(live(&mut client).await));
        }
    }
    let beside = deliver(gateway, &mut reading, "beside", EVENTS).await;
    eprintln!(
        "{engine:?}: {healthy} streams, delivery alone {alone:?}, beside {stuck} + {shared} that never read {beside:?}"
    );
    // Waiting for one that does not read would cost each event two seconds.
    assert!(beside.0 < alone.0 * 5 + Duration::from_millis(100), "{alone:?} {beside:?}");
    let (slow, started) =
        ("whatsapp_gateway_event_streams_closed_total{reason=\"slow_consumer\"}", Instant::now());
    while gateway.metric(slow).await < stuck + shared {
        assert!(started.elapsed() < Duration::from_secs(35), "those who never read are held still");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    post(gateway, "wamid.last", 10).await;
    let mut all: Vec<_> = (0..EVENTS).map(|number| format!("wamid.beside.{number}")).collect();
    all.push("wamid.last".to_owned());
    let mut cut = 0;
    for (mut read, rest) in siblings.join_all().await {
        if let Some(cursor) = rest {
            cut += 1;
            let request = SubscribeEventsRequest { stop_when_caught_up: true, ..after(&cursor) };
            let rest = Subscriber::open(&mut gateway.client().await, request).await.unwrap().rest().await;
            read.extend(rest.events.into_iter().map(|event| event.subject));
        }
        assert_eq!(read, all, "beside one that does not read nothing is lost");
    }
    drop(silent);
    for stream in &mut reading {
        assert_eq!(stream.take(1).await.unwrap()[0].subject, "wamid.last");
    }
    eventually!(streams(gateway).await <= healthy + shared - cut);
    let now = gateway.resident_bytes();
    eprintln!(
        "{} MiB before, {} MiB after; {cut} siblings were cut off and went on",
        before >> 20,
        now >> 20
    );
    // What the allocator keeps of the large events is not counted, for which it has a while.
    assert!(is_short() || now < before + before / 10 + (64 << 20), "{before} {now}");
}

/// Posts event after event; how long they took to everybody: median and longest.
async fn deliver(
    gateway: &Gateway,
    reading: &mut [Subscriber],
    prefix: &str,
    count: u64,
) -> (Duration, Duration) {
    let mut times = Vec::new();
    for number in 0..count {
        let (id, started) = (format!("wamid.{prefix}.{number}"), Instant::now());
        post(gateway, &id, 32 * 1024).await;
        for stream in &mut *reading {
            assert_eq!(stream.take(1).await.unwrap()[0].subject, id);
        }
        times.push(started.elapsed());
    }
    times.sort();
    (times[times.len() / 2], times[times.len() - 1])
}
