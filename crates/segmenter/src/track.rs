//! What exists once for each of a publisher's two tracks.

use crate::sample::TrackKind;

impl TrackKind {
    /// Both, in the order of their renditions.
    pub(crate) const BOTH: [Self; 2] = [Self::Video, Self::Audio];

    /// The other one.
    pub(crate) const fn other(self) -> Self {
        match self {
            Self::Video => Self::Audio,
            Self::Audio => Self::Video,
        }
    }
}

/// One of something for each track.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct PerTrack<T> {
    pub(crate) video: T,
    pub(crate) audio: T,
}

impl<T> PerTrack<T> {
    pub(crate) const fn of(&self, track: TrackKind) -> &T {
        match track {
            TrackKind::Video => &self.video,
            TrackKind::Audio => &self.audio,
        }
    }

    pub(crate) const fn of_mut(&mut self, track: TrackKind) -> &mut T {
        match track {
            TrackKind::Video => &mut self.video,
            TrackKind::Audio => &mut self.audio,
        }
    }
}
