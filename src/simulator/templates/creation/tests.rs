//! The rules of creations as tables: a change to a good body, and how Meta refuses it.

use super::*;

/// 0 for a creation that is taken; else its subcode, or 100 if it has none.
fn code_of(body: &Value) -> u32 {
    match Creation::judged(body, &Handles::default(), SystemTime::UNIX_EPOCH) {
        Ok(_) => 0,
        Err(error) => {
            assert_eq!(error.code, 100, "{body}: {}", error.message);
            error.subcode.unwrap_or(100)
        }
    }
}

fn creation(category: &str, components: &Value) -> Value {
    json!({ "name": "order_update", "language": "en_US", "category": category, "components": components })
}

fn body() -> Value {
    json!({ "type": "BODY", "text": "Order {{1}} is on its way.", "example": { "body_text": [["4521"]] } })
}

fn image() -> Value {
    json!({ "type": "HEADER", "format": "IMAGE", "example": { "header_handle": ["4::aW"] } })
}

fn with_buttons(buttons: &Value) -> Value {
    creation("MARKETING", &json!([body(), { "type": "BUTTONS", "buttons": buttons }]))
}

#[test]
fn envelopes() {
    for (field, value, code) in [
        ("category", json!("utility"), 0),
        ("category", json!("SERVICE"), 100),
        ("category", Value::Null, 100),
        ("name", json!("Order-Update"), 100),
        ("name", json!(""), 100),
        ("name", json!("a".repeat(512)), 0),
        ("name", json!("a".repeat(513)), 2_388_040),
        ("language", json!("zh_HK"), 0),
        ("language", json!("en-US"), 100),
        ("language", json!("xx"), 100),
        ("parameter_format", json!("positional"), 0),
        ("parameter_format", json!("NAMED"), 2_388_072),
        ("parameter_format", json!("OTHER"), 100),
        ("components", json!([]), 100),
        ("components", Value::Null, 100),
        ("components", json!([{ "type": "FOOTER", "text": "x" }]), 2_388_072),
        ("allow_category_change", json!("yes"), 100),
        ("allow_category_change", json!(true), 0),
        ("cta_url_link_tracking_opted_out", json!(1), 100),
        ("message_send_ttl_seconds", json!(30), 0),
        ("message_send_ttl_seconds", json!(43_200), 0),
        ("message_send_ttl_seconds", json!(-1), 0),
        ("message_send_ttl_seconds", json!(29), 100),
        ("message_send_ttl_seconds", json!(43_201), 100),
        ("ttl", json!(60), 100),
    ] {
        let mut changed = creation("UTILITY", &json!([body()]));
        changed[field] = value;
        assert_eq!(code_of(&changed), code, "{field}: {}", changed[field]);
    }
    let optimised = |feature: &str, status: &str| json!({ "creative_features_spec": { feature: { "enroll_status": status } } });
    for (category, field, value, code) in [
        ("MARKETING", "message_send_ttl_seconds", json!(43_200), 0),
        ("MARKETING", "message_send_ttl_seconds", json!(-1), 100),
        ("MARKETING", "degrees_of_freedom_spec", optimised("image_touchups", "OPT_IN"), 0),
        ("MARKETING", "degrees_of_freedom_spec", optimised("image_touchups", "IN"), 100),
        ("MARKETING", "degrees_of_freedom_spec", optimised("sparkle", "OPT_IN"), 100),
    ] {
        let mut changed = creation(category, &json!([body()]));
        changed[field] = value;
        assert_eq!(code_of(&changed), code, "{category} {field}: {}", changed[field]);
    }
}

#[test]
fn components_stand_once_and_in_any_order() {
    let footer = json!({ "type": "footer", "text": "Lucky Shrub" });
    for (components, code) in [
        (json!([body(), footer]), 0),
        (json!([footer, body()]), 0),
        (json!([body(), body()]), 100),
        (json!([body(), { "type": "POLL" }]), 100),
        (json!([body(), { "type": "CALL_PERMISSION_REQUEST" }]), 0),
        (json!([body(), { "type": "CALL_PERMISSION_REQUEST", "text": "x" }]), 100),
        (json!([body(), { "type": "FOOTER", "text": "x".repeat(61) }]), 2_388_040),
        (json!([body(), { "type": "FOOTER", "text": "Hi {{1}} there" }]), 2_388_073),
        (json!([{ "type": "BODY", "text": "x".repeat(1024) }]), 0),
        (json!([{ "type": "BODY", "text": "x".repeat(1025) }]), 2_388_040),
        (json!([{ "type": "BODY", "text": "Hello {{1}}" }]), 2_388_299),
        (json!([{ "type": "BODY", "text": "Hello", "footer": "x" }]), 100),
        (json!([{ "type": "BODY", "add_security_recommendation": true }]), 100),
    ] {
        assert_eq!(code_of(&creation("UTILITY", &components)), code, "{components}");
    }
}

#[test]
fn headers() {
    let text = |text: &str, sample: Value| json!({ "type": "HEADER", "format": "text", "text": text, "example": sample });
    for (header, code) in [
        (text("Our {{1}} is on!", json!({ "header_text": ["Sale"] })), 0),
        (text("{{1}}", json!({ "header_text": ["Sale"] })), 0),
        (text("Our {{1}} is on!", json!({ "header_text": [] })), 2_388_047),
        (text("{{1}} and {{2}}", json!({ "header_text": ["a", "b"] })), 2_388_047),
        (json!({ "type": "HEADER", "format": "TEXT", "text": "Our *big* sale" }), 2_388_047),
        (json!({ "type": "HEADER", "format": "TEXT", "text": "x".repeat(61) }), 2_388_040),
        (json!({ "type": "HEADER", "text": "Sale" }), 2_388_047),
        (json!({ "type": "HEADER", "format": "SONG" }), 100),
        (json!({ "type": "HEADER", "format": "LOCATION" }), 0),
        (json!({ "type": "HEADER", "format": "PRODUCT" }), 2_388_047),
        (image(), 0),
        (json!({ "type": "HEADER", "format": "IMAGE" }), 2_388_047),
        (json!({ "type": "HEADER", "format": "IMAGE", "example": { "header_handle": ["123"] } }), 2_388_047),
        (json!({ "type": "HEADER", "format": "GIF", "example": { "header_handle": ["4::aW"] } }), 2_388_047),
    ] {
        assert_eq!(code_of(&creation("UTILITY", &json!([header, body()]))), code, "{header}");
    }
}

#[test]
fn buttons() {
    let reply = |text: &str| json!({ "type": "quick_reply", "text": text });
    let url = |url: &str| json!({ "type": "URL", "text": format!("To {}", url.len()), "url": url });
    let sampled =
        |url: &str| json!({ "type": "URL", "text": "Shop", "url": url, "example": ["https://x.com/a"] });
    let call = json!({ "type": "PHONE_NUMBER", "text": "Call", "phone_number": "+15550051310" });
    let replies: Vec<Value> = (0..11).map(|at| reply(&at.to_string())).collect();
    for (buttons, code) in [
        (json!([reply("Stop"), url("https://x.com")]), 0),
        (json!([reply("Stop"), url("https://x.com"), reply("Go")]), 100),
        (json!([reply("Stop"), reply("Stop")]), 100),
        (json!([reply(&"x".repeat(26))]), 2_388_040),
        (json!(replies[..10]), 0),
        (json!(replies), 100),
        (json!([]), 100),
        (json!([url("https://x.com"), url("https://x.com/1"), url("https://x.com/22")]), 100),
        (json!([url("ftp://x.com")]), 100),
        (json!([url("https://x.com/{{1}}")]), 100),
        (json!([sampled("https://x.com/{{1}}")]), 0),
        (json!([sampled("https://x.com/{{1}}/more")]), 100),
        (json!([sampled("https://{{1}}")]), 100),
        (json!([sampled("https://x.com/")]), 100),
        (json!([call]), 0),
        (json!([call, { "type": "PHONE_NUMBER", "text": "Ring", "phone_number": "1" }]), 100),
        (json!([{ "type": "PHONE_NUMBER", "text": "Call", "phone_number": "call me" }]), 100),
        (json!([{ "type": "COPY_CODE", "example": "25OFF" }]), 0),
        (json!([{ "type": "COPY_CODE", "example": "x".repeat(16) }]), 2_388_040),
        (json!([{ "type": "COPY_CODE" }]), 100),
        (json!([{ "type": "FLOW", "text": "Book", "flow_id": "1", "flow_action": "navigate" }]), 0),
        (json!([{ "type": "FLOW", "text": "Book", "flow_id": "1", "flow_name": "x" }]), 100),
        (json!([{ "type": "FLOW", "text": "Book" }]), 100),
        (json!([{ "type": "FLOW", "text": "Book", "flow_id": "1", "icon": "STAR" }]), 100),
        (json!([{ "type": "MPM", "text": "View items" }]), 0),
        (json!([{ "type": "SPM", "text": "View" }]), 2_388_047),
        (json!([{ "type": "CATALOG", "text": "View catalog" }]), 0),
        (json!([{ "type": "VOICE_CALL", "text": "Call", "ttl_minutes": 100 }]), 0),
        (json!([{ "type": "VOICE_CALL", "text": "Call", "ttl_minutes": 0 }]), 100),
        (json!([{ "type": "REQUEST_CONTACT_INFO" }]), 0),
        (json!([{ "type": "ORDER_DETAILS", "text": "Review and Pay" }]), 0),
        (json!([{ "type": "APP", "text": "Open", "app_deep_link": {} }]), 0),
        (json!([{ "type": "REMINDER", "text": "x" }]), 100),
        (json!([{ "type": "OTP", "otp_type": "COPY_CODE" }]), 100),
    ] {
        assert_eq!(code_of(&with_buttons(&buttons)), code, "{buttons}");
    }
}

#[test]
fn authentication() {
    let app = |package: &str, hash: &str| json!({ "package_name": package, "signature_hash": hash });
    let apps = |apps: Value| json!({ "type": "OTP", "otp_type": "ONE_TAP", "supported_apps": apps });
    let good = app("com.example", "K8a/AINcGX7");
    let copy = json!({ "type": "OTP", "otp_type": "copy_code", "text": "Copy" });
    let zero = |terms: bool| json!({ "type": "OTP", "otp_type": "ZERO_TAP", "supported_apps": [good], "zero_tap_terms_accepted": terms });
    for (button, code) in [
        (copy.clone(), 0),
        (apps(json!([good])), 0),
        (apps(json!([])), 100),
        (apps(json!(vec![good.clone(); 6])), 100),
        (apps(json!([app("example", "K8a/AINcGX7")])), 100),
        (apps(json!([app("com.1x", "K8a/AINcGX7")])), 100),
        (apps(json!([app("com.example", "K8a%2FAINcGX7")])), 2_388_040),
        (apps(json!([app("com.example", "K8a/AINcGX")])), 100),
        (zero(true), 0),
        (zero(false), 100),
        (json!({ "type": "OTP", "otp_type": "ONE_TAP" }), 100),
        (json!({ "type": "URL", "text": "Shop", "url": "https://x.com" }), 100),
    ] {
        let components = json!([{ "type": "BODY" }, { "type": "BUTTONS", "buttons": [button] }]);
        assert_eq!(code_of(&creation("AUTHENTICATION", &components)), code, "{button}");
    }
    let buttons = json!({ "type": "BUTTONS", "buttons": [copy] });
    for (components, code) in [
        (json!([{ "type": "BODY", "add_security_recommendation": true }, buttons]), 0),
        (json!([{ "type": "BODY", "text": "Your code" }, buttons]), 100),
        (json!([{ "type": "BODY" }, { "type": "FOOTER", "code_expiration_minutes": 90 }, buttons]), 0),
        (json!([{ "type": "BODY" }, { "type": "FOOTER", "code_expiration_minutes": 91 }, buttons]), 100),
        (json!([{ "type": "BODY" }, { "type": "FOOTER", "text": "x" }, buttons]), 100),
        (json!([{ "type": "BODY" }]), 100),
        (json!([buttons]), 100),
        (json!([image(), { "type": "BODY" }, buttons]), 100),
    ] {
        assert_eq!(code_of(&creation("AUTHENTICATION", &components)), code, "{components}");
    }
}

#[test]
fn limited_time_offers() {
    let offer = |text: &str| json!({ "type": "LIMITED_TIME_OFFER", "limited_time_offer": { "text": text, "has_expiration": true } });
    let long = json!({ "type": "BODY", "text": "x".repeat(601) });
    for (category, components, code) in [
        ("MARKETING", json!([image(), offer("Expiring offer!"), body()]), 0),
        ("MARKETING", json!([offer("Expiring offer!"), body()]), 0),
        ("UTILITY", json!([offer("Expiring offer!"), body()]), 100),
        ("MARKETING", json!([offer(&"x".repeat(17)), body()]), 2_388_040),
        ("MARKETING", json!([offer("x"), long]), 2_388_040),
        ("MARKETING", json!([offer("x"), body(), { "type": "FOOTER", "text": "x" }]), 2_388_073),
        (
            "MARKETING",
            json!([{ "type": "HEADER", "format": "TEXT", "text": "x" }, offer("x"), body()]),
            2_388_047,
        ),
    ] {
        assert_eq!(code_of(&creation(category, &components)), code, "{components}");
    }
}

#[test]
fn carousels() {
    let card = |header: Value, button: Value| {
        json!({ "components": [header, { "type": "BODY", "text": "Blue elf aloe" },
            { "type": "BUTTONS", "buttons": [button] }] })
    };
    let reply = json!({ "type": "QUICK_REPLY", "text": "More" });
    let url = json!({ "type": "URL", "text": "Shop", "url": "https://x.com" });
    let good = card(image(), reply.clone());
    let product = json!({ "components": [{ "type": "HEADER", "format": "PRODUCT" },
        { "type": "BUTTONS", "buttons": [{ "type": "SPM", "text": "View" }] }] });
    let bare = json!({ "components": [{ "type": "BODY", "text": "x" }] });
    let long = json!({ "components": [image(), { "type": "BODY", "text": "x".repeat(161) },
        { "type": "BUTTONS", "buttons": [reply] }] });
    let three = json!({ "components": [image(), { "type": "BUTTONS", "buttons":
        [reply, url, { "type": "URL", "text": "Site", "url": "https://x.com" }] }] });
    let with_footer = json!({ "components": [image(), { "type": "FOOTER", "text": "x" },
        { "type": "BUTTONS", "buttons": [reply] }] });
    for (cards, code) in [
        (json!([good, good]), 0),
        (json!(vec![good.clone(); 10]), 0),
        (json!([good]), 100),
        (json!(vec![good.clone(); 11]), 100),
        (json!([good, card(image(), url.clone())]), 100),
        (
            json!([
                good,
                card(
                    json!({ "type": "HEADER", "format": "VIDEO", "example":
            { "header_handle": ["4::dm"] } }),
                    reply.clone()
                )
            ]),
            100,
        ),
        (
            json!([card(json!({ "type": "HEADER", "format": "TEXT", "text": "x" }), reply.clone()), good]),
            2_388_047,
        ),
        (json!([product, product]), 0),
        (json!([product, product, product]), 0),
        (json!([bare, bare]), 100),
        (json!([long, long]), 2_388_040),
        (json!([three, three]), 100),
        (json!([with_footer, with_footer]), 100),
    ] {
        let components = json!([body(), { "type": "CAROUSEL", "cards": cards }]);
        assert_eq!(code_of(&creation("MARKETING", &components)), code, "{cards}");
    }
}

#[test]
fn library() {
    let url = json!({ "type": "URL", "url": { "base_url": "https://www.example.com/{{1}}",
        "url_suffix_example": "https://www.example.com/order_update" } });
    let call = json!({ "type": "PHONE_NUMBER", "phone_number": "+16315551010" });
    let of = |inputs: Value| {
        json!({ "name": "mine", "language": "en_US", "category": "UTILITY",
            "library_template_name": "delivery_update_1", "library_template_button_inputs": inputs })
    };
    let good = of(json!([url, call]));
    for (field, value, code) in [
        ("library_template_name", json!("delivery_update_1"), 0),
        ("library_template_name", json!("nothing"), 100),
        ("language", json!("es"), 0),
        ("language", json!("de"), 100),
        ("category", json!("MARKETING"), 100),
        ("components", json!([body()]), 100),
        ("library_template_button_inputs", json!(json!([url, call]).to_string()), 0),
        ("library_template_button_inputs", json!("[{"), 100),
        ("library_template_button_inputs", json!([url]), 100),
        ("library_template_button_inputs", json!([call, url]), 100),
        (
            "library_template_body_inputs",
            json!({ "add_contact_number": true, "code_expiration_minutes": 5 }),
            0,
        ),
        ("library_template_body_inputs", json!({ "add_contact_number": "yes" }), 100),
        ("library_template_body_inputs", json!({ "code_expiration_minutes": 91 }), 100),
    ] {
        let mut changed = good.clone();
        changed[field] = value;
        assert_eq!(code_of(&changed), code, "{field}: {}", changed[field]);
    }
    let made = Creation::judged(&good, &Handles::default(), SystemTime::UNIX_EPOCH).unwrap();
    made.check_components(None, SystemTime::UNIX_EPOCH).unwrap();
    assert_eq!(made.components[2]["buttons"][0]["text"], "Track delivery");
    assert_eq!(made.components[2]["buttons"][1]["phone_number"], "+16315551010");
}

#[test]
fn types_come_in_upper_case() {
    let written = json!([{ "type": "header", "format": "location" }, { "type": "body", "text": "Hi" },
        { "type": "buttons", "buttons": [{ "type": "quick_reply", "text": "Stop" }] }]);
    let made = Creation::judged(&creation("utility", &written), &Handles::default(), SystemTime::UNIX_EPOCH)
        .unwrap();
    assert_eq!(made.category, "UTILITY");
    assert_eq!(made.components[0], json!({ "type": "HEADER", "format": "LOCATION" }));
    assert_eq!(made.components[2]["buttons"][0]["type"], "QUICK_REPLY");
}
