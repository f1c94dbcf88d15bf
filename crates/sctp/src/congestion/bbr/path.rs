//! What is known of the path: its bandwidth, its shortest round trip, how acknowledgements bunch, and what each round
//! trip was like. Measures, and decides nothing.

use std::time::Duration;

use millstream_model::Instant;

use super::super::{Acknowledged, Lost};

/// Rounds for which an extra acknowledgement is remembered, in two halves (`BBR.ExtraAckedFilterLen`).
const EXTRA_HALF_ROUNDS: u64 = 5;

/// No more than what arrives in so long counts as acknowledged too early: longer is a stall, not a habit.
const EXTRA_MAX: Duration = Duration::from_millis(100);

/// Stands for a jitter that is not known.
const JITTER_MAX: Duration = Duration::from_secs(60);

/// Of what is sent, per cent that may be lost before the path is taken for full (`BBR.LossThresh`).
const LOSS_PERCENT: u64 = 2;
/// Of what is sent, per cent that are put down to chance at most.
const CHANCE_PERCENT_MAX: u64 = 3;
/// How much is remembered of what chance took: some seconds of a fast path.
const QUIET_BYTES: u64 = 20_000_000;
/// Fewer packets say nothing about chance.
const QUIET_PACKETS_MIN: u64 = 200;

/// What one round trip was like.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Round {
    /// Bytes acknowledged.
    pub(super) delivered: u64,
    /// Bytes taken for lost.
    pub(super) lost: u64,
    /// The fastest sample, in bytes a second.
    pub(super) bandwidth: u64,
    /// The most bytes that arrived within one sample.
    pub(super) arrived: u64,
    /// The shortest round trip.
    pub(super) shortest: Option<Duration>,
    /// The longest round trip.
    pub(super) longest: Option<Duration>,
    /// How long it took.
    pub(super) time: Duration,
    /// Some sample was taken while there was less to send than was allowed.
    pub(super) is_app_limited: bool,
}

impl Round {
    /// Bytes a second that were acknowledged.
    pub(super) fn rate(&self) -> u64 {
        let micros = u64::try_from(self.time.as_micros()).unwrap_or(u64::MAX).max(1);
        self.delivered.saturating_mul(1_000_000) / micros
    }

    /// Bytes that the path held, without those that it had dropped and we had not missed yet.
    pub(super) fn held(&self) -> u64 {
        bytes_in(self.rate(), self.shortest.unwrap_or_default())
    }

    /// Bytes a second that were sent.
    pub(super) fn sent_rate(&self) -> u64 {
        let micros = u64::try_from(self.time.as_micros()).unwrap_or(u64::MAX).max(1);
        (self.delivered + self.lost).saturating_mul(1_000_000) / micros
    }
}

/// Filters over what the association measured.
#[derive(Debug, Clone)]
pub(super) struct Path {
    /// The fastest sample of the last probing cycle, and of this one.
    bandwidth: [u64; 2],
    shortest: Option<Duration>,
    latest: Option<Duration>,
    /// The least that the round trips of one round differed, of the last rounds, in two halves.
    jitter: [Duration; 2],
    round: Round,
    round_ends_at: u64,
    rounds: u64,
    extra: [u64; 2],
    extra_since: Instant,
    extra_bytes: u64,
    extra_turns_at: u64,
    round_began: Instant,
    /// Bytes lost, and bytes sent, in round trips in which nothing queued: what chance takes.
    quiet_lost: u64,
    quiet_sent: u64,
}

impl Path {
    pub(super) fn new() -> Self {
        Self {
            bandwidth: [0; 2],
            shortest: None,
            latest: None,
            jitter: [JITTER_MAX; 2],
            round: Round::default(),
            round_ends_at: 0,
            rounds: 0,
            extra: [0; 2],
            extra_since: Instant(0),
            extra_bytes: 0,
            extra_turns_at: EXTRA_HALF_ROUNDS,
            round_began: Instant(0),
            quiet_lost: 0,
            quiet_sent: 0,
        }
    }

    /// The most that the path delivered, in bytes a second; zero when nothing is known.
    pub(super) fn bandwidth(&self) -> u64 {
        self.bandwidth[0].max(self.bandwidth[1])
    }

    /// The shortest round trip.
    pub(super) fn round_trip(&self) -> Option<Duration> {
        self.shortest
    }

    /// The last round trip.
    pub(super) fn latest(&self) -> Option<Duration> {
        self.latest
    }

    /// By how much round trips differ though the queue stays as it is.
    pub(super) fn jitter(&self) -> Duration {
        match self.jitter[0].min(self.jitter[1]) {
            JITTER_MAX => Duration::ZERO,
            jitter => jitter,
        }
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
                self.round.time = acknowledged.now.since(self.round_began);
                self.round_began = acknowledged.now;
                if let (Some(shortest), Some(longest)) = (self.round.shortest, self.round.longest) {
                    self.jitter[1] = self.jitter[1].min(longest - shortest);
                }
                ended = Some(std::mem::take(&mut self.round));
                self.forget_extra();
            }
            let sample = rate.bytes_per_second();
            self.round.is_app_limited |= rate.is_app_limited;
            self.round.bandwidth = self.round.bandwidth.max(sample);
            self.round.arrived = self.round.arrived.max(rate.delivered);
            if !rate.is_app_limited || sample >= self.bandwidth() {
                self.bandwidth[1] = self.bandwidth[1].max(sample);
            }
        }
        self.round.delivered += acknowledged.bytes;
        if let Some(sample) = acknowledged.round_trip {
            self.latest = Some(sample);
            self.round.shortest = Some(self.round.shortest.map_or(sample, |shortest| shortest.min(sample)));
            self.round.longest = Some(self.round.longest.map_or(sample, |longest| longest.max(sample)));
            self.shortest = Some(self.shortest.map_or(sample, |shortest| shortest.min(sample)));
        }
        ended
    }

    /// Takes in a loss.
    pub(super) fn lost(&mut self, lost: &Lost) {
        self.round.lost += lost.bytes;
    }

    /// The round trip under way.
    pub(super) fn round(&self) -> &Round {
        &self.round
    }

    /// Takes a round trip in which nothing queued as a sample of what is lost by chance.
    pub(super) fn background(&mut self, round: &Round) {
        self.quiet_lost += round.lost;
        self.quiet_sent += round.lost + round.delivered;
        if self.quiet_sent > QUIET_BYTES {
            self.quiet_lost /= 2;
            self.quiet_sent /= 2;
        }
    }

    /// What chance takes of `sent` bytes.
    fn by_chance(&self, sent: u64, packet_bytes: u64) -> u64 {
        if self.quiet_sent < QUIET_PACKETS_MIN * packet_bytes {
            return 0;
        }
        let share = u128::from(sent) * u128::from(self.quiet_lost) / u128::from(self.quiet_sent);
        u64::try_from(share).unwrap_or(u64::MAX).min(sent / 100 * CHANCE_PERCENT_MAX)
    }

    /// Whether `lost` of `sent` bytes is more than chance takes on this path and the threshold allows: beyond both by
    /// two deviations of what falls on so few packets.
    pub(super) fn is_heavy(&self, lost: u64, sent: u64, packet_bytes: u64) -> bool {
        is_beyond(lost, sent / 100 * LOSS_PERCENT + self.by_chance(sent, packet_bytes), packet_bytes)
    }

    /// Whether `lost` of `sent` bytes is more than chance takes on this path.
    pub(super) fn is_excess(&self, lost: u64, sent: u64, packet_bytes: u64) -> bool {
        let chance = self.by_chance(sent, packet_bytes);
        if chance == 0 { lost > 0 } else { is_beyond(lost, chance, packet_bytes) }
    }

    /// Believes a round trip, longer than the shortest though it may be.
    pub(super) fn set_round_trip(&mut self, round_trip: Duration) {
        self.shortest = Some(round_trip);
    }

    /// Lets a round trip begin now, when so many bytes have been delivered.
    pub(super) fn begin_round(&mut self, now: Instant, delivered: u64) {
        self.round_ends_at = delivered;
        self.round_began = now;
        self.round = Round::default();
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
            self.jitter = [self.jitter[1], JITTER_MAX];
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

/// Whether so much lost is more than falls on a packet and two deviations beyond what is `allowed`.
fn is_beyond(lost: u64, allowed: u64, packet_bytes: u64) -> bool {
    let allowed = allowed * 100 / packet_bytes; // In hundredths of a packet.
    let deviation = (allowed * 100).isqrt(); // sqrt(packets) * 100 = sqrt(hundredths * 100)
    lost * 100 / packet_bytes > allowed + 2 * deviation + 100
}
