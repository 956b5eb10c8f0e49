//! Events that nobody can do: put aside, looked at, tried again, dropped.

use tempfile::TempDir;
use tonic::Code;
use whatsapp_gateway::contract::v1::{self, ParkCause};

use crate::eventually;
use crate::subscriptions::store;
use crate::support::worker::{done, hasty, park, retry, settings, subject};
use crate::support::{Gateway, Refusal, Worker};

const A: &str = "16505550001";
const B: &str = "16505550002";

async fn parked(gateway: &Gateway, page_size: u32, page_token: &str) -> v1::ListParkedEventsResponse {
    let (name, page_token) = ("orders".to_owned(), page_token.to_owned());
    let request = v1::ListParkedEventsRequest { name, page_size, page_token };
    gateway.subscriptions().await.list_parked_events(request).await.unwrap().into_inner()
}

async fn replay(gateway: &Gateway, event_ids: Vec<String>) -> u32 {
    let all = event_ids.is_empty();
    let request = v1::ReplayParkedEventsRequest { name: "orders".to_owned(), event_ids, all };
    gateway.subscriptions().await.replay_parked_events(request).await.unwrap().into_inner().replayed_count
}

#[tokio::test]
async fn a_parked_event_is_kept_and_its_conversation_goes_on() {
    let folder = TempDir::new().unwrap();
    let mut gateway = Gateway::builder().data_dir(folder.path()).start().await;
    gateway.subscription(settings("orders")).await;
    store(&gateway, &[("a1", A), ("a2", A), ("b1", B)]).await;
    let mut worker = Worker::open(&gateway, "orders").await;
    let first = worker.all().await;
    assert_eq!(worker.say(&first[0], park("no stock")).await, None);
    let next = worker.one().await;
    assert_eq!(subject(&next), "a2");
    worker.done(&[next, first[1].clone()]).await;

    // Durable when the outcome was answered.
    gateway.kill().await;
    let gateway = Gateway::builder().data_dir(folder.path()).start().await;
    let told = gateway.subscribed("orders").await;
    assert_eq!((told.parked_count, told.backlog_estimate), (1, 0));
    let page = parked(&gateway, 0, "").await;
    let [event] = page.events.as_slice() else { panic!("{page:?}") };
    assert_eq!(event.event, first[0].event, "as it was delivered");
    assert_eq!((event.cause(), event.reason.as_str(), event.attempts), (ParkCause::Worker, "no stock", 1));
    assert!(!event.is_replaying && event.park_time.is_some());

    let id = event.event.as_ref().unwrap().id.clone();
    assert_eq!(replay(&gateway, vec!["00".repeat(16)]).await, 0, "not parked");
    assert_eq!(replay(&gateway, vec![id.clone()]).await, 1);
    assert_eq!(replay(&gateway, vec![id.clone()]).await, 0, "it is on its way");
    assert!(parked(&gateway, 0, "").await.events[0].is_replaying);
    let mut worker = Worker::open(&gateway, "orders").await;
    let again = worker.one().await;
    assert_eq!((subject(&again), again.delivery_attempt), ("a1", 1));
    assert_eq!(again.event.as_ref().unwrap().raw_json, first[0].event.as_ref().unwrap().raw_json);
    assert_eq!(worker.say(&again, park("still no stock")).await, None);
    assert_eq!(parked(&gateway, 0, "").await.events[0].reason, "still no stock");
    assert_eq!(replay(&gateway, Vec::new()).await, 1);
    let again = worker.one().await;
    assert_eq!(worker.say(&again, done()).await, None);
    assert_eq!(parked(&gateway, 0, "").await.events, []);
    assert_eq!(gateway.subscribed("orders").await.parked_count, 0);
}

#[tokio::test]
async fn poison_is_parked_after_its_attempts_and_survives_a_restart() {
    let folder = TempDir::new().unwrap();
    let mut gateway = Gateway::builder().data_dir(folder.path()).start().await;
    let twice = v1::Subscription { max_attempts: 2, ..hasty("orders") };
    gateway.subscription(twice).await;
    store(&gateway, &[("a1", A), ("a2", A), ("b1", B), ("b2", B)]).await;
    let mut worker = Worker::open(&gateway, "orders").await;
    let mut done_of = Vec::new();
    // Of each conversation the first is poison: one is given back, the other one is never answered.
    while done_of.len() < 2 {
        for received in worker.stream.deliveries().await.unwrap() {
            match subject(&received) {
                "a1" => drop(worker.say(&received, retry(Some(0))).await),
                "b1" => {}
                _ => {
                    assert_eq!(worker.say(&received, done()).await, None);
                    done_of.push(subject(&received).to_owned());
                }
            }
        }
    }
    let page = parked(&gateway, 1, "").await;
    assert_eq!((page.events.len(), page.next_page_token.is_empty()), (1, false));
    let next = parked(&gateway, 1, &page.next_page_token).await;
    assert!(next.next_page_token.is_empty());
    let all = [&page.events[0], &next.events[0]];
    assert_eq!(all.map(|parked| parked.event.as_ref().unwrap().subject.as_str()), ["a1", "b1"]);
    assert!(all.iter().all(|p| p.cause() == ParkCause::AttemptsExhausted && p.attempts == 2));
    eventually!(gateway.subscribed("orders").await.backlog_estimate == 0);
    assert_eq!(replay(&gateway, Vec::new()).await, 2);

    gateway.kill().await;
    let gateway = Gateway::builder().data_dir(folder.path()).start().await;
    let mut worker = Worker::open(&gateway, "orders").await;
    let replayed = worker.take(2).await;
    worker.done(&replayed[..1]).await;
    let drop_all = v1::DropParkedEventsRequest { name: "orders".to_owned(), event_ids: vec![], all: true };
    let mut api = gateway.subscriptions().await;
    let dropped = api.drop_parked_events(drop_all).await.unwrap().into_inner().dropped_count;
    assert_eq!(dropped, 1, "the other one is done");
    assert_eq!(gateway.subscribed("orders").await.parked_count, 0);
    assert!(worker.say(&replayed[1], done()).await.is_some(), "nothing is left of it");
}

#[tokio::test]
async fn choosing_none_or_both_is_refused() {
    let gateway = Gateway::dev().await;
    gateway.subscription(settings("orders")).await;
    let mut api = gateway.subscriptions().await;
    let name = || "orders".to_owned();
    for (event_ids, all, fields) in [
        (vec![], false, vec!["event_ids"]),
        (vec!["00".repeat(16)], true, vec!["event_ids"]),
        (vec!["x".to_owned()], false, vec!["event_ids[0]"]),
    ] {
        let request = v1::ReplayParkedEventsRequest { name: name(), event_ids: event_ids.clone(), all };
        let refusal = Refusal::of(&api.replay_parked_events(request).await.unwrap_err());
        assert_eq!((refusal.is(), refusal.fields()), ((Code::InvalidArgument, "VALIDATION_FAILED"), fields));
        let request = v1::DropParkedEventsRequest { name: name(), event_ids, all };
        assert_eq!(api.drop_parked_events(request).await.unwrap_err().code(), Code::InvalidArgument);
    }
    let request =
        v1::ListParkedEventsRequest { name: name(), page_size: 0, page_token: "nonsense".to_owned() };
    let refusal = Refusal::of(&api.list_parked_events(request).await.unwrap_err());
    assert_eq!(refusal.fields(), ["page_token"]);
}
