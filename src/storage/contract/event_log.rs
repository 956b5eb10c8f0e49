//! What every event log must do.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;

use super::{START, Subject, item, sized_item};
use crate::clock::Clock as _;
use crate::storage::event_log::{
    Acceptance, Appended, Attributes, Bounds, EventLog, Item, ReadError, ReadLimit, StoredEvent,
};

const ALL: ReadLimit = ReadLimit { events: usize::MAX, bytes: usize::MAX };

/// Reads the whole log, page by page.
pub async fn read_all(log: &dyn EventLog, after: u64) -> Vec<Arc<StoredEvent>> {
    let mut events: Vec<Arc<StoredEvent>> = Vec::new();
    loop {
        let after = events.last().map_or(after, |event| event.seq);
        let page = log.read(after, ALL).await.unwrap();
        if page.is_empty() {
            return events;
        }
        events.extend(page);
    }
}

fn seqs(events: &[Arc<StoredEvent>]) -> Vec<u64> {
    events.iter().map(|event| event.seq).collect()
}

fn assert_holds(event: &StoredEvent, item: &Item) {
    let expected = StoredEvent::new(event.seq, event.append_ms, item.clone());
    assert!(*event == expected, "{event:?} does not hold {item:?}");
}

async fn append(subject: &Subject, numbers: impl IntoIterator<Item = u64>) -> Vec<Appended> {
    subject.log.append(numbers.into_iter().map(item).collect()).await.unwrap()
}

/// Items of a call, and calls one after another, keep their order.
pub async fn appends_in_order(subject: &Subject) {
    let first = append(subject, [1, 2, 3]).await;
    let second = append(subject, [4]).await;
    let appended: Vec<u64> = first.into_iter().chain(second).map(Appended::seq).collect();
    let events = read_all(&*subject.log, 0).await;
    assert_eq!(seqs(&events), appended);
    assert!(appended.is_sorted_by(|a, b| a < b) && appended[0] >= 1);
    for (event, number) in events.iter().zip(1..) {
        assert_holds(event, &item(number));
        assert_eq!(event.append_ms, subject.clock.now_ms());
    }
}

/// An empty call is no error and changes nothing.
pub async fn appends_nothing(subject: &Subject) {
    assert_eq!(subject.log.append(Vec::new()).await.unwrap(), []);
    assert_eq!(subject.log.bounds().await.unwrap().tail, 0);
}

/// A new log is empty, at position 0, and takes appends.
pub async fn starts_empty_and_accepting(subject: &Subject) {
    assert_eq!(subject.log.bounds().await.unwrap(), Bounds { earliest: 1, tail: 0 });
    assert_eq!(*subject.log.watch_tail().borrow(), 0);
    assert_eq!(*subject.log.watch_acceptance().borrow(), Acceptance::Accepting);
    assert_eq!(subject.log.seek_time(0).await.unwrap(), 0);
    assert!(subject.log.read(0, ALL).await.unwrap().is_empty());
}

/// A repeated id inside one call is a duplicate of the first.
pub async fn knows_an_id_inside_a_call(subject: &Subject) {
    let appended = append(subject, [1, 2, 1, 1]).await;
    let (one, two) = (appended[0].seq(), appended[1].seq());
    let expected =
        [Appended::New(one), Appended::New(two), Appended::Duplicate(one), Appended::Duplicate(one)];
    assert_eq!(appended, expected);
    assert_eq!(seqs(&read_all(&*subject.log, 0).await), [one, two]);
}

/// A repeated id is a duplicate even with other bytes and other company.
pub async fn knows_an_id_over_calls(subject: &Subject) {
    let first = append(subject, [1, 2]).await;
    let changed = Item { raw: "changed".into(), ..item(2) };
    let second = subject.log.append(vec![item(3), changed, item(4)]).await.unwrap();
    assert_eq!(second[1], Appended::Duplicate(first[1].seq()));
    assert!(matches!(second[..], [Appended::New(_), _, Appended::New(_)]));
    let events = read_all(&*subject.log, 0).await;
    assert_eq!(events.len(), 4);
    assert_holds(&events[1], &item(2));
}

/// Trimmed events are still known.
pub async fn knows_an_id_after_trim(subject: &Subject) {
    let first = append(subject, [1]).await[0].seq();
    subject.clock.advance(Duration::from_secs(1));
    assert_eq!(subject.log.trim(subject.clock.now_ms()).await.unwrap(), 1);
    assert_eq!(append(subject, [1]).await, [Appended::Duplicate(first)]);
    assert!(read_all(&*subject.log, first).await.is_empty());
}

/// Ids are remembered for 8 days and then pruned by `trim`.
pub async fn forgets_an_id_after_eight_days(subject: &Subject) {
    append(subject, [1]).await;
    let eight_days = Duration::from_hours(8 * 24);
    subject.clock.advance(eight_days);
    subject.log.trim(subject.clock.now_ms()).await.unwrap();
    assert_eq!(append(subject, [1]).await, [Appended::Duplicate(1)]);
    subject.clock.advance(Duration::from_millis(1));
    subject.log.trim(subject.clock.now_ms()).await.unwrap();
    assert_eq!(append(subject, [1]).await, [Appended::New(2)]);
}

/// 1,000 items, sent 50 times at once in different groupings, are 1,000 events.
pub async fn knows_ids_under_concurrency(subject: &Subject) {
    let mut senders = JoinSet::new();
    for sender in 0..50_u64 {
        let log = Arc::clone(&subject.log);
        senders.spawn(async move {
            let numbers: Vec<u64> = (0..1000).map(|number| (number + sender * 20) % 1000).collect();
            let mut new = 0;
            for call in numbers.chunks(50 + usize::try_from(sender).unwrap()) {
                let items = call.iter().copied().map(item).collect();
                let appended = log.append(items).await.unwrap();
                new += appended.iter().filter(|appended| matches!(appended, Appended::New(_))).count();
            }
            new
        });
    }
    assert_eq!(senders.join_all().await.into_iter().sum::<usize>(), 1000);
    let events = read_all(&*subject.log, 0).await;
    assert_eq!(events.iter().map(|event| event.id).collect::<BTreeSet<_>>().len(), 1000);
    assert_eq!(events.len(), 1000);
}

/// Whoever hears of a new tail can read up to it.
pub async fn announces_only_what_can_be_read(subject: &Subject) {
    let (log, mut tail) = (Arc::clone(&subject.log), subject.log.watch_tail());
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut seen = 0;
        while seen < 300 {
            let announced = *tail.wait_for(|tail| *tail > seen).await.unwrap();
            let events = read_all(&*log, seen).await;
            assert!(events.last().unwrap().seq >= announced);
            seen = announced;
        }
    });
    for number in 0..300 {
        let log = Arc::clone(&subject.log);
        tasks.spawn(async move { drop(log.append(vec![item(number)]).await.unwrap()) });
    }
    tasks.join_all().await;
    assert_eq!(subject.log.bounds().await.unwrap().tail, *subject.log.watch_tail().borrow());
}

/// Concurrent appends get positions that differ, rise within a call, and are all in the log.
pub async fn gives_each_position_once(subject: &Subject) {
    let mut tasks = JoinSet::new();
    for call in 0..200_u64 {
        let log = Arc::clone(&subject.log);
        tasks.spawn(async move { log.append((call * 5..call * 5 + 5).map(item).collect()).await.unwrap() });
    }
    let mut given = BTreeSet::new();
    for call in tasks.join_all().await {
        assert!(call.iter().map(|appended| appended.seq()).is_sorted_by(|a, b| a < b));
        given.extend(call.iter().map(|appended| appended.seq()));
    }
    assert_eq!(given.len(), 1000);
    let read = seqs(&read_all(&*subject.log, 0).await);
    assert_eq!(read, given.into_iter().collect::<Vec<_>>());
}

/// Attributes and segments come back as they were, empty and binary ones too.
pub async fn keeps_every_byte(subject: &Subject) {
    let every_byte: Vec<u8> = (0..=255).collect();
    let mut strange = item(1);
    strange.envelope = every_byte.clone().into();
    strange.typed = bytes::Bytes::new();
    strange.raw = every_byte.repeat(40).into();
    strange.attributes =
        Attributes { event_type: "ünïcode 🦀 \0 '\"".to_owned(), ..Attributes::default() };
    let empty = Item { id: [0; 16], ..Item { raw: bytes::Bytes::new(), ..sized_item(2, 0) } };
    subject.log.append(vec![strange.clone(), empty.clone()]).await.unwrap();
    let events = read_all(&*subject.log, 0).await;
    assert_holds(&events[0], &strange);
    assert_holds(&events[1], &empty);
}

/// The largest webhook fits, several at once too.
pub async fn keeps_large_events(subject: &Subject) {
    let bytes = 3_584 * 1024;
    let items: Vec<Item> = (0..4).map(|number| sized_item(number, bytes)).collect();
    for pair in items.chunks(2) {
        subject.log.append(pair.to_vec()).await.unwrap();
    }
    let events = read_all(&*subject.log, 0).await;
    assert_eq!(events.len(), 4);
    events.iter().zip(&items).for_each(|(event, item)| assert_holds(event, item));
}

/// A page ends at its limits but is never empty while there is more.
pub async fn keeps_to_read_limits(subject: &Subject) {
    append(subject, 0..10).await;
    let size = read_all(&*subject.log, 0).await[0].size_bytes();
    let cases = [
        (0, 0, 0, vec![1]),
        (0, 3, usize::MAX, vec![1, 2, 3]),
        (4, 100, 0, vec![5]),
        (4, 100, 2 * size, vec![5, 6]),
        (8, 100, usize::MAX, vec![9, 10]),
        (9, usize::MAX, usize::MAX, vec![10]),
    ];
    for (after, events, bytes, expected) in cases {
        let page = subject.log.read(after, ReadLimit { events, bytes }).await.unwrap();
        assert_eq!(seqs(&page), expected, "after {after}, {events} events, {bytes} bytes");
    }
}

/// At and beyond the tail there is nothing, and that is no error.
pub async fn reads_nothing_at_the_tail(subject: &Subject) {
    append(subject, [1, 2]).await;
    for after in [2, 3, 1000, u64::MAX - 1, u64::MAX] {
        assert!(subject.log.read(after, ALL).await.unwrap().is_empty(), "after {after}");
    }
}

/// `trim` deletes what is older, and reading it is an error that names the first kept position.
pub async fn trims_by_age_and_says_so(subject: &Subject) {
    append(subject, 0..1500).await;
    subject.clock.advance(Duration::from_secs(10));
    let second = subject.clock.now_ms();
    append(subject, 1500..1510).await;
    assert_eq!(subject.log.trim(0).await.unwrap(), 0);
    assert_eq!(subject.log.trim(second).await.unwrap(), 1500);
    assert_eq!(subject.log.trim(second).await.unwrap(), 0);
    assert_eq!(subject.log.bounds().await.unwrap(), Bounds { earliest: 1501, tail: 1510 });
    for after in [0, 1, 1499] {
        let read = subject.log.read(after, ALL).await;
        assert_eq!(read, Err(ReadError::Trimmed { earliest: 1501 }), "after {after}");
    }
    assert_eq!(seqs(&read_all(&*subject.log, 1500).await), (1501..=1510).collect::<Vec<_>>());
}

/// Positions go on where they were.
pub async fn goes_on_after_everything_was_trimmed(subject: &Subject) {
    append(subject, [1, 2, 3]).await;
    assert_eq!(subject.log.trim(u64::MAX).await.unwrap(), 3);
    assert_eq!(subject.log.bounds().await.unwrap(), Bounds { earliest: 4, tail: 3 });
    assert_eq!(subject.log.seek_time(0).await.unwrap(), 3);
    assert_eq!(subject.log.read(2, ALL).await, Err(ReadError::Trimmed { earliest: 4 }));
    assert!(subject.log.read(3, ALL).await.unwrap().is_empty());
    assert_eq!(append(subject, [4]).await, [Appended::New(4)]);
    assert_eq!(seqs(&read_all(&*subject.log, 3).await), [4]);
}

/// Seeking finds the exact boundary, for times between, before and after.
pub async fn seeks_exactly(subject: &Subject) {
    let start = u64::try_from(START.as_millis()).unwrap();
    // Positions 1-3 at +0 ms, 4 at +10 ms, 5-6 at +11 ms.
    for (numbers, then) in [(0..3, 10), (3..4, 1), (4..6, 0)] {
        append(subject, numbers).await;
        subject.clock.advance(Duration::from_millis(then));
    }
    let cases = [
        (0, 0),
        (start, 0),
        (start + 1, 3),
        (start + 10, 3),
        (start + 11, 4),
        (start + 12, 6),
        (u64::MAX, 6),
    ];
    for (unix_ms, position) in cases {
        assert_eq!(subject.log.seek_time(unix_ms).await.unwrap(), position, "{unix_ms}");
    }
    subject.log.trim(start + 1).await.unwrap();
    assert_eq!(subject.log.seek_time(0).await.unwrap(), 3);
}

/// The epoch does not change while positions mean something.
pub async fn keeps_its_epoch(subject: &Subject) {
    let epoch = subject.log.epoch();
    append(subject, [1]).await;
    subject.log.trim(u64::MAX).await.unwrap();
    assert_eq!(subject.log.epoch(), epoch);
}
