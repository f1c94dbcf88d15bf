//! One door: an operation's bytes come in, its answer's bytes stay until the next call.

use alloc::vec::Vec;

use bytes::Bytes;
use millstream_model::{Instant, PART_BYTES_MAX};
use millstream_swarm::Swarm;

use crate::{input, open, output, told};

/// The longest input of one call: the body of a whole part, and room for what stands before it.
pub const INPUT_BYTES_MAX: usize = PART_BYTES_MAX as usize + 1024;

/// Moved whenever the meaning of an operation's bytes moves, so that a page with a stale module says so.
const ABI: u32 = 3;

/// What a call asks for. The numbers are the contract with `instance.ts`; `now` is a `u64` of microseconds, and
/// all numbers are little-endian.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Op {
    /// Nothing in; the ABI's version as four bytes out.
    Version = 0,
    /// A configuration in ([`open`]), nothing out: a swarm begins, in place of any before it.
    Open = 1,
    /// `now` and what happened in ([`input`]), nothing out.
    Input = 2,
    /// `now` in, nothing out: the deadline has come.
    Timeout = 3,
    /// Nothing in; what to do next out ([`output`]), or nothing.
    Poll = 4,
    /// Nothing in; when the swarm wants [`Op::Timeout`] out, as `now`, or nothing.
    Deadline = 5,
    /// Nothing in; the figures out, as JSON ([`told`]).
    Stats = 6,
    /// `now` in; tracker time out, eight bytes of milliseconds since 1970.
    Wall = 7,
}

impl Op {
    /// The operation with this number.
    #[must_use]
    pub const fn from_number(number: u32) -> Option<Self> {
        Some(match number {
            0 => Self::Version,
            1 => Self::Open,
            2 => Self::Input,
            3 => Self::Timeout,
            4 => Self::Poll,
            5 => Self::Deadline,
            6 => Self::Stats,
            7 => Self::Wall,
            _ => return None,
        })
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
    /// No swarm was opened.
    NotOpen = -3,
    /// Longer than [`INPUT_BYTES_MAX`].
    TooLong = -4,
}

/// The state behind the exports: what the page wrote, what it may read, and the swarm between them.
#[derive(Debug, Default)]
pub struct Door {
    inbox: Vec<u8>,
    outbox: Vec<u8>,
    swarm: Option<Swarm>,
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
        self.carry_out(Op::from_number(op).ok_or(Refusal::UnknownOp)?, input)?;
        Ok(&self.outbox)
    }

    /// The answer of the last call.
    #[must_use]
    pub fn outbox(&self) -> &[u8] {
        &self.outbox
    }

    fn carry_out(&mut self, op: Op, input: Vec<u8>) -> Result<(), Refusal> {
        if op == Op::Version {
            self.outbox.extend_from_slice(&ABI.to_le_bytes());
            return Ok(());
        }
        if op == Op::Open {
            self.swarm = Some(open::open(&input).ok_or(Refusal::Malformed)?);
            return Ok(());
        }
        let swarm = self.swarm.as_mut().ok_or(Refusal::NotOpen)?;
        match op {
            Op::Version | Op::Open => {}
            // The input becomes the swarm's without being copied: a piece is kept where the page wrote it.
            Op::Input => {
                let (now, input) = input::read(Bytes::from(input)).ok_or(Refusal::Malformed)?;
                swarm.handle(input, now);
            }
            Op::Timeout => swarm.handle_timeout(now(&input)?),
            Op::Poll => {
                if let Some(output) = swarm.poll() {
                    output::write(&output, swarm.catalog(), &mut self.outbox);
                }
            }
            Op::Deadline => {
                if let Some(Instant(at)) = swarm.deadline() {
                    self.outbox.extend_from_slice(&at.to_le_bytes());
                }
            }
            Op::Stats => told::write_stats(&swarm.stats(), &mut self.outbox),
            Op::Wall => self.outbox.extend_from_slice(&swarm.wall(now(&input)?).0.to_le_bytes()),
        }
        Ok(())
    }
}

fn now(input: &[u8]) -> Result<Instant, Refusal> {
    input.try_into().map(|bytes| Instant(u64::from_le_bytes(bytes))).map_err(|_| Refusal::Malformed)
}
