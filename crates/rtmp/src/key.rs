//! The stream key: a secret that travels in the publisher's URL and must not travel any further.

use core::fmt;

/// Bytes in a stream key at most; ours are far shorter, and RTMP names have no bound of their own.
pub const KEY_BYTES_MAX: usize = 256;

/// Keys at least this long show their first [`SHOWN_CHARS`] in logs, so that an operator can tell two apart;
/// shorter ones would lose too much of their strength.
const SHOWN_FROM_CHARS: usize = 16;

/// Leading characters of a long key that logs may show.
const SHOWN_CHARS: usize = 4;

/// A stream key. `Debug` and `Display` mask it; [`StreamKey::expose`] is the only way to its text.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct StreamKey(Box<str>);

/// Why a publish name is no stream key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Nothing stands where the key belongs.
    #[error("the stream key is missing: publish to rtmp://host/live/<stream key>")]
    Empty,
    /// Longer than [`KEY_BYTES_MAX`].
    #[error("the stream key is longer than {KEY_BYTES_MAX} bytes")]
    Long,
    /// Something other than visible ASCII.
    #[error("the stream key has characters that no key has")]
    Characters,
}

impl StreamKey {
    /// The key in a publish name: what stands before `?` (encoders append parameters).
    ///
    /// # Errors
    /// When nothing is left, or something that could not be a key.
    pub fn parse(name: &str) -> Result<Self, KeyError> {
        let key = name.split('?').next().unwrap_or_default();
        if key.is_empty() {
            return Err(KeyError::Empty);
        }
        if key.len() > KEY_BYTES_MAX {
            return Err(KeyError::Long);
        }
        if !key.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(KeyError::Characters);
        }
        Ok(Self(key.into()))
    }

    /// The secret itself: to check it, never to print it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for StreamKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.get(..SHOWN_CHARS) {
            Some(shown) if self.0.len() >= SHOWN_FROM_CHARS => write!(f, "{shown}…"),
            _ => f.write_str("…"),
        }
    }
}

impl fmt::Debug for StreamKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StreamKey({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_masked_however_it_is_printed() {
        let key = StreamKey::parse("ms_0123456789abcdef?bwtest=1").unwrap();
        assert_eq!(key.expose(), "ms_0123456789abcdef");
        assert_eq!(format!("{key} {key:?}"), "ms_0… StreamKey(ms_0…)");
        let short = StreamKey::parse("hunter2").unwrap();
        assert_eq!(format!("{short} {short:?}"), "… StreamKey(…)");
    }

    #[test]
    fn what_is_no_key_is_refused_by_name() {
        assert_eq!(StreamKey::parse(""), Err(KeyError::Empty));
        assert_eq!(StreamKey::parse("?a=b"), Err(KeyError::Empty));
        assert_eq!(StreamKey::parse(&"k".repeat(KEY_BYTES_MAX + 1)), Err(KeyError::Long));
        assert_eq!(StreamKey::parse("a b"), Err(KeyError::Characters));
        assert_eq!(StreamKey::parse("a\nb"), Err(KeyError::Characters));
        assert_eq!(StreamKey::parse("schlüssel"), Err(KeyError::Characters));
    }
}
