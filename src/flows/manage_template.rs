//! Reads the message templates of a WABA.

use crate::cloud_api::Client;
use crate::domain::failure::Failure;
use crate::domain::ids::WabaId;
use crate::domain::template::{Template, TemplatePage, TemplateQuery};

use super::cloud_failure::repeatable;
use super::numbers::{self, Numbers};

/// Reads templates.
#[derive(Debug, Clone)]
pub struct ManageTemplate {
    client: Client,
    numbers: Numbers,
}

/// Why a template action failed. Reading again does no harm.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The WABA is not usable.
    #[error(transparent)]
    Number(#[from] numbers::Error),
    /// Meta refused it, could not be reached, or did not answer.
    #[error("{}", .0.message)]
    Failed(Box<Failure>),
}

impl ManageTemplate {
    /// Reads through this client, for these WABAs.
    pub fn new(client: Client, numbers: Numbers) -> Self {
        Self { client, numbers }
    }

    /// One template by Meta's id.
    pub async fn get(&self, waba: &WabaId, template_id: &str) -> Result<Template, Error> {
        let access_token = self.numbers.waba_access_token(waba)?;
        let template = self.client.get_template(&access_token, template_id).await;
        template.map_err(|cause| Error::Failed(Box::new(repeatable(&cause))))
    }

    /// One page of templates.
    pub async fn list(&self, waba: &WabaId, query: &TemplateQuery) -> Result<TemplatePage, Error> {
        let access_token = self.numbers.waba_access_token(waba)?;
        let page = self.client.list_templates(&access_token, waba, query).await;
        page.map_err(|cause| Error::Failed(Box::new(repeatable(&cause))))
    }
}
