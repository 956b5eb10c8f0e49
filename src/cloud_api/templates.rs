//! Managing message templates (reference 2.4).

mod answer;
mod blame;
mod likeness;
mod query;
mod shape;

use bytes::Bytes;
use http::Method;
use secrecy::SecretString;
use serde_json::json;

use super::client::{Call, Client};
use super::error::Error;
use super::error_code::Operation;
use super::value_json::Json;
use crate::domain::ids::WabaId;
use crate::domain::template::{
    Deletion, Partial, Template, TemplateAction, TemplateOutcome, TemplatePage, TemplateQuery,
};
use crate::domain::value::Value;

pub use answer::{Facts, facts};
pub use blame::blamed_field;
pub use likeness::{Likeness, likeness};
pub use shape::{no_such_template, parameters_misfit, shape, unsendable};

/// The default fields and those that come on request only. Naming one replaces the defaults, so all are named;
/// what the reference marks as uncertain is not, because an unknown field fails the whole call.
const FIELDS: &str = "id,name,language,status,category,parameter_format,components,sub_category,\
                      library_template_name,message_send_ttl_seconds,previous_category,quality_score,\
                      rejected_reason,correct_category,cta_url_link_tracking_opted_out";

const OF_WABA: &str = "/{waba_id}/message_templates";
const TEMPLATE: &str = "/{template_id}";
/// What an edit has in its query, not in its body (reference 2.4.2).
const EDIT_QUERY: [&str; 2] = ["cta_url_link_tracking_opted_out", "category"];

/// The body that goes out; `None` for an action without one.
pub fn request_json(action: &TemplateAction) -> Option<String> {
    use TemplateAction as A;
    let json = match action {
        A::Create { body, .. } | A::Upsert { body } | A::Migrate { body } => {
            serde_json::to_string(&Json(body)).unwrap_or_default()
        }
        A::Edit { body, .. } => {
            let (_, body) = edit_parts(body);
            serde_json::to_string(&Json(&body)).unwrap_or_default()
        }
        A::Archive(ids) | A::Unarchive(ids) => json!({"hsm_ids": ids.join(",")}).to_string(),
        A::Get(_)
        | A::List(_)
        | A::Delete(_)
        | A::Library(_)
        | A::Compare { .. }
        | A::Unpause(_)
        | A::Preview(_) => return None,
    };
    Some(json)
}

impl Client {
    /// Does what the action says, once. An answer to a write that cannot be understood leaves the outcome unknown.
    pub async fn manage_template(
        &self,
        access_token: &SecretString,
        waba_id: &WabaId,
        action: &TemplateAction,
    ) -> Result<TemplateOutcome, Error> {
        use TemplateAction as A;
        let session = Session { client: self, access_token, waba_id };
        match action {
            A::Get(id) => self.get_template(access_token, id).await.map(TemplateOutcome::Get),
            A::List(query) => session.list(query).await.map(TemplateOutcome::List),
            A::Library(query) => session.library(query).await.map(TemplateOutcome::Library),
            A::Preview(query) => session.preview(query).await.map(TemplateOutcome::Preview),
            A::Compare { template_id, other_template_id, window_days } => {
                let compared = session.compare(template_id, other_template_id, *window_days).await;
                compared.map(TemplateOutcome::Compare)
            }
            A::Create { .. } => session.create(action).await,
            A::Edit { template_id, body } => session.edit(action, template_id, body).await,
            A::Delete(deletion) => session.delete(deletion).await,
            A::Upsert { .. } => session.upsert(action).await,
            A::Archive(ids) => session.archive(action, ids, "archive").await.map(TemplateOutcome::Archive),
            A::Unarchive(ids) => {
                session.archive(action, ids, "unarchive").await.map(TemplateOutcome::Unarchive)
            }
            A::Migrate { .. } => session.migrate(action).await,
            A::Unpause(id) => session.unpause(id).await,
        }
    }

    /// One page of the templates of a WABA.
    pub async fn list_templates(
        &self,
        access_token: &SecretString,
        waba_id: &WabaId,
        query: &TemplateQuery,
    ) -> Result<TemplatePage, Error> {
        Session { client: self, access_token, waba_id }.list(query).await
    }

    /// One template. The id is the caller's; anything but digits is refused, so that it cannot change the path.
    pub async fn get_template(
        &self,
        access_token: &SecretString,
        template_id: &str,
    ) -> Result<Template, Error> {
        let (path, query) = ([checked(template_id)?], [("fields", FIELDS)]);
        let answer = self.call(access_token, get(TEMPLATE, &path, &query)).await?;
        let template = std::str::from_utf8(&answer).ok().and_then(|text| answer::template(text.trim()));
        template.ok_or_else(|| not_understood("a template"))
    }
}

/// What all calls about the templates of one WABA share.
#[derive(Debug, Clone, Copy)]
struct Session<'a> {
    client: &'a Client,
    access_token: &'a SecretString,
    waba_id: &'a WabaId,
}

impl Session<'_> {
    async fn create(&self, action: &TemplateAction) -> Result<TemplateOutcome, Error> {
        let path = [self.waba_id.as_str(), "message_templates"];
        let answer = self.write(post(OF_WABA, &path, request_json(action))).await?;
        answer::created(&answer).map(TemplateOutcome::Create).ok_or_else(|| lost("names no template"))
    }

    async fn edit(
        &self,
        action: &TemplateAction,
        template_id: &str,
        body: &Value,
    ) -> Result<TemplateOutcome, Error> {
        let (query, _) = edit_parts(body);
        let query: Vec<_> = query.iter().map(|(name, text)| (*name, text.as_str())).collect();
        let path = [checked(template_id)?];
        let call = Call { query: &query, ..post(TEMPLATE, &path, request_json(action)) };
        done(&self.write(call).await?, TemplateOutcome::Edit)
    }

    async fn delete(&self, deletion: &Deletion) -> Result<TemplateOutcome, Error> {
        let list;
        let query = match deletion {
            Deletion::Name(name) => vec![("name", name.as_str())],
            Deletion::One { name, template_id } => {
                vec![("name", name.as_str()), ("hsm_id", checked(template_id)?)]
            }
            Deletion::Ids(ids) => {
                list = format!("[{}]", joined(ids)?);
                vec![("hsm_ids", list.as_str())]
            }
        };
        let path = [self.waba_id.as_str(), "message_templates"];
        let call = Call { method: Method::DELETE, query: &query, ..post(OF_WABA, &path, None) };
        done(&self.write(call).await?, TemplateOutcome::Delete)
    }

    async fn upsert(&self, action: &TemplateAction) -> Result<TemplateOutcome, Error> {
        let path = [self.waba_id.as_str(), "upsert_message_templates"];
        let call = post("/{waba_id}/upsert_message_templates", &path, request_json(action));
        let answer = self.write(call).await?;
        answer::upserted(&answer).map(TemplateOutcome::Upsert).ok_or_else(|| lost("lists no templates"))
    }

    async fn archive(&self, action: &TemplateAction, ids: &[String], edge: &str) -> Result<Partial, Error> {
        joined(ids)?;
        let path = [self.waba_id.as_str(), "message_templates", edge];
        let call = post("/{waba_id}/message_templates/archive", &path, request_json(action));
        let answer = self.client.call_unversioned(self.access_token, call).await?;
        answer::partial(&answer, ids).ok_or_else(|| lost("does not say which templates"))
    }

    async fn migrate(&self, action: &TemplateAction) -> Result<TemplateOutcome, Error> {
        let path = [self.waba_id.as_str(), "migrate_message_templates"];
        let call = post("/{waba_id}/migrate_message_templates", &path, request_json(action));
        let answer = self.write(call).await?;
        answer::partial(&answer, &[])
            .map(TemplateOutcome::Migrate)
            .ok_or_else(|| lost("does not say which templates"))
    }

    async fn unpause(&self, template_id: &str) -> Result<TemplateOutcome, Error> {
        let path = [checked(template_id)?, "unpause"];
        let answer = self.write(post("/{template_id}/unpause", &path, None)).await?;
        let (is_unpaused, reason) =
            answer::success_and_reason(&answer).ok_or_else(|| lost("does not say whether it was done"))?;
        Ok(TemplateOutcome::Unpause { is_unpaused, reason })
    }

    async fn write(&self, call: Call<'_>) -> Result<Bytes, Error> {
        self.client.call(self.access_token, call).await
    }
}

/// The query and the body of an edit.
fn edit_parts(body: &Value) -> (Vec<(&'static str, String)>, Value) {
    let fields = body.as_map().unwrap_or_default();
    let is_query = body.get(EDIT_QUERY[0]).is_some();
    let (query, rest): (Vec<_>, Vec<_>) =
        fields.iter().cloned().partition(|(name, _)| is_query && EDIT_QUERY.contains(&name.as_str()));
    let text = |value: &Value| match value.as_str() {
        Some(text) => text.to_owned(),
        None => serde_json::to_string(&Json(value)).unwrap_or_default(),
    };
    let query = EDIT_QUERY.into_iter().filter_map(|known| {
        let (_, value) = query.iter().find(|(name, _)| name == known)?;
        Some((known, text(value)))
    });
    (query.collect(), Value::Map(rest))
}

fn get<'a>(template: &'static str, path: &'a [&'a str], query: &'a [(&'a str, &'a str)]) -> Call<'a> {
    Call { operation: Operation::Read, method: Method::GET, template, path, query, body: None }
}

fn post<'a>(template: &'static str, path: &'a [&'a str], body: Option<String>) -> Call<'a> {
    let body = body.map(Bytes::from);
    Call { operation: Operation::Write, method: Method::POST, template, path, query: &[], body }
}

/// An id that cannot change the path or the list it stands in.
fn checked(id: &str) -> Result<&str, Error> {
    let is_id = (1..=32).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_digit());
    if is_id {
        Ok(id)
    } else {
        Err(Error::Invalid { field: "template_id", rule: "must be 1 to 32 decimal digits" })
    }
}

fn joined(ids: &[String]) -> Result<String, Error> {
    ids.iter().try_for_each(|id| checked(id).map(|_| ()))?;
    Ok(ids.join(","))
}

fn done(answer: &[u8], outcome: TemplateOutcome) -> Result<TemplateOutcome, Error> {
    if answer::is_done(answer) { Ok(outcome) } else { Err(lost("does not say that it was done")) }
}

fn lost(what: &str) -> Error {
    Error::lost(Operation::Write, format!("the answer {what}"))
}

fn not_understood(what: &str) -> Error {
    Error::lost(Operation::Read, format!("the answer is not {what}"))
}

#[cfg(test)]
mod tests;
