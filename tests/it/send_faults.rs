//! Every fault that the simulator can play on a send: what the caller sees, what Meta saw, and what is stored.
//!
//! A row is a fault and what the caller must see; the rest follows from laws that hold for all rows (`law.rs`): what was
//! accepted is told to whoever asks again, what was refused may be tried anew (once a number that was too fast may go on),
//! what is unknown is never sent again and ends with the status that proves it. Each row has a recipient and a business number of its own.
//! `cargo test --test it send_faults -- --nocapture` prints the table.

mod codes;
mod files;
mod kinds;
mod law;
mod play;
mod row;

use std::collections::BTreeSet;

use serde_json::{Value, json};
use whatsapp_gateway::clock::{Clock as _, SystemClock};
use whatsapp_gateway::contract::v1;

use crate::eventually;
use crate::support::{Gateway, Serve, webhook};
use play::{Webhooks, play};
use row::Row;

#[tokio::test]
async fn every_fault_has_its_end() {
    let mut dammed = kinds::rows();
    dammed.extend(codes::answers());
    dammed.extend(codes::statuses(&page(&Gateway::dev().await).await));
    let flowing = kinds::status_first();
    let mut serve = Serve::builder()
        .env("WHATSAPP_GATEWAY__CLOUD_API__REQUEST_TIMEOUT", "3 s")
        .env("WHATSAPP_GATEWAY__TELEMETRY__LOG_LEVEL", "error")
        .numbers(dammed.len() + flowing.len())
        .start()
        .await;
    let mut played = play(&serve.gateway, &dammed, 0, Webhooks::Dammed).await;
    played.extend(play(&serve.gateway, &flowing, dammed.len(), Webhooks::Flowing).await);
    serve.restart().await;
    play::ask_from_the_disk(&serve.gateway, &mut played).await;
    println!("{}", row::HEADINGS);
    let mut broken = Vec::new();
    for played in &played {
        println!("{played}");
        broken.extend(law::broken(played));
    }
    println!("{} rows", played.len());
    assert!(broken.is_empty(), "{} are broken:\n{}", broken.len(), broken.join("\n"));
}

/// What the simulator says of itself.
async fn page(gateway: &Gateway) -> Value {
    let url = format!("http://{}/_simulator", gateway.address("simulator"));
    serde_json::from_str(&gateway.http.get(url).send().await.unwrap().text().await.unwrap()).unwrap()
}

/// The words that the simulator would have taken where this fault has a `?`.
async fn words(gateway: &Gateway, fault: &Value) -> BTreeSet<String> {
    let url = format!("http://{}/_simulator/faults", gateway.address("simulator"));
    let planned = json!({"fault": fault}).to_string();
    let refusal = gateway.http.post(url).body(planned).send().await.unwrap().text().await.unwrap();
    let (_, expected) = refusal.split_once("expected ").unwrap_or_else(|| panic!("{refusal}"));
    expected.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

#[tokio::test]
async fn every_kind_of_fault_has_a_row() {
    let gateway = Gateway::dev().await;
    let rows: Vec<Row> = kinds::rows().into_iter().chain(kinds::status_first()).collect();
    let faults: Vec<&Value> = rows.iter().filter_map(|row| row.fault.as_ref()).collect();
    let keys = |of: &[&Value]| -> BTreeSet<String> {
        of.iter().filter_map(|value| value.as_object()).flat_map(|fields| fields.keys().cloned()).collect()
    };
    let mut played = keys(&faults);
    // These are of files.
    played.extend(keys(&files::faults().iter().collect::<Vec<_>>()));
    assert_eq!(played, words(&gateway, &json!({"?": 1})).await);
    for part in ["error", "http"] {
        let parts: Vec<&Value> = faults.iter().filter_map(|fault| fault.get(part)).collect();
        assert_eq!(keys(&parts), words(&gateway, &json!({part: {"?": 1}})).await, "{part}");
    }
    let cuts: BTreeSet<_> = faults.iter().filter_map(|f| f.get("cut")?.as_str().map(str::to_owned)).collect();
    assert_eq!(cuts, words(&gateway, &json!({"cut": "?"})).await);

    let page = page(&gateway).await;
    let recipients: BTreeSet<_> = rows.iter().filter_map(|row| row.to.as_deref()).collect();
    for magic in page["magic_recipients"].as_array().unwrap() {
        let number = magic["number"].as_str().unwrap();
        let prefix = format!("+{}", number.trim_end_matches('x'));
        assert!(recipients.iter().any(|to| to.starts_with(&prefix)), "no row for {magic}");
    }
    let Some(documented) = codes::documented() else { return };
    for entry in page["error_codes"].as_array().unwrap() {
        let code = entry["code"].as_i64().unwrap();
        let row = documented.iter().find(|row| row.codes.contains(&code));
        let row = row.unwrap_or_else(|| panic!("the simulator plays {code}, which the reference has not"));
        let is_stated = row.http.is_empty() || row.http.iter().any(|status| entry["http_status"] == *status);
        assert!(is_stated, "{entry} against HTTP {:?}", row.http);
    }
}

/// The failures that the simulator has no recipient for, and what no reference lists.
#[tokio::test]
async fn other_failures_have_their_verdicts_too() {
    let gateway = Gateway::dev().await;
    // Not long ago, since old messages are forgotten.
    let now = (SystemClock.now_ms() / 1000).to_string();
    let unlisted = (424_242, "UPSTREAM_REFUSED", "meta");
    for (code, reason, actor) in
        [(1026, "RECIPIENT_UNREACHABLE", "recipient"), (132_021, "UPSTREAM_CONFLICT", "caller"), unlisted]
    {
        let id = format!("wamid.{code}");
        let status = json!({
            "id": id, "status": "failed", "timestamp": now, "recipient_id": "16505551234",
            "errors": [{"code": code, "title": "Something went wrong"}],
        });
        let mut body = webhook::messages(&[]);
        let value = body["entry"][0]["changes"][0]["value"].as_object_mut().unwrap();
        value.remove("messages");
        value.insert("statuses".to_owned(), json!([status]));
        for _ in 0..2 {
            assert_eq!(gateway.post_webhook(body.to_string()).await, 200);
        }
        let statuses = gateway.statuses().await;
        let mine: Vec<_> = statuses.iter().filter(|status| status.id == id).collect();
        assert_eq!(mine.len(), 1, "{code}: no doubled event");
        let verdict = mine[0].errors[0].verdict.as_ref().unwrap();
        assert_eq!((verdict.reason.as_str(), verdict.actor.as_str()), (reason, actor), "{code}");
        eventually!(play::message(&gateway, "", &id).await.is_some());
        let message = play::message(&gateway, "", &id).await.unwrap();
        assert_eq!(message.state(), v1::MessageState::Failed);
        assert_eq!(message.failure.unwrap().verdict.as_ref(), Some(verdict), "{code}");
    }
}
