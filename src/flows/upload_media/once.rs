//! Uploads under a request id: the same file goes to Meta once.
//!
//! What was claimed and did not come to its end left nothing of use at Meta, so the next one may claim it: also one that
//! waited for it, since nobody has read its stream yet. An answer is compared with the file of whoever asks for it.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use tokio::time::Instant;

use super::{Error, Pieces, Source, UploadMedia, Uploaded, UploadedName};
use crate::domain::caller::Caller;
use crate::domain::media::{Checksum, MediaFile, Purpose};
use crate::flows::send_message::new_tag;
use crate::flows::unsettled::{self, Claim, IfLost, Known, Request, Taken, undone_outcome};
use crate::storage::keyed_state::StateError;
use crate::storage::sends::{Outcome, RequestKey};

/// The RPC whose request ids these are.
const RPC: &str = "UploadMedia";
/// How long a handle counts as usable: its session lives for about an hour (reference 2.2).
const HANDLE_KEPT: Duration = Duration::from_mins(30);

/// How an answer is kept: the edge knows the words.
#[derive(Debug, Clone, Copy)]
pub struct Codec {
    /// Writes it.
    pub encode: fn(&Uploaded) -> Bytes,
    /// Reads it; `None` for what another version wrote.
    pub decode: fn(&[u8]) -> Option<Uploaded>,
}

/// What makes an upload safe to repeat.
#[derive(Debug, Clone)]
pub struct Once {
    request: Request,
    deadline: Option<Instant>,
    codec: Codec,
}

impl Once {
    /// By the id that the caller chose and the fingerprint of the header. It waits for another call with that id until the
    /// deadline, or until that ends.
    pub fn new(
        caller: &Caller,
        (id, fingerprint): (String, [u8; 32]),
        deadline: Option<Instant>,
        codec: Codec,
    ) -> Self {
        let key = RequestKey::of(caller, RPC, &id);
        Self { request: Request { key, id, fingerprint, phone_number_id: None }, deadline, codec }
    }
}

impl UploadMedia {
    /// As [`UploadMedia::upload`], once; tells whether an earlier call did it.
    pub async fn upload_once(
        &self,
        caller: &Caller,
        purpose: &Purpose,
        file: &MediaFile,
        pieces: impl Pieces,
        once: &Once,
    ) -> Result<(Uploaded, bool), Error> {
        file.check(purpose)?;
        let is_stale = |answer: &[u8], created| {
            let uploaded = (once.codec.decode)(answer);
            uploaded.is_some_and(|uploaded| self.clock.now() >= usable_until(&uploaded, created))
        };
        loop {
            match self.unsettled.claim_call(&once.request, new_tag(), IfLost::Nothing, is_stale).await? {
                Claim::Mine(flight) => {
                    let uploaded = self.upload(caller, purpose, file, pieces).await;
                    let outcome = match &uploaded {
                        Ok(uploaded) => Outcome::Answered((once.codec.encode)(uploaded)),
                        Err(_) => undone_outcome(),
                    };
                    flight.land_for_good(outcome).await;
                    return uploaded.map(|uploaded| (uploaded, false));
                }
                Claim::Taken(Taken::Running(slot)) => drop(slot.landed(once.deadline).await?),
                Claim::Taken(Taken::Known(Known { outcome: Outcome::Answered(answer), .. })) => {
                    let uploaded = (once.codec.decode)(&answer).ok_or_else(unreadable)?;
                    let checksum = match file.checksum {
                        Some(stated) => stated,
                        None => self.checksum_of(file, pieces).await?,
                    };
                    if checksum != uploaded.checksum {
                        return Err(unsettled::Error::Reused.into());
                    }
                    return Ok((uploaded, true));
                }
                // No upload is any of these.
                Claim::Taken(Taken::Known(_)) => return Err(unreadable()),
            }
        }
    }

    /// Reads a file to its end, and sends it nowhere.
    async fn checksum_of(&self, file: &MediaFile, pieces: impl Pieces) -> Result<Checksum, Error> {
        let _slot = self.transfers.slots.try_acquire().map_err(|_| Error::TooManyTransfers)?;
        let mut source = Source::new(file, pieces, self.transfers.stall_timeout);
        while source.next().await?.is_some() {}
        Ok(source.checksum())
    }
}

/// Until when what an upload answered names something at Meta.
fn usable_until(uploaded: &Uploaded, created: SystemTime) -> SystemTime {
    match &uploaded.name {
        UploadedName::Media(_, expires) => *expires,
        UploadedName::Handle(_) => created + HANDLE_KEPT,
    }
}

fn unreadable() -> Error {
    let cause = "an upload was stored by a version that this one does not know";
    unsettled::Error::Store(StateError::Unreadable(cause.to_owned())).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ids::MediaId;

    #[test]
    fn an_answer_is_of_use_as_long_as_meta_knows_the_file() {
        let created = SystemTime::UNIX_EPOCH + Duration::from_hours(500_000);
        let uploaded = |name| Uploaded { name, checksum: Checksum([0; 32]) };
        let expires = created + Duration::from_hours(1);
        let media = uploaded(UploadedName::Media(MediaId::parse("1").unwrap(), expires));
        assert_eq!(usable_until(&media, created), expires);
        let handle = uploaded(UploadedName::Handle("4::a".to_owned()));
        assert_eq!(usable_until(&handle, created), created + Duration::from_mins(30));
    }
}
