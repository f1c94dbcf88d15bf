//! Two ends over a wire of our own in virtual time, without SCTP.

use std::{
    collections::{BTreeSet, VecDeque},
    time::Duration,
};

use super::*;
use crate::Certificate;

/// Virtual time in which everything here must be done.
const PATIENCE: Duration = Duration::from_secs(30);

const TRIP: Duration = Duration::from_millis(10);

/// A datagram's fate, by its number: how many copies arrive.
type Fate<'a> = &'a dyn Fn(usize) -> usize;

struct World {
    client: Dtls,
    server: Dtls,
    now: Instant,
    wire: VecDeque<(Instant, bool, Vec<u8>)>,
    /// Every datagram ever sent: by the client?, what.
    sent: Vec<(bool, Vec<u8>)>,
    /// Plaintext received, by the server?
    heard: Vec<(bool, Vec<u8>)>,
}

impl World {
    fn new() -> Self {
        let now = Instant::now();
        let (edge, viewer) = (Certificate::generate().unwrap(), Certificate::generate().unwrap());
        Self::between(&edge, &viewer, edge.fingerprint(), now)
    }

    fn between(edge: &Certificate, viewer: &Certificate, expected: Fingerprint, now: Instant) -> Self {
        Self {
            client: Dtls::client(&Setup::client(viewer).unwrap(), expected, now),
            server: Dtls::server(&Setup::server(edge).unwrap()),
            now,
            wire: VecDeque::new(),
            sent: Vec::new(),
            heard: Vec::new(),
        }
    }

    fn opened() -> Self {
        let mut world = Self::new();
        assert!(world.open(&|_| 1));
        world
    }

    fn open(&mut self, fate: Fate<'_>) -> bool {
        self.run(fate, |world| world.client.peer().is_some() && world.server.peer().is_some())
    }

    fn transmit(&mut self, fate: Fate<'_>) {
        let Self { client, server, now, wire, sent, .. } = self;
        for (is_client, end) in [(true, client), (false, server)] {
            end.transmit(&mut |datagram| {
                for _ in 0..fate(sent.len()) {
                    wire.push_back((*now + TRIP, is_client, datagram.to_vec()));
                }
                sent.push((is_client, datagram.to_vec()));
            });
        }
    }

    /// Runs until `done`, or nothing will happen any more, or patience is over. Says whether it was done.
    fn run(&mut self, fate: Fate<'_>, done: impl Fn(&Self) -> bool) -> bool {
        let end = self.now + PATIENCE;
        loop {
            self.transmit(fate);
            if done(self) {
                return true;
            }
            let arrival = self.wire.front().map(|(at, _, _)| *at);
            let timers = [self.client.next_timeout(), self.server.next_timeout()];
            let Some(next) = timers.into_iter().chain([arrival]).flatten().min().filter(|at| *at < end)
            else {
                return false;
            };
            self.now = self.now.max(next);
            while let Some((_, is_client, datagram)) = self.wire.pop_front_if(|(at, _, _)| *at <= self.now) {
                self.arrive(is_client, datagram);
            }
            self.client.handle_timeout(self.now);
            self.server.handle_timeout(self.now);
        }
    }

    /// Gives a datagram of the client, or of the server, to the other.
    fn arrive(&mut self, is_client: bool, mut datagram: Vec<u8>) -> bool {
        let Self { client, server, now, heard, .. } = self;
        let end = if is_client { server } else { client };
        end.handle(&mut datagram, *now, &mut |text| heard.push((is_client, text.to_vec())))
    }

    /// Has one end seal `text`, as a datagram that is sent but not delivered.
    fn say(&mut self, is_client: bool, text: &[u8]) -> Vec<u8> {
        let end = if is_client { &mut self.client } else { &mut self.server };
        let mut datagram = Vec::new();
        end.seal(&mut datagram, |out| out.extend_from_slice(text)).unwrap();
        self.sent.push((is_client, datagram.clone()));
        datagram
    }
}

/// Of all epoch-1 records that one side sent: the explicit nonces, and the sequence numbers.
fn used(sent: &[(bool, Vec<u8>)], by_client: bool) -> (Vec<u64>, Vec<u64>) {
    let datagrams = sent.iter().filter(|(is_client, _)| *is_client == by_client);
    let records =
        datagrams.flat_map(|(_, datagram)| records::each(datagram)).filter(|record| record.epoch == 1);
    records
        .map(|record| (u64::from_be_bytes(record.bytes[13..21].try_into().unwrap()), record.number))
        .unzip()
}

#[test]
fn both_ends_say_who_they_are_and_speak() {
    let (edge, viewer) = (Certificate::generate().unwrap(), Certificate::generate().unwrap());
    let mut world = World::between(&edge, &viewer, edge.fingerprint(), Instant::now());
    assert!(world.open(&|_| 1));
    assert_eq!(world.client.peer(), Some(edge.fingerprint()));
    assert_eq!(world.server.peer(), Some(viewer.fingerprint()));
    assert_eq!((world.client.next_timeout(), world.server.next_timeout()), (None, None));
    for is_client in [true, false] {
        let mut datagram = world.say(is_client, b"one");
        // Two records may share a datagram.
        datagram.extend(world.say(is_client, b"two"));
        assert!(world.arrive(is_client, datagram));
        let heard = std::mem::take(&mut world.heard);
        assert_eq!(heard, [(is_client, b"one".to_vec()), (is_client, b"two".to_vec())]);
    }
}

#[test]
fn another_certificate_than_the_expected_is_refused() {
    let (edge, viewer) = (Certificate::generate().unwrap(), Certificate::generate().unwrap());
    let mut world = World::between(&edge, &viewer, viewer.fingerprint(), Instant::now());
    world.run(&|_| 1, |world| world.server.ended().is_some());
    assert_eq!(world.client.ended(), Some(Ended::WrongCertificate));
    assert_eq!(world.client.peer(), None);
    assert_eq!(world.server.ended(), Some(Ended::Peer), "it was told");
}

#[test]
fn no_nonce_and_no_number_is_used_twice_from_the_first_flight_to_the_last_alert() {
    // Lose datagrams of each kind once, so that engines repeat flights and the server repeats its last.
    for lost in 0..12 {
        let mut world = World::new();
        assert!(world.open(&|number| usize::from(number != lost)), "without {lost}");
        for text in 0..50_u8 {
            for is_client in [true, false] {
                let datagram = world.say(is_client, &[text]);
                world.arrive(is_client, datagram);
            }
        }
        world.client.stop(world.now);
        world.run(&|_| 1, |_| false);
        assert_eq!(world.server.ended(), Some(Ended::Peer));
        for by_client in [true, false] {
            let (nonces, numbers) = used(&world.sent, by_client);
            assert!(nonces.len() >= 51, "Finished, texts, close_notify");
            assert_eq!(nonces.iter().collect::<BTreeSet<_>>().len(), nonces.len(), "a nonce came twice");
            assert!(numbers.windows(2).all(|pair| pair[0] < pair[1]), "{numbers:?}");
        }
    }
}

#[test]
fn a_lost_last_flight_is_repeated_for_whoever_proves_to_need_it() {
    let mut world = World::new();
    // The server's last flight never arrives, however often the engine or we send it.
    let last = |datagram: &[u8]| datagram[0] == CHANGE_CIPHER_SPEC;
    while world.server.peer().is_none() {
        world.now += TRIP;
        world.transmit(&|_| 1);
        while let Some((_, is_client, datagram)) = world.wire.pop_front() {
            if is_client || !last(&datagram) {
                world.arrive(is_client, datagram);
            }
        }
    }
    world.transmit(&|_| 0);
    assert!(last(&world.sent.last().unwrap().1));
    assert_eq!(world.client.peer(), None);

    // A stranger repeats what it has overheard of the client's flight, or the part that is in clear.
    let count = world.sent.len();
    for (is_client, datagram) in world.sent.clone() {
        assert!(!is_client || !world.arrive(true, datagram), "nothing of a repetition by a stranger is new");
    }
    world.transmit(&|_| 1);
    assert_eq!(world.sent.len(), count, "a stranger was answered");

    // The client, whose flight has a timer, gets there.
    assert!(world.open(&|_| 1));
    let datagram = world.say(false, b"now");
    assert!(world.arrive(false, datagram));
    assert_eq!(world.heard, [(false, b"now".to_vec())]);
}

#[test]
fn what_overtakes_the_last_flight_is_heard_once() {
    let mut world = World::new();
    // The server is through and speaks; its words come before its last flight.
    while world.server.peer().is_none() {
        world.now += TRIP;
        world.transmit(&|_| 1);
        while let Some((_, is_client, datagram)) = world.wire.pop_front() {
            world.arrive(is_client, datagram);
        }
    }
    let early = world.say(false, b"early");
    assert!(!world.arrive(false, early.clone()));
    assert!(world.heard.is_empty());
    assert!(world.open(&|_| 1));
    assert_eq!(world.heard, [(false, b"early".to_vec())]);
    assert!(!world.arrive(false, early), "a replay");
    assert_eq!(world.heard.len(), 1);
}

#[test]
fn replays_and_forgeries_are_dropped_and_change_nothing() {
    let mut world = World::opened();
    let handshake = world.sent.clone();
    let first = world.say(true, b"first");
    assert!(world.arrive(true, first.clone()));
    for (is_client, datagram) in handshake {
        assert!(!world.arrive(is_client, datagram));
    }
    assert!(!world.arrive(true, first.clone()), "a replay");
    assert!(!world.arrive(false, first), "a reflection");
    let second = world.say(true, b"second");
    for at in 0..second.len() {
        let mut forged = second.clone();
        forged[at] ^= 1;
        assert!(!world.arrive(true, forged), "byte {at}");
    }
    // Alerts in clear, as anybody can send, and close_notify sealed by nobody.
    for forged in [
        &[21, 0xFE, 0xFD, 0, 0, 0, 0, 0, 0, 0, 9, 0, 2, 2, 40][..],
        &[21, 0xFE, 0xFD, 0, 0, 0, 0, 0, 0, 0, 10, 0, 2, 1, 0],
        &[21, 0xFE, 0xFD, 0, 1, 0, 0, 0, 0, 0, 99, 0, 2, 1, 0],
    ] {
        assert!(!world.arrive(true, forged.to_vec()) && !world.arrive(false, forged.to_vec()));
    }
    let count = world.sent.len();
    world.transmit(&|_| 1);
    assert_eq!(world.sent.len(), count, "somebody was answered");
    assert_eq!((world.client.ended(), world.server.ended()), (None, None));
    let third = world.say(true, b"third");
    assert!(world.arrive(true, third));
    assert_eq!(world.heard.last().unwrap().1, b"third");
}

#[test]
fn a_stop_ends_both() {
    for is_client in [true, false] {
        let mut world = World::opened();
        let (now, World { client, server, .. }) = (world.now, &mut world);
        if is_client { client } else { server }.stop(now);
        world.run(&|_| 1, |_| false);
        let ended = (world.client.ended(), world.server.ended());
        let (ours, theirs) = (Some(Ended::Local), Some(Ended::Peer));
        assert_eq!(ended, if is_client { (ours, theirs) } else { (theirs, ours) });
        let end = if is_client { &mut world.client } else { &mut world.server };
        assert_eq!(end.seal(&mut Vec::new(), |_| {}), Err(SealError::NotOpen));
        assert!(world.client.peer().is_some(), "who it was is still known");
    }
}

#[test]
fn nothing_is_sealed_before_there_are_keys() {
    let mut world = World::new();
    let mut out = vec![1];
    assert_eq!(world.client.seal(&mut out, |out| out.push(2)), Err(SealError::NotOpen));
    assert_eq!(out, [1]);
}

#[test]
fn any_datagram_of_the_handshake_may_be_lost_or_come_twice() {
    let count = {
        let mut world = World::opened();
        world.run(&|_| 1, |_| false);
        world.sent.len()
    };
    assert!(count >= 6, "{count}");
    for odd in 0..count {
        for copies in [0, 2] {
            let mut world = World::new();
            let opened = world.open(&|number| if number == odd { copies } else { 1 });
            assert!(opened, "{copies} of {odd}: {:?} {:?}", world.client.ended(), world.server.ended());
        }
    }
}
