//! Peer frames: what edges, viewers and origins say to each other about media, and how feeds are framed.
//!
//! ```text
//! viewer -> edge   Hello, Subscribe, Request, Cancel, Grant, Voucher, Ping       (control channel)
//! edge -> viewer   Welcome | Refuse, Delegation, Catalog, Record, Gap, Missing, Goaway, Pong (control channel)
//!                  Piece                                                         (pieces channel)
//! origin -> edge   Delegation, Catalog, Record, Piece, Gap                       (feed: frames behind lengths)
//! ```
//!
//! On a data channel one message is one frame. In an HTTP body each frame stands behind its length as four bytes.

use alloc::string::String;

use bytes::{Buf as _, Bytes, BytesMut};
use millstream_model::{PIECE_BYTES, PIECES_PER_PART_MAX, RenditionId};

use crate::{
    codec::{Error, Reader, VARINT_MAX, Writer},
    media::{Catalog, Delegation, Record},
    session::{Grant, Hello, Voucher},
    sign::Signed,
};

/// Version of the peer protocol that a hello asks for.
pub const PROTOCOL: u16 = 1;

/// Bytes of one frame at most: a whole piece and the fields before it, or a catalog of 7 renditions with init
/// segments of full size (in practice they have 1 KiB).
pub const FRAME_BYTES_MAX: usize = PIECE_BYTES as usize + 64;

/// Bytes of a refusal's or farewell's text at most.
pub const TEXT_BYTES_MAX: usize = 200;

/// What a viewer wants of a rendition without asking for each piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Subscription {
    /// Nothing more.
    Nothing,
    /// Records: this edge stands by.
    Records,
    /// Records and every piece: this edge is the rendition's primary.
    Pieces,
}

/// Why a frame's sender turns its peer away. The number is what travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Reason {
    /// Another version of the protocol is spoken here.
    Protocol = 1,
    /// A frame could not be read, or had no place in the conversation.
    Malformed = 2,
    /// The grant is missing, expired, for another edge, or not by this edge's tracker.
    Grant = 3,
    /// The hello is not signed by the grant's key, or not for this connection.
    Hello = 4,
    /// The edge does not carry the stream, or cannot reach its origin.
    Stream = 5,
    /// No room.
    Full = 6,
    /// What was sent has not been vouched for.
    Unpaid = 7,
    /// The lane's byte cap is used up.
    Cap = 8,
    /// The node is shutting down.
    Shutdown = 9,
    /// Pieces or records did not verify.
    Bad = 10,
    /// Nothing was heard for too long.
    Silence = 11,
}

impl Reason {
    const fn read(byte: u8) -> Option<Self> {
        Some(match byte {
            1 => Self::Protocol,
            2 => Self::Malformed,
            3 => Self::Grant,
            4 => Self::Hello,
            5 => Self::Stream,
            6 => Self::Full,
            7 => Self::Unpaid,
            8 => Self::Cap,
            9 => Self::Shutdown,
            10 => Self::Bad,
            11 => Self::Silence,
            _ => return None,
        })
    }
}

/// A run of pieces of one part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Span {
    /// The rendition.
    pub rendition: RenditionId,
    /// The record's number.
    pub number: u64,
    /// The first piece.
    pub first: u32,
    /// How many pieces, at least 1.
    pub count: u32,
}

/// One frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// Opens the conversation: permission, and proof that the session speaks.
    Hello {
        /// The version asked for.
        protocol: u16,
        /// The lane's grant.
        grant: Signed<Grant>,
        /// Proof for this connection.
        hello: Signed<Hello>,
    },
    /// The edge accepts.
    Welcome {
        /// The version spoken.
        protocol: u16,
        /// Bytes the edge sends at most beyond what vouchers have acknowledged.
        window: u32,
    },
    /// The sender will not go on; the connection closes.
    Refuse {
        /// Why.
        reason: Reason,
        /// For people.
        text: String,
    },
    /// The sender will close soon: move elsewhere.
    Goaway {
        /// Why.
        reason: Reason,
        /// Milliseconds until it closes.
        within_ms: u32,
    },
    /// A delegation.
    Delegation(Signed<Delegation>),
    /// A catalog.
    Catalog(Signed<Catalog>),
    /// A record.
    Record(Signed<Record>),
    /// A piece.
    Piece {
        /// The rendition.
        rendition: RenditionId,
        /// The record's number.
        number: u64,
        /// The piece's index in its part.
        index: u32,
        /// Its bytes.
        data: Bytes,
    },
    /// The sender skipped records: it was too slow or came back after a break.
    Gap {
        /// The rendition.
        rendition: RenditionId,
        /// The first record skipped.
        from: u64,
        /// The next record that follows.
        next: u64,
    },
    /// The sender does not have these pieces.
    Missing(Span),
    /// What the sender wants pushed.
    Subscribe {
        /// The rendition.
        rendition: RenditionId,
        /// What of it.
        want: Subscription,
        /// The first record wanted; 0 for the newest segment's first.
        from: u64,
    },
    /// Asks for pieces.
    Request(Span),
    /// Takes back requests for a part.
    Cancel {
        /// The rendition.
        rendition: RenditionId,
        /// The record's number.
        number: u64,
    },
    /// A renewed grant.
    Grant(Signed<Grant>),
    /// A voucher.
    Voucher(Signed<Voucher>),
    /// Asks for a [`Frame::Pong`] with the same value.
    Ping(u64),
    /// Answers a [`Frame::Ping`].
    Pong(u64),
}

mod kind {
    pub(super) const HELLO: u8 = 0x01;
    pub(super) const WELCOME: u8 = 0x02;
    pub(super) const REFUSE: u8 = 0x03;
    pub(super) const GOAWAY: u8 = 0x04;
    pub(super) const DELEGATION: u8 = 0x10;
    pub(super) const CATALOG: u8 = 0x11;
    pub(super) const RECORD: u8 = 0x12;
    pub(super) const PIECE: u8 = 0x13;
    pub(super) const GAP: u8 = 0x14;
    pub(super) const MISSING: u8 = 0x15;
    pub(super) const SUBSCRIBE: u8 = 0x20;
    pub(super) const REQUEST: u8 = 0x21;
    pub(super) const CANCEL: u8 = 0x22;
    pub(super) const GRANT: u8 = 0x30;
    pub(super) const VOUCHER: u8 = 0x31;
    pub(super) const PING: u8 = 0x40;
    pub(super) const PONG: u8 = 0x41;
}

/// Bytes of a signed object inside a hello at most: a grant has some 250.
const SIGNED_BYTES_MAX: usize = 1_024;

impl Frame {
    /// Writes the frame as one message.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut w = Writer::with_capacity(64);
        match self {
            Self::Hello { protocol, grant, hello } => {
                w.u8(kind::HELLO);
                w.u16(*protocol);
                w.bytes(grant.bytes());
                w.bytes(hello.bytes());
            }
            Self::Welcome { protocol, window } => {
                w.u8(kind::WELCOME);
                w.u16(*protocol);
                w.u32(*window);
            }
            Self::Refuse { reason, text } => {
                w.u8(kind::REFUSE);
                w.u8(*reason as u8);
                w.bytes(clip(text).as_bytes());
            }
            Self::Goaway { reason, within_ms } => {
                w.u8(kind::GOAWAY);
                w.u8(*reason as u8);
                w.u32(*within_ms);
            }
            Self::Delegation(signed) => signed_frame(&mut w, kind::DELEGATION, signed.bytes()),
            Self::Catalog(signed) => signed_frame(&mut w, kind::CATALOG, signed.bytes()),
            Self::Record(signed) => signed_frame(&mut w, kind::RECORD, signed.bytes()),
            Self::Grant(signed) => signed_frame(&mut w, kind::GRANT, signed.bytes()),
            Self::Voucher(signed) => signed_frame(&mut w, kind::VOUCHER, signed.bytes()),
            Self::Piece { rendition, number, index, data } => {
                w = Writer::with_capacity(data.len() + 16);
                w.u8(kind::PIECE);
                w.u8(rendition.0);
                w.varint(*number);
                w.varint(u64::from(*index));
                w.raw(data);
            }
            Self::Gap { rendition, from, next } => {
                w.u8(kind::GAP);
                w.u8(rendition.0);
                w.varint(*from);
                w.varint(*next);
            }
            Self::Missing(span) => span_frame(&mut w, kind::MISSING, span),
            Self::Request(span) => span_frame(&mut w, kind::REQUEST, span),
            Self::Subscribe { rendition, want, from } => {
                w.u8(kind::SUBSCRIBE);
                w.u8(rendition.0);
                w.u8(match want {
                    Subscription::Nothing => 0,
                    Subscription::Records => 1,
                    Subscription::Pieces => 2,
                });
                w.varint(*from);
            }
            Self::Cancel { rendition, number } => {
                w.u8(kind::CANCEL);
                w.u8(rendition.0);
                w.varint(*number);
            }
            Self::Ping(value) => {
                w.u8(kind::PING);
                w.u64(*value);
            }
            Self::Pong(value) => {
                w.u8(kind::PONG);
                w.u64(*value);
            }
        }
        w.finish()
    }

    /// Reads one message. A frame type from `0x80` on is an extension this side does not know: `None`.
    ///
    /// # Errors
    /// What is wrong with the bytes.
    pub fn decode(message: Bytes) -> Result<Option<Self>, Error> {
        Self::read::<true>(message)
    }

    /// The same for a frame from an edge or an origin: those that viewers alone say are refused. A browser does not load
    /// the code that reads them.
    ///
    /// # Errors
    /// As [`Frame::decode`].
    pub fn decode_downstream(message: Bytes) -> Result<Option<Self>, Error> {
        Self::read::<false>(message)
    }

    fn read<const VIEWERS_TOO: bool>(message: Bytes) -> Result<Option<Self>, Error> {
        if message.len() > FRAME_BYTES_MAX {
            return Err(Error::Over {
                what: "frame",
                got: message.len() as u64,
                max: FRAME_BYTES_MAX as u64,
            });
        }
        let mut r = Reader::new(message);
        let frame = match r.u8("frame type")? {
            kind::HELLO if VIEWERS_TOO => Self::Hello {
                protocol: r.u16("protocol")?,
                grant: Signed::decode(r.bytes("grant", SIGNED_BYTES_MAX)?)?,
                hello: Signed::decode(r.bytes("hello", SIGNED_BYTES_MAX)?)?,
            },
            kind::WELCOME => Self::Welcome { protocol: r.u16("protocol")?, window: r.u32("window")? },
            kind::REFUSE => {
                Self::Refuse { reason: read_reason(&mut r)?, text: r.text("text", TEXT_BYTES_MAX)? }
            }
            kind::GOAWAY => Self::Goaway { reason: read_reason(&mut r)?, within_ms: r.u32("within")? },
            kind::DELEGATION => Self::Delegation(Signed::decode(r.rest())?),
            kind::CATALOG => Self::Catalog(Signed::decode(r.rest())?),
            kind::RECORD => Self::Record(Signed::decode(r.rest())?),
            kind::GRANT if VIEWERS_TOO => Self::Grant(Signed::decode(r.rest())?),
            kind::VOUCHER if VIEWERS_TOO => Self::Voucher(Signed::decode(r.rest())?),
            kind::PIECE => {
                let rendition = RenditionId(r.u8("rendition")?);
                let number = r.varint("number", VARINT_MAX)?;
                let index = r.varint32("piece", PIECES_PER_PART_MAX - 1)?;
                let data = r.rest();
                if data.is_empty() || data.len() > PIECE_BYTES as usize {
                    return Err(Error::Value { what: "piece length", got: data.len() as u64 });
                }
                Self::Piece { rendition, number, index, data }
            }
            kind::GAP => Self::Gap {
                rendition: RenditionId(r.u8("rendition")?),
                from: r.varint("from", VARINT_MAX)?,
                next: r.varint("next", VARINT_MAX)?,
            },
            kind::MISSING => Self::Missing(read_span(&mut r)?),
            kind::REQUEST if VIEWERS_TOO => Self::Request(read_span(&mut r)?),
            kind::SUBSCRIBE if VIEWERS_TOO => Self::Subscribe {
                rendition: RenditionId(r.u8("rendition")?),
                want: match r.u8("subscription")? {
                    0 => Subscription::Nothing,
                    1 => Subscription::Records,
                    2 => Subscription::Pieces,
                    other => return Err(Error::Value { what: "subscription", got: u64::from(other) }),
                },
                from: r.varint("from", VARINT_MAX)?,
            },
            kind::CANCEL if VIEWERS_TOO => Self::Cancel {
                rendition: RenditionId(r.u8("rendition")?),
                number: r.varint("number", VARINT_MAX)?,
            },
            kind::PING => Self::Ping(r.u64("ping")?),
            kind::PONG => Self::Pong(r.u64("pong")?),
            0x80.. => return Ok(None),
            other => return Err(Error::Value { what: "frame type", got: u64::from(other) }),
        };
        r.end()?;
        Ok(Some(frame))
    }
}

fn signed_frame(writer: &mut Writer, kind: u8, signed: &Bytes) {
    writer.u8(kind);
    writer.raw(signed);
}

fn span_frame(writer: &mut Writer, kind: u8, span: &Span) {
    writer.u8(kind);
    writer.u8(span.rendition.0);
    writer.varint(span.number);
    writer.varint(u64::from(span.first));
    writer.varint(u64::from(span.count));
}

fn read_span(reader: &mut Reader) -> Result<Span, Error> {
    let rendition = RenditionId(reader.u8("rendition")?);
    let number = reader.varint("number", VARINT_MAX)?;
    let first = reader.varint32("first piece", PIECES_PER_PART_MAX - 1)?;
    let count = reader.varint32("piece count", PIECES_PER_PART_MAX - first)?;
    if count == 0 {
        return Err(Error::Value { what: "piece count", got: 0 });
    }
    Ok(Span { rendition, number, first, count })
}

fn read_reason(reader: &mut Reader) -> Result<Reason, Error> {
    let byte = reader.u8("reason")?;
    Reason::read(byte).ok_or(Error::Value { what: "reason", got: u64::from(byte) })
}

fn clip(text: &str) -> &str {
    let mut end = text.len().min(TEXT_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// Writes frames into an HTTP body: each behind its length.
pub fn write_framed(frame: &Bytes, body: &mut BytesMut) {
    let len = u32::try_from(frame.len()).unwrap_or(u32::MAX);
    body.extend_from_slice(&len.to_be_bytes());
    body.extend_from_slice(frame);
}

/// Reads frames from an HTTP body, a feed's or an answer's, that arrives in any slices. Holds less than one frame.
#[derive(Debug, Default)]
pub struct Deframer(BytesMut);

impl Deframer {
    /// Takes the next bytes of the body.
    pub fn push(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    /// The next whole frame; `None` until more bytes come.
    ///
    /// # Errors
    /// What is wrong with the frame. The body is of no use after that.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, Error> {
        loop {
            let Some(length) = self.0.first_chunk::<4>() else { return Ok(None) };
            let length = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
            if length > FRAME_BYTES_MAX {
                return Err(Error::Over { what: "frame", got: length as u64, max: FRAME_BYTES_MAX as u64 });
            }
            if self.0.len() < 4 + length {
                return Ok(None);
            }
            self.0.advance(4);
            if let Some(frame) = Frame::decode_downstream(self.0.split_to(length).freeze())? {
                return Ok(Some(frame));
            }
        }
    }
}
