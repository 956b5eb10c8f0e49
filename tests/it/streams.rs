//! What a stream promises: everything, in order, from any cursor, and a word for whatever happens.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

use prost::Message as _;
use serde_json::{Value, json};
use tokio::time::Instant;
use tonic::Code;
use tonic_types::StatusExt as _;
use whatsapp_gateway::contract::v1::event::Payload;
use whatsapp_gateway::contract::v1::subscribe_events_request::Start;
use whatsapp_gateway::contract::v1::subscribe_events_response::Frame;
use whatsapp_gateway::contract::v1::{
    Event, EventFilter, PayloadView, Position, SubscribeEventsRequest, received_message,
};

use crate::support::gateway::Client;
use crate::support::subscriber::{after, from_earliest, position, start};
use crate::support::webhook::{messages, text};
use crate::support::{Gateway, Rng, Subscriber, rounds};

const USER: &str = "16505551234";
/// What gRPC clients accept unless told otherwise.
const DEFAULT_MESSAGE_BYTES: usize = 4 * 1024 * 1024;

async fn post(gateway: &Gateway, body: &Value) {
    assert_eq!(gateway.post_webhook(body.to_string()).await, 200);
}

/// Posts texts with these numbers, many to a body.
async fn post_texts(gateway: &Gateway, numbers: std::ops::Range<usize>) {
    let all: Vec<_> = numbers.map(|number| message(&id(number), &"x".repeat(number % 700))).collect();
    for chunk in all.chunks(100) {
        post(gateway, &messages(chunk)).await;
    }
}

fn message(id: &str, body: &str) -> Value {
    json!({"from": USER, "id": id, "timestamp": "1749416383", "type": "text", "text": {"body": body}})
}

fn id(number: usize) -> String {
    format!("wamid.{number:05}")
}

fn ids(events: &[Event]) -> Vec<&str> {
    events.iter().map(|event| event.subject.as_str()).collect()
}

async fn open(client: &mut Client, request: SubscribeEventsRequest) -> Subscriber {
    Subscriber::open(client, request).await.unwrap()
}

/// Everything that is stored, by one request.
async fn all(client: &mut Client, request: SubscribeEventsRequest) -> Vec<Event> {
    let rest =
        open(client, SubscribeEventsRequest { stop_when_caught_up: true, ..request }).await.rest().await;
    assert!(rest.status.is_none(), "{:?}", rest.status);
    rest.events
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subscriber_that_is_cut_anywhere_misses_nothing() {
    let count = usize::try_from(rounds(3_000, 50_000)).unwrap();
    let mut rng = Rng::seeded(42);
    let gateway = Gateway::dev().await;
    post_texts(&gateway, 0..count / 2).await;

    // One half is there, the other comes meanwhile.
    let live = async { post_texts(&gateway, count / 2..count).await };
    let read = async {
        let (mut seen, mut cursor, mut cuts) = (Vec::new(), None::<String>, 0);
        while seen.len() < count {
            let request = cursor.as_deref().map_or_else(from_earliest, after);
            let max_batch_events = u32::try_from(rng.between(1, 64)).unwrap();
            let mut client = gateway.client().await;
            let mut stream = open(&mut client, SubscribeEventsRequest { max_batch_events, ..request }).await;
            let from = stream.opened.start_cursor.clone();
            assert!(cursor.is_none_or(|cursor| cursor == from), "it starts elsewhere");
            cursor = Some(from);
            // Cut after so many frames, some of them unread, and perhaps in the middle of a batch.
            for _ in 0..rng.between(0, 6) {
                if seen.len() >= count {
                    break;
                }
                let batch = stream.events().await.unwrap();
                assert!(batch.len() <= max_batch_events as usize);
                let stored = usize::try_from(rng.between(1, batch.len() as u64)).unwrap();
                let is_cut = stored < batch.len();
                for event in batch.into_iter().take(stored) {
                    cursor = Some(event.cursor.clone());
                    seen.push(event);
                }
                if is_cut {
                    break;
                }
            }
            cuts += 1;
        }
        (seen, cuts)
    };
    let ((), (seen, cuts)) = tokio::join!(live, read);
    assert!(cuts > 20, "only {cuts} cuts");
    assert_eq!(ids(&seen), (0..count).map(id).collect::<Vec<_>>());
    assert!(seen.windows(2).all(|pair| position(&pair[0].cursor) < position(&pair[1].cursor)));
    assert_eq!(seen, all(&mut gateway.client().await, from_earliest()).await, "the log itself");
    eprintln!("{count} events over {cuts} connections");
}

#[tokio::test]
async fn frames_say_where_the_stream_is() {
    let gateway = Gateway::dev().await;
    let mut client = gateway.client().await;
    post_texts(&gateway, 0..10).await;
    let mut stream =
        open(&mut client, SubscribeEventsRequest { max_batch_events: 4, ..from_earliest() }).await;
    let opened = stream.opened.clone();
    assert_eq!((position(&opened.start_cursor), position(&opened.earliest_cursor)), (0, 0));
    assert_eq!((opened.engine.as_str(), opened.max_batch_events), ("embedded", 4));
    assert_eq!(opened.heartbeat_interval.unwrap().seconds, 15);
    assert!(!opened.stream_id.is_empty());

    let mut sizes = Vec::new();
    let caught_up = loop {
        let frame = stream.frame().await.unwrap().unwrap();
        if let Frame::CaughtUp(caught_up) = frame {
            break caught_up;
        }
        let Frame::Events(batch) = frame else { panic!("{frame:?}") };
        sizes.push(batch.events.len());
    };
    assert_eq!(sizes, [4, 4, 2]);
    assert_eq!(position(&caught_up.cursor), 10);

    // Live events follow at once, without another `caught_up`.
    post_texts(&gateway, 10..11).await;
    let Some(Frame::Events(batch)) = stream.frame().await.unwrap() else { panic!("expected events") };
    let event = batch.events[0].event.clone().unwrap();
    assert_eq!((event.subject.as_str(), position(&event.cursor)), (id(10).as_str(), 11));

    // Nothing is after the last cursor.
    let request = SubscribeEventsRequest { stop_when_caught_up: true, ..after(&event.cursor) };
    let mut at_end = open(&mut client, request).await;
    assert_eq!(at_end.opened.start_cursor, event.cursor);
    assert!(matches!(at_end.frame().await.unwrap(), Some(Frame::CaughtUp(_))));
    assert_eq!(at_end.frame().await.unwrap(), None);
}

#[tokio::test]
async fn heartbeats_advance_although_nothing_matches() {
    let gateway = Gateway::dev().await;
    let mut client = gateway.client().await;
    post_texts(&gateway, 0..7).await;
    let never = EventFilter { types: vec!["whatsapp.nothing".to_owned()], ..Default::default() };
    let every = prost_types::Duration { seconds: 1, nanos: 0 };
    let request =
        SubscribeEventsRequest { filter: Some(never), heartbeat_interval: Some(every), ..from_earliest() };
    let mut stream = open(&mut client, request.clone()).await;
    assert_eq!(stream.opened.heartbeat_interval.unwrap().seconds, 5, "clamped");
    let Some(Frame::CaughtUp(caught_up)) = stream.frame().await.unwrap() else {
        panic!("expected caught_up")
    };
    assert_eq!(position(&caught_up.cursor), 7, "events that do not match are passed too");
    post_texts(&gateway, 7..12).await;
    let opened = Instant::now();
    let Some(Frame::Heartbeat(heartbeat)) = stream.frame().await.unwrap() else {
        panic!("expected a heartbeat")
    };
    assert_eq!((position(&heartbeat.cursor), heartbeat.backlog_estimate), (12, 0));
    assert!(opened.elapsed() <= Duration::from_secs(10));
    assert!(heartbeat.server_time.is_some());

    // Its cursor is as good as an event's.
    post_texts(&gateway, 12..13).await;
    assert_eq!(ids(&all(&mut client, after(&heartbeat.cursor)).await), [id(12)]);
}

#[tokio::test]
async fn a_stream_starts_where_it_is_told() {
    let gateway = Gateway::dev().await;
    let mut client = gateway.client().await;
    let empty = all(&mut client, from_earliest()).await;
    assert!(empty.is_empty(), "an empty log ends at once");
    post_texts(&gateway, 0..5).await;
    let first = all(&mut client, from_earliest()).await;
    let at = |time: SystemTime| start(Start::StartTime(time.into()));

    // Positions are by the time of the append, in milliseconds: both sides of a time in between.
    let between: SystemTime = {
        #[expect(clippy::disallowed_methods, reason = "the gateway's clock is the system's")]
        let now = SystemTime::now();
        let later = now + Duration::from_millis(2);
        #[expect(clippy::disallowed_methods, reason = "the gateway's clock is the system's")]
        while SystemTime::now() <= later {
            tokio::task::yield_now().await;
        }
        later
    };
    post_texts(&gateway, 5..8).await;
    assert_eq!(ids(&all(&mut client, at(between)).await), [id(5), id(6), id(7)]);
    assert_eq!(all(&mut client, at(SystemTime::UNIX_EPOCH + Duration::from_secs(1))).await.len(), 8);
    assert!(all(&mut client, at(between + Duration::from_hours(1))).await.is_empty());

    // By default, only what comes.
    for request in [SubscribeEventsRequest::default(), start(Start::Position(Position::Latest.into()))] {
        assert!(all(&mut client, request).await.is_empty());
    }
    let mut latest = open(&mut client, SubscribeEventsRequest::default()).await;
    assert_eq!(position(&latest.opened.start_cursor), 8);
    post_texts(&gateway, 8..9).await;
    assert_eq!(ids(&latest.take(1).await.unwrap()), [id(8)]);

    // A cursor is exclusive, and the same with another filter and view.
    let rest = all(
        &mut client,
        SubscribeEventsRequest {
            filter: Some(EventFilter { types: vec!["whatsapp.message.*".to_owned()], ..Default::default() }),
            payload_view: PayloadView::Raw.into(),
            ..after(&first[2].cursor)
        },
    )
    .await;
    assert_eq!(ids(&rest), (3..9).map(id).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_cursor_of_another_log_is_refused() {
    let gateway = Gateway::dev().await;
    let other = Gateway::dev().await;
    post_texts(&gateway, 0..2).await;
    post_texts(&other, 0..2).await;
    let mut client = gateway.client().await;
    let cursors: Vec<_> =
        all(&mut other.client().await, from_earliest()).await.into_iter().map(|event| event.cursor).collect();
    let status = Subscriber::open(&mut client, after(&cursors[0])).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition, "{status:?}");
    let info = status.get_details_error_info().unwrap();
    assert_eq!(info.reason, "CURSOR_EPOCH_MISMATCH");
    let status = Subscriber::open(&mut client, after("c1.nonsense")).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert_eq!(status.get_details_error_info().unwrap().reason, "CURSOR_MALFORMED");
}

#[tokio::test]
async fn a_view_carries_what_it_says() {
    let gateway = Gateway::dev().await;
    let mut client = gateway.client().await;
    post(&gateway, &text("wamid.1", USER, "Is the shop open?")).await;
    post(&gateway, &json!({"object": "whatsapp_business_account", "entry": []})).await;
    let mut view = async |view: PayloadView| {
        all(&mut client, SubscribeEventsRequest { payload_view: view.into(), ..from_earliest() }).await
    };
    let (full, typed, raw) =
        (view(PayloadView::Full).await, view(PayloadView::Typed).await, view(PayloadView::Raw).await);
    assert_eq!(full, view(PayloadView::Unspecified).await);
    assert_eq!((full.len(), typed.len(), raw.len()), (2, 2, 2));
    for ((full, typed), raw) in full.iter().zip(&typed).zip(&raw) {
        assert!(typed.raw_json.is_empty() && typed.change_json.is_empty());
        assert!(raw.payload.is_none());
        let union =
            Event { raw_json: raw.raw_json.clone(), change_json: raw.change_json.clone(), ..typed.clone() };
        assert_eq!(*full, union);
        assert_eq!(*full, Event { payload: typed.payload.clone(), ..raw.clone() });
    }
    let Some(Payload::Message(message)) = &typed[0].payload else { panic!("{typed:?}") };
    let Some(received_message::Content::Text(content)) = &message.content else { panic!("{message:?}") };
    assert_eq!(content.body, "Is the shop open?");
    let item: Value = serde_json::from_str(&raw[0].raw_json).unwrap();
    assert_eq!(item["text"]["body"], "Is the shop open?");
    assert!(raw[0].change_json.contains("display_phone_number"));
}

#[tokio::test]
async fn the_largest_event_fits_a_default_client() {
    let gateway = Gateway::dev().await;
    let body = "x".repeat(3_400 * 1024);
    post(&gateway, &text("wamid.large", USER, &body)).await;
    post(&gateway, &text("wamid.small", USER, "Hi")).await;
    let mut client = gateway.client().await.max_decoding_message_size(DEFAULT_MESSAGE_BYTES);
    for view in [PayloadView::Full, PayloadView::Typed, PayloadView::Raw] {
        let events =
            all(&mut client, SubscribeEventsRequest { payload_view: view.into(), ..from_earliest() }).await;
        assert_eq!(ids(&events), ["wamid.large", "wamid.small"], "{view:?}");
        let large = &events[0];
        assert!(large.encoded_len() < DEFAULT_MESSAGE_BYTES);
        assert!(large.payload_omitted && large.payload.is_none(), "{view:?}");
        assert_eq!(large.raw_json.len() > body.len(), view != PayloadView::Typed);
        assert!(!events[1].payload_omitted);
    }
}

#[tokio::test]
async fn a_filter_is_exact() {
    let gateway = Gateway::dev().await;
    let mut client = gateway.client().await;
    for (number, user) in [(0, "16505550001"), (1, "16505550002"), (2, "16505550001")] {
        post(&gateway, &text(&id(number), user, "Hi")).await;
    }
    post(&gateway, &json!({"object": "whatsapp_business_account", "entry": []})).await;
    let events = all(&mut client, from_earliest()).await;
    let keys: BTreeSet<_> = events.iter().map(|event| &event.conversation_key).collect();
    assert_eq!((events.len(), keys.len()), (4, 3));
    let one = EventFilter {
        conversation_keys: vec![events[0].conversation_key.clone()],
        types: vec!["whatsapp.message.received".to_owned(), "whatsapp.nothing".to_owned()],
        ..Default::default()
    };
    let found = all(&mut client, SubscribeEventsRequest { filter: Some(one), ..from_earliest() }).await;
    assert_eq!(ids(&found), [id(0), id(2)]);
}
