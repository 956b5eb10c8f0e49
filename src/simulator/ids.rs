//! Every id the simulator hands out. They come from a counter and a seed, so that a run with a seed repeats;
//! without one they hold the start time, so that a receiver which keeps a log never takes the messages of
//! this run for those of the last.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};

use super::unix_seconds;

/// Which way a message goes; it shows in one byte of the wamid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    ToUser,
    FromUser,
}

/// A generator without a lock: the n-th id is a function of the seed and n.
#[derive(Debug)]
pub(super) struct Ids {
    seed: u64,
    /// Ten digits: the start time in Unix seconds, or digits of the seed.
    epoch: u64,
    next: AtomicU64,
}

impl Ids {
    pub(super) fn new(seed: Option<u64>, start: SystemTime) -> Self {
        let (seed, epoch) = match seed {
            Some(seed) => (seed, 1_000_000_000 + mix(seed) % 500_000_000),
            None => (unix_seconds(start), unix_seconds(start)),
        };
        Self { seed, epoch, next: AtomicU64::new(1) }
    }

    /// `wamid.` and base64 of the other party's address, the direction and a unique part.
    pub(super) fn wamid(&self, address: &str, direction: Direction) -> String {
        let (_, random) = self.draw();
        let unique = format!("{:08X}{random:016X}", self.epoch);
        let address: Vec<u8> = address.bytes().take(64).collect();
        let mut bytes = vec![0x1c, 0x18, u8::try_from(address.len()).unwrap_or(64)];
        bytes.extend_from_slice(&address);
        let direction = match direction {
            Direction::ToUser => 0x11,
            Direction::FromUser => 0x12,
        };
        bytes.extend_from_slice(&[0x15, 0x02, 0x00, direction, 0x18, 0x18]);
        bytes.extend_from_slice(unique.as_bytes());
        bytes.push(0x00);
        format!("wamid.{}", STANDARD.encode(bytes))
    }

    /// A decimal id, as templates and media have.
    pub(super) fn number(&self) -> u64 {
        let (count, _) = self.draw();
        self.epoch.saturating_mul(1_000_000).saturating_add(count)
    }

    /// The trace id that every answer carries.
    pub(super) fn trace(&self) -> String {
        let (count, random) = self.draw();
        let mut bytes = [0_u8; 16];
        for (slot, byte) in bytes.iter_mut().zip(random.to_be_bytes().into_iter().chain(count.to_be_bytes()))
        {
            *slot = byte;
        }
        format!("A{}", URL_SAFE_NO_PAD.encode(bytes))
    }

    fn draw(&self) -> (u64, u64) {
        let count = self.next.fetch_add(1, Ordering::Relaxed);
        // splitmix64: its n-th output needs no state but n.
        (count, mix(self.seed.wrapping_add(count.wrapping_mul(0x9E37_79B9_7F4A_7C15))))
    }
}

/// The business-scoped user id of a number. The same in every run, as a user keeps theirs.
pub(super) fn user_id_of(wa_id: &str) -> String {
    let hash = wa_id.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    let country = match super::phone::calling_code(wa_id) {
        "1" => "US",
        "7" => "RU",
        "33" => "FR",
        "34" => "ES",
        "44" => "GB",
        "49" => "DE",
        "52" => "MX",
        "54" => "AR",
        "55" => "BR",
        "62" => "ID",
        "91" => "IN",
        // User-assigned in ISO 3166: no country has it.
        _ => "ZZ",
    };
    format!("{country}.{:017}", mix(hash) % 100_000_000_000_000_000)
}

/// The finalizer of splitmix64, a bijection.
fn mix(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::time::{Duration, SystemTime};

    use super::*;

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn a_seed_repeats_and_the_start_time_does_not() {
        let wamid = |seed, start| Ids::new(seed, at(start)).wamid("16505551234", Direction::ToUser);
        assert_eq!(wamid(Some(7), 1), wamid(Some(7), 2));
        assert_ne!(wamid(Some(7), 1), wamid(Some(8), 1));
        assert_ne!(wamid(None, 1_750_000_000), wamid(None, 1_750_000_001));
        assert_eq!(Ids::new(None, at(1_750_000_000)).number(), 1_750_000_000_000_001);
    }

    #[test]
    fn wamids_are_unique_and_look_like_metas() {
        let ids = Ids::new(Some(1), at(0));
        let all: HashSet<String> =
            (0..10_000).map(|_| ids.wamid("16505551234", Direction::FromUser)).collect();
        assert_eq!(all.len(), 10_000);
        assert!(all.iter().all(|id| id.starts_with("wamid.HBgLMTY1MDU1NTEyMzQVAgASGB")));
    }

    #[test]
    fn a_user_keeps_their_id() {
        assert_eq!(user_id_of("16505551234"), user_id_of("16505551234"));
        assert!(user_id_of("16505551234").starts_with("US."));
        assert!(user_id_of("37255512345").starts_with("ZZ."));
    }
}
