//! Reading message templates (reference 2.4.2).

use http::Method;
use secrecy::SecretString;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::client::{Call, Client};
use super::error::Error;
use super::error_code::Operation;
use super::json::Object;
use crate::domain::ids::WabaId;
use crate::domain::template::{Template, TemplatePage, TemplateQuery};

/// The default fields and those that come on request only. Naming one replaces the defaults, so all are named;
/// what the reference marks as uncertain is not, because an unknown field fails the whole call.
const FIELDS: &str = "id,name,language,status,category,parameter_format,components,sub_category,\
                      library_template_name,message_send_ttl_seconds,previous_category,quality_score,\
                      rejected_reason,correct_category,cta_url_link_tracking_opted_out";

/// Templates a page at most (reference 1.8).
const PAGE_SIZE_MAX: u32 = 100;

impl Client {
    /// One page of the templates of a WABA.
    pub async fn list_templates(
        &self,
        access_token: &SecretString,
        waba_id: &WabaId,
        query: &TemplateQuery,
    ) -> Result<TemplatePage, Error> {
        let limit = query.page_size.min(PAGE_SIZE_MAX).to_string();
        let filters = [
            ("name", &query.name),
            ("language", &query.language),
            ("status", &query.status),
            ("category", &query.category),
            ("content", &query.content),
            ("quality_score", &query.quality_score),
            ("after", &query.page_token),
        ];
        let mut pairs = vec![("fields", FIELDS)];
        if query.page_size > 0 {
            pairs.push(("limit", &limit));
        }
        pairs.extend(
            filters
                .into_iter()
                .filter(|(_, text)| !text.is_empty())
                .map(|(name, text)| (name, text.as_str())),
        );
        let path = [waba_id.as_str(), "message_templates"];
        let answer = self.call(access_token, get("/{waba_id}/message_templates", &path, &pairs)).await?;
        read_page(&answer).ok_or_else(|| not_understood("a page of templates"))
    }

    /// One template. The id is the caller's; anything but digits is refused, so that it cannot change the path.
    pub async fn get_template(
        &self,
        access_token: &SecretString,
        template_id: &str,
    ) -> Result<Template, Error> {
        let is_id =
            (1..=32).contains(&template_id.len()) && template_id.bytes().all(|byte| byte.is_ascii_digit());
        if !is_id {
            return Err(Error::Invalid { field: "template_id", rule: "must be 1 to 32 decimal digits" });
        }
        let (path, query) = ([template_id], [("fields", FIELDS)]);
        let answer = self.call(access_token, get("/{template_id}", &path, &query)).await?;
        let template = std::str::from_utf8(&answer).ok().and_then(|text| read_template(text.trim()));
        template.ok_or_else(|| not_understood("a template"))
    }
}

fn get<'a>(template: &'static str, path: &'a [&'a str], query: &'a [(&'a str, &'a str)]) -> Call<'a> {
    Call { operation: Operation::Read, method: Method::GET, template, path, query, body: None }
}

fn not_understood(what: &str) -> Error {
    Error::lost(Operation::Read, format!("the answer is not {what}"))
}

#[derive(Deserialize)]
struct Page<'a> {
    #[serde(borrow)]
    data: Vec<&'a RawValue>,
    #[serde(default)]
    paging: serde_json::Value,
}

/// The end is the absence of `paging.next` (reference 1.8). That URL may hold the access token, so only its
/// presence counts and the cursor goes out.
fn read_page(answer: &[u8]) -> Option<TemplatePage> {
    let page: Page<'_> = serde_json::from_slice(answer).ok()?;
    let templates = page.data.iter().map(|raw| read_template(raw.get())).collect::<Option<Vec<_>>>()?;
    let has_next = page.paging.get("next").is_some_and(|next| !next.is_null());
    let after = page.paging.pointer("/cursors/after").and_then(serde_json::Value::as_str);
    let next_page_token = after.filter(|_| has_next).unwrap_or_default().to_owned();
    Some(TemplatePage { templates, next_page_token })
}

fn read_template(text: &str) -> Option<Template> {
    let id = Object::read(text)?.text("id")?.into_owned();
    Some(Template { id, json: text.to_owned() })
}

#[cfg(test)]
mod tests;
