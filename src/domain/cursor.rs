//! The position of a subscriber in one particular log, as an opaque text.
//!
//! `c1.` and URL-safe base64 of: engine (1 byte), log epoch (8), sequence (8, big endian), the first bytes of the id of
//! the event it names (4), CRC-32 of all that (4). Binding it to the epoch and to an event's id makes it useless on
//! another log and on another history of the same one. Read as hostile input: nothing here panics.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::event::EventId;

const PREFIX: &str = "c1.";
const PAYLOAD_BYTES: usize = 21;

/// The embedded engine, in a cursor.
pub const ENGINE_EMBEDDED: u8 = 1;

/// Engine of a log in NATS JetStream.
pub const ENGINE_NATS: u8 = 2;

/// The name of an engine, as streams tell it.
pub fn engine_name(engine: u8) -> &'static str {
    if engine == ENGINE_NATS { "nats" } else { "embedded" }
}

/// A position in a log: everything up to and including `seq` was seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cursor {
    /// Which engine wrote it.
    pub engine: u8,
    /// Which log.
    pub epoch: [u8; 8],
    /// Position; 0 is before the first event.
    pub seq: u64,
    /// The first bytes of the id of the event at `seq`; zeros when it names none.
    pub id_prefix: [u8; 4],
}

/// The text is no cursor of this gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a cursor of this gateway: use one from an event or a frame, unchanged")]
pub struct MalformedCursor;

impl Cursor {
    /// The first bytes of an event's id, as a cursor carries them.
    pub fn id_prefix(id: EventId) -> [u8; 4] {
        let [a, b, c, d, ..] = id.0;
        [a, b, c, d]
    }

    /// The opaque text.
    pub fn encode(&self) -> String {
        let mut text = String::with_capacity(PREFIX.len() + 34);
        self.encode_to(&mut text);
        text
    }

    /// The opaque text, in place of what `text` holds.
    pub fn encode_to(&self, text: &mut String) {
        let mut bytes = [0; PAYLOAD_BYTES + 4];
        let payload =
            [self.engine].into_iter().chain(self.epoch).chain(self.seq.to_be_bytes()).chain(self.id_prefix);
        bytes.iter_mut().zip(payload).for_each(|(to, from)| *to = from);
        if let Some((payload, checksum)) = bytes.split_at_mut_checked(PAYLOAD_BYTES) {
            checksum.copy_from_slice(&crc32fast::hash(payload).to_be_bytes());
        }
        text.clear();
        text.push_str(PREFIX);
        URL_SAFE_NO_PAD.encode_string(bytes, text);
    }

    /// Reads the text back.
    pub fn decode(text: &str) -> Result<Self, MalformedCursor> {
        let encoded = text.strip_prefix(PREFIX).filter(|rest| rest.len() <= 64).ok_or(MalformedCursor)?;
        let bytes = URL_SAFE_NO_PAD.decode(encoded).map_err(|_| MalformedCursor)?;
        let (payload, checksum) = bytes.split_at_checked(PAYLOAD_BYTES).ok_or(MalformedCursor)?;
        if checksum != crc32fast::hash(payload).to_be_bytes() {
            return Err(MalformedCursor);
        }
        let (engine, rest) = payload.split_first().ok_or(MalformedCursor)?;
        let (epoch, rest) = rest.split_first_chunk::<8>().ok_or(MalformedCursor)?;
        let (seq, rest) = rest.split_first_chunk::<8>().ok_or(MalformedCursor)?;
        let (id_prefix, _) = rest.split_first_chunk::<4>().ok_or(MalformedCursor)?;
        Ok(Self { engine: *engine, epoch: *epoch, seq: u64::from_be_bytes(*seq), id_prefix: *id_prefix })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn cursor(seq: u64) -> Cursor {
        Cursor { engine: ENGINE_EMBEDDED, epoch: [9; 8], seq, id_prefix: [1, 2, 3, 4] }
    }

    #[test]
    fn it_reads_back() {
        for seq in [0, 1, u64::MAX] {
            assert_eq!(Cursor::decode(&cursor(seq).encode()), Ok(cursor(seq)));
        }
    }

    proptest! {
        #[test]
        fn any_text_is_refused_without_panic(text in ".{0,80}") {
            prop_assert_eq!(Cursor::decode(&text), Err(MalformedCursor));
        }

        #[test]
        fn a_changed_character_is_noticed(seq in any::<u64>(), at in 3usize..37, with in "[A-Za-z0-9_-]") {
            let text = cursor(seq).encode();
            let mut changed = text.clone();
            changed.replace_range(at..=at, &with);
            // The last character carries spare bits, which the decoder refuses too.
            prop_assert_eq!(Cursor::decode(&changed).is_ok(), changed == text);
        }
    }
}
