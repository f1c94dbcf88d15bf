//! Two renditions of one stream, from a packager of the test's own to a real browser.
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "in a test, a surprise shall be loud")]

use millstream_e2e::{
    browser,
    ladder::NAMES,
    line::Line,
    media::{HIGH, LOW},
    pressure::Pressure,
    stack::Stack,
};
use serde_json::json;

/// A line with room for both.
const WIDE: u64 = 20_000_000;

#[test]
fn a_line_with_room_for_it_carries_the_better_of_two_renditions() {
    let line = Line::new(WIDE).unwrap();
    let house = Stack::with_ladder(&HIGH, &LOW, &line.tcp().unwrap()).unwrap();
    let stack = &house.stack;
    let doors = [line.udp().unwrap(), line.udp().unwrap()];
    let _edges =
        [stack.edge_behind("first", &doors[0]).unwrap(), stack.edge_behind("second", &doors[1]).unwrap()];
    let (_publisher, created) = stack.publish("show", &HIGH).unwrap();
    stack.origin("show").unwrap().follows_the_rules(&[NAMES[0], NAMES[1], "audio"]).unwrap();
    let pressure = Pressure::begin();
    let page = format!("{}/watch/show?verify-key={}", stack.ready.tracker, created.root_public_key);
    let argument = json!({ "url": page, "seconds": 15, "warmup": 5 });
    let seen = browser::start("watch.mjs", &argument, stack.folder()).unwrap().finish().unwrap();
    eprintln!("{seen}\n{pressure}");
    assert_eq!(seen["mode"], "swarm", "{seen}");
    assert_eq!(seen["renditions"], json!([NAMES[0]]), "{seen}");
    assert_eq!(seen["errors"], json!([]), "{seen}");
    assert_eq!((&seen["parts_hashed_wrong"], &seen["pieces"]["rejected"]), (&json!(0), &json!(0)), "{seen}");
    let sum = |source: &str| {
        seen["bytes"][source].as_u64().unwrap() - seen["bytes_at_warmup"][source].as_u64().unwrap()
    };
    let (edge, origin) = (sum("edge"), sum("origin"));
    assert!(edge * 10 >= (edge + origin) * 9, "{edge} by edges, {origin} by the origin: {seen}");
}
