//! Streams that begin anew: RE-CONFIG (RFC 6525). We ask for and grant resets of outgoing streams, which is how data
//! channels close (RFC 8831 §6.7); everything else is told apart so far that it can be refused.

use super::parameters::{Parameter, Parameters};

/// Parameters of a RE-CONFIG at most (RFC 6525 §3.1).
const PARAMETERS_MAX: usize = 2;

pub(super) const OUTGOING_RESET: u16 = 13;
const INCOMING_RESET: u16 = 14;
const ASSOCIATION_RESET: u16 = 15;
pub(super) const RESPONSE: u16 = 16;
const ADD_OUTGOING: u16 = 17;
const ADD_INCOMING: u16 = 18;

/// A RE-CONFIG chunk: one or two parameters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reconfig<'a>(Parameters<'a>);

/// A parameter of a RE-CONFIG.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reset<'a> {
    /// The sender resets streams that it sends on (RFC 6525 §4.1).
    Outgoing {
        /// The number of this request.
        request: u32,
        /// The number of the request of ours that this also answers; else the number before our next.
        response: u32,
        /// The last TSN that the sender has used: the reset waits until all up to it has arrived.
        last_tsn: u32,
        /// Which streams; none means all.
        streams: Streams<'a>,
    },
    /// A request that we have no use for (RFC 6525 §4.2, §4.3, §4.5, §4.6).
    Unsupported {
        /// The number of the request, which the refusal repeats.
        request: u32,
    },
    /// An answer to a request of ours (RFC 6525 §4.4).
    Response {
        /// The number of our request.
        sequence: u32,
        /// What became of it.
        result: Outcome,
    },
}

/// What became of a request (RFC 6525 §4.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// It was so already.
    NothingToDo,
    /// It is done.
    Performed,
    /// It will not be done. Also what a number unknown to us is read as.
    Denied,
    /// A stream number is wrong.
    WrongStream,
    /// Another request has not been answered yet.
    Busy,
    /// The number of the request is wrong.
    BadSequence,
    /// Not yet: ask again.
    InProgress,
}

impl Outcome {
    const fn from_wire(result: u32) -> Self {
        match result {
            0 => Self::NothingToDo,
            1 => Self::Performed,
            3 => Self::WrongStream,
            4 => Self::Busy,
            5 => Self::BadSequence,
            6 => Self::InProgress,
            _ => Self::Denied,
        }
    }

    pub(super) const fn to_wire(self) -> u32 {
        match self {
            Self::NothingToDo => 0,
            Self::Performed => 1,
            Self::Denied => 2,
            Self::WrongStream => 3,
            Self::Busy => 4,
            Self::BadSequence => 5,
            Self::InProgress => 6,
        }
    }
}

impl<'a> Reconfig<'a> {
    pub(super) fn parse(body: &'a [u8]) -> Option<Self> {
        let parameters = Parameters::new(body);
        let mut count = 0;
        for parameter in parameters {
            Reset::parse(&parameter.ok()?)?;
            count += 1;
        }
        (1..=PARAMETERS_MAX).contains(&count).then_some(Self(parameters))
    }

    /// Its parameters, in order.
    pub fn parameters(&self) -> impl Iterator<Item = Reset<'a>> + use<'a> {
        self.0.filter_map(|parameter| Reset::parse(&parameter.ok()?))
    }
}

impl<'a> Reset<'a> {
    fn parse(parameter: &Parameter<'a>) -> Option<Self> {
        let (first, rest) = parameter.value().split_first_chunk::<4>()?;
        let first = u32::from_be_bytes(*first);
        match parameter.kind {
            OUTGOING_RESET => {
                let (response, rest) = rest.split_first_chunk::<4>()?;
                let (last_tsn, streams) = rest.split_first_chunk::<4>()?;
                Some(Self::Outgoing {
                    request: first,
                    response: u32::from_be_bytes(*response),
                    last_tsn: u32::from_be_bytes(*last_tsn),
                    streams: Streams::parse(streams)?,
                })
            }
            INCOMING_RESET => Streams::parse(rest).map(|_| Self::Unsupported { request: first }),
            ASSOCIATION_RESET => rest.is_empty().then_some(Self::Unsupported { request: first }),
            ADD_OUTGOING | ADD_INCOMING => (rest.len() == 4).then_some(Self::Unsupported { request: first }),
            RESPONSE => {
                let (result, next_tsns) = rest.split_first_chunk::<4>()?;
                let result = Outcome::from_wire(u32::from_be_bytes(*result));
                matches!(next_tsns.len(), 0 | 8).then_some(Self::Response { sequence: first, result })
            }
            _ => None,
        }
    }
}

/// Stream numbers, in the order in which they are listed, perhaps repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Streams<'a>(&'a [[u8; 2]]);

impl<'a> Streams<'a> {
    fn parse(bytes: &'a [u8]) -> Option<Self> {
        let (streams, rest) = bytes.as_chunks::<2>();
        rest.is_empty().then_some(Self(streams))
    }

    /// Nothing is listed, which means every stream.
    #[must_use]
    pub const fn is_all(&self) -> bool {
        self.0.is_empty()
    }
}

impl Iterator for Streams<'_> {
    type Item = u16;

    fn next(&mut self) -> Option<Self::Item> {
        let (stream, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(u16::from_be_bytes(*stream))
    }
}
