//! Manages the message templates of a WABA.
//!
//! A write runs to its end even if the caller hangs up, and is never repeated. If its answer is lost, `settle` looks
//! whether it was done. `once` keeps a repeated one from being done twice.

mod once;
mod settle;

use secrecy::SecretString;
use tracing::{Instrument, Span, info, info_span, warn};

use crate::cloud_api::templates::{blamed_field, request_json};
use crate::cloud_api::{self, Client};
use crate::domain::caller::Caller;
use crate::domain::failure::Failure;
use crate::domain::ids::WabaId;
use crate::domain::template::{TemplateAction, TemplateOutcome};
use crate::lifecycle::Shutdown;

use super::failed_call::{self, failure};
use super::numbers::{self, Numbers};
use super::template_catalog::TemplateCatalog;
use super::unsettled::{self, Unsettled};

pub use once::{Once, Stored};

/// Why templates were not managed, or may have been.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The request cannot be taken up under its id.
    #[error(transparent)]
    Request(#[from] unsettled::Error),
    /// The WABA or Meta.
    #[error(transparent)]
    Call(#[from] failed_call::Error),
    /// As [`Error::Call`], of a call under an id.
    #[error("{}", failure.message)]
    Failed {
        /// What happened.
        failure: Box<Failure>,
        /// The id under which to ask again.
        request_id: String,
    },
}

impl From<numbers::Error> for Error {
    fn from(error: numbers::Error) -> Self {
        Self::Call(error.into())
    }
}

/// Manages templates.
#[derive(Debug, Clone)]
pub struct ManageTemplate {
    /// The way to Meta.
    pub client: Client,
    /// Whose tokens it uses.
    pub numbers: Numbers,
    /// Forgets what a write changes.
    pub catalog: TemplateCatalog,
    /// What runs or is in doubt.
    pub unsettled: Unsettled,
    /// What the work outlives its caller on.
    pub shutdown: Shutdown,
}

impl ManageTemplate {
    /// The JSON of an action as it goes to Meta; `None` if it has no body.
    pub fn preview(action: &TemplateAction) -> Option<String> {
        request_json(action)
    }

    /// Does what the action says. Of a write that may have been done the failure says what shows it.
    pub async fn manage(
        &self,
        caller: &Caller,
        waba_id: &WabaId,
        action: TemplateAction,
    ) -> Result<TemplateOutcome, Error> {
        let access_token = self.numbers.waba_access_token(waba_id)?;
        if action.is_read() {
            let read = self.client.manage_template(&access_token, waba_id, &action).await;
            return Ok(read.map_err(failed_call::Error::from)?);
        }
        let span = span(caller, waba_id, &action);
        let proof = settle::proof(&action);
        let work = Work { client: self.client.clone(), access_token, waba_id: waba_id.clone(), action };
        match self.shutdown.spawn_request(work.run(self.catalog.clone()).instrument(span)).await {
            Ok(done) => done.map_err(|failure| failed(failure).into()),
            Err(_cut_off) => Err(failed(cut_off(&proof)).into()),
        }
    }
}

fn span(caller: &Caller, waba_id: &WabaId, action: &TemplateAction) -> Span {
    info_span!(
        "manage_template",
        caller = caller.name(),
        waba.id = %waba_id,
        template.action = action.name(),
    )
}

/// One write.
#[derive(Debug)]
struct Work {
    client: Client,
    access_token: SecretString,
    waba_id: WabaId,
    action: TemplateAction,
}

impl Work {
    async fn run(self, catalog: TemplateCatalog) -> Result<TemplateOutcome, Failure> {
        let result = self.carry_out().await;
        // Whatever came of it: a write that failed may have been done in part.
        catalog.forget_after(&self.waba_id, &self.action);
        result
    }

    async fn carry_out(&self) -> Result<TemplateOutcome, Failure> {
        let result = self.client.manage_template(&self.access_token, &self.waba_id, &self.action).await;
        record(&result);
        let cause = match result {
            Ok(outcome) => return Ok(outcome),
            Err(cause) => cause,
        };
        if !matches!(cause, cloud_api::Error::OutcomeUnknown { .. }) {
            let field = cause.meta().and_then(|error| blamed_field(&self.action, error));
            return Err(Failure { field, ..failure(&cause, "") });
        }
        match self.settle(&settle::LOOKS).await {
            Some(outcome) => {
                info!("done, as a read shows");
                Ok(outcome)
            }
            None => Err(failure(&cause, &settle::proof(&self.action))),
        }
    }
}

fn failed(failure: Failure) -> failed_call::Error {
    failed_call::Error::Failed(Box::new(failure))
}

fn cut_off(proof: &str) -> Failure {
    unsettled::unknown(format!("the call was cut off by the end of the process; {proof}"))
}

/// Logs the outcome where it is known even when nobody waits for it any more.
fn record(result: &Result<TemplateOutcome, cloud_api::Error>) {
    match result {
        Ok(_) => info!("done"),
        Err(cause) => {
            let reason = cause.verdict().reason.as_str();
            warn!(error = %cause, reason, "not done");
        }
    }
}
