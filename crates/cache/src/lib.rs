//! The edge's memory: which streams it carries, which feeds it takes, and the parts it can pass on.
//!
//! For the edge's program, which owns one [`Cache`] for all its viewers. Frames from origins go in and are believed
//! only as far as the stream's root key reaches; what comes out by [`Cache::record`] and [`Cache::piece`] has been
//! verified, whoever asks. One viewer or a thousand: a rendition's feed is open once.
//!
//! The grammar: [`Cache::handle`] an [`Input`] (or [`Cache::handle_timeout`] when [`Cache::deadline`] has come), then
//! drain [`Cache::poll`]. Looking things up changes nothing. What never belongs here: sockets, clocks, one viewer's
//! credit or speed.
#![forbid(unsafe_code)]

mod cache;
mod shelf;

pub use cache::{BYTES_MIN, Bad, Cache, Described, Input, Limits, Output, Stats};
pub use shelf::{Lookup, Part, Piece};
