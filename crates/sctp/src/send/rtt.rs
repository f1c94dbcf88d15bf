//! How long a round trip takes, and how long to wait for one (RFC 6298, RFC 9260 §6.3).

use std::time::Duration;

use millstream_model::Instant;

/// Before anything was measured. RFC 9260 §16 says 1 s; a viewer waits for a first picture, and DTLS below has just
/// made three round trips in less.
const RTO_INITIAL: Duration = Duration::from_millis(500);

/// Longer than any peer delays its acknowledgement (200 ms, RFC 9260 §6.2), with room for its timer.
const RTO_MIN: Duration = Duration::from_millis(300);

/// Doubling ends here: a live stream must go on soon after its path does. RFC 9260 §16 says 60 s.
const RTO_MAX: Duration = Duration::from_secs(3);

/// The shortest round trip is the lowest of this span and the one before: a path may become longer.
const SPAN: Duration = Duration::from_secs(10);

/// Round trips of one path.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RoundTrip {
    smoothed: Option<Duration>,
    variation: Duration,
    lowest: [Option<Duration>; 2],
    span_began: Instant,
    hint: Option<Duration>,
    /// Timeouts in a row.
    backoff: u32,
}

impl RoundTrip {
    pub(crate) const fn new(hint: Option<Duration>, now: Instant) -> Self {
        Self {
            smoothed: None,
            variation: Duration::ZERO,
            lowest: [None; 2],
            span_began: now,
            hint,
            backoff: 0,
        }
    }

    pub(crate) fn measure(&mut self, sample: Duration, now: Instant) {
        let sample = sample.max(Duration::from_micros(1));
        if now.since(self.span_began) >= SPAN {
            self.lowest = [self.lowest[1], None];
            self.span_began = now;
        }
        self.lowest[1] = Some(self.lowest[1].map_or(sample, |lowest| lowest.min(sample)));
        if let Some(smoothed) = self.smoothed {
            self.variation = (self.variation * 3 + smoothed.abs_diff(sample)) / 4;
            self.smoothed = Some((smoothed * 7 + sample) / 8);
        } else {
            self.variation = sample / 2;
            self.smoothed = Some(sample);
        }
    }

    pub(crate) const fn smoothed(&self) -> Option<Duration> {
        self.smoothed
    }

    /// The shortest of late; zero before the first.
    pub(crate) fn lowest(&self) -> Duration {
        self.lowest.iter().flatten().min().copied().unwrap_or_default()
    }

    /// How long to wait for an acknowledgement before everything counts as lost.
    pub(crate) fn timeout(&self) -> Duration {
        let base = match self.smoothed {
            Some(smoothed) => (smoothed + 4 * self.variation).max(RTO_MIN),
            None => self.hint.map_or(RTO_INITIAL, |hint| (hint * 3).clamp(RTO_MIN, RTO_INITIAL)),
        };
        (base * (1 << self.backoff.min(8))).min(RTO_MAX)
    }

    /// How long to wait before a closed window is asked for the `n`th time.
    pub(crate) fn pause(&self, n: u32) -> Duration {
        (self.timeout() * (1 << n.min(8))).min(RTO_MAX)
    }

    /// A timeout has passed: the next one is twice as long.
    pub(crate) const fn back_off(&mut self) {
        self.backoff = self.backoff.saturating_add(1);
    }

    /// Something was acknowledged.
    pub(crate) const fn recover(&mut self) {
        self.backoff = 0;
    }

    /// Timeouts in a row.
    pub(crate) const fn backoff(&self) -> u32 {
        self.backoff
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn timeouts_double_to_their_bound_and_come_back() {
        let mut trip = RoundTrip::new(None, Instant(0));
        assert_eq!(trip.timeout(), RTO_INITIAL);
        trip.measure(20 * MS, Instant(0));
        assert_eq!(trip.timeout(), RTO_MIN);
        trip.back_off();
        assert_eq!(trip.timeout(), 2 * RTO_MIN);
        for _ in 0..100 {
            trip.back_off();
        }
        assert_eq!(trip.timeout(), RTO_MAX);
        trip.recover();
        assert_eq!(trip.timeout(), RTO_MIN);
    }

    #[test]
    fn the_shortest_round_trip_is_forgotten_when_a_path_becomes_longer() {
        let mut trip = RoundTrip::new(None, Instant(0));
        for second in 0..25 {
            trip.measure(if second == 0 { 10 * MS } else { 90 * MS }, Instant::from_millis(second * 1_000));
            assert_eq!(trip.lowest(), if second < 20 { 10 * MS } else { 90 * MS }, "{second} s");
        }
    }

    #[test]
    fn a_hint_shortens_the_first_wait_and_never_lengthens_it() {
        assert_eq!(RoundTrip::new(Some(5 * MS), Instant(0)).timeout(), RTO_MIN);
        assert_eq!(RoundTrip::new(Some(900 * MS), Instant(0)).timeout(), RTO_INITIAL);
    }
}
