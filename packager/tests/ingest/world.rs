//! What the stories need: a server with known keys, media files, encoders, and a reader of events.

use std::{
    io::Write,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    process::Stdio,
    sync::{Arc, Mutex, OnceLock},
    time::Duration,
};

use millstream_model::StreamId;
use millstream_packager::ingest::{
    Admitted, Config, Event, Events, Gate, Gone, Publish, Publishes, Reception, Refusal, Server, StreamKey,
};
use millstream_segmenter::{Sample, TrackKind};
use millstream_service::telemetry;
use tokio::process::{Child, Command};

/// Long enough for a loaded machine, short enough to name what hangs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Knows the keys `good-key-0123456789-<stream>`.
#[derive(Debug)]
pub(crate) struct Keys;

impl Gate for Keys {
    async fn admit(&self, key: &StreamKey) -> Result<Admitted, Refusal> {
        let stream = key.expose().strip_prefix("good-key-0123456789-");
        match stream.map(StreamId::new) {
            Some(Ok(stream)) => Ok(Admitted { stream }),
            _ => Err(Refusal::new("this stream key is not known")),
        }
    }
}

pub(crate) fn key(stream: &str) -> String {
    format!("good-key-0123456789-{stream}")
}

pub(crate) fn config() -> Config {
    Config { listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), ..Config::default() }
}

/// A server and those that it let in.
pub(crate) struct World {
    pub(crate) server: Server<Keys>,
    publishes: Publishes,
}

impl std::ops::Deref for World {
    type Target = Server<Keys>;

    fn deref(&self) -> &Server<Keys> {
        &self.server
    }
}

impl World {
    pub(crate) async fn publish(&mut self) -> Option<Publish> {
        self.publishes.next().await
    }
}

pub(crate) async fn server(config: Config) -> World {
    let (reception, publishes) = Reception::new(Keys);
    World { server: Server::bind(config, reception).await.unwrap(), publishes }
}

pub(crate) fn url(server: &Server<Keys>, stream: &str) -> String {
    format!("rtmp://{}/live/{}", server.local_addr(), key(stream))
}

pub(crate) async fn next_publish(world: &mut World) -> Publish {
    within(world.publish()).await.expect("the server is there")
}

pub(crate) async fn within<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, work).await.expect("done in time")
}

/// Waits until `done`, which something else makes true.
pub(crate) async fn until(mut done: impl FnMut() -> bool) {
    within(async {
        while !done() {
            tokio::time::sleep(Duration::from_millis(5)).await; // waits because the condition has no event
        }
    })
    .await;
}

/// All events of a publisher, its end included.
pub(crate) async fn whole(events: &mut Events) -> (Vec<Event>, Gone) {
    let mut seen = Vec::new();
    loop {
        match within(events.recv()).await {
            Some(Event::Gone { reason }) => return (seen, reason),
            Some(event) => seen.push(event),
            None => panic!("an end without a reason"),
        }
    }
}

pub(crate) async fn next_sample(events: &mut Events, track: TrackKind) -> Sample {
    loop {
        match within(events.recv()).await {
            Some(Event::Sample(sample)) if sample.track == track => return sample,
            Some(Event::Gone { reason }) => panic!("gone: {reason}"),
            Some(_) => {}
            None => panic!("no more events"),
        }
    }
}

pub(crate) fn samples(events: &[Event], track: TrackKind) -> Vec<&Sample> {
    events
        .iter()
        .filter_map(|event| match event {
            Event::Sample(sample) if sample.track == track => Some(sample),
            _ => None,
        })
        .collect()
}

/// A file with H.264 (a keyframe a second, `b_frames` between pictures) and AAC; made once.
pub(crate) async fn media(b_frames: u32, seconds: u32) -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("ingest-media");
    std::fs::create_dir_all(&folder).unwrap();
    let path = folder.join(format!("b{b_frames}-{seconds}s.flv"));
    if !path.exists() {
        // Tests run at once in processes of their own: only a whole file gets the name.
        let own = folder.join(format!("b{b_frames}-{seconds}s.{}.flv", std::process::id()));
        let text = format!(
            "-y -f lavfi -i testsrc2=size=320x180:rate=30 -f lavfi -i sine=frequency=440:sample_rate=48000 \
             -t {seconds} -c:v libx264 -preset veryfast -pix_fmt yuv420p -g 30 -bf {b_frames} -b:v 300k \
             -c:a aac -b:a 64k -f flv"
        );
        let made = ffmpeg(text.split_whitespace()).arg(&own).status().await.unwrap();
        assert!(made.success());
        std::fs::rename(&own, &path).unwrap();
    }
    path
}

pub(crate) fn ffmpeg<'a>(arguments: impl IntoIterator<Item = &'a str>) -> Command {
    let mut command = Command::new("ffmpeg");
    command.args(["-nostdin", "-hide_banner", "-loglevel", "error"]).args(arguments);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
    command
}

/// An encoder that pushes `file` in real time, over and over, until it is killed.
pub(crate) fn push_for_ever(file: &PathBuf, url: &str) -> Child {
    ffmpeg(["-re", "-stream_loop", "-1", "-i"])
        .arg(file)
        .args(["-c", "copy", "-f", "flv", url])
        .spawn()
        .unwrap()
}

/// An encoder that pushes `file` once, as fast as it can.
pub(crate) fn push_once(file: &PathBuf, url: &str) -> Child {
    ffmpeg(["-i"]).arg(file).args(["-c", "copy", "-f", "flv", url]).spawn().unwrap()
}

/// Everything this process logs, down to DEBUG; of all tests that run in it.
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    pub(crate) fn start() -> Self {
        static LOG: OnceLock<Log> = OnceLock::new();
        LOG.get_or_init(|| {
            let log = Self::default();
            let writer = log.clone();
            let config = telemetry::Config { filter: "debug".to_owned(), ..telemetry::Config::default() };
            let subscriber = telemetry::subscriber(&config, false, move || writer.clone()).unwrap();
            tracing::subscriber::set_global_default(subscriber).unwrap();
            log
        })
        .clone()
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
