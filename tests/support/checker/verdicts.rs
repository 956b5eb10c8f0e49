//! What must hold afterwards. Pure: data in, violations out.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::posts::{Poster, parts};

/// One event as somebody read it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Read {
    pub position: u64,
    /// The event's id.
    pub event: String,
    /// The message's id.
    pub message: String,
    pub conversation: String,
}

/// What one stream carried, after this position.
#[derive(Debug, Clone, Default)]
pub struct Segment {
    pub after: u64,
    pub read: Vec<Read>,
}

/// What became of a delivery, with times in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// Nothing was said.
    None,
    /// Done was said, and nobody knows whether it was heard.
    Unknown { sent: u64 },
    /// Done was said, and counts.
    Done { sent: u64, answered: u64 },
    /// Something else was said, which ends or moves the lease.
    NotDone { sent: u64 },
    /// Too late, or never valid.
    Refused { sent: u64 },
}

/// An event in the hands of a worker.
#[derive(Debug, Clone)]
pub struct Delivery {
    pub key: String,
    pub event: String,
    pub message: String,
    pub position: u64,
    pub attempt: u32,
    /// When it came.
    pub at: u64,
    /// When its stream ended at the earliest.
    pub ended: Option<u64>,
    pub answer: Answer,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Violation {
    /// Acknowledged and not there.
    Lost(String),
    /// There, and nobody has sent it.
    Invented(String),
    /// One event at two positions, or one message as two events.
    Twice(String),
    /// Before what was acknowledged earlier.
    OutOfOrder(String),
    /// At a cursor that is not behind the one before.
    CursorBack(u64),
    /// One user under two keys, or two under one.
    KeyChanged(String),
    /// A stream left this out, or carried something else in its place.
    Hole { after: u64, position: u64 },
    /// Nothing of a group was seen after this position.
    NotReached(u64),
    /// Two of one key in somebody's hands.
    TwoOutstanding { first: String, second: String },
    /// Delivered again although it was done.
    AfterDone(String),
    /// Nobody has done it.
    NotDone(String),
    /// Done before an earlier one of its key.
    DoneOutOfOrder(String),
}

/// Fails, and shows some of them.
pub fn assert_none(what: &str, violations: &[Violation]) {
    let some = &violations[..violations.len().min(10)];
    assert!(violations.is_empty(), "{what}: {} violations: {some:?}", violations.len());
}

/// The log against what was posted: nothing lost, invented, doubled or out of order.
pub fn of_log(posters: &[Poster], log: &[Read]) -> Vec<Violation> {
    let mut found = Vec::new();
    let read: BTreeSet<&str> = log.iter().map(|read| read.message.as_str()).collect();
    let mut attempted = BTreeSet::new();
    for poster in posters {
        attempted.extend(poster.ids(0..poster.attempted));
        let lost = poster.ids(0..poster.acknowledged).filter(|id| !read.contains(id.as_str()));
        found.extend(lost.map(Violation::Lost));
    }
    let (mut events, mut messages) = (BTreeSet::new(), BTreeSet::new());
    let (mut keys, mut users) = (HashMap::new(), HashMap::new());
    let (mut last, mut before) = (BTreeMap::new(), None);
    for Read { position, event, message, conversation } in log {
        let Some((user, post)) = parts(message).filter(|_| attempted.contains(message)) else {
            found.push(Violation::Invented(message.clone()));
            continue;
        };
        if !(events.insert(event) & messages.insert(message)) {
            found.push(Violation::Twice(message.clone()));
        } else if last.insert(user, post).is_some_and(|last| last > post) {
            found.push(Violation::OutOfOrder(message.clone()));
        }
        if before.replace(*position).is_some_and(|before| before >= *position) {
            found.push(Violation::CursorBack(*position));
        }
        let other_key = keys.insert(user, conversation).is_some_and(|key| key != conversation);
        if other_key | users.insert(conversation, user).is_some_and(|other| other != user) {
            found.push(Violation::KeyChanged(message.clone()));
        }
    }
    found
}

/// What a follower got, stream by stream, against the log: each stream is the log from where it began, the next one begins
/// no later than the last one came, and the last one came to the end.
pub fn of_follower(segments: &[Segment], log: &[Read]) -> Vec<Violation> {
    let mut found = Vec::new();
    let mut reached = 0;
    for Segment { after, read } in segments {
        let from = log.partition_point(|read| read.position <= *after);
        if *after > reached && log[..from].last().is_some_and(|last| last.position > reached) {
            found.push(Violation::Hole { after: reached, position: *after });
        }
        let expected = &log[from..];
        let differs = read.iter().zip(expected).find(|(read, expected)| read != expected);
        if let Some((read, _)) =
            differs.or(read.last().zip(read.last()).filter(|_| read.len() > expected.len()))
        {
            found.push(Violation::Hole { after: *after, position: read.position });
        }
        reached = read.iter().map(|read| read.position).chain([reached, *after]).max().unwrap();
    }
    let end = log.last().map_or(0, |last| last.position);
    found.extend((reached < end).then_some(Violation::NotReached(reached)));
    found
}

/// Nobody is held to be at an event for longer than this.
#[derive(Debug, Clone, Copy)]
pub struct Held {
    /// Less than the deadline of a lease, by what a delivery may be on its way, in milliseconds.
    pub sure_ms: u64,
    /// What a delivery may be on its way.
    pub delay_ms: u64,
}

/// Workers' deliveries: of each key one at a time and in order, and never again what is done.
pub fn of_group(deliveries: &[Delivery], held: Held) -> Vec<Violation> {
    let mut keys: BTreeMap<&str, Vec<&Delivery>> = BTreeMap::new();
    for delivery in deliveries {
        keys.entry(&delivery.key).or_default().push(delivery);
    }
    let mut found = Vec::new();
    for of_key in keys.values_mut() {
        of_key.sort_by_key(|delivery| delivery.at);
        for (number, first) in of_key.iter().enumerate() {
            let sure_until = sure_until(first, held);
            for second in &of_key[number + 1..] {
                if second.at < sure_until {
                    let (first, second) = (first.message.clone(), second.message.clone());
                    found.push(Violation::TwoOutstanding { first, second });
                }
            }
            let Answer::Done { answered, .. } = first.answer else { continue };
            let again = of_key[number + 1..].iter().any(|second| {
                let is_late = second.at > answered + held.delay_ms || second.attempt > first.attempt;
                second.event == first.event && second.at > answered && is_late
            });
            found.extend(again.then(|| Violation::AfterDone(first.message.clone())));
        }
        found.extend(out_of_order(of_key));
    }
    found
}

/// Until when a worker certainly had it: what ends a lease happens later than this.
fn sure_until(delivery: &Delivery, held: Held) -> u64 {
    let said = match delivery.answer {
        Answer::Unknown { sent }
        | Answer::Done { sent, .. }
        | Answer::NotDone { sent }
        | Answer::Refused { sent } => sent,
        Answer::None => u64::MAX,
    };
    said.min(delivery.at + held.sure_ms).min(delivery.ended.unwrap_or(u64::MAX))
}

/// First completions that are before those of earlier events.
fn out_of_order(of_key: &[&Delivery]) -> Vec<Violation> {
    let mut done: Vec<_> = of_key
        .iter()
        .filter_map(|delivery| match delivery.answer {
            Answer::Done { sent, .. } => Some((sent, delivery.position, delivery)),
            Answer::None | Answer::Unknown { .. } | Answer::NotDone { .. } | Answer::Refused { .. } => None,
        })
        .collect();
    done.sort_by_key(|(sent, position, _)| (*sent, *position));
    let pairs = done.windows(2).filter(|pair| pair[0].1 > pair[1].1);
    pairs.map(|pair| Violation::DoneOutOfOrder(pair[1].2.message.clone())).collect()
}

/// Everything that is in the log was done by somebody.
pub fn of_done(deliveries: &[Delivery], log: &[Read]) -> Vec<Violation> {
    let is_done =
        |delivery: &&Delivery| matches!(delivery.answer, Answer::Done { .. } | Answer::Unknown { .. });
    let done: BTreeSet<_> = deliveries.iter().filter(is_done).map(|delivery| &delivery.event).collect();
    let missing = log.iter().filter(|read| !done.contains(&read.event));
    missing.map(|read| Violation::NotDone(read.message.clone())).collect()
}

/// Each verdict meets what it is there to find.
mod tests {
    use super::*;

    fn read(position: u64, message: &str) -> Read {
        let ((poster, user), _) = parts(message).unwrap();
        let (event, conversation) = (format!("id of {message}"), format!("{poster}/{user}"));
        Read { position, event, message: message.to_owned(), conversation }
    }

    fn posters() -> [Poster; 1] {
        [Poster { acknowledged: 2, attempted: 3, ..Poster::new(0, 2) }]
    }

    fn log() -> Vec<Read> {
        let ids = ["wamid.0.0.0", "wamid.0.1.0", "wamid.0.0.1", "wamid.0.1.1"];
        ids.into_iter().zip(1..).map(|(id, position)| read(position, id)).collect()
    }

    #[test]
    fn a_log_that_is_right_passes() {
        assert_eq!(of_log(&posters(), &log()), []);
        let mut longer = log();
        longer.push(read(9, "wamid.0.0.2"));
        assert_eq!(of_log(&posters(), &longer), [], "what was attempted may be there");
    }

    #[test]
    fn each_violation_of_a_log_is_found() {
        let violate = |change: fn(&mut Vec<Read>)| {
            let mut log = log();
            change(&mut log);
            of_log(&posters(), &log)
        };
        let id = |id: &str| id.to_owned();
        assert_eq!(violate(|log| drop(log.remove(1))), [Violation::Lost(id("wamid.0.1.0"))]);
        let foreign = violate(|log| log.push(read(5, "wamid.0.0.3")));
        assert_eq!(foreign, [Violation::Invented(id("wamid.0.0.3"))]);
        let again = violate(|log| log.push(read(5, "wamid.0.0.1")));
        assert_eq!(again, [Violation::Twice(id("wamid.0.0.1"))]);
        let other_id = violate(|log| {
            let other = Read { event: "another".to_owned(), ..log[3].clone() };
            log.push(Read { position: 5, ..other });
        });
        assert_eq!(other_id, [Violation::Twice(id("wamid.0.1.1"))]);
        let swapped = violate(|log| {
            log.swap(0, 2);
            (log[0].position, log[2].position) = (1, 3);
        });
        assert_eq!(swapped, [Violation::OutOfOrder(id("wamid.0.0.0"))]);
        assert_eq!(violate(|log| log[2].position = 2), [Violation::CursorBack(2)]);
        let key = violate(|log| log[3].conversation = "another".to_owned());
        assert_eq!(key, [Violation::KeyChanged(id("wamid.0.1.1"))]);
        let merged = violate(|log| log[3].conversation = "0/0".to_owned());
        assert_eq!(merged, [Violation::KeyChanged(id("wamid.0.1.1"))]);
    }

    #[test]
    fn followers_that_miss_or_invent_are_found() {
        let log = log();
        let segment = |after, range: std::ops::Range<usize>| Segment { after, read: log[range].to_vec() };
        assert_eq!(of_follower(&[segment(0, 0..3), segment(1, 1..4)], &log), [], "a repetition is none");
        assert_eq!(of_follower(&[segment(0, 0..2), segment(2, 2..2), segment(2, 2..4)], &log), []);
        let hole = |after, position| [Violation::Hole { after, position }];
        assert_eq!(of_follower(&[segment(0, 0..1), segment(2, 2..4)], &log), hole(1, 2));
        let skipping = Segment { after: 0, read: vec![log[0].clone(), log[2].clone(), log[3].clone()] };
        assert_eq!(of_follower(&[skipping], &log), hole(0, 3));
        let mut more = segment(0, 0..4);
        more.read.push(read(5, "wamid.0.0.2"));
        assert_eq!(of_follower(&[more], &log), hole(0, 5));
        assert_eq!(of_follower(&[segment(0, 0..3)], &log), [Violation::NotReached(3)]);
        assert_eq!(of_follower(&[], &log), [Violation::NotReached(0)]);
    }

    const HELD: Held = Held { sure_ms: 1_000, delay_ms: 500 };

    fn delivery(message: &str, at: u64, answer: Answer) -> Delivery {
        let ((poster, user), position) = parts(message).unwrap();
        let (key, event) = (format!("{poster}/{user}"), format!("id of {message}"));
        Delivery { key, event, message: message.to_owned(), position, attempt: 1, at, ended: None, answer }
    }

    fn done(sent: u64) -> Answer {
        Answer::Done { sent, answered: sent + 10 }
    }

    #[test]
    fn a_group_that_is_right_passes() {
        let died = Delivery { ended: Some(150), ..delivery("wamid.0.1.0", 100, Answer::None) };
        let slow = delivery("wamid.0.0.0", 131, Answer::Refused { sent: 135 });
        let all = [
            Delivery { attempt: 2, ..delivery("wamid.0.0.0", 100, done(120)) },
            // It was on its way when another one did it.
            Delivery { ended: Some(131), ..slow },
            delivery("wamid.0.0.1", 141, Answer::None),
            // Its deadline has passed.
            Delivery { attempt: 2, ..delivery("wamid.0.0.1", 1_200, done(1_300)) },
            died,
            Delivery { attempt: 2, ..delivery("wamid.0.1.0", 151, done(160)) },
        ];
        assert_eq!(of_group(&all, HELD), []);
        assert_eq!(of_done(&all, &[read(1, "wamid.0.0.0")]), []);
    }

    #[test]
    fn each_violation_of_a_group_is_found() {
        let id = |id: &str| id.to_owned();
        let two =
            |first: &str, second: &str| Violation::TwoOutstanding { first: id(first), second: id(second) };
        let held = delivery("wamid.0.0.0", 100, Answer::None);
        let next = delivery("wamid.0.0.1", 300, Answer::None);
        assert_eq!(of_group(&[held.clone(), next.clone()], HELD), [two("wamid.0.0.0", "wamid.0.0.1")]);
        let same = Delivery { at: 200, attempt: 2, ..held.clone() };
        assert_eq!(of_group(&[same, held.clone()], HELD), [two("wamid.0.0.0", "wamid.0.0.0")]);
        // A lease that was ended too early shows by the refusal of its outcome.
        let robbed = Delivery { answer: Answer::Refused { sent: 400 }, ..held.clone() };
        assert_eq!(of_group(&[robbed, next.clone()], HELD), [two("wamid.0.0.0", "wamid.0.0.1")]);
        let left = Delivery { ended: Some(350), ..held };
        assert_eq!(of_group(&[left, next], HELD), [two("wamid.0.0.0", "wamid.0.0.1")]);

        let finished = delivery("wamid.0.0.0", 100, done(120));
        let again = Delivery { attempt: 2, ..delivery("wamid.0.0.0", 140, Answer::None) };
        assert_eq!(of_group(&[finished.clone(), again], HELD), [Violation::AfterDone(id("wamid.0.0.0"))]);
        let long_after = delivery("wamid.0.0.0", 900, Answer::None);
        let found = of_group(&[finished.clone(), long_after], HELD);
        assert_eq!(found, [Violation::AfterDone(id("wamid.0.0.0"))]);

        let later = delivery("wamid.0.0.1", 50, done(60));
        assert_eq!(
            of_group(&[later, finished.clone()], HELD),
            [Violation::DoneOutOfOrder(id("wamid.0.0.0"))]
        );
        let log = [read(1, "wamid.0.0.0"), read(2, "wamid.0.0.1")];
        assert_eq!(of_done(&[finished], &log), [Violation::NotDone(id("wamid.0.0.1"))]);
        let unsure = delivery("wamid.0.0.1", 1, Answer::Unknown { sent: 2 });
        assert_eq!(of_done(&[unsure], &log), [Violation::NotDone(id("wamid.0.0.0"))]);
        let given_back = delivery("wamid.0.0.0", 1, Answer::NotDone { sent: 2 });
        assert_eq!(of_done(&[given_back], &log).len(), 2);
    }
}
