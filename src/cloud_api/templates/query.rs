//! The calls that only read.

use std::time::Duration;

use super::{FIELDS, OF_WABA, Session, answer, checked, get, not_understood};
use crate::cloud_api::error::Error;
use crate::domain::template::{Comparison, LibraryQuery, PreviewQuery, TemplatePage, TemplateQuery};

/// Templates a page at most (reference 1.8).
const PAGE_SIZE_MAX: u32 = 100;
const DAY: Duration = Duration::from_hours(24);

type Pairs<'a> = Vec<(&'a str, &'a str)>;

impl Session<'_> {
    pub(super) async fn list(&self, query: &TemplateQuery) -> Result<TemplatePage, Error> {
        let limit = limit(query.page_size);
        let mut pairs = vec![("fields", FIELDS)];
        pairs.extend(present([
            ("limit", &limit),
            ("name", &query.name),
            ("language", &query.language),
            ("status", &query.status),
            ("category", &query.category),
            ("content", &query.content),
            ("quality_score", &query.quality_score),
            ("after", &query.page_token),
        ]));
        let path = [self.waba_id.as_str(), "message_templates"];
        let answer = self.client.call(self.access_token, get(OF_WABA, &path, &pairs)).await?;
        answer::page(&answer, answer::template).ok_or_else(|| not_understood("a page of templates"))
    }

    pub(super) async fn library(&self, query: &LibraryQuery) -> Result<TemplatePage, Error> {
        let limit = limit(query.page_size);
        let pairs = present([
            ("limit", &limit),
            ("search", &query.search),
            ("topic", &query.topic),
            ("usecase", &query.usecase),
            ("industry", &query.industry),
            ("language", &query.language),
            ("name", &query.name),
            ("after", &query.page_token),
        ]);
        let path = ["message_template_library"];
        let answer =
            self.client.call(self.access_token, get("/message_template_library", &path, &pairs)).await?;
        answer::page(&answer, answer::library_template).ok_or_else(|| not_understood("a page of the library"))
    }

    pub(super) async fn preview(&self, query: &PreviewQuery) -> Result<Vec<String>, Error> {
        let languages = query.languages.join(",");
        let recommendation =
            query.add_security_recommendation.map_or_else(String::new, |is_on| is_on.to_string());
        let minutes = query.code_expiration_minutes.map_or_else(String::new, |n| n.to_string());
        let mut pairs = vec![("category", "AUTHENTICATION"), ("button_types", "OTP")];
        pairs.extend(present([
            ("languages", &languages),
            ("add_security_recommendation", &recommendation),
            ("code_expiration_minutes", &minutes),
        ]));
        let path = [self.waba_id.as_str(), "message_template_previews"];
        let call = get("/{waba_id}/message_template_previews", &path, &pairs);
        let answer = self.client.call(self.access_token, call).await?;
        answer::texts(&answer).ok_or_else(|| not_understood("a list of previews"))
    }

    /// The window ends now, as Meta wants it.
    pub(super) async fn compare(
        &self,
        template_id: &str,
        other_template_id: &str,
        window_days: u32,
    ) -> Result<Comparison, Error> {
        let now = self.client.clock.now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        // Whole seconds, so that the window has exactly the length that is asked for.
        let end = Duration::from_secs(now.as_secs());
        let start = end.saturating_sub(DAY * window_days);
        let ids = format!("[{}]", checked(other_template_id)?);
        let (start_text, end_text) = (start.as_secs().to_string(), end.as_secs().to_string());
        let path = [checked(template_id)?, "compare"];
        let pairs = [("template_ids", ids.as_str()), ("start", &start_text), ("end", &end_text)];
        let call = get("/{template_id}/compare", &path, &pairs);
        let answer = self.client.call(self.access_token, call).await?;
        let figures = answer::figures(&answer).ok_or_else(|| not_understood("a comparison"))?;
        let time = |since_epoch| std::time::UNIX_EPOCH + since_epoch;
        Ok(Comparison { start: time(start), end: time(end), ..figures })
    }
}

/// Meta's default for 0, which is said by saying nothing.
fn limit(page_size: u32) -> String {
    if page_size == 0 { String::new() } else { page_size.min(PAGE_SIZE_MAX).to_string() }
}

/// The pairs that filter something.
fn present<'a, const N: usize>(pairs: [(&'a str, &'a String); N]) -> Pairs<'a> {
    pairs.into_iter().filter(|(_, text)| !text.is_empty()).map(|(name, text)| (name, text.as_str())).collect()
}
