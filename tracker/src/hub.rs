//! Who is here: streams on packagers, edges, viewers' sessions; and what each may do. In memory; the book alone is
//! stored.
//!
//! Links (WebSockets, HTTP) call in, and hear of what others did through their queues. What never belongs here:
//! sockets, JSON, SQL.

mod edges;
mod placing;
mod refusal;
mod sweep;
#[cfg(test)]
mod tests;
mod watching;

use std::{
    hash::RandomState,
    net::IpAddr,
    sync::{Mutex, MutexGuard, PoisonError, atomic::AtomicBool},
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::Context as _;
use dashmap::DashMap;
use millstream_ledger::voucher;
use millstream_model::{BitRate, EdgeId, PublicKey, SessionId, SessionKey, StreamId, TrackerId, WallTime};
use millstream_placement as placement;
use millstream_wire::{
    media::Catalog,
    session::{Bearer, Certificate, Grant, Receipt, Resume, Token, Voucher},
    sign::{Context, SecretKey, Signed, Signer as _},
    tracker::{Challenge, EdgeBytes, EdgeOffer, Fault, FaultCode, Nonce, State, ToViewer, Welcome},
};
use tokio::sync::mpsc;

pub(crate) use self::edges::{Edge, EdgeOfferings};
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

/// Life of a token for the origin, a session's or an edge's: it gets a new one at half of it. So a tracker may be away
/// for the other half.
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

/// A viewer's session.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) stream: StreamId,
    pub(crate) address: IpAddr,
    pub(crate) joined: WallTime,
    pub(crate) edges: Vec<EdgeId>,
    pub(crate) report: ViewerReport,
    /// How its edges fare.
    watch: placement::standing::Watch,
    /// When it was given its token; none where the stream is public.
    token_at: Option<WallTime>,
    /// When edges were last looked for that it lacks.
    tried: WallTime,
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
    /// How many sessions have each edge. Changed under the session's entry alone.
    assigned: DashMap<EdgeId, u32>,
    /// What viewers say of edges.
    standings: DashMap<EdgeId, placement::standing::Standing>,
    /// Edges that may carry streams that are not for everybody; empty: all.
    private_edges: Vec<EdgeId>,
    /// The operator's STUN servers, `host:port`.
    stun: Vec<String>,
    /// Who is told of which edges as STUN servers.
    spread: RandomState,
    /// Sessions that were open before the start and were not looked at since.
    inherited: Mutex<Vec<SessionId>>,
    admission: Mutex<Admission>,
    placement_key: placement::Key,
    began: WallTime,
    /// An edge or money came since sessions were last completed.
    more_came: AtomicBool,
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
        private_edges: Vec<EdgeId>,
        stun: Vec<String>,
        money: Money,
        streams: Streams,
    ) -> anyhow::Result<Self> {
        let mut placement_key = [0; 16];
        getrandom::fill(&mut placement_key).context("no randomness")?;
        Ok(Self {
            key,
            admission: Mutex::new(Admission::new(limits.clone())),
            limits,
            inherited: Mutex::new(money.open_sessions()),
            money,
            streams,
            carried: DashMap::new(),
            edges: DashMap::new(),
            sessions: DashMap::new(),
            assigned: DashMap::new(),
            standings: DashMap::new(),
            private_edges,
            stun,
            spread: RandomState::new(),
            placement_key: placement::Key(placement_key),
            began: now(),
            more_came: AtomicBool::new(false),
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
        self.sessions.insert(session, Session::new(id, address, now, link));
        let edges = self.place(session, &stream, &[]).await;
        // The link does not know the session yet, and would never end it.
        self.welcome(session, certificate, &stream, edges).inspect_err(|_| self.leave(session))
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
                session.link = Some(link.clone());
                session.detached = None;
                session.edges.clone()
            }
            // This tracker was restarted: the certificate and the book are all that is left, and enough.
            None => {
                self.admission()
                    .resume(address, now())
                    .map_err(|refused| fault(FaultCode::RateLimited, refused))?;
                let session = Session::new(&claim.stream, address, claim.issued, link.clone());
                self.sessions.insert(claim.session, session);
                self.money.lanes(claim.session)
            }
        };
        let offers = self.keep(claim.session, &stream, edges).await;
        // The link does not know the session yet: it is as if the viewer had gone again.
        self.welcome(claim.session, certificate, &stream, offers)
            .inspect_err(|_| self.detach(claim.session, &link))
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
        let now = now();
        let token = (!stream.public).then(|| {
            if let Some(mut session) = self.sessions.get_mut(&session) {
                session.token_at = Some(now);
            }
            self.token(&stream.id, Bearer::Session(session), now.plus_millis(TOKEN_MS))
        });
        Ok(Welcome {
            session,
            certificate,
            stream: stream.id.clone(),
            root: stream.root,
            origin,
            token,
            edges,
            time: now,
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
            plain.token = Some(self.token(id, Bearer::Session(session), now.plus_millis(PLAIN_TOKEN_MS)));
        }
        Ok(plain)
    }

    /// A renewed grant, and a token where the present one is half through its life.
    pub(crate) async fn renew(
        &self,
        session: SessionId,
        edge: EdgeId,
    ) -> Result<(Signed<Grant>, Option<Signed<Token>>), Fault> {
        let stream = self.sessions.get(&session).map(|session| session.stream.clone());
        let stream = stream.ok_or_else(|| fault(FaultCode::BadProof, "the session is over"))?;
        let renewed = self.money.renew(session, edge, self.rate(&stream)).await;
        let grant = renewed.map_err(|refused| fault(refusal::code(&refused), refused))?;
        Ok((grant, self.next_token(session, now())))
    }

    /// Another token for a session whose present one is half through its life.
    fn next_token(&self, id: SessionId, now: WallTime) -> Option<Signed<Token>> {
        let mut session = self.sessions.get_mut(&id)?;
        if now.millis_since(session.token_at?) < TOKEN_MS / 2 {
            return None;
        }
        session.token_at = Some(now);
        Some(self.token(&session.stream, Bearer::Session(id), now.plus_millis(TOKEN_MS)))
    }

    /// Ends a session.
    pub(crate) fn leave(&self, session: SessionId) {
        if let Some((_, gone)) = self.sessions.remove(&session) {
            self.count(&[], &gone.edges);
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

    // --- packagers -------------------------------------------------------------------------------------------

    /// The origin of a stream that somebody publishes.
    pub(crate) fn origin(&self, stream: &StreamId) -> Option<String> {
        let carried = self.carried.get(stream)?;
        let here = now().millis_since(carried.heard) < REPORT_SILENT_MS;
        (here && carried.state != State::Ended).then(|| carried.origin.clone())
    }

    fn token(&self, stream: &StreamId, bearer: Bearer, expires: WallTime) -> Signed<Token> {
        Signed::new(Token { stream: stream.clone(), bearer, expires }, Context::None, &self.key)
    }

    fn inherited(&self) -> MutexGuard<'_, Vec<SessionId>> {
        self.inherited.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn admission(&self) -> MutexGuard<'_, Admission> {
        self.admission.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Session {
    fn new(stream: &StreamId, address: IpAddr, joined: WallTime, link: mpsc::Sender<ToViewer>) -> Self {
        Self {
            stream: stream.clone(),
            address,
            joined,
            edges: Vec::new(),
            report: ViewerReport::default(),
            watch: placement::standing::Watch::default(),
            token_at: None,
            tried: WallTime(0),
            link: Some(link),
            detached: None,
        }
    }
}
