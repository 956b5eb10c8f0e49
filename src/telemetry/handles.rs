//! The handles of the series that a thread recorded last.
//!
//! To find one series among all costs several times what it costs to add to it: its name and labels are hashed into a shard
//! behind a lock, copied and compared, whatever their order. The same few series come again and again, so each thread
//! remembers some. Series are never removed, so a handle stays right as long as its recorder.

use std::cell::RefCell;

use metrics::Key;

/// Handles that a thread remembers, of each kind. More series than that come rarely.
const REMEMBERED: usize = 64;

/// What one thread remembers of one kind.
pub(super) struct Handles<H>(RefCell<Vec<Option<Remembered<H>>>>);

struct Remembered<H> {
    recorder: u64,
    key: Key,
    handle: H,
}

impl<H: Clone> Handles<H> {
    pub(super) const fn new() -> Self {
        Self(RefCell::new(Vec::new()))
    }

    /// The handle of `key` in the recorder of this number, which `find` looks up if it is not remembered.
    pub(super) fn of(&self, recorder: u64, key: &Key, find: impl FnOnce() -> H) -> H {
        let place = usize::try_from(key.get_hash() % REMEMBERED as u64).unwrap_or_default();
        if let Some(Some(known)) = self.0.borrow().get(place)
            && known.recorder == recorder
            && is_same(&known.key, key)
        {
            return known.handle.clone();
        }
        let handle = find();
        let mut places = self.0.borrow_mut();
        if places.is_empty() {
            places.resize_with(REMEMBERED, || None);
        }
        if let Some(place) = places.get_mut(place) {
            *place = Some(Remembered { recorder, key: key.to_retained(), handle: handle.clone() });
        }
        handle
    }
}

/// Whether two keys are written alike. Those that differ in the order of their labels only are found the long way.
fn is_same(one: &Key, other: &Key) -> bool {
    one.get_hash() == other.get_hash() && one.name() == other.name() && one.labels().eq(other.labels())
}

#[cfg(test)]
mod tests {
    use metrics::Label;

    use super::*;

    fn key(name: &'static str, labels: &[(&'static str, &str)]) -> Key {
        let labels: Vec<Label> =
            labels.iter().map(|(key, value)| Label::new(*key, (*value).to_owned())).collect();
        Key::from_parts(name, labels)
    }

    #[test]
    fn a_handle_is_found_once_for_each_series_and_recorder() {
        let handles = Handles::<u32>::new();
        let mut found = 0;
        let mut of = |recorder, key: &Key| {
            handles.of(recorder, key, || {
                found += 1;
                found
            })
        };
        let first = key("a", &[("x", "1"), ("y", "2")]);
        assert_eq!([of(1, &first), of(1, &first)], [1, 1]);
        assert_eq!(of(2, &first), 2, "another recorder has series of its own");
        assert_eq!(of(2, &key("a", &[("y", "2"), ("x", "1")])), 3, "a longer way, but never another series");
        assert_eq!(of(2, &key("a", &[("x", "1"), ("y", "3")])), 4);
        assert_eq!(of(2, &key("b", &[("x", "1"), ("y", "2")])), 5);
    }

    #[test]
    fn more_series_than_places_are_told_apart() {
        let handles = Handles::<usize>::new();
        for round in 0..2 {
            for number in 0..10 * REMEMBERED {
                let key = key("a", &[("number", &number.to_string())]);
                assert_eq!(handles.of(1, &key, || number), number, "round {round}");
            }
        }
    }
}
