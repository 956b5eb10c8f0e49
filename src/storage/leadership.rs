//! Which of the replicas on one prefix leads.
//!
//! One leads, all serve: what is done per number, per caller or per subscription is done by the leader alone. The engine appoints;
//! everybody else watches the role, and asks [`Leadership::holds`] before something is begun that only a leader may do.

use std::fmt::{self, Debug, Formatter};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use rustix::process::getpid;
use rustix::system::uname;
use subtle::ConstantTimeEq as _;
use tokio::sync::watch;
use tokio::time::Instant;
use uuid::Uuid;

/// How long a renewal counts, from before it was asked for. Others wait longer until they take over.
pub const HOLD: Duration = Duration::from_millis(2_500);

/// The hold of who is alone.
const ALWAYS: u64 = u64::MAX;

/// A replica, as the others see it.
#[derive(Clone, PartialEq, Eq)]
pub struct Replica {
    /// Another one for each process.
    pub id: String,
    /// Process and host, for people.
    pub name: String,
    /// `host:port` of its peer port; empty if it has none.
    pub address: String,
    /// The certificate of its peer port, DER; empty if it has none.
    pub certificate: Bytes,
    /// Fingerprint of the settings that must be equal on all replicas.
    pub settings: String,
}

impl Replica {
    /// This process, reached at `address` with `certificate`, and with settings of that fingerprint.
    pub fn of_this_process(address: String, certificate: Bytes, settings: String) -> Self {
        let host = uname().nodename().to_string_lossy().into_owned();
        let name = format!("process {} on {host}", getpid());
        Self { id: Uuid::now_v7().to_string(), name, address, certificate, settings }
    }
}

impl Debug for Replica {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.debug_struct("Replica")
            .field("id", &self.id)
            .field("name", &self.name)
            .field("address", &self.address)
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

/// What a replica is at the moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Role {
    /// It does what is done once. A leader never becomes a follower: it ends.
    Leader {
        /// Counts the leaders of the prefix, from 1.
        term: u64,
    },
    /// It passes on what only the leader may do.
    Follower {
        /// To whom; `None` while nobody leads.
        leader: Option<Arc<Replica>>,
    },
}

/// The secret that all replicas of a prefix share, by which they know each other.
#[derive(Clone)]
pub struct PeerKey([u8; Self::BYTES]);

impl PeerKey {
    /// Its length.
    pub const BYTES: usize = 32;

    /// A new one.
    pub fn fresh() -> Self {
        let mut bytes = [0; Self::BYTES];
        for half in bytes.chunks_exact_mut(16) {
            half.copy_from_slice(Uuid::new_v4().as_bytes());
        }
        Self(bytes)
    }

    /// The secret. It must not reach logs.
    pub fn expose(&self) -> &[u8; Self::BYTES] {
        &self.0
    }

    /// Whether somebody who shows this has the key. Takes the same time for each wrong one.
    pub fn is_shown_by(&self, shown: &[u8]) -> bool {
        self.0[..].ct_eq(shown).into()
    }
}

impl From<[u8; Self::BYTES]> for PeerKey {
    fn from(bytes: [u8; Self::BYTES]) -> Self {
        Self(bytes)
    }
}

impl Debug for PeerKey {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str("PeerKey(masked)")
    }
}

/// The role of this process, as the engine says it. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Leadership {
    shared: Arc<Shared>,
}

/// The side that appoints: the engine, or a test. Dropping it changes nothing.
#[derive(Debug, Clone)]
pub struct Appointment {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    role: watch::Sender<Role>,
    peer_key: PeerKey,
    began: Instant,
    /// Until how many milliseconds after `began` this process may act as the leader.
    holds_until_ms: AtomicU64,
}

impl Leadership {
    /// Of a process that shares its store with nobody: it always leads.
    pub fn alone() -> Self {
        let (leadership, appointment) = Self::pair(PeerKey::fresh());
        appointment.shared.holds_until_ms.store(ALWAYS, Ordering::Release);
        appointment.shared.role.send_replace(Role::Leader { term: 1 });
        leadership
    }

    /// A follower that knows no leader, and who may change that.
    pub fn pair(peer_key: PeerKey) -> (Self, Appointment) {
        let shared = Arc::new(Shared {
            role: watch::Sender::new(Role::Follower { leader: None }),
            peer_key,
            began: Instant::now(),
            holds_until_ms: AtomicU64::new(0),
        });
        (Self { shared: Arc::clone(&shared) }, Appointment { shared })
    }

    /// The role and its changes.
    pub fn watch(&self) -> watch::Receiver<Role> {
        self.shared.role.subscribe()
    }

    /// Whether this process leads and nobody else can lead yet. False also for a leader whose renewals are not answered: it
    /// must begin nothing, and may hold again later.
    pub fn holds(&self) -> bool {
        match self.shared.holds_until_ms.load(Ordering::Acquire) {
            ALWAYS => true,
            until_ms => self.shared.began.elapsed().as_millis() < u128::from(until_ms),
        }
    }

    /// What replicas show each other.
    pub fn peer_key(&self) -> &PeerKey {
        &self.shared.peer_key
    }
}

impl Appointment {
    /// From now on this process leads, by a lease that was asked for at `asked`.
    pub fn lead(&self, term: u64, asked: Instant) {
        self.renew(asked);
        self.shared.role.send_replace(Role::Leader { term });
    }

    /// The lease was renewed; that was asked for at `asked`.
    pub fn renew(&self, asked: Instant) {
        let until = asked.saturating_duration_since(self.shared.began) + HOLD;
        let until_ms = u64::try_from(until.as_millis()).unwrap_or(ALWAYS - 1);
        self.shared.holds_until_ms.fetch_max(until_ms, Ordering::AcqRel);
    }

    /// Somebody else leads, or nobody does.
    pub fn follow(&self, leader: Option<Arc<Replica>>) {
        self.resign();
        let role = Role::Follower { leader };
        self.shared.role.send_if_modified(|current| {
            let is_news = *current != role;
            *current = role;
            is_news
        });
    }

    /// This process does nothing as the leader any more, whatever its role says.
    pub fn resign(&self) {
        self.shared.holds_until_ms.store(0, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replica() -> Arc<Replica> {
        Arc::new(Replica::of_this_process("localhost:1".to_owned(), Bytes::new(), String::new()))
    }

    #[test]
    fn who_is_alone_leads() {
        let leadership = Leadership::alone();
        assert!(leadership.holds());
        assert_eq!(*leadership.watch().borrow(), Role::Leader { term: 1 });
    }

    #[test]
    fn a_lease_counts_from_when_it_was_asked_for() {
        let (leadership, appointment) = Leadership::pair(PeerKey::fresh());
        let mut roles = leadership.watch();
        assert!(!leadership.holds());
        let now = Instant::now();
        appointment.lead(3, now + Duration::from_hours(1));
        assert!(leadership.holds());
        assert_eq!(*roles.borrow_and_update(), Role::Leader { term: 3 });
        // An answer that was overtaken takes nothing away.
        appointment.renew(now);
        assert!(leadership.holds());
        appointment.follow(Some(replica()));
        assert!(!leadership.holds());
        assert!(roles.has_changed().unwrap());
    }

    #[test]
    fn the_same_role_is_no_news() {
        let (leadership, appointment) = Leadership::pair(PeerKey::fresh());
        let mut roles = leadership.watch();
        let leader = replica();
        appointment.follow(Some(Arc::clone(&leader)));
        assert!(roles.has_changed().unwrap());
        roles.mark_unchanged();
        appointment.follow(Some(leader));
        assert!(!roles.has_changed().unwrap());
    }

    #[test]
    fn the_key_is_known_and_never_shown() {
        let (key, other) = (PeerKey::fresh(), PeerKey::fresh());
        assert!(key.is_shown_by(key.expose()));
        assert!(!key.is_shown_by(other.expose()));
        assert!(!key.is_shown_by(&key.expose()[..31]));
        assert_eq!(format!("{key:?}"), "PeerKey(masked)");
    }
}
