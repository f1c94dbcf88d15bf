//! Records of DTLS 1.3: their layout by hand from the standard, every form, and what must not open.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::link::records::{ALERT, APPLICATION_DATA};

const PLACES: [Place; 2] = [Place::Last, Place::Before];

fn key() -> Key {
    Key::new(&[7; KEY_BYTES], [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12], &[8; KEY_BYTES]).unwrap()
}

fn sealed(sealer: &mut Sealer, place: Place, plaintext: &[u8]) -> Vec<u8> {
    let mut record = Vec::new();
    sealer.seal(APPLICATION_DATA, place, &mut record, |out| out.extend_from_slice(plaintext)).unwrap();
    record
}

fn opened(opener: &mut Opener, record: &[u8]) -> Option<(u64, u8, Vec<u8>)> {
    opener.open(&mut record.to_vec()).map(|Opened { number, kind, body }| (number, kind, body.to_vec()))
}

/// A record made by hand from RFC 9147 and 8446, in any form.
fn by_hand(number: u64, is_long: bool, has_length: bool, inner: &[u8]) -> Vec<u8> {
    let short = u8::try_from(number & 0xFF).unwrap();
    let long = u16::try_from(number & 0xFFFF).unwrap().to_be_bytes();
    let first = 0x23 | if is_long { 8 } else { 0 } | if has_length { 4 } else { 0 };
    let mut header = vec![first];
    header.extend_from_slice(if is_long { &long } else { std::slice::from_ref(&short) });
    if has_length {
        header.extend_from_slice(&u16::try_from(inner.len() + 16).unwrap().to_be_bytes());
    }
    let mut nonce = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12];
    nonce[4..].iter_mut().zip(number.to_be_bytes()).for_each(|(nonce, number)| *nonce ^= number);
    let raw = LessSafeKey::new(UnboundKey::new(&AES_128_GCM, &[7; 16]).unwrap());
    let mut text = inner.to_vec();
    raw.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(&header), &mut text).unwrap();
    let mask =
        quic::HeaderProtectionKey::new(&quic::AES_128, &[8; 16]).unwrap().new_mask(&text[..16]).unwrap();
    header[1] ^= mask[0];
    if is_long {
        header[2] ^= mask[1];
    }
    [header, text].concat()
}

#[test]
fn what_is_sealed_is_opened_once() {
    let (mut sealer, mut opener) = (Sealer::new(key(), 3, 0), Opener::new(key(), 3));
    let mut batch = b"before".to_vec();
    let texts = [(APPLICATION_DATA, &b"hello"[..]), (ALERT, &[1, 0]), (APPLICATION_DATA, &[0; 1_400])];
    for (number, (kind, text)) in (0..).zip(texts) {
        let start = batch.len();
        sealer.seal(kind, Place::Last, &mut batch, |out| out.extend_from_slice(text)).unwrap();
        assert_eq!(batch.len() - start, text.len() + OVERHEAD_BYTES);
        let record = &batch[start..];
        assert_eq!(opened(&mut opener, record), Some((number, kind, text.to_vec())));
        assert_eq!(opened(&mut opener, record), None, "a replay");
    }
    assert!(batch.starts_with(b"before"));
    assert!(!sealer.seal(APPLICATION_DATA, Place::Last, &mut batch, |_| {}).unwrap());
}

#[test]
fn a_record_is_laid_out_as_the_standard_says() {
    let inner = [b"hello", &[APPLICATION_DATA][..]].concat();
    for (place, has_length) in [(Place::Last, false), (Place::Before, true)] {
        let record = sealed(&mut Sealer::new(key(), 7, 0x01_02_03), place, b"hello");
        assert_eq!(record, by_hand(0x01_02_03, true, has_length, &inner), "{place:?}");
        assert_eq!(record[0], if has_length { 0b0010_1111 } else { 0b0010_1011 });
    }
}

#[test]
fn every_form_is_opened_and_padding_is_taken_off() {
    let inner = [b"hi", &[APPLICATION_DATA][..], &[0; 30]].concat();
    for is_long in [true, false] {
        for has_length in [true, false] {
            let record = by_hand(5, is_long, has_length, &inner);
            assert_eq!(
                opened(&mut Opener::new(key(), 3), &record),
                Some((5, APPLICATION_DATA, b"hi".to_vec()))
            );
        }
    }
    assert_eq!(opened(&mut Opener::new(key(), 3), &by_hand(5, true, true, &[0; 30])), None, "of no kind");
}

#[test]
fn a_number_is_told_from_its_low_bits_while_its_neighbours_come() {
    let inner = [b'x', APPLICATION_DATA];
    let mut opener = Opener::new(key(), 3);
    for number in
        [0, 100, 200, 300, 260, 400, 32_000, 64_000, 63_000, 96_000, 128_000, 131_071, 131_072, 131_070]
    {
        let is_long = number > 300;
        let record = by_hand(number, is_long, false, &inner);
        let expected = (number != 63_000).then(|| (number, APPLICATION_DATA, b"x".to_vec()));
        assert_eq!(opened(&mut opener, &record), expected, "{number}");
    }
    for (low, bits, expected, nearest_is) in [
        (0, 8, 255, 256),
        (255, 8, 256, 255),
        (255, 8, 0, 255),
        (0x80, 8, 0, 0x80),
        (1, 16, 0x2_FFFF, 0x3_0001),
    ] {
        assert_eq!(nearest(low, bits, expected), nearest_is, "{low} of {bits} bits at {expected}");
    }
}

#[test]
fn no_two_records_hide_their_numbers_alike() {
    let mut sealer = Sealer::new(key(), 3, 0);
    let numbers: BTreeSet<_> =
        (0..64).map(|_| sealed(&mut sealer, Place::Last, b"the same")[1..3].to_vec()).collect();
    assert!(numbers.len() > 60, "{numbers:?}");
    assert!(!numbers.contains(&vec![0, 1]) || !numbers.contains(&vec![0, 2]));
}

#[test]
fn a_record_that_could_not_be_made_uses_no_number_and_leaves_no_trace() {
    let mut sealer = Sealer::new(key(), 3, RECORDS_MAX - 1);
    let mut out = vec![9];
    let long = vec![0; PLAINTEXT_BYTES_MAX + 1];
    for place in PLACES {
        let sealed = sealer.seal(APPLICATION_DATA, place, &mut out, |out| out.extend_from_slice(&long));
        assert_eq!((sealed, &out[..]), (Err(SealError::TooLong), &[9][..]));
    }
    sealed(&mut sealer, Place::Last, b"the last one");
    let more = sealer.seal(APPLICATION_DATA, Place::Last, &mut out, |out| out.push(1));
    assert_eq!((more, &out[..]), (Err(SealError::Exhausted), &[9][..]));
}

#[test]
fn a_forged_record_changes_nothing() {
    for place in PLACES {
        let (mut sealer, mut opener) = (Sealer::new(key(), 3, 1), Opener::new(key(), 3));
        let record = sealed(&mut sealer, place, b"hello");
        for at in 0..record.len() {
            for bit in 0..8 {
                let mut forged = record.clone();
                forged[at] ^= 1 << bit;
                assert_eq!(opened(&mut opener, &forged), None, "bit {bit} of byte {at}");
            }
        }
        for cut in 0..record.len() {
            assert_eq!(opened(&mut opener, &record[..cut]), None, "{cut} bytes");
        }
        // A number far ahead, not authenticated, must not have moved the window.
        assert!(opened(&mut opener, &record).is_some());
        assert!(!opener.is_worn() && opener.forgeries > 0);
    }
}

proptest! {
    #[test]
    fn no_bytes_are_opened(mut record in proptest::collection::vec(any::<u8>(), 0..100)) {
        prop_assert!(Opener::new(key(), 3).open(&mut record).is_none());
        if let Some(first) = record.first_mut() {
            *first = 0x23 | *first & 0b1100;
        }
        prop_assert!(Opener::new(key(), 3).open(&mut record).is_none());
    }
}
