//! The edge's own book: each lane's latest voucher until the tracker has paid it, and what was earned.
//!
//! Pure; `ledger.rs` beside it keeps it on disk. A voucher stays here until a receipt covers it, the tracker
//! refuses it, or nobody would accept it any more. So neither an outage of the tracker nor a restart of the edge
//! loses one.

use std::collections::{BTreeMap, VecDeque};

use millstream_lane::Claim;
use millstream_model::{Instant, Micros, Price, SessionId, StreamId, WallTime};
use millstream_wire::{
    session::{Grant, Receipt, Voucher},
    sign::Signed,
};
use serde::{Deserialize, Serialize};

/// Lanes remembered: a day of a busy edge. The ones that were settled longest ago go first.
pub(crate) const LANES_MAX: usize = 16_384;

/// Milliseconds between two times a lane's voucher is brought.
pub(crate) const BRING_MS: u64 = 10_000;

/// Vouchers brought at a time: a second's worth of what a tracker books without hurry.
pub(crate) const BRING_MAX: usize = 200;

/// Milliseconds after a grant's expiry until which the tracker accepts vouchers (30 min), and as much again, in case
/// that it was renewed without our knowledge.
pub(crate) const LATE_MS: u64 = 60 * 60_000;

/// Hours of earnings kept: a month.
pub(crate) const HOURS_MAX: usize = 24 * 31;

/// Streams whose earnings are kept apart.
pub(crate) const STREAMS_MAX: usize = 1_000;

/// Refusals by the tracker kept for the operator to read.
pub(crate) const REJECTIONS_MAX: usize = 50;

/// Milliseconds of an hour.
const HOUR_MS: u64 = 3_600_000;

/// One lane's money.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Entry {
    stream: StreamId,
    price: Price,
    /// When its newest grant ends.
    expires: WallTime,
    voucher: Signed<Voucher>,
    /// Payable bytes that the tracker has booked.
    booked: u64,
    /// What the lane has earned, as the tracker says.
    earned: Micros,
    /// The tracker refused this claim; a higher one is brought all the same.
    #[serde(default)]
    refused: Option<u64>,
    /// When it was last brought, if it need not be brought at once.
    #[serde(skip)]
    brought: Option<Instant>,
    /// The payable bytes of what was last brought.
    #[serde(skip)]
    said: u64,
}

impl Entry {
    fn payable(&self) -> u64 {
        self.voucher.unverified().payable
    }

    fn is_open(&self) -> bool {
        self.payable() > self.booked && self.refused.is_none_or(|refused| self.payable() > refused)
    }
}

/// What one stream has earned.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamEarnings {
    /// Money booked.
    pub earned: Micros,
    /// Bytes booked.
    pub bytes: u64,
}

/// A voucher that the tracker did not accept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rejection {
    /// When.
    pub at: WallTime,
    /// Whose.
    pub session: SessionId,
    /// What it would have paid for.
    pub payable: u64,
    /// Why, as the tracker said.
    pub reason: String,
}

/// What has been earned so far.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Earnings {
    /// Money booked.
    pub earned: Micros,
    /// Bytes booked.
    pub bytes: u64,
    /// Receipts.
    pub receipts: u64,
    /// Vouchers that the tracker did not accept.
    pub rejected: u64,
    /// Money booked by hour since 1970, newest last.
    pub hours: BTreeMap<u64, Micros>,
    /// By stream.
    pub streams: BTreeMap<StreamId, StreamEarnings>,
    /// The newest rejections, newest last.
    pub rejections: VecDeque<Rejection>,
}

/// What the edge holds and has earned.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Book {
    earnings: Earnings,
    lanes: BTreeMap<SessionId, Entry>,
    #[serde(skip)]
    changed: bool,
}

impl Book {
    /// Takes a lane's newest voucher, which holds.
    pub(crate) fn take(&mut self, grant: &Grant, voucher: Signed<Voucher>) {
        let session = grant.session;
        self.changed = true;
        if let Some(entry) = self.lanes.get_mut(&session) {
            if voucher.unverified().payable >= entry.payable() {
                entry.voucher = voucher;
            }
            entry.expires = entry.expires.max(grant.expires);
            return;
        }
        if self.lanes.len() >= LANES_MAX {
            self.make_room();
        }
        let entry = Entry {
            stream: grant.stream.clone(),
            price: grant.price,
            expires: grant.expires,
            voucher,
            booked: 0,
            earned: Micros::ZERO,
            refused: None,
            brought: None,
            said: 0,
        };
        self.lanes.insert(session, entry);
    }

    /// The lane's grant was renewed: its vouchers are good for longer.
    pub(crate) fn renewed(&mut self, grant: &Grant) {
        if let Some(entry) = self.lanes.get_mut(&grant.session) {
            entry.expires = entry.expires.max(grant.expires);
            self.changed = true;
        }
    }

    /// What the lane has vouched for, as far as it is known here.
    pub(crate) fn claim(&self, session: SessionId) -> Option<Claim> {
        self.lanes.get(&session).map(|entry| Claim::from(entry.voucher.unverified()))
    }

    /// Vouchers to bring now, at most [`BRING_MAX`].
    pub(crate) fn due(&mut self, now: Instant) -> Vec<Signed<Voucher>> {
        let due = |entry: &&mut Entry| {
            entry.is_open() && entry.brought.is_none_or(|at| now.millis_since(at) >= BRING_MS)
        };
        let entries = self.lanes.values_mut().filter(due).take(BRING_MAX);
        entries
            .map(|entry| {
                entry.brought = Some(now);
                entry.said = entry.payable();
                entry.voucher.clone()
            })
            .collect()
    }

    /// A lane has ended: its voucher is brought at once.
    pub(crate) fn closed(&mut self, session: SessionId) {
        if let Some(entry) = self.lanes.get_mut(&session) {
            entry.brought = None;
        }
    }

    /// The tracker is another one, or back: what is open is brought at once.
    pub(crate) fn reconnected(&mut self) {
        for entry in self.lanes.values_mut() {
            entry.brought = None;
        }
    }

    /// The tracker has booked a voucher. The receipt's signature has been checked.
    pub(crate) fn receipt(&mut self, receipt: &Receipt) {
        let Some(entry) = self.lanes.get_mut(&receipt.session) else { return };
        self.changed = true;
        self.earnings.receipts += 1;
        let earned = Micros(receipt.earned.0.saturating_sub(entry.earned.0).max(0));
        let bytes = receipt.payable.saturating_sub(entry.booked);
        entry.booked = entry.booked.max(receipt.payable);
        entry.earned = entry.earned.max(receipt.earned);
        let stream = entry.stream.clone();
        self.earnings.add(&stream, earned, bytes, receipt.at);
    }

    /// The tracker did not accept the lane's voucher.
    pub(crate) fn rejected(&mut self, session: SessionId, reason: &str, wall: WallTime) {
        let Some(entry) = self.lanes.get_mut(&session) else { return };
        self.changed = true;
        let payable = entry.said;
        if entry.refused == Some(payable) {
            return;
        }
        entry.refused = Some(payable);
        self.earnings.rejected += 1;
        let reason = reason.chars().take(200).collect();
        self.earnings.rejections.push_back(Rejection { at: wall, session, payable, reason });
        if self.earnings.rejections.len() > REJECTIONS_MAX {
            self.earnings.rejections.pop_front();
        }
    }

    /// Forgets lanes whose vouchers nobody accepts any more.
    pub(crate) fn prune(&mut self, wall: WallTime) {
        let before = self.lanes.len();
        self.lanes.retain(|_, entry| entry.expires.plus_millis(LATE_MS) > wall);
        self.changed |= self.lanes.len() != before;
    }

    pub(crate) const fn earnings(&self) -> &Earnings {
        &self.earnings
    }

    /// Vouchers that wait for their receipt, and what they will bring at least.
    pub(crate) fn open(&self) -> (usize, Micros) {
        let open = self.lanes.values().filter(|entry| entry.is_open());
        open.fold((0, Micros::ZERO), |(count, sum), entry| {
            let due = entry.price.of(entry.payable()).0.saturating_sub(entry.earned.0).max(0);
            (count + 1, Micros(sum.0.saturating_add(due)))
        })
    }

    /// Whether it has changed since this was last asked.
    pub(crate) fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    /// It could not be written: it is still to be.
    pub(crate) fn keep_changed(&mut self) {
        self.changed = true;
    }

    fn make_room(&mut self) {
        let settled = self.lanes.iter().min_by_key(|(_, entry)| (entry.is_open(), entry.expires));
        if let Some(session) = settled.map(|(session, _)| *session) {
            self.lanes.remove(&session);
        }
    }
}

impl Earnings {
    fn add(&mut self, stream: &StreamId, earned: Micros, bytes: u64, at: WallTime) {
        let sum = |sum: &mut Micros| sum.0 = sum.0.saturating_add(earned.0);
        sum(&mut self.earned);
        self.bytes = self.bytes.saturating_add(bytes);
        sum(self.hours.entry(at.0 / HOUR_MS).or_default());
        while self.hours.len() > HOURS_MAX {
            self.hours.pop_first();
        }
        if !self.streams.contains_key(stream) && self.streams.len() >= STREAMS_MAX {
            let least = self.streams.iter().min_by_key(|(_, stream)| stream.earned);
            if let Some(least) = least.map(|(id, _)| id.clone()) {
                self.streams.remove(&least);
            }
        }
        let own = self.streams.entry(stream.clone()).or_default();
        sum(&mut own.earned);
        own.bytes = own.bytes.saturating_add(bytes);
    }
}

#[cfg(test)]
mod tests;
