//! `ManageTemplate`: what Meta has ready, how two templates did, and copies from another WABA.

use serde_json::{Value, json};
use tonic::Code;
use whatsapp_gateway::contract::v1;
use whatsapp_gateway::contract::v1::manage_template_request::Action;
use whatsapp_gateway::contract::v1::manage_template_response::Result as Outcome;

use crate::support::serve::SECOND_WABA;
use crate::support::template::{asking, create, get};
use crate::support::{Gateway, Refusal, Serve, webhook};

async fn library(gateway: &Gateway, query: v1::ListLibraryTemplatesAction) -> v1::ListLibraryTemplatesResult {
    match gateway.manage(Action::Library(query)).await {
        Ok(Outcome::Library(page)) => page,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn the_library_comes_page_by_page_typed_and_exact() {
    let gateway = Gateway::dev().await;
    let all = library(&gateway, v1::ListLibraryTemplatesAction::default()).await;
    assert!(all.templates.len() > 2 && all.next_page_token.is_empty());
    let mut query = v1::ListLibraryTemplatesAction { page_size: 2, ..Default::default() };
    let mut paged = Vec::new();
    for _ in 0..all.templates.len() {
        let page = library(&gateway, query.clone()).await;
        assert!((1..=2).contains(&page.templates.len()));
        paged.extend(page.templates);
        query.page_token = page.next_page_token;
        if query.page_token.is_empty() {
            break;
        }
    }
    assert_eq!(paged, all.templates);
    let text = str::to_owned;
    for (query, name) in [
        (
            v1::ListLibraryTemplatesAction { name: text("delivery_update_1"), ..Default::default() },
            "delivery_update_1",
        ),
        (
            v1::ListLibraryTemplatesAction { usecase: text("PAYMENT_DUE_REMINDER"), ..Default::default() },
            "payment_due_reminder_1",
        ),
    ] {
        let page =
            library(&gateway, v1::ListLibraryTemplatesAction { language: text("en_US"), ..query }).await;
        assert_eq!(page.templates.len(), 1, "{name}");
        let ready = &page.templates[0];
        assert_eq!(
            (ready.name.as_str(), ready.language.as_str(), ready.category.as_str()),
            (name, "en_US", "UTILITY")
        );
        assert_eq!(ready.body_params.len(), ready.body_param_types.len());
        let raw: Value = serde_json::from_str(&ready.raw_json).unwrap();
        assert_eq!(
            (raw["body"].as_str().unwrap(), raw["name"].as_str().unwrap()),
            (ready.body.as_str(), name)
        );
    }
    // A template of the library is created with what it leaves open.
    let url = v1::LibraryTemplateUrl {
        base_url: text("https://example.com/{{1}}"),
        url_suffix_example: text("https://example.com/42"),
    };
    let inputs = [
        v1::library_template_button_input::Input::Url(url),
        v1::library_template_button_input::Input::PhoneNumber(text("+16315551010")),
    ];
    let inputs = inputs.map(|input| v1::LibraryTemplateButtonInput { input: Some(input) });
    let id = gateway
        .created(v1::CreateTemplateAction {
            components: vec![],
            library_template_name: text("delivery_update_1"),
            library_template_button_inputs: inputs.to_vec(),
            ..create("my_delivery", "")
        })
        .await;
    let made = gateway.template(&id).await;
    assert_eq!(
        (made.status.as_str(), made.library_template_name.as_str()),
        ("APPROVED", "delivery_update_1")
    );
}

#[tokio::test]
async fn metas_texts_of_one_time_passwords() {
    let gateway = Gateway::dev().await;
    let preview = |query| Action::Preview(query);
    let query = v1::PreviewTemplateAction {
        languages: vec!["en_US".to_owned(), "de".to_owned()],
        add_security_recommendation: Some(true),
        code_expiration_minutes: Some(10),
    };
    let Outcome::Preview(shown) = gateway.manage(preview(query)).await.unwrap() else { panic!("no preview") };
    let languages: Vec<_> = shown.previews.iter().map(|preview| preview.language.as_str()).collect();
    assert_eq!(languages, ["en_US", "de"]);
    for preview in &shown.previews {
        assert!(preview.body.contains("{{1}}") && preview.footer.contains("10"), "{preview:?}");
        assert!(!preview.buttons[0].text.is_empty());
    }
    let all = v1::PreviewTemplateAction::default();
    let Outcome::Preview(all) = gateway.manage(preview(all)).await.unwrap() else { panic!("no preview") };
    assert!(all.previews.len() > 20 && all.previews.iter().all(|preview| preview.footer.is_empty()));
}

#[tokio::test]
async fn two_templates_are_compared() {
    let gateway = Gateway::dev().await;
    let mut ids = Vec::new();
    for (name, sends, rate, why) in [("one", 1500, 9, "SPAM"), ("two", 2400, 3, "NO_SIGN_UP")] {
        let id = gateway.put_template(name, "It is here.", "APPROVED").await;
        let change = json!({"sends": sends, "block_rate": rate, "top_block_reason": why});
        gateway.simulate(&format!("templates/{id}"), &change).await;
        ids.push(id);
    }
    let seldom = gateway.put_template("seldom", "It is here.", "APPROVED").await;
    let compare = |one: &str, other: &str, window_days| {
        Action::Compare(v1::CompareTemplatesAction {
            template_id: one.to_owned(),
            other_template_id: other.to_owned(),
            window_days,
        })
    };
    for (asked, days) in [(0, 7), (30, 30), (90, 90)] {
        let Outcome::Compare(compared) = gateway.manage(compare(&ids[0], &ids[1], asked)).await.unwrap()
        else {
            panic!("no figures")
        };
        let (start, end) = (compared.start_time.unwrap(), compared.end_time.unwrap());
        assert_eq!(end.seconds - start.seconds, days * 24 * 3600);
        assert_eq!(compared.template_ids_by_block_rate, [ids[1].as_str(), ids[0].as_str()]);
        let figures: Vec<_> = compared
            .templates
            .iter()
            .map(|t| (t.template_id.as_str(), t.message_sends, t.top_block_reason.as_str()))
            .collect();
        assert_eq!(figures, [(ids[0].as_str(), 1500, "SPAM"), (ids[1].as_str(), 2400, "NO_SIGN_UP")]);
    }
    let refusal = gateway.unmanaged(compare(&ids[0], &seldom, 7)).await;
    assert_eq!(refusal.is(), (Code::InvalidArgument, "UPSTREAM_INVALID_PARAMETER"));
    assert!(refusal.message.contains("1000"), "{}", refusal.message);
    let refusal = gateway.unmanaged(compare(&ids[0], "999", 7)).await;
    assert_eq!(refusal.is(), (Code::InvalidArgument, "UPSTREAM_INVALID_PARAMETER"));
    for (action, field) in [
        (compare(&ids[0], &ids[0], 7), "compare.other_template_id"),
        (compare(&ids[0], &ids[1], 8), "compare.window_days"),
    ] {
        assert_eq!(gateway.unmanaged(action).await.fields(), [field]);
    }
}

#[tokio::test]
async fn templates_are_copied_from_another_waba() {
    let Serve { gateway, .. } = &Serve::start().await;
    let manage = async |waba_id: &str, action: Action| {
        let request = v1::ManageTemplateRequest { waba_id: waba_id.to_owned(), ..asking(action) };
        let answer = gateway.client().await.manage_template(request).await;
        answer.map(|answer| answer.into_inner().result.unwrap()).map_err(|status| Refusal::of(&status))
    };
    let good = gateway.put_template("good", "It is here.", "APPROVED").await;
    let paused = gateway.put_template("paused", "It is here.", "PAUSED").await;
    let migrate = |source_waba_id: &str, template_ids: &[&String]| {
        Action::Migrate(v1::MigrateTemplatesAction {
            source_waba_id: source_waba_id.to_owned(),
            template_ids: template_ids.iter().map(|id| (*id).clone()).collect(),
            ..Default::default()
        })
    };
    let copied = manage(SECOND_WABA, migrate(webhook::WABA_ID, &[&good, &paused])).await.unwrap();
    let Outcome::Migrate(copied) = copied else { panic!("{copied:?}") };
    assert_eq!(copied.template_ids, [good.as_str()]);
    assert_eq!((copied.failures.len(), copied.failures[0].template_id.as_str()), (1, paused.as_str()));
    assert!(!copied.failures[0].reason.is_empty());
    let list = v1::ListTemplatesAction { name: "good".to_owned(), ..Default::default() };
    let Ok(Outcome::List(page)) = manage(SECOND_WABA, Action::List(list)).await else { panic!("no list") };
    assert_eq!(page.templates.len(), 1);
    assert_ne!(page.templates[0].id, good);
    let refusal = manage(SECOND_WABA, migrate(SECOND_WABA, &[])).await.unwrap_err();
    assert_eq!(refusal.fields(), ["migrate.source_waba_id"]);
    let refusal = manage(SECOND_WABA, migrate("1", &[])).await.unwrap_err();
    assert_eq!(refusal.is(), (Code::InvalidArgument, "UPSTREAM_INVALID_PARAMETER"));
    // A WABA that this gateway does not have; and one that has no say over the template.
    let refusal = manage("1", get(&good)).await.unwrap_err();
    assert_eq!(refusal.is(), (Code::NotFound, "WABA_NOT_CONFIGURED"));
    let foreign = v1::DeleteTemplateAction { template_ids: vec![good.clone()], ..Default::default() };
    let refusal = manage(SECOND_WABA, Action::Delete(foreign)).await.unwrap_err();
    assert_eq!(refusal.is(), (Code::InvalidArgument, "UPSTREAM_INVALID_PARAMETER"));
    let Ok(Outcome::Get(_)) = manage(webhook::WABA_ID, get(&good)).await else { panic!("it is gone") };
}
