//! Viewer and tracker.

use alloc::{boxed::Box, string::String, vec::Vec};

use millstream_model::{EdgeId, PublicKey, SessionId, SessionKey, StreamId, WallTime};
use serde::{Deserialize, Serialize};

use super::{Challenge, EdgeOffer, Fault, Signal};
use crate::{
    session::{Certificate, Grant, Receipt, Resume, Token, Voucher},
    sign::Signed,
};

/// What a viewer says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum FromViewer {
    /// Asks to watch.
    Join {
        /// The stream.
        stream: StreamId,
        /// The viewer's fresh session key.
        key: SessionKey,
        /// The broadcaster's JWT, for streams that are not open.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        ticket: Option<String>,
    },
    /// Comes back with a session that it had.
    Resume {
        /// The session's certificate.
        certificate: Signed<Certificate>,
        /// The key's answer to this connection's challenge.
        proof: Signed<Resume>,
    },
    /// Asks for a renewed grant, by time or because half of the bytes are used.
    Renew {
        /// The lane's edge.
        edge: EdgeId,
    },
    /// How it goes, every few seconds.
    Report {
        /// Buffered media in milliseconds.
        buffer_ms: u32,
        /// Milliseconds behind live.
        latency_ms: u32,
        /// Stalls since the session began.
        stalls: u32,
        /// Milliseconds stalled since the session began.
        stalled_ms: u32,
        /// Media bytes by HTTP from the origin since the session began.
        origin_bytes: u64,
        /// Media bytes by edge since the session began.
        edges: Vec<EdgeBytes>,
    },
    /// Brings a voucher to the book.
    Voucher {
        /// The voucher.
        voucher: Signed<Voucher>,
    },
    /// Passes a text on.
    Signal(Signal),
    /// Ends the session.
    Leave,
}

/// What one edge did for a viewer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EdgeBytes {
    /// The edge.
    pub edge: EdgeId,
    /// Bytes that arrived from it.
    pub received: u64,
    /// Pieces that did not verify.
    pub bad: u32,
    /// Smoothed round trip in milliseconds; 0 when not measured.
    pub rtt_ms: u32,
    /// Data channels to it are open. Believed where it is not said.
    #[serde(default = "yes")]
    pub ready: bool,
}

const fn yes() -> bool {
    true
}

/// What the tracker says to a viewer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ToViewer {
    /// First of all.
    Challenge(Challenge),
    /// The session exists; again after `resume`.
    Welcome(Box<Welcome>),
    /// Renewed grants, a renewed token, or both.
    Grants {
        /// One per renewed lane.
        grants: Vec<Signed<Grant>>,
        /// From now on for the origin, in the place of the one before. Comes unasked too, when that one is half through
        /// its life.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        token: Option<Signed<Token>>,
    },
    /// Other edges from now on: `edges` is the whole set.
    Reassign {
        /// The whole set, kept lanes with their current grants.
        edges: Vec<EdgeOffer>,
        /// For people.
        reason: String,
    },
    /// A voucher is in the book.
    Receipt {
        /// Proof.
        receipt: Signed<Receipt>,
    },
    /// A voucher was refused.
    Rejected {
        /// The lane's edge.
        edge: EdgeId,
        /// Why, for people.
        reason: String,
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

/// What a session starts with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Welcome {
    /// The session.
    pub session: SessionId,
    /// What resumes it.
    pub certificate: Signed<Certificate>,
    /// The stream.
    pub stream: StreamId,
    /// The stream's root key. A page that pins one ignores this.
    pub root: PublicKey,
    /// The origin's base URL, without a slash at its end: media is below `/s/{stream}`.
    pub origin: String,
    /// What the origin wants to see on streams that are not public.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<Signed<Token>>,
    /// The edges, best first; none when there are none or no money is left.
    pub edges: Vec<EdgeOffer>,
    /// The tracker's clock.
    pub time: WallTime,
    /// How often it wants reports, in milliseconds.
    pub report_ms: u32,
}
