//! What a viewer counts.

use alloc::vec::Vec;

use millstream_model::{BitRate, EdgeId, Micros};

/// A viewer's figures since it joined.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stats {
    /// Verified media bytes by data channel from edges; each byte counts once.
    pub edge_bytes: u64,
    /// Verified media bytes from other viewers.
    pub peer_bytes: u64,
    /// Verified media bytes by HTTP from the origin.
    pub origin_bytes: u64,
    /// Pieces that matched their hash.
    pub pieces_verified: u64,
    /// Pieces that did not.
    pub pieces_rejected: u64,
    /// Vouchers signed.
    pub vouchers_signed: u64,
    /// Vouchers the tracker booked.
    pub vouchers_accepted: u64,
    /// Parts that needed another source than the primary.
    pub parts_hedged: u64,
    /// What all lanes together have cost, by the tracker's receipts.
    pub paid: Micros,
    /// How fast bytes can come.
    pub estimate: BitRate,
    /// Edges, in the tracker's order.
    pub edges: Vec<EdgeStats>,
}

/// One edge's figures.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EdgeStats {
    /// The edge.
    pub edge: EdgeId,
    /// It has welcomed us.
    pub ready: bool,
    /// It is some rendition's primary.
    pub primary: bool,
    /// Bytes that arrived from it.
    pub received: u64,
    /// Of these, verified and first.
    pub payable: u64,
    /// Payable bytes that the tracker has booked.
    pub booked: u64,
    /// What it earned from us, by the tracker's receipts.
    pub earned: Micros,
    /// Smoothed round trip in milliseconds; 0 when not measured.
    pub rtt_ms: u32,
    /// Pieces that did not verify.
    pub bad: u32,
}
