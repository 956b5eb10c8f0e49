//! Conversations about templates: what a call answers, what it changes, which webhooks follow.

mod later;
mod steered;

use http::Method;

use super::*;

const TEMPLATES: &str = "/v25.0/102290129340398/message_templates";
const DAY: u64 = 86_400;

fn creation(name: &str) -> Value {
    let example = json!({ "body_text": [["4521"]] });
    let body = json!([{ "type": "body", "text": "Order {{1}} is on its way.", "example": example }]);
    json!({ "name": name, "language": "en_US", "category": "utility", "components": body })
}

impl Running {
    /// Creates a template; its id.
    async fn create(&self, body: Value) -> String {
        let (status, created) = self.post(TEMPLATES, body).await;
        assert_eq!(status, 200, "{created}");
        created["id"].as_str().unwrap().to_owned()
    }

    /// A template in any status; its id.
    async fn put(&self, name: &str, status: &str) -> String {
        let put = self.control("templates", json!({ "status": status, "template": creation(name) })).await;
        put["id"].as_str().unwrap().to_owned()
    }

    /// Code and subcode of a refusal.
    async fn refusal(&self, method: Method, path: &str, body: Option<Value>) -> (u64, u64) {
        let (status, body) = self.call(method, path, body).await;
        assert!(status >= 400, "{path}: {body}");
        let number = |field: &str| body["error"][field].as_u64().unwrap_or_default();
        (number("code"), number("error_subcode"))
    }

    async fn delete(&self, query: &str) -> (u16, Value) {
        self.call(Method::DELETE, &format!("{TEMPLATES}?{query}"), None).await
    }

    /// The names that a list shows.
    async fn names(&self, query: &str) -> Vec<String> {
        let page = self.get(&format!("{TEMPLATES}?fields=name&{query}")).await;
        let names = page["data"].as_array().unwrap().iter();
        names.map(|one| one["name"].as_str().unwrap().to_owned()).collect()
    }

    async fn status_of(&self, id: &str) -> Value {
        self.get(&format!("/v25.0/{id}?fields=status")).await["status"].clone()
    }

    /// The events of the next status updates.
    async fn events(&self, count: usize) -> Vec<String> {
        let mut events = Vec::new();
        for _ in 0..count {
            events.push(self.value().await["event"].as_str().unwrap().to_owned());
        }
        events
    }

    fn now(&self) -> u64 {
        self.time.load(Ordering::SeqCst)
    }
}

#[tokio::test]
async fn templates_are_created_reviewed_and_paged() {
    let running = start().await;
    for (name, event) in [("order_update", "APPROVED"), ("to_reject", "REJECTED")] {
        let (status, created) = running.post(TEMPLATES, creation(name)).await;
        assert_eq!((status, &created["status"]), (200, &json!("PENDING")));
        let webhook = running.webhook().await;
        let change = &webhook["entry"][0]["changes"][0];
        assert_eq!(change["field"], "message_template_status_update");
        assert_eq!(change["value"]["event"], event);
        assert_eq!(change["value"].get("rejection_info").is_some(), event == "REJECTED");
        assert!(change["value"]["message_template_id"].is_u64());
        assert!(webhook["entry"][0]["time"].is_u64());
        let read = running.get(&format!("/v25.0/{}", created["id"].as_str().unwrap())).await;
        assert_eq!((&read["status"], &read["components"][0]["type"]), (&json!(event), &json!("BODY")));
    }
    let (_, again) = running.post(TEMPLATES, creation("order_update")).await;
    assert_eq!(again["error"]["error_subcode"], 2_388_024);
    assert_eq!(again["error"]["error_user_title"], "Content in This Language Already Exists");

    let mut names = Vec::new();
    let mut next = Some(format!("{TEMPLATES}?limit=2&fields=name"));
    while let Some(path) = next {
        let page = running.get(&path).await;
        names.extend(
            page["data"].as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap().to_owned()),
        );
        next = page["paging"]["next"].as_str().map(str::to_owned);
    }
    assert_eq!(names, ["hello_world", "order_update", "to_reject"]);
    let recategorized = running.post(TEMPLATES, creation("recategorize")).await.1;
    assert_eq!(recategorized["category"], "MARKETING");
    running.end().await;
}

#[tokio::test]
async fn lists_are_filtered() {
    let running = start().await;
    running.put("order_update", "APPROVED").await;
    let yellow = running.put("order_late", "PAUSED").await;
    running.control(&format!("templates/{yellow}"), json!({ "quality": "YELLOW" })).await;
    let mut generated = creation("auto_generated");
    generated["source"] = json!("AUTO_GENERATED");
    generated["language"] = json!("de");
    running.control("templates", json!({ "template": generated })).await;
    for (query, names) in [
        ("name=order", &["order_update", "order_late"][..]),
        ("status=approved&name=order", &["order_update"]),
        ("status=PAUSED,PENDING", &["order_late"]),
        ("content=congratulations", &["hello_world"]),
        ("name_or_content=on%20its", &["order_update", "order_late", "auto_generated"]),
        ("language=de", &["auto_generated"]),
        ("category=UTILITY&quality_score=YELLOW", &["order_late"]),
        ("source=AUTO_GENERATED", &["auto_generated"]),
        ("correct_category=MARKETING", &[]),
    ] {
        assert_eq!(running.names(query).await, names, "{query}");
    }
    for query in ["status=GOOD", "quality_score=1", "summary=sum", "limit=0"] {
        let path = format!("{TEMPLATES}?{query}");
        assert_eq!(running.refusal(Method::GET, &path, None).await, (100, 0), "{query}");
    }
    let page =
        running.get(&format!("{TEMPLATES}?name=order&summary=total_count,message_template_count")).await;
    assert_eq!(page["summary"], json!({ "total_count": 2, "message_template_count": 4 }));

    for (fields, expected) in [
        (
            "quality_score{score,date}",
            json!({ "quality_score": { "score": "YELLOW", "date": running.now() } }),
        ),
        ("rejected_reason", json!({ "rejected_reason": "NONE" })),
    ] {
        let mut read = running.get(&format!("/v25.0/{yellow}?fields={fields}")).await;
        read.as_object_mut().unwrap().remove("id");
        assert_eq!(read, expected);
    }
    let path = format!("/v25.0/{yellow}?fields=colour");
    assert_eq!(running.refusal(Method::GET, &path, None).await, (100, 0));
    running.end().await;
}

#[tokio::test]
async fn edits_are_few() {
    let running = start().await;
    let id = running.create(creation("order_update")).await;
    assert_eq!(running.events(1).await, ["APPROVED"]);
    let path = format!("/v25.0/{id}");
    let components = json!([{ "type": "BODY", "text": "New text" }, { "type": "FOOTER", "text": "Lucky Shrub" },
        { "type": "BUTTONS", "buttons": [{ "type": "URL", "text": "Shop", "url": "https://x.com" }] }]);
    for (edit, expected) in [
        (json!({ "name": "other" }), (100, 0)),
        (json!({ "language": "de" }), (100, 0)),
        (json!({}), (100, 0)),
        (json!({ "category": "MARKETING" }), (100, 2_388_039)),
        (json!({ "components": [{ "type": "BODY", "text": "{{1}} hi" }] }), (100, 2_388_299)),
        (json!({ "message_send_ttl_seconds": 1 }), (100, 0)),
        (json!({ "parameter_format": "NAMED" }), (100, 2_388_072)),
    ] {
        assert_eq!(running.refusal(Method::POST, &path, Some(edit.clone())).await, expected, "{edit}");
    }
    let edit = json!({ "components": components });
    assert_eq!(running.post(&path, edit.clone()).await, (200, json!({ "success": true })));
    let webhook = running.webhook().await;
    let change = &webhook["entry"][0]["changes"][0];
    assert_eq!(change["field"], "message_template_components_update");
    assert_eq!(change["value"]["message_template_element"], "New text");
    assert_eq!(change["value"]["message_template_footer"], "Lucky Shrub");
    assert_eq!(
        change["value"]["message_template_buttons"],
        json!([{ "message_template_button_type": "URL", "message_template_button_text": "Shop",
            "message_template_button_url": "https://x.com" }])
    );
    assert_eq!(running.refusal(Method::POST, &path, Some(edit.clone())).await, (100, 2_388_039), "pending");
    assert_eq!(running.events(1).await, ["APPROVED"]);
    assert_eq!(running.get(&path).await["components"], components);
    assert_eq!(running.refusal(Method::POST, &path, Some(edit.clone())).await, (100, 2_388_039), "too soon");
    running.time.fetch_add(DAY, Ordering::SeqCst);
    assert_eq!(running.post(&path, json!({ "message_send_ttl_seconds": 60 })).await.0, 200);
    assert_eq!(running.events(1).await, ["APPROVED"], "no new content, no notice of it");
    let query = format!("{path}?cta_url_link_tracking_opted_out=true&category=UTILITY");
    running.time.fetch_add(DAY, Ordering::SeqCst);
    assert_eq!(running.call(Method::POST, &query, None).await, (200, json!({ "success": true })));

    let rejected = running.put("rejected", "REJECTED").await;
    let path = format!("/v25.0/{rejected}");
    assert_eq!(running.post(&path, json!({ "category": "MARKETING" })).await.0, 200);
    running.end().await;
}

#[tokio::test]
async fn authentication_templates_have_fixed_texts() {
    let running = start().await;
    let app = json!({ "package_name": "com.example", "signature_hash": "K8a/AINcGX7" });
    let components = json!([
        { "type": "BODY", "add_security_recommendation": true },
        { "type": "FOOTER", "code_expiration_minutes": 10 },
        { "type": "BUTTONS", "buttons": [{ "type": "OTP", "otp_type": "ONE_TAP", "supported_apps": [app] }] },
    ]);
    let body = json!({
        "name": "code", "languages": ["en_US", "es_ES"], "category": "AUTHENTICATION", "components": components,
    });
    let path = "/v25.0/102290129340398/upsert_message_templates";
    let (status, made) = running.post(path, body.clone()).await;
    assert_eq!((status, &made["data"][1]["language"]), (200, &json!("es_ES")));
    assert_eq!(made["data"][0]["status"], "APPROVED");
    let read = running.get(&format!("/v25.0/{}", made["data"][0]["id"].as_str().unwrap())).await;
    let shown = &read["components"];
    assert!(shown[0]["text"].as_str().unwrap().starts_with("*{{1}}* is your verification code. For"));
    assert_eq!(shown[1]["text"], "This code expires in 10 minutes.");
    let button = &shown[2]["buttons"][0];
    assert_eq!((&button["type"], &button["text"]), (&json!("URL"), &json!("Copy code")));
    let url = button["url"].as_str().unwrap();
    assert!(url.contains("otp_type=ONE_TAP") && url.contains("K8a%2FAINcGX7") && url.ends_with("otp{{1}}"));

    let mut longer = body.clone();
    longer["components"][1]["code_expiration_minutes"] = json!(20);
    longer["languages"] = json!(["es_ES", "de"]);
    let again = running.post(path, longer).await.1;
    assert_eq!(again["data"][0]["id"], made["data"][1]["id"], "an existing one is replaced");
    assert_eq!(running.names("name=code").await.len(), 3);
    let mut labelled = body.clone();
    labelled["components"][2]["buttons"][0]["text"] = json!("Copy");
    for (field, value) in [
        ("components", labelled["components"].clone()),
        ("category", json!("UTILITY")),
        ("languages", json!([])),
        ("languages", json!(["de", "de"])),
        ("languages", json!(["xx"])),
        ("language", json!("de")),
    ] {
        let mut wrong = body.clone();
        wrong[field] = value;
        assert_eq!(running.refusal(Method::POST, path, Some(wrong)).await.0, 100, "{field}");
    }

    let previews = "/v25.0/102290129340398/message_template_previews?category=AUTHENTICATION";
    let query =
        "&languages=en_US,es_ES&add_security_recommendation=true&code_expiration_minutes=10&button_types=OTP";
    let shown = running.get(&format!("{previews}{query}")).await;
    assert_eq!(shown["data"][0]["buttons"], json!([{ "autofill_text": "Autofill", "text": "Copy code" }]));
    assert_eq!(shown["data"][1]["footer"], "Este código caduca en 10 minutos.");
    assert!(running.get(previews).await["data"].as_array().unwrap().len() > 100);
    for wrong in ["&languages=xx", "&code_expiration_minutes=91", "&button_types=URL"] {
        assert_eq!(running.refusal(Method::GET, &format!("{previews}{wrong}"), None).await.0, 100, "{wrong}");
    }
    running.end().await;
}

#[tokio::test]
async fn the_library_completes_creations() {
    let running = start().await;
    let found = running.get("/v25.0/message_template_library?search=delivery&language=en_US").await;
    let ready = &found["data"][0];
    assert_eq!((&ready["name"], &ready["topic"]), (&json!("delivery_update_1"), &json!("ORDER_MANAGEMENT")));
    assert_eq!(ready["body_param_types"], json!(["TEXT", "TEXT", "DATE"]));
    for (query, count) in [
        ("name=delivery_update_1", 2),
        ("topic=PAYMENTS", 1),
        ("industry=FINANCIAL_SERVICES", 3),
        ("usecase=FEEDBACK_SURVEY", 1),
        ("name=nothing", 0),
    ] {
        let found = running.get(&format!("/v25.0/message_template_library?{query}")).await;
        assert_eq!(found["data"].as_array().unwrap().len(), count, "{query}");
    }
    let inputs = json!([{ "type": "URL", "url": { "base_url": "https://www.example.com/" } },
        { "type": "PHONE_NUMBER", "phone_number": "+16315551010" }]);
    let body = json!({ "name": "mine", "language": "en_US", "category": "UTILITY",
        "library_template_name": "delivery_update_1", "library_template_button_inputs": inputs });
    let (_, made) = running.post(TEMPLATES, body).await;
    assert_eq!(made["status"], "APPROVED");
    let read = running.get(&format!("/v25.0/{}", made["id"].as_str().unwrap())).await;
    assert_eq!(read["library_template_name"], "delivery_update_1");

    let send = |date: &str| {
        let text = |text: &str| json!({ "type": "text", "text": text });
        let parameters = json!([text("Jane"), text("1"), text(date)]);
        json!({ "messaging_product": "whatsapp", "to": "+16505551234", "type": "template", "template": {
            "name": "mine", "language": { "code": "en_US" },
            "components": [{ "type": "body", "parameters": parameters }] } })
    };
    assert_eq!(running.refusal(Method::POST, SEND, Some(send("soon"))).await, (132_018, 0));
    assert_eq!(running.post(SEND, send("May 4")).await.0, 200);
    running.end().await;
}

#[tokio::test]
async fn samples_are_uploaded_first() {
    let running = start().await;
    let open = "/v25.0/1234567890/uploads?file_name=a.png&file_length=6&file_type=image/png";
    let session = running.call(Method::POST, open, None).await.1;
    let upload = running
        .http
        .post(format!("{}/v25.0/{}", running.base, session["id"].as_str().unwrap()))
        .header("authorization", "OAuth dev-access-token")
        .header("file_offset", "0")
        .body("pixels");
    let uploaded = upload.send().await.unwrap().bytes().await.unwrap();
    let handle = serde_json::from_slice::<Value>(&uploaded).unwrap()["h"].as_str().unwrap().to_owned();
    let with = |name: &str, format: &str, handle: &str| {
        let mut body = creation(name);
        let header = json!({ "type": "HEADER", "format": format, "example": { "header_handle": [handle] } });
        body["components"].as_array_mut().unwrap().insert(0, header);
        body
    };
    for (format, handle) in [
        ("VIDEO", handle.as_str()),
        ("IMAGE", &handle[1..]),
        ("IMAGE", &handle[..handle.len() - 1]),
        ("IMAGE", "10000000000001"),
    ] {
        let (status, body) = running.post(TEMPLATES, with("picture", format, handle)).await;
        let error = &body["error"];
        assert_eq!((status, &error["error_subcode"]), (400, &json!(2_388_047)), "{handle}: {body}");
        assert!(error["message"].as_str().unwrap().contains("components[0]['example']['header_handle'][0]"));
    }
    let id = running.create(with("picture", "IMAGE", &handle)).await;
    let read = running.get(&format!("/v25.0/{id}")).await;
    let shown = read["components"][0]["example"]["header_handle"][0].as_str().unwrap();
    assert!(shown.starts_with("https://scontent.whatsapp.net/v/"), "{shown}");
    running.time.fetch_add(3600, Ordering::SeqCst);
    let refused = running.refusal(Method::POST, TEMPLATES, Some(with("later", "IMAGE", &handle))).await;
    assert_eq!(refused, (100, 2_388_047), "expired");
    running.create(with("foreign", "IMAGE", "4::aW1hZ2UvanBn:ARYyt:e:1681000441")).await;
    running.end().await;
}
