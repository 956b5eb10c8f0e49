//! NATS servers that are killed, stopped and cut off while everything runs: 25, 26, 27.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::{JoinSet, block_in_place};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status};
use whatsapp_gateway::contract::v1::GetSubscriptionRequest;

use super::cluster::{all_live, all_serve_one_log, until_one_leads};
use super::groups::{HELD, three_seconds};
use super::streams::check;
use crate::support::checker::group::{Group, diligent};
use crate::support::checker::posts::Load;
use crate::support::checker::tail::{Followed, Storing, follow};
use crate::support::checker::verdicts::{Answer, Delivery, assert_none, of_done, of_group};
use crate::support::jetstream::{leader, until_current};
use crate::support::routes::Routes;
use crate::support::world::{Engine, World};
use crate::support::{Rng, is_short, rounds};

/// Webhooks, followers and workers, all at once.
pub(super) struct Everything {
    pub(super) load: Load,
    goal: watch::Sender<Option<u64>>,
    followers: JoinSet<Followed>,
    pub(super) group: Group,
    stop: CancellationToken,
    workers: JoinSet<u64>,
}

impl Everything {
    pub(super) async fn start(world: &World) -> Self {
        Self::of(world, 3, 200).await
    }

    /// With so many events in a post, and posts in a second.
    pub(super) async fn of(world: &World, width: u64, per_second: u64) -> Self {
        world.gateway().subscription(three_seconds("orders")).await;
        let (goal, at) = watch::channel(None);
        let mut followers = JoinSet::new();
        for seed in 0..3 {
            followers.spawn(follow(world.places.clone(), seed, Storing(5), at.clone()));
        }
        let group = Group::new("orders", &world.places, diligent());
        let stop = CancellationToken::new();
        let workers = group.work(4, &stop);
        let load = Load::start(&world.places, 8, width, Some(per_second));
        load.more(20).await;
        Self { load, goal, followers, group, stop, workers }
    }

    /// Lets it go on until something is acknowledged that was begun from now on.
    pub(super) async fn go_on(&self) -> Duration {
        let started = Instant::now();
        // More than all posters can have under way.
        self.load.more(9).await;
        started.elapsed()
    }

    /// Sees that nothing is acknowledged while there is no quorum.
    async fn nothing_more(&self) {
        let counts = &self.load.counts;
        let wait_for = async |more: u64| {
            let goal = counts.refused.load(Ordering::SeqCst) + more;
            let deadline = Instant::now() + Duration::from_secs(30);
            while counts.refused.load(Ordering::SeqCst) < goal {
                assert!(Instant::now() < deadline, "posts are neither acknowledged nor refused");
                sleep(Duration::from_millis(10)).await;
            }
        };
        // Who was under way is refused in time, so that nobody's old answer is counted.
        wait_for(16).await;
        let acknowledged = counts.acknowledged.load(Ordering::SeqCst);
        wait_for(100).await;
        assert_eq!(counts.acknowledged.load(Ordering::SeqCst), acknowledged, "200 without a quorum");
    }

    /// Ends it, and holds everything against everything.
    pub(super) async fn judge(self, number: &str, world: &World) {
        let posters = self.load.end(number).await;
        let ended = Instant::now();
        let before = self.group.done();
        check(number, world.gateway(), &posters, self.goal, self.followers).await;
        let log = world.gateway().log_of_messages().await;
        let deadline = Instant::now() + Duration::from_secs(rounds(30, 300));
        loop {
            match backlog(world).await {
                Ok(0) => break,
                Ok(left) => assert!(Instant::now() < deadline, "{left} events are not done"),
                Err(status) => {
                    assert_eq!(status.code(), Code::Unavailable, "{status:?}");
                    assert!(Instant::now() < deadline, "{status:?}");
                    eprintln!("{number}: {}", status.message());
                }
            }
            sleep(Duration::from_millis(50)).await;
        }
        let took = ended.elapsed();
        self.stop.cancel();
        self.workers.join_all().await;
        let journal = self.group.journal();
        assert_none(number, &of_group(&journal, HELD));
        assert_none(number, &of_done(&journal, &log));
        eprintln!(
            "{number}: {} events in the log, {} deliveries to workers; {before} were done when the posts ended, and all {took:.1?} \
             later; longest time in which none was done {} ms",
            log.len(),
            journal.len(),
            longest_pause(&journal),
        );
    }
}

/// The longest time between two answers that something is done, in milliseconds.
fn longest_pause(journal: &[Delivery]) -> u64 {
    let answered = journal.iter().filter_map(|delivery| match delivery.answer {
        Answer::Done { answered, .. } => Some(answered),
        Answer::None | Answer::Unknown { .. } | Answer::NotDone { .. } | Answer::Refused { .. } => None,
    });
    let mut answered: Vec<_> = answered.collect();
    answered.sort_unstable();
    answered.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or_default()
}

async fn backlog(world: &World) -> Result<u64, Status> {
    let request = GetSubscriptionRequest { name: "orders".to_owned() };
    let told = world.gateway().subscriptions().await.get_subscription(request).await?.into_inner();
    Ok(told.subscription.unwrap().backlog_estimate)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn test_25_the_only_server_is_killed() {
    let Some(mut world) = World::one(Engine::Nats).await else { return };
    let everything = Everything::start(&world).await;
    for _ in 0..rounds(2, 30) {
        world.servers[0].kill();
        let refused = everything.load.counts.refused.load(Ordering::SeqCst);
        while everything.load.counts.refused.load(Ordering::SeqCst) < refused + 10 {
            sleep(Duration::from_millis(10)).await;
        }
        block_in_place(|| world.servers[0].restart());
        let away = everything.go_on().await;
        assert!(away < Duration::from_secs(10), "{away:?}");
    }
    everything.judge("25", &world).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn test_25_the_servers_of_a_cluster_are_killed_one_by_one() {
    let Some(mut world) = World::one(Engine::Cluster).await else { return };
    let everything = Everything::start(&world).await;
    let mut longest = Duration::ZERO;
    for round in 0..rounds(1, 30) {
        until_current(&world.servers).await;
        // The one that leads first: that is the one that costs an election.
        let index =
            if round == 0 { leader(&world.servers).await } else { usize::try_from(round % 3).unwrap() };
        world.servers[index].kill();
        longest = longest.max(everything.go_on().await);
        // An election takes the servers 4 to 9 seconds.
        assert!(longest < Duration::from_secs(15), "{longest:?}");
        block_in_place(|| world.servers[index].restart());
        everything.go_on().await;
    }
    eprintln!("the longest time until posts went through again: {longest:?}");
    everything.judge("25, cluster", &world).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn test_26_a_stopped_leader_and_no_quorum() {
    let mut rng = Rng::seeded(2_026_112_226);
    let Some(mut world) = World::one(Engine::Cluster).await else { return };
    let everything = Everything::start(&world).await;
    for _ in 0..rounds(1, 10) {
        until_current(&world.servers).await;
        let leads = leader(&world.servers).await;
        world.servers[leads].stop(true);
        let stopped = Instant::now();
        let away = everything.go_on().await;
        eprintln!("a stopped leader: posts go through again after {away:?}");
        while stopped.elapsed() < Duration::from_secs(rounds(1, 15)) {
            everything.load.more(1).await;
        }
        world.servers[leads].stop(false);
        everything.go_on().await;

        // With two of three away nothing may be acknowledged.
        until_current(&world.servers).await;
        let stays = usize::try_from(rng.between(0, 2)).unwrap();
        for index in (0..3).filter(|index| *index != stays) {
            world.servers[index].stop(true);
        }
        everything.nothing_more().await;
        for index in (0..3).filter(|index| *index != stays) {
            world.servers[index].stop(false);
        }
        let away = everything.go_on().await;
        eprintln!("no quorum: posts go through again {away:?} after it is back");
    }
    everything.judge("26", &world).await;
}

/// A partition: clients reach the server that the others do not, and it knows of none.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn test_26_a_server_is_cut_off_from_the_others() {
    let mut rng = Rng::seeded(2_026_112_227);
    let Some((routes, servers)) = Routes::cluster().await else { return };
    let mut world = World::over(servers, 3).await;
    let everything = Everything::start(&world).await;
    for round in 0..rounds(1, 10) {
        until_current(&world.servers).await;
        // The one that leads first: only that one can have been about to acknowledge something.
        let index = if round == 0 {
            leader(&world.servers).await
        } else {
            usize::try_from(rng.between(0, 2)).unwrap()
        };
        routes.cut_off(index);
        let cut = Instant::now();
        let away = everything.go_on().await;
        eprintln!("a server is cut off: posts go through again after {away:?}");
        while cut.elapsed() < Duration::from_secs(rounds(1, 15)) {
            everything.load.more(1).await;
        }
        routes.heal(index);
        everything.go_on().await;
        // Who led from the wrong side ends when it finds another one's lease.
        until_one_leads(&mut world).await;
        if is_short() {
            continue;
        }
        until_current(&world.servers).await;
        (0..3).for_each(|index| routes.cut_off(index));
        everything.nothing_more().await;
        (0..3).for_each(|index| routes.heal(index));
        let away = everything.go_on().await;
        eprintln!("all are cut off: posts go through again {away:?} after they hear each other");
        until_one_leads(&mut world).await;
    }
    everything.judge("26, cut off", &world).await;
    all_live(&mut world);
    all_serve_one_log(&world).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn test_27_all_servers_are_killed_at_once() {
    if is_short() {
        return;
    }
    let Some(mut world) = World::one(Engine::Cluster).await else { return };
    let everything = Everything::start(&world).await;
    for _ in 0..10 {
        until_current(&world.servers).await;
        everything.load.more(20).await;
        for server in &mut world.servers {
            server.kill();
        }
        for server in &mut world.servers {
            server.begin();
        }
        let away = everything.go_on().await;
        eprintln!("all killed: posts go through again after {away:?}");
    }
    everything.judge("27", &world).await;
}
