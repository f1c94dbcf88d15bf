//! Publishers that vanish and come back, and those that may not publish.
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "in a test, a surprise shall be loud")]

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use millstream_e2e::{
    api::Api,
    media::PLAIN,
    origin::Origin,
    pressure::Pressure,
    publisher,
    stack::{Created, Stack},
    time::{go_on, until},
    viewers::Watch,
};
use serde_json::Value;

/// Time for a program to notice and to say so.
const PATIENCE: Duration = Duration::from_secs(20);

const VIEWERS: usize = 5;

/// Bounds how far sound and picture may part at the gap, in milliseconds: less than anybody hears.
const STEP_MS: i64 = 20;

/// Milliseconds since 1970.
fn wall_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis().try_into().unwrap()
}

/// Waits until the packager says so of its one stream.
fn packager<T>(stack: &Stack, judge: impl Fn(&Value) -> Option<T>) -> T {
    let api = Api::new(&stack.ready.ops.packager, "").unwrap();
    api.wait("/v1/status", PATIENCE, |status| judge(&status["streams"][0])).unwrap()
}

/// How long after its program date time's zero the media of a rendition shows, by its first record in each stretch:
/// what has to be the same for sound and picture.
fn offsets(origin: &Origin, rendition: &str) -> Vec<(u32, i64)> {
    let (catalog, records) = origin.records(rendition).unwrap();
    let described = catalog.renditions.iter().find(|described| described.name == rendition).unwrap();
    let mut offsets: Vec<(u32, i64)> = Vec::new();
    for record in &records {
        if offsets.last().is_none_or(|(discontinuity, _)| *discontinuity != record.discontinuity) {
            let media_ms =
                i64::try_from(record.media_time.0 * 1_000 / u64::from(described.timescale)).unwrap();
            let shown = i64::try_from(record.program_date_time.0).unwrap();
            offsets.push((record.discontinuity, shown - media_ms));
        }
    }
    offsets
}

#[test]
fn a_publisher_that_comes_back_with_new_timestamps_is_one_discontinuity() {
    let stack = Stack::up(2).unwrap();
    let (mut publisher, created) = stack.publish("show", &PLAIN).unwrap();
    assert_eq!(created.rtmp_url, stack.ready.rtmp, "broadcasters are told where to publish");
    stack.edges(2).unwrap();
    let pressure = Pressure::begin();
    let mut watch = Watch::new(&stack.ready.tracker, "show", 20);
    watch.viewers = u32::try_from(VIEWERS).unwrap();
    let mut watching = watch.start(stack.folder()).unwrap();
    stack.api.wait("/v1/sessions", PATIENCE, |all| (all["total"] == VIEWERS).then_some(())).unwrap();
    let sessions = stack.sessions().unwrap();
    go_on(Duration::from_secs(3));

    publisher.kill();
    let gone = Instant::now();
    let bytes = packager(&stack, |stream| {
        (stream["state"] == "away").then(|| stream["published_bytes"].as_u64().unwrap())
    });
    until(gone + Duration::from_secs(5));
    // ffmpeg begins at zero again.
    let _publisher = stack.push(&created, &PLAIN).unwrap();
    packager(&stack, |stream| (stream["published_bytes"].as_u64()? > bytes).then_some(()));
    let first_part = wall_ms();

    go_on(Duration::from_secs(4));
    assert_eq!(stack.sessions().unwrap(), sessions, "nobody had to join again");
    let report = watching.report().unwrap();
    let log = watching.log();
    eprintln!(">> {report:?}; {pressure}");
    // Each stood still once, for what was missing, and plays within two seconds of the first new part.
    let again: Vec<u64> = log
        .lines()
        .filter(|line| line.contains("plays again"))
        .map(|line| line.rsplit_once("at=").unwrap().1.trim().parse().unwrap())
        .collect();
    eprintln!(">> first new part {first_part}, plays again {again:?}");
    assert_eq!(again.len(), VIEWERS, "{log}; {pressure}");
    assert!(again.iter().all(|at| *at <= first_part + 2_000), "{first_part}: {again:?}; {pressure}");
    assert_eq!(report.stalls.count, u64::try_from(VIEWERS).unwrap(), "{report:?}; {pressure}");
    assert_eq!(report.pieces.rejected, 0);

    let origin = stack.origin("show").unwrap();
    for rendition in ["video", "audio"] {
        let segments = origin.playlist(rendition).unwrap().segments;
        let cuts = segments.iter().filter(|segment| segment.after_discontinuity).count();
        assert_eq!(cuts, 1, "{rendition}: {segments:?}");
    }
    origin.follows_the_rules(&["video", "audio"]).unwrap();
    let (video, audio) = (offsets(&origin, "video"), offsets(&origin, "audio"));
    eprintln!(">> offsets {video:?} {audio:?}");
    assert_eq!((video.len(), audio.len()), (2, 2), "{video:?} {audio:?}");
    for (picture, sound) in video.iter().zip(&audio) {
        assert_eq!(picture.0, sound.0, "both count discontinuities alike");
        assert!((picture.1 - sound.1).abs() <= STEP_MS, "out of step: {video:?} {audio:?}");
    }
}

#[test]
fn who_may_not_publish_is_told_why_and_harms_nobody() {
    let apart = Stack::apart().unwrap();
    let stack = &apart.stack;
    let _edge = stack.edge("edge").unwrap();
    let (mut first, created) = stack.publish("show", &PLAIN).unwrap();
    let pressure = Pressure::begin();
    let mut watching = Watch::new(&stack.ready.tracker, "show", 8).start(stack.folder()).unwrap();

    let mut second = stack.push(&created, &PLAIN).unwrap();
    assert!(!second.ended(PATIENCE).unwrap().success(), "a live key is taken");
    assert!(second.log_text().contains("this stream has a publisher already"), "{}", second.log());

    let wrong = Created { stream_key: String::from("no-such-key"), ..created.clone() };
    let url = format!("{}/{}", stack.ready.rtmp, wrong.stream_key);
    let mut stranger = publisher::push(&PLAIN, &url, stack.folder()).unwrap();
    assert!(!stranger.ended(PATIENCE).unwrap().success(), "a wrong key opens nothing");
    assert!(stranger.log_text().contains("no stream has this key"), "{}", stranger.log());

    let log = apart.packager.process.log_text();
    let refused: Vec<&str> = log.lines().filter(|line| line.contains("publish refused")).collect();
    assert_eq!(refused.len(), 2, "{log}");
    assert!(!log.contains(&created.stream_key), "a stream key stands in the log");
    assert!(!log.contains(&wrong.stream_key), "not even a wrong one does");

    assert!(first.is_running());
    let report = watching.report().unwrap();
    assert_eq!(report.stalls.count, 0, "{report:?}; {pressure}");
}
