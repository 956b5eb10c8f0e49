//! One request for each rule that it breaks, made of an example of Meta's that breaks none.

mod buttons;
mod components;

use prost::Message as _;
use serde_json::{Map, Value, json};

use crate::contract::{request_of, v1};
use crate::domain::template::TemplateAction;
use crate::domain::value::Value as Tree;
use crate::grpc::convert::{Violations, template_action};

fn examples() -> Map<String, Value> {
    serde_json::from_str(include_str!("../../../contract/request_of/template/examples.json")).unwrap()
}

/// The request that a body of Meta's becomes; an edit gets an id.
fn request(body: &Value) -> v1::ManageTemplateRequest {
    let converted = request_of(body).unwrap_or_else(|error| panic!("{body}: {error}"));
    let mut request = v1::ManageTemplateRequest::decode(converted.encoded.as_slice()).unwrap();
    if let Some(v1::manage_template_request::Action::Edit(edit)) = &mut request.action {
        edit.template_id = "5".to_owned();
    }
    request
}

fn read(request: &v1::ManageTemplateRequest) -> Result<TemplateAction, Vec<(String, String)>> {
    let mut found = Violations::of_message("ManageTemplateRequest", request);
    let action = template_action(request, &mut found);
    let found: Vec<_> = found.into_inner().into_iter().map(|v| (v.field, v.description)).collect();
    assert_eq!(action.is_none(), !found.is_empty());
    action.ok_or(found)
}

/// Sets the value at a pointer; `null` takes it away, and `-` at the end of a list appends.
fn set(body: &mut Value, pointer: &str, value: Value) {
    let (parent, name) = pointer.rsplit_once('/').unwrap();
    let parent = body.pointer_mut(parent).unwrap_or_else(|| panic!("{parent}"));
    if let Value::Array(list) = parent {
        match (name.parse::<usize>(), value) {
            (Err(_), value) => list.push(value),
            (Ok(index), Value::Null) => drop(list.remove(index)),
            (Ok(index), value) => list[index] = value,
        }
    } else if value.is_null() {
        parent.as_object_mut().unwrap().remove(name).unwrap();
    } else {
        parent[name] = value;
    }
}

/// The example, what is changed in it, the path of the only violation, and words of its description.
type Case<'a> = (&'a str, &'a [(&'a str, Value)], &'a str, &'a str);

fn check(cases: &[Case<'_>]) {
    let examples = examples();
    for (name, changes, path, words) in cases {
        let mut body = examples[*name].clone();
        for (pointer, value) in *changes {
            set(&mut body, pointer, value.clone());
        }
        let found = read(&request(&body)).err().unwrap_or_default();
        let [(field, description)] = found.as_slice() else { panic!("{name} {changes:?}: {found:?}") };
        assert_eq!(field, path, "{name} {changes:?}: {description}");
        assert!(description.contains(words), "{name} {changes:?}: {description:?} lacks {words:?}");
    }
}

#[test]
fn examples_break_no_rule() {
    for (name, body) in examples() {
        if let Err(found) = read(&request(&body)) {
            panic!("{name}: {found:?}");
        }
    }
}

/// Comparing each of them with all others would keep a thread busy for minutes.
#[test]
fn a_flood_of_bad_entries_is_cut_off() {
    let languages = (0..100_000).map(|n| format!("zz{n}")).collect();
    let upsert = v1::UpsertTemplateAction { name: "a".to_owned(), languages, ..Default::default() };
    let action = v1::manage_template_request::Action::Upsert(upsert);
    let request = v1::ManageTemplateRequest { action: Some(action), ..Default::default() };
    let found = read(&request).unwrap_err();
    assert_eq!(found.len(), 200);
    assert!(found.iter().any(|(field, _)| field == "upsert.languages[9]"), "{found:?}");
}

/// Every text of a tree.
fn texts(value: &Tree) -> Vec<&str> {
    match value {
        Tree::String(text) => vec![text],
        Tree::List(values) => values.iter().flat_map(texts).collect(),
        Tree::Map(fields) => fields.iter().flat_map(|(_, value)| texts(value)).collect(),
        Tree::Null | Tree::Bool(_) | Tree::Integer(_) | Tree::Number(_) => Vec::new(),
    }
}

#[test]
fn words_are_read_in_either_case_and_written_in_metas() {
    let mut body = examples()["named"].clone();
    for (pointer, word) in [
        ("/category", "utility"),
        ("/parameter_format", "named"),
        ("/components/0/format", "image"),
        ("/components/3/buttons", ""),
    ] {
        set(&mut body, pointer, json!(word));
    }
    let flow = json!([{ "type": "flow", "text": "Book", "flow_id": "1", "flow_action": "NAVIGATE", "icon": "review" }]);
    set(&mut body, "/components/3/buttons", flow);
    let Ok(TemplateAction::Create { body, .. }) = read(&request(&body)) else { panic!("{body}") };
    let texts = texts(&body);
    for word in ["UTILITY", "NAMED", "IMAGE", "REVIEW", "navigate"] {
        assert!(texts.contains(&word), "{word}: {texts:?}");
    }
}

#[test]
fn the_whole() {
    let long = "a".repeat(513);
    check(&[
        (
            "seasonal",
            &[("/name", json!("Seasonal Promotion"))],
            "create.name",
            "such as \"seasonal_promotion\"",
        ),
        ("seasonal", &[("/name", json!(long))], "create.name", "at most 512"),
        ("seasonal", &[("/language", json!("en-US"))], "create.language", "use en_US"),
        ("seasonal", &[("/language", json!("EN_us"))], "create.language", "use en_US"),
        ("seasonal", &[("/language", json!("en-FR"))], "create.language", "use en_FR"),
        ("seasonal", &[("/language", json!("pt"))], "create.language", "use pt_BR or pt_PT"),
        ("seasonal", &[("/language", json!("Klingon"))], "create.language", "such as en_US"),
        ("seasonal", &[("/language", Value::Null)], "create.language", "must not be empty"),
        ("seasonal", &[("/category", json!("TRANSACTIONAL"))], "create.category", "MARKETING or UTILITY"),
        ("seasonal", &[("/category", Value::Null)], "create.category", "must not be empty"),
        ("seasonal", &[("/parameter_format", json!("NUMBERED"))], "create.parameter_format", "NAMED"),
        (
            "options",
            &[("/message_send_ttl_seconds", json!(-1))],
            "create.message_send_ttl_seconds",
            "43200 to",
        ),
        (
            "named",
            &[("/message_send_ttl_seconds", json!(43_201))],
            "create.message_send_ttl_seconds",
            "30 to 43200",
        ),
        (
            "one_tap",
            &[("/message_send_ttl_seconds", json!(901))],
            "create.message_send_ttl_seconds",
            "30 to 900",
        ),
        ("edit", &[("/message_send_ttl_seconds", json!(5))], "edit.message_send_ttl_seconds", "43200 to"),
        ("edit", &[("/category", Value::Null)], "edit.category", "beside cta_url_link_tracking_opted_out"),
        ("upsert", &[("/languages/-", json!("de"))], "upsert.languages[2]", "already"),
        ("upsert", &[("/languages/-", json!("fr-CA"))], "upsert.languages[2]", "use fr_CA"),
        ("upsert", &[("/name", json!("A"))], "upsert.name", "such as \"a\""),
        (
            "upsert",
            &[("/message_send_ttl_seconds", json!(5))],
            "upsert.message_send_ttl_seconds",
            "30 to 900",
        ),
        (
            "options",
            &[(
                "/degrees_of_freedom_spec/creative_features_spec/image_touchups/enroll_status",
                json!("MAYBE"),
            )],
            "create.creative_features[0].enroll_status",
            "OPT_IN or OPT_OUT",
        ),
    ]);
    let mut twice = request(&examples()["options"]);
    let Some(v1::manage_template_request::Action::Create(create)) = &mut twice.action else { panic!() };
    create.creative_features[1].feature = "image_touchups".to_owned();
    assert_eq!(read(&twice).unwrap_err()[0].0, "create.creative_features[1].feature");
}

/// What cannot go back to Meta as Meta describes it says why, also where an edit does not name the category.
#[test]
fn a_described_authentication_template_is_refused_with_what_to_write() {
    let code = "https://www.whatsapp.com/otp/code/?otp_type=COPY_CODE&code=otp{{1}}";
    let body = json!({ "components": [
        { "type": "BODY", "text": "*{{1}}* is your code.", "add_security_recommendation": true,
          "example": { "body_text": [["123456"]] } },
        { "type": "FOOTER", "text": "This code expires in 10 minutes.", "code_expiration_minutes": 10 },
        { "type": "BUTTONS", "buttons": [{ "type": "URL", "text": "Copy", "url": code, "example": [code] }] },
    ] });
    let found = read(&request(&body)).unwrap_err();
    let expected = [
        ("edit.components[0].body.text", "must be absent"),
        ("edit.components[0].body.example", "must be absent"),
        ("edit.components[1].footer.text", "code_expiration_minutes"),
        ("edit.components[2].buttons.buttons[0]", "Meta describes them as url, but takes them as otp"),
    ];
    assert_eq!(found.len(), expected.len(), "{found:?}");
    for ((field, description), (path, words)) in found.iter().zip(expected) {
        assert!(field == path && description.contains(words), "{field} {description}");
    }
}

/// The label of a `copy_code` is Meta's, which describes it; the description goes back as it came.
#[test]
fn the_described_label_of_a_copy_code_goes_back() {
    let mut body = examples()["seasonal"].clone();
    let button = json!([{ "type": "COPY_CODE", "text": "Copy offer code", "example": ["25OFF"] }]);
    set(&mut body, "/components/3/buttons", button);
    let Ok(TemplateAction::Create { body, .. }) = read(&request(&body)) else { panic!("{body}") };
    assert!(texts(&body).contains(&"Copy offer code"), "{:?}", texts(&body));
}

#[test]
fn a_language_that_is_new_is_left_to_meta() {
    for language in ["tlh", "hi_IN", "zh_Hant"] {
        let mut body = examples()["seasonal"].clone();
        set(&mut body, "/language", json!(language));
        assert!(read(&request(&body)).is_ok(), "{language}");
    }
}

#[test]
fn the_library() {
    let inputs = "/library_template_button_inputs";
    let base = |rest: &str| format!("create.library_template_button_inputs[0].url.{rest}");
    check(&[
        (
            "library",
            &[("/components", json!([{ "type": "BODY", "text": "x" }]))],
            "create.components",
            "absent beside",
        ),
        (
            "seasonal",
            &[(inputs, json!([{ "type": "PHONE_NUMBER", "phone_number": "1" }]))],
            "create.library_template_button_inputs",
            "without",
        ),
        (
            "seasonal",
            &[("/library_template_body_inputs", json!({ "add_contact_number": true }))],
            "create.library_template_body_inputs",
            "without",
        ),
        (
            "library",
            &[("/library_template_button_inputs/0/url/base_url", json!("https://x.com/{{1}}/a"))],
            &base("base_url"),
            "at the end",
        ),
        (
            "library",
            &[("/library_template_button_inputs/0/url/url_suffix_example", Value::Null)],
            &base("url_suffix_example"),
            "is required",
        ),
        (
            "library",
            &[("/library_template_body_inputs/code_expiration_minutes", json!(0))],
            "create.library_template_body_inputs.code_expiration_minutes",
            "at least 1",
        ),
    ]);
}

#[test]
fn other_actions() {
    use v1::manage_template_request::Action;
    let text = str::to_owned;
    let delete = |name: &str, template_id: &str, ids: &[&str]| {
        let template_ids = ids.iter().copied().map(text).collect();
        Action::Delete(v1::DeleteTemplateAction {
            name: text(name),
            template_id: text(template_id),
            template_ids,
        })
    };
    let compare = |other: &str, window_days: u32| {
        let (template_id, other_template_id) = (text("1"), text(other));
        Action::Compare(v1::CompareTemplatesAction { template_id, other_template_id, window_days })
    };
    let edit = v1::EditTemplateAction { template_id: text("1"), ..Default::default() };
    let preview = |languages: &[&str]| {
        let languages = languages.iter().copied().map(text).collect();
        Action::Preview(v1::PreviewTemplateAction { languages, ..Default::default() })
    };
    let new: Vec<_> = (0..201).map(|n| format!("xx_{n:03}")).collect();
    let new: Vec<_> = new.iter().map(String::as_str).collect();
    let migrate = v1::MigrateTemplatesAction { source_waba_id: text("7"), ..Default::default() };
    for (action, path, words) in [
        (delete("", "", &[]), "delete", "template_ids"),
        (delete("", "1", &[]), "delete.name", "is required"),
        (delete("a", "", &["1"]), "delete.template_ids", "stand alone"),
        (delete("", "1", &["1"]), "delete.template_ids", "stand alone"),
        (delete("", "", &["x"]), "delete.template_ids[0]", "decimal"),
        (delete("", "", &["1"; 101]), "delete.template_ids", "at most 100"),
        (compare("1", 7), "compare.other_template_id", "another"),
        (compare("2", 14), "compare.window_days", "7, 30, 60 or 90"),
        (Action::Edit(edit), "edit", "changes nothing"),
        (preview(&["en-US"]), "preview.languages[0]", "use en_US"),
        (preview(&["en_US", "en_US"]), "preview.languages[1]", "already"),
        (preview(&new), "preview.languages", "at most 200"),
        (Action::Migrate(migrate), "migrate.source_waba_id", "another WABA"),
    ] {
        let request = v1::ManageTemplateRequest {
            waba_id: text("7"),
            action: Some(action.clone()),
            ..Default::default()
        };
        let found = read(&request).unwrap_err();
        let [(field, description)] = found.as_slice() else { panic!("{action:?}: {found:?}") };
        assert!(field == path && description.contains(words), "{action:?}: {field} {description}");
    }
    for action in [
        delete("a", "", &[]),
        delete("a", "1", &[]),
        delete("", "", &["1"]),
        compare("2", 0),
        compare("2", 90),
    ] {
        let request = v1::ManageTemplateRequest { action: Some(action), ..Default::default() };
        assert!(read(&request).is_ok(), "{request:?}");
    }
}
