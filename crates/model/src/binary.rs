//! Fixed-size binary values and their one text form: base64url without padding (RFC 4648 §5).

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

pub(crate) fn decode<const N: usize>(text: &str) -> Result<[u8; N], TextError> {
    use base64::Engine as _;
    // Four characters carry three bytes; a longer text cannot be right and is not worth decoding.
    if text.len() > N.div_ceil(3) * 4 {
        return Err(TextError::Length { want: N, got: text.len() / 4 * 3 });
    }
    let bytes =
        base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(text).map_err(|_| TextError::Alphabet)?;
    bytes.as_slice().try_into().map_err(|_| TextError::Length { want: N, got: bytes.len() })
}

pub(crate) fn encode(bytes: &[u8]) -> alloc::string::String {
    use base64::Engine as _;
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes)
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
                f.write_str(&$crate::binary::encode(&self.0))
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
