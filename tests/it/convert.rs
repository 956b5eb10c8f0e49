//! The command `convert`: stdin to stdout, without a gateway.

use std::process::Stdio;

use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

/// Its exit code, stdout and stderr.
async fn convert(stdin: &str) -> (i32, String, String) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_whatsapp-gateway"))
        .arg("convert")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(stdin.as_bytes()).await.unwrap();
    let output = child.wait_with_output().await.unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

#[tokio::test]
async fn a_body_becomes_a_request() {
    let body = json!({
        "messaging_product": "whatsapp", "recipient_type": "individual", "to": "+16505551234",
        "context": { "message_id": "wamid.A" }, "biz_opaque_callback_data": "order=1", "type": "interactive",
        "interactive": { "type": "button", "body": { "text": "Well?" }, "action": { "buttons": [
            { "type": "reply", "reply": { "id": "yes", "title": "Yes" } },
        ] } },
    });
    let (code, stdout, stderr) = convert(&body.to_string()).await;
    assert_eq!((code, stderr.as_str()), (0, ""));
    assert_eq!(
        serde_json::from_str::<Value>(&stdout).unwrap(),
        json!({
            "recipient": { "phone_number": "+16505551234" }, "reply_to_message_id": "wamid.A",
            "callback_data": "order=1",
            "interactive": { "body": { "text": "Well?" },
                "button": { "buttons": [{ "reply": { "id": "yes", "title": "Yes" } }] } },
        })
    );
}

#[tokio::test]
async fn what_cannot_be_typed_is_said() {
    let body = r#"{"to": "+16505551234", "type": "hologram", "hologram": {"id": "5"}}"#;
    let (code, stdout, stderr) = convert(body).await;
    assert_eq!((code, stderr.as_str()), (0, "raw: \"hologram\" has no field in the request\n"));
    let request: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(request["raw"], json!({ "type": "hologram", "hologram": { "id": "5" } }));

    let (code, _, stderr) = convert(r#"{"to": "1", "type": "text", "text": {"body": ""}}"#).await;
    assert_eq!((code, stderr.as_str()), (0, "the gateway will refuse this: text.body must not be empty\n"));
    let (code, _, stderr) = convert(r#"{"to": "1", "type": "video", "video": {"caption": "x"}}"#).await;
    assert_eq!(code, 0);
    assert!(stderr.contains("the gateway will refuse this: video exactly one of id, link"), "{stderr}");
}

#[tokio::test]
async fn a_template_becomes_a_request_whole_or_not_at_all() {
    let body = json!({ "name": "t", "language": "en_US", "category": "MARKETING", "components": [
        { "type": "BODY", "text": "Hi" }, { "type": "BUTTONS", "buttons": [{ "type": "QUICK_REPLY", "text": "Stop" }] },
    ] });
    let (code, stdout, stderr) = convert(&body.to_string()).await;
    assert_eq!((code, stderr.as_str()), (0, "note: this is a request of ManageTemplate\n"));
    assert_eq!(
        serde_json::from_str::<Value>(&stdout).unwrap(),
        json!({ "create": { "name": "t", "language": "en_US", "category": "MARKETING", "components": [
            { "body": { "text": "Hi" } }, { "buttons": { "buttons": [{ "quick_reply": { "text": "Stop" } }] } },
        ] } })
    );
    let (code, _, stderr) = convert(r#"{"components": [{"type": "BODY", "text": "Hi"}]}"#).await;
    assert_eq!(code, 0);
    assert!(stderr.contains("note: edit.template_id is in the URL at Meta"), "{stderr}");
    let (code, stdout, stderr) = convert(r#"{"name": "t", "components": [{"type": "HOLOGRAM"}]}"#).await;
    assert_eq!((code, stdout.as_str()), (64, ""));
    assert!(stderr.contains("components[0].type has no field in the request"), "{stderr}");
}

#[tokio::test]
async fn bad_input_exits_with_64_and_says_why() {
    let cases = [
        ("", "stdin is empty"),
        ("{", "the body is no JSON: EOF while parsing an object at line 1"),
        ("[]", "a request body is a JSON object"),
        (r#"{"status": "read", "message_id": "wamid.A"}"#, "MarkMessageRead"),
        (r#"{"type": "text", "text": {"body": "Hi"}}"#, "nobody is addressed"),
    ];
    for (stdin, words) in cases {
        let (code, stdout, stderr) = convert(stdin).await;
        assert_eq!((code, stdout.as_str()), (64, ""), "{stdin}");
        assert!(stderr.contains(words), "{stdin}: {stderr}");
    }
}
