//! A tracker on loopback, and everybody who talks to it, with real keys.

use std::{path::Path, time::Duration};

use futures_util::{SinkExt as _, StreamExt as _};
use millstream_model::{BitRate, EdgeId, Fingerprint, RenditionId, SessionId};
use millstream_service::Trust;
use millstream_tracker::{Config, Tracker};
use millstream_wire::{
    session::{Grant, Registration, Voucher},
    sign::{Context, SecretKey, SessionSecret, Signed, Signer as _},
    tracker::{
        Admit, Admitted, Challenge, EdgeAddress, FromEdge, FromViewer, PackagerReport, Published, State,
        StreamReport, ToEdge, ToViewer, Welcome,
    },
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use tokio::{net::TcpStream, sync::oneshot, task::JoinHandle, time::timeout};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, tungstenite::Message};

/// Long enough for a loaded machine, short enough to name what hangs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) const PRICE: u32 = 20_000;

const FINGERPRINT: Fingerprint = Fingerprint([3; 32]);

pub(crate) struct World {
    pub(crate) url: String,
    pub(crate) token: String,
    pub(crate) http: reqwest::Client,
    pub(crate) data: tempfile::TempDir,
    stop: Option<oneshot::Sender<()>>,
    task: Option<JoinHandle<()>>,
}

impl World {
    pub(crate) async fn new() -> Self {
        let data = tempfile::tempdir().unwrap();
        let (url, token, stop, task) = start(data.path()).await;
        let tls = Trust::system().unwrap().http();
        let http = reqwest::Client::builder().tls_backend_preconfigured(tls).build().unwrap();
        Self { url, token, http, data, stop: Some(stop), task: Some(task) }
    }

    /// Stops the tracker, drained, and starts it again on the same data.
    pub(crate) async fn restart(&mut self) {
        let _ = self.stop.take().unwrap().send(());
        timeout(PATIENCE, self.task.take().unwrap()).await.unwrap().unwrap();
        let (url, token, stop, task) = start(self.data.path()).await;
        (self.url, self.token, self.stop, self.task) = (url, token, Some(stop), Some(task));
    }

    pub(crate) async fn post(&self, path: &str, body: &impl Serialize) -> (u16, Value) {
        let request = self.http.post(format!("{}{path}", self.url)).bearer_auth(&self.token).json(body);
        let answer = request.send().await.unwrap();
        (answer.status().as_u16(), answer.json().await.unwrap())
    }

    pub(crate) async fn patch(&self, path: &str, body: &impl Serialize) -> (u16, Value) {
        let request = self.http.patch(format!("{}{path}", self.url)).bearer_auth(&self.token).json(body);
        let answer = request.send().await.unwrap();
        (answer.status().as_u16(), answer.json().await.unwrap())
    }

    pub(crate) async fn get(&self, path: &str) -> (u16, Value) {
        let answer =
            self.http.get(format!("{}{path}", self.url)).bearer_auth(&self.token).send().await.unwrap();
        (answer.status().as_u16(), answer.json().await.unwrap())
    }

    /// A funded stream that a packager carries; gives its stream key.
    pub(crate) async fn live(&self, id: &str, more: Value) -> String {
        self.live_with(id, more, 1 << 40).await
    }

    /// The same with `bytes` published so far.
    pub(crate) async fn live_with(&self, id: &str, more: Value, bytes: u64) -> String {
        let funds = json!({ "amount": 1_000_000_000, "transfer": format!("for-{id}") });
        assert_eq!(self.post("/v1/accounts/show/fund", &funds).await.0, 200);
        let mut wanted = json!({ "id": id, "account": "show", "price_per_gib": PRICE });
        wanted.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let (status, created) = self.post("/v1/streams", &wanted).await;
        assert_eq!(status, 201, "{created}");
        let key = created["stream_key"].as_str().unwrap().to_owned();
        self.admit(&key).await;
        self.carry(id, bytes).await;
        key
    }

    pub(crate) async fn admit(&self, stream_key: &str) -> Admitted {
        let admit = Admit {
            stream_key: stream_key.to_owned(),
            packager: packager().public(),
            origin: "http://127.0.0.1:9".into(),
            generation: 0,
        };
        let (status, admitted) = self.post("/v1/packager/admit", &admit).await;
        assert_eq!(status, 200, "{admitted}");
        serde_json::from_value(admitted).unwrap()
    }

    /// Reports a stream as live, with `bytes` published.
    pub(crate) async fn carry(&self, id: &str, bytes: u64) {
        let report = PackagerReport {
            packager: packager().public(),
            origin: "http://127.0.0.1:9".into(),
            streams: vec![StreamReport {
                stream: id.parse().unwrap(),
                generation: 1,
                state: State::Live,
                catalog: None,
                published: vec![Published { run: SessionId([1; 16]), bytes }],
            }],
        };
        assert_eq!(self.post("/v1/packager/report", &report).await.0, 200);
    }

    pub(crate) async fn connect<In: DeserializeOwned, Out: Serialize>(&self, path: &str) -> Link<In, Out> {
        let url = format!("{}/v1/{path}", self.url.replace("http://", "ws://"));
        let (socket, _) = tokio_tungstenite::connect_async(url).await.unwrap();
        Link { socket, kinds: std::marker::PhantomData }
    }

    /// A viewer that joined `stream`, or was refused.
    pub(crate) async fn join(&self, stream: &str, ticket: Option<String>) -> (ViewerLink, ToViewer) {
        let mut link: ViewerLink = self.connect("viewer").await;
        assert!(matches!(link.hear().await, ToViewer::Challenge(_)));
        let join = FromViewer::Join { stream: stream.parse().unwrap(), key: viewer().public(), ticket };
        link.say(&join).await;
        let answer = link.hear().await;
        (link, answer)
    }

    /// The same, welcome.
    pub(crate) async fn welcome(&self, stream: &str) -> (ViewerLink, Welcome) {
        match self.join(stream, None).await {
            (link, ToViewer::Welcome(welcome)) => (link, *welcome),
            (_, other) => panic!("{other:?}"),
        }
    }

    /// An edge that registered.
    pub(crate) async fn edge(&self, seed: u8) -> (EdgeLink, EdgeId) {
        let mut link: EdgeLink = self.connect("edge").await;
        let ToEdge::Challenge(challenge) = link.hear().await else { panic!("a challenge comes first") };
        let secret = SecretKey::from_seed(&[seed; 32]);
        link.say(&register(&secret, &challenge)).await;
        match link.hear().await {
            ToEdge::Registered { edge, .. } => (link, edge),
            other => panic!("{other:?}"),
        }
    }

    /// An edge that registered behind NAT, and the STUN servers it is told. It does not know where it is yet.
    pub(crate) async fn edge_behind_nat(&self, seed: u8) -> (EdgeLink, EdgeId, Vec<String>) {
        let mut link: EdgeLink = self.connect("edge").await;
        let ToEdge::Challenge(challenge) = link.hear().await else { panic!("a challenge comes first") };
        let secret = SecretKey::from_seed(&[seed; 32]);
        let mut register = register(&secret, &challenge);
        let FromEdge::Register { address, .. } = &mut register else { panic!("a registration") };
        (address.sockets, address.behind_nat) = (Vec::new(), true);
        link.say(&register).await;
        match link.hear().await {
            ToEdge::Registered { edge, stun, .. } => (link, edge, stun),
            other => panic!("{other:?}"),
        }
    }
}

pub(crate) fn config(data: &Path) -> Config {
    let mut config = Config { data: data.to_path_buf(), ..Config::default() };
    config.listen = "127.0.0.1:0".parse().unwrap();
    config.ops.listen = "127.0.0.1:0".parse().unwrap();
    config
}

async fn start(data: &Path) -> (String, String, oneshot::Sender<()>, JoinHandle<()>) {
    let tracker = Tracker::load(config(data)).await.unwrap();
    let (url, token) = (tracker.addresses().url.clone(), tracker.admin_token().expose().clone());
    let (stop, stopped) = oneshot::channel();
    let task =
        tokio::spawn(
            async move { tracker.run(async move { drop(stopped.await) }).await.expect("it goes on") },
        );
    (url, token, stop, task)
}

pub(crate) fn packager() -> SecretKey {
    SecretKey::from_seed(&[20; 32])
}

pub(crate) fn viewer() -> SessionSecret {
    SessionSecret::from_bytes(&[21; 32]).unwrap()
}

pub(crate) fn register(secret: &SecretKey, challenge: &Challenge) -> FromEdge {
    let fingerprint = FINGERPRINT;
    let proof = Registration {
        tracker: challenge.tracker,
        nonce: challenge.nonce.0,
        edge: secret.public(),
        fingerprint,
    };
    FromEdge::Register {
        proof: Signed::new(proof, Context::None, secret),
        address: address("127.0.0.1:4443"),
        capacity: BitRate(1_000_000_000),
        viewers_max: 100,
        version: "test".into(),
    }
}

pub(crate) fn address(socket: &str) -> EdgeAddress {
    EdgeAddress {
        sockets: vec![socket.parse().unwrap()],
        ufrag: "edge".into(),
        password: "p".repeat(24),
        fingerprint: FINGERPRINT,
        behind_nat: false,
        stun: Vec::new(),
    }
}

/// A voucher of this test's viewer on the lane of `grant`.
pub(crate) fn voucher(grant: &Grant, payable: u64) -> Signed<Voucher> {
    let voucher = Voucher {
        tracker: grant.tracker,
        session: grant.session,
        edge: grant.edge,
        stream: grant.stream.clone(),
        payable,
        received: payable,
        segments: 1,
        rendition: RenditionId(0),
        number: 1,
    };
    Signed::new(voucher, Context::None, &viewer())
}

pub(crate) type ViewerLink = Link<ToViewer, FromViewer>;
pub(crate) type EdgeLink = Link<ToEdge, FromEdge>;

pub(crate) struct Link<In, Out> {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    kinds: std::marker::PhantomData<(In, Out)>,
}

impl<In: DeserializeOwned, Out: Serialize> Link<In, Out> {
    pub(crate) async fn say(&mut self, message: &Out) {
        self.say_text(serde_json::to_string(message).unwrap()).await;
    }

    pub(crate) async fn say_text(&mut self, text: String) {
        self.socket.send(Message::text(text)).await.unwrap();
    }

    pub(crate) async fn hear(&mut self) -> In {
        self.listen().await.expect("the tracker closed the connection")
    }

    /// The next message; `None` when the tracker closed.
    pub(crate) async fn listen(&mut self) -> Option<In> {
        loop {
            match timeout(PATIENCE, self.socket.next()).await.expect("the tracker says nothing")?.ok()? {
                Message::Text(text) => return Some(serde_json::from_str(&text).unwrap()),
                Message::Close(_) => return None,
                _ => {}
            }
        }
    }
}

/// Checks a session id of a message against what is expected, for readable failures.
pub(crate) fn same_session(one: SessionId, other: SessionId) {
    assert_eq!(one.to_string(), other.to_string());
}
