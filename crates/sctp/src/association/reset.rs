//! Streams that begin anew (RFC 6525): how a data channel is closed while others go on (RFC 8831 §6.7).

use std::{collections::VecDeque, time::Duration};

use millstream_model::Instant;

use super::{Association, EVENTS_MAX, receiving::wire};
use crate::{
    Event, SendError,
    wire::{Outcome, Reconfig, Reset, Writer, serial},
};

/// Before a request is made again. A peer that says "not yet" is asked at this pace, too.
const AGAIN: Duration = Duration::from_millis(500);

/// Answers that wait to leave: one RE-CONFIG holds two requests, and only the newest answer is ever asked for again.
const ANSWERS_MAX: usize = 4;

/// Streams that one request names; more are asked for one request after another (RFC 6525 §5.1.2 has one underway). So
/// many have room beside the answers in every packet, also when a request is repeated on a path that has narrowed.
pub(super) const REQUEST_STREAMS_MAX: usize = 128;

#[derive(Debug)]
pub(super) struct Resets {
    /// Number of our next request.
    next: u32,
    /// Streams of ours that are to be reset once nothing of them waits.
    wanted: Vec<u16>,
    underway: Option<Request>,
    /// Number of the peer's next request.
    expected: u32,
    /// The peer's, when it must wait for TSNs that have not come.
    waiting: Option<Wish>,
    /// What we said to the peer's last request.
    answered: Option<(u32, Outcome)>,
    answers: VecDeque<(u32, Outcome)>,
}

#[derive(Debug)]
struct Request {
    number: u32,
    last_tsn: u64,
    streams: Vec<u16>,
    is_due: bool,
    again_at: Option<Instant>,
}

#[derive(Debug)]
struct Wish {
    number: u32,
    last_tsn: u64,
    streams: Vec<u16>,
}

impl Resets {
    pub(super) const fn new(first: u32) -> Self {
        Self {
            next: first,
            wanted: Vec::new(),
            underway: None,
            expected: 0,
            waiting: None,
            answered: None,
            answers: VecDeque::new(),
        }
    }

    /// The peer's first request has the number of its first TSN (RFC 6525 §5.1.1).
    pub(super) const fn meet(&mut self, first: u32) {
        self.expected = first;
    }

    pub(super) fn is_resetting(&self, stream: u16) -> bool {
        self.wanted.contains(&stream)
            || self.underway.as_ref().is_some_and(|request| request.streams.contains(&stream))
    }

    pub(super) fn next_timeout(&self) -> Option<Instant> {
        self.underway.as_ref().and_then(|request| request.again_at)
    }

    pub(super) fn repeat(&mut self) {
        if let Some(request) = &mut self.underway {
            request.is_due = true;
            request.again_at = None;
        }
    }

    pub(super) fn clear(&mut self) {
        self.wanted.clear();
        self.underway = None;
        self.waiting = None;
        self.answers.clear();
    }

    fn answer(&mut self, number: u32, outcome: Outcome) {
        self.answered = Some((number, outcome));
        if self.answers.len() < ANSWERS_MAX {
            self.answers.push_back((number, outcome));
        }
    }
}

impl Association {
    /// Resets a stream of ours, once everything sent on it is cut into chunks: the peer hears that its channel is
    /// closed. [`Event::Reset`] follows.
    ///
    /// # Errors
    ///
    /// When the association is not open.
    pub fn reset(&mut self, stream: u16) -> Result<(), SendError> {
        let Some(peer) = self.peer.filter(|_| self.is_open()) else { return Err(SendError::Closed) };
        if stream >= peer.streams {
            return Err(SendError::Stream(stream));
        }
        if !peer.resets {
            self.events.push_back(Event::Reset { stream, is_done: false });
        } else if !self.resets.is_resetting(stream) {
            self.resets.wanted.push(stream);
        }
        Ok(())
    }

    pub(super) fn take_reconfig(&mut self, reconfig: &Reconfig<'_>, now: Instant) {
        if self.peer.is_none() {
            return;
        }
        for parameter in reconfig.parameters() {
            match parameter {
                Reset::Outgoing { request, last_tsn, streams, .. } => {
                    if !self.is_new(request) {
                        continue;
                    }
                    let last_tsn = serial::unwrap(self.arrived.cumulative(), last_tsn);
                    let all = streams.is_all().then_some(0..self.config.streams);
                    let mut streams: Vec<u16> = all.into_iter().flatten().chain(streams).collect();
                    streams.sort_unstable();
                    streams.dedup();
                    if streams.iter().any(|stream| *stream >= self.config.streams) {
                        self.resets.expected = request.wrapping_add(1);
                        self.resets.answer(request, Outcome::WrongStream);
                        continue;
                    }
                    self.resets.waiting = Some(Wish { number: request, last_tsn, streams });
                    self.settle_resets();
                    if self.resets.waiting.is_some() {
                        self.resets.answer(request, Outcome::InProgress);
                    }
                }
                Reset::Unsupported { request } => {
                    if self.is_new(request) {
                        self.resets.expected = request.wrapping_add(1);
                        self.resets.answer(request, Outcome::Denied);
                    }
                }
                Reset::Response { sequence, result } => self.take_outcome(sequence, result, now),
            }
        }
    }

    /// Grants what the peer wanted, as soon as all has come that it sent before.
    pub(super) fn settle_resets(&mut self) {
        let cumulative = self.arrived.cumulative();
        let Some(wish) = self.resets.waiting.take_if(|wish| wish.last_tsn <= cumulative) else { return };
        // A request may name every stream there is.
        if self.events.len() + wish.streams.len() > EVENTS_MAX.max(usize::from(self.config.streams)) {
            return self.violated("too many stream resets");
        }
        for stream in wish.streams {
            self.assembly.reset(stream);
            self.events.push_back(Event::PeerReset { stream });
        }
        self.resets.expected = wish.number.wrapping_add(1);
        self.resets.answer(wish.number, Outcome::Performed);
    }

    pub(super) fn write_reset(&mut self, writer: &mut Writer<'_>, now: Instant) {
        while let Some((number, outcome)) = self.resets.answers.pop_front() {
            writer.reset_response(number, outcome);
        }
        let is_idle = |stream: &u16| self.queue.is_idle(*stream);
        // Not while the peer may hear late that messages of the old stream were given up: it would take that for the
        // new one's.
        if self.resets.underway.is_none()
            && !self.forward.any
            && !self.resets.wanted.is_empty()
            && self.resets.wanted.iter().all(is_idle)
        {
            let number = self.resets.next;
            self.resets.next = number.wrapping_add(1);
            let count = self.resets.wanted.len().min(REQUEST_STREAMS_MAX);
            self.resets.underway = Some(Request {
                number,
                last_tsn: self.flight.next() - 1,
                streams: self.resets.wanted.drain(..count).collect(),
                is_due: true,
                again_at: None,
            });
        }
        let before = self.resets.expected.wrapping_sub(1);
        if let Some(request) = self.resets.underway.as_mut().filter(|request| request.is_due) {
            request.is_due = false;
            request.again_at = Some(now + AGAIN);
            let streams = request.streams.iter().copied();
            writer.reset_request(request.number, before, wire(request.last_tsn), streams);
        }
    }

    fn take_outcome(&mut self, sequence: u32, result: Outcome, now: Instant) {
        let Some(request) = self.resets.underway.as_mut().filter(|request| request.number == sequence) else {
            return;
        };
        let is_done = match result {
            Outcome::InProgress | Outcome::Busy => {
                request.again_at = Some(now + AGAIN);
                return;
            }
            Outcome::Performed | Outcome::NothingToDo => true,
            _ => false,
        };
        let streams = self.resets.underway.take().map(|request| request.streams).unwrap_or_default();
        for stream in streams {
            if is_done {
                self.queue.restart(stream);
            }
            self.events.push_back(Event::Reset { stream, is_done });
        }
    }

    /// Whether it is the peer's next request; a repeated one gets its answer again.
    fn is_new(&mut self, request: u32) -> bool {
        if request == self.resets.expected {
            return true;
        }
        match self.resets.answered {
            Some((number, outcome)) if number == request => self.resets.answer(number, outcome),
            _ => {
                if self.resets.answers.len() < ANSWERS_MAX {
                    self.resets.answers.push_back((request, Outcome::BadSequence));
                }
            }
        }
        false
    }
}
