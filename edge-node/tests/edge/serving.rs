//! Media over real sockets.

use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use bytes::Bytes;
use millstream_edge::{Leaving, Outgoing};
use millstream_wire::{
    frame::{Frame, Reason, Span, Subscription::*},
    sign::Signed,
};

use crate::{
    broadcast::{AUDIO, VIDEO},
    viewer::demo,
    world::World,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_subscriber_is_pushed_every_piece_and_each_verifies() {
    let world = World::new().await;
    let mut viewer = world.viewer(1).await;
    viewer.subscribe(VIDEO, Pieces).await;
    viewer.subscribe(AUDIO, Pieces).await;
    for _ in 0..8 {
        let video = world.origin.publish(VIDEO, 150_000);
        let audio = world.origin.publish(AUDIO, 4_000);
        viewer.until(VIDEO, video).await;
        viewer.until(AUDIO, audio).await;
    }
    assert_eq!(viewer.verified, 8 * 154_000);
    assert_eq!((viewer.received, viewer.bad), (viewer.verified, 0), "each piece came once");
    let token = world.origin.tokens.lock().unwrap().last().cloned().unwrap();
    let token: Signed<millstream_wire::session::Token> =
        token.strip_prefix("Bearer ").unwrap().parse().unwrap();
    assert_eq!(token.unverified().stream, demo());
    world.edge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_viewers_cost_the_origin_one_feed() {
    let world = World::new().await;
    let mut viewers = Vec::new();
    for number in 1..=10 {
        let viewer = world.viewer(number).await;
        viewer.subscribe(VIDEO, Pieces).await;
        viewers.push(viewer);
    }
    for _ in 0..4 {
        let number = world.origin.publish(VIDEO, 100_000);
        for viewer in &mut viewers {
            viewer.until(VIDEO, number).await;
        }
    }
    assert_eq!(world.origin.feeds.load(Ordering::Relaxed), 1);
    let fed = world.origin.bytes.load(Ordering::Relaxed);
    assert!((400_000..410_000).contains(&fed), "{fed}");
    let warm = world.tracker.saw("a warm stream", |seen| !seen.warm.is_empty()).await.warm;
    assert_eq!(warm, [demo()]);
    for viewer in viewers {
        viewer.close().await;
    }
    world.edge.until("the feed closed after the linger", |status| status.cache.feeds == 0).await;
    world.edge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_gets_records_and_the_pieces_it_asks_for() {
    let world = World::new().await;
    let mut viewer = world.viewer(1).await;
    viewer.subscribe(VIDEO, Records).await;
    let number = world.origin.publish(VIDEO, 200_000);
    while !matches!(viewer.next().await, Some(Frame::Record(_))) {}
    viewer.say(&Frame::Request(Span { rendition: VIDEO, number, first: 1, count: 2 })).await;
    while viewer.pieces.get(&(VIDEO, number)).map_or(0, Vec::len) < 2 {
        viewer.next().await.unwrap();
    }
    assert_eq!(viewer.pieces[&(VIDEO, number)], [1, 2]);
    let absent = Span { rendition: VIDEO, number: number + 50, first: 0, count: 1 };
    viewer.say(&Frame::Request(absent)).await;
    while viewer.next().await != Some(Frame::Missing(absent)) {}
    assert_eq!(viewer.received, 2 * 65_536);
    world.edge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_viewer_that_never_signs_gets_the_window_and_no_more() {
    let world = World::new().await;
    let mut cheat = world.viewer(1).await;
    let mut honest = world.viewer(2).await;
    cheat.subscribe(VIDEO, Pieces).await;
    honest.subscribe(VIDEO, Pieces).await;
    for _ in 0..12 {
        let number = world.origin.publish(VIDEO, 300_000);
        honest.until(VIDEO, number).await;
        honest.vouch().await;
    }
    // What was sent to the cheat is there by the time its last ping is answered on the same connection, or stays
    // in the transport's order: drain until it has been quiet for a while.
    while let Ok(Some(_)) = tokio::time::timeout(Duration::from_millis(500), cheat.next()).await {}
    let window = u64::from(cheat.window);
    assert_eq!(window, 2 << 20);
    assert!(cheat.received <= window, "{}", cheat.received);
    assert!(cheat.received > window - 65_536, "{}", cheat.received);
    assert_eq!(honest.verified, 12 * 300_000);
    // Coming back does not help.
    let mut again = world.viewer(1).await;
    again.subscribe(VIDEO, Pieces).await;
    let number = world.origin.publish(VIDEO, 300_000);
    honest.until(VIDEO, number).await;
    while let Ok(Some(_)) = tokio::time::timeout(Duration::from_millis(500), again.next()).await {}
    assert!(cheat.received + again.received <= window);
    world.edge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_viewer_does_not_delay_another() {
    let world = World::new().await;
    let slow = world.viewer(1).await;
    slow.subscribe(VIDEO, Pieces).await;
    let mut fast = world.viewer(2).await;
    fast.subscribe(VIDEO, Pieces).await;
    let mut longest = Duration::ZERO;
    for _ in 0..40 {
        // The slow one takes nothing from its socket's inbox at all.
        let number = world.origin.publish(VIDEO, 120_000);
        let began = Instant::now();
        fast.until(VIDEO, number).await;
        longest = longest.max(began.elapsed());
        fast.vouch().await;
    }
    assert_eq!(fast.verified, 40 * 120_000);
    assert!(longest < Duration::from_secs(1), "{longest:?}");
    let mut slow = slow;
    while let Ok(Some(_)) = tokio::time::timeout(Duration::from_millis(300), slow.next()).await {}
    assert!(slow.verified < fast.verified);
    world.edge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_feed_that_breaks_goes_on_without_a_hole_or_a_double() {
    let world = World::new().await;
    let mut viewer = world.viewer(1).await;
    viewer.subscribe(VIDEO, Pieces).await;
    for _ in 0..3 {
        let number = world.origin.publish(VIDEO, 90_000);
        viewer.until(VIDEO, number).await;
        world.origin.cut();
    }
    for _ in 0..3 {
        let number = world.origin.publish(VIDEO, 90_000);
        viewer.until(VIDEO, number).await;
    }
    assert!(world.origin.feeds.load(Ordering::Relaxed) > 1);
    assert_eq!(viewer.received, 6 * 90_000);
    let fed = world.origin.bytes.load(Ordering::Relaxed);
    assert!(fed < 6 * 91_000, "it goes on where it stopped: {fed}");
    world.edge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_packager_that_starts_again_is_followed_over_the_hole() {
    let world = World::new().await;
    let mut viewer = world.viewer(1).await;
    viewer.subscribe(VIDEO, Pieces).await;
    let before = world.origin.publish(VIDEO, 1_000);
    viewer.until(VIDEO, before).await;
    world.origin.broadcast.lock().unwrap().restart();
    world.origin.cut();
    let after = world.origin.publish(VIDEO, 2_000);
    let mut gap = None;
    while !viewer.has(VIDEO, after) {
        if let Frame::Gap { from, next, .. } = viewer.next().await.unwrap() {
            gap = Some((from, next));
        }
    }
    assert_eq!(gap, Some((before + 1, after)));
    world.edge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_piece_that_the_origin_spoils_reaches_nobody_and_is_fetched_again() {
    let world = World::new().await;
    let mut viewer = world.viewer(1).await;
    viewer.subscribe(VIDEO, Pieces).await;
    let first = world.origin.publish(VIDEO, 1_000);
    viewer.until(VIDEO, first).await;
    let mut true_frames = Vec::new();
    let spoilt = world.origin.publish_as(VIDEO, 100_000, |pieces| {
        true_frames = pieces.clone();
        let Frame::Piece { data, .. } = &mut pieces[1] else { unreachable!() };
        let mut bytes = data.to_vec();
        bytes[17] ^= 4;
        *data = bytes.into();
    });
    world.edge.until("a bad piece", |status| status.cache.bad_pieces > 0).await;
    world.origin.mend(spoilt, &true_frames);
    viewer.until(VIDEO, spoilt).await;
    assert_eq!(viewer.bad, 0);
    world.edge.stop().await;
}

/// Flips a bit in every third piece.
struct Spoiler(std::sync::atomic::AtomicU32);

impl Outgoing for Spoiler {
    fn piece(&self, leaving: &Leaving<'_>) -> Bytes {
        let mut bytes = leaving.message.to_vec();
        if self.0.fetch_add(1, Ordering::Relaxed) % 3 == 2
            && let Some(last) = bytes.last_mut()
        {
            *last ^= 1;
        }
        bytes.into()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edge_of_ones_own_may_change_what_leaves_and_only_that() {
    let world = World::with(Arc::new(Spoiler(0.into()))).await;
    let mut viewer = world.viewer(1).await;
    viewer.subscribe(VIDEO, Pieces).await;
    world.origin.publish(VIDEO, 6 * 65_536);
    while viewer.received < 6 * 65_536 {
        viewer.next().await.unwrap();
    }
    assert_eq!(viewer.bad, 2);
    assert_eq!((world.edge.status)().cache.bad_pieces, 0);
    world.edge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edge_that_stops_tells_everybody_and_lets_them_finish() {
    let mut world = World::new().await;
    let mut viewer = world.viewer(1).await;
    viewer.subscribe(VIDEO, Pieces).await;
    let number = world.origin.publish(VIDEO, 1_000);
    viewer.until(VIDEO, number).await;
    world.edge.drain();
    while !matches!(viewer.next().await, Some(Frame::Goaway { reason: Reason::Shutdown, .. })) {}
    world.tracker.saw("the drain", |seen| seen.drained).await;
    // While it looks for another edge, this one goes on.
    let number = world.origin.publish(VIDEO, 2_000);
    viewer.until(VIDEO, number).await;
    let vouched = viewer.vouch().await;
    viewer.close().await;
    world.edge.ended().await;
    let seen = world.tracker.saw("the last voucher", |seen| !seen.vouchers.is_empty()).await;
    assert_eq!(seen.vouchers.values().next().unwrap().unverified().payable, vouched);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_viewer_that_ignores_the_goodbye_does_not_hold_up_the_end() {
    let mut world = World::new().await;
    let mut viewer = world.viewer(1).await;
    world.edge.drain();
    let (reason, _) = viewer.until_refused().await;
    assert_eq!(reason, Reason::Shutdown);
    world.edge.ended().await;
}
