//! Fixed-size binary values and their one text form: base64url without padding (RFC 4648 §5).

use alloc::{string::String, vec::Vec};

use thiserror::Error;

/// Why a text is not the base64url form of a value of `N` bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum TextError {
    /// A character outside the base64url alphabet, padding, or stray trailing bits.
    #[error("not base64url without padding (letters, digits, '-' and '_')")]
    Alphabet,
    /// The text decodes to another number of bytes than the value has.
    #[error("{got} bytes where {want} belong")]
    Length {
        /// Bytes the value has.
        want: usize,
        /// Bytes the text decodes to.
        got: usize,
    },
}

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// The bytes that `text` is the base64url form of.
///
/// # Errors
/// [`TextError::Alphabet`]: nothing but the one form is read.
pub fn from_base64url(text: &str) -> Result<Vec<u8>, TextError> {
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3 + 2);
    let (mut bits, mut count) = (0_u32, 0);
    for character in text.bytes() {
        let value = match character {
            b'A'..=b'Z' => character - b'A',
            b'a'..=b'z' => character - b'a' + 26,
            b'0'..=b'9' => character - b'0' + 52,
            b'-' => 62,
            b'_' => 63,
            _ => return Err(TextError::Alphabet),
        };
        bits = bits << 6 | u32::from(value);
        count += 6;
        if count >= 8 {
            count -= 8;
            let [.., byte] = (bits >> count).to_be_bytes();
            bytes.push(byte);
            bits &= (1 << count) - 1;
        }
    }
    // A whole character that carries nothing, or bits that carry something nobody would read.
    if count >= 6 || bits != 0 { Err(TextError::Alphabet) } else { Ok(bytes) }
}

/// The base64url form of `bytes`, without padding.
#[must_use]
pub fn base64url(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for three in bytes.chunks(3) {
        let [a, b, c] = [0, 1, 2].map(|at| u32::from(three.get(at).copied().unwrap_or(0)));
        let bits = a << 16 | b << 8 | c;
        for character in 0..=three.len() {
            let value = bits >> (18 - 6 * character) & 63;
            text.push(char::from(ALPHABET[value as usize]));
        }
    }
    text
}

pub(crate) fn decode<const N: usize>(text: &str) -> Result<[u8; N], TextError> {
    // Four characters carry three bytes; a longer text cannot be right and is not worth decoding.
    if text.len() > N.div_ceil(3) * 4 {
        return Err(TextError::Length { want: N, got: text.len() / 4 * 3 });
    }
    let bytes = from_base64url(text)?;
    bytes.as_slice().try_into().map_err(|_| TextError::Length { want: N, got: bytes.len() })
}

/// Declares a newtype over `[u8; N]` that prints, parses and serialises as base64url.
macro_rules! binary {
    ($(#[$doc:meta])* $name:ident, $len:expr) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(pub [u8; $len]);

        impl $name {
            /// Size in bytes.
            pub const BYTES: usize = $len;

            /// The value as bytes.
            #[must_use]
            pub const fn as_bytes(&self) -> &[u8; $len] {
                &self.0
            }
        }

        impl core::fmt::Display for $name {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                f.write_str(&$crate::base64url(&self.0))
            }
        }

        impl core::fmt::Debug for $name {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                write!(f, "{}({self})", stringify!($name))
            }
        }

        impl core::str::FromStr for $name {
            type Err = $crate::TextError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                $crate::binary::decode(text).map(Self)
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = <alloc::borrow::Cow<'de, str> as serde::Deserialize>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}
pub(crate) use binary;

#[cfg(test)]
mod tests {
    use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn writes_and_reads_what_the_base64_crate_does(bytes: Vec<u8>, text in "[A-Za-f0-9_=+ é-]{0,24}") {
            prop_assert_eq!(base64url(&bytes), URL_SAFE_NO_PAD.encode(&bytes));
            prop_assert_eq!(from_base64url(&base64url(&bytes)), Ok(bytes));
            prop_assert_eq!(from_base64url(&text).ok(), URL_SAFE_NO_PAD.decode(&text).ok());
        }
    }
}
