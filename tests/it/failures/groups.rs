//! Workers of a named subscription that die, freeze and fail, and a gateway that is killed with everything in hand: 21 to 24.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use whatsapp_gateway::contract::v1::{self, AckFailureReason, ReceivedEvent, SubscriptionMode};

use crate::eventually;
use crate::support::checker::group::{Deed, Group};
use crate::support::checker::posts::{Poster, fill, parts};
use crate::support::checker::verdicts::{Held, assert_none, of_done, of_group, of_log};
use crate::support::checker::{Place, Places};
use crate::support::proxy::Proxy;
use crate::support::subscriber::position;
use crate::support::worker::{done, retry, seconds, settings, subject, work};
use crate::support::world::{Engine, World};
use crate::support::{Gateway, Rng, Worker, rounds};

on_each_engine! {
    test_21_workers_die_and_each_event_is_done_in_order => super::workers_die_and_each_event_is_done_in_order;
    test_22_a_worker_that_was_frozen_finishes_nothing => super::a_worker_that_was_frozen_finishes_nothing;
    test_23_poison_is_parked_and_replayed => super::poison_is_parked_and_replayed;
    test_24_ten_thousand_unacknowledged_come_back => super::ten_thousand_unacknowledged_come_back;
}

/// For leases of three seconds.
pub(super) const HELD: Held = Held { sure_ms: 1_000, delay_ms: 2_000 };

pub(super) fn three_seconds(name: &str) -> v1::Subscription {
    v1::Subscription { ack_deadline: Some(seconds(3)), ..settings(name) }
}

async fn workers_die_and_each_event_is_done_in_order(engine: Engine) {
    // 50,000 events of 500 users in the long form.
    let (posters, width, posts) = (rounds(8, 20), 25, rounds(10, 100));
    let Some(world) = World::one(engine).await else { return };
    let gateway = world.gateway();
    gateway.subscription(three_seconds("orders")).await;
    let posters = fill(gateway, posters, width, posts).await;
    let total = posters.iter().map(|poster| poster.width * poster.acknowledged).sum::<u64>();
    let decide = |_: &ReceivedEvent, rng: &mut Rng| {
        if rng.between(1, 200) == 1 { Deed::Die } else { Deed::Say(done()) }
    };
    let group = Group::new("orders", &world.places, Arc::new(decide)).with_outstanding(4);
    let stop = CancellationToken::new();
    let workers = group.work(16, &stop);
    group.until_done(usize::try_from(total).unwrap()).await;
    eventually!(gateway.subscribed("orders").await.backlog_estimate == 0);
    stop.cancel();
    let deaths: u64 = workers.join_all().await.into_iter().sum();
    let log = gateway.log_of_messages().await;
    assert_none("21", &of_log(&posters, &log));
    let journal = group.journal();
    assert_none("21", &of_group(&journal, HELD));
    assert_none("21", &of_done(&journal, &log));
    let again = journal.len() as u64 - total;
    eprintln!("{engine:?}: {total} events, {deaths} deaths, {again} deliveries more than one");
    assert!(deaths > 0 && again * 20 < total, "{again} redeliveries");
}

/// A worker whose way to the gateway can be frozen: what SIGSTOP makes of a process, seen from outside.
async fn a_worker_that_was_frozen_finishes_nothing(engine: Engine) {
    let Some(world) = World::one(engine).await else { return };
    let gateway = world.gateway();
    let two_seconds = v1::Subscription { ack_deadline: Some(seconds(2)), ..settings("orders") };
    gateway.subscription(two_seconds).await;
    fill(gateway, 1, 2, 1).await;
    let proxy = Proxy::to(gateway.address("grpc")).await;
    let through = Places::default();
    through.set(0, Place { grpc: proxy.address.to_string(), webhook_url: String::new() });
    let client = through.client(&mut Rng::new(1)).await;
    let mut frozen = Worker::on(client, work("orders")).await.unwrap();
    let first = frozen.take(2).await;
    proxy.freeze();
    // Another one finishes one of the two, and has the other in its hands when the first wakes up. The frozen one is given
    // them again too, as long as its stream is open; so it may take some rounds.
    let mut other = Worker::open(gateway, "orders").await;
    let done_first = other.one().await;
    assert!(done_first.delivery_attempt > 1);
    assert_eq!(other.say(&done_first, done()).await, None);
    let in_hand = other.one().await;
    assert_ne!(subject(&in_hand), subject(&done_first));
    proxy.thaw();
    for late in &first {
        assert_eq!(frozen.say(late, done()).await, Some(AckFailureReason::Expired), "{late:?}");
    }
    assert_eq!(gateway.subscribed("orders").await.backlog_estimate, 1, "it has finished nothing");
    // Its own count, unless they have become too late meanwhile.
    let mut last = in_hand;
    while let Some(refused) = other.say(&last, done()).await {
        assert_eq!(refused, AckFailureReason::Expired);
        last = other.one().await;
    }
    assert_eq!(gateway.subscribed("orders").await.backlog_estimate, 0);
}

async fn replay(gateway: &Gateway) -> u32 {
    let request = v1::ReplayParkedEventsRequest { name: "orders".to_owned(), event_ids: vec![], all: true };
    gateway.subscriptions().await.replay_parked_events(request).await.unwrap().into_inner().replayed_count
}

async fn poison_is_parked_and_replayed(engine: Engine) {
    const ATTEMPTS: u32 = 10;
    let posts = rounds(20, 400);
    let Some(world) = World::one(engine).await else { return };
    let gateway = world.gateway();
    gateway.subscription(three_seconds("orders")).await;
    let posters = fill(gateway, 4, 15, posts).await;
    let is_poison = |message: &str| {
        let ((poster, user), post) = parts(message).unwrap();
        (poster * 15 + user + post * 7) % 100 == 0
    };
    let healed = Arc::new(AtomicBool::new(false));
    let is_healed = Arc::clone(&healed);
    let decide = move |received: &ReceivedEvent, _: &mut Rng| {
        let fails = is_poison(subject(received)) && !is_healed.load(Ordering::SeqCst);
        Deed::Say(if fails { retry(Some(0)) } else { done() })
    };
    let group = Group::new("orders", &world.places, Arc::new(decide));
    let log = gateway.log_of_messages().await;
    let (poison, good): (Vec<_>, Vec<_>) = log.iter().cloned().partition(|read| is_poison(&read.message));
    assert!(poison.len() * 200 > log.len() && poison.len() * 50 < log.len(), "{}", poison.len());
    let stop = CancellationToken::new();
    let workers = group.work(4, &stop);
    group.until_done(good.len()).await;
    eventually!(gateway.subscribed("orders").await.parked_count == poison.len() as u64);
    eventually!(gateway.subscribed("orders").await.backlog_estimate == 0);
    let journal = group.journal();
    assert_none("23", &of_log(&posters, &log));
    assert_none("23", &of_group(&journal, HELD));
    assert_none("23", &of_done(&journal, &good));
    for read in &poison {
        let attempts = journal.iter().filter(|delivery| delivery.event == read.event).map(|d| d.attempt);
        assert!(attempts.eq(1..=ATTEMPTS), "{}", read.message);
    }
    healed.store(true, Ordering::SeqCst);
    assert_eq!(replay(gateway).await as usize, poison.len());
    group.until_done(log.len()).await;
    eventually!(gateway.subscribed("orders").await.parked_count == 0);
    stop.cancel();
    workers.join_all().await;
    assert_none("23, replayed", &of_done(&group.journal(), &log));
    eprintln!("{engine:?}: {} of {} events were poison", poison.len(), log.len());
}

/// Two workers with half of everything in hand each.
async fn take_all(gateway: &Gateway, count: usize) -> [(Worker, Vec<ReceivedEvent>); 2] {
    let many = || v1::SubscribeEventsRequest {
        max_outstanding_events: u32::try_from(count / 2).unwrap(),
        max_outstanding_bytes: 16 << 20,
        max_batch_events: 256,
        payload_view: v1::PayloadView::Typed.into(),
        ..work("orders")
    };
    let one = async || {
        let mut worker = Worker::with(gateway, many()).await.unwrap();
        let taken = worker.take(count / 2).await;
        (worker, taken)
    };
    let (first, second) = tokio::join!(one(), one());
    [first, second]
}

async fn ten_thousand_unacknowledged_come_back(engine: Engine) {
    let posts = rounds(4, 10);
    let events = usize::try_from(1_000 * posts).unwrap();
    let Some(mut world) = World::one(engine).await else { return };
    let shared = v1::Subscription {
        mode: SubscriptionMode::Shared.into(),
        ack_deadline: Some(seconds(600)),
        ..settings("orders")
    };
    world.gateway().subscription(shared).await;
    let posters: Vec<Poster> = fill(world.gateway(), 4, 250, posts).await;
    let log = world.gateway().log_of_messages().await;
    assert_eq!(log.len(), events);
    assert_none("24", &of_log(&posters, &log));
    let mut rng = Rng::seeded(2_026_112_224);
    let mut acknowledged = BTreeSet::new();
    for (worker, taken) in &mut take_all(world.gateway(), events).await {
        let mut some: Vec<_> = taken.iter().filter(|_| rng.between(0, 9) == 0).cloned().collect();
        // So that the rest can be halved.
        some.truncate(some.len() / 2 * 2);
        for some in some.chunks(1_000) {
            worker.done(some).await;
        }
        acknowledged.extend(some.iter().map(|received| received.event.as_ref().unwrap().id.clone()));
    }
    let first_open = log.iter().find(|read| !acknowledged.contains(&read.event)).unwrap().position;
    let left = events - acknowledged.len();
    for is_new in [false, true] {
        if is_new {
            let killed = Instant::now();
            world.restart(0).await;
            if engine == Engine::Nats {
                eventually!(world.leader().await.is_some());
                eprintln!("{engine:?}: a leader again {:.1?} after the kill", killed.elapsed());
            }
        }
        let told = world.gateway().subscribed("orders").await;
        assert!(position(&told.floor_cursor) < first_open, "the floor has passed what is not done");
        assert_eq!(told.backlog_estimate, left as u64);
    }
    let mut again = BTreeSet::new();
    for (worker, taken) in &mut take_all(world.gateway(), left).await {
        again.extend(taken.iter().map(|received| received.event.as_ref().unwrap().id.clone()));
        for some in taken.chunks(1_000) {
            worker.done(some).await;
        }
    }
    assert!(again.is_disjoint(&acknowledged), "what was acknowledged came again");
    assert_eq!(again.len(), left, "not all came back");
    let tail = log.last().unwrap().position;
    eventually!(position(&world.gateway().subscribed("orders").await.floor_cursor) >= tail);
    eprintln!("{engine:?}: {} of {events} were acknowledged, {} came back", acknowledged.len(), again.len());
}
