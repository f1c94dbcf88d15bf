//! The vectors of RFC 5769, and bytes that nobody meant.

use proptest::prelude::*;

use super::{write::Writer, *};

const PASSWORD: &str = "VOkJxbRl1RmTxUk/WvJxBt";
const TRANSACTION: TransactionId = [0xb7, 0xe7, 0xa7, 0x01, 0xbc, 0x34, 0xd6, 0x86, 0xfa, 0x87, 0xdf, 0xae];

fn bytes(hex: &str) -> Vec<u8> {
    hex.split_whitespace().map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect()
}

/// RFC 5769 §2.1.
fn sample_request() -> Vec<u8> {
    bytes(
        "00 01 00 58 21 12 a4 42 b7 e7 a7 01 bc 34 d6 86 fa 87 df ae
         80 22 00 10 53 54 55 4e 20 74 65 73 74 20 63 6c 69 65 6e 74
         00 24 00 04 6e 00 01 ff
         80 29 00 08 93 2f f9 b1 51 26 3b 36
         00 06 00 09 65 76 74 6a 3a 68 36 76 59 20 20 20
         00 08 00 14 9a ea a7 0c bf d8 cb 56 78 1e f2 b5 b2 d3 f2 49 c1 b5 71 a2
         80 28 00 04 e5 7a 3b cf",
    )
}

/// RFC 5769 §2.2.
fn sample_ipv4_response() -> Vec<u8> {
    bytes(
        "01 01 00 3c 21 12 a4 42 b7 e7 a7 01 bc 34 d6 86 fa 87 df ae
         80 22 00 0b 74 65 73 74 20 76 65 63 74 6f 72 20
         00 20 00 08 00 01 a1 47 e1 12 a6 43
         00 08 00 14 2b 91 f5 99 fd 9e 90 c3 8c 74 89 f9 2a f9 ba 53 f0 6b e7 d7
         80 28 00 04 c0 7d 4c 96",
    )
}

/// RFC 5769 §2.3.
fn sample_ipv6_response() -> Vec<u8> {
    bytes(
        "01 01 00 48 21 12 a4 42 b7 e7 a7 01 bc 34 d6 86 fa 87 df ae
         80 22 00 0b 74 65 73 74 20 76 65 63 74 6f 72 20
         00 20 00 14 00 02 a1 47 01 13 a9 fa a5 d3 f1 79 bc 25 f4 b5 be d2 b9 d9
         00 08 00 14 a3 82 95 4e 4b e6 7b f1 17 84 c9 7c 82 92 c2 75 bf e3 ed 41
         80 28 00 04 c8 fb 0b 4c",
    )
}

#[test]
fn the_sample_request_of_rfc_5769_is_read() {
    let request = sample_request();
    let message = Message::parse(&request).unwrap();
    assert_eq!(message.class, Class::Request);
    assert_eq!(message.transaction, TRANSACTION);
    assert_eq!(message.username, Some("evtj:h6vY"));
    assert_eq!(message.role, Some(Role::Controlled(0x932f_f9b1_5126_3b36)));
    assert!(!message.use_candidate);
    assert!(message.is_authentic(PASSWORD));
    assert!(!message.is_authentic("VOkJxbRl1RmTxUk/WvJxBu"));
}

#[test]
fn the_sample_responses_of_rfc_5769_are_read() {
    let response = sample_ipv4_response();
    let message = Message::parse(&response).unwrap();
    assert_eq!(message.class, Class::Success);
    assert_eq!(message.mapped, Some("192.0.2.1:32853".parse().unwrap()));
    assert!(message.is_authentic(PASSWORD));

    let response = sample_ipv6_response();
    let message = Message::parse(&response).unwrap();
    assert_eq!(message.mapped, Some("[2001:db8:1234:5678:11:2233:4455:6677]:32853".parse().unwrap()));
    assert!(message.is_authentic(PASSWORD));
}

#[test]
fn every_flipped_bit_that_the_integrity_covers_is_noticed() {
    let request = sample_request();
    let fingerprint_bytes = 8;
    for bit in 0..(request.len() - fingerprint_bytes) * 8 {
        let mut flipped = request.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        let accepted = Message::parse(&flipped).is_ok_and(|message| message.is_authentic(PASSWORD));
        assert!(!accepted, "bit {bit}");
    }
}

#[test]
fn what_we_write_we_read() {
    let check = Check {
        transaction: TRANSACTION,
        their_ufrag: "edge",
        our_ufrag: "viewer12",
        priority: 1,
        tie_breaker: 7,
        use_candidate: true,
    };
    let request = request(&check, PASSWORD);
    let message = Message::parse(&request).unwrap();
    assert_eq!(message.username, Some("edge:viewer12"));
    assert_eq!(message.role, Some(Role::Controlling(7)));
    assert!(message.use_candidate && message.is_authentic(PASSWORD));

    for (from, seen) in [
        ("192.0.2.1:1", "192.0.2.1:1"),
        ("[2001:db8::1]:65535", "[2001:db8::1]:65535"),
        // A dual-stack socket sees IPv4 peers as mapped addresses; the peer must not.
        ("[::ffff:192.0.2.1]:5", "192.0.2.1:5"),
    ] {
        let answer = success(TRANSACTION, from.parse().unwrap(), PASSWORD);
        let message = Message::parse(&answer).unwrap();
        assert_eq!(message.mapped, Some(seen.parse().unwrap()));
        assert!(message.is_authentic(PASSWORD));
    }

    let refusal = role_conflict(TRANSACTION, PASSWORD);
    let message = Message::parse(&refusal).unwrap();
    assert_eq!((message.class, message.error_code), (Class::Error, Some(487)));
}

#[test]
fn the_controlled_side_checks_and_nominates_nothing() {
    let check = Check {
        transaction: TRANSACTION,
        their_ufrag: "evtj",
        our_ufrag: "h6vY",
        priority: 0x6e00_01ff,
        tie_breaker: 0x932f_f9b1_5126_3b36,
        use_candidate: true,
    };
    let request = controlled_request(&check, PASSWORD);
    let (ours, sample) = (Message::parse(&request).unwrap(), sample_request());
    let sample = Message::parse(&sample).unwrap();
    assert_eq!((ours.role, ours.username, ours.use_candidate), (sample.role, sample.username, false));
    assert!(ours.is_authentic(PASSWORD) && !ours.is_plain() && !sample.is_plain());
}

#[test]
fn where_one_is_seen_is_told_in_less_than_three_times_the_bytes() {
    let request = binding_request(TRANSACTION);
    assert_eq!(request.len(), 20);
    let message = Message::parse(&request).unwrap();
    assert!(message.class == Class::Request && message.is_plain());
    for (from, bytes) in [("192.0.2.1:32853", 40), ("[2001:db8::1]:32853", 52)] {
        let answer = binding_success(TRANSACTION, from.parse().unwrap());
        assert_eq!(answer.len(), bytes);
        assert!(answer.len() <= 3 * request.len());
        let message = Message::parse(&answer).unwrap();
        assert_eq!((message.class, message.transaction), (Class::Success, TRANSACTION));
        assert_eq!(message.mapped, Some(from.parse().unwrap()));
        assert!(message.is_plain() && answer[answer.len() - 8..][..2] == FINGERPRINT.to_be_bytes());
        // XOR-MAPPED-ADDRESS as RFC 5769 §2.2 has it.
        if bytes == 40 {
            let sample = sample_ipv4_response();
            assert_eq!(answer[20..32], sample[36..48]);
        }
    }
}

#[test]
fn an_attribute_after_the_integrity_does_not_count() {
    let mut writer = Writer::new(0x0001, TRANSACTION);
    let mac: [u8; 20] =
        mac_of(PASSWORD, &writer.bytes, INTEGRITY_BYTES).unwrap().finalize().into_bytes().into();
    writer.attribute(MESSAGE_INTEGRITY, &mac);
    writer.attribute(USE_CANDIDATE, &[]);
    writer.attribute(USERNAME, b"a:b");
    let message = Message::parse(&writer.bytes).unwrap();
    assert!(message.is_authentic(PASSWORD));
    assert!(!message.use_candidate);
    assert_eq!(message.username, None);
}

#[test]
fn nothing_may_follow_the_fingerprint() {
    let mut request = sample_request();
    request.extend([0x80, 0x22, 0, 0]);
    request[3] += 4;
    assert_eq!(Message::parse(&request), Err(Error::Fingerprint));
}

proptest! {
    #[test]
    fn no_bytes_panic_the_reader(datagram in proptest::collection::vec(any::<u8>(), 0..300)) {
        if let Ok(message) = Message::parse(&datagram) {
            let _ = message.is_authentic(PASSWORD);
        }
    }

    #[test]
    fn no_attributes_panic_the_reader(
        kind in prop_oneof![Just(0x0001_u16), Just(0x0101), Just(0x0111)],
        attributes in proptest::collection::vec(
            (
                prop_oneof![
                    Just(USERNAME), Just(MESSAGE_INTEGRITY), Just(ERROR_CODE), Just(XOR_MAPPED_ADDRESS),
                    Just(USE_CANDIDATE), Just(FINGERPRINT), Just(ICE_CONTROLLED), Just(ICE_CONTROLLING), any::<u16>(),
                ],
                proptest::collection::vec(any::<u8>(), 0..40),
            ),
            0..12,
        ),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut writer = Writer::new(kind, TRANSACTION);
        for (kind, value) in &attributes {
            writer.attribute(*kind, value);
        }
        for datagram in [&writer.bytes[..], &writer.bytes[..cut.index(writer.bytes.len())]] {
            if let Ok(message) = Message::parse(datagram) {
                let _ = message.is_authentic(PASSWORD);
            }
        }
    }

    #[test]
    fn any_address_comes_back(ip in any::<IpAddr>(), port: u16, transaction: TransactionId) {
        let answer = success(transaction, SocketAddr::new(ip, port), PASSWORD);
        let mapped = Message::parse(&answer).unwrap().mapped;
        prop_assert_eq!(mapped, Some(SocketAddr::new(ip.to_canonical(), port)));
    }
}
