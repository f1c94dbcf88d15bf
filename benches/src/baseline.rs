//! The first transport that Millstream had, frozen: `rtc-dtls` and `rtc-sctp` 0.21.1 under a STUN responder of ours, on
//! one UDP socket with GSO and GRO. Nothing but benchmarks uses it. It is kept so that "so many times cheaper" stands
//! beside a measurement of the same run and machine, and not beside a figure of another day.
//!
//! ```text
//! driver ── socket (GSO, GRO)
//!    └── link ── DTLS;  records: what its datagrams hold
//!          └── sctp ── SCTP, two channels;  screen: its packets from outside;  allowance: bytes on their way
//! ```
//!
//! It serves only: whoever sends a number on the control channel gets as many bytes of pieces. What it had against
//! hostile peers is left out, and so is the hop between the thread of the socket and whoever sends, which cost it
//! something more. What never belongs here: an improvement.

mod allowance;
mod driver;
mod link;
mod records;
mod screen;
mod sctp;
mod socket;

pub(crate) use driver::serve;
