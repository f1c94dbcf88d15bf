//! Many viewers on two edges: what they see, where it comes from, what it costs the origin.
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "in a test, a surprise shall be loud")]

use std::time::{Duration, Instant};

use millstream_e2e::{
    media::PLAIN,
    pressure::Pressure,
    stack::{PRICE_PER_GIB, Stack},
    viewers::Watch,
};

/// Bytes in a GiB.
const GIB: u64 = 1 << 30;

/// What the origin has sent, by the packager's own count.
fn origin_sent(stack: &Stack) -> (u64, u64) {
    let status = stack.packager_status().unwrap();
    (status.viewers_bytes, status.feeds_bytes)
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
    let watching = watch.start(&stack.folder()).unwrap();
    // Joining is spread over one second; five more and everybody has started.
    std::thread::park_timeout(Duration::from_secs(6).saturating_sub(started.elapsed()));
    let (viewers_before, feeds_before) = origin_sent(&stack);
    let measured = Instant::now();
    std::thread::park_timeout(Duration::from_secs(18));
    let (viewers_after, feeds_after) = origin_sent(&stack);
    let seconds = measured.elapsed().as_secs_f64();
    let report = watching.report().unwrap();
    eprintln!("{report:?}; {pressure}");

    assert_eq!(report.viewers, 20);
    assert_eq!(report.stalls.count, 0, "{pressure}");
    assert_eq!(report.pieces.rejected, 0);
    let all = report.bytes.edge + report.bytes.origin;
    assert!(report.bytes.edge * 100 >= all * 80, "{} of {all} bytes came from edges", report.bytes.edge);
    assert_eq!(viewers_after - viewers_before, 0, "the origin sends nothing per viewer");
    // Each edge takes a feed per rendition, once, however many viewers it has.
    let feeds = (feeds_after - feeds_before) as f64 / seconds;
    let rate = 2.0 * f64::from(PLAIN.bitrate + 96_000) / 8.0;
    assert!(feeds > rate * 0.6 && feeds < rate * 1.4, "feeds take {feeds} bytes a second, two of {rate}");

    let video = std::fs::read(dump.with_extension("video.mp4")).unwrap();
    assert!(video.len() > 1_000_000, "the dump holds what was played");
}

#[test]
fn edges_earn_what_viewers_used_and_the_book_is_whole() {
    let stack = Stack::up(2).unwrap();
    let (_publisher, _created) = stack.publish("show", &PLAIN).unwrap();
    stack.edges(2).unwrap();
    let mut watch = Watch::new(&stack.ready.tracker, "show", 15);
    watch.viewers = 5;
    let report = watch.start(&stack.folder()).unwrap().report().unwrap();
    assert!(report.vouchers.accepted > 0, "{report:?}");
    let audit = stack.api.get("/v1/audit").unwrap();
    assert_eq!(audit["sum"], 0, "{audit}");

    let earnings = stack.api.get("/v1/earnings").unwrap();
    let lines = earnings["earnings"].as_array().unwrap();
    let bytes: u64 = lines.iter().map(|line| line["bytes"].as_u64().unwrap()).sum();
    let earned: u64 = lines.iter().map(|line| line["earned"].as_u64().unwrap()).sum();
    assert_eq!(bytes, report.bytes.edge, "what is booked is what was verified and used");
    // Each lane is rounded down by itself: 5 viewers, 2 edges.
    let whole = bytes * u64::from(PRICE_PER_GIB) / GIB;
    assert!(earned <= whole && whole - earned <= 10, "{earned} of {whole}");
}
