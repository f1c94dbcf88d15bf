//! Playlists, segments, parts, ranges, waiting.

use millstream_model::StreamId;
use millstream_playlist::check;

use super::*;

#[tokio::test]
async fn playlists_and_media_are_what_the_publisher_sent() {
    let mut world = plain_world().await;
    world.run(20);
    assert_eq!(check::multivariant(&world.text("index.m3u8").await), []);
    let video = world.text("video.m3u8").await;
    let audio = world.text("audio.m3u8").await;
    assert_eq!(check::media(&video), []);
    assert_eq!(check::media(&audio), []);
    assert_eq!(check::together(&[&video, &audio]), []);
    assert!(video.contains("RENDITION-REPORT:URI=\"audio.m3u8\",LAST-MSN=2,LAST-PART=3"), "{video}");

    for segment in check::Playlist::parse(&video).segments {
        let Some(uri) = segment.uri else { continue };
        let whole = world.get(&uri).await.bytes().await.unwrap();
        let mut parts = Vec::new();
        for part in &segment.parts {
            parts.extend(world.get(&part.uri).await.bytes().await.unwrap());
        }
        assert_eq!(whole, parts, "a segment is its parts");
        assert_eq!(whole.len(), 8_000);
        let init = world.get(&segment.map.unwrap()).await.bytes().await.unwrap();
        assert_eq!(init, "video init");
    }
}

#[tokio::test]
async fn answers_say_what_they_are_and_how_long_they_keep() {
    let mut world = plain_world().await;
    world.run(9);
    let cases = [
        ("index.m3u8", "application/vnd.apple.mpegurl", "no-cache"),
        ("video.m3u8", "application/vnd.apple.mpegurl", "no-cache"),
        ("video.m3u8?_HLS_msn=1&_HLS_part=0", "application/vnd.apple.mpegurl", "public, max-age=1"),
        ("video/init-1-1.mp4", "video/mp4", "public, max-age=31536000, immutable"),
        ("video/s0.m4s", "video/mp4", "public, max-age=31536000, immutable"),
        ("audio/p3.m4s", "audio/mp4", "public, max-age=31536000, immutable"),
        ("start", "application/vnd.millstream.frames", "no-store"),
        ("video/p99.m4s", "text/plain; charset=utf-8", "no-store"),
    ];
    for (path, kind, cache) in cases {
        let got = world.get(path).await;
        assert_eq!((header(&got, "content-type"), header(&got, "cache-control")), (kind, cache), "{path}");
        assert_eq!(header(&got, "vary"), "Origin");
        assert_eq!(header(&got, "access-control-allow-origin"), "*");
        assert_eq!(header(&got, "x-content-type-options"), "nosniff");
        let head = world.client.head(format!("{}/{path}", world.url)).send().await.unwrap();
        assert_eq!(head.status(), got.status(), "{path}");
        assert_eq!(header(&head, "content-length"), header(&got, "content-length"), "{path}");
        assert_eq!(header(&head, "content-type"), kind);
        assert_eq!(head.bytes().await.unwrap().len(), 0);
    }
}

#[tokio::test]
async fn a_range_is_cut_from_parts_and_segments() {
    let mut world = plain_world().await;
    world.run(9);
    let whole = world.get("video/s0.m4s").await.bytes().await.unwrap();
    let range = |path: &str, range: &str| {
        world.client.get(format!("{}/{path}", world.url)).header("range", range).send()
    };
    let got = range("video/s0.m4s", "bytes=990-2010").await.unwrap();
    assert_eq!(got.status(), 206);
    assert_eq!(header(&got, "content-range"), "bytes 990-2010/8000");
    assert_eq!(header(&got, "content-length"), "1021");
    assert_eq!(got.bytes().await.unwrap(), whole[990..=2_010]);
    let got = range("video/p2.m4s", "bytes=-10").await.unwrap();
    assert_eq!((got.status().as_u16(), header(&got, "content-range")), (206, "bytes 990-999/1000"));
    let got = range("video/p2.m4s", "bytes=1000-").await.unwrap();
    assert_eq!((got.status().as_u16(), header(&got, "content-range")), (416, "bytes */1000"));
    let got = range("video/p2.m4s", "bytes=0-1,5-6").await.unwrap();
    assert_eq!(got.status(), 200);
    assert_eq!(got.bytes().await.unwrap().len(), 1_000);
}

#[tokio::test]
async fn what_was_here_is_gone_and_what_never_was_is_not_found() {
    let mut world = world(|_, window, _| window.bytes_max = 60_000).await;
    world.announce();
    world.run(40);
    assert_eq!(world.status("video/p0.m4s").await, 410);
    assert_eq!(world.status("video/s0.m4s").await, 410);
    for path in [
        "video/p41.m4s",
        "video/s4.m4s",
        "video/s7.m4s",
        "other/p1.m4s",
        "other.m3u8",
        "video/init-1-2.mp4",
        "video/init-2-1.mp4",
        "nothing",
        "video/p+1.m4s",
        "",
    ] {
        assert_eq!(world.status(path).await, 404, "{path}");
    }
    let elsewhere = StreamId::new("elsewhere").unwrap();
    let url = format!("http://{}{}", world.address, Path::Multivariant.url(&elsewhere));
    assert_eq!(world.client.get(url).send().await.unwrap().status(), 404);
}

#[tokio::test]
async fn a_hinted_part_is_held_until_it_exists() {
    let mut world = plain_world().await;
    world.run(8);
    let text = world.text("video.m3u8").await;
    let hint = check::Playlist::parse(&text).hint.unwrap();
    assert_eq!(hint, "video/p8.m4s", "it begins a segment, which nobody knows yet");
    let asked = world.ask(&hint);
    world.waiters(1).await;
    world.run(1);
    let got = asked.await.unwrap();
    assert_eq!(got.status(), 200);
    assert_eq!(got.bytes().await.unwrap(), vec![8; 1_000]);
    world.waiters(0).await;
}

#[tokio::test]
async fn a_reload_is_held_until_the_playlist_has_what_it_asks_for() {
    let mut world = plain_world().await;
    world.run(10);
    let asks = [(1, Some(2)), (1, Some(7)), (1, None), (2, Some(0)), (2, None)];
    let mut held = Vec::new();
    for (segment, part) in asks {
        let part_query = part.map_or_else(String::new, |part| format!("&_HLS_part={part}"));
        held.push(world.ask(&format!("video.m3u8?_HLS_msn={segment}{part_query}")));
    }
    world.waiters(5).await;
    world.run(1);
    world.waiters(4).await;
    world.run(5);
    world.waiters(3).await;
    world.run(1);
    // The first part of segment 2 makes segment 1 whole.
    world.waiters(1).await;
    world.run(8);
    for (asked, (segment, part)) in held.into_iter().zip(asks) {
        let text = asked.await.unwrap().text().await.unwrap();
        assert_eq!(check::media(&text), []);
        let asked = Reload { segment, part };
        assert_eq!(check::answer(&text, asked), [], "{text}");
    }
}

#[tokio::test]
async fn a_reload_that_nobody_can_mean_is_refused_at_once() {
    let mut world = plain_world().await;
    world.run(10);
    for query in [
        "_HLS_part=1",
        "_HLS_msn=x",
        "_HLS_msn=3",
        "_HLS_msn=18446744073709551615",
        "_HLS_msn=1&_HLS_part=99",
        "_HLS_msn=-1",
    ] {
        assert_eq!(world.status(&format!("video.m3u8?{query}")).await, 400, "{query}");
    }
    assert_eq!(world.status("video.m3u8?_HLS_msn=0&_HLS_part=99&_HLS_skip=YES").await, 200);
}

#[tokio::test]
async fn what_does_not_come_in_three_target_durations_is_a_503() {
    let mut world = world(|_, _, _| {}).await;
    let early = [world.ask("video.m3u8"), world.ask("index.m3u8"), world.ask("start")];
    world.waiters(3).await;
    world.announce_as(|track| track.target_duration_ms = 100);
    assert_eq!(early.into_iter().nth(1).unwrap().await.unwrap().status(), 200, "the catalog is enough");
    world.run(2);
    let begun = std::time::Instant::now();
    let got = world.get("video/p2.m4s").await;
    assert_eq!((got.status().as_u16(), header(&got, "retry-after")), (503, "1"));
    assert!(begun.elapsed() >= Duration::from_millis(300));
    assert_eq!(world.status("video.m3u8?_HLS_msn=0&_HLS_part=2").await, 503);
}

#[tokio::test]
async fn no_more_than_so_many_may_wait() {
    let mut world = world(|config, _, _| config.waiters_max = 2).await;
    world.announce();
    world.run(1);
    let held = [world.ask("video/p1.m4s"), world.ask("video.m3u8?_HLS_msn=0")];
    world.waiters(2).await;
    assert_eq!(world.status("video/p1.m4s").await, 503);
    assert_eq!(world.status("video/p0.m4s").await, 200, "what is there is given");
    world.run(8);
    for asked in held {
        assert_eq!(asked.await.unwrap().status(), 200);
    }
}

#[tokio::test]
async fn no_more_than_so_many_requests_are_in_hand() {
    let mut world = world(|config, _, _| config.requests_max = 1).await;
    world.announce();
    world.run(1);
    let held = world.ask("video/p1.m4s");
    world.waiters(1).await;
    assert_eq!(world.status("video/p0.m4s").await, 503);
    world.run(1);
    assert_eq!(held.await.unwrap().status(), 200);
    assert_eq!(world.status("video/p0.m4s").await, 200);
}

#[tokio::test]
async fn the_end_answers_everybody_who_waits() {
    let mut world = plain_world().await;
    world.run(10);
    let reload = world.ask("video.m3u8?_HLS_msn=2&_HLS_part=0");
    let hint = world.ask("video/p10.m4s");
    world.waiters(2).await;
    world.end();
    let text = reload.await.unwrap().text().await.unwrap();
    assert!(text.ends_with("video/s1.m4s\n#EXT-X-ENDLIST\n"), "{text}");
    assert_eq!(hint.await.unwrap().status(), 404);
    assert_eq!(world.status("video.m3u8?_HLS_msn=77").await, 200, "an ended playlist ignores directives");
}

#[tokio::test]
async fn a_stream_that_ended_before_it_began_is_not_found() {
    let world = world(|_, _, _| {}).await;
    let held = world.ask("index.m3u8");
    world.waiters(1).await;
    world.stream.change(|inner| inner.state = State::Ended);
    assert_eq!(held.await.unwrap().status(), 404);
    assert_eq!(world.status("video.m3u8").await, 404);
    assert_eq!(world.status("start").await, 404);
    assert_eq!(world.status("feed?rendition=video").await, 404);
}

#[tokio::test]
async fn the_drain_lets_nobody_wait() {
    let mut world = plain_world().await;
    world.run(1);
    let held = world.ask("video/p1.m4s");
    world.waiters(1).await;
    world.tasks.begin_drain();
    assert_eq!(held.await.unwrap().status(), 503);
}

#[tokio::test]
async fn start_is_believed_by_whoever_knows_the_root() {
    let mut world = plain_world().await;
    world.run(20);
    let body = world.get("start").await.bytes().await.unwrap();
    let mut chain = show::chain();
    let mut order = Vec::new();
    for frame in frames(&body) {
        match frame {
            Frame::Delegation(signed) => drop(chain.accept_delegation(&signed, NOW).unwrap()),
            Frame::Catalog(signed) => drop(chain.accept_catalog(&signed).unwrap()),
            Frame::Record(signed) => {
                chain.accept_record(&signed).unwrap();
                order.push((signed.unverified().rendition.0, signed.unverified().number));
            }
            other => panic!("{other:?}"),
        }
    }
    let newest_first: Vec<(u8, u64)> =
        (0..2).flat_map(|id| (8..20).rev().map(move |number| (id, number))).collect();
    assert_eq!(order, newest_first, "two segments, the open one among them");
}

#[tokio::test]
async fn only_reading_is_allowed() {
    let mut world = plain_world().await;
    world.run(1);
    for method in [Method::POST, Method::PUT, Method::DELETE, Method::PATCH, Method::TRACE] {
        let got = world.client.request(method.clone(), format!("{}/start", world.url)).send().await.unwrap();
        assert_eq!(got.status(), 405, "{method}");
        assert_eq!(header(&got, "allow"), "GET, HEAD, OPTIONS");
    }
}

#[tokio::test]
async fn bytes_are_counted_by_session_and_kind() {
    let mut world = world(|config, _, _| config.sessions_max = 2).await;
    world.announce();
    world.run(9);
    let session = |last: char| format!("AAAAAAAAAAAAAAAAAAAAA{last}");
    for (last, times) in [('A', 3), ('Q', 1), ('g', 1)] {
        for _ in 0..times {
            world.text(&format!("video/p1.m4s?session={}", session(last))).await;
        }
    }
    world.text("video/s0.m4s?session=not-a-session").await;
    let sessions = world.origin.sessions(10);
    let counted: Vec<(String, u64)> = sessions.iter().map(|s| (s.session.to_string(), s.bytes)).collect();
    assert_eq!(counted, [(session('A'), 3_000), (session('Q'), 1_000)], "the third found no place");
    assert_eq!(world.stream.sent_bytes(), (5_000 + 8_000, 0));
    assert_eq!(world.metrics.sent_bytes.with_label_values(&["part"]).get(), 5_000);
    assert_eq!(world.metrics.answers.with_label_values(&["part", "200"]).get(), 5);
}

#[tokio::test]
async fn garbage_harms_nobody() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let mut world = plain_world().await;
    world.run(9);
    let mut seed: u64 = 0x9e37_79b9_7f4a_7c15;
    let mut random = move || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed
    };
    let starts: [&[u8]; 8] = [
        b"GET /s/demo/",
        b"GET /s/demo/video.m3u8?_HLS_msn=",
        b"POST /s/demo/start HTTP/1.1\r\nContent-Length: ",
        b"GET /s/demo/video/p1.m4s HTTP/1.1\r\nRange: bytes=",
        b"",
        b"\x16\x03\x01\x02\x00",
        b"PRI * HTTP/2.0\r\n\r\n",
        b"GET /s/demo/start HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ",
    ];
    for round in 0..1_000 {
        let Ok(mut socket) = tokio::net::TcpStream::connect(world.address).await else {
            panic!("round {round}")
        };
        let mut bytes = starts[round % starts.len()].to_vec();
        for _ in 0..random() % 300 {
            let byte = random().to_be_bytes()[0];
            // Some of it looks like text.
            bytes.push(if round % 3 == 0 { byte } else { b' ' + byte % 95 });
        }
        if round % 2 == 0 {
            bytes.extend_from_slice(b" HTTP/1.1\r\nHost: x\r\n\r\n");
        }
        let _ = socket.write_all(&bytes).await;
        let _ = socket.shutdown().await;
        let mut answer = Vec::new();
        let mut socket = socket.take(1 << 20);
        let reading = socket.read_to_end(&mut answer);
        let _ = tokio::time::timeout(PATIENCE, reading).await.expect("every connection ends");
    }
    world.run(1);
    assert_eq!(check::media(&world.text("video.m3u8").await), []);
    assert_eq!((world.origin.waiters(), world.origin.requests()), (0, 0));
}
