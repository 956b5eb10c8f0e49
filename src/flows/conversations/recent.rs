//! What need not be read again before a send: facts that stay true until a moment that is known.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use crate::domain::conversation::Alias;
use crate::domain::ids::PhoneNumberId;

/// Entries of each kind; a few MB. What is full begins anew.
const ENTRIES_MAX: usize = 16_384;

/// Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(super) struct Recent {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug, Default)]
struct Inner {
    open: HashMap<Alias, SystemTime>,
    incomplete: HashMap<PhoneNumberId, SystemTime>,
}

impl Recent {
    /// Until when the window of this user is open at least; it may be extended, and never closes earlier.
    pub(super) fn open_until(&self, name: &Alias, now: SystemTime) -> Option<SystemTime> {
        self.inner().open.get(name).copied().filter(|until| now < *until)
    }

    pub(super) fn keep_open(&self, name: Alias, until: SystemTime) {
        keep(&mut self.inner().open, name, until);
    }

    /// Whether no window of this number can be known to be closed yet.
    pub(super) fn is_incomplete(&self, number: &PhoneNumberId, now: SystemTime) -> bool {
        self.inner().incomplete.get(number).is_some_and(|until| now < *until)
    }

    pub(super) fn keep_incomplete(&self, number: &PhoneNumberId, until: SystemTime) {
        keep(&mut self.inner().incomplete, number.clone(), until);
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn keep<K: Eq + Hash>(entries: &mut HashMap<K, SystemTime>, key: K, until: SystemTime) {
    if entries.len() >= ENTRIES_MAX {
        entries.clear();
    }
    entries.insert(key, until);
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;
    use crate::domain::conversation::UserIdentity;
    use crate::domain::ids::WaId;

    #[test]
    fn facts_end_at_their_moment() {
        let at = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
        let number = PhoneNumberId::parse("1").unwrap();
        let user = UserIdentity { wa_id: WaId::parse("16505551234").ok(), user_id: None };
        let name = Alias::of(&number, &user).pop().unwrap();
        let recent = Recent::default();
        assert_eq!((recent.open_until(&name, at(0)), recent.is_incomplete(&number, at(0))), (None, false));
        recent.keep_open(name.clone(), at(10));
        recent.keep_incomplete(&number, at(20));
        assert_eq!(recent.open_until(&name, at(9)), Some(at(10)));
        assert_eq!(recent.open_until(&name, at(10)), None);
        assert!(recent.is_incomplete(&number, at(19)));
        assert!(!recent.is_incomplete(&number, at(20)));
    }
}
