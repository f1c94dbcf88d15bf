//! What only DTLS 1.3 does: acknowledgements, speaking early, new keys.

use super::*;
use crate::link::dtls::dtls13::{
    APPLICATION_EPOCH, OVERTAKEN_MAX, Open as OpenConnection,
    keys::Secret,
    record::{Place, Sealer},
};

/// An end whose handshake is through.
fn open(end: &mut Dtls) -> &mut OpenConnection {
    let Stage::Open(Open::Dtls13(open)) = &mut end.stage else { panic!("not open") };
    open
}

/// A datagram in which `end` says a handshake message that we would not.
fn handshake_record(end: &mut Dtls, message: &[u8]) -> Vec<u8> {
    let mut datagram = Vec::new();
    let text = |out: &mut Vec<u8>| out.extend_from_slice(message);
    open(end).sealer().seal(records::HANDSHAKE, Place::Last, &mut datagram, text).unwrap();
    datagram
}

/// Runs on until nothing is due.
fn settle(world: &mut World, fate: Fate<'_>) {
    world.run(fate, |_| false);
}

/// Delivers until the server is through, but not what it has said then.
fn until_the_server_is_through(world: &mut World) {
    while world.server.peer().is_none() {
        world.now += TRIP;
        world.transmit(&|_| 1);
        while let Some((_, is_client, datagram)) = world.wire.pop_front() {
            world.arrive(is_client, datagram);
        }
    }
}

/// Has both ends say something and hear it, in order.
fn converse(world: &mut World, fate: Fate<'_>, rounds: u32) {
    for round in 0..rounds {
        for is_client in [true, false] {
            let text = round.to_be_bytes();
            let datagram = world.say(is_client, &text);
            assert!(world.arrive(is_client, datagram), "{round}");
            assert_eq!(world.heard.last().unwrap(), &(is_client, text.to_vec()));
        }
        world.now += TRIP;
        world.transmit(fate);
        while let Some((_, is_client, datagram)) = world.wire.pop_front() {
            world.arrive(is_client, datagram);
        }
        world.client.handle_timeout(world.now);
        world.server.handle_timeout(world.now);
    }
}

fn epochs(world: &mut World) -> [u64; 4] {
    let of = |end: &Dtls| match &end.stage {
        Stage::Open(Open::Dtls13(open)) => open.epochs(),
        _ => panic!("not open"),
    };
    let ([a, b], [c, d]) = (of(&world.client), of(&world.server));
    [a, b, c, d]
}

/// Of a number one that has nothing to do with its neighbours' (SplitMix64).
fn mixed(number: usize) -> usize {
    let mut mixed = number.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    mixed = (mixed ^ mixed >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ mixed >> 31
}

fn updating(of_client: u64, of_server: u64) -> World {
    let (edge, viewer) = (Certificate::generate().unwrap(), Certificate::generate().unwrap());
    let setups = [(&edge, of_server), (&viewer, of_client)]
        .map(|(certificate, records)| Setup::new(certificate).unwrap().updating_after(records));
    let mut world = World::between(&setups[0], &setups[1], edge.fingerprint(), false);
    assert!(world.open(&|_| 1));
    settle(&mut world, &|_| 1);
    world
}

#[test]
fn the_client_speaks_behind_its_finished_and_is_heard_even_when_it_is_overtaken() {
    for is_overtaken in [false, true] {
        let mut world = World::of(Dtls13, Dtls13);
        assert!(world.run(&|_| 1, |world| world.client.peer().is_some()));
        assert_eq!((world.sent.len(), world.server.peer()), (3, None), "one round trip, and its last flight");
        let early = world.say(true, b"early");
        let (_, _, flight) = world.wire.pop_back().unwrap();
        let datagrams = if is_overtaken { [early.clone(), flight] } else { [flight, early.clone()] };
        for datagram in datagrams {
            world.arrive(true, datagram);
        }
        assert!(world.server.peer().is_some());
        assert_eq!(world.heard, [(true, b"early".to_vec())]);
        assert!(!world.arrive(true, early), "a replay");
        assert_eq!(world.heard.len(), 1);
    }
}

#[test]
fn the_server_speaks_behind_its_flight_and_is_heard_even_when_it_is_overtaken() {
    for is_overtaken in [false, true] {
        let mut world = World::of(Dtls13, Dtls13);
        assert_eq!(world.server.seal(&mut Vec::new(), |out| out.push(1)), Err(SealError::NotOpen));
        world.transmit(&|_| 1);
        let (_, _, hello) = world.wire.pop_front().unwrap();
        world.arrive(true, hello);
        assert_eq!(world.server.seal(&mut Vec::new(), |_| panic!("before its flight")), Ok(false));
        world.transmit(&|_| 1);
        assert_eq!(
            (world.server.sealing(), world.server.version(), world.server.peer()),
            (Some(Dtls13), None, None)
        );
        let early = world.say(false, b"early");
        let (_, _, flight) = world.wire.pop_back().unwrap();
        for datagram in if is_overtaken { [early.clone(), flight] } else { [flight, early.clone()] } {
            world.arrive(false, datagram);
        }
        assert_eq!(world.heard, [(false, b"early".to_vec())]);
        // Its numbers go on behind what it has said, or its ACK would be taken for a replay of that.
        assert!(world.open(&|_| 1));
        settle(&mut world, &|_| 1);
        assert_eq!(world.sent.len(), 5, "nothing was sent again");
        converse(&mut world, &|_| 1, 3);
        assert!(!world.arrive(false, early), "a replay");
    }
}

#[test]
fn the_servers_flight_may_overtake_its_own_beginning() {
    // With a certificate so long that the flight has two datagrams, the second comes first.
    let mut world = World::of(Dtls13, Dtls13);
    world.transmit(&|_| 1);
    let (_, _, hello) = world.wire.pop_front().unwrap();
    world.arrive(true, hello);
    world.transmit(&|_| 0);
    let flight = world.sent.last().unwrap().1.clone();
    let first = records::each(&flight).next().unwrap().bytes.len();
    assert!(!world.arrive(false, flight[first..].to_vec()));
    world.arrive(false, flight[..first].to_vec());
    assert!(world.client.peer().is_some(), "{:?}", world.client.ended());
}

#[test]
fn a_lost_acknowledgement_is_given_again_to_whoever_proves_to_need_it() {
    let mut world = World::of(Dtls13, Dtls13);
    until_the_server_is_through(&mut world);
    // The ACK is lost.
    world.transmit(&|_| 0);
    let count = world.sent.len();
    assert!(world.client.next_timeout().is_some(), "the client waits for it");

    // A stranger repeats what it has overheard.
    for (is_client, datagram) in world.sent.clone() {
        assert!(!is_client || !world.arrive(true, datagram), "nothing of a repetition by a stranger is new");
    }
    let mut forged = world.sent[2].1.clone();
    forged[1] ^= 1;
    assert!(!world.arrive(true, forged));
    world.transmit(&|_| 0);
    assert_eq!(world.sent.len(), count, "a stranger was answered");

    settle(&mut world, &|_| 1);
    assert_eq!(world.sent.len(), count + 2, "its flight, and the ACK");
    assert_eq!(world.client.next_timeout(), None);
    // A stranger has overheard the repetition, too.
    for (is_client, datagram) in world.sent.clone() {
        assert!(!is_client || !world.arrive(true, datagram));
    }
    world.transmit(&|_| 0);
    assert_eq!(world.sent.len(), count + 2, "a stranger was answered");
    converse(&mut world, &|_| 1, 3);
}

#[test]
fn a_flight_that_nobody_acknowledges_is_given_up_and_what_is_open_stays_open() {
    let mut world = World::of(Dtls13, Dtls13);
    assert!(world.run(&|_| 1, |world| world.client.peer().is_some()));
    world.wire.clear();
    settle(&mut world, &|_| 0);
    let flights = world.sent.iter().filter(|(is_client, datagram)| *is_client && datagram[0] == 0x2E).count();
    assert_eq!(flights, 9);
    let datagrams: BTreeSet<_> = world.sent.iter().map(|(_, datagram)| datagram).collect();
    assert_eq!(datagrams.len(), world.sent.len(), "the same text under the same number");
    assert_eq!((world.client.next_timeout(), world.client.ended()), (None, None));
}

#[test]
fn no_number_of_an_epoch_is_used_twice() {
    // A nonce is a number, so this is about keys given away. All that is sent opens exactly once, whatever was lost.
    for lost in 0..8 {
        let mut world = World::of(Dtls13, Dtls13);
        assert!(world.open(&|number| usize::from(number != lost)), "without {lost}");
        settle(&mut world, &|number| usize::from(number != lost));
        for text in 0..20_u8 {
            for is_client in [true, false] {
                let datagram = world.say(is_client, &[text]);
                assert!(world.arrive(is_client, datagram), "without {lost}");
            }
        }
        world.client.stop();
        settle(&mut world, &|_| 1);
        assert_eq!(world.server.ended(), Some(Ended::Peer));
    }
}

#[test]
fn keys_change_on_both_sides_again_and_again_and_nothing_is_lost() {
    let mut world = updating(20, 33);
    converse(&mut world, &|_| 1, 300);
    settle(&mut world, &|_| 1);
    let [client, of_server, server, of_client] = epochs(&mut world);
    assert_eq!((client, server), (of_client, of_server), "both agree");
    assert!(client > 13 && server > 9, "the two bits went round: {client} {server}");
}

#[test]
fn a_key_update_or_its_acknowledgement_may_be_lost_come_twice_or_late() {
    for lost in 1..6 {
        for copies in [0, 2] {
            let mut world = updating(15, 22);
            let fate = |number: usize| if mixed(number).is_multiple_of(lost) { copies } else { 1 };
            converse(&mut world, &fate, 3_000);
            if lost == 1 && copies == 0 {
                // Nothing but data ever comes through: nobody changes keys before that is acknowledged.
                assert_eq!(epochs(&mut world), [3; 4]);
                continue;
            }
            settle(&mut world, &|_| 1);
            let [client, of_server, server, of_client] = epochs(&mut world);
            assert!(client > 4 && server > 4, "{copies} of each {lost}: {client} {server}");
            assert_eq!((client, server), (of_client, of_server), "both agree");
        }
    }
}

#[test]
fn records_that_a_new_key_has_overtaken_are_heard_for_a_while() {
    let mut world = updating(1 << 20, 1 << 20);
    let old: Vec<_> = (0..3).map(|text| world.say(true, &[text])).collect();
    update(&mut world, true);
    for text in 0..OVERTAKEN_MAX - 1 {
        let datagram = world.say(true, b"new");
        assert!(world.arrive(true, datagram), "{text}");
        if text == 5 {
            assert!(world.arrive(true, old[1].clone()));
            assert!(!world.arrive(true, old[1].clone()), "a replay");
        }
    }
    assert!(world.arrive(true, old[0].clone()));
    let datagram = world.say(true, b"one more");
    assert!(world.arrive(true, datagram));
    assert!(!world.arrive(true, old[2].clone()), "long overtaken");
}

/// One end changes its key.
fn update(world: &mut World, is_client: bool) {
    let end = if is_client { &mut world.client } else { &mut world.server };
    let mut update = Vec::new();
    open(end).update_now(world.now, &mut update);
    end.pending.append(&mut update);
    settle(world, &|_| 1);
}

#[test]
fn a_key_that_the_peer_asks_for_is_changed() {
    let mut world = updating(1 << 20, 1 << 20);
    // A peer that asks, as other implementations do.
    let datagram = handshake_record(&mut world.client, &[24, 0, 0, 1, 0, 5, 0, 0, 0, 0, 0, 1, 1]);
    assert!(world.arrive(true, datagram));
    let (before, count) = (epochs(&mut world), world.sent.len());
    settle(&mut world, &|_| 1);
    assert_eq!(before, [3, 3, 3, 4]);
    assert_eq!(epochs(&mut world), [3, 4, 4, 4], "ours is changed, too");
    assert_eq!(world.sent.len() - count, 3, "our ACK, our update, and its ACK");
}

#[test]
fn a_message_that_has_no_place_ends_the_connection() {
    for (is_client, message) in [
        (true, &[4, 0, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0][..]),
        (true, &[1, 0, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0]),
        (false, &[13, 0, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0]),
        (false, &[24, 0, 0, 1, 0, 5, 0, 0, 0, 0, 0, 1, 7]),
    ] {
        let mut world = World::opened(Dtls13);
        settle(&mut world, &|_| 1);
        let (from, to) = if is_client {
            (&mut world.client, &mut world.server)
        } else {
            (&mut world.server, &mut world.client)
        };
        let mut datagram = handshake_record(from, message);
        to.handle(&mut datagram, world.now, &mut |_| {});
        assert!(matches!(to.ended(), Some(Ended::Misbehaviour(_))), "{message:?}");
    }
}

#[test]
fn a_ticket_is_acknowledged_and_left() {
    let mut world = World::opened(Dtls13);
    settle(&mut world, &|_| 1);
    let datagram = handshake_record(&mut world.server, &[4, 0, 0, 9, 0, 6, 0, 0, 0, 0, 0, 2, 1, 1]);
    let count = world.sent.len();
    assert!(world.arrive(false, datagram));
    world.transmit(&|_| 1);
    assert_eq!(world.sent.len(), count + 1, "an ACK");
    converse(&mut world, &|_| 1, 3);
}

#[test]
fn several_records_and_paddings_and_short_numbers_are_heard() {
    let mut world = World::opened(Dtls13);
    settle(&mut world, &|_| 1);
    let mut datagram = Vec::new();
    for (place, text) in [(Place::Before, b"one"), (Place::Before, b"two"), (Place::Last, b"end")] {
        open(&mut world.client)
            .sealer()
            .seal(23, place, &mut datagram, |out| out.extend_from_slice(text))
            .unwrap();
    }
    assert!(world.arrive(true, datagram));
    assert_eq!(world.heard.iter().map(|(_, text)| &text[..]).collect::<Vec<_>>(), [b"one", b"two", b"end"]);
}

#[test]
fn keys_of_another_connection_open_nothing() {
    let mut world = World::opened(Dtls13);
    let mut sealer = Sealer::new(Secret([7; 32]).key().unwrap(), APPLICATION_EPOCH, 5);
    let mut datagram = Vec::new();
    sealer.seal(21, Place::Last, &mut datagram, |out| out.extend([1, 0])).unwrap();
    assert!(!world.arrive(true, datagram.clone()) && !world.arrive(false, datagram));
    assert_eq!((world.client.ended(), world.server.ended()), (None, None));
}

#[test]
fn an_unproved_client_gets_no_more_than_three_times_what_it_has_sent() {
    let mut world = World::of(Dtls13, Dtls13);
    world.transmit(&|_| 0);
    let hello = world.sent[0].1.clone();
    let (mut now, mut received, mut sent) = (world.now, 0, 0);
    for round in 0..40 {
        if round % 8 == 0 {
            let mut again = hello.clone();
            again[10] = round;
            received += again.len();
            world.server.handle(&mut again, now, &mut |_| {});
        }
        now += Duration::from_millis(500);
        world.server.handle_timeout(now);
        world.server.transmit(&mut |datagram| sent += datagram.len());
        assert!(sent <= 3 * received, "{sent} for {received}");
    }
    assert!(sent > 0 && !world.server.is_proven());
}

#[test]
fn what_the_server_says_early_counts_towards_what_it_may_send() {
    let mut world = World::of(Dtls13, Dtls13);
    world.transmit(&|_| 0);
    let hello = world.sent[0].1.clone();
    world.arrive(true, hello.clone());
    let mut sent = 0;
    world.server.transmit(&mut |datagram| sent += datagram.len());
    let mut words = Vec::new();
    while world.server.seal(&mut words, |out| out.extend([7; 100])).unwrap() {
        assert!(sent + words.len() <= 3 * hello.len());
    }
    assert!(sent + words.len() + 120 > 3 * hello.len(), "so much is allowed");
    assert_eq!(words.len() % 120, 0, "nothing is left of what was refused");
}

#[test]
fn what_an_idle_connection_keeps_is_small() {
    assert!(size_of::<super::super::dtls13::Open>() <= 2_000, "{}", size_of::<super::super::dtls13::Open>());
}
