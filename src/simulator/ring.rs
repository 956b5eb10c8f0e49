//! A record with an end: the newest entries stay, the oldest go.

use std::collections::VecDeque;

/// Entries in order, each with a number that never repeats.
#[derive(Debug)]
pub(super) struct Ring<T> {
    entries: VecDeque<(T, usize)>,
    first: u64,
    bytes: usize,
    count_max: usize,
    bytes_max: usize,
}

impl<T> Ring<T> {
    pub(super) fn new(count_max: usize, bytes_max: usize) -> Self {
        Self { entries: VecDeque::new(), first: 0, bytes: 0, count_max, bytes_max }
    }

    /// Appends an entry of about so many bytes and returns its number.
    pub(super) fn push(&mut self, entry: T, bytes: usize) -> u64 {
        self.entries.push_back((entry, bytes));
        self.bytes += bytes;
        while self.entries.len() > self.count_max || self.bytes > self.bytes_max {
            let Some((_, bytes)) = self.entries.pop_front() else { break };
            self.bytes -= bytes;
            self.first += 1;
        }
        self.end() - 1
    }

    /// The entry with this number, unless it is gone.
    pub(super) fn get_mut(&mut self, number: u64) -> Option<&mut T> {
        let position = usize::try_from(number.checked_sub(self.first)?).ok()?;
        self.entries.get_mut(position).map(|(entry, _)| entry)
    }

    /// The entries with their numbers, oldest first.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, &T)> {
        (self.first..).zip(self.entries.iter().map(|(entry, _)| entry))
    }

    /// The number that the next entry will have.
    pub(super) fn end(&self) -> u64 {
        self.first + self.entries.len() as u64
    }

    /// Forgets everything; the numbers go on.
    pub(super) fn clear(&mut self) {
        self.first = self.end();
        self.entries.clear();
        self.bytes = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_go_first_and_numbers_never_repeat() {
        let mut ring = Ring::new(3, 100);
        let numbers: Vec<u64> = (0..5).map(|entry| ring.push(entry, 10)).collect();
        assert_eq!(numbers, [0, 1, 2, 3, 4]);
        assert_eq!(ring.iter().collect::<Vec<_>>(), [(2, &2), (3, &3), (4, &4)]);
        assert_eq!(ring.get_mut(1), None);
        assert_eq!(ring.get_mut(3), Some(&mut 3));
        ring.push(5, 95);
        assert_eq!(ring.iter().collect::<Vec<_>>(), [(5, &5)]);
        ring.clear();
        assert_eq!(ring.push(6, 1), 6);
    }
}
