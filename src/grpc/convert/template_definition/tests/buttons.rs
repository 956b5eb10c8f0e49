//! Buttons, and cards.

use serde_json::{Value, json};

use super::{check, examples, read, request, set};

#[test]
fn buttons() {
    let list = |buttons: Value| ("/components/3/buttons", buttons);
    let path = |rest: &str| format!("create.components[3].buttons.buttons{rest}");
    let reply = |text: &str| json!({ "type": "QUICK_REPLY", "text": text });
    let url = |text: &str, url: &str| json!({ "type": "URL", "text": text, "url": url });
    let call = |text: &str| json!({ "type": "PHONE_NUMBER", "text": text, "phone_number": "15550051310" });
    let code = json!({ "type": "COPY_CODE", "example": "25OFF" });
    let flow = |field: &str, value: &str| {
        let mut flow = json!({ "type": "FLOW", "text": "Book", "flow_id": "1" });
        if field == "flow_json" {
            set(&mut flow, "/flow_id", Value::Null);
        }
        set(&mut flow, &format!("/{field}"), json!(value));
        flow
    };
    let many: Vec<_> = (0..11).map(|n| reply(&n.to_string())).collect();
    let otp = json!({ "type": "OTP", "otp_type": "COPY_CODE" });
    let x = "https://x.com/a";
    for (buttons, rest, words) in [
        (json!(many), "", "at most 10"),
        (json!([]), "", "at least 1"),
        (json!([reply("A"), reply("B"), reply("A")]), "[2].quick_reply.text", "label of buttons[0]"),
        (json!([reply("A"), call("A")]), "[1].phone_number.text", "label of buttons[0]"),
        (json!([reply("A"), url("U", x), reply("B")]), "[2]", "must stand together"),
        (json!([url("A", x), url("B", x), url("C", x)]), "[2]", "at most 2 url"),
        (json!([call("A"), call("B")]), "[1]", "at most 1 phone_number"),
        (json!([code, code]), "[1]", "at most 1 copy_code"),
        (json!([reply(&"a".repeat(26))]), "[0].quick_reply.text", "25"),
        (
            json!([{ "type": "URL", "text": "A", "url": "https://x.com/{{1}}/a", "example": ["y"] }]),
            "[0].url.url",
            "at the end",
        ),
        (
            json!([{ "type": "URL", "text": "A", "url": "https://x.com/{{1}}/{{2}}", "example": ["y"] }]),
            "[0].url.url",
            "at most one variable",
        ),
        (json!([url("A", "https://x.com/{{1}}")]), "[0].url.example", "is required"),
        (
            json!([{ "type": "URL", "text": "A", "url": x, "example": ["y"] }]),
            "[0].url.example",
            "no variable",
        ),
        (json!([url("A", &format!("{x}{}", "a".repeat(2000)))]), "[0].url.url", "2000"),
        (json!([url("A", "x.com")]), "[0].url.url", "http"),
        (json!([{ "type": "COPY_CODE", "example": "1234567890123456" }]), "[0].copy_code.example", "15"),
        (json!([flow("flow_action", "fly")]), "[0].flow.flow_action", "navigate, data_exchange"),
        (json!([flow("icon", "STAR")]), "[0].flow.icon", "PROMOTION"),
        (json!([flow("flow_json", "{")]), "[0].flow.flow_json", "JSON"),
        // Its text is not repeated.
        (json!([flow("flow_json", "\"call me\"")]), "[0].flow.flow_json", "an object; see line 1, column 9"),
        (json!([{ "type": "FLOW", "text": "Book" }]), "[0].flow", "flow_name"),
        (json!([otp]), "[0]", "for authentication"),
    ] {
        let path = path(rest);
        check(&[("seasonal", &[list(buttons)], &path, words)]);
    }
}

#[test]
fn authentication_buttons() {
    let app = json!({ "package_name": "com.example.luckyshrub", "signature_hash": "K8a/AINcGX7" });
    let field = |name: &str| format!("/components/2/buttons/0/{name}");
    let path = |rest: &str| format!("create.components[2].buttons.buttons[0]{rest}");
    let zero_tap = (field("otp_type"), json!("ZERO_TAP"));
    for (changes, rest, words) in [
        (vec![(field("otp_type"), json!("TWO_TAP"))], ".otp.otp_type", "ZERO_TAP"),
        (vec![(field("supported_apps"), Value::Null)], ".otp.supported_apps", "1 to 5"),
        (vec![(field("supported_apps"), json!(vec![app; 6]))], ".otp.supported_apps", "at most 5"),
        (
            vec![(field("supported_apps/0/package_name"), json!("app"))],
            ".otp.supported_apps[0].package_name",
            "two parts",
        ),
        (
            vec![(field("supported_apps/0/signature_hash"), json!("K8a"))],
            ".otp.supported_apps[0].signature_hash",
            "11",
        ),
        (vec![zero_tap], ".otp.zero_tap_terms_accepted", "must be true"),
        (
            vec![("/components/2/buttons/0".to_owned(), json!({ "type": "QUICK_REPLY", "text": "A" }))],
            "",
            "no quick_reply",
        ),
    ] {
        let changes: Vec<_> =
            changes.iter().map(|(pointer, value)| (pointer.as_str(), value.clone())).collect();
        check(&[("one_tap", &changes, &path(rest), words)]);
    }
    let text = ("/components/2/buttons/0/text", json!("Copy"));
    check(&[("upsert", &[text], "upsert.components[2].buttons.buttons[0].otp.text", "in all")]);
}

#[test]
fn cards() {
    let card = |rest: &str| format!("/components/1/cards/1/components{rest}");
    let path = |rest: &str| format!("create.components[1].carousel.cards[1].components{rest}");
    let three = json!([{ "type": "QUICK_REPLY", "text": "A" }, { "type": "QUICK_REPLY", "text": "B" },
        { "type": "QUICK_REPLY", "text": "C" }]);
    for (changes, expected, words) in [
        (vec![(card("/1/text"), json!("a".repeat(161)))], path("[1].body.text"), "160"),
        (vec![(card("/0/format"), json!("VIDEO"))], path(""), "the first has IMAGE header"),
        (vec![(card("/2/buttons/0"), Value::Null)], path(""), "must be alike"),
        (vec![(card("/1"), Value::Null)], path(""), "must be alike"),
        (
            vec![("/components/1/cards/1".to_owned(), Value::Null)],
            "create.components[1].carousel.cards".to_owned(),
            "at least 2",
        ),
    ] {
        let changes: Vec<_> =
            changes.iter().map(|(pointer, value)| (pointer.as_str(), value.clone())).collect();
        check(&[("media_carousel", &changes, &expected, words)]);
    }
    let body = &mut examples()["media_carousel"].clone();
    set(body, &card("/2/buttons"), three);
    set(body, &card("/-"), json!({ "type": "FOOTER", "text": "x" }));
    set(body, &card("/0/example"), Value::Null);
    let found: Vec<_> = read(&request(body)).unwrap_err().into_iter().map(|(field, _)| field).collect();
    let rest = ["[3]", "[0].header.example.header_handle", "[2].buttons.buttons", ""];
    assert_eq!(found, rest.map(path));
}

/// The reference shows two of them and names no rule against more.
#[test]
fn cards_of_products_are_as_many_as_others() {
    let body = &mut examples()["product_carousel"].clone();
    let card = body["components"][1]["cards"][0].clone();
    set(body, "/components/1/cards/-", card);
    assert!(read(&request(body)).is_ok());
    let button = json!([{ "type": "URL", "text": "View", "url": "https://x.com/a" }]);
    for position in 0..3 {
        set(body, &format!("/components/1/cards/{position}/components/1/buttons"), button.clone());
    }
    assert!(read(&request(body)).is_ok());
}
