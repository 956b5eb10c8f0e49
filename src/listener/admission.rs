//! How many connections may be open, in all and per peer.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::telemetry::names;

/// Counts the open connections of one listener.
#[derive(Debug)]
pub(super) struct Admission {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    name: &'static str,
    total_max: usize,
    per_peer_max: Option<usize>,
    total: AtomicUsize,
    /// Only peers with an open connection, so it never holds more entries than connections.
    peers: Mutex<HashMap<IpAddr, usize>>,
}

/// The limit that a connection would pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    Total,
    Peer,
}

impl Refusal {
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Total => "total",
            Self::Peer => "peer",
        }
    }
}

/// One open connection; gives its place back when dropped.
#[derive(Debug)]
pub(super) struct Permit {
    shared: Arc<Shared>,
    peer: Option<IpAddr>,
}

impl Admission {
    pub(super) fn new(name: &'static str, total_max: usize, per_peer_max: Option<usize>) -> Self {
        let (total, peers) = (AtomicUsize::new(0), Mutex::default());
        Self { shared: Arc::new(Shared { name, total_max, per_peer_max, total, peers }) }
    }

    /// The number of open connections.
    pub(super) fn open(&self) -> usize {
        self.shared.total.load(Ordering::Relaxed)
    }

    /// Takes a place for a connection of `peer`. Only the accept loop calls this, one connection at a time.
    pub(super) fn admit(&self, peer: IpAddr) -> Result<Permit, Refusal> {
        let shared = &self.shared;
        if self.open() >= shared.total_max {
            return Err(Refusal::Total);
        }
        let peer = shared.per_peer_max.map(|max| (max, network(peer)));
        if let Some((max, network)) = peer {
            let mut peers = shared.peers.lock().unwrap_or_else(PoisonError::into_inner);
            let open = peers.entry(network).or_default();
            if *open >= max {
                return Err(Refusal::Peer);
            }
            *open += 1;
        }
        shared.total.fetch_add(1, Ordering::Relaxed);
        metrics::gauge!(names::CONNECTIONS, names::LISTENER => shared.name).increment(1.0);
        Ok(Permit { shared: Arc::clone(shared), peer: peer.map(|(_, network)| network) })
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some(network) = self.peer {
            let mut peers = self.shared.peers.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(open) = peers.get_mut(&network) {
                *open -= 1;
                if *open == 0 {
                    peers.remove(&network);
                }
            }
        }
        self.shared.total.fetch_sub(1, Ordering::Relaxed);
        metrics::gauge!(names::CONNECTIONS, names::LISTENER => self.shared.name).decrement(1.0);
    }
}

/// What counts as one peer: an IPv4 address, or the /64 that one IPv6 host may roam in.
fn network(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 64))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn places_are_limited_and_given_back() {
        let admission = Admission::new("test", 2, None);
        let first = admission.admit(ip("192.0.2.1")).unwrap();
        let _second = admission.admit(ip("192.0.2.1")).unwrap();
        assert_eq!(admission.admit(ip("192.0.2.1")).unwrap_err(), Refusal::Total);
        drop(first);
        assert!(admission.admit(ip("192.0.2.1")).is_ok());
    }

    #[test]
    fn one_peer_cannot_take_every_place() {
        let admission = Admission::new("test", 10, Some(1));
        let first = admission.admit(ip("2001:db8::1")).unwrap();
        assert_eq!(admission.admit(ip("2001:db8::2")).unwrap_err(), Refusal::Peer, "same /64");
        assert!(admission.admit(ip("2001:db8:0:1::1")).is_ok());
        let _mapped = admission.admit(ip("::ffff:192.0.2.1")).unwrap();
        assert_eq!(admission.admit(ip("192.0.2.1")).unwrap_err(), Refusal::Peer, "same IPv4 address");
        drop(first);
        assert!(admission.admit(ip("2001:db8::2")).is_ok());
        assert_eq!(admission.shared.peers.lock().unwrap().len(), 1, "peers that left are forgotten");
    }
}
