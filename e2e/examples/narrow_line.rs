//! How a player fares on a line that becomes too narrow for the better of two renditions, and wide again: a line a
//! second, and what the page saw at the end. `cargo run -p millstream-e2e --example narrow_line`, with the programs built.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a surprise shall be loud, and printing is what it is for"
)]

use millstream_e2e::{
    browser,
    ladder::NAMES,
    line::Line,
    media::{HIGH, LOW},
    pressure::Pressure,
    stack::Stack,
};
use serde_json::json;

/// The line as it should be, and as it becomes: between what the two renditions take; bits a second.
const WIDE: u64 = 20_000_000;
const NARROW: u64 = 700_000;

/// Milliseconds of each rendition before the line changes.
const SETTLED_MS: u64 = 6_000;

fn main() {
    let line = Line::new(WIDE).unwrap();
    let house = Stack::with_ladder(&HIGH, &LOW, &line.tcp().unwrap()).unwrap();
    let stack = &house.stack;
    let doors = [line.udp().unwrap(), line.udp().unwrap()];
    let _edges =
        [stack.edge_behind("first", &doors[0]).unwrap(), stack.edge_behind("second", &doors[1]).unwrap()];
    let (_publisher, created) = stack.publish("show", &HIGH).unwrap();
    let pressure = Pressure::begin();
    let page = format!("{}/watch/show?verify-key={}", stack.ready.tracker, created.root_public_key);
    let [high, low] = NAMES;
    let until = json!([high, low, high]);
    let argument = json!({ "url": page, "seconds": 70, "warmup": 5, "until": until, "progress": true });
    let mut script = browser::start("watch.mjs", &argument, stack.folder()).unwrap();

    // Seen so far, and since when.
    let (mut played, mut since) = (Vec::<String>::new(), 0);
    let seen = loop {
        let now = script.line().unwrap();
        println!("{now}");
        let Some(at) = now["at_ms"].as_u64() else { break now };
        let names: Vec<String> = serde_json::from_value(now["renditions"].clone()).unwrap();
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
    println!("{pressure}");
    println!("{seen}");
}
