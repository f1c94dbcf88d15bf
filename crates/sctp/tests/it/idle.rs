//! Who has nothing to do does nothing: no packet, no timer, no busy loop.

use std::time::Duration;

use bytes::Bytes;
use millstream_netsim::Traits;
use millstream_sctp::Config;

use crate::world::World;

const SECOND: Duration = Duration::from_secs(1);

/// Open, with something said both ways, and left alone for a minute.
fn idle(config: &Config) -> World {
    let traits = Traits::bottleneck(2_000_000, Duration::from_millis(20), Duration::from_millis(50));
    let mut world = World::with(config, config, traits, 3);
    world.open();
    for _ in 0..20 {
        for from in 0..2 {
            world.send(from, 1, Bytes::from(vec![1; 20_000]), false).unwrap();
        }
        world.run(SECOND / 10);
    }
    world.run(60 * SECOND);
    world
}

#[test]
fn an_idle_association_has_no_timer_and_says_nothing() {
    let mut world = idle(&Config::default());
    let now = world.now;
    for end in &mut world.ends {
        assert_eq!(end.association.next_timeout(now), None);
        assert!(!end.association.poll_transmit(now, &mut Vec::new()));
        end.association.handle_timeout(now);
        assert_eq!(end.association.next_timeout(now), None);
    }
    let before = [world.ends[0].packets, world.ends[1].packets];
    world.run(3_600 * SECOND);
    assert_eq!([world.ends[0].packets, world.ends[1].packets], before);
}

#[test]
fn one_that_looks_for_longer_packets_wakes_seldom() {
    let mut world = idle(&Config { packet_bytes_max: 1_436, ..Config::default() });
    let now = world.now;
    for end in &mut world.ends {
        assert!(end.association.next_timeout(now).is_none_or(|due| due.since(now) >= 60 * SECOND));
    }
}

#[test]
fn one_with_heartbeats_says_one_at_a_time() {
    let mut world = idle(&Config { heartbeat_interval: Some(10 * SECOND), ..Config::default() });
    let before = world.ends[0].packets;
    world.run(600 * SECOND);
    let sent = world.ends[0].packets - before;
    // 60 of its own, and 60 answers.
    assert!((60..=124).contains(&sent), "{sent} packets in 600 s");
}

#[test]
fn one_that_waits_for_its_peer_has_no_timer() {
    let mut world = World::new(Traits::default(), 1);
    let now = world.now;
    assert_eq!(world.ends[0].association.next_timeout(now), None);
    assert!(!world.ends[0].association.poll_transmit(now, &mut Vec::new()));
}

#[test]
fn one_that_is_over_has_no_timer_and_says_nothing() {
    let mut world = idle(&Config::default());
    world.ends[0].association.shutdown(world.now);
    world.run(SECOND);
    let now = world.now;
    for end in &mut world.ends {
        assert!(!end.association.is_open());
        assert_eq!(end.association.next_timeout(now), None);
        assert!(!end.association.poll_transmit(now, &mut Vec::new()));
    }
}
