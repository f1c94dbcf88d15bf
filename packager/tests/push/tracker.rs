//! A packager and its tracker: keys, delegations, tokens, reports, and what happens while the tracker is away.
//!
//! The tracker here is a few lines that answer as told; the real one is met end to end.

use std::{
    convert::Infallible,
    net::SocketAddr,
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::{body::Incoming, service::service_fn};
use millstream_model::{PublicKey, SessionId, WallTime};
use millstream_service::{Secret, Tasks, http as http_service};
use millstream_wire::{
    media::Delegation,
    session::{Bearer, Token},
    sign::{Context, SecretKey, Signed, Signer as _},
    tracker::{Admit, Admitted, Fault, FaultCode, PackagerReport, State},
};

use crate::world::{KEY, Receiver, World, localhost, media, now, push, stream, within};

const TOKEN: &str = "packager-token";

const YEAR_MS: u64 = 365 * 24 * 3_600 * 1_000;

fn root() -> SecretKey {
    SecretKey::from_seed(&[1; 32])
}

fn tracker_key() -> SecretKey {
    SecretKey::from_seed(&[3; 32])
}

/// What the tracker is told and tells.
struct Book {
    admits: Vec<Admit>,
    reports: Vec<PackagerReport>,
    /// Signs delegations.
    root: SecretKey,
    public: bool,
    /// How many of the first delegations are nearly over.
    short_lived: usize,
    /// Generations that other packagers were given meanwhile.
    elsewhere: u32,
    /// The stream was removed: its key is not known any more.
    removed: bool,
}

#[derive(Clone)]
struct Tracker {
    book: Arc<Mutex<Book>>,
}

impl Tracker {
    fn new() -> Self {
        let book = Book {
            admits: Vec::new(),
            reports: Vec::new(),
            root: root(),
            public: true,
            short_lived: 0,
            elsewhere: 0,
            removed: false,
        };
        Self { book: Arc::new(Mutex::new(book)) }
    }

    fn book<T>(&self, look: impl FnOnce(&mut Book) -> T) -> T {
        look(&mut self.book.lock().unwrap())
    }

    async fn serve(&self, listen: SocketAddr) -> (SocketAddr, Tasks) {
        let listener = http_service::bind(listen).await.unwrap();
        let address = listener.local_addr().unwrap();
        let tasks = Tasks::new();
        let this = self.clone();
        let service = service_fn(move |request: Request<Incoming>| {
            let this = this.clone();
            async move { Ok::<_, Infallible>(this.answer(request).await) }
        });
        http_service::serve(listener, None, &http_service::Limits::default(), service, &tasks);
        (address, tasks)
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let bearer = request.headers().get("authorization").map(|value| value.to_str().unwrap().to_owned());
        let path = request.uri().path().to_owned();
        let body = request.into_body().collect().await.unwrap().to_bytes();
        if bearer.as_deref() != Some("Bearer packager-token") {
            return json(StatusCode::UNAUTHORIZED, &fault(FaultCode::BadProof, "no such packager"));
        }
        self.book(|book| match path.as_str() {
            "/v1/packager/admit" => {
                let admit: Admit = serde_json::from_slice(&body).unwrap();
                book.admits.push(admit.clone());
                if admit.stream_key != KEY || book.removed {
                    return json(
                        StatusCode::FORBIDDEN,
                        &fault(FaultCode::BadKey, "this stream key is not known"),
                    );
                }
                let short = book.admits.len() <= book.short_lived;
                let now = now();
                let delegation = Delegation {
                    stream: stream(),
                    generation: admit.generation + 1 + book.elsewhere,
                    packager: admit.packager,
                    not_before: WallTime(now.0 - YEAR_MS),
                    expires: now.plus_millis(if short { 60_000 } else { YEAR_MS }),
                };
                let admitted = Admitted {
                    stream: stream(),
                    delegation: Signed::new(delegation, Context::None, &book.root),
                    root: root().public(),
                    tracker: tracker_key().public(),
                    public: book.public,
                    time: now,
                };
                json(StatusCode::OK, &admitted)
            }
            "/v1/packager/report" => {
                book.reports.push(serde_json::from_slice(&body).unwrap());
                let gone = if book.removed { vec![stream()] } else { Vec::new() };
                json(StatusCode::OK, &serde_json::json!({ "gone": gone }))
            }
            other => panic!("{other}"),
        })
    }

    /// The newest report's state of the stream.
    fn state(&self) -> Option<State> {
        self.book(|book| Some(book.reports.last()?.streams.first()?.state))
    }
}

fn json(status: StatusCode, value: &impl serde::Serialize) -> Response<Full<Bytes>> {
    Response::builder().status(status).body(serde_json::to_vec(value).unwrap().into()).unwrap()
}

fn fault(code: FaultCode, message: &str) -> Fault {
    Fault { code, message: message.to_owned() }
}

async fn world(tracker: SocketAddr, away_ms: u64) -> World {
    world_in(None, tracker, away_ms).await
}

/// With a data folder that outlives it.
async fn world_in(data: Option<&Path>, tracker: SocketAddr, away_ms: u64) -> World {
    World::start(|config| {
        if let Some(data) = data {
            config.data = data.to_path_buf();
        }
        config.local.clear();
        config.policy.away_ms = away_ms;
        config.tracker.url = format!("http://{tracker}/");
        config.tracker.token = Secret::new(TOKEN.to_owned());
    })
    .await
}

async fn until(mut done: impl FnMut() -> bool) {
    within(async {
        while !done() {
            tokio::time::sleep(Duration::from_millis(10)).await; // waits because the condition has no event
        }
    })
    .await;
}

#[tokio::test]
async fn the_tracker_knows_what_goes_on() {
    let tracker = Tracker::new();
    let (address, _tracker_tasks) = tracker.serve(localhost()).await;
    let world = world(address, 300).await;
    let mut encoder = push(&media(60, 20).await, "3", &world.rtmp(KEY));
    world.begun().await;
    let (admit, own) = tracker.book(|book| (book.admits[0].clone(), book.admits[0].packager));
    assert_eq!((admit.origin.as_str(), admit.generation), (world.addresses.origin_url.as_str(), 0));
    let mut receiver = Receiver::new(root().public());
    receiver.start(&world.bytes("start").await);
    assert_eq!(receiver.chain.delegation().unwrap().packager, own);

    until(|| tracker.book(|book| book.reports.iter().filter(|r| !r.streams.is_empty()).count() >= 3)).await;
    encoder.kill().await.unwrap();
    until(|| tracker.state() == Some(State::Away) || tracker.state() == Some(State::Ended)).await;
    until(|| tracker.state() == Some(State::Ended)).await;
    let published = world.status().await["published_bytes"].as_u64().unwrap();
    until(|| {
        tracker.book(|book| {
            book.reports
                .iter()
                .any(|r| r.streams.iter().any(|s| s.catalog.as_ref().is_some_and(|c| c.unverified().ended)))
        })
    })
    .await;
    tracker.book(|book| {
        assert!(book.reports.iter().all(|report| report.packager == own && report.origin == admit.origin));
        let streams: Vec<_> = book.reports.iter().flat_map(|report| &report.streams).collect();
        let counts: Vec<_> = streams.iter().flat_map(|stream| &stream.published).collect();
        assert!(counts.windows(2).all(|pair| pair[0].bytes <= pair[1].bytes && pair[0].run == pair[1].run));
        assert_eq!(counts.last().unwrap().bytes, published);
        let catalogs = streams.iter().filter(|stream| stream.catalog.is_some()).count();
        assert!(catalogs < streams.len() || streams.len() < 3, "{catalogs} of {}", streams.len());
    });
}

#[tokio::test]
async fn the_publisher_of_a_stream_that_was_removed_is_sent_away() {
    let tracker = Tracker::new();
    let (address, _tasks) = tracker.serve(localhost()).await;
    let world = world(address, 20_000).await;
    let mut encoder = push(&media(60, 20).await, "20", &world.rtmp(KEY));
    until(|| tracker.state() == Some(State::Live)).await;
    tracker.book(|book| book.removed = true);
    within(encoder.wait()).await.unwrap();
    until(|| tracker.state() == Some(State::Ended)).await;
    assert_eq!(tracker.book(|book| book.admits.len()), 1);
}

#[tokio::test]
async fn the_trackers_no_is_a_refusal() {
    let tracker = Tracker::new();
    let (address, _tasks) = tracker.serve(localhost()).await;
    let world = world(address, 300).await;
    let file = media(60, 20).await;
    let mut encoder = push(&file, "1", &world.rtmp("ms_some_other_key_0123456"));
    assert!(!within(encoder.wait()).await.unwrap().success());
    // A delegation that the root did not sign is as good as none.
    tracker.book(|book| book.root = SecretKey::from_seed(&[9; 32]));
    let mut encoder = push(&file, "1", &world.rtmp(KEY));
    assert!(!within(encoder.wait()).await.unwrap().success());
    assert_eq!(world.get("index.m3u8").await.status(), 404);
    assert_eq!(tracker.book(|book| book.admits.len()), 2);
}

#[tokio::test]
async fn a_stream_that_is_not_public_is_served_to_those_with_tokens() {
    let tracker = Tracker::new();
    tracker.book(|book| book.public = false);
    let (address, _tasks) = tracker.serve(localhost()).await;
    let world = world(address, 300).await;
    let _encoder = push(&media(60, 20).await, "1", &world.rtmp(KEY));
    until(|| tracker.state() == Some(State::Live)).await;
    assert_eq!(world.get("index.m3u8").await.status(), 401);
    let token = |bearer| {
        let token = Token { stream: stream(), bearer, expires: now().plus_millis(60_000) };
        Signed::new(token, Context::None, &tracker_key()).to_string()
    };
    let ask = |path: &str, token: &str| world.client.get(world.url(path)).bearer_auth(token).send();
    let viewer = token(Bearer::Session(SessionId([5; 16])));
    assert_eq!(ask("index.m3u8", &viewer).await.unwrap().status(), 200);
    assert_eq!(ask("feed?rendition=video", &viewer).await.unwrap().status(), 403);
    let edge = token(Bearer::Edge(PublicKey([5; 32])));
    assert_eq!(ask("feed?rendition=video", &edge).await.unwrap().status(), 200);
}

#[tokio::test]
async fn while_the_tracker_is_away_the_stream_goes_on_and_its_publisher_may_come_back() {
    let tracker = Tracker::new();
    let (address, tasks) = tracker.serve(localhost()).await;
    let world = world(address, 20_000).await;
    let file = media(60, 20).await;
    let mut encoder = push(&file, "1", &world.rtmp(KEY));
    world.begun().await;
    until(|| tracker.state() == Some(State::Live)).await;
    tasks.shutdown(Duration::from_secs(5)).await;
    let told = tracker.book(|book| book.reports.len());

    crate::world::follow(&world, "video", 8).await;
    encoder.kill().await.unwrap();
    world.state("away").await;
    let mut stranger = push(&file, "1", &world.rtmp("ms_some_other_key_0123456"));
    assert!(!within(stranger.wait()).await.unwrap().success());
    let _encoder = push(&file, "1", &world.rtmp(KEY));
    world.state("live").await;
    crate::world::follow(&world, "video", 8).await;
    assert_eq!(tracker.book(|book| (book.reports.len(), book.admits.len())), (told, 1));

    let (_, _tasks) = tracker.serve(address).await;
    until(|| tracker.book(|book| book.reports.len()) > told + 1).await;
    tracker.book(|book| {
        let count = |report: &PackagerReport| report.streams[0].published[0];
        let (before, after) = (count(&book.reports[told - 1]), count(&book.reports[told]));
        assert!(after.run == before.run && after.bytes > before.bytes, "{before:?} {after:?}");
        assert_eq!(book.reports[told].streams[0].published.len(), 1);
    });
}

#[tokio::test]
async fn what_was_published_while_no_tracker_was_there_is_told_by_the_next_start() {
    let tracker = Tracker::new();
    let (address, tasks) = tracker.serve(localhost()).await;
    let data = tempfile::tempdir().unwrap();
    let world = world_in(Some(data.path()), address, 300).await;
    let mut encoder = push(&media(60, 20).await, "1", &world.rtmp(KEY));
    world.begun().await;
    until(|| tracker.state() == Some(State::Live)).await;
    tasks.shutdown(Duration::from_secs(5)).await;
    let told = tracker.book(|book| book.reports.len());
    crate::world::follow(&world, "video", 8).await;
    encoder.kill().await.unwrap();
    world.state("ended").await;
    let published = world.status().await["published_bytes"].as_u64().unwrap();
    assert!(world.stop().await.is_empty());

    let (_, _tasks) = tracker.serve(address).await;
    let _world = world_in(Some(data.path()), address, 300).await;
    until(|| tracker.book(|book| book.reports[told..].iter().any(|report| !report.streams.is_empty()))).await;
    tracker.book(|book| {
        let line = |report: &PackagerReport| report.streams.first().cloned();
        let (before, after) =
            (line(&book.reports[told - 1]).unwrap(), book.reports[told..].iter().find_map(line));
        let after = after.unwrap();
        assert_eq!(
            (after.stream, after.state, after.generation),
            (stream(), State::Ended, before.generation)
        );
        assert_eq!(after.published[0].run, before.published[0].run);
        assert_eq!(after.published[0].bytes, published);
    });
    let kept = || std::fs::read_to_string(data.path().join("published.json")).unwrap();
    until(|| !kept().contains("demo")).await;
}

#[tokio::test]
async fn a_publisher_that_was_elsewhere_meanwhile_goes_on_in_a_generation_that_is_believed() {
    let tracker = Tracker::new();
    let (address, _tasks) = tracker.serve(localhost()).await;
    let world = world(address, 20_000).await;
    let file = media(60, 20).await;
    for (elsewhere, generation) in [(0, 1), (0, 1), (3, 5)] {
        tracker.book(|book| book.elsewhere = elsewhere);
        let mut encoder = push(&file, "1", &world.rtmp(KEY));
        world.state("live").await;
        let mut receiver = Receiver::new(root().public());
        within(async {
            loop {
                receiver.start(&world.bytes("start").await);
                if receiver.newest("video").generation == generation {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(50)).await; // waits because HTTP answers only when asked
            }
        })
        .await;
        encoder.kill().await.unwrap();
        world.state("away").await;
    }
}

#[tokio::test]
async fn a_stream_that_ended_while_the_tracker_is_away_begins_again_in_its_chain() {
    let tracker = Tracker::new();
    let (address, tasks) = tracker.serve(localhost()).await;
    let world = world(address, 300).await;
    let file = media(60, 20).await;
    let mut encoder = push(&file, "1", &world.rtmp(KEY));
    world.begun().await;
    let mut receiver = Receiver::new(root().public());
    receiver.start(&world.bytes("start").await);
    tasks.shutdown(Duration::from_secs(5)).await;
    encoder.kill().await.unwrap();
    world.state("ended").await;
    receiver.start(&world.bytes("start").await);
    let old = receiver.newest("video").clone();
    let _encoder = push(&file, "1", &world.rtmp(KEY));
    world.state("live").await;
    world.begun().await;
    // Nothing of the generation is said twice and differently: a receiver would call that a fork.
    receiver.start(&world.bytes("start").await);
    let new = receiver.newest("video");
    assert_eq!(new.generation, old.generation);
    assert!(new.number > old.number && new.segment > old.segment && new.discontinuity > old.discontinuity);
    assert!(!receiver.chain.catalog().unwrap().ended);
}

#[tokio::test]
async fn a_delegation_that_is_nearly_over_is_renewed_under_way() {
    let tracker = Tracker::new();
    tracker.book(|book| book.short_lived = 1);
    let (address, _tasks) = tracker.serve(localhost()).await;
    let world = world(address, 300).await;
    let _encoder = push(&media(60, 20).await, "1", &world.rtmp(KEY));
    world.begun().await;
    let mut receiver = Receiver::new(root().public());
    within(async {
        loop {
            receiver.start(&world.bytes("start").await);
            if receiver.chain.delegation().unwrap().generation == 2
                && receiver.newest("video").generation == 2
            {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await; // waits because the condition has no event
        }
    })
    .await;
    assert_eq!(world.status().await["state"], "live", "the publisher noticed nothing");
    assert_eq!(tracker.book(|book| book.admits.len()), 2);
    let text = crate::world::follow(&world, "video", 12).await;
    assert!(!text.contains("ENDLIST"), "{text}");
}
