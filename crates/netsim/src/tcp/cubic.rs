//! CUBIC's window (RFC 9438), in packets.

use std::time::Duration;

use millstream_model::Instant;

/// C of §5, in packets per second cubed.
const SCALE: f64 = 0.4;
/// What a loss leaves (§4.6).
const BETA: f64 = 0.7;
/// What Reno would have to add a round trip to get as much with this [`BETA`] (§4.3).
const FRIENDLY: f64 = 3.0 * (1.0 - BETA) / (1.0 + BETA);
/// A window grows to half as much again in a round trip at most (§4.2).
const TARGET_MAX: f64 = 1.5;

/// What it remembers of the last loss.
#[derive(Debug)]
pub(super) struct Cubic {
    peak: f64,
    /// When the window began to grow, and how long it takes to the peak, in seconds.
    epoch: Option<(Instant, f64)>,
    friendly: f64,
    before: f64,
}

impl Cubic {
    pub(super) fn new() -> Self {
        Self { peak: 0.0, epoch: None, friendly: 0.0, before: f64::INFINITY }
    }

    /// The window after `packets` more were acknowledged.
    pub(super) fn grow(&mut self, now: Instant, round_trip: Duration, window: f64, packets: f64) -> f64 {
        let (epoch, rise) = match self.epoch {
            Some(epoch) => epoch,
            None => {
                if self.peak < window {
                    self.peak = window;
                }
                self.friendly = window;
                let epoch = (now, ((self.peak - window) / SCALE).cbrt());
                self.epoch = Some(epoch);
                epoch
            }
        };
        let alpha = if self.friendly >= self.before { 1.0 } else { FRIENDLY };
        self.friendly += alpha * packets / window;
        let time = now.since(epoch).as_secs_f64();
        let cube = |time: f64| SCALE * (time - rise).powi(3) + self.peak;
        if cube(time) < self.friendly {
            return self.friendly.max(window);
        }
        let target = cube(time + round_trip.as_secs_f64()).clamp(window, window * TARGET_MAX);
        window + (target - window) * packets / window
    }

    /// The window after a loss.
    pub(super) fn reduce(&mut self, _now: Instant, window: f64) -> f64 {
        // Who does not get back to their peak leaves more to others (§4.7).
        self.peak = if window < self.peak { window * (1.0 + BETA) / 2.0 } else { window };
        self.before = window;
        self.epoch = None;
        window * BETA
    }
}
