//! Templates as the reference has them, and the requests they become.

use prost::Message;
use serde_json::json;

use super::super::request_of;
use super::*;
use crate::contract::v1::{
    self, manage_template_request::Action as Arm, template_definition_button::Button,
    template_definition_component::Component,
};

fn create(category: &str, components: &Json) -> Json {
    json!({ "name": "t", "language": "en_US", "category": category, "components": components })
}

fn with_buttons(buttons: &Json) -> Json {
    create("MARKETING", &json!([{ "type": "BODY", "text": "Hi" }, { "type": "BUTTONS", "buttons": buttons }]))
}

/// What would go to Meta.
fn written(body: &Json) -> Json {
    let converted = request_of(body).unwrap_or_else(|error| panic!("{body}: {error}"));
    let request = v1::ManageTemplateRequest::decode(converted.encoded.as_slice()).unwrap();
    let (message, encoded) = if let Some(Arm::Create(create)) = &request.action {
        ("CreateTemplateAction", create.encode_to_vec())
    } else if let Some(Arm::Edit(edit)) = &request.action {
        ("EditTemplateAction", edit.encode_to_vec())
    } else if let Some(Arm::Upsert(upsert)) = &request.action {
        ("UpsertTemplateAction", upsert.encode_to_vec())
    } else {
        panic!("{request:?}")
    };
    to_json(&meta_form(message, &encoded).unwrap())
}

/// The components and buttons of reference 2.4.3 and 2.4.4.
fn parts() -> Vec<Json> {
    let header = |header: Json| create("MARKETING", &json!([header, { "type": "BODY", "text": "Hi" }]));
    let body = |body: Json| create("MARKETING", &json!([body]));
    let named = json!([{ "param_name": "sale", "example": "x" }]);
    let apps = json!([{ "package_name": "com.x", "signature_hash": "K8a/AINcGX7" }]);
    vec![
        header(json!({ "type": "HEADER", "format": "TEXT", "text": "Our {{1}} is on!",
            "example": { "header_text": ["Sale"] } })),
        header(json!({ "type": "HEADER", "format": "TEXT", "text": "Our {{sale}} is on!",
            "example": { "header_text_named_params": named } })),
        header(json!({ "type": "HEADER", "format": "GIF", "example": { "header_handle": ["4::aW..."] } })),
        header(json!({ "type": "HEADER", "format": "LOCATION" })),
        body(
            json!({ "type": "BODY", "text": "Hi {{1}}, {{2}}!", "example": { "body_text": [["Pablo", "x"]] } }),
        ),
        body(
            json!({ "type": "BODY", "text": "Hi {{sale}}!", "example": { "body_text_named_params": named } }),
        ),
        create(
            "MARKETING",
            &json!([{ "type": "BODY", "text": "May we call?" },
            { "type": "CALL_PERMISSION_REQUEST" }]),
        ),
        with_buttons(&json!([
            { "type": "QUICK_REPLY", "text": "Stop" },
            { "type": "URL", "text": "Shop", "url": "https://x.com/{{1}}", "example": ["https://x.com/summer"] },
            { "type": "PHONE_NUMBER", "text": "Call", "phone_number": "15550051310" },
            { "type": "COPY_CODE", "example": "250FF" },
        ])),
        with_buttons(&json!([{ "type": "FLOW", "text": "Book", "flow_id": "1", "flow_action": "navigate",
            "navigate_screen": "S1", "icon": "REVIEW" }])),
        with_buttons(
            &json!([{ "type": "FLOW", "text": "Book", "flow_name": "f", "flow_action": "data_exchange" }]),
        ),
        with_buttons(&json!([{ "type": "FLOW", "text": "Book", "flow_json": "{\"version\":\"5.0\"}" }])),
        with_buttons(&json!([{ "type": "OTP", "otp_type": "COPY_CODE", "text": "Copy" }])),
        with_buttons(
            &json!([{ "type": "OTP", "otp_type": "ZERO_TAP", "text": "Copy", "autofill_text": "Autofill",
            "supported_apps": apps, "zero_tap_terms_accepted": true }]),
        ),
        with_buttons(&json!([{ "type": "MPM", "text": "View items" }])),
        with_buttons(&json!([{ "type": "CATALOG", "text": "View catalog" }])),
        with_buttons(&json!([{ "type": "VOICE_CALL", "text": "Call Now", "ttl_minutes": 10 }])),
        with_buttons(&json!([{ "type": "REQUEST_CONTACT_INFO" }])),
        with_buttons(&json!([{ "type": "ORDER_DETAILS", "text": "Review and Pay" }])),
        with_buttons(&json!([{ "type": "APP", "text": "Open", "app_deep_link": { "meta_app_id": 5 } }])),
    ]
}

/// The complete examples of reference 2.4.2, 2.4.5 and 2.4.7, and all options.
fn wholes() -> Vec<Json> {
    let examples: Map<String, Json> = serde_json::from_str(include_str!("examples.json")).unwrap();
    examples.into_iter().map(|(_, body)| body).collect()
}

#[test]
fn every_template_of_the_reference_comes_back_whole() {
    for body in parts().into_iter().chain(wholes()) {
        assert_eq!(written(&body), body);
    }
}

#[test]
fn arms_are_metas_kinds() {
    let converted = request_of(&with_buttons(&json!([{ "type": "COPY_CODE", "example": "250FF" }]))).unwrap();
    assert_eq!(converted.message, "ManageTemplateRequest");
    assert_eq!(converted.notes, ["this is a request of ManageTemplate"]);
    let expected = json!({ "create": { "name": "t", "language": "en_US", "category": "MARKETING", "components": [
        { "body": { "text": "Hi" } }, { "buttons": { "buttons": [{ "copy_code": { "example": "250FF" } }] } },
    ] } });
    assert_eq!(converted.json, expected);
    let edit = request_of(&json!({ "components": [{ "type": "BODY", "text": "Hi" }] })).unwrap();
    assert_eq!(edit.json, json!({ "edit": { "components": [{ "body": { "text": "Hi" } }] } }));
    assert!(edit.notes[1].starts_with("edit.template_id"), "{:?}", edit.notes);
    let upsert = json!({ "name": "t", "languages": ["de"], "category": "AUTHENTICATION", "components": [
        { "type": "BODY" }] });
    let expected = json!({ "upsert": { "name": "t", "languages": ["de"], "components": [{ "body": {} }] } });
    assert_eq!(request_of(&upsert).unwrap().json, expected);
}

#[test]
fn other_spellings_say_the_same() {
    let canonical = create(
        "MARKETING",
        &json!([{ "type": "BODY", "text": "Hi {{1}}!", "example": { "body_text": [["Pablo"]] } },
            { "type": "BUTTONS", "buttons": [{ "type": "COPY_CODE", "example": "250FF" }] }]),
    );
    let other = create(
        "MARKETING",
        &json!([{ "type": "body", "text": "Hi {{1}}!", "example": { "body_text": ["Pablo"] } },
            { "type": "buttons", "buttons": [{ "type": "copy_code", "example": ["250FF"] }] }]),
    );
    assert_eq!(written(&other), canonical);
    let inputs = json!([{ "type": "PHONE_NUMBER", "phone_number": "+16315551010" }]);
    let library = |inputs: Json| {
        json!({ "name": "t", "language": "en_US", "category": "UTILITY", "library_template_name": "l",
            "library_template_button_inputs": inputs })
    };
    assert_eq!(written(&library(json!(inputs.to_string()))), library(inputs));
}

#[test]
fn a_template_that_cannot_be_typed_is_refused_with_what() {
    let body = |body: Json| create("MARKETING", &json!([body]));
    let cases = [
        (body(json!({ "type": "HOLOGRAM" })), "components[0].type has no field in the request"),
        (body(json!({ "type": "BODY", "text": "x", "font": "bold" })), "components[0].font has no field"),
        (body(json!({ "type": "BODY", "text": ["x"] })), "components[0].body.text is not a text"),
        (
            body(json!({ "type": "BODY", "text": "x", "example": { "body_text": [["a"], ["b"]] } })),
            "components[0].example.body_text cannot be",
        ),
        (
            with_buttons(&json!([{ "type": "OTP", "otp_type": "ONE_TAP", "package_name": "com.x" }])),
            "components[1].buttons[0].package_name has no field in the request",
        ),
        (json!({ "name": "t", "components": [], "new_option": 1 }), "new_option has no field in the request"),
        (
            json!({ "name": "t", "languages": ["de"], "category": "UTILITY", "components": [] }),
            "category has no field in the request",
        ),
    ];
    for (body, words) in cases {
        let message = request_of(&body).unwrap_err().to_string();
        assert!(message.starts_with("this template cannot be typed: "), "{message}");
        assert!(message.contains(words), "{message:?} lacks {words:?}");
    }
}

#[test]
fn metas_descriptions_are_typed_as_far_as_they_are_known() {
    let described = json!({
        "name": "reservation_confirmation", "language": "en_US", "status": "APPROVED", "category": "UTILITY",
        "parameter_format": "NAMED", "quality_score": { "score": "GREEN", "date": 1_758_754_645 },
        "id": "1387372356726668", "new_field": { "x": 1 },
        "components": [
            { "type": "HEADER", "format": "IMAGE", "example": { "header_handle": ["https://scontent.whatsapp.net/v"] } },
            { "type": "BODY", "text": "Table for {{guests}} on {{day}}.", "example": { "body_text_named_params": [
                { "param_name": "guests", "example": "4" }, { "param_name": "day", "example": "Saturday" }] } },
            { "type": "HOLOGRAM", "text": "x" },
            { "type": "LIMITED_TIME_OFFER", "limited_time_offer": { "text": "Soon", "has_expiration": true } },
            { "type": "BUTTONS", "buttons": [
                { "type": "URL", "text": "Copy code", "url": "https://www.whatsapp.com/otp/code/?code=otp{{1}}",
                    "example": ["https://www.whatsapp.com/otp/code/?code=otp123456"] },
                { "type": "COPY_CODE", "text": "Copy offer code", "example": ["250FF"] },
                { "type": "EXTENSION" },
            ] },
        ],
    });
    let bytes = from_json("TemplateDefinition", &described).unwrap();
    let template = v1::TemplateDefinition::decode(bytes.as_slice()).unwrap();
    assert_eq!(template.quality_score.unwrap().date.unwrap().seconds, 1_758_754_645);
    let components: Vec<_> = template.components.into_iter().map(|c| c.component).collect();
    let [
        Some(Component::Header(_)),
        Some(Component::Body(body)),
        None,
        Some(Component::LimitedTimeOffer(offer)),
        Some(Component::Buttons(buttons)),
    ] = components.as_slice()
    else {
        panic!("{components:?}")
    };
    assert_eq!(body.example.as_ref().unwrap().body_text_named_params[1].example, "Saturday");
    assert!(offer.has_expiration);
    let buttons: Vec<_> = buttons.buttons.iter().map(|b| b.button.as_ref()).collect();
    let [Some(Button::Url(_)), Some(Button::CopyCode(code)), None] = buttons.as_slice() else {
        panic!("{buttons:?}")
    };
    assert_eq!(code.example, "250FF");
}
