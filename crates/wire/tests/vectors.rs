//! `docs/protocol/vectors/wire.json`: one of every object as bytes, so that another implementation can be checked
//! against this one. `UPDATE_VECTORS=1 cargo test -p millstream-wire` writes it anew.
#![allow(clippy::unwrap_used, reason = "in a test, a surprise shall be loud")]

mod sample;

use std::{fmt::Write as _, path::Path};

use millstream_wire::{
    frame::{Frame, Reason, Span, Subscription},
    sign::{Body, Signed, Signer as _},
};
use serde_json::{Value, json};

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

fn object<T: Body>(signed: &Signed<T>) -> Value {
    json!({ "tag": T::TAG, "encoded": hex(signed.bytes()), "digest": hex(signed.digest().as_bytes()) })
}

fn vectors() -> Value {
    let span = Span { rendition: sample::VIDEO, number: 77, first: 1, count: 3 };
    json!({
        "about": "Objects of docs/protocol, in hex. Seeds of the keys are 32 equal bytes: root 01, packager 02, tracker 03, edge 04; the session's scalar is 05.",
        "keys": {
            "root": hex(&sample::root().public().0),
            "packager": hex(&sample::packager().public().0),
            "tracker": hex(&sample::tracker().public().0),
            "edge": hex(&sample::edge().public().0),
            "session": hex(&sample::session().public().0),
        },
        "stream": "demo",
        "signed": {
            "delegation": object(&sample::delegation(1)),
            "catalog": object(&sample::catalog(1)),
            "record": object(&sample::records(1)[0]),
            "second_record": object(&sample::records(2)[1]),
            "certificate": object(&sample::certificate()),
            "token": object(&sample::token()),
            "grant": object(&sample::grant()),
            "hello": object(&sample::hello()),
            "voucher": object(&sample::voucher()),
            "receipt": object(&sample::receipt()),
            "resume": object(&sample::resume()),
            "registration": object(&sample::registration()),
        },
        "messages": {
            "packager_report": serde_json::to_value(sample::report()).unwrap(),
        },
        "frames": {
            "welcome": hex(&Frame::Welcome { protocol: 1, window: 2 << 20 }.encode()),
            "refuse": hex(&Frame::Refuse { reason: Reason::Unpaid, text: "pay".into() }.encode()),
            "gap": hex(&Frame::Gap { rendition: sample::VIDEO, from: 5, next: 900 }.encode()),
            "piece": hex(&Frame::Piece {
                rendition: sample::VIDEO, number: 70_000, index: 1, data: vec![1, 2, 3].into(),
            }.encode()),
            "request": hex(&Frame::Request(span).encode()),
            "subscribe": hex(&Frame::Subscribe {
                rendition: sample::AUDIO, want: Subscription::Pieces, from: 12,
            }.encode()),
            "ping": hex(&Frame::Ping(1).encode()),
        },
    })
}

#[test]
fn the_published_vectors_are_what_this_code_writes() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/protocol/vectors/wire.json");
    let now = format!("{:#}\n", vectors());
    if std::env::var_os("UPDATE_VECTORS").is_some() {
        std::fs::write(&path, &now).unwrap();
    }
    let published = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        published == now,
        "docs/protocol/vectors/wire.json is not what this code writes; see this file's head"
    );
}
