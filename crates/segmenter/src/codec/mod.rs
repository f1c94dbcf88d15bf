//! What decoder configurations say: the little that a catalog, an init segment and the timeline need to know.
//!
//! A publisher wrote them, so every bit is doubted; but only what we rely on is checked, the rest goes through.

mod aac;
mod av1;
mod av1_sequence;
mod avc;
mod bits;
pub(crate) mod hevc;
mod hevc_sps;
mod opus;
mod shape;
mod track;

use thiserror::Error;

pub(crate) use self::{
    shape::Shape,
    track::{AudioCodec, VideoCodec},
};

/// Bytes of one configuration at most. Real ones are below 200; a catalog holds it inline.
pub const CONFIG_BYTES_MAX: usize = 4 * 1024;

/// Why a configuration cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Error {
    /// It ends within a field.
    #[error("cut short")]
    Short,
    /// Over [`CONFIG_BYTES_MAX`].
    #[error("{0} bytes; at most 4096")]
    Long(usize),
    /// A field has a value that its standard does not have, or that no player takes.
    #[error("{what} is {got}")]
    Value {
        /// The field, in its standard's words.
        what: &'static str,
        /// What it says.
        got: u32,
    },
    /// What it must have is not there.
    #[error("{0} is missing")]
    Absent(&'static str),
    /// It reads well, but does not fit in an init segment.
    #[error("does not fit in an init segment")]
    Boxes,
}

/// What a video configuration comes to.
#[derive(Debug)]
struct Described {
    /// The RFC 6381 text.
    codec: String,
    shape: Shape,
    /// The sample entry.
    entry: mp4_atom::Codec,
}

/// A configuration's bytes, within bounds.
fn bounded(raw: &[u8]) -> Result<&[u8], Error> {
    if raw.len() > CONFIG_BYTES_MAX { Err(Error::Long(raw.len())) } else { Ok(raw) }
}
