//! SCTP for data channels (RFC 9260 in the profile of RFC 8831) as a machine without socket, clock or chance.
//!
//! One [`Association`] is one peer's. Its owner, who has a DTLS connection to that peer, does three things with it:
//!
//! 1. tells it what happened: [`Association::handle`] a packet, [`Association::handle_timeout`], [`Association::send`];
//! 2. then drains it: [`Association::poll_transmit`] until it gives no packet, [`Association::poll_event`] and
//!    [`Association::recv`] until they are empty;
//! 3. comes back by [`Association::next_timeout`].
//!
//! Several packets may be handled before it is drained, and should be: acknowledgements that come together cost one.
//! Time is an argument, and so is what must not be guessed ([`Entropy`]): the same inputs give the same outputs.
//! A peer that breaks the protocol ends its association, as [`Event::Closed`] with a reason; nothing it sends panics or
//! grows memory beyond [`Config`]'s bounds.
//!
//! ```text
//! association ── setup, teardown, stream reset, path MTU (association/)
//!   ├─ send     queue ─ flight (ring by TSN, RACK) ─ pacer, rtt ── congestion (Bbr, NewReno)
//!   ├─ receive  arrived (TSNs, SACKs) ─ assembly (messages)
//!   └─ wire     packets and chunks, borrowed
//! ```
//!
//! What never belongs here: DTLS, sockets, what messages mean. [`dcep`] reads and writes RFC 8832's messages; who opens
//! channels by it is the owner's business.
#![forbid(unsafe_code)]

mod association;
mod config;
pub mod congestion;
pub mod dcep;
mod receive;
mod send;
#[doc(hidden)] // For the fuzz targets, which live in a crate of their own.
pub mod wire;

use std::time::Duration;

use bytes::Bytes;
use thiserror::Error;

pub use association::Association;
pub use config::{Config, Congestion};
pub use send::queue::Released;

/// Random bytes that nobody else knows, for one association: its verification tag, first TSN, cookie key and the
/// timing of its probes come from them.
#[derive(Clone, Copy)]
pub struct Entropy(pub [u8; 32]);

/// A whole message from the peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Stream it came on.
    pub stream: u16,
    /// What kind of payload it is (RFC 8831 §8).
    pub ppi: u32,
    /// Never empty.
    pub bytes: Bytes,
}

/// A message to be sent.
#[derive(Debug, Clone)]
pub struct Outgoing {
    /// Stream to send it on: below what both sides announced.
    pub stream: u16,
    /// What kind of payload it is (RFC 8831 §8).
    pub ppi: u32,
    /// Not empty: SCTP carries no empty message.
    pub bytes: Bytes,
    /// Delivered as it arrives, not after what was sent before it.
    pub is_unordered: bool,
    /// How hard to try.
    pub reliability: Reliability,
}

/// How hard to try (RFC 3758, RFC 7496). To a peer without partial reliability every message is reliable.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Reliability {
    /// For ever.
    #[default]
    Reliable,
    /// Each chunk is sent again at most so many times.
    Retransmissions(u32),
    /// Given up after this time.
    Lifetime(Duration),
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// Both sides are set up: messages flow.
    Open,
    /// The peer has reset its outgoing stream (RFC 6525 §5.2.2): a data channel closes so (RFC 8831 §6.7).
    PeerReset {
        /// Which.
        stream: u16,
    },
    /// The peer has taken our reset of this stream; it may be used anew.
    Reset {
        /// Which.
        stream: u16,
        /// The peer did it.
        is_done: bool,
    },
    /// It is over. The last event.
    Closed(CloseReason),
}

/// Why an association is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum CloseReason {
    /// This side shut it down, and everything was delivered.
    #[error("shut down by this side")]
    Local,
    /// The peer shut it down in order.
    #[error("shut down by the peer")]
    Peer,
    /// The peer aborted it.
    #[error("aborted by the peer")]
    Aborted,
    /// The peer lost its state and began anew (RFC 9260 §5.2.4): what was underway is lost.
    #[error("the peer began anew")]
    Restarted,
    /// Nobody answered the set-up or the shutdown.
    #[error("not answered")]
    Unanswered,
    /// The path does not carry packets any more that it once did, and chunks in flight are too long for it now.
    #[error("the path has become narrower")]
    Narrowed,
    /// The peer broke the protocol or a limit.
    #[error("the peer broke the protocol: {0}")]
    Violation(&'static str),
}

/// Why a message was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum SendError {
    /// [`Config::send_bytes_max`] is reached.
    #[error("too much waits to be sent")]
    Full,
    /// SCTP carries no empty message.
    #[error("the message is empty")]
    Empty,
    /// The stream is beyond what the peer takes, or is being reset.
    #[error("stream {0} is not open")]
    Stream(u16),
    /// The association is closing or over.
    #[error("the association is closed")]
    Closed,
}

/// What an association has done, and what it knows of its path. Bytes are payload.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Payload bytes sent for the first time.
    pub bytes_sent: u64,
    /// Payload bytes of chunks that the peer has for good; what was given up is not among them.
    pub bytes_acknowledged: u64,
    /// Payload bytes of chunks received, each once.
    pub bytes_received: u64,
    /// Chunks sent.
    pub chunks_sent: u64,
    /// Chunks sent again.
    pub retransmits: u64,
    /// Chunks received that had been received before.
    pub duplicates: u64,
    /// Retransmission timeouts.
    pub timeouts: u64,
    /// Smoothed round trip; none before the first.
    pub round_trip: Option<Duration>,
    /// The shortest round trip of late.
    pub round_trip_min: Duration,
    /// Bytes that may be in flight, chunk headers included.
    pub window: u64,
    /// Bytes in flight, chunk headers included.
    pub in_flight: u64,
    /// Bytes a second at which packets leave; none is not paced.
    pub pace: Option<u64>,
    /// Bytes of the largest packet.
    pub packet_bytes: usize,
}
