//! Slows down who fails again and again: guessing tokens and trying out credentials takes its time.
//!
//! Only the failures wait, never a call that is right: behind a proxy everybody has the same address.

use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use moka::sync::Cache;

/// Failures of one peer that are answered at once.
const FREE: u32 = 10;
/// How much longer each further one waits, and how long at most.
const STEP: Duration = Duration::from_millis(20);
const DELAY_MAX: Duration = Duration::from_millis(500);
/// Silence after which a peer is forgotten, and peers that are remembered.
const MEMORY: Duration = Duration::from_mins(1);
const PEERS_MAX: u64 = 10_000;

/// The failures of each peer.
#[derive(Debug, Clone)]
pub(super) struct Slowdown(Cache<IpAddr, u32>);

impl Slowdown {
    pub(super) fn new() -> Self {
        Self(Cache::builder().max_capacity(PEERS_MAX).time_to_idle(MEMORY).build())
    }

    /// Counts a failure; returns how long its answer should wait.
    pub(super) fn failed(&self, peer: IpAddr) -> Duration {
        let count = self.0.get(&network(peer)).unwrap_or(0).saturating_add(1);
        self.0.insert(network(peer), count);
        STEP.saturating_mul(count.saturating_sub(FREE)).min(DELAY_MAX)
    }
}

/// One IPv4 address, or a /64 of IPv6, which one machine has as a whole.
fn network(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
        address @ IpAddr::V4(_) => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeated_failures_wait_and_never_longer_than_the_limit() {
        let slowdown = Slowdown::new();
        let peer = |text: &str| text.parse::<IpAddr>().unwrap();
        let delays: Vec<_> = (0..60).map(|_| slowdown.failed(peer("2001:db8::1"))).collect();
        assert!(delays[..10].iter().all(Duration::is_zero), "{delays:?}");
        assert!(delays.is_sorted() && delays[10] == STEP && delays[59] == DELAY_MAX, "{delays:?}");
        assert_eq!(slowdown.failed(peer("2001:db8::ffff:2")), DELAY_MAX, "the same network");
        for other in ["2001:db8:0:1::1", "192.0.2.1", "192.0.2.2"] {
            assert_eq!(slowdown.failed(peer(other)), Duration::ZERO, "{other}");
        }
    }
}
