//! Tells watches that something is new of what they watch: a message, a request.
//!
//! A watch asks for news first and reads the state then; whoever stores tells after storing. So nothing is missed, and
//! nobody polls.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use crate::storage::projections::MessageName;
use crate::storage::sends::RequestKey;

/// News of messages.
pub type MessageNews = News<MessageName>;
/// News of requests under an id.
pub type RequestNews = News<RequestKey>;

/// What is watched at this moment. Clones are the same one.
#[derive(Debug)]
pub struct News<K> {
    watched: Arc<Mutex<HashMap<K, watch::Sender<()>>>>,
}

impl<K> Clone for News<K> {
    fn clone(&self) -> Self {
        Self { watched: Arc::clone(&self.watched) }
    }
}

impl<K> Default for News<K> {
    fn default() -> Self {
        Self { watched: Arc::default() }
    }
}

impl<K: Clone + Eq + Hash> News<K> {
    /// From now on, tells what is new of this.
    pub(super) fn subscribe(&self, name: K) -> Subscription<K> {
        let told = self.lock().entry(name.clone()).or_default().subscribe();
        Subscription { news: self.clone(), name, told }
    }

    /// Something is new of these.
    pub fn tell(&self, names: &[K]) {
        let watched = self.lock();
        if watched.is_empty() {
            return;
        }
        for name in names {
            if let Some(told) = watched.get(name) {
                told.send_replace(());
            }
        }
    }

    /// Never held over an await.
    fn lock(&self) -> MutexGuard<'_, HashMap<K, watch::Sender<()>>> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// News of one of them, until it is dropped.
#[derive(Debug)]
pub(super) struct Subscription<K: Clone + Eq + Hash> {
    news: News<K>,
    name: K,
    told: watch::Receiver<()>,
}

impl<K: Clone + Eq + Hash> Subscription<K> {
    /// Waits for news that came since the last call.
    pub(super) async fn wait(&mut self) {
        // The sender stays as long as this subscription, so that an error cannot be.
        if self.told.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

impl<K: Clone + Eq + Hash> Drop for Subscription<K> {
    fn drop(&mut self) {
        let mut watched = self.news.lock();
        // This one is still counted.
        if watched.get(&self.name).is_some_and(|told| told.receiver_count() <= 1) {
            watched.remove(&self.name);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[test]
    fn only_the_message_that_moved_is_told_and_nothing_stays_behind() {
        let name = |id: &str| ("1065".to_owned(), id.to_owned());
        let news = MessageNews::default();
        let (mut a, mut b, mut other) =
            (news.subscribe(name("a")), news.subscribe(name("a")), news.subscribe(name("b")));
        news.tell(&[name("a"), name("unwatched")]);
        news.tell(&[name("a")]);
        for told in [&mut a, &mut b] {
            assert!(told.wait().now_or_never().is_some());
            assert!(told.wait().now_or_never().is_none(), "told once of all that came");
        }
        assert!(other.wait().now_or_never().is_none());
        drop(a);
        news.tell(&[name("a")]);
        assert!(b.wait().now_or_never().is_some(), "the other watch of the message goes on");
        drop((b, other));
        assert!(news.lock().is_empty());
    }
}
