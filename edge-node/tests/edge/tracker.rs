//! A tracker's side of the WebSocket: challenges, believes proofs, answers lookups, books vouchers.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use futures_util::{SinkExt as _, StreamExt as _};
use millstream_model::{EdgeId, Hash, Price, SessionId, SessionKey, StreamId, WallTime};
use millstream_wire::{
    session::{Bearer, Grant, Receipt, Token, Voucher},
    sign::{Context, SecretKey, Signed, Signer as _},
    tracker::{Challenge, EdgeAddress, FaultCode, FromEdge, ToEdge},
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{broadcast, watch},
    task::{AbortHandle, JoinSet},
};
use tokio_tungstenite::tungstenite::{Message, handshake::server};

pub(crate) const PRICE: Price = Price(1 << 20);

pub(crate) fn wall() -> WallTime {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    WallTime(u64::try_from(since.as_millis()).expect("small"))
}

#[derive(Default, Clone)]
pub(crate) struct Seen {
    pub(crate) registered: usize,
    pub(crate) edge: Option<EdgeId>,
    pub(crate) address: Option<EdgeAddress>,
    pub(crate) statuses: usize,
    /// What edges have said of where they are, in registering and after that.
    pub(crate) said: Vec<EdgeAddress>,
    /// How often one has said that it is reached elsewhere.
    pub(crate) moves: usize,
    pub(crate) warm: Vec<StreamId>,
    pub(crate) lookups: Vec<StreamId>,
    pub(crate) drained: bool,
    /// The highest voucher per lane, and how many came in all.
    pub(crate) vouchers: BTreeMap<SessionId, Signed<Voucher>>,
    pub(crate) voucher_count: usize,
    pub(crate) rejected: usize,
}

pub(crate) struct Tracker {
    pub(crate) key: SecretKey,
    pub(crate) address: SocketAddr,
    pub(crate) origin: String,
    pub(crate) root: millstream_model::PublicKey,
    pub(crate) seen: watch::Sender<Seen>,
    /// Vouchers of these sessions are refused; `true`: for the time being.
    pub(crate) refused: Mutex<BTreeMap<SessionId, bool>>,
    /// Where `demo` comes from is told after the answer to another lookup.
    pub(crate) holds: AtomicBool,
    /// What edges are told to ask where they are.
    pub(crate) stun: Mutex<Vec<String>>,
    /// Said to every edge that is connected.
    pub(crate) says: broadcast::Sender<ToEdge>,
    running: Mutex<Option<AbortHandle>>,
}

impl Tracker {
    pub(crate) async fn start(
        tasks: &mut JoinSet<()>,
        origin: String,
        root: millstream_model::PublicKey,
    ) -> Arc<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let tracker = Arc::new(Self {
            key: SecretKey::from_seed(&[42; 32]),
            address: listener.local_addr().expect("bound"),
            origin,
            root,
            seen: watch::Sender::default(),
            refused: Mutex::default(),
            holds: AtomicBool::new(false),
            stun: Mutex::default(),
            says: broadcast::Sender::new(16),
            running: Mutex::new(None),
        });
        tracker.serve(tasks, listener);
        tracker
    }

    /// Ends it, connections and all: nobody listens at its address.
    pub(crate) fn kill(&self) {
        self.running.lock().expect("sound").take().expect("running").abort();
    }

    /// The same tracker at the same address again.
    pub(crate) async fn revive(self: &Arc<Self>, tasks: &mut JoinSet<()>) {
        let listener = TcpListener::bind(self.address).await.expect("its port");
        self.serve(tasks, listener);
    }

    fn serve(self: &Arc<Self>, tasks: &mut JoinSet<()>, listener: TcpListener) {
        let tracker = Arc::clone(self);
        let running = tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let tracker = Arc::clone(&tracker);
                connections.spawn(async move {
                    let _ = tracker.talk(stream).await;
                });
            }
        });
        *self.running.lock().expect("sound") = Some(running);
    }

    async fn talk(&self, stream: TcpStream) -> Option<()> {
        #[expect(clippy::result_large_err, reason = "the library's callback")]
        let path = |request: &server::Request, response| {
            assert_eq!(request.uri().path(), "/v1/edge");
            Ok(response)
        };
        let mut socket = tokio_tungstenite::accept_hdr_async(stream, path).await.ok()?;
        let nonce = SessionId([7; 16]);
        let challenge = Challenge { nonce, tracker: self.key.public(), time: wall() };
        let say = |message: &ToEdge| Message::text(serde_json::to_string(message).expect("sound"));
        socket.send(say(&ToEdge::Challenge(challenge))).await.ok()?;
        let mut held = None;
        let mut says = self.says.subscribe();
        loop {
            let message = tokio::select! {
                message = socket.next() => message?.ok()?,
                Ok(said) = says.recv() => {
                    socket.send(say(&said)).await.ok()?;
                    continue;
                }
            };
            let Message::Text(text) = message else { continue };
            let answer = match serde_json::from_str(&text).expect("of the protocol") {
                FromEdge::Register { proof, address, .. } => {
                    let edge = proof.unverified().edge;
                    let said = proof.verify(&edge, Context::None).expect("signed by the edge");
                    assert_eq!((said.tracker, said.nonce), (self.key.public(), nonce.0));
                    assert_eq!(said.fingerprint, address.fingerprint);
                    self.seen.send_modify(|seen| {
                        seen.registered += 1;
                        seen.edge = Some(edge);
                        seen.said.push(address.clone());
                        seen.address = Some(address);
                    });
                    Some(ToEdge::Registered {
                        edge,
                        tracker: self.key.public(),
                        time: wall(),
                        status_ms: 500,
                        stun: self.stun.lock().expect("sound").clone(),
                    })
                }
                FromEdge::Status { warm, .. } => {
                    self.seen.send_modify(|seen| {
                        seen.statuses += 1;
                        seen.warm = warm;
                    });
                    None
                }
                FromEdge::Lookup { stream } => {
                    self.seen.send_modify(|seen| seen.lookups.push(stream.clone()));
                    if self.holds.load(Relaxed) && stream.as_str() == "demo" {
                        held = Some(stream);
                        continue;
                    }
                    let answer = self.look_up(stream);
                    socket.send(say(&answer)).await.ok()?;
                    held.take().map(|stream| self.look_up(stream))
                }
                FromEdge::Voucher { voucher } => {
                    let said = voucher.unverified().clone();
                    let better = |seen: &mut Seen| {
                        seen.voucher_count += 1;
                        let known = seen.vouchers.entry(said.session).or_insert_with(|| voucher.clone());
                        if known.unverified().payable < said.payable {
                            *known = voucher.clone();
                        }
                    };
                    self.seen.send_modify(better);
                    let refused = self.refused.lock().expect("sound").get(&said.session).copied();
                    Some(if let Some(retry) = refused {
                        self.seen.send_modify(|seen| seen.rejected += 1);
                        let reason = "more than was watched".into();
                        ToEdge::Rejected { session: said.session, reason, retry }
                    } else {
                        let receipt = Receipt {
                            session: said.session,
                            edge: said.edge,
                            payable: said.payable,
                            earned: PRICE.of(said.payable),
                            voucher: Hash([0; 32]),
                            at: wall(),
                        };
                        ToEdge::Receipt { receipt: Signed::new(receipt, Context::None, &self.key) }
                    })
                }
                FromEdge::Drain => {
                    self.seen.send_modify(|seen| seen.drained = true);
                    None
                }
                FromEdge::Address { address } => {
                    self.seen.send_modify(|seen| {
                        seen.said.push(address.clone());
                        seen.address = Some(address);
                        seen.moves += 1;
                    });
                    None
                }
                FromEdge::Signal(_) => None,
            };
            if let Some(answer) = answer {
                socket.send(say(&answer)).await.ok()?;
            }
        }
    }

    fn look_up(&self, stream: StreamId) -> ToEdge {
        if stream.as_str() != "demo" {
            let message = format!("there is no stream {stream}");
            return ToEdge::NoStream { stream, code: FaultCode::UnknownStream, message };
        }
        let edge = self.seen.borrow().edge.expect("registered");
        let token =
            Token { stream: stream.clone(), bearer: Bearer::Edge(edge), expires: wall().plus_millis(60_000) };
        ToEdge::Stream {
            stream,
            root: self.root,
            origin: self.origin.clone(),
            token: Signed::new(token, Context::None, &self.key),
        }
    }

    /// Waits until the tracker has seen what is asked for.
    pub(crate) async fn saw(&self, what: &str, mut sees: impl FnMut(&Seen) -> bool) -> Seen {
        let mut seen = self.seen.subscribe();
        let found = tokio::time::timeout(Duration::from_secs(15), seen.wait_for(|seen| sees(seen))).await;
        found.unwrap_or_else(|_| unreachable!("the tracker never saw: {what}")).expect("alive").clone()
    }

    /// A grant for a lane on `edge`.
    pub(crate) fn grant(&self, session: SessionId, key: SessionKey, edge: EdgeId) -> Grant {
        Grant {
            tracker: self.key.public(),
            session,
            key,
            stream: StreamId::new("demo").expect("a slug"),
            edge,
            price: PRICE,
            cap_bytes: 1 << 30,
            serial: 1,
            issued: wall(),
            expires: wall().plus_millis(120_000),
        }
    }

    pub(crate) fn sign(&self, grant: &Grant) -> Signed<Grant> {
        Signed::new(grant.clone(), Context::None, &self.key)
    }
}
