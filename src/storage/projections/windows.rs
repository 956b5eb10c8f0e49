//! The windows of conversations, the names of their users, and how completely messages are known.

use std::time::{Duration, SystemTime};

use bytes::Bytes;

use super::{Projections, from_ms, put, text};
use crate::clock::unix_ms;
use crate::domain::conversation::UserIdentity;
use crate::domain::ids::{BusinessScopedUserId, WaId};
use crate::domain::window::{ConversationWindows, Reception};
use crate::storage::keyed_state::{Bucket, Put, StateError};

const WINDOWS: Bucket = Bucket::named("windows").advancing();
const NAMES: Bucket = Bucket::named("names").advancing();
/// By business number; what concerns all of them is under a key that is no number.
const RECEPTION: Bucket = Bucket::named("reception");
const WATCH: &[u8] = b"watch";

/// How long windows are remembered after the last thing that moved them.
const WINDOWS_KEPT: Duration = Duration::from_hours(8 * 24);
/// Stands for what is not known.
const NONE: &str = "-";

/// When the gateway was last seen to take webhooks in, and from when on it has caught up with what it missed before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Watch {
    /// When it was last seen.
    pub seen: SystemTime,
    /// From when on it has heard everything.
    pub caught_up: SystemTime,
}

impl Projections {
    /// The windows of conversations, in their order; `None` where nothing is remembered.
    pub async fn windows(&self, keys: &[String]) -> Result<Vec<Option<ConversationWindows>>, StateError> {
        self.texts(WINDOWS, keys, read_windows).await
    }

    /// The names of the users of conversations, in their order.
    pub async fn names(&self, keys: &[String]) -> Result<Vec<UserIdentity>, StateError> {
        let found = self.texts(NAMES, keys, |text| Some(read_names(text))).await?;
        Ok(found.into_iter().map(Option::unwrap_or_default).collect())
    }

    /// How completely the messages to business numbers are known, in their order.
    pub async fn receptions(&self, numbers: &[String]) -> Result<Vec<Option<Reception>>, StateError> {
        self.texts(RECEPTION, numbers, read_reception).await
    }

    /// The last watch that was stored.
    pub async fn watch(&self) -> Result<Option<Watch>, StateError> {
        let entry = self.state.get(RECEPTION, WATCH).await?;
        Ok(entry.as_ref().and_then(text).and_then(read_watch))
    }

    /// Stores the watch.
    pub async fn put_watch(&self, watch: Watch) -> Result<(), StateError> {
        let text = format!("{} {}", unix_ms(watch.seen), unix_ms(watch.caught_up));
        self.state.put_all(vec![put(RECEPTION, WATCH, &text, None)]).await
    }

    async fn texts<T>(
        &self,
        bucket: Bucket,
        keys: &[String],
        read: impl Fn(&str) -> Option<T>,
    ) -> Result<Vec<Option<T>>, StateError> {
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let keys: Vec<Bytes> = keys.iter().map(|key| key.clone().into()).collect();
        let entries = self.state.get_many(bucket, &keys).await?;
        Ok(entries.iter().map(|entry| entry.as_ref().and_then(text).and_then(&read)).collect())
    }
}

/// The first versions knew the time of the last message alone; a window of which no more is known is still written so.
pub(super) fn put_windows(key: &str, windows: &ConversationWindows) -> Put {
    let ConversationWindows { last_inbound, last_referral, free_entry_until } = *windows;
    let text = match (last_inbound, last_referral, free_entry_until) {
        (Some(inbound), None, None) => unix_ms(inbound).to_string(),
        times => format!("{} {} {}", time_text(times.0), time_text(times.1), time_text(times.2)),
    };
    let last = last_inbound.max(last_referral).max(free_entry_until);
    put(WINDOWS, key.as_bytes(), &text, last.map(|last| last + WINDOWS_KEPT))
}

pub(super) fn put_names(key: &str, names: &UserIdentity) -> Put {
    let wa_id = names.wa_id.as_ref().map_or(NONE, WaId::expose);
    let user_id = names.user_id.as_ref().map_or(NONE, BusinessScopedUserId::expose);
    put(NAMES, key.as_bytes(), &format!("{wa_id} {user_id}"), None)
}

pub(super) fn put_reception(number: &str, reception: Reception) -> Put {
    let text = format!("{} {}", unix_ms(reception.since), time_text(reception.last_hidden));
    put(RECEPTION, number.as_bytes(), &text, None)
}

fn read_windows(text: &str) -> Option<ConversationWindows> {
    let mut times = text.split(' ').map(from_ms);
    let windows = ConversationWindows {
        last_inbound: times.next().flatten(),
        last_referral: times.next().flatten(),
        free_entry_until: times.next().flatten(),
    };
    (windows != ConversationWindows::default()).then_some(windows)
}

fn read_names(text: &str) -> UserIdentity {
    let (wa_id, user_id) = text.split_once(' ').unwrap_or((text, NONE));
    UserIdentity { wa_id: WaId::parse(wa_id).ok(), user_id: BusinessScopedUserId::parse(user_id).ok() }
}

fn read_reception(text: &str) -> Option<Reception> {
    let (since, last_hidden) = text.split_once(' ')?;
    Some(Reception { since: from_ms(since)?, last_hidden: from_ms(last_hidden) })
}

fn read_watch(text: &str) -> Option<Watch> {
    let (seen, caught_up) = text.split_once(' ')?;
    Some(Watch { seen: from_ms(seen)?, caught_up: from_ms(caught_up)? })
}

fn time_text(time: Option<SystemTime>) -> String {
    time.map_or_else(|| NONE.to_owned(), |time| unix_ms(time).to_string())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::UNIX_EPOCH;

    use super::*;
    use crate::clock::ManualClock;
    use crate::storage::keyed_state::{KeyedState as _, Precondition};
    use crate::storage::memory::Memory;
    use crate::storage::projections::Change;

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(1_750_000_000 + seconds)
    }

    #[tokio::test]
    async fn everything_is_read_as_it_was_written() {
        let projections = Projections::new(Memory::new(ManualClock::new(at(0))));
        let all = [
            ConversationWindows { last_inbound: Some(at(1)), ..Default::default() },
            ConversationWindows {
                last_inbound: Some(at(1)),
                last_referral: Some(at(1)),
                free_entry_until: None,
            },
            ConversationWindows { free_entry_until: Some(at(9)), ..Default::default() },
        ];
        let keys: Vec<String> = (0..all.len()).map(|key| key.to_string()).collect();
        let names = UserIdentity { wa_id: None, user_id: BusinessScopedUserId::parse("US.13").ok() };
        let reception = Reception { since: at(2), last_hidden: Some(at(3)) };
        let mut changes: Vec<_> =
            keys.iter().zip(all).map(|(key, windows)| Change::Windows(key.clone(), windows)).collect();
        changes.push(Change::Names("0".to_owned(), names.clone()));
        changes.push(Change::Reception("0".to_owned(), reception));
        projections.apply(&changes, None).await.unwrap();
        assert_eq!(projections.windows(&keys).await.unwrap(), all.map(Some));
        assert_eq!(projections.names(&keys[..2]).await.unwrap(), [names, UserIdentity::default()]);
        assert_eq!(projections.receptions(&keys[..2]).await.unwrap(), [Some(reception), None]);
        let watch = Watch { seen: at(5), caught_up: at(4) };
        assert_eq!(projections.watch().await.unwrap(), None);
        projections.put_watch(watch).await.unwrap();
        assert_eq!(projections.watch().await.unwrap(), Some(watch));
    }

    #[tokio::test]
    async fn windows_of_the_first_version_are_read() {
        let memory = Memory::new(ManualClock::new(at(0)));
        let projections = Projections::new(Arc::clone(&memory) as _);
        memory.put(put(WINDOWS, b"k", "1750000001000", None), Precondition::None).await.unwrap();
        let windows = ConversationWindows { last_inbound: Some(at(1)), ..Default::default() };
        assert_eq!(projections.windows(&["k".to_owned()]).await.unwrap(), [Some(windows)]);
    }
}
