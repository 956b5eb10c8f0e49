//! Named subscriptions through a real channel: who gets what, what comes again, and what never does.

use rusqlite::Connection;
use serde_json::{Value, json};
use tempfile::TempDir;
use tonic::{Code, Status};
use whatsapp_gateway::contract::v1::{
    self, AckFailureReason as Refused, SubscriptionMode as Mode, seek_subscription_request::To,
    subscribe_events_response::Frame,
};

use crate::eventually;
use crate::support::worker::{done, extend, hasty, retry, seconds, settings, subject, work};
use crate::support::{Gateway, Refusal, Worker, subscriber, webhook};

/// Stores messages, each by the conversation of its number.
pub(crate) async fn store(gateway: &Gateway, messages: &[(&str, &str)]) {
    let message = |(id, from): &(&str, &str)| json!({"from": from, "id": id, "timestamp": "1749416383", "type": "text", "text": {"body": "Hi"}});
    let messages: Vec<Value> = messages.iter().map(message).collect();
    assert_eq!(gateway.post_webhook(webhook::messages(&messages).to_string()).await, 200);
}

fn subjects(deliveries: &[v1::ReceivedEvent]) -> Vec<&str> {
    deliveries.iter().map(subject).collect()
}

const A: &str = "16505550001";
const B: &str = "16505550002";

#[tokio::test]
async fn what_is_done_is_never_delivered_again_and_all_else_is() {
    let folder = TempDir::new().unwrap();
    let mut gateway = Gateway::builder().data_dir(folder.path()).start().await;
    let created = gateway.subscription(settings("orders")).await;
    assert_eq!((created.mode(), created.max_attempts), (Mode::Ordered, 10));
    assert_eq!((created.ack_deadline, created.backlog_estimate), (Some(seconds(30)), 0));
    store(&gateway, &[("a1", A), ("a2", A), ("b1", B)]).await;
    let mut worker = Worker::open(&gateway, "orders").await;
    assert_eq!(worker.stream.opened.ack_deadline, Some(seconds(30)));
    assert_eq!(worker.stream.opened.max_outstanding_events, 100);
    let first = worker.all().await;
    assert_eq!(subjects(&first), ["a1", "b1"], "one event of a conversation at a time");
    assert!(first.iter().all(|received| received.delivery_attempt == 1 && !received.ack_id.is_empty()));
    let told = gateway.subscribed("orders").await;
    assert_eq!((told.backlog_estimate, told.outstanding, told.worker_count), (3, 2, 1));
    assert!(told.oldest_unacked_time.is_some());
    assert_eq!(worker.say(&first[0], done()).await, None);
    let second = worker.one().await;
    assert_eq!(subject(&second), "a2");
    assert_eq!(worker.say(&first[0], done()).await, None, "a repetition is no error");

    gateway.kill().await;
    let gateway = Gateway::builder().data_dir(folder.path()).start().await;
    let mut worker = Worker::open(&gateway, "orders").await;
    let again = worker.all().await;
    assert_eq!(subjects(&again), ["a2", "b1"]);
    assert_eq!(worker.say(&second, done()).await, Some(Refused::Expired), "of the process that was killed");
    worker.done(&again).await;
    let told = gateway.subscribed("orders").await;
    assert_eq!((told.backlog_estimate, told.outstanding, told.oldest_unacked_time), (0, 0, None));
    assert_eq!(told.floor_cursor, again[1].event.as_ref().unwrap().cursor);

    drop(gateway);
    let gateway = Gateway::builder().data_dir(folder.path()).start().await;
    assert_eq!(Worker::open(&gateway, "orders").await.all().await, []);
    store(&gateway, &[("b2", B)]).await;
    assert_eq!(subject(&Worker::open(&gateway, "orders").await.one().await), "b2");
}

#[tokio::test]
async fn workers_share_and_a_retry_holds_its_conversation_only() {
    let gateway = Gateway::dev().await;
    gateway.subscription(settings("orders")).await;
    let (mut one, mut two) = (Worker::open(&gateway, "orders").await, Worker::open(&gateway, "orders").await);
    let numbers: Vec<String> = (0..20).map(|number| format!("165055500{number:02}")).collect();
    let ids: Vec<String> = (0..20).map(|number| format!("m{number}")).collect();
    let messages: Vec<_> = ids.iter().zip(&numbers).map(|(id, from)| (id.as_str(), from.as_str())).collect();
    // Both wait at the tail.
    assert_eq!((one.all().await.len(), two.all().await.len()), (0, 0));
    store(&gateway, &messages).await;
    let (of_one, of_two) = (one.all().await, two.all().await);
    assert!(of_one.len() >= 5 && of_two.len() >= 5, "{} and {}", of_one.len(), of_two.len());
    let mut all: Vec<_> = subjects(&of_one).into_iter().chain(subjects(&of_two)).collect();
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), 20);

    store(&gateway, &[("next", &numbers[0]), ("other", "16505559999")]).await;
    let held = of_one.iter().find(|r| subject(r) == "m0");
    let (owner, held) = match held {
        Some(held) => (&mut one, held),
        None => (&mut two, of_two.iter().find(|r| subject(r) == "m0").unwrap()),
    };
    assert_eq!(owner.say(held, retry(Some(1))).await, None);
    assert_eq!(owner.say(held, done()).await, Some(Refused::Expired), "it was given back");
    drop((one, two));
    let mut one = Worker::open(&gateway, "orders").await;
    let mut seen: Vec<v1::ReceivedEvent> = Vec::new();
    while !seen.iter().any(|r| subject(r) == "m0") {
        seen.extend(one.stream.deliveries().await.unwrap());
        assert!(!seen.iter().any(|r| subject(r) == "next"), "it overtook the event before it");
    }
    let again = seen.iter().find(|r| subject(r) == "m0").unwrap();
    assert_eq!(again.delivery_attempt, 2);
    assert_eq!(one.say(again, done()).await, None);
    while !seen.iter().any(|r| subject(r) == "next") {
        seen.extend(one.stream.deliveries().await.unwrap());
    }
}

#[tokio::test]
async fn a_deadline_ends_a_lease_unless_it_is_extended() {
    let gateway = Gateway::dev().await;
    gateway.subscription(hasty("orders")).await;
    store(&gateway, &[("a1", A), ("b1", B)]).await;
    let mut worker = Worker::open(&gateway, "orders").await;
    let first = worker.all().await;
    assert_eq!(worker.say(&first[1], extend(600)).await, None);
    // The zombie: its answer comes after its time, when another has the event.
    let again = worker.one().await;
    assert_eq!((subject(&again), again.delivery_attempt), ("a1", 2));
    assert_eq!(worker.say(&first[0], done()).await, Some(Refused::Expired));
    assert_eq!(worker.say(&first[0], extend(10)).await, Some(Refused::Expired));
    assert_eq!(worker.say(&again, done()).await, None);
    assert_eq!(worker.say(&first[1], done()).await, None, "it had all the time it asked for");
    assert_eq!(gateway.subscribed("orders").await.backlog_estimate, 0);
}

#[tokio::test]
async fn a_slow_worker_holds_up_nobody() {
    let gateway = Gateway::dev().await;
    gateway.subscription(settings("orders")).await;
    let few = v1::SubscribeEventsRequest { max_outstanding_events: 1, ..work("orders") };
    let mut slow = Worker::with(&gateway, few).await.unwrap();
    let mut fast = Worker::open(&gateway, "orders").await;
    store(&gateway, &[("a1", A)]).await;
    // One of them has it; the slow one is full then, and never answers.
    let of_slow = tokio::select! {
        received = slow.one() => Some(received),
        received = fast.one() => { fast.done(&[received]).await; None }
    };
    for number in 0..50 {
        store(&gateway, &[(&format!("b{number}"), &format!("16505551{number:03}"))]).await;
    }
    let mut got = 0;
    // Who has less in hand gets the next one: so the slow one has one of them, and no more.
    let expected = if of_slow.is_some() { 50 } else { 49 };
    while got < expected {
        let deliveries = fast.stream.deliveries().await.unwrap();
        got += deliveries.len();
        fast.done(&deliveries).await;
    }
    assert_eq!(got, expected);
    assert_eq!(gateway.subscribed("orders").await.outstanding, 1);
}

#[tokio::test]
async fn who_opens_the_same_worker_again_takes_over() {
    let gateway = Gateway::dev().await;
    gateway.subscription(settings("orders")).await;
    store(&gateway, &[("a1", A)]).await;
    let mut first = Worker::named(&gateway, "orders", "pod-1").await;
    let lease = first.one().await;
    let mut second = Worker::named(&gateway, "orders", "pod-1").await;
    let again = second.one().await;
    assert_eq!((subject(&again), again.delivery_attempt), ("a1", 2));
    let rest = first.stream.rest().await;
    let status = rest.status.unwrap();
    assert_eq!(Refusal::of(&status).is(), (Code::Aborted, "STREAM_TAKEN_OVER"));
    let closing = rest.closing.unwrap();
    assert_eq!((closing.reason(), closing.resume_cursor.as_str()), (v1::ClosingReason::TakenOver, ""));
    assert_eq!(second.say_of(&lease.ack_id, done()).await, Some(Refused::Expired));
    assert_eq!(second.say(&again, done()).await, None);
}

#[tokio::test]
async fn one_worker_has_all_in_order_and_the_others_stand_by() {
    let gateway = Gateway::dev().await;
    let exclusive = v1::Subscription { mode: Mode::Exclusive.into(), ..settings("ledger") };
    gateway.subscription(exclusive).await;
    let mut active = Worker::open(&gateway, "ledger").await;
    let mut standby = Worker::open(&gateway, "ledger").await;
    assert_eq!(active.all().await.len() + standby.all().await.len(), 0);
    store(&gateway, &[("a1", A), ("a2", A), ("b1", B)]).await;
    let all = active.take(3).await;
    assert_eq!(subjects(&all), ["a1", "a2", "b1"]);
    assert_eq!(active.say(&all[1], retry(Some(0))).await, None);
    let again = active.take(2).await;
    assert_eq!(subjects(&again), ["a2", "b1"], "what came after it comes again behind it");
    assert_eq!(active.say(&all[0], done()).await, None);
    drop(active);
    assert_eq!(subjects(&standby.take(2).await), ["a2", "b1"], "the other one takes over");
}

#[tokio::test]
async fn in_shared_mode_there_is_no_order() {
    let gateway = Gateway::dev().await;
    gateway.subscription(v1::Subscription { mode: Mode::Shared.into(), ..settings("any") }).await;
    store(&gateway, &[("a1", A), ("a2", A), ("a3", A)]).await;
    assert_eq!(Worker::open(&gateway, "any").await.take(3).await.len(), 3);
}

async fn seek(gateway: &Gateway, to: To) -> Result<v1::Subscription, Status> {
    let request = v1::SeekSubscriptionRequest { name: "orders".to_owned(), to: Some(to) };
    let sought = gateway.subscriptions().await.seek_subscription(request).await?;
    Ok(sought.into_inner().subscription.unwrap())
}

#[tokio::test]
async fn it_can_be_sought_elsewhere_while_workers_are_there() {
    let gateway = Gateway::dev().await;
    gateway.subscription(settings("orders")).await;
    store(&gateway, &[("a1", A)]).await;
    store(&gateway, &[("b1", B), ("a2", A)]).await;
    let mut worker = Worker::open(&gateway, "orders").await;
    let first = worker.all().await;
    worker.done(&first[..1]).await;
    let second = worker.one().await;
    let cursor = first[0].event.as_ref().unwrap().cursor.clone();
    let sought = seek(&gateway, To::AfterCursor(cursor.clone())).await.unwrap();
    assert_eq!(sought.floor_cursor, cursor);
    assert_eq!(worker.say(&second, done()).await, Some(Refused::Expired));
    let again = worker.take(2).await;
    assert_eq!(subjects(&again), ["b1", "a2"], "the first one is before the cursor");
    assert_eq!(again[0].delivery_attempt, 1);
    // Who forgets the position must not lose what is not done.
    let unsaid = To::Position(v1::Position::Unspecified.into());
    let refusal = Refusal::of(&seek(&gateway, unsaid).await.unwrap_err());
    assert_eq!((refusal.code, refusal.fields()), (Code::InvalidArgument, vec!["position"]));
    let remedy = refusal.violations[0].1.as_str();
    assert!(remedy.contains("POSITION_LATEST") && remedy.contains("POSITION_EARLIEST"), "{remedy}");
    seek(&gateway, To::Position(v1::Position::Latest.into())).await.unwrap();
    assert_eq!(gateway.subscribed("orders").await.backlog_estimate, 0);
    let epoch = prost_types::Timestamp { seconds: 0, nanos: 0 };
    seek(&gateway, To::Time(epoch)).await.unwrap();
    assert_eq!(subjects(&worker.take(2).await), ["a1", "b1"]);
    let refused = seek(&gateway, To::AfterCursor("c1.nonsense".to_owned())).await.unwrap_err();
    assert_eq!(Refusal::of(&refused).is(), (Code::InvalidArgument, "CURSOR_MALFORMED"));
}

#[tokio::test]
async fn acks_that_mean_nothing_are_listed_and_the_others_count() {
    let gateway = Gateway::dev().await;
    gateway.subscription(settings("orders")).await;
    gateway.subscription(settings("other")).await;
    store(&gateway, &[("a1", A)]).await;
    let mut worker = Worker::open(&gateway, "orders").await;
    let mut other = Worker::open(&gateway, "other").await;
    let (own, foreign) = (worker.one().await, other.one().await);
    let outcome = |id: &str| v1::AckOutcome { ack_id: id.to_owned(), outcome: Some(done()) };
    let mut damaged = own.ack_id.clone();
    damaged.replace_range(10..11, if &damaged[10..11] == "A" { "B" } else { "A" });
    let ids = ["nonsense", &damaged, &foreign.ack_id, &own.ack_id].map(outcome);
    let failures = worker.acknowledge(ids.to_vec()).await.unwrap();
    let reasons: Vec<_> = failures.iter().map(v1::AckFailure::reason).collect();
    assert_eq!(reasons, [Refused::Unknown, Refused::Unknown, Refused::NotOwner]);
    assert_eq!(gateway.subscribed("orders").await.backlog_estimate, 0);
    assert_eq!(gateway.subscribed("other").await.backlog_estimate, 1);

    let without = v1::AckOutcome { ack_id: own.ack_id.clone(), outcome: None };
    let refusal = Refusal::of(&worker.acknowledge(vec![without, outcome("")]).await.unwrap_err());
    assert_eq!(refusal.fields(), ["outcomes[0]", "outcomes[1].ack_id"]);
    let refusal = Refusal::of(&worker.acknowledge(Vec::new()).await.unwrap_err());
    assert_eq!(refusal.fields(), ["outcomes"]);
    for bad in [extend(0), extend(601), retry(Some(-1)), retry(Some(86_401))] {
        let outcome = v1::AckOutcome { ack_id: own.ack_id.clone(), outcome: Some(bad) };
        let refusal = Refusal::of(&worker.acknowledge(vec![outcome]).await.unwrap_err());
        assert_eq!(refusal.is(), (Code::InvalidArgument, "VALIDATION_FAILED"));
        assert!(refusal.message.contains("seconds"), "{refusal:?}");
    }
}

#[tokio::test]
async fn bad_requests_say_what_to_do() {
    let gateway = Gateway::dev().await;
    let mut api = gateway.subscriptions().await;
    let unknown = Worker::with(&gateway, work("nothing")).await.unwrap_err();
    assert_eq!(Refusal::of(&unknown).is(), (Code::NotFound, "SUBSCRIPTION_NOT_FOUND"));
    let request = v1::GetSubscriptionRequest { name: "nothing".to_owned() };
    let unknown = api.get_subscription(request).await.unwrap_err();
    assert_eq!(Refusal::of(&unknown).is(), (Code::NotFound, "SUBSCRIPTION_NOT_FOUND"));

    let before = gateway.subscription(settings("orders")).await;
    let request = v1::CreateSubscriptionRequest { subscription: Some(settings("orders")), start: None };
    let exists = api.create_subscription(request).await.unwrap_err();
    assert_eq!(Refusal::of(&exists).is(), (Code::AlreadyExists, "SUBSCRIPTION_EXISTS"));
    let bad = v1::Subscription {
        ack_deadline: Some(seconds(601)),
        retry_delay_min: Some(seconds(9)),
        retry_delay_max: Some(seconds(8)),
        max_attempts: 1001,
        filter: Some(v1::EventFilter { types: vec!["*.x".to_owned()], ..Default::default() }),
        ..settings("Not A Name")
    };
    let request = v1::CreateSubscriptionRequest { subscription: Some(bad), start: None };
    let refusal = Refusal::of(&api.create_subscription(request).await.unwrap_err());
    let expected = ["name", "max_attempts", "ack_deadline", "retry_delay_max", "filter.types[0]"];
    assert_eq!(refusal.fields(), expected.map(|field| format!("subscription.{field}")));

    // A stream of its own has no worker's limits, and a worker no start and filter of its own.
    let alone = v1::SubscribeEventsRequest { max_outstanding_events: 1, ..Default::default() };
    let refusal = Refusal::of(&Worker::with(&gateway, alone).await.unwrap_err());
    assert_eq!(refusal.fields(), ["max_outstanding_events"]);
    let start = v1::subscribe_events_request::Start::Position(v1::Position::Latest.into());
    let filter = Some(v1::EventFilter::default());
    let both = v1::SubscribeEventsRequest { start: Some(start), filter, ..work("orders") };
    let refusal = Refusal::of(&Worker::with(&gateway, both).await.unwrap_err());
    assert_eq!(refusal.fields(), ["position", "filter"]);

    let update = async |change: v1::Subscription| {
        let request = v1::UpdateSubscriptionRequest { subscription: Some(change) };
        let changed = gateway.subscriptions().await.update_subscription(request).await;
        changed.map(|changed| changed.into_inner().subscription.unwrap())
    };
    let types = v1::EventFilter { types: vec!["whatsapp.*".to_owned()], ..Default::default() };
    for immutable in [
        v1::Subscription { filter: Some(types), ..settings("orders") },
        v1::Subscription { mode: Mode::Shared.into(), ..settings("orders") },
    ] {
        let refusal = Refusal::of(&update(immutable).await.unwrap_err());
        assert_eq!(refusal.is(), (Code::FailedPrecondition, "SUBSCRIPTION_IMMUTABLE"));
        assert!(refusal.message.contains("floor_cursor"), "{refusal:?}");
    }
    let change =
        v1::Subscription { ack_deadline: Some(seconds(60)), etag: before.etag.clone(), ..settings("orders") };
    let changed = update(change.clone()).await.unwrap();
    assert_eq!((changed.ack_deadline, changed.max_attempts), (Some(seconds(60)), 10));
    let refusal = Refusal::of(&update(change).await.unwrap_err());
    assert_eq!(refusal.is(), (Code::Aborted, "SUBSCRIPTION_CHANGED"));
    assert_eq!(refusal.metadata["etag"], changed.etag);
}

#[tokio::test]
async fn subscriptions_are_listed_and_deleted_with_their_streams() {
    let gateway = Gateway::dev().await;
    for name in ["c", "a", "b"] {
        gateway.subscription(settings(name)).await;
    }
    let mut api = gateway.subscriptions().await;
    let mut names = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = v1::ListSubscriptionsRequest { page_size: 2, page_token };
        let page = api.list_subscriptions(request).await.unwrap().into_inner();
        names.extend(page.subscriptions.into_iter().map(|subscription| subscription.name));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    assert_eq!(names, ["a", "b", "c"]);
    store(&gateway, &[("a1", A)]).await;
    let mut worker = Worker::open(&gateway, "b").await;
    let lease = worker.one().await;
    api.delete_subscription(v1::DeleteSubscriptionRequest { name: "b".to_owned() }).await.unwrap();
    let outcome = v1::AckOutcome { ack_id: lease.ack_id, outcome: Some(done()) };
    let gone = worker.acknowledge(vec![outcome]).await.unwrap_err();
    assert_eq!(Refusal::of(&gone).is(), (Code::NotFound, "SUBSCRIPTION_NOT_FOUND"));
    let rest = worker.stream.rest().await;
    assert_eq!(rest.closing.unwrap().reason(), v1::ClosingReason::SubscriptionDeleted);
    assert_eq!(Refusal::of(&rest.status.unwrap()).is(), (Code::NotFound, "SUBSCRIPTION_NOT_FOUND"));
    // Another one of the same name knows nothing of it.
    let again = gateway.subscription(settings("b")).await;
    assert_eq!(again.backlog_estimate, 1);
}

#[tokio::test]
async fn a_stream_that_stops_when_caught_up_ends_well() {
    let gateway = Gateway::dev().await;
    let filter = v1::EventFilter { types: vec!["whatsapp.message.status".to_owned()], ..Default::default() };
    gateway.subscription(v1::Subscription { filter: Some(filter), ..settings("statuses") }).await;
    gateway.subscription(settings("orders")).await;
    store(&gateway, &[("a1", A), ("a2", A), ("b1", B)]).await;
    for (name, expected) in [("orders", 2), ("statuses", 0)] {
        let peek = v1::SubscribeEventsRequest { stop_when_caught_up: true, ..work(name) };
        let rest = Worker::with(&gateway, peek).await.unwrap().stream.rest().await;
        assert!(rest.status.is_none() && rest.closing.is_none());
        assert_eq!(rest.events.len(), expected, "{name}");
    }
    // What nobody wants is passed, also without workers.
    eventually!(gateway.subscribed("statuses").await.backlog_estimate == 0);
}

#[tokio::test]
async fn what_retention_removed_is_told() {
    let folder = TempDir::new().unwrap();
    let mut gateway = Gateway::builder().data_dir(folder.path()).start().await;
    gateway.subscription(settings("orders")).await;
    store(&gateway, &[("a1", A), ("b1", B), ("a2", A)]).await;
    let events = gateway.events().await;
    let mut worker = Worker::open(&gateway, "orders").await;
    let first = worker.all().await;
    worker.done(&first[1..]).await;
    assert_eq!(gateway.terminate().await, Some(0));
    let nine_days = 9 * 24 * 3600 * 1000;
    let aged = format!("UPDATE events SET append_ms = append_ms - {nine_days} WHERE seq <= 2");
    Connection::open(folder.path().join("gateway.db")).unwrap().execute_batch(&aged).unwrap();

    let gateway = Gateway::builder().data_dir(folder.path()).start().await;
    let refusal = Refusal::of(&Worker::with(&gateway, work("orders")).await.unwrap_err());
    assert_eq!(refusal.is(), (Code::OutOfRange, "CURSOR_EXPIRED"));
    let skipping = v1::SubscribeEventsRequest {
        on_expired_cursor: v1::OnExpiredCursor::Earliest.into(),
        ..work("orders")
    };
    let mut worker = Worker::with(&gateway, skipping).await.unwrap();
    let gap = loop {
        match worker.stream.frame().await.unwrap() {
            Some(Frame::Gap(gap)) => break gap,
            Some(Frame::Events(batch)) => panic!("before the gap: {batch:?}"),
            Some(_) => {}
            None => panic!("it ended"),
        }
    };
    let after = |cursor: &str| subscriber::position(cursor);
    assert_eq!((gap.missing_estimate, after(&gap.to_cursor)), (1, after(&events[1].cursor)));
    assert_eq!(subject(&worker.one().await), "a2");
    assert_eq!(gateway.subscribed("orders").await.missed_count, 1);
    assert_eq!(Worker::open(&gateway, "orders").await.stream.opened.max_outstanding_bytes, 1 << 20);
}
