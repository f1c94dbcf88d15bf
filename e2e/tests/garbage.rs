//! Garbage on every port while people watch: it harms nobody.
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "in a test, a surprise shall be loud")]

use std::{
    net::{SocketAddr, UdpSocket},
    time::{Duration, Instant},
};

use millstream_e2e::{
    api::Api,
    media::PLAIN,
    noise::{Noise, throw},
    pressure::Pressure,
    program::Program,
    stack::Stack,
    viewers::Watch,
};

/// Inputs for each port.
const INPUTS: usize = 1_000;

/// Bytes of memory that garbage may leave behind in a program at most. Allocators keep some; a thousand inputs that
/// were all kept would be more.
const LEFT_BYTES_MAX: u64 = 48 << 20;

/// The address in a URL.
fn address(url: &str) -> SocketAddr {
    url.rsplit_once("://").unwrap().1.parse().unwrap()
}

/// What an RTMP port may be told: noise, the beginning of a handshake, a handshake and then noise.
fn rtmp(noise: &mut Noise) -> Vec<u8> {
    let mut bytes = match noise.below(3) {
        0 => return noise.bytes(4_096),
        1 => {
            let mut begun = vec![3];
            begun.extend(noise.bytes(1_536));
            return begun;
        }
        _ => vec![3],
    };
    // C1 and C2 of the plain handshake, then chunks of any kind.
    bytes.extend([0; 8]);
    bytes.extend((0..1_528 + 1_536).map(|_| 7));
    bytes.extend(noise.bytes(4_096));
    bytes
}

/// What an HTTP port may be told: noise, damaged requests, and proper ones for what does not exist.
fn http(noise: &mut Noise) -> Vec<u8> {
    let method = noise.pick(&["GET", "POST", "DELETE", "PUT", "HEAD", "OPTIONS", "CONNECT", "BREW"]);
    let path = match noise.below(4) {
        0 => format!("/{}", noise.text(2_000)),
        1 => format!("/s/show/video/p{}.m4s", noise.number()),
        2 => format!("/s/show/video.m3u8?_HLS_msn={}&_HLS_part={}", noise.number(), noise.text(20)),
        _ => String::from(noise.pick(&[
            "/v1/streams",
            "/v1/packager/report",
            "/v1/packager/admit",
            "/s/show/feed?rendition=video",
            "/s/../../etc/passwd",
            "/v1/accounts/%00/fund",
        ])),
    };
    let body = noise.text(500);
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: x\r\nRange: bytes={}-{}\r\nAuthorization: Bearer {}\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        noise.number(),
        noise.text(6),
        noise.text(300),
        body.len(),
    );
    match noise.below(3) {
        0 => noise.bytes(4_096),
        1 => noise.damage(request.into_bytes()),
        _ => request.into_bytes(),
    }
}

/// A proper upgrade, and then a frame of garbage.
fn web_socket(noise: &mut Noise, path: &str) -> Vec<u8> {
    let mut bytes = format!(
        "GET {path} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    .into_bytes();
    let message = match noise.below(5) {
        0 => return [bytes, noise.bytes(2_048)].concat(),
        1 => noise.bytes(60_000),
        2 => noise.text(2_000).into_bytes(),
        3 => {
            let kind =
                noise.pick(&["join", "resume", "voucher", "register", "status", "lookup", "renew", "x"]);
            let (stream, proof) = (noise.text(80).replace(['"', '\\'], "-"), noise.number());
            format!(
                r#"{{"type":"{kind}","stream":"{stream}","key":{proof},"proof":"{proof}","voucher":null}}"#
            )
            .into_bytes()
        }
        _ => {
            let depth = noise.below(20_000);
            "[".repeat(depth).into_bytes()
        }
    };
    // Text or binary, whole or not, masked as a client must, with a length that may be a lie.
    bytes.push(noise.pick(&[&0x81_u8, &0x82, &0x01, &0x80, &0x83, &0xf1]).to_owned());
    let told = if noise.below(4) == 0 { noise.below(1 << 40) } else { message.len() };
    bytes.push(0x80 | 127);
    bytes.extend((told as u64).to_be_bytes());
    bytes.extend([0; 4]);
    bytes.extend(message);
    bytes
}

/// What a UDP port may be told: noise, and noise that begins like STUN or DTLS.
fn datagram(noise: &mut Noise) -> Vec<u8> {
    let body = noise.bytes(1_200);
    let begins: &[u8] = match noise.below(4) {
        // A binding request with the magic cookie.
        0 => &[0, 1, 0, 64, 0x21, 0x12, 0xa4, 0x42],
        // A ClientHello's record, DTLS 1.2.
        1 => &[22, 254, 253, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 1, 0, 0, 244, 0, 0, 0, 0, 0, 0, 0, 244],
        // Application data of a connection that is none.
        2 => &[23, 254, 253, 0, 1],
        _ => &[],
    };
    [begins, &body].concat()
}

#[test]
fn a_thousand_garbage_inputs_on_every_port_harm_nobody() {
    let apart = Stack::apart().unwrap();
    let edge = apart.stack.edge("edge").unwrap();
    let (mut publisher, _) = apart.stack.publish("show", &PLAIN).unwrap();
    let pressure = Pressure::begin();
    let mut watch = Watch::new(&apart.stack.ready.tracker, "show", 14);
    watch.viewers = 3;
    let mut watching = watch.start(apart.stack.folder()).unwrap();
    let status = Api::new(edge.ops(), "").unwrap();
    status
        .wait("/v1/status", Duration::from_secs(10), |status| {
            (status["sent_bytes"].as_u64()? > 500_000).then_some(())
        })
        .unwrap();
    let programs: [&Program; 3] = [&apart.tracker, &apart.packager, &edge];
    let resident = || programs.map(|program| program.process.resident_bytes().unwrap());
    let before = resident();

    let noise = &mut Noise::new(20_261_122);
    let started = Instant::now();
    let took = |what: &str| eprintln!(">> {what} by {} ms", started.elapsed().as_millis());
    let ready = &apart.stack.ready;
    let (tracker, origin) = (address(&ready.tracker), address(&ready.origin));
    let rtmp_port = apart.packager.said("rtmp").unwrap().parse().unwrap();
    for _ in 0..INPUTS {
        throw(rtmp_port, &rtmp(noise)).unwrap();
    }
    took("rtmp");
    for at in [tracker, origin] {
        let mut refused = 0;
        for _ in 0..INPUTS {
            let answer = throw(at, &http(noise)).unwrap();
            refused += usize::from(answer.starts_with(b"HTTP/1.1 4"));
        }
        assert!(refused > INPUTS / 4, "requests were read, and {refused} refused");
    }
    took("http");
    for path in ["/v1/viewer", "/v1/edge"] {
        let mut upgraded = 0;
        for _ in 0..INPUTS {
            let answer = throw(tracker, &web_socket(noise, path)).unwrap();
            upgraded += usize::from(answer.starts_with(b"HTTP/1.1 101"));
        }
        assert_eq!(upgraded, INPUTS, "{path}: each was let in before it spoke");
    }
    took("websocket");
    let udp: SocketAddr = edge.said("udp").unwrap().parse().unwrap();
    for _ in 0..INPUTS / 20 {
        // Each socket is a stranger of its own.
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        for _ in 0..20 {
            socket.send_to(&datagram(noise), udp).unwrap();
        }
    }
    took("udp");

    assert!(watching.is_running(), "all of it happened while they watched");
    let after = resident();
    let report = watching.report().unwrap();
    eprintln!(">> {report:?}; {pressure}; resident bytes {before:?} then {after:?}");
    assert_eq!(report.stalls.count, 0, "{report:?}; {pressure}");
    assert_eq!(report.pieces.rejected, 0, "{report:?}");
    for (program, (before, after)) in programs.iter().zip(before.iter().zip(after)) {
        let ops = Api::new(program.ops(), "").unwrap();
        assert!(ops.bytes("/healthz").is_ok(), "{}", program.process.log());
        assert!(after < before + LEFT_BYTES_MAX, "{before} bytes of memory became {after}");
    }
    assert!(publisher.is_running());
}
