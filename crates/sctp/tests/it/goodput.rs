//! How fast it is on paths as viewers have them.

use std::time::Duration;

use bytes::Bytes;
use millstream_netsim::Traits;
use millstream_sctp::Config;

use crate::world::World;

/// A pair whose own bounds are not what limits it.
pub(crate) fn open(traits: Traits, seed: u64) -> World {
    let config = Config { receive_window_bytes: 4 << 20, send_bytes_max: 4 << 20, ..Config::default() };
    let mut world = World::with(&config, &config, traits, seed);
    world.open();
    world.ends[1].keeps = false;
    world
}

/// Sends as fast as it is taken for so long; gives bytes a second that arrived in the last two thirds.
pub(crate) fn goodput(traits: Traits, seed: u64, seconds: u64) -> (u64, World) {
    let mut world = open(traits, seed);
    let piece = Bytes::from(vec![7; 65_600]);
    let start = world.now;
    let begin = start + Duration::from_secs(seconds / 3);
    let mut before = None;
    world.run_until(Duration::from_secs(seconds), |world| {
        while world.send(0, 1, piece.clone(), true).is_ok() {}
        if before.is_none() && world.now >= begin {
            before = Some(world.ends[1].received_bytes);
        }
        false
    });
    let bytes = world.ends[1].received_bytes - before.unwrap_or_default();
    (bytes / (seconds - seconds / 3), world)
}

#[test]
fn a_lossy_path_is_filled() {
    for (round_trip, loss_per_million, least) in
        [(20, 0, 11_800_000), (20, 5_000, 10_000_000), (80, 0, 11_800_000), (80, 10_000, 5_000_000)]
    {
        let (delay, queue) = (Duration::from_millis(round_trip / 2), Duration::from_millis(50));
        let traits = Traits { loss_per_million, ..Traits::bottleneck(12_500_000, delay, queue) };
        let (rate, world) = goodput(traits, 7, 15);
        let told = format!(
            "{rate} bytes/s at {round_trip} ms and {loss_per_million} ppm: {:?}",
            world.ends[0].association.stats()
        );
        println!("{told}");
        assert!(rate >= least, "{told}");
    }
}

/// Sends for 15 s, and says what was sent again, and how much of it was not lost.
fn sent_again(round_trip: u64, loss_per_million: u32) -> (usize, usize, usize) {
    let (delay, queue) = (Duration::from_millis(round_trip / 2), Duration::from_millis(50));
    let traits = Traits { loss_per_million, ..Traits::bottleneck(12_500_000, delay, queue) };
    let (_, mut world) = goodput(traits, 7, 15);
    world.run_until(Duration::from_secs(5), |world| world.is_drained());
    let (ledger, counts) = (&world.ends[0].ledger, world.paths[0].counts());
    let (again, lost, needless) = (ledger.again(), ledger.lost(), ledger.needless());
    println!(
        "{round_trip} ms, {loss_per_million} ppm: {} chunks sent, {lost} lost in {} packets, {again} sent again, {} of \
         them for nothing, as {:?}; {} duplicates",
        ledger.sent_chunks(),
        counts.lost + counts.dropped,
        needless.len(),
        needless.first(),
        world.ends[1].association.stats().duplicates,
    );
    (again, lost, needless.len())
}

#[test]
fn only_what_was_lost_is_sent_again() {
    let (again, lost, needless) = sent_again(20, 5_000);
    assert!(again * 100 <= lost * 102, "{again} sent again, {lost} lost");
    assert!(needless * 100 <= lost, "{needless} of {again} sent again for nothing");
}

#[test]
fn a_start_that_overflows_a_queue_sends_only_what_was_lost_again() {
    let (again, lost, needless) = sent_again(80, 10_000);
    assert!(needless * 100 <= lost, "{needless} of {again} sent again for nothing");
}
