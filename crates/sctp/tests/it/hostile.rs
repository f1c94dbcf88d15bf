//! Peers that want to break it: nothing panics, memory stays bounded, and answers are no more than questions.

use std::time::Duration;

use bytes::Bytes;
use millstream_netsim::{Chance, Traits};
use millstream_sctp::{
    CloseReason, Config, Outgoing, Reliability,
    wire::{Chunk, Data, Outcome, Sequence, cause},
};

use crate::{
    forged::{FIRST_TSN, Forged, all, chunks, data, plain, tsns},
    memory::held,
    world::World,
};

const MS: Duration = Duration::from_millis(1);

/// What an association may hold of a peer's: a charge is a bound, not a price, and maps keep some room.
fn allowed(config: &Config) -> isize {
    2 * isize::try_from(config.receive_window_bytes).unwrap() + 128 * 1024
}

/// Counts what `forged` holds while it is flooded; it must stay within what is allowed.
fn flood(forged: &mut Forged, config: &Config, rounds: u32, mut round: impl FnMut(&mut Forged, u32)) {
    let before = held();
    for number in 0..rounds {
        round(forged, number);
        if number % 64 == 0 {
            forged.now = forged.now + MS;
            let _ = forged.wait(MS);
        }
        let grown = held() - before;
        assert!(
            grown <= allowed(config),
            "{grown} bytes after {number} rounds: {:?}",
            forged.association.stats()
        );
        if forged.closed().is_some() {
            break;
        }
    }
    println!("held {} bytes, closed: {:?}", held() - before, forged.closed());
}

#[test]
fn tiny_fragments_with_gaps_between_them_are_bounded() {
    let config = Config::default();
    let mut forged = Forged::opened(&config, &plain());
    let mut tsn = FIRST_TSN;
    flood(&mut forged, &config, 20_000, |forged, _| {
        let _ = forged.say(|writer| {
            for _ in 0..30 {
                tsn = tsn.wrapping_add(2);
                writer.data(&data(tsn, 1, 0, false, false, b"x"));
            }
        });
    });
}

#[test]
fn tiny_fragments_of_many_messages_are_bounded() {
    let config = Config::default();
    let mut forged = Forged::opened(&config, &all());
    let mut tsn = FIRST_TSN;
    flood(&mut forged, &config, 20_000, |forged, number| {
        let _ = forged.say(|writer| {
            for place in 0..30 {
                writer.data(&Data {
                    sequence: Sequence::Mid { mid: number * 30 + place, fsn: 1 + number },
                    ..data(tsn, 1, 0, false, false, b"x")
                });
                tsn = tsn.wrapping_add(1);
            }
        });
    });
}

#[test]
fn messages_that_begin_and_never_end_are_bounded() {
    let config = Config::default();
    let mut forged = Forged::opened(&config, &all());
    let mut tsn = FIRST_TSN;
    flood(&mut forged, &config, 20_000, |forged, number| {
        let _ = forged.say(|writer| {
            for place in 0..30 {
                let stream = u16::try_from(place % 16).unwrap();
                writer.data(&Data {
                    sequence: Sequence::Mid { mid: number * 30 + place, fsn: 0 },
                    ..data(tsn, stream, 0, true, false, b"x")
                });
                tsn = tsn.wrapping_add(1);
            }
        });
    });
}

#[test]
fn a_message_without_end_ends_the_association() {
    let config = Config::default();
    let mut forged = Forged::opened(&config, &plain());
    let payload = vec![1; 1_100];
    flood(&mut forged, &config, 20_000, |forged, number| {
        let _ = forged.say_data(1, 0, number == 0, false, &payload);
    });
    assert!(matches!(forged.closed(), Some(CloseReason::Violation(_))));
}

#[test]
fn a_message_that_begins_within_another_ends_the_association() {
    let mut forged = Forged::opened(&Config::default(), &plain());
    let _ = forged.say_data(1, 0, true, false, b"a");
    let _ = forged.say_data(1, 1, true, true, b"b");
    assert!(matches!(forged.closed(), Some(CloseReason::Violation(_))));
}

#[test]
fn messages_that_nobody_reads_are_bounded_whatever_window_the_peer_believes_in() {
    for (bytes, fields) in [(1, plain()), (1_100, plain()), (1, all()), (1_100, all())] {
        let config = Config::default();
        let mut forged = Forged::opened(&config, &fields);
        let (payload, mut tsn) = (vec![1; bytes], FIRST_TSN);
        flood(&mut forged, &config, 60_000, |forged, number| {
            let sequence = if fields.supports_interleaving {
                Sequence::Mid { mid: number, fsn: 0 }
            } else {
                Sequence::Ssn(u16::try_from(number & 0xFFFF).unwrap())
            };
            let _ =
                forged.say(|writer| writer.data(&Data { sequence, ..data(tsn, 1, 0, true, true, &payload) }));
            tsn = tsn.wrapping_add(1);
        });
    }
}

#[test]
fn messages_whose_turn_never_comes_are_bounded() {
    let config = Config::default();
    let mut forged = Forged::opened(&config, &all());
    let mut tsn = FIRST_TSN;
    flood(&mut forged, &config, 60_000, |forged, number| {
        let sequence = Sequence::Mid { mid: number + 1, fsn: 0 };
        let _ = forged.say(|writer| writer.data(&Data { sequence, ..data(tsn, 1, 0, true, true, b"x") }));
        tsn = tsn.wrapping_add(1);
    });
}

#[test]
fn streams_that_were_not_agreed_on_take_no_memory() {
    let config = Config::default();
    let mut forged = Forged::opened(&config, &all());
    let mut tsn = FIRST_TSN;
    flood(&mut forged, &config, 65_000, |forged, number| {
        let stream = u16::try_from(16 + number % 65_000).unwrap();
        let sequence = Sequence::Mid { mid: 0, fsn: 0 };
        let _ =
            forged.say(|writer| writer.data(&Data { sequence, ..data(tsn, stream, 0, true, true, b"x") }));
        tsn = tsn.wrapping_add(1);
        assert!(forged.association.recv().is_none());
    });
}

#[test]
fn forward_tsns_that_go_far_or_name_every_stream_are_bounded() {
    let config = Config::default();
    for ahead in [1, 1_000, 1 << 20, (1 << 31) - 1, 1 << 31, u32::MAX] {
        let mut forged = Forged::opened(&config, &plain());
        let _ = forged.say(|writer| writer.forward_tsn(FIRST_TSN.wrapping_add(ahead), []));
        let _ = forged.say_data(1, 0, true, true, b"x");
    }
    let mut forged = Forged::opened(&config, &all());
    flood(&mut forged, &config, 2_000, |forged, number| {
        let skipped = (0..200).map(|at| {
            let stream = u16::try_from((number * 200 + at) & 0xFFFF).unwrap();
            (stream, at % 2 == 0, number)
        });
        let _ = forged.say(|writer| writer.i_forward_tsn(FIRST_TSN + number, skipped));
    });
}

#[test]
fn floods_of_stream_resets_are_answered_once_each_and_bounded() {
    let config = Config::default();
    for (step, far) in [(1, 0), (1, 1_000_000), (7, 0), (0, 5)] {
        let mut forged = Forged::opened(&config, &all());
        flood(&mut forged, &config, 20_000, |forged, number| {
            let streams = (0..200).map(|at| u16::try_from((number + at) & 0xFFFF).unwrap());
            let request = FIRST_TSN + number * step;
            let answers = forged.say(|writer| {
                writer.reset_request(request, 0, FIRST_TSN.wrapping_sub(1).wrapping_add(far), streams);
            });
            assert!(answers.len() <= 1);
            forged.events.clear();
        });
    }
}

/// The same, and nobody asks what happened.
#[test]
fn resets_of_which_nobody_hears_are_bounded() {
    let config = Config::default();
    let mut forged = Forged::opened(&config, &all());
    let before = held();
    for number in 0..20_000 {
        let tag = forged.tag;
        let request = crate::forged::packet(tag, |writer| {
            writer.reset_request(FIRST_TSN + number, 0, FIRST_TSN.wrapping_sub(1), []);
        });
        forged.association.handle(&request, forged.now);
        let mut out = Vec::new();
        while forged.association.poll_transmit(forged.now, &mut out) {
            out.clear();
        }
    }
    let grown = held() - before;
    assert!(grown <= allowed(&config), "{grown} bytes of events");
}

#[test]
fn answers_that_responses_nobody_asked_for_get_are_none() {
    let config = Config::default();
    let mut forged = Forged::opened(&config, &all());
    flood(&mut forged, &config, 10_000, |forged, number| {
        let answers = forged.say(|writer| writer.reset_response(number, Outcome::Performed));
        assert!(answers.is_empty());
    });
}

#[test]
fn a_flood_of_heartbeats_is_answered_with_no_more_than_it_sent() {
    let config = Config::default();
    for length in [8, 1_000, 1_100, 30_000] {
        let mut forged = Forged::opened(&config, &all());
        let content = vec![1; length];
        let before = held();
        let (mut asked, mut answered) = (0, 0);
        for _ in 0..100 {
            let packet = crate::forged::packet(forged.tag, |writer| writer.heartbeat(&content));
            for _ in 0..100 {
                asked += packet.len();
                forged.association.handle(&packet, forged.now);
            }
            assert!(held() - before <= 64 * 1024, "{} bytes of answers", held() - before);
            answered += forged.answers().iter().map(Vec::len).sum::<usize>();
        }
        assert!(answered <= asked, "{answered} bytes for {asked}");
        assert!(forged.association.is_open());
    }
}

/// The end of a message that was given up has a number, and never leaves. Who says to have it all the same is not
/// believed: else it would be sent again at a timeout, in one chunk that no packet holds, or given up for ever and ever.
/// Found by the `association` fuzz target.
#[test]
fn an_end_that_never_left_cannot_be_acknowledged_and_taken_back() {
    for reliability in [Reliability::Retransmissions(0), Reliability::Lifetime(100 * MS)] {
        let config = Config::default();
        let mut forged = Forged::opened(&config, &all());
        let bytes = Bytes::from(vec![1; 60_000]);
        let message = Outgoing { stream: 1, ppi: 53, bytes, is_unordered: false, reliability };
        forged.association.send(message, forged.now).unwrap();
        let mut said = forged.answers();
        let count = u16::try_from(tsns(&said).len()).unwrap();
        assert!(tsns(&said).contains(&forged.their_tsn) && count < 50);
        said.extend(forged.wait(1_000 * MS));
        assert!(said.iter().any(|packet| !chunks(packet, forward).is_empty()), "it is not given up");
        let before = forged.their_tsn.wrapping_sub(1);
        for (start, end) in [(count + 1, count + 1), (1, count + 1)] {
            said.extend(forged.say(|writer| writer.sack(before, 1 << 20, [(start, end)], &[])));
            said.extend(forged.wait(10_000 * MS));
        }
        let longest = said.iter().map(Vec::len).max();
        assert!(longest <= Some(config.packet_bytes_min), "{longest:?} bytes");
        let last = forged.their_tsn.wrapping_add(u32::from(count));
        let _ = forged.say(|writer| writer.sack(last, 1 << 20, [], &[]));
        assert!(forged.association.is_drained(), "{reliability:?}");
    }
}

fn forward(chunk: &Chunk<'_>) -> Option<u32> {
    if let Chunk::ForwardTsn(forward) = chunk { Some(forward.cumulative) } else { None }
}

/// Each is within its bound, and together they were not. Found by the `association` fuzz target.
#[test]
fn answers_acknowledgements_and_resets_leave_in_no_packet_that_is_too_long() {
    let config = Config { streams: 300, ..Config::default() };
    let fields = millstream_sctp::wire::InitFields { inbound: 300, outbound: 300, ..all() };
    for length in [8, 500, 1_000] {
        let mut forged = Forged::opened(&config, &fields);
        for stream in 0..300 {
            forged.association.reset(stream).unwrap();
        }
        let content = vec![1; length];
        let answers = forged.say(|writer| {
            writer.heartbeat(&content);
            for number in 0..400 {
                writer.data(&Data {
                    sequence: Sequence::Mid { mid: number, fsn: 1 },
                    ..data(FIRST_TSN + 2 * number, 1, 0, false, false, b"x")
                });
            }
            writer.reset_request(FIRST_TSN, 0, FIRST_TSN + 10_000, []);
        });
        assert!(answers.len() >= 2, "{} packets", answers.len());
        let longest = answers.iter().map(Vec::len).max();
        assert!(longest <= Some(config.packet_bytes_min), "{longest:?} bytes");
        assert!(forged.answers().is_empty());
    }
}

#[test]
fn a_flood_of_unknown_chunks_and_errors_is_bounded() {
    let config = Config::default();
    let mut forged = Forged::opened(&config, &all());
    let content = vec![0xC5; 1_000];
    flood(&mut forged, &config, 10_000, |forged, _| {
        let answers = forged.say(|writer| writer.error(cause::UNRECOGNISED_CHUNK, &content));
        assert!(answers.is_empty());
        // A kind that nobody knows and that wants to be reported.
        let mut packet = crate::forged::packet(forged.tag, |writer| writer.pad(1_000));
        packet[12] = 0x7F;
        packet[8..12].fill(0);
        forged.association.handle(&packet, forged.now);
        let answers: usize = forged.answers().iter().map(Vec::len).sum();
        // Its head and the cause's come on top of what is repeated.
        assert!(answers <= packet.len() + 16, "{answers} bytes for {}", packet.len());
    });
}

/// Everything that both sides of some lives have said.
fn said() -> Vec<Vec<u8>> {
    use std::{cell::RefCell, rc::Rc};
    let all = Rc::new(RefCell::new(Vec::new()));
    for interleaving in [false, true] {
        let config = Config { interleaving, ..Config::default() };
        let traits = Traits { loss_per_million: 50_000, ..Traits::bottleneck(500_000, 10 * MS, 100 * MS) };
        let mut world = World::with(&config, &config, traits, 2);
        let sink = Rc::clone(&all);
        world.tap = Some(Box::new(move |_, _, packet| {
            sink.borrow_mut().push(packet.to_vec());
            false
        }));
        world.open();
        for number in 0..30 {
            for from in 0..2 {
                let outgoing = millstream_sctp::Outgoing {
                    stream: number % 4,
                    ppi: 53,
                    bytes: Bytes::from(vec![1; usize::from(number) * 150 + 1]),
                    is_unordered: number % 3 == 0,
                    reliability: millstream_sctp::Reliability::Retransmissions(u32::from(number % 2)),
                };
                world.ends[from].association.send(outgoing, world.now).unwrap();
            }
            world.run(3 * MS);
        }
        let _ = world.ends[0].association.reset(1);
        world.run(2_000 * MS);
        world.ends[1].association.shutdown(world.now);
        world.run(2_000 * MS);
    }
    all.take()
}

/// An association in one of the states of its life, and what packets to it bear.
fn in_state(number: u64, config: &Config) -> Forged {
    match number % 6 {
        0 => Forged::greeted(config, &all()),
        1 => {
            let mut forged = Forged::greeted(config, &all());
            forged.association.connect(forged.now);
            let _ = forged.answers();
            forged
        }
        2 => Forged::opened(config, &plain()),
        3 => {
            let mut forged = Forged::opened(config, &all());
            let _ = forged.send(40_000);
            let _ = forged.association.reset(1);
            forged
        }
        4 => {
            let mut forged = Forged::opened(config, &all());
            let now = forged.now;
            forged.association.shutdown(now);
            let _ = forged.answers();
            forged
        }
        _ => {
            let mut forged = Forged::opened(config, &plain());
            let _ = forged.send(5_000);
            let cumulative = forged.their_tsn.wrapping_sub(1);
            let _ = forged.say(|writer| writer.shutdown(cumulative));
            forged
        }
    }
}

fn mutate(packet: &mut Vec<u8>, chance: &mut Chance, forged: &Forged) {
    for _ in 0..=chance.below(4) {
        let at = usize::try_from(chance.below(packet.len() as u64)).unwrap();
        match chance.below(6) {
            0 => packet[at] ^= 1 << chance.below(8),
            1 => packet[at] = u8::try_from(chance.below(256)).unwrap(),
            2 => packet[at] = [0, 0xFF, 0x7F, 0x80][usize::try_from(chance.below(4)).unwrap()],
            3 => packet.truncate(at.max(16)),
            4 => {
                let tail = packet[at.max(12)..].to_vec();
                packet.extend(tail);
            }
            // Nearer to what it awaits.
            _ if packet.len() >= 20 => {
                let near = if chance.below(2) == 0 { forged.their_tsn } else { FIRST_TSN };
                let near = near.wrapping_add(u32::try_from(chance.below(8)).unwrap());
                packet[16..20].copy_from_slice(&near.to_be_bytes());
            }
            _ => {}
        }
    }
    packet[..4].copy_from_slice(&[0x13, 0x88, 0x13, 0x88]);
    if chance.below(16) > 0 {
        packet[4..8].copy_from_slice(&forged.tag.to_be_bytes());
    }
    // Taken, as DTLS stands in for it.
    packet[8..12].fill(0);
}

/// Packets that are changed and handed over.
const PACKETS: u32 = 100_000;

#[test]
fn a_hundred_thousand_packets_changed_at_random_break_nothing_in_any_state() {
    let corpus = said();
    let mut chance = Chance::new(11);
    let config = Config::default();
    let (mut life, mut count) = (0, 0);
    while count < PACKETS {
        life += 1;
        let mut forged = in_state(life, &config);
        let before = held();
        for number in 0..200 {
            count += 1;
            let at = usize::try_from(chance.below(corpus.len() as u64)).unwrap();
            let mut packet = corpus[at].clone();
            mutate(&mut packet, &mut chance, &forged);
            let answers = forged.hand(&packet);
            assert!(answers.len() <= 100, "{} packets for one", answers.len());
            if number % 16 == 0 {
                let said = forged.wait(50 * MS);
                assert!(said.len() <= 1_000, "{} packets in 50 ms", said.len());
            }
            let grown = held() - before;
            assert!(grown <= allowed(&config), "{grown} bytes in life {life}");
            if forged.closed().is_some() {
                break;
            }
        }
    }
}
