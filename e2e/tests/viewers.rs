//! Many viewers on two edges: what they see, where it comes from, what it costs the origin, what edges earn.
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "in a test, a surprise shall be loud")]

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use millstream_e2e::{
    api::Api, book, media::PLAIN, pressure::Pressure, stack::Stack, time::until, viewers::Watch,
};

/// Media bytes that the edges of a stack have sent.
fn sent_by_edges(stack: &Stack) -> u64 {
    let sent =
        |ops: &str| Api::new(ops, "").unwrap().get("/v1/status").unwrap()["sent_bytes"].as_u64().unwrap();
    stack.ready.edges.iter().map(|edge| sent(&edge.ops)).sum()
}

#[test]
fn twenty_viewers_live_on_two_edges_and_cost_the_origin_two_feeds() {
    let stack = Stack::up(2).unwrap();
    let (_publisher, _created) = stack.publish("show", &PLAIN).unwrap();
    stack.edges(2).unwrap();
    let pressure = Pressure::begin();
    let dump = stack.folder().join("dump");
    let mut watch = Watch::new(&stack.ready.tracker, "show", 30);
    (watch.viewers, watch.dump) = (20, Some(dump.clone()));
    let started = Instant::now();
    let mut watching = watch.start(stack.folder()).unwrap();
    // Joining is spread over one second; five more and everybody has started.
    until(started + Duration::from_secs(6));
    let (origin_before, edges_before) = (stack.packager_status().unwrap(), sent_by_edges(&stack));
    // Until shortly before the first of them leaves.
    until(started + Duration::from_secs(29));
    let (origin_after, edges_after) = (stack.packager_status().unwrap(), sent_by_edges(&stack));
    let report = watching.report().unwrap();
    eprintln!("{report:?}\n{origin_before:?}\n{origin_after:?}\n{pressure}");

    assert_eq!(report.viewers, 20);
    assert_eq!(report.stalls.count, 0, "{report:?}; {pressure}");
    assert_eq!(report.pieces.rejected, 0);

    let by_edges = edges_after - edges_before;
    let by_origin = origin_after.viewers_bytes - origin_before.viewers_bytes;
    assert!(by_edges * 10 >= (by_edges + by_origin) * 9, "{by_edges} by edges, {by_origin} not; {pressure}");
    assert_eq!(by_origin, 0, "the origin sends nothing per viewer; {pressure}");

    // Each edge takes a feed per rendition, once, however many viewers it has.
    assert_eq!(origin_after.feeds, 4, "two edges, two renditions");
    let needed = 2 * (origin_after.published_bytes - origin_before.published_bytes);
    let feeds = origin_after.feeds_bytes - origin_before.feeds_bytes;
    assert!(feeds * 10 >= needed * 9 && feeds * 10 <= needed * 11, "{feeds} where {needed} are needed");

    let origin = stack.origin("show").unwrap();
    for rendition in ["video", "audio"] {
        let played = std::fs::read(dump.with_extension(format!("{rendition}.mp4"))).unwrap();
        let held = origin.holds(rendition, &played).unwrap();
        eprintln!("{rendition}: {held} bytes are the origin's");
        assert!(held > 200_000, "{rendition}: {held} bytes are no half minute");
    }
}

#[test]
fn edges_earn_what_viewers_used_and_the_book_is_whole() {
    let stack = Stack::up(2).unwrap();
    let (_publisher, _created) = stack.publish("show", &PLAIN).unwrap();
    stack.edges(2).unwrap();
    let mut watch = Watch::new(&stack.ready.tracker, "show", 12);
    watch.viewers = 5;
    let report = watch.start(stack.folder()).unwrap().report().unwrap();
    assert!(report.vouchers.accepted > 0, "{report:?}");

    // What is booked is what was verified and used: not a byte more, not a byte less.
    let paid = book::settled(&stack.api, report.bytes.edge).unwrap();
    let known: BTreeSet<String> = stack.ready.edges.iter().map(|edge| edge.id.clone()).collect();
    assert!(paid.bytes.keys().all(|edge| known.contains(edge)), "{paid:?}");
    assert!(paid.lanes >= 5, "each viewer has a lane: {paid:?}");
    // The edges' own books say the same.
    for edge in &stack.ready.edges {
        let booked = |status: &serde_json::Value| {
            let earnings = &status["earnings"];
            (earnings["bytes"].as_u64(), earnings["earned"].as_u64())
        };
        let due = (paid.bytes.get(&edge.id).copied(), paid.earned.get(&edge.id).copied());
        let due = (due.0.or(Some(0)), due.1.or(Some(0)));
        let ops = Api::new(&edge.ops, "").unwrap();
        ops.wait("/v1/status", Duration::from_secs(15), |status| (booked(status) == due).then_some(()))
            .unwrap();
    }
}
