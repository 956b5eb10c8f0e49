//! Who works for a subscription, and how much each one has in hand.

use std::collections::BTreeMap;

use super::Mode;

/// A worker, from its stream's opening until the last of its leases has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WorkerId(pub(super) u64);

/// What a worker takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wish {
    /// Its own stable name; empty means none.
    pub client_id: String,
    /// Events it has in hand at most.
    pub events_max: u64,
    /// Their bytes; one larger event may be alone.
    pub bytes_max: u64,
}

#[derive(Debug)]
pub(super) struct Worker {
    wish: Wish,
    events: u64,
    bytes: u64,
    is_attached: bool,
    /// Its stream takes nothing at the moment.
    is_stalled: bool,
}

impl Worker {
    fn has_room_for(&self, bytes: u64) -> bool {
        let fits = self.events == 0 || self.bytes + bytes <= self.wish.bytes_max;
        self.events < self.wish.events_max && fits
    }
}

#[derive(Debug, Default)]
pub(super) struct Workers {
    known: BTreeMap<WorkerId, Worker>,
    last: u64,
}

impl Workers {
    pub(super) fn attach(&mut self, wish: Wish) -> WorkerId {
        self.last += 1;
        let id = WorkerId(self.last);
        self.known.insert(id, Worker { wish, events: 0, bytes: 0, is_attached: true, is_stalled: false });
        id
    }

    /// Those of this name, whether or not their streams are open.
    pub(super) fn named(&self, client_id: &str) -> Vec<WorkerId> {
        let same = |worker: &Worker| !client_id.is_empty() && worker.wish.client_id == client_id;
        self.known.iter().filter(|(_, worker)| same(worker)).map(|(id, _)| *id).collect()
    }

    /// Whether its stream was open.
    pub(super) fn detach(&mut self, id: WorkerId) -> bool {
        let Some(worker) = self.known.get_mut(&id) else { return false };
        let was_attached = std::mem::replace(&mut worker.is_attached, false);
        self.forget_if_over(id);
        was_attached
    }

    pub(super) fn is_attached(&self, id: WorkerId) -> bool {
        self.known.get(&id).is_some_and(|worker| worker.is_attached)
    }

    pub(super) fn attached(&self) -> usize {
        self.known.values().filter(|worker| worker.is_attached).count()
    }

    /// Whether it gets events at all.
    pub(super) fn is_active(&self, id: WorkerId, mode: Mode) -> bool {
        let first = || self.known.iter().find(|(_, worker)| worker.is_attached).map(|(id, _)| *id);
        self.is_attached(id) && (mode != Mode::Exclusive || first() == Some(id))
    }

    pub(super) fn set_stalled(&mut self, id: WorkerId, is_stalled: bool) {
        if let Some(worker) = self.known.get_mut(&id) {
            worker.is_stalled = is_stalled;
        }
    }

    /// How many of `ready` events it may take, so that all who can take the next one, of `bytes`, have equally many in hand.
    pub(super) fn share(&self, id: WorkerId, (ready, bytes): (usize, u64), mode: Mode) -> usize {
        if !self.is_active(id, mode) {
            return 0;
        }
        if mode == Mode::Exclusive {
            return ready;
        }
        let can_take = |w: &&Worker| w.is_attached && !w.is_stalled && w.has_room_for(bytes);
        let takers = self.known.values().filter(can_take);
        let (count, in_hand) = takers.fold((0, 0), |(count, sum), worker| (count + 1, sum + worker.events));
        let each = (in_hand + ready as u64).div_ceil(u64::max(count, 1));
        usize::try_from(each.saturating_sub(self.outstanding(id))).unwrap_or(usize::MAX)
    }

    pub(super) fn has_room_for(&self, id: WorkerId, bytes: u64) -> bool {
        self.known.get(&id).is_some_and(|worker| worker.has_room_for(bytes))
    }

    pub(super) fn take(&mut self, id: WorkerId, bytes: u64) {
        if let Some(worker) = self.known.get_mut(&id) {
            worker.events += 1;
            worker.bytes += bytes;
        }
    }

    pub(super) fn give_back(&mut self, id: WorkerId, bytes: u64) {
        if let Some(worker) = self.known.get_mut(&id) {
            worker.events = worker.events.saturating_sub(1);
            worker.bytes = worker.bytes.saturating_sub(bytes);
        }
        self.forget_if_over(id);
    }

    /// Events that it has in hand.
    pub(super) fn outstanding(&self, id: WorkerId) -> u64 {
        self.known.get(&id).map_or(0, |worker| worker.events)
    }

    fn forget_if_over(&mut self, id: WorkerId) {
        if self.known.get(&id).is_some_and(|worker| !worker.is_attached && worker.events == 0) {
            self.known.remove(&id);
        }
    }
}
