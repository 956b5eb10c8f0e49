//! A file between tonic and reqwest, piece by piece, unread.

use futures_util::{Stream, StreamExt, TryStreamExt};
use serde_json::Value;
use tonic::{Response, Status, Streaming};
use whatsapp_gateway::contract::v1::{
    DownloadMediaResponse, UploadMediaRequest, UploadMediaResponse, download_media_response,
    upload_media_request, upload_media_response,
};

use super::grpc::Floor;
use crate::webhook::PHONE_NUMBER_ID;

type Result<T> = std::result::Result<T, Status>;

fn failed(error: &reqwest::Error) -> Status {
    Status::unavailable(error.to_string())
}

pub(super) async fn upload(
    floor: &Floor,
    mut requests: Streaming<UploadMediaRequest>,
) -> Result<Response<UploadMediaResponse>> {
    let Some(upload_media_request::Part::Header(header)) = requests.message().await?.and_then(|r| r.part)
    else {
        return Err(Status::invalid_argument("header"));
    };
    let pieces = requests.map_ok(|request| match request.part {
        Some(upload_media_request::Part::Chunk(chunk)) => chunk,
        Some(upload_media_request::Part::Header(_)) | None => bytes::Bytes::new(),
    });
    let request = floor
        .http
        .post(format!("{}/{PHONE_NUMBER_ID}/media", floor.graph))
        .bearer_auth("bench-access-token")
        .header("content-length", header.size_bytes)
        .body(reqwest::Body::wrap_stream(pieces));
    let answer = async { request.send().await?.error_for_status()?.bytes().await };
    let answer = answer.await.map_err(|error| failed(&error))?;
    let answer: Value =
        serde_json::from_slice(&answer).map_err(|error| Status::unknown(error.to_string()))?;
    let id = answer.get("id").and_then(Value::as_str).ok_or_else(|| Status::unknown("no id"))?;
    let result = Some(upload_media_response::Result::MediaId(id.to_owned()));
    Ok(Response::new(UploadMediaResponse { result, ..Default::default() }))
}

pub(super) async fn download(
    floor: &Floor,
    id: String,
) -> Result<Response<impl Stream<Item = Result<DownloadMediaResponse>> + use<>>> {
    let url = format!("{}/{id}", floor.graph);
    let described =
        async { floor.http.get(url).bearer_auth("bench-access-token").send().await?.bytes().await };
    let described = described.await.map_err(|error| failed(&error))?;
    let described: Value =
        serde_json::from_slice(&described).map_err(|error| Status::unknown(error.to_string()))?;
    let url = described.get("url").and_then(Value::as_str).ok_or_else(|| Status::unknown("no url"))?;
    let file =
        floor.http.get(url).bearer_auth("bench-access-token").send().await.map_err(|error| failed(&error))?;
    let pieces = file.bytes_stream().map(|piece| {
        let part = download_media_response::Part::Chunk(piece.map_err(|error| failed(&error))?);
        Ok(DownloadMediaResponse { part: Some(part) })
    });
    Ok(Response::new(pieces))
}
