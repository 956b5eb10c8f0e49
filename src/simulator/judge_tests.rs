//! The rules of sends as tables: a change to a good body, and the code that Meta answers.

use std::time::SystemTime;

use serde_json::json;

use super::*;
use crate::simulator::account::Account;
use crate::simulator::content;
use crate::simulator::media::Medium;
use crate::simulator::templates::Template;

/// A card of a template: an image, and a button with a variable.
fn card() -> Value {
    json!({ "components": [
        { "type": "HEADER", "format": "IMAGE" },
        { "type": "BUTTONS", "buttons": [{ "type": "URL", "text": "Buy", "url": "https://example.com/{{1}}" }] },
    ] })
}

fn product_card() -> Value {
    json!({ "components": [
        { "type": "HEADER", "format": "PRODUCT" },
        { "type": "BUTTONS", "buttons": [{ "type": "SPM", "text": "View" }] },
    ] })
}

/// An offer, carousels, and what Meta made of a Direct Send.
fn special_kinds(template: &impl Fn(&str, &str, &str, Value) -> Template) -> Vec<Template> {
    vec![
        template(
            "offer",
            "APPROVED",
            "MARKETING",
            json!([
                { "type": "BODY", "text": "Look" },
                { "type": "LIMITED_TIME_OFFER", "limited_time_offer": { "text": "Soon" } },
                { "type": "BUTTONS", "buttons": [{ "type": "MPM", "text": "View" }] },
            ]),
        ),
        template(
            "products",
            "APPROVED",
            "MARKETING",
            json!([
                { "type": "BODY", "text": "Look" },
                { "type": "CAROUSEL", "cards": [product_card(), product_card()] },
            ]),
        ),
        Template {
            extra: json!({ "source": "AUTO_GENERATED" }).as_object().unwrap().clone(),
            ..template("generated", "APPROVED", "UTILITY", json!([{ "type": "BODY", "text": "x" }]))
        },
        template(
            "cards",
            "APPROVED",
            "MARKETING",
            json!([
                { "type": "BODY", "text": "Hi {{1}}" },
                { "type": "CAROUSEL", "cards": [card(), card()] },
            ]),
        ),
    ]
}

struct Fixture {
    number: Number,
    templates: Templates,
    media: MediaStore,
}

impl Fixture {
    fn new() -> Self {
        let number = Account::default().numbers.remove(0);
        let mut media = MediaStore::with_ready_media([number.phone_number_id.as_str()].into_iter());
        let foreign = content::Content::filled(1);
        media.insert(Medium::new("88".to_owned(), "another number", "image/png", foreign, None));
        let hello = Template::hello_world(1, &number.waba_id, SystemTime::UNIX_EPOCH);
        let mut templates = Templates::default();
        let template = |name: &str, status: &str, category: &str, components: Value| Template {
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
        templates.all.extend(special_kinds(&template));
        Self { number, templates, media }
    }

    fn judge(&self, body: &Value) -> Result<Draft, GraphError> {
        let facts = Facts {
            number: &self.number,
            templates: &self.templates,
            media: &self.media,
            now: SystemTime::UNIX_EPOCH,
            version: 25,
            is_marketing: body.get("product_policy").is_some(),
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
        ("location", json!({ "latitude": "37.4", "longitude": "-122.1", "name": "n" }), 0),
        ("location", json!({ "latitude": 91, "longitude": 0 }), 131_009),
        ("contacts", json!([{ "name": { "formatted_name": "A B", "first_name": "A" } }]), 0),
        ("contacts", json!([{ "name": { "formatted_name": "A" } }]), 131_009),
        ("contacts", json!([]), 100),
        ("contacts", json!([{ "name": {} }]), 131_008),
        ("reaction", json!({ "message_id": "wamid.A", "emoji": "" }), 0),
        ("reaction", json!({ "message_id": "wamid.A", "emoji": "😀" }), 0),
        ("reaction", json!({ "message_id": "wamid.A", "emoji": "yes" }), 131_009),
        ("reaction", json!({ "message_id": "wamid.A" }), 131_008),
        ("pin", json!({ "type": "pin", "message_id": "wamid.A" }), 100),
    ] {
        assert_eq!(code_of(&message(kind, &content)), code, "{kind}: {content}");
    }
}

#[test]
fn media_that_fail_later() {
    let mut fixture = Fixture::new();
    let big = content::Content::filled(5_000_001);
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

#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn interactive_messages() {
    let with =
        |kind: &str, action: Value| json!({ "type": kind, "body": { "text": "Body" }, "action": action });
    let changed = |mut value: Value, key: &str, change: Value| {
        value[key] = change;
        value
    };
    let named = |name: &str, parameters: Value| json!({ "name": name, "parameters": parameters });
    let reply = |id: &str| json!({ "type": "reply", "reply": { "id": id, "title": format!("T{id}") } });
    let buttons = |ids: &[&str]| {
        with("button", json!({ "buttons": ids.iter().map(|id| reply(id)).collect::<Vec<_>>() }))
    };
    let rows = |count: usize| {
        let rows: Vec<_> = (0..count).map(|at| json!({ "id": format!("{at}"), "title": "Row" })).collect();
        with("list", json!({ "button": "Open", "sections": [{ "rows": rows }] }))
    };
    let link = |url: &str| with("cta_url", named("cta_url", json!({ "display_text": "Go", "url": url })));
    let image = json!({ "type": "image", "image": { "link": "https://example.com/a.png" } });
    let card = |index: u32, header: &Value| {
        json!({ "card_index": index, "type": "cta_url", "header": header,
            "action": named("cta_url", json!({ "display_text": "Go", "url": "https://example.com" })) })
    };
    let video = json!({ "type": "video", "video": { "link": "https://example.com/a.mp4" } });
    let cards = |cards: Value| with("carousel", json!({ "cards": cards }));
    let products = |count: usize| {
        let items: Vec<_> = (0..count).map(|_| json!({ "product_retailer_id": "p" })).collect();
        let list = with(
            "product_list",
            json!({ "catalog_id": "c",
            "sections": [{ "title": "S", "product_items": items }] }),
        );
        changed(list, "header", json!({ "type": "text", "text": "Head" }))
    };
    let flow = |parameters: Value| with("flow", named("flow", parameters));
    let order = |total: i64| {
        let amount = |value: i64| json!({ "value": value, "offset": 100 });
        with(
            "order_details",
            named(
                "review_and_pay",
                json!({ "reference_id": "r", "type": "digital-goods",
            "currency": "INR", "total_amount": amount(total), "order": { "status": "pending",
                "items": [{ "name": "Bread", "amount": amount(1500), "sale_amount": amount(1000),
                    "quantity": 2 }],
                "subtotal": amount(2000), "tax": amount(100), "discount": amount(50) } }),
            ),
        )
    };
    for (content, code) in [
        (buttons(&["a", "b", "c"]), 0),
        (buttons(&["a", "b", "c", "d"]), 131_009),
        (buttons(&[]), 131_009),
        (buttons(&["a", "a"]), 131_009),
        (buttons(&[" a"]), 131_009),
        (changed(buttons(&["a"]), "header", image.clone()), 0),
        (changed(buttons(&["a"]), "header", json!({ "type": "sticker" })), 131_009),
        (changed(buttons(&["a"]), "body", json!({ "text": "x".repeat(1025) })), 131_009),
        (changed(buttons(&["a"]), "footer", json!({ "text": "x".repeat(61) })), 131_009),
        (changed(buttons(&["a"]), "colour", json!("red")), 100),
        (json!({ "type": "button", "body": { "text": "x" } }), 131_008),
        (json!({ "type": "hologram", "action": {} }), 131_009),
        (rows(10), 0),
        (rows(11), 131_009),
        (changed(rows(1), "header", image.clone()), 131_009),
        (link("https://example.com"), 0),
        (link("ftp://example.com"), 131_009),
        (with("cta_url", named("other", json!({}))), 131_009),
        (cards(json!([card(0, &image), card(1, &image)])), 0),
        (cards(json!([card(0, &image)])), 131_009),
        (cards(json!([card(0, &image), card(0, &image)])), 131_009),
        (cards(json!([card(0, &image), card(1, &video)])), 131_009),
        (products(30), 0),
        (products(31), 131_009),
        (json!({ "type": "product", "action": { "catalog_id": "c", "product_retailer_id": "p" } }), 0),
        (with("catalog_message", json!({ "name": "catalog_message" })), 0),
        (flow(json!({ "flow_message_version": "3", "flow_id": "1", "flow_cta": "Go" })), 0),
        (flow(json!({ "flow_message_version": "3", "flow_cta": "Go" })), 131_008),
        (with("location_request_message", json!({ "name": "send_location" })), 0),
        (
            changed(
                with("location_request_message", json!({ "name": "send_location" })),
                "footer",
                json!({ "text": "x" }),
            ),
            131_009,
        ),
        (with("address_message", named("address_message", json!({ "country": "IN" }))), 0),
        (json!({ "type": "call_permission_request", "action": { "name": "call_permission_request" } }), 0),
        (with("voice_call", named("voice_call", json!({ "ttl_minutes": 43_201 }))), 131_009),
        (with("request_contact_info", json!({ "name": "request_contact_info" })), 0),
        (order(2050), 0),
        (order(2000), 131_009),
        (
            with(
                "order_status",
                named(
                    "review_order",
                    json!({ "reference_id": "r",
            "order": { "status": "shipped" } }),
                ),
            ),
            0,
        ),
        (
            with(
                "order_status",
                named(
                    "review_order",
                    json!({ "reference_id": "r",
            "order": { "status": "lost" } }),
                ),
            ),
            131_009,
        ),
    ] {
        assert_eq!(code_of(&message("interactive", &content)), code, "{content}");
    }
    let mut to_group = message("interactive", &buttons(&["a"]));
    to_group["recipient_type"] = json!("group");
    assert_eq!(code_of(&to_group), 100);
}

#[test]
fn special_templates() {
    let offer = |ends: i64| {
        json!({ "type": "limited_time_offer", "parameters": [{ "type": "limited_time_offer",
            "limited_time_offer": { "expiration_time_ms": ends } }] })
    };
    let button = |parameters: Value| json!({ "type": "button", "sub_type": "mpm", "index": 0, "parameters": parameters });
    let products = json!([{ "type": "action", "action": { "sections": [
        { "product_items": [{ "product_retailer_id": "p" }] }] } }]);
    let body = json!({ "type": "body", "parameters": [{ "type": "text", "text": "Pablo" }] });
    let card = |index: u32| {
        json!({ "card_index": index, "components": [
            { "type": "header", "parameters": [{ "type": "image", "image": { "id": "10000000000001" } }] },
            { "type": "button", "sub_type": "url", "index": "0",
                "parameters": [{ "type": "text", "text": "x" }] },
        ] })
    };
    let carousel = |cards: Value| json!([body, { "type": "carousel", "cards": cards }]);
    let products_of = |count: u32| {
        let product = json!({ "product_retailer_id": "p", "catalog_id": "1" });
        let header = json!({ "type": "header", "parameters": [{ "type": "product", "product": product }] });
        let cards = (0..count).map(|index| json!({ "card_index": index, "components": [header] }));
        json!([{ "type": "carousel", "cards": cards.collect::<Vec<_>>() }])
    };
    for (name, components, code) in [
        ("offer", json!([offer(1), button(products.clone())]), 0),
        ("offer", json!([offer(-1), button(products.clone())]), 131_009),
        ("offer", json!([offer(1)]), 131_008),
        (
            "offer",
            json!([offer(1), button(json!([{ "type": "action", "action": { "sections": [] } }]))]),
            131_009,
        ),
        ("hello_world", json!([offer(1)]), 132_018),
        ("hello_world", json!([{ "type": "poll" }]), 100),
        ("products", products_of(2), 0),
        ("products", products_of(10), 0),
        ("products", products_of(11), 131_009),
        ("generated", json!([]), 132_018),
        ("cards", carousel(json!([card(0), card(1)])), 0),
        ("cards", carousel(json!([card(0), card(1), card(2)])), 132_000),
        ("cards", carousel(json!([card(0), card(5)])), 131_009),
        ("hello_world", json!([{ "type": "carousel", "cards": [card(0), card(1)] }]), 132_018),
    ] {
        assert_eq!(code_of(&template(name, &components)), code, "{name}: {components}");
    }
}

#[test]
fn direct_send_and_marketing() {
    let with = |fields: Value| {
        let mut body = message("text", &json!({ "body": "Hi" }));
        body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        body
    };
    for (fields, code) in [
        (
            json!({ "category": "utility", "ttl_seconds": 43_200,
            "direct_send_config": { "template_name": "order_shipped" } }),
            0,
        ),
        (json!({ "category": "authentication", "ttl_seconds": 901 }), 100),
        (json!({ "category": "marketing" }), 100),
        (json!({ "ttl_seconds": 60 }), 100),
        (json!({ "category": "utility", "text": { "body": "x", "preview_url": true } }), 100),
        (json!({ "product_policy": "STRICT" }), 134_100),
    ] {
        assert_eq!(code_of(&with(fields.clone())), code, "{fields}");
    }
    let draft = Fixture::new().judge(&with(json!({ "category": "utility" }))).unwrap();
    assert_eq!(draft.template_category.as_deref(), Some("UTILITY"), "it needs no window");
    let image = json!([{ "type": "header", "parameters": [
        { "type": "image", "image": { "id": "10000000000001" } }] }]);
    let mut marketing = template("picture", &image);
    marketing["product_policy"] = json!("CLOUD_API_FALLBACK");
    assert_eq!(code_of(&marketing), 0);
    marketing["product_policy"] = json!("ALWAYS");
    assert_eq!(code_of(&marketing), 100);
    assert_eq!(code_of(&changed("product_policy", &json!("STRICT"))), 134_100);
}
