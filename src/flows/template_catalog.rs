//! Copies of the templates that are sent, so that a message which cannot work is refused before Meta is asked.
//!
//! A name is read with all of its languages when it is first sent, by one call for all who wait, and dropped when a webhook,
//! a write of our own or a refusal of Meta's says that the copy may be old. A message passes by any copy, but is refused only
//! by one that was read a moment ago: a copy that has missed a webhook costs a read, never a message. What cannot be known
//! in time passes too. Meta judges every message anyway.

mod copies;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use metrics::counter;
use tokio::time::{Instant, timeout_at};
use tracing::{info, warn};

use crate::cloud_api::messages::template_name;
use crate::cloud_api::templates::{no_such_template, parameters_misfit, shape, unsendable};
use crate::cloud_api::{self, Client};
use crate::domain::failure::{FieldViolation, Reason, Verdict};
use crate::domain::ids::WabaId;
use crate::domain::message::{OutboundMessage, PreparedMessage};
use crate::domain::quoted::Quoted;
use crate::domain::template::{Deletion, TemplateAction, TemplateQuery};
use crate::domain::template_shape::TemplateShape;
use crate::domain::value::Value;
use crate::lifecycle::Shutdown;
use crate::storage::sends::Outcome;
use crate::telemetry::names;

use super::numbers::Numbers;
use copies::{Copies, Look, Reading, TemplateCopy, TemplateName};

/// How long a message waits for the copy of its template, from the beginning of the read: Meta answers in a fraction of it,
/// and what takes longer costs the message more than a check is worth that Meta repeats.
const WAIT_MAX: Duration = Duration::from_secs(1);
/// The part of the caller's time that waiting may take.
const WAIT_SHARE: u32 = 4;
/// Pages of a name: the filter may find longer names too.
const PAGES_MAX: usize = 3;
/// Templates on such a page.
const PAGE_SIZE: u32 = 100;
/// Longer names are no templates (reference 2.4.1).
const NAME_BYTES_MAX: usize = 512;
/// Languages that a refusal lists.
const LANGUAGES_SHOWN_MAX: usize = 10;

/// The copies; clones are the same ones.
#[derive(Debug, Clone)]
pub struct TemplateCatalog {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    client: Client,
    numbers: Numbers,
    shutdown: Shutdown,
    is_on: bool,
    copies: Mutex<Copies>,
}

/// The template does not allow the message. Nothing was sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", .violations.iter().map(|v| format!("{} {}", v.field, v.description)).collect::<Vec<_>>().join("; "))]
pub struct Misfit {
    /// As if Meta had refused it.
    pub verdict: Verdict,
    /// What is wrong, at least one.
    pub violations: Vec<FieldViolation>,
    /// The status of a template that may not be sent, in Meta's word.
    pub template_status: Option<String>,
}

/// The template of a message that goes out.
#[derive(Debug, Clone)]
pub struct SentTemplate {
    catalog: TemplateCatalog,
    name: TemplateName,
}

/// What a message says about its template.
struct Asked<'a> {
    /// Path of the template in the request.
    field: &'static str,
    is_raw: bool,
    template: &'a Value,
    name: &'a str,
    language: &'a str,
}

impl TemplateCatalog {
    /// Reads with this client, for these numbers. Unless `is_on`, every message passes and nothing is read.
    pub fn new(client: Client, numbers: Numbers, shutdown: Shutdown, is_on: bool) -> Self {
        Self { inner: Arc::new(Inner { client, numbers, shutdown, is_on, copies: Mutex::default() }) }
    }

    /// Holds the template of a message, if it has one, against the copy. Waits for a copy for a second at most, and for no
    /// more than a quarter of the time to the deadline.
    pub async fn check(
        &self,
        message: &OutboundMessage,
        is_fallback: bool,
        deadline: Option<Instant>,
    ) -> Result<Option<SentTemplate>, Box<Misfit>> {
        let inner = &self.inner;
        let Some(asked) = Asked::of(message, is_fallback).filter(|_| inner.is_on) else { return Ok(None) };
        let waba_id = inner.numbers.waba_of(&message.phone_number_id);
        let name = TemplateName { waba_id, name: asked.name.to_owned() };
        let judged = match inner.by_copy(&name, &asked) {
            Some(judged) => judged,
            None => match Box::pin(self.read(&name, deadline)).await {
                Some(copy) => judge(&copy, &asked),
                None => Ok(()),
            },
        };
        match judged {
            Ok(()) => Ok(Some(SentTemplate { catalog: self.clone(), name })),
            Err(misfit) => {
                let reason = misfit.verdict.reason.as_str();
                counter!(names::TEMPLATE_REFUSALS, names::REASON => reason).increment(1);
                Err(misfit)
            }
        }
    }

    /// As [`SentTemplate::hear`], of a message that was prepared long ago.
    pub(super) fn hear(&self, message: &PreparedMessage, outcome: &Outcome) {
        let Outcome::Refused(_) = outcome else { return };
        let Some(name) = template_name(&message.json) else { return };
        let waba_id = self.inner.numbers.waba_of(&message.phone_number_id);
        SentTemplate { catalog: self.clone(), name: TemplateName { waba_id, name } }.hear(outcome);
    }

    /// Forgets what an action may have changed. Call it when its outcome is known.
    pub(super) fn forget_after(&self, waba_id: &WabaId, action: &TemplateAction) {
        use TemplateAction as A;
        let mut copies = self.inner.copies();
        match action {
            A::Create { name, .. } | A::Delete(Deletion::Name(name) | Deletion::One { name, .. }) => {
                copies.forget(waba_id.as_str(), name);
            }
            A::Upsert { body } => match body.get("name").and_then(Value::as_str) {
                Some(name) => copies.forget(waba_id.as_str(), name),
                None => copies.forget_all(waba_id.as_str()),
            },
            A::Edit { template_id, .. } | A::Unpause(template_id) => {
                copies.forget_ids(waba_id.as_str(), std::slice::from_ref(template_id));
            }
            A::Delete(Deletion::Ids(ids)) | A::Archive(ids) | A::Unarchive(ids) => {
                copies.forget_ids(waba_id.as_str(), ids);
            }
            A::Migrate { .. } => copies.forget_all(waba_id.as_str()),
            A::Get(_) | A::List(_) | A::Library(_) | A::Compare { .. } | A::Preview(_) => {}
        }
    }

    /// Forgets the templates of this name, of which a webhook has said something; all of the WABA if it named none.
    pub(super) fn forget(&self, waba_id: &str, name: &str) {
        let mut copies = self.inner.copies();
        if name.is_empty() { copies.forget_all(waba_id) } else { copies.forget(waba_id, name) }
    }

    /// The copy, read by this call or by one that is under way; `None` if there is none in time.
    async fn read(&self, name: &TemplateName, deadline: Option<Instant>) -> Option<Arc<TemplateCopy>> {
        let now = Instant::now();
        let look = self.inner.copies().look(name, now);
        let reading = match look {
            Look::Join(reading) => reading,
            Look::Begin(reading, ticket) => {
                let (inner, name) = (Arc::clone(&self.inner), name.clone());
                self.inner.shutdown.spawn_request(async move { inner.fetch(&name, ticket).await });
                reading
            }
            Look::Busy => return none("busy"),
        };
        let Reading { begun, mut copy } = reading;
        let share = |deadline: Instant| now + deadline.saturating_duration_since(now) / WAIT_SHARE;
        let until = deadline.map(share).into_iter().fold(begun + WAIT_MAX, Instant::min);
        let read = timeout_at(until, copy.wait_for(Option::is_some)).await;
        match read.map(|read| read.map(|copy| copy.clone())) {
            Ok(Ok(copy)) => {
                count("read");
                copy
            }
            // The read failed, or what it read may be old already.
            Ok(Err(_closed)) => none("failed"),
            Err(_late) => none("late"),
        }
    }
}

impl Inner {
    fn copies(&self) -> MutexGuard<'_, Copies> {
        self.copies.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the copy says, if there is one that may say it.
    fn by_copy(&self, name: &TemplateName, asked: &Asked<'_>) -> Option<Result<(), Box<Misfit>>> {
        let now = Instant::now();
        let copy = self.copies().copy(name, now)?;
        let judged = judge(&copy, asked);
        let may_say = judged.is_ok() || copy.may_refuse(now);
        may_say.then(|| {
            count("cached");
            judged
        })
    }

    /// Reads all languages of a name.
    async fn fetch(&self, name: &TemplateName, ticket: u64) {
        let begun = Instant::now();
        let read = self.shutdown.drain().run_until_cancelled(self.pages(name)).await;
        let copy = match read {
            Some(Ok((shapes, is_whole))) => Ok(TemplateCopy { shapes, is_whole, begun }),
            Some(Err(error)) => {
                warn!(%error, waba.id = name.waba_id, "templates cannot be read; Meta decides about messages");
                Err(error.verdict().retry.delay().unwrap_or_default())
            }
            None => Err(Duration::ZERO),
        };
        self.copies().finish(name, ticket, copy, Instant::now());
    }

    async fn pages(&self, name: &TemplateName) -> Result<(Vec<TemplateShape>, bool), cloud_api::Error> {
        let not_configured = |cause: String| cloud_api::Error::NoAnswer { cause };
        let waba_id = WabaId::parse(&name.waba_id).map_err(|error| not_configured(error.0))?;
        let access_token = self.numbers.waba_access_token(&waba_id);
        let access_token = access_token.map_err(|error| not_configured(error.to_string()))?;
        let mut query =
            TemplateQuery { name: name.name.clone(), page_size: PAGE_SIZE, ..TemplateQuery::default() };
        let (mut shapes, mut is_readable) = (Vec::new(), true);
        for _ in 0..PAGES_MAX {
            let page = self.client.list_templates(&access_token, &waba_id, &query).await?;
            let read = page.templates.iter().map(shape).inspect(|shape| is_readable &= shape.is_some());
            shapes.extend(read.flatten().filter(|shape| shape.name == name.name));
            if page.next_page_token.is_empty() {
                return Ok((shapes, is_readable));
            }
            query.page_token = page.next_page_token;
        }
        Ok((shapes, false))
    }
}

impl SentTemplate {
    /// Hears what became of the message: if Meta refuses it for its template, the copy may be old.
    pub(super) fn hear(&self, outcome: &Outcome) {
        let Outcome::Refused(failure) = outcome else { return };
        let reason = failure.verdict.reason;
        let of_template = [Reason::TemplateNotFound, Reason::TemplateNotSendable, Reason::TemplateParameters];
        if failure.meta.is_some() && of_template.contains(&reason) {
            info!(reason = reason.as_str(), "Meta knows the template otherwise; its copy is dropped");
            self.catalog.forget(&self.name.waba_id, &self.name.name);
        }
    }
}

impl<'a> Asked<'a> {
    /// `None` if the message has no template, or one that cannot be looked up.
    fn of(message: &'a OutboundMessage, is_fallback: bool) -> Option<Self> {
        let content = &message.content;
        let template = Some(&content.body).filter(|_| content.kind == "template")?;
        let name = template.get("name")?.as_str()?;
        let language = template.get("language")?.get("code")?.as_str()?;
        let field = match (is_fallback, content.is_raw) {
            (true, _) => "fallback_template",
            (false, true) => "raw.template",
            (false, false) => "template",
        };
        let may_exist = (1..=NAME_BYTES_MAX).contains(&name.len()) && !language.is_empty();
        may_exist.then_some(Self { field, is_raw: content.is_raw, template, name, language })
    }
}

/// Whether the message can work with a template as the copy shows it.
fn judge(copy: &TemplateCopy, asked: &Asked<'_>) -> Result<(), Box<Misfit>> {
    let Asked { field, is_raw, template, name, language } = asked;
    let Some(shape) = copy.shape(language) else {
        let is_like = |shape: &TemplateShape| alike(&shape.language, language);
        // Whether Meta takes another spelling, only Meta knows.
        let is_known = copy.is_whole && !copy.shapes.iter().any(is_like);
        return if is_known { Err(Box::new(absent(copy, asked))) } else { Ok(()) };
    };
    if let Some(verdict) = unsendable(&shape.status) {
        let remedy = match shape.status.as_str() {
            "PAUSED" => "wait until Meta lifts the pause, or use another template",
            "PENDING" | "IN_APPEAL" => "wait for Meta's review, or use another template",
            "REJECTED" => "edit it, or use another template",
            "ARCHIVED" => "take it out of the archive, or use another template",
            _ => "use another template",
        };
        let description = format!("cannot be sent: {} is {}; {remedy}", shape.label(), shape.status);
        let violations = vec![FieldViolation { field: format!("{field}.name"), description }];
        let template_status = Some(shape.status.clone());
        return Err(Box::new(Misfit { verdict, violations, template_status }));
    }
    let violations = shape.misfits(field, *is_raw, template);
    if violations.is_empty() {
        return Ok(());
    }
    info!(template.name = name, violations = violations.len(), "the parameters do not fit the template");
    Err(Box::new(Misfit { verdict: parameters_misfit(), violations, template_status: None }))
}

/// There is no such name, or not in this language.
fn absent(copy: &TemplateCopy, asked: &Asked<'_>) -> Misfit {
    let Asked { field, name, language, .. } = asked;
    let languages: Vec<_> =
        copy.shapes.iter().take(LANGUAGES_SHOWN_MAX).map(|shape| shape.language.as_str()).collect();
    let (field, description) = if languages.is_empty() {
        let rule = "names no template of this WABA: check the spelling, or create it by ManageTemplate";
        (format!("{field}.name"), rule.to_owned())
    } else {
        let there = languages.join(", ");
        let rule = format!("is {}, in which {name} does not exist; it does in: {there}", Quoted(language));
        (format!("{field}.language.code"), rule)
    };
    let violations = vec![FieldViolation { field, description }];
    Misfit { verdict: no_such_template(), violations, template_status: None }
}

/// Whether two language codes may be the same, as `pt_BR` and `pt-br`.
fn alike(one: &str, other: &str) -> bool {
    one.len() == other.len()
        && one.bytes().zip(other.bytes()).all(|(a, b)| {
            let folded = |byte: u8| if byte == b'-' { b'_' } else { byte.to_ascii_lowercase() };
            folded(a) == folded(b)
        })
}

fn count(outcome: &'static str) {
    counter!(names::TEMPLATE_LOOKUPS, names::OUTCOME => outcome).increment(1);
}

fn none(outcome: &'static str) -> Option<Arc<TemplateCopy>> {
    count(outcome);
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_of_a_language_are_alike() {
        for (one, other) in [("pt_BR", "pt_BR"), ("pt_BR", "pt-br"), ("EN", "en")] {
            assert!(alike(one, other), "{one} {other}");
        }
        for (one, other) in [("pt_BR", "pt_PT"), ("en", "en_US"), ("", "en")] {
            assert!(!alike(one, other), "{one} {other}");
        }
    }
}
