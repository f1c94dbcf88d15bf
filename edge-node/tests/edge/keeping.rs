//! Money and identity over outages and restarts, and what the operator sees.

use std::sync::Arc;

use millstream_edge::AsItIs;
use millstream_wire::{
    frame::{Frame, Reason, Subscription::*},
    session::Grant,
};

use crate::{
    broadcast::VIDEO,
    tracker::{PRICE, wall},
    viewer::{Viewer, demo},
    world::{Running, World, get},
};

async fn watch(world: &World, viewer: &mut Viewer, parts: u32) {
    viewer.subscribe(VIDEO, Pieces).await;
    for _ in 0..parts {
        let number = world.origin.publish(VIDEO, 200_000);
        viewer.until(VIDEO, number).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_voucher_becomes_a_receipt_and_shows_in_the_earnings() {
    let world = World::new().await;
    let mut viewer = world.viewer(1).await;
    watch(&world, &mut viewer, 5).await;
    let vouched = viewer.vouch().await;
    assert_eq!(vouched, 1_000_000);
    let status = world.edge.until("a receipt", |status| status.earnings.receipts > 0).await;
    assert_eq!(status.earnings.bytes, vouched);
    assert_eq!(status.earnings.earned, PRICE.of(vouched));
    assert_eq!(status.earnings.streams[&demo()].bytes, vouched);
    assert_eq!(status.vouchers.open, 0);
    // The same again at the end of the lane: nothing new, nothing brought.
    viewer.close().await;
    world.edge.until("nobody", |status| status.viewers == 0).await;
    let seen = world.tracker.seen.borrow().clone();
    assert_eq!(seen.voucher_count, 1);
    world.edge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_latest_voucher_is_brought_when_the_lane_ends() {
    let world = World::new().await;
    let mut viewer = world.viewer(1).await;
    watch(&world, &mut viewer, 1).await;
    viewer.vouch().await;
    world.tracker.saw("the first", |seen| seen.voucher_count == 1).await;
    watch(&world, &mut viewer, 2).await;
    let vouched = viewer.vouch().await;
    // Within ten seconds of the first it would wait; the end of the lane does not.
    viewer.say(&Frame::Ping(1)).await;
    while viewer.next().await != Some(Frame::Pong(1)) {}
    let session = viewer.grant.session;
    viewer.close().await;
    let began = std::time::Instant::now();
    world.tracker.saw("the last", |seen| seen.vouchers[&session].unverified().payable == vouched).await;
    assert!(began.elapsed().as_secs() < 5);
    world.edge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_false_voucher_is_refused_and_never_brought() {
    let world = World::new().await;
    let mut viewer = world.viewer(1).await;
    watch(&world, &mut viewer, 1).await;
    viewer.vouch_for(200_001, 200_001).await;
    let (reason, text) = viewer.until_refused().await;
    assert_eq!((reason, text.as_str()), (Reason::Unpaid, "the voucher claims more than was sent"));
    world.edge.until("nobody", |status| status.viewers == 0).await;
    assert_eq!(world.tracker.seen.borrow().voucher_count, 0);
    world.edge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_voucher_that_the_tracker_refuses_is_shown_with_its_reason() {
    let world = World::new().await;
    let mut viewer = world.viewer(1).await;
    world.tracker.refused.lock().unwrap().insert(viewer.grant.session, false);
    watch(&world, &mut viewer, 1).await;
    viewer.vouch().await;
    let status = world.edge.until("a rejection", |status| status.earnings.rejected == 1).await;
    assert_eq!(status.earnings.rejections[0].reason, "more than was watched");
    assert_eq!(status.earnings.rejections[0].payable, 200_000);
    assert_eq!(status.vouchers.open, 0, "it is not brought over and over");
    world.edge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_voucher_that_the_tracker_may_book_later_is_kept_and_brought_again() {
    let world = World::new().await;
    let mut viewer = world.viewer(1).await;
    let session = viewer.grant.session;
    world.tracker.refused.lock().unwrap().insert(session, true);
    watch(&world, &mut viewer, 1).await;
    let vouched = viewer.vouch().await;
    world.tracker.saw("a rejection", |seen| seen.rejected == 1).await;
    world.tracker.refused.lock().unwrap().remove(&session);
    viewer.close().await;
    let status = world.edge.until("a receipt", |status| status.earnings.receipts > 0).await;
    assert_eq!((status.earnings.bytes, status.earnings.rejected), (vouched, 0));
    world.edge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn neither_an_outage_of_the_tracker_nor_a_restart_of_the_edge_loses_a_voucher() {
    let mut world = World::new().await;
    let mut viewer = world.viewer(1).await;
    watch(&world, &mut viewer, 2).await;
    world.tracker.kill();
    world.edge.until("the outage", |status| !status.tracker.registered).await;
    // The show goes on, and new viewers come in: the stream is known.
    watch(&world, &mut viewer, 2).await;
    let vouched = viewer.vouch().await;
    let mut other = world.viewer(2).await;
    watch(&world, &mut other, 1).await;
    let other_vouched = other.vouch().await;
    world.edge.until("two open lanes", |status| status.vouchers.open == 2).await;
    assert_eq!(world.tracker.seen.borrow().voucher_count, 0);

    let config = world.config();
    let addresses = world.edge.addresses.clone();
    let (first, second) = (viewer.grant.session, other.grant.session);
    world.edge.drain();
    viewer.close().await;
    other.close().await;
    world.edge.ended().await;
    world.edge = Running::start(config, Arc::new(AsItIs)).await;
    let again = &world.edge.addresses;
    assert_eq!(again.id, addresses.id);
    assert_eq!(again.public.fingerprint, addresses.public.fingerprint);
    assert_eq!(
        (&again.public.ufrag, &again.public.password),
        (&addresses.public.ufrag, &addresses.public.password)
    );
    assert_eq!((world.edge.status)().vouchers.open, 2, "from the disk");

    world.tracker.revive(&mut world.tasks).await;
    let seen = world.tracker.saw("both vouchers", |seen| seen.vouchers.len() == 2).await;
    assert_eq!(seen.vouchers[&first].unverified().payable, vouched);
    assert_eq!(seen.vouchers[&second].unverified().payable, other_vouched);
    let status = world.edge.until("both receipts", |status| status.vouchers.open == 0).await;
    assert_eq!(status.earnings.bytes, vouched + other_vouched);
    world.edge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lane_that_is_older_than_the_edges_process_goes_on() {
    let mut world = World::new().await;
    let mut viewer = world.viewer(1).await;
    watch(&world, &mut viewer, 3).await;
    viewer.vouch().await;
    world.edge.until("the voucher", |status| status.earnings.receipts > 0).await;
    let (received, verified) = (viewer.received, viewer.verified);
    let grant = viewer.grant.clone();
    viewer.close().await;
    let config = world.config();
    world.edge.stop().await;
    world.edge = Running::start(config, Arc::new(AsItIs)).await;
    world.tracker.saw("the edge again", |seen| seen.registered == 2).await;

    let mut viewer = world.stranger(1).await;
    viewer.grant = grant;
    let signed = world.tracker.sign(&viewer.grant);
    viewer.greet(signed).await;
    (viewer.received, viewer.verified) = (received, verified);
    watch(&world, &mut viewer, 2).await;
    let vouched = viewer.vouch().await;
    assert!(vouched > verified);
    let status = world.edge.until("the rest", |status| status.earnings.bytes == vouched).await;
    assert_eq!(status.earnings.earned, PRICE.of(vouched), "nothing is counted twice");
    world.edge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_tracker_is_away_a_grant_that_has_just_expired_is_honoured() {
    let world = World::new().await;
    let warm = world.viewer(1).await;
    world.tracker.kill();
    world.edge.until("the outage", |status| !status.tracker.registered).await;
    let mut viewer = world.stranger(2).await;
    viewer.grant = Grant {
        issued: wall(),
        expires: millstream_model::WallTime(wall().0 - 5 * 60_000),
        ..viewer.grant.clone()
    };
    let grant = world.tracker.sign(&viewer.grant);
    viewer.greet(grant).await;
    watch(&world, &mut viewer, 1).await;
    drop(warm);
    world.edge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_operator_sees_how_it_goes() {
    let world = World::new().await;
    let mut viewer = world.viewer(1).await;
    watch(&world, &mut viewer, 1).await;
    viewer.vouch().await;
    world.edge.until("a receipt", |status| status.earnings.receipts > 0).await;
    let ops = world.edge.addresses.ops;
    let (status, page) = get(ops, "/").await;
    assert_eq!(status, 200);
    for word in ["<!doctype html>", "prefers-color-scheme", "viewport", "/v1/status"] {
        assert!(page.contains(word), "{word}");
    }
    let (_, json) = get(ops, "/v1/status").await;
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["viewers"], 1);
    assert_eq!(json["sent_bytes"], 200_000);
    assert_eq!(json["earnings"]["bytes"], 200_000);
    assert_eq!(json["tracker"]["registered"], true);
    let (_, metrics) = get(ops, "/metrics").await;
    for line in [
        "millstream_edge_viewers 1",
        "millstream_edge_sent_bytes_total 200000",
        "millstream_edge_vouchers_total 1",
    ] {
        assert!(metrics.contains(line), "{line} in {metrics}");
    }
    assert_eq!(get(ops, "/readyz").await.0, 200);
    world.edge.stop().await;
}
