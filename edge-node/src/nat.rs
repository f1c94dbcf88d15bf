//! An edge behind a NAT that lets nobody in: finds out where it is seen, has the tracker told, and sends checks towards
//! viewers that say where they are, so that its NAT lets theirs in.

use std::{
    net::{IpAddr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::{Context as _, bail};
use futures_util::future::join_all;
use millstream_datachannel::listen::traversal::{Outcome, Traversal};
use millstream_wire::tracker::{Candidates, EdgeAddress, SIGNAL_BYTES_MAX, SOCKETS_MAX, STUN_MAX, Signal};
use tokio::{sync::watch, time::timeout};

use crate::{config::Config, edge::Shared};

/// How often it asks where it is seen. NATs forget who has been silent for half a minute, or for two: asking also keeps
/// the way to it open.
const ASK_EVERY: Duration = Duration::from_secs(20);

/// Servers that have to answer: one alone cannot show that the NAT gives each destination another port.
const ANSWERS: usize = 2;

/// A name that is not resolved in this time is passed over until the next time.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(5);

/// A name has 253 characters at most (RFC 1035 §2.3.4), and a port behind it.
const SERVER_BYTES_MAX: usize = 260;

/// What an edge knows of its NAT.
pub(crate) struct Nat {
    pub(crate) traversal: Traversal,
    /// What the tracker is told, whenever it changes.
    pub(crate) address: watch::Sender<EdgeAddress>,
    /// Servers that the tracker has named last, said anew each time it is met; none before the first.
    named: watch::Sender<Option<Vec<String>>>,
    /// Its own addresses, as this machine knows them.
    own: Vec<SocketAddr>,
    /// Each destination sees it by another port.
    varies: AtomicBool,
}

impl Nat {
    /// `address` names this machine's own sockets. Behind NAT nobody is told of them alone.
    pub(crate) fn new(traversal: Traversal, mut address: EdgeAddress) -> Self {
        let own = address.sockets.clone();
        if address.behind_nat {
            address.sockets.clear();
        }
        Self {
            traversal,
            own,
            address: watch::Sender::new(address),
            named: watch::Sender::new(None),
            varies: AtomicBool::new(false),
        }
    }

    /// Takes in which servers the tracker names.
    pub(crate) fn name(&self, servers: Vec<String>) {
        // Also when they are the same: whoever has lost the tracker may have moved to another network.
        self.named.send_modify(|named| *named = Some(newest(named.take(), servers)));
    }

    /// Whether it was seen that the NAT gives each destination another port.
    pub(crate) fn varies(&self) -> bool {
        self.varies.load(Ordering::Relaxed)
    }
}

/// Refuses what cannot be meant.
pub(crate) fn check(config: &Config) -> anyhow::Result<()> {
    if config.behind_nat && !config.public.is_empty() {
        bail!(
            "`public` says where everybody reaches this edge, `behind_nat` that nobody does before it was asked: \
             set one of them"
        );
    }
    if config.stun.len() > STUN_MAX {
        bail!("`stun` names {} servers; {STUN_MAX} are allowed, and two are enough", config.stun.len());
    }
    if let Some(bad) = config.stun.iter().find(|server| host_and_port(server).is_none()) {
        bail!("`stun`: {bad:?} is no server; \"stun.example:3478\" or \"203.0.113.7:3478\" would be right");
    }
    Ok(())
}

/// Finds out where the edge is seen, again and again.
pub(crate) async fn keep(shared: Arc<Shared>) {
    let nat = &shared.nat;
    let mut named = nat.named.subscribe();
    let mut last = None;
    loop {
        let told = named.borrow_and_update().clone();
        let servers = servers(&shared.config.stun, told.as_deref().unwrap_or_default());
        // Before the tracker is met there may be nobody to ask yet.
        if !servers.is_empty() || told.is_some() {
            let seen = ask(&nat.traversal, &servers, shared.config.listen.is_ipv6()).await;
            let view = View::of(&seen, &nat.own, servers.len());
            if let View::Seen { sockets, varies } | View::Open { sockets, varies } = &view {
                nat.varies.store(*varies, Ordering::Relaxed);
                nat.address.send_if_modified(|address| {
                    let is_new = address.sockets != *sockets;
                    address.sockets.clone_from(sockets);
                    is_new
                });
            }
            if last.as_ref() != Some(&view) {
                view.log();
            }
            last = Some(view);
        }
        tokio::select! {
            () = tokio::time::sleep(ASK_EVERY) => {}
            changed = named.changed() => {
                if changed.is_err() {
                    return;
                }
            }
        }
    }
}

/// Takes in what a viewer says about where it is, by way of the tracker.
pub(crate) fn hear(shared: &Arc<Shared>, signal: &Signal) {
    let reaching = read(signal, shared.config.behind_nat).and_then(|viewer| {
        let Candidates { ufrag, password, candidates } = viewer;
        let viewer = millstream_datachannel::Candidates { ufrag, password, candidates };
        Ok(shared.nat.traversal.reach(&signal.peer, viewer)?)
    });
    let reached = shared.metrics.reached.clone();
    match reaching {
        Ok(reaching) => {
            let session = signal.peer.clone();
            shared.tasks.spawn_until_drain("reach", async move {
                let outcome = match reaching.await {
                    Outcome::Reached => "reached",
                    Outcome::Silent => "silent",
                    Outcome::GaveWay => "gave_way",
                    // It is counted by what takes its place; or the edge has ended.
                    _ => return,
                };
                tracing::debug!(session, outcome, "a viewer was sent checks");
                reached.with_label_values(&[outcome]).inc();
            });
        }
        Err(error) => {
            // The text is a stranger's.
            tracing::debug!(session = ?signal.peer, "a viewer's word on where it is was refused: {error:#}");
            reached.with_label_values(&["refused"]).inc();
        }
    }
}

fn read(signal: &Signal, is_behind_nat: bool) -> anyhow::Result<Candidates> {
    if !is_behind_nat {
        bail!("everybody reaches this edge");
    }
    if signal.data.len() > SIGNAL_BYTES_MAX {
        bail!("{} bytes are too many", signal.data.len());
    }
    serde_json::from_str(&signal.data).context("not candidates")
}

/// What servers see, and what follows from it.
#[derive(Debug, PartialEq, Eq)]
enum View {
    /// Nobody is known who could be asked.
    Nobody,
    /// Nobody answers.
    Silence,
    /// There is a NAT.
    Seen { sockets: Vec<SocketAddr>, varies: bool },
    /// They see its own address.
    Open { sockets: Vec<SocketAddr>, varies: bool },
}

impl View {
    /// `seen` is what each server that answered saw.
    fn of(seen: &[SocketAddr], own: &[SocketAddr], servers: usize) -> Self {
        if servers == 0 {
            return Self::Nobody;
        }
        let Some(first) = seen.first() else { return Self::Silence };
        let mut sockets = Vec::new();
        for socket in seen.iter().chain(own) {
            if !sockets.contains(socket) && sockets.len() < SOCKETS_MAX {
                sockets.push(*socket);
            }
        }
        let varies = seen.iter().any(|other| other != first && other.is_ipv4() == first.is_ipv4());
        if seen.iter().all(|seen| own.contains(seen)) {
            Self::Open { sockets, varies }
        } else {
            Self::Seen { sockets, varies }
        }
    }

    fn log(&self) {
        match self {
            Self::Nobody => tracing::warn!(
                "behind NAT, and nobody is known who could tell where this edge is seen, so no viewer is sent here: name \
                 one or two servers by `stun`, like \"stun.example:3478\""
            ),
            Self::Silence => tracing::warn!(
                "behind NAT, and no server answers where this edge is seen; they are asked again every {} s. If that \
                 stays so, UDP is not let out of this network, or `stun` must name other servers",
                ASK_EVERY.as_secs()
            ),
            Self::Seen { sockets, varies: true } => tracing::warn!(
                ?sockets,
                "this NAT shows each destination another port: viewers reach this edge only where their own network \
                 lets everybody in. Forward a UDP port on the router to this machine, and set `public` in the place \
                 of `behind_nat`"
            ),
            Self::Seen { sockets, .. } => {
                tracing::info!(?sockets, "behind NAT: seen from outside at the first of these");
            }
            Self::Open { sockets, .. } => tracing::info!(
                ?sockets,
                "seen from outside at its own address: `behind_nat` is needed only where a firewall lets nobody in"
            ),
        }
    }
}

/// Servers to go by: a tracker that began anew knows no edges yet that it could name, but those of before still answer.
fn newest(last: Option<Vec<String>>, named: Vec<String>) -> Vec<String> {
    last.filter(|_| named.is_empty()).unwrap_or(named)
}

/// Whom to ask: those of the operator first.
fn servers(own: &[String], named: &[String]) -> Vec<String> {
    let mut servers: Vec<String> = Vec::new();
    for server in own.iter().chain(named.iter().take(STUN_MAX)) {
        if host_and_port(server).is_some() && !servers.contains(server) {
            servers.push(server.clone());
        }
    }
    servers
}

fn host_and_port(server: &str) -> Option<(&str, u16)> {
    let (host, port) = server.rsplit_once(':').filter(|_| server.len() <= SERVER_BYTES_MAX)?;
    let host = match host.strip_prefix('[') {
        Some(host) => host.strip_suffix(']')?,
        None if host.contains(':') => return None,
        None => host,
    };
    let port: u16 = port.parse().ok().filter(|port| *port > 0)?;
    (!host.is_empty() && !host.contains(|c: char| c.is_whitespace() || c == '/')).then_some((host, port))
}

/// What the first two servers that answer see.
async fn ask(traversal: &Traversal, servers: &[String], takes_ipv6: bool) -> Vec<SocketAddr> {
    let mut places: Vec<SocketAddr> = Vec::new();
    for found in join_all(servers.iter().map(|server| resolve(server))).await {
        // Two names of one server would be no second opinion.
        let mut usable = found.into_iter().filter(|address| address.is_ipv4() || takes_ipv6);
        places.extend(usable.find(|address| !places.contains(address)));
    }
    let mut seen = Vec::new();
    for some in places.chunks(ANSWERS) {
        if seen.len() >= ANSWERS {
            break;
        }
        for (server, answer) in
            some.iter().zip(join_all(some.iter().map(|server| traversal.mapped(*server))).await)
        {
            match answer {
                Ok(mapped) if is_one_hosts(mapped) => seen.push(mapped),
                Ok(mapped) => tracing::debug!(%server, %mapped, "a server says what cannot be"),
                Err(error) => tracing::debug!(%server, "not told where this edge is seen: {error}"),
            }
        }
    }
    seen
}

/// Whether one host may be there. The tracker refuses other addresses, and with them the edge.
fn is_one_hosts(socket: SocketAddr) -> bool {
    let ip = socket.ip();
    let is_broadcast = matches!(ip, IpAddr::V4(ip) if ip.is_broadcast());
    socket.port() > 0 && !ip.is_unspecified() && !ip.is_multicast() && !is_broadcast
}

async fn resolve(server: &str) -> Vec<SocketAddr> {
    let Some(place) = host_and_port(server) else { return Vec::new() };
    match timeout(RESOLVE_TIMEOUT, tokio::net::lookup_host(place)).await {
        Ok(Ok(found)) => {
            let mut found: Vec<_> = found.collect();
            // NAT is of IPv4, mostly.
            found.sort_by_key(SocketAddr::is_ipv6);
            found
        }
        Ok(Err(error)) => {
            tracing::debug!(server, "no address: {error}");
            Vec::new()
        }
        Err(_) => {
            tracing::debug!(server, "no address in time");
            Vec::new()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    fn config(set: impl FnOnce(&mut Config)) -> anyhow::Result<()> {
        let mut config = Config::default();
        set(&mut config);
        check(&config)
    }

    #[test]
    fn a_configuration_that_cannot_be_meant_is_refused_with_what_would_be_right() {
        config(|config| config.behind_nat = true).unwrap();
        config(|config| config.stun = vec!["stun.example:3478".into(), "[2001:4860::1]:19302".into()])
            .unwrap();
        for bad in [
            "stun.example",
            "stun.example:0",
            "stun:stun.example:3478",
            ":3478",
            "2001:4860::1:3478",
            "a b:1",
        ] {
            let error = config(|config| config.stun = vec![bad.into()]).unwrap_err().to_string();
            assert!(error.contains(bad) && error.contains("would be right"), "{error}");
        }
        let error = config(|config| config.stun = vec!["a:1".into(); 5]).unwrap_err().to_string();
        assert!(error.contains("4 are allowed"), "{error}");
        let both = config(|config| {
            config.behind_nat = true;
            config.public = vec![at("203.0.113.7:4443")];
        });
        assert!(both.unwrap_err().to_string().contains("set one of them"));
    }

    #[test]
    fn where_it_is_seen_comes_first_and_each_address_once() {
        let own = [at("192.168.1.5:4443")];
        let seen = [at("203.0.113.7:50000"), at("203.0.113.7:50000")];
        let sockets = vec![seen[0], own[0]];
        assert_eq!(View::of(&seen, &own, 2), View::Seen { sockets, varies: false });
        assert_eq!(View::of(&own, &own, 2), View::Open { sockets: own.to_vec(), varies: false });
        assert_eq!(View::of(&[], &own, 2), View::Silence);
        assert_eq!(View::of(&[], &own, 0), View::Nobody);
    }

    #[test]
    fn a_nat_that_maps_per_destination_is_told_from_two_families() {
        let (one, other) = (at("203.0.113.7:50000"), at("203.0.113.7:50001"));
        assert_eq!(View::of(&[one, other], &[], 2), View::Seen { sockets: vec![one, other], varies: true });
        let ipv6 = at("[2001:4860::7]:4443");
        assert_eq!(View::of(&[one, ipv6], &[], 2), View::Seen { sockets: vec![one, ipv6], varies: false });
    }

    #[test]
    fn a_tracker_that_names_nobody_takes_nobody_away() {
        let [first, second] =
            ["stun.example:3478", "edge.example:4443"].map(|server| vec![server.to_owned()]);
        assert_eq!(newest(None, Vec::new()), Vec::<String>::new());
        assert_eq!(newest(None, first.clone()), first);
        assert_eq!(newest(Some(first.clone()), Vec::new()), first);
        assert_eq!(newest(Some(first), second.clone()), second);
    }

    #[test]
    fn the_operators_servers_are_asked_first_and_the_trackers_are_bounded() {
        let named: Vec<_> = (0..9).map(|n| format!("edge{n}.example:4443")).collect();
        let own = ["stun.example:3478".to_owned(), named[1].clone()];
        let servers = servers(&own, &[named.clone(), vec!["nonsense".into()]].concat());
        assert_eq!(servers.iter().collect::<Vec<_>>(), [&own[0], &own[1], &named[0], &named[2], &named[3]]);
    }
}
