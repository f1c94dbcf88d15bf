//! A look at DTLS records from outside: enough to drop what is malformed and to bound handshakes before the engine
//! makes state of them. Pure.
//!
//! Two forms: with a header of 13 bytes (RFC 6347 §4.1: all of DTLS 1.2, and what DTLS 1.3 says in clear), and sealed
//! by DTLS 1.3 (RFC 9147 §4), whose header hides the number and need not say the length. The first byte tells them
//! apart.

/// Bytes before a record's body.
pub(super) const HEADER_BYTES: usize = 13;
/// DTLS 1.2, as it stands in records.
pub(super) const VERSION: [u8; 2] = [0xFE, 0xFD];
pub(super) const CHANGE_CIPHER_SPEC: u8 = 20;
pub(super) const ALERT: u8 = 21;
pub(super) const HANDSHAKE: u8 = 22;
pub(super) const APPLICATION_DATA: u8 = 23;
/// DTLS 1.3 alone.
pub(super) const ACK: u8 = 26;
const CLIENT_HELLO: u8 = 1;
const SERVER_HELLO: u8 = 2;
const HELLO_VERIFY_REQUEST: u8 = 3;

/// The random number of a ServerHello that asks for another ClientHello (RFC 8446 §4.1.3).
const RETRY: [u8; 32] = [
    0xCF, 0x21, 0xAD, 0x74, 0xE5, 0x9A, 0x61, 0x11, 0xBE, 0x1D, 0x8C, 0x02, 0x1E, 0x65, 0xB8, 0x91, 0xC2,
    0xA2, 0x11, 0x16, 0x7A, 0xBB, 0x8C, 0x5E, 0x07, 0x9E, 0x09, 0xE2, 0xC8, 0xA8, 0x33, 0x9C,
];

/// Where it stands in the body of a record: behind the message's header and version.
const RANDOM_AT: usize = 12 + 2;

/// The least that is behind the header of a sealed record: a kind and a tag.
const SEALED_BYTES_MIN: usize = 1 + 16;

/// Whether a record is one that DTLS 1.3 has sealed, by its first byte (RFC 9147 §4).
pub(super) const fn is_sealed(first: u8) -> bool {
    first >> 5 == 1
}

/// Bytes of a sealed record's header; none when it has a connection id, which we give nobody.
pub(super) fn sealed_header_bytes(record: &[u8]) -> Option<usize> {
    let first = *record.first().filter(|first| is_sealed(**first) && **first & 0b1_0000 == 0)?;
    let (number, length) = (if first & 0b1000 == 0 { 1 } else { 2 }, if first & 0b100 == 0 { 0 } else { 2 });
    Some(1 + number + length)
}

/// What one datagram holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Records {
    /// Bytes of handshake records, headers included, encrypted ones too.
    pub(crate) handshake_bytes: usize,
    /// The first record belongs to a handshake that has got as far as having keys.
    pub(crate) is_application_data: bool,
    /// The first record is (a part of) a plaintext ClientHello.
    pub(crate) is_client_hello: bool,
    /// The first record is a plaintext HelloVerifyRequest or HelloRetryRequest.
    pub(crate) is_cookie_request: bool,
}

/// Walks the records of `datagram`; none when they do not fill it exactly or one is not of DTLS.
pub(crate) fn scan(datagram: &[u8]) -> Option<Records> {
    let mut records = Records::default();
    let mut bytes = 0;
    for record in each(datagram) {
        bytes += record.bytes.len();
        let body = record.body()?;
        let is_first = bytes == record.bytes.len();
        if record.is_sealed() {
            if record.epoch == HANDSHAKE_EPOCH {
                records.handshake_bytes += record.bytes.len();
            }
            records.is_application_data |= is_first;
            continue;
        }
        let is_known = (CHANGE_CIPHER_SPEC..=APPLICATION_DATA).contains(&record.kind) || record.kind == ACK;
        if record.bytes.get(1) != Some(&0xFE) || body.is_empty() || !is_known {
            return None;
        }
        if record.kind == HANDSHAKE {
            records.handshake_bytes += record.bytes.len();
        }
        let in_clear = record.kind == HANDSHAKE && record.epoch == 0;
        if is_first {
            records.is_application_data = record.kind == APPLICATION_DATA;
            records.is_client_hello = in_clear && body.first() == Some(&CLIENT_HELLO);
            records.is_cookie_request = in_clear && asks_for_cookie(body);
        }
    }
    (bytes == datagram.len() && bytes > 0).then_some(records)
}

fn asks_for_cookie(message: &[u8]) -> bool {
    match message.first() {
        Some(&HELLO_VERIFY_REQUEST) => true,
        Some(&SERVER_HELLO) => message.get(RANDOM_AT..).is_some_and(|rest| rest.starts_with(&RETRY)),
        _ => false,
    }
}

/// Bytes that the ClientHello will have which the first record of a datagram is (a part of), without its headers.
pub(super) fn client_hello_bytes(datagram: &[u8]) -> Option<usize> {
    let first = each(datagram).next().filter(|record| record.kind == HANDSHAKE && record.epoch == 0)?;
    let [kind, l0, l1, l2] = *first.bytes.get(HEADER_BYTES..)?.first_chunk()?;
    let length = usize::try_from(u32::from_be_bytes([0, l0, l1, l2])).ok()?;
    (kind == CLIENT_HELLO).then_some(length)
}

/// Whether a datagram begins with what a server says first, from which its version is known, or with an alert.
pub(super) fn is_first_answer(datagram: &[u8]) -> bool {
    each(datagram).next().is_some_and(|record| match record.kind {
        ALERT => record.epoch == 0,
        HANDSHAKE if record.epoch == 0 => {
            let kind = record.body().and_then(<[u8]>::first);
            kind == Some(&SERVER_HELLO) || kind == Some(&HELLO_VERIFY_REQUEST)
        }
        _ => false,
    })
}

/// The epoch of what DTLS 1.3 seals of a handshake.
pub(super) const HANDSHAKE_EPOCH: u16 = 2;

/// One record in a datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Seen<'a> {
    /// The first byte. What a sealed record is of, it does not say.
    pub(super) kind: u8,
    /// Of a sealed record the lowest two bits.
    pub(super) epoch: u16,
    /// Of its epoch; 48 bits. 0 when it is hidden.
    pub(super) number: u64,
    /// With its header.
    pub(super) bytes: &'a [u8],
}

impl<'a> Seen<'a> {
    /// See [`is_sealed`].
    pub(super) const fn is_sealed(&self) -> bool {
        is_sealed(self.kind)
    }

    /// What stands behind the header; none when that is too short to be sealed.
    fn body(&self) -> Option<&'a [u8]> {
        if !self.is_sealed() {
            return self.bytes.get(HEADER_BYTES..);
        }
        self.bytes.get(sealed_header_bytes(self.bytes)?..).filter(|body| body.len() >= SEALED_BYTES_MIN)
    }
}

/// The records of a datagram, up to the first that does not fit or has a connection id.
pub(super) fn each(mut datagram: &[u8]) -> impl Iterator<Item = Seen<'_>> {
    std::iter::from_fn(move || {
        let (bytes, rest) = datagram.split_at_checked(record_bytes(datagram)?)?;
        datagram = rest;
        let kind = *bytes.first()?;
        if is_sealed(kind) {
            return Some(Seen { kind, epoch: u16::from(kind & 0b11), number: 0, bytes });
        }
        let [_, _, _, e0, e1, n0, n1, n2, n3, n4, n5, _, _] = *bytes.first_chunk::<HEADER_BYTES>()?;
        let number = u64::from_be_bytes([0, 0, n0, n1, n2, n3, n4, n5]);
        Some(Seen { kind, epoch: u16::from_be_bytes([e0, e1]), number, bytes })
    })
}

/// The same, to be opened in place.
pub(super) fn each_mut(mut datagram: &mut [u8]) -> impl Iterator<Item = &mut [u8]> {
    std::iter::from_fn(move || {
        let length = record_bytes(datagram)?;
        let (record, rest) = std::mem::take(&mut datagram).split_at_mut_checked(length)?;
        datagram = rest;
        Some(record)
    })
}

/// Bytes of the first record, header included: as it says itself, or all that there are.
fn record_bytes(datagram: &[u8]) -> Option<usize> {
    if is_sealed(*datagram.first()?) {
        let header = sealed_header_bytes(datagram)?;
        let header = datagram.get(..header)?;
        return match *header {
            [_, .., l0, l1] if header.len() > 3 => {
                Some(header.len() + usize::from(u16::from_be_bytes([l0, l1])))
            }
            _ => Some(datagram.len()),
        };
    }
    let [.., l0, l1] = *datagram.first_chunk::<HEADER_BYTES>()?;
    Some(HEADER_BYTES + usize::from(u16::from_be_bytes([l0, l1])))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn record(kind: u8, epoch: u8, body: &[u8]) -> Vec<u8> {
        let length = u8::try_from(body.len()).unwrap();
        [&[kind, 0xFE, 0xFD, 0, epoch, 0, 0, 0, 0, 0, 0, 0, length][..], body].concat()
    }

    #[test]
    fn a_client_hello_is_told_from_the_rest() {
        assert!(scan(&record(HANDSHAKE, 0, &[CLIENT_HELLO])).unwrap().is_client_hello);
        assert!(scan(&record(HANDSHAKE, 0, &[HELLO_VERIFY_REQUEST])).unwrap().is_cookie_request);
        assert!(!scan(&record(HANDSHAKE, 1, &[CLIENT_HELLO])).unwrap().is_client_hello);
        assert!(scan(&record(APPLICATION_DATA, 1, &[0])).unwrap().is_application_data);
    }

    #[test]
    fn a_client_hello_says_how_long_it_will_be() {
        let part = [CLIENT_HELLO, 0, 5, 1, 0, 0, 0, 0, 0, 0, 0, 1, 7];
        assert_eq!(client_hello_bytes(&record(HANDSHAKE, 0, &part)), Some(5 * 256 + 1));
        assert_eq!(client_hello_bytes(&record(HANDSHAKE, 1, &part)), None);
        assert_eq!(client_hello_bytes(&record(HANDSHAKE, 0, &[2, 0, 5, 1])), None);
        assert_eq!(client_hello_bytes(&record(HANDSHAKE, 0, &part[..3])), None);
    }

    #[test]
    fn handshake_bytes_are_summed_over_a_datagram() {
        let datagram =
            [record(HANDSHAKE, 0, &[2; 20]), record(20, 0, &[1]), record(HANDSHAKE, 1, &[9; 40])].concat();
        assert_eq!(scan(&datagram).unwrap().handshake_bytes, 2 * HEADER_BYTES + 60);
    }

    #[test]
    fn the_records_of_a_datagram_are_told_apart() {
        let (one, two) = (record(HANDSHAKE, 0, &[2; 20]), record(APPLICATION_DATA, 1, &[9; 40]));
        let mut datagram = [&one[..], &two, &[23, 1]].concat();
        let seen: Vec<_> = each(&datagram).collect();
        let expected = [(HANDSHAKE, 0, &one[..]), (APPLICATION_DATA, 1, &two)];
        assert_eq!(seen, expected.map(|(kind, epoch, bytes)| Seen { kind, epoch, number: 0, bytes }));
        assert_eq!(each_mut(&mut datagram).collect::<Vec<_>>(), [&one[..], &two]);
    }

    #[test]
    fn sealed_records_are_told_apart_with_and_without_a_length() {
        let with = [&[0x2E, 7, 7, 0, 20][..], &[1; 20]].concat();
        let (short, without) =
            ([&[0x26, 7, 0, 17][..], &[2; 17]].concat(), [&[0x2B, 7, 7][..], &[3; 30]].concat());
        let mut datagram = [&with[..], &short, &record(ALERT, 0, &[1, 0]), &without].concat();
        let seen: Vec<_> =
            each(&datagram).map(|record| (record.is_sealed(), record.epoch, record.bytes)).collect();
        let alert = record(ALERT, 0, &[1, 0]);
        assert_eq!(seen, [(true, 2, &with[..]), (true, 2, &short), (false, 0, &alert), (true, 3, &without)]);
        let records = scan(&datagram).unwrap();
        assert_eq!((records.handshake_bytes, records.is_application_data), (with.len() + short.len(), true));
        assert_eq!(each_mut(&mut datagram).count(), 4);

        assert_eq!(scan(&[&[0x3B, 7, 7][..], &[3; 30]].concat()), None, "a connection id");
        assert_eq!(scan(&[&[0x2B, 7, 7][..], &[3; 16]].concat()), None, "no room for a kind and a tag");
        assert_eq!(scan(&[&[0x2F, 7, 7, 0, 40][..], &[3; 30]].concat()), None, "longer than it is");
        assert_eq!(scan(&[0x2F, 7]), None);
    }

    #[test]
    fn a_request_for_another_hello_is_a_request_for_a_cookie() {
        let hello = |random: &[u8]| record(HANDSHAKE, 0, &[&[SERVER_HELLO; 14][..], random].concat());
        assert!(scan(&hello(&RETRY)).unwrap().is_cookie_request);
        assert!(!scan(&hello(&[7; 32])).unwrap().is_cookie_request);
        assert!(is_first_answer(&hello(&[7; 32])) && is_first_answer(&hello(&RETRY)));
        assert!(is_first_answer(&record(HANDSHAKE, 0, &[HELLO_VERIFY_REQUEST])));
        assert!(!is_first_answer(&record(HANDSHAKE, 0, &[11])));
        assert!(!is_first_answer(&[&[0x2E, 7, 7, 0, 20][..], &[1; 20]].concat()));
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let good = record(HANDSHAKE, 0, &[1, 2, 3]);
        assert_eq!(scan(&good[..good.len() - 1]), None);
        assert_eq!(scan(&[good, vec![22]].concat()), None);
        assert_eq!(scan(&record(HANDSHAKE, 0, &[])), None);
        assert_eq!(scan(&record(24, 0, &[1])), None);
        assert_eq!(scan(&[]), None);
    }

    proptest! {
        #[test]
        fn no_bytes_panic_the_scan(datagram in proptest::collection::vec(any::<u8>(), 0..200)) {
            scan(&datagram);
            let mut datagram = datagram;
            client_hello_bytes(&datagram);
            is_first_answer(&datagram);
            let count = each(&datagram).count();
            assert_eq!(each_mut(&mut datagram).count(), count);
        }
    }
}
