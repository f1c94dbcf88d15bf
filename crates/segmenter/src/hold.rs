//! Samples that wait for a continuity to start.
//!
//! It can start when the tracks are known, the video has a keyframe and enough frames to measure, and the other
//! track has arrived or been waited for. Nothing waits longer than a viewer would: a first part takes as long.

use std::collections::VecDeque;

use millstream_model::WallTime;

use crate::{
    cadence::Cadence,
    sample::{Sample, TrackKind},
    track::PerTrack,
};

/// How much of one track's media is held while the other track is unknown or silent. Tracks may start two seconds
/// apart.
const WAIT_MS_MAX: i64 = 2_000;

/// How much audio is held while a known video track has no keyframe: more than the longest GOP in common use
/// (250 frames at 25 a second, and after a jump all of one may have to pass).
const KEYFRAME_WAIT_MS_MAX: i64 = 12_000;

/// Samples held at most: the longest wait with 96 kHz audio and 120 frames a second.
const SAMPLES_MAX: usize = 3_000;

/// Bytes held at most: the longest wait at 60 Mbit/s.
const BYTES_MAX: usize = 16 * 1024 * 1024;

/// A sample and the wall's time when it came.
#[derive(Debug)]
pub(crate) struct Arrival {
    pub(crate) sample: Sample,
    pub(crate) wall: WallTime,
}

/// Samples in the order of their arrival. Video begins with a keyframe.
#[derive(Debug, Default)]
pub(crate) struct Hold {
    arrivals: VecDeque<Arrival>,
    bytes: usize,
}

impl Hold {
    /// Whether there is room for one more sample.
    pub(crate) fn has_room(&self, sample: &Sample) -> bool {
        self.arrivals.len() < SAMPLES_MAX && self.bytes + sample.data.len() <= BYTES_MAX
    }

    /// Holds a sample. Gives it back when it is video before the first keyframe.
    pub(crate) fn push(&mut self, sample: Sample, wall: WallTime) -> Option<Sample> {
        if sample.track == TrackKind::Video && !sample.keyframe && self.first(TrackKind::Video).is_none() {
            return Some(sample);
        }
        self.bytes += sample.data.len();
        self.arrivals.push_back(Arrival { sample, wall });
        None
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.arrivals.is_empty()
    }

    /// Whether a continuity can start, when the tracks in `known` have a configuration.
    pub(crate) fn is_ready(&self, known: PerTrack<bool>) -> bool {
        let times = PerTrack { video: self.times(TrackKind::Video), audio: self.times(TrackKind::Audio) };
        let waited = span(&times.video).max(span(&times.audio));
        if times.video.is_empty() {
            let bound = if known.video { KEYFRAME_WAIT_MS_MAX } else { WAIT_MS_MAX };
            return !times.audio.is_empty() && waited >= bound;
        }
        Cadence::is_sure(&times.video) && (!times.audio.is_empty() || waited >= WAIT_MS_MAX)
    }

    /// The first arrival of a track.
    pub(crate) fn first(&self, track: TrackKind) -> Option<&Arrival> {
        self.arrivals.iter().find(|arrival| arrival.sample.track == track)
    }

    /// The rising decode times held of a track.
    pub(crate) fn times(&self, track: TrackKind) -> Vec<i64> {
        let mut times: Vec<i64> = Vec::new();
        for arrival in self.arrivals.iter().filter(|arrival| arrival.sample.track == track) {
            if times.last().is_none_or(|&last| arrival.sample.dts_ms > last) {
                times.push(arrival.sample.dts_ms);
            }
        }
        times
    }

    /// Drops what is held of a track.
    pub(crate) fn forget(&mut self, track: TrackKind) {
        self.arrivals.retain(|arrival| arrival.sample.track != track);
        self.bytes = self.arrivals.iter().map(|arrival| arrival.sample.data.len()).sum();
    }

    /// Everything, in the order of its arrival.
    pub(crate) fn into_arrivals(self) -> VecDeque<Arrival> {
        self.arrivals
    }
}

fn span(times: &[i64]) -> i64 {
    match (times.first(), times.last()) {
        (Some(first), Some(last)) => last.saturating_sub(*first),
        _ => 0,
    }
}
