//! How lanes and sessions end: reserves go back, what is over is forgotten.
//!
//! A session that is closed cannot watch more. So a moment after its close, when its packager has reported what there
//! was, its honest bound is frozen: more than that is never booked on it. What its lanes have set aside beyond goes
//! back, and what is left is theirs together, because any of them may still bring the voucher for it.

use millstream_model::{EdgeId, Micros, Price, SessionId, StreamId, WallTime};

use crate::{
    account::Account,
    book::Purpose,
    epoch::Epoch,
    ledger::Ledger,
    limits::{FREEZE_AFTER_MS, FREEZE_WAIT_MS},
    session::{Closing, Lane, Row, Session},
};

impl Ledger {
    /// Closes a session: it gets no grants any more. Its lanes stay until their vouchers' last moment, because its
    /// edges may still bring some; so does their reserve, as far as it is within the session's honest bound. `false`
    /// when there is no such session.
    pub fn close(&mut self, session: SessionId, now: WallTime) -> bool {
        let Some(known) = self.sessions.get_mut(&session) else { return false };
        if !known.closed {
            known.closed = true;
            known.closing = Some(Closing { at: now, look_at: now.plus_millis(FREEZE_AFTER_MS) });
            self.pending.sessions.insert(session);
            self.wake_at(session, now);
        }
        true
    }

    /// Closes all sessions of a stream.
    pub fn close_all(&mut self, stream: &StreamId, now: WallTime) {
        let of_stream = self.sessions.iter().filter(|(_, session)| session.stream == *stream);
        let ids: Vec<SessionId> = of_stream.map(|(id, _)| *id).collect();
        for id in ids {
            self.close(id, now);
        }
    }

    /// Lets a session that has not ended live longer, for a renewed certificate. `false` when there is none.
    pub fn extend(&mut self, session: SessionId, expires: WallTime, now: WallTime) -> bool {
        match self.sessions.get_mut(&session) {
            Some(known) if !known.closed && now < known.expires => {
                known.expires = known.expires.max(expires);
                self.pending.sessions.insert(session);
                true
            }
            _ => false,
        }
    }

    /// When [`Ledger::tick`] has something to do.
    #[must_use]
    pub fn next_tick(&self) -> Option<WallTime> {
        let session = self.wakes.first().map(|(at, _)| *at);
        let epoch = self.epochs.keys().next().map(|(epoch, _)| epoch.sealed_at());
        match (session, epoch) {
            (Some(session), Some(epoch)) => Some(session.min(epoch)),
            (one, other) => one.or(other),
        }
    }

    /// Gives back the reserves of lanes whose vouchers are not booked any more, forgets sessions that are over, and
    /// seals epochs.
    pub fn tick(&mut self, now: WallTime) {
        while let Some((at, session)) = self.wakes.first().copied()
            && at <= now
        {
            self.wakes.remove(&(at, session));
            self.look_after(session, now);
        }
        self.sealed_below = self.sealed_below.max(Epoch::oldest_unsealed(now));
        let pending = &self.pending.epochs;
        let sealed = self.sealed_below;
        // One that waits for its batch goes with the next tick.
        self.epochs.retain(|key, _| key.0 >= sealed || pending.contains(key));
    }

    /// Has a session looked at no later than `at`.
    pub(crate) fn wake_at(&mut self, id: SessionId, at: WallTime) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        if at < session.wakes {
            self.wakes.remove(&(session.wakes, id));
            session.wakes = at;
            self.wakes.insert((at, id));
        }
    }

    fn look_after(&mut self, id: SessionId, now: WallTime) {
        self.freeze(id, now);
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let frozen = session.bound.is_some();
        let due: Vec<EdgeId> = session
            .lanes
            .iter_mut()
            .filter(|lane| !lane.row.settled && now > lane.deadline())
            .map(|lane| {
                lane.row.settled = true;
                lane.row.edge
            })
            .collect();
        for edge in &due {
            self.unsettled.remove(*edge, &session.stream);
            self.pending.lanes.insert((id, *edge));
        }
        if frozen && !due.is_empty() {
            self.trim(id);
        } else {
            due.into_iter().for_each(|edge| self.release(id, edge));
        }
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let next_lane = session
            .lanes
            .iter()
            .filter(|lane| !lane.row.settled)
            // One millisecond after: at the deadline itself a voucher is still in time.
            .map(|lane| lane.deadline().plus_millis(1))
            .min();
        let look_at = session.closing.map(|closing| closing.look_at);
        let ended = session.closed || now >= session.expires;
        match next_lane {
            None if ended => self.forget(id),
            None => {
                session.wakes = session.expires;
                self.wakes.insert((session.wakes, id));
            }
            Some(at) => {
                let at = look_at.map_or(at, |look_at| at.min(look_at));
                session.wakes = if ended { at } else { at.min(session.expires) };
                self.wakes.insert((session.wakes, id));
            }
        }
    }

    /// Gives a lane's reserve back.
    fn release(&mut self, id: SessionId, edge: EdgeId) {
        let Some(lane) = self.sessions.get(&id).and_then(|session| session.lane(edge)) else { return };
        if self.give_back(id, lane.row.reserved)
            && let Some(lane) = self.sessions.get_mut(&id).and_then(|session| session.lane_mut(edge))
        {
            lane.row.reserved = Micros::ZERO;
        }
    }

    /// Freezes the bound of a closed session, once what was published until its close is known.
    fn freeze(&mut self, id: SessionId, now: WallTime) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        if !session.closed || session.bound.is_some() {
            return;
        }
        let look_at = now.plus_millis(FREEZE_AFTER_MS);
        let closing = *session.closing.get_or_insert(Closing { at: now, look_at });
        if now < closing.look_at {
            return;
        }
        let Some(stream) = self.streams.get(&session.stream) else { return };
        let reported = stream.reported > closing.at;
        if !reported && now < closing.at.plus_millis(FREEZE_WAIT_MS) {
            session.closing = Some(Closing { look_at, ..closing });
            return;
        }
        session.bound = Some(stream.honest_bytes(session.base, session.joined, closing.at));
        session.closing = None;
        self.pending.sessions.insert(id);
        self.trim(id);
    }

    /// Gives back what the lanes of a session whose bound is frozen have set aside beyond what can still be paid, and
    /// leaves the rest with those that are not settled.
    fn trim(&mut self, id: SessionId) {
        let Some(session) = self.sessions.get(&id) else { return };
        let pool: i64 = session.lanes.iter().map(|lane| lane.row.reserved.0).sum();
        let need = session.bound.map_or(pool, |bound| still_payable(session, bound));
        let keep = pool.min(need);
        if !self.give_back(id, Micros(pool - keep)) {
            return;
        }
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let mut rest = keep;
        for lane in &mut session.lanes {
            let part = if lane.row.settled { 0 } else { rest.min(cap_costs(lane)) };
            rest -= part;
            if lane.row.reserved != Micros(part) {
                lane.row.reserved = Micros(part);
                self.pending.lanes.insert((id, lane.row.edge));
            }
        }
    }

    /// Moves a part of a session's reserve back to the broadcaster. The reserve holds the sum of its lanes' shares, and
    /// all money inside fits one account, so this is not refused. If it ever is, the money stays where the lanes' rows
    /// say it is.
    fn give_back(&mut self, id: SessionId, amount: Micros) -> bool {
        let Some(stream) = self.sessions.get(&id).map(|session| session.stream.clone()) else { return false };
        let Some(owner) = self.streams.get(&stream).map(|stream| stream.owner().clone()) else {
            return false;
        };
        let (from, to) = (Account::Reserve(stream), Account::Broadcaster(owner));
        self.book.shift(Purpose::Release, &from, &to, amount).is_ok()
    }

    fn forget(&mut self, id: SessionId) {
        let Some(session) = self.sessions.remove(&id) else { return };
        if let Some(stream) = self.streams.get_mut(&session.stream) {
            stream.sessions = stream.sessions.saturating_sub(1);
        }
        self.lanes -= session.lanes.len();
        self.pending.sessions.remove(&id);
        self.pending.ended.push(Row { over: true, ..session.row(id) });
        let Session { lanes, .. } = session;
        for lane in lanes {
            if self.pending.lanes.remove(&(id, lane.row.edge)) {
                self.pending.ended_lanes.push(lane.row);
            }
        }
    }
}

/// What can still be paid on a session's unsettled lanes when no more than `bound` bytes are booked on it in all.
fn still_payable(session: &Session, bound: u64) -> i64 {
    let bytes = bound.saturating_sub(session.payable);
    let lanes = || session.lanes.iter().filter(|lane| !lane.row.settled);
    if bytes == 0 {
        return 0;
    }
    let caps: i64 = lanes().map(cap_costs).sum();
    let price = lanes().map(|lane| lane.row.price).max().unwrap_or_default();
    // Each lane is paid by its own sum, rounded down: together they may get a micro-unit each more than one would.
    let rounding = i64::try_from(lanes().count()).unwrap_or(i64::MAX);
    caps.min(Price::ceiling(price, bytes).0.saturating_add(rounding))
}

/// What a lane can still be paid within its cap.
fn cap_costs(lane: &Lane) -> i64 {
    lane.row.price.ceiling(lane.row.cap_bytes).0.saturating_sub(lane.row.paid.0)
}
