//! What the gateway did by itself, as the contract writes it.

use crate::contract::v1;
use crate::domain::event::{FallbackOutcome, FallbackReport, NumberReport, SendOutcome, SendReport};
use crate::domain::failure::Failure;
use crate::domain::message::MessageAcceptance;

pub(super) fn fallback(report: &FallbackReport) -> v1::FallbackReport {
    use v1::FallbackOutcome as Pb;
    let text = ToOwned::to_owned;
    let (outcome, message_id, reason, description) = match &report.outcome {
        FallbackOutcome::Accepted(message_id) => (Pb::Accepted, message_id.as_str(), "", ""),
        FallbackOutcome::Failed(reason, description) => {
            (Pb::Failed, "", reason.as_str(), description.as_str())
        }
        FallbackOutcome::Unknown(description) => (Pb::Unknown, "", "", description.as_str()),
    };
    v1::FallbackReport {
        send_tag: text(report.send_tag.as_str()),
        failed_message_id: report.failed_message_id.clone(),
        outcome: outcome.into(),
        message_id: text(message_id),
        reason: text(reason),
        description: text(description),
    }
}

pub(super) fn number(report: &NumberReport) -> v1::NumberReport {
    let state = if report.is_parked { v1::NumberState::Parked } else { v1::NumberState::Resumed };
    v1::NumberReport {
        state: state.into(),
        reason: report.reason.as_str().to_owned(),
        actor: report.actor.as_str().to_owned(),
        meta_code: report.code,
        description: report.description.clone(),
    }
}

pub(super) fn send(report: &SendReport) -> v1::SendReport {
    let SendReport { send_tag, request_id, caller, outcome, used_fallback, callback_data, queue_time } =
        report;
    let (state, message_id, why) = match outcome {
        SendOutcome::Accepted(receipt) => {
            let state = match receipt.acceptance {
                MessageAcceptance::Accepted => v1::MessageState::Accepted,
                MessageAcceptance::HeldForQualityAssessment | MessageAcceptance::Paused => {
                    v1::MessageState::Held
                }
            };
            (state, receipt.message_id.as_str(), None)
        }
        SendOutcome::Refused(why) => (v1::MessageState::Refused, "", Some(why)),
        SendOutcome::Unknown(why) => (v1::MessageState::Unknown, "", Some(why)),
        SendOutcome::Expired(why) => (v1::MessageState::Expired, "", Some(why)),
    };
    v1::SendReport {
        send_tag: send_tag.as_str().to_owned(),
        request_id: request_id.clone(),
        caller: caller.name().to_owned(),
        state: state.into(),
        message_id: message_id.to_owned(),
        used_fallback: *used_fallback,
        failure: why.map(failure),
        callback_data: callback_data.clone(),
        queue_time: Some((*queue_time).into()),
    }
}

fn failure(failure: &Failure) -> v1::MessageFailure {
    let Failure { verdict, message, meta, .. } = failure;
    v1::MessageFailure {
        verdict: Some(v1::ErrorVerdict {
            reason: verdict.reason.as_str().to_owned(),
            actor: verdict.actor.as_str().to_owned(),
        }),
        code: meta.as_ref().and_then(|meta| meta.code).unwrap_or_default(),
        title: message.clone(),
        details: String::new(),
    }
}
