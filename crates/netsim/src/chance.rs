//! Chance from a seed (SplitMix64): the same seed, the same run, on every machine.

/// A stream of random numbers.
#[derive(Debug, Clone)]
pub struct Chance(u64);

/// Probabilities are in millionths.
const MILLION: u64 = 1_000_000;

impl Chance {
    /// The stream that belongs to `seed`.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`; zero when the bound is.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.draw().checked_rem(bound).unwrap_or(0)
    }

    /// True in `per_million` of a million cases.
    pub fn happens(&mut self, per_million: u32) -> bool {
        per_million > 0 && self.below(MILLION) < u64::from(per_million)
    }
}
