//! The events of each conversation in a line, of which one at a time is let go.

use std::collections::{BTreeSet, HashMap};

use super::Place;

/// Every conversation that has events.
#[derive(Debug, Default)]
pub(super) struct Lines(HashMap<u64, Line>);

#[derive(Debug, Default)]
struct Line {
    members: BTreeSet<Place>,
    /// The one that was let go.
    current: Option<Place>,
}

/// Who is let go in place of whom.
#[derive(Debug, Default)]
pub(super) struct Change {
    pub(super) stop: Option<Place>,
    pub(super) go: Option<Place>,
}

impl Lines {
    /// A further event. An earlier one goes before those that wait, unless the current one `is_held` by a worker.
    pub(super) fn join(&mut self, key: u64, place: Place, is_held: impl Fn(&Place) -> bool) -> Change {
        let line = self.0.entry(key).or_default();
        line.members.insert(place);
        match line.current {
            Some(current) if current < place || is_held(&current) => Change::default(),
            stop => {
                line.current = Some(place);
                Change { stop, go: Some(place) }
            }
        }
    }

    /// An event goes; returns the one that is let go instead.
    pub(super) fn leave(&mut self, key: u64, place: Place) -> Option<Place> {
        let line = self.0.get_mut(&key)?;
        line.members.remove(&place);
        let mut next = None;
        if line.current == Some(place) {
            next = line.members.first().copied();
            line.current = next;
        }
        if line.members.is_empty() {
            self.0.remove(&key);
        }
        next
    }
}
