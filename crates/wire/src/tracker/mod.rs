//! Tracker messages: JSON texts over a WebSocket (viewers, edges) and HTTP bodies (packagers).
//!
//! ```text
//! tracker -> both    challenge                                  (first message of every connection)
//! viewer -> tracker  join | resume, renew, report, voucher, signal, leave
//! tracker -> viewer  welcome, grants, reassign, receipt, rejected, signal, goaway, error
//! edge -> tracker    register, address, status, lookup, voucher, signal, drain
//! tracker -> edge    registered, stream, no_stream, receipt, rejected, signal, goaway, error
//! packager -> tracker  POST /v1/packager/admit, POST /v1/packager/report
//! ```
//!
//! Counts stay below 2⁵³ and ids are strings, so that JavaScript reads them as they are. Unknown fields are
//! ignored, unknown types refused. Binary objects are base64url texts.

use alloc::{string::String, vec::Vec};
use core::net::SocketAddr;

use millstream_model::{EdgeId, Fingerprint, TrackerId, WallTime};
use serde::{Deserialize, Serialize};

use crate::{session::Grant, sign::Signed};

mod edge;
mod packager;
mod viewer;

pub use edge::{FromEdge, ToEdge};
pub use packager::{
    Admit, Admitted, GENERATION_STEP_MAX, PackagerReport, Published, REPORT_BYTES_MAX, RUNS_MAX, Reported,
    RunId, State, StreamReport, next_generation,
};
pub use viewer::{EdgeBytes, FromViewer, ToViewer, Welcome};

/// Bytes of one WebSocket message at most, either way: a welcome with a few edges has 4 KiB.
pub const MESSAGE_BYTES_MAX: usize = 64 * 1024;

/// Version of the tracker protocol, in the WebSocket's URL: `/v1/viewer`, `/v1/edge`.
pub const PROTOCOL: u16 = 1;

/// What the tracker says first on every connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Challenge {
    /// 16 random bytes, base64url; signed in `resume` and `register`.
    pub nonce: Nonce,
    /// The tracker's key.
    pub tracker: TrackerId,
    /// The tracker's clock.
    pub time: WallTime,
}

/// Random bytes that make an answer good for one connection only.
pub type Nonce = millstream_model::SessionId;

/// Everything a viewer needs to open data channels to an edge without asking anybody.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EdgeOffer {
    /// The edge.
    pub id: EdgeId,
    /// Where to reach it.
    pub address: EdgeAddress,
    /// Permission and budget for the lane.
    pub grant: Signed<Grant>,
}

/// Where an edge listens for data channels.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EdgeAddress {
    /// UDP addresses, best first; 1 to [`SOCKETS_MAX`]. None only while an edge behind NAT does not know its own yet.
    pub sockets: Vec<SocketAddr>,
    /// ICE user name fragment (RFC 8445), 4 to 32 characters.
    pub ufrag: String,
    /// ICE password, 22 to 64 characters. Not a secret: it is handed to every viewer.
    pub password: String,
    /// The DTLS certificate's.
    pub fingerprint: Fingerprint,
    /// Its NAT lets nobody in whom it has not sent something first: a viewer says where it is itself, by a [`Signal`] with
    /// [`Candidates`].
    #[serde(default, skip_serializing_if = "core::ops::Not::not")]
    pub behind_nat: bool,
    /// STUN servers that a viewer of an edge behind NAT may ask where it is itself, `host:port`; at most [`STUN_MAX`]. The
    /// tracker names them; an edge leaves this empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stun: Vec<String>,
}

/// Sockets in an edge's address at most.
pub const SOCKETS_MAX: usize = 4;

/// STUN servers named at most: two that agree are enough, and two may be away.
pub const STUN_MAX: usize = 4;

/// Where a viewer is, told to an edge behind NAT in a [`Signal`]'s data, as JSON. The edge sends checks (RFC 8445 §7.2.2)
/// there, which lets the viewer's own come in. It may come several times, as more becomes known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Candidates {
    /// The viewer's ICE user name fragment, 4 to 256 `ice-char`.
    pub ufrag: String,
    /// Its ICE password, 22 to 256 `ice-char`.
    pub password: String,
    /// Its UDP addresses as far as they are known, 1 to [`CANDIDATES_MAX`]; names (mDNS) are left out.
    pub candidates: Vec<SocketAddr>,
}

/// Addresses of a viewer at most: two networks, two families, inside and outside.
pub const CANDIDATES_MAX: usize = 8;

/// A text passed between two that cannot reach each other yet. The tracker does not look inside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signal {
    /// The other side: an edge's or session's id.
    pub peer: String,
    /// At most 16 KiB.
    pub data: String,
}

/// Bytes of a signal's data at most: an SDP with its candidates has 3 KiB.
pub const SIGNAL_BYTES_MAX: usize = 16 * 1024;

/// A refusal or a fault, for programs (`code`) and people (`message`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// One of a fixed set, in `snake_case`; the protocol's page lists them.
    pub code: FaultCode,
    /// What was wrong and what would be right.
    pub message: String,
}

/// Why the tracker refuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultCode {
    /// The message could not be read, or came at the wrong time.
    BadRequest,
    /// No such stream.
    UnknownStream,
    /// The stream exists but nobody publishes it.
    NotLive,
    /// The ticket is missing, forged, expired, used, or for another stream or key.
    BadTicket,
    /// Too many sessions or messages from this address.
    RateLimited,
    /// The certificate or the proof does not hold.
    BadProof,
    /// The stream's budget or the account's balance is used up: plain HTTP is all there is.
    NoFunds,
    /// The stream key is not known.
    BadKey,
    /// Somebody publishes with this stream key already.
    Busy,
    /// The tracker cannot do it now.
    Unavailable,
}
