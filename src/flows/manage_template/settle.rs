//! What became of a write whose answer is lost.
//!
//! Reading can only prove that it was done: what is not there yet may still be under way at Meta. So a write is either
//! settled as done, or stays unknown with a word on what will show it.

use std::time::Duration;

use tokio::time::{sleep, timeout};

use super::Work;
use crate::cloud_api;
use crate::cloud_api::templates::{Facts, Likeness, facts, likeness};
use crate::domain::failure::Reason;
use crate::domain::template::{
    CreatedTemplate, Deletion, Partial, Template, TemplateAction, TemplateOutcome, TemplateQuery,
};
use crate::domain::value::Value;

/// How long to wait before each look: Meta may need a moment to finish what it did not answer.
pub(super) const LOOKS: [Duration; 3] = [Duration::ZERO, Duration::from_secs(1), Duration::from_secs(2)];
/// Time for all looks together.
const SETTLE_TIME: Duration = Duration::from_secs(10);
/// Pages to look through for a name: the filter may find longer names too.
const PAGES_MAX: usize = 20;
/// Templates on such a page.
const PAGE_SIZE: u32 = 100;

/// What a new template may be (reference 2.4.1). Any other status needs a past.
const NEW: [&str; 3] = ["PENDING", "APPROVED", "REJECTED"];
/// What is left of a deleted one (reference 2.4.2).
const GONE: [&str; 2] = ["PENDING_DELETION", "DELETED"];
const PAUSED: &str = "PAUSED";
const ARCHIVED: &str = "ARCHIVED";

/// What shows whether a write was done.
pub(super) fn proof(action: &TemplateAction) -> String {
    use TemplateAction as A;
    match action {
        A::Create { name, language, .. } => {
            format!("the template may exist: list with name \"{name}\" and language \"{language}\" shows it")
        }
        A::Edit { template_id, .. } => {
            format!("the template may be changed: get with template_id \"{template_id}\" shows it")
        }
        A::Delete(Deletion::Name(name)) => {
            format!("the templates may be gone: list with name \"{name}\" shows it")
        }
        A::Delete(Deletion::One { template_id, .. }) => {
            format!("the template may be gone: get with template_id \"{template_id}\" shows it")
        }
        A::Delete(Deletion::Ids(_)) => {
            "all of the templates may be gone, or none: get with one of the ids shows it".to_owned()
        }
        A::Upsert { body } => {
            let name = body.get("name").and_then(Value::as_str).unwrap_or_default();
            format!("the templates may be changed: list with name \"{name}\" shows it")
        }
        A::Archive(_) | A::Unarchive(_) | A::Unpause(_) => {
            "it may be done: the status that get returns shows it".to_owned()
        }
        A::Migrate { .. } => "some templates may be copied: list shows which".to_owned(),
        A::Get(_) | A::List(_) | A::Library(_) | A::Compare { .. } | A::Preview(_) => String::new(),
    }
}

impl Work {
    /// Looks, after each of these delays, until it is proven that the write was done.
    pub(super) async fn settle(&self, looks: &[Duration]) -> Option<TemplateOutcome> {
        let looks = async {
            for delay in looks {
                sleep(*delay).await;
                if let Ok(Some(outcome)) = self.look().await {
                    return Some(outcome);
                }
            }
            None
        };
        timeout(SETTLE_TIME, looks).await.ok().flatten()
    }

    async fn look(&self) -> Result<Option<TemplateOutcome>, cloud_api::Error> {
        use TemplateAction as A;
        Ok(match &self.action {
            A::Create { name, language, body } => {
                let named = self.named(name, language).await?;
                let created = named.into_iter().find_map(|template| created(&template, language, body));
                created.map(TemplateOutcome::Create)
            }
            A::Edit { template_id, body } => {
                let template = self.template(template_id).await?;
                let is_done = template.is_some_and(|template| likeness(body, &template) == Likeness::Same);
                is_done.then_some(TemplateOutcome::Edit)
            }
            A::Delete(deletion) => {
                let is_gone = match deletion {
                    Deletion::Name(name) => self.named(name, "").await?.is_empty(),
                    Deletion::One { template_id, .. } => self.template(template_id).await?.is_none(),
                    Deletion::Ids(ids) => self.all(ids, |status| status.is_none()).await?,
                };
                is_gone.then_some(TemplateOutcome::Delete)
            }
            A::Archive(ids) => {
                let is_done = self.all(ids, |status| status == Some(ARCHIVED)).await?;
                is_done.then(|| TemplateOutcome::Archive(all_of(ids)))
            }
            A::Unarchive(ids) => {
                let is_done = self.all(ids, |status| status.is_some_and(|word| word != ARCHIVED)).await?;
                is_done.then(|| TemplateOutcome::Unarchive(all_of(ids)))
            }
            A::Unpause(id) => {
                let is_done =
                    self.all(std::slice::from_ref(id), |status| status.is_some_and(|word| word != PAUSED));
                let outcome = TemplateOutcome::Unpause { is_unpaused: true, reason: String::new() };
                is_done.await?.then_some(outcome)
            }
            // The first two change some of many, and what was there before cannot be told from what was done; the others
            // change nothing.
            A::Upsert { .. }
            | A::Migrate { .. }
            | A::Get(_)
            | A::List(_)
            | A::Library(_)
            | A::Compare { .. }
            | A::Preview(_) => None,
        })
    }

    /// The template; `None` if it is gone.
    async fn template(&self, id: &str) -> Result<Option<Template>, cloud_api::Error> {
        match self.client.get_template(&self.access_token, id).await {
            Ok(template) => Ok((!is_gone(&facts(&template))).then_some(template)),
            Err(error) if error.verdict().reason == Reason::UpstreamNotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The templates of exactly this name, in one language or in all if that is empty.
    async fn named(&self, name: &str, language: &str) -> Result<Vec<Template>, cloud_api::Error> {
        let mut query = TemplateQuery {
            name: name.to_owned(),
            language: language.to_owned(),
            page_size: PAGE_SIZE,
            ..TemplateQuery::default()
        };
        let mut found = Vec::new();
        for _ in 0..PAGES_MAX {
            let page = self.client.list_templates(&self.access_token, &self.waba_id, &query).await?;
            found.extend(page.templates.into_iter().filter(|template| {
                let facts = facts(template);
                facts.name == name && !is_gone(&facts)
            }));
            if page.next_page_token.is_empty() {
                return Ok(found);
            }
            query.page_token = page.next_page_token;
        }
        let cause = format!("more than {PAGES_MAX} pages of templates have a name like this one");
        Err(cloud_api::Error::NoAnswer { cause })
    }

    /// Whether the status of every one is as wanted; `None` stands for one that is gone. Ends with the first that is not.
    async fn all(
        &self,
        ids: &[String],
        is_wanted: impl Fn(Option<&str>) -> bool,
    ) -> Result<bool, cloud_api::Error> {
        for id in ids {
            let facts = self.template(id).await?.as_ref().map(facts);
            if !is_wanted(facts.as_ref().map(|facts| facts.status.as_str())) {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// The template as a creation answers, if it can be the one that was to be created. Had it been there before, Meta
/// would have refused to create it again; either way it is what the caller wants.
fn created(template: &Template, language: &str, body: &Value) -> Option<CreatedTemplate> {
    let Facts { language: described, status, category, .. } = facts(template);
    let is_it = described == language
        && NEW.contains(&status.as_str())
        && likeness(body, template) != Likeness::Different;
    is_it.then(|| CreatedTemplate { id: template.id.clone(), status, category })
}

fn is_gone(facts: &Facts) -> bool {
    GONE.contains(&facts.status.as_str())
}

fn all_of(ids: &[String]) -> Partial {
    Partial { done: ids.to_vec(), failed: Vec::new() }
}
