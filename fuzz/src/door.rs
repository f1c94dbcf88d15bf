//! The browser's door to the swarm.

use millstream_model::Fingerprint;
use millstream_swarm_wasm::{Door, INPUT_BYTES_MAX, Refusal};
use millstream_wire::tracker::{EdgeAddress, FromViewer, MESSAGE_BYTES_MAX, ToViewer};

use crate::{message, script::Script};

/// Outputs after one input at most: a swarm that answers for ever would hang the page.
const OUTPUTS_MAX: usize = 5_000;

const OP_POLL: u32 = 4;

/// A config that opens it, if the first byte is odd; then calls: an operation, and its bytes.
pub(crate) fn door(data: &[u8]) {
    let mut script = Script::new(data);
    let mut door = Door::default();
    if script.flag() {
        let config = br#"{"stream":"demo","key":"AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgIC","origin":"http://o","wall":1800000000000,"latency_ms":3000,"data_channels":true,"seed":"1","now":5000000}"#;
        assert_eq!(call(&mut door, 1, config), Ok(Vec::new()));
    }
    while script.goes_on() {
        let op = u32::from(script.byte() % 12);
        let len = usize::from(script.half() % 1_024);
        let input = script.take(len);
        match call(&mut door, op, input) {
            Ok(_) => {}
            // Then nothing has happened, and the door is as good as before.
            Err(refusal) => {
                assert!(matches!(refusal, Refusal::UnknownOp | Refusal::Malformed | Refusal::NotOpen));
            }
        }
        let mut outputs = 0;
        while call(&mut door, OP_POLL, &[]).is_ok_and(|output| !output.is_empty()) {
            outputs += 1;
            assert!(outputs < OUTPUTS_MAX, "the door never falls silent");
        }
    }
    assert_eq!(door.reserve(INPUT_BYTES_MAX + 1).err(), Some(Refusal::TooLong));
}

fn call(door: &mut Door, op: u32, input: &[u8]) -> Result<Vec<u8>, Refusal> {
    door.reserve(input.len())?.copy_from_slice(input);
    door.call(op).map(<[u8]>::to_vec)
}

/// What serde reads, the door's own reader reads alike, but for edges' addresses, which the page reads itself; and what
/// the door writes, serde reads.
pub(crate) fn message(data: &[u8]) {
    let own = message::read(data);
    match serde_json::from_slice::<ToViewer>(data).map(without_addresses) {
        Ok(read) if data.len() <= MESSAGE_BYTES_MAX && !may_be_deep(data) => assert_eq!(own, Some(read)),
        // Beyond its bounds it may refuse, but not understand something else.
        Ok(read) => assert!(own.as_ref().is_none_or(|own| *own == read)),
        // The door is not the one to say what is sound: what it takes, it must understand.
        Err(_) => {}
    }
    if let Some(own) = own {
        assert_eq!(message::read(&serde_json::to_vec(&own).unwrap()), Some(own));
    }
    if let Ok(said) = serde_json::from_slice::<FromViewer>(data) {
        let mut text = Vec::new();
        message::write(&said, &mut text);
        assert_eq!(serde_json::from_slice::<FromViewer>(&text).unwrap(), said);
    }
}

fn without_addresses(mut message: ToViewer) -> ToViewer {
    let edges = match &mut message {
        ToViewer::Welcome(welcome) => &mut welcome.edges,
        ToViewer::Reassign { edges, .. } => edges,
        _ => return message,
    };
    for edge in edges {
        edge.address = EdgeAddress {
            sockets: Vec::new(),
            ufrag: String::new(),
            password: String::new(),
            fingerprint: Fingerprint([0; 32]),
            behind_nat: false,
            stun: Vec::new(),
        };
    }
    message
}

/// More brackets than the door follows, in whatever order they stand.
fn may_be_deep(text: &[u8]) -> bool {
    text.iter().filter(|byte| matches!(byte, b'[' | b'{')).count() > 8
}
