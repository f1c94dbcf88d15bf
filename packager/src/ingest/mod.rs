//! RTMP in: publishers with stream keys; their tracks and samples out, through a bounded queue each.
//!
//! The shell around `millstream-rtmp`: sockets, clocks, queues, and who may come in. The protocol is decided there,
//! whose key is good by a [`Gate`], and what becomes of the samples by whoever takes the [`Publish`].
//!
//! ```text
//! TCP (or TLS) ─▶ seat ─▶ conversation ⇄ millstream_rtmp::Connection
//!                 limits      │ key ─▶ reception ⇄ Gate: one publisher per stream, over all ways in
//!                             └ samples ─▶ queue (bounded) ─▶ Events
//! ```
//!
//! Memory is bounded at each arrow: connections and those not yet admitted are counted ([`Config`]); one that was
//! not admitted holds at most [`unadmitted_bytes_max`] and a publisher [`admitted_bytes_max`], the queue included;
//! when the queue is full, the socket is read no more and TCP slows the publisher down.
//!
//! What never belongs here: cutting media, signing, HTTP, talking to the tracker.

mod config;
mod conversation;
mod events;
mod gate;
mod live;
pub mod pull;
mod reception;
mod seat;
mod server;
pub mod srt;
mod taken;
pub mod tls;
pub mod whip;

pub use config::{Config, admitted_bytes_max, unadmitted_bytes_max};
pub use events::{Abandoned, Event, Events, Gone};
pub use gate::{Admitted, Gate, Refusal};
pub use millstream_rtmp::{Metadata, StreamKey};
pub use reception::{Publish, Publishes, Reception, Seated, Source, Terms};
pub use server::{Counts, Server};
