//! Tells watches that something was stored of their message.
//!
//! A watch asks for news first and reads the state then; whoever stores tells after storing. So nothing is missed, and
//! nobody polls.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use crate::storage::projections::MessageName;

type Watched = HashMap<MessageName, watch::Sender<()>>;

/// The messages that are watched at this moment. Clones are the same one.
#[derive(Debug, Clone, Default)]
pub struct MessageNews {
    watched: Arc<Mutex<Watched>>,
}

impl MessageNews {
    /// From now on, tells what is stored of this message.
    pub(super) fn subscribe(&self, name: MessageName) -> Subscription {
        let told = self.lock().entry(name.clone()).or_default().subscribe();
        Subscription { news: self.clone(), name, told }
    }

    /// Something was stored of these messages.
    pub fn tell(&self, names: &[MessageName]) {
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
    fn lock(&self) -> MutexGuard<'_, Watched> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// News of one message, until it is dropped.
#[derive(Debug)]
pub(super) struct Subscription {
    news: MessageNews,
    name: MessageName,
    told: watch::Receiver<()>,
}

impl Subscription {
    /// Waits for news that came since the last call.
    pub(super) async fn wait(&mut self) {
        // The sender stays as long as this subscription, so that an error cannot be.
        if self.told.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

impl Drop for Subscription {
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
