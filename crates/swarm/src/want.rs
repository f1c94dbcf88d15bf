//! What the player waits for.

use alloc::string::String;

use millstream_model::Map;

use crate::{
    limits::WANTS_MAX,
    port::{Resource, WantId},
};

/// The player's open requests.
#[derive(Debug, Default)]
pub(crate) struct Wants(Map<WantId, Resource>);

impl Wants {
    /// Adds one; false when there are too many.
    pub(crate) fn add(&mut self, want: WantId, resource: Resource) -> bool {
        if self.0.len() >= WANTS_MAX {
            return false;
        }
        self.0.insert(want, resource);
        true
    }

    pub(crate) fn remove(&mut self, want: WantId) -> Option<Resource> {
        self.0.remove(&want)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (WantId, &Resource)> {
        self.0.iter().map(|(want, resource)| (*want, resource))
    }
}

impl Resource {
    /// It is media, which the player asks for when it plays or fills its buffer.
    pub(crate) const fn is_media(&self) -> bool {
        matches!(self, Self::Part { .. } | Self::Segment { .. })
    }

    /// The name of the rendition it belongs to.
    pub(crate) fn rendition(&self) -> Option<&String> {
        match self {
            Self::Multivariant => None,
            Self::Playlist { rendition, .. }
            | Self::Init { rendition, .. }
            | Self::Part { rendition, .. }
            | Self::Segment { rendition, .. } => Some(rendition),
        }
    }
}
