//! Several gateways on one prefix, killed and starved while everything runs: 28, 29, and all at once.

use std::time::Duration;

use tokio::task::block_in_place;
use tokio::time::{Instant, sleep};

use super::brokers::Everything;
use crate::support::checker::posts::fill;
use crate::support::jetstream::is_current;
use crate::support::proxy::Proxy;
use crate::support::subscriber::{from_earliest, position};
use crate::support::world::{Engine, World};
use crate::support::{Rng, Subscriber, rounds};

/// Between two looks at what is expected.
const LOOK: Duration = Duration::from_millis(50);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn test_28_the_leader_is_killed_and_its_subscriptions_go_on() {
    let Some(mut world) = World::of(Engine::Nats, 3, &[]).await else { return };
    let everything = Everything::start(&world).await;
    let mut longest = Duration::ZERO;
    for _ in 0..rounds(2, 20) {
        let deadline = Instant::now() + Duration::from_secs(20);
        let leader = loop {
            assert!(Instant::now() < deadline, "nobody leads");
            match world.leader().await {
                Some(leader) => break leader,
                None => sleep(LOOK).await,
            }
        };
        let before = everything.group.done();
        world.at_mut(leader).kill().await;
        let killed = Instant::now();
        // What was answered before the kill is noted by then; what comes now is of the next leader.
        everything.group.until_done(before + 100).await;
        longest = longest.max(killed.elapsed());
        world.start_again(leader).await;
    }
    eprintln!("28: 100 events more are done {longest:.1?} after the leader was killed, at the longest");
    // A lease of three seconds, and five; a test build on a busy machine has as much again.
    assert!(longest < Duration::from_secs(16), "{longest:?}");
    everything.judge("28", &world).await;
    all_live(&mut world);
}

/// Gateways do not serve different logs.
pub(super) async fn all_serve_one_log(world: &World) {
    let first = world.at(0).log_of_messages().await;
    for index in 1..world.count() {
        assert_eq!(world.at(index).log_of_messages().await, first, "gateways serve different logs");
    }
}

/// Nobody has ended who was not killed.
pub(super) fn all_live(world: &mut World) {
    for index in 0..world.count() {
        let status = world.at_mut(index).child.try_wait().unwrap();
        assert!(status.is_none(), "{status:?}: {}", world.at(index).log());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn test_29_a_tail_that_was_starved_goes_on_without_gaps() {
    let Some(mut world) = World::one(Engine::Nats).await else { return };
    let proxy = Proxy::to(world.servers[0].url().trim_start_matches("nats://")).await;
    let starved = world.join_through(&format!("nats://{}", proxy.address)).await;
    let mut client = starved.gateway.client().await;
    let mut stream = Subscriber::open(&mut client, from_earliest()).await.unwrap();
    let mut seen = Vec::new();
    // In the long form also for so long that the connection counts as lost.
    for (round, seconds) in (0..rounds(1, 8)).map(|round| (round, if round % 2 == 0 { 3 } else { 15 })) {
        proxy.freeze();
        let until = Instant::now() + Duration::from_secs(seconds);
        while Instant::now() < until {
            // Others go on; what is posted again is known.
            fill(world.gateway(), 1, 10, 1).await;
            let body = crate::support::webhook::text(&format!("wamid.late.{round}"), "16505551234", "Hi");
            assert_eq!(world.gateway().post_webhook(body.to_string()).await, 200);
            sleep(LOOK).await;
        }
        proxy.thaw();
        let thawed = Instant::now();
        let log = world.gateway().events().await;
        while seen.len() < log.len() {
            seen.extend(stream.take(1).await.unwrap());
        }
        let took = thawed.elapsed();
        eprintln!("29: starved for {seconds} s, at the end of the log again after {took:.1?}");
        assert!(took < Duration::from_secs(10), "{took:?}");
        assert_eq!(seen, log, "it has a gap");
        assert!(seen.windows(2).all(|pair| position(&pair[0].cursor) < position(&pair[1].cursor)));
    }
}

/// Who has lost the lease ends, and so does who cannot take the lead up; Kubernetes would start it again. Returns how many.
async fn start_again_who_ended(world: &mut World) -> u64 {
    let mut ended = 0;
    for index in 0..world.count() {
        if let Some(status) = world.at_mut(index).child.try_wait().unwrap() {
            let log = world.at(index).log();
            assert!(matches!(status.code(), Some(1 | 74)), "{status:?}: {log}");
            let why = log.lines().rfind(|line| line.contains("\"ERROR\""));
            eprintln!("one ended by itself, {status}: {}", why.unwrap_or_default());
            world.start_again(index).await;
            ended += 1;
        }
    }
    ended
}

/// Waits until one leads, and nobody else thinks so.
pub(super) async fn until_one_leads(world: &mut World) {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        start_again_who_ended(world).await;
        let mut leaders = 0;
        for index in 0..world.count() {
            leaders += world.at(index).try_metric("whatsapp_gateway_leads").await.unwrap_or(2);
        }
        if leaders == 1 {
            return;
        }
        assert!(Instant::now() < deadline, "{leaders} lead");
        sleep(LOOK).await;
    }
}

/// Kills gateways and servers in turn until the time is over, and starts again what ends by itself.
async fn storm(world: &mut World, lasts: Duration, rng: &mut Rng) -> (u64, u64, u64) {
    const GATEWAYS: Duration = Duration::from_secs(5);
    const SERVERS: Duration = Duration::from_secs(20);
    let started = Instant::now();
    let (mut next_gateway, mut next_server) = (started + GATEWAYS, started + SERVERS / 4);
    let (mut gateways, mut servers, mut by_themselves) = (0, 0, 0);
    while started.elapsed() < lasts {
        sleep(LOOK).await;
        by_themselves += start_again_who_ended(world).await;
        if Instant::now() >= next_gateway {
            let index = usize::try_from(rng.between(0, 2)).unwrap();
            world.restart(index).await;
            next_gateway += GATEWAYS;
            gateways += 1;
        }
        if Instant::now() >= next_server && is_current(&world.servers).await {
            let index = usize::try_from(rng.between(0, 2)).unwrap();
            world.servers[index].kill();
            block_in_place(|| world.servers[index].restart());
            next_server = Instant::now() + SERVERS;
            servers += 1;
        }
    }
    (gateways, servers, by_themselves)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_gateways_and_all_servers_under_fire() {
    let mut rng = Rng::seeded(2_026_112_228);
    let lasts = Duration::from_secs(rounds(11, 120));
    let Some(mut world) = World::of(Engine::Cluster, 3, &[]).await else { return };
    // 300 events in a second are offered, 2,000 in the long form.
    let everything = Everything::of(&world, rounds(10, 40), rounds(30, 50)).await;
    let (gateways, servers, by_themselves) = storm(&mut world, lasts, &mut rng).await;
    eprintln!(
        "{gateways} gateways and {servers} servers were killed, {by_themselves} gateways ended by themselves"
    );
    assert!(gateways > 1 && servers > 0);
    everything.go_on().await;
    everything.judge("all", &world).await;
    all_live(&mut world);
    all_serve_one_log(&world).await;
}
