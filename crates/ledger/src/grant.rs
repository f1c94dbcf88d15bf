//! Grants: permission to deliver on a lane, with the money set aside first.

use millstream_model::{BitRate, EdgeId, GIB, Hash, Micros, Price, SessionId, StreamId, TrackerId, WallTime};
use millstream_wire::session::Grant;
use thiserror::Error;

use crate::{
    account::{Account, Name},
    batch::Promised,
    book::{self, Purpose},
    epoch::{Earned, Epoch},
    ledger::Ledger,
    limits::{
        COVER_GROWTH, COVER_MS, FIRST_COVER_MIN_MS, FIRST_COVER_MS, FIRST_SHARE, GRANT_BYTES_MIN, GRANT_MS,
        LANES_MAX, LANES_PER_SESSION_MAX, RENEW_AFTER_MS, RESERVE_SHARE,
    },
    session::{Lane, LaneRow, Session},
    stream::Available,
};

/// Why there is no grant.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Refused {
    /// No such session, or it is over.
    #[error("there is no session {0}")]
    UnknownSession(SessionId),
    /// The viewer left, or its certificate expired.
    #[error("the session {0} is closed")]
    Closed(SessionId),
    /// The session's stream has no terms.
    #[error("there is no stream {0}")]
    UnknownStream(StreamId),
    /// The broadcaster pulled the hard stop.
    #[error("the stream {0} is stopped")]
    Stopped(StreamId),
    /// The account is used up.
    #[error("the funds of {owner} are used up: {have} left, {need} needed")]
    Funds {
        /// Whose.
        owner: Name,
        /// What is free.
        have: Micros,
        /// What the smallest grant would set aside.
        need: Micros,
    },
    /// The day's budget is used up.
    #[error("the budget of the day of {stream} is used up: {have} left, {need} needed")]
    Budget {
        /// The stream.
        stream: StreamId,
        /// What is left of it.
        have: Micros,
        /// What the smallest grant would set aside.
        need: Micros,
    },
    /// [`LANES_PER_SESSION_MAX`] is reached.
    #[error("the session had {LANES_PER_SESSION_MAX} edges; that is all it gets")]
    SessionLanes,
    /// [`LANES_MAX`] is reached.
    #[error("the book is full: it holds {LANES_MAX} lanes")]
    Full,
    /// Nothing can be booked at the moment.
    #[error("the book cannot be written at the moment")]
    Unavailable,
    /// The money did not move after all.
    #[error(transparent)]
    Book(#[from] book::Refused),
}

/// What a grant is wanted for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The session.
    pub session: SessionId,
    /// The edge.
    pub edge: EdgeId,
    /// Who earns. Counts when the lane begins; a lane does not change hands.
    pub operator: Name,
    /// The stream's highest rate, all groups together.
    pub rate: BitRate,
}

/// What to do about a lane that somebody wants a grant for.
struct Plan {
    cap_bytes: u64,
    /// The lane's reserve when it is carried out.
    reserved: Micros,
    /// What that takes from the broadcaster.
    need: Micros,
}

impl Ledger {
    /// Gives a lane its first grant, or renews it. Asked again before half of the time or of the bytes is gone, it
    /// gives the same grant again.
    ///
    /// # Errors
    /// [`Refused`] says why not. Nothing has moved then.
    pub fn grant(&mut self, request: &Request, now: WallTime) -> Result<Promised<Grant>, Refused> {
        let session = self.sessions.get(&request.session).ok_or(Refused::UnknownSession(request.session))?;
        let lane = session.lane(request.edge);
        if session.closed || now >= session.expires {
            return Err(Refused::Closed(request.session));
        }
        let stream = session.stream.clone();
        let known = self.streams.get(&stream).ok_or_else(|| Refused::UnknownStream(stream.clone()))?;
        if known.terms.stopped {
            return Err(Refused::Stopped(stream));
        }
        let Some(available) = self.available(&stream, now) else {
            return Err(Refused::UnknownStream(stream));
        };
        let owner = known.owner.clone();
        let price = lane.map_or(known.terms.price, |lane| lane.row.price);
        if let Some(lane) = lane
            && is_fresh(lane, now)
        {
            return Ok(Promised::new(write(self.tracker, session, request.session, lane), lane.granted_in));
        }
        if lane.is_none() {
            if session.lanes.len() >= LANES_PER_SESSION_MAX {
                return Err(Refused::SessionLanes);
            }
            if self.lanes >= LANES_MAX {
                return Err(Refused::Full);
            }
        }
        let room = allotment(price, request.rate, session.payable, available.least());
        let plan = plan(lane.map(|lane| &lane.row), price, room, available).map_err(|need| {
            if available.funds < need {
                Refused::Funds { owner: owner.clone(), have: available.funds, need }
            } else {
                Refused::Budget { stream: stream.clone(), have: available.budget, need }
            }
        })?;
        let (from, to) = (Account::Broadcaster(owner), Account::Reserve(stream));
        self.book.shift(Purpose::Reserve, &from, &to, plan.need)?;
        self.carry_out(request, price, &plan, now).ok_or(Refused::UnknownSession(request.session))
    }

    fn carry_out(
        &mut self,
        request: &Request,
        price: Price,
        plan: &Plan,
        now: WallTime,
    ) -> Option<Promised<Grant>> {
        let collecting = self.collecting;
        let session = self.sessions.get_mut(&request.session)?;
        if session.lane(request.edge).is_none_or(|lane| lane.row.settled) {
            self.unsettled.add(request.edge, &session.stream);
        }
        if session.lane(request.edge).is_none() {
            session.lanes.push(Lane::new(first_row(request, price), collecting));
            self.lanes += 1;
        }
        let lane = session.lane_mut(request.edge)?;
        lane.row.cap_bytes = plan.cap_bytes;
        lane.row.reserved = plan.reserved;
        lane.row.headroom = lane.left();
        lane.row.serial = lane.row.serial.saturating_add(1);
        lane.row.issued = now;
        // A wall clock that was set back must not shorten what was granted.
        lane.row.expires = lane.row.expires.max(now.plus_millis(GRANT_MS));
        lane.row.settled = false;
        lane.granted_in = collecting;
        let deadline = lane.deadline();
        self.wake_at(request.session, deadline);
        self.pending.lanes.insert((request.session, request.edge));
        let session = self.sessions.get(&request.session)?;
        let lane = session.lane(request.edge)?;
        Some(Promised::new(write(self.tracker, session, request.session, lane), collecting))
    }
}

/// Whether the lane's grant has more than half of its time and of its bytes before it.
fn is_fresh(lane: &Lane, now: WallTime) -> bool {
    let young = now.millis_since(lane.row.issued) < RENEW_AFTER_MS;
    let unused = lane.left() > lane.row.headroom / 2;
    young && unused && !lane.row.settled
}

/// How far the cap goes up, and what that sets aside. When not even the least can be afforded: what it needs.
fn plan(lane: Option<&LaneRow>, price: Price, room: u64, available: Available) -> Result<Plan, Micros> {
    let (cap, payable, paid, reserved) = lane.map_or((0, 0, Micros::ZERO, Micros::ZERO), |row| {
        (row.cap_bytes, row.payable, row.paid, row.reserved)
    });
    let with_cap = |cap_bytes: u64| {
        // A lane's reserve is exactly what its cap can still cost.
        let hold = Micros(price.ceiling(cap_bytes).0.saturating_sub(paid.0));
        Plan { cap_bytes, reserved: hold, need: Micros(hold.0.saturating_sub(reserved.0)) }
    };
    let wanted = with_cap(cap.max(payable.saturating_add(room)));
    if wanted.need <= available.least() {
        return Ok(wanted);
    }
    // No money for more bytes; the bytes that are left may still get more time.
    let same = with_cap(cap);
    if cap > payable && same.need <= available.least() { Ok(same) } else { Err(wanted.need) }
}

/// Bytes that a grant leaves to deliver: little to a session that has vouched for nothing, and more the more it has.
fn allotment(price: Price, rate: BitRate, vouched: u64, available: Micros) -> u64 {
    let affordable = |share: i64| match u128::from(price.0) {
        0 => u64::MAX,
        price => {
            let share = u128::try_from(available.0 / share).unwrap_or(0) * u128::from(GIB);
            u64::try_from(share / price).unwrap_or(u64::MAX)
        }
    };
    let least = rate.bytes_in_ms(FIRST_COVER_MIN_MS);
    let first = rate.bytes_in_ms(FIRST_COVER_MS).min(affordable(FIRST_SHARE)).max(least);
    let grown = rate.bytes_in_ms(COVER_MS).min(vouched.saturating_mul(COVER_GROWTH));
    first.max(grown).min(affordable(RESERVE_SHARE)).max(GRANT_BYTES_MIN)
}

fn first_row(request: &Request, price: Price) -> LaneRow {
    LaneRow {
        session: request.session,
        edge: request.edge,
        operator: request.operator.clone(),
        price,
        cap_bytes: 0,
        headroom: 0,
        serial: 0,
        issued: WallTime(0),
        expires: WallTime(0),
        payable: 0,
        received: 0,
        segments: 0,
        paid: Micros::ZERO,
        reserved: Micros::ZERO,
        settled: false,
        epoch: Epoch(0),
        in_epoch: Earned::default(),
        booked_at: WallTime(0),
        digest: Hash([0; 32]),
        refused: 0,
    }
}

fn write(tracker: TrackerId, session: &Session, id: SessionId, lane: &Lane) -> Grant {
    Grant {
        tracker,
        session: id,
        key: session.key,
        stream: session.stream.clone(),
        edge: lane.row.edge,
        price: lane.row.price,
        cap_bytes: lane.row.cap_bytes,
        serial: lane.row.serial,
        issued: lane.row.issued,
        expires: lane.row.expires,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn available(micros: i64) -> Available {
        Available { funds: Micros(micros), budget: Micros(i64::MAX) }
    }

    /// The first grant of a lane, of a session that has vouched for so much.
    fn first(price: u32, rate: u64, vouched: u64, micros: i64) -> Result<Plan, Micros> {
        let room = allotment(Price(price), BitRate(rate), vouched, Micros(micros));
        plan(None, Price(price), room, available(micros))
    }

    fn cap(plan: Result<Plan, Micros>) -> Result<u64, Micros> {
        plan.map(|plan| plan.cap_bytes)
    }

    #[test]
    fn a_first_grant_covers_an_outage_and_grows_with_what_is_vouched_for() {
        let (rate, plenty) = (8_000_000, 1_000_000_000_000);
        assert_eq!(cap(first(10_000, rate, 0, plenty)), Ok(1_000 * FIRST_COVER_MS));
        assert_eq!(cap(first(10_000, rate, 30_000_000, plenty)), Ok(480_000_000));
        let grown = cap(first(10_000, rate, 64_000_000, plenty));
        assert_eq!(grown, Ok(1_000 * COVER_MS), "the time that an edge may have to honour it");
    }

    #[test]
    fn a_small_budget_is_not_locked_up_by_one_viewer() {
        // 1.6 units at 1 unit a GiB: a sixteenth of that is 0.1 GiB.
        let grown = first(1_000_000, 1_000_000_000, 1 << 40, 1_600_000).unwrap_or_else(|_| panic!());
        assert_eq!(grown.cap_bytes, GIB / 10);
        assert!(grown.need <= Micros(100_001));
        let new = first(1_000_000, 8_000_000, 0, 1_600_000).unwrap_or_else(|_| panic!());
        assert_eq!(new.cap_bytes, 1_000 * FIRST_COVER_MIN_MS, "who has not vouched gets the least");
    }

    #[test]
    fn a_lane_gets_the_least_or_nothing() {
        let least = Price(1_000_000).ceiling(GRANT_BYTES_MIN);
        assert_eq!(cap(first(1_000_000, 1, 0, least.0)), Ok(GRANT_BYTES_MIN));
        assert_eq!(cap(first(1_000_000, 1, 0, least.0 - 1)), Err(least));
    }

    #[test]
    fn a_free_stream_needs_no_funds() {
        let plan = first(0, 8_000_000, 1 << 40, 0).unwrap_or_else(|_| panic!());
        assert_eq!((plan.need, plan.cap_bytes), (Micros::ZERO, 1_000 * COVER_MS));
    }
}
