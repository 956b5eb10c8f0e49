//! The rules of sends as tables: a change to a good body, and the code that Meta answers.

use std::time::SystemTime;

use bytes::Bytes;
use serde_json::json;

use super::*;
use crate::simulator::account::Account;
use crate::simulator::media::Medium;
use crate::simulator::templates::Template;

struct Fixture {
    number: Number,
    templates: Templates,
    media: MediaStore,
}

impl Fixture {
    fn new() -> Self {
        let number = Account::default().numbers.remove(0);
        let mut media = MediaStore::with_ready_media([number.phone_number_id.as_str()].into_iter());
        let foreign = Bytes::from_static(b"x");
        media.insert(Medium::new("88".to_owned(), "another number", "image/png", foreign, None));
        let hello = Template::hello_world(1, &number.waba_id, SystemTime::UNIX_EPOCH);
        let mut templates = Templates::default();
        let template = |name: &str, status: &str, category: &str, components| Template {
            name: name.to_owned(),
            status: status.to_owned(),
            category: category.to_owned(),
            components: serde_json::from_value(components).unwrap(),
            ..hello.clone()
        };
        let body = |text: &str| json!([{ "type": "BODY", "text": text }]);
        templates.all = vec![
            hello.clone(),
            template("two", "APPROVED", "UTILITY", body("Hi {{1}}, order {{2}} is here.")),
            template("paused", "PAUSED", "UTILITY", body("x")),
            template("disabled", "DISABLED", "UTILITY", body("x")),
            template("waiting", "PENDING", "UTILITY", body("x")),
            Template {
                parameter_format: "NAMED".to_owned(),
                ..template("named", "APPROVED", "UTILITY", body("Hi {{name}}!"))
            },
            template(
                "code",
                "APPROVED",
                "AUTHENTICATION",
                json!([
                    { "type": "BODY", "add_security_recommendation": true },
                    { "type": "BUTTONS", "buttons": [{ "type": "OTP", "otp_type": "COPY_CODE" }] },
                ]),
            ),
            template(
                "picture",
                "APPROVED",
                "MARKETING",
                json!([
                    { "type": "HEADER", "format": "IMAGE" },
                    { "type": "BODY", "text": "Look" },
                    { "type": "BUTTONS", "buttons": [{ "type": "QUICK_REPLY", "text": "Stop" }] },
                ]),
            ),
        ];
        Self { number, templates, media }
    }

    fn judge(&self, body: &Value) -> Result<Draft, GraphError> {
        let facts = Facts {
            number: &self.number,
            templates: &self.templates,
            media: &self.media,
            now: SystemTime::UNIX_EPOCH,
            version: 25,
        };
        judge(body, &facts)
    }
}

fn message(kind: &str, content: &Value) -> Value {
    json!({ "messaging_product": "whatsapp", "to": "+16505551234", "type": kind, kind: content })
}

fn changed(key: &str, value: &Value) -> Value {
    let mut body = message("text", &json!({ "body": "Hi" }));
    let fields = body.as_object_mut().unwrap();
    if value.is_null() {
        fields.remove(key);
    } else {
        fields.insert(key.to_owned(), value.clone());
    }
    body
}

fn template(name: &str, components: &Value) -> Value {
    message("template", &json!({ "name": name, "language": { "code": "en_US" }, "components": components }))
}

fn code_of(body: &Value) -> u32 {
    Fixture::new().judge(body).map_or_else(|error| error.code, |_| 0)
}

#[test]
fn the_envelope_of_a_send() {
    for (key, value, code) in [
        ("type", Value::Null, 0),
        ("biz_opaque_callback_data", json!("x".repeat(512)), 0),
        ("context", json!({ "message_id": "wamid.A" }), 0),
        ("messaging_product", Value::Null, 100),
        ("messaging_product", json!("facebook"), 100),
        ("to", Value::Null, 100),
        ("to", json!(16_505_551_234_u64), 100),
        ("to", json!("not a number"), 131_009),
        ("to", json!("+15550783881"), 131_021),
        ("recipient_type", json!("everyone"), 100),
        ("type", json!("poll"), 100),
        ("type", json!("image"), 131_008),
        ("text", Value::Null, 131_008),
        ("image", json!({ "id": "1" }), 100),
        ("mesage", json!("misspelt"), 100),
        ("biz_opaque_callback_data", json!("x".repeat(513)), 100),
        ("context", json!({}), 131_008),
        ("context", json!({ "message_id": 7 }), 131_009),
    ] {
        assert_eq!(code_of(&changed(key, &value)), code, "{key}: {value}");
    }
}

#[test]
fn recipients() {
    let fixture = Fixture::new();
    let recipient = |change: &dyn Fn(&mut Value)| {
        let mut body = changed("to", &Value::Null);
        change(&mut body);
        fixture.judge(&body).map(|draft| draft.recipient).map_err(|error| error.code)
    };
    let phone = || Ok(Recipient::Phone("16505551234".to_owned()));
    assert_eq!(recipient(&|body| body["to"] = json!("+1 (650) 555-1234")), phone());
    assert_eq!(recipient(&|body| body["to"] = json!("6505551234")), phone());
    assert_eq!(recipient(&|body| body["recipient"] = json!("US.1")), Ok(Recipient::User("US.1".to_owned())));
    assert_eq!(recipient(&|body| body["recipient"] = json!("16505551234")), Err(131_009));
    assert_eq!(
        recipient(&|body| {
            body["to"] = json!("+16505551234");
            body["recipient"] = json!("US.1");
        }),
        phone(),
        "`to` wins"
    );
    assert_eq!(
        recipient(&|body| {
            body["to"] = json!("Y2FwaV9");
            body["recipient_type"] = json!("group");
        }),
        Ok(Recipient::Group("Y2FwaV9".to_owned()))
    );
}

#[test]
fn contents() {
    let image = "10000000000001";
    for (kind, content, code) in [
        ("text", json!({ "body": "x".repeat(4096), "preview_url": true }), 0),
        ("text", json!({ "body": "ä".repeat(4096) }), 0),
        ("text", json!({ "body": "x".repeat(4097) }), 100),
        ("text", json!({ "body": "" }), 131_008),
        ("text", json!({ "body": "x", "preview_url": "yes" }), 100),
        ("text", json!({ "body": "x", "preview": true }), 100),
        ("text", json!("x"), 100),
        ("image", json!({ "id": image, "caption": "x".repeat(1024) }), 0),
        ("image", json!({ "id": image, "caption": "x".repeat(1025) }), 100),
        ("image", json!({ "link": "https://example.com/a.png" }), 0),
        ("image", json!({ "link": "example.com/a.png" }), 100),
        ("image", json!({ "link": "ftp://example.com/a.png" }), 100),
        ("image", json!({}), 131_008),
        ("image", json!({ "id": image, "link": "https://example.com/a.png" }), 131_009),
        ("image", json!({ "id": "42" }), 100),
        ("image", json!({ "id": "88" }), 100),
        ("audio", json!({ "id": "10000000000003", "voice": true }), 0),
        ("audio", json!({ "id": "10000000000003", "caption": "x" }), 100),
        ("document", json!({ "id": "10000000000004", "filename": "a.pdf", "caption": "x" }), 0),
        ("sticker", json!({ "id": "10000000000005", "caption": "x" }), 100),
        ("location", json!({ "latitude": 1.5, "longitude": 2.5 }), 0),
        ("location", json!({ "latitude": 1.5 }), 131_008),
        ("contacts", json!([{ "name": { "formatted_name": "A" } }]), 0),
        ("contacts", json!([]), 100),
        ("contacts", json!([{ "name": {} }]), 131_008),
        ("reaction", json!({ "message_id": "wamid.A", "emoji": "" }), 0),
        ("interactive", json!({ "type": "button", "action": {} }), 0),
        ("interactive", json!({ "type": "button" }), 131_008),
    ] {
        assert_eq!(code_of(&message(kind, &content)), code, "{kind}: {content}");
    }
}

#[test]
fn media_that_fail_later() {
    let mut fixture = Fixture::new();
    let big = Bytes::from(vec![0; 5_000_001]);
    fixture.media.insert(Medium::new(
        "77".to_owned(),
        &fixture.number.phone_number_id,
        "image/png",
        big,
        None,
    ));
    for (kind, content, fails) in [
        ("image", json!({ "id": "10000000000001" }), false),
        ("image", json!({ "id": "10000000000002" }), true),
        ("image", json!({ "id": "77" }), true),
        ("document", json!({ "id": "10000000000001" }), false),
        ("image", json!({ "link": "https://files.invalid/a.png" }), true),
    ] {
        let draft = fixture.judge(&message(kind, &content)).unwrap();
        assert_eq!(draft.late_failure.map(|(code, _)| code), fails.then_some(131_053), "{kind}: {content}");
    }
}

#[test]
fn templates() {
    let text = |text: &str| json!({ "type": "text", "text": text });
    let body = |parameters: Value| json!([{ "type": "body", "parameters": parameters }]);
    let header = |parameter: Value| json!([{ "type": "header", "parameters": [parameter] }]);
    let image = json!({ "type": "image", "image": { "id": "10000000000001" } });
    for (name, components, code) in [
        ("hello_world", json!([]), 0),
        ("hello_world", body(json!([text("x")])), 132_000),
        ("missing", json!([]), 132_001),
        ("waiting", json!([]), 132_001),
        ("paused", json!([]), 132_015),
        ("disabled", json!([]), 132_016),
        ("two", body(json!([text("Pablo"), text("7")])), 0),
        ("two", body(json!([text("Pablo")])), 132_000),
        ("two", json!([]), 132_000),
        ("two", body(json!([text("Pablo"), text("")])), 131_008),
        ("two", body(json!([text("Pablo"), text("a\nb")])), 132_018),
        ("two", body(json!([text("Pablo"), text(&"x".repeat(1000))])), 132_005),
        ("two", body(json!([text("Pablo"), text(&"x".repeat(999))])), 0),
        ("two", body(json!([text("Pablo"), { "type": "image" }])), 132_012),
        ("named", body(json!([{ "type": "text", "parameter_name": "name", "text": "Pablo" }])), 0),
        ("named", body(json!([text("Pablo")])), 132_018),
        ("picture", header(image.clone()), 0),
        ("picture", json!([]), 132_012),
        ("picture", header(json!({ "type": "video", "video": { "id": "1" } })), 132_012),
        (
            "picture",
            json!([
                { "type": "header", "parameters": [image] },
                { "type": "button", "sub_type": "url", "index": "0", "parameters": [text("x")] },
            ]),
            132_012,
        ),
        ("code", body(json!([text("123456")])), 131_008),
    ] {
        assert_eq!(code_of(&template(name, &components)), code, "{name}: {components}");
    }
}

#[test]
fn one_time_passwords_go_to_numbers_only() {
    let code = json!([{ "type": "text", "text": "123456" }]);
    let mut body = template(
        "code",
        &json!([
            { "type": "body", "parameters": code },
            { "type": "button", "sub_type": "url", "index": "0", "parameters": code },
        ]),
    );
    assert_eq!(code_of(&body), 0);
    body.as_object_mut().unwrap().remove("to");
    body["recipient"] = json!("US.1");
    assert_eq!(code_of(&body), 131_062);
}
