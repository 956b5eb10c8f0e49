//! Log → identities, windows and message states.
//!
//! One task reads the log behind its stored position and applies what each event says. Every step may be repeated: the
//! results only ever move forward, and the position is written last: with what is the
//! newest by then, and once a second while more waits.

mod progress;
mod remembered;
mod windows;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use metrics::{counter, gauge};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, timeout_at};
use tracing::{debug, warn};

use crate::domain::conversation::Alias;
use crate::domain::event::{Fact, MESSAGE_RECEIVED, Moved, StatusReport};
use crate::domain::message_state::{MessageLife, MessageState};
use crate::lifecycle::Shutdown;
use crate::storage::event_log::{EventLog, ReadError, ReadLimit, StoredEvent};
use crate::storage::events;
use crate::storage::keyed_state::StateError;
use crate::storage::projections::{Change, MessageName, MessageRecord, Position, Projections};
use crate::telemetry::names;

use super::fallbacks::Fallbacks;
use super::follow_message::MessageNews;
use super::number_watch::NumberWatch;
use super::template_catalog::TemplateCatalog;
use super::unsettled::Unsettled;
pub use progress::Progress;
use remembered::Remembered;
use windows::PageWindows;

/// Longer message ids than this are not followed: keys of the state are bounded. `message_life.proto` says so.
const MESSAGE_ID_BYTES_MAX: usize = 440;
/// What one step takes. Each costs a few writes, however many events it applies.
const PAGE: ReadLimit = ReadLimit { events: 2_048, bytes: 4 * 1024 * 1024 };
/// A step rests so many times as long as it took before the next one: while events keep coming, fewer and larger steps leave the store
/// to those who wait for it.
const REST: u32 = 4;
const REST_MAX: Duration = Duration::from_millis(100);
/// How long the stored position may be behind while more events wait. What comes after it is applied again at the next start.
const POSITION_BEHIND_MAX: Duration = Duration::from_secs(1);
/// Between two tries when the store refuses or cannot be read; doubles up to the second.
const RETRY_DELAY_MIN: Duration = Duration::from_secs(1);
const RETRY_DELAY_MAX: Duration = Duration::from_mins(1);

/// Follows the log.
#[derive(Debug)]
pub struct ProjectLog {
    log: Arc<dyn EventLog>,
    projections: Projections,
    news: MessageNews,
    unsettled: Unsettled,
    fallbacks: Fallbacks,
    templates: TemplateCatalog,
    number_watch: NumberWatch,
    position: watch::Sender<u64>,
    /// When it was stored last.
    stored: Option<Instant>,
    hurry: Arc<Notify>,
    /// Up to which event the watch of numbers has heard everything: it counts, so that no event may be heard twice.
    heard: u64,
    remembered: Remembered,
}

/// Why a step failed; the next try starts at the same position.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The log cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The projections cannot be read or written.
    #[error(transparent)]
    State(#[from] StateError),
}

impl ProjectLog {
    /// Applies this log to these projections, tells of messages that got a status, and lets sends and fallbacks hear it,
    /// the catalog of templates what happened to those, and the watch of numbers everything.
    pub fn new(
        log: Arc<dyn EventLog>,
        projections: Projections,
        news: MessageNews,
        unsettled: Unsettled,
        fallbacks: Fallbacks,
        templates: TemplateCatalog,
        number_watch: NumberWatch,
    ) -> Self {
        let (position, hurry) = (watch::Sender::new(0), Arc::default());
        let (heard, remembered) = (0, Remembered::default());
        Self {
            log,
            projections,
            news,
            unsettled,
            fallbacks,
            templates,
            number_watch,
            position,
            stored: None,
            hurry,
            heard,
            remembered,
        }
    }

    /// How far it comes.
    pub fn progress(&self) -> Progress {
        let (tail, applied) = (self.log.watch_tail(), self.position.subscribe());
        Progress { tail, applied, hurry: Arc::clone(&self.hurry) }
    }

    /// Follows the log until the process stops. While the store refuses or cannot be read, tries again now and then.
    pub async fn run(mut self, shutdown: Shutdown) {
        let mut tail = self.log.watch_tail();
        let mut retry_delay = RETRY_DELAY_MIN;
        while !shutdown.stop().is_cancelled() {
            match self.follow(&mut tail).await {
                Ok(true) => retry_delay = RETRY_DELAY_MIN,
                Ok(false) => return,
                Err(error) => {
                    warn!(%error, ?retry_delay, "projections are behind");
                    tokio::time::sleep(retry_delay).await;
                    retry_delay = (retry_delay * 2).min(RETRY_DELAY_MAX);
                }
            }
        }
    }

    /// One step, and what comes before the next one; false when none will come.
    async fn follow(&mut self, tail: &mut watch::Receiver<u64>) -> Result<bool, Error> {
        let (began, there) = (Instant::now(), *tail.borrow());
        let next = self.advance().await?;
        if next < there {
            // A page was full, so that the next step cannot be larger.
            return Ok(true);
        }
        let rested = Instant::now() + (REST * began.elapsed()).min(REST_MAX);
        if next >= *tail.borrow_and_update() && tail.changed().await.is_err() {
            return Ok(false);
        }
        // Whoever waits has not to wait for this.
        drop(timeout_at(rested, self.hurry.notified()).await);
        Ok(true)
    }

    /// Applies everything that is stored now, so that what is served next knows it. A store that takes no writes at this
    /// moment is no reason not to start: [`ProjectLog::run`] goes on when it does.
    pub async fn catch_up(&mut self) -> Result<(), Error> {
        let (began, tail) = (Instant::now(), *self.log.watch_tail().borrow());
        let mut first = None;
        loop {
            match self.advance().await {
                Ok(next) if next >= tail => {
                    let behind = next.saturating_sub(first.unwrap_or(next));
                    debug!(behind, took_ms = began.elapsed().as_millis(), "projections have caught up");
                    return Ok(());
                }
                Ok(next) => {
                    first.get_or_insert(next);
                }
                Err(Error::State(error @ (StateError::Refused(_) | StateError::Busy))) => {
                    warn!(%error, "projections start behind the log");
                    return Ok(());
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// One step from where the last one ended; the first from the stored position.
    async fn advance(&mut self) -> Result<u64, Error> {
        let applied = *self.position.borrow();
        let at = if applied > 0 { applied } else { self.projections.position(self.log.epoch()).await? };
        let next = self.step(at).await?;
        self.position.send_replace(next);
        #[expect(clippy::cast_precision_loss, reason = "no position comes near 2^52")]
        gauge!(names::PROJECTIONS).set(next as f64);
        Ok(next)
    }

    /// Applies one page after `position`; returns the new position. What retention took in the meantime is passed over:
    /// it is older than anything the projections promise.
    async fn step(&mut self, position: u64) -> Result<u64, Error> {
        let page = match self.log.read(position, PAGE).await {
            Err(ReadError::Trimmed { earliest }) => return Ok(earliest.saturating_sub(1)),
            page => page?,
        };
        let Some(last) = page.last() else { return Ok(position) };
        let (changes, moved, statuses) = self.changes(&page).await?;
        // Before the position moves: what a status proves is not said twice.
        self.unsettled.record_behind().await?;
        let is_all = *self.log.watch_tail().borrow() <= last.seq;
        let is_due = is_all || self.stored.is_none_or(|at| at.elapsed() >= POSITION_BEHIND_MAX);
        let stored = is_due.then(|| Position { epoch: self.log.epoch(), seq: last.seq });
        self.projections.apply(&changes, stored).await?;
        if is_due {
            self.stored = Some(Instant::now());
        }
        self.remembered.keep(changes);
        self.news.tell(&moved);
        for word in statuses {
            counter!(names::MESSAGE_STATUSES, names::STATUS => word).increment(1);
        }
        Ok(last.seq)
    }

    /// What the page changes, the messages that it reports of, and the words of their statuses: also those that are stored
    /// already, because the step that stored them may have failed before it told of them.
    async fn changes(
        &mut self,
        page: &[Arc<StoredEvent>],
    ) -> Result<(Vec<Change>, Vec<MessageName>, Vec<&'static str>), StateError> {
        let mut aliases: HashMap<Alias, String> = HashMap::new();
        let mut windows = PageWindows::default();
        let mut statuses = Vec::new();
        let mut messages: HashMap<MessageName, MessageRecord> = HashMap::new();
        for event in page {
            let fact = events::fact(event);
            windows.take(event, &fact);
            if event.seq > self.heard {
                self.heard = event.seq;
                self.number_watch.hear(&fact);
                if let Fact::Concerns { phone_number_id, .. } = &fact
                    && event.attributes.event_type == MESSAGE_RECEIVED
                {
                    self.number_watch.received(phone_number_id, stored_at(event));
                }
            }
            if let Fact::Template { waba_id, name } = &fact {
                self.templates.forget(waba_id, name);
            }
            let Fact::Concerns { phone_number_id, conversation_key, user, moved } = fact else { continue };
            for alias in Alias::of(&phone_number_id, &user) {
                aliases.entry(alias).or_insert_with(|| conversation_key.clone());
            }
            if let Moved::Message(report) = &moved {
                statuses.extend(names::STATUSES.iter().find(|word| **word == report.status));
                self.unsettled.note(report, stored_at(event));
                self.fallbacks.settle(report, &conversation_key).await?;
            }
            match moved {
                Moved::Message(report) if report.message_id.len() <= MESSAGE_ID_BYTES_MAX => {
                    let Some(state) = MessageState::from_status(&report.status) else { continue };
                    let StatusReport { message_id, time, send_tag, error, .. } = *report;
                    let life = MessageLife::at(state, time, error);
                    let record = MessageRecord { life, conversation_key, send_tag };
                    let name = (phone_number_id.as_str().to_owned(), message_id);
                    let merged = match messages.remove(&name) {
                        Some(known) => known.merge(record),
                        None => record,
                    };
                    messages.insert(name, merged);
                }
                Moved::Message(_) | Moved::Window(_) | Moved::Nothing => {}
            }
        }
        let moved = messages.keys().cloned().collect();
        Ok((self.against_stored(aliases, windows, messages).await?, moved, statuses))
    }

    /// Merges what the page says with what is stored, so that nothing moves backwards.
    async fn against_stored(
        &mut self,
        aliases: HashMap<Alias, String>,
        windows: PageWindows,
        messages: HashMap<MessageName, MessageRecord>,
    ) -> Result<Vec<Change>, StateError> {
        let mut changes = Vec::new();
        let unread = aliases.into_iter().filter(|(name, _)| !self.remembered.has_name(name));
        let (names, keys): (Vec<Alias>, Vec<String>) = unread.unzip();
        let stored = self.projections.conversations(&names).await?;
        let mut renamed = Vec::new();
        for ((name, key), stored) in names.into_iter().zip(keys).zip(stored) {
            if stored.is_some() {
                self.remembered.keep_name(name);
                continue;
            }
            if !renamed.contains(&key) {
                renamed.push(key.clone());
            }
            changes.push(Change::Identity(name, key));
        }
        changes.extend(windows.changes(&self.projections, &self.remembered, renamed).await?);
        let (names, records): (Vec<MessageName>, Vec<MessageRecord>) = messages.into_iter().unzip();
        let stored = self.projections.messages(&names).await?;
        for ((name, record), stored) in names.into_iter().zip(records).zip(stored) {
            let merged = stored.clone().map_or_else(|| record.clone(), |stored| stored.merge(record.clone()));
            if stored.as_ref() != Some(&merged) {
                changes.push(Change::Message(name, merged));
            }
        }
        Ok(changes)
    }
}

fn stored_at(event: &StoredEvent) -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(event.append_ms)
}

#[cfg(test)]
mod tests;
