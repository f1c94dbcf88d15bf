//! Complaints: whom a viewer is given another edge for, and what several of them do to an edge.

use std::net::IpAddr;

use millstream_model::{EdgeId, PublicKey, WallTime};
use millstream_placement::standing::{
    AVOID_MS, COMPLAINT_MS, Delivery, FAILED_MAX, Failure, Standing, Subscriber, Watch,
};

const REPORT_MS: u64 = 5_000;

fn edge(n: u8) -> EdgeId {
    PublicKey([n; 32])
}

fn at(report: u64) -> WallTime {
    WallTime(1_000_000 + report * REPORT_MS)
}

fn says(n: u8, received: u64, ready: bool) -> Delivery {
    Delivery { edge: edge(n), received, bad: 0, ready }
}

/// Reports of two edges, each told what came from it so far; and what came from the origin.
fn tell(watch: &mut Watch, said: impl Fn(u64) -> ([Delivery; 2], u64), reports: u64) -> Vec<(u64, Failure)> {
    let told = |report| {
        let (said, origin) = said(report);
        watch.report(&[edge(1), edge(2)], &said, origin, at(report))
    };
    let all: Vec<_> = (1..=reports).map(told).collect();
    (1..)
        .zip(all)
        .flat_map(|(report, failures)| failures.into_iter().map(move |failure| (report, failure)))
        .collect()
}

#[test]
fn one_bad_piece_is_enough_for_the_viewer_that_got_it() {
    let mut watch = Watch::default();
    let bad = Delivery { bad: 1, ..says(1, 100, true) };
    let failures = watch.report(&[edge(1), edge(2)], &[bad, says(2, 0, true)], 0, at(1));
    assert_eq!(failures, [Failure { edge: edge(1), bad: true, counts: true }]);
    assert_eq!(watch.avoid(at(1_000_000)), [edge(1)], "for good");
    assert_eq!(watch.barred(), [edge(1)]);
    assert_eq!(watch.report(&[edge(1), edge(2)], &[bad], 0, at(2)), [], "it was said already");
}

#[test]
fn an_edge_that_stands_by_is_well() {
    let mut watch = Watch::default();
    assert_eq!(tell(&mut watch, |n| ([says(1, n * 100, true), says(2, 0, true)], 0), 100), []);
}

#[test]
fn a_viewer_that_is_paused_blames_nobody() {
    let mut watch = Watch::default();
    assert_eq!(tell(&mut watch, |_| ([says(1, 100, false), says(2, 100, false)], 7), 1), []);
    assert_eq!(tell(&mut watch, |_| ([says(1, 100, false), says(2, 100, false)], 7), 100), []);
}

#[test]
fn an_edge_that_is_not_reached_fails_the_viewer_after_three_reports() {
    let mut watch = Watch::default();
    let failures = tell(&mut watch, |n| ([says(1, n * 100, true), says(2, 0, false)], 0), 3);
    assert_eq!(failures, [(3, Failure { edge: edge(2), bad: false, counts: true })]);
    assert_eq!((watch.avoid(at(3)), watch.barred()), (vec![edge(2)], vec![]));
    assert_eq!(watch.avoid(at(3).plus_millis(AVOID_MS)), [], "it may have been the viewer's network");
}

#[test]
fn an_edge_that_nobody_can_replace_is_complained_of_once() {
    let mut watch = Watch::default();
    assert_eq!(tell(&mut watch, |n| ([says(1, n * 100, true), says(2, 0, false)], 0), 60).len(), 1);
}

#[test]
fn reports_in_a_burst_are_not_three_reports() {
    let mut watch = Watch::default();
    for n in 1..50 {
        let said = [says(1, n, true), says(2, 0, false)];
        assert_eq!(watch.report(&[edge(1), edge(2)], &said, 0, WallTime(1_000_000 + n)), []);
    }
}

#[test]
fn edges_that_leave_everything_to_the_origin_fail_the_viewer_but_it_is_not_held_against_them() {
    let mut watch = Watch::default();
    let failures = tell(&mut watch, |n| ([says(1, 0, true), says(2, 0, false)], n * 100), 3);
    let failed = |n| (3, Failure { edge: edge(n), bad: false, counts: false });
    assert_eq!(failures, [failed(1), failed(2)]);
}

#[test]
fn a_viewer_that_nobody_reaches_is_given_so_many_edges_and_no_more() {
    let mut watch = Watch::default();
    let mut failed = 0;
    for n in 0..40_u8 {
        for report in 0..3 {
            let time = at(u64::from(n) * 3 + report);
            let failures = watch.report(&[edge(n)], &[says(n, 0, false)], time.0, time);
            failed += failures.len();
        }
    }
    assert_eq!(failed, FAILED_MAX);
}

fn from(n: u8) -> Subscriber {
    Subscriber::of(IpAddr::from([192, 0, n, 1]))
}

#[test]
fn one_viewer_cannot_blacken_an_edge() {
    let mut standing = Standing::default();
    for n in 0..200 {
        standing.complain(from(1), at(n % 10));
        standing.complain(Subscriber::of(IpAddr::from([192, 0, 1, 7])), at(n % 10));
    }
    assert!(!standing.is_suspect(0, at(10)), "they are one subscriber");
    standing.complain(from(2), at(10));
    assert!(!standing.is_suspect(0, at(10)));
    standing.complain(from(3), at(10));
    assert!(standing.is_suspect(20, at(10)));
}

#[test]
fn few_of_many_do_not_count_and_many_do() {
    let mut standing = Standing::default();
    (0..5).for_each(|n| standing.complain(from(n), at(0)));
    assert!(standing.is_suspect(50, at(0)));
    assert!(!standing.is_suspect(60, at(0)), "some have a bad line");
    (0..=255).for_each(|n| standing.complain(from(n), at(0)));
    assert!(standing.is_suspect(1_000_000, at(0)));
}

#[test]
fn what_was_said_is_forgotten() {
    let mut standing = Standing::default();
    (0..3).for_each(|n| standing.complain(from(n), at(0)));
    assert!(standing.is_suspect(0, at(0).plus_millis(COMPLAINT_MS - 1)));
    assert!(!standing.is_suspect(0, at(0).plus_millis(COMPLAINT_MS)));
}

#[test]
fn an_ipv6_site_is_one_subscriber() {
    let of = |text: &str| Subscriber::of(text.parse().unwrap());
    assert_eq!(of("2001:db8:1:2::3"), of("2001:db8:1:ffff::1"));
    assert_ne!(of("2001:db8:1::"), of("2001:db8:2::"));
    assert_eq!(of("::ffff:192.0.2.9"), of("192.0.2.1"));
}
