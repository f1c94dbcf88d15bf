//! Streams that begin anew (RFC 6525), many at a time. That resets come after the messages before them is told by pairs.

use std::time::Duration;

use millstream_netsim::Traits;
use millstream_sctp::{
    Config, Event,
    wire::{Chunk, InitFields, Outcome, Reset},
};

use crate::{
    forged::{FIRST_TSN, Forged, all, chunks},
    world::World,
};

const SECOND: Duration = Duration::from_secs(1);

fn path() -> Traits {
    Traits { delay: Duration::from_millis(10), loss_per_million: 50_000, ..Traits::default() }
}

/// Streams of which the end named heard that they were reset by the other, and that its own resets are done.
fn heard(world: &World, end: usize) -> [Vec<u16>; 2] {
    let events = &world.ends[end].events;
    let peers = events.iter().filter_map(|event| match event {
        Event::PeerReset { stream } => Some(*stream),
        _ => None,
    });
    let own = events.iter().filter_map(|event| match event {
        Event::Reset { stream, is_done: true } => Some(*stream),
        _ => None,
    });
    let mut heard = [peers.collect::<Vec<_>>(), own.collect()];
    heard.iter_mut().for_each(|streams| streams.sort_unstable());
    heard
}

/// One request that named them all would be longer than any packet; the world holds what each end sends to its bound.
#[test]
fn a_thousand_streams_are_reset_by_packets_that_the_path_carries() {
    let config = Config { streams: 1_000, ..Config::default() };
    let mut world = World::with(&config, &config, path(), 4);
    world.open();
    for stream in 0..1_000 {
        world.ends[0].association.reset(stream).unwrap();
    }
    for stream in 100..900 {
        world.ends[1].association.reset(stream).unwrap();
    }
    world.run(20 * SECOND);
    assert_eq!((world.closed(0), world.closed(1)), (None, None));
    let every: Vec<u16> = (0..1_000).collect();
    let most: Vec<u16> = (100..900).collect();
    assert_eq!(heard(&world, 0), [most.clone(), every.clone()]);
    assert_eq!(heard(&world, 1), [every, most]);
}

/// Others may name in one request as many as their packet holds, or none, which means every one.
#[test]
fn a_request_that_names_every_stream_is_granted() {
    let config = Config { streams: 500, ..Config::default() };
    let fields = InitFields { inbound: 500, outbound: 500, ..all() };
    for named in [0..500, 0..0] {
        // One that is named twice is reset once.
        let twice = named.clone().take(50);
        let mut forged = Forged::opened(&config, &fields);
        let answers = forged.say(|writer| {
            writer.reset_request(FIRST_TSN, 0, FIRST_TSN.wrapping_sub(1), named.clone().chain(twice));
        });
        let _ = forged.answers();
        let outcome = |chunk: &Chunk<'_>| match chunk {
            Chunk::Reconfig(reconfig) => reconfig.parameters().next().and_then(|parameter| match parameter {
                Reset::Response { result, .. } => Some(result),
                _ => None,
            }),
            _ => None,
        };
        let outcomes: Vec<Outcome> = answers.iter().flat_map(|packet| chunks(packet, outcome)).collect();
        assert_eq!((outcomes, forged.closed()), (vec![Outcome::Performed], None));
        let resets = forged.events.iter().filter(|event| matches!(event, Event::PeerReset { .. })).count();
        assert_eq!(resets, 500);
    }
}
