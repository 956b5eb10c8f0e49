//! Where something ends: the time for which duplicates are known, and the room for events: 30, 31.

use std::collections::{BTreeMap, BTreeSet};

use rusqlite::Connection;
use tokio_util::sync::CancellationToken;
use tonic::Code;

use crate::eventually;
use crate::support::checker::group::{Group, diligent};
use crate::support::checker::verdicts::Read;
use crate::support::jetstream::purge;
use crate::support::subscriber::{from_earliest, position};
use crate::support::worker::{settings, work};
use crate::support::world::{Engine, World};
use crate::support::{Refusal, Subscriber, Worker, is_short, rounds, webhook};

on_each_engine! {
    test_30_a_duplicate_that_is_too_late_has_the_same_id => super::a_duplicate_that_is_too_late_has_the_same_id;
    test_31_a_full_log_refuses_and_evicts_nothing => super::a_full_log_refuses_and_evicts_nothing;
}

/// Lets the events up to this position be as old as retention allows, and their ids too old to be known.
pub(super) async fn age(world: &mut World, through: u64) {
    if world.servers.is_empty() {
        assert_eq!(world.at_mut(0).terminate().await, Some(0));
        let nine_days = 9 * 24 * 3600 * 1000;
        let aged = format!(
            "UPDATE events SET append_ms = append_ms - {nine_days} WHERE seq <= {through};
             UPDATE dedupe SET append_ms = append_ms - {nine_days} WHERE seq <= {through}"
        );
        Connection::open(world.data_dir().join("gateway.db")).unwrap().execute_batch(&aged).unwrap();
        world.start_again(0).await;
    } else {
        purge(&world.servers, through).await;
    }
    let gateway = world.gateway();
    let earliest = async || {
        let mut client = gateway.client().await;
        position(&Subscriber::open(&mut client, from_earliest()).await.unwrap().opened.earliest_cursor)
    };
    eventually!(earliest().await == through);
}

async fn a_duplicate_that_is_too_late_has_the_same_id(engine: Engine) {
    let Some(mut world) = World::one(engine).await else { return };
    world.gateway().subscription(settings("orders")).await;
    let post = async |world: &World, number: u64| {
        let body = webhook::text(&format!("wamid.{number}"), "16505551234", "Hi").to_string();
        assert_eq!(world.gateway().post_webhook(body).await, 200);
    };
    let group = Group::new("orders", &world.places, diligent());
    let stop = CancellationToken::new();
    let workers = group.work(1, &stop);
    for number in [0, 1, 2, 0, 1, 2] {
        post(&world, number).await;
    }
    let first = world.gateway().log_of_messages().await;
    assert_eq!(first.len(), 3, "duplicates are known");
    group.until_done(3).await;
    age(&mut world, first[1].position).await;
    // A process remembers the newest ids by itself.
    world.restart_in_order(0).await;
    for number in [0, 1, 2] {
        post(&world, number).await;
    }
    let kept = world.gateway().log_of_messages().await;
    let pairs = |log: &[Read]| {
        let pair = |read: &Read| (read.message.clone(), (read.event.clone(), read.conversation.clone()));
        log.iter().map(pair).collect::<BTreeMap<_, _>>()
    };
    assert_eq!(kept.len(), 3, "the last one is known still");
    assert_eq!(pairs(&kept), pairs(&first), "another position, the same id");
    // Whoever remembers ids sees each of them once.
    group.until_done(5).await;
    stop.cancel();
    workers.join_all().await;
    let journal = group.journal();
    let ids: BTreeSet<_> = journal.iter().map(|delivery| &delivery.event).collect();
    assert_eq!((journal.len(), ids.len()), (5, 3));
}

async fn a_full_log_refuses_and_evicts_nothing(engine: Engine) {
    const BYTES: usize = 3 << 20;
    // On a disk filling it takes a test build a quarter of a minute.
    if is_short() && engine == Engine::Embedded {
        return;
    }
    let Some(mut world) = World::of(engine, 1, &[("STORAGE__SIZE_MAX", "64 MiB")]).await else { return };
    world.gateway().subscription(settings("orders")).await;
    let body = |number: u64| {
        webhook::text(&format!("wamid.{number}"), "16505551234", &"x".repeat(BYTES)).to_string()
    };
    let mut accepted = 0;
    let refused = loop {
        match world.gateway().post_webhook(body(accepted)).await {
            200 => accepted += 1,
            status => break status,
        }
        assert!(accepted < 100, "it is never full");
    };
    assert_eq!(refused, 503);
    eventually!(world.gateway().admin("/readyz/ingress").await.0 == 503);
    for _ in 0..rounds(2, 100) {
        assert_eq!(world.gateway().post_webhook(body(accepted)).await, 503);
    }
    // Nobody has read anything so far, and everything is there.
    let log = world.gateway().log_of_messages().await;
    let ids: Vec<_> = (0..accepted).map(|number| format!("wamid.{number}")).collect();
    assert_eq!(log.iter().map(|read| &read.message).collect::<Vec<_>>(), ids.iter().collect::<Vec<_>>());
    eprintln!("{engine:?}: full after {accepted} webhooks of 3 MiB");
    let group = Group::new("orders", &world.places, diligent());
    let stop = CancellationToken::new();
    let workers = group.work(1, &stop);
    let half = log.len() / 2;
    // On a disk an acknowledgement needs the same room, so workers go on when there is some.
    let expected = if engine == Engine::Nats { ids.len() } else { 0 };
    group.until_done(expected).await;
    // Room is made by age alone; then it goes on by itself.
    age(&mut world, log[half].position).await;
    eventually!(world.gateway().post_webhook(body(accepted)).await == 200);
    if engine == Engine::Nats {
        group.until_done(ids.len() + 1).await;
    } else {
        let refused = Worker::with(world.gateway(), work("orders")).await.unwrap_err();
        assert_eq!(
            Refusal::of(&refused).is(),
            (Code::OutOfRange, "CURSOR_EXPIRED"),
            "nothing is skipped silently"
        );
    }
    stop.cancel();
    workers.join_all().await;
    let rest = world.gateway().log_of_messages().await;
    assert_eq!(rest[..rest.len() - 1], log[half + 1..]);
}
