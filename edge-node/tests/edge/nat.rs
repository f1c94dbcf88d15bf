//! An edge behind NAT: what it tells the tracker, and whom it believes.

use std::{net::SocketAddr, time::Duration};

use millstream_datachannel::{Address, Dial, dial};
use millstream_edge::{AsItIs, Config};
use millstream_wire::tracker::{CANDIDATES_MAX, Candidates, EdgeAddress, Signal, ToEdge};
use tokio::{net::UdpSocket, sync::watch, task::JoinSet};

use crate::{
    tracker::Seen,
    world::{Running, World, get},
};

/// A NAT's outside between an edge that asks and the one that it asks: it is seen by the second of these addresses, and
/// asks the first. How often it has asked comes with them.
async fn outside(
    tasks: &mut JoinSet<()>,
    server: SocketAddr,
) -> (SocketAddr, SocketAddr, watch::Receiver<usize>) {
    let inside = UdpSocket::bind("127.0.0.1:0").await.expect("a port");
    let outside = UdpSocket::bind("127.0.0.1:0").await.expect("a port");
    let (inner, outer) = (inside.local_addr().expect("bound"), outside.local_addr().expect("bound"));
    let (asking, asked) = watch::channel(0);
    tasks.spawn(async move {
        let (mut up, mut down) = ([0; 2_048], [0; 2_048]);
        let mut edge = None;
        loop {
            tokio::select! {
                Ok((length, from)) = inside.recv_from(&mut up) => {
                    edge = Some(from);
                    asking.send_modify(|count| *count += 1);
                    let _ = outside.send_to(&up[..length], server).await;
                }
                Ok((length, _)) = outside.recv_from(&mut down) => {
                    if let Some(edge) = edge {
                        let _ = inside.send_to(&down[..length], edge).await;
                    }
                }
            }
        }
    });
    (inner, outer, asked)
}

/// A second edge of the world, behind NAT.
async fn start(world: &World, data: &tempfile::TempDir, stun: Vec<String>) -> Running {
    let config = Config { behind_nat: true, stun, ..world.config_in(data) };
    Running::start(config, std::sync::Arc::new(AsItIs)).await
}

async fn counted(edge: &Running, outcome: &str, count: usize) {
    let line = format!("millstream_edge_reached_total{{outcome=\"{outcome}\"}} {count}");
    let mut text = String::new();
    for _ in 0..1_500 {
        text = get(edge.addresses.ops, "/metrics").await.1;
        if text.lines().any(|other| other == line) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await; // waits because HTTP answers only when asked
    }
    unreachable!("{line}: {text}")
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edge_behind_nat_learns_from_another_edge_where_it_is_and_tells_the_tracker() {
    let mut world = World::new().await;
    let public = world.edge.addresses.udp;
    let (first, seen, _) = outside(&mut world.tasks, public).await;
    *world.tracker.stun.lock().expect("sound") = vec![first.to_string()];
    let data = tempfile::tempdir().expect("a folder");
    let edge = start(&world, &data, Vec::new()).await;
    let own = edge.addresses.udp;
    let told = world.tracker.saw("where the edge is seen", |seen| seen.moves == 1).await;
    assert_eq!(told.said[1].sockets, [], "nobody is sent where it may not be");
    let EdgeAddress { sockets, behind_nat, stun, ufrag, fingerprint, .. } = told.address.expect("told");
    assert_eq!((sockets, behind_nat, stun), (vec![seen, own], true, Vec::new()));
    assert_eq!((&ufrag, fingerprint), (&edge.addresses.public.ufrag, edge.addresses.public.fingerprint));
    let status = edge.until("where it is seen", |status| status.address.sockets.len() == 2).await;
    assert!(status.address.behind_nat && !status.address.varies);
    edge.stop().await;

    // Its own servers are asked first; two that disagree say what kind of NAT it is. Met again, the tracker is told all
    // of it at once.
    let (second, other, _) = outside(&mut world.tasks, public).await;
    let edge = start(&world, &data, vec![second.to_string()]).await;
    let sockets = [other, seen, edge.addresses.udp];
    let count = |seen: &Seen| seen.said.iter().filter(|address| address.sockets == sockets).count();
    world.tracker.saw("both", |seen| count(seen) == 1).await;
    edge.until("that the NAT varies", |status| status.address.varies).await;
    world.tracker.kill();
    edge.until("that the tracker is gone", |status| !status.tracker.registered).await;
    let tracker = world.tracker.clone();
    tracker.revive(&mut world.tasks).await;
    world.tracker.saw("the address in the registration", |seen| count(seen) == 2).await;
    edge.stop().await;
    world.edge.stop().await;
}

/// After a start of its own the tracker knows no public edge yet, and a NAT forgets who is silent for half a minute.
#[tokio::test(flavor = "multi_thread")]
async fn an_edge_goes_on_asking_whom_it_knew_when_the_tracker_names_nobody() {
    let mut world = World::new().await;
    let (server, _, mut asked) = outside(&mut world.tasks, world.edge.addresses.udp).await;
    *world.tracker.stun.lock().expect("sound") = vec![server.to_string()];
    let data = tempfile::tempdir().expect("a folder");
    let edge = start(&world, &data, Vec::new()).await;
    world.tracker.saw("where the edge is seen", |seen| seen.moves == 1).await;
    world.tracker.kill();
    edge.until("that the tracker is gone", |status| !status.tracker.registered).await;
    let before = *asked.borrow_and_update();
    world.tracker.stun.lock().expect("sound").clear();
    let tracker = world.tracker.clone();
    tracker.revive(&mut world.tasks).await;
    edge.until("registered again", |status| status.tracker.registered).await;
    let asks = tokio::time::timeout(Duration::from_secs(60), asked.wait_for(|count| *count > before)).await;
    assert!(asks.is_ok(), "it asks nobody any more");
    edge.stop().await;
    world.edge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_viewer_that_says_where_it_is_is_sent_checks_until_its_own_come() {
    let world = World::new().await;
    let data = tempfile::tempdir().expect("a folder");
    let edge = start(&world, &data, Vec::new()).await;
    world.tracker.saw("the edge", |seen| seen.registered == 2).await;
    edge.until("registered", |status| status.tracker.registered).await;

    let EdgeAddress { sockets, ufrag, password, fingerprint, .. } = edge.addresses.public.clone();
    let address = Address { socket: sockets[0], ufrag, password, fingerprint };
    let viewer = Dial::prepare(&address, dial::Config::default()).expect("a port");
    let told = viewer.candidates().expect("an address");
    let said = Candidates { ufrag: told.ufrag, password: told.password, candidates: told.candidates };
    let data = serde_json::to_string(&said).expect("JSON");
    // Everything that the tracker says reaches both edges: to one that everybody reaches it means nothing.
    world.tracker.says.send(ToEdge::Signal(Signal { peer: "viewer".into(), data })).expect("somebody hears");
    let _connection = viewer.connect().await.expect("it opens");
    counted(&edge, "reached", 1).await;
    counted(&world.edge, "refused", 1).await;
    edge.stop().await;
    world.edge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_where_a_viewer_is_is_refused_and_counted() {
    let world = World::new().await;
    let data = tempfile::tempdir().expect("a folder");
    let edge = start(&world, &data, Vec::new()).await;
    world.tracker.saw("the edge", |seen| seen.registered == 2).await;
    edge.until("registered", |status| status.tracker.registered).await;

    let good = Candidates {
        ufrag: "abcd".into(),
        password: "VOkJxbRl1RmTxUk/WvJxBt".into(),
        candidates: vec!["127.0.0.1:9".parse().expect("an address")],
    };
    let at = |address: &str| vec![address.parse().expect("an address")];
    let bad = [
        Candidates { candidates: at("224.0.0.1:9"), ..good.clone() },
        Candidates { candidates: at("127.0.0.1:0"), ..good.clone() },
        Candidates { candidates: Vec::new(), ..good.clone() },
        Candidates { candidates: vec![good.candidates[0]; CANDIDATES_MAX + 1], ..good.clone() },
        Candidates { ufrag: "a b c d".into(), ..good.clone() },
        Candidates { password: "short".into(), ..good.clone() },
    ];
    let bad = bad.iter().map(|said| serde_json::to_string(said).expect("JSON"));
    let texts: Vec<_> = bad.chain(["v=0".into(), "{}".into()]).collect();
    let count = texts.len();
    for data in texts {
        let signal = Signal { peer: "viewer\n".into(), data };
        world.tracker.says.send(ToEdge::Signal(signal)).expect("somebody hears");
    }
    counted(&edge, "refused", count).await;
    assert!((edge.status)().tracker.registered, "a viewer's nonsense is not the tracker's fault");
    edge.stop().await;
    world.edge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edge_is_behind_nat_or_reached_by_everybody() {
    let world = World::new().await;
    let data = tempfile::tempdir().expect("a folder");
    let config =
        Config { behind_nat: true, public: vec![world.edge.addresses.udp], ..world.config_in(&data) };
    let error = millstream_edge::Edge::load(config).await.expect_err("it is refused").to_string();
    assert!(error.contains("set one of them"), "{error}");
    world.edge.stop().await;
}
