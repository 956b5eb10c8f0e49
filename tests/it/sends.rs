//! Every type of message through the real gateway to the simulated Cloud API, and what a caller reads when it is wrong.

use prost::Message;
use serde_json::{Value, json};
use tonic::Code;
use tonic_types::StatusExt;
use whatsapp_gateway::contract::{request_of, v1};

use crate::eventually;
use crate::support::Gateway;

/// A user who has written, so that the window is open.
const USER: &str = "16505551234";
const GROUP: &str = "Y2FwaV9ncm91cDoxNzA1NTU1MDEz";

/// The typed request of a body of Meta's.
fn typed(body: &Value) -> v1::SendMessageRequest {
    let converted = request_of(body).unwrap();
    assert_eq!(converted.untyped, [""; 0], "{body}");
    Message::decode(converted.encoded.as_slice()).unwrap()
}

fn body(kind: &str, content: &Value) -> Value {
    json!({ "to": format!("+{USER}"), "type": kind, kind: content })
}

fn interactive(kind: &str, action: &Value) -> Value {
    body("interactive", &json!({ "type": kind, "body": { "text": "Body" }, "action": action }))
}

fn named(name: &str, parameters: &Value) -> Value {
    json!({ "name": name, "parameters": parameters })
}

/// One body of each type, as the gateway writes it.
#[expect(clippy::too_many_lines, reason = "a table")]
fn bodies(message_id: &str) -> Vec<Value> {
    let link = json!({ "display_text": "See", "url": "https://example.com" });
    let card = |index: u32| {
        json!({ "card_index": index, "type": "cta_url",
            "header": { "type": "image", "image": { "link": "https://example.com/a.png" } },
            "action": named("cta_url", &link) })
    };
    let amount = json!({ "value": 21000, "offset": 100 });
    let with = |mut body: Value, fields: Value| {
        body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        body
    };
    let mut list = interactive(
        "product_list",
        &json!({ "catalog_id": "c", "sections": [{ "title": "S", "product_items": [{ "product_retailer_id": "p" }] }] }),
    );
    list["interactive"]["header"] = json!({ "type": "text", "text": "Our picks" });
    vec![
        body(
            "location",
            &json!({ "latitude": 37.442_162, "longitude": -122.161_535, "name": "Philz Coffee" }),
        ),
        body(
            "contacts",
            &json!([{ "name": { "formatted_name": "Barbara J.", "first_name": "Barbara" },
            "phones": [{ "phone": "+16505559999", "type": "Landline" }] }]),
        ),
        body("reaction", &json!({ "message_id": message_id, "emoji": "😀" })),
        body("reaction", &json!({ "message_id": message_id, "emoji": "" })),
        interactive(
            "button",
            &json!({ "buttons": [{ "type": "reply", "reply": { "id": "a", "title": "A" } }] }),
        ),
        interactive(
            "list",
            &json!({ "button": "Open",
            "sections": [{ "rows": [{ "id": "a", "title": "A", "description": "D" }] }] }),
        ),
        interactive("cta_url", &named("cta_url", &link)),
        interactive("carousel", &json!({ "cards": [card(0), card(1)] })),
        interactive("product", &json!({ "catalog_id": "c", "product_retailer_id": "p" })),
        list,
        interactive("catalog_message", &json!({ "name": "catalog_message" })),
        interactive(
            "flow",
            &named(
                "flow",
                &json!({ "flow_message_version": "3", "flow_id": "1", "flow_cta": "Book!",
            "flow_action_payload": { "screen": "WELCOME", "data": { "seats": 2 } } }),
            ),
        ),
        interactive("location_request_message", &json!({ "name": "send_location" })),
        interactive(
            "address_message",
            &named(
                "address_message",
                &json!({ "country": "IN",
            "values": { "name": "Asha", "in_pin_code": "400063" } }),
            ),
        ),
        interactive("call_permission_request", &json!({ "name": "call_permission_request" })),
        interactive(
            "voice_call",
            &named("voice_call", &json!({ "display_text": "Call", "ttl_minutes": 100 })),
        ),
        interactive("request_contact_info", &json!({ "name": "request_contact_info" })),
        interactive(
            "order_details",
            &named(
                "review_and_pay",
                &json!({ "reference_id": "r", "type": "digital-goods",
            "currency": "INR", "total_amount": amount,
            "payment_settings": [{ "type": "payment_link", "payment_link": { "uri": "https://example.com" } }],
            "order": { "status": "pending", "items": [{ "name": "Bread", "amount": amount, "quantity": 1 }],
                "subtotal": amount } }),
            ),
        ),
        interactive(
            "order_status",
            &named(
                "review_order",
                &json!({ "reference_id": "r",
            "order": { "status": "shipped" } }),
            ),
        ),
        json!({ "to": GROUP, "recipient_type": "group", "type": "pin",
            "pin": { "type": "pin", "message_id": message_id, "expiration_days": 7 } }),
        json!({ "to": GROUP, "recipient_type": "group", "type": "text", "text": { "body": "Hi all" } }),
        with(
            body("text", &json!({ "body": "Your order has shipped." })),
            json!({ "category": "utility", "ttl_seconds": 3600,
                "direct_send_config": { "template_name": "order_shipped" }, "recipient_identity_key_hash": "h" }),
        ),
        body(
            "template",
            &json!({ "name": "offer", "language": { "code": "en_US" }, "components": [
            { "type": "limited_time_offer", "parameters": [{ "type": "limited_time_offer",
                "limited_time_offer": { "expiration_time_ms": 4_000_000_000_000_u64 } }] },
            { "type": "button", "sub_type": "copy_code", "index": 0,
                "parameters": [{ "type": "coupon_code", "coupon_code": "CARIBE25" }] },
        ] }),
        ),
    ]
}

/// The simulator knows a marketing template with an offer, and the user has written.
async fn prepared() -> (Gateway, String) {
    let gateway = Gateway::dev().await;
    gateway.simulate("messages", &json!({"from": USER, "text": "Hi"})).await;
    let template = json!({ "name": "offer", "language": "en_US", "category": "MARKETING", "components": [
        { "type": "BODY", "text": "Look" },
        { "type": "LIMITED_TIME_OFFER", "limited_time_offer": { "text": "Soon", "has_expiration": true } },
        { "type": "BUTTONS", "buttons": [{ "type": "COPY_CODE", "example": "CARIBE25" }] },
    ] });
    gateway.simulate("templates", &json!({ "status": "APPROVED", "template": template })).await;
    eventually!(gateway.events().await.len() == 1);
    let message_id = match &gateway.events().await[0].payload {
        Some(v1::event::Payload::Message(message)) => message.id.clone(),
        other => panic!("expected a message: {other:?}"),
    };
    (gateway, message_id)
}

/// The bodies that an endpoint was sent, without the tag.
async fn received(gateway: &Gateway, path: &str) -> Vec<Value> {
    let record = gateway.simulator(&format!("requests?path={path}&method=POST")).await;
    let requests = record.as_array().unwrap_or_else(|| panic!("no requests: {record}")).clone();
    requests
        .into_iter()
        .map(|request| {
            let mut body = request["body"].clone();
            body.as_object_mut().unwrap().remove("biz_opaque_callback_data").unwrap();
            body
        })
        .collect()
}

#[tokio::test]
async fn every_type_reaches_meta_as_it_was_written() {
    let (gateway, message_id) = prepared().await;
    let mut client = gateway.client().await;
    let bodies = bodies(&message_id);
    for body in &bodies {
        let sent =
            client.send_message(typed(body)).await.unwrap_or_else(|status| panic!("{status:?}: {body}"));
        assert_eq!(sent.into_inner().state(), v1::SendState::Accepted, "{body}");
    }
    let received = received(&gateway, "/messages").await;
    assert_eq!(received.len(), bodies.len());
    for (mut sent, received) in bodies.into_iter().zip(received) {
        let fields = sent.as_object_mut().unwrap();
        fields.insert("messaging_product".to_owned(), json!("whatsapp"));
        fields.entry("recipient_type").or_insert(json!("individual"));
        assert_eq!(received, sent);
    }
}

#[tokio::test]
async fn marketing_messages_have_an_endpoint_of_their_own() {
    let (gateway, message_id) = prepared().await;
    let mut client = gateway.client().await;
    let mut offer = bodies(&message_id).pop().unwrap();
    offer["product_policy"] = json!("STRICT");
    offer["message_activity_sharing"] = json!(false);
    client.send_message(typed(&offer)).await.unwrap();
    let received = received(&gateway, "/marketing_messages").await;
    assert_eq!(received.len(), 1);
    assert_eq!(
        (&received[0]["product_policy"], &received[0]["message_activity_sharing"]),
        (&json!("STRICT"), &json!(false))
    );

    let hello = json!({ "to": format!("+{USER}"), "type": "template", "product_policy": "STRICT",
        "template": { "name": "hello_world", "language": { "code": "en_US" } } });
    let status = client.send_message(typed(&hello)).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
    assert_eq!(status.get_error_details().error_info().unwrap().metadata["meta_code"], "134100");
}

#[tokio::test]
async fn the_json_is_shown_and_nothing_is_sent() {
    let gateway = Gateway::dev().await;
    let mut client = gateway.client().await;
    let place = body("location", &json!({ "latitude": 1.5, "longitude": 2 }));
    let request = v1::SendMessageRequest {
        validate_only: true,
        show_request: true,
        callback_data: "order=1".to_owned(),
        ..typed(&place)
    };
    let answer = client.send_message(request.clone()).await.unwrap().into_inner();
    assert_eq!(answer.state(), v1::SendState::Validated);
    assert_eq!(
        serde_json::from_str::<Value>(&answer.request_json).unwrap(),
        json!({ "messaging_product": "whatsapp", "recipient_type": "individual", "to": format!("+{USER}"),
            "biz_opaque_callback_data": "order=1", "type": "location",
            "location": { "latitude": 1.5, "longitude": 2 } })
    );
    let unshown = v1::SendMessageRequest { show_request: false, ..request };
    assert_eq!(client.send_message(unshown).await.unwrap().into_inner().request_json, "");
    assert!(received(&gateway, "/messages").await.is_empty());
}

#[tokio::test]
async fn a_wrong_shape_is_refused_with_its_path() {
    let gateway = Gateway::dev().await;
    let mut client = gateway.client().await;
    let buttons: Vec<_> = (0..4)
        .map(|at| json!({ "type": "reply", "reply": { "id": format!("{at}"), "title": format!("T{at}") } }))
        .collect();
    let too_many = interactive("button", &json!({ "buttons": buttons }));
    let status = client.send_message(typed(&too_many)).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    let violations = status.get_error_details().bad_request().unwrap().field_violations.clone();
    assert_eq!(violations.len(), 1);
    assert_eq!(violations[0].field, "interactive.button.buttons");
    assert!(violations[0].description.contains("use list"), "{}", violations[0].description);
    assert!(received(&gateway, "/messages").await.is_empty());
}
