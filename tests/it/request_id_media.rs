//! `request_id` of `UploadMedia`: the same file goes to Meta once; an upload that was cut off may be taken up by anyone.

use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use serde_json::json;
use tokio::task::JoinSet;
use tonic::Code;
use whatsapp_gateway::contract::v1;
use whatsapp_gateway::contract::v1::upload_media_response::Result as Name;

use crate::eventually;
use crate::media::{File, messages, requests, upload};
use crate::support::{Gateway, Refusal, Serve, webhook};

const FILE: File = File { seed: 7, bytes: 700_000 };
const OTHER: File = File { seed: 8, ..FILE };

fn header(request_id: &str) -> v1::UploadMediaHeader {
    let phone_number_id = webhook::PHONE_NUMBER_ID.to_owned();
    v1::UploadMediaHeader { request_id: request_id.to_owned(), phone_number_id, ..FILE.header("image/png") }
}

fn stated(request_id: &str, file: File) -> v1::UploadMediaHeader {
    v1::UploadMediaHeader { sha256: file.sha256(), ..header(request_id) }
}

type Answer = Result<v1::UploadMediaResponse, Refusal>;

async fn sent(
    gateway: &Gateway,
    messages: impl Stream<Item = v1::UploadMediaRequest> + Send + 'static,
) -> Answer {
    upload(&mut gateway.client().await, messages).await.map_err(|status| Refusal::of(&status))
}

async fn uploaded(gateway: &Gateway, header: v1::UploadMediaHeader, file: File) -> Answer {
    sent(gateway, messages(header, file.pieces())).await
}

/// A file whose first pieces come, and no more.
fn unfinished(request_id: &str) -> impl Stream<Item = v1::UploadMediaRequest> + Send + 'static + use<> {
    messages(header(request_id), FILE.pieces().take(1)).chain(futures_util::stream::pending())
}

/// How many uploads came to their end; one that does not is seen only when it is over.
async fn uploads(gateway: &Gateway) -> usize {
    requests(gateway, "/media").await.iter().filter(|request| request["outcome"] == json!(200)).count()
}

/// Whether somebody uploads under this id. Asks with a stream that ends too early, which would leave nothing.
async fn is_uploading(gateway: &Gateway, request_id: &str) -> bool {
    let mut hurried = tonic::Request::new(messages(header(request_id), std::iter::empty()));
    hurried.set_timeout(Duration::from_secs(1));
    let status = gateway.client().await.upload_media(hurried).await.unwrap_err();
    status.code() == Code::Aborted && Refusal::of(&status).reason == "REQUEST_IN_PROGRESS"
}

fn assert_reused(answer: Answer) {
    let refusal = answer.unwrap_err();
    assert_eq!(refusal.is(), (Code::InvalidArgument, "REQUEST_ID_REUSED"));
    assert_eq!(refusal.fields(), ["header.request_id"]);
}

#[tokio::test]
async fn the_same_file_is_uploaded_once() {
    let mut serve = Serve::start().await;
    let first = uploaded(&serve.gateway, header("a"), FILE).await.unwrap();
    assert!(!first.replayed && matches!(&first.result, Some(Name::MediaId(id)) if !id.is_empty()));
    for is_next_process in [false, true] {
        if is_next_process {
            serve.restart().await;
        }
        let gateway = &serve.gateway;
        // By its bytes, and by its checksum without a single byte.
        let again = uploaded(gateway, header("a"), FILE).await.unwrap();
        assert_eq!(again, v1::UploadMediaResponse { replayed: true, ..first.clone() });
        let known = sent(gateway, messages(stated("a", FILE), std::iter::empty())).await.unwrap();
        assert_eq!(known, again);
        // Another file, by the one or the other, and another header.
        assert_reused(uploaded(gateway, header("a"), OTHER).await);
        assert_reused(uploaded(gateway, stated("a", OTHER), OTHER).await);
        let renamed = v1::UploadMediaHeader { filename: "b.png".to_owned(), ..header("a") };
        assert_reused(uploaded(gateway, renamed, FILE).await);
        // What is not even whole is no repetition.
        let short = sent(gateway, messages(header("a"), FILE.pieces().take(1))).await.unwrap_err();
        assert_eq!(short.is(), (Code::InvalidArgument, "MEDIA_SIZE_MISMATCH"));
        assert_eq!(uploads(gateway).await, 1);
    }
    assert!(!uploaded(&serve.gateway, header("b"), FILE).await.unwrap().replayed);
    assert!(!uploaded(&serve.gateway, header(""), FILE).await.unwrap().replayed);
    assert_eq!(uploads(&serve.gateway).await, 3);
}

#[tokio::test]
async fn samples_of_templates_are_uploaded_once() {
    let gateway = Gateway::dev().await;
    let sample = || v1::UploadMediaHeader {
        purpose: v1::MediaPurpose::TemplateSample.into(),
        phone_number_id: String::new(),
        ..header("a")
    };
    let first = uploaded(&gateway, sample(), FILE).await.unwrap();
    assert!(matches!(&first.result, Some(Name::Handle(handle)) if !handle.is_empty()));
    let again = uploaded(&gateway, sample(), FILE).await.unwrap();
    assert_eq!(again, v1::UploadMediaResponse { replayed: true, ..first });
    assert_eq!(requests(&gateway, "/uploads").await.len(), 1);
}

#[tokio::test]
async fn uploads_at_once_are_one() {
    let gateway = Gateway::dev().await;
    gateway.fault("/media", json!({"delay_ms": 500})).await;
    let calls = (0..6).map(|n| {
        let header = if n % 2 == 0 { header("a") } else { stated("a", FILE) };
        uploaded(&gateway, header, FILE)
    });
    let answers: Vec<_> =
        futures_util::future::join_all(calls).await.into_iter().map(Result::unwrap).collect();
    assert_eq!(answers.iter().filter(|answer| !answer.replayed).count(), 1);
    assert!(answers.iter().all(|answer| answer.result == answers[0].result));
    assert_eq!(uploads(&gateway).await, 1);
}

#[tokio::test]
async fn an_upload_that_was_refused_is_tried_again() {
    let gateway = Gateway::dev().await;
    gateway.fault("/media", json!({"error": {"code": 131_053}})).await;
    assert_eq!(uploaded(&gateway, header("a"), FILE).await.unwrap_err().reason, "MEDIA_REJECTED");
    // The checksum was wrong, not the file.
    let wrong = uploaded(&gateway, stated("a", OTHER), FILE).await.unwrap_err();
    assert_eq!(wrong.is(), (Code::InvalidArgument, "MEDIA_CHECKSUM_MISMATCH"));
    gateway.fault("/media", json!({"cut": "after_acceptance"})).await;
    assert_eq!(uploaded(&gateway, header("a"), FILE).await.unwrap_err().code, Code::Unavailable);
    assert!(!uploaded(&gateway, header("a"), FILE).await.unwrap().replayed);
    assert!(uploaded(&gateway, header("a"), FILE).await.unwrap().replayed);
}

#[tokio::test]
async fn whoever_waits_takes_over_when_the_first_hangs_up() {
    let gateway = Gateway::dev().await;
    let mut first = JoinSet::new();
    let mut client = gateway.client().await;
    first.spawn(async move { client.upload_media(unfinished("a")).await.is_ok() });
    // Who cannot wait is told to ask again.
    eventually!(is_uploading(&gateway, "a").await);
    let (mut client, mut waiting) = (gateway.client().await, JoinSet::new());
    let (begun, is_begun) = tokio::sync::oneshot::channel();
    let announce = futures_util::stream::once(async move {
        begun.send(()).unwrap();
        v1::UploadMediaRequest { part: Some(v1::upload_media_request::Part::Chunk(Bytes::new())) }
    });
    let stream = messages(header("a"), std::iter::empty())
        .chain(announce)
        .chain(messages(header("a"), FILE.pieces()).skip(1));
    waiting.spawn(async move { upload(&mut client, stream).await });
    is_begun.await.unwrap();
    first.abort_all();
    let answer = waiting.join_next().await.unwrap().unwrap().unwrap();
    assert!(!answer.replayed, "it did the work itself");
    assert_eq!(answer.sha256, FILE.sha256());
    assert!(uploaded(&gateway, header("a"), FILE).await.unwrap().replayed);
    assert_eq!(uploads(&gateway).await, 1);
}

#[tokio::test]
async fn an_upload_that_died_with_the_process_is_made_again() {
    let mut serve = Serve::start().await;
    let (mut client, mut dying) = (serve.gateway.client().await, JoinSet::new());
    dying.spawn(async move { client.upload_media(unfinished("a")).await.is_ok() });
    eventually!(is_uploading(&serve.gateway, "a").await);
    serve.restart().await;
    assert!(!dying.join_next().await.unwrap().unwrap());
    assert!(!uploaded(&serve.gateway, header("a"), FILE).await.unwrap().replayed);
    assert!(uploaded(&serve.gateway, header("a"), FILE).await.unwrap().replayed);
    assert_eq!(uploads(&serve.gateway).await, 1);
}

#[tokio::test]
async fn without_a_store_nothing_is_uploaded_under_an_id() {
    let gateway = Gateway::builder().env("WHATSAPP_GATEWAY__STORAGE__FREE_MIN", "1000 TiB").start().await;
    let refusal = uploaded(&gateway, header("a"), FILE).await.unwrap_err();
    assert_eq!(refusal.is(), (Code::Unavailable, "EVENT_STORE_UNAVAILABLE"));
    assert_eq!(uploads(&gateway).await, 0);
    uploaded(&gateway, header(""), FILE).await.unwrap();
}
