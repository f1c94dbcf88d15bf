//! The viewer's mind: which piece from whom by when.
//!
//! One [`Swarm`] is one viewer's stay in one stream. It holds no socket and knows no clock: a shell (the headless
//! viewer, the browser, the simulator) feeds it [`Input`]s with the time, then drains [`Output`]s until there are
//! none, and calls [`Swarm::handle_timeout`] when [`Swarm::deadline`] has come.
//!
//! ```text
//! tracker ── offers, grants ──► session ─► lanes ── records, pieces ──► renditions ──► wants (the player)
//!                                            │                              ▲
//!                                            └── vouchers                   └── fetches (the origin by HTTP)
//! ```
//!
//! Every byte that leaves through [`Output::Deliver`] was checked against a hash that the packager signed. A
//! misbehaving edge is an [`Event`], never an error. What never belongs here: HLS text (`playlist`), encodings
//! (`wire`), anything that waits.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod early;
mod edges;
mod fetch;
mod lane;
mod limits;
mod origin;
mod part;
mod pick;
mod port;
mod rate;
mod rendition;
mod serve;
mod session;
mod stats;
mod swarm;
mod switch;
mod trust;
mod want;

pub use limits::*;
pub use port::{Config, Content, Event, FetchId, Input, Output, Resource, SignId, Source, WantId};
pub use stats::{EdgeStats, Stats};
pub use swarm::Swarm;
