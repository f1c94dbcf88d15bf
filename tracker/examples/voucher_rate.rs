//! How many vouchers a second the book takes: signature checks, commits and fsync included.
//!
//! ```text
//! cargo run --release -p millstream-tracker --example voucher_rate [folder]
//! ```
//!
//! Give a folder on the disk that you mean; the default is the temporary folder, which may be memory.

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::Context as _;
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
use tokio::task::JoinSet;

/// Sessions, with two lanes each.
const SESSIONS: u16 = 500;

/// Vouchers per lane in each measurement.
const STEPS: u64 = 4;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let folder = std::env::args().nth(1).map_or_else(std::env::temp_dir, PathBuf::from);
    let folder = folder.join(format!("voucher-rate-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let result = measure(&folder).await;
    std::fs::remove_dir_all(&folder)?;
    result
}

async fn measure(folder: &std::path::Path) -> anyhow::Result<()> {
    let tasks = Tasks::new();
    let store = Store::open(folder).await?;
    let money = Money::open(store, SecretKey::from_seed(&[3; 32]), &tasks).await?;
    let film: StreamId = "film".parse()?;
    let acme = Name::new("acme")?;
    let kind = Kind::Recorded { rate: BitRate(1_000_000_000_000) };
    let terms = Terms { price: Price(1_000_000), budget_day: Micros(i64::MAX), stopped: false, kind };
    money.fund(&acme, Micros(1_000_000_000_000), "first").await?;
    money.set_stream(&film, &acme, terms).await?;

    let opening = Instant::now();
    let mut viewers = JoinSet::new();
    for n in 1..=SESSIONS {
        let (money, film) = (money.clone(), film.clone());
        viewers.spawn(async move { Viewer::join(money, film, n).await });
    }
    let viewers: Vec<Arc<Viewer>> =
        viewers.join_all().await.into_iter().map(|viewer| viewer.map(Arc::new)).collect::<Result<_, _>>()?;
    let joins = f64::from(SESSIONS) / opening.elapsed().as_secs_f64();
    println!("joins with two grants each: {joins:.0} a second");

    println!("{:>10} {:>14} {:>10} {:>10}", "at a time", "vouchers/s", "p50 ms", "p99 ms");
    for (round, at_a_time) in (0_u64..).zip([1, 8, 64, 256, 1_000]) {
        let said: Vec<_> = viewers
            .iter()
            .flat_map(|viewer| (1..=STEPS).flat_map(move |step| viewer.say(round * STEPS + step)))
            .collect();
        let said = if at_a_time == 1 { said[..200].to_vec() } else { said };
        let (rate, mut times) = bring(&money, said, at_a_time).await?;
        times.sort_unstable();
        let at = |percent: usize| times[times.len() * percent / 100].as_secs_f64() * 1_000.0;
        println!("{at_a_time:>10} {rate:>14.0} {:>10.2} {:>10.2}", at(50), at(99));
    }
    let audit = Instant::now();
    let found = money.verify().await?;
    anyhow::ensure!(found.sound, "{found:?}");
    println!("audit of {} transfers and {} lanes: {:?}", found.transfers, found.lanes, audit.elapsed());
    tasks.shutdown(Duration::from_secs(5)).await;
    Ok(())
}

/// Brings all vouchers, `at_a_time` of them under way.
async fn bring(
    money: &Money,
    said: Vec<Signed<Voucher>>,
    at_a_time: usize,
) -> anyhow::Result<(f64, Vec<Duration>)> {
    let count = u32::try_from(said.len())?;
    let places = Arc::new(tokio::sync::Semaphore::new(at_a_time));
    let start = Instant::now();
    let mut under_way = JoinSet::new();
    for voucher in said {
        let place = Arc::clone(&places).acquire_owned().await?;
        let money = money.clone();
        under_way.spawn(async move {
            let start = Instant::now();
            let by = Bringer::Edge(voucher.unverified().edge);
            let result = money.voucher(voucher, by).await;
            drop(place);
            result.map(|_| start.elapsed())
        });
    }
    let times = under_way.join_all().await.into_iter().collect::<Result<Vec<_>, _>>()?;
    Ok((f64::from(count) / start.elapsed().as_secs_f64(), times))
}

struct Viewer {
    money: Money,
    film: StreamId,
    session: SessionId,
    secret: SessionSecret,
}

impl Viewer {
    async fn join(money: Money, film: StreamId, n: u16) -> anyhow::Result<Self> {
        let mut bytes = [1; 32];
        bytes[..2].copy_from_slice(&n.to_be_bytes());
        let secret = SessionSecret::from_bytes(&bytes).context("no key")?;
        let mut session = [0; 16];
        session[..2].copy_from_slice(&n.to_be_bytes());
        let viewer = Self { money, film, session: SessionId(session), secret };
        let now = u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis())?;
        viewer.money.open_session(session::Opening {
            session: viewer.session,
            key: viewer.secret.public(),
            stream: viewer.film.clone(),
            expires: WallTime(now + 3_600_000),
        })?;
        for edge in [Self::edge(0), Self::edge(1)] {
            let operator = Name::new(&edge.to_string())?;
            let request =
                grant::Request { session: viewer.session, edge, operator, rate: BitRate(8_000_000) };
            viewer.money.grant(&request).await?;
        }
        Ok(viewer)
    }

    fn edge(n: u8) -> EdgeId {
        PublicKey([n; 32])
    }

    /// One voucher per lane.
    fn say(&self, step: u64) -> [Signed<Voucher>; 2] {
        [0, 1].map(|n| {
            let payable = step * 1_000_003;
            let voucher = Voucher {
                tracker: self.money.tracker(),
                session: self.session,
                edge: Self::edge(n),
                stream: self.film.clone(),
                payable,
                received: payable,
                segments: 0,
                rendition: RenditionId(0),
                number: 0,
            };
            Signed::new(voucher, Context::None, &self.secret)
        })
    }
}
