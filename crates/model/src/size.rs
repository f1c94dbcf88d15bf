//! How media is sliced, and how fast it flows.

use core::fmt;

/// Bytes in a piece: the unit that travels and is verified. The last piece of a part may be shorter.
pub const PIECE_BYTES: u32 = 64 * 1024;

/// Pieces in one part at most: 16 MiB, a 10 s segment of 13 Mbit/s that is one part. Bounds a record at 8 KiB of
/// hashes.
pub const PIECES_PER_PART_MAX: u32 = 256;

/// Bytes in one part at most.
pub const PART_BYTES_MAX: u32 = PIECE_BYTES * PIECES_PER_PART_MAX;

/// Pieces in a part of `part_bytes`.
#[must_use]
pub const fn piece_count(part_bytes: u32) -> u32 {
    part_bytes.div_ceil(PIECE_BYTES)
}

/// Bytes in piece `index` of a part of `part_bytes`; 0 when the part has no such piece.
#[must_use]
pub const fn piece_len(part_bytes: u32, index: u32) -> u32 {
    let start = index as u64 * PIECE_BYTES as u64;
    if start >= part_bytes as u64 {
        return 0;
    }
    let left = part_bytes - index * PIECE_BYTES;
    if left < PIECE_BYTES { left } else { PIECE_BYTES }
}

/// A rate in bits per second.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
)]
#[serde(transparent)]
pub struct BitRate(pub u64);

impl BitRate {
    /// Bytes that flow in `millis` milliseconds at this rate, rounded up.
    #[must_use]
    pub const fn bytes_in_ms(self, millis: u64) -> u64 {
        self.0.saturating_mul(millis).div_ceil(8_000)
    }
}

impl fmt::Display for BitRate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bit/s", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_cover_a_part_without_overlap() {
        for bytes in [1, PIECE_BYTES - 1, PIECE_BYTES, PIECE_BYTES + 1, PART_BYTES_MAX] {
            let sum: u64 = (0..piece_count(bytes)).map(|i| u64::from(piece_len(bytes, i))).sum();
            assert_eq!(sum, u64::from(bytes));
            assert_eq!(piece_len(bytes, piece_count(bytes)), 0);
        }
        assert_eq!(piece_len(0, 0), 0);
        assert_eq!(piece_len(1, u32::MAX), 0);
    }

    #[test]
    fn a_rate_gives_bytes() {
        assert_eq!(BitRate(8_000).bytes_in_ms(1_000), 1_000);
        assert_eq!(BitRate(1).bytes_in_ms(1), 1);
    }
}
