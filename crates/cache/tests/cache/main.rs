//! The cache against a broadcaster that really signs.
#![expect(clippy::cast_possible_truncation, reason = "made-up media of known size")]

mod broadcast;
mod random;
mod stories;
