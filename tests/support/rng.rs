//! Random numbers that a failing run can repeat.

/// A small generator (`SplitMix64`).
#[derive(Debug, Clone)]
pub struct Rng(u64);

impl Rng {
    /// One of many of a test whose own seed is printed, or need not be.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Seeded by the variable `SEED`, or by this test's own number. Prints which, for the log of a failure.
    pub fn seeded(usual: u64) -> Self {
        let seed = std::env::var("SEED").ok().map_or(usual, |seed| seed.parse().expect("SEED is a number"));
        eprintln!("SEED={seed}");
        Self(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// From `low` to `high`, both included.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.next() % (high - low + 1)
    }
}
