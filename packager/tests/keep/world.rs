//! What the stories need: a packager that records, an encoder, and somebody who reads what was kept.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use bytes::Bytes;
use millstream_model::{PublicKey, StreamId};
use millstream_packager::{
    Addresses, Config, Packager,
    gate::LocalStream,
    keep::{
        journal::Place,
        store::{S3, Store},
        verify::{Verdict, verify},
    },
};
use millstream_playlist::check;
use millstream_service::{Secret, Tasks, Trust};
use tokio::process::{Child, Command};

/// Long enough for a loaded machine, short enough to name what hangs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

const KEY: &str = "ms_0123456789abcdef0123456789";

pub(crate) fn stream() -> StreamId {
    StreamId::new("demo").unwrap()
}

/// A packager in this process that records everything, with a window of some seconds.
pub(crate) struct World {
    pub(crate) addresses: Addresses,
    client: reqwest::Client,
    tasks: Tasks,
    data: PathBuf,
    store: (String, S3),
}

impl World {
    pub(crate) async fn start(data: &Path, settings: impl FnOnce(&mut Config)) -> Self {
        let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let mut config = Config { data: data.to_owned(), grace_ms: 5_000, ..Config::default() };
        config.local = vec![LocalStream { stream: stream(), key: Secret::new(KEY.to_owned()) }];
        config.rtmp.listen = listen;
        config.origin.listen = listen;
        config.ops.listen = listen;
        config.policy.away_ms = 500;
        config.window.span_ms = 4_000;
        config.keep.record = vec![String::from("*").try_into().unwrap()];
        config.keep.retry_ms_max = 500;
        settings(&mut config);
        let store = (config.keep.url(data), config.keep.s3.clone());
        // One that was killed lets go of its folder when the last of its tasks is gone.
        let packager = within(async {
            loop {
                match Packager::load(config.clone()).await {
                    Ok(packager) => return packager,
                    Err(error) if format!("{error:#}").contains("another running program") => {
                        tokio::time::sleep(Duration::from_millis(20)).await; // waits because a lock tells nobody
                    }
                    Err(error) => panic!("{error:#}"),
                }
            }
        })
        .await;
        let addresses = packager.addresses().clone();
        let tasks = Tasks::new();
        let drain = tasks.drain();
        tasks.spawn("packager", async move { packager.run(drain.begun()).await.expect("it goes on") });
        Self { addresses, client: client(), tasks, data: data.to_owned(), store }
    }

    /// Ends everything at once, as SIGKILL does: nothing is said, nothing is written.
    pub(crate) fn kill(self) {
        drop(self.tasks);
    }

    /// Ends it as a signal does; says what had to be cut off.
    pub(crate) async fn stop(self) -> Vec<String> {
        self.tasks.shutdown(PATIENCE).await
    }

    /// An encoder that pushes `file` over and over, `speed` times as fast as real time, until it is killed.
    pub(crate) fn push(&self, file: &Path, speed: &str) -> Child {
        let url = format!("rtmp://{}/live/{KEY}", self.addresses.rtmp);
        ffmpeg(["-readrate", speed, "-stream_loop", "-1", "-i"])
            .arg(file)
            .args(["-c", "copy", "-f", "flv", &url])
            .spawn()
            .unwrap()
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}/s/{}/{path}", self.addresses.origin_url, stream())
    }

    pub(crate) async fn get(&self, path: &str) -> reqwest::Response {
        self.client.get(self.url(path)).send().await.unwrap()
    }

    pub(crate) async fn ranged(&self, path: &str, range: &str) -> reqwest::Response {
        self.client.get(self.url(path)).header("Range", range).send().await.unwrap()
    }

    pub(crate) async fn bytes(&self, path: &str) -> Bytes {
        let response = self.get(path).await;
        assert_eq!(response.status(), 200, "{path}");
        response.bytes().await.unwrap()
    }

    /// A playlist that keeps the rules.
    pub(crate) async fn playlist(&self, rendition: &str) -> (String, check::Playlist) {
        let text = String::from_utf8(self.bytes(&format!("{rendition}.m3u8")).await.to_vec()).unwrap();
        let violations = check::media(&text);
        assert!(violations.is_empty(), "{}\n{text}", violations[0]);
        let playlist = check::Playlist::parse(&text);
        (text, playlist)
    }

    /// Waits until a playlist is there and `done` with it.
    pub(crate) async fn until_playlist(
        &self,
        rendition: &str,
        done: impl Fn(&check::Playlist) -> bool,
    ) -> (String, check::Playlist) {
        within(async {
            loop {
                if self.get(&format!("{rendition}.m3u8")).await.status() == 200 {
                    let (text, playlist) = self.playlist(rendition).await;
                    if done(&playlist) {
                        return (text, playlist);
                    }
                }
                tokio::time::sleep(Duration::from_millis(50)).await; // waits because HTTP answers only when asked
            }
        })
        .await
    }

    /// Waits until the show is a recording that plays as a whole.
    pub(crate) async fn until_vod(&self, rendition: &str) -> (String, check::Playlist) {
        self.until_playlist(rendition, |playlist| playlist.playlist_type && playlist.ended).await
    }

    /// A count of the ops listener.
    pub(crate) async fn count(&self, name: &str) -> u64 {
        let url = format!("http://{}/metrics", self.addresses.ops);
        let text = self.client.get(url).send().await.unwrap().text().await.unwrap();
        let name = format!("millstream_packager_{name} ");
        let line = text.lines().find_map(|line| line.strip_prefix(&name));
        line.map_or(0, |value| value.parse().unwrap())
    }

    /// Waits until a count of the ops listener has come to `least`.
    pub(crate) async fn until_count(&self, name: &str, least: u64) {
        within(async {
            while self.count(name).await < least {
                tokio::time::sleep(Duration::from_millis(50)).await; // waits because HTTP answers only when asked
            }
        })
        .await;
    }

    /// What somebody finds who walks the stored recordings, oldest first, knowing the root key alone.
    pub(crate) async fn verdicts(&self) -> Vec<Verdict> {
        let store = self.open_store();
        let mut ids = store.folders("demo").await.unwrap();
        ids.sort_unstable();
        let mut verdicts = Vec::new();
        for id in ids {
            verdicts.push(verify(&store, &Place::of(&stream(), &id), &stream(), self.root()).await.unwrap());
        }
        verdicts
    }

    /// The verdict on the one recording that there is.
    pub(crate) async fn verdict(&self) -> Verdict {
        let mut verdicts = self.verdicts().await;
        assert_eq!(verdicts.len(), 1, "{verdicts:?}");
        verdicts.remove(0)
    }

    pub(crate) fn open_store(&self) -> Store {
        Store::open(&self.store.0, &self.store.1, 0, &Trust::system().unwrap()).unwrap()
    }

    fn root(&self) -> PublicKey {
        use millstream_wire::sign::{SecretKey, Signer as _};
        let seed = std::fs::read(self.data.join("root.key")).unwrap();
        SecretKey::from_seed(&seed.try_into().unwrap()).public()
    }
}

pub(crate) fn client() -> reqwest::Client {
    let tls = Trust::system().unwrap().http();
    reqwest::Client::builder().tls_backend_preconfigured(tls).timeout(PATIENCE).build().unwrap()
}

pub(crate) async fn within<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, work).await.expect("done in time")
}

/// A file with H.264 (a keyframe a second, two B-frames) and AAC, about 1 Mbit/s; made once.
pub(crate) async fn media() -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("keep-media");
    std::fs::create_dir_all(&folder).unwrap();
    let path = folder.join("gop30-20s.flv");
    if !path.exists() {
        // Tests run at once: only a whole file gets the name.
        let own = tempfile::Builder::new().suffix(".flv").tempfile_in(&folder).unwrap().into_temp_path();
        let text = "-y -f lavfi -i testsrc2=size=640x360:rate=30 -f lavfi -i sine=frequency=440:sample_rate=48000 \
             -t 20 -c:v libx264 -preset veryfast -pix_fmt yuv420p -g 30 -keyint_min 30 -sc_threshold 0 -bf 2 \
             -b:v 900k -c:a aac -b:a 96k -f flv";
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

/// Plays a playlist to its end with ffmpeg; gives the seconds that its pictures last, by their number.
pub(crate) async fn play(url: &str) -> f64 {
    let mut command = Command::new("ffprobe");
    command.args(["-v", "error", "-count_packets", "-select_streams", "v:0", "-of", "csv=p=0"]);
    command.args(["-show_entries", "stream=nb_read_packets", url]).kill_on_drop(true);
    let output = within(command.stdin(Stdio::null()).output()).await.unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{said}");
    let packets =
        text.trim().trim_end_matches(',').lines().next().unwrap().trim_end_matches(',').parse::<f64>();
    packets.unwrap_or_else(|_| panic!("{text}")) / 30.0
}
