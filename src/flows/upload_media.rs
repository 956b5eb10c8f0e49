//! Checks a file by its description, then pipes its bytes to Meta as they come.
//!
//! Three places hold pieces: the caller's window, a short channel, the socket. Whoever is slow slows the others. The last
//! piece goes out only when size and checksum are right, so that Meta never has a damaged file. An upload is not a
//! send: when its caller hangs up, it ends. `once` keeps a repeated one from going out twice.

mod once;

use std::collections::VecDeque;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use sha2::{Digest, Sha256};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tracing::{Instrument, info, info_span, warn};

use crate::clock::SharedClock;
use crate::cloud_api::media::{Closed, Feed, UploadSession};
use crate::cloud_api::{self, Client};
use crate::domain::caller::Caller;
use crate::domain::failure::FieldViolation;
use crate::domain::ids::{MediaId, PhoneNumberId, WabaId};
use crate::domain::media::{Checksum, MediaFile, Purpose, Refusal};

use super::failed_call;
use super::numbers::{self, Numbers};
use super::unsettled::{self, Unsettled};

pub use once::{Codec, Once};

/// How long Meta keeps an uploaded file (reference 2.2).
const LIFETIME: Duration = Duration::from_hours(30 * 24);
/// Bytes of a resumable upload that are kept, so that it can go on after an interruption. What was in the socket's
/// buffers is lost then, and those hold a few MiB.
const KEPT_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// How often a resumable upload goes on.
const RESUMPTIONS_MAX: u32 = 3;

/// Limits of transfers, in both directions together.
#[derive(Debug, Clone)]
pub struct Transfers {
    /// Silence after which a transfer is given up.
    pub stall_timeout: Duration,
    /// One permit for each open transfer.
    pub slots: Arc<Semaphore>,
}

impl Transfers {
    /// At most so many at once.
    pub fn new(stall_timeout: Duration, transfers_max: usize) -> Self {
        Self { stall_timeout, slots: Arc::new(Semaphore::new(transfers_max)) }
    }
}

/// The pieces of a file as the caller sends them.
pub trait Pieces: Stream<Item = Result<Bytes, Broken>> + Send + Unpin {}
impl<S: Stream<Item = Result<Bytes, Broken>> + Send + Unpin> Pieces for S {}

/// Why there are no more pieces though the file is not whole.
#[derive(Debug)]
pub enum Broken {
    /// The caller sent something that is no piece.
    Invalid(FieldViolation),
    /// The stream ended with an error.
    Lost(String),
}

/// Uploads files.
#[derive(Debug, Clone)]
pub struct UploadMedia {
    client: Client,
    numbers: Numbers,
    transfers: Transfers,
    unsettled: Unsettled,
    clock: SharedClock,
}

/// A file that Meta has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Uploaded {
    /// What names it.
    pub name: UploadedName,
    /// What Meta got.
    pub checksum: Checksum,
}

/// What names an uploaded file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UploadedName {
    /// For messages, until then.
    Media(MediaId, SystemTime),
    /// For a template's sample.
    Handle(String),
}

/// Why a file was not uploaded. Meta keeps nothing of it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Whatever its bytes, Meta would not take it.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// Too many transfers are open.
    #[error("too many transfers of media are open")]
    TooManyTransfers,
    /// The stream held something that is no piece.
    #[error("{} {}", .0.field, .0.description)]
    Invalid(FieldViolation),
    /// The stream broke.
    #[error("the stream broke before the file was whole: {0}")]
    Broken(String),
    /// No piece came for so long.
    #[error("nothing came for {0:?}; the upload was given up and left nothing at Meta")]
    Stalled(Duration),
    /// Not as many bytes as declared.
    #[error("{declared} bytes were declared and {came} came; nothing is left at Meta", came = Came(*.declared, *.received))]
    SizeMismatch {
        /// What the header said.
        declared: u64,
        /// What came; when it is more, not all of it was read.
        received: u64,
    },
    /// Other bytes than declared.
    #[error("the bytes have the SHA-256 {actual}, declared was {declared}; nothing is left at Meta")]
    ChecksumMismatch {
        /// What the header said.
        declared: Checksum,
        /// What came.
        actual: Checksum,
    },
    /// The request cannot be taken up under its id.
    #[error(transparent)]
    Request(#[from] unsettled::Error),
    /// The number, the WABA or Meta.
    #[error(transparent)]
    Call(#[from] failed_call::Error),
}

impl From<Broken> for Error {
    fn from(broken: Broken) -> Self {
        match broken {
            Broken::Invalid(violation) => Self::Invalid(violation),
            Broken::Lost(cause) => Self::Broken(cause),
        }
    }
}

impl From<numbers::Error> for Error {
    fn from(error: numbers::Error) -> Self {
        Self::Call(error.into())
    }
}

impl From<cloud_api::Error> for Error {
    fn from(error: cloud_api::Error) -> Self {
        Self::Call(error.into())
    }
}

struct Came(u64, u64);

impl std::fmt::Display for Came {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self(declared, received) = *self;
        if received > declared { f.write_str("more") } else { write!(f, "{received}") }
    }
}

impl UploadMedia {
    /// Uploads through this client, for these numbers and WABAs.
    pub fn new(
        client: Client,
        numbers: Numbers,
        transfers: Transfers,
        unsettled: Unsettled,
        clock: SharedClock,
    ) -> Self {
        Self { client, numbers, transfers, unsettled, clock }
    }

    /// How long a caller may be silent.
    pub fn stall_timeout(&self) -> Duration {
        self.transfers.stall_timeout
    }

    /// Uploads one file. Dropping the future breaks the upload off.
    pub async fn upload(
        &self,
        caller: &Caller,
        purpose: &Purpose,
        file: &MediaFile,
        pieces: impl Pieces,
    ) -> Result<Uploaded, Error> {
        file.check(purpose)?;
        let _slot = self.transfers.slots.try_acquire().map_err(|_| Error::TooManyTransfers)?;
        let span = info_span!(
            "upload_media",
            caller = caller.name(),
            phone_number.id = tracing::field::Empty,
            media.mime_type = file.bare_type(),
            media.size_bytes = file.size_bytes,
        );
        let source = Source::new(file, pieces, self.transfers.stall_timeout);
        let uploading = async {
            let uploaded = match purpose {
                Purpose::Message { number, ttl_minutes } => {
                    tracing::Span::current().record("phone_number.id", number.as_str());
                    self.for_messages(number, file, *ttl_minutes, source).await
                }
                Purpose::TemplateSample(waba) => self.for_template(waba, file, source).await,
            };
            match &uploaded {
                Ok(_) => info!("uploaded"),
                Err(error) => warn!(%error, "not uploaded"),
            }
            uploaded
        };
        uploading.instrument(span).await
    }

    async fn for_messages(
        &self,
        number: &PhoneNumberId,
        file: &MediaFile,
        ttl_minutes: Option<u32>,
        mut source: Source<impl Pieces>,
    ) -> Result<Uploaded, Error> {
        let access_token = self.numbers.access_token(number)?;
        let (feed, answer) = self.client.upload_media(&access_token, number, file, ttl_minutes);
        let answered = self.transfer(&mut source, feed, None, answer).await?;
        let lifetime = ttl_minutes.map_or(LIFETIME, |minutes| Duration::from_secs(u64::from(minutes) * 60));
        let name = UploadedName::Media(answered?, self.clock.now() + lifetime);
        Ok(Uploaded { name, checksum: source.checksum() })
    }

    /// A resumable upload. When the connection breaks, it goes on from where Meta says, if those bytes are still here.
    async fn for_template(
        &self,
        waba: &WabaId,
        file: &MediaFile,
        mut source: Source<impl Pieces>,
    ) -> Result<Uploaded, Error> {
        let (access_token, app) = self.numbers.waba_app(waba)?;
        let session = self.client.open_upload(&access_token, &app, file).await?;
        let mut kept = Kept::default();
        let mut resumptions = 0;
        loop {
            let (feed, answer) = self.client.continue_upload(&access_token, &session, file, kept.position);
            match self.transfer(&mut source, feed, Some(&mut kept), answer).await? {
                Ok(handle) => {
                    let name = UploadedName::Handle(handle);
                    return Ok(Uploaded { name, checksum: source.checksum() });
                }
                Err(error) => {
                    resumptions += 1;
                    if !is_interruption(&error) || resumptions > RESUMPTIONS_MAX {
                        return Err(error.into());
                    }
                    let offset = self.offset(&access_token, &session).await;
                    if !offset.is_some_and(|offset| kept.rewind(offset)) {
                        return Err(error.into());
                    }
                    info!(offset = kept.position, "the upload goes on");
                }
            }
        }
    }

    async fn offset(&self, access_token: &secrecy::SecretString, session: &UploadSession) -> Option<u64> {
        self.client.upload_offset(access_token, session).await.ok()
    }

    /// Pours the source into the feed while the call runs. The outer error is the caller's doing and comes first: the
    /// call fails only in its consequence.
    async fn transfer<T>(
        &self,
        source: &mut Source<impl Pieces>,
        feed: Feed,
        kept: Option<&mut Kept>,
        answer: impl Future<Output = Result<T, cloud_api::Error>>,
    ) -> Result<Result<T, cloud_api::Error>, Error> {
        let stall_timeout = self.transfers.stall_timeout;
        let mut answer = pin!(answer);
        let mut pouring = pin!(pour(source, feed, kept, stall_timeout));
        tokio::select! {
            biased;
            poured = pouring.as_mut() => match poured? {
                // The answer says why the request takes no more; or the file is whole, and the answer is due.
                Poured::Whole | Poured::Closed => Ok(match timeout(stall_timeout, answer).await {
                    Ok(answered) => answered,
                    Err(_) => Err(cloud_api::Error::NoAnswer {
                        cause: format!("Meta said nothing for {stall_timeout:?}"),
                    }),
                }),
                Poured::Stuck => Ok(Err(cloud_api::Error::NoAnswer {
                    cause: format!("Meta took nothing for {stall_timeout:?}"),
                })),
            },
            answered = answer.as_mut() => Ok(answered.and_then(|_| Err(cloud_api::Error::NoAnswer {
                cause: "Meta answered before the file was whole".to_owned(),
            }))),
        }
    }
}

/// Whether the call broke rather than being refused.
fn is_interruption(error: &cloud_api::Error) -> bool {
    matches!(
        error,
        cloud_api::Error::OutcomeUnknown { .. }
            | cloud_api::Error::NotSent { .. }
            | cloud_api::Error::NoAnswer { .. }
    )
}

#[derive(Debug, PartialEq, Eq)]
enum Poured {
    Whole,
    Closed,
    Stuck,
}

async fn pour(
    source: &mut Source<impl Pieces>,
    feed: Feed,
    mut kept: Option<&mut Kept>,
    stall_timeout: Duration,
) -> Result<Poured, Error> {
    loop {
        let again = kept.as_mut().and_then(|kept| kept.again());
        let piece = match again {
            Some(piece) => piece,
            None => match source.next().await? {
                Some(piece) => {
                    if let Some(kept) = &mut kept {
                        kept.keep(piece.clone());
                    }
                    piece
                }
                None => break,
            },
        };
        match timeout(stall_timeout, feed.send(piece)).await {
            Ok(Ok(())) => {}
            Ok(Err(Closed)) => return Ok(Poured::Closed),
            Err(_) => return Ok(Poured::Stuck),
        }
    }
    feed.finish();
    Ok(Poured::Whole)
}

/// The file as it comes: counted, added up, and its last piece held back until all is known to be right.
struct Source<P> {
    pieces: P,
    declared: u64,
    declared_checksum: Option<Checksum>,
    received: u64,
    hasher: Sha256,
    held: Option<Bytes>,
    checksum: Option<Checksum>,
    stall_timeout: Duration,
}

impl<P: Pieces> Source<P> {
    fn new(file: &MediaFile, pieces: P, stall_timeout: Duration) -> Self {
        let MediaFile { size_bytes, checksum, .. } = *file;
        Self {
            pieces,
            declared: size_bytes,
            declared_checksum: checksum,
            received: 0,
            hasher: Sha256::new(),
            held: None,
            checksum: None,
            stall_timeout,
        }
    }

    /// The next piece that may go out; `None` behind the last.
    async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        while self.checksum.is_none() {
            let next = timeout(self.stall_timeout, Pin::new(&mut self.pieces).next()).await;
            let piece = match next.map_err(|_| Error::Stalled(self.stall_timeout))? {
                Some(Ok(piece)) => piece,
                Some(Err(broken)) => return Err(broken.into()),
                None => {
                    self.compare()?;
                    break;
                }
            };
            self.received += piece.len() as u64;
            if self.received > self.declared {
                return Err(self.size_mismatch());
            }
            self.hasher.update(&piece);
            if self.received == self.declared && !piece.is_empty() {
                self.held = Some(piece);
            } else if !piece.is_empty() {
                return Ok(Some(piece));
            }
        }
        Ok(self.held.take())
    }

    fn compare(&mut self) -> Result<(), Error> {
        if self.received != self.declared {
            return Err(self.size_mismatch());
        }
        let actual = Checksum(std::mem::take(&mut self.hasher).finalize().into());
        if let Some(declared) = self.declared_checksum.filter(|declared| *declared != actual) {
            return Err(Error::ChecksumMismatch { declared, actual });
        }
        self.checksum = Some(actual);
        Ok(())
    }

    fn size_mismatch(&self) -> Error {
        Error::SizeMismatch { declared: self.declared, received: self.received }
    }

    /// What came; known behind the last piece.
    fn checksum(&self) -> Checksum {
        self.checksum.unwrap_or(Checksum([0; 32]))
    }
}

/// The last pieces of a file, which can be sent once more.
#[derive(Debug, Default)]
struct Kept {
    pieces: VecDeque<Bytes>,
    /// Where in the file the first piece begins.
    start: u64,
    /// Where in the file the next byte to send is; behind it pieces wait to be sent again.
    position: u64,
    end: u64,
}

impl Kept {
    fn keep(&mut self, piece: Bytes) {
        self.end += piece.len() as u64;
        self.position = self.end;
        self.pieces.push_back(piece);
        while self.end - self.start > KEPT_BYTES_MAX
            && self.pieces.len() > 1
            && let Some(oldest) = self.pieces.pop_front()
        {
            self.start += oldest.len() as u64;
        }
    }

    /// Goes back to a byte; false if it is not here any more, or not yet.
    fn rewind(&mut self, offset: u64) -> bool {
        let is_here = (self.start..=self.end).contains(&offset);
        if is_here {
            self.position = offset;
        }
        is_here
    }

    /// What waits to be sent again, piece by piece.
    fn again(&mut self) -> Option<Bytes> {
        let mut start = self.start;
        for piece in &self.pieces {
            let end = start + piece.len() as u64;
            if self.position < end {
                let from = usize::try_from(self.position - start).ok()?;
                self.position = end;
                return Some(piece.slice(from..));
            }
            start = end;
        }
        None
    }
}

#[cfg(test)]
mod tests;
