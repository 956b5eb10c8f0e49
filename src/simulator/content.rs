//! The bytes of media: added up as they come, and kept in pieces while there is room.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use sha2::{Digest as _, Sha256};

/// Bytes of all uploads that are kept at once, those under way included. Of what does not fit only size and checksum
/// are known.
const KEPT_BYTES_MAX: usize = 256 * 1024 * 1024;

/// Room for the contents of uploads.
#[derive(Debug, Clone, Default)]
pub(super) struct Room(Arc<AtomicUsize>);

/// A content that is all there.
#[derive(Debug)]
pub(super) struct Content {
    pub(super) len: usize,
    pub(super) digest: [u8; 32],
    /// `None` if there was no room.
    pub(super) pieces: Option<Vec<Bytes>>,
    lease: Lease,
}

/// What a content takes of the room, until it is dropped.
#[derive(Debug, Default)]
struct Lease {
    room: Room,
    bytes: usize,
}

impl Lease {
    fn take(&mut self, bytes: usize) -> bool {
        let has_room = self.room.0.fetch_add(bytes, Ordering::SeqCst) + bytes <= KEPT_BYTES_MAX;
        self.bytes += bytes;
        has_room
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.room.0.fetch_sub(self.bytes, Ordering::SeqCst);
    }
}

/// A content on its way in.
#[derive(Debug)]
pub(super) struct Incoming {
    len: usize,
    hasher: Sha256,
    pieces: Option<Vec<Bytes>>,
    lease: Lease,
}

impl Incoming {
    pub(super) fn new(room: &Room) -> Self {
        let lease = Lease { room: room.clone(), bytes: 0 };
        Self { len: 0, hasher: Sha256::new(), pieces: Some(Vec::new()), lease }
    }

    pub(super) fn push(&mut self, piece: Bytes) {
        self.len += piece.len();
        self.hasher.update(&piece);
        if self.pieces.is_some() && !self.lease.take(piece.len()) {
            self.pieces = None;
            self.lease = Lease { room: self.lease.room.clone(), bytes: 0 };
        }
        if let Some(pieces) = &mut self.pieces {
            pieces.push(piece);
        }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn finish(self) -> Content {
        let Self { len, hasher, pieces, lease } = self;
        Content { len, digest: hasher.finalize().into(), pieces, lease }
    }
}

impl Content {
    /// A small content, which takes no room.
    pub(super) fn of(bytes: Bytes) -> Arc<Self> {
        let (len, digest) = (bytes.len(), Sha256::digest(&bytes).into());
        Arc::new(Self { len, digest, pieces: Some(vec![bytes]), lease: Lease::default() })
    }

    /// A content of any size that takes no memory: one block over and over.
    pub(super) fn filled(len: usize) -> Arc<Self> {
        const BLOCK: &[u8] = &[0x57; 64 * 1024];
        let mut pieces = vec![Bytes::from_static(BLOCK); len / BLOCK.len()];
        pieces.push(Bytes::from_static(BLOCK).slice(..len % BLOCK.len()));
        let mut hasher = Sha256::new();
        for piece in &pieces {
            hasher.update(piece);
        }
        Arc::new(Self {
            len,
            digest: hasher.finalize().into(),
            pieces: Some(pieces),
            lease: Lease::default(),
        })
    }

    /// What it takes of the room.
    pub(super) fn kept_bytes(&self) -> usize {
        self.lease.bytes
    }

    /// The bytes from `start` to `end`, piece by piece.
    pub(super) fn range(&self, start: usize, end: usize) -> Vec<Bytes> {
        let mut position = 0;
        let mut found = Vec::new();
        for piece in self.pieces.iter().flatten() {
            let (from, to) = (start.max(position), end.min(position + piece.len()));
            if from < to {
                found.push(piece.slice(from - position..to - position));
            }
            position += piece.len();
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_cross_pieces() {
        let mut incoming = Incoming::new(&Room::default());
        for piece in ["ab", "", "cde", "f"] {
            incoming.push(Bytes::from_static(piece.as_bytes()));
        }
        let content = incoming.finish();
        assert_eq!((content.len, content.kept_bytes()), (6, 6));
        assert_eq!(content.digest, *Content::of(Bytes::from_static(b"abcdef")).digest.as_slice());
        for (start, end, expected) in [(0, 6, "abcdef"), (1, 4, "bcd"), (5, 6, "f"), (3, 3, "")] {
            assert_eq!(content.range(start, end).concat(), expected.as_bytes());
        }
    }

    #[test]
    fn what_does_not_fit_is_known_by_its_checksum() {
        let room = Room::default();
        let block = Bytes::from(vec![1; KEPT_BYTES_MAX / 2]);
        let (mut first, mut second) = (Incoming::new(&room), Incoming::new(&room));
        first.push(block.clone());
        second.push(block.clone());
        second.push(block.slice(..1));
        first.push(block.slice(..1));
        assert!(second.finish().pieces.is_none());
        assert!(first.finish().pieces.is_some());
        assert_eq!(room.0.load(Ordering::SeqCst), 0);
    }

    #[test]
    fn filled_contents_have_their_length() {
        for len in [0, 1, 65_536, 65_537, 200_000] {
            let content = Content::filled(len);
            assert_eq!(content.range(0, len).concat().len(), len);
            assert_eq!(content.digest, *Sha256::digest(vec![0x57; len]));
        }
    }
}
