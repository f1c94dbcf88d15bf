//! How a data channel is opened in the stream that it will use (RFC 8832), and what says so (RFC 8831 §8). Pure data.

use std::str;

use thiserror::Error;

#[cfg(test)]
mod tests;

/// Bytes of a channel's label at most: names are short, and a peer's are kept as long as its channel.
pub const LABEL_BYTES_MAX: usize = 256;

/// Bytes of a channel's protocol at most, for the same reason.
pub const PROTOCOL_BYTES_MAX: usize = 256;

/// The priority "normal" (RFC 8831 §6.4).
pub const PRIORITY_NORMAL: u16 = 256;

const ACK: u8 = 0x02;
const OPEN: u8 = 0x03;
const OPEN_HEADER_BYTES: usize = 12;
const UNORDERED: u8 = 0x80;

/// What a message on a data channel is: its payload protocol identifier (RFC 8831 §8). The deprecated ones for parts of
/// messages are not among them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Ppi {
    /// A [`Message`] about the channel.
    Dcep,
    /// Text, UTF-8.
    String,
    /// Bytes.
    Binary,
    /// A text without letters, sent as one byte that means nothing.
    StringEmpty,
    /// No bytes, sent as one byte that means nothing.
    BinaryEmpty,
}

impl Ppi {
    /// None for what no data channel uses.
    #[must_use]
    pub const fn from_wire(ppi: u32) -> Option<Self> {
        match ppi {
            50 => Some(Self::Dcep),
            51 => Some(Self::String),
            53 => Some(Self::Binary),
            56 => Some(Self::StringEmpty),
            57 => Some(Self::BinaryEmpty),
            _ => None,
        }
    }

    /// Its number.
    #[must_use]
    pub const fn to_wire(self) -> u32 {
        match self {
            Self::Dcep => 50,
            Self::String => 51,
            Self::Binary => 53,
            Self::StringEmpty => 56,
            Self::BinaryEmpty => 57,
        }
    }
}

/// A message about the channel that it comes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Message<'a> {
    /// DATA_CHANNEL_OPEN: the channel begins.
    Open(Open<'a>),
    /// DATA_CHANNEL_ACK: so it is.
    Ack,
}

/// What a channel shall be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Open<'a> {
    /// Messages may overtake each other.
    pub is_unordered: bool,
    /// How long messages are worth sending.
    pub reliability: Reliability,
    /// The higher, the sooner; beside [`PRIORITY_NORMAL`].
    pub priority: u16,
    /// Its name, at most [`LABEL_BYTES_MAX`] bytes.
    pub label: &'a str,
    /// What is spoken on it, at most [`PROTOCOL_BYTES_MAX`] bytes.
    pub protocol: &'a str,
}

/// How long a message is worth sending.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reliability {
    /// Until it has arrived.
    Reliable,
    /// So many times beyond the first.
    Rexmit(u32),
    /// So many milliseconds.
    Timed(u32),
}

/// Why bytes are not a message about a channel, or a channel cannot be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Error)]
pub enum Error {
    /// Not a message that we know.
    #[error("not a data channel message")]
    Kind,
    /// Shorter or longer than it says.
    #[error("wrong length")]
    Length,
    /// A kind of channel that there is not.
    #[error("unknown kind of channel {0:#04x}")]
    Channel(u8),
    /// A label or protocol beyond our limit.
    #[error("label or protocol too long")]
    TooLong,
    /// A label or protocol that is no UTF-8.
    #[error("label or protocol is no text")]
    Text,
}

impl<'a> Message<'a> {
    /// Reads one message.
    ///
    /// # Errors
    ///
    /// When it is malformed or beyond our limits.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Error> {
        match bytes.first() {
            Some(&OPEN) => Open::parse(bytes).map(Self::Open),
            // Some peers send three zero bytes more.
            Some(&ACK) => Ok(Self::Ack),
            _ => Err(Error::Kind),
        }
    }

    /// Appends the message to `out`.
    ///
    /// # Errors
    ///
    /// When label or protocol is too long; then nothing is appended.
    pub fn write(&self, out: &mut Vec<u8>) -> Result<(), Error> {
        match self {
            Self::Open(open) => open.write(out),
            Self::Ack => {
                out.push(ACK);
                Ok(())
            }
        }
    }
}

impl<'a> Open<'a> {
    fn parse(bytes: &'a [u8]) -> Result<Self, Error> {
        let (header, texts) = bytes.split_first_chunk::<OPEN_HEADER_BYTES>().ok_or(Error::Length)?;
        let [_, channel, p0, p1, r0, r1, r2, r3, l0, l1, q0, q1] = *header;
        let limit = u32::from_be_bytes([r0, r1, r2, r3]);
        let reliability = match channel & !UNORDERED {
            0x00 => Reliability::Reliable,
            0x01 => Reliability::Rexmit(limit),
            0x02 => Reliability::Timed(limit),
            _ => return Err(Error::Channel(channel)),
        };
        let label_bytes = usize::from(u16::from_be_bytes([l0, l1]));
        let protocol_bytes = usize::from(u16::from_be_bytes([q0, q1]));
        if label_bytes > LABEL_BYTES_MAX || protocol_bytes > PROTOCOL_BYTES_MAX {
            return Err(Error::TooLong);
        }
        let (label, protocol) = texts.split_at_checked(label_bytes).ok_or(Error::Length)?;
        if protocol.len() != protocol_bytes {
            return Err(Error::Length);
        }
        let text = |bytes: &'a [u8]| str::from_utf8(bytes).map_err(|_| Error::Text);
        Ok(Self {
            is_unordered: channel & UNORDERED != 0,
            reliability,
            priority: u16::from_be_bytes([p0, p1]),
            label: text(label)?,
            protocol: text(protocol)?,
        })
    }

    fn write(&self, out: &mut Vec<u8>) -> Result<(), Error> {
        let length = |text: &str, bytes_max: usize| match u16::try_from(text.len()) {
            Ok(length) if text.len() <= bytes_max => Ok(length),
            _ => Err(Error::TooLong),
        };
        let label_bytes = length(self.label, LABEL_BYTES_MAX)?;
        let protocol_bytes = length(self.protocol, PROTOCOL_BYTES_MAX)?;
        let (channel, limit) = match self.reliability {
            Reliability::Reliable => (0x00, 0),
            Reliability::Rexmit(times) => (0x01, times),
            Reliability::Timed(millis) => (0x02, millis),
        };
        let order = if self.is_unordered { UNORDERED } else { 0 };
        out.extend_from_slice(&[OPEN, channel | order]);
        out.extend_from_slice(&self.priority.to_be_bytes());
        out.extend_from_slice(&limit.to_be_bytes());
        out.extend_from_slice(&label_bytes.to_be_bytes());
        out.extend_from_slice(&protocol_bytes.to_be_bytes());
        out.extend_from_slice(self.label.as_bytes());
        out.extend_from_slice(self.protocol.as_bytes());
        Ok(())
    }
}
