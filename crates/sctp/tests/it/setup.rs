//! How associations come about when packets are lost, late, forged or somebody else's (RFC 9260 §5).

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use millstream_netsim::Traits;
use millstream_sctp::{
    Association, CloseReason, Config,
    wire::{Chunk, InitFields, Packet, Writer, cause},
};

use crate::{
    forged::{Forged, OUR_TAG, PORT, all, chunks, data, packet, plain},
    world::{World, entropy},
};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

fn path() -> Traits {
    Traits { delay: 10 * MS, ..Traits::default() }
}

/// Which packet of the handshake it is.
fn step(packet: &[u8]) -> Option<usize> {
    let packet = Packet::parse(packet, true).unwrap();
    packet.chunks().find_map(|chunk| match chunk.unwrap() {
        Chunk::Init(_) => Some(0),
        Chunk::InitAck(_) => Some(1),
        Chunk::CookieEcho(_) => Some(2),
        Chunk::CookieAck => Some(3),
        _ => None,
    })
}

#[test]
fn each_packet_of_the_set_up_may_be_lost_and_the_next_one_too() {
    for lost in 0..4 {
        for copies in 1..=2 {
            let mut world = World::new(path(), 5);
            let mut left = copies;
            world.tap = Some(Box::new(move |_, _, packet| {
                let is_lost = step(packet) == Some(lost) && left > 0;
                left -= i32::from(is_lost);
                is_lost
            }));
            world.ends[0].association.connect(world.now);
            world.send(0, 1, Bytes::from_static(b"early"), false).unwrap();
            let start = world.now;
            let is_open =
                world.run_until(3 * SECOND, |world| world.is_open() && world.ends[1].received.len() == 1);
            assert!(is_open, "packet {lost} lost {copies} times");
            assert!(world.now.since(start) <= 1_700 * MS, "took {:?}", world.now.since(start));
            world.run(5 * SECOND);
            assert_eq!(world.ends[1].received.len(), 1);
        }
    }
}

#[test]
fn both_begin_at_once_on_a_path_that_loses_each_fifth_packet() {
    for seed in 0..100 {
        let mut world = World::new(Traits { loss_per_million: 200_000, ..path() }, seed);
        world.ends[0].association.connect(world.now);
        world.run(MS * u32::try_from(seed % 40).unwrap());
        world.ends[1].association.connect(world.now);
        assert!(world.run_until(30 * SECOND, |world| world.is_open()), "seed {seed}");
        for from in 0..2 {
            world.send(from, 0, Bytes::from_static(b"hello"), false).unwrap();
        }
        let is_done = |world: &mut World| world.ends.iter().all(|end| end.received.len() == 1);
        assert!(world.run_until(30 * SECOND, is_done), "seed {seed}");
        assert_eq!((world.closed(0), world.closed(1)), (None, None));
    }
}

#[test]
fn a_peer_that_begins_anew_ends_what_was() {
    for is_busy in [false, true] {
        let mut world = World::opened(path(), 5);
        if is_busy {
            world.send(1, 1, Bytes::from(vec![1; 65_000]), false).unwrap();
        }
        let config = Arc::clone(&world.ends[0].config);
        world.ends[0].association = Association::new(config, entropy(77, 1), world.now);
        world.ends[0].association.connect(world.now);
        world.run(5 * SECOND);
        assert_eq!(world.closed(1), Some(CloseReason::Restarted));
        assert!(world.ends[0].received.is_empty());
    }
}

fn stated(answers: &[Vec<u8>]) -> Vec<u16> {
    let code = |chunk: &Chunk<'_>| match chunk {
        Chunk::Error { cause } | Chunk::Abort { cause, .. } => Some(cause.map_or(0, |cause| cause.code)),
        _ => None,
    };
    answers.iter().flat_map(|answer| chunks(answer, code)).collect()
}

#[test]
fn a_cookie_that_is_too_old_is_refused_and_said_to_be() {
    let mut forged = Forged::greeted(&Config::default(), &all());
    let cookie = forged.cookie.clone();
    forged.wait(61 * SECOND);
    let answers = forged.say(|writer| writer.cookie_echo(&cookie));
    assert!(!forged.association.is_open());
    assert_eq!(stated(&answers), [cause::STALE_COOKIE]);
}

#[test]
fn a_cookie_that_was_changed_anywhere_is_nobodys() {
    let cookie = Forged::greeted(&Config::default(), &all()).cookie;
    for at in 0..cookie.len() {
        let mut forged = Forged::greeted(&Config::default(), &all());
        let mut cookie = cookie.clone();
        cookie[at] ^= 0x10;
        let answers = forged.say(|writer| writer.cookie_echo(&cookie));
        assert!(!forged.association.is_open() && answers.is_empty(), "byte {at}");
    }
    for length in [0, 1, cookie.len() - 1] {
        let mut forged = Forged::greeted(&Config::default(), &all());
        let answers = forged.say(|writer| writer.cookie_echo(&cookie[..length]));
        assert!(!forged.association.is_open() && answers.is_empty(), "{length} bytes");
    }
}

#[test]
fn greeting_it_a_thousand_times_leaves_no_state() {
    let mut forged = Forged::greeted(&Config::default(), &all());
    let first = forged.cookie.clone();
    forged.tag = 0;
    for number in 0..1_000 {
        let answers =
            forged.say(|writer| writer.init(&InitFields { tag: OUR_TAG + number, ..all() }, None, false));
        assert_eq!(answers.len(), 1);
    }
    assert_eq!(forged.association.next_timeout(forged.now), None);
    // The first may still come.
    let answers = Forged::greeted(&Config::default(), &all());
    forged.tag = answers.tag;
    forged.say(|writer| writer.cookie_echo(&first));
    assert!(forged.association.is_open());
}

#[test]
fn a_cookie_that_comes_twice_is_answered_twice_and_changes_nothing() {
    let mut forged = Forged::opened(&Config::default(), &plain());
    forged.say_data(1, 0, true, true, b"one");
    let cookie = forged.cookie.clone();
    let answers = forged.say(|writer| writer.cookie_echo(&cookie));
    let acks = answers
        .iter()
        .flat_map(|answer| chunks(answer, |chunk| matches!(chunk, Chunk::CookieAck).then_some(())));
    assert_eq!(acks.count(), 1);
    forged.say_data(1, 1, true, true, b"two");
    let messages: Vec<_> = std::iter::from_fn(|| forged.association.recv()).collect();
    assert_eq!(messages.len(), 2);
    assert_eq!(forged.closed(), None);
}

#[test]
fn what_bears_another_tag_or_port_changes_nothing() {
    let mut forged = Forged::opened(&Config::default(), &plain());
    let tag = forged.tag;
    let mut strange = vec![
        packet(tag ^ 1, |writer| writer.data(&data(1_000, 1, 0, true, true, b"x"))),
        packet(0, |writer| writer.data(&data(1_000, 1, 0, true, true, b"x"))),
        packet(tag ^ 1, |writer| writer.abort(cause::USER_ABORT, &[])),
        packet(OUR_TAG, |writer| writer.abort(cause::USER_ABORT, &[])),
        packet(tag, |writer| writer.abort_reflected(cause::USER_ABORT, &[])),
        packet(tag ^ 1, |writer| writer.shutdown(0)),
        packet(tag, |writer| writer.shutdown_complete(false)),
        packet(OUR_TAG, |writer| writer.shutdown_complete(true)),
        packet(tag, |writer| {
            writer.shutdown_ack();
        }),
        packet(tag, |writer| {
            writer.cookie_ack();
        }),
    ];
    for (source, destination) in [(PORT + 1, PORT), (PORT, PORT + 1)] {
        let mut out = Vec::new();
        let mut writer = Writer::begin(&mut out, source, destination, tag);
        writer.abort(cause::USER_ABORT, &[]);
        writer.finish(true);
        strange.push(out);
    }
    for (at, packet) in strange.iter().enumerate() {
        forged.hand(packet);
        assert!(forged.association.is_open() && forged.closed().is_none(), "strange packet {at}");
        assert!(forged.association.recv().is_none());
    }
}

#[test]
fn an_abort_under_our_own_tag_with_the_t_bit_is_the_end() {
    let mut forged = Forged::opened(&Config::default(), &plain());
    let abort = packet(OUR_TAG, |writer| writer.abort_reflected(cause::USER_ABORT, &[]));
    forged.hand(&abort);
    assert_eq!(forged.closed(), Some(CloseReason::Aborted));
}

#[test]
fn a_shutdown_complete_with_the_t_bit_ends_a_shutdown() {
    let mut forged = Forged::opened(&Config::default(), &plain());
    let cumulative = forged.their_tsn.wrapping_sub(1);
    let answers = forged.say(|writer| writer.shutdown(cumulative));
    let is_ack = |chunk: &Chunk<'_>| matches!(chunk, Chunk::ShutdownAck).then_some(());
    assert_eq!(answers.iter().flat_map(|answer| chunks(answer, is_ack)).count(), 1);
    let complete = packet(OUR_TAG, |writer| writer.shutdown_complete(true));
    forged.hand(&complete);
    assert_eq!(forged.closed(), Some(CloseReason::Peer));
}

#[test]
fn an_init_that_is_not_alone_or_not_whole_is_not_taken() {
    let broken: [(&str, Vec<u8>); 5] = [
        (
            "bundled",
            packet(0, |writer| {
                writer.init(&all(), None, false);
                writer.data(&data(1_000, 1, 0, true, true, b"x"));
            }),
        ),
        ("with a tag", packet(7, |writer| writer.init(&all(), None, false))),
        (
            "without initiate tag",
            packet(0, |writer| writer.init(&InitFields { tag: 0, ..all() }, None, false)),
        ),
        (
            "without outbound",
            packet(0, |writer| writer.init(&InitFields { outbound: 0, ..all() }, None, false)),
        ),
        (
            "without inbound",
            packet(0, |writer| writer.init(&InitFields { inbound: 0, ..all() }, None, false)),
        ),
    ];
    for (name, packet) in &broken {
        let mut forged = Forged::greeted(&Config::default(), &all());
        let answers = forged.hand(packet);
        let acks = answers
            .iter()
            .flat_map(|answer| chunks(answer, |chunk| matches!(chunk, Chunk::InitAck(_)).then_some(())));
        // RFC 9260 §6.10: INIT is never bundled; what stands behind it is not read.
        if *name != "bundled" {
            assert_eq!(acks.count(), 0, "{name}");
        }
        assert!(!forged.association.is_open(), "{name}");
        assert_eq!(forged.association.next_timeout(forged.now), None, "{name}");
        assert!(answers.len() <= 1, "{name}");
    }
}

#[test]
fn the_answer_to_an_init_is_not_many_times_as_long() {
    let mut forged = Forged::greeted(&Config::default(), &plain());
    forged.tag = 0;
    let asked = packet(0, |writer| writer.init(&plain(), None, false));
    let answered: usize = forged.hand(&asked).iter().map(Vec::len).sum();
    assert!(answered <= 4 * asked.len(), "{answered} bytes for {}", asked.len());
}

#[test]
fn an_init_for_an_association_that_is_open_changes_nothing_until_its_cookie_comes() {
    let mut forged = Forged::opened(&Config::default(), &plain());
    let again = packet(0, |writer| writer.init(&InitFields { tag: 99, tsn: 5, ..plain() }, None, false));
    let answers = forged.hand(&again);
    assert_eq!(answers.len(), 1);
    assert_eq!(Packet::parse(&answers[0], true).unwrap().tag, 99);
    forged.say_data(1, 0, true, true, b"still here");
    assert!(forged.association.recv().is_some());
    assert!(forged.closed().is_none());
}
