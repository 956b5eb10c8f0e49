//! The copies themselves, and which reads are under way. Pure state: whoever uses it says what time it is.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use crate::domain::template_shape::TemplateShape;

/// How old a copy may be that refuses a message.
const REFUSES_FOR: Duration = Duration::from_secs(30);
/// How old a copy may be at all.
const KEPT_FOR: Duration = Duration::from_hours(1);
/// After a read that failed, no other of its WABA begins for so long, or as long as Meta says: a cause such as a bad token
/// or used up calls would fail them all.
const PAUSE: Duration = Duration::from_secs(10);
/// Calls are counted by the hour (reference 6.1), so that no pause is longer.
const PAUSE_MAX: Duration = Duration::from_hours(1);
/// Reads under way at once.
const READS_MAX: usize = 8;
/// Languages of templates that are kept; a name without any counts as one.
const KEPT_MAX: usize = 20_000;

/// A name in a WABA.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct TemplateName {
    pub(super) waba_id: String,
    pub(super) name: String,
}

/// The templates of one name, as Meta described them.
#[derive(Debug)]
pub(super) struct TemplateCopy {
    pub(super) shapes: Vec<TemplateShape>,
    /// Whether those are all languages.
    pub(super) is_whole: bool,
    /// When the read began.
    pub(super) begun: Instant,
}

/// A read under way. It ends with a copy, or the channel closes.
#[derive(Debug, Clone)]
pub(super) struct Reading {
    pub(super) begun: Instant,
    pub(super) copy: watch::Receiver<Option<Arc<TemplateCopy>>>,
}

/// What to do for somebody who needs a copy.
#[derive(Debug)]
pub(super) enum Look {
    /// Wait for a read that is under way.
    Join(Reading),
    /// Begin one, and finish it with this ticket.
    Begin(Reading, u64),
    /// Do without: too many are under way, or one has failed a moment ago.
    Busy,
}

/// All copies.
#[derive(Debug, Default)]
pub(super) struct Copies {
    of: HashMap<TemplateName, Entry>,
    pauses: HashMap<String, Instant>,
    reads: usize,
    last_ticket: u64,
    kept: usize,
}

#[derive(Debug, Default)]
struct Entry {
    copy: Option<Arc<TemplateCopy>>,
    reading: Option<Open>,
}

/// The other end of a read under way.
#[derive(Debug)]
struct Open {
    reading: Reading,
    ticket: u64,
    sender: watch::Sender<Option<Arc<TemplateCopy>>>,
}

impl TemplateCopy {
    /// The template in this language. Of several, one is on its way out.
    pub(super) fn shape(&self, language: &str) -> Option<&TemplateShape> {
        let mut all = self.shapes.iter().filter(|shape| shape.language == language);
        let first = all.next()?;
        if first.status == "APPROVED" {
            Some(first)
        } else {
            all.find(|s| s.status == "APPROVED").or(Some(first))
        }
    }

    /// Whether it is new enough to refuse a message.
    pub(super) fn may_refuse(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.begun) < REFUSES_FOR
    }

    fn size(&self) -> usize {
        self.shapes.len().max(1)
    }
}

impl Copies {
    /// The copy, unless there is none or it is too old.
    pub(super) fn copy(&self, name: &TemplateName, now: Instant) -> Option<Arc<TemplateCopy>> {
        let copy = self.of.get(name)?.copy.as_ref()?;
        (now.saturating_duration_since(copy.begun) < KEPT_FOR).then(|| Arc::clone(copy))
    }

    /// Joins the read of this name, or begins one.
    pub(super) fn look(&mut self, name: &TemplateName, now: Instant) -> Look {
        if let Some(open) = self.of.get(name).and_then(|entry| entry.reading.as_ref()) {
            return Look::Join(open.reading.clone());
        }
        self.pauses.retain(|_, until| now < *until);
        if self.reads >= READS_MAX || self.pauses.contains_key(&name.waba_id) {
            return Look::Busy;
        }
        self.reads += 1;
        self.last_ticket += 1;
        let (sender, copy) = watch::channel(None);
        let reading = Reading { begun: now, copy };
        let entry = self.of.entry(name.clone()).or_default();
        entry.reading = Some(Open { reading: reading.clone(), ticket: self.last_ticket, sender });
        Look::Begin(reading, self.last_ticket)
    }

    /// Keeps what was read, and tells those who wait; unless it was forgotten while it was read, since it may be old then.
    /// Without a copy the read has failed, and no other makes sense for so long.
    pub(super) fn finish(
        &mut self,
        name: &TemplateName,
        ticket: u64,
        copy: Result<TemplateCopy, Duration>,
        now: Instant,
    ) {
        self.reads = self.reads.saturating_sub(1);
        if let Err(pause) = &copy {
            self.pauses.insert(name.waba_id.clone(), now + (*pause).clamp(PAUSE, PAUSE_MAX));
        }
        let Some(entry) = self.of.get_mut(name) else { return };
        let Some(open) = entry.reading.take_if(|open| open.ticket == ticket) else { return };
        match copy.map(Arc::new) {
            Ok(copy) => {
                let before = entry.copy.replace(Arc::clone(&copy));
                self.kept = self.kept + copy.size() - before.map_or(0, |before| before.size());
                open.sender.send_replace(Some(copy));
            }
            Err(_) if entry.copy.is_none() => drop(self.of.remove(name)),
            Err(_) => {}
        }
        self.make_room(now);
    }

    /// Forgets a name. Who waits for a read of it does without.
    pub(super) fn forget(&mut self, waba_id: &str, name: &str) {
        self.remove(&TemplateName { waba_id: waba_id.to_owned(), name: name.to_owned() });
    }

    /// Forgets the names that have one of these ids, and what is being read: it may be one of them.
    pub(super) fn forget_ids(&mut self, waba_id: &str, ids: &[String]) {
        self.forget_where(waba_id, |entry| {
            let shapes = entry.copy.iter().flat_map(|copy| &copy.shapes);
            entry.reading.is_some() || shapes.map(|shape| &shape.id).any(|id| ids.contains(id))
        });
    }

    /// Forgets a whole WABA.
    pub(super) fn forget_all(&mut self, waba_id: &str) {
        self.forget_where(waba_id, |_| true);
    }

    fn forget_where(&mut self, waba_id: &str, is_meant: impl Fn(&Entry) -> bool) {
        let of_waba = self.of.iter().filter(|(name, entry)| name.waba_id == waba_id && is_meant(entry));
        let names: Vec<_> = of_waba.map(|(name, _)| name.clone()).collect();
        for name in &names {
            self.remove(name);
        }
    }

    fn remove(&mut self, name: &TemplateName) {
        let copy = self.of.remove(name).and_then(|entry| entry.copy);
        self.kept -= copy.map_or(0, |copy| copy.size());
    }

    /// While there are too many, forgets the one that was read first.
    fn make_room(&mut self, now: Instant) {
        while self.kept > KEPT_MAX {
            let age =
                |entry: &Entry| entry.copy.as_ref().map(|copy| now.saturating_duration_since(copy.begun));
            let by_age = self.of.iter().filter_map(|(name, entry)| Some((age(entry)?, name)));
            let Some(oldest) = by_age.max_by_key(|(age, _)| *age).map(|(_, name)| name.clone()) else {
                return;
            };
            self.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests;
