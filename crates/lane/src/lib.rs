//! The edge's mind for one viewer: who it is, what it may have, what it is sent next.
//!
//! For the edge's program, which owns one [`Lane`] per connection and does what it says. The conversation is that of
//! `docs/protocol/peer.md`:
//!
//! ```text
//! Greeting ── a good hello ──> Opening ── admitted ──> Open ──┬── refused by a rule, silent, unpaid
//!     └── anything else, or nothing in time                   └── left by the viewer  ──────────────> Closed
//! ```
//!
//! The grammar: [`Lane::handle`] an [`Input`] (or [`Lane::handle_timeout`] when [`Lane::deadline`] has come), then
//! drain [`Lane::poll`]. Some outputs are questions ([`Output::Record`], [`Output::Piece`]): they are answered by an
//! input before the next poll; a question that is not answered counts as "not here yet". Bytes are asked for when
//! they can be sent, so a slow viewer holds numbers in memory and no media.
//!
//! What never belongs here: sockets, clocks, where the bytes come from, any other viewer.
#![forbid(unsafe_code)]

mod credit;
mod greeting;
mod lane;
pub mod limits;
mod open;
mod port;
mod queue;
mod rate;

pub use credit::{Claim, Credit};
pub use greeting::{Local, Reach, Refusal};
pub use lane::Lane;
pub use port::{Admission, Channel, Found, Input, Lookup, Output, Stats};
