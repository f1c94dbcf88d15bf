//! The swarm itself: its state, and who works off what.
//!
//! The rooms beside this one each take one kind of input: `session` the tracker's, `edges` and `trust` what edges say,
//! `origin` what HTTP brings, `serve` and `switch` what the player wants; `pick` decides what to ask of whom, and when.

use alloc::{collections::VecDeque, vec::Vec};

use bytes::Bytes;
use millstream_model::{EdgeId, Instant, Map, RenditionId, WallTime};
use millstream_wire::{
    chain::Chain,
    frame::Frame,
    media::{Catalog, Record},
    session::Hello,
};

use crate::{
    early::EarlyPieces,
    fetch::{Fetches, Purpose},
    lane::Lane,
    limits::{MEDIA_BYTES_MAX, RECORDS_BYTES_MAX},
    port::{Config, Event, Input, Output, SignId},
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
    pub(crate) lanes: Map<EdgeId, Lane>,
    pub(crate) chain: Option<Chain>,
    pub(crate) renditions: Map<RenditionId, Rendition>,
    /// Renditions of a group number their parts alike, as far as is known.
    pub(crate) is_aligned: bool,
    pub(crate) fetches: Fetches,
    pub(crate) player: Player,
    pub(crate) stats: Stats,
    pub(crate) signing: Map<SignId, Signing>,
    pub(crate) next_sign: u32,
    pub(crate) estimate: Estimate,
    pub(crate) early: EarlyPieces,
    /// When the last input or timeout was worked off.
    pub(crate) driven: Instant,
    pub(crate) wants: Wants,
    /// The start's body, while the root key is not known yet.
    pub(crate) unread: Option<Bytes>,
    pub(crate) started: bool,
    pub(crate) held: usize,
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
            lanes: Map::new(),
            chain,
            renditions: Map::new(),
            is_aligned: true,
            fetches: Fetches::default(),
            player: Player::default(),
            stats: Stats::default(),
            signing: Map::new(),
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
            Input::Unwant { want } => self.on_unwant(want),
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
        // What cannot be answered is asked for at once, not at the next occasion.
        self.answer(now);
        self.schedule(now);
        self.shed();
    }

    /// Fetches delegation, catalog and the first records, as soon as there is an origin.
    fn start(&mut self, now: Instant) {
        if self.started || self.catalog().is_some() || self.fetches.ready_at(&Purpose::Start) > now {
            return;
        }
        self.started = self.fetch(Purpose::Start, "start", None, RECORDS_BYTES_MAX, now).is_some();
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
