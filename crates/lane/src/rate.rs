//! A bucket that drains: how much of something may come or go at once, and a second after that.

use millstream_model::Instant;

/// Parts of one thing that are counted: drained by the microsecond.
const PARTS: u64 = 1_000_000;

#[derive(Debug)]
pub(crate) struct Rate {
    burst: u64,
    per_second: u64,
    /// Parts in the bucket at `at`.
    level: u64,
    at: Instant,
}

impl Rate {
    pub(crate) const fn new(burst: u64, per_second: u64, now: Instant) -> Self {
        Self { burst: burst * PARTS, per_second, level: 0, at: now }
    }

    /// Puts `count` in, if they fit.
    pub(crate) fn take(&mut self, count: u64, now: Instant) -> bool {
        self.drain(now);
        let level = self.level.saturating_add(count.saturating_mul(PARTS));
        let fits = level <= self.burst;
        if fits {
            self.level = level;
        }
        fits
    }

    /// Puts `count` in, also over the brim.
    pub(crate) fn charge(&mut self, count: u64, now: Instant) {
        self.drain(now);
        self.level = self.level.saturating_add(count.saturating_mul(PARTS));
    }

    /// Whether anything more fits.
    pub(crate) fn has_room(&mut self, now: Instant) -> bool {
        self.drain(now);
        self.level < self.burst
    }

    /// When something fits again, if nothing did when last asked.
    pub(crate) fn room_at(&self) -> Option<Instant> {
        let over = self.level.checked_sub(self.burst)?;
        Some(Instant(self.at.0.saturating_add(over / self.per_second).saturating_add(1)))
    }

    fn drain(&mut self, now: Instant) {
        let drained = now.0.saturating_sub(self.at.0).saturating_mul(self.per_second);
        self.at = self.at.max(now);
        self.level = self.level.saturating_sub(drained);
    }
}
