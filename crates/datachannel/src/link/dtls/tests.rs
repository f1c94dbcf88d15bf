//! Two ends over a wire of our own in virtual time, without SCTP.

use std::{
    collections::{BTreeSet, VecDeque},
    time::Duration,
};

use super::*;
use crate::{Certificate, link::records::CHANGE_CIPHER_SPEC};

mod dtls13;

use Version::{Dtls12, Dtls13};

const VERSIONS: [Version; 2] = [Dtls12, Dtls13];

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
    /// Between a client and a server that speak these versions, and older ones.
    fn of(client: Version, server: Version) -> Self {
        let (edge, viewer) = (Certificate::generate().unwrap(), Certificate::generate().unwrap());
        Self::between(&setup(&edge, server), &setup(&viewer, client), edge.fingerprint(), false)
    }

    /// With a server that asks for a cookie.
    fn cautious(version: Version) -> Self {
        let edge = Certificate::generate().unwrap();
        Self::between(&setup(&edge, version), &setup(&edge, version), edge.fingerprint(), true)
    }

    fn between(edge: &Setup, viewer: &Setup, expected: Fingerprint, has_cookies: bool) -> Self {
        let now = Instant::now();
        Self {
            client: Dtls::client(viewer, expected, now),
            server: Dtls::server(edge, has_cookies),
            now,
            wire: VecDeque::new(),
            sent: Vec::new(),
            heard: Vec::new(),
        }
    }

    fn opened(version: Version) -> Self {
        let mut world = Self::of(version, version);
        assert!(world.open(&|_| 1));
        assert_eq!((world.client.version(), world.server.version()), (Some(version), Some(version)));
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

fn setup(certificate: &Certificate, version: Version) -> Setup {
    let setup = Setup::new(certificate).unwrap();
    if version == Dtls12 { setup.old() } else { setup }
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

/// Whether a datagram is a server's request for a cookie.
fn asks_for_cookie(datagram: &[u8]) -> bool {
    records::scan(datagram).is_some_and(|records| records.is_cookie_request)
}

/// Puts another message into the place of a ClientHello of `world`'s client, as long as a browser's: with an extension
/// that nobody knows, in front of the others. Both ends' transcripts would differ, so this handshake fails at its end.
fn with_long_hello(hello: &[u8], bytes: usize) -> Vec<u8> {
    let mut long = hello.to_vec();
    let add = bytes.checked_sub(hello.len()).unwrap();
    // Record and message headers, version, random, empty session and cookie, one or more suites, compression.
    let suites = 13 + 12 + 2 + 32 + 1 + 1;
    let extensions = suites + 2 + usize::from(hello[suites + 1]) + 2;
    let grow = |long: &mut Vec<u8>, at: usize| {
        let length = u16::from_be_bytes([long[at], long[at + 1]]) + u16::try_from(add).unwrap();
        long[at..at + 2].copy_from_slice(&length.to_be_bytes());
    };
    for at in [11, 13 + 2, 13 + 10, extensions] {
        grow(&mut long, at);
    }
    let body = u16::try_from(add - 4).unwrap().to_be_bytes();
    let extension = [&[0xFA, 0xFA][..], &body, &vec![0; add - 4]].concat();
    long.splice(extensions + 2..extensions + 2, extension);
    long
}

/// The first message of a client of DTLS 1.2, in the shortest datagram: without what pads it.
fn hello() -> Vec<u8> {
    let mut world = World::of(Dtls12, Dtls13);
    world.transmit(&|_| 0);
    records::each(&world.sent[0].1).next().unwrap().bytes.to_vec()
}

#[test]
fn both_ends_say_who_they_are_and_speak_the_newest_version_that_both_know() {
    for (of_client, of_server) in [(Dtls12, Dtls12), (Dtls12, Dtls13), (Dtls13, Dtls12), (Dtls13, Dtls13)] {
        let (edge, viewer) = (Certificate::generate().unwrap(), Certificate::generate().unwrap());
        let setups = [setup(&edge, of_server), setup(&viewer, of_client)];
        let mut world = World::between(&setups[0], &setups[1], edge.fingerprint(), false);
        assert!(world.open(&|_| 1), "{of_client:?} {of_server:?}");
        assert_eq!(world.client.peer(), Some(edge.fingerprint()));
        assert_eq!(world.server.peer(), Some(viewer.fingerprint()));
        let version = if of_client == of_server { of_client } else { Dtls12 };
        assert_eq!((world.client.version(), world.server.version()), (Some(version), Some(version)));
        world.run(&|_| 1, |_| false);
        assert_eq!((world.client.next_timeout(), world.server.next_timeout()), (None, None));
        assert_eq!(world.sent.len(), 4, "nothing was sent again");
        for is_client in [true, false] {
            for text in [&b"one"[..], b"two"] {
                let datagram = world.say(is_client, text);
                assert_eq!(datagram.len(), text.len() + version.overhead_bytes());
                assert!(world.arrive(is_client, datagram));
            }
            let heard = std::mem::take(&mut world.heard);
            assert_eq!(heard, [(is_client, b"one".to_vec()), (is_client, b"two".to_vec())]);
        }
    }
}

#[test]
fn two_records_of_dtls_12_may_share_a_datagram() {
    let mut world = World::opened(Dtls12);
    let datagram = [world.say(true, b"one"), world.say(true, b"two")].concat();
    assert!(world.arrive(true, datagram));
    assert_eq!(world.heard.len(), 2);
}

#[test]
fn another_certificate_than_the_expected_is_refused() {
    for version in VERSIONS {
        let (edge, viewer) = (Certificate::generate().unwrap(), Certificate::generate().unwrap());
        let setups = [setup(&edge, version), setup(&viewer, version)];
        let mut world = World::between(&setups[0], &setups[1], viewer.fingerprint(), false);
        world.run(&|_| 1, |world| world.server.ended().is_some());
        assert_eq!(world.client.ended(), Some(Ended::WrongCertificate));
        assert_eq!(world.client.peer(), None);
        assert_eq!(world.server.ended(), Some(Ended::Peer), "it was told");
    }
}

#[test]
fn no_nonce_and_no_number_is_used_twice_from_the_first_flight_to_the_last_alert() {
    // Lose datagrams of each kind once, so that engines repeat flights and the server repeats its last.
    for lost in 0..12 {
        let mut world = World::of(Dtls12, Dtls12);
        assert!(world.open(&|number| usize::from(number != lost)), "without {lost}");
        for text in 0..50_u8 {
            for is_client in [true, false] {
                let datagram = world.say(is_client, &[text]);
                world.arrive(is_client, datagram);
            }
        }
        world.client.stop();
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
    let mut world = World::of(Dtls12, Dtls12);
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
    let mut world = World::of(Dtls12, Dtls12);
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
    VERSIONS.into_iter().for_each(drops_replays_and_forgeries);
}

fn drops_replays_and_forgeries(version: Version) {
    let mut world = World::opened(version);
    world.run(&|_| 1, |_| false);
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
    for (is_client, version) in [(true, Dtls12), (false, Dtls12), (true, Dtls13), (false, Dtls13)] {
        let mut world = World::opened(version);
        let World { client, server, .. } = &mut world;
        if is_client { client } else { server }.stop();
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
    let mut world = World::of(Dtls13, Dtls13);
    let mut out = vec![1];
    assert_eq!(world.client.seal(&mut out, |out| out.push(2)), Err(SealError::NotOpen));
    assert_eq!(out, [1]);
}

#[test]
fn any_datagram_of_the_handshake_may_be_lost_or_come_twice() {
    for (of_client, of_server) in [(Dtls12, Dtls12), (Dtls12, Dtls13), (Dtls13, Dtls12), (Dtls13, Dtls13)] {
        for odd in 0..6 {
            for copies in [0, 2] {
                let mut world = World::of(of_client, of_server);
                let fate = |number| if number == odd { copies } else { 1 };
                let opened = world.open(&fate);
                let ended = (world.client.ended(), world.server.ended());
                assert!(opened, "{copies} of {odd}, {of_client:?} {of_server:?}: {ended:?}");
                world.run(&fate, |_| false);
                let datagrams = [true, false].map(|is_client| (is_client, world.say(is_client, b"after")));
                for (is_client, datagram) in datagrams {
                    assert!(world.arrive(is_client, datagram));
                }
            }
        }
    }
}

#[test]
fn a_long_hello_is_answered_at_once_and_a_short_one_with_a_request_for_a_cookie() {
    let hello = hello();
    for (bytes, has_cookies, is_answered) in
        [(300, false, true), (hello.len(), false, false), (300, true, false)]
    {
        let edge = Certificate::generate().unwrap();
        let mut server = Dtls::server(&Setup::new(&edge).unwrap(), has_cookies);
        let mut hello = if bytes == hello.len() { hello.clone() } else { with_long_hello(&hello, bytes) };
        server.handle(&mut hello, Instant::now(), &mut |_| {});
        let mut flight = Vec::new();
        server.transmit(&mut |datagram| flight.push(datagram.to_vec()));
        assert_eq!(flight.len(), 1, "{bytes} bytes");
        assert_eq!(!asks_for_cookie(&flight[0]), is_answered, "{bytes} bytes");
        assert!(!server.is_proven());
        let sent = flight.iter().map(Vec::len).sum::<usize>();
        assert!(sent <= 3 * bytes, "{sent} for {bytes}");
        // The estimate that decides is above what is really sent, and not by much.
        let estimate = handshake::FLIGHT_BYTES + edge.der().len();
        assert!(!is_answered || (sent <= estimate && estimate < sent + 200), "{sent} of {estimate}");
    }
}

#[test]
fn three_times_what_came_is_never_exceeded_before_the_client_is_proved() {
    let hello = hello();
    for bytes in [hello.len(), 250, 300, 1_100] {
        for part in [1, 2, 3] {
            let edge = Certificate::generate().unwrap();
            let mut server = Dtls::server(&Setup::new(&edge).unwrap(), false);
            let long = if bytes == hello.len() { hello.clone() } else { with_long_hello(&hello, bytes) };
            let (mut now, mut received, mut sent) = (Instant::now(), 0, 0);
            // Nobody ever answers; the hello comes in one or more parts, and again after a while, and timers run on.
            for round in 0..40_u8 {
                let body = &long[25..];
                for (number, piece) in body.chunks(body.len().div_ceil(part)).enumerate() {
                    if round % 8 == 0 {
                        let mut datagram = long[..25].to_vec();
                        datagram[10] = round + u8::try_from(number).unwrap();
                        let offset = u16::try_from(number * body.len().div_ceil(part)).unwrap();
                        datagram[20..22].copy_from_slice(&offset.to_be_bytes());
                        let length = u16::try_from(piece.len()).unwrap();
                        datagram[23..25].copy_from_slice(&length.to_be_bytes());
                        datagram[11..13].copy_from_slice(&(length + 12).to_be_bytes());
                        datagram.extend_from_slice(piece);
                        received += datagram.len();
                        server.handle(&mut datagram, now, &mut |_| {});
                    }
                    server.transmit(&mut |datagram| sent += datagram.len());
                    assert!(sent <= 3 * received, "{bytes} in {part}: {sent} for {received}");
                }
                now += Duration::from_millis(500);
                server.handle_timeout(now);
                server.transmit(&mut |datagram| sent += datagram.len());
                assert!(sent <= 3 * received, "{bytes} in {part}: {sent} for {received}");
            }
            server.stop();
            server.transmit(&mut |datagram| sent += datagram.len());
            assert!(sent > 0 && sent <= 3 * received, "{bytes} in {part}: {sent} for {received}");
            assert!(!server.is_proven());
        }
    }
}

#[test]
fn nothing_is_said_to_an_address_that_nothing_came_from() {
    let mut server = Dtls::server(&Setup::new(&Certificate::generate().unwrap()).unwrap(), false);
    server.stop();
    server.transmit(&mut |_| panic!("an alert"));
}

#[test]
fn a_cautious_server_opens_too_and_its_client_is_proved_by_the_cookie() {
    VERSIONS.into_iter().for_each(asks_for_a_cookie);
}

fn asks_for_a_cookie(version: Version) {
    let mut world = World::cautious(version);
    assert!(world.run(&|_| 1, |world| world.server.is_proven()));
    assert!(world.sent.iter().any(|(_, datagram)| asks_for_cookie(datagram)));
    assert_eq!(world.server.peer(), None, "it is proved before it is through");
    assert!(world.open(&|_| 1));
    for lost in 0..world.sent.len() {
        let mut world = World::cautious(version);
        assert!(world.open(&|number| usize::from(number != lost)), "without {lost}");
    }
}

#[test]
fn our_own_client_needs_no_cookie() {
    for version in VERSIONS {
        let world = World::opened(version);
        assert!(!world.sent.iter().any(|(_, datagram)| asks_for_cookie(datagram)));
        assert_eq!(world.sent.len(), 4, "two round trips");
    }
}
