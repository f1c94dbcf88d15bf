//! The state cookie (RFC 9260 §5.1.3): what an INIT ACK asks the peer to keep for us, so that nothing is kept here for
//! who never comes back.

use std::{fmt, time::Duration};

use hmac::{Hmac, KeyInit as _, Mac as _};
use millstream_model::Instant;
use sha2::Sha256;

/// A cookie that is older is refused (Valid.Cookie.Life, RFC 9260 §16).
pub(super) const LIFE: Duration = Duration::from_secs(60);

const BODY_BYTES: usize = 41;
const MAC_BYTES: usize = 16;

/// Bytes of a cookie.
pub(super) const COOKIE_BYTES: usize = BODY_BYTES + MAC_BYTES;

/// Authenticates cookies, and makes tags that nobody can guess.
#[derive(Clone)]
pub(super) struct Key([u8; 16]);

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(…)")
    }
}

/// What a cookie says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cookie {
    pub(super) local_tag: u32,
    pub(super) local_tsn: u32,
    pub(super) peer_tag: u32,
    pub(super) peer_tsn: u32,
    pub(super) peer_window: u32,
    pub(super) peer_outbound: u16,
    pub(super) peer_inbound: u16,
    pub(super) interleaves: bool,
    pub(super) resets: bool,
    pub(super) forwards: bool,
    pub(super) zero_checksum: bool,
    /// The tags of the association that there was when it was made; zeros when there was none (RFC 9260 §5.2.2).
    pub(super) tie_tags: (u32, u32),
    pub(super) made: Instant,
}

/// Why a cookie is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// We did not make it.
    Forged,
    /// Too old, by so much.
    Stale(Duration),
}

impl Key {
    pub(super) const fn new(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The `n`th tag, not zero.
    pub(super) fn tag(&self, n: u32) -> (u32, u32) {
        let [a, b, c, d, e, f, g, h, ..] = self.mac(&[b"tag".as_slice(), &n.to_be_bytes()].concat());
        (u32::from_be_bytes([a, b, c, d]).max(1), u32::from_be_bytes([e, f, g, h]))
    }

    fn mac(&self, bytes: &[u8]) -> [u8; MAC_BYTES] {
        let mut truncated = [0; MAC_BYTES];
        // HMAC takes keys of any length; none is refused.
        if let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(&self.0) {
            mac.update(bytes);
            truncated.copy_from_slice(&mac.finalize().into_bytes()[..MAC_BYTES]);
        }
        truncated
    }
}

impl Cookie {
    pub(super) fn seal(&self, key: &Key) -> [u8; COOKIE_BYTES] {
        let mut bytes = [0; COOKIE_BYTES];
        let words = [self.local_tag, self.local_tsn, self.peer_tag, self.peer_tsn, self.peer_window];
        let ties = [self.tie_tags.0, self.tie_tags.1];
        let flags = u8::from(self.interleaves)
            | u8::from(self.resets) << 1
            | u8::from(self.forwards) << 2
            | u8::from(self.zero_checksum) << 3;
        let body = words
            .iter()
            .chain(&ties)
            .flat_map(|word| word.to_be_bytes())
            .chain(self.peer_outbound.to_be_bytes())
            .chain(self.peer_inbound.to_be_bytes())
            .chain([flags])
            .chain(self.made.0.to_be_bytes());
        for (place, byte) in bytes.iter_mut().zip(body) {
            *place = byte;
        }
        let mac = key.mac(&bytes[..BODY_BYTES]);
        bytes[BODY_BYTES..].copy_from_slice(&mac);
        bytes
    }

    pub(super) fn open(bytes: &[u8], key: &Key, now: Instant) -> Result<Self, Refusal> {
        let (body, told) = bytes.split_first_chunk::<BODY_BYTES>().ok_or(Refusal::Forged)?;
        // Compared in constant time: the bytes come from the peer.
        let mac = key.mac(body);
        if told.len() != MAC_BYTES || mac.iter().zip(told).fold(0, |diff, (a, b)| diff | (a ^ b)) != 0 {
            return Err(Refusal::Forged);
        }
        let word = |at: usize| {
            body.get(at..at + 4).and_then(|word| word.try_into().ok()).map_or(0, u32::from_be_bytes)
        };
        let [.., o0, o1, i0, i1, flags, m0, m1, m2, m3, m4, m5, m6, m7] = *body;
        let made = Instant(u64::from_be_bytes([m0, m1, m2, m3, m4, m5, m6, m7]));
        let age = now.since(made);
        if age > LIFE {
            return Err(Refusal::Stale(age - LIFE));
        }
        Ok(Self {
            local_tag: word(0),
            local_tsn: word(4),
            peer_tag: word(8),
            peer_tsn: word(12),
            peer_window: word(16),
            tie_tags: (word(20), word(24)),
            peer_outbound: u16::from_be_bytes([o0, o1]),
            peer_inbound: u16::from_be_bytes([i0, i1]),
            interleaves: flags & 1 != 0,
            resets: flags & 2 != 0,
            forwards: flags & 4 != 0,
            zero_checksum: flags & 8 != 0,
            made,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cookie() -> Cookie {
        Cookie {
            local_tag: 1,
            local_tsn: 2,
            peer_tag: 3,
            peer_tsn: 4,
            peer_window: 5,
            peer_outbound: 6,
            peer_inbound: 7,
            interleaves: true,
            resets: false,
            forwards: true,
            zero_checksum: false,
            tie_tags: (8, 9),
            made: Instant::from_millis(1_000),
        }
    }

    #[test]
    fn a_cookie_comes_back_as_it_was_and_not_too_late() {
        let key = Key::new([7; 16]);
        let sealed = cookie().seal(&key);
        let made = cookie().made;
        assert_eq!(Cookie::open(&sealed, &key, made + LIFE), Ok(cookie()));
        let late = Duration::from_millis(1);
        assert_eq!(Cookie::open(&sealed, &key, made + LIFE + late), Err(Refusal::Stale(late)));
    }

    #[test]
    fn no_byte_of_it_can_be_changed() {
        let key = Key::new([7; 16]);
        let sealed = cookie().seal(&key);
        for at in 0..sealed.len() {
            let mut forged = sealed;
            forged[at] ^= 1;
            assert_eq!(Cookie::open(&forged, &key, cookie().made), Err(Refusal::Forged), "byte {at}");
            assert_eq!(Cookie::open(&sealed[..at], &key, cookie().made), Err(Refusal::Forged));
        }
        assert_eq!(Cookie::open(&sealed, &Key::new([8; 16]), cookie().made), Err(Refusal::Forged));
    }

    #[test]
    fn tags_differ_and_are_not_zero() {
        let key = Key::new([1; 16]);
        assert_ne!(key.tag(1), key.tag(2));
        assert_ne!(key.tag(1).0, 0);
    }
}
