//! How long parts take to arrive: counts by the millisecond, so that a thousand viewers can be asked for a percentile.

use serde::Serialize;

/// Longer delays count as this one: whoever asks wants to know whether parts come in a fraction of a second.
const MS_MAX: i64 = 2_000;

/// Shorter ones, too: a packager's clock is set by a stream's first frame, and the publisher may have gained since.
const MS_MIN: i64 = -500;

/// Delays by milliseconds.
#[derive(Debug, Clone)]
pub(crate) struct Delays {
    counts: Vec<u32>,
}

/// What is told of them, in milliseconds. All 0 where nothing was counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Percentiles {
    /// Of how many parts.
    pub count: u64,
    /// Half came sooner; −500 means that or sooner.
    pub p50: i64,
    /// 99 of 100 came sooner; 2,000 means that or later.
    pub p99: i64,
    /// All came sooner; 2,000 means that or later.
    pub max: i64,
}

impl Default for Delays {
    fn default() -> Self {
        Self { counts: (MS_MIN..=MS_MAX).map(|_| 0).collect() }
    }
}

impl Delays {
    pub(crate) fn add(&mut self, ms: i64) {
        let place = usize::try_from(ms.clamp(MS_MIN, MS_MAX) - MS_MIN).ok();
        if let Some(count) = place.and_then(|place| self.counts.get_mut(place)) {
            *count += 1;
        }
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        self.counts.iter_mut().zip(&other.counts).for_each(|(own, others)| *own += others);
    }

    pub(crate) fn percentiles(&self) -> Percentiles {
        let count: u64 = self.counts.iter().copied().map(u64::from).sum();
        if count == 0 {
            return Percentiles::default();
        }
        // Nearest rank.
        let at = |percent: u64| {
            let rank = (count * percent).div_ceil(100).max(1);
            let mut seen = 0;
            let reached = (MS_MIN..).zip(&self.counts).find(|(_, count)| {
                seen += u64::from(**count);
                seen >= rank
            });
            reached.map_or(MS_MAX, |(ms, _)| ms)
        };
        Percentiles { count, p50: at(50), p99: at(99), max: at(100) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_the_nearest_rank_and_over_all_viewers() {
        let (mut one, mut other) = (Delays::default(), Delays::default());
        assert_eq!(one.percentiles(), Percentiles::default());
        (1..=50).for_each(|ms| one.add(ms - 49));
        (51..=99).for_each(|ms| other.add(ms));
        other.add(9_999);
        one.merge(&other);
        assert_eq!(one.percentiles(), Percentiles { count: 100, p50: 1, p99: 99, max: 2_000 });
        let mut early = Delays::default();
        early.add(-9_999);
        assert_eq!(early.percentiles(), Percentiles { count: 1, p50: -500, p99: -500, max: -500 });
    }
}
