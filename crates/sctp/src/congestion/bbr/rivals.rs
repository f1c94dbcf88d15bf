//! A window beside those of others, who fill the queue until something is lost.
//!
//! It grows like CUBIC's (RFC 9438) and is cut to 70 % like CUBIC's, so beside CUBIC it needs nothing else to keep its
//! half. To get there, and beside whoever grows slower, it goes by the share of the bottleneck that is ours, which
//! [`super::drain`] measures now and then. With a third or less it grows by half in a round trip, as somebody new
//! would, to where half would be, and a loss costs it half as much as others. With half it grows like Reno's, and what
//! is beyond half it gives back at once. A share of half beside several others is too much, and does not last:
//! losses and CUBIC's growth decide then, as they do among TCPs.

use std::time::Duration;

use millstream_model::Instant;

use super::super::Lost;

/// A share of the bottleneck in thousandths, from which on nobody else counts.
pub(super) const SHARE_ALONE: u64 = 800;
/// A share in thousandths beyond which some is given back: who has more than half has more than one other.
const SHARE_YIELD: u64 = 550;
const SHARE_HALF: u64 = 500;
/// A share in thousandths below which the window grows as fast as that of someone who comes new.
const SHARE_SMALL: u64 = 350;
/// A window does not grow to more than so much of itself before the share is measured again.
const GOAL_MAX: u64 = 4;
/// What a loss leaves of the window (RFC 9438 §4.6).
const BETA_PERCENT: u64 = 70;
/// Who has far less than others gives way less, so that what all give goes to the small.
const BETA_SMALL_PERCENT: u64 = 85;
/// A window that grows like Reno's, cut to 70 %, gets as much as Reno's with this many hundredths of a packet a round
/// trip (RFC 9438 §4.3).
const FRIENDLY_PERCENT: u64 = 53;
/// C of RFC 9438 §5, as packets in tenths per second cubed.
const SCALE_TENTHS: u64 = 4;

/// A window that competes.
#[derive(Debug, Clone)]
pub(super) struct Rivals {
    window: u64,
    /// Grows by what is acknowledged, until something is lost.
    is_slow_start: bool,
    /// Where slow start ends, if nothing is lost before: half of the bottleneck.
    goal: u64,
    /// Our share of the bottleneck in thousandths, when it was measured.
    share: Option<u64>,
    is_share_stale: bool,
    /// Something was lost since.
    has_lost: bool,
    peak: u64,
    reduced_at: Instant,
    /// Since when it grows from what the last loss left.
    grows_since: Instant,
    /// What has been earned and is less than a byte, in millionths.
    rest: u64,
    grown_at: Instant,
}

impl Rivals {
    /// Begins where the model stood.
    pub(super) fn new(now: Instant, window: u64) -> Self {
        Self {
            window,
            is_slow_start: true,
            goal: u64::MAX,
            share: None,
            is_share_stale: true,
            has_lost: false,
            peak: window,
            reduced_at: Instant(0),
            grows_since: now,
            rest: 0,
            grown_at: now,
        }
    }

    pub(super) fn window(&self) -> u64 {
        self.window
    }

    pub(super) fn is_slow_start(&self) -> bool {
        self.is_slow_start
    }

    /// `bytes` were acknowledged, of a window that was used.
    pub(super) fn grow(&mut self, now: Instant, bytes: u64, round_trip: Duration, packet_bytes: u64) {
        let time = u64::try_from(now.since(self.grown_at).as_micros()).unwrap_or(u64::MAX).min(1_000_000);
        self.grown_at = now;
        if self.is_slow_start {
            self.window = self.window.saturating_add(bytes / 2);
            if self.window >= self.goal {
                self.end_slow_start(now);
            }
            return;
        }
        let round_trip = u64::try_from(round_trip.as_micros()).unwrap_or(u64::MAX).max(1);
        let friendly = packet_bytes * FRIENDLY_PERCENT * 10_000 / round_trip; // Bytes a second.
        let cubic = self.cubic_slope(now, packet_bytes);
        let slope = match self.share {
            Some(share) if share >= SHARE_HALF => friendly,
            _ => cubic.max(friendly),
        };
        self.rest += slope.saturating_mul(time);
        self.window = self.window.saturating_add(self.rest / 1_000_000);
        self.rest %= 1_000_000;
    }

    /// Chunks were lost. True when that was news.
    pub(super) fn lost(&mut self, lost: &Lost, window_min: u64) -> bool {
        if lost.newest_sent < self.reduced_at {
            return false;
        }
        self.reduce(lost.now, window_min);
        true
    }

    /// Takes the cut for a loss.
    pub(super) fn reduce(&mut self, now: Instant, window_min: u64) {
        let keep = if self.is_small() && !self.is_slow_start { BETA_SMALL_PERCENT } else { BETA_PERCENT };
        self.end_slow_start(now);
        self.has_lost = true;
        self.window = (self.window / 100 * keep).max(window_min);
        self.reduced_at = now;
        self.grown_at = now;
    }

    /// The last cut was for nothing.
    pub(super) fn restore(&mut self) {
        self.window = self.window.max(self.peak);
    }

    /// Whether our share was far below half when it was measured.
    pub(super) fn is_small(&self) -> bool {
        self.share.is_some_and(|share| share < SHARE_SMALL)
    }

    /// Whether the window has become another since our share was measured.
    pub(super) fn is_share_stale(&self) -> bool {
        self.is_share_stale
    }

    /// Whether something was lost since our share was measured.
    pub(super) fn has_lost(&self) -> bool {
        self.has_lost
    }

    /// Whether the window has gone its way without a jump for `time`.
    pub(super) fn is_steady(&self, now: Instant, time: Duration) -> bool {
        !self.is_slow_start && now.since(self.grows_since) >= time
    }

    fn end_slow_start(&mut self, now: Instant) {
        self.is_share_stale |= self.is_slow_start;
        self.is_slow_start = false;
        self.peak = self.window;
        self.grows_since = now;
    }

    /// Takes a measured share in.
    pub(super) fn judge(&mut self, now: Instant, share: u64, window_min: u64) {
        self.share = Some(share);
        self.is_share_stale = false;
        self.has_lost = false;
        self.grown_at = now;
        self.grows_since = now;
        // Others hold as much as would be half.
        self.goal = (self.window / share.max(1) * (1_000 - share)).min(self.window.saturating_mul(GOAL_MAX));
        self.is_slow_start = share < SHARE_SMALL;
        if share > SHARE_YIELD {
            self.window = self.goal.max(window_min);
            self.peak = self.peak.min(self.window);
        }
    }

    /// Nobody else was seen: asks again later.
    pub(super) fn postpone(&mut self, now: Instant, is_soon: bool) {
        self.is_share_stale = is_soon;
        self.has_lost = false;
        self.grown_at = now;
        self.grows_since = now;
    }

    /// Bytes a second by which CUBIC's window would grow now.
    fn cubic_slope(&self, now: Instant, packet_bytes: u64) -> u64 {
        let rise = cube_root(self.peak / packet_bytes * (100 - BETA_PERCENT) * 100_000_000 / SCALE_TENTHS); // ms
        let time = now.millis_since(self.grows_since);
        let off = time.abs_diff(rise).min(100_000);
        // d/dt of C (t - K)^3.
        3 * SCALE_TENTHS * packet_bytes * (off * off / 1_000) / 10_000
    }
}

/// The whole part of the third root.
fn cube_root(number: u64) -> u64 {
    let (mut low, mut high) = (0u64, 2_642_246);
    while low < high {
        let middle = (low + high).div_ceil(2);
        let is_below = middle.saturating_mul(middle).saturating_mul(middle) <= number;
        (low, high) = if is_below { (middle, high) } else { (low, middle - 1) };
    }
    low
}
