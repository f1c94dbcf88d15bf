//! The default: a model of the path instead of a window that halves (after draft-ietf-ccwg-bbr).
//!
//! The path is known by two numbers, the most it delivered lately and its shortest round trip. What leaves is paced at
//! the first, what is in flight is bounded by their product, and a loss of a packet here and there costs nothing. Now
//! and then the controller sends a little faster to see whether there is more (Refill, Up), gives back what queued
//! (Down), and every five seconds empties its share of the queue to see the shortest round trip again (`ProbeRtt`).

use std::time::Duration;

use millstream_model::Instant;

use self::path::{Path, Round, bytes_in, is_heavy};
use super::{Acknowledged, Controller, Lost, Sent, new_reno::INITIAL_PACKETS};

mod path;

/// Packets that may always be in flight: fewer, and one that is delayed stops the flow of acknowledgements.
const WINDOW_PACKETS_MIN: u64 = 4;

/// Gains in hundredths. Startup doubles what is delivered each round trip (4 ln 2).
const STARTUP_PACE: u64 = 277;
const STARTUP_WINDOW: u64 = 200;
const DRAIN_PACE: u64 = 50;
const DOWN_PACE: u64 = 90;
const UP_PACE: u64 = 125;
const UP_WINDOW: u64 = 225;
const CRUISE_WINDOW: u64 = 200;
const PROBE_ROUND_TRIP_WINDOW: u64 = 50;

/// What is kept free of a full path, so that a newcomer finds room (`BBR.Headroom`).
const HEADROOM_PERCENT: u64 = 15;
/// What is left of a bound after a round of heavy loss (`BBR.Beta`).
const BETA_PERCENT: u64 = 70;
/// Paced this far below what was measured, so that a queue drains by itself.
const PACING_MARGIN_PERCENT: u64 = 1;

/// Rounds without a quarter more, after which startup has found all there is.
const FULL_ROUNDS: u8 = 3;
/// A bandwidth that still grows does so by this.
const FULL_GROWTH_PERCENT: u64 = 125;

/// A round trip not seen again for so long is asked for (`BBR.ProbeRTTInterval`).
const PROBE_ROUND_TRIP_INTERVAL: Duration = Duration::from_secs(5);
/// For how long the queue is left to empty (`BBR.ProbeRTTDuration`).
const PROBE_ROUND_TRIP_TIME: Duration = Duration::from_millis(200);

/// The wait between two probes for bandwidth, of which a part is chance, so that flows do not probe together.
const PROBE_WAIT: Duration = Duration::from_millis(1_500);
const PROBE_WAIT_CHANCE_MICROS: u64 = 1_000_000;

/// Peers and batching hosts bunch acknowledgements by so much before the filter has seen it.
const BUNCH: Duration = Duration::from_millis(2);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Startup,
    Drain,
    Down,
    Cruise,
    Refill,
    Up,
    ProbeRoundTrip,
}

/// Bounds that loss has set.
#[derive(Debug, Clone, Copy)]
struct Bounds {
    window: u64,
    inflight_long: u64,
    inflight_short: u64,
    bandwidth_short: u64,
}

/// A model of the path.
#[derive(Debug, Clone)]
pub struct Bbr {
    packet_bytes: u64,
    chance: u64,
    phase: Phase,
    phase_since: Instant,
    phase_round: u64,
    path: Path,
    bounds: Bounds,
    /// The bounds before the last loss that changed them.
    before: Option<Bounds>,
    pace: Option<u64>,
    /// Startup has found all there is.
    is_full: bool,
    full_bandwidth: u64,
    full_rounds: u8,
    probe_at: Instant,
    /// What of `inflight_long` may be added next in Up, and how fast.
    up_bytes: u64,
    up_step: u64,
    round_trip_asked_at: Instant,
    round_trip_asked: Option<Duration>,
    /// When `ProbeRtt` may end: set once the flight is small enough, with the round that must end too.
    round_trip_until: Option<(Instant, u64)>,
    window_before_probe: u64,
    is_idle: bool,
    heavy_rounds: u8,
}

impl Bbr {
    /// A controller for an association whose largest packet has room for `packet_bytes` bytes of DATA chunks. `seed`
    /// decides when it probes.
    #[must_use]
    pub fn new(packet_bytes: u64, seed: u64) -> Self {
        let packet_bytes = packet_bytes.max(1);
        Self {
            packet_bytes,
            chance: seed,
            phase: Phase::Startup,
            phase_since: Instant(0),
            phase_round: 0,
            path: Path::new(),
            bounds: Bounds {
                window: INITIAL_PACKETS * packet_bytes,
                inflight_long: u64::MAX,
                inflight_short: u64::MAX,
                bandwidth_short: u64::MAX,
            },
            before: None,
            pace: None,
            is_full: false,
            full_bandwidth: 0,
            full_rounds: 0,
            probe_at: Instant(0),
            up_bytes: 0,
            up_step: 0,
            round_trip_asked_at: Instant(0),
            round_trip_asked: None,
            round_trip_until: None,
            window_before_probe: 0,
            is_idle: false,
            heavy_rounds: 0,
        }
    }

    /// What is believed to be delivered now, in bytes a second.
    fn bandwidth(&self) -> u64 {
        self.path.bandwidth().min(self.bounds.bandwidth_short)
    }

    fn window_min(&self) -> u64 {
        WINDOW_PACKETS_MIN * self.packet_bytes
    }

    /// Bytes in flight at `percent` of what the path holds, with room for acknowledgements that come in bunches.
    fn inflight(&self, bandwidth: u64, percent: u64) -> Option<u64> {
        let product = self.path.product(bandwidth)?;
        let bunch = bytes_in(bandwidth, BUNCH).max(2 * self.packet_bytes);
        Some((product.saturating_mul(percent) / 100).saturating_add(bunch).max(self.window_min()))
    }

    fn enter(&mut self, phase: Phase, now: Instant) {
        self.phase = phase;
        self.phase_since = now;
        self.phase_round = self.path.rounds();
    }

    fn rounds_in_phase(&self) -> u64 {
        self.path.rounds() - self.phase_round
    }

    fn draw(&mut self) -> u64 {
        // SplitMix64.
        self.chance = self.chance.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.chance;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    fn enter_down(&mut self, now: Instant) {
        self.wait(now);
        self.path.begin_cycle();
        self.enter(Phase::Down, now);
    }

    fn wait(&mut self, now: Instant) {
        let chance = Duration::from_micros(self.draw() % PROBE_WAIT_CHANCE_MICROS);
        self.probe_at = now + PROBE_WAIT + chance;
    }

    fn enter_refill(&mut self, now: Instant) {
        self.bounds.bandwidth_short = u64::MAX;
        self.bounds.inflight_short = u64::MAX;
        self.heavy_rounds = 0;
        self.enter(Phase::Refill, now);
    }

    fn enter_up(&mut self, now: Instant) {
        self.up_bytes = 0;
        self.up_step = self.packet_bytes;
        self.full_rounds = 0;
        self.full_bandwidth = self.path.bandwidth();
        self.enter(Phase::Up, now);
    }

    fn has_headroom(&self, in_flight: u64) -> bool {
        let headroom =
            self.bounds.inflight_long.saturating_sub(self.bounds.inflight_long / 100 * HEADROOM_PERCENT);
        let product = self.inflight(self.bandwidth(), 100).unwrap_or(u64::MAX);
        in_flight <= product.min(headroom).max(self.window_min())
    }

    fn round_ended(&mut self, round: &Round) {
        let is_heavy = is_heavy(round.lost, round.lost + round.delivered, self.packet_bytes);
        if !self.is_full && !round.is_app_limited {
            if self.path.bandwidth() >= self.full_bandwidth.saturating_mul(FULL_GROWTH_PERCENT) / 100 {
                self.full_bandwidth = self.path.bandwidth();
                self.full_rounds = 0;
            } else {
                self.full_rounds += 1;
                self.is_full = self.full_rounds >= FULL_ROUNDS;
            }
        }
        if !is_heavy {
            return;
        }
        match self.phase {
            Phase::Startup => {
                self.remember();
                self.is_full = true;
                let product = self.path.product(self.path.bandwidth()).unwrap_or(0);
                self.bounds.inflight_long = product.max(round.held).max(self.window_min());
            }
            Phase::Refill | Phase::Up => {}
            Phase::Drain | Phase::Down | Phase::Cruise | Phase::ProbeRoundTrip => {
                self.remember();
                self.heavy_rounds = self.heavy_rounds.saturating_add(1);
                let keep = if round.lost > round.delivered / 4 { 0 } else { BETA_PERCENT };
                let bandwidth = self.bandwidth() / 100 * keep;
                self.bounds.bandwidth_short = round.bandwidth.max(bandwidth);
                let inflight = self.bounds.inflight_short.min(self.bounds.window) / 100 * keep;
                self.bounds.inflight_short = round.held.max(inflight).max(self.window_min());
            }
        }
    }

    fn remember(&mut self) {
        self.before = Some(self.bounds);
    }

    fn step(&mut self, acknowledged: &Acknowledged, ended: Option<&Round>) {
        let now = acknowledged.now;
        match self.phase {
            Phase::Startup if self.is_full => self.enter(Phase::Drain, now),
            Phase::Startup => {}
            Phase::Drain => {
                let target = self.inflight(self.bandwidth(), 100).unwrap_or(u64::MAX);
                if acknowledged.in_flight <= target {
                    self.enter_down(now);
                }
            }
            Phase::Down if now >= self.probe_at => self.enter_refill(now),
            Phase::Down => {
                if self.has_headroom(acknowledged.in_flight) {
                    self.enter(Phase::Cruise, now);
                }
            }
            Phase::Cruise => {
                if now >= self.probe_at {
                    self.enter_refill(now);
                }
            }
            Phase::Refill => {
                if self.rounds_in_phase() >= 1 {
                    self.enter_up(now);
                }
            }
            Phase::Up => self.step_up(acknowledged, ended),
            Phase::ProbeRoundTrip => self.step_probe_round_trip(acknowledged),
        }
    }

    fn step_up(&mut self, acknowledged: &Acknowledged, ended: Option<&Round>) {
        let now = acknowledged.now;
        // The bound grows as long as it is what holds us back: by a packet in the first round trip, then by two...
        if acknowledged.in_flight_before + self.packet_bytes >= self.bounds.inflight_long {
            self.up_bytes += acknowledged.bytes.saturating_mul(self.up_step) / self.bounds.window.max(1);
            self.bounds.inflight_long =
                self.bounds.inflight_long.saturating_add(std::mem::take(&mut self.up_bytes));
        }
        let Some(round) = ended else { return };
        self.up_step = self.up_step.saturating_mul(2);
        let target = self.inflight(self.path.bandwidth(), UP_PACE).unwrap_or(u64::MAX);
        if self.path.bandwidth() >= self.full_bandwidth / 100 * FULL_GROWTH_PERCENT {
            self.full_bandwidth = self.path.bandwidth();
            self.full_rounds = 0;
        } else {
            self.full_rounds += 1;
        }
        let is_over = acknowledged.in_flight_before >= target || self.full_rounds >= FULL_ROUNDS;
        if is_over || round.is_app_limited {
            self.enter_down(now);
        }
    }

    fn step_probe_round_trip(&mut self, acknowledged: &Acknowledged) {
        let now = acknowledged.now;
        match self.round_trip_until {
            None if acknowledged.in_flight <= self.probe_round_trip_window() => {
                self.round_trip_until = Some((now + PROBE_ROUND_TRIP_TIME, self.path.rounds() + 1));
            }
            Some((until, round)) if now >= until && self.path.rounds() >= round => {
                self.round_trip_asked_at = now;
                self.bounds.window = self.bounds.window.max(self.window_before_probe);
                if self.is_full {
                    self.wait(now);
                    self.enter(Phase::Cruise, now);
                } else {
                    self.enter(Phase::Startup, now);
                }
            }
            None | Some(_) => {}
        }
    }

    fn probe_round_trip_window(&self) -> u64 {
        self.inflight(self.bandwidth(), PROBE_ROUND_TRIP_WINDOW).unwrap_or(u64::MAX)
    }

    fn ask_round_trip(&mut self, acknowledged: &Acknowledged) {
        let now = acknowledged.now;
        let Some(sample) = acknowledged.round_trip else { return };
        let is_stale = now.since(self.round_trip_asked_at) > PROBE_ROUND_TRIP_INTERVAL;
        if is_stale || self.round_trip_asked.is_none_or(|asked| sample <= asked) {
            self.round_trip_asked = Some(sample);
            self.round_trip_asked_at = now;
        }
        if is_stale && self.phase != Phase::ProbeRoundTrip && !self.is_idle {
            self.window_before_probe = self.bounds.window;
            self.round_trip_until = None;
            self.enter(Phase::ProbeRoundTrip, now);
        }
        self.is_idle = false;
    }

    fn set_window(&mut self, acknowledged: &Acknowledged) {
        let percent = match self.phase {
            Phase::Startup | Phase::Drain => STARTUP_WINDOW,
            Phase::Up => UP_WINDOW,
            Phase::Down | Phase::Cruise | Phase::Refill => CRUISE_WINDOW,
            Phase::ProbeRoundTrip => PROBE_ROUND_TRIP_WINDOW,
        };
        let Some(model) = self.inflight(self.bandwidth(), percent) else { return };
        let model = model.saturating_add(self.path.extra());
        let grown = self.bounds.window.saturating_add(acknowledged.bytes);
        let mut window = if self.is_full { grown.min(model) } else { grown };
        let long = match self.phase {
            Phase::Startup => u64::MAX,
            Phase::Refill | Phase::Up => self.bounds.inflight_long,
            Phase::Drain | Phase::Down | Phase::Cruise | Phase::ProbeRoundTrip => {
                self.bounds.inflight_long - self.bounds.inflight_long / 100 * HEADROOM_PERCENT
            }
        };
        window = window.min(long).min(self.bounds.inflight_short);
        if self.phase == Phase::ProbeRoundTrip {
            window = window.min(self.probe_round_trip_window());
        }
        self.bounds.window = window.max(self.window_min());
    }

    fn set_pace(&mut self, round_trip: Option<Duration>) {
        let gain = match self.phase {
            Phase::Startup => STARTUP_PACE,
            Phase::Drain => DRAIN_PACE,
            Phase::Down => DOWN_PACE,
            Phase::Cruise | Phase::Refill | Phase::ProbeRoundTrip => 100,
            Phase::Up => UP_PACE,
        };
        let pace = match self.pace {
            None => {
                // The first samples are of a flight that had no time to fill the path.
                let Some(round_trip) = round_trip else { return };
                let micros = u64::try_from(round_trip.as_micros()).unwrap_or(u64::MAX).max(1);
                (INITIAL_PACKETS * self.packet_bytes * STARTUP_PACE).saturating_mul(10_000) / micros
            }
            Some(_) => self.bandwidth().saturating_mul(gain) / 100,
        };
        let pace = pace - pace / 100 * PACING_MARGIN_PERCENT;
        if self.is_full || self.pace.is_none_or(|before| pace > before) {
            self.pace = Some(pace.max(self.packet_bytes));
        }
    }
}

impl Controller for Bbr {
    fn sent(&mut self, sent: &Sent) {
        if sent.in_flight <= sent.bytes {
            self.is_idle = true;
            self.path.idle(sent.now);
        }
    }

    fn acknowledged(&mut self, acknowledged: &Acknowledged) {
        let ended = self.path.acknowledged(acknowledged, self.bandwidth());
        if let Some(round) = &ended {
            self.round_ended(round);
        }
        self.step(acknowledged, ended.as_ref());
        self.ask_round_trip(acknowledged);
        self.set_pace(acknowledged.round_trip);
        self.set_window(acknowledged);
    }

    fn lost(&mut self, lost: &Lost) {
        self.path.lost(lost);
        let is_probing = matches!(self.phase, Phase::Refill | Phase::Up);
        if is_probing && is_heavy(lost.lost_since, lost.in_flight_then, self.packet_bytes) {
            self.remember();
            let product = self.path.product(self.bandwidth()).unwrap_or(0);
            self.bounds.inflight_long = lost
                .in_flight_then
                .saturating_sub(lost.lost_since)
                .max(product / 100 * BETA_PERCENT)
                .max(self.window_min());
            self.enter_down(lost.now);
        }
    }

    fn timed_out(&mut self, _now: Instant) {
        self.remember();
        self.bounds.window = self.window_min();
    }

    fn spurious(&mut self, _now: Instant) {
        let Some(before) = self.before.take() else { return };
        self.bounds.window = self.bounds.window.max(before.window);
        self.bounds.inflight_long = self.bounds.inflight_long.max(before.inflight_long);
        self.bounds.inflight_short = self.bounds.inflight_short.max(before.inflight_short);
        self.bounds.bandwidth_short = self.bounds.bandwidth_short.max(before.bandwidth_short);
    }

    fn set_packet_bytes(&mut self, bytes: u64) {
        self.packet_bytes = bytes.max(1);
        self.bounds.window = self.bounds.window.max(self.window_min());
    }

    fn window(&self) -> u64 {
        self.bounds.window
    }

    fn pace(&self) -> Option<u64> {
        self.pace
    }
}
