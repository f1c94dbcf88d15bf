//! The packager put together: everything bound in the right order, then driven until it is told to stop.

use std::{future::Future, net::SocketAddr, sync::Arc, time::Duration};

use anyhow::Context as _;
use millstream_model::{PublicKey, StreamId};
use millstream_service::{Tasks, Trust, data::Folder, http as http_service, ops, tasks::Lost};
use millstream_wire::{
    sign::{SecretKey, Signed, Signer as _},
    tracker::State,
};
use serde::Serialize;
use tokio::net::TcpListener;
use tracing::{info, warn};

use crate::{
    clock::Clock,
    config::Config,
    events::{Couriers, Herald},
    gate::{Gate, Judge, Local, Tracker},
    ingest::{Publishes, Reception, Server, pull, srt, whip},
    keep::{self, Keeper, store::Store},
    metrics::{Gauges, Metrics},
    origin::{Origin, SessionBytes},
    pipeline::Pipelines,
    policy::Policies,
    renditions::Ladders,
    report,
    sequence::Generations,
    stream::{Stream, life::Means},
    streams::Streams,
};

/// The packager's own key in the data folder.
const KEY_FILE: &str = "packager.key";

/// The root key of a packager without a tracker.
const ROOT_FILE: &str = "root.key";

/// How often what was allowed and never used is forgotten.
const TIDY_EVERY: Duration = Duration::from_secs(10);

/// What webhooks get at the end where streams took the whole grace.
const LAST_NEWS: Duration = Duration::from_millis(500);

/// Sessions that the status names.
const SESSIONS_SHOWN: usize = 100;

/// A packager that listens.
pub struct Packager {
    config: Config,
    tasks: Tasks,
    rtmp: Server<Arc<Gate>>,
    srt: Option<srt::Server>,
    pulls: pull::Pulls,
    whip: Option<whip::Server>,
    publishes: Publishes,
    couriers: Couriers,
    gate: Arc<Gate>,
    streams: Arc<Streams>,
    origin: Origin,
    origin_listener: TcpListener,
    tls: Option<http_service::Tls>,
    ops: ops::Listener,
    metrics: Arc<Metrics>,
    folder: Arc<Folder>,
    key: PublicKey,
    clock: Clock,
    addresses: Addresses,
}

/// Where it is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Addresses {
    /// RTMP.
    pub rtmp: SocketAddr,
    /// RTMPS, where it is asked for.
    pub rtmps: Option<SocketAddr>,
    /// SRT, where it listens.
    pub srt: Option<SocketAddr>,
    /// WHIP, where it listens.
    pub whip: Option<SocketAddr>,
    /// HTTP.
    pub origin: SocketAddr,
    /// The origin's base URL, as the tracker hands it out.
    pub origin_url: String,
    /// Ops.
    pub ops: SocketAddr,
}

impl std::fmt::Debug for Packager {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Packager").field("addresses", &self.addresses).finish_non_exhaustive()
    }
}

impl Packager {
    /// Opens the data folder, makes keys the first time, and binds everything. Nobody is served before
    /// [`Self::run`], but whoever connects waits for it.
    ///
    /// # Errors
    /// When something is not as it must be; the text says what to do.
    pub async fn load(config: Config) -> anyhow::Result<Self> {
        let ladders = Ladders::new(config.renditions.clone())?;
        Self::load_with(config, Arc::new(ladders)).await
    }

    /// [`Self::load`], with a pipeline of one's own.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub async fn load_with(config: Config, pipelines: Arc<dyn Pipelines>) -> anyhow::Result<Self> {
        let cameras = pull::Source::all(&config.pull, &config.local)?;
        let clock = Clock::start();
        let folder = Arc::new(Folder::open(&config.data)?);
        let key = SecretKey::from_seed(folder.seed(KEY_FILE)?.expose());
        let generations = Arc::new(Generations::open(Arc::clone(&folder))?);
        let trust = Trust::load(&config.trust)?;
        let judge = judge(&config, &trust, &folder, &generations)?;
        let ops = ops::Listener::bind(&config.ops, "packager", env!("CARGO_PKG_VERSION")).await?;
        let (herald, couriers) = Herald::load(&config.events, &trust, key.public(), clock, ops.registry())?;
        let policies = Arc::new(Policies::new(&config.policy)?);
        let gate = Gate::new(judge, key.public(), clock, config.streams_max)
            .telling(herald.clone())
            .under(Arc::clone(&policies));
        let gate = Arc::new(gate);

        let metrics = Metrics::register(ops.registry())?;
        pipelines.register(ops.registry())?;
        let tls = tls(&config)?;
        let origin_listener = http_service::bind(config.origin.listen).await?;
        let origin_address = origin_listener.local_addr()?;
        let origin_url = public_url(&config, origin_address);
        if let Some(tracker) = gate.tracker() {
            tracker.origin_is(origin_url.clone());
        }
        let (reception, publishes) = Reception::new(Arc::clone(&gate));
        let rtmp = Server::bind(config.rtmp.clone(), Arc::clone(&reception)).await?;
        let rtmps = match config.rtmp.tls.load(&folder)? {
            Some(tls) => Some(rtmp.bind_tls(tls).await?),
            None => None,
        };
        let srt = config
            .srt
            .on
            .then(|| srt::Server::bind(config.srt.clone(), Arc::clone(&reception)))
            .transpose()?;
        let pulls = pull::Pulls::begin(cameras, config.rtmp.queue_bytes_max, &reception);
        let whip = match config.whip.on {
            true => Some(whip::Server::bind(config.whip.clone(), Arc::clone(&reception)).await?),
            false => None,
        };

        let tasks = Tasks::new();
        let means = Means {
            key: key.clone(),
            clock,
            gate: Arc::clone(&gate),
            generations,
            folder: Arc::clone(&folder),
            metrics: Arc::clone(&metrics),
            herald: herald.clone(),
            pipelines,
            drain: tasks.drain(),
            policies: Arc::clone(&policies),
            linger: Duration::from_millis(config.window.span_ms),
        };
        let streams = Streams::new(means, config.window.clone(), tasks.spawner());
        if config.keep.is_on() {
            let (keep, url) = (&config.keep, config.keep.url(&config.data));
            let store = Store::open(&url, &keep.s3, keep.free_bytes_min, &trust)?;
            let metrics = keep::Metrics::register(ops.registry())?;
            let (key, spawner) = (key.clone(), tasks.spawner());
            let means = keep::Means { store, key, clock, metrics, herald, policies, spawner };
            let keeper = Keeper::new(keep.clone(), means);
            keep::gauges(ops.registry(), &keeper)?;
            streams.keep_by(keeper);
        }
        let origin = Origin::new(
            config.origin.clone(),
            Arc::clone(&streams),
            Arc::clone(&gate),
            Arc::clone(&metrics),
            clock,
            tasks.drain(),
        );
        let addresses = Addresses {
            rtmp: rtmp.local_addr(),
            rtmps,
            srt: srt.as_ref().map(srt::Server::local_addr),
            whip: whip.as_ref().map(whip::Server::local_addr),
            origin: origin_address,
            origin_url,
            ops: ops.address(),
        };
        gauges(&ops, &streams, &origin)?;
        let key = key.public();
        Ok(Self {
            config,
            tasks,
            rtmp,
            srt,
            pulls,
            whip,
            publishes,
            couriers,
            gate,
            streams,
            origin,
            origin_listener,
            tls,
            ops,
            metrics,
            folder,
            key,
            clock,
            addresses,
        })
    }

    /// Where it is reached.
    #[must_use]
    pub const fn addresses(&self) -> &Addresses {
        &self.addresses
    }

    /// Its own key, which delegations name.
    #[must_use]
    pub const fn key(&self) -> PublicKey {
        self.key
    }

    /// The streams, for whoever runs in the same process.
    #[must_use]
    pub fn streams(&self) -> Arc<Streams> {
        Arc::clone(&self.streams)
    }

    /// Serves until `shutdown`, then drains: publishers are told to go, requests in hand are answered, feeds say
    /// goodbye. Streams are not ended: their publishers will come back.
    ///
    /// # Errors
    /// When it cannot go on, drained all the same.
    pub async fn run(self, shutdown: impl Future<Output = ()> + Send) -> Result<(), Lost> {
        let Self {
            config,
            tasks,
            rtmp,
            srt,
            pulls,
            whip,
            mut publishes,
            couriers,
            gate,
            streams,
            origin,
            metrics,
            clock,
            addresses,
            ..
        } = self;
        let ready = self.ops.gate("origin", "starting");
        let status = Status {
            addresses: addresses.clone(),
            streams: Arc::clone(&streams),
            origin: origin.clone(),
            cameras: pulls.watch(),
        };
        let status = Arc::new(status);
        self.ops
            .route("/v1/status", move |_| {
                let status = Arc::clone(&status);
                async move { ops::json(&status.read()) }
            })
            .serve(&tasks);
        http_service::serve(self.origin_listener, self.tls, &config.origin.http, origin, &tasks);
        let reporting = report::run(
            Arc::clone(&gate),
            Arc::clone(&streams),
            self.key,
            self.folder,
            Arc::clone(&metrics),
            tasks.drain(),
        );
        tasks.spawn("reports", reporting);
        if let Some(keeper) = streams.keeper() {
            let settling = Arc::clone(keeper).settle(Arc::clone(&streams));
            tasks.spawn_until_drain("recordings left unfinished", settling);
        }
        ready.open();
        info!(rtmp = %addresses.rtmp, origin = addresses.origin_url, key = %self.key, "packager is ready");

        let mut shutdown = std::pin::pin!(shutdown);
        let mut tidy = tokio::time::interval(TIDY_EVERY);
        let outcome = loop {
            tokio::select! {
                () = &mut shutdown => break Ok(()),
                _ = tidy.tick() => gate.forget_unused(clock.now(), |stream| streams.get(stream).is_some()),
                lost = tasks.lost() => break Err(lost),
                publish = publishes.next() => {
                    let Some(publish) = publish else { break Err(Lost("ingest".into())) };
                    match gate.permission(&publish.stream) {
                        Some(permission) => streams.take(publish, permission),
                        // Forgotten between the question and here; the publisher ends and asks again.
                        None => warn!(stream = %publish.stream, "no permission; the publisher has to come again"),
                    }
                }
            }
        };
        let grace = Duration::from_millis(config.grace_ms);
        tasks.begin_drain();
        // Both at a time: publishers' last parts are still served.
        let until = tokio::time::Instant::now() + grace;
        let srt = async {
            if let Some(srt) = srt {
                srt.shutdown(grace).await;
            }
        };
        let whip = async {
            if let Some(whip) = whip {
                whip.shutdown(grace).await;
            }
        };
        tokio::join!(rtmp.shutdown(grace), srt, whip, pulls.shutdown(grace), tasks.shutdown(grace));
        // After them, for they have something to tell to the end.
        couriers.shutdown(until.saturating_duration_since(tokio::time::Instant::now()).max(LAST_NEWS)).await;
        outcome
    }
}

fn judge(
    config: &Config,
    trust: &Trust,
    folder: &Arc<Folder>,
    generations: &Arc<Generations>,
) -> anyhow::Result<Judge> {
    if config.tracker.url.is_empty() {
        if config.local.is_empty() {
            warn!("neither `tracker.url` nor `local` streams are set: nobody can publish here");
        }
        let root = SecretKey::from_seed(folder.seed(ROOT_FILE)?.expose());
        info!(root = %root.public(), "without a tracker: streams and keys are those of the configuration");
        return Ok(Judge::Local(Local::new(config.local.clone(), root, Arc::clone(generations))));
    }
    anyhow::ensure!(config.local.is_empty(), "`local` streams are for a packager without `tracker.url`");
    let tracker =
        Tracker::new(config.tracker.clone(), trust, Arc::clone(generations)).context("HTTP client")?;
    Ok(Judge::Tracker(tracker))
}

fn tls(config: &Config) -> anyhow::Result<Option<http_service::Tls>> {
    let tls = &config.origin.tls;
    if tls.certificate.as_os_str().is_empty() && tls.key.as_os_str().is_empty() {
        return Ok(None);
    }
    Ok(Some(http_service::Tls::load(tls)?))
}

/// What is configured, else the address; one that listens everywhere is reached on this machine.
fn public_url(config: &Config, address: SocketAddr) -> String {
    if !config.origin.public_url.is_empty() {
        return config.origin.public_url.trim_end_matches('/').to_owned();
    }
    let scheme = if config.origin.tls.certificate.as_os_str().is_empty() { "http" } else { "https" };
    let host = match address.ip() {
        ip if ip.is_unspecified() => String::from("127.0.0.1"),
        std::net::IpAddr::V6(ip) => format!("[{ip}]"),
        std::net::IpAddr::V4(ip) => ip.to_string(),
    };
    format!("{scheme}://{host}:{}", address.port())
}

fn gauges(ops: &ops::Listener, streams: &Arc<Streams>, origin: &Origin) -> prometheus::Result<()> {
    let gauges = [
        ("streams", "Streams, those away or just over among them"),
        ("streams_live", "Streams with a publisher"),
        ("window_bytes", "Bytes of media in memory"),
        ("feeds", "Feeds open"),
        ("http_requests", "HTTP requests in hand"),
        ("http_waiters", "HTTP requests that wait for what does not exist yet"),
    ];
    let (streams, origin) = (Arc::clone(streams), origin.clone());
    let number = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
    Gauges::register(ops.registry(), &gauges, move || {
        let all = streams.all();
        let live = all.iter().filter(|stream| stream.look(|inner| inner.state == State::Live)).count();
        let bytes = all.iter().map(|stream| stream.look(|inner| inner.window.bytes())).sum();
        let feeds = all.iter().map(|stream| stream.feeds()).sum();
        vec![
            number(all.len()),
            number(live),
            number(bytes),
            number(feeds),
            number(origin.requests()),
            number(origin.waiters()),
        ]
    })
}

/// What `/v1/status` reads.
struct Status {
    addresses: Addresses,
    streams: Arc<Streams>,
    origin: Origin,
    cameras: pull::Watch,
}

#[derive(Serialize)]
struct StatusText {
    rtmp: SocketAddr,
    rtmps: Option<SocketAddr>,
    srt: Option<SocketAddr>,
    whip: Option<SocketAddr>,
    origin: String,
    requests: usize,
    waiters: usize,
    streams: Vec<StreamStatus>,
    sessions: Vec<SessionBytes>,
    pulls: Vec<pull::Report>,
}

#[derive(Serialize)]
struct StreamStatus {
    stream: StreamId,
    state: State,
    generation: u32,
    public: bool,
    renditions: Vec<RenditionStatus>,
    window_bytes: usize,
    published_bytes: u64,
    sent_bytes: u64,
    feed_bytes: u64,
    feeds: usize,
}

#[derive(Serialize)]
struct RenditionStatus {
    name: String,
    codecs: String,
    bandwidth: u64,
    segment: Option<u64>,
    record: Option<u64>,
}

impl Status {
    fn read(&self) -> StatusText {
        StatusText {
            rtmp: self.addresses.rtmp,
            rtmps: self.addresses.rtmps,
            srt: self.addresses.srt,
            whip: self.addresses.whip,
            origin: self.addresses.origin_url.clone(),
            requests: self.origin.requests(),
            waiters: self.origin.waiters(),
            streams: self.streams.all().iter().map(|stream| stream_status(stream)).collect(),
            sessions: self.origin.sessions(SESSIONS_SHOWN),
            pulls: self.cameras.reports(),
        }
    }
}

fn stream_status(stream: &Stream) -> StreamStatus {
    let (sent_bytes, feed_bytes) = stream.sent_bytes();
    stream.look(|inner| {
        let catalog = inner.window.newest_catalog().map(Signed::unverified);
        let renditions = catalog.into_iter().flat_map(|catalog| &catalog.renditions);
        StreamStatus {
            stream: stream.id().clone(),
            state: inner.state,
            generation: inner.permission.delegation.unverified().generation,
            public: inner.permission.public,
            renditions: renditions
                .map(|rendition| RenditionStatus {
                    name: rendition.name.clone(),
                    codecs: rendition.codecs.clone(),
                    bandwidth: rendition.bandwidth.0,
                    segment: inner.window.head(rendition.id).map(|head| head.segment),
                    record: inner.window.newest(rendition.id),
                })
                .collect(),
            window_bytes: inner.window.bytes(),
            published_bytes: inner.published_bytes,
            sent_bytes,
            feed_bytes,
            feeds: stream.feeds(),
        }
    })
}
