//! Whose turn it is: first the class, then the caller, then the recipient.
//!
//! Only recipients that may be written to now stand here; a recipient that stands in line for several callers, because
//! their messages to it wait for each other, stands with each of them.

use std::collections::btree_map::Values;
use std::collections::{BTreeMap, VecDeque};

use super::ticket::{Class, PairKey, PerClass};
use crate::domain::caller::Caller;
use crate::domain::map::FastMap;

/// After so many normal messages in a row one bulk message has its turn: bulk keeps a tenth.
const NORMALS_PER_BULK: usize = 9;

/// A caller's place in line with a recipient. Later ones are greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place(u64);

/// One caller inside a class.
#[derive(Debug, Default)]
struct Standing {
    /// The recipients that may be written to, in the order in which they became so.
    pairs: BTreeMap<Place, PairKey>,
    /// Turns that another caller gave up, because a message of this one was in the way.
    owed: usize,
}

/// One class. `ring` has the callers of `standings` in the order of their turns.
#[derive(Debug, Default)]
struct Round {
    standings: FastMap<Caller, Standing>,
    ring: VecDeque<Caller>,
    /// Recipients, each counted once.
    ready: usize,
}

impl Round {
    fn standing(&self, caller: &Caller) -> (usize, usize) {
        self.standings.get(caller).map_or((0, 0), |standing| (standing.pairs.len(), standing.owed))
    }

    /// Brings the caller whose turn it is to the front, and passes over those who owe a turn.
    fn settle_debts(&mut self) {
        for _ in 0..self.ring.len() {
            let front = self.ring.front().and_then(|caller| self.standings.get_mut(caller));
            let Some(standing) = front.filter(|standing| standing.owed > 0) else { return };
            standing.owed -= 1;
            self.ring.rotate_left(1);
        }
    }

    /// How many turns this class takes until the `mine`th of `caller` is over.
    fn turns_until(&self, caller: &Caller, mine: usize) -> usize {
        let rounds = mine + self.standing(caller).1;
        let mut is_before = true;
        let others = self.ring.iter().map(|other| {
            if other == caller {
                is_before = false;
                return 0;
            }
            let (ready, owed) = self.standing(other);
            let rounds = if is_before { rounds } else { rounds.saturating_sub(1) };
            ready.min(rounds.saturating_sub(owed))
        });
        others.sum::<usize>() + mine
    }
}

/// The turn that is next.
#[derive(Debug)]
pub(super) struct Turn {
    pub(super) class: Class,
    pub(super) caller: Caller,
    pub(super) pair: PairKey,
}

/// Everything that could go out now, if the number allowed it.
#[derive(Debug, Default)]
pub(super) struct Turns {
    rounds: PerClass<Round>,
    next_place: u64,
    /// Normal messages since the last bulk one, while bulk waited.
    normals: usize,
}

impl Turns {
    /// How many messages could go out now.
    pub(super) fn ready(&self) -> usize {
        Class::ALL.iter().map(|class| self.rounds.of(*class).ready).sum()
    }

    /// Whether nothing is kept at all.
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        let is_empty =
            |round: &Round| round.ready == 0 && round.ring.is_empty() && round.standings.is_empty();
        Class::ALL.iter().all(|class| is_empty(self.rounds.of(*class)))
    }

    /// A recipient became ready, or ceased to be.
    pub(super) fn count(&mut self, class: Class, is_ready: bool) {
        let ready = &mut self.rounds.of_mut(class).ready;
        *ready = if is_ready { *ready + 1 } else { ready.saturating_sub(1) };
    }

    /// `caller` gets in line with a ready recipient.
    pub(super) fn enter(&mut self, class: Class, caller: &Caller, pair: &PairKey) -> Place {
        let place = Place(self.next_place);
        self.next_place += 1;
        let round = self.rounds.of_mut(class);
        if !round.standings.contains_key(caller) {
            round.standings.insert(caller.clone(), Standing::default());
            round.ring.push_back(caller.clone());
        }
        if let Some(standing) = round.standings.get_mut(caller) {
            standing.pairs.insert(place, pair.clone());
        }
        place
    }

    /// `caller` leaves the line.
    pub(super) fn leave(&mut self, class: Class, caller: &Caller, place: Place) {
        let round = self.rounds.of_mut(class);
        let Some(standing) = round.standings.get_mut(caller) else { return };
        standing.pairs.remove(&place);
        if standing.pairs.is_empty() {
            round.standings.remove(caller);
            round.ring.retain(|other| other != caller);
        }
    }

    /// Who is next, if anybody is ready.
    pub(super) fn next(&mut self) -> Option<Turn> {
        let ready = |class| self.rounds.of(class).ready;
        let class =
            pick(ready(Class::Urgent) > 0, ready(Class::Normal) > 0, ready(Class::Bulk) > 0, self.normals)?;
        let round = self.rounds.of_mut(class);
        round.settle_debts();
        let caller = round.ring.front()?.clone();
        let pair = round.standings.get(&caller)?.pairs.first_key_value()?.1.clone();
        Some(Turn { class, caller, pair })
    }

    /// The turn is taken, with a message of `owner`. If that is another caller, whose message was in the way, the turn is
    /// the owner's next one, and the caller keeps its own.
    pub(super) fn take(&mut self, turn: &Turn, owner: &Caller) {
        let is_bulk_waiting = self.rounds.of(Class::Bulk).ready > 0;
        self.normals = match turn.class {
            Class::Urgent => self.normals,
            Class::Normal if is_bulk_waiting => self.normals + 1,
            Class::Normal | Class::Bulk => 0,
        };
        let round = self.rounds.of_mut(turn.class);
        if *owner == turn.caller {
            round.ring.rotate_left(1);
        } else if let Some(standing) = round.standings.get_mut(owner) {
            standing.owed += 1;
        }
    }

    /// Which slot from now on (1 is the next) the `mine`th message of `caller` gets, by what is ready now.
    pub(super) fn slot(&self, class: Class, caller: &Caller, mine: usize) -> usize {
        let ready = |class| self.rounds.of(class).ready;
        let in_class = self.rounds.of(class).turns_until(caller, mine);
        let others = match class {
            Class::Urgent => 0,
            Class::Normal => {
                let bulks = (self.normals + in_class).saturating_sub(1) / NORMALS_PER_BULK;
                ready(Class::Urgent) + bulks.min(ready(Class::Bulk))
            }
            Class::Bulk => {
                let first = NORMALS_PER_BULK.saturating_sub(self.normals);
                let normals = first + NORMALS_PER_BULK * in_class.saturating_sub(1);
                ready(Class::Urgent) + normals.min(ready(Class::Normal))
            }
        };
        in_class + others
    }

    /// How many recipients `caller` stands in line with.
    pub(super) fn standing(&self, class: Class, caller: &Caller) -> usize {
        self.rounds.of(class).standing(caller).0
    }

    /// Plays the turns forward, as they would come if nothing changed. `takes` says whether the message that is next with
    /// a recipient takes its turn; if not, the caller goes on to its next one.
    pub(super) fn play(&self, mut takes: impl FnMut(Class, &PairKey) -> bool) {
        let mut lines = PerClass::<VecDeque<Player<'_>>>::default();
        for class in Class::ALL {
            let round = self.rounds.of(class);
            let standings = round.ring.iter().filter_map(|caller| round.standings.get(caller));
            *lines.of_mut(class) = standings.map(Player::of).collect();
        }
        let mut normals = self.normals;
        loop {
            let waits = |class| !lines.of(class).is_empty();
            let (normal, bulk) = (waits(Class::Normal), waits(Class::Bulk));
            let Some(class) = pick(waits(Class::Urgent), normal, bulk, normals) else { return };
            if !play_turn(lines.of_mut(class), |pair| takes(class, pair)) {
                continue;
            }
            normals = match class {
                Class::Urgent => normals,
                Class::Normal if bulk => normals + 1,
                Class::Normal | Class::Bulk => 0,
            };
        }
    }
}

struct Player<'a> {
    pairs: Values<'a, Place, PairKey>,
    owed: usize,
}

impl<'a> Player<'a> {
    fn of(standing: &'a Standing) -> Self {
        Self { pairs: standing.pairs.values(), owed: standing.owed }
    }
}

/// Plays one turn of a class; false if nobody took it.
fn play_turn(line: &mut VecDeque<Player<'_>>, mut takes: impl FnMut(&PairKey) -> bool) -> bool {
    let Some(mut player) = line.pop_front() else { return false };
    if player.owed > 0 {
        player.owed -= 1;
        line.push_back(player);
        return false;
    }
    let is_taken = player.pairs.by_ref().any(&mut takes);
    if is_taken && player.pairs.len() > 0 {
        line.push_back(player);
    }
    is_taken
}

/// Which class is next.
fn pick(urgent: bool, normal: bool, bulk: bool, normals: usize) -> Option<Class> {
    if urgent {
        Some(Class::Urgent)
    } else if bulk && (!normal || normals >= NORMALS_PER_BULK) {
        Some(Class::Bulk)
    } else {
        normal.then_some(Class::Normal)
    }
}
