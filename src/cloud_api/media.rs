//! Files: uploads as they come, downloads as they go (reference 2.2, 2.3). Nothing is held whole.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode, header};
use reqwest::Url;
use secrecy::SecretString;
use serde_json::Value;
use uuid::Uuid;

use super::body::FedBody;
use super::client::{Call, Client, Exchange, authorization};
use super::config::host_and_port;
use super::error::{Error, causes};
use super::error_code::Operation;
use crate::domain::ids::{AppId, MediaId, PhoneNumberId};
use crate::domain::media::{Checksum, MediaFile, MediaInfo};

pub use super::body::{Closed, Feed};

/// Redirects of one download.
const REDIRECTS_MAX: usize = 5;

/// A file as Meta describes it, with a URL that works for five minutes.
#[derive(Debug)]
pub struct Located {
    /// The description.
    pub info: MediaInfo,
    url: Url,
}

/// A resumable upload that is open at Meta. Its id is as good as a password.
pub struct UploadSession {
    id: String,
}

impl std::fmt::Debug for UploadSession {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("UploadSession(masked)")
    }
}

/// What part of a file to fetch: from `offset`, `length` bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ByteRange {
    /// The first byte.
    pub offset: u64,
    /// How many, at least one.
    pub length: u64,
    /// Whether that is all of it.
    pub is_whole: bool,
}

/// A download under way.
#[derive(Debug)]
pub struct MediaBody {
    response: reqwest::Response,
    /// Bytes before the range, from a server that does not know ranges.
    skip: u64,
    left: u64,
    is_whole: bool,
}

impl Client {
    /// Describes a file and says where it is.
    pub async fn locate_media(
        &self,
        access_token: &SecretString,
        number: &PhoneNumberId,
        id: &MediaId,
    ) -> Result<Located, Error> {
        let (path, query) = ([id.as_str()], [("phone_number_id", number.as_str())]);
        let call = media_node(Operation::Read, Method::GET, &path, &query);
        let answer = self.call(access_token, call).await?;
        read_located(id, &answer).ok_or_else(|| {
            let cause = "the answer does not describe a file".to_owned();
            Error::lost(Operation::Read, cause)
        })
    }

    /// Makes Meta forget a file.
    pub async fn delete_media(
        &self,
        access_token: &SecretString,
        number: &PhoneNumberId,
        id: &MediaId,
    ) -> Result<(), Error> {
        let (path, query) = ([id.as_str()], [("phone_number_id", number.as_str())]);
        self.call(access_token, media_node(Operation::Write, Method::DELETE, &path, &query)).await?;
        Ok(())
    }

    /// Uploads a file that is poured into the feed while the future runs. The closing boundary follows only when the
    /// feed is finished; until then Meta has nothing that it could keep.
    pub fn upload_media<'a>(
        &'a self,
        access_token: &SecretString,
        number: &'a PhoneNumberId,
        file: &MediaFile,
        ttl_minutes: Option<u32>,
    ) -> (Feed, impl Future<Output = Result<MediaId, Error>> + Send + use<'a>) {
        let boundary = format!("whatsapp-gateway-{}", Uuid::now_v7().simple());
        let (head, tail) = form(&boundary, file, ttl_minutes);
        let (feed, body) = FedBody::new(head, file.size_bytes, tail);
        let authorization = authorization("Bearer", access_token);
        let content_type = format!("multipart/form-data; boundary={boundary}");
        let upload = async move {
            let url = self.url(&[number.as_str(), "media"], &[]);
            let request = self
                .request(Method::POST, url)
                .header(header::AUTHORIZATION, authorization?)
                .header(header::CONTENT_TYPE, content_type);
            let answer = self.pour("/{phone_number_id}/media", request, body).await?;
            let answer: Value = serde_json::from_slice(&answer).unwrap_or_default();
            let id = answer.get("id").and_then(text).and_then(|id| MediaId::parse(&id).ok());
            id.ok_or_else(|| Error::lost(Operation::Write, "the answer has no media id".to_owned()))
        };
        (feed, upload)
    }

    /// Opens a resumable upload.
    pub async fn open_upload(
        &self,
        access_token: &SecretString,
        app: &AppId,
        file: &MediaFile,
    ) -> Result<UploadSession, Error> {
        let (length, kind) = (file.size_bytes.to_string(), file.bare_type());
        let path = [app.as_str(), "uploads"];
        let query = [("file_name", file.filename.as_str()), ("file_length", &length), ("file_type", &kind)];
        let call = Call {
            operation: Operation::Write,
            method: Method::POST,
            template: "/{app_id}/uploads",
            path: &path,
            query: &query,
            body: None,
        };
        let answer: Value = serde_json::from_slice(&self.call(access_token, call).await?).unwrap_or_default();
        let id = answer.get("id").and_then(text).filter(|id| {
            id.starts_with("upload:") && id.bytes().all(|b| b.is_ascii_graphic() && b != b'#' && b != b'/')
        });
        let id =
            id.ok_or_else(|| Error::lost(Operation::Write, "the answer has no upload session".to_owned()))?;
        Ok(UploadSession { id })
    }

    /// Uploads the bytes of a session from `offset` on, poured into the feed while the future runs. The answer is the
    /// handle.
    pub fn continue_upload<'a>(
        &'a self,
        access_token: &SecretString,
        session: &'a UploadSession,
        file: &MediaFile,
        offset: u64,
    ) -> (Feed, impl Future<Output = Result<String, Error>> + Send + use<'a>) {
        let left = file.size_bytes.saturating_sub(offset);
        let (feed, body) = FedBody::new(Bytes::new(), left, Bytes::new());
        let authorization = authorization("OAuth", access_token);
        let upload = async move {
            let request = self
                .request(Method::POST, self.session_url(session))
                .header(header::AUTHORIZATION, authorization?)
                .header("file_offset", offset);
            let answer = self.pour("/{upload_session}", request, body).await?;
            let answer: Value = serde_json::from_slice(&answer).unwrap_or_default();
            let handle = answer.get("h").and_then(text);
            handle.ok_or_else(|| Error::lost(Operation::Write, "the answer has no handle".to_owned()))
        };
        (feed, upload)
    }

    /// How many bytes of a session Meta has.
    pub async fn upload_offset(
        &self,
        access_token: &SecretString,
        session: &UploadSession,
    ) -> Result<u64, Error> {
        let authorization = authorization("OAuth", access_token)?;
        let request =
            self.request(Method::GET, self.session_url(session)).header(header::AUTHORIZATION, authorization);
        let exchange = async {
            match request.send().await {
                Ok(response) => Exchange::read(Operation::Read, response).await,
                Err(error) => Exchange::none(Error::lost(Operation::Read, causes(error))),
            }
        };
        let answer = self.observed("/{upload_session}", &Method::GET, exchange).await?;
        let answer: Value = serde_json::from_slice(&answer).unwrap_or_default();
        let offset = answer.get("file_offset").and_then(number);
        offset.ok_or_else(|| Error::lost(Operation::Read, "the answer has no offset".to_owned()))
    }

    /// Fetches a part of a file. The token goes to listed hosts only, and no redirect takes it along.
    pub async fn fetch_media(
        &self,
        access_token: &SecretString,
        located: &Located,
        range: ByteRange,
    ) -> Result<MediaBody, Error> {
        let mut url = located.url.clone();
        if !self.media.may_have_token(&url) {
            return Err(Error::HostNotAllowed { host: host_and_port(&url) });
        }
        let mut token = Some(authorization("Bearer", access_token)?);
        for _ in 0..=REDIRECTS_MAX {
            let mut request = self.request(Method::GET, url.clone()).timeout(self.transfer_timeout);
            if let Some(token) = &token {
                request = request.header(header::AUTHORIZATION, token.clone());
            }
            if !range.is_whole {
                let last = range.offset + (range.length - 1);
                request = request.header(header::RANGE, format!("bytes={}-{last}", range.offset));
            }
            let exchange = self.answer_to(request);
            let response = self.observed("/{media_url}", &Method::GET, exchange).await?;
            if !response.status().is_redirection() {
                return MediaBody::new(response, range);
            }
            let next = redirect(&url, response.headers()).filter(|next| self.media.may_fetch(next));
            let next = next.ok_or_else(|| {
                let cause = "the media was moved to where it cannot be fetched".to_owned();
                Error::lost(Operation::Read, cause)
            })?;
            // Once dropped the token stays away: a foreign host must not be able to send it on.
            token = token.filter(|_| host_and_port(&next) == host_and_port(&url));
            url = next;
        }
        Err(Error::lost(Operation::Read, format!("the media was moved more than {REDIRECTS_MAX} times")))
    }

    /// Sends a body that is fed while it goes out. The time for it is the transfer's, not a call's.
    async fn pour(
        &self,
        template: &'static str,
        request: reqwest::RequestBuilder,
        body: FedBody,
    ) -> Result<Bytes, Error> {
        let request = request.timeout(self.transfer_timeout).body(reqwest::Body::wrap(body));
        let exchange = async {
            match request.send().await {
                Ok(response) => Exchange::read(Operation::Write, response).await,
                Err(error) if error.is_connect() => Exchange::none(Error::NotSent { cause: causes(error) }),
                Err(error) => Exchange::none(Error::lost(Operation::Write, causes(error))),
            }
        };
        self.observed(template, &Method::POST, exchange).await
    }

    /// The head of a good answer or of a redirect; anything else is read as an error.
    async fn answer_to(&self, request: reqwest::RequestBuilder) -> Exchange<reqwest::Response> {
        let lost = |cause| Exchange::none(Error::lost(Operation::Read, cause));
        let response = match tokio::time::timeout(self.request_timeout, request.send()).await {
            Ok(Ok(response)) => response,
            Ok(Err(error)) if error.is_connect() => {
                return Exchange::none(Error::NotSent { cause: causes(error) });
            }
            Ok(Err(error)) => return lost(causes(error)),
            Err(_) => return lost("no answer came in time".to_owned()),
        };
        let status = response.status();
        if status.is_success() || status.is_redirection() {
            return Exchange { status: Some(status.as_u16()), result: Ok(response) };
        }
        let Exchange { status, result } = Exchange::read(Operation::Read, response).await;
        let unexpected = || Error::lost(Operation::Read, "the answer is no file".to_owned());
        Exchange { status, result: Err(result.err().unwrap_or_else(unexpected)) }
    }

    /// The id holds a query, and its colon must stay as it is.
    fn session_url(&self, session: &UploadSession) -> Url {
        let (path, query) = session.id.split_once('?').unwrap_or((&session.id, ""));
        let mut url = self.url(&[path], &[]);
        url.set_query((!query.is_empty()).then_some(query));
        url
    }
}

impl MediaBody {
    fn new(response: reqwest::Response, range: ByteRange) -> Result<Self, Error> {
        let skip = if response.status() == StatusCode::PARTIAL_CONTENT { 0 } else { range.offset };
        if response.status() == StatusCode::PARTIAL_CONTENT
            && first_byte(response.headers()) != Some(range.offset)
        {
            return Err(Error::lost(Operation::Read, "another range came than was asked for".to_owned()));
        }
        Ok(Self { response, skip, left: range.length, is_whole: range.is_whole })
    }

    /// The next bytes of the range; `None` behind its end. Fails if the file ends before. Bytes behind the whole file
    /// are given too, so that its checksum fails.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        loop {
            if self.left == 0 && !self.is_whole {
                return Ok(None);
            }
            let chunk = self.response.chunk().await.map_err(|error| {
                let cause = causes(error);
                Error::lost(Operation::Read, cause)
            })?;
            let Some(mut chunk) = chunk else {
                let short = || Error::lost(Operation::Read, "the file ended too early".to_owned());
                return if self.left == 0 { Ok(None) } else { Err(short()) };
            };
            let skipped = chunk.len().min(usize::try_from(self.skip).unwrap_or(usize::MAX));
            self.skip -= skipped as u64;
            drop(chunk.split_to(skipped));
            if !self.is_whole {
                chunk.truncate(usize::try_from(self.left).unwrap_or(usize::MAX));
            }
            self.left = self.left.saturating_sub(chunk.len() as u64);
            if !chunk.is_empty() {
                return Ok(Some(chunk));
            }
        }
    }
}

fn media_node<'a>(
    operation: Operation,
    method: Method,
    path: &'a [&'a str],
    query: &'a [(&'a str, &'a str)],
) -> Call<'a> {
    Call { operation, method, template: "/{media_id}", path, query, body: None }
}

/// What stands before and after the bytes of the file.
fn form(boundary: &str, file: &MediaFile, ttl_minutes: Option<u32>) -> (Bytes, Bytes) {
    let part = |parameters: &str, value: &str| {
        format!("--{boundary}\r\nContent-Disposition: form-data; {parameters}\r\n{value}")
    };
    let field = |name: &str, value: &str| part(&format!("name=\"{name}\""), &format!("\r\n{value}\r\n"));
    // As browsers do it; control characters cannot be in there.
    let filename = file.filename.replace('"', "%22");
    let head = [
        field("messaging_product", "whatsapp"),
        field("type", &file.mime_type),
        ttl_minutes.map(|minutes| field("ttl_minutes", &minutes.to_string())).unwrap_or_default(),
        part(
            &format!("name=\"file\"; filename=\"{filename}\""),
            &format!("Content-Type: {}\r\n\r\n", file.mime_type),
        ),
    ];
    let head = head.concat();
    (Bytes::from(head), Bytes::from(format!("\r\n--{boundary}--\r\n")))
}

fn read_located(id: &MediaId, answer: &[u8]) -> Option<Located> {
    let answer: Value = serde_json::from_slice(answer).ok()?;
    let field = |name: &str| answer.get(name).and_then(text);
    let info = MediaInfo {
        id: id.clone(),
        mime_type: field("mime_type").unwrap_or_default(),
        size_bytes: answer.get("file_size").and_then(number)?,
        checksum: field("sha256").and_then(|sum| checksum(&sum)),
    };
    Some(Located { info, url: Url::parse(&field("url")?).ok()? })
}

/// Hexadecimal here, base64 in webhooks; who knows what comes next.
fn checksum(text: &str) -> Option<Checksum> {
    let from_base64 = || STANDARD.decode(text).ok()?.try_into().ok().map(Checksum);
    Checksum::parse(text).or_else(from_base64)
}

/// Ids and numbers may come as either (reference 1.3).
fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) if !text.is_empty() => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::String(_) | Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    }
}

fn number(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| value.as_str()?.trim().parse().ok())
}

fn redirect(from: &Url, headers: &HeaderMap) -> Option<Url> {
    from.join(headers.get(header::LOCATION)?.to_str().ok()?).ok()
}

/// The first byte that `Content-Range: bytes 5-9/10` names.
fn first_byte(headers: &HeaderMap) -> Option<u64> {
    let range = headers.get(header::CONTENT_RANGE)?.to_str().ok()?.trim().strip_prefix("bytes ")?;
    range.split_once('-')?.0.trim().parse().ok()
}

#[cfg(test)]
mod tests;
