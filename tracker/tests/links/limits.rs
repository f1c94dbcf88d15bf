//! What a connection costs at most, and what many messages at once cost together.

use std::time::{Duration, Instant};

use millstream_model::SessionId;
use millstream_tracker::Tracker;
use millstream_wire::{
    session::Grant,
    tracker::{FaultCode, FromEdge, FromViewer, ToEdge, ToViewer},
};
use serde_json::json;
use tokio::sync::oneshot;

use crate::world::{EdgeLink, ViewerLink, World, config, voucher};

#[tokio::test]
async fn a_connection_whose_peer_does_not_say_who_it_is_is_closed() {
    let world = World::new().await;
    world.live("show", json!({})).await;
    let (mut edge, _) = world.edge(1).await;
    let (mut viewer, _) = world.welcome("show").await;
    let mut silent: EdgeLink = world.connect("edge").await;
    let mut wordy: ViewerLink = world.connect("viewer").await;
    assert!(matches!(silent.hear().await, ToEdge::Challenge(_)));
    assert!(matches!(wordy.hear().await, ToViewer::Challenge(_)));
    let start = Instant::now();
    // Words that introduce nobody do not help.
    wordy.say_text("{}".into()).await;
    wordy.hear().await;
    assert!(silent.listen().await.is_none() && wordy.listen().await.is_none());
    assert!((9..25).contains(&start.elapsed().as_secs()), "{:?}", start.elapsed());
    edge.say(&FromEdge::Lookup { stream: "nothing".parse().unwrap() }).await;
    assert!(matches!(edge.hear().await, ToEdge::NoStream { .. }), "who did stays");
    viewer.say(&FromViewer::Leave).await;
    assert!(viewer.listen().await.is_none());
}

#[tokio::test]
async fn vouchers_of_somebody_who_did_not_register_end_the_connection() {
    let world = World::new().await;
    world.live("show", json!({})).await;
    let (_edge, _) = world.edge(1).await;
    let (_viewer, welcome) = world.welcome("show").await;
    let start = Instant::now();
    let mut stranger: EdgeLink = world.connect("edge").await;
    assert!(matches!(stranger.hear().await, ToEdge::Challenge(_)));
    let voucher = voucher(welcome.edges[0].grant.unverified(), 1_000);
    stranger.say(&FromEdge::Voucher { voucher }).await;
    let ToEdge::Error(fault) = stranger.hear().await else { panic!("a refusal") };
    assert_eq!(fault.code, FaultCode::BadRequest);
    assert!(stranger.listen().await.is_none());
    assert!(start.elapsed() < Duration::from_secs(9), "at once, and not because it is not introduced");
}

#[tokio::test]
async fn the_vouchers_that_an_edge_brings_at_once_share_commits() {
    const VIEWERS: usize = 40;
    let world = World::new().await;
    world.live_with("show", json!({}), 0).await;
    let (mut edge, _) = world.edge(1).await;
    let mut viewers = Vec::new();
    for _ in 0..VIEWERS {
        viewers.push(world.welcome("show").await);
    }
    world.carry("show", 1 << 40).await;
    let before = transfers(&world).await;
    let start = Instant::now();
    for (_, welcome) in &viewers {
        let voucher = voucher(welcome.edges[0].grant.unverified(), 1_000_000);
        edge.say(&FromEdge::Voucher { voucher }).await;
    }
    for _ in 0..VIEWERS {
        let answer = edge.hear().await;
        assert!(matches!(answer, ToEdge::Receipt { .. }), "{answer:?}");
    }
    let took = start.elapsed();
    let commits = transfers(&world).await - before;
    println!("{VIEWERS} vouchers of one edge in {commits} commits, {took:?}");
    assert!(commits <= VIEWERS / 4, "{commits}");
}

/// One for each commit that moved money.
async fn transfers(world: &World) -> usize {
    let (_, audit) = world.get("/v1/audit").await;
    assert_eq!(audit["sound"], true, "{audit}");
    usize::try_from(audit["transfers"].as_u64().unwrap()).unwrap()
}

#[tokio::test]
async fn an_edge_that_floods_with_vouchers_is_slowed_down_and_harms_nobody() {
    const FLOOD: u32 = 300;
    let world = World::new().await;
    world.live("show", json!({})).await;
    let (mut edge, _) = world.edge(1).await;
    let (mut viewer, welcome) = world.welcome("show").await;
    let grant = welcome.edges[0].grant.unverified();
    let stray = voucher(&Grant { session: SessionId([9; 16]), ..grant.clone() }, 1);
    let start = Instant::now();
    for _ in 0..FLOOD {
        edge.say(&FromEdge::Voucher { voucher: stray.clone() }).await;
    }
    for _ in 0..FLOOD {
        assert!(matches!(edge.hear().await, ToEdge::Rejected { .. }));
    }
    assert!(start.elapsed() >= Duration::from_secs(4), "{:?}", start.elapsed());
    viewer.say(&FromViewer::Renew { edge: grant.edge }).await;
    assert!(matches!(viewer.hear().await, ToViewer::Grants { .. }));
}

#[tokio::test]
async fn a_second_tracker_with_the_same_book_is_refused() {
    let data = tempfile::tempdir().unwrap();
    let tracker = Tracker::load(config(data.path())).await.unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let running = tokio::spawn(tracker.run(async move { drop(stopped.await) }));
    let refused = Tracker::load(config(data.path())).await.map(drop).unwrap_err();
    assert!(format!("{refused:#}").contains("another running program"), "{refused:#}");
    drop(stop);
    running.await.unwrap().unwrap();
    drop(Tracker::load(config(data.path())).await.expect("nobody has it any more"));
}
