//! Files to Meta and back, through the real process.

use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::time::timeout;
use tonic::{Code, Status};
use tonic_types::StatusExt;
use whatsapp_gateway::contract::v1::{
    self, download_media_response, upload_media_request, upload_media_response,
};

use crate::support::Gateway;
use crate::support::gateway::Client;

const NUMBER: &str = "106540352242922";
const PATIENCE: Duration = Duration::from_mins(1);
const CHUNK: usize = 256 * 1024;

/// A file that is made while it is sent, and that no two seeds share.
#[derive(Debug, Clone, Copy)]
pub struct File {
    pub seed: u8,
    pub bytes: usize,
}

impl File {
    pub fn pieces(self) -> impl Iterator<Item = Bytes> {
        let block: Vec<u8> = (0..251).cycle().take(CHUNK + 251).map(|n: u8| n ^ self.seed).collect();
        let block = Bytes::from(block);
        (0..self.bytes.div_ceil(CHUNK)).map(move |n| {
            let len = CHUNK.min(self.bytes - n * CHUNK);
            block.slice(n % 251..n % 251 + len)
        })
    }

    pub fn sha256(self) -> String {
        let mut hasher = Sha256::new();
        self.pieces().for_each(|piece| hasher.update(&piece));
        hex::encode(hasher.finalize())
    }

    pub fn header(self, mime_type: &str) -> v1::UploadMediaHeader {
        v1::UploadMediaHeader {
            mime_type: mime_type.to_owned(),
            filename: "Rechnung \"Mai\" ä.bin".to_owned(),
            size_bytes: self.bytes as u64,
            ..Default::default()
        }
    }
}

fn chunk(piece: Bytes) -> v1::UploadMediaRequest {
    v1::UploadMediaRequest { part: Some(upload_media_request::Part::Chunk(piece)) }
}

pub fn messages(
    header: v1::UploadMediaHeader,
    pieces: impl Iterator<Item = Bytes> + Send + 'static,
) -> impl Stream<Item = v1::UploadMediaRequest> + Send + 'static {
    let header = v1::UploadMediaRequest { part: Some(upload_media_request::Part::Header(header)) };
    futures_util::stream::iter(std::iter::once(header).chain(pieces.map(chunk)))
}

pub async fn upload(
    client: &mut Client,
    messages: impl Stream<Item = v1::UploadMediaRequest> + Send + 'static,
) -> Result<v1::UploadMediaResponse, Status> {
    timeout(PATIENCE, client.upload_media(messages))
        .await
        .expect("no answer")
        .map(tonic::Response::into_inner)
}

/// Uploads the file as it is declared.
pub async fn upload_file(client: &mut Client, file: File, mime_type: &str) -> String {
    let answer = upload(client, messages(file.header(mime_type), file.pieces())).await.unwrap();
    assert_eq!((answer.size_bytes, answer.sha256.as_str()), (file.bytes as u64, file.sha256().as_str()));
    match answer.result {
        Some(upload_media_response::Result::MediaId(id)) => id,
        other => panic!("expected a media id: {other:?}"),
    }
}

#[derive(Debug)]
pub struct Downloaded {
    pub header: v1::DownloadMediaHeader,
    pub bytes: u64,
    pub sha256: String,
    pub largest: usize,
    pub end: Option<Status>,
}

pub async fn download(client: &mut Client, request: v1::DownloadMediaRequest) -> Result<Downloaded, Status> {
    let mut stream = client.download_media(request).await?.into_inner();
    let mut hasher = Sha256::new();
    let mut header = None;
    let (mut bytes, mut largest) = (0, 0);
    let end = loop {
        match timeout(PATIENCE, stream.message()).await.expect("no chunk in time") {
            Ok(Some(message)) => match message.part {
                Some(download_media_response::Part::Header(first)) => header = Some(first),
                Some(download_media_response::Part::Chunk(chunk)) => {
                    assert!(header.is_some(), "the header is first");
                    hasher.update(&chunk);
                    bytes += chunk.len() as u64;
                    largest = largest.max(chunk.len());
                }
                None => panic!("an empty message"),
            },
            Ok(None) => break None,
            Err(status) => break Some(status),
        }
    };
    let sha256 = hex::encode(hasher.finalize());
    Ok(Downloaded { header: header.expect("a header"), bytes, sha256, largest, end })
}

fn by_id(id: &str) -> v1::DownloadMediaRequest {
    v1::DownloadMediaRequest { media_id: id.to_owned(), ..Default::default() }
}

fn reason(status: &Status) -> String {
    status.get_details_error_info().map_or_else(|| panic!("no reason: {status:?}"), |info| info.reason)
}

#[track_caller]
fn assert_refused<T: std::fmt::Debug>(result: Result<T, Status>, code: Code, expected: &str) -> Status {
    let status = result.expect_err(expected);
    assert_eq!((status.code(), reason(&status).as_str()), (code, expected), "{status:?}");
    status
}

/// What the simulator was asked on paths that end so.
pub async fn requests(gateway: &Gateway, path: &str) -> Vec<Value> {
    gateway.simulator(&format!("requests?path={path}")).await.as_array().unwrap().clone()
}

/// So many uploads began at least, and none was carried out. One that is wrong from its first piece never begins.
async fn assert_nothing_stored(gateway: &Gateway, begun: usize) {
    crate::eventually!(requests(gateway, "/media").await.len() >= begun);
    for request in requests(gateway, "/media").await {
        assert_ne!(request["outcome"], json!(200), "{request}");
        assert!(request.get("incomplete").is_some(), "{request}");
    }
}

async fn medium(gateway: &Gateway, bytes: usize) -> (String, String) {
    let medium = json!({"mime_type": "application/pdf", "bytes": bytes});
    let medium = gateway.simulate("media", &medium).await;
    (medium["id"].as_str().unwrap().to_owned(), medium["sha256"].as_str().unwrap().to_owned())
}

async fn fault(gateway: &Gateway, path: &str, fault: Value) {
    gateway.simulate("faults", &json!({"match": {"path_suffix": path}, "fault": fault})).await;
}

const ATTACHMENTS: &str = "/whatsapp_business/attachments/";

#[tokio::test]
async fn every_kind_goes_up_and_comes_back() {
    let gateway = Gateway::dev().await;
    let mut client = gateway.client().await;
    for (seed, (mime_type, bytes)) in (1..).zip([
        ("image/jpeg", 5_000_000),
        ("image/png", 1),
        ("image/webp", 500_000),
        ("audio/ogg; codecs=opus", 16_000_000),
        ("audio/mpeg", 300_000),
        ("video/mp4", 16_000_000),
        ("video/3gpp", CHUNK),
        ("application/pdf", 20_000_000),
        ("text/plain", 12),
        ("application/vnd.openxmlformats-officedocument.wordprocessingml.document", CHUNK * 2),
    ]) {
        let file = File { seed, bytes };
        let id = upload_file(&mut client, file, mime_type).await;
        let request = v1::GetMediaRequest { media_id: id.clone(), ..Default::default() };
        let info = client.get_media(request).await.unwrap().into_inner();
        assert_eq!((info.mime_type.as_str(), info.size_bytes), (mime_type, bytes as u64));
        assert_eq!(info.sha256, file.sha256());
        let came = download(&mut client, by_id(&id)).await.unwrap();
        assert!(came.end.is_none(), "{mime_type}: {:?}", came.end);
        assert_eq!((came.bytes, &came.sha256), (bytes as u64, &file.sha256()), "{mime_type}");
        assert_eq!((came.header.sha256, came.header.length), (file.sha256(), bytes as u64));
        assert!(came.largest <= 1024 * 1024);
    }
    let first = &requests(&gateway, "/media").await[0];
    let part = first["parts"].as_array().unwrap().iter().find(|part| part["name"] == "file").unwrap();
    assert_eq!(part["filename"], "Rechnung %22Mai%22 ä.bin");
    assert_eq!(part["content_type"], "image/jpeg");
    assert!(first["headers"]["content-length"].is_string(), "{first}");
}

#[tokio::test]
async fn what_meta_would_not_take_is_refused_before_a_byte_moves() {
    let gateway = Gateway::dev().await;
    let mut client = gateway.client().await;
    let no_chunks = |header| messages(header, std::iter::empty());
    for (mime_type, bytes, expected) in [
        ("image/jpeg", 5_000_001, "MEDIA_TOO_LARGE"),
        ("image/webp", 500_001, "MEDIA_TOO_LARGE"),
        ("audio/ogg", 16_000_001, "MEDIA_TOO_LARGE"),
        ("video/mp4", 16_000_001, "MEDIA_TOO_LARGE"),
        ("application/pdf", 100_000_001, "MEDIA_TOO_LARGE"),
        ("image/gif", 1, "MEDIA_TYPE_UNSUPPORTED"),
        ("audio/wav", 1, "MEDIA_TYPE_UNSUPPORTED"),
        ("application/zip", 1, "MEDIA_TYPE_UNSUPPORTED"),
    ] {
        let header = File { seed: 0, bytes }.header(mime_type);
        let status =
            assert_refused(upload(&mut client, no_chunks(header)).await, Code::InvalidArgument, expected);
        assert_eq!(status.get_details_bad_request().unwrap().field_violations.len(), 1);
    }
    let bad = v1::UploadMediaHeader {
        phone_number_id: "x".to_owned(),
        waba_id: "1".to_owned(),
        mime_type: "jpeg".to_owned(),
        filename: String::new(),
        size_bytes: 0,
        sha256: "abc".to_owned(),
        purpose: 9,
        ttl_minutes: Some(59),
        request_id: "a b".to_owned(),
    };
    let status =
        assert_refused(upload(&mut client, no_chunks(bad)).await, Code::InvalidArgument, "VALIDATION_FAILED");
    let violations = status.get_details_bad_request().unwrap().field_violations;
    let mut fields: Vec<_> = violations.into_iter().map(|violation| violation.field).collect();
    fields.sort();
    let all = [
        "filename",
        "mime_type",
        "phone_number_id",
        "purpose",
        "request_id",
        "sha256",
        "size_bytes",
        "ttl_minutes",
        "waba_id",
    ];
    assert_eq!(fields, all.map(|field| format!("header.{field}")));

    let without_header = futures_util::stream::iter([chunk(Bytes::from_static(b"x"))]);
    assert_refused(upload(&mut client, without_header).await, Code::InvalidArgument, "VALIDATION_FAILED");
    let other = v1::UploadMediaHeader {
        phone_number_id: "1".to_owned(),
        ..File { seed: 0, bytes: 1 }.header("image/png")
    };
    let refused = upload(&mut client, no_chunks(other)).await;
    assert_refused(refused, Code::NotFound, "PHONE_NUMBER_NOT_CONFIGURED");
    assert_eq!(requests(&gateway, "/media").await.len(), 0);
}

#[tokio::test]
async fn a_file_that_is_not_as_declared_leaves_nothing() {
    let gateway = Gateway::dev().await;
    let mut client = gateway.client().await;
    let file = File { seed: 3, bytes: 3_000_000 };
    let declared = |bytes| File { bytes, ..file }.header("image/png");
    for bytes in [2_999_999, 3_000_001, 1, 4_000_000] {
        let refused = upload(&mut client, messages(declared(bytes), file.pieces())).await;
        let status = assert_refused(refused, Code::InvalidArgument, "MEDIA_SIZE_MISMATCH");
        assert_eq!(status.get_details_bad_request().unwrap().field_violations[0].field, "header.size_bytes");
    }
    let header = v1::UploadMediaHeader { sha256: File { seed: 4, ..file }.sha256(), ..declared(3_000_000) };
    let refused = upload(&mut client, messages(header, file.pieces())).await;
    assert_refused(refused, Code::InvalidArgument, "MEDIA_CHECKSUM_MISMATCH");
    let large = std::iter::repeat_n(Bytes::from(vec![0; 1024 * 1024 + 1]), 2);
    let refused = upload(&mut client, messages(declared(3_000_000), large)).await;
    let status = assert_refused(refused, Code::InvalidArgument, "VALIDATION_FAILED");
    assert_eq!(status.get_details_bad_request().unwrap().field_violations[0].field, "chunk");
    let huge = std::iter::once(Bytes::from(vec![0; 4_900_000]));
    let refused = upload(&mut client, messages(declared(4_900_000), huge)).await;
    assert_refused(refused, Code::InvalidArgument, "VALIDATION_FAILED");
    let header_twice = messages(declared(3_000_000), std::iter::empty())
        .chain(messages(declared(3_000_000), std::iter::empty()));
    assert_refused(upload(&mut client, header_twice).await, Code::InvalidArgument, "VALIDATION_FAILED");
    assert_nothing_stored(&gateway, 4).await;

    let right = v1::UploadMediaHeader { sha256: file.sha256().to_uppercase(), ..declared(3_000_000) };
    upload(&mut client, messages(right, file.pieces())).await.unwrap();
}

#[tokio::test]
async fn a_stall_is_given_up_and_a_caller_who_hangs_up_ends_the_upload() {
    let gateway = Gateway::builder().env("WHATSAPP_GATEWAY__MEDIA__STALL_TIMEOUT", "1 s").start().await;
    let mut client = gateway.client().await;
    let file = File { seed: 5, bytes: 1_000_000 };
    let stalling =
        || messages(file.header("image/png"), file.pieces().take(2)).chain(futures_util::stream::pending());
    assert_refused(upload(&mut client, stalling()).await, Code::Aborted, "MEDIA_STREAM_STALLED");
    assert_nothing_stored(&gateway, 1).await;

    let hanging_up = timeout(Duration::from_millis(300), client.upload_media(stalling())).await;
    assert!(hanging_up.is_err());
    assert_nothing_stored(&gateway, 2).await;

    // Meta reads nothing more.
    fault(&gateway, "/media", json!({"stall": true, "after_bytes": 1000})).await;
    let file = File { seed: 5, bytes: 60_000_000 };
    let stuck = upload(&mut client, messages(file.header("application/pdf"), file.pieces())).await;
    assert_refused(stuck, Code::Unavailable, "UPSTREAM_UNAVAILABLE");

    let (id, _) = medium(&gateway, 50_000_000).await;
    fault(&gateway, ATTACHMENTS, json!({"stall": true, "after_bytes": 1_000_000})).await;
    let came = download(&mut client, by_id(&id)).await.unwrap();
    assert_refused::<()>(Err(came.end.unwrap()), Code::Unavailable, "UPSTREAM_UNAVAILABLE");

    // The caller reads nothing more.
    let mut stream = client.download_media(by_id(&id)).await.unwrap().into_inner();
    tokio::time::sleep(Duration::from_millis(1500)).await;
    let end = loop {
        match timeout(PATIENCE, stream.message()).await.unwrap() {
            Ok(message) => assert!(message.is_some(), "it must not end as if all had come"),
            Err(status) => break status,
        }
    };
    assert_refused::<()>(Err(end), Code::Aborted, "MEDIA_STREAM_STALLED");
}

#[tokio::test]
async fn failures_of_meta_are_told_apart() {
    let gateway = Gateway::dev().await;
    let mut client = gateway.client().await;
    let file = File { seed: 6, bytes: 1_000_000 };
    let again = || messages(file.header("image/png"), file.pieces());
    for (planned, code, expected) in [
        (json!({"error": {"code": 131_053}}), Code::InvalidArgument, "MEDIA_REJECTED"),
        (json!({"error": {"code": 190}}), Code::FailedPrecondition, "UPSTREAM_CREDENTIALS"),
        (json!({"error": {"code": 131_000, "http_status": 500}}), Code::Unavailable, "UPSTREAM_UNAVAILABLE"),
        (json!({"http": {"status": 502}}), Code::Unavailable, "UPSTREAM_UNAVAILABLE"),
        (
            json!({"cut": "before_acceptance", "after_bytes": 500_000}),
            Code::Unavailable,
            "UPSTREAM_UNAVAILABLE",
        ),
        (json!({"cut": "after_acceptance"}), Code::Unavailable, "UPSTREAM_UNAVAILABLE"),
    ] {
        fault(&gateway, "/media", planned).await;
        assert_refused(upload(&mut client, again()).await, code, expected);
    }
    upload(&mut client, again()).await.unwrap();

    let (id, sha256) = medium(&gateway, 3_000_000).await;
    fault(&gateway, ATTACHMENTS, json!({"corrupt": true})).await;
    let came = download(&mut client, by_id(&id)).await.unwrap();
    assert_eq!(came.bytes, 3_000_000);
    assert_refused::<()>(Err(came.end.unwrap()), Code::DataLoss, "MEDIA_CHECKSUM_MISMATCH");
    fault(&gateway, ATTACHMENTS, json!({"cut": "before_acceptance", "after_bytes": 1_000_000})).await;
    let came = download(&mut client, by_id(&id)).await.unwrap();
    assert!(came.bytes <= 1_000_000);
    assert_refused::<()>(Err(came.end.unwrap()), Code::Unavailable, "UPSTREAM_UNAVAILABLE");
    assert_eq!(download(&mut client, by_id(&id)).await.unwrap().sha256, sha256);
}

#[tokio::test]
async fn expired_urls_are_looked_up_once_more_and_lost_media_are_not_found() {
    let gateway = Gateway::dev().await;
    let mut client = gateway.client().await;
    let (id, sha256) = medium(&gateway, 1000).await;
    let gone = json!({"http": {"status": 404}});
    fault(&gateway, ATTACHMENTS, gone.clone()).await;
    assert_eq!(download(&mut client, by_id(&id)).await.unwrap().sha256, sha256);
    assert_eq!(requests(&gateway, &format!("/{id}")).await.len(), 2);
    fault(&gateway, ATTACHMENTS, gone.clone()).await;
    fault(&gateway, ATTACHMENTS, gone).await;
    assert_refused(download(&mut client, by_id(&id)).await, Code::NotFound, "MEDIA_NOT_FOUND");

    let expired = json!({"mime_type": "image/png", "bytes": 5, "expires_in_seconds": 0});
    let expired = gateway.simulate("media", &expired).await["id"].as_str().unwrap().to_owned();
    let get = |id: &str| v1::GetMediaRequest { media_id: id.to_owned(), ..Default::default() };
    let delete = |id: &str| v1::DeleteMediaRequest { media_id: id.to_owned(), ..Default::default() };
    assert_refused(client.get_media(get(&expired)).await, Code::NotFound, "MEDIA_NOT_FOUND");
    assert_refused(download(&mut client, by_id(&expired)).await, Code::NotFound, "MEDIA_NOT_FOUND");
    client.delete_media(delete(&id)).await.unwrap();
    assert_refused(client.delete_media(delete(&id)).await, Code::NotFound, "MEDIA_NOT_FOUND");
    assert_refused(client.get_media(get(&id)).await, Code::NotFound, "MEDIA_NOT_FOUND");
    for bad in ["", "..", "1/messages", "abc"] {
        assert_refused(client.get_media(get(bad)).await, Code::InvalidArgument, "VALIDATION_FAILED");
        assert_refused(client.delete_media(delete(bad)).await, Code::InvalidArgument, "VALIDATION_FAILED");
        assert_refused(download(&mut client, by_id(bad)).await, Code::InvalidArgument, "VALIDATION_FAILED");
    }
}

#[tokio::test]
async fn ranges() {
    let gateway = Gateway::dev().await;
    let mut client = gateway.client().await;
    let file = File { seed: 7, bytes: 700_000 };
    let id = upload_file(&mut client, file, "application/pdf").await;
    let whole: Vec<u8> = file.pieces().flatten().collect();
    for (offset, length, expected) in [
        (0, 10, 0..10),
        (699_999, 0, 699_999..700_000),
        (300_000, 300_000, 300_000..600_000),
        (1, u64::MAX, 1..700_000),
    ] {
        let request = v1::DownloadMediaRequest { offset, length, ..by_id(&id) };
        let came = download(&mut client, request).await.unwrap();
        assert!(came.end.is_none());
        assert_eq!(came.sha256, hex::encode(Sha256::digest(&whole[expected])), "{offset} {length}");
        assert_eq!((came.header.offset, came.header.size_bytes), (offset, 700_000));
        assert_eq!(came.header.length, came.bytes);
    }
    for offset in [700_000, u64::MAX] {
        let request = v1::DownloadMediaRequest { offset, ..by_id(&id) };
        assert_refused(download(&mut client, request).await, Code::OutOfRange, "MEDIA_RANGE_INVALID");
    }
}

/// A server that nobody vouches for; it shows the heads of the requests that it got.
#[expect(clippy::disallowed_methods, reason = "a test waits for its tasks itself")]
async fn stranger(answer: String) -> (String, tokio::task::JoinHandle<String>) {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let task = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        stream.write_all(answer.as_bytes()).await.unwrap();
        String::from_utf8(head).unwrap()
    });
    (url, task)
}

#[tokio::test]
async fn the_token_goes_to_listed_hosts_only() {
    let gateway = Gateway::dev().await;
    let mut client = gateway.client().await;
    let content = "not ours";
    let sha256 = hex::encode(Sha256::digest(content));
    let answer =
        format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{content}", content.len());

    // Meta names a foreign host: it is not even asked.
    let (id, _) = medium(&gateway, 1000).await;
    let (url, untouched) = stranger(answer.clone()).await;
    let described = json!({"url": format!("{url}/file"), "mime_type": "image/png", "sha256": sha256,
                           "file_size": content.len(), "id": id});
    let lookup = |body: &Value| json!({"http": {"status": 200, "content_type": "application/json", "body": body.to_string()}});
    fault(&gateway, &id, lookup(&described)).await;
    let refused = download(&mut client, by_id(&id)).await;
    let status = assert_refused(refused, Code::FailedPrecondition, "MEDIA_HOST_NOT_ALLOWED");
    assert_eq!(status.get_details_error_info().unwrap().metadata["actor"], "operator");
    assert!(status.message().contains("cloud_api.media_hosts"), "{status:?}");
    assert!(!untouched.is_finished());
    untouched.abort();

    // A listed host sends us on to a foreign one: it is asked without the token.
    let (url, asked) = stranger(answer).await;
    let own = format!("http://{}{ATTACHMENTS}", gateway.address("simulator"));
    let described =
        json!({"url": own, "mime_type": "image/png", "sha256": sha256, "file_size": "8", "id": id});
    fault(&gateway, &id, lookup(&described)).await;
    fault(&gateway, ATTACHMENTS, json!({"http": {"status": 302, "location": format!("{url}/file")}})).await;
    let came = download(&mut client, by_id(&id)).await.unwrap();
    assert_eq!((came.sha256, came.end.is_none()), (sha256, true));
    let head = timeout(PATIENCE, asked).await.unwrap().unwrap().to_lowercase();
    assert!(head.starts_with("get /file "), "{head}");
    assert!(!head.contains("authorization") && !head.contains("dev-access-token"), "{head}");
}

#[tokio::test]
async fn template_samples_become_handles() {
    let gateway = Gateway::dev().await;
    let mut client = gateway.client().await;
    let file = File { seed: 8, bytes: 3_000_000 };
    let header = |mime_type: &str| v1::UploadMediaHeader {
        purpose: v1::MediaPurpose::TemplateSample.into(),
        ..file.header(mime_type)
    };
    for cut in [None, Some(10), Some(1_000_000), Some(2_999_999)] {
        if let Some(after_bytes) = cut {
            let matcher = json!({"method": "POST", "path_prefix": "/v25.0/upload:"});
            let planned = json!({"cut": "before_acceptance", "after_bytes": after_bytes});
            gateway.simulate("faults", &json!({"match": matcher, "fault": planned})).await;
        }
        let answer = upload(&mut client, messages(header("image/png"), file.pieces())).await.unwrap();
        let Some(upload_media_response::Result::Handle(handle)) = answer.result else { panic!("{answer:?}") };
        assert!(handle.contains(&file.sha256()), "{cut:?}: {handle}");
        assert_eq!((answer.sha256, answer.expire_time), (file.sha256(), None));
    }
    let refused = upload(&mut client, messages(header("image/webp"), file.pieces())).await;
    assert_refused(refused, Code::InvalidArgument, "MEDIA_TYPE_UNSUPPORTED");
    let wrong = v1::UploadMediaHeader { sha256: "0".repeat(64), ..header("image/png") };
    let refused = upload(&mut client, messages(wrong, file.pieces())).await;
    assert_refused(refused, Code::InvalidArgument, "MEDIA_CHECKSUM_MISMATCH");
    let unfit = v1::UploadMediaHeader { phone_number_id: NUMBER.to_owned(), ..header("image/png") };
    let refused = upload(&mut client, messages(unfit, file.pieces())).await;
    assert_refused(refused, Code::InvalidArgument, "VALIDATION_FAILED");
}

#[tokio::test]
async fn transfers_are_limited() {
    let gateway = Gateway::builder().env("WHATSAPP_GATEWAY__MEDIA__TRANSFERS_MAX", "1").start().await;
    let mut client = gateway.client().await;
    let (id, _) = medium(&gateway, 50_000_000).await;
    let mut held = client.download_media(by_id(&id)).await.unwrap().into_inner();
    held.message().await.unwrap().unwrap();
    let refused = client.clone().download_media(by_id(&id)).await;
    assert_refused(refused.map(|_| ()), Code::ResourceExhausted, "STREAM_QUOTA");
    let file = File { seed: 1, bytes: 10 };
    let refused = upload(&mut client, messages(file.header("image/png"), file.pieces())).await;
    assert_refused(refused, Code::ResourceExhausted, "STREAM_QUOTA");
    // Hanging up makes room.
    drop(held);
    crate::eventually!(download(&mut client.clone(), by_id(&id)).await.is_ok());
}

/// `serve` beside a simulator of its own process, so that the gateway's memory is the gateway's.
async fn apart() -> (Gateway, Gateway) {
    let simulator = Gateway::builder().arguments(&["simulator", "--listen", "127.0.0.1:0"]).start().await;
    let address = simulator.address("simulator").to_owned();
    let folder = simulator.data_dir.parent().unwrap().join("gateway");
    let serve = Gateway::builder()
        .arguments(&["serve"])
        .env("WHATSAPP_GATEWAY__GRPC__LISTEN", "127.0.0.1:0")
        .env("WHATSAPP_GATEWAY__WEBHOOK__LISTEN", "127.0.0.1:0")
        .env("WHATSAPP_GATEWAY__ADMIN__LISTEN", "127.0.0.1:0")
        .env("WHATSAPP_GATEWAY__STORAGE__DATA_DIR", folder.to_str().unwrap())
        .env("WHATSAPP_GATEWAY__CLOUD_API__GRAPH_URL", &format!("http://{address}"))
        .env("WHATSAPP_GATEWAY__CLOUD_API__MEDIA_HOSTS", &address)
        .env("WHATSAPP_GATEWAY__SHUTDOWN__DELAY", "0 s")
        .env("WHATSAPP_ACCESS_TOKEN", "dev-access-token")
        .env("WHATSAPP_PHONE_NUMBER_ID", NUMBER)
        .env("WHATSAPP_BUSINESS_ACCOUNT_ID", "102290129340398")
        .env("WHATSAPP_APP_ID", "1234567890")
        .env("WHATSAPP_APP_SECRET", "dev-app-secret")
        .env("WHATSAPP_VERIFY_TOKEN", "dev-verify-token")
        .start()
        .await;
    (serve, simulator)
}

/// Peak of the resident memory so far, in KiB.
fn peak(gateway: &Gateway) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", gateway.child.id().unwrap())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// 100 MB each way, eight at once, every caller on a connection of its own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn eight_large_files_at_once_take_little_memory() {
    const BYTES: usize = 100_000_000;
    let (gateway, simulator) = apart().await;
    let mut clients = Vec::new();
    for _ in 0..8 {
        clients.push(gateway.client().await);
    }
    let small = File { seed: 1, bytes: 1000 };
    upload_file(&mut clients[0], small, "application/pdf").await;
    let before = peak(&gateway);

    let file = File { seed: 9, bytes: BYTES };
    let began = tokio::time::Instant::now();
    let id = upload_file(&mut clients[0], file, "application/pdf").await;
    let (up, after_up) = (began.elapsed(), peak(&gateway));
    let began = tokio::time::Instant::now();
    let came = download(&mut clients[0], by_id(&id)).await.unwrap();
    let (down, after_one) = (began.elapsed(), peak(&gateway));
    assert_eq!((came.end.is_none(), came.sha256), (true, file.sha256()));

    let began = tokio::time::Instant::now();
    let uploads = clients.iter().zip(10..).map(|(client, seed)| {
        let mut client = client.clone();
        async move { upload_file(&mut client, File { seed, bytes: BYTES }, "application/pdf").await }
    });
    let ids = futures_util::future::join_all(uploads).await;
    let (all_up, after_uploads) = (began.elapsed(), peak(&gateway));
    assert_eq!(ids.iter().collect::<std::collections::HashSet<_>>().len(), 8);
    for (id, seed) in ids.iter().zip(10..) {
        let request = v1::GetMediaRequest { media_id: id.clone(), ..Default::default() };
        let info = clients[0].get_media(request).await.unwrap().into_inner();
        assert_eq!(info.sha256, File { seed, bytes: BYTES }.sha256());
    }

    let (id, sha256) = medium(&simulator, BYTES).await;
    let began = tokio::time::Instant::now();
    let downloads = clients.iter().map(|client| {
        let (mut client, request) = (client.clone(), by_id(&id));
        async move { download(&mut client, request).await.unwrap() }
    });
    for came in futures_util::future::join_all(downloads).await {
        assert_eq!((came.end.is_none(), &came.sha256), (true, &sha256));
    }
    let (all_down, after_all) = (began.elapsed(), peak(&gateway));
    let rate = |bytes: usize, time: Duration| bytes as u128 / time.as_micros().max(1);
    println!(
        "peak KiB: idle {before}, one up {after_up}, one down {after_one}, eight up {after_uploads}, eight down \
         {after_all}; MB/s: up {}, down {}, eight up {}, eight down {}",
        rate(BYTES, up),
        rate(BYTES, down),
        rate(8 * BYTES, all_up),
        rate(8 * BYTES, all_down),
    );
    assert!(after_all - before < 64 * 1024, "{before} KiB grew to {after_all} KiB");
}
