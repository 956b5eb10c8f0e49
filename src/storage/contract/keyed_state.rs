//! What every keyed state store must do.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::task::JoinSet;

use super::Subject;
use crate::clock::Clock as _;
use crate::storage::keyed_state::{
    Beside, Bucket, Entry, KEY_BYTES_MAX, Precondition, Put, StateError, VALUE_BYTES_MAX,
};

const BUCKET: Bucket = Bucket::named("contract_test");
const OTHER: Bucket = Bucket::named("contract_test_2");

fn value(key: &str, value: &str) -> Put {
    Put { bucket: BUCKET, key: key.to_owned().into(), value: value.to_owned().into(), expire_at_ms: None }
}

async fn put(
    subject: &Subject,
    key: &str,
    text: &str,
    precondition: Precondition,
) -> Result<u64, StateError> {
    subject.state.put(value(key, text), precondition).await
}

async fn get(subject: &Subject, key: &str) -> Option<Entry> {
    subject.state.get(BUCKET, key.as_bytes()).await.unwrap()
}

fn conflict(current: Option<Entry>) -> StateError {
    StateError::Conflict { current }
}

/// Values come back byte for byte, one by one and together.
pub async fn gives_back_what_was_put(subject: &Subject) {
    let every_byte: Bytes = (0..=255).collect();
    let binary =
        Put { bucket: BUCKET, key: every_byte.clone(), value: every_byte.clone(), expire_at_ms: None };
    let revision = subject.state.put(binary, Precondition::None).await.unwrap();
    let entry = Entry { value: every_byte.clone(), revision };
    assert_eq!(subject.state.get(BUCKET, &every_byte).await.unwrap(), Some(entry.clone()));
    put(subject, "empty", "", Precondition::None).await.unwrap();
    let keys = [Bytes::from("none"), every_byte, Bytes::from("empty")];
    let entries = subject.state.get_many(BUCKET, &keys).await.unwrap();
    assert_eq!(entries, [None, Some(entry), get(subject, "empty").await]);
    assert!(entries[2].as_ref().unwrap().value.is_empty());
    assert_eq!(subject.state.get_many(BUCKET, &[]).await.unwrap(), []);
}

/// The same key in another bucket is another entry.
pub async fn separates_buckets(subject: &Subject) {
    put(subject, "a", "1", Precondition::None).await.unwrap();
    assert_eq!(subject.state.get(OTHER, b"a").await.unwrap(), None);
    assert!(subject.state.scan(OTHER, None, 10).await.unwrap().is_empty());
    assert!(!subject.state.delete(OTHER, b"a", Precondition::None).await.unwrap());
    assert!(get(subject, "a").await.is_some());
}

/// A conflict writes nothing and shows what stands there.
pub async fn writes_only_under_its_precondition(subject: &Subject) {
    let missing = put(subject, "a", "1", Precondition::Revision(1)).await;
    assert_eq!(missing, Err(conflict(None)));
    let first = put(subject, "a", "1", Precondition::Absent).await.unwrap();
    let current = Entry { value: "1".into(), revision: first };
    assert_eq!(put(subject, "a", "2", Precondition::Absent).await, Err(conflict(Some(current.clone()))));
    assert_eq!(get(subject, "a").await, Some(current));
    let second = put(subject, "a", "2", Precondition::Revision(first)).await.unwrap();
    let current = Entry { value: "2".into(), revision: second };
    let stale = put(subject, "a", "3", Precondition::Revision(first)).await;
    assert_eq!(stale, Err(conflict(Some(current.clone()))));
    assert_eq!(get(subject, "a").await, Some(current));
    put(subject, "a", "4", Precondition::None).await.unwrap();
    assert_eq!(get(subject, "a").await.unwrap().value, "4");
}

/// What is put or deleted beside an entry happens with it; a conflict deletes nothing.
pub async fn writes_beside(subject: &Subject) {
    let put_beside = async |key: &str, precondition, beside| {
        subject.state.put_beside(value(key, "1"), precondition, beside).await
    };
    let first = put_beside("a", Precondition::Absent, Beside::Put(value("b", "2"))).await.unwrap();
    assert_eq!(get(subject, "a").await, Some(Entry { value: "1".into(), revision: first }));
    assert_eq!(get(subject, "b").await.unwrap().value, "2");
    let obsolete = || Beside::Delete(BUCKET, Bytes::from_static(b"b"));
    let current = get(subject, "a").await;
    assert_eq!(put_beside("a", Precondition::Absent, obsolete()).await, Err(conflict(current)));
    assert!(get(subject, "b").await.is_some());
    let second = put_beside("a", Precondition::Revision(first), obsolete()).await.unwrap();
    assert_eq!(get(subject, "a").await.map(|entry| entry.revision), Some(second));
    assert_eq!(get(subject, "b").await, None);
    put_beside("a", Precondition::None, obsolete()).await.unwrap();
}

/// A revision from before a delete never fits again.
pub async fn never_repeats_a_revision(subject: &Subject) {
    let first = put(subject, "a", "1", Precondition::None).await.unwrap();
    subject.state.delete(BUCKET, b"a", Precondition::None).await.unwrap();
    let second = put(subject, "a", "1", Precondition::Absent).await.unwrap();
    assert_ne!(first, second);
    assert!(put(subject, "a", "2", Precondition::Revision(first)).await.is_err());
}

/// Deleting checks like writing, and tells whether there was something.
pub async fn deletes_only_under_its_precondition(subject: &Subject) {
    let delete = async |precondition| subject.state.delete(BUCKET, b"a", precondition).await;
    assert_eq!(delete(Precondition::None).await, Ok(false));
    assert_eq!(delete(Precondition::Absent).await, Ok(false));
    assert_eq!(delete(Precondition::Revision(1)).await, Err(conflict(None)));
    let revision = put(subject, "a", "1", Precondition::None).await.unwrap();
    let current = get(subject, "a").await;
    assert_eq!(delete(Precondition::Absent).await, Err(conflict(current.clone())));
    assert_eq!(delete(Precondition::Revision(revision + 1)).await, Err(conflict(current)));
    assert_eq!(delete(Precondition::Revision(revision)).await, Ok(true));
    assert_eq!(get(subject, "a").await, None);
}

/// Of many claims at once exactly one wins, and the others see it.
pub async fn lets_one_claim_win(subject: &Subject) {
    let mut claims = JoinSet::new();
    for claimant in 0..50 {
        let state = Arc::clone(&subject.state);
        claims.spawn(
            async move { state.put(value("claim", &claimant.to_string()), Precondition::Absent).await },
        );
    }
    let mut claims = claims.join_all().await;
    assert_eq!(claims.extract_if(.., |claim| claim.is_ok()).count(), 1);
    let winner = get(subject, "claim").await;
    assert!(claims.into_iter().all(|claim| claim == Err(conflict(winner.clone()))));
}

/// Read, change and compare-and-set from several sides loses nothing.
pub async fn counts_without_losing_an_increment(subject: &Subject) {
    put(subject, "count", "0", Precondition::None).await.unwrap();
    let mut counters = JoinSet::new();
    for _ in 0..8 {
        let state = Arc::clone(&subject.state);
        counters.spawn(async move {
            for _ in 0..10 {
                loop {
                    let entry = state.get(BUCKET, b"count").await.unwrap().unwrap();
                    let count: u64 = str::from_utf8(&entry.value).unwrap().parse().unwrap();
                    let next = value("count", &(count + 1).to_string());
                    match state.put(next, Precondition::Revision(entry.revision)).await {
                        Ok(_) => break,
                        Err(error) => assert!(matches!(error, StateError::Conflict { .. }), "{error}"),
                    }
                }
            }
        });
    }
    counters.join_all().await;
    assert_eq!(get(subject, "count").await.unwrap().value, "80");
}

/// From its time on an entry is absent for everything, swept or not.
pub async fn hides_expired_entries(subject: &Subject) {
    let at = subject.clock.now_ms() + 1000;
    let expiring = |key| Put { expire_at_ms: Some(at), ..value(key, "1") };
    let revision = subject.state.put(expiring("a"), Precondition::None).await.unwrap();
    for key in ["b", "c", "d"] {
        subject.state.put(expiring(key), Precondition::None).await.unwrap();
    }
    put(subject, "d", "kept", Precondition::None).await.unwrap();
    subject.clock.advance(Duration::from_millis(999));
    assert!(get(subject, "a").await.is_some());
    subject.clock.advance(Duration::from_millis(1));
    assert_eq!(get(subject, "a").await, None);
    let keys = [Bytes::from("a"), Bytes::from("d")];
    let many = subject.state.get_many(BUCKET, &keys).await.unwrap();
    assert_eq!(many, [None, get(subject, "d").await]);
    let scanned = subject.state.scan(BUCKET, None, 10).await.unwrap();
    assert_eq!(scanned.len(), 1);
    assert_eq!(put(subject, "a", "2", Precondition::Revision(revision)).await, Err(conflict(None)));
    assert_eq!(subject.state.delete(BUCKET, b"b", Precondition::Absent).await, Ok(false));
    put(subject, "c", "again", Precondition::Absent).await.unwrap();
    assert_eq!(get(subject, "c").await.unwrap().value, "again");
}

/// A sweep deletes what has expired, and nothing else.
pub async fn sweeps_only_expired_entries(subject: &Subject) {
    let at = subject.clock.now_ms() + 1000;
    let puts = (0..2500).map(|number| Put {
        expire_at_ms: (number >= 300).then_some(at + u64::from(number >= 2400)),
        ..value(&format!("{number:05}"), "")
    });
    subject.state.put_all(puts.collect()).await.unwrap();
    assert_eq!(subject.state.sweep().await.unwrap(), 0);
    subject.clock.advance(Duration::from_secs(1));
    assert_eq!(subject.state.sweep().await.unwrap(), 2100);
    assert_eq!(subject.state.sweep().await.unwrap(), 0);
    assert!(get(subject, "00299").await.is_some() && get(subject, "02400").await.is_some());
    assert!(get(subject, "00300").await.is_none());
}

/// A scan goes through all keys once, in byte order, whatever the page size.
pub async fn scans_in_key_order(subject: &Subject) {
    let mut keys: Vec<Vec<u8>> = (0..100_u8).map(|number| vec![number.wrapping_mul(37), 7, number]).collect();
    keys.extend([vec![0xFF], vec![0xFF, 0], vec![5], vec![5, 0], vec![0]]);
    let puts = keys.iter().map(|key| Put { key: key.clone().into(), ..value("", "v") }).collect();
    subject.state.put_all(puts).await.unwrap();
    keys.sort();
    for limit in [0, 1, 7, 1000, usize::MAX] {
        let mut scanned: Vec<Vec<u8>> = Vec::new();
        loop {
            let page = subject.state.scan(BUCKET, scanned.last().map(Vec::as_slice), limit).await.unwrap();
            if page.is_empty() {
                break;
            }
            assert!(page.len() <= limit.max(1));
            scanned.extend(page.into_iter().map(|(key, _)| key.to_vec()));
        }
        assert_eq!(scanned, keys, "limit {limit}");
    }
}

/// Bulk writes happen in their order: the last one to a key stays.
pub async fn puts_all_in_order(subject: &Subject) {
    subject.state.put_all(Vec::new()).await.unwrap();
    let puts = vec![value("a", "1"), value("b", "1"), value("a", "2"), value("position", "3")];
    subject.state.put_all(puts.clone()).await.unwrap();
    subject.state.put_all(puts).await.unwrap();
    let revisions = [get(subject, "b").await.unwrap(), get(subject, "a").await.unwrap()];
    assert_eq!(revisions[1].value, "2");
    assert!(revisions[0].revision < revisions[1].revision);
    assert!(get(subject, "position").await.unwrap().revision > revisions[1].revision);
}

/// Keys and values over their limits are refused as such, and nothing of the call is written.
pub async fn refuses_what_is_too_large(subject: &Subject) {
    let long_key = Put { key: vec![1; KEY_BYTES_MAX + 1].into(), ..value("", "v") };
    let large_value = Put { value: vec![1; VALUE_BYTES_MAX + 1].into(), ..value("large", "") };
    let largest =
        Put { key: vec![1; KEY_BYTES_MAX].into(), value: vec![1; VALUE_BYTES_MAX].into(), ..value("", "") };
    subject.state.put(largest, Precondition::None).await.unwrap();
    for put in [long_key, large_value] {
        let refused = subject.state.put(put.clone(), Precondition::None).await;
        assert!(matches!(refused, Err(StateError::TooLarge { .. })), "{refused:?}");
        let refused = subject.state.put_all(vec![value("small", "1"), put]).await;
        assert!(matches!(refused, Err(StateError::TooLarge { .. })), "{refused:?}");
    }
    assert_eq!(get(subject, "small").await, None);
}
