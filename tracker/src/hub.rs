//! Who is here: streams on packagers, edges, viewers' sessions; and what each may do. In memory; the book alone is
//! stored.
//!
//! Links (WebSockets, HTTP) call in, and hear of what others did through their queues. What never belongs here:
//! sockets, JSON, SQL.

mod placing;
mod refusal;

use std::{
    net::IpAddr,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::Context as _;
use dashmap::DashMap;
use millstream_ledger::{Name, voucher};
use millstream_model::{BitRate, EdgeId, PublicKey, SessionId, SessionKey, StreamId, TrackerId, WallTime};
use millstream_placement as placement;
use millstream_wire::{
    media::Catalog,
    session::{Bearer, Certificate, Grant, Receipt, Registration, Resume, Token, Voucher},
    sign::{Context, SecretKey, Signed, Signer as _},
    tracker::{
        Challenge, EdgeAddress, EdgeBytes, EdgeOffer, Fault, FaultCode, Nonce, SOCKETS_MAX, State, ToEdge,
        ToViewer, Welcome,
    },
};
use tokio::sync::mpsc;

use crate::{
    admission::Admission,
    config,
    money::Money,
    streams::{Stream, Streams},
    ticket,
};

/// Messages waiting for one link at most; one that takes none is cut off by its socket's own limits.
pub(crate) const QUEUE_MAX: usize = 64;

/// Life of a session's certificate: a long evening.
const CERTIFICATE_MS: u64 = 12 * 3_600_000;

/// Life of a token for the origin; edges get a new one at half of it.
const TOKEN_MS: u64 = 3_600_000;

/// Life of a token without a session: nobody brings another, so as long as a session may last. It opens one stream by
/// HTTP, no feed, and its bytes are counted.
const PLAIN_TOKEN_MS: u64 = CERTIFICATE_MS;

/// Milliseconds a session lives without its WebSocket: as long as edges honour grants while the tracker is away.
const RESUME_MS: u64 = 15 * 60_000;

/// Milliseconds without a packager's report after which its streams count as gone.
const REPORT_SILENT_MS: u64 = 10_000;

/// Milliseconds between reports and statuses that we ask for.
pub(crate) const REPORT_MS: u32 = 5_000;

/// Rate assumed for a stream of which no catalog is known yet.
const RATE_UNKNOWN: BitRate = BitRate(3_000_000);

/// A publisher's stream on a packager.
#[derive(Debug, Clone)]
pub(crate) struct Carried {
    pub(crate) origin: String,
    pub(crate) state: State,
    pub(crate) catalog: Option<Signed<Catalog>>,
    pub(crate) since: WallTime,
    pub(crate) heard: WallTime,
}

/// A registered edge.
#[derive(Debug)]
pub(crate) struct Edge {
    pub(crate) address: EdgeAddress,
    pub(crate) operator: Name,
    pub(crate) capacity: BitRate,
    pub(crate) viewers_max: u32,
    pub(crate) viewers: u32,
    pub(crate) sending: BitRate,
    pub(crate) warm: Vec<StreamId>,
    pub(crate) draining: bool,
    pub(crate) since: WallTime,
    pub(crate) version: String,
    link: mpsc::Sender<ToEdge>,
}

/// A viewer's session.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) stream: StreamId,
    pub(crate) address: IpAddr,
    pub(crate) joined: WallTime,
    pub(crate) edges: Vec<EdgeId>,
    pub(crate) report: ViewerReport,
    link: Option<mpsc::Sender<ToViewer>>,
    detached: Option<WallTime>,
}

/// What a viewer last said of itself.
#[derive(Debug, Clone, Default, serde::Serialize)]
pub(crate) struct ViewerReport {
    pub(crate) buffer_ms: u32,
    pub(crate) latency_ms: u32,
    pub(crate) stalls: u32,
    pub(crate) stalled_ms: u32,
    pub(crate) origin_bytes: u64,
    pub(crate) edges: Vec<EdgeBytes>,
}

/// What an edge offers when it registers.
#[derive(Debug)]
pub(crate) struct EdgeOfferings {
    pub(crate) address: EdgeAddress,
    pub(crate) capacity: BitRate,
    pub(crate) viewers_max: u32,
    pub(crate) version: String,
}

/// What a page needs that plays without a session.
#[derive(Debug, serde::Serialize)]
pub(crate) struct Plain {
    pub(crate) origin: String,
    pub(crate) root: PublicKey,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) token: Option<Signed<Token>>,
}

/// Everybody who is here.
pub(crate) struct Hub {
    key: SecretKey,
    limits: config::Admission,
    pub(crate) money: Money,
    pub(crate) streams: Streams,
    pub(crate) carried: DashMap<StreamId, Carried>,
    pub(crate) edges: DashMap<EdgeId, Edge>,
    pub(crate) sessions: DashMap<SessionId, Session>,
    admission: Mutex<Admission>,
    placement_key: placement::Key,
    began: WallTime,
    /// An edge came since sessions were last completed.
    edge_came: AtomicBool,
    /// The edges of before the start had their time to come back.
    gathered: AtomicBool,
}

/// The wall's clock: tracker time.
pub(crate) fn now() -> WallTime {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    WallTime(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// A refusal.
pub(crate) fn fault(code: FaultCode, message: impl std::fmt::Display) -> Fault {
    Fault { code, message: message.to_string() }
}

fn random<const N: usize>() -> Result<[u8; N], Fault> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|error| fault(FaultCode::Unavailable, error))?;
    Ok(bytes)
}

impl Hub {
    pub(crate) fn new(
        key: SecretKey,
        limits: config::Admission,
        money: Money,
        streams: Streams,
    ) -> anyhow::Result<Self> {
        let mut placement_key = [0; 16];
        getrandom::fill(&mut placement_key).context("no randomness")?;
        Ok(Self {
            key,
            admission: Mutex::new(Admission::new(limits.clone())),
            limits,
            money,
            streams,
            carried: DashMap::new(),
            edges: DashMap::new(),
            sessions: DashMap::new(),
            placement_key: placement::Key(placement_key),
            began: now(),
            edge_came: AtomicBool::new(false),
            gathered: AtomicBool::new(false),
        })
    }

    pub(crate) fn id(&self) -> TrackerId {
        self.key.public()
    }

    /// What is said first on every connection.
    pub(crate) fn challenge(&self) -> Result<Challenge, Fault> {
        Ok(Challenge { nonce: SessionId(random()?), tracker: self.id(), time: now() })
    }

    // --- viewers ---------------------------------------------------------------------------------------------

    /// Begins a session.
    pub(crate) async fn join(
        &self,
        id: &StreamId,
        key: SessionKey,
        ticket: Option<&str>,
        address: IpAddr,
        link: mpsc::Sender<ToViewer>,
    ) -> Result<Welcome, Fault> {
        let now = now();
        let stream = self
            .streams
            .get(id)
            .ok_or_else(|| fault(FaultCode::UnknownStream, format_args!("there is no stream {id}")))?;
        self.origin(id)
            .ok_or_else(|| fault(FaultCode::NotLive, format_args!("nobody publishes {id} at the moment")))?;
        if self.sessions.len() >= usize::try_from(self.limits.sessions_max).unwrap_or(usize::MAX) {
            return Err(fault(FaultCode::RateLimited, "this tracker is full; try again in a minute"));
        }
        // Before the ticket: who is refused for its address may come again with the same one.
        self.admission().join(address, now).map_err(|refused| fault(FaultCode::RateLimited, refused))?;
        if let Err(refused) = self.check_ticket(&stream, Some(key), ticket, now).await {
            self.admission().leave(address);
            return Err(refused);
        }
        let session = SessionId(random()?);
        let expires = now.plus_millis(CERTIFICATE_MS);
        let certificate = Certificate { session, stream: id.clone(), key, issued: now, expires };
        let certificate = Signed::new(certificate, Context::None, &self.key);
        let opening = millstream_ledger::session::Opening { session, key, stream: id.clone(), expires };
        if let Err(refused) = self.money.open_session(opening) {
            self.admission().leave(address);
            return Err(fault(FaultCode::Unavailable, refused));
        }
        self.sessions.insert(
            session,
            Session {
                stream: id.clone(),
                address,
                joined: now,
                edges: Vec::new(),
                report: ViewerReport::default(),
                link: Some(link),
                detached: None,
            },
        );
        let edges = self.place(session, &stream, &[]).await;
        self.welcome(session, certificate, &stream, edges)
    }

    /// Goes on with a session whose connection was lost.
    pub(crate) async fn resume(
        &self,
        certificate: Signed<Certificate>,
        proof: &Signed<Resume>,
        nonce: Nonce,
        address: IpAddr,
        link: mpsc::Sender<ToViewer>,
    ) -> Result<Welcome, Fault> {
        let bad = |why: &dyn std::fmt::Display| fault(FaultCode::BadProof, why);
        let claim = certificate.verify(&self.id(), Context::None).map_err(|error| bad(&error))?.clone();
        let proven = proof.verify(&claim.key, Context::None).map_err(|error| bad(&error))?;
        let expected = Resume { tracker: self.id(), nonce: nonce.0, session: claim.session };
        if *proven != expected {
            return Err(bad(&"the proof is for another connection"));
        }
        if claim.expires <= now() {
            return Err(bad(&"the certificate expired; join again"));
        }
        if !self.money.is_open(claim.session) {
            return Err(bad(&"the session is over; join again"));
        }
        let stream = self.streams.get(&claim.stream).ok_or_else(|| {
            fault(FaultCode::UnknownStream, format_args!("there is no stream {}", claim.stream))
        })?;
        self.origin(&stream.id)
            .ok_or_else(|| fault(FaultCode::NotLive, format_args!("{} is not live yet", stream.id)))?;
        let edges = match self.sessions.get_mut(&claim.session) {
            Some(mut session) => {
                session.link = Some(link);
                session.detached = None;
                session.edges.clone()
            }
            // This tracker was restarted: the certificate and the book are all that is left, and enough.
            None => {
                self.admission()
                    .resume(address, now())
                    .map_err(|refused| fault(FaultCode::RateLimited, refused))?;
                let session = Session {
                    stream: claim.stream.clone(),
                    address,
                    joined: claim.issued,
                    edges: Vec::new(),
                    report: ViewerReport::default(),
                    link: Some(link),
                    detached: None,
                };
                self.sessions.insert(claim.session, session);
                self.money.lanes(claim.session)
            }
        };
        let offers = self.keep(claim.session, &stream, edges).await;
        self.welcome(claim.session, certificate, &stream, offers)
    }

    fn welcome(
        &self,
        session: SessionId,
        certificate: Signed<Certificate>,
        stream: &Stream,
        edges: Vec<EdgeOffer>,
    ) -> Result<Welcome, Fault> {
        let origin = self
            .origin(&stream.id)
            .ok_or_else(|| fault(FaultCode::NotLive, format_args!("{} is not live any more", stream.id)))?;
        let token = (!stream.public).then(|| self.token(&stream.id, Bearer::Session(session), TOKEN_MS));
        Ok(Welcome {
            session,
            certificate,
            stream: stream.id.clone(),
            root: stream.root,
            origin,
            token,
            edges,
            time: now(),
            report_ms: REPORT_MS,
        })
    }

    async fn check_ticket(
        &self,
        stream: &Stream,
        key: Option<SessionKey>,
        ticket: Option<&str>,
        now: WallTime,
    ) -> Result<(), Fault> {
        let Some(signer) = stream.ticket_key else { return Ok(()) };
        let bad = |why: &dyn std::fmt::Display| fault(FaultCode::BadTicket, why);
        let claims = ticket::check(ticket, signer, &stream.id, key, now).map_err(|refused| bad(&refused))?;
        let fresh = self.streams.spend_ticket(&stream.id, &claims, now).await;
        match fresh.map_err(|error| fault(FaultCode::Unavailable, error))? {
            true => Ok(()),
            false => Err(bad(&"the ticket was used already")),
        }
    }

    /// What a page needs that plays without a session: the origin, the root key and, where the stream is not public,
    /// a token. That token is had on the terms of a session: with a ticket where tickets are asked for, and counted as
    /// a join of its address.
    pub(crate) async fn plain(
        &self,
        id: &StreamId,
        ticket: Option<&str>,
        address: IpAddr,
    ) -> Result<Plain, Fault> {
        let stream = self
            .streams
            .get(id)
            .ok_or_else(|| fault(FaultCode::UnknownStream, format_args!("there is no stream {id}")))?;
        let origin = self
            .origin(id)
            .ok_or_else(|| fault(FaultCode::NotLive, format_args!("nobody publishes {id} at the moment")))?;
        let mut plain = Plain { origin, root: stream.root, token: None };
        if !stream.public {
            let now = now();
            self.admission().pass(address, now).map_err(|refused| fault(FaultCode::RateLimited, refused))?;
            self.check_ticket(&stream, None, ticket, now).await?;
            let session = SessionId(random()?);
            plain.token = Some(self.token(id, Bearer::Session(session), PLAIN_TOKEN_MS));
        }
        Ok(plain)
    }

    /// A renewed grant.
    pub(crate) async fn renew(&self, session: SessionId, edge: EdgeId) -> Result<Signed<Grant>, Fault> {
        let stream = self.sessions.get(&session).map(|session| session.stream.clone());
        let stream = stream.ok_or_else(|| fault(FaultCode::BadProof, "the session is over"))?;
        let renewed = self.money.renew(session, edge, self.rate(&stream)).await;
        renewed.map_err(|refused| fault(refusal::code(&refused), refused))
    }

    /// Notes how a viewer fares.
    pub(crate) fn report(&self, session: SessionId, report: ViewerReport) {
        if let Some(mut session) = self.sessions.get_mut(&session) {
            session.report = report;
        }
    }

    /// Ends a session.
    pub(crate) fn leave(&self, session: SessionId) {
        if let Some((_, gone)) = self.sessions.remove(&session) {
            self.admission().leave(gone.address);
            self.money.close_session(session);
        }
    }

    /// A viewer's connection is gone; it may come back.
    pub(crate) fn detach(&self, session: SessionId, link: &mpsc::Sender<ToViewer>) {
        if let Some(mut session) = self.sessions.get_mut(&session)
            && session.link.as_ref().is_some_and(|current| current.same_channel(link))
        {
            session.link = None;
            session.detached = Some(now());
        }
    }

    /// Books a voucher; the receipt comes after the book is on disk.
    pub(crate) async fn voucher(
        &self,
        bringer: voucher::Bringer,
        voucher: Signed<Voucher>,
    ) -> Result<Signed<Receipt>, voucher::Refused> {
        self.money.voucher(voucher, bringer).await
    }

    // --- edges -----------------------------------------------------------------------------------------------

    /// Takes an edge in.
    pub(crate) fn register(
        &self,
        proof: &Signed<Registration>,
        nonce: Nonce,
        offerings: EdgeOfferings,
        link: mpsc::Sender<ToEdge>,
    ) -> Result<EdgeId, Fault> {
        let edge = proof.unverified().edge;
        let expected = Registration {
            tracker: self.id(),
            nonce: nonce.0,
            edge,
            fingerprint: offerings.address.fingerprint,
        };
        let proven = proof
            .verify(&edge, Context::None)
            .map_err(|error| fault(FaultCode::BadProof, format_args!("the proof does not hold: {error}")))?;
        if *proven != expected {
            return Err(fault(FaultCode::BadProof, "the proof is for another connection or certificate"));
        }
        let sockets = offerings.address.sockets.len();
        if sockets == 0 || sockets > SOCKETS_MAX {
            return Err(fault(
                FaultCode::BadRequest,
                format_args!("an edge has 1 to {SOCKETS_MAX} addresses"),
            ));
        }
        let sound = |text: &str, chars: std::ops::RangeInclusive<usize>| {
            chars.contains(&text.len())
                && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'+' || b == b'/')
        };
        if !sound(&offerings.address.ufrag, 4..=32) || !sound(&offerings.address.password, 22..=64) {
            return Err(fault(FaultCode::BadRequest, "ufrag has 4 to 32, password 22 to 64 ICE characters"));
        }
        let edges_max = usize::try_from(self.limits.edges_max).unwrap_or(usize::MAX);
        if !self.edges.contains_key(&edge) && self.edges.len() >= edges_max {
            return Err(fault(FaultCode::RateLimited, "this tracker has all the edges it can take"));
        }
        self.edges.insert(
            edge,
            Edge {
                address: offerings.address,
                operator: operator_of(edge),
                capacity: offerings.capacity,
                viewers_max: offerings.viewers_max,
                viewers: 0,
                sending: BitRate(0),
                warm: Vec::new(),
                draining: false,
                since: now(),
                version: offerings.version.chars().take(64).collect(),
                link,
            },
        );
        self.edge_came.store(true, Relaxed);
        Ok(edge)
    }

    /// Notes how an edge fares.
    pub(crate) fn status(&self, edge: EdgeId, viewers: u32, sending: BitRate, mut warm: Vec<StreamId>) {
        if let Some(mut edge) = self.edges.get_mut(&edge) {
            warm.truncate(1_000);
            (edge.viewers, edge.sending, edge.warm) = (viewers, sending, warm);
        }
    }

    /// Where a stream comes from, for an edge.
    pub(crate) fn lookup(&self, edge: EdgeId, id: &StreamId) -> Result<ToEdge, Fault> {
        let stream = self
            .streams
            .get(id)
            .ok_or_else(|| fault(FaultCode::UnknownStream, format_args!("there is no stream {id}")))?;
        let origin = self
            .origin(id)
            .ok_or_else(|| fault(FaultCode::NotLive, format_args!("nobody publishes {id} at the moment")))?;
        let token = self.token(id, Bearer::Edge(edge), TOKEN_MS);
        Ok(ToEdge::Stream { stream: id.clone(), root: stream.root, origin, token })
    }

    /// An edge will stop: no new viewers, and the present ones move.
    pub(crate) async fn drain(&self, edge: EdgeId) {
        if let Some(mut edge) = self.edges.get_mut(&edge) {
            edge.draining = true;
        }
        self.replace(edge, "the edge is shutting down").await;
    }

    /// An edge's connection is gone. True when it was this connection that counted.
    pub(crate) fn unregister(&self, edge: EdgeId, link: &mpsc::Sender<ToEdge>) -> bool {
        self.edges.remove_if(&edge, |_, current| current.link.same_channel(link)).is_some()
    }

    // --- packagers -------------------------------------------------------------------------------------------

    /// The origin of a stream that somebody publishes.
    pub(crate) fn origin(&self, stream: &StreamId) -> Option<String> {
        let carried = self.carried.get(stream)?;
        let here = now().millis_since(carried.heard) < REPORT_SILENT_MS;
        (here && carried.state != State::Ended).then(|| carried.origin.clone())
    }

    fn token(&self, stream: &StreamId, bearer: Bearer, life_ms: u64) -> Signed<Token> {
        let token = Token { stream: stream.clone(), bearer, expires: now().plus_millis(life_ms) };
        Signed::new(token, Context::None, &self.key)
    }

    // --- time ------------------------------------------------------------------------------------------------

    /// Ends sessions that did not come back, and completes those that could have more edges. To be called every few
    /// seconds.
    pub(crate) async fn sweep(&self) {
        let now = now();
        let gone: Vec<SessionId> = self
            .sessions
            .iter()
            .filter(|session| session.detached.is_some_and(|at| now.millis_since(at) >= RESUME_MS))
            .map(|session| *session.key())
            .collect();
        for session in gone {
            self.leave(session);
        }
        self.carried.retain(|_, carried| now.millis_since(carried.heard) < RESUME_MS);
        self.complete().await;
    }

    fn admission(&self) -> MutexGuard<'_, Admission> {
        self.admission.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Every edge is its own operator until operators have accounts that name their edges. A key's text form is a name.
fn operator_of(edge: EdgeId) -> Name {
    Name::new(&edge.to_string()).unwrap_or_else(|_| unreachable!("base64url is made of a name's characters"))
}
