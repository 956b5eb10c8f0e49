//! What is stored, of those who wrote last.

use std::collections::{HashMap, HashSet};

use crate::domain::conversation::Alias;
use crate::domain::window::{ConversationWindows, Reception};
use crate::storage::projections::Change;

/// Entries of each kind; a few MB together.
const REMEMBERED_MAX: usize = 16_384;

/// Nobody else writes it, so it need not be read again for each of their events. What is full begins anew, and what is
/// needed again is read again.
#[derive(Debug, Default)]
pub(super) struct Remembered {
    names: HashSet<Alias>,
    windows: HashMap<String, ConversationWindows>,
    receptions: HashMap<String, Reception>,
}

impl Remembered {
    pub(super) fn has_name(&self, name: &Alias) -> bool {
        self.names.contains(name)
    }

    pub(super) fn windows(&self, conversation_key: &str) -> Option<ConversationWindows> {
        self.windows.get(conversation_key).copied()
    }

    pub(super) fn reception(&self, phone_number_id: &str) -> Option<Reception> {
        self.receptions.get(phone_number_id).copied()
    }

    pub(super) fn keep_name(&mut self, name: Alias) {
        if self.names.len() >= REMEMBERED_MAX {
            self.names.clear();
        }
        self.names.insert(name);
    }

    /// What was stored just now.
    pub(super) fn keep(&mut self, changes: Vec<Change>) {
        for change in changes {
            match change {
                Change::Identity(name, _) => self.keep_name(name),
                Change::Windows(key, windows) => keep(&mut self.windows, key, windows),
                Change::Reception(number, reception) => keep(&mut self.receptions, number, reception),
                Change::Message(..) | Change::Names(..) => {}
            }
        }
    }
}

fn keep<T>(entries: &mut HashMap<String, T>, key: String, value: T) {
    if entries.len() >= REMEMBERED_MAX {
        entries.clear();
    }
    entries.insert(key, value);
}
