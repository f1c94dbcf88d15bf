//! SRT in: callers whose stream id names a key, and the transport stream that they send.
//!
//! ```text
//! UDP ─▶ server ⇄ sapflow_srt::Listener      (one socket, one task)
//!          │ a caller ─▶ seat ─▶ caller's task: key ─▶ reception
//!          └ payloads ─▶ bounded inbox ─▶ demuxer (a thread of GStreamer's) ─▶ Events
//! ```
//!
//! Memory is bounded at each arrow: callers, and those of them whose key was not found good, are counted
//! ([`Config`]); whoever sends faster than its samples are taken is ended, because UDP cannot be held back. Why
//! this SRT: `docs/decisions/0011-srt.md`. What never belongs here: SRT's packets, taking streams apart.

mod caller;
mod config;
mod server;
mod stream_id;

pub use config::Config;
pub use server::{Counts, Server};
