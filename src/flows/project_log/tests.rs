//! Steps that fail and are taken again.

use std::time::SystemTime;

use secrecy::SecretString;
use tokio::task::JoinSet;

use super::*;
use crate::clock::{Clock as _, ManualClock, SharedClock};
use crate::cloud_api::normalize::normalize;
use crate::cloud_api::{Client, Config};
use crate::domain::ids::PhoneNumberId;
use crate::flows::lanes::{Lanes, Pace};
use crate::flows::numbers::Numbers;
use crate::flows::send_traces::SendTraces;
use crate::storage::contract::sends::Mortal;
use crate::storage::fallbacks::FallbackNotes;
use crate::storage::leadership::Leadership;
use crate::storage::memory::Memory;
use crate::storage::send_traces;
use crate::storage::sends::Sends;
use crate::tenants::{Snapshot, Tenants, Waba};

struct World {
    clock: Arc<ManualClock>,
    log: Arc<Memory>,
    state: Arc<Mortal>,
    projections: ProjectLog,
}

impl World {
    fn new() -> Self {
        let clock = ManualClock::new(SystemTime::UNIX_EPOCH + Duration::from_hours(500_000));
        let shared = Arc::clone(&clock) as SharedClock;
        let log = Memory::new(Arc::clone(&shared));
        let state = Mortal::new(Arc::clone(&log) as _, usize::MAX);
        let waba = Waba {
            id: "2".into(),
            app_id: "3".into(),
            access_token: SecretString::from("token"),
            phone_number_ids: vec!["1".into()],
        };
        let numbers = Numbers::new(Tenants::new(Snapshot::new(Vec::new(), vec![waba], Vec::new())));
        let (shutdown, client) =
            (Shutdown::new(), Client::new(&Config::default(), Arc::clone(&shared)).unwrap());
        let lanes = Lanes::new(Pace { fixed_rate: None, by_recipient: true }, shutdown.clone());
        let number_watch = NumberWatch::new(
            client.clone(),
            numbers.clone(),
            (lanes, Leadership::alone()),
            Arc::clone(&log) as _,
            Duration::from_secs(30),
            Arc::clone(&shared),
            shutdown.clone(),
        );
        let traces = send_traces::SendTraces::new(Arc::clone(&state) as _);
        let traces = SendTraces::new(traces, Arc::clone(&shared), shutdown.clone());
        let fallbacks = Fallbacks::new(
            FallbackNotes::new(Arc::clone(&state) as _),
            Arc::clone(&log) as _,
            (client.clone(), traces),
            numbers.clone(),
            number_watch.clone(),
            Arc::clone(&shared),
            shutdown.clone(),
        );
        let sends = Sends::new(Arc::clone(&state) as _, Duration::from_hours(24));
        let projections = ProjectLog::new(
            Arc::clone(&log) as _,
            Projections::new(Arc::clone(&state) as _),
            MessageNews::default(),
            Unsettled::new(sends, shared, shutdown.clone()),
            fallbacks,
            TemplateCatalog::new(client, numbers, shutdown, true),
            number_watch,
        );
        Self { clock, log, state, projections }
    }

    async fn fail(&self, message_id: &str) {
        fail(&self.log, self.clock.now(), message_id).await;
    }

    fn is_parked(&self) -> bool {
        self.projections.number_watch.refusal(&PhoneNumberId::parse("1").unwrap()).is_some()
    }
}

/// The status of a message that Meta failed for quality.
async fn fail(log: &Memory, now: SystemTime, message_id: &str) {
    let seconds = now.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    let status = format!(
        r#"{{"id":"{message_id}","status":"failed","timestamp":"{seconds}","recipient_id":"16505551234",
                "errors":[{{"code":131048,"title":"Spam"}}]}}"#
    );
    let body = format!(
        r#"{{"object":"whatsapp_business_account","entry":[{{"id":"2","changes":[{{"field":"messages","value":{{
                "messaging_product":"whatsapp","metadata":{{"phone_number_id":"1"}},"statuses":[{status}]}}}}]}}]}}"#
    );
    for event in normalize(body.as_bytes(), now) {
        log.append(vec![events::item(&event, "")]).await.unwrap();
    }
}

#[tokio::test]
async fn what_a_page_says_of_a_number_is_heard_once() {
    let mut world = World::new();
    world.fail("wamid.1").await;
    world.state.allow(0);
    for _ in 0..4 {
        assert!(world.projections.advance().await.is_err(), "nothing can be written");
    }
    world.state.allow(usize::MAX);
    assert_eq!(world.projections.advance().await.unwrap(), 1);
    assert!(!world.is_parked(), "one message was refused");
    for id in ["wamid.2", "wamid.3"] {
        world.fail(id).await;
    }
    assert_eq!(world.projections.advance().await.unwrap(), 3);
    assert!(world.is_parked(), "three messages were refused in a row");
}

#[tokio::test(start_paused = true)]
async fn the_position_is_stored_with_the_newest_event_and_once_a_second() {
    let World { clock, log, state, mut projections } = World::new();
    let stored = Projections::new(Arc::clone(&state) as _);
    let (epoch, page) = (log.epoch(), PAGE.events as u64);
    for number in 0..=3 * page {
        fail(&log, clock.now(), &format!("wamid.{number}")).await;
    }
    for (number, pause, expected) in [(1, 0, page), (2, 0, page), (3, 1, 3 * page)] {
        tokio::time::advance(pause * POSITION_BEHIND_MAX).await;
        assert_eq!(projections.advance().await.unwrap(), number * page);
        assert_eq!(stored.position(epoch).await.unwrap(), expected, "step {number}");
    }
    assert_eq!(projections.advance().await.unwrap(), 3 * page + 1);
    assert_eq!(stored.position(epoch).await.unwrap(), 3 * page + 1, "nothing else waits");
}

#[tokio::test(start_paused = true)]
async fn a_step_that_rests_goes_on_when_somebody_waits() {
    let World { clock, log, state, projections } = World::new();
    let (progress, mut applied) = (projections.progress(), projections.progress().applied);
    state.slow_down(10);
    fail(&log, clock.now(), "wamid.1").await;
    let _running = JoinSet::from_iter([projections.run(Shutdown::new())]);
    applied.wait_for(|applied| *applied == 1).await.unwrap();
    let began = Instant::now();
    fail(&log, clock.now(), "wamid.2").await;
    applied.wait_for(|applied| *applied == 2).await.unwrap();
    assert_eq!(began.elapsed().as_millis(), 10 * u128::from(REST + 1), "it rests, and writes");
    let began = Instant::now();
    fail(&log, clock.now(), "wamid.3").await;
    assert!(progress.catch_up().await && progress.is_current());
    assert_eq!(began.elapsed().as_millis(), 10, "it writes");
}

#[tokio::test(start_paused = true)]
async fn full_pages_follow_each_other_from_where_the_start_has_come() {
    let World { clock, log, state, mut projections } = World::new();
    let mut applied = projections.progress().applied;
    let events = 2 * PAGE.events as u64 + 1;
    let fill = async |from: u64| {
        for number in 0..events {
            fail(&log, clock.now(), &format!("wamid.{}", from + number)).await;
        }
    };
    fill(0).await;
    projections.catch_up().await.unwrap();
    assert_eq!(*applied.borrow(), events);
    fill(events).await;
    state.slow_down(10);
    let began = Instant::now();
    let _running = JoinSet::from_iter([projections.run(Shutdown::new())]);
    let mut before = events;
    while before < 2 * events {
        let now = *applied.wait_for(|applied| *applied != before).await.unwrap();
        assert!(now > before, "{now} after {before}");
        before = now;
    }
    assert_eq!(began.elapsed().as_millis(), 3 * 10, "three steps, and no rest");
}
