//! Public keys, signatures and hashes as plain bytes. Who signs what stands in `docs/protocol/signing.md`.

use crate::binary::binary;

binary! {
    /// An Ed25519 public key (RFC 8032): roots, packagers, edges and trackers.
    PublicKey, 32
}

binary! {
    /// An Ed25519 signature (RFC 8032).
    Signature, 64
}

binary! {
    /// A viewer's session key: ECDSA P-256, compressed SEC1 point. P-256 because every browser's WebCrypto
    /// makes such a key that cannot be exported.
    SessionKey, 33
}

binary! {
    /// A signature by a session key: `r || s`, 32 bytes each (IEEE P1363, what WebCrypto produces), over SHA-256.
    SessionSignature, 64
}

binary! {
    /// A SHA-256 digest (FIPS 180-4).
    Hash, 32
}

binary! {
    /// SHA-256 of a DTLS certificate in DER, as in SDP's `a=fingerprint:sha-256` (RFC 8122).
    Fingerprint, 32
}

/// An edge is known by its device key.
pub type EdgeId = PublicKey;

/// A tracker is known by the key it signs grants and receipts with.
pub type TrackerId = PublicKey;
