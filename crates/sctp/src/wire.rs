//! SCTP packets as bytes, both ways: the part of RFC 9260 §3 and its extensions that WebRTC speaks (RFC 8831).
//!
//! Pure and bounded: reading borrows from the datagram, looks at each byte once and never allocates; [`Writer`] appends
//! to a buffer that may hold other packets already. What a packet means, and whether it may come now, is the
//! association's to say: here is only whether it is well formed.
//!
//! Beside RFC 9260: I-DATA and I-FORWARD-TSN (RFC 8260), FORWARD-TSN (RFC 3758), RE-CONFIG (RFC 6525), PAD (RFC 4820),
//! the list of supported extensions (RFC 5061 §4.2.7) and the zero checksum (RFC 9653).

use std::iter::FusedIterator;

use thiserror::Error;

mod data;
mod init;
mod parameters;
mod reconfig;
mod sack;
pub mod serial;
#[cfg(test)]
mod tests;
mod writer;

pub use data::{Data, ForwardTsn, Sequence, Skipped};
pub use init::{Init, InitFields, Unrecognised};
pub use reconfig::{Outcome, Reconfig, Reset, Streams};
pub use sack::Sack;
pub use writer::Writer;

use parameters::{Parameters, Truncated};

/// Bytes before the first chunk: ports, verification tag and checksum (RFC 9260 §3.1).
pub const COMMON_HEADER_BYTES: usize = 12;

/// Bytes of a DATA chunk before its payload (RFC 9260 §3.3.1).
pub const DATA_HEADER_BYTES: usize = 16;

/// Bytes of an I-DATA chunk before its payload (RFC 8260 §2.1).
pub const I_DATA_HEADER_BYTES: usize = 20;

/// Kind, flags and length (RFC 9260 §3.2).
const CHUNK_HEADER_BYTES: usize = 4;

/// The T bit of ABORT and SHUTDOWN COMPLETE: the tag is the receiver's own, sent back (RFC 9260 §8.5.1).
const REFLECTED: u8 = 0x01;

/// The parameter that HEARTBEAT and HEARTBEAT ACK carry (RFC 9260 §3.3.5).
const HEARTBEAT_INFO: u16 = 1;

/// Kinds of chunk.
mod kind {
    pub(super) const DATA: u8 = 0;
    pub(super) const INIT: u8 = 1;
    pub(super) const INIT_ACK: u8 = 2;
    pub(super) const SACK: u8 = 3;
    pub(super) const HEARTBEAT: u8 = 4;
    pub(super) const HEARTBEAT_ACK: u8 = 5;
    pub(super) const ABORT: u8 = 6;
    pub(super) const SHUTDOWN: u8 = 7;
    pub(super) const SHUTDOWN_ACK: u8 = 8;
    pub(super) const ERROR: u8 = 9;
    pub(super) const COOKIE_ECHO: u8 = 10;
    pub(super) const COOKIE_ACK: u8 = 11;
    pub(super) const SHUTDOWN_COMPLETE: u8 = 14;
    pub(super) const I_DATA: u8 = 64;
    pub(super) const RECONFIG: u8 = 130;
    pub(super) const PAD: u8 = 132;
    pub(super) const FORWARD_TSN: u8 = 192;
    pub(super) const I_FORWARD_TSN: u8 = 194;
}

/// Error causes that we send or look for (RFC 9260 §3.3.10).
pub mod cause {
    /// A stream that was not agreed on; stream and two zero bytes.
    pub const INVALID_STREAM: u16 = 1;
    /// An INIT or INIT ACK that lacks a parameter.
    pub const MISSING_PARAMETER: u16 = 2;
    /// A state cookie that came too late; by how many microseconds.
    pub const STALE_COOKIE: u16 = 3;
    /// Nothing is left to keep another association with.
    pub const OUT_OF_RESOURCE: u16 = 4;
    /// A chunk whose kind wants to be reported; all of it.
    pub const UNRECOGNISED_CHUNK: u16 = 6;
    /// An INIT or INIT ACK with zero where that is not allowed.
    pub const INVALID_PARAMETER: u16 = 7;
    /// Parameters of an INIT ACK that want to be reported; all of them.
    pub const UNRECOGNISED_PARAMETERS: u16 = 8;
    /// A DATA chunk without payload; its TSN.
    pub const NO_USER_DATA: u16 = 9;
    /// A state cookie came while we shut down.
    pub const COOKIE_WHILE_SHUTTING_DOWN: u16 = 10;
    /// The application above wants it; a text.
    pub const USER_ABORT: u16 = 12;
    /// A peer that breaks the protocol; a text.
    pub const PROTOCOL_VIOLATION: u16 = 13;
}

/// Why bytes are not what they should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Error)]
pub enum Malformed {
    /// Too short to be a packet.
    #[error("no SCTP header")]
    Header,
    /// Neither the right CRC32c nor a zero where that is agreed on.
    #[error("wrong checksum")]
    Checksum,
    /// A chunk that is shorter than its header, or runs out of the packet.
    #[error("a chunk that does not fit into its packet")]
    Length,
    /// A chunk of this kind whose content is not as its kind says.
    #[error("malformed chunk of kind {0}")]
    Chunk(u8),
    /// A DATA or I-DATA chunk without payload, which ends an association (RFC 9260 §6.2).
    #[error("no payload at TSN {tsn}")]
    EmptyData {
        /// The chunk's number, which the ABORT repeats.
        tsn: u32,
    },
}

/// A packet that is well formed as far as its header and checksum go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packet<'a> {
    /// The sender's port.
    pub source_port: u16,
    /// The receiver's port.
    pub destination_port: u16,
    /// The verification tag (RFC 9260 §8.5).
    pub tag: u32,
    chunks: &'a [u8],
}

impl<'a> Packet<'a> {
    /// Reads one packet. The right CRC32c is always taken; with `zero_checksum` zero is, too, and costs nothing
    /// (RFC 9653 §5.3).
    ///
    /// # Errors
    ///
    /// When it is too short or its checksum is wrong.
    pub fn parse(bytes: &'a [u8], zero_checksum: bool) -> Result<Self, Malformed> {
        let (header, chunks) = bytes.split_first_chunk::<COMMON_HEADER_BYTES>().ok_or(Malformed::Header)?;
        let [s0, s1, d0, d1, t0, t1, t2, t3, told @ ..] = *header;
        let is_unseen = zero_checksum && told == [0; 4];
        if !is_unseen && told != checksum_of(header, chunks) {
            return Err(Malformed::Checksum);
        }
        Ok(Self {
            source_port: u16::from_be_bytes([s0, s1]),
            destination_port: u16::from_be_bytes([d0, d1]),
            tag: u32::from_be_bytes([t0, t1, t2, t3]),
            chunks,
        })
    }

    /// Its chunks in order, as far as they are well formed: the first that is not comes as an error and is the last.
    #[must_use]
    pub const fn chunks(&self) -> Chunks<'a> {
        Chunks { rest: self.chunks }
    }
}

/// The checksum of a packet as it stands in the packet: CRC32c with zero in its own place, least significant byte
/// first (RFC 9260, appendix A).
fn checksum_of(header: &[u8; COMMON_HEADER_BYTES], chunks: &[u8]) -> [u8; 4] {
    let [ports_and_tag @ .., _, _, _, _] = *header;
    let [a, b, c, d, e, f, g, h] = ports_and_tag;
    let crc = crc32c::crc32c(&[a, b, c, d, e, f, g, h, 0, 0, 0, 0]);
    crc32c::crc32c_append(crc, chunks).to_le_bytes()
}

/// The chunks of one packet.
#[derive(Debug, Clone)]
pub struct Chunks<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Chunks<'a> {
    type Item = Result<Chunk<'a>, Malformed>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let chunk = self.read();
        if chunk.is_err() {
            self.rest = &[];
        }
        Some(chunk)
    }
}

impl FusedIterator for Chunks<'_> {}

impl<'a> Chunks<'a> {
    #[inline]
    fn read(&mut self) -> Result<Chunk<'a>, Malformed> {
        let (&[kind, flags, l0, l1], _) =
            self.rest.split_first_chunk::<CHUNK_HEADER_BYTES>().ok_or(Malformed::Length)?;
        let length = usize::from(u16::from_be_bytes([l0, l1]));
        let whole = self.rest.get(..length).ok_or(Malformed::Length)?;
        let body = whole.get(CHUNK_HEADER_BYTES..).ok_or(Malformed::Length)?;
        // The last chunk's padding is sometimes left out.
        self.rest = self.rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Chunk::parse(kind, flags, body, whole)
    }
}

/// One chunk, borrowed from its datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Chunk<'a> {
    /// DATA or I-DATA: payload.
    Data(Data<'a>),
    /// INIT: let us begin.
    Init(Init<'a>),
    /// INIT ACK: the answer, with a cookie.
    InitAck(Init<'a>),
    /// SACK: what has arrived.
    Sack(Sack<'a>),
    /// HEARTBEAT, with the opaque content that the answer must repeat.
    Heartbeat(&'a [u8]),
    /// HEARTBEAT ACK, with what our HEARTBEAT carried.
    HeartbeatAck(&'a [u8]),
    /// ABORT: the end.
    Abort {
        /// The first cause, if one is given.
        cause: Option<Cause<'a>>,
        /// The T bit: the packet's tag is the receiver's own, sent back.
        is_reflected: bool,
    },
    /// ERROR: something was wrong, and we go on.
    Error {
        /// The first cause, if one is given.
        cause: Option<Cause<'a>>,
    },
    /// SHUTDOWN, with the sender's cumulative TSN.
    Shutdown(u32),
    /// SHUTDOWN ACK.
    ShutdownAck,
    /// SHUTDOWN COMPLETE.
    ShutdownComplete {
        /// The T bit: the packet's tag is the receiver's own, sent back.
        is_reflected: bool,
    },
    /// COOKIE ECHO, with the cookie.
    CookieEcho(&'a [u8]),
    /// COOKIE ACK.
    CookieAck,
    /// FORWARD-TSN or I-FORWARD-TSN: what will never come.
    ForwardTsn(ForwardTsn<'a>),
    /// RE-CONFIG: streams are reset.
    Reconfig(Reconfig<'a>),
    /// PAD: nothing, at some length.
    Pad,
    /// A chunk we do not know.
    Unknown(Unknown<'a>),
}

impl<'a> Chunk<'a> {
    #[inline]
    fn parse(kind: u8, flags: u8, body: &'a [u8], whole: &'a [u8]) -> Result<Self, Malformed> {
        let chunk = match kind {
            kind::DATA => return Data::parse(flags, body).map(Self::Data),
            kind::I_DATA => return Data::parse_interleaved(flags, body).map(Self::Data),
            kind::SACK => Sack::parse(body).map(Self::Sack),
            kind::FORWARD_TSN => ForwardTsn::parse(body, false).map(Self::ForwardTsn),
            kind::I_FORWARD_TSN => ForwardTsn::parse(body, true).map(Self::ForwardTsn),
            _ => Self::parse_seldom(kind, flags, body, whole),
        };
        chunk.ok_or(Malformed::Chunk(kind))
    }

    /// Out of the way of what comes ten thousand times a second.
    #[inline(never)]
    fn parse_seldom(kind: u8, flags: u8, body: &'a [u8], whole: &'a [u8]) -> Option<Self> {
        let is_reflected = flags & REFLECTED != 0;
        let empty = |chunk: Self| body.is_empty().then_some(chunk);
        match kind {
            kind::INIT => Init::parse(body).map(Self::Init),
            kind::INIT_ACK => Init::parse(body).map(Self::InitAck),
            kind::HEARTBEAT => heartbeat(body).map(Self::Heartbeat),
            kind::HEARTBEAT_ACK => heartbeat(body).map(Self::HeartbeatAck),
            kind::ABORT => Cause::first(body).ok().map(|cause| Self::Abort { cause, is_reflected }),
            kind::ERROR => Cause::first(body).ok().map(|cause| Self::Error { cause }),
            kind::SHUTDOWN => body.try_into().ok().map(|tsn| Self::Shutdown(u32::from_be_bytes(tsn))),
            kind::SHUTDOWN_ACK => empty(Self::ShutdownAck),
            kind::SHUTDOWN_COMPLETE => empty(Self::ShutdownComplete { is_reflected }),
            kind::COOKIE_ECHO => Some(Self::CookieEcho(body)),
            kind::COOKIE_ACK => empty(Self::CookieAck),
            kind::RECONFIG => Reconfig::parse(body).map(Self::Reconfig),
            kind::PAD => Some(Self::Pad),
            _ => Some(Self::Unknown(Unknown { kind, whole })),
        }
    }
}

fn heartbeat(body: &[u8]) -> Option<&[u8]> {
    let parameter = Parameters::new(body).next()?.ok()?;
    (parameter.kind == HEARTBEAT_INFO).then_some(parameter.value())
}

/// Why an ABORT or ERROR came (RFC 9260 §3.3.10).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cause<'a> {
    /// One of [`cause`], or another.
    pub code: u16,
    /// What the code has to say, in its own form. From outside: no text that could be trusted.
    pub value: &'a [u8],
}

impl<'a> Cause<'a> {
    /// The first of a list in which every cause is well formed.
    fn first(body: &'a [u8]) -> Result<Option<Self>, Truncated> {
        let mut first = None;
        for cause in Parameters::new(body) {
            let cause = cause?;
            first.get_or_insert(Self { code: cause.kind, value: cause.value() });
        }
        Ok(first)
    }
}

/// A chunk we do not know. Its kind says what to do (RFC 9260 §3.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unknown<'a> {
    /// Its kind.
    pub kind: u8,
    /// All of it with its header, without padding: what a report repeats.
    pub whole: &'a [u8],
}

impl Unknown<'_> {
    /// The rest of its packet must be left unread.
    #[must_use]
    pub const fn is_stop(&self) -> bool {
        self.kind & 0x80 == 0
    }

    /// The sender wants to hear of it in an ERROR ([`cause::UNRECOGNISED_CHUNK`]).
    #[must_use]
    pub const fn is_report(&self) -> bool {
        self.kind & 0x40 != 0
    }
}
