//! What publishers may do, with real encoders: taking over, coming back from a dead line, and sending too much.

use std::time::Duration;

use millstream_packager::{
    events::Webhook,
    policy::{StreamPolicy, Takeover},
};
use millstream_playlist::check;
use millstream_service::Secret;
use tokio::{
    io::{AsyncWriteExt as _, copy},
    net::{TcpListener, TcpStream},
    process::Child,
    sync::watch,
};

use crate::{
    receiver::{Receiver, Request, SECRET},
    world::{KEY, World, assert_clean, ffmpeg, follow, localhost, media, push, stream, within},
};

async fn told(settings: impl FnOnce(&mut millstream_packager::Config)) -> (Receiver, World) {
    let receiver = Receiver::start().await;
    let webhook = Webhook { url: receiver.url(), secret: Secret::new(SECRET.to_owned()), events: Vec::new() };
    let world = World::start(|config| {
        config.events.webhooks = vec![webhook];
        config.events.plain_http = true;
        settings(config);
    })
    .await;
    (receiver, world)
}

/// What ffmpeg said when it was sent away.
async fn farewell(encoder: Child) -> String {
    let ended = within(encoder.wait_with_output()).await.unwrap();
    assert!(!ended.status.success());
    String::from_utf8(ended.stderr).unwrap()
}

fn errors(requests: &[Request]) -> Vec<(String, String)> {
    let error = |request: &Request| {
        let fields = request.event()["fields"].clone();
        (fields["code"].as_str().unwrap().to_owned(), fields["message"].as_str().unwrap().to_owned())
    };
    requests.iter().filter(|request| request.kind() == "error").map(error).collect()
}

fn has_limit(requests: &[Request]) -> bool {
    errors(requests).iter().any(|(code, _)| code == "limit")
}

#[tokio::test]
async fn a_newer_publisher_takes_over_behind_one_discontinuity_where_the_policy_says_so() {
    let (mut receiver, world) = told(|config| {
        let own = StreamPolicy {
            takeover: Some(Takeover::Replace),
            away_ms: Some(0),
            ..StreamPolicy::of(stream())
        };
        config.policy.streams = vec![own];
    })
    .await;
    let file = media(60, 20).await;
    let first = push(&file, "1", &world.rtmp(KEY));
    world.begun().await;
    let before = follow(&world, "video", 8).await;
    let second = push(&file, "1", &world.rtmp(KEY));
    let said = farewell(first).await;
    assert!(said.contains("another publisher with the same key took over"), "{said}");
    // Although this stream waits for nobody, it goes on.
    let after = follow(&world, "video", 12).await;
    assert_clean(&check::succession(&before, &after), &format!("{before}\n{after}"));
    assert_eq!(after.lines().filter(|line| *line == "#EXT-X-DISCONTINUITY").count(), 1, "{after}");
    assert_eq!(world.status().await["generation"], 1, "the same show");
    let requests = receiver.until(|requests| requests.iter().any(|r| r.kind() == "unpublish")).await;
    let kinds: Vec<String> = requests.iter().map(Request::kind).filter(|kind| kind != "error").collect();
    assert!(kinds.starts_with(&["publish".into(), "ready".into(), "unpublish".into()]), "{kinds:?}");
    let left = requests.iter().find(|request| request.kind() == "unpublish").unwrap().event();
    assert_eq!(left["fields"]["reason"], "another publisher with the same key took over");
    drop(second);
}

/// Carries an encoder's connection until it is told to go silent, as a phone that left its network: nothing more
/// passes, and nobody says goodbye.
async fn line(to: std::net::SocketAddr) -> (std::net::SocketAddr, watch::Sender<bool>) {
    let listener = TcpListener::bind(localhost()).await.unwrap();
    let address = listener.local_addr().unwrap();
    let (silence, mut silent) = watch::channel(false);
    tokio::spawn(async move {
        let (near, _) = listener.accept().await.unwrap();
        let far = TcpStream::connect(to).await.unwrap();
        let ((mut near_read, mut near_write), (mut far_read, mut far_write)) =
            (near.into_split(), far.into_split());
        tokio::select! {
            _ = copy(&mut near_read, &mut far_write) => {}
            _ = copy(&mut far_read, &mut near_write) => {}
            _ = silent.wait_for(|silent| *silent) => {}
        }
        // Both sockets stay open until the test is over.
        let _ = silent.wait_for(|silent| !silent).await;
        let _ = far_write.shutdown().await;
    });
    (address, silence)
}

#[tokio::test]
async fn a_publisher_whose_line_died_comes_back_long_before_its_dead_connection_is_given_up() {
    // The default: a second publisher is refused. The dead connection alone would hold the stream for a minute.
    let (receiver, world) = told(|config| config.rtmp.idle_timeout_ms = 60_000).await;
    let file = media(60, 20).await;
    let (address, silence) = line(world.addresses.rtmp).await;
    let _dead = push(&file, "1", &format!("rtmp://{address}/live/{KEY}"));
    world.begun().await;
    let before = follow(&world, "video", 4).await;
    silence.send_replace(true);
    let since = std::time::Instant::now();
    let mut back = push(&file, "1", &world.rtmp(KEY));
    let after = follow(&world, "video", 12).await;
    assert!(since.elapsed() < Duration::from_secs(20), "{:?}", since.elapsed());
    assert_clean(&check::succession(&before, &after), &format!("{before}\n{after}"));
    assert!(after.contains("#EXT-X-DISCONTINUITY\n"), "{after}");
    assert!(back.try_wait().unwrap().is_none(), "it was never refused");
    assert!(!errors(&receiver.seen()).iter().any(|(code, _)| code == "refused"));
    silence.send_replace(false);
}

#[tokio::test]
async fn an_encoder_that_announces_too_much_is_told_what_would_be_right() {
    let (mut receiver, world) = told(|config| config.policy.bitrate_kbps_max = 500).await;
    let file = media(60, 20).await;
    // Encoded anew, so that it says its rate.
    let mut encoder = ffmpeg(["-re", "-i"]);
    encoder.arg(&file).args([
        "-c:v",
        "libx264",
        "-preset",
        "ultrafast",
        "-b:v",
        "900k",
        "-c:a",
        "copy",
        "-f",
        "flv",
    ]);
    let said = farewell(encoder.arg(world.rtmp(KEY)).spawn().unwrap()).await;
    let right = "this stream takes 500 at most";
    assert!(said.contains("the encoder announces") && said.contains(right), "{said}");
    let requests = receiver.until(has_limit).await;
    assert!(errors(&requests)[0].1.contains(right), "{requests:?}");
    assert_ne!(world.get("video.m3u8").await.status(), 200, "nobody saw any of it");
    let metrics = world.ops("metrics").await;
    assert!(metrics.contains(r#"millstream_packager_limits_total{limit="bitrate"} 1"#), "{metrics}");
}

#[tokio::test]
async fn what_really_comes_is_measured_whatever_the_encoder_says() {
    let (mut receiver, world) = told(|config| config.policy.bitrate_kbps_max = 300).await;
    let file = media(60, 20).await;
    // Copied as a data stream of unknown rate: ffmpeg announces nothing that would be too much.
    let mut encoder = ffmpeg(["-readrate", "4", "-stream_loop", "-1", "-i"]);
    encoder.arg(&file).args(["-c", "copy", "-flvflags", "no_metadata", "-f", "flv", &world.rtmp(KEY)]);
    let said = farewell(encoder.spawn().unwrap()).await;
    assert!(said.contains("kbit/s came over") && said.contains("this stream takes 300 at most"), "{said}");
    assert!(
        errors(&receiver.until(has_limit).await).iter().any(|(_, said)| said.contains("takes 300 at most"))
    );
}

#[tokio::test]
async fn a_picture_that_is_too_large_is_never_shown_even_when_the_encoder_does_not_say_its_size() {
    let (mut receiver, world) = told(|config| {
        config.policy.picture_max = "320x240".parse().unwrap();
        config.policy.away_ms = 20_000;
    })
    .await;
    let file = media(60, 20).await;
    for round in 1..3 {
        let mut encoder = ffmpeg(["-re", "-i"]);
        encoder.arg(&file).args(["-c", "copy", "-flvflags", "no_metadata", "-f", "flv", &world.rtmp(KEY)]);
        let said = farewell(encoder.spawn().unwrap()).await;
        assert!(
            said.contains("the picture is 640x360 and this stream takes 320x240 at most"),
            "{round}: {said}"
        );
    }
    assert_ne!(world.get("video.m3u8").await.status(), 200);
    receiver.until(|requests| errors(requests).iter().filter(|(code, _)| code == "limit").count() == 2).await;
    // One that keeps to it is welcome, in the same show.
    let mut encoder = ffmpeg(["-re", "-i"]);
    encoder.arg(&file).args(["-vf", "scale=320:180", "-c:v", "libx264", "-preset", "ultrafast", "-g", "60"]);
    encoder.args(["-c:a", "copy", "-f", "flv", &world.rtmp(KEY)]);
    let _encoder = encoder.spawn().unwrap();
    world.begun().await;
    follow(&world, "video", 4).await;
}

#[tokio::test]
async fn a_show_that_lasts_too_long_ends() {
    let (mut receiver, world) = told(|config| config.policy.duration_s_max = 3).await;
    let file = media(60, 20).await;
    let encoder = push(&file, "1", &world.rtmp(KEY));
    let said = farewell(encoder).await;
    assert!(said.contains("the show has lasted 3 s"), "{said}");
    let requests = receiver.until(|requests| requests.iter().any(|r| r.kind() == "ended")).await;
    let ended = requests.iter().find(|request| request.kind() == "ended").unwrap().event();
    assert!((2_900..6_000).contains(&ended["fields"]["duration_ms"].as_u64().unwrap()), "{ended}");
    assert!(world.text("video.m3u8").await.ends_with("#EXT-X-ENDLIST\n"));
}
