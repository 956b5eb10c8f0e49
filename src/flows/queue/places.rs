//! Who is in the queue, in memory: no more of a message than what its turn needs. Pure.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, SystemTime};

use crate::domain::ids::PhoneNumberId;
use crate::domain::message::SendTag;
use crate::domain::schedule::TicketId;
use crate::flows::lanes::Wish;

/// Messages of one number that are on their way at once. Where Meta answers too slowly for that, the rest waits.
const FLYING_MAX: usize = 512;

/// All places.
#[derive(Debug, Default)]
pub(super) struct Places {
    by_tag: HashMap<SendTag, Place>,
    numbers: HashMap<PhoneNumberId, Count>,
    timers: BTreeMap<Timer, SendTag>,
    next_number: u64,
}

/// When something is due; what came first is first.
type Timer = (SystemTime, u64);

#[derive(Debug, Default)]
struct Count {
    places: usize,
    flying: usize,
}

#[derive(Debug)]
struct Place {
    number: PhoneNumberId,
    since: SystemTime,
    not_after: SystemTime,
    stage: Stage,
    timer: Option<Timer>,
    retries: u32,
    /// Keeps the order of what is due in the same moment.
    order: u64,
}

/// How far a message has come.
#[derive(Debug)]
enum Stage {
    /// Not durable yet, or on its way to a line.
    Between,
    /// Gets in line later; without a wish it has to be read again.
    Later(Option<Box<Wish>>),
    /// Waits in its lane.
    InLine(TicketId),
    /// On its way to Meta, or to its end.
    Flying,
}

/// What a message must do now.
#[derive(Debug)]
pub(super) enum Due {
    /// Get in line.
    LineUp(SendTag, Option<Box<Wish>>),
    /// Leave the line: its time is over.
    Leave(SendTag, PhoneNumberId, TicketId),
    /// Its time is over before it was in line.
    Expire(SendTag),
}

/// Whether a message that has its turn may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Start {
    /// It may, after so many retries.
    Go {
        /// Attempts with which nothing went out.
        retries: u32,
    },
    /// Too many are on their way.
    TooMany,
    /// It is not in the queue.
    Gone,
}

/// What is in the queue of a number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Depth {
    pub(super) number: PhoneNumberId,
    pub(super) places: usize,
    /// How long the oldest has been there.
    pub(super) oldest: Duration,
}

impl Places {
    /// Takes a place, if the number has one left.
    pub(super) fn reserve(
        &mut self,
        tag: &SendTag,
        number: &PhoneNumberId,
        (since, not_after): (SystemTime, SystemTime),
        places_max: usize,
    ) -> bool {
        let count = self.numbers.entry(number.clone()).or_default();
        if count.places >= places_max {
            return false;
        }
        count.places += 1;
        let order = self.next_number;
        self.next_number += 1;
        let (stage, number) = (Stage::Between, number.clone());
        let place = Place { number, since, not_after, stage, timer: None, retries: 0, order };
        self.by_tag.insert(tag.clone(), place);
        true
    }

    /// Gives a place back.
    pub(super) fn remove(&mut self, tag: &SendTag) {
        self.enter(tag, Stage::Between, None);
        let Some(place) = self.by_tag.remove(tag) else { return };
        if let Some(count) = self.numbers.get_mut(&place.number) {
            count.places = count.places.saturating_sub(1);
        }
    }

    pub(super) fn has(&self, tag: &SendTag) -> bool {
        self.by_tag.contains_key(tag)
    }

    /// It gets in line at this moment; true if the timer has to wake earlier.
    pub(super) fn later(&mut self, tag: &SendTag, wish: Option<Wish>, at: SystemTime) -> bool {
        let not_after = self.by_tag.get(tag).map_or(at, |place| place.not_after);
        self.enter(tag, Stage::Later(wish.map(Box::new)), Some(at.min(not_after)))
    }

    /// It is about to get in line, perhaps again.
    pub(super) fn between(&mut self, tag: &SendTag) {
        self.enter(tag, Stage::Between, None);
    }

    /// It waits in line, unless it has had its turn already; true if the timer has to wake earlier.
    pub(super) fn in_line(&mut self, tag: &SendTag, id: TicketId) -> bool {
        match self.by_tag.get(tag) {
            Some(Place { stage: Stage::Between, not_after, .. }) => {
                let not_after = *not_after;
                self.enter(tag, Stage::InLine(id), Some(not_after))
            }
            Some(_) | None => false,
        }
    }

    /// It has its turn.
    pub(super) fn take_off(&mut self, tag: &SendTag) -> Start {
        let Some(place) = self.by_tag.get_mut(tag) else { return Start::Gone };
        let retries = place.retries;
        if self.numbers.get(&place.number).is_some_and(|count| count.flying >= FLYING_MAX) {
            return Start::TooMany;
        }
        place.retries += 1;
        self.enter(tag, Stage::Flying, None);
        Start::Go { retries }
    }

    /// What is due by now, in order.
    pub(super) fn due(&mut self, now: SystemTime) -> Vec<Due> {
        let mut due = Vec::new();
        while let Some(entry) = self.timers.first_entry().filter(|entry| entry.key().0 <= now) {
            let tag = entry.get().clone();
            let Some(place) = self.by_tag.get_mut(&tag) else {
                entry.remove();
                continue;
            };
            let is_over = place.not_after <= now;
            let (number, stage) = (place.number.clone(), std::mem::replace(&mut place.stage, Stage::Between));
            let end = if is_over { Stage::Flying } else { Stage::Between };
            due.push(match stage {
                Stage::InLine(id) => Due::Leave(tag.clone(), number, id),
                Stage::Later(_) if is_over => Due::Expire(tag.clone()),
                Stage::Later(wish) => Due::LineUp(tag.clone(), wish),
                // Without a timer they are never here.
                Stage::Between | Stage::Flying => continue,
            });
            self.enter(&tag, end, None);
        }
        due
    }

    /// When something is due next.
    pub(super) fn next(&self) -> Option<SystemTime> {
        self.timers.first_key_value().map(|((at, _), _)| *at)
    }

    /// What is in the queue of each number that ever had something in it.
    pub(super) fn depths(&self, now: SystemTime) -> Vec<Depth> {
        let mut oldest: HashMap<&PhoneNumberId, SystemTime> = HashMap::new();
        for place in self.by_tag.values() {
            let since = oldest.entry(&place.number).or_insert(place.since);
            *since = place.since.min(*since);
        }
        let depth = |(number, count): (&PhoneNumberId, &Count)| {
            let oldest = oldest.get(number).and_then(|since| now.duration_since(*since).ok());
            let (number, oldest) = (number.clone(), oldest.unwrap_or_default());
            Depth { number, places: count.places, oldest }
        };
        self.numbers.iter().map(depth).collect()
    }

    /// Brings a place into this stage; true if nothing was due before `at`.
    fn enter(&mut self, tag: &SendTag, stage: Stage, at: Option<SystemTime>) -> bool {
        let Some(place) = self.by_tag.get_mut(tag) else { return false };
        let is_flying = matches!(stage, Stage::Flying);
        let was_flying = matches!(place.stage, Stage::Flying);
        if let Some(count) = self.numbers.get_mut(&place.number) {
            count.flying = (count.flying + usize::from(is_flying)).saturating_sub(usize::from(was_flying));
        }
        if let Some(timer) = place.timer.take() {
            self.timers.remove(&timer);
        }
        place.stage = stage;
        let Some(at) = at else { return false };
        let timer = (at, place.order);
        place.timer = Some(timer);
        self.timers.insert(timer, tag.clone());
        self.timers.first_key_value().is_some_and(|(first, _)| *first == timer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NUMBER: &str = "1065";

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn tag(number: usize) -> SendTag {
        SendTag::parse(&format!("{number:022}")).unwrap()
    }

    fn reserve(places: &mut Places, number: usize, not_after: u64) -> bool {
        let sender = PhoneNumberId::parse(NUMBER).unwrap();
        places.reserve(&tag(number), &sender, (at(0), at(not_after)), 3)
    }

    #[test]
    fn a_number_has_so_many_places_and_gets_them_back() {
        let mut places = Places::default();
        assert!((0..3).all(|number| reserve(&mut places, number, 10)));
        assert!(!reserve(&mut places, 3, 10));
        assert_eq!(places.take_off(&tag(0)), Start::Go { retries: 0 });
        places.remove(&tag(0));
        places.remove(&tag(0));
        assert!(reserve(&mut places, 4, 10));
        let depth = Depth {
            number: PhoneNumberId::parse(NUMBER).unwrap(),
            places: 3,
            oldest: Duration::from_secs(7),
        };
        assert_eq!(places.depths(at(7)), [depth]);
    }

    #[test]
    fn what_is_due_together_keeps_its_order() {
        let mut places = Places::default();
        for number in [2, 0, 1] {
            reserve(&mut places, number, 10);
            places.later(&tag(number), None, at(5));
        }
        assert_eq!(places.next(), Some(at(5)));
        assert!(places.due(at(4)).is_empty());
        let due: Vec<_> = places.due(at(5)).into_iter().map(|due| format!("{due:?}")).collect();
        let expected = [2, 0, 1].map(|number| format!("{:?}", Due::LineUp(tag(number), None)));
        assert_eq!(due, expected);
        assert_eq!(places.next(), None);
    }

    #[test]
    fn time_runs_out_before_the_line_and_in_it() {
        let mut places = Places::default();
        for number in 0..3 {
            reserve(&mut places, number, 10);
        }
        assert!(places.later(&tag(0), None, at(20)), "the timer of its end wakes");
        assert!(!places.in_line(&tag(9), TicketId::of(1)), "unknown");
        places.in_line(&tag(1), TicketId::of(7));
        places.take_off(&tag(2));
        let due: Vec<_> = places.due(at(10)).into_iter().map(|due| format!("{due:?}")).collect();
        let number = PhoneNumberId::parse(NUMBER).unwrap();
        let expected = [Due::Expire(tag(0)), Due::Leave(tag(1), number, TicketId::of(7))];
        assert_eq!(due, expected.map(|due| format!("{due:?}")));
        assert!(!places.in_line(&tag(2), TicketId::of(8)), "it has had its turn");
    }

    #[test]
    fn only_so_many_are_on_their_way() {
        let (mut places, sender) = (Places::default(), PhoneNumberId::parse(NUMBER).unwrap());
        for number in 0..=FLYING_MAX {
            places.reserve(&tag(number), &sender, (at(0), at(10)), usize::MAX);
        }
        assert!((0..FLYING_MAX).all(|number| places.take_off(&tag(number)) == Start::Go { retries: 0 }));
        assert_eq!(places.take_off(&tag(FLYING_MAX)), Start::TooMany);
        places.between(&tag(0));
        assert_eq!(places.take_off(&tag(FLYING_MAX)), Start::Go { retries: 0 });
        places.remove(&tag(1));
        assert_eq!(places.take_off(&tag(0)), Start::Go { retries: 1 });
        assert_eq!(places.take_off(&tag(1)), Start::Gone);
    }
}
