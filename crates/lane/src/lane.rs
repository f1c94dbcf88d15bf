//! The conversation from the first message to the last.

use std::collections::VecDeque;

use bytes::Bytes;
use millstream_model::{Instant, RenditionId, WallTime};
use millstream_wire::{
    frame::{Frame, PROTOCOL, Reason},
    session::Grant,
    sign::{SessionVerifier, Signed},
};

use crate::{
    credit::Credit,
    greeting::{Local, Reach, Refusal, check_hello, honoured, honoured_until, refusal},
    limits::{
        EARLY_FRAMES_MAX, FRAMES_BURST, FRAMES_PER_SECOND, HELLO_MS, PING_MS, SILENCE_MS, VOUCHER_FRAMES,
    },
    open::{Open, control},
    port::{Admission, Input, Output, Stats},
    rate::Rate,
};

#[derive(Debug)]
enum Phase {
    /// Nothing was said yet.
    Greeting,
    /// The hello is good; the program looks for the stream.
    Opening {
        grant: Box<Signed<Grant>>,
        key: Box<SessionVerifier>,
        early: Vec<Frame>,
        described: Option<(Bytes, Bytes)>,
    },
    Open(Box<Open>),
    Closed {
        credit: Option<Credit>,
    },
}

/// One viewer's lane, for the time of one connection.
#[derive(Debug)]
pub struct Lane {
    local: Local,
    reach: Reach,
    phase: Phase,
    outputs: VecDeque<Output>,
    stats: Stats,
    /// The time of the last input, on both clocks.
    now: (Instant, WallTime),
    heard: Instant,
    pinged: Option<Instant>,
    /// Frames that the viewer sends.
    rate: Rate,
}

impl Lane {
    /// A connection has opened.
    #[must_use]
    pub fn new(local: Local, reach: Reach, now: Instant, wall: WallTime) -> Self {
        Self {
            local,
            reach,
            phase: Phase::Greeting,
            outputs: VecDeque::new(),
            stats: Stats::default(),
            now: (now, wall),
            heard: now,
            pinged: None,
            rate: Rate::new(FRAMES_BURST, FRAMES_PER_SECOND, now),
        }
    }

    /// Takes an input. `wall` follows the tracker's clock. Drain [`Lane::poll`] afterwards.
    pub fn handle(&mut self, input: Input, now: Instant, wall: WallTime) {
        self.now = (now, wall);
        let Self { phase, outputs, stats, .. } = self;
        match (input, phase) {
            (_, Phase::Closed { .. }) => {}
            (Input::Message(message), _) => self.message(message, now),
            (Input::Dismiss { reason, text }, _) => self.refuse(reason, text),
            (Input::Tracker(reach), _) => self.reach = reach,
            (Input::Goaway { within }, Phase::Open(_)) => {
                let within_ms = u32::try_from(within.as_millis()).unwrap_or(u32::MAX);
                outputs.push_back(control(&Frame::Goaway { reason: Reason::Shutdown, within_ms }));
            }
            (Input::Goaway { .. }, Phase::Greeting | Phase::Opening { .. }) => {
                self.refuse(Reason::Shutdown, String::from("the edge is shutting down"));
            }
            (Input::Admitted(admission), Phase::Opening { .. }) => self.admit(*admission, now),
            (Input::Described { delegation, catalog }, Phase::Opening { described, .. }) => {
                *described = Some((delegation, catalog));
            }
            (Input::Described { delegation, catalog }, Phase::Open(open)) => {
                open.described(delegation, catalog, outputs);
            }
            (Input::Busy, Phase::Open(open)) => open.busy(true),
            (Input::Writable, Phase::Open(open)) => open.busy(false),
            (Input::Changed, Phase::Open(open)) => open.changed(),
            (Input::Record(found), Phase::Open(open)) => open.record(found, now, stats, outputs),
            (Input::Piece(found), Phase::Open(open)) => open.piece(found, now, stats, outputs),
            // Said too early or twice by the program: there is nothing that they could change.
            (
                Input::Admitted(_)
                | Input::Described { .. }
                | Input::Busy
                | Input::Writable
                | Input::Changed
                | Input::Record(_)
                | Input::Piece(_),
                Phase::Greeting | Phase::Opening { .. } | Phase::Open(_),
            ) => {}
        }
    }

    /// The next thing to do, until there is none.
    pub fn poll(&mut self) -> Option<Output> {
        if let Some(output) = self.outputs.pop_front() {
            return Some(output);
        }
        match &mut self.phase {
            Phase::Open(open) => open.ask(self.now.0),
            Phase::Greeting | Phase::Opening { .. } | Phase::Closed { .. } => None,
        }
    }

    /// When [`Lane::handle_timeout`] has something to do.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        let after = |at: Instant, millis: u64| Instant(at.0.saturating_add(millis * 1_000));
        match &self.phase {
            Phase::Greeting => Some(after(self.heard, HELLO_MS)),
            // The program looks for the stream, and gives up in its own time.
            Phase::Opening { .. } | Phase::Closed { .. } => None,
            Phase::Open(open) => {
                let ping = after(self.pinged.unwrap_or(self.heard), PING_MS);
                let (now, wall) = self.now;
                let expired = honoured_until(self.reach, open.expires(), now, wall);
                let times = [Some(after(self.heard, SILENCE_MS)), Some(ping), Some(expired), open.deadline()];
                times.into_iter().flatten().min()
            }
        }
    }

    /// Does what is due: pings, gives requests up, ends a lane that is silent, expired or stuck.
    pub fn handle_timeout(&mut self, now: Instant, wall: WallTime) {
        self.now = (now, wall);
        let silent = now.millis_since(self.heard);
        match &mut self.phase {
            Phase::Greeting if silent >= HELLO_MS => {
                self.refuse(Reason::Silence, String::from("no hello"));
            }
            Phase::Greeting | Phase::Opening { .. } | Phase::Closed { .. } => {}
            Phase::Open(_) if silent >= SILENCE_MS => {
                self.refuse(Reason::Silence, String::from("nothing was heard for 30 s"));
            }
            Phase::Open(open) if open.expires() <= honoured(self.reach, now, wall) => {
                self.refuse(Reason::Grant, String::from("the grant has expired"));
            }
            Phase::Open(open) => {
                if let Err(Refusal { reason, text }) = open.timeout(now, &mut self.stats, &mut self.outputs) {
                    return self.refuse(reason, text.to_owned());
                }
                if now.millis_since(self.pinged.unwrap_or(self.heard)) >= PING_MS {
                    self.pinged = Some(now);
                    self.outputs.push_back(control(&Frame::Ping(now.0)));
                }
            }
        }
    }

    /// Counts.
    #[must_use]
    pub const fn stats(&self) -> &Stats {
        &self.stats
    }

    /// The grant in force, once the hello was good.
    #[must_use]
    pub fn grant(&self) -> Option<&Signed<Grant>> {
        match &self.phase {
            Phase::Opening { grant, .. } => Some(grant),
            Phase::Open(open) => Some(&open.grant),
            Phase::Greeting | Phase::Closed { .. } => None,
        }
    }

    /// What the viewer owes, once the lane was open. Keep it for when the viewer comes back.
    #[must_use]
    pub fn credit(&self) -> Option<Credit> {
        match &self.phase {
            Phase::Open(open) => Some(open.credit),
            Phase::Closed { credit } => *credit,
            Phase::Greeting | Phase::Opening { .. } => None,
        }
    }

    /// Requests and parts that wait to be sent.
    #[must_use]
    pub fn waiting(&self) -> (usize, usize) {
        match &self.phase {
            Phase::Open(open) => open.waiting(),
            Phase::Greeting | Phase::Opening { .. } | Phase::Closed { .. } => (0, 0),
        }
    }

    /// Renditions that the viewer is subscribed to.
    pub fn subscribed(&self) -> impl Iterator<Item = RenditionId> {
        let open = match &self.phase {
            Phase::Open(open) => Some(open.subscribed()),
            Phase::Greeting | Phase::Opening { .. } | Phase::Closed { .. } => None,
        };
        open.into_iter().flatten()
    }

    fn message(&mut self, message: Bytes, now: Instant) {
        let frame = match Frame::decode(message) {
            Ok(Some(frame)) => frame,
            Ok(None) if self.rate.take(1, now) => return self.hear(now),
            Ok(None) => return self.refuse(Reason::Malformed, String::from("too many frames")),
            Err(error) => return self.refuse(Reason::Malformed, error.to_string()),
        };
        let cost = if matches!(frame, Frame::Voucher(_) | Frame::Grant(_)) { VOUCHER_FRAMES } else { 1 };
        if !self.rate.take(cost, now) {
            return self.refuse(Reason::Malformed, String::from("too many frames"));
        }
        if let Err(Refusal { reason, text }) = self.frame(frame, now) {
            self.refuse(reason, text.to_owned());
        }
    }

    fn hear(&mut self, now: Instant) {
        // Before the hello nothing counts as a sign of life.
        if matches!(self.phase, Phase::Open(_)) {
            self.heard = now;
            self.pinged = None;
        }
    }

    fn frame(&mut self, frame: Frame, now: Instant) -> Result<(), Refusal> {
        let Self { phase, outputs, stats, .. } = self;
        match (phase, frame) {
            (Phase::Greeting, Frame::Hello { protocol, grant, hello }) => {
                let honoured = honoured(self.reach, now, self.now.1);
                let key = Box::new(check_hello(&self.local, protocol, &grant, &hello, honoured)?);
                stats.expires = grant.unverified().expires;
                outputs.push_back(Output::Open(Box::new(grant.unverified().clone())));
                self.phase =
                    Phase::Opening { grant: Box::new(grant), key, early: Vec::new(), described: None };
            }
            (Phase::Greeting, _) => return Err(refusal(Reason::Hello, "the first frame is the hello")),
            (Phase::Closed { .. }, _) => {}
            (Phase::Opening { .. } | Phase::Open(_), Frame::Hello { .. }) => {
                return Err(refusal(Reason::Malformed, "a second hello"));
            }
            (Phase::Opening { .. } | Phase::Open(_), Frame::Refuse { reason, text }) => {
                outputs.push_back(Output::Close { reason, text, by_viewer: true });
                self.close();
            }
            (Phase::Opening { early, .. }, frame) => {
                if early.len() >= EARLY_FRAMES_MAX {
                    return Err(refusal(Reason::Malformed, "too much is said before the welcome"));
                }
                early.push(frame);
            }
            (Phase::Open(_), Frame::Ping(value)) => {
                outputs.push_back(control(&Frame::Pong(value)));
                self.hear(now);
            }
            (Phase::Open(_), Frame::Pong(value)) => {
                if self.pinged == Some(Instant(value)) {
                    stats.rtt_us = now.0.saturating_sub(value);
                }
                self.hear(now);
            }
            (Phase::Open(open), frame) => {
                open.frame(frame, &self.local, now, stats, outputs)?;
                self.hear(now);
            }
        }
        Ok(())
    }

    fn admit(&mut self, admission: Admission, now: Instant) {
        let Self { phase, outputs, stats, .. } = self;
        let Phase::Opening { grant, key, early, described } = phase else { return };
        let (grant, key) = (grant.clone(), **key);
        let (early, described) = (std::mem::take(early), described.take());
        let mut open = Open::new(*grant, key, admission.credit, now);
        if let Some(newer) = admission.grant {
            // It was checked when it came; a lane's grants differ in serial, cap and expiry alone.
            let _ = open.renew(newer, &self.local, stats, outputs);
        }
        let window = u32::try_from(open.credit.window()).unwrap_or(u32::MAX);
        outputs.push_back(control(&Frame::Welcome { protocol: PROTOCOL, window }));
        if let Some((delegation, catalog)) = described {
            open.described(delegation, catalog, outputs);
        }
        self.phase = Phase::Open(Box::new(open));
        self.heard = now;
        for frame in early {
            if let Err(Refusal { reason, text }) = self.frame(frame, now) {
                return self.refuse(reason, text.to_owned());
            }
        }
    }

    fn refuse(&mut self, reason: Reason, text: String) {
        self.outputs.push_back(control(&Frame::Refuse { reason, text: text.clone() }));
        self.outputs.push_back(Output::Close { reason, text, by_viewer: false });
        self.close();
    }

    fn close(&mut self) {
        self.phase = Phase::Closed { credit: self.credit() };
    }
}
