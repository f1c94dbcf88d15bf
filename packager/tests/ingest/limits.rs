//! Bounds: memory, time, seats, and a segmenter that is slow.

use std::time::{Duration, Instant};

use millstream_packager::ingest::{Config, Gone, Source, admitted_bytes_max, unadmitted_bytes_max};
use millstream_segmenter::TrackKind;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::{
    client::{self, AAC_SETUP, AUDIO, AVC_SETUP, SET_CHUNK_SIZE, VIDEO},
    world::{config, key, next_publish, next_sample, server, until, whole, within},
};

/// Resident memory of this process.
fn rss_bytes() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

/// Begins messages of `length` bytes on chunk streams 3 and up, `count` of them, `sent` bytes of each.
fn unfinished(count: u32, length: u32, sent: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    for id in 3..3 + count {
        match u8::try_from(id) {
            Ok(id @ ..64) => bytes.push(id),
            _ => bytes.extend([0, u8::try_from(id - 64).unwrap()]),
        }
        bytes.extend([0, 0, 0]);
        bytes.extend(&length.to_be_bytes()[1..]);
        bytes.extend([VIDEO, 1, 0, 0, 0]);
        bytes.extend(vec![0x55; sent]);
    }
    bytes
}

/// Writes until all is written or the peer closes.
async fn write(socket: &mut TcpStream, bytes: &[u8]) {
    let _ = within(socket.write_all(bytes)).await;
}

#[tokio::test]
async fn unfinished_messages_without_a_key_cost_no_more_than_the_bound() {
    const CONNECTIONS: usize = 40;
    let config = Config { waiting_per_address_max: 100, ..config() };
    let server = server(config).await;
    let before = rss_bytes();
    // As much as stays within the limits, kept open: 16 chunk streams, 32 KiB in all.
    let most = [client::handshake(), unfinished(15, 16_000, 128)].concat();
    let mut kept = Vec::new();
    for _ in 0..CONNECTIONS {
        let mut socket = TcpStream::connect(server.local_addr()).await.unwrap();
        write(&mut socket, &most).await;
        kept.push(socket);
    }
    until(|| server.counts().held_bytes > CONNECTIONS * 16_000).await;
    let held = server.counts().held_bytes;
    assert!(held <= CONNECTIONS * unadmitted_bytes_max(), "{held}");
    // 250 of them, in the message sizes that filled memory elsewhere: cut off.
    for _ in 0..CONNECTIONS {
        let mut socket = TcpStream::connect(server.local_addr()).await.unwrap();
        write(&mut socket, &[client::handshake(), unfinished(250, 0x0f_ffff, 128)].concat()).await;
        let mut rest = Vec::new();
        within(socket.read_to_end(&mut rest)).await.ok();
    }
    let grown = rss_bytes().saturating_sub(before);
    // Buffers of the test's own and the allocator's slack beside the bound.
    assert!(grown < CONNECTIONS * unadmitted_bytes_max() + 16 * 1024 * 1024, "{grown} bytes more");
    // Those within their limits are left alone.
    until(|| server.counts().connections == CONNECTIONS).await;
    drop(kept);
    until(|| server.counts().held_bytes == 0 && server.counts().connections == 0).await;
}

#[tokio::test]
async fn unfinished_messages_of_a_publisher_cost_no_more_than_the_bound() {
    let config = config();
    let bound = admitted_bytes_max(&config);
    let mut server = server(config).await;
    let before = rss_bytes();
    let mut socket = TcpStream::connect(server.local_addr()).await.unwrap();
    let mut bytes = client::publish("live", &key("big"));
    client::message(SET_CHUNK_SIZE, 2, 0, &0x10_0000_u32.to_be_bytes(), &mut bytes);
    write(&mut socket, &bytes).await;
    let mut publish = next_publish(&mut server).await;
    // 250 messages of 8 MiB with a mebibyte each: 250 MiB, if anybody kept it.
    for id in 0..60 {
        let one = unfinished(1, 8 * 1024 * 1024, 0x10_0000);
        let one = [&[3 + u8::try_from(id % 60).unwrap()], &one[1..]].concat();
        write(&mut socket, &one).await;
        let counts = server.counts();
        assert!(counts.held_bytes <= bound, "{counts:?}");
        if counts.connections == 0 {
            break;
        }
    }
    let (_, gone) = whole(&mut publish.events).await;
    assert!(gone.to_string().contains("unfinished messages"), "{gone}");
    let grown = rss_bytes().saturating_sub(before);
    assert!(grown < bound + 16 * 1024 * 1024, "{grown} bytes more");
}

#[tokio::test]
async fn two_hundred_and_fifty_chunk_streams_of_a_publisher_are_too_many() {
    let mut server = server(config()).await;
    let mut socket = TcpStream::connect(server.local_addr()).await.unwrap();
    write(&mut socket, &client::publish("live", &key("many"))).await;
    let mut publish = next_publish(&mut server).await;
    write(&mut socket, &unfinished(250, 8 * 1024 * 1024, 128)).await;
    let (_, gone) = whole(&mut publish.events).await;
    assert_eq!(gone.to_string(), "more than 64 chunk streams");
}

#[tokio::test]
async fn a_handshake_that_drips_is_cut() {
    let server = server(Config { handshake_timeout_ms: 400, ..config() }).await;
    let (mut read, mut write) = TcpStream::connect(server.local_addr()).await.unwrap().into_split();
    let begun = Instant::now();
    let drip = tokio::spawn(async move {
        let mut tick = tokio::time::interval(Duration::from_millis(20));
        while write.write_all(&[3]).await.is_ok() {
            tick.tick().await;
        }
    });
    let mut rest = Vec::new();
    within(read.read_to_end(&mut rest)).await.ok();
    assert!(rest.is_empty());
    assert!((Duration::from_millis(400)..Duration::from_secs(10)).contains(&begun.elapsed()));
    within(drip).await.unwrap();
    until(|| server.counts().connections == 0).await;
}

#[tokio::test]
async fn a_connection_that_says_nothing_is_cut_and_a_publisher_that_falls_silent_too() {
    let config = Config { handshake_timeout_ms: 300, idle_timeout_ms: 300, ..config() };
    let mut server = server(config).await;
    let mut mute = TcpStream::connect(server.local_addr()).await.unwrap();
    assert_eq!(within(mute.read(&mut [0])).await.unwrap_or(0), 0);

    let mut silent = TcpStream::connect(server.local_addr()).await.unwrap();
    write(&mut silent, &client::publish("live", &key("silent"))).await;
    let mut publish = next_publish(&mut server).await;
    let (_, gone) = whole(&mut publish.events).await;
    assert_eq!(gone.to_string(), "nothing came for 300 ms");
}

#[tokio::test]
async fn a_silent_publisher_whose_events_are_dropped_is_ended_at_once() {
    let mut server = server(Config { idle_timeout_ms: 600_000, ..config() }).await;
    let mut socket = TcpStream::connect(server.local_addr()).await.unwrap();
    write(&mut socket, &client::publish("live", &key("nobody"))).await;
    drop(next_publish(&mut server).await);
    until(|| server.counts().publishing == 0).await;
    let mut told = Vec::new();
    within(socket.read_to_end(&mut told)).await.unwrap();
    assert!(told.windows(24).any(|window| window == b"NetStream.Publish.Failed"));
}

#[tokio::test]
async fn seats_are_counted_and_given_back() {
    let config = Config { connections_max: 3, waiting_max: 2, waiting_per_address_max: 1, ..config() };
    let mut server = server(config).await;
    let first = TcpStream::connect(server.local_addr()).await.unwrap();
    until(|| server.counts().waiting == 1).await;
    let mut second = TcpStream::connect(server.local_addr()).await.unwrap();
    assert_eq!(within(second.read(&mut [0])).await.unwrap_or(0), 0, "closed at once");
    assert_eq!(server.counts().turned_away, 1);
    drop(first);
    until(|| server.counts().connections == 0).await;

    let mut publishers = Vec::new();
    for stream in ["a", "b", "c"] {
        let mut socket = TcpStream::connect(server.local_addr()).await.unwrap();
        write(&mut socket, &client::publish("live", &key(stream))).await;
        publishers.push((socket, next_publish(&mut server).await));
        until(|| server.counts().waiting == 0).await;
    }
    let mut fourth = TcpStream::connect(server.local_addr()).await.unwrap();
    assert_eq!(within(fourth.read(&mut [0])).await.unwrap_or(0), 0);
    assert_eq!(server.counts().connections, 3);
    publishers.pop();
    until(|| server.counts().connections == 2).await;
    let mut fifth = TcpStream::connect(server.local_addr()).await.unwrap();
    write(&mut fifth, &client::publish("live", &key("c"))).await;
    assert_eq!(next_publish(&mut server).await.stream.as_str(), "c");
}

#[tokio::test]
async fn a_slow_segmenter_stops_the_publisher_and_loses_nothing() {
    const FRAMES: u32 = 100;
    const FRAME_BYTES: usize = 1024 * 1024;
    let config = Config { queue_bytes_max: 9 * 1024 * 1024, ..config() };
    let mut server = server(config).await;
    let mut socket = TcpStream::connect(server.local_addr()).await.unwrap();
    write(&mut socket, &client::publish("live", &key("slow"))).await;
    let mut publish = next_publish(&mut server).await;
    let sent = std::sync::Arc::new(std::sync::atomic::AtomicU32::new(0));
    let counter = std::sync::Arc::clone(&sent);
    let pusher = tokio::spawn(async move {
        let mut setup = Vec::new();
        client::message(VIDEO, 6, 0, AVC_SETUP, &mut setup);
        socket.write_all(&setup).await.unwrap();
        for at in 0..FRAMES {
            let mut frame = Vec::new();
            client::message(VIDEO, 6, at * 40, &client::picture(at == 0, FRAME_BYTES), &mut frame);
            socket.write_all(&frame).await.unwrap();
            counter.store(at + 1, std::sync::atomic::Ordering::Relaxed);
        }
        socket
    });
    // Nobody takes events: the publisher comes to a halt with the queue and the sockets' buffers full.
    let mut last = 0;
    loop {
        tokio::time::sleep(Duration::from_millis(300)).await; // waits because that nothing moves any more only time can tell
        let now = sent.load(std::sync::atomic::Ordering::Relaxed);
        if now == last && now > 0 {
            break;
        }
        last = now;
    }
    assert!(last < 40, "{last} frames of a mebibyte were taken");
    for at in 0..FRAMES {
        let sample = next_sample(&mut publish.events, TrackKind::Video).await;
        assert_eq!((sample.dts_ms, sample.data.len()), (i64::from(at) * 40, FRAME_BYTES + 4));
    }
    drop(within(pusher).await.unwrap());
    assert_eq!(whole(&mut publish.events).await.1, Gone::Lost);
}

#[tokio::test]
async fn any_byte_stream_will_do() {
    let mut server = server(config()).await;
    let (near, far) = tokio::io::duplex(1000);
    let peer = "192.0.2.1:5".parse().unwrap();
    server.serve(far, peer);
    let (mut read, mut write) = tokio::io::split(near);
    let answers = tokio::spawn(async move {
        let mut answers = Vec::new();
        read.read_to_end(&mut answers).await.unwrap();
        answers
    });
    let mut bytes = client::publish("live", &key("memory"));
    client::message(AUDIO, 4, 0, AAC_SETUP, &mut bytes);
    client::message(AUDIO, 4, 21, &[0xaf, 1, 7, 7], &mut bytes);
    within(write.write_all(&bytes)).await.unwrap();
    let mut publish = next_publish(&mut server).await;
    assert_eq!((publish.stream.as_str(), &publish.source), ("memory", &Source::Rtmp(peer)));
    let sample = next_sample(&mut publish.events, TrackKind::Audio).await;
    assert_eq!((sample.dts_ms, &sample.data[..], sample.keyframe), (21, &[7, 7][..], true));
    drop(publish);
    let answers = within(answers).await.unwrap();
    assert!(answers.windows(23).any(|window| window == b"NetStream.Publish.Start"));
}
