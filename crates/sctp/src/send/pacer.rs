//! Lets packets leave at a rate, in grains that a timer can keep.

use std::time::Duration;

use millstream_model::Instant;

/// What may leave at once: timers and wake-ups are not finer, and one system call takes as many packets as there are.
const GRAIN: Duration = Duration::from_millis(1);

/// A grain is never less than this, in bytes: two packets.
const GRAIN_BYTES_MIN: u64 = 2_900;

/// A timer may come so late without costing rate: what could have left meanwhile is made up for.
const LATENESS: Duration = Duration::from_millis(2);

/// A packet keeps the next one waiting so long at most: a pace that has collapsed must not mean silence.
const HOLD_MAX: Duration = Duration::from_millis(250);

/// When the next packet may leave.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Pacer {
    /// Nanoseconds since the clock's origin at which everything sent so far would have left at the pace.
    clear_at: u64,
}

impl Pacer {
    /// Whether a packet may leave now. `pace` in bytes a second; none is not paced.
    pub(crate) fn allows(&self, pace: Option<u64>, now: Instant) -> bool {
        pace.is_none_or(|pace| self.clear_at <= nanos(now) + grain(pace))
    }

    /// Lets the next packet out at once.
    pub(crate) const fn forgive(&mut self) {
        self.clear_at = 0;
    }

    /// When a whole grain may leave again; `Instant(0)` when one may now.
    pub(crate) fn next(&self, pace: Option<u64>) -> Instant {
        if pace.is_none() { Instant(0) } else { Instant(self.clear_at.div_ceil(1_000)) }
    }

    pub(crate) fn sent(&mut self, bytes: u64, pace: Option<u64>, now: Instant) {
        let Some(pace) = pace else { return };
        let took = u128::from(bytes) * 1_000_000_000 / u128::from(pace.max(1));
        let took = u64::try_from(took.min(HOLD_MAX.as_nanos())).unwrap_or(u64::MAX);
        // More than a timer's lateness is not saved up.
        self.clear_at = self.clear_at.max(nanos(now - LATENESS)).saturating_add(took);
    }
}

const fn nanos(now: Instant) -> u64 {
    now.0.saturating_mul(1_000)
}

fn grain(pace: u64) -> u64 {
    let least = GRAIN_BYTES_MIN.saturating_mul(1_000_000_000) / pace.max(1);
    u64::try_from(GRAIN.as_nanos()).unwrap_or(u64::MAX).max(least)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_carries_what_the_pace_says_whatever_it_is() {
        for pace in [50_000, 1_000_000, 12_500_000, 500_000_000] {
            let mut pacer = Pacer::default();
            let mut sent = 0;
            for micros in (0..1_000_000).step_by(100) {
                let now = Instant(5_000_000 + micros);
                while pacer.allows(Some(pace), now) {
                    pacer.sent(1_200, Some(pace), now);
                    sent += 1_200;
                }
            }
            let slack = pace / 200 + 2 * GRAIN_BYTES_MIN;
            assert!((pace - slack..=pace + slack).contains(&sent), "{sent} bytes at {pace}");
        }
    }

    #[test]
    fn a_late_timer_costs_no_rate() {
        let (mut pacer, pace) = (Pacer::default(), 10_000_000);
        let (mut sent, mut now) = (0, Instant::from_millis(1_000));
        while now < Instant::from_millis(2_000) {
            while pacer.allows(Some(pace), now) {
                pacer.sent(1_200, Some(pace), now);
                sent += 1_200;
            }
            // Rounded up to whole milliseconds, and woken one later still.
            now = Instant::from_millis(pacer.next(Some(pace)).0.div_ceil(1_000) + 1);
        }
        assert!(sent >= pace * 98 / 100, "{sent} bytes of {pace}");
    }

    #[test]
    fn a_pause_saves_up_next_to_nothing() {
        let mut pacer = Pacer::default();
        let later = Instant::from_millis(10_000);
        let mut sent = 0;
        while pacer.allows(Some(1_000_000), later) {
            pacer.sent(1_200, Some(1_000_000), later);
            sent += 1_200;
        }
        assert!(sent <= 2 * GRAIN_BYTES_MIN + 1_200, "{sent} bytes at once");
    }
}
