//! `ManageTemplate` when answers get lost: what the caller sees, and what Meta holds.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::task::JoinSet;
use tonic::Code;
use whatsapp_gateway::contract::v1;
use whatsapp_gateway::contract::v1::manage_template_request::Action;
use whatsapp_gateway::contract::v1::manage_template_response::Result as Outcome;
use whatsapp_gateway::contract::v1::template_definition_component::Component;

use crate::eventually;
use crate::support::template::{asking, body, component, create, delete, edit, get};
use crate::support::{Gateway, Serve, webhook};

const UNKNOWN: (Code, &str) = (Code::Unknown, "SEND_OUTCOME_UNKNOWN");

/// Answers that prove nothing about a call that Meta did not carry out.
fn undone() -> [Value; 6] {
    [
        json!({"cut": "before_acceptance"}),
        json!({"stall": true}),
        json!({"http": {"status": 502, "body": "<html>"}}),
        json!({"http": {"status": 200, "body": "{}", "content_type": "application/json"}}),
        json!({"error": {"code": 2}}),
        // Meta names an outage; as an HTTP 5xx that proves nothing.
        json!({"error": {"code": 131_057, "http_status": 500}}),
    ]
}

async fn impatient() -> Gateway {
    Gateway::builder().env("WHATSAPP_GATEWAY__CLOUD_API__REQUEST_TIMEOUT", "1 s").start().await
}

/// Runs one case for each fault at once: every one waits for the looks of the gateway.
async fn for_each_undone<F, W>(case: F)
where
    F: Fn(usize, Value) -> W,
    W: Future<Output = ()> + Send + 'static,
{
    let mut cases = JoinSet::new();
    for (number, fault) in undone().into_iter().enumerate() {
        cases.spawn(case(number, fault));
    }
    while let Some(case) = cases.join_next().await {
        case.unwrap();
    }
}

#[tokio::test]
async fn a_creation_that_was_done_is_found() {
    let gateway = impatient().await;
    for (name, fault) in [("cut", json!({"cut": "after_acceptance"})), ("late", json!({"delay_ms": 60_000}))]
    {
        gateway.faults("POST", "/message_templates", 1, &fault).await;
        let created = match gateway.manage(Action::Create(create(name, "Your parcel is here."))).await {
            Ok(Outcome::Create(created)) => created,
            other => panic!("{other:?}"),
        };
        let held = gateway.templates(name).await;
        assert_eq!(held.len(), 1);
        assert_eq!((&created.template_id, created.category.as_str()), (&held[0].id, "UTILITY"));
        assert!(["PENDING", "APPROVED"].contains(&created.status.as_str()));
    }
    assert_eq!(gateway.calls("POST", "/message_templates").await, 2, "none was repeated");
}

#[tokio::test]
async fn a_creation_that_nobody_can_prove_is_unknown() {
    for_each_undone(|_, fault| async move {
        let gateway = impatient().await;
        gateway.faults("POST", "/message_templates", 1, &fault).await;
        let refusal = gateway.unmanaged(Action::Create(create("parcel", "Your parcel is here."))).await;
        assert_eq!(refusal.is(), UNKNOWN, "{fault}");
        assert!(refusal.message.contains("list with name \"parcel\" and language \"en_US\""), "{refusal:?}");
        assert!(!refusal.metadata.contains_key("send_tag") && refusal.retry.is_none(), "{refusal:?}");
        assert_eq!(gateway.calls("POST", "/message_templates").await, 1, "{fault}: it was repeated");
        assert_eq!(gateway.calls("GET", "/message_templates").await, 3, "{fault}: it looked three times");
        assert!(gateway.templates("parcel").await.is_empty(), "{fault}");
    })
    .await;
}

#[tokio::test]
async fn what_somebody_else_created_is_not_ours() {
    let gateway = impatient().await;
    gateway.put_template("offer", "Another text.", "APPROVED").await;
    gateway.put_template("paused", "Your parcel is here.", "PAUSED").await;
    gateway.put_template("parcel_two", "Your parcel is here.", "APPROVED").await;
    gateway.faults("POST", "/message_templates", 3, &json!({"cut": "before_acceptance"})).await;
    // Another content, a past that a new one cannot have, and a longer name that the filter finds.
    for name in ["offer", "paused", "parcel"] {
        let refusal = gateway.unmanaged(Action::Create(create(name, "Your parcel is here."))).await;
        assert_eq!(refusal.is(), UNKNOWN, "{name}");
    }
}

#[tokio::test]
async fn a_creation_is_unknown_while_nothing_can_be_read() {
    let gateway = impatient().await;
    gateway.faults("POST", "/message_templates", 1, &json!({"cut": "after_acceptance"})).await;
    gateway.faults("GET", "/message_templates", 3, &json!({"http": {"status": 503}})).await;
    let refusal = gateway.unmanaged(Action::Create(create("parcel", "Your parcel is here."))).await;
    assert_eq!(refusal.is(), UNKNOWN);
    // The read that the message names proves it.
    assert_eq!(gateway.templates("parcel").await.len(), 1);
}

#[tokio::test]
async fn an_edit_is_settled_by_what_is_there() {
    let gateway = impatient().await;
    let id = gateway.put_template("parcel", "It is on its way.", "REJECTED").await;
    let path = format!("/{id}");
    gateway.faults("POST", &path, 1, &json!({"cut": "after_acceptance"})).await;
    assert_eq!(
        gateway.manage(Action::Edit(edit(&id, "It is here."))).await.unwrap(),
        Outcome::Edit(v1::EditTemplateResult {})
    );
    eventually!(gateway.template(&id).await.status == "APPROVED");
    for_each_undone(|_, fault| async move {
        let gateway = impatient().await;
        let id = gateway.put_template("parcel", "It is on its way.", "REJECTED").await;
        gateway.faults("POST", &format!("/{id}"), 1, &fault).await;
        let refusal = gateway.unmanaged(Action::Edit(edit(&id, "It is here."))).await;
        assert_eq!(refusal.is(), UNKNOWN, "{fault}");
        assert!(refusal.message.contains(&format!("get with template_id \"{id}\"")), "{refusal:?}");
        assert_eq!(gateway.calls("POST", &format!("/{id}")).await, 1, "{fault}: it was repeated");
        assert!(gateway.template(&id).await.raw_json.contains("on its way"), "{fault}");
    })
    .await;
}

#[tokio::test]
async fn an_edit_of_what_meta_does_not_show_stays_unknown() {
    let gateway = impatient().await;
    let id = gateway.put_template("parcel", "It is here.", "REJECTED").await;
    gateway.faults("POST", &format!("/{id}"), 1, &json!({"cut": "after_acceptance"})).await;
    let features = vec![v1::TemplateCreativeFeature {
        feature: "image_touchups".to_owned(),
        enroll_status: "OPT_OUT".to_owned(),
    }];
    let hidden = v1::EditTemplateAction { creative_features: features, ..edit(&id, "It is here.") };
    assert_eq!(gateway.unmanaged(Action::Edit(hidden)).await.is(), UNKNOWN);
}

#[tokio::test]
async fn a_deletion_is_settled_by_what_is_gone() {
    let gateway = impatient().await;
    let mut ids = Vec::new();
    for name in ["one", "two", "three", "four"] {
        ids.push(gateway.put_template(name, "It is here.", "REJECTED").await);
    }
    let by_id = v1::DeleteTemplateAction {
        name: "two".to_owned(),
        template_id: ids[1].clone(),
        ..Default::default()
    };
    let by_ids = v1::DeleteTemplateAction { template_ids: ids[2..].to_vec(), ..Default::default() };
    for action in [delete("one"), Action::Delete(by_id), Action::Delete(by_ids)] {
        gateway.faults("DELETE", "/message_templates", 1, &json!({"cut": "after_acceptance"})).await;
        assert_eq!(gateway.manage(action).await.unwrap(), Outcome::Delete(v1::DeleteTemplateResult {}));
    }
    for id in &ids {
        assert_eq!(gateway.unmanaged(get(id)).await.is(), (Code::NotFound, "UPSTREAM_NOT_FOUND"));
    }
    assert_eq!(gateway.calls("DELETE", "/message_templates").await, 3, "none was repeated");
    for_each_undone(|number, fault| async move {
        let gateway = impatient().await;
        let id = gateway.put_template("parcel", "It is here.", "APPROVED").await;
        gateway.faults("DELETE", "/message_templates", 1, &fault).await;
        let template_ids = v1::DeleteTemplateAction { template_ids: vec![id], ..Default::default() };
        let action = if number % 2 == 0 { delete("parcel") } else { Action::Delete(template_ids) };
        let refusal = gateway.unmanaged(action).await;
        assert_eq!(refusal.is(), UNKNOWN, "{fault}");
        assert!(refusal.message.contains("may be gone"), "{refusal:?}");
        assert_eq!(gateway.calls("DELETE", "/message_templates").await, 1, "{fault}: it was repeated");
        assert_eq!(gateway.templates("parcel").await.len(), 1, "{fault}");
    })
    .await;
}

#[tokio::test]
async fn archive_and_pause_are_settled_by_the_status() {
    let gateway = impatient().await;
    let id = gateway.put_template("parcel", "It is here.", "APPROVED").await;
    let cut = json!({"cut": "after_acceptance"});
    gateway.faults("POST", "/archive", 1, &cut).await;
    let template_ids = vec![id.clone()];
    let archive = v1::ArchiveTemplatesAction { template_ids: template_ids.clone() };
    let archived = v1::ArchiveTemplatesResult { template_ids: template_ids.clone(), failures: vec![] };
    assert_eq!(gateway.manage(Action::Archive(archive.clone())).await.unwrap(), Outcome::Archive(archived));
    gateway.faults("POST", "/unarchive", 1, &cut).await;
    let unarchive = v1::UnarchiveTemplatesAction { template_ids: template_ids.clone() };
    let unarchived = v1::UnarchiveTemplatesResult { template_ids, failures: vec![] };
    assert_eq!(gateway.manage(Action::Unarchive(unarchive)).await.unwrap(), Outcome::Unarchive(unarchived));
    gateway.faults("POST", "/archive", 1, &json!({"cut": "before_acceptance"})).await;
    assert_eq!(gateway.unmanaged(Action::Archive(archive)).await.is(), UNKNOWN);

    let id = gateway.put_template("paused", "It is here.", "PAUSED").await;
    let unpause = || Action::Unpause(v1::UnpauseTemplateAction { template_id: id.clone() });
    gateway.faults("POST", "/unpause", 1, &json!({"cut": "before_acceptance"})).await;
    assert_eq!(gateway.unmanaged(unpause()).await.is(), UNKNOWN);
    gateway.faults("POST", "/unpause", 1, &cut).await;
    let unpaused = v1::UnpauseTemplateResult { is_unpaused: true, reason: String::new() };
    assert_eq!(gateway.manage(unpause()).await.unwrap(), Outcome::Unpause(unpaused));
}

#[tokio::test]
async fn what_never_left_may_be_repeated() {
    // Bound and not listening: connections are refused, and nobody else takes the port.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let url = format!("http://{}", socket.local_addr().unwrap());
    let Serve { gateway, .. } = &Serve::builder().graph_url(url).start().await;
    let archive = v1::ArchiveTemplatesAction { template_ids: vec!["1".to_owned()] };
    for action in [
        Action::Create(create("parcel", "It is here.")),
        Action::Edit(edit("1", "It is here.")),
        delete("parcel"),
        Action::Archive(archive),
        get("1"),
    ] {
        let request = v1::ManageTemplateRequest { waba_id: webhook::WABA_ID.to_owned(), ..asking(action) };
        let status = gateway.client().await.manage_template(request).await.unwrap_err();
        let refusal = crate::support::Refusal::of(&status);
        assert_eq!(refusal.is(), (Code::Unavailable, "UPSTREAM_UNREACHABLE"));
        assert!(refusal.retry.is_some());
    }
}

#[tokio::test]
async fn the_work_goes_on_when_the_caller_hangs_up() {
    let gateway = Gateway::dev().await;
    // Meta answers when nobody listens any more; and does not answer, so that somebody must look.
    gateway.faults("POST", "/message_templates", 1, &json!({"delay_ms": 500})).await;
    let mut request = tonic::Request::new(asking(Action::Create(create("parcel", "It is here."))));
    request.set_timeout(Duration::from_millis(200));
    let status = gateway.client().await.manage_template(request).await.unwrap_err();
    assert!(matches!(status.code(), Code::Cancelled | Code::DeadlineExceeded), "{status:?}");
    eventually!(gateway.templates("parcel").await.len() == 1);
    eventually!(gateway.log().contains("done"));

    let id = gateway.put_template("offer", "It is on its way.", "REJECTED").await;
    let fault = json!({"delay_ms": 300, "cut": "after_acceptance"});
    gateway.faults("POST", &format!("/{id}"), 1, &fault).await;
    let mut client = gateway.client().await;
    let mut calls = JoinSet::new();
    let request = asking(Action::Edit(edit(&id, "It is here.")));
    calls.spawn(async move { client.manage_template(request).await });
    eventually!(gateway.calls("POST", &format!("/{id}")).await == 1);
    calls.abort_all();
    eventually!(gateway.log().contains("done, as a read shows"));
    assert_eq!(gateway.calls("GET", &format!("/{id}")).await, 1);
}

#[tokio::test]
async fn of_creations_of_one_name_one_wins() {
    let gateway = Gateway::dev().await;
    let mut calls = JoinSet::new();
    for number in 0..8 {
        let mut client = gateway.client().await;
        let action = Action::Create(create("parcel", &format!("Parcel {number} is here.")));
        calls.spawn(async move { client.manage_template(asking(action)).await });
    }
    let (mut created, mut refused) = (0, 0);
    while let Some(answer) = calls.join_next().await {
        match answer.unwrap() {
            Ok(_) => created += 1,
            Err(status) => {
                let refusal = crate::support::Refusal::of(&status);
                assert_eq!(refusal.is(), (Code::AlreadyExists, "UPSTREAM_CONFLICT"));
                assert_eq!(refusal.metadata["meta_subcode"], "2388024");
                assert!(refusal.message.contains("Already Exists"), "{}", refusal.message);
                refused += 1;
            }
        }
    }
    assert_eq!((created, refused), (1, 7));
    assert_eq!(gateway.templates("parcel").await.len(), 1);
    // Another language is another template.
    let german = v1::CreateTemplateAction { language: "de".to_owned(), ..create("parcel", "Es ist da.") };
    gateway.created(german).await;
    assert_eq!(gateway.templates("parcel").await.len(), 2);
}

#[tokio::test]
async fn a_sample_can_be_created_and_found_but_not_compared() {
    let gateway = impatient().await;
    let example = |handle: &str| v1::TemplateHeaderExample {
        header_handle: vec![handle.to_owned()],
        ..Default::default()
    };
    let header = |handle: &str| {
        let format = "IMAGE".to_owned();
        let example = Some(example(handle));
        component(Component::Header(v1::TemplateDefinitionHeader { format, example, text: String::new() }))
    };
    let handle = gateway.uploaded_sample("image/png", b"a picture").await;
    let components = vec![header(&handle), body("It looks like this.")];
    gateway.faults("POST", "/message_templates", 1, &json!({"cut": "after_acceptance"})).await;
    let id = gateway
        .created(v1::CreateTemplateAction { components: components.clone(), ..create("look", "") })
        .await;
    eventually!(gateway.template(&id).await.status == "APPROVED");
    gateway.faults("POST", &format!("/{id}"), 1, &json!({"cut": "after_acceptance"})).await;
    let edit = v1::EditTemplateAction { components, ..edit(&id, "") };
    let refusal = gateway.unmanaged(Action::Edit(edit)).await;
    assert_eq!(refusal.is(), UNKNOWN, "nobody sees which sample Meta has");
}
