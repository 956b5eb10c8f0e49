//! What tells a request from another one under the same request id.
//!
//! A request was decoded by our schema, so encoding it again is canonical: fields in the order of their numbers, maps in
//! the order of their keys, defaults left out, and so the same for every client and for every later version of the
//! contract. What says only how to answer, and the id itself, are no part of it.

use prost::Message;
use sha2::{Digest, Sha256};

use super::v1;

/// The fingerprint of a send.
pub fn of_send(request: &v1::SendMessageRequest) -> [u8; 32] {
    digest(&v1::SendMessageRequest { request_id: String::new(), show_request: false, ..request.clone() })
}

/// The fingerprint of a change of templates.
pub fn of_template(request: &v1::ManageTemplateRequest) -> [u8; 32] {
    digest(&v1::ManageTemplateRequest { request_id: String::new(), show_request: false, ..request.clone() })
}

/// The fingerprint of an upload, without that of the file: a checksum may be stated or not, and is compared by itself.
pub fn of_upload(header: &v1::UploadMediaHeader) -> [u8; 32] {
    digest(&v1::UploadMediaHeader { request_id: String::new(), sha256: String::new(), ..header.clone() })
}

fn digest(request: &impl Message) -> [u8; 32] {
    Sha256::digest(request.encode_to_vec()).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use v1::send_message_request::Content;

    fn request(fields: &[(&str, &str)]) -> v1::SendMessageRequest {
        let value = |text: &str| prost_types::Value {
            kind: Some(prost_types::value::Kind::StringValue(text.to_owned())),
        };
        let fields = fields.iter().map(|(name, text)| ((*name).to_owned(), value(text))).collect();
        v1::SendMessageRequest {
            request_id: "a".to_owned(),
            callback_data: "order=1".to_owned(),
            content: Some(Content::Raw(prost_types::Struct { fields })),
            ..Default::default()
        }
    }

    #[test]
    fn the_same_request_has_the_same_fingerprint_and_another_has_another() {
        let first = request(&[("type", "text"), ("text", "Hi")]);
        let again = v1::SendMessageRequest {
            request_id: "b".to_owned(),
            show_request: true,
            ..request(&[("text", "Hi"), ("type", "text")])
        };
        assert_eq!(of_send(&first), of_send(&again));
        for other in [
            request(&[("type", "text"), ("text", "Ho")]),
            v1::SendMessageRequest { callback_data: "order=2".to_owned(), ..first.clone() },
            v1::SendMessageRequest { phone_number_id: "1".to_owned(), ..first.clone() },
            v1::SendMessageRequest { on_unknown: v1::OnUnknown::Resend.into(), ..first.clone() },
        ] {
            assert_ne!(of_send(&first), of_send(&other), "{other:?}");
        }
    }

    #[test]
    fn a_change_is_what_it_changes_and_an_upload_is_its_header() {
        use v1::manage_template_request::Action;
        let delete = |name: &str, request_id: &str, show_request| {
            let delete = v1::DeleteTemplateAction { name: name.to_owned(), ..Default::default() };
            let request_id = request_id.to_owned();
            let action = Some(Action::Delete(delete));
            of_template(&v1::ManageTemplateRequest { action, request_id, show_request, ..Default::default() })
        };
        assert_eq!(delete("offer", "a", false), delete("offer", "b", true));
        assert_ne!(delete("offer", "a", false), delete("parcel", "a", false));
        let header = v1::UploadMediaHeader {
            mime_type: "image/png".to_owned(),
            filename: "a.png".to_owned(),
            size_bytes: 3,
            request_id: "a".to_owned(),
            ..Default::default()
        };
        let same =
            v1::UploadMediaHeader { sha256: "00".repeat(32), request_id: "b".to_owned(), ..header.clone() };
        assert_eq!(of_upload(&header), of_upload(&same));
        assert_ne!(of_upload(&header), of_upload(&v1::UploadMediaHeader { size_bytes: 4, ..header.clone() }));
    }

    /// A day after an update the requests of before it are asked for again.
    #[test]
    fn it_does_not_change_with_versions() {
        let known = "82ac56b6";
        assert_eq!(&hex::encode(of_send(&request(&[("type", "text")])))[..8], known);
    }
}
