//! What decides how fast to send: the interface between an association and its congestion controller.
//!
//! The association measures (round trips, delivery rates, losses found by RACK) and asks for two numbers: how many
//! bytes may be in flight, and at what pace they leave. A controller holds neither timer nor queue, and a byte here is
//! a byte of a DATA chunk, header included.

use std::{fmt::Debug, time::Duration};

use millstream_model::Instant;

mod bbr;
mod new_reno;

pub use bbr::Bbr;
pub use new_reno::NewReno;

/// Decides how fast one association sends.
pub trait Controller: Debug + Send {
    /// A chunk has left, new or again.
    fn sent(&mut self, sent: &Sent);

    /// The peer has acknowledged chunks. Comes after [`Controller::lost`] for what the same acknowledgement lets us
    /// take for lost.
    fn acknowledged(&mut self, acknowledged: &Acknowledged);

    /// Chunks are taken for lost. Some may turn up later ([`Controller::spurious`]).
    fn lost(&mut self, lost: &Lost);

    /// Nothing was acknowledged for a whole retransmission timeout: everything in flight is taken for lost.
    fn timed_out(&mut self, now: Instant);

    /// What [`Controller::lost`] or [`Controller::timed_out`] told last was wrong: the chunks had only been late.
    fn spurious(&mut self, now: Instant);

    /// The largest packet that leaves has now room for so many bytes of DATA chunks.
    fn set_packet_bytes(&mut self, bytes: u64);

    /// Bytes that may be in flight.
    fn window(&self) -> u64;

    /// Bytes a second at which packets leave; none does not pace.
    fn pace(&self) -> Option<u64>;
}

/// A chunk has left.
#[derive(Debug, Clone, Copy)]
pub struct Sent {
    /// When.
    pub now: Instant,
    /// How long it is.
    pub bytes: u64,
    /// Bytes in flight, these included.
    pub in_flight: u64,
}

/// Chunks have been acknowledged, all at one time.
#[derive(Debug, Clone, Copy)]
pub struct Acknowledged {
    /// When.
    pub now: Instant,
    /// Bytes that this acknowledges for the first time.
    pub bytes: u64,
    /// Bytes acknowledged in the association's life, these included.
    pub delivered: u64,
    /// Bytes in flight before and after.
    pub in_flight_before: u64,
    /// Bytes in flight now.
    pub in_flight: u64,
    /// The round trip of the newest chunk of them that was sent once; none when all had been sent again.
    pub round_trip: Option<Duration>,
    /// What the path delivered while the newest of them was on its way; none when that cannot be told.
    pub rate: Option<Rate>,
}

/// A sample of the delivery rate (draft-ietf-ccwg-bbr §4.1.1), of the chunk sent last among those acknowledged.
#[derive(Debug, Clone, Copy)]
pub struct Rate {
    /// Bytes acknowledged in `interval`.
    pub delivered: u64,
    /// The longer of the times in which they were sent and acknowledged; never zero.
    pub interval: Duration,
    /// Bytes acknowledged in the association's life when that chunk was sent: a round trip ends with the first chunk
    /// whose figure is not below what had been delivered when the round trip began.
    pub delivered_before: u64,
    /// Bytes taken for lost in `interval`.
    pub lost: u64,
    /// Bytes that were in flight when that chunk was sent, it included.
    pub in_flight: u64,
    /// There was less to send than the window let out, so the path may be faster.
    pub is_app_limited: bool,
}

impl Rate {
    /// Bytes a second.
    #[must_use]
    pub fn bytes_per_second(&self) -> u64 {
        let micros = u64::try_from(self.interval.as_micros()).unwrap_or(u64::MAX).max(1);
        self.delivered.saturating_mul(1_000_000) / micros
    }
}

/// Chunks are taken for lost, all at one time.
#[derive(Debug, Clone, Copy)]
pub struct Lost {
    /// When it was found out.
    pub now: Instant,
    /// How many bytes.
    pub bytes: u64,
    /// When the newest of them had been sent: a loss of chunks sent before the last reduction is no news.
    pub newest_sent: Instant,
    /// Bytes that were in flight when the newest of them was sent, it included.
    pub in_flight_then: u64,
    /// Bytes lost since that chunk was sent, these included.
    pub lost_since: u64,
    /// Bytes in flight now, these no more.
    pub in_flight: u64,
}
