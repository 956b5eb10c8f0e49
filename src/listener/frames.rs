//! How much a peer may send on an HTTP/2 connection beside requests and their bodies.
//!
//! The library bounds the memory that frames take, and closes connections for resets, CONTINUATION frames and tiny DATA
//! frames. PING, SETTINGS and PRIORITY take none, so it reads them, and answers the first two, as fast as they come: a
//! core for one connection.

use std::time::Duration;

use tokio::time::Instant;

/// Bytes of the text that opens a connection, and of the head of each frame.
const PREFACE_BYTES: usize = 24;
const HEAD_BYTES: usize = 9;
/// Frame types of requests and answers. Resets are as many as calls, and window updates as many as an answer is long.
const EARNED: [u8; 5] = [DATA, HEADERS, RST_STREAM, WINDOW_UPDATE, CONTINUATION];
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
/// Other frames in a second: 1 % of a core for us. A client that measures its line by pings sends one a round trip.
const FRAMES_MAX: u32 = 10_000;
const PERIOD: Duration = Duration::from_secs(1);

/// The peer sends more than any client does.
#[derive(Debug, thiserror::Error)]
#[error("more than {FRAMES_MAX} frames in a second that are no request")]
pub(super) struct Flood;

/// Follows the frames of one connection, and counts those that are no request.
#[derive(Debug)]
pub(super) struct FrameBudget {
    /// Bytes until the next head.
    skip: usize,
    /// Of a head that has come in part.
    head: [u8; HEAD_BYTES],
    head_bytes: usize,
    count: u32,
    since: Instant,
}

impl FrameBudget {
    pub(super) fn new() -> Self {
        let since = Instant::now();
        Self { skip: PREFACE_BYTES, head: [0; HEAD_BYTES], head_bytes: 0, count: 0, since }
    }

    /// Goes on with what has come.
    pub(super) fn spend(&mut self, mut bytes: &[u8]) -> Result<(), Flood> {
        while !bytes.is_empty() {
            if self.skip > 0 {
                let skipped = self.skip.min(bytes.len());
                self.skip -= skipped;
                bytes = bytes.get(skipped..).unwrap_or_default();
                continue;
            }
            for (kept, byte) in self.head.iter_mut().skip(self.head_bytes).zip(bytes) {
                *kept = *byte;
            }
            let taken = (HEAD_BYTES - self.head_bytes).min(bytes.len());
            self.head_bytes += taken;
            bytes = bytes.get(taken..).unwrap_or_default();
            if self.head_bytes == HEAD_BYTES {
                self.head_bytes = 0;
                let [high, middle, low, kind, ..] = self.head;
                self.skip = usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low);
                if !EARNED.contains(&kind) {
                    self.count()?;
                }
            }
        }
        Ok(())
    }

    fn count(&mut self) -> Result<(), Flood> {
        self.count += 1;
        if self.count <= FRAMES_MAX {
            return Ok(());
        }
        if self.since.elapsed() < PERIOD {
            return Err(Flood);
        }
        (self.count, self.since) = (1, Instant::now());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    const PREFACE: &[u8; PREFACE_BYTES] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    const PING: [u8; 17] = [0, 0, 8, 6, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8];

    /// A DATA frame whose content looks like PING frames.
    fn data() -> Vec<u8> {
        [&[0, 0, 34, DATA, 0, 0, 0, 0, 1], &PING[..], &PING[..]].concat()
    }

    #[tokio::test(start_paused = true)]
    async fn frames_are_counted_however_they_are_cut() {
        let frames = [&PREFACE[..], &PING, &data(), &PING, &data()].concat();
        for size in 1..=frames.len() {
            let mut budget = FrameBudget::new();
            frames.chunks(size).for_each(|chunk| budget.spend(chunk).unwrap());
            assert_eq!(budget.count, 2, "in chunks of {size}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_flood_is_one_and_a_busy_client_is_none() {
        let mut budget = FrameBudget::new();
        budget.spend(PREFACE).unwrap();
        for _ in 0..5 {
            (0..FRAMES_MAX).for_each(|_| budget.spend(&PING).unwrap());
            advance(PERIOD).await;
        }
        (0..FRAMES_MAX).for_each(|_| budget.spend(&PING).unwrap());
        (0..FRAMES_MAX).for_each(|_| budget.spend(&data()).unwrap());
        budget.spend(&PING).unwrap_err();
    }
}
