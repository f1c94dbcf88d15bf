//! Who else is there: noticed by a queue that stays though ours is gone.
//!
//! Three things can keep a round trip long. **Ours:** the model believes in too much, or the path has become slower;
//! when less is in flight, the round trip falls with it. **Our own kind:** several models that add up to more than the
//! path; all give way, and each keeps the same small stake in the queue, so that in the end all have the same.
//! **Others,** who fill whatever queue there is: beside them a model starves, so [`super::rivals`] takes its place.
//! Which of the three it is, is seen by taking half of what is in flight out for a moment ([`super::drain`]).

use std::time::Duration;

use millstream_model::Instant;

use super::{
    super::Acknowledged,
    Bbr, PROBE_ROUND_TRIP_WINDOW, Phase,
    drain::Drain,
    path::Round,
    rivals::{Rivals, SHARE_ALONE},
};

/// A round trip not seen again for so long is asked for (`BBR.ProbeRTTInterval`).
const PROBE_ROUND_TRIP_INTERVAL: Duration = Duration::from_secs(5);
/// For how long the queue is left to empty (`BBR.ProbeRTTDuration`).
const PROBE_ROUND_TRIP_TIME: Duration = Duration::from_millis(200);

/// So much longer than the shortest, and a quarter of it, is a round trip that others have queued in.
const CROWD: Duration = Duration::from_millis(2);
/// So much longer than the shortest, and a part of it, is a round trip in which more queues than a little.
const SLACK: Duration = Duration::from_millis(2);
const SLACK_DIVISOR: u32 = 16;
/// However often it was nobody, the slack does not become more than so many times as much.
const LENIENCE_MAX: u32 = 2;
/// So many round trips of that, though we gave way, mean that others do not.
const EXCESS_ROUNDS: u32 = 10;
/// So many times in a row it must have been somebody, unless a round trip is so many times the shortest.
const STRIKES: u32 = 2;
const DEEP: u32 = 3;
/// After the first time we look again so many round trips later, with so many hundredths of what the path holds.
const AGAIN_ROUNDS: u64 = 4;
const AGAIN_WINDOW: u64 = 25;
/// A round trip of so many times the shortest cannot be our own doing.
const FLOOD: u32 = 5;
/// On a path inside one machine a round trip is many times the shortest, and nobody else is there.
const FLOOD_MIN: Duration = Duration::from_millis(20);
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

/// What is known of others.
#[derive(Debug, Clone)]
pub(super) struct Crowd {
    /// When the shortest round trip was seen last, and what it was.
    asked_at: Instant,
    asked: Option<Duration>,
    /// Round trips in a row that were too long, the very long ones counted several times.
    rounds: u32,
    /// So many of them before we look who it is: more each time that it was nobody.
    patience: u32,
    /// Times in a row that it was somebody.
    strikes: u32,
    /// Times in a row that it was nobody any more.
    absences: u32,
    /// The queue drains for the round trip's sake too.
    is_asked: bool,
    /// It drains because others may be there.
    is_suspicious: bool,
    window_before: u64,
    /// Cruises below what the model says, because more than ours is in the queue.
    pub(super) is_yielding: bool,
    /// What the path held of ours when we began to give way, and the rate that we had.
    yielded_from: u64,
    yielded_rate: u64,
}

impl Crowd {
    pub(super) fn new() -> Self {
        Self {
            asked_at: Instant(0),
            asked: None,
            rounds: 0,
            patience: EXCESS_ROUNDS,
            strikes: 0,
            absences: 0,
            is_asked: false,
            is_suspicious: false,
            window_before: 0,
            is_yielding: false,
            yielded_from: 0,
            yielded_rate: 0,
        }
    }
}

impl Bbr {
    /// Whether a round trip is so long that it cannot be our own doing: ours makes it twice as long at most.
    pub(super) fn is_flooded(&self, round_trip: Option<Duration>) -> bool {
        round_trip > self.path.round_trip().map(|shortest| shortest * FLOOD + FLOOD_MIN)
    }

    /// Goes on in [`Phase::Drained`], and judges when it has been seen what the queue does without ours.
    pub(super) fn step_drained(&mut self, acknowledged: &Acknowledged) {
        let now = acknowledged.now;
        let time = if self.crowd.is_asked { PROBE_ROUND_TRIP_TIME } else { Duration::ZERO };
        let Some(drain) = &mut self.drain else { return };
        if !drain.is_over(acknowledged, &mut self.path, time) {
            return;
        }
        self.crowd.asked_at = now;
        self.crowd.is_asked = false;
        let Some(drain) = self.drain.take() else { return };
        self.bounds.window = self.bounds.window.max(self.crowd.window_before);
        let jitter = self.path.jitter();
        let is_crowded = !drain.is_clear(jitter);
        let is_suspicious = self.crowd.is_suspicious || self.rivals.is_some() || drain.is_new_low(jitter);
        let share = drain.share().unwrap_or(1_000);
        if is_crowded && is_suspicious && share < SHARE_ALONE {
            self.crowd.patience = EXCESS_ROUNDS;
            self.is_full = true;
            self.crowd.strikes += 1;
            self.crowd.absences = 0;
            let is_deep = drain.round_trip() > self.path.round_trip().map(|shortest| shortest * DEEP);
            if self.rivals.is_none() && self.crowd.strikes < STRIKES && !is_deep {
                // It may be one of us who has just come, and does not know yet how much there is.
                self.crowd.rounds = 0;
                self.wait(now);
                self.enter(Phase::Cruise);
                return;
            }
            let window_min = self.window_min();
            let window = self.crowd.window_before.max(self.crowd.yielded_from);
            let rivals = self.rivals.get_or_insert_with(|| Rivals::new(now, window));
            if !drain.is_disturbed {
                rivals.judge(now, share, window_min);
            }
            self.path.begin_cycle();
            self.bounds.inflight_long = u64::MAX;
            self.enter(Phase::Compete);
            return;
        }
        self.crowd.absences += 1;
        let is_certain = self.crowd.absences >= STRIKES;
        if let Some(rivals) = &mut self.rivals
            && !is_certain
        {
            // They may just have lost something.
            // In a long queue they would have had to do so just then; ours did, if they measure when we do.
            let is_soon = drain.round_trip_before() > self.path.round_trip().unwrap_or_default() * DEEP;
            rivals.postpone(now, is_soon);
            self.enter(Phase::Compete);
            return;
        }
        if !is_crowded {
            self.crowd.absences = 0;
        } else if is_suspicious && is_certain {
            // Nobody else is there, so this is the path.
            self.crowd.absences = 0;
            if let Some(shortest) = drain.round_trip() {
                self.path.set_round_trip(shortest);
            }
        }
        if self.crowd.is_suspicious || self.rivals.is_some() {
            // The queue was ours, or of others like us: we had taken too much.
            self.crowd.patience = self.crowd.patience.saturating_mul(2).min(PATIENCE_MAX);
            self.crowd.is_yielding = true;
            self.bounds.bandwidth_short = drain.rate();
            self.crowd.yielded_rate = drain.rate();
        }
        self.crowd.rounds = 0;
        self.crowd.strikes = 0;
        self.crowd.yielded_from = 0;
        self.rivals = None;
        if self.is_full {
            self.wait(now);
            self.enter(Phase::Cruise);
        } else {
            self.enter(Phase::Startup);
        }
    }

    /// Takes out of the path what is in flight beyond `window`, to see what the queue does.
    pub(super) fn drain(&mut self, acknowledged: &Acknowledged, window: u64) {
        let round_trip = self.last_round.shortest.unwrap_or_default();
        self.crowd.window_before = self.bounds.window;
        self.crowd.is_suspicious = self.crowd.rounds > 0;
        let held = self.last_round.held().min(acknowledged.in_flight_before);
        let least = self.path.round_trip().unwrap_or_default();
        self.drain = Some(Drain::new(window, held, round_trip, least, self.last_round.rate()));
        self.enter(Phase::Drained);
    }

    /// How much longer than the shortest a round trip is when more queues than a little: none when it is not.
    pub(super) fn excess(&self, round_trip: Duration) -> Option<Duration> {
        let shortest = self.path.round_trip()?;
        let excess = round_trip.saturating_sub(shortest);
        // What several of us keep in the queue takes as long as what each of them keeps at its own rate.
        let stakes = Duration::from_micros(self.stake().saturating_mul(1_500_000) / self.bandwidth().max(1));
        // Each time that nobody was there, what had looked like them was the path's own way.
        let lenience = (self.crowd.patience / EXCESS_ROUNDS).min(LENIENCE_MAX);
        let slack = (SLACK + shortest / SLACK_DIVISOR) * lenience + self.path.jitter() / 4;
        (excess > slack + stakes).then_some(excess)
    }

    /// Whether a round trip is longer than our own probing makes it.
    fn is_crowded(&self, round_trip: Duration) -> bool {
        self.path
            .round_trip()
            .is_some_and(|shortest| round_trip > shortest + shortest / 4 + CROWD + self.path.jitter() / 4)
    }

    /// Bytes that each of us keeps in a queue that several share: the same for all, so that who has little gains.
    pub(super) fn stake(&self) -> u64 {
        let product = self.path.product(self.bandwidth()).unwrap_or(0);
        (STAKE_PACKETS_MIN * self.packet_bytes + product / STAKE_DIVISOR)
            .min(STAKE_PACKETS_MAX * self.packet_bytes)
    }

    /// After a round trip of cruising: gives way while more than a little queues, and takes back slowly.
    pub(super) fn cruise_round(&mut self, round: &Round) {
        let Some(least) = self.path.round_trip() else { return };
        if round.is_app_limited {
            return;
        }
        if round.shortest.is_some_and(|shortest| self.excess(shortest).is_some()) {
            if !self.crowd.is_yielding {
                self.crowd.is_yielding = true;
                self.crowd.yielded_from = round.held();
                self.crowd.yielded_rate = round.rate();
            }
            let least = (self.bandwidth() / 100 * YIELD_PERCENT_MIN).max(self.crowd.yielded_rate / 2);
            self.bounds.bandwidth_short =
                round.sent_rate().max(least).min(self.path.bandwidth()).max(self.packet_bytes);
        } else if self.crowd.is_yielding {
            let micros = u64::try_from(least.as_micros()).unwrap_or(u64::MAX).max(1);
            let step = (self.stake() / 2).saturating_mul(1_000_000) / micros;
            self.bounds.bandwidth_short = self.bounds.bandwidth_short.saturating_add(step);
            if self.bounds.bandwidth_short >= self.path.bandwidth() {
                self.crowd.is_yielding = false;
                self.bounds.bandwidth_short = u64::MAX;
            }
        }
    }

    /// Goes on in [`Phase::Compete`]: grows, and measures the share when that is due.
    pub(super) fn compete(&mut self, acknowledged: &Acknowledged) {
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
        let interval = PROBE_ROUND_TRIP_INTERVAL.max(round_trip * SHARE_ROUNDS);
        let elapsed = now.since(self.crowd.asked_at);
        // Best after a loss, which all see: others of ours look then too.
        let is_due = rivals.is_share_stale()
            || elapsed > interval && rivals.has_lost()
            || elapsed > interval * 2
            || rivals.is_small() && elapsed > round_trip * SHARE_ROUNDS / 2;
        if is_calm && is_due && rivals.is_steady(now, round_trip * STEADY_ROUNDS) {
            let window = (self.last_round.held().min(self.bounds.window) / 2).max(self.window_min());
            self.drain(acknowledged, window);
        }
    }

    /// Looks at the queue when the shortest round trip has not been seen for long, or has not for too many rounds.
    pub(super) fn ask_round_trip(&mut self, acknowledged: &Acknowledged, ended: Option<&Round>) {
        let now = acknowledged.now;
        if let Some((round, shortest)) = ended.and_then(|round| Some((round, round.shortest?))) {
            let is_overflowing = matches!(self.phase, Phase::Cruise | Phase::Down)
                && round
                    .longest
                    .is_some_and(|longest| self.excess(longest.saturating_sub(self.path.jitter())).is_some())
                && self.path.is_excess(round.lost, round.lost + round.delivered, self.packet_bytes);
            let weight = match () {
                () if self.is_crowded(shortest) || is_overflowing => EXCESS_ROUNDS.div_ceil(CROWDED_ROUNDS),
                () if self.excess(shortest).is_some() => 1,
                () => 0,
            };
            self.crowd.rounds = if weight > 0 { self.crowd.rounds + weight } else { 0 };
        }
        let Some(sample) = acknowledged.round_trip else { return };
        if matches!(self.phase, Phase::Drained | Phase::Compete) {
            return;
        }
        let is_stale = now.since(self.crowd.asked_at) > PROBE_ROUND_TRIP_INTERVAL;
        if is_stale || self.crowd.asked.is_none_or(|asked| sample <= asked) {
            self.crowd.asked = Some(sample);
            self.crowd.asked_at = now;
        }
        let is_again = self.crowd.strikes > 0 && self.rounds_in_phase() >= AGAIN_ROUNDS;
        let is_suspicious = matches!(self.phase, Phase::Cruise | Phase::Down)
            && (self.crowd.rounds >= self.crowd.patience || is_again);
        if (is_stale && !self.is_idle) || is_suspicious {
            // The second time deeper: a round trip that was the path's is the same then, one that was not is shorter.
            let percent = if self.crowd.strikes > 0 { AGAIN_WINDOW } else { PROBE_ROUND_TRIP_WINDOW };
            let window = self.inflight(self.bandwidth(), percent).unwrap_or(u64::MAX);
            self.drain(acknowledged, window);
            self.crowd.is_suspicious |= is_again;
            self.crowd.is_asked = true;
        }
        self.is_idle = false;
    }
}
