//! Origin, tracker and an edge, each on its own port of this machine.

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use millstream_edge::{Addresses, AsItIs, Config, Edge, Outgoing, Status};
use millstream_model::PublicKey;
use millstream_service::ops;
use millstream_wire::sign::Signer as _;
use tokio::{
    sync::oneshot,
    task::{JoinHandle, JoinSet},
};

use crate::{
    origin::Origin,
    tracker::Tracker,
    viewer::{Viewer, session},
};

pub(crate) struct World {
    pub(crate) tasks: JoinSet<()>,
    pub(crate) origin: Arc<Origin>,
    pub(crate) tracker: Arc<Tracker>,
    pub(crate) edge: Running,
    data: tempfile::TempDir,
}

/// An edge that runs.
pub(crate) struct Running {
    pub(crate) addresses: Addresses,
    pub(crate) status: Box<dyn Fn() -> Status + Send + Sync>,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<()>,
}

impl Running {
    pub(crate) async fn start(config: Config, outgoing: Arc<dyn Outgoing>) -> Self {
        let edge = Edge::load_with(config, outgoing).await.expect("an edge");
        let addresses = edge.addresses().clone();
        let status = Box::new(edge.status());
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(async {
            let told = async {
                let _ = stopped.await;
            };
            edge.run(told).await.expect("it goes on");
        });
        Self { addresses, status, stop: Some(stop), task }
    }

    /// Asks it to stop and waits until it has.
    pub(crate) async fn stop(mut self) {
        drop(self.stop.take());
        self.task.await.expect("a clean end");
    }

    /// Begins the drain.
    pub(crate) fn drain(&mut self) {
        drop(self.stop.take());
    }

    pub(crate) async fn ended(self) {
        self.task.await.expect("a clean end");
    }

    /// Waits until the edge says so of itself.
    pub(crate) async fn until(&self, what: &str, says: impl Fn(&Status) -> bool) -> Status {
        for _ in 0..1_500 {
            let status = (self.status)();
            if says(&status) {
                return status;
            }
            tokio::time::sleep(Duration::from_millis(10)).await; // waits because HTTP answers only when asked
        }
        unreachable!("the edge never said: {what}: {:#?}", (self.status)())
    }
}

fn local() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::with(Arc::new(AsItIs)).await
    }

    pub(crate) async fn with(outgoing: Arc<dyn Outgoing>) -> Self {
        let mut tasks = JoinSet::new();
        let origin = Origin::start(&mut tasks).await;
        let root = origin.broadcast.lock().expect("sound").root.public();
        let tracker = Tracker::start(&mut tasks, origin.url(), root).await;
        let data = tempfile::tempdir().expect("a folder");
        let edge = Running::start(config(&tracker, data.path().into()), outgoing).await;
        tracker.saw("the edge", |seen| seen.registered == 1).await;
        edge.until("registered", |status| status.tracker.registered).await;
        Self { tasks, origin, tracker, edge, data }
    }

    /// The configuration that the edge runs with.
    pub(crate) fn config(&self) -> Config {
        config(&self.tracker, self.data.path().into())
    }

    /// The same for another edge, which keeps its things in `data`.
    pub(crate) fn config_in(&self, data: &tempfile::TempDir) -> Config {
        config(&self.tracker, data.path().into())
    }

    pub(crate) fn root(&self) -> PublicKey {
        self.origin.broadcast.lock().expect("sound").root.public()
    }

    /// A viewer with open channels that has said nothing.
    pub(crate) async fn stranger(&self, number: u8) -> Viewer {
        let (session, secret) = session(number);
        let grant = self.tracker.grant(session, secret.public(), self.edge.addresses.id);
        Viewer::dial(&self.edge.addresses.public, grant, secret, self.root()).await
    }

    /// A viewer that was welcomed.
    pub(crate) async fn viewer(&self, number: u8) -> Viewer {
        let mut viewer = self.stranger(number).await;
        let grant = self.tracker.sign(&viewer.grant);
        viewer.greet(grant).await;
        viewer
    }
}

fn config(tracker: &Tracker, data: PathBuf) -> Config {
    Config {
        listen: local(),
        data,
        tracker: format!("http://{}", tracker.address),
        ops: ops::Config { listen: local() },
        drain_ms: 1_000,
        cache: millstream_edge::Cache { linger_ms: 500, ..Default::default() },
        ..Config::default()
    }
}

/// `GET` from the ops listener.
pub(crate) async fn get(address: SocketAddr, path: &str) -> (u16, String) {
    let tls = millstream_service::Trust::system().expect("the system has authorities").http();
    let client =
        reqwest::Client::builder().tls_backend_preconfigured(tls).build().expect("a client can be made");
    let answer = client.get(format!("http://{address}{path}")).send().await.expect("an answer");
    let status = answer.status().as_u16();
    (status, answer.text().await.expect("text"))
}
