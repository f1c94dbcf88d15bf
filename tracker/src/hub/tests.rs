//! The hub without sockets, at any time: what viewers and edges are told.

mod nat;

use std::{net::IpAddr, pin::pin};

use futures_util::{FutureExt as _, future::join_all};
use millstream_ledger::{Kind, Name, Terms};
use millstream_model::{BitRate, Fingerprint, Micros, Price, RenditionId, SessionKey};
use millstream_service::Tasks;
use millstream_wire::{
    media::{Media, Rendition},
    session::Registration,
    sign::SessionSecret,
    tracker::{EdgeAddress, Published, Signal, ToEdge},
};

use super::*;
use crate::{store::Store, streams::NewStream};

const PRICE: Price = Price(20_000);

type EdgeEnd = mpsc::Receiver<ToEdge>;
type ViewerEnd = mpsc::Receiver<ToViewer>;

struct World {
    hub: Hub,
    tasks: Tasks,
    _folder: std::sync::Arc<tempfile::TempDir>,
}

impl World {
    async fn new() -> Self {
        Self::with(Vec::new(), std::sync::Arc::new(tempfile::tempdir().unwrap())).await
    }

    async fn with(private_edges: Vec<EdgeId>, folder: std::sync::Arc<tempfile::TempDir>) -> Self {
        let store = Store::open(folder.path()).await.unwrap();
        let tasks = Tasks::new();
        let key = SecretKey::from_seed(&[3; 32]);
        let money = Money::open(store.clone(), key.clone(), &tasks).await.unwrap();
        let streams = Streams::load(store, money.clone()).await.unwrap();
        let hub =
            Hub::new(key, config::Admission::default(), private_edges, Vec::new(), money, streams).unwrap();
        Self { hub, tasks, _folder: folder }
    }

    /// A stream with a packager, and with money unless `funds` is 0.
    async fn stream(&self, id: &str, public: bool, funds: i64) -> StreamId {
        let id: StreamId = id.parse().unwrap();
        let account = Name::new(id.as_str()).unwrap();
        if funds > 0 {
            self.hub.money.fund(&account, Micros(funds), id.as_str()).await.unwrap();
        }
        let terms = Terms {
            price: PRICE,
            budget_day: Micros(i64::MAX),
            stopped: false,
            kind: Kind::Live { window_ms: 60_000 },
        };
        let new = NewStream { id: id.clone(), account, public, ticket_key: None, terms };
        self.hub.streams.create(new, now()).await.unwrap();
        self.hub.money.published(&id, Published { run: SessionId([1; 16]), bytes: 1 << 40 }).unwrap();
        self.carry(&id, None);
        id
    }

    fn carry(&self, id: &StreamId, catalog: Option<Signed<Catalog>>) {
        let origin = "http://origin".to_owned();
        let carried = Carried { origin, state: State::Live, catalog, since: now(), heard: now() };
        self.hub.carried.insert(id.clone(), carried);
    }

    fn edge(&self, n: u8) -> (EdgeId, EdgeEnd) {
        self.edge_of(n, 100)
    }

    fn edge_of(&self, n: u8, viewers_max: u32) -> (EdgeId, EdgeEnd) {
        self.edge_at(n, viewers_max, at(&["127.0.0.1:4443"])).unwrap()
    }

    fn edge_at(&self, n: u8, viewers_max: u32, address: EdgeAddress) -> Result<(EdgeId, EdgeEnd), Fault> {
        let secret = SecretKey::from_seed(&[n; 32]);
        let fingerprint = address.fingerprint;
        let nonce = SessionId([5; 16]);
        let registration =
            Registration { tracker: self.hub.id(), nonce: nonce.0, edge: secret.public(), fingerprint };
        let capacity = BitRate(100_000_000_000);
        let offerings = EdgeOfferings { address, capacity, viewers_max, version: "test".into() };
        let (link, end) = mpsc::channel(QUEUE_MAX);
        let proof = Signed::new(registration, Context::None, &secret);
        Ok((self.hub.register(&proof, nonce, offerings, link)?, end))
    }

    async fn join(&self, stream: &StreamId, n: u8) -> (Welcome, ViewerEnd) {
        let (link, end) = mpsc::channel(QUEUE_MAX);
        (self.hub.join(stream, key(n), None, address(n), link).await.unwrap(), end)
    }

    fn has(&self, session: SessionId) -> Vec<EdgeId> {
        self.hub.sessions.get(&session).unwrap().edges.clone()
    }

    async fn transfers(&self) -> u64 {
        self.hub.money.verify().await.unwrap().transfers
    }
}

fn at(sockets: &[&str]) -> EdgeAddress {
    EdgeAddress {
        sockets: sockets.iter().map(|socket| socket.parse().unwrap()).collect(),
        ufrag: "edge".into(),
        password: "p".repeat(24),
        fingerprint: Fingerprint([3; 32]),
        behind_nat: false,
        stun: Vec::new(),
    }
}

fn secret(n: u8) -> SessionSecret {
    SessionSecret::from_bytes(&[n; 32]).unwrap()
}

fn key(n: u8) -> SessionKey {
    secret(n).public()
}

/// Each viewer in a network of its own.
fn address(n: u8) -> IpAddr {
    IpAddr::from([192, 0, n, 1])
}

fn report(of: &[(EdgeId, u64, u32, bool)], origin_bytes: u64) -> ViewerReport {
    let said = |&(edge, received, bad, ready)| EdgeBytes { edge, received, bad, rtt_ms: 1, ready };
    ViewerReport { origin_bytes, edges: of.iter().map(said).collect(), ..ViewerReport::default() }
}

fn reassigned(end: &mut ViewerEnd) -> Vec<EdgeId> {
    offered(end).iter().map(|offer| offer.id).collect()
}

fn offered(end: &mut ViewerEnd) -> Vec<EdgeOffer> {
    match end.try_recv() {
        Ok(ToViewer::Reassign { edges, .. }) => edges,
        other => panic!("{other:?}"),
    }
}

// --- sessions ------------------------------------------------------------------------------------------------

#[tokio::test]
async fn a_join_that_fails_at_its_last_step_leaves_nothing() {
    let world = World::new().await;
    let show = world.stream("show", true, 1_000_000_000).await;
    let _edge = world.edge(1);
    let (link, _end) = mpsc::channel(QUEUE_MAX);
    let mut join = pin!(world.hub.join(&show, key(9), None, address(9), link));
    assert!(join.as_mut().now_or_never().is_none(), "the grant waits for the disk");
    let session = *world.hub.sessions.iter().next().unwrap().key();
    world.hub.carried.clear();
    assert_eq!(join.await.unwrap_err().code, FaultCode::NotLive);
    assert!(world.hub.sessions.is_empty(), "nobody would ever end it");
    assert!(world.hub.assigned.is_empty());
    assert!(!world.hub.money.is_open(session));
}

#[tokio::test]
async fn a_resume_that_fails_at_its_last_step_counts_as_gone() {
    let world = World::new().await;
    let show = world.stream("show", true, 1_000_000_000).await;
    let _edge = world.edge(1);
    let (welcome, end) = world.join(&show, 9).await;
    drop(end);
    let nonce = SessionId([6; 16]);
    let resume = Resume { tracker: world.hub.id(), nonce: nonce.0, session: welcome.session };
    let proof = Signed::new(resume, Context::None, &secret(9));
    let (link, _end) = mpsc::channel(QUEUE_MAX);
    // A lane whose grant has to wait for the disk.
    let _other = world.edge(2);
    let mut resume = pin!(world.hub.resume(welcome.certificate, &proof, nonce, address(9), link));
    assert!(resume.as_mut().now_or_never().is_none());
    world.hub.carried.clear();
    assert_eq!(resume.await.unwrap_err().code, FaultCode::NotLive);
    world.hub.sweep(now().plus_millis(RESUME_MS)).await;
    assert!(world.hub.sessions.is_empty());
    assert!(!world.hub.money.is_open(welcome.session));
}

#[tokio::test]
async fn who_does_not_come_back_after_a_restart_is_ended() {
    let folder = std::sync::Arc::new(tempfile::tempdir().unwrap());
    let session = {
        let world = World::with(Vec::new(), std::sync::Arc::clone(&folder)).await;
        let show = world.stream("show", true, 1_000_000_000).await;
        let _edge = world.edge(1);
        let (welcome, _end) = world.join(&show, 9).await;
        world.tasks.shutdown(std::time::Duration::from_secs(5)).await;
        welcome.session
    };
    let world = World::with(Vec::new(), folder).await;
    world.hub.sweep(now().plus_millis(RESUME_MS / 2)).await;
    assert!(world.hub.money.is_open(session), "it still may");
    world.hub.sweep(now().plus_millis(RESUME_MS)).await;
    assert!(!world.hub.money.is_open(session));
}

// --- tokens --------------------------------------------------------------------------------------------------

#[tokio::test]
async fn tokens_are_renewed_at_half_of_their_lives() {
    let world = World::new().await;
    let show = world.stream("show", false, 1_000_000_000).await;
    let (edge, mut edge_end) = world.edge(1);
    let (welcome, mut end) = world.join(&show, 9).await;
    let first = welcome.token.unwrap().unverified().expires;
    let ToEdge::Stream { token, .. } = world.hub.lookup(edge, &show) else { panic!("it has a lane") };
    let edge_first = token.unverified().expires;

    world.hub.sweep(now().plus_millis(TOKEN_MS / 3)).await;
    assert!(end.try_recv().is_err() && edge_end.try_recv().is_err(), "it is early");
    world.carry(&show, None);
    world.hub.sweep(now().plus_millis(TOKEN_MS / 2)).await;
    let Ok(ToViewer::Grants { token: Some(token), .. }) = end.try_recv() else { panic!("a token") };
    assert!(token.unverified().expires >= first.plus_millis(TOKEN_MS / 2));
    assert_eq!(token.unverified().bearer, Bearer::Session(welcome.session));
    let Ok(ToEdge::Stream { token, .. }) = edge_end.try_recv() else { panic!("a token") };
    assert!(token.unverified().expires >= edge_first.plus_millis(TOKEN_MS / 2));
    world.hub.sweep(now().plus_millis(TOKEN_MS / 2 + 1)).await;
    assert!(end.try_recv().is_err() && edge_end.try_recv().is_err(), "they have it");
}

#[tokio::test]
async fn a_public_streams_viewers_are_given_no_tokens() {
    let world = World::new().await;
    let show = world.stream("show", true, 1_000_000_000).await;
    let (_welcome, mut end) = world.join(&show, 9).await;
    world.hub.sweep(now().plus_millis(TOKEN_MS)).await;
    assert!(end.try_recv().is_err());
}

// --- edges ---------------------------------------------------------------------------------------------------

#[tokio::test]
async fn a_stranger_learns_nothing_of_a_stream() {
    let world = World::new().await;
    let show = world.stream("show", false, 1_000_000_000).await;
    let (stranger, _end) = world.edge(1);
    let refused = |answer| match answer {
        ToEdge::NoStream { stream, code, .. } => (stream, code),
        other => panic!("{other:?}"),
    };
    let nothing: StreamId = "nothing".parse().unwrap();
    for id in [&show, &nothing] {
        let answer = refused(world.hub.lookup(stranger, id));
        assert_eq!(answer, (id.clone(), FaultCode::UnknownStream), "not even whether it exists");
    }
    let (_welcome, _viewer) = world.join(&show, 9).await;
    assert!(matches!(world.hub.lookup(stranger, &show), ToEdge::Stream { .. }), "now it serves somebody");
}

#[tokio::test]
async fn an_edge_keeps_its_streams_when_the_tracker_is_restarted() {
    let folder = std::sync::Arc::new(tempfile::tempdir().unwrap());
    let (edge, show) = {
        let world = World::with(Vec::new(), std::sync::Arc::clone(&folder)).await;
        let show = world.stream("show", false, 1_000_000_000).await;
        let (edge, _end) = world.edge(1);
        let _viewer = world.join(&show, 9).await;
        world.tasks.shutdown(std::time::Duration::from_secs(5)).await;
        (edge, show)
    };
    let world = World::with(Vec::new(), folder).await;
    world.carry(&show, None);
    let _end = world.edge(1);
    assert!(matches!(world.hub.lookup(edge, &show), ToEdge::Stream { .. }), "its viewer has not resumed yet");
}

#[tokio::test]
async fn private_streams_go_to_trusted_edges_alone() {
    let trusted = SecretKey::from_seed(&[2; 32]).public();
    let world = World::with(vec![trusted], std::sync::Arc::new(tempfile::tempdir().unwrap())).await;
    let (open, members) = (
        world.stream("open", true, 1_000_000_000).await,
        world.stream("members", false, 1_000_000_000).await,
    );
    let (other, _other) = world.edge(1);
    let (welcome, _viewer) = world.join(&open, 9).await;
    assert_eq!(world.has(welcome.session), [other]);
    let (welcome, _viewer) = world.join(&members, 10).await;
    assert!(world.has(welcome.session).is_empty());
    let _trusted = world.edge(2);
    let (welcome, _viewer) = world.join(&members, 11).await;
    assert_eq!(world.has(welcome.session), [trusted]);
}

#[tokio::test]
async fn an_edge_that_says_it_has_nobody_is_not_given_more_than_it_takes() {
    let world = World::new().await;
    let show = world.stream("show", true, 1_000_000_000).await;
    let (edge, _end) = world.edge_of(1, 2);
    for n in 9..12 {
        let (welcome, _viewer) = world.join(&show, n).await;
        world.hub.status(edge, 0, BitRate(0), Vec::new());
        assert_eq!(world.has(welcome.session).len(), usize::from(n < 11));
    }
    let left = *world.hub.sessions.iter().find(|session| !session.edges.is_empty()).unwrap().key();
    world.hub.leave(left);
    let (welcome, _viewer) = world.join(&show, 12).await;
    assert_eq!(world.has(welcome.session), [edge], "there is room again");
}

#[tokio::test]
async fn rates_that_no_number_holds_are_not_added() {
    let world = World::new().await;
    let show = world.stream("show", true, 1_000_000_000).await;
    let rendition = |id, group: &str| Rendition {
        id: RenditionId(id),
        name: group.into(),
        group: group.into(),
        media: Media::Audio { channels: 2, sample_rate: 48_000 },
        codecs: "mp4a.40.2".into(),
        bandwidth: BitRate(u64::MAX),
        timescale: 1_000,
        target_duration_ms: 4_000,
        part_target_ms: 250,
        init: bytes::Bytes::from_static(b"init"),
    };
    let catalog = Catalog {
        generation: 1,
        version: 1,
        created: now(),
        ended: false,
        renditions: vec![rendition(0, "video"), rendition(1, "audio")],
    };
    let context = Context::Stream(&show);
    world.carry(&show, Some(Signed::new(catalog, context, &SecretKey::from_seed(&[20; 32]))));
    assert_eq!(world.hub.rate(&show), BitRate(u64::MAX));
}

// --- failing edges -------------------------------------------------------------------------------------------

#[tokio::test]
async fn a_viewer_with_a_bad_edge_is_given_another() {
    let world = World::new().await;
    let show = world.stream("show", true, 1_000_000_000).await;
    let ends = [world.edge(1), world.edge(2)];
    let (welcome, mut viewer) = world.join(&show, 9).await;
    let _third = world.edge(3);
    let bad = ends[0].0;
    world.hub.report(welcome.session, report(&[(bad, 100, 1, true)], 0), now()).await;
    let edges = reassigned(&mut viewer);
    assert!(edges.len() == 2 && !edges.contains(&bad), "{edges:?}");
    let one = world.has(welcome.session);
    assert_eq!(one, edges);
    // Nobody else is left: better one edge than that one.
    world.hub.report(welcome.session, report(&[(edges[0], 100, 1, true)], 0), now()).await;
    assert_eq!(reassigned(&mut viewer).len(), 1);
}

#[tokio::test]
async fn a_silent_edge_is_replaced_where_there_is_another_and_kept_where_there_is_none() {
    let world = World::new().await;
    let show = world.stream("show", true, 1_000_000_000).await;
    let (one, two) = (world.edge(1).0, world.edge(2).0);
    let silent = async |session, from: u64| {
        for n in from..from + 3 {
            let said = report(&[(one, n * 100, 0, true), (two, 0, 0, false)], 0);
            world.hub.report(session, said, now().plus_millis(n * 5_000)).await;
        }
    };
    let (alone, mut end) = world.join(&show, 9).await;
    silent(alone.session, 1).await;
    let edges = reassigned(&mut end);
    assert!(edges.contains(&two) && edges.len() == 2, "it may come back: {edges:?}");
    let (lucky, mut end) = world.join(&show, 10).await;
    let three = world.edge(3).0;
    silent(lucky.session, 1).await;
    let mut edges = reassigned(&mut end);
    edges.sort_unstable();
    let mut best = vec![one, three];
    best.sort_unstable();
    assert_eq!(edges, best);
}

#[tokio::test]
async fn an_edge_that_fails_several_networks_is_given_to_nobody_new() {
    let world = World::new().await;
    let show = world.stream("show", true, 1_000_000_000).await;
    let bad = world.edge(1).0;
    let mut viewers = Vec::new();
    for n in 9..12 {
        viewers.push(world.join(&show, n).await);
    }
    let _good = [world.edge(2), world.edge(3)];
    for (welcome, _) in &viewers[..2] {
        world.hub.report(welcome.session, report(&[(bad, 100, 1, true)], 0), now()).await;
    }
    let mut given = false;
    for n in 20..40 {
        given |= world.has(world.join(&show, n).await.0.session).contains(&bad);
    }
    assert!(given, "two may lie");
    world.hub.report(viewers[2].0.session, report(&[(bad, 100, 1, true)], 0), now()).await;
    for n in 40..60 {
        let (welcome, _end) = world.join(&show, n).await;
        assert!(!world.has(welcome.session).contains(&bad));
    }
}

// --- lacking edges -------------------------------------------------------------------------------------------

#[tokio::test]
async fn who_met_an_empty_budget_is_given_edges_when_money_comes() {
    let world = World::new().await;
    let show = world.stream("show", true, 0).await;
    let _edges = [world.edge(1), world.edge(2)];
    let (_welcome, mut end) = world.join(&show, 9).await;
    world.hub.sweep(now()).await;
    assert!(end.try_recv().is_err(), "there is no money");
    let account = Name::new("show").unwrap();
    world.hub.money.fund(&account, Micros(1_000_000_000), "later").await.unwrap();
    world.hub.funded();
    world.hub.sweep(now()).await;
    assert_eq!(reassigned(&mut end).len(), 2, "at once");
}

#[tokio::test]
async fn who_lacks_edges_is_tried_again_though_nothing_was_said_to_have_come() {
    let world = World::new().await;
    let show = world.stream("show", true, 0).await;
    let _edges = [world.edge(1), world.edge(2)];
    let (_welcome, mut end) = world.join(&show, 9).await;
    world.hub.sweep(now()).await;
    let account = Name::new("show").unwrap();
    // As when the day of a budget is over.
    world.hub.money.fund(&account, Micros(1_000_000_000), "later").await.unwrap();
    world.hub.sweep(now().plus_millis(30_000)).await;
    assert_eq!(reassigned(&mut end).len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_viewers_of_a_lost_edge_share_commits() {
    const VIEWERS: u8 = 64;
    let world = World::new().await;
    let show = world.stream("show", true, 1_000_000_000_000).await;
    let lost = world.edge(1).0;
    let viewers = join_all((0..VIEWERS).map(|n| world.join(&show, n + 100))).await;
    let other = world.edge(2).0;
    let before = world.transfers().await;
    world.hub.edges.remove(&lost);
    world.hub.replace(lost, "the edge is gone").await;
    assert!(viewers.iter().all(|(welcome, _)| world.has(welcome.session) == [other]));
    let commits = world.transfers().await - before;
    println!("{VIEWERS} viewers placed anew in {commits} commits");
    assert!(commits <= u64::from(VIEWERS / 4), "{commits}");
}

// --- signals -------------------------------------------------------------------------------------------------

#[tokio::test]
async fn signals_pass_between_a_viewer_and_its_own_edges_alone() {
    let world = World::new().await;
    let show = world.stream("show", true, 1_000_000_000).await;
    let (edge, mut edge_end) = world.edge(1);
    let (welcome, mut end) = world.join(&show, 9).await;
    let (other, _other_end) = world.edge(2);
    let signal =
        |peer: &dyn std::fmt::Display, size| Signal { peer: peer.to_string(), data: "x".repeat(size) };
    world.hub.signal_edge(welcome.session, signal(&edge, 100)).unwrap();
    let told = edge_end.try_recv();
    assert!(
        matches!(&told, Ok(ToEdge::Signal(said)) if said.peer == welcome.session.to_string()),
        "{told:?}"
    );
    world.hub.signal_viewer(edge, signal(&welcome.session, 16 * 1024)).unwrap();
    let told = end.try_recv();
    assert!(matches!(&told, Ok(ToViewer::Signal(said)) if said.peer == edge.to_string()), "{told:?}");

    let refused = [
        world.hub.signal_edge(welcome.session, signal(&other, 1)),
        world.hub.signal_viewer(other, signal(&welcome.session, 1)),
        world.hub.signal_edge(welcome.session, signal(&edge, 16 * 1024 + 1)),
        world.hub.signal_edge(welcome.session, signal(&"nobody", 1)),
    ];
    assert!(refused.iter().all(|refused| refused.as_ref().unwrap_err().code == FaultCode::BadRequest));
    let full = (0..QUEUE_MAX).find_map(|_| world.hub.signal_edge(welcome.session, signal(&edge, 1)).err());
    assert_eq!(full.unwrap().code, FaultCode::Unavailable);
    assert!(edge_end.len() <= QUEUE_MAX / 2, "the rest is for what the tracker says");
}
