//! One receiver's troubles are nobody else's, and no event is lost while there is room and time.

use std::time::{Duration, Instant};

use millstream_model::StreamId;
use millstream_packager::{
    Clock,
    events::{Config, Couriers, Herald, Kind, Webhook, What},
};
use millstream_service::{Secret, Trust};
use millstream_wire::sign::{SecretKey, Signer as _};
use prometheus::{Registry, TextEncoder};

use crate::receiver::{Answer, Receiver, Request, SECRET};

struct World {
    herald: Herald,
    couriers: Couriers,
    registry: Registry,
    told: u32,
}

fn hook(url: String, events: &[Kind]) -> Webhook {
    Webhook { url, secret: Secret::new(SECRET.to_owned()), events: events.to_vec() }
}

impl World {
    fn start(webhooks: Vec<Webhook>, settings: impl FnOnce(&mut Config)) -> Self {
        let mut config = Config { webhooks, plain_http: true, ..Config::default() };
        settings(&mut config);
        let (registry, trust) = (Registry::new(), Trust::system().unwrap());
        let key = SecretKey::from_seed(&[1; 32]).public();
        let (herald, couriers) = Herald::load(&config, &trust, key, Clock::start(), &registry).unwrap();
        Self { herald, couriers, registry, told: 0 }
    }

    /// Tells of the next publisher, who is called by its number.
    fn tell(&mut self) {
        self.told += 1;
        let what = What::Publish { source: self.told.to_string() };
        self.herald.tell(&StreamId::new("demo").unwrap(), what);
    }

    fn metrics(&self) -> String {
        TextEncoder::new().encode_to_string(&self.registry.gather()).unwrap()
    }
}

fn numbers(requests: &[Request]) -> Vec<u32> {
    requests.iter().map(|r| r.event()["fields"]["source"].as_str().unwrap().parse().unwrap()).collect()
}

fn status(status: u16) -> Answer {
    Answer::Status(status, String::new())
}

#[tokio::test]
async fn events_arrive_signed_in_their_order() {
    let mut receiver = Receiver::start().await;
    let mut world = World::start(vec![hook(receiver.url(), &[])], |_| {});
    for _ in 0..5 {
        world.tell();
    }
    let requests = receiver.until(|requests| requests.len() == 5).await;
    assert_eq!(numbers(&requests), [1, 2, 3, 4, 5]);
    let mut ids = std::collections::BTreeSet::new();
    for request in &requests {
        request.check_signature().await;
        ids.insert(request.header("webhook-id").to_owned());
    }
    assert_eq!(ids.len(), 5);
    let metrics = world.metrics();
    assert!(metrics.contains(r#"millstream_packager_events_total{kind="publish"} 5"#), "{metrics}");
}

#[tokio::test]
async fn a_receiver_that_was_down_gets_everything_in_order_when_it_is_up() {
    let receiver = Receiver::start().await;
    let (address, url) = (receiver.address, receiver.url());
    drop(receiver);
    let mut world = World::start(vec![hook(url, &[])], |_| {});
    for _ in 0..3 {
        world.tell();
    }
    let failed = || world.metrics().lines().any(|l| l.contains(r#"result="failed""#) && !l.ends_with(" 0"));
    while !failed() {
        tokio::task::yield_now().await;
    }
    let mut receiver = Receiver::start_at(address).await;
    let requests = receiver.until(|requests| requests.len() == 3).await;
    assert_eq!(numbers(&requests), [1, 2, 3]);
    assert!(requests.iter().all(|request| request.event().get("missed").is_none()));
}

#[tokio::test]
async fn an_event_that_fails_comes_again_the_same_and_signed_anew() {
    let mut receiver = Receiver::start().await;
    receiver.answer([status(500), Answer::Status(302, "location: http://127.0.0.1:1/\r\n".into())]);
    let mut world = World::start(vec![hook(receiver.url(), &[])], |_| {});
    world.tell();
    world.tell();
    let requests = receiver.until(|requests| requests.len() == 4).await;
    assert_eq!(numbers(&requests), [1, 1, 1, 2], "in order, and no redirect is followed");
    assert_eq!(requests[0].body, requests[1].body);
    assert_eq!(requests[0].header("webhook-id"), requests[2].header("webhook-id"));
    let times: Vec<u64> =
        requests.iter().map(|request| request.header("webhook-timestamp").parse().unwrap()).collect();
    assert!(times[2] > times[0], "{times:?}");
    for request in &requests {
        request.check_signature().await;
    }
}

#[tokio::test]
async fn a_slow_receiver_holds_up_neither_the_stream_nor_another_receiver() {
    let (mut slow, mut quick) = (Receiver::start().await, Receiver::start().await);
    slow.answer([Answer::Silence, Answer::Silence]);
    let hooks = vec![hook(slow.url(), &[]), hook(quick.url(), &[Kind::Publish])];
    let mut world = World::start(hooks, |config| {
        config.timeout_ms = 700;
        config.waiting_max = 10;
    });
    world.tell();
    slow.until(|requests| requests.len() == 1).await;
    let before = Instant::now();
    for _ in 1..100 {
        world.tell();
    }
    assert!(before.elapsed() < Duration::from_millis(500), "telling never waits: {:?}", before.elapsed());
    let got = quick.until(|requests| numbers(requests).last() == Some(&100)).await;
    let missed: u64 = got.iter().filter_map(|request| request.event()["missed"].as_u64()).sum();
    assert_eq!(got.len() as u64 + missed, 100, "what did not fit is counted");
    // The slow one takes the first after all, and then the newest; it learns how many are missing.
    let got = slow.until(|requests| numbers(requests).last() == Some(&100)).await;
    assert_eq!(numbers(&got)[..3], [1, 1, 1]);
    assert_eq!(numbers(&got)[3..], (92..=100).collect::<Vec<_>>());
    assert_eq!(got[3].event()["missed"], 90);
    let metrics = world.metrics();
    let line = format!(r#"millstream_packager_webhook_missed_total{{hook="0 {}"}} 90"#, slow.address);
    assert!(metrics.contains(&line), "{metrics}");
}

#[tokio::test]
async fn a_hook_gets_the_kinds_that_it_wants() {
    let mut receiver = Receiver::start().await;
    let world = World::start(vec![hook(receiver.url(), &[Kind::RecordingReady, Kind::Ended])], |_| {});
    let stream = StreamId::new("demo").unwrap();
    world.herald.tell(&stream, What::Publish { source: String::new() });
    world.herald.tell(&stream, What::Ended { duration_ms: 1 });
    let recording = String::from("demo/1");
    world.herald.tell(&stream, What::RecordingReady { recording, duration_ms: 1, bytes: 2, lost_ms: 0 });
    let requests = receiver.until(|requests| requests.len() == 2).await;
    assert_eq!([requests[0].kind(), requests[1].kind()], ["ended", "recording_ready"]);
}

#[tokio::test]
async fn a_receiver_that_is_gone_for_good_is_left_alone() {
    let mut receiver = Receiver::start().await;
    receiver.answer([status(410)]);
    let mut world = World::start(vec![hook(receiver.url(), &[])], |_| {});
    world.tell();
    receiver.until(|requests| requests.len() == 1).await;
    world.tell();
    world.couriers.shutdown(Duration::from_secs(5)).await;
    assert_eq!(receiver.seen().len(), 1);
}

#[tokio::test]
async fn at_the_end_what_waits_is_brought_and_nobody_is_waited_for_beyond_the_grace() {
    let (quick, dead) = (Receiver::start().await, Receiver::start().await);
    dead.answer([Answer::Silence]);
    let mut world = World::start(vec![hook(quick.url(), &[]), hook(dead.url(), &[])], |_| {});
    for _ in 0..5 {
        world.tell();
    }
    let before = Instant::now();
    world.couriers.shutdown(Duration::from_secs(1)).await;
    assert!(before.elapsed() < Duration::from_secs(4), "{:?}", before.elapsed());
    assert_eq!(numbers(&quick.seen()), [1, 2, 3, 4, 5]);
}

#[tokio::test]
async fn a_hook_that_cannot_be_used_is_refused_by_name_and_its_secret_is_never_shown() {
    let secret = "whsec_tooshort";
    let mut config = millstream_packager::Config::default();
    config.events.webhooks = vec![hook("https://example.com/hook".into(), &[Kind::Ready])];
    let printed = millstream_service::config::print(&config).unwrap();
    assert!(printed.contains("example.com/hook") && printed.contains("ready"), "{printed}");
    assert!(!printed.contains(SECRET), "{printed}");
    config.events.webhooks[0].secret = Secret::new(secret.to_owned());
    let key = SecretKey::from_seed(&[1; 32]).public();
    let trust = Trust::system().unwrap();
    let error = Herald::load(&config.events, &trust, key, Clock::start(), &Registry::new()).unwrap_err();
    let text = format!("{error:#}");
    assert!(text.contains("events.webhooks[0]") && !text.contains(secret), "{text}");
}
