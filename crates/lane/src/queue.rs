//! What waits to be sent to one viewer: pieces it asked for, then parts it subscribed to. Numbers only, no bytes.

use std::collections::VecDeque;

use millstream_model::{Instant, RenditionId, piece_count};
use millstream_wire::frame::Span;

use crate::limits::{PUSH_BYTES_MAX, PUSH_PARTS_MAX, REQUESTS_MAX, START_PARTS_MAX};

/// A run of pieces, and how far it is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) rendition: RenditionId,
    pub(crate) number: u64,
    next: u32,
    end: u32,
    /// Bytes of the part; 0 for requests, where they are not known.
    size: u32,
    started: bool,
    /// Not at hand when last looked for.
    waiting: bool,
    /// For requests: when it is given up.
    until: Option<Instant>,
}

impl Run {
    /// What is left of it.
    pub(crate) const fn rest(&self) -> Span {
        Span {
            rendition: self.rendition,
            number: self.number,
            first: self.next,
            count: self.end.saturating_sub(self.next),
        }
    }

    pub(crate) const fn next(&self) -> u32 {
        self.next
    }

    pub(crate) const fn is_request(&self) -> bool {
        self.until.is_some()
    }

    fn is_of(&self, rendition: RenditionId, number: u64) -> bool {
        self.rendition == rendition && self.number == number
    }
}

/// The two queues of a lane.
#[derive(Debug)]
pub(crate) struct Queue {
    requests: VecDeque<Run>,
    pushes: VecDeque<Run>,
    /// Parts that may wait: many at a subscription's start, then only as many as are left, down to the usual bound.
    parts_max: usize,
}

impl Queue {
    pub(crate) const fn new() -> Self {
        Self { requests: VecDeque::new(), pushes: VecDeque::new(), parts_max: PUSH_PARTS_MAX }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.requests.is_empty() && self.pushes.is_empty()
    }

    /// Adds a request; gives it back when there are too many. A part that waits to be pushed is not sent twice.
    pub(crate) fn request(&mut self, span: Span, until: Instant) -> Result<(), Span> {
        let end = span.first.saturating_add(span.count);
        if self.requests.len() >= REQUESTS_MAX {
            return Err(span);
        }
        for push in &mut self.pushes {
            // The push would bring these later than the viewer needs them.
            if push.is_of(span.rendition, span.number) && span.first <= push.next && push.next < end {
                push.next = end.min(push.end);
            }
        }
        self.settle();
        self.requests.push_back(Run {
            rendition: span.rendition,
            number: span.number,
            next: span.first,
            end,
            size: 0,
            started: false,
            waiting: false,
            until: Some(until),
        });
        Ok(())
    }

    /// A subscription begins: its first parts may come all at once.
    pub(crate) fn start(&mut self) {
        self.parts_max = START_PARTS_MAX;
    }

    /// Adds a part to be pushed.
    pub(crate) fn push(&mut self, rendition: RenditionId, number: u64, size: u32) {
        self.pushes.push_back(Run {
            rendition,
            number,
            next: 0,
            end: piece_count(size),
            size,
            started: false,
            waiting: false,
            until: None,
        });
    }

    /// Takes out the oldest part that is not begun, if there are too many: a viewer that is behind by so much is
    /// served better by what is new.
    pub(crate) fn overflow(&mut self) -> Option<Run> {
        let bytes: u64 = self.pushes.iter().map(|run| u64::from(run.size)).sum();
        let over = self.pushes.len() > self.parts_max || bytes > PUSH_BYTES_MAX && self.pushes.len() > 1;
        let oldest = self.pushes.iter().position(|run| !run.started)?;
        // What came last is never the one to go.
        if over && oldest + 1 < self.pushes.len() { self.pushes.remove(oldest) } else { None }
    }

    /// The run to go on with: requests first, then parts in the order of their records.
    pub(crate) fn turn(&self) -> Option<Run> {
        self.requests.iter().chain(&self.pushes).find(|run| !run.waiting).copied()
    }

    /// The run whose turn it is was looked for in vain: others may go first until something changes.
    pub(crate) fn wait(&mut self) {
        if let Some(run) = self.turn_mut() {
            run.waiting = true;
        }
    }

    /// One piece of the run whose turn it is was sent.
    pub(crate) fn advance(&mut self) {
        if let Some(run) = self.turn_mut() {
            run.next += 1;
            run.started = true;
        }
        self.settle();
    }

    /// Takes out the run whose turn it is.
    pub(crate) fn give_up(&mut self) -> Option<Run> {
        let run = if let Some(at) = self.requests.iter().position(|run| !run.waiting) {
            self.requests.remove(at)
        } else {
            let at = self.pushes.iter().position(|run| !run.waiting)?;
            self.pushes.remove(at)
        };
        self.settle();
        run
    }

    /// What was not there may be there now.
    pub(crate) fn retry(&mut self) {
        for run in self.requests.iter_mut().chain(&mut self.pushes) {
            run.waiting = false;
        }
    }

    /// Takes out the requests that have waited too long.
    pub(crate) fn expired(&mut self, now: Instant) -> Option<Run> {
        let at = self.requests.iter().position(|run| run.until.is_some_and(|until| until <= now))?;
        self.requests.remove(at)
    }

    /// Takes out a request, the oldest.
    pub(crate) fn next_request(&mut self) -> Option<Run> {
        self.requests.pop_front()
    }

    /// When the next request expires.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.requests.iter().filter_map(|run| run.until).min()
    }

    /// The viewer does not need this part any more.
    pub(crate) fn cancel(&mut self, rendition: RenditionId, number: u64) {
        self.requests.retain(|run| !run.is_of(rendition, number));
        self.pushes.retain(|run| !run.is_of(rendition, number));
        self.settle();
    }

    /// The subscription to this rendition is over or begins anew.
    pub(crate) fn unsubscribe(&mut self, rendition: RenditionId) {
        self.pushes.retain(|run| run.rendition != rendition);
        self.settle();
    }

    /// Runs that wait, for tests and statistics.
    pub(crate) fn len(&self) -> (usize, usize) {
        (self.requests.len(), self.pushes.len())
    }

    fn turn_mut(&mut self) -> Option<&mut Run> {
        self.requests.iter_mut().chain(&mut self.pushes).find(|run| !run.waiting)
    }

    fn settle(&mut self) {
        self.requests.retain(|run| run.next < run.end);
        self.pushes.retain(|run| run.next < run.end);
        self.parts_max = self.parts_max.min(self.pushes.len()).max(PUSH_PARTS_MAX);
    }
}
