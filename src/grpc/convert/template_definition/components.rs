//! Components: which there may be, and what each may have (reference 2.4.3).

use std::collections::HashSet;

use super::variables::{Samples, Variables};
use super::words::Category;
use super::{Context, authentication, buttons, carousel, words};
use crate::contract::v1;
use crate::contract::v1::template_definition_button::Button;
use crate::contract::v1::template_definition_component::Component;
use crate::grpc::convert::Violations;

const HEADER_FORMATS: [&str; 7] = ["TEXT", "IMAGE", "VIDEO", "DOCUMENT", "LOCATION", "GIF", "PRODUCT"];
const MEDIA_FORMATS: [&str; 4] = ["IMAGE", "VIDEO", "DOCUMENT", "GIF"];
const HANDLE_REQUIRED: &str =
    "is required: the handle that UploadMedia gives with MEDIA_PURPOSE_TEMPLATE_SAMPLE";

/// The components of a template, or of one of its cards.
#[derive(Debug)]
pub(super) struct Parts<'c> {
    context: Context,
    is_card: bool,
    components: &'c [v1::TemplateDefinitionComponent],
}

impl<'c> Parts<'c> {
    pub(super) fn template(context: Context, components: &'c [v1::TemplateDefinitionComponent]) -> Self {
        Self { context, is_card: false, components }
    }

    pub(super) fn card(context: Context, components: &'c [v1::TemplateDefinitionComponent]) -> Self {
        Self { context, is_card: true, components }
    }

    /// Whether they have what only authentication templates have.
    pub(super) fn speak_of_authentication(components: &[v1::TemplateDefinitionComponent]) -> bool {
        components.iter().filter_map(|c| c.component.as_ref()).any(|component| match component {
            Component::Body(body) => body.add_security_recommendation,
            Component::Footer(footer) => footer.code_expiration_minutes.is_some(),
            Component::Buttons(list) => list.buttons.iter().any(|b| matches!(b.button, Some(Button::Otp(_)))),
            Component::Header(_)
            | Component::Carousel(_)
            | Component::LimitedTimeOffer(_)
            | Component::CallPermissionRequest(_) => false,
        })
    }

    fn each(&self) -> impl Iterator<Item = (usize, &'c Component)> {
        self.components.iter().enumerate().filter_map(|(at, c)| Some((at, c.component.as_ref()?)))
    }

    fn header(&self) -> Option<&'c v1::TemplateDefinitionHeader> {
        self.each().find_map(|(_, c)| if let Component::Header(header) = c { Some(header) } else { None })
    }

    pub(super) fn buttons(&self) -> impl Iterator<Item = &'c Button> {
        let buttons =
            self.each().filter_map(|(_, c)| if let Component::Buttons(b) = c { Some(b) } else { None });
        buttons.flat_map(|b| &b.buttons).filter_map(|b| b.button.as_ref())
    }

    fn has(&self, kind: &str) -> bool {
        self.each().any(|(_, component)| kind_of(component) == kind)
    }

    fn has_spm(&self) -> bool {
        self.buttons().any(|button| matches!(button, Button::Spm(_)))
    }

    fn is_authentication(&self) -> bool {
        self.context.category == Some(Category::Authentication)
    }

    /// What must be equal in all cards.
    pub(super) fn structure(&self) -> Vec<String> {
        let format = self.header().map_or("", |header| header.format.as_str());
        let kinds = self.each().map(|(_, component)| match kind_of(component) {
            "header" => format!("{format} header"),
            kind => kind.to_owned(),
        });
        // Components may come in any order, buttons may not.
        let mut kinds: Vec<_> = kinds.collect();
        kinds.sort_unstable();
        let kinds = kinds.into_iter();
        kinds.chain(self.buttons().map(|button| format!("{} button", buttons::kind_of(button)))).collect()
    }

    /// Checks all of it. `path` is that of the list.
    pub(super) fn check(&self, path: &str, found: &mut Violations) {
        self.check_kinds(path, found);
        if !self.is_card && !self.has("body") {
            found.add(path, "must have a body");
        }
        if self.is_card && !self.has("buttons") {
            found.add(path, "must have 1 or 2 buttons");
        }
        for (position, component) in self.each() {
            let path = format!("{path}[{position}].{}", kind_of(component));
            match component {
                Component::Header(header) => self.check_header(&path, header, found),
                Component::Body(body) => self.check_body(&path, body, found),
                Component::Footer(footer) => self.check_footer(&path, footer, found),
                Component::Buttons(list) => {
                    buttons::check(&format!("{path}.buttons"), self.context, self.is_card, list, found);
                }
                Component::Carousel(list) => carousel::check(&path, self.context, list, found),
                Component::LimitedTimeOffer(_) => self.check_offer(&path, found),
                Component::CallPermissionRequest(_) => {}
            }
        }
    }

    fn check_kinds(&self, path: &str, found: &mut Violations) {
        let mut known = HashSet::new();
        for (position, component) in self.each() {
            let path = format!("{path}[{position}]");
            let kind = kind_of(component);
            if !known.insert(kind) {
                found.add(&path, format!("there is a {kind} already; a {} has one", self.word()));
            }
            if self.is_card && !["header", "body", "buttons"].contains(&kind) {
                found.add(&path, format!("a card has header, body and buttons, no {kind}"));
            } else if self.is_authentication() && !["body", "footer", "buttons"].contains(&kind) {
                found.add(
                    &path,
                    format!("an authentication template has body, footer and buttons, no {kind}"),
                );
            }
        }
    }

    fn word(&self) -> &'static str {
        if self.is_card { "card" } else { "template" }
    }

    fn check_header(&self, path: &str, header: &v1::TemplateDefinitionHeader, found: &mut Violations) {
        let example = header.example.clone().unwrap_or_default();
        let format = header.format.as_str();
        words::check(&format!("{path}.format"), format, &HEADER_FORMATS, found);
        if !HEADER_FORMATS.contains(&format) {
            return;
        }
        if format == "TEXT" {
            self.check_header_text(path, header, &example, found);
            return;
        }
        if !header.text.is_empty() {
            found.add(
                &format!("{path}.text"),
                format!("must be absent: format is {format}, and only TEXT has it"),
            );
        }
        let is_medium = MEDIA_FORMATS.contains(&format);
        let handle = format!("{path}.example.header_handle");
        match (is_medium, example.header_handle.as_slice()) {
            (true, []) => found.add(&handle, HANDLE_REQUIRED),
            (true, [empty]) if empty.is_empty() => found.add(&format!("{handle}[0]"), HANDLE_REQUIRED),
            (true, [sample]) => {
                let is_url = sample.starts_with("http://") || sample.starts_with("https://");
                let is_id = sample.bytes().all(|b| b.is_ascii_digit());
                let remedy = "upload it with MEDIA_PURPOSE_TEMPLATE_SAMPLE, which gives a handle";
                if is_url || is_id {
                    let word = if is_url { "URL" } else { "media id" };
                    found.add(&format!("{handle}[0]"), format!("is a {word} and no handle; {remedy}"));
                }
            }
            (false, [_, ..]) => found.add(&handle, format!("must be absent: {format} has no sample")),
            _ => {}
        }
        if !example.header_text.is_empty() || !example.header_text_named_params.is_empty() {
            found.add(
                &format!("{path}.example"),
                format!("must have no samples of texts, since format is {format}"),
            );
        }
        if format == "GIF" && self.context.category.is_some_and(|c| c != Category::Marketing) {
            found.add(&format!("{path}.format"), "GIF is for marketing templates; use IMAGE or VIDEO");
        }
        if format == "PRODUCT" && !self.is_card && !self.has_spm() {
            found
                .add(&format!("{path}.format"), "PRODUCT goes with an spm button in the same place; add one");
        }
    }

    fn check_header_text(
        &self,
        path: &str,
        header: &v1::TemplateDefinitionHeader,
        example: &v1::TemplateHeaderExample,
        found: &mut Violations,
    ) {
        let text_path = format!("{path}.text");
        if header.text.is_empty() {
            found.add(&text_path, "is required, since format is TEXT");
        }
        if !example.header_handle.is_empty() {
            let path = format!("{path}.example.header_handle");
            found.add(&path, "must be absent: format is TEXT, and media have it");
        }
        let variables = Variables::of(&header.text);
        if variables.len() > 1 {
            found.add(&text_path, format!("must have at most one variable, has {}", variables.len()));
            return;
        }
        let samples = Samples {
            numbered: ("header_text", &example.header_text),
            named: ("header_text_named_params", &example.header_text_named_params),
        };
        if let Some(own) = variables.check_names(&text_path, self.context.format, found) {
            variables.check_samples(&format!("{path}.example"), own, samples, found);
        }
    }

    fn check_body(&self, path: &str, body: &v1::TemplateDefinitionBody, found: &mut Violations) {
        if self.is_authentication() {
            return authentication::check_body(path, body, found);
        }
        let text_path = format!("{path}.text");
        // An edit that leaves the category may be one of an authentication template.
        let is_own = self.context.category.is_some() || self.is_card;
        if body.text.is_empty() && is_own {
            found.add(&text_path, "is required");
        }
        if body.add_security_recommendation && is_own {
            let path = format!("{path}.add_security_recommendation");
            found.add(&path, "is for authentication templates; write it into text");
        }
        let limit = if self.is_card {
            Some((160, "in a card"))
        } else if self.has_spm() {
            Some((160, "beside an spm button"))
        } else {
            self.has("limited_time_offer").then_some((600, "beside a limited_time_offer"))
        };
        let chars = body.text.chars().count();
        if let Some((max, place)) = limit.filter(|(max, _)| chars > *max) {
            found.add(&text_path, format!("must have at most {max} characters {place}, has {chars}"));
        }
        let example = body.example.clone().unwrap_or_default();
        let samples = Samples {
            numbered: ("body_text", &example.body_text),
            named: ("body_text_named_params", &example.body_text_named_params),
        };
        let variables = Variables::of(&body.text);
        variables.check_places(&text_path, found);
        if let Some(own) = variables.check_names(&text_path, self.context.format, found) {
            variables.check_samples(&format!("{path}.example"), own, samples, found);
        }
    }

    fn check_footer(&self, path: &str, footer: &v1::TemplateDefinitionFooter, found: &mut Violations) {
        if self.is_authentication() {
            return authentication::check_footer(path, footer, found);
        }
        let is_own = self.context.category.is_some();
        if footer.text.is_empty() && is_own {
            found.add(&format!("{path}.text"), "is required");
        }
        if footer.code_expiration_minutes.is_some() && is_own {
            let path = format!("{path}.code_expiration_minutes");
            found.add(&path, "is for authentication templates; write it into text");
        }
        if !Variables::of(&footer.text).is_empty() {
            found.add(&format!("{path}.text"), "must have no variables; put them into the body");
        }
        if self.has("limited_time_offer") {
            found.add(path, "must be absent beside a limited_time_offer");
        }
    }

    fn check_offer(&self, path: &str, found: &mut Violations) {
        if self.context.category == Some(Category::Utility) {
            found.add(path, "is for marketing templates");
        }
        let header = self.header().map(|header| header.format.as_str());
        if header.is_some_and(|format| !["IMAGE", "VIDEO"].contains(&format)) {
            found.add(path, "goes with an IMAGE or VIDEO header, or with none");
        }
    }
}

pub(super) fn kind_of(component: &Component) -> &'static str {
    match component {
        Component::Header(_) => "header",
        Component::Body(_) => "body",
        Component::Footer(_) => "footer",
        Component::Buttons(_) => "buttons",
        Component::Carousel(_) => "carousel",
        Component::LimitedTimeOffer(_) => "limited_time_offer",
        Component::CallPermissionRequest(_) => "call_permission_request",
    }
}
