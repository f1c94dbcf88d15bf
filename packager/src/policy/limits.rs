//! One publisher held to its stream's limits: what its encoder says of itself, then what really comes. Pure.

use std::time::Duration;

use millstream_model::Instant;

use super::{Picture, Policy};
use crate::ingest::Metadata;

/// Seconds of the highest rate that may come beyond it: what an encoder has piled up while its line stood still. (OBS
/// throws away what waits longer.)
const BURST_S: u64 = 10;

/// What rates may be over for ever, in percent: encoders hit theirs on average, and no better.
const OVER_PERCENT: u64 = 10;

/// Rates above are not believed: a terabit a second.
const KBPS_MAX: f64 = 1e9;

/// More than a stream's policy allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Breach {
    #[error(
        "the encoder announces {kbps} kbit/s and this stream takes {max_kbps} at most, picture and sound together; \
         lower its bitrate"
    )]
    Announced { kbps: u64, max_kbps: u64 },
    #[error(
        "{kbps} kbit/s came over {over_s} s and this stream takes {max_kbps} at most; lower the encoder's bitrate"
    )]
    Sent { kbps: u64, over_s: u64, max_kbps: u64 },
    #[error(
        "the picture is {width}x{height} and this stream takes {max} at most; lower the encoder's output resolution"
    )]
    Picture { width: u32, height: u32, max: Picture },
    #[error("the show has lasted {} s, the longest that this stream may; it is over", .max.as_secs())]
    Duration { max: Duration },
}

impl Breach {
    /// Which limit, as metrics name it.
    pub(crate) const fn limit(&self) -> &'static str {
        match self {
            Self::Announced { .. } | Self::Sent { .. } => "bitrate",
            Self::Picture { .. } => "picture",
            Self::Duration { .. } => "duration",
        }
    }

    /// The whole show is over, not its publisher alone.
    pub(crate) const fn ends_show(&self) -> bool {
        matches!(self, Self::Duration { .. })
    }
}

/// What one publisher has used up.
#[derive(Debug)]
pub(crate) struct Limits {
    policy: Policy,
    /// When the show must end.
    ends: Option<Instant>,
    /// Bits beyond the rate. Emptied by time.
    over_bits: u64,
    at: Instant,
    /// Since there was last nothing beyond the rate.
    since: Instant,
    bits: u64,
}

impl Limits {
    /// For a publisher that comes `now` to a show that began at `began`.
    pub(crate) fn new(policy: Policy, began: Instant, now: Instant) -> Self {
        let ends = policy.duration_max.map(|max| began + max);
        Self { policy, ends, over_bits: 0, at: now, since: now, bits: 0 }
    }

    /// When [`Self::time`] has something to say.
    pub(crate) const fn ends(&self) -> Option<Instant> {
        self.ends
    }

    /// Whether the show has lasted too long.
    pub(crate) fn time(&self, now: Instant) -> Result<(), Breach> {
        match (self.ends, self.policy.duration_max) {
            (Some(ends), Some(max)) if now >= ends => Err(Breach::Duration { max }),
            _ => Ok(()),
        }
    }

    /// What the encoder says of itself. What it does not say, or cannot be, is no breach: it will be measured.
    pub(crate) fn announced(&self, metadata: &Metadata) -> Result<(), Breach> {
        if let Some(max_kbps) = self.policy.bitrate_kbps_max {
            let kbps =
                [metadata.video_kbps, metadata.audio_kbps].map(|kbps| whole(kbps, KBPS_MAX)).iter().sum();
            if kbps > max_kbps {
                return Err(Breach::Announced { kbps, max_kbps });
            }
        }
        let side = |side| u32::try_from(whole(side, f64::from(u16::MAX))).unwrap_or(0);
        self.picture(side(metadata.width), side(metadata.height))
    }

    /// A picture that is sent, or announced.
    pub(crate) fn picture(&self, width: u32, height: u32) -> Result<(), Breach> {
        match self.policy.picture_max {
            Some(max) if !max.holds(width, height) => Err(Breach::Picture { width, height, max }),
            _ => Ok(()),
        }
    }

    /// A sample came.
    pub(crate) fn sample(&mut self, bytes: usize, now: Instant) -> Result<(), Breach> {
        let Some(max_kbps) = self.policy.bitrate_kbps_max else { return Ok(()) };
        let bits = (bytes as u64).saturating_mul(8);
        let elapsed_us = u64::try_from(now.since(self.at).as_micros()).unwrap_or(u64::MAX);
        // kbit/s are bits a millisecond.
        let drained =
            u128::from(elapsed_us) * u128::from(max_kbps) * u128::from(100 + OVER_PERCENT) / 100_000;
        let drained = u64::try_from(drained).unwrap_or(u64::MAX);
        self.at = now;
        if drained >= self.over_bits {
            (self.over_bits, self.since, self.bits) = (0, now, 0);
        }
        self.over_bits = self.over_bits.saturating_sub(drained).saturating_add(bits);
        self.bits = self.bits.saturating_add(bits);
        if self.over_bits <= max_kbps.saturating_mul(1_000 * BURST_S) {
            return Ok(());
        }
        let over_s = now.since(self.since).as_secs().max(1);
        Err(Breach::Sent { kbps: self.bits / 1_000 / over_s, over_s, max_kbps })
    }
}

/// A number that an encoder says, if it can be one; else nothing.
fn whole(said: Option<f64>, most: f64) -> u64 {
    let said = said.filter(|said| (0.0..=most).contains(said)).unwrap_or(0.0);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and `most`")]
    let said = said as u64;
    said
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::Takeover;

    const POLICY: Policy = Policy {
        takeover: Takeover::Refuse,
        away: Duration::ZERO,
        bitrate_kbps_max: Some(6_000),
        picture_max: Some(Picture { width: 1_920, height: 1_080 }),
        duration_max: Some(Duration::from_secs(3_600)),
    };

    fn at(ms: u64) -> Instant {
        Instant(0) + Duration::from_millis(ms)
    }

    fn limits() -> Limits {
        Limits::new(POLICY, at(0), at(0))
    }

    fn says(width: f64, height: f64, video: f64, audio: f64) -> Result<(), Breach> {
        let (width, height, video_kbps, audio_kbps) = (Some(width), Some(height), Some(video), Some(audio));
        let metadata = Metadata { width, height, video_kbps, audio_kbps, ..Metadata::default() };
        limits().announced(&metadata)
    }

    /// When frames at 25 a second, each of so many bits, are too many.
    fn cut_off_ms(kbps_at: impl Fn(u64) -> u64) -> Option<(u64, Breach)> {
        let mut limits = limits();
        (0..1_800_000).step_by(40).find_map(|ms| {
            let bytes = usize::try_from(kbps_at(ms) * 40 / 8).unwrap();
            limits.sample(bytes, at(ms)).err().map(|breach| (ms, breach))
        })
    }

    #[test]
    fn what_an_encoder_announces_is_held_to_the_limits() {
        assert_eq!(says(1920.0, 1080.0, 5_840.0, 160.0), Ok(()));
        assert_eq!(says(1080.0, 1920.0, 0.0, 160.0), Ok(()));
        assert_eq!(
            says(1920.0, 1080.0, 6_000.0, 160.0),
            Err(Breach::Announced { kbps: 6_160, max_kbps: 6_000 })
        );
        let large = says(3840.0, 2160.0, 100.0, 100.0).unwrap_err();
        assert!(large.to_string().contains("3840x2160 and this stream takes 1920x1080 at most"), "{large}");
        assert_eq!((large.limit(), large.ends_show()), ("picture", false));
        for nonsense in [f64::NAN, -1.0, f64::INFINITY, 1e300] {
            assert_eq!(says(nonsense, nonsense, nonsense, nonsense), Ok(()));
        }
        assert_eq!(limits().announced(&Metadata::default()), Ok(()), "who says nothing is measured");
    }

    #[test]
    fn a_rate_that_swings_around_the_limit_is_fine_for_ever() {
        assert_eq!(cut_off_ms(|_| 6_000), None);
        assert_eq!(cut_off_ms(|_| 6_590), None);
        assert_eq!(cut_off_ms(|ms| if ms % 20_000 < 10_000 { 10_000 } else { 3_000 }), None);
    }

    #[test]
    fn a_backlog_after_a_line_that_stood_still_is_no_breach() {
        // Nothing for eight seconds of each minute, then all of it at five times the rate.
        let rate = |ms| match ms % 60_000 {
            0..8_000 => 0,
            8_000..10_000 => 30_000,
            _ => 6_000,
        };
        assert_eq!(cut_off_ms(rate), None);
    }

    #[test]
    fn a_rate_over_the_limit_is_cut_off_after_the_burst_and_says_what_was_sent() {
        for (kbps, within_s) in [(60_000, 2), (12_000, 13), (9_000, 26), (7_000, 155)] {
            let (ms, breach) = cut_off_ms(|_| kbps).unwrap();
            assert!(ms / 1_000 <= within_s && ms > 1_000, "{kbps}: {ms}");
            let Breach::Sent { kbps: said, max_kbps: 6_000, .. } = breach else { panic!("{breach}") };
            assert!(said.abs_diff(kbps) * 10 <= kbps * 2, "{said} of {kbps}");
        }
        // However long it behaved before.
        let (ms, breach) = cut_off_ms(|ms| if ms < 600_000 { 3_000 } else { 12_000 }).unwrap();
        assert!((608_000..613_000).contains(&ms), "{ms} {breach}");
    }

    #[test]
    fn a_show_ends_in_time_whoever_publishes_it_by_then() {
        let late = Limits::new(POLICY, at(0), at(3_599_000));
        assert_eq!((late.ends(), late.time(at(3_599_999))), (Some(at(3_600_000)), Ok(())));
        let over = late.time(at(3_600_000)).unwrap_err();
        assert!(over.ends_show() && over.to_string().contains("3600 s"), "{over}");
    }

    #[test]
    fn without_limits_everything_goes() {
        let policy = Policy { bitrate_kbps_max: None, picture_max: None, duration_max: None, ..POLICY };
        let mut free = Limits::new(policy, at(0), at(0));
        assert_eq!(free.sample(usize::MAX, at(0)), Ok(()));
        assert_eq!(
            (free.picture(u32::MAX, 1), free.time(Instant(u64::MAX)), free.ends()),
            (Ok(()), Ok(()), None)
        );
    }
}
