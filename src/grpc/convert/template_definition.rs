//! Rules for templates that are created or edited (reference 2.4.1 to 2.4.9, 6.3): a file for each part.
//!
//! The messages name the rule and the remedy. What the reference does not state is left to Meta.

mod authentication;
mod buttons;
mod carousel;
mod components;
mod languages;
mod library;
#[cfg(test)]
mod tests;
mod variables;
mod words;

use std::collections::HashSet;

use super::Violations;
use crate::contract::v1;
use crate::domain::quoted::may_hold_number;
use components::Parts;
use words::{Category, ParameterFormat};

/// Seconds in which Meta may try to deliver, by category: 12 hours, 30 days (reference 2.4.1).
const HALF_A_DAY: i64 = 43_200;
const MONTH: i64 = 2_592_000;

/// What the rules of the parts need to know of the whole.
#[derive(Debug, Clone, Copy)]
struct Context {
    /// `None` where an edit leaves it as it is.
    category: Option<Category>,
    /// `None` where an edit leaves it as it is.
    format: Option<ParameterFormat>,
    /// In several languages at once, so that all labels are Meta's.
    is_upsert: bool,
}

/// Checks a new template and puts its words into Meta's case.
pub(super) fn create(
    mut create: v1::CreateTemplateAction,
    found: &mut Violations,
) -> v1::CreateTemplateAction {
    words::upper(&mut [&mut create.category, &mut create.parameter_format]);
    words::of_components(&mut create.components);
    check_name("create.name", &create.name, found);
    languages::check("create.language", &create.language, found);
    let category = words::category("create.category", &create.category, found);
    let format = words::parameter_format("create.parameter_format", &create.parameter_format, found);
    let format = if create.parameter_format.is_empty() { Some(ParameterFormat::Positional) } else { format };
    check_ttl("create.message_send_ttl_seconds", create.message_send_ttl_seconds, category, found);
    check_features("create.creative_features", &create.creative_features, found);
    library::check(&create, found);
    if create.library_template_name.is_empty() {
        let context = Context { category, format, is_upsert: false };
        Parts::template(context, &create.components).check("create.components", found);
    }
    create
}

/// As [`create`], for a change.
pub(super) fn edit(mut edit: v1::EditTemplateAction, found: &mut Violations) -> v1::EditTemplateAction {
    words::upper(&mut [&mut edit.category, &mut edit.parameter_format]);
    words::of_components(&mut edit.components);
    if edit == (v1::EditTemplateAction { template_id: edit.template_id.clone(), ..Default::default() }) {
        let fields = "category, parameter_format, components, message_send_ttl_seconds, \
                      cta_url_link_tracking_opted_out or creative_features";
        found.add("edit", format!("changes nothing: set {fields}"));
    }
    let category = match edit.category.as_str() {
        "" => Parts::speak_of_authentication(&edit.components).then_some(Category::Authentication),
        word => words::category("edit.category", word, found),
    };
    if edit.cta_url_link_tracking_opted_out.is_some() && edit.category.is_empty() {
        found.add("edit.category", "is required beside cta_url_link_tracking_opted_out");
    }
    let format = words::parameter_format("edit.parameter_format", &edit.parameter_format, found);
    check_ttl("edit.message_send_ttl_seconds", edit.message_send_ttl_seconds, category, found);
    check_features("edit.creative_features", &edit.creative_features, found);
    if !edit.components.is_empty() {
        let context = Context { category, format, is_upsert: false };
        Parts::template(context, &edit.components).check("edit.components", found);
    }
    edit
}

/// As [`create`], for an authentication template in several languages.
pub(super) fn upsert(
    mut upsert: v1::UpsertTemplateAction,
    found: &mut Violations,
) -> v1::UpsertTemplateAction {
    words::of_components(&mut upsert.components);
    check_name("upsert.name", &upsert.name, found);
    check_languages("upsert.languages", &upsert.languages, found);
    let category = Some(Category::Authentication);
    check_ttl("upsert.message_send_ttl_seconds", upsert.message_send_ttl_seconds, category, found);
    let context = Context { category, format: Some(ParameterFormat::Positional), is_upsert: true };
    Parts::template(context, &upsert.components).check("upsert.components", found);
    upsert
}

/// Checks a list of languages.
pub(super) fn check_languages(path: &str, languages: &[String], found: &mut Violations) {
    let mut known = HashSet::new();
    for (position, language) in languages.iter().enumerate() {
        let path = format!("{path}[{position}]");
        languages::check(&path, language, found);
        if !known.insert(language) {
            found.add(&path, format!("{language} is there already; name each language once"));
        }
    }
}

/// The static rule says what a name may be; this says which name would be.
fn check_name(path: &str, name: &str, found: &mut Violations) {
    let fitting: String = name
        .trim()
        .chars()
        .map(|c| c.to_ascii_lowercase())
        .map(|c| if c.is_ascii_lowercase() || c.is_ascii_digit() { c } else { '_' })
        .collect();
    let is_short = name.chars().count() <= 512;
    if fitting != name
        && is_short
        && !may_hold_number(name)
        && fitting.bytes().any(|b| b.is_ascii_alphanumeric())
    {
        let rule = "must be lower-case letters, digits and underscores only";
        found.replace(path, format!("{rule}, such as {fitting:?}"));
    }
}

fn check_ttl(path: &str, seconds: Option<i64>, category: Option<Category>, found: &mut Violations) {
    let Some(seconds) = seconds else { return };
    let (range, words) = match category {
        Some(Category::Authentication) => (30..=900, "30 to 900 for authentication, or -1 for 30 days"),
        Some(Category::Utility) => (30..=HALF_A_DAY, "30 to 43200 for utility, or -1 for 30 days"),
        Some(Category::Marketing) => (HALF_A_DAY..=MONTH, "43200 to 2592000 for marketing"),
        None => (30..=MONTH, "30 to 2592000, as the category allows, or -1 for 30 days"),
    };
    let is_month = seconds == -1 && category != Some(Category::Marketing);
    if !range.contains(&seconds) && !is_month {
        found.add(path, format!("must be {words}, is {seconds}"));
    }
}

fn check_features(path: &str, features: &[v1::TemplateCreativeFeature], found: &mut Violations) {
    let mut known = HashSet::new();
    for (position, feature) in features.iter().enumerate() {
        if !known.insert(&feature.feature) {
            let path = format!("{path}[{position}].feature");
            found.add(&path, format!("{} is there already; name each feature once", feature.feature));
        }
    }
}
