//! What DTLS 1.3 says of its own on an open connection: acknowledgements (RFC 9147 §7) and handshake messages after the
//! handshake (RFC 8446 §4.6). Pure.

/// Records acknowledged at once at most: all that a datagram can hold in practice.
pub(super) const ACKNOWLEDGED_MAX: usize = 32;

const NUMBER_BYTES: usize = 16;

/// Bytes before a handshake message's (part of a) body.
const HEADER_BYTES: usize = 12;

const NEW_SESSION_TICKET: u8 = 4;
const KEY_UPDATE: u8 = 24;

/// Epoch and sequence number of a record.
pub(super) type RecordNumber = (u64, u64);

/// The body of an ACK of `numbers`.
pub(super) fn write_ack(numbers: &[RecordNumber], out: &mut Vec<u8>) {
    let numbers = numbers.get(..ACKNOWLEDGED_MAX).unwrap_or(numbers);
    let bytes = u16::try_from(numbers.len() * NUMBER_BYTES).unwrap_or_default();
    out.extend_from_slice(&bytes.to_be_bytes());
    for (epoch, number) in numbers {
        out.extend_from_slice(&epoch.to_be_bytes());
        out.extend_from_slice(&number.to_be_bytes());
    }
}

/// The record numbers in an ACK; none when it is not well formed.
pub(super) fn read_ack(body: &[u8]) -> impl Iterator<Item = RecordNumber> {
    let (length, numbers) =
        body.split_first_chunk().map_or((0, &[][..]), |(length, rest)| (u16::from_be_bytes(*length), rest));
    let is_whole = numbers.len() == usize::from(length) && numbers.len().is_multiple_of(NUMBER_BYTES);
    let numbers = if is_whole { numbers } else { &[] };
    numbers.as_chunks::<NUMBER_BYTES>().0.iter().filter_map(|number| {
        let (epoch, number) = number.split_first_chunk()?;
        Some((u64::from_be_bytes(*epoch), u64::from_be_bytes(*number.first_chunk()?)))
    })
}

/// What a handshake record on an open connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Said {
    /// Taken and left.
    Tickets,
    /// The peer's next records have new keys; and it asks for ours, if so.
    KeyUpdate { is_requested: bool },
    /// What nobody may say after the handshake, or not so.
    Violation,
}

/// Reads a handshake record. A server says tickets, in any number of parts; a KeyUpdate is one byte and comes alone,
/// because the records behind it have other keys.
pub(super) fn read(record: &[u8]) -> Said {
    if let Some(([KEY_UPDATE, 0, 0, 1, _, _, 0, 0, 0, 0, 0, 1], &[request @ 0..=1])) =
        record.split_first_chunk::<HEADER_BYTES>().map(|(header, body)| (*header, body))
    {
        return Said::KeyUpdate { is_requested: request == 1 };
    }
    let mut rest = record;
    while let Some((&[kind, _, _, _, _, _, _, _, _, p0, p1, p2], behind)) =
        rest.split_first_chunk::<HEADER_BYTES>()
    {
        let part = usize::try_from(u32::from_be_bytes([0, p0, p1, p2])).unwrap_or(usize::MAX);
        match behind.get(part..) {
            Some(behind) if kind == NEW_SESSION_TICKET => rest = behind,
            _ => return Said::Violation,
        }
    }
    if rest.is_empty() && !record.is_empty() { Said::Tickets } else { Said::Violation }
}

/// Our KeyUpdate, the message of this number. We do not ask for the peer's, which counts for itself.
pub(super) fn key_update(message: u16) -> [u8; HEADER_BYTES + 1] {
    let [m0, m1] = message.to_be_bytes();
    [KEY_UPDATE, 0, 0, 1, m0, m1, 0, 0, 0, 0, 0, 1, 0]
}

/// The number of the first message in a handshake record.
pub(in super::super) fn message_number(record: &[u8]) -> Option<u16> {
    let [_, _, _, _, m0, m1, ..] = *record.first_chunk::<HEADER_BYTES>()?;
    Some(u16::from_be_bytes([m0, m1]))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_acknowledgement_survives_the_wire() {
        let mut body = Vec::new();
        write_ack(&[(2, 7), (3, 1 << 40)], &mut body);
        assert_eq!(body.len(), 2 + 32);
        assert_eq!(read_ack(&body).collect::<Vec<_>>(), [(2, 7), (3, 1 << 40)]);
        assert_eq!(read_ack(&body[..33]).count(), 0);
        assert_eq!(read_ack(&[]).count(), 0);
        body.clear();
        write_ack(&[(2, 7); 100], &mut body);
        assert_eq!(read_ack(&body).count(), ACKNOWLEDGED_MAX);
    }

    #[test]
    fn what_may_be_said_after_the_handshake_is_told_from_the_rest() {
        assert_eq!(read(&key_update(6)), Said::KeyUpdate { is_requested: false });
        assert_eq!(message_number(&key_update(600)), Some(600));
        let mut asked = key_update(6);
        asked[12] = 1;
        assert_eq!(read(&asked), Said::KeyUpdate { is_requested: true });
        asked[12] = 2;
        assert_eq!(read(&asked), Said::Violation);
        assert_eq!(read(&[key_update(6), key_update(7)].concat()), Said::Violation);
        let ticket = [4, 0, 0, 9, 0, 6, 0, 0, 0, 0, 0, 2, 1, 1];
        assert_eq!(read(&ticket), Said::Tickets);
        assert_eq!(read(&[ticket, ticket].concat()), Said::Tickets);
        assert_eq!(read(&[&ticket[..], &key_update(7)].concat()), Said::Violation);
        assert_eq!(read(&ticket[..13]), Said::Violation);
        assert_eq!(read(&[]), Said::Violation);
        assert_eq!(read(&[20, 0, 0, 0, 0, 6, 0, 0, 0, 0, 0, 0]), Said::Violation);
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            read(&bytes);
            message_number(&bytes);
            prop_assert!(read_ack(&bytes).count() * NUMBER_BYTES <= bytes.len());
        }
    }
}
