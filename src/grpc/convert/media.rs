//! Media in messages and headers. Links are never fetched by the gateway, only checked for form.

use url::{Host, Url};

use super::Violations;
use crate::contract::v1;

/// A medium of a message.
#[derive(Debug, Clone, Copy)]
pub(super) enum Medium<'a> {
    Image(&'a v1::Image),
    Video(&'a v1::Video),
    Audio(&'a v1::Audio),
    Document(&'a v1::Document),
    Sticker(&'a v1::Sticker),
}

impl<'a> Medium<'a> {
    /// Meta's word for it.
    pub(super) fn kind(self) -> &'static str {
        match self {
            Self::Image(_) => "image",
            Self::Video(_) => "video",
            Self::Audio(_) => "audio",
            Self::Document(_) => "document",
            Self::Sticker(_) => "sticker",
        }
    }

    fn link(self) -> Option<&'a str> {
        match self {
            Self::Image(v1::Image { source: Some(v1::image::Source::Link(link)), .. })
            | Self::Video(v1::Video { source: Some(v1::video::Source::Link(link)), .. })
            | Self::Audio(v1::Audio { source: Some(v1::audio::Source::Link(link)), .. })
            | Self::Document(v1::Document { source: Some(v1::document::Source::Link(link)), .. })
            | Self::Sticker(v1::Sticker { source: Some(v1::sticker::Source::Link(link)) }) => Some(link),
            Self::Image(_) | Self::Video(_) | Self::Audio(_) | Self::Document(_) | Self::Sticker(_) => None,
        }
    }

    fn caption(self) -> &'a str {
        match self {
            Self::Image(image) => &image.caption,
            Self::Video(video) => &video.caption,
            Self::Document(document) => &document.caption,
            Self::Audio(_) | Self::Sticker(_) => "",
        }
    }

    /// Checks it as the content of a message; `path` is that of the medium.
    pub(super) fn check(self, path: &str, found: &mut Violations) {
        if let Some(link) = self.link() {
            check_link(&format!("{path}.link"), link, found);
        }
    }

    /// Checks it as a header, which has no caption; `path` is that of the header or parameter.
    pub(super) fn check_in_header(self, path: &str, found: &mut Violations) {
        let path = format!("{path}.{}", self.kind());
        self.check(&path, found);
        if !self.caption().is_empty() {
            found.add(&format!("{path}.caption"), "must be absent: media in headers have no caption");
        }
    }
}

fn check_link(field: &str, link: &str, found: &mut Violations) {
    let rule = "must be a public https URL, such as https://example.com/file.jpg: Meta fetches it";
    let is_public = |host: &str| {
        host.rsplit_once('.').is_some_and(|(_, last)| !["local", "internal", "localhost"].contains(&last))
    };
    let url = Url::parse(link).ok().filter(|url| url.scheme() == "https");
    match url.as_ref().and_then(Url::host) {
        Some(Host::Domain(host)) if is_public(host) => {}
        Some(Host::Domain(_) | Host::Ipv4(_) | Host::Ipv6(_)) | None => found.add(field, rule),
    }
}
