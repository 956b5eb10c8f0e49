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

    /// A day after an update the requests of before it are asked for again.
    #[test]
    fn it_does_not_change_with_versions() {
        let known = "82ac56b6";
        assert_eq!(&hex::encode(of_send(&request(&[("type", "text")])))[..8], known);
    }
}
