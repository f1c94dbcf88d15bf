//! Which protocol a datagram on the shared port belongs to (RFC 7983 §7), by its first byte alone.

/// The longest datagram looked at, in bytes. Peers send at most 1,500 (Ethernet); longer ones are not for us.
pub const DATAGRAM_BYTES_MAX: usize = 2_048;

/// A protocol that shares the port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// First byte 0 to 3.
    Stun,
    /// First byte 20 to 63.
    Dtls,
}

/// The protocol of `datagram`; none when it is empty, too long or of another protocol (ZRTP, TURN channels, RTP).
#[must_use]
pub fn protocol(datagram: &[u8]) -> Option<Protocol> {
    if datagram.len() > DATAGRAM_BYTES_MAX {
        return None;
    }
    match datagram.first()? {
        0..=3 => Some(Protocol::Stun),
        20..=63 => Some(Protocol::Dtls),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_byte_decides() {
        for byte in 0..=u8::MAX {
            let expected = match byte {
                0..=3 => Some(Protocol::Stun),
                20..=63 => Some(Protocol::Dtls),
                _ => None,
            };
            assert_eq!(protocol(&[byte, 0, 0]), expected, "{byte}");
        }
        assert_eq!(protocol(&[]), None);
        assert_eq!(protocol(&[22; DATAGRAM_BYTES_MAX + 1]), None);
    }
}
