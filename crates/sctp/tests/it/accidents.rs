//! What paths do to packets, and how soon it is made good.

use std::time::Duration;

use bytes::Bytes;
use millstream_model::Instant;
use millstream_netsim::{Burst, Reorder, Traits};
use millstream_sctp::{
    CloseReason, Config, Congestion,
    wire::{Chunk, Packet},
};

use crate::world::World;

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

fn path() -> Traits {
    Traits::bottleneck(2_000_000, 20 * MS, 100 * MS)
}

/// Whether a packet holds data.
fn has_data(packet: &[u8]) -> bool {
    let packet = Packet::parse(packet, true).unwrap();
    packet.chunks().any(|chunk| matches!(chunk, Ok(Chunk::Data(_))))
}

/// Sends 3 MB and gives the world when all has come.
fn carry(config: &Config, traits: Traits) -> World {
    let mut world = World::with(config, config, traits, 6);
    world.open();
    let mut left = 100;
    let is_done = world.run_until(120 * SECOND, |world| {
        while left > 0 && world.send(0, 1, Bytes::from(vec![1; 30_000]), false).is_ok() {
            left -= 1;
        }
        world.ends[1].received.len() == 100 && world.is_drained()
    });
    assert!(is_done, "{} of 100 came", world.ends[1].received.len());
    assert_eq!((world.closed(0), world.closed(1)), (None, None));
    world
}

fn both(mut test: impl FnMut(&Config)) {
    for congestion in [Congestion::Bbr, Congestion::NewReno] {
        test(&Config { congestion, ..Config::default() });
    }
}

#[test]
fn bursts_of_losses_are_survived() {
    let burst = Burst { to_bad_per_million: 3_000, to_good_per_million: 100_000, loss_per_million: 900_000 };
    both(|config| {
        let world = carry(config, Traits { burst: Some(burst), ..path() });
        let (again, lost) = (world.ends[0].ledger.again(), world.ends[0].ledger.lost());
        assert!(again * 10 <= lost * 12 + 50, "{again} sent again, {lost} lost");
    });
}

#[test]
fn what_arrives_twice_is_delivered_once() {
    both(|config| {
        let world = carry(config, Traits { duplicate_per_million: 100_000, ..path() });
        let again = world.ends[0].ledger.again();
        assert!(again <= world.ends[0].ledger.lost() + 20, "{again} sent again because of duplicates");
        assert_eq!(world.ends[1].received.len(), 100);
    });
}

#[test]
fn what_arrives_damaged_counts_as_lost() {
    both(|config| {
        let config = Config { zero_checksum: false, ..config.clone() };
        let world = carry(&config, Traits { corrupt_per_million: 20_000, ..path() });
        assert!(world.ends[1].received.iter().all(|message| message.bytes == vec![1; 30_000]));
    });
}

#[test]
fn packets_that_overtake_each_other_are_soon_known_for_late() {
    for by in [5, 15, 30] {
        both(|config| {
            let reorder = Some(Reorder { per_million: 50_000, by: by * MS });
            let world = carry(config, Traits { reorder, ..path() });
            let (needless, sent) =
                (world.ends[0].ledger.needless().len(), world.ends[0].ledger.sent_chunks());
            assert!(
                needless * 100 <= sent * 4,
                "{needless} of {sent} sent for nothing, late by {by} ms: {config:?}"
            );
        });
    }
}

/// Drops the packets with data whose turn `is_lost` says, from now on, counted from 0.
fn drop_data(world: &mut World, mut is_lost: impl FnMut(u32) -> bool + 'static) {
    let mut count = 0;
    world.tap = Some(Box::new(move |from, _, packet| {
        let is_data = from == 0 && has_data(packet);
        count += u32::from(is_data);
        is_data && is_lost(count - 1)
    }));
}

/// An association that knows its path.
fn warm(config: &Config) -> World {
    let mut world = World::with(config, config, Traits { delay: 20 * MS, ..Traits::default() }, 6);
    world.open();
    for _ in 0..10 {
        world.send(0, 1, Bytes::from(vec![1; 10_000]), false).unwrap();
        world.run(100 * MS);
    }
    world.run(SECOND);
    world
}

/// How long a message of so many bytes takes when these of its packets are lost.
fn takes(config: &Config, bytes: usize, is_lost: impl FnMut(u32) -> bool + 'static) -> Duration {
    let mut world = warm(config);
    let count = world.ends[1].received.len();
    drop_data(&mut world, is_lost);
    let start: Instant = world.now;
    world.send(0, 1, Bytes::from(vec![1; bytes]), false).unwrap();
    assert!(world.run_until(10 * SECOND, |world| world.ends[1].received.len() > count));
    world.now.since(start)
}

#[test]
fn the_lost_tail_of_a_message_is_made_good_by_a_probe_and_not_by_a_timeout() {
    both(|config| {
        let took = takes(config, 11_000, |count| count == 9);
        // The pace of a sender that has not needed more is a round trip of it.
        assert!(took <= 5 * 40 * MS, "took {took:?}");
        let took = takes(config, 11_000, |count| count == 8 || count == 9);
        assert!(took <= 6 * 40 * MS, "two: took {took:?}");
    });
}

#[test]
fn a_lone_packet_that_is_lost_comes_within_some_round_trips() {
    both(|config| {
        // It may be acknowledged 200 ms late (RFC 9260 §6.2), so its probe waits for that.
        let took = takes(config, 500, |count| count == 0);
        assert!(took <= 320 * MS, "took {took:?}");
    });
}

#[test]
fn one_lost_in_the_middle_comes_a_round_trip_later() {
    both(|config| {
        let took = takes(config, 11_000, |count| count == 3);
        assert!(took <= 2 * 40 * MS, "took {took:?}");
    });
}

#[test]
fn a_path_of_1280_bytes_carries_it_all_whatever_was_hoped_for() {
    // IP, UDP and DTLS take 20, 8 and 37.
    let room = 1_280 - 20 - 8 - 37;
    let config = Config { packet_bytes_max: 8_900, ..Config::default() };
    let world = carry(&config, Traits { packet_bytes_max: room, ..path() });
    let stats = world.ends[0].association.stats();
    assert!((1_160..=1_215).contains(&stats.packet_bytes), "{stats:?}");
    // Only probes were too long.
    assert_eq!(world.ends[0].ledger.lost(), 0);
}

/// Longer packets vanish from the middle of a stream on.
fn narrow(to: u64) -> (World, usize) {
    let config = Config { packet_bytes_max: 4_000, ..Config::default() };
    let mut world = World::with(&config, &config, path(), 6);
    world.open();
    world.run_until(3 * SECOND, |world| {
        let _ = world.send(0, 1, Bytes::from(vec![1; 30_000]), false);
        false
    });
    assert_eq!(world.ends[0].association.stats().packet_bytes, 4_000);
    let now = world.now;
    for path in &mut world.paths {
        path.change(now, |traits| traits.packet_bytes_max = to);
    }
    let before = world.ends[1].received.len();
    world.run_until(30 * SECOND, |world| {
        let _ = world.send(0, 1, Bytes::from(vec![1; 30_000]), false);
        world.closed(0).is_some()
    });
    let since = world.ends[1].received.len() - before;
    (world, since)
}

#[test]
fn a_path_that_narrows_ends_it_or_is_adapted_to_and_is_never_silent() {
    for to in [1_160, 1_500, 3_000] {
        let (world, since) = narrow(to);
        let closed = world.closed(0);
        assert!(closed == Some(CloseReason::Narrowed) || since > 100, "{closed:?}, {since} came, {to} bytes");
    }
}

#[test]
fn a_path_that_is_black_for_a_while_does_not_end_it() {
    both(|config| {
        let config = Config { packet_bytes_max: 2_000, ..config.clone() };
        for black in [1, 3, 10] {
            let mut world = World::with(&config, &config, path(), 6);
            world.open();
            let feed =
                |world: &mut World| while world.send(0, 1, Bytes::from(vec![1; 30_000]), false).is_ok() {};
            world.run_until(SECOND, |world| {
                feed(world);
                false
            });
            let (from, until) = (world.now, world.now + black * SECOND);
            world.tap = Some(Box::new(move |_, now, _| (from..until).contains(&now)));
            world.run(black * SECOND);
            let before = world.ends[1].received_bytes;
            world.run_until(7 * SECOND, |world| {
                feed(world);
                false
            });
            let came = world.ends[1].received_bytes - before;
            assert_eq!((world.closed(0), world.closed(1)), (None, None), "after {black} s: {config:?}");
            assert!(came > 2_000_000, "{came} bytes in 7 s after {black} s of black: {config:?}");
        }
    });
}
