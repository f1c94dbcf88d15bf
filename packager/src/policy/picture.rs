//! A picture's size as people write it: `1920x1080`.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// The largest side that is believed; H.264's levels end at 8,192 pixels, AV1's at 16,384.
const SIDE_MAX: u16 = 16_384;

/// The size of a picture, or of none in particular.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Picture {
    /// In pixels.
    pub width: u16,
    /// In pixels.
    pub height: u16,
}

impl Picture {
    /// Any size; written as an empty text.
    pub const ANY: Self = Self { width: 0, height: 0 };

    /// Whether a picture of this size is no larger than `self`, upright or lying.
    #[must_use]
    pub const fn holds(self, width: u32, height: u32) -> bool {
        let (own_width, own_height) = (self.width as u32, self.height as u32);
        (width <= own_width && height <= own_height) || (width <= own_height && height <= own_width)
    }
}

impl fmt::Display for Picture {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::ANY { Ok(()) } else { write!(out, "{}x{}", self.width, self.height) }
    }
}

/// A text is no size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a picture's size is its width and height up to {SIDE_MAX}, e.g. `1920x1080`")]
pub struct NoPicture;

impl FromStr for Picture {
    type Err = NoPicture;

    fn from_str(text: &str) -> Result<Self, NoPicture> {
        if text.is_empty() {
            return Ok(Self::ANY);
        }
        let (width, height) = text.split_once('x').ok_or(NoPicture)?;
        let side =
            |text: &str| text.parse().ok().filter(|side| (1..=SIDE_MAX).contains(side)).ok_or(NoPicture);
        Ok(Self { width: side(width)?, height: side(height)? })
    }
}

impl Serialize for Picture {
    fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        out.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Picture {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        String::deserialize(input)?.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_read_as_they_are_written() {
        for text in ["", "1920x1080", "16384x1"] {
            assert_eq!(text.parse::<Picture>().unwrap().to_string(), text);
        }
        for text in ["1080p", "1920", "0x0", "1920x", "-1x5", "16385x1", "1920x1080x2", "1920 x 1080"] {
            assert_eq!(text.parse::<Picture>(), Err(NoPicture), "{text}");
        }
    }

    #[test]
    fn a_picture_may_be_turned() {
        let full: Picture = "1920x1080".parse().unwrap();
        assert!(full.holds(1920, 1080) && full.holds(1080, 1920) && full.holds(1080, 1080));
        assert!(!full.holds(1920, 1081) && !full.holds(1440, 1440) && !full.holds(3840, 720));
    }
}
