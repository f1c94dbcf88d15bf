//! Three clocks that must never be mixed: a monotonic one, the wall's and a rendition's.

use core::{
    ops::{Add, Sub},
    time::Duration,
};

/// A point on a monotonic clock, in microseconds since an origin the caller chose (program start, simulation
/// start). Cores take it as an argument and never ask for it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Instant(pub u64);

impl Instant {
    /// The point `millis` milliseconds after the origin.
    #[must_use]
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis.saturating_mul(1_000))
    }

    /// Time since `earlier`; zero when `earlier` is later.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }

    /// Whole milliseconds since `earlier`; zero when `earlier` is later.
    #[must_use]
    pub const fn millis_since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0) / 1_000
    }
}

impl Add<Duration> for Instant {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)))
    }
}

impl Sub<Duration> for Instant {
    type Output = Self;

    fn sub(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)))
    }
}

/// Wall-clock time in milliseconds since 1970-01-01T00:00:00Z (Unix time). Edges and viewers use the tracker's.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
)]
#[serde(transparent)]
pub struct WallTime(pub u64);

impl WallTime {
    /// The point `millis` milliseconds later.
    #[must_use]
    pub const fn plus_millis(self, millis: u64) -> Self {
        Self(self.0.saturating_add(millis))
    }

    /// Milliseconds since `earlier`; zero when `earlier` is later.
    #[must_use]
    pub const fn millis_since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// A position on a rendition's decode timeline, in ticks of its timescale (the catalog says how many a second).
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
)]
#[serde(transparent)]
pub struct MediaTime(pub u64);

impl MediaTime {
    /// The position in microseconds, rounded down. `timescale` is in ticks a second and not zero (a zero gives
    /// zero).
    #[must_use]
    pub fn micros(self, timescale: u32) -> u64 {
        if timescale == 0 {
            return 0;
        }
        let micros = u128::from(self.0) * 1_000_000 / u128::from(timescale);
        u64::try_from(micros).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_never_underflow() {
        let start = Instant::from_millis(5);
        assert_eq!(start - Duration::from_secs(1), Instant(0));
        assert_eq!(Instant(0).since(start), Duration::ZERO);
        assert_eq!((start + Duration::from_millis(3)).millis_since(start), 3);
    }

    #[test]
    fn media_time_converts_with_its_timescale() {
        assert_eq!(MediaTime(90_000).micros(90_000), 1_000_000);
        assert_eq!(MediaTime(1).micros(0), 0);
        assert_eq!(MediaTime(u64::MAX).micros(1), u64::MAX);
    }
}
