//! What names one delivery of an event to one worker, as an opaque text.
//!
//! `a1.` and URL-safe base64 of: the subscription (8 bytes), the incarnation that gave the lease out (4), the lease (8, big
//! endian), CRC-32 of all that (4). Read as hostile input: nothing here panics.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

const PREFIX: &str = "a1.";
const PAYLOAD_BYTES: usize = 20;
const TEXT_BYTES: usize = PREFIX.len() + 32;

/// One delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AckId {
    /// Which subscription; another one of the same name has another id.
    pub subscription: [u8; 8],
    /// Which run of the machine: leases end with it.
    pub incarnation: [u8; 4],
    /// Which lease.
    pub lease: u64,
}

impl AckId {
    /// The opaque text.
    pub fn encode(&self) -> String {
        let mut bytes = Vec::with_capacity(PAYLOAD_BYTES + 4);
        bytes.extend(self.subscription);
        bytes.extend(self.incarnation);
        bytes.extend(self.lease.to_be_bytes());
        bytes.extend(crc32fast::hash(&bytes).to_be_bytes());
        let mut text = String::with_capacity(TEXT_BYTES);
        text.push_str(PREFIX);
        URL_SAFE_NO_PAD.encode_string(bytes, &mut text);
        text
    }

    /// Reads the text back; `None` if it is none of ours.
    pub fn decode(text: &str) -> Option<Self> {
        let encoded = text.strip_prefix(PREFIX).filter(|_| text.len() == TEXT_BYTES)?;
        let bytes = URL_SAFE_NO_PAD.decode(encoded).ok()?;
        let (payload, checksum) = bytes.split_at_checked(PAYLOAD_BYTES)?;
        if checksum != crc32fast::hash(payload).to_be_bytes() {
            return None;
        }
        let (subscription, rest) = payload.split_first_chunk::<8>()?;
        let (incarnation, rest) = rest.split_first_chunk::<4>()?;
        let (lease, _) = rest.split_first_chunk::<8>()?;
        Some(Self {
            subscription: *subscription,
            incarnation: *incarnation,
            lease: u64::from_be_bytes(*lease),
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_reads_back_and_a_changed_character_is_noticed(
            lease in any::<u64>(),
            at in 0usize..TEXT_BYTES,
            with in "[A-Za-z0-9_.-]",
        ) {
            let id = AckId { subscription: [7; 8], incarnation: [1, 2, 3, 4], lease };
            let text = id.encode();
            prop_assert_eq!(AckId::decode(&text), Some(id));
            let mut changed = text.clone();
            changed.replace_range(at..=at, &with);
            prop_assert_eq!(AckId::decode(&changed).is_some(), changed == text);
        }

        #[test]
        fn any_text_is_refused_without_panic(text in ".{0,60}") {
            prop_assert_eq!(AckId::decode(&text), None);
        }
    }
}
