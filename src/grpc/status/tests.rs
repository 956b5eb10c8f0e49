use super::*;
use crate::contract::v1::ErrorReason;
use crate::domain::failure::{Retry, Verdict};
use crate::flows::send_message;

#[test]
fn every_reason_is_published() {
    for reason in Reason::ALL {
        let published = ErrorReason::from_str_name(&format!("ERROR_REASON_{}", reason.as_str()));
        assert!(published.is_some(), "{} is missing in error_reason.proto", reason.as_str());
    }
}

#[test]
fn an_unknown_outcome_names_the_send() {
    let verdict = Verdict {
        class: Class::Unknown,
        reason: Reason::SendOutcomeUnknown,
        actor: Actor::Caller,
        retry: Retry::Ambiguous,
    };
    let meta = MetaError { code: Some(131_000), fbtrace_id: "AbC".to_owned(), ..MetaError::default() };
    let failure = Failure { verdict, message: "no answer".to_owned(), meta: Some(meta), field: None };
    let tag = crate::domain::message::SendTag::parse("AZ3kq0p2cXKkzqv1b5c-_w").unwrap();
    let status =
        Status::from(send_message::Error::Failed { failure: Box::new(failure), tag, request_id: None });
    assert_eq!(status.code(), Code::Unknown);
    let info = status.get_details_error_info().unwrap();
    assert_eq!((info.domain.as_str(), info.reason.as_str()), (DOMAIN, "SEND_OUTCOME_UNKNOWN"));
    assert_eq!(info.metadata["send_tag"], "AZ3kq0p2cXKkzqv1b5c-_w");
    assert_eq!(info.metadata["meta_code"], "131000");
    assert!(status.get_details_retry_info().is_none());
}

#[test]
fn violations_are_listed() {
    let violation =
        FieldViolation { field: "text.body".to_owned(), description: "must not be empty".to_owned() };
    let status = invalid(vec![violation]);
    assert_eq!(status.message(), "text.body must not be empty");
    assert_eq!(status.get_details_bad_request().unwrap().field_violations[0].field, "text.body");
}

#[test]
fn what_tonic_says_of_a_header_is_not_repeated() {
    let foreign = Status::unimplemented("Content is compressed with `planted` which isn't supported");
    let status = adopted(&foreign, 1);
    assert_eq!(status.code(), Code::Unimplemented);
    assert!(status.message().contains("grpc-encoding") && !status.message().contains("planted"), "{status}");
}

#[test]
fn a_denied_status_says_the_right() {
    let forbidden = Forbidden { named: "WABA 1".to_owned(), list: "wabas" };
    assert_eq!(right(&forbidden.into()).as_deref(), Some("wabas"));
    assert_eq!(right(&internal()), None);
}
