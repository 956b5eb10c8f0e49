//! What the store of subscriptions promises over every engine.

use std::sync::Arc;
use std::time::Duration;

use super::sends::Mortal;
use super::{Subject, item, sized_item};
use crate::domain::filter::EventFilter;
use crate::domain::subscription::{Candidate, Cause, Hole, Mode, Progress, Terms};
use crate::storage::event_log::StoredEvent;
use crate::storage::keyed_state::{Bucket, KeyedState as _, Precondition, Put, StateError, VALUE_BYTES_MAX};
use crate::storage::subscriptions::{ParkedHead, Settings, SubscriptionStore};

fn store(subject: &Subject) -> SubscriptionStore {
    SubscriptionStore::new(Arc::clone(&subject.state))
}

fn settings(name: &str, id: u8) -> Settings {
    Settings {
        owner: "orders".to_owned(),
        name: name.to_owned(),
        id: [id; 8],
        filter: EventFilter::default(),
        terms: Terms {
            mode: Mode::Ordered,
            ack_deadline: Duration::from_secs(30),
            retry_delay_min: Duration::from_secs(1),
            retry_delay_max: Duration::from_mins(1),
            attempts_max: 10,
        },
        create_ms: 1,
    }
}

fn parked(seq: u64) -> ParkedHead {
    ParkedHead {
        candidate: Candidate { seq, key: 1, bytes: 2, append_ms: 3 },
        event_id: [4; 16],
        attempts: 5,
        cause: Cause::AttemptsExhausted,
        reason: String::new(),
        park_ms: 6,
        is_replaying: false,
    }
}

/// Settings come back with their revision, and change only over the one that was read.
pub async fn keeps_settings(subject: &Subject) {
    let (store, first) = (store(subject), settings("a", 1));
    let revision = store.put_settings(&first, None).await.unwrap();
    store.put_settings(&settings("b", 2), None).await.unwrap();
    let twice = store.put_settings(&first, None).await;
    assert!(matches!(twice, Err(StateError::Conflict { .. })), "{twice:?}");
    let all = store.all().await.unwrap();
    assert_eq!(all.len(), 2);
    assert_eq!(all[0], (first.clone(), revision));
    let changed = Settings { terms: Terms { attempts_max: 3, ..first.terms }, ..first.clone() };
    store.put_settings(&changed, Some(revision)).await.unwrap();
    assert!(store.put_settings(&first, Some(revision)).await.is_err());
}

/// Of two who believe that a subscription is theirs, only one goes on.
pub async fn lets_one_go_on(subject: &Subject) {
    let store = store(subject);
    assert_eq!(store.progress([1; 8]).await.unwrap(), None);
    let holes = (1..2_000).map(|seq| Hole { seq: seq * 3, attempts: 1, due_ms: 0 }).collect();
    let progress = Progress { through: 10_000, holes, missed: 7 };
    let first = store.put_progress([1; 8], &progress, None).await.unwrap();
    assert_eq!(store.progress([1; 8]).await.unwrap(), Some((progress.clone(), first)));
    let second = store.put_progress([1; 8], &Progress::default(), Some(first)).await.unwrap();
    let late = store.put_progress([1; 8], &progress, Some(first)).await;
    assert!(matches!(late, Err(StateError::Conflict { .. })), "{late:?}");
    assert_eq!(store.progress([1; 8]).await.unwrap(), Some((Progress::default(), second)));
}

/// Parked events of any size come back byte for byte and in order, and go with their subscription.
pub async fn parks_events(subject: &Subject) {
    let (store, own, other) = (store(subject), settings("a", 1), settings("b", 2));
    store.put_settings(&own, None).await.unwrap();
    let large = StoredEvent::new(9, 77, sized_item(1, 3 * VALUE_BYTES_MAX));
    let small = StoredEvent::new(300, 78, item(2));
    let events = [(parked(300), Arc::new(small.clone())), (parked(9), Arc::new(large.clone()))];
    store.park(own.id, &events).await.unwrap();
    store.park(other.id, &events[..1]).await.unwrap();
    assert_eq!(store.heads(own.id).await.unwrap(), [parked(9), parked(300)]);
    assert_eq!(store.body(own.id, 9).await.unwrap(), Some(large));
    assert_eq!(store.body(own.id, 300).await.unwrap(), Some(small.clone()));
    assert_eq!(store.body(own.id, 10).await.unwrap(), None);
    let again = ParkedHead { is_replaying: true, ..parked(9) };
    store.put_heads(own.id, std::slice::from_ref(&again)).await.unwrap();
    assert_eq!(store.heads(own.id).await.unwrap(), [again, parked(300)]);
    store.unpark(own.id, &[9, 10]).await.unwrap();
    assert_eq!(store.heads(own.id).await.unwrap(), [parked(300)]);
    assert_eq!(store.body(own.id, 9).await.unwrap(), None);
    store.put_progress(own.id, &Progress::default(), None).await.unwrap();
    store.delete(&own).await.unwrap();
    assert_eq!((store.all().await.unwrap(), store.heads(own.id).await.unwrap()), (vec![], vec![]));
    assert_eq!(store.body(own.id, 300).await.unwrap(), None);
    assert_eq!(store.progress(own.id).await.unwrap(), None);
    assert_eq!(store.body(other.id, 300).await.unwrap(), Some(small));
}

/// Events that are parked at one moment are one write, and each can be read by itself.
pub async fn parks_many_in_one_write(subject: &Subject) {
    let events: Vec<_> =
        (1..=100).map(|seq| (parked(seq), Arc::new(StoredEvent::new(seq, 7, item(seq))))).collect();
    let state = Mortal::new(Arc::clone(&subject.state), 1);
    let store = SubscriptionStore::new(Arc::clone(&state) as _);
    store.park([1; 8], &events).await.unwrap();
    assert_eq!(store.heads([1; 8]).await.unwrap().len(), 100);
    let before = state.bytes_read();
    assert_eq!(store.body([1; 8], 50).await.unwrap().as_ref(), Some(&*events[49].1));
    assert!(state.bytes_read() - before < 1_000, "it read what belongs to others");
}

/// What is deleted is not read, so that however much is parked needs no memory.
pub async fn deletes_without_reading_events(subject: &Subject) {
    const EVENTS: u64 = 300;
    let (own, other) = (settings("a", 1), settings("b", 2));
    let state = Mortal::new(Arc::clone(&subject.state), usize::MAX);
    let store = SubscriptionStore::new(Arc::clone(&state) as _);
    let event = |seq| (parked(seq), Arc::new(StoredEvent::new(seq, 7, sized_item(seq, 20_000))));
    for seq in 1..=EVENTS {
        store.park(own.id, &[event(seq)]).await.unwrap();
    }
    let large = StoredEvent::new(EVENTS + 1, 7, sized_item(0, 3 * VALUE_BYTES_MAX));
    store.park(own.id, &[(parked(EVENTS + 1), Arc::new(large))]).await.unwrap();
    store.park(other.id, &[event(1)]).await.unwrap();
    store.put_settings(&own, None).await.unwrap();
    store.put_progress(own.id, &Progress::default(), None).await.unwrap();
    let before = state.bytes_read();
    store.unpark(own.id, &[1, 2]).await.unwrap();
    store.delete(&own).await.unwrap();
    let read = state.bytes_read() - before;
    assert!(read < 100_000, "{read} bytes were read");
    assert_eq!((store.all().await.unwrap(), store.heads(own.id).await.unwrap()), (vec![], vec![]));
    assert_eq!(store.progress(own.id).await.unwrap(), None);
    for bucket in ["parked_events", "parked_bodies"] {
        let left = state.scan(Bucket::named(bucket), None, 10).await.unwrap();
        assert!(left.len() == 1 && left[0].0.starts_with(&other.id), "{bucket}: {left:?}");
    }
}

/// A deletion that did not end leaves the subscription there, so that it can be deleted again.
pub async fn deletes_again_what_was_not_deleted(subject: &Subject) {
    let (own, state) = (settings("a", 1), Mortal::new(Arc::clone(&subject.state), usize::MAX));
    let store = SubscriptionStore::new(Arc::clone(&state) as _);
    store.put_progress(own.id, &Progress::default(), None).await.unwrap();
    store.put_settings(&own, None).await.unwrap();
    for seq in 1..=3 {
        store.park(own.id, &[(parked(seq), Arc::new(StoredEvent::new(seq, 7, item(seq))))]).await.unwrap();
    }
    state.allow(1);
    assert_eq!(store.delete(&own).await, Err(StateError::Busy));
    state.allow(usize::MAX);
    let [(found, _)] = &store.all().await.unwrap()[..] else { panic!("it is gone, and its events are not") };
    assert!(store.progress(own.id).await.unwrap().is_some());
    store.delete(found).await.unwrap();
    for bucket in ["subscriptions", "subscription_progress", "parked_events", "parked_bodies"] {
        assert_eq!(state.scan(Bucket::named(bucket), None, 10).await.unwrap(), [], "{bucket}");
    }
}

/// What cannot be read is said with its name and what to do, and is never passed over.
pub async fn says_what_it_cannot_read(subject: &Subject) {
    let store = store(subject);
    store.put_settings(&settings("a", 1), None).await.unwrap();
    let damaged = |bucket: &'static str, key: &'static [u8]| Put {
        bucket: Bucket::named(bucket),
        key: key.into(),
        value: vec![9, 9].into(),
        expire_at_ms: None,
    };
    let texts = |error: StateError| {
        let StateError::Unreadable(text) = error else { panic!("{error:?}") };
        assert!(text.contains("start the version") && text.contains("backup"), "{text}");
        text
    };
    for (bucket, key) in [
        ("subscriptions", &b"orders\0main"[..]),
        ("subscription_progress", &[1; 8]),
        ("parked_events", &[1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 7]),
    ] {
        subject.state.put(damaged(bucket, key), Precondition::None).await.unwrap();
    }
    let text = texts(store.all().await.unwrap_err());
    assert!(text.contains("\"main\"") && text.contains("\"orders\""), "{text}");
    texts(store.progress([1; 8]).await.unwrap_err());
    assert!(texts(store.heads([1; 8]).await.unwrap_err()).contains('7'));
}
