//! A viewer without a screen: the same mind as the browser's, driven by sockets, for tests, load and monitoring.
//!
//! ```text
//! run ── viewer × n ─┬─ swarm   (the mind)
//!                    ├─ player  (what a screen would show: playhead, stalls, latency)
//!                    └─ net     (tracker WebSocket, data channels, HTTP)
//! ```
#![forbid(unsafe_code)]

pub mod args;
mod delays;
mod dump;
mod net;
pub mod player;
pub mod report;
mod run;
mod ticket;
mod viewer;

pub use report::Report;
pub use run::{Config, run};
