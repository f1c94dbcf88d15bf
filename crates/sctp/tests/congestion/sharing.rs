//! Two senders at one bottleneck: nobody gets more than twice what the other gets, as a mean over seeds.
//!
//! Queues of 10 ms are no part of this: there whoever asks for more than they have takes it (the page in
//! `docs/transport/` has the figures).

use std::time::Duration;

use millstream_netsim::Dumbbell;

use crate::scene::{Line, Who, join, pair, share};

const SEEDS: u64 = 3;

/// The mean share of ours beside `other`, as what the first gets for each byte of the second: geometric, for twice and
/// half are as far from even.
fn mean_share(first: (Who, u64), second: (Who, u64), line: Line) -> f64 {
    let both_s = first.1.max(second.1);
    let logarithms = (0..SEEDS).map(|seed| share(&pair(first, second, line, seed), both_s).ln());
    (logarithms.sum::<f64>() / SEEDS as f64).exp()
}

fn assert_fair(first: (Who, u64), second: (Who, u64), mbit: u64, queue_ms: u64) {
    let line = Line { mbit, round_trip_ms: 40, queue_ms, loss_per_million: 0 };
    let share = mean_share(first, second, line);
    assert!((0.5..=2.0).contains(&share), "{first:?} gets {share:.2} times what {second:?} gets on {line:?}");
}

#[test]
fn two_of_ours_share_a_short_queue() {
    assert_fair((Who::Bbr, 0), (Who::Bbr, 5), 100, 50);
    assert_fair((Who::Bbr, 0), (Who::Bbr, 5), 20, 50);
}

#[test]
fn two_of_ours_share_a_long_queue() {
    assert_fair((Who::Bbr, 0), (Who::Bbr, 5), 100, 500);
    assert_fair((Who::Bbr, 0), (Who::Bbr, 5), 20, 500);
}

#[test]
fn ours_and_cubic_share_a_short_queue() {
    assert_fair((Who::Bbr, 0), (Who::Cubic, 0), 100, 50);
    assert_fair((Who::Bbr, 0), (Who::CubicHystart, 0), 20, 50);
}

#[test]
fn ours_and_cubic_share_a_long_queue() {
    assert_fair((Who::Bbr, 0), (Who::Cubic, 0), 100, 500);
    assert_fair((Who::Bbr, 0), (Who::CubicHystart, 0), 20, 500);
}

#[test]
fn ours_and_reno_share_a_short_queue() {
    assert_fair((Who::Bbr, 0), (Who::Reno, 0), 100, 50);
    assert_fair((Who::Bbr, 0), (Who::Reno, 0), 20, 50);
}

#[test]
fn ours_and_reno_share_a_long_queue() {
    assert_fair((Who::Bbr, 0), (Who::Reno, 0), 100, 500);
    assert_fair((Who::Bbr, 0), (Who::Reno, 0), 20, 500);
}

#[test]
fn a_tcp_that_comes_later_finds_room() {
    assert_fair((Who::Bbr, 0), (Who::Cubic, 5), 20, 50);
    assert_fair((Who::Bbr, 0), (Who::Reno, 5), 100, 50);
}

#[test]
fn of_eight_of_ours_none_is_left_out() {
    let line = Line { mbit: 20, round_trip_ms: 40, queue_ms: 50, loss_per_million: 0 };
    let mut dumbbell = Dumbbell::new(line.traits(), 1);
    for at in 0..8 {
        join(&mut dumbbell, line.seat(Duration::from_millis(at * 1_013)), Who::Bbr, at);
    }
    dumbbell.run(Duration::from_secs(60));
    let outcome = dumbbell.outcome();
    let rates = (0..8).map(|at| outcome.rate(at, Duration::from_secs(15), Duration::from_secs(60)));
    let least = rates.fold(f64::INFINITY, f64::min);
    assert!(least > line.rate() / 8.0 / 2.5, "{least:.0} bytes a second for the last of eight");
}

#[test]
fn two_of_ours_keep_the_queue_short() {
    let line = Line { mbit: 100, round_trip_ms: 40, queue_ms: 500, loss_per_million: 0 };
    let outcome = pair((Who::Bbr, 0), (Who::Bbr, 5), line, 1);
    let median = millstream_netsim::percentile(&outcome.counts.queued_micros, 50);
    assert!(median < 20_000, "{median} µs");
}
