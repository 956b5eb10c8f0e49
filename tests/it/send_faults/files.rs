//! Faults of uploads, downloads and templates: what the caller sees, how often Meta was asked, and that asking again helps.
//! What `media`, `templates` and `templates_lost` play in full has no row here, unless a table of kinds needs it.

use serde_json::{Value, json};
use tokio::time::timeout;
use tonic::{Code, Status};
use whatsapp_gateway::contract::v1;
use whatsapp_gateway::contract::v1::download_media_response::Part as Downloaded;
use whatsapp_gateway::contract::v1::manage_template_request::Action;
use whatsapp_gateway::contract::v1::upload_media_request::Part;

use crate::support::gateway::PATIENCE;
use crate::support::template::create;
use crate::support::{Gateway, Refusal};

const HTML: &str = "<html><body>Sorry, something went wrong.</body></html>";
const ATTACHMENTS: &str = "/whatsapp_business/attachments/";
const FILE: &[u8] = &[7; 20_000];

/// What is asked of Meta.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum On {
    Upload,
    /// The URL of a medium.
    Lookup,
    /// Its bytes.
    Download,
    ReadTemplates,
    CreateTemplate,
}

/// A fault of one call; nothing if the caller sees none.
type Row = (On, Value, Option<(Code, &'static str)>);

fn html(status: u16) -> Value {
    json!({"http": {"status": status, "body": HTML}})
}

#[rustfmt::skip]
fn rows() -> Vec<Row> {
    let out_of_order = Some((Code::Unavailable, "UPSTREAM_UNAVAILABLE"));
    let limited = Some((Code::ResourceExhausted, "UPSTREAM_ACCOUNT_RATE"));
    let credentials = Some((Code::FailedPrecondition, "UPSTREAM_CREDENTIALS"));
    let mut rows = vec![
        (On::Upload, html(413), Some((Code::InvalidArgument, "UPSTREAM_REFUSED"))),
        (On::Lookup, html(404), Some((Code::NotFound, "MEDIA_NOT_FOUND"))),
        (On::Lookup, json!({"error": {"code": 100, "subcode": 33}}), Some((Code::NotFound, "MEDIA_NOT_FOUND"))),
        (On::Download, json!({"corrupt": true}), Some((Code::DataLoss, "MEDIA_CHECKSUM_MISMATCH"))),
        (On::Download, json!({"cut": "before_acceptance", "after_bytes": 10_000}), out_of_order),
        (On::Download, json!({"stall": true, "after_bytes": 10_000}), out_of_order),
        (On::CreateTemplate, html(400), Some((Code::InvalidArgument, "UPSTREAM_REFUSED"))),
        (On::CreateTemplate, json!({"error": {"code": 133_004, "http_status": 400}}), out_of_order),
    ];
    for on in [On::Upload, On::Lookup, On::Download, On::ReadTemplates] {
        rows.push((on, json!({"stall": true}), out_of_order));
        rows.push((on, json!({"cut": "before_acceptance"}), out_of_order));
        rows.push((on, html(502), out_of_order));
    }
    for on in [On::Upload, On::Lookup, On::ReadTemplates] {
        rows.push((on, html(200), out_of_order));
        rows.push((on, json!({"cut": "after_acceptance"}), out_of_order));
    }
    for on in [On::Upload, On::Lookup, On::ReadTemplates, On::CreateTemplate] {
        rows.push((on, json!({"delay_ms": 200}), None));
        rows.push((on, html(403), credentials));
        rows.push((on, json!({"error": {"code": 190}}), credentials));
        rows.push((on, json!({"http": {"status": 429, "body": HTML}, "retry_after": 70}), limited));
        rows.push((on, json!({"error": {"code": 80_007}, "retry_after": 70}), limited));
    }
    rows
}

/// The faults that are played here.
pub fn faults() -> Vec<Value> {
    rows().into_iter().map(|(_, fault, _)| fault).collect()
}

async fn upload(gateway: &Gateway) -> Result<String, Status> {
    let header = v1::UploadMediaHeader {
        mime_type: "image/png".to_owned(),
        filename: "parcel.png".to_owned(),
        size_bytes: FILE.len() as u64,
        ..Default::default()
    };
    let parts = [Part::Header(header), Part::Chunk(FILE.into())];
    let requests = parts.map(|part| v1::UploadMediaRequest { part: Some(part) });
    let uploaded = gateway.client().await.upload_media(futures_util::stream::iter(requests)).await?;
    match uploaded.into_inner().result {
        Some(v1::upload_media_response::Result::MediaId(id)) => Ok(id),
        other => panic!("{other:?}"),
    }
}

/// The whole file, or why not.
async fn download(gateway: &Gateway, media_id: &str) -> Result<(), Status> {
    let request = v1::DownloadMediaRequest { media_id: media_id.to_owned(), ..Default::default() };
    let mut parts = gateway.client().await.download_media(request).await?.into_inner();
    let mut bytes = Vec::new();
    while let Some(response) = parts.message().await? {
        if let Some(Downloaded::Chunk(chunk)) = response.part {
            bytes.extend(chunk);
        }
    }
    assert!(bytes == FILE, "{} bytes came, and they were called right", bytes.len());
    Ok(())
}

/// Does what a row is about.
async fn act(gateway: &Gateway, on: On, media_id: &str, name: &str) -> Result<(), Refusal> {
    match on {
        On::Upload => upload(gateway).await.map(drop).map_err(|status| Refusal::of(&status)),
        On::Lookup | On::Download => download(gateway, media_id).await.map_err(|status| Refusal::of(&status)),
        On::ReadTemplates => gateway.manage(Action::List(v1::ListTemplatesAction::default())).await.map(drop),
        On::CreateTemplate => gateway.manage(Action::Create(create(name, "It is here."))).await.map(drop),
    }
}

#[tokio::test]
async fn faults_of_files_and_templates_are_told_and_pass() {
    let gateway = Gateway::builder()
        .env("WHATSAPP_GATEWAY__CLOUD_API__REQUEST_TIMEOUT", "1 s")
        .env("WHATSAPP_GATEWAY__MEDIA__STALL_TIMEOUT", "1 s")
        .start()
        .await;
    let media_id = upload(&gateway).await.unwrap();
    println!("on | fault | the caller sees");
    for (number, (on, fault, expected)) in rows().into_iter().enumerate() {
        let (method, path) = match on {
            On::Upload => ("POST", "/media".to_owned()),
            On::Lookup => ("GET", format!("/{media_id}")),
            On::Download => ("GET", ATTACHMENTS.to_owned()),
            On::ReadTemplates => ("GET", "/message_templates".to_owned()),
            On::CreateTemplate => ("POST", "/message_templates".to_owned()),
        };
        let (case, name) = (format!("{on:?} | {fault}"), format!("parcel_{number}"));
        let before = gateway.calls(method, &path).await;
        gateway.faults(method, &path, 1, &fault).await;
        let said = timeout(PATIENCE, act(&gateway, on, &media_id, &name)).await.expect(&case);
        let seen = said.as_ref().err().map(Refusal::is);
        println!("{case} | {seen:?} again in {:?}", said.as_ref().err().and_then(|refusal| refusal.retry));
        assert_eq!(seen, expected, "{case}");
        if let Err(refusal) = &said {
            let stated = fault["retry_after"].as_u64();
            assert!(
                stated.is_none() || refusal.retry.map(|delay| delay.as_secs()) == stated,
                "{case}: {refusal:?}"
            );
            let may_wait = matches!(refusal.code, Code::Unavailable | Code::ResourceExhausted);
            assert_eq!(refusal.retry.is_some(), may_wait, "{case}: {refusal:?}");
            assert!(!refusal.message.contains("<html>"), "{case}: {}", refusal.message);
        }
        assert_eq!(gateway.calls(method, &path).await - before, 1, "{case}: it was repeated");
        if on == On::CreateTemplate {
            assert_eq!(gateway.templates(&name).await.len(), usize::from(expected.is_none()), "{case}");
        }
        if expected.is_some() {
            act(&gateway, on, &media_id, &name)
                .await
                .unwrap_or_else(|refusal| panic!("{case}, then {refusal:?}"));
        }
    }
}
