//! `request_id` of `ManageTemplate`: each change is made once, and one whose outcome is unknown is looked at again.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::task::JoinSet;
use tonic::Code;
use whatsapp_gateway::contract::v1;
use whatsapp_gateway::contract::v1::manage_template_request::Action;
use whatsapp_gateway::contract::v1::manage_template_response::Result as Outcome;

use crate::eventually;
use crate::support::template::{asking, create, delete, edit, get};
use crate::support::{Gateway, Refusal, Serve, webhook};

const PATH: &str = "/message_templates";
const TEXT: &str = "Your parcel is here.";

fn request(id: &str, action: Action) -> v1::ManageTemplateRequest {
    let waba_id = webhook::WABA_ID.to_owned();
    v1::ManageTemplateRequest { request_id: id.to_owned(), waba_id, ..asking(action) }
}

fn creation(id: &str, name: &str) -> v1::ManageTemplateRequest {
    request(id, Action::Create(create(name, TEXT)))
}

type Answer = Result<v1::ManageTemplateResponse, Refusal>;

async fn managed(gateway: &Gateway, request: v1::ManageTemplateRequest) -> Answer {
    let answer = gateway.client().await.manage_template(request).await;
    answer.map(tonic::Response::into_inner).map_err(|status| Refusal::of(&status))
}

fn assert_unknown(answer: Answer, id: &str, words: &str) {
    let refusal = answer.unwrap_err();
    assert_eq!(refusal.is(), (Code::Unknown, "SEND_OUTCOME_UNKNOWN"), "{refusal:?}");
    assert_eq!((refusal.metadata["request_id"].as_str(), refusal.retry), (id, None));
    assert!(refusal.message.contains(words) && !refusal.message.contains("send tag"), "{refusal:?}");
}

async fn impatient() -> Serve {
    Serve::builder().env("WHATSAPP_GATEWAY__CLOUD_API__REQUEST_TIMEOUT", "1 s").start().await
}

async fn faults(gateway: &Gateway, method: &str, count: u32, fault: Value) {
    gateway.faults(method, PATH, count, &fault).await;
}

#[tokio::test]
async fn the_same_change_is_made_once() {
    let mut serve = Serve::start().await;
    let first = managed(&serve.gateway, creation("a", "parcel")).await.unwrap();
    assert!(!first.replayed && matches!(first.result, Some(Outcome::Create(_))));
    for is_next_process in [false, true] {
        if is_next_process {
            serve.restart().await;
        }
        let gateway = &serve.gateway;
        let again = managed(gateway, creation("a", "parcel")).await.unwrap();
        assert_eq!(again, v1::ManageTemplateResponse { replayed: true, ..first.clone() });
        // How it is answered is no part of the request.
        let shown = v1::ManageTemplateRequest { show_request: true, ..creation("a", "parcel") };
        let shown = managed(gateway, shown).await.unwrap();
        assert!(shown.replayed && shown.request_json.contains(TEXT), "{shown:?}");
        for other in [creation("a", "offer"), request("a", delete("parcel"))] {
            let refusal = managed(gateway, other).await.unwrap_err();
            assert_eq!(refusal.is(), (Code::InvalidArgument, "REQUEST_ID_REUSED"));
            assert_eq!(refusal.fields(), ["request_id"]);
        }
        assert_eq!(gateway.calls("POST", PATH).await, 1);
    }
    // Without the id, and under another, it is made again: Meta refuses it.
    for id in ["", "b"] {
        let refusal = managed(&serve.gateway, creation(id, "parcel")).await.unwrap_err();
        assert_eq!(refusal.is(), (Code::AlreadyExists, "UPSTREAM_CONFLICT"));
    }
}

#[tokio::test]
async fn reads_need_no_id_and_checks_claim_nothing() {
    let gateway = Gateway::dev().await;
    let list = Action::List(v1::ListTemplatesAction::default());
    for action in [get("1"), list] {
        let refusal = managed(&gateway, request("a", action)).await.unwrap_err();
        assert_eq!((refusal.code, refusal.fields()), (Code::InvalidArgument, vec!["request_id"]));
        assert!(refusal.message.contains("may simply be repeated"), "{refusal:?}");
    }
    let refusal = managed(&gateway, creation("a b", "parcel")).await.unwrap_err();
    assert_eq!(refusal.fields(), ["request_id"]);
    let check = v1::ManageTemplateRequest { validate_only: true, ..creation("a", "offer") };
    assert_eq!(managed(&gateway, check).await.unwrap().result, None);
    assert!(!managed(&gateway, creation("a", "parcel")).await.unwrap().replayed);
}

#[tokio::test]
async fn what_was_refused_may_be_tried_again() {
    let gateway = Gateway::dev().await;
    faults(&gateway, "POST", 1, json!({"error": {"code": 100}})).await;
    assert_eq!(managed(&gateway, creation("a", "parcel")).await.unwrap_err().code, Code::InvalidArgument);
    assert!(!managed(&gateway, creation("a", "parcel")).await.unwrap().replayed);
    assert!(managed(&gateway, creation("a", "parcel")).await.unwrap().replayed);
    assert_eq!(gateway.calls("POST", PATH).await, 2);
}

#[tokio::test]
async fn changes_at_once_are_one_and_outlive_their_callers() {
    let gateway = Gateway::dev().await;
    faults(&gateway, "POST", 1, json!({"delay_ms": 1500})).await;
    let mut hurried = tonic::Request::new(creation("a", "parcel"));
    hurried.set_timeout(Duration::from_secs(1));
    let status = gateway.client().await.manage_template(hurried).await.unwrap_err();
    assert_eq!(Refusal::of(&status).is(), (Code::Aborted, "REQUEST_IN_PROGRESS"));
    let calls = (0..8).map(|_| managed(&gateway, creation("a", "parcel")));
    let answers: Vec<_> =
        futures_util::future::join_all(calls).await.into_iter().map(Result::unwrap).collect();
    assert!(answers.iter().all(|answer| answer.replayed && *answer == answers[0]), "{answers:?}");
    assert_eq!(gateway.calls("POST", PATH).await, 1);
    // Nobody waits for this one.
    faults(&gateway, "POST", 1, json!({"delay_ms": 300})).await;
    let (mut client, mut call) = (gateway.client().await, JoinSet::new());
    call.spawn(async move { client.manage_template(creation("b", "offer")).await });
    eventually!(gateway.calls("POST", PATH).await == 2);
    call.abort_all();
    assert!(managed(&gateway, creation("b", "offer")).await.unwrap().replayed);
    assert_eq!(gateway.calls("POST", PATH).await, 2);
}

#[tokio::test]
async fn a_repetition_looks_again_and_changes_nothing() {
    let Serve { gateway, .. } = &impatient().await;
    // Made, and nothing can be read; then it can.
    faults(gateway, "POST", 1, json!({"cut": "after_acceptance"})).await;
    faults(gateway, "GET", 4, json!({"http": {"status": 503}})).await;
    for _ in 0..2 {
        assert_unknown(managed(gateway, creation("a", "parcel")).await, "a", "list with name \"parcel\"");
    }
    let settled = managed(gateway, creation("a", "parcel")).await.unwrap();
    let Some(Outcome::Create(created)) = &settled.result else { panic!("{settled:?}") };
    assert!(settled.replayed && !created.template_id.is_empty());
    assert_eq!(gateway.calls("GET", PATH).await, 5);
    assert_eq!(managed(gateway, creation("a", "parcel")).await.unwrap(), settled);
    assert_eq!(gateway.calls("GET", PATH).await, 5, "settled for good");
    // Not made: nothing ever proves that.
    faults(gateway, "POST", 1, json!({"cut": "before_acceptance"})).await;
    for _ in 0..3 {
        assert_unknown(managed(gateway, creation("b", "offer")).await, "b", "list with name \"offer\"");
    }
    assert_eq!(gateway.calls("POST", PATH).await, 2, "one for each");
    assert_eq!(gateway.calls("GET", PATH).await, 5 + 3 + 2);
    // Those who repeat it at once look together.
    let calls = (0..6).map(|_| managed(gateway, creation("b", "offer")));
    for answer in futures_util::future::join_all(calls).await {
        assert_unknown(answer, "b", "list with name \"offer\"");
    }
    assert!(gateway.calls("GET", PATH).await <= 10 + 6);
    assert_eq!(gateway.calls("POST", PATH).await, 2);
}

#[tokio::test]
async fn a_change_that_died_with_the_process_is_looked_for() {
    let mut serve = impatient().await;
    let id = serve.gateway.put_template("offer", "It is on its way.", "REJECTED").await;
    let made = request("made", Action::Edit(edit(&id, "It is here.")));
    let path = format!("/{id}");
    // The one is made and its answer comes too late, the other is not even made.
    serve.gateway.faults("POST", &path, 1, &json!({"stall": true})).await;
    faults(&serve.gateway, "POST", 1, json!({"stall": true})).await;
    let mut calls = JoinSet::new();
    for request in [made.clone(), creation("lost", "parcel")] {
        let mut client = serve.gateway.client().await;
        calls.spawn(async move { client.manage_template(request).await.is_ok() });
    }
    eventually!(
        serve.gateway.calls("POST", &path).await == 1 && serve.gateway.calls("POST", PATH).await == 1
    );
    serve.restart().await;
    assert!(calls.join_all().await.into_iter().all(|is_ok| !is_ok));
    let gateway = &serve.gateway;
    assert_unknown(managed(gateway, made.clone()).await, "made", "get with template_id");
    assert_unknown(managed(gateway, creation("lost", "parcel")).await, "lost", "list with name \"parcel\"");
    // Meta finishes the one later.
    let late = v1::ManageTemplateRequest { request_id: "late".to_owned(), ..made.clone() };
    managed(gateway, late).await.unwrap();
    let settled = managed(gateway, made).await.unwrap();
    assert_eq!((settled.replayed, settled.result), (true, Some(Outcome::Edit(v1::EditTemplateResult {}))));
    assert_eq!(gateway.calls("POST", &path).await, 2);
    assert_eq!(gateway.calls("POST", PATH).await, 1, "never made again");
}
