//! Two renditions of one stream, from a packager of the test's own to a real browser on a line that becomes too narrow
//! for the better one, and wide again.
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "in a test, a surprise shall be loud")]

use millstream_e2e::{
    browser,
    ladder::NAMES,
    line::Line,
    media::{HIGH, LOW},
    pressure::Pressure,
    stack::Stack,
};
use serde_json::{Value, json};

/// The line as it should be, and as it becomes: between what the two renditions take; bits a second.
const WIDE: u64 = 20_000_000;
const NARROW: u64 = 700_000;

/// Milliseconds of each rendition before the line changes.
const SETTLED_MS: u64 = 6_000;

#[test]
fn the_player_takes_the_rendition_that_the_line_can_carry_down_and_up_without_a_stall() {
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
    let [high, low] = NAMES;
    let until = json!([high, low, high]);
    let argument = json!({ "url": page, "seconds": 60, "warmup": 5, "until": until, "progress": true });
    let mut script = browser::start("watch.mjs", &argument, stack.folder()).unwrap();

    // Renditions played so far, and since when the last one is.
    let (mut played, mut since) = (Vec::<String>::new(), 0);
    let seen = loop {
        let now = script.line().unwrap();
        eprintln!("{now} {:?}", line.carried());
        let Some(at) = now["at_ms"].as_u64() else { break now };
        let mut names: Vec<String> = serde_json::from_value(now["renditions"].clone()).unwrap();
        // On a busy machine the first requests say little of the line, and it begins below.
        if names.first().is_some_and(|first| first == low) {
            names.remove(0);
        }
        if names != played {
            (played, since) = (names, at);
        }
        if at - since < SETTLED_MS {
            continue;
        }
        match played.len() {
            1 => line.set(NARROW),
            2 => line.set(WIDE),
            _ => {}
        }
    };
    check(&seen, &pressure);
    assert_eq!(json!(played), until, "{pressure}: {seen}");
}

fn check(seen: &Value, pressure: &Pressure) {
    assert_eq!(seen["mode"], "swarm", "{seen}");
    assert_eq!(seen["errors"], json!([]), "{seen}");
    assert_eq!((&seen["parts_hashed_wrong"], &seen["pieces"]["rejected"]), (&json!(0), &json!(0)), "{seen}");
    assert!(seen["played_parts"].as_u64().unwrap() > 150, "{seen}");
    let sum = |source: &str| {
        seen["bytes"][source].as_u64().unwrap() - seen["bytes_at_warmup"][source].as_u64().unwrap()
    };
    let (edge, origin) = (sum("edge"), sum("origin"));
    assert!(edge * 10 >= (edge + origin) * 9, "{edge} by edges, {origin} by the origin: {seen}");
    assert_eq!(seen["stalls"]["count"], 0, "{pressure}: {seen}");
}
