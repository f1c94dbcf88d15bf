//! A moment in which we hold less than we held, to see what the queue does: whether the round trip goes back to the
//! shortest, and by how much it does.
//!
//! What share of the bottleneck is ours can be measured. In a queue that never runs dry, taking `D` bytes out of it
//! shortens every round trip by `D / C`, where `C` is the bottleneck's rate. We know our own rate `b`; our share,
//! `b / C`, is therefore what the round trip was shortened by, times `b / D`. All of it: the queue is ours alone.

use std::time::Duration;

use millstream_model::Instant;

use super::{
    super::{Acknowledged, Lost},
    path::{Path, bytes_in},
};

/// A round trip shorter by this, and a part of it, is no accident.
const NEW_LOW: Duration = Duration::from_millis(2);
/// A round trip within this of the shortest, and a part of it, is the same.
const CLEAR: Duration = Duration::from_millis(2);

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
    pub(super) fn is_new_low(&self, jitter: Duration) -> bool {
        self.shortest
            .is_some_and(|shortest| shortest + shortest / 16 + NEW_LOW + jitter / 2 < self.least_before)
    }

    /// Whether the round trip went back to what was known to be the shortest: nobody else queues.
    pub(super) fn is_clear(&self, jitter: Duration) -> bool {
        let Some(shortest) = self.shortest else { return true };
        let least = self.least_before;
        shortest <= least + least / 32 + CLEAR + jitter / 4
            && shortest + least / 64 + CLEAR / 2 + jitter / 4 >= least
    }

    /// The round trip before.
    pub(super) fn round_trip_before(&self) -> Duration {
        self.round_trip_before
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
