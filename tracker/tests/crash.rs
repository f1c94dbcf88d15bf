//! What was acknowledged survives SIGKILL: a child process books and says so; it is killed at any moment; the book it
//! leaves behind holds all it said, and adds up.
//!
//! The child is this same program, running [`the_child_that_is_killed`] alone.

#[cfg(test)]
mod crash {
    use std::{
        io::Write as _,
        path::Path,
        process::Stdio,
        sync::Arc,
        time::{Duration, SystemTime, UNIX_EPOCH},
    };

    use millstream_ledger::{Kind, Name, Terms, grant, session, voucher::Bringer};
    use millstream_model::{
        BitRate, EdgeId, Micros, Price, PublicKey, RenditionId, SessionId, StreamId, WallTime,
    };
    use millstream_service::Tasks;
    use millstream_tracker::{money::Money, store::Store};
    use millstream_wire::{
        session::Voucher,
        sign::{Context, SecretKey, SessionSecret, Signed, Signer as _},
    };
    use tokio::io::{AsyncBufReadExt as _, BufReader};

    const FOLDER: &str = "MILLSTREAM_TEST_CRASH_FOLDER";
    const ROUND: &str = "MILLSTREAM_TEST_CRASH_ROUND";
    const ROUNDS: u8 = 8;
    const VIEWERS: u8 = 6;

    fn film() -> StreamId {
        "film".parse().unwrap()
    }

    fn acme() -> Name {
        Name::new("acme").unwrap()
    }

    fn edge(n: u8) -> EdgeId {
        PublicKey([n; 32])
    }

    fn secret(round: u8, n: u8) -> SessionSecret {
        SessionSecret::from_bytes(&[1 + round * VIEWERS + n; 32]).unwrap()
    }

    fn session(round: u8, n: u8) -> SessionId {
        SessionId([1 + round * VIEWERS + n; 16])
    }

    fn voucher(money: &Money, round: u8, n: u8, payable: u64) -> Signed<Voucher> {
        let voucher = Voucher {
            tracker: money.tracker(),
            session: session(round, n),
            edge: edge(n % 3),
            stream: film(),
            payable,
            received: payable,
            segments: 0,
            rendition: RenditionId(0),
            number: 0,
        };
        Signed::new(voucher, Context::None, &secret(round, n))
    }

    async fn open(folder: &Path, tasks: &Tasks) -> Money {
        let store = Store::open(folder).await.unwrap();
        Money::open(store, SecretKey::from_seed(&[3; 32]), tasks).await.unwrap()
    }

    fn say(line: &str) {
        let mut out = std::io::stdout().lock();
        writeln!(out, "{line}").unwrap();
        out.flush().unwrap();
    }

    /// Books until it is killed, and says what was acknowledged.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    #[ignore = "run by the test below, in a process of its own"]
    async fn the_child_that_is_killed() {
        // Nobody's child: somebody asked for all ignored tests.
        let Ok(folder) = std::env::var(FOLDER) else { return };
        let round: u8 = std::env::var(ROUND).unwrap().parse().unwrap();
        let tasks = Tasks::new();
        let money = open(Path::new(&folder), &tasks).await;
        // A recording of a terabit: nothing here is about the honest bound.
        let kind = Kind::Recorded { rate: BitRate(1_000_000_000_000) };
        let terms = Terms { price: Price(1_000_000), budget_day: Micros(i64::MAX), stopped: false, kind };
        money.fund(&acme(), Micros(10_000_000_000), &format!("first-{round}")).await.unwrap();
        money.set_stream(&film(), &acme(), terms).await.unwrap();
        let mut work = tokio::task::JoinSet::new();
        for n in 0..VIEWERS {
            let money = money.clone();
            work.spawn(async move { watch(&money, round, n).await });
        }
        let funds = money.clone();
        work.spawn(async move {
            for n in 0_u32.. {
                let id = format!("invoice-{round}-{n}");
                funds.fund(&acme(), Micros(i64::from(n) + 1), &id).await.unwrap();
                say(&format!("fund {id} {}", n + 1));
            }
        });
        work.join_all().await;
    }

    async fn watch(money: &Money, round: u8, n: u8) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis();
        let expires = WallTime(u64::try_from(now).unwrap() + 3_600_000);
        let opening = session::Opening {
            session: session(round, n),
            key: secret(round, n).public(),
            stream: film(),
            expires,
        };
        money.open_session(opening).unwrap();
        let request = grant::Request {
            session: session(round, n),
            edge: edge(n % 3),
            operator: Name::new(&format!("op{}", n % 3)).unwrap(),
            rate: BitRate(8_000_000),
        };
        for step in 1_u64.. {
            let grant = money.grant(&request).await.unwrap();
            let payable = step * 1_000_003;
            if payable > grant.unverified().cap_bytes {
                return;
            }
            let receipt =
                money.voucher(voucher(money, round, n, payable), Bringer::Edge(edge(n % 3))).await.unwrap();
            let receipt = receipt.unverified();
            say(&format!("voucher {n} {} {}", receipt.payable, receipt.earned.0));
        }
    }

    /// Runs a child and kills it some time after its first word. Gives its words.
    async fn run_and_kill(folder: &Path, round: u8, after: Duration) -> Vec<String> {
        let mut child = tokio::process::Command::new(std::env::current_exe().unwrap())
            .args(["crash::the_child_that_is_killed", "--exact", "--ignored", "--nocapture"])
            .env(FOLDER, folder)
            .env(ROUND, round.to_string())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut said = Vec::new();
        let is_word = |line: &String| line.starts_with("fund ") || line.starts_with("voucher ");
        while let Some(line) = lines.next_line().await.unwrap() {
            if is_word(&line) {
                said.push(line);
                break;
            }
        }
        let _ = tokio::time::timeout(after, async {
            while let Some(line) = lines.next_line().await.unwrap() {
                said.push(line);
            }
        })
        .await;
        // SIGKILL on Unix.
        child.kill().await.unwrap();
        while let Some(line) = lines.next_line().await.unwrap() {
            said.push(line);
        }
        said.retain(is_word);
        said
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_was_acknowledged_survives_sigkill() {
        let folder = tempfile::tempdir().unwrap();
        let (mut funds, mut vouchers) = (0, 0);
        for round in 0..ROUNDS {
            // Not the same in any two runs; the text of a failure holds what was said.
            let chance =
                u64::from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().subsec_micros()) % 400;
            let said = run_and_kill(folder.path(), round, Duration::from_millis(20 + chance)).await;
            let tasks = Tasks::new();
            let money = Arc::new(open(folder.path(), &tasks).await);
            let audit = money.verify().await.unwrap();
            assert!(audit.sound, "round {round}: {audit:?}");
            for word in &said {
                let words: Vec<&str> = word.split(' ').collect();
                match words[..] {
                    ["fund", id, amount] => {
                        let known = money.store().funding(&id.parse().unwrap()).await.unwrap();
                        let (account, booked) = known.unwrap_or_else(|| panic!("{word} is lost"));
                        assert_eq!(
                            (account.to_string().as_str(), booked.0),
                            ("broadcaster/acme", amount.parse().unwrap())
                        );
                        funds += 1;
                    }
                    ["voucher", n, payable, earned] => {
                        let (n, payable): (u8, u64) = (n.parse().unwrap(), payable.parse().unwrap());
                        let again = voucher(&money, round, n, payable);
                        let receipt =
                            money.voucher(again, Bringer::Session(session(round, n))).await.unwrap();
                        let receipt = receipt.unverified();
                        assert!(
                            receipt.payable >= payable && receipt.earned.0 >= earned.parse().unwrap(),
                            "{word}"
                        );
                        vouchers += 1;
                    }
                    _ => panic!("{word}"),
                }
            }
            assert!(money.verify().await.unwrap() == audit, "bringing again what was booked moves nothing");
            tasks.shutdown(Duration::from_secs(5)).await;
        }
        assert!(funds > 20 && vouchers > 20, "the children did work: {funds} fundings, {vouchers} vouchers");
    }
}
