//! Edge and tracker.

use alloc::{string::String, vec::Vec};

use millstream_model::{BitRate, EdgeId, PublicKey, SessionId, StreamId, TrackerId, WallTime};
use serde::{Deserialize, Serialize};

use super::{Challenge, EdgeAddress, Fault, FaultCode, Signal};
use crate::{
    session::{Receipt, Registration, Token, Voucher},
    sign::Signed,
};

/// What an edge says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum FromEdge {
    /// Offers its service; first message, and again after every reconnect.
    Register {
        /// The device key's answer to this connection's challenge.
        proof: Signed<Registration>,
        /// Where viewers reach it.
        address: EdgeAddress,
        /// What it may send, all viewers together.
        capacity: BitRate,
        /// Viewers it takes at most.
        viewers_max: u32,
        /// Its program's version.
        version: String,
    },
    /// It is reached there from now on: it has found out where its NAT shows it, or that has changed. The fingerprint is
    /// the registered one.
    Address {
        /// The whole address.
        address: EdgeAddress,
    },
    /// How it goes, every few seconds.
    Status {
        /// Viewers connected.
        viewers: u32,
        /// What it sends now.
        sending: BitRate,
        /// Streams whose feed it has.
        warm: Vec<StreamId>,
    },
    /// A viewer's grant names a stream it does not know yet, or whose token is at its end. Answered for streams that it
    /// has a lane of.
    Lookup {
        /// The stream.
        stream: StreamId,
    },
    /// Brings a voucher to the book.
    Voucher {
        /// The voucher.
        voucher: Signed<Voucher>,
    },
    /// Passes a text on.
    Signal(Signal),
    /// Will stop: give it no new viewers.
    Drain,
}

/// What the tracker says to an edge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ToEdge {
    /// First of all.
    Challenge(Challenge),
    /// It is registered.
    Registered {
        /// The edge.
        edge: EdgeId,
        /// Whose grants it may honour.
        tracker: TrackerId,
        /// The tracker's clock.
        time: WallTime,
        /// How often it wants a status, in milliseconds.
        status_ms: u32,
        /// STUN servers that an edge behind NAT may ask where it is, `host:port`; at most [`super::STUN_MAX`].
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        stun: Vec<String>,
    },
    /// Where a stream comes from: the answer to `lookup`, and again, unasked, when its token is half through its life
    /// and the edge still has viewers of it.
    Stream {
        /// The stream.
        stream: StreamId,
        /// The stream's root key.
        root: PublicKey,
        /// The origin's base URL, without a slash at its end.
        origin: String,
        /// For the feed.
        token: Signed<Token>,
    },
    /// The other answer to `lookup`.
    NoStream {
        /// The stream.
        stream: StreamId,
        /// Why.
        code: FaultCode,
        /// For people.
        message: String,
    },
    /// A voucher is in the book.
    Receipt {
        /// Proof.
        receipt: Signed<Receipt>,
    },
    /// A voucher was refused.
    Rejected {
        /// The lane's session.
        session: SessionId,
        /// Why, for people.
        reason: String,
        /// The same voucher may be accepted later: it is to be kept and brought again.
        #[serde(default)]
        retry: bool,
    },
    /// A text from another side.
    Signal(Signal),
    /// The tracker goes down or sheds load: come back in about this time.
    Goaway {
        /// Milliseconds to wait at least.
        retry_ms: u32,
    },
    /// Refused.
    Error(Fault),
}
