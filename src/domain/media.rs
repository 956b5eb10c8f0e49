//! Files that go to Meta and come from it: types, limits, checksums.

use std::fmt;

use super::ids::{MediaId, PhoneNumberId, WabaId};
use super::quoted::Quoted;

/// What Meta does with a file of a type, and so how large it may be (reference 6.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MediaKind {
    /// Sound.
    Audio,
    /// Any text or office document.
    Document,
    /// A picture.
    Image,
    /// A sticker, still or animated.
    Sticker,
    /// A film.
    Video,
}

/// Every type that Meta lists, with its kind (reference 6.4).
const MESSAGE_TYPES: &[(&str, MediaKind)] = &[
    ("audio/aac", MediaKind::Audio),
    ("audio/amr", MediaKind::Audio),
    ("audio/mpeg", MediaKind::Audio),
    ("audio/mp4", MediaKind::Audio),
    ("audio/ogg", MediaKind::Audio),
    ("text/plain", MediaKind::Document),
    ("application/pdf", MediaKind::Document),
    ("application/msword", MediaKind::Document),
    ("application/vnd.openxmlformats-officedocument.wordprocessingml.document", MediaKind::Document),
    ("application/vnd.ms-excel", MediaKind::Document),
    ("application/vnd.openxmlformats-officedocument.spreadsheetml.sheet", MediaKind::Document),
    ("application/vnd.ms-powerpoint", MediaKind::Document),
    ("application/vnd.openxmlformats-officedocument.presentationml.presentation", MediaKind::Document),
    ("image/jpeg", MediaKind::Image),
    ("image/png", MediaKind::Image),
    ("image/webp", MediaKind::Sticker),
    ("video/mp4", MediaKind::Video),
    ("video/3gpp", MediaKind::Video),
];

/// The types of template samples (reference 2.3).
const SAMPLE_TYPES: &[(&str, MediaKind)] = &[
    ("application/pdf", MediaKind::Document),
    ("image/jpeg", MediaKind::Image),
    ("image/jpg", MediaKind::Image),
    ("image/png", MediaKind::Image),
    ("video/mp4", MediaKind::Video),
];

impl MediaKind {
    /// The largest file of this kind. Meta does not say what its MB are; these are 10^6 bytes. A still sticker may have
    /// 100 KB only, but whether one moves stands in its bytes, so that limit is Meta's to check.
    pub fn bytes_max(self) -> u64 {
        match self {
            Self::Audio | Self::Video => 16_000_000,
            Self::Document => 100_000_000,
            Self::Image => 5_000_000,
            Self::Sticker => 500_000,
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Audio => "audio",
            Self::Document => "a document",
            Self::Image => "an image",
            Self::Sticker => "a sticker",
            Self::Video => "a video",
        }
    }
}

/// What a file is for, and whose it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Purpose {
    /// To be sent by this number.
    Message {
        /// The number.
        number: PhoneNumberId,
        /// How long Meta is to keep it.
        ttl_minutes: Option<u32>,
    },
    /// The sample of a template of this WABA.
    TemplateSample(WabaId),
}

/// A file that is about to be uploaded.
#[derive(Clone, PartialEq, Eq)]
pub struct MediaFile {
    /// Its type, with parameters.
    pub mime_type: String,
    /// Its name.
    pub filename: String,
    /// Its exact size.
    pub size_bytes: u64,
    /// What its bytes must add up to, if the caller says so.
    pub checksum: Option<Checksum>,
}

shown!(MediaFile { mime_type, size_bytes, checksum });

/// Why a file cannot be taken, whatever its bytes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Meta does not list the type.
    #[error("{} is not a type that Meta takes; it takes {}", Quoted(.mime_type), types.join(", "))]
    TypeUnsupported {
        /// What was declared.
        mime_type: String,
        /// What could be.
        types: Vec<&'static str>,
    },
    /// It is too large.
    #[error("{} may have at most {bytes_max} bytes, the file has {size_bytes}", kind.as_str())]
    TooLarge {
        /// Its kind.
        kind: MediaKind,
        /// What was declared.
        size_bytes: u64,
        /// The limit.
        bytes_max: u64,
    },
}

impl MediaFile {
    /// The type without its parameters, in lower case.
    pub fn bare_type(&self) -> String {
        bare(&self.mime_type)
    }

    /// Checks type and size before a byte moves.
    pub fn check(&self, purpose: &Purpose) -> Result<(), Refusal> {
        let known = match purpose {
            Purpose::Message { .. } => MESSAGE_TYPES,
            Purpose::TemplateSample(_) => SAMPLE_TYPES,
        };
        let bare = self.bare_type();
        let Some((_, kind)) = known.iter().find(|(name, _)| *name == bare) else {
            let types = known.iter().map(|(name, _)| *name).collect();
            return Err(Refusal::TypeUnsupported { mime_type: self.mime_type.clone(), types });
        };
        let (bytes_max, size_bytes) = (kind.bytes_max(), self.size_bytes);
        if size_bytes > bytes_max {
            return Err(Refusal::TooLarge { kind: *kind, size_bytes, bytes_max });
        }
        Ok(())
    }
}

fn bare(mime_type: &str) -> String {
    mime_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

/// A SHA-256.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Checksum(pub [u8; 32]);

impl Checksum {
    /// Reads 64 hexadecimal digits.
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.as_bytes();
        let mut sum = [0; 32];
        let (pairs, rest) = digits.as_chunks::<2>();
        if pairs.len() != sum.len() || !rest.is_empty() {
            return None;
        }
        for (byte, [high, low]) in sum.iter_mut().zip(pairs) {
            let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
            *byte = digit(*high)? << 4 | digit(*low)?;
        }
        Some(Self(sum))
    }
}

impl fmt::Display for Checksum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Checksum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A file that Meta has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MediaInfo {
    /// Its id.
    pub id: MediaId,
    /// Its type.
    pub mime_type: String,
    /// Its size.
    pub size_bytes: u64,
    /// What its bytes add up to, if Meta says so.
    pub checksum: Option<Checksum>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(mime_type: &str, size_bytes: u64) -> MediaFile {
        let (mime_type, filename) = (mime_type.to_owned(), "a".to_owned());
        MediaFile { mime_type, filename, size_bytes, checksum: None }
    }

    fn message() -> Purpose {
        Purpose::Message { number: PhoneNumberId::parse("1").unwrap(), ttl_minutes: None }
    }

    #[test]
    fn each_kind_has_its_limit() {
        for (mime_type, bytes_max) in [
            ("image/jpeg", 5_000_000),
            ("IMAGE/PNG", 5_000_000),
            ("image/webp", 500_000),
            ("audio/ogg; codecs=opus", 16_000_000),
            ("video/mp4", 16_000_000),
            ("application/pdf", 100_000_000),
            ("text/plain;charset=utf-8", 100_000_000),
        ] {
            assert_eq!(file(mime_type, bytes_max).check(&message()), Ok(()), "{mime_type}");
            let refused = file(mime_type, bytes_max + 1).check(&message());
            assert!(matches!(refused, Err(Refusal::TooLarge { .. })), "{mime_type}: {refused:?}");
        }
    }

    #[test]
    fn types_that_meta_does_not_list_are_refused() {
        let sample = Purpose::TemplateSample(WabaId::parse("1").unwrap());
        for (mime_type, purpose) in [
            ("image/gif", message()),
            ("audio/wav", message()),
            ("application/octet-stream", message()),
            ("image/jpg", message()),
            ("image/webp", sample.clone()),
            ("text/plain", sample.clone()),
        ] {
            let refused = file(mime_type, 1).check(&purpose);
            assert!(matches!(refused, Err(Refusal::TypeUnsupported { .. })), "{mime_type}: {refused:?}");
        }
        assert_eq!(file("image/jpg", 1).check(&sample), Ok(()));
    }

    #[test]
    fn checksums_are_hexadecimal() {
        let text = "00ff".repeat(16);
        assert_eq!(Checksum::parse(&text).unwrap().to_string(), text);
        assert_eq!(Checksum::parse(&text.to_uppercase()).unwrap().to_string(), text);
        for bad in ["", "00", &"zz".repeat(32), &"0".repeat(63), &"0".repeat(65), &"é".repeat(32)] {
            assert_eq!(Checksum::parse(bad), None, "{bad}");
        }
    }
}
