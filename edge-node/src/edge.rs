//! The edge put together: everything bound in the right order, then driven until it is told to stop.

use std::{
    collections::BTreeMap,
    fmt,
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use anyhow::Context as _;
use millstream_datachannel::{Listener, listen};
use millstream_lane::Reach;
use millstream_model::{BitRate, EdgeId, SessionId, TrackerId};
use millstream_service::{Spawner, Tasks, Trust, data::Folder, exit, ops, ops::Gate, tasks::Lost};
use millstream_wire::{
    frame::{Frame, Reason},
    sign::Signer as _,
    tracker::{EdgeAddress, FromEdge, SOCKETS_MAX},
};
use tokio::sync::{Notify, watch};

use crate::{
    clock::Clock,
    config::Config,
    identity::{self, Identity},
    ledger::Ledger,
    link,
    metrics::{Metrics, gauge},
    nat::{self, Nat},
    outgoing::{AsItIs, Outgoing},
    roster::Roster,
    status::{self, Status},
    store::Store,
    viewer,
};

/// An origin that cannot be connected to in this time is tried again.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// Connections beyond the viewers that are counted: those that are told that there is no room.
const SPARE_CONNECTIONS: usize = 32;

/// What the last vouchers, their receipts and the last look at the disk may take after the viewers have gone.
const FAREWELL: Duration = Duration::from_secs(6);

/// What all tasks of an edge share.
pub(crate) struct Shared {
    pub(crate) config: Config,
    pub(crate) folder: Arc<Folder>,
    pub(crate) identity: Identity,
    pub(crate) nat: Nat,
    pub(crate) tasks: Spawner,
    pub(crate) clock: Arc<Clock>,
    pub(crate) store: Arc<Store>,
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) roster: Roster,
    pub(crate) metrics: Metrics,
    pub(crate) outgoing: Arc<dyn Outgoing>,
    pub(crate) trust: Trust,
    pub(crate) gate: Gate,
    /// Whose grants are honoured; none before the first meeting.
    pub(crate) tracker: watch::Sender<Option<TrackerId>>,
    pub(crate) reach: watch::Sender<Reach>,
    /// A lane has ended: its voucher is brought at once.
    pub(crate) bring: Notify,
    /// The last viewer has gone, and none will come.
    pub(crate) emptied: Notify,
    pub(crate) viewers: AtomicUsize,
    /// What is sent at the moment.
    pub(crate) sending: Mutex<BitRate>,
    /// Lanes that ended with a reason: refused by us, left by the viewer.
    pub(crate) endings: Mutex<BTreeMap<(bool, String), u64>>,
}

impl Shared {
    pub(crate) fn drain_time(&self) -> Duration {
        Duration::from_millis(self.config.drain_ms)
    }

    /// A lane ended with a reason.
    pub(crate) fn closed(&self, session: Option<SessionId>, reason: Reason, text: &str, by_viewer: bool) {
        let name = format!("{reason:?}").to_lowercase();
        let session = session.map(tracing::field::display);
        if by_viewer {
            tracing::info!(session, reason = name, text, "a viewer left with a reason");
            self.metrics.left.with_label_values(&[&name]).inc();
        } else {
            tracing::info!(session, reason = name, text, "lane refused");
            self.metrics.refused.with_label_values(&[&name]).inc();
        }
        let mut endings = self.endings.lock().unwrap_or_else(PoisonError::into_inner);
        *endings.entry((by_viewer, name)).or_default() += 1;
    }

    /// What the tracker is told every few seconds. `sent` is what was told before, and when.
    pub(crate) fn status(&self, sent: &mut (u64, tokio::time::Instant)) -> FromEdge {
        let (before, at) = *sent;
        *sent = (self.metrics.sent_bytes.get(), tokio::time::Instant::now());
        let millis = u64::try_from(at.elapsed().as_millis()).unwrap_or(u64::MAX).max(1);
        let bits = sent.0.saturating_sub(before).saturating_mul(8_000) / millis;
        *self.sending.lock().unwrap_or_else(PoisonError::into_inner) = BitRate(bits);
        FromEdge::Status {
            viewers: u32::try_from(self.viewers.load(Ordering::Relaxed)).unwrap_or(u32::MAX),
            sending: BitRate(bits),
            warm: self.store.cache().warm().cloned().collect(),
        }
    }
}

/// Where an edge is reached, and what it is known by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Addresses {
    /// The edge.
    pub id: EdgeId,
    /// The UDP socket for viewers.
    pub udp: SocketAddr,
    /// What the tracker hands out; behind NAT, before it is known where the edge is seen.
    pub public: EdgeAddress,
    /// The ops listener.
    pub ops: SocketAddr,
}

/// An edge that listens.
pub struct Edge {
    tasks: Tasks,
    listener: Listener,
    ops: ops::Listener,
    shared: Arc<Shared>,
    wanted: tokio::sync::mpsc::Receiver<millstream_model::StreamId>,
    addresses: Addresses,
}

impl fmt::Debug for Edge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Edge").field("addresses", &self.addresses).finish_non_exhaustive()
    }
}

impl Edge {
    /// Opens the data folder, makes keys the first time, and binds everything. Nobody is served before
    /// [`Self::run`], but whoever connects waits for it.
    ///
    /// # Errors
    /// When something is not as it must be; the text says what to do.
    pub async fn load(config: Config) -> anyhow::Result<Self> {
        Self::load_with(config, Arc::new(AsItIs)).await
    }

    /// [`Self::load`], with a last look at each piece that leaves.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub async fn load_with(config: Config, outgoing: Arc<dyn Outgoing>) -> anyhow::Result<Self> {
        link::url(&config.tracker)?;
        nat::check(&config)?;
        let trust = Trust::load(&config.trust)?;
        let clock = Arc::new(Clock::new());
        let folder = Arc::new(Folder::open(&config.data)?);
        let identity = Identity::load(&folder)?;
        let ledger = Arc::new(Ledger::open(Arc::clone(&folder), Arc::clone(&clock))?);
        let ops = ops::Listener::bind(&config.ops, "edge", env!("CARGO_PKG_VERSION")).await?;
        let metrics = Metrics::register(ops.registry())?;
        let gate = ops.gate("tracker", "not registered yet");
        let listener = listen(&config, &identity)?;
        let sockets = sockets(&config, listener.local_addr()).await?;
        let address = EdgeAddress {
            sockets,
            ufrag: identity.ufrag.clone(),
            password: identity.password.clone(),
            fingerprint: identity.certificate.fingerprint(),
            behind_nat: config.behind_nat,
            stun: Vec::new(),
        };
        let tasks = Tasks::new();
        let limits = millstream_cache::Limits {
            bytes_max: config.cache.bytes_max,
            streams_max: config.cache.streams_max,
            linger: Duration::from_millis(config.cache.linger_ms),
            ..millstream_cache::Limits::default()
        };
        let http = reqwest::Client::builder()
            .tls_backend_preconfigured(trust.http())
            .connect_timeout(CONNECT_TIMEOUT)
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("millstream-edge/", env!("CARGO_PKG_VERSION")))
            .build()
            .context("no HTTP client")?;
        let (store, wanted) = Store::new(limits, Arc::clone(&clock), http, metrics.clone(), tasks.spawner());
        let tracker = match config.tracker_key {
            Some(key) => Some(key),
            None => identity::last_tracker(&folder)?,
        };
        let addresses = Addresses {
            id: identity.key.public(),
            udp: listener.local_addr(),
            public: address.clone(),
            ops: ops.address(),
        };
        let shared = Arc::new(Shared {
            config,
            folder,
            identity,
            nat: Nat::new(listener.traversal(), address),
            tasks: tasks.spawner(),
            clock,
            store,
            ledger,
            roster: Roster::default(),
            metrics,
            outgoing,
            trust,
            gate,
            tracker: watch::Sender::new(tracker),
            reach: watch::Sender::new(Reach::Out),
            bring: Notify::new(),
            emptied: Notify::new(),
            viewers: AtomicUsize::new(0),
            sending: Mutex::new(BitRate(0)),
            endings: Mutex::default(),
        });
        Ok(Self { tasks, listener, ops, shared, wanted, addresses })
    }

    /// Where it is reached, and what it is known by.
    #[must_use]
    pub const fn addresses(&self) -> &Addresses {
        &self.addresses
    }

    /// How it goes, for whoever runs in the same process: what `/v1/status` tells.
    pub fn status(&self) -> impl Fn() -> Status + Send + Sync + 'static {
        let shared = Arc::clone(&self.shared);
        move || Status::of(&shared)
    }

    /// Serves until `shutdown`, then drains: the tracker sends nobody any more, viewers move elsewhere, the last
    /// vouchers are brought.
    ///
    /// # Errors
    /// When it cannot go on, drained all the same.
    pub async fn run(self, shutdown: impl Future<Output = ()> + Send) -> Result<(), Lost> {
        let Self { tasks, listener, ops, shared, wanted, addresses } = self;
        status::routes(ops, &shared).serve(&tasks);
        tasks.spawn_vital("tracker link", link::keep(Arc::clone(&shared), wanted, tasks.drain()));
        if shared.config.behind_nat {
            tasks.spawn_until_drain("nat", nat::keep(Arc::clone(&shared)));
        }
        tasks.spawn_until_drain("book", Arc::clone(&shared.ledger).keep(shared.metrics.clone()));
        let tidy = tasks.spawn_owned("tidy", Arc::clone(&shared.store).keep_tidy());
        let serve = serve(listener, Arc::clone(&shared), tasks.spawner(), tasks.drain());
        tasks.spawn_vital("accept", serve);
        tracing::info!(edge = %addresses.id, udp = %addresses.udp, ops = %addresses.ops, "edge is ready");
        let outcome = tokio::select! {
            () = shutdown => Ok(()),
            lost = tasks.lost() => Err(lost),
        };
        tasks.begin_drain();
        let gone = async {
            while shared.viewers.load(Ordering::Relaxed) > 0 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        // A viewer's own task ends at that time; this is for the time it takes to say so.
        let _ = tokio::time::timeout(shared.drain_time() + Duration::from_secs(1), gone).await;
        drop(tidy);
        shared.store.close();
        shared.emptied.notify_one();
        tasks.shutdown(FAREWELL).await;
        if let Err(error) = shared.ledger.write() {
            tracing::error!("the vouchers cannot be kept on disk: {error:#}");
        }
        outcome
    }
}

async fn serve(
    mut listener: Listener,
    shared: Arc<Shared>,
    tasks: Spawner,
    drain: millstream_service::tasks::Drain,
) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = drain.begun() => break,
        };
        let Some(connection) = accepted else { return };
        let viewers = shared.viewers.fetch_add(1, Ordering::Relaxed) + 1;
        let counted = Counted(Arc::clone(&shared));
        shared.metrics.viewers.set(gauge(viewers));
        if viewers > usize::try_from(shared.config.viewers_max).unwrap_or(usize::MAX) {
            let text = String::from("this edge has as many viewers as it takes");
            let refusal = Frame::Refuse { reason: Reason::Full, text: text.clone() }.encode();
            let _ = connection.try_send(millstream_datachannel::Channel::Control, refusal);
            connection.close();
            shared.closed(None, Reason::Full, &text, false);
            continue;
        }
        let (shared, drain) = (Arc::clone(&shared), drain.clone());
        tasks.spawn("viewer", async move {
            let _counted = counted;
            viewer::serve(shared, connection, drain).await;
        });
    }
    // The listener's end closes every connection: it lives until the viewers have gone.
    while shared.viewers.load(Ordering::Relaxed) > 0 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    listener.close().await;
}

/// One viewer among those that are counted.
struct Counted(Arc<Shared>);

impl Drop for Counted {
    fn drop(&mut self) {
        let before = self.0.viewers.fetch_sub(1, Ordering::Relaxed);
        self.0.metrics.viewers.set(gauge(before.saturating_sub(1)));
    }
}

fn listen(config: &Config, identity: &Identity) -> anyhow::Result<Listener> {
    let made = listen::Config::new(config.listen, identity.certificate.clone())?;
    let viewers = usize::try_from(config.viewers_max).unwrap_or(usize::MAX);
    let cores = match config.cores {
        0 => std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        cores => usize::from(cores),
    };
    let listener = Listener::bind(listen::Config {
        cores,
        ufrag: identity.ufrag.clone(),
        password: identity.password.clone(),
        connections_max: viewers.saturating_add(SPARE_CONNECTIONS),
        send_bytes_max: config.send_bytes_max,
        ..made
    });
    listener.map_err(|error| exit::cannot_listen(config.listen, &error)).context("UDP, for viewers")
}

/// What viewers are told. Behind NAT it may be nothing yet.
async fn sockets(config: &Config, local: SocketAddr) -> anyhow::Result<Vec<SocketAddr>> {
    if config.public.len() > SOCKETS_MAX {
        anyhow::bail!("`public` names {} addresses; {SOCKETS_MAX} are allowed", config.public.len());
    }
    if !config.public.is_empty() {
        return Ok(config.public.clone());
    }
    if !local.ip().is_unspecified() {
        return Ok(vec![local]);
    }
    let own = link::own_address(&config.tracker, local).await;
    match own {
        Ok(own) => Ok(vec![SocketAddr::new(own, local.port())]),
        Err(_) if config.behind_nat => Ok(Vec::new()),
        Err(error) => {
            Err(error.context("which address viewers reach this edge by is not known: set `public`"))
        }
    }
}
