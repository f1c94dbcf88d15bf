//! How associations begin and end.

use std::time::Duration;

use bytes::Bytes;
use millstream_netsim::Traits;
use millstream_sctp::{CloseReason, Config};

use crate::world::World;

const SECOND: Duration = Duration::from_secs(1);

fn path() -> Traits {
    Traits { delay: Duration::from_millis(10), ..Traits::default() }
}

#[test]
fn one_side_begins_and_messages_go_both_ways() {
    let mut world = World::opened(path(), 1);
    world.send(0, 0, Bytes::from_static(b"hello"), false).unwrap();
    world.send(1, 1, Bytes::from(vec![7; 65_600]), true).unwrap();
    assert!(world.run_until(SECOND, |world| world.ends.iter().all(|end| end.received.len() == 1)));
    assert_eq!(world.ends[1].received[0].bytes, b"hello"[..]);
    assert_eq!(world.ends[0].received[0].bytes, vec![7; 65_600]);
}

#[test]
fn both_sides_may_begin_at_once() {
    for seed in 0..20 {
        let mut world = World::new(path(), seed);
        world.ends[0].association.connect(world.now);
        world.ends[1].association.connect(world.now);
        assert!(world.run_until(SECOND, |world| world.is_open()));
        world.send(1, 0, Bytes::from_static(b"hello"), false).unwrap();
        assert!(world.run_until(SECOND, |world| world.ends[0].received.len() == 1));
        world.run(SECOND);
        assert!(world.is_open());
    }
}

#[test]
fn it_ends_in_order_when_everything_has_arrived() {
    let mut world = World::opened(path(), 1);
    for _ in 0..5 {
        world.send(0, 1, Bytes::from(vec![1; 50_000]), true).unwrap();
    }
    world.ends[0].association.shutdown(world.now);
    assert!(world.send(0, 0, Bytes::from_static(b"late"), false).is_err());
    world.run(5 * SECOND);
    assert_eq!(world.ends[1].received.len(), 5);
    assert_eq!((world.closed(0), world.closed(1)), (Some(CloseReason::Local), Some(CloseReason::Peer)));
}

#[test]
fn both_may_end_it_at_once() {
    let mut world = World::opened(path(), 1);
    world.send(1, 1, Bytes::from(vec![1; 50_000]), true).unwrap();
    world.ends[0].association.shutdown(world.now);
    world.ends[1].association.shutdown(world.now);
    world.run(5 * SECOND);
    assert_eq!(world.ends[0].received.len(), 1);
    assert!(world.closed(0).is_some() && world.closed(1).is_some());
}

#[test]
fn an_abort_is_heard() {
    let mut world = World::opened(path(), 1);
    world.ends[0].association.abort();
    world.run(SECOND);
    assert_eq!((world.closed(0), world.closed(1)), (Some(CloseReason::Local), Some(CloseReason::Aborted)));
}

#[test]
fn nobody_there_is_found_out() {
    let deaf = Traits { packet_bytes_max: 0, ..path() };
    let mut world = World::new(deaf, 1);
    world.ends[0].association.connect(world.now);
    world.run(60 * SECOND);
    assert_eq!(world.closed(0), Some(CloseReason::Unanswered));
}

#[test]
fn who_falls_silent_is_given_up_after_so_many_timeouts_where_nobody_else_decides() {
    let config = Config { timeouts_max: Some(3), ..Config::default() };
    for (config, given_up) in [(config, Some(CloseReason::Unanswered)), (Config::default(), None)] {
        let mut world = World::with(&config, &config, path(), 1);
        world.open();
        let now = world.now;
        for direction in &mut world.paths {
            direction.change(now, |traits| traits.packet_bytes_max = 0);
        }
        world.send(0, 0, Bytes::from_static(b"is anybody there?"), false).unwrap();
        world.run(60 * SECOND);
        assert_eq!(world.closed(0), given_up);
    }
}

#[test]
fn longer_packets_are_found_and_used() {
    let config = Config { packet_bytes_max: 1_436, ..Config::default() };
    for (path_max, found) in [(9_000, 1_436..=1_436), (1_300, 1_268..=1_300), (1_160, 1_160..=1_160)] {
        let traits = Traits { packet_bytes_max: path_max, ..path() };
        let mut world = World::with(&config, &config, traits, 3);
        world.open();
        for _ in 0..100 {
            let _ = world.send(0, 1, Bytes::from(vec![1; 65_000]), true);
            world.run(SECOND / 10);
        }
        let bytes = world.ends[0].association.stats().packet_bytes;
        assert!(found.contains(&bytes), "{bytes} on a path of {path_max}");
        assert!(world.closed(0).is_none());
    }
}
