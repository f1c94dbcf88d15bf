//! A real encoder's show, as a webhook hears of it.

use millstream_packager::events::Webhook;
use millstream_service::Secret;

use crate::{
    receiver::{Receiver, Request, SECRET},
    world::{KEY, World, follow, media, push, within},
};

async fn world(receiver: &Receiver) -> World {
    let webhook = Webhook { url: receiver.url(), secret: Secret::new(SECRET.to_owned()), events: Vec::new() };
    World::start(|config| {
        config.events.webhooks = vec![webhook];
        config.events.plain_http = true;
        config.policy.away_ms = 1_500;
    })
    .await
}

fn kinds(requests: &[Request]) -> Vec<String> {
    requests.iter().map(Request::kind).collect()
}

fn has(kind: &'static str) -> impl Fn(&[Request]) -> bool {
    move |requests| requests.iter().any(|request| request.kind() == kind)
}

#[tokio::test]
async fn a_show_is_told_from_its_first_publisher_to_its_end() {
    let mut receiver = Receiver::start().await;
    let world = world(&receiver).await;
    let file = media(60, 20).await;
    let mut encoder = push(&file, "1", &world.rtmp(KEY));
    let requests = receiver.until(has("ready")).await;
    assert!(world.get("index.m3u8").await.status().is_success(), "ready is not told before it is");
    assert!(world.get("video.m3u8").await.status().is_success());
    let ready = requests.last().unwrap().event();
    assert_eq!(
        (&ready["stream"], &ready["fields"]["renditions"][0]["name"]),
        (&"demo".into(), &"video".into())
    );
    encoder.kill().await.unwrap();
    receiver.until(has("unpublish")).await;
    let mut encoder = push(&file, "1", &world.rtmp(KEY));
    receiver.until(|requests| kinds(requests).iter().filter(|kind| *kind == "publish").count() == 2).await;
    follow(&world, "video", 4).await;
    encoder.kill().await.unwrap();
    let requests = receiver.until(has("ended")).await;
    // Looped files make their encoder's clock stumble now and then; that is not this story.
    let requests: Vec<Request> = requests.into_iter().filter(|request| request.kind() != "error").collect();
    assert_eq!(kinds(&requests), ["publish", "ready", "unpublish", "publish", "unpublish", "ended"]);
    for request in &requests {
        request.check_signature().await;
    }
    let left = requests[4].event();
    let reason = left["fields"]["reason"].as_str().unwrap();
    assert!(reason.contains("lost") || reason.contains("ended it"), "{left}");
    assert!(left["fields"]["duration_ms"].as_u64().unwrap() > 500, "{left}");
    assert!(left["fields"]["source"].as_str().unwrap().starts_with("rtmp 127.0.0.1:"), "{left}");
    let said: String = requests.iter().map(|request| request.body.clone()).collect();
    assert!(!said.contains(KEY), "a stream key is never told");
}

#[tokio::test]
async fn who_is_refused_with_a_good_key_and_who_is_cut_off_is_told_with_the_reason() {
    let mut receiver = Receiver::start().await;
    let world = world(&receiver).await;
    let file = media(60, 20).await;
    let _first = push(&file, "1", &world.rtmp(KEY));
    world.begun().await;
    for _ in 0..3 {
        let mut second = push(&file, "1", &world.rtmp(KEY));
        assert!(!within(second.wait()).await.unwrap().success());
    }
    // A stranger's key is nobody's stream: told to nobody, or strangers could fill the receiver.
    let mut stranger = push(&file, "1", &world.rtmp("ms_wrong_key_0123456789"));
    assert!(!within(stranger.wait()).await.unwrap().success());
    let requests = receiver.until(has("error")).await;
    let refused = requests.iter().find(|request| request.kind() == "error").unwrap().event();
    assert_eq!(refused["fields"]["code"], "refused");
    let message = refused["fields"]["message"].as_str().unwrap();
    assert!(message.contains("has a publisher already"), "{refused}");
    let metrics = world.ops("metrics").await;
    assert!(metrics.contains(r#"millstream_packager_events_total{kind="error"} 1"#), "told once: {metrics}");
    // Told before the packager is gone, although nobody waits for it any more.
    assert_eq!(world.stop().await, Vec::<String>::new());
    receiver.until(has("unpublish")).await;
}

#[tokio::test]
async fn a_codec_that_is_not_taken_cuts_its_publisher_off_and_the_event_says_what_to_send() {
    let mut receiver = Receiver::start().await;
    let world = world(&receiver).await;
    let file = media(60, 20).await;
    let mut encoder = crate::world::ffmpeg(["-re", "-i"]);
    encoder.arg(&file).args(["-c:v", "copy", "-c:a", "libmp3lame", "-f", "flv", &world.rtmp(KEY)]);
    let _encoder = encoder.spawn().unwrap();
    let requests = receiver.until(has("unpublish")).await;
    let cut_off = requests.iter().find(|request| request.kind() == "error").unwrap().event();
    assert_eq!(cut_off["fields"]["code"], "cut_off");
    assert_eq!(cut_off["fields"]["message"], "audio is MP3; send AAC or Opus");
}

#[tokio::test]
async fn keyframes_too_far_apart_are_told_once_with_what_to_set_in_the_encoder() {
    let mut receiver = Receiver::start().await;
    let world = world(&receiver).await;
    // OBS and x264 by default: 250 frames.
    let file = media(250, 20).await;
    let mut encoder = push(&file, "4", &world.rtmp(KEY));
    let is_told = |request: &Request| request.event()["fields"]["code"] == "long_gop";
    let requests = receiver.until(|requests| requests.iter().any(is_told)).await;
    let told = requests.iter().find(|request| is_told(request)).unwrap().event();
    assert_eq!(told["fields"]["message"], "keyframes are 8.3 s apart");
    let advice = told["fields"]["advice"].as_str().unwrap();
    assert!(advice.contains("Keyframe Interval 2 s") && advice.contains("ffmpeg: -g 60;"), "{told}");
    follow(&world, "video", 40).await;
    encoder.kill().await.unwrap();
    let requests = receiver.until(has("unpublish")).await;
    assert_eq!(requests.iter().filter(|request| is_told(request)).count(), 1);
    let metrics = world.ops("metrics").await;
    assert!(metrics.contains(r#"millstream_packager_complaints_total{kind="long_gop"} 1"#), "{metrics}");
}
