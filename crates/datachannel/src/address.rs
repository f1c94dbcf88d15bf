//! What a viewer must know to reach an edge, and the alphabet it is written in.

use std::{net::SocketAddr, ops::RangeInclusive};

use millstream_model::Fingerprint;
use millstream_sctp::Entropy;

/// How long an ICE user name fragment may be (RFC 8839 §5.4).
pub const UFRAG_CHARS: RangeInclusive<usize> = 4..=256;

/// How long an ICE password may be (RFC 8839 §5.4).
pub const PASSWORD_CHARS: RangeInclusive<usize> = 22..=256;

/// Where an edge listens and how to know that it is the one: what the tracker hands out with a grant.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Address {
    /// The public UDP address.
    pub socket: SocketAddr,
    /// The edge's ICE user name fragment.
    pub ufrag: String,
    /// The edge's ICE password. Public: it keeps strays away and proves nothing.
    pub password: String,
    /// SHA-256 of the edge's DTLS certificate: this is what a viewer trusts.
    pub fingerprint: Fingerprint,
}

/// Addresses that a viewer may say to be at.
pub const CANDIDATES_MAX: usize = 8;

/// Where a viewer is, as it says itself: what an edge behind NAT must know to let it in. It is told by way of the
/// tracker, and proves nothing.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Candidates {
    /// The viewer's ICE user name fragment.
    pub ufrag: String,
    /// The viewer's ICE password.
    pub password: String,
    /// Its UDP addresses, 1 to [`CANDIDATES_MAX`].
    pub candidates: Vec<SocketAddr>,
}

/// The alphabet of `ice-char` (RFC 8839 §5.4): 64 characters, so six bits choose one without bias.
const ICE_CHARS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// `chars` random characters that may stand in an ICE user name fragment or password.
///
/// # Errors
///
/// When the operating system gives no randomness.
pub fn random_token(chars: usize) -> Result<String, getrandom::Error> {
    let mut bytes = vec![0; chars];
    getrandom::fill(&mut bytes)?;
    Ok(bytes.into_iter().map(|byte| char::from(ICE_CHARS[usize::from(byte & 63)])).collect())
}

/// What one association is random by.
///
/// # Errors
///
/// When the operating system gives no randomness.
pub(crate) fn random_entropy() -> Result<Entropy, getrandom::Error> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes)?;
    Ok(Entropy(bytes))
}

/// Whether it is the same place: a socket for both families sees IPv4 as mapped, and notes more of an IPv6 address.
pub(crate) fn is_same(one: SocketAddr, other: SocketAddr) -> bool {
    one.ip().to_canonical() == other.ip().to_canonical() && one.port() == other.port()
}

/// Whether `text` is made of `ice-char` and of a length in `chars`.
pub(crate) fn is_ice_text(text: &str, chars: &RangeInclusive<usize>) -> bool {
    chars.contains(&text.len()) && text.bytes().all(|byte| ICE_CHARS.contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_tokens_are_ice_text_and_differ() {
        let (one, two) = (random_token(24).unwrap(), random_token(24).unwrap());
        assert!(is_ice_text(&one, &PASSWORD_CHARS));
        assert_ne!(one, two);
        assert!(!is_ice_text("abc", &UFRAG_CHARS));
        assert!(!is_ice_text("a b c d", &UFRAG_CHARS));
        assert!(!is_ice_text(&"a".repeat(257), &UFRAG_CHARS));
    }
}
