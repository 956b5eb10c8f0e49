//! The media that numbers own: uploaded, received or ready from the start; their types, sizes and lifetimes.
//! Pure state; the Cloud API's calls about media are in [`super::media_api`].

use std::collections::HashMap;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;

use super::content::Content;

/// How long an uploaded media id may be sent.
pub(super) const UPLOADED_LIFETIME: Duration = Duration::from_hours(30 * 24);
/// How long the media id of a received message may be read.
pub(super) const RECEIVED_LIFETIME: Duration = Duration::from_hours(7 * 24);
/// How long a download URL works.
pub(super) const URL_LIFETIME: Duration = Duration::from_mins(5);
/// The largest upload.
pub(super) const UPLOAD_BYTES_MAX: usize = 100_000_000;
/// Contents kept at once; beyond it the oldest are forgotten.
const KEPT_BYTES_MAX: usize = 512 * 1024 * 1024;
/// Media kept at once; beyond it the oldest are forgotten.
const KEPT_COUNT_MAX: usize = 100_000;

/// One medium.
#[derive(Debug, Clone)]
pub(super) struct Medium {
    pub(super) id: String,
    pub(super) phone_number_id: String,
    pub(super) mime_type: String,
    pub(super) content: Arc<Content>,
    pub(super) expires: Option<SystemTime>,
}

impl Medium {
    pub(super) fn new(
        id: String,
        phone_number_id: &str,
        mime_type: &str,
        content: Arc<Content>,
        expires: Option<SystemTime>,
    ) -> Self {
        let (phone_number_id, mime_type) = (phone_number_id.to_owned(), mime_type.to_owned());
        Self { id, phone_number_id, mime_type, content, expires }
    }

    /// The checksum as `GET /{MEDIA_ID}` shows it.
    pub(super) fn sha256_hex(&self) -> String {
        hex::encode(self.content.digest)
    }

    /// The checksum as webhooks show it.
    pub(super) fn sha256_base64(&self) -> String {
        STANDARD.encode(self.content.digest)
    }

    fn is_ready(&self) -> bool {
        self.expires.is_none()
    }
}

/// All media, the oldest forgotten first. Ready media are never forgotten.
#[derive(Debug, Default)]
pub(super) struct MediaStore {
    media: HashMap<String, Medium>,
    order: VecDeque<String>,
    bytes: usize,
}

impl MediaStore {
    /// The store of a new account: one ready medium of every kind for each number.
    pub(super) fn with_ready_media<'a>(phone_number_ids: impl Iterator<Item = &'a str>) -> Self {
        let mut store = Self::default();
        for (position, phone_number_id) in phone_number_ids.enumerate() {
            for (kind, mime_type, content) in READY {
                let id = ready_id(position, *kind);
                let content = Content::of(Bytes::from_static(content));
                store.insert(Medium::new(id, phone_number_id, mime_type, content, None));
            }
        }
        store
    }

    pub(super) fn insert(&mut self, medium: Medium) {
        self.bytes += medium.content.kept_bytes();
        if !medium.is_ready() {
            self.order.push_back(medium.id.clone());
        }
        if let Some(replaced) = self.media.insert(medium.id.clone(), medium) {
            self.bytes -= replaced.content.kept_bytes();
        }
        while self.bytes > KEPT_BYTES_MAX || self.order.len() > KEPT_COUNT_MAX {
            let Some(oldest) = self.order.pop_front() else { break };
            self.remove(&oldest);
        }
    }

    pub(super) fn get(&self, id: &str, now: SystemTime) -> Option<&Medium> {
        self.media.get(id).filter(|medium| medium.expires.is_none_or(|expires| now < expires))
    }

    pub(super) fn remove(&mut self, id: &str) -> bool {
        let removed = self.media.remove(id);
        self.bytes -= removed.as_ref().map_or(0, |medium| medium.content.kept_bytes());
        removed.is_some()
    }

    /// The ready medium of this number that a message of this kind may show.
    pub(super) fn ready(&self, phone_number_id: &str, message_kind: &str) -> Option<&Medium> {
        self.media.values().find(|medium| {
            medium.is_ready()
                && medium.phone_number_id == phone_number_id
                && kind_of(&medium.mime_type) == Some(message_kind)
        })
    }

    /// The ready media of a number, for the help page.
    pub(super) fn all_ready(&self, phone_number_id: &str) -> Vec<&Medium> {
        let mut ready: Vec<&Medium> = self
            .media
            .values()
            .filter(|medium| medium.is_ready() && medium.phone_number_id == phone_number_id)
            .collect();
        ready.sort_by(|left, right| left.id.cmp(&right.id));
        ready
    }
}

/// The message type that carries this MIME type, `None` if Meta takes no upload of it.
pub(super) fn kind_of(mime_type: &str) -> Option<&'static str> {
    let bare = mime_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    match bare.as_str() {
        "audio/aac" | "audio/amr" | "audio/mpeg" | "audio/mp4" | "audio/ogg" => Some("audio"),
        "image/jpeg" | "image/png" => Some("image"),
        "image/webp" => Some("sticker"),
        "video/mp4" | "video/3gpp" => Some("video"),
        "text/plain"
        | "application/pdf"
        | "application/msword"
        | "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
        | "application/vnd.ms-excel"
        | "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
        | "application/vnd.ms-powerpoint"
        | "application/vnd.openxmlformats-officedocument.presentationml.presentation" => Some("document"),
        _ => None,
    }
}

/// How large the medium of a message of this kind may be.
pub(super) fn bytes_max(message_kind: &str) -> usize {
    match message_kind {
        "image" => 5_000_000,
        "audio" | "video" => 16_000_000,
        "sticker" => 500_000,
        _ => UPLOAD_BYTES_MAX,
    }
}

/// `10000000000001` is the first kind of the first number, `10000000000101` that of the second.
fn ready_id(position: usize, kind: usize) -> String {
    format!("{}", 10_000_000_000_000 + position * 100 + kind)
}

/// A 1x1 PNG.
const PNG: &[u8] = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x01\0\0\0\x01\x08\x06\0\0\0\x1f\x15\xc4\x89\0\0\0\rIDATx\x9cc\xf8\xcf\xc0\xf0\x1f\0\x05\0\x01\xff\x56\xc7\x2f\x0d\0\0\0\0IEND\xaeB`\x82";

/// Contents are only as true to their type as their first bytes: nobody here plays them.
const READY: &[(usize, &str, &[u8])] = &[
    (1, "image/png", PNG),
    (2, "video/mp4", b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom"),
    (3, "audio/ogg", b"OggS\0\x02\0\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0OpusHead"),
    (4, "application/pdf", b"%PDF-1.4\n1 0 obj<</Type/Catalog>>endobj\ntrailer<</Root 1 0 R>>\n%%EOF\n"),
    (5, "image/webp", b"RIFF\x0c\0\0\0WEBPVP8L"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_ready_for_every_number() {
        let store = MediaStore::with_ready_media(["1", "2"].into_iter());
        for number in ["1", "2"] {
            for kind in ["image", "video", "audio", "document", "sticker"] {
                assert!(store.ready(number, kind).is_some(), "{kind} of {number}");
            }
        }
        assert_eq!(store.all_ready("1").first().unwrap().id, "10000000000001");
    }

    #[test]
    fn media_expire() {
        let start = SystemTime::UNIX_EPOCH;
        let mut store = MediaStore::default();
        let expires = Some(start + UPLOADED_LIFETIME);
        store.insert(Medium::new(
            "7".to_owned(),
            "1",
            "image/png",
            Content::of(Bytes::from_static(PNG)),
            expires,
        ));
        assert!(store.get("7", start).is_some());
        assert!(store.get("7", start + UPLOADED_LIFETIME).is_none());
        assert!(store.remove("7") && !store.remove("7"));
        assert_eq!(store.bytes, 0);
    }

    #[test]
    fn types() {
        for (mime_type, kind) in [
            ("audio/ogg; codecs=opus", Some("audio")),
            ("IMAGE/JPEG", Some("image")),
            ("image/gif", None),
            ("audio/wav", None),
            ("application/octet-stream", None),
        ] {
            assert_eq!(kind_of(mime_type), kind, "{mime_type}");
        }
    }
}
