//! The messages that Meta has taken lately, so that they are known before their first status.

use std::collections::VecDeque;

use crate::domain::map::FastMap;
use crate::domain::message::{Receipt, SendTag};
use crate::storage::projections::MessageName;

/// Messages that are remembered: about 5 MB. `message_life.proto` says so.
const MESSAGES_MAX: usize = 10_000;

/// The latest of them.
#[derive(Debug, Default)]
pub(super) struct Recent {
    by_name: FastMap<MessageName, (SendTag, Receipt)>,
    oldest_first: VecDeque<MessageName>,
}

impl Recent {
    pub(super) fn put(&mut self, name: MessageName, tag: SendTag, receipt: Receipt) {
        if self.by_name.insert(name.clone(), (tag, receipt)).is_none() {
            self.oldest_first.push_back(name);
        }
        if self.oldest_first.len() > MESSAGES_MAX
            && let Some(oldest) = self.oldest_first.pop_front()
        {
            self.by_name.remove(&oldest);
        }
    }

    pub(super) fn get(&self, name: &MessageName) -> Option<(SendTag, Receipt)> {
        self.by_name.get(name).cloned()
    }
}
