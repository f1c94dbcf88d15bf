//! The ledger's state and the simple questions about it. Its deeds stand with their subjects.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use millstream_model::{EdgeId, Micros, SessionId, StreamId, TrackerId, WallTime};

use crate::{
    account::{Account, Name},
    batch::{BatchId, Pending, Promised},
    book::{self, Book, FundingId},
    epoch::{Earned, Epoch},
    session::{Lane, Session},
    stream::Stream,
    unsettled::Unsettled,
    voucher::Refusal,
};

/// Grants, vouchers, accounts and epochs of one tracker.
#[derive(Debug, Clone)]
pub struct Ledger {
    pub(crate) tracker: TrackerId,
    pub(crate) book: Book,
    pub(crate) streams: BTreeMap<StreamId, Stream>,
    pub(crate) sessions: HashMap<SessionId, Session>,
    /// How many lanes the sessions have together.
    pub(crate) lanes: usize,
    /// The lanes that are not settled, counted.
    pub(crate) unsettled: Unsettled,
    /// Each session once, at [`Session::wakes`].
    pub(crate) wakes: BTreeSet<(WallTime, SessionId)>,
    /// Unsealed epochs.
    pub(crate) epochs: BTreeMap<(Epoch, Name), Earned>,
    /// Epochs before this one take no earnings any more, even if the wall clock is set back.
    pub(crate) sealed_below: Epoch,
    /// The newest refusals that fit no lane.
    pub(crate) strays: VecDeque<Refusal>,
    pub(crate) pending: Pending,
    /// The batch that changes of now go to.
    pub(crate) collecting: BatchId,
    pub(crate) committed: BatchId,
}

impl Ledger {
    /// An empty ledger of `tracker`, whose key grants and receipts are signed with.
    #[must_use]
    pub fn new(tracker: TrackerId) -> Self {
        Self {
            tracker,
            book: Book::default(),
            streams: BTreeMap::new(),
            sessions: HashMap::new(),
            lanes: 0,
            unsettled: Unsettled::default(),
            wakes: BTreeSet::new(),
            epochs: BTreeMap::new(),
            sealed_below: Epoch(0),
            strays: VecDeque::new(),
            pending: Pending::default(),
            collecting: BatchId(1),
            committed: BatchId(0),
        }
    }

    /// Brings money in, once per id. `false` when this funding was booked before.
    ///
    /// # Errors
    /// When the amount is not above zero, the id belongs to another funding, or a balance would leave its range.
    pub fn fund(
        &mut self,
        broadcaster: &Name,
        amount: Micros,
        id: FundingId,
        now: WallTime,
    ) -> Result<Promised<bool>, book::Refused> {
        let account = Account::Broadcaster(broadcaster.clone());
        let booked = self.book.fund(&account, amount, id, now)?;
        Ok(Promised::new(booked, self.newest()))
    }

    /// The tracker whose ledger it is.
    #[must_use]
    pub const fn tracker(&self) -> TrackerId {
        self.tracker
    }

    /// What `account` holds.
    #[must_use]
    pub fn balance(&self, account: &Account) -> Micros {
        self.book.balance(account)
    }

    /// All accounts with their balances.
    pub fn balances(&self) -> impl Iterator<Item = (&Account, Micros)> {
        self.book.balances()
    }

    /// A stream's terms and budget.
    #[must_use]
    pub fn stream(&self, stream: &StreamId) -> Option<&Stream> {
        self.streams.get(stream)
    }

    /// All streams that have terms.
    pub fn streams(&self) -> impl Iterator<Item = (&StreamId, &Stream)> {
        self.streams.iter()
    }

    /// A session that is not over.
    #[must_use]
    pub fn session(&self, session: SessionId) -> Option<&Session> {
        self.sessions.get(&session)
    }

    /// All sessions that are not over.
    pub fn sessions(&self) -> impl Iterator<Item = (SessionId, &Session)> {
        self.sessions.iter().map(|(id, session)| (*id, session))
    }

    /// A lane of a session that is not over.
    #[must_use]
    pub fn lane(&self, session: SessionId, edge: EdgeId) -> Option<&Lane> {
        self.sessions.get(&session)?.lane(edge)
    }

    /// The edge's lanes that are not settled: whose vouchers are still booked.
    #[must_use]
    pub fn lanes_of(&self, edge: EdgeId) -> usize {
        self.unsettled.of(edge)
    }

    /// Whether the edge has a lane of the stream that is not settled.
    #[must_use]
    pub fn carries(&self, edge: EdgeId, stream: &StreamId) -> bool {
        self.unsettled.of_stream(edge, stream) > 0
    }

    /// What operators earned in the epochs that are not sealed.
    pub fn epochs(&self) -> impl Iterator<Item = (Epoch, &Name, Earned)> {
        self.epochs.iter().map(|((epoch, operator), earned)| (*epoch, operator, *earned))
    }

    /// The newest refusals that fit no lane, oldest first.
    pub fn strays(&self) -> impl Iterator<Item = &Refusal> {
        self.strays.iter()
    }
}
