//! Binding requests and their answers, written.

use std::net::{IpAddr, SocketAddr};

use hmac::Mac as _;

use super::{
    BINDING_ERROR, BINDING_REQUEST, BINDING_SUCCESS, ERROR_CODE, FINGERPRINT, HEADER_BYTES, ICE_CONTROLLED,
    ICE_CONTROLLING, INTEGRITY_BYTES, MAGIC_COOKIE, MESSAGE_INTEGRITY, PRIORITY, TransactionId,
    USE_CANDIDATE, USERNAME, XOR_MAPPED_ADDRESS, crc_of, length_field, mac_of, mask, xor,
};

/// What a connectivity check says (RFC 8445 §7.1).
#[derive(Debug, Clone, Copy)]
pub struct Check<'a> {
    /// Names the request; random.
    pub transaction: TransactionId,
    /// The asked side's ufrag.
    pub their_ufrag: &'a str,
    /// The asking side's ufrag.
    pub our_ufrag: &'a str,
    /// PRIORITY of the candidate the answer would make.
    pub priority: u32,
    /// ICE-CONTROLLING, or ICE-CONTROLLED.
    pub tie_breaker: u64,
    /// Nominate the path.
    pub use_candidate: bool,
}

/// Writes a check by the controlling side under the asked side's `password`.
#[must_use]
pub fn request(check: &Check<'_>, password: &str) -> Vec<u8> {
    let mut writer = Writer::check(check, ICE_CONTROLLING);
    if check.use_candidate {
        writer.attribute(USE_CANDIDATE, &[]);
    }
    writer.finish(password)
}

/// Writes a check by the controlled side under the asked side's `password`. It nominates nothing, whatever
/// `use_candidate` says (RFC 8445 §7.1.2).
#[must_use]
pub fn controlled_request(check: &Check<'_>, password: &str) -> Vec<u8> {
    Writer::check(check, ICE_CONTROLLED).finish(password)
}

/// Writes the plain request that asks a server where it comes from (RFC 8489 §2).
#[must_use]
pub fn binding_request(transaction: TransactionId) -> Vec<u8> {
    Writer::new(BINDING_REQUEST, transaction).bytes
}

/// Writes the answer to the plain request `transaction` that came from `from`, for strangers: 40 bytes, by IPv6 52, so
/// less than three times the shortest request.
#[must_use]
pub fn binding_success(transaction: TransactionId, from: SocketAddr) -> Vec<u8> {
    let mut writer = Writer::new(BINDING_SUCCESS, transaction);
    writer.attribute(XOR_MAPPED_ADDRESS, &map(from, &transaction));
    writer.finish_plain()
}

/// Writes the answer to the request `transaction` that came from `from`.
#[must_use]
pub fn success(transaction: TransactionId, from: SocketAddr, password: &str) -> Vec<u8> {
    let mut writer = Writer::new(BINDING_SUCCESS, transaction);
    writer.attribute(XOR_MAPPED_ADDRESS, &map(from, &transaction));
    writer.finish(password)
}

/// Writes the refusal 487 (Role Conflict) to a peer that believes to be controlled: we are ICE-lite and always are.
#[must_use]
pub fn role_conflict(transaction: TransactionId, password: &str) -> Vec<u8> {
    let mut writer = Writer::new(BINDING_ERROR, transaction);
    writer.attribute(ERROR_CODE, &[0, 0, 4, 87]);
    writer.finish(password)
}

pub(super) struct Writer {
    pub(super) bytes: Vec<u8>,
}

impl Writer {
    pub(super) fn new(kind: u16, transaction: TransactionId) -> Self {
        let mut bytes = Vec::with_capacity(128);
        bytes.extend(kind.to_be_bytes());
        bytes.extend([0, 0]);
        bytes.extend(MAGIC_COOKIE.to_be_bytes());
        bytes.extend(transaction);
        Self { bytes }
    }

    /// What all checks say; `role` is the attribute that bears the tie-breaker.
    fn check(check: &Check<'_>, role: u16) -> Self {
        let mut writer = Self::new(BINDING_REQUEST, check.transaction);
        writer.attribute(USERNAME, format!("{}:{}", check.their_ufrag, check.our_ufrag).as_bytes());
        writer.attribute(PRIORITY, &check.priority.to_be_bytes());
        writer.attribute(role, &check.tie_breaker.to_be_bytes());
        writer
    }

    pub(super) fn attribute(&mut self, kind: u16, value: &[u8]) {
        // Our values are bounded by the ufrag; one that is longer than its length field can say is left out.
        let Ok(length) = u16::try_from(value.len()) else { return };
        self.bytes.extend(kind.to_be_bytes());
        self.bytes.extend(length.to_be_bytes());
        self.bytes.extend(value);
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
        self.bytes.splice(2..4, length_field(self.bytes.len() - HEADER_BYTES));
    }

    fn finish(mut self, password: &str) -> Vec<u8> {
        if let Some(mac) = mac_of(password, &self.bytes, INTEGRITY_BYTES) {
            let mac: [u8; INTEGRITY_BYTES] = mac.finalize().into_bytes().into();
            self.attribute(MESSAGE_INTEGRITY, &mac);
        }
        self.finish_plain()
    }

    fn finish_plain(mut self) -> Vec<u8> {
        let crc = crc_of(&self.bytes);
        self.attribute(FINGERPRINT, &crc.to_be_bytes());
        self.bytes
    }
}

fn map(address: SocketAddr, transaction: &TransactionId) -> Vec<u8> {
    let mask = mask(transaction);
    let (family, octets) = match address.ip().to_canonical() {
        IpAddr::V4(ip) => (1, ip.octets().to_vec()),
        IpAddr::V6(ip) => (2, ip.octets().to_vec()),
    };
    let mut value = vec![0, family];
    value.extend(xor(&address.port().to_be_bytes(), &mask));
    value.extend(xor(&octets, &mask));
    value
}
