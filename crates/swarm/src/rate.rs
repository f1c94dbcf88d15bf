//! How fast bytes can come: what adaptive players choose a rendition by.
//!
//! Measured on bursts (a part's bytes over the time from its record to its last piece), never on loader time, which
//! a local store makes meaningless. A part that waited behind others on a full line is measured from the end of the
//! one before it: the wait says nothing about the line. Of three bursts in a row the middle one is believed: a single
//! slow one may have lost a packet, and a single fast one was read by a page that had stood still while it came. Two
//! moving averages of different memory, the lower one counts: a drop is believed at once, a rise after a while. They run
//! on a scale of ratios: on one of rates, a fast line's past would hide for seconds that it has become a slow one, and
//! one late burst would count as much as ten timely ones.

use millstream_model::{BitRate, Instant};

/// Assumed before anything was measured: most paths carry it, and the first parts correct it.
const START: u64 = 5_000_000;

/// A burst shorter than this measures the scheduler, not the path.
const BURST_US_MIN: u64 = 1_000;

/// A burst of fewer bytes says no more than how fast the path is at least: delays weigh more than the bytes in it.
const BURST_BYTES_MIN: u64 = 8 * 1024;

/// A burst of fewer bytes says nothing at all: a few packets.
const CRUMB_BYTES_MIN: u64 = 2 * 1024;

/// What may have come in the packet that brought the record: it took none of the time from there on. Without it two
/// packets would say that the line is twice as fast as it is.
const FIRST_PACKET_BYTES: u64 = 1_200;

/// Weights are out of this many.
const ONE: u64 = 256;

/// A fast average falls in two bursts and rises in three, a slow one follows in about ten.
const FALL: u64 = 144;
const FAST: u64 = 80;
const SLOW: u64 = 24;

/// Bits behind the point of the scale of ratios.
const FRACTION: u32 = 16;

/// The two averages, and what has come since the last burst's end.
#[derive(Debug, Clone, Default)]
pub(crate) struct Estimate {
    /// On the scale of ratios.
    averages: Option<(u64, u64)>,
    /// The two bursts before, on the same scale.
    before: [u64; 2],
    arrived: u64,
    ended: Instant,
}

impl Estimate {
    /// Bytes came over a data channel.
    pub(crate) const fn arrived(&mut self, bytes: u64) {
        self.arrived = self.arrived.saturating_add(bytes);
    }

    /// A part of `size` bytes, expected since then, is whole; 0 when its own time says nothing.
    pub(crate) fn whole(&mut self, size: u32, since: Instant, now: Instant) {
        let waited = since < self.ended;
        let (bytes, begun) = if waited {
            (self.arrived, self.ended)
        } else {
            (u64::from(size).saturating_sub(FIRST_PACKET_BYTES), since)
        };
        self.burst(bytes, now.0.saturating_sub(begun.0));
        self.ends(now);
    }

    /// A part is whole whose time says nothing about the line.
    pub(crate) const fn ends(&mut self, now: Instant) {
        (self.arrived, self.ended) = (0, now);
    }

    /// `bytes` came in `micros` microseconds.
    pub(crate) fn burst(&mut self, bytes: u64, micros: u64) {
        if bytes < CRUMB_BYTES_MIN {
            return;
        }
        let rate = bytes.saturating_mul(8_000_000) / micros.max(BURST_US_MIN);
        let known = self.rate().0;
        let is_slow_crumb = bytes < BURST_BYTES_MIN && rate <= known;
        let burst = level(if is_slow_crumb { known } else { rate });
        let Some((fast, slow)) = self.averages else {
            if !is_slow_crumb {
                (self.averages, self.before) = (Some((burst, burst)), [burst; 2]);
            }
            return;
        };
        let [older, last] = self.before;
        self.before = [last, burst];
        if is_slow_crumb {
            return;
        }
        let level = middle(older, last, burst);
        let weight = if level < fast { FALL } else { FAST };
        self.averages = Some((blend(fast, level, weight), blend(slow, level, SLOW)));
    }

    pub(crate) fn rate(&self) -> BitRate {
        BitRate(self.averages.map_or(START, |(fast, slow)| rate_at(fast.min(slow))))
    }
}

fn middle(a: u64, b: u64, c: u64) -> u64 {
    a.max(b).min(a.min(b).max(c))
}

fn blend(old: u64, new: u64, weight: u64) -> u64 {
    // Levels are below 64 << FRACTION.
    (old * (ONE - weight) + new * weight) / ONE
}

/// Where a rate stands on the scale of ratios: the logarithm to base two, straight between powers of two.
fn level(rate: u64) -> u64 {
    let rate = rate.max(1);
    let power = rate.ilog2();
    let rest = rate - (1 << power);
    let rest = if power < FRACTION { rest << (FRACTION - power) } else { rest >> (power - FRACTION) };
    (u64::from(power) << FRACTION) | rest
}

/// The rate that stands there.
fn rate_at(level: u64) -> u64 {
    let power = level >> FRACTION;
    let rest = level & ((1 << FRACTION) - 1);
    let rate = (1 << FRACTION) | rest;
    if power < u64::from(FRACTION) {
        rate >> (u64::from(FRACTION) - power)
    } else {
        rate << (power - u64::from(FRACTION))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000;

    #[test]
    fn a_drop_is_believed_sooner_than_a_rise() {
        let mut estimate = Estimate::default();
        estimate.burst(1_000_000, SECOND);
        assert_eq!(estimate.rate(), BitRate(8_000_000));
        for _ in 0..3 {
            estimate.burst(100_000, SECOND);
        }
        let low = estimate.rate().0;
        assert!(low < 2_000_000, "{low}");
        for _ in 0..3 {
            estimate.burst(1_000_000, SECOND);
        }
        assert!(estimate.rate().0 < 6_000_000);
    }

    #[test]
    fn a_fast_past_does_not_hide_a_drop_and_one_late_part_is_none() {
        let mut estimate = Estimate::default();
        estimate.burst(30_000, 2_000);
        estimate.burst(30_000, 500_000);
        assert!(estimate.rate().0 > 5_000_000, "{:?}", estimate.rate());
        for _ in 0..5 {
            estimate.burst(30_000, 400_000);
        }
        assert!(estimate.rate().0 < 1_200_000, "{:?}", estimate.rate());
    }

    #[test]
    fn crumbs_say_how_fast_the_path_is_at_least() {
        let mut estimate = Estimate::default();
        estimate.burst(100, 1);
        assert_eq!(estimate.rate(), BitRate(START));
        estimate.burst(30_000, 400_000);
        let low = estimate.rate();
        estimate.burst(4_000, 100_000);
        assert_eq!(estimate.rate(), low, "a late one says nothing");
        for _ in 0..10 {
            estimate.burst(4_000, 2_000);
        }
        assert!(
            estimate.rate().0 > 3_000_000,
            "else a small rendition would be left never: {:?}",
            estimate.rate()
        );
    }

    #[test]
    fn what_waits_behind_others_on_a_full_line_measures_the_line() {
        let mut estimate = Estimate::default();
        // Four parts a second of 30 kB want to come over a line of 800 kbit/s: each comes later than the one before.
        for part in 1..=20 {
            estimate.arrived(30_000);
            estimate.whole(30_000, Instant(part * SECOND / 4), Instant(SECOND / 4 + part * 3 * SECOND / 10));
        }
        let rate = estimate.rate().0;
        assert!((700_000..900_000).contains(&rate), "{rate}");
    }

    #[test]
    fn what_came_with_the_record_does_not_make_the_line_faster() {
        let mut estimate = Estimate::default();
        estimate.burst(87_500, SECOND);
        // Small parts on a line of 700 kbit/s that they do not fill: the first of their packets brings their record.
        for part in 1..=40 {
            let (packets, since) = (2 + part % 3, Instant(part * SECOND / 4));
            let size = u32::try_from(packets * FIRST_PACKET_BYTES).unwrap();
            let micros = (packets - 1) * FIRST_PACKET_BYTES * 8 * 1_000_000 / 700_000;
            estimate.arrived(size.into());
            estimate.whole(size, since, Instant(since.0 + micros));
        }
        let rate = estimate.rate().0;
        assert!((650_000..750_000).contains(&rate), "{rate}");
    }

    #[test]
    fn a_page_that_stood_still_for_a_moment_does_not_make_the_line_faster() {
        for bytes in [6_000, 30_000] {
            let mut estimate = Estimate::default();
            estimate.burst(87_500, SECOND);
            for part in 0..40 {
                // Every fourth was whole before anybody looked.
                let micros = if part % 4 == 0 { 0 } else { bytes * 8_000_000 / 700_000 };
                estimate.burst(bytes, micros);
            }
            let rate = estimate.rate().0;
            assert!((650_000..750_000).contains(&rate), "{rate} by parts of {bytes}");
        }
    }

    #[test]
    fn the_scale_of_ratios_goes_both_ways() {
        for rate in [1, 2, 3, 1_000, 65_535, 800_000, 5_000_000, 7_777_777_777, u64::MAX] {
            let back = rate_at(level(rate));
            assert!(back <= rate && rate - back <= rate / 60_000, "{rate} {back}");
        }
    }
}
