//! One run: what the plan says, done to the world, with the model beside it.

use std::{sync::Arc, time::Duration};

use millstream_model::Instant;
use millstream_netsim::Chance;
use millstream_sctp::{Association, CloseReason, Event, Reliability, SendError};

use super::{
    invariants,
    model::Direction,
    plan::{Begins, Finish, Flow, Plan},
};
use crate::world::{World, entropy};

const SECOND: Duration = Duration::from_secs(1);

/// Nothing takes longer, with a path of 50 kB/s that loses each tenth packet.
const PATIENCE: Duration = Duration::from_secs(900);

/// What runs have shown, summed.
#[derive(Debug, Default, Clone)]
pub(crate) struct Told {
    pub(crate) runs: u64,
    pub(crate) messages: usize,
    pub(crate) bytes: u64,
    pub(crate) chunks: usize,
    pub(crate) lost: usize,
    pub(crate) again: usize,
    pub(crate) needless: usize,
    pub(crate) narrowed: u64,
    pub(crate) restarted: u64,
    pub(crate) resets: usize,
    pub(crate) timeouts: u64,
}

impl Told {
    pub(crate) fn add(&mut self, one: &Self) {
        self.runs += 1;
        self.messages += one.messages;
        self.bytes += one.bytes;
        self.chunks += one.chunks;
        self.lost += one.lost;
        self.again += one.again;
        self.needless += one.needless;
        self.narrowed += one.narrowed;
        self.restarted += one.restarted;
        self.resets += one.resets;
        self.timeouts += one.timeouts;
    }
}

/// A flow as far as it has come.
struct Source {
    flow: Flow,
    left: u64,
    next_length: u64,
    /// How much may be sent now, of one that sends in bursts.
    allowed: u64,
    next_burst: Instant,
    reset: Reset,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Reset {
    None,
    Wanted,
    /// Asked for when so many messages had been sent.
    Asked(usize),
    Done(usize),
}

struct Run {
    plan: Plan,
    chance: Chance,
    sources: Vec<Source>,
    directions: [Direction; 2],
    /// Events of each end that were looked at.
    heard: [usize; 2],
    /// What comes to an end may be given up.
    gives_up: [bool; 2],
    opened: Instant,
    resets: usize,
}

pub(crate) fn run(seed: u64) -> Told {
    let plan = Plan::new(seed);
    if std::env::var_os("SCTP_SEEDS").is_some() {
        println!("seed {seed}: {plan:?}");
    }
    let mut world = World::with(&plan.configs[0], &plan.configs[1], plan.traits[0], seed);
    world.grain = plan.grain;
    world.paths[1].change(world.now, |traits| *traits = plan.traits[1]);
    if !open(&mut world, plan.begins) {
        return Told::default();
    }
    let mut run = Run::new(plan, seed, &world);
    let is_done = world.run_until(PATIENCE, |world| run.step(world));
    run.judge(&mut world, is_done)
}

/// Says whether they are open; a path that is bad for nine tries in a row is nobody's fault.
fn open(world: &mut World, begins: Begins) -> bool {
    match begins {
        Begins::First => world.ends[0].association.connect(world.now),
        Begins::Second => world.ends[1].association.connect(world.now),
        Begins::Both(later) => {
            world.ends[0].association.connect(world.now);
            world.run(later);
            world.ends[1].association.connect(world.now);
        }
    }
    let is_open = world.run_until(60 * SECOND, |world| world.is_open());
    assert!(
        is_open || (0..2).any(|end| world.closed(end) == Some(CloseReason::Unanswered)),
        "it does not open"
    );
    is_open
}

impl Source {
    fn new(flow: &Flow, chance: &mut Chance, now: Instant) -> Self {
        let (least, most) = flow.bytes;
        Self {
            flow: flow.clone(),
            left: flow.total,
            next_length: least + chance.below(most - least + 1),
            allowed: 0,
            next_burst: now,
            reset: if flow.is_reset { Reset::Wanted } else { Reset::None },
        }
    }

    fn is_done(&self) -> bool {
        self.left == 0 && matches!(self.reset, Reset::None | Reset::Done(_))
    }
}

impl Run {
    fn new(plan: Plan, seed: u64, world: &World) -> Self {
        let mut chance = Chance::new(!seed);
        let sources = plan.flows.iter().map(|flow| Source::new(flow, &mut chance, world.now)).collect();
        let has_partial = |end: usize| {
            plan.flows.iter().any(|flow| flow.from == 1 - end && flow.reliability != Reliability::Reliable)
        };
        Self {
            gives_up: [has_partial(0), has_partial(1)],
            plan,
            chance,
            sources,
            directions: Default::default(),
            heard: [0; 2],
            opened: world.now,
            resets: 0,
        }
    }

    /// What is due now. Says whether there is nothing more to come.
    fn step(&mut self, world: &mut World) -> bool {
        let since = world.now.since(self.opened);
        self.mishaps(world, since);
        for end in 0..2 {
            self.hear(world, end);
        }
        if self.plan.restart.is_some_and(|(_, at)| since >= at) {
            return true;
        }
        for at in 0..self.sources.len() {
            self.offer(world, at);
        }
        self.set_alarm(world, since);
        let is_over = (0..2).any(|end| world.closed(end).is_some());
        is_over
            || (self.sources.iter().all(Source::is_done) && (self.plan.is_hasty || self.is_complete(world)))
    }

    fn is_complete(&self, world: &World) -> bool {
        world.is_drained() && self.directions.iter().all(|direction| direction.missing().next().is_none())
    }

    fn mishaps(&self, world: &mut World, since: Duration) {
        for end in 0..2 {
            let is_paused = |&(who, from, span): &(usize, Duration, Duration)| {
                who == end && (from..from + span).contains(&since)
            };
            world.ends[end].is_reading = !self.plan.pauses.iter().any(is_paused);
        }
        let now = world.now;
        for (path, plan) in world.paths.iter_mut().zip(&self.plan.traits) {
            let is_black =
                self.plan.black_out.is_some_and(|(from, span)| (from..from + span).contains(&since));
            let narrow =
                self.plan.narrowing.filter(|(at, _)| since >= *at).map_or(u64::MAX, |(_, bytes)| bytes);
            path.change(now, |traits| {
                traits.loss_per_million = if is_black { 1_000_000 } else { plan.loss_per_million };
                traits.packet_bytes_max = plan.packet_bytes_max.min(narrow);
            });
        }
    }

    /// Wakes the world when the plan has something to do next.
    fn set_alarm(&self, world: &mut World, since: Duration) {
        let Plan { pauses, black_out, narrowing, restart, .. } = &self.plan;
        let spans = pauses.iter().map(|(_, from, span)| (*from, *span)).chain(*black_out);
        let times = spans.flat_map(|(from, span)| [from, from + span]);
        let times = times.chain(narrowing.map(|(at, _)| at)).chain(restart.map(|(_, at)| at));
        let planned = times.filter(|at| *at > since).map(|at| self.opened + at);
        let bursts = self.sources.iter().filter(|source| source.flow.burst.is_some() && source.left > 0);
        let bursts = bursts.map(|source| source.next_burst).filter(|at| *at > world.now);
        world.alarm = planned.chain(bursts).min();
    }

    /// Messages and events that came to `end`.
    fn hear(&mut self, world: &mut World, end: usize) {
        let direction = &mut self.directions[1 - end];
        for message in world.ends[end].received.drain(..) {
            direction.arrived(&message);
        }
        let end_of = &world.ends[end];
        if !self.gives_up[end] {
            invariants::memory_is_bounded(end_of);
        }
        if self.plan.restart.is_none() {
            invariants::what_is_acknowledged_has_come(end_of, &world.ends[1 - end]);
        }
        invariants::nothing_happens_after_the_end(end_of);
        for at in self.heard[end]..end_of.events.len() {
            match end_of.events[at] {
                Event::Reset { stream, is_done } => {
                    assert!(is_done, "the peer did not take our reset of stream {stream}");
                    let mut sources = self.sources.iter_mut();
                    let source = sources
                        .find(|source| {
                            source.flow.from == end
                                && source.flow.stream == stream
                                && matches!(source.reset, Reset::Asked(_))
                        })
                        .expect("a reset that was not asked for");
                    if let Reset::Asked(before) = source.reset {
                        source.reset = Reset::Done(before);
                    }
                    source.left = source.flow.total / 2;
                    self.resets += 1;
                }
                Event::PeerReset { stream } if end_of.is_reading => {
                    let asked = self.sources.iter().find_map(|source| match source.reset {
                        Reset::Asked(before) | Reset::Done(before)
                            if source.flow.from != end && source.flow.stream == stream =>
                        {
                            Some(before)
                        }
                        _ => None,
                    });
                    let before = asked.expect("a reset that was not asked for");
                    invariants::a_reset_comes_after_all_messages(&self.directions[1 - end], stream, before);
                }
                _ => {}
            }
        }
        self.heard[end] = end_of.events.len();
    }

    /// Sends what the source has and may.
    fn offer(&mut self, world: &mut World, at: usize) {
        let (now, source) = (world.now, &mut self.sources[at]);
        let flow = &source.flow;
        let (association, direction) =
            (&mut world.ends[flow.from].association, &mut self.directions[flow.from]);
        if let Some((every, bytes)) = flow.burst
            && now >= source.next_burst
        {
            source.next_burst = source.next_burst + every;
            source.allowed = bytes;
        }
        if let Some(priority) = flow.priority {
            association.set_priority(flow.stream, priority);
        }
        while source.left > 0
            && (flow.burst.is_none() || source.allowed > 0)
            && !matches!(source.reset, Reset::Asked(_))
        {
            let message =
                direction.next(flow.stream, source.next_length, flow.is_unordered, flow.reliability);
            match association.send(message.clone(), now) {
                Ok(()) => direction.taken(message),
                Err(SendError::Full) => break,
                // Heard at the next turn.
                Err(SendError::Closed) => return,
                Err(error) => panic!("not taken: {error}"),
            }
            source.left = source.left.saturating_sub(source.next_length);
            source.allowed = source.allowed.saturating_sub(source.next_length);
            let (least, most) = flow.bytes;
            source.next_length = least + self.chance.below(most - least + 1);
        }
        if source.left == 0 && source.reset == Reset::Wanted {
            association.reset(flow.stream).expect("a stream that is open can be reset");
            source.reset = Reset::Asked(direction.sent.len());
        }
    }

    fn judge(mut self, world: &mut World, is_done: bool) -> Told {
        let closed = [world.closed(0), world.closed(1)];
        let mut told = Told::default();
        if closed != [None, None] {
            assert!(self.plan.narrowing.is_some(), "it ended by itself: {closed:?}");
            assert!(closed.contains(&Some(CloseReason::Narrowed)), "it ended by itself: {closed:?}");
            told.narrowed = 1;
        } else if let Some((end, at)) = self.plan.restart
            && world.now.since(self.opened) >= at
        {
            self.restart(world, end);
            told.restarted = 1;
        } else {
            for from in 0..2 {
                invariants::every_reliable_message_comes_unless(
                    self.plan.is_hasty && is_done,
                    &self.directions[from],
                    from,
                );
            }
            let stats = [0, 1].map(|end| world.ends[end].association.stats());
            assert!(is_done, "it does not come to its end: {stats:?}");
            self.finish(world);
        }
        for end in &world.ends {
            invariants::no_silence_while_data_waits(end, world.now, world.grain);
            if told.restarted == 0 {
                invariants::little_is_sent_again_that_was_not_lost(end, &self.plan);
            }
            told.bytes += end.received_bytes;
            told.chunks += end.ledger.sent_chunks();
            told.lost += end.ledger.lost();
            told.again += end.ledger.again();
            told.needless += end.ledger.needless().len();
            told.timeouts += end.association.stats().timeouts;
        }
        told.messages = self.directions.iter().map(|direction| direction.sent.len()).sum();
        told.resets = self.resets;
        told
    }

    /// The end loses its state and begins anew: the other is told.
    fn restart(&mut self, world: &mut World, end: usize) {
        let config = world.ends[end].config.clone();
        world.ends[end].association = Association::new(
            Arc::clone(&config),
            entropy(u64::from(config.receive_window_bytes), 9),
            world.now,
        );
        world.ends[end].association.connect(world.now);
        world.ends[end].ledger.forget();
        self.plan.restart = None;
        self.gives_up = [true; 2];
        let is_told = self.until(world, 60 * SECOND, |world| world.closed(1 - end).is_some());
        let closed = world.closed(1 - end);
        assert!(is_told, "a restart is not noticed: {:?}", world.ends[1 - end].association.stats());
        assert_eq!(closed, Some(CloseReason::Restarted), "a restart");
    }

    fn finish(&mut self, world: &mut World) {
        match self.plan.finish {
            Finish::Idle => {
                self.until(world, PATIENCE, |_| false);
                let before = [world.ends[0].packets, world.ends[1].packets];
                world.run(60 * SECOND);
                invariants::idle_is_quiet(before, world);
            }
            Finish::Shutdown(end) => {
                world.ends[end].association.shutdown(world.now);
                self.close(world);
            }
            Finish::BothShutdown => {
                world.ends[0].association.shutdown(world.now);
                world.ends[1].association.shutdown(world.now);
                self.close(world);
            }
            Finish::Abort(end) => {
                world.ends[end].association.abort();
                world.run(10 * SECOND);
                assert_eq!(world.closed(end), Some(CloseReason::Local));
                assert!(matches!(world.closed(1 - end), None | Some(CloseReason::Aborted)));
                return;
            }
        }
        if (0..2).any(|end| world.closed(end) == Some(CloseReason::Narrowed)) {
            return;
        }
        // What came before the end can be read after it.
        self.plan.pauses.clear();
        self.until(world, SECOND, |_| false);
        for from in 0..2 {
            invariants::every_reliable_message_comes(&self.directions[from], from);
        }
    }

    fn close(&mut self, world: &mut World) {
        let is_closed = self.until(world, PATIENCE, |world| (0..2).all(|end| world.closed(end).is_some()));
        assert!(is_closed, "the shutdown does not end");
        for end in 0..2 {
            let closed = world.closed(end);
            // The other is told so.
            let narrowed = self.plan.narrowing.is_some()
                && matches!(closed, Some(CloseReason::Narrowed | CloseReason::Aborted));
            assert!(
                narrowed
                    || matches!(
                        closed,
                        Some(CloseReason::Local | CloseReason::Peer | CloseReason::Unanswered)
                    ),
                "a shutdown ended so: {closed:?}"
            );
        }
    }

    /// Goes on as planned until `done`.
    fn until(&mut self, world: &mut World, time: Duration, mut done: impl FnMut(&World) -> bool) -> bool {
        world.run_until(time, |world| {
            let since = world.now.since(self.opened);
            self.mishaps(world, since);
            for end in 0..2 {
                self.hear(world, end);
            }
            self.set_alarm(world, since);
            done(world)
        })
    }
}
