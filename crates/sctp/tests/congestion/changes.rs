//! A path that changes under a sender, a sender that has little to send, and a path so short that it is none.

use std::time::Duration;

use millstream_netsim::{Acknowledging, Dumbbell, Seat, Traits, percentile};
use millstream_sctp::congestion::Bbr;

use crate::{
    scene::{Line, MBIT, Who, join},
    sender::{Association, CHUNK_BYTES, Supply, WIRE_BYTES},
};

const QUEUE_BYTES: u64 = 48 * 1_024;

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn a_path_that_falls_to_a_thirtieth_and_comes_back() {
    let line = Line { mbit: 20, round_trip_ms: 20, queue_ms: 20, loss_per_million: 0 };
    let traits = Traits { queue_bytes: QUEUE_BYTES, ..line.traits() };
    let mut dumbbell = Dumbbell::new(traits, 1);
    join(&mut dumbbell, line.seat(Duration::ZERO), Who::Bbr, 1);
    dumbbell.run(seconds(10));
    let before = dumbbell.outcome().counts.dropped_bytes;
    dumbbell.change(|traits| traits.rate = Some(87_500));
    dumbbell.run(seconds(20));
    let dropped = dumbbell.outcome().counts.dropped_bytes - before;
    dumbbell.change(|traits| traits.rate = Some(20 * MBIT));
    dumbbell.run(seconds(30));
    let outcome = dumbbell.outcome();
    let waits: Vec<u32> = outcome.waits[120..200].to_vec();
    let narrow = outcome.rate(0, seconds(12), seconds(20)) / 87_500.0;
    let again = outcome.rate(0, seconds(23), seconds(30)) / line.rate();
    assert!(dropped <= QUEUE_BYTES, "{dropped} bytes dropped");
    assert!(percentile(&waits, 50) < 110_000, "{} µs of queue", percentile(&waits, 50));
    assert!(narrow > 0.85, "{narrow:.2} of the narrow path used");
    assert!(again > 0.9, "{again:.2} of the wide path used again");
}

#[test]
fn a_live_stream_on_a_narrow_lossy_path_is_never_late() {
    let line = Line { mbit: 5, round_trip_ms: 80, queue_ms: 100, loss_per_million: 10_000 };
    let mut dumbbell = Dumbbell::new(line.traits(), 1);
    let each = Duration::from_millis(250);
    let packets = 3 * MBIT / 4 / WIRE_BYTES;
    let (association, log) = Association::new(Bbr::new(CHUNK_BYTES, 1), Supply::Bursts { packets, each });
    dumbbell.seat(line.seat(Duration::ZERO), association);
    dumbbell.run(seconds(60));
    let log = log.borrow();
    let (median, tail) = (percentile(&log.bursts, 50), percentile(&log.bursts, 99));
    // The last burst has just begun.
    assert!(log.begun - log.bursts.len() as u64 <= 2, "{} of {} bursts arrived", log.bursts.len(), log.begun);
    assert!(tail < 450_000, "99 % of bursts are there after {tail} µs, half after {median} µs");
}

#[test]
fn a_round_trip_that_grows_tenfold_is_believed() {
    let line = Line { mbit: 50, round_trip_ms: 20, queue_ms: 100, loss_per_million: 0 };
    let mut dumbbell = Dumbbell::new(line.traits(), 1);
    join(&mut dumbbell, line.seat(Duration::ZERO), Who::Bbr, 1);
    dumbbell.run(seconds(10));
    dumbbell.change(|traits| traits.delay = Duration::from_millis(190));
    dumbbell.run(seconds(40));
    let outcome = dumbbell.outcome();
    let first = outcome.rate(0, seconds(10), seconds(20)) / line.rate();
    let later = outcome.rate(0, seconds(20), seconds(40)) / line.rate();
    assert!(later > 0.8, "{first:.2} of the path used in the first ten seconds, {later:.2} later");
}

#[test]
fn a_path_inside_one_machine_is_not_throttled() {
    // A packet each 2 µs at 100 µs, acknowledged in bunches of up to a millisecond.
    let line_rate = 620_000_000;
    let traits = Traits::bottleneck(line_rate, Duration::from_micros(50), Duration::from_millis(4));
    let mut dumbbell = Dumbbell::new(traits, 1);
    let seat = Seat {
        starts: millstream_model::Instant(0),
        back: Duration::from_micros(50),
        acknowledging: Acknowledging::Bunched(Duration::from_millis(1)),
    };
    join(&mut dumbbell, seat, Who::Bbr, 1);
    dumbbell.run(seconds(3));
    let used = dumbbell.outcome().rate(0, Duration::from_millis(500), seconds(3)) / line_rate as f64;
    assert!(used > 0.95, "{used:.2} of the path used");
}

#[test]
fn a_peer_that_acknowledges_in_bunches_costs_nothing() {
    let line = Line { mbit: 100, round_trip_ms: 20, queue_ms: 50, loss_per_million: 0 };
    for bunch_ms in [1, 5, 10] {
        let mut dumbbell = Dumbbell::new(line.traits(), 1);
        let acknowledging = Acknowledging::Bunched(Duration::from_millis(bunch_ms));
        join(&mut dumbbell, Seat { acknowledging, ..line.seat(Duration::ZERO) }, Who::Bbr, 1);
        dumbbell.run(seconds(10));
        let used = dumbbell.outcome().rate(0, seconds(1), seconds(10)) / line.rate();
        assert!(used > 0.95, "{:.1} % with bunches of {bunch_ms} ms", used * 100.0);
    }
}
