use serde_json::json;

use super::*;
use crate::cloud_api::templates::likeness::tests::value;
use crate::domain::failure::{Class, Reason};

/// The template of these components, as Meta describes it.
fn described(components: &Value) -> Value {
    json!({
        "id": "1", "name": "offer", "language": "en_US", "status": "APPROVED", "category": "MARKETING",
        "parameter_format": "POSITIONAL", "components": components,
    })
}

fn read(description: &Value) -> TemplateShape {
    shape(&Template { id: "1".to_owned(), json: description.to_string() }).unwrap()
}

/// What is wrong with a message of these components, each as "path: sentence".
fn misfits(description: &Value, components: &Value) -> Vec<String> {
    let template = json!({"name": "offer", "language": {"code": "en_US"}, "components": components});
    let found = read(description).misfits("template", false, &value(&template));
    found.into_iter().map(|v| format!("{}: {}", v.field, v.description)).collect()
}

/// The fields that are wrong.
fn fields(description: &Value, components: &Value) -> Vec<String> {
    let found = misfits(description, components).into_iter();
    found
        .map(|found| found.split(": ").next().unwrap_or_default().replace("template.components", ""))
        .collect()
}

fn texts(texts: &[&str]) -> Value {
    texts.iter().map(|text| json!({"type": "text", "text": text})).collect()
}

fn body(parameters: &Value) -> Value {
    json!([{"type": "body", "parameters": parameters}])
}

fn button(sub_type: &str, index: &Value, parameters: &Value) -> Value {
    json!({"type": "button", "sub_type": sub_type, "index": index, "parameters": parameters})
}

#[test]
fn counts_are_told_with_the_remedy() {
    let two = described(&json!([{"type": "BODY", "text": "Hi {{1}}, your order {{2}} is here."}]));
    let takes = "the body of offer (en_US) takes 2 parameters";
    assert_eq!(misfits(&two, &body(&texts(&["a", "b"]))), [""; 0]);
    assert_eq!(
        misfits(&two, &body(&texts(&["a"]))),
        [format!("template.components[0].body.parameters: {takes}, 1 was given: add 1 more")]
    );
    assert_eq!(
        misfits(&two, &body(&texts(&["a", "b", "c"]))),
        [format!("template.components[0].body.parameters: {takes}, 3 were given: leave 1 out")]
    );
    assert_eq!(
        misfits(&two, &json!([])),
        [format!("template.components: {takes}, none was given: add the component body with them")]
    );
    let none = described(&json!([{"type": "BODY", "text": "Hi"}, {"type": "FOOTER", "text": "Bye"}]));
    assert_eq!(misfits(&none, &json!([])), [""; 0]);
    assert_eq!(misfits(&none, &body(&json!([]))), [""; 0]);
    assert_eq!(fields(&none, &body(&texts(&["a"]))), ["[0].body.parameters"]);
}

#[test]
fn a_variable_of_a_text_takes_text() {
    let one = described(&json!([{"type": "BODY", "text": "Hi {{1}}!"}]));
    for fits in [
        json!({"type": "currency", "currency": {"fallback_value": "$1"}}),
        json!({"type": "DATE_TIME", "date_time": {"fallback_value": "May"}}),
        json!({"type": "something_new"}),
    ] {
        assert_eq!(fields(&one, &body(&json!([fits]))), [""; 0]);
    }
    let image = json!([{"type": "image", "image": {"id": "1"}}]);
    assert_eq!(fields(&one, &body(&image)), ["[0].body.parameters[0].image"]);
    // In Meta's own JSON the type is a field.
    let template = json!({"components": body(&image)});
    let raw = read(&one).misfits("raw.template", true, &value(&template));
    assert_eq!(raw[0].field, "raw.template.components[0].parameters[0].type");
}

#[test]
fn named_parameters_are_matched_by_name() {
    let mut named = described(&json!([
        {"type": "HEADER", "format": "TEXT", "text": "For {{day}}"},
        {"type": "BODY", "text": "Table for {{guests}} on {{day}}."},
    ]));
    named["parameter_format"] = json!("NAMED");
    let parameter = |name: &str| json!({"type": "text", "text": "x", "parameter_name": name});
    let with = |body: Value| json!([{"type": "header", "parameters": [parameter("day")]}, {"type": "body", "parameters": body}]);
    assert_eq!(misfits(&named, &with(json!([parameter("day"), parameter("guests")]))), [""; 0]);
    let takes = "the body of offer (en_US) takes by name: guests, day";
    assert_eq!(
        misfits(&named, &with(json!([parameter("day"), parameter("guest")]))),
        [
            format!(
                "template.components[1].body.parameters[1].parameter_name: is no variable of it: {takes}"
            ),
            format!("template.components[1].body.parameters: {takes}; add guests"),
        ]
    );
    assert_eq!(
        fields(&named, &with(texts(&["4", "Saturday"]))),
        [
            "[1].body.parameters[0].parameter_name",
            "[1].body.parameters[1].parameter_name",
            "[1].body.parameters"
        ]
    );
    assert_eq!(
        fields(&named, &with(json!([parameter("day"), parameter("day"), parameter("guests")]))),
        ["[1].body.parameters[1].parameter_name"]
    );
}

#[test]
fn headers_take_what_they_show() {
    let header = |format: &str| described(&json!([{"type": "HEADER", "format": format}]));
    let given = |kind: &str| {
        let parameter = json!({"type": kind, kind: {}});
        json!([{"type": "header", "parameters": [parameter]}])
    };
    for format in ["IMAGE", "VIDEO", "DOCUMENT", "LOCATION", "PRODUCT"] {
        let kind = format.to_ascii_lowercase();
        assert_eq!(fields(&header(format), &given(&kind)), [""; 0], "{format}");
        assert_eq!(fields(&header(format), &json!([])), [""], "{format}");
        let other = if format == "IMAGE" { "video" } else { "image" };
        assert_eq!(
            fields(&header(format), &given(other)),
            [format!("[0].header.parameters[0].{other}")],
            "{format}"
        );
        let empty = json!([{"type": "header", "parameters": []}]);
        assert_eq!(fields(&header(format), &empty), ["[0].header.parameters"], "{format}");
    }
    assert_eq!(fields(&header("GIF"), &given("video")), [""; 0], "the reference is not sure");
    assert_eq!(fields(&described(&json!([])), &given("image")), ["[0].header"]);
    let text = described(&json!([{"type": "HEADER", "format": "TEXT", "text": "Our {{1}} is on!"}]));
    assert_eq!(fields(&text, &json!([])), [""]);
    assert_eq!(fields(&text, &given("image")), ["[0].header.parameters[0].image"]);
}

#[test]
fn buttons_are_met_at_their_place() {
    let offer = described(&json!([
        {"type": "LIMITED_TIME_OFFER", "limited_time_offer": {"text": "Soon!"}},
        {"type": "BUTTONS", "buttons": [
            {"type": "COPY_CODE", "example": "25OFF"},
            {"type": "URL", "text": "Shop", "url": "https://example.com/{{1}}"},
            {"type": "URL", "text": "Help", "url": "https://example.com/help"},
            {"type": "QUICK_REPLY", "text": "Stop"},
            {"type": "FLOW", "text": "Book"},
        ]},
    ]));
    let code = button("copy_code", &json!(0), &json!([{"type": "coupon_code", "coupon_code": "X"}]));
    let url = button("URL", &json!("1"), &texts(&["summer"]));
    let with = |more: &[Value]| Value::from([&[code.clone(), url.clone()], more].concat());
    let ends = json!({"type": "limited_time_offer", "parameters": []});
    let payload = json!([{"type": "payload", "payload": "p"}]);
    let flow = json!([{"type": "action", "action": {}}]);
    assert_eq!(misfits(&offer, &with(&[])), [""; 0]);
    assert_eq!(
        misfits(
            &offer,
            &with(&[
                ends.clone(),
                button("quick_reply", &json!(3), &payload),
                button("flow", &json!("4"), &flow),
                button("flow", &json!("4"), &json!([])),
                button("of_tomorrow", &json!(3), &json!([])),
            ])
        ),
        [""; 0]
    );
    assert_eq!(
        misfits(&offer, &json!([code])),
        [
            "template.components: button 1 of offer (en_US) takes 1 parameter of the type text, none was given: \
             add a component button with sub_type url and index 1"
        ]
    );
    assert_eq!(
        misfits(&offer, &with(&[button("url", &json!(5), &json!([]))])),
        ["template.components[2].button.index: offer (en_US) has 5 buttons, so index must be 0 to 4"]
    );
    assert_eq!(fields(&offer, &with(&[button("url", &json!(3), &json!([]))])), ["[2].button.sub_type"]);
    let wrong = button("copy_code", &json!(0), &texts(&["X"]));
    assert_eq!(fields(&offer, &json!([wrong, url])), ["[0].button.parameters[0].text"]);
    let empty = button("copy_code", &json!(0), &json!([]));
    assert_eq!(fields(&offer, &json!([empty, url])), ["[0].button.parameters"]);
    let plain = described(&json!([]));
    assert_eq!(fields(&plain, &json!([ends])), ["[0].limited_time_offer"]);
    assert_eq!(fields(&plain, &json!([code])), ["[0].button.index"]);
    // Where it stands is not said, so it may be any.
    let voice = json!({"type": "button", "sub_type": "voice_call", "parameters": []});
    assert_eq!(fields(&offer, &json!([voice])), [""; 0]);
}

#[test]
fn cards_are_templates_of_their_own() {
    let card = |url: &str| {
        json!({"components": [
            {"type": "HEADER", "format": "IMAGE"},
            {"type": "BODY", "text": "Blue elf aloe"},
            {"type": "BUTTONS", "buttons": [{"type": "URL", "text": "Shop", "url": url}]},
        ]})
    };
    let with_cards = |cards: Value| described(&json!([{"type": "CAROUSEL", "cards": cards}]));
    let two = with_cards(json!([card("https://example.com/{{1}}"), card("https://example.com/{{1}}")]));
    let given = |index: u32, kind: &str| {
        let header = json!({"type": "header", "parameters": [{"type": kind, kind: {"id": "1"}}]});
        json!({"card_index": index, "components": [header, button("url", &json!("0"), &texts(&["x"]))]})
    };
    let carousel = |cards: Value| json!([{"type": "carousel", "cards": cards}]);
    assert_eq!(misfits(&two, &carousel(json!([given(0, "image"), given(1, "image")]))), [""; 0]);
    assert_eq!(
        misfits(&two, &carousel(json!([given(0, "image"), given(1, "image"), given(2, "image")]))),
        [
            "template.components[0].carousel.cards: offer (en_US) has a carousel of 2 cards, 3 were given: give each of \
             them once",
            "template.components[0].carousel.cards[2].card_index: offer (en_US) has no card 2",
        ]
    );
    assert_eq!(
        misfits(&two, &carousel(json!([given(0, "image"), given(1, "video")]))),
        [
            "template.components[0].carousel.cards[1].components[0].header.parameters[0].video: the header of card 1 of offer \
             (en_US) takes 1 parameter of the type image, video was given"
        ]
    );
    assert_eq!(fields(&two, &json!([])), [""]);
    assert_eq!(fields(&described(&json!([])), &carousel(json!([]))), ["[0].carousel"]);
    // Of product cards there may be more than the template shows.
    let product = json!({"components": [{"type": "HEADER", "format": "PRODUCT"},
        {"type": "BUTTONS", "buttons": [{"type": "SPM", "text": "View"}]}]});
    let products = with_cards(json!([product, product]));
    let given = |index: u32| {
        let header = json!({"type": "header", "parameters": [{"type": "product", "product": {}}]});
        json!({"card_index": index, "components": [header]})
    };
    assert_eq!(misfits(&products, &carousel(json!([given(0), given(1), given(2)]))), [""; 0]);
    let empty = json!({"card_index": 0, "components": []});
    assert_eq!(fields(&products, &carousel(json!([empty]))), ["[0].carousel.cards[0].components"]);
}

#[test]
fn a_code_is_metas_own_text_and_a_button() {
    let components = |button: &Value| {
        json!([{"type": "BODY", "add_security_recommendation": true},
            {"type": "FOOTER", "code_expiration_minutes": 5}, {"type": "BUTTONS", "buttons": [button]}])
    };
    let authentication = |button: &Value| {
        let mut described = described(&components(button));
        described["category"] = json!("AUTHENTICATION");
        described
    };
    let otp = authentication(&json!({"type": "OTP", "otp_type": "COPY_CODE"}));
    let as_url =
        authentication(&json!({"type": "URL", "url": "https://www.whatsapp.com/otp/code/?code=otp{{1}}"}));
    let no_code = authentication(&json!({"type": "URL", "url": "https://www.whatsapp.com/otp/code"}));
    let whole = json!([{"type": "body", "parameters": texts(&["123"])}, button("url", &json!("0"), &texts(&["123"]))]);
    for template in [&otp, &as_url, &no_code] {
        assert_eq!(misfits(template, &whole), [""; 0]);
        assert!(fields(template, &json!([whole[1]])).contains(&String::new()));
    }
    assert_eq!(fields(&otp, &json!([whole[0]])), [""]);
    assert_eq!(fields(&as_url, &json!([whole[0]])), [""]);
    assert_eq!(fields(&no_code, &json!([whole[0]])), [""; 0], "the address does not say");
}

#[test]
fn what_is_not_understood_takes_anything() {
    let stray = body(&texts(&["a", "b", "c"]));
    for text in ["{{1}} and {{1}}", "{{ 1 }}", "{{1", "{{2}}", "{{Name}}", "{{}}"] {
        let template = described(&json!([{"type": "BODY", "text": text}]));
        assert_eq!(fields(&template, &stray), [""; 0], "{text}");
    }
    for components in [
        json!([{"type": "BODY", "text": "Hi"}, {"type": "HOLOGRAM"}]),
        json!([{"type": "BODY", "text": "Hi"}, {"type": "BODY", "text": "Ho"}]),
        json!([{"type": "BODY", "text": "Hi"}, {"type": "BUTTONS"}]),
        json!([{"type": "BODY"}]),
        json!(null),
    ] {
        assert_eq!(fields(&described(&components), &stray), [""; 0], "{components}");
    }
    let plain = described(&json!([{"type": "BODY", "text": "Hi"}]));
    let mut of_tomorrow = stray.as_array().unwrap().clone();
    of_tomorrow.push(json!({"type": "hologram", "parameters": []}));
    assert_eq!(fields(&plain, &Value::from(of_tomorrow)), [""; 0]);
    let mut format = plain.clone();
    format["parameter_format"] = json!("SPOKEN");
    assert_eq!(fields(&format, &stray), [""; 0]);
    let button = json!({"type": "HOLOGRAM", "text": "Look"});
    let buttons = described(&json!([{"type": "BUTTONS", "buttons": [button]}]));
    let url = json!([self::button("url", &json!(0), &texts(&["a"]))]);
    assert_eq!(fields(&buttons, &url), [""; 0]);
    let cards = described(&json!([{"type": "CAROUSEL", "cards": [{"components": [{"type": "HOLOGRAM"}]}]}]));
    assert_eq!(fields(&cards, &json!([{"type": "carousel", "cards": []}])), [""; 0]);
}

#[test]
fn long_names_leave_room_for_the_remedy() {
    let mut long = described(&json!([{"type": "BODY", "text": "Hi {{1}}!"}]));
    long["name"] = json!("n".repeat(512));
    let found = misfits(&long, &json!([]));
    assert!(found[0].contains(&format!("{}… (en_US)", "n".repeat(64))) && found[0].len() < 256, "{found:?}");
}

#[test]
fn only_known_statuses_are_refused_and_as_meta_would() {
    for (status, class, reason) in [
        ("PAUSED", Class::FailedPrecondition, Reason::TemplateNotSendable),
        ("DISABLED", Class::FailedPrecondition, Reason::TemplateNotSendable),
        ("PENDING", Class::NotFound, Reason::TemplateNotFound),
        ("REJECTED", Class::NotFound, Reason::TemplateNotFound),
        ("DELETED", Class::NotFound, Reason::TemplateNotFound),
    ] {
        let verdict = unsendable(status).unwrap();
        assert_eq!((verdict.class, verdict.reason), (class, reason), "{status}");
    }
    for status in ["APPROVED", "FLAGGED", "REINSTATED", "LOCKED", "", "OF_TOMORROW"] {
        assert_eq!(unsendable(status), None, "{status}");
    }
    assert_eq!(parameters_misfit().reason, Reason::TemplateParameters);
    assert_eq!(no_such_template().reason, Reason::TemplateNotFound);
    let nameless = Template { id: "1".to_owned(), json: r#"{"language":"en"}"#.to_owned() };
    assert_eq!(shape(&nameless), None);
}
