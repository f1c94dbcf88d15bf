//! How much may wait in the line, whatever the model says: what the path has delivered of late, for the shortest round
//! trip and a little more than half a second. A narrow line with a long queue is not filled to the brim by it: what a
//! viewer wants next would wait behind, and when the queue runs over a hundred packets are lost at once.

use std::time::Duration;

use millstream_model::Instant;

use crate::congestion::Acknowledged;

/// What may wait. Long enough to hold one's own beside a TCP that fills a queue of half a second.
const QUEUE: Duration = Duration::from_millis(600);

/// Always allowed: short answers need no measuring.
const BYTES_MIN: u64 = 32 * 1024;

/// Rates of the present and the past span count: bursts of a live stream come four times a second.
const SPAN: Duration = Duration::from_millis(500);

/// The highest rates of late.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Backlog {
    /// Bytes a second of the past and the present span.
    rates: [u64; 2],
    began: Instant,
}

impl Backlog {
    pub(super) fn acknowledged(&mut self, acknowledged: &Acknowledged) {
        let since = acknowledged.now.since(self.began);
        if since >= SPAN {
            // After a silence of two spans nothing is known any more.
            self.rates = if since < SPAN * 2 { [self.rates[1], 0] } else { [0, 0] };
            self.began = acknowledged.now;
        }
        if let Some(rate) = acknowledged.rate {
            self.rates[1] = self.rates[1].max(rate.bytes_per_second());
        }
    }

    /// Bytes that may be in flight on a path with this shortest round trip.
    pub(super) fn bytes(&self, shortest: Option<Duration>) -> u64 {
        let rate = self.rates[0].max(self.rates[1]);
        let Some(shortest) = shortest.filter(|_| rate > 0) else { return u64::MAX };
        let micros = u64::try_from((shortest + QUEUE).as_micros()).unwrap_or(u64::MAX);
        (rate.saturating_mul(micros) / 1_000_000).max(BYTES_MIN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::congestion::Rate;

    fn acknowledged(now: Instant, delivered: u64) -> Acknowledged {
        let rate = Rate {
            delivered,
            interval: Duration::from_millis(100),
            delivered_before: 0,
            lost: 0,
            in_flight: 0,
            is_app_limited: false,
        };
        Acknowledged {
            now,
            bytes: delivered,
            delivered,
            in_flight_before: delivered,
            in_flight: 0,
            round_trip: None,
            rate: Some(rate),
        }
    }

    #[test]
    fn a_line_that_becomes_narrow_is_known_within_a_second_and_a_wide_one_at_once() {
        let mut backlog = Backlog::default();
        let trip = Some(Duration::from_millis(20));
        assert_eq!(backlog.bytes(trip), u64::MAX);
        let at = |ms| Instant::from_millis(10_000_u64 + ms);
        backlog.acknowledged(&acknowledged(at(0), 250_000));
        assert_eq!(backlog.bytes(trip), 1_550_000);
        for ms in (100..1_100).step_by(100) {
            backlog.acknowledged(&acknowledged(at(ms), 8_750));
        }
        assert_eq!(backlog.bytes(trip), 54_250);
        backlog.acknowledged(&acknowledged(at(1_200), 250_000));
        assert_eq!(backlog.bytes(trip), 1_550_000);
    }
}
