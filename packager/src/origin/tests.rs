//! The origin over real HTTP, with a made-up publisher behind it.

mod access;
mod feed;
mod media;
mod records;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use millstream_model::WallTime;
use millstream_service::{Tasks, Trust, data::Folder};
use millstream_wire::{frame::Deframer, tracker::State};
use reqwest::{Client, Method, Response};

use super::*;
use crate::{
    gate::{Judge, Permission, Tracker},
    sequence::Generations,
    show::{self, NOW, Parts, tracks},
    signer::Signer,
    stream::life::Means,
    window,
};

/// Long enough for a loaded machine, short enough to name what hangs.
const PATIENCE: Duration = Duration::from_secs(30);

struct World {
    url: String,
    address: SocketAddr,
    stream: Arc<Stream>,
    signer: Signer,
    video: Parts,
    audio: Parts,
    clock: Clock,
    origin: Origin,
    metrics: Arc<Metrics>,
    client: Client,
    tasks: Tasks,
    _folder: tempfile::TempDir,
}

/// An origin with the stream `demo`, before its catalog.
async fn world(settings: impl FnOnce(&mut Config, &mut window::Config, &mut Permission)) -> World {
    let outer = tempfile::tempdir().unwrap();
    let folder = Arc::new(Folder::open(outer.path()).unwrap());
    let generations = Arc::new(Generations::open(Arc::clone(&folder)).unwrap());
    let clock = Clock::start();
    let judge = Judge::Tracker(
        Tracker::new(Default::default(), &Trust::system().unwrap(), Arc::clone(&generations)).unwrap(),
    );
    let packager = millstream_wire::sign::Signer::public(&show::packager());
    let gate = Arc::new(Gate::new(judge, packager, clock, 4));
    let metrics = Metrics::register(&prometheus::Registry::new()).unwrap();
    let tasks = Tasks::new();
    let means = Means {
        key: show::packager(),
        clock,
        gate: Arc::clone(&gate),
        generations,
        folder,
        metrics: Arc::clone(&metrics),
        herald: crate::events::Herald::to_nobody(clock).unwrap(),
        pipelines: Arc::new(crate::pipeline::Straight),
        drain: tasks.drain(),
        policies: Arc::new(crate::policy::Policies::new(&Default::default()).unwrap()),
        linger: Duration::ZERO,
    };
    let (mut config, mut window) = (Config::default(), window::Config::default());
    config.listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let mut permission = show::permission(1);
    settings(&mut config, &mut window, &mut permission);
    let streams = Streams::new(means, window.clone(), tasks.spawner());
    let stream = Stream::new(permission, window, millstream_model::SessionId([7; 16]));
    streams.put(Arc::clone(&stream));
    let listener = http_service::bind(config.listen).await.unwrap();
    let address = listener.local_addr().unwrap();
    let limits = config.http.clone();
    let origin = Origin::new(config, streams, gate, Arc::clone(&metrics), clock, tasks.drain());
    http_service::serve(listener, None, &limits, origin.clone(), &tasks);
    World {
        url: format!("http://{address}/s/demo"),
        address,
        stream,
        signer: show::signer(),
        video: Parts::video(),
        audio: Parts::audio(),
        clock,
        origin,
        metrics,
        client: Client::builder()
            .tls_backend_preconfigured(Trust::system().unwrap().http())
            .timeout(PATIENCE)
            .build()
            .unwrap(),
        tasks,
        _folder: outer,
    }
}

async fn plain_world() -> World {
    let mut world = world(|_, _, _| {}).await;
    world.announce();
    world
}

impl World {
    /// The catalog.
    fn announce(&mut self) {
        self.announce_as(|_| {});
    }

    fn announce_as(&mut self, change: impl Fn(&mut millstream_segmenter::Track)) {
        let mut tracks = tracks();
        tracks.iter_mut().for_each(change);
        self.stream.catalog(self.signer.tracks(&tracks, NOW).unwrap());
    }

    /// Parts of both.
    fn run(&mut self, count: u32) {
        for _ in 0..count {
            for part in [self.video.next(), self.audio.next()] {
                self.put(part);
            }
        }
    }

    fn put(&mut self, part: millstream_segmenter::Part) {
        let record = self.signer.part(&part).unwrap();
        self.stream.part(record, part.data, self.clock.now());
    }

    fn end(&mut self) {
        let catalog = self.signer.end(NOW).unwrap();
        self.stream.change(|inner| {
            inner.state = State::Ended;
            inner.window.catalog(catalog);
        });
    }

    async fn get(&self, path: &str) -> Response {
        self.client.get(format!("{}/{path}", self.url)).send().await.unwrap()
    }

    async fn text(&self, path: &str) -> String {
        let response = self.get(path).await;
        assert_eq!(response.status(), StatusCode::OK, "{path}");
        response.text().await.unwrap()
    }

    async fn status(&self, path: &str) -> u16 {
        self.get(path).await.status().as_u16()
    }

    /// Asks on a connection of its own, while the test goes on.
    fn ask(&self, path: &str) -> tokio::task::JoinHandle<Response> {
        let request = self.client.get(format!("{}/{path}", self.url));
        tokio::spawn(async move { request.send().await.unwrap() })
    }

    /// Waits until `count` requests wait.
    async fn waiters(&self, count: usize) {
        until(|| self.origin.waiters() == count).await;
    }
}

async fn until(mut done: impl FnMut() -> bool) {
    tokio::time::timeout(PATIENCE, async {
        while !done() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await
    .expect("done in time");
}

fn header<'a>(response: &'a Response, name: &str) -> &'a str {
    response.headers().get(name).map_or("", |value| value.to_str().unwrap())
}

/// All frames of a whole body.
fn frames(body: &[u8]) -> Vec<Frame> {
    let mut deframer = Deframer::default();
    deframer.push(body);
    std::iter::from_fn(|| deframer.next_frame().unwrap()).collect()
}
