//! Manages the message templates of a WABA.
//!
//! A write runs to its end even if the caller hangs up, and is never repeated. If its answer is lost, `settle` looks
//! whether it was done.

mod settle;

use metrics::counter;
use secrecy::SecretString;
use tracing::{Instrument, info, info_span, warn};

use crate::cloud_api::templates::{blamed_field, request_json};
use crate::cloud_api::{self, Client};
use crate::domain::caller::Caller;
use crate::domain::failure::{Actor, Class, Failure, Reason, Retry, Verdict};
use crate::domain::ids::WabaId;
use crate::domain::template::{TemplateAction, TemplateOutcome};
use crate::lifecycle::Shutdown;
use crate::telemetry::names;

use super::failed_call::{Error, failure};
use super::numbers::Numbers;
use super::template_catalog::TemplateCatalog;

/// Manages templates.
#[derive(Debug, Clone)]
pub struct ManageTemplate {
    client: Client,
    numbers: Numbers,
    catalog: TemplateCatalog,
    shutdown: Shutdown,
}

impl ManageTemplate {
    /// Calls through this client, for these WABAs. The catalog forgets what a write changes.
    pub fn new(client: Client, numbers: Numbers, catalog: TemplateCatalog, shutdown: Shutdown) -> Self {
        Self { client, numbers, catalog, shutdown }
    }

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
            return Ok(self.client.manage_template(&access_token, waba_id, &action).await?);
        }
        let span = info_span!(
            "manage_template",
            caller = caller.name(),
            waba.id = %waba_id,
            template.action = action.name(),
        );
        let proof = settle::proof(&action);
        let work = Work { client: self.client.clone(), access_token, waba_id: waba_id.clone(), action };
        let run = work.run(self.catalog.clone());
        match self.shutdown.spawn_request(run.instrument(span)).await {
            Ok(result) => result,
            Err(_cut_off) => Err(cut_off(&proof)),
        }
    }
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
    async fn run(self, catalog: TemplateCatalog) -> Result<TemplateOutcome, Error> {
        let result = self.carry_out().await;
        // Whatever came of it: a write that failed may have been done in part.
        catalog.forget_after(&self.waba_id, &self.action);
        result
    }

    async fn carry_out(&self) -> Result<TemplateOutcome, Error> {
        let result = self.client.manage_template(&self.access_token, &self.waba_id, &self.action).await;
        record(&result);
        let cause = match result {
            Ok(outcome) => return Ok(outcome),
            Err(cause) => cause,
        };
        if !matches!(cause, cloud_api::Error::OutcomeUnknown { .. }) {
            let field = cause.meta().and_then(|error| blamed_field(&self.action, error));
            return Err(failed(Failure { field, ..failure(&cause, "") }));
        }
        match self.settle().await {
            Ok(outcome) => {
                info!("done, as a read shows");
                Ok(outcome)
            }
            Err(proof) => Err(failed(failure(&cause, &proof))),
        }
    }
}

fn failed(failure: Failure) -> Error {
    Error::Failed(Box::new(failure))
}

fn cut_off(proof: &str) -> Error {
    let verdict = Verdict {
        class: Class::Unknown,
        reason: Reason::SendOutcomeUnknown,
        actor: Actor::Caller,
        retry: Retry::Ambiguous,
    };
    let message = format!("the call was cut off by the end of the process; {proof}");
    failed(Failure { verdict, message, meta: None, field: None })
}

/// Logs the outcome where it is known even when nobody waits for it any more.
fn record(result: &Result<TemplateOutcome, cloud_api::Error>) {
    match result {
        Ok(_) => info!("done"),
        Err(cause) => {
            let reason = cause.verdict().reason.as_str();
            warn!(error = %cause, reason, "not done");
            if cause.meta().is_some() {
                counter!(names::META_ERRORS, names::ERROR_CLASS => reason).increment(1);
            }
        }
    }
}
