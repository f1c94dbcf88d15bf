//! How many bytes may be on their way to one peer: what its path carries in the shortest round trip, and a little that
//! may queue. No socket, no clock.
//!
//! The engine's congestion control (RFC 9260 §7.2) fills the queue of a slow line until it loses a hundred packets at
//! once, and takes them back one a round trip: a viewer on such a line gets nothing for seconds. What never waits in the
//! line is not lost there, and a viewer that wants something else meanwhile gets it sooner. The measure is that of BBR
//! (draft-ietf-ccwg-bbr §5.3): the highest of the latest delivery rates, and the lowest round trip.

use std::time::{Duration, Instant};

/// Always allowed: a slow line's queue holds as much, and short answers need no measuring.
const BYTES_MIN: usize = 64 * 1024;

/// What may wait in the line. Beside a download that fills the line this is our share of its queue, so it is not small.
const QUEUE: Duration = Duration::from_millis(400);

/// Rates that are remembered, one a round trip: a few may have been low because there was little to send.
const RATES: usize = 4;

/// The lowest round trip is that of the present and of the past span: a path may become longer.
const SPAN: Duration = Duration::from_secs(5);

/// What is known of a path.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Allowance {
    /// Bytes a second, the newest last.
    rates: [u64; RATES],
    measured: usize,
    /// The lowest round trips of the past and of the present span.
    lowest: [Option<Duration>; 2],
    span_began: Option<Instant>,
}

impl Allowance {
    /// `bytes` were acknowledged while one packet and its acknowledgement took `round_trip`.
    pub(super) fn measure(&mut self, bytes: usize, round_trip: Duration, now: Instant) {
        let began = *self.span_began.get_or_insert(now);
        if now.saturating_duration_since(began) >= SPAN {
            self.lowest = [self.lowest[1], None];
            self.span_began = Some(now);
        }
        let lowest = self.lowest[1].map_or(round_trip, |lowest| lowest.min(round_trip));
        self.lowest[1] = Some(lowest);
        let micros = u64::try_from(round_trip.as_micros()).unwrap_or(u64::MAX).max(1);
        self.rates.rotate_left(1);
        self.rates[RATES - 1] = (bytes as u64).saturating_mul(1_000_000) / micros;
        self.measured += 1;
    }

    /// Bytes that may be on their way.
    pub(super) fn bytes(&self) -> usize {
        let Some(lowest) = self.lowest.iter().flatten().min().filter(|_| self.measured >= RATES) else {
            return usize::MAX;
        };
        let rate = self.rates.iter().copied().max().unwrap_or(0);
        let micros = u64::try_from((*lowest + QUEUE).as_micros()).unwrap_or(u64::MAX);
        let bytes = rate.saturating_mul(micros) / 1_000_000;
        usize::try_from(bytes).unwrap_or(usize::MAX).max(BYTES_MIN)
    }
}
