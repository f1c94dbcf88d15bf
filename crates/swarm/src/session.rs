//! The conversation with the tracker: joining, resuming, grants, reports, vouchers brought to the book.

use alloc::{boxed::Box, format, string::String, vec::Vec};
use core::time::Duration;

use millstream_model::{EdgeId, Instant, PublicKey, SessionId, TrackerId, WallTime};
use millstream_wire::{
    session::{Certificate, Grant, Receipt, Resume, Token},
    sign::{Context, SIGNATURE_BYTES, Signed, signing_input},
    tracker::{Challenge, EdgeBytes, EdgeOffer, FaultCode, FromViewer, Nonce, ToViewer, Welcome},
};

use crate::{
    lane::{Lane, Phase},
    limits::{BRING_MS, LANES_MAX, RENEW_RETRY_MS},
    port::{Event, Output, SignId},
    swarm::{Signing, Swarm},
};

/// Milliseconds between reports before the tracker says otherwise.
const REPORT_MS: u32 = 5_000;

/// What is known of the tracker and our session with it.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) id: Option<SessionId>,
    pub(crate) tracker: Option<TrackerId>,
    pub(crate) origin: Option<String>,
    pub(crate) token: Option<Signed<Token>>,
    certificate: Option<Signed<Certificate>>,
    open: bool,
    /// Our clock and the wall's at the same moment.
    clock: (Instant, WallTime),
    report_ms: u32,
    report_at: Option<Instant>,
    bring_at: Option<Instant>,
    resume: Option<Resume>,
}

impl Session {
    pub(crate) fn new(origin: Option<String>, now: Instant, wall: WallTime) -> Self {
        Self {
            id: None,
            tracker: None,
            origin,
            token: None,
            certificate: None,
            open: false,
            clock: (now, wall),
            report_ms: REPORT_MS,
            report_at: None,
            bring_at: None,
            resume: None,
        }
    }

    /// Tracker time.
    pub(crate) fn wall(&self, now: Instant) -> WallTime {
        let (then, wall) = self.clock;
        wall.plus_millis(now.millis_since(then))
    }

    /// The URL of something below the stream's folder at the origin.
    pub(crate) fn url(&self, stream: &str, path: &str) -> Option<String> {
        let origin = self.origin.as_ref()?;
        let mark = if path.contains('?') { '&' } else { '?' };
        Some(match self.id {
            Some(session) => format!("{origin}/s/{stream}/{path}{mark}session={session}"),
            None => format!("{origin}/s/{stream}/{path}"),
        })
    }

    pub(crate) fn deadline(&self) -> Option<Instant> {
        [self.report_at, self.bring_at].into_iter().flatten().min().filter(|_| self.open)
    }
}

impl Swarm {
    pub(crate) fn tracker_closed(&mut self) {
        self.session.open = false;
        self.session.report_at = None;
        self.session.bring_at = None;
    }

    pub(crate) fn on_tracker(&mut self, message: ToViewer, now: Instant) {
        match message {
            ToViewer::Challenge(challenge) => self.on_challenge(&challenge, now),
            ToViewer::Welcome(welcome) => self.on_welcome(welcome, now),
            ToViewer::Grants { grants, token } => {
                // On a stream that wants none, none comes: what is known stays.
                self.session.token = token.or(self.session.token.take());
                for grant in grants {
                    self.on_grant(grant);
                }
            }
            ToViewer::Reassign { edges, .. } => self.offer(edges, false, now),
            ToViewer::Receipt { receipt } => self.on_receipt(&receipt),
            ToViewer::Rejected { edge, reason } => self.event(Event::Unpaid { edge, reason }),
            // Edges behind NAT are signalled to, by whoever opens the connection, and signal nothing.
            ToViewer::Signal(_) | ToViewer::Goaway { .. } => {}
            ToViewer::Error(fault) => {
                // It hangs up now, and the next challenge is answered by joining.
                if fault.code == FaultCode::BadProof {
                    self.tracker_closed();
                    self.forget_session(now);
                }
                self.event(Event::Fault { code: fault.code, message: fault.message });
            }
        }
    }

    /// The tracker knows our session no more: what its grants allowed is over, and the next challenge is answered
    /// by joining anew.
    fn forget_session(&mut self, now: Instant) {
        self.session.certificate = None;
        self.session.id = None;
        let edges: Vec<EdgeId> = self.lanes.keys().copied().collect();
        for edge in edges {
            self.leave_edge(edge, None, now);
        }
        self.lanes.clear();
        self.order.clear();
    }

    fn on_challenge(&mut self, challenge: &Challenge, now: Instant) {
        if self.session.tracker.is_some_and(|known| known != challenge.tracker) {
            // Another tracker cannot know our session.
            self.forget_session(now);
        }
        self.session.tracker = Some(challenge.tracker);
        self.session.clock = (now, challenge.time);
        match self.session.certificate.as_ref().zip(self.session.id) {
            Some((_, session)) => {
                let resume = resume_for(challenge.tracker, challenge.nonce, session);
                let message = signing_input(&resume, Context::None);
                self.session.resume = Some(resume);
                self.sign(Signing::Resume, message);
            }
            None => self.say(FromViewer::Join {
                stream: self.config.stream.clone(),
                key: self.config.key,
                ticket: self.config.ticket.clone(),
            }),
        }
    }

    pub(crate) fn resume_signed(&mut self, signature: &[u8; SIGNATURE_BYTES]) {
        let Some((resume, certificate)) = self.session.resume.take().zip(self.session.certificate.clone())
        else {
            return;
        };
        self.say(FromViewer::Resume { certificate, proof: Signed::assemble(resume, signature) });
    }

    fn on_welcome(&mut self, welcome: Box<Welcome>, now: Instant) {
        if welcome.stream != self.config.stream {
            return;
        }
        let Welcome { session, certificate, root, origin, token, edges, time, report_ms, .. } = *welcome;
        let resumed = self.session.id == Some(session);
        self.session.id = Some(session);
        self.session.certificate = Some(certificate);
        self.session.clock = (now, time);
        self.session.open = true;
        self.session.token = token;
        // A page that knows its origin keeps to it only until the tracker knows better.
        self.session.origin = Some(origin);
        self.session.report_ms = report_ms.clamp(1_000, 60_000);
        self.session.report_at = Some(now + self.report_every());
        self.session.bring_at = Some(now);
        self.event(Event::Joined { session, edges: edges.len() });
        self.trust(self.config.root.unwrap_or(root), now);
        self.offer(edges, resumed, now);
    }

    fn report_every(&self) -> Duration {
        Duration::from_millis(u64::from(self.session.report_ms))
    }

    /// Takes a set of edges: new ones are connected, the others left, or kept as long as they serve: a tracker that was
    /// away may hear from its viewers before it hears from its edges.
    fn offer(&mut self, edges: Vec<EdgeOffer>, keep: bool, now: Instant) {
        if !self.config.data_channels {
            return;
        }
        let before = core::mem::take(&mut self.order);
        self.order = edges.iter().map(|offer| offer.id).take(LANES_MAX).collect();
        for edge in before.into_iter().filter(|_| keep) {
            let serves = self.lanes.get(&edge).is_some_and(|lane| lane.phase != Phase::Left);
            if serves && !self.order.contains(&edge) && self.order.len() < LANES_MAX {
                self.order.push(edge);
            }
        }
        let gone: Vec<_> = self.lanes.keys().filter(|edge| !self.order.contains(edge)).copied().collect();
        for edge in gone {
            self.leave_edge(edge, None, now);
        }
        for offer in edges.into_iter().take(LANES_MAX) {
            if !self.grant_is_ours(&offer.grant, offer.id) {
                continue;
            }
            match self.lanes.get_mut(&offer.id) {
                Some(lane) => {
                    let renewed = offer.grant.clone();
                    lane.offer.address = offer.address;
                    lane.offered(now);
                    self.on_grant(renewed);
                }
                None => {
                    self.lanes.insert(offer.id, Lane::new(offer, now));
                }
            }
        }
    }

    fn grant_is_ours(&self, grant: &Signed<Grant>, edge: PublicKey) -> bool {
        let Some(tracker) = self.session.tracker else { return false };
        let claim = grant.unverified();
        claim.edge == edge
            && claim.tracker == tracker
            && claim.key == self.config.key
            && Some(claim.session) == self.session.id
            && claim.stream == self.config.stream
            && grant.verify(&tracker, Context::None).is_ok()
    }

    fn on_grant(&mut self, grant: Signed<Grant>) {
        let edge = grant.unverified().edge;
        if !self.grant_is_ours(&grant, edge) {
            return;
        }
        let Some(lane) = self.lanes.get_mut(&edge) else { return };
        if grant.unverified().serial <= lane.grant().serial {
            return;
        }
        lane.offer.grant = grant.clone();
        if lane.ready() {
            self.send(edge, &millstream_wire::frame::Frame::Grant(grant));
        }
    }

    fn on_receipt(&mut self, receipt: &Signed<Receipt>) {
        let Some(tracker) = self.session.tracker else { return };
        let Ok(receipt) = receipt.verify(&tracker, Context::None) else { return };
        let Some(lane) = self.lanes.get_mut(&receipt.edge) else { return };
        if Some(receipt.session) != self.session.id || receipt.payable < lane.booked {
            return;
        }
        lane.booked = receipt.payable;
        lane.earned = receipt.earned;
        let event = Event::Paid { edge: receipt.edge, earned: receipt.earned };
        self.stats.vouchers_accepted += 1;
        self.event(event);
    }

    /// Reports, brings vouchers and renews grants when it is time.
    pub(crate) fn tend_session(&mut self, now: Instant) {
        if !self.session.open {
            return;
        }
        if self.session.report_at.is_some_and(|at| at <= now) {
            self.session.report_at = Some(now + self.report_every());
            self.report();
        }
        if self.session.bring_at.is_some_and(|at| at <= now) {
            self.session.bring_at = Some(now + Duration::from_millis(BRING_MS));
            self.bring_vouchers();
        }
        self.renew(now);
    }

    fn report(&mut self) {
        let edges = self
            .lanes
            .values()
            .map(|lane| {
                let stats = lane.stats(false);
                EdgeBytes {
                    edge: stats.edge,
                    received: stats.received,
                    bad: stats.bad,
                    rtt_ms: stats.rtt_ms,
                    ready: stats.ready,
                }
            })
            .collect();
        self.say(FromViewer::Report {
            buffer_ms: self.player.buffer_ms,
            latency_ms: self.player.latency_ms,
            stalls: self.player.stalls,
            stalled_ms: self.player.stalled_ms,
            origin_bytes: self.stats.origin_bytes,
            edges,
        });
    }

    /// Brings each lane's newest voucher, unless it was brought before.
    pub(crate) fn bring_vouchers(&mut self) {
        let mut due = Vec::new();
        for lane in self.lanes.values_mut() {
            let Some(voucher) = &lane.voucher else { continue };
            let payable = voucher.unverified().payable;
            if lane.brought.is_none_or(|brought| brought < payable) || lane.booked < payable {
                lane.brought = Some(payable);
                due.push(voucher.clone());
            }
        }
        for voucher in due {
            self.say(FromViewer::Voucher { voucher });
        }
    }

    fn renew(&mut self, now: Instant) {
        let wall = self.session.wall(now);
        let mut due = Vec::new();
        for lane in self.lanes.values_mut() {
            let grant = lane.offer.grant.unverified();
            let half_time = grant.issued.plus_millis(grant.expires.millis_since(grant.issued) / 2);
            let half_bytes = lane.received.saturating_mul(2) >= grant.cap_bytes;
            if lane.ready() && lane.renew_at <= now && (wall >= half_time || half_bytes) {
                lane.renew_at = now + Duration::from_millis(RENEW_RETRY_MS);
                due.push(lane.id());
            }
        }
        for edge in due {
            self.say(FromViewer::Renew { edge });
        }
    }

    /// Says something to the tracker, when it listens.
    pub(crate) fn say(&mut self, message: FromViewer) {
        self.push(Output::Tracker(message));
    }

    pub(crate) fn sign(&mut self, what: Signing, message: Vec<u8>) -> SignId {
        self.next_sign = self.next_sign.wrapping_add(1);
        let sign = SignId(self.next_sign);
        self.signing.insert(sign, what);
        self.push(Output::Sign { sign, message });
        sign
    }
}

fn resume_for(tracker: TrackerId, nonce: Nonce, session: SessionId) -> Resume {
    Resume { tracker, nonce: nonce.0, session }
}
