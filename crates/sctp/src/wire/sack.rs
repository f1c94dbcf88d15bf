//! What has arrived: SACK (RFC 9260 §3.3.4).

/// A SACK chunk. Its gap blocks ascend and do not overlap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sack<'a> {
    /// Everything up to this TSN has arrived.
    pub cumulative: u32,
    /// Bytes that the receiver has room for.
    pub window: u32,
    gaps: &'a [u8],
    duplicates: &'a [u8],
}

impl<'a> Sack<'a> {
    #[inline]
    pub(super) fn parse(body: &'a [u8]) -> Option<Self> {
        let (header, rest) = body.split_first_chunk::<12>()?;
        let [c0, c1, c2, c3, w0, w1, w2, w3, g0, g1, d0, d1] = *header;
        let gap_bytes = 4 * usize::from(u16::from_be_bytes([g0, g1]));
        let duplicate_bytes = 4 * usize::from(u16::from_be_bytes([d0, d1]));
        let (gaps, duplicates) = rest.split_at_checked(gap_bytes)?;
        let sack = Self {
            cumulative: u32::from_be_bytes([c0, c1, c2, c3]),
            window: u32::from_be_bytes([w0, w1, w2, w3]),
            gaps,
            duplicates,
        };
        // Whoever walks the blocks may then go forwards only.
        let mut last = 0;
        for (start, end) in sack.gaps() {
            if start <= last || end < start {
                return None;
            }
            last = end;
        }
        (duplicates.len() == duplicate_bytes).then_some(sack)
    }

    /// Blocks of what has arrived beyond the cumulative TSN: first and last, both counted from there.
    #[inline]
    pub fn gaps(&self) -> impl ExactSizeIterator<Item = (u16, u16)> + DoubleEndedIterator + use<'a> {
        self.gaps
            .as_chunks::<4>()
            .0
            .iter()
            .map(|&[s0, s1, e0, e1]| (u16::from_be_bytes([s0, s1]), u16::from_be_bytes([e0, e1])))
    }

    /// The same blocks as they stand in the packet, 4 bytes each: to see whether anything has changed.
    #[must_use]
    pub const fn gap_bytes(&self) -> &'a [u8] {
        self.gaps
    }

    /// How many TSNs arrived again since the last SACK.
    #[must_use]
    pub const fn duplicates(&self) -> usize {
        self.duplicates.len() / 4
    }
}
