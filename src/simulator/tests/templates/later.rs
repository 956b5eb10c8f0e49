//! What becomes of templates later: they are compared, copied, archived, deleted.

use super::*;

const SECOND: &str = "204580258680796";

#[tokio::test]
async fn templates_are_deleted_all_or_none() {
    let running = start().await;
    let success = (200, json!({ "success": true }));
    let mut german = creation("order_update");
    german["language"] = json!("de");
    let english = running.put("order_update", "APPROVED").await;
    let german = running.control("templates", json!({ "template": german })).await["id"].clone();
    let german = german.as_str().unwrap();
    let other = running.put("other", "REJECTED").await;
    let disabled = running.put("disabled", "DISABLED").await;
    for query in [
        String::new(),
        "name=nothing".to_owned(),
        format!("hsm_id={english}"),
        format!("name=other&hsm_id={english}"),
        format!("hsm_ids=[{english},1]"),
        format!("name=other&hsm_ids=[{other}]"),
        "hsm_ids=[x]".to_owned(),
        format!("hsm_ids=[{}]", ["1"; 101].join(",")),
        "name=disabled".to_owned(),
        format!("hsm_ids=[{other},{disabled}]"),
    ] {
        let (status, body) = running.delete(&query).await;
        assert_eq!((status, &body["error"]["code"]), (400, &json!(100)), "{query}: {body}");
    }
    assert_eq!(running.names("").await.len(), 5, "nothing was deleted");

    assert_eq!(running.delete(&format!("name=order_update&hsm_id={english}")).await, success);
    let value = running.value().await;
    assert_eq!((&value["event"], &value["reason"]), (&json!("DELETED"), &Value::Null));
    let refused = running.refusal(Method::POST, TEMPLATES, Some(creation("order_update"))).await;
    assert_eq!(refused, (100, 2_388_023));
    running.time.fetch_add(30 * DAY, Ordering::SeqCst);
    running.create(creation("order_update")).await;
    assert_eq!(running.events(1).await, ["APPROVED"]);
    assert_eq!(running.delete(&format!("hsm_ids=[{german},{other}]")).await, success);
    assert_eq!(running.events(2).await, ["DELETED", "DELETED"]);

    running.control("delays", json!({ "deletion_ms": 50 })).await;
    assert_eq!(running.delete("name=order_update").await, success);
    assert_eq!(running.events(2).await, ["PENDING_DELETION", "DELETED"]);
    assert_eq!(running.names("name=order_update").await, [""; 0]);
    running.end().await;
}

#[tokio::test]
async fn templates_are_archived_and_come_back() {
    let running = start().await;
    let (good, paused) = (running.put("good", "APPROVED").await, running.put("paused", "PAUSED").await);
    let archive = "/102290129340398/message_templates/archive";
    let unarchive = "/102290129340398/message_templates/unarchive";
    let ids = json!({ "hsm_ids": format!("{good},{paused},7") });
    let (status, answer) = running.post(archive, ids).await;
    assert_eq!((status, &answer["archived_templates"]), (200, &json!([good])));
    let failed = &answer["failed_templates"];
    assert_eq!(failed[&paused], "Only approved or rejected templates can be archived");
    assert_eq!(failed["7"], "Template not found");
    assert_eq!(running.events(1).await, ["ARCHIVED"]);
    assert_eq!(running.status_of(&good).await, "ARCHIVED");
    let answer = running.post(unarchive, json!({ "hsm_ids": [good, paused] })).await.1;
    assert_eq!(answer["unarchived_templates"], json!([good]));
    assert_eq!(answer["failed_templates"], json!({ paused: "Template is not archived" }));
    assert_eq!(running.events(1).await, ["UNARCHIVED"]);
    assert_eq!(running.status_of(&good).await, "APPROVED");
    for (path, body) in [
        (archive, json!({})),
        (archive, json!({ "hsm_ids": "" })),
        ("/1/message_templates/archive", json!({ "hsm_ids": "1" })),
    ] {
        assert_eq!(running.refusal(Method::POST, path, Some(body)).await.0, 100);
    }
    let versioned = format!("/v25.0{archive}");
    assert_eq!(running.refusal(Method::POST, &versioned, Some(json!({}))).await.0, 2500);

    running.post(archive, json!({ "hsm_ids": good })).await;
    running.time.fetch_add(28 * DAY, Ordering::SeqCst);
    assert_eq!(running.names("").await, ["hello_world", "paused"]);
    assert_eq!(running.events(2).await, ["ARCHIVED", "DELETED"]);
    running.time.fetch_add(365 * DAY, Ordering::SeqCst);
    assert_eq!(running.names("status=ARCHIVED").await, ["hello_world", "paused"], "12 months of silence");
    running.end().await;
}

#[tokio::test]
async fn two_templates_are_compared() {
    let running = start().await;
    let (left, right) = (running.put("left", "APPROVED").await, running.put("right", "APPROVED").await);
    let path = |days: u64, other: &str| {
        let end = running.now();
        format!("/v25.0/{left}/compare?template_ids=[{other}]&start={}&end={end}", end - days * DAY)
    };
    assert_eq!(running.refusal(Method::GET, &path(7, &right), None).await.0, 100, "never sent");
    running.control(&format!("templates/{left}"), json!({ "sends": 1200, "block_rate": 3 })).await;
    let body = json!({ "sends": 999, "top_block_reason": "SPAM" });
    running.control(&format!("templates/{right}"), body).await;
    assert_eq!(running.refusal(Method::GET, &path(7, &right), None).await.0, 100, "sent 999 times");
    let parameters = json!([{ "type": "body", "parameters": [{ "type": "text", "text": "4521" }] }]);
    let template = json!({ "name": "right", "language": { "code": "en_US" }, "components": parameters });
    let send = json!({
        "messaging_product": "whatsapp", "to": "+16505551234", "type": "template", "template": template,
    });
    assert_eq!(running.post(SEND, send).await.0, 200);
    for days in [7, 30, 60, 90] {
        let metrics = running.get(&path(days, &right)).await;
        assert_eq!(metrics["data"][0]["order_by_relative_metric"], json!([right, left]));
        let sends = json!([{ "key": left, "value": 1200 }, { "key": right, "value": 1000 }]);
        assert_eq!(metrics["data"][1]["number_values"], sends);
        assert_eq!(metrics["data"][2]["string_values"][1], json!({ "key": right, "value": "SPAM" }));
    }
    let end = running.now();
    for wrong in [
        path(8, &right),
        path(7, &left),
        path(7, "1"),
        format!("/v25.0/{left}/compare?start={}&end={end}", end - 7 * DAY),
        format!("/v25.0/{left}/compare?template_ids=[{right}]"),
        format!("/v25.0/{left}/compare?template_ids=[{right}]&start={}&end={}", end - 9 * DAY, end - 2 * DAY),
    ] {
        assert_eq!(running.refusal(Method::GET, &wrong, None).await.0, 100, "{wrong}");
    }
    running.end().await;
}

#[tokio::test]
async fn templates_migrate() {
    let running = start_with(|config| {
        let first = config.account.numbers[0].clone();
        let (phone_number_id, waba_id) = ("2".to_owned(), SECOND.to_owned());
        config.account.numbers.push(Number { phone_number_id, waba_id, ..first });
    })
    .await;
    let (good, waiting) = (running.put("good", "APPROVED").await, running.put("waiting", "PENDING").await);
    let path = format!("/v25.0/{SECOND}/migrate_message_templates");
    let (status, answer) = running
        .call(Method::POST, &format!("{path}?source_waba_id=102290129340398&page_number=0"), None)
        .await;
    assert_eq!((status, &answer["migrated_templates"]), (200, &json!([good])));
    assert_eq!(answer["failed_templates"][&waiting], "Only approved templates can be migrated");
    let list = running.get(&format!("/v25.0/{SECOND}/message_templates?fields=name")).await;
    assert_eq!(list["data"][1]["name"], "good");
    assert_ne!(list["data"][1]["id"], json!(good));
    for body in [
        json!({}),
        json!({ "source_waba_id": SECOND }),
        json!({ "source_waba_id": "1" }),
        json!({ "source_waba_id": "102290129340398", "count": 501 }),
    ] {
        assert_eq!(running.refusal(Method::POST, &path, Some(body.clone())).await.0, 100, "{body}");
    }
    let chosen = json!({ "source_waba_id": "102290129340398", "template_ids": [good, "7"] });
    let answer = running.post(&path, chosen).await.1;
    assert_eq!(answer["migrated_templates"], json!([]));
    assert_eq!(answer["failed_templates"].as_object().unwrap().len(), 2);
    running.end().await;
}
