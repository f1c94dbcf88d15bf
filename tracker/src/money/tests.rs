//! The shell's tests: what is answered is on disk, and what is on disk adds up.

use std::sync::atomic::{AtomicU64, Ordering};

use millstream_ledger::{Kind, limits};
use millstream_model::{Price, PublicKey, RenditionId, SessionKey};
use millstream_service::Tasks;
use millstream_wire::sign::SessionSecret;

use super::*;

const SECOND: u64 = 1_000_000;
const RATE: BitRate = BitRate(8 * SECOND);
const PRICE: u32 = 1_000_000;

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

fn edge(n: u8) -> EdgeId {
    PublicKey([n; 32])
}

fn demo() -> StreamId {
    "demo".parse().unwrap()
}

fn terms() -> Terms {
    Terms {
        price: Price(PRICE),
        budget_day: Micros(1_000_000_000),
        stopped: false,
        kind: Kind::Live { window_ms: 60_000 },
    }
}

struct Viewer {
    session: SessionId,
    secret: SessionSecret,
    tracker: TrackerId,
}

impl Viewer {
    fn says(&self, edge: EdgeId, payable: u64) -> Signed<Voucher> {
        let voucher = Voucher {
            tracker: self.tracker,
            session: self.session,
            edge,
            stream: demo(),
            payable,
            received: payable,
            segments: payable / SECOND,
            rendition: RenditionId(0),
            number: 0,
        };
        Signed::new(voucher, Context::None, &self.secret)
    }

    fn forges(&self, edge: EdgeId, payable: u64) -> Signed<Voucher> {
        let other = SessionSecret::from_bytes(&[99; 32]).unwrap();
        Signed::new(self.says(edge, payable).unverified().clone(), Context::None, &other)
    }

    fn key(&self) -> SessionKey {
        self.secret.public()
    }
}

/// A tracker's money in a folder, which can be closed and opened again.
struct Till {
    folder: tempfile::TempDir,
    time: Arc<AtomicU64>,
}

impl Till {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), time: Arc::new(AtomicU64::new(1_800_014_400_000)) }
    }

    fn pass(&self, ms: u64) {
        self.time.fetch_add(ms, Ordering::Relaxed);
    }

    async fn open(&self) -> (Money, Tasks) {
        let store = Store::open(self.folder.path()).await.unwrap();
        let tasks = Tasks::new();
        let time = Arc::clone(&self.time);
        let clock: Clock = Arc::new(move || WallTime(time.load(Ordering::Relaxed)));
        let key = SecretKey::from_seed(&[3; 32]);
        (Money::open_at(store, key, &tasks, clock).await.unwrap(), tasks)
    }

    /// A stream that has been live for a minute, with plenty of money.
    async fn live(&self) -> (Money, Tasks) {
        let (money, tasks) = self.open().await;
        money.fund(&name("acme"), Micros(1_000_000_000), "first").await.unwrap();
        money.set_stream(&demo(), &name("acme"), terms()).await.unwrap();
        self.publish(&money, 60 * SECOND);
        (money, tasks)
    }

    fn publish(&self, money: &Money, bytes: u64) {
        money.published(&demo(), Published { run: SessionId([1; 16]), bytes }).unwrap();
    }

    fn join(&self, money: &Money, n: u8) -> Viewer {
        let secret = SessionSecret::from_bytes(&[n; 32]).unwrap();
        let viewer = Viewer { session: SessionId([n; 16]), secret, tracker: money.tracker() };
        let expires = WallTime(self.time.load(Ordering::Relaxed)).plus_millis(12 * 3_600_000);
        let opening =
            session::Opening { session: viewer.session, key: viewer.key(), stream: demo(), expires };
        money.open_session(opening).unwrap();
        viewer
    }
}

async fn grant(money: &Money, viewer: &Viewer, n: u8) -> Result<Signed<Grant>, grant::Refused> {
    let operator = name(&format!("op{n}"));
    money.grant(&grant::Request { session: viewer.session, edge: edge(n), operator, rate: RATE }).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_voucher_becomes_money_and_a_receipt() {
    let till = Till::new();
    let (money, tasks) = till.live().await;
    let viewer = till.join(&money, 1);
    let grant = grant(&money, &viewer, 7).await.unwrap();
    let grant = grant.verify(&money.tracker(), Context::None).unwrap();
    assert_eq!((grant.serial, grant.key), (1, viewer.key()));
    let voucher = viewer.says(edge(7), 5 * SECOND);
    let receipt = money.voucher(voucher.clone(), Bringer::Edge(edge(7))).await.unwrap();
    let told = receipt.verify(&money.tracker(), Context::None).unwrap();
    assert_eq!((told.payable, told.voucher), (5 * SECOND, voucher.digest()));
    assert_eq!(told.earned, Price(PRICE).of(5 * SECOND));
    let again = money.voucher(voucher, Bringer::Session(viewer.session)).await.unwrap();
    assert_eq!(again, receipt, "the viewer brings what the edge brought, and hears the same");
    assert_eq!(money.earned(&name("op7")), told.earned);

    let audit = money.verify().await.unwrap();
    assert!(audit.sound, "{audit:?}");
    assert_eq!((audit.sum, audit.earned), (Micros::ZERO, told.earned));
    let epochs = money.store().epochs(&name("op7"), None).await.unwrap();
    let [(_, earned)] = epochs[..] else { panic!("{epochs:?}") };
    assert_eq!((earned.micros, earned.bytes, earned.segments), (told.earned, 5 * SECOND, 5));
    assert!(tasks.shutdown(Duration::from_secs(5)).await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_payout_is_traced_back_to_its_vouchers() {
    let till = Till::new();
    let (money, _tasks) = till.live().await;
    let viewers = [till.join(&money, 1), till.join(&money, 2)];
    for (viewer, bytes) in viewers.iter().zip([3 * SECOND, 4 * SECOND]) {
        grant(&money, viewer, 7).await.unwrap();
        money.voucher(viewer.says(edge(7), SECOND), Bringer::Edge(edge(7))).await.unwrap();
        money.voucher(viewer.says(edge(7), bytes), Bringer::Edge(edge(7))).await.unwrap();
    }
    let operator = name("op7");
    let epochs = money.store().epochs(&operator, None).await.unwrap();
    let [(epoch, sum)] = epochs[..] else { panic!("{epochs:?}") };
    assert_eq!(sum.bytes, 7 * SECOND);
    let lanes = money.store().lanes_of(&operator, epoch, None).await.unwrap();
    assert_eq!(lanes.iter().map(|lane| lane.earned.micros.0).sum::<i64>(), sum.micros.0);
    for (lane, viewer) in lanes.iter().zip(&viewers) {
        let voucher = Signed::<Voucher>::decode(lane.voucher.clone()).unwrap();
        assert_eq!(voucher.verify(&viewer.key(), Context::None).unwrap().payable, lane.payable);
    }
    let rest =
        money.store().lanes_of(&operator, epoch, Some((lanes[0].session, lanes[0].edge))).await.unwrap();
    assert_eq!(rest, lanes[1..]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_goes_on_where_the_disk_is() {
    let till = Till::new();
    let (money, tasks) = till.live().await;
    let viewer = till.join(&money, 1);
    let first = grant(&money, &viewer, 7).await.unwrap();
    money.voucher(viewer.says(edge(7), 5 * SECOND), Bringer::Edge(edge(7))).await.unwrap();
    let forged = viewer.forges(edge(7), 6 * SECOND);
    assert_eq!(money.voucher(forged, Bringer::Edge(edge(7))).await.unwrap_err().code(), "signature");
    let before = money.balances();
    tasks.shutdown(Duration::from_secs(5)).await;
    drop(money);

    let (money, _tasks) = till.open().await;
    assert_eq!(money.balances(), before);
    assert_eq!(money.lanes(viewer.session), [edge(7)]);
    assert_eq!(grant(&money, &viewer, 7).await.unwrap(), first, "byte for byte the grant of before");
    assert_eq!(
        money.fund(&name("acme"), Micros(1_000_000_000), "first").await.unwrap(),
        before_of(&before, "acme")
    );
    assert!(matches!(
        money.fund(&name("acme"), Micros(5), "first").await,
        Err(FundError::Refused(book::Refused::IdTaken(_)))
    ));
    let receipt = money.voucher(viewer.says(edge(7), 9 * SECOND), Bringer::Edge(edge(7))).await.unwrap();
    assert_eq!(receipt.unverified().payable, 9 * SECOND);
    let refusals = money.store().refusals(edge(7), None).await.unwrap();
    assert_eq!(refusals.iter().map(|line| line.code.as_str()).collect::<Vec<_>>(), ["signature"]);
    assert!(money.verify().await.unwrap().sound);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_funding_that_memory_forgot_is_found_on_disk() {
    let till = Till::new();
    let (money, _tasks) = till.live().await;
    let before = money.balance(&Account::Broadcaster(name("acme")));
    for sql in [
        "INSERT INTO transfers VALUES ('fund/old', 'fund', 0, 0)",
        "INSERT INTO entries VALUES ('fund/old', 'external', -5), ('fund/old', 'broadcaster/acme', 5)",
    ] {
        money.store().sabotage(sql).await;
    }
    assert_eq!(money.fund(&name("acme"), Micros(5), "old").await.unwrap(), before);
    for (who, amount) in [("acme", 6), ("other", 5)] {
        let told = money.fund(&name(who), Micros(amount), "old").await;
        assert!(matches!(told, Err(FundError::Refused(book::Refused::IdTaken(_)))), "{told:?}");
    }
    assert!(matches!(money.fund(&name("acme"), Micros(5), "a b").await, Err(FundError::Id(_))));
    assert!(matches!(
        money.fund(&name("acme"), Micros(0), "nothing").await,
        Err(FundError::Refused(book::Refused::Amount(_)))
    ));
}

fn before_of(balances: &[(Account, Micros)], broadcaster: &str) -> Micros {
    let account = Account::Broadcaster(name(broadcaster));
    balances.iter().find(|(known, _)| *known == account).unwrap().1
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reserves_go_back_when_lanes_are_over_and_the_disk_knows() {
    let till = Till::new();
    let (money, tasks) = till.live().await;
    let viewer = till.join(&money, 1);
    grant(&money, &viewer, 7).await.unwrap();
    money.voucher(viewer.says(edge(7), SECOND), Bringer::Edge(edge(7))).await.unwrap();
    assert!(money.spending(&demo()).unwrap().1 > Micros::ZERO);
    assert!(money.close_session(viewer.session));
    assert!(matches!(grant(&money, &viewer, 7).await, Err(grant::Refused::Closed(_))));
    till.pass(limits::GRANT_MS + limits::VOUCHER_LATE_MS + 1);
    money.shared.tick();
    assert_eq!(money.spending(&demo()).unwrap(), (Price(PRICE).of(SECOND), Micros::ZERO));
    assert!(money.verify().await.unwrap().sound);
    money.remove_stream(&demo()).await.unwrap();
    tasks.shutdown(Duration::from_secs(5)).await;
    drop(money);
    let (money, _tasks) = till.open().await;
    assert_eq!(money.terms(&demo()), None);
    assert_eq!(money.earned(&name("op7")), Price(PRICE).of(SECOND));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn removing_a_stream_in_use_stops_it() {
    let till = Till::new();
    let (money, _tasks) = till.live().await;
    let viewer = till.join(&money, 1);
    grant(&money, &viewer, 7).await.unwrap();
    money.remove_stream(&demo()).await.unwrap();
    assert!(matches!(grant(&money, &viewer, 8).await, Err(grant::Refused::Closed(_))));
    money.voucher(viewer.says(edge(7), SECOND), Bringer::Edge(edge(7))).await.unwrap();
    assert_eq!(money.streams(), [demo()]);
    till.pass(limits::GRANT_MS + limits::VOUCHER_LATE_MS + 1);
    money.shared.tick();
    assert_eq!(money.streams(), [], "and it is forgotten once its sessions are settled");
    money.set_stream(&demo(), &name("other"), terms()).await.expect("its name is free");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_was_removed_and_made_again_stays() {
    let till = Till::new();
    let (money, _tasks) = till.live().await;
    let viewer = till.join(&money, 1);
    grant(&money, &viewer, 7).await.unwrap();
    money.remove_stream(&demo()).await.unwrap();
    money.set_stream(&demo(), &name("acme"), terms()).await.unwrap();
    till.pass(limits::GRANT_MS + limits::VOUCHER_LATE_MS + 1);
    money.shared.tick();
    assert_eq!(money.streams(), [demo()]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn old_rows_go_in_bites_and_the_book_stays_whole() {
    let till = Till::new();
    let (money, tasks) = till.live().await;
    for n in 1..=3 {
        let viewer = till.join(&money, n);
        grant(&money, &viewer, 7).await.unwrap();
        money.voucher(viewer.says(edge(7), 5 * SECOND), Bringer::Edge(edge(7))).await.unwrap();
        money.voucher(viewer.forges(edge(7), 6 * SECOND), Bringer::Edge(edge(7))).await.unwrap_err();
        assert!(money.close_session(viewer.session));
    }
    till.pass(limits::GRANT_MS + limits::VOUCHER_LATE_MS + 1);
    money.shared.tick();
    let before = money.verify().await.unwrap();
    assert!(before.sound && before.lanes == 3, "{before:?}");
    assert_eq!(money.store().refusals(edge(7), None).await.unwrap().len(), 3);
    assert!(!money.shared.prune().await);
    assert_eq!(money.verify().await.unwrap(), before, "nothing is old yet");
    till.pass(store::prune::DETAILS_KEPT_MS + 13 * 3_600_000);
    assert!(!money.shared.prune().await);
    let after = money.verify().await.unwrap();
    assert!(after.sound && after.lanes == 0, "{after:?}");
    assert_eq!(after.transfers, 2, "the funding, and one for all the others");
    assert_eq!((after.earned, after.sum), (before.earned, before.sum));
    assert!(money.store().refusals(edge(7), None).await.unwrap().is_empty());
    let epochs = money.store().epochs(&name("op7"), None).await.unwrap();
    assert_eq!(epochs.iter().map(|(_, earned)| earned.micros).collect::<Vec<_>>(), [after.earned]);
    // Robbing an operator shows all the same.
    money.store().sabotage("UPDATE pruned SET paid = paid - 1").await;
    assert!(!money.verify().await.unwrap().sound);
    money.store().sabotage("UPDATE pruned SET paid = paid + 1").await;
    tasks.shutdown(Duration::from_secs(5)).await;
    drop(money);
    let (money, _tasks) = till.open().await;
    assert_eq!(money.earned(&name("op7")), before.earned);
    assert!(money.verify().await.unwrap().sound);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_at_once_share_commits_and_all_are_paid_once() {
    let till = Till::new();
    let (money, _tasks) = till.live().await;
    let viewers: Vec<_> = (1..=20).map(|n| Arc::new(till.join(&money, n))).collect();
    for viewer in &viewers {
        grant(&money, viewer, 7).await.unwrap();
        grant(&money, viewer, 8).await.unwrap();
    }
    let before = money.shared.durable.borrow().durable;
    let mut bringing = tokio::task::JoinSet::new();
    for viewer in &viewers {
        for step in 1..=5 {
            for (n, by) in [(7, Bringer::Edge(edge(7))), (8, Bringer::Session(viewer.session))] {
                let (money, viewer) = (money.clone(), Arc::clone(viewer));
                bringing.spawn(async move {
                    let receipt = money.voucher(viewer.says(edge(n), step * SECOND), by).await.unwrap();
                    assert!(receipt.unverified().payable >= step * SECOND);
                });
            }
        }
    }
    bringing.join_all().await;
    let batches = money.shared.durable.borrow().durable.0 - before.0;
    assert!(batches < 200, "{batches} commits for 200 vouchers");
    let each = Price(PRICE).of(5 * SECOND).0;
    assert_eq!((money.earned(&name("op7")).0, money.earned(&name("op8")).0), (20 * each, 20 * each));
    let audit = money.verify().await.unwrap();
    assert!(audit.sound, "{audit:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_the_disk_fails_nobody_is_answered_and_the_program_ends() {
    let till = Till::new();
    let (money, tasks) = till.live().await;
    let viewer = till.join(&money, 1);
    grant(&money, &viewer, 7).await.unwrap();
    money.store().sabotage("DROP TABLE vouchers").await;
    let now = WallTime(till.time.load(Ordering::Relaxed));
    let before = money.store().book(now).await.unwrap();
    let told = money.voucher(viewer.says(edge(7), SECOND), Bringer::Edge(edge(7))).await;
    assert_eq!(told, Err(voucher::Refused::Unavailable));
    assert_eq!(tasks.lost().await.0, "book");
    let after = money.store().book(now).await.unwrap();
    assert_eq!(after, before, "of a batch that cannot be written whole, nothing is");
    assert_eq!(grant(&money, &viewer, 8).await, Err(grant::Refused::Unavailable));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_book_that_was_tampered_with_is_not_opened_and_an_audit_says_where() {
    let till = Till::new();
    let (money, tasks) = till.live().await;
    let viewer = till.join(&money, 1);
    grant(&money, &viewer, 7).await.unwrap();
    money.voucher(viewer.says(edge(7), 5 * SECOND), Bringer::Edge(edge(7))).await.unwrap();
    let tampering = [
        ("UPDATE accounts SET balance = balance + 1 WHERE account = 'operator/op7'", "a balance is not"),
        ("UPDATE entries SET amount = amount + 1 WHERE account = 'operator/op7'", "entries do not sum"),
        ("UPDATE lanes SET paid = paid + 1", "a lane is not paid"),
        ("UPDATE lanes SET reserved = reserved + 1", "a reserve is not"),
        ("UPDATE vouchers SET micros = micros + 1", "an epoch is not"),
        ("UPDATE sessions SET payable = payable + 1", "a session is not"),
        ("INSERT INTO transfers VALUES ('fund/x', 'fund', 1, 1)", "has no entries"),
    ];
    for (sql, finding) in tampering {
        money.store().sabotage(sql).await;
        let audit = money.verify().await.unwrap();
        assert!(audit.findings.iter().any(|found| found.contains(finding)), "{sql}: {audit:?}");
    }
    tasks.shutdown(Duration::from_secs(5)).await;
    let store = Store::open(till.folder.path()).await.unwrap();
    let opened = Money::open(store, SecretKey::from_seed(&[3; 32]), &Tasks::new()).await;
    assert!(matches!(opened.err(), Some(Error::Damaged(_))));
}
