//! Two links over a network of our own in virtual time: what loss does to a handshake, and what a hostile peer that
//! has made its handshake can do.

use std::{collections::VecDeque, time::Duration};

use millstream_sctp::{Outgoing, Reliability};

use super::*;
use crate::{MESSAGE_BYTES_MAX, session::Session};

/// Virtual time in which everything here must be done.
const PATIENCE: Duration = Duration::from_secs(30);

/// One way through the network, and back half of the shortest timer.
const TRIP: Duration = Duration::from_millis(10);

const WINDOW_BYTES: u32 = 128 * 1024;

const ENTROPY: [Entropy; 2] = [Entropy([1; 32]), Entropy([2; 32])];

/// Hands each datagram that is written to it to a closure.
struct Each<F>(F);

impl<F: FnMut(&[u8])> Sink for Each<F> {
    fn datagram(&mut self, write: &mut dyn FnMut(&mut Vec<u8>) -> bool) -> bool {
        let mut datagram = Vec::new();
        let is_written = write(&mut datagram);
        if !datagram.is_empty() {
            (self.0)(&datagram);
        }
        is_written
    }
}

struct World {
    client: Link,
    server: Link,
    now: Instant,
    /// Datagrams on their way: when, to the server?, what.
    wire: VecDeque<(Instant, bool, Vec<u8>)>,
    /// Datagrams sent so far.
    count: usize,
    copies: fn(usize, usize) -> usize,
    argument: usize,
}

impl World {
    fn new() -> Self {
        Self::with_copies(0, |_, _| 1)
    }

    /// A network that delivers each datagram as many times as `copies` says for its number and `argument`.
    fn with_copies(argument: usize, copies: fn(usize, usize) -> usize) -> Self {
        let now = Instant::now();
        let (edge, viewer) = (Certificate::generate().unwrap(), Certificate::generate().unwrap());
        let client = Setup::new(&viewer, WINDOW_BYTES).unwrap();
        let server = Setup::new(&edge, WINDOW_BYTES).unwrap();
        Self {
            client: Link::client(&client, edge.fingerprint(), ENTROPY[0], now),
            server: Link::server(&server, false, ENTROPY[1], now),
            now,
            wire: VecDeque::new(),
            count: 0,
            copies,
            argument,
        }
    }

    fn opened() -> Self {
        let mut world = Self::new();
        assert!(world.run_until(|world| world.client.open().is_some() && world.server.open().is_some()));
        world
    }

    fn transmit(&mut self) {
        let Self { client, server, now, wire, count, copies, argument } = self;
        for (to_server, link) in [(true, client), (false, server)] {
            link.transmit(
                *now,
                &mut Each(|datagram: &[u8]| {
                    for _ in 0..copies(*count, *argument) {
                        wire.push_back((*now + TRIP, to_server, datagram.to_vec()));
                    }
                    *count += 1;
                }),
            );
        }
    }

    /// Runs until `done`, or nothing will happen any more, or patience is over. Says whether it was done.
    fn run_until(&mut self, mut done: impl FnMut(&mut Self) -> bool) -> bool {
        let end = self.now + PATIENCE;
        loop {
            self.transmit();
            if done(self) {
                return true;
            }
            let arrival = self.wire.front().map(|(at, _, _)| *at);
            let timers = [&mut self.client, &mut self.server].map(|link| link.next_timeout(self.now));
            let Some(next) = timers.into_iter().chain([arrival]).flatten().min().filter(|at| *at < end)
            else {
                return false;
            };
            self.now = self.now.max(next);
            while let Some((_, to_server, mut datagram)) =
                self.wire.pop_front_if(|(at, _, _)| *at <= self.now)
            {
                let link = if to_server { &mut self.server } else { &mut self.client };
                link.handle(&mut datagram, self.now);
            }
            self.client.handle_timeout(self.now);
            self.server.handle_timeout(self.now);
        }
    }

    /// Ports and verification tag of what the client sends to the server, and its next TSN.
    fn client_header(&mut self) -> ([u8; 8], u32) {
        self.client.write(Channel::Control, Bytes::from_static(b"x"), self.now);
        let mut packet = Vec::new();
        assert!(self.client.sctp.transmit(self.now, &mut packet));
        let tsn = u32::from_be_bytes(packet[16..20].try_into().unwrap());
        (packet[..8].try_into().unwrap(), tsn)
    }

    /// A page's own message on a stream, as it would send it.
    fn say(&mut self, stream: u16, ppi: u32, bytes: &'static [u8]) {
        let bytes = Bytes::from_static(bytes);
        let message =
            Outgoing { stream, ppi, bytes, is_unordered: false, reliability: Reliability::Reliable };
        let now = self.now;
        self.client.sctp.on_association(now, |association, at| association.send(message, at)).unwrap();
    }
}

fn packet(header: [u8; 8], chunks: &[u8]) -> Vec<u8> {
    let mut packet = [&header[..], &[0; 4], chunks].concat();
    let checksum = crc32c(&packet);
    packet[8..12].copy_from_slice(&checksum.to_le_bytes());
    packet
}

fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0x82F6_3B78 * (crc & 1)))
    })
}

fn chunk(kind: u8, flags: u8, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(4 + value.len()).unwrap();
    let mut chunk = [&[kind, flags][..], &length.to_be_bytes(), value].concat();
    chunk.resize(chunk.len().next_multiple_of(4), 0);
    chunk
}

#[test]
fn links_open_and_carry_messages() {
    let mut world = World::opened();
    for (length, channel) in
        [(0, Channel::Control), (MESSAGE_BYTES_MAX, Channel::Pieces), (1, Channel::Pieces)]
    {
        let bytes = Bytes::from(vec![9; length]);
        world.server.write(channel, bytes.clone(), world.now);
        assert!(world.run_until(|world| {
            world
                .client
                .read(world.now)
                .is_some_and(|message| message == Message { channel, bytes: bytes.clone() })
        }));
    }
}

#[test]
fn any_one_datagram_of_the_handshake_may_be_lost() {
    let mut world = World::opened();
    world.run_until(|_| false);
    let datagrams = world.count;
    assert!(datagrams >= 8, "{datagrams}");
    for lost in 0..datagrams {
        let mut world = World::with_copies(lost, |number, lost| usize::from(number != lost));
        let opened = world.run_until(|world| world.client.open().is_some() && world.server.open().is_some());
        assert!(
            opened,
            "without datagram {lost} of {datagrams}: {:?} {:?}",
            world.client.ended(),
            world.server.ended()
        );
    }
}

#[test]
fn datagrams_of_the_handshake_may_come_twice() {
    for argument in 0..12 {
        // All of them, or one and another lost.
        let copies: [fn(usize, usize) -> usize; 2] = [
            |_, _| 2,
            |number, argument| {
                [1, 2, 0][usize::from(number == argument) + 2 * usize::from(number == argument + 2)]
            },
        ];
        for copies in copies {
            let mut world = World::with_copies(argument, copies);
            let opened =
                world.run_until(|world| world.client.open().is_some() && world.server.open().is_some());
            assert!(opened, "{argument}: {:?} {:?}", world.client.ended(), world.server.ended());
        }
    }
}

/// What a viewer waits for: with the round trip of the check before it, which is not of the link.
#[test]
fn a_link_is_open_after_a_few_round_trips() {
    let mut world = World::new();
    let start = world.now;
    assert!(world.run_until(|world| world.client.open().is_some()));
    assert_eq!(world.now - start, 4 * TRIP, "two round trips: the handshake's, and one for SCTP");
}

#[test]
fn the_first_words_of_sctp_do_not_make_an_edge_an_amplifier() {
    let mut world = World::new();
    let mut hello = Vec::new();
    world.client.transmit(world.now, &mut Each(|datagram: &[u8]| hello = datagram.to_vec()));
    let (mut sent, mut count, mut now) = (0, 0, world.now);
    world.server.handle(&mut hello.clone(), now);
    for _ in 0..40 {
        world
            .server
            .transmit(now, &mut Each(|datagram: &[u8]| (sent, count) = (sent + datagram.len(), count + 1)));
        now += Duration::from_millis(250);
        world.server.handle_timeout(now);
    }
    assert!(
        count > 3 && sent > 2 * hello.len() && sent <= 3 * hello.len(),
        "{sent} in {count} for {}",
        hello.len()
    );
    assert!(!world.server.is_proven());
}

#[test]
fn a_handshake_survives_the_loss_of_every_third_datagram() {
    for phase in 0..3 {
        let mut world = World::with_copies(phase, |number, phase| usize::from(number % 3 != phase));
        assert!(
            world.run_until(|world| world.client.open().is_some() && world.server.open().is_some()),
            "{phase}"
        );
    }
}

#[test]
fn a_lost_message_comes_again_and_is_counted() {
    let mut world = World::opened();
    world.argument = world.count;
    world.copies = |number, lost| usize::from(number != lost);
    world.server.write(Channel::Pieces, Bytes::from(vec![1; 60_000]), world.now);
    assert!(world.run_until(|world| world.client.read(world.now).is_some()));
    assert!(world.run_until(|world| world.server.stats().bytes_acknowledged == 60_000));
    assert_eq!(world.server.stats().retransmits, 1);
}

#[test]
fn a_close_waits_for_what_was_written() {
    let mut world = World::opened();
    world.server.write(Channel::Pieces, Bytes::from(vec![1; 60_000]), world.now);
    world.server.close(world.now);
    assert!(world.run_until(|world| world.client.read(world.now).is_some()));
    assert!(world.run_until(|world| world.client.ended().is_some()));
    assert_eq!(world.client.ended(), Some(Ended::Closed(CloseReason::Peer)));
    assert_eq!(world.server.ended(), Some(Ended::Closed(CloseReason::Local)));
}

#[test]
fn a_forged_alert_or_handshake_does_not_end_an_open_link() {
    let mut world = World::opened();
    for forged in [
        // A fatal alert, a close_notify and a ClientHello in clear, as anybody can send.
        &[21, 0xFE, 0xFD, 0, 0, 0, 0, 0, 0, 0, 9, 0, 2, 2, 40][..],
        &[21, 0xFE, 0xFD, 0, 0, 0, 0, 0, 0, 0, 10, 0, 2, 1, 0],
        &[22, 0xFE, 0xFD, 0, 0, 0, 0, 0, 0, 0, 11, 0, 13, 1, 0, 0, 1, 0, 9, 0, 0, 0, 0, 0, 1, 0],
        &[23, 0xFE, 0xFD, 0, 1, 0, 0, 0, 0, 0, 99, 0, 30].iter().copied().chain([7; 30]).collect::<Vec<_>>(),
    ] {
        assert!(!world.server.handle(&mut forged.to_vec(), world.now), "{forged:?} is not authentic");
        assert!(!world.client.handle(&mut forged.to_vec(), world.now), "{forged:?} is not authentic");
    }
    world.client.write(Channel::Control, Bytes::from_static(b"alive"), world.now);
    assert!(world.run_until(|world| world.server.read(world.now).is_some()));
}

#[test]
fn a_handshake_of_endless_crumbs_is_cut_off() {
    let mut world = World::new();
    // One-byte pieces of a ClientHello that is never whole.
    let crumb =
        [22, 0xFE, 0xFD, 0, 0, 0, 0, 0, 0, 0, 0, 0, 13, 1, 0xFF, 0xFF, 0xFF, 0, 0, 0, 0, 0, 0, 0, 1, 7];
    let mut taken = 0;
    while world.server.ended().is_none() {
        let mut crumb = crumb;
        crumb[9..11].copy_from_slice(&u16::try_from(taken).unwrap().to_be_bytes());
        crumb[20..22].copy_from_slice(&u16::try_from(taken).unwrap().to_be_bytes());
        world.server.handle(&mut crumb, world.now);
        taken += 1;
        assert!(taken < 10_000);
    }
}

#[test]
fn a_peer_that_closes_one_channel_closes_the_connection() {
    for (stream, ended) in [(1, Some(Ended::Closed(CloseReason::Peer))), (4, None)] {
        let mut world = World::opened();
        world.say(stream, 53, b"last words");
        world.client.sctp.on_association(world.now, |association, _| association.reset(stream)).unwrap();
        let mut said = None;
        world.run_until(|world| {
            said = said.take().or(world.server.read(world.now));
            false
        });
        assert_eq!(said.is_some(), stream == 1);
        assert_eq!(world.server.ended(), ended, "stream {stream}");
    }
}

#[test]
fn a_stream_beyond_the_negotiated_ends_the_connection() {
    let mut world = World::opened();
    let (header, tsn) = world.client_header();
    let value = [&tsn.to_be_bytes()[..], &[0, 16], &[0; 10], b"x"].concat();
    let mut record = Vec::new();
    let hostile = packet(header, &chunk(64, 3, &value));
    world.client.dtls.seal(&mut record, |out| out.extend_from_slice(&hostile)).unwrap();
    world.server.handle(&mut record, world.now);
    assert!(matches!(world.server.ended(), Some(Ended::Closed(CloseReason::Misbehaviour(_)))));
}

#[test]
fn other_channels_are_acknowledged_and_ignored() {
    let mut world = World::opened();
    // DATA_CHANNEL_OPEN, then a message, on a stream that is not ours.
    world.say(6, 50, &[3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    world.say(6, 53, b"hello");
    world.say(0, 53, b"ours");
    let mut said = Vec::new();
    world.run_until(|world| {
        said.extend(world.server.read(world.now));
        false
    });
    assert_eq!(said.iter().map(|message| &message.bytes[..]).collect::<Vec<_>>(), [b"ours"]);
    // The answer was made while we read.
    world.run_until(|_| false);
    assert_eq!(world.server.ended(), None);
    let answered = world.client.sctp.on_association(world.now, |association, _| association.recv()).unwrap();
    assert_eq!((answered.stream, answered.ppi, &answered.bytes[..]), (6, 50, &[2][..]));
}

#[test]
fn opening_channels_for_ever_is_answered_for_a_while() {
    let mut world = World::opened();
    for _ in 0..10 {
        for _ in 0..100 {
            world.say(6, 50, &[3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        }
        world.run_until(|world| world.server.read(world.now).is_some());
    }
    let answers = world
        .client
        .sctp
        .on_association(world.now, |association, _| std::iter::from_fn(|| association.recv()).count());
    assert_eq!(answers, 64);
    assert_eq!(world.server.ended(), None);
}

mod chaos {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

        /// Whatever a peer says after its handshake, it ends at most its own connection.
        #[test]
        fn no_authentic_packet_harms_more_than_its_own_link(
            packets in proptest::collection::vec(
                proptest::collection::vec(
                    (
                        prop_oneof![0_u8..15, Just(130), Just(192), any::<u8>()],
                        any::<u8>(),
                        proptest::collection::vec(any::<u8>(), 0..60),
                        any::<bool>(),
                    ),
                    1..4,
                ),
                1..40,
            ),
        ) {
            let mut world = World::opened();
            let (header, tsn) = world.client_header();
            let World { mut client, server, now, .. } = world;
            let peer = std::net::SocketAddr::from(([127, 0, 0, 1], 2));
            let mut session = Session::new(server);
            let port = session
                .take_opened(crate::connection::Limits { send_bytes_max: 1, inbox_bytes_max: 1_000 }, peer)
                .unwrap();
            for (number, chunks) in packets.into_iter().enumerate() {
                let mut bytes = Vec::new();
                for (kind, flags, mut value, is_near) in chunks {
                    // Half of them name a TSN near the expected one, where most of the engine's code is.
                    if is_near && value.len() >= 4 {
                        let near = tsn.wrapping_add(u32::from(value[0] % 8)).wrapping_add(u32::try_from(number).unwrap());
                        value[..4].copy_from_slice(&near.to_be_bytes());
                    }
                    bytes.extend(chunk(kind, flags, &value));
                }
                let mut record = Vec::new();
                client.dtls.seal(&mut record, |out| out.extend_from_slice(&packet(header, &bytes))).unwrap();
                session.handle(&mut record, now);
                session.pump(peer, now, &mut Each(|_: &[u8]| {}));
                session.handle_timeout(now + Duration::from_secs(2));
                session.pump(peer, now + Duration::from_secs(2), &mut Each(|_: &[u8]| {}));
            }
            drop(port);
        }
    }
}
