//! What tests ask for: events of Meta, faults and limits.

use super::*;

#[tokio::test]
async fn tests_do_to_templates_what_meta_does() {
    let running = start().await;
    let id = running.put("order_update", "APPROVED").await;
    let control = format!("templates/{id}");
    for (event, title, status) in [
        ("PAUSED", "FIRST_PAUSE", "PAUSED"),
        ("PAUSED", "SECOND_PAUSE", "PAUSED"),
        ("DISABLED", "", "DISABLED"),
    ] {
        running.control(&control, json!({ "quality": "RED" })).await;
        let value = running.value().await;
        assert_eq!(value["new_quality_score"], "RED");
        let value = running.value().await;
        assert_eq!((&value["event"], &value["reason"]), (&json!(event), &json!("NONE")));
        assert_eq!(value["other_info"]["title"].as_str().unwrap_or_default(), title);
        assert_eq!(running.status_of(&id).await, status);
        let (code, answer) = running.call(Method::POST, &format!("/v25.0/{id}/unpause"), None).await;
        assert_eq!((code, &answer["success"]), (200, &json!(status == "PAUSED")));
        assert!(answer["reason"].is_string());
        if status == "PAUSED" {
            assert_eq!(running.events(1).await, ["UNPAUSED"]);
        } else {
            assert!(value["disable_info"]["disable_date"].is_string());
        }
    }
    running.control(&control, json!({ "correct_category": "MARKETING" })).await;
    let value = running.value().await;
    assert_eq!(
        (&value["new_category"], &value["correct_category"]),
        (&json!("UTILITY"), &json!("MARKETING"))
    );
    assert_eq!(value["category_update_timestamp"], running.now() + DAY);
    running.control(&control, json!({ "category": "MARKETING" })).await;
    let value = running.value().await;
    assert_eq!(
        (&value["new_category"], &value["previous_category"]),
        (&json!("MARKETING"), &json!("UTILITY"))
    );
    running.control(&control, json!({ "status": "REJECTED", "rejected_reason": "SCAM" })).await;
    let value = running.value().await;
    assert_eq!((&value["reason"], value.get("rejection_info")), (&json!("SCAM"), None));
    for (path, body) in [
        (control.as_str(), json!({ "status": "GOOD" })),
        (&control, json!({ "colour": "RED" })),
        ("templates/1", json!({})),
        ("templates/x", json!({})),
    ] {
        assert_eq!(running.post(&format!("/_simulator/{path}"), body).await.0, 400);
    }

    let mut generated = creation("auto_generated");
    generated["source"] = json!("AUTO_GENERATED");
    let made = running.control("templates", json!({ "template": generated })).await;
    let path = format!("/v25.0/{}", made["id"].as_str().unwrap());
    let edit = json!({ "message_send_ttl_seconds": 60 });
    assert_eq!(running.refusal(Method::POST, &path, Some(edit)).await, (100, 2_388_318));
    let path = format!("{TEMPLATES}?name=auto_generated");
    assert_eq!(running.refusal(Method::DELETE, &path, None).await, (100, 2_388_330));
    running.end().await;
}

#[tokio::test]
async fn faults_meet_calls_about_templates() {
    let running = start().await;
    let plan = |method: &str, fault: Value| json!({ "match": { "method": method, "path_suffix": "/message_templates" }, "fault": fault });
    let error =
        json!({ "code": 100, "subcode": 2_388_047, "user_title": "Header", "user_msg": "It is wrong." });
    running.control("faults", plan("POST", json!({ "error": error }))).await;
    let (status, body) = running.post(TEMPLATES, creation("one")).await;
    assert_eq!((status, &body["error"]["error_user_msg"]), (400, &json!("It is wrong.")));

    running.control("faults", plan("POST", json!({ "cut": "before_acceptance" }))).await;
    running.try_call(Method::POST, TEMPLATES, Some(creation("one"))).await.unwrap_err();
    assert_eq!(running.names("name=one").await, [""; 0]);
    running
        .control("faults", plan("POST", json!({ "cut": "after_acceptance", "duplicate_webhooks": 1 })))
        .await;
    running.try_call(Method::POST, TEMPLATES, Some(creation("one"))).await.unwrap_err();
    assert_eq!(running.names("name=one").await, ["one"]);
    assert_eq!(running.webhook().await, running.webhook().await, "the notice of the review comes twice");

    running.control("faults", plan("DELETE", json!({ "cut": "after_acceptance" }))).await;
    let path = format!("{TEMPLATES}?name=one");
    running.try_call(Method::DELETE, &path, None).await.unwrap_err();
    assert_eq!(running.events(1).await, ["DELETED"]);
    let id = running.put("two", "APPROVED").await;
    let unpause = json!({ "match": { "path_suffix": "/unpause" }, "fault": { "http": { "status": 502 } } });
    running.control("faults", unpause).await;
    assert_eq!(running.call(Method::POST, &format!("/v25.0/{id}/unpause"), None).await.0, 502);
    running.end().await;
}

#[tokio::test]
async fn creations_and_templates_have_limits() {
    let running = start().await;
    running.control("limits", json!({ "template_creations_per_hour": 2, "templates_per_waba": 3 })).await;
    running.create(creation("one")).await;
    assert_eq!(running.refusal(Method::POST, TEMPLATES, Some(creation("Bad"))).await.0, 100, "not counted");
    running.create(creation("two")).await;
    assert_eq!(running.refusal(Method::POST, TEMPLATES, Some(creation("three"))).await, (80_008, 0));
    running.time.fetch_add(3600, Ordering::SeqCst);
    assert_eq!(running.refusal(Method::POST, TEMPLATES, Some(creation("three"))).await, (100, 2_388_019));
    running.end().await;
}
