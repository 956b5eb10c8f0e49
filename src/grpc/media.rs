//! Files as RPCs: a stream of requests becomes pieces, pieces become a stream of responses.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_util::{FutureExt, Stream};
use prost::Message as _;
use tokio::time::{Instant, timeout};
use tonic::{Code, Status, Streaming};

use crate::contract::fingerprint;
use crate::contract::v1::{self, download_media_response, upload_media_request, upload_media_response};
use crate::domain::failure::FieldViolation;
use crate::domain::ids::{MediaId, PhoneNumberId};
use crate::domain::media::{Checksum, MediaFile, Purpose};
use crate::flows::download_media::{Download, Wanted};
use crate::flows::upload_media::{self, Broken, Codec, Once, Uploaded, UploadedName};

use super::callers::Identity;
use super::convert::Violations;
use super::service::Service;
use super::status;

/// Bytes of a chunk.
const CHUNK_BYTES_MAX: usize = 1024 * 1024;

impl Service {
    pub(super) async fn upload(
        &self,
        who: &Identity,
        mut stream: Streaming<v1::UploadMediaRequest>,
        deadline: Option<Instant>,
    ) -> Result<v1::UploadMediaResponse, Status> {
        let stall_timeout = self.flows()?.upload_media.stall_timeout();
        let first = timeout(stall_timeout, stream.message())
            .await
            .map_err(|_| upload_media::Error::Stalled(stall_timeout))?
            .map_err(|status| upload_media::Error::from(broken(&status)))?;
        let Some(upload_media_request::Part::Header(header)) = first.and_then(|request| request.part) else {
            return Err(status::invalid(vec![violation("header", "must be the first message")]));
        };
        let request_id = header.request_id.clone();
        let fingerprint = fingerprint::of_upload(&header);
        let (purpose, file) = self.read_header(who, header)?;
        let (flow, pieces) = (&self.flows()?.upload_media, PieceStream { stream });
        let (uploaded, replayed) = if request_id.is_empty() {
            (flow.upload(&who.caller, &purpose, &file, pieces).await?, false)
        } else {
            let codec = Codec { encode: encode_uploaded, decode: decode_uploaded };
            let once = Once::new(&who.caller, (request_id, fingerprint), deadline, codec);
            flow.upload_once(&who.caller, &purpose, &file, pieces, &once).await?
        };
        let size_bytes = file.size_bytes;
        Ok(v1::UploadMediaResponse { size_bytes, replayed, ..uploaded_to_pb(&uploaded) })
    }

    /// Everything that can be known before the first byte.
    fn read_header(
        &self,
        who: &Identity,
        header: v1::UploadMediaHeader,
    ) -> Result<(Purpose, MediaFile), Status> {
        let is_sample = header.purpose() == v1::MediaPurpose::TemplateSample;
        let request =
            v1::UploadMediaRequest { part: Some(upload_media_request::Part::Header(header.clone())) };
        let mut found = Violations::of_message("UploadMediaRequest", &request);
        let mut unfit = |field: &str, is_set: bool, purpose: &str| {
            if is_set {
                found.add(field, format!("belongs to {purpose} only"));
            }
        };
        if is_sample {
            unfit("header.phone_number_id", !header.phone_number_id.is_empty(), "MEDIA_PURPOSE_MESSAGE");
            unfit("header.ttl_minutes", header.ttl_minutes.is_some(), "MEDIA_PURPOSE_MESSAGE");
        } else {
            unfit("header.waba_id", !header.waba_id.is_empty(), "MEDIA_PURPOSE_TEMPLATE_SAMPLE");
        }
        let purpose = if is_sample {
            let waba = self.waba(who, ("header.waba_id", &header.waba_id), &mut found)?;
            waba.map(Purpose::TemplateSample)
        } else {
            let number = self.number(who, ("header.phone_number_id", &header.phone_number_id), &mut found)?;
            number.map(|number| Purpose::Message { number, ttl_minutes: header.ttl_minutes })
        };
        let (Some(purpose), true) = (purpose, found.is_empty()) else {
            return Err(status::invalid(found.into_inner()));
        };
        let file = MediaFile {
            mime_type: header.mime_type,
            filename: header.filename,
            size_bytes: header.size_bytes,
            checksum: Checksum::parse(&header.sha256),
        };
        Ok((purpose, file))
    }

    pub(super) async fn download(
        &self,
        who: &Identity,
        request: &v1::DownloadMediaRequest,
    ) -> Result<MediaStream, Status> {
        let found = Violations::of_message("DownloadMediaRequest", request);
        let (number, id) = self.medium(who, &request.phone_number_id, &request.media_id, found)?;
        let wanted = Wanted { offset: request.offset, length: request.length };
        let download = self.flows()?.download_media.open(&who.caller, &number, &id, wanted).await?;
        Ok(MediaStream::new(download))
    }

    pub(super) async fn describe(
        &self,
        who: &Identity,
        request: &v1::GetMediaRequest,
    ) -> Result<v1::GetMediaResponse, Status> {
        let found = Violations::of_message("GetMediaRequest", request);
        let (number, id) = self.medium(who, &request.phone_number_id, &request.media_id, found)?;
        let info = self.flows()?.download_media.get(&number, &id).await?;
        Ok(v1::GetMediaResponse {
            media_id: info.id.to_string(),
            mime_type: info.mime_type,
            size_bytes: info.size_bytes,
            sha256: info.checksum.map(|sum| sum.to_string()).unwrap_or_default(),
        })
    }

    pub(super) async fn delete(
        &self,
        who: &Identity,
        request: &v1::DeleteMediaRequest,
    ) -> Result<v1::DeleteMediaResponse, Status> {
        let found = Violations::of_message("DeleteMediaRequest", request);
        let (number, id) = self.medium(who, &request.phone_number_id, &request.media_id, found)?;
        self.flows()?.download_media.delete(&number, &id).await?;
        Ok(v1::DeleteMediaResponse {})
    }

    fn medium(
        &self,
        who: &Identity,
        number: &str,
        id: &str,
        mut found: Violations,
    ) -> Result<(PhoneNumberId, MediaId), Status> {
        match (self.number(who, ("phone_number_id", number), &mut found)?, MediaId::parse(id)) {
            (Some(number), Ok(id)) if found.is_empty() => Ok((number, id)),
            _ => Err(status::invalid(found.into_inner())),
        }
    }
}

fn uploaded_to_pb(uploaded: &Uploaded) -> v1::UploadMediaResponse {
    let (result, expire_time) = match &uploaded.name {
        UploadedName::Media(id, expires) => {
            (upload_media_response::Result::MediaId(id.to_string()), Some((*expires).into()))
        }
        UploadedName::Handle(handle) => (upload_media_response::Result::Handle(handle.clone()), None),
    };
    let sha256 = uploaded.checksum.to_string();
    v1::UploadMediaResponse { result: Some(result), sha256, expire_time, ..Default::default() }
}

/// An answer is kept as its response, without what each call says for itself.
fn encode_uploaded(uploaded: &Uploaded) -> Bytes {
    uploaded_to_pb(uploaded).encode_to_vec().into()
}

fn decode_uploaded(bytes: &[u8]) -> Option<Uploaded> {
    let response = v1::UploadMediaResponse::decode(bytes).ok()?;
    let name = match response.result? {
        upload_media_response::Result::MediaId(id) => {
            UploadedName::Media(MediaId::parse(&id).ok()?, response.expire_time?.try_into().ok()?)
        }
        upload_media_response::Result::Handle(handle) => UploadedName::Handle(handle),
    };
    Some(Uploaded { name, checksum: Checksum::parse(&response.sha256)? })
}

fn violation(field: &str, description: &str) -> FieldViolation {
    FieldViolation { field: field.to_owned(), description: description.to_owned() }
}

/// The chunks behind a header.
struct PieceStream {
    stream: Streaming<v1::UploadMediaRequest>,
}

impl Stream for PieceStream {
    type Item = Result<Bytes, Broken>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let message = ready!(Pin::new(&mut self.stream).poll_next(cx));
        Poll::Ready(message.map(|message| message.map_err(|status| broken(&status)).and_then(piece)))
    }
}

fn piece(request: v1::UploadMediaRequest) -> Result<Bytes, Broken> {
    let unfit = |field, description| Err(Broken::Invalid(violation(field, description)));
    match request.part {
        Some(upload_media_request::Part::Chunk(chunk)) if chunk.len() <= CHUNK_BYTES_MAX => Ok(chunk),
        Some(upload_media_request::Part::Chunk(_)) => unfit("chunk", "must have at most 1048576 bytes"),
        Some(upload_media_request::Part::Header(_)) => {
            unfit("header", "must be the first message, and only that")
        }
        None => unfit("part", "exactly one of header, chunk is required"),
    }
}

/// Why the next message could not be read. One that is too large is a chunk that is too large.
fn broken(status: &Status) -> Broken {
    if matches!(status.code(), Code::OutOfRange | Code::ResourceExhausted) {
        Broken::Invalid(violation("chunk", "must have at most 1048576 bytes"))
    } else if status.code() == Code::Internal && status.message().contains("decode") {
        Broken::Invalid(violation("part", "cannot be decoded"))
    } else {
        Broken::Lost(status.message().to_owned())
    }
}

/// The response of `DownloadMedia`: the header, the pieces, the status.
#[derive(Debug)]
pub struct MediaStream {
    header: Option<v1::DownloadMediaHeader>,
    download: Option<Download>,
}

impl MediaStream {
    fn new(download: Download) -> Self {
        let Download { info, offset, length, .. } = &download;
        let header = v1::DownloadMediaHeader {
            mime_type: info.mime_type.clone(),
            size_bytes: info.size_bytes,
            sha256: info.checksum.map(|sum| sum.to_string()).unwrap_or_default(),
            offset: *offset,
            length: *length,
        };
        Self { header: Some(header), download: Some(download) }
    }
}

impl Stream for MediaStream {
    type Item = Result<v1::DownloadMediaResponse, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let message = |part| Poll::Ready(Some(Ok(v1::DownloadMediaResponse { part: Some(part) })));
        if let Some(header) = self.header.take() {
            return message(download_media_response::Part::Header(header));
        }
        let Some(download) = &mut self.download else { return Poll::Ready(None) };
        if let Some(piece) = ready!(download.pieces.poll_recv(cx)) {
            return message(download_media_response::Part::Chunk(piece));
        }
        let end = ready!(download.end.poll_unpin(cx));
        self.download = None;
        Poll::Ready(match end {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(Err(error.into())),
            // The task was cut off by the end of the process.
            Err(_) => Some(Err(status::stream_cut())),
        })
    }
}
