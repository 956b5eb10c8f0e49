//! Events and the segments that come of them.

use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use super::*;
use crate::domain::caller::Caller;
use crate::domain::event::{
    EventAttributes, EventId, FallbackOutcome, FallbackReport, Origin, SendOutcome, SendReport,
};
use crate::domain::failure::{Actor, Class, Failure, MetaError, Reason, Retry};
use crate::domain::ids::MessageId;
use crate::domain::message::{MessageAcceptance, Receipt};

fn event(payload: Payload, raw_json: &str) -> Event {
    let event_type =
        if matches!(payload, Payload::Message { .. }) { MESSAGE_RECEIVED } else { MESSAGE_STATUS };
    Event {
        id: EventId([7; 16]),
        attributes: EventAttributes {
            event_type: event_type.to_owned(),
            phone_number_id: "106540352242922".to_owned(),
            waba_id: "102290129340398".to_owned(),
            conversation_key: "106540352242922:16505551234".to_owned(),
        },
        subject: "wamid.A".to_owned(),
        event_time: Some(UNIX_EPOCH + Duration::from_secs(1_750_030_073)),
        receive_time: UNIX_EPOCH + Duration::from_secs(1_750_030_074),
        origin: Origin::default(),
        payload,
        user: UserIdentity { wa_id: WaId::parse("16505551234").ok(), user_id: None },
        verdicts: Vec::new(),
        raw_json: raw_json.to_owned(),
        change_json: Arc::from("{}"),
    }
}

fn decode(segments: &Segments) -> v1::Event {
    let bytes = [segments.envelope.clone(), segments.typed.clone(), segments.raw.clone()].concat();
    v1::Event::decode(bytes.as_slice()).unwrap()
}

#[test]
fn a_status_gives_back_the_callers_data_and_our_tag() {
    let raw = r#"{"id":"wamid.A","status":"sent","timestamp":"1750030073","recipient_id":"16505551234",
        "biz_opaque_callback_data":"g1.AZ3kq0p2cXKkzqv1b5c-_w.order=1"}"#;
    let segments = encode(&event(Payload::Status { contact: None }, raw), "");
    let decoded = decode(&segments);
    assert_eq!(decoded.raw_json, raw);
    let Some(v1::event::Payload::Status(status)) = decoded.payload else { panic!("expected a status") };
    assert_eq!(
        (status.callback_data.as_str(), status.send_tag.as_str()),
        ("order=1", "AZ3kq0p2cXKkzqv1b5c-_w")
    );
    let report = StatusReport {
        message_id: "wamid.A".to_owned(),
        status: "sent".to_owned(),
        time: UNIX_EPOCH + Duration::from_secs(1_750_030_073),
        send_tag: SendTag::parse("AZ3kq0p2cXKkzqv1b5c-_w").ok(),
        error: None,
        free_entry_until: None,
    };
    assert_eq!(
        moved_by(&event(Payload::Status { contact: None }, raw)),
        Some(Moved::Message(Box::new(report)))
    );
}

#[test]
fn a_failed_status_says_why() {
    let cases = [
        (
            json!({"message": "Re-engagement", "error_data": {"details": "24 hours have passed"}}),
            "24 hours have passed",
        ),
        (json!({"message": "A longer text"}), "A longer text"),
        (json!({"message": "Re-engagement"}), ""),
    ];
    for (more, details) in cases {
        let mut error = json!({"code": 131_047, "title": "Re-engagement"});
        error.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let raw = json!({"id": "wamid.A", "status": "failed", "errors": [error]}).to_string();
        let Some(Moved::Message(report)) = moved_by(&event(Payload::Status { contact: None }, &raw)) else {
            panic!("expected a status")
        };
        let (title, details) = ("Re-engagement".to_owned(), details.to_owned());
        assert_eq!(report.error, Some(MessageError { code: 131_047, title, details }));
        assert_eq!(report.send_tag, None);
    }
}

#[test]
fn a_message_in_a_group_moves_without_a_user_and_a_payment_moves_none() {
    let status = |raw: &str, user| Event { user, ..event(Payload::Status { contact: None }, raw) };
    let user = event(Payload::Error, "").user;
    let read = r#"{"id":"wamid.A","status":"read","recipient_type":"group"}"#;
    let moved = moved_by(&status(read, UserIdentity::default()));
    assert!(matches!(moved, Some(Moved::Message(report)) if report.status == "read"));
    let unpaid = r#"{"id":"wamid.A","status":"failed","type":"payment"}"#;
    assert_eq!(moved_by(&status(unpaid, user)), Some(Moved::Nothing));
}

fn field(name: &str, raw: &serde_json::Value) -> Event {
    let refused = Verdict {
        class: Class::FailedPrecondition,
        reason: Reason::UpstreamRefused,
        actor: Actor::Meta,
        retry: Retry::AfterChange,
    };
    let payload = Payload::Field { name: name.to_owned(), verdicts: vec![(138_021, refused)] };
    let mut event = event(payload, &raw.to_string());
    event.attributes.event_type = format!("whatsapp.{name}");
    event
}

fn call(fields: &serde_json::Value) -> Event {
    let mut call = json!({"id": "wacid.A", "from": "16505551234", "timestamp": "1750030073",
        "direction": "USER_INITIATED", "event": "connect"});
    call.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    field("calls", &json!({"contacts": [{"user_id": "US.13"}], "calls": [call]}))
}

#[test]
fn a_field_is_typed_by_its_name() {
    let raw = json!({"event": "APPROVED", "message_template_id": 12_345_678_901_234_567_u64});
    let decoded = decode(&encode(&field("message_template_status_update", &raw), ""));
    let Some(v1::event::Payload::MessageTemplateStatusUpdate(update)) = decoded.payload else {
        panic!("expected a template's status")
    };
    assert_eq!(update.message_template_id, "12345678901234567");
    // Arms that are no webhook fields are not reached by a field of their name.
    for other in ["hologram", "message", "status", "error", "unknown", "payload", ""] {
        let decoded = decode(&encode(&field(other, &json!({"id": "1"})), ""));
        let Some(v1::event::Payload::Unknown(unknown)) = decoded.payload else { panic!("{other}") };
        assert_eq!(unknown.reason, "the gateway passes this field on as JSON");
    }
    let strange = field("automatic_events", &json!({"event": "new", "details": {}}));
    let Some(v1::event::Payload::Unknown(unknown)) = decode(&encode(&strange, "")).payload else {
        panic!("expected unknown")
    };
    assert_eq!(unknown.reason, "no field of the value is known");
}

#[test]
fn errors_anywhere_in_a_value_get_their_verdict() {
    let raw = json!({"errors": [{"code": 138_021}, {"code": 1}], "calls": [{"errors": [{"code": 138_021}]}]});
    let decoded = decode(&encode(&field("calls", &raw), ""));
    let Some(v1::event::Payload::Calls(calls)) = decoded.payload else { panic!("expected calls") };
    let reason = |error: &v1::WebhookError| error.verdict.as_ref().map(|verdict| verdict.reason.clone());
    assert_eq!(reason(&calls.errors[0]).as_deref(), Some("UPSTREAM_REFUSED"));
    assert_eq!(reason(&calls.errors[1]), None, "not judged");
    assert_eq!(reason(&calls.calls[0].errors[0]).as_deref(), Some("UPSTREAM_REFUSED"));
}

fn moved_by(event: &Event) -> Option<Moved> {
    let segments = encode(event, "");
    match fact(&segments.envelope, &segments.typed) {
        Fact::Concerns { moved, .. } => Some(moved),
        Fact::Template { .. } | Fact::Account(_) | Fact::Other => None,
    }
}

#[test]
fn what_happens_to_a_template_names_it() {
    let named = |name: &str, raw: &serde_json::Value| {
        let segments = encode(&field(name, raw), "");
        match fact(&segments.envelope, &segments.typed) {
            Fact::Template { waba_id, name } => Some((waba_id, name)),
            Fact::Concerns { .. } | Fact::Account(_) | Fact::Other => None,
        }
    };
    let template = |name: &str| Some(("102290129340398".to_owned(), name.to_owned()));
    let value = json!({"message_template_name": "offer", "message_template_language": "en_US"});
    for field in [
        "message_template_status_update",
        "message_template_quality_update",
        "message_template_components_update",
        "template_category_update",
        "template_correct_category_detection",
    ] {
        assert_eq!(named(field, &value), template("offer"), "{field}");
    }
    assert_eq!(named("message_template_of_tomorrow", &value), template(""), "it may be any");
    assert_eq!(named("account_update", &value), None);
}

fn written(seconds: u64, is_referral: bool) -> Moved {
    Moved::Window(Moment::Inbound { time: UNIX_EPOCH + Duration::from_secs(seconds), is_referral })
}

#[test]
fn a_message_opens_the_window_and_shows_where_the_user_came_from() {
    let message = |more: &serde_json::Value| {
        let mut raw = json!({"from": "16505551234", "id": "wamid.A", "type": "text", "text": {"body": "Hi"}});
        raw.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        moved_by(&event(Payload::Message { contact: None }, &raw.to_string()))
    };
    let time = 1_750_030_073;
    assert_eq!(message(&json!({})), Some(written(time, false)));
    assert_eq!(message(&json!({"referral": {"source_type": "ad"}})), Some(written(time, true)));
    let changed =
        json!({"type": "system", "system": {"type": "user_changed_number", "wa_id": "12195555358"}});
    assert_eq!(message(&changed), Some(Moved::Nothing), "Meta wrote that");
}

#[test]
fn a_status_names_the_end_of_the_free_entry_point() {
    let ending = |status: &str, origin: &str, end: &str| {
        let raw = json!({"id": "wamid.A", "status": status, "timestamp": "1750030073", "recipient_id": "16505551234",
            "conversation": {"id": "c", "expiration_timestamp": end, "origin": {"type": origin}}});
        match moved_by(&event(Payload::Status { contact: None }, &raw.to_string())) {
            Some(Moved::Message(report)) => report.moment(),
            other => panic!("expected a status: {other:?}"),
        }
    };
    let at = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
    let moment = |status: &str, origin: &str| ending(status, origin, "1750289273");
    let end = Some(Moment::FreeEntryUntil(at(1_750_289_273)));
    // It lasts for 72 hours (reference 7, rule 5), whatever a status says.
    assert_eq!(ending("sent", "referral_conversion", "9999999999"), end);
    assert_eq!(moment("sent", "referral_conversion"), end);
    assert_eq!(moment("sent", "marketing"), Some(Moment::Answered(at(1_750_030_073))));
    assert_eq!(moment("delivered", "marketing"), None);
}

#[test]
fn a_fallback_is_an_event_of_its_own() {
    let outcomes = [
        (FallbackOutcome::Accepted("wamid.B".to_owned()), v1::FallbackOutcome::Accepted, "wamid.B", ""),
        (
            FallbackOutcome::Failed(Reason::TemplateNotFound, "gone".to_owned()),
            v1::FallbackOutcome::Failed,
            "",
            "TEMPLATE_NOT_FOUND",
        ),
        (FallbackOutcome::Unknown("cut".to_owned()), v1::FallbackOutcome::Unknown, "", ""),
    ];
    for (outcome, expected, message_id, reason) in outcomes {
        let report = FallbackReport {
            send_tag: SendTag::parse("AZ3kq0p2cXKkzqv1b5c-_w").unwrap(),
            failed_message_id: "wamid.A".to_owned(),
            outcome,
        };
        let segments = encode(&event(Payload::Fallback(report), ""), "");
        let Some(v1::event::Payload::Fallback(report)) = decode(&segments).payload else { panic!() };
        assert_eq!((report.outcome(), report.message_id.as_str()), (expected, message_id));
        assert_eq!((report.reason.as_str(), report.failed_message_id.as_str()), (reason, "wamid.A"));
        assert_eq!(report.send_tag, "AZ3kq0p2cXKkzqv1b5c-_w");
    }
}

#[test]
fn what_became_of_a_queued_send_is_an_event_of_its_own() {
    use v1::MessageState as S;
    let receipt = |acceptance| Receipt {
        message_id: MessageId::parse("wamid.A").unwrap(),
        acceptance,
        recipient: None,
        accept_time: UNIX_EPOCH,
    };
    let verdict = Verdict {
        class: Class::FailedPrecondition,
        reason: Reason::UpstreamRefused,
        actor: Actor::Operator,
        retry: Retry::Never,
    };
    let meta = Some(MetaError { code: Some(131_000), ..MetaError::default() });
    let failure = || Failure { verdict, message: "m".to_owned(), meta: meta.clone(), field: None };
    let accepted = SendOutcome::Accepted(receipt(MessageAcceptance::Accepted));
    let held = SendOutcome::Accepted(receipt(MessageAcceptance::Paused));
    let cases = [
        (accepted, S::Accepted, "wamid.A", None),
        (held, S::Held, "wamid.A", None),
        (SendOutcome::Refused(failure()), S::Refused, "", Some(131_000)),
        (SendOutcome::Unknown(failure()), S::Unknown, "", Some(131_000)),
        (SendOutcome::Expired(failure()), S::Expired, "", Some(131_000)),
    ];
    for (outcome, state, message_id, code) in cases {
        let report = SendReport {
            send_tag: SendTag::parse("AZ3kq0p2cXKkzqv1b5c-_w").unwrap(),
            request_id: "order-1".to_owned(),
            caller: Caller::named("orders"),
            outcome,
            used_fallback: true,
            callback_data: "order=1".to_owned(),
            queue_time: UNIX_EPOCH + Duration::from_secs(1_750_000_000),
        };
        let segments = encode(&event(Payload::Send(Box::new(report)), ""), "");
        assert!(decode(&segments).origin.is_none());
        let Some(v1::event::Payload::Send(report)) = decode(&segments).payload else { panic!() };
        assert_eq!((report.state(), report.message_id.as_str()), (state, message_id));
        assert_eq!((report.request_id.as_str(), report.caller.as_str()), ("order-1", "orders"));
        assert_eq!((report.used_fallback, report.callback_data.as_str()), (true, "order=1"));
        assert_eq!(report.queue_time.unwrap().seconds, 1_750_000_000);
        assert_eq!(report.failure.as_ref().map(|failure| failure.code), code);
        let verdict = report.failure.and_then(|failure| failure.verdict);
        assert!(verdict.is_none_or(|verdict| verdict.reason == "UPSTREAM_REFUSED"));
    }
}

#[test]
fn a_users_call_opens_the_window() {
    let at = |seconds| written(seconds, false);
    assert_eq!(moved_by(&call(&json!({}))), Some(at(1_750_030_073)));
    assert_eq!(moved_by(&call(&json!({"timestamp": "1750030000"}))), Some(at(1_750_030_000)));
    let ahead = moved_by(&call(&json!({"timestamp": "1950030073"})));
    assert_eq!(ahead, Some(at(1_750_030_074)), "not in the future");
    for other in [json!({"direction": "BUSINESS_INITIATED"}), json!({"event": "terminate"})] {
        assert_eq!(moved_by(&call(&other)), Some(Moved::Nothing), "{other}");
    }
    let of_many = Event { user: UserIdentity::default(), ..call(&json!({})) };
    assert_eq!(moved_by(&of_many), None);
    let echo = json!({"message_echoes": [{"from": "1555", "to": "16505551234", "timestamp": "1750030073",
        "type": "text", "text": {"body": "Hi"}}]});
    assert_eq!(moved_by(&field("smb_message_echoes", &echo)), Some(Moved::Nothing));
}

#[test]
fn what_a_user_writes_on_standby_opens_the_window() {
    let raw = json!({"standby": {"messages": [{"from": "16505551234", "timestamp": "1750030073",
        "type": "text", "text": {"body": "Hi"}}], "statuses": [{"id": "wamid.A", "status": "sent",
        "biz_opaque_callback_data": "g1.AZ3kq0p2cXKkzqv1b5c-_w.order=1"}]}});
    let event = field("standby", &raw);
    assert_eq!(moved_by(&event), Some(written(1_750_030_073, false)));
    let payload = decode(&encode(&event, "")).payload;
    let Some(v1::event::Payload::Standby(value)) = payload else { panic!("standby") };
    let status = &value.standby.unwrap().statuses[0];
    assert_eq!(
        (status.callback_data.as_str(), status.send_tag.as_str()),
        ("order=1", "AZ3kq0p2cXKkzqv1b5c-_w")
    );
}

#[test]
fn what_does_not_fit_stays_untyped() {
    let raw = r#"{"id":"wamid.A","type":"text","text":"no object"}"#;
    let decoded = decode(&encode(&event(Payload::Message { contact: None }, raw), ""));
    let Some(v1::event::Payload::Unknown(unknown)) = decoded.payload else { panic!("expected unknown") };
    assert_eq!(unknown.reason, "text is not an object");
    assert_eq!(decoded.raw_json, raw);
}

#[test]
fn an_event_that_would_not_fit_leaves_its_payload_out() {
    let raw = format!(r#"{{"id":"wamid.A","type":"text","text":{{"body":"{}"}}}}"#, "x".repeat(2_500_000));
    let decoded = decode(&encode(&event(Payload::Message { contact: None }, &raw), ""));
    assert!(decoded.payload_omitted);
    assert!(decoded.payload.is_none());
    assert_eq!(decoded.raw_json, raw);
}

#[test]
fn a_contact_comes_with_the_message() {
    let contact = r#"{"profile":{"name":"Sheena"},"wa_id":"16505551234","user_id":"US.13"}"#.to_owned();
    let raw = r#"{"from":"16505551234","id":"wamid.A","timestamp":"1","type":"text","text":{"body":"Hi"}}"#;
    let segments = encode(&event(Payload::Message { contact: Some(contact) }, raw), "");
    let Some(v1::event::Payload::Message(message)) = decode(&segments).payload else { panic!("a message") };
    assert_eq!(message.contact.unwrap().profile.unwrap().name, "Sheena");
}

#[test]
fn a_message_that_cannot_be_typed_still_names_its_user() {
    let raw = r#"{"from":"16505551234","id":"wamid.A","timestamp":"noon","type":"text","text":[1]}"#;
    let segments = encode(&event(Payload::Message { contact: None }, raw), "");
    let Fact::Concerns { user, moved, .. } = fact(&segments.envelope, &segments.typed) else {
        panic!("a user wrote")
    };
    assert_eq!(user.wa_id.unwrap().expose(), "16505551234");
    assert_eq!(moved, written(1_750_030_073, false));
}
