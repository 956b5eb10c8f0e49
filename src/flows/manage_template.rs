//! Reads the message templates of a WABA.

use crate::cloud_api::Client;
use crate::domain::ids::WabaId;
use crate::domain::template::{Template, TemplatePage, TemplateQuery};

use super::failed_call::Error;
use super::numbers::Numbers;

/// Reads templates.
#[derive(Debug, Clone)]
pub struct ManageTemplate {
    client: Client,
    numbers: Numbers,
}

impl ManageTemplate {
    /// Reads through this client, for these WABAs.
    pub fn new(client: Client, numbers: Numbers) -> Self {
        Self { client, numbers }
    }

    /// One template by Meta's id.
    pub async fn get(&self, waba: &WabaId, template_id: &str) -> Result<Template, Error> {
        let access_token = self.numbers.waba_access_token(waba)?;
        Ok(self.client.get_template(&access_token, template_id).await?)
    }

    /// One page of templates.
    pub async fn list(&self, waba: &WabaId, query: &TemplateQuery) -> Result<TemplatePage, Error> {
        let access_token = self.numbers.waba_access_token(waba)?;
        Ok(self.client.list_templates(&access_token, waba, query).await?)
    }
}
