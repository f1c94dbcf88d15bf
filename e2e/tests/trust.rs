//! Those who lie: an edge that changes what it passes on, a key that was never given the stream.
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "in a test, a surprise shall be loud")]

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::Bytes;
use millstream_e2e::{
    api::Api, book, media::PLAIN, pressure::Pressure, publisher, stack::Stack, viewers::Watch,
};
use millstream_edge::{Addresses, Config, Edge, Leaving, Outgoing, Status};
use millstream_service::ops;
use serde_json::json;
use tokio::sync::oneshot;

/// One bit is flipped in every so many pieces.
const EVERY: u64 = 10;

const VIEWERS: u64 = 4;

/// Time for a stream to begin on a busy machine.
const START: Duration = Duration::from_secs(30);

/// Changes what leaves an edge.
#[derive(Debug, Default)]
struct Flip {
    pieces: AtomicU64,
    /// Bytes of frames that left as they were, and that did not.
    honest: AtomicU64,
    flipped: AtomicU64,
    /// Whom it has served.
    viewers: Mutex<BTreeSet<[u8; 16]>>,
}

impl Outgoing for Flip {
    fn piece(&self, leaving: &Leaving<'_>) -> Bytes {
        let bytes = leaving.message.len() as u64;
        self.viewers.lock().unwrap().insert(leaving.session.0);
        if self.pieces.fetch_add(1, Relaxed) % EVERY < EVERY - 1 {
            self.honest.fetch_add(bytes, Relaxed);
            return leaving.message.clone();
        }
        self.flipped.fetch_add(bytes, Relaxed);
        let mut message = leaving.message.to_vec();
        *message.last_mut().unwrap() ^= 1;
        message.into()
    }
}

/// An edge built around the product's library, in this process.
struct Own {
    addresses: Addresses,
    status: Box<dyn Fn() -> Status>,
    /// Gone with this value, and the edge with them.
    _stop: oneshot::Sender<()>,
    _runtime: tokio::runtime::Runtime,
}

impl Own {
    fn start(stack: &Stack, outgoing: Arc<dyn Outgoing>) -> Self {
        let local = "127.0.0.1:0".parse().unwrap();
        let config = Config {
            listen: local,
            data: stack.folder().join("own-edge"),
            tracker: stack.ready.tracker.clone(),
            ops: ops::Config { listen: local },
            ..Config::default()
        };
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        let edge = runtime.block_on(Edge::load_with(config, outgoing)).unwrap();
        let (addresses, status) = (edge.addresses().clone(), Box::new(edge.status()));
        let (stop, stopped) = oneshot::channel();
        runtime.spawn(edge.run(async move { drop(stopped.await) }));
        stack.knows(&addresses.id.to_string()).unwrap();
        Self { addresses, status, _stop: stop, _runtime: runtime }
    }

    fn wait(&self, what: &str, judge: impl Fn(&Status) -> bool) {
        let started = std::time::Instant::now();
        while !judge(&(self.status)()) {
            assert!(started.elapsed() < Duration::from_secs(20), "never {what}: {:#?}", (self.status)());
            std::thread::park_timeout(Duration::from_millis(20));
        }
    }
}

#[test]
fn an_edge_that_flips_bits_is_dropped_unpaid_and_no_wrong_byte_is_played() {
    let stack = Stack::up(0).unwrap();
    let (_publisher, _) = stack.publish("show", &PLAIN).unwrap();
    let flip = Arc::new(Flip::default());
    let liar = Own::start(&stack, Arc::clone(&flip) as Arc<dyn Outgoing>);
    let pressure = Pressure::begin();
    let dump = stack.folder().join("dump");
    let mut watch = Watch::new(&stack.ready.tracker, "show", 20);
    (watch.viewers, watch.dump) = (u32::try_from(VIEWERS).unwrap(), Some(dump.clone()));
    let mut watching = watch.start(stack.folder()).unwrap();
    // Each viewer has it as its only edge, and leaves it with a reason at the second bad piece; or the tracker, to whom it
    // reported the first, takes it from it before there is a second.
    liar.wait("left", |status| status.viewers == 0 && flip.viewers.lock().unwrap().len() as u64 == VIEWERS);
    // An honest one comes, and takes over.
    let honest = stack.edge("honest").unwrap();
    let report = watching.report().unwrap();
    eprintln!(">> {report:?}; {pressure}");
    assert_eq!(report.stalls.count, 0, "{report:?}; {pressure}");
    let status = (liar.status)();
    let twice = status.left.get("bad").copied().unwrap_or(0);
    assert_eq!(
        report.pieces.rejected,
        VIEWERS + twice,
        "one bad piece, or two and no more: {report:?} {status:?}"
    );
    assert_eq!(status.viewers, 0, "nobody comes back to it: {status:?}");
    let origin = stack.origin("show").unwrap();
    for rendition in ["video", "audio"] {
        let played = std::fs::read(dump.with_extension(format!("{rendition}.mp4"))).unwrap();
        origin.holds(rendition, &played).unwrap();
    }

    let paid = book::settled(&stack.api, report.bytes.edge).unwrap();
    let (sent, lied) = (flip.honest.load(Relaxed), flip.flipped.load(Relaxed));
    let due = paid.bytes.get(&liar.addresses.id.to_string()).copied().unwrap_or(0);
    eprintln!(">> the liar sent {sent} honest and {lied} changed bytes, and is paid for {due}");
    assert!(lied > 0 && due > 0 && due <= sent, "{due} of {sent} honest bytes");
    let others = paid.bytes.get(honest.said("edge").unwrap()).copied().unwrap_or(0);
    assert!(others > due, "the honest one has most of the work: {paid:?}");
}

#[test]
fn what_the_pinned_root_never_gave_to_the_packager_is_not_played() {
    let stack = Stack::up(1).unwrap();
    let (_publisher, show) = stack.publish("show", &PLAIN).unwrap();
    let other = stack.create("other").unwrap();
    stack.edges(1).unwrap();
    let pinned = |key: &str| {
        let mut watch = Watch::new(&stack.ready.tracker, "show", 6);
        watch.flags = vec!["--verify-key".to_owned(), key.to_owned()];
        watch.start(stack.folder()).unwrap()
    };
    let (mut right, mut wrong) = (pinned(&show.root_public_key), pinned(&other.root_public_key));
    let (right, refused) = (right.report().unwrap(), wrong.report().unwrap());
    assert!(right.startup_ms.p50 > 0 && right.bytes.edge > 0, "{right:?}");
    assert_eq!((refused.startup_ms.p50, refused.pieces.verified), (0, 0), "{refused:?}");
    assert_eq!((refused.bytes.edge, refused.bytes.origin), (0, 0), "{refused:?}");
    let log = wrong.log();
    eprintln!(
        ">> {}",
        log.lines().filter(|line| line.contains("Refused")).take(2).collect::<Vec<_>>().join("\n>> ")
    );
    assert!(log.contains("Refused"), "{log}");
    // Whoever does not believe the stream pays nobody for it.
    book::settled(&stack.api, right.bytes.edge).unwrap();
}

#[test]
fn plain_players_of_a_stream_that_is_not_public_show_the_trackers_token() {
    let stack = Stack::up(0).unwrap();
    let wanted = json!({ "id": "members", "account": "show", "price_per_gib": 0, "public": false });
    let created = stack.api.post("/v1/streams", &wanted).unwrap();
    let rtmp = format!("{}/{}", stack.ready.rtmp, created["stream_key"].as_str().unwrap());
    let _publisher = publisher::push(&PLAIN, &rtmp, stack.folder()).unwrap();
    // As the player does that has no session: it asks the tracker where to go, and takes along what it is given.
    let anybody = Api::new(&stack.ready.tracker, "").unwrap();
    let told = anybody.wait("/v1/watch/members", START, |told| Some(told.clone())).unwrap();
    let (origin, token) = (told["origin"].as_str().unwrap(), told["token"].as_str().unwrap());
    let [without, with] = ["", token].map(|token| Api::new(origin, token).unwrap());
    let playlist = |api: &Api, path: &str| api.fetch(&format!("/s/members/{path}"));
    assert_eq!(playlist(&without, "index.m3u8").unwrap_err().to_string(), "401");
    let text = String::from_utf8(playlist(&with, "video.m3u8").unwrap()).unwrap();
    let part = text.lines().find_map(|line| line.split("URI=\"").nth(1)?.split('"').next()).unwrap();
    assert!(!playlist(&with, part).unwrap().is_empty(), "{part}");
    assert_eq!(playlist(&without, part).unwrap_err().to_string(), "401", "{part}");
    assert_eq!(
        playlist(&with, "feed?rendition=video").unwrap_err().to_string(),
        "403",
        "feeds are for edges"
    );
    // Its bytes are counted as one session's.
    let status = Api::new(&stack.ready.ops.packager, "").unwrap().get("/v1/status").unwrap();
    assert_eq!(status["sessions"].as_array().unwrap().len(), 1, "{status}");
}
