//! Which conversation a user's names belong to, at the moment an event is taken in.
//!
//! The lasting map is a projection of the log. In front of it stands a cache, which also closes the gap between an event
//! that was just given a key and the projection that remembers it: two webhooks that name a new user differently and
//! arrive together still get one key. Where they may arrive at different replicas, names that nobody knows are claimed in the state
//! before anything is stored under them.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use moka::sync::Cache;

use crate::domain::conversation::{Alias, first_key};
use crate::domain::event::Event;
use crate::storage::keyed_state::{CLAIMS_MAX, StateError};
use crate::storage::projections::Projections;

/// Names kept in memory. Far above what the projection may lag behind, so that no name is forgotten before it is
/// remembered in the state.
const CACHED_NAMES_MAX: u64 = 262_144;

/// Gives conversation keys.
#[derive(Debug)]
pub struct Identities {
    projections: Projections,
    cache: Cache<String, String>,
    /// Held while a key is chosen, so that one user gets one key; never over an await.
    choosing: Mutex<()>,
}

impl Identities {
    /// Over these projections.
    pub fn new(projections: Projections) -> Self {
        Self { projections, cache: Cache::new(CACHED_NAMES_MAX), choosing: Mutex::new(()) }
    }

    /// Fills the conversation key of every event that concerns a user and has none yet.
    pub async fn assign(&self, events: &mut [Event]) -> Result<(), StateError> {
        let needed: Vec<(usize, Vec<Alias>)> = events
            .iter()
            .enumerate()
            .filter(|(_, event)| event.attributes.conversation_key.is_empty() && !event.user.is_empty())
            .filter_map(|(index, event)| {
                let aliases = Alias::of(&event.phone_number_id()?, &event.user);
                (!aliases.is_empty()).then_some((index, aliases))
            })
            .collect();
        let stored = loop {
            // Another replica may be faster with one of the names: each time there are fewer left.
            if let Some(stored) = self.stored(&needed).await? {
                break stored;
            }
        };
        for (index, aliases) in needed {
            let key = self.choose(&aliases, &stored);
            if let (Some(event), Some(key)) = (events.get_mut(index), key) {
                event.attributes.conversation_key = key;
            }
        }
        Ok(())
    }

    /// What the state knows of names that the cache does not; where it is shared, of all of them. `None` if another replica has just
    /// given one of them a key.
    async fn stored(
        &self,
        needed: &[(usize, Vec<Alias>)],
    ) -> Result<Option<HashMap<Alias, String>>, StateError> {
        let unseen: Vec<Alias> = needed
            .iter()
            .flat_map(|(_, aliases)| aliases)
            .filter(|alias| !self.cache.contains_key(alias.expose()))
            .cloned()
            .collect();
        let mut stored = HashMap::new();
        if !unseen.is_empty() {
            let conversations = self.projections.claimed(&unseen).await?;
            stored
                .extend(unseen.into_iter().zip(conversations).filter_map(|(alias, key)| Some((alias, key?))));
        }
        if !self.projections.is_shared() {
            return Ok(Some(stored));
        }
        // The names of one user are claimed at one moment, those of others need not be.
        let mut claims: Vec<Vec<(Alias, String)>> = Vec::new();
        for (_, aliases) in needed {
            let known = |alias: &Alias| self.cache.get(alias.expose()).or_else(|| stored.get(alias).cloned());
            let Some(key) = aliases.iter().find_map(known).or_else(|| first_key(aliases)) else { continue };
            let unknown: Vec<Alias> =
                aliases.iter().filter(|alias| known(alias).is_none()).cloned().collect();
            match claims.last_mut() {
                Some(last) if last.len() + unknown.len() <= CLAIMS_MAX => {
                    last.extend(unknown.iter().map(|alias| (alias.clone(), key.clone())));
                }
                _ => claims.push(unknown.iter().map(|alias| (alias.clone(), key.clone())).collect()),
            }
            stored.extend(unknown.into_iter().map(|alias| (alias, key.clone())));
        }
        for claims in claims.iter().filter(|claims| !claims.is_empty()) {
            if !self.projections.claim(claims).await? {
                return Ok(None);
            }
        }
        Ok(Some(stored))
    }

    /// The key under which any of the names is known, else a new one; all names know it afterwards.
    fn choose(&self, aliases: &[Alias], stored: &HashMap<Alias, String>) -> Option<String> {
        let _guard = self.choosing.lock().unwrap_or_else(PoisonError::into_inner);
        let known = |alias: &Alias| self.cache.get(alias.expose()).or_else(|| stored.get(alias).cloned());
        let key = aliases.iter().find_map(known).or_else(|| first_key(aliases))?;
        for alias in aliases {
            if known(alias).is_none() || !self.cache.contains_key(alias.expose()) {
                let key = known(alias).unwrap_or_else(|| key.clone());
                self.cache.insert(alias.expose().to_owned(), key);
            }
        }
        Some(key)
    }
}

#[cfg(test)]
mod tests;
