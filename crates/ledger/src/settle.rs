//! How lanes and sessions end: reserves go back, what is over is forgotten.

use millstream_model::{Micros, SessionId, WallTime};

use crate::{
    account::Account,
    book::Purpose,
    epoch::Epoch,
    ledger::Ledger,
    session::{Row, Session},
};

impl Ledger {
    /// Closes a session: it gets no grants any more. Its lanes stay until their vouchers' last moment, because its
    /// edges may still bring some, and so does their reserve. `false` when there is no such session.
    pub fn close(&mut self, session: SessionId, now: WallTime) -> bool {
        let Some(known) = self.sessions.get_mut(&session) else { return false };
        if !known.closed {
            known.closed = true;
            self.pending.sessions.insert(session);
            self.wake_at(session, now);
        }
        true
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
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let due: Vec<usize> = session
            .lanes
            .iter()
            .enumerate()
            .filter(|(_, lane)| !lane.row.settled && now > lane.deadline())
            .map(|(index, _)| index)
            .collect();
        for index in due {
            self.release(id, index);
        }
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let next_lane = session
            .lanes
            .iter()
            .filter(|lane| !lane.row.settled)
            // One millisecond after: at the deadline itself a voucher is still in time.
            .map(|lane| lane.deadline().plus_millis(1))
            .min();
        let ended = session.closed || now >= session.expires;
        match next_lane {
            None if ended => self.forget(id),
            None => {
                session.wakes = session.expires;
                self.wakes.insert((session.wakes, id));
            }
            Some(at) => {
                session.wakes = if ended { at } else { at.min(session.expires) };
                self.wakes.insert((session.wakes, id));
            }
        }
    }

    fn release(&mut self, id: SessionId, index: usize) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let stream = session.stream.clone();
        let Some(lane) = session.lanes.get_mut(index) else { return };
        lane.row.settled = true;
        self.pending.lanes.insert((id, lane.row.edge));
        let Some(owner) = self.streams.get(&stream).map(|stream| stream.owner().clone()) else { return };
        let (from, to) = (Account::Reserve(stream), Account::Broadcaster(owner));
        // The reserve holds the sum of its lanes' shares, and all money inside fits one account, so this is not
        // refused. If it ever is, the money stays where the lane's row says it is.
        if self.book.shift(Purpose::Release, &from, &to, lane.row.reserved).is_ok() {
            lane.row.reserved = Micros::ZERO;
        }
    }

    fn forget(&mut self, id: SessionId) {
        let Some(session) = self.sessions.remove(&id) else { return };
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
