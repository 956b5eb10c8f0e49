//! A `ManageTemplateRequest` → what to do, with Meta's body where there is one.

use super::{Violations, template_definition};
use crate::contract::{self, v1};
use crate::domain::template::{Deletion, LibraryQuery, PreviewQuery, TemplateAction, TemplateQuery};
use crate::domain::value::Value;

/// Templates a page that Meta gives at most.
const PAGE_SIZE_MAX: u32 = 100;
/// The windows that Meta compares, in days (reference 2.4.2).
const WINDOWS: [u32; 4] = [7, 30, 60, 90];

/// Reads an action. `found` has what the static rules say already; `None` means that there is a violation.
pub(in crate::grpc) fn template_action(
    request: &v1::ManageTemplateRequest,
    found: &mut Violations,
) -> Option<TemplateAction> {
    use v1::manage_template_request::Action;
    let action = match request.action.as_ref()? {
        Action::Get(get) => TemplateAction::Get(get.template_id.clone()),
        Action::List(list) => TemplateAction::List(template_query(list.clone())),
        Action::Create(create) => {
            let create = template_definition::create(create.clone(), found);
            let body = body("CreateTemplateAction", &create, [])?;
            TemplateAction::Create { name: create.name, language: create.language, body }
        }
        Action::Edit(edit) => {
            let mut edit = template_definition::edit(edit.clone(), found);
            let template_id = std::mem::take(&mut edit.template_id);
            TemplateAction::Edit { template_id, body: body("EditTemplateAction", &edit, [])? }
        }
        Action::Delete(delete) => TemplateAction::Delete(deletion(delete, found)?),
        Action::Upsert(upsert) => {
            let upsert = template_definition::upsert(upsert.clone(), found);
            let category = ("category".to_owned(), Value::from("AUTHENTICATION"));
            TemplateAction::Upsert { body: body("UpsertTemplateAction", &upsert, [category])? }
        }
        Action::Library(library) => TemplateAction::Library(library_query(library)),
        Action::Archive(archive) => TemplateAction::Archive(archive.template_ids.clone()),
        Action::Unarchive(unarchive) => TemplateAction::Unarchive(unarchive.template_ids.clone()),
        Action::Compare(compare) => comparison(compare, found),
        Action::Migrate(migrate) => {
            if migrate.source_waba_id == request.waba_id && !request.waba_id.is_empty() {
                found.add("migrate.source_waba_id", "must be another WABA than waba_id");
            }
            TemplateAction::Migrate { body: body("MigrateTemplatesAction", migrate, [])? }
        }
        Action::Unpause(unpause) => TemplateAction::Unpause(unpause.template_id.clone()),
        Action::Preview(preview) => TemplateAction::Preview(preview_query(preview, found)),
    };
    if action.is_read() && !request.request_id.is_empty() {
        let rule = format!("is for actions that change something; {} may simply be repeated", action.name());
        found.add("request_id", rule);
    }
    found.is_empty().then_some(action)
}

/// Meta's body of an action, and what it has besides.
fn body<const N: usize>(
    name: &str,
    action: &impl prost::Message,
    besides: [(String, Value); N],
) -> Option<Value> {
    let Value::Map(mut fields) = contract::meta_form(name, &action.encode_to_vec())? else { return None };
    fields.extend(besides);
    Some(Value::Map(fields))
}

/// Reads a list query.
fn template_query(list: v1::ListTemplatesAction) -> TemplateQuery {
    TemplateQuery {
        name: list.name,
        language: list.language,
        status: list.status,
        category: list.category,
        content: list.content,
        quality_score: list.quality_score,
        page_size: page_size(list.page_size),
        page_token: list.page_token,
    }
}

fn library_query(library: &v1::ListLibraryTemplatesAction) -> LibraryQuery {
    let library = library.clone();
    LibraryQuery {
        search: library.search,
        topic: library.topic,
        usecase: library.usecase,
        industry: library.industry,
        language: library.language,
        name: library.name,
        page_size: page_size(library.page_size),
        page_token: library.page_token,
    }
}

fn preview_query(preview: &v1::PreviewTemplateAction, found: &mut Violations) -> PreviewQuery {
    template_definition::check_languages("preview.languages", &preview.languages, found);
    PreviewQuery {
        languages: preview.languages.clone(),
        add_security_recommendation: preview.add_security_recommendation,
        code_expiration_minutes: preview.code_expiration_minutes.and_then(|m| u32::try_from(m).ok()),
    }
}

fn page_size(asked: i32) -> u32 {
    u32::try_from(asked).unwrap_or(0).min(PAGE_SIZE_MAX)
}

/// Meta takes a name, a name with an id, or ids alone.
fn deletion(delete: &v1::DeleteTemplateAction, found: &mut Violations) -> Option<Deletion> {
    let v1::DeleteTemplateAction { name, template_id, template_ids } = delete.clone();
    match (name.is_empty(), template_id.is_empty(), template_ids.is_empty()) {
        (false, true, true) => Some(Deletion::Name(name)),
        (false, false, true) => Some(Deletion::One { name, template_id }),
        (true, true, false) => Some(Deletion::Ids(template_ids)),
        (true, true, true) => {
            found.add("delete", "must say what: name for all its languages, or template_ids");
            None
        }
        (true, false, true) => {
            let remedy = "is required beside template_id; or put the id into template_ids";
            found.add("delete.name", remedy);
            None
        }
        (_, _, false) => {
            found.add("delete.template_ids", "must stand alone, without name and template_id");
            None
        }
    }
}

fn comparison(compare: &v1::CompareTemplatesAction, found: &mut Violations) -> TemplateAction {
    let v1::CompareTemplatesAction { template_id, other_template_id, window_days } = compare.clone();
    if template_id == other_template_id {
        found.add("compare.other_template_id", "must be another template than template_id");
    }
    let window_days = if window_days == 0 { WINDOWS[0] } else { window_days };
    if !WINDOWS.contains(&window_days) {
        found.add("compare.window_days", format!("must be 7, 30, 60 or 90, is {window_days}"));
    }
    TemplateAction::Compare { template_id, other_template_id, window_days }
}
