//! The reference: remembers what happened as plain lists and works everything out from them, each time anew.
//!
//! It knows no batches, no indexes, no running sums. Where it and the ledger disagree, read `docs/protocol/money.md`.

use std::collections::{BTreeMap, BTreeSet};

use millstream_ledger::{Account, Epoch, Name, Terms, epoch::Earned, limits};
use millstream_model::{BitRate, EdgeId, GIB, Micros, Price, SessionId, SessionKey, StreamId, WallTime};
use millstream_wire::session::Voucher;

use crate::stage::{TRACKER, name, operator};

#[derive(Debug, Clone)]
pub(crate) struct Session {
    pub(crate) key: SessionKey,
    pub(crate) stream: StreamId,
    pub(crate) expires: WallTime,
    pub(crate) closed: bool,
    pub(crate) over: bool,
    /// Of the stream's published bytes.
    pub(crate) base: u64,
    /// (when it was closed, when to look whether its bound can be frozen).
    pub(crate) closing: Option<(u64, u64)>,
    /// (the bound, what its lanes have set aside together).
    pub(crate) frozen: Option<(u64, i128)>,
}

impl Session {
    pub(crate) fn close(&mut self, now: u64) {
        if !self.closed {
            self.closed = true;
            self.closing = Some((now, now + limits::FREEZE_AFTER_MS));
        }
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Lane {
    pub(crate) operator: Name,
    pub(crate) price: Price,
    /// (issued, cap, what it left to deliver).
    pub(crate) grants: Vec<(WallTime, u64, u64)>,
    /// (when, payable, segments), each higher than the one before.
    pub(crate) booked: Vec<(WallTime, u64, u64)>,
    pub(crate) settled: bool,
}

impl Lane {
    pub(crate) fn cap(&self) -> u64 {
        self.grants.last().map_or(0, |grant| grant.1)
    }

    pub(crate) fn payable(&self) -> u64 {
        self.booked.last().map_or(0, |booked| booked.1)
    }

    fn expires(&self) -> u64 {
        self.grants.last().map_or(0, |grant| grant.0.0 + limits::GRANT_MS)
    }

    pub(crate) fn paid(&self) -> i128 {
        floor(self.price, self.payable())
    }

    /// What it has set aside for itself, while its session's bound is not frozen.
    fn held(&self) -> i128 {
        if self.settled { 0 } else { ceiling(self.price, self.cap()) - self.paid() }
    }
}

fn floor(price: Price, bytes: u64) -> i128 {
    i128::from(price.0) * i128::from(bytes) / i128::from(GIB)
}

fn ceiling(price: Price, bytes: u64) -> i128 {
    (i128::from(price.0) * i128::from(bytes) + i128::from(GIB) - 1) / i128::from(GIB)
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Model {
    pub(crate) now: u64,
    pub(crate) funded: BTreeMap<String, i64>,
    pub(crate) terms: BTreeMap<StreamId, Terms>,
    /// When its packager was last heard of.
    pub(crate) reported: BTreeMap<StreamId, u64>,
    /// (when, total).
    pub(crate) published: BTreeMap<StreamId, Vec<(u64, u64)>>,
    pub(crate) sessions: BTreeMap<SessionId, Session>,
    pub(crate) lanes: BTreeMap<(SessionId, EdgeId), Lane>,
    /// (stream, when, amount).
    payments: Vec<(StreamId, u64, i128)>,
    earned: Vec<(Epoch, Name, Earned)>,
}

impl Model {
    pub(crate) fn at(now: WallTime) -> Self {
        Self { now: now.0, ..Self::default() }
    }

    pub(crate) fn total(&self, stream: &StreamId) -> u64 {
        self.published.get(stream).and_then(|points| points.last()).map_or(0, |point| point.1)
    }

    /// What a viewer that joins now counts from, for a window of a minute: the first and the last total of the moment
    /// at which its window begins. (The ledger's history has steps, and keeps the first.)
    pub(crate) fn base(&self, stream: &StreamId) -> (u64, u64) {
        let Some(points) = self.published.get(stream) else { return (0, 0) };
        let newest = points.last().map_or(0, |point| point.0);
        let start = newest.min(self.now).saturating_sub(60_000);
        let moment = points.iter().map(|point| point.0).filter(|at| *at <= start).max();
        let totals = || points.iter().filter(|point| Some(point.0) == moment).map(|point| point.1);
        (totals().next().unwrap_or(0), totals().next_back().unwrap_or(0))
    }

    fn lanes_of(&self, session: SessionId) -> impl Iterator<Item = &Lane> {
        self.lanes.iter().filter(move |((id, _), _)| *id == session).map(|(_, lane)| lane)
    }

    /// What a session's lanes have set aside together.
    pub(crate) fn held(&self, session: SessionId) -> i128 {
        match self.sessions[&session].frozen {
            Some((_, pool)) => pool,
            None => self.lanes_of(session).map(Lane::held).sum(),
        }
    }

    /// What can still be paid to a session's lanes within this bound.
    fn need(&self, session: SessionId, bound: u64) -> i128 {
        let booked: u64 = self.lanes_of(session).map(Lane::payable).sum();
        let lanes: Vec<&Lane> = self.lanes_of(session).filter(|lane| !lane.settled).collect();
        let Some(price) = lanes.iter().map(|lane| lane.price).max() else { return 0 };
        if bound <= booked {
            return 0;
        }
        let caps: i128 = lanes.iter().map(|lane| lane.held()).sum();
        caps.min(ceiling(price, bound - booked) + i128::try_from(lanes.len()).unwrap())
    }

    fn freeze(&mut self, id: SessionId) {
        let session = &self.sessions[&id];
        let Some((closed, look)) = session.closing else { return };
        if self.now < look {
            return;
        }
        let reported = self.reported.get(&session.stream).is_some_and(|at| *at > closed);
        if !reported && self.now < closed + limits::FREEZE_WAIT_MS {
            self.sessions.get_mut(&id).unwrap().closing = Some((closed, self.now + limits::FREEZE_AFTER_MS));
            return;
        }
        let bound = self.bound(session);
        let pool = self.held(id).min(self.need(id, bound));
        let session = self.sessions.get_mut(&id).unwrap();
        (session.closing, session.frozen) = (None, Some((bound, pool)));
    }

    fn bound(&self, session: &Session) -> u64 {
        let wide = u128::from(self.total(&session.stream) - session.base) * 105 / 100;
        session.frozen.map_or(u64::try_from(wide).unwrap(), |(bound, _)| bound)
    }

    pub(crate) fn balances(&self) -> BTreeMap<Account, Micros> {
        let funded: i128 = self.funded.values().map(|amount| i128::from(*amount)).sum();
        let mut sums = BTreeMap::<Account, i128>::new();
        *sums.entry(Account::External).or_default() -= funded;
        *sums.entry(Account::Broadcaster(name("acme"))).or_default() += funded;
        for lane in self.lanes.values() {
            *sums.entry(Account::Broadcaster(name("acme"))).or_default() -= lane.paid();
            *sums.entry(Account::Operator(lane.operator.clone())).or_default() += lane.paid();
        }
        for (id, session) in &self.sessions {
            *sums.entry(Account::Broadcaster(name("acme"))).or_default() -= self.held(*id);
            *sums.entry(Account::Reserve(session.stream.clone())).or_default() += self.held(*id);
        }
        sums.into_iter()
            .filter(|(_, sum)| *sum != 0)
            .map(|(account, sum)| (account, Micros(i64::try_from(sum).unwrap())))
            .collect()
    }

    fn available(&self, stream: &StreamId) -> i128 {
        let funds = self
            .balances()
            .get(&Account::Broadcaster(name("acme")))
            .map_or(0, |balance| i128::from(balance.0));
        let day = self.now / limits::DAY_MS;
        let spent: i128 = self
            .payments
            .iter()
            .filter(|(of, at, _)| of == stream && at / limits::DAY_MS == day)
            .map(|payment| payment.2)
            .sum();
        let of_stream = self.sessions.iter().filter(|(_, session)| session.stream == *stream);
        let held: i128 = of_stream.map(|(id, _)| self.held(*id)).sum();
        let budget = (i128::from(self.terms[stream].budget_day.0) - spent - held).max(0);
        funds.min(budget)
    }

    /// The cap of the lane's next grant, or why there is none.
    pub(crate) fn grant(
        &mut self,
        id: SessionId,
        edge: EdgeId,
        n: u8,
        rate: BitRate,
    ) -> Result<u64, &'static str> {
        let session = self.sessions.get(&id).filter(|session| !session.over).ok_or("unknown")?.clone();
        if session.closed || self.now >= session.expires.0 {
            return Err("closed");
        }
        let terms = self.terms[&session.stream];
        if terms.stopped {
            return Err("stopped");
        }
        let lane = self.lanes.get(&(id, edge)).cloned().unwrap_or(Lane {
            operator: operator(n),
            price: terms.price,
            grants: Vec::new(),
            booked: Vec::new(),
            settled: false,
        });
        if let Some((issued, cap, headroom)) = lane.grants.last() {
            let young = self.now - issued.0 < limits::RENEW_AFTER_MS;
            if young && !lane.settled && cap - lane.payable() > headroom / 2 {
                return Ok(*cap);
            }
        }
        let available = self.available(&session.stream);
        let share = |part: i64| match lane.price.0 {
            0 => i128::MAX,
            price => available / i128::from(part) * i128::from(GIB) / i128::from(price),
        };
        let of_rate = |ms: u64| i128::from(rate.bytes_in_ms(ms));
        let vouched: u64 = self.lanes_of(id).map(Lane::payable).sum();
        let grown = of_rate(limits::COVER_MS).min(i128::from(vouched) * i128::from(limits::COVER_GROWTH));
        let first = of_rate(limits::FIRST_COVER_MS).min(share(limits::FIRST_SHARE));
        let room = first.max(of_rate(limits::FIRST_COVER_MIN_MS)).max(grown);
        let room = room.min(share(limits::RESERVE_SHARE)).max(i128::from(limits::GRANT_BYTES_MIN));
        let room = u64::try_from(room).unwrap();
        let need = |cap: u64| {
            ceiling(lane.price, cap) - lane.paid() - if lane.grants.is_empty() { 0 } else { lane.held() }
        };
        let more = lane.cap().max(lane.payable() + room);
        let cap = if need(more) <= available {
            more
        } else if lane.cap() > lane.payable() && need(lane.cap()) <= available {
            lane.cap()
        } else {
            return Err("money");
        };
        let mut lane = lane;
        lane.settled = false;
        lane.grants.push((WallTime(self.now), cap, cap - lane.payable()));
        self.lanes.insert((id, edge), lane);
        Ok(cap)
    }

    /// Whether a voucher is believed. `known`: moves nothing.
    pub(crate) fn voucher(
        &mut self,
        claim: &Voucher,
        own: bool,
        genuine: bool,
    ) -> Result<&'static str, &'static str> {
        if claim.tracker != TRACKER {
            return Err("tracker");
        }
        if !own {
            return Err("foreign");
        }
        let session =
            self.sessions.get(&claim.session).filter(|session| !session.over).ok_or("unknown_session")?;
        if session.stream != claim.stream {
            return Err("stream");
        }
        let stream = session.stream.clone();
        let lane = self.lanes.get(&(claim.session, claim.edge)).ok_or("unknown_lane")?;
        let watched: u64 = self
            .lanes
            .iter()
            .filter(|((id, _), _)| *id == claim.session)
            .map(|((_, edge), lane)| if *edge == claim.edge { claim.payable } else { lane.payable() })
            .sum();
        let bound = u128::from(self.bound(session));
        if claim.payable > lane.payable() {
            if lane.settled || self.now > lane.expires() + limits::VOUCHER_LATE_MS {
                return Err("late");
            }
            if claim.payable > lane.cap() {
                return Err("over_cap");
            }
            if u128::from(watched) > bound {
                return Err("over_bound");
            }
        }
        if !genuine {
            return Err("signature");
        }
        if claim.payable <= lane.payable() {
            return Ok("known");
        }
        let epoch = Epoch(self.now.min(lane.expires()) / limits::EPOCH_MS);
        let segments = lane.booked.last().map_or(0, |booked| booked.2);
        let micros = floor(lane.price, claim.payable) - lane.paid();
        let earned = Earned {
            micros: Micros(i64::try_from(micros).unwrap()),
            bytes: claim.payable - lane.payable(),
            segments: claim.segments.max(segments) - segments,
        };
        self.payments.push((stream, self.now, micros));
        if let Some((_, pool)) = &mut self.sessions.get_mut(&claim.session).unwrap().frozen {
            *pool -= micros;
            assert!(*pool >= 0, "what can be paid was set aside");
        }
        self.earned.push((epoch, lane.operator.clone(), earned));
        let lane = self.lanes.get_mut(&(claim.session, claim.edge)).unwrap();
        lane.booked.push((WallTime(self.now), claim.payable, claim.segments.max(segments)));
        Ok("booked")
    }

    pub(crate) fn pass(&mut self, ms: u64) {
        self.now += ms;
        let open: Vec<SessionId> =
            self.sessions.iter().filter(|(_, session)| !session.over).map(|(id, _)| *id).collect();
        for id in open {
            self.freeze(id);
        }
        let mut waiting = BTreeSet::new();
        let mut ending = BTreeSet::new();
        for ((session, _), lane) in &mut self.lanes {
            let late = self.now > lane.expires() + limits::VOUCHER_LATE_MS;
            if late && !lane.settled {
                lane.settled = true;
                ending.insert(*session);
            }
            if !lane.settled {
                waiting.insert(*session);
            }
        }
        for id in ending {
            if let Some((bound, pool)) = self.sessions[&id].frozen {
                let pool = pool.min(self.need(id, bound));
                self.sessions.get_mut(&id).unwrap().frozen = Some((bound, pool));
            }
        }
        for (id, session) in &mut self.sessions {
            let ended = session.closed || self.now >= session.expires.0;
            session.over |= ended && !waiting.contains(id);
        }
    }

    /// The sums of the epochs that are not sealed.
    pub(crate) fn epochs(&self) -> BTreeMap<(Epoch, Name), Earned> {
        let mut sums = BTreeMap::<(Epoch, Name), Earned>::new();
        for (epoch, operator, earned) in &self.earned {
            if self.now < (epoch.0 + 1) * limits::EPOCH_MS + limits::GRACE_MS {
                let sum = sums.entry((*epoch, operator.clone())).or_default();
                *sum = sum.plus(*earned);
            }
        }
        sums
    }
}
