//! Components, variables and samples.

use serde_json::{Value, json};

use super::{check, examples, read, request, set};

#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn components() {
    let body = json!({ "type": "BODY", "text": "Hi" });
    let footer = json!({ "type": "FOOTER", "text": "Bye" });
    let offer = json!({ "type": "LIMITED_TIME_OFFER", "limited_time_offer": { "text": "Soon" } });
    let call = json!({ "type": "CALL_PERMISSION_REQUEST" });
    let long = |length: usize| json!("a".repeat(length));
    check(&[
        ("call_permission", &[("/components/0", Value::Null)], "create.components", "must have a body"),
        ("seasonal", &[("/components", json!([]))], "create.components", "must have a body"),
        ("seasonal", &[("/components/-", body.clone())], "create.components[4]", "a body already"),
        (
            "named",
            &[("/components/0", offer.clone()), ("/components/2", Value::Null)],
            "create.components[0].limited_time_offer",
            "marketing",
        ),
        (
            "offer",
            &[("/components/0", json!({ "type": "HEADER", "format": "LOCATION" }))],
            "create.components[1].limited_time_offer",
            "IMAGE or VIDEO",
        ),
        (
            "offer",
            &[("/components/3", footer.clone())],
            "create.components[3].footer",
            "beside a limited_time_offer",
        ),
        (
            "offer",
            &[("/components/2", json!({ "type": "BODY", "text": long(601) }))],
            "create.components[2].body.text",
            "600",
        ),
        (
            "offer",
            &[("/components/1/limited_time_offer/text", long(17))],
            "create.components[1].limited_time_offer.text",
            "16",
        ),
        (
            "seasonal",
            &[("/components/1", json!({ "type": "BODY", "text": long(1025) }))],
            "create.components[1].body.text",
            "1024",
        ),
        (
            "seasonal",
            &[("/components/1", json!({ "type": "BODY", "add_security_recommendation": true, "text": "x" }))],
            "create.components[1].body.add_security_recommendation",
            "authentication",
        ),
        (
            "seasonal",
            &[("/components/1", json!({ "type": "BODY" }))],
            "create.components[1].body.text",
            "is required",
        ),
        ("seasonal", &[("/components/2/text", long(61))], "create.components[2].footer.text", "60"),
        (
            "seasonal",
            &[("/components/2/text", json!("Hi {{1}}!"))],
            "create.components[2].footer.text",
            "no variables",
        ),
        (
            "seasonal",
            &[("/components/2", json!({ "type": "FOOTER" }))],
            "create.components[2].footer.text",
            "is required",
        ),
        (
            "seasonal",
            &[("/components/2/code_expiration_minutes", json!(5))],
            "create.components[2].footer.code_expiration_minutes",
            "authentication",
        ),
        (
            "one_tap",
            &[("/components/1/code_expiration_minutes", json!(91))],
            "create.components[1].footer.code_expiration_minutes",
            "at most 90",
        ),
        (
            "one_tap",
            &[("/components/1", json!({ "type": "FOOTER", "text": "x" }))],
            "create.components[1].footer.text",
            "code_expiration_minutes",
        ),
        (
            "one_tap",
            &[("/components/0/text", json!("Your code"))],
            "create.components[0].body.text",
            "Meta's",
        ),
        ("one_tap", &[("/components/-", call)], "create.components[3]", "no call_permission_request"),
    ]);
}

/// Meta's descriptions come in any, and go back as they came.
#[test]
fn components_stand_in_any_order() {
    for name in ["seasonal", "offer", "media_carousel"] {
        let mut body = examples()[name].clone();
        body["components"].as_array_mut().unwrap().reverse();
        if name == "media_carousel" {
            body["components"][0]["cards"][1]["components"].as_array_mut().unwrap().reverse();
        }
        assert!(read(&request(&body)).is_ok(), "{name}");
    }
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn headers() {
    let header = |format: &str| ("/components/0", json!({ "type": "HEADER", "format": format }));
    let sample = ("/components/0/example", json!({ "header_handle": ["4::a"] }));
    check(&[
        (
            "seasonal",
            &[("/components/0/format", json!("HOLOGRAM"))],
            "create.components[0].header.format",
            "one of TEXT",
        ),
        ("seasonal", &[header("TEXT")], "create.components[0].header.text", "is required"),
        (
            "seasonal",
            &[("/components/0/text", json!("a".repeat(61))), ("/components/0/example", Value::Null)],
            "create.components[0].header.text",
            "60",
        ),
        (
            "seasonal",
            &[("/components/0/text", json!("{{1}} and {{2}}"))],
            "create.components[0].header.text",
            "at most one variable",
        ),
        (
            "seasonal",
            &[("/components/0/text", json!("Our {{2}} is on!"))],
            "create.components[0].header.text",
            "{{1}} is missing",
        ),
        (
            "seasonal",
            &[("/components/0/example", Value::Null)],
            "create.components[0].header.example.header_text",
            "has 0",
        ),
        (
            "seasonal",
            &[("/components/0/example/header_handle", json!(["4::a"]))],
            "create.components[0].header.example.header_handle",
            "format is TEXT",
        ),
        ("seasonal", &[header("IMAGE")], "create.components[0].header.example.header_handle", "UploadMedia"),
        (
            "named",
            &[("/components/0/example/header_handle/0", json!("https://scontent.whatsapp.net/v"))],
            "create.components[0].header.example.header_handle[0]",
            "is a URL",
        ),
        (
            "named",
            &[("/components/0/example/header_handle/0", json!("1234567"))],
            "create.components[0].header.example.header_handle[0]",
            "media id",
        ),
        (
            "named",
            &[("/components/0/example/header_handle/0", json!(""))],
            "create.components[0].header.example.header_handle[0]",
            "UploadMedia",
        ),
        (
            "named",
            &[("/components/0/text", json!("Hi"))],
            "create.components[0].header.text",
            "format is IMAGE",
        ),
        (
            "named",
            &[("/components/0/example/header_text", json!(["x"]))],
            "create.components[0].header.example",
            "samples of texts",
        ),
        (
            "named",
            &[("/components/0/format", json!("GIF"))],
            "create.components[0].header.format",
            "marketing",
        ),
        (
            "seasonal",
            &[header("LOCATION"), sample.clone()],
            "create.components[0].header.example.header_handle",
            "LOCATION has no sample",
        ),
        ("seasonal", &[header("PRODUCT")], "create.components[0].header.format", "spm button"),
        (
            "upsert",
            &[
                ("/components/0", json!({ "type": "HEADER", "format": "LOCATION" })),
                ("/components/1", json!({ "type": "BODY" })),
            ],
            "upsert.components[0]",
            "no header",
        ),
    ]);
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn variables_and_samples() {
    let text = |text: &str| ("/components/1/text", json!(text));
    let text_path = "create.components[1].body.text";
    let samples = |samples: Value| ("/components/1/example/body_text", samples);
    let names = |names: &[(&str, &str)]| {
        let names: Vec<_> = names.iter().map(|(n, e)| json!({ "param_name": n, "example": e })).collect();
        ("/components/1/example/body_text_named_params", json!(names))
    };
    check(&[
        (
            "seasonal",
            &[text("{{1}}, use {{2}} to get {{3}} off.")],
            text_path,
            "begin with the variable {{1}}",
        ),
        ("seasonal", &[text("Use {{1}} with {{2}} and {{3}} ")], text_path, "end with the variable {{3}}"),
        ("seasonal", &[text("Use {{1}}{{2}} and {{3}}.")], text_path, "side by side"),
        ("seasonal", &[text("Use {{1}} and {{2}} and {{4}}.")], text_path, "{{3}} is missing"),
        ("seasonal", &[text("Use {{0}} and {{1}} and {{2}}.")], text_path, "mixes"),
        ("seasonal", &[text("Use {{1}} and {{code}} and {{3}}.")], text_path, "mixes"),
        ("named", &[text("Table for {{Guests}} on {{day}}.")], text_path, "{{Guests}} is no variable"),
        ("named", &[text("Table for {{ guests }} on {{day}}.")], text_path, "is no variable"),
        ("named", &[text("Table for {{}} on {{day}}.")], text_path, "is no variable"),
        ("named", &[("/parameter_format", Value::Null)], text_path, "parameter_format must be NAMED"),
        (
            "seasonal",
            &[
                ("/parameter_format", json!("NAMED")),
                ("/components/0", Value::Null),
                ("/components/0/text", json!("Use {{1}} and {{2}} or {{3}}.")),
            ],
            "create.components[0].body.text",
            "must be POSITIONAL",
        ),
        (
            "named",
            &[text("Table for {{day}} on {{day}}."), names(&[("day", "1")])],
            text_path,
            "{{day}} twice",
        ),
        (
            "seasonal",
            &[samples(json!([["a", "b"]]))],
            "create.components[1].body.example.body_text",
            "3, has 2",
        ),
        (
            "seasonal",
            &[samples(json!([["a", "b", "c", "d"]]))],
            "create.components[1].body.example.body_text",
            "3, has 4",
        ),
        (
            "seasonal",
            &[samples(json!([["a", "", "c"]]))],
            "create.components[1].body.example.body_text[1]",
            "must not be empty",
        ),
        (
            "seasonal",
            &[("/components/1/example", Value::Null)],
            "create.components[1].body.example.body_text",
            "3, has 0",
        ),
        ("seasonal", &[text("Hi")], "create.components[1].body.example.body_text", "has no variables"),
        (
            "named",
            &[samples(json!([["a", "b"]]))],
            "create.components[1].body.example.body_text",
            "the variables have names",
        ),
        (
            "named",
            &[names(&[("guests", "4")])],
            "create.components[1].body.example.body_text_named_params",
            "{{day}}",
        ),
        (
            "named",
            &[names(&[("guests", "4"), ("day", "x"), ("night", "y")])],
            "create.components[1].body.example.body_text_named_params[2].param_name",
            "no variable {{night}}",
        ),
        (
            "named",
            &[names(&[("guests", "4"), ("day", "x"), ("day", "y")])],
            "create.components[1].body.example.body_text_named_params[2].param_name",
            "already",
        ),
    ]);
    // An edit that does not say which format it has may have either, but not both.
    let mut edit = examples()["edit"].clone();
    set(&mut edit, "/parameter_format", Value::Null);
    set(&mut edit, "/components/1", examples()["named"]["components"][1].clone());
    assert!(read(&request(&edit)).is_ok());
}
