//! A path does what it was told to, and the TCPs on it do what TCPs do.
#![cfg(test)]

use std::time::Duration;

use millstream_model::Instant;
use millstream_netsim::{
    Acknowledging, Burst, Dumbbell, Growth, Path, Reorder, Seat, Tcp, Traits, percentile,
};

fn ms(millis: u64) -> Instant {
    Instant::from_millis(millis)
}

/// Sends `count` packets of 1,000 bytes, one a millisecond, and gives what arrives, in its order.
fn carried(traits: Traits, count: u64) -> Vec<Vec<u8>> {
    let mut path = Path::new(traits, 7);
    for at in 0..count {
        let mut packet = vec![0; 1_000];
        packet[..8].copy_from_slice(&at.to_be_bytes());
        path.send(ms(at), packet);
    }
    std::iter::from_fn(|| path.receive(ms(count + 10_000))).collect()
}

fn numbers(packets: &[Vec<u8>]) -> Vec<u64> {
    packets.iter().map(|packet| u64::from_be_bytes(packet[..8].try_into().unwrap())).collect()
}

#[test]
fn a_packet_takes_its_time_through_the_bottleneck_and_then_the_delay() {
    let traits = Traits::bottleneck(1_000_000, Duration::from_millis(10), Duration::from_secs(1));
    let mut path = Path::new(traits, 1);
    path.send(ms(0), vec![0u8; 2_000]);
    path.send(ms(0), vec![0u8; 1_000]);
    assert_eq!(path.receive(Instant(11_999)), None);
    assert_eq!(path.receive(ms(12)).map(|packet| packet.len()), Some(2_000));
    assert_eq!(path.receive(Instant(12_999)), None);
    assert_eq!(path.receive(ms(13)).map(|packet| packet.len()), Some(1_000));
    assert_eq!(path.counts().queued_micros, [0, 2_000]);
    assert_eq!(path.next(), None);
}

#[test]
fn what_does_not_fit_into_the_queue_is_dropped() {
    let traits = Traits::bottleneck(1_000_000, Duration::ZERO, Duration::from_millis(3));
    let mut path = Path::new(traits, 1);
    for _ in 0..5 {
        path.send(ms(0), vec![0u8; 1_000]);
    }
    assert_eq!((path.counts().dropped, path.counts().dropped_bytes), (2, 2_000));
    assert_eq!(path.queued_bytes(), 3_000);
}

#[test]
fn a_path_that_changes_treats_what_comes_after_differently() {
    let mut path = Path::new(Traits::bottleneck(1_000_000, Duration::ZERO, Duration::from_secs(1)), 1);
    path.send(ms(0), vec![0u8; 1_000]);
    path.send(ms(0), vec![0u8; 1_000]);
    path.change(ms(0), |traits| traits.rate = Some(100_000));
    assert!(path.receive(ms(1)).is_some());
    assert!(path.receive(ms(10)).is_none());
    assert!(path.receive(ms(11)).is_some());
}

#[test]
fn accidents_happen_as_often_as_they_should() {
    let lossy = carried(Traits { loss_per_million: 100_000, ..Traits::default() }, 10_000);
    assert!((8_800..=9_200).contains(&lossy.len()), "{} of 10,000 arrived", lossy.len());
    let doubled = carried(Traits { duplicate_per_million: 100_000, ..Traits::default() }, 10_000);
    assert!((10_800..=11_200).contains(&doubled.len()), "{} of 10,000 arrived", doubled.len());
    let corrupt = carried(Traits { corrupt_per_million: 100_000, ..Traits::default() }, 10_000);
    let flipped = |packet: &&Vec<u8>| packet[8..].iter().any(|byte| *byte != 0);
    let hurt = corrupt.iter().filter(flipped).count();
    assert!((800..=1_200).contains(&hurt), "{hurt} of 10,000 were corrupted");
}

#[test]
fn jitter_keeps_the_order_and_reordering_does_not() {
    let jittered = carried(Traits { jitter: Duration::from_millis(20), ..Traits::default() }, 1_000);
    assert!(numbers(&jittered).is_sorted());
    let reorder = Reorder { per_million: 50_000, by: Duration::from_millis(5) };
    let reordered = numbers(&carried(Traits { reorder: Some(reorder), ..Traits::default() }, 1_000));
    assert_eq!(reordered.len(), 1_000);
    assert!(!reordered.is_sorted());
}

#[test]
fn losses_come_in_bursts() {
    let burst =
        Burst { to_bad_per_million: 10_000, to_good_per_million: 200_000, loss_per_million: 1_000_000 };
    let arrived = numbers(&carried(Traits { burst: Some(burst), ..Traits::default() }, 10_000));
    let gaps = arrived.windows(2).filter(|pair| pair[1] > pair[0] + 1).count();
    let lost = 10_000 - arrived.len();
    // Five at a time, as a mean: alone they would be as many gaps as losses.
    assert!(lost > 200 && lost > 3 * gaps, "{lost} lost in {gaps} bursts");
}

#[test]
fn a_packet_longer_than_the_path_allows_vanishes() {
    let mut path = Path::new(Traits { packet_bytes_max: 1_280, ..Traits::default() }, 1);
    path.send(ms(0), vec![0u8; 1_281]);
    path.send(ms(0), vec![0u8; 1_280]);
    assert_eq!(path.receive(ms(1)).map(|packet| packet.len()), Some(1_280));
    assert_eq!(path.counts().lost, 1);
}

const LINE: u64 = 2_500_000;

fn share(first: Tcp, second: Tcp) -> (f64, f64) {
    let delay = Duration::from_millis(20);
    let mut dumbbell = Dumbbell::new(Traits::bottleneck(LINE, delay, Duration::from_millis(50)), 1);
    let seat = Seat { starts: ms(0), back: delay, acknowledging: Acknowledging::Second };
    dumbbell.seat(seat, first);
    dumbbell.seat(seat, second);
    dumbbell.run(Duration::from_secs(60));
    let rate = |sender| dumbbell.outcome().rate(sender, Duration::from_secs(10), Duration::from_secs(60));
    (rate(0), rate(1))
}

#[test]
fn two_of_the_same_kind_share_and_fill_the_path() {
    for growth in [Growth::Reno, Growth::Cubic] {
        let (first, second) = share(Tcp::new(1_500, growth, false), Tcp::new(1_500, growth, false));
        assert!(
            (first + second) / LINE as f64 > 0.95,
            "{growth:?}: {first:.0} and {second:.0} bytes a second"
        );
        assert!(
            (0.5..2.0).contains(&(first / second)),
            "{growth:?}: {first:.0} and {second:.0} bytes a second"
        );
    }
}

#[test]
fn reno_takes_a_sawtooth_and_halves() {
    // A queue of one path's content: Reno just keeps the path full, and its queue runs empty.
    let delay = Duration::from_millis(20);
    let mut dumbbell = Dumbbell::new(Traits::bottleneck(LINE, delay, Duration::from_millis(40)), 1);
    let seat = Seat { starts: ms(0), back: delay, acknowledging: Acknowledging::Each };
    dumbbell.seat(seat, Tcp::new(1_500, Growth::Reno, false));
    dumbbell.run(Duration::from_secs(60));
    let outcome = dumbbell.outcome();
    let used = outcome.rate(0, Duration::from_secs(10), Duration::from_secs(60)) / LINE as f64;
    assert!(used > 0.97, "{used:.3} of the path used");
    let (low, high) = (percentile(&outcome.waits[100..], 2), percentile(&outcome.waits[100..], 98));
    assert!(low < 6_000 && high > 35_000, "the queue goes from {low} to {high} µs");
}

#[test]
fn hystart_ends_slow_start_before_it_overflows_the_queue() {
    let dropped = |has_hystart| {
        let delay = Duration::from_millis(20);
        let mut dumbbell = Dumbbell::new(Traits::bottleneck(LINE, delay, Duration::from_millis(200)), 1);
        let seat = Seat { starts: ms(0), back: delay, acknowledging: Acknowledging::Each };
        dumbbell.seat(seat, Tcp::new(1_500, Growth::Cubic, has_hystart));
        dumbbell.run(Duration::from_secs(3));
        dumbbell.outcome().counts.dropped
    };
    let (without, with) = (dropped(false), dropped(true));
    assert!(with * 3 < without, "{with} dropped with it, {without} without");
}
