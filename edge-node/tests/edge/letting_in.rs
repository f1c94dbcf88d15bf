//! Who is let in over a real connection, and what the others are told.

use std::time::Duration;

use millstream_model::{Fingerprint, StreamId};
use millstream_wire::{
    frame::{Frame, Reason, Subscription},
    session::{Grant, Hello},
    sign::{Context, SecretKey, SessionSecret, Signed},
};

use crate::{
    broadcast::VIDEO,
    tracker::wall,
    viewer::Viewer,
    world::{Running, World},
};

async fn refused(mut viewer: Viewer, grant: Signed<Grant>, hello: Signed<Hello>) -> (Reason, String) {
    let answer = viewer.greet_as(grant, hello).await;
    let Frame::Refuse { reason, text } = answer else { unreachable!("{answer:?}") };
    assert_eq!(viewer.next().await, None, "and the connection closes");
    (reason, text)
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_are_refused_with_a_reason_and_counted() {
    let world = World::new().await;
    let sign = |grant: &Grant| world.tracker.sign(grant);

    let forger = SecretKey::from_seed(&[66; 32]);
    let viewer = world.stranger(1).await;
    let grant = Signed::new(viewer.grant.clone(), Context::None, &forger);
    let hello = Signed::new(viewer.hello(), Context::None, &viewer.secret);
    let said = refused(viewer, grant, hello).await;
    assert_eq!(said, (Reason::Grant, "the grant is not signed by the tracker".into()));

    let viewer = world.stranger(2).await;
    let thief = SessionSecret::from_bytes(&[77; 32]).unwrap();
    let (grant, hello) = (sign(&viewer.grant), Signed::new(viewer.hello(), Context::None, &thief));
    let said = refused(viewer, grant, hello).await;
    assert_eq!(said, (Reason::Hello, "the hello is not signed by the session's key".into()));

    // A hello that was overheard: true, but made for another connection.
    let viewer = world.stranger(3).await;
    let other = Hello { fingerprint: Fingerprint([9; 32]), ..viewer.hello() };
    let (grant, hello) = (sign(&viewer.grant), Signed::new(other, Context::None, &viewer.secret));
    let said = refused(viewer, grant, hello).await;
    assert_eq!(said, (Reason::Hello, "the hello is for another connection".into()));

    let viewer = world.stranger(4).await;
    let late = Grant { expires: wall().plus_millis(1), ..viewer.grant.clone() };
    let late = Grant { expires: millstream_model::WallTime(late.expires.0 - 20 * 60_000), ..late };
    let (grant, hello) = (sign(&late), Signed::new(viewer.hello(), Context::None, &viewer.secret));
    let said = refused(viewer, grant, hello).await;
    assert_eq!(said, (Reason::Grant, "the grant has expired".into()));

    let status = world.edge.until("four refusals", |status| status.viewers == 0).await;
    assert_eq!(status.refused["grant"], 2);
    assert_eq!(status.refused["hello"], 2);
    assert_eq!(world.origin.feeds.load(std::sync::atomic::Ordering::Relaxed), 0);
    world.edge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_the_tracker_does_not_know_is_refused() {
    let world = World::new().await;
    let viewer = world.stranger(1).await;
    let grant = Grant { stream: StreamId::new("nobody").unwrap(), ..viewer.grant.clone() };
    let (grant, hello) =
        (world.tracker.sign(&grant), Signed::new(viewer.hello(), Context::None, &viewer.secret));
    let said = refused(viewer, grant, hello).await;
    assert_eq!(said, (Reason::Stream, "the stream is not live".into()));
    let mut viewer = world.viewer(2).await;
    viewer.subscribe(VIDEO, Subscription::Pieces).await;
    let number = world.origin.publish(VIDEO, 1_000);
    viewer.until(VIDEO, number).await;
    world.edge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_lookup_is_not_taken_for_one_that_waits_for_its_answer() {
    let world = World::new().await;
    world.tracker.holds.store(true, std::sync::atomic::Ordering::Relaxed);
    let mut first = world.stranger(1).await;
    let grant = world.tracker.sign(&first.grant);
    let greeting = tokio::spawn(async move { first.greet(grant).await });
    world.tracker.saw("a lookup", |seen| seen.lookups.len() == 1).await;
    let other = world.stranger(2).await;
    let grant = Grant { stream: StreamId::new("nobody").unwrap(), ..other.grant.clone() };
    let (grant, hello) =
        (world.tracker.sign(&grant), Signed::new(other.hello(), Context::None, &other.secret));
    assert_eq!(refused(other, grant, hello).await.0, Reason::Stream);
    greeting.await.expect("it is let in");
    world.edge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_connection_of_a_session_takes_over() {
    let world = World::new().await;
    let mut first = world.viewer(1).await;
    let mut second = world.viewer(1).await;
    let (reason, text) = first.until_refused().await;
    assert_eq!((reason, text.as_str()), (Reason::Full, "another connection of this session took over"));
    second.subscribe(VIDEO, Subscription::Pieces).await;
    let number = world.origin.publish(VIDEO, 1_000);
    second.until(VIDEO, number).await;
    world.edge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_viewer_too_many_is_told_so() {
    let mut world = World::new().await;
    let config = millstream_edge::Config { viewers_max: 1, ..world.config() };
    world.edge.stop().await;
    world.edge = Running::start(config, std::sync::Arc::new(millstream_edge::AsItIs)).await;
    world.tracker.saw("the edge again", |seen| seen.registered == 2).await;
    let mut first = world.viewer(1).await;
    let mut second = world.stranger(2).await;
    let (reason, _) = second.until_refused().await;
    assert_eq!(reason, Reason::Full);
    first.say(&Frame::Ping(5)).await;
    while first.next().await != Some(Frame::Pong(5)) {}
    world.edge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edge_that_never_met_its_tracker_lets_nobody_in() {
    let mut world = World::new().await;
    let known = world.edge.addresses.id;
    world.tracker.kill();
    let fresh = tempfile::tempdir().unwrap();
    let config = millstream_edge::Config { data: fresh.path().into(), ..world.config() };
    let edge = Running::start(config, std::sync::Arc::new(millstream_edge::AsItIs)).await;
    assert_ne!(edge.addresses.id, known, "another folder, another key");
    std::mem::replace(&mut world.edge, edge).stop().await;
    let mut viewer = world.stranger(1).await;
    let (reason, text) = viewer.until_refused().await;
    assert_eq!((reason, text.as_str()), (Reason::Full, "this edge has not met its tracker yet"));
    tokio::time::timeout(Duration::from_secs(20), world.edge.stop()).await.unwrap();
}
