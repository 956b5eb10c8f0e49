//! Templates in a few words.

use serde_json::{Value, json};
use whatsapp_gateway::contract::v1;
use whatsapp_gateway::contract::v1::manage_template_request::Action;
use whatsapp_gateway::contract::v1::manage_template_response::Result as Outcome;
use whatsapp_gateway::contract::v1::template_definition_component::Component;
use whatsapp_gateway::contract::v1::upload_media_request::Part;

use super::{Gateway, Refusal};

/// A request without options.
pub fn asking(action: Action) -> v1::ManageTemplateRequest {
    v1::ManageTemplateRequest { action: Some(action), ..Default::default() }
}

pub fn component(component: Component) -> v1::TemplateDefinitionComponent {
    v1::TemplateDefinitionComponent { component: Some(component) }
}

/// A body without variables.
pub fn body(text: &str) -> v1::TemplateDefinitionComponent {
    component(Component::Body(v1::TemplateDefinitionBody { text: text.to_owned(), ..Default::default() }))
}

/// An authentication template's components.
pub fn one_time_password() -> Vec<v1::TemplateDefinitionComponent> {
    let otp = v1::TemplateOtpButton { otp_type: "COPY_CODE".to_owned(), ..Default::default() };
    let button =
        v1::TemplateDefinitionButton { button: Some(v1::template_definition_button::Button::Otp(otp)) };
    let footer = v1::TemplateDefinitionFooter { code_expiration_minutes: Some(5), ..Default::default() };
    let body = v1::TemplateDefinitionBody { add_security_recommendation: true, ..Default::default() };
    vec![
        component(Component::Body(body)),
        component(Component::Footer(footer)),
        component(Component::Buttons(v1::TemplateDefinitionButtons { buttons: vec![button] })),
    ]
}

/// A utility template with this body.
pub fn create(name: &str, text: &str) -> v1::CreateTemplateAction {
    v1::CreateTemplateAction {
        name: name.to_owned(),
        language: "en_US".to_owned(),
        category: "UTILITY".to_owned(),
        components: vec![body(text)],
        ..Default::default()
    }
}

/// An edit of the body.
pub fn edit(template_id: &str, text: &str) -> v1::EditTemplateAction {
    v1::EditTemplateAction {
        template_id: template_id.to_owned(),
        components: vec![body(text)],
        ..Default::default()
    }
}

pub fn delete(name: &str) -> Action {
    Action::Delete(v1::DeleteTemplateAction { name: name.to_owned(), ..Default::default() })
}

pub fn get(template_id: &str) -> Action {
    Action::Get(v1::GetTemplateAction { template_id: template_id.to_owned() })
}

impl Gateway {
    /// Manages templates of the only WABA.
    pub async fn manage(&self, action: Action) -> Result<Outcome, Refusal> {
        match self.client().await.manage_template(asking(action)).await {
            Ok(response) => Ok(response.into_inner().result.unwrap()),
            Err(status) => Err(Refusal::of(&status)),
        }
    }

    /// Manages templates, and is refused.
    pub async fn unmanaged(&self, action: Action) -> Refusal {
        self.manage(action.clone()).await.expect_err(&format!("{action:?}"))
    }

    /// Creates a template; returns its id.
    pub async fn created(&self, create: v1::CreateTemplateAction) -> String {
        match self.manage(Action::Create(create)).await {
            Ok(Outcome::Create(created)) => created.template_id,
            other => panic!("{other:?}"),
        }
    }

    /// The template as Meta describes it.
    pub async fn template(&self, template_id: &str) -> v1::TemplateDefinition {
        match self.manage(get(template_id)).await {
            Ok(Outcome::Get(template)) => template,
            other => panic!("{other:?}"),
        }
    }

    /// The templates of exactly this name.
    pub async fn templates(&self, name: &str) -> Vec<v1::TemplateDefinition> {
        let list = v1::ListTemplatesAction { name: name.to_owned(), page_size: 100, ..Default::default() };
        match self.manage(Action::List(list)).await {
            Ok(Outcome::List(page)) => page.templates.into_iter().filter(|t| t.name == name).collect(),
            other => panic!("{other:?}"),
        }
    }

    /// Puts a utility template with this body there, whatever its status; returns its id.
    pub async fn put_template(&self, name: &str, text: &str, status: &str) -> String {
        let template = json!({
            "name": name, "language": "en_US", "category": "UTILITY",
            "components": [{"type": "BODY", "text": text}],
        });
        let put = self.simulate("templates", &json!({"status": status, "template": template})).await;
        put["id"].as_str().unwrap().to_owned()
    }

    /// Lets the simulator carry out this fault on the next calls of this method whose path ends so.
    pub async fn faults(&self, method: &str, path_suffix: &str, count: u32, fault: &Value) {
        let matcher = json!({"method": method, "path_suffix": path_suffix});
        self.simulate("faults", &json!({"match": matcher, "count": count, "fault": fault})).await;
    }

    /// Uploads a sample; returns its handle.
    pub async fn uploaded_sample(&self, mime_type: &str, content: &'static [u8]) -> String {
        let header = v1::UploadMediaHeader {
            purpose: v1::MediaPurpose::TemplateSample.into(),
            mime_type: mime_type.to_owned(),
            filename: "sample".to_owned(),
            size_bytes: content.len() as u64,
            ..Default::default()
        };
        let parts = [Part::Header(header), Part::Chunk(content.into())];
        let requests = parts.map(|part| v1::UploadMediaRequest { part: Some(part) });
        let uploaded = self.client().await.upload_media(futures_util::stream::iter(requests)).await;
        match uploaded.unwrap().into_inner().result {
            Some(v1::upload_media_response::Result::Handle(handle)) => handle,
            other => panic!("{other:?}"),
        }
    }

    /// How often the simulator was called so.
    pub async fn calls(&self, method: &str, path: &str) -> usize {
        let requests = self.simulator(&format!("requests?method={method}&path={path}")).await;
        requests.as_array().unwrap().len()
    }

    /// The stored webhooks about templates with the status that they report: (name, event).
    pub async fn template_events(&self) -> Vec<v1::MessageTemplateStatusUpdate> {
        let update = |event: v1::Event| match event.payload {
            Some(v1::event::Payload::MessageTemplateStatusUpdate(update)) => Some(update),
            _ => None,
        };
        self.events().await.into_iter().filter_map(update).collect()
    }
}
