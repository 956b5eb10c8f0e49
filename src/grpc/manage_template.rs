//! `ManageTemplate`: every action is a method of its own to metrics and traces.

use bytes::Bytes;
use prost::Message as _;
use tokio::time::Instant;
use tonic::Status;
use tracing::error;

use crate::contract::v1::manage_template_request::Action;
use crate::contract::v1::manage_template_response::Result as Outcome;
use crate::contract::{fingerprint, from_json, v1};
use crate::domain::template::{
    Comparison, Partial, Template, TemplateOutcome, TemplatePage, UpsertedTemplate,
};
use crate::flows::manage_template::{ManageTemplate, Once};

use super::callers::Identity;
use super::convert::{self, Violations};
use super::measure::MANAGE_TEMPLATE;
use super::rights;
use super::service::Service;
use super::status;

macro_rules! methods {
    ($($variant:ident = $name:literal,)*) => {
        /// The method of a request's action.
        pub(super) fn method(request: &v1::ManageTemplateRequest) -> &'static str {
            match request.action {
                $(Some(Action::$variant(_)) => {
                    concat!("whatsapp.gateway.v1.GatewayService/ManageTemplate/", $name)
                })*
                None => MANAGE_TEMPLATE,
            }
        }
    };
}

methods! {
    Get = "get",
    List = "list",
    Create = "create",
    Edit = "edit",
    Delete = "delete",
    Upsert = "upsert",
    Library = "library",
    Archive = "archive",
    Unarchive = "unarchive",
    Compare = "compare",
    Migrate = "migrate",
    Unpause = "unpause",
    Preview = "preview",
}

impl Service {
    pub(super) async fn manage(
        &self,
        who: &Identity,
        request: &v1::ManageTemplateRequest,
        deadline: Option<Instant>,
    ) -> Result<v1::ManageTemplateResponse, Status> {
        let mut found = Violations::of_message("ManageTemplateRequest", request);
        let action = convert::template_action(request, &mut found);
        let waba = self.waba(who, ("waba_id", &request.waba_id), &mut found)?;
        if let Some(Action::Migrate(migrate)) = &request.action {
            rights::use_waba(who, &migrate.source_waba_id)?;
        }
        let (Some(action), Some(waba), true) = (action, waba, found.is_empty()) else {
            return Err(status::invalid(found.into_inner()));
        };
        let preview = if request.show_request { ManageTemplate::preview(&action) } else { None };
        let flow = &self.flows()?.manage_template;
        let (result, replayed) = if request.validate_only {
            (None, false)
        } else if request.request_id.is_empty() {
            (Some(outcome_to_pb(flow.manage(&who.caller, &waba, action).await?)?), false)
        } else {
            let named = (request.request_id.clone(), fingerprint::of_template(request));
            let once = Once::new(&who.caller, named, deadline, encode_outcome);
            let stored = flow.manage_once(&who.caller, &waba, action, once).await?;
            (decode_outcome(&stored.answer)?, stored.is_replayed)
        };
        Ok(v1::ManageTemplateResponse {
            result,
            waba_id: waba.to_string(),
            request_json: preview.unwrap_or_default(),
            replayed,
        })
    }
}

/// An answer is kept as its response, without what each call says for itself.
fn encode_outcome(outcome: TemplateOutcome) -> Bytes {
    // Only what Meta describes at length may fail to be typed, and that is read, not changed.
    let result = outcome_to_pb(outcome).ok();
    v1::ManageTemplateResponse { result, ..Default::default() }.encode_to_vec().into()
}

fn decode_outcome(bytes: &[u8]) -> Result<Option<Outcome>, Status> {
    let response = v1::ManageTemplateResponse::decode(bytes).map_err(|_| status::internal())?;
    Ok(response.result)
}

fn outcome_to_pb(outcome: TemplateOutcome) -> Result<Outcome, Status> {
    Ok(match outcome {
        TemplateOutcome::Get(template) => Outcome::Get(definition(template)?),
        TemplateOutcome::List(TemplatePage { templates, next_page_token }) => {
            let templates = templates.into_iter().map(definition).collect::<Result<_, _>>()?;
            Outcome::List(v1::ListTemplatesResult { templates, next_page_token })
        }
        TemplateOutcome::Create(created) => Outcome::Create(v1::CreateTemplateResult {
            template_id: created.id,
            status: created.status,
            category: created.category,
        }),
        TemplateOutcome::Edit => Outcome::Edit(v1::EditTemplateResult {}),
        TemplateOutcome::Delete => Outcome::Delete(v1::DeleteTemplateResult {}),
        TemplateOutcome::Upsert(templates) => {
            let upserted = |UpsertedTemplate { id, language, status }| v1::UpsertedTemplate {
                template_id: id,
                language,
                status,
            };
            Outcome::Upsert(v1::UpsertTemplateResult {
                templates: templates.into_iter().map(upserted).collect(),
            })
        }
        TemplateOutcome::Library(TemplatePage { templates, next_page_token }) => {
            let templates = templates.into_iter().map(library_template).collect::<Result<_, _>>()?;
            Outcome::Library(v1::ListLibraryTemplatesResult { templates, next_page_token })
        }
        TemplateOutcome::Archive(Partial { done, failed }) => {
            Outcome::Archive(v1::ArchiveTemplatesResult { template_ids: done, failures: failures(failed) })
        }
        TemplateOutcome::Unarchive(Partial { done, failed }) => {
            Outcome::Unarchive(v1::UnarchiveTemplatesResult {
                template_ids: done,
                failures: failures(failed),
            })
        }
        TemplateOutcome::Compare(comparison) => Outcome::Compare(comparison_to_pb(comparison)),
        TemplateOutcome::Migrate(Partial { done, failed }) => {
            Outcome::Migrate(v1::MigrateTemplatesResult { template_ids: done, failures: failures(failed) })
        }
        TemplateOutcome::Unpause { is_unpaused, reason } => {
            Outcome::Unpause(v1::UnpauseTemplateResult { is_unpaused, reason })
        }
        TemplateOutcome::Preview(texts) => {
            let previews = texts.iter().map(|text| Ok(read("TemplatePreview", text)?.unwrap_or_default()));
            Outcome::Preview(v1::PreviewTemplateResult { previews: previews.collect::<Result<_, Status>>()? })
        }
    })
}

/// A template whose description cannot be typed is still given as its JSON.
fn definition(template: Template) -> Result<v1::TemplateDefinition, Status> {
    let Template { id, json } = template;
    let typed = read("TemplateDefinition", &json)?;
    let definition = typed.unwrap_or_else(|| v1::TemplateDefinition { id, ..Default::default() });
    Ok(v1::TemplateDefinition { raw_json: json, ..definition })
}

fn library_template(template: Template) -> Result<v1::LibraryTemplate, Status> {
    let Template { id, json } = template;
    let typed = read("LibraryTemplate", &json)?;
    let template = typed.unwrap_or_else(|| v1::LibraryTemplate { id, ..Default::default() });
    Ok(v1::LibraryTemplate { raw_json: json, ..template })
}

/// Reads Meta's description by name; `None` for one that does not fit.
fn read<T: prost::Message + Default>(message: &'static str, text: &str) -> Result<Option<T>, Status> {
    let json = serde_json::from_str(text).map_err(|_| status::internal())?;
    let read = from_json(message, &json).map(|bytes| T::decode(bytes.as_slice()));
    if let Ok(Ok(typed)) = read {
        return Ok(Some(typed));
    }
    error!(message, "an answer of Meta's could not be typed");
    Ok(None)
}

fn failures(failed: Vec<(String, String)>) -> Vec<v1::TemplateFailure> {
    failed.into_iter().map(|(template_id, reason)| v1::TemplateFailure { template_id, reason }).collect()
}

/// One entry a template, first those that Meta counted.
fn comparison_to_pb(comparison: Comparison) -> v1::CompareTemplatesResult {
    let Comparison { start, end, by_block_rate, message_sends, top_block_reason } = comparison;
    let mut templates: Vec<v1::ComparedTemplate> = Vec::new();
    let mut entry = |id: &str, fill: &dyn Fn(&mut v1::ComparedTemplate)| {
        if let Some(known) = templates.iter_mut().find(|known| known.template_id == id) {
            fill(known);
        } else {
            let mut new = v1::ComparedTemplate { template_id: id.to_owned(), ..Default::default() };
            fill(&mut new);
            templates.push(new);
        }
    };
    for (id, count) in &message_sends {
        entry(id, &|template| template.message_sends = *count);
    }
    for (id, reason) in &top_block_reason {
        entry(id, &|template| reason.clone_into(&mut template.top_block_reason));
    }
    v1::CompareTemplatesResult {
        start_time: Some(start.into()),
        end_time: Some(end.into()),
        template_ids_by_block_rate: by_block_rate,
        templates,
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    #[test]
    fn figures_are_gathered_by_template() {
        let pair = |id: &str, text: &str| (id.to_owned(), text.to_owned());
        let compared = comparison_to_pb(Comparison {
            start: SystemTime::UNIX_EPOCH,
            end: SystemTime::UNIX_EPOCH,
            by_block_rate: vec!["2".to_owned(), "1".to_owned()],
            message_sends: vec![("1".to_owned(), 1500), ("2".to_owned(), 2400)],
            top_block_reason: vec![pair("2", "SPAM"), pair("3", "OTHER")],
        });
        let figures: Vec<_> = compared
            .templates
            .iter()
            .map(|t| (t.template_id.as_str(), t.message_sends, t.top_block_reason.as_str()))
            .collect();
        assert_eq!(figures, [("1", 1500, ""), ("2", 2400, "SPAM"), ("3", 0, "OTHER")]);
    }

    #[test]
    fn every_action_has_a_method() {
        let get = v1::GetTemplateAction { template_id: "1".to_owned() };
        let request = v1::ManageTemplateRequest { action: Some(Action::Get(get)), ..Default::default() };
        assert_eq!(method(&request), "whatsapp.gateway.v1.GatewayService/ManageTemplate/get");
        assert_eq!(method(&v1::ManageTemplateRequest::default()), MANAGE_TEMPLATE);
    }
}
