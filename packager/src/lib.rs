//! RTMP in, signed low-latency HLS out.
//!
//! ```text
//!  encoder ──RTMP──▶ ingest ──samples──▶ stream::life ── pipeline ─── signer ──▶ window ◀── origin ◀──HTTP── players,
//!                      │                     │              (pure)     (pure)     (pure)                    edges, CDN
//!                      └─ gate ─ tracker     └─ sequence (numbers ahead of use, on disk)
//!                                  ▲ report                                    └──▶ keep ──▶ store: recordings, DVR
//!  events ──▶ log, webhooks: what happened to streams
//! ```
//!
//! [`Packager::load`] binds everything, [`Packager::run`] drives it: the program, the all-in-one and tests use these
//! two. `docs/protocol/media.md` says what comes out. What never belongs here: money, who watches.
#![forbid(unsafe_code)]

mod clock;
pub mod config;
pub mod events;
pub mod gate;
pub mod ingest;
pub mod keep;
pub mod metrics;
pub mod origin;
mod packager;
pub mod pipeline;
pub mod policy;
pub mod program;
pub mod renditions;
mod report;
pub mod sequence;
#[cfg(test)]
mod show;
pub mod signer;
pub mod stream;
pub mod streams;
pub mod window;

pub use clock::Clock;
pub use config::Config;
pub use packager::{Addresses, Packager};
