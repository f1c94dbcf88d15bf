//! Paths, and who is on them: what the stories and the table of `examples/share.rs` are made of.

use std::{cell::RefCell, rc::Rc, time::Duration};

use millstream_model::Instant;
use millstream_netsim::{Acknowledging, Dumbbell, Growth, Outcome, Seat, Tcp, Traits};
use millstream_sctp::congestion::{Bbr, NewReno};

use crate::sender::{Association, CHUNK_BYTES, Log, Supply, WIRE_BYTES};

/// For how long flows share a path.
pub(crate) const RUN: Duration = Duration::from_secs(30);

/// A megabit a second, in bytes.
pub(crate) const MBIT: u64 = 125_000;

/// What a TCP sends at a time.
const TCP_BYTES: u64 = 1_500;

/// Who sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Who {
    Bbr,
    NewReno,
    Cubic,
    /// With HyStart++, as most stacks have it.
    CubicHystart,
    Reno,
}

/// A bottleneck, and the round trip of everybody on it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Line {
    pub(crate) mbit: u64,
    pub(crate) round_trip_ms: u64,
    pub(crate) queue_ms: u64,
    pub(crate) loss_per_million: u32,
}

impl Line {
    pub(crate) fn traits(&self) -> Traits {
        let delay = Duration::from_millis(self.round_trip_ms / 2);
        let queue = Duration::from_millis(self.queue_ms);
        let bottleneck = Traits::bottleneck(self.mbit * MBIT, delay, queue);
        Traits { loss_per_million: self.loss_per_million, ..bottleneck }
    }

    /// What the path carries, in bytes a second.
    pub(crate) fn rate(&self) -> f64 {
        (self.mbit * MBIT) as f64
    }

    pub(crate) fn seat(&self, starts: Duration) -> Seat {
        Seat {
            starts: Instant(0) + starts,
            back: Duration::from_millis(self.round_trip_ms / 2),
            acknowledging: Acknowledging::Each,
        }
    }
}

/// Seats `who`; what can be seen of it, where it is one of ours.
pub(crate) fn join(dumbbell: &mut Dumbbell<'_>, seat: Seat, who: Who, seed: u64) -> Option<Rc<RefCell<Log>>> {
    let (association, log) = match who {
        Who::Bbr => Association::new(Bbr::new(CHUNK_BYTES, seed), Supply::Endless),
        Who::NewReno => Association::new(NewReno::new(CHUNK_BYTES), Supply::Endless),
        Who::Cubic | Who::CubicHystart => {
            dumbbell.seat(seat, Tcp::new(TCP_BYTES, Growth::Cubic, who == Who::CubicHystart));
            return None;
        }
        Who::Reno => {
            dumbbell.seat(seat, Tcp::new(TCP_BYTES, Growth::Reno, false));
            return None;
        }
    };
    dumbbell.seat(seat, association);
    Some(log)
}

/// One sender for half a minute.
pub(crate) fn alone(who: Who, line: Line, seed: u64) -> Outcome {
    let mut dumbbell = Dumbbell::new(line.traits(), seed);
    join(&mut dumbbell, line.seat(Duration::ZERO), who, seed);
    dumbbell.run(RUN);
    dumbbell.outcome()
}

/// Two senders, each with when it comes (in seconds), for half a minute after both are there.
pub(crate) fn pair(first: (Who, u64), second: (Who, u64), line: Line, seed: u64) -> Outcome {
    let mut dumbbell = Dumbbell::new(line.traits(), seed);
    // Seeds make the second come a little later, for there is no other chance on a path that loses nothing.
    let apart = Duration::from_millis(seed * 37);
    join(&mut dumbbell, line.seat(Duration::from_secs(first.1)), first.0, seed * 2 + 1);
    join(&mut dumbbell, line.seat(Duration::from_secs(second.1) + apart), second.0, seed * 2 + 2);
    dumbbell.run(RUN + Duration::from_secs(first.1.max(second.1)));
    dumbbell.outcome()
}

/// How many times as much the first of a pair got through as the second, from when both were there.
pub(crate) fn share(outcome: &Outcome, both_s: u64) -> f64 {
    let from = Duration::from_secs(both_s);
    outcome.rate(0, from, from + RUN) / outcome.rate(1, from, from + RUN)
}

/// Bytes of DATA chunks a second of what a path carried.
pub(crate) fn goodput(wire: f64) -> f64 {
    wire * CHUNK_BYTES as f64 / WIRE_BYTES as f64
}
