//! `ManageTemplate`: get and list, page by page.

use std::collections::BTreeSet;

use serde_json::json;
use tonic::Code;
use whatsapp_gateway::contract::v1;
use whatsapp_gateway::contract::v1::manage_template_request::Action;
use whatsapp_gateway::contract::v1::manage_template_response::Result as Outcome;

use crate::support::serve::SECOND_WABA;
use crate::support::{Gateway, Refusal, Serve, webhook};

/// Those that the tests create, beside `hello_world`.
const CREATED: usize = 60;

async fn manage(gateway: &Gateway, waba_id: &str, action: Action) -> Result<Outcome, Refusal> {
    let request =
        v1::ManageTemplateRequest { waba_id: waba_id.to_owned(), action: Some(action), ..Default::default() };
    match gateway.client().await.manage_template(request).await {
        Ok(response) => Ok(response.into_inner().result.unwrap()),
        Err(status) => Err(Refusal::of(&status)),
    }
}

fn get(template_id: &str) -> Action {
    Action::Get(v1::GetTemplateAction { template_id: template_id.to_owned() })
}

async fn page(gateway: &Gateway, list: v1::ListTemplatesAction) -> v1::ListTemplatesResult {
    match manage(gateway, "", Action::List(list)).await {
        Ok(Outcome::List(page)) => page,
        other => panic!("{other:?}"),
    }
}

/// All pages; returns the size of each and the names.
async fn all(gateway: &Gateway, list: v1::ListTemplatesAction) -> (Vec<usize>, Vec<String>) {
    let (mut sizes, mut names, mut list) = (Vec::new(), Vec::new(), list);
    for _ in 0..CREATED {
        let page = page(gateway, list.clone()).await;
        sizes.push(page.templates.len());
        names.extend(page.templates.into_iter().map(|template| template.name));
        if page.next_page_token.is_empty() {
            return (sizes, names);
        }
        list.page_token = page.next_page_token;
    }
    panic!("the pages do not end: {sizes:?}");
}

async fn create(gateway: &Gateway) {
    for number in 0..CREATED {
        let (language, category) = if number % 2 == 0 { ("en_US", "UTILITY") } else { ("de", "MARKETING") };
        let status = if number % 3 == 0 { "PAUSED" } else { "APPROVED" };
        let template = json!({"status": status, "template": {
            "name": format!("offer_{number:02}"), "language": language, "category": category,
            "components": [{"type": "BODY", "text": "Sale!"}],
        }});
        gateway.simulate("templates", &template).await;
    }
}

#[tokio::test]
async fn a_list_comes_page_by_page_to_its_end() {
    let gateway = Gateway::dev().await;
    create(&gateway).await;
    for (page_size, expected) in [
        (0, vec![25, 25, 11]),
        (7, vec![7, 7, 7, 7, 7, 7, 7, 7, 5]),
        (61, vec![61]),
        (100, vec![61]),
        (i32::MAX, vec![61]),
    ] {
        let list = v1::ListTemplatesAction { page_size, ..Default::default() };
        let (sizes, names) = all(&gateway, list).await;
        assert_eq!(sizes, expected, "{page_size}");
        assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), CREATED + 1, "{page_size}");
    }
}

#[tokio::test]
async fn filters_reach_meta() {
    let gateway = Gateway::dev().await;
    create(&gateway).await;
    let list = v1::ListTemplatesAction::default;
    let text = str::to_owned;
    for (list, count) in [
        (v1::ListTemplatesAction { name: text("offer_07"), ..list() }, 1),
        (v1::ListTemplatesAction { name: text("nothing_of_the_kind"), ..list() }, 0),
        (v1::ListTemplatesAction { language: text("de"), ..list() }, 30),
        (v1::ListTemplatesAction { status: text("PAUSED"), ..list() }, 20),
        (v1::ListTemplatesAction { category: text("MARKETING"), language: text("de"), ..list() }, 30),
        (v1::ListTemplatesAction { category: text("MARKETING"), language: text("en_US"), ..list() }, 0),
        (v1::ListTemplatesAction { content: text("Sale"), language: text("de"), ..list() }, 30),
        (v1::ListTemplatesAction { quality_score: text("RED"), ..list() }, 0),
        (v1::ListTemplatesAction { quality_score: text("UNKNOWN"), ..list() }, CREATED + 1),
    ] {
        assert_eq!(all(&gateway, list.clone()).await.1.len(), count, "{list:?}");
    }
}

#[tokio::test]
async fn one_template_is_typed_and_exact() {
    let gateway = Gateway::dev().await;
    let hello = v1::ListTemplatesAction { name: "hello_world".to_owned(), ..Default::default() };
    let listed = page(&gateway, hello).await.templates.remove(0);
    let Ok(Outcome::Get(template)) = manage(&gateway, webhook::WABA_ID, get(&listed.id)).await else {
        panic!("expected a template")
    };
    assert_eq!(template, listed);
    assert_eq!((template.name.as_str(), template.status.as_str()), ("hello_world", "APPROVED"));
    assert!(!template.components.is_empty());
    let raw: serde_json::Value = serde_json::from_str(&template.raw_json).unwrap();
    assert_eq!(raw["id"], template.id.as_str());
}

#[tokio::test]
async fn bad_requests_are_refused() {
    let gateway = Gateway::dev().await;
    let refusal = manage(&gateway, "", get("999999999")).await.unwrap_err();
    assert_eq!(refusal.is(), (Code::NotFound, "UPSTREAM_NOT_FOUND"));
    assert_eq!(refusal.metadata["meta_subcode"], "33");
    for bad in ["", "abc", "../me", "1 2", &"1".repeat(33)] {
        let refusal = manage(&gateway, "", get(bad)).await.unwrap_err();
        assert_eq!(refusal.is(), (Code::InvalidArgument, "VALIDATION_FAILED"), "{bad}");
        assert_eq!(refusal.fields(), ["get.template_id"], "{bad}");
    }
    let list = v1::ListTemplatesAction {
        name: "a".repeat(513),
        language: "a".repeat(33),
        status: "a".repeat(65),
        category: "a".repeat(65),
        page_size: -1,
        page_token: "a".repeat(2049),
        content: "a".repeat(1025),
        quality_score: "a".repeat(65),
    };
    let refusal = manage(&gateway, "x", Action::List(list)).await.unwrap_err();
    let fields =
        ["name", "language", "status", "category", "page_size", "page_token", "content", "quality_score"];
    let expected: Vec<_> = fields.iter().map(|field| format!("list.{field}")).collect();
    assert_eq!(refusal.fields()[0], "waba_id");
    assert_eq!(refusal.fields()[1..], expected);
    let stray = v1::ListTemplatesAction { page_token: "no-such-page".to_owned(), ..Default::default() };
    let refusal = manage(&gateway, "", Action::List(stray)).await.unwrap_err();
    assert_eq!(refusal.is(), (Code::InvalidArgument, "UPSTREAM_INVALID_PARAMETER"));
    let empty = v1::ManageTemplateRequest::default();
    let status = gateway.client().await.manage_template(empty).await.unwrap_err();
    assert_eq!(Refusal::of(&status).fields(), ["action"]);
    assert!(gateway.simulator("requests?path=/me").await.as_array().unwrap().is_empty());
}

#[tokio::test]
async fn failures_of_meta_are_unavailable() {
    let gateway = Gateway::dev().await;
    for fault in [
        json!({"error": {"code": 2}}),
        json!({"http": {"status": 502, "body": "<html>"}}),
        json!({"http": {"status": 200, "body": "{}"}}),
        json!({"cut": "before_acceptance"}),
    ] {
        gateway.fault("/message_templates", fault.clone()).await;
        let list = Action::List(v1::ListTemplatesAction::default());
        let refusal = manage(&gateway, "", list).await.unwrap_err();
        assert_eq!(refusal.is(), (Code::Unavailable, "UPSTREAM_UNAVAILABLE"), "{fault}");
        assert!(refusal.retry.is_some());
    }
}

#[tokio::test]
async fn a_waba_is_chosen_only_where_there_is_a_choice() {
    let Serve { gateway, .. } = &Serve::start().await;
    let list = || Action::List(v1::ListTemplatesAction::default());
    let refusal = manage(gateway, "", list()).await.unwrap_err();
    assert_eq!(refusal.is(), (Code::InvalidArgument, "VALIDATION_FAILED"));
    assert_eq!(refusal.fields(), ["waba_id"]);
    assert!(refusal.message.contains(SECOND_WABA) && refusal.message.contains(webhook::WABA_ID));
    let refusal = manage(gateway, "", get("x")).await.unwrap_err();
    assert_eq!(refusal.fields(), ["get.template_id", "waba_id"], "every bad field is listed");
    let refusal = manage(gateway, "1", list()).await.unwrap_err();
    assert_eq!(refusal.is(), (Code::NotFound, "WABA_NOT_CONFIGURED"));
    let Ok(Outcome::List(_)) = manage(gateway, SECOND_WABA, list()).await else { panic!("expected a page") };
}
