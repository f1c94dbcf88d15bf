//! Real Chromium: plain hls.js on the origin, and the player on the swarm.
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "in a test, a surprise shall be loud")]

use millstream_e2e::{
    browser,
    media::{Clip, FREE, LONG_GOP, PLAIN},
    pressure::Pressure,
    stack::Stack,
};
use serde_json::{Value, json};

fn assert_no_stall(seen: &Value, pressure: &Pressure) {
    assert_eq!(seen["stalls"]["count"], 0, "{pressure}: {seen}");
}

fn plain_hls(clip: &Clip) {
    let stack = Stack::up(0).unwrap();
    let (_publisher, _) = stack.publish("show", clip).unwrap();
    let pressure = Pressure::begin();
    let url = format!("{}/s/show/index.m3u8", stack.ready.origin);
    let script = browser::start("plain.mjs", &json!({ "url": url, "seconds": 12 }), stack.folder()).unwrap();
    let seen = script.finish().unwrap();
    eprintln!("{seen}\n{pressure}");
    assert_eq!(seen["errors"], json!([]), "{seen}");
    assert!(seen["startup_ms"].as_u64().is_some(), "it plays: {seen}");
    assert_no_stall(&seen, &pressure);
}

#[test]
fn plain_hls_js_plays_the_origin_without_an_error() {
    plain_hls(&PLAIN);
}

#[test]
fn plain_hls_js_plays_a_publisher_with_a_keyframe_every_eight_seconds() {
    plain_hls(&LONG_GOP);
}

#[test]
fn plain_hls_js_plays_av1_and_opus() {
    plain_hls(&FREE);
}

#[test]
fn the_player_lives_on_edges_and_every_part_is_what_was_signed() {
    let stack = Stack::up(2).unwrap();
    let (_publisher, created) = stack.publish("show", &PLAIN).unwrap();
    stack.edges(2).unwrap();
    let pressure = Pressure::begin();
    let page = format!("{}/watch/show?verify-key={}", stack.ready.tracker, created.root_public_key);
    let argument = json!({ "url": page, "seconds": 30, "warmup": 5 });
    let seen = browser::start("watch.mjs", &argument, stack.folder()).unwrap().finish().unwrap();
    eprintln!("{seen}\n{pressure}");
    assert_eq!(seen["mode"], "swarm", "{seen}");
    assert_eq!(seen["errors"], json!([]), "{seen}");
    assert_eq!(seen["parts_hashed_wrong"], 0, "{seen}");
    assert_eq!(seen["pieces"]["rejected"], 0, "{seen}");
    assert!(seen["played_parts"].as_u64().unwrap() > 150, "{seen}");
    let since = |source: &str| {
        seen["bytes"][source].as_u64().unwrap() - seen["bytes_at_warmup"][source].as_u64().unwrap()
    };
    let (edge, origin) = (since("edge"), since("origin"));
    assert!(edge * 10 >= (edge + origin) * 9, "{edge} by edges, {origin} by the origin: {seen}");
    assert_no_stall(&seen, &pressure);
}

#[test]
fn the_page_plays_nothing_that_its_pinned_root_did_not_sign() {
    let stack = Stack::up(1).unwrap();
    let (_publisher, _) = stack.publish("show", &PLAIN).unwrap();
    let other = stack.create("other").unwrap();
    let page = format!("{}/watch/show?verify-key={}", stack.ready.tracker, other.root_public_key);
    let argument = json!({ "url": page, "seconds": 6, "warmup": 2 });
    let seen = browser::start("watch.mjs", &argument, stack.folder()).unwrap().finish().unwrap();
    eprintln!("{seen}");
    assert_eq!(seen["played_parts"], 0, "{seen}");
    assert_ne!(seen["mode"], "plain", "nor by plain HLS, which checks nothing: {seen}");
}
