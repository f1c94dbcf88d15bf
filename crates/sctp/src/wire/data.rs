//! Payload, and payload that will never come: DATA (RFC 9260 §3.3.1), I-DATA (RFC 8260 §2.1), FORWARD-TSN
//! (RFC 3758 §3.2) and I-FORWARD-TSN (RFC 8260 §2.3.1).

use super::{DATA_HEADER_BYTES, I_DATA_HEADER_BYTES, Malformed, kind};

const ENDS: u8 = 0x01;
const BEGINS: u8 = 0x02;
const UNORDERED: u8 = 0x04;
const IMMEDIATE: u8 = 0x08;

/// A DATA or I-DATA chunk: a message, or a fragment of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Data<'a> {
    /// Its number in the association.
    pub tsn: u32,
    /// Its stream.
    pub stream: u16,
    /// What the payload is (RFC 8831 §8); 0 for all but the first fragment in an I-DATA chunk.
    pub ppi: u32,
    /// It is the first fragment of its message.
    pub begins: bool,
    /// It is the last fragment of its message.
    pub ends: bool,
    /// Its message may overtake others.
    pub is_unordered: bool,
    /// The sender asks for a SACK at once (RFC 9260 §3.3.1, the I bit).
    pub is_immediate: bool,
    /// Where it belongs in its stream; also says whether it is DATA or I-DATA.
    pub sequence: Sequence,
    /// What is carried; never empty.
    pub payload: &'a [u8],
}

/// Where a fragment belongs in its stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Sequence {
    /// Of DATA: the number of the message among the stream's ordered ones.
    Ssn(u16),
    /// Of I-DATA.
    Mid {
        /// The number of the message among the stream's ordered or unordered ones.
        mid: u32,
        /// The number of the fragment in the message; the first is 0, and has no room to say so.
        fsn: u32,
    },
}

impl<'a> Data<'a> {
    /// Bytes of the chunk before its payload.
    #[must_use]
    pub const fn header_bytes(&self) -> usize {
        match self.sequence {
            Sequence::Ssn(_) => DATA_HEADER_BYTES,
            Sequence::Mid { .. } => I_DATA_HEADER_BYTES,
        }
    }

    #[inline]
    pub(super) fn parse(flags: u8, body: &'a [u8]) -> Result<Self, Malformed> {
        let (header, payload) = body.split_first_chunk::<12>().ok_or(Malformed::Chunk(kind::DATA))?;
        let [t0, t1, t2, t3, i0, i1, s0, s1, p0, p1, p2, p3] = *header;
        Self {
            tsn: u32::from_be_bytes([t0, t1, t2, t3]),
            stream: u16::from_be_bytes([i0, i1]),
            ppi: u32::from_be_bytes([p0, p1, p2, p3]),
            begins: flags & BEGINS != 0,
            ends: flags & ENDS != 0,
            is_unordered: flags & UNORDERED != 0,
            is_immediate: flags & IMMEDIATE != 0,
            sequence: Sequence::Ssn(u16::from_be_bytes([s0, s1])),
            payload,
        }
        .filled()
    }

    #[inline]
    pub(super) fn parse_interleaved(flags: u8, body: &'a [u8]) -> Result<Self, Malformed> {
        let (header, payload) = body.split_first_chunk::<16>().ok_or(Malformed::Chunk(kind::I_DATA))?;
        let [t0, t1, t2, t3, i0, i1, _, _, m0, m1, m2, m3, last @ ..] = *header;
        let (begins, last) = (flags & BEGINS != 0, u32::from_be_bytes(last));
        let (ppi, fsn) = if begins { (last, 0) } else { (0, last) };
        Self {
            tsn: u32::from_be_bytes([t0, t1, t2, t3]),
            stream: u16::from_be_bytes([i0, i1]),
            ppi,
            begins,
            ends: flags & ENDS != 0,
            is_unordered: flags & UNORDERED != 0,
            is_immediate: flags & IMMEDIATE != 0,
            sequence: Sequence::Mid { mid: u32::from_be_bytes([m0, m1, m2, m3]), fsn },
            payload,
        }
        .filled()
    }

    #[inline]
    const fn filled(self) -> Result<Self, Malformed> {
        if self.payload.is_empty() { Err(Malformed::EmptyData { tsn: self.tsn }) } else { Ok(self) }
    }

    #[inline]
    pub(super) fn flags(&self) -> u8 {
        let bit = |is_set: bool, bit: u8| if is_set { bit } else { 0 };
        bit(self.begins, BEGINS)
            | bit(self.ends, ENDS)
            | bit(self.is_unordered, UNORDERED)
            | bit(self.is_immediate, IMMEDIATE)
    }
}

/// A FORWARD-TSN or I-FORWARD-TSN chunk: the receiver shall not wait any longer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ForwardTsn<'a> {
    /// Everything up to this TSN counts as received.
    pub cumulative: u32,
    /// It is an I-FORWARD-TSN.
    pub is_interleaved: bool,
    entries: &'a [u8],
}

/// The newest message of a stream that will not come, or not whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Skipped {
    /// The stream.
    pub stream: u16,
    /// Whether it is one of the stream's unordered messages; FORWARD-TSN names only ordered ones.
    pub is_unordered: bool,
    /// The message; its `fsn` is 0 and says nothing.
    pub sequence: Sequence,
}

/// The U bit of an entry of I-FORWARD-TSN.
pub(super) const SKIPPED_UNORDERED: u16 = 0x0001;

impl<'a> ForwardTsn<'a> {
    pub(super) fn parse(body: &'a [u8], is_interleaved: bool) -> Option<Self> {
        let (tsn, entries) = body.split_first_chunk::<4>()?;
        let entry_bytes = if is_interleaved { 8 } else { 4 };
        let cumulative = u32::from_be_bytes(*tsn);
        entries.len().is_multiple_of(entry_bytes).then_some(Self { cumulative, is_interleaved, entries })
    }

    /// The newest message skipped of each stream, in the order in which they are listed.
    pub fn skipped(&self) -> impl Iterator<Item = Skipped> + use<'a> {
        let (plain, interleaved) =
            if self.is_interleaved { (&[][..], self.entries) } else { (self.entries, &[][..]) };
        let plain = plain.as_chunks::<4>().0.iter().map(|&[i0, i1, s0, s1]| Skipped {
            stream: u16::from_be_bytes([i0, i1]),
            is_unordered: false,
            sequence: Sequence::Ssn(u16::from_be_bytes([s0, s1])),
        });
        let interleaved = interleaved.as_chunks::<8>().0.iter();
        plain.chain(interleaved.map(|&[i0, i1, f0, f1, mid @ ..]| Skipped {
            stream: u16::from_be_bytes([i0, i1]),
            is_unordered: u16::from_be_bytes([f0, f1]) & SKIPPED_UNORDERED != 0,
            sequence: Sequence::Mid { mid: u32::from_be_bytes(mid), fsn: 0 },
        }))
    }
}
