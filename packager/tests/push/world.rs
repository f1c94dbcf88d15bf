//! What the stories need: a packager with a stream, media files, encoders, and receivers.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use bytes::Bytes;
use millstream_model::{PublicKey, StreamId, WallTime};
use millstream_packager::{Addresses, Config, Packager, gate::LocalStream};
use millstream_playlist::check;
use millstream_service::{Secret, Tasks, Trust};
use millstream_wire::{
    chain::{Chain, piece_fits},
    frame::{Deframer, Frame},
    media::Record,
};
use tokio::process::{Child, Command};

/// Long enough for a loaded machine, short enough to name what hangs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// An HTTP client.
pub(crate) fn client() -> reqwest::Client {
    let tls = Trust::system().unwrap().http();
    reqwest::Client::builder().tls_backend_preconfigured(tls).timeout(PATIENCE).build().unwrap()
}

pub(crate) const KEY: &str = "ms_0123456789abcdef0123456789";

pub(crate) fn stream() -> StreamId {
    StreamId::new("demo").unwrap()
}

pub(crate) fn localhost() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, 0))
}

/// All ports free, one local stream `demo`.
pub(crate) fn config(data: &Path) -> Config {
    let mut config = Config { data: data.to_owned(), grace_ms: 2_000, ..Config::default() };
    config.policy.away_ms = 2_000;
    config.local = vec![LocalStream { stream: stream(), key: Secret::new(KEY.to_owned()) }];
    config.rtmp.listen = localhost();
    config.origin.listen = localhost();
    config.ops.listen = localhost();
    config
}

/// A packager in this process.
pub(crate) struct World {
    pub(crate) addresses: Addresses,
    pub(crate) client: reqwest::Client,
    tasks: Tasks,
    pub(crate) folder: tempfile::TempDir,
}

impl World {
    pub(crate) async fn start(settings: impl FnOnce(&mut Config)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut config = config(folder.path());
        settings(&mut config);
        let packager = Packager::load(config).await.unwrap();
        let addresses = packager.addresses().clone();
        let tasks = Tasks::new();
        let drain = tasks.drain();
        tasks.spawn("packager", async move { packager.run(drain.begun()).await.expect("it goes on") });
        let client = client();
        Self { addresses, client, tasks, folder }
    }

    /// Ends it as a signal does; says what had to be cut off.
    pub(crate) async fn stop(self) -> Vec<String> {
        self.tasks.shutdown(PATIENCE).await
    }

    pub(crate) fn rtmp(&self, key: &str) -> String {
        format!("rtmp://{}/live/{key}", self.addresses.rtmp)
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}/s/{}/{path}", self.addresses.origin_url, stream())
    }

    pub(crate) async fn get(&self, path: &str) -> reqwest::Response {
        self.client.get(self.url(path)).send().await.unwrap()
    }

    pub(crate) async fn bytes(&self, path: &str) -> Bytes {
        let response = self.get(path).await;
        assert_eq!(response.status(), 200, "{path}");
        response.bytes().await.unwrap()
    }

    pub(crate) async fn text(&self, path: &str) -> String {
        String::from_utf8(self.bytes(path).await.to_vec()).unwrap()
    }

    /// Waits until the stream has media.
    pub(crate) async fn begun(&self) -> String {
        within(async {
            loop {
                let response = self.get("video.m3u8").await;
                if response.status() == 200 {
                    return response.text().await.unwrap();
                }
                tokio::time::sleep(Duration::from_millis(20)).await; // waits because HTTP answers only when asked
            }
        })
        .await
    }

    pub(crate) async fn ops(&self, path: &str) -> String {
        let url = format!("http://{}/{path}", self.addresses.ops);
        self.client.get(url).send().await.unwrap().text().await.unwrap()
    }

    /// `/v1/status`'s first stream.
    pub(crate) async fn status(&self) -> serde_json::Value {
        let status: serde_json::Value = serde_json::from_str(&self.ops("v1/status").await).unwrap();
        status["streams"][0].clone()
    }

    /// Waits until the stream's state is `state`.
    pub(crate) async fn state(&self, state: &str) {
        within(async {
            while self.status().await["state"] != state {
                tokio::time::sleep(Duration::from_millis(20)).await; // waits because HTTP answers only when asked
            }
        })
        .await;
    }
}

pub(crate) async fn within<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, work).await.expect("done in time")
}

/// A file with H.264 (a keyframe every `gop` frames of 30 a second, two B-frames) and AAC, about 1 Mbit/s; made once.
pub(crate) async fn media(gop: u32, seconds: u32) -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("push-media");
    std::fs::create_dir_all(&folder).unwrap();
    let path = folder.join(format!("gop{gop}-{seconds}s.flv"));
    if !path.exists() {
        // Tests run at once: only a whole file gets the name.
        let own = tempfile::Builder::new().suffix(".flv").tempfile_in(&folder).unwrap().into_temp_path();
        let text = format!(
            "-y -f lavfi -i testsrc2=size=640x360:rate=30 -f lavfi -i sine=frequency=440:sample_rate=48000 \
             -t {seconds} -c:v libx264 -preset veryfast -pix_fmt yuv420p -g {gop} -keyint_min {gop} \
             -sc_threshold 0 -bf 2 -b:v 900k -c:a aac -b:a 96k -f flv"
        );
        let made = ffmpeg(text.split_whitespace()).arg(&own).status().await.unwrap();
        assert!(made.success());
        own.persist(&path).unwrap();
    }
    path
}

pub(crate) fn ffmpeg<'a>(arguments: impl IntoIterator<Item = &'a str>) -> Command {
    let mut command = Command::new("ffmpeg");
    command.args(["-nostdin", "-hide_banner", "-loglevel", "error"]).args(arguments);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
    command
}

/// An encoder that pushes `file` over and over, `speed` times as fast as real time, until it is killed.
pub(crate) fn push(file: &Path, speed: &str, url: &str) -> Child {
    ffmpeg(["-readrate", speed, "-stream_loop", "-1", "-i"])
        .arg(file)
        .args(["-c", "copy", "-f", "flv", url])
        .spawn()
        .unwrap()
}

/// Believes what a root stands behind, and keeps what was believed.
pub(crate) struct Receiver {
    pub(crate) chain: Chain,
    pub(crate) records: Vec<Record>,
}

impl Receiver {
    pub(crate) fn new(root: PublicKey) -> Self {
        Self { chain: Chain::new(stream(), root), records: Vec::new() }
    }

    /// Takes a frame; nothing may be refused.
    pub(crate) fn take(&mut self, frame: &Frame) {
        match frame {
            Frame::Delegation(signed) => drop(self.chain.accept_delegation(signed, now()).unwrap()),
            Frame::Catalog(signed) => drop(self.chain.accept_catalog(signed).unwrap()),
            Frame::Record(signed) => {
                self.chain.accept_record(signed).unwrap();
                self.records.push(signed.unverified().clone());
            }
            Frame::Ping(_) => {}
            other => panic!("{other:?}"),
        }
    }

    /// Takes a whole `/start`.
    pub(crate) fn start(&mut self, body: &[u8]) {
        let mut deframer = Deframer::default();
        deframer.push(body);
        while let Some(frame) = deframer.next_frame().unwrap() {
            self.take(&frame);
        }
    }

    /// The record with the highest number of a rendition.
    pub(crate) fn newest(&self, name: &str) -> &Record {
        let id = self.chain.catalog().unwrap().named(name).unwrap().id;
        let own = self.records.iter().filter(|record| record.rendition == id);
        own.max_by_key(|record| record.number).unwrap()
    }
}

pub(crate) fn now() -> WallTime {
    millstream_packager::Clock::start().wall()
}

/// The root key in the first delegation of a `/start`: what a page without a pinned key goes by.
pub(crate) fn root_of(world: &World) -> PublicKey {
    use millstream_wire::sign::{SecretKey, Signer as _};
    let seed = std::fs::read(world.folder.path().join("root.key")).unwrap();
    SecretKey::from_seed(&seed.try_into().unwrap()).public()
}

/// Reads `/feed` of a rendition until `parts` whole parts are there and verified.
pub(crate) async fn feed(
    world: &World,
    rendition: &str,
    root: PublicKey,
    parts: usize,
) -> Vec<(Record, Bytes)> {
    let mut response = world.get(&format!("feed?rendition={rendition}")).await;
    let (mut deframer, mut receiver) = (Deframer::default(), Receiver::new(root));
    let mut whole: Vec<(Record, Bytes)> = Vec::new();
    let mut open: Vec<u8> = Vec::new();
    loop {
        while let Some(frame) = deframer.next_frame().unwrap() {
            let Frame::Piece { number, index, data, .. } = &frame else {
                receiver.take(&frame);
                continue;
            };
            let record = receiver.records.last().unwrap();
            assert_eq!(record.number, *number);
            assert!(piece_fits(record, *index, data), "piece {index} of part {number}");
            open.extend_from_slice(data);
            if open.len() == usize::try_from(record.size).unwrap() {
                whole.push((record.clone(), std::mem::take(&mut open).into()));
                if whole.len() == parts {
                    return whole;
                }
            }
        }
        let bytes = within(response.chunk()).await.unwrap().expect("the feed goes on");
        deframer.push(&bytes);
    }
}

/// Follows a media playlist by blocking reloads for `reloads` times and holds each load to the rules. Gives the last.
pub(crate) async fn follow(world: &World, rendition: &str, reloads: usize) -> String {
    let mut before = world.text(&format!("{rendition}.m3u8")).await;
    assert_clean(&check::media(&before), &before);
    for _ in 0..reloads {
        let (segment, last) = check::Playlist::parse(&before).head().unwrap();
        let part = last.map_or(0, |last| last + 1);
        let query = format!("{rendition}.m3u8?_HLS_msn={segment}&_HLS_part={part}");
        let text = world.text(&query).await;
        assert_clean(&check::media(&text), &text);
        assert_clean(&check::succession(&before, &text), &format!("{before}\n{text}"));
        let asked = millstream_playlist::reload::Reload { segment, part: Some(part) };
        assert_clean(&check::answer(&text, asked), &text);
        before = text;
    }
    before
}

#[track_caller]
pub(crate) fn assert_clean(violations: &[check::Violation], text: &str) {
    assert!(violations.is_empty(), "{}\n{text}", violations[0]);
}
