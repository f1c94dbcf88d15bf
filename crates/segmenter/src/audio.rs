//! The audio track within a continuity: frames counted in samples, kept near the publisher's clock.
//!
//! A frame has as many samples as its codec says, whatever RTMP's rounded clock does, so audio plays without a seam. When the count
//! departs from the clock by more than a bound, whole frames put it right: silence where frames are missing,
//! a dropped frame where there are too many. Media time stays without holes, and parts keep their length.

use bytes::Bytes;

use crate::{
    codec::AudioCodec,
    cut::{Cutter, Frame, Segments},
    output::Complaint,
    sample::Sample,
};

/// How far the count of samples may be from the publisher's clock: more than the jitter of usual publishers, less
/// than what is noticed between lips and sound (ITU-R BT.1359: 45 ms early, 125 ms late).
const DEPARTURE_MS_MAX: u64 = 60;

/// The longest gap that is filled with silence: the longest step of a clock that is no jump, on top of the longest
/// wait for a stream's start.
const SILENCE_MS_MAX: u64 = 6_000;

/// The audio track.
#[derive(Debug)]
pub(crate) struct Audio {
    codec: AudioCodec,
    /// The continuity's base, in ticks.
    base: u64,
    /// Where the next frame starts, in ticks.
    next: Option<u64>,
    pub(crate) cutter: Cutter,
}

impl Audio {
    /// A track whose frames usually have `frame` samples.
    pub(crate) fn new(
        codec: AudioCodec,
        frame: u32,
        base_ms: u64,
        part_target_ms: u32,
        segment: u64,
    ) -> Self {
        let rate = codec.sample_rate;
        let cutter = Cutter::new(Segments::AtMultiples, rate, u64::from(frame), part_target_ms, segment);
        Self { base: ticks(base_ms, rate), codec, next: None, cutter }
    }

    /// The next sample, which lies at `at_ms` of the stream's media time by the publisher's clock (negative: before
    /// it).
    pub(crate) fn push(&mut self, sample: Sample, at_ms: i64) -> Option<Complaint> {
        let Some(samples) = self.codec.samples(&sample.data) else {
            return Some(Complaint::Unreadable { track: sample.track });
        };
        let at = u64::try_from(at_ms).ok().map(|at_ms| ticks(at_ms, self.codec.sample_rate));
        let Some(next) = self.next else {
            // Before the stream's first picture there is nothing to hear.
            let at = at.filter(|&at| at >= self.base)?;
            let frames = self.silent_frames(at - self.base);
            self.next = Some(at - frames * u64::from(self.codec.silence_samples));
            self.fill(frames);
            self.add(sample.data, samples);
            return None;
        };
        let departure = i128::from(at.unwrap_or(0)) - i128::from(next);
        let bound = i128::from(ticks(DEPARTURE_MS_MAX, self.codec.sample_rate));
        let mut complaint = None;
        if departure < -bound {
            let ahead = u64::try_from(-departure).unwrap_or(u64::MAX);
            return Some(Complaint::AudioAhead { by_ms: millis(ahead, self.codec.sample_rate) });
        }
        if departure > bound {
            let gap = u64::try_from(departure).unwrap_or(u64::MAX);
            let frames = self.silent_frames(gap.saturating_add(u64::from(self.codec.silence_samples / 2)));
            self.fill(frames);
            complaint = Some(Complaint::AudioGap { frames });
        }
        self.add(sample.data, samples);
        complaint
    }

    /// No more samples. Gives where the track ends, in milliseconds of media time, rounded up.
    pub(crate) fn finish(&mut self) -> Option<u64> {
        self.cutter.end_segment();
        let ticks = u128::from(self.next?);
        u64::try_from((ticks * 1_000).div_ceil(u128::from(self.codec.sample_rate))).ok()
    }

    /// Whole frames of silence in `gap` ticks, as many as are filled at once.
    fn silent_frames(&self, gap: u64) -> u64 {
        gap.min(ticks(SILENCE_MS_MAX, self.codec.sample_rate)) / u64::from(self.codec.silence_samples)
    }

    fn fill(&mut self, frames: u64) {
        for _ in 0..frames {
            self.add(self.codec.silence.clone(), self.codec.silence_samples);
        }
    }

    fn add(&mut self, data: Bytes, samples: u32) {
        let start = self.next.unwrap_or(self.base);
        self.next = Some(start + u64::from(samples));
        self.cutter.push(Frame { start, duration: samples, composition: 0, keyframe: true, data });
    }
}

/// Milliseconds in ticks, rounded down.
fn ticks(ms: u64, sample_rate: u32) -> u64 {
    u64::try_from(u128::from(ms) * u128::from(sample_rate) / 1_000).unwrap_or(u64::MAX)
}

/// Ticks in milliseconds, rounded down.
pub(crate) fn millis(ticks: u64, timescale: u32) -> u64 {
    u64::try_from(u128::from(ticks) * 1_000 / u128::from(timescale.max(1))).unwrap_or(u64::MAX)
}
