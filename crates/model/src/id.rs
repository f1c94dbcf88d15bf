//! Names of streams, renditions and sessions.

use alloc::{boxed::Box, string::String, sync::Arc};
use core::fmt;

use thiserror::Error;

use crate::binary::binary;

/// The longest slug, in bytes: one DNS label (RFC 1035), so that a stream can have a host name of its own.
pub const SLUG_BYTES_MAX: usize = 63;

/// Why a text is not a slug.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum SlugError {
    /// Empty, or over [`SLUG_BYTES_MAX`].
    #[error("{0} characters; a slug has 1 to 63")]
    Length(usize),
    /// A character a slug does not take.
    #[error("a slug is made of a-z, 0-9 and '-', and neither starts nor ends with '-'")]
    Character,
}

/// The name of a stream: one thing people watch, live or recorded. A slug: 1 to 63 of `a-z`, `0-9`, `-`, with no
/// `-` at either end. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StreamId(Arc<str>);

impl StreamId {
    /// Checks the slug's rules.
    ///
    /// # Errors
    /// [`SlugError`] says which rule `text` breaks.
    pub fn new(text: &str) -> Result<Self, SlugError> {
        if text.is_empty() || text.len() > SLUG_BYTES_MAX {
            return Err(SlugError::Length(text.len()));
        }
        let sound = text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        if !sound || text.starts_with('-') || text.ends_with('-') {
            return Err(SlugError::Character);
        }
        Ok(Self(text.into()))
    }

    /// The slug.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StreamId({})", self.0)
    }
}

impl core::str::FromStr for StreamId {
    type Err = SlugError;

    fn from_str(text: &str) -> Result<Self, SlugError> {
        Self::new(text)
    }
}

impl serde::Serialize for StreamId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> serde::Deserialize<'de> for StreamId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text: Box<str> = String::deserialize(deserializer)?.into();
        Self::new(&text).map_err(serde::de::Error::custom)
    }
}

/// One encoding of a stream, as the catalog numbers it. A number keeps its meaning over all catalog versions of a
/// generation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct RenditionId(pub u8);

impl fmt::Display for RenditionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

binary! {
    /// One viewer's stay in one stream: 128 random bits from the tracker.
    SessionId, 16
}
