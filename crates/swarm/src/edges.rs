//! Edges: connections that open and close, what they say, and the pieces they bring.

use alloc::string::String;

use bytes::Bytes;
use millstream_model::{EdgeId, Fingerprint, Instant, RenditionId};
use millstream_wire::{
    frame::{Frame, PROTOCOL, Reason},
    session::Hello,
    sign::{Context, SIGNATURE_BYTES, Signed, signing_input},
};

use crate::{
    early::Early,
    lane::{Lane, Phase},
    limits::{BAD_PIECES_MAX, UNASKED_PIECES_MAX},
    part::Placed,
    port::{Event, Output, SignId, Source},
    rendition::Rendition,
    swarm::{Signing, Swarm},
};

impl Swarm {
    pub(crate) fn on_open(&mut self, edge: EdgeId, fingerprint: Fingerprint) {
        let Some(session) = self.session.id else { return };
        let Some(lane) = self.lanes.get_mut(&edge).filter(|lane| lane.phase == Phase::Connecting) else {
            return;
        };
        lane.phase = Phase::Greeting;
        let hello = Hello { session, edge, fingerprint };
        let message = signing_input(&hello, Context::None);
        self.sign(Signing::Hello(edge, hello), message);
    }

    /// The connection to an edge is over.
    pub(crate) fn on_closed(&mut self, edge: EdgeId, reason: Option<Reason>, now: Instant) {
        let jitter = self.jitter(250);
        let Some(lane) = self.lanes.get_mut(&edge) else { return };
        if matches!(lane.phase, Phase::Idle(_) | Phase::Left) {
            return;
        }
        lane.lost(now, jitter);
        self.event(Event::EdgeLost { edge, reason });
        self.unseat(edge, now);
    }

    /// Ends a lane from our side: says why, and lets the shell close.
    pub(crate) fn leave_edge(&mut self, edge: EdgeId, reason: Option<Reason>, now: Instant) {
        let Some(lane) = self.lanes.get_mut(&edge) else { return };
        let connected = !matches!(lane.phase, Phase::Idle(_) | Phase::Left);
        lane.phase = Phase::Left;
        if !connected {
            return;
        }
        if let Some(reason) = reason {
            self.send(edge, &Frame::Refuse { reason, text: String::new() });
        }
        self.push(Output::Disconnect { edge });
        self.event(Event::EdgeLost { edge, reason });
        self.unseat(edge, now);
    }

    pub(crate) fn on_message(&mut self, edge: EdgeId, message: Bytes, now: Instant) {
        let known = self.lanes.get_mut(&edge);
        let Some(lane) = known.filter(|lane| !matches!(lane.phase, Phase::Idle(_) | Phase::Left)) else {
            return;
        };
        lane.heard = now;
        match Frame::decode_downstream(message) {
            Ok(Some(frame)) => self.on_frame(edge, frame, now),
            Ok(None) => {}
            Err(_) => self.leave_edge(edge, Some(Reason::Malformed), now),
        }
    }

    fn on_frame(&mut self, edge: EdgeId, frame: Frame, now: Instant) {
        let source = Source::Edge(edge);
        match frame {
            Frame::Welcome { window, .. } => {
                let Some(lane) = self.lanes.get_mut(&edge).filter(|lane| lane.phase == Phase::Greeting)
                else {
                    return;
                };
                lane.welcome(window, now);
                let after_ms = now.millis_since(lane.since);
                // The connection before this one may have ended before it heard of the last voucher.
                if let Some(voucher) = lane.voucher.clone() {
                    self.send(edge, &Frame::Voucher(voucher));
                }
                self.event(Event::EdgeReady { edge, after_ms });
            }
            Frame::Refuse { reason, .. } => {
                self.push(Output::Disconnect { edge });
                self.on_closed(edge, Some(reason), now);
                // An edge that has given too much for nothing gives no more: to ask again is no use.
                if let Some(lane) = self.lanes.get_mut(&edge)
                    && reason == Reason::Unpaid
                    && !lane.bears(0)
                {
                    lane.phase = Phase::Left;
                }
            }
            Frame::Goaway { reason, .. } => {
                self.unseat(edge, now);
                self.event(Event::EdgeLost { edge, reason: Some(reason) });
                if let Some(lane) = self.lanes.get_mut(&edge) {
                    lane.phase = Phase::Left;
                }
            }
            Frame::Delegation(signed) => self.on_delegation(source, &signed, now),
            Frame::Catalog(signed) => {
                self.on_catalog(source, &signed, now);
            }
            Frame::Record(signed) => {
                self.heard_primary(edge, signed.unverified().rendition, now);
                self.on_record(source, &signed, now);
            }
            Frame::Piece { rendition, number, index, data } => {
                self.heard_primary(edge, rendition, now);
                self.on_piece(edge, rendition, number, index, data, now);
            }
            Frame::Missing(span) => {
                let part = self.renditions.get_mut(&span.rendition).and_then(|r| r.part_mut(span.number));
                if let Some(part) = part
                    && !part.without.contains(&edge)
                {
                    part.without.push(edge);
                }
            }
            // What the edge skipped is asked for when its parts are due; its records come from the other edge.
            Frame::Gap { .. } => {}
            Frame::Ping(value) => self.send(edge, &Frame::Pong(value)),
            Frame::Pong(sent) => {
                if let Some(lane) = self.lanes.get_mut(&edge) {
                    lane.measure(now.0.saturating_sub(sent));
                }
            }
            // An edge has no business to say these.
            Frame::Hello { .. }
            | Frame::Subscribe { .. }
            | Frame::Request(_)
            | Frame::Cancel { .. }
            | Frame::Grant(_)
            | Frame::Voucher(_) => self.leave_edge(edge, Some(Reason::Malformed), now),
        }
    }

    fn heard_primary(&mut self, edge: EdgeId, rendition: RenditionId, now: Instant) {
        if let Some(rendition) = self.renditions.get_mut(&rendition)
            && rendition.primary == Some(edge)
        {
            rendition.primary_at = now;
        }
    }

    fn on_piece(
        &mut self,
        edge: EdgeId,
        rendition: RenditionId,
        number: u64,
        index: u32,
        data: Bytes,
        now: Instant,
    ) {
        if let Some(lane) = self.lanes.get_mut(&edge) {
            lane.received += data.len() as u64;
            (lane.piece_at, lane.owes) = (now, None);
        }
        self.estimate.arrived(data.len() as u64);
        if !self.is_asked(edge, rendition, number, now) {
            return self.came_unasked(edge, now);
        }
        let head = self.renditions.get(&rendition).and_then(Rendition::head);
        if self.record(rendition, number).is_some() {
            self.place(Source::Edge(edge), rendition, number, index, &data, now);
        } else if head.is_none_or(|head| number > head) {
            self.early.keep(Early { edge, rendition, number, index, data });
        }
    }

    /// Whether a piece is this edge's to send: it pushes the rendition, or was asked for the part.
    fn is_asked(&self, edge: EdgeId, id: RenditionId, number: u64, now: Instant) -> bool {
        let pushes = self.lanes.get(&edge).is_some_and(|lane| lane.may_push(id, number, now));
        let part = self.renditions.get(&id).and_then(|rendition| rendition.part(number));
        pushes || part.is_some_and(|part| part.invited.contains(&edge))
    }

    /// A piece that nobody asked this edge for: not kept, lest it take the pay of the one who was asked.
    fn came_unasked(&mut self, edge: EdgeId, now: Instant) {
        let Some(lane) = self.lanes.get_mut(&edge) else { return };
        lane.unasked += 1;
        if lane.unasked > UNASKED_PIECES_MAX {
            lane.bad = lane.bad.max(BAD_PIECES_MAX);
            self.leave_edge(edge, Some(Reason::Bad), now);
        }
    }

    /// A part is whole, or not wanted any more: what others than `from` were asked for is taken back.
    pub(crate) fn take_back(&mut self, id: RenditionId, number: u64, from: Option<EdgeId>) {
        let Some(rendition) = self.renditions.get_mut(&id) else { return };
        let primary = rendition.primary;
        let Some(part) = rendition.part_mut(number) else { return };
        part.fetching = false;
        let mut edges = part.asked.clone();
        if let Some(primary) = primary.filter(|primary| part.pushed && !edges.contains(primary)) {
            edges.push(primary);
        }
        let ready = |edge: &EdgeId| self.lanes.get(edge).is_some_and(Lane::ready);
        edges.retain(|edge| Some(*edge) != from && ready(edge));
        for edge in edges {
            self.send(edge, &Frame::Cancel { rendition: id, number });
        }
        for fetch in self.fetches.stop(id, number) {
            self.push(Output::Abort { fetch });
        }
    }

    /// Puts a piece where it belongs, if it is true, and counts it for whom it is due.
    pub(crate) fn place(
        &mut self,
        source: Source,
        id: RenditionId,
        number: u64,
        index: u32,
        data: &Bytes,
        now: Instant,
    ) {
        let Some(rendition) = self.renditions.get_mut(&id) else { return };
        let Some(part) = rendition.part_mut(number) else { return };
        let placed = part.place(index, data);
        let (segment, size, since) = (part.record.segment, part.record.size, part.since);
        let (hedged, late, asked_at) = (part.hedged, part.late, part.asked_at);
        let bytes = data.len() as u64;
        let is_kept = matches!(placed, Placed::Kept | Placed::Whole);
        let is_first = is_kept && matches!(source, Source::Edge(_)) && part.pay(index);
        match placed {
            Placed::Spare => return,
            Placed::Bad => {
                self.stats.pieces_rejected += 1;
                if let Source::Edge(edge) = source {
                    part.without.push(edge);
                }
                self.event(Event::BadPiece { source, rendition: id, number });
                if let Source::Edge(edge) = source {
                    self.blame(edge, now);
                }
                return;
            }
            Placed::Kept | Placed::Whole => {}
        }
        self.held += data.len();
        self.stats.pieces_verified += 1;
        match source {
            Source::Edge(edge) if is_first => {
                self.stats.edge_bytes += bytes;
                if let Some(lane) = self.lanes.get_mut(&edge) {
                    lane.earn(id, number, segment, bytes);
                }
            }
            Source::Edge(_) => {}
            Source::Origin => self.stats.origin_bytes += bytes,
        }
        if placed == Placed::Whole {
            rendition.open.remove(&number);
            if let Source::Edge(_) = source {
                // What came before its record was not waited for, and of two who were asked one was not needed.
                if since < now {
                    self.estimate.whole(if hedged { 0 } else { size }, asked_at, now);
                }
                if !late && !hedged {
                    (rendition.late, rendition.trials) = (0, 0);
                }
            }
            self.stats.parts_hedged += u64::from(hedged);
            let after_ms = now.millis_since(since);
            self.event(Event::Part { rendition: id, number, size, after_ms, hedged });
            let from = if let Source::Edge(edge) = source { Some(edge) } else { None };
            self.take_back(id, number, from);
        }
    }

    pub(crate) fn on_signed(&mut self, id: SignId, signature: &[u8; SIGNATURE_BYTES]) {
        match self.signing.remove(&id) {
            Some(Signing::Hello(edge, hello)) => {
                let Some(lane) = self.lanes.get(&edge).filter(|lane| lane.phase == Phase::Greeting) else {
                    return;
                };
                let frame = Frame::Hello {
                    protocol: PROTOCOL,
                    grant: lane.offer.grant.clone(),
                    hello: Signed::assemble(hello, signature),
                };
                self.send(edge, &frame);
            }
            Some(Signing::Voucher(edge)) => {
                let Some(lane) = self.lanes.get_mut(&edge) else { return };
                lane.signing = None;
                let Some(draft) = lane.draft.take() else { return };
                let voucher = Signed::assemble(draft, signature);
                lane.voucher = Some(voucher.clone());
                let ready = lane.ready();
                self.stats.vouchers_signed += 1;
                if ready {
                    self.send(edge, &Frame::Voucher(voucher));
                } else {
                    self.bring_vouchers();
                }
            }
            Some(Signing::Resume) => self.resume_signed(signature),
            None => {}
        }
    }
}
