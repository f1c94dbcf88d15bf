//! The default: a model of the path instead of a window that halves (after draft-ietf-ccwg-bbr).
//!
//! The path is known by two numbers, the most it delivered lately and its shortest round trip ([`path`]). What leaves
//! is paced at the first, what is in flight is bounded by their product, and a packet lost here and there costs
//! nothing. Startup doubles until there is no more. Then each few seconds the controller sends a quarter more to see
//! whether there is (Refill, Up), gives back what queued (Down), and cruises; and when the shortest round trip has not
//! been seen for five seconds, it empties its share of the queue to see it again (Drained).
//!
//! Where it goes its own way:
//! - **Loss** counts when it is more than the draft's 2 %, more than chance takes on this path while nothing queues,
//!   and more than what falls on so few packets by accident. A path that loses 1.5 % is used like one that loses none.
//! - **Others in the queue** are told from our own doing and from our own kind ([`crowd`], [`drain`]). Beside our own
//!   kind it gives way until all have the same; beside a TCP that fills the queue it competes with a window like
//!   theirs, and holds about half ([`rivals`]). The draft starves in long queues and starves others in short ones.
//! - **A path that falls** to a fraction is believed after a round of heavy loss, without the draft's 30 % steps.

use std::time::Duration;

use millstream_model::Instant;

use self::{
    backlog::Backlog,
    crowd::Crowd,
    drain::Drain,
    path::{Path, Round, bytes_in},
    rivals::Rivals,
};
use super::{Acknowledged, Controller, Lost, Sent, new_reno::INITIAL_PACKETS};

mod backlog;
mod crowd;
mod drain;
mod path;
mod rivals;

/// No datagram is longer.
const PACKET_BYTES_MAX: u64 = 65_536;

/// Packets that may always be in flight: fewer, and one that is delayed stops the flow of acknowledgements.
const WINDOW_PACKETS_MIN: u64 = 4;

/// Gains in hundredths. Startup doubles what is delivered each round trip (4 ln 2).
const STARTUP_PACE: u64 = 277;
const STARTUP_WINDOW: u64 = 200;
const DOWN_PACE: u64 = 90;
const UP_PACE: u64 = 125;
const UP_WINDOW: u64 = 225;
const CRUISE_WINDOW: u64 = 150;
/// In a shared queue the window is the limit, not the pace.
const YIELD_PACE: u64 = 110;
const PROBE_ROUND_TRIP_WINDOW: u64 = 50;

/// What is kept free of a full path, so that a newcomer finds room (`BBR.Headroom`).
const HEADROOM_PERCENT: u64 = 15;
/// What is left of a bound after a round of heavy loss (`BBR.Beta`).
const BETA_PERCENT: u64 = 70;
/// Paced this far below what was measured, so that a queue drains by itself.
const PACING_MARGIN_PERCENT: u64 = 1;

/// Rounds for which a probe goes on while what it finds is how far a bound may grow.
const UP_ROUNDS: u64 = 4;
/// Rounds without a quarter more, after which startup has found all there is.
const FULL_ROUNDS: u8 = 3;
/// A bandwidth that still grows does so by this.
const FULL_GROWTH_PERCENT: u64 = 125;

/// The wait between two probes for bandwidth, of which a part is chance, so that flows do not probe together.
const PROBE_WAIT: Duration = Duration::from_millis(1_500);
const PROBE_WAIT_CHANCE_MICROS: u64 = 1_000_000;

/// After a silence of so long the queue is another.
const SILENCE: Duration = Duration::from_secs(1);

/// Peers and batching hosts bunch acknowledgements by so much before the filter has seen it.
const BUNCH: Duration = Duration::from_millis(2);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Startup,
    Down,
    Cruise,
    Refill,
    Up,
    /// The flight is small for a moment, to see the round trip and who else queues.
    Drained,
    /// Others hold the queue: a window like theirs.
    Compete,
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
    phase_round: u64,
    path: Path,
    backlog: Backlog,
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
    drain: Option<Drain>,
    rivals: Option<Rivals>,
    crowd: Crowd,
    last_round: Round,
    acknowledged_at: Instant,
    is_idle: bool,
}

impl Bbr {
    /// A controller for an association whose largest packet has room for `packet_bytes` bytes of DATA chunks. `seed`
    /// decides when it probes.
    #[must_use]
    pub fn new(packet_bytes: u64, seed: u64) -> Self {
        let packet_bytes = packet_bytes.clamp(1, PACKET_BYTES_MAX);
        Self {
            packet_bytes,
            chance: seed,
            phase: Phase::Startup,
            phase_round: 0,
            path: Path::new(),
            backlog: Backlog::default(),
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
            drain: None,
            rivals: None,
            crowd: Crowd::new(),
            last_round: Round::default(),
            acknowledged_at: Instant(0),
            is_idle: false,
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

    fn enter(&mut self, phase: Phase) {
        self.phase = phase;
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
        self.enter(Phase::Down);
    }

    fn wait(&mut self, now: Instant) {
        let chance = Duration::from_micros(self.draw() % PROBE_WAIT_CHANCE_MICROS);
        self.probe_at = now + PROBE_WAIT + chance;
    }

    fn enter_refill(&mut self) {
        if !self.crowd.is_yielding {
            self.bounds.bandwidth_short = u64::MAX;
        }
        self.bounds.inflight_short = u64::MAX;
        self.enter(Phase::Refill);
    }

    fn enter_up(&mut self) {
        self.up_bytes = 0;
        self.up_step = self.packet_bytes;
        self.full_rounds = 0;
        self.full_bandwidth = self.path.bandwidth();
        self.enter(Phase::Up);
    }

    fn has_headroom(&self, in_flight: u64) -> bool {
        let headroom =
            self.bounds.inflight_long.saturating_sub(self.bounds.inflight_long / 100 * HEADROOM_PERCENT);
        let product = self.inflight(self.bandwidth(), 100).unwrap_or(u64::MAX);
        in_flight <= product.min(headroom).max(self.window_min())
    }

    fn round_ended(&mut self, round: &Round) {
        let is_heavy = self.path.is_heavy(round.lost, round.lost + round.delivered, self.packet_bytes);
        let is_quiet = matches!(self.phase, Phase::Cruise | Phase::Compete)
            && round.shortest.is_some_and(|shortest| self.excess(shortest).is_none());
        if is_quiet && !is_heavy {
            self.path.background(round);
        }
        if self.phase == Phase::Startup && self.is_flooded(round.shortest) {
            self.is_full = true;
        }
        if !self.is_full && !round.is_app_limited {
            if self.path.bandwidth() >= self.full_bandwidth.saturating_mul(FULL_GROWTH_PERCENT) / 100 {
                self.full_bandwidth = self.path.bandwidth();
                self.full_rounds = 0;
            } else {
                self.full_rounds += 1;
                self.is_full = self.full_rounds >= FULL_ROUNDS;
            }
        }
        if self.phase == Phase::Cruise {
            self.cruise_round(round);
        }
        if !is_heavy {
            return;
        }
        match self.phase {
            Phase::Startup => {
                self.remember();
                self.is_full = true;
                let product = self.path.product(self.path.bandwidth()).unwrap_or(0);
                self.bounds.inflight_long = product.max(round.arrived).max(self.window_min());
            }
            Phase::Refill | Phase::Up | Phase::Compete => {}
            Phase::Drained if self.rivals.is_some() => {}
            Phase::Down | Phase::Cruise | Phase::Drained => {
                self.remember();
                let keep = if round.lost > round.delivered / 4 { 0 } else { BETA_PERCENT };
                let bandwidth = self.bandwidth() / 100 * keep;
                self.bounds.bandwidth_short = round.bandwidth.max(bandwidth);
                let inflight = self.bounds.inflight_short.min(self.bounds.window) / 100 * keep;
                self.bounds.inflight_short = round.arrived.max(inflight).max(self.window_min());
            }
        }
    }

    fn remember(&mut self) {
        self.before = Some(self.bounds);
    }

    fn step(&mut self, acknowledged: &Acknowledged, ended: Option<&Round>) {
        let now = acknowledged.now;
        match self.phase {
            Phase::Startup if self.is_full && self.is_flooded(self.path.latest()) => {
                self.rivals = Some(Rivals::new(now, self.bounds.window));
                self.enter(Phase::Compete);
            }
            Phase::Startup if self.is_full => {
                // What of the queue is ours will be seen when it drains.
                let window = self.inflight(self.bandwidth(), 100).unwrap_or(u64::MAX);
                self.drain(acknowledged, window);
            }
            Phase::Startup => {}
            Phase::Down if now >= self.probe_at => self.enter_refill(),
            Phase::Down => {
                if self.has_headroom(acknowledged.in_flight) {
                    self.enter(Phase::Cruise);
                }
            }
            Phase::Cruise => {
                if now >= self.probe_at {
                    self.enter_refill();
                }
            }
            Phase::Refill => {
                if self.rounds_in_phase() >= 1 {
                    self.enter_up();
                }
            }
            Phase::Up => self.step_up(acknowledged, ended),
            Phase::Drained => self.step_drained(acknowledged),
            Phase::Compete => self.compete(acknowledged),
        }
    }

    fn step_up(&mut self, acknowledged: &Acknowledged, ended: Option<&Round>) {
        let now = acknowledged.now;
        // The bound grows as long as it is what holds us back: by a packet in the first round trip, then by two...
        if acknowledged.in_flight_before + self.packet_bytes >= self.bounds.inflight_long {
            self.up_bytes += acknowledged.bytes.saturating_mul(self.up_step) / self.bounds.window.max(1);
            self.bounds.inflight_long =
                self.bounds.inflight_long.saturating_add(std::mem::take(&mut self.up_bytes));
            if self.rounds_in_phase() < UP_ROUNDS {
                self.full_rounds = 0;
            }
        }
        let Some(round) = ended else { return };
        if round.shortest.is_some_and(|shortest| self.excess(shortest).is_none())
            && self.rounds_in_phase() >= 2
        {
            // A quarter more, and nothing queues: there is room for all.
            self.crowd.is_yielding = false;
            self.bounds.bandwidth_short = u64::MAX;
        }
        self.up_step = self.up_step.saturating_mul(2);
        let target = self.inflight(self.bandwidth(), UP_PACE).unwrap_or(u64::MAX);
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

    fn set_window(&mut self, acknowledged: &Acknowledged) {
        if let Some(rivals) = &self.rivals {
            // After a timeout the window comes back by what is acknowledged.
            let grown = self.bounds.window.saturating_add(acknowledged.bytes);
            self.bounds.window = self.drain.as_ref().map_or(rivals.window(), |drain| drain.window).min(grown);
            return;
        }
        let percent = match self.phase {
            Phase::Startup => STARTUP_WINDOW,
            Phase::Up => UP_WINDOW,
            Phase::Down | Phase::Cruise | Phase::Refill | Phase::Drained | Phase::Compete => CRUISE_WINDOW,
        };
        let Some(mut model) = self.inflight(self.bandwidth(), percent) else { return };
        if self.phase == Phase::Cruise && self.crowd.is_yielding {
            model = self.path.product(self.bandwidth()).unwrap_or(model).saturating_add(self.stake());
        }
        let model = model.saturating_add(self.path.extra());
        let grown = self.bounds.window.saturating_add(acknowledged.bytes);
        let mut window = match () {
            () if self.is_full => grown.min(model),
            () if self.bounds.window < model => grown,
            () => self.bounds.window,
        };
        let long = match self.phase {
            Phase::Startup => u64::MAX,
            Phase::Refill | Phase::Up => self.bounds.inflight_long,
            Phase::Down | Phase::Cruise | Phase::Drained | Phase::Compete => {
                self.bounds.inflight_long - self.bounds.inflight_long / 100 * HEADROOM_PERCENT
            }
        };
        window = window.min(long).min(self.bounds.inflight_short);
        if let Some(drain) = &self.drain {
            window = window.min(drain.window);
        }
        self.bounds.window = window.max(self.window_min());
    }

    fn set_pace(&mut self, round_trip: Option<Duration>) {
        if let (Some(rivals), Some(round_trip)) = (&self.rivals, round_trip.or(self.path.latest())) {
            let micros = u64::try_from(round_trip.as_micros()).unwrap_or(u64::MAX).max(1);
            let gain = if rivals.is_slow_start() { 200 } else { 125 };
            let pace = self.bounds.window.saturating_mul(gain * 10_000) / micros;
            self.pace = Some(pace.max(self.packet_bytes));
            return;
        }
        let gain = match self.phase {
            Phase::Startup => STARTUP_PACE,
            Phase::Down => DOWN_PACE,
            Phase::Cruise if self.crowd.is_yielding => YIELD_PACE,
            Phase::Cruise | Phase::Refill | Phase::Drained | Phase::Compete => 100,
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
            // Whoever shared the queue before a silence may be gone.
            if self.rivals.is_some() && sent.now.since(self.acknowledged_at) > SILENCE {
                self.rivals = None;
                self.drain = None;
                self.enter(Phase::Cruise);
            }
        }
    }

    fn acknowledged(&mut self, acknowledged: &Acknowledged) {
        self.acknowledged_at = acknowledged.now;
        self.backlog.acknowledged(acknowledged);
        let ended = self.path.acknowledged(acknowledged, self.bandwidth());
        if let Some(round) = &ended {
            self.round_ended(round);
            self.last_round = *round;
        }
        self.step(acknowledged, ended.as_ref());
        self.ask_round_trip(acknowledged, ended.as_ref());
        self.set_pace(acknowledged.round_trip);
        self.set_window(acknowledged);
    }

    fn lost(&mut self, lost: &Lost) {
        self.path.lost(lost);
        let window_min = self.window_min();
        if let Some(drain) = &mut self.drain {
            drain.lost(lost);
        }
        if let Some(rivals) = &mut self.rivals {
            if self.path.is_excess(
                self.path.round().lost,
                self.path.round().lost + self.path.round().delivered,
                self.packet_bytes,
            ) {
                rivals.lost(lost, window_min);
                self.bounds.window = rivals.window().min(self.bounds.window);
            }
            return;
        }
        let is_probing = matches!(self.phase, Phase::Refill | Phase::Up);
        if is_probing && self.path.is_heavy(lost.lost_since, lost.in_flight_then, self.packet_bytes) {
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

    fn timed_out(&mut self, now: Instant) {
        self.remember();
        self.bounds.window = self.window_min();
        if let Some(rivals) = &mut self.rivals {
            rivals.reduce(now, WINDOW_PACKETS_MIN * self.packet_bytes);
        }
    }

    fn spurious(&mut self, _now: Instant) {
        if let Some(rivals) = &mut self.rivals {
            rivals.restore();
        }
        let Some(before) = self.before.take() else { return };
        self.bounds.window = self.bounds.window.max(before.window);
        self.bounds.inflight_long = self.bounds.inflight_long.max(before.inflight_long);
        self.bounds.inflight_short = self.bounds.inflight_short.max(before.inflight_short);
        self.bounds.bandwidth_short = self.bounds.bandwidth_short.max(before.bandwidth_short);
    }

    fn set_packet_bytes(&mut self, bytes: u64) {
        self.packet_bytes = bytes.clamp(1, PACKET_BYTES_MAX);
        self.bounds.window = self.bounds.window.max(self.window_min());
    }

    fn window(&self) -> u64 {
        self.bounds.window.min(self.backlog.bytes(self.path.round_trip()))
    }

    fn pace(&self) -> Option<u64> {
        // What the smallest window lets out in a round trip: were it held below that, the next samples could only confirm
        // a rate that has collapsed.
        let floor = self.path.latest().map(|latest| {
            let micros = u64::try_from(latest.as_micros()).unwrap_or(u64::MAX).max(1);
            self.window_min().saturating_mul(1_000_000) / micros
        });
        self.pace.map(|pace| pace.max(floor.unwrap_or(0)))
    }
}

#[cfg(test)]
mod tests;
