//! The tracker's assembly: the one right order in which its parts are made and bound.

use std::{future::Future, net::SocketAddr, sync::Arc, time::Duration};

use anyhow::{Context as _, bail};
use millstream_service::{Secret, Spawner, Tasks, data::Folder, http, ops, tasks::Lost};
use millstream_wire::{sign::SecretKey, tracker::STUN_MAX};
use tokio::net::TcpListener;
use warp::Filter;

use crate::{
    api::{self, Api},
    assets,
    config::{Config, is_host_and_port},
    hub::{self, Hub},
    link,
    money::Money,
    proxies, socket,
    store::Store,
    streams::Streams,
};

/// How often sessions that did not come back are ended.
const SWEEP_EVERY: Duration = Duration::from_secs(5);

/// Bytes of an admin token file at most.
const TOKEN_BYTES_MAX: usize = 256;

/// A tracker that listens.
pub struct Tracker {
    config: Config,
    /// Held, with its lock: two who write one book would each know half of it.
    folder: Folder,
    tasks: Tasks,
    hub: Arc<Hub>,
    listener: TcpListener,
    tls: Option<http::Tls>,
    ops: ops::Listener,
    admin_token: Secret<String>,
    fresh_token: bool,
    addresses: Addresses,
}

/// Where it is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Addresses {
    /// Viewers, edges, packagers and the API.
    pub http: SocketAddr,
    /// The URL that others reach it by.
    pub url: String,
    /// Ops.
    pub ops: SocketAddr,
}

impl Tracker {
    /// Opens the data folder and the database and binds everything. Nobody is served before [`Self::run`], but
    /// whoever connects waits for it.
    ///
    /// # Errors
    /// When something is not as it must be; the text says what to do.
    pub async fn load(config: Config) -> anyhow::Result<Self> {
        check_stun(&config.stun)?;
        let folder = Folder::open(&config.data).context("opening the data folder")?;
        let key = SecretKey::from_seed(folder.seed("tracker.key")?.expose());
        let (admin_token, fresh_token) = admin_token(&config, &folder)?;
        let listener = http::bind(config.listen).await?;
        let ops = ops::Listener::bind(&config.ops, "tracker", env!("CARGO_PKG_VERSION")).await?;
        let tls = tls(&config)?;
        let addresses = Addresses {
            http: listener.local_addr()?,
            url: public_url(&config, listener.local_addr()?),
            ops: ops.address(),
        };
        let tasks = Tasks::new();
        let store = Store::open(folder.path()).await.context("opening the database")?;
        let money = Money::open(store.clone(), key.clone(), &tasks).await.context("reading the book")?;
        let streams = Streams::load(store, money.clone()).await.context("reading the streams")?;
        let (private, stun) = (config.private_edges.clone(), config.stun.clone());
        let hub = Arc::new(Hub::new(key, config.admission.clone(), private, stun, money, streams)?);
        Ok(Self { config, folder, tasks, hub, listener, tls, ops, admin_token, fresh_token, addresses })
    }

    /// Where it is reached.
    #[must_use]
    pub const fn addresses(&self) -> &Addresses {
        &self.addresses
    }

    /// What the API wants.
    #[must_use]
    pub const fn admin_token(&self) -> &Secret<String> {
        &self.admin_token
    }

    /// The admin token, when it was made by this start: to be shown once.
    #[must_use]
    pub fn fresh_admin_token(&self) -> Option<&Secret<String>> {
        self.fresh_token.then_some(&self.admin_token)
    }

    /// Serves until `shutdown`, then drains: viewers and edges are told to come back, what is being booked is
    /// booked.
    ///
    /// # Errors
    /// When it cannot go on, drained all the same.
    pub async fn run(self, shutdown: impl Future<Output = ()> + Send) -> Result<(), Lost> {
        let Self { config, folder, tasks, hub, listener, tls, ops, admin_token, addresses, .. } = self;
        let ready = ops.gate("api", "starting");
        let packager = &config.packager_token;
        let packager = if packager.expose().is_empty() { &admin_token } else { packager };
        let (limits, grace) = (config.http.clone(), Duration::from_millis(config.grace_ms));
        let trusted = proxies::Trusted::new(config.trusted_proxies.clone());
        let (shared, url) = (Arc::clone(&hub), addresses.url.clone());
        let api = Arc::new(Api::new(shared, admin_token.clone(), packager.clone(), config, url));
        let routes = sockets(&hub, &tasks).or(api::routes(&api)).unify().or(assets::routes()).unify();
        let routes = routes.recover(api::recover).unify();
        let service = trusted.before(http::tower(warp::service(routes)));
        http::serve(listener, tls, &limits, service, &tasks);
        let status = Arc::clone(&hub);
        ops.route("/v1/status", move |_| {
            let status = Arc::clone(&status);
            async move { ops::json(&api::overview(&status)) }
        })
        .serve(&tasks);
        tasks.spawn_until_drain("sweep", async move {
            let mut tick = tokio::time::interval(SWEEP_EVERY);
            loop {
                tick.tick().await;
                hub.sweep(hub::now()).await;
            }
        });
        ready.open();
        tracing::info!(url = addresses.url, ops = %addresses.ops, "tracker is ready");
        let outcome = tokio::select! {
            () = shutdown => Ok(()),
            lost = tasks.lost() => Err(lost),
        };
        tasks.shutdown(grace).await;
        // Nobody else writes the book before we have ended.
        drop(folder);
        outcome
    }
}

fn sockets(
    hub: &Arc<Hub>,
    tasks: &Spawner,
) -> impl Filter<Extract = (warp::reply::Response,), Error = warp::Rejection> + Clone + use<> {
    let (viewers, drain) = (Arc::clone(hub), tasks.drain());
    let viewer = socket::route("viewer", tasks.clone(), move |socket, address| {
        link::serve_viewer(Arc::clone(&viewers), socket, address, drain.clone())
    });
    let (edges, drain, comebacks) = (Arc::clone(hub), tasks.drain(), tasks.clone());
    let edge = socket::route("edge", tasks.clone(), move |socket, address| {
        link::serve_edge(Arc::clone(&edges), socket, address, drain.clone(), comebacks.clone())
    });
    viewer.or(edge).unify()
}

/// The configured token, the one made before, or a new one; true when it is new.
fn admin_token(config: &Config, folder: &Folder) -> anyhow::Result<(Secret<String>, bool)> {
    use base64::Engine as _;
    if !config.admin_token.expose().is_empty() {
        return Ok((config.admin_token.clone(), false));
    }
    if let Some(token) = folder.secret_text("admin.token", TOKEN_BYTES_MAX)? {
        return Ok((token, false));
    }
    let mut bytes = [0; 24];
    getrandom::fill(&mut bytes).context("no randomness")?;
    let token = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes);
    folder.write("admin.token", token.as_bytes())?;
    Ok((Secret::new(token), true))
}

fn check_stun(servers: &[String]) -> anyhow::Result<()> {
    if servers.len() > STUN_MAX {
        bail!("`stun` names {} servers; {STUN_MAX} are allowed", servers.len());
    }
    if let Some(wrong) = servers.iter().find(|server| !is_host_and_port(server)) {
        bail!("`stun`: {wrong:?} is not host:port, like \"stun.example.com:3478\"");
    }
    Ok(())
}

fn tls(config: &Config) -> anyhow::Result<Option<http::Tls>> {
    let tls = &config.tls;
    if tls.certificate.as_os_str().is_empty() && tls.key.as_os_str().is_empty() {
        return Ok(None);
    }
    Ok(Some(http::Tls::load(tls)?))
}

/// What is configured, else the address; one that listens everywhere is reached on this machine.
fn public_url(config: &Config, address: SocketAddr) -> String {
    if !config.public_url.is_empty() {
        return config.public_url.trim_end_matches('/').to_owned();
    }
    let scheme = if config.tls.certificate.as_os_str().is_empty() { "http" } else { "https" };
    if address.ip().is_unspecified() {
        return format!("{scheme}://localhost:{}", address.port());
    }
    format!("{scheme}://{address}")
}
