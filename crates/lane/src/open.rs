//! A lane that is open: subscriptions, requests, credit.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use millstream_model::{Instant, RenditionId, WallTime};
use millstream_wire::{
    frame::{Frame, Reason, Span, Subscription},
    media::RENDITIONS_MAX,
    session::{Grant, Voucher},
    sign::{Context, SessionVerifier, Signed},
};

use crate::{
    credit::{Claim, Credit, Judged},
    greeting::{Local, Refusal, check_grant, refusal},
    limits::{BLOCKED_MS, RECORDS_BURST, RECORDS_PER_SECOND, REQUEST_MS},
    port::{Channel, Found, Lookup, Output, Stats},
    queue::{Queue, Run},
    rate::Rate,
};

#[derive(Debug)]
struct Subscribed {
    pieces: bool,
    /// The next record; none for the newest segment's first.
    next: Option<u64>,
    /// There was none when last looked for.
    waiting: bool,
}

/// A question that the program owes an answer to.
#[derive(Debug, Clone, Copy)]
enum Asked {
    Record(RenditionId),
    Piece(Run),
}

/// Why nothing is sent although there is something to send.
#[derive(Debug, Clone, Copy)]
struct Blocked {
    since: Instant,
    by: Reason,
}

#[derive(Debug)]
pub(crate) struct Open {
    pub(crate) grant: Signed<Grant>,
    /// The grant's, and every later grant's.
    key: SessionVerifier,
    pub(crate) credit: Credit,
    subscriptions: BTreeMap<RenditionId, Subscribed>,
    queue: Queue,
    /// Bytes of records sent.
    records: Rate,
    busy: bool,
    blocked: Option<Blocked>,
    asked: Option<Asked>,
    delegation: Bytes,
    catalog: Bytes,
}

type Outputs = VecDeque<Output>;

impl Open {
    pub(crate) fn new(grant: Signed<Grant>, key: SessionVerifier, credit: Credit, now: Instant) -> Self {
        Self {
            grant,
            key,
            credit,
            subscriptions: BTreeMap::new(),
            queue: Queue::new(),
            records: Rate::new(RECORDS_BURST, RECORDS_PER_SECOND, now),
            busy: false,
            blocked: None,
            asked: None,
            delegation: Bytes::new(),
            catalog: Bytes::new(),
        }
    }

    /// Takes a frame that only an open lane understands; gives back one that it does not.
    pub(crate) fn frame(
        &mut self,
        frame: Frame,
        local: &Local,
        now: Instant,
        stats: &mut Stats,
        out: &mut Outputs,
    ) -> Result<(), Refusal> {
        match frame {
            Frame::Subscribe { rendition, want, from } => self.subscribe(rendition, want, from, out),
            Frame::Request(span) => {
                let until = Instant(now.0.saturating_add(REQUEST_MS * 1_000));
                if self.blocked.is_some() {
                    missing(span, stats, out);
                } else if let Err(span) = self.queue.request(span, until) {
                    missing(span, stats, out);
                }
                Ok(())
            }
            Frame::Cancel { rendition, number } => {
                self.queue.cancel(rendition, number);
                Ok(())
            }
            Frame::Grant(grant) => self.renew(grant, local, stats, out),
            Frame::Voucher(voucher) => self.voucher(voucher, stats, out),
            _ => Err(refusal(Reason::Malformed, "a frame that viewers do not send")),
        }
    }

    fn subscribe(
        &mut self,
        rendition: RenditionId,
        want: Subscription,
        from: u64,
        out: &mut Outputs,
    ) -> Result<(), Refusal> {
        self.queue.unsubscribe(rendition);
        if want == Subscription::Nothing {
            self.subscriptions.remove(&rendition);
        } else {
            if self.subscriptions.len() >= RENDITIONS_MAX && !self.subscriptions.contains_key(&rendition) {
                return Err(refusal(Reason::Malformed, "more subscriptions than a stream has renditions"));
            }
            let pieces = want == Subscription::Pieces;
            let next = if from == 0 { None } else { Some(from) };
            self.subscriptions.insert(rendition, Subscribed { pieces, next, waiting: false });
            if pieces {
                self.queue.start();
            }
        }
        out.push_back(Output::Subscribe { rendition, want });
        Ok(())
    }

    /// Takes a newer grant of this lane. An older one is what a slow renewal looks like.
    pub(crate) fn renew(
        &mut self,
        grant: Signed<Grant>,
        local: &Local,
        stats: &mut Stats,
        out: &mut Outputs,
    ) -> Result<(), Refusal> {
        let known = self.grant.unverified();
        let said = grant.unverified();
        if said.serial <= known.serial {
            return Ok(());
        }
        let same = said.session == known.session
            && said.key == known.key
            && said.stream == known.stream
            && said.price == known.price;
        if !same || said.cap_bytes < known.cap_bytes {
            return Err(refusal(Reason::Grant, "the renewed grant is not for this lane"));
        }
        check_grant(local, &grant)?;
        stats.expires = said.expires;
        self.grant = grant.clone();
        self.unblock();
        out.push_back(Output::Renewed(Box::new(grant)));
        Ok(())
    }

    fn voucher(
        &mut self,
        voucher: Signed<Voucher>,
        stats: &mut Stats,
        out: &mut Outputs,
    ) -> Result<(), Refusal> {
        let grant = self.grant.unverified();
        let said = voucher.unverified();
        let ours = said.tracker == grant.tracker
            && said.session == grant.session
            && said.edge == grant.edge
            && said.stream == grant.stream;
        if !ours {
            return Err(refusal(Reason::Unpaid, "the voucher is for another lane"));
        }
        let claim = Claim::from(said);
        match self.credit.judge(claim, grant.cap_bytes) {
            Judged::Higher => {}
            Judged::Old => return Ok(()),
            Judged::Shrunk => return Err(refusal(Reason::Unpaid, "the voucher takes back an earlier one")),
            Judged::Unsent => return Err(refusal(Reason::Unpaid, "the voucher claims more than was sent")),
            Judged::OverCap => return Err(refusal(Reason::Cap, "the voucher is over the grant's cap")),
        }
        voucher
            .verify(&self.key, Context::None)
            .map_err(|_| refusal(Reason::Unpaid, "the voucher is not signed by the session's key"))?;
        self.credit.acknowledge(claim);
        stats.vouchers += 1;
        out.push_back(Output::Bring(Box::new(voucher)));
        if self.credit.is_unpaid() {
            return Err(refusal(Reason::Unpaid, "too much of what was sent is not paid for"));
        }
        self.unblock();
        Ok(())
    }

    pub(crate) fn described(&mut self, delegation: Bytes, catalog: Bytes, out: &mut Outputs) {
        for (known, new) in [(&mut self.delegation, delegation), (&mut self.catalog, catalog)] {
            if *known != new {
                *known = new.clone();
                out.push_back(Output::Send { channel: Channel::Control, message: new });
            }
        }
    }

    pub(crate) fn changed(&mut self) {
        for subscription in self.subscriptions.values_mut() {
            subscription.waiting = false;
        }
        self.queue.retry();
    }

    pub(crate) fn busy(&mut self, busy: bool) {
        self.busy = busy;
    }

    /// The next question: records of all renditions before pieces of any, so that every deadline is known early. Records
    /// wait when there were too many of them, and hold up no piece.
    pub(crate) fn ask(&mut self, now: Instant) -> Option<Output> {
        // A question that was not answered is one that nobody could answer.
        match self.asked.take() {
            Some(Asked::Record(rendition)) => self.record_waits(rendition),
            Some(Asked::Piece(_)) => self.queue.wait(),
            None => {}
        }
        let records = !self.catalog.is_empty() && self.records.has_room(now);
        let open = self.subscriptions.iter().find(|(_, subscribed)| records && !subscribed.waiting);
        if let Some((rendition, subscribed)) = open {
            self.asked = Some(Asked::Record(*rendition));
            return Some(Output::Record { rendition: *rendition, from: subscribed.next });
        }
        if self.busy || self.blocked.is_some() {
            return None;
        }
        let run = self.queue.turn()?;
        self.asked = Some(Asked::Piece(run));
        Some(Output::Piece { rendition: run.rendition, number: run.number, index: run.next() })
    }

    pub(crate) fn record(
        &mut self,
        found: Option<Found>,
        now: Instant,
        stats: &mut Stats,
        out: &mut Outputs,
    ) {
        let Some(Asked::Record(rendition)) = self.asked else { return };
        self.asked = None;
        let Some(found) = found else { return self.record_waits(rendition) };
        let Some(subscribed) = self.subscriptions.get_mut(&rendition) else { return };
        if let Some(from) = subscribed.next
            && found.number > from
        {
            stats.gaps += 1;
            let gap = Frame::Gap { rendition, from, next: found.number };
            out.push_back(control(&gap));
        }
        subscribed.next = Some(found.number.saturating_add(1));
        stats.records += 1;
        self.records.charge(found.message.len() as u64, now);
        out.push_back(Output::Send { channel: Channel::Control, message: found.message });
        if subscribed.pieces {
            self.queue.push(rendition, found.number, found.size);
            while let Some(run) = self.queue.overflow() {
                stats.dropped += 1;
                out.push_back(control(&Frame::Missing(run.rest())));
            }
        }
    }

    pub(crate) fn piece(&mut self, found: Lookup, now: Instant, stats: &mut Stats, out: &mut Outputs) {
        let Some(Asked::Piece(run)) = self.asked else { return };
        self.asked = None;
        if self.queue.turn() != Some(run) {
            // Something came between question and answer; it will be asked again.
            return;
        }
        match found {
            Lookup::Here { message, bytes } => self.send(run, message, u64::from(bytes), now, stats, out),
            Lookup::Coming => self.queue.wait(),
            Lookup::Absent => {
                if let Some(run) = self.queue.give_up() {
                    if run.is_request() {
                        missing(run.rest(), stats, out);
                    } else {
                        stats.dropped += 1;
                        out.push_back(control(&Frame::Missing(run.rest())));
                    }
                }
            }
        }
    }

    fn send(
        &mut self,
        run: Run,
        message: Bytes,
        bytes: u64,
        now: Instant,
        stats: &mut Stats,
        out: &mut Outputs,
    ) {
        let by = if !self.credit.window_allows(bytes) {
            Reason::Unpaid
        } else if !self.credit.cap_allows(bytes, self.grant.unverified().cap_bytes) {
            Reason::Cap
        } else {
            self.credit.send(bytes);
            stats.bytes += bytes;
            *(if run.is_request() { &mut stats.answered } else { &mut stats.pushed }) += 1;
            self.queue.advance();
            out.push_back(Output::Send { channel: Channel::Pieces, message });
            return;
        };
        self.blocked = Some(Blocked { since: now, by });
        stats.blocked += 1;
        // Who asks is in a hurry: another source has it.
        while let Some(run) = self.queue.next_request() {
            missing(run.rest(), stats, out);
        }
    }

    pub(crate) fn deadline(&self) -> Option<Instant> {
        let blocked = self.blocked.map(|blocked| Instant(blocked.since.0.saturating_add(BLOCKED_MS * 1_000)));
        let wanted = self.subscriptions.values().any(|subscribed| !subscribed.waiting);
        let records = self.records.room_at().filter(|_| wanted);
        [blocked, self.queue.deadline(), records].into_iter().flatten().min()
    }

    pub(crate) fn timeout(
        &mut self,
        now: Instant,
        stats: &mut Stats,
        out: &mut Outputs,
    ) -> Result<(), Refusal> {
        while let Some(run) = self.queue.expired(now) {
            missing(run.rest(), stats, out);
        }
        let Some(blocked) = self.blocked else { return Ok(()) };
        if now.millis_since(blocked.since) < BLOCKED_MS {
            return Ok(());
        }
        if self.queue.is_empty() {
            // Nothing is wanted of us at the moment: no harm is done.
            self.blocked = None;
            return Ok(());
        }
        Err(match blocked.by {
            Reason::Cap => refusal(Reason::Cap, "the grant's bytes are used up"),
            _ => refusal(Reason::Unpaid, "what was sent has not been vouched for"),
        })
    }

    /// Renditions that the viewer subscribed to.
    pub(crate) fn subscribed(&self) -> impl Iterator<Item = RenditionId> {
        self.subscriptions.keys().copied()
    }

    pub(crate) fn expires(&self) -> WallTime {
        self.grant.unverified().expires
    }

    pub(crate) fn waiting(&self) -> (usize, usize) {
        self.queue.len()
    }

    fn record_waits(&mut self, rendition: RenditionId) {
        if let Some(subscribed) = self.subscriptions.get_mut(&rendition) {
            subscribed.waiting = true;
        }
    }

    fn unblock(&mut self) {
        self.blocked = None;
    }
}

pub(crate) fn control(frame: &Frame) -> Output {
    Output::Send { channel: Channel::Control, message: frame.encode() }
}

fn missing(span: Span, stats: &mut Stats, out: &mut Outputs) {
    stats.missing += 1;
    out.push_back(control(&Frame::Missing(span)));
}
