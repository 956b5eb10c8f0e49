//! Finds a file at Meta and hands it over as it comes; describes and deletes files.
//!
//! A task reads from Meta and puts pieces into a short channel: a caller who reads slowly slows Meta down, one who does not
//! read at all is given up, one who hangs up ends the download.

use std::time::Duration;

use bytes::Bytes;
use sha2::{Digest, Sha256};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use tracing::{Instrument, info, info_span, warn};

use crate::cloud_api::media::{ByteRange, Located, MediaBody};
use crate::cloud_api::{self, Client};
use crate::domain::caller::Caller;
use crate::domain::failure::{Class, Failure, Reason, Verdict};
use crate::domain::ids::{MediaId, PhoneNumberId};
use crate::domain::media::{Checksum, MediaInfo};
use crate::lifecycle::Shutdown;

use super::failed_call::{self, repeatable};
use super::numbers::{self, Numbers};
use super::upload_media::Transfers;

/// Pieces between Meta and the caller.
const PIECES_WAITING_MAX: usize = 2;
/// Bytes of a piece; larger ones are divided, for each becomes a message and is copied once on its way.
const PIECE_BYTES_MAX: usize = 128 * 1024;

/// Reads, describes and deletes files.
#[derive(Debug, Clone)]
pub struct DownloadMedia {
    client: Client,
    numbers: Numbers,
    transfers: Transfers,
    shutdown: Shutdown,
}

/// What part of a file a caller wants.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Wanted {
    /// The first byte.
    pub offset: u64,
    /// How many bytes at most; 0 means up to the end.
    pub length: u64,
}

/// A download that has begun.
#[derive(Debug)]
pub struct Download {
    /// The whole file.
    pub info: MediaInfo,
    /// Where the pieces begin.
    pub offset: u64,
    /// How many bytes follow.
    pub length: u64,
    /// The pieces.
    pub pieces: mpsc::Receiver<Bytes>,
    /// How it ended, once there are no more pieces: only `Ok(Ok(()))` says that all came and are right.
    pub end: oneshot::Receiver<Result<(), Error>>,
}

/// Why a file, or the rest of it, was not read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Too many transfers are open.
    #[error("too many transfers of media are open")]
    TooManyTransfers,
    /// The range begins behind the end.
    #[error("offset {offset} is behind the end: the media has {size_bytes} bytes")]
    RangeInvalid {
        /// What was asked for.
        offset: u64,
        /// What there is.
        size_bytes: u64,
    },
    /// The caller read nothing for so long.
    #[error("nothing was read for {0:?}")]
    Stalled(Duration),
    /// The bytes are not those that Meta described.
    #[error(
        "the media is damaged: Meta states {stated}, and what came has {actual}; discard it and try again"
    )]
    Damaged {
        /// What Meta said.
        stated: String,
        /// What came.
        actual: String,
    },
    /// The number or Meta.
    #[error(transparent)]
    Call(#[from] failed_call::Error),
}

impl From<numbers::Error> for Error {
    fn from(error: numbers::Error) -> Self {
        Self::Call(error.into())
    }
}

impl From<cloud_api::Error> for Error {
    fn from(error: cloud_api::Error) -> Self {
        Self::Call(failed_call::Error::Failed(Box::new(media_failure(&error))))
    }
}

impl DownloadMedia {
    /// Reads through this client, for these numbers.
    pub fn new(client: Client, numbers: Numbers, transfers: Transfers, shutdown: Shutdown) -> Self {
        Self { client, numbers, transfers, shutdown }
    }

    /// Describes a file.
    pub async fn get(&self, number: &PhoneNumberId, id: &MediaId) -> Result<MediaInfo, Error> {
        let access_token = self.numbers.access_token(number)?;
        Ok(self.client.locate_media(&access_token, number, id).await?.info)
    }

    /// Makes Meta forget a file.
    pub async fn delete(&self, number: &PhoneNumberId, id: &MediaId) -> Result<(), Error> {
        let access_token = self.numbers.access_token(number)?;
        Ok(self.client.delete_media(&access_token, number, id).await?)
    }

    /// Begins a download: once this returns, the first bytes are on their way.
    pub async fn open(
        &self,
        caller: &Caller,
        number: &PhoneNumberId,
        id: &MediaId,
        wanted: Wanted,
    ) -> Result<Download, Error> {
        let slots = std::sync::Arc::clone(&self.transfers.slots);
        let slot = slots.try_acquire_owned().map_err(|_| Error::TooManyTransfers)?;
        let span = info_span!("download_media", caller = caller.name(), phone_number.id = %number);
        let (located, range, body) = self.fetch(number, id, wanted).instrument(span.clone()).await?;
        let (sender, pieces) = mpsc::channel(PIECES_WAITING_MAX);
        let (end_sender, end) = oneshot::channel();
        let info = located.info;
        let check = range.is_whole.then(|| Check::new(&info));
        let stall_timeout = self.transfers.stall_timeout;
        let work = async move {
            let result = deliver(body, &sender, stall_timeout, check).await;
            if let Err(error) = &result {
                warn!(%error, "the download failed");
            }
            drop(slot);
            // A caller who is gone needs no reason.
            drop(end_sender.send(result));
        };
        // Nobody waits for the task: it ends when the file does, or with its reader.
        drop(self.shutdown.spawn_request(work.instrument(span)));
        Ok(Download { info, offset: range.offset, length: range.length, pieces, end })
    }

    /// A URL lives for five minutes and may die early, so a missing file is looked up once more.
    async fn fetch(
        &self,
        number: &PhoneNumberId,
        id: &MediaId,
        wanted: Wanted,
    ) -> Result<(Located, ByteRange, MediaBody), Error> {
        let access_token = self.numbers.access_token(number)?;
        let located = self.client.locate_media(&access_token, number, id).await?;
        let range = range(&located.info, wanted)?;
        match self.client.fetch_media(&access_token, &located, range).await {
            Ok(body) => return Ok((located, range, body)),
            Err(error) if is_gone(&error) => {}
            Err(error) => return Err(error.into()),
        }
        info!("the URL was gone; looking up another");
        let located = self.client.locate_media(&access_token, number, id).await?;
        let range = self::range(&located.info, wanted)?;
        let body = self.client.fetch_media(&access_token, &located, range).await?;
        Ok((located, range, body))
    }
}

/// Reads to the end, or until nobody wants it any more.
async fn deliver(
    mut body: MediaBody,
    pieces: &mpsc::Sender<Bytes>,
    stall_timeout: Duration,
    mut check: Option<Check>,
) -> Result<(), Error> {
    loop {
        let next = tokio::select! {
            next = timeout(stall_timeout, body.next()) => next,
            () = pieces.closed() => return Ok(()),
        };
        let next = next.map_err(|_| cloud_api::Error::NoAnswer {
            cause: format!("Meta sent nothing for {stall_timeout:?}"),
        })?;
        let Some(mut chunk) = next? else {
            return check.map_or(Ok(()), Check::finish);
        };
        if let Some(check) = &mut check {
            check.add(&chunk)?;
        }
        while !chunk.is_empty() {
            let piece = chunk.split_to(chunk.len().min(PIECE_BYTES_MAX));
            match timeout(stall_timeout, pieces.send(piece)).await {
                Ok(Ok(())) => {}
                Ok(Err(_hung_up)) => return Ok(()),
                Err(_) => return Err(Error::Stalled(stall_timeout)),
            }
        }
    }
}

/// Adds up what comes.
#[derive(Debug)]
struct Check {
    size_bytes: u64,
    checksum: Option<Checksum>,
    received: u64,
    hasher: Sha256,
}

impl Check {
    fn new(info: &MediaInfo) -> Self {
        let MediaInfo { size_bytes, checksum, .. } = *info;
        Self { size_bytes, checksum, received: 0, hasher: Sha256::new() }
    }

    fn add(&mut self, chunk: &[u8]) -> Result<(), Error> {
        self.received += chunk.len() as u64;
        self.hasher.update(chunk);
        if self.received <= self.size_bytes {
            return Ok(());
        }
        let stated = format!("{} bytes", self.size_bytes);
        Err(Error::Damaged { stated, actual: "more".to_owned() })
    }

    fn finish(self) -> Result<(), Error> {
        let actual = Checksum(self.hasher.finalize().into());
        match self.checksum {
            Some(stated) if stated != actual => {
                let word = |sum: Checksum| format!("SHA-256 {sum}");
                Err(Error::Damaged { stated: word(stated), actual: word(actual) })
            }
            Some(_) | None => Ok(()),
        }
    }
}

fn range(info: &MediaInfo, wanted: Wanted) -> Result<ByteRange, Error> {
    let (offset, size_bytes) = (wanted.offset, info.size_bytes);
    let left = size_bytes.checked_sub(offset).filter(|left| *left > 0);
    let left = left.ok_or(Error::RangeInvalid { offset, size_bytes })?;
    let length = if wanted.length == 0 { left } else { wanted.length.min(left) };
    Ok(ByteRange { offset, length, is_whole: length == size_bytes })
}

/// Whether the URL leads nowhere any more.
fn is_gone(error: &cloud_api::Error) -> bool {
    error.meta().is_some_and(|meta| matches!(meta.http_status, 404 | 410))
}

/// The failure of a call about a file. What Meta does not know is expired, deleted or another number's.
fn media_failure(cause: &cloud_api::Error) -> Failure {
    let failure = repeatable(cause);
    if failure.verdict.class != Class::NotFound && !is_gone(cause) {
        return failure;
    }
    let verdict = Verdict { class: Class::NotFound, reason: Reason::MediaNotFound, ..failure.verdict };
    let message = "Meta does not have this media: it is expired, deleted or of another number".to_owned();
    Failure { verdict, message, ..failure }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(size_bytes: u64) -> MediaInfo {
        let id = MediaId::parse("1").unwrap();
        MediaInfo { id, mime_type: "image/png".to_owned(), size_bytes, checksum: None }
    }

    #[test]
    fn ranges_end_with_the_file() {
        for (offset, length, expected) in [
            (0, 0, Some((0, 10, true))),
            (0, 10, Some((0, 10, true))),
            (0, 4, Some((0, 4, false))),
            (9, 0, Some((9, 1, false))),
            (5, 100, Some((5, 5, false))),
            (5, u64::MAX, Some((5, 5, false))),
            (10, 0, None),
            (u64::MAX, 1, None),
        ] {
            let range = range(&info(10), Wanted { offset, length }).ok();
            assert_eq!(range.map(|r| (r.offset, r.length, r.is_whole)), expected, "{offset} {length}");
        }
        assert!(range(&info(0), Wanted::default()).is_err());
    }

    #[test]
    fn damage_is_noticed() {
        let sum = Checksum(Sha256::digest(b"abc").into());
        let check = |bytes: &[u8]| {
            let mut check = Check::new(&MediaInfo { checksum: Some(sum), ..info(3) });
            check.add(bytes).and_then(|()| check.finish())
        };
        assert!(check(b"abc").is_ok());
        assert!(matches!(check(b"abd"), Err(Error::Damaged { .. })));
        assert!(matches!(check(b"abcd"), Err(Error::Damaged { .. })));
    }
}
