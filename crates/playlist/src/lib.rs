//! HLS and LL-HLS playlists as a pure function of catalog and records.
//!
//! The origin, every edge and the player compute the same text, so a playlist is never fetched where records are at
//! hand, and never signed. `docs/protocol/media.md` is the normative text, `docs/protocol/vectors/playlist/` holds
//! both to it.
//!
//! - [`path`]: the URLs below `/s/{stream}/`; [`query`]: what may follow their `?`
//! - [`multivariant`], [`media`]: the two kinds of playlist; [`media_with`] lists segments of which only an
//!   [`Outline`] is kept, too
//! - [`reload`]: whether a playlist request is answered, held or refused
//! - [`check`] (feature `check`): the rules of RFC 8216bis, for tests
//!
//! What never belongs here: sockets, clocks, waiting, media bytes.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(any(test, feature = "check"))]
extern crate std;

#[cfg(feature = "check")]
pub mod check;
mod media;
mod multivariant;
mod outline;
pub mod path;
pub mod query;
pub mod reload;
mod text;

pub use media::{DISCONTINUITY_STEP_MAX, Delta, LISTED_MS, Options, Report, media, media_with};
pub use multivariant::multivariant;
pub use outline::Outline;
pub use path::Path;

/// The content type of both kinds of playlist (RFC 8216bis §4).
pub const CONTENT_TYPE: &str = "application/vnd.apple.mpegurl";
