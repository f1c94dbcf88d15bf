//! How long a publisher's frames are, and what part target suits them.
//!
//! RFC 8216bis §4.4.3.7 wants every part at most PART-TARGET, and every part but a segment's last at least 85 % of
//! it. A part is a whole number of frames, so the target follows the frame.

/// Parts are as long as whole frames allow within this: about 250 ms, the design's latency.
const PART_MAX_US: u64 = 275_000;

/// What the milliseconds of RTMP's clock can add to or take from a part: one by rounding, one by the publisher's
/// jitter, at either end.
const JITTER_US: u64 = 4_000;

/// The shortest frame that is believed: 1,000 frames a second, one tick of RTMP's clock.
const FRAME_US_MIN: u64 = 1_000;

/// A frame's duration before anything was measured: 30 frames a second.
const FRAME_US_GUESS: u64 = 33_333;

/// Samples and milliseconds that make a sure measurement. No more than a first part needs anyway.
const SURE_SAMPLES: usize = 4;
const SURE_MS: i64 = 300;

/// With slower frames, as many milliseconds make do with two samples.
const SLOW_MS: i64 = 1_000;

/// A frame rate that an encoder claims, or else a whole number, is taken for the measured one when it is within one
/// part in this of it: milliseconds do not measure better over a third of a second.
const RATE_TRUST: u64 = 25;

/// The least share of its target that a part may have, in percent, unless it is a segment's last.
pub(crate) const PART_MIN_PERCENT: u64 = 85;

/// The usual duration of a publisher's frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cadence {
    frame_us: u64,
}

impl Cadence {
    /// The cadence of frames with these decode times (milliseconds, rising).
    pub(crate) fn measure(times: &[i64]) -> Self {
        let mut gaps: Vec<u64> =
            times.windows(2).map(|pair| pair[1].abs_diff(pair[0])).filter(|&gap| gap > 0).collect();
        gaps.sort_unstable();
        let Some(&median) = gaps.get(gaps.len() / 2) else {
            return Self { frame_us: FRAME_US_GUESS };
        };
        // The mean of what is not a dropped or doubled frame undoes the rounding to milliseconds.
        let (mut sum, mut count) = (0, 0);
        for gap in gaps.into_iter().filter(|gap| gap.abs_diff(median) * 2 <= median) {
            sum += gap * 1_000;
            count += 1;
        }
        Self { frame_us: (sum / count).max(FRAME_US_MIN) }
    }

    /// Whether these decode times are enough to measure.
    pub(crate) fn is_sure(times: &[i64]) -> bool {
        let (Some(first), Some(last)) = (times.first(), times.last()) else { return false };
        let span = last.saturating_sub(*first);
        span >= SLOW_MS || (times.len() >= SURE_SAMPLES && span >= SURE_MS)
    }

    /// One frame, in ticks.
    pub(crate) fn frame_ticks(self, timescale: u32) -> u64 {
        self.frame_us * u64::from(timescale) / 1_000_000
    }

    /// The part target for parts of as many whole frames as come near 250 ms.
    pub(crate) fn part_target_ms(self) -> u32 {
        let frames = (PART_MAX_US / self.frame_us).max(1);
        u32::try_from((frames * self.frame_us + JITTER_US).div_ceil(1_000)).unwrap_or(u32::MAX)
    }

    /// Whether parts of whole frames keep the rules under this target.
    pub(crate) fn fits(self, part_target_ms: u32) -> bool {
        let target = u64::from(part_target_ms) * 1_000;
        let frames = target.saturating_sub(JITTER_US - 1_000) / self.frame_us;
        frames > 0 && (frames * self.frame_us).saturating_sub(JITTER_US) * 100 >= target * PART_MIN_PERCENT
    }

    /// Frames per 1,000 seconds: what the encoder says, if it can be believed.
    pub(crate) fn frame_rate_milli(self, said: Option<u32>) -> u32 {
        let measured = 1_000_000_000 / self.frame_us;
        let whole = (measured + 500) / 1_000 * 1_000;
        let near = |rate: &u64| *rate > 0 && rate.abs_diff(measured) * RATE_TRUST <= measured;
        let rate = said.map(u64::from).filter(near).or(Some(whole).filter(near)).unwrap_or(measured);
        u32::try_from(rate).unwrap_or(u32::MAX)
    }
}

/// The part target for audio frames of `samples`: exact, so nothing is left for jitter.
pub(crate) fn audio_part_target_ms(samples: u32, sample_rate: u32) -> u32 {
    let frame_us = u64::from(samples) * 1_000_000 / u64::from(sample_rate.max(1));
    let frames = (PART_MAX_US / frame_us.max(1)).max(1);
    let target = (frames * u64::from(samples) * 1_000).div_ceil(u64::from(sample_rate.max(1)));
    u32::try_from(target).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at_rate(milli: i64) -> Cadence {
        let times: Vec<i64> = (0..20).map(|i| i * 1_000_000 / milli).collect();
        Cadence::measure(&times)
    }

    #[test]
    fn the_usual_rates_get_parts_near_a_quarter_second() {
        let targets = [60_000, 50_000, 30_000, 29_970, 25_000, 24_000, 20_000, 15_000, 12_000, 10_000, 5_000]
            .map(|rate| at_rate(rate).part_target_ms());
        assert_eq!(targets, [271, 264, 271, 271, 244, 254, 254, 271, 254, 204, 204]);
    }

    #[test]
    fn a_target_fits_the_cadence_it_was_chosen_for() {
        for milli in (1_000..120_000).step_by(370) {
            let cadence = at_rate(milli);
            assert!(cadence.fits(cadence.part_target_ms()), "{milli} {cadence:?}");
        }
        assert!(!at_rate(10_000).fits(at_rate(25_000).part_target_ms()));
        assert!(at_rate(60_000).fits(at_rate(30_000).part_target_ms()));
    }

    #[test]
    fn a_dropped_frame_does_not_change_the_measure() {
        let times = [0, 33, 67, 100, 133, 200, 233, 267, 300];
        assert_eq!(Cadence::measure(&times).frame_rate_milli(Some(29_970)), 29_970);
        assert!(Cadence::is_sure(&times));
    }

    #[test]
    fn an_encoder_that_says_nonsense_is_not_believed() {
        assert_eq!(at_rate(25_000).frame_rate_milli(Some(90_000)), 25_000);
        assert_eq!(at_rate(30_000).frame_rate_milli(None), 30_000);
        assert_eq!(at_rate(7_500).frame_rate_milli(None), 7_501);
    }

    #[test]
    fn audio_parts_are_whole_frames() {
        assert_eq!(audio_part_target_ms(1_024, 48_000), 256);
        assert_eq!(audio_part_target_ms(1_024, 44_100), 256);
        assert_eq!(audio_part_target_ms(1_024, 22_050), 233);
        assert_eq!(audio_part_target_ms(1_024, 8_000), 256);
    }
}
