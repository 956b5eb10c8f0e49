//! Cursors that are kept for long, and those that nobody has given out: 16, 17, 18.

use std::time::{Duration, SystemTime};

use futures_util::{StreamExt as _, stream};
use serde_json::json;
use tonic::{Code, Request, Streaming};
use whatsapp_gateway::clock::{Clock, ManualClock};
use whatsapp_gateway::contract::v1::subscribe_events_response::Frame;
use whatsapp_gateway::contract::v1::{self, OnExpiredCursor};
use whatsapp_gateway::domain::caller::Caller;
use whatsapp_gateway::domain::cursor::Cursor;
use whatsapp_gateway::domain::filter::EventFilter;
use whatsapp_gateway::flows::deliver_events::{self, DeliverEvents, Limits, OnExpired, StartError};
use whatsapp_gateway::lifecycle::Shutdown;
use whatsapp_gateway::storage::EventLog as _;
use whatsapp_gateway::storage::contract::item;
use whatsapp_gateway::storage::memory::Memory;

use super::limits::age;
use crate::support::checker::posts::fill;
use crate::support::forge::mutated;
use crate::support::gateway::Client;
use crate::support::jetstream::purge;
use crate::support::serve::{ALL_RIGHTS, SECOND_NUMBER, SECOND_WABA, caller};
use crate::support::subscriber::{after, from_earliest, position};
use crate::support::worker::{done, seconds, settings, work};
use crate::support::world::{Engine, World};
use crate::support::{Gateway, Refusal, Rng, Subscriber, rounds, webhook};

on_each_engine! {
    test_17_an_expired_cursor_fails_or_leaves_a_gap => super::an_expired_cursor_fails_or_leaves_a_gap;
    test_18_what_nobody_has_given_out_opens_nothing => super::what_nobody_has_given_out_opens_nothing;
}

/// Ten times the retention, by the clocks of the test.
#[tokio::test(start_paused = true)]
async fn test_16_a_filter_that_never_matches_keeps_its_place() {
    const RETENTION: Duration = Duration::from_hours(1);
    let clock = ManualClock::new(SystemTime::UNIX_EPOCH + Duration::from_hours(1000));
    let log = Memory::new(clock.clone());
    let limits =
        Limits { streams_max: 8, send_timeout: Duration::from_secs(5), rotation: Duration::from_hours(1000) };
    let flow = DeliverEvents::new(log.clone(), limits, clock.clone(), Shutdown::new());
    let subscription = |start| deliver_events::Subscription {
        start,
        filter: EventFilter { types: vec!["whatsapp.nothing".to_owned()], ..EventFilter::default() },
        view: deliver_events::View::Full,
        heartbeat_interval: Duration::from_secs(15),
        on_expired: OnExpired::Fail,
        batch_events_max: 32,
        stop_when_caught_up: false,
        client_id: String::new(),
    };
    let open = async |start| flow.open(&Caller::local(), subscription(start), Box::new(|| {})).await;
    let at = |cursor: &str| deliver_events::Start::After(Cursor::decode(cursor).unwrap());
    log.append(vec![item(0)]).await.unwrap();
    let mut stream = open(deliver_events::Start::Earliest).await.unwrap();
    let mut first = None;
    for period in 1..=10_u64 {
        log.append((0..20).map(|number| item(period * 100 + number)).collect()).await.unwrap();
        let tail = log.bounds().await.unwrap().tail;
        let cursor = loop {
            let frame = stream.frames.recv().await.unwrap();
            assert!(!matches!(frame, deliver_events::Frame::Events(_)), "it matches: {frame:?}");
            if let deliver_events::Frame::Heartbeat { cursor, .. } = frame
                && position(&cursor) == tail
            {
                break cursor;
            }
        };
        clock.advance(RETENTION + Duration::from_secs(1));
        log.trim(clock.now_ms()).await.unwrap();
        first.get_or_insert_with(|| cursor.clone());
        // By the cursor of the last heartbeat another stream goes on.
        stream = open(at(&cursor)).await.unwrap();
    }
    // A reader without heartbeats would be where this one is.
    let refused = open(at(&first.unwrap())).await.unwrap_err();
    assert!(matches!(refused, StartError::Expired { .. }), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn test_16_a_filter_that_never_matches_keeps_its_place_on_nats() {
    let Some(world) = World::one(Engine::Nats).await else { return };
    let mut client = world.gateway().client().await;
    let never = v1::EventFilter { types: vec!["whatsapp.nothing".to_owned()], ..Default::default() };
    let request = |request| v1::SubscribeEventsRequest {
        filter: Some(never.clone()),
        heartbeat_interval: Some(seconds(5)),
        ..request
    };
    let mut stream = Subscriber::open(&mut client, request(from_earliest())).await.unwrap();
    let first = stream.opened.start_cursor.clone();
    for _ in 0..rounds(1, 10) {
        fill(world.gateway(), 1, 20, 1).await;
        let tail = world.gateway().log_of_messages().await.last().map(|last| last.position);
        let cursor = loop {
            let frame = stream.frame().await.unwrap().unwrap();
            assert!(!matches!(frame, Frame::Events(_)), "it matches: {frame:?}");
            if let Frame::Heartbeat(heartbeat) = frame
                && tail.is_none_or(|tail| position(&heartbeat.cursor) >= tail)
            {
                break heartbeat.cursor;
            }
        };
        purge(&world.servers, position(&cursor)).await;
        stream = Subscriber::open(&mut client, request(after(&cursor))).await.unwrap();
        assert_eq!(stream.opened.start_cursor, cursor);
    }
    let refused =
        async || Subscriber::open(&mut world.gateway().client().await, request(after(&first))).await;
    crate::eventually!(refused().await.is_err());
    assert_eq!(Refusal::of(&refused().await.unwrap_err()).is(), (Code::OutOfRange, "CURSOR_EXPIRED"));
}

async fn an_expired_cursor_fails_or_leaves_a_gap(engine: Engine) {
    let mut rng = Rng::seeded(2_026_112_217);
    let Some(mut world) = World::one(engine).await else { return };
    fill(world.gateway(), 2, 50, 3).await;
    let events = world.gateway().events().await;
    let kept_from = usize::try_from(rng.between(100, 200)).unwrap();
    age(&mut world, position(&events[kept_from - 1].cursor)).await;
    let old = usize::try_from(rng.between(0, 98)).unwrap();
    let (cursor, missing) = (events[old].cursor.clone(), (kept_from - old - 1) as u64);

    let mut client = world.gateway().client().await;
    let refusal = Refusal::of(&client.subscribe_events(after(&cursor)).await.unwrap_err());
    assert_eq!(refusal.is(), (Code::OutOfRange, "CURSOR_EXPIRED"));
    assert_eq!(refusal.metadata["missing_estimate"], missing.to_string());
    let earliest = refusal.metadata["earliest_cursor"].clone();
    let stopping = |request| v1::SubscribeEventsRequest { stop_when_caught_up: true, ..request };
    // The cursor that the refusal names works, and loses nothing that is kept.
    let mut stream = Subscriber::open(&mut client, stopping(after(&earliest))).await.unwrap();
    assert_eq!(stream.take(events.len() - kept_from).await.unwrap(), events[kept_from..]);

    for (on_expired, left) in
        [(OnExpiredCursor::Earliest, events.len() - kept_from), (OnExpiredCursor::Latest, 0)]
    {
        let request =
            v1::SubscribeEventsRequest { on_expired_cursor: on_expired.into(), ..stopping(after(&cursor)) };
        let mut stream = Subscriber::open(&mut client, request).await.unwrap();
        let (mut gaps, mut found) = (Vec::new(), 0);
        while let Some(frame) = stream.frame().await.unwrap() {
            if let Frame::Gap(gap) = frame {
                assert_eq!(found, 0, "the gap comes first");
                gaps.push((gap.from_cursor.clone(), gap.reason(), gap.missing_estimate));
            } else if let Frame::Events(batch) = frame {
                found += batch.events.len();
            }
        }
        let missing = (events.len() - old - 1 - left) as u64;
        assert_eq!(gaps, [(cursor.clone(), v1::GapReason::Expired, missing)], "{on_expired:?}");
        assert_eq!(found, left, "{on_expired:?}");
    }
    eprintln!("{engine:?}: {missing} events of {} were said to be missing, exactly", events.len());
}

fn by<T>(token: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
    request
}

/// One message to each of the two numbers.
fn to_both(number: u64) -> String {
    let mut body = webhook::text(&format!("wamid.own.{number}"), "16505550001", "Hi");
    let mut other = webhook::text(&format!("wamid.other.{number}"), "16505550002", "Hi")["entry"][0].clone();
    other["id"] = json!(SECOND_WABA);
    other["changes"][0]["value"]["metadata"]["phone_number_id"] = json!(SECOND_NUMBER);
    body["entry"].as_array_mut().unwrap().push(other);
    body.to_string()
}

/// What a stream by this cursor brings, if it opens.
async fn try_cursor(mut client: Client, cursor: String) -> bool {
    let request = v1::SubscribeEventsRequest { stop_when_caught_up: true, ..after(&cursor) };
    let mut frames = match client.subscribe_events(by("other", request)).await {
        Ok(frames) => frames.into_inner(),
        Err(status) => {
            let refusal = Refusal::of(&status);
            let is_documented = matches!(
                refusal.is(),
                (Code::InvalidArgument, "CURSOR_MALFORMED" | "VALIDATION_FAILED")
                    | (Code::FailedPrecondition, "CURSOR_EPOCH_MISMATCH" | "CURSOR_AHEAD_OF_LOG")
                    | (Code::OutOfRange, "CURSOR_EXPIRED")
            );
            assert!(is_documented, "{cursor:?}: {refusal:?}");
            return false;
        }
    };
    while let Some(frame) = frames.message().await.unwrap() {
        let Some(Frame::Events(batch)) = frame.frame else { continue };
        for received in batch.events {
            assert_eq!(received.event.unwrap().phone_number_id, SECOND_NUMBER, "{cursor:?}");
        }
    }
    true
}

/// A subscription `orders` of this caller, with so many events in the hands of its worker.
async fn lease(
    gateway: &Gateway,
    token: &str,
    count: usize,
) -> (Streaming<v1::SubscribeEventsResponse>, Vec<v1::ReceivedEvent>) {
    let shared = v1::Subscription {
        mode: v1::SubscriptionMode::Shared.into(),
        ack_deadline: Some(seconds(600)),
        ..settings("orders")
    };
    let start = Some(v1::create_subscription_request::Start::Position(v1::Position::Earliest.into()));
    let create = v1::CreateSubscriptionRequest { subscription: Some(shared), start };
    gateway.subscriptions().await.create_subscription(by(token, create)).await.unwrap();
    let stream = gateway.client().await.subscribe_events(by(token, work("orders"))).await.unwrap();
    let (mut stream, mut leased) = (stream.into_inner(), Vec::new());
    while leased.len() < count {
        let next = stream.message().await.unwrap().unwrap();
        let Some(Frame::Events(batch)) = next.frame else { continue };
        leased.extend(batch.events);
    }
    (stream, leased)
}

async fn what_nobody_has_given_out_opens_nothing(engine: Engine) {
    let mut rng = Rng::seeded(2_026_112_218);
    let second = format!(
        "methods = [\"*\"]\nphone_numbers = [{SECOND_NUMBER:?}]\nwabas = [{SECOND_WABA:?}]\nevent_types = [\"*\"]\n"
    );
    let callers = [caller("own", "own", ALL_RIGHTS), caller("other", "other", &second)].concat();
    let Some(world) = World::with_callers(engine, &callers).await else { return };
    let gateway = world.gateway();
    for number in 0..10 {
        assert_eq!(gateway.post_webhook(to_both(number)).await, 200);
    }
    // Both have a subscription of one name, and everything in hand.
    let (_own, own) = lease(gateway, "own", 20).await;
    let (_other, other) = lease(gateway, "other", 10).await;
    let own_ids: Vec<_> = own.iter().map(|received| received.ack_id.clone()).collect();
    let other_ids: Vec<_> = other.iter().map(|received| received.ack_id.clone()).collect();

    let cursors: Vec<_> =
        own.iter().map(|received| received.event.as_ref().unwrap().cursor.clone()).collect();
    let client = gateway.client().await;
    let count = usize::try_from(rounds(2_000, 100_000)).unwrap();
    let tries = (0..count).map(|number| mutated(&cursors[number % cursors.len()], &mut rng));
    let tries: Vec<_> = tries.collect();
    let served: usize = stream::iter(tries)
        .map(|cursor| try_cursor(client.clone(), cursor))
        .buffer_unordered(16)
        .map(usize::from)
        .fold(0, async |sum, served| sum + served)
        .await;
    assert!(served * 10 < count, "{served} mutations were taken for cursors");

    let count = rounds(20, 900);
    for _ in 0..count {
        let ids: Vec<_> =
            (0..1_000).map(|number| mutated(&own_ids[number % own_ids.len()], &mut rng)).collect();
        let ids: Vec<_> = ids.into_iter().filter(|id| !other_ids.contains(id)).collect();
        let outcomes = ids.iter().map(|id| v1::AckOutcome { ack_id: id.clone(), outcome: Some(done()) });
        let request =
            v1::AcknowledgeEventsRequest { subscription: "orders".to_owned(), outcomes: outcomes.collect() };
        let answer = client.clone().acknowledge_events(by("other", request)).await.unwrap().into_inner();
        assert_eq!(answer.failures.len(), ids.len(), "an id that nobody has given out counts");
    }
    // Nothing has changed for anybody.
    for (token, taken) in [("own", &own), ("other", &other)] {
        let get = || by(token, v1::GetSubscriptionRequest { name: "orders".to_owned() });
        let mut api = gateway.subscriptions().await;
        let told = api.get_subscription(get()).await.unwrap().into_inner().subscription.unwrap();
        assert_eq!(
            (told.outstanding, told.backlog_estimate),
            (taken.len() as u64, taken.len() as u64),
            "{token}"
        );
        let outcome =
            |r: &v1::ReceivedEvent| v1::AckOutcome { ack_id: r.ack_id.clone(), outcome: Some(done()) };
        let outcomes = taken.iter().map(outcome).collect();
        let request = v1::AcknowledgeEventsRequest { subscription: "orders".to_owned(), outcomes };
        let answer = client.clone().acknowledge_events(by(token, request)).await.unwrap().into_inner();
        assert_eq!(answer.failures, [], "{token}");
    }
    eprintln!(
        "{engine:?}: {} cursors, {served} of them right; {} ack ids",
        rounds(2_000, 100_000),
        count * 1_000
    );
}
