//! Messages about channels: round trips, known bytes, and everything that is refused.

use proptest::prelude::*;

use super::*;

fn written(message: Message<'_>) -> Vec<u8> {
    let mut out = b"before".to_vec();
    message.write(&mut out).unwrap();
    out.split_off(6)
}

fn open(label: &'static str) -> Open<'static> {
    Open {
        is_unordered: true,
        reliability: Reliability::Rexmit(3),
        priority: PRIORITY_NORMAL,
        label,
        protocol: "p",
    }
}

#[test]
fn an_open_stands_as_the_standard_draws_it() {
    let bytes = written(Message::Open(open("chat")));
    assert_eq!(bytes, *b"\x03\x81\x01\x00\x00\x00\x00\x03\x00\x04\x00\x01chatp");
    assert_eq!(written(Message::Ack), [2]);
    assert_eq!(Message::parse(&[2, 0, 0, 0]), Ok(Message::Ack));
}

#[test]
fn an_open_cut_anywhere_or_too_long_is_refused() {
    let bytes = written(Message::Open(open("chat")));
    assert_eq!(Message::parse(&[]), Err(Error::Kind));
    for length in 1..bytes.len() {
        assert_eq!(Message::parse(&bytes[..length]), Err(Error::Length));
    }
    assert_eq!(Message::parse(&[&bytes[..], b"x"].concat()), Err(Error::Length));
}

#[test]
fn limits_hold_both_ways() {
    let long: &'static str = "a".repeat(LABEL_BYTES_MAX + 1).leak();
    let mut out = Vec::new();
    assert_eq!(Message::Open(open(long)).write(&mut out), Err(Error::TooLong));
    let protocol = Open { protocol: long, ..open("") };
    assert_eq!(Message::Open(protocol).write(&mut out), Err(Error::TooLong));
    assert!(out.is_empty());
    let mut bytes = written(Message::Open(open(&long[1..])));
    assert!(Message::parse(&bytes).is_ok());
    bytes[9] += 1;
    bytes.push(b'x');
    assert_eq!(Message::parse(&bytes), Err(Error::TooLong));
}

#[test]
fn unknown_kinds_and_what_is_no_text_are_refused() {
    let mut bytes = written(Message::Open(open("chat")));
    bytes[13] = 0xff;
    assert_eq!(Message::parse(&bytes), Err(Error::Text));
    bytes[1] = 0x83;
    assert_eq!(Message::parse(&bytes), Err(Error::Channel(0x83)));
    bytes[0] = 1;
    assert_eq!(Message::parse(&bytes), Err(Error::Kind));
}

#[test]
fn identifiers_are_those_of_the_registry() {
    let known: Vec<(u32, Ppi)> =
        (0..100).filter_map(|number| Some((number, Ppi::from_wire(number)?))).collect();
    let expected = [
        (50, Ppi::Dcep),
        (51, Ppi::String),
        (53, Ppi::Binary),
        (56, Ppi::StringEmpty),
        (57, Ppi::BinaryEmpty),
    ];
    assert_eq!(known, expected);
    assert!(known.iter().all(|(number, ppi)| ppi.to_wire() == *number));
}

proptest! {
    #[test]
    fn what_is_written_is_read(
        is_unordered: bool,
        (kind, limit, priority) in (0..3, any::<u32>(), any::<u16>()),
        label in "\\PC{0,60}",
        protocol in "\\PC{0,60}",
    ) {
        let reliability = match kind {
            0 => Reliability::Reliable,
            1 => Reliability::Rexmit(limit),
            _ => Reliability::Timed(limit),
        };
        let open = Open { is_unordered, reliability, priority, label: &label, protocol: &protocol };
        let mut out = Vec::new();
        Message::Open(open).write(&mut out).unwrap();
        prop_assert_eq!(Message::parse(&out), Ok(Message::Open(open)));
    }

    #[test]
    fn any_bytes_are_a_message_or_not(mut bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
        let _ = Message::parse(&bytes);
        bytes.insert(0, OPEN);
        let _ = Message::parse(&bytes);
    }
}
