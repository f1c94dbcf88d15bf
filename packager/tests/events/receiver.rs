//! A webhook's receiver: an HTTP server that answers as it is told, and keeps what came.

use std::{
    collections::VecDeque,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex},
    time::Duration,
};

use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    process::Command,
    sync::watch,
    task::JoinSet,
};

pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// 24 bytes, in base64 with the standard's prefix, and as `openssl` wants them.
pub(crate) const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const SECRET_HEX: &str = "31f290f6bf06298aab4f08d43c3f082cf648a362da2da4b0";

/// One request.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    head: String,
    pub(crate) body: String,
}

impl Request {
    pub(crate) fn header(&self, name: &str) -> &str {
        let line = self.head.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then_some(value.trim())
        });
        line.unwrap_or_else(|| panic!("no {name} in {}", self.head))
    }

    pub(crate) fn event(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }

    pub(crate) fn kind(&self) -> String {
        self.event()["kind"].as_str().unwrap().to_owned()
    }

    /// What `openssl` makes of the three things that are signed is the signature.
    pub(crate) async fn check_signature(&self) {
        let event = self.event();
        assert_eq!(self.header("webhook-id"), event["id"].as_str().unwrap());
        let sent_s: u64 = self.header("webhook-timestamp").parse().unwrap();
        assert!(sent_s * 1_000 + 60_000 > event["time"].as_u64().unwrap(), "{sent_s} {event}");
        let signed = format!("{}.{sent_s}.{}", self.header("webhook-id"), self.body);
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("signed");
        std::fs::write(&file, signed).unwrap();
        let output = Command::new("openssl")
            .args(["dgst", "-sha256", "-mac", "HMAC", "-macopt", &format!("hexkey:{SECRET_HEX}"), "-r"])
            .arg(&file)
            .output()
            .await
            .unwrap();
        let hex = String::from_utf8(output.stdout).unwrap().split_whitespace().next().unwrap().to_owned();
        let given = self.header("webhook-signature").strip_prefix("v1,").expect("version 1");
        use base64::Engine as _;
        let given = base64::engine::general_purpose::STANDARD.decode(given).unwrap();
        let given: String = given.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(given, hex);
    }
}

/// How to answer.
#[derive(Debug, Clone)]
pub(crate) enum Answer {
    /// With this status, and lines of the head.
    Status(u16, String),
    /// Not at all.
    Silence,
}

/// A receiver. Dropping it closes its socket.
pub(crate) struct Receiver {
    pub(crate) address: SocketAddr,
    requests: watch::Receiver<Vec<Request>>,
    answers: Arc<Mutex<VecDeque<Answer>>>,
    _server: JoinSet<()>,
}

impl Receiver {
    pub(crate) async fn start() -> Self {
        Self::start_at(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await
    }

    pub(crate) async fn start_at(address: SocketAddr) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, requests) = watch::channel(Vec::new());
        let (sender, answers) = (Arc::new(sender), Arc::new(Mutex::new(VecDeque::new())));
        let mut server = JoinSet::new();
        let own = Arc::clone(&answers);
        server.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((socket, _)) = listener.accept().await {
                connections.spawn(serve(socket, Arc::clone(&sender), Arc::clone(&own)));
            }
        });
        Self { address, requests, answers, _server: server }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/hook", self.address)
    }

    /// The next requests are answered so; those after them with 204.
    pub(crate) fn answer(&self, answers: impl IntoIterator<Item = Answer>) {
        self.answers.lock().unwrap().extend(answers);
    }

    /// Waits until what came is as wanted.
    pub(crate) async fn until(&mut self, wanted: impl Fn(&[Request]) -> bool) -> Vec<Request> {
        let met = self.requests.wait_for(|requests| wanted(requests));
        let met = tokio::time::timeout(PATIENCE, met).await.map(|requests| requests.unwrap().clone());
        met.unwrap_or_else(|_| panic!("only {:?}", self.seen()))
    }

    pub(crate) fn seen(&self) -> Vec<Request> {
        self.requests.borrow().clone()
    }
}

async fn serve(
    mut socket: TcpStream,
    requests: Arc<watch::Sender<Vec<Request>>>,
    answers: Arc<Mutex<VecDeque<Answer>>>,
) {
    let mut bytes = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let Some((head, rest)) = text.split_once("\r\n\r\n") else {
            if socket.read_buf(&mut bytes).await.unwrap_or(0) == 0 {
                return;
            }
            continue;
        };
        let request = Request { head: head.to_owned(), body: String::new() };
        assert!(head.starts_with("POST /hook HTTP/1.1"), "{head}");
        assert_eq!(request.header("content-type"), "application/json");
        let len: usize = request.header("content-length").parse().unwrap();
        if rest.len() < len {
            if socket.read_buf(&mut bytes).await.unwrap_or(0) == 0 {
                return;
            }
            continue;
        }
        let body = rest[..len].to_owned();
        bytes.drain(..head.len() + 4 + len);
        let answer = answers.lock().unwrap().pop_front().unwrap_or(Answer::Status(204, String::new()));
        requests.send_modify(|requests| requests.push(Request { body, ..request }));
        match answer {
            Answer::Silence => std::future::pending().await,
            Answer::Status(status, lines) => {
                let text = format!("HTTP/1.1 {status} x\r\ncontent-length: 0\r\n{lines}\r\n");
                if socket.write_all(text.as_bytes()).await.is_err() {
                    return;
                }
            }
        }
    }
}
