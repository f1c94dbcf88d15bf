//! One door: an operation's bytes come in, its answer's bytes stay until the next call.

use alloc::vec::Vec;

use ed25519_dalek::{Signature, VerifyingKey};
use sha2::{Digest, Sha256};

/// The longest input of one call. The largest message is a catalog with its init
/// segments inline; media comes in pieces of 64 KiB.
pub const INPUT_BYTES_MAX: usize = 1 << 20;

/// Moved whenever the meaning of an operation's bytes moves, so that a page with a stale module says so.
const ABI: u32 = 1;

const PUBLIC_KEY_BYTES: usize = 32;
const SIGNATURE_BYTES: usize = 64;

/// What a call asks for. The numbers are the contract with `instance.ts`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Op {
    /// Nothing in; the ABI's version as four little-endian bytes out.
    Version = 0,
    /// Any bytes in; their SHA-256, 32 bytes, out.
    Hash = 1,
    /// Ed25519 public key (32), signature (64), message in; nothing out.
    Verify = 2,
}

impl Op {
    /// The operation with this number.
    #[must_use]
    pub const fn from_number(number: u32) -> Option<Self> {
        match number {
            0 => Some(Self::Version),
            1 => Some(Self::Hash),
            2 => Some(Self::Verify),
            _ => None,
        }
    }
}

/// Why a call has no answer. Negative, because an answer's length is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i32)]
pub enum Refusal {
    /// No such operation: module and page do not belong together.
    UnknownOp = -1,
    /// The bytes are not what the operation wants.
    Malformed = -2,
    /// The signature does not hold.
    Unsigned = -3,
    /// Longer than [`INPUT_BYTES_MAX`].
    TooLong = -4,
}

/// The state behind the exports: what the page wrote, and what it may read.
#[derive(Debug, Default)]
pub struct Door {
    inbox: Vec<u8>,
    outbox: Vec<u8>,
}

impl Door {
    /// Makes room for the next call's input and gives it to be written.
    pub fn reserve(&mut self, len: usize) -> Result<&mut [u8], Refusal> {
        if len > INPUT_BYTES_MAX {
            return Err(Refusal::TooLong);
        }
        self.inbox.clear();
        self.inbox.resize(len, 0);
        Ok(&mut self.inbox)
    }

    /// Carries out `op` on what was reserved and written; the input is used up.
    pub fn call(&mut self, op: u32) -> Result<&[u8], Refusal> {
        let input = core::mem::take(&mut self.inbox);
        self.outbox.clear();
        match Op::from_number(op).ok_or(Refusal::UnknownOp)? {
            Op::Version => self.outbox.extend_from_slice(&ABI.to_le_bytes()),
            Op::Hash => self.outbox.extend_from_slice(&Sha256::digest(&input)),
            Op::Verify => verify(&input)?,
        }
        Ok(&self.outbox)
    }

    /// The answer of the last call.
    #[must_use]
    pub fn outbox(&self) -> &[u8] {
        &self.outbox
    }
}

fn verify(input: &[u8]) -> Result<(), Refusal> {
    let (key, rest) = input.split_first_chunk::<PUBLIC_KEY_BYTES>().ok_or(Refusal::Malformed)?;
    let (signature, message) = rest.split_first_chunk::<SIGNATURE_BYTES>().ok_or(Refusal::Malformed)?;
    let key = VerifyingKey::from_bytes(key).map_err(|_| Refusal::Malformed)?;
    key.verify_strict(message, &Signature::from_bytes(signature)).map_err(|_| Refusal::Unsigned)
}

#[cfg(test)]
mod tests {
    use ed25519_dalek::{Signer, SigningKey};

    use super::*;

    fn call(op: u32, input: &[u8]) -> Result<Vec<u8>, Refusal> {
        let mut door = Door::default();
        door.reserve(input.len())?.copy_from_slice(input);
        door.call(op).map(<[u8]>::to_vec)
    }

    #[test]
    fn hashes_what_was_written() {
        assert_eq!(call(1, b"abc").unwrap(), Sha256::digest(b"abc").as_slice());
    }

    #[test]
    fn a_signature_holds_for_its_message_alone() {
        let key = SigningKey::from_bytes(&[7; 32]);
        let signed = |message: &[u8]| {
            let mut input = key.verifying_key().to_bytes().to_vec();
            input.extend_from_slice(&key.sign(b"right").to_bytes());
            input.extend_from_slice(message);
            input
        };
        assert_eq!(call(2, &signed(b"right")).unwrap(), []);
        assert_eq!(call(2, &signed(b"wrong")), Err(Refusal::Unsigned));
        assert_eq!(call(2, &signed(b"")[..95]), Err(Refusal::Malformed));
    }

    #[test]
    fn refuses_what_it_does_not_know_and_what_is_too_long() {
        assert_eq!(call(99, b""), Err(Refusal::UnknownOp));
        assert_eq!(Door::default().reserve(INPUT_BYTES_MAX + 1).err(), Some(Refusal::TooLong));
    }

    #[test]
    fn an_input_is_used_once() {
        let mut door = Door::default();
        door.reserve(3).unwrap().copy_from_slice(b"abc");
        door.call(1).unwrap();
        assert_eq!(door.call(1).unwrap(), Sha256::digest(b"").as_slice());
    }
}
