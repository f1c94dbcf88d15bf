//! What is known of the path: its bandwidth, its shortest round trip, how acknowledgements bunch, and what each round
//! trip was like. Measures, and decides nothing.

use std::time::Duration;

use millstream_model::Instant;

use super::super::{Acknowledged, Lost};

/// For how long the shortest round trip is believed without having been seen again (`BBR.MinRTTFilterLen`).
const ROUND_TRIP_LIFE: Duration = Duration::from_secs(10);

/// Rounds for which an extra acknowledgement is remembered, in two halves (`BBR.ExtraAckedFilterLen`).
const EXTRA_HALF_ROUNDS: u64 = 5;

/// No more than what arrives in so long counts as acknowledged too early: longer is a stall, not a habit.
const EXTRA_MAX: Duration = Duration::from_millis(100);

/// Of what is sent, per cent that may be lost before the path is taken for full (`BBR.LossThresh`).
const LOSS_PERCENT: u64 = 2;

/// What one round trip was like.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Round {
    /// Bytes acknowledged.
    pub(super) delivered: u64,
    /// Bytes taken for lost.
    pub(super) lost: u64,
    /// The fastest sample, in bytes a second.
    pub(super) bandwidth: u64,
    /// The most bytes that arrived within one sample: what the path held.
    pub(super) held: u64,
    /// The shortest round trip.
    pub(super) shortest: Option<Duration>,
    /// The longest round trip.
    pub(super) longest: Option<Duration>,
    /// Some sample was taken while there was less to send than was allowed.
    pub(super) is_app_limited: bool,
}

/// Filters over what the association measured.
#[derive(Debug, Clone)]
pub(super) struct Path {
    /// The fastest sample of the last probing cycle, and of this one.
    bandwidth: [u64; 2],
    shortest: Option<(Duration, Instant)>,
    round: Round,
    round_ends_at: u64,
    rounds: u64,
    extra: [u64; 2],
    extra_since: Instant,
    extra_bytes: u64,
    extra_turns_at: u64,
}

impl Path {
    pub(super) fn new() -> Self {
        Self {
            bandwidth: [0; 2],
            shortest: None,
            round: Round::default(),
            round_ends_at: 0,
            rounds: 0,
            extra: [0; 2],
            extra_since: Instant(0),
            extra_bytes: 0,
            extra_turns_at: EXTRA_HALF_ROUNDS,
        }
    }

    /// The most that the path delivered, in bytes a second; zero when nothing is known.
    pub(super) fn bandwidth(&self) -> u64 {
        self.bandwidth[0].max(self.bandwidth[1])
    }

    /// The shortest round trip.
    pub(super) fn round_trip(&self) -> Option<Duration> {
        self.shortest.map(|(shortest, _)| shortest)
    }

    /// Bytes that arrive beyond what the bandwidth explains, because acknowledgements come in bunches.
    pub(super) fn extra(&self) -> u64 {
        self.extra[0].max(self.extra[1])
    }

    /// Round trips so far.
    pub(super) fn rounds(&self) -> u64 {
        self.rounds
    }

    /// Bytes that are on their way when the path is full and nothing queues, at `bandwidth`.
    pub(super) fn product(&self, bandwidth: u64) -> Option<u64> {
        self.round_trip().map(|shortest| bytes_in(bandwidth, shortest))
    }

    /// Takes in an acknowledgement. Gives the round trip that it ended, if it did.
    pub(super) fn acknowledged(&mut self, acknowledged: &Acknowledged, bandwidth: u64) -> Option<Round> {
        self.count_extra(acknowledged, bandwidth);
        let mut ended = None;
        if let Some(rate) = acknowledged.rate {
            if rate.delivered_before >= self.round_ends_at {
                self.round_ends_at = acknowledged.delivered;
                self.rounds += 1;
                ended = Some(std::mem::take(&mut self.round));
                self.forget_extra();
            }
            let sample = rate.bytes_per_second();
            self.round.is_app_limited |= rate.is_app_limited;
            self.round.bandwidth = self.round.bandwidth.max(sample);
            self.round.held = self.round.held.max(rate.delivered);
            if !rate.is_app_limited || sample >= self.bandwidth() {
                self.bandwidth[1] = self.bandwidth[1].max(sample);
            }
        }
        self.round.delivered += acknowledged.bytes;
        if let Some(sample) = acknowledged.round_trip {
            let now = acknowledged.now;
            self.round.shortest = Some(self.round.shortest.map_or(sample, |shortest| shortest.min(sample)));
            self.round.longest = Some(self.round.longest.map_or(sample, |longest| longest.max(sample)));
            let is_news = self
                .shortest
                .is_none_or(|(shortest, seen)| sample <= shortest || now.since(seen) > ROUND_TRIP_LIFE);
            if is_news {
                self.shortest = Some((sample, now));
            }
        }
        ended
    }

    /// Takes in a loss.
    pub(super) fn lost(&mut self, lost: &Lost) {
        self.round.lost += lost.bytes;
    }

    /// Begins a probing cycle: what the cycle before the last one showed is forgotten.
    pub(super) fn begin_cycle(&mut self) {
        if self.bandwidth[1] > 0 {
            self.bandwidth = [self.bandwidth[1], 0];
        }
    }

    /// Bunches of acknowledgements from before a silence say nothing.
    pub(super) fn idle(&mut self, now: Instant) {
        self.extra_since = now;
        self.extra_bytes = 0;
    }

    fn count_extra(&mut self, acknowledged: &Acknowledged, bandwidth: u64) {
        if bandwidth == 0 {
            return;
        }
        let expected = bytes_in(bandwidth, acknowledged.now.since(self.extra_since));
        if self.extra_bytes <= expected {
            self.extra_since = acknowledged.now;
            self.extra_bytes = acknowledged.bytes;
        } else {
            self.extra_bytes += acknowledged.bytes;
        }
        let expected = bytes_in(bandwidth, acknowledged.now.since(self.extra_since));
        let extra = self.extra_bytes.saturating_sub(expected).min(bytes_in(bandwidth, EXTRA_MAX));
        self.extra[1] = self.extra[1].max(extra);
    }

    fn forget_extra(&mut self) {
        if self.rounds >= self.extra_turns_at {
            self.extra_turns_at = self.rounds + EXTRA_HALF_ROUNDS;
            self.extra = [self.extra[1], 0];
        }
    }
}

/// Bytes that pass in `time` at `bandwidth` bytes a second.
pub(super) fn bytes_in(bandwidth: u64, time: Duration) -> u64 {
    let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
    match bandwidth.checked_mul(micros) {
        Some(product) => product / 1_000_000,
        None => (bandwidth / 1_000_000).saturating_mul(micros),
    }
}

/// Whether `lost` of `sent` bytes is more than chance takes on a path that is not full: beyond the threshold by two
/// deviations of what falls on so few packets.
pub(super) fn is_heavy(lost: u64, sent: u64, packet_bytes: u64) -> bool {
    let allowed = sent / packet_bytes * LOSS_PERCENT; // In hundredths of a packet.
    let deviation = (allowed * 100).isqrt(); // sqrt(packets) * 100 = sqrt(hundredths * 100)
    lost / packet_bytes * 100 > allowed + 2 * deviation + 100
}
