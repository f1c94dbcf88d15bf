//! The actors of the tests: a tracker, viewers that sign, edges that bring, and a store that can crash.

use millstream_ledger::{
    Account, Batch, Kind, Ledger, Name, Promised, Rows, Terms,
    batch::BatchId,
    book::FundingId,
    grant, session,
    voucher::{self, Bringer},
};
use millstream_model::{
    BitRate, EdgeId, GIB, Micros, Price, PublicKey, RenditionId, SessionId, SessionKey, StreamId, TrackerId,
    WallTime,
};
use millstream_wire::{
    session::{Grant, Receipt, Voucher},
    sign::{Context, SessionSecret, Signed, Signer as _},
    tracker::Published,
};

pub(crate) const TRACKER: TrackerId = PublicKey([1; 32]);
/// Noon of some day, at the start of an epoch and of no day.
pub(crate) const START: WallTime = WallTime(1_800_014_400_000);
pub(crate) const RATE: BitRate = BitRate(8_000_000);
/// Bytes a second of [`RATE`].
pub(crate) const SECOND: u64 = 1_000_000;
/// A unit a GiB: what a byte costs is below a micro-unit, what a megabyte costs is about a thousand.
pub(crate) const PRICE: u32 = 1_000_000;
pub(crate) const PLENTY: i64 = 1_000_000_000;

pub(crate) fn price_of(bytes: u64) -> i64 {
    i64::try_from(u128::from(bytes) * u128::from(PRICE) / u128::from(GIB)).unwrap()
}

pub(crate) fn edge(n: u8) -> EdgeId {
    PublicKey([0xe0 | n; 32])
}

pub(crate) fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

/// Two edges per operator.
pub(crate) fn operator(n: u8) -> Name {
    name(&format!("op{}", n / 2))
}

pub(crate) fn stream(text: &str) -> StreamId {
    text.parse().unwrap()
}

pub(crate) fn broadcaster() -> Account {
    Account::Broadcaster(name("acme"))
}

pub(crate) fn live(price: u32, budget: i64) -> Terms {
    Terms {
        price: Price(price),
        budget_day: Micros(budget),
        stopped: false,
        kind: Kind::Live { window_ms: 60_000 },
    }
}

pub(crate) struct Viewer {
    pub(crate) session: SessionId,
    pub(crate) secret: SessionSecret,
    pub(crate) stream: StreamId,
}

impl Viewer {
    pub(crate) fn new(n: u8, stream: &StreamId) -> Self {
        let secret = SessionSecret::from_bytes(&[n + 1; 32]).unwrap();
        Self { session: SessionId([n; 16]), secret, stream: stream.clone() }
    }

    pub(crate) fn key(&self) -> SessionKey {
        self.secret.public()
    }

    pub(crate) fn says(&self, edge: EdgeId, payable: u64) -> Voucher {
        Voucher {
            tracker: TRACKER,
            session: self.session,
            edge,
            stream: self.stream.clone(),
            payable,
            received: payable,
            segments: payable / (2 * SECOND),
            rendition: RenditionId(0),
            number: 0,
        }
    }

    pub(crate) fn signs(&self, voucher: Voucher) -> Signed<Voucher> {
        Signed::new(voucher, Context::None, &self.secret)
    }

    pub(crate) fn voucher(&self, edge: EdgeId, payable: u64) -> Signed<Voucher> {
        self.signs(self.says(edge, payable))
    }
}

/// A ledger, the clock it is told, and a store.
pub(crate) struct Stage {
    pub(crate) ledger: Ledger,
    pub(crate) now: WallTime,
    pub(crate) disk: Rows,
    /// Taken and not yet written.
    pub(crate) under_way: Vec<Batch>,
}

impl Stage {
    pub(crate) fn new() -> Self {
        Self { ledger: Ledger::new(TRACKER), now: START, disk: Rows::default(), under_way: Vec::new() }
    }

    /// A funded broadcaster with the stream `demo` that has been live for two minutes.
    pub(crate) fn live(price: u32, funds: i64, budget: i64) -> (Self, StreamId) {
        let mut stage = Self::new();
        let demo = stream("demo");
        stage.fund(funds, "start");
        stage.ledger.set_stream(&demo, &name("acme"), live(price, budget)).unwrap();
        for second in 1..=120 {
            stage.pass(1_000);
            stage.publish(&demo, second * SECOND);
        }
        (stage, demo)
    }

    pub(crate) fn fund(&mut self, amount: i64, id: &str) {
        let id = FundingId::new(id).unwrap();
        drop(self.ledger.fund(&name("acme"), Micros(amount), id, self.now).unwrap());
    }

    pub(crate) fn publish(&mut self, stream: &StreamId, bytes: u64) {
        self.count(1, stream, bytes);
    }

    /// The same by a counter that is not the first.
    pub(crate) fn count(&mut self, run: u8, stream: &StreamId, bytes: u64) {
        let published = Published { run: SessionId([run; 16]), bytes };
        self.ledger.published(stream, published, self.now).unwrap();
    }

    pub(crate) fn pass(&mut self, ms: u64) {
        self.now = self.now.plus_millis(ms);
        self.ledger.tick(self.now);
    }

    pub(crate) fn join(&mut self, n: u8, stream: &StreamId) -> Viewer {
        let viewer = Viewer::new(n, stream);
        let opening = session::Opening {
            session: viewer.session,
            key: viewer.key(),
            stream: stream.clone(),
            expires: self.now.plus_millis(12 * 3_600_000),
        };
        self.ledger.open(opening, self.now).unwrap();
        viewer
    }

    pub(crate) fn grant(&mut self, viewer: &Viewer, n: u8) -> Result<Grant, grant::Refused> {
        let request =
            grant::Request { session: viewer.session, edge: edge(n), operator: operator(n), rate: RATE };
        self.ledger.grant(&request, self.now).map(open)
    }

    pub(crate) fn bring(&mut self, voucher: &Signed<Voucher>) -> Result<Receipt, voucher::Refused> {
        let by = Bringer::Edge(voucher.unverified().edge);
        self.ledger.bring(voucher.clone(), by, self.now).map(open)
    }

    pub(crate) fn balance(&self, account: &Account) -> i64 {
        self.ledger.balance(account).0
    }

    pub(crate) fn reserve(&self, stream: &StreamId) -> i64 {
        self.balance(&Account::Reserve(stream.clone()))
    }

    pub(crate) fn earned(&self, n: u8) -> i64 {
        self.balance(&Account::Operator(operator(n)))
    }

    pub(crate) fn take(&mut self) {
        self.under_way.extend(self.ledger.take_batch(self.now));
    }

    /// Writes what was taken.
    pub(crate) fn write(&mut self) {
        for batch in self.under_way.drain(..) {
            let id = batch.id;
            for transfer in &batch.transfers {
                let sum: i128 = transfer.entries.iter().map(|(_, amount)| i128::from(amount.0)).sum();
                assert_eq!(sum, 0, "{transfer:?}");
                assert!(transfer.entries.iter().all(|(_, amount)| amount.0 != 0));
            }
            self.disk.absorb(batch);
            self.disk.audit().unwrap();
            self.ledger.committed(id);
        }
    }

    pub(crate) fn commit(&mut self) {
        self.take();
        self.write();
    }

    /// Loses everything that was not written.
    pub(crate) fn crash(&mut self) {
        self.under_way.clear();
        self.ledger = Ledger::restore(TRACKER, self.disk.clone()).unwrap();
    }
}

/// Looks into a promise without waiting.
pub(crate) fn open<T>(promised: Promised<T>) -> T {
    promised.release(BatchId(u64::MAX)).unwrap_or_else(|_| unreachable!())
}
