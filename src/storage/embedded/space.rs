//! When there is too little room to go on, and when there is enough again.
//!
//! Room is refused long before the disk is full, because deleting needs room in the write-ahead log too. There is no
//! reserve file to sacrifice: the low-water mark is the reserve, deletes go on below it, and a file would only hand
//! its room to whichever other program is filling the disk. Free pages inside the database count as free, since
//! deleting does not shrink the file: without that, retention could never end a refusal. With the mark switched off, a
//! disk that the store itself has filled can only be freed from outside; writes go on as soon as that happens.

use std::path::Path;

use crate::storage::event_log::{Acceptance, Refusal};

/// What was measured, all in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Room {
    /// Used pages and write-ahead log.
    pub(super) used: u64,
    /// Free pages inside the database.
    pub(super) reusable: u64,
    /// Free on the disk, for this user.
    pub(super) disk_free: u64,
}

/// What is demanded, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Demand {
    /// `used` that refuses.
    pub(super) size_max: Option<u64>,
    /// `disk_free` and `reusable` together must reach this.
    pub(super) free_min: u64,
    /// What the write-ahead log may take.
    pub(super) wal_max: u64,
}

impl Demand {
    /// Whether writes are taken, given whether they are now: ending a refusal takes a little more room than
    /// avoiding it, so that it does not flap.
    pub(super) fn judge(&self, room: Room, now: Acceptance) -> Acceptance {
        let size_max = match now {
            Acceptance::Refusing(Refusal::SizeLimit) => self.size_max.map(|max| max - max / 20),
            Acceptance::Refusing(_) | Acceptance::Accepting => self.size_max,
        };
        let free_min = match now {
            Acceptance::Refusing(Refusal::DiskLow) => self.free_min.saturating_add(self.free_min / 10),
            Acceptance::Refusing(_) | Acceptance::Accepting => self.free_min,
        };
        // The write-ahead log cannot use free pages, so part of the room must be on the disk itself.
        let disk_min = (free_min / 2).min(self.wal_max.saturating_mul(2));
        if room.disk_free < disk_min || room.disk_free.saturating_add(room.reusable) < free_min {
            return Acceptance::Refusing(Refusal::DiskLow);
        }
        if size_max.is_some_and(|max| room.used >= max) {
            return Acceptance::Refusing(Refusal::SizeLimit);
        }
        Acceptance::Accepting
    }

    /// How much of what may be used is used, in percent: of the size limit or of the disk, whichever ends first.
    pub(super) fn used_percent(&self, room: Room) -> u64 {
        let on_disk = room.disk_free.saturating_add(room.reusable).saturating_sub(self.free_min);
        let usable = room.used.saturating_add(on_disk).min(self.size_max.unwrap_or(u64::MAX)).max(1);
        u64::try_from(u128::from(room.used) * 100 / u128::from(usable)).unwrap_or(u64::MAX)
    }
}

/// Bytes that this user may still write to the disk of `path`.
pub(super) fn disk_free(path: &Path) -> std::io::Result<u64> {
    let disk = rustix::fs::statvfs(path)?;
    Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ACCEPTING: Acceptance = Acceptance::Accepting;
    const SIZE_LIMIT: Acceptance = Acceptance::Refusing(Refusal::SizeLimit);
    const DISK_LOW: Acceptance = Acceptance::Refusing(Refusal::DiskLow);

    fn judge(used: u64, reusable: u64, disk_free: u64, now: Acceptance) -> Acceptance {
        let demand = Demand { size_max: Some(1_000), free_min: 200, wal_max: 40 };
        demand.judge(Room { used, reusable, disk_free }, now)
    }

    #[test]
    fn refuses_at_the_size_limit_and_recovers_below_it() {
        assert_eq!(judge(999, 0, 5_000, ACCEPTING), ACCEPTING);
        assert_eq!(judge(1_000, 0, 5_000, ACCEPTING), SIZE_LIMIT);
        assert_eq!(judge(960, 0, 5_000, SIZE_LIMIT), SIZE_LIMIT);
        assert_eq!(judge(949, 0, 5_000, SIZE_LIMIT), ACCEPTING);
    }

    #[test]
    fn refuses_at_the_low_water_mark_and_recovers_above_it() {
        assert_eq!(judge(10, 0, 200, ACCEPTING), ACCEPTING);
        assert_eq!(judge(10, 0, 199, ACCEPTING), DISK_LOW);
        assert_eq!(judge(10, 0, 210, DISK_LOW), DISK_LOW);
        assert_eq!(judge(10, 0, 220, DISK_LOW), ACCEPTING);
        assert_eq!(judge(2_000, 0, 199, SIZE_LIMIT), DISK_LOW);
    }

    #[test]
    fn counts_free_pages_but_keeps_room_for_the_log() {
        assert_eq!(judge(10, 150, 100, ACCEPTING), ACCEPTING);
        assert_eq!(judge(10, 5_000, 80, ACCEPTING), ACCEPTING);
        assert_eq!(judge(10, 5_000, 79, ACCEPTING), DISK_LOW);
    }

    #[test]
    fn no_limits_never_refuse() {
        let demand = Demand { size_max: None, free_min: 0, wal_max: 40 };
        let room = Room { used: u64::MAX, reusable: 0, disk_free: 0 };
        assert_eq!(demand.judge(room, ACCEPTING), ACCEPTING);
    }

    #[test]
    fn the_nearer_end_decides_what_is_used() {
        let demand = Demand { size_max: Some(1_000), free_min: 200, wal_max: 40 };
        assert_eq!(demand.used_percent(Room { used: 700, reusable: 0, disk_free: 9_000 }), 70);
        assert_eq!(demand.used_percent(Room { used: 300, reusable: 0, disk_free: 300 }), 75);
        assert_eq!(demand.used_percent(Room { used: 0, reusable: 0, disk_free: 0 }), 0);
    }
}
