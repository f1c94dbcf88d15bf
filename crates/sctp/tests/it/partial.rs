//! Messages that are given up (RFC 3758, RFC 7496), and what comes after them.

use std::time::Duration;

use bytes::Bytes;
use millstream_netsim::Traits;
use millstream_sctp::{
    Config, Outgoing, Reliability,
    wire::{Chunk, Data, Sequence},
};

use crate::{
    forged::{FIRST_TSN, Forged, all, chunks, data, plain},
    world::World,
};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

fn send(world: &mut World, number: u32, bytes: usize, is_unordered: bool, reliability: Reliability) {
    let bytes = Bytes::from(vec![7; bytes]);
    let outgoing = Outgoing { stream: 2, ppi: number, bytes, is_unordered, reliability };
    world.ends[0].association.send(outgoing, world.now).unwrap();
}

/// A slow path, on which a long message takes some 600 ms.
fn slow(interleaving: bool) -> World {
    let config = Config { interleaving, ..Config::default() };
    let traits = Traits::bottleneck(100_000, 20 * MS, 100 * MS);
    let mut world = World::with(&config, &config, traits, 5);
    world.open();
    world
}

fn numbers(world: &World) -> Vec<u32> {
    world.ends[1].received.iter().map(|message| message.ppi).collect()
}

#[test]
fn a_message_given_up_with_chunks_on_their_way_does_not_stand_in_the_way_of_the_next() {
    for interleaving in [false, true] {
        for is_unordered in [false, true] {
            let mut world = slow(interleaving);
            send(&mut world, 1, 60_000, is_unordered, Reliability::Lifetime(200 * MS));
            send(&mut world, 2, 20_000, is_unordered, Reliability::Reliable);
            send(&mut world, 3, 10, is_unordered, Reliability::Reliable);
            world.run(5_000 * MS);
            let mut received = numbers(&world);
            if is_unordered {
                received.sort_unstable();
            }
            assert_eq!((world.closed(0), world.closed(1)), (None, None), "interleaved: {interleaving}");
            assert_eq!(received, [2, 3], "interleaved: {interleaving}, unordered: {is_unordered}");
        }
    }
}

/// More of them than one FORWARD-TSN has entries, on streams that take turns: whoever hears of some only waits for the
/// others for ever. Found by the `association` fuzz target.
#[test]
fn many_given_up_at_once_on_many_streams_stand_in_nobodys_way() {
    for interleaving in [false, true] {
        for streams in [3, 100] {
            let config = Config { interleaving, streams: 200, ..Config::default() };
            let mut world = World::with(&config, &config, Traits::default(), 9);
            world.open();
            let cut = world.now + SECOND;
            world.tap = Some(Box::new(move |_, now, _| now < cut));
            let mut say = |number: u32, reliability| {
                let stream = u16::try_from(number).unwrap() % streams;
                let bytes = Bytes::from_static(b"a word");
                let outgoing = Outgoing { stream, ppi: number, bytes, is_unordered: false, reliability };
                world.ends[0].association.send(outgoing, world.now).unwrap();
            };
            for number in 0..200 {
                say(number, Reliability::Lifetime(100 * MS));
            }
            for number in 200..300 {
                say(number, Reliability::Reliable);
            }
            world.run(10 * SECOND);
            let mut received = numbers(&world);
            received.sort_unstable();
            received.retain(|number| *number >= 200);
            let told = format!("{streams} streams, interleaved: {interleaving}");
            assert!(received.iter().copied().eq(200..300), "{told}: {} came", received.len());
            assert!(world.is_drained(), "{told}");
        }
    }
}

/// All that was sent of it is acknowledged, the window is full, and its time passes: the receiver must hear that the
/// rest will not come, or it takes the next message for a part of this one, or waits for ever.
#[test]
fn nor_does_one_of_which_all_chunks_had_arrived() {
    for interleaving in [false, true] {
        for is_unordered in [false, true] {
            let told = format!("interleaved: {interleaving}, unordered: {is_unordered}");
            let config = Config { interleaving, receive_window_bytes: 80_000, ..Config::default() };
            let mut world = World::with(&config, &config, Traits { delay: 10 * MS, ..Traits::default() }, 5);
            world.open();
            world.ends[1].is_reading = false;
            send(&mut world, 1, 50_000, is_unordered, Reliability::Reliable);
            send(&mut world, 2, 60_000, is_unordered, Reliability::Lifetime(200 * MS));
            send(&mut world, 3, 20_000, is_unordered, Reliability::Reliable);
            world.run(1_000 * MS);
            world.ends[1].is_reading = true;
            world.run(5_000 * MS);
            assert_eq!((world.closed(0), world.closed(1)), (None, None), "{told}");
            assert_eq!(numbers(&world), [1, 3], "{told}");
            assert!(world.is_drained(), "{told}");
        }
    }
}

#[test]
fn what_was_given_up_is_not_counted_as_acknowledged() {
    for interleaving in [false, true] {
        let mut world = slow(interleaving);
        let cut = world.now + SECOND;
        world.tap = Some(Box::new(move |_, now, _| now < cut));
        // One of which some chunks leave, one that leaves whole, and one that comes through.
        send(&mut world, 1, 60_000, false, Reliability::Lifetime(200 * MS));
        send(&mut world, 2, 1_000, false, Reliability::Retransmissions(0));
        send(&mut world, 3, 5_000, false, Reliability::Reliable);
        world.run(10 * SECOND);
        assert_eq!(numbers(&world), [3], "interleaved: {interleaving}");
        assert!(world.is_drained());
        let stats = world.ends[0].association.stats();
        assert!(stats.bytes_sent > 6_000, "{stats:?}");
        assert_eq!(stats.bytes_acknowledged, 5_000, "interleaved: {interleaving}");
    }
}

#[test]
fn a_message_given_up_before_it_began_costs_nothing() {
    for interleaving in [false, true] {
        let mut world = slow(interleaving);
        send(&mut world, 1, 60_000, false, Reliability::Reliable);
        send(&mut world, 2, 60_000, false, Reliability::Lifetime(100 * MS));
        send(&mut world, 3, 10, false, Reliability::Reliable);
        world.run(5_000 * MS);
        let received = numbers(&world);
        assert_eq!(received, [1, 3]);
        assert!(world.ends[0].association.stats().bytes_sent < 62_000);
    }
}

/// A chunk that may not be sent again is lost: the rest of its message is given up, and the peer is told.
#[test]
fn a_chunk_that_is_not_sent_again_costs_its_message_and_no_other() {
    for interleaving in [false, true] {
        for is_unordered in [false, true] {
            let config = Config { interleaving, ..Config::default() };
            let traits =
                Traits { loss_per_million: 50_000, ..Traits::bottleneck(1_000_000, 20 * MS, 300 * MS) };
            let mut world = World::with(&config, &config, traits, 9);
            world.open();
            for number in 0..100 {
                send(&mut world, number, 3_000, is_unordered, Reliability::Retransmissions(0));
            }
            send(&mut world, 100, 3_000, is_unordered, Reliability::Reliable);
            assert!(world.run_until(20_000 * MS, |world| world.is_drained()));
            world.run(1_000 * MS);
            let received = numbers(&world);
            assert_eq!((world.closed(0), world.closed(1)), (None, None));
            assert!(received.contains(&100), "what is reliable came not");
            assert!((70..100).contains(&received.len()), "{} came", received.len());
            let retransmits = world.ends[0].association.stats().retransmits;
            assert!(retransmits < 6, "{retransmits} chunks of messages that are sent once");
        }
    }
}

/// The window that the last of these packets tells.
fn window_told(packets: &[Vec<u8>]) -> u32 {
    let window = |chunk: &Chunk<'_>| if let Chunk::Sack(sack) = chunk { Some(sack.window) } else { None };
    packets.iter().flat_map(|packet| chunks(packet, window)).last().expect("a SACK")
}

#[test]
fn what_the_peer_has_given_up_takes_no_room() {
    let config = Config::default();
    for is_unordered in [false, true] {
        for interleaving in [false, true] {
            let mut forged = Forged::opened(&config, &if interleaving { all() } else { plain() });
            let payload = [1; 1_000];
            let part = |place: u32| Data {
                is_unordered,
                sequence: if interleaving { Sequence::Mid { mid: 0, fsn: place } } else { Sequence::Ssn(0) },
                ..data(FIRST_TSN + place, 1, 0, place == 0, false, &payload)
            };
            // The third of five is missing, and the last; the peer stops trying.
            for place in [0, 1, 3] {
                let _ = forged.say(|writer| writer.data(&part(place)));
            }
            let before = forged.wait(SECOND);
            assert!(before.is_empty() || window_told(&before) < config.receive_window_bytes);
            let mut answers = forged.say(|writer| {
                if interleaving {
                    writer.i_forward_tsn(FIRST_TSN + 4, [(1, is_unordered, 0)]);
                } else {
                    writer.forward_tsn(FIRST_TSN + 4, (!is_unordered).then_some((1, 0)));
                }
            });
            answers.extend(forged.wait(SECOND));
            let told = format!("interleaved: {interleaving}, unordered: {is_unordered}");
            assert_eq!(window_told(&answers), config.receive_window_bytes, "{told}");
            // The next message of the stream is delivered at once.
            let next = Data {
                is_unordered,
                sequence: if interleaving { Sequence::Mid { mid: 1, fsn: 0 } } else { Sequence::Ssn(1) },
                ..data(FIRST_TSN + 5, 1, 0, true, true, b"next")
            };
            let _ = forged.say(|writer| writer.data(&next));
            assert_eq!(forged.association.recv().expect(&told).bytes, b"next"[..]);
        }
    }
}

/// What the peer gives up first joins what had come of the same message: the rest of its TSNs are no news any more, and
/// what was held of it has nothing left to wait for. Found by the `association` fuzz target.
#[test]
fn what_was_held_of_a_message_given_up_one_chunk_at_a_time_takes_no_room() {
    let config = Config::default();
    for is_unordered in [false, true] {
        let mut forged = Forged::opened(&config, &plain());
        let payload = [1; 1_000];
        let part = |place: u32| Data {
            is_unordered,
            ..data(FIRST_TSN + place, 1, 0, place == 0, place == 3, &payload)
        };
        for place in [0, 2, 3] {
            let _ = forged.say(|writer| writer.data(&part(place)));
        }
        // Begun and whole but for what comes next: this one goes on.
        let begun = Data { is_unordered: true, ..data(FIRST_TSN + 4, 2, 0, true, false, b"one ") };
        let _ = forged.say(|writer| writer.data(&begun));
        let mut answers = Vec::new();
        for place in [1, 3] {
            let skipped = (!is_unordered).then_some((1, 0));
            answers.extend(forged.say(|writer| writer.forward_tsn(FIRST_TSN + place, skipped)));
        }
        let end = Data { is_unordered: true, ..data(FIRST_TSN + 5, 2, 0, false, true, b"more") };
        answers.extend(forged.say(|writer| writer.data(&end)));
        assert_eq!(forged.association.recv().unwrap().bytes, b"one more"[..]);
        answers.extend(forged.say(|writer| writer.data(&end)));
        answers.extend(forged.wait(SECOND));
        assert_eq!(window_told(&answers), config.receive_window_bytes, "unordered: {is_unordered}");
    }
}
