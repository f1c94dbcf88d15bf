//! Sessions and their lanes: what is granted, booked and paid on each.

use std::collections::{BTreeSet, VecDeque};

use bytes::Bytes;
use millstream_model::{EdgeId, Hash, Micros, Price, SessionId, SessionKey, StreamId, WallTime};
use thiserror::Error;

use crate::{
    account::Name,
    batch::BatchId,
    epoch::{Earned, Epoch},
    ledger::Ledger,
    limits::{SESSIONS_MAX, VOUCHER_LATE_MS},
    voucher,
};

/// Why a session is not opened.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Refused {
    /// The book has no terms for the stream.
    #[error("there is no stream {0}")]
    UnknownStream(StreamId),
    /// Ids are random; the same one twice is a fault.
    #[error("the session {0} exists already")]
    Exists(SessionId),
    /// [`SESSIONS_MAX`] is reached.
    #[error("the book is full: it holds {SESSIONS_MAX} sessions")]
    Full,
}

/// What a session is when it opens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opening {
    /// The session: random, never used before.
    pub session: SessionId,
    /// The viewer's key.
    pub key: SessionKey,
    /// The stream.
    pub stream: StreamId,
    /// Until when it can be resumed, as its certificate says.
    pub expires: WallTime,
}

/// A session as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The session.
    pub session: SessionId,
    /// The viewer's key.
    pub key: SessionKey,
    /// The stream.
    pub stream: StreamId,
    /// When it was opened.
    pub joined: WallTime,
    /// Until when it can be resumed.
    pub expires: WallTime,
    /// It gets no grants any more.
    pub closed: bool,
    /// All its lanes are settled and it is forgotten: nothing is booked on it any more.
    pub over: bool,
    /// The stream's published total that its honest bound counts from.
    pub base: u64,
    /// Payable bytes booked, all lanes together.
    pub payable: u64,
    /// The most that is ever booked, once that is known: a while after the close.
    pub bound: Option<u64>,
}

/// A lane as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LaneRow {
    /// The session.
    pub session: SessionId,
    /// The edge.
    pub edge: EdgeId,
    /// Who earns.
    pub operator: Name,
    /// Frozen for the lane's life.
    pub price: Price,
    /// Cumulative bytes paid at most.
    pub cap_bytes: u64,
    /// What the cap left to deliver when the newest grant was made.
    pub headroom: u64,
    /// Of the newest grant.
    pub serial: u32,
    /// Of the newest grant.
    pub issued: WallTime,
    /// Of the newest grant.
    pub expires: WallTime,
    /// Payable bytes booked.
    pub payable: u64,
    /// The highest `received` of a booked voucher.
    pub received: u64,
    /// The highest `segments` of a booked voucher.
    pub segments: u64,
    /// What the lane has earned in all.
    pub paid: Micros,
    /// What is set aside for it.
    pub reserved: Micros,
    /// Its reserve was given back; vouchers are booked again after the next grant.
    pub settled: bool,
    /// The epoch of the last booked voucher.
    pub epoch: Epoch,
    /// What was earned in that epoch.
    pub in_epoch: Earned,
    /// When the last voucher was booked.
    pub booked_at: WallTime,
    /// Digest of the last booked voucher; zero before the first.
    pub digest: Hash,
    /// Vouchers refused.
    pub refused: u32,
}

/// One session with one edge.
#[derive(Debug, Clone)]
pub struct Lane {
    pub(crate) row: LaneRow,
    /// The last booked voucher, signature included; empty before the first and after a restart.
    pub(crate) voucher: Bytes,
    pub(crate) refusals: VecDeque<voucher::Refusal>,
    /// The batch of the newest grant.
    pub(crate) granted_in: BatchId,
    /// The batch of the last booked voucher.
    pub(crate) booked_in: BatchId,
}

impl Lane {
    pub(crate) fn new(row: LaneRow, batch: BatchId) -> Self {
        Self { row, voucher: Bytes::new(), refusals: VecDeque::new(), granted_in: batch, booked_in: batch }
    }

    /// Its numbers.
    #[must_use]
    pub const fn state(&self) -> &LaneRow {
        &self.row
    }

    /// The newest refusals of its vouchers, oldest first.
    pub fn refusals(&self) -> impl Iterator<Item = &voucher::Refusal> {
        self.refusals.iter()
    }

    /// The last moment at which its vouchers are booked.
    pub(crate) const fn deadline(&self) -> WallTime {
        self.row.expires.plus_millis(VOUCHER_LATE_MS)
    }

    /// Bytes of the cap that are not used yet.
    pub(crate) const fn left(&self) -> u64 {
        self.row.cap_bytes.saturating_sub(self.row.payable)
    }
}

/// A close whose last published bytes may not have been reported yet.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Closing {
    pub(crate) at: WallTime,
    /// When to freeze the bound, or to look again whether that can be done.
    pub(crate) look_at: WallTime,
}

/// One viewer's stay in one stream.
#[derive(Debug, Clone)]
pub struct Session {
    pub(crate) key: SessionKey,
    pub(crate) stream: StreamId,
    pub(crate) joined: WallTime,
    pub(crate) expires: WallTime,
    pub(crate) closed: bool,
    pub(crate) base: u64,
    pub(crate) payable: u64,
    pub(crate) bound: Option<u64>,
    /// Its close, until its bound is frozen; not known of one that was closed before a restart.
    pub(crate) closing: Option<Closing>,
    pub(crate) lanes: Vec<Lane>,
    /// When it is to be looked at next; its place in the ledger's queue.
    pub(crate) wakes: WallTime,
}

impl Session {
    pub(crate) fn restored(row: &Row) -> Self {
        Self {
            key: row.key,
            stream: row.stream.clone(),
            joined: row.joined,
            expires: row.expires,
            closed: row.closed,
            base: row.base,
            payable: row.payable,
            bound: row.bound,
            closing: None,
            lanes: Vec::new(),
            wakes: if row.closed { WallTime(0) } else { row.expires },
        }
    }

    pub(crate) fn row(&self, session: SessionId) -> Row {
        Row {
            session,
            key: self.key,
            stream: self.stream.clone(),
            joined: self.joined,
            expires: self.expires,
            closed: self.closed,
            over: false,
            base: self.base,
            payable: self.payable,
            bound: self.bound,
        }
    }

    /// The stream it watches.
    #[must_use]
    pub const fn stream(&self) -> &StreamId {
        &self.stream
    }

    /// The key its vouchers are signed with.
    #[must_use]
    pub const fn key(&self) -> &SessionKey {
        &self.key
    }

    /// It gets no grants any more.
    #[must_use]
    pub const fn is_closed(&self) -> bool {
        self.closed
    }

    /// The stream's published total that its honest bound counts from.
    #[must_use]
    pub const fn base(&self) -> u64 {
        self.base
    }

    /// Payable bytes booked, all lanes together.
    #[must_use]
    pub const fn payable(&self) -> u64 {
        self.payable
    }

    /// The most that is ever booked, once that is known.
    #[must_use]
    pub const fn bound(&self) -> Option<u64> {
        self.bound
    }

    /// Its lanes.
    pub fn lanes(&self) -> impl Iterator<Item = &Lane> {
        self.lanes.iter()
    }

    /// Its lane with `edge`.
    #[must_use]
    pub fn lane(&self, edge: EdgeId) -> Option<&Lane> {
        self.lanes.iter().find(|lane| lane.row.edge == edge)
    }

    /// Takes from its lanes' reserves what a lane's own did not hold: after the close they are one.
    pub(crate) fn take_reserve(
        &mut self,
        mut amount: Micros,
        changed: &mut BTreeSet<(SessionId, EdgeId)>,
        id: SessionId,
    ) {
        for lane in &mut self.lanes {
            let part = amount.min(lane.row.reserved);
            if part > Micros::ZERO {
                lane.row.reserved = Micros(lane.row.reserved.0 - part.0);
                amount = Micros(amount.0 - part.0);
                changed.insert((id, lane.row.edge));
            }
        }
    }

    pub(crate) fn lane_mut(&mut self, edge: EdgeId) -> Option<&mut Lane> {
        self.lanes.iter_mut().find(|lane| lane.row.edge == edge)
    }
}

impl Ledger {
    /// Opens a session. It is stored with the first batch after; nobody needs to wait for it, because its grants do.
    ///
    /// # Errors
    /// [`Refused`] says why not.
    pub fn open(&mut self, opening: Opening, now: WallTime) -> Result<(), Refused> {
        let Some(stream) = self.streams.get_mut(&opening.stream) else {
            return Err(Refused::UnknownStream(opening.stream));
        };
        if self.sessions.contains_key(&opening.session) {
            return Err(Refused::Exists(opening.session));
        }
        if self.sessions.len() >= SESSIONS_MAX {
            return Err(Refused::Full);
        }
        let row = Row {
            session: opening.session,
            key: opening.key,
            stream: opening.stream,
            joined: now,
            expires: opening.expires,
            closed: false,
            over: false,
            base: stream.base(now),
            payable: 0,
            bound: None,
        };
        stream.sessions += 1;
        self.wakes.insert((row.expires, row.session));
        self.pending.sessions.insert(row.session);
        self.sessions.insert(row.session, Session::restored(&row));
        Ok(())
    }
}
