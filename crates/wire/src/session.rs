//! What binds a viewer, its edges and the tracker: certificate, grant, hello, voucher, receipt, token.

use millstream_model::{
    EdgeId, Fingerprint, Hash, Micros, Price, PublicKey, RenditionId, SessionId, SessionKey, StreamId,
    TrackerId, WallTime,
};

use crate::{
    codec::{Error, Reader, VARINT_MAX, Writer},
    media::read_stream,
    sign::Body,
};

/// The tracker's word that a session exists and which key speaks for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// The session.
    pub session: SessionId,
    /// The stream it watches.
    pub stream: StreamId,
    /// The viewer's key.
    pub key: SessionKey,
    /// When it was made.
    pub issued: WallTime,
    /// Until when it can be resumed.
    pub expires: WallTime,
}

impl Body for Certificate {
    const TAG: &'static str = "millstream certificate v1";
    type Key = PublicKey;

    fn write(&self, writer: &mut Writer) {
        writer.raw(self.session.as_bytes());
        writer.bytes(self.stream.as_str().as_bytes());
        writer.raw(self.key.as_bytes());
        writer.u64(self.issued.0);
        writer.u64(self.expires.0);
    }

    fn read(reader: &mut Reader) -> Result<Self, Error> {
        Ok(Self {
            session: SessionId(reader.fixed("session")?),
            stream: read_stream(reader)?,
            key: SessionKey(reader.fixed("session key")?),
            issued: WallTime(reader.u64("issued")?),
            expires: WallTime(reader.u64("expires")?),
        })
    }
}

/// The viewer's answer to a tracker's challenge when it resumes a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resume {
    /// The tracker that asked.
    pub tracker: TrackerId,
    /// The tracker's nonce of this connection.
    pub nonce: [u8; 16],
    /// The session.
    pub session: SessionId,
}

impl Body for Resume {
    const TAG: &'static str = "millstream resume v1";
    type Key = SessionKey;

    fn write(&self, writer: &mut Writer) {
        writer.raw(self.tracker.as_bytes());
        writer.raw(&self.nonce);
        writer.raw(self.session.as_bytes());
    }

    fn read(reader: &mut Reader) -> Result<Self, Error> {
        Ok(Self {
            tracker: PublicKey(reader.fixed("tracker")?),
            nonce: reader.fixed("nonce")?,
            session: SessionId(reader.fixed("session")?),
        })
    }
}

/// An edge's answer to a tracker's challenge when it registers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registration {
    /// The tracker that asked.
    pub tracker: TrackerId,
    /// The tracker's nonce of this connection.
    pub nonce: [u8; 16],
    /// The edge.
    pub edge: EdgeId,
    /// The certificate its data channels are served with.
    pub fingerprint: Fingerprint,
}

impl Body for Registration {
    const TAG: &'static str = "millstream registration v1";
    type Key = PublicKey;

    fn write(&self, writer: &mut Writer) {
        writer.raw(self.tracker.as_bytes());
        writer.raw(&self.nonce);
        writer.raw(self.edge.as_bytes());
        writer.raw(self.fingerprint.as_bytes());
    }

    fn read(reader: &mut Reader) -> Result<Self, Error> {
        Ok(Self {
            tracker: PublicKey(reader.fixed("tracker")?),
            nonce: reader.fixed("nonce")?,
            edge: PublicKey(reader.fixed("edge")?),
            fingerprint: Fingerprint(reader.fixed("fingerprint")?),
        })
    }
}

/// Who may fetch from the origin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bearer {
    /// A viewer's session.
    Session(SessionId),
    /// An edge, for feeds.
    Edge(EdgeId),
}

/// The tracker's permission to fetch a stream from its origin, for a short time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// The stream.
    pub stream: StreamId,
    /// Who.
    pub bearer: Bearer,
    /// Until when.
    pub expires: WallTime,
}

impl Body for Token {
    const TAG: &'static str = "millstream token v1";
    type Key = PublicKey;

    fn write(&self, writer: &mut Writer) {
        writer.bytes(self.stream.as_str().as_bytes());
        match self.bearer {
            Bearer::Session(session) => {
                writer.u8(1);
                writer.raw(session.as_bytes());
            }
            Bearer::Edge(edge) => {
                writer.u8(2);
                writer.raw(edge.as_bytes());
            }
        }
        writer.u64(self.expires.0);
    }

    fn read(reader: &mut Reader) -> Result<Self, Error> {
        let stream = read_stream(reader)?;
        let bearer = match reader.u8("bearer")? {
            1 => Bearer::Session(SessionId(reader.fixed("session")?)),
            2 => Bearer::Edge(PublicKey(reader.fixed("edge")?)),
            other => return Err(Error::Value { what: "bearer", got: u64::from(other) }),
        };
        Ok(Self { stream, bearer, expires: WallTime(reader.u64("expires")?) })
    }
}

/// The tracker's permission, with its reserved budget, for one lane: a session on an edge.
///
/// The cap counts the lane's bytes from its start, so an edge can hold it without asking anybody and two edges
/// can never spend the same reserve. A renewal has a higher serial and a cap at least as high.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// The tracker that pays.
    pub tracker: TrackerId,
    /// The session.
    pub session: SessionId,
    /// The session's key, which signs hello and vouchers.
    pub key: SessionKey,
    /// The stream.
    pub stream: StreamId,
    /// The edge.
    pub edge: EdgeId,
    /// Frozen for the lane's life.
    pub price: Price,
    /// Cumulative bytes of the lane that will be paid at most.
    pub cap_bytes: u64,
    /// Counts the lane's grants from 1.
    pub serial: u32,
    /// When it was made.
    pub issued: WallTime,
    /// Until when (tracker time); 15 minutes more while the tracker is out of reach.
    pub expires: WallTime,
}

impl Body for Grant {
    const TAG: &'static str = "millstream grant v1";
    type Key = PublicKey;

    fn write(&self, writer: &mut Writer) {
        writer.raw(self.tracker.as_bytes());
        writer.raw(self.session.as_bytes());
        writer.raw(self.key.as_bytes());
        writer.bytes(self.stream.as_str().as_bytes());
        writer.raw(self.edge.as_bytes());
        writer.u32(self.price.0);
        writer.varint(self.cap_bytes);
        writer.u32(self.serial);
        writer.u64(self.issued.0);
        writer.u64(self.expires.0);
    }

    fn read(reader: &mut Reader) -> Result<Self, Error> {
        Ok(Self {
            tracker: PublicKey(reader.fixed("tracker")?),
            session: SessionId(reader.fixed("session")?),
            key: SessionKey(reader.fixed("session key")?),
            stream: read_stream(reader)?,
            edge: PublicKey(reader.fixed("edge")?),
            price: Price(reader.u32("price")?),
            cap_bytes: reader.varint("cap", VARINT_MAX)?,
            serial: reader.u32("serial")?,
            issued: WallTime(reader.u64("issued")?),
            expires: WallTime(reader.u64("expires")?),
        })
    }
}

/// What a viewer proves to an edge right after the DTLS handshake: that the session's key speaks on this very
/// connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hello {
    /// The session.
    pub session: SessionId,
    /// The edge it means to talk to.
    pub edge: EdgeId,
    /// SHA-256 of the viewer's own DTLS certificate on this connection.
    pub fingerprint: Fingerprint,
}

impl Body for Hello {
    const TAG: &'static str = "millstream hello v1";
    type Key = SessionKey;

    fn write(&self, writer: &mut Writer) {
        writer.raw(self.session.as_bytes());
        writer.raw(self.edge.as_bytes());
        writer.raw(self.fingerprint.as_bytes());
    }

    fn read(reader: &mut Reader) -> Result<Self, Error> {
        Ok(Self {
            session: SessionId(reader.fixed("session")?),
            edge: PublicKey(reader.fixed("edge")?),
            fingerprint: Fingerprint(reader.fixed("fingerprint")?),
        })
    }
}

/// The viewer's statement of what one edge delivered on one lane since the lane began. Cumulative: the highest
/// counts, so losing or repeating one changes nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Voucher {
    /// The tracker that pays.
    pub tracker: TrackerId,
    /// The session.
    pub session: SessionId,
    /// The edge.
    pub edge: EdgeId,
    /// The stream.
    pub stream: StreamId,
    /// Verified bytes that this edge was the first to bring.
    pub payable: u64,
    /// All piece bytes that arrived from it, losing hedges included. At least `payable`.
    pub received: u64,
    /// Segments of which at least one payable piece came from it.
    pub segments: u64,
    /// Rendition of the newest payable piece.
    pub rendition: RenditionId,
    /// Record number of the newest payable piece.
    pub number: u64,
}

impl Body for Voucher {
    const TAG: &'static str = "millstream voucher v1";
    type Key = SessionKey;

    fn write(&self, writer: &mut Writer) {
        writer.raw(self.tracker.as_bytes());
        writer.raw(self.session.as_bytes());
        writer.raw(self.edge.as_bytes());
        writer.bytes(self.stream.as_str().as_bytes());
        writer.varint(self.payable);
        writer.varint(self.received);
        writer.varint(self.segments);
        writer.u8(self.rendition.0);
        writer.varint(self.number);
    }

    fn read(reader: &mut Reader) -> Result<Self, Error> {
        let voucher = Self {
            tracker: PublicKey(reader.fixed("tracker")?),
            session: SessionId(reader.fixed("session")?),
            edge: PublicKey(reader.fixed("edge")?),
            stream: read_stream(reader)?,
            payable: reader.varint("payable", VARINT_MAX)?,
            received: reader.varint("received", VARINT_MAX)?,
            segments: reader.varint("segments", VARINT_MAX)?,
            rendition: RenditionId(reader.u8("rendition")?),
            number: reader.varint("number", VARINT_MAX)?,
        };
        if voucher.payable > voucher.received {
            return Err(Error::Over { what: "payable", got: voucher.payable, max: voucher.received });
        }
        Ok(voucher)
    }
}

/// The tracker's word that a voucher is in the book, given only after the book is on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// The session.
    pub session: SessionId,
    /// The edge.
    pub edge: EdgeId,
    /// The lane's payable bytes as booked.
    pub payable: u64,
    /// What the lane has earned in all.
    pub earned: Micros,
    /// Digest of the voucher.
    pub voucher: Hash,
    /// When it was booked.
    pub at: WallTime,
}

impl Body for Receipt {
    const TAG: &'static str = "millstream receipt v1";
    type Key = PublicKey;

    fn write(&self, writer: &mut Writer) {
        writer.raw(self.session.as_bytes());
        writer.raw(self.edge.as_bytes());
        writer.varint(self.payable);
        writer.varint(u64::try_from(self.earned.0).unwrap_or(0));
        writer.raw(self.voucher.as_bytes());
        writer.u64(self.at.0);
    }

    fn read(reader: &mut Reader) -> Result<Self, Error> {
        let session = SessionId(reader.fixed("session")?);
        let edge = PublicKey(reader.fixed("edge")?);
        let payable = reader.varint("payable", VARINT_MAX)?;
        let earned = reader.varint("earned", VARINT_MAX)?;
        Ok(Self {
            session,
            edge,
            payable,
            earned: Micros(i64::try_from(earned).unwrap_or(i64::MAX)),
            voucher: Hash(reader.fixed("voucher")?),
            at: WallTime(reader.u64("at")?),
        })
    }
}
