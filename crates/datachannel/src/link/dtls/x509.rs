//! The public key in a certificate (RFC 5280 §4.1, RFC 5480), which is all that a self-signed one is for. Pure.

const SEQUENCE: u8 = 0x30;
const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const OBJECT: u8 = 0x06;
const VERSION: u8 = 0xA0;

/// id-ecPublicKey.
const EC: &[u8] = &[0x2A, 0x86, 0x48, 0xCE, 0x3D, 0x02, 0x01];
/// secp256r1.
const P256: &[u8] = &[0x2A, 0x86, 0x48, 0xCE, 0x3D, 0x03, 0x01, 0x07];
/// secp384r1.
const P384: &[u8] = &[0x2B, 0x81, 0x04, 0x00, 0x22];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Curve {
    P256,
    P384,
}

/// A point on a curve.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PublicKey<'a> {
    pub(crate) curve: Curve,
    /// Uncompressed.
    pub(crate) point: &'a [u8],
}

/// The key of a certificate in DER; none when it is not an elliptic one or not well formed.
pub(crate) fn public_key(certificate: &[u8]) -> Option<PublicKey<'_>> {
    let (certificate, _) = read(certificate, SEQUENCE)?;
    let (mut rest, _) = read(certificate, SEQUENCE)?;
    if rest.first() == Some(&VERSION) {
        rest = read(rest, VERSION)?.1;
    }
    rest = read(rest, INTEGER)?.1;
    // Signature algorithm, issuer, validity, subject.
    for _ in 0..4 {
        rest = read(rest, SEQUENCE)?.1;
    }
    let (key, _) = read(rest, SEQUENCE)?;
    let (algorithm, key) = read(key, SEQUENCE)?;
    let (kind, algorithm) = read(algorithm, OBJECT)?;
    let (curve, _) = read(algorithm, OBJECT)?;
    let curve = match curve {
        P256 => Curve::P256,
        P384 => Curve::P384,
        _ => return None,
    };
    // The first byte of a bit string says how many bits of the last are not of it.
    let (0, point) = read(key, BIT_STRING)?.0.split_first().map(|(unused, point)| (*unused, point))? else {
        return None;
    };
    (kind == EC).then_some(PublicKey { curve, point })
}

/// The value of the first element, which must be of `tag`, and what follows it.
fn read(bytes: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (&[is, length], rest) = bytes.split_first_chunk()?;
    let (length, rest) = match length {
        ..=0x7F => (usize::from(length), rest),
        0x81 => rest.split_first().map(|(length, rest)| (usize::from(*length), rest))?,
        0x82 => {
            rest.split_first_chunk().map(|(length, rest)| (usize::from(u16::from_be_bytes(*length)), rest))?
        }
        // Longer than a certificate that fits a handshake.
        _ => return None,
    };
    if is == tag { rest.split_at_checked(length) } else { None }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::Certificate;

    #[test]
    fn the_key_of_a_certificate_is_found() {
        let made = Certificate::generate().unwrap();
        let key = public_key(made.der()).unwrap();
        assert_eq!(key.curve, Curve::P256);
        assert_eq!((key.point.len(), key.point[0]), (65, 4));
    }

    #[test]
    fn a_certificate_that_is_cut_short_has_no_key() {
        let made = Certificate::generate().unwrap();
        for length in 0..made.der().len() {
            assert_eq!(public_key(&made.der()[..length]), None, "{length} bytes");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic_the_reader(
            bytes in proptest::collection::vec(any::<u8>(), 0..300),
            at in any::<prop::sample::Index>(),
            byte in any::<u8>(),
        ) {
            public_key(&bytes);
            let made = Certificate::generate().unwrap();
            let mut bytes = made.der().to_vec();
            let at = at.index(bytes.len());
            bytes[at] = byte;
            public_key(&bytes);
        }
    }
}
