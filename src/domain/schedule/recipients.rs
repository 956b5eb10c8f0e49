//! The recipients that somebody waits for, or that still owe something.

use std::collections::BTreeSet;

use super::Moment;
use super::pace::{Pace, PairRule};
use super::ticket::{Class, PairKey, PerClass, TicketId};
use super::turns::{Place, Turns};
use crate::domain::caller::Caller;
use crate::domain::map::FastMap;

/// A caller with messages in a [`Line`].
#[derive(Debug)]
struct Member {
    caller: Caller,
    tickets: usize,
    /// Where it stands among the turns, while the recipient is ready.
    place: Option<Place>,
}

/// The messages of one class to one recipient, in their order.
#[derive(Debug, Default)]
pub(super) struct Line {
    tickets: BTreeSet<TicketId>,
    members: Vec<Member>,
    /// The message whose answer the next one waits for.
    in_flight: Option<TicketId>,
    /// The first message goes out again, not before this moment.
    held: Option<(TicketId, Moment)>,
    is_ready: bool,
}

impl Line {
    pub(super) fn first(&self) -> Option<TicketId> {
        self.tickets.first().copied()
    }

    /// How many messages go before `id`, not counting one in flight.
    pub(super) fn before(&self, id: TicketId) -> usize {
        // New ones are the last and old ones that come back the first, so nothing is ever counted one by one.
        if self.tickets.last().is_none_or(|last| *last < id) { self.tickets.len() } else { 0 }
    }

    pub(super) fn is_in_flight(&self) -> bool {
        self.in_flight.is_some()
    }

    /// Whether `caller` stands among the turns with this recipient.
    pub(super) fn has_place(&self, caller: &Caller) -> bool {
        self.members.iter().any(|member| member.caller == *caller && member.place.is_some())
    }

    /// When the first message may go, if the pair opens at `opens_at`; `None` if there is none, or one is in flight.
    fn ready_at(&self, opens_at: Moment) -> Option<Moment> {
        let first = self.first().filter(|_| self.in_flight.is_none())?;
        let held_until = self.held.filter(|(id, _)| *id == first).map_or(Moment::ZERO, |(_, until)| until);
        Some(opens_at.max(held_until))
    }

    fn is_idle(&self) -> bool {
        self.tickets.is_empty() && self.in_flight.is_none()
    }

    fn set_ready(&mut self, is_ready: bool, class: Class, key: &PairKey, turns: &mut Turns) {
        if is_ready != self.is_ready {
            self.is_ready = is_ready;
            turns.count(class, is_ready);
        }
        for member in &mut self.members {
            if is_ready && member.tickets > 0 {
                member.place.get_or_insert_with(|| turns.enter(class, &member.caller, key));
            } else if let Some(place) = member.place.take() {
                turns.leave(class, &member.caller, place);
            }
        }
        self.members.retain(|member| member.tickets > 0);
    }
}

#[derive(Debug, Clone, Copy)]
enum Alarm {
    /// A message may go then.
    Opens(Moment),
    /// Nobody waits, and the pair is free of debt then.
    Forgotten(Moment),
}

/// One recipient.
#[derive(Debug, Default)]
pub(super) struct Pair {
    pub(super) pace: Pace,
    lines: PerClass<Line>,
    alarm: Option<Alarm>,
}

impl Pair {
    pub(super) fn line(&self, class: Class) -> &Line {
        self.lines.of(class)
    }

    /// Every message that waits.
    pub(super) fn tickets(&self) -> impl Iterator<Item = TicketId> + '_ {
        Class::ALL.into_iter().flat_map(|class| self.lines.of(class).tickets.iter().copied())
    }
}

/// All of them.
#[derive(Debug)]
pub(super) struct Recipients {
    pub(super) rule: PairRule,
    pairs: FastMap<PairKey, Pair>,
    opening: BTreeSet<(Moment, PairKey)>,
    forgetting: BTreeSet<(Moment, PairKey)>,
}

impl Recipients {
    pub(super) fn new(rule: PairRule) -> Self {
        Self { rule, pairs: FastMap::default(), opening: BTreeSet::new(), forgetting: BTreeSet::new() }
    }

    pub(super) fn len(&self) -> usize {
        self.pairs.len()
    }

    /// Whether nothing is kept at all.
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.pairs.is_empty() && self.opening.is_empty() && self.forgetting.is_empty()
    }

    pub(super) fn get(&self, key: &PairKey) -> Option<&Pair> {
        self.pairs.get(key)
    }

    /// The recipient's pace; [`settle`](Self::settle) afterwards.
    pub(super) fn pace(&mut self, key: &PairKey) -> &mut Pace {
        &mut self.pairs.entry(key.clone()).or_default().pace
    }

    /// Puts a message into its line; [`settle`](Self::settle) afterwards.
    pub(super) fn insert(&mut self, key: &PairKey, class: Class, caller: &Caller, id: TicketId) {
        let line = self.pairs.entry(key.clone()).or_default().lines.of_mut(class);
        line.tickets.insert(id);
        match line.members.iter_mut().find(|member| member.caller == *caller) {
            Some(member) => member.tickets += 1,
            None => line.members.push(Member { caller: caller.clone(), tickets: 1, place: None }),
        }
    }

    /// Takes a message out of its line; [`settle`](Self::settle) afterwards.
    pub(super) fn remove(&mut self, key: &PairKey, class: Class, caller: &Caller, id: TicketId) {
        let Some(line) = self.line_mut(key, class) else { return };
        line.tickets.remove(&id);
        if let Some(member) = line.members.iter_mut().find(|member| member.caller == *caller) {
            member.tickets = member.tickets.saturating_sub(1);
        }
    }

    /// A message goes out, after [`remove`](Self::remove).
    pub(super) fn depart(&mut self, key: &PairKey, class: Class, now: Moment, id: TicketId) {
        let Some(pair) = self.pairs.get_mut(key) else { return };
        pair.pace.sent(&self.rule, now, id);
        let line = pair.lines.of_mut(class);
        (line.in_flight, line.held) = (Some(id), None);
    }

    /// The answer to a message is there; it may have to go out again, not before `again_at`.
    pub(super) fn land(&mut self, key: &PairKey, class: Class, id: TicketId, again_at: Option<Moment>) {
        if let Some(line) = self.line_mut(key, class) {
            line.in_flight = None;
            line.held = again_at.map(|at| (id, at));
        }
    }

    fn line_mut(&mut self, key: &PairKey, class: Class) -> Option<&mut Line> {
        self.pairs.get_mut(key).map(|pair| pair.lines.of_mut(class))
    }

    /// Brings turns and alarms into line with what a recipient has become, and forgets it if it is nothing any more.
    pub(super) fn settle(&mut self, key: &PairKey, now: Moment, turns: &mut Turns) {
        let Some(pair) = self.pairs.get_mut(key) else { return };
        let opens_at = pair.pace.opens_at(&self.rule, now);
        let mut alarm = None;
        for class in Class::ALL {
            let line = pair.lines.of_mut(class);
            let ready_at = line.ready_at(opens_at);
            line.set_ready(ready_at.is_some_and(|at| at <= now), class, key, turns);
            let later = ready_at.filter(|at| *at > now);
            alarm = later.into_iter().chain(alarm).min();
        }
        let is_idle = Class::ALL.iter().all(|class| pair.lines.of(*class).is_idle());
        let alarm = match alarm {
            Some(at) => Some(Alarm::Opens(at)),
            None => is_idle.then(|| Alarm::Forgotten(pair.pace.forgotten_at())),
        };
        match std::mem::replace(&mut pair.alarm, alarm) {
            Some(Alarm::Opens(at)) => _ = self.opening.remove(&(at, key.clone())),
            Some(Alarm::Forgotten(at)) => _ = self.forgetting.remove(&(at, key.clone())),
            None => {}
        }
        match alarm {
            Some(Alarm::Opens(at)) => _ = self.opening.insert((at, key.clone())),
            Some(Alarm::Forgotten(at)) if at <= now => _ = self.pairs.remove(key),
            Some(Alarm::Forgotten(at)) => _ = self.forgetting.insert((at, key.clone())),
            None => {}
        }
    }

    /// Whether the recipient may still be written to: a burst that nobody joined in time is over.
    pub(super) fn is_open(&self, key: &PairKey, class: Class, now: Moment) -> bool {
        self.pairs.get(key).is_some_and(|pair| {
            let ready_at = pair.lines.of(class).ready_at(pair.pace.opens_at(&self.rule, now));
            ready_at.is_some_and(|at| at <= now)
        })
    }

    /// When the next waiting recipient opens.
    pub(super) fn opens_at(&self) -> Option<Moment> {
        self.opening.first().map(|(at, _)| *at)
    }

    /// Lets in who opens by `now`, and forgets who owes nothing any more.
    pub(super) fn advance(&mut self, now: Moment, turns: &mut Turns) {
        while let Some((_, key)) = self.opening.first().filter(|(at, _)| *at <= now).cloned() {
            self.settle(&key, now, turns);
        }
        while let Some((_, key)) = self.forgetting.first().filter(|(at, _)| *at <= now).cloned() {
            self.settle(&key, now, turns);
        }
    }
}
