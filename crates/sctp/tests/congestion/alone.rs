//! One sender on a path that stays as it is: how much of it is used, and how little is queued.

use millstream_netsim::percentile;

use crate::scene::{Line, RUN, Who, alone, goodput};
use std::time::Duration;

const MEGABYTE: f64 = 1e6;

fn line(round_trip_ms: u64, queue_ms: u64, loss_per_million: u32) -> Line {
    Line { mbit: 100, round_trip_ms, queue_ms, loss_per_million }
}

fn rate(who: Who, line: Line) -> f64 {
    alone(who, line, 1).rate(0, Duration::ZERO, RUN)
}

#[test]
fn half_a_per_cent_of_loss_at_20_ms_costs_less_than_a_twentieth() {
    let rate = goodput(rate(Who::Bbr, line(20, 50, 5_000)));
    assert!(rate > 11.0 * MEGABYTE, "{rate:.0} bytes a second");
}

#[test]
fn one_per_cent_of_loss_at_80_ms_costs_less_than_a_tenth() {
    let rate = goodput(rate(Who::Bbr, line(80, 50, 10_000)));
    assert!(rate > 10.5 * MEGABYTE, "{rate:.0} bytes a second");
}

#[test]
fn one_and_a_half_per_cent_of_loss_is_no_reason_to_slow_down() {
    let rate = goodput(rate(Who::Bbr, line(80, 50, 15_000)));
    assert!(rate > 10.4 * MEGABYTE, "{rate:.0} bytes a second");
}

#[test]
fn a_path_that_loses_nothing_is_filled() {
    for round_trip_ms in [20, 80] {
        for queue_ms in [50, 500] {
            let line = line(round_trip_ms, queue_ms, 0);
            let used = rate(Who::Bbr, line) / line.rate();
            assert!(used > 0.95, "{:.1} % of {line:?}", used * 100.0);
        }
    }
}

#[test]
fn a_queue_of_10_ms_is_enough() {
    for (round_trip_ms, least) in [(20, 0.97), (80, 0.93)] {
        let line = line(round_trip_ms, 10, 0);
        let used = rate(Who::Bbr, line) / line.rate();
        assert!(used > least, "{:.1} % of {line:?}", used * 100.0);
    }
}

#[test]
fn ours_queues_a_hundredth_of_what_cubic_does() {
    let line = line(40, 500, 0);
    let ours = alone(Who::Bbr, line, 1).counts.queued_micros;
    let cubic = alone(Who::CubicHystart, line, 1).counts.queued_micros;
    let median = (percentile(&ours, 50), percentile(&cubic, 50));
    assert!(median.0 * 100 < median.1, "median of ours and of CUBIC, in µs: {median:?}");
    let tail = (percentile(&ours, 99), percentile(&cubic, 99));
    assert!(tail.0 * 5 < tail.1, "99 % of ours and of CUBIC, in µs: {tail:?}");
}

#[test]
fn the_reference_fills_a_path_that_loses_nothing_and_no_other() {
    let clean = line(20, 50, 0);
    let used = rate(Who::NewReno, clean) / clean.rate();
    assert!(used > 0.95, "{:.1} %", used * 100.0);
    let lossy = goodput(rate(Who::NewReno, line(20, 50, 5_000)));
    assert!(lossy < 2.0 * MEGABYTE, "{lossy:.0} bytes a second: the reference has become something else");
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let lossy = line(80, 50, 10_000);
    let (first, second) = (alone(Who::Bbr, lossy, 7), alone(Who::Bbr, lossy, 7));
    assert_eq!(first.arrived, second.arrived);
    assert_ne!(first.arrived, alone(Who::Bbr, lossy, 8).arrived);
}
