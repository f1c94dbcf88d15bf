//! Edges: registering, looking up, leaving; and who pretends to be one.

use millstream_wire::{
    session::Bearer,
    sign::{Context, SecretKey},
    tracker::{FaultCode, FromEdge, ToEdge, ToViewer},
};
use serde_json::json;

use crate::world::{EdgeLink, World, register};

#[tokio::test]
async fn an_edge_learns_where_a_stream_comes_from() {
    let world = World::new().await;
    world.live("show", json!({})).await;
    let (mut link, edge) = world.edge(1).await;
    link.say(&FromEdge::Lookup { stream: "show".parse().unwrap() }).await;
    let ToEdge::Stream { origin, token, .. } = link.hear().await else { panic!("a stream") };
    assert_eq!(origin, "http://127.0.0.1:9");
    assert_eq!(token.unverified().bearer, Bearer::Edge(edge));
    link.say(&FromEdge::Lookup { stream: "nothing".parse().unwrap() }).await;
    let ToEdge::Error(fault) = link.hear().await else { panic!("a refusal") };
    assert_eq!(fault.code, FaultCode::UnknownStream);
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
async fn the_viewers_of_a_draining_edge_are_given_another() {
    let world = World::new().await;
    world.live("show", json!({})).await;
    let (mut one, first) = world.edge(1).await;
    let (mut viewer, welcome) = world.welcome("show").await;
    assert_eq!(welcome.edges.len(), 1);
    let (_two, second) = world.edge(2).await;
    one.say(&FromEdge::Drain).await;
    let ToViewer::Reassign { edges, .. } = viewer.hear().await else { panic!("other edges") };
    assert!(edges.iter().any(|offer| offer.id == second));
    assert!(edges.iter().all(|offer| offer.id != first));
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
    let ToViewer::Reassign { edges, .. } = viewer.hear().await else { panic!("other edges") };
    let ids: Vec<_> = edges.iter().map(|offer| offer.id).collect();
    assert!(ids.contains(&second) && !ids.contains(&first));
}
