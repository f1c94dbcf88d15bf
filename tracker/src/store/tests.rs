//! The store's tests, on real files.

use std::os::unix::fs::MetadataExt as _;

use millstream_ledger::{
    Kind, Ledger, Name, Rows, Terms, book::FundingId, grant, limits, session, voucher::Bringer,
};
use millstream_model::{BitRate, Micros, Price, PublicKey, RenditionId, SessionId, StreamId, WallTime};
use millstream_service::Secret;
use millstream_wire::{
    session::Voucher,
    sign::{Context, SessionSecret, Signed, Signer as _},
    tracker::Published,
};

use super::*;

fn row(id: &str, key: &str) -> StreamRow {
    StreamRow {
        id: id.parse().unwrap(),
        account: Name::new("acme").unwrap(),
        key_hash: hash_key(key),
        root_seed: Secret::new([5; 32]),
        public: true,
        ticket_key: None,
        generation: 1,
        packager: None,
        created: WallTime(7),
    }
}

#[tokio::test]
async fn nobody_else_can_read_the_database() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).await.unwrap();
    store.add_stream(row("demo", "k1")).await.unwrap();
    for entry in fs::read_dir(folder.path()).unwrap() {
        let entry = entry.unwrap();
        assert_eq!(entry.metadata().unwrap().mode() & 0o777, 0o600, "{:?}", entry.file_name());
    }
    assert!(folder.path().join("tracker.db-wal").exists());
}

#[tokio::test]
async fn streams_come_back_and_neither_name_nor_key_is_taken_twice() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).await.unwrap();
    store.add_stream(row("demo", "k1")).await.unwrap();
    assert!(matches!(store.add_stream(row("demo", "k2")).await, Err(Error::Exists)));
    assert!(matches!(store.add_stream(row("other", "k1")).await, Err(Error::Exists)));
    let newer = StreamRow {
        generation: 5,
        packager: Some(PublicKey([6; 32])),
        public: false,
        ticket_key: Some(PublicKey([4; 32])),
        ..row("demo", "k1")
    };
    store.put_stream(newer.clone()).await.unwrap();
    let older = StreamRow { generation: 3, packager: Some(PublicKey([7; 32])), ..newer.clone() };
    store.put_stream(older).await.unwrap();
    drop(store);
    let store = Store::open(folder.path()).await.unwrap();
    assert_eq!(
        store.streams().await.unwrap(),
        [newer],
        "a generation only goes up, with whom it was given to"
    );
    let demo: StreamId = "demo".parse().unwrap();
    assert!(store.remove_stream(&demo).await.unwrap());
    assert!(!store.remove_stream(&demo).await.unwrap());
    assert_eq!(store.streams().await.unwrap(), []);
}

#[tokio::test]
async fn a_stream_key_is_stored_as_a_hash_alone() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).await.unwrap();
    let key = "hx3l4kfj9s8d7f6g5h4j3k2l1m0";
    store.add_stream(row("demo", key)).await.unwrap();
    drop(store);
    for entry in fs::read_dir(folder.path()).unwrap() {
        let bytes = fs::read(entry.unwrap().path()).unwrap();
        assert!(!bytes.windows(key.len()).any(|window| window == key.as_bytes()));
    }
    assert_eq!(hash_key(key), hash_key(key));
    assert_ne!(hash_key(key), millstream_wire::sign::sha256(key.as_bytes()));
}

#[tokio::test]
async fn a_ticket_is_used_once_also_after_a_restart_and_forgotten_in_time() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).await.unwrap();
    let (demo, other): (StreamId, StreamId) = ("demo".parse().unwrap(), "other".parse().unwrap());
    assert!(store.spend_ticket(&demo, "a", WallTime(300)).await.unwrap());
    assert!(store.spend_ticket(&other, "a", WallTime(300)).await.unwrap());
    assert!(!store.spend_ticket(&demo, "a", WallTime(300)).await.unwrap());
    drop(store);
    let store = Store::open(folder.path()).await.unwrap();
    assert!(!store.spend_ticket(&demo, "a", WallTime(300)).await.unwrap());
    assert!(store.spend_ticket(&demo, "b", WallTime(700)).await.unwrap());
    assert!(!store.prune(WallTime(301)).await.unwrap());
    let left: i64 =
        sqlx::query_scalar("SELECT COUNT(*) FROM tickets").fetch_one(&store.readers).await.unwrap();
    assert_eq!(left, 1);
}

#[tokio::test]
async fn of_one_ticket_used_many_times_at_once_one_wins() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).await.unwrap();
    let mut using = tokio::task::JoinSet::new();
    for _ in 0..50 {
        let store = store.clone();
        let demo: StreamId = "demo".parse().unwrap();
        using.spawn(async move { store.spend_ticket(&demo, "a", WallTime(300)).await.unwrap() });
    }
    assert_eq!(using.join_all().await.into_iter().filter(|won| *won).count(), 1);
}

#[tokio::test]
async fn the_disk_is_asked_for_what_was_promised() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).await.unwrap();
    let mode: String = sqlx::query_scalar("PRAGMA journal_mode").fetch_one(&store.readers).await.unwrap();
    let keys: i64 = sqlx::query_scalar("PRAGMA foreign_keys").fetch_one(&store.readers).await.unwrap();
    let synchronous: i64 = sqlx::query_scalar("PRAGMA synchronous").fetch_one(&store.readers).await.unwrap();
    assert_eq!((mode.as_str(), keys, synchronous), ("wal", 1, 2));
    let written = sqlx::query("DELETE FROM settings").execute(&store.readers).await;
    assert!(written.is_err(), "readers cannot write");
}

#[tokio::test]
async fn a_refused_change_harms_none_that_is_written_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).await.unwrap();
    let mut adding = tokio::task::JoinSet::new();
    for n in 0..100 {
        let store = store.clone();
        // Every other key is taken.
        adding.spawn(
            async move { store.add_stream(row(&format!("s{n}"), &format!("k{}", n / 2))).await.is_ok() },
        );
    }
    let added = adding.join_all().await.into_iter().filter(|ok| *ok).count();
    assert_eq!((added, store.streams().await.unwrap().len()), (50, 50));
}

/// A ledger whose batches go into the database and into the plainest store there is, which must stay the same.
struct Twins {
    ledger: Ledger,
    now: WallTime,
    store: Store,
    plain: Rows,
}

impl Twins {
    async fn compare(&mut self) {
        while let Some(batch) = self.ledger.take_batch(self.now) {
            self.store.commit(batch.clone()).await.unwrap();
            self.plain.absorb(batch);
        }
        let stored = self.store.book(self.now).await.unwrap();
        let mut plain = self.plain.clone();
        plain.epochs_from = stored.epochs_from;
        plain.vouchers.clear();
        plain.balances.retain(|_, balance| *balance != Micros::ZERO);
        plain.streams.retain(|_, row| !row.removed);
        plain.sessions.retain(|_, row| !row.over);
        plain.lanes.retain(|(session, _), _| plain.sessions.contains_key(session));
        plain.epochs.retain(|(epoch, _), _| *epoch >= plain.epochs_from);
        assert_eq!(stored, plain);
        Ledger::restore(self.ledger.tracker(), stored).unwrap();
    }

    fn pass(&mut self, ms: u64) {
        self.now = self.now.plus_millis(ms);
        self.ledger.tick(self.now);
    }

    fn publish(&mut self, run: u8, stream: &StreamId, bytes: u64) {
        let published = Published { run: SessionId([run; 16]), bytes };
        self.ledger.published(stream, published, self.now).unwrap();
    }

    fn join(&mut self, stream: &StreamId, n: u8) {
        let key = SessionSecret::from_bytes(&[n; 32]).unwrap().public();
        let expires = self.now.plus_millis(10 * 3_600_000);
        let opening = session::Opening { session: SessionId([n; 16]), key, stream: stream.clone(), expires };
        self.ledger.open(opening, self.now).unwrap();
    }

    fn grant(&mut self, session: u8, edge: u8) {
        let request = grant::Request {
            session: SessionId([session; 16]),
            edge: PublicKey([edge; 32]),
            operator: Name::new(&format!("op{edge}")).unwrap(),
            rate: BitRate(8_000_000),
        };
        drop(self.ledger.grant(&request, self.now).unwrap());
    }

    /// True when it was believed.
    fn bring(&mut self, stream: &StreamId, session: u8, edge: u8, payable: u64) -> bool {
        let voucher = Voucher {
            tracker: self.ledger.tracker(),
            session: SessionId([session; 16]),
            edge: PublicKey([edge; 32]),
            stream: stream.clone(),
            payable,
            received: payable + payable / 10,
            segments: payable / 1_000_000,
            rendition: RenditionId(0),
            number: payable,
        };
        let secret = SessionSecret::from_bytes(&[session; 32]).unwrap();
        let by = Bringer::Edge(voucher.edge);
        self.ledger.bring(Signed::new(voucher, Context::None, &secret), by, self.now).is_ok()
    }
}

#[tokio::test]
async fn the_database_does_with_batches_what_the_plainest_store_does() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).await.unwrap();
    let ledger = Ledger::new(PublicKey([1; 32]));
    let mut twins = Twins { ledger, now: WallTime(1_800_014_400_000), store, plain: Rows::default() };
    let (demo, film): (StreamId, StreamId) = ("demo".parse().unwrap(), "film".parse().unwrap());
    let acme = Name::new("acme").unwrap();
    let live = Terms {
        price: Price(1_000_000),
        budget_day: Micros(90_000_000),
        stopped: false,
        kind: Kind::Live { window_ms: 60_000 },
    };
    let recorded = Terms { kind: Kind::Recorded { rate: BitRate(8_000_000) }, price: Price(7), ..live };
    for n in 0..3 {
        let id = FundingId::new(&format!("invoice-{n}")).unwrap();
        drop(twins.ledger.fund(&acme, Micros(50_000_000 + n), id, twins.now).unwrap());
        twins.compare().await;
    }
    twins.ledger.set_stream(&demo, &acme, live).unwrap();
    twins.ledger.set_stream(&film, &acme, recorded).unwrap();
    for second in 1..=90_u64 {
        twins.pass(1_000);
        twins.publish(0, &demo, second * 1_000_000);
    }
    twins.compare().await;
    for (stream, session) in [(&demo, 1), (&demo, 2), (&film, 3)] {
        twins.join(stream, session);
        for edge in [8, 9] {
            twins.grant(session, edge);
            assert!(twins.bring(stream, session, edge, 2_000_000));
            twins.compare().await;
            assert!(twins.bring(stream, session, edge, 5_000_000));
            assert!(!twins.bring(stream, session, edge, 900_000_000));
        }
        twins.compare().await;
    }
    // A packager that starts anew, new terms, renewals, the next epoch, the next day.
    for (run, hours) in (1..=12).zip(1..=12_u64) {
        twins.publish(run, &demo, hours);
        twins.pass(1_000);
        twins.publish(run, &demo, 40_000_000 + hours);
        let terms = Terms { price: Price(1_000_000 + 1), stopped: hours == 5, ..live };
        twins.ledger.set_stream(&demo, &acme, terms).unwrap();
        twins.compare().await;
        if hours < 5 {
            twins.grant(1, 8);
            assert!(twins.bring(&demo, 1, 8, 5_000_000 + hours * 4_000_000));
        }
        if hours == 3 {
            assert!(twins.ledger.extend(
                SessionId([1; 16]),
                twins.now.plus_millis(11 * 3_600_000),
                twins.now
            ));
            assert!(twins.ledger.close(SessionId([2; 16]), twins.now));
        }
        twins.compare().await;
        twins.pass(3_600_000);
        twins.compare().await;
    }
    twins.pass(24 * 3_600_000 + limits::VOUCHER_LATE_MS);
    twins.compare().await;
    twins.ledger.remove_stream(&film).unwrap();
    twins.compare().await;
    assert!(twins.plain.sessions.values().all(|row| row.over) && twins.plain.lanes.len() == 6);
    let audit = twins.store.audit().await.unwrap();
    assert!(audit.sound && audit.lanes == 6, "{audit:?}");
}

#[tokio::test]
async fn what_is_old_goes_a_bite_at_a_time() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).await.unwrap();
    let demo: StreamId = "demo".parse().unwrap();
    for n in 0..2 * prune::BITE_ROWS + 1 {
        store.spend_ticket(&demo, &n.to_string(), WallTime(u64::from(n))).await.unwrap();
    }
    let mut bites = 0;
    while store.prune(WallTime(1_000_000)).await.unwrap() {
        bites += 1;
    }
    let left: i64 =
        sqlx::query_scalar("SELECT COUNT(*) FROM tickets").fetch_one(&store.readers).await.unwrap();
    assert_eq!((bites, left), (2, 0));
}
