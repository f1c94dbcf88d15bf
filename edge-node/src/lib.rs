//! The edge: takes a rendition's feed once, verifies it and passes it on over data channels; earns.
//!
//! ```text
//! tracker ── link ──┬── where streams come from         viewers ── serve ── viewer (one task each, owns a lane)
//!                   └── vouchers out, receipts in                             │ asks
//! origin ── upstream (one feed per rendition) ── store (owns the cache) <─────┘
//!                                                ledger (owns the book of vouchers, on disk)
//! ```
//!
//! All decisions are made in `crates/lane` (one viewer) and `crates/cache` (what is kept and fetched); this crate
//! gives them sockets, clocks and a disk. A program of one's own around [`Edge`] may look at every piece that leaves
//! by [`Outgoing`].
#![forbid(unsafe_code)]

mod book;
mod clock;
mod config;
mod edge;
mod identity;
mod ledger;
mod link;
mod metrics;
mod nat;
mod outgoing;
pub mod program;
mod roster;
mod status;
mod store;
mod upstream;
mod viewer;

use std::time::Duration;

pub use book::{Earnings, Rejection, StreamEarnings};
pub use config::{Cache, Config};
pub use edge::{Addresses, Edge};
pub use outgoing::{AsItIs, Leaving, Outgoing};
pub use status::Status;

/// Half of `wait`, and up to as much again by chance: so that a thousand edges do not do the same at once.
fn spread(wait: Duration) -> Duration {
    let mut random = [0; 2];
    // Without randomness all wait the same, which is no harm here.
    let _ = getrandom::fill(&mut random);
    wait / 2 + wait * u32::from(u16::from_be_bytes(random)) / u32::from(u16::MAX)
}
