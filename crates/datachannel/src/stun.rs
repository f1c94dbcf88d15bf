//! STUN as ICE uses it: binding requests and their answers (RFC 8489, RFC 8445 §7), read and written as bytes.
//!
//! Pure and bounded: reading borrows from the datagram, looks at it once and never allocates. Short-term
//! credentials only: MESSAGE-INTEGRITY is HMAC-SHA1 under the password of whoever is asked. A question where one is
//! seen from needs none.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha1::Sha1;
use thiserror::Error;

mod write;

pub use write::{
    Check, binding_request, binding_success, controlled_request, request, role_conflict, success,
};

/// Every STUN message carries it (RFC 8489 §5).
const MAGIC_COOKIE: u32 = 0x2112_A442;

/// XORed into FINGERPRINT so that it differs from other CRCs over the same bytes (RFC 8489 §14.7).
const FINGERPRINT_XOR: u32 = 0x5354_554E;

/// The longest user name looked at: two user name fragments of 256 characters and a colon.
const USERNAME_BYTES_MAX: usize = 513;

const HEADER_BYTES: usize = 20;
const INTEGRITY_BYTES: usize = 20;

const BINDING_REQUEST: u16 = 0x0001;
const BINDING_INDICATION: u16 = 0x0011;
const BINDING_SUCCESS: u16 = 0x0101;
const BINDING_ERROR: u16 = 0x0111;

const USERNAME: u16 = 0x0006;
const MESSAGE_INTEGRITY: u16 = 0x0008;
const ERROR_CODE: u16 = 0x0009;
const XOR_MAPPED_ADDRESS: u16 = 0x0020;
const PRIORITY: u16 = 0x0024;
const USE_CANDIDATE: u16 = 0x0025;
const FINGERPRINT: u16 = 0x8028;
const ICE_CONTROLLED: u16 = 0x8029;
const ICE_CONTROLLING: u16 = 0x802A;

/// Names one request; its answer repeats it.
pub type TransactionId = [u8; 12];

/// What a binding message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Class {
    /// A check.
    Request,
    /// A sign of life that wants no answer.
    Indication,
    /// The check was heard.
    Success,
    /// The check was refused.
    Error,
}

/// Which side of ICE the sender believes to be, with its tie-breaker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// It chooses the path. What a peer of an ICE-lite agent must be.
    Controlling(u64),
    /// It lets the other side choose.
    Controlled(u64),
}

/// A binding message, borrowed from its datagram. Only what stands before MESSAGE-INTEGRITY is in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Message<'a> {
    /// Request, indication or answer.
    pub class: Class,
    /// Names the request.
    pub transaction: TransactionId,
    /// USERNAME: `<asked side's ufrag>:<asking side's ufrag>`.
    pub username: Option<&'a str>,
    /// ICE-CONTROLLING or ICE-CONTROLLED.
    pub role: Option<Role>,
    /// The asking side nominates this path.
    pub use_candidate: bool,
    /// XOR-MAPPED-ADDRESS: where the request came from.
    pub mapped: Option<SocketAddr>,
    /// ERROR-CODE, 300 to 699.
    pub error_code: Option<u16>,
    integrity: Option<Integrity<'a>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Integrity<'a> {
    /// The datagram up to the attribute.
    covered: &'a [u8],
    mac: &'a [u8],
}

/// Why a datagram is not a binding message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Error)]
pub enum Error {
    /// Not a STUN header, another method, or a length that does not match.
    #[error("not a STUN binding message")]
    Header,
    /// An attribute that runs out of the message or is not what its type says.
    #[error("malformed attribute {0:#06x}")]
    Attribute(u16),
    /// FINGERPRINT does not match.
    #[error("wrong fingerprint")]
    Fingerprint,
}

impl<'a> Message<'a> {
    /// Reads one datagram. Unknown attributes are passed over.
    ///
    /// # Errors
    ///
    /// When it is not a well-formed binding message.
    pub fn parse(datagram: &'a [u8]) -> Result<Self, Error> {
        let (header, body) = datagram.split_first_chunk::<HEADER_BYTES>().ok_or(Error::Header)?;
        let [t0, t1, l0, l1, c0, c1, c2, c3, transaction @ ..] = *header;
        let class = match u16::from_be_bytes([t0, t1]) {
            BINDING_REQUEST => Class::Request,
            BINDING_INDICATION => Class::Indication,
            BINDING_SUCCESS => Class::Success,
            BINDING_ERROR => Class::Error,
            _ => return Err(Error::Header),
        };
        let length = usize::from(u16::from_be_bytes([l0, l1]));
        if u32::from_be_bytes([c0, c1, c2, c3]) != MAGIC_COOKIE || length != body.len() || length % 4 != 0 {
            return Err(Error::Header);
        }
        let mut message = Self {
            class,
            transaction,
            username: None,
            role: None,
            use_candidate: false,
            mapped: None,
            error_code: None,
            integrity: None,
        };
        let mut offset = HEADER_BYTES;
        while let Some(rest) = datagram.get(offset..).filter(|rest| !rest.is_empty()) {
            let (head, rest) = rest.split_first_chunk::<4>().ok_or(Error::Header)?;
            let [t0, t1, l0, l1] = *head;
            let kind = u16::from_be_bytes([t0, t1]);
            let length = usize::from(u16::from_be_bytes([l0, l1]));
            let value = rest.get(..length).ok_or(Error::Attribute(kind))?;
            let covered = datagram.get(..offset).ok_or(Error::Attribute(kind))?;
            if kind == FINGERPRINT {
                return message.finish(covered, value, rest.len());
            }
            // RFC 8489 §14.5: what follows MESSAGE-INTEGRITY is not covered by it and does not count.
            if message.integrity.is_none() {
                message.attribute(kind, value, covered)?;
            }
            offset += 4 + length.next_multiple_of(4);
        }
        Ok(message)
    }

    /// Whether the message was made by somebody who knows `password`, and not changed since.
    #[must_use]
    pub fn is_authentic(&self, password: &str) -> bool {
        self.integrity.is_some_and(|integrity| {
            mac_of(password, integrity.covered, INTEGRITY_BYTES)
                .is_some_and(|mac| mac.verify_slice(integrity.mac).is_ok())
        })
    }

    /// Whether it bears no credentials: a request like this asks where it is seen to come from, and is no check.
    #[must_use]
    pub const fn is_plain(&self) -> bool {
        self.username.is_none() && self.integrity.is_none() && self.role.is_none()
    }

    fn attribute(&mut self, kind: u16, value: &'a [u8], covered: &'a [u8]) -> Result<(), Error> {
        let malformed = Error::Attribute(kind);
        match kind {
            USERNAME if value.len() <= USERNAME_BYTES_MAX => {
                self.username = Some(std::str::from_utf8(value).map_err(|_| malformed)?);
            }
            MESSAGE_INTEGRITY if value.len() == INTEGRITY_BYTES => {
                self.integrity = Some(Integrity { covered, mac: value });
            }
            USERNAME | MESSAGE_INTEGRITY => return Err(malformed),
            ICE_CONTROLLING => self.role = Some(Role::Controlling(tie_breaker(value).ok_or(malformed)?)),
            ICE_CONTROLLED => self.role = Some(Role::Controlled(tie_breaker(value).ok_or(malformed)?)),
            USE_CANDIDATE => self.use_candidate = true,
            XOR_MAPPED_ADDRESS => {
                self.mapped = Some(unmap(value, &self.transaction).ok_or(malformed)?);
            }
            ERROR_CODE => {
                let (&hundreds, &ones) = value.get(2).zip(value.get(3)).ok_or(malformed)?;
                self.error_code = Some(u16::from(hundreds & 7) * 100 + u16::from(ones));
            }
            _ => {}
        }
        Ok(())
    }

    /// FINGERPRINT must be right and last.
    fn finish(self, covered: &[u8], value: &[u8], rest: usize) -> Result<Self, Error> {
        if value == crc_of(covered).to_be_bytes() && rest == 4 { Ok(self) } else { Err(Error::Fingerprint) }
    }
}

/// HMAC-SHA1 over `covered` with its length field as if it ended with an attribute of `value_bytes` (RFC 8489 §14.5).
fn mac_of(password: &str, covered: &[u8], value_bytes: usize) -> Option<Hmac<Sha1>> {
    let mut mac = Hmac::<Sha1>::new_from_slice(password.as_bytes()).ok()?;
    mac.update(covered.get(..2)?);
    mac.update(&length_field(covered.len() - HEADER_BYTES + 4 + value_bytes));
    mac.update(covered.get(4..)?);
    Some(mac)
}

/// CRC-32 over `covered` with its length field as if it ended with FINGERPRINT (RFC 8489 §14.7).
fn crc_of(covered: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(&covered[..2]);
    crc.update(&length_field(covered.len() - HEADER_BYTES + 8));
    crc.update(&covered[4..]);
    crc.finalize() ^ FINGERPRINT_XOR
}

fn length_field(length: usize) -> [u8; 2] {
    u16::try_from(length).unwrap_or(u16::MAX).to_be_bytes()
}

fn tie_breaker(value: &[u8]) -> Option<u64> {
    value.try_into().ok().map(u64::from_be_bytes)
}

/// What an address is XORed with: the magic cookie, then the transaction (RFC 8489 §14.2).
fn mask(transaction: &TransactionId) -> [u8; 16] {
    let mut mask = [0; 16];
    mask[..4].copy_from_slice(&MAGIC_COOKIE.to_be_bytes());
    mask[4..].copy_from_slice(transaction);
    mask
}

fn unmap(value: &[u8], transaction: &TransactionId) -> Option<SocketAddr> {
    let mask = mask(transaction);
    let (&[_, family, p0, p1], octets) = value.split_first_chunk::<4>()?;
    let port = u16::from_be_bytes(xor(&[p0, p1], &mask).try_into().ok()?);
    let octets = xor(octets, &mask);
    let ip = match (family, value.len()) {
        (1, 8) => IpAddr::from(Ipv4Addr::from(<[u8; 4]>::try_from(octets).ok()?)),
        (2, 20) => IpAddr::from(Ipv6Addr::from(<[u8; 16]>::try_from(octets).ok()?)),
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}

fn xor(bytes: &[u8], mask: &[u8; 16]) -> Vec<u8> {
    bytes.iter().zip(mask).map(|(byte, mask)| byte ^ mask).collect()
}

#[cfg(test)]
mod tests;
