//! One edge as this viewer knows it: the connection's phase, what came, what was vouched for.

use millstream_model::{EdgeId, Instant, Map, Micros, RenditionId, SessionId, StreamId, TrackerId};
use millstream_wire::{
    frame::Subscription,
    session::{Grant, Voucher},
    sign::Signed,
    tracker::EdgeOffer,
};

use crate::{
    limits::{
        ATTEMPTS_MAX, BAD_PIECES_MAX, LANDING_MS, RETRY_MS, RETRY_SLOW_MS, UNPAID_GRACE, UNPAID_SHARE,
        VOUCHER_MS,
    },
    port::SignId,
    stats::EdgeStats,
};

/// How far a connection is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Not connected; try at this time.
    Idle(Instant),
    /// Data channels are being opened.
    Connecting,
    /// They are open; the hello is being signed or answered.
    Greeting,
    /// The edge welcomed us.
    Ready,
    /// Not used any more until the tracker offers it anew (and never again after bad pieces).
    Left,
}

/// What an edge was told to bring of a rendition.
#[derive(Debug)]
struct Told {
    want: Subscription,
    /// The first part that it is to push.
    from: u64,
    /// Until when pieces may arrive that it was to push before.
    lands: Instant,
}

/// A lane and its connection.
#[derive(Debug)]
pub(crate) struct Lane {
    pub(crate) offer: EdgeOffer,
    pub(crate) phase: Phase,
    /// When the current attempt began.
    pub(crate) since: Instant,
    attempts: u32,
    /// The edge's window, from its welcome.
    window: u32,
    pub(crate) received: u64,
    pub(crate) payable: u64,
    segments: Map<RenditionId, u64>,
    segment_count: u64,
    newest: (RenditionId, u64),
    /// `received` when the last voucher was begun, and when that was.
    vouched: (u64, Instant),
    pub(crate) signing: Option<SignId>,
    /// The voucher being signed.
    pub(crate) draft: Option<Voucher>,
    /// The newest signed one.
    pub(crate) voucher: Option<Signed<Voucher>>,
    /// `payable` of the voucher last brought to the tracker.
    pub(crate) brought: Option<u64>,
    pub(crate) booked: u64,
    pub(crate) earned: Micros,
    pub(crate) bad: u32,
    pub(crate) rtt_us: u64,
    pub(crate) heard: Instant,
    /// When a piece came last.
    pub(crate) piece_at: Instant,
    /// Since when pieces are expected and none has come, also if others brought them since.
    pub(crate) owes: Option<Instant>,
    pub(crate) pinged: Instant,
    pub(crate) renew_at: Instant,
    /// What the edge was last told, per rendition.
    told: Map<RenditionId, Told>,
    /// Pieces it sent without having been asked.
    pub(crate) unasked: u32,
}

impl Lane {
    pub(crate) fn new(offer: EdgeOffer, now: Instant) -> Self {
        Self {
            offer,
            phase: Phase::Idle(now),
            since: now,
            attempts: 0,
            window: 0,
            received: 0,
            payable: 0,
            segments: Map::new(),
            segment_count: 0,
            newest: (RenditionId(0), 0),
            vouched: (0, now),
            signing: None,
            draft: None,
            voucher: None,
            brought: None,
            booked: 0,
            earned: Micros::ZERO,
            bad: 0,
            rtt_us: 0,
            heard: now,
            piece_at: now,
            owes: None,
            pinged: now,
            renew_at: now,
            told: Map::new(),
            unasked: 0,
        }
    }

    pub(crate) fn ready(&self) -> bool {
        self.phase == Phase::Ready
    }

    pub(crate) fn grant(&self) -> &Grant {
        self.offer.grant.unverified()
    }

    pub(crate) fn welcome(&mut self, window: u32, now: Instant) {
        self.phase = Phase::Ready;
        self.window = window;
        self.attempts = 0;
        self.vouched.1 = now;
        self.told.clear();
    }

    /// The connection is gone: when to try again.
    pub(crate) fn lost(&mut self, now: Instant, jitter_ms: u64) {
        self.told.clear();
        self.attempts = self.attempts.saturating_add(1);
        self.phase = if self.bad >= BAD_PIECES_MAX {
            Phase::Left
        } else {
            let wait =
                if self.attempts > ATTEMPTS_MAX { RETRY_SLOW_MS } else { RETRY_MS << self.attempts.min(6) };
            Phase::Idle(now + core::time::Duration::from_millis(wait + jitter_ms))
        };
    }

    /// The tracker offers the edge (again): it knows that it is there.
    pub(crate) fn offered(&mut self, now: Instant) {
        self.attempts = 0;
        if self.bad < BAD_PIECES_MAX && matches!(self.phase, Phase::Idle(_) | Phase::Left) {
            self.phase = Phase::Idle(now);
        }
    }

    /// The edge is told what to bring of a rendition; false when it knows.
    pub(crate) fn tell(
        &mut self,
        rendition: RenditionId,
        want: Subscription,
        from: u64,
        now: Instant,
    ) -> bool {
        let nothing = || Told { want: Subscription::Nothing, from: 0, lands: Instant(0) };
        let told = self.told.or_insert_with(rendition, nothing);
        if told.want == want {
            return false;
        }
        if told.want == Subscription::Pieces {
            told.lands = now + core::time::Duration::from_millis(LANDING_MS);
        } else if want == Subscription::Pieces {
            told.from = if now <= told.lands { told.from.min(from) } else { from };
        }
        told.want = want;
        true
    }

    /// This part may come without having been asked for: the edge pushes the rendition, or did just now.
    pub(crate) fn may_push(&self, rendition: RenditionId, number: u64, now: Instant) -> bool {
        self.told.get(&rendition).is_some_and(|told| {
            (told.want == Subscription::Pieces || now <= told.lands) && number >= told.from
        })
    }

    /// The edge was told to push this part by number.
    pub(crate) fn pushes(&self, rendition: RenditionId, number: u64) -> bool {
        let told =
            self.told.get(&rendition).filter(|told| told.want == Subscription::Pieces && told.from > 0);
        told.is_some_and(|told| number >= told.from)
    }

    /// Whether the edge bears that `bytes` more come in vain, with room to spare for what is on its way.
    pub(crate) fn bears(&self, bytes: u64) -> bool {
        let unpaid = (self.received - self.payable).saturating_add(bytes);
        unpaid <= UNPAID_GRACE.max(self.received / UNPAID_SHARE) / 4 * 3
    }

    /// A true piece of this part arrived first from this edge.
    pub(crate) fn earn(&mut self, rendition: RenditionId, number: u64, segment: u64, bytes: u64) {
        self.payable += bytes;
        let newest = self.segments.or_insert_with(rendition, || u64::MAX);
        if *newest == u64::MAX || segment > *newest {
            *newest = segment;
            self.segment_count += 1;
        }
        self.newest = (rendition, number);
    }

    /// The voucher to sign now, if it is time: at a quarter of the edge's window, or after a while.
    pub(crate) fn due_voucher(
        &mut self,
        tracker: TrackerId,
        session: SessionId,
        stream: &StreamId,
        now: Instant,
        last: bool,
    ) -> Option<Voucher> {
        let (received, at) = self.vouched;
        let fresh = self.received - received;
        let due = last || fresh * 4 >= u64::from(self.window) || now.millis_since(at) >= VOUCHER_MS;
        if fresh == 0 || !due || self.signing.is_some() {
            return None;
        }
        self.vouched = (self.received, now);
        Some(Voucher {
            tracker,
            session,
            edge: self.offer.id,
            stream: stream.clone(),
            payable: self.payable,
            received: self.received,
            segments: self.segment_count,
            rendition: self.newest.0,
            number: self.newest.1,
        })
    }

    /// When [`Lane::due_voucher`] may have something by time alone.
    pub(crate) fn voucher_deadline(&self) -> Option<Instant> {
        let open = self.received > self.vouched.0 && self.signing.is_none();
        open.then(|| self.vouched.1 + core::time::Duration::from_millis(VOUCHER_MS))
    }

    pub(crate) fn measure(&mut self, rtt_us: u64) {
        // Jacobson's gain of 1/8 (RFC 6298).
        self.rtt_us = if self.rtt_us == 0 { rtt_us } else { (self.rtt_us * 7 + rtt_us) / 8 };
    }

    pub(crate) fn stats(&self, primary: bool) -> EdgeStats {
        EdgeStats {
            edge: self.id(),
            ready: self.ready(),
            primary,
            received: self.received,
            payable: self.payable,
            booked: self.booked,
            earned: self.earned,
            rtt_ms: u32::try_from(self.rtt_us.div_ceil(1_000)).unwrap_or(u32::MAX),
            bad: self.bad,
        }
    }

    pub(crate) fn id(&self) -> EdgeId {
        self.offer.id
    }
}
