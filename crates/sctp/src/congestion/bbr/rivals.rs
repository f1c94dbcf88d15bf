//! Others in the queue: how they are noticed, and how much of the queue is taken beside them.
//!
//! A window that follows a model gives way to one that fills the queue. So when the queue does not drain though ours
//! is gone, the window becomes one of theirs: it grows until something is lost, and is cut to 70 %, as CUBIC does.
//!
//! What share of the bottleneck is ours can be measured. In a queue that never runs dry, taking `D` bytes out of it
//! shortens every round trip by `D / C`, where `C` is the bottleneck's rate. We do that anyway, to see whether others
//! are still there ([`Drain`]), and know our own rate `b`: `b / C`, our share, is what the round trip was shortened by
//! times `b / D`. A share of all means that the queue is ours alone; a share beyond half is given back.

use std::time::Duration;

use millstream_model::Instant;

use super::{
    super::{Acknowledged, Lost},
    path::{Path, bytes_in},
};

/// A share of the bottleneck in thousandths, from which on nobody else counts.
pub(super) const SHARE_ALONE: u64 = 800;
/// A share in thousandths beyond which some is given back: who has more than half has more than one other.
const SHARE_YIELD: u64 = 550;
const SHARE_HALF: u64 = 500;
/// A share in thousandths below which the window grows as fast as that of someone who comes new.
const SHARE_SMALL: u64 = 350;
/// A round trip shorter by this, and a part of it, is no accident.
const NEW_LOW: Duration = Duration::from_millis(2);
/// A round trip within this of the shortest, and a part of it, is the same.
const CLEAR: Duration = Duration::from_millis(2);
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
        let keep = if self.is_small() && !self.is_slow_start { BETA_SMALL_PERCENT } else { BETA_PERCENT };
        self.end_slow_start(lost.now);
        self.is_share_stale = true;
        self.window = (self.window / 100 * keep).max(window_min);
        self.reduced_at = lost.now;
        self.grown_at = lost.now;
        true
    }

    /// Whether our share was far below half when it was measured.
    pub(super) fn is_small(&self) -> bool {
        self.share.is_some_and(|share| share < SHARE_SMALL)
    }

    /// Whether the window has become another since our share was measured.
    pub(super) fn is_share_stale(&self) -> bool {
        self.is_share_stale
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
    pub(super) fn postpone(&mut self, now: Instant) {
        self.is_share_stale = false;
        self.grown_at = now;
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

/// A moment in which we hold half of what we held, to see what the queue does.
#[derive(Debug, Clone)]
pub(super) struct Drain {
    /// What may be in flight meanwhile.
    pub(super) window: u64,
    round_trip_before: Duration,
    least_before: Duration,
    in_flight_before: u64,
    rate_before: u64,
    shortest: Option<Duration>,
    until: Option<(Instant, u64)>,
    reached_at: Option<Instant>,
    /// The queue overflowed meanwhile: others gave way too.
    pub(super) is_disturbed: bool,
}

impl Drain {
    pub(super) fn new(window: u64, in_flight: u64, round_trip: Duration, least: Duration, rate: u64) -> Self {
        Self {
            window,
            round_trip_before: round_trip,
            least_before: least,
            in_flight_before: in_flight,
            rate_before: rate,
            shortest: None,
            until: None,
            reached_at: None,
            is_disturbed: false,
        }
    }

    /// Takes in an acknowledgement. True when the queue has been seen without ours, for `time` and a round trip.
    pub(super) fn is_over(&mut self, acknowledged: &Acknowledged, path: &mut Path, time: Duration) -> bool {
        let now = acknowledged.now;
        if let Some(sample) = acknowledged.round_trip {
            self.shortest = Some(self.shortest.map_or(sample, |shortest| shortest.min(sample)));
        }
        match self.until {
            None if acknowledged.in_flight <= self.window => {
                // The round trip under way began when the queue was still ours.
                path.begin_round(now, acknowledged.delivered);
                self.reached_at = Some(now);
                self.until = Some((now + time, path.rounds() + 1));
                false
            }
            None => false,
            Some((until, round)) => now >= until && path.rounds() >= round,
        }
    }

    /// Takes in a loss.
    pub(super) fn lost(&mut self, lost: &Lost) {
        self.is_disturbed |= self.reached_at.is_some_and(|at| lost.newest_sent >= at);
    }

    /// The shortest round trip meanwhile.
    pub(super) fn round_trip(&self) -> Option<Duration> {
        self.shortest
    }

    /// Whether the path has turned out to be shorter than was known: what was there before us had never drained.
    pub(super) fn is_new_low(&self) -> bool {
        self.shortest.is_some_and(|shortest| shortest + shortest / 16 + NEW_LOW < self.least_before)
    }

    /// Whether the round trip went back to what was known to be the shortest: nobody else queues.
    pub(super) fn is_clear(&self) -> bool {
        let Some(shortest) = self.shortest else { return true };
        let least = self.least_before;
        shortest <= least + least / 32 + CLEAR && shortest + least / 64 + CLEAR / 2 >= least
    }

    /// Bytes a second that were acknowledged before.
    pub(super) fn rate(&self) -> u64 {
        self.rate_before
    }

    /// Our share of the bottleneck, in thousandths.
    pub(super) fn share(&self) -> Option<u64> {
        let shortened = self.round_trip_before.saturating_sub(self.shortest?);
        let taken = self.in_flight_before.saturating_sub(self.window);
        (bytes_in(self.rate_before, shortened) * 1_000).checked_div(taken).map(|share| share.min(1_000))
    }
}

/// The whole part of the third root.
fn cube_root(number: u64) -> u64 {
    let (mut low, mut high) = (0u64, 2_642_246);
    while low < high {
        let middle = (low + high).div_ceil(2);
        if middle.saturating_mul(middle).saturating_mul(middle) <= number {
            low = middle
        } else {
            high = middle - 1
        }
    }
    low
}
