//! `SubscribeEvents`: where streams start, what they carry, and every cursor that cannot be served.

use std::time::{Duration, SystemTime};

use serde_json::json;
use tokio::time::timeout;
use tonic::{Code, Streaming};
use whatsapp_gateway::contract::v1;
use whatsapp_gateway::contract::v1::event::Payload;
use whatsapp_gateway::contract::v1::subscribe_events_request::Start;
use whatsapp_gateway::contract::v1::subscribe_events_response::Frame;

use crate::eventually;
use crate::support::forge::forged;
use crate::support::rpc::text_to;
use crate::support::{Gateway, Refusal, webhook};

const PATIENCE: Duration = Duration::from_secs(20);

fn from(start: Start) -> v1::SubscribeEventsRequest {
    v1::SubscribeEventsRequest { start: Some(start), stop_when_caught_up: true, ..Default::default() }
}

fn earliest() -> v1::SubscribeEventsRequest {
    from(Start::Position(v1::Position::Earliest.into()))
}

fn after(cursor: &str) -> v1::SubscribeEventsRequest {
    from(Start::AfterCursor(cursor.to_owned()))
}

async fn open(
    gateway: &Gateway,
    request: v1::SubscribeEventsRequest,
) -> Streaming<v1::SubscribeEventsResponse> {
    gateway.client().await.subscribe_events(request).await.unwrap().into_inner()
}

async fn next(frames: &mut Streaming<v1::SubscribeEventsResponse>) -> Frame {
    let frame = timeout(PATIENCE, frames.message()).await.expect("no frame in time").unwrap();
    frame.expect("the stream ended").frame.unwrap()
}

/// All frames of a stream that ends by itself with OK.
async fn frames(gateway: &Gateway, request: v1::SubscribeEventsRequest) -> Vec<Frame> {
    let mut stream = open(gateway, request).await;
    let mut all = Vec::new();
    while let Some(frame) = timeout(PATIENCE, stream.message()).await.expect("no frame in time").unwrap() {
        all.push(frame.frame.unwrap());
    }
    all
}

fn events_of(frames: &[Frame]) -> Vec<v1::Event> {
    let batch = |frame: &Frame| {
        if let Frame::Events(batch) = frame { batch.events.clone() } else { Vec::new() }
    };
    frames.iter().flat_map(batch).map(|received| received.event.unwrap()).collect()
}

async fn ids(gateway: &Gateway, request: v1::SubscribeEventsRequest) -> Vec<String> {
    events_of(&frames(gateway, request).await).into_iter().map(|event| event.id).collect()
}

async fn refused(gateway: &Gateway, request: v1::SubscribeEventsRequest) -> Refusal {
    let mut client = gateway.client().await;
    let answer = timeout(PATIENCE, client.subscribe_events(request)).await.expect("no answer in time");
    Refusal::of(&answer.map(|_| "a stream").unwrap_err())
}

async fn store(gateway: &Gateway, count: usize) {
    for number in 0..count {
        let id = format!("wamid.{number}");
        assert_eq!(gateway.post_webhook(webhook::text(&id, "16505551234", "Hi").to_string()).await, 200);
    }
}

#[tokio::test]
async fn every_start_is_served_exactly() {
    let gateway = Gateway::dev().await;
    // An empty log: all starts are the same.
    let empty = frames(&gateway, earliest()).await;
    let [Frame::Opened(opened), Frame::CaughtUp(caught_up)] = &empty[..] else { panic!("{empty:?}") };
    assert_eq!((&opened.start_cursor, &opened.earliest_cursor), (&caught_up.cursor, &caught_up.cursor));
    assert_eq!((opened.engine.as_str(), opened.max_batch_events), ("embedded", 32));
    assert_eq!(opened.heartbeat_interval.unwrap().seconds, 15);
    assert!(!opened.stream_id.is_empty());
    let origin = opened.start_cursor.clone();

    store(&gateway, 5).await;
    let events = gateway.events().await;
    let all: Vec<_> = events.iter().map(|event| event.id.clone()).collect();
    assert_eq!(all.len(), 5);
    assert_eq!(ids(&gateway, after(&origin)).await, all);
    for (index, event) in events.iter().enumerate() {
        assert_eq!(ids(&gateway, after(&event.cursor)).await, all[index + 1..]);
        let time = event.receive_time.unwrap();
        let from_time = ids(&gateway, from(Start::StartTime(time))).await;
        assert!(all.ends_with(&from_time) && from_time.len() >= all.len() - index, "{index}: {from_time:?}");
    }
    let latest = v1::Position::Latest.into();
    for start in [None, Some(Start::Position(0)), Some(Start::Position(latest))] {
        let request = v1::SubscribeEventsRequest { start, stop_when_caught_up: true, ..Default::default() };
        let frames = frames(&gateway, request).await;
        let [Frame::Opened(opened), Frame::CaughtUp(_)] = &frames[..] else { panic!("{frames:?}") };
        assert_eq!(opened.start_cursor, events[4].cursor);
    }
}

#[tokio::test]
async fn times_at_the_edges_of_time_are_served() {
    let gateway = Gateway::dev().await;
    store(&gateway, 2).await;
    let time = |seconds, nanos| Start::StartTime(prost_types::Timestamp { seconds, nanos });
    for (seconds, count) in [(0, 2), (-62_135_596_800, 2), (-1, 2), (253_402_300_799, 0)] {
        assert_eq!(ids(&gateway, from(time(seconds, 0))).await.len(), count, "{seconds}");
    }
    // Outside the years 1 to 9999, and with nanoseconds that are none.
    for (seconds, nanos) in [
        (i64::MAX, 0),
        (i64::MIN, 0),
        (253_402_300_800, 0),
        (-62_135_596_801, 0),
        (0, -1),
        (0, 1_000_000_000),
    ] {
        let refusal = refused(&gateway, from(time(seconds, nanos))).await;
        assert_eq!(refusal.is(), (Code::InvalidArgument, "VALIDATION_FAILED"), "{seconds} {nanos}");
        assert_eq!(refusal.fields(), ["start_time"]);
    }
}

#[tokio::test]
async fn a_live_stream_follows_and_its_frames_resume() {
    let gateway = Gateway::dev().await;
    let live = v1::SubscribeEventsRequest { client_id: "orders-1".to_owned(), ..Default::default() };
    let mut stream = open(&gateway, live).await;
    let Frame::Opened(opened) = next(&mut stream).await else { panic!("not opened") };
    let Frame::CaughtUp(caught_up) = next(&mut stream).await else { panic!("not caught up") };
    assert_eq!(opened.start_cursor, caught_up.cursor);
    store(&gateway, 2).await;
    let (mut seen, mut cursor) = (Vec::new(), String::new());
    while seen.len() < 2 {
        for event in events_of(&[next(&mut stream).await]) {
            cursor.clone_from(&event.cursor);
            seen.push(event.id);
        }
    }
    assert_eq!(ids(&gateway, after(&opened.start_cursor)).await, seen);
    assert!(ids(&gateway, after(&cursor)).await.is_empty());
}

fn filtered(filter: v1::EventFilter) -> v1::SubscribeEventsRequest {
    v1::SubscribeEventsRequest { filter: Some(filter), ..earliest() }
}

#[tokio::test]
async fn filters_choose_alone_and_together() {
    let gateway = Gateway::dev().await;
    store(&gateway, 2).await;
    let other = webhook::text("wamid.other", "4915112345678", "Hallo").to_string();
    let elsewhere = other.replace(webhook::PHONE_NUMBER_ID, "777").replace(webhook::WABA_ID, "888");
    assert_eq!(gateway.post_webhook(elsewhere).await, 200);
    let account = json!({"object": "whatsapp_business_account", "entry": [
        {"id": webhook::WABA_ID, "time": 1749416383, "changes": [{"field": "account_update", "value": {"event": "X"}}]},
    ]});
    assert_eq!(gateway.post_webhook(account.to_string()).await, 200);
    let key = gateway.events().await[2].conversation_key.clone();
    let list = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    let none = v1::EventFilter::default;
    let (number, waba) = (webhook::PHONE_NUMBER_ID, webhook::WABA_ID);
    for (filter, count) in [
        (none(), 4),
        (v1::EventFilter { phone_number_ids: list(&[number]), ..none() }, 2),
        (v1::EventFilter { phone_number_ids: list(&["777", number]), ..none() }, 3),
        (v1::EventFilter { phone_number_ids: list(&["1"]), ..none() }, 0),
        (v1::EventFilter { waba_ids: list(&[waba]), ..none() }, 3),
        (v1::EventFilter { types: list(&["whatsapp.message.received"]), ..none() }, 3),
        (v1::EventFilter { types: list(&["whatsapp.message.*"]), ..none() }, 3),
        (v1::EventFilter { types: list(&["whatsapp.message"]), ..none() }, 0),
        (v1::EventFilter { types: list(&["whatsapp.account_update", "x"]), ..none() }, 1),
        (v1::EventFilter { types: list(&["*"]), ..none() }, 4),
        (v1::EventFilter { conversation_keys: vec![key.clone()], ..none() }, 1),
        (v1::EventFilter { conversation_keys: vec![key.clone()], waba_ids: list(&[waba]), ..none() }, 0),
        (v1::EventFilter { types: list(&["whatsapp.message.*"]), waba_ids: list(&["888"]), ..none() }, 1),
    ] {
        let frames = frames(&gateway, filtered(filter.clone())).await;
        assert_eq!(events_of(&frames).len(), count, "{filter:?}");
        // The position moves past what does not match.
        let Some(Frame::CaughtUp(caught_up)) = frames.last() else { panic!("{frames:?}") };
        assert_eq!(caught_up.cursor, gateway.events().await[3].cursor, "{filter:?}");
    }
}

#[tokio::test]
async fn views_carry_what_they_say() {
    let gateway = Gateway::dev().await;
    store(&gateway, 1).await;
    let mut seen = Vec::new();
    for view in 0..=3 {
        let request = v1::SubscribeEventsRequest { payload_view: view, ..earliest() };
        let event = events_of(&frames(&gateway, request).await).remove(0);
        let is_typed = matches!(event.payload, Some(Payload::Message(_)));
        seen.push((is_typed, !event.raw_json.is_empty(), !event.change_json.is_empty()));
        assert!(!event.id.is_empty() && !event.cursor.is_empty() && event.receive_time.is_some());
        assert_eq!(event.r#type, "whatsapp.message.received");
    }
    assert_eq!(seen, [(true, true, true), (true, true, true), (true, false, false), (false, true, true)]);
}

#[tokio::test]
async fn batches_and_heartbeats_are_bounded() {
    let gateway = Gateway::dev().await;
    store(&gateway, 7).await;
    for (asked, in_effect) in [(0, 32), (2, 2), (256, 256)] {
        let request = v1::SubscribeEventsRequest { max_batch_events: asked, ..earliest() };
        let frames = frames(&gateway, request).await;
        let Frame::Opened(opened) = &frames[0] else { panic!("{frames:?}") };
        assert_eq!(opened.max_batch_events, in_effect);
        assert_eq!(opened.heartbeat_interval.unwrap().seconds, 15);
        let sizes = frames.iter().filter_map(|frame| {
            if let Frame::Events(batch) = frame { Some(batch.events.len()) } else { None }
        });
        assert!(sizes.clone().all(|size| (1..=in_effect as usize).contains(&size)));
        assert_eq!(sizes.sum::<usize>(), 7);
    }
    for (seconds, in_effect) in [(1, 5), (30, 30), (3600, 60)] {
        let heartbeat_interval = Some(prost_types::Duration { seconds, nanos: 0 });
        let frames = frames(&gateway, v1::SubscribeEventsRequest { heartbeat_interval, ..earliest() }).await;
        let Frame::Opened(opened) = &frames[0] else { panic!("{frames:?}") };
        assert_eq!(opened.heartbeat_interval.unwrap().seconds, in_effect);
    }
}

#[tokio::test]
async fn a_silent_stream_gets_heartbeats_that_resume() {
    let gateway = Gateway::dev().await;
    store(&gateway, 2).await;
    let types = vec!["whatsapp.nothing".to_owned()];
    let request = v1::SubscribeEventsRequest {
        filter: Some(v1::EventFilter { types, ..Default::default() }),
        heartbeat_interval: Some(prost_types::Duration { seconds: 5, nanos: 0 }),
        stop_when_caught_up: false,
        ..earliest()
    };
    let mut stream = open(&gateway, request).await;
    let heartbeat = loop {
        if let Frame::Heartbeat(heartbeat) = next(&mut stream).await {
            break heartbeat;
        }
    };
    assert_eq!((heartbeat.backlog_estimate, heartbeat.server_time.is_some()), (0, true));
    assert!(ids(&gateway, after(&heartbeat.cursor)).await.is_empty(), "it is past what does not match");
}

#[tokio::test]
async fn bad_requests_are_refused_with_every_field() {
    let gateway = Gateway::dev().await;
    let types = ["", "whatsapp.", "what*", "a b", "whatsapp.*.x"].map(str::to_owned).to_vec();
    let request = v1::SubscribeEventsRequest {
        start: Some(Start::Position(99)),
        filter: Some(v1::EventFilter { types, ..Default::default() }),
        payload_view: 77,
        on_expired_cursor: -1,
        client_id: "a b".to_owned(),
        max_batch_events: 257,
        ..Default::default()
    };
    let refusal = refused(&gateway, request).await;
    assert_eq!(refusal.is(), (Code::InvalidArgument, "VALIDATION_FAILED"));
    let patterns = (0..5).map(|index| format!("filter.types[{index}]"));
    let mut expected: Vec<String> =
        ["position", "payload_view", "on_expired_cursor", "client_id", "max_batch_events"]
            .map(str::to_owned)
            .to_vec();
    expected.extend(patterns);
    assert_eq!(refusal.fields(), expected);
    let many = vec!["1".to_owned(); 257];
    let filter = v1::EventFilter {
        phone_number_ids: many.clone(),
        waba_ids: many.clone(),
        types: vec!["*".to_owned(); 257],
        conversation_keys: many,
    };
    let lists = ["phone_number_ids", "waba_ids", "types", "conversation_keys"];
    assert_eq!(
        refused(&gateway, filtered(filter)).await.fields(),
        lists.map(|list| format!("filter.{list}"))
    );
    // Long patterns, and many: the answer must still fit the headers of a client.
    let filter = v1::EventFilter { types: vec!["a b".repeat(1000); 256], ..Default::default() };
    let refusal = refused(&gateway, filtered(filter)).await;
    assert_eq!(refusal.is(), (Code::InvalidArgument, "VALIDATION_FAILED"));
    assert_eq!(refusal.fields()[0], "filter.types[0]");
}

/// The cursors that a refusal names are served.
async fn assert_ways_out(gateway: &Gateway, refusal: &Refusal, stored: usize) {
    assert_eq!(refusal.actor(), "caller");
    assert_eq!(ids(gateway, after(&refusal.metadata["earliest_cursor"])).await.len(), stored);
    assert!(ids(gateway, after(&refusal.metadata["latest_cursor"])).await.is_empty());
}

#[tokio::test]
async fn cursors_of_another_log_or_history_say_the_way_out() {
    let gateway = Gateway::dev().await;
    store(&gateway, 3).await;
    let own = gateway.events().await[2].cursor.clone();
    let elsewhere = Gateway::dev().await;
    store(&elsewhere, 1).await;
    let foreign = elsewhere.events().await[0].cursor.clone();
    let mismatches = [
        foreign,
        forged(&own, |bytes| bytes[0] = 2),
        forged(&own, |bytes| bytes[1] ^= 1),
        forged(&own, |bytes| bytes[17] ^= 1),
    ];
    for cursor in mismatches {
        let refusal = refused(&gateway, after(&cursor)).await;
        assert_eq!(refusal.is(), (Code::FailedPrecondition, "CURSOR_EPOCH_MISMATCH"), "{cursor}");
        assert_ways_out(&gateway, &refusal, 3).await;
    }
    for seq in [4, 1 << 40, u64::MAX, i64::MAX.cast_unsigned()] {
        let cursor = forged(&own, |bytes| bytes[9..17].copy_from_slice(&seq.to_be_bytes()));
        let refusal = refused(&gateway, after(&cursor)).await;
        assert_eq!(refusal.is(), (Code::FailedPrecondition, "CURSOR_AHEAD_OF_LOG"), "{seq}");
        assert_ways_out(&gateway, &refusal, 3).await;
    }
    // A policy for expired cursors is none for these.
    for policy in [v1::OnExpiredCursor::Earliest, v1::OnExpiredCursor::Latest] {
        let ahead = forged(&own, |bytes| bytes[16] = 9);
        let request = v1::SubscribeEventsRequest { on_expired_cursor: policy.into(), ..after(&ahead) };
        assert_eq!(refused(&gateway, request).await.reason, "CURSOR_AHEAD_OF_LOG");
    }
}

#[tokio::test]
async fn malformed_cursors_are_refused() {
    let gateway = Gateway::dev().await;
    store(&gateway, 1).await;
    let own = gateway.events().await[0].cursor.clone();
    let long = format!("{own}{}", "A".repeat(200));
    let short = &own[..own.len() - 1];
    let longer = forged(&own, |bytes| bytes.push(0));
    for bad in
        ["x", "c1.", "c2.AAAA", short, &own[3..], &format!("{own}="), &format!(" {own}"), &long, "ä", &longer]
    {
        let refusal = refused(&gateway, after(bad)).await;
        assert_eq!(refusal.is(), (Code::InvalidArgument, "CURSOR_MALFORMED"), "{bad}");
        assert_eq!(refusal.fields(), ["after_cursor"]);
    }
    for bad in [String::new(), "c".repeat(257), format!("c1.{}", "A".repeat(100_000))] {
        let refusal = refused(&gateway, after(&bad)).await;
        assert_eq!(refusal.code, Code::InvalidArgument);
        assert_eq!(refusal.fields(), ["after_cursor"]);
    }
}

#[tokio::test]
async fn streams_are_limited() {
    let gateway = Gateway::builder().env("WHATSAPP_GATEWAY__EVENTS__STREAMS_MAX", "2").start().await;
    let live = v1::SubscribeEventsRequest::default;
    let mut first = open(&gateway, live()).await;
    let second = open(&gateway, live()).await;
    next(&mut first).await;
    let refusal = refused(&gateway, live()).await;
    assert_eq!(refusal.is(), (Code::ResourceExhausted, "STREAM_QUOTA"));
    assert!(refusal.retry.is_some());
    // A refused start gives its place back, and so does a stream that its subscriber leaves.
    drop(second);
    eventually!({
        let opened = gateway.client().await.subscribe_events(live()).await;
        opened.is_ok()
    });
    for _ in 0..5 {
        assert_eq!(refused(&gateway, after("c1.nonsense")).await.code, Code::InvalidArgument);
    }
    eventually!(gateway.client().await.subscribe_events(earliest()).await.is_ok());
}

#[tokio::test]
async fn a_drain_ends_streams_loudly_with_a_cursor() {
    let mut gateway = Gateway::dev().await;
    gateway.send(text_to(crate::support::rpc::OPEN, "Hello")).await;
    eventually!(gateway.events().await.len() == 3);
    let mut stream =
        open(&gateway, v1::SubscribeEventsRequest { stop_when_caught_up: false, ..earliest() }).await;
    while !matches!(next(&mut stream).await, Frame::CaughtUp(_)) {}
    let last = gateway.events().await[2].cursor.clone();
    assert_eq!(gateway.terminate().await, Some(0));
    let Frame::Closing(closing) = next(&mut stream).await else { panic!("not closing") };
    assert_eq!((closing.reason(), &closing.resume_cursor), (v1::ClosingReason::Draining, &last));
    assert!(closing.reconnect_after.is_some());
    let refusal = Refusal::of(&timeout(PATIENCE, stream.message()).await.unwrap().unwrap_err());
    assert_eq!(refusal.is(), (Code::Unavailable, "SERVER_DRAINING"));
    assert_eq!(refusal.metadata["resume_cursor"], last);
}

/// Retention takes an hour at least, so what it does to cursors is checked on the flow itself.
mod expired {
    use std::sync::Arc;

    use whatsapp_gateway::clock::{Clock, ManualClock};
    use whatsapp_gateway::domain::caller::Caller;
    use whatsapp_gateway::domain::cursor::Cursor;
    use whatsapp_gateway::domain::filter::EventFilter;
    use whatsapp_gateway::flows::deliver_events::{
        DeliverEvents, End, EventStream, Frame, Limits, OnExpired, Start, StartError, Subscription, View,
    };
    use whatsapp_gateway::lifecycle::Shutdown;
    use whatsapp_gateway::storage::EventLog;
    use whatsapp_gateway::storage::contract::item;
    use whatsapp_gateway::storage::memory::Memory;

    use super::{Duration, SystemTime};

    fn subscription(start: Start, on_expired: OnExpired) -> Subscription {
        Subscription {
            start,
            filter: EventFilter::default(),
            view: View::Full,
            heartbeat_interval: Duration::from_secs(5),
            on_expired,
            // Each event alone, so that its cursor is its batch's.
            batch_events_max: 1,
            stop_when_caught_up: true,
            client_id: String::new(),
        }
    }

    async fn cursors(flow: &DeliverEvents, start: Start) -> (Vec<Frame>, Vec<String>) {
        let mut stream = open(flow, subscription(start, OnExpired::Fail)).await.unwrap();
        let frames = drain(&mut stream).await;
        let cursors = frames.iter().filter_map(|frame| {
            if let Frame::Events(batch) = frame { Some(batch.through.encode()) } else { None }
        });
        let cursors = cursors.collect();
        (frames, cursors)
    }

    async fn open(flow: &DeliverEvents, subscription: Subscription) -> Result<EventStream, StartError> {
        flow.open(&Caller::local(), subscription, Box::new(|| {})).await
    }

    async fn drain(stream: &mut EventStream) -> Vec<Frame> {
        let mut frames = Vec::new();
        while let Some(frame) = stream.frames.recv().await {
            frames.push(frame);
        }
        assert_eq!((&mut stream.end).await, Ok(End::CaughtUp));
        frames
    }

    #[tokio::test]
    async fn an_expired_cursor_fails_or_leaves_a_gap_frame() {
        let clock = ManualClock::new(SystemTime::UNIX_EPOCH + Duration::from_hours(1000));
        let log = Memory::new(clock.clone());
        let limits = Limits {
            streams_max: 8,
            send_timeout: Duration::from_secs(5),
            rotation: Duration::from_mins(10),
        };
        let flow = DeliverEvents::new(log.clone(), limits, clock.clone(), Shutdown::new());
        for number in 1..=10 {
            log.append(vec![item(number)]).await.unwrap();
            clock.advance(Duration::from_secs(1));
        }
        let (_, cursors_) = cursors(&flow, Start::Earliest).await;
        let at = |seq: usize| Start::After(Cursor::decode(&cursors_[seq - 1]).unwrap());
        // Events 1 to 6 go.
        assert_eq!(log.trim(clock.now_ms() - 4000).await, Ok(6));

        let refused = open(&flow, subscription(at(3), OnExpired::Fail)).await.unwrap_err();
        let StartError::Expired { earliest_cursor, missing } = refused else { panic!("{refused:?}") };
        assert_eq!(missing, 3);
        let way_out = Start::After(Cursor::decode(&earliest_cursor).unwrap());
        assert_eq!(cursors(&flow, way_out).await.1, cursors_[6..]);

        for (policy, missing, left) in [(OnExpired::Earliest, 3, &cursors_[6..]), (OnExpired::Latest, 7, &[])]
        {
            let mut stream = open(&flow, subscription(at(3), policy)).await.unwrap();
            let frames = drain(&mut stream).await;
            let Frame::Gap { from_cursor, to_cursor, missing: found } = &frames[1] else {
                panic!("{frames:?}")
            };
            assert_eq!((from_cursor, *found), (&cursors_[2], missing));
            let resumed = Start::After(Cursor::decode(to_cursor).unwrap());
            assert_eq!(cursors(&flow, resumed).await.1, left);
            let seen = frames.iter().filter(|frame| matches!(frame, Frame::Events(_))).count();
            assert_eq!(seen > 0, !left.is_empty());
        }
        // The last event that went is the edge: nothing after it is missing.
        let (frames, seen) = cursors(&flow, at(6)).await;
        assert!(!frames.iter().any(|frame| matches!(frame, Frame::Gap { .. })));
        assert_eq!(seen, cursors_[6..]);
        // No start by position or time is ever expired.
        assert_eq!(cursors(&flow, Start::Earliest).await.1, cursors_[6..]);
        assert_eq!(cursors(&flow, Start::Time(SystemTime::UNIX_EPOCH)).await.1, cursors_[6..]);

        // A log that is empty after retention keeps its place.
        clock.advance(Duration::from_hours(1));
        log.trim(clock.now_ms()).await.unwrap();
        assert!(cursors(&flow, at(10)).await.1.is_empty());
        let refused = open(&flow, subscription(at(9), OnExpired::Fail)).await.unwrap_err();
        let StartError::Expired { missing, .. } = refused else { panic!("{refused:?}") };
        assert_eq!(missing, 1);
        let log: Arc<dyn EventLog> = log;
        assert_eq!(log.bounds().await.unwrap().tail, 10);
    }
}
