//! Creations of templates from other projects, as Meta judges them according to the simulator.

use serde_json::{Value, json};

use crate::support::Gateway;
use crate::support::shared::{corpus, json_files};

const WABA: &str = "/v25.0/102290129340398/message_templates";

/// Creations that Meta would refuse, with a word of the refusal: samples are missing, a link is no handle, or
/// the app is named as it was before v21.
const REFUSED: [(&str, &str); 7] = [
    ("facebook+openapi/template-create-authentication-footer-otp_one_tap.json", "Unexpected key"),
    ("froggy1014+meta-cloud-api/template-create-marketing-2.json", "['example']"),
    ("froggy1014+meta-cloud-api/template-create-marketing-header_image-footer-url.json", "header_handle"),
    ("froggy1014+meta-cloud-api/template-create-marketing-header_image.json", "no handle"),
    ("froggy1014+meta-cloud-api/template-create-marketing.json", "['example']"),
    ("froggy1014+meta-cloud-api/template-create-utility-header_text-footer.json", "['example']"),
    ("froggy1014+meta-cloud-api/template-create-utility-quick_reply-url.json", "['example']"),
];

async fn post(gateway: &Gateway, path: &str, body: &Value) -> (u16, Value) {
    let request = gateway.http.post(format!("http://{}{path}", gateway.address("simulator")));
    let request = request.bearer_auth("dev-access-token").header("content-type", "application/json");
    let response = request.body(body.to_string()).send().await.unwrap();
    let status = response.status().as_u16();
    (status, serde_json::from_slice(&response.bytes().await.unwrap()).unwrap())
}

#[tokio::test]
async fn creations_of_other_projects() {
    let Some(folder) = corpus("request-corpus") else { return };
    let gateway = Gateway::dev().await;
    let mut refused = Vec::new();
    let mut id = Value::Null;
    let files = json_files(&folder);
    let bodies = files.iter().filter(|(name, _)| name.contains("/template-"));
    for (at, (name, bytes)) in bodies.enumerate() {
        let mut body: Value = serde_json::from_slice(bytes).unwrap();
        let is_edit = name.contains("/template-edit-");
        if !is_edit {
            // Several are the same template.
            body["name"] = json!(format!("{}_{at}", body["name"].as_str().unwrap()));
        }
        let path = if is_edit { format!("/v25.0/{}", id.as_str().unwrap()) } else { WABA.to_owned() };
        let (status, answer) = post(&gateway, &path, &body).await;
        if status != 200 {
            let message = format!("{} {}", answer["error"]["message"], answer["error"]["error_user_msg"]);
            eprintln!("refused: {name}: {message}");
            refused.push((name.as_str(), message));
        } else if is_edit {
            assert_eq!(answer, json!({ "success": true }));
        } else {
            // An edit needs a template that was reviewed.
            let rejected = json!({ "status": "REJECTED" });
            let made = answer["id"].as_str().unwrap();
            gateway.simulate(&format!("templates/{made}"), &rejected).await;
            id = answer["id"].clone();
        }
    }
    let names: Vec<_> = refused.iter().map(|(name, _)| *name).collect();
    assert_eq!(names, REFUSED.map(|(name, _)| name));
    for ((name, message), (_, word)) in refused.iter().zip(REFUSED) {
        assert!(message.contains(word), "{name}: {message}");
    }
}
