//! The default: a model of the path instead of a window that halves (after draft-ietf-ccwg-bbr).
//!
//! The path is known by two numbers, the most it delivered lately and its shortest round trip. What leaves is paced at
//! the first, what is in flight is bounded by their product, and a loss of a packet here and there costs nothing. Now
//! and then the controller sends a little faster to see whether there is more (Refill, Up), gives back what queued
//! (Down), and every five seconds empties its share of the queue to see the shortest round trip again (`ProbeRtt`).

use std::time::Duration;

use millstream_model::Instant;

use self::{
    path::{Path, Round, bytes_in},
    rivals::{Drain, Rivals, SHARE_ALONE},
};
use super::{Acknowledged, Controller, Lost, Sent, new_reno::INITIAL_PACKETS};

mod path;
mod rivals;

/// Packets that may always be in flight: fewer, and one that is delayed stops the flow of acknowledgements.
const WINDOW_PACKETS_MIN: u64 = 4;

/// Gains in hundredths. Startup doubles what is delivered each round trip (4 ln 2).
const STARTUP_PACE: u64 = 277;
const STARTUP_WINDOW: u64 = 200;
const DRAIN_PACE: u64 = 50;
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

/// A round trip not seen again for so long is asked for (`BBR.ProbeRTTInterval`).
const PROBE_ROUND_TRIP_INTERVAL: Duration = Duration::from_secs(5);
/// For how long the queue is left to empty (`BBR.ProbeRTTDuration`).
const PROBE_ROUND_TRIP_TIME: Duration = Duration::from_millis(200);

/// The wait between two probes for bandwidth, of which a part is chance, so that flows do not probe together.
const PROBE_WAIT: Duration = Duration::from_millis(1_500);
const PROBE_WAIT_CHANCE_MICROS: u64 = 1_000_000;

/// So much longer than the shortest, and a quarter of it, is a round trip that others have queued in.
const CROWD: Duration = Duration::from_millis(2);
/// So much longer than the shortest, and a part of it, is a round trip in which more queues than a little.
const SLACK: Duration = Duration::from_millis(2);
const SLACK_DIVISOR: u32 = 16;
/// So many round trips of that, though we gave way, mean that others do not.
const EXCESS_ROUNDS: u32 = 10;
/// So many times in a row it must have been somebody, unless a round trip is so many times the shortest.
const STRIKES: u32 = 2;
const DEEP: u32 = 3;
/// A round trip of so many times the shortest cannot be our own doing.
const FLOOD: u32 = 5;
/// However often it was nobody, we look again after so many.
const PATIENCE_MAX: u32 = 160;
/// What a round trip of others in the queue leaves of our rate at least: the round trip may have grown by itself.
const YIELD_PERCENT_MIN: u64 = 70;
/// Our share is measured again after so many round trips, and sooner when it is no longer what it was.
const SHARE_ROUNDS: u32 = 16;
/// For so many round trips nothing must have changed by a jump when the share is measured.
const STEADY_ROUNDS: u32 = 3;
/// What each of us keeps in a shared queue.
const STAKE_PACKETS_MIN: u64 = 3;
const STAKE_PACKETS_MAX: u64 = 16;
const STAKE_DIVISOR: u64 = 32;
/// So many round trips like that are enough to look who it is.
const CROWDED_ROUNDS: u32 = 3;

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
    drain: Option<Drain>,
    window_before_drain: u64,
    /// The queue drains for the round trip's sake too.
    is_asked: bool,
    /// It drains because others may be there.
    is_suspicious: bool,
    rivals: Option<Rivals>,
    crowded_rounds: u32,
    /// So many of them before we look who it is: more each time that it was nobody.
    patience: u32,
    /// Times in a row that it was somebody.
    strikes: u32,
    /// Times in a row that it was nobody any more.
    absences: u32,
    /// Cruises below what the model says, because more than ours is in the queue.
    is_yielding: bool,
    /// What the path held of ours when we began to give way.
    yielded_from: u64,
    yielded_rate: u64,
    last_round: Round,
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
            drain: None,
            window_before_drain: 0,
            is_asked: false,
            is_suspicious: false,
            rivals: None,
            crowded_rounds: 0,
            patience: EXCESS_ROUNDS,
            strikes: 0,
            absences: 0,
            is_yielding: false,
            yielded_from: 0,
            yielded_rate: 0,
            last_round: Round::default(),
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
        if !self.is_yielding {
            self.bounds.bandwidth_short = u64::MAX;
        }
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
        let is_heavy = self.path.is_heavy(round.lost, round.lost + round.delivered, self.packet_bytes);
        let is_quiet =
            self.phase == Phase::Cruise && round.longest.is_some_and(|longest| self.excess(longest).is_none());
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
            Phase::Refill | Phase::Up => {}
            Phase::Compete => {}
            Phase::Drained if self.rivals.is_some() => {}
            Phase::Drain | Phase::Down | Phase::Cruise | Phase::Drained => {
                self.remember();
                self.heavy_rounds = self.heavy_rounds.saturating_add(1);
                let keep = if round.lost > round.delivered / 4 { 0 } else { BETA_PERCENT };
                let bandwidth = self.bandwidth() / 100 * keep;
                self.bounds.bandwidth_short = round.bandwidth.max(bandwidth);
                let inflight = self.bounds.inflight_short.min(self.bounds.window) / 100 * keep;
                self.bounds.inflight_short = round.arrived.max(inflight).max(self.window_min());
            }
        }
    }

    /// Whether a round trip is so long that it cannot be our own doing: ours makes it twice as long at most.
    fn is_flooded(&self, round_trip: Option<Duration>) -> bool {
        round_trip > self.path.round_trip().map(|shortest| shortest * FLOOD)
    }

    fn remember(&mut self) {
        self.before = Some(self.bounds);
    }

    fn step(&mut self, acknowledged: &Acknowledged, ended: Option<&Round>) {
        let now = acknowledged.now;
        match self.phase {
            Phase::Startup if self.is_full && self.is_flooded(self.path.latest()) => {
                self.rivals = Some(Rivals::new(now, self.bounds.window));
                self.enter(Phase::Compete, now);
            }
            Phase::Startup if self.is_full => {
                // What of the queue is ours will be seen when it drains.
                let window = self.inflight(self.bandwidth(), 100).unwrap_or(u64::MAX);
                self.drain(acknowledged, window);
            }
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
            self.is_yielding = false;
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

    fn step_drained(&mut self, acknowledged: &Acknowledged) {
        let now = acknowledged.now;
        let time = if self.is_asked { PROBE_ROUND_TRIP_TIME } else { Duration::ZERO };
        let Some(drain) = &mut self.drain else { return };
        if !drain.is_over(acknowledged, &mut self.path, time) {
            return;
        }
        self.round_trip_asked_at = now;
        self.is_asked = false;
        let Some(drain) = self.drain.take() else { return };
        self.bounds.window = self.bounds.window.max(self.window_before_drain);
        let is_crowded = !drain.is_clear();
        let is_suspicious = self.is_suspicious || self.rivals.is_some() || drain.is_new_low();
        let share = drain.share().unwrap_or(1_000);
        if is_crowded && is_suspicious && share < SHARE_ALONE {
            self.patience = EXCESS_ROUNDS;
            self.is_full = true;
            self.strikes += 1;
            self.absences = 0;
            let is_deep = drain.is_new_low()
                || drain.round_trip() > self.path.round_trip().map(|shortest| shortest * DEEP);
            if self.rivals.is_none() && self.strikes < STRIKES && !is_deep {
                // It may be one of us who has just come, and does not know yet how much there is.
                self.crowded_rounds = 0;
                self.wait(now);
                self.enter(Phase::Cruise, now);
                return;
            }
            let window_min = self.window_min();
            let window = self.window_before_drain.max(self.yielded_from);
            let rivals = self.rivals.get_or_insert_with(|| Rivals::new(now, window));
            if !drain.is_disturbed {
                rivals.judge(now, share, window_min);
            }
            self.path.begin_cycle();
            self.bounds.inflight_long = u64::MAX;
            self.enter(Phase::Compete, now);
            return;
        }
        self.absences += 1;
        let is_certain = self.absences >= STRIKES;
        if let Some(rivals) = &mut self.rivals
            && !is_certain
        {
            // They may just have lost something.
            rivals.postpone(now);
            self.enter(Phase::Compete, now);
            return;
        }
        if !is_crowded {
            self.absences = 0;
        } else if is_suspicious && is_certain {
            // Nobody else is there, so this is the path.
            self.absences = 0;
            if let Some(shortest) = drain.round_trip() {
                self.path.set_round_trip(shortest);
            }
        }
        if self.is_suspicious || self.rivals.is_some() {
            // The queue was ours, or of others like us: we had taken too much.
            self.patience = self.patience.saturating_mul(2).min(PATIENCE_MAX);
            self.is_yielding = true;
            self.bounds.bandwidth_short = drain.rate();
            self.yielded_rate = drain.rate();
        }
        self.crowded_rounds = 0;
        self.strikes = 0;
        self.yielded_from = 0;
        self.rivals = None;
        if self.is_full {
            self.wait(now);
            self.enter(Phase::Cruise, now);
        } else {
            self.enter(Phase::Startup, now);
        }
    }

    fn drain(&mut self, acknowledged: &Acknowledged, window: u64) {
        let round_trip = self.last_round.shortest.unwrap_or_default();
        self.window_before_drain = self.bounds.window;
        self.is_suspicious = self.crowded_rounds > 0;
        let held = self.last_round.held().min(acknowledged.in_flight_before);
        let least = self.path.round_trip().unwrap_or_default();
        self.drain = Some(Drain::new(window, held, round_trip, least, self.last_round.rate()));
        self.enter(Phase::Drained, acknowledged.now);
    }

    /// How much longer than the shortest a round trip is when more queues than a little: none when it is not.
    fn excess(&self, round_trip: Duration) -> Option<Duration> {
        let shortest = self.path.round_trip()?;
        let excess = round_trip.saturating_sub(shortest);
        // What several of us keep in the queue takes as long as what each of them keeps at its own rate.
        let stakes = Duration::from_micros(self.stake().saturating_mul(1_500_000) / self.bandwidth().max(1));
        (excess > shortest / SLACK_DIVISOR + SLACK + stakes).then_some(excess)
    }

    /// Whether a round trip is longer than our own probing makes it.
    fn is_crowded(&self, round_trip: Duration) -> bool {
        self.path.round_trip().is_some_and(|shortest| round_trip > shortest + shortest / 4 + CROWD)
    }

    /// Bytes that each of us keeps in a queue that several share: the same for all, so that who has little gains.
    fn stake(&self) -> u64 {
        let product = self.path.product(self.bandwidth()).unwrap_or(0);
        (STAKE_PACKETS_MIN * self.packet_bytes + product / STAKE_DIVISOR)
            .min(STAKE_PACKETS_MAX * self.packet_bytes)
    }

    fn cruise_round(&mut self, round: &Round) {
        let Some(least) = self.path.round_trip() else { return };
        if round.is_app_limited {
            return;
        }
        if round.shortest.is_some_and(|shortest| self.excess(shortest).is_some()) {
            if !self.is_yielding {
                self.is_yielding = true;
                self.yielded_from = round.held();
                self.yielded_rate = round.rate();
            }
            let least = (self.bandwidth() / 100 * YIELD_PERCENT_MIN).max(self.yielded_rate / 2);
            self.bounds.bandwidth_short =
                round.sent_rate().max(least).min(self.path.bandwidth()).max(self.packet_bytes);
        } else if self.is_yielding {
            let micros = u64::try_from(least.as_micros()).unwrap_or(u64::MAX).max(1);
            let step = (self.stake() / 2).saturating_mul(1_000_000) / micros;
            self.bounds.bandwidth_short = self.bounds.bandwidth_short.saturating_add(step);
            if self.bounds.bandwidth_short >= self.path.bandwidth() {
                self.is_yielding = false;
                self.bounds.bandwidth_short = u64::MAX;
            }
        }
    }

    fn compete(&mut self, acknowledged: &Acknowledged) {
        let now = acknowledged.now;
        let round_trip = self.last_round.shortest.unwrap_or_default();
        let is_used = acknowledged.in_flight_before >= self.bounds.window / 2;
        let Some(rivals) = &mut self.rivals else { return };
        if is_used {
            let round_trip = self.path.latest().unwrap_or_default();
            rivals.grow(now, acknowledged.bytes, round_trip, self.packet_bytes);
        }
        let is_calm =
            self.last_round.lost == 0 && self.path.round().lost == 0 && self.last_round.shortest.is_some();
        let is_due = rivals.is_share_stale()
            || now.since(self.round_trip_asked_at) > PROBE_ROUND_TRIP_INTERVAL.max(round_trip * SHARE_ROUNDS)
            || rivals.is_small() && now.since(self.round_trip_asked_at) > round_trip * SHARE_ROUNDS / 2;
        if is_calm && is_due && rivals.is_steady(now, round_trip * STEADY_ROUNDS) {
            let window = (self.last_round.held().min(self.bounds.window) / 2).max(self.window_min());
            self.drain(acknowledged, window);
        }
    }

    fn ask_round_trip(&mut self, acknowledged: &Acknowledged, ended: Option<&Round>) {
        let now = acknowledged.now;
        if let Some((round, shortest)) = ended.and_then(|round| Some((round, round.shortest?))) {
            let is_overflowing = matches!(self.phase, Phase::Cruise | Phase::Down)
                && round.longest.is_some_and(|longest| self.excess(longest).is_some())
                && self.path.is_excess(round.lost, round.lost + round.delivered, self.packet_bytes);
            let weight = match () {
                () if self.is_crowded(shortest) || is_overflowing => EXCESS_ROUNDS.div_ceil(CROWDED_ROUNDS),
                () if self.excess(shortest).is_some() => 1,
                () => 0,
            };
            self.crowded_rounds = if weight > 0 { self.crowded_rounds + weight } else { 0 };
        }
        let Some(sample) = acknowledged.round_trip else { return };
        if matches!(self.phase, Phase::Drained | Phase::Compete) {
            return;
        }
        let is_stale = now.since(self.round_trip_asked_at) > PROBE_ROUND_TRIP_INTERVAL;
        if is_stale || self.round_trip_asked.is_none_or(|asked| sample <= asked) {
            self.round_trip_asked = Some(sample);
            self.round_trip_asked_at = now;
        }
        let is_suspicious =
            matches!(self.phase, Phase::Cruise | Phase::Down) && self.crowded_rounds >= self.patience;
        if (is_stale && !self.is_idle) || is_suspicious {
            let window = self.inflight(self.bandwidth(), PROBE_ROUND_TRIP_WINDOW).unwrap_or(u64::MAX);
            self.drain(acknowledged, window);
            self.is_asked = true;
        }
        self.is_idle = false;
    }

    fn set_window(&mut self, acknowledged: &Acknowledged) {
        if let Some(rivals) = &self.rivals {
            self.bounds.window = self.drain.as_ref().map_or(rivals.window(), |drain| drain.window);
            return;
        }
        let percent = match self.phase {
            Phase::Startup | Phase::Drain => STARTUP_WINDOW,
            Phase::Up => UP_WINDOW,
            Phase::Down | Phase::Cruise | Phase::Refill | Phase::Drained | Phase::Compete => CRUISE_WINDOW,
        };
        let Some(mut model) = self.inflight(self.bandwidth(), percent) else { return };
        if self.phase == Phase::Cruise && self.is_yielding {
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
            Phase::Drain | Phase::Down | Phase::Cruise | Phase::Drained | Phase::Compete => {
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
            self.pace = Some((self.bounds.window * gain).saturating_mul(10_000) / micros);
            return;
        }
        let gain = match self.phase {
            Phase::Startup => STARTUP_PACE,
            Phase::Drain => DRAIN_PACE,
            Phase::Down => DOWN_PACE,
            Phase::Cruise if self.is_yielding => YIELD_PACE,
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
        }
    }

    fn acknowledged(&mut self, acknowledged: &Acknowledged) {
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
