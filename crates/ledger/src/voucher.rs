//! Vouchers: what is booked, what is refused and why.
//!
//! A voucher comes twice, from its edge and from its viewer, and again every ten seconds; most were booked before.
//! So the cheap questions come first and the signature last: [`Ledger::screen`], then [`Verified::check`] (which needs
//! no ledger, so that it can run beside it), then [`Ledger::accept`]. [`Ledger::bring`] does all three.

use std::collections::VecDeque;

use bytes::Bytes;
use millstream_model::{EdgeId, Micros, SessionId, SessionKey, StreamId, TrackerId, WallTime};
use millstream_wire::{
    session::{Receipt, Voucher},
    sign::{self, Context, Signed},
};
use thiserror::Error;

use crate::{
    account::Name,
    batch::Promised,
    book,
    epoch::{Earned, Epoch},
    ledger::Ledger,
    limits::{REFUSALS_PER_LANE_MAX, REFUSALS_STORED_PER_LANE_MAX, STRAYS_MAX},
    session::{Lane, Session},
};

/// Why a voucher moves nothing. A person reads it.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Refused {
    /// Forged, or damaged on the way.
    #[error("the signature is not the session's: {0}")]
    Signature(sign::Error),
    /// It is another tracker's to pay.
    #[error("the voucher is for the tracker {0}, not for this one")]
    Tracker(TrackerId),
    /// Never opened, or over so long that nothing is booked on it.
    #[error("there is no session {0}, or it is long over")]
    UnknownSession(SessionId),
    /// The session watches something else.
    #[error("the session watches {watches}, the voucher is for {named}")]
    Stream {
        /// What the session watches.
        watches: StreamId,
        /// What the voucher names.
        named: StreamId,
    },
    /// An edge brings the voucher of another edge's lane, or a viewer that of another session.
    #[error("the voucher is of a lane that its bringer has no part in")]
    Foreign,
    /// No grant was ever given for it.
    #[error("the session has no grant for the edge {0}")]
    UnknownLane(EdgeId),
    /// More than was granted.
    #[error("{payable} bytes are more than the {cap} bytes granted")]
    OverCap {
        /// The voucher's.
        payable: u64,
        /// The lane's.
        cap: u64,
    },
    /// Too late; the reserve is given back.
    #[error("the grant expired more than 30 minutes ago: vouchers were booked until {deadline}, it is {now} (ms)", deadline = .deadline.0, now = .now.0)]
    Late {
        /// The last moment.
        deadline: WallTime,
        /// When it came.
        now: WallTime,
    },
    /// More than there was to watch. May be booked a little later, when the packager has reported more.
    #[error(
        "{bytes} bytes, all edges of the session together, are more than the {bound} bytes there were to watch"
    )]
    OverBound {
        /// What the session would have watched.
        bytes: u64,
        /// What it can honestly have watched.
        bound: u64,
        /// The session is closed, and the bound grows no more.
        closed: bool,
    },
    /// Nothing can be booked at the moment.
    #[error("the book cannot be written at the moment; bring the voucher again later")]
    Unavailable,
    /// The money did not move after all.
    #[error(transparent)]
    Book(#[from] book::Refused),
}

impl Refused {
    /// True when the same voucher may be booked later.
    #[must_use]
    pub const fn may_pass_later(&self) -> bool {
        matches!(self, Self::OverBound { closed: false, .. } | Self::Unavailable)
    }

    /// A short name for metrics and programs.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Signature(_) => "signature",
            Self::Tracker(_) => "tracker",
            Self::UnknownSession(_) => "unknown_session",
            Self::Stream { .. } => "stream",
            Self::Foreign => "foreign",
            Self::UnknownLane(_) => "unknown_lane",
            Self::OverCap { .. } => "over_cap",
            Self::Late { .. } => "late",
            Self::OverBound { .. } => "over_bound",
            Self::Unavailable => "unavailable",
            Self::Book(_) => "book",
        }
    }
}

/// Who brings a voucher: known from the connection, not from the voucher.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bringer {
    /// An edge.
    Edge(EdgeId),
    /// A viewer.
    Session(SessionId),
}

/// A voucher whose signature holds under a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    voucher: Signed<Voucher>,
    key: SessionKey,
}

impl Verified {
    /// Checks the signature: some 0.06 ms of computing, and no ledger needed.
    ///
    /// # Errors
    /// [`Refused::Signature`].
    pub fn check(voucher: Signed<Voucher>, key: SessionKey) -> Result<Self, Refused> {
        voucher.verify(&key, Context::None).map_err(Refused::Signature)?;
        Ok(Self { voucher, key })
    }
}

/// What the cheap questions said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Screened {
    /// The very voucher that was booked last.
    Known(Promised<Receipt>),
    /// Its signature is to be checked with this key.
    Check(SessionKey),
}

/// The newest voucher of a lane in an epoch, as it is stored: what a payout is traced back to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The session.
    pub session: SessionId,
    /// The edge.
    pub edge: EdgeId,
    /// The epoch.
    pub epoch: Epoch,
    /// Who earned.
    pub operator: Name,
    /// The stream.
    pub stream: StreamId,
    /// The voucher's cumulative payable bytes.
    pub payable: u64,
    /// What the lane earned in this epoch up to this voucher.
    pub earned: Earned,
    /// When it was booked.
    pub at: WallTime,
    /// The voucher as signed.
    pub voucher: Bytes,
}

/// A refused voucher.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The session it names.
    pub session: SessionId,
    /// The edge it names.
    pub edge: EdgeId,
    /// What it claims.
    pub payable: u64,
    /// When it came.
    pub at: WallTime,
    /// Why.
    pub reason: Refused,
}

impl Ledger {
    /// Books a voucher, or says why not: [`Ledger::screen`], [`Verified::check`] and [`Ledger::accept`] in one.
    ///
    /// # Errors
    /// [`Refused`]; it stands in the lane's list of refusals then.
    pub fn bring(
        &mut self,
        voucher: Signed<Voucher>,
        by: Bringer,
        now: WallTime,
    ) -> Result<Promised<Receipt>, Refused> {
        let key = match self.screen(&voucher, by, now)? {
            Screened::Known(receipt) => return Ok(receipt),
            Screened::Check(key) => key,
        };
        let claim = voucher.unverified().clone();
        let verified = Verified::check(voucher, key).map_err(|reason| self.refuse(&claim, reason, now))?;
        self.accept(verified, by, now)
    }

    /// Asks all that can be asked without checking the signature.
    ///
    /// # Errors
    /// [`Refused`]; it stands in the lane's list of refusals then.
    pub fn screen(
        &mut self,
        voucher: &Signed<Voucher>,
        by: Bringer,
        now: WallTime,
    ) -> Result<Screened, Refused> {
        let claim = voucher.unverified();
        let (session, lane) = match self.lane_of(claim, by) {
            Ok(found) => found,
            Err(reason) => return Err(self.refuse(claim, reason, now)),
        };
        if lane.voucher == *voucher.bytes() {
            return Ok(Screened::Known(receipt(lane)));
        }
        let key = session.key;
        if claim.payable > lane.row.payable
            && let Err(reason) = self.weigh(claim, session, lane, now)
        {
            return Err(self.refuse(claim, reason, now));
        }
        Ok(Screened::Check(key))
    }

    /// Books a voucher whose signature was checked. One that claims no more than is booked moves nothing and gets a
    /// receipt of what is.
    ///
    /// # Errors
    /// [`Refused`]; it stands in the lane's list of refusals then.
    pub fn accept(
        &mut self,
        voucher: Verified,
        by: Bringer,
        now: WallTime,
    ) -> Result<Promised<Receipt>, Refused> {
        let Verified { voucher, key } = voucher;
        let claim = voucher.unverified();
        let (session, lane) = match self.lane_of(claim, by) {
            Ok(found) => found,
            Err(reason) => return Err(self.refuse(claim, reason, now)),
        };
        if key != session.key {
            return Err(self.refuse(claim, Refused::Signature(sign::Error::Signature), now));
        }
        if claim.payable <= lane.row.payable {
            return Ok(receipt(lane));
        }
        if let Err(reason) = self.weigh(claim, session, lane, now) {
            return Err(self.refuse(claim, reason, now));
        }
        let earned = Micros(lane.row.price.of(claim.payable).0.saturating_sub(lane.row.paid.0));
        let operator = lane.row.operator.clone();
        if let Err(reason) = self.pay(&claim.stream, &operator, earned, now) {
            return Err(self.refuse(claim, reason.into(), now));
        }
        self.enter(&voucher, earned, &operator, now).ok_or(Refused::UnknownSession(claim.session))
    }

    /// Notes a refusal where its operator finds it, and gives it back.
    pub fn refuse(&mut self, claim: &Voucher, reason: Refused, now: WallTime) -> Refused {
        let refusal = Refusal {
            session: claim.session,
            edge: claim.edge,
            payable: claim.payable,
            at: now,
            reason: reason.clone(),
        };
        let lane = match reason {
            // Whoever brought it, the lane's own two did not.
            Refused::Foreign => None,
            _ => self.sessions.get_mut(&claim.session).and_then(|session| session.lane_mut(claim.edge)),
        };
        let Some(lane) = lane else {
            remember(&mut self.strays, refusal, STRAYS_MAX);
            return reason;
        };
        lane.row.refused = lane.row.refused.saturating_add(1);
        if lane.row.refused <= REFUSALS_STORED_PER_LANE_MAX {
            self.pending.refusals.push(refusal.clone());
            self.pending.lanes.insert((claim.session, claim.edge));
        }
        remember(&mut lane.refusals, refusal, REFUSALS_PER_LANE_MAX);
        reason
    }

    /// The lane that a voucher is of, if it is one of ours and its bringer has a part in it.
    fn lane_of(&self, claim: &Voucher, by: Bringer) -> Result<(&Session, &Lane), Refused> {
        if claim.tracker != self.tracker {
            return Err(Refused::Tracker(claim.tracker));
        }
        let own = match by {
            Bringer::Edge(edge) => edge == claim.edge,
            Bringer::Session(session) => session == claim.session,
        };
        if !own {
            return Err(Refused::Foreign);
        }
        let session = self.sessions.get(&claim.session).ok_or(Refused::UnknownSession(claim.session))?;
        if session.stream != claim.stream {
            return Err(Refused::Stream { watches: session.stream.clone(), named: claim.stream.clone() });
        }
        let lane = session.lane(claim.edge).ok_or(Refused::UnknownLane(claim.edge))?;
        Ok((session, lane))
    }

    /// Whether a claim for more than is booked can be true.
    fn weigh(&self, claim: &Voucher, session: &Session, lane: &Lane, now: WallTime) -> Result<(), Refused> {
        let deadline = lane.deadline();
        if now > deadline || lane.row.settled {
            return Err(Refused::Late { deadline, now });
        }
        if claim.payable > lane.row.cap_bytes {
            return Err(Refused::OverCap { payable: claim.payable, cap: lane.row.cap_bytes });
        }
        let bytes = session.payable.saturating_add(claim.payable.saturating_sub(lane.row.payable));
        let bound = session.bound.unwrap_or_else(|| self.honest_bytes(session, now));
        let closed = session.bound.is_some();
        if bytes > bound { Err(Refused::OverBound { bytes, bound, closed }) } else { Ok(()) }
    }

    /// Writes a booked voucher into lane, session and epoch.
    fn enter(
        &mut self,
        voucher: &Signed<Voucher>,
        micros: Micros,
        operator: &Name,
        now: WallTime,
    ) -> Option<Promised<Receipt>> {
        let claim = voucher.unverified();
        let session = self.sessions.get_mut(&claim.session)?;
        let stream = session.stream.clone();
        let lane = session.lanes.iter_mut().find(|lane| lane.row.edge == claim.edge)?;
        // What is told after a grant's expiry was delivered before it.
        let epoch = Epoch::of(now.min(lane.row.expires)).max(lane.row.epoch).max(self.sealed_below);
        let segments = claim.segments.max(lane.row.segments);
        let earned = Earned {
            micros,
            bytes: claim.payable.saturating_sub(lane.row.payable),
            segments: segments - lane.row.segments,
        };
        if epoch != lane.row.epoch {
            lane.row.epoch = epoch;
            lane.row.in_epoch = Earned::default();
        }
        lane.row.in_epoch = lane.row.in_epoch.plus(earned);
        session.payable = session.payable.saturating_add(earned.bytes);
        lane.row.payable = claim.payable;
        lane.row.received = lane.row.received.max(claim.received);
        lane.row.segments = segments;
        lane.row.paid = Micros(lane.row.paid.0.saturating_add(micros.0));
        let own = micros.min(lane.row.reserved);
        lane.row.reserved = Micros(lane.row.reserved.0 - own.0);
        lane.row.digest = voucher.digest();
        lane.row.booked_at = now;
        lane.voucher = voucher.bytes().clone();
        lane.booked_in = self.collecting;
        let row = Row {
            session: claim.session,
            edge: claim.edge,
            epoch,
            operator: operator.clone(),
            stream,
            payable: claim.payable,
            earned: lane.row.in_epoch,
            at: now,
            voucher: voucher.bytes().clone(),
        };
        let receipt = receipt(lane);
        session.take_reserve(Micros(micros.0 - own.0), &mut self.pending.lanes, claim.session);
        self.pending.vouchers.insert((claim.session, claim.edge, epoch), row);
        self.pending.lanes.insert((claim.session, claim.edge));
        self.pending.sessions.insert(claim.session);
        let of_operator = self.epochs.entry((epoch, operator.clone())).or_default();
        *of_operator = of_operator.plus(earned);
        self.pending.epochs.insert((epoch, operator.clone()));
        Some(receipt)
    }
}

/// What a lane's bringers are told: the lane as booked.
fn receipt(lane: &Lane) -> Promised<Receipt> {
    let receipt = Receipt {
        session: lane.row.session,
        edge: lane.row.edge,
        payable: lane.row.payable,
        earned: lane.row.paid,
        voucher: lane.row.digest,
        at: lane.row.booked_at,
    };
    Promised::new(receipt, lane.booked_in)
}

fn remember(list: &mut VecDeque<Refusal>, refusal: Refusal, max: usize) {
    if list.len() >= max {
        list.pop_front();
    }
    list.push_back(refusal);
}
