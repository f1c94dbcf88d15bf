//! When to ask again: soon after the first failure, ever later, never all at once.
//!
//! Pure: chance comes as a seed.

use std::time::Duration;

/// After the first failure, at most: a camera that restarts its encoder is back at once.
const FIRST: Duration = Duration::from_millis(500);

/// Between two attempts, at most: somebody who plugs a camera in does not wait for long, and one that is gone for
/// months costs two packets a minute.
const MOST: Duration = Duration::from_secs(30);

/// Counts failures in a row.
#[derive(Debug, Clone)]
pub(super) struct Backoff {
    failures: u32,
    chance: u64,
}

impl Backoff {
    /// Another seed makes other pauses.
    pub(super) const fn new(seed: u64) -> Self {
        Self { failures: 0, chance: seed }
    }

    /// It worked: the next failure is a first one.
    pub(super) const fn succeeded(&mut self) {
        self.failures = 0;
    }

    /// Failures since it worked.
    pub(super) const fn failures(&self) -> u32 {
        self.failures
    }

    /// It failed; how long to wait now. Between half and all of what doubles each time, so that cameras behind one
    /// switch are not asked in step.
    pub(super) fn failed(&mut self) -> Duration {
        let most = FIRST.saturating_mul(1 << self.failures.min(16)).min(MOST);
        self.failures = self.failures.saturating_add(1);
        let half = most / 2;
        let micros = u64::try_from(half.as_micros()).unwrap_or(u64::MAX);
        half + Duration::from_micros(self.draw() % (micros + 1))
    }

    /// SplitMix64 (Steele, Lea, Flood 2014).
    const fn draw(&mut self) -> u64 {
        self.chance = self.chance.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.chance;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_most_and_begin_anew_after_success() {
        let mut backoff = Backoff::new(1);
        let mut most = FIRST;
        for failure in 0..100_000 {
            let pause = backoff.failed();
            assert!(pause >= most / 2 && pause <= most, "failure {failure}: {pause:?} of {most:?}");
            most = (most * 2).min(MOST);
        }
        assert_eq!(backoff.failures(), 100_000);
        backoff.succeeded();
        assert!(backoff.failed() <= FIRST);
    }

    #[test]
    fn cameras_are_not_asked_in_step() {
        let pauses: Vec<_> = (0..50).map(|seed| Backoff::new(seed).failed()).collect();
        let (least, most) = (pauses.iter().min().unwrap(), pauses.iter().max().unwrap());
        assert!(*most - *least > FIRST / 3, "{least:?} {most:?}");
    }
}
