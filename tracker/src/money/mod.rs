//! The money: the ledger's shell.
//!
//! For the hub and the API. [`Money`] holds the pure [`Ledger`] and the [`Store`], feeds the one, writes what it says
//! into the other, and lets nothing that binds out before it is on disk. What never belongs here: sockets, sessions'
//! messages, any rule about money (those are the ledger's).
//!
//! ```text
//! a call -> ledger (a lock, microseconds) -> wakes the pump, waits for its batch -> signs -> answers
//! the pump: take what has come together -> one commit, one fsync -> tell everybody who waits -> again
//! ```
//!
//! So all that arrives during one fsync shares the next. If a commit fails, the ledger in memory is ahead of the disk:
//! nobody is answered, the pump ends and with it the program, and the next start begins from what is on disk.

use std::{
    collections::BTreeSet,
    num::NonZero,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use millstream_ledger::{
    Account, BatchId, Epoch, Ledger, Name, Promised, Terms,
    book::{self, FundingId},
    epoch::Earned,
    grant, session, stream,
    voucher::{self, Bringer, Screened, Verified},
};
use millstream_model::{BitRate, EdgeId, Micros, SessionId, StreamId, TrackerId, WallTime};
use millstream_service::Spawner;
use millstream_wire::{
    session::{Grant, Receipt, Voucher},
    sign::{Body, Context, SecretKey, Signed, Signer as _},
    tracker::Published,
};
use thiserror::Error;
use tokio::sync::{Notify, Semaphore, watch};

use crate::store::{self, Audit, Store};

mod pump;
#[cfg(test)]
mod tests;

/// How often lanes and sessions whose time is over are looked for.
const TICK_EVERY: Duration = Duration::from_secs(1);

/// How often rows that are too old are looked for. While there are more than one bite, every tick takes one.
const PRUNE_EVERY: Duration = Duration::from_secs(60);

/// Tells the wall's time. Tests tell their own.
pub type Clock = Arc<dyn Fn() -> WallTime + Send + Sync>;

/// The wall's clock.
#[must_use]
pub fn wall_clock() -> Clock {
    Arc::new(|| {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        WallTime(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    })
}

/// Why the book cannot be opened.
#[derive(Debug, Error)]
pub enum Error {
    /// The database.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// What is in it is no book.
    #[error("the book does not add up: {0}")]
    Damaged(#[from] millstream_ledger::rows::Damaged),
}

/// The book of one tracker. Cheap to clone.
#[derive(Clone)]
pub struct Money {
    shared: Arc<Shared>,
}

struct Shared {
    ledger: Mutex<Ledger>,
    key: SecretKey,
    clock: Clock,
    store: Store,
    /// Something has changed that no batch holds yet.
    changed: Notify,
    /// The newest batch on disk; closed when there will be no more.
    durable: watch::Sender<Progress>,
    /// One place per core: signatures are checked beside the runtime, and no more at a time than can be.
    verifiers: Semaphore,
    /// Streams that are removed and forgotten as soon as their sessions are settled.
    ending: Mutex<BTreeSet<StreamId>>,
    /// Fundings go one by one, so that an old id is found on disk before it is booked again.
    funding: tokio::sync::Mutex<()>,
}

/// How far the disk is.
#[derive(Debug, Clone, Copy)]
struct Progress {
    durable: BatchId,
    /// A write failed; nothing more will be written.
    failed: bool,
}

impl Money {
    /// Reads the book and starts to keep it.
    ///
    /// # Errors
    /// When the database does not answer or the book does not add up.
    pub async fn open(store: Store, key: SecretKey, tasks: &Spawner) -> Result<Self, Error> {
        Self::open_at(store, key, tasks, wall_clock()).await
    }

    /// As [`Money::open`], by another clock.
    ///
    /// # Errors
    /// As [`Money::open`].
    pub async fn open_at(store: Store, key: SecretKey, tasks: &Spawner, clock: Clock) -> Result<Self, Error> {
        let rows = store.book(clock()).await?;
        let ledger = Ledger::restore(key.public(), rows)?;
        let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
        let shared = Arc::new(Shared {
            durable: watch::Sender::new(Progress { durable: ledger.durable(), failed: false }),
            ledger: Mutex::new(ledger),
            key,
            clock,
            store,
            changed: Notify::new(),
            verifiers: Semaphore::new(cores),
            ending: Mutex::default(),
            funding: tokio::sync::Mutex::new(()),
        });
        tasks.spawn_vital("book", pump::run(Arc::clone(&shared), tasks.drain()));
        let ticker = Arc::downgrade(&shared);
        tasks.spawn_until_drain("book tick", async move {
            let mut tick = tokio::time::interval(TICK_EVERY);
            let mut prune_at = tokio::time::Instant::now();
            loop {
                tick.tick().await;
                let Some(shared) = ticker.upgrade() else { return };
                shared.tick();
                if prune_at <= tokio::time::Instant::now() && !shared.prune().await {
                    prune_at += PRUNE_EVERY;
                }
            }
        });
        Ok(Self { shared })
    }

    /// The tracker that pays.
    #[must_use]
    pub fn tracker(&self) -> TrackerId {
        self.shared.key.public()
    }

    /// The database behind it.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.shared.store
    }

    // --- broadcasters ----------------------------------------------------------------------------------------

    /// Brings money in, once per `transfer`: an id of the caller's. Gives the account's balance, on disk.
    ///
    /// # Errors
    /// [`FundError`].
    pub async fn fund(
        &self,
        broadcaster: &Name,
        amount: Micros,
        transfer: &str,
    ) -> Result<Micros, FundError> {
        let id = FundingId::new(transfer)?;
        let account = Account::Broadcaster(broadcaster.clone());
        let _alone = self.shared.funding.lock().await;
        // The ledger remembers the newest; the disk knows all that were ever booked.
        match self.shared.store.funding(&id).await {
            Err(error) => return Err(FundError::Store(error)),
            Ok(Some(known)) if known == (account.clone(), amount) => return Ok(self.balance(&account)),
            Ok(Some(_)) => return Err(book::Refused::IdTaken(id).into()),
            Ok(None) => {}
        }
        let promised = self.shared.ledger().fund(broadcaster, amount, id, self.shared.now())?;
        self.shared.settle(promised).await.ok_or(book::Refused::Unavailable)?;
        Ok(self.balance(&account))
    }

    /// Makes a stream's terms or changes them; on disk when it returns. A new price counts for new lanes.
    ///
    /// # Errors
    /// When they make no sense, or the stream is somebody else's.
    pub async fn set_stream(
        &self,
        stream: &StreamId,
        owner: &Name,
        terms: Terms,
    ) -> Result<(), stream::Refused> {
        {
            let mut ledger = self.shared.ledger();
            ledger.set_stream(stream, owner, terms)?;
            self.shared.ending().remove(stream);
        }
        self.shared.written().await.ok_or(stream::Refused::Unavailable)
    }

    /// Ends a stream's money: its sessions are closed, no grant is given from now on, and it is forgotten once they are
    /// settled. Its history stays.
    ///
    /// # Errors
    /// When there is no such stream.
    pub async fn remove_stream(&self, stream: &StreamId) -> Result<(), stream::Refused> {
        {
            let mut ledger = self.shared.ledger();
            match ledger.remove_stream(stream) {
                Err(stream::Refused::InUse(_)) => {
                    let unknown = || stream::Refused::Unknown(stream.clone());
                    let known = ledger.stream(stream).ok_or_else(unknown)?;
                    let (owner, terms) = (known.owner().clone(), known.terms());
                    ledger.set_stream(stream, &owner, Terms { stopped: true, ..terms })?;
                    ledger.close_all(stream, self.shared.now());
                    self.shared.ending().insert(stream.clone());
                }
                other => other?,
            }
        }
        self.shared.written().await.ok_or(stream::Refused::Unavailable)
    }

    /// All streams that the book knows.
    #[must_use]
    pub fn streams(&self) -> Vec<StreamId> {
        self.shared.ledger().streams().map(|(stream, _)| stream.clone()).collect()
    }

    /// A stream's terms.
    #[must_use]
    pub fn terms(&self, stream: &StreamId) -> Option<Terms> {
        self.shared.ledger().stream(stream).map(stream::Stream::terms)
    }

    /// What was paid for a stream today, and what is promised to its lanes.
    #[must_use]
    pub fn spending(&self, stream: &StreamId) -> Option<(Micros, Micros)> {
        let ledger = self.shared.ledger();
        let spent = ledger.stream(stream)?.spent_today(self.shared.now());
        Some((spent, ledger.balance(&Account::Reserve(stream.clone()))))
    }

    /// Takes a packager's report.
    ///
    /// # Errors
    /// When there is no such stream.
    pub fn published(&self, stream: &StreamId, published: Published) -> Result<(), stream::Refused> {
        self.shared.ledger().published(stream, published, self.shared.now())?;
        self.shared.changed.notify_one();
        Ok(())
    }

    // --- sessions --------------------------------------------------------------------------------------------

    /// Opens a session. Nobody needs to wait for the disk here: its grants do.
    ///
    /// # Errors
    /// When there is no such stream, or no room.
    pub fn open_session(&self, opening: session::Opening) -> Result<(), session::Refused> {
        self.shared.ledger().open(opening, self.shared.now())?;
        self.shared.changed.notify_one();
        Ok(())
    }

    /// Lets a session live longer, for a renewed certificate. `false` when it is over.
    #[must_use]
    pub fn extend_session(&self, session: SessionId, expires: WallTime) -> bool {
        let extended = self.shared.ledger().extend(session, expires, self.shared.now());
        self.shared.changed.notify_one();
        extended
    }

    /// Closes a session: no grants any more. Vouchers of its lanes are booked until their last moment. `false` when
    /// there is none.
    pub fn close_session(&self, session: SessionId) -> bool {
        let closed = self.shared.ledger().close(session, self.shared.now());
        self.shared.changed.notify_one();
        closed
    }

    /// Whether a session may still get grants: it was opened here, is not closed and has not expired.
    #[must_use]
    pub fn is_open(&self, session: SessionId) -> bool {
        self.shared.ledger().session(session).is_some_and(|session| !session.is_closed())
    }

    /// The edges that a session has lanes with whose grants have not expired, oldest first.
    #[must_use]
    pub fn lanes(&self, session: SessionId) -> Vec<EdgeId> {
        let now = self.shared.now();
        let ledger = self.shared.ledger();
        let Some(session) = ledger.session(session) else { return Vec::new() };
        session
            .lanes()
            .map(session::Lane::state)
            .filter(|lane| lane.expires > now)
            .map(|lane| lane.edge)
            .collect()
    }

    /// Whether an edge has a lane of this stream that is not settled: somebody whom it may serve, or who may still vouch
    /// for what it served.
    #[must_use]
    pub fn carries(&self, edge: EdgeId, stream: &StreamId) -> bool {
        self.shared.ledger().carries(edge, stream)
    }

    /// Lanes of an edge that are not settled.
    #[must_use]
    pub fn lanes_of(&self, edge: EdgeId) -> usize {
        self.shared.ledger().lanes_of(edge)
    }

    /// All sessions that may still get grants.
    #[must_use]
    pub fn open_sessions(&self) -> Vec<SessionId> {
        let ledger = self.shared.ledger();
        ledger.sessions().filter(|(_, session)| !session.is_closed()).map(|(id, _)| id).collect()
    }

    /// Gives a lane its first grant, or renews it; the same grant again when it is asked too early. On disk when it
    /// returns.
    ///
    /// # Errors
    /// Why there is no grant. Without money: plain HTTP is all there is.
    pub async fn grant(&self, request: &grant::Request) -> Result<Signed<Grant>, grant::Refused> {
        let promised = self.shared.ledger().grant(request, self.shared.now())?;
        let grant = self.shared.settle(promised).await.ok_or(grant::Refused::Unavailable)?;
        Ok(self.sign(grant))
    }

    /// Renews a lane that has a grant.
    ///
    /// # Errors
    /// As [`Money::grant`]; [`grant::Refused::UnknownSession`] when it has none.
    pub async fn renew(
        &self,
        session: SessionId,
        edge: EdgeId,
        rate: BitRate,
    ) -> Result<Signed<Grant>, grant::Refused> {
        let operator = self.shared.ledger().lane(session, edge).map(|lane| lane.state().operator.clone());
        let operator = operator.ok_or(grant::Refused::UnknownSession(session))?;
        self.grant(&grant::Request { session, edge, operator, rate }).await
    }

    /// Books a voucher. The receipt exists only after the book is on disk.
    ///
    /// # Errors
    /// Why it moved nothing.
    pub async fn voucher(
        &self,
        voucher: Signed<Voucher>,
        by: Bringer,
    ) -> Result<Signed<Receipt>, voucher::Refused> {
        let promised = self.take(voucher, by).await.inspect_err(|_| self.shared.changed.notify_one())?;
        let receipt = self.shared.settle(promised).await.ok_or(voucher::Refused::Unavailable)?;
        Ok(self.sign(receipt))
    }

    async fn take(
        &self,
        voucher: Signed<Voucher>,
        by: Bringer,
    ) -> Result<Promised<Receipt>, voucher::Refused> {
        let screened = self.shared.ledger().screen(&voucher, by, self.shared.now())?;
        let key = match screened {
            Screened::Known(promised) => return Ok(promised),
            Screened::Check(key) => key,
        };
        let claim = voucher.unverified().clone();
        let checked = self.verify_beside(voucher, key).await?;
        let now = self.shared.now();
        let mut ledger = self.shared.ledger();
        match checked {
            Ok(verified) => ledger.accept(verified, by, now),
            Err(refused) => Err(ledger.refuse(&claim, refused, now)),
        }
    }

    /// Checks a signature off the runtime, at most one per core at a time.
    async fn verify_beside(
        &self,
        voucher: Signed<Voucher>,
        key: millstream_model::SessionKey,
    ) -> Result<Result<Verified, voucher::Refused>, voucher::Refused> {
        let unavailable = |_| voucher::Refused::Unavailable;
        let _place = self.shared.verifiers.acquire().await.map_err(|_| voucher::Refused::Unavailable)?;
        tokio::task::spawn_blocking(move || Verified::check(voucher, key)).await.map_err(unavailable)
    }

    fn sign<T: Body<Key = TrackerId>>(&self, body: T) -> Signed<T> {
        Signed::new(body, Context::None, &self.shared.key)
    }

    // --- statements ------------------------------------------------------------------------------------------

    /// All accounts with what they hold now.
    #[must_use]
    pub fn balances(&self) -> Vec<(Account, Micros)> {
        self.shared.ledger().balances().map(|(account, balance)| (account.clone(), balance)).collect()
    }

    /// What an account holds now.
    #[must_use]
    pub fn balance(&self, account: &Account) -> Micros {
        self.shared.ledger().balance(account)
    }

    /// What an operator has earned since ever.
    #[must_use]
    pub fn earned(&self, operator: &Name) -> Micros {
        self.balance(&Account::Operator(operator.clone()))
    }

    /// What everybody earned in the epochs that are not sealed. Older ones: [`Store::epochs`]; what is behind
    /// each: [`Store::lanes_of`].
    #[must_use]
    pub fn earnings(&self) -> Vec<(Epoch, Name, Earned)> {
        self.shared.ledger().epochs().map(|(epoch, name, earned)| (epoch, name.clone(), earned)).collect()
    }

    /// Sums up the whole book again from its parts, on disk, as of now.
    ///
    /// # Errors
    /// When the database does not answer. What is wrong with the book stands in [`Audit::findings`].
    pub async fn verify(&self) -> Result<Audit, store::Error> {
        // So that what was moved a moment ago is part of it.
        self.shared.written().await.ok_or(store::Error::Closed)?;
        self.shared.store.audit().await
    }
}

/// Why money did not come in.
#[derive(Debug, Error)]
pub enum FundError {
    /// The id.
    #[error(transparent)]
    Id(#[from] book::IdError),
    /// The ledger.
    #[error(transparent)]
    Refused(#[from] book::Refused),
    /// The database.
    #[error(transparent)]
    Store(store::Error),
}

impl Shared {
    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        // A panic under this lock would leave a half-made move: whoever comes next must not build on it. But the
        // ledger decides before it moves, and nothing in it panics.
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> WallTime {
        (self.clock)()
    }

    fn ending(&self) -> MutexGuard<'_, BTreeSet<StreamId>> {
        self.ending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tick(&self) {
        let mut ledger = self.ledger();
        ledger.tick(self.now());
        // Those that are in use still are tried again.
        self.ending().retain(|stream| matches!(ledger.remove_stream(stream), Err(stream::Refused::InUse(_))));
        drop(ledger);
        self.changed.notify_one();
    }

    /// Lets a bite of old rows go; `true` when there may be more.
    async fn prune(&self) -> bool {
        let more = self.store.prune(self.now()).await;
        more.inspect_err(|error| tracing::error!(%error, "old rows cannot be let go")).unwrap_or(false)
    }

    /// The value, once its batch is on disk; `None` when it never will be.
    async fn settle<T>(&self, promised: Promised<T>) -> Option<T> {
        self.wait(promised.after()).await?;
        promised.release(self.durable.borrow().durable).ok()
    }

    /// Waits until everything that was changed so far is on disk.
    async fn written(&self) -> Option<()> {
        let newest = self.ledger().newest();
        self.wait(newest).await
    }

    async fn wait(&self, batch: BatchId) -> Option<()> {
        self.changed.notify_one();
        let mut durable = self.durable.subscribe();
        let progress =
            durable.wait_for(|progress| progress.durable >= batch || progress.failed).await.ok()?;
        (progress.durable >= batch).then_some(())
    }
}
