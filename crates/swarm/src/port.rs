//! What goes into a swarm and what comes out of it.

use alloc::{string::String, vec::Vec};

use bytes::Bytes;
use millstream_model::{
    EdgeId, Fingerprint, Micros, PublicKey, RenditionId, SessionId, SessionKey, StreamId, WallTime,
};
use millstream_playlist::{path::Path, reload::Reload};
use millstream_wire::{
    frame::Reason,
    sign::SIGNATURE_BYTES,
    tracker::{EdgeAddress, FaultCode, FromViewer, ToViewer},
};

/// What a viewer starts with.
#[derive(Debug, Clone)]
pub struct Config {
    /// The stream.
    pub stream: StreamId,
    /// The public half of the session key; its secret half signs what [`Output::Sign`] asks for.
    pub key: SessionKey,
    /// The broadcaster's ticket, for streams that are not open.
    pub ticket: Option<String>,
    /// The pinned root key. Without one the tracker's word is taken.
    pub root: Option<PublicKey>,
    /// The origin's base URL when the page knows it: then the start is fetched before the tracker answers.
    pub origin: Option<String>,
    /// The shell's wall clock at the first input's time; the tracker's replaces it.
    pub wall: WallTime,
    /// Milliseconds that the player wants to be behind live.
    pub latency_ms: u32,
    /// False where data channels cannot be had: everything comes by HTTP, verified all the same.
    pub data_channels: bool,
    /// Random bits: decides jitter alone.
    pub seed: u64,
}

/// A number that the shell gives a player's request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WantId(pub u32);

/// A number that the swarm gives an HTTP request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FetchId(pub u32);

/// A number that the swarm gives something to be signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SignId(pub u32);

/// What a player asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Resource {
    /// The multivariant playlist.
    Multivariant,
    /// A rendition's media playlist, once it holds this segment and part (`_HLS_msn`, `_HLS_part`).
    Playlist {
        /// The rendition's name.
        rendition: String,
        /// Wait until it holds this.
        at: Option<Reload>,
    },
    /// A rendition's init segment.
    Init {
        /// The rendition's name.
        rendition: String,
        /// The catalog's generation.
        generation: u32,
        /// The catalog's version.
        version: u32,
    },
    /// A part.
    Part {
        /// The rendition's name.
        rendition: String,
        /// The record's number.
        number: u64,
    },
    /// A whole segment.
    Segment {
        /// The rendition's name.
        rendition: String,
        /// The media sequence number.
        segment: u64,
    },
}

impl Resource {
    /// What a player's URL asks for: its path and query, below any host. `None` when it is nothing of ours.
    #[must_use]
    pub fn of_url(path_and_query: &str) -> Option<Self> {
        let (path, query) = path_and_query.split_once('?').unwrap_or((path_and_query, ""));
        let (_, path) = Path::of_url(path)?;
        Some(match path {
            Path::Multivariant => Self::Multivariant,
            Path::Media { rendition } => {
                Self::Playlist { rendition: rendition.into(), at: Reload::of_query(query).ok()? }
            }
            Path::Init { rendition, generation, version } => {
                Self::Init { rendition: rendition.into(), generation, version }
            }
            Path::Part { rendition, number } => Self::Part { rendition: rendition.into(), number },
            Path::Segment { rendition, segment } => Self::Segment { rendition: rendition.into(), segment },
            _ => return None,
        })
    }
}

/// What happened outside.
#[derive(Debug, Clone)]
pub enum Input {
    /// The tracker's WebSocket is open (again).
    TrackerOpen,
    /// It is closed.
    TrackerClosed,
    /// The tracker says something.
    Tracker(ToViewer),
    /// Both data channels to an edge are open.
    EdgeOpen {
        /// The edge.
        edge: EdgeId,
        /// SHA-256 of our own DTLS certificate on that connection.
        fingerprint: Fingerprint,
    },
    /// The connection to an edge failed or closed.
    EdgeClosed {
        /// The edge.
        edge: EdgeId,
    },
    /// A message from an edge, on either channel.
    EdgeMessage {
        /// The edge.
        edge: EdgeId,
        /// One frame.
        message: Bytes,
    },
    /// An HTTP response arrived whole (200 or 206).
    Fetched {
        /// Which.
        fetch: FetchId,
        /// Its body.
        body: Bytes,
    },
    /// An HTTP request failed.
    FetchFailed {
        /// Which.
        fetch: FetchId,
        /// The status, when there was one.
        status: Option<u16>,
    },
    /// A signature is made.
    Signed {
        /// Which.
        sign: SignId,
        /// `r || s`.
        signature: [u8; SIGNATURE_BYTES],
    },
    /// The player asks for something.
    Want {
        /// The shell's number for it.
        want: WantId,
        /// What.
        resource: Resource,
    },
    /// The player does not want it any more.
    Unwant {
        /// Which.
        want: WantId,
    },
    /// Where the player is, a few times a second.
    Playhead {
        /// Program date time at the playhead.
        at: WallTime,
        /// Media buffered ahead of it, in milliseconds.
        buffer_ms: u32,
        /// Stalls so far.
        stalls: u32,
        /// Milliseconds stalled so far.
        stalled_ms: u32,
    },
    /// The viewer goes.
    Leave,
}

/// What the shell shall do.
#[derive(Debug, Clone, PartialEq)]
pub enum Output {
    /// Say this to the tracker.
    Tracker(FromViewer),
    /// Open data channels to an edge.
    Connect {
        /// The edge.
        edge: EdgeId,
        /// Where it is.
        address: EdgeAddress,
    },
    /// Close them.
    Disconnect {
        /// The edge.
        edge: EdgeId,
    },
    /// Send a message on an edge's control channel.
    Send {
        /// The edge.
        edge: EdgeId,
        /// One frame.
        message: Bytes,
    },
    /// `GET` this.
    Fetch {
        /// The number to answer with.
        fetch: FetchId,
        /// The absolute URL.
        url: String,
        /// First and last byte wanted (`Range`).
        range: Option<(u64, u64)>,
        /// For `Authorization: Bearer`.
        token: Option<String>,
        /// A longer body is a failure.
        bytes_max: usize,
    },
    /// Give up a `GET`.
    Abort {
        /// Which.
        fetch: FetchId,
    },
    /// Sign this with the session key (ECDSA P-256, SHA-256).
    Sign {
        /// The number to answer with.
        sign: SignId,
        /// What to sign.
        message: Vec<u8>,
    },
    /// Answer the player.
    Deliver {
        /// Which want.
        want: WantId,
        /// The answer.
        content: Content,
    },
    /// Tell the player that it cannot be had.
    Refuse {
        /// Which want.
        want: WantId,
        /// As an HTTP status.
        status: u16,
    },
    /// Something worth telling.
    Event(Event),
}

/// The answer to a want.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// A playlist.
    Playlist(String),
    /// Verified media.
    Media(Bytes),
}

/// Where a byte came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Source {
    /// An edge, by data channel.
    Edge(EdgeId),
    /// The origin, by HTTP.
    Origin,
}

/// Something worth telling: for logs, statistics and the page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The tracker let us in.
    Joined {
        /// The session.
        session: SessionId,
        /// How many edges it offered.
        edges: usize,
    },
    /// An edge accepted us.
    EdgeReady {
        /// The edge.
        edge: EdgeId,
        /// Milliseconds from the first attempt.
        after_ms: u64,
    },
    /// An edge is not used any more.
    EdgeLost {
        /// The edge.
        edge: EdgeId,
        /// Why, when one side said so.
        reason: Option<Reason>,
    },
    /// A rendition's pieces are pushed by this edge from now on.
    Primary {
        /// The rendition.
        rendition: RenditionId,
        /// The edge.
        edge: EdgeId,
    },
    /// A part is whole and verified.
    Part {
        /// The rendition.
        rendition: RenditionId,
        /// The record's number.
        number: u64,
        /// Bytes.
        size: u32,
        /// Milliseconds from its record's arrival.
        after_ms: u64,
        /// True when another source than the primary had to help.
        hedged: bool,
    },
    /// A piece did not match its hash.
    BadPiece {
        /// Who sent it.
        source: Source,
        /// The rendition.
        rendition: RenditionId,
        /// The record's number.
        number: u64,
    },
    /// Something signed was not believed.
    Refused {
        /// Who brought it.
        source: Source,
        /// Why.
        why: millstream_wire::chain::Refused,
    },
    /// A voucher is in the book.
    Paid {
        /// The edge.
        edge: EdgeId,
        /// What the lane has cost in all.
        earned: Micros,
    },
    /// A voucher was refused by the tracker.
    Unpaid {
        /// The edge.
        edge: EdgeId,
        /// Why.
        reason: String,
    },
    /// The tracker refused us.
    Fault {
        /// For programs.
        code: FaultCode,
        /// For people.
        message: String,
    },
    /// The stream is over.
    Ended,
}
