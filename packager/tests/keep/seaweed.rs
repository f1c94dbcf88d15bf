//! A real server that speaks S3, which can be killed and started again, and a line to it that can be slow.

use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener as Reserved},
    path::{Path, PathBuf},
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use millstream_packager::{Config, keep::store::S3};
use millstream_service::Secret;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    process::{Child, Command},
    task::JoinSet,
};

use crate::world::within;

const KEY_ID: &str = "packager";
pub(crate) const SECRET: &str = "not-so-secret-here";
const BUCKET: &str = "shows";

/// Ports of S3, filer, master and volume server, and those of their gRPC.
const PORTS: usize = 8;

/// SeaweedFS with one bucket, whose objects outlive it.
pub(crate) struct Seaweed {
    child: Child,
    ports: [u16; PORTS],
    folder: tempfile::TempDir,
}

impl Seaweed {
    pub(crate) async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let identities = format!(
            r#"{{"identities":[{{"name":"packager","credentials":[{{"accessKey":"{KEY_ID}","secretKey":"{SECRET}"}}],
                "actions":["Read:{BUCKET}","Write:{BUCKET}","List:{BUCKET}"]}}]}}"#
        );
        std::fs::write(folder.path().join("s3.json"), identities).unwrap();
        std::fs::create_dir(folder.path().join("data")).unwrap();
        let reserved: Vec<Reserved> =
            (0..PORTS).map(|_| Reserved::bind((Ipv4Addr::LOCALHOST, 0)).unwrap()).collect();
        let ports = std::array::from_fn(|index| reserved[index].local_addr().unwrap().port());
        drop(reserved);
        let child = run(folder.path(), &ports);
        let seaweed = Self { child, ports, folder };
        seaweed.ready().await;
        seaweed
    }

    /// SIGKILL.
    pub(crate) async fn kill(&mut self) {
        self.child.kill().await.unwrap();
    }

    /// Starts it again with what it had.
    pub(crate) async fn start_again(&mut self) {
        self.child = run(self.folder.path(), &self.ports);
        self.ready().await;
    }

    pub(crate) fn address(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.ports[0]))
    }

    /// Has a packager record into the bucket by way of `address`.
    pub(crate) fn settings(address: SocketAddr, config: &mut Config) {
        config.keep.store = format!("s3://{BUCKET}/some/prefix");
        config.keep.s3 = S3 {
            endpoint: format!("http://{address}"),
            region: String::from("us-east-1"),
            access_key_id: String::from(KEY_ID),
            secret_access_key: Secret::new(SECRET.to_owned()),
            ..S3::default()
        };
    }

    /// Waits until there is a bucket that takes objects.
    async fn ready(&self) {
        let client = crate::world::client();
        let filer = format!("http://127.0.0.1:{}/buckets/{BUCKET}", self.ports[1]);
        within(async {
            loop {
                let made = client.post(format!("{filer}/")).send().await;
                let put = client.put(format!("{filer}/ready")).body("ready").send().await;
                let s3 = client.get(format!("http://{}/", self.address())).send().await;
                let is_ready = |answer: &reqwest::Response| answer.status().is_success();
                if made.is_ok() && put.as_ref().is_ok_and(is_ready) && s3.is_ok() {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(100)).await; // waits because HTTP answers only when asked
            }
        })
        .await;
    }
}

fn run(folder: &Path, ports: &[u16; PORTS]) -> Child {
    let program = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../target/pypi/weed");
    assert!(program.exists(), "there is no {}: run scripts/setup-pypi", program.display());
    let names = ["s3", "filer", "master", "volume"];
    let mut command = Command::new(program);
    command.args([
        "server",
        "-ip=127.0.0.1",
        "-ip.bind=127.0.0.1",
        "-s3",
        "-s3.port.iceberg=0",
        "-s3.port.lance=0",
    ]);
    command.args(["-volume.max=16", "-master.volumeSizeLimitMB=64"]);
    for (index, name) in names.iter().enumerate() {
        command.arg(format!("-{name}.port={}", ports[index]));
        command.arg(format!("-{name}.port.grpc={}", ports[index + names.len()]));
    }
    command.arg(format!("-dir={}", folder.join("data").display()));
    command.arg(format!("-s3.config={}", folder.join("s3.json").display()));
    command.current_dir(folder).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.kill_on_drop(true).spawn().unwrap()
}

/// A line to the bucket on which what is sent takes its time.
pub(crate) struct Line {
    pub(crate) address: SocketAddr,
    bytes_a_second: Arc<AtomicU64>,
    _task: JoinSet<()>,
}

impl Line {
    pub(crate) async fn to(server: SocketAddr, bytes_a_second: u64) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let rate = Arc::new(AtomicU64::new(bytes_a_second));
        let mut task = JoinSet::new();
        let shared = Arc::clone(&rate);
        task.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((near, _)) = listener.accept().await {
                let Ok(far) = TcpStream::connect(server).await else { continue };
                let (near_in, near_out) = near.into_split();
                let (far_in, far_out) = far.into_split();
                connections.spawn(pass(near_in, far_out, Some(Arc::clone(&shared))));
                connections.spawn(pass(far_in, near_out, None));
            }
        });
        Self { address, bytes_a_second: rate, _task: task }
    }

    pub(crate) fn at(&self, bytes_a_second: u64) {
        self.bytes_a_second.store(bytes_a_second, Relaxed);
    }
}

async fn pass(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    rate: Option<Arc<AtomicU64>>,
) {
    let mut buffer = vec![0; 4_096];
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        if let Some(rate) = &rate {
            let micros = count as u64 * 1_000_000 / rate.load(Relaxed);
            tokio::time::sleep(Duration::from_micros(micros)).await; // waits because a slow line takes time
        }
        if to.write_all(&buffer[..count]).await.is_err() {
            return;
        }
    }
    let _ = to.shutdown().await;
}
