//! Who is turned away, and what they and the log are told.

use millstream_packager::ingest::{Event, Gone};
use millstream_segmenter::TrackKind;
use tokio::process::Child;

use crate::world::{
    Log, config, ffmpeg, key, media, next_publish, next_sample, push_for_ever, push_once, server, until, url,
    whole, within,
};

/// What ffmpeg said when it failed.
async fn failure(encoder: Child) -> String {
    let ended = within(encoder.wait_with_output()).await.unwrap();
    assert!(!ended.status.success());
    String::from_utf8(ended.stderr).unwrap()
}

#[tokio::test]
async fn a_wrong_key_is_refused_with_its_reason_and_masked_in_the_log() {
    let log = Log::start();
    let file = media(0, 4).await;
    let server = server(config()).await;
    let wrong = "wrong-key-9876543210";
    let url = format!("rtmp://{}/live/{wrong}", server.local_addr());
    let said = failure(push_once(&file, &url)).await;
    assert!(said.contains("this stream key is not known"), "{said}");
    until(|| server.counts().connections == 0).await;
    assert_eq!((server.counts().refused, server.counts().publishing), (1, 0));
    let log = log.text();
    let line = log.lines().find(|line| line.contains("wron…")).expect(&log);
    assert!(line.contains("publish refused") && line.contains("this stream key is not known"), "{line}");
    assert!(!log.contains(wrong), "{log}");
}

#[tokio::test]
async fn a_good_key_is_masked_in_the_log_too() {
    let log = Log::start();
    let file = media(0, 4).await;
    let mut server = server(config()).await;
    let encoder = push_once(&file, &url(&server, "masked"));
    let mut publish = next_publish(&mut server).await;
    whole(&mut publish.events).await;
    assert!(within(encoder.wait_with_output()).await.unwrap().status.success());
    until(|| server.counts().connections == 0).await;
    let log = log.text();
    assert!(log.contains("publishing") && log.contains("publisher gone") && log.contains("good…"), "{log}");
    assert!(!log.contains(&key("masked")), "{log}");
}

#[tokio::test]
async fn another_application_is_refused_and_told_the_right_one() {
    let log = Log::start();
    let file = media(0, 4).await;
    let server = server(config()).await;
    // A key where the application belongs: it must not end up in the log either.
    let url = format!("rtmp://{}/{}/x", server.local_addr(), key("demo"));
    let said = failure(push_once(&file, &url)).await;
    assert!(said.contains("rtmp://host/live/<stream key>"), "{said}");
    until(|| server.counts().connections == 0).await;
    assert!(!log.text().contains(&key("demo")), "{}", log.text());
}

#[tokio::test]
async fn a_second_publisher_is_refused_and_the_first_goes_on_untouched() {
    let log = Log::start();
    let file = media(0, 60).await;
    let mut server = server(config()).await;
    let url = url(&server, "demo");
    let first = push_for_ever(&file, &url);
    let mut publish = next_publish(&mut server).await;
    let mut last = next_sample(&mut publish.events, TrackKind::Video).await;
    for _ in 0..3 {
        let said = failure(push_once(&file, &url)).await;
        assert!(said.contains("this stream has a publisher already"), "{said}");
    }
    assert_eq!(server.counts().refused, 3);
    for _ in 0..60 {
        let sample = next_sample(&mut publish.events, TrackKind::Video).await;
        assert!((30..=37).contains(&(sample.dts_ms - last.dts_ms)), "{} {}", last.dts_ms, sample.dts_ms);
        last = sample;
    }
    assert!(log.text().contains("this stream has a publisher already"));
    assert!(!log.text().contains(&key("demo")));
    drop(first);
}

#[tokio::test]
async fn a_codec_that_players_do_not_take_is_refused_by_name() {
    let file = media(0, 4).await;
    let mut server = server(config()).await;
    let url = url(&server, "mp3");
    let encoder = ffmpeg(["-re", "-i"])
        .arg(&file)
        .args(["-c:v", "copy", "-c:a", "libmp3lame", "-f", "flv", &url])
        .spawn()
        .unwrap();
    let mut publish = next_publish(&mut server).await;
    let (_, gone) = whole(&mut publish.events).await;
    assert_eq!(gone.to_string(), "audio is MP3; send AAC or Opus");
    let said = failure(encoder).await;
    assert!(said.contains("audio is MP3; send AAC or Opus"), "{said}");
}

#[tokio::test]
async fn whoever_drops_the_events_ends_the_publisher() {
    let file = media(0, 4).await;
    let mut server = server(config()).await;
    let encoder = push_for_ever(&file, &url(&server, "demo"));
    let mut publish = next_publish(&mut server).await;
    next_sample(&mut publish.events, TrackKind::Video).await;
    drop(publish);
    let said = failure(encoder).await;
    assert!(said.contains("the stream was ended by its server"), "{said}");
    until(|| server.counts().publishing == 0).await;
}

#[tokio::test]
async fn a_shutdown_tells_publishers_and_ends_in_time() {
    let file = media(0, 4).await;
    let mut server = server(config()).await;
    let address = server.local_addr();
    let encoder = push_for_ever(&file, &url(&server, "demo"));
    let mut publish = next_publish(&mut server).await;
    next_sample(&mut publish.events, TrackKind::Video).await;
    let cut_off = within(server.server.shutdown(std::time::Duration::from_secs(5))).await;
    assert!(cut_off.is_empty(), "{cut_off:?}");
    assert!(failure(encoder).await.contains("the server is going down"));
    assert_eq!(whole(&mut publish.events).await.1, Gone::Stopped);
    assert!(tokio::net::TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn dropping_the_server_ends_everything() {
    let file = media(0, 4).await;
    let mut server = server(config()).await;
    let address = server.local_addr();
    let encoder = push_for_ever(&file, &url(&server, "demo"));
    let mut publish = next_publish(&mut server).await;
    next_sample(&mut publish.events, TrackKind::Video).await;
    drop(server);
    failure(encoder).await;
    loop {
        match within(publish.events.recv()).await {
            Some(Event::Gone { reason }) => break assert_eq!(reason, Gone::Stopped),
            Some(_) => {}
            None => panic!("an end without a reason"),
        }
    }
    assert!(tokio::net::TcpStream::connect(address).await.is_err());
}
