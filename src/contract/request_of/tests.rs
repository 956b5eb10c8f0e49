//! Bodies as the reference has them, and the requests they become.

use super::*;

fn send(kind: &str, content: &Json) -> Json {
    json!({ "messaging_product": "whatsapp", "to": "+16505551234", "type": kind, kind: content })
}

/// What the request says of the content, all typed.
fn typed(kind: &str, content: &Json) -> Json {
    let converted = request_of(&send(kind, content)).unwrap();
    assert_eq!(converted.untyped, [""; 0], "{content}");
    converted.json[kind].clone()
}

/// Every object of reference 3 comes back whole; [`request_of`] compares.
#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn every_kind_of_the_reference_is_typed() {
    let interactive = |kind: &str, action: Json| {
        json!({ "type": kind, "header": { "type": "text", "text": "Head" }, "body": { "text": "Body" },
            "footer": { "text": "Foot" }, "action": action })
    };
    let named = |name: &str, parameters: Json| json!({ "name": name, "parameters": parameters });
    let link = |index: u32| {
        json!({ "card_index": index, "type": "cta_url", "header": { "type": "image", "image": { "link": "l" } },
            "body": { "text": "b" }, "action": named("cta_url", json!({ "display_text": "Buy", "url": "u" })) })
    };
    let quick = json!({ "card_index": 1, "type": "cta_url", "header": { "type": "video", "video": { "link": "l" } },
        "action": { "buttons": [{ "type": "quick_reply", "quick_reply": { "id": "a", "title": "A" } }] } });
    let product = json!({ "card_index": 2, "type": "product",
        "action": { "product_retailer_id": "p", "catalog_id": "c" } });
    let sections = json!([{ "title": "S", "product_items": [{ "product_retailer_id": "p" }] }]);
    let amount = json!({ "value": 0, "offset": 100, "description": "d", "discount_program_name": "n" });
    let details = json!({ "reference_id": "r", "type": "digital-goods", "payment_type": "br",
        "payment_settings": [
            { "type": "payment_gateway", "payment_gateway": { "type": "razorpay", "configuration_name": "c",
                "razorpay": { "receipt": "r1", "notes": { "k": "v" } } } },
            { "type": "pix_dynamic_code",
                "pix_dynamic_code": { "code": "c", "merchant_name": "m", "key": "k", "key_type": "CPF" } },
            { "type": "payment_link", "payment_link": { "uri": "u" } },
            { "type": "boleto", "boleto": { "digitable_line": "1" } },
            { "type": "offsite_card_pay", "offsite_card_pay": { "last_four_digits": "1234" } },
        ],
        "currency": "INR", "total_amount": amount,
        "order": { "status": "pending", "catalog_id": "c",
            "expiration": { "timestamp": "1770000000", "description": "d" },
            "items": [{ "retailer_id": "1", "name": "Bread", "amount": amount, "quantity": 2,
                "sale_amount": amount, "country_of_origin": "IN", "importer_name": "I",
                "importer_address": { "city": "Mumbai" } }],
            "subtotal": amount, "tax": amount, "shipping": amount, "discount": amount } });
    let status = json!({ "reference_id": "r", "order": { "status": "shipped", "description": "d" },
        "payment": { "status": "captured", "timestamp": 1_770_000_000 } });
    let value = json!({ "name": "Asha", "phone_number": "+91", "in_pin_code": "400063", "floor_number": "8",
        "building_name": "", "address": "Wing A", "landmark_area": "Goregaon", "city": "Mumbai" });
    for action in [
        interactive(
            "button",
            json!({ "buttons": [{ "type": "reply", "reply": { "id": "a", "title": "A" } },
            { "type": "cta_url", "cta_url": { "url": "u", "display_text": "Track" } }] }),
        ),
        interactive(
            "list",
            json!({ "button": "B", "sections": [{ "title": "S",
            "rows": [{ "id": "a", "title": "A", "description": "D" }] }] }),
        ),
        interactive("cta_url", named("cta_url", json!({ "display_text": "See", "url": "https://x" }))),
        interactive("carousel", json!({ "cards": [link(0), quick, product] })),
        interactive("product", json!({ "catalog_id": "c", "product_retailer_id": "p" })),
        interactive("product_list", json!({ "catalog_id": "c", "sections": sections })),
        interactive(
            "catalog_message",
            named("catalog_message", json!({ "thumbnail_product_retailer_id": "p" })),
        ),
        interactive("catalog_message", json!({ "name": "catalog_message" })),
        interactive(
            "flow",
            named(
                "flow",
                json!({ "flow_message_version": "3", "flow_name": "f",
            "flow_cta": "Book!", "flow_token": "t", "mode": "draft", "flow_action": "navigate",
            "flow_action_payload": { "screen": "W", "data": { "n": 1, "list": [true, null] } } }),
            ),
        ),
        interactive("location_request_message", json!({ "name": "send_location" })),
        interactive(
            "address_message",
            named(
                "address_message",
                json!({ "country": "IN", "values": value,
            "saved_addresses": [{ "id": "a", "value": value }],
            "validation_errors": { "in_pin_code": "unknown" } }),
            ),
        ),
        interactive("call_permission_request", json!({ "name": "call_permission_request" })),
        interactive(
            "voice_call",
            named("voice_call", json!({ "display_text": "Call", "ttl_minutes": 100, "payload": "p" })),
        ),
        interactive("request_contact_info", json!({ "name": "request_contact_info" })),
        interactive("contact_request", json!({ "name": "request_contact_info" })),
        interactive("order_details", named("review_and_pay", details.clone())),
        interactive("order_status", named("review_order", status.clone())),
    ] {
        typed("interactive", &action);
    }
    let parameter = |kind: &str, value: &Json| json!({ "type": kind, kind: value });
    let action = |value: Json| json!([parameter("action", &value)]);
    let button = |sub_type: &str, parameters: Json| json!({ "type": "button", "sub_type": sub_type, "index": "0", "parameters": parameters });
    let card = json!({ "card_index": 0, "components": [
        { "type": "header", "parameters": [parameter("product",
            &json!({ "product_retailer_id": "p", "catalog_id": "c" }))] },
        button("quick_reply", json!([parameter("payload", &json!("x"))])),
    ] });
    typed(
        "template",
        &json!({ "name": "t", "language": { "code": "en_US" }, "components": [
        { "type": "body", "parameters": [parameter("group_id", &json!("g"))] },
        { "type": "limited_time_offer", "parameters": [parameter("limited_time_offer",
            &json!({ "expiration_time_ms": 1_796_083_200_000_u64 }))] },
        { "type": "carousel", "cards": [card] },
        { "type": "order_status", "parameters": [parameter("order_status", &status)] },
        { "type": "tap_target_configuration", "parameters": [parameter("tap_target_configuration",
            &json!([{ "url": "https://x", "title": "x" }]))] },
        button("flow", action(json!({ "flow_token": "t", "flow_action_data": { "k": "v" } }))),
        button("flow", action(json!({}))),
        button("mpm", action(json!({ "thumbnail_product_retailer_id": "p", "sections": sections }))),
        button("order_details", action(json!({ "order_details": details }))),
        button("voice_call", json!([parameter("ttl_minutes", &json!(100)), parameter("payload", &json!("x"))])),
        button("copy_code", json!([parameter("coupon_code", &json!("25OFF"))])),
    ] }),
    );
    typed(
        "location",
        &json!({ "latitude": "37.44216251868683", "longitude": -122, "name": "n", "address": "a" }),
    );
    typed("pin", &json!({ "type": "pin", "message_id": "wamid.A", "expiration_days": "7" }));
}

#[test]
fn the_arm_holds_what_action_held() {
    let list = json!({ "type": "list", "action": { "button": "B", "sections": [] } });
    assert_eq!(typed("interactive", &list), json!({ "list": { "button": "B" } }));
    let link = json!({ "type": "cta_url", "body": { "text": "x" },
        "action": { "name": "cta_url", "parameters": { "display_text": "D", "url": "https://x" } } });
    let expected = json!({ "body": { "text": "x" }, "cta_url": { "display_text": "D", "url": "https://x" } });
    assert_eq!(typed("interactive", &link), expected);
    let place = json!({ "type": "location_request_message", "action": { "name": "send_location" } });
    assert_eq!(typed("interactive", &place), json!({ "location_request_message": {} }));
    let contacts = json!([{ "name": { "formatted_name": "Barbara" } }]);
    assert_eq!(typed("contacts", &contacts), json!({ "contacts": contacts }));
    let removed = json!({ "message_id": "wamid.A", "emoji": "" });
    assert_eq!(typed("reaction", &removed), removed);
}

#[test]
fn the_envelope_becomes_fields() {
    let converted = request_of(&json!({
        "messaging_product": "whatsapp", "recipient_type": "group", "to": "Y2Fw", "context": { "message_id": "w" },
        "biz_opaque_callback_data": "order=1", "recipient_identity_key_hash": "h", "category": "utility",
        "ttl_seconds": 60, "direct_send_config": { "template_name": "t" }, "product_policy": "STRICT",
        "message_activity_sharing": false, "text": { "body": "Hi", "preview_url": false },
    }))
    .unwrap();
    let expected = json!({
        "recipient": { "group_id": "Y2Fw" }, "reply_to_message_id": "w", "callback_data": "order=1",
        "recipient_identity_key_hash": "h", "category": "utility", "ttl_seconds": 60,
        "direct_send_config": { "template_name": "t" },
        "marketing": { "product_policy": "STRICT", "message_activity_sharing": false },
        "text": { "body": "Hi" },
    });
    assert_eq!(converted.json, expected);
    assert_eq!(converted.notes, ["\"type\" is absent; taken as \"text\""]);
    let both = json!({ "to": 16_505_551_234_u64, "recipient": "US.13", "text": { "body": "Hi" } });
    let recipient = &request_of(&both).unwrap().json["recipient"];
    assert_eq!(recipient, &json!({ "phone_number": "16505551234" }), "to wins");
}

#[test]
fn what_cannot_be_typed_goes_to_raw_as_it_is() {
    let cases = [
        (send("hologram", &json!({ "x": 1 })), "\"hologram\" has no field in the request"),
        (send("text", &json!({ "body": "Hi", "font": "bold" })), "text.font has no field in the request"),
        (send("text", &json!("Hi")), "text is not an object"),
        (
            send("interactive", &json!({ "type": "hologram", "action": {} })),
            "interactive.type has no field in the request",
        ),
        (
            send(
                "interactive",
                &json!({ "type": "cta_url", "action": { "name": "other", "parameters": {} } }),
            ),
            "interactive.action has no field in the request",
        ),
        (
            send(
                "template",
                &json!({ "name": "t", "components": [{ "type": "body", "parameters": [
                { "type": "gif", "gif": { "id": "5" } }] }] }),
            ),
            "template.components[0].parameters[0].gif has no field in the request",
        ),
    ];
    for (body, reason) in cases {
        let converted = request_of(&body).unwrap();
        assert!(converted.untyped.iter().any(|r| r == reason), "{:?} lacks {reason:?}", converted.untyped);
        let kind = body["type"].as_str().unwrap();
        assert_eq!(converted.json["raw"], json!({ "type": kind, kind: body[kind] }));
    }
    let mut body = send("text", &json!({ "body": "Hi" }));
    body["new_option"] = json!(true);
    let converted = request_of(&body).unwrap();
    assert_eq!(converted.untyped, ["new_option has no field in the request"]);
    assert_eq!(
        converted.json["raw"],
        json!({ "type": "text", "text": { "body": "Hi" }, "new_option": true })
    );
}

#[test]
fn what_sends_nothing_says_where_it_belongs() {
    let cases = [
        (json!([]), "a JSON object"),
        (json!({ "status": "read", "message_id": "wamid.A" }), "MarkMessageRead with message_id \"wamid.A\""),
        (json!({ "type": "text", "text": { "body": "Hi" } }), "nobody is addressed"),
        (json!({ "to": "1" }), "there is no content"),
        (json!({ "to": "1", "type": "image" }), "there is no content"),
        (json!({ "to": "1", "type": "to" }), "there is no content"),
        (
            json!({ "to": "1", "ttl_seconds": "soon", "text": { "body": "x" } }),
            "ttl_seconds is not a whole number",
        ),
    ];
    for (body, words) in cases {
        let message = request_of(&body).unwrap_err().to_string();
        assert!(message.contains(words), "{message:?} lacks {words:?}");
    }
}
