//! The tracks as they were put out last, so that only what really changed is put out again.

use crate::{
    cadence::{Cadence, audio_part_target_ms},
    cmaf::{VIDEO_TICKS_PER_MS, VIDEO_TIMESCALE},
    codec::{AudioCodec, VideoCodec},
    output::{AUDIO, Media, TARGET_DURATION_MS, Track, VIDEO},
    sample::TrackConfig,
    track::PerTrack,
};

/// By how much more than before a first keyframe's composition offset may be moved without a new init segment:
/// rounding to milliseconds. (Its offsets then may be as little below zero.)
const SHIFT_JITTER_MS: u32 = 2;

/// What was put out of each track.
#[derive(Debug, Default)]
pub(crate) struct Roster {
    entries: PerTrack<Option<Entry>>,
    announced: Option<Vec<Track>>,
}

#[derive(Debug)]
struct Entry {
    config: TrackConfig,
    track: Track,
    shift_ms: u32,
}

impl Roster {
    /// The video track with this configuration and measured cadence. A publisher that comes back with the same
    /// configuration gets the same track: measuring again a little differently is no change. A part target is kept
    /// over a change, too, as long as the frames fit it, for it is one number of a whole playlist.
    ///
    /// Gives the shift of its init segment, too: how much longer than true its composition offsets must be. It is
    /// `shift_ms`, that of the first keyframe, or the one before if that will do.
    pub(crate) fn video(&mut self, codec: &VideoCodec, cadence: Cadence, shift_ms: u32) -> (Track, u32) {
        let kept = self.entries.video.as_ref().filter(|entry| cadence.fits(entry.track.part_target_ms));
        let fits =
            |entry: &&Entry| entry.config == codec.config && shift_ms <= entry.shift_ms + SHIFT_JITTER_MS;
        if let Some(entry) = kept.filter(fits) {
            return (entry.track.clone(), entry.shift_ms);
        }
        let (init, shift_ms) = match codec.init(shift_ms * VIDEO_TICKS_PER_MS) {
            Ok(init) => (init, shift_ms),
            Err(_) => (codec.plain_init.clone(), 0),
        };
        let track = Track {
            rendition: VIDEO,
            media: Media::Video {
                width: codec.shape.width,
                height: codec.shape.height,
                frame_rate_milli: cadence.frame_rate_milli(codec.shape.frame_rate_milli),
            },
            codec: codec.codec.clone(),
            timescale: VIDEO_TIMESCALE,
            target_duration_ms: TARGET_DURATION_MS,
            part_target_ms: kept.map_or(cadence.part_target_ms(), |entry| entry.track.part_target_ms),
            init,
        };
        self.entries.video = Some(Entry { config: codec.config.clone(), track: track.clone(), shift_ms });
        (track, shift_ms)
    }

    /// The audio track with this configuration, whose frames usually have `frame` samples. Other frames than before are
    /// no change: parts of them fit the target that was chosen for those.
    pub(crate) fn audio(&mut self, codec: &AudioCodec, frame: u32) -> Track {
        if let Some(entry) = self.entries.audio.as_ref().filter(|entry| entry.config == codec.config) {
            return entry.track.clone();
        }
        let track = Track {
            rendition: AUDIO,
            media: Media::Audio { channels: codec.channels, sample_rate: codec.sample_rate },
            codec: codec.codec.clone(),
            timescale: codec.sample_rate,
            target_duration_ms: TARGET_DURATION_MS,
            part_target_ms: audio_part_target_ms(frame, codec.sample_rate),
            init: codec.init.clone(),
        };
        self.entries.audio = Some(Entry { config: codec.config.clone(), track: track.clone(), shift_ms: 0 });
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
