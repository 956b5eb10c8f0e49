//! `ManageTemplate`: what changes something, what Meta says of it, and what it refuses.

use serde_json::{Value, json};
use tonic::Code;
use whatsapp_gateway::contract::v1;
use whatsapp_gateway::contract::v1::manage_template_request::Action;
use whatsapp_gateway::contract::v1::manage_template_response::Result as Outcome;
use whatsapp_gateway::contract::v1::template_definition_component::Component;

use crate::eventually;
use crate::support::Gateway;
use crate::support::template::{asking, body, component, create, delete, edit, get, one_time_password};

fn header(handle: &str) -> v1::TemplateDefinitionComponent {
    let example = v1::TemplateHeaderExample { header_handle: vec![handle.to_owned()], ..Default::default() };
    let format = "IMAGE".to_owned();
    component(Component::Header(v1::TemplateDefinitionHeader {
        format,
        text: String::new(),
        example: Some(example),
    }))
}

#[tokio::test]
async fn a_creation_is_reviewed_and_an_event_tells() {
    let gateway = Gateway::dev().await;
    let id = gateway.created(create("parcel", "Your parcel is here.")).await;
    assert_eq!(gateway.template(&id).await.status, "PENDING");
    let rejected = gateway.created(create("please_reject", "Your parcel is here.")).await;
    eventually!(gateway.template_events().await.len() == 2);
    for update in gateway.template_events().await {
        let is_rejected = update.message_template_id == rejected;
        let expected = if is_rejected {
            (&rejected, "please_reject", "REJECTED", "INVALID_FORMAT")
        } else {
            (&id, "parcel", "APPROVED", "NONE")
        };
        let said = (
            &update.message_template_id,
            update.message_template_name.as_str(),
            update.event.as_str(),
            update.reason.as_str(),
        );
        assert_eq!(said, expected);
        assert_eq!(update.rejection_info.is_some(), is_rejected);
    }
    assert_eq!(gateway.templates("parcel").await[0].status, "APPROVED");
    let rejected = gateway.template(&rejected).await;
    assert_eq!((rejected.status.as_str(), rejected.rejected_reason.as_str()), ("REJECTED", "INVALID_FORMAT"));
}

#[tokio::test]
async fn an_edit_replaces_the_components_and_an_event_tells() {
    let gateway = Gateway::dev().await;
    let id = gateway.put_template("parcel", "It is on its way.", "APPROVED").await;
    let Outcome::Edit(_) = gateway.manage(Action::Edit(edit(&id, "It is here."))).await.unwrap() else {
        panic!("expected an edit")
    };
    let shown = gateway.template(&id).await;
    assert_eq!((shown.status.as_str(), shown.components), ("PENDING", vec![body("It is here.")]));
    eventually!(gateway.template(&id).await.status == "APPROVED");
    let edited = |event: v1::Event| match event.payload {
        Some(v1::event::Payload::MessageTemplateComponentsUpdate(update)) => Some(update),
        _ => None,
    };
    let updates: Vec<_> = gateway.events().await.into_iter().filter_map(edited).collect();
    assert_eq!(updates.len(), 1);
    assert_eq!(
        (updates[0].message_template_id.as_str(), updates[0].message_template_element.as_str()),
        (id.as_str(), "It is here.")
    );
    // Meta takes this one in the query.
    let quiet = v1::EditTemplateAction {
        cta_url_link_tracking_opted_out: Some(true),
        category: "UTILITY".to_owned(),
        ..edit(&gateway.put_template("offer", "Sale!", "REJECTED").await, "Sale! Today.")
    };
    gateway.manage(Action::Edit(quiet)).await.unwrap();
    let offer = gateway.templates("offer").await.remove(0);
    assert!(offer.cta_url_link_tracking_opted_out, "{offer:?}");
}

#[tokio::test]
async fn deletions_by_name_by_language_and_by_ids() {
    let gateway = Gateway::dev().await;
    let english = gateway.created(create("parcel", "It is here.")).await;
    let german = v1::CreateTemplateAction { language: "de".to_owned(), ..create("parcel", "Es ist da.") };
    let german = gateway.created(german).await;
    let one = v1::DeleteTemplateAction {
        name: "parcel".to_owned(),
        template_id: german.clone(),
        ..Default::default()
    };
    gateway.manage(Action::Delete(one)).await.unwrap();
    let left: Vec<_> = gateway.templates("parcel").await.into_iter().map(|t| t.id).collect();
    assert_eq!(left, [english.as_str()]);
    gateway.manage(delete("parcel")).await.unwrap();
    assert!(gateway.templates("parcel").await.is_empty());
    let mut ids = Vec::new();
    for name in ["one", "two"] {
        ids.push(gateway.created(create(name, "It is here.")).await);
    }
    let some = |ids: &[&str]| {
        let template_ids = ids.iter().map(|id| (*id).to_owned()).collect();
        Action::Delete(v1::DeleteTemplateAction { template_ids, ..Default::default() })
    };
    // All or none.
    let refusal = gateway.unmanaged(some(&[&ids[0], "999"])).await;
    assert_eq!(refusal.is(), (Code::InvalidArgument, "UPSTREAM_INVALID_PARAMETER"));
    assert_eq!(gateway.template(&ids[0]).await.name, "one");
    gateway.manage(some(&[&ids[0], &ids[1]])).await.unwrap();
    for id in ids.iter().chain([&english, &german]) {
        assert_eq!(gateway.unmanaged(get(id)).await.is(), (Code::NotFound, "UPSTREAM_NOT_FOUND"));
    }
    eventually!(gateway.template_events().await.iter().filter(|u| u.event == "DELETED").count() == 4);
}

#[tokio::test]
async fn a_sample_goes_from_upload_to_template() {
    let gateway = Gateway::dev().await;
    let handle = gateway.uploaded_sample("image/png", b"a picture").await;
    let with = |handle: &str| v1::CreateTemplateAction {
        components: vec![header(handle), body("It looks like this.")],
        ..create("look", "")
    };
    let id = gateway.created(with(&handle)).await;
    let shown = gateway.template(&id).await;
    let Some(Component::Header(header)) = shown.components[0].component.clone() else { panic!("{shown:?}") };
    let sample = &header.example.unwrap().header_handle[0];
    assert!(sample.starts_with("https://"), "{sample}");
    // A handle that Meta does not know, or no longer; and one of a file of another kind.
    let document = gateway.uploaded_sample("application/pdf", b"a document").await;
    for wrong in [format!("{handle}0"), document] {
        let create = v1::CreateTemplateAction { name: "other".to_owned(), ..with(&wrong) };
        let refusal = gateway.unmanaged(Action::Create(create)).await;
        assert_eq!(refusal.is(), (Code::InvalidArgument, "TEMPLATE_REJECTED"), "{wrong}");
        assert_eq!(refusal.fields(), ["create.components[0].header.example.header_handle"]);
        assert_eq!(refusal.metadata["meta_subcode"], "2388047");
    }
}

#[tokio::test]
async fn authentication_templates_in_many_languages() {
    let gateway = Gateway::dev().await;
    let upsert = |languages: &[&str]| {
        Action::Upsert(v1::UpsertTemplateAction {
            name: "code".to_owned(),
            languages: languages.iter().map(|language| (*language).to_owned()).collect(),
            components: one_time_password(),
            message_send_ttl_seconds: Some(60),
        })
    };
    let Outcome::Upsert(made) = gateway.manage(upsert(&["en_US", "de"])).await.unwrap() else {
        panic!("expected an upsert")
    };
    let languages: Vec<_> = made.templates.iter().map(|t| (t.language.as_str(), t.status.as_str())).collect();
    assert_eq!(languages, [("en_US", "APPROVED"), ("de", "APPROVED")]);
    let Outcome::Upsert(again) = gateway.manage(upsert(&["de", "es"])).await.unwrap() else {
        panic!("expected an upsert")
    };
    assert_eq!(again.templates[0].template_id, made.templates[1].template_id);
    assert_eq!(gateway.templates("code").await.len(), 3);
}

#[tokio::test]
async fn the_archive_takes_some_and_gives_them_back() {
    let gateway = Gateway::dev().await;
    let id = gateway.put_template("parcel", "It is here.", "APPROVED").await;
    let ids = vec![id.clone(), "999".to_owned()];
    let archive = Action::Archive(v1::ArchiveTemplatesAction { template_ids: ids.clone() });
    let Outcome::Archive(archived) = gateway.manage(archive).await.unwrap() else {
        panic!("expected archive")
    };
    assert_eq!(archived.template_ids, [id.as_str()]);
    assert_eq!((archived.failures.len(), archived.failures[0].template_id.as_str()), (1, "999"));
    assert!(!archived.failures[0].reason.is_empty());
    assert_eq!(gateway.template(&id).await.status, "ARCHIVED");
    let unarchive = Action::Unarchive(v1::UnarchiveTemplatesAction { template_ids: ids });
    let Outcome::Unarchive(back) = gateway.manage(unarchive).await.unwrap() else {
        panic!("expected unarchive")
    };
    assert_eq!((back.template_ids, back.failures.len()), (vec![id.clone()], 1));
    assert_eq!(gateway.template(&id).await.status, "APPROVED");
    eventually!(gateway.template_events().await.len() == 2);
    let events: Vec<_> = gateway.template_events().await.into_iter().map(|update| update.event).collect();
    assert_eq!(events, ["ARCHIVED", "UNARCHIVED"]);
}

#[tokio::test]
async fn a_paused_template_is_unpaused_once() {
    let gateway = Gateway::dev().await;
    let id = gateway.put_template("parcel", "It is here.", "PAUSED").await;
    let unpause = || Action::Unpause(v1::UnpauseTemplateAction { template_id: id.clone() });
    for is_first in [true, false] {
        let Outcome::Unpause(unpaused) = gateway.manage(unpause()).await.unwrap() else {
            panic!("expected unpause")
        };
        assert_eq!(unpaused.is_unpaused, is_first);
        assert!(!unpaused.reason.is_empty());
    }
    assert_eq!(gateway.template(&id).await.status, "APPROVED");
    let stranger = Action::Unpause(v1::UnpauseTemplateAction { template_id: "999".to_owned() });
    assert_eq!(gateway.unmanaged(stranger).await.is(), (Code::NotFound, "UPSTREAM_NOT_FOUND"));
}

/// A refusal of Meta's with the code in the subcode, as its template endpoints write it.
fn fault(subcode: u32) -> Value {
    json!({"error": {"code": 100, "subcode": subcode}})
}

#[tokio::test]
async fn every_code_of_the_reference_has_its_reason() {
    let gateway = Gateway::dev().await;
    for (subcode, code, reason, field) in [
        (2_388_019, Code::ResourceExhausted, "TEMPLATE_REJECTED", ""),
        (2_388_023, Code::FailedPrecondition, "TEMPLATE_REJECTED", ""),
        (2_388_024, Code::AlreadyExists, "UPSTREAM_CONFLICT", ""),
        (2_388_039, Code::FailedPrecondition, "TEMPLATE_REJECTED", ""),
        (2_388_040, Code::InvalidArgument, "TEMPLATE_REJECTED", ""),
        (2_388_047, Code::InvalidArgument, "TEMPLATE_REJECTED", ".header.example.header_handle"),
        (2_388_072, Code::InvalidArgument, "TEMPLATE_REJECTED", ".body"),
        (2_388_293, Code::InvalidArgument, "TEMPLATE_REJECTED", ".body"),
        (2_388_299, Code::InvalidArgument, "TEMPLATE_REJECTED", ".body"),
        (2_388_318, Code::FailedPrecondition, "TEMPLATE_REJECTED", ""),
        (2_388_330, Code::FailedPrecondition, "TEMPLATE_REJECTED", ""),
    ] {
        gateway.faults("POST", "/message_templates", 1, &fault(subcode)).await;
        let components = vec![header("4::a"), body("It is here.")];
        let refusal = gateway
            .unmanaged(Action::Create(v1::CreateTemplateAction { components, ..create("parcel", "") }))
            .await;
        assert_eq!(refusal.is(), (code, reason), "{subcode}");
        assert_eq!(refusal.metadata["meta_code"], "100");
        assert_eq!(refusal.metadata["meta_subcode"], subcode.to_string());
        assert!(!refusal.metadata["fbtrace_id"].is_empty());
        match field {
            "" => assert!(refusal.fields().is_empty(), "{refusal:?}"),
            ".body" => assert_eq!(refusal.fields(), ["create.components[1].body"], "{subcode}"),
            field => assert_eq!(refusal.fields(), [format!("create.components[0]{field}")], "{subcode}"),
        }
    }
    gateway.faults("POST", "/message_templates", 1, &fault(2_388_023)).await;
    let being_deleted = gateway.unmanaged(Action::Create(create("parcel", "It is here."))).await;
    assert_eq!(being_deleted.retry.map(|delay| delay.as_secs()), Some(30 * 24 * 3600));
}

#[tokio::test]
async fn what_the_state_forbids_is_refused_with_metas_words() {
    let gateway = Gateway::dev().await;
    let disabled = gateway.put_template("disabled", "It is here.", "DISABLED").await;
    let approved = gateway.put_template("approved", "It is here.", "APPROVED").await;
    let category =
        v1::EditTemplateAction { category: "MARKETING".to_owned(), ..edit(&approved, "It is here.") };
    for action in [edit(&disabled, "It is there."), category] {
        let refusal = gateway.unmanaged(Action::Edit(action)).await;
        assert_eq!(refusal.is(), (Code::FailedPrecondition, "TEMPLATE_REJECTED"));
        assert_eq!(refusal.metadata["meta_subcode"], "2388039");
        assert!(refusal.message.contains("cannot be edited"), "{}", refusal.message);
    }
    // An approved template may be edited once a day.
    gateway.manage(Action::Edit(edit(&approved, "It is there."))).await.unwrap();
    eventually!(gateway.template(&approved).await.status == "APPROVED");
    let refusal = gateway.unmanaged(Action::Edit(edit(&approved, "It is here again."))).await;
    assert_eq!(refusal.is(), (Code::FailedPrecondition, "TEMPLATE_REJECTED"));
    assert_eq!(
        gateway.unmanaged(delete("disabled")).await.is(),
        (Code::InvalidArgument, "UPSTREAM_INVALID_PARAMETER")
    );
    // The name of an approved template is blocked for 30 days.
    gateway.manage(delete("approved")).await.unwrap();
    let refusal = gateway.unmanaged(Action::Create(create("approved", "It is here."))).await;
    assert_eq!(refusal.is(), (Code::FailedPrecondition, "TEMPLATE_REJECTED"));
    assert_eq!(refusal.metadata["meta_subcode"], "2388023");
    // Limits of the WABA and of the hour.
    gateway.simulate("limits", &json!({"templates_per_waba": 1})).await;
    let refusal = gateway.unmanaged(Action::Create(create("parcel", "It is here."))).await;
    assert_eq!(refusal.is(), (Code::ResourceExhausted, "TEMPLATE_REJECTED"));
    gateway.simulate("limits", &json!({"template_creations_per_hour": 0})).await;
    let refusal = gateway.unmanaged(Action::Create(create("parcel", "It is here."))).await;
    assert_eq!(refusal.is(), (Code::ResourceExhausted, "UPSTREAM_ACCOUNT_RATE"));
    assert!(refusal.retry.is_some());
    gateway.faults("POST", "/message_templates", 1, &json!({"error": {"code": 200}})).await;
    let refusal = gateway.unmanaged(Action::Create(create("parcel", "It is here."))).await;
    assert_eq!(refusal.is(), (Code::FailedPrecondition, "UPSTREAM_CREDENTIALS"));
    assert_eq!(refusal.actor(), "operator");
}

#[tokio::test]
async fn what_is_shown_is_what_goes_out() {
    let gateway = Gateway::dev().await;
    let shown = |action: Action, validate_only: bool| v1::ManageTemplateRequest {
        validate_only,
        show_request: true,
        ..asking(action)
    };
    let mut client = gateway.client().await;
    let action = Action::Create(create("parcel", "It is here."));
    let validated = client.manage_template(shown(action.clone(), true)).await.unwrap().into_inner();
    assert_eq!((validated.result, validated.waba_id.as_str()), (None, crate::support::webhook::WABA_ID));
    assert_eq!(gateway.calls("POST", "/message_templates").await, 0, "nobody was called");
    let done = client.manage_template(shown(action, false)).await.unwrap().into_inner();
    assert!(done.result.is_some());
    assert_eq!(done.request_json, validated.request_json);
    let sent = gateway.simulator("requests?method=POST&path=/message_templates").await;
    assert_eq!(sent[0]["body"], serde_json::from_str::<Value>(&done.request_json).unwrap());
    // Without a body there is nothing to show; without a wish nothing is shown.
    let read = client.manage_template(shown(get("1"), true)).await.unwrap().into_inner();
    assert_eq!(read.request_json, "");
    let plain = v1::ManageTemplateRequest { validate_only: true, ..asking(delete("parcel")) };
    assert_eq!(client.manage_template(plain).await.unwrap().into_inner().request_json, "");
    let (_, metrics) = gateway.admin("/metrics").await;
    for (action, status) in [("create", "OK"), ("get", "OK"), ("delete", "OK")] {
        let labels = format!(
            "rpc_method=\"whatsapp.gateway.v1.GatewayService/ManageTemplate/{action}\",rpc_response_status_code=\"{status}\""
        );
        assert!(metrics.contains(&labels), "{labels} is missing in {metrics}");
    }
}
