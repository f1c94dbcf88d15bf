//! The door as a page uses it, and as a hostile network would: bytes in, bytes out, never a trap.
#![allow(clippy::unwrap_used, clippy::panic, reason = "in a test, a surprise shall be loud")]

use millstream_swarm_wasm::{Door, INPUT_BYTES_MAX, Op, Refusal};
use proptest::prelude::*;

const NOW: u64 = 5_000_000;
const WALL: u64 = 1_800_000_000_000;
const EDGE: [u8; 32] = [4; 32];

fn call(door: &mut Door, op: Op, input: &[u8]) -> Result<Vec<u8>, Refusal> {
    door.reserve(input.len())?.copy_from_slice(input);
    door.call(op as u32).map(<[u8]>::to_vec)
}

fn config() -> serde_json::Value {
    serde_json::json!({
        "stream": "demo",
        "key": "AwegjpdM7s6XXnO2y4l3_347PpCenjf-lnHXVEpiKjqTEQ",
        "origin": "http://origin.example",
        "wall": WALL,
        "latency_ms": 3_000,
        "data_channels": true,
        "seed": "18446744073709551615",
        "now": NOW,
    })
}

fn opened() -> Door {
    let mut door = Door::default();
    let mut config = config();
    config["key"] = key().into();
    assert_eq!(call(&mut door, Op::Open, config.to_string().as_bytes()), Ok(Vec::new()));
    door
}

/// Some session key: the door asks for its form alone.
fn key() -> String {
    millstream_model::SessionKey([2; 33]).to_string()
}

fn input(kind: u8, fields: &[&[u8]]) -> Vec<u8> {
    [&NOW.to_le_bytes()[..], &[kind], &fields.concat()].concat()
}

fn poll_all(door: &mut Door) -> Vec<Vec<u8>> {
    std::iter::from_fn(|| Some(call(door, Op::Poll, &[]).unwrap()).filter(|output| !output.is_empty()))
        .collect()
}

#[test]
fn tells_its_version_before_anything_was_opened() {
    assert_eq!(call(&mut Door::default(), Op::Version, &[]), Ok(vec![3, 0, 0, 0]));
}

#[test]
fn nothing_works_before_a_swarm_is_opened() {
    let mut door = Door::default();
    for op in [Op::Input, Op::Timeout, Op::Poll, Op::Deadline, Op::Stats, Op::Wall] {
        assert_eq!(call(&mut door, op, &NOW.to_le_bytes()), Err(Refusal::NotOpen));
    }
}

#[test]
fn refuses_what_it_does_not_know_and_what_is_too_long() {
    let mut door = opened();
    assert_eq!(door.call(99), Err(Refusal::UnknownOp));
    assert_eq!(door.reserve(INPUT_BYTES_MAX + 1).err(), Some(Refusal::TooLong));
    assert!(door.reserve(INPUT_BYTES_MAX).is_ok());
}

#[test]
fn refuses_a_configuration_that_lacks_anything_or_is_wrong() {
    let with_key = |mut config: serde_json::Value| {
        config["key"] = key().into();
        config
    };
    for name in ["stream", "key", "wall", "latency_ms", "data_channels", "seed", "now"] {
        let mut config = with_key(config());
        config.as_object_mut().unwrap().remove(name);
        let refused = call(&mut Door::default(), Op::Open, config.to_string().as_bytes());
        assert_eq!(refused, Err(Refusal::Malformed), "without {name}");
    }
    for (name, value) in [
        ("stream", serde_json::json!("Not A Slug")),
        ("root", serde_json::json!("short")),
        ("seed", serde_json::json!("18446744073709551616")),
        ("seed", serde_json::json!(7)),
        ("now", serde_json::json!(-1)),
        ("latency_ms", serde_json::json!(4_294_967_296_u64)),
    ] {
        let mut config = with_key(config());
        config[name] = value.clone();
        let refused = call(&mut Door::default(), Op::Open, config.to_string().as_bytes());
        assert_eq!(refused, Err(Refusal::Malformed), "{name} {value}");
    }
}

#[test]
fn a_swarm_that_knows_its_origin_begins_with_a_get() {
    let mut door = opened();
    assert_eq!(call(&mut door, Op::Timeout, &NOW.to_le_bytes()), Ok(Vec::new()));
    let outputs = poll_all(&mut door);
    let [get] = outputs.as_slice() else { panic!("{outputs:?}") };
    assert_eq!(get[..5], [4, 1, 0, 0, 0]);
    let wish: serde_json::Value = serde_json::from_slice(&get[5..]).unwrap();
    assert_eq!(wish["url"], "http://origin.example/s/demo/start");
    assert!(wish["bytes_max"].as_u64().unwrap() <= INPUT_BYTES_MAX as u64);
}

#[test]
fn a_want_is_refused_when_it_is_nothing_of_a_stream_and_kept_when_it_is() {
    let mut door = opened();
    let want = |path: &str| input(9, &[&7_u32.to_le_bytes(), path.as_bytes()]);
    for path in ["", "/", "/s/demo", "/s/demo/video/x1.m4s", "/s/demo/start", "/s/demo/video.m3u8?_HLS_msn=x"]
    {
        assert_eq!(call(&mut door, Op::Input, &want(path)), Err(Refusal::Malformed), "{path}");
    }
    for path in ["/s/demo/index.m3u8", "/s/demo/video.m3u8?_HLS_msn=4&_HLS_part=1", "/s/demo/video/p7.m4s"] {
        assert_eq!(call(&mut door, Op::Input, &want(path)), Ok(Vec::new()), "{path}");
    }
}

#[test]
fn every_kind_of_input_wants_its_fields_and_no_more() {
    let id = 1_u32.to_le_bytes();
    let time = WALL.to_le_bytes();
    let whole: [(u8, Vec<&[u8]>); 10] = [
        (0, vec![]),
        (1, vec![]),
        (3, vec![&EDGE, &EDGE]),
        (4, vec![&EDGE]),
        (7, vec![&id, &[0, 0]]),
        (8, vec![&id, &EDGE, &EDGE]),
        (10, vec![&id]),
        (11, vec![&time, &id, &id, &id]),
        (12, vec![]),
        (2, vec![br#"{"type":"goaway","retry_ms":1}"#]),
    ];
    for (kind, fields) in whole {
        let good = input(kind, &fields);
        assert_eq!(call(&mut opened(), Op::Input, &good), Ok(Vec::new()), "kind {kind}");
        let short = &good[..good.len() - 1];
        assert_eq!(call(&mut opened(), Op::Input, short), Err(Refusal::Malformed), "kind {kind}, short");
        let long = [&good[..], b"!"].concat();
        assert_eq!(call(&mut opened(), Op::Input, &long), Err(Refusal::Malformed), "kind {kind}, long");
    }
    assert_eq!(call(&mut opened(), Op::Input, &input(13, &[])), Err(Refusal::Malformed));
    assert_eq!(call(&mut opened(), Op::Timeout, &[0; 7]), Err(Refusal::Malformed));
    assert_eq!(call(&mut opened(), Op::Wall, &[]), Err(Refusal::Malformed));
}

#[test]
fn tracker_time_goes_on_with_the_clock() {
    let mut door = opened();
    let wall = |door: &mut Door, now: u64| {
        u64::from_le_bytes(call(door, Op::Wall, &now.to_le_bytes()).unwrap().try_into().unwrap())
    };
    assert_eq!(wall(&mut door, NOW), WALL);
    assert_eq!(wall(&mut door, NOW + 1_500_000), WALL + 1_500);
}

#[test]
fn the_figures_are_json_from_the_first_moment() {
    let figures: serde_json::Value =
        serde_json::from_slice(&call(&mut opened(), Op::Stats, &[]).unwrap()).unwrap();
    assert_eq!(figures["edge_bytes"], 0);
    assert_eq!(figures["edges"], serde_json::json!([]));
    assert!(figures["estimate"].as_u64().unwrap() > 0);
}

#[test]
fn an_input_is_used_once() {
    let mut door = opened();
    door.reserve(9).unwrap().copy_from_slice(&input(0, &[]));
    assert_eq!(door.call(Op::Input as u32), Ok(&[][..]));
    assert_eq!(door.call(Op::Input as u32), Err(Refusal::Malformed));
}

proptest! {
    #[test]
    fn no_input_traps_and_every_output_can_be_read(
        inputs in prop::collection::vec((0_u8..14, prop::collection::vec(any::<u8>(), 0..120), 0_u64..2_000_000), 1..30),
    ) {
        let mut door = opened();
        let mut now = NOW;
        for (kind, fields, step) in inputs {
            now += step;
            let bytes = [&now.to_le_bytes()[..], &[kind], &fields].concat();
            let _ = call(&mut door, Op::Input, &bytes);
            let _ = call(&mut door, Op::Timeout, &now.to_le_bytes());
            for output in poll_all(&mut door) {
                prop_assert!(output[0] <= 10);
                if output[0] == 10 {
                    prop_assert!(serde_json::from_slice::<serde_json::Value>(&output[1..]).is_ok());
                }
            }
            prop_assert!(matches!(call(&mut door, Op::Deadline, &[]).unwrap().len(), 0 | 8));
        }
    }
}
