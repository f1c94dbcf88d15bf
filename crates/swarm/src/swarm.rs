//! The swarm itself: state, dispatch, and what happens to records, pieces and wants.

use alloc::{
    collections::{BTreeMap, VecDeque},
    format,
    string::String,
    vec::Vec,
};

use core::time::Duration;

use bytes::Bytes;
use millstream_model::{EdgeId, Fingerprint, Instant, PublicKey, RenditionId, WallTime};
use millstream_playlist::{
    self as playlist,
    reload::{Head, Verdict},
};
use millstream_wire::{
    chain::{Accepted, Chain, Refused},
    frame::{Deframer, Frame, PROTOCOL, Reason},
    media::{Catalog, Delegation, Record},
    session::Hello,
    sign::{Context, SIGNATURE_BYTES, Signed, signing_input},
};

use crate::{
    early::{Early, EarlyPieces},
    fetch::{Fetches, Purpose},
    lane::{Lane, Phase},
    limits::{
        BAD_PIECES_MAX, FETCH_ATTEMPTS_MAX, FETCH_RETRY_MS, MEDIA_BYTES_MAX, PULL_ALLOWANCE_MS,
        RECORDS_BYTES_MAX,
    },
    part::Placed,
    port::{Config, Content, Event, FetchId, Input, Output, Resource, SignId, Source, WantId},
    rate::Estimate,
    rendition::Rendition,
    session::Session,
    stats::Stats,
    want::Wants,
};

/// What a signature in the making is for.
#[derive(Debug, Clone)]
pub(crate) enum Signing {
    Hello(EdgeId, Hello),
    Voucher(EdgeId),
    Resume,
}

/// Whether the viewer is here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stay {
    Watching,
    /// The last vouchers are being signed.
    Leaving,
    Left,
}

/// What the player last said of itself.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Player {
    pub(crate) playhead: Option<(WallTime, Instant)>,
    pub(crate) buffer_ms: u32,
    pub(crate) latency_ms: u32,
    pub(crate) stalls: u32,
    pub(crate) stalled_ms: u32,
}

/// One viewer's mind.
#[derive(Debug)]
pub struct Swarm {
    pub(crate) config: Config,
    pub(crate) session: Session,
    /// Edges in the tracker's order: the first is asked first.
    pub(crate) order: Vec<EdgeId>,
    pub(crate) lanes: BTreeMap<EdgeId, Lane>,
    pub(crate) chain: Option<Chain>,
    pub(crate) renditions: BTreeMap<RenditionId, Rendition>,
    pub(crate) fetches: Fetches,
    pub(crate) player: Player,
    pub(crate) stats: Stats,
    pub(crate) signing: BTreeMap<SignId, Signing>,
    pub(crate) next_sign: u32,
    estimate: Estimate,
    early: EarlyPieces,
    /// When the last input or timeout was worked off.
    pub(crate) driven: Instant,
    wants: Wants,
    /// The start's body, while the root key is not known yet.
    unread: Option<Bytes>,
    started: bool,
    held: usize,
    stay: Stay,
    out: VecDeque<Output>,
}

impl Swarm {
    /// A viewer that begins at `now`.
    #[must_use]
    pub fn new(config: Config, now: Instant) -> Self {
        let session = Session::new(config.origin.clone(), now, config.wall);
        let chain = config.root.map(|root| Chain::new(config.stream.clone(), root));
        Self {
            config,
            session,
            order: Vec::new(),
            lanes: BTreeMap::new(),
            chain,
            renditions: BTreeMap::new(),
            fetches: Fetches::default(),
            player: Player::default(),
            stats: Stats::default(),
            signing: BTreeMap::new(),
            next_sign: 0,
            estimate: Estimate::default(),
            early: EarlyPieces::default(),
            driven: now,
            wants: Wants::default(),
            unread: None,
            started: false,
            held: 0,
            stay: Stay::Watching,
            out: VecDeque::new(),
        }
    }

    /// Takes in what happened.
    pub fn handle(&mut self, input: Input, now: Instant) {
        match input {
            // The challenge that follows is what we answer.
            Input::TrackerOpen => {}
            Input::TrackerClosed => self.tracker_closed(),
            Input::Tracker(message) => self.on_tracker(message, now),
            Input::EdgeOpen { edge, fingerprint } => self.on_open(edge, fingerprint),
            Input::EdgeClosed { edge } => self.on_closed(edge, None, now),
            Input::EdgeMessage { edge, message } => self.on_message(edge, message, now),
            Input::Fetched { fetch, body } => self.on_fetched(fetch, body, now),
            Input::FetchFailed { fetch, status } => self.on_fetch_failed(fetch, status, now),
            Input::Signed { sign, signature } => self.on_signed(sign, &signature),
            Input::Want { want, resource } => self.on_want(want, resource, now),
            Input::Unwant { want } => self.wants.remove(want),
            Input::Playhead { at, buffer_ms, stalls, stalled_ms } => {
                let latency = self.session.wall(now).millis_since(at);
                self.player = Player {
                    playhead: Some((at, now)),
                    buffer_ms,
                    latency_ms: u32::try_from(latency).unwrap_or(u32::MAX),
                    stalls,
                    stalled_ms,
                };
            }
            Input::Leave => self.leave(now),
        }
        self.drive(now);
    }

    /// To be called when [`Swarm::deadline`] has come.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.drive(now);
    }

    /// What to do, until there is nothing.
    pub fn poll(&mut self) -> Option<Output> {
        self.out.pop_front()
    }

    /// The figures so far.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let mut stats = self.stats.clone();
        stats.estimate = self.estimate.rate();
        stats.edges = self
            .order
            .iter()
            .filter_map(|edge| self.lanes.get(edge))
            .map(|lane| lane.stats(self.is_primary(lane.id())))
            .collect();
        let paid = self.lanes.values().map(|lane| lane.earned.0).sum();
        stats.paid = millstream_model::Micros(paid);
        stats
    }

    /// The newest catalog believed.
    #[must_use]
    pub fn catalog(&self) -> Option<&Catalog> {
        self.chain.as_ref().and_then(Chain::catalog)
    }

    /// The record of a part, if it is believed.
    #[must_use]
    pub fn record(&self, rendition: RenditionId, number: u64) -> Option<&Record> {
        self.renditions.get(&rendition)?.part(number).map(|part| &part.record)
    }

    /// Tracker time.
    #[must_use]
    pub fn wall(&self, now: Instant) -> WallTime {
        self.session.wall(now)
    }

    fn drive(&mut self, now: Instant) {
        self.driven = now;
        if self.stay != Stay::Watching {
            return self.finish(now);
        }
        self.start(now);
        self.tend_lanes(now);
        self.tend_session(now);
        self.schedule(now);
        self.answer(now);
        self.shed();
    }

    /// Fetches delegation, catalog and the first records, as soon as there is an origin.
    fn start(&mut self, now: Instant) {
        if self.started || self.catalog().is_some() || self.fetches.ready_at(&Purpose::Start) > now {
            return;
        }
        self.started = self.fetch(Purpose::Start, "start", None, RECORDS_BYTES_MAX, now).is_some();
    }

    // --- trust -----------------------------------------------------------------------------------------------

    pub(crate) fn trust(&mut self, root: PublicKey, now: Instant) {
        if self.chain.is_none() {
            self.chain = Some(Chain::new(self.config.stream.clone(), root));
        }
        if let Some(body) = self.unread.take() {
            self.read_records(&body, now);
        }
    }

    fn on_delegation(&mut self, source: Source, signed: &Signed<Delegation>, now: Instant) {
        let wall = self.session.wall(now);
        let Some(chain) = &mut self.chain else { return };
        if let Err(why) = chain.accept_delegation(signed, wall) {
            self.refuse(source, why, now);
        }
    }

    fn on_catalog(&mut self, source: Source, signed: &Signed<Catalog>, now: Instant) {
        let Some(chain) = &mut self.chain else { return };
        match chain.accept_catalog(signed) {
            Ok(Accepted::New) => {
                let catalog = signed.unverified();
                for rendition in &catalog.renditions {
                    self.renditions
                        .entry(rendition.id)
                        .or_insert_with(|| Rendition::new(rendition.name.clone(), now));
                }
                let names: Vec<String> =
                    self.wants.iter().filter_map(|(_, resource)| resource.rendition().cloned()).collect();
                for name in names {
                    self.touch(&name, now);
                }
                if catalog.ended {
                    self.event(Event::Ended);
                }
            }
            Ok(Accepted::Known | Accepted::Old) => {}
            Err(why) => self.refuse(source, why, now),
        }
    }

    fn on_record(&mut self, source: Source, signed: &Signed<Record>, now: Instant) {
        let Some(chain) = &mut self.chain else { return };
        match chain.accept_record(signed) {
            Ok(Accepted::New) => {}
            Ok(Accepted::Known | Accepted::Old) => return,
            Err(why) => return self.refuse(source, why, now),
        }
        let record = signed.unverified().clone();
        let (id, number) = (record.rendition, record.number);
        let allowance = self.allowance(&record, now);
        let Some(rendition) = self.renditions.get_mut(&id) else { return };
        self.held -= rendition.insert(record, now).min(self.held);
        let pushes = rendition.primary.is_some();
        if let Some(part) = rendition.part_mut(number) {
            part.deadline = now + allowance;
            part.pushed = pushes;
            if pushes {
                rendition.open.insert(number);
            }
        }
        for early in self.early.take(id, number) {
            self.place(Source::Edge(early.edge), id, number, early.index, &early.data, now);
        }
    }

    fn refuse(&mut self, source: Source, why: Refused, now: Instant) {
        self.event(Event::Refused { source, why });
        // Something merely early or old is no lie; a wrong signature or a second truth is.
        let lie = matches!(why, Refused::Signature(_) | Refused::Fork | Refused::Broken | Refused::Stream);
        if let (Source::Edge(edge), true) = (source, lie) {
            self.blame(edge, now);
        }
    }

    /// Counts something false from an edge; the second ends the lane for good.
    fn blame(&mut self, edge: EdgeId, now: Instant) {
        let Some(lane) = self.lanes.get_mut(&edge) else { return };
        lane.bad += 1;
        if lane.bad >= BAD_PIECES_MAX {
            self.leave_edge(edge, Some(Reason::Bad), now);
        }
    }

    // --- edges -----------------------------------------------------------------------------------------------

    fn on_open(&mut self, edge: EdgeId, fingerprint: Fingerprint) {
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

    fn on_message(&mut self, edge: EdgeId, message: Bytes, now: Instant) {
        let known = self.lanes.get_mut(&edge);
        let Some(lane) = known.filter(|lane| !matches!(lane.phase, Phase::Idle(_) | Phase::Left)) else {
            return;
        };
        lane.heard = now;
        match Frame::decode(message) {
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
                self.event(Event::EdgeReady { edge, after_ms });
            }
            Frame::Refuse { reason, .. } => {
                self.push(Output::Disconnect { edge });
                self.on_closed(edge, Some(reason), now);
            }
            Frame::Goaway { reason, .. } => {
                self.unseat(edge, now);
                self.event(Event::EdgeLost { edge, reason: Some(reason) });
                if let Some(lane) = self.lanes.get_mut(&edge) {
                    lane.phase = Phase::Left;
                }
            }
            Frame::Delegation(signed) => self.on_delegation(source, &signed, now),
            Frame::Catalog(signed) => self.on_catalog(source, &signed, now),
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
        }
        let head = self.renditions.get(&rendition).and_then(Rendition::head);
        if self.record(rendition, number).is_some() {
            self.place(Source::Edge(edge), rendition, number, index, &data, now);
        } else if head.is_none_or(|head| number > head) {
            self.early.keep(Early { edge, rendition, number, index, data });
        }
    }

    /// Puts a piece where it belongs, if it is true, and counts it for whom it is due.
    fn place(
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
        let (hedged, deadline) = (part.hedged, part.deadline);
        let bytes = data.len() as u64;
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
            Source::Edge(edge) => {
                self.stats.edge_bytes += bytes;
                if let Some(lane) = self.lanes.get_mut(&edge) {
                    lane.earn(id, number, segment, bytes);
                }
            }
            Source::Origin => self.stats.origin_bytes += bytes,
        }
        if placed == Placed::Whole {
            rendition.open.remove(&number);
            if let Source::Edge(edge) = source {
                if rendition.primary == Some(edge) && !hedged {
                    self.estimate.burst(u64::from(size), now.0.saturating_sub(since.0));
                }
                rendition.late = if now <= deadline && !hedged { 0 } else { rendition.late };
            }
            self.stats.parts_hedged += u64::from(hedged);
            let after_ms = now.millis_since(since);
            self.event(Event::Part { rendition: id, number, size, after_ms, hedged });
        }
    }

    // --- HTTP ------------------------------------------------------------------------------------------------

    pub(crate) fn fetch(
        &mut self,
        purpose: Purpose,
        path: &str,
        range: Option<(u64, u64)>,
        bytes_max: usize,
        now: Instant,
    ) -> Option<FetchId> {
        let url = self.session.url(self.config.stream.as_str(), path)?;
        if self.fetches.ready_at(&purpose) > now {
            return None;
        }
        let token = self.session.token.as_ref().map(|token| format!("{token}"));
        let fetch = self.fetches.begin(purpose, now)?;
        self.push(Output::Fetch { fetch, url, range, token, bytes_max });
        Some(fetch)
    }

    fn on_fetched(&mut self, id: FetchId, body: Bytes, now: Instant) {
        let Some(fetch) = self.fetches.end(id) else { return };
        self.fetches.succeed(&fetch.purpose);
        match fetch.purpose {
            Purpose::Start => {
                if self.chain.is_some() {
                    self.read_records(&body, now);
                } else {
                    self.unread = Some(body);
                }
            }
            Purpose::Records { rendition } => {
                if let Some(rendition) = self.renditions.get_mut(&rendition) {
                    rendition.records_fetch = None;
                }
                self.read_records(&body, now);
            }
            Purpose::Pieces { rendition, number, first, count } => {
                self.estimate.burst(body.len() as u64, now.0.saturating_sub(fetch.since.0));
                if let Some(part) = self.renditions.get_mut(&rendition).and_then(|r| r.part_mut(number)) {
                    part.fetching = false;
                }
                let mut rest = body;
                for index in first..first + count {
                    let Some(record) = self.record(rendition, number) else { return };
                    let len = millstream_model::piece_len(record.size, index) as usize;
                    if rest.len() < len {
                        break;
                    }
                    let data = rest.split_to(len);
                    self.place(Source::Origin, rendition, number, index, &data, now);
                }
            }
        }
    }

    fn read_records(&mut self, body: &[u8], now: Instant) {
        let mut frames = Deframer::default();
        frames.push(body);
        while let Ok(Some(frame)) = frames.next_frame() {
            match frame {
                Frame::Delegation(signed) => self.on_delegation(Source::Origin, &signed, now),
                Frame::Catalog(signed) => self.on_catalog(Source::Origin, &signed, now),
                Frame::Record(signed) => self.on_record(Source::Origin, &signed, now),
                _ => {}
            }
        }
    }

    fn on_fetch_failed(&mut self, id: FetchId, status: Option<u16>, now: Instant) {
        let Some(fetch) = self.fetches.end(id) else { return };
        let jitter = self.jitter(FETCH_RETRY_MS);
        let again = |failures: u32| {
            let wait = FETCH_RETRY_MS << failures.min(5);
            now + Duration::from_millis(wait + jitter)
        };
        let failures = self.fetches.fail(&fetch.purpose, again);
        self.fetches.prune(now);
        match fetch.purpose {
            Purpose::Start => self.started = false,
            Purpose::Records { rendition } => {
                if let Some(rendition) = self.renditions.get_mut(&rendition) {
                    rendition.records_fetch = None;
                }
            }
            Purpose::Pieces { rendition, number, .. } => {
                let gone = matches!(status, Some(404 | 410)) || failures >= FETCH_ATTEMPTS_MAX;
                let Some(part) = self.renditions.get_mut(&rendition).and_then(|r| r.part_mut(number)) else {
                    return;
                };
                part.fetching = false;
                if gone {
                    self.give_up(rendition, number, status.unwrap_or(504));
                }
            }
        }
    }

    /// Nobody has this part any more: the player has to know.
    fn give_up(&mut self, id: RenditionId, number: u64, status: u16) {
        let Some(rendition) = self.renditions.get_mut(&id) else { return };
        rendition.open.remove(&number);
        let Some(part) = rendition.part_mut(number) else { return };
        part.wanted = false;
        let segment = part.record.segment;
        let name = rendition.name.clone();
        let lost: Vec<WantId> = self
            .wants
            .iter()
            .filter(|(_, resource)| match resource {
                Resource::Part { rendition, number: wanted } => *rendition == name && *wanted == number,
                Resource::Segment { rendition, segment: wanted } => *rendition == name && *wanted == segment,
                _ => false,
            })
            .map(|(want, _)| want)
            .collect();
        for want in lost {
            self.wants.remove(want);
            self.push(Output::Refuse { want, status });
        }
    }

    // --- signing ---------------------------------------------------------------------------------------------

    fn on_signed(&mut self, id: SignId, signature: &[u8; SIGNATURE_BYTES]) {
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

    // --- the player ------------------------------------------------------------------------------------------

    fn on_want(&mut self, want: WantId, resource: Resource, now: Instant) {
        if let Some(name) = resource.rendition().cloned() {
            self.touch(&name, now);
        }
        if !self.wants.add(want, resource) {
            self.push(Output::Refuse { want, status: 429 });
        }
    }

    fn touch(&mut self, name: &str, now: Instant) {
        if let Some(rendition) = self.renditions.values_mut().find(|rendition| rendition.name == name) {
            rendition.touch(now);
        }
    }

    /// Answers what can be answered, and marks what has to be brought.
    fn answer(&mut self, now: Instant) {
        let open: Vec<(WantId, Resource)> =
            self.wants.iter().map(|(want, resource)| (want, resource.clone())).collect();
        for (want, resource) in open {
            if let Some(name) = resource.rendition() {
                self.touch(name, now);
            }
            match self.content(&resource, now) {
                Some(Ok(content)) => {
                    self.wants.remove(want);
                    self.push(Output::Deliver { want, content });
                }
                Some(Err(status)) => {
                    self.wants.remove(want);
                    self.push(Output::Refuse { want, status });
                }
                None => {}
            }
        }
    }

    /// The answer to a want, a status when there can be none, or `None` while it is on its way.
    fn content(&mut self, resource: &Resource, now: Instant) -> Option<Result<Content, u16>> {
        let chain = self.chain.as_ref()?;
        let catalog = chain.catalog()?;
        let ended = catalog.ended;
        let Some(name) = resource.rendition() else {
            return Some(Ok(Content::Playlist(playlist::multivariant(catalog))));
        };
        let Some(id) = catalog.named(name).map(|described| described.id) else { return Some(Err(404)) };
        let Some(rendition) = self.renditions.get_mut(&id) else { return Some(Err(404)) };
        match resource {
            Resource::Multivariant => None,
            Resource::Init { version, .. } => {
                let described =
                    chain.catalogs().find(|catalog| catalog.version == *version)?.rendition(id)?;
                Some(Ok(Content::Media(described.init.clone())))
            }
            Resource::Playlist { at, .. } => {
                rendition.settle(now);
                let head = rendition.listed().last().map(Head::of);
                let target = catalog.rendition(id)?.part_target_ms;
                match at.map_or(Verdict::Ready, |reload| reload.judge(head, target, ended)) {
                    Verdict::Ready => {}
                    Verdict::Wait => return None,
                    Verdict::Absurd => return Some(Err(400)),
                }
                let catalogs: Vec<&Catalog> = chain.catalogs().collect();
                let text = playlist::media(&catalogs, id, rendition.listed(), &playlist::Options::default())?;
                rendition.pin();
                Some(Ok(Content::Playlist(text)))
            }
            Resource::Part { number, .. } => self.media(id, &[*number], now),
            Resource::Segment { segment, .. } => {
                let numbers = rendition.segment(*segment, ended)?;
                self.media(id, &numbers, now)
            }
        }
    }

    fn media(&mut self, id: RenditionId, numbers: &[u64], now: Instant) -> Option<Result<Content, u16>> {
        let allowances: Vec<_> = numbers
            .iter()
            .map(|number| self.record(id, *number).map(|record| self.allowance(record, now)))
            .collect();
        let rendition = self.renditions.get_mut(&id)?;
        if let Some(bytes) = rendition.join(numbers) {
            for number in numbers {
                if let Some(part) = rendition.part_mut(*number) {
                    part.wanted = false;
                }
            }
            return Some(Ok(Content::Media(bytes)));
        }
        for (number, allowance) in numbers.iter().zip(allowances) {
            let gone = rendition.head().is_some_and(|head| *number < head);
            let Some(part) = rendition.part_mut(*number) else {
                // Behind what is known: never again. Ahead of it: its record will come.
                return gone.then_some(Err(404));
            };
            if !part.whole() && !part.wanted {
                part.wanted = true;
                if !part.pushed {
                    part.since = now;
                    let patience = Duration::from_millis(PULL_ALLOWANCE_MS);
                    part.deadline = now + allowance.unwrap_or_default().min(patience);
                }
                rendition.open.insert(*number);
            }
        }
        None
    }

    /// Keeps the media held within its bound: the oldest goes first.
    fn shed(&mut self) {
        while self.held > MEDIA_BYTES_MAX {
            let oldest = self
                .renditions
                .values_mut()
                .filter(|rendition| rendition.oldest_held().is_some())
                .min_by_key(|rendition| rendition.oldest_held());
            let freed = oldest.map_or(0, Rendition::forget_oldest);
            if freed == 0 {
                return;
            }
            self.held -= freed.min(self.held);
        }
    }

    /// Has what came since the last vouchers signed, then goes.
    fn leave(&mut self, now: Instant) {
        let edges: Vec<EdgeId> = self.lanes.keys().copied().collect();
        for edge in edges {
            self.vouch(edge, true, now);
        }
        self.stay = Stay::Leaving;
        self.finish(now);
    }

    /// Says farewell once no voucher is being signed any more.
    fn finish(&mut self, now: Instant) {
        let unsigned = self.signing.values().any(|signing| matches!(signing, Signing::Voucher(_)));
        if self.stay != Stay::Leaving || unsigned {
            return;
        }
        self.stay = Stay::Left;
        self.bring_vouchers();
        self.say(millstream_wire::tracker::FromViewer::Leave);
        let edges: Vec<EdgeId> = self.lanes.keys().copied().collect();
        for edge in edges {
            self.leave_edge(edge, None, now);
        }
    }

    pub(crate) fn send(&mut self, edge: EdgeId, frame: &Frame) {
        self.push(Output::Send { edge, message: frame.encode() });
    }

    pub(crate) fn event(&mut self, event: Event) {
        self.push(Output::Event(event));
    }

    pub(crate) fn push(&mut self, output: Output) {
        self.out.push_back(output);
    }

    /// The next of a repeatable series of random numbers below `below` (SplitMix64).
    pub(crate) fn jitter(&mut self, below: u64) -> u64 {
        self.config.seed = self.config.seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.config.seed;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % below.max(1)
    }
}
