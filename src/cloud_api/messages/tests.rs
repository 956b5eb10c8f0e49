//! What goes to Meta, and what its answers mean.

use std::time::SystemTime;

use serde_json::json;

use super::*;
use crate::cloud_api::client::tests::peer::{Peer, client, token};
use crate::domain::message::Content;
use crate::domain::value::Value;

fn message(recipient: Recipient) -> OutboundMessage {
    let body =
        Value::Map(vec![("body".to_owned(), "Hello".into()), ("preview_url".to_owned(), Value::Bool(true))]);
    OutboundMessage {
        phone_number_id: PhoneNumberId::parse("1065").unwrap(),
        recipient,
        reply_to: None,
        callback_data: String::new(),
        content: Content { kind: "text".to_owned(), body, extra: Vec::new(), is_raw: false },
        endpoint: Endpoint::Messages,
    }
}

fn number(text: &str) -> Recipient {
    Recipient::PhoneNumber(PhoneNumber::parse(text).unwrap())
}

fn user(text: &str) -> Recipient {
    Recipient::User(BusinessScopedUserId::parse(text).unwrap())
}

fn group(text: &str) -> Recipient {
    Recipient::Group(GroupId::parse(text).unwrap())
}

fn tag() -> SendTag {
    SendTag::parse("AZ3kq0p2cXKkzqv1b5c-_w").unwrap()
}

#[test]
fn the_request_is_metas() {
    assert_eq!(
        request_json(&message(number("+1 650 555 1234")), Some(&tag())),
        concat!(
            r#"{"messaging_product":"whatsapp","recipient_type":"individual","to":"+16505551234","#,
            r#""biz_opaque_callback_data":"g1.AZ3kq0p2cXKkzqv1b5c-_w.","type":"text","#,
            r#""text":{"body":"Hello","preview_url":true}}"#
        )
    );
    let mut full = message(user("US.13"));
    full.reply_to = Some(MessageId::parse("wamid.B").unwrap());
    full.callback_data = "order=1".to_owned();
    full.content.extra = vec![("category".to_owned(), "utility".into())];
    assert_eq!(
        request_json(&full, None),
        concat!(
            r#"{"messaging_product":"whatsapp","recipient_type":"individual","recipient":"US.13","#,
            r#""context":{"message_id":"wamid.B"},"biz_opaque_callback_data":"order=1","type":"text","#,
            r#""text":{"body":"Hello","preview_url":true},"category":"utility"}"#
        )
    );
    let to_group = request_json(&message(group("Y2Fw")), None);
    assert!(to_group.contains(r#""recipient_type":"group","to":"Y2Fw","type""#), "{to_group}");
}

#[test]
fn the_recipient_comes_back_as_meta_resolved_it() {
    let receipt = |contact: serde_json::Value, sent_to: &Recipient| {
        let body =
            json!({"messaging_product": "whatsapp", "contacts": [contact], "messages": [{"id": "wamid.A"}]});
        read_receipt(body.to_string().as_bytes(), sent_to).unwrap().2
    };
    let brazil = json!({"input": "+5511987654321", "wa_id": "551187654321"});
    assert_eq!(receipt(brazil, &number("+5511987654321")), Some(number("551187654321")));
    assert_eq!(receipt(json!({"input": "US.1", "user_id": "US.2"}), &user("US.1")), Some(user("US.2")));
    assert_eq!(receipt(json!({"input": "Y2Fw", "wa_id": "Y2Fw"}), &group("Y2Fw")), Some(group("Y2Fw")));
    assert_eq!(receipt(json!({"input": "Y2Fw"}), &group("Y2Fw")), Some(group("Y2Fw")));
    assert_eq!(receipt(json!({"input": "x", "wa_id": "odd"}), &number("+16505551234")), None);
    let words = [
        (json!("accepted"), MessageAcceptance::Accepted),
        (json!("held_for_quality_assessment"), MessageAcceptance::HeldForQualityAssessment),
        (json!("paused"), MessageAcceptance::Paused),
        (json!(null), MessageAcceptance::Accepted),
        (json!("new_word"), MessageAcceptance::Accepted),
    ];
    for (word, acceptance) in words {
        let body = json!({"messages": [{"id": "wamid.A", "message_status": word}]}).to_string();
        let (id, read, recipient) = read_receipt(body.as_bytes(), &group("Y2Fw")).unwrap();
        assert_eq!((id.as_str(), read, recipient), ("wamid.A", acceptance, None));
    }
}

#[tokio::test]
async fn a_send_returns_a_receipt() {
    let body = r#"{"messaging_product":"whatsapp","contacts":[{"input":"+16505551234","wa_id":"16505551234"}],"messages":[{"id":"wamid.A"}]}"#;
    let peer = Peer::answering("200 OK", body);
    let sent = message(number("+16505551234"));
    let receipt = client(&peer.url())
        .send_message(&token(), &prepare(&sent, &tag()), Box::pin(async {}))
        .await
        .unwrap();
    let expected = Receipt {
        message_id: MessageId::parse("wamid.A").unwrap(),
        acceptance: MessageAcceptance::Accepted,
        recipient: Some(number("16505551234")),
        accept_time: SystemTime::UNIX_EPOCH,
    };
    assert_eq!(receipt, expected);
    let request = peer.finish();
    assert!(request.starts_with("POST /v25.0/1065/messages "));
    assert!(request.ends_with(&request_json(&sent, Some(&tag()))));
}

#[tokio::test]
async fn a_200_that_names_no_message_proves_nothing() {
    for body in [
        "",
        "<html>",
        "{}",
        "[]",
        r#"{"messages":[]}"#,
        r#"{"messages":[{"id":""}]}"#,
        r#"{"error":{"code":1}}"#,
    ] {
        let peer = Peer::answering("200 OK", body);
        let sent = message(number("+16505551234"));
        let error = client(&peer.url())
            .send_message(&token(), &prepare(&sent, &tag()), Box::pin(async {}))
            .await
            .unwrap_err();
        assert!(matches!(error, Error::OutcomeUnknown { .. }), "{body}: {error:?}");
    }
}

#[tokio::test]
async fn reading_is_marked() {
    let number = PhoneNumberId::parse("1065").unwrap();
    let message_id = MessageId::parse("wamid.A").unwrap();
    let read = json!({"messaging_product": "whatsapp", "status": "read", "message_id": "wamid.A"});
    let mut typing = read.clone();
    typing["typing_indicator"] = json!({"type": "text"});
    for (is_typing, expected) in [(false, read), (true, typing)] {
        let peer = Peer::answering("200 OK", r#"{"success":true}"#);
        client(&peer.url()).mark_read(&token(), &number, &message_id, is_typing).await.unwrap();
        let request = peer.finish();
        let body: serde_json::Value =
            serde_json::from_str(request.split("\r\n\r\n").nth(1).unwrap()).unwrap();
        assert_eq!(body, expected);
    }
    for body in ["", r#"{"success":false}"#] {
        let peer = Peer::answering("200 OK", body);
        let error = client(&peer.url()).mark_read(&token(), &number, &message_id, false).await.unwrap_err();
        assert!(matches!(error, Error::OutcomeUnknown { .. }), "{body}");
    }
}

#[test]
fn the_template_of_a_prepared_message_has_a_name() {
    let template = r#"{"type":"template","template":{"name":"order_shipped","language":{"code":"en"}}}"#;
    assert_eq!(template_name(template).as_deref(), Some("order_shipped"));
    for other in [r#"{"type":"text","text":{"body":"Hi"}}"#, r#"{"template":{"name":1}}"#, ""] {
        assert_eq!(template_name(other), None, "{other}");
    }
}
