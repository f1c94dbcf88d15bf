//! Edges: registering, looking up, leaving; and who pretends to be one.

use millstream_model::EdgeId;
use millstream_tracker::{Config, Tracker};
use millstream_wire::{
    session::Bearer,
    sign::{Context, SecretKey},
    tracker::{EdgeAddress, EdgeOffer, FaultCode, FromEdge, FromViewer, Signal, ToEdge, ToViewer},
};
use serde_json::json;

use crate::{
    viewers::resume,
    world::{EdgeLink, ViewerLink, World, address, config, register, viewer as secret, voucher},
};

#[tokio::test]
async fn an_edge_learns_where_a_stream_comes_from() {
    let world = World::new().await;
    world.live("show", json!({})).await;
    let (mut link, edge) = world.edge(1).await;
    let (_viewer, _) = world.welcome("show").await;
    link.say(&FromEdge::Lookup { stream: "show".parse().unwrap() }).await;
    let ToEdge::Stream { origin, token, .. } = link.hear().await else { panic!("a stream") };
    assert_eq!(origin, "http://127.0.0.1:9");
    assert_eq!(token.unverified().bearer, Bearer::Edge(edge));
    link.say(&FromEdge::Lookup { stream: "nothing".parse().unwrap() }).await;
    let ToEdge::NoStream { stream, code, .. } = link.hear().await else { panic!("a refusal") };
    assert_eq!((stream.as_str(), code), ("nothing", FaultCode::UnknownStream));
}

#[tokio::test]
async fn a_proof_is_good_for_one_connection_and_one_key() {
    let world = World::new().await;
    let secret = SecretKey::from_seed(&[1; 32]);
    let mut first: EdgeLink = world.connect("edge").await;
    let ToEdge::Challenge(old) = first.hear().await else { panic!("a challenge") };
    let mut second: EdgeLink = world.connect("edge").await;
    let ToEdge::Challenge(_) = second.hear().await else { panic!("a challenge") };
    second.say(&register(&secret, &old)).await;
    let ToEdge::Error(fault) = second.hear().await else { panic!("a refusal") };
    assert_eq!(fault.code, FaultCode::BadProof);
    assert!(second.listen().await.is_none(), "and that is the end of it");
    first.say(&FromEdge::Drain).await;
    let ToEdge::Error(fault) = first.hear().await else { panic!("a refusal") };
    assert_eq!(fault.code, FaultCode::BadRequest, "register comes first");
}

#[tokio::test]
async fn a_voucher_that_comes_before_the_packagers_report_is_to_be_brought_again() {
    let world = World::new().await;
    world.live_with("show", json!({}), 1_000_000).await;
    let (mut link, _) = world.edge(1).await;
    let (_viewer, welcome) = world.welcome("show").await;
    let grant = welcome.edges[0].grant.unverified().clone();
    let early = FromEdge::Voucher { voucher: voucher(&grant, 4_000_000) };
    link.say(&early).await;
    let ToEdge::Rejected { session, reason, retry } = link.hear().await else { panic!("refused") };
    assert_eq!((session, retry), (grant.session, true), "{reason}");
    world.carry("show", 4_000_000).await;
    link.say(&early).await;
    let ToEdge::Receipt { receipt } = link.hear().await else { panic!("a receipt") };
    assert_eq!(receipt.unverified().payable, 4_000_000);
    let over = voucher(&grant, grant.cap_bytes + 1);
    link.say(&FromEdge::Voucher { voucher: over }).await;
    let ToEdge::Rejected { retry, reason, .. } = link.hear().await else { panic!("refused") };
    assert!(!retry, "{reason}");
}

#[tokio::test]
async fn the_viewers_of_a_draining_edge_are_given_another() {
    let world = World::new().await;
    world.live("show", json!({})).await;
    let (mut one, first) = world.edge(1).await;
    let (mut viewer, welcome) = world.welcome("show").await;
    assert_eq!(welcome.edges.len(), 1);
    let (_two, second) = world.edge(2).await;
    one.say(&FromEdge::Drain).await;
    let edges = edges_without(first, &mut viewer).await;
    assert!(edges.iter().any(|offer| offer.id == second));
    assert!(edges[0].grant.verify(&edges[0].grant.unverified().tracker, Context::None).is_ok());
}

#[tokio::test]
async fn the_viewers_of_a_lost_edge_are_given_another() {
    let world = World::new().await;
    world.live("show", json!({})).await;
    let (one, first) = world.edge(1).await;
    let (mut viewer, _) = world.welcome("show").await;
    let (_two, second) = world.edge(2).await;
    drop(one);
    let edges = edges_without(first, &mut viewer).await;
    assert_eq!(edges.iter().map(|offer| offer.id).collect::<Vec<_>>(), [second]);
}

#[tokio::test]
async fn an_edge_behind_nat_finds_itself_and_its_viewers_find_it() {
    let world = World::new().await;
    world.live("show", json!({})).await;
    let (_public, public) = world.edge(1).await;
    let (mut link, edge, stun) = world.edge_behind_nat(2).await;
    assert_eq!(stun, ["127.0.0.1:4443"], "the public one tells it where it is");
    let (mut viewer, welcome) = world.welcome("show").await;
    assert_eq!(welcome.edges.iter().map(|offer| offer.id).collect::<Vec<_>>(), [public]);
    let wrong = FromEdge::Address { address: address("0.0.0.0:4443") };
    link.say(&wrong).await;
    let ToEdge::Error(fault) = link.hear().await else { panic!("a refusal") };
    assert_eq!(fault.code, FaultCode::BadRequest);
    let there = EdgeAddress { behind_nat: true, ..address("198.51.100.1:4443") };
    link.say(&FromEdge::Address { address: there.clone() }).await;
    let ToViewer::Reassign { edges, .. } = viewer.hear().await else { panic!("the edge") };
    let offer = edges.iter().find(|offer| offer.id == edge).expect("the edge");
    assert_eq!(offer.address, EdgeAddress { stun, ..there });
    let (_, edges) = world.get("/v1/edges").await;
    let behind = |id: EdgeId| {
        let lines = edges["edges"].as_array().unwrap();
        lines.iter().find(|line| line["id"] == id.to_string()).unwrap()["behind_nat"] == true
    };
    assert_eq!((behind(public), behind(edge)), (false, true));
    // What a viewer says of itself reaches the edge.
    let data = r#"{"ufrag":"aaaa","password":"bbbbbbbbbbbbbbbbbbbbbb","candidates":["203.0.113.1:5000"]}"#;
    viewer.say(&FromViewer::Signal(Signal { peer: edge.to_string(), data: data.into() })).await;
    let ToEdge::Signal(signal) = link.hear().await else { panic!("a signal") };
    assert_eq!((signal.peer, signal.data.as_str()), (welcome.session.to_string(), data));
}

#[tokio::test]
async fn stun_servers_that_are_none_are_refused_at_the_start() {
    let data = tempfile::tempdir().unwrap();
    let with = async |stun: &[&str]| {
        let stun = stun.iter().map(|server| (*server).to_owned()).collect();
        Tracker::load(Config { stun, ..config(data.path()) }).await.map(drop)
    };
    for wrong in [
        "stun:stun.example:3478",
        "stun.example",
        "stun.example:0",
        "a b:1",
        ":1",
        "[::g]:1",
        "a:70000",
        "a:+1",
    ] {
        let refused = with(&[wrong]).await.unwrap_err().to_string();
        assert!(refused.contains(wrong) && refused.contains("host:port"), "{refused}");
    }
    assert!(with(&["a:1", "b:1", "c:1", "d:1", "e:1"]).await.is_err(), "more than 4");
    with(&["stun.example.com:3478", "192.0.2.1:1", "[2001:db8::1]:65535"]).await.unwrap();
}

/// The viewer's next set of edges without `gone`: it may be given the new one beside it first.
async fn edges_without(gone: EdgeId, viewer: &mut ViewerLink) -> Vec<EdgeOffer> {
    loop {
        let ToViewer::Reassign { edges, .. } = viewer.hear().await else { panic!("other edges") };
        if edges.iter().all(|offer| offer.id != gone) {
            return edges;
        }
    }
}

#[tokio::test]
async fn a_viewer_that_came_before_the_edges_is_given_them_when_they_come() {
    let world = World::new().await;
    world.live("show", json!({})).await;
    let (mut viewer, welcome) = world.welcome("show").await;
    assert!(welcome.edges.is_empty());
    let (_one, first) = world.edge(1).await;
    let ToViewer::Reassign { edges, .. } = viewer.hear().await else { panic!("an edge") };
    assert_eq!(edges.iter().map(|offer| offer.id).collect::<Vec<_>>(), [first]);
    let (_two, second) = world.edge(2).await;
    let ToViewer::Reassign { edges, .. } = viewer.hear().await else { panic!("another edge") };
    assert_eq!(edges.iter().map(|offer| offer.id).collect::<Vec<_>>(), [first, second]);
}

#[tokio::test]
async fn after_a_restart_a_viewer_keeps_the_edge_that_has_not_come_back_yet() {
    let mut world = World::new().await;
    world.live("show", json!({})).await;
    let (one, first) = world.edge(1).await;
    let (viewer, welcome) = world.welcome("show").await;
    drop((one, viewer));
    world.restart().await;
    world.carry("show", 1 << 40).await;
    let (_two, second) = world.edge(2).await;
    let (mut viewer, answer) = resume(&world, &welcome, &secret()).await;
    let ToViewer::Welcome(again) = answer else { panic!("{answer:?}") };
    assert!(again.edges.is_empty(), "nothing is put in the place of what is waited for: {:?}", again.edges);
    let (_one, _) = world.edge(1).await;
    let ToViewer::Reassign { edges, .. } = viewer.hear().await else { panic!("both edges") };
    assert_eq!(edges.iter().map(|offer| offer.id).collect::<Vec<_>>(), [first, second]);
}
