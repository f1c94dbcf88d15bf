//! The tracks as they were put out last, so that only what really changed is put out again.

use bytes::Bytes;

use crate::{
    cadence::{Cadence, audio_part_target_ms},
    cmaf::VIDEO_TIMESCALE,
    codec::{Aac, Avc},
    output::{AUDIO, Media, TARGET_DURATION_MS, Track, VIDEO},
    track::PerTrack,
};

/// What was put out of each track.
#[derive(Debug, Default)]
pub(crate) struct Roster {
    entries: PerTrack<Option<Entry>>,
    announced: Option<Vec<Track>>,
}

#[derive(Debug)]
struct Entry {
    config: Bytes,
    track: Track,
}

impl Roster {
    /// The video track with this configuration and measured cadence. A publisher that comes back with the same
    /// configuration gets the same track: measuring again a little differently is no change. A part target is kept
    /// over a change, too, as long as the frames fit it, for it is one number of a whole playlist.
    pub(crate) fn video(&mut self, avc: &Avc, cadence: Cadence) -> Track {
        let kept = self.entries.video.as_ref().filter(|entry| cadence.fits(entry.track.part_target_ms));
        if let Some(entry) = kept.filter(|entry| entry.config == avc.raw) {
            return entry.track.clone();
        }
        let track = Track {
            rendition: VIDEO,
            media: Media::Video {
                width: avc.width,
                height: avc.height,
                frame_rate_milli: cadence.frame_rate_milli(avc.frame_rate_milli),
            },
            codec: avc.codec.clone(),
            timescale: VIDEO_TIMESCALE,
            target_duration_ms: TARGET_DURATION_MS,
            part_target_ms: kept.map_or(cadence.part_target_ms(), |entry| entry.track.part_target_ms),
            init: avc.init.clone(),
        };
        self.entries.video = Some(Entry { config: avc.raw.clone(), track: track.clone() });
        track
    }

    /// The audio track with this configuration.
    pub(crate) fn audio(&mut self, aac: &Aac) -> Track {
        if let Some(entry) = self.entries.audio.as_ref().filter(|entry| entry.config == aac.raw) {
            return entry.track.clone();
        }
        let track = Track {
            rendition: AUDIO,
            media: Media::Audio { channels: aac.channels, sample_rate: aac.sample_rate },
            codec: aac.codec.clone(),
            timescale: aac.sample_rate,
            target_duration_ms: TARGET_DURATION_MS,
            part_target_ms: audio_part_target_ms(aac.frame_samples, aac.sample_rate),
            init: aac.init.clone(),
        };
        self.entries.audio = Some(Entry { config: aac.raw.clone(), track: track.clone() });
        track
    }

    /// The tracks of the next continuity; given back if they are not those of the one before it.
    pub(crate) fn announce(&mut self, tracks: Vec<Track>) -> Option<Vec<Track>> {
        if self.announced.as_ref() == Some(&tracks) {
            return None;
        }
        self.announced = Some(tracks.clone());
        Some(tracks)
    }
}
