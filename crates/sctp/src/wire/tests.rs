//! Packets as others send them, packets with something wrong, and (`round_trips`) packets as we send them.

use super::*;

mod round_trips;

/// One packet of ours with its checksum, behind another one that leaves the buffer unaligned.
fn packet(write: impl FnOnce(&mut Writer<'_>)) -> Vec<u8> {
    let mut out = b"odd".to_vec();
    let mut writer = Writer::begin(&mut out, 5_000, 5_001, 0xdead_beef);
    write(&mut writer);
    let bytes = writer.len();
    writer.finish(true);
    assert_eq!(out.len() - 3, bytes);
    assert!(bytes.is_multiple_of(4));
    out.split_off(3)
}

/// A packet of one chunk, written by hand: kind, flags, body.
fn by_hand(kind: u8, flags: u8, body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(4 + body.len()).unwrap().to_be_bytes();
    sealed(&[&[kind, flags, length[0], length[1]], body].concat())
}

/// A packet of these chunks with its checksum.
fn sealed(chunks: &[u8]) -> Vec<u8> {
    let mut packet = [&[0x13, 0x88, 0x13, 0x88, 0, 0, 0, 1, 0, 0, 0, 0], chunks].concat();
    let crc = crc32c_bit_by_bit(&packet);
    packet[8..12].copy_from_slice(&crc.to_le_bytes());
    packet
}

/// Castagnoli's polynomial, as slow and plain as can be.
fn crc32c_bit_by_bit(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, byte| {
        (0..8).fold(
            crc ^ u32::from(*byte),
            |crc: u32, _| {
                if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 }
            },
        )
    })
}

fn chunks(packet: &[u8]) -> Vec<Result<Chunk<'_>, Malformed>> {
    Packet::parse(packet, false).unwrap().chunks().collect()
}

fn only(packet: &[u8]) -> Result<Chunk<'_>, Malformed> {
    let all = chunks(packet);
    assert_eq!(all.len(), 1, "{all:?}");
    all[0]
}

/// An INIT of usrsctp's (Firefox), caught on its way.
const USRSCTP_INIT: [u8; 100] = [
    0x13, 0x88, 0x13, 0x88, 0x00, 0x00, 0x00, 0x00, 0x81, 0x46, 0x9d, 0xfc, // header
    0x01, 0x00, 0x00, 0x56, 0x55, 0xb9, 0x64, 0xa5, 0x00, 0x02, 0x00, 0x00, // INIT
    0x04, 0x00, 0x08, 0x00, 0xe8, 0x6d, 0x10, 0x30, //
    0xc0, 0x00, 0x00, 0x04, // forward TSN
    0x80, 0x08, 0x00, 0x09, 0xc0, 0x0f, 0xc1, 0x80, 0x82, 0x00, 0x00, 0x00, // extensions
    0x80, 0x02, 0x00, 0x24, 0x9f, 0xeb, 0xbb, 0x5c, 0x50, 0xc9, 0xbf, 0x75, // random
    0x9c, 0xb1, 0x2c, 0x57, 0x4f, 0xa4, 0x5a, 0x51, 0xba, 0x60, 0x17, 0x78, //
    0x27, 0x94, 0x5c, 0x31, 0xe6, 0x5d, 0x5b, 0x09, 0x47, 0xe2, 0x22, 0x06, //
    0x80, 0x04, 0x00, 0x06, 0x00, 0x01, 0x00, 0x00, // HMACs
    0x80, 0x03, 0x00, 0x06, 0x80, 0xc1, 0x00, 0x00, // chunks
];

#[test]
fn an_init_of_usrsctp_reads_with_its_checksum() {
    let packet = Packet::parse(&USRSCTP_INIT, false).unwrap();
    assert_eq!((packet.source_port, packet.destination_port, packet.tag), (5_000, 5_000, 0));
    let Ok(Chunk::Init(init)) = only(&USRSCTP_INIT) else { panic!() };
    assert_eq!((init.tag, init.window, init.tsn), (0x55b9_64a5, 131_072, 0xe86d_1030));
    assert_eq!((init.outbound, init.inbound), (1_024, 2_048));
    assert!(init.supports_forward_tsn() && init.supports_reset());
    assert!(!init.supports_interleaving() && !init.zero_checksum() && init.cookie().is_none());
    assert_eq!(init.unrecognised().count(), 0, "those we do not know want no report");
}

/// What dcSCTP sends when a field trial lets it interleave and leave checksums out: INIT with 5 MiB of window, all
/// streams, and its parameters in its order.
#[test]
fn an_init_of_chromium_reads() {
    let body: &[&[u8]] = &[
        &[0xfd, 0x87, 0x1b, 0x3c, 0x00, 0x50, 0x00, 0x00, 0xff, 0xff, 0xff, 0xff, 0x12, 0x34, 0x56, 0x78],
        &[0xc0, 0x00, 0x00, 0x04],
        &[0x80, 0x01, 0x00, 0x08, 0x00, 0x00, 0x00, 0x01],
        &[0x80, 0x08, 0x00, 0x08, 0x82, 0xc0, 0x40, 0xc2],
    ];
    let packet = by_hand(1, 0, &body.concat());
    let Ok(Chunk::Init(init)) = only(&packet) else { panic!() };
    assert_eq!((init.tag, init.window, init.tsn), (0xfd87_1b3c, 5 << 20, 0x1234_5678));
    assert_eq!((init.outbound, init.inbound), (u16::MAX, u16::MAX));
    assert!(init.supports_forward_tsn() && init.supports_reset());
    assert!(init.supports_interleaving() && init.zero_checksum());
}

#[test]
fn the_checksum_is_crc32c_with_the_least_significant_byte_first() {
    let ours = packet(|writer| writer.shutdown(7));
    let mut blank = ours.clone();
    blank[8..12].fill(0);
    assert_eq!(ours[8..12], crc32c_bit_by_bit(&blank).to_le_bytes());
    for at in 0..ours.len() {
        let mut changed = ours.clone();
        changed[at] ^= 0x10;
        assert_eq!(Packet::parse(&changed, false).unwrap_err(), Malformed::Checksum);
    }
}

#[test]
fn a_zero_checksum_is_taken_where_it_is_agreed_on_and_the_right_one_always() {
    let mut out = Vec::new();
    let mut writer = Writer::begin(&mut out, 1, 2, 3);
    writer.cookie_ack();
    writer.finish(false);
    assert_eq!(Packet::parse(&out, false).unwrap_err(), Malformed::Checksum);
    assert!(Packet::parse(&out, true).is_ok());
    assert!(Packet::parse(&USRSCTP_INIT, true).is_ok());
    out[8] = 1;
    assert_eq!(Packet::parse(&out, true).unwrap_err(), Malformed::Checksum);
}

#[test]
fn padding_is_passed_over_and_may_lack_at_the_end() {
    let data = [0, 3, 0, 17, 0, 0, 0, 7, 0, 1, 0, 2, 0, 0, 0, 51, b'x'];
    let sloppy = [&data[..], &[1, 2, 3], &data[..]].concat();
    let bytes = sealed(&sloppy);
    let all = chunks(&bytes);
    assert_eq!(all.len(), 2);
    assert_eq!(all[0], all[1]);
    let Ok(Chunk::Data(read)) = all[0] else { panic!() };
    assert_eq!((read.tsn, read.stream, read.ppi, read.payload), (7, 1, 51, &b"x"[..]));
    assert_eq!(read.sequence, Sequence::Ssn(2));
    assert!(read.begins && read.ends && !read.is_unordered && !read.is_immediate);
}

#[test]
fn nothing_is_read_behind_what_is_malformed() {
    let bytes = sealed(&[[11, 0, 0, 4], [11, 0, 0, 3], [11, 0, 0, 4]].concat());
    assert_eq!(chunks(&bytes), [Ok(Chunk::CookieAck), Err(Malformed::Length)]);
    let bytes = sealed(&[11, 0, 0, 5, 9, 0, 0, 0, 11, 0, 0, 4]);
    assert_eq!(chunks(&bytes), [Err(Malformed::Chunk(11))]);
}

#[test]
fn a_chunk_cut_anywhere_is_no_chunk() {
    let wholes: [Vec<u8>; 6] = [
        USRSCTP_INIT.to_vec(),
        packet(|writer| writer.sack(1, 2, [(2, 3), (5, 9)], &[7])),
        packet(|writer| writer.heartbeat(b"1234")),
        packet(|writer| writer.i_forward_tsn(9, [(1, true, 2)])),
        packet(|writer| writer.reset_request(1, 2, 3, [4, 5])),
        packet(|writer| writer.abort(cause::USER_ABORT, b"over")),
    ];
    for whole in wholes {
        assert!(only(&whole).is_ok());
        for length in 1..whole.len() - COMMON_HEADER_BYTES {
            let cut = &whole[COMMON_HEADER_BYTES..COMMON_HEADER_BYTES + length];
            if whole == USRSCTP_INIT && length >= 86 {
                assert_eq!(only(&sealed(cut)), only(&whole), "only padding is missing");
            } else {
                assert_eq!(only(&sealed(cut)), Err(Malformed::Length), "{length}");
            }
        }
    }
    for length in 0..COMMON_HEADER_BYTES {
        assert_eq!(Packet::parse(&USRSCTP_INIT[..length], true).unwrap_err(), Malformed::Header);
    }
}

#[test]
fn a_chunk_whose_body_is_cut_is_malformed_and_says_its_kind() {
    let refused =
        |kind: u8, body: &[u8]| assert_eq!(only(&by_hand(kind, 0, body)), Err(Malformed::Chunk(kind)));
    let fixed_bytes = [(0, 12), (64, 16), (1, 16), (2, 16), (3, 12), (7, 4), (192, 4), (194, 4)];
    for (kind, fixed) in fixed_bytes {
        (0..fixed).for_each(|length| refused(kind, &[0; 16][..length]));
    }
    refused(7, &[0; 5]);
    [8, 11, 14].into_iter().for_each(|kind| refused(kind, &[0]));
    refused(192, &[0; 6]);
    refused(194, &[0; 8]);
    refused(4, &[]);
    refused(4, &[0, 2, 0, 4]);
    refused(5, &[0, 1, 0, 3]);
    refused(5, &[0, 1, 0, 5]);
    refused(6, &[0, 12, 0, 4, 0]);
    refused(9, &[0, 12, 0, 9, 0]);
    let tail = [&[0; 16][..], &[0xc0, 0, 0, 5]].concat();
    refused(1, &tail);
    let (request, response) = ([0, 15, 0, 8, 0, 0, 0, 1], [0, 16, 0, 12, 0, 0, 0, 1, 0, 0, 0, 1]);
    refused(130, &[]);
    refused(130, &[request, request, request].concat());
    refused(130, &response[..8]);
    refused(130, &[0, 13, 0, 15, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1]);
    refused(130, &[0, 13, 0, 17, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 9]);
    refused(130, &[0, 19, 0, 8, 0, 0, 0, 1]);
    assert!(only(&by_hand(130, 0, &[&request[..], &response].concat())).is_ok());
}

#[test]
fn of_several_causes_the_first_is_told() {
    let bytes = by_hand(6, 1, &[0, 13, 0, 5, b'!', 0, 0, 0, 0, 12, 0, 4]);
    let cause = Some(Cause { code: cause::PROTOCOL_VIOLATION, value: b"!" });
    assert_eq!(only(&bytes), Ok(Chunk::Abort { cause, is_reflected: true }));
    assert_eq!(only(&by_hand(9, 0, &[])), Ok(Chunk::Error { cause: None }));
}

#[test]
fn leaving_checksums_out_is_agreed_on_for_dtls_alone() {
    for method in [&[0, 0, 0, 2][..], &[0, 0, 0, 1, 0, 0, 0, 0], &[1], &[]] {
        let length = u8::try_from(4 + method.len()).unwrap();
        let bytes = by_hand(1, 0, &[&[0; 16], &[0x80, 1, 0, length][..], method].concat());
        let Ok(Chunk::Init(init)) = only(&bytes) else { panic!() };
        assert!(!init.zero_checksum(), "{method:?}");
    }
}

#[test]
fn data_without_payload_is_an_error_of_its_own() {
    let empty = Err(Malformed::EmptyData { tsn: 0x0102_0304 });
    assert_eq!(only(&by_hand(0, 3, &[1, 2, 3, 4, 0, 0, 0, 0, 0, 0, 0, 0])), empty);
    assert_eq!(only(&by_hand(64, 3, &[1, 2, 3, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])), empty);
}

#[test]
fn gap_blocks_ascend_without_overlap_or_are_refused() {
    let sack = |blocks: &[(u16, u16)]| {
        let blocks = blocks.to_vec();
        only(&packet(|writer| writer.sack(10, 20, blocks, &[]))).is_ok()
    };
    assert!(sack(&[]) && sack(&[(1, 1)]) && sack(&[(2, 4), (5, 5), (9, u16::MAX)]));
    assert!(!sack(&[(0, 1)]), "nothing is its own successor");
    assert!(!sack(&[(3, 2)]), "ends before it starts");
    assert!(!sack(&[(2, 4), (4, 6)]), "overlaps");
    assert!(!sack(&[(8, 9), (2, 3)]), "goes back");
    let counted = |gaps, duplicates| {
        only(&by_hand(3, 0, &[0, 0, 0, 1, 0, 0, 0, 1, 0, gaps, 0, duplicates, 0, 2, 0, 3, 0, 0, 0, 9]))
            .is_ok()
    };
    assert!(counted(1, 1));
    assert!(!counted(2, 0) && !counted(1, 0) && !counted(1, 2) && !counted(3, 0), "counts are true");
}

#[test]
fn an_unknown_chunk_says_by_its_kind_what_to_do() {
    let of = |kind| {
        let bytes = by_hand(kind, 7, b"abc");
        let Ok(Chunk::Unknown(unknown)) = only(&bytes) else { panic!("{kind:#04x} is known") };
        assert_eq!(unknown.whole, [kind, 7, 0, 7, b'a', b'b', b'c']);
        (unknown.is_stop(), unknown.is_report())
    };
    assert_eq!(of(0x3f), (true, false));
    assert_eq!(of(0x7f), (true, true));
    assert_eq!(of(0xbf), (false, false));
    assert_eq!(of(0xff), (false, true));
}

/// Kinds of parameter say the same by the same bits.
#[test]
fn unknown_parameters_are_reported_and_end_the_list_as_their_kinds_say() {
    let quiet: &[u8] = &[0x80, 0x77, 0, 4];
    let reported: &[u8] = &[0xc0, 0x77, 0, 5, 1, 0, 0, 0];
    let stop: &[u8] = &[0x40, 0x77, 0, 4];
    let known: &[u8] = &[0xc0, 0, 0, 4];
    let address: &[u8] = &[0, 5, 0, 8, 127, 0, 0, 1];
    let body = [&[0; 16], quiet, address, reported, stop, known, reported].concat();
    let bytes = by_hand(1, 0, &body);
    let Ok(Chunk::Init(init)) = only(&bytes) else { panic!() };
    assert!(!init.supports_forward_tsn(), "it stands behind the stop");
    assert!(init.unrecognised().eq([&reported[..5], stop]));

    let fields = InitFields { unrecognised: init.unrecognised(), ..InitFields::default() };
    let answer = packet(|writer| writer.init(&fields, Some(b"cookie"), true));
    let needle = [&[0, 8, 0, 9], reported, &[0, 8, 0, 8], stop].concat();
    assert!(answer.windows(needle.len()).any(|window| window == needle), "{answer:02x?}");

    let many = [&[0; 16], &reported.repeat(1_000)[..]].concat();
    let bytes = by_hand(1, 0, &many);
    let Ok(Chunk::Init(init)) = only(&bytes) else { panic!() };
    assert_eq!(init.unrecognised().count(), 256 / 5, "an answer has so much room for them");
}

#[test]
fn requests_of_no_use_to_us_can_be_told_by_their_number_to_refuse_them() {
    for parameter in [
        &[0, 14, 0, 10, 0, 0, 0, 7, 0, 1][..],
        &[0, 15, 0, 8, 0, 0, 0, 7],
        &[0, 17, 0, 12, 0, 0, 0, 7, 0, 9, 0, 0],
        &[0, 18, 0, 12, 0, 0, 0, 7, 0, 9, 0, 0],
    ] {
        let bytes = by_hand(130, 0, parameter);
        let Ok(Chunk::Reconfig(reconfig)) = only(&bytes) else { panic!("{parameter:?}") };
        assert!(reconfig.parameters().eq([Reset::Unsupported { request: 7 }]));
    }
}
