//! What is stored, how batches add to it, and how a ledger comes back from it.
//!
//! [`Rows`] is also the plainest store there is: what it does with a batch is what every store must do.

use std::collections::BTreeMap;

use millstream_model::{EdgeId, Micros, SessionId, StreamId, TrackerId};
use thiserror::Error;

use crate::{
    account::{Account, Name},
    batch::{Batch, BatchId},
    book::{Book, FundingId},
    epoch::{Earned, Epoch},
    ledger::Ledger,
    session::{Lane, LaneRow, Row as SessionRow, Session},
    stream::{Row as StreamRow, Stream},
    voucher::Row as VoucherRow,
};

/// What a ledger comes back from: all that is not over. Rows of what is over may be there too and are passed by.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rows {
    /// The newest batch.
    pub batch: BatchId,
    /// Balances. Accounts that hold nothing may be left out.
    pub balances: BTreeMap<Account, Micros>,
    /// Streams.
    pub streams: BTreeMap<StreamId, StreamRow>,
    /// Sessions.
    pub sessions: BTreeMap<SessionId, SessionRow>,
    /// Lanes.
    pub lanes: BTreeMap<(SessionId, EdgeId), LaneRow>,
    /// Sums of epochs from [`Rows::epochs_from`] on.
    pub epochs: BTreeMap<(Epoch, Name), Earned>,
    /// Earlier epochs take no earnings any more.
    pub epochs_from: Epoch,
    /// The newest fundings, oldest first.
    pub fundings: Vec<(FundingId, Account, Micros)>,
    /// Vouchers; not needed to come back.
    pub vouchers: BTreeMap<(SessionId, EdgeId, Epoch), VoucherRow>,
}

/// Why stored rows are no ledger. Somebody changed them by hand, or the disk did.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Damaged {
    /// The accounts together.
    #[error("the accounts sum to {0}, not to zero")]
    Sum(i128),
    /// An account.
    #[error("the account {account} is below zero: {balance}")]
    Negative {
        /// Which.
        account: Account,
        /// What it holds.
        balance: Micros,
    },
    /// A reserve.
    #[error("{account} holds {balance}, its lanes need {lanes}")]
    Reserve {
        /// Which.
        account: Account,
        /// What it holds.
        balance: Micros,
        /// What its lanes say.
        lanes: i128,
    },
    /// A lane whose session is missing or over.
    #[error("the lane of session {session} with edge {edge} has no session")]
    Lane {
        /// The session.
        session: SessionId,
        /// The edge.
        edge: EdgeId,
    },
    /// A lane that does not add up.
    #[error("the lane of session {session} with edge {edge}: paid {paid} for {payable} bytes")]
    Paid {
        /// The session.
        session: SessionId,
        /// The edge.
        edge: EdgeId,
        /// What it says it was paid.
        paid: Micros,
        /// What it says it delivered.
        payable: u64,
    },
    /// A session that does not add up.
    #[error("the session {session} says {payable} payable bytes, its lanes {lanes}")]
    Payable {
        /// The session.
        session: SessionId,
        /// What it says.
        payable: u64,
        /// What its lanes say.
        lanes: u128,
    },
    /// A session whose stream is missing.
    #[error("the session {0} has no stream")]
    Session(SessionId),
}

impl Rows {
    /// Does with a batch what a store must do: adds what is new, replaces what is known.
    pub fn absorb(&mut self, batch: Batch) {
        self.batch = batch.id;
        self.balances.extend(batch.balances);
        self.streams.extend(batch.streams.into_iter().map(|row| (row.stream.clone(), row)));
        self.sessions.extend(batch.sessions.into_iter().map(|row| (row.session, row)));
        self.lanes.extend(batch.lanes.into_iter().map(|row| ((row.session, row.edge), row)));
        self.vouchers.extend(batch.vouchers.into_iter().map(|row| ((row.session, row.edge, row.epoch), row)));
        self.epochs.extend(batch.epochs.into_iter().map(|row| ((row.epoch, row.operator), row.earned)));
        for transfer in batch.transfers {
            let id = transfer.id.strip_prefix("fund/").and_then(|id| FundingId::new(id).ok());
            if let (Some(id), Some((account, amount))) = (id, transfer.entries.last()) {
                self.fundings.push((id, account.clone(), *amount));
            }
        }
    }

    /// Checks what must hold at any time between two batches.
    ///
    /// # Errors
    /// The first thing that does not.
    pub fn audit(&self) -> Result<(), Damaged> {
        let sum: i128 = self.balances.values().map(|balance| i128::from(balance.0)).sum();
        if sum != 0 {
            return Err(Damaged::Sum(sum));
        }
        for (account, balance) in &self.balances {
            if *account != Account::External && *balance < Micros::ZERO {
                return Err(Damaged::Negative { account: account.clone(), balance: *balance });
            }
        }
        let mut reserves = BTreeMap::<&StreamId, i128>::new();
        let mut delivered = BTreeMap::<SessionId, u128>::new();
        for row in self.lanes.values() {
            let session = self
                .sessions
                .get(&row.session)
                .ok_or(Damaged::Lane { session: row.session, edge: row.edge })?;
            *reserves.entry(&session.stream).or_default() += i128::from(row.reserved.0);
            *delivered.entry(row.session).or_default() += u128::from(row.payable);
            if row.price.of(row.payable) != row.paid || row.reserved < Micros::ZERO {
                return Err(Damaged::Paid {
                    session: row.session,
                    edge: row.edge,
                    paid: row.paid,
                    payable: row.payable,
                });
            }
        }
        for (id, session) in &self.sessions {
            let lanes = delivered.remove(id).unwrap_or(0);
            if u128::from(session.payable) != lanes {
                return Err(Damaged::Payable { session: *id, payable: session.payable, lanes });
            }
        }
        for stream in self.streams.keys() {
            let account = Account::Reserve(stream.clone());
            let balance = self.balances.get(&account).copied().unwrap_or_default();
            let lanes = reserves.remove(stream).unwrap_or(0);
            if i128::from(balance.0) != lanes {
                return Err(Damaged::Reserve { account, balance, lanes });
            }
        }
        Ok(())
    }
}

impl Ledger {
    /// The ledger that `rows` were the last batches of.
    ///
    /// # Errors
    /// When the rows do not add up: [`Rows::audit`].
    pub fn restore(tracker: TrackerId, rows: Rows) -> Result<Self, Damaged> {
        rows.audit()?;
        let mut ledger = Self::new(tracker);
        ledger.collecting = BatchId(rows.batch.0 + 1);
        ledger.committed = rows.batch;
        ledger.sealed_below = rows.epochs_from;
        ledger.epochs =
            rows.epochs.into_iter().filter(|((epoch, _), _)| *epoch >= rows.epochs_from).collect();
        ledger.book = Book::with_balances(rows.balances);
        for (id, account, amount) in rows.fundings {
            ledger.book.remember(id, account, amount);
        }
        for (id, row) in rows.streams.into_iter().filter(|(_, row)| !row.removed) {
            ledger.streams.insert(id, Stream::restored(row));
        }
        for (id, row) in rows.sessions.iter().filter(|(_, row)| !row.over) {
            let Some(stream) = ledger.streams.get_mut(&row.stream) else {
                return Err(Damaged::Session(*id));
            };
            stream.sessions += 1;
            let session = Session::restored(row);
            ledger.wakes.insert((session.wakes, *id));
            ledger.sessions.insert(*id, session);
        }
        for ((id, _), row) in rows.lanes {
            // A lane of a session that is over has nothing to come back for.
            let Some(session) = ledger.sessions.get_mut(&id) else { continue };
            let lane = Lane::new(row, rows.batch);
            let deadline = lane.deadline();
            if !lane.row.settled {
                ledger.unsettled.add(lane.row.edge, &session.stream);
            }
            session.lanes.push(lane);
            ledger.lanes += 1;
            ledger.wake_at(id, deadline);
        }
        Ok(ledger)
    }
}
