//! What is written together, and promises that wait for it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use millstream_model::{EdgeId, Micros, SessionId, StreamId, WallTime};

use crate::{
    account::{Account, Name},
    book::Transfer,
    epoch::{Earned, Epoch},
    ledger::Ledger,
    session, stream, voucher,
};

/// Counts batches. Each is written after all before it, or never.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BatchId(pub u64);

impl fmt::Display for BatchId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Everything that changed since the batch before: to be written whole or not at all, in the order of ids.
///
/// Transfers and refusals are new. Everything else is a row's newest state, to be put in the place of the old.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// Stored with the rest, so that the next ledger counts on.
    pub id: BatchId,
    /// When it was closed.
    pub at: WallTime,
    /// New transfers.
    pub transfers: Vec<Transfer>,
    /// New balances.
    pub balances: Vec<(Account, Micros)>,
    /// Streams.
    pub streams: Vec<stream::Row>,
    /// Sessions.
    pub sessions: Vec<session::Row>,
    /// Lanes.
    pub lanes: Vec<session::LaneRow>,
    /// The newest voucher of a lane in an epoch, with what the lane earned in that epoch.
    pub vouchers: Vec<voucher::Row>,
    /// What operators earned in an epoch, all their lanes together.
    pub epochs: Vec<EpochRow>,
    /// New refusals.
    pub refusals: Vec<voucher::Refusal>,
}

/// What an operator earned in an epoch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EpochRow {
    /// The epoch.
    pub epoch: Epoch,
    /// Who.
    pub operator: Name,
    /// How much, and for what.
    pub earned: Earned,
}

/// A value that binds the tracker, shut until the batch it rests on is on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "a promise that nobody waits for tells nobody anything"]
pub struct Promised<T> {
    value: T,
    after: BatchId,
}

impl<T> Promised<T> {
    pub(crate) const fn new(value: T, after: BatchId) -> Self {
        Self { value, after }
    }

    /// The batch that must be on disk first.
    #[must_use]
    pub const fn after(&self) -> BatchId {
        self.after
    }

    /// The value, for somebody who knows that all batches up to `committed` are on disk.
    ///
    /// # Errors
    /// The promise itself, when that is not far enough.
    pub fn release(self, committed: BatchId) -> Result<T, Self> {
        if self.after <= committed { Ok(self.value) } else { Err(self) }
    }

    /// The same promise of another value.
    pub fn map<U>(self, change: impl FnOnce(T) -> U) -> Promised<U> {
        Promised { value: change(self.value), after: self.after }
    }
}

/// What changed since the last batch, by key: rows are made of it once, when the batch is closed.
#[derive(Debug, Clone, Default)]
pub(crate) struct Pending {
    pub(crate) streams: BTreeSet<StreamId>,
    pub(crate) sessions: BTreeSet<SessionId>,
    pub(crate) lanes: BTreeSet<(SessionId, EdgeId)>,
    /// Rows of streams that are gone from memory.
    pub(crate) removed: Vec<stream::Row>,
    /// Rows of sessions that are over and gone from memory.
    pub(crate) ended: Vec<session::Row>,
    /// Lane rows of such sessions.
    pub(crate) ended_lanes: Vec<session::LaneRow>,
    pub(crate) vouchers: BTreeMap<(SessionId, EdgeId, Epoch), voucher::Row>,
    pub(crate) epochs: BTreeSet<(Epoch, Name)>,
    pub(crate) refusals: Vec<voucher::Refusal>,
}

impl Pending {
    fn is_empty(&self) -> bool {
        self.streams.is_empty()
            && self.sessions.is_empty()
            && self.lanes.is_empty()
            && self.removed.is_empty()
            && self.ended.is_empty()
            && self.ended_lanes.is_empty()
            && self.vouchers.is_empty()
            && self.epochs.is_empty()
            && self.refusals.is_empty()
    }
}

impl Ledger {
    /// Everything that changed since the last call, or `None` when nothing did. Batches are to be written in this
    /// order, one after the other; there may be several under way.
    pub fn take_batch(&mut self, now: WallTime) -> Option<Batch> {
        if self.pending.is_empty() && !self.book.has_changed() {
            return None;
        }
        let id = self.collecting;
        self.collecting = BatchId(id.0 + 1);
        let pending = std::mem::take(&mut self.pending);
        let (transfers, balances) = self.book.take(id, now);
        let mut streams = pending.removed;
        streams.extend(pending.streams.iter().filter_map(|key| Some(self.streams.get(key)?.row(key))));
        let mut sessions = pending.ended;
        sessions.extend(pending.sessions.iter().filter_map(|key| Some(self.sessions.get(key)?.row(*key))));
        let mut lanes = pending.ended_lanes;
        lanes.extend(
            pending
                .lanes
                .iter()
                .filter_map(|(session, edge)| Some(self.sessions.get(session)?.lane(*edge)?.row.clone())),
        );
        let epochs = pending
            .epochs
            .into_iter()
            .filter_map(|key| {
                let earned = *self.epochs.get(&key)?;
                Some(EpochRow { epoch: key.0, operator: key.1, earned })
            })
            .collect();
        Some(Batch {
            id,
            at: now,
            transfers,
            balances,
            streams,
            sessions,
            lanes,
            vouchers: pending.vouchers.into_values().collect(),
            epochs,
            refusals: pending.refusals,
        })
    }

    /// The batch after which everything that was changed so far is on disk.
    #[must_use]
    pub fn newest(&self) -> BatchId {
        let collecting = !self.pending.is_empty() || self.book.has_changed();
        if collecting { self.collecting } else { BatchId(self.collecting.0 - 1) }
    }

    /// Notes that all batches up to `batch` are on disk.
    pub fn committed(&mut self, batch: BatchId) {
        self.committed = self.committed.max(batch);
    }

    /// The newest batch known to be on disk: what opens a [`Promised`].
    #[must_use]
    pub const fn durable(&self) -> BatchId {
        self.committed
    }
}
