//! Where a call is answered that only the leader answers: here, by another replica, or nowhere at the moment.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::sleep;

pub use crate::storage::leadership::{Leadership, PeerKey, Replica, Role};

/// Between two looks for who waits: a lease that is renewed again says nothing, and a leader's port may be back.
const LOOK: Duration = Duration::from_millis(50);

/// Who leads, and whether this process can answer as the leader. Cheap to clone.
#[derive(Debug, Clone)]
pub struct WhoLeads {
    leadership: Leadership,
    role: watch::Receiver<Role>,
    ready: Arc<AtomicBool>,
}

/// Where the leader is.
#[derive(Debug, Clone)]
pub enum Place {
    /// In this process.
    Here,
    /// In another one.
    There(Arc<Replica>),
    /// Nobody leads, or the leader is not ready, or nobody knows whether it still leads.
    Nowhere,
}

impl WhoLeads {
    /// By this leadership. A leader counts from [`WhoLeads::set_ready`] on.
    pub fn new(leadership: Leadership) -> Self {
        let role = leadership.watch();
        Self { leadership, role, ready: Arc::default() }
    }

    /// What a leader does has been taken up in this process.
    pub fn set_ready(&self) {
        self.ready.store(true, Ordering::Release);
    }

    /// Whether this process leads and is ready to.
    pub fn is_here(&self) -> bool {
        self.ready.load(Ordering::Acquire) && self.leadership.holds()
    }

    /// Where the leader is at this moment.
    pub fn place(&self) -> Place {
        if self.is_here() {
            return Place::Here;
        }
        match &*self.role.borrow() {
            Role::Follower { leader: Some(leader) } => Place::There(Arc::clone(leader)),
            Role::Follower { leader: None } | Role::Leader { .. } => Place::Nowhere,
        }
    }

    /// Waits until it is worth another look.
    pub async fn look_again(&mut self) {
        tokio::select! {
            changed = self.role.changed() => if changed.is_err() { sleep(LOOK).await },
            () = sleep(LOOK) => {}
        }
    }

    /// Waits until this process leads, ready or not; returns the term.
    pub async fn elected(&mut self) -> u64 {
        loop {
            if let Role::Leader { term } = *self.role.borrow_and_update() {
                return term;
            }
            self.look_again().await;
        }
    }

    /// The role and its changes.
    pub fn watch(&self) -> watch::Receiver<Role> {
        self.role.clone()
    }

    /// What replicas show each other.
    pub fn peer_key(&self) -> &PeerKey {
        self.leadership.peer_key()
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use tokio::time::Instant;

    use super::*;

    #[tokio::test]
    async fn the_leader_is_where_it_can_answer() {
        let (leadership, appointment) = Leadership::pair(PeerKey::fresh());
        let mut who_leads = WhoLeads::new(leadership);
        assert!(matches!(who_leads.place(), Place::Nowhere));
        let other = Arc::new(Replica::of_this_process("127.0.0.1:1".to_owned(), Bytes::new(), String::new()));
        appointment.follow(Some(Arc::clone(&other)));
        assert!(matches!(who_leads.place(), Place::There(leader) if leader == other));
        appointment.lead(7, Instant::now());
        assert_eq!(who_leads.elected().await, 7);
        assert!(matches!(who_leads.place(), Place::Nowhere), "it is not ready");
        who_leads.set_ready();
        assert!(matches!(who_leads.place(), Place::Here));
        appointment.resign();
        assert!(matches!(who_leads.place(), Place::Nowhere), "it does not hold");
    }
}
