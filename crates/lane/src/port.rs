//! What goes into a lane and what comes out of it.

use std::time::Duration;

use bytes::Bytes;
use millstream_model::{RenditionId, WallTime};
use millstream_wire::{
    frame::{Reason, Subscription},
    session::{Grant, Voucher},
    sign::Signed,
};

use crate::{credit::Credit, greeting::Reach};

/// What happened.
#[derive(Debug)]
pub enum Input {
    /// A message from the viewer, on either channel.
    Message(Bytes),
    /// The pieces channel takes nothing at the moment. The message that found it so is delivered all the same.
    Busy,
    /// The pieces channel takes messages again.
    Writable,
    /// The answer to [`Output::Open`].
    Admitted(Box<Admission>),
    /// Close the lane, and tell the viewer why.
    Dismiss {
        /// Why.
        reason: Reason,
        /// For people.
        text: String,
    },
    /// The stream's description, encoded; at first and whenever it changed.
    Described {
        /// A delegation frame.
        delegation: Bytes,
        /// A catalog frame.
        catalog: Bytes,
    },
    /// The stream has something new: what was not there before may be there now.
    Changed,
    /// The answer to [`Output::Record`].
    Record(Option<Found>),
    /// The answer to [`Output::Piece`].
    Piece(Lookup),
    /// The tracker went out of reach or came back.
    Tracker(Reach),
    /// The edge will stop.
    Goaway {
        /// When.
        within: Duration,
    },
}

/// A lane's past, for one that comes back; see [`Credit`].
#[derive(Debug)]
pub struct Admission {
    /// What it owes.
    pub credit: Credit,
    /// The newest grant it had shown, if that is newer than this connection's.
    pub grant: Option<Signed<Grant>>,
}

/// A record that is at hand.
#[derive(Debug, Clone)]
pub struct Found {
    /// Its number.
    pub number: u64,
    /// The record's frame.
    pub message: Bytes,
    /// Bytes of its part.
    pub size: u32,
}

/// Where a piece is.
#[derive(Debug, Clone)]
pub enum Lookup {
    /// Here.
    Here {
        /// The piece's frame.
        message: Bytes,
        /// How many of its bytes are media.
        bytes: u32,
    },
    /// On its way.
    Coming,
    /// Not here, and nothing brings it.
    Absent,
}

/// Which data channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Channel {
    /// Everything but media.
    Control,
    /// Media.
    Pieces,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Send a message.
    Send {
        /// Where.
        channel: Channel,
        /// A frame.
        message: Bytes,
    },
    /// The viewer has proven who it is. Answer with [`Input::Admitted`] or [`Input::Dismiss`], in whatever time that
    /// takes; and with [`Input::Described`] when the stream's description is there.
    Open(Box<Grant>),
    /// The viewer wants this of a rendition from now on.
    Subscribe {
        /// The rendition.
        rendition: RenditionId,
        /// What.
        want: Subscription,
    },
    /// A question: the first record at or after `from`; without a number, the newest segment's first.
    Record {
        /// The rendition.
        rendition: RenditionId,
        /// The lowest number.
        from: Option<u64>,
    },
    /// A question: a piece.
    Piece {
        /// The rendition.
        rendition: RenditionId,
        /// The record's number.
        number: u64,
        /// The piece's index.
        index: u32,
    },
    /// A voucher that holds: the lane's latest. The tracker pays for it.
    Bring(Box<Signed<Voucher>>),
    /// The lane has a newer grant.
    Renewed(Box<Signed<Grant>>),
    /// The last output: close the connection once what was sent is through.
    Close {
        /// Why.
        reason: Reason,
        /// For people.
        text: String,
        /// True when the viewer said so.
        by_viewer: bool,
    },
}

/// A lane's counts since its connection opened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Records sent.
    pub records: u64,
    /// Pieces sent because of a subscription.
    pub pushed: u64,
    /// Pieces sent because they were asked for.
    pub answered: u64,
    /// Media bytes sent.
    pub bytes: u64,
    /// Requests that ended with "missing".
    pub missing: u64,
    /// Parts not pushed, because the viewer was too slow or the piece did not come.
    pub dropped: u64,
    /// Gaps announced.
    pub gaps: u64,
    /// Vouchers accepted.
    pub vouchers: u64,
    /// Times the lane stood at its window or cap.
    pub blocked: u64,
    /// When the viewer's grant ends.
    pub expires: WallTime,
    /// The last measured round trip of a ping, in microseconds.
    pub rtt_us: u64,
}
