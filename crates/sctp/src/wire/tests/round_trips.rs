//! What we write, we read: every chunk, with any content. And nothing that is read panics.

use proptest::{collection::vec, prelude::*};

use super::{super::*, only, packet, sealed};

fn data() -> impl Strategy<Value = (Data<'static>, Vec<u8>)> {
    let sequence = prop_oneof![
        any::<u16>().prop_map(Sequence::Ssn),
        any::<(u32, u32)>().prop_map(|(mid, fsn)| Sequence::Mid { mid, fsn }),
    ];
    (any::<(u32, u16, u32)>(), any::<[bool; 4]>(), sequence, vec(any::<u8>(), 1..60)).prop_map(
        |((tsn, stream, ppi), [begins, ends, is_unordered, is_immediate], sequence, payload)| {
            let (ppi, sequence) = match sequence {
                Sequence::Mid { mid, .. } if begins => (ppi, Sequence::Mid { mid, fsn: 0 }),
                Sequence::Mid { .. } => (0, sequence),
                Sequence::Ssn(_) => (ppi, sequence),
            };
            let data = Data {
                tsn,
                stream,
                ppi,
                begins,
                ends,
                is_unordered,
                is_immediate,
                sequence,
                payload: b"filled in later",
            };
            (data, payload)
        },
    )
}

/// Blocks that ascend, out of the lengths of gaps and blocks.
fn blocks(lengths: &[(u8, u8)]) -> Vec<(u16, u16)> {
    let mut last = 0;
    let block = |&(gap, more): &(u8, u8)| {
        let start = last + 1 + u16::from(gap);
        last = start + u16::from(more);
        (start, last)
    };
    lengths.iter().map(block).collect()
}

proptest! {
    #[test]
    fn data_of_both_kinds(chunks in vec(data(), 1..5)) {
        let chunks: Vec<Data<'_>> =
            chunks.iter().map(|(data, payload)| Data { payload, ..*data }).collect();
        let bytes = packet(|writer| chunks.iter().for_each(|data| writer.data(data)));
        let parsed = Packet::parse(&bytes, false).unwrap();
        prop_assert_eq!((parsed.source_port, parsed.destination_port, parsed.tag), (5_000, 5_001, 0xdead_beef));
        prop_assert!(parsed.chunks().eq(chunks.iter().map(|data| Ok(Chunk::Data(*data)))));
        let room = |data: &Data<'_>| (data.header_bytes() + data.payload.len()).next_multiple_of(4);
        prop_assert_eq!(bytes.len(), COMMON_HEADER_BYTES + chunks.iter().map(room).sum::<usize>());
    }

    #[test]
    fn inits_with_all_that_they_say(
        (tag, window, outbound, inbound, tsn) in any::<(u32, u32, u16, u16, u32)>(),
        [interleaving, reset, forward_tsn, zero_checksum] in any::<[bool; 4]>(),
        cookie in proptest::option::of(vec(any::<u8>(), 0..80)),
        is_ack: bool,
    ) {
        let fields = InitFields {
            tag,
            window,
            outbound,
            inbound,
            tsn,
            supports_interleaving: interleaving,
            supports_reset: reset,
            supports_forward_tsn: forward_tsn,
            zero_checksum,
            unrecognised: Unrecognised::default(),
        };
        let bytes = packet(|writer| writer.init(&fields, cookie.as_deref(), is_ack));
        let read = match only(&bytes) {
            Ok(Chunk::Init(read)) if !is_ack => read,
            Ok(Chunk::InitAck(read)) if is_ack => read,
            other => return Err(TestCaseError::fail(format!("{other:?}"))),
        };
        prop_assert_eq!(read.cookie(), cookie.as_deref());
        let again = InitFields {
            tag: read.tag,
            window: read.window,
            outbound: read.outbound,
            inbound: read.inbound,
            tsn: read.tsn,
            supports_interleaving: read.supports_interleaving(),
            supports_reset: read.supports_reset(),
            supports_forward_tsn: read.supports_forward_tsn(),
            zero_checksum: read.zero_checksum(),
            unrecognised: Unrecognised::default(),
        };
        prop_assert_eq!(again, fields);
        prop_assert_eq!(read.unrecognised().count(), 0);
    }

    #[test]
    fn sacks(
        (cumulative, window) in any::<(u32, u32)>(),
        lengths in vec(any::<(u8, u8)>(), 0..60),
        duplicates in vec(any::<u32>(), 0..5),
    ) {
        let blocks = blocks(&lengths);
        let bytes = packet(|writer| writer.sack(cumulative, window, blocks.iter().copied(), &duplicates));
        let Ok(Chunk::Sack(sack)) = only(&bytes) else { return Err(TestCaseError::fail("no SACK")) };
        prop_assert_eq!((sack.cumulative, sack.window, sack.duplicates()), (cumulative, window, duplicates.len()));
        prop_assert!(sack.gaps().eq(blocks.iter().copied()));
        prop_assert_eq!(sack.gap_bytes().len(), 4 * blocks.len());
    }

    #[test]
    fn opaque_contents(content in vec(any::<u8>(), 0..50), code: u16) {
        let bytes = packet(|writer| {
            writer.heartbeat(&content);
            writer.heartbeat_ack(&content);
            writer.cookie_echo(&content);
            writer.error(code, &content);
            writer.abort(code, &content);
            writer.abort_reflected(code, &content);
        });
        let chunks: Vec<_> = Packet::parse(&bytes, false).unwrap().chunks().map(Result::unwrap).collect();
        let cause = Some(Cause { code, value: &content });
        let expected = [
            Chunk::Heartbeat(&content),
            Chunk::HeartbeatAck(&content),
            Chunk::CookieEcho(&content),
            Chunk::Error { cause },
            Chunk::Abort { cause, is_reflected: false },
            Chunk::Abort { cause, is_reflected: true },
        ];
        prop_assert_eq!(chunks, expected);
    }

    #[test]
    fn ends_and_nothings(tsn: u32, is_reflected: bool, length in 1..400_usize) {
        let bytes = packet(|writer| {
            writer.shutdown(tsn);
            writer.shutdown_ack();
            writer.shutdown_complete(is_reflected);
            writer.cookie_ack();
            writer.pad(4 * length);
        });
        let chunks: Vec<_> = Packet::parse(&bytes, false).unwrap().chunks().map(Result::unwrap).collect();
        let expected = [
            Chunk::Shutdown(tsn),
            Chunk::ShutdownAck,
            Chunk::ShutdownComplete { is_reflected },
            Chunk::CookieAck,
            Chunk::Pad,
        ];
        prop_assert_eq!(chunks, expected);
        prop_assert_eq!(bytes.len(), COMMON_HEADER_BYTES + 8 + 4 + 4 + 4 + 4 * length);
    }

    #[test]
    fn what_will_not_come(
        cumulative: u32,
        plain in vec(any::<(u16, u16)>(), 0..9),
        mids in vec(any::<(u16, bool, u32)>(), 0..9),
    ) {
        let bytes = packet(|writer| {
            writer.forward_tsn(cumulative, plain.iter().copied());
            writer.i_forward_tsn(cumulative, mids.iter().copied());
        });
        let chunks: Vec<_> = Packet::parse(&bytes, false).unwrap().chunks().map(Result::unwrap).collect();
        let [Chunk::ForwardTsn(first), Chunk::ForwardTsn(second)] = chunks[..] else {
            return Err(TestCaseError::fail(format!("{chunks:?}")));
        };
        prop_assert_eq!((first.cumulative, first.is_interleaved), (cumulative, false));
        prop_assert_eq!((second.cumulative, second.is_interleaved), (cumulative, true));
        let expected = plain.iter().map(|&(stream, ssn)| Skipped {
            stream,
            is_unordered: false,
            sequence: Sequence::Ssn(ssn),
        });
        prop_assert!(first.skipped().eq(expected));
        let expected = mids.iter().map(|&(stream, is_unordered, mid)| Skipped {
            stream,
            is_unordered,
            sequence: Sequence::Mid { mid, fsn: 0 },
        });
        prop_assert!(second.skipped().eq(expected));
    }

    #[test]
    fn resets((request, response, last_tsn) in any::<(u32, u32, u32)>(), streams in vec(any::<u16>(), 0..9)) {
        let bytes = packet(|writer| writer.reset_request(request, response, last_tsn, streams.iter().copied()));
        let Ok(Chunk::Reconfig(reconfig)) = only(&bytes) else {
            return Err(TestCaseError::fail("no RE-CONFIG"));
        };
        let all: Vec<_> = reconfig.parameters().collect();
        let [Reset::Outgoing { request: a, response: b, last_tsn: c, streams: read }] = all[..] else {
            return Err(TestCaseError::fail(format!("{all:?}")));
        };
        prop_assert_eq!((a, b, c), (request, response, last_tsn));
        prop_assert_eq!(read.is_all(), streams.is_empty());
        prop_assert!(read.eq(streams));
    }

    #[test]
    fn answers_to_resets(sequence: u32, result in 0_u32..7) {
        let outcomes = [
            Outcome::NothingToDo,
            Outcome::Performed,
            Outcome::Denied,
            Outcome::WrongStream,
            Outcome::Busy,
            Outcome::BadSequence,
            Outcome::InProgress,
        ];
        let outcome = outcomes[usize::try_from(result).unwrap()];
        let bytes = packet(|writer| writer.reset_response(sequence, outcome));
        prop_assert_eq!(&bytes[bytes.len() - 4..], result.to_be_bytes());
        let Ok(Chunk::Reconfig(reconfig)) = only(&bytes) else {
            return Err(TestCaseError::fail("no RE-CONFIG"));
        };
        let answer = Reset::Response { sequence, result: outcome };
        prop_assert!(reconfig.parameters().eq([answer]));
    }

    #[test]
    fn a_packet_taken_back_leaves_no_trace(before in vec(any::<u8>(), 0..9), content in vec(any::<u8>(), 0..9)) {
        let mut out = before.clone();
        let mut writer = Writer::begin(&mut out, 1, 2, 3);
        prop_assert!(writer.is_empty());
        writer.heartbeat(&content);
        prop_assert!(!writer.is_empty());
        writer.cancel();
        prop_assert_eq!(out, before);
    }

    #[test]
    fn any_bytes_are_read_to_an_end(bytes in vec(any::<u8>(), 0..300), kind in 0..20_usize, flags: u8) {
        let _ = Packet::parse(&bytes, true);
        let kinds = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 14, 64, 130, 132, 192, 194, 255];
        let length = u16::try_from(4 + bytes.len()).unwrap().to_be_bytes();
        let framed = sealed(&[&[kinds[kind], flags, length[0], length[1]], &bytes[..]].concat());
        for bytes in [&framed, &sealed(&bytes)] {
            for chunk in Packet::parse(bytes, false).unwrap().chunks() {
                match chunk {
                    Ok(Chunk::Init(init) | Chunk::InitAck(init)) => drop(init.unrecognised().count()),
                    Ok(Chunk::ForwardTsn(forward)) => drop(forward.skipped().count()),
                    Ok(Chunk::Reconfig(reconfig)) => assert!((1..=2).contains(&reconfig.parameters().count())),
                    Ok(Chunk::Sack(sack)) => assert!(sack.gaps().is_sorted()),
                    Ok(Chunk::Data(data)) => assert!(!data.payload.is_empty()),
                    _ => {}
                }
            }
        }
    }
}
