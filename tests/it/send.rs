//! `SendMessage`: every content, every recipient, what comes back, and every rule that is checked here.

use serde_json::{Value, json};
use tonic::Code;
use whatsapp_gateway::contract::v1;
use whatsapp_gateway::contract::v1::recipient::Address;
use whatsapp_gateway::contract::v1::send_message_request::Content;
use whatsapp_gateway::contract::v1::template_component::Component;
use whatsapp_gateway::contract::v1::template_parameter::Parameter;

use crate::eventually;
use crate::support::rpc::{OPEN, phone, send, structure, text, text_to};
use crate::support::serve::SECOND_NUMBER;
use crate::support::{Gateway, Serve, webhook};

const LINK: &str = "https://example.com/file";

/// What Meta got, without our tag; the caller's data stays.
fn untagged(mut body: Value, tag: &str) -> Value {
    let opaque = body["biz_opaque_callback_data"].as_str().unwrap();
    let data = opaque.strip_prefix(&format!("g1.{tag}.")).unwrap_or_else(|| panic!("no tag: {opaque}"));
    body["biz_opaque_callback_data"] = json!(data);
    body
}

async fn medium(gateway: &Gateway, mime_type: &str) -> String {
    let medium = gateway.simulate("media", &json!({"mime_type": mime_type, "bytes": 64})).await;
    medium["id"].as_str().unwrap().to_owned()
}

fn parameter(parameter: Parameter) -> v1::TemplateParameter {
    v1::TemplateParameter { parameter: Some(parameter), parameter_name: String::new() }
}

fn component(component: Component) -> v1::TemplateComponent {
    v1::TemplateComponent { component: Some(component) }
}

fn order_template() -> Content {
    let header = vec![parameter(Parameter::Image(v1::Image {
        source: Some(v1::image::Source::Link(LINK.to_owned())),
        caption: String::new(),
    }))];
    let currency = v1::TemplateCurrency {
        fallback_value: "$1.50".to_owned(),
        code: "USD".to_owned(),
        amount_1000: 1500,
    };
    let body = vec![parameter(Parameter::Text("Ann".to_owned())), parameter(Parameter::Currency(currency))];
    let button = v1::TemplateButton {
        sub_type: "url".to_owned(),
        index: Some(0),
        parameters: vec![parameter(Parameter::Text("4521".to_owned()))],
    };
    Content::Template(v1::Template {
        name: "order_update".to_owned(),
        language: Some(v1::TemplateLanguage { code: "en_US".to_owned(), policy: String::new() }),
        components: vec![
            component(Component::Header(v1::TemplateParameters { parameters: header })),
            component(Component::Body(v1::TemplateParameters { parameters: body })),
            component(Component::Button(button)),
        ],
    })
}

fn order_template_json() -> Value {
    json!({
        "name": "order_update",
        "language": {"code": "en_US"},
        "components": [
            {"type": "header", "parameters": [{"type": "image", "image": {"link": LINK}}]},
            {"type": "body", "parameters": [
                {"type": "text", "text": "Ann"},
                {"type": "currency", "currency": {"fallback_value": "$1.50", "code": "USD", "amount_1000": 1500}},
            ]},
            {"type": "button", "sub_type": "url", "index": 0, "parameters": [{"type": "text", "text": "4521"}]},
        ],
    })
}

async fn create_order_template(gateway: &Gateway) {
    let template = json!({"template": {
        "name": "order_update", "language": "en_US", "category": "UTILITY",
        "components": [
            {"type": "HEADER", "format": "IMAGE", "example": {"header_handle": ["4::aW"]}},
            {"type": "BODY", "text": "Hello {{1}}, you paid {{2}}.", "example": {"body_text": [["Ann", "$1"]]}},
            {"type": "BUTTONS", "buttons": [
                {"type": "URL", "text": "Track", "url": "https://example.com/{{1}}", "example": ["https://example.com/1"]},
            ]},
        ],
    }});
    gateway.simulate("templates", &template).await;
}

/// Every arm with what Meta must get, by id and by link where there are both.
async fn contents(gateway: &Gateway) -> Vec<(Content, &'static str, Value)> {
    let (png, mp4) = (medium(gateway, "image/png").await, medium(gateway, "video/mp4").await);
    let (ogg, pdf) = (medium(gateway, "audio/ogg").await, medium(gateway, "application/pdf").await);
    let webp = medium(gateway, "image/webp").await;
    let link = || LINK.to_owned();
    let (none, caption) = (String::new, || "Look".to_owned());
    let preview = v1::Text { body: "See https://example.com".to_owned(), preview_url: true };
    let location = json!({"latitude": 37.5, "longitude": -122, "name": "Pier", "address": "1 Pier"});
    let raw = json!({"messaging_product": "whatsapp", "type": "location", "location": location});
    let image = |source, caption| Content::Image(v1::Image { source: Some(source), caption });
    let video = |source, caption| Content::Video(v1::Video { source: Some(source), caption });
    let audio = |source, voice| Content::Audio(v1::Audio { source: Some(source), voice });
    let document = |source, filename| {
        Content::Document(v1::Document { source: Some(source), caption: "Look".to_owned(), filename })
    };
    let sticker = |source| Content::Sticker(v1::Sticker { source: Some(source) });
    let (by_id, by_link) = (v1::image::Source::Id(png.clone()), v1::image::Source::Link(link()));
    vec![
        (text("Hello"), "text", json!({"body": "Hello"})),
        (Content::Text(preview), "text", json!({"body": "See https://example.com", "preview_url": true})),
        (image(by_id, caption()), "image", json!({"id": png, "caption": "Look"})),
        (image(by_link, none()), "image", json!({"link": LINK})),
        (
            video(v1::video::Source::Id(mp4.clone()), caption()),
            "video",
            json!({"id": mp4, "caption": "Look"}),
        ),
        (video(v1::video::Source::Link(link()), none()), "video", json!({"link": LINK})),
        (audio(v1::audio::Source::Id(ogg.clone()), true), "audio", json!({"id": ogg, "voice": true})),
        (audio(v1::audio::Source::Link(link()), false), "audio", json!({"link": LINK})),
        (
            document(v1::document::Source::Id(pdf.clone()), "bill.pdf".to_owned()),
            "document",
            json!({"id": pdf, "caption": "Look", "filename": "bill.pdf"}),
        ),
        (
            document(v1::document::Source::Link(link()), none()),
            "document",
            json!({"link": LINK, "caption": "Look"}),
        ),
        (sticker(v1::sticker::Source::Id(webp.clone())), "sticker", json!({"id": webp})),
        (sticker(v1::sticker::Source::Link(link())), "sticker", json!({"link": LINK})),
        (order_template(), "template", order_template_json()),
        (Content::Raw(structure(&raw)), "location", location),
    ]
}

#[tokio::test]
async fn every_content_reaches_meta_as_it_must() {
    let gateway = Gateway::dev().await;
    gateway.without_limits().await;
    create_order_template(&gateway).await;
    for (content, kind, expected) in contents(&gateway).await {
        let sent = gateway.send(send(content)).await;
        assert_eq!(sent.state(), v1::SendState::Accepted);
        assert!(sent.message_id.starts_with("wamid."), "{sent:?}");
        assert_eq!(sent.phone_number_id, webhook::PHONE_NUMBER_ID);
        assert!(sent.accept_time.is_some());
        let body = untagged(gateway.sent_bodies().await.pop().unwrap(), &sent.send_tag);
        let whole = json!({
            "messaging_product": "whatsapp", "recipient_type": "individual", "to": OPEN,
            "biz_opaque_callback_data": "", "type": kind, kind: expected,
        });
        assert_eq!(body, whole);
    }
}

#[tokio::test]
async fn every_recipient_is_addressed_and_resolved() {
    let gateway = Gateway::dev().await;
    let user = json!({"user_id": "US.13491208655302741918", "hide_phone_number": true, "text": "Hi"});
    gateway.simulate("messages", &user).await;
    let cases = [
        (
            Address::PhoneNumber("001 (555) 000-0013".to_owned()),
            json!({"recipient_type": "individual", "to": OPEN}),
            Address::PhoneNumber(OPEN.to_owned()),
        ),
        (
            Address::PhoneNumber("15550000013".to_owned()),
            json!({"recipient_type": "individual", "to": OPEN}),
            Address::PhoneNumber(OPEN.to_owned()),
        ),
        (
            Address::UserId("US.13491208655302741918".to_owned()),
            json!({"recipient_type": "individual", "recipient": "US.13491208655302741918"}),
            Address::UserId("US.13491208655302741918".to_owned()),
        ),
        (
            Address::GroupId("Y2FwaV9ncm91cDox".to_owned()),
            json!({"recipient_type": "group", "to": "Y2FwaV9ncm91cDox"}),
            Address::GroupId("Y2FwaV9ncm91cDox".to_owned()),
        ),
    ];
    for (address, expected, resolved) in cases {
        let request = v1::SendMessageRequest {
            recipient: Some(v1::Recipient { address: Some(address) }),
            content: Some(text("Hello")),
            ..Default::default()
        };
        let sent = gateway.send(request).await;
        assert_eq!(sent.recipient.unwrap().address, Some(resolved));
        let body = gateway.sent_bodies().await.pop().unwrap();
        for (name, value) in expected.as_object().unwrap() {
            assert_eq!(&body[name], value, "{name} of {body}");
        }
        let addresses = ["to", "recipient"].into_iter().filter(|name| body.get(name).is_some());
        assert_eq!(addresses.count(), 1, "{body}");
    }
    // A Mexican number is known to WhatsApp by another spelling.
    let request = v1::SendMessageRequest { recipient: Some(phone("+52 55 1234 5678")), ..send(text("Hola")) };
    let sent = gateway.send(request).await;
    assert_eq!(sent.recipient, Some(phone("+5215512345678")));
}

#[tokio::test]
async fn callback_data_and_quotes_travel() {
    let gateway = Gateway::dev().await;
    let longest = "ä".repeat(480);
    for data in ["", "order=1", "g1.not-our-tag.x", longest.as_str()] {
        let request = v1::SendMessageRequest {
            reply_to_message_id: "wamid.HBgLMTY1MDU1NTEyMzQ=".to_owned(),
            callback_data: data.to_owned(),
            ..send(text("Hello"))
        };
        let sent = gateway.send(request).await;
        assert_eq!(sent.send_tag.len(), 22);
        let body = untagged(gateway.sent_bodies().await.pop().unwrap(), &sent.send_tag);
        assert_eq!(body["biz_opaque_callback_data"], data);
        assert_eq!(body["context"], json!({"message_id": "wamid.HBgLMTY1MDU1NTEyMzQ="}));
        let mine = async || {
            let statuses = gateway.statuses().await;
            statuses.into_iter().filter(|status| status.id == sent.message_id).collect::<Vec<_>>()
        };
        eventually!(mine().await.len() == 3);
        for status in mine().await {
            assert_eq!((status.callback_data.as_str(), &status.send_tag), (data, &sent.send_tag));
        }
    }
}

#[tokio::test]
async fn callback_data_of_other_applications_passes_untouched() {
    let gateway = Gateway::dev().await;
    let foreign = ["order=9", "g1.short.x", "g2.AZ3kq0p2cXKkzqv1b5c-_w.x", "g1.AZ3kq0p2cXKkzqv1b5c-_w", "."];
    let status = |(index, data): (usize, &&str)| {
        json!({"id": format!("wamid.{index}"), "status": "sent", "timestamp": "1749416383",
               "recipient_id": "16505551234", "biz_opaque_callback_data": data})
    };
    let statuses: Vec<Value> = foreign.iter().enumerate().map(status).collect();
    let mut body = webhook::messages(&[]);
    let value = &mut body["entry"][0]["changes"][0]["value"];
    value.as_object_mut().unwrap().remove("messages");
    value["statuses"] = json!(statuses);
    assert_eq!(gateway.post_webhook(body.to_string()).await, 200);
    let stored = gateway.statuses().await;
    let data: Vec<_> = stored.iter().map(|s| (s.callback_data.as_str(), s.send_tag.as_str())).collect();
    assert_eq!(data, foreign.map(|data| (data, "")));
}

#[tokio::test]
async fn validate_only_checks_and_sends_nothing() {
    let gateway = Gateway::dev().await;
    let request = v1::SendMessageRequest { validate_only: true, ..send(text("Hello")) };
    let checked = gateway.send(request.clone()).await;
    let expected = v1::SendMessageResponse {
        state: v1::SendState::Validated.into(),
        phone_number_id: webhook::PHONE_NUMBER_ID.to_owned(),
        ..Default::default()
    };
    assert_eq!(checked, expected);
    let bad = v1::SendMessageRequest { content: Some(text("")), ..request };
    assert_eq!(gateway.refused(bad).await.fields(), ["text.body"]);
    assert!(gateway.sent_bodies().await.is_empty());
}

#[tokio::test]
async fn a_number_is_chosen_only_where_there_is_a_choice() {
    let Serve { gateway, .. } = &Serve::start().await;
    let refusal = gateway.refused(send(text("Hello"))).await;
    assert_eq!(refusal.is(), (Code::InvalidArgument, "VALIDATION_FAILED"));
    assert_eq!(refusal.fields(), ["phone_number_id"]);
    for number in [webhook::PHONE_NUMBER_ID, SECOND_NUMBER] {
        assert!(refusal.message.contains(number), "{}", refusal.message);
        let request = v1::SendMessageRequest { phone_number_id: number.to_owned(), ..send(text("Hello")) };
        assert_eq!(gateway.send(request).await.phone_number_id, number);
    }
    // The missing number is one bad field among others.
    let refusal = gateway.refused(text_to("0170", "")).await;
    assert_eq!(refusal.fields(), ["text.body", "recipient.phone_number", "phone_number_id"]);
    let unknown = v1::SendMessageRequest { phone_number_id: "1".to_owned(), ..send(text("Hello")) };
    for request in [unknown.clone(), v1::SendMessageRequest { validate_only: true, ..unknown.clone() }] {
        let refusal = gateway.refused(request).await;
        assert_eq!(refusal.is(), (Code::NotFound, "PHONE_NUMBER_NOT_CONFIGURED"));
        assert_eq!(refusal.actor(), "caller");
    }
    let bad = v1::SendMessageRequest { content: Some(text("")), ..unknown };
    assert_eq!(gateway.refused(bad).await.fields(), ["text.body"]);
}

fn template(name: &str, language: Option<&str>, components: Vec<v1::TemplateComponent>) -> Content {
    let language = language.map(|code| v1::TemplateLanguage { code: code.to_owned(), policy: String::new() });
    Content::Template(v1::Template { name: name.to_owned(), language, components })
}

fn body_of(parameters: Vec<v1::TemplateParameter>) -> Content {
    let body = component(Component::Body(v1::TemplateParameters { parameters }));
    template("a", Some("en"), vec![body])
}

/// Bad media and texts, each with the fields that must be listed.
fn bad_media() -> Vec<(Content, Vec<&'static str>)> {
    let image = |link: &str, caption: usize| {
        let source = Some(v1::image::Source::Link(link.to_owned()));
        Content::Image(v1::Image { source, caption: "ä".repeat(caption) })
    };
    let id = |id: String| {
        let source = Some(v1::image::Source::Id(id));
        Content::Image(v1::Image { source, caption: String::new() })
    };
    vec![
        (text(""), vec!["text.body"]),
        (text(&"ä".repeat(4097)), vec!["text.body"]),
        (Content::Image(v1::Image::default()), vec!["image"]),
        (Content::Video(v1::Video::default()), vec!["video"]),
        (Content::Audio(v1::Audio::default()), vec!["audio"]),
        (Content::Document(v1::Document::default()), vec!["document"]),
        (Content::Sticker(v1::Sticker::default()), vec!["sticker"]),
        (id(String::new()), vec!["image.id"]),
        (id("1".repeat(257)), vec!["image.id"]),
        (image("", 0), vec!["image.link"]),
        (image("http://example.com/a", 1025), vec!["image.caption", "image.link"]),
        (image("https://localhost/a", 0), vec!["image.link"]),
        (image("https://[::1]/a", 0), vec!["image.link"]),
        (image(&format!("https://example.com/{}", "a".repeat(2048)), 0), vec!["image.link"]),
    ]
}

fn bad_raw() -> Vec<(Content, Vec<&'static str>)> {
    let raw = |json: Value| Content::Raw(structure(&json));
    let fields = json!({"type": "text", "text": {}, "to": "1", "recipient": "1", "recipient_type": "group",
                        "context": {}, "biz_opaque_callback_data": "x"});
    vec![
        (raw(json!({})), vec!["raw.type"]),
        (raw(json!({"type": 1})), vec!["raw.type"]),
        (raw(json!({"type": "location"})), vec!["raw"]),
        (
            raw(fields),
            vec![
                "raw.to",
                "raw.recipient",
                "raw.recipient_type",
                "raw.context",
                "raw.biz_opaque_callback_data",
            ],
        ),
    ]
}

fn bad_templates() -> Vec<(Content, Vec<&'static str>)> {
    let policy = v1::TemplateLanguage { code: "en".to_owned(), policy: "fallback".to_owned() };
    let fallback = v1::Template { name: "a".to_owned(), language: Some(policy), components: Vec::new() };
    let link = Some(v1::image::Source::Link("http://x.y/".to_owned()));
    let image = Parameter::Image(v1::Image { source: link, caption: String::new() });
    let header = v1::TemplateParameters { parameters: vec![parameter(image)] };
    let button = |sub_type: &str, index| {
        let button =
            v1::TemplateButton { sub_type: sub_type.to_owned(), index: Some(index), parameters: Vec::new() };
        template("a", Some("en"), vec![component(Component::Button(button))])
    };
    vec![
        (template("Bad Name", None, Vec::new()), vec!["template.name", "template.language"]),
        (template("", Some(""), Vec::new()), vec!["template.name", "template.language.code"]),
        (template(&"a".repeat(513), Some("en"), Vec::new()), vec!["template.name"]),
        (Content::Template(fallback), vec!["template.language.policy"]),
        (template("a", Some("en"), vec![v1::TemplateComponent::default()]), vec!["template.components[0]"]),
        (button("", 0), vec!["template.components[0].button.sub_type"]),
        (button("url", 10), vec!["template.components[0].button.index"]),
        (
            template("a", Some("en"), vec![component(Component::Header(header))]),
            vec!["template.components[0].header.parameters[0].image.link"],
        ),
    ]
}

/// Bad parameters of a template's body, each with the fields that must be listed below the parameter.
fn bad_parameters() -> Vec<(Parameter, &'static [&'static str])> {
    let money =
        v1::TemplateCurrency { fallback_value: String::new(), code: "EURO".to_owned(), amount_1000: 1 };
    vec![
        (Parameter::Text(String::new()), &["text"]),
        (Parameter::Payload("a".repeat(257)), &["payload"]),
        (Parameter::CouponCode("a".repeat(21)), &["coupon_code"]),
        (Parameter::DateTime(v1::TemplateDateTime::default()), &["date_time.fallback_value"]),
        (Parameter::Currency(money), &["currency.fallback_value", "currency.code"]),
        (
            Parameter::Location(v1::TemplateLocation::default()),
            &["location.latitude", "location.longitude", "location.name", "location.address"],
        ),
    ]
}

fn owned(fields: &[&str]) -> Vec<String> {
    fields.iter().map(|field| (*field).to_owned()).collect()
}

/// Bad contents, each with the fields that must be listed.
fn bad_contents() -> Vec<(Content, Vec<String>)> {
    let at = "template.components[0].body.parameters[0]";
    let mut all = vec![(body_of(vec![v1::TemplateParameter::default()]), owned(&[at]))];
    let contents = [bad_media(), bad_raw(), bad_templates()].into_iter().flatten();
    all.extend(contents.map(|(content, fields)| (content, owned(&fields))));
    all.extend(bad_parameters().into_iter().map(|(bad, fields)| {
        let fields = fields.iter().map(|field| format!("{at}.{field}")).collect();
        (body_of(vec![parameter(bad)]), fields)
    }));
    all
}

fn bad_requests() -> Vec<(v1::SendMessageRequest, Vec<String>)> {
    let to = |address| v1::SendMessageRequest {
        recipient: Some(v1::Recipient { address }),
        ..send(text("Hello"))
    };
    let number = |text: &str| to(Some(Address::PhoneNumber(text.to_owned())));
    let user = |text: &str| to(Some(Address::UserId(text.to_owned())));
    let group = |text: &str| to(Some(Address::GroupId(text.to_owned())));
    let ok = || send(text("Hello"));
    let long = "1".repeat(65);
    let mut all: Vec<_> =
        bad_contents().into_iter().map(|(content, fields)| (send(content), fields)).collect();
    for bad in ["", "0170 1234567", "12", "+1650555x", long.as_str()] {
        all.push((number(bad), owned(&["recipient.phone_number"])));
    }
    for bad in ["", "us.1", "US.", "16505551234"] {
        all.push((user(bad), owned(&["recipient.user_id"])));
    }
    all.extend([
        (group(""), owned(&["recipient.group_id"])),
        (group("a b"), owned(&["recipient.group_id"])),
        (to(None), owned(&["recipient"])),
        (v1::SendMessageRequest { recipient: None, ..ok() }, owned(&["recipient"])),
        (v1::SendMessageRequest { content: None, ..ok() }, owned(&["content"])),
        (v1::SendMessageRequest { phone_number_id: "12x".to_owned(), ..ok() }, owned(&["phone_number_id"])),
        (
            v1::SendMessageRequest { reply_to_message_id: "a b".to_owned(), ..ok() },
            owned(&["reply_to_message_id"]),
        ),
        (v1::SendMessageRequest { callback_data: "ä".repeat(481), ..ok() }, owned(&["callback_data"])),
        (v1::SendMessageRequest::default(), owned(&["recipient", "content"])),
    ]);
    all
}

#[tokio::test]
async fn every_broken_rule_is_listed_and_nothing_is_sent() {
    let gateway = Gateway::dev().await;
    let mut client = gateway.client().await;
    for (request, fields) in bad_requests() {
        let status = client.send_message(request.clone()).await.unwrap_err();
        let refusal = crate::support::Refusal::of(&status);
        assert_eq!(refusal.is(), (Code::InvalidArgument, "VALIDATION_FAILED"), "{request:?}");
        assert_eq!(refusal.fields(), fields, "{request:?}");
        assert_eq!(refusal.actor(), "caller");
        assert!(refusal.retry.is_none());
        assert!(refusal.violations.iter().all(|(_, rule)| !rule.is_empty()), "{refusal:?}");
    }
    // All at once.
    let request = v1::SendMessageRequest {
        phone_number_id: "12x".to_owned(),
        recipient: Some(phone("0170")),
        reply_to_message_id: "a b".to_owned(),
        callback_data: "x".repeat(481),
        content: Some(template("Bad", None, vec![v1::TemplateComponent::default()])),
        ..Default::default()
    };
    let expected = [
        "phone_number_id",
        "reply_to_message_id",
        "callback_data",
        "template.name",
        "template.language",
        "template.components[0]",
        "recipient.phone_number",
    ];
    assert_eq!(gateway.refused(request).await.fields(), expected);
    assert!(gateway.sent_bodies().await.is_empty());
}

/// The details of a refusal travel in headers, which clients cap at 8 KiB and less.
#[tokio::test]
async fn a_request_with_very_many_mistakes_still_gets_its_status() {
    let gateway = Gateway::dev().await;
    let parameters = vec![v1::TemplateParameter::default(); 1000];
    let refusal = gateway.refused(send(body_of(parameters))).await;
    assert_eq!(refusal.is(), (Code::InvalidArgument, "VALIDATION_FAILED"));
    assert!(refusal.fields().contains(&"template.components[0].body.parameters[0]"));
    assert!(refusal.message.contains("more"), "{}", refusal.message);
}
