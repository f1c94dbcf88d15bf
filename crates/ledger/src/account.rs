//! Who owns money: the accounts and their names.

use std::{fmt, str::FromStr, sync::Arc};

use millstream_model::StreamId;
use thiserror::Error;

use crate::limits::NAME_BYTES_MAX;

/// Why a text is no name or no account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Error {
    /// Empty or too long.
    #[error("{0} characters; a name has 1 to {NAME_BYTES_MAX}")]
    Length(usize),
    /// A character names do not take.
    #[error("a name is made of letters, digits, '-' and '_'")]
    Character,
    /// The text form of an account begins with its kind.
    #[error("an account is `external`, `broadcaster/…`, `reserve/…` or `operator/…`")]
    Kind,
}

/// The name of a broadcaster or of an edge operator. Letters, digits, `-` and `_`, so that an edge's key in its text
/// form is one, for edges that belong to nobody else. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name(Arc<str>);

impl Name {
    /// Checks the rules of names.
    ///
    /// # Errors
    /// Which rule `text` breaks.
    pub fn new(text: &str) -> Result<Self, Error> {
        if text.is_empty() || text.len() > NAME_BYTES_MAX {
            return Err(Error::Length(text.len()));
        }
        if !text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_') {
            return Err(Error::Character);
        }
        Ok(Self(text.into()))
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Name({})", self.0)
    }
}

impl FromStr for Name {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        Self::new(text)
    }
}

/// An account of the book. All but [`Account::External`] never go below zero.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Account {
    /// The world outside: where funds come from. What it is below zero is what everybody inside owns together.
    External,
    /// A broadcaster's free funds.
    Broadcaster(Name),
    /// What is promised to the open lanes of a stream and not yet paid.
    Reserve(StreamId),
    /// What an edge operator has earned.
    Operator(Name),
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::External => f.write_str("external"),
            Self::Broadcaster(name) => write!(f, "broadcaster/{name}"),
            Self::Reserve(stream) => write!(f, "reserve/{stream}"),
            Self::Operator(name) => write!(f, "operator/{name}"),
        }
    }
}

impl FromStr for Account {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        if text == "external" {
            return Ok(Self::External);
        }
        match text.split_once('/').ok_or(Error::Kind)? {
            ("broadcaster", name) => Name::new(name).map(Self::Broadcaster),
            ("operator", name) => Name::new(name).map(Self::Operator),
            ("reserve", stream) => StreamId::new(stream).map(Self::Reserve).map_err(|_| Error::Character),
            _ => Err(Error::Kind),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_has_one_text_form() {
        for text in ["external", "broadcaster/acme", "reserve/demo", "operator/2x_-Z"] {
            assert_eq!(text.parse::<Account>().unwrap().to_string(), text);
        }
        for text in
            ["", "external/", "bank/acme", "broadcaster/", "operator/a b", "reserve/-x", "operator/a/b"]
        {
            assert!(text.parse::<Account>().is_err(), "{text}");
        }
    }
}
