//! A look at DTLS records from outside (RFC 6347 §4.1): enough to drop what is malformed and to bound handshakes
//! before the engine makes state of them. Pure.

/// Bytes before a record's body.
pub(super) const HEADER_BYTES: usize = 13;
/// DTLS 1.2, as it stands in records.
pub(super) const VERSION: [u8; 2] = [0xFE, 0xFD];
pub(super) const CHANGE_CIPHER_SPEC: u8 = 20;
pub(super) const ALERT: u8 = 21;
pub(super) const HANDSHAKE: u8 = 22;
pub(super) const APPLICATION_DATA: u8 = 23;
const CLIENT_HELLO: u8 = 1;
const HELLO_VERIFY_REQUEST: u8 = 3;

/// What one datagram holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Records {
    /// Bytes of handshake records, headers included, encrypted ones too.
    pub(crate) handshake_bytes: usize,
    /// The first record is application data: it belongs to a finished handshake.
    pub(crate) is_application_data: bool,
    /// The first record is (a part of) a plaintext ClientHello.
    pub(crate) is_client_hello: bool,
    /// The first record is a plaintext HelloVerifyRequest.
    pub(crate) is_cookie_request: bool,
}

/// Walks the records of `datagram`; none when they do not fill it exactly or one is not of DTLS.
pub(crate) fn scan(datagram: &[u8]) -> Option<Records> {
    let mut records = Records::default();
    let mut rest = datagram;
    let mut first = true;
    while !rest.is_empty() {
        let (header, body) = rest.split_first_chunk::<HEADER_BYTES>()?;
        let [kind, major, _, e0, e1, _, _, _, _, _, _, l0, l1] = *header;
        let length = usize::from(u16::from_be_bytes([l0, l1]));
        if major != 0xFE || length == 0 || !(CHANGE_CIPHER_SPEC..=APPLICATION_DATA).contains(&kind) {
            return None;
        }
        let (body, after) = body.split_at_checked(length)?;
        if kind == HANDSHAKE {
            records.handshake_bytes += HEADER_BYTES + length;
        }
        let in_clear = kind == HANDSHAKE && [e0, e1] == [0, 0];
        if first {
            records.is_application_data = kind == APPLICATION_DATA;
            records.is_client_hello = in_clear && body.first() == Some(&CLIENT_HELLO);
            records.is_cookie_request = in_clear && body.first() == Some(&HELLO_VERIFY_REQUEST);
            first = false;
        }
        rest = after;
    }
    (!first).then_some(records)
}

/// Bytes that the ClientHello will have which the first record of a datagram is (a part of), without its headers.
pub(super) fn client_hello_bytes(datagram: &[u8]) -> Option<usize> {
    let first = each(datagram).next().filter(|record| record.kind == HANDSHAKE && record.epoch == 0)?;
    let [kind, l0, l1, l2] = *first.bytes.get(HEADER_BYTES..)?.first_chunk()?;
    let length = usize::try_from(u32::from_be_bytes([0, l0, l1, l2])).ok()?;
    (kind == CLIENT_HELLO).then_some(length)
}

/// One record in a datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Seen<'a> {
    pub(super) kind: u8,
    pub(super) epoch: u16,
    /// Of its epoch; 48 bits.
    pub(super) number: u64,
    /// With its header.
    pub(super) bytes: &'a [u8],
}

/// The records of a datagram, up to the first that does not fit.
pub(super) fn each(mut datagram: &[u8]) -> impl Iterator<Item = Seen<'_>> {
    std::iter::from_fn(move || {
        let (bytes, rest) = datagram.split_at_checked(record_bytes(datagram)?)?;
        datagram = rest;
        let [kind, _, _, e0, e1, n0, n1, n2, n3, n4, n5, _, _] = *bytes.first_chunk::<HEADER_BYTES>()?;
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

/// Bytes of the first record, header included, as it says itself.
fn record_bytes(datagram: &[u8]) -> Option<usize> {
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
            let count = each(&datagram).count();
            assert_eq!(each_mut(&mut datagram).count(), count);
        }
    }
}
