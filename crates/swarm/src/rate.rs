//! How fast bytes can come: what adaptive players choose a rendition by.
//!
//! Measured on bursts (a part's bytes over the time from its record to its last piece), never on loader time, which
//! a local store makes meaningless. Two moving averages of different memory, the lower one counts: a drop is
//! believed at once, a rise after a while.

use millstream_model::BitRate;

/// Assumed before anything was measured: most paths carry it, and the first parts correct it.
const START: u64 = 5_000_000;

/// A burst shorter than this measures the scheduler, not the path.
const BURST_US_MIN: u64 = 1_000;

/// Bytes below which a burst says nothing: it fits the first flight of packets.
const BURST_BYTES_MIN: u64 = 8 * 1024;

/// Weights are out of this many.
const ONE: u64 = 256;

/// A fast average follows in about three bursts, a slow one in about ten.
const FAST: u64 = 80;
const SLOW: u64 = 24;

/// Both averages, in bits per second.
#[derive(Debug, Clone, Default)]
pub(crate) struct Estimate {
    averages: Option<(u64, u64)>,
}

impl Estimate {
    /// `bytes` came in `micros` microseconds.
    pub(crate) fn burst(&mut self, bytes: u64, micros: u64) {
        if bytes < BURST_BYTES_MIN {
            return;
        }
        let rate = bytes.saturating_mul(8_000_000) / micros.max(BURST_US_MIN);
        self.averages = Some(match self.averages {
            None => (rate, rate),
            Some((fast, slow)) => (blend(fast, rate, FAST), blend(slow, rate, SLOW)),
        });
    }

    pub(crate) fn rate(&self) -> BitRate {
        BitRate(self.averages.map_or(START, |(fast, slow)| fast.min(slow)))
    }
}

fn blend(old: u64, new: u64, weight: u64) -> u64 {
    let sum = u128::from(old) * u128::from(ONE - weight) + u128::from(new) * u128::from(weight);
    u64::try_from(sum / u128::from(ONE)).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drop_is_believed_sooner_than_a_rise() {
        let mut estimate = Estimate::default();
        estimate.burst(1_000_000, 1_000_000);
        assert_eq!(estimate.rate(), BitRate(8_000_000));
        for _ in 0..3 {
            estimate.burst(100_000, 1_000_000);
        }
        let low = estimate.rate().0;
        assert!(low < 3_500_000, "{low}");
        for _ in 0..3 {
            estimate.burst(1_000_000, 1_000_000);
        }
        assert!(estimate.rate().0 < 7_000_000);
    }

    #[test]
    fn crumbs_say_nothing() {
        let mut estimate = Estimate::default();
        estimate.burst(100, 1);
        assert_eq!(estimate.rate(), BitRate(START));
    }
}
