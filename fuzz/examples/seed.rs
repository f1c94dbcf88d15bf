//! Writes the corpora's first seeds out of real material: `cargo run -p millstream-fuzz --example seed`.
//!
//! From the vectors of `docs/protocol`, and made by our own writers; what cargo-fuzz found worth keeping stands
//! beside them. Run it again when a format changes.
#![allow(clippy::unwrap_used, reason = "a tool that cannot go on should say so and stop")]

use std::{fs, path::PathBuf};

use millstream_sctp::{
    dcep::{Message, Open, PRIORITY_NORMAL, Reliability},
    wire::{Data, InitFields, Outcome, Sequence, Writer, cause},
};
use serde_json::Value;

#[path = "seed/pairs.rs"]
mod pairs;

fn main() {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let text = fs::read_to_string(root.join("../docs/protocol/vectors/wire.json")).unwrap();
    let vectors: Value = serde_json::from_str(&text).unwrap();
    let keep = |target: &str, name: &str, bytes: &[u8]| {
        let folder = root.join("corpus").join(target);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join(name), bytes).unwrap();
    };
    objects(&vectors, &keep);
    messages(&vectors, &keep);
    publisher(&keep);
    playlists(&root, &keep);
    datagrams(&keep);
    associations(&keep);
    pairs::keep_all(&keep);
    scripts(&keep);
}

/// In the order of the `signed` target's kinds.
const KINDS: [&str; 11] = [
    "delegation",
    "catalog",
    "record",
    "certificate",
    "token",
    "grant",
    "hello",
    "voucher",
    "receipt",
    "resume",
    "registration",
];

fn objects(vectors: &Value, keep: &dyn Fn(&str, &str, &[u8])) {
    let signed = vectors["signed"].as_object().unwrap();
    let object = |name: &str| hex(signed[name]["encoded"].as_str().unwrap());
    for (kind, name) in (0_u8..).zip(KINDS) {
        keep("signed", name, &[&[kind], &object(name)[..]].concat());
    }
    let mut body = vec![7];
    let mut frames: Vec<(String, Vec<u8>)> = vectors["frames"]
        .as_object()
        .unwrap()
        .iter()
        .map(|(name, text)| (name.clone(), hex(text.as_str().unwrap())))
        .collect();
    for (kind, name) in
        [(0x10, "delegation"), (0x11, "catalog"), (0x12, "record"), (0x30, "grant"), (0x31, "voucher")]
    {
        frames.push((name.to_owned(), [&[kind], &object(name)[..]].concat()));
    }
    let (grant, hello) = (object("grant"), object("hello"));
    let length = |bytes: &[u8]| (0x4000 | u16::try_from(bytes.len()).unwrap()).to_be_bytes();
    frames
        .push(("hello".into(), [&[1, 0, 1], &length(&grant)[..], &grant, &length(&hello), &hello].concat()));
    frames.push(("goaway".into(), vec![4, 9, 0, 0, 0x27, 0x10]));
    frames.push(("missing".into(), vec![0x15, 0, 0x40, 0x4d, 1, 3]));
    frames.push(("cancel".into(), vec![0x22, 0, 9]));
    frames.push(("pong".into(), vec![0x41, 0, 0, 0, 0, 0, 0, 0, 1]));
    frames.push(("extension".into(), vec![0x80, 1, 2, 3]));
    for (name, frame) in frames {
        keep("frame", &name, &frame);
        body.extend(u32::try_from(frame.len()).unwrap().to_be_bytes());
        body.extend(frame);
    }
    keep("feed", "every-frame", &body);
    keep("feed", "cut-short", &body[..body.len() - 4]);
}

fn messages(vectors: &Value, keep: &dyn Fn(&str, &str, &[u8])) {
    let key = |name: &str| base64(&hex(vectors["keys"][name].as_str().unwrap()));
    let signed = |name: &str| base64(&hex(vectors["signed"][name]["encoded"].as_str().unwrap()));
    let (session, nonce) = (base64(&[7; 16]), base64(&[6; 16]));
    let address = serde_json::json!({
        "sockets": ["192.0.2.1:4443", "[2001:db8::1]:4443"], "ufrag": "ufrag+/0",
        "password": "0123456789abcdefghijkl", "fingerprint": base64(&[8; 32]),
    });
    let offer = serde_json::json!({"id": key("edge"), "address": address, "grant": signed("grant")});
    let says = |kind: u8, name: &str, message: Value| {
        keep("tracker_message", name, &[&[kind], message.to_string().as_bytes()].concat());
        if kind < 2 {
            keep("door_message", name, message.to_string().as_bytes());
        }
    };
    let j = |text: &str, fields: Value| {
        let mut message = fields;
        message["type"] = text.into();
        message
    };
    let none = || serde_json::json!({});
    says(
        0,
        "join",
        j("join", serde_json::json!({"stream": "demo", "key": key("session"), "ticket": "a.b.c"})),
    );
    says(
        0,
        "resume",
        j("resume", serde_json::json!({"certificate": signed("certificate"), "proof": signed("resume")})),
    );
    says(0, "renew", j("renew", serde_json::json!({"edge": key("edge")})));
    let edge =
        serde_json::json!({"edge": key("edge"), "received": 9_000_000_000_u64, "bad": 1, "rtt_ms": 20});
    says(
        0,
        "report",
        j(
            "report",
            serde_json::json!({
                "buffer_ms": 1, "latency_ms": 2, "stalls": 3, "stalled_ms": 4, "origin_bytes": 5, "edges": [edge],
            }),
        ),
    );
    says(0, "viewer-voucher", j("voucher", serde_json::json!({"voucher": signed("voucher")})));
    says(0, "leave", j("leave", none()));
    let signal = serde_json::json!({"peer": "a", "data": "{\"sdp\":\"v=0\\r\\n\u{1F600}\"}"});
    says(0, "signal", j("signal", signal.clone()));
    let challenge =
        serde_json::json!({"nonce": nonce, "tracker": key("tracker"), "time": 1_800_000_000_000_u64});
    says(1, "challenge", j("challenge", challenge));
    says(
        1,
        "welcome",
        j(
            "welcome",
            serde_json::json!({
                "session": session, "certificate": signed("certificate"), "stream": "demo", "root": key("root"),
                "origin": "http://origin", "token": signed("token"), "edges": [offer], "time": 1, "report_ms": 5_000,
            }),
        ),
    );
    says(1, "grants", j("grants", serde_json::json!({"grants": [signed("grant"), signed("grant")]})));
    says(1, "reassign", j("reassign", serde_json::json!({"edges": [], "reason": "drain"})));
    says(1, "receipt", j("receipt", serde_json::json!({"receipt": signed("receipt")})));
    says(
        1,
        "rejected",
        j("rejected", serde_json::json!({"edge": key("edge"), "reason": "over the \"cap\""})),
    );
    says(1, "goaway", j("goaway", serde_json::json!({"retry_ms": 1_000})));
    says(1, "error", j("error", serde_json::json!({"code": "no_funds", "message": "none"})));
    says(
        2,
        "register",
        j(
            "register",
            serde_json::json!({
                "proof": signed("registration"), "address": address, "capacity": 1_000_000_000, "viewers_max": 100,
                "version": "0.1.0",
            }),
        ),
    );
    says(2, "status", j("status", serde_json::json!({"viewers": 3, "sending": 9, "warm": ["demo"]})));
    says(2, "lookup", j("lookup", serde_json::json!({"stream": "demo", "from_the_future": [1.5, null]})));
    says(2, "drain", j("drain", none()));
    says(
        3,
        "registered",
        j(
            "registered",
            serde_json::json!({
                "edge": key("edge"), "tracker": key("tracker"), "time": 1, "status_ms": 5_000,
            }),
        ),
    );
    says(
        3,
        "stream",
        j(
            "stream",
            serde_json::json!({
                "stream": "demo", "root": key("root"), "origin": "http://origin", "token": signed("token"),
            }),
        ),
    );
    says(
        3,
        "edge-rejected",
        j("rejected", serde_json::json!({"session": session, "reason": "late", "retry": true})),
    );
    says(
        4,
        "admit",
        serde_json::json!({
            "stream_key": "k", "packager": key("packager"), "origin": "http://origin", "generation": 1,
        }),
    );
    says(
        5,
        "admitted",
        serde_json::json!({
            "stream": "demo", "delegation": signed("delegation"), "root": key("root"), "tracker": key("tracker"),
            "public": true, "time": 1,
        }),
    );
    says(
        6,
        "packager-report",
        serde_json::json!({
            "packager": key("packager"), "origin": "http://origin",
            "streams": [{"stream": "demo", "generation": 1, "state": "live", "catalog": signed("catalog"),
                "published": [{"run": base64(&[8; 16]), "bytes": 2}]}],
        }),
    );
    let header = base64(br#"{"alg":"EdDSA","typ":"JWT"}"#);
    let claims = format!(r#"{{"sub":"demo","key":"{}","jti":"1","exp":1800000100}}"#, base64(&[2; 33]));
    keep(
        "ticket",
        "unsigned",
        format!("\0{header}.{}.{}", base64(claims.as_bytes()), base64(&[1; 64])).as_bytes(),
    );
    keep("ticket", "signed", &[&[1, 0], claims.as_bytes()].concat());
    keep("ticket", "signed-made", b"\x01\x01\x03\x50\x01\x01\x00\x40\x00one");
    keep(
        "ticket",
        "far-future",
        b"\x01\x01\x00\xff\xff\xff\xff\xff\xff\xff\xff\x01\x00\xff\xff\xff\xff\xff\xff\xff\xff\x00one",
    );
}

/// x264, 1280×720, 30 frames a second; AAC, 48 kHz stereo.
const AVC: [u8; 43] = [
    1, 0x64, 0x00, 0x1f, 0xff, 0xe1, 0, 28, 0x67, 0x64, 0x00, 0x1f, 0xac, 0xd9, 0x40, 0x50, 0x05, 0xbb, 0x01,
    0x6a, 0x02, 0x02, 0x02, 0x80, 0x00, 0x00, 0x03, 0x00, 0x80, 0x00, 0x00, 0x1e, 0x07, 0x8c, 0x18, 0xcb, 1,
    0, 4, 0x68, 0xeb, 0xe3, 0xcb,
];
const AAC: [u8; 2] = [0x11, 0x90];

/// x265, 320×180; SVT-AV1 of the same size; libaom, 1280×720, ten bits; Opus in stereo and in surround.
const HEVC: [u8; 111] = [
    0x01, 0x01, 0x60, 0x00, 0x00, 0x00, 0x90, 0x00, 0x00, 0x00, 0x00, 0x00, 0x3c, 0xf0, 0x00, 0xfc, 0xfd,
    0xf8, 0xf8, 0x00, 0x00, 0x0f, 0x03, 0x20, 0x00, 0x01, 0x00, 0x18, 0x40, 0x01, 0x0c, 0x01, 0xff, 0xff,
    0x01, 0x60, 0x00, 0x00, 0x03, 0x00, 0x90, 0x00, 0x00, 0x03, 0x00, 0x00, 0x03, 0x00, 0x3c, 0x95, 0x94,
    0x09, 0x21, 0x00, 0x01, 0x00, 0x2b, 0x42, 0x01, 0x01, 0x01, 0x60, 0x00, 0x00, 0x03, 0x00, 0x90, 0x00,
    0x00, 0x03, 0x00, 0x00, 0x03, 0x00, 0x3c, 0xa0, 0x0a, 0x08, 0x0c, 0x1f, 0x3e, 0x59, 0x59, 0x52, 0x93,
    0x0b, 0xc0, 0x5a, 0x02, 0x00, 0x00, 0x03, 0x00, 0x02, 0x00, 0x00, 0x03, 0x00, 0x3c, 0x10, 0x22, 0x00,
    0x01, 0x00, 0x06, 0x44, 0x01, 0xc0, 0x73, 0xc1, 0x89,
];
const AV1: [u8; 17] = [0x81, 0, 12, 0, 10, 11, 0, 0, 0, 4, 0x3c, 0xfe, 0xcc, 2, 0xf8, 0, 0x40];
const AV1_HDR: [u8; 20] =
    [0x81, 5, 0x4c, 0, 10, 14, 0, 0, 0, 0x2d, 0x4c, 0xff, 0xb3, 0xcd, 0xaf, 0x95, 9, 16, 9, 4];
const OPUS: &[u8] = b"OpusHead\x01\x02\x38\x01\x80\xbb\0\0\0\0\0";
const OPUS_SURROUND: &[u8] = b"OpusHead\x01\x06\x38\x01\x80\xbb\0\0\0\0\x01\x04\x02\0\x04\x01\x02\x03\x05";

fn publisher(keep: &dyn Fn(&str, &str, &[u8])) {
    keep("segmenter_setup", "x264-720p", &[&[0], &AVC[..]].concat());
    keep("segmenter_setup", "aac-lc", &[&[1], &AAC[..]].concat());
    keep("segmenter_setup", "he-aac", &[1, 0x2b, 0x11, 0x88, 0x00]);
    keep("segmenter_setup", "aac-odd-rate", &[1, 0x17, 0x80, 0x5d, 0xc0, 0x10]);
    keep("segmenter_setup", "x265", &[&[2], &HEVC[..]].concat());
    keep("segmenter_setup", "opus", &[&[3], OPUS].concat());
    keep("segmenter_setup", "opus-surround", &[&[3], OPUS_SURROUND].concat());
    keep("segmenter_setup", "svt-av1", &[&[4], &AV1[..]].concat());
    keep("segmenter_setup", "libaom-hdr", &[&[4], &AV1_HDR[..]].concat());
    let tag =
        |kind: u8, step: u8, body: &[u8]| [&[kind, step, u8::try_from(body.len()).unwrap()], body].concat();
    let mut media = tag(1, 0, &[&[0x17, 0, 0, 0, 0], &AVC[..]].concat());
    media.extend(tag(0, 0, &[&[0xaf, 0], &AAC[..]].concat()));
    for n in 0..90 {
        let first = if n % 30 == 0 { 0x17 } else { 0x27 };
        let unit = if n % 30 == 0 { 0x65 } else { 0x41 };
        media.extend(tag(1, 33, &[first, 1, 0, 0, 0, 0, 0, 0, 2, unit, n]));
        media.extend(tag(0, 0, &[0xaf, 1, 0x21, n]));
    }
    keep("rtmp_media", "three-seconds", &media);
    let enhanced = [&[0x90][..], b"avc1", &AVC].concat();
    let frame = [&[0x93][..], b"avc1", &[0, 0, 0, 2, 0x65, 1]].concat();
    let aggregate = [8, 0, 0, 3, 0, 0, 1, 0, 0, 0, 0, 0xaf, 1, 9, 0, 0, 0, 14];
    let mut other = [tag(1, 0, &enhanced), tag(1, 40, &frame), tag(0, 0, &[0xaf, 0, 0x11, 0x90])].concat();
    other.extend([&[5, 20, 0, 18][..], &aggregate].concat());
    keep("rtmp_media", "enhanced-and-aggregate", &other);
    let mut hevc = tag(1, 0, &[&[0x90][..], b"hvc1", &HEVC].concat());
    hevc.extend(tag(0, 0, &[&[0x90][..], b"Opus", OPUS].concat()));
    for n in 0..40 {
        // An open GOP's keyframe, two that are shown before it, and others.
        let kind = [21, 9, 8, 1, 1, 1, 1, 1][n % 8] << 1;
        let first = if n % 8 == 0 { 0x91 } else { 0xa1 };
        hevc.extend(tag(1, 33, &[&[first][..], b"hvc1", &[0, 0, 66, 0, 0, 0, 3, kind, 1, 7]].concat()));
        hevc.extend(tag(0, 0, &[&[0x91][..], b"Opus", &[0xf8, 7]].concat()));
    }
    keep("rtmp_media", "hevc-and-opus", &hevc);
    let mut av1 = tag(1, 0, &[&[0x96, 0x00][..], b"av01", &[0], &AV1].concat());
    av1.extend(tag(1, 0, &[&[0xd4][..], b"av01", &[2, 0, 1, b'x', 3, 0, 0, 9]].concat()));
    for n in 0..40_u8 {
        let unit = [0x12, 0, 0x32, 2, if n % 10 == 0 { 0x10 } else { 0x30 }, n];
        let tracks = [&[0x96, 0x11][..], b"av01", &[1, 0, 0, 1, 9, 0, 0, 0, 6], &unit].concat();
        av1.extend(tag(1, 33, &tracks));
    }
    keep("rtmp_media", "av1-of-two-tracks", &av1);
    keep(
        "rtmp_values",
        "connect",
        &[
            &[2, 0, 7][..],
            b"connect",
            &[0, 0x3f, 0xf0, 0, 0, 0, 0, 0, 0],
            &[3, 0, 3],
            b"app",
            &[2, 0, 4],
            b"live",
            &[0, 4],
            b"fpad",
            &[1, 0, 0, 0, 9],
        ]
        .concat(),
    );
    keep(
        "rtmp_values",
        "every-marker",
        &[
            &[10, 0, 0, 0, 2, 5, 6][..],
            &[11, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            &[12, 0, 0, 0, 1, b'x'],
            &[16, 0, 1, b'T', 0, 1, b'a', 5, 0, 0, 9],
            &[13],
            &[8, 0, 0, 0, 9, 0, 1, b'w', 1, 1, 0, 0, 9],
            &[15, 0, 0, 0, 1, 0xff],
        ]
        .concat(),
    );
    keep("rtmp_connection", "not-rtmp", b"\0\x05GET / HTTP/1.1\r\n\r\n");
    keep(
        "rtmp_connection",
        "a-frame",
        &[
            &[2, 7][..],
            &[6, 0, 0, 0, 0, 0, 48, 9, 1, 0, 0, 0, 0x17, 0, 0, 0, 0],
            &AVC,
            &[6, 0, 0, 40, 0, 0, 10, 9, 1, 0, 0, 0, 0x17, 1, 0, 0, 0, 0, 0, 0, 1, 0x65],
        ]
        .concat(),
    );
    keep(
        "rtmp_messages",
        "two-interleaved",
        &[
            &[3, 0, 128][..],
            &[4, 0, 0, 1, 0, 0, 140, 9, 1, 0, 0, 0],
            &[7; 128],
            &[5, 0, 0, 1, 0, 0, 2, 8, 1, 0, 0, 0, 1, 2],
            &[0xc4],
            &[8; 12],
            &[0x45, 0, 0, 9, 0, 0, 1, 8, 9, 0x85, 0xff, 0xff, 0xff, 1, 0, 0, 0, 3],
        ]
        .concat(),
    );
    keep("segmenter", "ten-seconds", &[225, 225, 225, 225, 225, 225, 225, 242, 225, 255, 225, 254]);
    keep(
        "segmenter",
        "frames",
        &[
            0, 101, 1, 2, 3, 102, 103, 4, 5, 110, 6, 108, 30, 230, 238, 3, 1, 2, 3, 8, 40, 201, 248, 0, 0, 0,
            1, 0, 0, 0, 0, 20, 210, 246, 0, 0, 1, 2, 3, 4, 5, 6, 220,
        ],
    );
}

fn playlists(root: &std::path::Path, keep: &dyn Fn(&str, &str, &[u8])) {
    for (at, name) in ["first", "hole", "ended", "restart"].into_iter().enumerate() {
        let path = root.join(format!("../docs/protocol/vectors/playlist/{name}.json"));
        let vectors: Value = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
        // A state of which no playlist is written has no lines.
        let lines = |playlist: &Value| -> Option<String> {
            let lines = playlist["lines"].as_array()?.iter().map(|line| line.as_str().unwrap());
            Some(lines.flat_map(|line| [line, "\n"]).collect())
        };
        let texts: Vec<String> = vectors["playlists"].as_array().unwrap().iter().filter_map(lines).collect();
        for (n, text) in texts.iter().enumerate().skip(at % 2).take(2) {
            keep("playlist", &format!("{name}-{n}"), text.as_bytes());
        }
        if let [first, .., last] = &texts[..] {
            keep("playlist", &format!("{name}-reload"), format!("{first}\0{last}").as_bytes());
        }
    }
    for (name, url) in [
        ("index", "/s/demo/index.m3u8"),
        ("media", "/s/demo/video.m3u8?_HLS_msn=12&_HLS_part=3"),
        ("init", "/s/demo/video/init-1-2.mp4"),
        ("segment", "/s/demo/video/s12.m4s"),
        ("part", "/s/demo/audio/p100.m4s"),
        ("feed", "/s/demo/feed?rendition=video&from=12"),
        ("start", "/s/demo/start"),
        ("records", "/s/demo/records?rendition=video&from=0"),
    ] {
        keep("playlist_url", name, url.as_bytes());
    }
}

/// RFC 5769 §2.1 and §2.2, and DTLS and SCTP as small as they come.
fn datagrams(keep: &dyn Fn(&str, &str, &[u8])) {
    let request = hex(concat!(
        "000100582112a442b7e7a701bc34d686fa87dfae802200105354554e207465737420636c69656e74002400046e0001ff",
        "80290008932ff9b151263b36000600096576746a3a68367659202020000800149aeaa70cbfd8cb56781ef2b5b2d3f249",
        "c1b571a280280004e57a3bcf"
    ));
    let response = hex(concat!(
        "0101003c2112a442b7e7a701bc34d686fa87dfae8022000b7465737420766563746f7220002000080001a147e112a643",
        "000800142b91f599fd9e90c38c7489f92af9ba53f06be7d780280004c07d4c96"
    ));
    for (name, datagram) in [("rfc5769-request", &request), ("rfc5769-response", &response)] {
        keep("stun", name, datagram);
        keep("datagram", name, datagram);
    }
    keep("stun", "a-check", b"twelve bytes\x04abcd\x04efgh\x6e\x00\x01\xff\x01\x02\x03\x04\x05\x06\x07\x08\x01\x00\xc0\x00\x02\x01\x11\x5b\x30\x03");
    let hello = [
        &[22, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 20, 1, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0, 8][..],
        &[9; 8],
    ]
    .concat();
    keep("datagram", "dtls-client-hello", &hello);
    let finished = [23, 0xfe, 0xfd, 0, 1, 0, 0, 0, 0, 0, 1, 0, 2, 1, 2];
    keep("datagram", "dtls-two-records", &[&hello[..], &finished].concat());
    keep("datagram", "dtls-application", &finished);
    let data = [
        &[0; 12][..],
        &[0, 3, 0, 20, 0, 0, 0, 5, 0, 1, 0, 0, 0, 0, 0, 53, 1, 2, 3, 4],
        &[3, 0, 0, 20, 0, 0, 0, 9, 0, 0, 4, 0, 0, 1, 0, 0, 0, 2, 0, 3],
    ]
    .concat();
    keep("datagram", "sctp-data-and-sack", &data);
    keep("datagram", "sctp-init", &[&[0; 12][..], &[1, 0, 0, 20], &[7; 16]].concat());
}

/// A packet of each phase of an association, and what opens a channel in it.
fn associations(keep: &dyn Fn(&str, &str, &[u8])) {
    let sctp = |name: &str, write: &dyn Fn(&mut Writer<'_>)| {
        let mut out = Vec::new();
        let mut writer = Writer::begin(&mut out, 5_000, 5_000, 0x0102_0304);
        write(&mut writer);
        writer.finish(true);
        keep("sctp_packet", name, &out);
    };
    let init = InitFields {
        tag: 9,
        window: 1 << 20,
        outbound: 1_024,
        inbound: 1_024,
        tsn: 77,
        supports_interleaving: true,
        supports_reset: true,
        supports_forward_tsn: true,
        zero_checksum: true,
        ..InitFields::default()
    };
    let data = |sequence: Sequence, begins: bool, payload: &'static [u8]| Data {
        tsn: 77,
        stream: 1,
        ppi: if begins || matches!(sequence, Sequence::Ssn(_)) { 53 } else { 0 },
        begins,
        ends: true,
        is_unordered: false,
        is_immediate: true,
        sequence,
        payload,
    };
    sctp("init", &|writer| writer.init(&init, None, false));
    sctp("init-ack", &|writer| writer.init(&init, Some(b"a cookie of ours"), true));
    sctp("cookie-echo-and-data", &|writer| {
        writer.cookie_echo(b"a cookie of ours");
        writer.data(&data(Sequence::Ssn(0), true, b"hello"));
    });
    sctp("cookie-ack-and-sack", &|writer| {
        writer.cookie_ack();
        writer.sack(77, 1 << 20, [(2, 3), (5, 5)], &[77]);
    });
    sctp("gaps-that-overlap", &|writer| writer.sack(77, 1 << 20, [(2, 5), (4, 6)], &[]));
    sctp("i-data", &|writer| {
        writer.data(&data(Sequence::Mid { mid: 3, fsn: 0 }, true, b"a message"));
        writer.data(&data(Sequence::Mid { mid: 4, fsn: 1 }, false, b"the end"));
    });
    sctp("forward", &|writer| {
        writer.forward_tsn(80, [(1, 2), (3, 4)]);
        writer.i_forward_tsn(80, [(1, true, 2), (3, false, 4)]);
    });
    sctp("reset", &|writer| {
        writer.reset_request(5, 6, 80, [1, 3]);
        writer.reset_response(5, Outcome::Performed);
    });
    sctp("probe", &|writer| {
        writer.heartbeat(b"16 bytes of ours");
        writer.pad(40);
        writer.heartbeat_ack(b"and of yours");
    });
    sctp("end", &|writer| {
        writer.shutdown(80);
        writer.shutdown_ack();
        writer.shutdown_complete(true);
        writer.error(cause::STALE_COOKIE, &[0, 0, 0, 9]);
        writer.abort(cause::USER_ABORT, b"over");
    });
    let strange = [
        &[19, 136, 19, 136, 0, 0, 0, 0, 0, 0, 0, 0][..],
        &[1, 0, 0, 45, 0, 0, 0, 9, 0, 1, 0, 0, 0, 1, 0, 1, 0, 0, 0, 7],
        &[0xc0, 0x77, 0, 6, 1, 2, 0, 0, 0x40, 0x77, 0, 4, 0xc0, 0, 0, 4, 0x80, 8, 0, 5, 130, 0, 0, 0],
        &[0xff, 0, 0, 5, 1, 0, 0, 0, 130, 0, 0, 12, 0, 15, 0, 8, 0, 0, 0, 7],
    ];
    keep("sctp_packet", "unknown-chunks-and-parameters", &strange.concat());

    let channel = |name: &str, is_unordered: bool, reliability: Reliability, label: &str, protocol: &str| {
        let mut out = Vec::new();
        let open = Open { is_unordered, reliability, priority: PRIORITY_NORMAL, label, protocol };
        Message::Open(open).write(&mut out).unwrap();
        keep("dcep", name, &out);
    };
    channel("reliable", false, Reliability::Reliable, "pieces", "millstream");
    channel("rexmit", true, Reliability::Rexmit(3), "", "");
    channel("timed", true, Reliability::Timed(500), "Stück", "p");
    keep("dcep", "ack", &[2]);
    keep("dcep", "open-and-more", b"\x03\0\x01\0\0\0\0\0\0\x01\0\0ab");
}

/// Scripts that get somewhere.
fn scripts(keep: &dyn Fn(&str, &str, &[u8])) {
    keep(
        "chain",
        "in-order",
        &[0, 0, 1, 0, 2, 3, 3, 0, 3, 4, 3, 8, 3, 12, 3, 80, 3, 84, 0, 6, 1, 30, 3, 160, 3, 164],
    );
    keep(
        "chain",
        "backwards-and-forged",
        &[0, 0, 1, 0, 3, 12, 3, 8, 3, 4, 3, 0, 3, 1, 3, 2, 3, 3, 0, 2, 0, 4, 1, 1, 1, 2],
    );
    let mut lane = vec![1, 0, 0, 2, 0, 0, 1, 2, 0];
    for n in 0..20 {
        lane.extend([20, n % 2, 140 + n, 15, 16, 15]);
    }
    lane.extend([
        6, 0, 3, 0, 2, 10, 0, 3, 26, 20, 0, 9, 27, 18, 2, 200, 29, 0, 30, 8, 0, 31, 2, 0, 13, 3, 1, 2, 3,
    ]);
    keep("lane", "pushed-and-paid", &lane);
    keep("lane", "nothing-said", &[0, 13, 4, 1, 2, 3, 4, 30, 8, 0, 11, 0, 0, 0, 0, 0, 0, 0, 1]);
    let mut cache = vec![0, 14, 0, 0, 1, 14, 1, 0, 1, 3, 0, 4, 1];
    for n in 0..16 {
        cache.extend([6, n % 2, 190 + n, 0]);
    }
    cache.extend([14, 5, 0, 0, 9, 2, 28, 6, 0, 9, 0, 5, 1, 30, 0xff, 0xff, 26, 1, 3, 0x13, 0, 1]);
    keep("cache", "two-feeds", &cache);
    let mut swarm = vec![0, 25, 0, 0, 25, 0, 1, 27, 0, 3, 1, 1];
    for n in 0..24 {
        swarm.extend([7, 0, n, n % 2, 0x0f, 26, 0, 6, n, 36, 0, 16]);
    }
    swarm.extend([
        23, 8, 1, 3, 0, 0x8f, 8, 1, 4, 0, 0x8f, 17, 0, 0, 0, 1, 9, 3, 20, 0, 5, 24, 0, 0, 25, 0, 4, 1, 36,
        15, 1, 0,
    ]);
    keep("swarm", "pushed", &swarm);
    let mut by_http = vec![2, 26, 0, 6, 20, 23, 26, 0, 6, 21, 23, 25, 0, 4, 1, 23, 20, 0, 4, 1, 1];
    by_http.extend([26, 0, 6, 22, 20, 0, 4, 9, 1, 36, 0, 255, 23, 34, 0, 0, 0, 1, 1, 4]);
    keep("swarm", "by-http", &by_http);
    let call = |op: u8, input: &[u8]| [&[op, 0, u8::try_from(input.len()).unwrap()], input].concat();
    let now = 5_000_000_u64.to_le_bytes();
    let input = |kind: u8, fields: &[u8]| call(2, &[&now[..], &[kind], fields].concat());
    let door = [
        vec![1],
        input(0, &[]),
        input(2, br#"{"type":"goaway","retry_ms":1000}"#),
        input(9, &[&1_u32.to_le_bytes()[..], b"/s/demo/video.m3u8"].concat()),
        input(6, &[&0_u32.to_le_bytes()[..], &[0, 0, 0, 1, 0x80]].concat()),
        input(5, &[&[4; 32][..], &[0x41, 0, 0, 0, 0, 0, 0, 0, 1]].concat()),
        input(11, &[0; 20]),
        call(3, &now),
        call(5, &[]),
        call(6, &[]),
        call(7, &now),
        input(12, &[]),
    ];
    keep("door", "a-stay", &door.concat());
    let mut ledger = vec![17, 0, 0, 18, 0, 1, 19, 1, 0, 20, 2, 2];
    for n in 0..20 {
        ledger.extend([27, n % 3, n % 2, 0x80, n, 9, 3, n % 2, 60, 9, 10, 52, 58, 48, 0, n]);
    }
    ledger.extend([
        27, 0, 0, 0x10, 0, 0, 28, 0, 0, 0x10, 0, 1, 29, 0, 0, 0, 9, 5, 63, 9, 1, 16, 0, 15, 0, 17, 0, 0, 0,
        1, 1, 1, 2, 0, 9, 9, 9, 9, 15,
    ]);
    keep("ledger", "watched-and-paid", &ledger);
}

fn hex(text: &str) -> Vec<u8> {
    let digit = |letter: u8| u8::try_from(char::from(letter).to_digit(16).unwrap()).unwrap();
    text.as_bytes().chunks_exact(2).map(|pair| digit(pair[0]) << 4 | digit(pair[1])).collect()
}

fn base64(bytes: &[u8]) -> String {
    millstream_model::base64url(bytes)
}
