//! The rules between fields as tables: a body of Meta's, and what is wrong with it.

use prost::Message as _;
use serde_json::{Value, json};

use super::{Endpoint, Value as Tree, Violations, outbound, v1};
use crate::contract::request_of;

/// The violations of a body, as `field description`.
fn violations_of(body: &Value) -> Vec<String> {
    let converted = request_of(body).unwrap();
    assert_eq!(converted.untyped, [""; 0], "{body}");
    let request = v1::SendMessageRequest::decode(converted.encoded.as_slice()).unwrap();
    let mut found = Violations::default();
    let read = outbound(&request, &mut found);
    assert_eq!(read.is_none(), !found.is_empty());
    found.into_inner().into_iter().map(|v| format!("{} {}", v.field, v.description)).collect()
}

fn send(kind: &str, content: &Value) -> Value {
    json!({ "to": "+16505551234", "type": kind, kind: content })
}

/// Each body is refused for what `expected` says, or passes where that is empty.
fn check(kind: &str, cases: &[(Value, &str)]) {
    for (content, expected) in cases {
        let found = violations_of(&send(kind, content));
        let expected: Vec<_> = Some(*expected).filter(|text| !text.is_empty()).into_iter().collect();
        assert_eq!(found, expected, "{content}");
    }
}

fn interactive(kind: &str, action: &Value) -> Value {
    json!({ "type": kind, "body": { "text": "Body" }, "action": action })
}

fn changed(mut content: Value, key: &str, value: Value) -> Value {
    content[key] = value;
    content
}

fn named(name: &str, parameters: &Value) -> Value {
    json!({ "name": name, "parameters": parameters })
}

fn buttons(ids: &[&str]) -> Value {
    let button = |id: &&str| json!({ "type": "reply", "reply": { "id": id, "title": format!("T{id}") } });
    interactive("button", &json!({ "buttons": ids.iter().map(button).collect::<Vec<_>>() }))
}

fn rows(counts: &[usize]) -> Value {
    let row = |section: usize, at: usize| json!({ "id": format!("{section}-{at}"), "title": "Row" });
    let section = |(section, count): (usize, &usize)| json!({ "title": "S", "rows": (0..*count).map(|at| row(section, at)).collect::<Vec<_>>() });
    let sections: Vec<_> = counts.iter().enumerate().map(section).collect();
    interactive("list", &json!({ "button": "Open", "sections": sections }))
}

fn image() -> Value {
    json!({ "type": "image", "image": { "link": "https://example.com/a.png" } })
}

fn footer() -> Value {
    json!({ "text": "Foot" })
}

#[test]
fn the_wrong_shape_says_which_fits() {
    let many: Vec<String> = (0..11).map(|at| at.to_string()).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    check(
        "interactive",
        &[
            (buttons(&["a", "b", "c"]), ""),
            (
                buttons(&["a", "b", "c", "d"]),
                "interactive.button.buttons must have at most 3 entries, has 4; use list, which takes up to 10 rows",
            ),
            (
                buttons(&many),
                "interactive.button.buttons must have at most 3 entries, has 11; use several messages, or a Flow, \
                 which has no such limit",
            ),
            (rows(&[4, 6]), ""),
            (
                rows(&[5, 6]),
                "interactive.list.sections must have at most 10 rows together, has 11; use several messages, or a \
                 Flow, which has no such limit",
            ),
            (
                interactive("carousel", &json!({ "cards": [link_card(0)] })),
                "interactive.carousel.cards must have at least 2 entries; for a single card use cta_url",
            ),
            (
                products(31),
                "interactive.product_list.sections must have at most 30 products together, has 31; use \
                 catalog_message for the whole catalog, or several messages",
            ),
        ],
    );
}

fn products(count: usize) -> Value {
    let items: Vec<_> = (0..count).map(|_| json!({ "product_retailer_id": "p" })).collect();
    let sections = json!([{ "title": "S", "product_items": items }]);
    let list = interactive("product_list", &json!({ "catalog_id": "c", "sections": sections }));
    changed(list, "header", json!({ "type": "text", "text": "Head" }))
}

fn link_card(index: u32) -> Value {
    json!({ "card_index": index, "type": "cta_url", "header": image(),
        "action": named("cta_url", &json!({ "display_text": "Go", "url": "https://example.com" })) })
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn ids_titles_and_frames() {
    let titled =
        |title: &str| json!({ "type": "reply", "reply": { "id": title.to_lowercase(), "title": "T" } });
    let untitled = json!({ "button": "Open", "sections": [
        { "title": "S", "rows": [{ "id": "a", "title": "A" }] }, { "rows": [{ "id": "b", "title": "B" }] }] });
    let place = interactive("location_request_message", &json!({ "name": "send_location" }));
    let captioned = json!({ "type": "image", "image": { "id": "5", "caption": "x" } });
    assert_eq!(
        violations_of(&send("interactive", &buttons(&["a", "a"]))),
        [
            "interactive.button.buttons[1].reply.id must be unique in the message",
            "interactive.button.buttons[1].reply.title must be unique in the message",
        ]
    );
    check(
        "interactive",
        &[
            (
                interactive("button", &json!({ "buttons": [titled("A"), titled("B")] })),
                "interactive.button.buttons[1].reply.title must be unique in the message",
            ),
            (buttons(&[" a"]), "interactive.button.buttons[0].reply.id must not begin or end with a space"),
            (
                interactive("list", &untitled),
                "interactive.list.sections[1].title is required when there are several sections",
            ),
            (changed(buttons(&["a"]), "header", image()), ""),
            (
                changed(rows(&[1]), "header", image()),
                "interactive.header must be text: list has no header of kind image",
            ),
            (
                changed(buttons(&["a"]), "header", captioned),
                "interactive.header.image.caption must be absent: media in headers have no caption",
            ),
            (
                changed(
                    buttons(&["a"]),
                    "header",
                    json!({ "type": "image", "image": { "link": "http://x.com" } }),
                ),
                "interactive.header.image.link must be a public https URL, such as https://example.com/file.jpg: \
                 Meta fetches it",
            ),
            (
                changed(place.clone(), "header", image()),
                "interactive.header must be absent: location_request_message has no header",
            ),
            (
                changed(place.clone(), "footer", footer()),
                "interactive.footer must be absent: location_request_message has no footer",
            ),
            (changed(place, "body", Value::Null), "interactive.body is required by location_request_message"),
            (
                changed(products(1), "header", Value::Null),
                "interactive.header is required: product_list needs a text header",
            ),
            (json!({ "type": "product", "action": { "catalog_id": "c", "product_retailer_id": "p" } }), ""),
            (changed(rows(&[1]), "body", json!({ "text": "x".repeat(4096) })), ""),
            (
                changed(buttons(&["a"]), "body", json!({ "text": "x".repeat(1025) })),
                "interactive.body.text must have at most 1024 characters, has 1025",
            ),
            (
                interactive(
                    "flow",
                    &named(
                        "flow",
                        &json!({ "flow_message_version": "3", "flow_id": "1",
                    "flow_cta": "x".repeat(31) }),
                    ),
                ),
                "interactive.flow.flow_cta must have at most 30 characters, has 31",
            ),
        ],
    );
}

#[test]
fn carousels() {
    let quick = |index: u32, id: &str| {
        json!({ "card_index": index, "type": "cta_url", "header": image(), "action": { "buttons": [
            { "type": "quick_reply", "quick_reply": { "id": id, "title": "T" } }] } })
    };
    let product = |index: u32, catalog: &str| {
        json!({ "card_index": index, "type": "product",
            "action": { "catalog_id": catalog, "product_retailer_id": "p" } })
    };
    let cards = |cards: Value| interactive("carousel", &json!({ "cards": cards }));
    let path = "interactive.carousel.cards";
    let alike = "must have the same kinds of header and buttons as the first card";
    let cases = [
        (cards(json!([link_card(0), link_card(1)])), String::new()),
        (cards(json!([quick(0, "a"), quick(1, "b")])), String::new()),
        (cards(json!([product(0, "c"), product(1, "c")])), String::new()),
        (cards(json!([link_card(0), link_card(0)])), format!("{path}[1].card_index must be unique")),
        (cards(json!([link_card(0), quick(1, "a")])), format!("{path}[1] {alike}")),
        (
            cards(json!([quick(0, "a"), quick(1, "a")])),
            format!("{path}[1].button.buttons[0].quick_reply.id must be unique in the message"),
        ),
        (
            cards(json!([product(0, "c"), product(1, "d")])),
            format!("{path}[1].product.catalog_id must be that of the first card"),
        ),
        (
            cards(json!([link_card(0), changed(link_card(1), "body", json!({ "text": "a\nb\nc\nd" }))])),
            format!("{path}[1].body.text must have at most 2 line breaks"),
        ),
        (
            cards(json!([link_card(0), changed(link_card(1), "header", Value::Null)])),
            format!("{path}[1].header is required: an image or a video"),
        ),
    ];
    for (content, expected) in &cases {
        let found = violations_of(&send("interactive", content));
        let first = found.first().map_or("", String::as_str);
        assert_eq!(first, expected, "{found:?}");
    }
}

#[test]
fn orders_add_up() {
    let amount = |value: i64| json!({ "value": value, "offset": 100 });
    let order = |subtotal: i64, total: i64| {
        interactive(
            "order_details",
            &named(
                "review_and_pay",
                &json!({ "reference_id": "r",
            "type": "digital-goods", "currency": "INR", "total_amount": amount(total),
            "order": { "status": "pending", "items": [
                    { "name": "Bread", "amount": amount(1500), "sale_amount": amount(1000), "quantity": 2 }],
                "subtotal": amount(subtotal), "tax": amount(100), "discount": amount(50) } }),
            ),
        )
    };
    check(
        "interactive",
        &[
            (order(2000, 2050), ""),
            (
                order(3000, 3050),
                "interactive.order_details.order.subtotal.value must be the sum of the items, 2000, and is 3000",
            ),
            (
                order(2000, 2000),
                "interactive.order_details.total_amount.value must be subtotal plus tax plus shipping minus \
                 discount, 2050, and is 2000",
            ),
        ],
    );
}

#[test]
fn templates() {
    let template =
        |components: Value| json!({ "name": "t", "language": { "code": "en_US" }, "components": components });
    let payload = json!([{ "type": "payload", "payload": "x" }]);
    let button = |index: u32| json!({ "type": "button", "sub_type": "quick_reply", "index": index, "parameters": payload });
    let header = |kind: &str, id: &str| json!({ "type": "header", "parameters": [{ "type": kind, kind: { "id": id } }] });
    let card =
        |index: u32, kind: &str| json!({ "card_index": index, "components": [header(kind, "5"), button(0)] });
    let carousel = |cards: Value| template(json!([{ "type": "carousel", "cards": cards }]));
    let captioned = json!({ "type": "header", "parameters": [
        { "type": "image", "image": { "id": "5", "caption": "x" } }] });
    let path = "template.components";
    let nested = json!({ "card_index": 1, "components": [header("image", "5"), button(0),
        { "type": "order_status", "parameters": [] }] });
    let cases = [
        (template(json!([header("image", "5"), button(0), button(1)])), String::new()),
        (
            template(json!([button(0), button(0)])),
            format!("{path}[1].button.index must be unique: it is the position among all buttons, from 0"),
        ),
        (
            template(json!([header("image", "5"), header("image", "6")])),
            format!("{path}[1] there is a header already; put all parameters into one"),
        ),
        (
            template(json!([captioned])),
            format!(
                "{path}[0].header.parameters[0].image.caption must be absent: media in headers have no caption"
            ),
        ),
        (carousel(json!([card(0, "image"), card(1, "image")])), String::new()),
        (
            carousel(json!([card(0, "image")])),
            format!("{path}[0].carousel.cards must have at least 2 entries"),
        ),
        (
            carousel(json!([card(0, "image"), card(1, "video")])),
            format!(
                "{path}[0].carousel.cards[1] must have the same kinds of header and buttons as the first card"
            ),
        ),
        (
            carousel(json!([card(0, "image"), nested])),
            format!(
                "{path}[0].carousel.cards[1].components[2] a card has header, body and buttons, no order_status"
            ),
        ),
    ];
    for (content, expected) in &cases {
        check("template", &[(content.clone(), expected)]);
    }
}

#[test]
fn small_contents_and_limits() {
    check(
        "reaction",
        &[
            (json!({ "message_id": "wamid.A", "emoji": "😀" }), ""),
            (json!({ "message_id": "wamid.A", "emoji": "" }), ""),
            (json!({ "message_id": "wamid.A" }), "reaction.emoji is required"),
            (
                json!({ "message_id": "wamid.A", "emoji": "ok" }),
                "reaction.emoji must be one emoji, or empty to remove the reaction",
            ),
            (json!({ "message_id": "", "emoji": "😀" }), "reaction.message_id must not be empty"),
        ],
    );
    check(
        "location",
        &[
            (json!({ "latitude": 0, "longitude": "-122.16" }), ""),
            (json!({ "latitude": 90.5, "longitude": 0 }), "location.latitude must be at most 90"),
            (json!({ "latitude": 1, "longitude": -181 }), "location.longitude must be at least -180"),
            (json!({ "latitude": 1 }), "location.longitude is required"),
        ],
    );
    check(
        "contacts",
        &[
            (json!([{ "name": { "formatted_name": "A B", "last_name": "B" } }]), ""),
            (
                json!([{ "name": { "formatted_name": "A" } }]),
                "contacts.contacts[0].name needs one of first_name, last_name, middle_name, suffix, prefix beside \
                 formatted_name",
            ),
            (
                json!([{ "name": { "formatted_name": "A B", "last_name": "B" }, "birthday": "1.1.1999" }]),
                "contacts.contacts[0].birthday must be a date such as 1999-01-23",
            ),
        ],
    );
    check(
        "pin",
        &[(
            json!({ "type": "pin", "message_id": "wamid.A", "expiration_days": 7 }),
            "recipient must be a group_id: messages are pinned in groups only",
        )],
    );
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn what_contents_ask_of_the_request() {
    let text = json!({ "body": "Hi" });
    let voice = interactive("voice_call", &named("voice_call", &json!({ "display_text": "Call" })));
    let mixed = interactive(
        "button",
        &json!({ "buttons": [
        { "type": "cta_url", "cta_url": { "url": "https://example.com", "display_text": "Track" } },
        { "type": "reply", "reply": { "id": "help", "title": "Help" } }] }),
    );
    let template = json!({ "name": "t", "language": { "code": "en" } });
    let reaction = json!({ "message_id": "wamid.A", "emoji": "😀" });
    let pin = json!({ "type": "unpin", "message_id": "wamid.A", "expiration_days": 7 });
    for (kind, content, fields, expected) in [
        (
            "text",
            &text,
            json!({ "category": "utility", "ttl_seconds": 60,
            "direct_send_config": { "template_name": "t" } }),
            "",
        ),
        (
            "text",
            &text,
            json!({ "ttl_seconds": 60 }),
            "ttl_seconds needs category \"utility\" or \"authentication\": it is for Direct Send",
        ),
        (
            "text",
            &text,
            json!({ "category": "authentication", "ttl_seconds": 901 }),
            "ttl_seconds must be at most 900 with category \"authentication\"",
        ),
        (
            "text",
            &text,
            json!({ "category": "utility", "ttl_seconds": 29 }),
            "ttl_seconds must be at least 30",
        ),
        (
            "text",
            &text,
            json!({ "category": "marketing" }),
            "category must be service or utility or authentication",
        ),
        (
            "template",
            &template,
            json!({ "category": "utility" }),
            "category Direct Send is for text and for interactive with button, cta_url or voice_call; leave \
             category out",
        ),
        ("interactive", &mixed, json!({ "category": "utility" }), ""),
        (
            "interactive",
            &mixed,
            json!({}),
            "interactive.button.buttons[0] must be reply; for one link use the arm \
            cta_url, for several a category",
        ),
        ("interactive", &voice, json!({ "category": "utility" }), ""),
        (
            "interactive",
            &changed(voice.clone(), "footer", footer()),
            json!({ "category": "utility" }),
            "interactive.footer must be absent: voice_call in Direct Send has none",
        ),
        (
            "interactive",
            &buttons(&["a"]),
            json!({ "recipient_type": "group" }),
            "interactive cannot go to a group; send text, media or a template",
        ),
        ("template", &template, json!({ "product_policy": "STRICT" }), ""),
        (
            "text",
            &text,
            json!({ "product_policy": "STRICT" }),
            "marketing is only for template: the Marketing Messages API sends nothing else",
        ),
        (
            "reaction",
            &reaction,
            json!({ "context": { "message_id": "wamid.B" } }),
            "reply_to_message_id must be absent with reaction, which names its message in reaction.message_id",
        ),
        (
            "pin",
            &pin,
            json!({ "recipient_type": "group" }),
            "pin.expiration_days must be absent with \"unpin\"",
        ),
    ] {
        let mut body = send(kind, content);
        body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        let expected: Vec<_> = Some(expected).filter(|text| !text.is_empty()).into_iter().collect();
        assert_eq!(violations_of(&body), expected, "{body}");
    }
    let mut body = send("text", &text);
    body["category"] = json!("authentication");
    body["recipient"] = json!("US.13491208655302741918");
    body.as_object_mut().unwrap().remove("to");
    assert_eq!(violations_of(&body), ["recipient.user_id authentication needs a phone_number"]);
}

#[test]
fn what_stands_beside_the_content_goes_out() {
    let body = json!({ "to": "+16505551234", "type": "template", "product_policy": "STRICT",
        "message_activity_sharing": false, "recipient_identity_key_hash": "h",
        "template": { "name": "t", "language": { "code": "en" } } });
    let request = v1::SendMessageRequest::decode(request_of(&body).unwrap().encoded.as_slice()).unwrap();
    let read = outbound(&request, &mut Violations::default()).unwrap();
    assert_eq!(read.endpoint, Endpoint::MarketingMessages);
    let named = |name: &str, value: Tree| (name.to_owned(), value);
    assert_eq!(
        read.content.extra,
        [
            named("recipient_identity_key_hash", "h".into()),
            named("product_policy", "STRICT".into()),
            named("message_activity_sharing", Tree::Bool(false)),
        ]
    );
}
