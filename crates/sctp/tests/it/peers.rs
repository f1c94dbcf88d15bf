//! Peers that are not like us: with fewer extensions, other ways to acknowledge, or a broken memory.

use std::time::Duration;

use bytes::Bytes;
use millstream_sctp::{
    Config, Event, Outgoing, Reliability,
    wire::{Chunk, InitFields, Packet, Sequence},
};

use crate::forged::{FIRST_TSN, Forged, all, chunks, plain, tsns};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

#[test]
fn a_peer_that_speaks_no_extension_gets_plain_data_and_all_of_it() {
    let mut forged = Forged::opened(&Config::default(), &plain());
    let outgoing = Outgoing {
        stream: 1,
        ppi: 53,
        bytes: Bytes::from(vec![1; 5_000]),
        is_unordered: false,
        reliability: Reliability::Retransmissions(0),
    };
    forged.association.send(outgoing, forged.now).unwrap();
    let first = forged.answers();
    let is_plain = |chunk: &Chunk<'_>| match chunk {
        Chunk::Data(data) => Some(matches!(data.sequence, Sequence::Ssn(_))),
        _ => None,
    };
    assert!(first.iter().flat_map(|packet| chunks(packet, is_plain)).all(|is_plain| is_plain));
    assert_eq!(tsns(&first).len(), 5);
    // Nothing is acknowledged: to such a peer every message is reliable.
    let later = forged.wait(10 * SECOND);
    let is_forward = |chunk: &Chunk<'_>| matches!(chunk, Chunk::ForwardTsn(_)).then_some(());
    assert_eq!(later.iter().flat_map(|packet| chunks(packet, is_forward)).count(), 0);
    assert!(tsns(&later).contains(&forged.their_tsn), "given up");
    assert!(!forged.association.is_drained());
}

#[test]
fn a_reset_is_refused_for_a_peer_that_knows_none() {
    let mut forged = Forged::opened(&Config::default(), &plain());
    forged.association.reset(1).unwrap();
    let said = forged.wait(2 * SECOND);
    let is_reconfig = |chunk: &Chunk<'_>| matches!(chunk, Chunk::Reconfig(_)).then_some(());
    assert_eq!(said.iter().flat_map(|packet| chunks(packet, is_reconfig)).count(), 0);
    assert!(forged.events.contains(&Event::Reset { stream: 1, is_done: false }));
}

#[test]
fn a_peer_with_fewer_streams_is_sent_nothing_beyond_them() {
    let mut forged = Forged::opened(&Config::default(), &InitFields { inbound: 2, ..all() });
    let message = |stream| Outgoing {
        stream,
        ppi: 53,
        bytes: Bytes::from_static(b"x"),
        is_unordered: false,
        reliability: Reliability::Reliable,
    };
    assert!(forged.association.send(message(1), forged.now).is_ok());
    assert!(forged.association.send(message(2), forged.now).is_err());
}

#[test]
fn a_peer_may_acknowledge_each_packet_on_its_own() {
    let config = Config { send_bytes_max: 4 << 20, ..Config::default() };
    let mut forged = Forged::opened(&config, &plain());
    for _ in 0..40 {
        let bytes = Bytes::from(vec![1; 50_000]);
        let message =
            Outgoing { stream: 1, ppi: 53, bytes, is_unordered: false, reliability: Reliability::Reliable };
        forged.association.send(message, forged.now).unwrap();
    }
    let mut packets = forged.answers();
    let (mut sent, mut acknowledged) = (0, forged.their_tsn.wrapping_sub(1));
    for _ in 0..10_000 {
        sent += tsns(&packets).len();
        forged.now = forged.now + 20 * MS;
        let arrived = tsns(&packets);
        packets = Vec::new();
        for tsn in arrived {
            acknowledged = tsn;
            packets.extend(forged.say(|writer| writer.sack(tsn, 1 << 20, [], &[])));
        }
        packets.extend(forged.wait(MS));
        if forged.association.is_drained() {
            break;
        }
    }
    assert!(forged.association.is_drained(), "{acknowledged} of {:?}", forged.association.stats());
    assert_eq!(forged.association.stats().retransmits, 0);
    assert_eq!(sent, usize::try_from(forged.association.stats().chunks_sent).unwrap());
}

#[test]
fn an_acknowledgement_of_what_was_never_sent_frees_nothing() {
    for gap in [false, true] {
        let mut forged = Forged::opened(&Config::default(), &plain());
        let sent = tsns(&forged.send(5_000));
        let (first, last) = (sent[0], sent[sent.len() - 1]);
        let acknowledged = if gap { first.wrapping_sub(1) } else { last.wrapping_add(1_000) };
        let gaps = gap.then_some((2, 60_000));
        forged.say(|writer| writer.sack(acknowledged, 1 << 20, gaps, &[]));
        assert!(forged.closed().is_some() || !forged.association.is_drained(), "gap: {gap}");
        assert!(forged.association.stats().bytes_acknowledged < 5_000, "gap: {gap}");
    }
}

#[test]
fn an_old_acknowledgement_is_passed_over() {
    let mut forged = Forged::opened(&Config::default(), &plain());
    let sent = tsns(&forged.send(5_000));
    forged.now = forged.now + 20 * MS;
    let last = sent[sent.len() - 1];
    forged.say(|writer| writer.sack(last, 1 << 20, [], &[]));
    assert!(forged.association.is_drained());
    // Were its window believed, nothing would leave any more.
    forged.say(|writer| writer.sack(last.wrapping_sub(3), 0, [], &[]));
    assert!(!forged.send(3_000).is_empty());
    assert_eq!(forged.closed(), None);
}

/// RFC 9260 §6.2: a receiver may take gaps back. Nobody does; but whoever does gets it all again.
#[test]
fn gaps_that_are_taken_back_are_sent_again() {
    let mut forged = Forged::opened(&Config::default(), &plain());
    let sent = tsns(&forged.send(8_000));
    assert!(sent.len() >= 7);
    let before = sent[0].wrapping_sub(1);
    forged.now = forged.now + 20 * MS;
    let last = u16::try_from(sent.len()).unwrap();
    forged.say(|writer| writer.sack(before, 1 << 20, [(2, last)], &[]));
    let mut said = forged.wait(300 * MS);
    assert!(tsns(&said).contains(&sent[0]), "the gap is closed");
    // The first has come, and all others are gone. From now on what comes is kept, and acknowledged as far as it goes.
    let mut arrived = sent[0];
    for _ in 0..20 {
        said = forged.say(|writer| writer.sack(arrived, 1 << 20, [], &[]));
        said.extend(forged.wait(SECOND));
        for tsn in tsns(&said) {
            arrived = if tsn == arrived.wrapping_add(1) { tsn } else { arrived };
        }
    }
    assert_eq!(arrived, sent[sent.len() - 1]);
    assert!(forged.association.is_drained());
    assert_eq!(forged.closed(), None);
}

#[test]
fn a_peer_that_leaves_out_the_last_padding_is_understood() {
    let mut forged = Forged::opened(&Config::default(), &plain());
    let mut packet = crate::forged::packet(forged.tag, |writer| {
        writer.data(&crate::forged::data(FIRST_TSN, 1, 0, true, true, b"abcde"));
    });
    packet.truncate(packet.len() - 3);
    // The checksum is another one now.
    packet[8..12].fill(0);
    let checksum = crc32c(&packet);
    packet[8..12].copy_from_slice(&checksum.to_le_bytes());
    assert!(Packet::parse(&packet, false).is_ok());
    forged.hand(&packet);
    assert_eq!(forged.association.recv().unwrap().bytes, b"abcde"[..]);
}

/// Bit by bit, as RFC 9260 appendix A has it.
fn crc32c(bytes: &[u8]) -> u32 {
    let mut crc = !0_u32;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0x82F6_3B78 & (crc & 1).wrapping_neg());
        }
    }
    !crc
}

#[test]
fn a_shutdown_acknowledges_what_it_says_has_arrived() {
    let mut forged = Forged::opened(&Config::default(), &plain());
    let sent = tsns(&forged.send(5_000));
    let last = sent[sent.len() - 1];
    let before = forged.say(|writer| writer.shutdown(last.wrapping_sub(1)));
    let is_ack = |chunk: &Chunk<'_>| matches!(chunk, Chunk::ShutdownAck).then_some(());
    assert_eq!(before.iter().flat_map(|packet| chunks(packet, is_ack)).count(), 0, "one chunk is missing");
    let after = forged.say(|writer| writer.shutdown(last));
    assert_eq!(after.iter().flat_map(|packet| chunks(packet, is_ack)).count(), 1);
    assert!(forged.association.is_drained());
}
