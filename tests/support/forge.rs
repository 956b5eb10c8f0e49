//! Cursors and ack ids that nobody has given out.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::Rng;

/// A text of our form with these parts and a right checksum.
pub fn forged(like: &str, change: impl FnOnce(&mut Vec<u8>)) -> String {
    let (prefix, encoded) = like.split_at(3);
    let mut bytes = URL_SAFE_NO_PAD.decode(encoded).unwrap();
    bytes.truncate(bytes.len() - 4);
    change(&mut bytes);
    let checksum = crc32fast::hash(&bytes);
    bytes.extend_from_slice(&checksum.to_be_bytes());
    format!("{prefix}{}", URL_SAFE_NO_PAD.encode(bytes))
}

/// A text that is nearly this one.
pub fn mutated(own: &str, rng: &mut Rng) -> String {
    let mut below = |bound: usize| usize::try_from(rng.between(0, bound as u64 - 1)).unwrap();
    if below(3) == 0 {
        // The checksum is right, so the parts are looked at.
        return forged(own, |bytes| {
            for _ in 0..=below(3) {
                let at = below(bytes.len());
                bytes[at] = u8::try_from(below(256)).unwrap();
            }
        });
    }
    let mut text: Vec<char> = own.chars().collect();
    for _ in 0..=below(4) {
        let at = below(text.len());
        match below(4) {
            0 => text[at] = char::from(u8::try_from(below(128)).unwrap()),
            1 => text.truncate(at.max(1)),
            2 => text.insert(at, '\u{e4}'),
            _ => text.rotate_left(at),
        }
    }
    text.into_iter().collect()
}
