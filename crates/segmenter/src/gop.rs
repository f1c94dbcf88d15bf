//! Whether keyframes come often enough, and when to say that they do not.
//!
//! A stream with a long GOP plays: its segments are cut between keyframes. But whoever joins waits for a keyframe,
//! and players change renditions and seek at keyframes alone. The publisher's owner can put it right in the encoder's
//! settings, so it is told once what is wrong, and again when it gets worse.

use crate::output::{Complaint, TARGET_DURATION_MS};

/// What encoders are asked for: a keyframe for each segment.
pub(crate) const GOP_MS_WANTED: u64 = 2_000;

/// A GOP of the target duration may jitter by this much and still fit a segment.
const JITTER_MS_MAX: u64 = 100;

/// When no keyframe came for so long, nobody waits for one any more to say how long its GOP was: more than the longest
/// in common use (250 frames at 24 a second).
const OPEN_MS_MAX: u64 = 12_000;

/// One publisher's keyframes.
#[derive(Debug, Default)]
pub(crate) struct Gops {
    last_keyframe_ms: Option<u64>,
    /// Since then.
    frames: u64,
    /// The longest that was told.
    told_ms: u64,
}

impl Gops {
    /// The publisher left: another may have other settings.
    pub(crate) fn forget(&mut self) {
        *self = Self::default();
    }

    /// A continuity ended: what comes next begins with a keyframe, and the time between is nobody's setting.
    pub(crate) fn cut(&mut self) {
        self.last_keyframe_ms = None;
    }

    /// A frame at `at_ms` of the stream's media time.
    pub(crate) fn observe(&mut self, keyframe: bool, at_ms: u64) -> Option<Complaint> {
        let gop_ms = self.last_keyframe_ms.map_or(0, |last| at_ms.saturating_sub(last));
        let frames = self.frames;
        self.frames = if keyframe { 1 } else { frames.saturating_add(1) };
        if keyframe {
            self.last_keyframe_ms = Some(at_ms);
        } else if gop_ms < OPEN_MS_MAX {
            return None;
        }
        let is_long = gop_ms > u64::from(TARGET_DURATION_MS) + JITTER_MS_MAX;
        // A quarter more is worse; less is what scene cuts and jitter make.
        if !is_long || gop_ms.saturating_mul(4) <= self.told_ms * 5 {
            return None;
        }
        // While it goes on, it is told once.
        self.told_ms = if keyframe { gop_ms } else { u64::MAX / 8 };
        // Over a whole GOP the milliseconds of the clock weigh nothing.
        let rate = frames.saturating_mul(1_000_000) / gop_ms;
        let frame_rate_milli = u32::try_from(rate).unwrap_or(u32::MAX);
        Some(Complaint::LongGop { gop_ms, frame_rate_milli })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// GOPs told of keyframes this far apart, at 25 frames a second.
    fn told(gops: &mut Gops, distances_ms: &[u64]) -> Vec<u64> {
        let (mut at_ms, mut next_ms, mut told) = (0, 0, Vec::new());
        for distance_ms in distances_ms {
            while at_ms <= next_ms {
                let complaint = gops.observe(at_ms == next_ms, at_ms);
                if let Some(Complaint::LongGop { gop_ms, .. }) = complaint {
                    told.push(gop_ms);
                }
                at_ms += 40;
            }
            next_ms += distance_ms;
        }
        told
    }

    #[test]
    fn keyframes_that_come_in_time_are_nothing_to_talk_about() {
        assert_eq!(told(&mut Gops::default(), &[2_000, 4_000, 40, 4_080, 1_000, 3_000]), []);
    }

    #[test]
    fn a_long_gop_is_told_once_and_again_when_it_gets_worse() {
        let gops = &mut Gops::default();
        let distances = [0, 5_000, 2_000, 5_000, 5_200, 8_000, 6_000, 10_000, 10_000, 11_000, 0];
        assert_eq!(told(gops, &distances), [5_000, 8_000, 11_000]);
        gops.forget();
        assert_eq!(told(gops, &[0, 5_000, 5_000, 0]), [5_000], "another publisher is told, too");
    }

    #[test]
    fn a_gop_without_an_end_is_told_before_it() {
        assert_eq!(told(&mut Gops::default(), &[3_600_000, 3_600_000]), [12_000]);
    }
}
