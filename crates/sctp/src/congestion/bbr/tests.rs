//! What can be told of the model without a network; `tests/congestion/` has the rest.

use std::time::Duration;

use millstream_model::Instant;

use super::{super::Rate, *};

const PACKET: u64 = 1_200;

/// An acknowledgement at `now_ms` of a packet that took 20 ms, at `rate` bytes a second.
fn acknowledged(now_ms: u64, rate: u64, is_app_limited: bool) -> Acknowledged {
    let delivered = now_ms * rate / 1_000;
    Acknowledged {
        now: Instant::from_millis(now_ms),
        bytes: PACKET,
        delivered,
        in_flight_before: 20 * PACKET,
        in_flight: 19 * PACKET,
        round_trip: Some(Duration::from_millis(20)),
        rate: Some(Rate {
            delivered: rate / 50,
            interval: Duration::from_millis(20),
            delivered_before: delivered.saturating_sub(rate / 50),
            lost: 0,
            in_flight: 20 * PACKET,
            is_app_limited,
        }),
    }
}

/// A controller past its startup on a path of a megabyte a second and 20 ms.
fn settled() -> Bbr {
    let mut bbr = Bbr::new(PACKET, 1);
    for tenth in 1..100 {
        bbr.acknowledged(&acknowledged(tenth * 10, 1_000_000, false));
    }
    assert!(bbr.is_full);
    bbr
}

#[test]
fn a_controller_is_small() {
    // A viewer may cost 100 KB in all.
    assert!(size_of::<Bbr>() <= 800, "{} bytes", size_of::<Bbr>());
}

#[test]
fn ten_packets_leave_before_anything_is_known() {
    let bbr = Bbr::new(PACKET, 1);
    assert_eq!((bbr.window(), bbr.pace()), (12_000, None));
}

#[test]
fn what_had_too_little_to_send_says_only_that_there_is_more() {
    let mut bbr = settled();
    bbr.acknowledged(&acknowledged(1_000, 400_000, true));
    assert_eq!(bbr.path.bandwidth(), 1_000_000);
    bbr.acknowledged(&acknowledged(1_010, 1_500_000, true));
    assert_eq!(bbr.path.bandwidth(), 1_500_000);
}

#[test]
fn what_was_only_late_gives_the_window_back() {
    let mut bbr = settled();
    let before = bbr.window();
    bbr.timed_out(Instant::from_millis(1_000));
    assert_eq!(bbr.window(), 4 * PACKET);
    bbr.spurious(Instant::from_millis(1_010));
    assert_eq!(bbr.window(), before);
}

#[test]
fn a_packet_lost_here_and_there_costs_nothing() {
    let mut bbr = settled();
    let before = bbr.pace();
    for at in 0..5 {
        bbr.lost(&Lost {
            now: Instant::from_millis(1_000 + at * 40),
            bytes: PACKET,
            newest_sent: Instant::from_millis(980 + at * 40),
            in_flight_then: 20 * PACKET,
            lost_since: PACKET,
            in_flight: 18 * PACKET,
        });
        bbr.acknowledged(&acknowledged(1_000 + at * 40, 1_000_000, false));
    }
    assert_eq!(bbr.pace(), before);
    assert!(bbr.window() >= 20_000, "{} bytes is less than the path holds", bbr.window());
}

#[test]
fn round_trips_that_grow_without_others_do_not_overflow_anything() {
    let mut bbr = Bbr::new(u64::MAX / 1_000, 1);
    for tenth in 1..50 {
        let mut acknowledged = acknowledged(tenth * 10, u64::MAX / 1_000, false);
        acknowledged.round_trip = Some(Duration::from_secs(tenth));
        bbr.acknowledged(&acknowledged);
    }
    assert!(bbr.window() > 0);
}
