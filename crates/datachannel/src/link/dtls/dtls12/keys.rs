//! The keys of a connection, from what its handshake agreed upon (RFC 5246 §5 and §6.3). Pure.

use ring::hmac;

use super::record::{KEY_BYTES, Key, SALT_BYTES};

/// Bytes of each side's random number.
pub(in super::super) const RANDOM_BYTES: usize = 32;

/// What stands before both random numbers in the seed (RFC 5246 §6.3): the server's, then the client's.
pub(in super::super) const KEY_EXPANSION: &[u8] = b"key expansion";

/// Both directions' keys.
pub(in super::super) struct Keys {
    pub(in super::super) client: Key,
    pub(in super::super) server: Key,
}

impl Keys {
    /// Expands a master secret. The suite is TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, the only one we agree to.
    pub(in super::super) fn expand(
        master: &[u8],
        client_random: &[u8; RANDOM_BYTES],
        server_random: &[u8; RANDOM_BYTES],
    ) -> Option<Self> {
        let seed = [KEY_EXPANSION, server_random, client_random].concat();
        let block = expand(master, &seed, 2 * (KEY_BYTES + SALT_BYTES));
        let (client_key, rest) = block.split_at_checked(KEY_BYTES)?;
        let (server_key, rest) = rest.split_at_checked(KEY_BYTES)?;
        let (client_salt, rest) = rest.split_first_chunk()?;
        let (server_salt, _) = rest.split_first_chunk()?;
        Some(Self {
            client: Key::new(client_key, *client_salt)?,
            server: Key::new(server_key, *server_salt)?,
        })
    }
}

/// `P_SHA256` of RFC 5246 §5.
fn expand(secret: &[u8], seed: &[u8], bytes: usize) -> Vec<u8> {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
    let mut out = Vec::new();
    let mut link = hmac::sign(&key, seed);
    while out.len() < bytes {
        let mut context = hmac::Context::with_key(&key);
        context.update(link.as_ref());
        context.update(seed);
        out.extend_from_slice(context.sign().as_ref());
        link = hmac::sign(&key, link.as_ref());
    }
    out.truncate(bytes);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The test vector for `P_SHA256` that the TLS working group's list has for TLS 1.2's PRF (label "test label").
    #[test]
    fn the_expansion_is_that_of_tls() {
        let secret =
            [0x9b, 0xbe, 0x43, 0x6b, 0xa9, 0x40, 0xf0, 0x17, 0xb1, 0x76, 0x52, 0x84, 0x9a, 0x71, 0xdb, 0x35];
        let seed =
            [0xa0, 0xba, 0x9f, 0x93, 0x6c, 0xda, 0x31, 0x18, 0x27, 0xa6, 0xf7, 0x96, 0xff, 0xd5, 0x19, 0x8c];
        let out = expand(&secret, &[&b"test label"[..], &seed].concat(), 100);
        assert_eq!(out[..8], [0xe3, 0xf2, 0x29, 0xba, 0x72, 0x7b, 0xe1, 0x7b]);
        assert_eq!(out[96..], [0x87, 0x34, 0x7b, 0x66]);
    }
}
